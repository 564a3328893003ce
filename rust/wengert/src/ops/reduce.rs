//! Reductions that add, multiply, count and ask: `sum`, `mean`, `prod`, `any`, `all` and kin.
//!
//! The frame here (which axes, which shape, how a gradient is spread out again) also serves the
//! other reductions: [`extrema`](super::extrema), [`moments`](super::moments) and
//! [`norm`](super::norm).

use super::tags::*;
use super::view::{Take, embed, index_view};
use super::{Call, Row, binary, cast, compare, unary, view};
use crate::batch::{Batching, axes, lift};
use crate::graph::{Attribute, Attributes, Context, Gradients, Op, forward::linear, record};
use crate::kernels::engine::Operand;
use crate::kernels::reduce::{self, Reduction};
use crate::layout::{Dims, Strides, wrap_dim};
use crate::tensor::Tensor;
use crate::{DType, Result, bail};
use smallvec::{SmallVec, smallvec};

pub(crate) type Mask = SmallVec<[bool; 8]>;

/// Which axes to reduce: those named, or all if none are.
pub(crate) fn axes(x: &Tensor, dims: Option<&[i64]>) -> Result<Mask> {
    let dims = dims.unwrap_or_default();
    let mut mask: Mask = smallvec![dims.is_empty(); x.ndim()];
    let mut scalar_seen = false;
    for &d in dims {
        let d = wrap_dim(d, x.ndim())?;
        // A number has no axes, but takes the names 0 and -1 for one, once.
        let flag = mask.get_mut(d).unwrap_or(&mut scalar_seen);
        if *flag {
            bail!(Shape, "", "dim {d} appears multiple times in the list of dims");
        }
        *flag = true;
    }
    Ok(mask)
}

/// How many elements go into one result.
pub(crate) fn count(x: &Tensor, mask: &[bool]) -> usize {
    x.shape().iter().zip(mask).filter(|(_, r)| **r).map(|(&s, _)| s).product()
}

/// The shape with reduced axes of length 1.
pub(crate) fn kept_shape(shape: &[usize], mask: &[bool]) -> Dims {
    shape.iter().zip(mask).map(|(&s, &r)| if r { 1 } else { s }).collect()
}

/// The shape the user gets.
fn user_shape(x: &Tensor, mask: &[bool], keepdim: bool) -> Dims {
    if keepdim {
        return kept_shape(x.shape(), mask);
    }
    x.shape().iter().zip(mask).filter(|(_, r)| !**r).map(|(&s, _)| s).collect()
}

/// A new tensor for the results of a reduction, and its strides for the axes of `x`.
pub(crate) fn result(
    op: &'static str,
    x: &Tensor,
    mask: &[bool],
    keepdim: bool,
    dtype: DType,
) -> Result<(Tensor, Strides)> {
    let out = Tensor::uninitialised(op, &user_shape(x, mask, keepdim), dtype)?;
    let mut strides = crate::layout::contiguous_strides(&kept_shape(x.shape(), mask));
    for (s, &r) in strides.iter_mut().zip(mask) {
        if r {
            *s = 0;
        }
    }
    Ok((out, strides))
}

/// Runs a reduction kernel; nothing is recorded.
#[allow(unsafe_code)]
pub(crate) fn run(
    op: &'static str,
    kind: Reduction,
    x: &Tensor,
    mask: &[bool],
    keepdim: bool,
    dtype: DType,
) -> Result<Tensor> {
    let compute = match kind {
        Reduction::Any | Reduction::All => DType::Bool,
        Reduction::Sum | Reduction::Prod if dtype.is_integral() => DType::Int64,
        Reduction::Sum | Reduction::Prod => dtype.compute(),
        _ => x.dtype().compute(),
    };
    let (out, strides) = result(op, x, mask, keepdim, dtype)?;
    let output = Operand { ptr: out.data_ptr(), dtype, strides: &strides };
    // SAFETY: `x`'s layout lies inside its storage; `output` has one element for each index of the
    // kept axes, in new memory.
    unsafe { reduce::reduce(kind, compute, x.shape(), x.operand(), mask, output) };
    Ok(out)
}

