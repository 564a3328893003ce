//! Normalisation and attention, composed of other operations.

use super::fused::softmax::softmax;
use super::tags::*;
use super::view::{reshape_to, transpose};
use super::{Args, Output, Row, binary, cast, compare, dropout, matmul, moments, repeat, unary};
use crate::batch::Batching;
use crate::graph::GradMode;
use crate::layout::Dims;
use crate::tensor::Tensor;
use crate::{DType, Result, bail, ops::triangle};
use smallvec::SmallVec;

type Axes = SmallVec<[i64; 6]>;

/// Two numbers that have the same meaning for every element: `(x - mean) / √(variance + ε)`.
fn standardised(x: &Tensor, mean: &Tensor, variance: &Tensor, eps: f64) -> Result<Tensor> {
    let factor = unary::rsqrt(&binary::add(variance, &binary::number(eps)?)?)?;
    binary::mul(&binary::sub(x, mean)?, &factor)
}

/// Variance and mean over axes, which stay.
fn spread(x: &Tensor, axes: &[i64]) -> Result<[Tensor; 2]> {
    let mut both = moments::var_mean(x, Some(axes), 0.0, true)?.into_iter();
    let (Some(variance), Some(mean)) = (both.next(), both.next()) else {
        bail!(Unsupported, "var_mean", "two results were expected");
    };
    Ok([variance, mean])
}

/// `y · weight + bias`, where these are given.
fn scaled(y: Tensor, weight: Option<&Tensor>, bias: Option<&Tensor>) -> Result<Tensor> {
    let y = match weight {
        Some(w) => binary::mul(&y, w)?,
        None => y,
    };
    match bias {
        Some(b) => binary::add(&y, b),
        None => Ok(y),
    }
}

fn check_floating(name: &str, x: &Tensor) -> Result<()> {
    if !x.dtype().is_floating() {
        let of = x.dtype().scalar_type_name();
        bail!(Unsupported, "", "\"{name}\" not implemented for '{of}'");
    }
    Ok(())
}

fn layer_norm(c: &Args) -> Result<Output> {
    let (x, wanted, weight, bias) = (c.tensor(0), c.ints(1), c.opt_tensor(2), c.opt_tensor(3));
    check_floating("LayerNormKernelImpl", x)?;
    let k = wanted.len();
    if k == 0 {
        bail!(
            Shape,
            "",
            "Expected normalized_shape to be at least 1-dimensional, i.e., containing at least one \
             element, but got normalized_shape = []"
        );
    }
    let same = |shape: &[usize]| shape.iter().map(|&s| s as i64).eq(wanted.iter().copied());
    if x.ndim() < k || !same(&x.shape()[x.ndim() - k..]) {
        bail!(
            Shape,
            "",
            "Given normalized_shape={wanted:?}, expected input with shape [*, {}], but got input of \
             size{:?}",
            wanted.iter().map(|s| s.to_string()).collect::<Vec<_>>().join(", "),
            x.shape()
        );
    }
    for (t, name) in [(weight, "weight"), (bias, "bias")] {
        if let Some(t) = t
            && !same(t.shape())
        {
            bail!(
                Shape,
                "",
                "Expected {name} to be of same shape as normalized_shape, but got {name} of shape {:?} \
                 and normalized_shape = {wanted:?}",
                t.shape()
            );
        }
    }
    let axes: Axes = (1..=k as i64).map(|d| -d).collect();
    let [variance, mean] = spread(x, &axes)?;
    Ok(scaled(standardised(x, &mean, &variance, c.float(4))?, weight, bias)?.into())
}

/// A vector with an element per channel, to combine with (N, C, …).
fn per_channel(t: &Tensor, ndim: usize) -> Result<Tensor> {
    let mut shape = Dims::from_elem(1, ndim.saturating_sub(1));
    if let Some(first) = shape.first_mut() {
        *first = t.numel();
    }
    reshape_to(t, &shape)
}

