//! Elements once more: repeating, rolling, grids.

use super::index::index_select;
use super::scan::flip;
use super::tags::*;
use super::view::{expand_to, reshape_to, transpose, unsqueeze};
use super::{Args, Output, Row, binary, cast, join, reduce, view};
use crate::graph::{
    Attribute, Attributes, Context, Gradients, Op, ValuesOnly, forward::linear, record,
};
use crate::layout::{Dims, wrap_dim};
use crate::tensor::Tensor;
use crate::{DType, Result, bail};
use smallvec::{SmallVec, smallvec};

/// Sizes that count; a negative one is refused in PyTorch's words.
fn counts(repeats: &[i64], x: &Tensor) -> Result<Dims> {
    if repeats.len() < x.ndim() {
        bail!(
            Shape,
            "",
            "Number of dimensions of repeat dims can not be smaller than number of dimensions of \
             tensor"
        );
    }
    let new = repeats.len() - x.ndim();
    let size = |d: usize| if d < new { 1 } else { x.shape()[d - new] as i64 };
    if repeats.iter().any(|&r| r < 0) {
        let wanted: Vec<i64> =
            repeats.iter().enumerate().map(|(d, &r)| r.wrapping_mul(size(d))).collect();
        let first = wanted.iter().find(|&&s| s < 0).copied().unwrap_or(-1);
        bail!(Shape, "", "Trying to create tensor with negative dimension {first}: {wanted:?}");
    }
    for (d, &r) in repeats.iter().enumerate() {
        if r.checked_mul(size(d)).is_none() {
            bail!(Overflow, "", "repeat: {r} times {} is more than memory has", size(d));
        }
    }
    Ok(repeats.iter().map(|&r| r as usize).collect())
}

/// The tensor repeated so often along each axis; new axes come in front.
///
/// # Errors
/// There are fewer numbers than axes, or negative ones.
pub fn repeat(x: &Tensor, repeats: &[i64]) -> Result<Tensor> {
    struct Rule {
        repeats: Dims,
        shape: Dims,
    }
    impl Op for Rule {
        fn name(&self) -> &'static str {
            "RepeatBackward0"
        }

        fn attributes(&self) -> Attributes {
            vec![
                ("repeats", Attribute::sizes(&self.repeats)),
                ("self_sym_sizes", Attribute::sizes(&self.shape)),
            ]
        }

        /// Sums over the copies.
        fn backward(&self, _: &Context, grads: &[Option<Tensor>]) -> Result<Gradients> {
            let Some(g) = &grads[0] else { return Ok(smallvec![None]) };
            let new = self.repeats.len() - self.shape.len();
            let (mut split, mut over) = (Dims::new(), SmallVec::<[i64; 8]>::new());
            for (d, &r) in self.repeats.iter().enumerate() {
                over.push(split.len() as i64);
                split.push(r);
                if d >= new {
                    split.push(self.shape[d - new]);
                }
            }
            let parts = reshape_to(g, &split)?;
            let sum = match over.is_empty() {
                true => parts,
                false => reduce::sum(&parts, Some(&over), false, None)?,
            };
            Ok(smallvec![Some(sum)])
        }

        fn jvp(
            &self,
            _: &Context,
            v: &[Option<Tensor>],
            _: &[&Tensor],
        ) -> Result<Option<Gradients>> {
            let repeats: SmallVec<[i64; 8]> = self.repeats.iter().map(|&r| r as i64).collect();
            linear(v, |v| repeat(v, &repeats))
        }
    }
    let repeats = counts(repeats, x)?;
    let y = {
        let _off = ValuesOnly::new();
        let new = repeats.len() - x.ndim();
        let (mut lifted, mut spread, mut shape) = (Dims::new(), Dims::new(), Dims::new());
        for (d, &r) in repeats.iter().enumerate() {
            lifted.push(1);
            spread.push(r);
            let size = if d < new { 1 } else { x.shape()[d - new] };
            lifted.push(size);
            spread.push(size);
            shape.push(r * size);
        }
        // Twice as many axes as there may be, so a copy of what has that many goes axis by axis.
        if lifted.len() > 64 {
            let mut y = reshape_to(&x.detach(), &shape_with_ones(x, new))?;
            for (d, &r) in repeats.iter().enumerate() {
                if r != 1 {
                    y = if r == 0 {
                        view::narrow(&y, d as i64, 0, 0)?
                    } else {
                        join::cat(&vec![y; r], d as i64)?
                    };
                }
            }
            y
        } else {
            crate::layout::checked_numel("repeat", &shape, x.dtype().size())?;
            let whole = expand_to(&reshape_to(&x.detach(), &lifted)?, &spread)?;
            reshape_to(&cast::clone(&cast::contiguous(&whole)?)?, &shape)?.detach()
        }
    };
    if record::recording(&[x]) {
        let shape = Dims::from_slice(x.shape());
        record::record(&y, &[x], &[], Box::new(Rule { repeats, shape }))?;
    }
    Ok(y)
}

