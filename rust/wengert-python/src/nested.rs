//! Backward passes within backward passes.
//!
//! A hook, or the derivative of a user's function, may call backward, whose hooks may call backward
//! again. Each level stands on the stack of the one that called it, and counts against Python's
//! limit of recursion. So every [`DEEP`] levels a pass runs on a thread of its own, while the caller
//! waits: with a fresh stack and a fresh count, as in PyTorch. Only when there are [`MOST`] such
//! threads is it taken for an endless recursion.
//!
//! What the program keeps for one thread (`threading.local`) is not seen by a pass that was moved; what
//! the engine was told is ([`Surroundings`]): modes, levels of forward mode, hooks for saved tensors.

use crate::site::detached;
use pyo3::exceptions::PyRecursionError;
use pyo3::prelude::*;
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use wengert::graph::surroundings::Surroundings;

/// Levels on one thread.
const DEEP: u32 = 60;
/// Threads that wait for a deeper level.
const MOST: usize = 512;
/// Of a thread; memory is used as far as the stack grows.
const STACK: usize = 16 << 20;

thread_local! {
    static LEVEL: Cell<u32> = const { Cell::new(0) };
}

static WAITING: AtomicUsize = AtomicUsize::new(0);

/// Runs a pass, on this thread or, where it is nested too deeply, on another.
#[inline]
pub fn run<T: Send>(work: impl FnOnce() -> PyResult<T> + Send) -> PyResult<T> {
    struct Leave;
    impl Drop for Leave {
        fn drop(&mut self) {
            LEVEL.set(LEVEL.get() - 1);
        }
    }
    let level = LEVEL.get();
    if level >= DEEP {
        return elsewhere(work);
    }
    LEVEL.set(level + 1);
    let _leave = Leave;
    work()
}

#[cold]
fn elsewhere<T: Send>(work: impl FnOnce() -> PyResult<T> + Send) -> PyResult<T> {
    struct Done;
    impl Drop for Done {
        fn drop(&mut self) {
            WAITING.fetch_sub(1, Ordering::Relaxed);
        }
    }
    let too_deep = |why: &str| {
        let deep = MOST * DEEP as usize;
        PyRecursionError::new_err(format!(
            "maximum depth of backward passes within backward passes exceeded ({why}; the limit is \
             {deep})"
        ))
    };
    let _done = Done;
    if WAITING.fetch_add(1, Ordering::Relaxed) >= MOST {
        return Err(too_deep("a hook or a derivative calls backward without end?"));
    }
    let surroundings = Surroundings::here();
    let moved = move || Python::attach(|_| surroundings.with(|| run(work)));
    let waited = Python::attach(|py| {
        detached(py, || {
            thread::scope(|s| {
                let thread = thread::Builder::new().name("wengert-backward".into());
                Ok::<_, std::io::Error>(thread.stack_size(STACK).spawn_scoped(s, moved)?.join())
            })
        })
    });
    match waited {
        Ok(Ok(result)) => result,
        Ok(Err(panic)) => std::panic::resume_unwind(panic),
        Err(error) => Err(too_deep(&format!("there is no thread to be had: {error}"))),
    }
}
