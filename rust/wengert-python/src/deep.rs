//! Backward passes inside of backward passes, however deep.
//!
//! A rule or hook in Python may start a pass, whose rules may start passes, and so on. Each takes a
//! few kilobytes of the stack, and CPython counts each against its limit for recursion. So every so
//! many levels the next pass runs on a thread of its own, with a stack and a count of its own, while
//! the one that asked for it waits. That is as sound as a call: of the two threads only one runs at
//! any time, and what was said to the first one (modes, hooks) is said to the second as well.

use crate::error::{caught, guarded};
use crate::site::detached;
use pyo3::exceptions::PyRecursionError;
use pyo3::prelude::*;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use wengert::graph::surroundings::Surroundings;
use wengert::graph::task;

/// Passes within passes on one thread. PyTorch's number.
const DEEP: usize = 60;

/// Threads that may wait for a deeper pass; more are taken for an endless recursion.
const MOST: usize = 512;

static WAITING: AtomicUsize = AtomicUsize::new(0);

/// Memory is taken of this only as it is used.
const STACK: usize = 16 << 20;

/// Runs a backward pass, on this thread or on one of its own.
pub fn pass<R: Send>(
    py: Python<'_>,
    work: impl FnOnce() -> wengert::Result<R> + Send,
) -> PyResult<R> {
    if task::depth() < DEEP { guarded(work) } else { elsewhere(py, work) }
}

#[cold]
fn elsewhere<R: Send>(
    py: Python<'_>,
    work: impl FnOnce() -> wengert::Result<R> + Send,
) -> PyResult<R> {
    struct Done;
    impl Drop for Done {
        fn drop(&mut self) {
            WAITING.fetch_sub(1, Ordering::Relaxed);
        }
    }
    let _done = Done;
    if WAITING.fetch_add(1, Ordering::Relaxed) >= MOST {
        return Err(PyRecursionError::new_err(format!(
            "maximum depth of backward passes within backward passes exceeded: does a hook or a \
             derivative call backward without end? The limit is {}",
            MOST * DEEP
        )));
    }
    let surroundings = Surroundings::here();
    detached(py, || {
        thread::scope(|scope| {
            let body = || Python::attach(|_| caught(|| surroundings.with(|| guarded(work))));
            let name = "wengert deep backward".to_owned();
            let spawned =
                thread::Builder::new().name(name).stack_size(STACK).spawn_scoped(scope, body);
            match spawned {
                Ok(thread) => thread.join().unwrap_or_else(|_| {
                    // `caught` lets no panic through; what is left is the thread's own machinery.
                    Err(PyRecursionError::new_err("a nested backward pass lost its thread"))
                }),
                Err(error) => Err(PyRecursionError::new_err(format!(
                    "backward passes are nested too deep: no thread for the next one ({error})"
                ))),
            }
        })
    })
}
