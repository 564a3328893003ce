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

mod block;
#[cfg(test)]
mod tests;
mod walk;

use super::cast::cast_loop;
use super::isa::isa;
use super::rows::{Kernel, Loop, MAX_OPERANDS};
use super::threads::parallel_for;
use crate::dtype::DType;
use block::{TILE_BYTES, Tile, convert};
use std::ops::Range;
use walk::{Slot, run_strided};

pub(super) use block::{Block, load, store};

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
    let mut one_type = true;
    for (i, operand) in operands.iter().enumerate() {
        let Some(step) = flat_step(shape, operand.strides, i > 0) else {
            // SAFETY: the caller's promises.
            return unsafe { map_strided(kernel, compute, body, shape, operands) };
        };
        one_type &= operand.dtype == kernel.kind(i).dtype(compute);
        flat.ptrs[i] = operand.ptr;
        flat.steps[i] = step * operand.dtype.size() as isize;
    }
    // SAFETY: the caller's promises; `flat` describes every operand.
    unsafe {
        match one_type {
            true => run_flat(body, flat, len),
            false => run_mixed(kernel, compute, body, operands, flat, len),
        }
    }
}

/// [`map`] where every operand is known to be a run of `len` elements of the kernel's own type, or
/// one such element where its step is 0. Steps are in bytes.
///
/// # Safety
/// As for [`map`].
///
/// # Panics
/// If the kernel does not [support](Kernel::supports) `compute`.
#[inline]
pub unsafe fn map_flat(
    kernel: &Kernel,
    compute: DType,
    len: usize,
    ptrs: [*mut u8; MAX_OPERANDS],
    steps: [isize; MAX_OPERANDS],
) {
    let Some(table) = &kernel.loops[compute as usize] else {
        panic!("kernel {} has no loop for {compute}", kernel.name)
    };
    // SAFETY: the caller's promises.
    unsafe { run_flat(table[isa() as usize], Flat { ptrs, steps }, len) }
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

    /// As [`Flat::run`], converting what `slots` says.
    ///
    /// # Safety
    /// As for [`Flat::run`].
    unsafe fn run_mixed(&self, body: Loop, slots: &[Slot], range: Range<usize>) {
        // A tile holds a piece of the widest type.
        const PIECE: usize = TILE_BYTES / 8;
        let mut tiles = [const { Tile::new() }; MAX_OPERANDS];
        let mut ptrs = self.ptrs;
        let mut steps = self.steps;
        for (k, slot) in slots.iter().enumerate() {
            let scalar = self.steps[k] == 0;
            if slot.stored == slot.wanted {
                ptrs[k] = ptrs[k].wrapping_offset(range.start as isize * self.steps[k]);
                continue;
            }
            ptrs[k] = tiles[k].ptr();
            // What is read from a tile starts where the tile does, piece after piece.
            if scalar {
                // SAFETY: a scalar is one readable element.
                unsafe { convert(cast_loop(slot.stored, slot.wanted), ptrs[k], slot.ptr, 1) }
            } else {
                steps[k] = slot.wanted.size() as isize;
            }
        }
        for start in range.clone().step_by(PIECE) {
            let n = PIECE.min(range.end - start);
            let at = |k: usize| self.ptrs[k].wrapping_offset(start as isize * self.steps[k]);
            // SAFETY: the piece is within the range, and fits a tile.
            unsafe {
                for (k, slot) in slots.iter().enumerate().skip(1) {
                    if slot.stored != slot.wanted && self.steps[k] != 0 {
                        convert(cast_loop(slot.stored, slot.wanted), ptrs[k], at(k), n);
                    }
                }
                body(ptrs.as_ptr(), steps.as_ptr(), n);
                if slots[0].stored != slots[0].wanted {
                    convert(cast_loop(slots[0].wanted, slots[0].stored), at(0), ptrs[0], n);
                }
            }
            for (k, slot) in slots.iter().enumerate() {
                if slot.stored == slot.wanted {
                    ptrs[k] = ptrs[k].wrapping_offset(n as isize * steps[k]);
                }
            }
        }
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

/// As [`run_flat`] for operands of other types than the kernel's: converts tile by tile.
#[inline(never)]
unsafe fn run_mixed(
    kernel: &Kernel,
    compute: DType,
    body: Loop,
    operands: &[Operand],
    flat: Flat,
    len: usize,
) {
    let mut slots = [Slot::EMPTY; MAX_OPERANDS];
    for (i, (slot, o)) in slots.iter_mut().zip(operands).enumerate() {
        *slot = Slot { ptr: o.ptr, stored: o.dtype, wanted: kernel.kind(i).dtype(compute) };
    }
    let slots = &slots[..operands.len()];
    // SAFETY: `map`'s caller promised validity over the whole shape, and parts are disjoint.
    unsafe {
        if len <= GRAIN {
            flat.run_mixed(body, slots, 0..len);
        } else {
            parallel_for(len, GRAIN / 2, |range| flat.run_mixed(body, slots, range));
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
