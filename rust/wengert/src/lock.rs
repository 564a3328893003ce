//! The lock of small things: one byte, one atomic exchange to take it, a plain store to give it
//! back.
//!
//! Every tensor and every node has a lock that is held for a few instructions, several times per
//! operation, and practically never contended. A general lock must look for sleeping waiters when
//! it is released, which is a second atomic exchange and half the cost. Here a waiter spins, and
//! hands over its time slice if that takes long, so nobody sleeps and the release is a store.
//!
//! Rules of use: never call a rule, a hook or Python, and never drop a tensor or a node, while
//! holding one.
#![allow(unsafe_code)]

use parking_lot::lock_api::{self, GuardSend};
use std::sync::atomic::{AtomicBool, Ordering};

/// A value behind a spinning lock.
pub(crate) type Lock<T> = lock_api::Mutex<Spin, T>;

/// The state of a [`Lock`]: whether it is taken.
pub(crate) struct Spin(AtomicBool);

/// Attempts before a waiter hands over its time slice.
const ATTEMPTS: u32 = 100;

// SAFETY: `lock` and `try_lock` return with the lock only after having changed the flag from false
// to true, with acquire ordering, and `unlock` alone changes it back, with release ordering.
unsafe impl lock_api::RawMutex for Spin {
    #[allow(clippy::declare_interior_mutable_const)] // The trait's way to make one.
    const INIT: Spin = Spin(AtomicBool::new(false));

    type GuardMarker = GuardSend;

    #[inline]
    fn lock(&self) {
        if !self.try_lock() {
            self.wait();
        }
    }

    #[inline]
    fn try_lock(&self) -> bool {
        !self.0.swap(true, Ordering::Acquire)
    }

    #[inline]
    unsafe fn unlock(&self) {
        self.0.store(false, Ordering::Release);
    }
}

impl Spin {
    #[cold]
    fn wait(&self) {
        let mut attempts = 0;
        loop {
            // Looking does not take the cache line away from the holder; exchanging would.
            if !self.0.load(Ordering::Relaxed) && !self.0.swap(true, Ordering::Acquire) {
                return;
            }
            attempts += 1;
            if attempts < ATTEMPTS {
                std::hint::spin_loop();
            } else {
                std::thread::yield_now();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thread_at_a_time() {
        let count = Lock::new(0u64);
        std::thread::scope(|s| {
            for _ in 0..4 {
                s.spawn(|| (0..10_000).for_each(|_| *count.lock() += 1));
            }
        });
        assert_eq!(*count.lock(), 40_000);
        assert_eq!(size_of::<Lock<()>>(), 1);
    }
}
