//! Entry points of the class `Tensor` that CPython calls without a detour.
//!
//! PyO3 puts a trampoline of its own before every slot: it counts how deep the thread is inside
//! PyO3, extracts the arguments, catches panics. For `a + b` of two small tensors that is a third of
//! the work. So the slots that small operations go through lead here first. What is written here
//! handles the usual case, two plain tensors or a tensor and a number, and hands everything else to
//! the slot that PyO3 made.
//!
//! Such code runs without PyO3's count, which decides one thing: whether a `Py` that is dropped
//! is given back at once or when PyO3 is next entered. What the engine drops is
//! [`Held`](crate::held::Held), which does not rely on the count; what remains are exceptions that were
//! thought better of, which can wait.
//!
//! PyO3 has no way to name a slot function, and the stable interface of CPython none to change a slot
//! of a class. The slots are therefore **written where they lie**: the fields of a type object that
//! are used here have had their places since Python 2. That is not taken on trust: a slot is replaced
//! only if the place holds the very pointer that `PyType_GetSlot` gives for it. Otherwise nothing is
//! changed, and calls are a little slower. (The free-threaded build, whose objects begin differently,
//! has no stable interface that this extension could be built for.)
#![allow(unsafe_code)]

use crate::args::exact_number;
use crate::bind;
use crate::error::{OrRaise, caught, guarded};
use crate::index;
use crate::object::{value_of, wrap};
use crate::observe::{self, Binary};
use crate::tensor::PyTensor;
use pyo3::ffi;
use pyo3::prelude::*;
use std::cell::UnsafeCell;
use std::ffi::{c_int, c_void};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use wengert::graph::mode::may_call_out;
use wengert::{Tensor, batch, ops, profile};

/// Places in `PyTypeObject` and in the tables it points to, in words.
mod places {
    pub const DEALLOC: usize = 6;
    pub const NUMBER: usize = 12;
    pub const MAPPING: usize = 14;
    pub const SUBSCRIPT: usize = 1;
    pub const ADD: usize = 0;
    pub const SUBTRACT: usize = 1;
    pub const MULTIPLY: usize = 2;
    pub const INPLACE_ADD: usize = 19;
    pub const INPLACE_SUBTRACT: usize = 20;
    pub const INPLACE_MULTIPLY: usize = 21;
    pub const TRUE_DIVIDE: usize = 30;
    pub const INPLACE_TRUE_DIVIDE: usize = 31;
    pub const MATRIX_MULTIPLY: usize = 34;
}

/// Replaces a slot that lies in `place`, if it does; gives what it was.
///
/// # Safety
/// `place` can be read, and `new` is a function of the kind that the slot holds.
unsafe fn replace(
    class: *mut ffi::PyTypeObject,
    slot: c_int,
    place: *mut *mut c_void,
    new: *mut c_void,
) -> Option<*mut c_void> {
    // SAFETY: the class is complete; the place is checked before it is written.
    unsafe {
        let old = ffi::PyType_GetSlot(class, slot);
        if old.is_null() || place.read() != old {
            return None;
        }
        place.write(new);
        Some(old)
    }
}

/// Gives a class another destructor; returns the one it had.
///
/// # Safety
/// `new` frees the objects of the class. It is called for those of derived classes as well.
pub unsafe fn replace_destructor(
    class: *mut ffi::PyTypeObject,
    new: ffi::destructor,
) -> Option<ffi::destructor> {
    // SAFETY: a type object is larger than seven words, and the slot holds a destructor.
    unsafe {
        let place = class.cast::<*mut c_void>().add(places::DEALLOC);
        replace(class, ffi::Py_tp_dealloc, place, new as *mut _).map(|old| std::mem::transmute(old))
    }
}

/// An infix operator.
struct Infix {
    slot: c_int,
    place: usize,
    entry: ffi::binaryfunc,
    apply: Binary,
    /// With a number on the left.
    reflected: Binary,
}

const INFIX: [Infix; 5] = [
    Infix {
        slot: ffi::Py_nb_add,
        place: places::ADD,
        entry: infix::<0>,
        apply: ops::add,
        reflected: |number, x| ops::add(x, number),
    },
    Infix {
        slot: ffi::Py_nb_subtract,
        place: places::SUBTRACT,
        entry: infix::<1>,
        apply: ops::binary::difference,
        reflected: ops::binary::difference_from,
    },
    Infix {
        slot: ffi::Py_nb_multiply,
        place: places::MULTIPLY,
        entry: infix::<2>,
        apply: ops::mul,
        reflected: |number, x| ops::mul(x, number),
    },
    Infix {
        slot: ffi::Py_nb_true_divide,
        place: places::TRUE_DIVIDE,
        entry: infix::<3>,
        apply: ops::div,
        reflected: ops::binary::quotient_of,
    },
    Infix {
        slot: ffi::Py_nb_matrix_multiply,
        place: places::MATRIX_MULTIPLY,
        entry: infix::<4>,
        apply: ops::matmul::matmul,
        reflected: ops::matmul::matmul,
    },
];

