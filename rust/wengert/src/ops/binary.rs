//! Pointwise operations of two and three tensors.

use super::compare::{eq, ge, gt, le, logical_and, logical_or, lt};
use super::tags::*;
use super::unary::log;
use super::zeros_like;
use crate::ops::Dest;
use crate::pointwise_rows;
use crate::tensor::Tensor;
use crate::{Result, Scalar, bail};

pointwise_rows! {
    /// `input + alpha · other`, elementwise with broadcasting.
    add(a, b) -> y: "(input, other: Operand, *, alpha: Number = 1)", Same, ALL_FORMS,
        via |c, dest| match c.number(2) {
            Scalar::Int(1) => add::run([c.tensor(0), c.tensor(1)], dest),
            alpha => {
                let alpha = scaled("add", c.tensor(0), c.tensor(1), alpha)?;
                add_scaled::run([c.tensor(0), c.tensor(1), &alpha], dest)
            }
        } =>
    {
        bool: a | b, int: a.wrapping_add(b), float: a + b,
    } "AddBackward0" {
        a saves(): |g| g.clone(),
        b saves(): |g| g.clone(),
    }

    /// `a + s · b` with a number `s`.
    add_scaled(a, b, s) -> y: "(input, other, alpha)", Same, INTERNAL => {
        bool: a | (b & s), int: a.wrapping_add(b.wrapping_mul(s)), float: a + s * b,
    } "AddBackward0" {
        a saves(): |g| g.clone(),
        b saves(s): |g| g * s,
    }

    /// `input - alpha · other`, elementwise with broadcasting.
    sub(a, b) -> y: "(input, other: Operand, *, alpha: Number = 1)", Same, ALL_FORMS,
        aka ["subtract"],
        via |c, dest| {
            for t in [c.tensor(0), c.tensor(1)] {
                if t.dtype() == crate::DType::Bool {
                    bail!(DType, "", "Subtraction, the `-` operator, with a bool tensor is not \
                          supported. If you are trying to invert a mask, use the `~` or \
                          `logical_not()` operator instead.");
                }
            }
            match c.number(2) {
                Scalar::Int(1) => sub::run([c.tensor(0), c.tensor(1)], dest),
                alpha => {
                    let alpha = scaled("sub", c.tensor(0), c.tensor(1), alpha)?;
                    sub_scaled::run([c.tensor(0), c.tensor(1), &alpha], dest)
                }
            }
        } =>
    {
        int: a.wrapping_sub(b), float: a - b,
    } "SubBackward0" {
        a saves(): |g| g.clone(),
        b saves(): |g| -g,
    }

    /// `a - s · b` with a number `s`.
    sub_scaled(a, b, s) -> y: "(input, other, alpha)", Same, INTERNAL => {
        int: a.wrapping_sub(b.wrapping_mul(s)), float: a - s * b,
    } "SubBackward0" {
        a saves(): |g| g.clone(),
        b saves(s): |g| -(g * s),
    }

    /// Product, elementwise with broadcasting.
    mul(a, b) -> y: "(input, other: Operand)", Same, ALL_FORMS, aka ["multiply"] => {
        bool: a & b, int: a.wrapping_mul(b), float: a * b,
    } "MulBackward0" {
        a saves(b): |g| g * b,
        b saves(a): |g| g * a,
    }

    /// Quotient, elementwise with broadcasting; whole numbers give floats.
    ///
    /// With `rounding_mode='floor'` or `'trunc'` the quotient is rounded, and whole numbers stay
    /// whole.
    div(a, b) -> y: "(input, other: Operand, *, rounding_mode: str? = None)", Float, ALL_FORMS,
        aka ["divide", "true_divide"],
        via |c, dest| match c.opt_str(2) {
            None => div::run([c.tensor(0), c.tensor(1)], dest),
            Some("floor") => floor_divide::run([c.tensor(0), c.tensor(1)], dest),
            Some("trunc") => div_trunc::run([c.tensor(0), c.tensor(1)], dest),
            Some(other) => bail!(
                Value, "", "div expected rounding_mode to be one of None, 'trunc', or 'floor' but \
                            found '{other}'"
            ),
        } =>
    { float: a / b }
    "DivBackward0" {
        a saves(b): |g| g / b,
        b saves(b, y): |g| -g * y / b,
    }

    /// Quotient rounded down, elementwise. Division of whole numbers by zero is an error.
    floor_divide(a, b) -> y: "(input, other: Operand)", Same, ALL_FORMS,
        via |c, dest| {
            check_divisor("floor_divide", c.tensor(0), c.tensor(1))?;
            floor_divide::run([c.tensor(0), c.tensor(1)], dest)
        } =>
    {
        u8: a.checked_div(b).unwrap_or(0),
        signed: {
            let q = a.checked_div(b).unwrap_or(if b == 0 { 0 } else { a });
            if b != 0 && (a.wrapping_rem(b) != 0) && ((a < 0) != (b < 0)) { q.wrapping_sub(1) } else { q }
        },
        float: floor_quotient(a as f64, b as f64) as T,
    } "DivBackward0" {
        a saves(): |g| zeros_like(g)?,
        b saves(): |g| zeros_like(g)?,
    }

    /// Quotient rounded towards zero.
    div_trunc(a, b) -> y: "(input, other: Operand)", Same, INTERNAL,
        via |c, dest| {
            check_divisor("div", c.tensor(0), c.tensor(1))?;
            div_trunc::run([c.tensor(0), c.tensor(1)], dest)
        } =>
    {
        u8: a.checked_div(b).unwrap_or(0),
        signed: a.checked_div(b).unwrap_or(if b == 0 { 0 } else { a }),
        float: (a / b).trunc(),
    } "DivBackward0" {
        a saves(): |g| zeros_like(g)?,
        b saves(): |g| zeros_like(g)?,
    }

    /// Remainder with the sign of the divisor, as in Python.
    remainder(a, b) -> y: "(input, other: Operand)", Same, ALL_FORMS,
        via |c, dest| {
            check_divisor("remainder", c.tensor(0), c.tensor(1))?;
            remainder::run([c.tensor(0), c.tensor(1)], dest)
        } =>
    {
        u8: a.checked_rem(b).unwrap_or(0),
        signed: {
            let r = a.checked_rem(b).unwrap_or(0);
            if r != 0 && ((r < 0) != (b < 0)) { r.wrapping_add(b) } else { r }
        },
        float: { let r = a % b; if r != 0.0 && ((r < 0.0) != (b < 0.0)) { r + b } else { r } },
    } "RemainderBackward0" {
        a saves(): |g| g.clone(),
        b saves(a, b): |g| -g * floor_quotient_of(a, b)?,
    }

    /// `input` to the power `exponent`, elementwise with broadcasting.
    ///
    /// Whole numbers to negative powers are an error.
    pow(a, b) -> y: "(input: Operand, exponent: Operand)", Same, ALL_FORMS,
        via |c, dest| power(c.tensor(0), c.tensor(1), dest) =>
    {
        bool: a | !b,
        int: a.wrapping_pow((b as i64).clamp(0, u32::MAX as i64) as u32),
        float: a.powf(b),
    } "PowBackward1" {
        a saves(a, b): |g| pow_backward(g, a, b)?,
        b saves(a, b, y): |g| {
            // 0 to a positive power stays 0 when the power changes a little.
            let flat = logical_and(&eq(a, &number(0.0)?)?, &ge(b, &number(0.0)?)?)?;
            where_(&flat, &number(0.0)?, &(g * y * log(a)?))?
        },
    }

    /// `x` to a power that is a number.
    pow_number(x, s) -> y: "(input, exponent)", Same, INTERNAL => {
        bool: x | !s,
        int: x.wrapping_pow((s as i64).clamp(0, u32::MAX as i64) as u32),
        float: x.powf(s),
    } "PowBackward0" { x saves(x, s): |g| pow_backward(g, x, s)? }

    /// Larger value, elementwise; NaN wins. At ties each side gets half of the gradient.
    maximum(a, b) -> y: "(input, other)", Same, FUNCTION | METHOD | OUT => {
        bool: a | b, int: a.max(b), float: if a > b || a.is_nan() { a } else { b },
    } "MaximumBackward0" {
        a saves(a, b): |g| larger_backward(g, a, b)?,
        b saves(a, b): |g| larger_backward(g, b, a)?,
    }

    /// Smaller value, elementwise; NaN wins. At ties each side gets half of the gradient.
    minimum(a, b) -> y: "(input, other)", Same, FUNCTION | METHOD | OUT => {
        bool: a & b, int: a.min(b), float: if a < b || a.is_nan() { a } else { b },
    } "MinimumBackward0" {
        a saves(a, b): |g| larger_backward(g, b, a)?,
        b saves(a, b): |g| larger_backward(g, a, b)?,
    }

    /// `g` where `a > b`, half of it where they are equal, else 0.
    larger_backward(g, a, b) -> y: "(grad, a, b)", Same, INTERNAL => {
        float: if a == b { g * 0.5 } else if a < b { 0.0 } else { g },
    } "LargerBackward0" { g saves(a, b): |h| larger_backward(h, a, b)? }

    /// `input` where `condition` holds, else `other`, with broadcasting.
    where_(c: bool, a, b) -> y: "(condition, input: Operand, other: Operand)", Same, INTERNAL => {
        any: if c { a } else { b },
    } "WhereBackward0" {
        a saves(c): |g| where_(c, g, &number(0.0)?)?,
        b saves(c): |g| where_(c, &number(0.0)?, g)?,
    }

    /// Values below `lo` become `lo`; NaN stays.
    clamp_min(x, lo) -> y: "(input, min: Operand)", Same, ALL_FORMS => {
        int: x.max(lo), float: if x < lo || lo.is_nan() { lo } else { x },
    } "ClampMinBackward0" {
        x saves(x, lo): |g| where_(&ge(x, lo)?, g, &number(0.0)?)?,
        lo saves(x, lo): |g| where_(&lt(x, lo)?, g, &number(0.0)?)?,
    }

    /// Values above `hi` become `hi`; NaN stays.
    clamp_max(x, hi) -> y: "(input, max: Operand)", Same, ALL_FORMS => {
        int: x.min(hi), float: if x > hi || hi.is_nan() { hi } else { x },
    } "ClampMaxBackward0" {
        x saves(x, hi): |g| where_(&le(x, hi)?, g, &number(0.0)?)?,
        hi saves(x, hi): |g| where_(&gt(x, hi)?, g, &number(0.0)?)?,
    }

    /// Values limited to `[lo, hi]`; `hi` wins if they cross.
    clamp_both(x, lo, hi) -> y: "(input, min, max)", Same, INTERNAL => {
        int: x.max(lo).min(hi),
        float: {
            let raised = if x < lo || lo.is_nan() { lo } else { x };
            if raised > hi || hi.is_nan() { hi } else { raised }
        },
    } "ClampBackward1" {
        x saves(x, lo, hi): |g| clamp_backward(g, x, lo, hi)?,
        lo saves(x, lo, hi): |g| {
            let low = logical_and(&lt(x, lo)?, &lt(lo, hi)?)?;
            where_(&low, g, &number(0.0)?)?
        },
        hi saves(x, lo, hi): |g| {
            let high = gt(x, hi)?;
            let crossed = lt(hi, lo)?;
            where_(&logical_or(&high, &crossed)?, g, &number(0.0)?)?
        },
    }

    /// `g` where `lo <= x <= hi`, else 0.
    clamp_backward(g, x, lo, hi) -> y: "(grad, input, min, max)", Same, INTERNAL => {
        float: if x >= lo && x <= hi { g } else { 0.0 },
    } "ClampBackwardBackward0" { g saves(x, lo, hi): |h| clamp_backward(h, x, lo, hi)? }
}

