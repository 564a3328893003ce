//! Distances, similarities and losses that are other operations in a certain order: no kernel and no
//! rule of their own. The formulas, and what is added to keep divisions away from 0, are PyTorch's.

use super::binary::{clamp_min, number, where_};
use super::compare::{eq, gt, le, ne};
use super::fused::loss::{Reduction, reduced};
use super::tags::*;
use super::unary::{exp, log, log1p, neg, sigmoid, sqrt};
use super::{Call, Row, add, div, mul, norm, part, reduce, sub, view};
use crate::batch::Batching;
use crate::layout::{broadcast, wrap_dim};
use crate::tensor::Tensor;
use crate::{Result, bail};
use std::f64::consts::PI;

fn sum_along(x: &Tensor, dim: i64) -> Result<Tensor> {
    reduce::sum(x, Some(&[dim]), false, None)
}

/// `max(x, 0)`.
fn positive_part(x: &Tensor) -> Result<Tensor> {
    clamp_min(x, &number(0.0)?)
}

/// The cosine of the angle between vectors along an axis.
fn cosine_similarity(a: &Tensor, b: &Tensor, dim: i64, eps: f64) -> Result<Tensor> {
    let shape = broadcast("cosine_similarity", a.shape(), b.shape())?;
    let unit = |x: &Tensor| {
        let x = view::expand_to(x, &shape)?;
        let norms = norm::vector_norm(&x, 2.0, Some(&[dim]), true, None)?;
        div(&x, &clamp_min(&norms, &number(eps)?)?)
    };
    sum_along(&mul(&unit(a)?, &unit(b)?)?, dim)
}

/// `‖a - b + eps‖ₚ` along the last axis.
fn pairwise_distance(a: &Tensor, b: &Tensor, p: f64, eps: f64, keepdim: bool) -> Result<Tensor> {
    let difference = add(&sub(a, b)?, &number(eps)?)?;
    norm::vector_norm(&difference, p, Some(&[-1]), keepdim, None)
}

/// One half of the pieces along an axis, times the sigmoid of the other.
fn glu(x: &Tensor, dim: i64) -> Result<Tensor> {
    if x.ndim() == 0 {
        bail!(Shape, "", "glu does not support scalars because halving size must be even");
    }
    let axis = wrap_dim(dim, x.ndim())?;
    let size = x.shape()[axis] as i64;
    if size % 2 != 0 {
        bail!(Shape, "", "Halving dimension must be even, but dimension {axis} is size {size}");
    }
    let half = |start| part::narrow(x, dim, start, size / 2);
    mul(&half(0)?, &sigmoid(&half(size / 2)?)?)
}

/// `x` where it is positive, else `weight · x`; a weight per channel, the second axis, or one.
fn prelu(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    let weight = match (weight.numel(), x.ndim()) {
        (1, _) => view::reshape(weight, &[])?,
        (n, dims) => {
            let channels = if dims < 2 { 1 } else { x.shape()[1] };
            if n != channels {
                bail!(
                    Shape,
                    "",
                    "Mismatch of parameter numbers and input channel size. Found parameter numbers \
                     = {n} and channel size = {channels}."
                );
            }
            let mut shape = vec![1; dims];
            shape[1] = n as i64;
            view::reshape(weight, &shape)?
        }
    };
    where_(&gt(x, &number(0.0)?)?, x, &mul(&weight, x)?)
}

/// `max(margin - t (a - b), 0)`: `a` should rank higher where `t` is 1, lower where it is -1.
fn margin_ranking(a: &Tensor, b: &Tensor, t: &Tensor, margin: f64) -> Result<Tensor> {
    positive_part(&add(&mul(&neg(t)?, &sub(a, b)?)?, &number(margin)?)?)
}

/// `x` where `t` is 1, `max(margin - x, 0)` where it is -1.
fn hinge_embedding(x: &Tensor, t: &Tensor, margin: f64) -> Result<Tensor> {
    let (zero, one) = (number(0.0)?, number(1.0)?);
    let apart = positive_part(&sub(&number(margin)?, x)?)?;
    let apart = where_(&ne(t, &one)?, &apart, &zero)?;
    add(&apart, &where_(&ne(t, &neg(&one)?)?, x, &zero)?)
}

/// `1 - cos(a, b)` where `t` is 1, `max(cos(a, b) - margin, 0)` where it is -1.
fn cosine_embedding(a: &Tensor, b: &Tensor, t: &Tensor, margin: f64) -> Result<Tensor> {
    if t.ndim() > 1 {
        bail!(Shape, "", "0D or 1D target tensor expected, multi-target not supported");
    }
    let (dim, zero, one) = (t.ndim() as i64, number(0.0)?, number(1.0)?);
    let square = |x: &Tensor| add(&sum_along(&mul(x, x)?, dim)?, &number(1e-12)?);
    let cosine = div(&sum_along(&mul(a, b)?, dim)?, &sqrt(&mul(&square(a)?, &square(b)?)?)?)?;
    let alike = where_(&eq(t, &one)?, &sub(&one, &cosine)?, &zero)?;
    let apart = positive_part(&sub(&cosine, &number(margin)?)?)?;
    add(&alike, &where_(&eq(t, &neg(&one)?)?, &apart, &zero)?)
}