/// A reduced tensor with its reduced axes back, as axes of length 1.
pub(crate) fn with_axes(
    t: &Tensor,
    shape: &[usize],
    mask: &[bool],
    keepdim: bool,
) -> Result<Tensor> {
    if keepdim { Ok(t.clone()) } else { view::reshape_to(t, &kept_shape(shape, mask)) }
}

/// A reduced gradient spread over the input's shape again.
pub(crate) fn unreduce(
    g: &Tensor,
    shape: &[usize],
    mask: &[bool],
    keepdim: bool,
) -> Result<Tensor> {
    if g.ndim() == 0 {
        return view::expand_to(g, shape);
    }
    view::expand_to(&with_axes(g, shape, mask, keepdim)?, shape)
}

struct SumRule {
    name: &'static str,
    shape: Dims,
    mask: Mask,
    keepdim: bool,
    scale: Option<f64>,
}

impl SumRule {
    /// Whether the call named no axes.
    fn all(&self) -> bool {
        self.name.ends_with("Backward0")
    }
}

impl Op for SumRule {
    fn name(&self) -> &'static str {
        self.name
    }

    fn attributes(&self) -> Attributes {
        let mut list = vec![("self_sym_sizes", Attribute::sizes(&self.shape))];
        if self.scale.is_some() {
            list.push(("self_sym_numel", Attribute::int(self.shape.iter().product::<usize>())));
        }
        if self.name.ends_with('1') {
            list.push(("dim", Attribute::axes(&self.mask)));
            list.push(("keepdim", Attribute::bool(self.keepdim)));
        }
        list
    }

    fn backward(&self, _: &Context, grads: &[Option<Tensor>]) -> Result<Gradients> {
        let Some(g) = &grads[0] else { return Ok(smallvec![None]) };
        let g = match self.scale {
            Some(s) => g * s,
            None => g.clone(),
        };
        Ok(smallvec![Some(unreduce(&g, &self.shape, &self.mask, self.keepdim)?)])
    }

    fn jvp(&self, _: &Context, v: &[Option<Tensor>], y: &[&Tensor]) -> Result<Option<Gradients>> {
        linear(v, |v| {
            let mask = self.mask.clone();
            let total = sum_axes(v, mask, self.keepdim, Some(y[0].dtype()), self.all())?;
            Ok(match self.scale {
                Some(s) => total * s,
                None => total,
            })
        })
    }
}

