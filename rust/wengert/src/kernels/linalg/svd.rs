//! Singular values: QR of a tall matrix, reflections to two diagonals, then implicit QR steps.

use super::eigen::{STEPS, TINY};
use super::qr::{QrMode, qr};
use super::rows::*;
use super::{Mat, add_product};
use crate::kernels::interrupt::Patience;

/// `A = U S Vᵀ` for a row-major matrix with `m ≥ n`: `s` (descending), and where they are not empty
/// `u` (row-major, with `n` or `m` columns by its length) and `vt` (`n` by `n`).
///
/// False if an element is not finite, or the iteration did not converge.
pub fn svd(a: &[f64], [m, n]: [usize; 2], u: &mut [f64], s: &mut [f64], vt: &mut [f64]) -> bool {
    assert!(m >= n && a.len() == m * n && s.len() == n);
    let mut a = a.to_vec();
    let Some(scale) = normalise(&mut a) else { return false };
    let columns = u.len().checked_div(m).unwrap_or(0);
    // The factor R of a square matrix is no smaller than the matrix.
    let mut q = Vec::new();
    if m > n {
        let mode = match columns {
            0 => QrMode::R,
            c if c > n => QrMode::Complete,
            _ => QrMode::Reduced,
        };
        q = vec![0.0; m * columns];
        let mut r = vec![0.0; if mode == QrMode::Complete { m * n } else { n * n }];
        qr(&mut a, [m, n], mode, &mut q, &mut r);
        r.truncate(n * n);
        a = r;
    }
    let (mut ut, mut right) = (Vec::new(), Vec::new());
    if columns > 0 || !vt.is_empty() {
        (ut, right) = (identity(n), identity(n));
    }
    let mut e = vec![0.0; n];
    bidiagonalise(&mut a, n, s, &mut e, &mut ut, &mut right);
    if !diagonalise(s, &mut e, &mut ut, &mut right, n) {
        return false;
    }
    for i in 0..n {
        if s[i].is_sign_negative() {
            s[i] = -s[i];
            if !right.is_empty() {
                right[i * n..(i + 1) * n].iter_mut().for_each(|x| *x = -*x);
            }
        }
    }
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&i, &j| s[j].total_cmp(&s[i]));
    let sorted: Vec<f64> = order.iter().map(|&i| s[i] * scale).collect();
    s.copy_from_slice(&sorted);
    if !vt.is_empty() {
        for (to, &from) in vt.chunks_exact_mut(n.max(1)).zip(&order) {
            to.copy_from_slice(&right[from * n..(from + 1) * n]);
        }
    }
    if columns > 0 {
        let mut inner = vec![0.0; n * n];
        for (column, &from) in order.iter().enumerate() {
            for i in 0..n {
                inner[i * n + column] = ut[from * n + i];
            }
        }
        widen(&mut q, &mut inner, [m, n, columns], u);
    }
    true
}

/// `u = Q diag(inner, I)`, or `inner` alone if there is no `Q`.
fn widen(q: &mut [f64], inner: &mut [f64], [m, n, columns]: [usize; 3], u: &mut [f64]) {
    if q.is_empty() {
        return u.copy_from_slice(inner);
    }
    u.fill(0.0);
    for i in 0..m {
        u[i * columns + n..(i + 1) * columns]
            .copy_from_slice(&q[i * columns + n..(i + 1) * columns]);
    }
    let (q, inner, u) = (Mat::new(q, m, columns), Mat::new(inner, n, n), Mat::new(u, m, columns));
    // SAFETY: three different borrows, and parts that are inside them.
    unsafe { add_product(1.0, q.part(0, 0, m, n), inner, u.part(0, 0, m, n)) };
}

