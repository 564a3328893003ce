//! Slices along one axis, which a vector names: `index_select`, `index_add` and relatives.
//!
//! As in [`index`](super::index), a function checks its arguments, turns its vector into [`Places`],
//! and applies one of the maps there. A tensor without dimensions counts as a vector of one element.

use super::index::{is_index, lifted, out_of_bounds, out_of_range, write_to};
use super::places::{Outside, Places, Positions};
use super::select::fill_where;
use super::tags::*;
use super::{Call, Dest, Row, create, view};
use crate::batch::{Batching, compose};
use crate::layout::wrap_dim;
use crate::tensor::Tensor;
use crate::{DType, Error, Result, Scalar, bail};

/// The places of slices along an axis. `vector` says the index as errors name it.
fn slices(
    op: &'static str,
    x: &Tensor,
    d: usize,
    index: &Tensor,
    error: impl FnOnce(&Outside) -> Error,
) -> Result<Places> {
    if index.ndim() > 1 {
        bail!(
            Index,
            "",
            "{op}(): Index is supposed to be a vector, but got dim: {} with type: {} and size: {:?}",
            index.ndim(),
            index.dtype().scalar_type_name(),
            index.shape()
        );
    }
    if !is_index(index) {
        bail!(DType, "", "{op}(): Expected dtype int32 or int64 for index, got {}", index.dtype());
    }
    let index = lifted(index)?;
    match Positions::of(&index, x.shape()[d], false)? {
        Ok(positions) => Ok(Places::across(x.shape(), index.shape(), vec![(d, positions)])),
        Err(outside) => Err(error(&outside)),
    }
}

/// The slices of `x` along an axis that a vector names, in its order.
///
/// # Errors
/// The index is no vector of integers, or leads outside.
pub fn index_select(x: &Tensor, dim: i64, index: &Tensor) -> Result<Tensor> {
    let d = wrap_dim(dim, x.ndim())?;
    let whole = lifted(x)?;
    let size = whole.shape()[d];
    let places = slices("index_select", &whole, d, index, |outside| {
        out_of_range("index_select", index, outside, size)
    })?;
    if x.ndim() > 0 {
        return places.take("IndexSelectBackward0", &whole);
    }
    if index.numel() != 1 {
        bail!(
            Shape,
            "",
            "index_select(): Index to scalar can have only 1 value, got {} value(s)",
            index.numel()
        );
    }
    view::reshape_to(&places.take("IndexSelectBackward0", &whole)?, &[])
}

/// `x` with slices of `source` added, or written, to its slices along an axis that a vector names.
///
/// # Errors
/// The index is no vector of integers, or leads outside; `source` has another shape or type.
pub fn index_add(
    x: &Tensor,
    dim: i64,
    index: &Tensor,
    source: &Tensor,
    add: bool,
    dest: Dest,
) -> Result<Tensor> {
    let (op, node) = match add {
        true => ("index_add_", "IndexAddBackward0"),
        false => ("index_copy_", "IndexCopyBackward0"),
    };
    let d = wrap_dim(dim, x.ndim())?;
    if source.dtype() != x.dtype() {
        bail!(
            DType,
            "",
            "{op}(): self ({}) and source ({}) must have the same scalar type",
            x.dtype().scalar_type_name(),
            source.dtype().scalar_type_name()
        );
    }
    let (whole, source) = (lifted(x)?, lifted(source)?);
    let places = slices(op, &whole, d, index, |outside| {
        out_of_bounds(op, index, outside, d, whole.shape()[d])
    })?;
    if source.ndim() != whole.ndim() || source.shape()[d] != index.numel() {
        bail!(
            Shape,
            "",
            "{op}(): Number of indices ({}) should be equal to source.size(dim): ({}), for dim: {d}",
            index.numel(),
            source.shape().get(d).copied().unwrap_or(0)
        );
    }
    if source.shape() != places.shape() {
        bail!(
            Shape,
            "",
            "source tensor shape must match self tensor shape, excluding the specified dimension. Got \
             self.shape = {:?} source.shape = {:?}",
            x.shape(),
            source.shape()
        );
    }
    let make = || {
        let y = match add {
            true => places.add(node, &whole, &source),
            false => places.put(node, &whole, &source),
        }?;
        if x.ndim() == 0 { view::reshape_to(&y, &[]) } else { Ok(y) }
    };
    write_to(op, dest, x, make, |out| places.write(out, &source, add))
}

