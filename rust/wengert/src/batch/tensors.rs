//! What a tensor can do besides the operations of the table: on plain tensors as ever, on batched ones
//! for all examples.

use super::{invoke, levels_of, levels_of_all, spread};
use crate::Result;
use crate::graph::forward;
use crate::ops::{Value, view};
use crate::tensor::Tensor;
use smallvec::SmallVec;

fn int(i: i64) -> Value {
    Value::Number(crate::Scalar::Int(i))
}

/// The axes in reverse order.
///
/// # Errors
/// `x` has escaped from a level that has ended.
pub fn reversed_axes(x: &Tensor) -> Result<Tensor> {
    if !x.is_batched() {
        return view::reverse_axes(x);
    }
    let order = (0..x.ndim() as i64).rev().collect();
    invoke("permute", 0, [Value::Tensor(x.clone()), Value::Ints(order)])
}

/// The last two axes swapped.
///
/// # Errors
/// There are no two axes; `x` has escaped from a level that has ended.
pub fn matrix_transposed(x: &Tensor) -> Result<Tensor> {
    if !x.is_batched() || x.ndim() < 2 {
        return view::matrix_transpose(x);
    }
    invoke("transpose", 0, [Value::Tensor(x.clone()), int(-2), int(-1)])
}

/// The last two axes swapped, for `mH` and (of single matrices) `H`.
///
/// # Errors
/// There are not as many axes as it takes; `x` has escaped from a level that has ended.
pub fn adjoint(x: &Tensor, name: &str, single: bool) -> Result<Tensor> {
    if !x.is_batched() || x.ndim() < 2 || single && x.ndim() > 2 {
        return crate::ops::shapes::adjoint(x, name, single);
    }
    matrix_transposed(x)
}

/// The first axis backwards.
///
/// # Errors
/// There is no axis; `x` has escaped from a level that has ended.
pub fn flipped(x: &Tensor) -> Result<Tensor> {
    if !x.is_batched() {
        return crate::ops::scan::flip(x, &[0]);
    }
    let dims = SmallVec::from_slice(&[0]);
    invoke("flip", 0, [Value::Tensor(x.clone()), Value::Ints(dims)])
}

/// The slices along the first axis.
///
/// # Errors
/// There is no axis; `x` has escaped from a level that has ended.
pub fn slices(x: &Tensor) -> Result<Vec<Tensor>> {
    let levels = levels_of(x, "unbind")?;
    let Some(physical) = x.physical() else { return view::unbind(x, 0) };
    let parts = view::unbind(&physical, levels.len() as i64)?;
    parts.iter().map(|part| Tensor::example_of(part, &levels)).collect()
}

/// `a` where the condition holds, else `b`.
///
/// # Errors
/// As those of `where`.
pub fn chosen(condition: &Tensor, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    if ![condition, a, b].iter().any(|t| t.is_batched()) {
        return crate::ops::composed::where_(condition, a, b);
    }
    invoke("where", 0, [condition, a, b].map(|t| Value::Tensor(t.clone())))
}

/// The elements in another type.
///
/// # Errors
/// `x` has escaped from a level that has ended.
pub fn converted(x: &Tensor, dtype: crate::DType) -> Result<Tensor> {
    let levels = levels_of(x, "type")?;
    match x.physical() {
        Some(physical) => {
            Tensor::example_of(&crate::ops::cast::to(&physical, dtype, None, false)?, &levels)
        }
        None => crate::ops::cast::to(x, dtype, None, false),
    }
}

/// The tensor without history but with its tangents, also if it is batched.
///
/// # Errors
/// A view cannot be brought up to date.
pub fn detached(x: &Tensor) -> Result<Tensor> {
    if let Some((physical, levels)) = x.parts() {
        return Tensor::example_of(&detached(&physical)?, &levels);
    }
    let y = x.detach();
    if x.is_dual() {
        let _mode = crate::graph::GradMode::new(false);
        // Of a view the tangents may be those of its base; an alias has its own.
        y.share_tangents(&view::alias("AliasBackward0", x)?);
    }
    Ok(y)
}

/// A copy without history, in the given type.
///
/// # Errors
/// `x` has escaped from a level that has ended.
pub fn copied(x: &Tensor, dtype: Option<crate::DType>) -> Result<Tensor> {
    let plain = invoke("detach", 0, [Value::Tensor(converted(x, dtype.unwrap_or(x.dtype()))?)])?;
    invoke("clone", 0, [Value::Tensor(plain)])
}

/// Zeros like a tensor, also if it is batched.
pub fn zeros_like(x: &Tensor) -> Result<Tensor> {
    match x.parts() {
        Some((physical, levels)) => {
            Tensor::example_of(&crate::ops::zeros_like(&physical)?, &levels)
        }
        None => crate::ops::zeros_like(x),
    }
}

/// [`forward::make_dual`] of tensors that may be batched: every example has a tangent.
///
/// # Errors
/// As those of [`forward::make_dual`].
pub fn make_dual(primal: &Tensor, tangent: &Tensor, level: usize) -> Result<Tensor> {
    let levels = levels_of_all([primal, tangent], "make_dual")?;
    if levels.is_empty() || primal.shape() != tangent.shape() {
        return forward::make_dual(primal, tangent, level);
    }
    let (primal, tangent) = (spread(primal, &levels)?, spread(tangent, &levels)?);
    Tensor::example_of(&forward::make_dual(&primal, &tangent, level)?, &levels)
}

/// [`forward::unpack_dual`] of a tensor that may be batched.
///
/// # Errors
/// As those of [`forward::unpack_dual`].
pub fn unpack_dual(dual: &Tensor, level: usize) -> Result<(Tensor, Option<Tensor>)> {
    let levels = levels_of(dual, "unpack_dual")?;
    let physical = dual.physical().unwrap_or_else(|| dual.clone());
    let (primal, tangent) = forward::unpack_dual(&physical, level)?;
    let tangent = tangent.map(|t| Tensor::example_of(&t, &levels)).transpose()?;
    Ok((Tensor::example_of(&primal, &levels)?, tangent))
}
