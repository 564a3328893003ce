//! Activation functions of `nn.functional` that have a formula of their own.
//!
//! The pointwise rows carry formula and derivative; [`FUNCTIONS`] gives them their public names
//! and PyTorch's parameters, among them `inplace`.

use super::binary::{number, subtract, where_};
use super::compare::gt;
use super::tags::*;
use super::unary::{abs, exp, sigmoid, tanh};
use super::{Args, Call, Dest, Row, add, div};
use crate::graph::{self, inplace};
use crate::kernels::math;
use crate::pointwise_rows;
use crate::tensor::Tensor;
use crate::{DType, Result, Scalar, bail};

pointwise_rows! {
    /// `ln(sigmoid(x))`, accurate at both ends.
    logsigmoid(x) -> y: "(input)", Same, INTERNAL => { float: math::logsigmoid(x) }
    "LogSigmoidBackward0" { x saves(x): |g| g * sigmoid(&-x)? }

    /// `x` limited to `[lo, hi]`; the gradient is 0 at the limits.
    hardtanh(x, lo, hi) -> y: "(input, min, max)", Same, INTERNAL => {
        int: x.max(lo).min(hi), float: if x < lo { lo } else if x > hi { hi } else { x },
    } "HardtanhBackward0" { x saves(x, lo, hi): |g| inside(g, x, lo, hi)? }

    /// `g` where `lo < x < hi`, else 0.
    inside(g, x, lo, hi) -> y: "(grad, input, min, max)", Same, INTERNAL => {
        float: if x <= lo || x >= hi { 0.0 } else { g },
    } "HardtanhBackwardBackward0" { g saves(x, lo, hi): |h| inside(h, x, lo, hi)? }

    /// `x · min(max(x + 3, 0), 6) / 6`.
    hardswish(x) -> y: "(input)", Same, INTERNAL => {
        float: {
            let t = x + 3.0;
            x * (if t < 0.0 { 0.0 } else if t > 6.0 { 6.0 } else { t }) / 6.0
        },
    } "HardswishBackward0" { x saves(x): |g| hardswish_backward(g, x)? }

    /// Derivative of [`hardswish`].
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
    leaky_relu(x, slope) -> y: "(input, negative_slope)", Same, INTERNAL => {
        float: if x > 0.0 { x } else { x * slope },
    } "LeakyReluBackward0" { x saves(x, slope): |g| leaky_relu_backward(g, x, slope)? }

    /// Derivative of [`leaky_relu`].
    leaky_relu_backward(g, x, slope) -> y: "(grad, input, negative_slope)", Same, INTERNAL => {
        float: if x > 0.0 { g } else { g * slope },
    } "LeakyReluBackwardBackward0" { g saves(x, slope): |h| leaky_relu_backward(h, x, slope)? }

    /// `scale · x` where `x` is positive, else `scale · alpha · (eˣ - 1)`.
    elu(x, alpha, scale) -> y: "(input, alpha, scale)", Same, INTERNAL => {
        float: scale * (if x > 0.0 { x } else { alpha * math::expm1(x) }),
    } "EluBackward0" {
        x saves(x, alpha, scale): |g| {
            let positive = gt(x, &number(0.0)?)?;
            where_(&positive, &(g * scale), &(g * scale * alpha * exp(&not_above_zero(x)?)?))?
        },
    }

    /// `x` where it is positive, else `alpha · (e^(x/alpha) - 1)`.
    celu(x, alpha) -> y: "(input, alpha)", Same, INTERNAL => {
        float: if x > 0.0 { x } else { alpha * math::expm1(x / alpha) },
    } "CeluBackward0" {
        x saves(x, alpha): |g| {
            let positive = gt(x, &number(0.0)?)?;
            where_(&positive, g, &(g * exp(&(not_above_zero(x)? / alpha))?))?
        },
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
    inplace::check(x, "activation")?;
    let recorded = graph::is_grad_enabled() && c.requires_grad();
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
    if x.dtype().is_integral() {
        let limit = |v: f64| Tensor::full(&[], v, x.dtype());
        return hardtanh(x, &limit(lo)?, &limit(hi)?);
    }
    hardtanh(x, &number(lo)?, &number(hi)?)
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
        Row {
            name: concat!("nn.functional.", $name),
            aliases: &[],
            signatures: &[$sig],
            doc: &[$doc],
            tags: FUNCTION,
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
];
