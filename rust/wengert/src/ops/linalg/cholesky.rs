//! Cholesky factors and triangular systems.

use super::batches::{batch_of, copied, each, fresh, places, real, size_of};
use super::*;
use crate::batch::{Batching, linalg as rules};
use crate::graph::{Attribute, Attributes, Context, Gradients, Op, ValuesOnly, record};
use crate::kernels::linalg::{self as kernels, Triangle};
use crate::layout;
use crate::ops::tags::*;
use crate::ops::{Args, Row};
use smallvec::smallvec;

const A: u8 = 0;
const RESULT: u8 = 1;

/// Solves with one triangle of each matrix; batches broadcast.
fn substitute(a: &Tensor, b: &Tensor, which: Triangle) -> Result<Tensor> {
    let full = layout::broadcast("linalg.solve_triangular", batch_of(a), batch_of(b))?;
    let x = copied(b, &full)?;
    let [n, m] = size_of(b);
    let from = places(batch_of(a), &full);
    let work = n.saturating_mul(n).saturating_mul(m) / 2;
    real!(b, T => {
        let all = a.detach().to_vec::<T>()?;
        each::<T, 1, 0>(from.len(), work, [&x], [], |i, [x], []| {
            let a = &all[from[i] * n * n..(from[i] + 1) * n * n];
            kernels::solve_triangular(a, n, x, m, which);
        });
    });
    if record::recording(&[a, b]) {
        let rule = Box::new(Substitution(which));
        record::record(&x, &[a, b], &[(A, a), (RESULT, &x)], rule)?;
    }
    Ok(x)
}

/// The rule of `op(T)⁻¹ B`, where `op` transposes or does nothing.
struct Substitution(Triangle);

impl Substitution {
    /// The part of a matrix that is read.
    fn part(&self, x: &Tensor) -> Result<Tensor> {
        let skipped = self.0.unit as i64;
        if self.0.upper { triangle::triu(x, skipped) } else { triangle::tril(x, -skipped) }
    }
}

impl Op for Substitution {
    fn name(&self) -> &'static str {
        "LinalgSolveTriangularBackward0"
    }

    fn attributes(&self) -> Attributes {
        vec![
            ("self", Attribute::Saved(A)),
            ("result", Attribute::Saved(RESULT)),
            ("upper", Attribute::bool(self.0.upper)),
            ("unitriangular", Attribute::bool(self.0.unit)),
        ]
    }

    /// With `h = op(T)⁻ᵀ g` the gradients of `B` and of `op(T)` are `h` and the triangle of `-h xᵀ`.
    fn backward(&self, ctx: &Context, grads: &[Option<Tensor>]) -> Result<Gradients> {
        let Some(g) = &grads[0] else { return Ok(smallvec![None, None]) };
        let (a, x) = (ctx.saved(A), ctx.saved(RESULT));
        let h = substitute(a, g, Triangle { transposed: !self.0.transposed, ..self.0 })?;
        let mut of_a = None;
        if ctx.needs(0) {
            let whole = if self.0.transposed { times_t(x, &h) } else { times_t(&h, x) };
            of_a = Some(self.part(&-whole)?);
        }
        Ok(smallvec![of_a, Some(h)])
    }

    /// `op(T)⁻¹ (B' - op(T)' x)`.
    fn jvp(&self, ctx: &Context, v: &[Option<Tensor>], _: &[&Tensor]) -> Result<Option<Gradients>> {
        let (a, x) = (ctx.saved(A), ctx.saved(RESULT));
        let mut side = v[1].clone();
        if let Some(da) = &v[0] {
            let da = self.part(da)?;
            let moved = -(if self.0.transposed { t_times(&da, x) } else { times(&da, x) });
            side = Some(match side {
                Some(db) => db + moved,
                None => moved,
            });
        }
        Ok(Some(smallvec![side.map(|side| substitute(a, &side, self.0)).transpose()?]))
    }
}

