//! Classes that users derive from `Tensor`: how their instances are made, copied and shown.
//!
//! An instance is a tensor with another class. Operations know tensors, not classes, so what they give
//! is a plain `Tensor`; a method of the class that wants its own kind back says `as_subclass`.

use crate::error::OrRaise;
use crate::object::wrap_as;
use crate::tensor::{PyTensor, wrap};
use crate::types::{PyDType, dtype_object, extract_dtype};
use crate::{index, teach, vmap};
use pyo3::exceptions::*;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyEllipsis, PyTuple, PyType};
use std::sync::atomic::Ordering;
use wengert::{DType, Tensor};

/// Refuses a class that is none of tensors.
fn check_class(class: &Bound<'_, PyType>) -> PyResult<()> {
    if class.is_subclass_of::<PyTensor>()? {
        return Ok(());
    }
    Err(PyTypeError::new_err(
        "Creating a Tensor subclass from a class that does not inherit from Tensor is not possible. \
         Make sure your class inherits from Tensor.",
    ))
}

/// The same elements and history as an instance of a class; a view.
pub fn as_subclass<'py>(
    slf: &Bound<'py, PyTensor>,
    class: &Bound<'py, PyType>,
) -> PyResult<Bound<'py, PyTensor>> {
    check_class(class)?;
    let whole = index::get(slf, PyEllipsis::get(slf.py()).as_any())?;
    wrap_as(class, whole.get().tensor())
}

/// The same memory without history as an instance of a class.
pub fn make_subclass<'py>(
    class: &Bound<'py, PyType>,
    data: &Bound<'py, PyTensor>,
    require_grad: bool,
) -> PyResult<Bound<'py, PyTensor>> {
    check_class(class)?;
    let t = data.get().tensor();
    vmap::check_plain(&t, "_make_subclass")?;
    let alias = t.detach();
    if require_grad && !alias.dtype().is_floating() {
        return Err(PyRuntimeError::new_err(format!(
            "Only Tensors of floating point and complex dtype can require gradients, got {}",
            alias.dtype()
        )));
    }
    alias.set_requires_grad(require_grad).or_raise()?;
    wrap_as(class, alias)
}

/// The attributes that a user has set on an object, if any.
pub fn state<'py>(object: &Bound<'py, PyTensor>) -> PyResult<Option<Bound<'py, PyDict>>> {
    let dict = object.getattr("__dict__")?.cast_into::<PyDict>()?;
    Ok((!dict.is_empty()).then_some(dict))
}

/// `copy.copy`: another object over the same memory, of the same class and with the same
/// attributes.
pub fn shallow_copy<'py>(slf: &Bound<'py, PyTensor>) -> PyResult<Bound<'py, PyTensor>> {
    let t = slf.get().tensor();
    vmap::check_plain(&t, "copy")?;
    if !t.is_leaf() {
        teach::warn_copy_of_computed(slf.py(), &t)?;
    }
    let copy = t.detach();
    copy.set_requires_grad(t.requires_grad()).or_raise()?;
    let copy = wrap_as(&slf.get_type(), copy)?;
    if let Some(state) = state(slf)? {
        copy.getattr("__dict__")?.call_method1("update", (state,))?;
    }
    Ok(copy)
}

/// What a tensor's text begins with.
pub fn prefix(slf: &Bound<'_, PyTensor>) -> PyResult<String> {
    let class = slf.get_type();
    if class.is(slf.py().get_type::<PyTensor>()) {
        return Ok("tensor(".to_owned());
    }
    let name = class.name()?.to_string();
    Ok(if name == "Parameter" { "tensor(".to_owned() } else { format!("{name}(") })
}

/// `Tensor.grad_dtype`: the type of the gradient, which is the tensor's own.
pub fn grad_dtype(slf: &Bound<'_, PyTensor>) -> PyResult<Py<PyDType>> {
    dtype_object(slf.py(), graded(slf)?)
}

/// Sets [`grad_dtype`] to what it is; gradients of other types do not exist.
pub fn set_grad_dtype(slf: &Bound<'_, PyTensor>, value: &Bound<'_, PyAny>) -> PyResult<()> {
    let own = graded(slf)?;
    match extract_dtype(value) {
        Some(dtype) if dtype == own => Ok(()),
        Some(other) => Err(PyNotImplementedError::new_err(format!(
            "grad_dtype: gradients have the type of their tensor, {own}; {other} is not supported"
        ))),
        None => Err(PyNotImplementedError::new_err(
            "grad_dtype: gradients have the type of their tensor; None, for any type, is not \
             supported",
        )),
    }
}

fn graded(slf: &Bound<'_, PyTensor>) -> PyResult<DType> {
    let t = slf.get().tensor();
    if t.is_leaf() {
        return Ok(t.dtype());
    }
    Err(PyRuntimeError::new_err("grad_dtype can only be accessed on leaf tensors."))
}

/// Lets two objects stand for each other's tensors.
#[pyfunction]
fn _swap_tensors(py: Python<'_>, a: &Bound<'_, PyTensor>, b: &Bound<'_, PyTensor>) -> PyResult<()> {
    let (first, second) = (a.get().tensor(), b.get().tensor());
    if first.same(&second) {
        return Ok(());
    }
    a.get().replace(py, second.clone());
    b.get().replace(py, first.clone());
    // Each `replace` moves what the slot held; now it is certain.
    second.host().store(a.as_ptr().cast(), Ordering::Relaxed);
    first.host().store(b.as_ptr().cast(), Ordering::Relaxed);
    Ok(())
}

/// Sets how many writes a tensor's memory counts.
#[pyfunction]
fn _set_version_counter(tensors: Vec<Bound<'_, PyTensor>>, versions: Vec<u32>) -> PyResult<()> {
    if tensors.len() != versions.len() {
        return Err(PyValueError::new_err(format!(
            "{} tensors, but {} versions",
            tensors.len(),
            versions.len()
        )));
    }
    for (tensor, version) in tensors.iter().zip(versions) {
        tensor.get().look(|t| t.storage().set_version(version));
    }
    Ok(())
}

/// A new object for a new tensor.
pub fn construct<'py>(
    class: &Bound<'py, PyType>,
    make: impl FnOnce() -> PyResult<Tensor>,
) -> PyResult<Bound<'py, PyAny>> {
    let tensor = make()?;
    let object = match class.is(class.py().get_type::<PyTensor>()) {
        true => wrap(class.py(), tensor)?,
        false => wrap_as(class, tensor)?,
    };
    Ok(object.into_any())
}

/// The reduced form of an instance of a class other than `Tensor` says which.
pub fn class_argument<'py>(slf: &Bound<'py, PyTensor>) -> Option<Bound<'py, PyType>> {
    let class = slf.get_type();
    (!class.is(slf.py().get_type::<PyTensor>())).then_some(class)
}

/// `(rebuild, arguments)`, with the attributes of the object if it has any.
pub fn reduced<'py>(
    slf: &Bound<'py, PyTensor>,
    rebuild: Bound<'py, PyAny>,
    arguments: Bound<'py, PyTuple>,
) -> PyResult<Bound<'py, PyTuple>> {
    let mut parts = vec![rebuild, arguments.into_any()];
    parts.extend(state(slf)?.map(Bound::into_any));
    PyTuple::new(slf.py(), parts)
}

/// Adds the functions to the module.
pub fn install(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(_swap_tensors, m)?)?;
    m.add_function(wrap_pyfunction!(_set_version_counter, m)?)
}
