//! Exact sums and quotients: a value as the unevaluated sum of a large and a small part.
//!
//! The classical error-free transformations (Dekker 1971, Knuth; see Muller et al., *Handbook of
//! Floating-Point Arithmetic*, chapter 4). All assume that nothing overflows.

use super::Real;

/// `hi + lo` with `|lo|` at most about half a unit in the last place of `hi`.
pub type Pair<T> = (T, T);

/// `a + b` without error, given `|a| >= |b|` or `a == 0`.
#[inline(always)]
pub fn fast_two_sum<T: Real>(a: T, b: T) -> Pair<T> {
    let sum = a + b;
    (sum, b - (sum - a))
}

/// `a + b` without error.
#[inline(always)]
pub fn two_sum<T: Real>(a: T, b: T) -> Pair<T> {
    let sum = a + b;
    let b_part = sum - a;
    (sum, (a - (sum - b_part)) + (b - b_part))
}

/// `a * b` without error.
#[inline(always)]
pub fn two_product<T: Real>(a: T, b: T) -> Pair<T> {
    let product = a * b;
    (product, a.mul_add(b, -product))
}

/// `a * b` for pairs, to about twice the working precision.
#[inline(always)]
pub fn multiply<T: Real>(a: Pair<T>, b: Pair<T>) -> Pair<T> {
    let (hi, lo) = two_product(a.0, b.0);
    fast_two_sum(hi, a.0.mul_add(b.1, a.1.mul_add(b.0, lo)))
}

/// `a / b` for pairs, to about twice the working precision, with a single division.
///
/// The quotient `q` of the large parts is off by at most two units; its remainder is exact in a
/// fused multiply-add, and remainder / divisor corrects it.
#[inline(always)]
pub fn divide<T: Real>(a: Pair<T>, b: Pair<T>) -> Pair<T> {
    let inverse = T::ONE / b.0;
    let q = a.0 * inverse;
    let remainder = (-q).mul_add(b.1, (-q).mul_add(b.0, a.0) + a.1);
    (q, remainder * inverse)
}
