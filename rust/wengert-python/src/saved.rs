//! Hooks for saved tensors as Python sees them, and the watcher of writes.

use crate::error::{OrRaise, caught, from_py};
use crate::held::Held;
use crate::tensor::{PyTensor, wrap};
use pyo3::exceptions::*;
use pyo3::prelude::*;
use std::any::Any;
use std::sync::Arc;
use wengert::Tensor;
use wengert::graph::saved::{self, Kept, Packed, SavedTensorHooks};
use wengert::graph::{NodeRef, watch};

/// A pair of Python functions.
struct PyHooks {
    pack: Held,
    unpack: Arc<Held>,
}

impl PyHooks {
    fn new(pack: Py<PyAny>, unpack: Py<PyAny>) -> PyHooks {
        PyHooks { pack: Held::new(pack), unpack: Arc::new(Held::new(unpack)) }
    }
}

impl SavedTensorHooks for PyHooks {
    fn pack(&self, tensor: &Tensor) -> wengert::Result<Arc<dyn Packed>> {
        Python::attach(|py| -> PyResult<Arc<dyn Packed>> {
            let object = self.pack.bind(py).call1((wrap(py, tensor.clone())?,))?;
            Ok(Arc::new(PyPacked {
                object: Held::new(object.unbind()),
                unpack: self.unpack.clone(),
            }))
        })
        .map_err(from_py)
    }
}

/// What a pack hook returned, and the hook that takes it.
struct PyPacked {
    object: Held,
    unpack: Arc<Held>,
}

impl Packed for PyPacked {
    fn unpack(&self) -> wengert::Result<Tensor> {
        Python::attach(|py| {
            let result = self.unpack.bind(py).call1((self.object.bind(py),))?;
            match result.cast::<PyTensor>() {
                Ok(tensor) => Ok(tensor.get().tensor()),
                Err(_) => Err(PyTypeError::new_err(format!(
                    "Output of saved tensor unpack_hook expected to be a Tensor but got result of \
                     type {}",
                    result.get_type().name()?
                ))),
            }
        })
        .map_err(from_py)
    }

    fn host(&self) -> Option<&(dyn Any + Send + Sync)> {
        Some(&self.object)
    }
}

/// What one of our hooks has packed.
fn own(packed: &dyn Packed) -> Option<&PyPacked> {
    let any: &dyn Any = packed;
    any.downcast_ref()
}

/// Makes a pair of hooks the innermost of this thread.
#[pyfunction]
pub fn _push_saved_tensors_default_hooks(
    py: Python<'_>,
    pack: Py<PyAny>,
    unpack: Py<PyAny>,
) -> PyResult<()> {
    for (name, hook) in [("pack_hook", pack.bind(py)), ("unpack_hook", unpack.bind(py))] {
        if !hook.is_callable() {
            let kind = hook.get_type().name()?;
            let text = format!("saved_tensors_hooks: {name} has to be callable, got {kind}");
            return Err(PyTypeError::new_err(text));
        }
    }
    saved::push_saved_tensor_hooks(Arc::new(PyHooks::new(pack, unpack))).or_raise()
}

/// Takes the innermost pair of hooks away.
#[pyfunction]
pub fn _pop_saved_tensors_default_hooks() -> PyResult<()> {
    match saved::pop_saved_tensor_hooks() {
        true => Ok(()),
        false => Err(PyRuntimeError::new_err("left saved_tensors_hooks that were not entered")),
    }
}

/// Forbids hooks on this thread with a message, or allows them with None; returns what was.
#[pyfunction]
pub fn _disable_saved_tensors_hooks(message: Option<String>) -> PyResult<Option<String>> {
    let before = saved::saved_tensor_hooks_disabled();
    saved::disable_saved_tensor_hooks(message).or_raise()?;
    Ok(before)
}

/// Whether hooks for saved tensors may be used on this thread.
#[pyfunction]
pub fn _saved_tensors_hooks_is_enabled() -> bool {
    wengert::graph::saved::saved_tensor_hooks_disabled().is_none()
}

/// Has a function see every tensor that this thread is about to write to; None for no function.
#[pyfunction]
pub fn _watch_writes(function: Option<Py<PyAny>>) {
    let watcher = function.map(|function| -> watch::WriteWatcher {
        let function = Held::new(function);
        Arc::new(move |tensor| {
            Python::attach(|py| -> PyResult<()> {
                function.bind(py).call1((wrap(py, tensor.clone())?,))?;
                Ok(())
            })
            .map_err(from_py)
        })
    });
    let before = watch::set_write_watcher(watcher);
    drop(before);
}

/// A number that tensors have in common while they share memory.
#[pyfunction]
pub fn _storage_id(tensor: &Bound<'_, PyTensor>) -> usize {
    tensor.get().tensor().storage().data() as usize
}

/// A tensor in its place in the graph.
#[pyclass(name = "SavedTensor", module = "wengert.autograd.graph", frozen)]
pub struct PySavedTensor {
    node: NodeRef,
    index: usize,
}

impl PySavedTensor {
    /// The saved tensor of a node in this place.
    pub fn new(node: &NodeRef, index: usize) -> PySavedTensor {
        PySavedTensor { node: node.clone(), index }
    }
}

#[pymethods]
impl PySavedTensor {
    #[new]
    fn py_new() -> PyResult<Self> {
        Err(PyRuntimeError::new_err(
            "Trying to create a SavedTensor object from Python is forbidden.",
        ))
    }

    /// Has two functions store the tensor from now on: what `pack_hook(tensor)` returns is kept in
    /// its place, and `unpack_hook` of that gives the tensor back.
    fn register_hooks(&self, pack_hook: Py<PyAny>, unpack_hook: Py<PyAny>) -> PyResult<()> {
        let hooks = PyHooks::new(pack_hook, unpack_hook);
        caught(|| self.node.pack_saved(self.index, &hooks).or_raise())
    }

    /// What is kept: the tensor itself, or what the pack hook returned.
    #[getter]
    fn data<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        Ok(match self.node.kept(self.index).or_raise()? {
            Kept::Tensor(tensor) => Some(wrap(py, tensor)?.into_any()),
            Kept::Packed(packed) => own(&*packed).map(|p| p.object.bind(py).clone()),
            Kept::None => None,
        })
    }

    /// The function that unpacks what is kept, if there are hooks.
    #[getter]
    fn unpack_hook<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        Ok(match self.node.kept(self.index).or_raise()? {
            Kept::Packed(packed) => own(&*packed).map(|p| p.unpack.bind(py).clone()),
            Kept::Tensor(_) | Kept::None => None,
        })
    }

    /// The tensor, unpacked.
    fn unpack<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyTensor>>> {
        let tensor = caught(|| self.node.saved_tensor(self.index).or_raise())?;
        tensor.map(|t| wrap(py, t)).transpose()
    }
}

/// Adds the class and the functions to the module.
pub fn install(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<PySavedTensor>()?;
    m.add_function(wrap_pyfunction!(_saved_tensors_hooks_is_enabled, m)?)?;
    m.add_function(wrap_pyfunction!(_push_saved_tensors_default_hooks, m)?)?;
    m.add_function(wrap_pyfunction!(_pop_saved_tensors_default_hooks, m)?)?;
    m.add_function(wrap_pyfunction!(_disable_saved_tensors_hooks, m)?)?;
    m.add_function(wrap_pyfunction!(_storage_id, m)?)?;
    m.add_function(wrap_pyfunction!(_watch_writes, m)?)
}
