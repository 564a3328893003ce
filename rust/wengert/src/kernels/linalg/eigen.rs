//! Eigenvalues of symmetric matrices: reflections to three diagonals, then QR steps with Wilkinson's
//! shift.

use super::rows::*;
use crate::kernels::interrupt::Patience;

/// Steps per eigenvalue after which an iteration has failed; some two are usual.
pub(super) const STEPS: usize = 60;

/// The eigenvalues of a symmetric row-major matrix, ascending, and where wanted the eigenvectors as
/// the columns of what the matrix is overwritten with. Reads the lower triangle, or else the upper.
///
/// Numbers that are not finite give NaN throughout. False if the iteration did not converge.
pub fn symmetric_eigen(
    a: &mut [f64],
    n: usize,
    upper: bool,
    vectors: bool,
    values: &mut [f64],
) -> bool {
    assert!(a.len() == n * n && values.len() == n);
    for i in 0..n {
        for j in 0..i {
            match upper {
                true => a[i * n + j] = a[j * n + i],
                false => a[j * n + i] = a[i * n + j],
            }
        }
    }
    let Some(scale) = normalise(a) else {
        a.fill(f64::NAN);
        values.fill(f64::NAN);
        return true;
    };
    let (mut off, mut reflections) = (vec![0.0; n], Vec::new());
    tridiagonalise(a, n, &mut off, &mut reflections);
    for i in 0..n {
        values[i] = a[i * n + i];
    }
    let mut q = Vec::new();
    if vectors {
        q = identity(n);
        for (k, (v, tau)) in reflections.iter().enumerate().rev() {
            reflect_rows(&mut q, n, k + 1, k + 1, v, *tau);
        }
        transpose(&mut q, n);
    }
    if !diagonalise(values, &mut off, &mut q, n) {
        return false;
    }
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&i, &j| values[i].total_cmp(&values[j]));
    if vectors {
        for (column, &from) in order.iter().enumerate() {
            for i in 0..n {
                a[i * n + column] = q[from * n + i];
            }
        }
    }
    let sorted: Vec<f64> = order.iter().map(|&i| values[i] * scale).collect();
    values.copy_from_slice(&sorted);
    true
}

/// `A = Q T Qᵀ`: the diagonal of `T` is left in that of `a`, `off[i]` couples `i` and `i + 1`, and
/// reflection `k`, of the rows from `k + 1` on, is `(v, τ)`.
fn tridiagonalise(a: &mut [f64], n: usize, off: &mut [f64], out: &mut Vec<(Vec<f64>, f64)>) {
    let mut patience = Patience::new();
    for k in 0..n.saturating_sub(1) {
        // By symmetry the column below the diagonal is the row beside it, which is contiguous.
        let mut v = a[k * n + k + 1..(k + 1) * n].to_vec();
        let [tau, beta] = reflector(&mut v);
        off[k] = beta;
        if tau != 0.0 {
            let first = k + 1;
            let row = |i: usize| (first + i) * n + first..(first + i + 1) * n;
            let mut p: Vec<f64> = (0..v.len()).map(|i| tau * dot(&a[row(i)], &v)).collect();
            let half = tau / 2.0 * dot(&p, &v);
            subtract(&mut p, half, &v);
            for i in 0..v.len() {
                subtract(&mut a[row(i)], v[i], &p);
                subtract(&mut a[row(i)], p[i], &v);
            }
        }
        out.push((v, tau));
        patience.look();
    }
}

/// Turns three diagonals to one by rotations, which the rows of `q` follow (if there are any).
fn diagonalise(d: &mut [f64], e: &mut [f64], q: &mut [f64], n: usize) -> bool {
    let mut patience = Patience::new();
    let mut hi = n.saturating_sub(1);
    let mut steps = 0;
    while hi > 0 {
        for i in 0..hi {
            if e[i].abs() <= f64::EPSILON * (d[i].abs() + d[i + 1].abs()) || e[i].abs() < TINY {
                e[i] = 0.0;
            }
        }
        if e[hi - 1] == 0.0 {
            hi -= 1;
            continue;
        }
        let lo = (0..hi).rev().find(|&i| e[i] == 0.0).map_or(0, |i| i + 1);
        steps += 1;
        if steps > STEPS * n {
            return false;
        }
        let delta = (d[hi - 1] - d[hi]) / 2.0;
        let last = e[hi - 1];
        let shift = d[hi] - last * (last / (delta + delta.hypot(last).copysign(delta)));
        let (mut x, mut z) = (d[lo] - shift, e[lo]);
        for k in lo..hi {
            let [c, s, r] = givens(x, z);
            if k > lo {
                e[k - 1] = r;
            }
            let (a, b, m) = (d[k], d[k + 1], e[k]);
            d[k] = c * c * a + 2.0 * c * s * m + s * s * b;
            d[k + 1] = s * s * a - 2.0 * c * s * m + c * c * b;
            e[k] = c * s * (b - a) + (c * c - s * s) * m;
            if k + 1 < hi {
                (x, z) = (e[k], s * e[k + 1]);
                e[k + 1] *= c;
            }
            if !q.is_empty() {
                rotate_rows(q, n, [k, k + 1], [c, s]);
            }
        }
        patience.look();
    }
    true
}

/// What is nothing beside the largest element, which is 1: far below the rounding errors of any step,
/// and far above what has no square.
pub(super) const TINY: f64 = 1e-40;
