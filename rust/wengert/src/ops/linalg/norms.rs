//! Norms of matrices, rank, condition.

use super::pseudo::Tolerance;
use super::*;
use crate::batch::Batching;
use crate::layout::wrap_dim;
use crate::ops::tags::*;
use crate::ops::{Args, Row, extrema, norm, reduce, unary, view};
use smallvec::SmallVec;

/// The order of a norm of matrices.
#[derive(Clone, Copy, PartialEq)]
enum Order {
    Frobenius,
    Nuclear,
    Number(f64),
}

impl Order {
    fn of(c: &Args, i: usize) -> Result<Order> {
        Ok(match (c.opt_str(i), c.opt_number(i)) {
            (Some("fro"), _) => Order::Frobenius,
            (Some("nuc"), _) => Order::Nuclear,
            (Some(other), _) => {
                bail!(Value, "", "linalg.matrix_norm: Order {other} not supported.")
            }
            (None, Some(n)) => Order::Number(n.to_f64()),
            (None, None) => Order::Frobenius,
        })
    }
}

/// A norm of the matrices in two axes.
fn matrix_norm(
    a: &Tensor,
    order: Order,
    dims: &[i64],
    keepdim: bool,
    dtype: Option<DType>,
) -> Result<Tensor> {
    let name = "linalg.matrix_norm";
    check_matrix(name, a, "A")?;
    if !a.dtype().is_floating() {
        let of = a.dtype().scalar_type_name();
        bail!(DType, "", "{name}: Expected a floating point or complex tensor as input. Got {of}");
    }
    let [p, q] = *dims else {
        bail!(Shape, "", "{name}: dim must be a 2-tuple. Got {}", dims.len());
    };
    let (rows, columns) = (wrap_dim(p, a.ndim())?, wrap_dim(q, a.ndim())?);
    if rows == columns {
        bail!(Shape, "", "{name}: dims must be different. Got ({p}, {q})");
    }
    let a = &match dtype {
        Some(dtype) => super::super::cast::to_dtype(a, dtype)?,
        None => a.clone(),
    };
    let extreme = |sums: &Tensor, along: i64, p: f64| match p > 0.0 {
        true => largest(sums, along, keepdim),
        false => extrema::amin(sums, &[along], keepdim),
    };
    let sums = |over: usize, left: usize, p: f64| {
        let total = reduce::sum(&unary::abs(a)?, Some(&[over as i64]), keepdim, None)?;
        // Without the summed axis those behind it are one further in front.
        let along = if !keepdim && left > over { left - 1 } else { left };
        extreme(&total, along as i64, p)
    };
    match order {
        Order::Frobenius => norm::vector_norm(a, 2.0, Some(&[p, q]), keepdim, None),
        Order::Number(p) if p.abs() == 1.0 => sums(rows, columns, p),
        Order::Number(p) if p.is_infinite() => sums(columns, rows, p),
        Order::Nuclear => {
            over_values(a, [rows, columns], keepdim, |s| reduce::sum(s, Some(&[-1]), false, None))
        }
        Order::Number(p) if p.abs() == 2.0 => {
            over_values(a, [rows, columns], keepdim, |s| match p > 0.0 {
                true => largest(s, -1, false),
                false => extrema::amin(s, &[-1], false),
            })
        }
        Order::Number(p) => {
            bail!(Value, "", "{name}: Order {p} not supported.")
        }
    }
}

/// The sum of the singular values of the matrices in two axes.
pub(in crate::ops) fn nuclear(x: &Tensor, dims: Option<&[i64]>, keepdim: bool) -> Result<Tensor> {
    matrix_norm(x, Order::Nuclear, dims.unwrap_or(&[-2, -1]), keepdim, None)
}

/// The largest along an axis of what is not negative: 0 of nothing.
fn largest(x: &Tensor, along: i64, keepdim: bool) -> Result<Tensor> {
    match x.shape()[wrap_dim(along, x.ndim())?] {
        0 => reduce::sum(x, Some(&[along]), keepdim, None),
        _ => extrema::amax(x, &[along], keepdim),
    }
}

