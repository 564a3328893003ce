//! Eigenvalues of symmetric matrices and singular values.

use super::batches::{batch_of, copied, each, fresh, real, size_of};
use super::*;
use crate::batch::Batching;
use crate::graph::{Attribute, Attributes, Context, Gradients, Op, record};
use crate::kernels::linalg::{self as kernels, Real};
use crate::ops::tags::*;
use crate::ops::{Row, pieces};
use smallvec::smallvec;

const VALUES: u8 = 0;
const VECTORS: u8 = 1;
const RIGHT: u8 = 2;

/// Elements of one matrix in double precision.
fn wide<T: Real>(x: &[T]) -> Vec<f64> {
    x.iter().map(|x| x.wide()).collect()
}

fn narrow<T: Real>(from: &[f64], to: &mut [T]) {
    to.iter_mut().zip(from).for_each(|(to, &from)| *to = T::narrow(from));
}

/// `fⱼ - fᵢ`, and 1 on the diagonal; and what has 0 on the diagonal and else 1.
fn gaps(f: &Tensor) -> Result<[Tensor; 2]> {
    let n = f.shape()[f.ndim() - 1];
    let unit = identity(n, f.dtype())?;
    Ok([as_rows(f) - as_columns(f) + &unit, number(1.0) - unit])
}

/// Eigenvalues and, as columns, eigenvectors.
///
/// # Errors
/// A matrix is not square; the type is not `float32` or `float64`; no convergence.
pub fn eigh(a: &Tensor, upper: bool, vectors: bool) -> Result<[Tensor; 2]> {
    struct Rule;
    impl Op for Rule {
        fn name(&self) -> &'static str {
            "LinalgEighBackward0"
        }

        fn attributes(&self) -> Attributes {
            vec![
                ("eigenvalues", Attribute::Saved(VALUES)),
                ("eigenvectors", Attribute::Saved(VECTORS)),
            ]
        }

        /// `V (diag gλ + (Vᵀ gV) / (λⱼ - λᵢ) off the diagonal) Vᵀ`.
        fn backward(&self, ctx: &Context, grads: &[Option<Tensor>]) -> Result<Gradients> {
            let v = ctx.saved(VECTORS);
            let inner = match (&grads[0], &grads[1]) {
                (None, None) => return Ok(smallvec![None]),
                (Some(gl), None) => return Ok(smallvec![Some(times_t(&(v * as_rows(gl)), v))]),
                (gl, Some(gv)) => {
                    let [gap, off] = gaps(ctx.saved(VALUES))?;
                    let turned = t_times(v, gv) * off / gap;
                    match gl {
                        Some(gl) => turned + diagonal_of(gl),
                        None => turned,
                    }
                }
            };
            Ok(smallvec![Some(times_t(&times(v, &inner), v))])
        }
    }
    check_square("linalg.eigh", a)?;
    if !a.dtype().is_floating() {
        let of = a.dtype().scalar_type_name();
        bail!(Unsupported, "", "\"linalg_eigh_cpu\" not implemented for '{of}'");
    }
    check_real("linalg.eigh", a)?;
    let (batch, [n, _]) = (batch_of(a), size_of(a));
    let recorded = record::recording(&[a]);
    let v = copied(a, batch)?;
    let values = fresh(batch, &[n], a.dtype())?;
    let info = fresh(batch, &[], DType::Int32)?;
    let (count, work) = (batch.iter().product(), n.saturating_pow(3).saturating_mul(4));
    let wanted = vectors || recorded;
    real!(a, T => each::<T, 2, 1>(count, work, [&v, &values], [&info], |_, [v, d], [i]| {
        let (mut m, mut all) = (wide(v), vec![0.0; n]);
        i[0] = !kernels::symmetric_eigen(&mut m, n, upper, wanted, &mut all) as i32;
        narrow(&m, v);
        narrow(&all, d);
    }));
    check_info("linalg.eigh", &info, |_| {
        "The algorithm failed to converge because the input matrix is ill-conditioned or has too many \
         repeated eigenvalues."
            .to_owned()
    })?;
    if recorded {
        let saves = [(VALUES, &values), (VECTORS, &v)];
        record::record_many(&[&values, &v], &[a], &saves, Box::new(Rule))?;
    }
    Ok([values, v])
}

/// `U`, singular values and `Vᵀ`; with `full`, square `U` and `V`.
///
/// # Errors
/// A number is not finite; the type is not `float32` or `float64`; no convergence.
pub fn svd(a: &Tensor, full: bool) -> Result<[Tensor; 3]> {
    decompose(a, full, true)
}

/// Singular values, descending.
///
/// # Errors
/// As for [`svd`].
pub fn svdvals(a: &Tensor) -> Result<Tensor> {
    let [_, s, _] = decompose(a, false, record::recording(&[a]))?;
    Ok(s)
}

