//! Generators of random numbers as Python objects.

use crate::error::OrRaise;
use crate::tensor::{PyTensor, wrap};
use crate::types::check_device;
use parking_lot::Mutex;
use pyo3::exceptions::*;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyInt};
use std::sync::Arc;
use wengert::ops::args::SharedGenerator;
use wengert::random::{self, Generator};
use wengert::{DType, Tensor};

/// A source of random numbers with a state of its own.
///
/// Examples
/// --------
/// >>> import wengert
/// >>> g = wengert.Generator().manual_seed(7)
/// >>> bool(wengert.rand(3, generator=g).equal(wengert.rand(3, generator=g.manual_seed(7))))
/// True
#[pyclass(name = "Generator", module = "wengert", frozen)]
pub struct PyGenerator(pub SharedGenerator);

fn seed_argument(seed: &Bound<'_, PyAny>) -> PyResult<u64> {
    if !seed.is_instance_of::<PyInt>() || seed.is_instance_of::<PyBool>() {
        return Err(PyRuntimeError::new_err(format!(
            "manual_seed expected a long, but got {}",
            seed.get_type().name()?
        )));
    }
    let wide: i128 =
        seed.extract().map_err(|_| PyValueError::new_err("Overflow when unpacking long long"))?;
    random::seed_from_integer(wide).or_raise()
}

fn state_tensor(py: Python<'_>, state: Vec<u8>) -> PyResult<Bound<'_, PyTensor>> {
    wrap(py, Tensor::from_slice(&state, &[state.len()]).or_raise()?)
}

fn state_bytes(state: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    let Ok(t) = state.cast::<PyTensor>() else {
        return Err(PyTypeError::new_err(format!(
            "expected a torch.ByteTensor, but got {}",
            state.get_type().name()?
        )));
    };
    let t = t.get().tensor();
    if t.dtype() != DType::UInt8 {
        return Err(PyTypeError::new_err("RNG state must be a torch.ByteTensor"));
    }
    t.to_vec().or_raise()
}

#[pymethods]
impl PyGenerator {
    #[new]
    #[pyo3(signature = (device=None))]
    fn new(device: Option<&Bound<'_, PyAny>>) -> PyResult<PyGenerator> {
        if let Some(device) = device {
            check_device(device)?;
        }
        Ok(PyGenerator(Arc::new(Mutex::new(Generator::default()))))
    }

    /// Starts the stream that belongs to a seed.
    fn manual_seed<'py>(
        slf: &Bound<'py, Self>,
        seed: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, Self>> {
        let seed = seed_argument(seed)?;
        slf.get().0.lock().manual_seed(seed);
        Ok(slf.clone())
    }

    /// Seeds from the operating system and returns the seed.
    fn seed(&self) -> u64 {
        self.0.lock().seed()
    }

    /// The seed of the current stream.
    fn initial_seed(&self) -> u64 {
        self.0.lock().initial_seed()
    }

    /// The state as a uint8 tensor, in PyTorch's format.
    fn get_state<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTensor>> {
        let state = self.0.lock().get_state();
        state_tensor(py, state)
    }

    /// Continues from a state.
    fn set_state<'py>(
        slf: &Bound<'py, Self>,
        new_state: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, Self>> {
        let bytes = state_bytes(new_state)?;
        slf.get().0.lock().set_state(&bytes).or_raise()?;
        Ok(slf.clone())
    }

    #[getter]
    fn device(&self) -> crate::types::PyDevice {
        crate::types::PyDevice
    }
}

/// The generator of calls that name none, which the functions below are about.
pub fn default_generator() -> PyGenerator {
    PyGenerator(random::default_generator().clone())
}

/// Seeds the default generator and returns it.
#[pyfunction]
pub fn manual_seed(seed: &Bound<'_, PyAny>) -> PyResult<PyGenerator> {
    let seed = seed.py().get_type::<PyInt>().call1((seed,))?;
    let seed = seed_argument(&seed)?;
    random::with_default(|g| g.manual_seed(seed));
    Ok(default_generator())
}

/// Seeds the default generator from the operating system and returns the seed.
#[pyfunction]
pub fn seed() -> u64 {
    random::with_default(|g| g.seed())
}

/// The seed of the default generator's stream.
#[pyfunction]
pub fn initial_seed() -> u64 {
    random::with_default(|g| g.initial_seed())
}

/// The default generator's state as a uint8 tensor, in PyTorch's format.
#[pyfunction]
pub fn get_rng_state(py: Python<'_>) -> PyResult<Bound<'_, PyTensor>> {
    state_tensor(py, random::with_default(|g| g.get_state()))
}

/// Lets the default generator continue from a state.
#[pyfunction]
pub fn set_rng_state(new_state: &Bound<'_, PyAny>) -> PyResult<()> {
    let bytes = state_bytes(new_state)?;
    random::with_default(|g| g.set_state(&bytes)).or_raise()
}
