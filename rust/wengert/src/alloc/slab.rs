//! Small blocks from the system: cut from slabs of 64 KiB.
//!
//! The bodies of tensors and the data of small ones are a few cache lines each. Asked of the system one
//! by one, aligned, each of them would take nearly as much again for the system's own use; a slab gives
//! them side by side.
//!
//! A slab begins at a multiple of its size, so that the address of a block leads to it. Its free blocks
//! are a list through the blocks themselves. Slabs that have any form a list per size, of which the
//! first is served from; a slab whose last block comes back goes back to the system. Nothing here is on
//! the way of an ordinary request: blocks come here from a shelf that is trimmed, and leave when no idle
//! block is left.
#![allow(unsafe_code)]

use super::ALIGNMENT;
use super::shelf::{Idle, lock};
use super::{class_bytes, class_of};
use std::alloc::Layout;
use std::ptr::null_mut;
use std::sync::{Mutex, MutexGuard};

/// The largest blocks that are cut from slabs.
pub const SLAB_MAX: usize = 512;
const CLASSES: usize = class_of(SLAB_MAX) + 1;
const SLAB_BYTES: usize = 64 << 10;
const LAYOUT: Layout = match Layout::from_size_align(SLAB_BYTES, SLAB_BYTES) {
    Ok(layout) => layout,
    Err(_) => panic!("a slab fits the address space"),
};

/// The beginning of a slab; its blocks follow.
#[repr(C, align(64))]
struct Slab {
    free: *mut Idle,
    /// Where blocks that were never handed out begin, in bytes from the slab's start.
    untouched: usize,
    /// Blocks handed out.
    taken: usize,
    /// Neighbours in the list of slabs with free blocks.
    previous: *mut Slab,
    next: *mut Slab,
}

const _: () = assert!(size_of::<Slab>() == ALIGNMENT);

/// For each size, the first of the slabs that have free blocks.
pub struct Slabs([*mut Slab; CLASSES]);

// SAFETY: slabs are reached through this list and through their blocks only, in both cases by whoever
// holds its lock.
unsafe impl Send for Slabs {}

static SLABS: Mutex<Slabs> = Mutex::new(Slabs([null_mut(); CLASSES]));

/// The lock, taken for a fork.
pub fn hold() -> MutexGuard<'static, Slabs> {
    lock(&SLABS)
}

/// A block of a class up to [`SLAB_MAX`]; null if the system has no memory.
pub fn take(class: usize) -> *mut u8 {
    let bytes = class_bytes(class);
    let mut slabs = lock(&SLABS);
    // SAFETY: the lock makes us the only user of all slabs. Those in the list have a free block.
    unsafe {
        if slabs.0[class].is_null() {
            let slab = std::alloc::alloc(LAYOUT).cast::<Slab>();
            if slab.is_null() {
                return null_mut();
            }
            slab.write(Slab {
                free: null_mut(),
                untouched: size_of::<Slab>(),
                taken: 0,
                previous: null_mut(),
                next: null_mut(),
            });
            slabs.0[class] = slab;
        }
        let slab = &mut *slabs.0[class];
        slab.taken += 1;
        let block = if slab.free.is_null() {
            let block = std::ptr::from_mut(slab).cast::<u8>().add(slab.untouched);
            slab.untouched += bytes;
            block
        } else {
            let block = slab.free;
            slab.free = (*block).next;
            block.cast()
        };
        if slab.is_full(bytes) {
            slabs.unlink(class, slab);
        }
        block
    }
}

/// Takes back a list of blocks of a class.
///
/// # Safety
/// They came from [`take`] with this class and are not used any more.
pub unsafe fn give_back(class: usize, mut block: *mut Idle) {
    let bytes = class_bytes(class);
    let mut slabs = lock(&SLABS);
    while !block.is_null() {
        // SAFETY: the block begins with the link to the next and lies in a slab, which the lock makes
        // ours.
        unsafe {
            let next = (*block).next;
            let slab = &mut *block.map_addr(|a| a & !(SLAB_BYTES - 1)).cast::<Slab>();
            if slab.is_full(bytes) {
                slabs.link(class, slab);
            }
            (*block).next = slab.free;
            slab.free = block;
            slab.taken -= 1;
            if slab.taken == 0 {
                slabs.unlink(class, slab);
                std::alloc::dealloc(std::ptr::from_mut(slab).cast(), LAYOUT);
            }
            block = next;
        }
    }
}

impl Slab {
    fn is_full(&self, bytes: usize) -> bool {
        self.free.is_null() && self.untouched + bytes > SLAB_BYTES
    }
}

impl Slabs {
    /// Puts a slab first.
    unsafe fn link(&mut self, class: usize, slab: &mut Slab) {
        slab.previous = null_mut();
        slab.next = self.0[class];
        self.0[class] = slab;
        // SAFETY: the list's slabs are ours, as the caller's is.
        if let Some(next) = unsafe { slab.next.as_mut() } {
            next.previous = slab;
        }
    }

    /// Takes a slab out.
    unsafe fn unlink(&mut self, class: usize, slab: &mut Slab) {
        // SAFETY: as above.
        unsafe {
            match slab.previous.as_mut() {
                Some(previous) => previous.next = slab.next,
                None => self.0[class] = slab.next,
            }
            if let Some(next) = slab.next.as_mut() {
                next.previous = slab.previous;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    /// The blocks as a list that can be given back.
    fn chain(blocks: &[*mut u8]) -> *mut Idle {
        let mut head = null_mut();
        for &block in blocks {
            let block = block.cast::<Idle>();
            // SAFETY: each block is at least 64 bytes of the test's own.
            unsafe { block.write(Idle { next: head }) };
            head = block;
        }
        head
    }

    #[test]
    fn blocks_are_apart_aligned_and_used_again() {
        for class in 0..CLASSES {
            let bytes = class_bytes(class);
            let blocks: Vec<_> = (0..3 * SLAB_BYTES / bytes).map(|_| take(class)).collect();
            let mut places: Vec<_> = blocks.iter().map(|b| b.addr()).collect();
            assert!(places.iter().all(|a| a.is_multiple_of(ALIGNMENT)));
            for &block in &blocks {
                // SAFETY: the block is ours and as long.
                unsafe { block.write_bytes(class as u8, bytes) };
            }
            places.sort_unstable();
            assert!(places.windows(2).all(|w| w[1] - w[0] >= bytes));
            let (first, second): (Vec<_>, Vec<_>) =
                blocks.iter().enumerate().partition(|(i, _)| i % 3 == 0);
            let of = |part: Vec<(usize, &*mut u8)>| {
                part.into_iter().map(|(_, b)| *b).collect::<Vec<_>>()
            };
            let (first, second) = (of(first), of(second));
            // SAFETY: the blocks came from `take` and are not used any more.
            unsafe { give_back(class, chain(&first)) };
            let known: HashSet<_> = first.iter().copied().collect();
            let again: Vec<_> = (0..first.len() / 2).map(|_| take(class)).collect();
            assert!(again.iter().all(|block| known.contains(block)));
            // SAFETY: as above.
            unsafe {
                give_back(class, chain(&again));
                give_back(class, chain(&second));
            }
        }
    }
}
