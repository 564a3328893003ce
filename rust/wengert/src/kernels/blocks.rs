//! Moving blocks of elements between a packed buffer and scattered places: the one loop behind
//! every indexing operation.
//!
//! [`Blocks`] lists where each block begins in the scattered side, in elements; a block has one
//! length and one stride. The packed side holds the blocks one after another. Indexing a row of a
//! matrix moves a block the length of a row, gathering single elements moves blocks of one.
//!
//! * [`take`] reads scattered places. Its blocks are independent, and run in parallel.
//! * [`put`], [`add`] and [`multiply`] write to them. Two blocks may be in one place: they run in order, so that
//!   the last one wins, or sums are rounded in the order of the list, on any number of threads.
//!
//! Elements are moved as bits of their size; only arithmetic knows types.

#![allow(unsafe_code)]

use super::threads::parallel_for;
use crate::DType;
use crate::dispatch;

/// Elements that one task of [`take`] moves at least.
const GRAIN: usize = 32 * 1024;

/// Blocks of equal form in scattered places.
pub struct Blocks {
    /// Where each begins, in elements from a base address.
    pub offsets: Vec<isize>,
    /// Elements in a block.
    pub len: usize,
    /// Elements from one to the next within a block.
    pub stride: isize,
}

impl Blocks {
    /// All elements of all blocks.
    pub fn numel(&self) -> usize {
        self.offsets.len() * self.len
    }
}

#[derive(Clone, Copy)]
struct Ends<T> {
    packed: *mut T,
    scattered: *mut T,
}

// SAFETY: an address alone does nothing; the functions below say who may use it for what.
unsafe impl<T> Send for Ends<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Ends<T> {}

impl<T: Copy> Ends<T> {
    /// Copies block `k` to its place in the packed buffer.
    ///
    /// # Safety
    /// As for [`take`].
    #[inline(always)]
    unsafe fn take(self, blocks: &Blocks, k: usize) {
        // SAFETY: the caller's promise for every element of every block.
        unsafe {
            let to = self.packed.add(k * blocks.len);
            let from = self.scattered.offset(blocks.offsets[k]);
            match blocks {
                Blocks { len: 1, .. } => to.write(from.read()),
                Blocks { stride: 1, .. } => to.copy_from_nonoverlapping(from, blocks.len),
                _ => (0..blocks.len)
                    .for_each(|j| to.add(j).write(from.offset(j as isize * blocks.stride).read())),
            }
        }
    }

    /// Combines each element of the packed buffer with the one at its place, in order.
    ///
    /// # Safety
    /// As for [`put`].
    #[inline(always)]
    unsafe fn write(self, blocks: &Blocks, combine: impl Fn(T, T) -> T) {
        for (k, &offset) in blocks.offsets.iter().enumerate() {
            // SAFETY: the caller's promise for every element of every block.
            unsafe {
                let from = self.packed.add(k * blocks.len);
                let to = self.scattered.offset(offset);
                for j in 0..blocks.len {
                    let to = to.offset(j as isize * blocks.stride);
                    to.write(combine(to.read(), from.add(j).read()));
                }
            }
        }
    }
}

/// Runs a block with `$T` an integer as large as an element.
macro_rules! by_size {
    ($item:expr, $T:ident => $body:expr) => {
        match $item {
            1 => {
                type $T = u8;
                $body
            }
            2 => {
                type $T = u16;
                $body
            }
            4 => {
                type $T = u32;
                $body
            }
            _ => {
                type $T = u64;
                $body
            }
        }
    };
}

