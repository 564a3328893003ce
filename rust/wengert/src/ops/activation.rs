//! Activation functions of `nn.functional` that have a formula of their own.
//!
//! The pointwise rows carry formula and derivative; [`FUNCTIONS`] gives them their public names
//! and PyTorch's parameters, among them `inplace`.

use super::binary::{number, subtract, where_};
use super::compare::{gt, le};
use super::tags::*;
use super::unary::{abs, exp, relu, sigmoid, sigmoid_backward, tanh};
use super::{Args, Call, Dest, Row, add, div};
use crate::batch::Batching;
use crate::graph::{Attribute, inplace};
use crate::kernels::math;
use crate::pointwise_rows;
use crate::tensor::Tensor;
use crate::{DType, Result, Scalar, bail};
use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI};

/// `1 / √(2π)`
const DENSITY: f64 = FRAC_2_SQRT_PI * FRAC_1_SQRT_2 * 0.5;
/// `√(2/π)`
const GELU_SCALE: f64 = FRAC_2_SQRT_PI * FRAC_1_SQRT_2;
const GELU_CUBE: f64 = 0.044715;

pointwise_rows! {
    /// `ln(sigmoid(x))`, accurate at both ends.
    logsigmoid(x) -> y: "(input)", Same, INTERNAL => { float: math::logsigmoid(x) }
    "LogSigmoidBackward0" { x saves(x): |g| g * sigmoid(&-x)? }

    /// `x` limited to `[lo, hi]`; the gradient is 0 at the limits.
    hardtanh(x, lo, hi) -> y: "(input, min_val: float, max_val: float)", Same, INTERNAL => {
        int: x.max(lo).min(hi), float: if x < lo { lo } else if x > hi { hi } else { x },
    } "HardtanhBackward0" { x saves(x, lo, hi): |g| inside(g, x, lo, hi)? }

    /// `g` where `lo < x < hi`, else 0.
    inside(g, x, lo, hi) -> y: "(grad, input, min_val: float, max_val: float)", Same, INTERNAL => {
        float: if x <= lo || x >= hi { 0.0 } else { g },
    } "HardtanhBackwardBackward0" { g saves(x, lo, hi): |h| inside(h, x, lo, hi)? }

    /// `x · min(max(x + 3, 0), 6) / 6`.
    hardswish(x) -> y: "(input)", Same, INTERNAL => {
        float: {
            let t = x + 3.0;
            x * (if t < 0.0 { 0.0 } else if t > 6.0 { 6.0 } else { t }) / 6.0
        },
    } "HardswishBackward0" { x saves(x): |g| hardswish_backward(g, x)? }

    /// Derivative of [`hardswish()`].
    hardswish_backward(g, x) -> y: "(grad, input)", Same, INTERNAL => {
        float: if x <= -3.0 { 0.0 } else if x >= 3.0 { g } else { g * (x / 3.0 + 0.5) },
    } "HardswishBackwardBackward0" {
        g saves(x): |h| hardswish_backward(h, x)?,
        x saves(g, x): |h| inside(&(h * g / 3.0), x, &number(-3.0)?, &number(3.0)?)?,
    }

    /// `min(max(x + 3, 0), 6) / 6`.
    hardsigmoid(x) -> y: "(input)", Same, INTERNAL => {
        float: {
            let t = x + 3.0;
            (if t < 0.0 { 0.0 } else if t > 6.0 { 6.0 } else { t }) / 6.0
        },
    } "HardsigmoidBackward0" {
        x saves(x): |g| inside(&(g / 6.0), x, &number(-3.0)?, &number(3.0)?)?,
    }

    /// `x` where it is positive, else `slope · x`.
    leaky_relu(x, slope) -> y: "(input, negative_slope: float)", Same, INTERNAL => {
        float: if x > 0.0 { x } else { x * slope },
    } "LeakyReluBackward0" { x saves(x, slope): |g| leaky_relu_backward(g, x, slope)? }

    /// Derivative of [`leaky_relu()`].
    leaky_relu_backward(g, x, slope) -> y: "(grad, input, negative_slope: float)", Same, INTERNAL => {
        float: if x > 0.0 { g } else { g * slope },
    } "LeakyReluBackwardBackward0" { g saves(x, slope): |h| leaky_relu_backward(h, x, slope)? }

    /// `scale · x` where `x` is positive, else `scale · alpha · (eˣ - 1)`.
    elu(x, alpha, scale) -> y: "(input, alpha: float, scale: float)", Same, INTERNAL => {
        float: scale * (if x > 0.0 { x } else { alpha * math::expm1(x) }),
    } "EluBackward0" shows("input_scale", Attribute::int(1)) {
        x saves(x, alpha, scale): |g| {
            let positive = gt(x, &number(0.0)?)?;
            where_(&positive, &(g * scale), &(g * scale * alpha * exp(&not_above_zero(x)?)?))?
        },
    }

    /// `x` where it is positive, else `alpha · (e^(x/alpha) - 1)`.
    celu(x, alpha) -> y: "(input, alpha: float)", Same, INTERNAL => {
        float: if x > 0.0 { x } else { alpha * math::expm1(x / alpha) },
    } "CeluBackward0" {
        x saves(x, alpha): |g| {
            let positive = gt(x, &number(0.0)?)?;
            where_(&positive, g, &(g * exp(&(not_above_zero(x)? / alpha))?))?
        },
    }

    /// `ln(1 + e^(βx)) / β`, a smooth maximum of `x` and 0.
    ///
    /// Where `βx` is above the threshold the result is `x`, which is as exact.
    softplus(x, beta, threshold) -> y: "(input, beta: float, threshold: float)", Same, INTERNAL => {
        float: if x * beta > threshold { x } else { math::log1p(math::exp(x * beta)) / beta },
    } "SoftplusBackward0" {
        x saves(x, beta, threshold): |g| softplus_backward(g, x, beta, threshold)?,
    }

    /// Derivative of [`softplus()`]: `g / (1 + e^(-βx))`.
    softplus_backward(g, x, beta, threshold) -> y:
        "(grad_output, input, beta: float, threshold: float)", Same, INTERNAL =>
    {
        float: if x * beta > threshold { g } else { g * math::sigmoid(x * beta) },
    } "SoftplusBackwardBackward0" {
        g saves(x, beta, threshold): |h| softplus_backward(h, x, beta, threshold)?,
        x saves(g, x, beta, threshold): |h| {
            let z = x * beta;
            let bend = sigmoid_backward(&(h * g * beta), &sigmoid(&z)?)?;
            where_(&gt(&z, threshold)?, &number(0.0)?, &bend)?
        },
    }

    /// `x σ(x)`, also called swish (Elfwing, Uchibe & Doya, 2018).
    silu(x) -> y: "(input)", Same, INTERNAL => {
        float: x * math::sigmoid(x),
    } "SiluBackward0" { x saves(x): |g| silu_backward(g, x)? }

    /// Derivative of [`silu()`]: `g σ(x) (1 + x (1 - σ(x)))`.
    silu_backward(g, x) -> y: "(grad_output, input)", Same, INTERNAL => {
        float: { let s = math::sigmoid(x); g * s * (1.0 + x * (1.0 - s)) },
    } "SiluBackwardBackward0" {
        g saves(x): |h| silu_backward(h, x)?,
        x saves(g, x): |h| {
            let s = sigmoid(x)?;
            h * g * (&s * (1.0 - &s) * (2.0 + x * (1.0 - &s * 2.0)))
        },
    }

    /// `x Φ(x)` with the normal distribution function `Φ` (Hendrycks & Gimpel, 2016).
    gelu(x) -> y: "(input)", Same, INTERNAL => {
        float: 0.5 * x * (1.0 + math::erf(x * FRAC_1_SQRT_2 as T)),
    } "GeluBackward0" shows("approximate", Attribute::text("none")) {
        x saves(x): |g| gelu_backward(g, x)?
    }

    /// Derivative of [`gelu()`]: `g (Φ(x) + x φ(x))`.
    gelu_backward(g, x) -> y: "(grad_output, input)", Same, INTERNAL => {
        float: {
            let density = math::exp(-0.5 * x * x) * DENSITY as T;
            g * (0.5 * (1.0 + math::erf(x * FRAC_1_SQRT_2 as T)) + x * density)
        },
    } "GeluBackwardBackward0" {
        g saves(x): |h| gelu_backward(h, x)?,
        x saves(g, x): |h| {
            let square = x * x;
            h * g * (exp(&(&square * -0.5))? * DENSITY * (2.0 - square))
        },
    }

    /// [`gelu()`] with `Φ` replaced by `(1 + tanh(√(2/π) (x + 0.044715 x³))) / 2`.
    gelu_tanh(x) -> y: "(input)", Same, INTERNAL => {
        float: {
            let u = GELU_SCALE as T * (x + GELU_CUBE as T * x * x * x);
            0.5 * x * (1.0 + math::tanh(u))
        },
    } "GeluBackward0" shows("approximate", Attribute::text("tanh")) {
        x saves(x): |g| gelu_tanh_backward(g, x)?
    }

    /// Derivative of [`gelu_tanh()`].
    gelu_tanh_backward(g, x) -> y: "(grad_output, input)", Same, INTERNAL => {
        float: {
            let u = GELU_SCALE as T * (x + GELU_CUBE as T * x * x * x);
            let slope = GELU_SCALE as T * (1.0 + 3.0 * GELU_CUBE as T * x * x);
            let t = math::tanh(u);
            g * (0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * slope)
        },
    } "GeluBackwardBackward0" {
        g saves(x): |h| gelu_tanh_backward(h, x)?,
        x saves(g, x): |h| {
            let square = x * x;
            let slope = (1.0 + &square * (3.0 * GELU_CUBE)) * GELU_SCALE;
            let t = tanh(&(x * (1.0 + square * GELU_CUBE) * GELU_SCALE))?;
            let rest = 1.0 - &t * &t;
            // t' = rest · slope, t'' = rest · (slope' - 2 t slope²); here t' + x t'' / 2.
            let bend = x * (6.0 * GELU_CUBE * GELU_SCALE) - t * &slope * &slope * 2.0;
            h * g * (rest * (slope + x * bend * 0.5))
        },
    }

    /// `x tanh(ln(1 + eˣ))` (Misra, 2019).
    mish(x) -> y: "(input)", Same, INTERNAL => {
        float: x * math::tanh(if x > 20.0 { x } else { math::log1p(math::exp(x)) }),
    } "MishBackward0" {
        x saves(x): |g| {
            let t = tanh(&softplus(x, &number(1.0)?, &number(20.0)?)?)?;
            g * (&t + x * sigmoid(x)? * (1.0 - &t * &t))
        },
    }

    /// 0 where `-lambd <= x <= lambd`, else `x`.
    hardshrink(x, lambd) -> y: "(input, lambd: float)", Same, INTERNAL => {
        float: if x >= -lambd && x <= lambd { 0.0 } else { x },
    } "HardshrinkBackward0" {
        x saves(x, lambd): |g| where_(&le(&abs(x)?, lambd)?, &number(0.0)?, g)?,
    }

    /// `x` moved towards 0 by `lambd`, and 0 where it would get there.
    softshrink(x, lambd) -> y: "(input, lambd: float)", Same, INTERNAL => {
        float: if x > lambd { x - lambd } else if x < -lambd { x + lambd } else { x * 0.0 },
    } "SoftshrinkBackward0" {
        x saves(x, lambd): |g| where_(&le(&abs(x)?, lambd)?, &number(0.0)?, g)?,
    }

    /// `x` above the threshold, else `value`.
    threshold(x, limit, value) -> y: "(input, threshold: float, value: float)", Same, INTERNAL => {
        int: if x <= limit { value } else { x },
        float: if x <= limit { value } else { x },
    } "ThresholdBackward0" {
        x saves(x, limit): |g| where_(&le(x, limit)?, &number(0.0)?, g)?,
    }
}

