//! Small value classes: `dtype`, `device`, `layout`, `memory_format`, `Size`.

use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyFloat, PyInt, PyString, PyTuple, PyType};
use wengert::DType;
use wengert::memory_format::MemoryFormat;

/// An element type; one object per type, compared by identity.
#[pyclass(name = "dtype", module = "wengert", frozen, eq, hash)]
#[derive(PartialEq, Eq, Hash)]
pub struct PyDType(pub DType);

#[pymethods]
impl PyDType {
    fn __repr__(&self) -> String {
        format!("torch.{}", self.0.name())
    }

    fn __reduce__(&self) -> &'static str {
        self.0.name()
    }

    /// Whether values are rounded reals.
    #[getter]
    fn is_floating_point(&self) -> bool {
        self.0.is_floating()
    }

    /// Whether values are complex; no such type exists yet.
    #[getter]
    fn is_complex(&self) -> bool {
        false
    }

    /// Whether values can be negative.
    #[getter]
    fn is_signed(&self) -> bool {
        self.0.is_signed()
    }

    /// Bytes per element.
    #[getter]
    fn itemsize(&self) -> usize {
        self.0.size()
    }
}

static DTYPES: PyOnceLock<Vec<Py<PyDType>>> = PyOnceLock::new();

/// The object of an element type.
pub fn dtype_object(py: Python<'_>, dtype: DType) -> PyResult<Py<PyDType>> {
    let all = DTYPES.get_or_try_init(py, || {
        DType::ALL.iter().map(|&d| Py::new(py, PyDType(d))).collect::<PyResult<Vec<_>>>()
    })?;
    Ok(all[dtype as usize].clone_ref(py))
}

/// The element type that an argument names; Python's own types stand for their usual ones.
pub fn extract_dtype(value: &Bound<'_, PyAny>) -> Option<DType> {
    if let Ok(d) = value.cast::<PyDType>() {
        return Some(d.get().0);
    }
    let class = value.cast::<PyType>().ok()?;
    let py = value.py();
    if class.is(py.get_type::<PyFloat>()) {
        Some(DType::Float64)
    } else if class.is(py.get_type::<PyInt>()) {
        Some(DType::Int64)
    } else if class.is(py.get_type::<PyBool>()) {
        Some(DType::Bool)
    } else {
        None
    }
}

/// The element type of one of the types of old (`LongTensor`), or of its name.
pub fn legacy_type(value: &Bound<'_, PyAny>) -> PyResult<DType> {
    let types = value.py().import("wengert._tensor_types")?;
    let dtype = if value.cast::<PyString>().is_ok() {
        types.getattr("dtype_of")?.call1((value,))?
    } else if value.is_instance(&types.getattr("tensortype")?)? {
        value.getattr("dtype")?
    } else {
        return Err(PyTypeError::new_err("type(): dtype must be a type, str, or dtype object"));
    };
    Ok(dtype.cast::<PyDType>()?.get().0)
}

/// A tensor made by the constructor of old.
pub fn legacy_new<'py>(
    py: Python<'py>,
    dtype: DType,
    args: &Bound<'py, PyTuple>,
) -> PyResult<Bound<'py, PyAny>> {
    let build = py.import("wengert._tensor_types")?.getattr("build")?;
    build.call1((dtype_object(py, dtype)?, args))
}

/// Where a tensor lives: always the CPU.
#[pyclass(name = "device", module = "wengert", frozen, eq, hash)]
#[derive(PartialEq, Eq, Hash)]
pub struct PyDevice;

#[pymethods]
impl PyDevice {
    /// `device('cpu')`; anything else does not exist.
    #[new]
    #[pyo3(signature = (r#type, index=None))]
    fn new(r#type: &Bound<'_, PyAny>, index: Option<i64>) -> PyResult<PyDevice> {
        if index.is_some_and(|i| i != 0) {
            return Err(PyRuntimeError::new_err("the CPU has index 0 only"));
        }
        check_device(r#type)?;
        Ok(PyDevice)
    }

    #[getter]
    fn r#type(&self) -> &'static str {
        "cpu"
    }

