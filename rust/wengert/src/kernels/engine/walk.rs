//! The general path: which blocks an operation is cut into, and one block at a time.

use super::super::rows::{Loop, MAX_OPERANDS};
use super::super::threads::parallel_for;
use super::block::{Block, LINE, TILE_BYTES, Tile, load, move_block, store};
use super::{GRAIN, Operand};
use crate::dtype::DType;
use smallvec::SmallVec;
use std::ops::Range;

/// Columns up to which rows are staged to be run together.
const SHORT: usize = 16;

/// What the engine keeps of an operand besides its strides.
#[derive(Clone, Copy)]
pub(super) struct Slot {
    pub(super) ptr: *mut u8,
    pub(super) stored: DType,
    pub(super) wanted: DType,
}

// SAFETY: a slot is an address; `map`'s caller answers for what lies there, and threads write
// to disjoint elements of the output only.
unsafe impl Send for Slot {}
// SAFETY: as above.
unsafe impl Sync for Slot {}

impl Slot {
    pub(super) const EMPTY: Slot =
        Slot { ptr: std::ptr::null_mut(), stored: DType::Bool, wanted: DType::Bool };

    fn converts(&self) -> bool {
        self.stored != self.wanted
    }
}

/// One axis of the walk: its length and each operand's step in bytes.
#[derive(Clone, Copy)]
struct Axis {
    len: usize,
    steps: [isize; MAX_OPERANDS],
}

/// Axes, outermost first; up to eight without touching the heap.
type Axes = SmallVec<[Axis; 8]>;

/// The axes of a walk that visits the output in the order of memory: none of length 1, sorted,
/// merged. Reversed outputs are turned forward, which moves every pointer of `ptrs` along.
fn axes(shape: &[usize], operands: &[Operand], ptrs: &mut [*mut u8]) -> Axes {
    let mut axes = Axes::new();
    for (d, &len) in shape.iter().enumerate() {
        if len == 1 {
            continue;
        }
        let mut axis = Axis { len, steps: [0; MAX_OPERANDS] };
        for (step, o) in axis.steps.iter_mut().zip(operands) {
            *step = o.strides[d] * o.dtype.size() as isize;
        }
        if axis.steps[0] < 0 {
            for (step, ptr) in axis.steps.iter_mut().zip(ptrs.iter_mut()) {
                *ptr = ptr.wrapping_offset(*step * (len as isize - 1));
                *step = -*step;
            }
        }
        // Insertion keeps equals in their order; the output decides, then the inputs.
        let at = axes.iter().rposition(|outer| !goes_inside(outer, &axis, operands.len()));
        axes.insert(at.map_or(0, |i| i + 1), axis);
    }
    merge(&mut axes, operands.len());
    axes
}

/// Whether `a`, so far outside `b`, had better be inside it.
fn goes_inside(a: &Axis, b: &Axis, operands: usize) -> bool {
    for k in 0..operands {
        let (x, y) = (a.steps[k].unsigned_abs(), b.steps[k].unsigned_abs());
        // A broadcast axis says nothing about the order of memory.
        if x != y && x != 0 && y != 0 {
            return x < y;
        }
    }
    false
}

/// Joins neighbours where stepping once outside is stepping past the whole inside.
fn merge(axes: &mut Axes, operands: usize) {
    let mut kept = 0;
    for i in 1..axes.len() {
        let (outer, inner) = (axes[kept], axes[i]);
        let joins = (0..operands).all(|k| outer.steps[k] == inner.steps[k] * inner.len as isize);
        if joins {
            axes[kept] = Axis { len: outer.len * inner.len, steps: inner.steps };
        } else {
            kept += 1;
            axes[kept] = inner;
        }
    }
    axes.truncate(kept + 1);
}