struct Rule;

impl Op for Rule {
    fn name(&self) -> &'static str {
        "LinalgSvdBackward0"
    }

    fn attributes(&self) -> Attributes {
        vec![
            ("U", Attribute::Saved(VECTORS)),
            ("S", Attribute::Saved(VALUES)),
            ("Vh", Attribute::Saved(RIGHT)),
        ]
    }

    /// With `skew(X) = X - Xᵀ` and `E = sⱼ² - sᵢ²`,
    /// `U ((skew(Uᵀ gU) / E) S + S (skew(Vᵀ gV) / E) + diag gS) Vᵀ`, and what of `gU` and `gV` is
    /// outside the spaces of `U` and `V`: `(I - U Uᵀ) gU S⁻¹ Vᵀ + U S⁻¹ gVᵀ (I - V Vᵀ)`.
    fn backward(&self, ctx: &Context, grads: &[Option<Tensor>]) -> Result<Gradients> {
        let s = ctx.saved(VALUES);
        let k = s.shape()[s.ndim() - 1] as i64;
        // Vectors beyond the values are no function of the matrix that could be differentiated.
        let columns = |t: &Tensor| pieces::slice(t, -1, None, Some(k), 1);
        let rows = |t: &Tensor| pieces::slice(t, -2, None, Some(k), 1);
        let (u, vh) = (&columns(ctx.saved(VECTORS))?, &rows(ctx.saved(RIGHT))?);
        let gu = grads[0].as_ref().map(columns).transpose()?;
        let gvh = grads[2].as_ref().map(rows).transpose()?;
        let mut inner = grads[1].as_ref().map(diagonal_of);
        let mut add = |x: Tensor| {
            inner = Some(match inner.take() {
                Some(sum) => sum + x,
                None => x,
            });
        };
        let skew = |x: &Tensor| x - transposed(x);
        if gu.is_some() || gvh.is_some() {
            let [gap, _] = gaps(&(s * s))?;
            if let Some(gu) = &gu {
                add(skew(&t_times(u, gu)) / &gap * as_rows(s));
            }
            if let Some(gvh) = &gvh {
                add(skew(&times_t(vh, gvh)) / &gap * as_columns(s));
            }
        }
        let Some(inner) = inner else { return Ok(smallvec![None]) };
        let mut sum = times(&times(u, &inner), vh);
        let ([m, _], [_, n]) = (size_of(u), size_of(vh));
        if let Some(gu) = gu
            && m as i64 > k
        {
            let outside = &gu - times(u, &t_times(u, &gu));
            sum = sum + times(&(outside / as_rows(s)), vh);
        }
        if let Some(gvh) = gvh
            && n as i64 > k
        {
            let outside = &gvh - times(&times_t(&gvh, vh), vh);
            sum = sum + times(u, &(outside / as_columns(s)));
        }
        Ok(smallvec![Some(sum)])
    }
}

fn decompose(a: &Tensor, full: bool, vectors: bool) -> Result<[Tensor; 3]> {
    check_matrix("linalg.svd", a, "A")?;
    check_real("linalg.svd", a)?;
    let (batch, [m, n]) = (batch_of(a), size_of(a));
    let k = m.min(n);
    let (rows, columns) = if full { (m, n) } else { (k, k) };
    let work = copied(a, batch)?;
    let s = fresh(batch, &[k], a.dtype())?;
    let sizes = if vectors { [[m, rows], [columns, n]] } else { [[0, 0]; 2] };
    let [u, vh] = [fresh(batch, &sizes[0], a.dtype())?, fresh(batch, &sizes[1], a.dtype())?];
    let info = fresh(batch, &[], DType::Int32)?;
    let (count, size) =
        (batch.iter().product(), m.saturating_mul(n).saturating_mul(k).saturating_mul(8));
    real!(a, T => each::<T, 4, 1>(count, size, [&work, &s, &u, &vh], [&info], |_, [a, s, u, vh], [i]| {
        let mut values = vec![0.0; k];
        let (left, right) = (u.len(), vh.len());
        let done;
        if m >= n {
            let (mut x, mut y) = (vec![0.0; left], vec![0.0; right]);
            done = kernels::svd(&wide(a), [m, n], &mut x, &mut values, &mut y);
            narrow(&x, u);
            narrow(&y, vh);
        } else {
            // Aᵀ = V S Uᵀ.
            let all = wide(a);
            let flipped: Vec<f64> = (0..m * n).map(|ij| all[ij % m * n + ij / m]).collect();
            let (mut y, mut x) = (vec![0.0; right], vec![0.0; left]);
            done = kernels::svd(&flipped, [n, m], &mut y, &mut values, &mut x);
            if left > 0 {
                (0..m * m).for_each(|ij| u[ij] = T::narrow(x[ij % m * m + ij / m]));
            }
            if right > 0 {
                (0..columns * n).for_each(|ij| vh[ij] = T::narrow(y[ij % n * columns + ij / n]));
            }
        }
        narrow(&values, s);
        i[0] = !done as i32;
    }));
    check_info("linalg.svd", &info, |_| {
        "The algorithm failed to converge because the input matrix contained non-finite values."
            .to_owned()
    })?;
    if record::recording(&[a]) {
        let saves = [(VECTORS, &u), (VALUES, &s), (RIGHT, &vh)];
        record::record_many(&[&u, &s, &vh], &[a], &saves, Box::new(Rule))?;
    }
    Ok([u, s, vh])
}

