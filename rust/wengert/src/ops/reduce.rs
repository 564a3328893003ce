//! Reductions: sums, products, extrema, truth.

use super::tags::*;
use super::{Call, Row, view};
use crate::graph::{Context, Gradients, Op, record};
use crate::kernels::engine::Operand;
use crate::kernels::reduce::{self, Reduction};
use crate::layout::{Dims, Strides, wrap_dim};
use crate::tensor::Tensor;
use crate::{DType, Result, bail};
use smallvec::{SmallVec, smallvec};

type Mask = SmallVec<[bool; 8]>;

/// Which axes to reduce: those named, or all if none are.
pub(crate) fn axes(x: &Tensor, dims: Option<&[i64]>) -> Result<Mask> {
    let dims = dims.unwrap_or_default();
    let mut mask: Mask = smallvec![dims.is_empty(); x.ndim()];
    for &d in dims {
        let d = wrap_dim(d, x.ndim())?;
        if let Some(flag) = mask.get_mut(d) {
            if *flag {
                bail!(Shape, "", "dim {d} appears multiple times in the list of dims");
            }
            *flag = true;
        }
    }
    Ok(mask)
}

/// The shape with reduced axes of length 1, and the shape the user gets.
fn result_shapes(x: &Tensor, mask: &[bool], keepdim: bool) -> (Dims, Dims) {
    let kept: Dims = x.shape().iter().zip(mask).map(|(&s, &r)| if r { 1 } else { s }).collect();
    let user = if keepdim {
        kept.clone()
    } else {
        x.shape().iter().zip(mask).filter(|(_, r)| !**r).map(|(&s, _)| s).collect()
    };
    (kept, user)
}

/// Runs a reduction kernel.
#[allow(unsafe_code)]
fn run(
    op: &'static str,
    kind: Reduction,
    x: &Tensor,
    mask: &[bool],
    keepdim: bool,
    compute: DType,
    result: DType,
) -> Result<Tensor> {
    let (kept, user) = result_shapes(x, mask, keepdim);
    let out = Tensor::uninitialised(op, &user, result)?;
    let mut strides: Strides = crate::layout::contiguous_strides(&kept);
    for (s, &r) in strides.iter_mut().zip(mask) {
        if r {
            *s = 0;
        }
    }
    let output = Operand { ptr: out.data_ptr(), dtype: result, strides: &strides };
    // SAFETY: `x`'s layout lies inside its storage; `output` has one element for each index of the
    // kept axes, in new memory.
    unsafe { reduce::reduce(kind, compute, x.shape(), x.operand(), mask, output) };
    Ok(out)
}

/// A reduced gradient spread over the input's shape again.
pub(crate) fn unreduce(
    g: &Tensor,
    shape: &[usize],
    mask: &[bool],
    keepdim: bool,
) -> Result<Tensor> {
    let kept: Dims = shape.iter().zip(mask).map(|(&s, &r)| if r { 1 } else { s }).collect();
    let g = if keepdim { g.clone() } else { view::reshape_to(g, &kept)? };
    view::expand_to(&g, shape)
}

struct SumRule {
    name: &'static str,
    shape: Dims,
    mask: Mask,
    keepdim: bool,
    scale: Option<f64>,
}

impl Op for SumRule {
    fn name(&self) -> &'static str {
        self.name
    }

    fn backward(&self, _: &Context, grads: &[Option<Tensor>]) -> Result<Gradients> {
        let Some(g) = &grads[0] else { return Ok(smallvec![None]) };
        let g = match self.scale {
            Some(s) => g * s,
            None => g.clone(),
        };
        Ok(smallvec![Some(unreduce(&g, &self.shape, &self.mask, self.keepdim)?)])
    }
}

/// Sum over axes (all if none are named).
pub fn sum(
    x: &Tensor,
    dims: Option<&[i64]>,
    keepdim: bool,
    dtype: Option<DType>,
) -> Result<Tensor> {
    let mask = axes(x, dims)?;
    sum_axes(x, mask, keepdim, dtype, dims.is_none())
}

