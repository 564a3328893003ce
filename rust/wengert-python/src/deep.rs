//! Backward passes inside of backward passes, however deep.
//!
//! A rule or hook in Python may start a pass, whose rules may start passes, and so on. Each takes a
//! few kilobytes of the stack, and CPython counts each against its limit for recursion. So every so
//! many levels the next pass runs on a thread of its own, with a stack and a count of its own, while
//! the one that asked for it waits. That is as sound as a call: of the two threads only one runs at
//! any time, and what was said to the first one (modes, hooks) is said to the second as well.

use crate::error::{caught, guarded};
use pyo3::exceptions::PyRecursionError;
use pyo3::prelude::*;
use std::thread;
use wengert::graph::surroundings::Surroundings;
use wengert::graph::task;

/// Passes within passes on one thread. PyTorch's number.
const DEEP: usize = 60;

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
    let surroundings = Surroundings::here();
    py.detach(|| {
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
