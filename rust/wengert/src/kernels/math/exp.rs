//! Exponentials: `exp`, `exp2`, `expm1`.
//!
//! `e^x = 2^n e^r` with `n` the nearest integer to `x / ln 2` and `|r| <= ln 2 / 2`, and
//! `e^r = 1 + r + r² p(r)`.
//!
//! - `n` is found by adding a *shifter*, `1.5 · 2^(mantissa bits)`: the sum has no room for a
//!   fraction, so the addition itself rounds, and the low bits of the sum are `n` in two's
//!   complement. No conversion to integers, which AVX2 lacks for `f64`.
//! - The shifter also carries twice the exponent bias. So the low bits hold `u = n + 2 bias`,
//!   and `u / 2` and `u - u / 2` are the biased exponents of two factors whose product is `2^n`.
//!   Two factors reach into the subnormal numbers and up to overflow, where one cannot; the
//!   first multiplication is exact, so the result is rounded once.
//! - `x - n ln2_hi` is exact in a fused multiply-add: both are multiples of the same tiny power
//!   of two and the difference is below 1.

use super::double::{Pair, fast_two_sum, two_product, two_sum};
use super::{Real, polynomial};

/// What differs between the two types.
pub trait Exp: Sized {
    /// log2(e)
    const LOG2_E: Self;
    /// ln(2), rounded.
    const LN_2_HI: Self;
    /// ln(2) - `LN_2_HI`, rounded.
    const LN_2_LO: Self;
    /// `1.5 · 2^(mantissa bits) + 2 · bias`; adding it rounds to an integer.
    const SHIFTER: Self;
    /// From here on sinh, and with it e^x, overflows; so close that e^x / 4 does not.
    const EXP_MAX: Self;
    /// Up to here e^x is zero (a little below the true border).
    const EXP_MIN: Self;
    /// Up to here e^x - 1 rounds to -1.
    const EXPM1_MIN: Self;
    /// From here on e^-x vanishes beside e^x, and e^-x beside x.
    const NEGLIGIBLE: Self;

    /// `(e^r - 1 - r) / r²` for `|r| <= ln 2 / 2`.
    fn exp_tail(r: Self) -> Self;
    /// `self · 2^n` for `shifted = n + SHIFTER`, also where `2^n` itself is not a normal number.
    fn scale(self, shifted: Self) -> Self;
    /// `2^(n - 2)` for `shifted = n + SHIFTER`, `n - 2` in the range of normal exponents.
    fn quarter_power(shifted: Self) -> Self;
}

impl Exp for f32 {
    const LOG2_E: f32 = std::f32::consts::LOG2_E;
    const LN_2_HI: f32 = std::f32::consts::LN_2;
    const LN_2_LO: f32 = -1.9046542e-9;
    const SHIFTER: f32 = (3 << 22) as f32 + 254.0;
    const EXP_MAX: f32 = 89.5;
    const EXP_MIN: f32 = -104.0;
    const EXPM1_MIN: f32 = -20.0;
    const NEGLIGIBLE: f32 = 20.0;

    #[inline(always)]
    fn exp_tail(r: f32) -> f32 {
        polynomial!(r, 0.5, 0.16666666, 0.041666478, 0.0083335675, 0.0013933708, 0.00019742562)
    }

    #[inline(always)]
    fn scale(self, shifted: f32) -> f32 {
        let u = shifted.to_bits();
        let half = u >> 1;
        self * f32::from_bits(half << 23) * f32::from_bits((u - half) << 23)
    }

    #[inline(always)]
    fn quarter_power(shifted: f32) -> f32 {
        f32::from_bits(shifted.to_bits().wrapping_sub(129) << 23)
    }
}

