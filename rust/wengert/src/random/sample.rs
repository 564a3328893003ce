//! Element types as targets of a draw.

use crate::dtype::Element;
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

/// Conversion of a drawn number to an element, with the meaning of a C++ `static_cast`.
///
/// Half precision converts through `f32`, even from `f64` and from integers: two roundings, which
/// now and then differ from one. Integers wrap; floats that exceed an integer type saturate at 64
/// bits first and then wrap.
pub trait Sample: Element + PartialEq {
    /// Bits of the significand, the implicit one included; for integers, bits of the value.
    const DIGITS: u32;
    /// The C++ name of the type, for error texts.
    const CPP_NAME: &'static str;
    /// Converts a single.
    fn from_f32(x: f32) -> Self;
    /// Converts a double.
    fn from_f64(x: f64) -> Self;
    /// Converts an integer.
    fn from_i64(x: i64) -> Self;
    /// Converts as many singles as `out` holds.
    #[inline(always)]
    fn store_f32(out: &mut [Self], x: &[f32]) {
        for (o, &x) in out.iter_mut().zip(x) {
            *o = Self::from_f32(x);
        }
    }
    /// The value as a double.
    fn to_f64(self) -> f64;
    /// The least and greatest finite value, as doubles.
    fn limits() -> (f64, f64);
}

macro_rules! integers {
    ($($t:ty, $name:literal;)*) => { $(
        impl Sample for $t {
            const DIGITS: u32 = <$t>::MAX.count_ones();
            const CPP_NAME: &'static str = $name;
            #[inline]
            fn from_f32(x: f32) -> Self {
                x as i64 as $t
            }
            #[inline]
            fn from_f64(x: f64) -> Self {
                x as i64 as $t
            }
            #[inline]
            fn from_i64(x: i64) -> Self {
                x as $t
            }
            #[inline]
            fn to_f64(self) -> f64 {
                self as f64
            }
            fn limits() -> (f64, f64) {
                (<$t>::MIN as f64, <$t>::MAX as f64)
            }
        }
    )* };
}

integers! {
    u8, "unsigned char";
    i8, "signed char";
    i16, "short int";
    i32, "int";
    i64, "long int";
}

macro_rules! floats {
    ($($t:ty, $name:literal, $f32:expr, $f64:expr, $i64:expr, $to:expr $(, $store:item)?;)*) => { $(
        impl Sample for $t {
            const DIGITS: u32 = <$t>::MANTISSA_DIGITS;
            const CPP_NAME: &'static str = $name;
            #[inline]
            fn from_f32(x: f32) -> Self {
                ($f32)(x)
            }
            #[inline]
            fn from_f64(x: f64) -> Self {
                ($f64)(x)
            }
            #[inline]
            fn from_i64(x: i64) -> Self {
                ($i64)(x)
            }
            #[inline]
            fn to_f64(self) -> f64 {
                ($to)(self)
            }
            $($store)?
            fn limits() -> (f64, f64) {
                (($to)(<$t>::MIN), ($to)(<$t>::MAX))
            }
        }
    )* };
}

floats! {
    f16, "c10::Half", f16::from_f32, |x| f16::from_f32(x as f32), |x| f16::from_f32(x as f32),
        f16::to_f64,
        // One element at a time would ask for the CPU's features each time.
        fn store_f32(out: &mut [f16], x: &[f32]) {
            out.convert_from_f32_slice(&x[..out.len()]);
        };
    bf16, "c10::BFloat16", bf16::from_f32, |x| bf16::from_f32(x as f32),
        |x| bf16::from_f32(x as f32), bf16::to_f64;
    f32, "float", |x| x, |x| x as f32, |x| x as f32, |x| x as f64;
    f64, "double", |x| x as f64, |x| x, |x| x as f64, |x| x;
}

impl Sample for bool {
    const DIGITS: u32 = 1;
    const CPP_NAME: &'static str = "bool";
    #[inline]
    fn from_f32(x: f32) -> Self {
        x != 0.0
    }
    #[inline]
    fn from_f64(x: f64) -> Self {
        x != 0.0
    }
    #[inline]
    fn from_i64(x: i64) -> Self {
        x != 0
    }
    #[inline]
    fn to_f64(self) -> f64 {
        self as u8 as f64
    }
    fn limits() -> (f64, f64) {
        (0.0, 1.0)
    }
}
