//! Backward passes, gradients, graph nodes and hooks as Python sees them.

use crate::error::{OrRaise, from_py, guarded};
use crate::held::Held;
use crate::tensor::{PyTensor, wrap};
use crate::vmap;
use parking_lot::Mutex;
use pyo3::exceptions::*;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use std::ffi::CString;
use std::sync::Arc;
use wengert::graph::{self, Backward, Edge, NodeRef};
use wengert::tensor::HookHandle;
use wengert::Tensor;

/// A recorded operation.
#[pyclass(name = "Node", module = "wengert.autograd.graph", frozen, weakref)]
pub struct PyNode(NodeRef);

impl PyNode {
    /// The node that an edge leads to.
    pub fn of(edge: Edge) -> PyNode {
        PyNode(edge.node)
    }
}

#[pymethods]
impl PyNode {
    /// PyTorch's name of the operation, such as `MulBackward0`.
    fn name(&self) -> String {
        match self.0.name() {
            "AccumulateGrad" => "torch::autograd::AccumulateGrad".to_owned(),
            name => name.to_owned(),
        }
    }

    /// Where gradients go from here: pairs of a node (or None) and the number of its output.
    #[getter]
    fn next_functions<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let edges = self.0.edges().iter().map(|e| match e {
            Some(e) => (Some(PyNode(e.node.clone())), e.output),
            None => (None, 0),
        });
        PyTuple::new(py, edges.collect::<Vec<_>>())
    }

    /// The leaf of an accumulator node.
    #[getter]
    fn variable<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTensor>> {
        match self.0.op().leaf() {
            Some(leaf) => wrap(py, leaf.clone()),
            None => Err(PyAttributeError::new_err(format!(
                "'{}' object has no attribute 'variable'",
                self.0.name()
            ))),
        }
    }

    /// Shape and type of each output, as `(shape, dtype)` pairs.
    #[getter]
    fn _input_metadata<'py>(&self, py: Python<'py>) -> PyResult<Vec<PyOutputMeta>> {
        let _ = py;
        Ok(self
            .0
            .outputs()
            .iter()
            .map(|m| PyOutputMeta { shape: m.shape().to_vec(), dtype: m.dtype() })
            .collect())
    }

    fn _sequence_nr(&self) -> u64 {
        self.0.sequence()
    }

    fn __repr__(slf: &Bound<'_, Self>) -> String {
        format!("<{} object at {:#x}>", slf.get().0.name(), slf.as_ptr() as usize)
    }

    fn __eq__(&self, other: &Bound<'_, PyAny>) -> bool {
        other.cast::<PyNode>().is_ok_and(|o| o.get().0 == self.0)
    }

    fn __hash__(&self) -> usize {
        self.0.address()
    }
}

/// What a gradient that arrives at a node looks like.
#[pyclass(name = "_InputMetadata", module = "wengert.autograd.graph", frozen)]
pub struct PyOutputMeta {
    shape: Vec<usize>,
    dtype: wengert::DType,
}

#[pymethods]
impl PyOutputMeta {
    #[getter]
    fn shape<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        crate::types::size(py, &self.shape)
    }

    #[getter]
    fn dtype(&self, py: Python<'_>) -> PyResult<Py<crate::types::PyDType>> {
        crate::types::dtype_object(py, self.dtype)
    }
}

/// Removes a hook.
#[pyclass(name = "RemovableHandle", module = "wengert.utils.hooks", frozen)]
pub struct PyHookHandle(Mutex<Option<HookHandle>>);