/// `min(x, 0)`: what a branch that is not taken computes with, so as not to overflow.
fn not_above_zero(x: &Tensor) -> Result<Tensor> {
    let zero = number(0.0)?;
    where_(&gt(x, &zero)?, &zero, x)
}

/// Applies `f` to the first argument, in place if the call's parameter `flag` says so.
fn maybe_inplace(c: &Args, flag: usize, f: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
    let x = c.tensor(0);
    if !c.bool(flag) {
        return f(x);
    }
    inplace::check(x, "activation", c.requires_grad())?;
    let recorded = c.recording();
    let result = if recorded { f(&inplace::before(x)?)? } else { f(x)? };
    inplace::adopt(x, result)?;
    Ok(x.clone())
}

/// `x` limited to `[lo, hi]`, as an activation.
fn hardtanh_of(x: &Tensor, lo: f64, hi: f64) -> Result<Tensor> {
    if x.dtype() == DType::Bool {
        bail!(DType, "", "Bool inputs not supported for hardtanh");
    }
    if x.dtype() == DType::UInt8 && lo < 0.0 {
        bail!(DType, "", "cannot do hardtanh on an unsigned type with negative limits");
    }
    hardtanh(x, &limit_of(x, lo)?, &limit_of(x, hi)?)
}

/// A float parameter as an operand beside `x`: cut to a whole number if `x` holds whole numbers.
fn limit_of(x: &Tensor, v: f64) -> Result<Tensor> {
    if x.dtype().is_integral() { Tensor::full(&[], v, x.dtype()) } else { number(v) }
}

