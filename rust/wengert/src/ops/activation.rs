//! Activation functions of `nn.functional`.
//!
//! Parameters arrive as numbers and enter the kernels as operands with stride 0, so a function
//! with another slope is the same kernel. Where the derivative is a formula of its own, it is a row
//! of its own; else it is written in tensor algebra.

use super::compare::{ge, gt, le};
use super::tags::*;
use super::unary::{abs, exp, sigmoid, sigmoid_backward, tanh};
use super::{Args, Dest};
use crate::graph::{inplace, is_grad_enabled};
use crate::kernels::math;
use crate::ops::binary::where_;
use crate::pointwise_rows;
use crate::tensor::Tensor;
use crate::{Result, Scalar, bail};
use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI};

/// `1 / √(2π)`
const DENSITY: f64 = FRAC_2_SQRT_PI * FRAC_1_SQRT_2 * 0.5;
/// `√(2/π)`
const GELU_SCALE: f64 = FRAC_2_SQRT_PI * FRAC_1_SQRT_2;
const GELU_CUBE: f64 = 0.044715;

pointwise_rows! {
    /// `ln(1 + e^(βx)) / β`, a smooth maximum of `x` and 0.
    ///
    /// Where `βx` is above the threshold the result is `x`, which is as exact.
    softplus(x, beta, threshold) -> y named "nn.functional.softplus":
        "(input, beta: float = 1.0, threshold: float = 20.0)", Same, FUNCTION | OUT,
        via |c, dest| softplus::run([c.tensor(0), &number(c, 1)?, &number(c, 2)?], dest) =>
    {
        float: if x * beta > threshold { x } else { math::log1p(math::exp(x * beta)) / beta },
    } "SoftplusBackward0" {
        x saves(x, beta, threshold): |g| softplus_backward(g, x, beta, threshold)?,
    }

    /// Derivative of [`softplus`]: `g / (1 + e^(-βx))`.
    softplus_backward(g, x, beta, threshold) -> y:
        "(grad_output, input, beta, threshold)", Same, INTERNAL =>
    {
        float: if x * beta > threshold { g } else { g * math::sigmoid(x * beta) },
    } "SoftplusBackwardBackward0" {
        g saves(x, beta, threshold): |h| softplus_backward(h, x, beta, threshold)?,
        x saves(g, x, beta, threshold): |h| {
            let z = x * beta;
            let bend = sigmoid_backward(&(h * g * beta), &sigmoid(&z)?)?;
            where_(&gt(&z, threshold)?, &constant(0.0)?, &bend)?
        },
    }

    /// `x σ(x)`, also called swish (Elfwing, Uchibe & Doya, 2018).
    silu(x) -> y named "nn.functional.silu": "(input, inplace: bool = False)", Same, FUNCTION,
        via |c, dest| in_place_if("silu", c, 1, dest, |x, dest| silu::run([x], dest)) =>
    {
        float: x * math::sigmoid(x),
    } "SiluBackward0" { x saves(x): |g| silu_backward(g, x)? }

    /// Derivative of [`silu`]: `g σ(x) (1 + x (1 - σ(x)))`.
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
    ///
    /// With `approximate='tanh'`, `Φ` is replaced by `(1 + tanh(√(2/π) (x + 0.044715 x³))) / 2`.
    gelu(x) -> y named "nn.functional.gelu":
        "(input, *, approximate: str = 'none')", Same, FUNCTION,
        via |c, dest| match c.str(1) {
            "none" => gelu::run([c.tensor(0)], dest),
            "tanh" => gelu_tanh::run([c.tensor(0)], dest),
            other => bail!(
                Value, "", "approximate argument must be either none or tanh. (gelu got '{other}')"
            ),
        } =>
    {
        float: 0.5 * x * (1.0 + math::erf(x * FRAC_1_SQRT_2 as T)),
    } "GeluBackward0" { x saves(x): |g| gelu_backward(g, x)? }

    /// Derivative of [`gelu`]: `g (Φ(x) + x φ(x))`.
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

    /// [`gelu`] by way of the hyperbolic tangent.
    gelu_tanh(x) -> y: "(input)", Same, INTERNAL => {
        float: {
            let u = GELU_SCALE as T * (x + GELU_CUBE as T * x * x * x);
            0.5 * x * (1.0 + math::tanh(u))
        },
    } "GeluBackward0" { x saves(x): |g| gelu_tanh_backward(g, x)? }

    /// Derivative of [`gelu_tanh`].
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

    /// `x` above 0, `negative_slope · x` below.
    leaky_relu(x, slope) -> y named "nn.functional.leaky_relu":
        "(input, negative_slope: float = 0.01, inplace: bool = False)", Same, FUNCTION,
        via |c, dest| {
            let slope = number(c, 1)?;
            in_place_if("leaky_relu", c, 2, dest, |x, dest| leaky_relu::run([x, &slope], dest))
        } =>
    {
        float: if x > 0.0 { x } else { x * slope },
    } "LeakyReluBackward0" { x saves(x, slope): |g| leaky_relu_backward(g, x, slope)? }

    /// `g` where `x` is above 0, else `slope · g`.
    leaky_relu_backward(g, x, slope) -> y: "(grad_output, input, slope)", Same, INTERNAL => {
        float: if x > 0.0 { g } else { g * slope },
    } "LeakyReluBackwardBackward0" { g saves(x, slope): |h| leaky_relu_backward(h, x, slope)? }

    /// `x` above 0, `α (eˣ - 1)` below (Clevert, Unterthiner & Hochreiter, 2015).
    elu(x, below, above, rate) -> y named "nn.functional.elu":
        "(input, alpha: float = 1.0, inplace: bool = False)", Same, FUNCTION,
        via |c, dest| elu_with("elu", c, 2, [c.float(1), 1.0, 1.0], dest) =>
    {
        float: if x > 0.0 { x * above } else { math::expm1(x * rate) * below },
    } "EluBackward0" { x saves(x, below, above, rate): |g| g * elu_slope(x, below, above, rate)? }

    /// The slope of [`elu`].
    elu_slope(x, below, above, rate) -> y: "(input, below, above, rate)", Same, INTERNAL => {
        float: if x > 0.0 { above } else { below * rate * math::exp(x * rate) },
    } "EluBackwardBackward0" {
        x saves(x, rate, y): |h| where_(&gt(x, &constant(0.0)?)?, &constant(0.0)?, &(h * y * rate))?,
    }

    /// `x` limited to `[min_val, max_val]`; unlike `clamp`, the gradient at the limits is 0.
    hardtanh(x, lo, hi) -> y named "nn.functional.hardtanh":
        "(input, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False)",
        Same, FUNCTION,
        via |c, dest| hardtanh_with("hardtanh", c, 3, [c.float(1), c.float(2)], dest) =>
    {
        float: if x < lo { lo } else if x > hi { hi } else { x },
    } "HardtanhBackward0" { x saves(x, lo, hi): |g| hardtanh_backward(g, x, lo, hi)? }

    /// `g` where `lo < x < hi`, else 0.
    hardtanh_backward(g, x, lo, hi) -> y: "(grad_output, input, lo, hi)", Same, INTERNAL => {
        float: if x <= lo || x >= hi { 0.0 } else { g },
    } "HardtanhBackwardBackward0" { g saves(x, lo, hi): |h| hardtanh_backward(h, x, lo, hi)? }

    /// `x tanh(ln(1 + eˣ))` (Misra, 2019).
    mish(x) -> y named "nn.functional.mish": "(input, inplace: bool = False)", Same, FUNCTION,
        via |c, dest| in_place_if("mish", c, 1, dest, |x, dest| mish::run([x], dest)) =>
    {
        float: x * math::tanh(if x > 20.0 { x } else { math::log1p(math::exp(x)) }),
    } "MishBackward0" {
        x saves(x): |g| {
            let t = tanh(&softplus(x, &constant(1.0)?, &constant(20.0)?)?)?;
            g * (&t + x * sigmoid(x)? * (1.0 - &t * &t))
        },
    }

    /// `ln σ(x)`
    logsigmoid(x) -> y named "nn.functional.logsigmoid": "(input)", Same, FUNCTION => {
        float: (if x < 0.0 { x } else { 0.0 }) - math::log1p(math::exp(-x.abs())),
    } "LogSigmoidBackward0" { x saves(x): |g| g * sigmoid(&-x)? }

    /// `(x + 3) / 6` limited to `[0, 1]`.
    hardsigmoid(x) -> y named "nn.functional.hardsigmoid":
        "(input, inplace: bool = False)", Same, FUNCTION,
        via |c, dest| in_place_if("hardsigmoid", c, 1, dest, |x, dest| hardsigmoid::run([x], dest)) =>
    {
        float: if x <= -3.0 { 0.0 } else if x >= 3.0 { 1.0 } else { x / 6.0 + 0.5 },
    } "HardsigmoidBackward0" {
        x saves(x): |g| hardtanh_backward(&(g / 6.0), x, &constant(-3.0)?, &constant(3.0)?)?,
    }

    /// `x (x + 3) / 6` between -3 and 3, 0 below and `x` above (Howard et al., 2019).
    hardswish(x) -> y named "nn.functional.hardswish":
        "(input, inplace: bool = False)", Same, FUNCTION,
        via |c, dest| in_place_if("hardswish", c, 1, dest, |x, dest| hardswish::run([x], dest)) =>
    {
        float: if x <= -3.0 { 0.0 } else if x >= 3.0 { x } else { x * (x + 3.0) / 6.0 },
    } "HardswishBackward0" {
        x saves(x): |g| {
            let above = where_(&ge(x, &constant(3.0)?)?, g, &(g * (x / 3.0 + 0.5)))?;
            where_(&le(x, &constant(-3.0)?)?, &constant(0.0)?, &above)?
        },
    }

    /// 0 where `-lambd <= x <= lambd`, else `x`.
    hardshrink(x, lambd) -> y named "nn.functional.hardshrink":
        "(input, lambd: float = 0.5)", Same, FUNCTION,
        via |c, dest| hardshrink::run([c.tensor(0), &number(c, 1)?], dest) =>
    {
        float: if x >= -lambd && x <= lambd { 0.0 } else { x },
    } "HardshrinkBackward0" {
        x saves(x, lambd): |g| where_(&le(&abs(x)?, lambd)?, &constant(0.0)?, g)?,
    }

    /// `x` moved towards 0 by `lambd`, and 0 where it would get there.
    softshrink(x, lambd) -> y named "nn.functional.softshrink":
        "(input, lambd: float = 0.5)", Same, FUNCTION,
        via |c, dest| {
            if c.float(1) < 0.0 {
                bail!(
                    Value, "", "lambda must be greater or equal to 0, but found to be {}.", c.float(1)
                );
            }
            softshrink::run([c.tensor(0), &number(c, 1)?], dest)
        } =>
    {
        float: if x > lambd { x - lambd } else if x < -lambd { x + lambd } else { x * 0.0 },
    } "SoftshrinkBackward0" {
        x saves(x, lambd): |g| where_(&le(&abs(x)?, lambd)?, &constant(0.0)?, g)?,
    }

    /// `x` above the threshold, else `value`.
    threshold(x, limit, value) -> y named "nn.functional.threshold":
        "(input, threshold: float, value: float, inplace: bool = False)", Same, FUNCTION,
        via |c, dest| {
            let (limit, value) = (number(c, 1)?, number(c, 2)?);
            in_place_if("threshold", c, 3, dest, |x, dest| threshold::run([x, &limit, &value], dest))
        } =>
    {
        float: if x <= limit { value } else { x },
    } "ThresholdBackward0" {
        x saves(x, limit): |g| where_(&le(x, limit)?, &constant(0.0)?, g)?,
    }
}

