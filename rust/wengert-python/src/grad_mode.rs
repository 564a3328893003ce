//! `no_grad`, `enable_grad` and `set_grad_enabled`: blocks that say what is recorded.
//!
//! The mode is one flag per thread, kept by the engine. A block notes the flag, sets its own and
//! puts the old one back, see [`block`](crate::block). It stands on the hot path of every optimiser step, which is why these are
//! compiled classes: with a constructor in Python a block takes two and a half times as long. As
//! decorators they hand over to `wengert.autograd.grad_mode`, where functions that can be suspended
//! get what they need.

use crate::args::flag;
use crate::block::Outer;
use pyo3::prelude::*;
use wengert::graph::inference::Modes;
use wengert::graph::set_grad_enabled;

/// Switches recording, and gives what was and all modes as they were.
fn switch(enabled: bool) -> (bool, Modes) {
    let before = set_grad_enabled(enabled);
    (before, Modes::current().with_record(before))
}

fn restore(before: bool) {
    set_grad_enabled(before);
}

/// The function that does what `function` does inside a block that `block` makes.
#[cold]
pub fn decorate<'py>(
    block: &Bound<'py, PyAny>,
    function: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let home = function.py().import("wengert.autograd.grad_mode")?;
    home.getattr("_decorate")?.call1((block, function))
}

macro_rules! fixed_mode {
    ($(#[$doc:meta])* $Class:ident $name:literal $mode:literal) => {
        $(#[$doc])*
        #[pyclass(name = $name, module = "wengert.autograd.grad_mode", frozen)]
        pub struct $Class(Outer<bool>);

        #[pymethods]
        impl $Class {
            /// A block; or, when used as a decorator without parentheses, the decorated function.
            #[new]
            #[pyo3(signature = (orig_func=None))]
            #[allow(clippy::new_ret_no_self)] // as Python's `__new__` may
            fn new<'py>(
                py: Python<'py>,
                orig_func: Option<&Bound<'py, PyAny>>,
            ) -> PyResult<Bound<'py, PyAny>> {
                match orig_func {
                    None => Ok(Bound::new(py, $Class(Outer::default()))?.into_any()),
                    Some(function) => decorate(py.get_type::<$Class>().as_any(), function),
                }
            }

            fn __enter__(&self, py: Python<'_>) -> PyResult<()> {
                let (before, outside) = switch($mode);
                self.0.enter(py, before, outside)
            }

            #[pyo3(signature = (exc_type=None, exc_value=None, traceback=None))]
            fn __exit__(
                &self,
                py: Python<'_>,
                exc_type: Option<&Bound<'_, PyAny>>,
                exc_value: Option<&Bound<'_, PyAny>>,
                traceback: Option<&Bound<'_, PyAny>>,
            ) -> PyResult<()> {
                let _ = (exc_type, exc_value, traceback);
                self.0.exit(py, restore)
            }

            /// Another block of the same mode.
            fn clone(&self) -> $Class {
                $Class(Outer::default())
            }

            /// Makes a function run in this mode.
            fn __call__<'py>(
                slf: &Bound<'py, Self>,
                func: &Bound<'py, PyAny>,
            ) -> PyResult<Bound<'py, PyAny>> {
                decorate(slf.get_type().as_any(), func)
            }
        }
    };
}

fixed_mode! {
    /// Do not record: results inside have `requires_grad=False`, whatever their inputs.
    ///
    /// Functions that make a tensor out of plain data still honour their `requires_grad` argument.
    /// The mode belongs to the current thread.
    ///
    /// Examples
    /// --------
    /// >>> import wengert
    /// >>> x = wengert.ones(2, requires_grad=True)
    /// >>> with wengert.no_grad():
    /// ...     y = x * 2
    /// >>> y.requires_grad
    /// False
    ///
    /// The same as a decorator, of generators and coroutines too:
    ///
    /// >>> @wengert.no_grad()
    /// ... def double(x):
    /// ...     return x * 2
    /// >>> double(x).requires_grad
    /// False
    PyNoGrad "no_grad" false
}

fixed_mode! {
    /// Record, also inside `no_grad`.
    ///
    /// Examples
    /// --------
    /// >>> import wengert
    /// >>> x = wengert.ones(2, requires_grad=True)
    /// >>> with wengert.no_grad(), wengert.enable_grad():
    /// ...     y = x * 2
    /// >>> y.requires_grad
    /// True
    PyEnableGrad "enable_grad" true
}

/// Record if `mode` is true. Takes effect at once; as a block, until its end.
///
/// Parameters
/// ----------
/// mode : bool
///     Whether operations are recorded from here on.
///
/// Examples
/// --------
/// >>> import wengert
/// >>> x = wengert.ones(2, requires_grad=True)
/// >>> training = False
/// >>> with wengert.set_grad_enabled(training):
/// ...     y = x * 2
/// >>> y.requires_grad
/// False
/// >>> _ = wengert.set_grad_enabled(False)
/// >>> wengert.is_grad_enabled()
/// False
/// >>> _ = wengert.set_grad_enabled(True)
#[pyclass(name = "set_grad_enabled", module = "wengert.autograd.grad_mode", frozen)]
pub struct PySetGradEnabled {
    mode: bool,
    /// What the constructor found, and a block returns to.
    before: bool,
    outer: Outer<bool>,
}

#[pymethods]
impl PySetGradEnabled {
    #[new]
    fn new(mode: &Bound<'_, PyAny>) -> PyResult<Self> {
        let mode = flag(mode, "mode")?;
        Ok(PySetGradEnabled { mode, before: set_grad_enabled(mode), outer: Outer::default() })
    }

    /// Whether operations are recorded.
    #[getter]
    fn mode(&self) -> bool {
        self.mode
    }

    fn __enter__(&self, py: Python<'_>) -> PyResult<()> {
        set_grad_enabled(self.mode);
        self.outer.enter(py, self.before, Modes::current().with_record(self.before))
    }

    #[pyo3(signature = (exc_type=None, exc_value=None, traceback=None))]
    fn __exit__(
        &self,
        py: Python<'_>,
        exc_type: Option<&Bound<'_, PyAny>>,
        exc_value: Option<&Bound<'_, PyAny>>,
        traceback: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let _ = (exc_type, exc_value, traceback);
        self.outer.exit(py, restore)
    }

    /// Makes a function run in this mode: the function, and not the rest of the program.
    fn __call__<'py>(
        slf: &Bound<'py, Self>,
        func: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        set_grad_enabled(slf.get().before);
        decorate(&slf.getattr("clone")?, func)
    }

    /// Another block of the same mode, which it switches to at once.
    fn clone(&self) -> PySetGradEnabled {
        let before = set_grad_enabled(self.mode);
        PySetGradEnabled { mode: self.mode, before, outer: Outer::default() }
    }

    fn __repr__(&self) -> &'static str {
        match self.mode {
            true => "wengert.autograd.grad_mode.set_grad_enabled(mode=True)",
            false => "wengert.autograd.grad_mode.set_grad_enabled(mode=False)",
        }
    }
}

/// Adds the classes to the module.
pub fn install(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<PyNoGrad>()?;
    m.add_class::<PyEnableGrad>()?;
    m.add_class::<PySetGradEnabled>()
}
