//! Forward mode for Python: what `wengert.autograd.forward_ad` and `wengert.func` are made of.

use crate::error::{OrRaise, guarded};
use crate::tensor::{PyTensor, wrap};
use pyo3::prelude::*;
use wengert::batch;
use wengert::graph::forward;

/// Opens a level of forward mode on this thread and gives its number.
#[pyfunction]
pub fn _forward_enter() -> usize {
    forward::enter()
}

/// Closes the innermost level.
#[pyfunction]
pub fn _forward_exit(level: usize) -> PyResult<()> {
    forward::exit(level).or_raise()
}

/// A tensor over the memory of `tensor`, with a tangent.
#[pyfunction]
pub fn _make_dual<'py>(
    py: Python<'py>,
    tensor: &Bound<'py, PyTensor>,
    tangent: &Bound<'py, PyTensor>,
    level: usize,
) -> PyResult<Bound<'py, PyTensor>> {
    let (primal, tangent) = (tensor.get().tensor(), tangent.get().tensor());
    wrap(py, guarded(|| batch::make_dual(&primal, &tangent, level))?)
}

/// The tensor without its tangent, and the tangent.
#[pyfunction]
#[allow(clippy::type_complexity)]
pub fn _unpack_dual<'py>(
    py: Python<'py>,
    tensor: &Bound<'py, PyTensor>,
    level: usize,
) -> PyResult<(Bound<'py, PyTensor>, Option<Bound<'py, PyTensor>>)> {
    let dual = tensor.get().tensor();
    let (primal, tangent) = guarded(|| batch::unpack_dual(&dual, level))?;
    Ok((wrap(py, primal)?, tangent.map(|t| wrap(py, t)).transpose()?))
}

/// Whether tangents are computed on this thread while a level is open.
#[pyfunction]
pub fn _is_fwd_grad_enabled() -> bool {
    forward::is_forward_enabled()
}

/// Switches tangents on or off on this thread.
#[pyfunction]
pub fn _set_fwd_grad_enabled(mode: &Bound<'_, PyAny>) -> PyResult<()> {
    forward::set_forward_enabled(crate::args::flag(mode, "mode")?);
    Ok(())
}

/// Adds the functions to the module.
pub fn install(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(_forward_enter, m)?)?;
    m.add_function(wrap_pyfunction!(_forward_exit, m)?)?;
    m.add_function(wrap_pyfunction!(_make_dual, m)?)?;
    m.add_function(wrap_pyfunction!(_unpack_dual, m)?)?;
    m.add_function(wrap_pyfunction!(_is_fwd_grad_enabled, m)?)?;
    m.add_function(wrap_pyfunction!(_set_fwd_grad_enabled, m)?)
}
