//! Buffers.
#![allow(unsafe_code)]
use crate::{Error, Kind, Result};
use std::ptr::NonNull;

/// Uninitialised, 64-byte aligned memory.
pub fn allocate(bytes: usize) -> Result<NonNull<u8>> {
    let layout = std::alloc::Layout::from_size_align(bytes.max(64), 64)
        .map_err(|_| Error::plain(Kind::Memory, "too large"))?;
    // SAFETY: the size is not zero.
    NonNull::new(unsafe { std::alloc::alloc(layout) }).ok_or_else(|| {
        Error::plain(
            Kind::Memory,
            format!(
                "DefaultCPUAllocator: can't allocate memory: you tried to allocate {bytes} bytes."
            ),
        )
    })
}

/// Memory full of zeros.
pub fn allocate_zeroed(bytes: usize) -> Result<NonNull<u8>> {
    let p = allocate(bytes)?;
    // SAFETY: `p` has `bytes` bytes.
    unsafe { p.as_ptr().write_bytes(0, bytes) };
    Ok(p)
}

/// Gives memory back.
///
/// # Safety
/// `ptr` came from `allocate(bytes)` and is not used again.
pub unsafe fn deallocate(ptr: NonNull<u8>, bytes: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        std::alloc::dealloc(
            ptr.as_ptr(),
            std::alloc::Layout::from_size_align_unchecked(bytes.max(64), 64),
        )
    }
}
