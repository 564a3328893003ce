//! Indexing along one axis: `gather`, `scatter` and relatives. Those that take whole slices are in
//! [`slices`](super::slices).
//!
//! Each function checks its arguments, turns its index into [`Places`], and applies one of the
//! maps there; the derivatives come with the maps. A position out of range is an index error that
//! says which element of the index it is, where PyTorch says only that there is one.

use super::places::{Combine, Outside, Places, Positions};
use super::pointwise::store_apart;
pub use super::slices::{index_add, index_fill, index_select};
use super::tags::*;
use super::{Call, Dest, Row, binary, cast, compare, create, view};
use crate::batch::{Batching, compose};
use crate::layout::{Dims, ShapeText, wrap_dim};
use crate::tensor::Tensor;
use crate::{DType, Error, Kind, Result, Scalar, bail};

/// Where in a tensor the element with a row-major number stands.
fn place(shape: &[usize], at: usize) -> Dims {
    let mut rest = at;
    let mut place = Dims::from_elem(0, shape.len());
    for (p, &size) in place.iter_mut().zip(shape).rev() {
        *p = rest % size.max(1);
        rest /= size.max(1);
    }
    place
}

/// The error for a position that is not on its axis, after PyTorch's sentence.
#[cold]
pub(crate) fn out_of_bounds(
    op: &'static str,
    index: &Tensor,
    outside: &Outside,
    dim: usize,
    size: usize,
) -> Error {
    let at = place(index.shape(), outside.at);
    Error::plain(
        Kind::Index,
        format!(
            "index {} is out of bounds for dimension {dim} with size {size} ({op}: at {} of the \
             index)",
            outside.value,
            ShapeText(&at)
        ),
    )
}

/// The error for a row that a table does not have, in PyTorch's other sentence.
#[cold]
pub(crate) fn out_of_range(
    op: &'static str,
    index: &Tensor,
    outside: &Outside,
    size: usize,
) -> Error {
    let at = place(index.shape(), outside.at);
    Error::plain(
        Kind::Index,
        format!(
            "index out of range in self ({op}: index {} at {} of the index, for size {size})",
            outside.value,
            ShapeText(&at)
        ),
    )
}

pub(crate) fn is_index(index: &Tensor) -> bool {
    matches!(index.dtype(), DType::Int32 | DType::Int64)
}

/// A tensor without dimensions as a vector of one element.
pub(super) fn lifted(x: &Tensor) -> Result<Tensor> {
    if x.ndim() == 0 { view::reshape_to(x, &[1]) } else { Ok(x.clone()) }
}

/// Writes to a copy of `x`, or to `out`, which becomes one.
pub(super) fn write_to(
    op: &'static str,
    dest: Dest,
    x: &Tensor,
    make: impl FnOnce() -> Result<Tensor>,
    write: impl FnOnce(&Tensor) -> Result<()>,
) -> Result<Tensor> {
    let Dest::Into(out) = dest else { return make() };
    if out.shape() != x.shape() {
        return Err(super::pointwise::resize_error(op, out, x.shape()));
    }
    super::pointwise::check_storable(x.dtype(), out.dtype())?;
    let in_place = out.same(x);
    if out.dtype() != x.dtype() || (!in_place && out.storage().same(x.storage())) {
        out.copy_raw(&make()?);
        return Ok(out.clone());
    }
    if !in_place {
        out.copy_raw(x);
    }
    write(&lifted(&out.detach())?)?;
    Ok(out.clone())
}

/// The places of `gather` and `scatter`.
fn along(op: &'static str, x: &Tensor, dim: usize, index: &Tensor) -> Result<Places> {
    match Positions::of(index, x.shape()[dim], false)? {
        Ok(positions) => Ok(Places::along(x.shape(), index.shape(), dim, positions)),
        Err(outside) => Err(out_of_bounds(op, index, &outside, dim, x.shape()[dim])),
    }
}