/// `ln(1 + e^(-t x))`.
fn soft_margin(x: &Tensor, t: &Tensor) -> Result<Tensor> {
    log1p(&exp(&mul(&neg(t)?, x)?)?)
}

/// The negative logarithm of a Poisson distribution's likelihood, but for what depends on `t` alone;
/// with `full` Stirling's approximation of that too, where `t` is above 1.
fn poisson_nll(x: &Tensor, t: &Tensor, is_log: bool, full: bool, eps: f64) -> Result<Tensor> {
    let loss = match is_log {
        true => sub(&exp(x)?, &mul(t, x)?)?,
        false => sub(x, &mul(t, &log(&add(x, &number(eps)?)?)?)?)?,
    };
    if !full {
        return Ok(loss);
    }
    let stirling = sub(&mul(t, &log(t)?)?, t)?;
    let stirling = add(&stirling, &mul(&log(&mul(t, &number(2.0 * PI)?)?)?, &number(0.5)?)?)?;
    add(&loss, &where_(&le(t, &number(1.0)?)?, &number(0.0)?, &stirling)?)
}

/// The negative logarithm of a normal distribution's density, with or without its constant.
fn gaussian_nll(x: &Tensor, t: &Tensor, var: &Tensor, full: bool, eps: f64) -> Result<Tensor> {
    let var = match var.ndim() + 1 == x.ndim() && var.shape() == &x.shape()[..var.ndim()] {
        true => view::unsqueeze(var, -1)?,
        false => var.clone(),
    };
    let fits = var.shape() == x.shape()
        || (var.ndim() == x.ndim()
            && var.shape().last() == Some(&1)
            && var.shape()[..var.ndim() - 1] == x.shape()[..x.ndim() - 1])
        || var.ndim() == 0;
    if !fits {
        bail!(Value, "", "var is of incorrect size");
    }
    if reduce::any(&super::compare::lt(&var, &number(0.0)?)?)? {
        bail!(Value, "", "var has negative entry/entries");
    }
    // The limit changes the value but has no part in the gradient.
    let floor = sub(&clamp_min(&var.detach(), &number(eps)?)?, &var.detach())?;
    let var = add(&var, &floor)?;
    let distance = sub(x, t)?;
    let loss = add(&log(&var)?, &div(&mul(&distance, &distance)?, &var)?)?;
    let loss = mul(&loss, &number(0.5)?)?;
    if full { add(&loss, &number(0.5 * (2.0 * PI).ln())?) } else { Ok(loss) }
}

macro_rules! row {
    ($name:literal $(aka $alias:literal)?, $sig:literal, $tags:expr, $doc:literal, $call:expr) => {
        Row {
            name: $name,
            aliases: &[$($alias)?],
            signatures: &[$sig],
            doc: &[$doc],
            tags: $tags,
            batch: Batching::Each,
            call: Call::Make($call),
        }
    };
}

