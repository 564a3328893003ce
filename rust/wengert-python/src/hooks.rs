//! Python functions as hooks.
//!
//! The functions on one tensor, or on one end of a node, are kept in one `OrderedDict`, which the
//! engine sees as a single hook: its host is the dict. A handle (`utils.hooks.RemovableHandle`)
//! knows the dict weakly and its entry, as in PyTorch, so that Python code can look at hooks, and
//! hooks may add and remove hooks: a pass calls those that were there when it came by.
//!
//! Return values are checked here, where the name of the function is known; the engine checks
//! again what it relies on. A function that raises ends the pass with its own exception.

use crate::error::{OrRaise, from_py};
use crate::held::Held;
use crate::tensor::{PyTensor, wrap};
use pyo3::exceptions::*;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyDictMethods, PyTuple, PyType};
use std::sync::Arc;
use wengert::batch;
use wengert::graph::{self, GradMode, Hook, Host, NodeRef, Replaced};
use wengert::{Result, Tensor};

/// A class of a Python module, imported when first used.
fn class<'py>(
    py: Python<'py>,
    cell: &'static PyOnceLock<Py<PyType>>,
    module: &str,
    name: &str,
) -> PyResult<&'py Bound<'py, PyType>> {
    cell.import(py, module, name)
}

/// The dict of a host, if that is what it is.
pub fn dict_of(host: &Host) -> Option<Arc<Held>> {
    host.clone().downcast().ok()
}

/// Puts a function into a dict of hooks, which is made and attached if there is none.
fn add<'py>(
    hook: &Bound<'py, PyAny>,
    dict: Option<Arc<Held>>,
    attach: impl FnOnce(Arc<Held>) -> PyResult<()>,
) -> PyResult<Bound<'py, PyAny>> {
    static DICT: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    static HANDLE: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let py = hook.py();
    if !hook.is_callable() {
        return Err(PyTypeError::new_err(format!(
            "a hook has to be callable, got {}",
            hook.get_type().name()?
        )));
    }
    let dict = match dict {
        Some(dict) => dict,
        None => {
            let new = class(py, &DICT, "collections", "OrderedDict")?.call0()?;
            let new = Arc::new(Held::new(new.unbind()));
            attach(new.clone())?;
            new
        }
    };
    let dict = dict.bind(py);
    let handle = class(py, &HANDLE, "wengert.utils.hooks", "RemovableHandle")?.call1((dict,))?;
    dict.set_item(handle.getattr("id")?, hook)?;
    Ok(handle)
}

/// `Tensor.register_hook`.
pub fn register_hook<'py>(t: &Tensor, hook: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    if let Some((physical, levels)) = batch::examples(t) {
        return register_batched_hook(&physical, levels, hook);
    }
    add(hook, t.hook_host(dict_of), |dict| {
        let functions = dict.clone();
        let call = Arc::new(move |g: Option<&Tensor>| see_gradient(&functions, g));
        t.register_hook(Hook::of(dict, call)).or_raise().map(drop)
    })
}

/// [`register_hook`] on a batched tensor: functions see the gradient of one example.
fn register_batched_hook<'py>(
    physical: &Tensor,
    levels: batch::Levels,
    hook: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    add(hook, physical.hook_host(dict_of), |dict| {
        let functions = dict.clone();
        let call = Arc::new(move |g: Option<&Tensor>| {
            let example = g.map(|g| batch::wrap(g, &levels)).transpose()?;
            let replaced = see_gradient(&functions, example.as_ref())?;
            replaced.map(|g| batch::spread(&g, &levels)).transpose()
        });
        physical.register_hook(Hook::of(dict, call)).or_raise().map(drop)
    })
}

/// `Tensor.register_post_accumulate_grad_hook`.
pub fn register_leaf_hook<'py>(
    t: &Tensor,
    hook: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    add(hook, t.leaf_hook_host(dict_of), |dict| {
        let functions = dict.clone();
        let call = Arc::new(move |leaf: &Tensor| see_leaf(&functions, leaf));
        t.register_leaf_hook(Hook::of(dict, call)).or_raise().map(drop)
    })
}

/// `Node.register_prehook`.
pub fn register_pre_hook<'py>(
    node: &NodeRef,
    hook: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    add(hook, node.pre_host(dict_of), |dict| {
        let functions = dict.clone();
        let call = move |outputs: &[Option<Tensor>]| see_gradients(&functions, outputs, None);
        node.add_pre_hook(Hook::of(dict, Arc::new(call)));
        Ok(())
    })
}

/// `Node.register_hook`. The hook sees the inputs that PyTorch's node has.
pub fn register_post_hook<'py>(
    node: &NodeRef,
    hook: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    add(hook, node.post_host(dict_of), |dict| {
        let (functions, shown) = (dict.clone(), node.shown());
        let call = move |inputs: &[Option<Tensor>], outputs: &[Option<Tensor>]| {
            let seen = inputs.iter().zip(&shown).filter(|(_, shown)| **shown);
            let seen: Vec<Option<Tensor>> = seen.map(|(t, _)| t.clone()).collect();
            let replaced = see_gradients(&functions, &seen, Some(outputs))?;
            Ok(replaced.map(|replaced| {
                let mut replaced = replaced.into_iter();
                shown.iter().map(|&shown| if shown { replaced.next()? } else { None }).collect()
            }))
        };
        node.add_post_hook(Hook::of(dict, Arc::new(call)));
        Ok(())
    })
}

