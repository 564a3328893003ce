//! Who wants to know of writes, per thread, before they happen.
//!
//! Every write to a tensor passes one check (that its memory may be written to at all), which asks
//! here. Without a watcher that is one flag of the thread.

use super::mode::{self, WATCHED_WRITES};
use crate::Result;
use crate::tensor::Tensor;
use std::cell::RefCell;
use std::sync::Arc;

/// Sees a tensor that is about to be written to; an error keeps the write from happening.
pub type WriteWatcher = Arc<dyn Fn(&Tensor) -> Result<()> + Send + Sync>;

thread_local! {
    static WATCHER: RefCell<Option<WriteWatcher>> = const { RefCell::new(None) };
}

/// Makes this the watcher of the thread's writes, or none, and returns the one before.
pub fn set_write_watcher(watcher: Option<WriteWatcher>) -> Option<WriteWatcher> {
    mode::switch(WATCHED_WRITES, watcher.is_some());
    WATCHER.replace(watcher)
}

/// The watcher of this thread's writes.
pub fn write_watcher() -> Option<WriteWatcher> {
    WATCHER.with_borrow(Option::clone)
}

#[inline]
pub(crate) fn about_to_write(tensor: &Tensor) -> Result<()> {
    if mode::mode() & WATCHED_WRITES != 0 { tell(tensor) } else { Ok(()) }
}

#[cold]
fn tell(tensor: &Tensor) -> Result<()> {
    // Cloned, so that the watcher may run anything, writes included.
    write_watcher().map_or(Ok(()), |watcher| watcher(tensor))
}
