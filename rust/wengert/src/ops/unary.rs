//! Pointwise operations of one tensor.
//!
//! Formulas of derivatives: Abramowitz & Stegun, chapters 4 and 7.

use super::binary::{number, where_};
use super::compare::{eq, ge, le, logical_and};
use super::product::placed;
use super::tags::*;
use super::zeros_like;
use crate::graph::Attribute;
use crate::kernels::math;
use crate::pointwise_rows;
use crate::{DType, Scalar, Tensor, bail};
use std::f64::consts::{FRAC_2_SQRT_PI, LN_2, LN_10, PI};

pointwise_rows! {
    /// Negation, `-x`.
    neg(x) -> y: "(input)", Same, ALL_FORMS, aka ["negative"],
        via |c, dest| {
            if c.tensor(0).dtype() == DType::Bool {
                bail!(DType, "", "Negation, the `-` operator, on a bool tensor is not supported. \
                      If you are trying to invert a mask, use the `~` or `logical_not()` operator \
                      instead.");
            }
            neg::run([c.tensor(0)], dest)
        } =>
    {
        int: x.wrapping_neg(), float: -x,
    } "NegBackward0" { x saves(): |g| -g }

    /// Absolute value. The gradient at 0 is 0.
    abs(x) -> y: "(input)", Same, ALL_FORMS, aka ["absolute"] => {
        u8: x, signed: x.wrapping_abs(), float: x.abs(),
    } "AbsBackward0" { x saves(x): |g| g * sign(x)? }

    /// Sign: -1, 0 or 1. The gradient is 0.
    sign(x) -> y: "(input)", Same, ALL_FORMS => {
        bool: x, u8: (x > 0) as u8, signed: x.signum(),
        float: if x > 0.0 { 1.0 } else if x < 0.0 { -1.0 } else { 0.0 },
    } "SignBackward0" { x saves(): |g| zeros_like(g)? }

    /// Exponential, `eˣ`.
    exp(x) -> y: "(input)", Float, ALL_FORMS => { float: math::exp(x) }
    "ExpBackward0" { x saves(y): |g| g * y }

    /// `eˣ - 1`, accurate near 0.
    expm1(x) -> y: "(input)", Float, ALL_FORMS, aka ["special.expm1"] => { float: math::expm1(x) }
    "Expm1Backward0" { x saves(y): |g| g * (y + 1.0) }

    /// Power of two, `2ˣ`.
    exp2(x) -> y: "(input)", Float, ALL_FORMS, aka ["special.exp2"] => { float: math::exp2(x) }
    "Exp2Backward0" { x saves(y): |g| g * y * LN_2 }

    /// Natural logarithm.
    log(x) -> y: "(input)", Float, ALL_FORMS => { float: math::ln(x) }
    "LogBackward0" { x saves(x): |g| g / x }

    /// Binary logarithm.
    log2(x) -> y: "(input)", Float, ALL_FORMS => { float: math::log2(x) }
    "Log2Backward0" { x saves(x): |g| g / (x * LN_2) }

    /// Decimal logarithm.
    log10(x) -> y: "(input)", Float, ALL_FORMS => { float: math::log10(x) }
    "Log10Backward0" { x saves(x): |g| g / (x * LN_10) }

    /// `ln(1 + x)`, accurate near 0.
    log1p(x) -> y: "(input)", Float, ALL_FORMS, aka ["special.log1p"] => { float: math::log1p(x) }
    "Log1PBackward0" { x saves(x): |g| g / (x + 1.0) }

    /// Square root.
    sqrt(x) -> y: "(input)", Float, ALL_FORMS => { float: x.sqrt() }
    "SqrtBackward0" { x saves(y): |g| g / (y * 2.0) }

    /// Reciprocal square root, `1 / √x`.
    rsqrt(x) -> y: "(input)", Float, ALL_FORMS => { float: 1.0 / x.sqrt() }
    "RsqrtBackward0" { x saves(y): |g| g * (y * y * y) * -0.5 }

    /// `1 / x`.
    reciprocal(x) -> y: "(input)", Float, ALL_FORMS => { float: 1.0 / x }
    "ReciprocalBackward0" { x saves(y): |g| -g * (y * y) }

    /// `x²`.
    square(x) -> y: "(input)", Same, ALL_FORMS,
        via |c, dest| match c.tensor(0) {
            x if x.dtype() == DType::Bool => {
                super::binary::pow_number::run([x, &Tensor::wrapped(Scalar::Int(2))?], dest)
            }
            x => square::run([x], dest),
        } =>
    {
        int: x.wrapping_mul(x), float: x * x,
    } "PowBackward0" shows("exponent", Attribute::int(2)) { x saves(x): |g| g * (x * 2.0) }

    /// Sine.
    sin(x) -> y: "(input)", Float, ALL_FORMS => { float: math::sin(x) }
    "SinBackward0" { x saves(x): |g| g * cos(x)? }

    /// Cosine.
    cos(x) -> y: "(input)", Float, ALL_FORMS => { float: math::cos(x) }
    "CosBackward0" { x saves(x): |g| -g * sin(x)? }

    /// Tangent.
    tan(x) -> y: "(input)", Float, ALL_FORMS => { float: math::tan(x) }
    "TanBackward0" { x saves(y): |g| g * (y * y + 1.0) }

    /// Arc sine, in `[-π/2, π/2]`; NaN outside `[-1, 1]`.
    asin(x) -> y: "(input)", Float, ALL_FORMS, aka ["arcsin"] => {
        float: math::atan(x / ((1.0 - x) * (1.0 + x)).sqrt()),
    } "AsinBackward0" { x saves(x): |g| g * rsqrt(&(1.0 - x * x))? }

    /// Arc cosine, in `[0, π]`; NaN outside `[-1, 1]`.
    acos(x) -> y: "(input)", Float, ALL_FORMS, aka ["arccos"] => {
        float: 2.0 * math::atan(((1.0 - x) / (1.0 + x)).sqrt()),
    } "AcosBackward0" { x saves(x): |g| -g * rsqrt(&(1.0 - x * x))? }

    /// Arc tangent, in `[-π/2, π/2]`.
    atan(x) -> y: "(input)", Float, ALL_FORMS, aka ["arctan"] => { float: math::atan(x) }
    "AtanBackward0" { x saves(x): |g| g / (x * x + 1.0) }

    /// Hyperbolic sine.
    sinh(x) -> y: "(input)", Float, ALL_FORMS => { float: math::sinh(x) }
    "SinhBackward0" { x saves(x): |g| g * cosh(x)? }

    /// Hyperbolic cosine.
    cosh(x) -> y: "(input)", Float, ALL_FORMS => { float: math::cosh(x) }
    "CoshBackward0" { x saves(x): |g| g * sinh(x)? }

    /// Inverse of [`sinh()`]. Above `LARGE`, where `x²` may overflow, `1 + x²` rounds to `x²`.
    asinh(x) -> y: "(input)", Float, ALL_FORMS, aka ["arcsinh"] => {
        float: {
            const LARGE: T = 1e9;
            let a = x.abs();
            let s = if a > LARGE { 1.0 } else { a };
            let near = math::log1p(s + s * s / (1.0 + (1.0 + s * s).sqrt()));
            let far = math::ln(a) + LN_2 as T;
            (if a > LARGE { far } else { near }).copysign(x)
        },
    } "AsinhBackward0" { x saves(x): |g| g * rsqrt(&(x * x + 1.0))? }

    /// Inverse of [`cosh()`] on `[1, ∞)`; NaN below.
    acosh(x) -> y: "(input)", Float, ALL_FORMS, aka ["arccosh"] => {
        float: {
            const LARGE: T = 1e9;
            let t = if x > LARGE { 1.0 } else { x - 1.0 };
            let near = math::log1p(t + (t * (t + 2.0)).sqrt());
            let far = math::ln(x) + LN_2 as T;
            if x > LARGE { far } else if x < 1.0 { T::NAN } else { near }
        },
    } "AcoshBackward0" { x saves(x): |g| g * rsqrt(&(x * x - 1.0))? }

    /// Inverse of [`tanh()`]; NaN outside `[-1, 1]`.
    atanh(x) -> y: "(input)", Float, ALL_FORMS, aka ["arctanh"] => {
        float: {
            let a = x.abs();
            (0.5 * math::log1p(2.0 * a / (1.0 - a))).copysign(x)
        },
    } "AtanhBackward0" { x saves(x): |g| g / (1.0 - x * x) }

    /// Hyperbolic tangent.
    tanh(x) -> y: "(input)", Float, ALL_FORMS, aka ["nn.functional.tanh"] => { float: math::tanh(x) }
    "TanhBackward0" { x saves(y): |g| tanh_backward(g, y)? }

    /// Derivative of [`tanh()`] from its result: `g (1 - y²)`.
    tanh_backward(g, y) -> z: "(grad_output, output)", Same, INTERNAL => {
        float: g * (1.0 - y * y),
    } "TanhBackwardBackward0" {
        g saves(y): |h| tanh_backward(h, y)?,
        y saves(g, y): |h| h * g * y * -2.0,
    }

    /// Logistic function, `1 / (1 + e⁻ˣ)`.
    sigmoid(x) -> y: "(input)", Float, ALL_FORMS, aka ["nn.functional.sigmoid", "special.expit"] => { float: math::sigmoid(x) }
    "SigmoidBackward0" { x saves(y): |g| sigmoid_backward(g, y)? }

    /// Derivative of [`sigmoid()`] from its result: `g y (1 - y)`.
    sigmoid_backward(g, y) -> z: "(grad_output, output)", Same, INTERNAL => {
        float: g * (1.0 - y) * y,
    } "SigmoidBackwardBackward0" {
        g saves(y): |h| sigmoid_backward(h, y)?,
        y saves(g, y): |h| h * g * (1.0 - y * 2.0),
    }

    /// `max(x, 0)`; NaN stays NaN. The gradient at 0 is 0.
    relu(x) -> y: "(input)", Same, ALL_FORMS => {
        int: x.max(0 as T), float: if x < 0.0 { 0.0 } else { x },
    } "ReluBackward0" { x saves(y): |g| threshold_backward(g, y)? }

    /// `g` where `y > 0`, else 0: the derivative of [`relu()`] from its result.
    threshold_backward(g, y) -> z: "(grad_output, output)", Same, INTERNAL => {
        float: if y <= 0.0 { 0.0 } else { g },
    } "ThresholdBackwardBackward0" { g saves(y): |h| threshold_backward(h, y)? }

    /// Error function.
    erf(x) -> y: "(input)", Float, ALL_FORMS, aka ["special.erf"] => { float: math::erf(x) }
    "ErfBackward0" {
        x saves(x): |g| g * exp(&-(x * x))? * FRAC_2_SQRT_PI
    }

    /// `1 - erf(x)`, accurate for large `x`.
    erfc(x) -> y: "(input)", Float, ALL_FORMS, aka ["special.erfc"] => { float: math::erfc(x) }
    "ErfcBackward0" {
        x saves(x): |g| g * exp(&-(x * x))? * -FRAC_2_SQRT_PI
    }

    /// The inverse of [`erf()`]: infinite at ±1, NaN beyond.
    erfinv(x) -> y: "(input)", Float, ALL_FORMS, aka ["special.erfinv"] => {
        float: math::erfinv(x as f64) as T,
    } "ErfinvBackward0" {
        x saves(y): |g| g * exp(&(y * y))? * FRAC_2_SQRT_PI.recip()
    }

    /// `sin(πx) / πx`, and 1 at 0.
    sinc(x) -> y: "(input)", Float, ALL_FORMS, aka ["special.sinc"] => {
        float: {
            let angle = x * PI as T;
            if x == 0.0 { 1.0 } else { math::sin(angle) / angle }
        },
    } "SincBackward0" {
        x saves(x): |g| {
            let zero = eq(x, &number(0.0)?)?;
            // At 0 the quotients are computed elsewhere and not used: a NaN would spoil the
            // derivative of this rule.
            let away = where_(&zero, &number(1.0)?, x)?;
            let angle = &away * PI;
            let slope = (cos(&angle)? - sin(&angle)? / angle) / away;
            where_(&zero, &number(0.0)?, &(g * slope))?
        }
    }

    /// `ln(x / (1 - x))`, the inverse of [`sigmoid()`]; with `eps`, `x` is first limited to
    /// `[eps, 1 - eps]`.
    logit(x) -> y: "(input, eps: float? = None)", Float, ALL_FORMS, aka ["special.logit"],
        via |c, dest| match c.opt_number(1) {
            None => logit::run([c.tensor(0)], dest),
            Some(eps) => logit_within::run([c.tensor(0), &number(eps.to_f64())?], dest),
        } =>
    { float: math::ln(x / (1.0 - x)) }
    "LogitBackward0" shows("eps", Attribute::none()) {
        x saves(x): |g| {
            let product = x * (1.0 - x);
            let inside = ge(&product, &number(0.0)?)?;
            where_(&inside, &(g / product), &number(f64::NAN)?)?
        },
    }

    /// [`logit()`] of `x` limited to `[eps, 1 - eps]`.
    logit_within(x, eps) -> y: "(input, eps: float)", Float, INTERNAL => {
        float: {
            let within = if x < eps { eps } else if x > 1.0 - eps { 1.0 - eps } else { x };
            math::ln(within / (1.0 - within))
        },
    } "LogitBackward0" {
        x saves(x, eps): |g| {
            let inside = logical_and(&ge(x, eps)?, &le(x, &(1.0 - eps))?)?;
            where_(&inside, &(g / (x * (1.0 - x))), &number(0.0)?)?
        },
    }

    /// Degrees to radians.
    deg2rad(x) -> y: "(input)", Float, ALL_FORMS => { float: x * (PI / 180.0) as T }
    "Deg2RadBackward0" { x saves(): |g| g * (PI / 180.0) }

    /// Radians to degrees.
    rad2deg(x) -> y: "(input)", Float, ALL_FORMS => { float: x * (180.0 / PI) as T }
    "Rad2DegBackward0" { x saves(): |g| g * (180.0 / PI) }

    /// NaN, `∞` and `-∞` replaced by numbers; the default ones are 0 and the largest and smallest
    /// of the type.
    nan_to_num(x, nan, high, low) -> y:
        "(input, nan: float? = None, posinf: float? = None, neginf: float? = None)",
        Same, ALL_FORMS,
        via |c, dest| {
            let (smallest, largest) = match c.tensor(0).dtype() {
                DType::Float16 => (-65504.0, 65504.0),
                DType::BFloat16 => (half::bf16::MIN.to_f64(), half::bf16::MAX.to_f64()),
                DType::Float32 => (f32::MIN as f64, f32::MAX as f64),
                DType::Float64 => (f64::MIN, f64::MAX),
                _ => return placed("nan_to_num", super::cast::clone(c.tensor(0))?, dest),
            };
            let or = |k: usize, default: f64| number(c.opt_number(k).map_or(default, |v| v.to_f64()));
            let numbers = [or(1, 0.0)?, or(2, largest)?, or(3, smallest)?];
            nan_to_num::run([c.tensor(0), &numbers[0], &numbers[1], &numbers[2]], dest)
        } =>
    {
        float: if x.is_nan() { nan } else if x == T::INFINITY { high }
            else if x == -T::INFINITY { low } else { x },
    } "NanToNumBackward0" { x saves(x): |g| g * isfinite(x)? }

    /// Largest integer not above `x`. The gradient is 0.
    floor(x) -> y: "(input)", Same, ALL_FORMS => { int: x, float: x.floor() }
    "FloorBackward0" { x saves(): |g| zeros_like(g)? }

    /// Smallest integer not below `x`. The gradient is 0.
    ceil(x) -> y: "(input)", Same, ALL_FORMS => { int: x, float: x.ceil() }
    "CeilBackward0" { x saves(): |g| zeros_like(g)? }

    /// `x` without its fraction. The gradient is 0.
    trunc(x) -> y: "(input)", Same, ALL_FORMS, aka ["fix"] => { int: x, float: x.trunc() }
    "TruncBackward0" { x saves(): |g| zeros_like(g)? }

    /// `x` rounded to the nearest integer, halves to even; with `decimals`, to so many decimal
    /// places (left of the point if negative). The gradient is 0.
    round(x) -> y: "(input, *, decimals: int = 0)", Same, ALL_FORMS, aka ["special.round"],
        via |c, dest| match c.int(1) {
            0 => round::run([c.tensor(0)], dest),
            decimals => {
                let power = number(10f64.powi(decimals.unsigned_abs().min(400) as i32))?;
                if decimals > 0 {
                    round_decimals::run([c.tensor(0), &power], dest)
                } else {
                    round_tens::run([c.tensor(0), &power], dest)
                }
            }
        } =>
    { int: x, float: x.round_ties_even() }
    "RoundBackward0" { x saves(): |g| zeros_like(g)? }

    /// `x` rounded to multiples of `1 / p`.
    round_decimals(x, p) -> y: "(input, power)", Same, INTERNAL => {
        float: (x * p).round_ties_even() / p,
    } "RoundBackward1" { x saves(): |g| zeros_like(g)? }

    /// `x` rounded to multiples of `p`.
    round_tens(x, p) -> y: "(input, power)", Same, INTERNAL => {
        float: (x / p).round_ties_even() * p,
    } "RoundBackward1" { x saves(): |g| zeros_like(g)? }

    /// The fraction of `x`, with its sign.
    frac(x) -> y: "(input)", Same, ALL_FORMS => { float: x - x.trunc() }
    "FracBackward0" { x saves(): |g| g.clone() }

    /// Whether `x` is negative, `-0.0` included.
    signbit(x) -> y as bool: "(input)", Same, FUNCTION | METHOD | OUT | NONDIFF => {
        bool: false, u8: false, signed: x < 0, float: x.is_sign_negative(),
    }

    /// Whether `x` is NaN.
    isnan(x) -> y as bool: "(input)", Same, FUNCTION | METHOD | NONDIFF => {
        bool: false, int: false, float: x.is_nan(),
    }

    /// Whether `x` is neither infinite nor NaN.
    isfinite(x) -> y as bool: "(input)", Same, FUNCTION | METHOD | NONDIFF => {
        bool: true, int: true, float: x.is_finite(),
    }

    /// Whether `x` is infinite.
    isinf(x) -> y as bool: "(input)", Same, FUNCTION | METHOD | NONDIFF => {
        bool: false, int: false, float: x.is_infinite(),
    }

    /// Whether `x` is zero.
    logical_not(x) -> y as bool: "(input)", Same, ALL_FORMS | NONDIFF => {
        bool: !x, int: x == 0, float: x == 0.0,
    }

    /// Bitwise complement; negation of truth values.
    bitwise_not(x) -> y: "(input)", Same, ALL_FORMS | NONDIFF => { bool: !x, int: !x }
}
