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
//! `apply` is compiled and calls `forward`, `setup_context` and `backward` of the user's class
//! directly; what becomes of what they return is decided by [`wengert::graph::custom`]. What differs
//! from class to class and stays the same from call to call lies in a [`FunctionInfo`], made with
//! the class. Keyword arguments and defaults, which few calls have, are bound in Python.

use crate::error::{OrRaise, caught, from_py, to_py};
use crate::held::Held;
use crate::object::visit_class;
use crate::tensor::{PyTensor, wrap};
use crate::{garbage, hooks, node};
use parking_lot::Mutex;
use pyo3::exceptions::*;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyWeakrefMethods;
use pyo3::types::{PyBool, PyDict, PyList, PyTuple, PyType, PyWeakrefReference};
use smallvec::SmallVec;
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use wengert::graph::arena::WeakNodeRef;
use wengert::graph::custom::{self, Call};
use wengert::graph::saved::freed_error;
use wengert::graph::site::Site;
use wengert::graph::{Context, Gradients, NodeRef, Op, ValuesOnly};
use wengert::{Error, Kind, Tensor};

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
    fn materialize_non_diff_grads(&self, value: &Bound<'_, PyAny>) -> PyResult<()> {
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
        if !KEEPS_GRAPH.get()
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

/// What stays the same from call to call of one Function class.
#[pyclass(name = "_FunctionInfo", module = "wengert.autograd.function", frozen)]
pub struct FunctionInfo {
    backward_class: Py<PyType>,
    name: Arc<str>,
    /// What is wrong with the class, said when it is applied.
    refusal: Option<String>,
    /// A `forward` that was looked at, and what it said of its arguments.
    signature: Mutex<Option<(Py<PyAny>, Option<Positional>)>>,
}

/// A plain function with these many positional parameters.
#[derive(Clone, Copy)]
struct Positional {
    count: usize,
    and_more: bool,
}

#[pymethods]
impl FunctionInfo {
    #[new]
    fn new(class: &Bound<'_, PyType>, backward_class: Bound<'_, PyType>) -> PyResult<Self> {
        let mut refusal = None;
        for flag in ["clear_saved_tensors_on_access", "boxed_grads_call"] {
            if let Ok(value) = class.getattr(flag)
                && value.cast::<PyBool>().is_err()
            {
                let given = value.get_type().name()?;
                refusal = Some(format!("{flag} must be a bool, got {given}"));
            }
        }
        Ok(FunctionInfo {
            name: backward_class.name()?.to_string().into(),
            backward_class: backward_class.unbind(),
            refusal,
            signature: Mutex::new(None),
        })
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.backward_class)?;
        if let Some(signature) = self.signature.try_lock()
            && let Some((forward, _)) = &*signature
        {
            visit.call(forward)?;
        }
        Ok(())
    }
}

impl FunctionInfo {
    /// Whether `forward` takes these many positional arguments as they are.
    fn takes(&self, forward: &Bound<'_, PyAny>, given: usize) -> PyResult<bool> {
        let known = {
            let signature = self.signature.lock();
            signature.as_ref().and_then(|(f, p)| f.is(forward).then_some(*p))
        };
        let positional = match known {
            Some(known) => known,
            None => {
                let found = positional(forward)?;
                let old = self.signature.lock().replace((forward.clone().unbind(), found));
                drop(old);
                found
            }
        };
        Ok(positional.is_some_and(|p| given == p.count || (p.and_more && given > p.count)))
    }
}

/// The positional parameters of a plain function without keyword-only ones.
fn positional(forward: &Bound<'_, PyAny>) -> PyResult<Option<Positional>> {
    const VARARGS: u32 = 4;
    if forward.hasattr("__wrapped__")? || forward.hasattr("__signature__")? {
        return Ok(None);
    }
    if forward.get_type().name()? != "function" {
        return Ok(None);
    }
    let code = forward.getattr("__code__")?;
    if code.getattr("co_kwonlyargcount")?.extract::<usize>()? > 0 {
        return Ok(None);
    }
    let and_more = code.getattr("co_flags")?.extract::<u32>()? & VARARGS != 0;
    Ok(Some(Positional { count: code.getattr("co_argcount")?.extract()?, and_more }))
}

