//! The checks of the feature `debug-poison`, over blocks with canaries behind.
//!
//! The second word of a block that was never used is 0 when it leaves the system; that of an idle
//! block is `IDLE`, and everything behind it is poison.
#![allow(unsafe_code)]

use super::shelf::{Header, out_of_memory};
use super::{GUARD_BYTES, SMALL_MAX, allocate_raw, class_bytes, class_of, deallocate_raw};
use crate::error::Result;
use std::ptr::NonNull;

const POISON: u8 = 0xFF;
const CANARY: u8 = 0xC5;
const IDLE: u64 = 0x1D1E_B10C_1D1E_B10C;
/// Link and mark.
const WORDS: usize = 16;

/// Marks a block that comes from the system.
///
/// # Safety
/// `block` has at least 64 bytes that nobody else uses.
pub unsafe fn mark_fresh(block: NonNull<u8>) {
    if cfg!(feature = "debug-poison") {
        // SAFETY: the second word lies inside the block.
        unsafe { block.cast::<u64>().add(1).write(0) };
    }
}

/// # Panics
/// If an idle block was written to: memory is corrupt already.
pub fn allocate(bytes: usize) -> Result<NonNull<u8>> {
    let Some(padded) = bytes.checked_add(GUARD_BYTES) else {
        return Err(out_of_memory(bytes));
    };
    let block = allocate_raw(padded).map_err(|_| out_of_memory(bytes))?;
    // SAFETY: the block has `padded` bytes. Its second word was written by `mark_fresh` or
    // `deallocate`, and in the second case all bytes behind it were.
    unsafe {
        if block.cast::<u64>().add(1).read() == IDLE {
            let rest = std::slice::from_raw_parts(block.as_ptr(), padded);
            let untouched = rest[WORDS..].iter().all(|&b| b == POISON);
            assert!(untouched, "a write to a freed block of {bytes} bytes");
        }
        block.write_bytes(POISON, bytes);
        block.add(bytes).write_bytes(CANARY, GUARD_BYTES);
    }
    Ok(block)
}

/// # Safety
/// As [`super::deallocate`].
///
/// # Panics
/// If a byte behind the block was overwritten: memory is corrupt already.
pub unsafe fn deallocate(block: NonNull<u8>, bytes: usize) {
    let padded = bytes + GUARD_BYTES;
    // SAFETY: the caller gives the block up, `allocate` wrote `GUARD_BYTES` behind `bytes`,
    // and a block has at least the size of its class or of its header.
    unsafe {
        let guard = std::slice::from_raw_parts(block.add(bytes).as_ptr(), GUARD_BYTES);
        let whole = guard.iter().all(|&b| b == CANARY);
        assert!(whole, "a write past the end of a block of {bytes} bytes");
        let size = match padded > SMALL_MAX {
            true => block.cast::<Header>().sub(1).read().bytes,
            false => class_bytes(class_of(padded)),
        };
        block.write_bytes(POISON, size);
        block.cast::<u64>().add(1).write(IDLE);
        deallocate_raw(block, padded);
    }
}
