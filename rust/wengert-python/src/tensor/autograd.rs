//! Autograd: what a tensor knows of its history, its gradient, and who watches it.
//!
//! The engine's words behind Python's names; what takes more than a line is in
//! [`autograd`](crate::autograd), [`hooks`] and [`subclass`].

use super::{PyTensor, wrap};
use crate::error::OrRaise;
use crate::types::PyDType;
use crate::{args, autograd, hooks, inference, node, subclass, teach, vmap};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

#[pymethods]
impl PyTensor {
    #[getter]
    fn requires_grad(&self) -> bool {
        self.look(|t| t.requires_grad())
    }
    #[setter]
    fn set_requires_grad(&self, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let flag = args::flag(value, "requires_grad")
            .map_err(|_| PyRuntimeError::new_err("requires_grad must be a bool"))?;
        self.tensor().set_requires_grad(flag).or_raise()
    }
    #[pyo3(signature = (requires_grad=true))]
    fn requires_grad_<'py>(
        slf: &Bound<'py, Self>,
        requires_grad: bool,
    ) -> PyResult<Bound<'py, PyTensor>> {
        vmap::check_outside("requires_grad_")?;
        let t = slf.get().tensor();
        if requires_grad {
            let sentence = "only Tensors of floating point dtype can require gradients";
            teach::refuse_integers(&t, sentence)?;
        }
        t.set_requires_grad(requires_grad).or_raise()?;
        Ok(slf.clone())
    }
    #[getter]
    fn is_leaf(&self) -> bool {
        self.look(|t| t.is_leaf())
    }
    #[getter]
    fn grad_fn<'py>(slf: &Bound<'py, Self>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let made = slf.get().tensor().history().or_raise()?;
        made.map(|e| node::object(slf.py(), &e.node)).transpose()
    }
    #[getter]
    fn output_nr(&self) -> u32 {
        self.tensor().grad_fn().map_or(0, |e| e.output)
    }
    #[getter]
    fn grad<'py>(slf: &Bound<'py, Self>) -> PyResult<Option<Bound<'py, PyTensor>>> {
        autograd::get_grad(slf)
    }
    #[setter]
    fn set_grad(slf: &Bound<'_, Self>, value: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        autograd::set_grad(slf, value)
    }
    #[deleter]
    fn delete_grad(slf: &Bound<'_, Self>) -> PyResult<()> {
        autograd::set_grad(slf, None)
    }
    #[getter]
    fn retains_grad(&self) -> bool {
        self.look(|t| t.retains_grad())
    }
    fn retain_grad(&self) -> PyResult<()> {
        vmap::check_outside("retain_grad")?;
        self.tensor().retain_grad().or_raise()
    }
    #[getter(_version)]
    fn version(&self) -> PyResult<u32> {
        self.look(inference::version)
    }
    #[getter(_base)]
    fn base<'py>(slf: &Bound<'py, Self>) -> PyResult<Option<Bound<'py, PyTensor>>> {
        let t = slf.get().tensor();
        let base = t.view_kind().and_then(|_| t.base());
        base.map(|b| wrap(slf.py(), b)).transpose()
    }
    /// The type of the tensor's gradient.
    #[getter]
    fn grad_dtype(slf: &Bound<'_, Self>) -> PyResult<Py<PyDType>> {
        subclass::grad_dtype(slf)
    }
    #[setter]
    fn set_grad_dtype(slf: &Bound<'_, Self>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        subclass::set_grad_dtype(slf, value)
    }
    fn _is_view(&self) -> bool {
        self.tensor().view_kind().is_some()
    }
    fn is_inference(&self) -> bool {
        self.tensor().is_inference()
    }
    #[pyo3(signature = (gradient=None, retain_graph=None, create_graph=false, inputs=None))]
    fn backward(
        slf: &Bound<'_, Self>,
        gradient: Option<&Bound<'_, PyAny>>,
        retain_graph: Option<bool>,
        create_graph: bool,
        inputs: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        autograd::backward_of(slf, gradient, retain_graph, create_graph, inputs)
    }
    fn register_hook<'py>(&self, hook: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        hooks::register_hook(&self.tensor(), hook)
    }
    fn register_post_accumulate_grad_hook<'py>(
        &self,
        hook: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        vmap::check_plain(&self.tensor(), "register_post_accumulate_grad_hook")?;
        hooks::register_leaf_hook(&self.tensor(), hook)
    }
    #[getter]
    fn _backward_hooks(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.tensor().hook_host(hooks::dict_of).map(|dict| dict.bind(py).clone().unbind())
    }
    #[getter]
    fn _post_accumulate_grad_hooks(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.tensor().leaf_hook_host(hooks::dict_of).map(|dict| dict.bind(py).clone().unbind())
    }
    fn detach_<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyTensor>> {
        autograd::detach_(slf)?;
        Ok(slf.clone())
    }
    /// The same data without history; writes through it are not seen by autograd's rules, but the
    /// version counter is shared, so that a wrong gradient is noticed.
    #[getter]
    fn data<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyTensor>> {
        let t = slf.get().tensor();
        vmap::check_data(&t)?;
        wrap(slf.py(), t.detach_for_user())
    }
    #[setter]
    fn set_data(slf: &Bound<'_, Self>, value: &Bound<'_, PyTensor>) -> PyResult<()> {
        vmap::check_data(&slf.get().tensor())?;
        vmap::check_data(&value.get().tensor())?;
        let new = slf.get().tensor().with_data(&value.get().tensor()).or_raise()?;
        slf.get().replace(slf.py(), new);
        Ok(())
    }
}
