//! Nodes of the graph as Python objects.
//!
//! * **Identity.** A node has at most one Python object at a time, which it knows by address and does
//!   not own, as a tensor does; so `y.grad_fn is y.grad_fn`. Only nodes that were looked at pay.
//! * **Types.** As in PyTorch, each kind of node has a type of its own: `MulBackward0` is a subclass
//!   of `Node`, made when the first such node is looked at. Instances are made here alone: `__new__`
//!   takes the node that this module has laid ready, and refuses if there is none.
//! * **Attributes** `_saved_*` are what the rule says it keeps ([`Op::attributes`]), found by name when
//!   asked for.
//! * **Metadata** is a dict that belongs to the node and outlives the object.
#![allow(unsafe_code)]

use crate::error::{OrRaise, guarded};
use crate::function::{PyFunctionCtx, context_of};
use crate::held::Held;
use crate::saved::PySavedTensor;
use crate::tensor::{PyTensor, scalar_object, wrap};
use crate::{garbage, hooks};
use pyo3::exceptions::*;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyList, PyString, PyTuple, PyType};
use pyo3::{PyTraverseError, PyVisit};
use std::cell::Cell;
use std::sync::Arc;
use wengert::Tensor;
use wengert::graph::{Attribute, Edge, NodeRef};
use wengert::ops::Value;

/// A recorded operation.
///
/// Each kind of operation has a subclass, such as `MulBackward0`. Nodes are made by recording and
/// reached through `Tensor.grad_fn` and `next_functions`.
///
/// Examples
/// --------
/// >>> import wengert
/// >>> x = wengert.tensor([1.0, 2.0], requires_grad=True)
/// >>> y = x.tanh()
/// >>> y.grad_fn.name()
/// 'TanhBackward0'
/// >>> isinstance(y.grad_fn, wengert.autograd.graph.Node)
/// True
/// >>> y.grad_fn._saved_result
/// tensor([0.7616, 0.9640], grad_fn=<TanhBackward0>)
#[pyclass(name = "Node", module = "wengert.autograd.graph", frozen, subclass, weakref)]
pub struct PyNode(NodeRef);

impl Drop for PyNode {
    fn drop(&mut self) {
        // The object is going away; the node may live on and get another one.
        self.0.set_object(0);
    }
}

thread_local! {
    /// The node for which an object is being made.
    static READY: Cell<Option<NodeRef>> = const { Cell::new(None) };
}

/// The object of a node: the one it has, or a new one.
pub fn object<'py>(py: Python<'py>, node: &NodeRef) -> PyResult<Bound<'py, PyAny>> {
    if let Some(context) = context_of(py, node) {
        return Ok(context.into_any());
    }
    let known = std::ptr::with_exposed_provenance_mut::<ffi::PyObject>(node.object());
    if !known.is_null() {
        // SAFETY: an object clears the address when it is destroyed, under the interpreter lock that
        // we hold. While it is being destroyed its count is zero already.
        unsafe {
            if ffi::Py_REFCNT(known) > 0 {
                return Ok(Bound::from_borrowed_ptr(py, known));
            }
        }
    }
    let class = class(py, node.name())?;
    READY.set(Some(node.clone()));
    let object = class.call0();
    READY.take();
    let object = object?;
    node.set_object(object.as_ptr().expose_provenance());
    Ok(object)
}

/// The type of the nodes of that name.
fn class<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    static CLASSES: PyOnceLock<Py<PyDict>> = PyOnceLock::new();
    let classes = CLASSES.get_or_init(py, || PyDict::new(py).unbind()).bind(py);
    if let Some(class) = classes.get_item(name)? {
        return Ok(class);
    }
    let members = PyDict::new(py);
    members.set_item("__module__", "wengert.autograd.graph")?;
    members.set_item("__slots__", PyTuple::empty(py))?;
    let bases = (py.get_type::<PyNode>(),);
    let class = py.get_type::<PyType>().call1((name, bases, members))?;
    classes.set_item(name, &class)?;
    Ok(class)
}