    #[getter]
    fn index(&self) -> Option<i64> {
        None
    }

    fn __repr__(&self) -> &'static str {
        "device(type='cpu')"
    }

    fn __str__(&self) -> &'static str {
        "cpu"
    }
}

/// Accepts the CPU by any of its names.
pub fn check_device(value: &Bound<'_, PyAny>) -> PyResult<()> {
    if value.is_none() || value.cast::<PyDevice>().is_ok() {
        return Ok(());
    }
    let Ok(name) = value.extract::<String>() else {
        return Err(PyTypeError::new_err(format!(
            "device(): argument 'type' must be str, not {}",
            value.get_type().name()?
        )));
    };
    if name == "cpu" || name == "cpu:0" {
        return Ok(());
    }
    Err(PyRuntimeError::new_err(format!(
        "wengert runs on the CPU only: there is no device '{name}' (use 'cpu')"
    )))
}

/// How elements are stored: always `strided`.
#[pyclass(name = "layout", module = "wengert", frozen, eq, hash)]
#[derive(PartialEq, Eq, Hash)]
pub struct PyLayout;

#[pymethods]
impl PyLayout {
    fn __repr__(&self) -> &'static str {
        "torch.strided"
    }

    fn __reduce__(&self) -> &'static str {
        "strided"
    }
}

/// The order of a result's axes in memory.
#[pyclass(name = "memory_format", module = "wengert", frozen, eq, hash)]
#[derive(PartialEq, Eq, Hash)]
pub struct PyMemoryFormat(pub MemoryFormat);

#[pymethods]
impl PyMemoryFormat {
    fn __repr__(&self) -> String {
        format!("torch.{}", self.0.name())
    }

    fn __reduce__(&self) -> &'static str {
        self.0.name()
    }
}

static SIZE: PyOnceLock<Py<PyType>> = PyOnceLock::new();

/// The class `Size`.
pub fn size_class(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    SIZE.import(py, "wengert._size", "Size")
}

/// A shape as `torch.Size`, a tuple that prints itself.
#[allow(unsafe_code)]
pub fn size<'py>(py: Python<'py>, shape: &[usize]) -> PyResult<Bound<'py, PyTuple>> {
    let class = size_class(py)?;
    // SAFETY: `class` is a subclass of tuple without a constructor of its own, so that allocating
    // it with room for the items and setting each item once is how a tuple is made.
    unsafe {
        let raw = ffi::PyType_GenericAlloc(class.as_ptr().cast(), shape.len() as isize);
        let tuple = Bound::from_owned_ptr_or_err(py, raw)?;
        for (i, &s) in shape.iter().enumerate() {
            let item = ffi::PyLong_FromSize_t(s);
            if item.is_null() || ffi::PyTuple_SetItem(tuple.as_ptr(), i as isize, item) != 0 {
                return Err(PyErr::fetch(py));
            }
        }
        Ok(tuple.cast_into_unchecked())
    }
}

/// Adds the classes and their instances to the module.
pub fn install(m: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = m.py();
    m.add_class::<PyDType>()?;
    m.add_class::<PyDevice>()?;
    m.add_class::<PyLayout>()?;
    m.add_class::<PyMemoryFormat>()?;
    for d in DType::ALL {
        m.add(d.name(), dtype_object(py, d)?)?;
    }
    for (alias, d) in [
        ("double", DType::Float64),
        ("float", DType::Float32),
        ("half", DType::Float16),
        ("long", DType::Int64),
        ("int", DType::Int32),
        ("short", DType::Int16),
    ] {
        m.add(alias, dtype_object(py, d)?)?;
    }
    m.add("strided", Py::new(py, PyLayout)?)?;
    for format in MemoryFormat::ALL {
        m.add(format.name(), Py::new(py, PyMemoryFormat(format))?)?;
    }
    m.add("Size", py.import("wengert._size")?.getattr("Size")?)
}
