//! Memory: where the elements lie, how many bytes they take, and putting other memory underneath.

use super::PyTensor;
use crate::error::OrRaise;
use crate::resize;
use crate::types::PyMemoryFormat;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

#[pymethods]
impl PyTensor {
    fn storage_offset(&self) -> usize {
        self.look(|t| t.layout().offset())
    }
    fn data_ptr(&self) -> PyResult<usize> {
        self.look(|t| t.check_readable().map(|()| t.data_ptr() as usize)).or_raise()
    }
    fn element_size(&self) -> usize {
        self.look(|t| t.dtype().size())
    }
    #[getter]
    fn itemsize(&self) -> usize {
        self.look(|t| t.dtype().size())
    }
    #[getter]
    fn nbytes(&self) -> usize {
        self.tensor().dtype().size() * self.look(|t| t.numel())
    }

    /// Other sizes in place: the elements in memory order, and zeros behind them. Refused where the
    /// memory would have to grow but is shared.
    #[pyo3(signature = (*sizes, memory_format=None))]
    fn resize_<'py>(
        slf: &Bound<'py, Self>,
        sizes: &Bound<'py, PyTuple>,
        memory_format: Option<&Bound<'py, PyMemoryFormat>>,
    ) -> PyResult<Bound<'py, PyTensor>> {
        let _ = memory_format;
        resize::resize(slf, sizes)?;
        Ok(slf.clone())
    }
    /// The sizes of another tensor in place.
    #[pyo3(signature = (the_template, *, memory_format=None))]
    fn resize_as_<'py>(
        slf: &Bound<'py, Self>,
        the_template: &Bound<'py, PyTensor>,
        memory_format: Option<&Bound<'py, PyMemoryFormat>>,
    ) -> PyResult<Bound<'py, PyTensor>> {
        let _ = memory_format;
        resize::resize_as(slf, &the_template.get().tensor())?;
        Ok(slf.clone())
    }
    /// The memory of another tensor from now on. Refused while this tensor's own is shared.
    #[pyo3(signature = (source=None, storage_offset=None, size=None, stride=None))]
    fn set_<'py>(
        slf: &Bound<'py, Self>,
        source: Option<&Bound<'py, PyTensor>>,
        storage_offset: Option<usize>,
        size: Option<Vec<usize>>,
        stride: Option<Vec<isize>>,
    ) -> PyResult<Bound<'py, PyTensor>> {
        resize::set(slf, source, storage_offset, size, stride)?;
        Ok(slf.clone())
    }
    fn is_set_to(&self, tensor: &Bound<'_, PyTensor>) -> bool {
        resize::is_set_to(&self.tensor(), &tensor.get().tensor())
    }
}
