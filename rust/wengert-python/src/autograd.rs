//! Backward passes, gradients, graph nodes and hooks as Python sees them.

use crate::deep;
use crate::error::guarded;
use crate::node::node_of;
use crate::teach;
use crate::tensor::{PyTensor, wrap};
use crate::vmap;
use pyo3::exceptions::*;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyDictMethods, PyTuple, PyType};
use std::ffi::{CStr, CString};
use wengert::graph::{self, Backward, Edge, Point};
use wengert::{Tensor, batch};

/// `Tensor.grad`.
pub fn get_grad<'py>(slf: &Bound<'py, PyTensor>) -> PyResult<Option<Bound<'py, PyTensor>>> {
    let t = slf.get().tensor();
    let grad = t.grad();
    if grad.is_none() && t.requires_grad() && t.is_leaf() {
        teach::missing_grad(slf.py(), &t)?;
    }
    if grad.is_none() && t.requires_grad() && !t.is_leaf() && !t.retains_grad() {
        let text = CString::new(
            "The .grad attribute of a Tensor that is not a leaf Tensor is being accessed. Its .grad \
             attribute won't be populated during autograd.backward(). If you indeed want the .grad \
             field to be populated for a non-leaf Tensor, use .retain_grad() on the non-leaf Tensor.",
        )?;
        PyErr::warn(slf.py(), &slf.py().get_type::<PyUserWarning>(), &text, 1)?;
    }
    grad.map(|g| wrap(slf.py(), g)).transpose()
}

/// `Tensor.grad = value`.
pub fn set_grad(slf: &Bound<'_, PyTensor>, value: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
    let t = slf.get().tensor();
    let Some(value) = value.filter(|v| !v.is_none()) else {
        t.set_grad(None);
        return Ok(());
    };
    let Ok(grad) = value.cast::<PyTensor>() else {
        return Err(PyTypeError::new_err(format!(
            "assigned grad expected to be a Tensor or None but got grad of type {}",
            value.get_type().name()?
        )));
    };
    let g = grad.get().tensor();
    if g.same(&t) {
        return Err(PyRuntimeError::new_err("can't assign Variable as its own grad"));
    }
    if g.dtype() != t.dtype() {
        return Err(PyRuntimeError::new_err(format!(
            "attempting to assign a gradient with dtype '{}' to a tensor with grad_dtype '{}'. The \
             gradient must match the tensor's dtype.",
            cpp_name(g.dtype()),
            t.dtype().scalar_type_name()
        )));
    }
    if g.shape() != t.shape() {
        return Err(PyRuntimeError::new_err(format!(
            "attempting to assign a gradient of size '{:?}' to a tensor of size '{:?}'. Please ensure \
             that the gradient and the tensor are the same size",
            g.shape(),
            t.shape()
        )));
    }
    t.set_grad(Some(g));
    Ok(())
}

/// What C++ calls the type, which PyTorch's message does, too.
fn cpp_name(dtype: wengert::DType) -> String {
    match dtype {
        wengert::DType::Float32 => "float".to_owned(),
        wengert::DType::Float64 => "double".to_owned(),
        other => other.scalar_type_name().to_owned(),
    }
}

/// `Tensor.detach_()`.
pub fn detach_(slf: &Bound<'_, PyTensor>) -> PyResult<()> {
    let t = slf.get().tensor();
    if t.view_kind().is_some() {
        return Err(PyRuntimeError::new_err("Can't detach views in-place. Use detach() instead."));
    }
    t.detach_();
    Ok(())
}

/// One tensor or gradient edge, or a sequence of them.
fn points(value: &Bound<'_, PyAny>, what: &str) -> PyResult<Vec<Point>> {
    if let Some(point) = point(value)? {
        return Ok(vec![point]);
    }
    let mut out = Vec::new();
    for item in value.try_iter()? {
        let item = item?;
        match point(&item)? {
            Some(point) => out.push(point),
            None => {
                return Err(PyTypeError::new_err(format!(
                    "all {what} have to be Tensors or GradientEdges, but got {}",
                    item.get_type().name()?
                )));
            }
        }
    }
    Ok(out)
}