/// Copies scattered blocks to a packed buffer.
///
/// # Safety
/// Every element of every block, counted from `scattered`, is initialised and valid for reads;
/// `packed` is valid for writes of [`Blocks::numel`] elements that overlap none of those. Both are
/// aligned, and elements have the size of `dtype`.
pub unsafe fn take(dtype: DType, packed: *mut u8, scattered: *const u8, blocks: &Blocks) {
    by_size!(dtype.size(), T => {
        let ends =
            Ends::<T> { packed: packed.cast(), scattered: scattered.cast_mut().cast() };
        let grain = GRAIN.div_ceil(blocks.len.max(1));
        parallel_for(blocks.offsets.len(), grain, |range| {
            // SAFETY: the caller's promise; each block has a part of the buffer to itself.
            range.for_each(|k| unsafe { ends.take(blocks, k) });
        });
    });
}

/// Copies a packed buffer to scattered blocks, in order.
///
/// # Safety
/// Every element of every block, counted from `scattered`, is valid for reads and writes;
/// `packed` is initialised, valid for reads of [`Blocks::numel`] elements and overlaps none of
/// those. Both are aligned, and elements have the size of `dtype`.
pub unsafe fn put(dtype: DType, packed: *const u8, scattered: *mut u8, blocks: &Blocks) {
    by_size!(dtype.size(), T => {
        let ends = Ends::<T> { packed: packed.cast_mut().cast(), scattered: scattered.cast() };
        // SAFETY: the caller's promise.
        unsafe { ends.write(blocks, |_, new| new) };
    });
}

/// Arithmetic of elements as [`add`] and [`multiply`] have it.
trait Arithmetic: Copy {
    fn sum(self, other: Self) -> Self;
    fn product(self, other: Self) -> Self;
}

macro_rules! arithmetic {
    ($($t:ty: |$a:ident, $b:ident| $sum:expr, $product:expr;)*) => { $(
        impl Arithmetic for $t {
            #[inline(always)]
            fn sum(self, $b: Self) -> Self {
                let $a = self;
                $sum
            }
            #[inline(always)]
            fn product(self, $b: Self) -> Self {
                let $a = self;
                $product
            }
        }
    )* };
}

arithmetic! {
    bool: |a, b| a | b, a & b;
    u8: |a, b| a.wrapping_add(b), a.wrapping_mul(b);
    i8: |a, b| a.wrapping_add(b), a.wrapping_mul(b);
    i16: |a, b| a.wrapping_add(b), a.wrapping_mul(b);
    i32: |a, b| a.wrapping_add(b), a.wrapping_mul(b);
    i64: |a, b| a.wrapping_add(b), a.wrapping_mul(b);
    half::f16: |a, b| half::f16::from_f32(a.to_f32() + b.to_f32()),
        half::f16::from_f32(a.to_f32() * b.to_f32());
    half::bf16: |a, b| half::bf16::from_f32(a.to_f32() + b.to_f32()),
        half::bf16::from_f32(a.to_f32() * b.to_f32());
    f32: |a, b| a + b, a * b;
    f64: |a, b| a + b, a * b;
}

/// Adds a packed buffer to scattered blocks, in order. Truth values are combined with "or", and
/// whole numbers wrap.
///
/// # Safety
/// As for [`put`]; elements are those of `dtype` and initialised on both sides.
pub unsafe fn add(dtype: DType, packed: *const u8, scattered: *mut u8, blocks: &Blocks) {
    dispatch!(dtype, T => {
        let ends = Ends::<T> { packed: packed.cast_mut().cast(), scattered: scattered.cast() };
        // SAFETY: the caller's promise.
        unsafe { ends.write(blocks, T::sum) };
    });
}

/// Multiplies scattered blocks with a packed buffer, in order. Truth values are combined with
/// "and", and whole numbers wrap.
///
/// # Safety
/// As for [`add`].
pub unsafe fn multiply(dtype: DType, packed: *const u8, scattered: *mut u8, blocks: &Blocks) {
    dispatch!(dtype, T => {
        let ends = Ends::<T> { packed: packed.cast_mut().cast(), scattered: scattered.cast() };
        // SAFETY: the caller's promise.
        unsafe { ends.write(blocks, T::product) };
    });
}
