//! Conversion between element types, copies and fills.
//!
//! Conversions follow Rust's `as`: floats truncate toward zero and saturate, wide integers wrap,
//! and anything that is not zero (NaN included) is true. Half precision is reached through
//! `f32`, rounding to nearest even, as PyTorch does; the two formats are decoded and encoded by
//! branch-free integer arithmetic, which vectorises like any other row.

#![allow(unsafe_code)]

use super::engine::{self, Operand};
use super::isa::isa;
use super::rows::{Loop, Pointwise, Rows, Table, levels};
use crate::dispatch;
use crate::dtype::{DType, Element, Scalar};
use half::{bf16, f16};
use smallvec::SmallVec;

/// Converts to `f32`; exact.
#[inline(always)]
pub fn f16_to_f32(x: f16) -> f32 {
    let h = x.to_bits() as u32;
    // Exponent and mantissa in f32's place are off by the difference of the biases: a product
    // with 2^112 sets that right for subnormals too.
    let magnitude = f32::from_bits((h & 0x7fff) << 13) * f32::from_bits((254 - 15) << 23);
    // An all-ones exponent (infinity, NaN) came out as 2^16 and more: make it all ones again.
    let special = if h & 0x7c00 == 0x7c00 { 0x7f80_0000 } else { 0 };
    f32::from_bits(magnitude.to_bits() | special | (h & 0x8000) << 16)
}

/// Rounds to nearest even; too large becomes infinite, any NaN the quiet one of its sign.
#[inline(always)]
pub fn f16_from_f32(x: f32) -> f16 {
    let bits = x.to_bits();
    let magnitude = bits & 0x7fff_ffff;
    // Normal results: move the bias, then round at bit 13 by adding just under half, and one
    // more if the kept part is odd. A carry runs into the exponent, which is what it should do.
    let odd = (magnitude >> 13) & 1;
    let normal =
        magnitude.wrapping_add(((15u32.wrapping_sub(127)) << 23).wrapping_add(0xfff) + odd);
    // Subnormal results: adding 0.5 leaves the mantissa at the right place, rounded by the
    // floating-point unit itself.
    let half = f32::from_bits(magnitude) + 0.5;
    let subnormal = half.to_bits().wrapping_sub(0.5f32.to_bits());
    let finite = if magnitude < 113 << 23 { subnormal } else { normal >> 13 };
    let overflow = if magnitude > 0x7f80_0000 { 0x7e00 } else { 0x7c00 };
    let result = if magnitude >= 143 << 23 { overflow } else { finite };
    f16::from_bits((result | (bits >> 16) & 0x8000) as u16)
}

/// Converts to `f32`; exact.
#[inline(always)]
pub fn bf16_to_f32(x: bf16) -> f32 {
    f32::from_bits((x.to_bits() as u32) << 16)
}

/// Rounds to nearest even; any NaN becomes the quiet one.
#[inline(always)]
pub fn bf16_from_f32(x: f32) -> bf16 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
    bf16::from_bits(if bits & 0x7fff_ffff > 0x7f80_0000 { 0x7fc0 } else { rounded as u16 })
}

/// The formula that converts; `Rows<Cast<To>, (From,)>` is the loop.
struct Cast<To>(std::marker::PhantomData<To>);

/// Each source type is first brought to a type that `as` understands.
macro_rules! cast_from {
    ($($from:ty, $x:ident => $wide:expr, $zero:expr;)*) => { $(
        impl Pointwise<($from,)> for Cast<bool> {
            type Out = bool;
            #[inline(always)]
            fn apply(($x,): ($from,)) -> bool {
                $wide != $zero
            }
        }
        impl Pointwise<($from,)> for Cast<f16> {
            type Out = f16;
            #[inline(always)]
            fn apply(($x,): ($from,)) -> f16 {
                f16_from_f32($wide as f32)
            }
        }
        impl Pointwise<($from,)> for Cast<bf16> {
            type Out = bf16;
            #[inline(always)]
            fn apply(($x,): ($from,)) -> bf16 {
                bf16_from_f32($wide as f32)
            }
        }
        cast_from!(@to $from, $x => $wide, u8 i8 i16 i32 i64 f32 f64);
    )* };
    (@to $from:ty, $x:ident => $wide:expr, $($to:ident)*) => { $(
        impl Pointwise<($from,)> for Cast<$to> {
            type Out = $to;
            #[inline(always)]
            #[allow(clippy::unnecessary_cast)]
            fn apply(($x,): ($from,)) -> $to {
                $wide as $to
            }
        }
    )* };
}

