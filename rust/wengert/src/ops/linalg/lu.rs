//! What one LU factorisation gives: inverse, solutions, determinant.
//!
//! A node keeps the factorisation, and its rule solves with it. [`solve_with`] is therefore recorded
//! as a function of the *matrix*, of which the factors are only a faster form; that is how second
//! derivatives come about.

use super::batches::{batch_of, copied, each, fresh, places, real, size_of};
use super::*;
use crate::batch::{Batching, linalg as rules};
use crate::graph::{Attribute, Attributes, Context, Gradients, Op, ValuesOnly, record};
use crate::kernels::linalg as kernels;
use crate::layout;
use crate::ops::tags::*;
use crate::ops::{Args, Row, cast, compare, reduce, unary};
use smallvec::smallvec;

/// `P A = L U` of each matrix, without history.
pub(super) struct Factors {
    /// Both triangles in one matrix.
    lu: Tensor,
    /// Which row changed places with which.
    pivots: Tensor,
}

fn cubed(n: usize) -> usize {
    n.saturating_mul(n).saturating_mul(n)
}

impl Factors {
    /// Factors each matrix. The second tensor says which element of the diagonal of `U` is the first
    /// zero, from 1; 0 for none.
    fn of(a: &Tensor) -> Result<(Factors, Tensor)> {
        let (batch, [_, n]) = (batch_of(a), size_of(a));
        let lu = copied(a, batch)?;
        let pivots = fresh(batch, &[n], DType::Int32)?;
        let info = fresh(batch, &[], DType::Int32)?;
        let count = batch.iter().product();
        real!(a, T => each::<T, 1, 2>(count, cubed(n) / 3, [&lu], [&pivots, &info], |_, [a], [p, i]| {
            i[0] = kernels::lu(a, n, p);
        }));
        Ok((Factors { lu, pivots }, info))
    }

    /// From what a node saved.
    fn saved(ctx: &Context) -> Factors {
        Factors { lu: ctx.saved(LU).clone(), pivots: ctx.saved(PIVOTS).clone() }
    }

    /// The values of `A⁻¹ B` or `A⁻ᵀ B`.
    fn solve(&self, b: &Tensor, transpose: bool) -> Result<Tensor> {
        let full = layout::broadcast("linalg.solve", batch_of(&self.lu), batch_of(b))?;
        let x = copied(b, &full)?;
        let [n, m] = size_of(b);
        let which = places(batch_of(&self.lu), &full);
        let work = n.saturating_mul(n).saturating_mul(m);
        real!(b, T => {
            let (lu, pivots) = (self.lu.to_vec::<T>()?, self.pivots.to_vec::<i32>()?);
            each::<T, 1, 0>(which.len(), work, [&x], [], |i, [x], []| {
                let i = which[i];
                let (lu, pivots) = (&lu[i * n * n..(i + 1) * n * n], &pivots[i * n..(i + 1) * n]);
                kernels::solve_lu(lu, pivots, x, m, transpose);
            });
        });
        Ok(x)
    }

    /// The values of `A⁻¹`.
    fn inverse(&self) -> Result<Tensor> {
        let (batch, [n, _]) = (batch_of(&self.lu), size_of(&self.lu));
        let y = fresh(batch, &[n, n], self.lu.dtype())?;
        real!(y, T => {
            let (lu, pivots) = (self.lu.to_vec::<T>()?, self.pivots.to_vec::<i32>()?);
            each::<T, 1, 0>(batch.iter().product(), cubed(n), [&y], [], |i, [y], []| {
                (0..n).for_each(|j| y[j * n + j] = 1.0);
                let (lu, pivots) = (&lu[i * n * n..(i + 1) * n * n], &pivots[i * n..(i + 1) * n]);
                kernels::solve_lu(lu, pivots, y, n, false);
            });
        });
        Ok(y)
    }

