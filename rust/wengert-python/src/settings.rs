//! Process-wide settings and meters: threads, printing, default type, memory.

use crate::error::OrRaise;
use crate::types::{PyDType, dtype_object, extract_dtype};
use pyo3::exceptions::*;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use wengert::format::{self, Change};
use wengert::kernels::threads;
use wengert::{DType, dtype, graph};

/// Sets how many threads kernels may use. Results do not depend on it.
///
/// Raises
/// ------
/// ValueError
///     If the number is not positive or above 1024.
#[pyfunction]
fn set_num_threads(num: i64) -> PyResult<()> {
    threads::set_num_threads(num.max(0) as usize).or_raise()
}

/// How many threads kernels may use.
#[pyfunction]
fn get_num_threads() -> usize {
    threads::num_threads()
}

/// Sets the floating type of tensors made from Python floats.
#[pyfunction]
fn set_default_dtype(d: &Bound<'_, PyAny>) -> PyResult<()> {
    match extract_dtype(d) {
        Some(t) if t.is_floating() => {
            dtype::set_default_float(t);
            Ok(())
        }
        Some(t) => Err(PyTypeError::new_err(format!(
            "only floating-point types are supported as the default type, got {t}"
        ))),
        None => Err(PyTypeError::new_err("invalid dtype object")),
    }
}

/// The floating type of tensors made from Python floats.
#[pyfunction]
fn get_default_dtype(py: Python<'_>) -> PyResult<Py<PyDType>> {
    dtype_object(py, dtype::default_float())
}

/// Sets how tensors are printed; what is not given stays as it is.
///
/// Parameters
/// ----------
/// precision : int, optional
///     Digits after the point.
/// threshold : int or float, optional
///     Elements above which only the edges are printed.
/// edgeitems : int, optional
///     How many elements an edge has.
/// linewidth : int, optional
///     Characters per line.
/// profile : {'default', 'short', 'full'}, optional
///     Values for all of these.
/// sci_mode : bool, optional
///     Scientific notation always or never; by default where values need it.
#[pyfunction]
#[pyo3(signature = (precision=None, threshold=None, edgeitems=None, linewidth=None, profile=None, sci_mode=None))]
fn set_printoptions(
    precision: Option<i64>,
    threshold: Option<f64>,
    edgeitems: Option<i64>,
    linewidth: Option<i64>,
    profile: Option<&str>,
    sci_mode: Option<bool>,
) -> PyResult<()> {
    let profile = profile.map(|p| p.parse()).transpose().or_raise()?;
    format::set_printoptions(&Change {
        profile,
        precision,
        threshold,
        edgeitems,
        linewidth,
        sci_mode,
    })
    .or_raise()
}

/// How tensors are printed, as a dict.
#[pyfunction]
fn get_printoptions(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let o = format::printoptions();
    let d = PyDict::new(py);
    d.set_item("precision", o.precision)?;
    if o.threshold.is_finite() {
        d.set_item("threshold", o.threshold as i64)?;
    } else {
        d.set_item("threshold", o.threshold)?;
    }
    d.set_item("edgeitems", o.edgeitems)?;
    d.set_item("linewidth", o.linewidth)?;
    d.set_item("sci_mode", o.sci_mode)?;
    Ok(d)
}

/// The type that results of operations on the two types have.
#[pyfunction]
fn promote_types(
    py: Python<'_>,
    type1: &Bound<'_, PyAny>,
    type2: &Bound<'_, PyAny>,
) -> PyResult<Py<PyDType>> {
    let (a, b) = (wanted(type1)?, wanted(type2)?);
    dtype_object(py, a.promote(b))
}

/// Whether a result of type `from_` may be stored in a tensor of type `to`.
#[pyfunction]
fn can_cast(from_: &Bound<'_, PyAny>, to: &Bound<'_, PyAny>) -> PyResult<bool> {
    Ok(wanted(from_)?.can_cast(wanted(to)?))
}

/// The type of the result of an operation on two tensors or numbers.
#[pyfunction]
fn result_type(
    py: Python<'_>,
    tensor1: &Bound<'_, PyAny>,
    tensor2: &Bound<'_, PyAny>,
) -> PyResult<Py<PyDType>> {
    let mut result = dtype::ResultType::default();
    for value in [tensor1, tensor2] {
        if let Ok(t) = value.cast::<crate::tensor::PyTensor>() {
            let t = t.get().tensor();
            result.tensor(t.dtype(), t.ndim());
        } else if let Some(n) = crate::args::number(value)? {
            result.scalar(n);
        } else {
            return Err(PyTypeError::new_err(format!(
                "result_type(): argument must be Tensor or Number, not {}",
                value.get_type().name()?
            )));
        }
    }
    dtype_object(py, result.finish())
}

fn wanted(value: &Bound<'_, PyAny>) -> PyResult<DType> {
    extract_dtype(value).ok_or_else(|| PyTypeError::new_err("argument must be torch.dtype"))
}

/// Whether an object is a tensor.
#[pyfunction]
fn is_tensor(obj: &Bound<'_, PyAny>) -> bool {
    obj.cast::<crate::tensor::PyTensor>().is_ok()
}

/// Number of graph nodes alive in the process.
#[pyfunction]
fn live_nodes() -> usize {
    graph::live_nodes()
}

/// The memory of tensors, in bytes and blocks.
///
/// Returns
/// -------
/// dict
///     `allocated_bytes` and `allocated_blocks` in use, their peak `peak_allocated_bytes`,
///     `cached_bytes` kept for later use, and the number of `system_allocations`.
///
/// Examples
/// --------
/// >>> import wengert
/// >>> before = wengert.memory_stats()["allocated_bytes"]
/// >>> x = wengert.zeros(1000)
/// >>> wengert.memory_stats()["allocated_bytes"] - before >= x.nbytes
/// True
#[pyfunction]
fn memory_stats(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let s = wengert::alloc::memory_stats();
    let d = PyDict::new(py);
    d.set_item("allocated_bytes", s.allocated_bytes)?;
    d.set_item("allocated_blocks", s.allocated_blocks)?;
    d.set_item("cached_bytes", s.cached_bytes)?;
    d.set_item("peak_allocated_bytes", s.peak_allocated_bytes)?;
    d.set_item("system_allocations", s.system_allocations)?;
    Ok(d)
}

/// Gives all idle buffers back to the system.
#[pyfunction]
fn empty_cache() {
    wengert::alloc::empty_cache();
}

/// Adds the functions to the module.
pub fn install(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(set_num_threads, m)?)?;
    m.add_function(wrap_pyfunction!(get_num_threads, m)?)?;
    m.add_function(wrap_pyfunction!(set_default_dtype, m)?)?;
    m.add_function(wrap_pyfunction!(get_default_dtype, m)?)?;
    m.add_function(wrap_pyfunction!(set_printoptions, m)?)?;
    m.add_function(wrap_pyfunction!(get_printoptions, m)?)?;
    m.add_function(wrap_pyfunction!(promote_types, m)?)?;
    m.add_function(wrap_pyfunction!(can_cast, m)?)?;
    m.add_function(wrap_pyfunction!(result_type, m)?)?;
    m.add_function(wrap_pyfunction!(is_tensor, m)?)?;
    m.add_function(wrap_pyfunction!(live_nodes, m)?)?;
    m.add_function(wrap_pyfunction!(memory_stats, m)?)?;
    m.add_function(wrap_pyfunction!(empty_cache, m)?)
}
