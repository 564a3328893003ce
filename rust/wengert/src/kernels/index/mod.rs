//! Elements chosen by an index along one dimension: gather, index_select, scatter, index_add.
//!
//! All four visit the positions of the index tensor. At each, one operand is *plain* (it is
//! stepped through in order) and one is *indexed* (its position along the dimension is what the
//! index says):
//!
//! ```text
//! gather   plain[p]    = indexed[p with p[dim] replaced by index[p]]
//! scatter  indexed[…] += plain[p]                          (or =)
//! ```
//!
//! `index_select` and `index_add` are the same with a one-dimensional index that is broadcast,
//! stride 0, along the other dimensions.
//!
//! 1. **One walk.** Axes are merged where all three operands step through them as one, an odometer
//!    counts the outer ones, and an inner loop runs along one axis. Where the index is constant
//!    along it (an embedding), that is a copy or a sum of contiguous rows.
//! 2. **Checked twice.** All indices are checked before anything is written. The loops then clamp
//!    what they read, which costs one instruction: an index tensor that another thread changes in
//!    between gives wrong elements, never a wrong address.
//! 3. **Serial where it matters.** Two positions meet in one element of a scatter only if they
//!    differ along the dimension alone. So threads share out the other axes, and each element
//!    gets its contributions in ascending order along the dimension, whatever the loop nest is.
#![allow(unsafe_code)]

mod loops;
#[cfg(test)]
mod tests;

use super::threads::parallel_for;
use crate::bail;
use crate::dtype::DType;
use crate::error::{Error, Kind, Result};
use loops::{Loop, Run, gather_loop, scatter_loop};
use smallvec::SmallVec;

/// Elements below which work stays on the calling thread.
const GRAIN: usize = 32 << 10;
/// Elements of a row that a task takes at least, so that tasks do not share cache lines often.
const CHUNK: usize = 256;

/// A tensor in memory. A tensor without dimensions counts as one of shape `(1,)`.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// The element at index zero.
    pub ptr: *mut u8,
    /// The size of each dimension.
    pub shape: &'a [usize],
    /// Elements from one index to the next, for each dimension.
    pub strides: &'a [isize],
}

/// What a scatter does with the element that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Combine {
    /// It is overwritten; of several values for one element the last along the dimension stays.
    Replace,
    /// The value is added: wrapping in integers, "or" for truth values, half precision rounded
    /// after each addition in `f32`.
    Add,
}

// ---------------------------------------------------------------------------------------------
// The operations
// ---------------------------------------------------------------------------------------------

/// `out[p] = x[p with p[dim] = index[p]]`, for every position `p` of `index`.
///
/// `x` and `out` have the type `dtype`, `index` is int64.
///
/// # Errors
/// [`Kind::Shape`] unless `index` has as many dimensions as `x`, is no larger apart from `dim`,
/// and `out` has its shape; [`Kind::Index`] for an index that is negative or not below
/// `x.shape[dim]`. Nothing is written then.
///
/// # Safety
/// All views are valid for all their indices, aligned to their elements and initialised where
/// they are read; `out` overlaps neither `x` nor `index`, nor itself.
pub unsafe fn gather(
    dtype: DType,
    x: View<'_>,
    dim: usize,
    index: View<'_>,
    out: View<'_>,
) -> Result<()> {
    let (x, index, out) = (x.lifted(), index.lifted(), out.lifted());
    check_ranks("gather", dim, [("index", index), ("output", out)], x)?;
    if !no_larger(index, x, Some(dim)) {
        let (index, x) = (index.shape, x.shape);
        bail!(
            Shape,
            "gather",
            "Expected index {index:?} to be no larger than self {x:?} apart from dimension {dim}"
        );
    }
    if out.shape != index.shape {
        bail!(Shape, "gather", "index {:?} does not fit output {:?}", index.shape, out.shape);
    }
    // SAFETY: the caller's promise, and the shapes were checked.
    unsafe {
        check_bounds(index, dim, x.shape[dim])?;
        walk(gather_loop(dtype), dtype.size(), dim, [x, out, index], false);
    }
    Ok(())
}

