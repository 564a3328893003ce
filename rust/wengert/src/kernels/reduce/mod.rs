//! Reductions: sums, products, extrema, truth values, positions and variances over any axes.
//!
//! # One tree per length
//!
//! Floating-point sums depend on the order of the additions. Here the order is a function of the
//! reduced length `n` alone: not of strides, memory order, alignment, the number of threads or
//! the instruction set. The reduced elements are numbered as the axes of the tensor count them,
//! then
//!
//! ```text
//! blocks      of BLOCK = 2048 elements; the last one shorter
//! in a block  element i goes to lane i % 32, each lane in order of i;
//!             lanes are folded in halves: 16 to 16, 8 to 8, ... 1 to 1
//! blocks      are combined in pairs, then pairs of pairs; an odd one out moves up
//! ```
//!
//! The tree is as accurate as pairwise summation, and each half of it vectorises: lanes are the
//! elements of vector registers if the reduced axis is contiguous ([`Routine::inner`]), and
//! rows of registers if memory runs along an axis that is kept, where 32 accumulators for a
//! strip of columns stay in the first-level cache ([`Routine::rows`]). Anything else is first
//! gathered into a tile, as in the pointwise engine.
//!
//! # Layers
//!
//! - [`fold`], [`arg`], [`moments`]: what is done to the elements of a block, generic over the
//!   element type, and how two blocks combine;
//! - [`plan`]: which elements a block has, for any layout, written once over bytes;
//! - this file: what ties the two together. Partial results are *states*, kept densely and
//!   copied to the output at the end.

#![allow(unsafe_code)]

mod arg;
mod fold;
mod moments;
mod plan;
#[cfg(test)]
mod tests;

use super::engine::Operand;
use super::isa::per_isa;
use crate::dtype::{DType, Element};
use plan::Plan;
use std::mem::MaybeUninit;

/// What [`reduce`] computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reduction {
    /// The sum; 0 of nothing.
    Sum,
    /// The product; 1 of nothing.
    Prod,
    /// The largest element; NaN if there is one.
    Max,
    /// The smallest element; NaN if there is one.
    Min,
    /// Whether no element is zero; true of nothing.
    All,
    /// Whether some element is not zero; false of nothing.
    Any,
    /// The position of the first largest element (the first NaN if there is one).
    ArgMax,
    /// The position of the first smallest element (the first NaN if there is one).
    ArgMin,
}

/// Elements of a block.
const BLOCK: usize = 2048;

/// Bytes of accumulators, and of a tile that blocks are gathered into.
const BUFFER: usize = 16 * 1024;

/// Accumulators per block of sums and products.
const LANES: usize = 32;

#[repr(align(64))]
struct Buffer(MaybeUninit<[u8; BUFFER]>);

impl Buffer {
    fn new() -> Self {
        Buffer(MaybeUninit::uninit())
    }

    fn ptr(&mut self) -> *mut u8 {
        self.0.as_mut_ptr().cast()
    }
}

/// A reduction of elements of one type, block by block.
trait Method {
    /// What is reduced.
    type Elem: Element;
    /// The result of a block. Structs of several fields are `repr(C)`.
    type State: Copy;
    /// Whether the result is the same for every order of the elements.
    const ANY_ORDER: bool = false;
    /// Bytes of accumulators per column for [`Method::rows`].
    const SCRATCH: usize;

    /// The result of an empty reduction.
    fn empty() -> Self::State;
    /// The result of two consecutive parts.
    fn combine(a: Self::State, b: Self::State) -> Self::State;
    /// The result of a block of 1 to `BLOCK` elements, the first of which has number `base`.
    fn inner(x: &[Self::Elem], base: usize) -> Self::State;
    /// Takes `rows` rows of `columns` elements into the accumulators; `step` bytes from row to
    /// row, `position` rows of the block came before.
    ///
    /// # Safety
    /// `scratch` holds `columns * SCRATCH` bytes and what earlier rows left there; the rows are
    /// readable.
    unsafe fn rows(
        scratch: *mut u8,
        columns: usize,
        position: usize,
        x: *const u8,
        step: isize,
        rows: usize,
    );
    /// The results of a block of `n` rows, the first of which has number `base`.
    ///
    /// # Safety
    /// [`Method::rows`] saw `n >= 1` rows; `states` is valid for `columns` writes.
    unsafe fn finish(
        scratch: *mut u8,
        columns: usize,
        n: usize,
        base: usize,
        states: *mut Self::State,
    );
}

