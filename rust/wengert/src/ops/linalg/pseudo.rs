//! Pseudo-inverses and least squares, by singular values.

use super::batches::{batch_of, shape, size_of};
use super::*;
use crate::batch::Batching;
use crate::graph::{Attribute, Attributes, Context, Gradients, Op, ValuesOnly, record};
use crate::layout;
use crate::ops::tags::*;
use crate::ops::{Args, NamedFields, Row, cast, compare, extrema, reduce, unary};
use smallvec::smallvec;

/// How small a singular value is nothing: at most the larger of `absolute` and `relative` times the
/// largest one. Numbers, or one for each matrix.
#[derive(Clone)]
pub(super) struct Tolerance {
    absolute: Tensor,
    relative: Tensor,
}

impl Tolerance {
    /// As NumPy and PyTorch have it: without a bound, `ε · max(m, n)` of the largest.
    pub(super) fn of(
        a: &Tensor,
        absolute: Option<&Tensor>,
        relative: Option<&Tensor>,
    ) -> Result<Tolerance> {
        let [m, n] = size_of(a);
        let epsilon = if a.dtype() == DType::Float32 { f32::EPSILON as f64 } else { f64::EPSILON };
        let usual = Tensor::full(&[], epsilon * m.max(n) as f64, DType::Float64)?;
        let wide = |t: &Tensor| cast::to_dtype(&t.detach(), DType::Float64);
        let relative = match (absolute, relative) {
            (_, Some(relative)) => wide(relative)?,
            (None, None) => usual,
            (Some(absolute), None) => {
                let is_given = compare::gt(&wide(absolute)?, &number(0.0))?;
                binary::where_(&is_given, &number(0.0), &usual)?
            }
        };
        let absolute = match absolute {
            Some(absolute) => wide(absolute)?,
            None => Tensor::zeros(&[], DType::Float64)?,
        };
        Ok(Tolerance { absolute, relative })
    }

    /// Which of the magnitudes in the last axis are more than nothing.
    pub(super) fn kept(&self, s: &Tensor) -> Result<Tensor> {
        if s.shape()[s.ndim() - 1] == 0 {
            return Tensor::zeros(s.shape(), DType::Bool);
        }
        let each = |t: &Tensor| if t.ndim() > 0 { as_columns(t) } else { t.clone() };
        let s = cast::to_dtype(s, DType::Float64)?;
        let relative = extrema::amax(&s, &[-1], true)? * each(&self.relative);
        compare::gt(&s, &binary::maximum(&relative, &each(&self.absolute))?)
    }
}

/// `1 / s` where it is kept, else 0.
fn reciprocals(s: &Tensor, kept: &Tensor) -> Result<Tensor> {
    binary::where_(kept, &unary::reciprocal(s)?, &number(0.0))
}

/// The gradient of `A` for that of its pseudo-inverse `p`:
/// `-Pᵀ g Pᵀ + (I - A P) gᵀ P Pᵀ + Pᵀ P gᵀ (I - P A)`.
fn pinv_backward(g: &Tensor, a: &Tensor, p: &Tensor) -> Tensor {
    let first = times_t(&t_times(p, g), p);
    let x = times_t(&t_times(g, p), p);
    let y = t_times(p, &times_t(p, g));
    (&x - times(a, &times(p, &x))) + (&y - times(&times(&y, p), a)) - first
}

const A: u8 = 0;
const B: u8 = 1;
const RESULT: u8 = 2;

/// The pseudo-inverse (Moore, Penrose) of each matrix.
///
/// # Errors
/// `a` is not made of finite matrices of `float32` or `float64`.
fn pinv(a: &Tensor, tolerance: &Tolerance, hermitian: bool) -> Result<Tensor> {
    struct Rule;
    impl Op for Rule {
        fn name(&self) -> &'static str {
            "LinalgPinvBackward0"
        }

        fn attributes(&self) -> Attributes {
            vec![("self", Attribute::Saved(A)), ("result", Attribute::Saved(RESULT))]
        }

        fn backward(&self, ctx: &Context, grads: &[Option<Tensor>]) -> Result<Gradients> {
            let Some(g) = &grads[0] else { return Ok(smallvec![None]) };
            Ok(smallvec![Some(pinv_backward(g, ctx.saved(A), ctx.saved(RESULT)))])
        }
    }
    let y = {
        let _off = ValuesOnly::new();
        if hermitian {
            check_square("linalg.pinv", a)?;
            let [values, v] = spectral::eigh(&a.detach(), false, true)?;
            let kept = tolerance.kept(&unary::abs(&values)?)?;
            times_t(&(&v * as_rows(&reciprocals(&values, &kept)?)), &v)
        } else {
            let [u, s, vh] = spectral::svd(&a.detach(), false)?;
            let factors = reciprocals(&s, &tolerance.kept(&s)?)?;
            t_times_t(&vh, &(u * as_rows(&factors)))
        }
    };
    if record::recording(&[a]) {
        record::record(&y, &[a], &[(A, a), (RESULT, &y)], Box::new(Rule))?;
    }
    Ok(y)
}

