//! Products that need no blocking: with a single column, single rows, and of matrices of a few
//! elements. All but the first have the order of additions of a tile.

use super::Problem;
use super::micro::{Float, Simd, Square};

/// Partial sums of a dot product: element `p` belongs to sum `p % SUMS`. The number is fixed, so
/// that every register width, and every layout, adds in the same order.
const SUMS: usize = 16;

/// Rows that share the loads of `b`.
const ROWS: usize = 4;

/// `out[i] = a[i, :] . b` for rows of `k` elements: `fn(rows, k, a, strides, b, out)`, with `b`
/// and `out` contiguous.
///
/// # Safety
/// All elements that the shape names must be valid, and the machine must have the instructions.
pub type Dots<T> = unsafe fn(usize, usize, *const T, [isize; 2], *const T, *mut T);

/// The body of a [`Dots`]: three ways through memory, one order of additions.
///
/// # Safety
/// As for [`Dots`].
#[inline(always)]
pub unsafe fn dots<S: Simd>(
    rows: usize,
    k: usize,
    a: *const S::T,
    [row, col]: [isize; 2],
    b: *const S::T,
    out: *mut S::T,
) {
    let mut i = 0;
    // SAFETY: rows `i..` are within `rows`, and the caller vouches for those.
    unsafe {
        let at = |i: usize| a.offset(i as isize * row);
        if col == 1 {
            while i + ROWS <= rows {
                along_rows::<S, ROWS>(k, at(i), row, b, out.add(i));
                i += ROWS;
            }
            while i < rows {
                along_rows::<S, 1>(k, at(i), row, b, out.add(i));
                i += 1;
            }
        } else if row == 1 {
            while i + S::LANES <= rows {
                across_rows::<S>(k, at(i), col, b, out.add(i));
                i += S::LANES;
            }
        }
        while i < rows {
            let mut sums = [S::T::ZERO; SUMS];
            for p in 0..k {
                let x = *at(i).offset(p as isize * col);
                sums[p % SUMS] = S::fma1(x, *b.add(p), sums[p % SUMS]);
            }
            *out.add(i) = tree(sums, S::T::plus);
            i += 1;
        }
    }
}

/// Elements of a row lie next to each other.
///
/// # Safety
/// As for [`Dots`], with `R` rows.
#[inline(always)]
unsafe fn along_rows<S: Simd, const R: usize>(
    k: usize,
    a: *const S::T,
    row: isize,
    b: *const S::T,
    out: *mut S::T,
) {
    // SAFETY: the caller vouches for `R` rows of `k` elements, `b` and the instructions; the last
    // `k % SUMS` elements are read one by one.
    unsafe {
        let mut acc = [[S::splat(S::T::ZERO); SUMS]; R];
        let vectors = SUMS / S::LANES;
        let whole = k - k % SUMS;
        let mut p = 0;
        while p < whole {
            for v in 0..vectors {
                let y = S::load(b.add(p + v * S::LANES));
                for (r, acc) in acc.iter_mut().enumerate() {
                    let x = S::load(a.offset(r as isize * row).add(p + v * S::LANES));
                    acc[v] = x.fma(y, acc[v]);
                }
            }
            p += SUMS;
        }
        for (r, acc) in acc.iter().enumerate() {
            let mut sums = [S::T::ZERO; SUMS];
            for (v, acc) in acc.iter().enumerate().take(vectors) {
                acc.store(sums.as_mut_ptr().add(v * S::LANES));
            }
            for p in whole..k {
                let x = *a.offset(r as isize * row).add(p);
                sums[p - whole] = S::fma1(x, *b.add(p), sums[p - whole]);
            }
            *out.add(r) = tree(sums, S::T::plus);
        }
    }
}

/// Elements of a column lie next to each other: a vector holds one element of several rows.
///
/// # Safety
/// As for [`Dots`], with `S::LANES` rows.
#[inline(always)]
unsafe fn across_rows<S: Simd>(
    k: usize,
    a: *const S::T,
    col: isize,
    b: *const S::T,
    out: *mut S::T,
) {
    // SAFETY: the caller vouches for `k` columns of a vector each, `b` and the instructions.
    unsafe {
        let mut acc = [S::splat(S::T::ZERO); SUMS];
        let whole = k - k % SUMS;
        let mut p = 0;
        while p < whole {
            for (s, acc) in acc.iter_mut().enumerate() {
                let x = S::load(a.offset((p + s) as isize * col));
                *acc = x.fma(S::splat(*b.add(p + s)), *acc);
            }
            p += SUMS;
        }
        for (s, acc) in acc.iter_mut().take(k - whole).enumerate() {
            let x = S::load(a.offset((p + s) as isize * col));
            *acc = x.fma(S::splat(*b.add(p + s)), *acc);
        }
        tree(acc, |a, b| a.add(b)).store(out);
    }
}