/// A [`Method`] over bytes.
struct Routine {
    elem: DType,
    state: usize,
    scratch: usize,
    any_order: bool,
    empty: unsafe fn(states: *mut u8, n: usize),
    combine: unsafe fn(to: *mut u8, a: *const u8, b: *const u8, n: usize),
    /// `rows` blocks of `n` contiguous elements, `step` bytes apart.
    inner: unsafe fn(x: *const u8, step: isize, rows: usize, n: usize, base: usize, to: *mut u8),
    rows: unsafe fn(*mut u8, usize, usize, *const u8, isize, usize),
    finish: unsafe fn(*mut u8, usize, usize, usize, *mut u8),
}

impl Routine {
    const fn of<M: Method>() -> Routine {
        Routine {
            elem: M::Elem::DTYPE,
            state: size_of::<M::State>(),
            scratch: M::SCRATCH,
            any_order: M::ANY_ORDER,
            empty: empty::<M>,
            combine: combine::<M>,
            inner: inner::<M>,
            rows: rows::<M>,
            finish: finish::<M>,
        }
    }

    /// Columns whose accumulators, and whose rows, fit a buffer.
    fn columns(&self) -> usize {
        BUFFER / self.scratch.max(self.elem.size())
    }
}

unsafe fn empty<M: Method>(states: *mut u8, n: usize) {
    for i in 0..n {
        // SAFETY: the caller has room for `n` states.
        unsafe { states.cast::<M::State>().add(i).write(M::empty()) }
    }
}

per_isa! {
    /// Combines two runs of `n` states; the target may be either.
    unsafe fn combine<M: Method>(to: *mut u8, a: *const u8, b: *const u8, n: usize) {
        for i in 0..n {
            // SAFETY: the caller passes three runs of `n` states.
            unsafe {
                let (a, b) = (a.cast::<M::State>().add(i).read(), b.cast::<M::State>().add(i).read());
                to.cast::<M::State>().add(i).write(M::combine(a, b));
            }
        }
    }

    unsafe fn inner<M: Method>(
        x: *const u8, step: isize, rows: usize, n: usize, base: usize, to: *mut u8,
    ) {
        for r in 0..rows {
            // SAFETY: the caller passes `rows` runs of `n` elements and as many states.
            unsafe {
                let x = x.wrapping_offset(r as isize * step).cast::<M::Elem>();
                let state = M::inner(std::slice::from_raw_parts(x, n), base);
                to.cast::<M::State>().add(r).write(state);
            }
        }
    }

    unsafe fn rows<M: Method>(
        scratch: *mut u8, columns: usize, position: usize, x: *const u8, step: isize, rows: usize,
    ) {
        // SAFETY: passed on.
        unsafe { M::rows(scratch, columns, position, x, step, rows) }
    }

    unsafe fn finish<M: Method>(
        scratch: *mut u8, columns: usize, n: usize, base: usize, states: *mut u8,
    ) {
        // SAFETY: passed on.
        unsafe { M::finish(scratch, columns, n, base, states.cast()) }
    }
}

