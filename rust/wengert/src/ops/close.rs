//! Comparison of whole tensors, and comparison with a tolerance.

use super::binary::number;
use super::cast::to_dtype;
use super::compare::{eq, le, logical_and, logical_or};
use super::tags::*;
use super::unary::{abs, isfinite, isnan};
use super::{Call, Row, add, mul, reduce, sub};
use crate::batch::{Batching, rules};
use crate::dtype::default_float;
use crate::graph::ValuesOnly;
use crate::tensor::Tensor;
use crate::{DType, Result, bail};

/// `|a - b| ≤ atol + rtol · |b|`, elementwise with broadcasting; equal values, infinities among
/// them, are close, and NaN is close to NaN if `equal_nan` says so.
///
/// # Errors
/// If the element types differ or a tolerance is negative.
pub fn isclose(a: &Tensor, b: &Tensor, rtol: f64, atol: f64, equal_nan: bool) -> Result<Tensor> {
    if a.dtype() != b.dtype() {
        let names = (a.dtype().scalar_type_name(), b.dtype().scalar_type_name());
        bail!(DType, "", "{} did not match {}", names.0, names.1);
    }
    for (name, value) in [("rtol", rtol), ("atol", atol)] {
        // NaN is refused too.
        if value.is_nan() || value < 0.0 {
            bail!(Value, "", "{name} must be greater than or equal to zero, but got {value}");
        }
    }
    let _off = ValuesOnly::new();
    let mut close = eq(a, b)?;
    if equal_nan && a.dtype().is_floating() {
        close = logical_or(&close, &logical_and(&isnan(a)?, &isnan(b)?)?)?;
    }
    if rtol == 0.0 && atol == 0.0 || a.dtype() == DType::Bool {
        return Ok(close);
    }
    // Differences of whole numbers must not wrap.
    let b = if b.dtype().is_floating() { b.clone() } else { to_dtype(b, default_float())? };
    let allowed = add(&mul(&abs(&b)?, &number(rtol)?)?, &number(atol)?)?;
    let actual = abs(&sub(a, &b)?)?;
    let near = logical_and(&isfinite(&actual)?, &le(&actual, &allowed)?)?;
    logical_or(&close, &near)
}

/// Whether all elements are [close](isclose).
pub fn allclose(a: &Tensor, b: &Tensor, rtol: f64, atol: f64, equal_nan: bool) -> Result<bool> {
    reduce::all(&isclose(a, b, rtol, atol, equal_nan)?)
}

/// Whether two tensors have the same shape and equal elements; NaN equals nothing.
pub fn equal(a: &Tensor, b: &Tensor) -> Result<bool> {
    Ok(a.shape() == b.shape() && reduce::all(&eq(a, b)?)?)
}

macro_rules! with_tolerances {
    ($returns:literal) => {
        concat!(
            "(input, other, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False)",
            $returns
        )
    };
}

/// This family's rows.
pub const ROWS: &[Row] = &[
    Row {
        name: "isclose",
        aliases: &[],
        signatures: &[with_tolerances!("")],
        doc: &[" Whether `|input - other| ≤ atol + rtol · |other|`, elementwise."],
        tags: FUNCTION | METHOD | NONDIFF,
        batch: Batching::Pointwise,
        call: Call::Make(|c| {
            Ok(isclose(c.tensor(0), c.tensor(1), c.float(2), c.float(3), c.bool(4))?.into())
        }),
    },
    Row {
        name: "allclose",
        aliases: &[],
        signatures: &[with_tolerances!(" -> bool")],
        doc: &[" Whether `|input - other| ≤ atol + rtol · |other|` for all elements."],
        tags: FUNCTION | METHOD | NONDIFF,
        batch: Batching::Refuse(rules::ALLCLOSE),
        call: Call::Make(|c| {
            Ok(allclose(c.tensor(0), c.tensor(1), c.float(2), c.float(3), c.bool(4))?.into())
        }),
    },
    Row {
        name: "equal",
        aliases: &[],
        signatures: &["(input, other) -> bool"],
        doc: &[" Whether both tensors have the same shape and equal elements."],
        tags: FUNCTION | METHOD | NONDIFF,
        batch: Batching::Refuse(rules::EQUAL),
        call: Call::Make(|c| Ok(equal(c.tensor(0), c.tensor(1))?.into())),
    },
];
