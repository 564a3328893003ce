//! Logarithms: `ln`, `log1p`, `log2`, `log10`, and `softplus`, `logsigmoid` built on `log1p`.
//!
//! `x = 2^k m` with `m` in `[√½, √2)`, read off the bits. With `f = m - 1` (exact) and
//! `s = f / (2 + f)`: `ln m = ln((1 + s) / (1 - s)) = 2 s + s³ p(s²)`, and because
//! `2 s = f - f²/2 + s f²/2`, the large part `f` is exact and only a small part rounds
//! (the arrangement of Sun's fdlibm).

use super::double::{Pair, fast_two_sum, two_product, two_sum};
use super::exp::exp_pair;
use super::{Real, polynomial};

/// What differs between the two types.
pub trait Log: Sized {
    /// The smallest normal number.
    const MIN_NORMAL: Self;
    /// A power of two that makes every subnormal number normal.
    const LIFT: Self;
    /// log2 of `LIFT`.
    const LIFT_EXPONENT: Self;
    /// log2(e) - `LOG2_E`, rounded.
    const LOG2_E_LO: Self;
    /// log10(e) as a pair.
    const LOG10_E: Pair<Self>;
    /// log10(2) as a pair.
    const LOG10_2: Pair<Self>;

    /// `(k, m)` with `self = 2^k m`, `m` in `[√½, √2)`, for normal positive numbers.
    fn split(self) -> (Self, Self);
    /// `2^-k` for the `k` of `split`, where that is a normal number.
    fn inverse_power(k: Self) -> Self;
    /// `(ln((1 + s) / (1 - s)) - 2 s) / s³` as a function of `s²`.
    fn log_tail(s2: Self) -> Self;
}

impl Log for f32 {
    const MIN_NORMAL: f32 = f32::MIN_POSITIVE;
    const LIFT: f32 = (1 << 25) as f32;
    const LIFT_EXPONENT: f32 = 25.0;
    const LOG2_E_LO: f32 = 1.925963e-8;
    const LOG10_E: Pair<f32> = (std::f32::consts::LOG10_E, -1.010305e-8);
    const LOG10_2: Pair<f32> = (std::f32::consts::LOG10_2, -1.4320989e-8);

    #[inline(always)]
    fn split(self) -> (f32, f32) {
        const SQRT_HALF: u32 = std::f32::consts::FRAC_1_SQRT_2.to_bits();
        const ONE: u32 = 1.0_f32.to_bits();
        // Adding the distance from √½ to 1 carries into the exponent exactly for m >= √2.
        let bits = self.to_bits().wrapping_add(ONE - SQRT_HALF);
        // The biased exponent becomes a float by way of 2^23 + exponent.
        const TWO_23: f32 = (1 << 23) as f32;
        let k = f32::from_bits((bits >> 23) | TWO_23.to_bits()) - (TWO_23 + 127.0);
        (k, f32::from_bits((bits & 0x007f_ffff) + SQRT_HALF))
    }

    #[inline(always)]
    fn inverse_power(k: f32) -> f32 {
        f32::from_bits((<f32 as super::exp::Exp>::SHIFTER - 127.0 - k).to_bits() << 23)
    }

    #[inline(always)]
    fn log_tail(s2: f32) -> f32 {
        polynomial!(s2, 0.6666666, 0.4000085, 0.2851014, 0.24029207)
    }
}

impl Log for f64 {
    const MIN_NORMAL: f64 = f64::MIN_POSITIVE;
    const LIFT: f64 = (1_u64 << 54) as f64;
    const LIFT_EXPONENT: f64 = 54.0;
    const LOG2_E_LO: f64 = 2.0355273740931033e-17;
    const LOG10_E: Pair<f64> = (std::f64::consts::LOG10_E, 1.098319650216765e-17);
    const LOG10_2: Pair<f64> = (std::f64::consts::LOG10_2, -2.8037281277851704e-18);

    #[inline(always)]
    fn split(self) -> (f64, f64) {
        const SQRT_HALF: u64 = std::f64::consts::FRAC_1_SQRT_2.to_bits();
        const ONE: u64 = 1.0_f64.to_bits();
        const TWO_52: f64 = (1_u64 << 52) as f64;
        let bits = self.to_bits().wrapping_add(ONE - SQRT_HALF);
        let k = f64::from_bits((bits >> 52) | TWO_52.to_bits()) - (TWO_52 + 1023.0);
        (k, f64::from_bits((bits & 0x000f_ffff_ffff_ffff) + SQRT_HALF))
    }

    #[inline(always)]
    fn inverse_power(k: f64) -> f64 {
        f64::from_bits((<f64 as super::exp::Exp>::SHIFTER - 1023.0 - k).to_bits() << 52)
    }

    #[inline(always)]
    fn log_tail(s2: f64) -> f64 {
        polynomial!(
            s2,
            0.6666666666666666,
            0.40000000000004887,
            0.28571428569426094,
            0.22222222604618858,
            0.1818177853963495,
            0.15386981138828093,
            0.13252312996774662,
            0.13233360231999702,
        )
    }
}

/// `split` for every positive finite number.
#[inline(always)]
pub(super) fn split_any<T: Real>(x: T) -> (T, T) {
    let subnormal = x < T::MIN_NORMAL;
    let (k, m) = (if subnormal { x * T::LIFT } else { x }).split();
    (if subnormal { k - T::LIFT_EXPONENT } else { k }, m)
}

/// `ln(1 + f) - f`, for `1 + f` in `[√½, √2)`.
#[inline(always)]
fn log_correction<T: Real>(f: T) -> T {
    let s = f / (T::TWO + f);
    let s2 = s * s;
    let half_f2 = T::HALF * f * f;
    let small = s * s2.mul_add(T::log_tail(s2), half_f2);
    (-T::HALF * f).mul_add(f, small)
}

