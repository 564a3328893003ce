//! QR by reflections, `Q = I - V T Vᵀ` with `T` triangular.

use super::{BLOCK, Mat, Real, add_product};

/// Which factors are wanted, of a matrix with `m` rows and `n` columns; `k` is the smaller one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QrMode {
    /// `Q` with `k` columns, `R` with `k` rows.
    Reduced,
    /// `Q` with `m` columns, `R` with `m` rows.
    Complete,
    /// `R` with `k` rows alone.
    R,
}

/// `A = Q R` for a row-major matrix that is used up; `q` and `r` are written, row-major. `q` is empty
/// where it is not wanted.
pub fn qr<T: Real>(a: &mut [T], [m, n]: [usize; 2], mode: QrMode, q: &mut [T], r: &mut [T]) {
    let k = m.min(n);
    let (mut v, mut t) = (vec![T::ZERO; m * k], vec![T::ZERO; k * k]);
    let (a, v, t) = (Mat::new(a, m, n), Mat::new(&mut v, m, k), Mat::new(&mut t, k, k));
    let rows = if mode == QrMode::Complete { m } else { k };
    assert_eq!(r.len(), rows * n);
    // SAFETY: all memory is borrowed or owned here, in different places, and positions are inside.
    unsafe {
        factor(a.part(0, 0, m, k), v, t);
        reflect(v, t, a.from(0, k), true);
        for i in 0..rows {
            for j in 0..n {
                r[i * n + j] = if j < i { T::ZERO } else { a.get(i, j) };
            }
        }
        if mode != QrMode::R {
            q.fill(T::ZERO);
            let q = Mat::new(q, m, rows);
            for i in 0..rows.min(m) {
                q.set(i, i, T::ONE);
            }
            reflect(v, t, q, false);
        }
    }
}

/// `c = Q c` or `c = Qᵀ c`.
///
/// # Safety
/// Living matrices without common elements.
unsafe fn reflect<T: Real>(v: Mat<T>, t: Mat<T>, c: Mat<T>, transposed: bool) {
    let k = v.cols;
    let mut work = vec![T::ZERO; 2 * k * c.cols];
    let (w, x) = work.split_at_mut(k * c.cols);
    let (w, x) = (Mat::new(w, k, c.cols), Mat::new(x, k, c.cols));
    // SAFETY: as promised; the work space is new.
    unsafe {
        add_product(1.0, v.t(), c, w);
        add_product(1.0, if transposed { t.t() } else { t }, w, x);
        add_product(-1.0, v, x, c);
    }
}

/// Leaves `R` on and above the diagonal of `a`, which has at least as many rows as columns; fills `v`
/// and `t`, which are zero before.
///
/// # Safety
/// Living matrices without common elements.
unsafe fn factor<T: Real>(a: Mat<T>, v: Mat<T>, t: Mat<T>) {
    let n = a.cols;
    // SAFETY: parts and positions are inside; halves do not overlap.
    unsafe {
        if n > BLOCK {
            let half = (n / 2).next_multiple_of(BLOCK);
            let rest = n - half;
            let (v1, t1) = (v.part(0, 0, a.rows, half), t.part(0, 0, half, half));
            factor(a.part(0, 0, a.rows, half), v1, t1);
            reflect(v1, t1, a.from(0, half), true);
            let (v2, t2) = (v.from(half, half), t.from(half, half));
            factor(a.from(half, half), v2, t2);
            // The product of both reflections has T₁₂ = -T₁ (V₁ᵀ V₂) T₂.
            let mut work = vec![T::ZERO; 2 * half * rest];
            let (w, x) = work.split_at_mut(half * rest);
            let (w, x) = (Mat::new(w, half, rest), Mat::new(x, half, rest));
            add_product(1.0, v1.from(half, 0).t(), v2, w);
            add_product(1.0, w, t2, x);
            add_product(-1.0, t1, x, t.part(0, half, half, rest));
            return;
        }
        for j in 0..n {
            let tau = reflector(a, v, j);
            for c in j + 1..n {
                let dot = (j..a.rows).fold(T::ZERO, |s, i| s + v.get(i, j) * a.get(i, c));
                for i in j..a.rows {
                    a.set(i, c, a.get(i, c) - tau * dot * v.get(i, j));
                }
            }
            let mut column = [T::ZERO; BLOCK];
            for (c, entry) in column.iter_mut().enumerate().take(j) {
                *entry = (j..a.rows).fold(T::ZERO, |s, i| s + v.get(i, c) * v.get(i, j));
            }
            for i in 0..j {
                let sum = (i..j).fold(T::ZERO, |s, c| s + t.get(i, c) * column[c]);
                t.set(i, j, -(tau * sum));
            }
            t.set(j, j, tau);
        }
    }
}

/// Writes to column `j` of `v` the reflection that clears column `j` of `a` below the diagonal, and
/// gives its factor. The sign of the diagonal element changes, so that nothing cancels.
///
/// # Safety
/// As for [`factor`].
unsafe fn reflector<T: Real>(a: Mat<T>, v: Mat<T>, j: usize) -> T {
    // SAFETY: positions are inside.
    unsafe {
        let largest = (j..a.rows).fold(0.0f64, |m, i| m.max(a.get(i, j).wide().abs()));
        let x0 = a.get(j, j).wide();
        // Squares of scaled numbers do not overflow.
        let scale = if largest > 0.0 { largest } else { 1.0 };
        let square = |x: T| (x.wide() / scale) * (x.wide() / scale);
        let tail = (j + 1..a.rows).fold(0.0, |s, i| s + square(a.get(i, j)));
        v.set(j, j, T::ONE);
        if tail == 0.0 {
            return T::ZERO;
        }
        let first = x0 / scale;
        let beta = -(first * first + tail).sqrt().copysign(first);
        for i in j + 1..a.rows {
            v.set(i, j, T::narrow(a.get(i, j).wide() / scale / (first - beta)));
        }
        a.set(j, j, T::narrow(beta * scale));
        T::narrow((beta - first) / beta)
    }
}