/// This family's rows.
pub const ROWS: &[Row] = &[
    row!(
        "dist",
        "(input, other, p: float = 2.0)",
        FUNCTION | METHOD,
        " `‖input - other‖ₚ` over all elements.",
        |c| {
            let difference = sub(c.tensor(0), c.tensor(1))?;
            Ok(norm::vector_norm(&difference, c.float(2), None, false, None)?.into())
        }
    ),
    row!(
        "nn.functional.cosine_similarity" aka "cosine_similarity",
        "(x1, x2, dim: int = 1, eps: float = 1e-8)",
        FUNCTION,
        " The cosine of the angle between vectors along an axis; norms count as `eps` at least.",
        |c| Ok(cosine_similarity(c.tensor(0), c.tensor(1), c.int(2), c.float(3))?.into())
    ),
    row!(
        "nn.functional.pairwise_distance" aka "pairwise_distance",
        "(x1, x2, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False)",
        FUNCTION,
        " `‖x1 - x2 + eps‖ₚ` along the last axis.",
        |c| {
            let (a, b) = (c.tensor(0), c.tensor(1));
            Ok(pairwise_distance(a, b, c.float(2), c.float(3), c.bool(4))?.into())
        }
    ),
    row!(
        "nn.functional.glu",
        "(input, dim: int = -1)",
        FUNCTION,
        " The first half along an axis, times the sigmoid of the second.",
        |c| Ok(glu(c.tensor(0), c.int(1))?.into())
    ),
    row!(
        "nn.functional.prelu" aka "prelu",
        "(input, weight)",
        FUNCTION,
        " `x` where it is positive, else `weight · x`, with a weight per channel or one for all.",
        |c| Ok(prelu(c.tensor(0), c.tensor(1))?.into())
    ),
    row!(
        "nn.functional.margin_ranking_loss",
        "(input1, input2, target, margin: float = 0.0, size_average: bool? = None, \
         reduce: bool? = None, reduction: str = 'mean')",
        FUNCTION,
        " `max(margin - target (input1 - input2), 0)`, averaged, summed or as it is.",
        |c| {
            let losses = margin_ranking(c.tensor(0), c.tensor(1), c.tensor(2), c.float(3))?;
            Ok(reduced(&losses, Reduction::of(c, [4, 5, 6])?)?.into())
        }
    ),
    row!(
        "nn.functional.hinge_embedding_loss",
        "(input, target, margin: float = 1.0, size_average: bool? = None, reduce: bool? = None, \
         reduction: str = 'mean')",
        FUNCTION,
        " `x` where the target is 1, `max(margin - x, 0)` where it is -1; averaged, summed or as it is.",
        |c| {
            let losses = hinge_embedding(c.tensor(0), c.tensor(1), c.float(2))?;
            Ok(reduced(&losses, Reduction::of(c, [3, 4, 5])?)?.into())
        }
    ),
    row!(
        "nn.functional.cosine_embedding_loss",
        "(input1, input2, target, margin: float = 0.0, size_average: bool? = None, \
         reduce: bool? = None, reduction: str = 'mean')",
        FUNCTION,
        " `1 - cos` of two vectors where the target is 1, `max(cos - margin, 0)` where it is -1.",
        |c| {
            let losses = cosine_embedding(c.tensor(0), c.tensor(1), c.tensor(2), c.float(3))?;
            Ok(reduced(&losses, Reduction::of(c, [4, 5, 6])?)?.into())
        }
    ),
    row!(
        "nn.functional.soft_margin_loss",
        "(input, target, size_average: bool? = None, reduce: bool? = None, \
         reduction: str = 'mean')",
        FUNCTION,
        " `ln(1 + e^(-target · input))`, averaged, summed or as it is.",
        |c| {
            let losses = soft_margin(c.tensor(0), c.tensor(1))?;
            Ok(reduced(&losses, Reduction::of(c, [2, 3, 4])?)?.into())
        }
    ),
    row!(
        "nn.functional.poisson_nll_loss",
        "(input, target, log_input: bool = True, full: bool = False, size_average: bool? = None, \
         eps: float = 1e-8, reduce: bool? = None, reduction: str = 'mean')",
        FUNCTION,
        " The negative logarithm of a Poisson distribution's likelihood, up to what `full` adds.",
        |c| {
            let losses = poisson_nll(c.tensor(0), c.tensor(1), c.bool(2), c.bool(3), c.float(5))?;
            Ok(reduced(&losses, Reduction::of(c, [4, 6, 7])?)?.into())
        }
    ),
    row!(
        "nn.functional.gaussian_nll_loss",
        "(input, target, var, full: bool = False, eps: float = 1e-6, reduction: str = 'mean')",
        FUNCTION,
        " The negative logarithm of a normal distribution's density, up to what `full` adds.",
        |c| {
            let (x, t, var) = (c.tensor(0), c.tensor(1), c.tensor(2));
            let losses = gaussian_nll(x, t, var, c.bool(3), c.float(4))?;
            Ok(reduced(&losses, Reduction::parse(c.str(5))?)?.into())
        }
    ),
    row!(
        "nn.functional.triplet_margin_loss",
        "(anchor, positive, negative, margin: float = 1.0, p: float = 2.0, eps: float = 1e-6, \
         swap: bool = False, size_average: bool? = None, reduce: bool? = None, \
         reduction: str = 'mean')",
        FUNCTION,
        " `max(margin + d(anchor, positive) - d(anchor, negative), 0)` with `pairwise_distance` `d`.",
        |c| {
            let (anchor, positive, negative) = (c.tensor(0), c.tensor(1), c.tensor(2));
            let d = |a, b| pairwise_distance(a, b, c.float(4), c.float(5), false);
            let mut apart = d(anchor, negative)?;
            if c.bool(6) {
                apart = super::binary::minimum(&apart, &d(positive, negative)?)?;
            }
            let losses = add(&sub(&d(anchor, positive)?, &apart)?, &number(c.float(3))?)?;
            Ok(reduced(&positive_part(&losses)?, Reduction::of(c, [7, 8, 9])?)?.into())
        }
    ),
];
