//! Where nodes live: a chunked slab with counted handles.
//!
//! Slots never move and are never given back to the system; a free slot is reused, newest first,
//! so that a training step runs in memory that is still in cache. A handle's count decides
//! lifetime; the slab only stores. Three points carry the design:
//!
//! 1. **No recursion.** When a count reaches zero while another node is being dropped on this
//!    thread, the slot is threaded onto an intrusive list and dropped by the loop already
//!    running. A chain of any depth is released in constant stack and without allocation.
//! 2. **Weak handles cannot dangle.** Memory of a slot stays valid for ever, so a weak handle may
//!    always look at it. Count and generation share a word: one exchange finds the same node
//!    alive and takes part in it.
//! 3. **No lock on the fast path.** Each thread keeps a short list of free slots and trades
//!    batches with a global list. Each counts the nodes that it made, less those it dropped;
//!    whoever asks for the number alive adds the counts up.
//!
//! A slot is three cache lines.
#![allow(unsafe_code)]

use super::fork::{self, lock};
use super::node::Node;
use crate::per_thread::{PerThread, here};
use crate::{Error, Kind, Result};
use std::alloc::Layout;
use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicIsize, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

const CHUNK: usize = 1024;
const BATCH: u32 = 256;

#[repr(align(64))]
pub(crate) struct Slot {
    /// Handles in the low half, generation in the high half.
    counts: AtomicU64,
    /// Work space of a running backward pass while the node lives, see `backward`; afterwards the
    /// link of the release list and of the free list.
    pub(super) scratch: AtomicU64,
    node: UnsafeCell<MaybeUninit<Node>>,
}

/// Bytes of a slot, which are those of a recorded node besides what it saves.
pub const SLOT_BYTES: usize = size_of::<Slot>();

const _: () = assert!(usize::BITS < 64 || SLOT_BYTES == 192, "a slot outgrew three cache lines");

impl Slot {
    /// The next slot in the list that this one is in.
    fn next(&self) -> *mut Slot {
        ptr::with_exposed_provenance_mut(self.scratch.load(Ordering::Relaxed) as usize)
    }

    fn set_next(&self, next: *mut Slot) {
        self.scratch.store(next.expose_provenance() as u64, Ordering::Relaxed);
    }
}

const fn handles(counts: u64) -> u32 {
    counts as u32
}

const fn generation(counts: u64) -> u32 {
    (counts >> 32) as u32
}

/// A counted handle to a node.
pub struct NodeRef(NonNull<Slot>);

// SAFETY: all fields are atomics but the node, which is Send + Sync, and is written and dropped
// only by the thread that took the slot from a free list or took the count to zero.
unsafe impl Send for NodeRef {}
// SAFETY: as above.
unsafe impl Sync for NodeRef {}

/// A handle that does not keep the node alive.
#[derive(Clone, Copy)]
pub struct WeakNodeRef {
    slot: NonNull<Slot>,
    generation: u32,
}

// SAFETY: it only reads atomics of a slot, whose memory is never given back.
unsafe impl Send for WeakNodeRef {}
// SAFETY: as above.
unsafe impl Sync for WeakNodeRef {}

/// Number of graph nodes alive in the process. After a program has dropped its tensors it is
/// back where it began; every test checks that.
pub fn live_nodes() -> usize {
    let counters = lock(&COUNTERS);
    let sum: isize = counters.iter().map(|c| c.0.load(Ordering::Relaxed)).sum();
    (sum + ENDED.load(Ordering::Relaxed)).max(0) as usize
}

/// Nodes that one thread made, less those that it dropped, which other threads may have made.
/// Written by that thread alone, with plain moves. On the heap, because the thread-locals of all
/// other threads vanish in a forked child.
pub(crate) struct Counter(AtomicIsize);

/// The counters of threads that live.
static COUNTERS: Mutex<Vec<&'static Counter>> = Mutex::new(Vec::new());
/// The sum of the counters of threads that have ended.
static ENDED: AtomicIsize = AtomicIsize::new(0);

impl Counter {
    #[cold]
    fn register() -> *const Counter {
        fork::install();
        let counter: &'static Counter = Box::leak(Box::new(Counter(AtomicIsize::new(0))));
        lock(&COUNTERS).push(counter);
        counter
    }

