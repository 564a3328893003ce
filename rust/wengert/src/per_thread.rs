//! What each thread has for itself, found in four instructions.
//!
//! A small operation needs its thread's words a dozen times: is anything recorded, where are free
//! blocks, where are free nodes. In a shared library every access to a `thread_local!` is a call of
//! the dynamic linker, which together cost as much as the arithmetic. So all these words stand in one
//! block per thread, and the block that was found last is remembered for the whole process, with the
//! number of the thread it belongs to: the **thread pointer**, which the processor holds in a
//! register. One comparison says whether it is ours. Python threads take turns under a lock, so that it
//! nearly always is; a thread that finds another's goes through its `thread_local!`.
//!
//! Why that is sound:
//!
//! * Only a thread whose pointer is `p` ever writes `p` as the owner of a block, and it takes it out
//!   before it ends; so who reads its own pointer there has found its own block, however old what it
//!   read was.
//! * Blocks are never given back to the system, so that looking at another thread's is harmless. They
//!   are used again by other threads.
//! * The block goes when the thread's locals are destroyed. Destructors that run later find a new
//!   one, which is not used again: 64 bytes of a thread that is already dying.
//!
//! Workers of the pool, which have long loops to run, do not put their blocks in the others' way.
#![allow(unsafe_code)]

use crate::alloc::Cache;
use crate::graph::arena::{Counter, Slot};
use crate::graph::site::Site;
use std::cell::Cell;
use std::ptr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

/// The words of a thread.
#[repr(align(64))]
pub(crate) struct PerThread {
    /// The thread pointer of the thread that this belongs to, 0 for nobody's.
    owner: AtomicUsize,
    /// What is done with operations, see [`mode`](crate::graph::mode).
    pub mode: Cell<u32>,
    /// Whether gradients are masked, see [`masked`](crate::graph::masked). Not a bit of the mode,
    /// because operations need not know.
    pub masked: Cell<bool>,
    /// Whether this thread runs parts of other threads' loops.
    is_worker: Cell<bool>,
    /// Whether a node is being released, see [`arena`](crate::graph::arena).
    pub releasing: Cell<bool>,
    /// Dead nodes that wait for that.
    pub pending: Cell<*mut Slot>,
    /// Free nodes and how many, and the counter of nodes alive.
    pub free_nodes: Cell<*mut Slot>,
    pub free_nodes_len: Cell<u32>,
    pub nodes: Cell<*const Counter>,
    /// Number of the newest node that this thread made or built upon.
    pub newest: Cell<u64>,
    /// The site that stands for this thread while it does not run the host's code.
    pub held: Cell<Option<Site>>,
    /// Idle blocks of memory; null before the first use and after the end.
    pub cache: Cell<*const Cache>,
}

impl PerThread {
    const fn new() -> PerThread {
        PerThread {
            owner: AtomicUsize::new(0),
            mode: Cell::new(crate::graph::mode::RECORD),
            masked: Cell::new(false),
            is_worker: Cell::new(false),
            releasing: Cell::new(false),
            pending: Cell::new(ptr::null_mut()),
            free_nodes: Cell::new(ptr::null_mut()),
            free_nodes_len: Cell::new(0),
            nodes: Cell::new(ptr::null()),
            newest: Cell::new(0),
            held: Cell::new(None),
            cache: Cell::new(ptr::null()),
        }
    }
}

impl PerThread {
    /// As new, for the next thread. What is not named is at rest already.
    fn reset(&self) {
        self.mode.set(crate::graph::mode::RECORD);
        self.masked.set(false);
        self.is_worker.set(false);
        self.newest.set(0);
        self.held.set(None);
    }
}

/// Nobody's block, the one found last at the start.
struct Nobody(PerThread);
// SAFETY: nobody owns it, and all that others look at in a block is the atomic that says so.
unsafe impl Sync for Nobody {}
static NOBODY: Nobody = Nobody(PerThread::new());

/// The block found last.
static LAST: AtomicPtr<PerThread> = AtomicPtr::new((&raw const NOBODY.0).cast_mut());

