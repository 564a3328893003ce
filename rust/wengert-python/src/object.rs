//! The Python objects that stand for tensors: how they are found, made and freed.
//!
//! A tensor has at most one object, which its body remembers without owning it, so that `x.grad is
//! x.grad`. Objects come and go with every operation, so that a nanosecond counts:
//!
//! * They are **made directly**, not through `object.__new__`, which in CPython 3.11 and 3.12 makes
//!   a dict for every object of a class that has dicts. A dict is made when a user first sets an
//!   attribute; until then its slot is null.
//! * Memory of **dead objects is kept** for the next ones, as CPython does for floats and tuples.
//!   [`free`] takes the place of the destructor that PyO3 made, see [`slots`](crate::slots); objects
//!   of subclasses go the usual way.
//! * Instances have an ordinary dict slot and no `__getattr__`, so that CPython's specialised
//!   look-up of methods applies.
#![allow(unsafe_code)]

use crate::error::OrRaise;
use crate::slots;
use crate::tensor::PyTensor;
use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyType;
use pyo3::{PyTraverseError, PyVisit};
use std::cell::UnsafeCell;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use wengert::{DType, Tensor};

/// What is known of the class.
struct Class {
    class: *mut ffi::PyTypeObject,
    /// Where in an object the value, the dict and the list of weak references lie.
    value: usize,
    dict: usize,
    weak: usize,
    /// PyO3's destructor, if ours has taken its place.
    inherited: Option<ffi::destructor>,
    spare: UnsafeCell<Spare>,
}

/// Memory of dead objects.
struct Spare {
    len: usize,
    objects: [*mut ffi::PyObject; MOST_SPARE],
}

/// As many as a program drops at a time and soon makes again; 8 KiB.
const MOST_SPARE: usize = 128;

// SAFETY: the class is never freed, and all of this is used under the interpreter lock only.
unsafe impl Send for Class {}
// SAFETY: as above.
unsafe impl Sync for Class {}

/// Null until the module is initialised.
static CLASS: AtomicPtr<Class> = AtomicPtr::new(null_mut());

/// Where the value lies, for the garbage collector, which may not ask for the lock.
static OFFSET: AtomicUsize = AtomicUsize::new(0);

/// Learns the layout of the class from one object that PyO3 made.
pub fn install(py: Python<'_>) -> PyResult<()> {
    let scalar = Tensor::zeros(&[], DType::Float32).or_raise()?;
    let sample = Bound::new(py, PyTensor::of(scalar))?;
    let value = std::ptr::from_ref(sample.get()) as usize - sample.as_ptr() as usize;
    let class = py.get_type::<PyTensor>();
    let offset = |name: &str| class.getattr(name)?.extract::<usize>();
    let (dict, weak) = (offset("__dictoffset__")?, offset("__weakrefoffset__")?);
    // What `free` and `wrap` leave alone would be lost: there must be nothing else.
    let word = size_of::<usize>();
    let whole = value + size_of::<PyTensor>() + 2 * word;
    if offset("__basicsize__")? != whole || dict.min(weak) != whole - 2 * word {
        return Err(PyRuntimeError::new_err("PyO3 lays out objects in another way"));
    }
    drop(sample);
    let class = class.as_type_ptr();
    // SAFETY: `free` does for objects of this class what the destructor in this slot does.
    let inherited = unsafe { slots::replace_destructor(class, free) };
    let spare = UnsafeCell::new(Spare { len: 0, objects: [null_mut(); MOST_SPARE] });
    let known = Class { class, value, dict, weak, inherited, spare };
    OFFSET.store(value, Ordering::Relaxed);
    CLASS.store(Box::into_raw(Box::new(known)), Ordering::Release);
    Ok(())
}

#[inline]
fn class(_py: Python<'_>) -> &Class {
    let class = CLASS.load(Ordering::Acquire);
    // SAFETY: it is either null or lives for ever.
    unsafe { class.as_ref() }.expect("the module is initialised")
}

impl Class {
    /// A word of an object of this class.
    #[inline]
    unsafe fn word(&self, object: *mut ffi::PyObject, offset: usize) -> *mut *mut ffi::PyObject {
        // SAFETY: the caller's object has a word there.
        unsafe { object.cast::<u8>().add(offset).cast() }
    }

