//! Inference mode: nothing is recorded, and what is made can never take part in a graph.
//!
//! Memory that is allocated in this mode is marked. What lies in it has no version, cannot be saved
//! for backward, and can be written to only in this mode. The mark is on the
//! [storage](crate::storage), so it holds for every alias, and for nothing else: a view of ordinary
//! memory stays ordinary.
//!
//! A thread in this mode has the word of [`mode`](super::mode) at zero, so that operations take the
//! path of those that nobody follows. What a user says about recording meanwhile is kept here. Most
//! programs have no thread in this mode; a counter of such threads says so to each allocation, which
//! then need not look at its thread's variables. A thread sees its own entry in the counter, which
//! is all it asks for.

use super::forward;
use super::masked::{is_masked, set_masked};
use super::mode::{RECORD, switch};
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

thread_local! {
    /// In this mode, whether recording is asked for.
    static ASKED: Cell<Option<bool>> = const { Cell::new(None) };
}

static THREADS: AtomicUsize = AtomicUsize::new(0);

/// Whether this thread is in inference mode.
#[inline]
pub fn is_inference_mode() -> bool {
    THREADS.load(Ordering::Relaxed) != 0 && ASKED.get().is_some()
}

/// Keeps what was said about recording, and gives what was said before.
pub(super) fn keep(record: bool) -> bool {
    ASKED.replace(Some(record)).unwrap_or(false)
}

/// Whether recording is asked for: [`is_grad_enabled`](super::is_grad_enabled), but for this mode.
pub fn is_grad_asked_for() -> bool {
    ASKED.get().unwrap_or_else(super::is_grad_enabled)
}

/// What a thread does: whether it is in this mode, whether recording is asked for, and whether
/// gradients are [masked](super::masked).
#[derive(Clone, Copy)]
pub struct Modes {
    inferring: bool,
    record: bool,
    masked: bool,
}

/// Switches the mode on this thread. Entering it switches recording off, leaving it on.
pub fn set_inference_mode(on: bool) -> Modes {
    let before = Modes::current();
    Modes { inferring: on, record: !on, ..before }.restore();
    before
}

impl Modes {
    /// Those of this thread.
    pub fn current() -> Modes {
        Modes { inferring: is_inference_mode(), record: is_grad_asked_for(), masked: is_masked() }
    }

    /// The same but for what is asked for about recording.
    pub fn with_record(self, record: bool) -> Modes {
        Modes { record, ..self }
    }

    /// The same but for whether gradients are masked.
    pub fn with_masked(self, masked: bool) -> Modes {
        Modes { masked, ..self }
    }

    /// As a number.
    pub fn code(self) -> u8 {
        self.record as u8 | (self.inferring as u8) << 1 | (self.masked as u8) << 2
    }

    /// From such a number.
    pub fn of(code: u8) -> Modes {
        Modes { record: code & 1 != 0, inferring: code & 2 != 0, masked: code & 4 != 0 }
    }

    /// Makes them those of this thread.
    pub fn restore(self) {
        match (ASKED.get().is_some(), self.inferring) {
            (false, true) => THREADS.fetch_add(1, Ordering::Relaxed),
            (true, false) => THREADS.fetch_sub(1, Ordering::Relaxed),
            _ => 0,
        };
        ASKED.set(self.inferring.then_some(self.record));
        switch(RECORD, !self.inferring && self.record);
        set_masked(self.masked);
        forward::refresh();
    }
}

impl Modes {
    /// Makes them those of this thread until the guard is dropped.
    #[must_use = "the modes are restored when the guard is dropped"]
    pub fn hold(self) -> InferenceMode {
        let before = Modes::current();
        self.restore();
        InferenceMode(before)
    }
}

/// The mode switched until this guard is dropped, also by an error on the way.
///
/// ```
/// use wengert::Tensor;
/// use wengert::graph::inference::{InferenceMode, is_inference_mode};
/// let x = Tensor::from_slice(&[1.0f32], &[1])?;
/// x.set_requires_grad(true)?;
/// let y = {
///     let _on = InferenceMode::new(true);
///     &x * &x
/// };
/// assert!(y.is_inference() && !y.requires_grad() && !is_inference_mode());
/// # Ok::<(), wengert::Error>(())
/// ```
pub struct InferenceMode(Modes);

impl InferenceMode {
    /// Switches the mode on or off.
    #[must_use = "the mode is restored when the guard is dropped"]
    pub fn new(on: bool) -> InferenceMode {
        InferenceMode(set_inference_mode(on))
    }
}

impl Drop for InferenceMode {
    fn drop(&mut self) {
        self.0.restore();
    }
}
