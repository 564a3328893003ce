//! LU, Cholesky, and solving with triangles.

use super::{BLOCK, Mat, Real, add_product};

/// Which triangle of a matrix is meant, and how.
#[derive(Clone, Copy, Debug, Default)]
pub struct Triangle {
    /// The upper one.
    pub upper: bool,
    /// Its diagonal is taken to be 1 and not read.
    pub unit: bool,
    /// Its transpose.
    pub transposed: bool,
}

/// Factors a square row-major matrix in place: `P A = L U`, with `L` (of diagonal 1) below the
/// diagonal. `pivots[j]` is the row that changed places with row `j` in step `j`.
///
/// Gives the first diagonal element of `U` that is zero, counted from 1, or 0.
pub fn lu<T: Real>(a: &mut [T], n: usize, pivots: &mut [i32]) -> i32 {
    assert_eq!(pivots.len(), n);
    // SAFETY: `a` is borrowed for the length of the call.
    unsafe { lu_columns(Mat::new(a, n, n), pivots) }
}

/// # Safety
/// A living matrix with at least as many rows as columns.
unsafe fn lu_columns<T: Real>(a: Mat<T>, pivots: &mut [i32]) -> i32 {
    let n = a.cols;
    // SAFETY: all parts lie inside `a`, and those of a product do not overlap.
    unsafe {
        if n <= BLOCK {
            return lu_block(a, pivots);
        }
        let half = (n / 2).next_multiple_of(BLOCK);
        let (left, right) = (a.part(0, 0, a.rows, half), a.from(0, half));
        let first = lu_columns(left, &mut pivots[..half]);
        swap(right, &pivots[..half]);
        substitute(left.part(0, 0, half, half), right.part(0, 0, half, n - half), false, true);
        add_product(
            -1.0,
            left.from(half, 0),
            right.part(0, 0, half, n - half),
            right.from(half, 0),
        );
        let second = lu_columns(right.from(half, 0), &mut pivots[half..]);
        swap(left.from(half, 0), &pivots[half..]);
        pivots[half..].iter_mut().for_each(|p| *p += half as i32);
        if first > 0 || second == 0 { first } else { second + half as i32 }
    }
}

/// # Safety
/// As for [`lu_columns`].
unsafe fn lu_block<T: Real>(a: Mat<T>, pivots: &mut [i32]) -> i32 {
    assert_eq!(pivots.len(), a.cols);
    let mut info = 0;
    for (j, chosen) in pivots.iter_mut().enumerate() {
        // SAFETY: positions are inside, with a pivot for each column.
        unsafe {
            let mut p = j;
            for i in j + 1..a.rows {
                if a.get(i, j).abs() > a.get(p, j).abs() {
                    p = i;
                }
            }
            *chosen = p as i32;
            a.swap_rows(j, p);
            let pivot = a.get(j, j);
            if pivot == T::ZERO {
                if info == 0 {
                    info = j as i32 + 1;
                }
                continue;
            }
            for i in j + 1..a.rows {
                let factor = a.get(i, j) / pivot;
                a.set(i, j, factor);
                if j + 1 < a.cols {
                    let pair = a.part(0, j + 1, a.rows, a.cols - j - 1);
                    pair.subtract_row(i, factor, j);
                }
            }
        }
    }
    info
}

/// Exchanges rows in the order of the pivots.
///
/// # Safety
/// A living matrix; pivots are among its rows.
unsafe fn swap<T: Real>(b: Mat<T>, pivots: &[i32]) {
    for (i, &p) in pivots.iter().enumerate() {
        // SAFETY: as promised.
        unsafe { b.swap_rows(i, p as usize) };
    }
}

/// Solves `A X = B`, or `Aᵀ X = B`, where [`lu`] factored `A`; `X` takes the place of `B`, row-major
/// with `m` columns.
pub fn solve_lu<T: Real>(lu: &[T], pivots: &[i32], b: &mut [T], m: usize, transposed: bool) {
    let n = pivots.len();
    assert!(pivots.iter().all(|&p| (p as usize) < n), "pivots are rows");
    let (a, b) = (read_only(lu, n), Mat::new(b, n, m));
    // SAFETY: both are borrowed for the length of the call; `a` is only read.
    unsafe {
        if transposed {
            substitute(a.t(), b, false, false);
            substitute(a.t(), b, true, true);
            for (i, &p) in pivots.iter().enumerate().rev() {
                b.swap_rows(i, p as usize);
            }
        } else {
            swap(b, pivots);
            substitute(a, b, false, true);
            substitute(a, b, true, false);
        }
    }
}

