//! The Python objects that stand for tensors: how they are found and made.
//!
//! A tensor has at most one object, which its body remembers without owning it, so that `x.grad is
//! x.grad`. Objects are made at every operation, so that a nanosecond counts:
//!
//! * They are **allocated directly** (`tp_alloc`), not through `object.__new__`, which in CPython
//!   3.11 and 3.12 makes a dict for every object of a class that has dicts. A dict is made when a
//!   user first sets an attribute; until then its slot is null, as `tp_alloc` leaves it.
//! * Instances have an ordinary dict slot and no `__getattr__`, so that CPython's specialised
//!   look-up of methods applies.
#![allow(unsafe_code)]

use crate::error::OrRaise;
use crate::tensor::PyTensor;
use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;
use pyo3::{PyTraverseError, PyVisit};
use std::mem::ManuallyDrop;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};
use wengert::{DType, Tensor};

/// The class, and where in its objects the value lies.
struct Class {
    class: *mut ffi::PyTypeObject,
    value: usize,
}

// SAFETY: the class is never freed, and used under the interpreter lock only.
unsafe impl Send for Class {}
// SAFETY: as above.
unsafe impl Sync for Class {}

static CLASS: PyOnceLock<Class> = PyOnceLock::new();

/// Where the value lies, for the garbage collector, which may not ask for the lock.
static OFFSET: AtomicUsize = AtomicUsize::new(0);

/// Learns the layout of the class from one object that PyO3 made.
pub fn install(py: Python<'_>) -> PyResult<()> {
    let scalar = Tensor::zeros(&[], DType::Float32).or_raise()?;
    let sample = Bound::new(py, PyTensor::of(scalar))?;
    let value = std::ptr::from_ref(sample.get()) as usize - sample.as_ptr() as usize;
    let class = py.get_type::<PyTensor>().as_type_ptr();
    OFFSET.store(value, Ordering::Relaxed);
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
    allocate(py, class.class, class.value, tensor)
}

/// A new object of a class derived from `Tensor` for a tensor that has no object.
pub fn wrap_as<'py>(class: &Bound<'py, PyType>, tensor: Tensor) -> PyResult<Bound<'py, PyTensor>> {
    if !class.is_subclass_of::<PyTensor>()? {
        return Err(PyTypeError::new_err(format!("{} is no class of tensors", class.name()?)));
    }
    let known = CLASS.get(class.py()).expect("the module is initialised");
    allocate(class.py(), class.as_type_ptr(), known.value, tensor)
}

/// An object for a tensor. Instances of a derived class begin as those of `Tensor` do.
#[inline(always)]
fn allocate(
    py: Python<'_>,
    class: *mut ffi::PyTypeObject,
    value: usize,
    tensor: Tensor,
) -> PyResult<Bound<'_, PyTensor>> {
    // SAFETY: the caller's class is `Tensor` or derived from it. `tp_alloc` gives zeroed memory with a count of one for an object of the class. Zeros
    // are what PyO3 has in the slots for dict and weak references when they are empty; the value,
    // the only other part of the object, is written before anybody else sees it.
    unsafe {
        let object = ffi::PyType_GenericAlloc(class, 0);
        if object.is_null() {
            return Err(PyErr::fetch(py));
        }
        tensor.host().store(object.cast(), Ordering::Relaxed);
        object.cast::<u8>().add(value).cast::<PyTensor>().write(PyTensor::of(tensor));
        Ok(Bound::from_owned_ptr(py, object).cast_into_unchecked())
    }
}

/// [`visit_class`] for tensors.
pub fn visit_tensor_class(value: &PyTensor, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
    match OFFSET.load(Ordering::Relaxed) {
        0 => Ok(()),
        // SAFETY: `install` has measured where in its objects the value lies.
        offset => unsafe { visit_class(value, offset, visit) },
    }
}

/// Shows the garbage collector the class of an object of one of our classes.
///
/// An instance owns its class. CPython leaves it to the base class's `tp_traverse` to say so, if the
/// base is a heap type, and PyO3's does not. Without this, a class that Python code derives from ours
/// would never be collected once something in it leads to an instance.
///
/// # Safety
/// `value` is the Rust value of an object, which lies this many bytes behind the object's start.
pub unsafe fn visit_class<T>(
    value: &T,
    offset: usize,
    visit: &PyVisit<'_>,
) -> Result<(), PyTraverseError> {
    let object = std::ptr::from_ref(value).cast::<u8>().wrapping_sub(offset);
    // SAFETY: the caller says that an object begins there, and its class is never null. `Py` is a
    // pointer; as it is never dropped here, it need not count, which would be forbidden now.
    let class = unsafe {
        let class = ffi::Py_TYPE(object.cast_mut().cast::<ffi::PyObject>());
        ManuallyDrop::new(std::mem::transmute::<NonNull<ffi::PyTypeObject>, Py<PyAny>>(
            NonNull::new_unchecked(class),
        ))
    };
    visit.call(&*class)
}
