//! Running backward passes as Python code inside them sees them, and other small services to
//! `autograd.graph`.

use crate::error::{OrRaise, from_py};
use crate::held::Held;
use crate::tensor::PyTensor;
use crate::{hooks, node};
use pyo3::exceptions::*;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use std::sync::Arc;
use wengert::graph::task;
use wengert::tensor::Waypoint;

/// The number of the innermost backward pass on this thread; -1 if there is none.
#[pyfunction]
fn _current_graph_task_id() -> i64 {
    task::current_task().map_or(-1, i64::from)
}

/// Whether all backward passes on this thread accumulate into all leaves they reach.
#[pyfunction]
fn _is_checkpoint_valid() -> bool {
    task::is_unrestricted()
}

/// A dict that lives as long as the innermost backward pass on this thread, whether it ends well or
/// not; None if there is no pass.
#[pyfunction]
fn _current_graph_task_notes(py: Python<'_>) -> Option<Py<PyAny>> {
    let notes = task::notes(|| Arc::new(Held::new(PyDict::new(py).into_any().unbind())))?;
    hooks::dict_of(&notes).map(|dict| dict.bind(py).clone().unbind())
}

/// The node whose hooks are running, if any.
#[pyfunction]
fn _current_autograd_node(py: Python<'_>) -> PyResult<Option<Bound<'_, PyAny>>> {
    task::current_node().map(|n| node::object(py, &n)).transpose()
}

/// Whether the innermost backward pass on this thread reaches a node.
#[pyfunction]
fn _will_engine_execute_node(node: &Bound<'_, PyAny>) -> PyResult<bool> {
    let Some(found) = node::node_of(node) else {
        return Err(PyTypeError::new_err(format!(
            "_will_engine_execute_node expects an grad_fn, but got {}",
            node.get_type().name()?
        )));
    };
    task::will_run(&found).ok_or_else(|| {
        PyRuntimeError::new_err(
            "_get_current_graph_task_exec_info should not be called when no graph task is running",
        )
    })
}

/// Has a function called when the innermost backward pass on this thread has ended.
#[pyfunction]
fn _queue_callback(callback: Py<PyAny>) -> PyResult<()> {
    let callback = Held::new(callback);
    let call = move || Python::attach(|py| callback.bind(py).call0().map(drop)).map_err(from_py);
    task::at_end(Box::new(call)).map_err(|_| {
        PyRuntimeError::new_err("Final callbacks can only be installed during backward pass.")
    })
}

/// The node and the number of its output along which the gradient of a tensor flows.
#[pyfunction]
fn _gradient_edge<'py>(tensor: &Bound<'py, PyTensor>) -> PyResult<Bound<'py, PyTuple>> {
    let py = tensor.py();
    let Some(edge) = tensor.get().tensor().edge().or_raise()? else {
        return Err(PyRuntimeError::new_err(
            "It is not possible to get the gradient edge for a Tensor that does not require gradients",
        ));
    };
    (node::object(py, &edge.node)?, edge.output).into_pyobject(py)
}

/// Where a tensor's gradient will be; keeps nothing alive.
#[pyclass(name = "_Waypoint", module = "wengert._core", frozen)]
struct PyWaypoint(Waypoint);

#[pymethods]
impl PyWaypoint {
    #[new]
    fn new(tensor: &Bound<'_, PyTensor>) -> PyResult<PyWaypoint> {
        Waypoint::of(&tensor.get().tensor()).or_raise().map(PyWaypoint)
    }

    /// Whether the innermost backward pass on this thread comes by.
    fn is_on_the_way(&self) -> bool {
        self.0.is_on_the_way()
    }
}

/// Counts a write to a tensor's memory that was not seen.
#[pyfunction]
fn _increment_version(tensor: &Bound<'_, PyTensor>) {
    tensor.get().tensor().storage().bump_version();
}

#[pyfunction]
fn _is_multithreading_enabled() -> bool {
    task::is_multithreading_enabled()
}

#[pyfunction]
fn _set_multithreading_enabled(enabled: bool) -> bool {
    task::set_multithreading_enabled(enabled)
}

/// Adds the functions to the module.
pub fn install(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<PyWaypoint>()?;
    m.add_function(wrap_pyfunction!(_current_graph_task_id, m)?)?;
    m.add_function(wrap_pyfunction!(_is_checkpoint_valid, m)?)?;
    m.add_function(wrap_pyfunction!(_current_graph_task_notes, m)?)?;
    m.add_function(wrap_pyfunction!(_current_autograd_node, m)?)?;
    m.add_function(wrap_pyfunction!(_will_engine_execute_node, m)?)?;
    m.add_function(wrap_pyfunction!(_queue_callback, m)?)?;
    m.add_function(wrap_pyfunction!(_gradient_edge, m)?)?;
    m.add_function(wrap_pyfunction!(_increment_version, m)?)?;
    m.add_function(wrap_pyfunction!(_is_multithreading_enabled, m)?)?;
    m.add_function(wrap_pyfunction!(_set_multithreading_enabled, m)?)
}
