//! Products with flags for transposition, of which an operand is batched: the forms that rules use.
//!
//! Where one operand is the same for all examples, the rows of all examples are rows of one larger
//! product. A row of a product has the same bits whatever stands above and below it (see the engine's
//! `kernels::gemm`), so a batch gives what its examples give alone.

use super::lift;
use crate::layout::Dims;
use crate::ops::product::{self, Mat};
use crate::ops::{self, view};
use crate::tensor::Tensor;
use crate::{Result, Scalar};

/// `alpha · op(a) @ op(b)`.
#[cold]
#[inline(never)]
pub(crate) fn product(a: Mat, b: Mat, alpha: f64) -> Result<Tensor> {
    if !b.0.is_batched() && b.0.ndim() == 2 && !a.1 {
        return rows(a.0, b, alpha);
    }
    if !a.0.is_batched() && a.0.ndim() == 2 && b.1 {
        // (op(a) bᵀ)ᵀ = b op(a)ᵀ
        return view::transpose(&rows(b.0, Mat(a.0, !a.1), alpha)?, -2, -1);
    }
    let ndim = a.0.ndim().max(b.0.ndim());
    lift::over_aligned([a.0, b.0], ndim, |[x, y], _| {
        product::product(Mat(x, a.1), Mat(y, b.1), alpha)
    })
}

/// All rows of all examples of `a`, each times the one matrix.
fn rows(a: &Tensor, matrix: Mat, alpha: f64) -> Result<Tensor> {
    lift::over(a, |a, _| {
        let Some((&k, lead)) = a.shape().split_last() else { return Err(super::unreadable()) };
        let folded = view::reshape_to(a, &[lead.iter().product(), k])?;
        let y = product::product(Mat(&folded, false), matrix, alpha)?;
        let mut shape = Dims::from_slice(lead);
        shape.extend_from_slice(&y.shape()[1..]);
        view::reshape_to(&y, &shape)
    })
}

/// `beta · input + product`.
#[cold]
#[inline(never)]
pub(crate) fn added(input: Option<&Tensor>, beta: f64, product: Tensor) -> Result<Tensor> {
    match input {
        Some(input) if beta == 1.0 => ops::add(input, &product),
        Some(input) if beta != 0.0 => {
            ops::add(&ops::mul(input, &Tensor::wrapped(Scalar::Float(beta))?)?, &product)
        }
        _ => Ok(product),
    }
}

/// `alpha · op(a) @ v`.
#[cold]
#[inline(never)]
pub(crate) fn matvec(a: Mat, v: &Tensor, alpha: f64) -> Result<Tensor> {
    if !a.0.is_batched() {
        return rows(v, Mat(a.0, !a.1), alpha);
    }
    let column = view::unsqueeze(v, 1)?;
    view::squeeze(&product(a, Mat(&column, false), alpha)?, Some(&[-1]))
}

/// `Σ aᵢ bᵢ`.
#[cold]
#[inline(never)]
pub(crate) fn dot(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let (row, column) = (view::unsqueeze(a, 0)?, view::unsqueeze(b, 1)?);
    let y = product(Mat(&row, false), Mat(&column, false), 1.0)?;
    view::squeeze(&y, Some(&[0, 1]))
}
