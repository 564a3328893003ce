//! Linear algebra: solving, factoring, and what is composed of these.
//!
//! All operations work on *batches*: matrices are the last two axes, and those before are independent
//! problems. Forward calls [`kernels::linalg`](crate::kernels::linalg) per matrix. The rules are
//! formulas over tensors, with other operations of this module in them, so they have derivatives of
//! any order. Notation: `g` is the gradient of the result, `ᵀ` swaps the last two axes.
//!
//! Sources of the formulas: M. Giles, *An extended collection of matrix derivative results for forward
//! and reverse mode algorithmic differentiation*, 2008 (products, inverse, determinant, eigenvalues,
//! singular values, Cholesky); S. Walter, L. Lehmann, *Algorithmic differentiation of linear algebra
//! functions*, 2010 (QR); G. Golub, V. Pereyra, *The differentiation of pseudo-inverses and nonlinear
//! least squares problems whose variables separate*, 1973.

mod batches;
pub mod cholesky;
pub mod composed;
pub mod lu;
pub mod norms;
pub mod pseudo;
pub mod qr;
pub mod spectral;

use super::algebra::expect;
use super::product::{Mat, product};
use super::{NamedFields, Output, binary, triangle, view};
use crate::tensor::Tensor;
use crate::{DType, Error, Kind, Result, bail};
use batches::size_of;

/// Refuses what is not made of matrices.
fn check_matrix(name: &str, x: &Tensor, called: &str) -> Result<()> {
    if x.ndim() < 2 {
        bail!(Shape, "", "{name}: The input tensor {called} must have at least 2 dimensions.");
    }
    Ok(())
}

/// Refuses what is not made of square matrices.
fn check_square(name: &str, x: &Tensor) -> Result<()> {
    check_matrix(name, x, "A")?;
    let [m, n] = size_of(x);
    if m != n {
        bail!(
            Shape,
            "",
            "{name}: A must be batches of square matrices, but they are {m} by {n} matrices"
        );
    }
    Ok(())
}

/// Refuses types other than `float32` and `float64`.
fn check_real(name: &str, x: &Tensor) -> Result<()> {
    let of = x.dtype().scalar_type_name();
    match x.dtype() {
        DType::Float32 | DType::Float64 => Ok(()),
        d if d.is_floating() => {
            bail!(DType, "", "{name}: Low precision dtypes not supported. Got {of}")
        }
        _ => bail!(
            DType,
            "",
            "{name}: Expected a floating point or complex tensor as input. Got {of}"
        ),
    }
}

/// Refuses operands of two types.
fn check_same_type(name: &str, a: &Tensor, b: &Tensor) -> Result<()> {
    if a.dtype() != b.dtype() {
        let [a, b] = [a, b].map(|t| t.dtype().scalar_type_name());
        bail!(
            DType,
            "",
            "{name}: Expected A and B to have the same dtype, but found A of type {a} and B of type \
             {b} instead"
        );
    }
    Ok(())
}

/// The error of the first matrix of a batch whose number is not 0.
fn check_info(name: &str, info: &Tensor, sentence: impl FnOnce(i32) -> String) -> Result<()> {
    let all = info.to_vec::<i32>()?;
    let Some(at) = all.iter().position(|&i| i != 0) else { return Ok(()) };
    let batch = if info.ndim() == 0 { String::new() } else { format!("(Batch element {at}): ") };
    Err(Error::plain(Kind::LinAlg, format!("{name}: {batch}{}", sentence(all[at]))))
}

// Algebra of the rules, with errors that unwind as those of the infix operators do. ----------------

/// The last two axes swapped.
fn transposed(x: &Tensor) -> Tensor {
    expect(view::transpose(x, -2, -1))
}

/// `a @ b`.
fn times(a: &Tensor, b: &Tensor) -> Tensor {
    expect(product(Mat(a, false), Mat(b, false), 1.0))
}

/// `aᵀ @ b`.
fn t_times(a: &Tensor, b: &Tensor) -> Tensor {
    expect(product(Mat(a, true), Mat(b, false), 1.0))
}

/// `a @ bᵀ`.
fn times_t(a: &Tensor, b: &Tensor) -> Tensor {
    expect(product(Mat(a, false), Mat(b, true), 1.0))
}

/// `aᵀ @ bᵀ`.
fn t_times_t(a: &Tensor, b: &Tensor) -> Tensor {
    expect(product(Mat(a, true), Mat(b, true), 1.0))
}

/// Numbers of a batch as matrices that broadcast: `(…, 1, 1)`.
fn as_matrices(x: &Tensor) -> Tensor {
    expect(view::unsqueeze(&expect(view::unsqueeze(x, -1)), -1))
}

/// Vectors of a batch as rows that broadcast over columns: `(…, 1, n)`.
fn as_rows(x: &Tensor) -> Tensor {
    expect(view::unsqueeze(x, -2))
}

/// Vectors of a batch as columns that broadcast over rows: `(…, n, 1)`.
fn as_columns(x: &Tensor) -> Tensor {
    expect(view::unsqueeze(x, -1))
}

/// Matrices with vectors on the diagonal.
fn diagonal_of(x: &Tensor) -> Tensor {
    expect(triangle::diag_embed(x, 0, -2, -1))
}

/// The identity.
fn identity(n: usize, dtype: DType) -> Result<Tensor> {
    super::create::eye(n as i64, None, Some(dtype))
}

/// The lower triangle with the diagonal halved.
fn half_lower(x: &Tensor) -> Tensor {
    let lower = expect(triangle::tril(x, 0));
    let diagonal = diagonal_of(&expect(triangle::diagonal(x, 0, -2, -1)));
    lower - diagonal * 0.5
}

fn named(fields: &'static NamedFields, parts: impl Into<Vec<Tensor>>) -> Output {
    Output::Named(fields, parts.into())
}

/// A number to combine tensors with.
fn number(x: f64) -> Tensor {
    expect(binary::number(x))
}
