//! What a `with` block of a mode remembers, and the tasks of an event loop.
//!
//! A block notes the mode it found and puts it back. One object may be entered again while it is
//! active, so what it notes is a stack.
//!
//! A mode is a thread's. Between two steps of a coroutine the thread runs others, which must not see
//! the mode of a block that the coroutine is in. Python has no hook for that, so a block that is
//! entered in a running `asyncio` loop asks `wengert.autograd._tasks` to switch the mode whenever
//! the loop goes from one task to another. A program that does not use `asyncio` pays one look into
//! a dict per block.

use parking_lot::Mutex;
use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use smallvec::SmallVec;
use wengert::graph::inference::Modes;

/// The modes to return to, innermost last, each with what the tasks' switch gave for it.
pub struct Outer<S>(Mutex<Blocks<S>>);

type Blocks<S> = SmallVec<[(S, Option<Py<PyAny>>); 4]>;

impl<S> Default for Outer<S> {
    fn default() -> Self {
        Outer(Mutex::default())
    }
}

impl<S> Outer<S> {
    /// Notes what to return to. `outside` are all modes as they were before the block.
    pub fn enter(&self, py: Python<'_>, before: S, outside: Modes) -> PyResult<()> {
        let token = match is_loop_running(py)? {
            false => None,
            true => {
                Some(tasks(py)?.call_method1(intern!(py, "enter"), (outside.code(),))?.unbind())
            }
        };
        self.0.lock().push((before, token));
        Ok(())
    }

    /// Returns to it.
    pub fn exit(&self, py: Python<'_>, restore: impl FnOnce(S)) -> PyResult<()> {
        let last = self.0.lock().pop();
        let (before, token) =
            last.ok_or_else(|| PyRuntimeError::new_err("left a mode that was not entered"))?;
        restore(before);
        if let Some(token) = token {
            tasks(py)?.call_method1(intern!(py, "leave"), (token,))?;
        }
        Ok(())
    }
}

#[cold]
fn tasks(py: Python<'_>) -> PyResult<Bound<'_, PyModule>> {
    py.import("wengert.autograd._tasks")
}

/// Whether an event loop of `asyncio` runs on this thread.
fn is_loop_running(py: Python<'_>) -> PyResult<bool> {
    static RUNNING: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let running = match RUNNING.get(py) {
        Some(running) => running.bind(py).clone(),
        None => {
            static MODULES: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
            let modules = MODULES.import(py, "sys", "modules")?;
            let name = intern!(py, "_asyncio");
            if !modules.contains(name)? {
                return Ok(false);
            }
            let running = modules.get_item(name)?.getattr("_get_running_loop")?;
            RUNNING.get_or_init(py, || running.clone().unbind());
            running
        }
    };
    Ok(!running.call0()?.is_none())
}

/// The modes of this thread as a number.
#[pyfunction]
fn _modes() -> u8 {
    Modes::current().code()
}

/// Sets the modes of this thread from such a number.
#[pyfunction]
fn _set_modes(code: u8) {
    Modes::of(code).restore();
}

/// Adds the functions to the module.
pub fn install(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(_modes, m)?)?;
    m.add_function(wrap_pyfunction!(_set_modes, m)?)
}
