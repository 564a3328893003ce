//! Indexing by several tensors at once, and by masks.
//!
//! `x[i, j]` with integer tensors, `x[mask]`, and writes to them: [`index`] and [`index_put`]. An
//! index is one entry per axis, `None` where the whole axis is meant; a mask stands for as many
//! axes as it has, and means the positions where it is true ([`nonzero`]). Slices, numbers and new
//! axes are views and are dealt with before.

use super::index::out_of_bounds;
use super::places::{Places, Positions};
use super::tags::*;
use super::{Output, Row, binary, cast, create, view};
use crate::batch::{Batching, compose, lift, rules};
use crate::graph::{Attribute, Attributes, Context, Gradients, Op, ValuesOnly, inplace, record};
use crate::layout::{self, Dims};
use crate::tensor::Tensor;
use crate::{DType, Error, Kind, Result, Scalar, bail};
use smallvec::{SmallVec, smallvec};

/// The indices of the elements that are not zero, one row each, in row-major order.
///
/// ```
/// use wengert::{Tensor, ops::select::nonzero};
/// let x = Tensor::from_slice(&[0.0f32, 2.0, 3.0, 0.0], &[2, 2])?;
/// assert_eq!(nonzero(&x)?.to_vec::<i64>()?, [0, 1, 1, 0]);
/// # Ok::<(), wengert::Error>(())
/// ```
///
/// # Errors
/// The result does not fit in memory.
pub fn nonzero(x: &Tensor) -> Result<Tensor> {
    let found = x.to_vec::<bool>()?;
    let count = found.iter().filter(|&&f| f).count();
    let (shape, ndim) = (x.shape(), x.ndim());
    let out = Tensor::uninitialised("nonzero", &[count, ndim], DType::Int64)?;
    if ndim == 0 {
        return Ok(out);
    }
    out.fill_with(|rows: &mut [i64]| {
        let places = found.iter().enumerate().filter(|(_, f)| **f);
        for (row, (at, _)) in rows.chunks_exact_mut(ndim).zip(places) {
            let mut rest = at;
            for (i, &size) in row.iter_mut().zip(shape).rev() {
                *i = (rest % size) as i64;
                rest /= size;
            }
        }
    });
    Ok(out)
}

/// The columns of [`nonzero`]: one index vector per axis; of a tensor without dimensions as if it
/// had one.
pub(super) fn nonzero_columns(x: &Tensor) -> Result<Vec<Tensor>> {
    let x = if x.ndim() == 0 { view::reshape_to(&x.detach(), &[1])? } else { x.detach() };
    view::unbind(&nonzero(&x)?, 1)
}

/// The tensor to index, with an axis more for each mask without dimensions, and where.
fn resolve(op: &'static str, x: &Tensor, indices: &[Option<Tensor>]) -> Result<(Tensor, Places)> {
    // The axes that the indices stand for, for the message if they are too many.
    let axes_of = |index: &Option<Tensor>| match index {
        Some(mask) if mask.dtype() == DType::Bool => mask.ndim(),
        _ => 1,
    };
    let wanted: usize = indices.iter().map(axes_of).sum();
    if wanted > x.ndim() {
        bail!(
            Index,
            "",
            "too many indices for tensor of dimension {} (got {wanted}) (of shape {})",
            x.ndim(),
            layout::ShapeText(x.shape())
        );
    }
    let mut x = x.clone();
    let mut axes: Vec<(usize, Tensor)> = Vec::new();
    let mut d = 0;
    for index in indices {
        let Some(index) = index else {
            d += 1;
            continue;
        };
        match index.dtype() {
            DType::Int64 | DType::Int32 => {
                axes.push((d, index.clone()));
                d += 1;
            }
            DType::Bool => {
                if index.ndim() == 0 {
                    x = view::unsqueeze(&x, d as i64)?;
                }
                check_mask(&x, d, index)?;
                for column in nonzero_columns(index)? {
                    axes.push((d, column));
                    d += 1;
                }
            }
            DType::UInt8 => bail!(
                Index,
                "",
                "tensors used as indices must be long, int or bool tensors: uint8 could mean a mask \
                 or positions, say .bool() or .long()"
            ),
            other => bail!(
                Index,
                "",
                "tensors used as indices must be long, int, byte or bool tensors, got {other}"
            ),
        }
    }
    let mut count = Dims::new();
    for (_, index) in &axes {
        count = layout::broadcast(op, &count, index.shape()).map_err(|_| mismatch(&axes))?;
    }
    let mut indexed = Vec::with_capacity(axes.len());
    for (d, index) in &axes {
        let (d, size) = (*d, x.shape()[*d]);
        let spread = view::expand_to(&index.detach(), &count)?;
        match Positions::of(&spread, size, true)? {
            Ok(positions) => indexed.push((d, positions)),
            Err(outside) => return Err(out_of_bounds(op, &spread, &outside, d, size)),
        }
    }
    let places = Places::across(x.shape(), &count, indexed);
    Ok((x, places))
}