/// An augmented assignment.
struct Augmented {
    slot: c_int,
    place: usize,
    entry: ffi::binaryfunc,
    row: &'static str,
}

const AUGMENTED: [Augmented; 4] = [
    Augmented {
        slot: ffi::Py_nb_inplace_add,
        place: places::INPLACE_ADD,
        entry: augmented::<0>,
        row: "add",
    },
    Augmented {
        slot: ffi::Py_nb_inplace_subtract,
        place: places::INPLACE_SUBTRACT,
        entry: augmented::<1>,
        row: "sub",
    },
    Augmented {
        slot: ffi::Py_nb_inplace_multiply,
        place: places::INPLACE_MULTIPLY,
        entry: augmented::<2>,
        row: "mul",
    },
    Augmented {
        slot: ffi::Py_nb_inplace_true_divide,
        place: places::INPLACE_TRUE_DIVIDE,
        entry: augmented::<3>,
        row: "div",
    },
];

/// What PyO3 made of each augmented assignment, and the number of its row.
static INHERITED_AUGMENTED: [(AtomicPtr<c_void>, AtomicUsize); AUGMENTED.len()] =
    [const { (AtomicPtr::new(null_mut()), AtomicUsize::new(0)) }; AUGMENTED.len()];

/// What PyO3 made of `x[key]`.
static SUBSCRIPT: AtomicPtr<c_void> = AtomicPtr::new(null_mut());

/// What PyO3 made of each infix operator.
static INHERITED: [AtomicPtr<c_void>; INFIX.len()] =
    [const { AtomicPtr::new(null_mut()) }; INFIX.len()];

/// Lets CPython find the entries below.
pub fn install(py: Python<'_>) -> PyResult<()> {
    install_shape(py)?;
    let class = py.get_type::<PyTensor>().as_type_ptr();
    // SAFETY: where the destructor lies in its place, a type object is as it always was, and the
    // table of number slots, which the class has, is where it always was. Each slot is checked before it
    // is replaced by a function of its kind, after what it was has been kept.
    unsafe {
        let words = class.cast::<*mut c_void>();
        let known =
            ffi::PyType_GetSlot(class, ffi::Py_tp_dealloc) == words.add(places::DEALLOC).read();
        let numbers = words.add(places::NUMBER).read().cast::<*mut c_void>();
        if !known || numbers.is_null() {
            return Ok(());
        }
        for (operator, inherited) in INFIX.iter().zip(&INHERITED) {
            let place = numbers.add(operator.place);
            inherited.store(ffi::PyType_GetSlot(class, operator.slot), Ordering::Relaxed);
            replace(class, operator.slot, place, operator.entry as *mut _);
        }
        for (assignment, (inherited, row)) in AUGMENTED.iter().zip(&INHERITED_AUGMENTED) {
            let place = numbers.add(assignment.place);
            row.store(bind::number(assignment.row), Ordering::Relaxed);
            inherited.store(ffi::PyType_GetSlot(class, assignment.slot), Ordering::Relaxed);
            replace(class, assignment.slot, place, assignment.entry as *mut _);
        }
        let mapping = words.add(places::MAPPING).read().cast::<*mut c_void>();
        if !mapping.is_null() {
            SUBSCRIPT.store(ffi::PyType_GetSlot(class, ffi::Py_mp_subscript), Ordering::Relaxed);
            let place = mapping.add(places::SUBSCRIPT);
            replace(class, ffi::Py_mp_subscript, place, subscript as *mut _);
        }
    }
    Ok(())
}

/// `x.shape`, which programs ask for more often than for anything else.
fn install_shape(py: Python<'_>) -> PyResult<()> {
    let class = py.get_type::<PyTensor>();
    // CPython keeps the definition for as long as the class lives.
    let definition = Box::leak(Box::new(ffi::PyGetSetDef {
        name: c"shape".as_ptr(),
        get: Some(shape),
        doc: c"Sizes, a tuple of ints.".as_ptr(),
        ..ffi::PyGetSetDef::default()
    }));
    // SAFETY: the definition is whole and lives for ever.
    let descriptor = unsafe {
        let made = ffi::PyDescr_NewGetSet(class.as_type_ptr(), definition);
        Bound::from_owned_ptr_or_err(py, made)?
    };
    class.setattr("shape", descriptor)
}

unsafe extern "C" fn shape(object: *mut ffi::PyObject, _: *mut c_void) -> *mut ffi::PyObject {
    // SAFETY: the descriptor has checked that this is a tensor, and holds the interpreter lock.
    unsafe {
        let py = Python::assume_attached();
        let object = Bound::ref_from_ptr(py, &object).cast_unchecked::<PyTensor>();
        returned(py, caught(|| PyTensor::shape(object)).map(Bound::into_any))
    }
}

/// Whether anybody wants to know of operations, or may meddle with their operands.
#[inline]
pub fn is_unusual() -> bool {
    profile::is_on() || batch::active() || may_call_out()
}

