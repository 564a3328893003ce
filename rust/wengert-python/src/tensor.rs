//! The Python class `Tensor`: protocols and attributes. Operations come from the table, see `bind`.

use crate::args::{self, number};
use crate::autograd;
use crate::bind::{self, RELEASE_ABOVE};
use crate::cell::{CachedTuple, TensorCell};
use crate::error::{OrRaise, guarded};
use crate::object::visit_tensor_class;
pub use crate::object::wrap;
use crate::observe::{self, Binary};
use crate::site::detached;
use crate::types::{PyDType, PyDevice, PyMemoryFormat, dtype_object, extract_dtype, size};
use crate::{data, exchange, garbage, hooks, index, node, numpy, resize, subclass, teach, vmap};
use pyo3::basic::CompareOp;
use pyo3::exceptions::*;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString, PyTuple, PyType};
use pyo3::{PyTraverseError, PyVisit};
use std::sync::atomic::Ordering;
use wengert::format::{self, Source, Suffixes};
use wengert::graph::garbage::suspect;
use wengert::graph::mode::may_call_out;
use wengert::memory_format::MemoryFormat;
use wengert::{DType, Result, Scalar, Tensor, batch, ops};

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

#[inline]
#[allow(unsafe_code)]
fn binary<'py>(
    slf: &Bound<'py, PyTensor>,
    other: &Bound<'py, PyAny>,
    f: Binary,
) -> PyResult<Bound<'py, PyAny>> {
    let py = slf.py();
    let _span = observe::infix(f, &[slf, other]);
    if let Ok(other) = other.cast::<PyTensor>()
        && !may_call_out()
    {
        // SAFETY: small operations keep the lock, call no Python code, and drop no memory but
        // what they made themselves, so that no finaliser runs either.
        let (a, b) = unsafe { (slf.get().tensor.peek(), other.get().tensor.peek()) };
        if batch::active()
            && let Some(y) = vmap::binary(&a.clone(), &b.clone(), f)?
        {
            return Ok(wrap(py, y)?.into_any());
        }
        if a.numel() <= RELEASE_ABOVE && b.numel() <= RELEASE_ABOVE {
            let y = guarded(|| f(a, b))?;
            observe::made(&y, [a, b].into_iter());
            return Ok(wrap(py, y)?.into_any());
        }
    }
    let Some(b) = operand(other)? else { return Ok(py.NotImplemented().into_bound(py)) };
    let a = slf.get().tensor();
    if batch::active()
        && let Some(y) = vmap::binary(&a, &b, f)?
    {
        return Ok(wrap(py, y)?.into_any());
    }
    let large = a.numel() > RELEASE_ABOVE || b.numel() > RELEASE_ABOVE;
    let result = guarded(|| if large { detached(py, || f(&a, &b)) } else { f(&a, &b) })?;
    observe::made(&result, [&a, &b].into_iter());
    Ok(wrap(py, result)?.into_any())
}

fn reflected<'py>(
    slf: &Bound<'py, PyTensor>,
    other: &Bound<'py, PyAny>,
    f: Binary,
) -> PyResult<Bound<'py, PyAny>> {
    let py = slf.py();
    let _span = observe::infix(f, &[slf, other]);
    let Some(other) = operand(other)? else { return Ok(py.NotImplemented().into_bound(py)) };
    let b = slf.get().tensor();
    if batch::active()
        && let Some(y) = vmap::binary(&other, &b, f)?
    {
        return Ok(wrap(py, y)?.into_any());
    }
    let y = guarded(|| f(&other, &b))?;
    observe::made(&y, [&other, &b].into_iter());
    Ok(wrap(py, y)?.into_any())
}

#[inline]
fn unary<'py>(
    slf: &Bound<'py, PyTensor>,
    f: fn(&Tensor) -> Result<Tensor>,
) -> PyResult<Bound<'py, PyTensor>> {
    let x = slf.get().tensor();
    if batch::active()
        && let Some(y) = vmap::unary(&x, f)?
    {
        return wrap(slf.py(), y);
    }
    wrap(slf.py(), guarded(|| f(&x))?)
}