fn shape_with_ones(x: &Tensor, new: usize) -> Dims {
    std::iter::repeat_n(1, new).chain(x.shape().iter().copied()).collect()
}

/// `repeat` with as many numbers as there happen to be, for the last axes.
fn tile(x: &Tensor, dims: &[i64]) -> Result<Tensor> {
    let missing = x.ndim().saturating_sub(dims.len());
    let repeats: Vec<i64> = std::iter::repeat_n(1, missing).chain(dims.iter().copied()).collect();
    repeat(x, &repeats)
}

/// Each element so often in a row, along an axis or in row-major order.
pub(super) fn repeat_interleave(x: &Tensor, count: i64, dim: Option<i64>) -> Result<Tensor> {
    if count < 0 {
        bail!(Value, "", "Repeats must be non-negative");
    }
    let x = if dim.is_none() { reshape_to(x, &[x.numel()])? } else { x.clone() };
    let d = wrap_dim(dim.unwrap_or(0), x.ndim())?;
    let x = if x.ndim() == 0 { reshape_to(&x, &[1])? } else { x };
    let mut spread = Dims::from_slice(x.shape());
    let Some(total) = spread[d].checked_mul(count as usize) else {
        bail!(
            Overflow,
            "",
            "repeat_interleave: {count} times {} is more than memory has",
            spread[d]
        );
    };
    spread.insert(d + 1, count as usize);
    let wide = expand_to(&unsqueeze(&x, d as i64 + 1)?, &spread)?;
    let mut shape = Dims::from_slice(x.shape());
    shape[d] = total;
    reshape_to(&cast::clone(&wide)?, &shape)
}

/// Positions, each as often as a vector says.
fn positions(repeats: &Tensor, output_size: Option<i64>) -> Result<Tensor> {
    if repeats.ndim() > 1 {
        bail!(Shape, "", "repeat_interleave only accept 1D vector as repeat");
    }
    if !matches!(repeats.dtype(), DType::Int32 | DType::Int64) {
        bail!(DType, "", "repeats has to be Long or Int tensor");
    }
    let all = repeats.to_vec::<i64>()?;
    if all.iter().any(|&r| r < 0) {
        bail!(Value, "", "repeats can not be negative");
    }
    let total = all.iter().try_fold(0usize, |sum, &r| sum.checked_add(r as usize));
    let Some(total) = total else {
        bail!(Overflow, "", "repeat_interleave: the sum of repeats does not fit 64 bits");
    };
    if output_size.is_some_and(|size| size != total as i64) {
        bail!(Value, "", "allocated size does not match required size");
    }
    let out = Tensor::zeros(&[total], DType::Int64)?;
    out.fill_with(|places: &mut [i64]| {
        let mut at = 0;
        for (i, &r) in all.iter().enumerate() {
            places[at..at + r as usize].fill(i as i64);
            at += r as usize;
        }
    });
    Ok(out)
}

