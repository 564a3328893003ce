//! A counted pointer: `Arc` with two differences that an operation on one element can feel.
//!
//! * Both counts, of owners and of weak handles, share one word. An owner that sees "one owner, no
//!   weak handle" in a single load knows that nobody can change that any more, and drops the value
//!   without an atomic exchange. `Arc` has a word for each and pays two exchanges.
//! * The memory is the tensor allocator's, which costs a fraction of the system's.
//!
//! As in `Arc`, the owners together hold one weak handle, which they give back after the value is
//! dropped; whoever gives back the last weak handle frees the block.
#![allow(unsafe_code)]

use crate::alloc;
use std::alloc::{Layout, handle_alloc_error};
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

struct Block<T> {
    /// Owners in the low half, weak handles in the high half.
    counts: AtomicU64,
    value: T,
}

const OWNER: u64 = 1;
const WEAK: u64 = 1 << 32;

const fn owners(counts: u64) -> u32 {
    counts as u32
}

const fn weaks(counts: u64) -> u32 {
    (counts >> 32) as u32
}

/// An owner.
pub(crate) struct Counted<T>(NonNull<Block<T>>, PhantomData<Block<T>>);

/// A handle that does not keep the value alive.
pub(crate) struct WeakCounted<T>(NonNull<Block<T>>, PhantomData<Block<T>>);

// SAFETY: a handle gives `&T` to any thread and may drop the `T` on any thread.
unsafe impl<T: Send + Sync> Send for Counted<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for Counted<T> {}
// SAFETY: a weak handle can become an owner.
unsafe impl<T: Send + Sync> Send for WeakCounted<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for WeakCounted<T> {}

impl<T> Counted<T> {
    /// Memory that one value takes.
    pub const BYTES: usize = size_of::<Block<T>>();

    /// Moves a value to counted memory. As with any `Box`, running out of memory ends the program.
    #[inline]
    pub fn new(value: T) -> Counted<T> {
        const { assert!(align_of::<Block<T>>() <= alloc::ALIGNMENT) };
        let Ok(block) = alloc::allocate(size_of::<Block<T>>()) else {
            handle_alloc_error(Layout::new::<Block<T>>());
        };
        let block = block.cast::<Block<T>>();
        // SAFETY: the memory is ours, large enough and aligned for a block.
        unsafe { block.write(Block { counts: AtomicU64::new(OWNER | WEAK), value }) };
        Counted(block, PhantomData)
    }

    #[inline]
    fn counts(&self) -> &AtomicU64 {
        // SAFETY: an owner keeps the block alive.
        &unsafe { self.0.as_ref() }.counts
    }

    /// How many owners there are.
    #[inline]
    pub fn owners(&self) -> usize {
        owners(self.counts().load(Ordering::Acquire)) as usize
    }

    /// Whether both own one value.
    #[inline]
    pub fn same(&self, other: &Counted<T>) -> bool {
        self.0 == other.0
    }

    /// Where the value's block lies.
    #[inline]
    pub fn address(&self) -> usize {
        self.0.as_ptr() as usize
    }

    /// A handle that does not keep the value alive.
    pub fn downgrade(&self) -> WeakCounted<T> {
        let before = self.counts().fetch_add(WEAK, Ordering::Relaxed);
        assert!(weaks(before) < u32::MAX / 2, "too many weak handles to one tensor");
        WeakCounted(self.0, PhantomData)
    }

    /// Gives up an ownership that may be the last.
    #[inline(never)]
    fn release(&mut self) {
        if owners(self.counts().fetch_sub(OWNER, Ordering::Release)) == 1 {
            std::sync::atomic::fence(Ordering::Acquire);
            // SAFETY: there is no owner any more and a weak handle cannot make one; the block
            // stays until the owners' weak handle is given back below.
            unsafe { std::ptr::drop_in_place(&raw mut (*self.0.as_ptr()).value) };
            drop(WeakCounted(self.0, PhantomData));
        }
    }
}

