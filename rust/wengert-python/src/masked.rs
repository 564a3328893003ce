//! Masked gradients: the block, and what may be asked about it.
//!
//! The rule is the engine's, see `wengert::graph::masked`.

use crate::args::flag;
use crate::block::Outer;
use crate::grad_mode::decorate;
use pyo3::prelude::*;
use wengert::graph::inference::Modes;
use wengert::graph::masked as engine;

/// Let no NaN through from what was masked out: zero times an infinite slope is zero.
///
/// ``where(x > 0, x.sqrt(), 0)`` has a NaN gradient at 0: the gradient that arrives at the branch not
/// taken is zero, the slope of the root is infinite, and their product is NaN. In this mode the
/// gradient of a pointwise operation is 0 wherever it would be NaN and the gradient of its result is
/// exactly zero. That holds for tangents (forward mode) and for derivatives of any order.
///
/// The mode counts where derivatives are computed: around ``backward()``, ``autograd.grad`` and the
/// functions of ``wengert.func``; in forward mode around the computation itself. It belongs to the
/// current thread, and in asyncio to the task.
///
/// It is sound where the zero means that the value is not used: the other branch of ``where``, what
/// ``masked_fill``, ``clamp`` or ``relu`` cut off, padding. It **hides** two things: a NaN that was
/// there in forward already, where its gradient is zero; and that a function has no derivative at a
/// point, where the zero is there by chance. ``sqrt(x) * 0`` gets the gradient 0 at 0, and so does
/// ``sqrt(x) ** 2``, whose slope is 1. So turn it on around code whose masks you know, rather than for a
/// whole program, and use `detect_anomaly` to find out where NaN comes from.
///
/// Parameters
/// ----------
/// mode : bool or function
///     Whether to switch the mode on or off; or the function to decorate.
///
/// Examples
/// --------
/// >>> import wengert
/// >>> x = wengert.tensor([0.0, 4.0], requires_grad=True)
/// >>> y = wengert.where(x > 0, x.sqrt(), 0.0).sum()
/// >>> wengert.autograd.grad(y, x, retain_graph=True)
/// (tensor([   nan, 0.2500]),)
/// >>> with wengert.autograd.masked_gradients():
/// ...     wengert.autograd.grad(y, x)
/// (tensor([0.0000, 0.2500]),)
#[pyclass(name = "masked_gradients", module = "wengert.autograd.grad_mode", frozen)]
pub struct PyMaskedGradients {
    mode: bool,
    outer: Outer<bool>,
}

#[pymethods]
impl PyMaskedGradients {
    #[new]
    #[pyo3(signature = (mode=None))]
    #[allow(clippy::new_ret_no_self)] // as Python's `__new__` may
    fn new<'py>(py: Python<'py>, mode: Option<&Bound<'py, PyAny>>) -> PyResult<Bound<'py, PyAny>> {
        let mode = match mode {
            None => true,
            Some(m) if m.is_callable() => {
                return decorate(py.get_type::<PyMaskedGradients>().as_any(), m);
            }
            Some(m) => flag(m, "mode")?,
        };
        let block = PyMaskedGradients { mode, outer: Outer::default() };
        Ok(Bound::new(py, block)?.into_any())
    }

    /// Whether the mode is switched on or off.
    #[getter]
    fn mode(&self) -> bool {
        self.mode
    }

    fn __enter__(&self, py: Python<'_>) -> PyResult<()> {
        let before = engine::set_masked(self.mode);
        self.outer.enter(py, before, Modes::current().with_masked(before))
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
        self.outer.exit(py, |before| {
            engine::set_masked(before);
        })
    }

    /// Another block of the same mode.
    fn clone(&self) -> PyMaskedGradients {
        PyMaskedGradients { mode: self.mode, outer: Outer::default() }
    }

    /// Makes a function run in this mode.
    fn __call__<'py>(
        slf: &Bound<'py, Self>,
        func: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        decorate(&slf.getattr("clone")?, func)
    }
}

/// Switches masked gradients on or off for this thread, until told otherwise.
///
/// Parameters
/// ----------
/// mode : bool
///     See `masked_gradients`.
///
/// Examples
/// --------
/// >>> from wengert import autograd
/// >>> autograd.set_masked_gradients(True)
/// >>> autograd.is_masked_gradients_enabled()
/// True
/// >>> autograd.set_masked_gradients(False)
#[pyfunction]
fn set_masked_gradients(mode: &Bound<'_, PyAny>) -> PyResult<()> {
    engine::set_masked(flag(mode, "mode")?);
    Ok(())
}

/// Whether this thread masks gradients, see `masked_gradients`.
#[pyfunction]
fn is_masked_gradients_enabled() -> bool {
    engine::is_masked()
}

/// Adds class and functions to the module.
pub fn install(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<PyMaskedGradients>()?;
    m.add_function(wrap_pyfunction!(set_masked_gradients, m)?)?;
    m.add_function(wrap_pyfunction!(is_masked_gradients_enabled, m)?)
}