/// [`points`], which may have names: then they are the values of a dict.
fn named_points(value: &Bound<'_, PyAny>, what: &str) -> PyResult<Vec<Point>> {
    match value.cast_exact::<PyDict>() {
        Ok(named) => points(&named.values(), what),
        Err(_) => points(value, what),
    }
}

fn deprecated(py: Python<'_>, text: &CStr) -> PyResult<()> {
    PyErr::warn(py, &py.get_type::<PyFutureWarning>(), text, 1)
}

fn point(value: &Bound<'_, PyAny>) -> PyResult<Option<Point>> {
    static EDGE: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    if let Ok(t) = value.cast::<PyTensor>() {
        return Ok(Some(Point::Tensor(t.get().tensor())));
    }
    let Ok(tuple) = value.cast::<PyTuple>() else { return Ok(None) };
    let class = EDGE.import(value.py(), "wengert.autograd.graph", "GradientEdge")?;
    if !tuple.is_instance(class)? || tuple.len() < 2 {
        return Ok(None);
    }
    let (node, output) = (tuple.get_item(0)?, tuple.get_item(1)?.extract()?);
    match node_of(&node) {
        Some(node) => Ok(Some(Point::Edge(Edge { node, output }))),
        None => Err(PyTypeError::new_err(format!(
            "the node of a GradientEdge has to be a Node, but got {}",
            node.get_type().name()?
        ))),
    }
}

/// Tensors or Nones, or nothing at all.
fn gradients(value: Option<&Bound<'_, PyAny>>) -> PyResult<Vec<Option<Tensor>>> {
    let Some(value) = value.filter(|v| !v.is_none()) else { return Ok(Vec::new()) };
    let one = |v: &Bound<'_, PyAny>| -> PyResult<Option<Tensor>> {
        if v.is_none() {
            return Ok(None);
        }
        match v.cast::<PyTensor>() {
            Ok(t) => Ok(Some(t.get().tensor())),
            Err(_) => Err(PyTypeError::new_err(format!(
                "gradients can be either Tensors or None, but got {}",
                v.get_type().name()?
            ))),
        }
    };
    if value.cast::<PyTensor>().is_ok() {
        return Ok(vec![one(value)?]);
    }
    if value.try_iter().is_err() {
        return one(value).map(|g| vec![g]);
    }
    value.try_iter()?.map(|v| one(&v?)).collect()
}

/// `Tensor.backward`.
pub fn backward_of(
    slf: &Bound<'_, PyTensor>,
    gradient: Option<&Bound<'_, PyAny>>,
    retain_graph: Option<bool>,
    create_graph: bool,
    inputs: Option<&Bound<'_, PyAny>>,
) -> PyResult<()> {
    let inputs = inputs.filter(|i| !i.is_none()).map(|i| named_points(i, "inputs")).transpose()?;
    let root = Point::Tensor(slf.get().tensor());
    run_backward(slf.py(), &[root], gradients(gradient)?, retain_graph, create_graph, inputs)
}

fn run_backward(
    py: Python<'_>,
    roots: &[Point],
    gradients: Vec<Option<Tensor>>,
    retain_graph: Option<bool>,
    create_graph: bool,
    inputs: Option<Vec<Point>>,
) -> PyResult<()> {
    if inputs.as_ref().is_some_and(Vec::is_empty) {
        return Err(PyRuntimeError::new_err("`inputs` argument to `backward()` cannot be empty."));
    }
    vmap::check_backward()?;
    let options = Backward { retain_graph: retain_graph.unwrap_or(create_graph), create_graph };
    deep::pass(py, || graph::backward_at(roots, &gradients, inputs.as_deref(), options))
}