impl<T> std::ops::Deref for Counted<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: an owner keeps the value alive, and nobody has a unique reference to it.
        &unsafe { self.0.as_ref() }.value
    }
}

impl<T> Clone for Counted<T> {
    #[inline]
    fn clone(&self) -> Self {
        let before = self.counts().fetch_add(OWNER, Ordering::Relaxed);
        // Far below the border of the halves, which no overflow may cross.
        assert!(owners(before) < u32::MAX / 2, "too many handles to one tensor");
        Counted(self.0, PhantomData)
    }
}

impl<T> Drop for Counted<T> {
    #[inline]
    fn drop(&mut self) {
        // Acquire: what former owners did to the value happened before.
        if self.counts().load(Ordering::Acquire) != OWNER | WEAK {
            return self.release();
        }
        // SAFETY: we are the one owner and there is no weak handle but the owners' own; new
        // handles are made from handles, so nobody else can come. The block is not used again.
        unsafe {
            std::ptr::drop_in_place(&raw mut (*self.0.as_ptr()).value);
            alloc::deallocate(self.0.cast(), size_of::<Block<T>>());
        }
    }
}

impl<T> WeakCounted<T> {
    #[inline]
    fn counts(&self) -> &AtomicU64 {
        // SAFETY: a weak handle keeps the block, though not the value; only the counts are
        // referred to.
        unsafe { &(*self.0.as_ptr()).counts }
    }

    /// Where the value's block lies.
    pub fn address(&self) -> usize {
        self.0.as_ptr() as usize
    }

    /// An owner, if there still is one.
    pub fn upgrade(&self) -> Option<Counted<T>> {
        let more = |counts| (owners(counts) > 0).then_some(counts + OWNER);
        self.counts().fetch_update(Ordering::Acquire, Ordering::Relaxed, more).ok()?;
        Some(Counted(self.0, PhantomData))
    }
}

impl<T> Clone for WeakCounted<T> {
    fn clone(&self) -> Self {
        let before = self.counts().fetch_add(WEAK, Ordering::Relaxed);
        assert!(weaks(before) < u32::MAX / 2, "too many weak handles to one tensor");
        WeakCounted(self.0, PhantomData)
    }
}

impl<T> Drop for WeakCounted<T> {
    fn drop(&mut self) {
        if weaks(self.counts().fetch_sub(WEAK, Ordering::Release)) == 1 {
            std::sync::atomic::fence(Ordering::Acquire);
            // SAFETY: the last handle of either kind is gone (owners hold a weak one), and with
            // the last owner the value was dropped.
            unsafe { alloc::deallocate(self.0.cast(), size_of::<Block<T>>()) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn value_dies_with_its_last_owner_and_block_with_its_last_handle() {
        let witness = Arc::new(());
        let a = Counted::new(witness.clone());
        let b = a.clone();
        let weak = a.downgrade();
        assert!(a.same(&b) && a.owners() == 2);
        drop(a);
        assert_eq!(Arc::strong_count(&weak.upgrade().unwrap()), 2);
        drop(b);
        assert_eq!(Arc::strong_count(&witness), 1);
        assert!(weak.clone().upgrade().is_none());
        let alone = Counted::new(witness.clone());
        drop(alone);
        assert_eq!(Arc::strong_count(&witness), 1);
    }

    #[test]
    fn handles_of_all_kinds_on_all_threads() {
        let witness = Arc::new(());
        for _ in 0..200 {
            let value = Counted::new(witness.clone());
            std::thread::scope(|s| {
                for _ in 0..3 {
                    let (owner, weak) = (value.clone(), value.downgrade());
                    s.spawn(move || drop((owner.downgrade(), owner)));
                    s.spawn(move || drop(weak.upgrade().map(|v| v.downgrade())));
                }
                drop(value);
            });
            assert_eq!(Arc::strong_count(&witness), 1);
        }
    }
}