    /// # Safety
    /// The pointer came from `register` and is not used again.
    unsafe fn retire(counter: *const Counter) {
        let mut counters = lock(&COUNTERS);
        counters.retain(|c| !ptr::eq(*c, counter));
        // SAFETY: `register` made it as a box, and the list, under the lock, had the only other
        // reference.
        let counter = unsafe { Box::from_raw(counter.cast_mut()) };
        ENDED.fetch_add(counter.0.into_inner(), Ordering::Relaxed);
    }
}

pub(super) struct Shared(*mut Slot);
// SAFETY: the list is only followed by the holder of the mutex, who owns the free slots in it.
unsafe impl Send for Shared {}

/// All locks of this module.
pub(super) type Held = (
    MutexGuard<'static, Vec<&'static Counter>>,
    MutexGuard<'static, Shared>,
    MutexGuard<'static, Vec<Chunk>>,
);

/// Takes all locks, for a fork. A thread that makes a chunk takes the last two, in this order.
pub(super) fn hold() -> Held {
    (lock(&COUNTERS), lock(&SHARED), lock(&CHUNKS))
}

/// Free slots that belong to no thread, as a list of any length.
static SHARED: Mutex<Shared> = Mutex::new(Shared(ptr::null_mut()));

/// The first slot of a chunk.
pub(super) struct Chunk(*mut Slot);
// SAFETY: chunks are never given back, and only the atomics of their slots are used through this.
unsafe impl Send for Chunk {}

/// All chunks, for a census.
static CHUNKS: Mutex<Vec<Chunk>> = Mutex::new(Vec::new());

/// Handles to all nodes alive.
pub(super) fn all_nodes() -> Vec<NodeRef> {
    let chunks: Vec<*mut Slot> = lock(&CHUNKS).iter().map(|c| c.0).collect();
    let slots = chunks.into_iter().flat_map(|chunk| (0..CHUNK).map(move |i| chunk.wrapping_add(i)));
    slots.filter_map(|slot| NonNull::new(slot).and_then(take_part)).collect()
}

/// A handle to the node in a slot, if one lives there.
fn take_part(slot: NonNull<Slot>) -> Option<NodeRef> {
    let more = |counts| (handles(counts) > 0).then_some(counts + 1);
    // SAFETY: slots are never given back, and a chunk is registered with its counts written. The
    // exchange finds a node alive, and initialised, and keeps it so.
    let counts = unsafe { &slot.as_ref().counts };
    counts.fetch_update(Ordering::Acquire, Ordering::Relaxed, more).ok()?;
    Some(NodeRef(slot))
}

/// Gives back a thread's free slots and its counter.
struct AtThreadEnd;

thread_local! {
    static AT_END: AtThreadEnd = const { AtThreadEnd };
}

impl Drop for AtThreadEnd {
    fn drop(&mut self) {
        let local = Local(here());
        while let Some(slot) = local.pop() {
            push_shared(slot);
        }
        let counter = local.0.nodes.replace(ptr::null());
        if !counter.is_null() {
            // SAFETY: the thread's pointer to it was just cleared.
            unsafe { Counter::retire(counter) };
        }
    }
}