fn repeat_interleave_row(c: &Args) -> Result<Output> {
    if c.overload == 1 {
        let (x, repeats, dim) = (c.tensor(0), c.tensor(1), c.opt_int(2));
        let flat = if dim.is_none() { reshape_to(x, &[x.numel()])? } else { x.clone() };
        let d = wrap_dim(dim.unwrap_or(0), flat.ndim())?;
        let size = flat.shape().get(d).copied().unwrap_or(1);
        if repeats.numel() == 1 {
            return Ok(repeat_interleave(&flat, repeats.item()?.to_i64(), Some(d as i64))?.into());
        }
        if repeats.numel() != size {
            bail!(
                Shape,
                "",
                "repeats must have the same size as input along dim, but got repeats.size(0) = {} and \
                 input.size({d}) = {size}",
                repeats.numel()
            );
        }
        return Ok(index_select(&flat, d as i64, &positions(repeats, c.opt_int(3))?)?.into());
    }
    match c.overload {
        0 => Ok(repeat_interleave(c.tensor(0), c.int(1), c.opt_int(2))?.into()),
        _ => Ok(positions(c.tensor(0), c.opt_int(1))?.into()),
    }
}

/// The elements moved along axes by so many places; what leaves at one end comes in at the other.
///
/// # Errors
/// There are not as many shifts as axes.
pub fn roll(x: &Tensor, shifts: &[i64], dims: &[i64]) -> Result<Tensor> {
    struct Rule(SmallVec<[i64; 4]>, SmallVec<[i64; 4]>);
    impl Op for Rule {
        fn name(&self) -> &'static str {
            "RollBackward0"
        }

        fn attributes(&self) -> Attributes {
            vec![("shifts", Attribute::ints(&self.0)), ("dims", Attribute::ints(&self.1))]
        }

        fn backward(&self, _: &Context, grads: &[Option<Tensor>]) -> Result<Gradients> {
            let Some(g) = &grads[0] else { return Ok(smallvec![None]) };
            let back: SmallVec<[i64; 4]> = self.0.iter().map(|s| s.wrapping_neg()).collect();
            Ok(smallvec![Some(roll(g, &back, &self.1)?)])
        }

        fn jvp(
            &self,
            _: &Context,
            v: &[Option<Tensor>],
            _: &[&Tensor],
        ) -> Result<Option<Gradients>> {
            linear(v, |v| roll(v, &self.0, &self.1))
        }
    }
    if dims.is_empty() && shifts.len() == 1 {
        let flat = roll(&reshape_to(x, &[x.numel()])?, shifts, &[0])?;
        return reshape_to(&flat, x.shape());
    }
    if shifts.is_empty() {
        bail!(Value, "", "`shifts` required");
    }
    if shifts.len() != dims.len() {
        bail!(
            Value,
            "",
            "shifts and dimensions must align. shifts: {}, dims:{}",
            shifts.len(),
            dims.len()
        );
    }
    if x.ndim() == 0 {
        let d = dims[0];
        bail!(Index, "", "Dimension specified as {d} but tensor has no dimensions");
    }
    let y = {
        let _off = ValuesOnly::new();
        let mut y = x.detach();
        for (&shift, &dim) in shifts.iter().zip(dims) {
            let d = wrap_dim(dim, y.ndim())?;
            let Some(&n) = y.shape().get(d) else { continue };
            if n > 0 {
                let first = shift.rem_euclid(n as i64);
                let head = view::narrow(&y, d as i64, n as i64 - first, first)?;
                let tail = view::narrow(&y, d as i64, 0, n as i64 - first)?;
                y = join::cat(&[head, tail], d as i64)?;
            }
        }
        // Nothing moved: still a result of its own.
        if y.storage().same(x.storage()) { cast::clone(&y)? } else { y }
    };
    if record::recording(&[x]) {
        let rule = Rule(shifts.into(), dims.into());
        record::record(&y, &[x], &[], Box::new(rule))?;
    }
    Ok(y)
}

