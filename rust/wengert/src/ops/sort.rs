//! Order along an axis: sorting, the largest, the middle.
//!
//! All of these choose elements, so all are a vector of positions and a `gather`: their gradient goes
//! to where the elements came from. NaN is larger than every number, as in PyTorch and NumPy, and ties
//! stand in the order of their positions, so that there is one answer.

use super::index::{Scattered, gather, scatter};
use super::places::Combine;
use super::tags::*;
use super::view::{movedim, narrow, reshape_to, squeeze};
use super::{Args, Dest, NamedFields, Output, Row, binary, cast, compare, reduce, unary};
use crate::batch::Batching;
use crate::dtype::Element;
use crate::graph::{Attribute, Attributes, Context, Gradients, Op, ValuesOnly, record};
use crate::kernels::interrupt::Patience;
use crate::layout::{Dims, wrap_dim};
use crate::tensor::Tensor;
use crate::{DType, Result, Scalar, bail, dispatch};
use smallvec::smallvec;
use std::cmp::Ordering;

/// The order of numbers, with NaN last.
fn by_value<T: PartialOrd>(a: &T, b: &T) -> Ordering {
    #[allow(clippy::eq_op)]
    let is_nan = |x: &T| x.partial_cmp(x).is_none();
    a.partial_cmp(b).unwrap_or_else(|| is_nan(a).cmp(&is_nan(b)))
}

/// Positions that put each row of so many elements in order.
fn sorted_rows<T: Element + PartialOrd>(
    x: &Tensor,
    length: usize,
    descending: bool,
) -> Result<Vec<i64>> {
    let values = x.to_vec::<T>()?;
    let mut out = Vec::with_capacity(values.len());
    let mut patience = Patience::new();
    let mut steps = 0u32;
    let mut row: Vec<(T, i64)> = Vec::with_capacity(length);
    for part in values.chunks_exact(length.max(1)) {
        row.clear();
        row.extend(part.iter().zip(0..).map(|(&v, i)| (v, i)));
        row.sort_unstable_by(|a, b| {
            // A sort may take long, and may be left at any comparison.
            steps = steps.wrapping_add(1);
            if steps.is_multiple_of(65536) {
                patience.look();
            }
            let order = by_value(&a.0, &b.0);
            let order = if descending { order.reverse() } else { order };
            order.then(a.1.cmp(&b.1))
        });
        out.extend(row.iter().map(|(_, i)| *i));
    }
    Ok(out)
}

/// Positions along `dim` in order; nothing is recorded.
fn positions(x: &Tensor, dim: usize, descending: bool) -> Result<Tensor> {
    let _off = ValuesOnly::new();
    if x.ndim() == 0 {
        return Tensor::zeros(&[], DType::Int64);
    }
    let last = movedim(&x.detach(), &[dim as i64], &[-1])?;
    let length = x.shape()[dim];
    let all = dispatch!(x.dtype(), T => sorted_rows::<T>(&last, length, descending)?);
    let order = Tensor::from_slice(&all, last.shape())?;
    cast::contiguous(&movedim(&order, &[-1], &[dim as i64])?)
}

