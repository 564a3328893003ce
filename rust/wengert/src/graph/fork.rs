//! The graph's locks across `fork`: taken before it, given back on both sides.
//!
//! Only the thread that forks exists in the child. A lock that another one held at that moment would
//! stay locked there for ever, and what it protects might be half changed. So a handler takes all
//! of them first. They are `std`'s, for the reason given in [`alloc`](crate::alloc).
//!
//! Free slots and counters of threads that do not exist in the child stay as they are: the slots are
//! lost, the counts go on being right.
#![allow(unsafe_code)]

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Takes a lock. Nothing panics between two states, so a poisoned one guards sound data.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(unix)]
pub(crate) use unix::install;

/// Systems without `fork` need nothing.
#[cfg(not(unix))]
pub(crate) fn install() {}

#[cfg(unix)]
mod unix {
    use crate::exports;
    use crate::graph::{arena, commit};
    use std::cell::RefCell;
    use std::sync::Once;

    type Held = (commit::Held, exports::Held, arena::Held);

    thread_local! {
        /// All locks, between the two sides of a fork.
        static HELD: RefCell<Option<Held>> = const { RefCell::new(None) };
    }

    /// Registers the handlers, once.
    pub(crate) fn install() {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            // SAFETY: the handlers are `extern "C"`, do not unwind, and live as long as the
            // library, from whose unloading the C library unregisters them. A failure to
            // register (no memory) leaves forking as it is without handlers.
            unsafe { libc::pthread_atfork(Some(prepare), Some(release), Some(release)) };
        });
    }

    extern "C" fn prepare() {
        let held = (commit::hold(), exports::hold(), arena::hold());
        // While the thread's locals are being destroyed the locks are simply given back.
        let _ = HELD.try_with(|slot| slot.replace(Some(held)));
    }

    extern "C" fn release() {
        let _ = HELD.try_with(|slot| slot.take());
    }
}
