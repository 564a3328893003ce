//! `Function.apply`: one call of a user's function.
//!
//! It calls `forward`, and `setup_context` if the class has that; what becomes of what they return is
//! decided by [`wengert::graph::custom`]. What differs from class to class and stays the same from call
//! to call lies in a [`FunctionInfo`], made with the class. Keyword arguments and defaults, which few
//! calls have, are bound in Python.

use super::rule::{FunctionOp, jvp};
use super::{Argument, Output, PyFunctionCtx};
use crate::error::{OrRaise, caught, from_py};
use crate::tensor::{PyTensor, wrap};
use parking_lot::Mutex;
use pyo3::exceptions::*;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyDict, PyTuple, PyType};
use smallvec::SmallVec;
use std::sync::Arc;
use wengert::Tensor;
use wengert::graph::custom::{self, Call};
use wengert::graph::{Op, ValuesOnly};

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
pub(super) struct Defaults {
    setup_context: Py<PyAny>,
    pub(super) backward: Py<PyAny>,
}

static DEFAULTS: PyOnceLock<Defaults> = PyOnceLock::new();

pub(super) fn defaults(py: Python<'_>) -> PyResult<&Defaults> {
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
        let op = FunctionOp::new(ctx, info.name.clone());
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
        // What was saved for backward is none of `jvp`'s.
        let nothing = || PyTuple::empty(py).into_any().unbind();
        ctx.get().set_default(|s| &mut s.saved_for_forward, nothing);
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

pub(super) fn tensor_of(object: &Bound<'_, PyAny>) -> Option<Tensor> {
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