/// An augmented assignment, by the row of that name.
#[allow(unsafe_code)]
fn augmented(slf: &Bound<'_, PyTensor>, other: &Bound<'_, PyAny>, name: &str) -> PyResult<()> {
    // SAFETY: the interpreter holds both objects during the call; the binding makes the tensors
    // its own before it runs anything that could replace them.
    let lent = |t: &Bound<'_, PyTensor>| ops::Value::Lent(unsafe { t.get().lend() });
    if let Ok(other) = other.cast::<PyTensor>() {
        return bind::in_place(slf.py(), name, lent(slf), lent(other));
    }
    let Some(other) = operand(other)? else {
        return Err(PyTypeError::new_err(format!(
            "unsupported operand type(s) for {name}: 'Tensor' and '{}'",
            other.get_type().name()?
        )));
    };
    bind::in_place(slf.py(), name, lent(slf), ops::Value::Tensor(other))
}

/// A tensor as the printer sees it.
struct Printed(Tensor);

impl Source for Printed {
    fn dtype(&self) -> DType {
        self.0.dtype()
    }
    fn shape(&self) -> &[usize] {
        self.0.shape()
    }
    fn at(&self, index: &[usize]) -> Scalar {
        self.0.at(index)
    }
}

/// A tensor as text, inside it that of its tangent, if it has one.
fn text_of(t: Tensor, prefix: &str) -> PyResult<String> {
    let history = t.history();
    let grad_fn = match &history {
        Ok(edge) => edge.as_ref().map(|e| e.node.name()),
        Err(_) => Some("Invalid"),
    };
    let tangent = wengert::graph::forward::innermost(&t).or_raise()?;
    let tangent = tangent.map(|t| text_of(t, "tensor(")).transpose()?;
    let suffixes = Suffixes {
        prefix,
        grad_fn,
        requires_grad: t.requires_grad(),
        tangent: tangent.as_deref(),
        ..Suffixes::default()
    };
    Ok(format::tensor(&Printed(t), &suffixes, &format::printoptions()))
}

