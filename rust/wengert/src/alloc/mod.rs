//! Where tensor memory comes from: a caching allocator of 64-byte aligned blocks.
//!
//! Fresh memory is dear. The system hands out pages that fault one by one at first touch, which
//! makes a large elementwise operation several times slower than the same loop over memory that
//! was used before. Training loops free and ask for the same sizes over and over, so freed
//! blocks are kept and handed out again, the hottest first.
//!
//! ```text
//!   allocate / deallocate
//!      | up to 256 KiB                        | above
//!   magazine (one per thread and class)       |
//!      | a full or empty chain of blocks      | one block
//!   shelf (one per class, locked, shared by all threads)
//!      | miss / idle bytes above the limit: least recently shelved first
//!   slabs (up to 512 bytes)  -->  system allocator
//! ```
//!
//! The shelves and the system side are in `shelf.rs`, slabs in `slab.rs`; this file holds the rest.
//!
//! 1. **Size classes.** Multiples of 64 bytes up to 256, then four steps per power of two, so at
//!    most a fifth of a block is padding; from 64 MiB multiples of 2 MiB. The class of a size is
//!    a shift and an add (`class_of`).
//! 2. **Magazines.** A small block is pushed on and popped off a thread-local intrusive list: the
//!    link lives in the idle block itself, so nothing is allocated to free. Two chains per class,
//!    `current` and `spare`, move to and from the shelf as wholes. A thread that allocates and
//!    frees around a boundary therefore never trades more than once per chain, and a block freed
//!    by another thread than the one that asked for it drifts back through the shelf.
//!    The fields are atomics only so that statistics may read them: every access is a relaxed
//!    load or store, which is a plain move.
//! 3. **Statistics for free.** The fast path counts nothing beyond the length of the list it
//!    needs anyway. Shared counters follow blocks across the border of the shelves; bytes in use
//!    are derived as "taken from the shelves or the system" less "resting in magazines".
//! 4. **Large blocks** carry a 16-byte header in front, because a request may be served by a block
//!    up to a quarter larger. They are over-allocated at the system's natural alignment and
//!    aligned by hand: that keeps `calloc`'s untouched zero pages, which an aligned request loses.
//! 5. **Thread ends.** The destructor of a thread-local guard shelves the magazines. Calls made
//!    by later destructors of that thread find no magazine and use shelf and system directly.
//! 6. **Fork.** Idle blocks are plain memory and stay valid in a child. A lock held by another
//!    thread at the moment of the fork would stay locked for ever, so a handler takes all locks
//!    before the fork and gives them back on both sides. `std`'s lock is one futex word, with no
//!    table of waiters that the child could inherit in the middle of a change. Magazines of
//!    threads that do not exist in the child are forgotten there: a leak of at most a few MiB.
//!
//! With the feature `debug-poison` blocks are filled with 0xFF (a NaN in every floating type, -1
//! in every integer) when they are handed out and when they come back, a write to an idle block is
//! found at its next use, and 64 canary bytes behind each block are checked when it is freed.
#![allow(unsafe_code)]

mod fork;
mod poison;
mod shelf;
mod slab;

use crate::error::Result;
use crate::per_thread::here;
use shelf::{Idle, SHELVES, lock, shelve, system_small};
use std::num::NonZero;
use std::ptr::{self, NonNull};
use std::sync::Mutex;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering::Relaxed};

/// Alignment of every block in bytes: a cache line, and the widest vector register.
pub const ALIGNMENT: usize = 64;

/// The largest request served by thread-local magazines.
const SMALL_MAX: usize = 256 << 10;
/// The largest request with a class of its own; above, sizes are multiples of [`HUGE_STEP`].
const CLASSED_MAX: usize = 64 << 20;
const HUGE_STEP: usize = 2 << 20;
const SMALL_CLASSES: usize = class_of(SMALL_MAX) + 1;
/// The shelf of all blocks above [`CLASSED_MAX`].
const HUGE: usize = class_of(CLASSED_MAX) + 1;

/// Canary bytes behind each block.
const GUARD_BYTES: usize = if cfg!(feature = "debug-poison") { 64 } else { 0 };

/// The size class of a request of 1 to [`CLASSED_MAX`] bytes.
///
/// With `u` = whole 64-byte units below the request and `s` = the number of low bits of `u` below
/// its three leading ones, the class is `4 s + (u >> s)`: the exponent and two bits of mantissa.
#[inline(always)]
const fn class_of(bytes: usize) -> usize {
    let units = (bytes - 1) / ALIGNMENT;
    let shift = (units | 4).ilog2() - 2;
    4 * shift as usize + (units >> shift)
}

