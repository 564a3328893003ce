//! How a rule is called: errors that unwind are caught, whoever records what runs is told, and other
//! threads may use the embedding language while a long one computes.

use crate::graph::accumulate::conform;
use crate::graph::arena::NodeRef;
use crate::graph::context::Context;
use crate::graph::masked;
use crate::graph::node::{Edge, Gradients, Node, OutputMeta};
use crate::profile;
use crate::tensor::Tensor;
use crate::{Error, Result};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::OnceLock;

/// Runs a function while other threads may use the embedding language.
pub type Unlocked = fn(&mut (dyn FnMut() + Send));

static UNLOCKED: OnceLock<Unlocked> = OnceLock::new();

/// Installs how to run long rules while the embedding language goes on; the first one wins.
pub fn set_unlocked(unlocked: Unlocked) {
    let _ = UNLOCKED.set(unlocked);
}

pub(super) fn unlocked<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let Some(unlocked) = UNLOCKED.get() else { return work() };
    let (mut work, mut result) = (Some(work), None);
    unlocked(&mut || result = work.take().map(|work| work()));
    result.expect("an embedding runs what it is given, once")
}

/// Elements from which a rule is worth that.
pub(super) const LONG: usize = 1 << 18;

/// Does something between rules, which may have more to sum than they had: as rules run, if it is long.
pub(super) fn freely<T: Send>(
    elements: usize,
    work: impl FnOnce() -> Result<T> + Send,
) -> Result<T> {
    if elements >= LONG { unlocked(|| caught(work)) } else { work() }
}

/// [`conform`]: a sum may be much longer than the rule that left it to us.
pub(super) fn conformed(
    gradient: Tensor,
    meta: &OutputMeta,
    node: &NodeRef,
    index: usize,
) -> Result<Tensor> {
    if gradient.dtype() == meta.dtype() && meta.has_shape(gradient.shape()) {
        return Ok(gradient);
    }
    freely(gradient.numel(), || conform(gradient, meta, node, index))
}

/// What the gradient along an edge must look like.
pub(in crate::graph) fn meta_of(edge: &Edge) -> &OutputMeta {
    &edge.node.outputs()[edge.output as usize]
}

/// Calls a rule. Tensor algebra in rules reports errors by unwinding, see `ops::algebra`.
pub(in crate::graph) fn apply(
    node: &Node,
    context: &Context,
    gradients: &[Option<Tensor>],
    masked: bool,
) -> Result<Gradients> {
    let _span = turn(node, gradients, "");
    caught(|| match masked {
        false => node.op.backward(context, gradients),
        true => masked::backward(&*node.op, context, gradients),
    })
}

/// Runs tensor algebra and catches the errors that it unwinds with.
pub(in crate::graph) fn caught<R>(algebra: impl FnOnce() -> Result<R>) -> Result<R> {
    match catch_unwind(AssertUnwindSafe(algebra)) {
        Ok(result) => result,
        Err(payload) => match payload.downcast::<Error>() {
            Ok(error) => Err(*error),
            Err(other) => resume_unwind(other),
        },
    }
}

/// A node's turn, for those who record what runs.
#[inline]
pub(super) fn turn(
    node: &Node,
    gradients: &[Option<Tensor>],
    prefix: &str,
) -> Option<Box<profile::Span>> {
    let name = || match node.op.leaf() {
        Some(_) => format!("{prefix}torch::autograd::{}", node.name()).into(),
        None => format!("{prefix}{}", node.name()).into(),
    };
    profile::span(profile::Category::Backward, name, |event, options| {
        event.sequence = node.op.leaf().is_none().then_some(node.seq);
        if options.shapes {
            event.shapes = gradients.iter().flatten().map(|g| g.shape().to_vec()).collect();
        }
        if options.sites {
            event.sites.push(node.site());
        }
    })
}
