//! `resize_`, `resize_as_` and `set_`: another tensor takes the object's place.

use crate::error::OrRaise;
use crate::tensor::PyTensor;
use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use wengert::Tensor;
use wengert::layout::Layout;

/// Handles to an object's tensor while one of these functions runs: the object's and our own.
const HANDLES: usize = 2;

/// Sizes given as one sequence or as positional arguments.
fn sizes(given: &Bound<'_, PyTuple>) -> PyResult<Vec<usize>> {
    let sizes: Vec<i64> = match given.len() {
        1 if given.get_item(0)?.extract::<i64>().is_err() => given.get_item(0)?.extract()?,
        _ => given.extract()?,
    };
    let size = |s: i64| {
        usize::try_from(s).map_err(|_| {
            PyRuntimeError::new_err(format!("resize_: sizes must not be negative, got {s}"))
        })
    };
    sizes.into_iter().map(size).collect()
}

/// `Tensor.resize_(*sizes)`.
pub fn resize(slf: &Bound<'_, PyTensor>, given: &Bound<'_, PyTuple>) -> PyResult<()> {
    let shape = sizes(given).map_err(|e| match e.is_instance_of::<PyRuntimeError>(slf.py()) {
        true => e,
        false => PyTypeError::new_err(format!("resize_(): sizes must be ints ({e})")),
    })?;
    crate::vmap::check_plain(&slf.get().tensor(), "resize_")?;
    let new = slf.get().tensor().resized(&shape, HANDLES).or_raise()?;
    slf.get().replace(slf.py(), new);
    Ok(())
}

/// `Tensor.resize_as_(other)`.
pub fn resize_as(slf: &Bound<'_, PyTensor>, other: &Tensor) -> PyResult<()> {
    crate::vmap::check_plain(&slf.get().tensor(), "resize_")?;
    let new = slf.get().tensor().resized(other.shape(), HANDLES).or_raise()?;
    slf.get().replace(slf.py(), new);
    Ok(())
}

/// `Tensor.set_(source, storage_offset, size, stride)`.
pub fn set(
    slf: &Bound<'_, PyTensor>,
    source: Option<&Bound<'_, PyTensor>>,
    offset: Option<usize>,
    size: Option<Vec<usize>>,
    stride: Option<Vec<isize>>,
) -> PyResult<()> {
    let target = slf.get().tensor();
    crate::vmap::check_plain(&target, "set_")?;
    if let Some(source) = source {
        crate::vmap::check_plain(&source.get().tensor(), "set_")?;
    }
    let source = match source {
        Some(source) => source.get().tensor(),
        None => Tensor::zeros(&[0], target.dtype()).or_raise()?,
    };
    let layout = match (size, offset) {
        (None, None) => source.layout().clone(),
        (size, offset) => {
            let shape = size.unwrap_or_else(|| source.shape().to_vec());
            let strides = match stride {
                Some(stride) => stride,
                None => wengert::layout::contiguous_strides(&shape).to_vec(),
            };
            if strides.len() != shape.len() {
                return Err(PyRuntimeError::new_err(format!(
                    "set_: mismatch in length of strides and shape: {strides:?}, {shape:?}"
                )));
            }
            let item = source.dtype().size();
            let capacity = source.storage().bytes() / item;
            Layout::check_bounds("set_", &shape, &strides, offset.unwrap_or(0), capacity, item)
                .or_raise()?
        }
    };
    let new = if target.requires_grad() && !wengert::graph::is_grad_enabled() {
        // As `x.data = ...`: the leaf stays one.
        target.set_data(&source, layout).or_raise()?
    } else {
        target.set_to(&source, layout, HANDLES).or_raise()?
    };
    slf.get().replace(slf.py(), new);
    Ok(())
}

/// `Tensor.is_set_to(other)`: the same memory in the same layout.
pub fn is_set_to(a: &Tensor, b: &Tensor) -> bool {
    let (l, m) = (a.layout(), b.layout());
    a.storage().same(b.storage())
        && l.offset() == m.offset()
        && l.shape() == m.shape()
        && l.strides() == m.strides()
}
