//! Loops over contiguous rows, compiled for every instruction set.

use super::Real;
use crate::kernels::isa::per_isa;

per_isa! {
    /// # Safety
    /// None of its own: `per_isa` makes unsafe functions.
    unsafe fn subtract_body<T: Real>(to: &mut [T], factor: T, from: &[T]) {
        for (x, y) in to.iter_mut().zip(from) {
            *x = *x - factor * *y;
        }
    }

    /// # Safety
    /// As above.
    unsafe fn rotate_body(a: &mut [f64], b: &mut [f64], c: f64, s: f64) {
        for (x, y) in a.iter_mut().zip(b) {
            (*x, *y) = (c * *x + s * *y, c * *y - s * *x);
        }
    }

    /// # Safety
    /// As above.
    unsafe fn dot_body(a: &[f64], b: &[f64]) -> f64 {
        let mut lanes = [0.0; 16];
        let (heads, rest) = a.as_chunks::<16>();
        let (others, more) = b.as_chunks::<16>();
        for (x, y) in heads.iter().zip(others) {
            for l in 0..16 {
                lanes[l] += x[l] * y[l];
            }
        }
        for (l, (x, y)) in rest.iter().zip(more).enumerate() {
            lanes[l] += x * y;
        }
        for width in [8, 4, 2, 1] {
            for l in 0..width {
                lanes[l] += lanes[l + width];
            }
        }
        lanes[0]
    }
}

/// `to -= factor · from`.
pub(super) fn subtract<T: Real>(to: &mut [T], factor: T, from: &[T]) {
    // SAFETY: the body is safe.
    unsafe { subtract_body(to, factor, from) }
}

/// `(a, b) = (c a + s b, c b - s a)`.
pub(super) fn rotate(a: &mut [f64], b: &mut [f64], c: f64, s: f64) {
    // SAFETY: the body is safe.
    unsafe { rotate_body(a, b, c, s) }
}

/// `Σ aᵢ bᵢ` in sixteen lanes.
pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    // SAFETY: the body is safe.
    unsafe { dot_body(a, b) }
}

/// Rotates two rows of a row-major matrix with rows of length `n`; `i < k`.
pub(super) fn rotate_rows(m: &mut [f64], n: usize, [i, k]: [usize; 2], [c, s]: [f64; 2]) {
    let (head, tail) = m.split_at_mut(k * n);
    rotate(&mut head[i * n..i * n + n], &mut tail[..n], c, s);
}

/// The rotation that turns `(x, z)` to `(r, 0)`: `[c, s, r]`.
pub(super) fn givens(x: f64, z: f64) -> [f64; 3] {
    if z == 0.0 {
        return [1.0, 0.0, x];
    }
    let r = x.hypot(z);
    [x / r, z / r, r]
}

/// Turns `x` to the `v`, with `v₀ = 1`, of the reflection `I - τ v vᵀ` that maps `x` to `(β, 0, …)`,
/// and gives `[τ, β]`. The sign of β is not that of `x₀`, so that nothing cancels.
pub(super) fn reflector(x: &mut [f64]) -> [f64; 2] {
    let Some((first, rest)) = x.split_first_mut() else { return [0.0, 0.0] };
    let tail = dot(rest, rest);
    let x0 = std::mem::replace(first, 1.0);
    if tail == 0.0 {
        return [0.0, x0];
    }
    let beta = -(x0 * x0 + tail).sqrt().copysign(x0);
    let scale = x0 - beta;
    rest.iter_mut().for_each(|v| *v /= scale);
    [(beta - x0) / beta, beta]
}

/// `m = (I - τ v vᵀ) m` for rows `first..` and columns `left..` of a row-major matrix.
pub(super) fn reflect_rows(
    m: &mut [f64],
    n: usize,
    first: usize,
    left: usize,
    v: &[f64],
    tau: f64,
) {
    if tau == 0.0 || left >= n {
        return;
    }
    let mut w = vec![0.0; n - left];
    for (i, &vi) in v.iter().enumerate() {
        subtract(&mut w, -vi, &m[(first + i) * n + left..(first + i + 1) * n]);
    }
    for (i, &vi) in v.iter().enumerate() {
        subtract(&mut m[(first + i) * n + left..(first + i + 1) * n], tau * vi, &w);
    }
}

/// Scales a matrix so that its largest element has magnitude 1, and gives the factor to multiply
/// results with; `None` if an element is not finite.
pub(super) fn normalise(a: &mut [f64]) -> Option<f64> {
    if !a.iter().all(|x| x.is_finite()) {
        return None;
    }
    let largest = a.iter().fold(0.0f64, |m, x| m.max(x.abs()));
    if largest == 0.0 {
        return Some(1.0);
    }
    a.iter_mut().for_each(|x| *x /= largest);
    Some(largest)
}

/// The transpose of a square row-major matrix, in place.
pub(super) fn transpose(a: &mut [f64], n: usize) {
    for i in 0..n {
        for j in 0..i {
            a.swap(i * n + j, j * n + i);
        }
    }
}

/// The identity.
pub(super) fn identity(n: usize) -> Vec<f64> {
    let mut out = vec![0.0; n * n];
    out.iter_mut().step_by(n + 1).for_each(|x| *x = 1.0);
    out
}