impl Exp for f64 {
    const LOG2_E: f64 = std::f64::consts::LOG2_E;
    const LN_2_HI: f64 = std::f64::consts::LN_2;
    const LN_2_LO: f64 = 2.3190468138462996e-17;
    const SHIFTER: f64 = (3_u64 << 51) as f64 + 2046.0;
    const EXP_MAX: f64 = 710.5;
    const EXP_MIN: f64 = -746.0;
    const EXPM1_MIN: f64 = -40.0;
    const NEGLIGIBLE: f64 = 40.0;

    #[inline(always)]
    fn exp_tail(r: f64) -> f64 {
        polynomial!(
            r,
            0.5,
            0.16666666666666677,
            0.0416666666666666,
            0.008333333333321443,
            0.0013888888888928337,
            0.00019841269886570426,
            2.4801587227621047e-5,
            2.7557243776384498e-6,
            2.755736178023577e-7,
            2.5109185938735996e-8,
            2.0886684693563505e-9,
        )
    }

    #[inline(always)]
    fn scale(self, shifted: f64) -> f64 {
        let u = shifted.to_bits();
        let half = u >> 1;
        self * f64::from_bits(half << 52) * f64::from_bits((u - half) << 52)
    }

    #[inline(always)]
    fn quarter_power(shifted: f64) -> f64 {
        f64::from_bits(shifted.to_bits().wrapping_sub(1025) << 52)
    }
}

/// `e^x = 2^n (1 + r + c)`, `c` small beside `r`; returns `(n + SHIFTER, r, c)`.
#[inline(always)]
fn reduce<T: Real>(x: T) -> (T, T, T) {
    let (shifted, r, r_lo) = reduce_argument(x);
    (shifted, r, (r * r).mul_add(T::exp_tail(r), r_lo))
}

/// `x = n ln 2 + r + r_lo`; returns `(n + SHIFTER, r, r_lo)`.
#[inline(always)]
fn reduce_argument<T: Real>(x: T) -> (T, T, T) {
    let shifted = x.mul_add(T::LOG2_E, T::SHIFTER);
    let n = shifted - T::SHIFTER;
    let exact = (-n).mul_add(T::LN_2_HI, x);
    let r = (-n).mul_add(T::LN_2_LO, exact);
    (shifted, r, (-n).mul_add(T::LN_2_LO, exact - r))
}

/// `e^x` as a pair, to a quarter of a unit; for `EXP_MIN <= x < EXP_MAX - 2`.
#[inline(always)]
pub(super) fn exp_pair<T: Real>(x: T) -> Pair<T> {
    let (shifted, r, c) = reduce(x);
    let (hi, lo) = fast_two_sum(T::ONE, r + c);
    (hi.scale(shifted), lo.scale(shifted))
}

/// `e^(x + x_lo)`; for `EXP_MIN <= x < EXP_MAX - 2`.
#[inline(always)]
pub(super) fn exp_of_pair<T: Real>(x: T, x_lo: T) -> Pair<T> {
    let (shifted, r, r_lo) = reduce_argument(x);
    // x_lo can be far larger than the last place of r.
    let (r, r_lo) = two_sum(r, r_lo + x_lo);
    let (hi, lo) = fast_two_sum(T::ONE, r);
    let (hi, lo) = fast_two_sum(hi, lo + (r * r).mul_add(T::exp_tail(r), r_lo));
    (hi.scale(shifted), lo.scale(shifted))
}

/// `e^x / 4` as a pair, to a quarter of a unit; for `0 <= x <= EXP_MAX`.
#[inline(always)]
pub(super) fn exp_quarter<T: Real>(x: T) -> Pair<T> {
    let (shifted, r, c) = reduce(x);
    let s = T::quarter_power(shifted);
    let (hi, lo) = fast_two_sum(T::ONE, r + c);
    (s * hi, s * lo)
}