/// The `X` of `A X = B`, or with `left` false of `X A = B`, where only one triangle of `A` is read.
///
/// # Errors
/// A matrix is not square; sizes or types differ.
pub fn solve_triangular(
    a: &Tensor,
    b: &Tensor,
    upper: bool,
    left: bool,
    unit: bool,
) -> Result<Tensor> {
    let name = "linalg.solve_triangular";
    check_square(name, a)?;
    check_matrix(name, b, "B")?;
    check_real(name, a)?;
    check_same_type(name, a, b)?;
    let ([n, _], [rows, columns]) = (size_of(a), size_of(b));
    if n != if left { rows } else { columns } {
        let equation = if left { "AX = B" } else { "XA = B" };
        bail!(
            Shape,
            "",
            "{name}: Incompatible shapes of A and B for the equation {equation} ({n}x{n} and \
             {rows}x{columns})"
        );
    }
    if left {
        return substitute(a, b, Triangle { upper, unit, transposed: false });
    }
    let side = view::transpose(b, -2, -1)?;
    view::transpose(&substitute(a, &side, Triangle { upper, unit, transposed: true })?, -2, -1)
}

fn not_positive(i: i32) -> String {
    format!(
        "The factorization could not be completed because the input is not positive-definite (the \
         leading minor of order {i} is not positive-definite)."
    )
}

/// `L` of `A = L Lᵀ`, and for each matrix the first leading minor that is not positive, or 0.
fn lower_factor(name: &str, a: &Tensor) -> Result<[Tensor; 2]> {
    struct Rule;
    impl Op for Rule {
        fn name(&self) -> &'static str {
            "LinalgCholeskyExBackward0"
        }

        fn attributes(&self) -> Attributes {
            vec![("L", Attribute::Saved(RESULT)), ("upper", Attribute::bool(false))]
        }

        /// `L⁻ᵀ Φ(Lᵀ g) L⁻¹`, made symmetric, where `Φ` is the lower triangle with half the diagonal.
        fn backward(&self, ctx: &Context, grads: &[Option<Tensor>]) -> Result<Gradients> {
            let Some(g) = &grads[0] else { return Ok(smallvec![None]) };
            let l = ctx.saved(RESULT);
            let inner = half_lower(&t_times(l, g));
            let up = Triangle { transposed: true, ..Triangle::default() };
            let half = substitute(l, &inner, up)?;
            let whole = transposed(&substitute(l, &transposed(&half), up)?);
            Ok(smallvec![Some((&whole + transposed(&whole)) * 0.5)])
        }

        /// `L Φ(L⁻¹ A' L⁻ᵀ)`.
        fn jvp(
            &self,
            ctx: &Context,
            v: &[Option<Tensor>],
            _: &[&Tensor],
        ) -> Result<Option<Gradients>> {
            let Some(da) = &v[0] else { return Ok(Some(smallvec![None, None])) };
            let l = ctx.saved(RESULT);
            let symmetric = (da + transposed(da)) * 0.5;
            let left = substitute(l, &symmetric, Triangle::default())?;
            let inner = substitute(l, &transposed(&left), Triangle::default())?;
            Ok(Some(smallvec![Some(times(l, &half_lower(&inner))), None]))
        }
    }
    check_square(name, a)?;
    check_real(name, a)?;
    let (batch, [n, _]) = (batch_of(a), size_of(a));
    let work = copied(a, batch)?;
    let info = fresh(batch, &[], DType::Int32)?;
    let count = batch.iter().product();
    real!(a, T => each::<T, 1, 1>(count, n.saturating_pow(3) / 6, [&work], [&info], |_, [a], [i]| {
        i[0] = kernels::cholesky(a, n);
    }));
    let l = {
        let _off = ValuesOnly::new();
        triangle::tril(&work, 0)?
    };
    if record::recording(&[a]) {
        record::record_many(&[&l, &info], &[a], &[(RESULT, &l)], Box::new(Rule))?;
    }
    Ok([l, info])
}

/// [`lower_factor`], or its transpose made from the upper triangle.
fn factor(name: &str, a: &Tensor, upper: bool) -> Result<[Tensor; 2]> {
    if !upper {
        return lower_factor(name, a);
    }
    check_square(name, a)?;
    let [l, info] = lower_factor(name, &view::transpose(a, -2, -1)?)?;
    Ok([view::transpose(&l, -2, -1)?, info])
}

/// `L` of `A = L Lᵀ`, or with `upper` the `U` of `A = Uᵀ U`.
///
/// # Errors
/// A matrix is not square or not positive definite.
pub fn cholesky(a: &Tensor, upper: bool) -> Result<Tensor> {
    let [l, info] = factor("linalg.cholesky", a, upper)?;
    check_info("linalg.cholesky", &info, not_positive)?;
    Ok(l)
}

