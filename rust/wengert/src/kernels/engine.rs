//! The one strided engine: runs an inner loop over operands of any shape, layout and type.
//!
//! ```text
//! map(kernel, compute, shape, operands)
//!   flat?   every operand contiguous or one element, of the kernel's type -> one loop
//!   axes    drop axes of length 1, turn the output's axes forward, sort them by the output's
//!           stride, merge neighbours that step as one
//!   blocks  rows x columns of the two axes that matter; outer axes count like an odometer
//!   block   gather what a loop cannot read into tiles, run the loop, scatter the output
//! ```
//!
//! A [`Loop`] asks for a contiguous output and contiguous or scalar inputs of its own types.
//! An operand that is anything else is *staged*: each block is gathered into a tile on the
//! stack (and converted, which is how half precision and mixed types work), and an output is
//! scattered from one. So there is one vectorised body per kernel rather than one per layout,
//! and a strided `exp` runs at the vector's speed.
//!
//! Blocks are wide and flat, and cover several rows when rows are short. Where a staged operand
//! is contiguous along another axis than the output (`x.t() + y`), that axis becomes the row
//! axis and a block takes a cache line of it, so that each line is read once.
//!
//! Pointwise results do not depend on how the work is cut, so the cut follows speed alone; work
//! above [`GRAIN`] elements goes to `threads::parallel_for`.

#![allow(unsafe_code)]

use super::cast::cast_loop;
use super::isa::isa;
use super::rows::{Kernel, Loop, MAX_OPERANDS};
use super::threads::parallel_for;
use crate::dtype::DType;
use smallvec::SmallVec;
use std::mem::MaybeUninit;
use std::ops::Range;

/// Where an operand lies in memory.
#[derive(Clone, Copy, Debug)]
pub struct Operand<'a> {
    /// The element at index zero.
    pub ptr: *mut u8,
    /// The type of the elements there.
    pub dtype: DType,
    /// Elements from one index to the next, per axis of the shape; 0 broadcasts.
    pub strides: &'a [isize],
}

/// Elements below which work stays on the calling thread.
pub const GRAIN: usize = 64 * 1024;

/// Bytes of a tile. Six of them (five operands and one to convert through) fit a first-level
/// cache beside the lines they are gathered from.
const TILE_BYTES: usize = 4096;

/// Columns up to which rows are staged to be run together.
const SHORT: usize = 16;

/// A cache line, for cutting blocks across the grain of memory.
const LINE: usize = 64;

#[repr(align(64))]
struct Tile(MaybeUninit<[u8; TILE_BYTES]>);

/// Computes `output = kernel(inputs...)` in the type `compute`, element by element.
///
/// `operands[0]` is the output. Operands whose type is not the one the kernel works in are
/// converted: inputs before, the output after.
///
/// # Safety
/// Each operand is valid at every index of `shape` (for reads, the output for writes), aligned
/// to its elements, and inputs are initialised (bools hold 0 or 1). The output has no two indices
/// in one place, and is either the same elements as an input (same address, strides and type)
/// or does not overlap it.
///
/// # Panics
/// If the number of operands is wrong or the kernel does not [support](Kernel::supports)
/// `compute`: both are for the caller to check when it picks the type.
#[inline]
pub unsafe fn map(kernel: &Kernel, compute: DType, shape: &[usize], operands: &[Operand]) {
    let Some(table) = &kernel.loops[compute as usize] else {
        panic!("kernel {} has no loop for {compute}", kernel.name)
    };
    let count = operands.len();
    assert!(count == kernel.arity() + 1, "kernel {} got {count} operands", kernel.name);
    let body = table[isa() as usize];
    let len: usize = shape.iter().product();
    let mut flat = Flat { ptrs: [std::ptr::null_mut(); MAX_OPERANDS], steps: [0; MAX_OPERANDS] };
    for (i, operand) in operands.iter().enumerate() {
        let step = flat_step(shape, operand.strides, i > 0);
        let (Some(step), true) = (step, operand.dtype == kernel.kind(i).dtype(compute)) else {
            // SAFETY: the caller's promises.
            return unsafe { map_strided(kernel, compute, body, shape, operands) };
        };
        flat.ptrs[i] = operand.ptr;
        flat.steps[i] = step * operand.dtype.size() as isize;
    }
    // SAFETY: the caller's promises; `flat` describes every operand.
    unsafe { run_flat(body, flat, len) }
}