/// The elements of `x` with their index along one axis replaced by that in `index`:
/// `out[i][j] = x[i][index[i][j]]` for the second of two axes.
///
/// ```
/// use wengert::{Tensor, ops::index::gather};
/// let x = Tensor::from_slice(&[1.0f32, 2.0, 3.0, 4.0], &[2, 2])?;
/// let i = Tensor::from_slice(&[0i64, 0, 1, 0], &[2, 2])?;
/// assert_eq!(gather(&x, 1, &i)?.to_vec::<f32>()?, [1.0, 1.0, 4.0, 3.0]);
/// # Ok::<(), wengert::Error>(())
/// ```
///
/// # Errors
/// The index is no integer tensor, has another number of dimensions, is larger than `x` along
/// another axis, or leads outside.
pub fn gather(x: &Tensor, dim: i64, index: &Tensor) -> Result<Tensor> {
    let d = wrap_dim(dim, x.ndim())?;
    if !is_index(index) && index.numel() > 0 {
        bail!(DType, "", "gather(): Expected dtype int32/int64 for index, got {}", index.dtype());
    }
    if index.numel() == 0 && index.ndim() != x.ndim() {
        // Nothing is read, whatever the axes; the gradient is zero.
        let flat = view::reshape_to(x, &[x.numel()])?;
        let nowhere = Positions::of(index, x.numel(), false)?
            .map_err(|outside| out_of_bounds("gather", index, &outside, d, x.numel()))?;
        let places = Places::across(flat.shape(), index.shape(), vec![(0, nowhere)]);
        return places.take("GatherBackward0", &flat);
    }
    let (whole, part) = (lifted(x)?, lifted(index)?);
    check_dimensions("gather", &part, "input", &whole)?;
    let (n, m) = (part.shape(), whole.shape());
    if let Some(k) = (0..n.len()).find(|&k| k != d && n[k] > m[k] && part.numel() > 0) {
        bail!(
            Shape,
            "",
            "Size does not match at dimension {k} expected index {n:?} to be no larger than self \
             {m:?} apart from dimension {d}"
        );
    }
    let y = along("gather", &whole, d, &part)?.take("GatherBackward0", &whole)?;
    if index.ndim() == 0 { view::reshape_to(&y, &[]) } else { Ok(y) }
}

fn check_dimensions(op: &str, index: &Tensor, name: &str, other: &Tensor) -> Result<()> {
    if index.ndim() != other.ndim() {
        bail!(
            Shape,
            "",
            "Index tensor must have the same number of dimensions as {name} tensor ({op}: shapes {:?} \
             and {:?})",
            index.shape(),
            other.shape()
        );
    }
    Ok(())
}

/// What `scatter` writes.
#[derive(Clone, Copy)]
pub enum Scattered<'a> {
    /// The elements of a tensor, of which the part of the size of the index is used.
    Elements(&'a Tensor),
    /// One number.
    Number(Scalar),
}