/// The size of the blocks of a class, the largest request it serves.
const fn class_bytes(class: usize) -> usize {
    let (shift, mantissa) = if class < 4 { (0, class) } else { (class / 4 - 1, 4 + class % 4) };
    ((mantissa + 1) << shift) * ALIGNMENT
}

/// Blocks in a full chain: 128 KiB worth, within reason.
const fn chain_limit(class: usize) -> u32 {
    let fit = SMALL_MAX / 2 / class_bytes(class);
    if fit > 128 {
        128
    } else if fit < 2 {
        2
    } else {
        fit as u32
    }
}

// ---------------------------------------------------------------------------------------------
// The public functions
// ---------------------------------------------------------------------------------------------

/// A block of at least `bytes` uninitialised bytes, aligned to [`ALIGNMENT`].
///
/// Zero bytes give an aligned dangling pointer. The block is owned by the caller until it is
/// handed to [`deallocate`], by any thread.
///
/// # Errors
/// [`Kind::Memory`](crate::Kind::Memory), with PyTorch's words, if the system has no such block even after the cache
/// was emptied, or if the size does not fit the address space.
///
/// ```
/// let block = wengert::alloc::allocate(1000)?;
/// assert_eq!(block.as_ptr() as usize % 64, 0);
/// // SAFETY: `block` was allocated with this size and is not used again.
/// unsafe { wengert::alloc::deallocate(block, 1000) };
/// # Ok::<(), wengert::Error>(())
/// ```
#[inline]
pub fn allocate(bytes: usize) -> Result<NonNull<u8>> {
    if cfg!(feature = "debug-poison") {
        return poison::allocate(bytes);
    }
    allocate_raw(bytes)
}

/// Like [`allocate`], but every byte is zero.
///
/// Memory fresh from the system is not touched: its pages are zero already.
///
/// # Errors
/// As [`allocate`].
pub fn allocate_zeroed(bytes: usize) -> Result<NonNull<u8>> {
    let (block, zeroed) = if bytes > SMALL_MAX && !cfg!(feature = "debug-poison") {
        shelf::allocate_large(bytes, true)?
    } else {
        (allocate(bytes)?, false)
    };
    if !zeroed {
        // SAFETY: the block has at least `bytes` bytes and nobody else knows it.
        unsafe { block.write_bytes(0, bytes) };
    }
    Ok(block)
}

/// Takes a block back.
///
/// # Safety
/// `block` came from [`allocate`] or [`allocate_zeroed`] with the same number of `bytes`, was not
/// taken back since, and is not used afterwards.
#[inline]
pub unsafe fn deallocate(block: NonNull<u8>, bytes: usize) {
    if cfg!(feature = "debug-poison") {
        // SAFETY: the caller's promise is the same.
        return unsafe { poison::deallocate(block, bytes) };
    }
    // SAFETY: the caller's promise is the same.
    unsafe { deallocate_raw(block, bytes) }
}

/// What the allocator holds. Sizes are those of blocks: requests rounded up to their class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryStats {
    /// Bytes of the blocks in use. Exact when no other thread is allocating or freeing.
    pub allocated_bytes: usize,
    /// The number of blocks in use.
    pub allocated_blocks: usize,
    /// Bytes of idle blocks, kept for the next request.
    pub cached_bytes: usize,
    /// The most bytes in use since the start or [`reset_peak_memory_stats`]. Idle blocks in a
    /// thread's own magazines count as used here, a few MiB at most.
    pub peak_allocated_bytes: usize,
    /// Blocks asked of the system since the start.
    pub system_allocations: u64,
    /// Blocks given back to the system since the start.
    pub system_deallocations: u64,
    /// Above this many shared idle bytes, blocks go back to the system.
    pub cache_limit: usize,
}

/// The present state of the allocator.
pub fn memory_stats() -> MemoryStats {
    let (mut resting_bytes, mut resting_blocks) = (0, 0);
    for &Registered(cache) in lock(&REGISTRY).iter() {
        // SAFETY: a cache is freed only after it left the registry, under the lock held here.
        let cache = unsafe { cache.as_ref() };
        for (class, magazine) in cache.magazines.iter().enumerate() {
            let blocks = magazine.current_len.load(Relaxed) + magazine.spare_len.load(Relaxed);
            resting_blocks += blocks as usize;
            resting_bytes += blocks as usize * class_bytes(class);
        }
    }
    MemoryStats {
        allocated_bytes: shelf::TAKEN_BYTES.load(Relaxed).saturating_sub(resting_bytes),
        allocated_blocks: shelf::TAKEN_BLOCKS.load(Relaxed).saturating_sub(resting_blocks),
        cached_bytes: shelf::SHELVED_BYTES.load(Relaxed) + resting_bytes,
        peak_allocated_bytes: shelf::PEAK_BYTES.load(Relaxed),
        system_allocations: shelf::SYSTEM_ALLOCATIONS.load(Relaxed),
        system_deallocations: shelf::SYSTEM_DEALLOCATIONS.load(Relaxed),
        cache_limit: shelf::cache_limit(),
    }
}

