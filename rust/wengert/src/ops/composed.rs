//! Operations that are other operations in a certain order: no kernel and no rule of their own.

use super::fused::softmax::{implicit_dim, softmax};
use super::select::nonzero_columns;
use super::tags::*;
use super::{Call, Dest, Output, Row, binary, norm, unary};
use crate::batch::{Batching, axes, compose};
use crate::tensor::Tensor;
use crate::{DType, Result, Scalar, bail};

/// Refuses a condition that is not made of truth values. Bytes are accepted, as in old code.
fn check_condition(condition: &Tensor) -> Result<()> {
    if !matches!(condition.dtype(), DType::Bool | DType::UInt8) {
        bail!(
            DType,
            "",
            "where expected condition to be a boolean tensor, but got a tensor with dtype {}",
            condition.dtype().scalar_type_name()
        );
    }
    Ok(())
}

/// `x` where the condition holds, else `y`, with broadcasting.
///
/// # Errors
/// The condition is not made of truth values; shapes do not broadcast.
pub fn where_(condition: &Tensor, x: &Tensor, y: &Tensor) -> Result<Tensor> {
    check_condition(condition)?;
    binary::where_(condition, x, y)
}

/// `clamp` with either bound absent.
///
/// For floats a bound that is absent is infinite, so that there is one rule and one name of the
/// node; whole numbers have no infinity, and no gradient. The infinity is a number or a tensor as
/// the other bound is.
fn clamp(x: &Tensor, min: Option<&Tensor>, max: Option<&Tensor>, dest: Dest) -> Result<Tensor> {
    let infinite = |like: &Tensor, value: f64| match like.is_wrapped_number() {
        true => Tensor::wrapped(Scalar::Float(value)),
        false => Tensor::full(&[], value, x.dtype()),
    };
    match (min, max) {
        (Some(min), None) if x.dtype().is_floating() => {
            binary::clamp_both::run([x, min, &infinite(min, f64::INFINITY)?], dest)
        }
        (None, Some(max)) if x.dtype().is_floating() => {
            binary::clamp_both::run([x, &infinite(max, f64::NEG_INFINITY)?, max], dest)
        }
        _ => binary::clamp(x, min, max, dest),
    }
}

/// `x / max(‖x‖ₚ, eps)` with norms along an axis.
fn normalize(x: &Tensor, p: f64, dim: i64, eps: f64) -> Result<Tensor> {
    let norms = norm::vector_norm(x, p, Some(&[dim]), true, None)?;
    super::div(x, &binary::clamp_min(&norms, &binary::number(eps)?)?)
}

macro_rules! row {
    ($name:literal $(aka $alias:literal)?, $sig:literal, $tags:expr, $call:expr, $doc:literal) => {
        Row {
            name: $name,
            aliases: &[$($alias)?],
            signatures: &[$sig],
            doc: &[$doc],
            tags: $tags,
            batch: Batching::Each,
            call: $call,
        }
    };
}

/// This family's rows.
pub const ROWS: &[Row] = &[
    Row::make(
        "where",
        &["(condition, input: Operand, other: Operand)", "(condition) -> Tensor[]"],
        FUNCTION | OUT,
        &[
            " `input` where `condition` holds, else `other`, with broadcasting; without these, the",
            " indices where it holds, one vector per axis.",
        ],
        |c| match c.overload {
            0 => Ok(where_(c.tensor(0), c.tensor(1), c.tensor(2))?.into()),
            _ => Ok(Output::Tensors(nonzero_columns(c.tensor(0))?)),
        },
    )
    .batched(Batching::Own(compose::choose)),
    row!(
        "clamp" aka "clip",
        "(input, min: Operand? = None, max: Operand? = None)",
        ALL_FORMS,
        Call::Into(|c, dest| clamp(c.tensor(0), c.opt_tensor(1), c.opt_tensor(2), dest)),
        " Values limited to `[min, max]`; either may be absent, and `max` wins if they cross."
    )
    .batched(Batching::Pointwise),
    row!(
        "nn.functional.softmin",
        "(input, dim: int? = None, _stacklevel: int = 3, dtype: dtype? = None)",
        FUNCTION,
        Call::Make(|c| {
            let dim = implicit_dim(c.tensor(0), c.opt_int(1));
            Ok(softmax(&unary::neg(c.tensor(0))?, dim, c.opt_dtype(3))?.into())
        }),
        " `e⁻ˣ / Σ e⁻ˣ` along an axis."
    )
    .batched(Batching::Own(axes::implicit_softmax)),
    row!(
        "nn.functional.normalize",
        "(input, p: float = 2.0, dim: int = 1, eps: float = 1e-12)",
        FUNCTION | OUT,
        Call::Make(|c| Ok(normalize(c.tensor(0), c.float(1), c.int(2), c.float(3))?.into())),
        " `x / max(‖x‖ₚ, eps)` with norms along an axis."
    )
    .batched(Batching::Axes { extra: 0 }),
];