/// `A = U B Vᵀ` with `d` on the diagonal of `B` and `e[i]` right of it in row `i`. `ut` and `vt`, the
/// identity before (or empty), become `Uᵀ` and `Vᵀ`.
fn bidiagonalise(
    a: &mut [f64],
    n: usize,
    d: &mut [f64],
    e: &mut [f64],
    ut: &mut [f64],
    vt: &mut [f64],
) {
    let mut patience = Patience::new();
    let (mut left, mut right) = (Vec::with_capacity(n), Vec::with_capacity(n));
    for k in 0..n {
        let mut v: Vec<f64> = (k..n).map(|i| a[i * n + k]).collect();
        let [tau, beta] = reflector(&mut v);
        d[k] = beta;
        reflect_rows(a, n, k, k + 1, &v, tau);
        left.push((v, tau));
        let mut v = a[k * n + k + 1..(k + 1) * n].to_vec();
        let [tau, beta] = reflector(&mut v);
        if k + 1 < n {
            e[k] = beta;
        }
        if tau != 0.0 {
            for i in k + 1..n {
                let row = &mut a[i * n + k + 1..(i + 1) * n];
                let along = tau * dot(row, &v);
                subtract(row, along, &v);
            }
        }
        right.push((v, tau));
        patience.look();
    }
    if ut.is_empty() {
        return;
    }
    for (k, (v, tau)) in left.iter().enumerate().rev() {
        reflect_rows(ut, n, k, k, v, *tau);
    }
    for (k, (v, tau)) in right.iter().enumerate().rev() {
        reflect_rows(vt, n, k + 1, k + 1, v, *tau);
    }
    transpose(ut, n);
    transpose(vt, n);
}

/// Turns two diagonals to one by rotations, which the rows of `ut` and `vt` follow (if there are any).
fn diagonalise(d: &mut [f64], e: &mut [f64], ut: &mut [f64], vt: &mut [f64], n: usize) -> bool {
    let mut patience = Patience::new();
    let mut hi = n.saturating_sub(1);
    let mut steps = 0;
    let size = (0..n).fold(TINY, |m, i| m.max(d[i].abs()).max(e[i].abs()));
    let none = f64::EPSILON * size * 0.1;
    let turn = |m: &mut [f64], rows: [usize; 2], by: [f64; 2]| {
        if !m.is_empty() {
            rotate_rows(m, n, rows, by);
        }
    };
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
        if let Some(i) = (lo..hi).find(|&i| d[i].abs() <= none) {
            // A zero on the diagonal: rotations with the rows below clear what is right of it.
            d[i] = 0.0;
            let mut f = std::mem::take(&mut e[i]);
            for k in i + 1..=hi {
                let [c, s, r] = givens(d[k], f);
                d[k] = r;
                if k < hi {
                    f = -s * e[k];
                    e[k] *= c;
                }
                // Row `k` takes the place of the first one in `givens`, and `i` comes before it.
                turn(ut, [i, k], [c, -s]);
            }
            continue;
        }
        if d[hi].abs() <= none {
            // A zero in the last place: rotations with the columns before clear what is above it.
            d[hi] = 0.0;
            let mut f = std::mem::take(&mut e[hi - 1]);
            for k in (lo..hi).rev() {
                let [c, s, r] = givens(d[k], f);
                d[k] = r;
                if k > lo {
                    f = -s * e[k - 1];
                    e[k - 1] *= c;
                }
                turn(vt, [k, hi], [c, s]);
            }
            continue;
        }
        step(d, e, [lo, hi], &mut |rows, by| turn(vt, rows, by), &mut |rows, by| {
            turn(ut, rows, by)
        });
        patience.look();
    }
    true
}

type Turn<'a> = &'a mut dyn FnMut([usize; 2], [f64; 2]);

/// One implicit QR step of `BᵀB` on the block `lo..=hi`, with Wilkinson's shift.
fn step(d: &mut [f64], e: &mut [f64], [lo, hi]: [usize; 2], right: Turn<'_>, left: Turn<'_>) {
    // The last two by two block of BᵀB.
    let above = if hi - 1 > lo { e[hi - 2] } else { 0.0 };
    let (p, q) = (d[hi - 1] * d[hi - 1] + above * above, d[hi] * d[hi] + e[hi - 1] * e[hi - 1]);
    let m = d[hi - 1] * e[hi - 1];
    let delta = (p - q) / 2.0;
    let divisor = delta + delta.hypot(m).copysign(delta);
    let shift = if divisor == 0.0 { q } else { q - m * (m / divisor) };
    let (mut y, mut z) = (d[lo] - shift / d[lo], e[lo]);
    for k in lo..hi {
        let [c, s, r] = givens(y, z);
        if k > lo {
            e[k - 1] = r;
        }
        y = c * d[k] + s * e[k];
        e[k] = c * e[k] - s * d[k];
        z = s * d[k + 1];
        d[k + 1] *= c;
        right([k, k + 1], [c, s]);
        let [c, s, r] = givens(y, z);
        d[k] = r;
        y = c * e[k] + s * d[k + 1];
        d[k + 1] = c * d[k + 1] - s * e[k];
        left([k, k + 1], [c, s]);
        if k + 1 < hi {
            z = s * e[k + 1];
            e[k + 1] *= c;
        }
    }
    e[hi - 1] = y;
}