/// What a class has if it does not override it, see [`register_function`].
struct Defaults {
    setup_context: Py<PyAny>,
    backward: Py<PyAny>,
}

static DEFAULTS: PyOnceLock<Defaults> = PyOnceLock::new();

fn defaults(py: Python<'_>) -> PyResult<&Defaults> {
    DEFAULTS
        .get(py)
        .ok_or_else(|| PyRuntimeError::new_err("wengert.autograd.function is not loaded"))
}

/// Tells the engine which `setup_context` and `backward` are not overridden.
#[pyfunction]
pub fn _register_function(setup_context: Py<PyAny>, backward: Py<PyAny>, py: Python<'_>) {
    // The module is executed once; a second one would be a reload with equal functions.
    let _ = DEFAULTS.set(py, Defaults { setup_context, backward });
}

/// `Function.apply`: runs `forward` as one operation whose derivative is `backward`.
#[pyfunction]
#[pyo3(signature = (cls, *args, **kwargs))]
pub fn _apply_function<'py>(
    cls: &Bound<'py, PyType>,
    args: Bound<'py, PyTuple>,
    kwargs: Option<&Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = cls.py();
    let info = cls.getattr(intern!(py, "_function_info"))?.cast_into::<FunctionInfo>()?;
    let info = info.get();
    if let Some(refusal) = &info.refusal {
        return Err(PyRuntimeError::new_err(refusal.clone()));
    }
    let setup_context = cls.getattr(intern!(py, "setup_context"))?;
    let separate = !setup_context.is(&defaults(py)?.setup_context);
    let forward = cls.getattr(intern!(py, "forward"))?;
    let kwargs = kwargs.filter(|k| !k.is_empty());
    let args = if kwargs.is_some() || (separate && !info.takes(&forward, args.len())?) {
        let home = py.import("wengert.autograd.function")?;
        let bound = home.getattr("_bind")?.call1((&forward, separate, &args, kwargs))?;
        bound.cast_into::<PyTuple>()?
    } else {
        args
    };
    if let Some(result) = crate::vmap::apply_function(cls, &args, separate)? {
        return Ok(result);
    }
    let mut arguments = SmallVec::new();
    let mut inputs = SmallVec::<[Tensor; 4]>::new();
    for argument in args.iter_borrowed() {
        arguments.push(match argument.cast::<PyTensor>() {
            Ok(tensor) => {
                let tensor = tensor.get().tensor();
                let kind = match tensor.requires_grad() {
                    true => Argument::Differentiable,
                    false => Argument::Tensor,
                };
                inputs.push(tensor);
                kind
            }
            Err(_) => Argument::Other,
        });
    }
    let edges = caught(|| custom::edges(&inputs).or_raise())?;
    let object = info.backward_class.bind(py).call0()?;
    let ctx = object.cast::<PyFunctionCtx>()?;
    ctx.get().0.lock().arguments = arguments;

    let returned = {
        let _mode = ValuesOnly::new();
        if separate {
            let returned = forward.call1(&args)?;
            setup_context.call1((ctx, &args, &returned))?;
            returned
        } else {
            let mut all = SmallVec::<[Bound<'py, PyAny>; 8]>::new();
            all.push(ctx.clone().into_any());
            all.extend(args.iter());
            forward.call1(PyTuple::new(py, all)?)?
        }
    };
    outputs(py, info, ctx, &inputs, edges, separate, returned)
}

