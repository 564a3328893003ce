//! Numbers as Python writes them.
//!
//! Python and the Rust standard library agree on every digit: both round the exact binary value
//! once, correctly, ties to even. They differ in dress only. Rust writes `1e5` where Python
//! writes `1e+05`, and `NaN` where Python writes `nan`; the functions here put that right. They
//! append to a string, because printing a tensor would otherwise allocate for every element.

use crate::dtype::Scalar;
use std::fmt::{Arguments, Write};

/// Appends `x` with `precision` digits after the point: Python's `f"{x:.4f}"`.
pub fn push_fixed(out: &mut String, x: f64, precision: u16) {
    if !push_non_finite(out, x) {
        push(out, format_args!("{x:.precision$}", precision = usize::from(precision)));
    }
}

/// Appends `x` in scientific notation, the exponent signed and at least two digits long:
/// Python's `f"{x:.4e}"`.
pub fn push_scientific(out: &mut String, x: f64, precision: u16) {
    if !push_non_finite(out, x) {
        let start = out.len();
        push(out, format_args!("{x:.precision$e}", precision = usize::from(precision)));
        dress_exponent(out, start);
    }
}

/// Appends the shortest decimal that reads back as `x`: Python's `repr(x)`.
pub fn push_repr(out: &mut String, x: f64) {
    if !push_non_finite(out, x) {
        let start = out.len();
        // Like `repr`, Rust's `Debug` (not its `Display`) turns to an exponent below 1e-4 and
        // from 1e16 on.
        push(out, format_args!("{x:?}"));
        dress_exponent(out, start);
    }
}

/// A number as Python's `repr` and `str` write it: `True`, `-3`, `0.1`, `1e-05`, `nan`.
///
/// ```
/// use wengert::{Scalar, format::scalar_repr};
/// assert_eq!(scalar_repr(Scalar::Float(1e16)), "1e+16");
/// assert_eq!(scalar_repr(Scalar::Bool(true)), "True");
/// ```
pub fn scalar_repr(value: Scalar) -> String {
    let mut out = String::new();
    match value {
        Scalar::Float(x) => push_repr(&mut out, x),
        whole => push(&mut out, format_args!("{whole}")),
    }
    out
}

/// Appends formatted text.
pub(super) fn push(out: &mut String, text: Arguments<'_>) {
    out.write_fmt(text).expect("a String grows as far as it must");
}

/// Appends `nan`, `inf` or `-inf`, if `x` is one of them. Python prints no sign on a NaN.
fn push_non_finite(out: &mut String, x: f64) -> bool {
    if x.is_nan() {
        out.push_str("nan");
    } else if x.is_infinite() {
        out.push_str(if x > 0.0 { "inf" } else { "-inf" });
    }
    !x.is_finite()
}