cast_from! {
    bool, x => (x as u8), 0;
    u8, x => x, 0;
    i8, x => x, 0;
    i16, x => x, 0;
    i32, x => x, 0;
    i64, x => x, 0;
    f16, x => f16_to_f32(x), 0.0;
    bf16, x => bf16_to_f32(x), 0.0;
    f32, x => x, 0.0;
    f64, x => x, 0.0;
}

/// One row of the table: everything that `From` converts to, in the order of [`DType::ALL`].
const fn casts_from<From: Copy>() -> [Table; 10]
where
    Cast<bool>: Pointwise<(From,), Out = bool>,
    Cast<u8>: Pointwise<(From,), Out = u8>,
    Cast<i8>: Pointwise<(From,), Out = i8>,
    Cast<i16>: Pointwise<(From,), Out = i16>,
    Cast<i32>: Pointwise<(From,), Out = i32>,
    Cast<i64>: Pointwise<(From,), Out = i64>,
    Cast<f16>: Pointwise<(From,), Out = f16>,
    Cast<bf16>: Pointwise<(From,), Out = bf16>,
    Cast<f32>: Pointwise<(From,), Out = f32>,
    Cast<f64>: Pointwise<(From,), Out = f64>,
{
    [
        levels::<Rows<Cast<bool>, (From,)>>(),
        levels::<Rows<Cast<u8>, (From,)>>(),
        levels::<Rows<Cast<i8>, (From,)>>(),
        levels::<Rows<Cast<i16>, (From,)>>(),
        levels::<Rows<Cast<i32>, (From,)>>(),
        levels::<Rows<Cast<i64>, (From,)>>(),
        levels::<Rows<Cast<f16>, (From,)>>(),
        levels::<Rows<Cast<bf16>, (From,)>>(),
        levels::<Rows<Cast<f32>, (From,)>>(),
        levels::<Rows<Cast<f64>, (From,)>>(),
    ]
}

static CASTS: [[Table; 10]; 10] = [
    casts_from::<bool>(),
    casts_from::<u8>(),
    casts_from::<i8>(),
    casts_from::<i16>(),
    casts_from::<i32>(),
    casts_from::<i64>(),
    casts_from::<f16>(),
    casts_from::<bf16>(),
    casts_from::<f32>(),
    casts_from::<f64>(),
];

/// The loop that converts elements of type `from` to type `to`.
#[inline]
pub fn cast_loop(from: DType, to: DType) -> Loop {
    CASTS[from as usize][to as usize][isa() as usize]
}

/// Copies `src` to `dst` index by index, converting if the types differ.
///
/// # Safety
/// Both are valid at every index of `shape` and aligned, `src` is initialised; `dst` has no two
/// indices in one place and does not overlap `src`.
pub unsafe fn copy(shape: &[usize], dst: Operand, src: Operand) {
    let body = (dst.dtype != src.dtype).then(|| cast_loop(src.dtype, dst.dtype));
    // SAFETY: passed on; the loop, if there is one, is for these two types.
    unsafe { engine::run(body, shape, &[dst, src]) }
}

/// Writes `value`, converted to its type, to all of `dst`.
///
/// # Safety
/// `dst` is valid for writes at every index of `shape`, aligned, and has no two indices in one
/// place.
pub unsafe fn fill(shape: &[usize], dst: Operand, value: Scalar) {
    // Eight aligned bytes hold a value of any type.
    let mut bytes = 0u64;
    let ptr: *mut u8 = (&raw mut bytes).cast();
    dispatch!(dst.dtype, T => {
        // SAFETY: `bytes` is large and aligned enough for every element type.
        unsafe { ptr.cast::<T>().write(T::from_scalar(value)) }
    });
    let zeros: SmallVec<[isize; 8]> = SmallVec::from_elem(0, shape.len());
    // SAFETY: `dst` by the caller's promise; the source is one element, broadcast.
    unsafe { copy(shape, dst, Operand { ptr, dtype: dst.dtype, strides: &zeros }) }
}