/// Calls the functions that are in the dict now, in a grad mode that they may change for themselves.
fn each<'py>(
    py: Python<'py>,
    dict: &Held,
    mut call: impl FnMut(&Bound<'py, PyAny>) -> PyResult<()>,
) -> Result<()> {
    let mut all = || -> PyResult<()> {
        let functions = dict.bind(py).cast::<PyDict>()?.values();
        for function in functions {
            let _mode = GradMode::new(graph::is_grad_enabled());
            call(&function)?;
        }
        Ok(())
    };
    all().map_err(from_py)
}

fn see_gradient(dict: &Held, gradient: Option<&Tensor>) -> Result<Option<Tensor>> {
    Python::attach(|py| {
        let mut value = optional(py, gradient).map_err(from_py)?;
        let mut changed = false;
        each(py, dict, |hook| {
            let result = hook.call1((&value,))?;
            if !result.is_none() && !result.is(&value) {
                check(&value, &result, hook)?;
                value = result;
                changed = true;
            }
            Ok(())
        })?;
        Ok(if changed { tensor_of(&value) } else { None })
    })
}

fn see_leaf(dict: &Held, leaf: &Tensor) -> Result<()> {
    Python::attach(|py| {
        let leaf = wrap(py, leaf.clone()).map_err(from_py)?;
        each(py, dict, |hook| {
            let result = hook.call1((&leaf,))?;
            if result.is_none() || result.is(&leaf) {
                return Ok(());
            }
            check(leaf.as_any(), &result, hook)?;
            Err(PyRuntimeError::new_err(format!(
                "Tensor post accumulate grad hooks should return None. ('{}' returned a Tensor)",
                name_of(hook)
            )))
        })
    })
}

/// Pre-hooks see the gradients of the outputs, and replace them; post-hooks see `values`, those of the
/// inputs, and those of the outputs, and replace the former.
fn see_gradients(
    dict: &Held,
    values: &[Option<Tensor>],
    outputs: Option<&[Option<Tensor>]>,
) -> Result<Option<Replaced>> {
    Python::attach(|py| {
        let tuple = |tensors: &[Option<Tensor>]| {
            let items: PyResult<Vec<_>> =
                tensors.iter().map(|t| optional(py, t.as_ref())).collect();
            PyTuple::new(py, items?)
        };
        let mut values = tuple(values).map_err(from_py)?;
        let outputs = outputs.map(tuple).transpose().map_err(from_py)?;
        let mut changed = false;
        each(py, dict, |hook| {
            let result = match &outputs {
                Some(outputs) => hook.call1((&values, outputs))?,
                None => hook.call1((&values,))?,
            };
            if result.is_none() || result.is(&values) {
                return Ok(());
            }
            let Ok(tuple) = result.cast::<PyTuple>() else {
                return Err(PyTypeError::new_err(format!(
                    "expected tuple, but hook returned '{}'",
                    result.get_type().name()?
                )));
            };
            if tuple.len() != values.len() {
                return Err(PyRuntimeError::new_err(format!(
                    "hook '{}' has returned an incorrect number of values (got {}, but expected {})",
                    name_of(hook),
                    tuple.len(),
                    values.len()
                )));
            }
            for (value, result) in values.iter().zip(tuple) {
                check(&value, &result, hook)?;
            }
            values = tuple.clone();
            changed = true;
            Ok(())
        })?;
        Ok(changed.then(|| values.iter().map(|v| tensor_of(&v)).collect()))
    })
}

/// Whether a hook may put `result` in the place of `value`; the words are PyTorch's.
fn check(
    value: &Bound<'_, PyAny>,
    result: &Bound<'_, PyAny>,
    hook: &Bound<'_, PyAny>,
) -> PyResult<()> {
    if result.is_none() {
        return Ok(());
    }
    let Ok(value) = value.cast::<PyTensor>() else {
        return Err(PyRuntimeError::new_err("can't replace a None gradient with a non-None value"));
    };
    let Ok(result) = result.cast::<PyTensor>() else {
        return Err(PyTypeError::new_err(format!(
            "expected Variable, but hook returned '{}'",
            result.get_type().name()?
        )));
    };
    let (value, result) = (value.get().tensor(), result.get().tensor());
    if value.dtype() != result.dtype() {
        return Err(PyRuntimeError::new_err(format!(
            "hook '{}' has changed the type of value (was torch.{}Tensor got torch.{}Tensor)",
            name_of(hook),
            value.dtype().scalar_type_name(),
            result.dtype().scalar_type_name()
        )));
    }
    if value.shape() != result.shape() {
        return Err(PyRuntimeError::new_err(format!(
            "hook '{}' has changed the size of value (was {:?} got {:?})",
            name_of(hook),
            value.shape(),
            result.shape()
        )));
    }
    Ok(())
}

fn name_of(hook: &Bound<'_, PyAny>) -> String {
    hook.getattr("__name__").map_or_else(|_| "<unknown>".to_owned(), |name| name.to_string())
}

fn optional<'py>(py: Python<'py>, tensor: Option<&Tensor>) -> PyResult<Bound<'py, PyAny>> {
    Ok(match tensor {
        Some(t) => wrap(py, t.clone())?.into_any(),
        None => py.None().into_bound(py),
    })
}

fn tensor_of(value: &Bound<'_, PyAny>) -> Option<Tensor> {
    value.cast::<PyTensor>().ok().map(|t| t.get().tensor())
}