struct Block(&'static PerThread);
// SAFETY: a block in the list belongs to no thread; who takes it out owns it.
unsafe impl Send for Block {}

/// Blocks of threads that have ended.
static UNUSED: Mutex<Vec<Block>> = Mutex::new(Vec::new());

/// Gives the thread's block back.
struct AtThreadEnd;

thread_local! {
    static OWN: Cell<Option<&'static PerThread>> = const { Cell::new(None) };
    static AT_END: AtThreadEnd = const { AtThreadEnd };
}

/// This thread's words.
///
/// The reference is good for as long as the thread lives; that it cannot be sent to another thread is
/// seen to by the cells.
#[inline(always)]
pub(crate) fn here() -> &'static PerThread {
    #[cfg(all(target_os = "linux", target_arch = "x86_64", not(miri)))]
    {
        // SAFETY: blocks live for ever.
        let last = unsafe { &*LAST.load(Ordering::Relaxed) };
        if last.owner.load(Ordering::Relaxed) == thread_pointer() {
            return last;
        }
    }
    find()
}

/// A number that no other living thread has.
#[cfg(all(target_os = "linux", target_arch = "x86_64", not(miri)))]
#[inline(always)]
fn thread_pointer() -> usize {
    let pointer;
    // SAFETY: the first word of a thread's control block is its own address, which never changes
    // (System V ABI for x86-64, thread-local storage, variant II).
    unsafe {
        std::arch::asm!(
            "mov {}, fs:[0]",
            out(reg) pointer,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    pointer
}

#[cfg(not(all(target_os = "linux", target_arch = "x86_64", not(miri))))]
fn thread_pointer() -> usize {
    1
}

#[inline(never)]
fn find() -> &'static PerThread {
    let own = OWN.get().unwrap_or_else(begin);
    if !own.is_worker.get() {
        LAST.store(ptr::from_ref(own).cast_mut(), Ordering::Relaxed);
    }
    own
}

/// A block for this thread.
#[cold]
fn begin() -> &'static PerThread {
    // Arms the destructor, unless it ran already.
    let _ = AT_END.try_with(|_| ());
    let unused = UNUSED.try_lock().ok().and_then(|mut unused| unused.pop());
    let own = match unused {
        Some(block) => block.0,
        None => Box::leak(Box::new(PerThread::new())),
    };
    own.owner.store(thread_pointer(), Ordering::Relaxed);
    OWN.set(Some(own));
    own
}

/// Says that this thread runs parts of other threads' loops.
pub(crate) fn set_worker() {
    here().is_worker.set(true);
}

impl Drop for AtThreadEnd {
    fn drop(&mut self) {
        let Some(own) = OWN.take() else { return };
        own.owner.store(0, Ordering::Relaxed);
        // What is in use by a destructor that has yet to run stays with nobody.
        let at_rest = own.cache.get().is_null()
            && own.nodes.get().is_null()
            && own.free_nodes.get().is_null()
            && !own.releasing.get();
        if at_rest && let Ok(mut unused) = UNUSED.try_lock() {
            own.reset();
            unused.push(Block(own));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_thread_has_its_own_and_finds_it_again() {
        let here_then = ptr::from_ref(here()) as usize;
        let others: Vec<usize> = std::thread::scope(|s| {
            let ask = || {
                let first = ptr::from_ref(here()) as usize;
                for _ in 0..1000 {
                    assert_eq!(ptr::from_ref(here()) as usize, first);
                    std::thread::yield_now();
                }
                first
            };
            let threads: Vec<_> = (0..4).map(|_| s.spawn(ask)).collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        assert!(!others.contains(&here_then));
        assert_eq!(ptr::from_ref(here()) as usize, here_then);
    }

    #[test]
    fn words_of_a_thread_that_ended_are_as_new_for_the_next() {
        for _ in 0..50 {
            std::thread::spawn(|| {
                assert_eq!(here().newest.get(), 0);
                here().newest.set(7);
            })
            .join()
            .unwrap();
        }
    }
}