/// Refuses whole numbers, which a float parameter would otherwise promote.
fn check_floating(op: &'static str, x: &Tensor) -> Result<()> {
    if x.dtype().is_floating() {
        return Ok(());
    }
    bail!(Unsupported, "", "\"{op}\" not implemented for '{}'", x.dtype().scalar_type_name())
}

fn elu_of(x: &Tensor, alpha: f64, scale: f64) -> Result<Tensor> {
    check_floating("elu", x)?;
    elu(x, &number(alpha)?, &number(scale)?)
}

/// λ and λα of self-normalising networks (Klambauer et al., 2017).
const SELU_SCALE: f64 = 1.050_700_987_355_480_5;
const SELU_ALPHA: f64 = 1.673_263_242_354_377_2;

macro_rules! function {
    ($name:literal, $sig:literal, $doc:literal, $call:expr) => {
        function!($name, $sig, FUNCTION, $doc, $call)
    };
    ($name:literal, $sig:literal, $tags:expr, $doc:literal, $call:expr) => {
        Row {
            name: concat!("nn.functional.", $name),
            aliases: &[],
            signatures: &[$sig],
            doc: &[$doc],
            tags: $tags,
            batch: Batching::First,
            call: Call::Make($call),
        }
    };
}

/// The public rows.
pub const FUNCTIONS: &[Row] = &[
    function!("logsigmoid", "(input)", " `ln(sigmoid(x))`, accurate at both ends.", |c| {
        Ok(logsigmoid(c.tensor(0))?.into())
    }),
    function!("softsign", "(input)", " `x / (1 + |x|)`.", |c| {
        let x = c.tensor(0);
        Ok(div(x, &add(&abs(x)?, &Tensor::wrapped(Scalar::Int(1))?)?)?.into())
    }),
    function!("tanhshrink", "(input)", " `x - tanh(x)`.", |c| {
        let x = c.tensor(0);
        Ok(subtract(x, &tanh(x)?, Scalar::Int(1), Dest::New)?.into())
    }),
    function!(
        "hardtanh",
        "(input, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False)",
        " `x` limited to `[min_val, max_val]`; the gradient is 0 at the limits.",
        |c| {
            if c.float(1) > c.float(2) {
                bail!(Value, "", "min_val cannot be greater than max_val");
            }
            Ok(maybe_inplace(c, 3, |x| hardtanh_of(x, c.float(1), c.float(2)))?.into())
        }
    ),
    function!(
        "relu6",
        "(input, inplace: bool = False)",
        " `x` limited to `[0, 6]`; the gradient is 0 at the limits.",
        |c| Ok(maybe_inplace(c, 1, |x| hardtanh_of(x, 0.0, 6.0))?.into())
    ),
    function!(
        "hardswish",
        "(input, inplace: bool = False)",
        " `x · min(max(x + 3, 0), 6) / 6` (Howard et al., 2019).",
        |c| Ok(maybe_inplace(c, 1, hardswish)?.into())
    ),
    function!(
        "hardsigmoid",
        "(input, inplace: bool = False)",
        " `min(max(x + 3, 0), 6) / 6`.",
        |c| Ok(maybe_inplace(c, 1, hardsigmoid)?.into())
    ),
    function!(
        "leaky_relu",
        "(input, negative_slope: float = 0.01, inplace: bool = False)",
        " `x` where it is positive, else `negative_slope · x`.",
        |c| {
            check_floating("leaky_relu", c.tensor(0))?;
            let slope = number(c.float(1))?;
            Ok(maybe_inplace(c, 2, |x| leaky_relu(x, &slope))?.into())
        }
    ),
    function!(
        "elu",
        "(input, alpha: float = 1.0, inplace: bool = False)",
        " `x` where it is positive, else `alpha · (eˣ - 1)`.",
        |c| Ok(maybe_inplace(c, 2, |x| elu_of(x, c.float(1), 1.0))?.into())
    ),
    function!(
        "selu",
        "(input, inplace: bool = False)",
        " The scaled [`elu`] of self-normalising networks (Klambauer et al., 2017).",
        |c| Ok(maybe_inplace(c, 1, |x| elu_of(x, SELU_ALPHA, SELU_SCALE))?.into())
    ),
    function!(
        "celu",
        "(input, alpha: float = 1.0, inplace: bool = False)",
        " `x` where it is positive, else `alpha · (e^(x/alpha) - 1)`.",
        |c| {
            let alpha = c.float(1);
            if alpha == 0.0 {
                bail!(ZeroDivision, "", "ZeroDivisionError: alpha cannot be 0 for CELU");
            }
            check_floating("celu", c.tensor(0))?;
            let alpha = number(alpha)?;
            Ok(maybe_inplace(c, 2, |x| celu(x, &alpha))?.into())
        }
    ),
    function!("relu", "(input, inplace: bool = False)", " `max(x, 0)`.", |c| {
        Ok(maybe_inplace(c, 1, relu)?.into())
    }),
    function!(
        "softplus",
        "(input, beta: float = 1.0, threshold: float = 20.0)",
        FUNCTION | OUT,
        " `ln(1 + e^(βx)) / β`, a smooth maximum of `x` and 0; `x` itself where `βx > threshold`.",
        |c| {
            let x = c.tensor(0);
            check_floating("softplus", x)?;
            Ok(softplus(x, &number(c.float(1))?, &number(c.float(2))?)?.into())
        }
    ),
    function!(
        "silu",
        "(input, inplace: bool = False)",
        " `x σ(x)`, also called swish (Elfwing, Uchibe & Doya, 2018).",
        |c| Ok(maybe_inplace(c, 1, silu)?.into())
    ),
    function!(
        "gelu",
        "(input, *, approximate: str = 'none')",
        FUNCTION | OUT,
        " `x Φ(x)` (Hendrycks & Gimpel, 2016); `approximate` may be `'tanh'`.",
        |c| match c.str(1) {
            "none" => Ok(gelu(c.tensor(0))?.into()),
            "tanh" => Ok(gelu_tanh(c.tensor(0))?.into()),
            other => bail!(
                Value,
                "",
                "approximate argument must be either none or tanh. (gelu got '{other}')"
            ),
        }
    ),
    function!(
        "mish",
        "(input, inplace: bool = False)",
        " `x tanh(ln(1 + eˣ))` (Misra, 2019).",
        |c| Ok(maybe_inplace(c, 1, mish)?.into())
    ),
    function!(
        "hardshrink",
        "(input, lambd: float = 0.5)",
        " 0 where `-lambd <= x <= lambd`, else `x`.",
        |c| {
            check_floating("hardshrink", c.tensor(0))?;
            Ok(hardshrink(c.tensor(0), &number(c.float(1))?)?.into())
        }
    ),
    function!(
        "softshrink",
        "(input, lambd: float = 0.5)",
        " `x` moved towards 0 by `lambd`, and 0 where it would get there.",
        |c| {
            let lambd = c.float(1);
            if lambd < 0.0 {
                bail!(Value, "", "lambda must be greater or equal to 0, but found to be {lambd}.");
            }
            check_floating("softshrink", c.tensor(0))?;
            Ok(softshrink(c.tensor(0), &number(lambd)?)?.into())
        }
    ),
    function!(
        "threshold",
        "(input, threshold: Number, value: Number, inplace: bool = False)",
        " `x` above the threshold, else `value`.",
        |c| {
            let limit = |k| match c.tensor(0).dtype().is_integral() {
                true => limit_of(c.tensor(0), c.float(k)),
                false => Tensor::wrapped(c.number(k)),
            };
            let (limit, value) = (limit(1)?, limit(2)?);
            Ok(maybe_inplace(c, 3, |x| threshold(x, &limit, &value))?.into())
        }
    ),
];
