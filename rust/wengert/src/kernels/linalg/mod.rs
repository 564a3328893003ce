//! Factorisations of dense matrices, and what is solved with them.
//!
//! Each function works on one matrix of `f32` or `f64`, on the calling thread. What has enough
//! arithmetic in it to matter is left to [`gemm`](super::gemm): LU, Cholesky, QR and triangular solves
//! are *recursive*. A matrix is cut in half, both halves are the same problem again, and what connects
//! them is a product; only blocks of [`BLOCK`] columns are worked on element by element. Eigenvalues
//! and singular values are found by the classical route, reflections to a band of two diagonals and
//! rotations from there, in double precision for both types.
//!
//! - **Same bits.** Where to cut follows from the sizes alone, and products are the same for any number
//!   of threads, so a factorisation is, too. Loops have one form for all instruction sets, and sums a
//!   fixed number of lanes.
//! - **Always an end.** Numbers that are not finite pass through the direct methods as they do through
//!   any arithmetic. Iterations refuse them at once and count their steps.
//! - **Ctrl-C** is noticed by the products, and by the iterations between sweeps.
//!
//! Sources: G. Golub, C. Van Loan, *Matrix Computations*, 4th edition (3.4 LU, 4.2 Cholesky, 5.2 QR,
//! 8.3 symmetric QR, 8.6 SVD); S. Toledo, *Locality of reference in LU decomposition*, 1997, and
//! E. Elmroth, F. Gustavson, *Applying recursion to serial and parallel QR factorization*, 2000, for
//! the recursive forms.
#![allow(unsafe_code)]

mod direct;
mod eigen;
mod qr;
mod rows;
mod svd;
#[cfg(test)]
mod tests;

pub use direct::{Triangle, cholesky, lu, solve_lu, solve_triangular};
pub use eigen::symmetric_eigen;
pub use qr::{QrMode, qr};
pub use svd::svd;

use super::gemm::{MatMut, MatRef, gemm};
use crate::dtype::Element;
use std::ops::{Add, Div, Mul, Neg, Sub};

/// Columns (or rows) that are worked on one by one.
const BLOCK: usize = 16;

/// `f32` or `f64`.
pub trait Real:
    Element
    + PartialOrd
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
{
    /// 0.
    const ZERO: Self;
    /// 1.
    const ONE: Self;
    /// The magnitude.
    fn abs(self) -> Self;
    /// The square root.
    fn sqrt(self) -> Self;
    /// In double precision.
    fn wide(self) -> f64;
    /// From double precision.
    fn narrow(x: f64) -> Self;
}

macro_rules! impl_real {
    ($($t:ty)*) => { $(
        impl Real for $t {
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            fn abs(self) -> Self {
                self.abs()
            }
            fn sqrt(self) -> Self {
                self.sqrt()
            }
            fn wide(self) -> f64 {
                self as f64
            }
            fn narrow(x: f64) -> Self {
                x as $t
            }
        }
    )* };
}
impl_real!(f32 f64);

/// A part of a matrix that this thread may write to; strides count elements.
#[derive(Clone, Copy)]
struct Mat<T> {
    ptr: *mut T,
    rows: usize,
    cols: usize,
    row_stride: isize,
    col_stride: isize,
}

impl<T: Real> Mat<T> {
    /// A row-major matrix.
    fn new(elements: &mut [T], rows: usize, cols: usize) -> Mat<T> {
        assert_eq!(elements.len(), rows * cols);
        let col_stride = 1;
        Mat { ptr: elements.as_mut_ptr(), rows, cols, row_stride: cols as isize, col_stride }
    }

    /// The same elements with rows for columns.
    fn t(self) -> Mat<T> {
        Mat {
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
            ..self
        }
    }

    /// Where an element is; that of an empty matrix is not read.
    fn place(self, i: usize, j: usize) -> *mut T {
        self.ptr.wrapping_offset(i as isize * self.row_stride + j as isize * self.col_stride)
    }

    /// The part from `(i, j)` of the given size.
    fn part(self, i: usize, j: usize, rows: usize, cols: usize) -> Mat<T> {
        debug_assert!(i + rows <= self.rows && j + cols <= self.cols);
        Mat { ptr: self.place(i, j), rows, cols, ..self }
    }

    /// The part from `(i, j)` to the last row and column.
    fn from(self, i: usize, j: usize) -> Mat<T> {
        self.part(i, j, self.rows - i, self.cols - j)
    }

    /// # Safety
    /// The position must be inside, and the memory alive and written.
    unsafe fn get(self, i: usize, j: usize) -> T {
        debug_assert!(i < self.rows && j < self.cols);
        // SAFETY: as promised.
        unsafe { *self.place(i, j) }
    }

    /// # Safety
    /// The position must be inside, and the memory alive.
    unsafe fn set(self, i: usize, j: usize, x: T) {
        debug_assert!(i < self.rows && j < self.cols);
        // SAFETY: as promised.
        unsafe { *self.place(i, j) = x }
    }

    /// `row(i)[j] -= factor · row(k)[j]` for all `j`.
    ///
    /// # Safety
    /// Two different rows of a living matrix.
    unsafe fn subtract_row(self, i: usize, factor: T, k: usize) {
        // SAFETY: the rows are disjoint and inside; contiguous ones are slices.
        unsafe {
            if self.col_stride == 1 {
                let to = std::slice::from_raw_parts_mut(self.place(i, 0), self.cols);
                let from = std::slice::from_raw_parts(self.place(k, 0), self.cols);
                rows::subtract(to, factor, from);
            } else {
                for j in 0..self.cols {
                    self.set(i, j, self.get(i, j) - factor * self.get(k, j));
                }
            }
        }
    }

    /// # Safety
    /// Rows of a living matrix.
    unsafe fn swap_rows(self, i: usize, k: usize) {
        if i != k {
            for j in 0..self.cols {
                // SAFETY: both are inside.
                unsafe { std::ptr::swap(self.place(i, j), self.place(k, j)) };
            }
        }
    }
}

/// `c += factor · a @ b`.
///
/// # Safety
/// The matrices are alive, and no element of `c` is one of `a` or `b`.
unsafe fn add_product<T: Real>(factor: f64, a: Mat<T>, b: Mat<T>, c: Mat<T>) {
    if c.rows == 0 || c.cols == 0 || a.cols == 0 {
        return;
    }
    let read = |m: Mat<T>| MatRef {
        ptr: m.ptr.cast(),
        rows: m.rows,
        cols: m.cols,
        row_stride: m.row_stride,
        col_stride: m.col_stride,
    };
    let Mat { ptr, rows, cols, row_stride, col_stride } = c;
    let c = MatMut { ptr: ptr.cast(), rows, cols, row_stride, col_stride };
    // SAFETY: as promised; elements of `T` are elements of its type.
    let done = unsafe { gemm(T::DTYPE, factor, read(a), read(b), 1.0, c) };
    done.expect("the sizes fit");
}
