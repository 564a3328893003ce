//! Comparisons and logic: truth values out, no gradient.

use super::tags::*;
use crate::pointwise_rows;

pointwise_rows! {
    /// `input == other`, elementwise.
    eq(a, b) -> y as bool: "(input, other: Operand)", Same, ALL_FORMS | NONDIFF => { any: a == b }
    /// `input != other`, elementwise.
    ne(a, b) -> y as bool: "(input, other: Operand)", Same, ALL_FORMS | NONDIFF,
        aka ["not_equal"] => { any: a != b }
    /// `input < other`, elementwise.
    lt(a, b) -> y as bool: "(input, other: Operand)", Same, ALL_FORMS | NONDIFF,
        aka ["less"] => { any: a < b }
    /// `input <= other`, elementwise.
    le(a, b) -> y as bool: "(input, other: Operand)", Same, ALL_FORMS | NONDIFF,
        aka ["less_equal"] => { any: a <= b }
    /// `input > other`, elementwise.
    gt(a, b) -> y as bool: "(input, other: Operand)", Same, ALL_FORMS | NONDIFF,
        aka ["greater"] => { any: a > b }
    /// `input >= other`, elementwise.
    ge(a, b) -> y as bool: "(input, other: Operand)", Same, ALL_FORMS | NONDIFF,
        aka ["greater_equal"] => { any: a >= b }

    /// Whether both are non-zero.
    logical_and(a, b) -> y as bool: "(input, other)", Same, ALL_FORMS | NONDIFF => {
        bool: a & b, int: a != 0 && b != 0, float: a != 0.0 && b != 0.0,
    }
    /// Whether either is non-zero.
    logical_or(a, b) -> y as bool: "(input, other)", Same, ALL_FORMS | NONDIFF => {
        bool: a | b, int: a != 0 || b != 0, float: a != 0.0 || b != 0.0,
    }
    /// Whether exactly one is non-zero.
    logical_xor(a, b) -> y as bool: "(input, other)", Same, ALL_FORMS | NONDIFF => {
        bool: a ^ b, int: (a != 0) != (b != 0), float: (a != 0.0) != (b != 0.0),
    }

    /// Bitwise and.
    bitwise_and(a, b) -> y: "(input, other: Operand)", Same, ALL_FORMS | NONDIFF => {
        bool: a & b, int: a & b,
    }
    /// Bitwise or.
    bitwise_or(a, b) -> y: "(input, other: Operand)", Same, ALL_FORMS | NONDIFF => {
        bool: a | b, int: a | b,
    }
    /// Bitwise exclusive or.
    bitwise_xor(a, b) -> y: "(input, other: Operand)", Same, ALL_FORMS | NONDIFF => {
        bool: a ^ b, int: a ^ b,
    }
}
