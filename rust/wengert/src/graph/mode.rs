//! What this thread's operations do beyond computing: flags in one thread-local byte.
//!
//! Whether they are recorded is asked on every call. What is rare (hooks for saved tensors, a
//! watcher of writes) has its flag beside that one, so that nobody pays for asking.

use std::cell::Cell;

/// Operations are recorded.
const GRAD: u8 = 1;
/// Tensors that are saved go through hooks, see [`saved`](super::saved).
pub(super) const SAVED_TENSOR_HOOKS: u8 = 2;
/// Somebody wants to know of writes, see [`watch`](super::watch).
pub(super) const WATCHED_WRITES: u8 = 4;

thread_local! {
    static MODE: Cell<u8> = const { Cell::new(GRAD) };
}

/// Whether operations on this thread are recorded.
#[inline]
pub fn is_grad_enabled() -> bool {
    MODE.get() & GRAD != 0
}

/// Switches recording on this thread and returns what it was.
#[inline]
pub fn set_grad_enabled(enabled: bool) -> bool {
    let before = MODE.get();
    MODE.set(before & !GRAD | enabled as u8);
    before & GRAD != 0
}

/// Whether a flag of this thread is set.
#[inline]
pub(super) fn has(flag: u8) -> bool {
    MODE.get() & flag != 0
}

/// Sets or clears a flag of this thread.
pub(super) fn set(flag: u8, on: bool) {
    MODE.set(MODE.get() & !flag | if on { flag } else { 0 });
}

/// Recording switched until this guard is dropped, also by an error on the way.
///
/// ```
/// use wengert::graph::{GradMode, is_grad_enabled};
/// {
///     let _off = GradMode::new(false);
///     assert!(!is_grad_enabled());
/// }
/// assert!(is_grad_enabled());
/// ```
pub struct GradMode(bool);

impl GradMode {
    /// Switches recording to `enabled`.
    #[must_use = "the mode is restored when the guard is dropped"]
    pub fn new(enabled: bool) -> GradMode {
        GradMode(set_grad_enabled(enabled))
    }
}

impl Drop for GradMode {
    fn drop(&mut self) {
        set_grad_enabled(self.0);
    }
}
