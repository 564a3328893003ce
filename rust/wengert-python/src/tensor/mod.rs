//! The Python class `Tensor`. Operations come from the table, see `bind`; what a class has to define
//! itself, protocols and attributes, is here, by topic:
//!
//! | module | |
//! |---|---|
//! | [`numbers`] | operators, comparisons, augmented assignments |
//! | [`elements`] | a tensor as a container: length, iteration, indexing |
//! | [`conversions`] | to numbers, lists, NumPy, DLPack; types; copies and pickles |
//! | [`text`] | `repr` and `format` |
//! | [`attributes`] | shape, type, device |
//! | [`memory`] | addresses, bytes, `resize_` and `set_` |
//! | [`autograd`] | history, gradient, hooks |
//!
//! Each has a block of methods of its own, which PyO3 collects when the class is made
//! (`multiple-pymethods`).
//!
//! An object holds the engine's tensor and the tuple that `x.shape` gave last. Python may make it stand
//! for another tensor, with `x.data = y`, see [`PyTensor::replace`].

mod attributes;
mod autograd;
mod conversions;
mod elements;
mod memory;
mod numbers;
mod text;

use crate::args::number;
use crate::bind::RELEASE_ABOVE;
use crate::cell::{CachedTuple, TensorCell};
use crate::error::OrRaise;
use crate::object::visit_tensor_class;
pub use crate::object::wrap;
use crate::types::size;
use crate::{data, garbage, numpy, subclass};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple, PyType};
use pyo3::{PyTraverseError, PyVisit};
use std::sync::atomic::Ordering;
use wengert::graph::garbage::suspect;
use wengert::{DType, Scalar, Tensor, ops};

/// A strided array of numbers that may take part in a gradient graph.
#[pyclass(name = "Tensor", module = "wengert", frozen, subclass, dict, weakref)]
pub struct PyTensor {
    tensor: TensorCell,
    shape: CachedTuple,
}

impl PyTensor {
    /// The object's value.
    pub fn of(tensor: Tensor) -> PyTensor {
        PyTensor { tensor: TensorCell::new(tensor), shape: CachedTuple::default() }
    }

    /// The engine's tensor.
    #[inline]
    pub fn tensor(&self) -> Tensor {
        self.tensor.get()
    }

    /// The engine's tensor, looked at without counting a handle.
    #[inline]
    pub fn look<R>(&self, look: impl FnOnce(&Tensor) -> R) -> R {
        self.tensor.look(look)
    }

    /// The engine's tensor, without counting a handle.
    ///
    /// # Safety
    /// Until the reference is gone, the interpreter lock is held and nothing runs that could make the
    /// object stand for another tensor.
    #[inline]
    #[allow(unsafe_code)]
    pub unsafe fn peek(&self) -> &Tensor {
        // SAFETY: passed on to the caller.
        unsafe { self.tensor.peek() }
    }

    /// Whether operations on this tensor are too short to let other Python threads run meanwhile.
    #[inline]
    pub fn is_small(&self) -> bool {
        self.look(|t| t.numel() <= RELEASE_ABOVE)
    }

    /// The engine's tensor as an argument that does not count.
    ///
    /// # Safety
    /// Until the result is dropped, the interpreter lock is held, the object lives, and nothing
    /// runs that could make it stand for another tensor.
    #[inline]
    #[allow(unsafe_code)]
    pub unsafe fn lend(&self) -> ops::args::Lent {
        // SAFETY: passed on to the caller.
        unsafe { ops::args::Lent::new(self.tensor.peek()) }
    }

    /// `x.shape`.
    #[inline]
    pub fn shape<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyTuple>> {
        let this = slf.get();
        // Making the tuple may collect garbage, which runs foreign code: own the tensor meanwhile.
        this.shape.get_or_make(slf.py(), || size(slf.py(), this.tensor().shape()))
    }

    /// Makes the object stand for another tensor.
    pub fn replace(&self, py: Python<'_>, tensor: Tensor) {
        self.shape.clear(py);
        let object = self.tensor.get().host().swap(std::ptr::null_mut(), Ordering::Relaxed);
        tensor.host().store(object, Ordering::Relaxed);
        self.tensor.replace(tensor);
    }
}

impl Drop for PyTensor {
    fn drop(&mut self) {
        // The object is going away; the tensor may live on in a graph and get another one.
        let tensor = self.tensor.get_mut();
        tensor.host().store(std::ptr::null_mut(), Ordering::Relaxed);
        if tensor.owners() > 1 && tensor.may_own_itself() {
            suspect(tensor);
        }
    }
}

/// An operand of an infix operator; `None` if the other side should have a try.
fn operand(value: &Bound<'_, PyAny>) -> PyResult<Option<Tensor>> {
    if let Ok(t) = value.cast::<PyTensor>() {
        return Ok(Some(t.get().tensor()));
    }
    if let Some(n) = number(value)? {
        return Tensor::wrapped(n).or_raise().map(Some);
    }
    numpy::array_operand(value)
}

/// A scalar as a Python object.
pub fn scalar_object(py: Python<'_>, value: Scalar) -> PyResult<Bound<'_, PyAny>> {
    Ok(match value {
        Scalar::Bool(b) => b.into_pyobject(py)?.to_owned().into_any(),
        Scalar::Int(i) => i.into_pyobject(py)?.into_any(),
        Scalar::Float(x) => x.into_pyobject(py)?.into_any(),
    })
}

#[pymethods]
impl PyTensor {
    #[new]
    #[classmethod]
    #[pyo3(signature = (*args, **kwargs))]
    #[allow(clippy::new_ret_no_self)] // as Python's `__new__` may
    fn new<'py>(
        cls: &Bound<'py, PyType>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        subclass::construct(cls, || data::legacy_constructor(args, kwargs))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> std::result::Result<(), PyTraverseError> {
        visit_tensor_class(self, &visit)?;
        self.look(|t| garbage::traverse(t, &visit))
    }

    /// Lets go of the tensor; nobody can reach the object any more but what is collected with it.
    fn __clear__(&self) {
        let empty = Tensor::zeros(&[0], DType::Float32);
        if let Ok(empty) = empty {
            self.tensor.get().host().store(std::ptr::null_mut(), Ordering::Relaxed);
            self.tensor.replace(empty);
        }
    }

    /// A view of the whole tensor as an instance of a class derived from `Tensor`.
    fn as_subclass<'py>(
        slf: &Bound<'py, Self>,
        cls: &Bound<'py, PyType>,
    ) -> PyResult<Bound<'py, PyTensor>> {
        subclass::as_subclass(slf, cls)
    }
    /// The memory of a tensor, without history, as an instance of a class derived from `Tensor`.
    #[staticmethod]
    #[pyo3(signature = (cls, data, require_grad=false))]
    fn _make_subclass<'py>(
        cls: &Bound<'py, PyType>,
        data: &Bound<'py, PyTensor>,
        require_grad: bool,
    ) -> PyResult<Bound<'py, PyTensor>> {
        subclass::make_subclass(cls, data, require_grad)
    }
}