/// The type of a sum or product: whole numbers and truth values are added in int64.
fn total_dtype(x: &Tensor, dtype: Option<DType>) -> DType {
    dtype.unwrap_or(if x.dtype().is_integral() { DType::Int64 } else { x.dtype() })
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
    if x.is_batched() {
        return lift::over(x, |x, k| {
            sum_axes(x, lift::behind(k, false, &mask), keepdim, dtype, all && k == 0)
        });
    }
    let dtype = total_dtype(x, dtype);
    let y = run("sum", Reduction::Sum, x, &mask, keepdim, dtype)?;
    if dtype.is_floating() && record::recording(&[x]) {
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
    if x.is_batched() {
        let mask = axes(x, dims)?;
        let total = sum_axes(x, mask.clone(), keepdim, Some(result), false)?;
        return binary::div(&total, &binary::number(count(x, &mask) as f64)?);
    }
    let mask = axes(x, dims)?;
    let count = count(x, &mask);
    let total = run("mean", Reduction::Sum, x, &mask, keepdim, result.compute())?;
    binary::div::run([&total, &binary::number(count as f64)?], super::Dest::Into(&total))?;
    let y = cast::to_dtype(&total, result)?;
    if record::recording(&[x]) {
        let name = if dims.is_none() { "MeanBackward0" } else { "MeanBackward1" };
        let shape = SmallVec::from_slice(x.shape());
        let rule = SumRule { name, shape, mask, keepdim, scale: Some(1.0 / count as f64) };
        record::record(&y, &[x], &[], Box::new(rule))?;
    }
    Ok(y)
}

/// Sum over axes (all if none are named), NaN counted as 0.
pub fn nansum(
    x: &Tensor,
    dims: Option<&[i64]>,
    keepdim: bool,
    dtype: Option<DType>,
) -> Result<Tensor> {
    struct Rule(Mask, bool, bool);
    impl Op for Rule {
        fn name(&self) -> &'static str {
            "NansumBackward0"
        }

        fn attributes(&self) -> Attributes {
            vec![
                ("self", Attribute::Saved(0)),
                ("dim", Attribute::named_axes(&self.0, self.2)),
                ("keepdim", Attribute::bool(self.1)),
            ]
        }
        fn backward(&self, ctx: &Context, grads: &[Option<Tensor>]) -> Result<Gradients> {
            let Some(g) = &grads[0] else { return Ok(smallvec![None]) };
            let x = ctx.saved(0);
            let g = with_axes(g, x.shape(), &self.0, self.1)?;
            let zero = binary::number(0.0)?;
            Ok(smallvec![Some(binary::where_(&unary::isnan(x)?, &zero, &g)?)])
        }
    }
    if !x.dtype().is_floating() {
        return sum(x, dims, keepdim, dtype);
    }
    let mask = axes(x, dims)?;
    let zero = binary::number(0.0)?;
    let clean = binary::where_(&unary::isnan(x)?, &zero, &x.detach())?;
    let y = run("nansum", Reduction::Sum, &clean, &mask, keepdim, dtype.unwrap_or(x.dtype()))?;
    if y.dtype().is_floating() && record::recording(&[x]) {
        record::record(&y, &[x], &[(0, x)], Box::new(Rule(mask, keepdim, dims.is_some())))?;
    }
    Ok(y)
}

/// The number of elements that are not zero, over axes (all if none are named).
pub fn count_nonzero(x: &Tensor, dims: Option<&[i64]>) -> Result<Tensor> {
    let nonzero = compare::ne(&x.detach(), &binary::number(0.0)?)?;
    sum(&nonzero, dims, false, None)
}

/// Product over one axis, or over all.
pub fn prod(x: &Tensor, dim: Option<i64>, keepdim: bool, dtype: Option<DType>) -> Result<Tensor> {
    let dims = dim.as_ref().map(std::slice::from_ref);
    let mask = axes(x, dims)?;
    let dtype = total_dtype(x, dtype);
    let y = run("prod", Reduction::Prod, x, &mask, keepdim, dtype)?;
    if dtype.is_floating() && record::recording(&[x]) {
        let rule = ProdRule { mask, keepdim, all: dim.is_none() };
        record::record(&y, &[x], &[(0, x), (1, &y)], Box::new(rule))?;
    }
    Ok(y)
}

struct ProdRule {
    mask: Mask,
    keepdim: bool,
    all: bool,
}