/// Values where the formulas do not hold: 0, negative numbers, infinity, NaN.
#[inline(always)]
fn with_special_values<T: Real>(x: T, y: T) -> T {
    let y = if x < T::INFINITY { y } else { x };
    let y = if x == T::ZERO { -T::INFINITY } else { y };
    if x < T::ZERO { T::NAN } else { y }
}

/// The natural logarithm.
///
/// ```
/// # use wengert::kernels::math::ln;
/// assert_eq!(ln(1.0_f32), 0.0);
/// assert_eq!(ln(0.0_f64), f64::NEG_INFINITY);
/// assert!(ln(-1.0_f64).is_nan());
/// ```
#[inline(always)]
pub fn ln<T: Real>(x: T) -> T {
    let (k, m) = split_any(x);
    let f = m - T::ONE;
    let (k_hi, k_lo) = two_product(k, T::LN_2_HI);
    let k_lo = k.mul_add(T::LN_2_LO, k_lo);
    // |k ln 2| > |f| unless k = 0.
    let (hi, lo) = fast_two_sum(k_hi, f);
    with_special_values(x, hi + (lo + (log_correction(f) + k_lo)))
}

/// The logarithm to the base whose `log(e)` and `log(2)` are given, each as a pair.
#[inline(always)]
fn log_base<T: Real>(x: T, log_e: Pair<T>, log_2: Pair<T>) -> T {
    let (k, m) = split_any(x);
    let f = m - T::ONE;
    let (l, l_lo) = fast_two_sum(f, log_correction(f));
    let (p, p_lo) = two_product(l, log_e.0);
    let p_lo = l.mul_add(log_e.1, l_lo.mul_add(log_e.0, p_lo));
    let (k_hi, k_lo) = two_product(k, log_2.0);
    let (hi, lo) = fast_two_sum(k_hi, p);
    with_special_values(x, hi + (lo + (p_lo + k.mul_add(log_2.1, k_lo))))
}

/// The logarithm to base 2, exact for powers of two.
#[inline(always)]
pub fn log2<T: Real>(x: T) -> T {
    log_base(x, (T::LOG2_E, T::LOG2_E_LO), (T::ONE, T::ZERO))
}

/// The logarithm to base 10, exact for powers of ten.
#[inline(always)]
pub fn log10<T: Real>(x: T) -> T {
    log_base(x, T::LOG10_E, T::LOG10_2)
}

/// `ln(1 + x + x_lo)` as a pair; for finite `x > -1`, `x_lo` below half a unit of `x`.
///
/// `1 + x` is formed as a pair `(u, c)`; `ln(u + c) = ln u + c / u - …`, and for the small
/// quotient `1 - f + f²` is close enough to `1 / (1 + f)`. The square of `c` shows only where
/// `f = 0` and `c` is all there is.
#[inline(always)]
fn log1p_pair<T: Real>(x: T, x_lo: T) -> Pair<T> {
    let (u, c) = two_sum(T::ONE, x);
    let (k, m) = u.split();
    // For larger k the correction is far below the last place, but 2^-k may not be normal.
    let c = (c + x_lo) * T::inverse_power(k.at_most(T::LIFT_EXPONENT * T::TWO));
    let f = m - T::ONE;
    let quotient = c.mul_add((f - T::ONE).mul_add(f, -T::HALF * c), c);
    let (k_hi, k_lo) = two_product(k, T::LN_2_HI);
    let k_lo = k.mul_add(T::LN_2_LO, k_lo);
    let (hi, lo) = fast_two_sum(k_hi, f);
    fast_two_sum(hi, lo + ((log_correction(f) + k_lo) + quotient))
}

/// `ln(1 + x)` without cancellation near zero.
///
/// ```
/// # use wengert::kernels::math::log1p;
/// assert_eq!(log1p(1e-20_f64), 1e-20);
/// assert_eq!(log1p(-1.0_f32), f32::NEG_INFINITY);
/// ```
#[inline(always)]
pub fn log1p<T: Real>(x: T) -> T {
    let (hi, lo) = log1p_pair(x, T::ZERO);
    let y = if x.abs() < T::EPSILON * T::EPSILON { x } else { hi + lo };
    let y = if x < T::INFINITY { y } else { x };
    let y = if x == -T::ONE { -T::INFINITY } else { y };
    if x < -T::ONE { T::NAN } else { y }
}

/// `ln(1 + e^x)`, without overflow: `max(x, 0) + ln(1 + e^-|x|)`.
///
/// ```
/// # use wengert::kernels::math::softplus;
/// assert_eq!(softplus(1000.0_f32), 1000.0);
/// assert_eq!(softplus(0.0_f64), std::f64::consts::LN_2);
/// ```
#[inline(always)]
pub fn softplus<T: Real>(x: T) -> T {
    let e = exp_pair((-x.abs()).at_least(T::EXP_MIN));
    let l = log1p_pair(e.0, e.1);
    let (hi, lo) = two_sum(x.at_least(T::ZERO), l.0);
    let y = hi + (lo + l.1);
    // ln(1 + e) = e - e²/2 + …, exact to the last place where the cube no longer counts.
    let square = e.0 * e.0;
    let tiny = square < T::EPSILON * (T::HALF * T::HALF * T::HALF * T::HALF);
    let y = if tiny && x < T::ZERO { e.0 + (-T::HALF).mul_add(square, e.1) } else { y };
    if x > T::NEGLIGIBLE { x } else { y }
}

/// `ln(sigmoid(x)) = -softplus(-x)`.
#[inline(always)]
pub fn logsigmoid<T: Real>(x: T) -> T {
    -softplus(-x)
}
