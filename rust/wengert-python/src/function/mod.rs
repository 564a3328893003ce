//! `autograd.Function`: operations whose derivative is written in Python.
//!
//! One object per call, the *context*, is everything: `forward` leaves in it what `backward` needs,
//! and afterwards it **is** the node's Python object (`y.grad_fn is ctx`). The engine's node owns it
//! through its rule, [`FunctionOp`]; it knows the node weakly. Saved tensors lie in the node, where
//! the engine checks their versions and frees them.
//!
//! ```text
//!   y ──▶ node ──▶ FunctionOp ──▶ ctx (class MyFnBackward, attributes of the user's)
//!          │ edges, saved tensors   ┊ weakly
//!          ▼                        └┄┄▶ node
//! ```
//!
//! Here is the context; [`apply`] runs `forward`, [`rule`] runs `backward` and `jvp`. Both are compiled
//! and call the user's methods directly.

mod apply;
mod rule;

pub use apply::FunctionInfo;

use crate::error::{OrRaise, caught, to_py};
use crate::held::Held;
use crate::object::visit_class;
use crate::tensor::{PyTensor, wrap};
use crate::{garbage, hooks, node};
use parking_lot::Mutex;
use pyo3::exceptions::*;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyTuple, PyWeakrefMethods, PyWeakrefReference};
use smallvec::SmallVec;
use std::sync::atomic::{AtomicUsize, Ordering};
use wengert::graph::NodeRef;
use wengert::graph::arena::WeakNodeRef;
use wengert::graph::saved::freed_error;
use wengert::graph::site::Site;

/// An argument of a call.
#[derive(Clone, Copy, PartialEq)]
enum Argument {
    /// No tensor: it has no gradient.
    Other,
    Tensor,
    /// A tensor that requires grad.
    Differentiable,
}

/// An output of a call.
#[derive(Clone, Copy, PartialEq)]
enum Output {
    Other,
    /// A tensor without derivative.
    Constant,
    Differentiable,
}

#[derive(Default)]
struct State {
    to_save: Option<Py<PyAny>>,
    dirty: Option<Py<PyAny>>,
    non_differentiable: Option<Py<PyAny>>,
    saved_for_forward: Option<Py<PyAny>>,
    /// Made of `arguments` when first asked for.
    needs_input_grad: Option<Py<PyAny>>,
    /// A dict that users may fill, made when first asked for.
    metadata: Option<Py<PyAny>>,
    arguments: SmallVec<[Argument; 8]>,
    /// Empty if all are differentiable.
    outputs: SmallVec<[Output; 8]>,
    node: Option<WeakNodeRef>,
    /// What remains of a node that died before its context did.
    remains: Option<NodeRef>,
    /// Hand on missing gradients as None instead of zeros: all, or those of constant outputs.
    bare_grads: bool,
    bare_constant_grads: bool,
    cleared: bool,
}

/// What a call of a Function leaves for its derivative.
#[pyclass(name = "_FunctionCtx", module = "wengert.autograd.function", subclass, frozen)]
pub struct PyFunctionCtx(Mutex<State>);

/// Which of the object's slots; those that hold Python objects have the same getter and setter.
type Slot = fn(&mut State) -> &mut Option<Py<PyAny>>;

impl PyFunctionCtx {
    fn get(&self, py: Python<'_>, slot: Slot) -> Option<Py<PyAny>> {
        slot(&mut self.0.lock()).as_ref().map(|o| o.clone_ref(py))
    }

    fn set(&self, slot: Slot, value: Option<Py<PyAny>>) {
        let old = std::mem::replace(slot(&mut self.0.lock()), value);
        // Dropped outside the lock: it may run anything.
        drop(old);
    }

    fn set_default(&self, slot: Slot, value: impl FnOnce() -> Py<PyAny>) {
        slot(&mut self.0.lock()).get_or_insert_with(value);
    }

    fn take(&self, slot: Slot) -> Option<Py<PyAny>> {
        slot(&mut self.0.lock()).take()
    }

    /// The node, while its graph lives.
    pub fn node(&self) -> Option<NodeRef> {
        self.0.lock().node.and_then(|n| n.upgrade())
    }