/// A square matrix that is only read.
fn read_only<T: Real>(a: &[T], n: usize) -> Mat<T> {
    assert_eq!(a.len(), n * n);
    Mat { ptr: a.as_ptr().cast_mut(), rows: n, cols: n, row_stride: n as isize, col_stride: 1 }
}

/// Solves `T X = B` for a triangle of a square row-major matrix; `X` takes the place of `B`,
/// row-major with `m` columns.
pub fn solve_triangular<T: Real>(a: &[T], n: usize, b: &mut [T], m: usize, which: Triangle) {
    let (a, b) = (read_only(a, n), Mat::new(b, n, m));
    let a = if which.transposed { a.t() } else { a };
    // SAFETY: both are borrowed for the length of the call; `a` is only read.
    unsafe { substitute(a, b, which.upper != which.transposed, which.unit) }
}

/// Solves with the upper or lower triangle of `a`, in place of `b`.
///
/// # Safety
/// Living matrices without common elements, `a` square with as many rows as `b`.
unsafe fn substitute<T: Real>(a: Mat<T>, b: Mat<T>, upper: bool, unit: bool) {
    let n = a.rows;
    // SAFETY: positions and parts are inside; halves of `b` do not overlap.
    unsafe {
        if n > BLOCK {
            let half = (n / 2).next_multiple_of(BLOCK);
            let (top, bottom) = (b.part(0, 0, half, b.cols), b.from(half, 0));
            if upper {
                substitute(a.from(half, half), bottom, upper, unit);
                add_product(-1.0, a.part(0, half, half, n - half), bottom, top);
                substitute(a.part(0, 0, half, half), top, upper, unit);
            } else {
                substitute(a.part(0, 0, half, half), top, upper, unit);
                add_product(-1.0, a.part(half, 0, n - half, half), top, bottom);
                substitute(a.from(half, half), bottom, upper, unit);
            }
            return;
        }
        if b.row_stride == 1 && b.col_stride != 1 {
            // Columns are contiguous: the same steps, column by column.
            for j in 0..b.cols {
                let x = std::slice::from_raw_parts_mut(b.place(0, j), n);
                for step in 0..n {
                    let i = if upper { n - 1 - step } else { step };
                    let known = if upper { i + 1..n } else { 0..i };
                    let left = known.fold(x[i], |sum, k| sum - a.get(i, k) * x[k]);
                    x[i] = if unit { left } else { left / a.get(i, i) };
                }
            }
            return;
        }
        for step in 0..n {
            let i = if upper { n - 1 - step } else { step };
            let known = if upper { i + 1..n } else { 0..i };
            for k in known {
                b.subtract_row(i, a.get(i, k), k);
            }
            if !unit {
                let d = a.get(i, i);
                for j in 0..b.cols {
                    b.set(i, j, b.get(i, j) / d);
                }
            }
        }
    }
}

/// Factors a symmetric row-major matrix, of which the lower triangle is read, in place: `A = L Lᵀ`.
/// What is above the diagonal afterwards means nothing.
///
/// Gives 0, or the order of the first leading minor that is not positive, where it stopped.
pub fn cholesky<T: Real>(a: &mut [T], n: usize) -> i32 {
    // SAFETY: `a` is borrowed for the length of the call.
    unsafe { cholesky_part(Mat::new(a, n, n)) }
}

/// # Safety
/// A living square matrix.
unsafe fn cholesky_part<T: Real>(a: Mat<T>) -> i32 {
    let n = a.cols;
    // SAFETY: positions and parts are inside, and the parts do not overlap.
    unsafe {
        if n > BLOCK {
            let half = (n / 2).next_multiple_of(BLOCK);
            let (corner, below) = (a.part(0, 0, half, half), a.part(half, 0, n - half, half));
            let info = cholesky_part(corner);
            if info > 0 {
                return info;
            }
            substitute(corner, below.t(), false, false);
            let rest = a.from(half, half);
            add_product(-1.0, below, below.t(), rest);
            let info = cholesky_part(rest);
            return if info > 0 { info + half as i32 } else { 0 };
        }
        for j in 0..n {
            for i in j..n {
                let mut sum = a.get(i, j);
                for k in 0..j {
                    sum = sum - a.get(i, k) * a.get(j, k);
                }
                if i > j {
                    a.set(i, j, sum / a.get(j, j));
                } else if sum > T::ZERO {
                    a.set(j, j, sum.sqrt());
                } else {
                    a.set(j, j, sum);
                    return j as i32 + 1;
                }
            }
        }
    }
    0
}