/// The general path.
#[inline(never)]
pub(super) unsafe fn run_strided(
    body: Option<Loop>,
    shape: &[usize],
    operands: &[Operand],
    slots: &mut [Slot],
) {
    if shape.contains(&0) {
        return;
    }
    let mut ptrs = [std::ptr::null_mut(); MAX_OPERANDS];
    for (ptr, slot) in ptrs.iter_mut().zip(slots.iter()) {
        *ptr = slot.ptr;
    }
    let mut axes = axes(shape, operands, &mut ptrs[..slots.len()]);
    for (ptr, slot) in ptrs.iter().zip(slots.iter_mut()) {
        slot.ptr = *ptr;
    }
    let walk = Walk::new(body, &mut axes, slots);
    let units = walk.units();
    let grain = (GRAIN / 2).div_ceil(walk.rows * walk.columns);
    if units <= 2 * grain {
        // SAFETY: the walk covers exactly the shape that the caller promised.
        unsafe { walk.run(0..units) }
    } else {
        // SAFETY: as above, and units are disjoint pieces of it.
        parallel_for(units, grain, |range| unsafe { walk.run(range) });
    }
}

/// A walk over blocks of `rows` x `columns`.
struct Walk<'a> {
    body: Option<Loop>,
    slots: &'a [Slot],
    outer: &'a [Axis],
    row: Axis,
    column: Axis,
    rows: usize,
    columns: usize,
    staged: [bool; MAX_OPERANDS],
    /// Rows are short: scalars along them are spread when staged.
    short: bool,
}

impl<'a> Walk<'a> {
    fn new(body: Option<Loop>, axes: &'a mut Axes, slots: &'a [Slot]) -> Self {
        let mut one = Axis { len: 1, steps: [0; MAX_OPERANDS] };
        for (step, slot) in one.steps.iter_mut().zip(slots) {
            *step = slot.stored.size() as isize;
        }
        let column = axes.pop().unwrap_or(one);
        let mut staged = [false; MAX_OPERANDS];
        for (k, slot) in slots.iter().enumerate() {
            let step = column.steps[k];
            let plain = step == slot.stored.size() as isize || (step == 0 && k > 0);
            staged[k] = slot.converts() || !plain;
        }

        // Rows follow memory of the first staged operand that the columns run across.
        let mut across = None;
        for (k, slot) in slots.iter().enumerate() {
            let step = |a: &Axis| a.steps[k].unsigned_abs();
            if across.is_none() && staged[k] && step(&column) > slot.stored.size() {
                let best = (0..axes.len())
                    .filter(|&i| step(&axes[i]) != 0)
                    .min_by_key(|&i| step(&axes[i]));
                across = best.filter(|&i| step(&axes[i]) < step(&column));
            }
        }
        let row = match across {
            Some(i) => Some(axes.remove(i)),
            None => axes.pop(),
        };
        one.steps = [0; MAX_OPERANDS];
        let row = row.unwrap_or(one);

        // A loop over three elements is mostly calls. Rows that short are staged, several to a
        // tile, so that a call covers the whole block.
        let mut widest = 1;
        let short = body.is_some() && column.len <= SHORT && row.len > 1;
        for (k, slot) in slots.iter().enumerate() {
            let broken = row.steps[k] != column.steps[k] * column.len as isize;
            staged[k] |= short && broken;
            widest = widest.max(slot.stored.size()).max(slot.wanted.size());
        }
        let any_staged = staged.contains(&true);

        let capacity = if any_staged && body.is_some() { TILE_BYTES / widest } else { GRAIN / 4 };
        let (rows, columns) = if across.is_some() {
            let rows = (LINE / widest).min(row.len);
            (rows, (capacity / rows).min(column.len))
        } else {
            let columns = column.len.min(capacity);
            ((capacity / columns).min(row.len), columns)
        };
        Walk { body, slots, outer: axes, row, column, rows, columns, staged, short }
    }

    fn units(&self) -> usize {
        let outer: usize = self.outer.iter().map(|a| a.len).product();
        outer * self.row.len.div_ceil(self.rows) * self.column.len.div_ceil(self.columns)
    }

