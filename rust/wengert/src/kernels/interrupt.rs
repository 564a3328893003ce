//! Ctrl-C inside long loops.
//!
//! An embedding language notes a signal and waits for its own code to run again. A loop over much
//! memory may take seconds until then. So the thread that started a parallel loop looks, between
//! chunks and at most every [`PATIENCE`], whether the language wants it to stop; if so, the loop is
//! left by unwinding with the [`Error`](crate::Error), as rules report theirs. What was being
//! computed is discarded. Workers end after the chunk they are in.
//!
//! Unwinding needs somebody who catches it. So loops look only where the embedding says that it does
//! ([`Interruptible`]), which is where it lets others use the interpreter meanwhile: around long
//! operations. Nothing may be locked meanwhile that others wait for while they have the interpreter:
//! looking asks for the interpreter.

use crate::Result;
use std::cell::Cell;
use std::panic::resume_unwind;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// How long a loop runs before it looks, and looks again.
pub const PATIENCE: Duration = Duration::from_millis(25);

static CHECK: OnceLock<fn() -> Result<()>> = OnceLock::new();

thread_local! {
    static INTERRUPTIBLE: Cell<bool> = const { Cell::new(false) };
}

/// Installs the function that says whether to stop, as an error; the first one wins.
pub fn set_check(check: fn() -> Result<()>) {
    let _ = CHECK.set(check);
}

/// The error of the check, if the embedding language wants this thread to stop.
#[inline]
pub fn check() -> Result<()> {
    match CHECK.get() {
        Some(check) => check(),
        None => Ok(()),
    }
}

/// Whether loops of this thread may be left by unwinding, until this is dropped.
pub struct Interruptible(bool);

impl Interruptible {
    /// They may: the caller catches an unwinding [`Error`](crate::Error). Or they may not, because
    /// something must not be left half done.
    #[must_use = "it holds as long as the guard lives"]
    pub fn new(may: bool) -> Interruptible {
        Interruptible(INTERRUPTIBLE.replace(may))
    }
}

impl Drop for Interruptible {
    fn drop(&mut self) {
        INTERRUPTIBLE.set(self.0);
    }
}

/// Elements that a loop goes through before it asks for the time.
pub(crate) const PIECE: usize = 1 << 20;

/// When a loop looked last.
pub(crate) struct Patience(Option<Instant>);

impl Patience {
    pub(crate) fn new() -> Patience {
        // Workers cannot ask, and are not interruptible.
        Patience(INTERRUPTIBLE.get().then(Instant::now))
    }

    /// Of a loop that must not be left in the middle.
    pub(crate) fn endless() -> Patience {
        Patience(None)
    }

    /// Of a loop over so many elements, which does not look if they are few.
    #[inline]
    pub(crate) fn over(elements: usize) -> Patience {
        if elements < PIECE { Patience::endless() } else { Patience::new() }
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