/// Rewrites the exponent of the number at `out[start..]`, if it has one: `e5` to `e+05`.
fn dress_exponent(out: &mut String, start: usize) {
    let Some(e) = out[start..].find('e') else { return };
    let exponent = out.split_off(start + e + 1);
    let (sign, digits) = match exponent.strip_prefix('-') {
        Some(digits) => ('-', digits),
        None => ('+', exponent.as_str()),
    };
    push(out, format_args!("{sign}{digits:0>2}"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(push: impl Fn(&mut String)) -> String {
        let mut out = String::from("e before");
        push(&mut out);
        out.split_off("e before".len())
    }

    #[test]
    fn dress_is_pythons() {
        assert_eq!(text(|s| push_fixed(s, -0.0, 2)), "-0.00");
        assert_eq!(text(|s| push_fixed(s, -f64::NAN, 2)), "nan");
        assert_eq!(text(|s| push_scientific(s, 0.0, 4)), "0.0000e+00");
        assert_eq!(text(|s| push_scientific(s, -1.7e-7, 0)), "-2e-07");
        assert_eq!(text(|s| push_scientific(s, 1e300, 1)), "1.0e+300");
        assert_eq!(text(|s| push_scientific(s, f64::NEG_INFINITY, 1)), "-inf");
        assert_eq!(text(|s| push_repr(s, 9999999999999998.0)), "9999999999999998.0");
        assert_eq!(text(|s| push_repr(s, 1e-5)), "1e-05");
        assert_eq!(text(|s| push_repr(s, 123456789e20)), "1.23456789e+28");
    }

    /// The exact decimal digits of a finite `x >= 0`, before and after the point, by schoolbook
    /// doubling and halving.
    fn exact_digits(x: f64) -> (Vec<u8>, Vec<u8>) {
        let biased = (x.to_bits() >> 52) as i32;
        let fraction = x.to_bits() & ((1 << 52) - 1);
        let (mantissa, exponent) =
            if biased == 0 { (fraction, -1074) } else { (fraction | 1 << 52, biased - 1075) };
        let mut whole: Vec<u8> = mantissa.to_string().bytes().map(|b| b - b'0').collect();
        let mut part: Vec<u8> = Vec::new();
        for _ in 0..exponent.max(0) {
            let mut carry = 0;
            for digit in whole.iter_mut().rev() {
                let doubled = *digit * 2 + carry;
                (*digit, carry) = (doubled % 10, doubled / 10);
            }
            if carry > 0 {
                whole.insert(0, carry);
            }
        }
        for _ in exponent.min(0)..0 {
            let mut rest = 0;
            for digit in whole.iter_mut().chain(part.iter_mut()) {
                let halved = *digit + rest * 10;
                (*digit, rest) = (halved / 2, halved % 2);
            }
            if rest > 0 {
                part.push(5);
            }
        }
        (whole, part)
    }

    /// `push_fixed` from the definition: cut the exact digits, round ties to even.
    fn naive_fixed(x: f64, precision: usize) -> String {
        let (whole, mut part) = exact_digits(x.abs());
        part.resize(part.len().max(precision), 0);
        let rest = part.split_off(precision);
        let mut digits = [whole.as_slice(), &part].concat();
        let odd = digits.last().is_some_and(|d| d % 2 == 1);
        let beyond_half = rest.iter().skip(1).any(|&d| d > 0);
        let up = match rest.first() {
            Some(5) => beyond_half || odd,
            Some(&d) => d > 5,
            None => false,
        };
        if up {
            digits.insert(0, 0);
            for digit in digits.iter_mut().rev() {
                *digit = (*digit + 1) % 10;
                if *digit != 0 {
                    break;
                }
            }
        }
        let (whole, part) = digits.split_at(digits.len() - precision);
        let string = |d: &[u8]| d.iter().map(|&d| char::from(b'0' + d)).collect::<String>();
        let whole = string(whole);
        let whole = whole.trim_start_matches('0');
        let sign = if x.is_sign_negative() { "-" } else { "" };
        let point = if precision > 0 { "." } else { "" };
        format!("{sign}{}{point}{}", if whole.is_empty() { "0" } else { whole }, string(part))
    }

    fn any_finite() -> impl Strategy<Value = f64> {
        let ties = (-4000i32..4000, 0u32..12).prop_map(|(n, k)| f64::from(n) / f64::from(1 << k));
        prop_oneof![any::<u64>().prop_map(f64::from_bits), -1e6..1e6, ties]
            .prop_filter("finite", |x| x.is_finite())
    }

    proptest! {
        #[test]
        fn fixed_rounds_the_exact_value(x in any_finite(), precision in 0u16..20) {
            let naive = naive_fixed(x, usize::from(precision));
            prop_assert_eq!(text(|s| push_fixed(s, x, precision)), naive);
        }

        #[test]
        fn repr_reads_back(x in any_finite()) {
            let read: f64 = text(|s| push_repr(s, x)).parse().unwrap();
            prop_assert_eq!(read.to_bits(), x.to_bits());
        }
    }
}
