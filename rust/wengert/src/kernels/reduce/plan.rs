//! Which elements a block of a reduction has, for any layout: written once, over bytes.
//!
//! The work is cut into *cells*, each of which writes states of its own:
//!
//! - *runs*: a block of one output. The elements are contiguous, or gathered into a tile;
//! - *strips*: a block of neighbouring outputs, where memory runs along a kept axis;
//! - *sheets*: several blocks of one output, where memory runs along a reduced axis other than
//!   the last (the sum of all of `x.t()`). A cache line there holds elements of several rows, so
//!   many rows are gathered together.

use super::super::cast::copy;
use super::super::engine::{Block, GRAIN, Operand, load};
use super::super::threads::parallel_for;
use super::{BLOCK, BUFFER, Buffer, LANES, Routine};
use crate::dtype::DType;
use smallvec::SmallVec;
use std::ops::Range;

/// Columns from which memory order decides for working on several columns at once.
const STRIP: usize = 16;

/// The longest rows that are gathered as sheets, and rows of a sheet: a cache line of `f32`.
const SHEET_ROW: usize = 8192;
const SHEET_ROWS: usize = 16;

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

/// How a reduction is cut; see the [module](self).
#[derive(Clone, Copy, PartialEq)]
enum Cells {
    Runs,
    Strips,
    Sheets,
}

/// Where the elements are, and how they are grouped.
pub(super) struct Plan {
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
    pub(super) outputs: usize,
    blocks: usize,
    cells: Cells,
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
    pub(super) fn new(
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
        if routine.any_order {
            along.sort_by_key(|a| std::cmp::Reverse(a.step.unsigned_abs()));
        }
        merge(&mut along);
        if along.is_empty() {
            along.push(Axis { len: 1, step: size });
        }
        let inner = along[along.len() - 1];
        let crossing = along.len() > 1 && {
            let next = along[along.len() - 2].step.unsigned_abs();
            inner.len <= SHEET_ROW && next != 0 && next < inner.step.unsigned_abs()
        };
        let side_by_side = last.step.unsigned_abs() < inner.step.unsigned_abs();
        let dense = last.step == size && inner.step == last.len as isize * size;
        // Few elements are taken across, too: a tree of a handful is mostly calls.
        let few = along.len() == 1 && inner.len <= LANES;
        let strips = last.step != 0
            && if last.len >= STRIP { side_by_side || few } else { dense && last.len > 1 };
        let cells = match (strips, crossing) {
            (true, _) => Cells::Strips,
            (false, true) => Cells::Sheets,
            (false, false) => Cells::Runs,
        };
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
            cells,
        })
    }

    /// Room for the states of all blocks.
    pub(super) fn allocate(&self) -> SmallVec<[u64; 16]> {
        let states = self.outputs * self.blocks.max(1);
        SmallVec::with_capacity((states * self.routine.state).div_ceil(8))
    }

    /// Whether the states of the only block are the output, byte for byte.
    pub(super) fn direct(&self, output: &Operand) -> bool {
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
    pub(super) unsafe fn copy(&self, states: *mut u8, field: usize, dtype: DType, output: Operand) {
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
    pub(super) unsafe fn run(&self, states: *mut u8) {
        if self.len == 0 {
            // SAFETY: room for one state per output.
            return unsafe { (self.routine.empty)(states, self.outputs) };
        }
        let shared = States(states);
        let width = self.routine.columns().min(self.last.len);
        let strips = self.last.len.div_ceil(width);
        let (cells, cost) = match self.cells {
            Cells::Runs => (self.blocks * self.outputs, self.len.min(BLOCK)),
            Cells::Strips => {
                (self.blocks * (self.outputs / self.last.len) * strips, width * self.len.min(BLOCK))
            }
            Cells::Sheets => (self.outputs * self.len.div_ceil(self.sheet()), self.sheet()),
        };
        let work = |range: Range<usize>| {
            // SAFETY: the cells are within the plan, and each writes its own states.
            unsafe {
                match self.cells {
                    Cells::Runs => self.runs(shared, range),
                    Cells::Strips => self.strips(shared, range, width, strips),
                    Cells::Sheets => self.sheets(shared, range),
                }
            }
        };
        let grain = (GRAIN / 2).div_ceil(cost);
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

    /// Elements of a sheet: whole blocks.
    fn sheet(&self) -> usize {
        let row = self.reduced[self.reduced.len() - 1].len;
        (SHEET_ROWS * row).clamp(SHEET_ROWS * BLOCK, SHEET_ROWS * SHEET_ROW).next_multiple_of(BLOCK)
    }

    /// Cells of a sheet of one output each, numbered by output, then by sheet.
    unsafe fn sheets(&self, states: States, cells: Range<usize>) {
        let (elem, size) = (self.routine.elem, self.routine.elem.size());
        let (sheet, sheets) = (self.sheet(), self.len.div_ceil(self.sheet()));
        let mut memory: Vec<u64> = Vec::with_capacity((sheet * size).div_ceil(8));
        let tile: *mut u8 = memory.as_mut_ptr().cast();
        let (outer, &[middle, inner]) = self.reduced.split_last_chunk().expect("two axes");
        for cell in cells {
            let (output, s) = (cell / sheets, cell % sheets);
            let (group, row) = (output / self.last.len, output % self.last.len);
            let start = offset(&self.outer, group) + row as isize * self.last.step;
            let first = self.input.wrapping_offset(start);
            let range = s * sheet..self.len.min((s + 1) * sheet);
            let (mut i, mut end) = (range.start, tile);
            while i < range.end {
                // A part of a row, or rows up to the end of the middle axis.
                let (row, column) = (i / inner.len, i % inner.len);
                let left = range.end - i;
                let (rows, columns) = if column > 0 || left < inner.len {
                    (1, left.min(inner.len - column))
                } else {
                    ((left / inner.len).min(middle.len - row % middle.len), inner.len)
                };
                let at = offset(outer, row / middle.len)
                    + (row % middle.len) as isize * middle.step
                    + column as isize * inner.step;
                let ptr = first.wrapping_offset(at);
                let from = Block { ptr, row: middle.step, column: inner.step };
                // SAFETY: the block is within the input, the sheet has room for it.
                unsafe {
                    load((end, elem), (from, self.stored), rows, columns);
                    end = end.add(rows * columns * size);
                }
                i += rows * columns;
            }
            for base in range.clone().step_by(BLOCK) {
                let n = BLOCK.min(range.end - base);
                let to = states.at(base / BLOCK * self.outputs + output, self.routine.state);
                // SAFETY: the sheet holds the block, the state is the cell's.
                unsafe {
                    let x = tile.add((base - range.start) * size);
                    (self.routine.inner)(x, 0, 1, n, base, to);
                }
            }
        }
    }
}