/// The dict that belongs to a node.
pub fn notes<'py>(py: Python<'py>, node: &NodeRef) -> PyResult<Bound<'py, PyDict>> {
    let notes = node.notes(|| Arc::new(Held::new(PyDict::new(py).into_any().unbind())));
    match hooks::dict_of(&notes) {
        Some(dict) => Ok(dict.bind(py).cast::<PyDict>()?.clone()),
        None => Err(PyRuntimeError::new_err("another program keeps notes with this node")),
    }
}

/// The node of an object.
pub fn node_of(object: &Bound<'_, PyAny>) -> Option<NodeRef> {
    match object.cast::<PyNode>() {
        Ok(node) => Some(node.get().0.clone()),
        Err(_) => object.cast::<PyFunctionCtx>().ok()?.get().node(),
    }
}

/// Where gradients go from a node.
pub fn next_functions<'py>(py: Python<'py>, node: &NodeRef) -> PyResult<Bound<'py, PyTuple>> {
    let mut pairs = Vec::with_capacity(node.edges().len());
    for edge in shown_edges(node) {
        pairs.push(match edge {
            Some(e) => (Some(object(py, &e.node)?), e.output),
            None => (None, 0),
        });
    }
    PyTuple::new(py, pairs)
}

/// The edges that PyTorch's node has. Its `CopySlices` contains the operation that wrote to the view,
/// where ours has it as an input: that operation's own inputs take its place.
fn shown_edges(node: &NodeRef) -> Vec<Option<Edge>> {
    let edges = |node: &NodeRef| -> Vec<Option<Edge>> {
        let all = node.edges().iter().zip(node.shown());
        all.filter(|(_, shown)| *shown).map(|(edge, _)| edge.clone()).collect()
    };
    let mut list = edges(node);
    if node.name() == "CopySlices"
        && let [_, Some(written)] = &list[..]
    {
        let inner = edges(&written.node);
        list.truncate(1);
        list.extend(inner.into_iter().skip(1));
    }
    list
}

/// Shape and type of each output of a node.
pub fn input_metadata<'py>(py: Python<'py>, node: &NodeRef) -> PyResult<Bound<'py, PyTuple>> {
    let metas = node.outputs().iter();
    let metas = metas.map(|m| PyOutputMeta { shape: m.shape().to_vec(), dtype: m.dtype() });
    PyTuple::new(py, metas.map(|m| Bound::new(py, m)).collect::<PyResult<Vec<_>>>()?)
}

#[pymethods]
impl PyNode {
    #[new]
    #[classmethod]
    fn new(cls: &Bound<'_, PyType>) -> PyResult<PyNode> {
        match READY.take() {
            Some(node) => Ok(PyNode(node)),
            None => Err(PyTypeError::new_err(format!("cannot create '{}' instances", cls.name()?))),
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        garbage::traverse_node(&self.0, &visit)
    }

    /// Nothing to let go of: what the node holds is cleared by itself, and that breaks the cycle.
    fn __clear__(&self) {}

    /// PyTorch's name of the operation, such as `MulBackward0`.
    fn name(&self) -> String {
        match self.0.name() {
            name @ ("AccumulateGrad" | "CopySlices" | "CopyBackwards") => {
                format!("torch::autograd::{name}")
            }
            name => name.to_owned(),
        }
    }

    /// Where gradients go from here: pairs of a node (or None) and the number of its output.
    #[getter]
    fn next_functions<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        next_functions(py, &self.0)
    }