/// Reduces `input` over the axes marked in `reduced` and writes the results to `output`.
///
/// The work is done in `compute`: the type of the input for extrema, positions and truth values
/// (`bool` there), `i64` or a float type for sums and products; inputs are converted on the way
/// in, results on the way out. Positions count the reduced elements with the last axis fastest
/// and are `i64`. The strides of `output` belong to the axes of `shape`; those of reduced axes
/// are ignored.
///
/// # Safety
/// `input` is valid for reads at every index of `shape`, `output` for writes at every index of
/// the kept axes, where no two indices share a place; both are aligned, and apart.
///
/// # Panics
/// If `compute` is not one that the reduction works in: half precision, for sums and products
/// the narrow integers and `bool`, for truth values anything but `bool`.
pub unsafe fn reduce(
    kind: Reduction,
    compute: DType,
    shape: &[usize],
    input: Operand,
    reduced: &[bool],
    output: Operand,
) {
    // SAFETY: passed on.
    unsafe {
        match kind {
            Reduction::ArgMax => {
                reduce_with_index(true, compute, shape, input, reduced, None, output)
            }
            Reduction::ArgMin => {
                reduce_with_index(false, compute, shape, input, reduced, None, output)
            }
            _ => {
                let routine = fold::routine(kind, compute);
                if let Some(n) = one_run(shape, &input, reduced)
                    && (1..=BLOCK).contains(&n)
                    && [input.dtype, output.dtype] == [routine.elem; 2]
                    && routine.state == routine.elem.size()
                {
                    // All of a small tensor. A plan would come to the same.
                    return (routine.inner)(input.ptr, 0, 1, n, 0, output.ptr);
                }
                let Some(plan) = Plan::new(routine, shape, input, reduced) else { return };
                if plan.direct(&output) {
                    return plan.run(output.ptr);
                }
                let mut states = plan.allocate();
                plan.run(states.as_mut_ptr().cast());
                plan.copy(states.as_mut_ptr().cast(), 0, compute, output);
            }
        }
    }
}

/// The number of elements, if all axes are reduced and memory runs through them in order.
fn one_run(shape: &[usize], input: &Operand, reduced: &[bool]) -> Option<usize> {
    let mut n = 1;
    for d in (0..shape.len()).rev() {
        if !reduced[d] || shape[d] != 1 && input.strides[d] != n as isize {
            return None;
        }
        n *= shape[d];
    }
    Some(n)
}

/// The largest (or smallest) elements and where they are, in one pass.
///
/// As [`reduce`] with `ArgMax` or `ArgMin`; `values` receives the elements themselves.
///
/// # Safety
/// As for [`reduce`], `values` being a second output.
///
/// # Panics
/// If `compute` is half precision.
pub unsafe fn reduce_with_index(
    largest: bool,
    compute: DType,
    shape: &[usize],
    input: Operand,
    reduced: &[bool],
    values: Option<Operand>,
    indices: Operand,
) {
    let routine = arg::routine(largest, compute);
    let Some(plan) = Plan::new(routine, shape, input, reduced) else { return };
    let mut states = plan.allocate();
    let states: *mut u8 = states.as_mut_ptr().cast();
    // SAFETY: passed on; a state is an `arg::Best`, index first.
    unsafe {
        plan.run(states);
        plan.copy(states, 0, DType::Int64, indices);
        if let Some(values) = values {
            plan.copy(states, size_of::<i64>(), compute, values);
        }
    }
}

/// The variance `sum((x - mean)^2) / max(0, n - correction)` over the marked axes, and the mean
/// if it is wanted; computed in `f64` whatever the input.
///
/// Nothing reduced gives NaN, as does a divisor of zero with a sum of zero.
///
/// # Safety
/// As for [`reduce`], with one or two outputs.
pub unsafe fn variance(
    shape: &[usize],
    input: Operand,
    reduced: &[bool],
    correction: f64,
    output: Operand,
    mean: Option<Operand>,
) {
    let Some(plan) = Plan::new(&moments::ROUTINE, shape, input, reduced) else { return };
    let mut states = plan.allocate();
    let states: *mut u8 = states.as_mut_ptr().cast();
    // SAFETY: passed on; a state is a `moments::Moments`, `f64`s: count, mean, squares, shift.
    unsafe {
        plan.run(states);
        for i in 0..plan.outputs {
            moments::finish(&mut *states.cast::<moments::Moments>().add(i), correction);
        }
        plan.copy(states, 2 * size_of::<f64>(), DType::Float64, output);
        if let Some(mean) = mean {
            plan.copy(states, size_of::<f64>(), DType::Float64, mean);
        }
    }
}
