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
//!    always look at the count; the generation tells whether the slot holds the same node still.
//! 3. **No lock on the fast path.** Each thread keeps a short list of free slots and trades
//!    batches with a global list.
#![allow(unsafe_code)]

use super::node::Node;
use crate::{Error, Kind, Result};
use parking_lot::Mutex;
use std::alloc::Layout;
use std::cell::{Cell, UnsafeCell};
use std::mem::MaybeUninit;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicIsize, AtomicU32, AtomicU64, Ordering};

const CHUNK: usize = 1024;
const BATCH: u32 = 256;

pub(super) struct Slot {
    refcount: AtomicU32,
    generation: AtomicU32,
    /// Work space of a running backward pass, see `backward`.
    pub(super) scratch: AtomicU64,
    /// Link of the free list and of the release list; meaningless while the node lives.
    next: Cell<*mut Slot>,
    node: UnsafeCell<MaybeUninit<Node>>,
}

/// A counted handle to a node.
pub struct NodeRef(NonNull<Slot>);

// SAFETY: counts are atomic, `Node` is Send + Sync, and `next` is touched only by the thread
// that took the count to zero or found the slot in a free list, never through a live handle.
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

static LIVE: AtomicIsize = AtomicIsize::new(0);

/// Number of graph nodes alive in the process. After a program has dropped its tensors it is
/// back where it began; every test checks that.
pub fn live_nodes() -> usize {
    LIVE.load(Ordering::Relaxed).max(0) as usize
}

struct Shared(*mut Slot);
// SAFETY: the list is only followed by the holder of the mutex, who owns the free slots in it.
unsafe impl Send for Shared {}

/// Free slots that belong to no thread, as a list of any length.
static SHARED: Mutex<Shared> = Mutex::new(Shared(ptr::null_mut()));

struct Local {
    head: Cell<*mut Slot>,
    len: Cell<u32>,
}

impl Drop for Local {
    fn drop(&mut self) {
        while let Some(slot) = self.pop() {
            push_shared(slot);
        }
    }
}

impl Local {
    #[inline]
    fn pop(&self) -> Option<NonNull<Slot>> {
        let slot = NonNull::new(self.head.get())?;
        // SAFETY: a slot in a free list is owned by the list's owner, this thread.
        self.head.set(unsafe { slot.as_ref() }.next.get());
        self.len.set(self.len.get() - 1);
        Some(slot)
    }