/// The step, 1 or 0, of an operand that is one run of memory or, if that is allowed, one element.
#[inline]
fn flat_step(shape: &[usize], strides: &[isize], scalar_allowed: bool) -> Option<isize> {
    let (mut contiguous, mut scalar, mut expected) = (true, true, 1);
    for (&n, &stride) in shape.iter().zip(strides).rev() {
        if n != 1 {
            contiguous &= stride == expected;
            scalar &= stride == 0;
            expected *= n as isize;
        }
    }
    match (contiguous, scalar && scalar_allowed) {
        (true, _) => Some(1),
        (false, true) => Some(0),
        (false, false) => None,
    }
}

/// Operands of a loop over consecutive elements.
struct Flat {
    ptrs: [*mut u8; MAX_OPERANDS],
    steps: [isize; MAX_OPERANDS],
}

// SAFETY: addresses that `map`'s caller answers for; threads write disjoint elements.
unsafe impl Sync for Flat {}

impl Flat {
    /// Runs the loop over a part of the elements.
    ///
    /// # Safety
    /// The operands are valid there.
    unsafe fn run(&self, body: Loop, range: Range<usize>) {
        let mut ptrs = self.ptrs;
        for (ptr, step) in ptrs.iter_mut().zip(self.steps) {
            *ptr = ptr.wrapping_offset(range.start as isize * step);
        }
        // SAFETY: by the caller's promise.
        unsafe { body(ptrs.as_ptr(), self.steps.as_ptr(), range.len()) }
    }
}

/// Runs a loop over `len` consecutive elements.
#[inline]
unsafe fn run_flat(body: Loop, flat: Flat, len: usize) {
    // SAFETY: `map`'s caller promised validity over the whole shape, and parts are disjoint.
    unsafe {
        match len {
            0 => {}
            1..=GRAIN => body(flat.ptrs.as_ptr(), flat.steps.as_ptr(), len),
            _ => parallel_for(len, GRAIN / 2, |range| flat.run(body, range)),
        }
    }
}

/// [`map`] when some operand is strided or of another type.
#[inline(never)]
unsafe fn map_strided(
    kernel: &Kernel,
    compute: DType,
    body: Loop,
    shape: &[usize],
    operands: &[Operand],
) {
    let mut slots = [Slot::EMPTY; MAX_OPERANDS];
    let slots = &mut slots[..operands.len()];
    for (i, (slot, o)) in slots.iter_mut().zip(operands).enumerate() {
        *slot = Slot { ptr: o.ptr, stored: o.dtype, wanted: kernel.kind(i).dtype(compute) };
    }
    // SAFETY: passed on; `slots` describes `operands`.
    unsafe { run_strided(Some(body), shape, operands, slots) }
}

/// As [`map`], for a loop whose operands are all of its own types; without a loop, elements are
/// copied from the second operand to the first.
///
/// # Safety
/// As for [`map`]; `body` works on elements of the operands' types, and without one there are
/// two operands of one type.
pub(super) unsafe fn run(body: Option<Loop>, shape: &[usize], operands: &[Operand]) {
    let mut slots = [Slot::EMPTY; MAX_OPERANDS];
    let slots = &mut slots[..operands.len()];
    for (slot, o) in slots.iter_mut().zip(operands) {
        *slot = Slot { ptr: o.ptr, stored: o.dtype, wanted: o.dtype };
    }
    // SAFETY: passed on.
    unsafe { run_strided(body, shape, operands, slots) }
}

/// What the engine keeps of an operand besides its strides.
#[derive(Clone, Copy)]
struct Slot {
    ptr: *mut u8,
    stored: DType,
    wanted: DType,
}

// SAFETY: a slot is an address; `map`'s caller answers for what lies there, and threads write
// to disjoint elements of the output only.
unsafe impl Send for Slot {}
// SAFETY: as above.
unsafe impl Sync for Slot {}

impl Slot {
    const EMPTY: Slot =
        Slot { ptr: std::ptr::null_mut(), stored: DType::Bool, wanted: DType::Bool };

    fn converts(&self) -> bool {
        self.stored != self.wanted
    }
}