/// From what `forward` returned to what `apply` returns.
fn outputs<'py>(
    py: Python<'py>,
    info: &FunctionInfo,
    ctx: &Bound<'py, PyFunctionCtx>,
    inputs: &[Tensor],
    edges: Option<custom::Edges>,
    separate: bool,
    returned: Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let mut tensors = SmallVec::<[Option<Tensor>; 2]>::new();
    let several = returned.cast::<PyTuple>().ok();
    match several {
        Some(several) => tensors.extend(several.iter_borrowed().map(|o| tensor_of(&o))),
        None => tensors.push(tensor_of(&returned)),
    }
    let mut saved_late = SmallVec::<[Tensor; 2]>::new();
    if separate && let Some(saved) = ctx.get().get(py, |s| &mut s.saved_for_forward) {
        let saved = tuple(saved.bind(py), "saved_for_forward")?;
        saved_late.extend(saved.iter_borrowed().filter_map(|o| tensor_of(&o)));
    }
    let mut saved = SmallVec::<[Option<Tensor>; 4]>::new();
    if let Some(to_save) = ctx.get().take(|s| &mut s.to_save) {
        for (i, object) in tuple(to_save.bind(py), "to_save")?.iter_borrowed().enumerate() {
            let tensor = tensor_of(&object);
            if tensor.is_none() && !object.is_none() && edges.is_some() {
                return Err(PyTypeError::new_err(format!(
                    "save_for_backward can only save variables, but argument {i} is of type {}",
                    object.get_type().name()?
                )));
            }
            if separate {
                saved_late.extend(tensor.clone());
            }
            saved.push(tensor);
        }
    }
    let non_differentiable = marked(
        ctx.get().take(|s| &mut s.non_differentiable).map(|o| o.into_bound(py)),
        "non_differentiable",
        |_, given| {
            format!("mark_non_differentiable only accepts variable arguments, but got {given}")
        },
    )?;
    let dirty = marked(
        ctx.get().take(|s| &mut s.dirty).map(|o| o.into_bound(py)),
        "dirty_tensors",
        |i, given| {
            format!("mark_dirty can only accept variables, but argument {i} is of type {given}")
        },
    )?;
    let recording = edges.map(|edges| {
        let op =
            FunctionOp { ctx: Held::new(ctx.clone().into_any().unbind()), name: info.name.clone() };
        (edges, Box::new(op) as Box<dyn Op>)
    });
    let call = Call {
        inputs,
        returned: &tensors,
        dirty: &dirty,
        non_differentiable: &non_differentiable,
        saved: &saved,
        saved_late: &saved_late,
    };
    let recorded = caught(|| {
        custom::finish(&call, recording, |node| {
            ctx.get().0.lock().node = Some(node.downgrade());
        })
        .or_raise()
    })?;
    if recorded.dirty_stranger {
        let text =
            c"ctx.mark_dirty() received a tensor that was not an input. Only input Tensors that \
                     have been mutated should be passed to ctx.mark_dirty().";
        PyErr::warn(py, &py.get_type::<PyUserWarning>(), text, 1)?;
    }
    if recorded.node.is_some() && recorded.differentiable.iter().any(|d| !d) {
        let kinds = recorded.differentiable.iter().zip(&tensors).map(|(d, t)| match (d, t) {
            (true, _) => Output::Differentiable,
            (false, Some(_)) => Output::Constant,
            (false, None) => Output::Other,
        });
        ctx.get().0.lock().outputs = kinds.collect();
    }
    if custom::is_followed(inputs) {
        let mut rule = |tangents: &[Option<Tensor>]| jvp(ctx, inputs, tangents).map_err(from_py);
        caught(|| custom::push_tangents(&call, &recorded, &mut rule).or_raise())?;
    }
    ctx.get().set(|s| &mut s.saved_for_forward, None);
    let mut outputs = recorded.outputs.into_iter();
    match several {
        None => match outputs.next().flatten() {
            Some(tensor) => Ok(wrap(py, tensor)?.into_any()),
            None => Ok(returned),
        },
        Some(several) => {
            let objects = outputs.zip(several.iter()).map(|(tensor, object)| match tensor {
                Some(tensor) => Ok(wrap(py, tensor)?.into_any()),
                None => Ok(object),
            });
            Ok(PyTuple::new(py, objects.collect::<PyResult<Vec<_>>>()?)?.into_any())
        }
    }
}