/// `out[…, i, …] = x[…, index[i], …]`.
///
/// `x` and `out` have the type `dtype`; `index` is int64 and has one dimension, or none.
///
/// # Errors
/// [`Kind::Shape`] unless `out` has the shape of `x` with the length of `index` in place of `dim`;
/// [`Kind::Index`] as [`gather`].
///
/// # Safety
/// As [`gather`].
pub unsafe fn index_select(
    dtype: DType,
    x: View<'_>,
    dim: usize,
    index: View<'_>,
    out: View<'_>,
) -> Result<()> {
    let (x, index, out) = (x.lifted(), index.lifted(), out.lifted());
    check_ranks("index_select", dim, [("output", out)], x)?;
    check_line("index_select", index, dim, x, out)?;
    // SAFETY: the caller's promise.
    unsafe { check_bounds(index, dim, x.shape[dim])? };
    let strides = broadcast(index.strides[0], dim, x.shape.len());
    let index = View { ptr: index.ptr, shape: out.shape, strides: &strides };
    // SAFETY: the caller's promise, and the shapes were checked.
    unsafe {
        walk(gather_loop(dtype), dtype.size(), dim, [x, out, index], false);
    }
    Ok(())
}

/// `x[p with p[dim] = index[p]]` is combined with `src[p]`, for every position `p` of `index`.
///
/// `x` and `src` have the type `dtype`, `index` is int64. With [`Combine::Add`] this is PyTorch's
/// `scatter_add_`, with [`Combine::Replace`] its `scatter_`.
///
/// # Errors
/// [`Kind::Shape`] unless all have as many dimensions and `index` is no larger than `src`, nor,
/// apart from `dim`, than `x`; [`Kind::Index`] as [`gather`].
///
/// # Safety
/// All views are valid for all their indices, aligned to their elements and initialised; `x`
/// overlaps neither `src` nor `index`, nor itself.
pub unsafe fn scatter(
    dtype: DType,
    combine: Combine,
    x: View<'_>,
    dim: usize,
    index: View<'_>,
    src: View<'_>,
) -> Result<()> {
    let (x, index, src) = (x.lifted(), index.lifted(), src.lifted());
    check_ranks("scatter", dim, [("index", index), ("src", src)], x)?;
    if !no_larger(index, x, Some(dim)) || !no_larger(index, src, None) {
        let (index, x, src) = (index.shape, x.shape, src.shape);
        bail!(
            Shape,
            "scatter",
            "Expected index {index:?} to be no larger than self {x:?} apart from dimension {dim} \
             and to be no larger than src {src:?}"
        );
    }
    // SAFETY: the caller's promise, and the shapes were checked.
    unsafe {
        check_bounds(index, dim, x.shape[dim])?;
        walk(scatter_loop(dtype, combine), dtype.size(), dim, [x, src, index], true);
    }
    Ok(())
}

/// `x[…, index[i], …]` is combined with `src[…, i, …]`.
///
/// `x` and `src` have the type `dtype`; `index` is int64 and has one dimension, or none. With
/// [`Combine::Add`] this is PyTorch's `index_add_`, with [`Combine::Replace`] its `index_copy_`.
///
/// # Errors
/// [`Kind::Shape`] unless `src` has the shape of `x` with the length of `index` in place of `dim`;
/// [`Kind::Index`] as [`gather`].
///
/// # Safety
/// As [`scatter`].
pub unsafe fn index_combine(
    dtype: DType,
    combine: Combine,
    x: View<'_>,
    dim: usize,
    index: View<'_>,
    src: View<'_>,
) -> Result<()> {
    let op = if combine == Combine::Add { "index_add" } else { "index_copy" };
    let (x, index, src) = (x.lifted(), index.lifted(), src.lifted());
    check_ranks(op, dim, [("source", src)], x)?;
    check_line(op, index, dim, x, src)?;
    // SAFETY: the caller's promise.
    unsafe { check_bounds(index, dim, x.shape[dim])? };
    let strides = broadcast(index.strides[0], dim, x.shape.len());
    let index = View { ptr: index.ptr, shape: src.shape, strides: &strides };
    // SAFETY: the caller's promise, and the shapes were checked.
    unsafe {
        walk(scatter_loop(dtype, combine), dtype.size(), dim, [x, src, index], true);
    }
    Ok(())
}

// ---------------------------------------------------------------------------------------------
// Checks
// ---------------------------------------------------------------------------------------------

impl View<'_> {
    /// A tensor without dimensions as one of shape `(1,)`.
    fn lifted(self) -> Self {
        if self.shape.is_empty() { View { shape: &[1], strides: &[1], ..self } } else { self }
    }
}

