//! Small questions about tensors as functions, and tensors handed over by DLPack.
//!
//! DLPack goes through NumPy, which shares the memory both ways and knows the protocol's versions. A
//! read-only array gives a read-only tensor.

use crate::data;
use crate::error::OrRaise;
use crate::tensor::PyTensor;
use crate::{numpy, types};
use pyo3::exceptions::*;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use wengert::Scalar;

/// Whether a tensor has a floating-point type.
///
/// Examples
/// --------
/// >>> import wengert
/// >>> wengert.is_floating_point(wengert.ones(2))
/// True
#[pyfunction]
fn is_floating_point(input: &Bound<'_, PyTensor>) -> bool {
    input.get().tensor().dtype().is_floating()
}

/// Whether a tensor has a complex type. None has.
#[pyfunction]
fn is_complex(input: &Bound<'_, PyTensor>) -> bool {
    let _ = input;
    false
}

/// Number of elements.
///
/// Examples
/// --------
/// >>> import wengert
/// >>> wengert.numel(wengert.ones(2, 3))
/// 6
#[pyfunction]
fn numel(input: &Bound<'_, PyTensor>) -> usize {
    input.get().tensor().numel()
}

/// Whether the only element of a tensor is not zero.
///
/// Examples
/// --------
/// >>> import wengert
/// >>> wengert.is_nonzero(wengert.tensor([2.0]))
/// True
#[pyfunction]
pub fn is_nonzero(input: &Bound<'_, PyTensor>) -> PyResult<bool> {
    let t = input.get().tensor();
    match t.numel() {
        0 => Err(PyRuntimeError::new_err("Boolean value of Tensor with no values is ambiguous")),
        1 => Ok(match t.item().or_raise()? {
            Scalar::Bool(b) => b,
            Scalar::Int(i) => i != 0,
            Scalar::Float(x) => x != 0.0,
        }),
        _ => Err(PyRuntimeError::new_err(
            "Boolean value of Tensor with more than one value is ambiguous",
        )),
    }
}

/// `Tensor.new_tensor`: a copy of any data, by default of the tensor's type.
pub fn new_tensor<'py>(
    like: &Bound<'py, PyTensor>,
    data: &Bound<'py, PyAny>,
    dtype: Option<&Bound<'py, PyAny>>,
    device: Option<&Bound<'py, PyAny>>,
    requires_grad: bool,
) -> PyResult<Bound<'py, PyTensor>> {
    let own = types::dtype_object(like.py(), like.get().tensor().dtype())?;
    let dtype = dtype.unwrap_or(own.bind(like.py()).as_any());
    data::tensor(data, Some(dtype), device, requires_grad, false)
}

/// `Tensor.__dlpack__`.
pub fn dlpack<'py>(
    tensor: &Bound<'py, PyTensor>,
    kwargs: Option<&Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyAny>> {
    if tensor.get().tensor().requires_grad() {
        return Err(PyBufferError::new_err(
            "Can't export tensors that require gradient, use tensor.detach()",
        ));
    }
    numpy::to_numpy(tensor, false)?.call_method("__dlpack__", (), kwargs)
}

/// `Tensor.__dlpack_device__`: the CPU.
pub fn dlpack_device(py: Python<'_>) -> PyResult<Bound<'_, PyTuple>> {
    PyTuple::new(py, [1, 0])
}

/// `from_dlpack(ext_tensor)`: a tensor over the memory of another library's array.
///
/// Parameters
/// ----------
/// ext_tensor : object
///     Anything with `__dlpack__`.
///
/// Returns
/// -------
/// Tensor
///     Shares memory with the object; read-only if the object is.
///
/// Examples
/// --------
/// >>> import numpy, wengert
/// >>> a = numpy.zeros(2)
/// >>> wengert.from_dlpack(a)[0] = 3.0
/// >>> a.tolist()
/// [3.0, 0.0]
#[pyfunction]
fn from_dlpack<'py>(ext_tensor: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyTensor>> {
    let array = ext_tensor.py().import("numpy")?.call_method1("from_dlpack", (ext_tensor,))?;
    numpy::from_numpy(&array)
}

/// Adds the functions to the module.
pub fn install(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(is_floating_point, m)?)?;
    m.add_function(wrap_pyfunction!(is_complex, m)?)?;
    m.add_function(wrap_pyfunction!(numel, m)?)?;
    m.add_function(wrap_pyfunction!(is_nonzero, m)?)?;
    m.add_function(wrap_pyfunction!(from_dlpack, m)?)
}
