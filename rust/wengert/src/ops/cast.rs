//! Copies and conversions.

use super::tags::*;
use super::{Call, Row};
use crate::DType;
use crate::graph::{Context, Gradients, Op, record};
use crate::tensor::Tensor;
use crate::{Result, bail};
use smallvec::smallvec;

/// A copy under a name of its own; the engine converts the gradient back.
struct Copy(&'static str);

impl Op for Copy {
    fn name(&self) -> &'static str {
        self.0
    }

    fn backward(&self, _: &Context, grads: &[Option<Tensor>]) -> Result<Gradients> {
        Ok(smallvec![grads[0].clone()])
    }
}

fn copied(name: &'static str, x: &Tensor, dtype: DType) -> Result<Tensor> {
    let y = Tensor::uninitialised("clone", x.shape(), dtype)?;
    y.copy_raw(x);
    if dtype.is_floating() && record::recording(&[x]) {
        record::record(&y, &[x], &[], Box::new(Copy(name)))?;
    }
    Ok(y)
}

/// The elements in another type; the tensor itself if it has that type.
pub fn to_dtype(x: &Tensor, dtype: DType) -> Result<Tensor> {
    if x.dtype() == dtype && !x.is_wrapped_number() {
        Ok(x.clone())
    } else {
        copied("ToCopyBackward0", x, dtype)
    }
}

/// A copy in new memory, row-major.
pub fn clone(x: &Tensor) -> Result<Tensor> {
    copied("CloneBackward0", x, x.dtype())
}

/// The tensor itself if it is row-major, else a copy that is.
pub fn contiguous(x: &Tensor) -> Result<Tensor> {
    if x.is_contiguous() { Ok(x.clone()) } else { clone(x) }
}

/// The elements of `source`, converted and broadcast, as if they had been computed in the place of
/// `target`.
fn copy(target: &Tensor, source: &Tensor) -> Result<Tensor> {
    struct CopyInto;
    impl Op for CopyInto {
        fn name(&self) -> &'static str {
            "CopyBackwards"
        }
        fn backward(&self, _: &Context, grads: &[Option<Tensor>]) -> Result<Gradients> {
            Ok(smallvec![None, grads[0].clone()])
        }
    }
    if !super::reduce::is_expandable(source.shape(), target.shape()) {
        bail!(
            Shape,
            "",
            "The size of tensor a ({:?}) must match the size of tensor b ({:?}): copy_ cannot \
             broadcast the source to the destination",
            target.shape(),
            source.shape()
        );
    }
    let y = Tensor::uninitialised("copy_", target.shape(), target.dtype())?;
    let spread = super::view::expand_to(&source.detach(), target.shape())?;
    y.copy_raw(&spread);
    if target.dtype().is_floating() && record::recording(&[target, source]) {
        record::record(&y, &[target, source], &[], Box::new(CopyInto))?;
    }
    Ok(y)
}

/// Writes `source` into `target`, converted and broadcast; recorded.
pub fn copy_(target: &Tensor, source: &Tensor) -> Result<()> {
    use crate::graph::inplace;
    inplace::check(target, "copy")?;
    let recorded =
        crate::graph::is_grad_enabled() && (target.requires_grad() || source.requires_grad());
    if !recorded && super::reduce::is_expandable(source.shape(), target.shape()) {
        let spread = super::view::expand_to(&source.detach(), target.shape())?;
        let spread = if spread.storage().same(target.storage()) { clone(&spread)? } else { spread };
        target.copy_raw(&spread);
        target.storage().bump_version();
        return Ok(());
    }
    inplace::adopt(target, copy(target, source)?)
}

/// This family's rows.
pub const ROWS: &[Row] = &[
    Row {
        name: "clone",
        aliases: &[],
        signatures: &["(input, *, memory_format: memory_format? = None)"],
        doc: &[" A copy in memory of its own. Gradients flow through."],
        tags: FUNCTION | METHOD,
        call: Call::Make(|c| Ok(clone(c.tensor(0))?.into())),
    },
    Row {
        name: "contiguous",
        aliases: &[],
        signatures: &["(input, *, memory_format: memory_format? = None)"],
        doc: &[" The tensor itself if it is row-major, else a copy that is."],
        tags: METHOD | VIEW,
        call: Call::Make(|c| Ok(contiguous(c.tensor(0))?.into())),
    },
    Row {
        name: "copy_",
        aliases: &[],
        signatures: &["(input, src, non_blocking: bool = False)"],
        doc: &[" Writes `src` into the tensor, converted and broadcast."],
        tags: METHOD,
        call: Call::Make(|c| {
            copy_(c.tensor(0), c.tensor(1))?;
            Ok(c.tensor(0).clone().into())
        }),
    },
];