    /// 1 or -1 by which the determinant differs from the product of the diagonal.
    fn sign(&self) -> Result<Tensor> {
        let n = self.pivots.shape()[self.pivots.ndim() - 1];
        let all = self.pivots.to_vec::<i32>()?;
        let sign = |p: &[i32]| {
            let moved = p.iter().enumerate().filter(|(i, p)| *i != **p as usize).count();
            1.0 - 2.0 * (moved % 2) as f64
        };
        let batch = batch_of(&self.lu);
        let count: usize = batch.iter().product();
        let signs: Vec<f64> = (0..count).map(|i| sign(&all[i * n..(i + 1) * n])).collect();
        cast::to_dtype(&Tensor::from_slice(&signs, batch)?, self.lu.dtype())
    }
}

const A: u8 = 0;
const RESULT: u8 = 1;
const LU: u8 = 2;
const PIVOTS: u8 = 3;

/// Which system of equations: `op(A) X = B`, or not from the left but `X op(A) = B`.
#[derive(Clone, Copy)]
struct System {
    /// `op` transposes.
    transposed: bool,
    /// The matrix is on the left.
    left: bool,
    /// `B` and `X` are vectors, one per matrix.
    vectors: bool,
}

const PLAIN: System = System { transposed: false, left: true, vectors: false };

impl System {
    /// Vectors as matrices of one column.
    fn matrix(self, x: &Tensor) -> Tensor {
        if self.vectors { as_columns(x) } else { x.clone() }
    }

    /// `X op(A)' ` or `op(A)' X`.
    fn product(self, da: &Tensor, x: &Tensor) -> Tensor {
        match (self.left, self.transposed) {
            (true, false) => times(da, x),
            (true, true) => t_times(da, x),
            (false, false) => times(x, da),
            (false, true) => times_t(x, da),
        }
    }
}

/// The `X` of a system where `f` factors `A`; batches broadcast.
fn solve_with(a: &Tensor, f: &Factors, b: &Tensor, system: System) -> Result<Tensor> {
    let x = {
        let _off = ValuesOnly::new();
        let side = system.matrix(&b.detach());
        let x = if system.left {
            f.solve(&side, system.transposed)?
        } else {
            // X op(A) = B is op(A)ᵀ Xᵀ = Bᵀ.
            cast::contiguous(&transposed(&f.solve(&transposed(&side), !system.transposed)?))?
        };
        if system.vectors { view::reshape_to(&x, &x.shape()[..x.ndim() - 1])? } else { x }
    };
    // A result of the shape asked for may be a view of what was computed: it is nobody else's.
    let x = x.detach();
    if record::recording(&[a, b]) {
        let saves = [(A, a), (RESULT, &x), (LU, &f.lu), (PIVOTS, &f.pivots)];
        record::record(&x, &[a, b], &saves, Box::new(Solve(system)))?;
    }
    Ok(x)
}

/// The rule of the solution of a system.
struct Solve(System);