/// The `X` of `L Lᵀ X = B` for a factor of [`cholesky`].
fn cholesky_solve(b: &Tensor, l: &Tensor, upper: bool) -> Result<Tensor> {
    let name = "cholesky_solve";
    for t in [b, l] {
        check_matrix(name, t, "A")?;
    }
    check_square(name, l)?;
    check_real(name, l)?;
    check_same_type(name, l, b)?;
    let ([n, _], [rows, _]) = (size_of(l), size_of(b));
    if n != rows {
        bail!(
            Shape,
            "",
            "Incompatible matrix sizes for cholesky_solve: each A matrix is {n} by {n} but each b \
             matrix is {rows} by {}",
            size_of(b)[1]
        );
    }
    let way = |transposed| Triangle { upper, unit: false, transposed };
    substitute(l, &substitute(l, b, way(upper))?, way(!upper))
}

static CHOLESKY_EX: NamedFields =
    NamedFields { name: "linalg_cholesky_ex", fields: &["L", "info"] };

fn old_cholesky(c: &Args) -> Result<Output> {
    let [l, info] = factor("cholesky", c.tensor(0), c.bool(1))?;
    check_info("cholesky", &info, not_positive)?;
    Ok(l.into())
}

/// This family's rows.
pub const ROWS: &[Row] = &[
    Row::make(
        "linalg.cholesky",
        &["(A, *, upper: bool = False)"],
        FUNCTION | OUT,
        &[
            " The lower triangle L, of positive diagonal, with `A = L Lᵀ` for each matrix; or the U of",
            " `A = Uᵀ U`.",
            "",
            " Only that triangle of A is read. A matrix that is not positive definite raises",
            " `linalg.LinAlgError`.",
        ],
        |c| Ok(cholesky(c.tensor(0), c.bool(1))?.into()),
    ).batched(Batching::Trailing(2)),
    Row::make(
        "linalg.cholesky_ex",
        &["(A, *, upper: bool = False, check_errors: bool = False) -> (Tensor L, Tensor info)"],
        FUNCTION | OUT,
        &[
            " `linalg.cholesky` without an error: `info` is the order of the first leading minor that",
            " is not positive, or 0.",
        ],
        |c| {
            let [l, info] = factor("linalg.cholesky_ex", c.tensor(0), c.bool(1))?;
            if c.bool(2) {
                check_info("linalg.cholesky_ex", &info, not_positive)?;
            }
            Ok(named(&CHOLESKY_EX, [l, info]))
        },
    ).batched(Batching::Trailing(2)),
    Row::make(
        "cholesky",
        &["(input, upper: bool = False)"],
        FUNCTION | METHOD | OUT,
        &[" The older name of `linalg.cholesky`."],
        old_cholesky,
    ).batched(Batching::Trailing(2)),
    Row::make(
        "cholesky_solve",
        &["(input, L, upper: bool = False)"],
        FUNCTION | METHOD | OUT,
        &[" The X of `L Lᵀ X = input`, or with `upper` of `Uᵀ U X = input`."],
        |c| Ok(cholesky_solve(c.tensor(0), c.tensor(1), c.bool(2))?.into()),
    ).batched(Batching::Own(rules::solve)),
    Row::make(
        "cholesky_inverse",
        &["(input, upper: bool = False)"],
        FUNCTION | METHOD | OUT,
        &[" The inverse of `L Lᵀ`, or with `upper` of `Uᵀ U`."],
        |c| {
            let l = c.tensor(0);
            check_square("cholesky_inverse", l)?;
            check_real("cholesky_inverse", l)?;
            Ok(cholesky_solve(&identity(size_of(l)[0], l.dtype())?, l, c.bool(1))?.into())
        },
    ).batched(Batching::Trailing(2)),
    Row::make(
        "linalg.solve_triangular",
        &["(input, B, *, upper: bool, left: bool = True, unitriangular: bool = False)"],
        FUNCTION | OUT,
        &[
            " The X of `A X = B`, or with `left=False` of `X A = B`, where one triangle of A is read.",
            "",
            " With `unitriangular` its diagonal is taken to be 1. Nothing is checked: zeros on the",
            " diagonal give infinities and NaN.",
        ],
        |c| {
            let [upper, left, unit] = [2, 3, 4].map(|i| c.bool(i));
            Ok(solve_triangular(c.tensor(0), c.tensor(1), upper, left, unit)?.into())
        },
    ).batched(Batching::Own(rules::solve)),
];