/// `(e^x - 1) / 4` as a pair; for `EXPM1_MIN <= x <= EXP_MAX`.
///
/// A quarter, so that nothing overflows where `sinh` does not.
///
/// With `s = 2^n`: `(s - 1) + s r` is exact as a pair, because `s` is a power of two and
/// `|s - 1| >= s / 2 >= |s r|` unless `s = 1`, where the first term is zero.
#[inline(always)]
pub(super) fn expm1_quarter<T: Real>(x: T) -> Pair<T> {
    let (shifted, r, c) = reduce(x);
    let s = T::quarter_power(shifted);
    let (base, base_lo) = two_sum(s, -(T::HALF * T::HALF));
    let (hi, lo) = fast_two_sum(base, s * r);
    fast_two_sum(hi, lo + s.mul_add(c, base_lo))
}

/// `e^x`.
///
/// ```
/// # use wengert::kernels::math::exp;
/// assert_eq!(exp(1.0_f64), std::f64::consts::E);
/// assert_eq!(exp(f32::NEG_INFINITY), 0.0);
/// ```
#[inline(always)]
pub fn exp<T: Real>(x: T) -> T {
    let (shifted, r, c) = reduce(x.at_least(T::EXP_MIN).at_most(T::EXP_MAX));
    (T::ONE + (r + c)).scale(shifted)
}

/// `e^x` to a unit or so, where neither it nor a quarter of it leaves the normal numbers.
#[inline(always)]
pub(super) fn exp_moderate<T: Real>(x: T) -> T {
    let shifted = x.mul_add(T::LOG2_E, T::SHIFTER);
    let n = shifted - T::SHIFTER;
    let r = (-n).mul_add(T::LN_2_LO, (-n).mul_add(T::LN_2_HI, x));
    let c = (r * r).mul_add(T::exp_tail(r), r);
    (T::ONE + c) * (T::quarter_power(shifted) * (T::TWO * T::TWO))
}

/// `2^x`, exact for integers.
///
/// `2^x = 2^n e^(f ln 2)` with `f = x - n`; the product is formed as a pair.
#[inline(always)]
pub fn exp2<T: Real>(x: T) -> T {
    let (shifted, f) = nearest_integer(x);
    exp2_reduced(shifted, f, T::ZERO)
}

/// `2^(x + x_lo)`.
#[inline(always)]
pub(super) fn exp2_of_pair<T: Real>(x: T, x_lo: T) -> T {
    let (shifted, f) = nearest_integer(x);
    // x_lo can be far larger than the last place of f.
    let (f, f_lo) = two_sum(f, x_lo);
    exp2_reduced(shifted, f, f_lo)
}

/// `x = n + f`; returns `(n + SHIFTER, f)`.
#[inline(always)]
fn nearest_integer<T: Real>(x: T) -> (T, T) {
    let x = x.at_least(T::EXP_MIN * T::TWO).at_most(T::EXP_MAX * T::TWO);
    let shifted = x + T::SHIFTER;
    (shifted, x - (shifted - T::SHIFTER))
}

/// `2^(n + f + f_lo)`.
#[inline(always)]
fn exp2_reduced<T: Real>(shifted: T, f: T, f_lo: T) -> T {
    let (r, r_lo) = two_product(f, T::LN_2_HI);
    let r_lo = f_lo.mul_add(T::LN_2_HI, f.mul_add(T::LN_2_LO, r_lo));
    let c = (r * r).mul_add(T::exp_tail(r), r_lo);
    (T::ONE + (r + c)).scale(shifted)
}

/// `e^x - 1` without cancellation near zero.
///
/// ```
/// # use wengert::kernels::math::expm1;
/// assert_eq!(expm1(1e-20_f64), 1e-20);
/// assert_eq!(expm1(f64::NEG_INFINITY), -1.0);
/// ```
#[inline(always)]
pub fn expm1<T: Real>(x: T) -> T {
    let (hi, lo) = expm1_quarter(x.at_least(T::EXPM1_MIN).at_most(T::EXP_MAX));
    let y = (hi + lo) * (T::TWO * T::TWO);
    // The quarter of a subnormal is not exact, and -0 + 0 is +0.
    if x.abs() < T::EPSILON * T::HALF * T::HALF { x } else { y }
}
