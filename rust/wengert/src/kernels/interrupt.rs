//! Ctrl-C inside long loops.
//!
//! An embedding language notes a signal and waits for its own code to run again. A loop over much
//! memory may take seconds until then. So the thread that started a parallel loop looks, between
//! chunks and at most every [`PATIENCE`], whether the language wants it to stop; if so, the loop is
//! left by unwinding with the [`Error`](crate::Error), as rules report theirs. What was being
//! computed is discarded. Workers end after the chunk they are in.
//!
//! A write that must not be left half done holds interrupts off ([`Uninterrupted`]).

use crate::Result;
use std::cell::Cell;
use std::panic::resume_unwind;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// How long a loop runs before it looks, and looks again.
pub const PATIENCE: Duration = Duration::from_millis(25);

static CHECK: OnceLock<fn() -> Result<()>> = OnceLock::new();

thread_local! {
    static HELD_OFF: Cell<u32> = const { Cell::new(0) };
}

/// Installs the function that says whether to stop, as an error; the first one wins.
pub fn set_check(check: fn() -> Result<()>) {
    let _ = CHECK.set(check);
}

/// Stops with the error of the check, if it has one.
#[inline]
pub fn check() -> Result<()> {
    match CHECK.get() {
        Some(check) if HELD_OFF.get() == 0 => check(),
        _ => Ok(()),
    }
}

/// Nothing that this thread does is interrupted until this is dropped.
pub struct Uninterrupted(());

impl Uninterrupted {
    /// Begins.
    #[must_use = "interrupts are held off as long as the guard lives"]
    pub fn new() -> Uninterrupted {
        HELD_OFF.set(HELD_OFF.get() + 1);
        Uninterrupted(())
    }
}

impl Default for Uninterrupted {
    fn default() -> Self {
        Uninterrupted::new()
    }
}

impl Drop for Uninterrupted {
    fn drop(&mut self) {
        HELD_OFF.set(HELD_OFF.get() - 1);
    }
}

/// When a loop looked last.
pub(crate) struct Patience(Option<Instant>);

impl Patience {
    pub(crate) fn new() -> Patience {
        Patience(CHECK.get().map(|_| Instant::now()))
    }

    /// Leaves the loop by unwinding if it is to stop.
    #[inline]
    pub(crate) fn look(&mut self) {
        if let Some(last) = &mut self.0 {
            let now = Instant::now();
            if now.duration_since(*last) >= PATIENCE {
                *last = now;
                stop();
            }
        }
    }
}

#[cold]
fn stop() {
    if let Err(error) = check() {
        resume_unwind(Box::new(error));
    }
}
