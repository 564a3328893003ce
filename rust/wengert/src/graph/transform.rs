//! What function transforms (`func.grad` and its kin) need of the graph: inputs of their own, and
//! results that do not show them.
//!
//! A transform differentiates with respect to *fresh aliases* of its inputs. Whatever else the function
//! uses, the inputs themselves included, is a constant to it, so nested transforms cannot mistake each
//! other's variables: no levels are needed. An alias of a tensor with history is a recorded view, which
//! keeps outer transforms connected; any other is a leaf that nobody outside knows. A result that leads
//! to no leaf but those was not differentiable for the caller, and loses its history ([`cut`]).

use super::arena::NodeRef;
use super::mode::{GradMode, is_grad_enabled};
use super::{Backward, Edge};
use crate::batch;
use crate::ops::{cast, view};
use crate::tensor::Tensor;
use crate::{Result, bail};
use std::cell::Cell;
use std::collections::HashSet;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

thread_local! {
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

/// How many transforms run in all threads together.
static RUNNING: AtomicUsize = AtomicUsize::new(0);

/// What new tensors are stamped with: [`RUNNING`], or [`LATEST`] if it is more.
static BIRTH: AtomicU8 = AtomicU8::new(0);

/// The largest stamp.
const LATEST: u8 = 31;

/// Marks the body of a transform.
pub fn enter() {
    DEPTH.set(DEPTH.get() + 1);
    let running = RUNNING.fetch_add(1, Ordering::Relaxed) + 1;
    BIRTH.store(running.min(LATEST as usize) as u8, Ordering::Relaxed);
}

/// Ends what [`enter`] began.
pub fn exit() {
    let depth = DEPTH.get();
    if depth > 0 {
        DEPTH.set(depth - 1);
        let running = RUNNING.fetch_sub(1, Ordering::Relaxed) - 1;
        BIRTH.store(running.min(LATEST as usize) as u8, Ordering::Relaxed);
    }
}

/// How many transforms run on this thread.
pub(super) fn depth() -> usize {
    DEPTH.get()
}

/// Says how many transforms this thread works for.
pub(super) fn set_depth(depth: usize) {
    DEPTH.set(depth);
}

/// The stamp of a tensor made now.
#[inline]
pub(crate) fn birth() -> u8 {
    BIRTH.load(Ordering::Relaxed)
}

/// Refuses to write to a tensor that the running transform found and did not make: what is written
/// would depend on variables that nobody outside may see.
///
/// A stamp counts the transforms of all threads, so that one made inside a transform is never below
/// the number of those of its thread.
pub(crate) fn check_own(target: &Tensor, op: &str) -> Result<()> {
    if RUNNING.load(Ordering::Relaxed) == 0 {
        return Ok(());
    }
    let depth = DEPTH.get().min(LATEST as usize) as u8;
    if target.birth() < depth {
        bail!(
            Grad,
            "",
            "During a grad (vjp, jvp, grad, etc) transform, the function provided attempted to call \
             in-place operation (aten::{op}_) that would mutate a captured Tensor. This is not \
             supported; please rewrite the function being transformed to explicitly accept the \
             mutated Tensor(s) as inputs."
        );
    }
    Ok(())
}

/// Whether a transform may be running on this thread: whether one is on any.
pub fn may_be_active() -> bool {
    RUNNING.load(Ordering::Relaxed) != 0
}

/// Whether a transform, or a `vmap`, is running on this thread.
pub fn is_active() -> bool {
    DEPTH.get() > 0 || batch::active() && !batch::stack().is_empty()
}

/// The alias of an input that a transform differentiates with respect to, with an example in every
/// level that runs: each has a gradient of its own.
///
/// # Errors
/// The type cannot have a gradient.
pub fn lift(x: &Tensor) -> Result<Tensor> {
    let (physical, levels) = batch::physical_over(x)?;
    let _mode = GradMode::new(true);
    // What inference mode has made can take no part in a graph, a copy can.
    let physical = if physical.is_inference() { cast::clone(&physical)? } else { physical };
    let alias = view::alias("AliasBackward0", &physical)?;
    if !alias.requires_grad() {
        alias.set_requires_grad(true)?;
    }
    batch::wrap(&alias, &levels)
}

/// What a transform's function is given of an argument that is not differentiated: the same memory,
/// which it may write to. What has a history or a tangent stays itself, and a write to it, which would
/// have to be recorded outside, is refused.
///
/// # Errors
/// `x` has escaped from a level that has ended.
pub fn own(x: &Tensor) -> Result<Tensor> {
    let levels = batch::levels_of(x, "a transform")?;
    let physical = x.physical().unwrap_or_else(|| x.clone());
    if physical.is_differentiated() || physical.is_inference() {
        return Ok(x.clone());
    }
    batch::wrap(&physical.detach(), &levels)
}

/// Whether a gradient of any of `roots` reaches a leaf other than the leaves among `own`.
fn leads_elsewhere(roots: &[Tensor], own: &[Tensor]) -> Result<bool> {
    let edge = |t: &Tensor| -> Result<Option<Edge>> { t.physical().as_ref().unwrap_or(t).edge() };
    let mut ours: HashSet<usize> = HashSet::new();
    for t in own {
        if let Some(edge) = edge(t)?
            && edge.node.op().leaf().is_some()
        {
            ours.insert(edge.node.address());
        }
    }
    let mut seen: HashSet<usize> = HashSet::new();
    let mut work: Vec<NodeRef> = Vec::new();
    for root in roots {
        work.extend(edge(root)?.map(|e| e.node));
    }
    while let Some(node) = work.pop() {
        if !seen.insert(node.address()) {
            continue;
        }
        if node.op().leaf().is_some() {
            if !ours.contains(&node.address()) {
                return Ok(true);
            }
            continue;
        }
        work.extend(node.edges().iter().flatten().map(|e| e.node.clone()));
    }
    Ok(false)
}

/// `t` without history if it depends on nothing but `own`, or if `recording` is off outside.
pub fn cut(t: &Tensor, own: &[Tensor], recording: bool) -> Result<Tensor> {
    if !t.requires_grad() {
        return Ok(t.clone());
    }
    if recording && leads_elsewhere(std::slice::from_ref(t), own)? {
        return Ok(t.clone());
    }
    batch::detached(t)
}

/// Gradients of a transform's `outputs` with respect to `inputs`, zero where there is none. `hidden`
/// are further inputs of its own.
///
/// With `recording` they can be differentiated by whoever called the transform. The pass itself is
/// recorded only if there is something outside to differentiate with respect to, since that costs
/// several times as much.
///
/// # Errors
/// As those of [`super::grad`].
pub fn gradients(
    outputs: &[Tensor],
    cotangents: &[Option<Tensor>],
    inputs: &[Tensor],
    hidden: &[Tensor],
    recording: bool,
    retain_graph: bool,
) -> Result<Vec<Tensor>> {
    let mut roots = Vec::with_capacity(outputs.len());
    let mut seeds = Vec::with_capacity(outputs.len());
    for (i, output) in outputs.iter().enumerate() {
        if output.requires_grad() {
            roots.push(output.clone());
            seeds.push(cotangents.get(i).cloned().flatten());
        }
    }
    let found = if roots.is_empty() {
        vec![None; inputs.len()]
    } else {
        let from: Vec<Tensor> = roots.iter().chain(seeds.iter().flatten()).cloned().collect();
        let own: Vec<Tensor> = inputs.iter().chain(hidden).cloned().collect();
        let keep = recording && leads_elsewhere(&from, &own)?;
        let options = Backward { retain_graph: retain_graph || keep, create_graph: keep };
        batch::backward::grad(&roots, &seeds, inputs, options)?
    };
    found
        .into_iter()
        .zip(inputs)
        .map(|(g, x)| match g {
            Some(g) if is_grad_enabled() && recording => Ok(g),
            Some(g) => batch::detached(&g),
            None => batch::zeros_like(x),
        })
        .collect()
}
