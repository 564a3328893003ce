//! Attributes: shape, type, device and what follows from them.
//!
//! They look at the tensor without counting a handle where nothing else runs meanwhile. Complex
//! numbers, devices and layouts that do not exist here are answered for: programs ask.

use super::{PyTensor, wrap};
use crate::error::{OrRaise, guarded};
use crate::types::{PyDType, PyDevice, PyMemoryFormat, dtype_object, size};
use pyo3::exceptions::PyIndexError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use wengert::memory_format::MemoryFormat;
use wengert::{DType, batch, layout};

#[pymethods]
impl PyTensor {
    #[pyo3(signature = (dim=None))]
    fn size<'py>(slf: &Bound<'py, Self>, dim: Option<i64>) -> PyResult<Bound<'py, PyAny>> {
        let t = slf.get().tensor();
        match dim {
            None => Ok(size(slf.py(), t.shape())?.into_any()),
            Some(d) => {
                let d = layout::wrap_dim(d, t.ndim()).or_raise()?;
                let s = t.shape().get(d).copied().ok_or_else(|| {
                    PyIndexError::new_err("dimension specified as 0 but tensor has no dimensions")
                })?;
                Ok(s.into_pyobject(slf.py())?.into_any())
            }
        }
    }
    #[pyo3(signature = (dim=None))]
    fn stride<'py>(slf: &Bound<'py, Self>, dim: Option<i64>) -> PyResult<Bound<'py, PyAny>> {
        let t = slf.get().tensor();
        match dim {
            None => Ok(PyTuple::new(slf.py(), t.layout().strides())?.into_any()),
            Some(d) => {
                let d = layout::wrap_dim(d, t.ndim()).or_raise()?;
                let s = t.layout().strides().get(d).copied().ok_or_else(|| {
                    PyIndexError::new_err("dimension specified as 0 but tensor has no dimensions")
                })?;
                Ok(s.into_pyobject(slf.py())?.into_any())
            }
        }
    }
    #[getter]
    fn dtype(slf: &Bound<'_, Self>) -> PyResult<Py<PyDType>> {
        dtype_object(slf.py(), slf.get().tensor().dtype())
    }
    #[getter]
    fn device(&self) -> PyDevice {
        PyDevice
    }
    #[getter]
    fn layout<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.py().import("wengert._core")?.getattr("strided")
    }
    #[getter]
    fn is_cpu(&self) -> bool {
        true
    }
    #[getter]
    fn is_cuda(&self) -> bool {
        false
    }
    #[getter]
    fn ndim(&self) -> usize {
        self.look(|t| t.ndim())
    }
    fn dim(&self) -> usize {
        self.look(|t| t.ndim())
    }
    fn ndimension(&self) -> usize {
        self.look(|t| t.ndim())
    }
    fn is_signed(&self) -> bool {
        !self.look(|t| matches!(t.dtype(), DType::UInt8 | DType::Bool))
    }
    fn is_same_size(&self, other: &Bound<'_, PyTensor>) -> bool {
        self.look(|t| t.shape() == other.get().tensor().shape())
    }
    fn is_pinned(&self) -> bool {
        false
    }
    fn is_conj(&self) -> bool {
        false
    }
    fn is_neg(&self) -> bool {
        false
    }
    /// The tensor itself: its numbers are real.
    fn conj<'py>(slf: &Bound<'py, Self>) -> Bound<'py, Self> {
        slf.clone()
    }
    /// The tensor itself.
    fn resolve_conj<'py>(slf: &Bound<'py, Self>) -> Bound<'py, Self> {
        slf.clone()
    }
    /// The tensor itself.
    fn resolve_neg<'py>(slf: &Bound<'py, Self>) -> Bound<'py, Self> {
        slf.clone()
    }
    /// The tensor itself.
    #[getter]
    fn real<'py>(slf: &Bound<'py, Self>) -> Bound<'py, Self> {
        slf.clone()
    }
    fn numel(&self) -> usize {
        self.look(|t| t.numel())
    }
    fn nelement(&self) -> usize {
        self.look(|t| t.numel())
    }
    #[pyo3(signature = (*, memory_format=None))]
    fn is_contiguous(&self, memory_format: Option<&Bound<'_, PyMemoryFormat>>) -> bool {
        let format = memory_format.map_or(MemoryFormat::Contiguous, |f| f.get().0);
        format.fits(self.tensor().layout())
    }
    fn is_floating_point(&self) -> bool {
        self.look(|t| t.dtype().is_floating())
    }
    fn is_complex(&self) -> bool {
        false
    }
    #[getter(T)]
    fn reversed_axes<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyTensor>> {
        wrap(slf.py(), guarded(|| batch::reversed_axes(&slf.get().tensor()))?)
    }
    #[getter(mT)]
    fn matrix_transposed<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyTensor>> {
        wrap(slf.py(), guarded(|| batch::matrix_transposed(&slf.get().tensor()))?)
    }
    #[getter(mH)]
    fn matrix_adjoint<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyTensor>> {
        wrap(slf.py(), guarded(|| batch::adjoint(&slf.get().tensor(), "mH", false))?)
    }
    #[getter(H)]
    fn hermitian<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyTensor>> {
        wrap(slf.py(), guarded(|| batch::adjoint(&slf.get().tensor(), "H", true))?)
    }
}
