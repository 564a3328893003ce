//! Matrix products of raw strided memory: `C = alpha * A @ B + beta * C`.
//!
//! The core is our own, because a product has to give the same bits for the same values however
//! the operands lie in memory and whatever else is computed with them. The crates that were
//! measured (`gemmkit` 0.1.2, `gemm` 0.19) are fast, but choose a summation order by shape: a
//! row alone differs from the same row of a larger product, and single rows (`gemm`: also small
//! and deep products) differ by layout. Here an element of C has one definition:
//!
//! - **More than one column:** `k` is cut into runs of 256 (`blocked::DEPTH`); a run is the chain
//!   `acc = fma(a[p], b[p], acc)`; the runs are added to C one after the other. Vectors lie
//!   across columns, so registers of any width compute just this.
//! - **One column:** such a chain could not use vectors, so a dot product has sixteen of them
//!   (`vector`), and long ones are cut into blocks whose sums meet in a pairwise tree.
//!
//! Hence rows do not know each other, `(A @ B)[i] == A[i:i+1] @ B`, and neither thread count,
//! layout, batch, nor instruction set (with fused multiply-add) can be seen in the result.
//!
//! Half precision is multiplied and summed in single precision and rounded once; integers wrap.

#![allow(unsafe_code)]

mod blocked;
mod integer;
mod micro;
mod pack;
mod vector;
#[cfg(target_arch = "x86_64")]
mod x86;

use crate::dtype::DType;
use crate::error::Result;
use crate::kernels::threads;
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use micro::{Float, Kernels};
use pack::Scratch;

/// A matrix to read; strides count elements and may be zero or negative.
#[derive(Clone, Copy, Debug)]
pub struct MatRef {
    /// The element in the first row and column.
    pub ptr: *const u8,
    /// Number of rows.
    pub rows: usize,
    /// Number of columns.
    pub cols: usize,
    /// From a row to the next.
    pub row_stride: isize,
    /// From a column to the next.
    pub col_stride: isize,
}

/// A matrix to write; strides count elements, and no two elements share a place.
#[derive(Clone, Copy, Debug)]
pub struct MatMut {
    /// The element in the first row and column.
    pub ptr: *mut u8,
    /// Number of rows.
    pub rows: usize,
    /// Number of columns.
    pub cols: usize,
    /// From a row to the next.
    pub row_stride: isize,
    /// From a column to the next.
    pub col_stride: isize,
}

/// Multiplications (and additions) from which several threads are used: some 20-50 microseconds.
const PARALLEL_WORK: usize = 4 << 20;
/// The same for a single column, where memory is what takes time: elements of A.
const PARALLEL_DOTS: usize = 256 << 10;
/// Elements of a dot product that are summed in one go. Part of the definition of the result.
const DOT_BLOCK: usize = 8192;

/// Computes `c = alpha * a @ b + beta * c`. `c` is not read if `beta` is 0.
///
/// # Errors
/// `Shape` unless the shapes are `(m, k)`, `(k, n)` and `(m, n)`; `DType` for bool.
///
/// # Safety
/// Every element the shapes and strides name must be a valid element of `dtype`, aligned, and
/// those of `c` must be writable, distinct, and not among those of `a` and `b`.
pub unsafe fn gemm(
    dtype: DType,
    alpha: f64,
    a: MatRef,
    b: MatRef,
    beta: f64,
    c: MatMut,
) -> Result<()> {
    // SAFETY: as promised by the caller, with no offset.
    unsafe { gemm_batched(dtype, 1, alpha, a, b, beta, c, &|_| [0; 3]) }
}