fn check_mask(x: &Tensor, d: usize, mask: &Tensor) -> Result<()> {
    for (i, &size) in mask.shape().iter().enumerate() {
        if x.shape()[d + i] != size {
            bail!(
                Index,
                "",
                "The shape of the mask {:?} at index {i} does not match the shape of the indexed \
                 tensor {:?} at index {}",
                mask.shape(),
                x.shape(),
                d + i
            );
        }
    }
    Ok(())
}

#[cold]
fn mismatch(axes: &[(usize, Tensor)]) -> Error {
    let shapes: Vec<String> = axes.iter().map(|(_, t)| format!("{:?}", t.shape())).collect();
    Error::plain(
        Kind::Index,
        format!(
            "shape mismatch: indexing tensors could not be broadcast together with shapes {}",
            shapes.join(", ")
        ),
    )
}

/// The elements that tensors name, one per axis from the first on; `None` means all of an axis.
///
/// The axes of the indices, broadcast against each other, take the place of the indexed axes if
/// those are neighbours, and come first otherwise.
///
/// # Errors
/// Index tensors that are neither integers nor masks, do not broadcast, are too many, or lead
/// outside.
pub fn index(x: &Tensor, indices: &[Option<Tensor>]) -> Result<Tensor> {
    if indices.iter().all(Option::is_none) && indices.len() <= x.ndim() {
        return cast::clone(x);
    }
    let (x, places) = resolve("index", x, indices)?;
    places.take("IndexBackward0", &x)
}

/// `values` in the shape of what is at `places`.
fn spread_values(places: &Places, values: &Tensor) -> Result<Tensor> {
    // Leading axes of length 1 are more than broadcasting allows, and are given up as in NumPy.
    let mut values = values.clone();
    while values.ndim() > places.shape().len() && values.shape()[0] == 1 {
        values = view::select(&values, 0, 0)?;
    }
    if !super::reduce::is_expandable(values.shape(), places.shape()) {
        bail!(
            Shape,
            "",
            "shape mismatch: value tensor of shape {:?} cannot be broadcast to indexing result of \
             shape {:?}",
            values.shape(),
            places.shape()
        );
    }
    expanded(&values, places.shape())
}

/// A tensor of that shape: itself if it has it.
fn expanded(x: &Tensor, shape: &[usize]) -> Result<Tensor> {
    if x.shape() == shape { Ok(x.clone()) } else { view::expand_to(x, shape) }
}

/// `x` with values written (or added, with `accumulate`) where [`index`] would read.
///
/// Of values for one place, the last in row-major order stays; sums run in that order.
///
/// # Errors
/// As those of [`index`]; `values` does not broadcast, or has another type.
pub fn index_put(
    x: &Tensor,
    indices: &[Option<Tensor>],
    values: &Tensor,
    accumulate: bool,
) -> Result<Tensor> {
    if values.dtype() != x.dtype() {
        bail!(
            DType,
            "",
            "Index put requires the source and destination dtypes match, got {} for the destination \
             and {} for the source.",
            x.dtype().scalar_type_name(),
            values.dtype().scalar_type_name()
        );
    }
    let (whole, places) = resolve("index_put", x, indices)?;
    let values = spread_values(&places, values)?;
    let y = match accumulate {
        true => places.add("IndexPutBackward0", &whole, &values),
        false => places.put("IndexPutBackward0", &whole, &values),
    }?;
    if y.shape() == x.shape() { Ok(y) } else { view::reshape_to(&y, x.shape()) }
}

/// Writes, or adds, to `x` where [`index`] would read. Values are converted to its type.
///
/// # Errors
/// As those of [`index_put`]; `x` may not be written to.
pub fn index_put_(
    x: &Tensor,
    indices: &[Option<Tensor>],
    values: &Tensor,
    accumulate: bool,
) -> Result<()> {
    inplace::check(x, "index_put", values.requires_grad())?;
    let values = cast::to_dtype(values, x.dtype())?;
    if record::recording(&[x, &values]) {
        let y = index_put(&inplace::before(x)?, indices, &values, accumulate)?;
        return inplace::adopt(x, y);
    }
    let (whole, places) = resolve("index_put", &x.detach(), indices)?;
    let values = spread_values(&places, &values.detach())?;
    places.write(&whole, &values, accumulate)?;
    x.storage().bump_version();
    Ok(())
}

/// The elements where a mask is true, in row-major order; the two are broadcast.
///
/// # Errors
/// The mask is not bool, or does not broadcast.
pub fn masked_select(x: &Tensor, mask: &Tensor) -> Result<Tensor> {
    if mask.dtype() != DType::Bool {
        bail!(DType, "", "masked_select: expected BoolTensor for mask, got {}", mask.dtype());
    }
    let shape = layout::broadcast("masked_select", mask.shape(), x.shape())?;
    let lifted: &[usize] = if shape.is_empty() { &[1] } else { &shape };
    let x = expanded(x, lifted)?;
    let mask = view::expand_to(&mask.detach(), lifted)?;
    let (x, places) = resolve("masked_select", &x, &[Some(mask)])?;
    places.take("MaskedSelectBackward0", &x)
}