impl Op for Solve {
    fn name(&self) -> &'static str {
        "LinalgSolveExBackward0"
    }

    fn attributes(&self) -> Attributes {
        vec![
            ("A", Attribute::Saved(A)),
            ("LU", Attribute::Saved(LU)),
            ("left", Attribute::bool(self.0.left)),
            ("pivots", Attribute::Saved(PIVOTS)),
            ("result", Attribute::Saved(RESULT)),
        ]
    }

    /// With the solution `h` of the transposed system for `g`, the gradient of `B` is `h`, and that of
    /// `op(A)` is `-h xᵀ`, or `-xᵀ h` where `A` is on the right.
    fn backward(&self, ctx: &Context, grads: &[Option<Tensor>]) -> Result<Gradients> {
        let Some(g) = &grads[0] else { return Ok(smallvec![None, None]) };
        let (a, system) = (ctx.saved(A), self.0);
        let adjoint = System { transposed: !system.transposed, ..system };
        let h = solve_with(a, &Factors::saved(ctx), g, adjoint)?;
        let of_a = ctx.needs(0).then(|| {
            let (x, h) = (system.matrix(ctx.saved(RESULT)), system.matrix(&h));
            -match (system.left, system.transposed) {
                (true, false) => times_t(&h, &x),
                (true, true) => times_t(&x, &h),
                (false, false) => t_times(&x, &h),
                (false, true) => t_times(&h, &x),
            }
        });
        Ok(smallvec![of_a, Some(h)])
    }

    /// The solution for `B' - op(A)' x`.
    fn jvp(&self, ctx: &Context, v: &[Option<Tensor>], _: &[&Tensor]) -> Result<Option<Gradients>> {
        let (a, system) = (ctx.saved(A), self.0);
        let x = system.matrix(ctx.saved(RESULT));
        let mut side = v[1].as_ref().map(|db| system.matrix(db));
        if let Some(da) = &v[0] {
            let moved = -system.product(da, &x);
            side = Some(match side {
                Some(db) => db + moved,
                None => moved,
            });
        }
        let Some(side) = side else { return Ok(Some(smallvec![None])) };
        let x = solve_with(a, &Factors::saved(ctx), &side, System { vectors: false, ..system })?;
        let x = if system.vectors { view::squeeze(&x, Some(&[-1]))? } else { x };
        Ok(Some(smallvec![Some(x)]))
    }
}

fn singular(i: i32) -> String {
    format!(
        "The diagonal element {i} is zero, the inversion could not be completed because the input \
         matrix is singular."
    )
}

/// The inverse of each matrix, and for each the first zero on the diagonal of `U`.
fn inverse_ex(name: &str, a: &Tensor) -> Result<[Tensor; 2]> {
    struct Rule;
    impl Op for Rule {
        fn name(&self) -> &'static str {
            "LinalgInvExBackward0"
        }

        fn attributes(&self) -> Attributes {
            vec![("inverse", Attribute::Saved(RESULT))]
        }

        /// `-yᵀ g yᵀ`.
        fn backward(&self, ctx: &Context, grads: &[Option<Tensor>]) -> Result<Gradients> {
            let Some(g) = &grads[0] else { return Ok(smallvec![None]) };
            let y = ctx.saved(RESULT);
            Ok(smallvec![Some(-times_t(&t_times(y, g), y))])
        }

        fn jvp(
            &self,
            ctx: &Context,
            v: &[Option<Tensor>],
            _: &[&Tensor],
        ) -> Result<Option<Gradients>> {
            let y = ctx.saved(RESULT);
            Ok(Some(smallvec![v[0].as_ref().map(|da| -times(&times(y, da), y)), None]))
        }
    }
    check_square(name, a)?;
    check_real(name, a)?;
    let (f, info) = Factors::of(a)?;
    let y = f.inverse()?;
    if record::recording(&[a]) {
        record::record_many(&[&y, &info], &[a], &[(RESULT, &y)], Box::new(Rule))?;
    }
    Ok([y, info])
}

/// The inverse of each matrix.
///
/// # Errors
/// A matrix is singular or not square; the type is not `float32` or `float64`.
pub fn inverse(a: &Tensor) -> Result<Tensor> {
    let [y, info] = inverse_ex("linalg.inv", a)?;
    check_info("linalg.inv", &info, singular)?;
    Ok(y)
}

/// Whether `b` holds vectors, one per matrix of `a`.
pub(super) fn holds_vectors(a: &Tensor, b: &Tensor) -> bool {
    b.ndim() == 1 || b.ndim() + 1 == a.ndim() && b.shape() == &a.shape()[..a.ndim() - 1]
}