/// Calls the user's `jvp`.
fn jvp(
    ctx: &Bound<'_, PyFunctionCtx>,
    inputs: &[Tensor],
    tangents: &[Option<Tensor>],
) -> PyResult<SmallVec<[Option<Tensor>; 2]>> {
    let py = ctx.py();
    let (arguments, bare) = {
        let state = ctx.get().0.lock();
        (state.arguments.clone(), state.bare_grads)
    };
    let mut pairs = inputs.iter().zip(tangents);
    let mut given = SmallVec::<[Bound<'_, PyAny>; 8]>::new();
    given.push(ctx.clone().into_any());
    for argument in arguments {
        let pair = if argument == Argument::Other { None } else { pairs.next() };
        let tangent = match pair {
            Some((_, Some(tangent))) => Some(tangent.clone()),
            Some((input, None)) if !bare && input.dtype().is_floating() => {
                Some(Tensor::zeros(input.shape(), input.dtype()).or_raise()?)
            }
            _ => None,
        };
        given.push(match tangent {
            Some(tangent) => wrap(py, tangent)?.into_any(),
            None => py.None().into_bound(py),
        });
    }
    let rule = ctx.getattr(intern!(py, "_forward_cls"))?.getattr(intern!(py, "jvp"))?;
    let result = rule.call1(PyTuple::new(py, given)?)?;
    let one = |k: usize, object: &Bound<'_, PyAny>| match tensor_of(object) {
        None if !object.is_none() => Err(PyRuntimeError::new_err(format!(
            "expected Variable or None (got {}) for grad output {k}.",
            object.get_type().name()?
        ))),
        tensor => Ok(tensor),
    };
    match result.cast::<PyTuple>() {
        Ok(several) => several.iter().enumerate().map(|(k, object)| one(k, &object)).collect(),
        Err(_) => Ok(SmallVec::from_iter([one(0, &result)?])),
    }
}

fn tensor_of(object: &Bound<'_, PyAny>) -> Option<Tensor> {
    object.cast::<PyTensor>().ok().map(|t| t.get().tensor())
}

fn tuple<'a, 'py>(value: &'a Bound<'py, PyAny>, name: &str) -> PyResult<&'a Bound<'py, PyTuple>> {
    value.cast::<PyTuple>().map_err(|_| {
        PyRuntimeError::new_err(format!(
            "autograd internal error: {name} attribute is expected to be a tuple but is {}",
            value.get_type()
        ))
    })
}

/// The tensors that were marked as something.
fn marked(
    value: Option<Bound<'_, PyAny>>,
    name: &str,
    refuse: impl Fn(usize, String) -> String,
) -> PyResult<SmallVec<[Tensor; 2]>> {
    let mut tensors = SmallVec::new();
    let Some(value) = value else { return Ok(tensors) };
    for (i, object) in tuple(&value, name)?.iter_borrowed().enumerate() {
        match tensor_of(&object) {
            Some(tensor) => tensors.push(tensor),
            None => {
                let given = object.get_type().name()?.to_string();
                return Err(PyRuntimeError::new_err(refuse(i, given)));
            }
        }
    }
    Ok(tensors)
}

thread_local! {
    /// Whether the backward pass that runs a Function's rule on this thread keeps the graph.
    static KEEPS_GRAPH: Cell<bool> = const { Cell::new(true) };
}

struct KeepsGraph(bool);

impl Drop for KeepsGraph {
    fn drop(&mut self) {
        KEEPS_GRAPH.set(self.0);
    }
}

/// The rule of a user's Function: its `backward`.
struct FunctionOp {
    /// The context; a weak reference to it if the context owns the node and not the other way round.
    ctx: Held,
    name: Arc<str>,
}

/// How many references an object has, ours included.
#[allow(unsafe_code)]
fn references(object: &Bound<'_, PyFunctionCtx>) -> isize {
    // SAFETY: the object lives.
    unsafe { pyo3::ffi::Py_REFCNT(object.as_ptr()) }
}

impl FunctionOp {
    fn context<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyFunctionCtx>> {
        let held = self.ctx.bind(py);
        match held.cast::<PyFunctionCtx>() {
            Ok(ctx) => Some(ctx.clone()),
            Err(_) => held.cast::<PyWeakrefReference>().ok()?.upgrade()?.cast_into().ok(),
        }
    }
}

impl Op for FunctionOp {
    fn name(&self) -> &str {
        &self.name
    }

    fn backward(&self, context: &Context, grads: &[Option<Tensor>]) -> wengert::Result<Gradients> {
        let _keeps = KeepsGraph(KEEPS_GRAPH.replace(context.keeps_graph()));
        Python::attach(|py| self.run(&self.context(py).ok_or_else(freed)?, grads)).map_err(from_py)
    }

