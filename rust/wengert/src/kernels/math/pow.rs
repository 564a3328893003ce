//! Powers: `x^y = 2^(y log2 x)`.
//!
//! The logarithm is multiplied by up to 1000, so it needs more digits than the result has. `f32`
//! takes them from `f64`, with short polynomials. In `f64` the logarithm is carried as a pair: the quotient
//! `s = f / (2 + f)` and the first terms of `ln m = 2 s + s³ (2/3 + 2/5 s² + …)` are pairs, what
//! follows is small enough for plain arithmetic.

use super::double::{Pair, divide, fast_two_sum, multiply, two_sum};
use super::exp::{Exp, exp2_of_pair};
use super::log::{Log, split_any};
use super::{Real, polynomial};

/// What differs between the two types.
pub trait Pow: Sized {
    /// `self^y` for `self >= 0`, up to the special values that [`pow`] takes care of.
    fn pow_positive(self, y: Self) -> Self;
}

impl Pow for f32 {
    #[inline(always)]
    fn pow_positive(self, y: f32) -> f32 {
        let x = self as f64;
        // Every f32 is a normal f64 or zero.
        let (k, m) = x.split();
        let f = m - 1.0;
        let s = f / (2.0 + f);
        let s2 = s * s;
        let log = polynomial!(
            s2,
            2.8853900817778504,
            0.9617966941126671,
            0.5770779425435836,
            0.4122092359380747,
            0.31990631174306905,
            0.28289213551039355
        )
        .mul_add(s, k);
        let log = if x < f64::INFINITY { log } else { x };
        let log = if x == 0.0 { f64::NEG_INFINITY } else { log };
        // Up to here there is under- or overflow in f32, but not in f64.
        let product = (y as f64 * log).at_most(200.0).at_least(-200.0);
        let shifted = product + <f64 as Exp>::SHIFTER;
        let f = product - (shifted - <f64 as Exp>::SHIFTER);
        let p = polynomial!(
            f,
            0.9999999999619436,
            0.693147180738832,
            0.24022651196252842,
            0.055504103194879195,
            0.009618027457966801,
            0.0013333950083508023,
            0.00015469236481716273,
            1.5195577512815697e-05
        );
        (p * 4.0 * f64::quarter_power(shifted)) as f32
    }
}

impl Pow for f64 {
    #[inline(always)]
    fn pow_positive(self, y: f64) -> f64 {
        let (log, log_lo) = log2_pair(self);
        // Far beyond any exponent the product's sign and size are all that counts.
        let y = y.at_most(1e300).at_least(-1e300);
        let product = y * log;
        let (hi, lo) = multiply((log, log_lo), (y, 0.0));
        let large = product.abs() > 2000.0;
        exp2_of_pair(if large { product } else { hi }, if large { 0.0 } else { lo })
    }
}

/// log2 of a number `>= 0` with a relative error of about 2^-67.
#[inline(always)]
fn log2_pair(x: f64) -> Pair<f64> {
    const TWO_THIRDS: Pair<f64> = (2.0 / 3.0, 3.700743415417188e-17);
    const LOG2_E: Pair<f64> = (<f64 as Exp>::LOG2_E, <f64 as Log>::LOG2_E_LO);
    let (k, m) = split_any(x);
    let f = m - 1.0;
    let (hi, lo) = divide((f, 0.0), fast_two_sum(2.0, f));
    let s = fast_two_sum(hi, lo);
    let s2 = multiply(s, s);
    let tail = s2.0
        * polynomial!(
            s2.0,
            0.4,
            0.2857142857142631,
            0.2222222222277907,
            0.18181818153441842,
            0.15384610088293627,
            0.1333413145903042,
            0.11721493533656452,
            0.11584891987027635
        );
    let (q, q_lo) = fast_two_sum(TWO_THIRDS.0, tail);
    let (cubic, cubic_lo) = multiply(multiply(s, s2), (q, q_lo + TWO_THIRDS.1));
    let (hi, lo) = fast_two_sum(s.0 + s.0, cubic);
    let ln = fast_two_sum(hi, lo + (s.1 + s.1 + cubic_lo));
    let (p, p_lo) = multiply(ln, LOG2_E);
    let (hi, lo) = two_sum(k, p);
    let (hi, lo) = fast_two_sum(hi, lo + p_lo);
    let hi = if x < f64::INFINITY { hi } else { x };
    (if x == 0.0 { f64::NEG_INFINITY } else { hi }, lo)
}

/// `x^y`, with the special values of C99 `pow`.
///
/// ```
/// # use wengert::kernels::math::pow;
/// assert_eq!(pow(-2.0_f64, 3.0), -8.0);
/// assert_eq!(pow(f32::NAN, 0.0), 1.0);
/// assert!(pow(-2.0_f32, 0.5).is_nan());
/// ```
#[inline(always)]
pub fn pow<T: Real>(x: T, y: T) -> T {
    let a = x.abs();
    let p = a.pow_positive(y);
    let integer = y.floor() == y;
    let odd = integer && (y * T::HALF).floor() != y * T::HALF;
    let p = if odd { p.copysign(x) } else { p };
    let finite_base = x < T::ZERO && x > -T::INFINITY;
    let p = if finite_base && !integer { T::NAN } else { p };
    // NaN arguments have made p NaN by now; these powers are 1 even so.
    let one = x == T::ONE || y == T::ZERO || (a == T::ONE && y.abs() == T::INFINITY);
    if one { T::ONE } else { p }
}
