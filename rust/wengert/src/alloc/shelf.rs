//! What all threads share: large blocks, the shelves of idle ones, and the system behind them.
#![allow(unsafe_code)]

use super::{ALIGNMENT, CLASSED_MAX, HUGE, HUGE_STEP, SMALL_MAX};
use super::{class_bytes, class_of, empty_cache, fork, poison, slab};
use crate::error::{Error, Kind, Result};
use std::alloc::Layout;
use std::collections::VecDeque;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The first word of an idle block.
pub struct Idle {
    pub next: *mut Idle,
}

// ---------------------------------------------------------------------------------------------
// Large blocks
// ---------------------------------------------------------------------------------------------

/// Lies directly in front of a large block.
#[derive(Clone, Copy)]
pub struct Header {
    pub bytes: usize,
    /// What the system returned.
    base: *mut u8,
}

/// A block of more than [`SMALL_MAX`] bytes, and whether it is known to be `zeroed`.
#[inline(never)]
pub fn allocate_large(bytes: usize, zeroed: bool) -> Result<(NonNull<u8>, bool)> {
    let (first, size) = if bytes <= CLASSED_MAX {
        let class = class_of(bytes);
        (class, class_bytes(class))
    } else {
        let size = bytes.checked_next_multiple_of(HUGE_STEP).ok_or_else(|| out_of_memory(bytes))?;
        (HUGE, size)
    };
    // Neighbouring classes are at most a quarter apart.
    for shelf in SHELVES[first..].iter().take(2) {
        if let Some(chain) = shelf.pop(size) {
            return Ok((chain.head.cast(), false));
        }
    }
    system_large(size, bytes, zeroed).map(|block| (block, zeroed))
}

/// # Safety
/// `block` came from [`allocate_large`] and is not used afterwards.
#[inline(never)]
pub unsafe fn deallocate_large(block: NonNull<u8>) {
    // SAFETY: large blocks have a header in front.
    let Header { bytes, .. } = unsafe { block.cast::<Header>().sub(1).read() };
    let class = if bytes <= CLASSED_MAX { class_of(bytes) } else { HUGE };
    shelve(class, block.cast(), 1, bytes);
}

// ---------------------------------------------------------------------------------------------
// Shelves
// ---------------------------------------------------------------------------------------------

/// Idle blocks of one size: a linked chain of small ones, or one large one (whose link is unused).
pub struct Chain {
    pub head: NonNull<Idle>,
    pub len: u32,
    /// The size of each block.
    bytes: usize,
    /// When it was shelved.
    stamp: u64,
}

// SAFETY: an idle block belongs to whoever holds its chain; memory is not bound to a thread.
unsafe impl Send for Chain {}

/// A stack whose bottom is the least recently used chain.
pub struct Shelf {
    pub chains: Mutex<VecDeque<Chain>>,
    /// The stamp of the bottom chain, `u64::MAX` if empty. A hint for [`trim`].
    oldest: AtomicU64,
}

pub static SHELVES: [Shelf; HUGE + 1] =
    [const { Shelf { chains: Mutex::new(VecDeque::new()), oldest: AtomicU64::new(u64::MAX) } };
        HUGE + 1];

static CLOCK: AtomicU64 = AtomicU64::new(0);
pub static SHELVED_BYTES: AtomicUsize = AtomicUsize::new(0);
/// Blocks in use or in magazines.
pub static TAKEN_BYTES: AtomicUsize = AtomicUsize::new(0);
pub static TAKEN_BLOCKS: AtomicUsize = AtomicUsize::new(0);
pub static PEAK_BYTES: AtomicUsize = AtomicUsize::new(0);
pub static SYSTEM_ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
pub static SYSTEM_DEALLOCATIONS: AtomicU64 = AtomicU64::new(0);

