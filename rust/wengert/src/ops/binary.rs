//! Pointwise operations of two and three tensors.

use super::compare::{eq, ge, gt, le, logical_and, logical_or, lt};
use super::tags::*;
use super::unary::{isnan, log, reciprocal, sigmoid};
use super::zeros_like;
use crate::graph::Attribute;
use crate::kernels::math;
use crate::ops::Dest;
use crate::pointwise_rows;
use crate::tensor::Tensor;
use crate::{DType, Result, Scalar, bail};

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
    } "AddBackward0" shows("alpha", Attribute::int(1)) {
        a saves(): |g| g.clone(),
        b saves(): |g| g.clone(),
    }

    /// `a + s · b` with a number `s`.
    add_scaled(a, b, s) -> y: "(input, other, alpha: Number)", Same, INTERNAL => {
        bool: a | (b & s), int: a.wrapping_add(b.wrapping_mul(s)), float: a + s * b,
    } "AddBackward0" {
        a saves(): |g| g.clone(),
        b saves(s): |g| g * s,
    }

    /// `input - alpha · other`, elementwise with broadcasting.
    sub(a, b) -> y: "(input, other: Operand, *, alpha: Number = 1)", Same, ALL_FORMS,
        aka ["subtract"],
        via |c, dest| subtract(c.tensor(0), c.tensor(1), c.number(2), dest) =>
    {
        int: a.wrapping_sub(b), float: a - b,
    } "SubBackward0" shows("alpha", Attribute::int(1)) {
        a saves(): |g| g.clone(),
        b saves(): |g| -g,
    }

    /// `a - s · b` with a number `s`.
    sub_scaled(a, b, s) -> y: "(input, other, alpha: Number)", Same, INTERNAL => {
        int: a.wrapping_sub(b.wrapping_mul(s)), float: a - s * b,
    } "SubBackward0" {
        a saves(): |g| g.clone(),
        b saves(s): |g| -(g * s),
    }

    /// `other - alpha · input`, elementwise with broadcasting.
    rsub(a, b) -> y: "(input, other: Operand, alpha: Number = 1)", Same, FUNCTION,
        via |c, dest| match c.number(2) {
            Scalar::Int(1) if !has_bool(c.tensor(0), c.tensor(1)) => {
                rsub::run([c.tensor(0), c.tensor(1)], dest)
            }
            alpha => subtract(c.tensor(1), c.tensor(0), alpha, dest),
        } =>
    {
        int: b.wrapping_sub(a), float: b - a,
    } "RsubBackward0" number "RsubBackward1" shows("alpha", Attribute::int(1)) {
        a saves(): |g| -g,
        b saves(): |g| g.clone(),
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
    "DivBackward0" shows("rounding_mode", Attribute::none()) {
        a saves(b): |g| g / b,
        b saves(a, b): |g| div_backward(g, a, b)?,
    }

    /// Derivative of a quotient by its divisor, `-g · a / b²`. From the operands and not from the
    /// result, so that the result may be written to.
    div_backward(g, a, b) -> y: "(grad, a, b)", Same, INTERNAL => {
        float: -g * ((a / b) / b),
    } "DivBackwardBackward0" {
        g saves(a, b): |h| div_backward(h, a, b)?,
        a saves(g, b): |h| div_backward(h, g, b)?,
        b saves(g, a, b): |h| div_backward(&(h * g * -2.0), a, b)? / b,
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
    } "DivBackward2" shows("rounding_mode", Attribute::text("floor")) {
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
    } "DivBackward2" shows("rounding_mode", Attribute::text("trunc")) {
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
    } "RemainderBackward1" number "RemainderBackward0" {
        a saves(): |g| g.clone(),
        b saves(a, b): |g| -g * floor_quotient_of(a, b)?,
    }

    /// Remainder with the sign of the dividend, as in C.
    fmod(a, b) -> y: "(input, other: Operand)", Same, ALL_FORMS,
        via |c, dest| {
            check_divisor("fmod", c.tensor(0), c.tensor(1))?;
            fmod::run([c.tensor(0), c.tensor(1)], dest)
        } =>
    {
        int: a.checked_rem(b).unwrap_or(0), float: a % b,
    } "FmodBackward1" number "FmodBackward0" {
        a saves(): |g| g.clone(),
        b saves(a, b): |g| -g * div_trunc(a, b)?,
    }

    /// `input` to the power `exponent`, elementwise with broadcasting.
    ///
    /// A tensor of whole numbers to a negative number is an error; to a tensor of negative
    /// powers it gives the whole part of the result.
    pow(a, b) -> y: "(input: Operand, exponent: Operand)", Same, ALL_FORMS,
        via |c, dest| {
            check_one_is_tensor("pow", c.tensor(0), c.tensor(1))?;
            power(c.tensor(0), c.tensor(1), dest)
        } =>
    {
        u8: a.wrapping_pow(b as u32),
        signed: match (a, b < 0) {
            (_, false) => a.wrapping_pow((b as i64).min(u32::MAX as i64) as u32),
            (1, true) => 1,
            (-1, true) => if b & 1 == 0 { 1 } else { -1 },
            _ => 0,
        },
        float: math::pow(a, b),
    } "PowBackward1" number "PowBackward2" {
        a saves(a, b): |g| pow_backward(g, a, b)?,
        b saves(a, b, y): |g| {
            // 0 to a positive power stays 0 when the power changes a little.
            let flat = logical_and(&eq(a, &number(0.0)?)?, &ge(b, &number(0.0)?)?)?;
            where_(&flat, &number(0.0)?, &(g * y * log(a)?))?
        },
    }

    /// `x` to a power that is a number.
    pow_number(x, s) -> y: "(input, exponent: Number)", Same, INTERNAL => {
        bool: x | !s,
        int: x.wrapping_pow((s as i64).clamp(0, u32::MAX as i64) as u32),
        float: math::pow(x, s),
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

    /// Larger value, elementwise; a number wins over NaN. At ties `input` gets the gradient.
    fmax(a, b) -> y: "(input, other)", Same, FUNCTION | METHOD | OUT => {
        bool: a | b, int: a.max(b), float: if a >= b || b.is_nan() { a } else { b },
    } "FmaxBackward0" {
        a saves(a, b): |g| where_(&logical_or(&ge(a, b)?, &isnan(b)?)?, g, &number(0.0)?)?,
        b saves(a, b): |g| where_(&logical_or(&ge(a, b)?, &isnan(b)?)?, &number(0.0)?, g)?,
    }

    /// Smaller value, elementwise; a number wins over NaN. At ties `input` gets the gradient.
    fmin(a, b) -> y: "(input, other)", Same, FUNCTION | METHOD | OUT => {
        bool: a & b, int: a.min(b), float: if a <= b || b.is_nan() { a } else { b },
    } "FminBackward0" {
        a saves(a, b): |g| where_(&logical_or(&le(a, b)?, &isnan(b)?)?, g, &number(0.0)?)?,
        b saves(a, b): |g| where_(&logical_or(&le(a, b)?, &isnan(b)?)?, &number(0.0)?, g)?,
    }

    /// The angle of the point `(other, input)`, in `[-π, π]`.
    atan2(a, b) -> y: "(input, other)", Float, ALL_FORMS, aka ["arctan2"] => {
        float: {
            let (p, q) = (a.abs(), b.abs());
            // At the origin and at infinity the quotient is NaN; the angle is that of the corner.
            let slope = if p == q { if p == 0.0 { 0.0 } else { 1.0 } } else { p / q };
            let angle = math::atan(slope);
            let half_turn = std::f64::consts::PI as T;
            (if b.is_sign_negative() { half_turn - angle } else { angle }).copysign(a)
        },
    } "Atan2Backward0" {
        a saves(a, b): |g| g * inverse_square(a, b)? * b,
        b saves(a, b): |g| -g * inverse_square(a, b)? * a,
    }

    /// `√(input² + other²)` without overflow on the way.
    hypot(a, b) -> y: "(input, other)", Same, ALL_FORMS => {
        float: {
            let (p, q) = (a.abs(), b.abs());
            let (large, small) = if p > q { (p, q) } else { (q, p) };
            let ratio = small / large;
            let length = large * (1.0 + ratio * ratio).sqrt();
            if p == T::INFINITY || q == T::INFINITY { T::INFINITY }
                else if small == 0.0 { large } else { length }
        },
    } "HypotBackward0" {
        a saves(a, y): |g| g * (a / y),
        b saves(b, y): |g| g * (b / y),
    }

    /// `ln(eᵃ + eᵇ)` without overflow on the way.
    logaddexp(a, b) -> y: "(input, other)", Same, FUNCTION | METHOD | OUT => {
        float: {
            let larger = if a > b { a } else { b };
            let tail = math::log1p(math::exp(-(a - b).abs()));
            // Equal operands may be infinite, and then their difference is NaN.
            if a == b { a + std::f64::consts::LN_2 as T } else { larger + tail }
        },
    } "LogaddexpBackward0" {
        a saves(a, b): |g| g * sigmoid(&(a - b))?,
        b saves(a, b): |g| g * sigmoid(&(b - a))?,
    }

    /// `log₂(2ᵃ + 2ᵇ)` without overflow on the way.
    logaddexp2(a, b) -> y: "(input, other)", Same, FUNCTION | METHOD | OUT => {
        float: {
            let larger = if a > b { a } else { b };
            let tail = math::log1p(math::exp2(-(a - b).abs())) * std::f64::consts::LOG2_E as T;
            // Equal operands may be infinite, and then their difference is NaN.
            if a == b { a + 1.0 } else { larger + tail }
        },
    } "Logaddexp2Backward0" {
        a saves(a, b): |g| g * sigmoid(&((a - b) * std::f64::consts::LN_2))?,
        b saves(a, b): |g| g * sigmoid(&((b - a) * std::f64::consts::LN_2))?,
    }

    /// `input · ln(other)`, and 0 where `input` is 0.
    xlogy(a, b) -> y: "(input: Operand, other: Operand)", Float, ALL_FORMS,
        aka ["special.xlogy"],
        via |c, dest| {
            check_one_is_tensor("xlogy", c.tensor(0), c.tensor(1))?;
            xlogy::run([c.tensor(0), c.tensor(1)], dest)
        } => {
        float: if b.is_nan() { b } else if a == 0.0 { 0.0 } else { a * math::ln(b) },
    } "XlogyBackward0" {
        a saves(a, b): |g| {
            let flat = logical_and(&eq(a, &number(0.0)?)?, &le(b, &number(0.0)?)?)?;
            where_(&flat, &number(0.0)?, &xlogy(g, b)?)?
        },
        b saves(a, b): |g| g * (a / b),
    }

    /// The magnitude of `input` with the sign of `other`.
    copysign(a, b) -> y: "(input, other: Operand)", Float, ALL_FORMS => {
        float: a.copysign(b),
    } "CopysignBackward0" number "CopysignBackward1" {
        a saves(a, b): |g| where_(&eq(a, &number(0.0)?)?, &number(0.0)?, &(g * (copysign(a, b)? / a)))?,
        b saves(): |g| zeros_like(g)?,
    }

    /// Heaviside's step: 0 for negative `input`, 1 for positive, `values` at 0.
    heaviside(a, b) -> y: "(input, values)", Same, ALL_FORMS | NONDIFF,
        via |c, dest| {
            if c.tensor(0).dtype() != c.tensor(1).dtype() {
                bail!(DType, "", "heaviside is not yet implemented for tensors with different \
                                  dtypes.");
            }
            heaviside::run([c.tensor(0), c.tensor(1)], dest)
        } =>
    {
        bool: a | b,
        int: if a == 0 { b } else { (a > 0 as T) as T },
        float: if a == 0.0 { b } else { (a > 0.0) as u8 as T },
    }

    /// `input` where `condition` holds, else `other`, with broadcasting.
    where_(c: bool, a, b) -> y: "(condition, input: Operand, other: Operand)", Same, INTERNAL => {
        any: if c { a } else { b },
    } "WhereBackward0" {
        a saves(c): |g| where_(c, g, &number(0.0)?)?,
        b saves(c): |g| where_(c, &number(0.0)?, g)?,
    }

    /// A derivative times `g`, but 0 where it is NaN although `g` is 0: zero times infinity.
    masked(x, g) -> y: "(input, grad)", Same, INTERNAL => {
        float: if g == 0.0 && x != x { 0.0 } else { x },
    } "MaskedGradientBackward0" {
        x saves(x, g): |h| {
            let dropped = logical_and(&eq(g, &number(0.0)?)?, &isnan(x)?)?;
            where_(&dropped, &number(0.0)?, h)?
        },
    }

    /// Values below `lo` become `lo`; NaN stays.
    clamp_min(x, lo) -> y: "(input, min: Operand)", Same, ALL_FORMS => {
        int: x.max(lo), float: if x < lo || lo.is_nan() { lo } else { x },
    } "ClampMinBackward1" number "ClampMinBackward0" {
        x saves(x, lo): |g| where_(&ge(x, lo)?, g, &number(0.0)?)?,
        lo saves(x, lo): |g| where_(&lt(x, lo)?, g, &number(0.0)?)?,
    }

    /// Values above `hi` become `hi`; NaN stays.
    clamp_max(x, hi) -> y: "(input, max: Operand)", Same, ALL_FORMS => {
        int: x.min(hi), float: if x > hi || hi.is_nan() { hi } else { x },
    } "ClampMaxBackward1" number "ClampMaxBackward0" {
        x saves(x, hi): |g| where_(&le(x, hi)?, g, &number(0.0)?)?,
        hi saves(x, hi): |g| where_(&gt(x, hi)?, g, &number(0.0)?)?,
    }

    /// Values limited to `[lo, hi]`; `hi` wins if they cross.
    clamp_both(x, lo, hi) -> y: "(input, min: Operand, max: Operand)", Same, INTERNAL => {
        int: x.max(lo).min(hi),
        float: {
            let raised = if x < lo || lo.is_nan() { lo } else { x };
            if raised > hi || hi.is_nan() { hi } else { raised }
        },
    } "ClampBackward0" number "ClampBackward1" {
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

pub(crate) fn number(x: f64) -> Result<Tensor> {
    Tensor::wrapped(Scalar::Float(x))
}

fn has_bool(a: &Tensor, b: &Tensor) -> bool {
    a.dtype() == DType::Bool || b.dtype() == DType::Bool
}

/// `a - alpha · b`.
pub(crate) fn subtract(a: &Tensor, b: &Tensor, alpha: Scalar, dest: Dest) -> Result<Tensor> {
    if a.dtype() == DType::Bool && b.dtype() == DType::Bool {
        bail!(
            DType,
            "",
            "Subtraction, the `-` operator, with two bool tensors is not supported. Use the `^` or \
             `logical_xor()` operator instead."
        );
    }
    if has_bool(a, b) {
        bail!(
            DType,
            "",
            "Subtraction, the `-` operator, with a bool tensor is not supported. If you are trying \
             to invert a mask, use the `~` or `logical_not()` operator instead."
        );
    }
    match alpha {
        Scalar::Int(1) => sub::run([a, b], dest),
        alpha => sub_scaled::run([a, b, &scaled("sub", a, b, alpha)?], dest),
    }
}

/// Refuses two numbers where either operand may be one.
fn check_one_is_tensor(op: &'static str, a: &Tensor, b: &Tensor) -> Result<()> {
    if !(a.is_wrapped_number() && b.is_wrapped_number()) {
        return Ok(());
    }
    let kind = |t: &Tensor| match t.dtype() {
        DType::Bool => "bool",
        DType::Int64 => "int",
        _ => "float",
    };
    bail!(
        DType,
        "",
        "{op}() received an invalid combination of arguments - got ({}, {}), but at least one must \
         be a Tensor",
        kind(a),
        kind(b)
    )
}

/// Refuses operands of two types where PyTorch does.
pub(crate) fn check_same_dtype(a: &Tensor, b: &Tensor, what: &str) -> Result<()> {
    if a.dtype() == b.dtype() || b.is_wrapped_number() {
        return Ok(());
    }
    bail!(DType, "", "expected dtype {} for `{what}` but got dtype {}", a.dtype(), b.dtype())
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

/// `1 / (a² + b²)`, and 0 at the origin.
fn inverse_square(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let square = a * a + b * b;
    where_(&eq(&square, &number(0.0)?)?, &number(0.0)?, &reciprocal(&square)?)
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

/// The operator `x ** exponent`. Whole numbers to negative powers are refused, also where the
/// exponent is a tensor: PyTorch gives zeros there without a word.
fn power(x: &Tensor, exponent: &Tensor, dest: Dest) -> Result<Tensor> {
    let whole = x.dtype().is_integral() && exponent.dtype().is_integral();
    if whole
        && exponent.dtype().is_signed()
        && super::reduce::any(&lt(exponent, &Tensor::wrapped(Scalar::Int(0))?)?)?
    {
        bail!(Value, "", "Integers to negative integer powers are not allowed.");
    }
    if exponent.is_wrapped_number() && !x.is_wrapped_number() {
        let two = exponent.item()?.to_f64() == 2.0;
        let keeps_type =
            x.dtype().is_floating() || exponent.dtype().is_integral() && x.dtype() != DType::Bool;
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

/// The operator `a - b`.
pub fn difference(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    subtract(a, b, Scalar::Int(1), Dest::New)
}

/// The operator `a - b` for a number `a`, which PyTorch records as `rsub(b, a)`.
pub fn difference_from(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    if has_bool(b, a) { subtract(a, b, Scalar::Int(1), Dest::New) } else { rsub(b, a) }
}

/// The operator `a / b` for a number `a`, which is `b.reciprocal() * a` in PyTorch.
pub fn quotient_of(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    mul(&super::unary::reciprocal(b)?, a)
}

/// The operator `a // b`.
pub fn floor_quotients(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    check_divisor("floor_divide", a, b)?;
    floor_divide(a, b)
}

/// The operator `a % b`.
pub fn remainders(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    check_divisor("remainder", a, b)?;
    remainder(a, b)
}

/// The operator `a ** b`.
pub fn powers(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    power(a, b, Dest::New)
}