fn number(x: f64) -> Result<Tensor> {
    Tensor::wrapped(Scalar::Float(x))
}

/// The factor of `add` and `sub` as an operand, refused where it would lose its fraction.
fn scaled(op: &'static str, a: &Tensor, b: &Tensor, alpha: Scalar) -> Result<Tensor> {
    let mut common = crate::dtype::ResultType::default();
    for t in [a, b] {
        if t.is_wrapped_number() {
            common.scalar(t.item()?);
        } else {
            common.tensor(t.dtype(), t.ndim());
        }
    }
    match (common.finish().category(), alpha.category()) {
        (crate::dtype::Category::Integer, crate::dtype::Category::Floating) => bail!(
            DType,
            "",
            "For integral input tensors, argument alpha must not be a floating point \
                        number. ({op})"
        ),
        (c, crate::dtype::Category::Bool) if c != crate::dtype::Category::Bool => {
            bail!(DType, "", "Boolean alpha only supported for Boolean results. ({op})")
        }
        _ => Tensor::wrapped(alpha),
    }
}

/// Refuses to divide whole numbers by zero.
fn check_divisor(op: &'static str, a: &Tensor, b: &Tensor) -> Result<()> {
    if a.dtype().is_integral() && b.dtype().is_integral() {
        let zeros = super::unary::logical_not(b)?;
        if super::reduce::any(&zeros)? {
            bail!(ZeroDivision, op, "division by zero");
        }
    }
    Ok(())
}

