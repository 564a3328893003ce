//! The inverse tangent.
//!
//! `|x|` is moved next to zero by `atan a = atan c + atan((a - c) / (1 + a c))` with `c` 0, 1 or
//! infinity, so that `|z| <= tan(π/8)`; the quotient is corrected to twice the precision. Then
//! `atan z = z + z³ p(z²)`.

use super::double::{divide, fast_two_sum, two_sum};
use super::{Real, polynomial};

/// What differs between the two types.
pub trait Atan: Sized {
    /// tan(π/8)
    const TAN_PI_8: Self;
    /// tan(3π/8)
    const TAN_3PI_8: Self;
    /// π/4 as a pair.
    const PI_4: (Self, Self);

    /// `(atan z - z) / z³` as a function of `z²`.
    fn atan_tail(z2: Self) -> Self;
}

impl Atan for f32 {
    const TAN_PI_8: f32 = 0.41421357;
    const TAN_3PI_8: f32 = 2.4142137;
    const PI_4: (f32, f32) = (std::f32::consts::FRAC_PI_4, -2.1855694e-8);

    #[inline(always)]
    fn atan_tail(z2: f32) -> f32 {
        polynomial!(z2, -0.33333313, 0.19998387, -0.14242159, 0.10584811, -0.06057563)
    }
}

impl Atan for f64 {
    const TAN_PI_8: f64 = 0.41421356237309503;
    const TAN_3PI_8: f64 = 2.414213562373095;
    const PI_4: (f64, f64) = (std::f64::consts::FRAC_PI_4, 3.061616997868383e-17);

    #[inline(always)]
    fn atan_tail(z2: f64) -> f64 {
        polynomial!(
            z2,
            -0.33333333333333187,
            0.19999999999950993,
            -0.1428571427996139,
            0.11111110772674193,
            -0.09090897469850523,
            0.07692055422935296,
            -0.06663052759661574,
            0.05847536165801792,
            -0.050377929956588206,
            0.038027951081473735,
            -0.017868889162943585,
        )
    }
}

/// The inverse tangent, in `[-π/2, π/2]`.
///
/// ```
/// # use wengert::kernels::math::atan;
/// assert_eq!(atan(f64::INFINITY), std::f64::consts::FRAC_PI_2);
/// ```
#[inline(always)]
pub fn atan<T: Real>(x: T) -> T {
    let a = x.abs();
    let near_zero = a <= T::TAN_PI_8;
    let large = a > T::TAN_3PI_8;
    let (minus, minus_lo) = two_sum(a, -T::ONE);
    let (plus, plus_lo) = two_sum(a, T::ONE);
    let numerator = if large { (-T::ONE, T::ZERO) } else { (minus, minus_lo) };
    let numerator = if near_zero { (a, T::ZERO) } else { numerator };
    let denominator = if large { (a, T::ZERO) } else { (plus, plus_lo) };
    let denominator = if near_zero { (T::ONE, T::ZERO) } else { denominator };
    // Beyond 2/epsilon² the quotient is nothing, and at infinity its correction NaN.
    let z = divide(numerator, (denominator.0.at_most(T::LIFT * T::LIFT * T::LIFT), denominator.1));
    let eighths = if large { T::TWO } else { T::ONE };
    let eighths = if near_zero { T::ZERO } else { eighths };
    let z2 = z.0 * z.0;
    let small = (z2 * z.0).mul_add(T::atan_tail(z2), z.1);
    let (hi, lo) = fast_two_sum(eighths * T::PI_4.0, z.0);
    let y = hi + (lo + eighths.mul_add(T::PI_4.1, small));
    y.copysign(x)
}
