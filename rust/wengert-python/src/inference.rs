//! Inference mode: the block, and what may be asked about it.
//!
//! The mode and the mark on memory are the engine's, see `wengert::graph::inference`.

use crate::args::flag;
use crate::block::Outer;
use crate::grad_mode::decorate;
use crate::tensor::PyTensor;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use wengert::Tensor;
use wengert::graph::inference::{self as mode, Modes};

/// Compute without any trace for autograd.
///
/// Nothing is recorded, as in `no_grad`. In addition, tensors made inside are *inference tensors*
/// for good: they have no version, cannot be saved for backward, and can be written to only in this
/// mode. A clone made outside is an ordinary tensor. Views of ordinary tensors stay ordinary.
///
/// The mode belongs to the current thread. As a decorator it works on functions, generators and
/// coroutines.
///
/// Parameters
/// ----------
/// mode : bool or function
///     Whether to switch the mode on or off; or the function to decorate.
///
/// Examples
/// --------
/// >>> import wengert
/// >>> x = wengert.ones(2, requires_grad=True)
/// >>> with wengert.inference_mode():
/// ...     y = x * 2
/// >>> y.requires_grad, y.is_inference()
/// (False, True)
/// >>> y.clone().is_inference()
/// False
/// >>> @wengert.inference_mode()
/// ... def double(x):
/// ...     return x * 2
/// >>> double(x).is_inference()
/// True
#[pyclass(name = "inference_mode", module = "wengert.autograd.grad_mode", frozen)]
pub struct PyInferenceMode {
    mode: bool,
    outer: Outer<Modes>,
}

#[pymethods]
impl PyInferenceMode {
    #[new]
    #[pyo3(signature = (mode=None))]
    #[allow(clippy::new_ret_no_self)] // as Python's `__new__` may
    fn new<'py>(py: Python<'py>, mode: Option<&Bound<'py, PyAny>>) -> PyResult<Bound<'py, PyAny>> {
        let mode = match mode {
            None => true,
            Some(m) if m.is_callable() => {
                return decorate(py.get_type::<PyInferenceMode>().as_any(), m);
            }
            Some(m) => flag(m, "mode")?,
        };
        let block = PyInferenceMode { mode, outer: Outer::default() };
        Ok(Bound::new(py, block)?.into_any())
    }

    /// Whether the mode is switched on or off.
    #[getter]
    fn mode(&self) -> bool {
        self.mode
    }

    fn __enter__(&self, py: Python<'_>) -> PyResult<()> {
        let before = mode::set_inference_mode(self.mode);
        self.outer.enter(py, before, before)
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
        self.outer.exit(py, Modes::restore)
    }

    /// Another block of the same mode.
    fn clone(&self) -> PyInferenceMode {
        PyInferenceMode { mode: self.mode, outer: Outer::default() }
    }

    /// Makes a function run in this mode.
    fn __call__<'py>(
        slf: &Bound<'py, Self>,
        func: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        decorate(&slf.getattr("clone")?, func)
    }
}

/// Whether this thread is in inference mode.
#[pyfunction]
fn is_inference_mode_enabled() -> bool {
    mode::is_inference_mode()
}

/// Whether a tensor was made in inference mode.
///
/// Parameters
/// ----------
/// input : Tensor
///     The tensor.
///
/// Examples
/// --------
/// >>> import wengert
/// >>> wengert.is_inference(wengert.ones(2))
/// False
#[pyfunction]
fn is_inference(input: &Bound<'_, PyTensor>) -> bool {
    input.get().tensor().is_inference()
}

/// `Tensor._version`.
pub fn version(t: &Tensor) -> PyResult<u32> {
    if t.is_inference() {
        return Err(PyRuntimeError::new_err("Inference tensors do not track version counter."));
    }
    Ok(t.storage().version())
}

/// Adds class and functions to the module.
pub fn install(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<PyInferenceMode>()?;
    m.add_function(wrap_pyfunction!(is_inference_mode_enabled, m)?)?;
    m.add_function(wrap_pyfunction!(is_inference, m)?)
}
