//! Copies of blocks of A and B in the order in which the tiles read them.
//!
//! A panel of B is as wide as a tile and padded with zeros; a strip of A is as high as a tile.
//! Both hold, for each step of `k`, the elements that the tile needs next to each other.
//! Transposed sources (`x @ W.T`) go through squares that are turned in registers.

use super::micro::{Float, Kernels, Simd, Square};
use std::cell::Cell;
use std::mem::MaybeUninit;

/// Copies `to[i * to_row + j] = from[j * from_row + i]` for `i < rows`, `j < cols`:
/// `fn(to, to_row, from, from_row, rows, cols)`.
///
/// # Safety
/// All elements of both sides must be valid, and the machine must have the instructions.
pub type Transpose<T> = unsafe fn(*mut T, usize, *const T, isize, usize, usize);

/// The body of a [`Transpose`].
///
/// # Safety
/// As for [`Transpose`].
#[inline(always)]
pub unsafe fn transpose<S: Simd>(
    to: *mut S::T,
    to_row: usize,
    from: *const S::T,
    from_row: isize,
    rows: usize,
    cols: usize,
) {
    let (whole_rows, whole_cols) = (rows - rows % S::SIDE, cols - cols % S::SIDE);
    // SAFETY: squares and remainders lie within `rows x cols`.
    unsafe {
        for j in (0..whole_cols).step_by(S::SIDE) {
            let from = from.offset(j as isize * from_row);
            for i in (0..whole_rows).step_by(S::SIDE) {
                let mut square = [S::Square::splat(S::T::ZERO); 8];
                for (j, side) in square.iter_mut().enumerate().take(S::SIDE) {
                    *side = S::Square::load(from.offset(j as isize * from_row).add(i));
                }
                S::Square::turn(&mut square);
                for (l, side) in square.into_iter().enumerate().take(S::SIDE) {
                    side.store(to.add((i + l) * to_row + j));
                }
            }
        }
        for j in 0..cols {
            let from = from.offset(j as isize * from_row);
            let start = if j < whole_cols { whole_rows } else { 0 };
            for i in start..rows {
                *to.add(i * to_row + j) = *from.add(i);
            }
        }
    }
}

/// Packs a block: `to[i * width + j] = from[i, j]` for `i < rows`, `j < cols`, and zeros for
/// `cols <= j < width`.
///
/// # Safety
/// `from` must be valid at these places, `to` for `rows * width` elements.
pub unsafe fn pack<T: Float>(
    kernels: &Kernels<T>,
    to: *mut T,
    width: usize,
    from: *const T,
    [row, col]: [isize; 2],
    rows: usize,
    cols: usize,
) {
    // SAFETY: as promised by the caller.
    unsafe {
        if col == 1 && cols == kernels.cols() {
            for i in 0..rows {
                // The common case with a length that the compiler can turn into vectors.
                copy_row(to.add(i * width), from.offset(i as isize * row), kernels.cols());
            }
        } else if col == 1 {
            for i in 0..rows {
                from.offset(i as isize * row).copy_to_nonoverlapping(to.add(i * width), cols);
            }
        } else if row == 1 {
            (kernels.transpose)(to, width, from, col, rows, cols);
        } else {
            for i in 0..rows {
                for j in 0..cols {
                    *to.add(i * width + j) = *from.offset(i as isize * row + j as isize * col);
                }
            }
        }
        if cols < width {
            for i in 0..rows {
                for j in cols..width {
                    *to.add(i * width + j) = T::ZERO;
                }
            }
        }
    }
}

/// # Safety
/// Both sides must be valid for `n` elements and not overlap.
#[inline(always)]
unsafe fn copy_row<T: Float>(to: *mut T, from: *const T, n: usize) {
    // SAFETY: as promised by the caller.
    unsafe {
        match n {
            8 => to.cast::<[T; 8]>().write(from.cast::<[T; 8]>().read()),
            16 => to.cast::<[T; 16]>().write(from.cast::<[T; 16]>().read()),
            32 => to.cast::<[T; 32]>().write(from.cast::<[T; 32]>().read()),
            _ => from.copy_to_nonoverlapping(to, n),
        }
    }
}

#[repr(C, align(64))]
#[derive(Clone, Copy)]
struct Line([MaybeUninit<u8>; 64]);

thread_local! {
    static KEPT: [Cell<Vec<Line>>; 2] = const { [Cell::new(Vec::new()), Cell::new(Vec::new())] };
}

/// Scratch memory of a thread that starts at a cache line and is kept for the next call.
pub struct Scratch {
    lines: Vec<Line>,
    slot: usize,
}

impl Scratch {
    /// More than this is given back at once.
    const KEEP: usize = 8 << 20;

    /// Memory for `len` elements of unspecified value. A thread keeps one of each `slot` (0 or 1).
    pub fn new<T: Float>(slot: usize, len: usize) -> Scratch {
        let mut lines = KEPT.try_with(|kept| kept[slot].take()).unwrap_or_default();
        let needed = (len * size_of::<T>()).div_ceil(64);
        if lines.len() < needed {
            lines = Vec::new();
            lines.resize(needed, Line([MaybeUninit::uninit(); 64]));
        }
        Scratch { lines, slot }
    }

    /// The first element.
    pub fn ptr<T: Float>(&mut self) -> *mut T {
        self.lines.as_mut_ptr().cast()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let lines = std::mem::take(&mut self.lines);
        if lines.len() * 64 <= Self::KEEP {
            let _ = KEPT.try_with(|kept| kept[self.slot].set(lines));
        }
    }
}