/// No thread ever holds two locks of this module, except while it forks.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics between two states, so a poisoned lock guards sound data.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shelf {
    /// The chain with the least blocks of `bytes` to a quarter more, the newest of those.
    pub fn pop(&self, bytes: usize) -> Option<Chain> {
        if self.oldest.load(Relaxed) == u64::MAX {
            return None;
        }
        let mut chains = lock(&self.chains);
        let fits = |c: &Chain| c.bytes >= bytes && c.bytes - bytes <= bytes / 4;
        // All blocks of a class have one size: the top is the answer but for the huge shelf.
        let chain = match chains.back() {
            Some(top) if top.bytes == bytes => chains.pop_back(),
            _ => {
                let fitting = (0..chains.len()).rev().filter(|&i| fits(&chains[i]));
                let best = fitting.min_by_key(|&i| chains[i].bytes)?;
                chains.remove(best)
            }
        }?;
        self.note_oldest(&chains);
        drop(chains);
        let total = chain.len as usize * chain.bytes;
        SHELVED_BYTES.fetch_sub(total, Relaxed);
        note_taken(chain.len as usize, total);
        Some(chain)
    }

    fn note_oldest(&self, chains: &VecDeque<Chain>) {
        self.oldest.store(chains.front().map_or(u64::MAX, |c| c.stamp), Relaxed);
    }
}

fn note_taken(blocks: usize, bytes: usize) {
    TAKEN_BLOCKS.fetch_add(blocks, Relaxed);
    let now = TAKEN_BYTES.fetch_add(bytes, Relaxed) + bytes;
    PEAK_BYTES.fetch_max(now, Relaxed);
}

/// Puts a chain of `len` blocks of `bytes` each on its shelf, or gives it back to the system.
pub fn shelve(class: usize, head: NonNull<Idle>, len: u32, bytes: usize) {
    let total = len as usize * bytes;
    TAKEN_BLOCKS.fetch_sub(len as usize, Relaxed);
    TAKEN_BYTES.fetch_sub(total, Relaxed);
    let limit = cache_limit();
    let mut chain = Chain { head, len, bytes, stamp: CLOCK.fetch_add(1, Relaxed) };
    if total <= limit {
        let shelf = &SHELVES[class];
        let mut chains = lock(&shelf.chains);
        // A full heap must not abort the process here: the block itself can go instead.
        if chains.try_reserve(1).is_ok() {
            SHELVED_BYTES.fetch_add(total, Relaxed);
            // Stamps are drawn before the lock; keep each shelf sorted.
            chain.stamp = chains.back().map_or(chain.stamp, |top| chain.stamp.max(top.stamp));
            chains.push_back(chain);
            shelf.note_oldest(&chains);
            drop(chains);
            return trim(limit);
        }
    }
    release(chain);
}

/// Gives the least recently used chains back until at most `limit` bytes are shelved.
pub fn trim(limit: usize) {
    while SHELVED_BYTES.load(Relaxed) > limit {
        let oldest = |shelf: &&Shelf| shelf.oldest.load(Relaxed);
        let Some(shelf) = SHELVES.iter().min_by_key(oldest) else { return };
        let mut chains = lock(&shelf.chains);
        // Empty: another thread took the last chain of all, and its count follows.
        let Some(chain) = chains.pop_front() else { return };
        shelf.note_oldest(&chains);
        drop(chains);
        SHELVED_BYTES.fetch_sub(chain.len as usize * chain.bytes, Relaxed);
        release(chain);
    }
}

const UNSET: usize = usize::MAX;
static LIMIT: AtomicUsize = AtomicUsize::new(UNSET);

pub fn set_cache_limit(bytes: usize) {
    LIMIT.store(bytes.min(UNSET - 1), Relaxed);
    trim(bytes);
}

pub fn cache_limit() -> usize {
    match LIMIT.load(Relaxed) {
        UNSET => {
            let given = std::env::var("WENGERT_CACHE_LIMIT").ok().and_then(|s| s.parse().ok());
            let limit = given.unwrap_or_else(|| (physical_memory() / 4).min(1 << 30));
            LIMIT.store(limit.min(UNSET - 1), Relaxed);
            limit
        }
        limit => limit,
    }
}

/// The memory of the machine or of the container, whichever is less.
fn physical_memory() -> usize {
    #[cfg(unix)]
    let machine = {
        // SAFETY: `sysconf` has no preconditions; failure is -1.
        let (pages, size) =
            unsafe { (libc::sysconf(libc::_SC_PHYS_PAGES), libc::sysconf(libc::_SC_PAGESIZE)) };
        if pages > 0 && size > 0 { pages as usize * size as usize } else { 4 << 30 }
    };
    #[cfg(not(unix))]
    let machine = 4 << 30;
    let container = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
    container.and_then(|s| s.trim().parse().ok()).map_or(machine, |bytes: usize| bytes.min(machine))
}

