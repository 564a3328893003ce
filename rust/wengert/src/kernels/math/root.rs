//! Square roots.

use super::Real;

/// The square root, correctly rounded by the hardware.
#[inline(always)]
pub fn sqrt<T: Real>(x: T) -> T {
    x.sqrt()
}

/// `1 / √x`.
///
/// With `s = √x` rounded and `y = 1 / s` rounded, both remainders are exact in a fused
/// multiply-add: `x = s² + a`, `1 = s y + b`. Then `1 / √x = y (1 + b - a / (2 s²))` up to
/// second order.
///
/// ```
/// # use wengert::kernels::math::rsqrt;
/// assert_eq!(rsqrt(4.0_f32), 0.5);
/// assert_eq!(rsqrt(0.0_f64), f64::INFINITY);
/// ```
#[inline(always)]
pub fn rsqrt<T: Real>(x: T) -> T {
    // Where the remainder a would be subnormal, 2^50 x (f64: 2^108 x) takes the place of x.
    let small = x < T::MIN_NORMAL * T::LIFT * T::LIFT;
    let lifted = if small { x * T::LIFT * T::LIFT } else { x };
    let s = lifted.sqrt();
    let y = T::ONE / s;
    let a = (-s).mul_add(s, lifted);
    let b = (-s).mul_add(y, T::ONE);
    let corrected = y.mul_add((-T::HALF * a * y).mul_add(y, b), y);
    // Zero, infinity and their like need no correction, and cannot be given one.
    let y = if x > T::ZERO && x < T::INFINITY { corrected } else { y };
    if small { y * T::LIFT } else { y }
}