/// A function of the singular values of the matrices in two axes.
fn over_values(
    a: &Tensor,
    [rows, columns]: [usize; 2],
    keepdim: bool,
    f: impl FnOnce(&Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    let last = view::movedim(a, &[rows as i64, columns as i64], &[-2, -1])?;
    let y = f(&spectral::svdvals(&last)?)?;
    if !keepdim {
        return Ok(y);
    }
    let mut shape: SmallVec<[usize; 5]> = a.shape().iter().copied().collect();
    (shape[rows], shape[columns]) = (1, 1);
    view::reshape_to(&y, &shape)
}

/// `linalg.norm`: of vectors or matrices, by the number of axes.
fn any_norm(c: &Args) -> Result<Tensor> {
    let (x, dims, keepdim, dtype) = (c.tensor(0), c.opt_ints(2), c.bool(3), c.opt_dtype(4));
    let given = c.opt_str(1).is_some() || c.opt_number(1).is_some();
    if !given {
        return norm::vector_norm(x, 2.0, dims, keepdim, dtype);
    }
    let is_name = c.opt_str(1).is_some();
    if dims.is_none() && !(x.ndim() == 1 || x.ndim() == 2) {
        bail!(
            Shape,
            "",
            "linalg.norm: If dim is not specified but ord is, the input must be 1D or 2D. Got {}D.",
            x.ndim()
        );
    }
    let count = dims.map_or(x.ndim(), |d| d.len());
    if count == 2 || is_name {
        return matrix_norm(x, Order::of(c, 1)?, dims.unwrap_or(&[-2, -1]), keepdim, dtype);
    }
    norm::vector_norm(x, c.float(1), dims, keepdim, dtype)
}

/// How many singular values of each matrix are more than nothing.
fn matrix_rank(c: &Args) -> Result<Output> {
    let a = c.tensor(0);
    check_matrix("linalg.matrix_rank", a, "A")?;
    if !matches!(a.dtype(), DType::Float32 | DType::Float64) {
        bail!(DType, "", "This function doesn't handle types other than float and double");
    }
    let zero = number(0.0);
    let (tolerance, hermitian) = match c.overload {
        0 => (Tolerance::of(a, c.opt_tensor(1), c.opt_tensor(2))?, c.bool(3)),
        _ => (Tolerance::of(a, c.opt_tensor(1), Some(&zero))?, c.bool(2)),
    };
    let s = match hermitian {
        true => unary::abs(&spectral::eigh(&a.detach(), false, false)?[0])?,
        false => spectral::svdvals(&a.detach())?,
    };
    Ok(reduce::sum(&tolerance.kept(&s)?, Some(&[-1]), false, None)?.into())
}

/// How much a matrix magnifies errors, in a norm.
fn cond(a: &Tensor, order: Option<Order>) -> Result<Tensor> {
    let order = order.unwrap_or(Order::Number(2.0));
    check_matrix("linalg.cond", a, "A")?;
    if a.numel() == 0 {
        check_square("linalg.cond", a)?;
        return Tensor::zeros(&a.shape()[..a.ndim() - 2], a.dtype());
    }
    if let Order::Number(p) = order
        && p.abs() == 2.0
    {
        let s = spectral::svdvals(a)?;
        let (most, least) = (extrema::amax(&s, &[-1], false)?, extrema::amin(&s, &[-1], false)?);
        return if p > 0.0 {
            super::super::div(&most, &least)
        } else {
            super::super::div(&least, &most)
        };
    }
    check_square("linalg.cond", a)?;
    let norm = |t: &Tensor| matrix_norm(t, order, &[-2, -1], false, None);
    super::super::mul(&norm(a)?, &norm(&lu::inverse(a)?)?)
}

/// This family's rows.
pub const ROWS: &[Row] = &[
    Row::make(
        "linalg.matrix_norm",
        &[
            "(A, ord: str = 'fro', dim: int[]? = None, keepdim: bool = False, *, dtype: dtype? = None)",
            "(A, ord: Number, dim: int[]? = None, keepdim: bool = False, *, dtype: dtype? = None)",
        ],
        FUNCTION | OUT,
        &[
            " A norm of the matrices in two axes, by default the last ones.",
            "",
            " `ord` is 'fro', 'nuc' (the sum of the singular values), 2 or -2 (the largest or smallest",
            " one), 1 or -1 (the largest or smallest sum of magnitudes in a column) or ∞ or -∞ (in a",
            " row).",
        ],
        |c| {
            let dims = c.opt_ints(2).unwrap_or(&[-2, -1]);
            Ok(matrix_norm(c.tensor(0), Order::of(c, 1)?, dims, c.bool(3), c.opt_dtype(4))?.into())
        },
    ),
    Row::make(
        "linalg.norm",
        &[
            "(A, ord: Number? = None, dim: int[]? = None, keepdim: bool = False, *, dtype: dtype? = None)",
            "(A, ord: str, dim: int[]? = None, keepdim: bool = False, *, dtype: dtype? = None)",
        ],
        FUNCTION | OUT,
        &[
            " A norm of vectors or, with two axes and an order, of matrices.",
            "",
            " See `linalg.vector_norm` and `linalg.matrix_norm`. Without an order it is the root of the",
            " sum of squares over the axes, or of all elements.",
        ],
        |c| Ok(any_norm(c)?.into()),
    ),
    Row::make(
        "linalg.matrix_rank",
        &[
            "(A, *, atol: Operand? = None, rtol: Operand? = None, hermitian: bool = False)",
            "(A, tol: Operand, hermitian: bool = False)",
        ],
        FUNCTION | OUT | NONDIFF,
        &[
            " How many singular values of each matrix are above `max(atol, rtol · σ₁)`.",
            "",
            " `rtol` is `max(m, n) · ε` if neither is given.",
        ],
        matrix_rank,
    )
    .batched(Batching::Trailing(2)),
    Row::make(
        "linalg.cond",
        &["(A, p: Number? = None)", "(A, p: str)"],
        FUNCTION | OUT,
        &[" `‖A‖ ‖A⁻¹‖`, by default in the norm that is the largest singular value."],
        |c| {
            let given = c.opt_number(1).is_some() || c.opt_str(1).is_some();
            let order = if given { Some(Order::of(c, 1)?) } else { None };
            Ok(cond(c.tensor(0), order)?.into())
        },
    )
    .batched(Batching::Trailing(2)),
];