fn is_upper(which: &str) -> Result<bool> {
    match which {
        "L" | "l" => Ok(false),
        "U" | "u" => Ok(true),
        other => bail!(Value, "", "Expected UPLO argument to be 'L' or 'U', but got {other}"),
    }
}

static EIGH: NamedFields =
    NamedFields { name: "linalg_eigh", fields: &["eigenvalues", "eigenvectors"] };
static SVD: NamedFields = NamedFields { name: "linalg_svd", fields: &["U", "S", "Vh"] };
static OLD_SVD: NamedFields = NamedFields { name: "svd", fields: &["U", "S", "V"] };

/// This family's rows.
pub const ROWS: &[Row] = &[
    Row::make(
        "linalg.eigh",
        &["(A, UPLO: str = 'L') -> (Tensor eigenvalues, Tensor eigenvectors)"],
        FUNCTION | OUT,
        &[
            " The eigenvalues of symmetric matrices, ascending, and as columns their eigenvectors.",
            "",
            " Only the lower triangle is read, or the upper with `UPLO='U'`. Eigenvectors are unique up",
            " to their sign, and only where eigenvalues differ: that is where their gradient exists.",
        ],
        |c| Ok(named(&EIGH, eigh(c.tensor(0), is_upper(c.str(1))?, true)?)),
    ).batched(Batching::Trailing(2)),
    Row::make(
        "linalg.eigvalsh",
        &["(A, UPLO: str = 'L')"],
        FUNCTION | OUT,
        &[" The eigenvalues of symmetric matrices, ascending."],
        |c| {
            let [values, _] = eigh(c.tensor(0), is_upper(c.str(1))?, false)?;
            Ok(values.into())
        },
    ).batched(Batching::Trailing(2)),
    Row::make(
        "linalg.svd",
        &[
            "(A, full_matrices: bool = True, *, driver: str? = None) -> (Tensor U, Tensor S, Tensor Vh)",
        ],
        FUNCTION | OUT,
        &[
            " `A = U diag(S) Vh` with orthonormal columns of U and rows of Vh, and S descending.",
            "",
            " With `full_matrices=False` there are only as many of these as singular values. The",
            " gradient with respect to U and Vh exists where singular values differ, and uses no",
            " others. A number that is not finite raises `linalg.LinAlgError`.",
        ],
        |c| {
            if c.opt_str(2).is_some() {
                bail!(
                    Value,
                    "",
                    "torch.linalg.svd: keyword argument `driver=` is only supported on CUDA inputs with \
                     cuSOLVER backend."
                );
            }
            Ok(named(&SVD, svd(c.tensor(0), c.bool(1))?))
        },
    ).batched(Batching::Trailing(2)),
    Row::make(
        "svd",
        &["(input, some: bool = True, compute_uv: bool = True) -> (Tensor U, Tensor S, Tensor V)"],
        FUNCTION | METHOD | OUT,
        &[" The older form of `linalg.svd`, which gives V and not its transpose."],
        |c| {
            let x = c.tensor(0);
            check_matrix("linalg.svd", x, "A")?;
            if !c.bool(2) {
                let (batch, [m, n]) = (batch_of(x), size_of(x));
                let s = svdvals(x)?;
                let zeros = [fresh(batch, &[m, m], s.dtype())?, fresh(batch, &[n, n], s.dtype())?];
                let [u, v] = zeros;
                return Ok(named(&OLD_SVD, [u, s, v]));
            }
            let [u, s, vh] = svd(x, !c.bool(1))?;
            Ok(named(&OLD_SVD, [u, s, view::transpose(&vh, -2, -1)?]))
        },
    ).batched(Batching::Trailing(2)),
    Row::make(
        "linalg.svdvals",
        &["(A, *, driver: str? = None)"],
        FUNCTION | OUT,
        &[" The singular values of each matrix, descending."],
        |c| Ok(svdvals(c.tensor(0))?.into()),
    ).batched(Batching::Trailing(2)),
];