/// One axis of the walk: its length and each operand's step in bytes.
#[derive(Clone, Copy)]
pub(super) struct Axis {
    pub(super) len: usize,
    pub(super) steps: [isize; MAX_OPERANDS],
}

/// Axes, outermost first; up to eight without touching the heap.
pub(super) type Axes = SmallVec<[Axis; 8]>;

/// The axes of a walk that visits the output in the order of memory: none of length 1, sorted,
/// merged. Reversed outputs are turned forward, which moves every pointer of `ptrs` along.
pub(super) fn axes(shape: &[usize], operands: &[Operand], ptrs: &mut [*mut u8]) -> Axes {
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
unsafe fn run_strided(
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
        let mut tiles = [const { Tile(MaybeUninit::uninit()) }; MAX_OPERANDS];
        let mut at = *ptrs;
        let mut strides = [0isize; MAX_OPERANDS];
        let mut pitch = [0isize; MAX_OPERANDS];
        let mut one_run = true;
        for (k, slot) in self.slots.iter().enumerate() {
            let size = slot.wanted.size() as isize;
            let mut scalar = self.column.steps[k] == 0 && k > 0;
            if self.staged[k] {
                at[k] = tiles[k].0.as_mut_ptr().cast();
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

/// Fills a dense tile with a block of memory, converted.
///
/// # Safety
/// The block is valid for reads of `rows` x `columns` elements of type `stored`, and `tile` for
/// writes of as many of type `wanted`.
pub(super) unsafe fn load(
    (tile, wanted): (*mut u8, DType),
    (from, stored): (Block, DType),
    rows: usize,
    columns: usize,
) {
    let dense = Block::dense(tile, wanted, columns);
    // SAFETY: the caller's promises; `raw` holds `height * width` elements.
    unsafe {
        if stored == wanted {
            return move_block(stored.size(), dense, from, rows, columns);
        }
        let cast = cast_loop(stored, wanted);
        if from.column == stored.size() as isize {
            for r in 0..rows {
                convert(cast, dense.at(r, 0).ptr, from.at(r, 0).ptr, columns);
            }
            return;
        }
        let mut raw = Tile(MaybeUninit::uninit());
        let raw: *mut u8 = raw.0.as_mut_ptr().cast();
        let width = columns.min(TILE_BYTES / stored.size());
        let height = rows.min(TILE_BYTES / stored.size() / width);
        for r in (0..rows).step_by(height) {
            for c in (0..columns).step_by(width) {
                let (h, w) = (height.min(rows - r), width.min(columns - c));
                let piece = Block::dense(raw, stored, w);
                move_block(stored.size(), piece, from.at(r, c), h, w);
                // Either the piece is one row or it has whole rows.
                convert(cast, dense.at(r, c).ptr, raw, h * w);
            }
        }
    }
}

/// Writes a dense tile to a block of memory, converted.
///
/// # Safety
/// The block is valid for writes of `rows` x `columns` elements of type `stored`, and `tile` for
/// reads of as many of type `wanted`, which fit a tile in either type.
pub(super) unsafe fn store(
    (to, stored): (Block, DType),
    (tile, wanted): (*mut u8, DType),
    rows: usize,
    columns: usize,
) {
    let dense = Block::dense(tile, wanted, columns);
    // SAFETY: the caller's promises.
    unsafe {
        if stored == wanted {
            return move_block(stored.size(), to, dense, rows, columns);
        }
        let cast = cast_loop(wanted, stored);
        if to.column == stored.size() as isize {
            for r in 0..rows {
                convert(cast, to.at(r, 0).ptr, dense.at(r, 0).ptr, columns);
            }
            return;
        }
        let mut raw = Tile(MaybeUninit::uninit());
        let raw: *mut u8 = raw.0.as_mut_ptr().cast();
        convert(cast, raw, tile, rows * columns);
        move_block(stored.size(), to, Block::dense(raw, stored, columns), rows, columns);
    }
}

/// Converts `n` contiguous elements.
///
/// # Safety
/// `cast` belongs to the types behind the pointers, which are valid for `n` elements.
#[inline]
unsafe fn convert(cast: Loop, to: *mut u8, from: *mut u8, n: usize) {
    // Any stride but 0 says "contiguous".
    // SAFETY: passed on.
    unsafe { cast([to, from].as_ptr(), [1, 1].as_ptr(), n) }
}

/// A two-dimensional piece of memory; steps in bytes.
#[derive(Clone, Copy)]
pub(super) struct Block {
    pub(super) ptr: *mut u8,
    pub(super) row: isize,
    pub(super) column: isize,
}

impl Block {
    fn dense(ptr: *mut u8, dtype: DType, columns: usize) -> Self {
        let size = dtype.size() as isize;
        Block { ptr, row: size * columns as isize, column: size }
    }

    pub(super) fn at(self, row: usize, column: usize) -> Self {
        let offset = row as isize * self.row + column as isize * self.column;
        Block { ptr: self.ptr.wrapping_offset(offset), ..self }
    }
}

/// Copies `rows` x `columns` elements of `size` bytes, reading along the source's memory.
///
/// # Safety
/// Both blocks are valid, aligned for elements of `size` bytes, and apart.
pub(super) unsafe fn move_block(size: usize, to: Block, from: Block, rows: usize, columns: usize) {
    // SAFETY: passed on; an element is moved as an integer of its size.
    unsafe {
        match size {
            1 => move_elements::<u8>(to, from, rows, columns),
            2 => move_elements::<u16>(to, from, rows, columns),
            4 => move_elements::<u32>(to, from, rows, columns),
            _ => move_elements::<u64>(to, from, rows, columns),
        }
    }
}

unsafe fn move_elements<T: Copy>(to: Block, from: Block, rows: usize, columns: usize) {
    let size = size_of::<T>() as isize;
    let turn = |b: Block| Block { ptr: b.ptr, row: b.column, column: b.row };
    let side = LINE / size_of::<T>();
    if from.row == size && to.column == size && rows > 1 && columns > 1 {
        // Both sides are contiguous, but across each other: squares of one line's side, so that
        // each line is touched once, even where many rows compete for one cache set.
        for r in (0..rows).step_by(side) {
            for c in (0..columns).step_by(side) {
                let (to, from) = (to.at(r, c), from.at(r, c));
                // SAFETY: the square lies inside both blocks.
                unsafe { transpose::<T>(to, from, side.min(rows - r), side.min(columns - c)) }
            }
        }
        return;
    }
    // The inner loop goes along the source's shorter step, unless it would hardly be a loop.
    let shorter = from.row.unsigned_abs() < from.column.unsigned_abs();
    let (to, from, rows, columns) = if rows > 8 && (shorter || columns < 8) {
        (turn(to), turn(from), columns, rows)
    } else {
        (to, from, rows, columns)
    };
    for r in 0..rows as isize {
        let to_row = to.ptr.wrapping_offset(r * to.row);
        let from_row = from.ptr.wrapping_offset(r * from.row);
        // SAFETY: both blocks are valid for rows x columns elements.
        unsafe {
            if to.column == size && from.column == size {
                std::ptr::copy_nonoverlapping(from_row.cast::<T>(), to_row.cast::<T>(), columns);
            } else if to.column == size && from.column == 0 {
                let value = from_row.cast::<T>().read();
                for c in 0..columns {
                    to_row.cast::<T>().add(c).write(value);
                }
            } else {
                for c in 0..columns as isize {
                    let value = from_row.wrapping_offset(c * from.column).cast::<T>().read();
                    to_row.wrapping_offset(c * to.column).cast::<T>().write(value);
                }
            }
        }
    }
}

/// Moves a square of up to a line's side: `from` is contiguous down its columns, `to` along its
/// rows.
///
/// # Safety
/// Both blocks are valid for `rows` x `columns` elements, each at most a line's worth.
unsafe fn transpose<T: Copy>(to: Block, from: Block, rows: usize, columns: usize) {
    let mut square = Tile(MaybeUninit::uninit());
    let square: *mut T = square.0.as_mut_ptr().cast();
    let side = LINE / size_of::<T>();
    // SAFETY: the square holds `side * side` elements, a tile at most.
    unsafe {
        for c in 0..columns {
            let line = from.ptr.wrapping_offset(c as isize * from.column).cast::<T>();
            for r in 0..rows {
                square.add(r * side + c).write(line.add(r).read());
            }
        }
        for r in 0..rows {
            let line = to.ptr.wrapping_offset(r as isize * to.row).cast::<T>();
            std::ptr::copy_nonoverlapping(square.add(r * side), line, columns);
        }
    }
}
