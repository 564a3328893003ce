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
//! - this file: which elements a block has, for any layout, written once over bytes;
//!   partial results are *states*, kept densely and copied to the output at the end.

#![allow(unsafe_code)]

mod arg;
mod fold;
mod moments;
#[cfg(test)]
mod tests;

use super::cast::copy;
use super::engine::{Block, GRAIN, Operand, load};
use super::isa::per_isa;
use super::threads::parallel_for;
use crate::dtype::{DType, Element};
use smallvec::SmallVec;
use std::mem::MaybeUninit;
use std::ops::Range;

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

/// Columns from which memory order decides for working on several columns at once.
const STRIP: usize = 16;

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

/// Length and step in bytes.
#[derive(Clone, Copy)]
struct Axis {
    len: usize,
    step: isize,
}

type Axes = SmallVec<[Axis; 6]>;

/// Joins neighbours that count through memory as one axis.
fn merge(axes: &mut Axes) {
    let mut kept = 0;
    for i in 1..axes.len() {
        let (outer, inner) = (axes[kept], axes[i]);
        if outer.step == inner.step * inner.len as isize {
            axes[kept] = Axis { len: outer.len * inner.len, step: inner.step };
        } else {
            kept += 1;
            axes[kept] = inner;
        }
    }
    axes.truncate(kept + 1);
}

/// Byte offset of element `i` of `axes`, the last axis fastest.
fn offset(axes: &[Axis], mut i: usize) -> isize {
    let mut at = 0;
    for axis in axes.iter().rev() {
        at += (i % axis.len) as isize * axis.step;
        i /= axis.len;
    }
    at
}

/// Where the elements are, and how they are grouped.
struct Plan {
    routine: &'static Routine,
    input: *mut u8,
    stored: DType,
    /// Kept axes in the order in which states are laid out: length, axis of the shape.
    layout: SmallVec<[(usize, usize); 6]>,
    /// Kept axes, merged, without the last.
    outer: Axes,
    /// The last kept axis: the one with the smallest step.
    last: Axis,
    /// Reduced axes in the order of the shape, merged; at least one.
    reduced: Axes,
    /// Reduced elements per output.
    len: usize,
    outputs: usize,
    blocks: usize,
    /// Whether columns of the last kept axis are worked on together.
    columnwise: bool,
}

// SAFETY: the pointer is an address that `reduce`'s caller answers for; threads read it only.
unsafe impl Sync for Plan {}

/// The address of the states, shared by threads that write different ones.
#[derive(Clone, Copy)]
struct States(*mut u8);

// SAFETY: see `States`.
unsafe impl Sync for States {}

impl States {
    /// The state `i` of `size` bytes.
    fn at(&self, i: usize, size: usize) -> *mut u8 {
        self.0.wrapping_add(i * size)
    }
}

impl Plan {
    /// `None` if there is no output.
    fn new(
        routine: &'static Routine,
        shape: &[usize],
        input: Operand,
        reduced: &[bool],
    ) -> Option<Plan> {
        let size = input.dtype.size() as isize;
        let mut layout = SmallVec::<[(usize, usize); 6]>::new();
        let mut along = Axes::new();
        for (d, &len) in shape.iter().enumerate() {
            match (reduced[d], len) {
                (false, 0) => return None,
                (true, 1) => {}
                (true, len) => along.push(Axis { len, step: input.strides[d] * size }),
                (false, len) => layout.push((len, d)),
            }
        }
        // Broadcast axes come first: they say nothing about the order of memory.
        let step = |d: usize| input.strides[d].unsigned_abs();
        layout.sort_by_key(|&(_, d)| std::cmp::Reverse(step(d).wrapping_sub(1)));
        let kept = layout.iter().filter(|&&(len, _)| len != 1);
        let mut outer: Axes =
            kept.map(|&(len, d)| Axis { len, step: input.strides[d] * size }).collect();
        merge(&mut outer);
        let last = outer.pop().unwrap_or(Axis { len: 1, step: 0 });
        merge(&mut along);
        if along.is_empty() {
            along.push(Axis { len: 1, step: size });
        }
        let inner = along[along.len() - 1].step.unsigned_abs();
        let columnwise = last.len >= STRIP && last.step != 0 && last.step.unsigned_abs() < inner;
        let len = along.iter().map(|a| a.len).product::<usize>();
        Some(Plan {
            routine,
            input: input.ptr,
            stored: input.dtype,
            outputs: layout.iter().map(|&(len, _)| len).product(),
            layout,
            outer,
            last,
            reduced: along,
            len,
            blocks: len.div_ceil(BLOCK),
            columnwise,
        })
    }

