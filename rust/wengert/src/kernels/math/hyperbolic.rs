//! `tanh`, `sinh`, `cosh` and the logistic `sigmoid`, from `e^x` or `e^x - 1` as a pair.
//!
//! Each is a quotient or sum of exponentials; carried as pairs (see [`super::double`]), only
//! the last addition rounds.

use super::Real;
use super::double::{divide, fast_two_sum, two_sum};
use super::exp::{exp_pair, exp_quarter, expm1_quarter};

/// `tanh x = t / (t + 2)` with `t = e^(2|x|) - 1`, odd.
///
/// ```
/// # use wengert::kernels::math::tanh;
/// assert_eq!(tanh(f32::NEG_INFINITY), -1.0);
/// assert!(tanh(-0.0_f64).is_sign_negative());
/// ```
#[inline(always)]
pub fn tanh<T: Real>(x: T) -> T {
    // From here on the quotient rounds to 1.
    let a = x.abs().at_most(T::NEGLIGIBLE * T::HALF);
    let t = expm1_quarter(a + a);
    let (hi, lo) = two_sum(t.0, T::HALF);
    let (hi, lo) = divide(t, (hi, lo + t.1));
    let y = if a < T::EPSILON { a } else { hi + lo };
    y.copysign(x)
}

/// The logistic function `1 / (1 + e^-x)`.
///
/// With `e = e^-|x|` it is `1 / (1 + e)` or, for negative `x`, `e / (1 + e)`: no overflow, and
/// full relative accuracy in the lower tail.
///
/// ```
/// # use wengert::kernels::math::sigmoid;
/// assert_eq!(sigmoid(0.0_f32), 0.5);
/// assert_eq!(sigmoid(-1000.0_f64), 0.0);
/// ```
#[inline(always)]
pub fn sigmoid<T: Real>(x: T) -> T {
    let e = exp_pair((-x.abs()).at_least(T::EXP_MIN));
    let (hi, lo) = fast_two_sum(T::ONE, e.0);
    let numerator = if x < T::ZERO { e } else { (T::ONE, T::ZERO) };
    let (hi, lo) = divide(numerator, (hi, lo + e.1));
    hi + lo
}

/// `sinh x = (t + t / (t + 1)) / 2` with `t = e^|x| - 1`, odd.
#[inline(always)]
pub fn sinh<T: Real>(x: T) -> T {
    let a = x.abs();
    let quarter = T::HALF * T::HALF;
    let t = expm1_quarter(a.at_most(T::EXP_MAX));
    let (hi, lo) = two_sum(t.0, quarter);
    let q = divide(t, (hi, lo + t.1));
    let (hi, lo) = fast_two_sum(t.0, quarter * q.0);
    let y = T::TWO * (hi + quarter.mul_add(q.1, lo + t.1));
    let y = if a < T::EPSILON { a } else { y };
    let y = if a > T::EXP_MAX { T::INFINITY } else { y };
    y.copysign(x)
}

/// `cosh x = e^|x| / 2 + 1 / (2 e^|x|)`.
#[inline(always)]
pub fn cosh<T: Real>(x: T) -> T {
    let a = x.abs();
    let e = exp_quarter(a.at_most(T::EXP_MAX));
    let q = divide((T::HALF * T::HALF * T::HALF * T::HALF, T::ZERO), e);
    let (hi, lo) = fast_two_sum(e.0, q.0);
    let y = T::TWO * (hi + (lo + (e.1 + q.1)));
    if a > T::EXP_MAX { T::INFINITY } else { y }
}
