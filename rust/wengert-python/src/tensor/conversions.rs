//! Conversions: to Python's numbers and lists, to NumPy, DLPack and other types, copies and pickles.
//!
//! A Python number has left the graph: `float(x)` of a tensor that requires grad says so in a warning.

use super::{PyTensor, scalar_object, wrap};
use crate::error::{OrRaise, guarded};
use crate::types::{extract_dtype, legacy_new, legacy_type};
use crate::{data, exchange, numpy, subclass, teach, vmap};
use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyComplex, PyDict, PyString, PyTuple};
use wengert::{Scalar, batch};

/// The one element; `what` the program asked for decides whether it is warned.
fn number_of(slf: &Bound<'_, PyTensor>, what: &str) -> PyResult<Scalar> {
    let t = slf.get().tensor();
    if t.requires_grad() && what != "index" {
        teach::warn_detached(slf.py(), &t)?;
    }
    t.item().or_raise()
}

#[pymethods]
impl PyTensor {
    fn __bool__(slf: &Bound<'_, Self>) -> PyResult<bool> {
        let t = slf.get().tensor();
        vmap::check_control_flow(&t)?;
        match t.numel() {
            1 => Ok(t.item().or_raise()?.to_bool()),
            0 => {
                Err(PyRuntimeError::new_err("Boolean value of Tensor with no values is ambiguous"))
            }
            _ => Err(PyRuntimeError::new_err(
                "Boolean value of Tensor with more than one value is ambiguous",
            )),
        }
    }
    fn __float__(slf: &Bound<'_, Self>) -> PyResult<f64> {
        Ok(number_of(slf, "float")?.to_f64())
    }
    fn __int__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        match number_of(slf, "int")? {
            Scalar::Float(x) => x.into_pyobject(slf.py())?.call_method0("__int__"),
            other => scalar_object(slf.py(), Scalar::Int(other.to_i64())),
        }
    }
    fn __index__(slf: &Bound<'_, Self>) -> PyResult<i64> {
        let t = slf.get().tensor();
        if t.numel() != 1 || !t.dtype().is_integral() {
            return Err(PyTypeError::new_err(
                "only integer tensors of a single element can be converted to an index",
            ));
        }
        Ok(number_of(slf, "index")?.to_i64())
    }
    fn __complex__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let x = number_of(slf, "complex")?.to_f64();
        Ok(PyComplex::from_doubles(slf.py(), x, 0.0).into_any())
    }
    fn item<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        scalar_object(slf.py(), slf.get().tensor().item().or_raise()?)
    }
    fn tolist<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        data::to_list(slf.py(), &slf.get().tensor())
    }

    // Types. ---------------------------------------------------------------------------------

    /// A tensor of this one's type by the constructor of old: of sizes, or of data.
    #[pyo3(name = "new", signature = (*args))]
    fn legacy_new<'py>(
        slf: &Bound<'py, Self>,
        args: &Bound<'py, PyTuple>,
    ) -> PyResult<Bound<'py, PyAny>> {
        legacy_new(slf.py(), slf.get().tensor().dtype(), args)
    }
    #[pyo3(signature = (dtype=None))]
    fn r#type<'py>(
        slf: &Bound<'py, Self>,
        dtype: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        match dtype {
            None => {
                let name = slf.get().tensor().dtype().scalar_type_name();
                Ok(PyString::new(slf.py(), &format!("torch.{name}Tensor")).into_any())
            }
            Some(d) => match extract_dtype(d) {
                Some(d) => {
                    let converted = guarded(|| batch::converted(&slf.get().tensor(), d))?;
                    Ok(wrap(slf.py(), converted)?.into_any())
                }
                None => {
                    let d = legacy_type(d)?;
                    let converted = guarded(|| batch::converted(&slf.get().tensor(), d))?;
                    Ok(wrap(slf.py(), converted)?.into_any())
                }
            },
        }
    }
    #[pyo3(signature = (device=None))]
    fn cpu<'py>(
        slf: &Bound<'py, Self>,
        device: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyTensor>> {
        let _ = device;
        Ok(slf.clone())
    }

    // NumPy. ---------------------------------------------------------------------------------

    #[classattr]
    fn __array_priority__() -> i64 {
        1000
    }
    #[pyo3(signature = (*, force=false))]
    fn numpy<'py>(slf: &Bound<'py, Self>, force: bool) -> PyResult<Bound<'py, PyAny>> {
        numpy::to_numpy(slf, force)
    }
    #[pyo3(signature = (dtype=None, copy=None))]
    fn __array__<'py>(
        slf: &Bound<'py, Self>,
        dtype: Option<&Bound<'py, PyAny>>,
        copy: Option<bool>,
    ) -> PyResult<Bound<'py, PyAny>> {
        numpy::array_protocol(slf, dtype, copy)
    }
    #[allow(unsafe_code)]
    unsafe fn __getbuffer__(
        slf: Bound<'_, Self>,
        view: *mut ffi::Py_buffer,
        flags: i32,
    ) -> PyResult<()> {
        // SAFETY: CPython passes a buffer structure to fill.
        unsafe { numpy::fill_buffer(slf, view, flags) }
    }
    #[allow(unsafe_code)]
    unsafe fn __releasebuffer__(&self, view: *mut ffi::Py_buffer) {
        // SAFETY: `view` was filled by `fill_buffer`.
        unsafe { numpy::release_buffer(view) }
    }

    #[pyo3(signature = (**kwargs))]
    fn __dlpack__<'py>(
        slf: &Bound<'py, Self>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        exchange::dlpack(slf, kwargs)
    }
    fn __dlpack_device__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyTuple>> {
        exchange::dlpack_device(slf.py())
    }
    #[pyo3(signature = (data, *, dtype=None, device=None, requires_grad=false))]
    fn new_tensor<'py>(
        slf: &Bound<'py, Self>,
        data: &Bound<'py, PyAny>,
        dtype: Option<&Bound<'py, PyAny>>,
        device: Option<&Bound<'py, PyAny>>,
        requires_grad: bool,
    ) -> PyResult<Bound<'py, PyTensor>> {
        exchange::new_tensor(slf, data, dtype, device, requires_grad)
    }
    fn is_nonzero(slf: &Bound<'_, Self>) -> PyResult<bool> {
        exchange::is_nonzero(slf)
    }

    // Copies. --------------------------------------------------------------------------------

    fn __copy__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyTensor>> {
        subclass::shallow_copy(slf)
    }

    fn __deepcopy__<'py>(
        slf: &Bound<'py, Self>,
        memo: &Bound<'py, PyDict>,
    ) -> PyResult<Bound<'py, PyTensor>> {
        data::deepcopy(slf, memo)
    }
    fn __reduce_ex__<'py>(slf: &Bound<'py, Self>, _protocol: i64) -> PyResult<Bound<'py, PyTuple>> {
        data::reduce(slf)
    }
}
