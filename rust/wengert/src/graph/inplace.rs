//! Writing to tensors that take part in a graph: what is refused, and who owns the history.
//!
//! A recorded in-place operation is carried out as `result = op(alias of the old value)` followed
//! by copying the result into the target's memory; the target then takes over the result's
//! history. Whatever the rule saved lies in memory that the write does not reach.

use super::explain;
use super::forward;
use super::mode::{self, WithoutForward};
use super::node::{Context, Gradients, Op};
use super::record::{record, recording};
use crate::layout::{Dims, Layout};
use crate::ops::cast;
use crate::tensor::Tensor;
use crate::{Error, Kind, Result, bail};
use smallvec::{SmallVec, smallvec};

/// Refuses to write to what must not be written to.
pub fn check(target: &Tensor, op: &'static str) -> Result<()> {
    target.check_writable(op)?;
    super::transform::check_own(target, op)?;
    if !super::is_grad_enabled() {
        return Ok(());
    }
    if target.requires_grad() && target.is_leaf() {
        return Err(explain::leaf_written(target, op));
    }
    if let Some(base) = target.base()
        && base.requires_grad()
        && base.is_leaf()
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
        Some(edge) => copy.alias_with_edge(Some(edge)),
        None => copy,
    };
    if target.is_dual() {
        forward::copy_tangents(&copy, target)?;
    }
    Ok(copy)
}

/// Copies `result` into `target`, which takes over its history.
pub fn adopt(target: &Tensor, result: Tensor) -> Result<()> {
    let result = if result.dtype() == target.dtype() {
        result
    } else {
        cast::to_dtype(&result, target.dtype())?
    };
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
    if !base.is_contiguous() {
        bail!(
            Unsupported,
            "in-place on a view",
            "the base of the view has gaps (shape {:?}, strides {:?}); write to a clone() of it",
            base.shape(),
            base.layout().strides()
        );
    }
    let part = Part::of(view, base);
    let old = base.alias_with_edge(base.edge()?);
    let new = base.detach();
    record(&new, &[&old, result], &[], Box::new(CopySlices(part.clone())))?;
    if let Some(edge) = new.grad_fn() {
        base.rebase(edge);
    }
    view.follow_base()
}

/// Which elements of a row-major base a view shows.
#[derive(Clone)]
pub(crate) struct Part {
    layout: Layout,
    base: Dims,
}

impl Part {
    /// The part of `base` that `view` shows. The base is row-major.
    pub(crate) fn of(view: &Tensor, base: &Tensor) -> Part {
        let l = view.layout();
        let offset = l.offset() - base.layout().offset();
        Part {
            layout: Layout::strided(l.shape(), l.strides(), offset),
            base: SmallVec::from_slice(base.shape()),
        }
    }

    /// The part of `whole`, which has the layout of the base; a view, recorded.
    pub(crate) fn view(&self, whole: &Tensor) -> Result<Tensor> {
        let y = whole.view_as_layout(self.placed(whole));
        if recording(&[whole]) {
            record(&y, &[whole], &[], Box::new(AsStrided(self.clone())))?;
        }
        Ok(y)
    }

    fn placed(&self, whole: &Tensor) -> Layout {
        let l = &self.layout;
        Layout::strided(l.shape(), l.strides(), l.offset() + whole.layout().offset())
    }

    /// The part of `whole`, recorded.
    pub(crate) fn cut(&self, whole: &Tensor) -> Result<Tensor> {
        let whole = cast::contiguous(whole)?;
        let y = whole.detach().view_as_layout(self.placed(&whole));
        if recording(&[&whole]) {
            record(&y, &[&whole], &[], Box::new(AsStrided(self.clone())))?;
        }
        Ok(y)
    }

    /// Zeros with `part` in its place. Elements shown more than once would add up; the views that
    /// this crate writes through show each element once.
    fn embed(&self, part: &Tensor) -> Result<Tensor> {
        let whole = Tensor::zeros(&self.base, part.dtype())?;
        whole.detach().view_as_layout(self.placed(&whole)).copy_raw(part);
        if recording(&[part]) {
            record(&whole, &[part], &[], Box::new(Embed(self.clone())))?;
        }
        Ok(whole)
    }

    /// `whole` with zeros in the part's place.
    fn erase(&self, whole: &Tensor) -> Result<Tensor> {
        let y = Tensor::uninitialised("erase", whole.shape(), whole.dtype())?;
        y.copy_raw(whole);
        y.detach().view_as_layout(self.placed(&y)).fill_raw(crate::Scalar::Int(0));
        if recording(&[whole]) {
            record(&y, &[whole], &[], Box::new(Erase(self.clone())))?;
        }
        Ok(y)
    }
}

/// The linear maps above, each with its adjoint: `rule(part, gradient, needs)`; and the way to the
/// tangent where that must be a view.
macro_rules! part_op {
    (
        $Name:ident $node:literal |$part:ident, $g:ident, $ctx:ident| [$($grad:expr),+]
        $(tangent |$v:ident| $tangent:expr)?
    ) => {
        struct $Name(Part);
        impl Op for $Name {
            fn name(&self) -> &'static str {
                $node
            }
            fn backward(&self, $ctx: &Context, grads: &[Option<Tensor>]) -> Result<Gradients> {
                let $part = &self.0;
                let Some($g) = &grads[0] else { return Ok(Gradients::new()) };
                Ok(smallvec![$($grad),+])
            }
            $(fn jvp(
                &self,
                _: &Context,
                v: &[Option<Tensor>],
                _: &[&Tensor],
            ) -> Result<Option<Gradients>> {
                let $part = &self.0;
                forward::linear(v, |$v| $tangent)
            })?
        }
    };
}

part_op!(CopySlices "CopySlices" |part, g, ctx| [
    if ctx.needs(0) { Some(part.erase(g)?) } else { None },
    if ctx.needs(1) { Some(part.cut(g)?) } else { None }
]);
part_op!(AsStrided "AsStridedBackward0" |part, g, _ctx| [Some(part.embed(g)?)]
    tangent |v| part.view(v));
part_op!(Embed "AsStridedBackwardBackward0" |part, g, _ctx| [Some(part.cut(g)?)]);
part_op!(Erase "EraseBackward0" |part, g, _ctx| [Some(part.erase(g)?)]);