    /// The node, to do what any node can.
    fn as_node(&self, attribute: &str) -> PyResult<NodeRef> {
        self.node().ok_or_else(|| {
            PyRuntimeError::new_err(format!(
                "Attribute '{attribute}' is invalid for this instance of _C._FunctionBase. Accessing \
                 this attribute directly on an instance of autograd.Function is a legacy access \
                 pattern that is no longer supported. For examples on how to use new-style autograd \
                 functions, see https://pytorch.org/docs/stable/autograd.html#torch.autograd.Function \
                 (its graph is gone, or was never recorded)"
            ))
        })
    }
}

fn none_to_nothing(value: Bound<'_, PyAny>) -> Option<Py<PyAny>> {
    (!value.is_none()).then(|| value.unbind())
}

fn boolean(value: &Bound<'_, PyAny>, name: &str) -> PyResult<bool> {
    match value.cast::<PyBool>() {
        Ok(b) => Ok(b.is_true()),
        Err(_) => Err(PyTypeError::new_err(format!(
            "{name} received an invalid combination of arguments - got ({}), but expected (bool)",
            value.get_type().name()?
        ))),
    }
}

#[pymethods]
impl PyFunctionCtx {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        PyFunctionCtx(Mutex::default())
    }

    // For `forward` and `setup_context`. -------------------------------------------------------

    /// Keeps tensors for `backward`, where they are in `saved_tensors`.
    ///
    /// To be called once at most. An in-place change of what was saved is noticed, hooks for saved
    /// tensors apply, and the tensors are freed after `backward`; none of it holds for tensors that
    /// are put on the context as attributes.
    ///
    /// Parameters
    /// ----------
    /// *tensors : Tensor or None
    ///     Inputs, outputs or anything computed between.
    #[pyo3(signature = (*tensors))]
    fn save_for_backward(&self, tensors: Bound<'_, PyTuple>) {
        self.set(|s| &mut s.to_save, Some(tensors.into_any().unbind()));
    }

    /// Keeps tensors for `jvp`, where they are in `saved_tensors`.
    ///
    /// Parameters
    /// ----------
    /// *tensors : Tensor or None
    ///     To be called once at most.
    #[pyo3(signature = (*tensors))]
    fn save_for_forward(&self, tensors: Bound<'_, PyTuple>) -> PyResult<()> {
        for t in tensors.iter_borrowed() {
            if !t.is_none() && t.cast::<PyTensor>().is_err() {
                return Err(PyAssertionError::new_err(
                    "save_for_forward expects all arguments to be tensors; you should save \
                     non-tensors as attributes on ctx.",
                ));
            }
        }
        self.set(|s| &mut s.saved_for_forward, Some(tensors.into_any().unbind()));
        Ok(())
    }

    /// Says which inputs `forward` wrote to; it must return all of them.
    ///
    /// Parameters
    /// ----------
    /// *args : Tensor
    ///     To be called once at most.
    #[pyo3(signature = (*args))]
    fn mark_dirty(&self, args: Bound<'_, PyTuple>) {
        self.set(|s| &mut s.dirty, Some(args.into_any().unbind()));
    }

    /// Says which outputs have no derivative. `backward` gets zeros for them.
    ///
    /// Parameters
    /// ----------
    /// *args : Tensor
    ///     To be called once at most.
    #[pyo3(signature = (*args))]
    fn mark_non_differentiable(&self, args: Bound<'_, PyTuple>) {
        self.set(|s| &mut s.non_differentiable, Some(args.into_any().unbind()));
    }

    /// Whether `backward` and `jvp` get zeros, which is the default, or None for gradients that are
    /// not there.
    ///
    /// Parameters
    /// ----------
    /// value : bool
    ///     True for zeros.
    fn set_materialize_grads(&self, value: &Bound<'_, PyAny>) -> PyResult<()> {
        self.0.lock().bare_grads = !boolean(value, "set_materialize_grads")?;
        Ok(())
    }

    #[setter(materialize_grads)]
    fn assign_materialize_grads(&self, value: &Bound<'_, PyAny>) -> PyResult<()> {
        self.set_materialize_grads(value)
    }

    #[getter]
    fn _materialize_non_diff_grads(&self) -> bool {
        !self.0.lock().bare_constant_grads
    }
    #[setter(_materialize_non_diff_grads)]
    fn set_materialize_non_diff_grads(&self, value: &Bound<'_, PyAny>) -> PyResult<()> {
        self.0.lock().bare_constant_grads = !boolean(value, "set_materialize_non_diff_grads")?;
        Ok(())
    }

    #[getter]
    fn to_save(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.get(py, |s| &mut s.to_save)
    }
    #[setter]
    fn set_to_save(&self, value: Bound<'_, PyAny>) {
        self.set(|s| &mut s.to_save, none_to_nothing(value));
    }
    #[getter]
    fn dirty_tensors(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.get(py, |s| &mut s.dirty)
    }
    #[setter]
    fn set_dirty_tensors(&self, value: Bound<'_, PyAny>) {
        self.set(|s| &mut s.dirty, none_to_nothing(value));
    }
    #[getter]
    fn non_differentiable(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.get(py, |s| &mut s.non_differentiable)
    }
    #[setter]
    fn set_non_differentiable(&self, value: Bound<'_, PyAny>) {
        self.set(|s| &mut s.non_differentiable, none_to_nothing(value));
    }
    #[getter]
    fn saved_for_forward(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.get(py, |s| &mut s.saved_for_forward)
    }
    #[setter]
    fn set_saved_for_forward(&self, value: Bound<'_, PyAny>) {
        self.set(|s| &mut s.saved_for_forward, none_to_nothing(value));
    }

    // For `backward`. --------------------------------------------------------------------------

    /// One truth value per argument of `forward`: whether it is a tensor that requires grad.
    #[getter]
    fn needs_input_grad(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let slot: Slot = |s| &mut s.needs_input_grad;
        if let Some(known) = self.get(py, slot) {
            return Ok(Some(known));
        }
        let arguments = self.0.lock().arguments.clone();
        if arguments.is_empty() {
            return Ok(None);
        }
        let needs = PyTuple::new(py, arguments.iter().map(|a| *a == Argument::Differentiable))?;
        self.set(slot, Some(needs.clone().into_any().unbind()));
        Ok(Some(needs.into_any().unbind()))
    }
    #[setter]
    fn set_needs_input_grad(&self, value: Bound<'_, PyAny>) {
        self.set(|s| &mut s.needs_input_grad, none_to_nothing(value));
    }

    /// What was saved, with the history it had, as a tuple.
    #[getter]
    fn saved_tensors<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        saved_tensors(slf)
    }

    /// PyTorch's old name of `saved_tensors`.
    #[getter]
    fn saved_variables<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let text = c"'saved_variables' is deprecated; use 'saved_tensors'";
        PyErr::warn(slf.py(), &slf.py().get_type::<PyDeprecationWarning>(), text, 1)?;
        saved_tensors(slf)
    }

    /// What was saved, as objects that take hooks.
    #[getter]
    fn _raw_saved_tensors<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyTuple>> {
        let node = slf.get().node().ok_or_else(freed)?;
        caught(|| node.check_not_freed().or_raise())?;
        let count = node.saved_count();
        PyTuple::new(slf.py(), (0..count).map(|i| crate::saved::PySavedTensor::new(&node, i)))
    }

    /// Frees what was saved, unless the running backward pass keeps the graph.
    fn maybe_clear_saved_tensors(&self) {
        if !rule::keeps_graph()
            && let Some(node) = self.node()
        {
            node.free_saved(Site::here());
        }
    }

    // As a node of the graph. ------------------------------------------------------------------

    /// The name of the node: that of the class.
    fn name(slf: &Bound<'_, Self>) -> PyResult<String> {
        Ok(slf.get_type().name()?.to_string())
    }

    /// A dict for whatever users want to remember of the node.
    #[getter]
    fn metadata(&self, py: Python<'_>) -> Py<PyAny> {
        let slot: Slot = |s| &mut s.metadata;
        self.get(py, slot).unwrap_or_else(|| {
            let made = PyDict::new(py).into_any().unbind();
            self.set(slot, Some(made.clone_ref(py)));
            made
        })
    }

    #[getter]
    fn requires_grad(&self) -> bool {
        true
    }

    /// Where gradients go from here: pairs of a node (or None) and the number of its output.
    #[getter]
    fn next_functions<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        node::next_functions(py, &self.as_node("next_functions")?)
    }

    /// Shape and type of each output.
    #[getter]
    fn _input_metadata<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        node::input_metadata(py, &self.as_node("_input_metadata")?)
    }

    fn _sequence_nr(&self) -> PyResult<u64> {
        Ok(self.as_node("_sequence_nr")?.sequence())
    }

    /// Has `fn(grad_inputs, grad_outputs)` called whenever the node has run, see `Node`.
    #[pyo3(signature = (r#fn))]
    fn register_hook<'py>(&self, r#fn: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        hooks::register_post_hook(&self.as_node("register_hook")?, r#fn)
    }

    /// Has `fn(grad_outputs)` called whenever the node is about to run, see `Node`.
    #[pyo3(signature = (r#fn))]
    fn register_prehook<'py>(&self, r#fn: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        hooks::register_pre_hook(&self.as_node("register_prehook")?, r#fn)
    }

    #[allow(unsafe_code)]
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // SAFETY: `install` has measured where in its objects the value lies.
        unsafe { visit_class(self, OFFSET.load(Ordering::Relaxed), &visit)? };
        let Some(state) = self.0.try_lock() else { return Ok(()) };
        for slot in [
            &state.to_save,
            &state.dirty,
            &state.non_differentiable,
            &state.saved_for_forward,
            &state.needs_input_grad,
            &state.metadata,
        ] {
            visit.call(slot)?;
        }
        match &state.remains {
            Some(remains) => garbage::traverse_node(remains, &visit),
            None => Ok(()),
        }
    }

    fn __clear__(&self) {
        let state = std::mem::take(&mut *self.0.lock());
        drop(state);
    }
}