/// Accumulates the gradients of `tensors` into the leaves they were computed from.
///
/// Parameters
/// ----------
/// tensors : Tensor or GradientEdge, or a sequence of them
///     What to differentiate.
/// grad_tensors : Tensor or sequence of Tensor, optional
///     The vectors of the vector-Jacobian products; 1 for tensors with one element.
/// retain_graph : bool, optional
///     Keep the graph for another pass; by default the value of `create_graph`.
/// create_graph : bool
///     Record the pass itself, for higher derivatives.
/// inputs : Tensor or GradientEdge, or a sequence of them, optional
///     Accumulate into these only.
///
/// Examples
/// --------
/// >>> import wengert
/// >>> x = wengert.tensor(3.0, requires_grad=True)
/// >>> wengert.autograd.backward(x * x)
/// >>> x.grad
/// tensor(6.)
#[pyfunction]
#[pyo3(signature = (tensors, grad_tensors=None, retain_graph=None, create_graph=false, grad_variables=None, inputs=None))]
pub fn backward(
    tensors: &Bound<'_, PyAny>,
    grad_tensors: Option<&Bound<'_, PyAny>>,
    retain_graph: Option<bool>,
    create_graph: bool,
    grad_variables: Option<&Bound<'_, PyAny>>,
    inputs: Option<&Bound<'_, PyAny>>,
) -> PyResult<()> {
    let py = tensors.py();
    let roots = points(tensors, "tensors")?;
    let given = |g: Option<&Bound<'_, PyAny>>| g.is_some_and(|g| !g.is_none());
    if given(grad_tensors) && given(grad_variables) {
        return Err(PyRuntimeError::new_err(
            "`grad_tensors` and `grad_variables` (deprecated) arguments both passed to `backward()`. \
             Please only use `grad_tensors`.",
        ));
    }
    if given(grad_variables) {
        deprecated(py, c"`grad_variables` is deprecated. Use `grad_tensors` instead.")?;
    }
    let gradients = gradients(grad_tensors.or(grad_variables))?;
    if !gradients.is_empty() && gradients.len() != roots.len() {
        return Err(PyRuntimeError::new_err(format!(
            "got {} tensors and {} gradients",
            roots.len(),
            gradients.len()
        )));
    }
    let inputs = inputs.filter(|i| !i.is_none()).map(|i| named_points(i, "inputs")).transpose()?;
    run_backward(py, &roots, gradients, retain_graph, create_graph, inputs)
}