/// `x` with elements written (or added, or multiplied) where [`gather`] would read:
/// `x[i][index[i][j]] = src[i][j]` for the second of two axes.
///
/// Of values for one place, the last in row-major order stays.
///
/// # Errors
/// As those of [`gather`]; `src` is smaller than the index or of another type.
pub fn scatter(
    x: &Tensor,
    dim: i64,
    index: &Tensor,
    src: Scattered,
    how: Combine,
    dest: Dest,
) -> Result<Tensor> {
    let op = if how == Combine::Add { "scatter_add" } else { "scatter" };
    if let (Scattered::Number(value), Combine::Add | Combine::Multiply) = (src, how) {
        create::check_value(value, x.dtype())?;
        let all = Tensor::full(index.shape(), value, x.dtype())?;
        return scatter(x, dim, index, Scattered::Elements(&all), how, dest);
    }
    let d = wrap_dim(dim, x.ndim())?;
    if !is_index(index) && index.numel() > 0 {
        bail!(DType, "", "scatter(): Expected dtype int32/int64 for index, got {}", index.dtype());
    }
    if let Scattered::Elements(src) = src
        && src.dtype() != x.dtype()
    {
        bail!(
            DType,
            "",
            "scatter(): Expected self.dtype to be equal to src.dtype ({} and {})",
            x.dtype(),
            src.dtype()
        );
    }
    let too_small = |src: &Tensor| {
        src.ndim() != index.ndim() || src.shape().iter().zip(index.shape()).any(|(s, n)| s < n)
    };
    let unusable = match src {
        Scattered::Elements(src) => too_small(src),
        Scattered::Number(_) => false,
    };
    if index.numel() == 0 && (unusable || index.ndim() != x.ndim()) {
        // Without positions nothing else is asked of the sizes.
        return write_to(op, dest, x, || cast::clone(x), |_| Ok(()));
    }
    let (whole, part) = (lifted(x)?, lifted(index)?);
    check_dimensions(op, &part, "self", &whole)?;
    let (n, m) = (part.shape(), whole.shape());
    let too_large = part.numel() > 0 && (0..n.len()).any(|k| k != d && n[k] > m[k]);
    let restored = |y: Tensor| if x.ndim() == 0 { view::reshape_to(&y, &[]) } else { Ok(y) };
    match src {
        Scattered::Number(value) => {
            if too_large {
                bail!(
                    Shape,
                    "",
                    "Expected index {n:?} to be no larger than self {m:?} apart from dimension {d}"
                );
            }
            create::check_value(value, x.dtype())?;
            let places = along(op, &whole, d, &part)?;
            write_to(
                op,
                dest,
                x,
                || restored(places.put_number("ScatterBackward1", &whole, value)?),
                |out| places.write(out, &Tensor::full(places.shape(), value, x.dtype())?, false),
            )
        }
        Scattered::Elements(src) => {
            let src = lifted(src)?;
            check_dimensions(op, &part, "src", &src)?;
            let s = src.shape();
            if too_large || n.iter().zip(s).any(|(n, s)| n > s) {
                bail!(
                    Shape,
                    "",
                    "Expected index {n:?} to be no larger than self {m:?} apart from dimension {d} and \
                     to be no larger size than src {s:?}"
                );
            }
            let mut src = src.clone();
            for (k, &size) in n.iter().enumerate() {
                if src.shape()[k] != size {
                    src = view::narrow(&src, k as i64, 0, size as i64)?;
                }
            }
            let places = along(op, &whole, d, &part)?;
            let make = || match how {
                Combine::Put => places.put("ScatterBackward0", &whole, &src),
                Combine::Add => places.add("ScatterAddBackward0", &whole, &src),
                Combine::Multiply => places.multiply(&whole, &src),
            };
            write_to(op, dest, x, || restored(make()?), |out| places.combine(out, &src, how))
        }
    }
}

/// [`gather`] with the other axes broadcast; of the flattened tensor if there is no axis. Along an
/// axis negative indices count from its end.
///
/// # Errors
/// As those of [`gather`]; shapes do not broadcast.
pub fn take_along_dim(x: &Tensor, indices: &Tensor, dim: Option<i64>) -> Result<Tensor> {
    if indices.dtype() != DType::Int64 {
        bail!(
            DType,
            "",
            "torch.take_along_dim(): dtype of indices should be Long but got {}",
            indices.dtype().scalar_type_name()
        );
    }
    let Some(dim) = dim else {
        return gather(&view::reshape(x, &[-1])?, 0, &view::reshape(indices, &[-1])?);
    };
    if x.ndim() != indices.ndim() {
        bail!(
            Shape,
            "",
            "torch.take_along_dim(): input and indices should have the same number of dimensions, but \
             got {} dimensions for input, and {} dimensions for indices",
            x.ndim(),
            indices.ndim()
        );
    }
    let d = wrap_dim(dim, x.ndim())?;
    // Broadcast as if both had one position along the axis.
    let flat = |t: &Tensor| {
        let mut shape = Dims::from_slice(t.shape());
        if let Some(size) = shape.get_mut(d) {
            *size = 1;
        }
        shape
    };
    let common = crate::layout::broadcast("take_along_dim", &flat(x), &flat(indices))?;
    let spread = |t: &Tensor| {
        let mut shape = common.clone();
        if let Some(size) = shape.get_mut(d) {
            *size = t.shape()[d];
        }
        view::expand_to(t, &shape)
    };
    let size = x.shape().get(d).map_or(1, |&s| s as i64);
    let from_end = compare::lt(indices, &Tensor::wrapped(Scalar::Int(0))?)?;
    let known = compare::ge(indices, &Tensor::wrapped(Scalar::Int(-size))?)?;
    let counted = binary::add(indices, &Tensor::wrapped(Scalar::Int(size))?)?;
    let negative = compare::logical_and(&from_end, &known)?;
    gather(&spread(x)?, dim, &spread(&binary::where_(&negative, &counted, indices)?)?)
}