/// A quarter turn in a plane, so many times.
fn rot90(x: &Tensor, times: i64, dims: &[i64]) -> Result<Tensor> {
    let &[from, to] = dims else {
        bail!(Value, "", "expected total rotation dims == 2, but got dims = {}", dims.len());
    };
    if x.ndim() < 2 {
        bail!(Shape, "", "expected total dims >= 2, but got total dims = {}", x.ndim());
    }
    let (from, to) = (wrap_dim(from, x.ndim())? as i64, wrap_dim(to, x.ndim())? as i64);
    if from == to {
        bail!(
            Value,
            "",
            "expected rotation dims to be different, but got dim0 = {from} and dim1 = {to}"
        );
    }
    match times.rem_euclid(4) {
        1 => transpose(&flip(x, &[to])?, from, to),
        2 => flip(x, &[from, to]),
        3 => transpose(&flip(x, &[from])?, from, to),
        _ => cast::clone(x),
    }
}

/// Coordinates of the points of a grid, from those along its axes.
fn meshgrid(tensors: &[Tensor], indexing: &str) -> Result<Vec<Tensor>> {
    let Some(first) = tensors.first() else {
        bail!(Value, "", "meshgrid expects a non-empty TensorList");
    };
    let swap = match indexing {
        "ij" => false,
        "xy" => tensors.len() >= 2,
        other => bail!(
            Value,
            "",
            "torch.meshgrid: indexing must be one of \"xy\" or \"ij\", but received: {other}"
        ),
    };
    for t in tensors {
        if t.ndim() > 1 {
            bail!(
                Shape,
                "",
                "torch.meshgrid: Expected 0D or 1D tensor in the tensor list but got: {:?}",
                t.shape()
            );
        }
        if t.dtype() != first.dtype() {
            bail!(DType, "", "meshgrid expects all tensors to have the same dtype");
        }
    }
    let mut order: Vec<usize> = (0..tensors.len()).collect();
    if swap {
        order.swap(0, 1);
    }
    let shape: Dims = order.iter().map(|&i| tensors[i].numel()).collect();
    let mut out = Vec::with_capacity(tensors.len());
    for (i, t) in tensors.iter().enumerate() {
        let mut lifted = Dims::from_elem(1, tensors.len());
        let axis = order.iter().position(|&k| k == i).unwrap_or(i);
        lifted[axis] = t.numel();
        out.push(expand_to(&reshape_to(t, &lifted)?, &shape)?);
    }
    Ok(out)
}

/// Differences of neighbours along an axis, `n` times.
fn diff(c: &Args) -> Result<Output> {
    let (x, n, dim) = (c.tensor(0), c.int(1), c.int(2));
    if x.ndim() == 0 {
        bail!(Shape, "", "diff expects input to be at least one-dimensional");
    }
    if n < 0 {
        bail!(Value, "", "order must be non-negative but got {n}");
    }
    let d = wrap_dim(dim, x.ndim())? as i64;
    if n == 0 {
        return Ok(cast::clone(x)?.into());
    }
    let parts: Vec<Tensor> =
        [c.opt_tensor(3), Some(x), c.opt_tensor(4)].into_iter().flatten().cloned().collect();
    let mut y = if parts.len() > 1 { join::cat(&parts, d)? } else { x.clone() };
    for _ in 0..n {
        let length = y.shape()[d as usize] as i64;
        let count = (length - 1).max(0);
        let (later, earlier) =
            (view::narrow(&y, d, length - count, count)?, view::narrow(&y, d, 0, count)?);
        y = match y.dtype() {
            DType::Bool => super::compare::logical_xor(&later, &earlier)?,
            _ => binary::sub(&later, &earlier)?,
        };
        if count == 0 {
            break;
        }
    }
    Ok(y.into())
}