    /// A dict for whatever one wants to keep with the node; it lives as long as the node.
    #[getter]
    fn metadata<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        notes(py, &self.0)
    }

    /// The leaf of an accumulator node.
    #[getter]
    fn variable<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyTensor>> {
        match slf.get().0.op().leaf() {
            Some(leaf) => wrap(slf.py(), leaf.clone()),
            None => Err(no_attribute(slf, "variable")),
        }
    }

    /// Whether gradients flow through; they do.
    #[getter]
    fn requires_grad(&self) -> bool {
        true
    }

    /// Shape and type of each output.
    #[getter]
    fn _input_metadata<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        input_metadata(py, &self.0)
    }

    fn _sequence_nr(&self) -> u64 {
        self.0.sequence()
    }

    /// Where the operation ran: `(file, line, function)` of the innermost Python code that is not
    /// this package's; None for accumulators and where it is not known.
    ///
    /// Examples
    /// --------
    /// >>> import wengert
    /// >>> x = wengert.ones(2, requires_grad=True)
    /// >>> def double(x):
    /// ...     return x * 2
    /// >>> file, line, function = double(x).grad_fn.origin
    /// >>> line, function
    /// (2, 'double')
    #[getter]
    fn origin(&self) -> Option<(String, u32, String)> {
        crate::site::location(self.0.site())
    }

    /// Has `fn(grad_inputs, grad_outputs)` called whenever the node has run in a backward pass.
    ///
    /// Both are tuples of tensors and None. A tuple that the hook returns takes the place of
    /// `grad_inputs`. On an accumulator, which has no inputs, it is called after the gradients of
    /// all leaves have been accumulated.
    ///
    /// Returns
    /// -------
    /// RemovableHandle
    ///     Its `remove()` removes the hook.
    ///
    /// Examples
    /// --------
    /// >>> import wengert
    /// >>> x = wengert.tensor([1.0, 2.0], requires_grad=True)
    /// >>> y = x.clone()
    /// >>> handle = y.grad_fn.register_hook(lambda gi, go: (gi[0] * 2,))
    /// >>> y.sum().backward()
    /// >>> x.grad
    /// tensor([2., 2.])
    #[pyo3(signature = (r#fn))]
    fn register_hook<'py>(&self, r#fn: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        hooks::register_post_hook(&self.0, r#fn)
    }

    /// Has `fn(grad_outputs)` called whenever the node is about to run in a backward pass.
    ///
    /// It gets a tuple of tensors and None; a tuple that it returns takes its place.
    ///
    /// Returns
    /// -------
    /// RemovableHandle
    ///     Its `remove()` removes the hook.
    ///
    /// Examples
    /// --------
    /// >>> import wengert
    /// >>> x = wengert.tensor([1.0, 2.0], requires_grad=True)
    /// >>> y = x.clone()
    /// >>> handle = y.grad_fn.register_prehook(lambda go: (go[0] * 2,))
    /// >>> y.sum().backward()
    /// >>> x.grad
    /// tensor([2., 2.])
    #[pyo3(signature = (r#fn))]
    fn register_prehook<'py>(&self, r#fn: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        hooks::register_pre_hook(&self.0, r#fn)
    }

    /// Applies the rule to gradients of the outputs, without hooks, and keeps what it saved.
    #[pyo3(signature = (*args))]
    fn __call__<'py>(&self, args: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyAny>> {
        let py = args.py();
        if args.len() != self.0.outputs().len() {
            return Err(PyTypeError::new_err(format!(
                "expected {} arguments, got {} instead",
                self.0.outputs().len(),
                args.len()
            )));
        }
        let mut gradients = Vec::with_capacity(args.len());
        for (i, g) in args.iter().enumerate() {
            gradients.push(match g.cast::<PyTensor>() {
                Ok(t) => Some(t.get().tensor()),
                Err(_) if g.is_none() => None,
                Err(_) => {
                    return Err(PyTypeError::new_err(format!("argument {i} is not a Variable")));
                }
            });
        }
        let found = guarded(|| self.0.apply(&gradients))?;
        let found = found.into_iter().zip(self.0.shown()).filter_map(|(g, s)| s.then_some(g));
        let found: PyResult<Vec<_>> = found.map(|g| g.map(|g| wrap(py, g)).transpose()).collect();
        let result = PyTuple::new(py, found?)?;
        if result.len() == 1 { result.get_item(0) } else { Ok(result.into_any()) }
    }

    /// Called where the ordinary look-up has found nothing.
    fn __getattr__<'py>(
        slf: &Bound<'py, Self>,
        name: &Bound<'py, PyString>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let text = name.to_cow()?;
        if let Some(saved) = text.strip_prefix("_saved_") {
            let node = &slf.get().0;
            let found = node.op().attributes().into_iter().find(|(n, _)| *n == saved);
            if let Some((_, attribute)) = found {
                return value_of(slf.py(), node, attribute);
            }
        }
        if let Some(saved) = text.strip_prefix("_raw_saved_") {
            let node = &slf.get().0;
            let found = node.op().attributes().into_iter().find(|(n, _)| *n == saved);
            if let Some((_, Attribute::Saved(role))) = found {
                // A tensor that the rule did not need has no place, and neither has one that was
                // freed; the one after the last will do.
                let place = node.saved_place(role).ok().flatten();
                let place = place.unwrap_or_else(|| node.saved_count());
                return Ok(Bound::new(slf.py(), PySavedTensor::new(node, place))?.into_any());
            }
        }
        Err(no_attribute(slf, &text))
    }

    fn __dir__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyList>> {
        let py = slf.py();
        let ordinary = py.get_type::<PyAny>().call_method1("__dir__", (slf,))?;
        let names = PyList::empty(py);
        for name in ordinary.try_iter()? {
            let name = name?;
            if name.extract::<&str>()? != "variable" || slf.get().0.op().leaf().is_some() {
                names.append(name)?;
            }
        }
        for (name, attribute) in slf.get().0.op().attributes() {
            names.append(format!("_saved_{name}"))?;
            if matches!(attribute, Attribute::Saved(_)) {
                names.append(format!("_raw_saved_{name}"))?;
            }
        }
        Ok(names)
    }

    fn __repr__(slf: &Bound<'_, Self>) -> String {
        format!("<{} object at {:#x}>", slf.get().0.name(), slf.as_ptr() as usize)
    }

    fn __reduce_ex__(slf: &Bound<'_, Self>, _protocol: i64) -> PyResult<()> {
        let kind = slf.get_type().name()?;
        Err(PyTypeError::new_err(format!("cannot pickle '{kind}' object")))
    }
}