    /// Room for the states of all blocks.
    fn allocate(&self) -> SmallVec<[u64; 16]> {
        let states = self.outputs * self.blocks.max(1);
        SmallVec::with_capacity((states * self.routine.state).div_ceil(8))
    }

    /// Whether the states of the only block are the output, byte for byte.
    fn direct(&self, output: &Operand) -> bool {
        let mut expected = 1;
        let dense = self.layout.iter().rev().all(|&(len, d)| {
            let fits = len == 1 || output.strides[d] == expected;
            expected *= len as isize;
            fits
        });
        let same = output.dtype == self.routine.elem && output.dtype.size() == self.routine.state;
        dense && same && self.blocks <= 1
    }

    /// Copies one field of the states to an output.
    ///
    /// # Safety
    /// [`Plan::run`] filled `states`, whose field at byte `field` has type `dtype`; `output` is
    /// as for [`reduce`].
    unsafe fn copy(&self, states: *mut u8, field: usize, dtype: DType, output: Operand) {
        let unit = (self.routine.state / dtype.size()) as isize;
        let mut shape = SmallVec::<[usize; 6]>::new();
        let mut to = SmallVec::<[isize; 6]>::new();
        let mut from: SmallVec<[isize; 6]> = SmallVec::from_elem(0, self.layout.len());
        let mut dense = unit;
        for (stride, &(len, d)) in from.iter_mut().rev().zip(self.layout.iter().rev()) {
            *stride = dense;
            dense *= len as isize;
            debug_assert!(d < output.strides.len());
        }
        for &(len, d) in &self.layout {
            shape.push(len);
            to.push(output.strides[d]);
        }
        let from = Operand { ptr: states.wrapping_add(field), dtype, strides: &from };
        // SAFETY: there is a state for every kept index.
        unsafe { copy(&shape, Operand { strides: &to, ..output }, from) }
    }

    /// Leaves the states of all outputs at the front of `states`.
    ///
    /// # Safety
    /// The input is as for [`reduce`]; `states` has room for those of all blocks.
    unsafe fn run(&self, states: *mut u8) {
        if self.len == 0 {
            // SAFETY: room for one state per output.
            return unsafe { (self.routine.empty)(states, self.outputs) };
        }
        let shared = States(states);
        // A cell is what is computed in one go: a block of one output, or of a strip of them.
        let width = if self.columnwise { self.routine.columns().min(self.last.len) } else { 1 };
        let strips = self.last.len.div_ceil(width);
        let cells = self.blocks * (self.outputs / self.last.len) * strips;
        let grain = (GRAIN / 2).div_ceil(width * self.len.min(BLOCK));
        let work = |range: Range<usize>| {
            // SAFETY: the cells are within the plan, and each writes its own states.
            unsafe {
                if self.columnwise {
                    self.strips(shared, range, width, strips)
                } else {
                    self.runs(shared, range)
                }
            }
        };
        if cells <= 2 * grain {
            work(0..cells)
        } else {
            parallel_for(cells, grain, work)
        }

        let (size, outputs) = (self.routine.state, self.outputs);
        let mut blocks = self.blocks;
        while blocks > 1 {
            for i in 0..blocks / 2 {
                let [to, a, b] = [i, 2 * i, 2 * i + 1].map(|b| shared.at(b * outputs, size));
                // SAFETY: three runs of `outputs` states; the target is `a` or before it.
                unsafe { (self.routine.combine)(to, a, b, outputs) }
            }
            if blocks % 2 == 1 {
                let to = shared.at(blocks / 2 * outputs, size);
                let from = shared.at((blocks - 1) * outputs, size);
                // SAFETY: the odd one moves to a place that was already combined.
                unsafe { std::ptr::copy(from, to, outputs * size) }
            }
            blocks = blocks.div_ceil(2);
        }
    }

    /// The numbers of the elements in a block.
    fn block(&self, b: usize) -> Range<usize> {
        b * BLOCK..self.len.min((b + 1) * BLOCK)
    }

    /// Calls `f(offset in bytes, elements)` for the runs along the last reduced axis that
    /// `range` is made of.
    fn segments(&self, range: Range<usize>, mut f: impl FnMut(isize, usize)) {
        let (&inner, outer) = self.reduced.split_last().expect("there is at least one axis");
        let mut i = range.start;
        while i < range.end {
            let (row, column) = (i / inner.len, i % inner.len);
            let n = (inner.len - column).min(range.end - i);
            f(offset(outer, row) + column as isize * inner.step, n);
            i += n;
        }
    }