/// The elements with the given numbers in row-major order; negative ones count from the end.
///
/// # Errors
/// The index is not int64, or leads outside.
pub fn take(x: &Tensor, index: &Tensor) -> Result<Tensor> {
    if index.dtype() != DType::Int64 {
        bail!(
            DType,
            "",
            "take(): Expected a long tensor for index, but got {}",
            index.dtype().scalar_type_name()
        );
    }
    let flat = view::reshape_to(x, &[x.numel()])?;
    match Positions::of(index, x.numel(), true)? {
        Ok(positions) => Places::across(flat.shape(), index.shape(), vec![(0, positions)])
            .take("TakeBackward0", &flat),
        Err(outside) => bail!(
            Index,
            "",
            "out of range: tried to access index {} on a tensor of {} elements. (take: at {} of the \
             index)",
            outside.value,
            x.numel(),
            ShapeText(&place(index.shape(), outside.at))
        ),
    }
}

/// This family's rows.
pub const ROWS: &[Row] = &[
    Row {
        name: "gather",
        aliases: &[],
        signatures: &["(input, dim: int, index, *, sparse_grad: bool = False)"],
        doc: &[" The elements whose index along one axis is replaced by that in `index`."],
        tags: FUNCTION | METHOD | OUT,
        batch: Batching::Spread { less: 0 },
        call: Call::Into(|c, dest| {
            let (x, index) = (c.tensor(0), c.tensor(2));
            store_apart("gather", dest, &[x, index], Some(x.dtype()), || gather(x, c.int(1), index))
        }),
    },
    Row {
        name: "scatter",
        aliases: &[],
        signatures: &[
            "(input, dim: int, index, src)",
            "(input, dim: int, index, value: Number)",
            "(input, dim: int, index, src, *, reduce: str)",
            "(input, dim: int, index, value: Number, *, reduce: str)",
        ],
        doc: &[
            " Writes elements of `src`, or one value, to where `gather` would read them; with",
            " `reduce` `'add'` or `'multiply'` they are combined with what is there.",
        ],
        tags: ALL_FORMS,
        batch: Batching::Spread { less: 0 },
        call: Call::Into(|c, dest| {
            let src = match c.overload {
                0 | 2 => Scattered::Elements(c.tensor(3)),
                _ => Scattered::Number(c.number(3)),
            };
            let how = match c.values.get(4).map(|_| c.str(4)) {
                None => Combine::Put,
                Some("add") => Combine::Add,
                Some("multiply") => Combine::Multiply,
                Some(other) => bail!(
                    Value,
                    "",
                    "reduce argument must be either add or multiply. (scatter: {other})"
                ),
            };
            scatter(c.tensor(0), c.int(1), c.tensor(2), src, how, dest)
        }),
    },
    Row {
        name: "scatter_add",
        aliases: &[],
        signatures: &["(input, dim: int, index, src)"],
        doc: &[" Adds elements of `src` to where `gather` would read them, in order."],
        tags: ALL_FORMS,
        batch: Batching::Spread { less: 0 },
        call: Call::Into(|c, dest| {
            let src = Scattered::Elements(c.tensor(3));
            scatter(c.tensor(0), c.int(1), c.tensor(2), src, Combine::Add, dest)
        }),
    },
    Row::make(
        "take_along_dim",
        &["(input, indices, dim: int? = None)"],
        FUNCTION | METHOD | OUT,
        &[" `gather` with the other axes broadcast; without an axis, of the flattened tensor."],
        |c| Ok(take_along_dim(c.tensor(0), c.tensor(1), c.opt_int(2))?.into()),
    )
    .batched(Batching::Spread { less: 0 }),
    Row::make(
        "take",
        &["(input, index)"],
        FUNCTION | METHOD | OUT,
        &[" The elements with the given numbers in row-major order."],
        |c| Ok(take(c.tensor(0), c.tensor(1))?.into()),
    )
    .batched(Batching::Own(compose::take)),
];