/// Computes `count` products of the same shape; `offsets(i)` says by how many elements the `i`-th
/// `a`, `b` and `c` lie behind the given ones.
///
/// # Errors
/// As for [`gemm`].
///
/// # Safety
/// As for [`gemm`], for each of the products; the elements of all `c` must be distinct.
#[expect(clippy::too_many_arguments)]
pub unsafe fn gemm_batched(
    dtype: DType,
    count: usize,
    alpha: f64,
    a: MatRef,
    b: MatRef,
    beta: f64,
    c: MatMut,
    offsets: &(dyn Fn(usize) -> [isize; 3] + Sync),
) -> Result<()> {
    if a.cols != b.rows || c.rows != a.rows || c.cols != b.cols {
        crate::bail!(
            Shape,
            "gemm",
            "({}, {}) @ ({}, {}) is not ({}, {})",
            a.rows,
            a.cols,
            b.rows,
            b.cols,
            c.rows,
            c.cols
        );
    }
    let spec = Spec { count, alpha, a, b, beta, c, offsets };
    // SAFETY: as promised by the caller; each type is the one of `dtype`.
    unsafe {
        match dtype {
            DType::Float32 => spec.each(float::<f32>),
            DType::Float64 => spec.each(float::<f64>),
            DType::Float16 => spec.each(half::<f16>),
            DType::BFloat16 => spec.each(half::<bf16>),
            DType::UInt8 => spec.each(integer::multiply::<u8>),
            DType::Int8 => spec.each(integer::multiply::<i8>),
            DType::Int16 => spec.each(integer::multiply::<i16>),
            DType::Int32 => spec.each(integer::multiply::<i32>),
            DType::Int64 => spec.each(integer::multiply::<i64>),
            DType::Bool => crate::bail!(DType, "gemm", "not implemented for bool"),
        }
    }
    Ok(())
}

struct Spec<'a> {
    count: usize,
    alpha: f64,
    a: MatRef,
    b: MatRef,
    beta: f64,
    c: MatMut,
    offsets: &'a (dyn Fn(usize) -> [isize; 3] + Sync),
}

impl Spec<'_> {
    /// Runs `one(problem, parallel)` for every product: large ones one after the other, each on
    /// all threads; small ones side by side, each on one.
    ///
    /// # Safety
    /// As for [`gemm_batched`] with elements of type `T`; `one` must accept such problems.
    unsafe fn each<T: Copy + Send + Sync>(&self, one: unsafe fn(&Problem<T>, bool)) {
        let first = Problem {
            m: self.c.rows,
            n: self.c.cols,
            k: self.a.cols,
            a: self.a.ptr.cast::<T>(),
            a_strides: [self.a.row_stride, self.a.col_stride],
            b: self.b.ptr.cast::<T>(),
            b_strides: [self.b.row_stride, self.b.col_stride],
            c: self.c.ptr.cast::<T>(),
            c_strides: [self.c.row_stride, self.c.col_stride],
            alpha: self.alpha,
            beta: self.beta,
        };
        let work = first.m.saturating_mul(first.n).saturating_mul(first.k.max(1));
        if work == 0 {
            return;
        }
        let run = |i: usize, parallel: bool| {
            let first = &first;
            let [a, b, c] = (self.offsets)(i);
            // SAFETY: the caller vouches for the offsets.
            unsafe {
                let (a, b, c) = (first.a.offset(a), first.b.offset(b), first.c.offset(c));
                one(&Problem { a, b, c, ..*first }, parallel);
            }
        };
        let parallel = work >= PARALLEL_WORK || first.n == 1 && work >= PARALLEL_DOTS;
        if parallel || work.saturating_mul(self.count) < PARALLEL_WORK {
            (0..self.count).for_each(|i| run(i, parallel));
        } else {
            let grain = (PARALLEL_WORK / 8).div_ceil(work);
            threads::parallel_for(self.count, grain, |r| r.for_each(|i| run(i, false)));
        }
    }
}

/// A product of matrices with elements of type `T`: `(m, k) @ (k, n)`.
#[derive(Clone, Copy)]
struct Problem<T> {
    m: usize,
    n: usize,
    k: usize,
    a: *const T,
    a_strides: [isize; 2],
    b: *const T,
    b_strides: [isize; 2],
    c: *mut T,
    c_strides: [isize; 2],
    alpha: f64,
    beta: f64,
}

// SAFETY: who computes a problem vouches for its pointers; threads get different parts of C.
unsafe impl<T: Send> Send for Problem<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Problem<T> {}