/// One thread's free slots and its counter, which is null before the first node and after the end.
struct Local(&'static PerThread);

impl Local {
    /// Counts nodes made or dropped.
    #[inline]
    fn count(&self, change: isize) {
        if self.0.nodes.get().is_null() && !self.begin() {
            ENDED.fetch_add(change, Ordering::Relaxed);
            return;
        }
        // SAFETY: the counter lives until the thread's pointer to it is cleared.
        let counter = unsafe { &(*self.0.nodes.get()).0 };
        counter.store(counter.load(Ordering::Relaxed) + change, Ordering::Relaxed);
    }

    /// A counter for this thread; false while the thread's locals are being destroyed.
    #[cold]
    fn begin(&self) -> bool {
        // Arms the destructor, unless it ran already.
        let lives = AT_END.try_with(|_| ()).is_ok();
        if lives {
            self.0.nodes.set(Counter::register());
        }
        lives
    }

    #[inline]
    fn pop(&self) -> Option<NonNull<Slot>> {
        let slot = NonNull::new(self.0.free_nodes.get())?;
        // SAFETY: a slot in a free list is owned by the list's owner, this thread.
        self.0.free_nodes.set(unsafe { slot.as_ref() }.next());
        self.0.free_nodes_len.set(self.0.free_nodes_len.get() - 1);
        Some(slot)
    }

    #[inline]
    fn push(&self, slot: NonNull<Slot>) {
        if self.0.nodes.get().is_null() {
            // Nobody would give it back when the thread is gone.
            return push_shared(slot);
        }
        // SAFETY: the slot is free and ours, see `release`.
        unsafe { slot.as_ref() }.set_next(self.0.free_nodes.get());
        self.0.free_nodes.set(slot.as_ptr());
        self.0.free_nodes_len.set(self.0.free_nodes_len.get() + 1);
        if self.0.free_nodes_len.get() > 2 * BATCH {
            self.share();
        }
    }

    /// Gives a batch of free slots to the other threads.
    #[cold]
    fn share(&self) {
        let mut shared = lock(&SHARED);
        for _ in 0..BATCH {
            if let Some(slot) = self.pop() {
                link_shared(&mut shared, slot);
            }
        }
    }
}

fn push_shared(slot: NonNull<Slot>) {
    link_shared(&mut lock(&SHARED), slot);
}

fn link_shared(shared: &mut Shared, slot: NonNull<Slot>) {
    // SAFETY: the slot is free and handed over to the shared list, whose lock the caller holds.
    unsafe { slot.as_ref() }.set_next(shared.0);
    shared.0 = slot.as_ptr();
}

/// Moves a batch from the shared list, or a new chunk, into this thread's list.
#[cold]
fn refill(local: &Local) -> Result<()> {
    let mut shared = lock(&SHARED);
    if shared.0.is_null() {
        let layout = Layout::array::<Slot>(CHUNK)
            .map_err(|_| Error::plain(Kind::Memory, "graph: chunk size overflows"))?;
        // SAFETY: the layout has a size greater than zero.
        let chunk = unsafe { std::alloc::alloc(layout) }.cast::<Slot>();
        if chunk.is_null() {
            return Err(Error::plain(Kind::Memory, "graph: no memory for more nodes"));
        }
        for i in (0..CHUNK).rev() {
            // SAFETY: `i` is inside the chunk. All of the slot but the node, which may be
            // uninitialised, is written before anybody sees it.
            unsafe {
                let slot = chunk.add(i);
                (&raw mut (*slot).counts).write(AtomicU64::new(0));
                (&raw mut (*slot).scratch).write(AtomicU64::new(0));
                (*slot).set_next(shared.0);
                shared.0 = slot;
            }
        }
        lock(&CHUNKS).push(Chunk(chunk));
    }
    for _ in 0..BATCH {
        let Some(slot) = NonNull::new(shared.0) else { break };
        // SAFETY: the lock makes us the owner of the shared list.
        shared.0 = unsafe { slot.as_ref() }.next();
        // SAFETY: the slot was just taken out of the shared list and is ours.
        unsafe { slot.as_ref() }.set_next(local.0.free_nodes.get());
        local.0.free_nodes.set(slot.as_ptr());
        local.0.free_nodes_len.set(local.0.free_nodes_len.get() + 1);
    }
    Ok(())
}

#[inline]
fn free_slot() -> Result<NonNull<Slot>> {
    let local = Local(here());
    let slot = match local.pop() {
        Some(slot) => slot,
        None => {
            refill(&local)?;
            let slot = local.pop().expect("refill succeeded");
            if local.0.nodes.get().is_null() && !local.begin() {
                // Nobody would give the rest of the batch back when the thread is gone.
                while let Some(slot) = local.pop() {
                    push_shared(slot);
                }
            }
            slot
        }
    };
    local.count(1);
    Ok(slot)
}

impl NodeRef {
    /// Moves a node into the arena.
    #[inline(always)]
    pub fn new(node: Node) -> Result<NodeRef> {
        let slot = free_slot()?;
        // SAFETY: a free slot is ours alone until the count below is published.
        unsafe {
            let shared = slot.as_ref();
            (*shared.node.get()).write(node);
            shared.scratch.store(0, Ordering::Relaxed);
            // The generation stays; nobody changes the word while there is no handle.
            shared.counts.store(shared.counts.load(Ordering::Relaxed) + 1, Ordering::Release);
        }
        Ok(NodeRef(slot))
    }

    #[inline]
    pub(super) fn slot(&self) -> &Slot {
        // SAFETY: slots are never given back.
        unsafe { self.0.as_ref() }
    }

    /// A handle that does not keep the node alive.
    pub fn downgrade(&self) -> WeakNodeRef {
        WeakNodeRef {
            slot: self.0,
            generation: generation(self.slot().counts.load(Ordering::Relaxed)),
        }
    }

    /// How many handles to this node there are.
    pub(super) fn owners(&self) -> usize {
        handles(self.slot().counts.load(Ordering::Acquire)) as usize
    }

    /// An address that identifies the node while it lives.
    pub fn address(&self) -> usize {
        self.0.as_ptr() as usize
    }
}

impl std::ops::Deref for NodeRef {
    type Target = Node;

    #[inline]
    fn deref(&self) -> &Node {
        // SAFETY: our count keeps the node initialised; nobody has a unique reference to it.
        unsafe { (*self.slot().node.get()).assume_init_ref() }
    }
}

impl PartialEq for NodeRef {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for NodeRef {}

impl Clone for NodeRef {
    #[inline]
    fn clone(&self) -> Self {
        let before = self.slot().counts.fetch_add(1, Ordering::Relaxed);
        // Far below the border of the halves, which no overflow may cross.
        assert!(handles(before) < u32::MAX / 2, "graph: too many handles to one node");
        NodeRef(self.0)
    }
}

impl Drop for NodeRef {
    #[inline]
    fn drop(&mut self) {
        if handles(self.slot().counts.fetch_sub(1, Ordering::Release)) == 1 {
            std::sync::atomic::fence(Ordering::Acquire);
            release(self.0);
        }
    }
}

impl WeakNodeRef {
    /// The node, if it still lives.
    pub fn upgrade(&self) -> Option<NodeRef> {
        // SAFETY: slots are never given back.
        let slot = unsafe { self.slot.as_ref() };
        let more = |counts| {
            (handles(counts) > 0 && generation(counts) == self.generation).then_some(counts + 1)
        };
        slot.counts.fetch_update(Ordering::Acquire, Ordering::Relaxed, more).ok()?;
        Some(NodeRef(self.slot))
    }
}

/// Drops the node of a slot whose count has reached zero, and all that hangs on it.
#[cold]
#[inline(never)]
fn release(slot: NonNull<Slot>) {
    let thread = here();
    if thread.releasing.get() {
        // SAFETY: the count is zero, so the link is ours.
        unsafe { slot.as_ref() }.set_next(thread.pending.get());
        thread.pending.set(slot.as_ptr());
        return;
    }
    struct Done(&'static PerThread);
    impl Drop for Done {
        fn drop(&mut self) {
            self.0.releasing.set(false);
        }
    }
    thread.releasing.set(true);
    let _done = Done(thread);
    drop_node(slot);
    while let Some(slot) = NonNull::new(thread.pending.get()) {
        // SAFETY: slots on the pending list are dead and belong to this thread.
        thread.pending.set(unsafe { slot.as_ref() }.next());
        drop_node(slot);
    }
}

fn drop_node(slot: NonNull<Slot>) {
    // SAFETY: slots are never given back.
    let shared = unsafe { slot.as_ref() };
    // A weak handle to this node must not find the next one that lives here. With the count at
    // zero nobody else changes the word.
    let next = generation(shared.counts.load(Ordering::Relaxed)).wrapping_add(1);
    shared.counts.store((next as u64) << 32, Ordering::Release);
    // SAFETY: the count is zero: the node is initialised and nobody else can reach it. It is
    // dropped exactly once, here.
    unsafe {
        let node = (*shared.node.get()).assume_init_mut();
        if let Some(remains) = node.bequest()
            && let Ok(remains) = NodeRef::new(remains)
        {
            node.op.outlived(remains);
        }
        (*shared.node.get()).assume_init_drop();
    }
    let local = Local(here());
    local.count(-1);
    local.push(slot);
}