/// Elements at positions along an axis, recorded under a name of its own.
fn chosen(node: &'static str, x: &Tensor, dim: usize, indices: &Tensor) -> Result<Tensor> {
    struct Rule(&'static str, Dims, usize);
    impl Op for Rule {
        fn name(&self) -> &'static str {
            self.0
        }

        fn attributes(&self) -> Attributes {
            vec![
                ("indices", Attribute::Saved(0)),
                ("dim", Attribute::int(self.2)),
                ("self_sym_sizes", Attribute::sizes(&self.1)),
            ]
        }

        fn backward(&self, ctx: &Context, grads: &[Option<Tensor>]) -> Result<Gradients> {
            let Some(g) = &grads[0] else { return Ok(smallvec![None]) };
            let (index, dim) = (ctx.saved(0), self.2 as i64);
            if self.1.is_empty() {
                return Ok(smallvec![Some(g.clone())]);
            }
            let zeros = Tensor::zeros(&self.1, g.dtype())?;
            let gradient =
                scatter(&zeros, dim, index, Scattered::Elements(g), Combine::Add, Dest::New)?;
            Ok(smallvec![Some(gradient)])
        }

        fn jvp(
            &self,
            ctx: &Context,
            v: &[Option<Tensor>],
            _: &[&Tensor],
        ) -> Result<Option<Gradients>> {
            let Some(v) = &v[0] else { return Ok(Some(smallvec![None])) };
            let y =
                if self.1.is_empty() { v.clone() } else { gather(v, self.2 as i64, ctx.saved(0))? };
            Ok(Some(smallvec![Some(y)]))
        }
    }
    let y = {
        let _off = ValuesOnly::new();
        let x = x.detach();
        if x.ndim() == 0 { cast::clone(&x)? } else { gather(&x, dim as i64, indices)? }
    };
    if record::recording(&[x]) {
        let rule = Rule(node, Dims::from_slice(x.shape()), dim);
        record::record(&y, &[x], &[(0, indices)], Box::new(rule))?;
    }
    Ok(y)
}

/// The elements in order along an axis, and where they were.
///
/// # Errors
/// There is no such axis.
pub fn sort(x: &Tensor, dim: i64, descending: bool) -> Result<[Tensor; 2]> {
    sorted("SortBackward0", x, dim, descending)
}

fn sorted(node: &'static str, x: &Tensor, dim: i64, descending: bool) -> Result<[Tensor; 2]> {
    let d = wrap_dim(dim, x.ndim())?;
    let indices = positions(x, d, descending)?;
    Ok([chosen(node, x, d, &indices)?, indices])
}

/// The `k` largest or smallest elements along an axis, in order, and where they are.
fn topk(x: &Tensor, k: i64, dim: i64, largest: bool) -> Result<[Tensor; 2]> {
    let d = wrap_dim(dim, x.ndim())?;
    let size = x.shape().get(d).map_or(1, |&s| s as i64);
    if k < 0 || k > size {
        bail!(Value, "", "selected index k out of range");
    }
    let indices = if x.ndim() == 0 {
        Tensor::zeros(&[], DType::Int64)?
    } else {
        let _off = ValuesOnly::new();
        cast::clone(&narrow(&positions(x, d, largest)?, d as i64, 0, k)?)?
    };
    Ok([chosen("TopkBackward0", x, d, &indices)?, indices])
}

/// One element of each row, by its place in the order, which may differ from row to row.
fn at_place(
    node: &'static str,
    x: &Tensor,
    d: usize,
    keepdim: bool,
    place: impl FnOnce() -> Result<Tensor>,
) -> Result<[Tensor; 2]> {
    let indices = if x.ndim() == 0 {
        Tensor::zeros(&[], DType::Int64)?
    } else {
        let _off = ValuesOnly::new();
        let order = positions(x, d, false)?;
        gather(&order, d as i64, &place()?)?
    };
    let values = chosen(node, x, d, &indices)?;
    if keepdim || x.ndim() == 0 {
        return Ok([values, indices]);
    }
    let drop = |t: &Tensor| squeeze(t, Some(&[d as i64]));
    Ok([drop(&values)?, drop(&indices)?])
}

/// The axis of a reduction to one element, which must not be empty.
fn reduced_axis(name: &str, x: &Tensor, dim: i64) -> Result<usize> {
    let d = wrap_dim(dim, x.ndim())?;
    if x.shape().get(d) == Some(&0) {
        bail!(Index, "", "{name}(): Expected reduction dim {d} to have non-zero size.");
    }
    Ok(d)
}

/// A position, the same for all rows.
fn same_place(x: &Tensor, d: usize, place: i64) -> Result<Tensor> {
    let mut shape = Dims::from_slice(x.shape());
    shape[d] = 1;
    Tensor::full(&shape, Scalar::Int(place), DType::Int64)
}