fn solve_ex(a: &Tensor, b: &Tensor, left: bool) -> Result<[Tensor; 2]> {
    let name = "linalg.solve";
    check_real(name, a)?;
    check_square(name, a)?;
    check_same_type(name, a, b)?;
    let vectors = holds_vectors(a, b);
    let matrix = if vectors { view::unsqueeze(&b.detach(), -1)? } else { b.clone() };
    check_matrix(name, &matrix, "B")?;
    let ([n, _], [rows, columns]) = (size_of(a), size_of(&matrix));
    if n != if left { rows } else { columns } {
        let equation = if left { "AX = B" } else { "XA = B" };
        bail!(
            Shape,
            "",
            "{name}: Incompatible shapes of A and B for the equation {equation} ({n}x{n} and \
             {rows}x{columns})"
        );
    }
    layout::broadcast(name, batch_of(a), batch_of(&matrix))?;
    let (f, info) = Factors::of(a)?;
    let x = solve_with(a, &f, b, System { left, vectors, ..PLAIN })?;
    Ok([x, info])
}

/// The `X` of `A X = B`, or with `left` false of `X A = B`; batches broadcast.
///
/// # Errors
/// A matrix is singular or not square; sizes or types differ.
pub fn solve(a: &Tensor, b: &Tensor, left: bool) -> Result<Tensor> {
    let [x, info] = solve_ex(a, b, left)?;
    let sentence = |_| "The solver failed because the input matrix is singular.".to_owned();
    check_info("torch.linalg.solve", &info, sentence)?;
    Ok(x)
}

/// The diagonal of `U`, with numbers in place of zeros so that the matrix has an inverse.
fn regular(f: &Factors) -> Result<Factors> {
    let diagonal = triangle::diagonal(&f.lu, 0, -2, -1)?;
    let tiny = if f.lu.dtype() == DType::Float32 { f32::EPSILON as f64 } else { f64::EPSILON };
    let zero = compare::eq(&diagonal, &number(0.0))?;
    let added = binary::where_(&zero, &number(tiny), &number(0.0))?;
    let lu = &f.lu + diagonal_of(&cast::to_dtype(&added, f.lu.dtype())?);
    Ok(Factors { lu, pivots: f.pivots.clone() })
}

/// The determinant of what is factored.
fn determinant(f: &Factors) -> Result<Tensor> {
    let diagonal = triangle::diagonal(&f.lu, 0, -2, -1)?;
    Ok(reduce::prod(&diagonal, Some(-1), false, None)? * f.sign()?)
}

/// `∂det/∂A`, the cofactors. Where there are singular matrices and a graph is wanted, by singular
/// values: `det U det V · U diag(Π_{j≠i} sⱼ) Vᵀ`, which is smooth there, unlike `det · A⁻ᵀ`.
fn cofactors(a: &Tensor, f: &Factors, det: &Tensor) -> Result<Tensor> {
    let n = size_of(a)[0];
    let unit = identity(n, a.dtype())?;
    let adjoint = System { transposed: true, ..PLAIN };
    let is_singular = reduce::any(&compare::eq(&det.detach(), &number(0.0))?)?;
    if !is_singular {
        return solve_with(a, f, &(as_matrices(det) * unit), adjoint);
    }
    if !record::recording(&[a]) {
        let f = regular(f)?;
        return f.solve(&(as_matrices(&determinant(&f)?) * unit), true);
    }
    let [u, s, vh] = spectral::svd(a, false)?;
    let off = {
        let _off = ValuesOnly::new();
        determinant(&Factors::of(&u)?.0)? * determinant(&Factors::of(&vh)?.0)?
    };
    let ones = identity(n, DType::Float64)?;
    let ones = compare::ne(&ones, &number(0.0))?;
    let others =
        reduce::prod(&binary::where_(&ones, &number(1.0), &as_rows(&s))?, Some(-1), false, None)?;
    Ok(as_matrices(&off) * times(&(u * as_rows(&others)), &vh))
}