impl Op for ProdRule {
    fn name(&self) -> &'static str {
        if self.all { "ProdBackward0" } else { "ProdBackward1" }
    }

    fn attributes(&self) -> Attributes {
        let mut list = vec![("self", Attribute::Saved(0)), ("result", Attribute::Saved(1))];
        if !self.all {
            let dim = self.mask.iter().position(|&r| r).unwrap_or(0);
            list.push(("dim", Attribute::int(dim)));
            list.push(("keepdim", Attribute::bool(self.keepdim)));
        }
        list
    }

    /// `g · y / x`. Where a product is zero, by a zero factor or by underflow, the product of the
    /// others is built without division instead.
    fn backward(&self, ctx: &Context, grads: &[Option<Tensor>]) -> Result<Gradients> {
        let Some(g) = &grads[0] else { return Ok(smallvec![None]) };
        let (x, y) = (ctx.saved(0), ctx.saved(1));
        let shape = x.shape();
        let g = with_axes(g, shape, &self.mask, self.keepdim)?;
        if !any(&unary::logical_not(y)?)? {
            let y = with_axes(y, shape, &self.mask, self.keepdim)?;
            return Ok(smallvec![Some(g * y / x)]);
        }
        let gradient = match self.mask.iter().position(|&r| r) {
            None => g,
            Some(dim) if !self.all => product_of_others(&g, x, dim)?,
            Some(_) => {
                let flat = view::reshape_to(x, &[x.numel()])?;
                let others = product_of_others(&view::reshape_to(&g, &[1])?, &flat, 0)?;
                view::reshape_to(&others, shape)?
            }
        };
        Ok(smallvec![Some(gradient)])
    }
}

/// A part of an axis, and the whole of the others.
pub(crate) fn part(shape: &[usize], dim: usize, start: usize, len: usize) -> SmallVec<[Take; 5]> {
    let mut takes: SmallVec<[Take; 5]> = shape.iter().map(|&s| Take::all(s)).collect();
    takes[dim] = Take::Range { start, step: 1, len };
    takes
}

/// `t` followed by `value`s up to `length` along `dim`, after `start` of them.
pub(crate) fn pad(
    t: &Tensor,
    dim: usize,
    start: usize,
    length: usize,
    value: f64,
) -> Result<Tensor> {
    let mut shape: Dims = SmallVec::from_slice(t.shape());
    let takes = {
        let n = shape[dim];
        shape[dim] = length;
        part(&shape, dim, start, n)
    };
    let whole = embed(t, &shape, &takes)?;
    if value == 0.0 {
        return Ok(whole);
    }
    let border = view::erase(&Tensor::full(&shape, value, t.dtype())?, &takes)?;
    binary::add(&whole, &border)
}

/// `g` times the product of all elements along `dim` but the one at each place.
///
/// Products of pairs, then of pairs of pairs, up a tree; then down again, where each half gets
/// what came from above times the other half. Nothing is divided, so zeros need no care, and all
/// is differentiable any number of times.
fn product_of_others(g: &Tensor, x: &Tensor, dim: usize) -> Result<Tensor> {
    let n = x.shape()[dim];
    let halves = |t: &Tensor| -> Result<(Tensor, Tensor)> {
        let h = t.shape()[dim] / 2;
        let half = |start| index_view("SliceBackward0", t, &part(t.shape(), dim, start, h));
        Ok((half(0)?, half(h)?))
    };
    let mut levels = vec![pad(x, dim, 0, n.next_power_of_two(), 1.0)?];
    while let Some(last) = levels.last()
        && last.shape()[dim] > 1
    {
        let (a, b) = halves(last)?;
        levels.push(binary::mul(&a, &b)?);
    }
    levels.pop();
    let mut others = g.clone();
    for level in levels.iter().rev() {
        let (a, b) = halves(level)?;
        let (h, size) = (a.shape()[dim], level.shape()[dim]);
        let low = pad(&binary::mul(&others, &b)?, dim, 0, size, 0.0)?;
        let high = pad(&binary::mul(&others, &a)?, dim, h, size, 0.0)?;
        others = binary::add(&low, &high)?;
    }
    index_view("SliceBackward0", &others, &part(others.shape(), dim, 0, n))
}