fn pinv_row(c: &Args) -> Result<Output> {
    let a = c.tensor(0);
    if a.ndim() < 2 || !matches!(a.dtype(), DType::Float32 | DType::Float64) {
        bail!(
            DType,
            "",
            "linalg.pinv({}{{{:?}}}): expected a tensor with 2 or more dimensions of float, double, \
             cfloat or cdouble types",
            a.dtype().scalar_type_name(),
            a.shape()
        );
    }
    let (tolerance, hermitian) = match c.overload {
        0 => (Tolerance::of(a, c.opt_tensor(1), c.opt_tensor(2))?, c.bool(3)),
        _ => (Tolerance::of(a, None, c.opt_tensor(1))?, c.bool(2)),
    };
    Ok(pinv(a, &tolerance, hermitian)?.into())
}

/// What [`lstsq`] gives.
struct LeastSquares {
    solution: Tensor,
    residuals: Tensor,
    rank: Tensor,
    singular_values: Tensor,
}

/// The `X` of least norm among those for which that of `A X - B` is least.
fn lstsq(a: &Tensor, b: &Tensor, rcond: Option<f64>, driver: &str) -> Result<LeastSquares> {
    struct Rule {
        tolerance: Tolerance,
        vectors: bool,
        measured: bool,
    }
    impl Op for Rule {
        fn name(&self) -> &'static str {
            "LinalgLstsqBackward0"
        }

        fn attributes(&self) -> Attributes {
            vec![
                ("self", Attribute::Saved(A)),
                ("b", Attribute::Saved(B)),
                ("solution", Attribute::Saved(RESULT)),
            ]
        }

        /// `X = A⁺ B`: the gradients are `A⁺ᵀ g` and, through `A⁺`, that of `g Bᵀ`. The squares of
        /// `E = A X - B` change with `A` and `B` alone, because `X` is where they are least.
        fn backward(&self, ctx: &Context, grads: &[Option<Tensor>]) -> Result<Gradients> {
            let (a, b, x) = (ctx.saved(A), ctx.saved(B), ctx.saved(RESULT));
            let matrix = |t: &Tensor| if self.vectors { as_columns(t) } else { t.clone() };
            let (b, x) = (matrix(b), matrix(x));
            let (mut of_a, mut of_b) = (None, None);
            if let Some(g) = grads[0].as_ref().map(matrix) {
                let p = pinv(a, &self.tolerance, false)?;
                of_a = ctx.needs(0).then(|| pinv_backward(&times_t(&g, &b), a, &p));
                of_b = Some(t_times(&p, &g));
            }
            if let Some(g) = grads[1].as_ref().filter(|_| self.measured) {
                let error = (times(a, &x) - &b) * (as_rows(g) * 2.0);
                let more = times_t(&error, &x);
                of_a = Some(match of_a {
                    Some(sum) => sum + more,
                    None => more,
                });
                of_b = Some(match of_b {
                    Some(sum) => sum - error,
                    None => -error,
                });
            }
            if self.vectors {
                of_b = of_b.map(|g| view::squeeze(&g, Some(&[-1]))).transpose()?;
            }
            Ok(smallvec![of_a, of_b])
        }
    }
    let name = "torch.linalg.lstsq";
    check_matrix(name, a, "A")?;
    check_real(name, a)?;
    if b.ndim() < 1 {
        bail!(Shape, "", "{name}: other must have at least 1 dimension.");
    }
    check_same_type(name, a, b)?;
    // Unlike `solve`, the number of axes alone tells vectors from matrices.
    let vectors = b.ndim() + 1 == a.ndim();
    if !vectors && a.ndim() != b.ndim() {
        bail!(
            Shape,
            "",
            "{name}: input.dim() must be greater or equal to other.dim() and (input.dim() - \
             other.dim()) <= 1"
        );
    }
    let matrix = if vectors { view::unsqueeze(&b.detach(), -1)? } else { b.detach() };
    let ([m, n], [rows, columns]) = (size_of(a), size_of(&matrix));
    if rows != m {
        bail!(
            Shape,
            "",
            "{name}: input.size(-2) should match other.size(-{}) ({m} and {rows})",
            if vectors { 1 } else { 2 }
        );
    }
    let batch = layout::broadcast(name, batch_of(a), batch_of(&matrix))?;
    for t in [a, b] {
        if !reduce::all(&unary::isfinite(&t.detach())?)? {
            return Err(Error::plain(Kind::LinAlg, format!("{name}: input has NaN/Inf")));
        }
    }
    let _off = ValuesOnly::new();
    let tolerance = Tolerance::of(a, None, rcond.map(number).as_ref())?;
    let values = a.detach();
    let [u, s, vh] = spectral::svd(&values, false)?;
    let kept = tolerance.kept(&s)?;
    let turned = t_times(&u, &matrix) * as_columns(&reciprocals(&s, &kept)?);
    let x = t_times(&vh, &turned);
    let rank = reduce::sum(&kept, Some(&[-1]), false, None)?;
    let nothing = |dtype| Tensor::zeros(&[0], dtype);
    let is_full = reduce::all(&compare::eq(&rank, &number(n as f64))?)?;
    let measured = m > n && driver != "gelsy" && is_full;
    let residuals = if measured {
        let error = times(&values, &x) - &matrix;
        reduce::sum(&unary::square(&error)?, Some(&[-2]), false, None)?
    } else {
        nothing(a.dtype())?
    };
    let solution = if vectors {
        view::reshape_to(&x, &shape(&batch, &[n]))?
    } else {
        view::expand_to(&x, &shape(&batch, &[n, columns]))?
    };
    let solution = cast::clone(&solution)?;
    drop(_off);
    if record::recording(&[a, b]) {
        let rule = Rule { tolerance, vectors, measured };
        let saves = [(A, a), (B, b), (RESULT, &solution)];
        record::record_many(&[&solution, &residuals], &[a, b], &saves, Box::new(rule))?;
    }
    let rank = if driver == "gels" { nothing(DType::Int64)? } else { rank };
    let singular_values = if matches!(driver, "gelsd" | "gelss") { s } else { nothing(a.dtype())? };
    Ok(LeastSquares { solution, residuals, rank, singular_values })
}

