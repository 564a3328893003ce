//! Whether operations are recorded, per thread.

use std::cell::Cell;

thread_local! {
    static ENABLED: Cell<bool> = const { Cell::new(true) };
}

/// Whether operations on this thread are recorded.
#[inline]
pub fn is_grad_enabled() -> bool {
    ENABLED.get()
}

/// Switches recording on this thread and returns what it was.
#[inline]
pub fn set_grad_enabled(enabled: bool) -> bool {
    ENABLED.replace(enabled)
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
