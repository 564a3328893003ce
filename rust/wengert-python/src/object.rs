//! The Python objects that stand for tensors: how they are found and made.
#![allow(unsafe_code)]

use crate::tensor::PyTensor;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use std::sync::atomic::Ordering;
use wengert::Tensor;

/// The class, and where in its objects the value lies.
struct Class {
    class: *mut ffi::PyTypeObject,
    value: usize,
}

// SAFETY: the class is never freed and only used under the interpreter lock.
unsafe impl Send for Class {}
// SAFETY: as above.
unsafe impl Sync for Class {}

static CLASS: PyOnceLock<Class> = PyOnceLock::new();

/// Looks at one ordinarily made object.
pub fn install(py: Python<'_>) -> PyResult<()> {
    let scalar = Tensor::zeros(&[], wengert::DType::Float32);
    let sample = Bound::new(py, PyTensor::of(crate::error::OrRaise::or_raise(scalar)?))?;
    let value = std::ptr::from_ref(sample.get()) as usize - sample.as_ptr() as usize;
    let class = py.get_type::<PyTensor>().as_type_ptr();
    let _ = CLASS.set(py, Class { class, value });
    Ok(())
}

/// The object that stands for a tensor: the one it has, or a new one.
#[inline]
pub fn wrap(py: Python<'_>, tensor: Tensor) -> PyResult<Bound<'_, PyTensor>> {
    let known = tensor.host().load(Ordering::Relaxed).cast::<ffi::PyObject>();
    if !known.is_null() {
        // SAFETY: a tensor's object clears the slot when it is destroyed, under the interpreter
        // lock that we hold. While it is being destroyed its count is zero already.
        unsafe {
            if ffi::Py_REFCNT(known) > 0 {
                return Ok(Bound::from_borrowed_ptr(py, known).cast_into_unchecked());
            }
        }
    }
    let class = CLASS.get(py).expect("the module is initialised");
    // SAFETY: 
    unsafe {
        let object = ffi::PyType_GenericAlloc(class.class, 0);
        if object.is_null() {
            return Err(PyErr::fetch(py));
        }
        tensor.host().store(object.cast(), Ordering::Relaxed);
        object.cast::<u8>().add(class.value).cast::<PyTensor>().write(PyTensor::of(tensor));
        Ok(Bound::from_owned_ptr(py, object).cast_into_unchecked())
    }
}
