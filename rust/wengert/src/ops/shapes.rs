//! Views with a name of their own that are compositions of others.

use super::tags::*;
use super::view::{expand_to, reshape_to, transpose, unsqueeze, view};
use super::{Output, Row};
use crate::batch::{Batching, axes};
use crate::layout::{self, Dims, wrap_dim};
use crate::tensor::Tensor;
use crate::{DType, Result, bail};
use smallvec::SmallVec;

/// One axis as several, one of whose sizes may be -1.
///
/// # Errors
/// The sizes do not multiply up to that of the axis.
pub fn unflatten(x: &Tensor, dim: i64, sizes: &[i64]) -> Result<Tensor> {
    if sizes.is_empty() {
        bail!(Shape, "", "unflatten: sizes must be non-empty");
    }
    let d = wrap_dim(dim, x.ndim())?;
    let Some(&size) = x.shape().get(d) else {
        bail!(Index, "", "unflatten: the tensor has no dimensions");
    };
    let known: i64 = sizes.iter().filter(|&&s| s != -1).fold(1i64, |n, &s| n.saturating_mul(s));
    let unknown = sizes.iter().filter(|&&s| s == -1).count();
    if unknown > 1 {
        bail!(Shape, "", "unflatten: only one dimension can be inferred, got {sizes:?}");
    }
    let fits = match unknown {
        0 => known == size as i64,
        _ => known > 0 && size as i64 % known == 0,
    };
    if !fits || sizes.iter().any(|&s| s < -1) {
        bail!(
            Shape,
            "",
            "unflatten: Provided sizes {sizes:?} don't multiply up to the size of dim {d} ({size}) in \
             the input tensor"
        );
    }
    let mut shape: Dims = SmallVec::from_slice(&x.shape()[..d]);
    shape.extend(sizes.iter().map(|&s| if s == -1 { size / known as usize } else { s as usize }));
    shape.extend_from_slice(&x.shape()[d + 1..]);
    reshape_to(x, &shape)
}

/// A matrix transposed (`name` is how it was asked for); real numbers are their own conjugates.
///
/// # Errors
/// There is one dimension, or, where `square` asks for one matrix, more than two.
pub fn adjoint(x: &Tensor, name: &str, single: bool) -> Result<Tensor> {
    match x.ndim() {
        0 => Ok(x.clone()),
        2 => transpose(x, -2, -1),
        n if n > 2 && !single => transpose(x, -2, -1),
        n if single && n > 2 => bail!(
            Shape,
            "",
            "tensor.{name} is only supported on matrices (2-D tensors). Got {n}-D tensor. For \
             batches of matrices, consider using tensor.mH"
        ),
        n if single => bail!(
            Shape,
            "",
            "tensor.{name} is only supported on matrices (2-D tensors). Got {n}-D tensor."
        ),
        n => bail!(
            Shape,
            "",
            "tensor.{name} is only supported on matrices or batches of matrices. Got {n}-D tensor."
        ),
    }
}

/// With at least so many axes, as NumPy's functions of these names add them.
fn at_least(x: &Tensor, ndim: usize) -> Result<Tensor> {
    match (x.ndim(), ndim) {
        (0, 1) => reshape_to(x, &[1]),
        (0, 2) => reshape_to(x, &[1, 1]),
        (0, 3) => reshape_to(x, &[1, 1, 1]),
        (1, 2) => unsqueeze(x, 0),
        (1, 3) => unsqueeze(&unsqueeze(x, 0)?, -1),
        (2, 3) => unsqueeze(x, -1),
        _ => Ok(x.clone()),
    }
}

fn all_at_least(tensors: &[Tensor], ndim: usize) -> Result<Output> {
    Ok(tensors.iter().map(|t| at_least(t, ndim)).collect::<Result<Vec<_>>>()?.into())
}

/// The tensors expanded to their common shape.
fn broadcast_tensors(tensors: &[Tensor]) -> Result<Output> {
    let mut shape = Dims::new();
    for t in tensors {
        shape = layout::broadcast("broadcast_tensors", &shape, t.shape())?;
    }
    Ok(tensors.iter().map(|t| expand_to(t, &shape)).collect::<Result<Vec<_>>>()?.into())
}

const VIEWS: u32 = FUNCTION | METHOD | VIEW;

/// This family's rows.
pub const ROWS: &[Row] = &[
    Row::make(
        "unflatten",
        &["(input, dim: int, sizes: int[])"],
        VIEWS,
        &[" One axis as several; one of the sizes may be -1."],
        |c| Ok(unflatten(c.tensor(0), c.int(1), c.ints(2))?.into()),
    )
    .batched(Batching::Axes { extra: 0 }),
    Row::make(
        "ravel",
        &["(input)"],
        VIEWS,
        &[" All elements as a vector; a view where strides allow it, else a copy."],
        |c| {
            let x = c.tensor(0);
            if x.ndim() == 1 && x.is_contiguous() {
                return Ok(view(x, &[-1])?.into());
            }
            Ok(reshape_to(x, &[x.numel()])?.into())
        },
    )
    .batched(Batching::Own(axes::ravel)),
    Row::make(
        "adjoint",
        &["(input)"],
        VIEWS,
        &[" The last two axes swapped: the conjugate transpose of matrices of real numbers."],
        |c| Ok(adjoint(c.tensor(0), "adjoint()", false)?.into()),
    )
    .batched(Batching::Own(axes::adjoint)),
    Row::make(
        "positive",
        &["(input)"],
        VIEWS,
        &[" The tensor itself, which may not be of truth values."],
        |c| {
            if c.tensor(0).dtype() == DType::Bool {
                bail!(DType, "", "The `+` operator, on a bool tensor is not supported.");
            }
            Ok(c.tensor(0).clone().into())
        },
    )
    .batched(Batching::First),
    Row::make(
        "broadcast_tensors",
        &["(tensors: Tensor...) -> Tensor[]"],
        FUNCTION | VIEW,
        &[" Views of several tensors, expanded to the shape they have in common."],
        |c| broadcast_tensors(c.tensors(0)),
    ),
    Row::make(
        "atleast_1d",
        &["(input)", "(tensors: Tensor...) -> Tensor[]"],
        FUNCTION | VIEW,
        &[" With at least one axis; of several tensors, each."],
        |c| match c.overload {
            0 => Ok(at_least(c.tensor(0), 1)?.into()),
            _ => all_at_least(c.tensors(0), 1),
        },
    ),
    Row::make(
        "atleast_2d",
        &["(input)", "(tensors: Tensor...) -> Tensor[]"],
        FUNCTION | VIEW,
        &[" With at least two axes; of several tensors, each."],
        |c| match c.overload {
            0 => Ok(at_least(c.tensor(0), 2)?.into()),
            _ => all_at_least(c.tensors(0), 2),
        },
    ),
    Row::make(
        "atleast_3d",
        &["(input)", "(tensors: Tensor...) -> Tensor[]"],
        FUNCTION | VIEW,
        &[" With at least three axes; of several tensors, each."],
        |c| match c.overload {
            0 => Ok(at_least(c.tensor(0), 3)?.into()),
            _ => all_at_least(c.tensors(0), 3),
        },
    ),
];