/// Whether a tensor of `shape` broadcasts to `target`.
pub fn is_expandable(shape: &[usize], target: &[usize]) -> bool {
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
pub fn any(x: &Tensor) -> Result<bool> {
    truth("any", Reduction::Any, x, None, false)?.item().map(|v| v.to_bool())
}

/// Whether no element is zero.
pub fn all(x: &Tensor) -> Result<bool> {
    truth("all", Reduction::All, x, None, false)?.item().map(|v| v.to_bool())
}

/// `any` and `all`. An empty list of axes, unlike none, reduces nothing; uint8 stays uint8.
fn truth(
    op: &'static str,
    kind: Reduction,
    x: &Tensor,
    dims: Option<&[i64]>,
    keepdim: bool,
) -> Result<Tensor> {
    let mask = match dims {
        Some([]) => smallvec![false; x.ndim()],
        _ => axes(x, dims)?,
    };
    let dtype = if x.dtype() == DType::UInt8 { DType::UInt8 } else { DType::Bool };
    run(op, kind, x, &mask, keepdim, dtype)
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
        batch: Batching::Reduce,
        call: Call::Make(
            |c| Ok(sum(c.tensor(0), c.opt_ints(1), c.bool(2), c.opt_dtype(3))?.into()),
        ),
    },
    Row {
        name: "nansum",
        aliases: &[],
        signatures: &[DIM_ROW],
        doc: &[" Sum over the given axes, or over all, NaN counted as 0."],
        tags: FUNCTION | METHOD | OUT,
        batch: Batching::Reduce,
        call: Call::Make(|c| {
            Ok(nansum(c.tensor(0), c.opt_ints(1), c.bool(2), c.opt_dtype(3))?.into())
        }),
    },
    Row {
        name: "mean",
        aliases: &[],
        signatures: &[DIM_ROW],
        doc: &[" Mean over the given axes, or over all. Floating types only."],
        tags: FUNCTION | METHOD | OUT,
        batch: Batching::Reduce,
        call: Call::Make(|c| {
            Ok(mean(c.tensor(0), c.opt_ints(1), c.bool(2), c.opt_dtype(3))?.into())
        }),
    },
    Row {
        name: "prod",
        aliases: &[],
        signatures: &[
            "(input, *, dtype: dtype? = None)",
            "(input, dim: int, keepdim: bool = False, *, dtype: dtype? = None)",
        ],
        doc: &[" Product over one axis, or over all. Whole numbers are multiplied in int64."],
        tags: FUNCTION | METHOD | OUT,
        batch: Batching::Own(axes::flat_reduce),
        call: Call::Make(|c| match c.overload {
            0 => Ok(prod(c.tensor(0), None, false, c.opt_dtype(1))?.into()),
            _ => Ok(prod(c.tensor(0), Some(c.int(1)), c.bool(2), c.opt_dtype(3))?.into()),
        }),
    },
    Row {
        name: "any",
        aliases: &[],
        signatures: &["(input, dim: int[]? = None, keepdim: bool = False)"],
        doc: &[" Whether any element along the given axes, or at all, is not zero."],
        tags: FUNCTION | METHOD | OUT | NONDIFF,
        batch: Batching::Reduce,
        call: Call::Make(|c| {
            let (dims, keepdim) = (c.opt_ints(1), c.bool(2));
            Ok(truth("any", Reduction::Any, c.tensor(0), dims, keepdim)?.into())
        }),
    },
    Row {
        name: "all",
        aliases: &[],
        signatures: &["(input, dim: int[]? = None, keepdim: bool = False)"],
        doc: &[" Whether no element along the given axes, or at all, is zero."],
        tags: FUNCTION | METHOD | OUT | NONDIFF,
        batch: Batching::Reduce,
        call: Call::Make(|c| {
            let (dims, keepdim) = (c.opt_ints(1), c.bool(2));
            Ok(truth("all", Reduction::All, c.tensor(0), dims, keepdim)?.into())
        }),
    },
    Row {
        name: "count_nonzero",
        aliases: &[],
        signatures: &["(input, dim: int[]? = None)"],
        doc: &[" The number of elements along the given axes, or in all, that are not zero."],
        tags: FUNCTION | METHOD | NONDIFF,
        batch: Batching::Reduce,
        call: Call::Make(|c| Ok(count_nonzero(c.tensor(0), c.opt_ints(1))?.into())),
    },
];