fn sum_axes(
    x: &Tensor,
    mask: Mask,
    keepdim: bool,
    dtype: Option<DType>,
    all: bool,
) -> Result<Tensor> {
    let result = dtype.unwrap_or(if x.dtype().is_integral() { DType::Int64 } else { x.dtype() });
    let y = run("sum", Reduction::Sum, x, &mask, keepdim, result.compute(), result)?;
    if result.is_floating() && record::recording(&[x]) {
        let name = if all { "SumBackward0" } else { "SumBackward1" };
        let shape = SmallVec::from_slice(x.shape());
        let rule = SumRule { name, shape, mask, keepdim, scale: None };
        record::record(&y, &[x], &[], Box::new(rule))?;
    }
    Ok(y)
}

/// Mean over axes (all if none are named).
pub fn mean(
    x: &Tensor,
    dims: Option<&[i64]>,
    keepdim: bool,
    dtype: Option<DType>,
) -> Result<Tensor> {
    let result = dtype.unwrap_or(x.dtype());
    if !result.is_floating() {
        let which = if dtype.is_some() { "Optional dtype" } else { "Input dtype" };
        bail!(
            DType,
            "",
            "mean(): could not infer output dtype. {which} must be either a floating point or complex \
             dtype. Got: {}",
            result.scalar_type_name()
        );
    }
    let mask = axes(x, dims)?;
    let count: usize = x.shape().iter().zip(&mask).filter(|(_, r)| **r).map(|(&s, _)| s).product();
    let _off = crate::graph::GradMode::new(false);
    let total = run("mean", Reduction::Sum, x, &mask, keepdim, result.compute(), result.compute())?;
    super::binary::div::run(
        [&total, &Tensor::wrapped((count as f64).into())?],
        super::Dest::Into(&total),
    )?;
    let y = super::cast::to_dtype(&total, result)?;
    drop(_off);
    if record::recording(&[x]) {
        let name = if dims.is_none() { "MeanBackward0" } else { "MeanBackward1" };
        let shape = SmallVec::from_slice(x.shape());
        let rule = SumRule { name, shape, mask, keepdim, scale: Some(1.0 / count as f64) };
        record::record(&y, &[x], &[], Box::new(rule))?;
    }
    Ok(y)
}

/// Whether a tensor of `shape` broadcasts to `target`.
pub(crate) fn is_expandable(shape: &[usize], target: &[usize]) -> bool {
    shape.len() <= target.len()
        && shape.iter().rev().zip(target.iter().rev()).all(|(&s, &t)| s == t || s == 1)
}

/// Sums a tensor down to a shape that broadcasts to its own.
pub fn sum_to_size(x: &Tensor, shape: &[usize]) -> Result<Tensor> {
    let new = x.ndim() - shape.len();
    let mask: Mask =
        (0..x.ndim()).map(|d| d < new || (shape[d - new] == 1 && x.shape()[d] != 1)).collect();
    if !mask.contains(&true) {
        return Ok(x.clone());
    }
    let y = sum_axes(x, mask, true, Some(x.dtype()), false)?;
    view::reshape_to(&y, shape)
}

/// Whether any element is non-zero.
pub(crate) fn any(x: &Tensor) -> Result<bool> {
    let mask: Mask = smallvec![true; x.ndim()];
    let y = run("any", Reduction::Any, x, &mask, false, x.dtype().compute(), DType::Bool)?;
    Ok(y.item()?.to_bool())
}

const DIM_ROW: &str = "(input, dim: int[]? = None, keepdim: bool = False, *, dtype: dtype? = None)";

/// This family's rows.
pub const ROWS: &[Row] = &[
    Row {
        name: "sum",
        aliases: &[],
        signatures: &[DIM_ROW],
        doc: &[" Sum over the given axes, or over all. Whole numbers are summed in int64."],
        tags: FUNCTION | METHOD | OUT,
        call: Call::Make(
            |c| Ok(sum(c.tensor(0), c.opt_ints(1), c.bool(2), c.opt_dtype(3))?.into()),
        ),
    },
    Row {
        name: "mean",
        aliases: &[],
        signatures: &[DIM_ROW],
        doc: &[" Mean over the given axes, or over all. Floating types only."],
        tags: FUNCTION | METHOD | OUT,
        call: Call::Make(|c| {
            Ok(mean(c.tensor(0), c.opt_ints(1), c.bool(2), c.opt_dtype(3))?.into())
        }),
    },
];