/// Lets [`MemoryStats::peak_allocated_bytes`] start anew from what is in use now.
pub fn reset_peak_memory_stats() {
    shelf::PEAK_BYTES.store(shelf::TAKEN_BYTES.load(Relaxed), Relaxed);
}

/// Gives all idle blocks back to the system, but for those in the magazines of other threads.
pub fn empty_cache() {
    if let Some(cache) = present_cache() {
        cache.shelve_all();
    }
    shelf::trim(0);
}

/// Sets how many idle bytes the shelves may hold, and trims them to it.
///
/// The default is 1 GiB or a quarter of the memory, whichever is less, or what the environment
/// variable `WENGERT_CACHE_LIMIT` says, in bytes. Each thread may hold about 10 MiB of small
/// blocks besides.
pub fn set_cache_limit(bytes: usize) {
    shelf::set_cache_limit(bytes);
}

// ---------------------------------------------------------------------------------------------
// Small blocks: magazines
// ---------------------------------------------------------------------------------------------

struct Magazine {
    current: AtomicPtr<Idle>,
    spare: AtomicPtr<Idle>,
    current_len: AtomicU32,
    spare_len: AtomicU32,
    /// The length at which a chain is full.
    limit: u32,
}

/// One thread's idle small blocks. On the heap, because statistics of other threads read the
/// lengths, and because the stack and thread-locals of a thread vanish in a forked child.
pub(crate) struct Cache {
    magazines: [Magazine; SMALL_CLASSES],
}

/// Empties the thread's cache when the thread ends.
struct AtThreadEnd;

thread_local! {
    static AT_END: AtThreadEnd = const { AtThreadEnd };
}

struct Registered(NonNull<Cache>);

// SAFETY: all fields of a cache are atomics; the pointer is dereferenced under the registry's
// lock, and removed there before the cache is freed.
unsafe impl Send for Registered {}

static REGISTRY: Mutex<Vec<Registered>> = Mutex::new(Vec::new());

#[inline]
fn allocate_raw(bytes: usize) -> Result<NonNull<u8>> {
    if bytes.wrapping_sub(1) >= SMALL_MAX {
        return match bytes {
            0 => Ok(NonNull::without_provenance(const { NonZero::new(ALIGNMENT).unwrap() })),
            _ => shelf::allocate_large(bytes, false).map(|(block, _)| block),
        };
    }
    let class = class_of(bytes);
    // SAFETY: a non-null pointer is this thread's cache, alive until its thread-locals end.
    if let Some(cache) = unsafe { here().cache.get().as_ref() } {
        let magazine = &cache.magazines[class];
        if let Some(block) = NonNull::new(magazine.current.load(Relaxed)) {
            // SAFETY: blocks in a chain are idle, and their first word is the link.
            magazine.current.store(unsafe { block.as_ref().next }, Relaxed);
            magazine.current_len.store(magazine.current_len.load(Relaxed) - 1, Relaxed);
            return Ok(block.cast());
        }
    }
    allocate_small_slow(class, bytes)
}

/// # Safety
/// As [`deallocate`].
#[inline]
unsafe fn deallocate_raw(block: NonNull<u8>, bytes: usize) {
    if bytes.wrapping_sub(1) >= SMALL_MAX {
        if bytes != 0 {
            // SAFETY: the caller's promise, and the size is that of a large block.
            unsafe { shelf::deallocate_large(block) };
        }
        return;
    }
    let class = class_of(bytes);
    let block = block.cast::<Idle>();
    // SAFETY: a non-null pointer is this thread's cache, alive until its thread-locals end.
    if let Some(cache) = unsafe { here().cache.get().as_ref() } {
        let magazine = &cache.magazines[class];
        let len = magazine.current_len.load(Relaxed);
        if len < magazine.limit {
            // SAFETY: the block is ours now, holds at least 64 bytes and is aligned for a link.
            unsafe { block.write(Idle { next: magazine.current.load(Relaxed) }) };
            magazine.current.store(block.as_ptr(), Relaxed);
            magazine.current_len.store(len + 1, Relaxed);
            return;
        }
    }
    deallocate_small_slow(class, block);
}

