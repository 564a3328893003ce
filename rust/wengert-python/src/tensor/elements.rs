//! Elements: a tensor as a container, which has a length, is iterated over, indexed and searched; and
//! the choice between its elements and others.

use super::{PyTensor, operand, wrap};
use crate::error::{OrRaise, guarded};
use crate::{index, observe};
use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::PyList;
use wengert::{batch, ops};

#[pymethods]
impl PyTensor {
    fn __len__(slf: &Bound<'_, Self>) -> PyResult<usize> {
        slf.get()
            .tensor()
            .shape()
            .first()
            .copied()
            .ok_or_else(|| PyTypeError::new_err("len() of a 0-d tensor"))
    }
    fn __iter__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let t = slf.get().tensor();
        if t.ndim() == 0 {
            return Err(PyTypeError::new_err("iteration over a 0-d tensor"));
        }
        let parts = guarded(|| batch::slices(&t))?;
        let list = PyList::empty(slf.py());
        for part in parts {
            list.append(wrap(slf.py(), part)?)?;
        }
        Ok(list.try_iter()?.into_any())
    }
    fn __reversed__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyTensor>> {
        let t = slf.get().tensor();
        if t.ndim() == 0 {
            return Ok(slf.clone());
        }
        wrap(slf.py(), guarded(|| batch::flipped(&t))?)
    }
    fn __getitem__<'py>(
        slf: &Bound<'py, Self>,
        key: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyTensor>> {
        let _span = observe::protocol("aten::__getitem__", &[slf]);
        index::get(slf, key)
    }
    fn __setitem__(
        slf: &Bound<'_, Self>,
        key: &Bound<'_, PyAny>,
        value: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let _span = observe::protocol("aten::__setitem__", &[slf, value]);
        index::set(slf, key, value)
    }
    fn __contains__(slf: &Bound<'_, Self>, value: &Bound<'_, PyAny>) -> PyResult<bool> {
        let Some(value) = operand(value)? else {
            return Err(PyRuntimeError::new_err(
                "Tensor.__contains__ only supports Tensor or scalar values",
            ));
        };
        slf.get().tensor().check_readable().or_raise()?;
        let hits = ops::compare::eq(&slf.get().tensor().detach(), &value.detach()).or_raise()?;
        ops::reduce::any(&hits).or_raise()
    }

    /// The elements of this tensor where the condition holds, else those of the other.
    fn r#where<'py>(
        slf: &Bound<'py, Self>,
        condition: &Bound<'py, Self>,
        other: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let condition = condition.get().tensor();
        let Some(other) = operand(other)? else {
            return Err(PyTypeError::new_err(
                "where(): argument 'other' must be Tensor or a number",
            ));
        };
        let chosen = guarded(|| batch::chosen(&condition, &slf.get().tensor(), &other))?;
        Ok(wrap(slf.py(), chosen)?.into_any())
    }
}