fn batch_norm(c: &Args) -> Result<Output> {
    let (x, training) = (c.tensor(0), c.bool(5));
    let [running_mean, running_var] = [c.opt_tensor(1), c.opt_tensor(2)];
    let (momentum, eps) = (c.float(6), c.float(7));
    check_floating("batch_norm", x)?;
    let Some(&channels) = x.shape().get(1) else {
        bail!(Shape, "", "batch_norm: expected at least 2D input (got {}D input)", x.ndim());
    };
    let names = ["running_mean", "running_var", "weight", "bias"];
    for (i, name) in [1, 2, 3, 4].into_iter().zip(names) {
        if let Some(t) = c.opt_tensor(i)
            && t.numel() != channels
        {
            bail!(
                Shape,
                "",
                "{name} should contain {channels} elements not {} (batch_norm)",
                t.numel()
            );
        }
    }
    let each = |t: &Tensor| per_channel(t, x.ndim());
    let y = if training {
        let count = x.numel() / channels.max(1);
        if count <= 1 {
            bail!(
                Value,
                "",
                "Expected more than 1 value per channel when training, got input size {:?}",
                x.shape()
            );
        }
        let axes: Axes = (0..x.ndim() as i64).filter(|&d| d != 1).collect();
        let [variance, mean] = spread(x, &axes)?;
        {
            let _off = GradMode::new(false);
            let unbiased = count as f64 / (count as f64 - 1.0);
            let news = [(running_mean, &mean, 1.0), (running_var, &variance, unbiased)];
            for (running, new, factor) in news {
                let Some(running) = running else { continue };
                let new = reshape_to(&new.detach(), running.shape())?;
                let kept = binary::mul(running, &binary::number(1.0 - momentum)?)?;
                let added = binary::mul(&new, &binary::number(momentum * factor)?)?;
                cast::copy_(running, &binary::add(&kept, &added)?)?;
            }
        }
        standardised(x, &mean, &variance, eps)?
    } else {
        let (Some(mean), Some(variance)) = (running_mean, running_var) else {
            bail!(
                Value,
                "",
                "Expected running_mean and running_var to be defined when training=False (batch_norm)"
            );
        };
        standardised(x, &each(mean)?, &each(variance)?, eps)?
    };
    let [weight, bias] = [c.opt_tensor(3), c.opt_tensor(4)].map(|t| t.map(each).transpose());
    Ok(scaled(y, weight?.as_ref(), bias?.as_ref())?.into())
}

fn group_norm(c: &Args) -> Result<Output> {
    let (x, groups, eps) = (c.tensor(0), c.int(1), c.float(4));
    check_floating("GroupNormKernelImpl", x)?;
    let [count, channels, ..] = *x.shape() else {
        bail!(
            Shape,
            "",
            "Expected at least 2 dimensions for input tensor but received {}",
            x.ndim()
        );
    };
    if groups < 1 || channels as i64 % groups != 0 {
        bail!(
            Value,
            "",
            "Expected number of channels in input to be divisible by num_groups, but got input of shape \
             {:?} and num_groups={groups}",
            x.shape()
        );
    }
    let g = groups as usize;
    let size = x.numel().checked_div(count * g).unwrap_or(0);
    let flat = reshape_to(x, &[count, g, size])?;
    let [variance, mean] = spread(&flat, &[-1])?;
    let y = reshape_to(&standardised(&flat, &mean, &variance, eps)?, x.shape())?;
    let each = |t: &Tensor| per_channel(t, x.ndim());
    let [weight, bias] = [c.opt_tensor(2), c.opt_tensor(3)].map(|t| t.map(each).transpose());
    Ok(scaled(y, weight?.as_ref(), bias?.as_ref())?.into())
}

