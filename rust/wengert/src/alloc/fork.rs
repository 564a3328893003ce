//! Locks across `fork`: taken before it, given back on both sides.
#![allow(unsafe_code)]

#[cfg(unix)]
pub use unix::install;

/// Systems without `fork` need nothing.
#[cfg(not(unix))]
pub fn install() {}

#[cfg(unix)]
mod unix {
    use crate::alloc::shelf::{Chain, SHELVES, lock};
    use crate::alloc::slab::{self, Slabs};
    use crate::alloc::{REGISTRY, Registered};
    use crate::per_thread::here;
    use std::cell::RefCell;
    use std::collections::VecDeque;
    use std::sync::{MutexGuard, Once};

    type Held = (
        MutexGuard<'static, Vec<Registered>>,
        Vec<MutexGuard<'static, VecDeque<Chain>>>,
        MutexGuard<'static, Slabs>,
    );

    thread_local! {
        /// All locks of this module, between the two sides of a fork.
        static HELD: RefCell<Option<Held>> = const { RefCell::new(None) };
    }

    pub fn install() {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            // SAFETY: the handlers are `extern "C"`, do not unwind, and live as long as the
            // library, from whose unloading the C library unregisters them. A failure to
            // register (no memory) leaves forking as it is without handlers.
            unsafe { libc::pthread_atfork(Some(prepare), Some(parent), Some(child)) };
        });
    }

    extern "C" fn prepare() {
        let registry = lock(&REGISTRY);
        let shelves = SHELVES.iter().map(|shelf| lock(&shelf.chains)).collect();
        // While the thread's locals are being destroyed the locks are simply given back.
        let _ = HELD.try_with(|held| held.replace(Some((registry, shelves, slab::hold()))));
    }

    extern "C" fn parent() {
        let _ = HELD.try_with(|held| held.take());
    }

    extern "C" fn child() {
        let _ = HELD.try_with(|held| {
            if let Some((mut registry, _shelves, _slabs)) = held.take() {
                // The other threads do not exist here, nor do the locals that own their caches.
                registry.retain(|r| r.0.as_ptr().cast_const() == here().cache.get());
            }
        });
    }
}