fn constant(x: f64) -> Result<Tensor> {
    Tensor::wrapped(Scalar::Float(x))
}

/// A parameter as an operand.
fn number(c: &Args, i: usize) -> Result<Tensor> {
    constant(c.float(i))
}

/// [`elu`] with slope `above` for positive `x` and `below · (e^(rate x) - 1)` for negative.
pub(super) fn elu_with(
    name: &'static str,
    c: &Args,
    flag: usize,
    [below, above, rate]: [f64; 3],
    dest: Dest,
) -> Result<Tensor> {
    let (below, above, rate) = (constant(below)?, constant(above)?, constant(rate)?);
    in_place_if(name, c, flag, dest, |x, dest| elu::run([x, &below, &above, &rate], dest))
}

/// [`hardtanh`] between given limits.
pub(super) fn hardtanh_with(
    name: &'static str,
    c: &Args,
    flag: usize,
    [lo, hi]: [f64; 2],
    dest: Dest,
) -> Result<Tensor> {
    let (lo, hi) = (constant(lo)?, constant(hi)?);
    in_place_if(name, c, flag, dest, |x, dest| hardtanh::run([x, &lo, &hi], dest))
}

/// Runs an activation; in the place of its input if argument `flag`, `inplace`, is true.
pub(super) fn in_place_if(
    name: &'static str,
    c: &Args,
    flag: usize,
    dest: Dest,
    run: impl Fn(&Tensor, Dest) -> Result<Tensor>,
) -> Result<Tensor> {
    let x = c.tensor(0);
    if !c.bool(flag) {
        return run(x, dest);
    }
    inplace::check(x, name)?;
    if is_grad_enabled() && x.requires_grad() {
        inplace::adopt(x, run(&inplace::before(x)?, Dest::New)?)?;
    } else {
        run(x, Dest::Into(x))?;
        x.storage().bump_version();
    }
    Ok(x.clone())
}