/// The current chain is empty: take the spare one, one from the shelf, or a block of the system.
#[cold]
fn allocate_small_slow(class: usize, bytes: usize) -> Result<NonNull<u8>> {
    let Some(cache) = thread_cache() else { return system_small(class, bytes) };
    let magazine = &cache.magazines[class];
    let spare = magazine.spare.swap(ptr::null_mut(), Relaxed);
    let (head, len) = match NonNull::new(spare) {
        Some(head) => (head, magazine.spare_len.swap(0, Relaxed)),
        None => match SHELVES[class].pop(class_bytes(class)) {
            Some(chain) => (chain.head, chain.len),
            None => return system_small(class, bytes),
        },
    };
    // SAFETY: blocks in a chain are idle, and their first word is the link.
    magazine.current.store(unsafe { head.as_ref().next }, Relaxed);
    magazine.current_len.store(len - 1, Relaxed);
    Ok(head.cast())
}

/// The current chain is full: it becomes the spare one, and that goes to the shelf.
#[cold]
fn deallocate_small_slow(class: usize, block: NonNull<Idle>) {
    // SAFETY: the block was handed to us, holds at least 64 bytes and is aligned for a link.
    unsafe { block.write(Idle { next: ptr::null_mut() }) };
    let Some(cache) = thread_cache() else {
        return shelve(class, block, 1, class_bytes(class));
    };
    let magazine = &cache.magazines[class];
    let full = magazine.current_len.load(Relaxed);
    if full > 0 {
        let spare = magazine.spare.swap(magazine.current.load(Relaxed), Relaxed);
        let len = magazine.spare_len.swap(full, Relaxed);
        if let Some(head) = NonNull::new(spare) {
            shelve(class, head, len, class_bytes(class));
        }
    }
    magazine.current.store(block.as_ptr(), Relaxed);
    magazine.current_len.store(1, Relaxed);
}

/// This thread's cache if it has one.
fn present_cache() -> Option<&'static Cache> {
    // SAFETY: a non-null pointer is this thread's cache. No caller keeps the reference beyond the
    // call in which it got it, and the cache is freed only between such calls, at the thread's end.
    unsafe { here().cache.get().as_ref() }
}

/// This thread's cache, made at first use; none while the thread's locals are being destroyed.
fn thread_cache() -> Option<&'static Cache> {
    present_cache().or_else(|| {
        // Arms the destructor, unless it ran already.
        AT_END.try_with(|_| ()).ok()?;
        fork::install();
        let magazines = std::array::from_fn(|class| Magazine {
            current: AtomicPtr::default(),
            spare: AtomicPtr::default(),
            current_len: AtomicU32::new(0),
            spare_len: AtomicU32::new(0),
            limit: chain_limit(class),
        });
        let cache = NonNull::from(Box::leak(Box::new(Cache { magazines })));
        lock(&REGISTRY).push(Registered(cache));
        here().cache.set(cache.as_ptr());
        present_cache()
    })
}

impl Cache {
    /// Moves every idle block of this thread to the shelves. Called by the owning thread only.
    fn shelve_all(&self) {
        for (class, magazine) in self.magazines.iter().enumerate() {
            for (chain, len) in
                [(&magazine.current, &magazine.current_len), (&magazine.spare, &magazine.spare_len)]
            {
                let len = len.swap(0, Relaxed);
                if let Some(head) = NonNull::new(chain.swap(ptr::null_mut(), Relaxed)) {
                    shelve(class, head, len, class_bytes(class));
                }
            }
        }
    }
}

impl Drop for AtThreadEnd {
    fn drop(&mut self) {
        let Some(cache) = present_cache() else { return };
        here().cache.set(ptr::null());
        cache.shelve_all();
        let cache = NonNull::from(cache);
        lock(&REGISTRY).retain(|r| r.0 != cache);
        // SAFETY: made by `Box::leak` in `thread_cache`; this thread's pointer is cleared and the
        // registry's removed, so nobody can reach it.
        drop(unsafe { Box::from_raw(cache.as_ptr()) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_cover_all_sizes_in_order() {
        let mut bytes = 1;
        for class in 0..HUGE {
            let size = class_bytes(class);
            assert_eq!(class_of(bytes), class, "first size of a class");
            assert_eq!(class_of(size), class, "last size of a class");
            assert_eq!(size % ALIGNMENT, 0);
            // The first size of a class pads most: less than a quarter of the request.
            assert!(class < 4 || (size - bytes) * 4 < bytes);
            bytes = size + 1;
        }
        assert_eq!(bytes, CLASSED_MAX + 1);
        assert_eq!(class_bytes(SMALL_CLASSES - 1), SMALL_MAX);
    }
}