    /// A context that somebody asked for goes on as a node when its node dies: it then owns the edges
    /// and what was saved.
    fn outlived(&self, remains: NodeRef) {
        Python::try_attach(|py| {
            if let Some(ctx) = self.context(py)
                && references(&ctx) > 2
            {
                let mut state = ctx.get().0.lock();
                state.node = Some(remains.downgrade());
                state.remains = Some(remains);
            }
        });
    }

    fn remains(&self) -> Option<Box<dyn Op>> {
        let weak = Python::try_attach(|py| {
            let ctx = self.context(py)?;
            Some(PyWeakrefReference::new(&ctx).ok()?.into_any().unbind())
        });
        Some(Box::new(FunctionOp { ctx: Held::new(weak??), name: self.name.clone() }))
    }

    fn needs_calling_thread(&self) -> bool {
        true
    }

    fn fetches_saved(&self) -> bool {
        true
    }

    fn host(&self) -> Option<&(dyn std::any::Any + Send + Sync)> {
        Some(&self.ctx)
    }
}

impl FunctionOp {
    fn run(&self, ctx: &Bound<'_, PyFunctionCtx>, grads: &[Option<Tensor>]) -> PyResult<Gradients> {
        let py = ctx.py();
        let node = ctx.get().node().ok_or_else(freed)?;
        let (bare, bare_constant, kinds) = {
            let state = ctx.get().0.lock();
            (state.bare_grads, state.bare_constant_grads, state.outputs.clone())
        };
        let mut given = SmallVec::<[Option<Bound<'_, PyTensor>>; 4]>::new();
        for (k, grad) in grads.iter().enumerate() {
            let kind = kinds.get(k).copied().unwrap_or(Output::Differentiable);
            let tensor = match (grad, kind) {
                (Some(grad), _) => Some(grad.clone()),
                (None, Output::Other) => None,
                (None, Output::Constant) if bare || bare_constant => None,
                (None, _) if bare => None,
                (None, _) => {
                    let meta = &node.outputs()[k];
                    Some(Tensor::zeros(&meta.shape(), meta.dtype()).or_raise()?)
                }
            };
            given.push(tensor.map(|t| wrap(py, t)).transpose()?);
        }
        let class = ctx.getattr(intern!(py, "_forward_cls"))?;
        let rule = user_rule(&class)?;
        let result = if class.getattr(intern!(py, "boxed_grads_call"))?.is_truthy()? {
            let list = PyList::new(py, given)?;
            rule.call1((ctx, list))?
        } else {
            let mut all = SmallVec::<[Bound<'_, PyAny>; 4]>::new();
            all.push(ctx.clone().into_any());
            for grad in given {
                all.push(grad.map_or_else(|| py.None().into_bound(py), Bound::into_any));
            }
            rule.call1(PyTuple::new(py, all)?)?
        };
        self.gradients(ctx, &node, &result)
    }

    /// Checks what `backward` returned.
    fn gradients(
        &self,
        ctx: &Bound<'_, PyFunctionCtx>,
        node: &NodeRef,
        result: &Bound<'_, PyAny>,
    ) -> PyResult<Gradients> {
        let one = std::slice::from_ref(result);
        let many: SmallVec<[Bound<'_, PyAny>; 4]>;
        let given = match result.cast::<PyTuple>() {
            Ok(tuple) => {
                many = tuple.iter().collect();
                &many[..]
            }
            Err(_) => one,
        };
        let arguments = ctx.get().0.lock().arguments.clone();
        let expected = arguments.len();
        if given.len() < expected || given[expected..].iter().any(|g| !g.is_none()) {
            return Err(PyRuntimeError::new_err(format!(
                "function {} returned an incorrect number of gradients (expected {expected}, got {})",
                self.name,
                given.len()
            )));
        }
        let mut gradients = Gradients::new();
        for (i, (argument, object)) in arguments.iter().zip(given).enumerate() {
            if *argument == Argument::Other {
                if !object.is_none() {
                    return Err(PyRuntimeError::new_err(format!(
                        "function {} returned a gradient different than None at position {}, but the \
                         corresponding forward input was not a Variable",
                        self.name,
                        i + 1
                    )));
                }
                continue;
            }
            gradients.push(match tensor_of(object) {
                Some(gradient) => {
                    let index = gradients.len();
                    self.check_size(node, index, &gradient).or_raise()?;
                    Some(gradient)
                }
                None if object.is_none() => None,
                None => {
                    return Err(PyRuntimeError::new_err(format!(
                        "expected Variable or None (got {})",
                        object.get_type().name()?
                    )));
                }
            });
        }
        Ok(gradients)
    }

    /// The engine sums a gradient to the shape of its input, for broadcasting. Here a sum over an
    /// axis of a size that nothing in the call had is a mistake and not broadcasting.
    fn check_size(&self, node: &NodeRef, index: usize, gradient: &Tensor) -> wengert::Result<()> {
        let Some(edge) = &node.edges()[index] else { return Ok(()) };
        let meta = &edge.node.outputs()[edge.output as usize];
        if meta.has_shape(gradient.shape()) {
            return Ok(());
        }
        let shape = meta.shape();
        let known = node.known_sizes();
        let extra = gradient.ndim().saturating_sub(shape.len());
        for (axis, &size) in gradient.shape().iter().enumerate() {
            let kept = axis >= extra && shape[axis - extra] == size;
            if !kept && size != 1 && !known.contains(&size) {
                return Err(Error::plain(
                    Kind::Grad,
                    format!(
                        "Function {} returned an invalid gradient at index {index} - got {:?} but \
                         expected shape compatible with {:?} (no tensor of this call has an axis of \
                         {size} elements that broadcasting could have made)",
                        self.name,
                        gradient.shape(),
                        &shape[..]
                    ),
                ));
            }
        }
        Ok(())
    }
}

/// `backward` or `vjp`, whichever the class has.
fn user_rule<'py>(class: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = class.py();
    let backward = class.getattr(intern!(py, "backward"))?;
    let vjp = class.getattr(intern!(py, "vjp"))?;
    let default = &defaults(py)?.backward;
    if vjp.is(default) {
        return Ok(backward);
    }
    if !backward.is(default) {
        return Err(PyRuntimeError::new_err(
            "Implementing both 'backward' and 'vjp' for a custom Function is not allowed. You should \
             only implement one of them.",
        ));
    }
    Ok(vjp)
}

/// The rule of a Function class.
#[pyfunction]
pub fn _user_rule<'py>(cls: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    user_rule(cls)
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

/// Tensors with the values of these that cannot be differentiated: the attempt raises `message`.
#[pyfunction]
pub fn _delayed_error<'py>(
    py: Python<'py>,
    message: String,
    tensors: Vec<Option<Bound<'py, PyTensor>>>,
) -> PyResult<Bound<'py, PyTuple>> {
    let detached: Vec<Option<Tensor>> =
        tensors.iter().map(|t| t.as_ref().map(|t| t.get().tensor().detach())).collect();
    let inputs: Vec<Tensor> = detached.iter().flatten().cloned().collect();
    for input in inputs.iter().filter(|i| i.dtype().is_floating()) {
        input.set_requires_grad(true).or_raise()?;
    }
    let returned: Vec<_> = detached.iter().map(|t| t.as_ref().map(Tensor::detach)).collect();
    let call = Call {
        inputs: &inputs,
        returned: &returned,
        dirty: &[],
        non_differentiable: &[],
        saved: &[],
        saved_late: &[],
    };
    let recording = custom::edges(&inputs).or_raise()?;
    let recording = recording.map(|edges| (edges, Box::new(DelayedError(message)) as Box<dyn Op>));
    let recorded = custom::finish(&call, recording, |_| ()).or_raise()?;
    let outputs = recorded.outputs.into_iter().map(|t| t.map(|t| wrap(py, t)).transpose());
    PyTuple::new(py, outputs.collect::<PyResult<Vec<_>>>()?)
}

/// A rule that says why there is none.
struct DelayedError(String);

impl Op for DelayedError {
    fn name(&self) -> &str {
        "Error"
    }

    fn backward(&self, _: &Context, _: &[Option<Tensor>]) -> wengert::Result<Gradients> {
        Err(Error::plain(Kind::Grad, self.0.clone()))
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
    m.add_function(wrap_pyfunction!(_register_function, m)?)?;
    m.add_function(wrap_pyfunction!(_apply_function, m)?)?;
    m.add_function(wrap_pyfunction!(_user_rule, m)?)?;
    m.add_function(wrap_pyfunction!(_delayed_error, m)?)
}
