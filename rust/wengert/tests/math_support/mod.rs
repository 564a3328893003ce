//! The elementary functions as a table, and how far they are from the truth.
//!
//! Shared by `tests/math.rs` and `examples/ulp.rs`.

use std::collections::BTreeMap;

use wengert::kernels::math;

/// One function: in both types, and a reference for `f32` in `f64`.
pub struct Function {
    pub name: &'static str,
    pub single: fn(f32) -> f32,
    pub double: fn(f64) -> f64,
    pub reference: fn(f64) -> f64,
    /// The errors of `single` against `double`, as the bits of `error_f32`; a vectorising loop.
    pub errors: fn(&[f32], &mut [u64]),
    /// Largest error over all `f32`, in units in the last place, rounded up.
    pub single_bound: f64,
    /// Largest error on the golden values, rounded up.
    pub double_bound: f64,
}

macro_rules! functions {
    ($($name:ident, $reference:expr, $single:expr, $double:expr;)+) => {
        pub const FUNCTIONS: &[Function] = &[$(Function {
            name: stringify!($name),
            single: math::$name::<f32>,
            double: math::$name::<f64>,
            reference: $reference,
            errors: |x, errors| {
                for (error, &x) in errors.iter_mut().zip(x) {
                    *error = error_f32(math::$name(x), math::$name(x as f64)).to_bits();
                }
            },
            single_bound: $single,
            double_bound: $double,
        }),+];
    };
}

// Where the standard library has no reference, the f64 function is one: the golden values hold
// it to less than 2^-28 of an f32 unit.
functions! {
    exp, f64::exp, 0.85, 0.71;
    exp2, f64::exp2, 0.85, 0.73;
    expm1, f64::exp_m1, 0.9, 0.56;
    tanh, f64::tanh, 0.77, 0.61;
    sigmoid, math::sigmoid::<f64>, 0.88, 0.62;
    sinh, f64::sinh, 0.77, 0.57;
    cosh, f64::cosh, 0.88, 0.69;
    ln, f64::ln, 0.8, 0.51;
    log1p, f64::ln_1p, 0.85, 0.61;
    log2, f64::log2, 0.82, 0.52;
    log10, f64::log10, 0.73, 0.57;
    softplus, math::softplus::<f64>, 1.0, 0.62;
    logsigmoid, math::logsigmoid::<f64>, 1.0, 0.51;
    rsqrt, |x| 1.0 / x.sqrt(), 0.51, 0.51;
    sin, f64::sin, 0.51, 0.55;
    cos, f64::cos, 0.51, 0.54;
    tan, f64::tan, 0.51, 0.63;
    atan, f64::atan, 0.91, 0.51;
    erf, math::erf::<f64>, 0.54, 0.79;
    erfc, math::erfc::<f64>, 0.52, 1.09;
}

/// `|got - truth|` in units in the last place of an `f32` of that size; infinite if one is NaN
/// and the other not, or if an infinity is not the rounded truth.
#[inline(always)]
pub fn error_f32(got: f32, truth: f64) -> f64 {
    let nearest = truth as f32;
    let exponent = ((nearest.to_bits() >> 23) & 0xff).max(1) as u64;
    let per_unit = f64::from_bits((1023 + 127 + 23 - exponent) << 52);
    let error = (got as f64 - truth).abs() * per_unit;
    let equal = (got == nearest) | (got.is_nan() & nearest.is_nan());
    let otherwise = if equal { 0.0 } else { f64::INFINITY };
    if got.is_finite() & nearest.is_finite() { error } else { otherwise }
}

/// The largest error over every `stride`-th `f32` against the reference, and its argument.
pub fn sweep_f32(function: &Function, stride: usize) -> (f64, f32) {
    let error = |x: f32| error_f32((function.single)(x), (function.reference)(x as f64));
    let arguments = (0..=u32::MAX).step_by(stride).map(f32::from_bits);
    arguments.map(|x| (error(x), x)).fold((0.0, 0.0), |a, b| if b.0 > a.0 { b } else { a })
}

/// A line of `tests/golden/math_f64.txt`.
pub struct Golden {
    pub arguments: Vec<f64>,
    /// The nearest `f64` to the truth.
    pub nearest: f64,
    /// The truth less `nearest`, in units in the last place.
    pub rest: f64,
}

impl Golden {
    /// `|got - truth|` in units in the last place.
    pub fn error(&self, got: f64) -> f64 {
        if self.nearest.is_infinite() || !got.is_finite() {
            return if got == self.nearest { 0.0 } else { f64::INFINITY };
        }
        let exponent = ((self.nearest.to_bits() >> 52) & 0x7ff).max(1) as i32 - 1023 - 52;
        // In two steps: 2^1074 is no f64.
        let units = (got - self.nearest) * 2.0_f64.powi(-exponent / 2);
        (units * 2.0_f64.powi(-exponent - -exponent / 2) - self.rest).abs()
    }
}

/// The golden values by function.
pub fn golden() -> BTreeMap<String, Vec<Golden>> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/math_f64.txt");
    let text = std::fs::read_to_string(path).expect("the golden file is part of the repository");
    let mut all = BTreeMap::<String, Vec<Golden>>::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let [name, numbers @ .., rest] = words.as_slice() else {
            panic!("not a golden line: {line}")
        };
        let mut arguments: Vec<f64> = numbers
            .iter()
            .map(|bits| f64::from_bits(u64::from_str_radix(bits, 16).expect("bits in hexadecimal")))
            .collect();
        let nearest = arguments.pop().expect("a value");
        let rest = rest.parse().expect("a decimal number");
        all.entry(name.to_string()).or_default().push(Golden { arguments, nearest, rest });
    }
    all
}

/// The largest error of a function on its golden values, and its arguments.
pub fn worst_golden(values: &[Golden], f: impl Fn(&[f64]) -> f64) -> (f64, Vec<f64>) {
    let mut worst = (0.0, Vec::new());
    for value in values {
        let error = value.error(f(&value.arguments));
        if error > worst.0 {
            worst = (error, value.arguments.clone());
        }
    }
    worst
}