#[pymethods]
impl PyHookHandle {
    /// Removes the hook; doing so twice is harmless.
    fn remove(&self) {
        let handle = self.0.lock().take();
        if let Some(handle) = handle {
            handle.remove();
        }
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[pyo3(signature = (*_args))]
    fn __exit__(&self, _args: &Bound<'_, PyTuple>) {
        self.remove();
    }
}

/// `Tensor.register_hook`.
pub fn register_hook(t: &Tensor, hook: Bound<'_, PyAny>) -> PyResult<PyHookHandle> {
    let (t, levels) = &wengert::batch::examples(t).unwrap_or_else(|| (t.clone(), Default::default()));
    let levels = levels.clone();
    let name = hook.getattr("__name__").map_or_else(|_| "hook".to_owned(), |n| n.to_string());
    let hook = Held::new(hook.unbind());
    let call = move |g: &Tensor| {
        Python::attach(|py| -> PyResult<Option<Tensor>> {
            let _mode = graph::GradMode::new(graph::is_grad_enabled());
            let g = wengert::batch::wrap(g, &levels).or_raise()?;
            let result = hook.bind(py).call1((wrap(py, g)?,))?;
            if result.is_none() {
                return Ok(None);
            }
            match result.cast::<PyTensor>() {
                Ok(t) => {
                    let t = t.get().tensor();
                    guarded(|| wengert::batch::spread(&t, &levels)).map(Some)
                }
                Err(_) => Err(PyTypeError::new_err(format!(
                    "hook '{name}' has returned an incorrect type, expected Tensor or None, got {}",
                    result.get_type().name()?
                ))),
            }
        })
        .map_err(from_py)
    };
    let handle = t.register_hook(Arc::new(call)).or_raise()?;
    Ok(PyHookHandle(Mutex::new(Some(handle))))
}

/// Warns that a number taken out of a tensor carries no gradient.
#[cold]
pub fn warn_detached(py: Python<'_>, what: &str) -> PyResult<()> {
    let text = CString::new(format!(
        "Converting a tensor with requires_grad=True to a {what} may lead to unexpected behavior. \
         Consider using tensor.detach() first."
    ))?;
    PyErr::warn(py, &py.get_type::<PyUserWarning>(), &text, 1)
}

/// `Tensor.grad`.
pub fn get_grad<'py>(slf: &Bound<'py, PyTensor>) -> PyResult<Option<Bound<'py, PyTensor>>> {
    let t = slf.get().tensor();
    let grad = t.grad();
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
            g.dtype().scalar_type_name(),
            t.dtype().scalar_type_name()
        )));
    }
    if g.shape() != t.shape() {
        return Err(PyRuntimeError::new_err(format!(
            "assigned grad has data of a different size: the tensor has shape {:?}, the grad {:?}",
            t.shape(),
            g.shape()
        )));
    }
    t.set_grad(Some(g));
    Ok(())
}

/// `Tensor.detach_()`.
pub fn detach_(slf: &Bound<'_, PyTensor>) -> PyResult<()> {
    let t = slf.get().tensor();
    if t.base().is_some() && t.requires_grad() {
        return Err(PyRuntimeError::new_err("Can't detach views in-place. Use detach() instead."));
    }
    t.detach_();
    Ok(())
}

/// One tensor or a sequence of them.
fn tensors(value: &Bound<'_, PyAny>, what: &str) -> PyResult<Vec<Tensor>> {
    if let Ok(t) = value.cast::<PyTensor>() {
        return Ok(vec![t.get().tensor()]);
    }
    let mut out = Vec::new();
    for item in value.try_iter()? {
        let item = item?;
        match item.cast::<PyTensor>() {
            Ok(t) => out.push(t.get().tensor()),
            Err(_) => {
                return Err(PyTypeError::new_err(format!(
                    "{what} must be Tensors, but one of them is {}",
                    item.get_type().name()?
                )));
            }
        }
    }
    Ok(out)
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
    let inputs = inputs.filter(|i| !i.is_none()).map(|i| tensors(i, "inputs")).transpose()?;
    run_backward(&[slf.get().tensor()], gradients(gradient)?, retain_graph, create_graph, inputs)
}

fn run_backward(
    roots: &[Tensor],
    gradients: Vec<Option<Tensor>>,
    retain_graph: Option<bool>,
    create_graph: bool,
    inputs: Option<Vec<Tensor>>,
) -> PyResult<()> {
    if inputs.as_ref().is_some_and(Vec::is_empty) {
        return Err(PyRuntimeError::new_err("`inputs` argument to `backward()` cannot be empty."));
    }
    vmap::check_backward()?;
    let options = Backward { retain_graph: retain_graph.unwrap_or(create_graph), create_graph };
    guarded(|| graph::backward(roots, &gradients, inputs.as_deref(), options))
}

/// Accumulates the gradients of `tensors` into the leaves they were computed from.
///
/// Parameters
/// ----------
/// tensors : Tensor or sequence of Tensor
///     What to differentiate.
/// grad_tensors : Tensor or sequence of Tensor, optional
///     The vectors of the vector-Jacobian products; 1 for tensors with one element.
/// retain_graph : bool, optional
///     Keep the graph for another pass; by default the value of `create_graph`.
/// create_graph : bool
///     Record the pass itself, for higher derivatives.
/// inputs : Tensor or sequence of Tensor, optional
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
    let roots = self::tensors(tensors, "tensors")?;
    let gradients = gradients(grad_tensors.or(grad_variables))?;
    if !gradients.is_empty() && gradients.len() != roots.len() {
        return Err(PyRuntimeError::new_err(format!(
            "got {} tensors and {} gradients",
            roots.len(),
            gradients.len()
        )));
    }
    let inputs = inputs.filter(|i| !i.is_none()).map(|i| self::tensors(i, "inputs")).transpose()?;
    run_backward(&roots, gradients, retain_graph, create_graph, inputs)
}