/// The graph is gone.
#[cold]
fn freed() -> PyErr {
    to_py(freed_error())
}

fn saved_tensors<'py>(slf: &Bound<'py, PyFunctionCtx>) -> PyResult<Bound<'py, PyAny>> {
    let py = slf.py();
    let (node, cleared, for_forward) = {
        let state = slf.get().0.lock();
        let for_forward = state.saved_for_forward.as_ref().map(|o| o.clone_ref(py));
        (state.node, state.cleared, for_forward)
    };
    if cleared {
        return Err(PyRuntimeError::new_err(
            "saved_tensors can only be accessed once when clear_saved_tensors_on_access=True is set \
             on the autograd.Function. Either access saved_tensors only once, or set \
             clear_saved_tensors_on_access=False.",
        ));
    }
    if let Some(tensors) = for_forward {
        return Ok(tensors.into_bound(py));
    }
    let Some(node) = node else { return Ok(PyTuple::empty(py).into_any()) };
    let node = node.upgrade().ok_or_else(freed)?;
    caught(|| node.check_not_freed().or_raise())?;
    let mut tensors = SmallVec::<[Option<Bound<'py, PyTensor>>; 4]>::new();
    for i in 0..node.saved_count() {
        let tensor = caught(|| node.saved_tensor(i).or_raise())?;
        tensors.push(tensor.map(|t| wrap(py, t)).transpose()?);
    }
    let tensors = PyTuple::new(py, tensors)?.into_any();
    let class = slf.getattr(intern!(py, "_forward_cls"))?;
    if class.getattr(intern!(py, "clear_saved_tensors_on_access"))?.is_truthy()? {
        node.forget_saved();
        slf.get().0.lock().cleared = true;
    }
    Ok(tensors)
}

