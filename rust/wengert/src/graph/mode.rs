//! What is done with the operations of this thread: recorded for backward, followed by tangents,
//! both, or nothing.
//!
//! The answer is one word per thread, which an operation loads once. Everything but the two usual
//! answers (record, do nothing) has a bit above [`RECORD`], so that `word > RECORD` is the one
//! question an operation asks to find out that it is not on the usual path.

use super::inference;
use super::site::Site;
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Operations whose inputs require grad leave a node.
pub(super) const RECORD: u32 = 1;

/// A level of forward mode is open: operations on dual tensors give dual tensors.
pub(super) const FORWARD: u32 = 2;

/// Tensors that are saved go through hooks, see [`saved`](super::saved).
pub(super) const SAVED_TENSOR_HOOKS: u32 = 4;

/// Somebody wants to know of writes, see [`watch`](super::watch).
pub(super) const WATCHED_WRITES: u32 = 8;

/// What a thread knows. The number of the newest node stands beside the mode because whoever
/// records needs both, and finding a thread's variables costs a call in a shared library.
pub(super) struct PerThread {
    /// See the bits above.
    pub mode: Cell<u32>,
    /// See [`masked`](super::masked). Not a bit of the mode, because operations need not know.
    pub masked: Cell<bool>,
    /// Number of the newest node that this thread made or built upon.
    pub newest: Cell<u64>,
    /// The site that stands for this thread while it does not run the host's code.
    pub held: Cell<Option<Site>>,
}

thread_local! {
    pub(super) static THREAD: PerThread = const {
        PerThread {
            mode: Cell::new(RECORD),
            masked: Cell::new(false),
            newest: Cell::new(0),
            held: Cell::new(None),
        }
    };
}

/// Number of the newest node that this thread made or built upon.
pub(crate) fn newest() -> u64 {
    THREAD.with(|t| t.newest.get())
}

/// The word.
#[inline]
pub(super) fn mode() -> u32 {
    THREAD.with(|t| t.mode.get())
}

/// Sets or clears bits of the word; gives what it was.
#[inline]
pub(super) fn switch(bits: u32, on: bool) -> u32 {
    THREAD.with(|t| {
        let old = t.mode.get();
        let new = if on { old | bits } else { old & !bits };
        t.mode.set(new);
        match (old & CALL_OUT != 0, new & CALL_OUT != 0) {
            (false, true) => CALLING_OUT.fetch_add(1, Ordering::Relaxed),
            (true, false) => CALLING_OUT.fetch_sub(1, Ordering::Relaxed),
            _ => 0,
        };
        old
    })
}

/// Modes in which operations call the embedding program's code.
const CALL_OUT: u32 = SAVED_TENSOR_HOOKS | WATCHED_WRITES;

/// Threads in such a mode. A thread sees its own entry, which is all it asks for.
static CALLING_OUT: AtomicUsize = AtomicUsize::new(0);

/// Whether an operation may call the embedding program's code on its way, which might replace the
/// tensors that it was lent.
#[inline]
pub fn may_call_out() -> bool {
    CALLING_OUT.load(Ordering::Relaxed) != 0
}

/// Whether operations on this thread are recorded.
#[inline]
pub fn is_grad_enabled() -> bool {
    mode() & RECORD != 0
}

/// Switches recording on this thread and returns what it was.
#[inline]
pub fn set_grad_enabled(enabled: bool) -> bool {
    if inference::is_inference_mode() {
        return inference::keep(enabled);
    }
    switch(RECORD, enabled) & RECORD != 0
}

/// Whether anything beyond values may come of an operation: a node, or tangents.
#[inline]
pub(crate) fn is_tracking() -> bool {
    mode() != 0
}

/// Whether a level of forward mode is open and not switched off.
#[inline]
pub(crate) fn is_forward() -> bool {
    mode() & FORWARD != 0
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

/// Values only until this guard is dropped: nothing is recorded, and no tangents are computed.
///
/// For the steps inside an operation that has a rule of its own. A user's `no_grad` is
/// [`GradMode`], which leaves tangents alone.
pub struct ValuesOnly(u32);

impl ValuesOnly {
    /// Switches everything off.
    #[must_use = "the mode is restored when the guard is dropped"]
    #[allow(clippy::new_without_default)]
    pub fn new() -> ValuesOnly {
        let rest = SAVED_TENSOR_HOOKS | WATCHED_WRITES;
        ValuesOnly(THREAD.with(|t| t.mode.replace(t.mode.get() & rest)))
    }
}

impl Drop for ValuesOnly {
    fn drop(&mut self) {
        THREAD.with(|t| t.mode.set(self.0));
    }
}

/// Recording until this guard is dropped, whatever the user asked for, in inference mode too: for
/// graphs that no user sees.
pub(super) struct Recording(u32);

impl Recording {
    #[must_use = "the mode is restored when the guard is dropped"]
    pub(super) fn new() -> Recording {
        Recording(THREAD.with(|t| t.mode.replace(t.mode.get() & FORWARD | RECORD)))
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        THREAD.with(|t| t.mode.set(self.0));
    }
}

/// No tangents until this guard is dropped; recording stays as it is.
pub(crate) struct WithoutForward(bool);

impl WithoutForward {
    #[must_use = "the mode is restored when the guard is dropped"]
    pub(crate) fn new() -> WithoutForward {
        WithoutForward(switch(FORWARD, false) & FORWARD != 0)
    }
}

impl Drop for WithoutForward {
    fn drop(&mut self) {
        switch(FORWARD, self.0);
    }
}
