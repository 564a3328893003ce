//! Pointwise operations of one tensor.
//!
//! Formulas of derivatives: Abramowitz & Stegun, chapters 4 and 7.

use super::tags::*;
use super::zeros_like;
use crate::kernels::math;
use crate::pointwise_rows;

pointwise_rows! {
    /// Negation, `-x`.
    neg(x) -> y: "(input)", Same, ALL_FORMS, aka ["negative"] => {
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
    expm1(x) -> y: "(input)", Float, ALL_FORMS => { float: math::expm1(x) }
    "Expm1Backward0" { x saves(y): |g| g * (y + 1.0) }

    /// Natural logarithm.
    log(x) -> y: "(input)", Float, ALL_FORMS => { float: math::ln(x) }
    "LogBackward0" { x saves(x): |g| g / x }

    /// `ln(1 + x)`, accurate near 0.
    log1p(x) -> y: "(input)", Float, ALL_FORMS => { float: math::log1p(x) }
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
    square(x) -> y: "(input)", Same, ALL_FORMS => {
        int: x.wrapping_mul(x), float: x * x,
    } "PowBackward0" { x saves(x): |g| g * (x * 2.0) }

    /// Sine.
    sin(x) -> y: "(input)", Float, ALL_FORMS => { float: math::sin(x) }
    "SinBackward0" { x saves(x): |g| g * cos(x)? }

    /// Cosine.
    cos(x) -> y: "(input)", Float, ALL_FORMS => { float: math::cos(x) }
    "CosBackward0" { x saves(x): |g| -g * sin(x)? }

    /// Hyperbolic tangent.
    tanh(x) -> y: "(input)", Float, ALL_FORMS, aka ["nn.functional.tanh"] => { float: math::tanh(x) }
    "TanhBackward0" { x saves(y): |g| tanh_backward(g, y)? }

    /// Derivative of [`tanh`] from its result: `g (1 - y²)`.
    tanh_backward(g, y) -> z: "(grad_output, output)", Same, INTERNAL => {
        float: g * (1.0 - y * y),
    } "TanhBackwardBackward0" {
        g saves(y): |h| tanh_backward(h, y)?,
        y saves(g, y): |h| h * g * y * -2.0,
    }

    /// Logistic function, `1 / (1 + e⁻ˣ)`.
    sigmoid(x) -> y: "(input)", Float, ALL_FORMS, aka ["nn.functional.sigmoid"] => { float: math::sigmoid(x) }
    "SigmoidBackward0" { x saves(y): |g| sigmoid_backward(g, y)? }

    /// Derivative of [`sigmoid`] from its result: `g y (1 - y)`.
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

    /// `g` where `y > 0`, else 0: the derivative of [`relu`] from its result.
    threshold_backward(g, y) -> z: "(grad_output, output)", Same, INTERNAL => {
        float: if y <= 0.0 { 0.0 } else { g },
    } "ThresholdBackwardBackward0" { g saves(y): |h| threshold_backward(h, y)? }

    /// Error function.
    erf(x) -> y: "(input)", Float, ALL_FORMS => { float: math::erf(x) }
    "ErfBackward0" {
        x saves(x): |g| g * exp(&-(x * x))? * std::f64::consts::FRAC_2_SQRT_PI
    }

    /// Largest integer not above `x`. The gradient is 0.
    floor(x) -> y: "(input)", Same, ALL_FORMS => { int: x, float: x.floor() }
    "FloorBackward0" { x saves(): |g| zeros_like(g)? }

    /// Smallest integer not below `x`. The gradient is 0.
    ceil(x) -> y: "(input)", Same, ALL_FORMS => { int: x, float: x.ceil() }
    "CeilBackward0" { x saves(): |g| zeros_like(g)? }

    /// `x` without its fraction. The gradient is 0.
    trunc(x) -> y: "(input)", Same, ALL_FORMS => { int: x, float: x.trunc() }
    "TruncBackward0" { x saves(): |g| zeros_like(g)? }

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