/// The determinant of each matrix.
///
/// # Errors
/// A matrix is not square; the type is not `float32` or `float64`.
pub fn det(a: &Tensor) -> Result<Tensor> {
    struct Rule;
    impl Op for Rule {
        fn name(&self) -> &'static str {
            "LinalgDetBackward0"
        }

        fn attributes(&self) -> Attributes {
            vec![
                ("A", Attribute::Saved(A)),
                ("LU", Attribute::Saved(LU)),
                ("pivots", Attribute::Saved(PIVOTS)),
                ("result", Attribute::Saved(RESULT)),
            ]
        }

        fn backward(&self, ctx: &Context, grads: &[Option<Tensor>]) -> Result<Gradients> {
            let Some(g) = &grads[0] else { return Ok(smallvec![None]) };
            let c = cofactors(ctx.saved(A), &Factors::saved(ctx), ctx.saved(RESULT))?;
            Ok(smallvec![Some(as_matrices(g) * c)])
        }
    }
    check_square("linalg.det", a)?;
    check_real("linalg.det", a)?;
    let (f, y);
    {
        let _off = ValuesOnly::new();
        (f, _) = Factors::of(a)?;
        y = determinant(&f)?;
    }
    if record::recording(&[a]) {
        let saves = [(A, a), (RESULT, &y), (LU, &f.lu), (PIVOTS, &f.pivots)];
        record::record(&y, &[a], &saves, Box::new(Rule))?;
    }
    Ok(y)
}

/// Sign and logarithm of the magnitude of each determinant.
fn sign_and_log(name: &str, a: &Tensor) -> Result<[Tensor; 2]> {
    struct Rule;
    impl Op for Rule {
        fn name(&self) -> &'static str {
            "LinalgSlogdetBackward0"
        }

        fn attributes(&self) -> Attributes {
            vec![
                ("A", Attribute::Saved(A)),
                ("LU", Attribute::Saved(LU)),
                ("pivots", Attribute::Saved(PIVOTS)),
                ("sign", Attribute::Saved(RESULT)),
            ]
        }

        /// `g A⁻ᵀ`; the sign does not change.
        fn backward(&self, ctx: &Context, grads: &[Option<Tensor>]) -> Result<Gradients> {
            let Some(g) = &grads[1] else { return Ok(smallvec![None]) };
            let a = ctx.saved(A);
            let unit = identity(size_of(a)[0], a.dtype())?;
            let side = as_matrices(g) * unit;
            let adjoint = System { transposed: true, ..PLAIN };
            Ok(smallvec![Some(solve_with(a, &Factors::saved(ctx), &side, adjoint)?)])
        }
    }
    check_square(name, a)?;
    check_real(name, a)?;
    let (f, sign, log);
    {
        let _off = ValuesOnly::new();
        (f, _) = Factors::of(a)?;
        let diagonal = triangle::diagonal(&f.lu, 0, -2, -1)?;
        sign = reduce::prod(&unary::sign(&diagonal)?, Some(-1), false, None)? * f.sign()?;
        log = reduce::sum(&unary::log(&unary::abs(&diagonal)?)?, Some(&[-1]), false, None)?;
    }
    if record::recording(&[a]) {
        let saves = [(A, a), (RESULT, &sign), (LU, &f.lu), (PIVOTS, &f.pivots)];
        record::record_many(&[&sign, &log], &[a], &saves, Box::new(Rule))?;
    }
    Ok([sign, log])
}

static INV_EX: NamedFields = NamedFields { name: "linalg_inv_ex", fields: &["inverse", "info"] };
static SOLVE_EX: NamedFields = NamedFields { name: "linalg_solve_ex", fields: &["result", "info"] };
static SLOGDET: NamedFields = NamedFields { name: "slogdet", fields: &["sign", "logabsdet"] };
static LINALG_SLOGDET: NamedFields =
    NamedFields { name: "linalg_slogdet", fields: &["sign", "logabsdet"] };

fn row_inverse(c: &Args) -> Result<Output> {
    Ok(inverse(c.tensor(0))?.into())
}

