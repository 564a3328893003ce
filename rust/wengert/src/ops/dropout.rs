//! Dropout: noise on activations while a model learns.
//!
//! N. Srivastava, G. Hinton, A. Krizhevsky, I. Sutskever, R. Salakhutdinov, "Dropout: a simple way
//! to prevent neural networks from overfitting", JMLR 15, 2014. The result is the input times a
//! mask of factors, so the rule is that of the product, and the mask is all that it saves.

use super::create::layout_like;
use super::random::pieces;
use super::tags::*;
use super::{Dest, Row, binary};
use crate::graph::{inplace, record};
use crate::random::with_default;
use crate::tensor::Tensor;
use crate::{Result, bail, dispatch};

/// In training: each element zero with probability `p`, the others divided by `1 - p`; else `x`.
///
/// The gradient is the same mask. With `inplace`, `x` is overwritten and returned.
///
/// # Errors
/// `p` is no probability; `x` is not floating; `x` may not be written to.
pub fn dropout(x: &Tensor, p: f64, training: bool, inplace: bool) -> Result<Tensor> {
    if !(0.0..=1.0).contains(&p) {
        bail!(Value, "", "dropout probability has to be between 0 and 1, but got {p}");
    }
    if !training || p == 0.0 || x.numel() == 0 {
        return Ok(x.clone());
    }
    let mask = if p == 1.0 {
        Tensor::zeros(&[], x.dtype())?
    } else {
        // In the order of addresses of `x`, whose layout the mask gets.
        let flat = Tensor::uninitialised("dropout", &[x.numel()], x.dtype())?;
        dispatch!(x.dtype(), T => flat.fill_with::<T, _>(|out| {
            pieces(out, |out| with_default(|g| g.dropout_mask(out, p)))
        }))?;
        Tensor::from_parts(flat.storage().clone(), layout_like(x, x.dtype())?, x.dtype())
    };
    if !inplace {
        return binary::mul(x, &mask);
    }
    inplace::check(x, "dropout", false)?;
    if record::recording(&[x]) {
        inplace::adopt(x, binary::mul(&inplace::before(x)?, &mask)?)?;
    } else {
        binary::mul::run([x, &mask], Dest::Into(x))?;
        x.storage().bump_version();
    }
    Ok(x.clone())
}

/// This family's rows.
pub const ROWS: &[Row] = &[
    Row::make(
        "dropout",
        &["(input, p: float, train: bool)"],
        FUNCTION | RANDOM,
        &[" In training, zeroes elements with probability `p` and divides the others by `1 - p`."],
        |c| Ok(dropout(c.tensor(0), c.float(1), c.bool(2), false)?.into()),
    ),
    Row::make(
        "nn.functional.dropout",
        &["(input, p: float = 0.5, training: bool = True, inplace: bool = False)"],
        FUNCTION | RANDOM,
        &[" In training, zeroes elements with probability `p` and divides the others by `1 - p`."],
        |c| Ok(dropout(c.tensor(0), c.float(1), c.bool(2), c.bool(3))?.into()),
    ),
];
