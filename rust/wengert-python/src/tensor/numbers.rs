//! Numbers: the operators, comparisons and augmented assignments.
//!
//! An operator takes a tensor or what can be made one, a Python number or an array of NumPy, and
//! answers `NotImplemented` to everything else, so that the other operand's class has a try. The
//! operators that programs use most are met by [`slots`](crate::slots) first; they come here with what
//! is not usual: large operands, batches, subclasses, observers.
//!
//! CPython has one slot for `__add__` and `__radd__`, which PyO3 makes of one block of methods. So
//! they all stand in this one.

use super::{PyTensor, operand, wrap};
use crate::bind::{self, RELEASE_ABOVE};
use crate::error::guarded;
use crate::observe::{self, Binary};
use crate::site::detached;
use crate::vmap;
use pyo3::basic::CompareOp;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use wengert::graph::mode::may_call_out;
use wengert::{Result, Tensor, batch, ops};

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

#[pymethods]
impl PyTensor {
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
}