    /// Cells of one output each, numbered by block, then by output.
    unsafe fn runs(&self, states: States, cells: Range<usize>) {
        let inner = self.reduced[self.reduced.len() - 1];
        let (elem, size) = (self.routine.elem, self.routine.elem.size());
        let mut buffer = Buffer::new();
        let tile = buffer.ptr();
        let mut cell = cells.start;
        while cell < cells.end {
            let (b, output) = (cell / self.outputs, cell % self.outputs);
            let (group, row) = (output / self.last.len, output % self.last.len);
            let rows = (self.last.len - row).min(cells.end - cell);
            let start = offset(&self.outer, group) + row as isize * self.last.step;
            let first = self.input.wrapping_offset(start);
            let range = self.block(b);
            let (base, n) = (range.start, range.len());
            let inside = base % inner.len + n <= inner.len;
            // SAFETY: rows and blocks are within the input, a block fits the tile.
            unsafe {
                if inside {
                    let mut x = first;
                    self.segments(range, |at, _| x = first.wrapping_offset(at));
                    if self.stored == elem && (inner.step == size as isize || n == 1) {
                        let to = states.at(cell, self.routine.state);
                        (self.routine.inner)(x, self.last.step, rows, n, base, to);
                    } else {
                        let height = (BUFFER / (n * size)).min(rows);
                        for r in (0..rows).step_by(height) {
                            let from = Block { ptr: x, row: self.last.step, column: inner.step };
                            let h = height.min(rows - r);
                            load((tile, elem), (from.at(r, 0), self.stored), h, n);
                            let to = states.at(cell + r, self.routine.state);
                            (self.routine.inner)(tile, (n * size) as isize, h, n, base, to);
                        }
                    }
                } else {
                    for r in 0..rows {
                        let mut end = tile;
                        let row = first.wrapping_offset(r as isize * self.last.step);
                        self.segments(range.clone(), |at, n| {
                            let ptr = row.wrapping_offset(at);
                            let from = Block { ptr, row: 0, column: inner.step };
                            load((end, elem), (from, self.stored), 1, n);
                            end = end.add(n * size);
                        });
                        let to = states.at(cell + r, self.routine.state);
                        (self.routine.inner)(tile, 0, 1, n, base, to);
                    }
                }
            }
            cell += rows;
        }
    }

    /// Cells of a strip of columns each, numbered by block, then outer index, then strip.
    unsafe fn strips(&self, states: States, cells: Range<usize>, width: usize, strips: usize) {
        let inner = self.reduced[self.reduced.len() - 1];
        let (elem, size) = (self.routine.elem, self.routine.elem.size());
        let (mut scratch, mut buffer) = (Buffer::new(), Buffer::new());
        let (scratch, tile) = (scratch.ptr(), buffer.ptr());
        let direct = self.stored == elem && self.last.step == size as isize;
        for cell in cells {
            let (rest, strip) = (cell / strips, cell % strips);
            let groups = self.outputs / self.last.len;
            let (b, group) = (rest / groups, rest % groups);
            let column = strip * width;
            let columns = width.min(self.last.len - column);
            let start = offset(&self.outer, group) + column as isize * self.last.step;
            let first = self.input.wrapping_offset(start);
            let range = self.block(b);
            let (base, n) = (range.start, range.len());
            let mut position = 0;
            // SAFETY: the strip is within the input; a strip of accumulators and of rows fits
            // the buffers by choice of `width`.
            unsafe {
                self.segments(range, |at, rows| {
                    let x = first.wrapping_offset(at);
                    if direct {
                        (self.routine.rows)(scratch, columns, position, x, inner.step, rows);
                        position += rows;
                        return;
                    }
                    let height = (BUFFER / (columns * size)).min(rows);
                    for r in (0..rows).step_by(height) {
                        let from = Block { ptr: x, row: inner.step, column: self.last.step };
                        let h = height.min(rows - r);
                        load((tile, elem), (from.at(r, 0), self.stored), h, columns);
                        let step = (columns * size) as isize;
                        (self.routine.rows)(scratch, columns, position, tile, step, h);
                        position += h;
                    }
                });
                let first = b * self.outputs + group * self.last.len + column;
                let to = states.at(first, self.routine.state);
                (self.routine.finish)(scratch, columns, n, base, to);
            }
        }
    }
}