/// Gradients of `outputs` with respect to `inputs`, without touching any `.grad`.
///
/// Parameters
/// ----------
/// outputs, inputs : Tensor or sequence of Tensor
///     What to differentiate, with respect to what.
/// grad_outputs : Tensor or sequence of Tensor, optional
///     The vectors of the vector-Jacobian products; 1 for outputs with one element.
/// retain_graph : bool, optional
///     Keep the graph for another pass; by default the value of `create_graph`.
/// create_graph : bool
///     Record the pass itself, for higher derivatives.
/// allow_unused : bool, optional
///     Give None for inputs that the outputs do not depend on, instead of an error.
/// is_grads_batched : bool
///     Take the first axis of each of `grad_outputs` as that many vectors, and give a gradient for
///     each, stacked along a new first axis.
/// materialize_grads : bool
///     Give zeros for such inputs.
///
/// Returns
/// -------
/// tuple of Tensor
///     One gradient per input.
///
/// Examples
/// --------
/// >>> import wengert
/// >>> x = wengert.tensor(3.0, requires_grad=True)
/// >>> wengert.autograd.grad(x * x, x)
/// (tensor(6.),)
#[pyfunction]
#[pyo3(signature = (outputs, inputs, grad_outputs=None, retain_graph=None, create_graph=false, allow_unused=None, is_grads_batched=false, materialize_grads=false))]
#[allow(clippy::too_many_arguments)]
pub fn grad<'py>(
    outputs: &Bound<'py, PyAny>,
    inputs: &Bound<'py, PyAny>,
    grad_outputs: Option<&Bound<'py, PyAny>>,
    retain_graph: Option<bool>,
    create_graph: bool,
    allow_unused: Option<bool>,
    is_grads_batched: bool,
    materialize_grads: bool,
) -> PyResult<Bound<'py, PyTuple>> {
    let py = outputs.py();
    if materialize_grads && allow_unused == Some(false) {
        return Err(PyValueError::new_err(
            "Expected allow_unused to be True or not passed when materialize_grads=True, but got: \
             allow_unused=False.",
        ));
    }
    let outputs = tensors(outputs, "outputs")?;
    let inputs = tensors(inputs, "inputs")?;
    let gradients = gradients(grad_outputs)?;
    if !gradients.is_empty() && gradients.len() != outputs.len() {
        return Err(PyRuntimeError::new_err(format!(
            "got {} tensors and {} gradients",
            outputs.len(),
            gradients.len()
        )));
    }
    if inputs.is_empty() {
        return Err(PyValueError::new_err("grad requires non-empty inputs."));
    }
    let options = Backward { retain_graph: retain_graph.unwrap_or(create_graph), create_graph };
    let found = if is_grads_batched {
        vmap::batched_gradients(&outputs, &gradients, &inputs, options)?
    } else {
        guarded(|| vmap::gradients(&outputs, &gradients, &inputs, options))?
    };
    let mut result = Vec::with_capacity(found.len());
    for (i, (gradient, input)) in found.into_iter().zip(&inputs).enumerate() {
        result.push(match gradient {
            Some(g) => Some(wrap(py, g)?),
            None if materialize_grads => {
                Some(wrap(py, guarded(|| wengert::batch::zeros_like(input))?)?)
            }
            None if allow_unused == Some(true) => None,
            None => {
                return Err(PyRuntimeError::new_err(format!(
                    "One of the differentiated Tensors appears to not have been used in the graph. \
                     Set allow_unused=True if this is the desired behavior. (inputs[{i}], of shape \
                     {:?})",
                    input.shape()
                )));
            }
        });
    }
    PyTuple::new(py, result)
}

/// Whether operations on this thread are recorded.
#[pyfunction]
pub fn is_grad_enabled() -> bool {
    graph::mode::grad_flag()
}

/// Switches recording on this thread; returns what it was.
#[pyfunction]
pub fn _set_grad_enabled(enabled: &Bound<'_, PyAny>) -> PyResult<bool> {
    Ok(graph::set_grad_enabled(crate::args::flag(enabled, "mode")?))
}