/// `softmax(q kᵀ · scale + mask) v`; a query that may look at nothing gets zeros.
fn attention(c: &Args) -> Result<Output> {
    let (q, mut k, mut v) = (c.tensor(0), c.tensor(1).clone(), c.tensor(2).clone());
    let (mask, p, causal) = (c.opt_tensor(3), c.float(4), c.bool(5));
    for (t, name) in [(q, "query"), (&k, "key"), (&v, "value")] {
        if t.ndim() < 2 {
            bail!(
                Shape,
                "",
                "scaled_dot_product_attention: {name} must have at least 2 dimensions, got {}",
                t.ndim()
            );
        }
    }
    if mask.is_some() && causal {
        bail!(
            Value,
            "",
            "scaled_dot_product_attention: Explicit attn_mask should not be set when is_causal=True"
        );
    }
    if c.bool(7) && q.ndim() > 2 && k.ndim() > 2 {
        let heads = |t: &Tensor| t.shape()[t.ndim() - 3];
        for t in [&mut k, &mut v] {
            if heads(t) == 0 || heads(q) % heads(t) != 0 {
                bail!(
                    Shape,
                    "",
                    "scaled_dot_product_attention: the heads of key and value must divide those of the \
                     query ({} and {})",
                    heads(t),
                    heads(q)
                );
            }
            *t = repeat::repeat_interleave(t, (heads(q) / heads(t)) as i64, Some(-3))?;
        }
    }
    let width = q.shape()[q.ndim() - 1];
    let scale = c.opt_number(6).map_or(1.0 / (width as f64).sqrt(), |s| s.to_f64());
    let scores =
        matmul::matmul(&binary::mul(q, &binary::number(scale)?)?, &transpose(&k, -2, -1)?)?;
    let [rows, columns] = [2, 1].map(|back| scores.shape()[scores.ndim() - back]);
    let least = binary::number(f64::NEG_INFINITY)?;
    let mask = match causal {
        true => Some(triangle::tril(&Tensor::full(&[rows, columns], true, DType::Bool)?, 0)?),
        false => mask.cloned(),
    };
    let weights = match mask {
        None => softmax(&scores, -1, None)?,
        Some(mask) => {
            let scores = match mask.dtype() {
                DType::Bool => binary::where_(&mask, &scores, &least)?,
                _ => binary::add(&scores, &mask)?,
            };
            let nothing = compare::eq(&scores.detach(), &least)?;
            let blind = super::reduce::sum(&nothing, Some(&[-1]), true, None)?;
            let size = Tensor::wrapped(crate::Scalar::Int(columns as i64))?;
            let blind = compare::eq(&blind, &size)?;
            // What is chosen away must not be NaN either, or its gradient would be.
            let zero = binary::number(0.0)?;
            let safe = softmax(&binary::where_(&blind, &zero, &scores)?, -1, None)?;
            binary::where_(&blind, &zero, &safe)?
        }
    };
    let weights = if p > 0.0 { dropout::dropout(&weights, p, true, false)? } else { weights };
    Ok(matmul::matmul(&weights, &v)?.into())
}

/// This family's rows.
pub const ROWS: &[Row] = &[
    Row {
        aliases: &["nn.functional.layer_norm"],
        ..Row::make(
            "layer_norm",
            &[
                "(input, normalized_shape: int[], weight: Tensor? = None, bias: Tensor? = None, eps: float = 1e-5)",
            ],
            FUNCTION,
            &[" `(x - mean) / √(variance + eps) · weight + bias` over the last axes."],
            layer_norm,
        ).batched(Batching::Axes { extra: 0 })
    },
    Row::make(
        "nn.functional.batch_norm",
        &[
            "(input, running_mean: Tensor?, running_var: Tensor?, weight: Tensor? = None, bias: Tensor? = None, training: bool = False, momentum: float = 0.1, eps: float = 1e-5)",
        ],
        FUNCTION,
        &[
            " `(x - mean) / √(variance + eps) · weight + bias` for each channel, the second axis.",
            "",
            " In training mean and variance are those of the input, and the running ones, where given,",
            " move towards them by `momentum`; otherwise they are the running ones.",
        ],
        batch_norm,
    ),
    Row {
        aliases: &["nn.functional.group_norm"],
        ..Row::make(
            "group_norm",
            &[
                "(input, num_groups: int, weight: Tensor? = None, bias: Tensor? = None, eps: float = 1e-5)",
            ],
            FUNCTION,
            &[" `layer_norm` over groups of channels, with weights per channel."],
            group_norm,
        )
    },
    Row::make(
        "nn.functional.scaled_dot_product_attention",
        &[
            "(query, key, value, attn_mask: Tensor? = None, dropout_p: float = 0.0, is_causal: bool = False, scale: float? = None, enable_gqa: bool = False)",
        ],
        FUNCTION,
        &[
            " `softmax(query keyᵀ · scale + attn_mask) value`; `scale` is 1/√width if not given.",
            "",
            " A mask of truth values says what may be looked at. A query that may look at nothing gets",
            " zeros.",
        ],
        attention,
    ),
];
