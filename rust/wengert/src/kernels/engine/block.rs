//! Two-dimensional pieces of memory: moved, transposed and converted.

use super::super::cast::cast_loop;
use super::super::rows::Loop;
use crate::dtype::DType;
use std::mem::MaybeUninit;

/// Bytes of a tile. Six of them (five operands and one to convert through) fit a first-level
/// cache beside the lines they are gathered from.
pub(super) const TILE_BYTES: usize = 4096;

/// A cache line, for cutting blocks across the grain of memory.
pub(super) const LINE: usize = 64;

#[repr(align(64))]
pub(super) struct Tile(MaybeUninit<[u8; TILE_BYTES]>);

impl Tile {
    pub(super) const fn new() -> Self {
        Tile(MaybeUninit::uninit())
    }

    pub(super) fn ptr(&mut self) -> *mut u8 {
        self.0.as_mut_ptr().cast()
    }
}

/// Fills a dense tile with a block of memory, converted.
///
/// # Safety
/// The block is valid for reads of `rows` x `columns` elements of type `stored`, and `tile` for
/// writes of as many of type `wanted`.
pub(in crate::kernels) unsafe fn load(
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
        let mut raw = Tile::new();
        let raw: *mut u8 = raw.ptr();
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
pub(in crate::kernels) unsafe fn store(
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
        let mut raw = Tile::new();
        let raw: *mut u8 = raw.ptr();
        convert(cast, raw, tile, rows * columns);
        move_block(stored.size(), to, Block::dense(raw, stored, columns), rows, columns);
    }
}

/// Converts `n` contiguous elements.
///
/// # Safety
/// `cast` belongs to the types behind the pointers, which are valid for `n` elements.
#[inline]
pub(in crate::kernels) unsafe fn convert(cast: Loop, to: *mut u8, from: *mut u8, n: usize) {
    // Any stride but 0 says "contiguous".
    // SAFETY: passed on.
    unsafe { cast([to, from].as_ptr(), [1, 1].as_ptr(), n) }
}

/// A two-dimensional piece of memory; steps in bytes.
#[derive(Clone, Copy)]
pub(in crate::kernels) struct Block {
    pub(in crate::kernels) ptr: *mut u8,
    pub(in crate::kernels) row: isize,
    pub(in crate::kernels) column: isize,
}

impl Block {
    fn dense(ptr: *mut u8, dtype: DType, columns: usize) -> Self {
        let size = dtype.size() as isize;
        Block { ptr, row: size * columns as isize, column: size }
    }

    pub(in crate::kernels) fn at(self, row: usize, column: usize) -> Self {
        let offset = row as isize * self.row + column as isize * self.column;
        Block { ptr: self.ptr.wrapping_offset(offset), ..self }
    }
}

/// Copies `rows` x `columns` elements of `size` bytes, reading along the source's memory.
///
/// # Safety
/// Both blocks are valid, aligned for elements of `size` bytes, and apart.
pub(in crate::kernels) unsafe fn move_block(
    size: usize,
    to: Block,
    from: Block,
    rows: usize,
    columns: usize,
) {
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
    let across = |to: Block, from: Block| from.row == size && to.column == size;
    if rows > 1 && columns > 1 && (across(to, from) || across(turn(to), turn(from))) {
        let (to, from, rows, columns) = match across(to, from) {
            true => (to, from, rows, columns),
            false => (turn(to), turn(from), columns, rows),
        };
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
    // The inner loop goes along the source's shorter step, unless it would hardly be a loop. A row
    // that all rows share is read along, not down.
    let shorter = from.row != 0 && from.row.unsigned_abs() < from.column.unsigned_abs();
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
    let mut square = Tile::new();
    let square: *mut T = square.ptr().cast();
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