/// Adds up halves: `x[i] + x[i + 8]`, then `+ 4`, `+ 2`, `+ 1`.
#[inline(always)]
fn tree<V: Copy>(mut x: [V; SUMS], add: impl Fn(V, V) -> V) -> V {
    let mut half = SUMS / 2;
    while half > 0 {
        for i in 0..half {
            x[i] = add(x[i], x[i + half]);
        }
        half /= 2;
    }
    x[0]
}

/// A row of C, in the roundings of a tile: `c[j] = alpha * (a . b[:, j]) + beta * c[j]` for
/// `j < n`: `fn(n, k, a, column stride, b, strides, c, column stride, [alpha, beta])`. One of the
/// strides of `b` must be 1, and `n` at most [`ROW`].
///
/// # Safety
/// All elements that the shape names must be valid, and the machine must have the instructions.
pub type Row<T> =
    unsafe fn(usize, usize, *const T, isize, *const T, [isize; 2], *mut T, isize, [T; 2]);

/// The most columns of a [`Row`]: their sums stay in the first-level cache.
pub const ROW: usize = 256;

/// Steps of `k` for which a vector of sums stays in a register.
const STEPS: usize = 8;

/// How many registers ahead columns of B are fetched: more of them are read side by side than
/// processors follow by themselves.
const AHEAD: usize = 16;

/// The body of a [`Row`].
///
/// # Safety
/// As for [`Row`].
#[inline(always)]
#[expect(clippy::too_many_arguments)]
pub unsafe fn row<S: Simd>(
    n: usize,
    k: usize,
    a: *const S::T,
    a_col: isize,
    b: *const S::T,
    [b_row, b_col]: [isize; 2],
    c: *mut S::T,
    c_col: isize,
    [alpha, beta]: [S::T; 2],
) {
    let mut sums = [S::T::ZERO; ROW];
    // SAFETY: as promised by the caller; `n <= ROW`.
    unsafe {
        let to = sums.as_mut_ptr();
        if b_col == 1 {
            let mut p = 0;
            while p + STEPS <= k {
                let (a, b) = (a.offset(p as isize * a_col), b.offset(p as isize * b_row));
                add_rows::<S, STEPS>(n, a, a_col, b, b_row, to);
                p += STEPS;
            }
            while p < k {
                let (a, b) = (a.offset(p as isize * a_col), b.offset(p as isize * b_row));
                add_rows::<S, 1>(n, a, a_col, b, b_row, to);
                p += 1;
            }
        } else {
            let side = S::SIDE;
            let mut j = 0;
            while j + 4 * side <= n {
                let b = b.offset(j as isize * b_col);
                turned::<S::Square, 4>(4 * side, k, a, a_col, b, b_col, to.add(j));
                j += 4 * side;
            }
            while j < n {
                let b = b.offset(j as isize * b_col);
                turned::<S::Square, 1>(n - j, k, a, a_col, b, b_col, to.add(j));
                j += side;
            }
        }
        let mut j = 0;
        while c_col == 1 && j + S::LANES <= n {
            let sum = S::load(to.add(j));
            let sum = if beta == S::T::ZERO {
                sum.mul(S::splat(alpha))
            } else {
                sum.fma(S::splat(alpha), S::load(c.add(j)).mul(S::splat(beta)))
            };
            sum.store(c.add(j));
            j += S::LANES;
        }
        while j < n {
            let c = c.offset(j as isize * c_col);
            *c = finish::<S>(*to.add(j), c, alpha, beta);
            j += 1;
        }
    }
}

/// `sums[j] += a . b[:, j]` for `P` rows of B with contiguous elements.
///
/// # Safety
/// As for [`Row`], with `k` = `P` and `sums` valid for `n` elements.
#[inline(always)]
unsafe fn add_rows<S: Simd, const P: usize>(
    n: usize,
    a: *const S::T,
    a_col: isize,
    b: *const S::T,
    b_row: isize,
    sums: *mut S::T,
) {
    // SAFETY: as promised by the caller.
    unsafe {
        let x: [S::T; P] = std::array::from_fn(|p| *a.offset(p as isize * a_col));
        let whole = n - n % S::LANES;
        let mut j = 0;
        while j < whole {
            let mut sum = S::load(sums.add(j));
            for (p, &x) in x.iter().enumerate() {
                sum = S::splat(x).fma(S::load(b.offset(p as isize * b_row).add(j)), sum);
            }
            sum.store(sums.add(j));
            j += S::LANES;
        }
        for j in whole..n {
            let mut sum = *sums.add(j);
            for (p, &x) in x.iter().enumerate() {
                sum = S::fma1(x, *b.offset(p as isize * b_row).add(j), sum);
            }
            *sums.add(j) = sum;
        }
    }
}