/// How many elements of each row are numbers.
fn numbers(x: &Tensor, d: usize) -> Result<Tensor> {
    let is_number = unary::logical_not(&unary::isnan(&x.detach())?)?;
    reduce::sum(&is_number, Some(&[d as i64]), true, None)
}

fn int(i: i64) -> Result<Tensor> {
    Tensor::wrapped(Scalar::Int(i))
}

/// The middle element of each row, the lower one of two. NaN wins, or with `skip` does not count.
fn median_along(x: &Tensor, dim: i64, keepdim: bool, skip: bool) -> Result<[Tensor; 2]> {
    let name = if skip { "nanmedian" } else { "median" };
    let d = reduced_axis(name, x, dim)?;
    let node = if skip { "NanmedianBackward1" } else { "MedianBackward1" };
    at_place(node, x, d, keepdim, || {
        let size = x.shape()[d] as i64;
        if !x.dtype().is_floating() {
            return same_place(x, d, (size - 1) / 2);
        }
        let count = numbers(x, d)?;
        if skip {
            let last = binary::sub(&count, &int(1)?)?;
            let middle = binary::floor_divide(&last, &int(2)?)?;
            return binary::clamp_min(&middle, &int(0)?);
        }
        let has_nan = compare::lt(&count, &int(size)?)?;
        binary::where_(&has_nan, &count, &same_place(x, d, (size - 1) / 2)?)
    })
}

/// The middle of all elements. Those that are equal to it share the gradient.
fn median_of_all(x: &Tensor, skip: bool) -> Result<Tensor> {
    struct Rule(&'static str);
    impl Op for Rule {
        fn name(&self) -> &'static str {
            self.0
        }

        fn attributes(&self) -> Attributes {
            vec![("self", Attribute::Saved(0)), ("result", Attribute::Saved(1))]
        }

        fn backward(&self, ctx: &Context, grads: &[Option<Tensor>]) -> Result<Gradients> {
            let Some(g) = &grads[0] else { return Ok(smallvec![None]) };
            let (x, y) = (ctx.saved(0).detach(), ctx.saved(1).detach());
            let both_nan = compare::logical_and(&unary::isnan(&x)?, &unary::isnan(&y)?)?;
            let hit = compare::logical_or(&compare::eq(&x, &y)?, &both_nan)?;
            let hits = cast::to_dtype(&reduce::sum(&hit, None, false, None)?, g.dtype())?;
            Ok(smallvec![Some(cast::to_dtype(&hit, g.dtype())? * (g / hits))])
        }
    }
    let y = {
        let _off = ValuesOnly::new();
        if x.numel() == 0 {
            let empty = if x.dtype().is_floating() { f64::NAN } else { i64::MIN as f64 };
            Tensor::full(&[], empty, x.dtype())?
        } else {
            let flat = reshape_to(&x.detach(), &[x.numel()])?;
            let [y, _] = median_along(&flat, 0, false, skip)?;
            cast::clone(&y)?
        }
    };
    if record::recording(&[x]) {
        let node = if skip { "NanmedianBackward0" } else { "MedianBackward0" };
        record::record(&y, &[x], &[(0, x), (1, &y)], Box::new(Rule(node)))?;
    }
    Ok(y)
}

/// The `k`-th smallest element of each row, counted from 1.
fn kthvalue(x: &Tensor, k: i64, dim: i64, keepdim: bool) -> Result<[Tensor; 2]> {
    let d = reduced_axis("kthvalue", x, dim)?;
    let size = x.shape().get(d).map_or(1, |&s| s as i64);
    if k < 1 || k > size {
        bail!(Value, "", "kthvalue(): selected number k out of range for dimension {d}");
    }
    at_place("KthvalueBackward0", x, d, keepdim, || same_place(x, d, k - 1))
}

const FIELDS: &[&str] = &["values", "indices"];
static SORT: NamedFields = NamedFields { name: "sort", fields: FIELDS };
static TOPK: NamedFields = NamedFields { name: "topk", fields: FIELDS };
static KTHVALUE: NamedFields = NamedFields { name: "kthvalue", fields: FIELDS };
static MEDIAN: NamedFields = NamedFields { name: "median", fields: FIELDS };
static NANMEDIAN: NamedFields = NamedFields { name: "nanmedian", fields: FIELDS };

