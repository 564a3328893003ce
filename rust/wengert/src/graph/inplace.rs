//! Writing to tensors that take part in a graph: what is refused, and who owns the history.
//!
//! A recorded in-place operation is carried out as `result = op(alias of the old value)` followed
//! by copying the result into the target's memory; the target then takes over the result's
//! history. Whatever the rule saved lies in memory that the write does not reach.

use super::context::Context;
use super::explain;
use super::forward;
use super::mode::{self, WithoutForward};
use super::node::{Edge, Gradients, Op};
use super::record::record;
use crate::ops::cast;
use crate::ops::strided::{AsStrided, Strided, Window};
use crate::tensor::Tensor;
use crate::{Error, Kind, Result};
use smallvec::smallvec;

/// Refuses to write to what must not be written to. `sources` says whether what is written requires
/// grad.
pub fn check(target: &Tensor, op: &'static str, sources: bool) -> Result<()> {
    target.check_writable(op)?;
    check_history(target, op, sources)
}

/// Refuses to write to memory that must not be written to, whatever the history.
pub fn check_memory(target: &Tensor, op: &'static str) -> Result<()> {
    target.check_writable(op)
}

/// [`check`] for a write of one value to all elements, which may share memory.
pub fn check_uniform(target: &Tensor, op: &'static str, sources: bool) -> Result<()> {
    target.check_not_read_only(op)?;
    check_history(target, op, sources)
}

/// Refuses a write that history forbids.
fn check_history(target: &Tensor, op: &'static str, sources: bool) -> Result<()> {
    super::transform::check_own(target, op)?;
    if !super::is_grad_enabled() {
        return Ok(());
    }
    let base = target.base();
    let base_requires_grad = base.as_ref().is_some_and(Tensor::requires_grad);
    if !(sources || base_requires_grad || target.requires_grad()) {
        return Ok(());
    }
    target.check_view_kind("is being")?;
    if base.is_none() && target.requires_grad() && target.is_leaf() {
        return Err(explain::leaf_written(target, op));
    }
    if let Some(base) = base
        && ((base_requires_grad || target.requires_grad()) && base.is_leaf())
    {
        return Err(explain::leaf_view_written(target, &base, op));
    }
    Ok(())
}

#[cold]
pub(super) fn saved_inference_error() -> Error {
    Error::plain(
        Kind::Grad,
        "Inference tensors cannot be saved for backward. Please do not use Tensors created in \
         inference mode in computation tracked by autograd. To work around this, you can make a \
         clone to get a normal tensor and use it in autograd, or use `torch.no_grad()` instead of \
         `torch.inference_mode()`.",
    )
}

/// The value before the write, with the target's history, in memory of its own.
pub fn before(target: &Tensor) -> Result<Tensor> {
    let copy = Tensor::uninitialised("clone", target.shape(), target.dtype())?;
    copy.copy_raw(target);
    let copy = match target.edge()? {
        Some(edge) => copy.alias_with_edge(Some(unobserved(target, edge)?)),
        None => copy,
    };
    if target.is_dual() {
        forward::copy_tangents(&copy, target)?;
    }
    Ok(copy)
}

/// The way back from the old value of a view: for PyTorch it leads to the base at once, so that hooks
/// on the old value do not run.
fn unobserved(target: &Tensor, edge: Edge) -> Result<Edge> {
    if target.has_base()
        && edge.node.has_tensor_hooks()
        && let Some(base) = target.base()
        && let Some(part) = become_part(target, &base)?
    {
        return Ok(part);
    }
    Ok(edge)
}

/// Copies `result` into `target`, which takes over its history.
pub fn adopt(target: &Tensor, result: Tensor) -> Result<()> {
    let result = if result.dtype() == target.dtype() {
        result
    } else {
        cast::to_dtype(&result, target.dtype())?
    };
    let _write = target.storage().write();
    target.copy_raw(&result);
    target.storage().bump_version();
    if mode::is_forward() {
        forward::follow_write(target, Some(&result))?;
    }
    inherit(target, &result)
}

/// After a write that left nothing of the old value: `target` becomes the result of an operation
/// named `node` whose gradient is zero, as in PyTorch.
pub fn overwritten(target: &Tensor, node: &'static str) -> Result<()> {
    target.storage().bump_version();
    if mode::is_forward() {
        forward::follow_write(target, None)?;
    }
    if !super::is_grad_enabled() || !target.requires_grad() {
        return Ok(());
    }
    let _off = WithoutForward::new();
    let result = target.detach();
    let old = target.alias_with_edge(target.edge()?);
    record(&result, &[&old], &[], Box::new(Forget(node)))?;
    inherit(target, &result)
}

/// An operation whose result does not depend on its inputs' values.
pub(crate) struct Forget(pub &'static str);

impl Op for Forget {
    fn name(&self) -> &'static str {
        self.0
    }

    fn backward(&self, ctx: &Context, grads: &[Option<Tensor>]) -> Result<Gradients> {
        let Some(g) = &grads[0] else { return Ok(Gradients::new()) };
        let zeros = crate::ops::zeros_like(g)?;
        Ok((0..2).map(|i| ctx.needs(i).then(|| zeros.clone())).collect())
    }
}

/// Gives `target`, which holds the values of `result`, its history.
pub(crate) fn inherit(target: &Tensor, result: &Tensor) -> Result<()> {
    if !super::is_grad_enabled() {
        return Ok(());
    }
    // Tangents have been seen to.
    let _off = WithoutForward::new();
    match target.base() {
        Some(base) if result.requires_grad() || base.requires_grad() => {
            replace_part(&base, target, result)
        }
        _ => match result.edge()? {
            Some(edge) => {
                target.rebase(edge);
                Ok(())
            }
            None => {
                if target.requires_grad() {
                    target.leave_graph();
                }
                Ok(())
            }
        },
    }
}

/// After a write through a view: the base becomes its old self with a part replaced, and the view
/// becomes that part of the new base.
fn replace_part(base: &Tensor, view: &Tensor, result: &Tensor) -> Result<()> {
    let window = Window::new(base.layout(), view.layout());
    let old = base.alias_with_edge(base.edge()?);
    let new = base.detach();
    record(&new, &[&old, result], &[], Box::new(CopySlices(window)))?;
    if let Some(edge) = new.grad_fn() {
        base.rebase(edge);
    }
    view.follow_base()
}

/// The base of a view with a part replaced by the view's new value.
struct CopySlices(Window);

impl Op for CopySlices {
    fn name(&self) -> &'static str {
        "CopySlices"
    }

    fn backward(&self, ctx: &Context, grads: &[Option<Tensor>]) -> Result<Gradients> {
        let Some(g) = &grads[0] else { return Ok(Gradients::new()) };
        Ok(smallvec![
            if ctx.needs(0) { Some(self.0.erase(g)?) } else { None },
            if ctx.needs(1) { Some(self.0.push(g)?) } else { None }
        ])
    }
}

/// The history of a view as a part of what its base is now; `None` if the base has none.
pub(crate) fn become_part(view: &Tensor, base: &Tensor) -> Result<Option<Edge>> {
    let Some(edge) = base.edge()? else { return Ok(None) };
    let whole = base.alias_with_edge(Some(edge));
    let part = view.detach();
    let strided = Strided::of(view.layout());
    let rule = AsStrided(Window::new(base.layout(), view.layout()), Some(Box::new(strided)));
    record(&part, &[&whole], &[], Box::new(rule))?;
    Ok(part.grad_fn())
}
