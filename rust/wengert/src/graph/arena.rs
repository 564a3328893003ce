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
use crate::{Error, Kind, Result};
use std::alloc::Layout;
use std::cell::{Cell, UnsafeCell};
use std::mem::MaybeUninit;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicIsize, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

const CHUNK: usize = 1024;
const BATCH: u32 = 256;

#[repr(align(64))]
pub(super) struct Slot {
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
pub(super) struct Counter(AtomicIsize);

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

/// One thread's free slots and its counter, null before the first node.
struct Local {
    head: Cell<*mut Slot>,
    len: Cell<u32>,
    counter: Cell<*const Counter>,
}

impl Drop for Local {
    fn drop(&mut self) {
        while let Some(slot) = self.pop() {
            push_shared(slot);
        }
        if !self.counter.get().is_null() {
            // SAFETY: the thread-local is gone after this.
            unsafe { Counter::retire(self.counter.get()) };
        }
    }
}

impl Local {
    const fn new() -> Local {
        Local {
            head: Cell::new(ptr::null_mut()),
            len: Cell::new(0),
            counter: Cell::new(ptr::null()),
        }
    }

    /// Counts nodes made or dropped.
    #[inline]
    fn count(&self, change: isize) {
        if self.counter.get().is_null() {
            self.counter.set(Counter::register());
        }
        // SAFETY: the counter lives until this thread-local is dropped.
        let counter = unsafe { &(*self.counter.get()).0 };
        counter.store(counter.load(Ordering::Relaxed) + change, Ordering::Relaxed);
    }

    #[inline]
    fn pop(&self) -> Option<NonNull<Slot>> {
        let slot = NonNull::new(self.head.get())?;
        // SAFETY: a slot in a free list is owned by the list's owner, this thread.
        self.head.set(unsafe { slot.as_ref() }.next());
        self.len.set(self.len.get() - 1);
        Some(slot)
    }

    #[inline]
    fn push(&self, slot: NonNull<Slot>) {
        // SAFETY: the slot is free and ours, see `release`.
        unsafe { slot.as_ref() }.set_next(self.head.get());
        self.head.set(slot.as_ptr());
        self.len.set(self.len.get() + 1);
        if self.len.get() > 2 * BATCH {
            for _ in 0..BATCH {
                if let Some(slot) = self.pop() {
                    push_shared(slot);
                }
            }
        }
    }
}

thread_local! {
    static LOCAL: Local = const { Local::new() };
    // These two need no destructor, so they can be used at any time in a thread's life.
    static RELEASING: Cell<bool> = const { Cell::new(false) };
    static PENDING: Cell<*mut Slot> = const { Cell::new(ptr::null_mut()) };
}

fn push_shared(slot: NonNull<Slot>) {
    let mut shared = lock(&SHARED);
    // SAFETY: the slot is free and handed over to the shared list, whose lock we hold.
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
        unsafe { slot.as_ref() }.set_next(local.head.get());
        local.head.set(slot.as_ptr());
        local.len.set(local.len.get() + 1);
    }
    Ok(())
}

#[inline]
fn free_slot() -> Result<NonNull<Slot>> {
    LOCAL.try_with(take_counted).unwrap_or_else(|_| {
        // The thread is being torn down: go through a list that lives for this call only.
        take_counted(&Local::new())
    })
}

#[inline]
fn take_counted(local: &Local) -> Result<NonNull<Slot>> {
    let slot = match local.pop() {
        Some(slot) => slot,
        None => {
            refill(local)?;
            local.pop().expect("refill succeeded")
        }
    };
    local.count(1);
    Ok(slot)
}

impl NodeRef {
    /// Moves a node into the arena.
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
    if RELEASING.get() {
        // SAFETY: the count is zero, so the link is ours.
        unsafe { slot.as_ref() }.set_next(PENDING.get());
        PENDING.set(slot.as_ptr());
        return;
    }
    struct Done;
    impl Drop for Done {
        fn drop(&mut self) {
            RELEASING.set(false);
        }
    }
    RELEASING.set(true);
    let _done = Done;
    drop_node(slot);
    while let Some(slot) = NonNull::new(PENDING.get()) {
        // SAFETY: slots on the pending list are dead and belong to this thread.
        PENDING.set(unsafe { slot.as_ref() }.next());
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
    let kept = LOCAL.try_with(|local| {
        local.count(-1);
        local.push(slot);
    });
    if kept.is_err() {
        ENDED.fetch_sub(1, Ordering::Relaxed);
        push_shared(slot);
    }
}
