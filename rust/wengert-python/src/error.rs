//! From the engine's errors to Python exceptions: one table.
//!
//! Each exception inherits the builtin that Python users expect *and* the class PyTorch raises in
//! its place, so that `except` clauses of ported code keep working.

use pyo3::exceptions::*;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyTuple, PyType};
use wengert::{Error, Kind};

struct Classes {
    shape: Py<PyType>,
    dtype: Py<PyType>,
    index: Py<PyType>,
    value: Py<PyType>,
    type_: Py<PyType>,
    memory: Py<PyType>,
    overflow: Py<PyType>,
    zero_division: Py<PyType>,
    linalg: Py<PyType>,
}

static CLASSES: PyOnceLock<Classes> = PyOnceLock::new();

fn new_class(
    m: &Bound<'_, PyModule>,
    name: &str,
    doc: &str,
    bases: &[&Bound<'_, PyType>],
) -> PyResult<Py<PyType>> {
    let py = m.py();
    let members = PyDict::new(py);
    members.set_item("__doc__", doc)?;
    members.set_item("__module__", "wengert")?;
    let class = py.get_type::<PyType>().call1((name, PyTuple::new(py, bases)?, members))?;
    let class = class.cast_into::<PyType>()?.unbind();
    m.add(name, class.bind(py))?;
    Ok(class)
}

/// Makes the exception classes and adds them to the module.
pub fn install(m: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = m.py();
    let runtime = &py.get_type::<PyRuntimeError>();
    let classes = Classes {
        shape: new_class(
            m,
            "ShapeError",
            "Sizes do not fit together.",
            &[&py.get_type::<PyValueError>(), runtime],
        )?,
        dtype: new_class(
            m,
            "DTypeError",
            "An element type that the operation does not support.",
            &[&py.get_type::<PyTypeError>(), runtime],
        )?,
        index: new_class(
            m,
            "OutOfBoundsError",
            "A position outside a tensor.",
            &[&py.get_type::<PyIndexError>(), runtime],
        )?,
        value: new_class(
            m,
            "ArgumentError",
            "An argument with a value that makes no sense.",
            &[&py.get_type::<PyValueError>(), runtime],
        )?,
        type_: py.get_type::<PyTypeError>().unbind(),
        memory: new_class(
            m,
            "OutOfMemoryError",
            "Memory could not be had.",
            &[&py.get_type::<PyMemoryError>(), runtime],
        )?,
        overflow: new_class(
            m,
            "SizeOverflowError",
            "A size does not fit the address space.",
            &[&py.get_type::<PyOverflowError>(), &py.get_type::<PyValueError>(), runtime],
        )?,
        zero_division: new_class(
            m,
            "IntegerDivisionError",
            "A whole number was divided by zero.",
            &[&py.get_type::<PyZeroDivisionError>(), runtime],
        )?,
        linalg: new_class(
            m,
            "LinAlgError",
            "A matrix that has not what was asked for: singular, not positive definite, not finite.",
            &[&py.get_type::<PyValueError>(), runtime],
        )?,
    };
    // The module is initialised once per process; a second initialisation keeps the first classes.
    let _ = CLASSES.set(py, classes);
    Ok(())
}

/// The Python exception for an engine error.
#[cold]
pub fn to_py(mut error: Error) -> PyErr {
    if let Some(payload) = error.take_foreign()
        && let Ok(original) = payload.downcast::<PyErr>()
    {
        return *original;
    }
    let text = error.to_string();
    Python::attach(|py| {
        let Some(classes) = CLASSES.get(py) else { return PyRuntimeError::new_err(text) };
        let class = match error.kind() {
            Kind::Shape => &classes.shape,
            Kind::DType => &classes.dtype,
            Kind::Index => &classes.index,
            Kind::Value => &classes.value,
            Kind::Type => &classes.type_,
            Kind::Memory => &classes.memory,
            Kind::Overflow => &classes.overflow,
            Kind::ZeroDivision => &classes.zero_division,
            Kind::LinAlg => &classes.linalg,
            Kind::Unsupported => return PyNotImplementedError::new_err(text),
            _ => return PyRuntimeError::new_err(text),
        };
        PyErr::from_type(class.bind(py).clone(), text)
    })
}

/// A Python exception on its way through the engine.
#[cold]
pub fn from_py(error: PyErr) -> Error {
    let text = error.to_string();
    Error::foreign(Box::new(error), text)
}

/// Short for `map_err(to_py)`.
pub trait OrRaise<T> {
    /// The value, or the exception.
    fn or_raise(self) -> PyResult<T>;
}

impl<T> OrRaise<T> for wengert::Result<T> {
    #[inline]
    fn or_raise(self) -> PyResult<T> {
        self.map_err(to_py)
    }
}

/// Runs code that calls the engine; a panic in it, which is a defect, becomes an ordinary
/// exception.
#[inline]
pub fn caught<T>(work: impl FnOnce() -> PyResult<T>) -> PyResult<T> {
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)) {
        Ok(result) => result,
        Err(payload) => Err(internal(payload)),
    }
}

/// [`caught`] for engine code.
#[inline]
pub fn guarded<T>(work: impl FnOnce() -> wengert::Result<T>) -> PyResult<T> {
    caught(|| work().or_raise())
}

#[cold]
fn internal(payload: Box<dyn std::any::Any + Send>) -> PyErr {
    let payload = match payload.downcast::<Error>() {
        Ok(error) => return to_py(*error),
        Err(other) => other,
    };
    let text = payload
        .downcast_ref::<&str>()
        .map(|s| (*s).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_default();
    PyRuntimeError::new_err(format!("internal error of wengert, please report it: {text}"))
}
