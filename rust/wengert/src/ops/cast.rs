//! Copies and conversions.

use super::tags::*;
use super::{Call, Row};
use crate::DType;
use crate::batch::{Batching, lift};
use crate::graph::{Context, Gradients, Op, record};
use crate::memory_format::MemoryFormat::{self, Contiguous, Preserve};
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

    fn jvp(&self, _: &Context, v: &[Option<Tensor>], _: &[&Tensor]) -> Result<Option<Gradients>> {
        Ok(Some(smallvec![v[0].clone()]))
    }
}

fn copied(name: &'static str, x: &Tensor, dtype: DType, format: MemoryFormat) -> Result<Tensor> {
    if x.is_batched() && !format.is_for_images() {
        return lift::over(x, |x, _| copied(name, x, dtype, format));
    }
    let layout = format.layout("clone", x.layout(), dtype.size())?;
    let y = super::create::filled("clone", layout, None, dtype)?;
    y.copy_raw(x);
    if dtype.is_floating() && record::recording(&[x]) {
        record::record(&y, &[x], &[], Box::new(Copy(name)))?;
    }
    Ok(y)
}

/// The elements in another type, row-major; the tensor itself if it has that type.
pub fn to_dtype(x: &Tensor, dtype: DType) -> Result<Tensor> {
    if x.dtype() == dtype && !x.is_wrapped_number() {
        Ok(x.clone())
    } else {
        copied("ToCopyBackward0", x, dtype, Contiguous)
    }
}

/// The elements in another type and memory format (by default in the order they have); the tensor
/// itself if nothing is to change, unless `copy` asks for new memory.
///
/// # Errors
/// The format is for another number of axes.
pub fn to(x: &Tensor, dtype: DType, format: Option<MemoryFormat>, copy: bool) -> Result<Tensor> {
    let stays = format.is_none_or(|f| f == Preserve || f == MemoryFormat::of(x.layout()));
    if stays && !copy && x.dtype() == dtype {
        return Ok(x.clone());
    }
    copied("ToCopyBackward0", x, dtype, format.unwrap_or(Preserve))
}

/// A copy in new memory, row-major.
pub fn clone(x: &Tensor) -> Result<Tensor> {
    copied("CloneBackward0", x, x.dtype(), Contiguous)
}

/// A copy laid out as given, in new memory of so many bytes; zeros where it has gaps.
pub(crate) fn clone_into(
    x: &Tensor,
    layout: &crate::layout::Layout,
    bytes: usize,
) -> Result<Tensor> {
    let y = Tensor::from_parts(crate::storage::Storage::zeroed(bytes)?, layout.clone(), x.dtype());
    y.copy_raw(x);
    if record::recording(&[x]) {
        record::record(&y, &[x], &[], Box::new(Copy("CloneBackward0")))?;
    }
    Ok(y)
}

/// The tensor itself if it is row-major, else a copy that is.
pub fn contiguous(x: &Tensor) -> Result<Tensor> {
    if x.is_contiguous() { Ok(x.clone()) } else { clone(x) }
}

/// The elements of `source`, converted and broadcast, as if they had been computed in the place of
/// `target`.
fn copy(node: &'static str, target: &Tensor, source: &Tensor) -> Result<Tensor> {
    struct CopyInto(&'static str);
    impl Op for CopyInto {
        fn name(&self) -> &'static str {
            self.0
        }
        fn backward(&self, ctx: &Context, grads: &[Option<Tensor>]) -> Result<Gradients> {
            let Some(g) = &grads[0] else { return Ok(Gradients::new()) };
            let nothing = if ctx.needs(0) { Some(super::zeros_like(g)?) } else { None };
            Ok(smallvec![nothing, Some(g.clone())])
        }
        fn jvp(
            &self,
            _: &Context,
            v: &[Option<Tensor>],
            _: &[&Tensor],
        ) -> Result<Option<Gradients>> {
            Ok(Some(smallvec![v[1].clone()]))
        }
    }
    let y = Tensor::uninitialised("copy_", target.shape(), target.dtype())?;
    let spread = super::view::expand_to(&source.detach(), target.shape())?;
    y.copy_raw(&spread);
    if target.dtype().is_floating() && record::recording(&[target, source]) {
        record::record(&y, &[target, source], &[], Box::new(CopyInto(node)))?;
    }
    Ok(y)
}

/// Writes `source` into `target`, converted and broadcast; recorded.
pub fn copy_(target: &Tensor, source: &Tensor) -> Result<()> {
    copy_as("CopyBackwards", target, source)
}