/// This family's rows.
pub const ROWS: &[Row] = &[
    Row {
        aliases: &["linalg.inv"],
        ..Row::make(
            "inverse",
            &["(input)"],
            FUNCTION | METHOD | OUT,
            &[
                " The inverse of each square matrix.",
                "",
                " A matrix without one raises `linalg.LinAlgError`. To apply an inverse,",
                " `linalg.solve` is faster and more precise.",
            ],
            row_inverse,
        ).batched(Batching::Trailing(2))
    },
    Row::make(
        "linalg.inv_ex",
        &["(A, *, check_errors: bool = False) -> (Tensor inverse, Tensor info)"],
        FUNCTION | OUT,
        &[
            " The inverse of each square matrix, without an error where there is none.",
            "",
            " `info` is then the number, from 1, of the diagonal element of U that is zero, else 0.",
        ],
        |c| {
            let [y, info] = inverse_ex("linalg.inv_ex", c.tensor(0))?;
            if c.bool(1) {
                check_info("linalg.inv_ex", &info, singular)?;
            }
            Ok(named(&INV_EX, [y, info]))
        },
    ).batched(Batching::Trailing(2)),
    Row::make(
        "linalg.solve",
        &["(A, B, *, left: bool = True)"],
        FUNCTION | OUT,
        &[
            " The X of `A X = B`, or with `left=False` of `X A = B`.",
            "",
            " A holds square matrices, and B as many matrices or vectors; batches broadcast. A matrix",
            " that is singular raises `linalg.LinAlgError`.",
        ],
        |c| Ok(solve(c.tensor(0), c.tensor(1), c.bool(2))?.into()),
    ).batched(Batching::Own(rules::solve)),
    Row::make(
        "linalg.solve_ex",
        &[
            "(A, B, *, left: bool = True, check_errors: bool = False) -> (Tensor result, Tensor info)",
        ],
        FUNCTION | OUT,
        &[" `linalg.solve` without an error where a matrix is singular: `info` is not 0 there."],
        |c| match c.bool(3) {
            true => {
                let x = solve(c.tensor(0), c.tensor(1), c.bool(2))?;
                let info = Tensor::zeros(batch_of(c.tensor(0)), DType::Int32)?;
                Ok(named(&SOLVE_EX, [x, info]))
            }
            false => Ok(named(&SOLVE_EX, solve_ex(c.tensor(0), c.tensor(1), c.bool(2))?)),
        },
    ),
    Row {
        aliases: &["linalg.det"],
        ..Row::make(
            "det",
            &["(input)"],
            FUNCTION | METHOD | OUT,
            &[
                " The determinant of each square matrix.",
                "",
                " Its gradient, the cofactors, is right for singular matrices, too.",
            ],
            |c| Ok(det(c.tensor(0))?.into()),
        ).batched(Batching::Trailing(2))
    },
    Row::make(
        "slogdet",
        &["(input) -> (Tensor sign, Tensor logabsdet)"],
        FUNCTION | METHOD | OUT,
        &[" Sign and logarithm of the magnitude of the determinant of each square matrix."],
        |c| Ok(named(&SLOGDET, sign_and_log("linalg.slogdet", c.tensor(0))?)),
    ).batched(Batching::Trailing(2)),
    Row::make(
        "linalg.slogdet",
        &["(A) -> (Tensor sign, Tensor logabsdet)"],
        FUNCTION | OUT,
        &[" Sign and logarithm of the magnitude of the determinant of each square matrix."],
        |c| Ok(named(&LINALG_SLOGDET, sign_and_log("linalg.slogdet", c.tensor(0))?)),
    ).batched(Batching::Trailing(2)),
    Row::make(
        "logdet",
        &["(input)"],
        FUNCTION | METHOD,
        &[
            " The logarithm of the determinant of each square matrix: NaN where it is negative, and",
            " -∞ where it is 0.",
        ],
        |c| {
            let [sign, log] = sign_and_log("logdet", c.tensor(0))?;
            let negative = compare::lt(&sign.detach(), &number(0.0))?;
            Ok(binary::where_(&negative, &number(f64::NAN), &log)?.into())
        },
    ).batched(Batching::Trailing(2)),
];