#[cold]
fn no_attribute(node: &Bound<'_, PyNode>, name: &str) -> PyErr {
    let kind = node.get().0.name();
    PyAttributeError::new_err(format!("'{kind}' object has no attribute '{name}'"))
}

fn value_of<'py>(
    py: Python<'py>,
    node: &NodeRef,
    attribute: Attribute,
) -> PyResult<Bound<'py, PyAny>> {
    let none = || py.None().into_bound(py);
    let tensor = |t: Option<Tensor>| -> PyResult<Bound<'py, PyAny>> {
        t.map_or_else(|| Ok(none()), |t| Ok(wrap(py, t)?.into_any()))
    };
    match attribute {
        Attribute::Saved(role) => tensor(node.saved(role).or_raise()?),
        Attribute::SavedNumber(role) => match node.saved(role).or_raise()? {
            Some(t) if t.is_wrapped_number() => scalar_object(py, t.item().or_raise()?),
            other => tensor(other),
        },
        Attribute::Tensors(list) => {
            let items: PyResult<Vec<_>> = list.into_iter().map(tensor).collect();
            Ok(PyTuple::new(py, items?)?.into_any())
        }
        Attribute::Value(value) => Ok(match value {
            Value::Number(n) => scalar_object(py, n)?,
            Value::Ints(list) => PyTuple::new(py, list)?.into_any(),
            Value::Str(text) => PyString::new(py, &text).into_any(),
            Value::Tensor(t) => tensor(Some(t))?,
            _ => none(),
        }),
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