static LSTSQ: NamedFields = NamedFields {
    name: "linalg_lstsq",
    fields: &["solution", "residuals", "rank", "singular_values"],
};

const BY_TOLERANCE: &str =
    "(A, *, atol: Operand? = None, rtol: Operand? = None, hermitian: bool = False)";

/// This family's rows.
pub const ROWS: &[Row] = &[
    Row::make(
        "linalg.pinv",
        &[BY_TOLERANCE, "(A, rcond: Operand, hermitian: bool = False)"],
        FUNCTION | OUT,
        &[
            " The pseudo-inverse of each matrix.",
            "",
            " Singular values at or below `max(atol, rtol · σ₁)` count as 0; `rtol` is",
            " `max(m, n) · ε` if neither is given. The gradient exists where the rank is constant.",
        ],
        pinv_row,
    )
    .batched(Batching::Trailing(2)),
    Row::make(
        "pinverse",
        &["(input, rcond: float = 1e-15)"],
        FUNCTION | METHOD,
        &[" The older name of `linalg.pinv`."],
        |c| {
            let a = c.tensor(0);
            check_matrix("linalg.pinv", a, "A")?;
            let tolerance = Tolerance::of(a, None, Some(&number(c.float(1))))?;
            Ok(pinv(a, &tolerance, false)?.into())
        },
    )
    .batched(Batching::Trailing(2)),
    Row::make(
        "linalg.lstsq",
        &["(input, b, rcond: Number? = None, *, driver: str? = None) -> (Tensor solution, \
             Tensor residuals, Tensor rank, Tensor singular_values)"],
        FUNCTION | OUT,
        &[
            " The X for which the norm of `A X - B` is least; of several the one of least norm.",
            "",
            " Singular values at or below `rcond · σ₁` count as 0. All drivers are the same method;",
            " which further results there are depends on the driver as in PyTorch. Numbers that are not",
            " finite raise `linalg.LinAlgError`.",
        ],
        |c| {
            let driver = c.opt_str(3).unwrap_or("gelsy");
            if !matches!(driver, "gels" | "gelsy" | "gelsd" | "gelss") {
                bail!(
                    Value,
                    "",
                    "torch.linalg.lstsq: parameter `driver` should be one of (gels, gelsy, gelsd, gelss)"
                );
            }
            let rcond = c.opt_number(2).map(|n| n.to_f64());
            let all = lstsq(c.tensor(0), c.tensor(1), rcond, driver)?;
            let parts = [all.solution, all.residuals, all.rank, all.singular_values];
            Ok(named(&LSTSQ, parts))
        },
    ),
];