/// Kronecker's product.
fn kron(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let n = a.ndim().max(b.ndim());
    let padded = |t: &Tensor| shape_with_ones(t, n - t.ndim());
    let (p, q) = (padded(a), padded(b));
    let (mut left, mut right, mut shape) = (Dims::new(), Dims::new(), Dims::new());
    for (&x, &y) in p.iter().zip(&q) {
        left.extend_from_slice(&[x, 1]);
        right.extend_from_slice(&[1, y]);
        let Some(size) = x.checked_mul(y) else {
            bail!(Overflow, "", "kron: {x} times {y} is more than memory has");
        };
        shape.push(size);
    }
    let product = binary::mul(&reshape_to(a, &left)?, &reshape_to(b, &right)?)?;
    reshape_to(&product, &shape)
}

/// This family's rows.
pub const ROWS: &[Row] = &[
    Row::make(
        "repeat",
        &["(input, repeats: size)"],
        METHOD,
        &[" The tensor repeated so often along each axis, new axes in front; a copy."],
        |c| Ok(repeat(c.tensor(0), c.ints(1))?.into()),
    ),
    Row::make(
        "tile",
        &["(input, dims: size)"],
        FUNCTION | METHOD,
        &[" `repeat` with fewer numbers than axes allowed: those missing in front are 1."],
        |c| Ok(tile(c.tensor(0), c.ints(1))?.into()),
    ),
    Row::make(
        "repeat_interleave",
        &[
            "(input, repeats: int, dim: int? = None, *, output_size: int? = None)",
            "(input, repeats, dim: int? = None, *, output_size: int? = None)",
            "(repeats, *, output_size: int? = None)",
        ],
        FUNCTION | METHOD,
        &[
            " Each element repeated in its place, along an axis or in row-major order.",
            "",
            " How often is a number, or a vector with one for each position. Of a vector alone the",
            " result is the positions, each as often as the vector says.",
        ],
        repeat_interleave_row,
    ),
    Row::make(
        "roll",
        &["(input, shifts: int[], dims: int[]? = None)"],
        FUNCTION | METHOD,
        &[
            " The elements moved along axes; what leaves at one end comes in at the other.",
            "",
            " Without axes in row-major order.",
        ],
        |c| Ok(roll(c.tensor(0), c.ints(1), c.opt_ints(2).unwrap_or_default())?.into()),
    ),
    Row::make(
        "rot90",
        &["(input, k: int = 1, dims: int[]? = None)"],
        FUNCTION | METHOD,
        &[" Quarter turns from the first towards the second of two axes."],
        |c| Ok(rot90(c.tensor(0), c.int(1), c.opt_ints(2).unwrap_or(&[0, 1]))?.into()),
    ),
    Row::make("fliplr", &["(input)"], FUNCTION | METHOD, &[" The second axis backwards."], |c| {
        match c.tensor(0).ndim() {
            0 | 1 => bail!(Shape, "", "Input must be >= 2-d."),
            _ => Ok(flip(c.tensor(0), &[1])?.into()),
        }
    }),
    Row::make("flipud", &["(input)"], FUNCTION | METHOD, &[" The first axis backwards."], |c| {
        match c.tensor(0).ndim() {
            0 => bail!(Shape, "", "Input must be >= 1-d."),
            _ => Ok(flip(c.tensor(0), &[0])?.into()),
        }
    }),
    Row::make(
        "meshgrid",
        &["(tensors: Tensor..., *, indexing: str = 'ij') -> Tensor[]"],
        FUNCTION | VIEW,
        &[
            " The coordinates of the points of a grid, from those along its axes.",
            "",
            " With `indexing='xy'` the first two axes change places.",
        ],
        |c| Ok(meshgrid(c.tensors(0), c.str(1))?.into()),
    ),
    Row::make(
        "diff",
        &["(input, n: int = 1, dim: int = -1, prepend: Tensor? = None, append: Tensor? = None)"],
        FUNCTION | METHOD | OUT,
        &[" The differences of neighbours along an axis, `n` times over."],
        diff,
    ),
    Row::make(
        "kron",
        &["(input, other)"],
        FUNCTION | METHOD | OUT,
        &[" Kronecker's product: each element of `input` times all of `other`."],
        |c| Ok(kron(c.tensor(0), c.tensor(1))?.into()),
    ),
];