fn check_ranks<const N: usize>(
    op: &'static str,
    dim: usize,
    others: [(&str, View<'_>); N],
    x: View<'_>,
) -> Result<()> {
    let rank = x.shape.len();
    if dim >= rank {
        bail!(Index, op, "dimension {dim} does not exist in a tensor of {rank} dimensions");
    }
    for (name, other) in others {
        let given = other.shape.len();
        if given != rank {
            bail!(Shape, op, "{name} must have {rank} dimensions like the input, but has {given}");
        }
    }
    Ok(())
}

/// Whether `index` fits into `other`, but for `except`.
fn no_larger(index: View<'_>, other: View<'_>, except: Option<usize>) -> bool {
    let mut sizes = index.shape.iter().zip(other.shape).enumerate();
    sizes.all(|(d, (a, b))| a <= b || Some(d) == except)
}

/// Whether `index` is a line of as many elements as `other` has along `dim`, and `other` is like
/// `x` in all other dimensions.
fn check_line(
    op: &'static str,
    index: View<'_>,
    dim: usize,
    x: View<'_>,
    other: View<'_>,
) -> Result<()> {
    if index.shape.len() != 1 {
        bail!(Index, op, "Index is supposed to be a vector, but has shape {:?}", index.shape);
    }
    let (indices, size) = (index.shape[0], other.shape[dim]);
    if indices != size {
        bail!(
            Shape,
            op,
            "Number of indices ({indices}) should be equal to source.size(dim): ({size}), \
             for dim: {dim}"
        );
    }
    let mut sizes = x.shape.iter().zip(other.shape).enumerate();
    if !sizes.all(|(d, (a, b))| d == dim || a == b) {
        let (x, other) = (x.shape, other.shape);
        bail!(Shape, op, "{other:?} does not match {x:?} apart from dimension {dim}");
    }
    Ok(())
}

/// The strides of a line along `dim` of a tensor of `rank` dimensions.
fn broadcast(stride: isize, dim: usize, rank: usize) -> SmallVec<[isize; 5]> {
    (0..rank).map(|d| if d == dim { stride } else { 0 }).collect()
}

/// Refuses the first index, in order, that is not in `0..size`.
///
/// # Safety
/// `index` is a valid view of int64.
unsafe fn check_bounds(index: View<'_>, dim: usize, size: usize) -> Result<()> {
    if index.shape.contains(&0) {
        return Ok(());
    }
    let mut axes = Axes::new();
    for (&n, &stride) in index.shape.iter().zip(index.strides) {
        // Broadcast dimensions repeat what was seen.
        let n = if stride == 0 { 1 } else { n };
        push(&mut axes, Axis { n, steps: [stride * 8, 0, 0] });
    }
    let row = axes.pop().unwrap_or(Axis::ONE);
    let rows = &axes[..];
    let mut odometer = Odometer::new(rows, 0);
    for _ in 0..odometer.len() {
        let start = index.ptr.wrapping_offset(odometer.at[0]);
        // SAFETY: `j` is a position of the index tensor.
        let at = |j| unsafe { start.offset(j as isize * row.steps[0]).cast::<i64>().read() };
        // All of a row first, without a branch for each: it is right nearly always.
        if (0..row.n).fold(false, |bad, j| bad | (at(j) as u64 >= size as u64)) {
            let bad = (0..row.n).map(at).find(|&i| i as u64 >= size as u64);
            let i = bad.unwrap_or_default();
            let text = format!("index {i} is out of bounds for dimension {dim} with size {size}");
            return Err(Error::plain(Kind::Index, text));
        }
        odometer.advance();
    }
    Ok(())
}

// ---------------------------------------------------------------------------------------------
// The walk
// ---------------------------------------------------------------------------------------------

/// An axis of positions: its length, and the bytes from one to the next in the indexed operand,
/// the plain operand and the index.
#[derive(Clone, Copy, Debug)]
struct Axis {
    n: usize,
    steps: [isize; 3],
}

type Axes = SmallVec<[Axis; 6]>;

impl Axis {
    const ONE: Axis = Axis { n: 1, steps: [0; 3] };
}

/// Adds an inner axis; one through which all operands step on from the last is merged into it.
fn push(axes: &mut Axes, axis: Axis) {
    match axes.last_mut() {
        _ if axis.n == 1 => {}
        Some(outer) if axis.steps.map(|s| s * axis.n as isize) == outer.steps => {
            *outer = Axis { n: outer.n * axis.n, steps: axis.steps };
        }
        _ => axes.push(axis),
    }
}

/// Positions of some axes in row-major order.
struct Odometer<'a> {
    axes: &'a [Axis],
    digits: SmallVec<[usize; 6]>,
    /// Where the current position is, in bytes, for each operand.
    at: [isize; 3],
}

impl<'a> Odometer<'a> {
    fn new(axes: &'a [Axis], position: usize) -> Self {
        let mut digits: SmallVec<[usize; 6]> = SmallVec::from_elem(0, axes.len());
        let (mut rest, mut at) = (position, [0; 3]);
        for (digit, axis) in digits.iter_mut().zip(axes).rev() {
            (*digit, rest) = (rest % axis.n, rest / axis.n);
            for (at, step) in at.iter_mut().zip(axis.steps) {
                *at += *digit as isize * step;
            }
        }
        Odometer { axes, digits, at }
    }

    fn len(&self) -> usize {
        self.axes.iter().map(|a| a.n).product()
    }

    /// The next position; the first again after the last.
    #[inline]
    fn advance(&mut self) {
        for d in (0..self.axes.len()).rev() {
            let Axis { n, steps } = self.axes[d];
            self.digits[d] += 1;
            let full = self.digits[d] == n;
            let by = if full { 1 - n as isize } else { 1 };
            let [x, y, z] = self.at;
            self.at = [x + by * steps[0], y + by * steps[1], z + by * steps[2]];
            if !full {
                return;
            }
            self.digits[d] = 0;
        }
    }
}

/// Calls `body` for all positions of the index, in parallel.
///
/// With `meeting`, positions that differ along `dim` alone may meet in one element: they are
/// treated in order, by one thread.
///
/// # Safety
/// As [`gather`] or [`scatter`]; `size` is that of an element, and indices were checked.
unsafe fn walk(
    body: Loop,
    size: usize,
    dim: usize,
    [indexed, plain, index]: [View<'_>; 3],
    meeting: bool,
) {
    if index.shape.contains(&0) {
        return;
    }
    let size = size as isize;
    let mut axes = Axes::new();
    let mut along = Axis::ONE;
    for (d, &n) in index.shape.iter().enumerate() {
        let own = if d == dim { 0 } else { indexed.strides[d] * size };
        let axis = Axis { n, steps: [own, plain.strides[d] * size, index.strides[d] * 8] };
        match d == dim && meeting {
            true => along = axis,
            false => push(&mut axes, axis),
        }
    }
    let stride = indexed.strides[dim] * size;
    let row = axes.pop().unwrap_or(Axis::ONE);
    // The inner loop runs along the row, unless the dimension is closer in memory and long.
    let inner_row = row.n > 1 && (row.steps[0].abs() <= stride.abs() || along.n < 8);
    let chunk = if inner_row { (GRAIN / along.n).max(CHUNK).min(row.n) } else { 1 };
    let chunks = row.n.div_ceil(chunk);
    let start = Run {
        indexed: indexed.ptr,
        plain: plain.ptr,
        index: index.ptr,
        n: if inner_row { chunk } else { along.n },
        steps: if inner_row { row.steps } else { along.steps },
        stride,
        last: (indexed.shape[dim] as u64).wrapping_sub(1),
    };
    // The dimension is the outer loop of a task if the row is the inner one.
    let (repeats, repeat) = if inner_row { (along.n, along.steps) } else { (1, [0; 3]) };
    let chunk_steps = row.steps.map(|s| s * chunk as isize);
    axes.push(Axis { n: chunks, steps: chunk_steps });
    let (axes, start) = (&axes, &start);
    let tasks = Odometer::new(axes, 0).len();
    parallel_for(tasks, (GRAIN / (chunk * along.n)).max(1), |range| {
        let mut odometer = Odometer::new(axes, range.start);
        for task in range {
            let last = row.n - task % chunks * chunk;
            let n = if inner_row { chunk.min(last) } else { start.n };
            for i in 0..repeats {
                let at = |k: usize| odometer.at[k] + i as isize * repeat[k];
                // SAFETY: positions of the index tensor, which fit the plain and, apart from the
                // dimension, the indexed operand. No two tasks have a position in common that
                // they write, because tasks differ in an axis other than a meeting dimension.
                unsafe { body(&Run { n, ..start.moved(at(0), at(1), at(2)) }) };
            }
            odometer.advance();
        }
    });
}