// ---------------------------------------------------------------------------------------------
// The system
// ---------------------------------------------------------------------------------------------

#[cold]
pub fn out_of_memory(bytes: usize) -> Error {
    Error::plain(
        Kind::Memory,
        format!("DefaultCPUAllocator: can't allocate memory: you tried to allocate {bytes} bytes."),
    )
}

/// Asks the system, and once more after giving back everything idle.
fn from_system(ask: impl Fn() -> *mut u8, bytes: usize) -> Result<NonNull<u8>> {
    let block = NonNull::new(ask()).or_else(|| {
        empty_cache();
        NonNull::new(ask())
    });
    block.ok_or_else(|| out_of_memory(bytes))
}

const fn small_layout(bytes: usize) -> Layout {
    match Layout::from_size_align(bytes, ALIGNMENT) {
        Ok(layout) => layout,
        Err(_) => panic!("a small block fits the address space"),
    }
}

/// The bytes around a large block: its header and what alignment may skip.
fn large_layout(bytes: usize) -> Option<Layout> {
    Layout::from_size_align(bytes.checked_add(ALIGNMENT)?, align_of::<Header>().max(16)).ok()
}

pub fn system_small(class: usize, requested: usize) -> Result<NonNull<u8>> {
    let layout = small_layout(class_bytes(class));
    let ask = || match layout.size() <= slab::SLAB_MAX {
        true => slab::take(class),
        // SAFETY: the size is not zero.
        false => unsafe { std::alloc::alloc(layout) },
    };
    let block = from_system(ask, requested)?;
    // SAFETY: fresh from the system, and at least 64 bytes.
    unsafe { poison::mark_fresh(block) };
    SYSTEM_ALLOCATIONS.fetch_add(1, Relaxed);
    note_taken(1, layout.size());
    Ok(block)
}

fn system_large(bytes: usize, requested: usize, zeroed: bool) -> Result<NonNull<u8>> {
    fork::install();
    let layout = large_layout(bytes).ok_or_else(|| out_of_memory(requested))?;
    let ask = || match zeroed {
        // SAFETY: the size is not zero.
        true => unsafe { std::alloc::alloc_zeroed(layout) },
        // SAFETY: the size is not zero.
        false => unsafe { std::alloc::alloc(layout) },
    };
    let base = from_system(ask, requested)?;
    SYSTEM_ALLOCATIONS.fetch_add(1, Relaxed);
    note_taken(1, bytes);
    // `base` is a multiple of 16, so the next multiple of 64 above it leaves 16 to 64 bytes for
    // the header in front and `bytes` behind.
    const { assert!(size_of::<Header>() <= 16) };
    let skip = ALIGNMENT - base.addr().get() % ALIGNMENT;
    // SAFETY: the layout has `ALIGNMENT` bytes more than the block, and `skip <= ALIGNMENT`.
    let block = unsafe { base.add(skip) };
    // SAFETY: `skip >= 16` bytes in front of `block` are ours, and 16-byte aligned.
    unsafe { block.cast::<Header>().sub(1).write(Header { bytes, base: base.as_ptr() }) };
    // SAFETY: fresh from the system, and more than 64 bytes.
    unsafe { poison::mark_fresh(block) };
    Ok(block)
}

/// Gives the blocks of a chain back to the system.
fn release(chain: Chain) {
    let Chain { head, len, bytes, .. } = chain;
    SYSTEM_DEALLOCATIONS.fetch_add(len as u64, Relaxed);
    if bytes > SMALL_MAX {
        // SAFETY: large blocks have a header in front, written by `system_large` with the same
        // size, from which the layout follows; nobody else knows an idle block.
        unsafe {
            let Header { bytes, base } = head.cast::<Header>().sub(1).read();
            std::alloc::dealloc(base, large_layout(bytes).unwrap_unchecked());
        }
        return;
    }
    if bytes <= slab::SLAB_MAX {
        // SAFETY: the blocks of a chain are idle, linked by their first word, end with null, and came
        // from there.
        return unsafe { slab::give_back(class_of(bytes), head.as_ptr()) };
    }
    let mut block = head.as_ptr();
    while !block.is_null() {
        // SAFETY: the blocks of a chain are idle, linked by their first word, end with null, and
        // were allocated with this layout.
        unsafe {
            let next = (*block).next;
            std::alloc::dealloc(block.cast(), small_layout(bytes));
            block = next;
        }
    }
}