impl<T: Copy> Problem<T> {
    /// The part that starts at row `i`, inner index `p` and column `j`.
    ///
    /// # Safety
    /// These must be within the matrices.
    unsafe fn moved(&self, i: usize, p: usize, j: usize) -> Self {
        let [i, p, j] = [i as isize, p as isize, j as isize];
        // SAFETY: within the matrices.
        unsafe {
            Problem {
                a: self.a.offset(i * self.a_strides[0] + p * self.a_strides[1]),
                b: self.b.offset(p * self.b_strides[0] + j * self.b_strides[1]),
                c: self.c.offset(i * self.c_strides[0] + j * self.c_strides[1]),
                ..*self
            }
        }
    }

    /// The same elements as `C.T = B.T @ A.T`.
    fn transposed(&self) -> Self {
        let flip = |[row, col]: [isize; 2]| [col, row];
        Problem {
            m: self.n,
            n: self.m,
            a: self.b,
            a_strides: flip(self.b_strides),
            b: self.a,
            b_strides: flip(self.a_strides),
            c_strides: flip(self.c_strides),
            ..*self
        }
    }
}

/// # Safety
/// As for [`gemm`].
unsafe fn float<T: Float>(q: &Problem<T>, parallel: bool) {
    // SAFETY: the machine has the instructions of its own kernels.
    unsafe { float_with(q, T::kernels()[0], parallel) }
}

/// # Safety
/// As for [`gemm`], and the machine must have the instructions of `kernels`.
unsafe fn float_with<T: Float>(q: &Problem<T>, kernels: &'static Kernels<T>, parallel: bool) {
    // SAFETY: as promised by the caller.
    unsafe {
        if q.k == 0 {
            scale(q);
        } else if q.n == 1 {
            matvec(q, kernels, parallel);
        } else if q.m.max(q.n).max(q.k) <= vector::TINY {
            (kernels.tiny)(q);
        } else {
            blocked::multiply(q, kernels, parallel);
        }
    }
}

/// `c = beta * c`: what is left without inner elements.
///
/// # Safety
/// As for [`gemm`].
unsafe fn scale<T: Float>(q: &Problem<T>) {
    for i in 0..q.m as isize {
        for j in 0..q.n as isize {
            // SAFETY: within C.
            unsafe {
                let c = q.c.offset(i * q.c_strides[0] + j * q.c_strides[1]);
                *c = if q.beta == 0.0 { T::ZERO } else { T::from_f64(q.beta).times(*c) };
            }
        }
    }
}

/// The product with a single column.
///
/// # Safety
/// As for [`float_with`].
unsafe fn matvec<T: Float>(q: &Problem<T>, kernels: &Kernels<T>, parallel: bool) {
    let blocks = q.k.div_ceil(DOT_BLOCK);
    let needed = q.k + q.m * blocks;
    let mut few = [T::ZERO; 64];
    let mut scratch;
    let base = if needed <= few.len() {
        few.as_mut_ptr()
    } else {
        scratch = Scratch::new::<T>(0, needed);
        scratch.ptr::<T>()
    };
    let mut b = q.b;
    if q.b_strides[0] != 1 {
        for p in 0..q.k {
            // SAFETY: within B, and within the first `k` elements of the scratch memory.
            unsafe { *base.add(p) = *q.b.offset(p as isize * q.b_strides[0]) };
        }
        b = base;
    }
    /// Sums of all rows of the first block, then of the second, and so on.
    struct Sums<T>(*mut T);
    // SAFETY: each sum is written by one task, and read when all are done.
    unsafe impl<T> Sync for Sums<T> {}
    // SAFETY: behind the first `k` elements.
    let sums = Sums(unsafe { base.add(q.k) });
    let whole = Problem { b, b_strides: [1, 0], ..*q };
    // A task has enough rows to share loads of B, and some 64 thousand elements.
    let rows = (65536 / q.k.min(DOT_BLOCK)).max(16);
    let chunks = q.m.div_ceil(rows);
    let run = |r: std::ops::Range<usize>| {
        let (sums, whole) = (&sums, &whole);
        for task in r {
            let (block, first) = (task / chunks, task % chunks * rows);
            let start = block * DOT_BLOCK;
            // SAFETY: rows from `first` and elements from `start` are within the matrices.
            unsafe {
                let q = whole.moved(first, start, 0);
                let rows = rows.min(q.m - first);
                let k = DOT_BLOCK.min(q.k - start);
                (kernels.dots)(rows, k, q.a, q.a_strides, q.b, sums.0.add(block * q.m + first));
            }
        }
    };
    if parallel {
        threads::parallel_for(chunks * blocks, 1, run)
    } else {
        run(0..chunks * blocks)
    }
    let (alpha, beta) = (T::from_f64(q.alpha), T::from_f64(q.beta));
    for i in 0..q.m {
        // SAFETY: all sums are written; row `i` of C.
        unsafe {
            let sum = pairwise(sums.0.add(i), q.m, blocks).times(alpha);
            let c = q.c.offset(i as isize * q.c_strides[0]);
            *c = if beta == T::ZERO { sum } else { sum.plus(beta.times(*c)) };
        }
    }
}