/// [`copy_`] under the name of a node.
pub(super) fn copy_as(node: &'static str, target: &Tensor, source: &Tensor) -> Result<()> {
    use crate::graph::inplace;
    inplace::check(target, "copy", source.requires_grad())?;
    let shape = crate::layout::broadcast("copy_", target.shape(), source.shape())?;
    if *shape != *target.shape() {
        bail!(
            Shape,
            "",
            "output with shape {:?} doesn't match the broadcast shape {:?} (copy_)",
            target.shape(),
            &shape[..]
        );
    }
    let moved = super::pointwise::apart_from(target, "copy_", &[source])?;
    let values = moved.as_ref().map_or_else(|| source.detach(), |m| m[0].detach());
    let spread = super::view::expand_to(&values, target.shape())?;
    if !record::recording(&[target, source]) {
        let _write = target.storage().write();
        target.copy_raw(&spread);
        target.storage().bump_version();
        return Ok(());
    }
    inplace::adopt(target, copy(node, target, source)?)
}

/// The methods that convert to one type.
macro_rules! conversion {
    ($name:literal, $dtype:ident) => {
        Row::make(
            $name,
            &["(input, *, memory_format: memory_format? = None)"],
            METHOD | VIEW,
            &[concat!(" The elements as `", $name, "`; the tensor itself if they are already.")],
            |c| Ok(to(c.tensor(0), DType::$dtype, c.memory_format(1), false)?.into()),
        )
    };
}

/// This family's rows.
pub const ROWS: &[Row] = &[
    conversion!("float", Float32).batched(Batching::First),
    conversion!("double", Float64).batched(Batching::First),
    conversion!("half", Float16).batched(Batching::First),
    conversion!("bfloat16", BFloat16).batched(Batching::First),
    conversion!("long", Int64).batched(Batching::First),
    conversion!("int", Int32).batched(Batching::First),
    conversion!("short", Int16).batched(Batching::First),
    conversion!("char", Int8).batched(Batching::First),
    conversion!("byte", UInt8).batched(Batching::First),
    conversion!("bool", Bool).batched(Batching::First),
    Row::make(
        "to",
        &[
            "(input, dtype: dtype, non_blocking: bool = False, copy: bool = False, *, \
             memory_format: memory_format? = None)",
            "(input, other, non_blocking: bool = False, copy: bool = False, *, \
             memory_format: memory_format? = None)",
            "(input, device: device? = None, dtype: dtype? = None, non_blocking: bool = False, \
             copy: bool = False, *, memory_format: memory_format? = None)",
        ],
        METHOD | VIEW,
        &[" The elements in another type and memory format; the tensor itself if nothing changes \
             and `copy` is false."],
        |c| {
            let x = c.tensor(0);
            let (dtype, options) = match c.overload {
                0 => (c.opt_dtype(1), 2),
                1 => (Some(c.tensor(1).dtype()), 2),
                _ => (c.opt_dtype(2), 3),
            };
            let format = c.memory_format(options + 2);
            Ok(to(x, dtype.unwrap_or(x.dtype()), format, c.bool(options + 1))?.into())
        },
    )
    .batched(Batching::First),
    Row::make(
        "type_as",
        &["(input, other)"],
        METHOD | VIEW,
        &[" The elements in the type of another tensor."],
        |c| Ok(to(c.tensor(0), c.tensor(1).dtype(), None, false)?.into()),
    )
    .batched(Batching::First),
    Row::make(
        "clone",
        &["(input, *, memory_format: memory_format? = None)"],
        FUNCTION | METHOD,
        &[
            " A copy in memory of its own, by default with its axes in the same order there.",
            " Gradients flow through.",
        ],
        |c| {
            let (x, format) = (c.tensor(0), c.memory_format(1).unwrap_or(Preserve));
            Ok(copied("CloneBackward0", x, x.dtype(), format)?.into())
        },
    )
    .batched(Batching::First),
    Row::make(
        "contiguous",
        &["(input, *, memory_format: memory_format? = None)"],
        METHOD | VIEW,
        &[" The tensor itself if it is row-major (or in the given format), else a copy that is."],
        |c| {
            let (x, format) = (c.tensor(0), c.memory_format(1).unwrap_or(Contiguous));
            if format.fits(x.layout()) {
                return Ok(x.clone().into());
            }
            if format == Preserve {
                bail!(
                    Unsupported,
                    "",
                    "preserve memory format is unsupported by the contiguous operator"
                );
            }
            Ok(copied("CloneBackward0", x, x.dtype(), format)?.into())
        },
    )
    .batched(Batching::First),
    Row {
        name: "copy_",
        aliases: &[],
        signatures: &["(input, src, non_blocking: bool = False)"],
        doc: &[" Writes `src` into the tensor, converted and broadcast."],
        tags: METHOD,
        batch: Batching::Pointwise,
        call: Call::Make(|c| {
            copy_(c.tensor(0), c.tensor(1))?;
            Ok(c.tensor(0).clone().into())
        }),
    },
];
