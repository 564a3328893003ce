//! Products of whole numbers, modulo 2^bits like every integer operation.
//!
//! Wrapping addition is associative, so the loops take whatever order the layout likes.

use super::Problem;
use crate::kernels::threads;

/// A whole-number element type.
pub trait Int: Copy + PartialEq + Send + Sync + 'static {
    const ZERO: Self;
    fn from_f64(x: f64) -> Self;
    /// `self + a * b`
    fn mul_acc(self, a: Self, b: Self) -> Self;
}

macro_rules! int {
    ($($t:ty)*) => { $(
        impl Int for $t {
            const ZERO: $t = 0;
            fn from_f64(x: f64) -> $t {
                x as i64 as $t
            }
            #[inline(always)]
            fn mul_acc(self, a: $t, b: $t) -> $t {
                self.wrapping_add(a.wrapping_mul(b))
            }
        }
    )* };
}
int!(u8 i8 i16 i32 i64);

/// Columns of C that are summed up at once.
const COLS: usize = 256;

/// `c = alpha * a @ b + beta * c`, on all threads if `parallel`.
///
/// # Safety
/// As for [`super::gemm`].
pub unsafe fn multiply<T: Int>(q: &Problem<T>, parallel: bool) {
    let (alpha, beta) = (T::from_f64(q.alpha), T::from_f64(q.beta));
    let row = |i: usize| {
        let q: &Problem<T> = q;
        for start in (0..q.n).step_by(COLS) {
            let mut sums = [T::ZERO; COLS];
            let sums = &mut sums[..COLS.min(q.n - start)];
            // SAFETY: indices stay within the shape, for which the caller vouches.
            unsafe {
                let a = q.a.offset(i as isize * q.a_strides[0]);
                let b = q.b.offset(start as isize * q.b_strides[1]);
                if q.b_strides[0] == 1 && q.a_strides[1] == 1 {
                    for (j, sum) in sums.iter_mut().enumerate() {
                        let b = b.offset(j as isize * q.b_strides[1]);
                        for p in 0..q.k {
                            *sum = sum.mul_acc(*a.add(p), *b.add(p));
                        }
                    }
                } else {
                    for p in 0..q.k as isize {
                        let x = *a.offset(p * q.a_strides[1]);
                        let b = b.offset(p * q.b_strides[0]);
                        if q.b_strides[1] == 1 {
                            for (j, sum) in sums.iter_mut().enumerate() {
                                *sum = sum.mul_acc(x, *b.add(j));
                            }
                        } else {
                            for (j, sum) in sums.iter_mut().enumerate() {
                                *sum = sum.mul_acc(x, *b.offset(j as isize * q.b_strides[1]));
                            }
                        }
                    }
                }
                let c = q.c.offset(i as isize * q.c_strides[0]);
                for (j, &sum) in sums.iter().enumerate() {
                    let c = c.offset((start + j) as isize * q.c_strides[1]);
                    let old = if beta == T::ZERO { T::ZERO } else { T::ZERO.mul_acc(beta, *c) };
                    *c = old.mul_acc(alpha, sum);
                }
            }
        }
    };
    let rows = |r: std::ops::Range<usize>| r.for_each(row);
    if parallel { threads::parallel_for(q.m, q.m.div_ceil(64), rows) } else { rows(0..q.m) }
}