/// The sum of `n > 0` numbers, by halves.
///
/// # Safety
/// `x` must be valid for `n` elements `stride` apart.
unsafe fn pairwise<T: Float>(x: *const T, stride: usize, n: usize) -> T {
    // SAFETY: both halves are within the `n` elements.
    unsafe {
        match n {
            1 => *x,
            _ => {
                let half = n / 2;
                let left = pairwise(x, stride, half);
                left.plus(pairwise(x.add(half * stride), stride, n - half))
            }
        }
    }
}

/// A half-precision element type.
trait Half: Copy + Send + Sync + PartialEq {
    fn widen(from: &[Self], to: &mut [f32]);
    fn narrow(from: &[f32], to: &mut [Self]);
    fn to_f32(self) -> f32;
    fn from_f32(x: f32) -> Self;
}

macro_rules! impl_half {
    ($($t:ty)*) => { $(
        impl Half for $t {
            fn widen(from: &[Self], to: &mut [f32]) {
                from.convert_to_f32_slice(to);
            }
            fn narrow(from: &[f32], to: &mut [Self]) {
                to.convert_from_f32_slice(from);
            }
            fn to_f32(self) -> f32 {
                self.to_f32()
            }
            fn from_f32(x: f32) -> Self {
                <$t>::from_f32(x)
            }
        }
    )* };
}
impl_half!(f16 bf16);

/// Multiplies in single precision: converts A and B, multiplies, rounds C once.
///
/// # Safety
/// As for [`gemm`].
unsafe fn half<T: Half>(q: &Problem<T>, parallel: bool) {
    // SAFETY: the matrices are the caller's.
    unsafe {
        let a = widen(q.a, q.a_strides, q.m, q.k);
        let b = widen(q.b, q.b_strides, q.k, q.n);
        let mut c = match q.beta {
            0.0 => vec![0.0; q.m * q.n],
            _ => widen(q.c, q.c_strides, q.m, q.n),
        };
        let single = Problem {
            m: q.m,
            n: q.n,
            k: q.k,
            a: a.as_ptr(),
            a_strides: [q.k as isize, 1],
            b: b.as_ptr(),
            b_strides: [q.n as isize, 1],
            c: c.as_mut_ptr(),
            c_strides: [q.n as isize, 1],
            alpha: q.alpha,
            beta: q.beta,
        };
        float(&single, parallel);
        for (i, row) in c.chunks_exact(q.n).enumerate() {
            let to = q.c.offset(i as isize * q.c_strides[0]);
            if q.c_strides[1] == 1 {
                T::narrow(row, std::slice::from_raw_parts_mut(to, q.n));
            } else {
                for (j, &x) in row.iter().enumerate() {
                    *to.offset(j as isize * q.c_strides[1]) = T::from_f32(x);
                }
            }
        }
    }
}

/// A row-major copy in single precision.
///
/// # Safety
/// All elements must be valid.
unsafe fn widen<T: Half>(x: *const T, strides: [isize; 2], rows: usize, cols: usize) -> Vec<f32> {
    let mut out = vec![0.0; rows * cols];
    if cols > 0 {
        for (i, row) in out.chunks_exact_mut(cols).enumerate() {
            // SAFETY: row `i`.
            unsafe {
                let from = x.offset(i as isize * strides[0]);
                if strides[1] == 1 {
                    T::widen(std::slice::from_raw_parts(from, cols), row);
                } else {
                    for (j, to) in row.iter_mut().enumerate() {
                        *to = (*from.offset(j as isize * strides[1])).to_f32();
                    }
                }
            }
        }
    }
    out
}

#[cfg(test)]
mod tests;