/// A scalar as a Python object.
pub fn scalar_object(py: Python<'_>, value: Scalar) -> PyResult<Bound<'_, PyAny>> {
    Ok(match value {
        Scalar::Bool(b) => b.into_pyobject(py)?.to_owned().into_any(),
        Scalar::Int(i) => i.into_pyobject(py)?.into_any(),
        Scalar::Float(x) => x.into_pyobject(py)?.into_any(),
    })
}

fn number_of(slf: &Bound<'_, PyTensor>, what: &str) -> PyResult<Scalar> {
    let t = slf.get().tensor();
    if t.requires_grad() && what != "index" {
        teach::warn_detached(slf.py(), &t)?;
    }
    t.item().or_raise()
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

    // Garbage. ---------------------------------------------------------------------------------

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

    // Numbers. -------------------------------------------------------------------------------

    fn __add__<'py>(
        slf: &Bound<'py, Self>,
        other: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        binary(slf, other, ops::add)
    }
    fn __radd__<'py>(
        slf: &Bound<'py, Self>,
        other: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        binary(slf, other, ops::add)
    }
    fn __iadd__(slf: &Bound<'_, Self>, other: &Bound<'_, PyAny>) -> PyResult<()> {
        augmented(slf, other, "add")
    }
    fn __sub__<'py>(
        slf: &Bound<'py, Self>,
        other: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        binary(slf, other, ops::binary::difference)
    }
    fn __rsub__<'py>(
        slf: &Bound<'py, Self>,
        other: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        reflected(slf, other, ops::binary::difference_from)
    }
    fn __isub__(slf: &Bound<'_, Self>, other: &Bound<'_, PyAny>) -> PyResult<()> {
        augmented(slf, other, "sub")
    }
    fn __mul__<'py>(
        slf: &Bound<'py, Self>,
        other: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        binary(slf, other, ops::mul)
    }
    fn __rmul__<'py>(
        slf: &Bound<'py, Self>,
        other: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        binary(slf, other, ops::mul)
    }
    fn __imul__(slf: &Bound<'_, Self>, other: &Bound<'_, PyAny>) -> PyResult<()> {
        augmented(slf, other, "mul")
    }
    fn __truediv__<'py>(
        slf: &Bound<'py, Self>,
        other: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        binary(slf, other, ops::div)
    }
    fn __rtruediv__<'py>(
        slf: &Bound<'py, Self>,
        other: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        reflected(slf, other, ops::binary::quotient_of)
    }
    /// Python 2's name for reflected division, which PyTorch kept.
    fn __rdiv__<'py>(
        slf: &Bound<'py, Self>,
        other: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        reflected(slf, other, ops::binary::quotient_of)
    }
    fn __itruediv__(slf: &Bound<'_, Self>, other: &Bound<'_, PyAny>) -> PyResult<()> {
        augmented(slf, other, "div")
    }
    fn __floordiv__<'py>(
        slf: &Bound<'py, Self>,
        other: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        binary(slf, other, ops::binary::floor_quotients)
    }
    fn __rfloordiv__<'py>(
        slf: &Bound<'py, Self>,
        other: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        reflected(slf, other, ops::binary::floor_quotients)
    }
    fn __ifloordiv__(slf: &Bound<'_, Self>, other: &Bound<'_, PyAny>) -> PyResult<()> {
        augmented(slf, other, "floor_divide")
    }
    fn __mod__<'py>(
        slf: &Bound<'py, Self>,
        other: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        binary(slf, other, ops::binary::remainders)
    }
    fn __rmod__<'py>(
        slf: &Bound<'py, Self>,
        other: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        reflected(slf, other, ops::binary::remainders)
    }
    fn __imod__(slf: &Bound<'_, Self>, other: &Bound<'_, PyAny>) -> PyResult<()> {
        augmented(slf, other, "remainder")
    }
    fn __pow__<'py>(
        slf: &Bound<'py, Self>,
        other: &Bound<'py, PyAny>,
        _modulo: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        binary(slf, other, ops::binary::powers)
    }
    fn __rpow__<'py>(
        slf: &Bound<'py, Self>,
        other: &Bound<'py, PyAny>,
        _modulo: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        reflected(slf, other, ops::binary::powers)
    }
    fn __ipow__(
        slf: &Bound<'_, Self>,
        other: &Bound<'_, PyAny>,
        _modulo: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        augmented(slf, other, "pow")
    }
    fn __matmul__<'py>(
        slf: &Bound<'py, Self>,
        other: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        if batch::active()
            && let Some(y) = vmap::product(slf, other, false)?
        {
            return Ok(y.into_any());
        }
        binary(slf, other, ops::matmul::matmul)
    }
    fn __rmatmul__<'py>(
        slf: &Bound<'py, Self>,
        other: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        if batch::active()
            && let Some(y) = vmap::product(slf, other, true)?
        {
            return Ok(y.into_any());
        }
        reflected(slf, other, ops::matmul::matmul)
    }
    fn __and__<'py>(
        slf: &Bound<'py, Self>,
        other: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        binary(slf, other, ops::compare::bitwise_and)
    }
    fn __rand__<'py>(
        slf: &Bound<'py, Self>,
        other: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        reflected(slf, other, ops::compare::bitwise_and)
    }
    fn __iand__(slf: &Bound<'_, Self>, other: &Bound<'_, PyAny>) -> PyResult<()> {
        augmented(slf, other, "bitwise_and")
    }
    fn __or__<'py>(
        slf: &Bound<'py, Self>,
        other: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        binary(slf, other, ops::compare::bitwise_or)
    }
    fn __ror__<'py>(
        slf: &Bound<'py, Self>,
        other: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        reflected(slf, other, ops::compare::bitwise_or)
    }
    fn __ior__(slf: &Bound<'_, Self>, other: &Bound<'_, PyAny>) -> PyResult<()> {
        augmented(slf, other, "bitwise_or")
    }
    fn __xor__<'py>(
        slf: &Bound<'py, Self>,
        other: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        binary(slf, other, ops::compare::bitwise_xor)
    }
    fn __rxor__<'py>(
        slf: &Bound<'py, Self>,
        other: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        reflected(slf, other, ops::compare::bitwise_xor)
    }
    fn __ixor__(slf: &Bound<'_, Self>, other: &Bound<'_, PyAny>) -> PyResult<()> {
        augmented(slf, other, "bitwise_xor")
    }
    fn __neg__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyTensor>> {
        let _span = observe::protocol("aten::neg", &[slf]);
        unary(slf, ops::unary::neg)
    }
    fn __pos__<'py>(slf: &Bound<'py, Self>) -> Bound<'py, PyTensor> {
        slf.clone()
    }
    fn __abs__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyTensor>> {
        let _span = observe::protocol("aten::abs", &[slf]);
        unary(slf, ops::unary::abs)
    }
    fn __invert__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyTensor>> {
        let _span = observe::protocol("aten::bitwise_not", &[slf]);
        unary(slf, ops::unary::bitwise_not)
    }
    fn __richcmp__<'py>(
        slf: &Bound<'py, Self>,
        other: &Bound<'py, PyAny>,
        op: CompareOp,
    ) -> PyResult<Bound<'py, PyAny>> {
        let f: Binary = match op {
            CompareOp::Lt => ops::compare::lt,
            CompareOp::Le => ops::compare::le,
            CompareOp::Eq => ops::compare::eq,
            CompareOp::Ne => ops::compare::ne,
            CompareOp::Gt => ops::compare::gt,
            CompareOp::Ge => ops::compare::ge,
        };
        binary(slf, other, f)
    }
    /// By identity, so that tensors can be keys.
    fn __hash__(slf: &Bound<'_, Self>) -> isize {
        (slf.as_ptr() as isize) >> 4
    }

    // Conversions. ---------------------------------------------------------------------------

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
        Ok(pyo3::types::PyComplex::from_doubles(slf.py(), x, 0.0).into_any())
    }
    fn item<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        scalar_object(slf.py(), slf.get().tensor().item().or_raise()?)
    }
    fn tolist<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        data::to_list(slf.py(), &slf.get().tensor())
    }
    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let t = slf.get().tensor();
        match vmap::repr(&t) {
            Some(text) => Ok(text),
            None => text_of(t, &subclass::prefix(slf)?),
        }
    }
    fn __format__<'py>(
        slf: &Bound<'py, Self>,
        spec: &Bound<'py, PyString>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let t = slf.get().tensor();
        if t.ndim() == 0 {
            return scalar_object(slf.py(), t.item().or_raise()?)?
                .call_method1("__format__", (spec,));
        }
        if spec.len()? > 0 {
            return Err(PyTypeError::new_err(
                "unsupported format string passed to Tensor.__format__",
            ));
        }
        Ok(slf.str()?.into_any())
    }

    // Sequences. -----------------------------------------------------------------------------

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

    // Attributes. ----------------------------------------------------------------------------

    #[pyo3(signature = (dim=None))]
    fn size<'py>(slf: &Bound<'py, Self>, dim: Option<i64>) -> PyResult<Bound<'py, PyAny>> {
        let t = slf.get().tensor();
        match dim {
            None => Ok(size(slf.py(), t.shape())?.into_any()),
            Some(d) => {
                let d = wengert::layout::wrap_dim(d, t.ndim()).or_raise()?;
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
                let d = wengert::layout::wrap_dim(d, t.ndim()).or_raise()?;
                let s = t.layout().strides().get(d).copied().ok_or_else(|| {
                    PyIndexError::new_err("dimension specified as 0 but tensor has no dimensions")
                })?;
                Ok(s.into_pyobject(slf.py())?.into_any())
            }
        }
    }
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

    // Types. ---------------------------------------------------------------------------------

    /// A tensor of this one's type by the constructor of old: of sizes, or of data.
    #[pyo3(name = "new", signature = (*args))]
    fn legacy_new<'py>(
        slf: &Bound<'py, Self>,
        args: &Bound<'py, PyTuple>,
    ) -> PyResult<Bound<'py, PyAny>> {
        crate::types::legacy_new(slf.py(), slf.get().tensor().dtype(), args)
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
                    let d = crate::types::legacy_type(d)?;
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

    // Autograd. ------------------------------------------------------------------------------

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
        self.look(crate::inference::version)
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

    // Classes. -------------------------------------------------------------------------------

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