    /// Runs the blocks whose number is in `units`; columns vary fastest, then rows.
    unsafe fn run(&self, units: Range<usize>) {
        let operands = self.slots.len();
        let across = self.column.len.div_ceil(self.columns);
        let down = self.row.len.div_ceil(self.rows);
        let (mut c, rest) = (units.start % across, units.start / across);
        let (mut r, mut rest) = (rest % down, rest / down);
        let mut index: SmallVec<[usize; 8]> = SmallVec::from_elem(0, self.outer.len());
        let mut base = [std::ptr::null_mut::<u8>(); MAX_OPERANDS];
        for (ptr, slot) in base.iter_mut().zip(self.slots) {
            *ptr = slot.ptr;
        }
        for (i, axis) in index.iter_mut().zip(self.outer).rev() {
            (*i, rest) = (rest % axis.len, rest / axis.len);
            for (ptr, step) in base.iter_mut().zip(&axis.steps) {
                *ptr = ptr.wrapping_offset(*step * *i as isize);
            }
        }
        for _ in units {
            let (row, column) = (r * self.rows, c * self.columns);
            let mut ptrs = base;
            for (k, ptr) in ptrs[..operands].iter_mut().enumerate() {
                let (rs, cs) = (self.row.steps[k], self.column.steps[k]);
                *ptr = ptr.wrapping_offset(rs * row as isize + cs * column as isize);
            }
            let rows = self.rows.min(self.row.len - row);
            let columns = self.columns.min(self.column.len - column);
            // SAFETY: the block lies inside the shape.
            unsafe { self.block(&ptrs, rows, columns) };

            c += 1;
            if c < across {
                continue;
            }
            c = 0;
            r += 1;
            if r < down {
                continue;
            }
            r = 0;
            for (i, axis) in index.iter_mut().zip(self.outer).rev() {
                *i += 1;
                let back = if *i < axis.len { 1 } else { 1 - axis.len as isize };
                for (ptr, step) in base.iter_mut().zip(&axis.steps) {
                    *ptr = ptr.wrapping_offset(*step * back);
                }
                if back == 1 {
                    break;
                }
                *i = 0;
            }
        }
    }

    /// The memory of operand `k` from `ptr` on.
    fn at(&self, k: usize, ptr: *mut u8) -> Block {
        Block { ptr, row: self.row.steps[k], column: self.column.steps[k] }
    }

    /// One block: operand `k` begins at `ptrs[k]`.
    unsafe fn block(&self, ptrs: &[*mut u8; MAX_OPERANDS], rows: usize, columns: usize) {
        let Some(body) = self.body else {
            let [to, from] = [0, 1].map(|k| self.at(k, ptrs[k]));
            // SAFETY: both blocks lie inside the shape that the caller promised.
            return unsafe { move_block(self.slots[0].stored.size(), to, from, rows, columns) };
        };
        let mut tiles = [const { Tile::new() }; MAX_OPERANDS];
        let mut at = *ptrs;
        let mut strides = [0isize; MAX_OPERANDS];
        let mut pitch = [0isize; MAX_OPERANDS];
        let mut one_run = true;
        for (k, slot) in self.slots.iter().enumerate() {
            let size = slot.wanted.size() as isize;
            let mut scalar = self.column.steps[k] == 0 && k > 0;
            if self.staged[k] {
                at[k] = tiles[k].ptr();
                scalar &= !self.short || self.row.steps[k] == 0;
                // What all rows share is gathered once, and what a row shares once per row.
                let width = if scalar { 1 } else { columns };
                let height = if scalar && self.row.steps[k] == 0 { 1 } else { rows };
                pitch[k] = if scalar && height == 1 { 0 } else { size * width as isize };
                if k > 0 {
                    // SAFETY: the block is readable, and fits the tile by choice of its size.
                    unsafe {
                        let from = self.at(k, ptrs[k]);
                        load((at[k], slot.wanted), (from, slot.stored), height, width)
                    };
                }
            } else {
                pitch[k] = self.row.steps[k];
            }
            strides[k] = if scalar { 0 } else { size };
            one_run &= pitch[k] == strides[k] * columns as isize;
        }
        // SAFETY: staged operands are dense tiles, the others plain by `staged`'s definition.
        unsafe {
            if one_run || rows == 1 {
                body(at.as_ptr(), strides.as_ptr(), rows * columns);
            } else {
                let mut row = at;
                for _ in 0..rows {
                    body(row.as_ptr(), strides.as_ptr(), columns);
                    for (ptr, step) in row.iter_mut().zip(&pitch) {
                        *ptr = ptr.wrapping_offset(*step);
                    }
                }
            }
            if self.staged[0] {
                let Slot { stored, wanted, .. } = self.slots[0];
                store((self.at(0, ptrs[0]), stored), (at[0], wanted), rows, columns);
            }
        }
    }
}