/// `x` with one value, a number or a tensor without dimensions, in its slices along an axis that a
/// vector names.
///
/// # Errors
/// The index is no vector of integers, or leads outside; the value has dimensions, or the type
/// cannot hold it.
pub fn index_fill(
    x: &Tensor,
    dim: i64,
    index: &Tensor,
    value: &Tensor,
    dest: Dest,
) -> Result<Tensor> {
    let d = wrap_dim(dim, x.ndim())?;
    if value.ndim() > 0 {
        bail!(
            Shape,
            "",
            "index_fill_ only supports a 0-dimensional value tensor, but got tensor with {} \
             dimension(s).",
            value.ndim()
        );
    }
    let number = value.item()?;
    create::check_value(number, x.dtype())?;
    let whole = lifted(x)?;
    let places = slices("index_fill_", &whole, d, index, |outside| {
        out_of_bounds("index_fill_", index, outside, d, whole.shape()[d])
    })?;
    let make = || {
        let y = if value.is_wrapped_number() {
            places.put_number("IndexFillBackward0", &whole, number)?
        } else {
            // A place named twice counts once.
            let nowhere = Tensor::zeros(whole.shape(), DType::Bool)?;
            let mask = places.put_number("", &nowhere, Scalar::Bool(true))?;
            fill_where("IndexFillBackward1", &whole, &mask, value)?
        };
        if x.ndim() == 0 { view::reshape_to(&y, &[]) } else { Ok(y) }
    };
    write_to("index_fill_", dest, x, make, |out| {
        places.write(out, &Tensor::full(places.shape(), number, x.dtype())?, false)
    })
}

/// This family's rows.
pub const ROWS: &[Row] = &[
    Row::make(
        "index_select",
        &["(input, dim: int, index)"],
        FUNCTION | METHOD | OUT,
        &[" The slices along an axis that a vector names, in its order."],
        |c| Ok(index_select(c.tensor(0), c.int(1), c.tensor(2))?.into()),
    )
    .batched(Batching::Own(compose::at_index)),
    Row {
        name: "index_add",
        aliases: &[],
        signatures: &["(input, dim: int, index, source, *, alpha: Number = 1)"],
        doc: &[
            " Adds `alpha` times slices of `source` to the slices that a vector names, in order.",
        ],
        tags: ALL_FORMS,
        batch: Batching::Own(compose::at_index),
        call: Call::Into(|c, dest| {
            let scaled;
            let source = match c.number(4) {
                Scalar::Int(1) => c.tensor(3),
                alpha => {
                    let factor = Tensor::full(&[], alpha, c.tensor(3).dtype())?;
                    scaled = super::mul(c.tensor(3), &factor)?;
                    &scaled
                }
            };
            index_add(c.tensor(0), c.int(1), c.tensor(2), source, true, dest)
        }),
    },
    Row {
        name: "index_copy",
        aliases: &[],
        signatures: &["(input, dim: int, index, source)"],
        doc: &[" Writes slices of `source` to the slices that a vector names, in order."],
        tags: ALL_FORMS,
        batch: Batching::Own(compose::at_index),
        call: Call::Into(|c, dest| {
            index_add(c.tensor(0), c.int(1), c.tensor(2), c.tensor(3), false, dest)
        }),
    },
    Row {
        name: "index_fill",
        aliases: &[],
        signatures: &["(input, dim: int, index, value: Operand)"],
        doc: &[" Writes one value to the slices that a vector names."],
        tags: FUNCTION | METHOD | INPLACE,
        batch: Batching::Own(compose::at_index),
        call: Call::Into(|c, dest| {
            index_fill(c.tensor(0), c.int(1), c.tensor(2), c.tensor(3), dest)
        }),
    },
];
