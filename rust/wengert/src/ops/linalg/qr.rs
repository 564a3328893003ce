//! `A = Q R`.

use super::batches::{batch_of, copied, each, fresh, real, size_of};
use super::*;
use crate::batch::{Batching, linalg as rules};
use crate::graph::{Attribute, Attributes, Context, Gradients, Op, record};
use crate::kernels::linalg::{self as kernels, QrMode};
use crate::ops::tags::*;
use crate::ops::{NamedFields, Row, join, pieces};
use smallvec::smallvec;

const Q: u8 = 0;
const R: u8 = 1;

struct Rule(QrMode);

/// The gradient of `A` with at least as many rows as columns: with the upper triangle `M` of
/// `gR Rᵀ - Qᵀ gQ`, `(gQ + Q (M + Mᵀ with M's diagonal)) R⁻ᵀ`.
fn tall(q: &Tensor, r: &Tensor, gq: Option<&Tensor>, gr: Option<&Tensor>) -> Result<Tensor> {
    let mut inner = match gr {
        Some(gr) => times_t(gr, r),
        None => super::super::zeros_like(r)?,
    };
    if let Some(gq) = gq {
        inner = inner - t_times(q, gq);
    }
    // The lower triangle of the transpose is the upper triangle.
    let half = half_lower(&transposed(&inner));
    let mut sum = times(q, &(&half + transposed(&half)));
    if let Some(gq) = gq {
        sum = sum + gq;
    }
    // X = sum R⁻ᵀ solves X Rᵀ = sum.
    cholesky::solve_triangular(&transposed(r), &sum, false, false, false)
}

impl Op for Rule {
    fn name(&self) -> &'static str {
        "LinalgQrBackward0"
    }

    fn attributes(&self) -> Attributes {
        let mode = match self.0 {
            QrMode::Reduced => "reduced",
            QrMode::Complete => "complete",
            QrMode::R => "r",
        };
        vec![
            ("Q", Attribute::Saved(Q)),
            ("R", Attribute::Saved(R)),
            ("mode", Attribute::text(mode)),
        ]
    }

    /// A wide matrix is a square one beside another, `A = Q [R₁ R₂]`: `Q R₁` is the factorisation of
    /// the square one, and `R₂ = Qᵀ A₂`.
    fn backward(&self, ctx: &Context, grads: &[Option<Tensor>]) -> Result<Gradients> {
        let (gq, gr) = (grads[0].as_ref(), grads[1].as_ref());
        if gq.is_none() && gr.is_none() {
            return Ok(smallvec![None]);
        }
        let (q, r) = (ctx.saved(Q), ctx.saved(R));
        if self.0 == QrMode::R {
            bail!(
                Unsupported,
                "",
                "The derivative of linalg.qr depends on Q, which is not computed when mode='r'. \
                 Please use linalg.qr(A, mode='reduced') if you are going to require gradients"
            );
        }
        let ([m, _], [_, n]) = (size_of(q), size_of(r));
        match self.0 {
            QrMode::Complete if m > n => bail!(
                Unsupported,
                "",
                "The QR decomposition is not differentiable when mode='complete' and nrows > ncols."
            ),
            _ if m >= n => return Ok(smallvec![Some(tall(q, r, gq, gr)?)]),
            _ => {}
        }
        let left = |t: &Tensor| pieces::slice(t, -1, None, Some(m as i64), 1);
        let right = |t: &Tensor| pieces::slice(t, -1, Some(m as i64), None, 1);
        let Some(gr) = gr else {
            let first = tall(q, &left(r)?, gq, None)?;
            let rest = super::super::zeros_like(&right(r)?)?;
            return Ok(smallvec![Some(join::cat(&[first, rest], -1)?)]);
        };
        let through = times_t(&times(q, &right(r)?), &right(gr)?);
        let gq = match gq {
            Some(gq) => gq + through,
            None => through,
        };
        let first = tall(q, &left(r)?, Some(&gq), Some(&left(gr)?))?;
        Ok(smallvec![Some(join::cat(&[first, times(q, &right(gr)?)], -1)?)])
    }
}

/// `A = Q R` with orthonormal columns of `Q` and an upper triangle `R`. Without `Q` it is empty.
///
/// # Errors
/// `a` is not made of matrices of `float32` or `float64`.
pub fn qr(a: &Tensor, mode: QrMode) -> Result<[Tensor; 2]> {
    check_matrix("linalg.qr", a, "A")?;
    check_real("linalg.qr", a)?;
    let (batch, [m, n]) = (batch_of(a), size_of(a));
    let rows = if mode == QrMode::Complete { m } else { m.min(n) };
    let work = copied(a, batch)?;
    let q = match mode {
        QrMode::R => fresh(&[], &[0], a.dtype())?,
        _ => fresh(batch, &[m, rows], a.dtype())?,
    };
    let r = fresh(batch, &[rows, n], a.dtype())?;
    let (count, size) = (batch.iter().product(), m.saturating_mul(n).saturating_mul(rows));
    real!(a, T => each::<T, 3, 0>(count, size, [&work, &q, &r], [], |_, [a, q, r], []| {
        kernels::qr(a, [m, n], mode, q, r);
    }));
    if record::recording(&[a]) {
        record::record_many(&[&q, &r], &[a], &[(Q, &q), (R, &r)], Box::new(Rule(mode)))?;
    }
    Ok([q, r])
}

static QR: NamedFields = NamedFields { name: "linalg_qr", fields: &["Q", "R"] };
static OLD_QR: NamedFields = NamedFields { name: "qr", fields: &["Q", "R"] };

/// This family's rows.
pub const ROWS: &[Row] = &[
    Row::make(
        "linalg.qr",
        &["(A, mode: str = 'reduced') -> (Tensor Q, Tensor R)"],
        FUNCTION | OUT,
        &[
            " Q with orthonormal columns and the upper triangle R with `A = Q R`.",
            "",
            " `mode` is 'reduced', 'complete' (Q square, not differentiable if it has more rows than A",
            " has columns) or 'r' (Q is empty, not differentiable).",
        ],
        |c| {
            let mode = match c.str(1) {
                "reduced" => QrMode::Reduced,
                "complete" => QrMode::Complete,
                "r" => QrMode::R,
                other => bail!(
                    Value,
                    "",
                    "qr received unrecognized mode '{other}' but expected one of 'reduced' (default), \
                     'r', or 'complete'"
                ),
            };
            Ok(named(&QR, qr(c.tensor(0), mode)?))
        },
    ).batched(Batching::Own(rules::qr)),
    Row::make(
        "qr",
        &["(input, some: bool = True) -> (Tensor Q, Tensor R)"],
        FUNCTION | METHOD | OUT,
        &[" The older name of `linalg.qr`; `some=False` is its mode 'complete'."],
        |c| {
            let mode = if c.bool(1) { QrMode::Reduced } else { QrMode::Complete };
            Ok(named(&OLD_QR, qr(c.tensor(0), mode)?))
        },
    ).batched(Batching::Trailing(2)),
];