/// Gradients of `outputs` with respect to `inputs`, without touching any `.grad`.
///
/// Parameters
/// ----------
/// outputs : Tensor or GradientEdge, or a sequence of them
///     What to differentiate.
/// inputs : Tensor or GradientEdge, or a sequence or dict of them
///     With respect to what.
/// grad_outputs : Tensor or sequence of Tensor, optional
///     The vectors of the vector-Jacobian products; 1 for outputs with one element.
/// retain_graph : bool, optional
///     Keep the graph for another pass; by default the value of `create_graph`.
/// create_graph : bool
///     Record the pass itself, for higher derivatives.
/// only_inputs : bool
///     Ignored, and deprecated.
/// allow_unused : bool, optional
///     Give None for inputs that the outputs do not depend on, instead of an error.
/// is_grads_batched : bool
///     Take the first axis of each of `grad_outputs` as that many vectors, and give a gradient for
///     each, stacked along a new first axis. The graph is walked once: hooks and the `backward` of
///     functions see one vector that stands for all, as inside `vmap`.
/// materialize_grads : bool
///     Give zeros for such inputs.
///
/// Returns
/// -------
/// tuple of Tensor, or dict of Tensor
///     One gradient per input, by its name if those have names.
///
/// Examples
/// --------
/// >>> import wengert
/// >>> x = wengert.tensor(3.0, requires_grad=True)
/// >>> wengert.autograd.grad(x * x, x)
/// (tensor(6.),)
#[pyfunction]
#[pyo3(signature = (outputs, inputs, grad_outputs=None, retain_graph=None, create_graph=false, only_inputs=true, allow_unused=None, is_grads_batched=false, materialize_grads=false))]
#[allow(clippy::too_many_arguments)]
pub fn grad<'py>(
    outputs: &Bound<'py, PyAny>,
    inputs: &Bound<'py, PyAny>,
    grad_outputs: Option<&Bound<'py, PyAny>>,
    retain_graph: Option<bool>,
    create_graph: bool,
    only_inputs: bool,
    allow_unused: Option<bool>,
    is_grads_batched: bool,
    materialize_grads: bool,
) -> PyResult<Bound<'py, PyAny>> {
    let py = outputs.py();
    if !only_inputs {
        deprecated(
            py,
            c"only_inputs argument is deprecated and is ignored now (defaults to True). To accumulate \
              gradient for other parts of the graph, please use torch.autograd.backward.",
        )?;
    }
    if materialize_grads && allow_unused == Some(false) {
        return Err(PyValueError::new_err(
            "Expected allow_unused to be True or not passed when materialize_grads=True, but got: \
             allow_unused=False.",
        ));
    }
    let outputs = points(outputs, "outputs")?;
    let names = inputs.cast_exact::<PyDict>().ok().map(PyDictMethods::keys);
    let inputs = named_points(inputs, "inputs")?;
    let gradients = gradients(grad_outputs)?;
    if !gradients.is_empty() && gradients.len() != outputs.len() {
        return Err(PyRuntimeError::new_err(format!(
            "got {} tensors and {} gradients",
            outputs.len(),
            gradients.len()
        )));
    }
    if inputs.is_empty() {
        return Err(PyRuntimeError::new_err("`inputs` argument to `grad()` cannot be empty."));
    }
    let options = Backward { retain_graph: retain_graph.unwrap_or(create_graph), create_graph };
    let found = if is_grads_batched {
        deep::pass(py, || vmap::batched_gradients(&outputs, &gradients, &inputs, options))?
    } else {
        deep::pass(py, || vmap::gradients(&outputs, &gradients, &inputs, options))?
    };
    let mut result = Vec::with_capacity(found.len());
    for (i, (gradient, input)) in found.into_iter().zip(&inputs).enumerate() {
        result.push(match (gradient, input) {
            (Some(g), _) => Some(wrap(py, g)?),
            (None, Point::Tensor(input)) if materialize_grads => {
                let zeros = guarded(|| batch::zeros_like(input))?;
                guarded(|| zeros.set_requires_grad(create_graph))?;
                Some(wrap(py, zeros)?)
            }
            (None, Point::Edge(_)) if materialize_grads => {
                return Err(PyRuntimeError::new_err(
                    "materialize_grads cannot be used when the given input is a GradientEdge",
                ));
            }
            (None, _) if allow_unused == Some(true) => None,
            (None, input) => {
                let which = match input {
                    Point::Tensor(t) => format!("inputs[{i}], of shape {:?}", t.shape()),
                    Point::Edge(e) => format!("inputs[{i}], an edge to {}", e.node.name()),
                };
                return Err(PyRuntimeError::new_err(format!(
                    "The differentiated Tensor at index {i} appears to not have been used in the \
                     graph. Set allow_unused=True if this is the desired behavior. ({which})"
                )));
            }
        });
    }
    match names {
        None => Ok(PyTuple::new(py, result)?.into_any()),
        Some(names) => {
            let named = PyDict::new(py);
            for (name, gradient) in names.iter().zip(result) {
                named.set_item(name, gradient)?;
            }
            Ok(named.into_any())
        }
    }
}

/// Whether operations on this thread are recorded.
#[pyfunction]
pub fn is_grad_enabled() -> bool {
    graph::inference::is_grad_asked_for()
}

/// Switches recording on this thread; returns what it was.
#[pyfunction]
pub fn _set_grad_enabled(enabled: &Bound<'_, PyAny>) -> PyResult<bool> {
    Ok(graph::set_grad_enabled(crate::args::flag(enabled, "mode")?))
}
