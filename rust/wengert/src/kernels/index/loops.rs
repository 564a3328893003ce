//! The inner loops: positions along one axis, one function per element type.
#![allow(unsafe_code)]

use super::Combine;
use crate::dispatch;
use crate::dtype::DType;
use half::{bf16, f16};

/// Positions along one axis, for an inner loop.
#[derive(Clone, Copy)]
pub struct Run {
    pub indexed: *mut u8,
    pub plain: *mut u8,
    pub index: *const u8,
    pub n: usize,
    /// Bytes from one position to the next in each of them.
    pub steps: [isize; 3],
    /// Bytes from one index of the indexed operand's dimension to the next.
    pub stride: isize,
    /// The largest index.
    pub last: u64,
}

/// Treats all positions of a run.
///
/// # Safety
/// Every position of the run, with any index up to `last`, is a valid place of elements of the
/// loop's type, and nobody else writes there.
pub type Loop = unsafe fn(&Run);

// SAFETY: the pointers are addresses; the walk argues for what is done with them.
unsafe impl Sync for Run {}

impl Run {
    /// The same run elsewhere, so many bytes further in each operand.
    #[inline(always)]
    pub fn moved(&self, indexed: isize, plain: isize, index: isize) -> Run {
        Run {
            indexed: self.indexed.wrapping_offset(indexed),
            plain: self.plain.wrapping_offset(plain),
            index: self.index.wrapping_offset(index),
            ..*self
        }
    }

    /// The bytes that index `j` adds to the indexed operand's address.
    ///
    /// # Safety
    /// `j` is a position of the run.
    #[inline(always)]
    unsafe fn jump(&self, j: usize) -> isize {
        // SAFETY: the caller's promise.
        let i = unsafe { self.index.offset(j as isize * self.steps[2]).cast::<i64>().read() };
        (i as u64).min(self.last) as isize * self.stride
    }

    /// The element of the indexed operand for position `j`.
    ///
    /// # Safety
    /// `j` is a position of the run.
    #[inline(always)]
    unsafe fn indexed<T>(&self, j: usize) -> *mut T {
        // SAFETY: the caller's promise, and the index is not above `last`.
        unsafe { self.indexed.offset(j as isize * self.steps[0] + self.jump(j)).cast() }
    }

    /// The element of the plain operand for position `j`.
    ///
    /// # Safety
    /// `j` is a position of the run.
    #[inline(always)]
    unsafe fn plain<T>(&self, j: usize) -> *mut T {
        // SAFETY: the caller's promise.
        unsafe { self.plain.offset(j as isize * self.steps[1]).cast() }
    }

    /// The first elements of both operands if the index is constant and both are contiguous.
    ///
    /// # Safety
    /// The run has a position.
    #[inline(always)]
    unsafe fn rows<T>(&self) -> Option<(*mut T, *mut T)> {
        let size = size_of::<T>() as isize;
        let [indexed, plain, index] = self.steps;
        let rows = (indexed == size) & (plain == size) & (index == 0);
        // SAFETY: position 0 exists.
        rows.then(|| unsafe { (self.indexed(0), self.plain(0)) })
    }
}

/// # Safety
/// As [`Loop`].
unsafe fn gather_run<T: Copy>(run: &Run) {
    // SAFETY: positions of the run; the output overlaps nothing.
    unsafe {
        if let Some((from, to)) = run.rows::<T>() {
            return std::ptr::copy_nonoverlapping(from, to, run.n);
        }
        for j in 0..run.n {
            *run.plain::<T>(j) = *run.indexed::<T>(j);
        }
    }
}

/// # Safety
/// As [`Loop`].
unsafe fn scatter_run<T: Copy>(run: &Run) {
    // SAFETY: positions of the run; the output overlaps nothing.
    unsafe {
        if let Some((to, from)) = run.rows::<T>() {
            return std::ptr::copy_nonoverlapping(from, to, run.n);
        }
        for j in 0..run.n {
            *run.indexed::<T>(j) = *run.plain::<T>(j);
        }
    }
}

/// # Safety
/// As [`Loop`].
unsafe fn scatter_add_run<T: Sum>(run: &Run) {
    // SAFETY: positions of the run; the output overlaps nothing.
    unsafe {
        if let Some((to, from)) = run.rows::<T>() {
            for j in 0..run.n {
                *to.add(j) = (*to.add(j)).sum(*from.add(j));
            }
            return;
        }
        for j in 0..run.n {
            let to = run.indexed::<T>(j);
            *to = (*to).sum(*run.plain::<T>(j));
        }
    }
}

/// Addition as scatters do it.
trait Sum: Copy {
    fn sum(self, other: Self) -> Self;
}

macro_rules! impl_sum {
    ($($t:ty: |$a:ident, $b:ident| $sum:expr;)*) => { $(
        impl Sum for $t {
            #[inline(always)]
            fn sum(self, other: Self) -> Self {
                let ($a, $b) = (self, other);
                $sum
            }
        }
    )* };
}

impl_sum! {
    bool: |a, b| a | b;
    u8: |a, b| a.wrapping_add(b);
    i8: |a, b| a.wrapping_add(b);
    i16: |a, b| a.wrapping_add(b);
    i32: |a, b| a.wrapping_add(b);
    i64: |a, b| a.wrapping_add(b);
    f16: |a, b| f16::from_f32(a.to_f32() + b.to_f32());
    bf16: |a, b| bf16::from_f32(a.to_f32() + b.to_f32());
    f32: |a, b| a + b;
    f64: |a, b| a + b;
}

/// Copies care about the size of elements only.
pub fn gather_loop(dtype: DType) -> Loop {
    match dtype.size() {
        1 => gather_run::<u8>,
        2 => gather_run::<u16>,
        4 => gather_run::<u32>,
        _ => gather_run::<u64>,
    }
}

pub fn scatter_loop(dtype: DType, combine: Combine) -> Loop {
    match (combine, dtype.size()) {
        (Combine::Add, _) => dispatch!(dtype, T => scatter_add_run::<T>),
        (Combine::Replace, 1) => scatter_run::<u8>,
        (Combine::Replace, 2) => scatter_run::<u16>,
        (Combine::Replace, 4) => scatter_run::<u32>,
        (Combine::Replace, _) => scatter_run::<u64>,
    }
}