/// The context that a node of a user's Function has.
pub fn context_of<'py>(py: Python<'py>, node: &NodeRef) -> Option<Bound<'py, PyFunctionCtx>> {
    let held = node.op().host()?.downcast_ref::<Held>()?.bind(py);
    match held.cast::<PyFunctionCtx>() {
        Ok(ctx) => {
            node.set_outlived();
            Some(ctx.clone())
        }
        Err(_) => held.cast::<PyWeakrefReference>().ok()?.upgrade()?.cast_into().ok(),
    }
}

/// Where in a context's object its value lies.
static OFFSET: AtomicUsize = AtomicUsize::new(0);

/// Adds the classes and functions to the module.
pub fn install(m: &Bound<'_, PyModule>) -> PyResult<()> {
    let sample = Bound::new(m.py(), PyFunctionCtx(Mutex::default()))?;
    let offset = std::ptr::from_ref(sample.get()) as usize - sample.as_ptr() as usize;
    OFFSET.store(offset, Ordering::Relaxed);
    m.add_class::<PyFunctionCtx>()?;
    m.add_class::<FunctionInfo>()?;
    m.add_function(wrap_pyfunction!(apply::_register_function, m)?)?;
    m.add_function(wrap_pyfunction!(apply::_apply_function, m)?)?;
    m.add_function(wrap_pyfunction!(rule::_user_rule, m)?)?;
    m.add_function(wrap_pyfunction!(rule::_delayed_error, m)?)
}
