//! Gradients on their way into tensors: shape and type, sums, and the end at a leaf.

use super::arena::NodeRef;
use super::context::Context;
use super::explain::{self, Story};
use super::mode::is_tracking;
use super::node::{ACCUMULATOR_SEQ, Gradients, Node, Op, OutputMeta, State};
use super::record::recording;
use super::site::Site;
use crate::layout::Layout;
use crate::lock::Lock;
use crate::ops::{self, pointwise::is_dense};
use crate::storage::Storage;
use crate::tensor::Tensor;
use crate::{Error, Kind, Result, bail};
use smallvec::{SmallVec, smallvec};

/// Sums and converts a gradient to what the input looks like.
pub(super) fn conform(
    gradient: Tensor,
    meta: &OutputMeta,
    node: &Node,
    index: usize,
) -> Result<Tensor> {
    let mut gradient = gradient;
    if !meta.has_shape(gradient.shape()) {
        let shape = meta.shape();
        if !ops::reduce::is_expandable(&shape, gradient.shape()) {
            let name = node.name();
            return Err(Story::new(format!(
                "Function {name} returned an invalid gradient at index {index} - got {:?} but \
                 expected shape compatible with {:?}",
                gradient.shape(),
                &shape[..]
            ))
            .at(&format!("{} ran", explain::operation(name)), node.site())
            .error(Kind::Grad));
        }
        gradient = ops::reduce::sum_to_size(&gradient, &shape)?;
    }
    if gradient.dtype() != meta.dtype() {
        gradient = ops::cast::to_dtype(&gradient, meta.dtype())?;
    }
    Ok(gradient)
}

pub(super) fn checked_hook_result(replaced: Tensor, meta: &OutputMeta) -> Result<Tensor> {
    if !meta.has_shape(replaced.shape()) {
        bail!(
            Grad,
            "",
            "hook has changed the size of value: it got a gradient of shape {:?} and returned {:?}",
            &meta.shape()[..],
            replaced.shape()
        );
    }
    if replaced.dtype() != meta.dtype() {
        bail!(
            Grad,
            "",
            "hook has changed the type of value: it got {} and returned {}",
            meta.dtype(),
            replaced.dtype()
        );
    }
    Ok(replaced)
}

/// Adds to a gradient, in place where nobody else can see it.
pub(super) fn add_up(sum: Tensor, gradient: &Tensor) -> Result<Tensor> {
    let batched = sum.is_batched() || gradient.is_batched();
    if !batched && !is_tracking() && sum.is_unique() && sum.is_contiguous() {
        ops::add_assign(&sum, gradient)?;
        return Ok(sum);
    }
    ops::add(&sum, gradient)
}

/// A gradient that a hook may write to: in memory of its own, unless the pass is recorded, where
/// writes are operations and are checked as such.
pub(super) fn private(gradient: Tensor) -> Result<Tensor> {
    if is_tracking() { Ok(gradient) } else { own(gradient) }
}

/// A gradient that may be written to in later passes: this one if nobody shares it, else a copy.
pub(super) fn own(gradient: Tensor) -> Result<Tensor> {
    if gradient.is_batched() {
        return ops::cast::clone(&gradient);
    }
    if gradient.is_unique() && gradient.is_contiguous() {
        return Ok(gradient);
    }
    let copy = Tensor::uninitialised("grad", gradient.shape(), gradient.dtype())?;
    copy.copy_raw(&gradient);
    Ok(copy)
}

/// The gradient that becomes the first of a leaf, laid out as that asks for: this one if nobody
/// shares it, else a copy, which is recorded if the pass is.
pub(super) fn taken_over(gradient: Tensor, leaf: &Tensor) -> Result<Tensor> {
    let like_leaf = !leaf.is_contiguous() && is_dense(leaf.layout());
    let fits = match like_leaf {
        true => same_strides(gradient.layout(), leaf.layout()),
        false => gradient.is_contiguous(),
    };
    if fits && gradient.is_unique() {
        return Ok(gradient);
    }
    let layout = match like_leaf {
        true => Layout::strided(leaf.shape(), leaf.layout().strides(), 0),
        false => leaf.layout().to_row_major(),
    };
    let bytes = layout.numel() * gradient.dtype().size();
    if recording(&[&gradient]) {
        return ops::cast::clone_into(&gradient, &layout, bytes);
    }
    let copy = Tensor::from_parts(Storage::uninitialised(bytes)?, layout, gradient.dtype());
    copy.copy_raw(&gradient);
    Ok(copy)
}

fn same_strides(a: &Layout, b: &Layout) -> bool {
    let mut axes = a.shape().iter().zip(a.strides().iter().zip(b.strides()));
    axes.all(|(&n, (s, t))| n <= 1 || s == t)
}

/// The end of the line for a leaf: what arrives here goes into its `.grad`.
pub(crate) struct AccumulateGrad(Tensor);

impl AccumulateGrad {
    pub(crate) fn node(leaf: &Tensor) -> Result<NodeRef> {
        NodeRef::new(Node {
            seq: ACCUMULATOR_SEQ,
            op: Box::new(AccumulateGrad(leaf.clone())),
            edges: SmallVec::new(),
            outputs: smallvec![OutputMeta::of(leaf)],
            state: Lock::new(State::new(SmallVec::new(), Site::UNKNOWN)),
        })
    }
}

impl Op for AccumulateGrad {
    fn name(&self) -> &'static str {
        "AccumulateGrad"
    }

    /// The scheduler handles accumulators itself; a direct call has no graph to act on.
    fn backward(&self, _: &Context, _: &[Option<Tensor>]) -> Result<Gradients> {
        Err(Error::plain(Kind::Grad, explain::FREED))
    }

    fn leaf(&self) -> Option<&Tensor> {
        Some(&self.0)
    }
}