/// `sums[j] = a . b[:, j]` for columns of B with contiguous elements: squares of B are turned in
/// registers, so that a vector holds one step of `k` for several columns. `G` groups of columns
/// hide each other's latency.
///
/// # Safety
/// As for [`Row`], with `0 < n <= G * SIDE` and `sums` valid for `G * SIDE` elements.
#[inline(always)]
unsafe fn turned<S: Square, const G: usize>(
    n: usize,
    k: usize,
    a: *const S::T,
    a_col: isize,
    b: *const S::T,
    b_col: isize,
    sums: *mut S::T,
) {
    // SAFETY: columns from `n` on are read as the last one; else as promised by the caller.
    unsafe {
        let columns: [[*const S::T; 8]; G] = std::array::from_fn(|g| {
            std::array::from_fn(|j| b.offset((g * S::LANES + j).min(n - 1) as isize * b_col))
        });
        let mut acc = [S::splat(S::T::ZERO); G];
        let whole = k - k % (2 * S::LANES);
        let mut p = 0;
        while p < whole {
            // Two squares: a cache line of each column is used while it is there.
            for (g, acc) in acc.iter_mut().enumerate() {
                for column in columns[g].iter().take(S::LANES) {
                    S::prefetch(column.wrapping_add(p + AHEAD * S::LANES));
                }
                for p in [p, p + S::LANES] {
                    let mut square = [S::splat(S::T::ZERO); 8];
                    for j in 0..S::LANES {
                        square[j] = S::load(columns[g][j].add(p));
                    }
                    S::turn(&mut square);
                    for (i, &side) in square.iter().enumerate().take(S::LANES) {
                        let x = *a.offset((p + i) as isize * a_col);
                        *acc = S::splat(x).fma(side, *acc);
                    }
                }
            }
            p += 2 * S::LANES;
        }
        for (g, acc) in acc.into_iter().enumerate() {
            let mut rest = [S::T::ZERO; 8];
            acc.store(rest.as_mut_ptr());
            for (j, sum) in rest.iter_mut().enumerate().take(S::SIDE) {
                for p in whole..k {
                    *sum = S::fma1(*a.offset(p as isize * a_col), *columns[g][j].add(p), *sum);
                }
                if g * S::SIDE + j < n {
                    *sums.add(g * S::SIDE + j) = *sum;
                }
            }
        }
    }
}

/// A whole product of which no side is longer than [`TINY`], all strides free.
///
/// # Safety
/// As for [`super::gemm`], and the machine must have the instructions.
pub type Tiny<T> = unsafe fn(&Problem<T>);

/// The longest side of a tiny product.
pub const TINY: usize = 8;

/// The body of a [`Tiny`]: B is padded to whole rows on the stack, so that a row of C is one
/// vector of known length.
///
/// # Safety
/// As for [`Tiny`].
#[inline(always)]
pub unsafe fn tiny<S: Simd>(q: &Problem<S::T>) {
    // SAFETY: indices stay within the shape, for which the caller vouches.
    unsafe {
        let mut b = [[S::T::ZERO; TINY]; TINY];
        for (p, row) in b.iter_mut().enumerate().take(q.k) {
            let from = q.b.offset(p as isize * q.b_strides[0]);
            for (j, x) in row.iter_mut().enumerate().take(q.n) {
                *x = *from.offset(j as isize * q.b_strides[1]);
            }
        }
        let (alpha, beta) = (S::T::from_f64(q.alpha), S::T::from_f64(q.beta));
        for i in 0..q.m {
            let a = q.a.offset(i as isize * q.a_strides[0]);
            let c = q.c.offset(i as isize * q.c_strides[0]);
            let mut sums = [S::T::ZERO; TINY];
            for (p, row) in b.iter().enumerate().take(q.k) {
                let x = *a.offset(p as isize * q.a_strides[1]);
                for j in 0..TINY {
                    sums[j] = S::fma1(x, row[j], sums[j]);
                }
            }
            for (j, &sum) in sums.iter().enumerate().take(q.n) {
                let c = c.offset(j as isize * q.c_strides[1]);
                *c = finish::<S>(sum, c, alpha, beta);
            }
        }
    }
}

/// `alpha * sum + beta * c`, in the roundings of a tile; `c` is not read if `beta` is 0.
///
/// # Safety
/// `c` must be valid, and the machine must have the instructions.
#[inline(always)]
unsafe fn finish<S: Simd>(sum: S::T, c: *const S::T, alpha: S::T, beta: S::T) -> S::T {
    if beta == S::T::ZERO {
        return sum.times(alpha);
    }
    // SAFETY: as promised by the caller.
    unsafe { S::fma1(sum, alpha, (*c).times(beta)) }
}