/// Python's floor division of floats.
fn floor_quotient(a: f64, b: f64) -> f64 {
    if b == 0.0 {
        return a / b;
    }
    let r = a % b;
    let mut q = (a - r) / b;
    if r != 0.0 && (b < 0.0) != (r < 0.0) {
        q -= 1.0;
    }
    if q == 0.0 {
        return 0.0f64.copysign(a / b);
    }
    let floored = q.floor();
    if q - floored > 0.5 { floored + 1.0 } else { floored }
}

fn floor_quotient_of(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    floor_divide(a, b)
}

/// `g · s · xˢ⁻¹`, and 0 where `s` is 0 (also at `x = 0`).
fn pow_backward(g: &Tensor, x: &Tensor, s: &Tensor) -> Result<Tensor> {
    if s.is_wrapped_number() {
        let exponent = s.item()?.to_f64();
        if exponent == 0.0 {
            return super::zeros_like(g);
        }
        return Ok(g * (power(x, &number(exponent - 1.0)?, Dest::New)? * exponent));
    }
    let slope = g * (s * pow(x, &(s - 1.0))?);
    where_(&eq(s, &number(0.0)?)?, &number(0.0)?, &slope)
}

fn power(x: &Tensor, exponent: &Tensor, dest: Dest) -> Result<Tensor> {
    let whole = x.dtype().is_integral() && exponent.dtype().is_integral();
    if whole
        && super::reduce::any(&super::compare::lt(exponent, &Tensor::wrapped(Scalar::Int(0))?)?)?
    {
        bail!(Value, "", "Integers to negative integer powers are not allowed.");
    }
    if exponent.is_wrapped_number() && !x.is_wrapped_number() {
        let two = exponent.item()?.to_f64() == 2.0;
        let keeps_type = x.dtype().is_floating()
            || exponent.dtype().is_integral() && x.dtype() != crate::DType::Bool;
        if two && keeps_type {
            return super::unary::square::run([x], dest);
        }
        return pow_number::run([x, exponent], dest);
    }
    pow::run([x, exponent], dest)
}

/// `clamp` with either bound absent.
pub fn clamp(x: &Tensor, lo: Option<&Tensor>, hi: Option<&Tensor>, dest: Dest) -> Result<Tensor> {
    match (lo, hi) {
        (Some(lo), Some(hi)) => clamp_both::run([x, lo, hi], dest),
        (Some(lo), None) => clamp_min::run([x, lo], dest),
        (None, Some(hi)) => clamp_max::run([x, hi], dest),
        (None, None) => {
            bail!(Value, "", "torch.clamp: At least one of 'min' or 'max' must not be None")
        }
    }
}
