//! Pointwise operations of whole numbers.

use super::tags::*;
use crate::pointwise_rows;

/// Euclid's algorithm. Data decides how long it runs, some sixty steps at most.
fn common_divisor(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

pointwise_rows! {
    /// The greatest common divisor, elementwise with broadcasting; of two zeros, 0.
    ///
    /// It is not negative, except where that is no number of the type: the magnitude of the smallest
    /// number wraps to that number itself.
    gcd(a, b) -> y: "(input, other)", Same, ALL_FORMS | NONDIFF => {
        u8: common_divisor(a as u64, b as u64) as T,
        signed: common_divisor(a.unsigned_abs() as u64, b.unsigned_abs() as u64) as T,
    }

    /// The least common multiple, elementwise with broadcasting; 0 where either is 0.
    ///
    /// It is not negative, and wraps where it is no number of the type.
    lcm(a, b) -> y: "(input, other)", Same, ALL_FORMS | NONDIFF => {
        u8: {
            let d = common_divisor(a as u64, b as u64) as T;
            if d == 0 { 0 } else { (a / d).wrapping_mul(b) }
        },
        signed: {
            let d = common_divisor(a.unsigned_abs() as u64, b.unsigned_abs() as u64) as T;
            if d == 0 { 0 } else { a.wrapping_div(d).wrapping_mul(b).wrapping_abs() }
        },
    }
}