/// `x` with one value, a tensor without dimensions, where a mask is true; the two are broadcast.
///
/// # Errors
/// The mask is not bool or does not broadcast; the value has dimensions, or the type of `x` cannot
/// hold it.
pub fn masked_fill(x: &Tensor, mask: &Tensor, value: &Tensor) -> Result<Tensor> {
    let wrapped = value.is_wrapped_number();
    fill_where(if wrapped { "MaskedFillBackward0" } else { "MaskedFillBackward1" }, x, mask, value)
}

/// [`masked_fill`] under the name of a node.
pub(super) fn fill_where(
    node: &'static str,
    x: &Tensor,
    mask: &Tensor,
    value: &Tensor,
) -> Result<Tensor> {
    struct Rule(&'static str);
    impl Op for Rule {
        fn name(&self) -> &'static str {
            self.0
        }

        fn attributes(&self) -> Attributes {
            vec![("mask", Attribute::Saved(0))]
        }

        fn hides(&self, input: usize) -> bool {
            input == 1
        }
        fn backward(&self, ctx: &Context, grads: &[Option<Tensor>]) -> Result<Gradients> {
            let Some(g) = &grads[0] else { return Ok(Gradients::new()) };
            let mask = ctx.saved(0);
            let zero = Tensor::wrapped(Scalar::Bool(false))?;
            let outside = if ctx.needs(0) { Some(masked_fill(g, mask, &zero)?) } else { None };
            let inside = if ctx.needs(1) { Some(binary::where_(mask, g, &zero)?) } else { None };
            Ok(smallvec![outside, inside])
        }
    }
    if mask.dtype() != DType::Bool {
        bail!(
            DType,
            "",
            "masked_fill_ only supports boolean masks, but got mask with dtype {}",
            mask.dtype()
        );
    }
    if value.ndim() > 0 {
        bail!(
            Shape,
            "",
            "masked_fill_ only supports a 0-dimensional value tensor, but got tensor with {} \
             dimension(s).",
            value.ndim()
        );
    }
    if x.is_batched() && !value.is_batched() {
        let ndim = x.ndim().max(mask.ndim());
        return lift::over_aligned([x, mask], ndim, |[x, mask], _| {
            fill_where(node, x, mask, value)
        });
    }
    create::check_value(value.item()?, x.dtype())?;
    let y = {
        let _off = ValuesOnly::new();
        let converted = Tensor::full(&[], value.item()?, x.dtype())?;
        let x = if x.is_wrapped_number() { cast::clone(x)? } else { x.clone() };
        binary::where_(mask, &converted, &x)?
    };
    if y.dtype().is_floating() && record::recording(&[x, value]) {
        record::record(&y, &[x, value], &[(0, mask)], Box::new(Rule(node)))?;
    }
    Ok(y)
}

fn named(indices: &[Tensor]) -> SmallVec<[Option<Tensor>; 4]> {
    indices.iter().cloned().map(Some).collect()
}

/// This family's rows.
pub const ROWS: &[Row] = &[
    Row::make(
        "nonzero",
        &["(input)", "(input, *, as_tuple: bool) -> Tensor[]"],
        FUNCTION | METHOD | OUT | NONDIFF,
        &[" The indices of the elements that are not zero, one row each, or one vector per axis."],
        |c| match c.overload == 1 && c.bool(1) {
            true => Ok(Output::Tensors(nonzero_columns(c.tensor(0))?)),
            false => Ok(nonzero(c.tensor(0))?.into()),
        },
    )
    .batched(Batching::Refuse(rules::DYNAMIC)),
    Row::make(
        "masked_select",
        &["(input, mask)"],
        FUNCTION | METHOD | OUT,
        &[" The elements where a mask is true, in row-major order."],
        |c| Ok(masked_select(c.tensor(0), c.tensor(1))?.into()),
    )
    .batched(Batching::Own(compose::masked_select)),
    Row::make(
        "masked_fill",
        &["(input, mask, value: Operand)"],
        FUNCTION | METHOD | INPLACE,
        &[" One value where a mask is true, the elements of `input` elsewhere."],
        |c| Ok(masked_fill(c.tensor(0), c.tensor(1), c.tensor(2))?.into()),
    )
    .batched(Batching::Own(compose::masked_fill)),
    Row::make(
        "index_put",
        &["(input, indices: Tensor[], values, accumulate: bool = False)"],
        FUNCTION | METHOD,
        &[" Writes, or adds, values to the elements that tensors name, one per axis."],
        |c| {
            let indices = named(c.tensors(1));
            Ok(index_put(c.tensor(0), &indices, c.tensor(2), c.bool(3))?.into())
        },
    )
    .batched(Batching::Own(compose::index_put)),
    Row::make(
        "index_put_",
        &["(input, indices: Tensor[], values, accumulate: bool = False)"],
        METHOD,
        &[" Writes, or adds, values to the elements that tensors name, one per axis; in place."],
        |c| {
            index_put_(c.tensor(0), &named(c.tensors(1)), c.tensor(2), c.bool(3))?;
            Ok(c.tensor(0).clone().into())
        },
    )
    .batched(Batching::Own(compose::index_put)),
];