    #[inline]
    fn push(&self, slot: NonNull<Slot>) {
        // SAFETY: the slot is free and ours, see `release`.
        unsafe { slot.as_ref() }.next.set(self.head.get());
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
    static LOCAL: Local = const { Local { head: Cell::new(ptr::null_mut()), len: Cell::new(0) } };
    // These two need no destructor, so they can be used at any time in a thread's life.
    static RELEASING: Cell<bool> = const { Cell::new(false) };
    static PENDING: Cell<*mut Slot> = const { Cell::new(ptr::null_mut()) };
}

fn push_shared(slot: NonNull<Slot>) {
    let mut shared = SHARED.lock();
    // SAFETY: the slot is free and handed over to the shared list, whose lock we hold.
    unsafe { slot.as_ref() }.next.set(shared.0);
    shared.0 = slot.as_ptr();
}

/// Moves a batch from the shared list, or a new chunk, into this thread's list.
#[cold]
fn refill(local: &Local) -> Result<()> {
    let mut shared = SHARED.lock();
    if shared.0.is_null() {
        let layout = Layout::array::<Slot>(CHUNK)
            .map_err(|_| Error::plain(Kind::Memory, "graph: chunk size overflows"))?;
        // SAFETY: the layout has a size greater than zero.
        let chunk = unsafe { std::alloc::alloc(layout) }.cast::<Slot>();
        if chunk.is_null() {
            return Err(Error::plain(Kind::Memory, "graph: no memory for more nodes"));
        }
        for i in (0..CHUNK).rev() {
            // SAFETY: `i` is inside the chunk; the slot is written before anybody sees it.
            unsafe {
                let slot = chunk.add(i);
                slot.write(Slot {
                    refcount: AtomicU32::new(0),
                    generation: AtomicU32::new(0),
                    scratch: AtomicU64::new(0),
                    next: Cell::new(shared.0),
                    node: UnsafeCell::new(MaybeUninit::uninit()),
                });
                shared.0 = slot;
            }
        }
    }
    for _ in 0..BATCH {
        let Some(slot) = NonNull::new(shared.0) else { break };
        // SAFETY: the lock makes us the owner of the shared list.
        shared.0 = unsafe { slot.as_ref() }.next.get();
        // SAFETY: the slot was just taken out of the shared list and is ours.
        unsafe { slot.as_ref() }.next.set(local.head.get());
        local.head.set(slot.as_ptr());
        local.len.set(local.len.get() + 1);
    }
    Ok(())
}

fn free_slot() -> Result<NonNull<Slot>> {
    let local = LOCAL.try_with(|local| {
        if let Some(slot) = local.pop() {
            return Ok(slot);
        }
        refill(local)?;
        Ok(local.pop().expect("refill succeeded"))
    });
    match local {
        Ok(slot) => slot,
        // The thread is being torn down: go through a list that lives for this call only.
        Err(_) => {
            let local = Local { head: Cell::new(ptr::null_mut()), len: Cell::new(0) };
            refill(&local)?;
            Ok(local.pop().expect("refill succeeded"))
        }
    }
}

impl NodeRef {
    /// Moves a node into the arena.
    pub fn new(node: Node) -> Result<NodeRef> {
        let slot = free_slot()?;
        // SAFETY: a free slot is ours alone until the count below is published.
        unsafe {
            (*slot.as_ref().node.get()).write(node);
            slot.as_ref().refcount.store(1, Ordering::Release);
        }
        LIVE.fetch_add(1, Ordering::Relaxed);
        Ok(NodeRef(slot))
    }

    #[inline]
    pub(super) fn slot(&self) -> &Slot {
        // SAFETY: slots are never given back.
        unsafe { self.0.as_ref() }
    }

    /// A handle that does not keep the node alive.
    pub fn downgrade(&self) -> WeakNodeRef {
        WeakNodeRef { slot: self.0, generation: self.slot().generation.load(Ordering::Acquire) }
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
        let before = self.slot().refcount.fetch_add(1, Ordering::Relaxed);
        assert!(before < u32::MAX / 2, "graph: too many handles to one node");
        NodeRef(self.0)
    }
}

impl Drop for NodeRef {
    #[inline]
    fn drop(&mut self) {
        if self.slot().refcount.fetch_sub(1, Ordering::Release) == 1 {
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
        let mut count = slot.refcount.load(Ordering::Relaxed);
        loop {
            if count == 0 {
                return None;
            }
            match slot.refcount.compare_exchange_weak(
                count,
                count + 1,
                Ordering::Acquire,
                Ordering::Relaxed,
            ) {
                Ok(_) => break,
                Err(now) => count = now,
            }
        }
        // From here on the count is ours; dropping `node` gives it back.
        let node = NodeRef(self.slot);
        (slot.generation.load(Ordering::Acquire) == self.generation).then_some(node)
    }
}

/// Drops the node of a slot whose count has reached zero, and all that hangs on it.
#[cold]
#[inline(never)]
fn release(slot: NonNull<Slot>) {
    if RELEASING.get() {
        // SAFETY: the count is zero, so the link is ours.
        unsafe { slot.as_ref() }.next.set(PENDING.get());
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
        PENDING.set(unsafe { slot.as_ref() }.next.get());
        drop_node(slot);
    }
}

fn drop_node(slot: NonNull<Slot>) {
    // SAFETY: slots are never given back.
    let shared = unsafe { slot.as_ref() };
    // A weak handle that succeeds from now on would see another generation.
    shared.generation.fetch_add(1, Ordering::Release);
    // SAFETY: the count is zero: the node is initialised and nobody else can reach it. It is
    // read out exactly once, here.
    let node = unsafe { (*shared.node.get()).assume_init_read() };
    drop(node);
    LIVE.fetch_sub(1, Ordering::Relaxed);
    if LOCAL.try_with(|local| local.push(slot)).is_err() {
        push_shared(slot);
    }
}