unsafe extern "C" fn infix<const N: usize>(
    left: *mut ffi::PyObject,
    right: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: CPython calls slots under the interpreter lock, with objects that live meanwhile. It
    // found this one in a class, where `install` put it after it had kept the one before.
    unsafe {
        let py = Python::assume_attached();
        if !is_unusual() {
            let a = Bound::ref_from_ptr(py, &left);
            let b = Bound::ref_from_ptr(py, &right);
            let made = match (small(py, a), small(py, b)) {
                (Some(a), Some(b)) => Some(apply(py, a.peek(), b.peek(), INFIX[N].apply)),
                (Some(a), None) => with_number(b, |b| apply(py, a.peek(), b, INFIX[N].apply)),
                (None, Some(b)) => with_number(a, |a| apply(py, a, b.peek(), INFIX[N].reflected)),
                (None, None) => None,
            };
            if let Some(made) = made {
                return made;
            }
        }
        let inherited = INHERITED[N].load(Ordering::Relaxed);
        std::mem::transmute::<*mut c_void, ffi::binaryfunc>(inherited)(left, right)
    }
}

unsafe extern "C" fn augmented<const N: usize>(
    target: *mut ffi::PyObject,
    other: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: as for `infix`.
    unsafe {
        let py = Python::assume_attached();
        let (inherited, row) = &INHERITED_AUGMENTED[N];
        if !is_unusual() {
            let object = Bound::ref_from_ptr(py, &target);
            let value = Bound::ref_from_ptr(py, &other);
            if let (Some(a), Some(b)) = (small(py, object), small(py, value)) {
                let row = row.load(Ordering::Relaxed);
                let lent = |t: &PyTensor| ops::Value::Lent(t.lend());
                let done = caught(|| bind::in_place_by(py, row, lent(a), lent(b)));
                return returned(py, done.map(|()| object.clone()));
            }
        }
        let inherited = inherited.load(Ordering::Relaxed);
        std::mem::transmute::<*mut c_void, ffi::binaryfunc>(inherited)(target, other)
    }
}

unsafe extern "C" fn subscript(
    object: *mut ffi::PyObject,
    key: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: as for `infix`.
    unsafe {
        let py = Python::assume_attached();
        if !is_unusual()
            && let Some(x) = value_of(py, Bound::ref_from_ptr(py, &object))
        {
            // A handle of our own: the bounds of a slice may be objects whose `__index__` makes the
            // object stand for another tensor.
            let x = x.tensor();
            let key = Bound::ref_from_ptr(py, &key);
            let made = caught(|| match index::plain(&x, key) {
                Some(y) => wrap(py, y.or_raise()?).map(|y| Some(y.into_any())),
                None => Ok(None),
            });
            if let Some(result) = made.transpose() {
                return returned(py, result);
            }
        }
        let inherited = SUBSCRIPT.load(Ordering::Relaxed);
        std::mem::transmute::<*mut c_void, ffi::binaryfunc>(inherited)(object, key)
    }
}

/// An operand that small operations may look at without a handle of their own: they keep the
/// interpreter lock, call no Python code, and drop no memory but what they made themselves, so that no
/// finaliser runs either.
#[inline]
fn small<'a>(py: Python<'_>, object: &'a Bound<'_, PyAny>) -> Option<&'a PyTensor> {
    value_of(py, object).filter(|t| t.is_small())
}

/// The result, or null with the exception set.
#[inline]
fn apply(py: Python<'_>, a: &Tensor, b: &Tensor, f: Binary) -> *mut ffi::PyObject {
    let made = guarded(|| f(a, b)).and_then(|y| {
        observe::made(&y, [a, b].into_iter());
        wrap(py, y)
    });
    returned(py, made.map(Bound::into_any))
}

/// Where the last Python number was a tensor, for the next one.
struct LastNumber(UnsafeCell<Option<Tensor>>);

// SAFETY: `with_number` looks inside under the interpreter lock only, and runs nothing meanwhile.
unsafe impl Sync for LastNumber {}

static LAST_NUMBER: LastNumber = LastNumber(UnsafeCell::new(None));

/// Runs a small operation with a Python number as a tensor; `None` if the object is none.
#[inline]
fn with_number<R>(object: &Bound<'_, PyAny>, run: impl FnOnce(&Tensor) -> R) -> Option<R> {
    let number = exact_number(object)?;
    // SAFETY: see the type.
    let used = unsafe { (*LAST_NUMBER.0.get()).take() };
    let wrapped = Tensor::wrapped_over(used, number).ok()?;
    let result = run(&wrapped);
    // SAFETY: as above. The number that may have come here meanwhile has no one to tell.
    drop(unsafe { (*LAST_NUMBER.0.get()).replace(wrapped) });
    Some(result)
}

/// What CPython expects of a function: an object, or null after an exception was set.
#[inline]
pub fn returned(py: Python<'_>, result: PyResult<Bound<'_, PyAny>>) -> *mut ffi::PyObject {
    match result {
        Ok(object) => object.into_ptr(),
        Err(error) => {
            error.restore(py);
            null_mut()
        }
    }
}