    /// Puts the value, the one part that is missing, into an object that nobody has seen.
    #[inline]
    unsafe fn put<'py>(
        &self,
        py: Python<'py>,
        object: *mut ffi::PyObject,
        tensor: Tensor,
    ) -> Bound<'py, PyTensor> {
        // SAFETY: the caller's object is of this class, and its own.
        unsafe {
            tensor.host().store(object.cast(), Ordering::Relaxed);
            self.value(object).write(PyTensor::of(tensor));
            ffi::PyObject_GC_Track(object.cast());
            Bound::from_owned_ptr(py, object).cast_into_unchecked()
        }
    }

    #[inline]
    unsafe fn value(&self, object: *mut ffi::PyObject) -> *mut PyTensor {
        // SAFETY: the caller's object is of this class.
        unsafe { object.cast::<u8>().add(self.value).cast() }
    }
}

/// The value of an object that is a tensor.
#[inline]
pub fn value_of<'a>(py: Python<'_>, object: &'a Bound<'_, PyAny>) -> Option<&'a PyTensor> {
    let class = class(py);
    // SAFETY: an object of the class, or of one derived from it, has a value, which lives as long as
    // the object.
    unsafe {
        let kind = ffi::Py_TYPE(object.as_ptr());
        let is_tensor = kind == class.class
            || kind != &raw mut ffi::PyFloat_Type
                && kind != &raw mut ffi::PyLong_Type
                && ffi::PyType_IsSubtype(kind, class.class) != 0;
        is_tensor.then(|| &*class.value(object.as_ptr()))
    }
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
    let class = class(py);
    // SAFETY: nobody looks into `spare` meanwhile. The memory there is of objects of the class, with
    // nulls in the slots for dict and weak references.
    unsafe {
        let spare = &mut *class.spare.get();
        if spare.len == 0 {
            return allocate(py, class, class.class, tensor);
        }
        spare.len -= 1;
        let object = ffi::PyObject_Init(spare.objects[spare.len], class.class);
        Ok(class.put(py, object, tensor))
    }
}

/// A new object of a class derived from `Tensor` for a tensor that has no object.
pub fn wrap_as<'py>(kind: &Bound<'py, PyType>, tensor: Tensor) -> PyResult<Bound<'py, PyTensor>> {
    if !kind.is_subclass_of::<PyTensor>()? {
        return Err(PyTypeError::new_err(format!("{} is no class of tensors", kind.name()?)));
    }
    // SAFETY: the class is derived from `Tensor`.
    unsafe { allocate(kind.py(), class(kind.py()), kind.as_type_ptr(), tensor) }
}

/// An object in new memory.
///
/// # Safety
/// `kind` is `Tensor`, which `class` knows, or derived from it.
unsafe fn allocate<'py>(
    py: Python<'py>,
    class: &Class,
    kind: *mut ffi::PyTypeObject,
    tensor: Tensor,
) -> PyResult<Bound<'py, PyTensor>> {
    // SAFETY: `tp_alloc` gives zeroed memory with a count of one for an object of the class. Zeros are
    // what PyO3 has in the slots for dict and weak references when they are empty. Nobody else has
    // seen the object, but the garbage collector, which is not to see it unfinished.
    unsafe {
        let object = ffi::PyType_GenericAlloc(kind, 0);
        if object.is_null() {
            return Err(PyErr::fetch(py));
        }
        ffi::PyObject_GC_UnTrack(object.cast());
        Ok(class.put(py, object, tensor))
    }
}

/// The class's destructor.
unsafe extern "C" fn free(object: *mut ffi::PyObject) {
    // SAFETY: CPython calls destructors under the interpreter lock.
    let py = unsafe { Python::assume_attached() };
    let class = class(py);
    // SAFETY: nobody refers to the object any more. What is done here is what CPython asks of a
    // destructor of a class with garbage collection, weak references, dict and a type on the heap.
    unsafe {
        if ffi::Py_TYPE(object) != class.class {
            if let Some(inherited) = class.inherited {
                inherited(object);
            }
            return;
        }
        ffi::PyObject_GC_UnTrack(object.cast());
        if !(*class.word(object, class.weak)).is_null() {
            ffi::PyObject_ClearWeakRefs(object);
        }
        let dict = std::mem::replace(&mut *class.word(object, class.dict), null_mut());
        if catch_unwind(AssertUnwindSafe(|| class.value(object).drop_in_place())).is_err() {
            PyRuntimeError::new_err(
                "internal error of wengert while a tensor was freed, please report it",
            )
            .write_unraisable(py, None);
        }
        ffi::Py_XDECREF(dict);
        let spare = &mut *class.spare.get();
        if spare.len < MOST_SPARE {
            spare.objects[spare.len] = object;
            spare.len += 1;
        } else {
            ffi::PyObject_GC_Del(object.cast());
        }
        ffi::Py_DECREF(class.class.cast());
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