fn named(fields: &'static NamedFields, parts: [Tensor; 2]) -> Output {
    Output::Named(fields, parts.into())
}

fn median_row(c: &Args, skip: bool) -> Result<Output> {
    let fields = if skip { &NANMEDIAN } else { &MEDIAN };
    match c.overload {
        0 => Ok(median_of_all(c.tensor(0), skip)?.into()),
        _ => Ok(named(fields, median_along(c.tensor(0), c.int(1), c.bool(2), skip)?)),
    }
}

const MEDIANS: &[&str] =
    &["(input)", "(input, dim: int, keepdim: bool = False) -> (Tensor values, Tensor indices)"];

/// This family's rows.
pub const ROWS: &[Row] = &[
    Row::make(
        "sort",
        &[
            "(input, dim: int = -1, descending: bool = False) -> (Tensor values, Tensor indices)",
            "(input, *, stable: bool?, dim: int = -1, descending: bool = False) -> (Tensor values, Tensor indices)",
        ],
        FUNCTION | METHOD | OUT,
        &[
            " The elements in order along an axis, and where they were.",
            "",
            " NaN is larger than every number. The order of equal elements is kept, whether `stable` is",
            " asked for or not.",
        ],
        |c| {
            Ok(match c.overload {
                0 => named(&SORT, sort(c.tensor(0), c.int(1), c.bool(2))?),
                _ => named(&SORT, sorted("SortBackward1", c.tensor(0), c.int(2), c.bool(3))?),
            })
        },
    ).batched(Batching::Axes { extra: 0 }),
    Row::make(
        "argsort",
        &[
            "(input, dim: int = -1, descending: bool = False)",
            "(input, *, stable: bool, dim: int = -1, descending: bool = False)",
        ],
        FUNCTION | METHOD | NONDIFF,
        &[" Where the elements are that `sort` gives."],
        |c| {
            let first = if c.overload == 0 { 1 } else { 2 };
            let d = wrap_dim(c.int(first), c.tensor(0).ndim())?;
            Ok(positions(c.tensor(0), d, c.bool(first + 1))?.into())
        },
    ).batched(Batching::Axes { extra: 0 }),
    Row::make(
        "msort",
        &["(input)"],
        FUNCTION | METHOD | OUT,
        &[" The elements in order along the first axis."],
        |c| {
            let [values, _] = sort(c.tensor(0), 0, false)?;
            Ok(values.into())
        },
    ),
    Row::make(
        "topk",
        &[
            "(input, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> (Tensor values, Tensor indices)",
        ],
        FUNCTION | METHOD | OUT,
        &[" The `k` largest or smallest elements along an axis, in order, and where they are."],
        |c| Ok(named(&TOPK, topk(c.tensor(0), c.int(1), c.int(2), c.bool(3))?)),
    ).batched(Batching::Axes { extra: 0 }),
    Row::make(
        "kthvalue",
        &[
            "(input, k: int, dim: int = -1, keepdim: bool = False) -> (Tensor values, Tensor indices)",
        ],
        FUNCTION | METHOD | OUT,
        &[" The `k`-th smallest element along an axis, counted from 1, and where it is."],
        |c| Ok(named(&KTHVALUE, kthvalue(c.tensor(0), c.int(1), c.int(2), c.bool(3))?)),
    ).batched(Batching::Axes { extra: 0 }),
    Row::make(
        "median",
        MEDIANS,
        FUNCTION | METHOD | OUT,
        &[
            " The middle element of all, or along an axis with its place; of two the lower one.",
            "",
            " NaN wins. Of all, equal elements share the gradient.",
        ],
        |c| median_row(c, false),
    ),
    Row::make(
        "nanmedian",
        MEDIANS,
        FUNCTION | METHOD | OUT,
        &[" `median` of the elements that are numbers."],
        |c| median_row(c, true),
    ),
];
