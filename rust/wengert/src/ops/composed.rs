//! Operations that are other operations in a certain order: no kernel and no rule of their own.

use super::activation::{elu_with, hardtanh_with, in_place_if};
use super::tags::*;
use super::{Call, Dest, Row, binary, unary};
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

/// `clamp` with either bound absent.
///
/// For floats a bound that is absent is infinite, so that there is one rule and one name of the
/// node; whole numbers have no infinity, and no gradient.
fn clamp(x: &Tensor, min: Option<&Tensor>, max: Option<&Tensor>, dest: Dest) -> Result<Tensor> {
    let infinite = |x: f64| Tensor::wrapped(Scalar::Float(x));
    match (min, max) {
        (Some(min), None) if x.dtype().is_floating() => {
            binary::clamp_both::run([x, min, &infinite(f64::INFINITY)?], dest)
        }
        (None, Some(max)) if x.dtype().is_floating() => {
            binary::clamp_both::run([x, &infinite(f64::NEG_INFINITY)?, max], dest)
        }
        _ => binary::clamp(x, min, max, dest),
    }
}

/// `x / (1 + |x|)`
pub fn softsign(x: &Tensor) -> Result<Tensor> {
    super::div(x, &super::add(&unary::abs(x)?, &Tensor::wrapped(Scalar::Int(1))?)?)
}

/// `x - tanh(x)`
pub fn tanhshrink(x: &Tensor) -> Result<Tensor> {
    super::sub(x, &unary::tanh(x)?)
}

/// The constants that keep mean 0 and variance 1 through layers (Klambauer et al., 2017).
const SELU_ALPHA: f64 = 1.673_263_242_354_377_2;
const SELU_SCALE: f64 = 1.050_700_987_355_480_5;

macro_rules! row {
    ($name:literal $(aka $alias:literal)?, $sig:literal, $tags:expr, $call:expr, $doc:literal) => {
        Row {
            name: $name,
            aliases: &[$($alias)?],
            signatures: &[$sig],
            doc: &[$doc],
            tags: $tags,
            call: $call,
        }
    };
}

/// This family's rows.
pub const ROWS: &[Row] = &[
    row!(
        "where",
        "(condition, input: Operand, other: Operand)",
        FUNCTION | OUT,
        Call::Into(|c, dest| {
            check_condition(c.tensor(0))?;
            binary::where_::run([c.tensor(0), c.tensor(1), c.tensor(2)], dest)
        }),
        " `input` where `condition` holds, else `other`, with broadcasting."
    ),
    row!(
        "clamp" aka "clip",
        "(input, min: Operand? = None, max: Operand? = None)",
        ALL_FORMS,
        Call::Into(|c, dest| clamp(c.tensor(0), c.opt_tensor(1), c.opt_tensor(2), dest)),
        " Values limited to `[min, max]`; either may be absent, and `max` wins if they cross."
    ),
    row!(
        "nn.functional.relu",
        "(input, inplace: bool = False)",
        FUNCTION,
        Call::Into(|c, dest| {
            in_place_if("relu", c, 1, dest, |x, dest| unary::relu::run([x], dest))
        }),
        " `max(x, 0)`, elementwise."
    ),
    row!(
        "nn.functional.relu6",
        "(input, inplace: bool = False)",
        FUNCTION,
        Call::Into(|c, dest| hardtanh_with("relu6", c, 1, [0.0, 6.0], dest)),
        " `min(max(x, 0), 6)`, elementwise."
    ),
    row!(
        "nn.functional.selu",
        "(input, inplace: bool = False)",
        FUNCTION,
        Call::Into(|c, dest| {
            let factors = [SELU_ALPHA * SELU_SCALE, SELU_SCALE, 1.0];
            elu_with("selu", c, 1, factors, dest)
        }),
        " `elu` with the constants that keep mean 0 and variance 1 through layers."
    ),
    row!(
        "nn.functional.celu",
        "(input, alpha: float = 1.0, inplace: bool = False)",
        FUNCTION,
        Call::Into(|c, dest| {
            let alpha = c.float(1);
            if alpha == 0.0 {
                bail!(ZeroDivision, "", "ZeroDivisionError: alpha cannot be 0 for CELU");
            }
            elu_with("celu", c, 2, [alpha, 1.0, 1.0 / alpha], dest)
        }),
        " `x` above 0, `α (e^(x/α) - 1)` below."
    ),
    row!(
        "nn.functional.softsign",
        "(input)",
        FUNCTION,
        Call::Make(|c| Ok(softsign(c.tensor(0))?.into())),
        " `x / (1 + |x|)`, elementwise."
    ),
    row!(
        "nn.functional.tanhshrink",
        "(input)",
        FUNCTION,
        Call::Make(|c| Ok(tanhshrink(c.tensor(0))?.into())),
        " `x - tanh(x)`, elementwise."
    ),
];
