//! The elementary functions against references, golden values, IEEE special values and
//! themselves under other instruction sets.

mod math_support;

use math_support::{FUNCTIONS, golden, sweep_f32, worst_golden};
use wengert::kernels::math::{self, Real};

type Unary<T> = fn(T) -> T;
type Row<T> = fn(&[T], &mut [T]);

const INF: f64 = f64::INFINITY;
const NAN: f64 = f64::NAN;

#[test]
fn f32_error_is_as_recorded() {
    for f in FUNCTIONS {
        let (error, at) = sweep_f32(f, 4099);
        assert!(error <= f.single_bound, "{}({at:e}): {error} ULP", f.name);
    }
}

/// The same against our own `f64` functions, on other points.
#[test]
fn f32_and_f64_agree() {
    let x: Vec<f32> = (57..u32::MAX).step_by(5003).map(f32::from_bits).collect();
    let mut errors = vec![0; x.len()];
    for f in FUNCTIONS {
        (f.errors)(&x, &mut errors);
        for (&x, &error) in x.iter().zip(&errors) {
            let error = f64::from_bits(error);
            assert!(error <= f.single_bound, "{}({x:e}): {error} ULP", f.name);
        }
    }
}

#[test]
fn f64_error_is_as_recorded() {
    let golden = golden();
    for f in FUNCTIONS {
        let (error, at) = worst_golden(&golden[f.name], |x| (f.double)(x[0]));
        assert!(error <= f.double_bound, "{}({at:?}): {error} ULP", f.name);
    }
    let (error, at) = worst_golden(&golden["pow"], |x| math::pow(x[0], x[1]));
    assert!(error <= 0.7, "pow({at:?}): {error} ULP");
}

#[test]
fn pow_f32_error_is_small() {
    for x in (0..f32::INFINITY.to_bits()).step_by(7_000_003).map(f32::from_bits) {
        for y in (-200..200).map(|i| i as f32 * 0.37) {
            let error = math_support::error_f32(math::pow(x, y), (x as f64).powf(y as f64));
            assert!(error <= 0.51, "pow({x}, {y}): {error} ULP");
        }
    }
}

/// Equal as bits, except that any NaN equals any other.
fn same(a: f64, b: f64) -> bool {
    a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan())
}

/// `f(x)` in both types for each `(x, y)` is `y` with its sign; each `x` and `y` is exact in `f32`.
macro_rules! special {
    ($($name:ident: $(($x:expr, $y:expr)),+;)+) => { $($(
        let (x, y): (f64, f64) = ($x, $y);
        let (double, single) = (math::$name(x), math::$name(x as f32));
        assert!(same(double, y), "{}({x:?}) = {double:?} in f64", stringify!($name));
        assert!(same(single as f64, y), "{}({x:?}) = {single:?} in f32", stringify!($name));
    )+)+ };
}

#[test]
fn special_values() {
    special! {
        exp: (0.0, 1.0), (-0.0, 1.0), (INF, INF), (-INF, 0.0), (NAN, NAN), (800.0, INF), (-800.0, 0.0);
        exp2: (0.0, 1.0), (-3.0, 0.125), (100.0, 2.0_f64.powi(100)), (INF, INF), (-INF, 0.0),
              (NAN, NAN), (1024.0, INF), (-1100.0, 0.0);
        expm1: (0.0, 0.0), (-0.0, -0.0), (INF, INF), (-INF, -1.0), (NAN, NAN), (800.0, INF), (-50.0, -1.0);
        tanh: (0.0, 0.0), (-0.0, -0.0), (INF, 1.0), (-INF, -1.0), (NAN, NAN), (40.0, 1.0), (-1e30, -1.0);
        sinh: (0.0, 0.0), (-0.0, -0.0), (INF, INF), (-INF, -INF), (NAN, NAN), (-800.0, -INF);
        cosh: (0.0, 1.0), (-0.0, 1.0), (INF, INF), (-INF, INF), (NAN, NAN), (-800.0, INF);
        sigmoid: (0.0, 0.5), (-0.0, 0.5), (INF, 1.0), (-INF, 0.0), (NAN, NAN), (800.0, 1.0), (-800.0, 0.0);
        softplus: (INF, INF), (-INF, 0.0), (NAN, NAN), (800.0, 800.0), (-800.0, 0.0);
        logsigmoid: (INF, -0.0), (-INF, -INF), (NAN, NAN), (-800.0, -800.0);
        ln: (0.0, -INF), (-0.0, -INF), (1.0, 0.0), (INF, INF), (-1.0, NAN), (-INF, NAN), (NAN, NAN);
        log2: (0.0, -INF), (-0.0, -INF), (1.0, 0.0), (0.125, -3.0), (INF, INF), (-1.0, NAN), (NAN, NAN);
        log10: (0.0, -INF), (-0.0, -INF), (1.0, 0.0), (1000.0, 3.0), (1e10, 10.0), (INF, INF), (-1.0, NAN),
               (NAN, NAN);
        log1p: (0.0, 0.0), (-0.0, -0.0), (-1.0, -INF), (INF, INF), (-2.0, NAN), (-INF, NAN), (NAN, NAN);
        sqrt: (0.0, 0.0), (-0.0, -0.0), (4.0, 2.0), (INF, INF), (-1.0, NAN), (NAN, NAN);
        rsqrt: (0.0, INF), (-0.0, -INF), (4.0, 0.5), (INF, 0.0), (-1.0, NAN), (-INF, NAN), (NAN, NAN);
        sin: (0.0, 0.0), (-0.0, -0.0), (INF, NAN), (-INF, NAN), (NAN, NAN);
        cos: (0.0, 1.0), (-0.0, 1.0), (INF, NAN), (-INF, NAN), (NAN, NAN);
        tan: (0.0, 0.0), (-0.0, -0.0), (INF, NAN), (-INF, NAN), (NAN, NAN);
        atan: (0.0, 0.0), (-0.0, -0.0), (NAN, NAN);
        erf: (0.0, 0.0), (-0.0, -0.0), (INF, 1.0), (-INF, -1.0), (NAN, NAN), (7.0, 1.0);
        erfc: (0.0, 1.0), (-0.0, 1.0), (INF, 0.0), (-INF, 2.0), (NAN, NAN), (30.0, 0.0), (-7.0, 2.0);
    }
    assert!(same(math::atan(INF), std::f64::consts::FRAC_PI_2));
    assert!(same(math::atan(-INF), -std::f64::consts::FRAC_PI_2));
}

#[test]
fn subnormal_arguments() {
    for x in [5e-324, -5e-324, 1e-310, -2.225e-308] {
        for f in
            [math::expm1, math::tanh, math::sinh, math::log1p, math::sin, math::tan, math::atan]
        {
            assert!(same(f(x), x), "{x:e}");
        }
    }
    for x in [1e-45_f32, -1e-45, 1e-40, -1.1754942e-38] {
        for f in
            [math::expm1, math::tanh, math::sinh, math::log1p, math::sin, math::tan, math::atan]
        {
            assert!(same(f(x) as f64, x as f64), "{x:e}");
        }
    }
}

/// The borders of overflow and of gradual underflow, as the standard library has them.
#[test]
fn borders_of_exp() {
    let near = |x: f32| (-40..=40).map(move |i| f32::from_bits(x.to_bits().wrapping_add_signed(i)));
    for x in near(88.722_84).chain(near(-87.336_55)).chain(near(-103.972_08)) {
        assert_eq!(math::exp(x).is_infinite(), (x as f64).exp() as f32 == f32::INFINITY, "{x}");
        assert_eq!(math::exp(x) == 0.0, (x as f64).exp() as f32 == 0.0, "{x}");
    }
    assert!(math::exp(709.782712893384_f64).is_finite());
    assert_eq!(math::exp(709.7827128933841_f64), INF);
    assert_eq!(math::exp(-745.1332191019411_f64), 5e-324);
    assert_eq!(math::exp(-745.1332191019412_f64), 0.0);
}

#[test]
fn pow_special_values() {
    #[rustfmt::skip]
    let cases = [
        (2.0, 10.0, 1024.0), (-2.0, 3.0, -8.0), (-2.0, 2.0, 4.0), (-2.0, -1.0, -0.5), (-8.0, 0.5, NAN),
        (0.0, 0.0, 1.0), (NAN, 0.0, 1.0), (NAN, -0.0, 1.0), (1.0, NAN, 1.0), (1.0, INF, 1.0),
        (-1.0, INF, 1.0), (-1.0, -INF, 1.0), (NAN, 1.0, NAN), (2.0, NAN, NAN),
        (0.0, 3.0, 0.0), (-0.0, 3.0, -0.0), (-0.0, 2.0, 0.0), (-0.0, 0.5, 0.0),
        (0.0, -3.0, INF), (-0.0, -3.0, -INF), (-0.0, -2.0, INF), (0.0, INF, 0.0), (0.0, -INF, INF),
        (0.5, INF, 0.0), (0.5, -INF, INF), (2.0, INF, INF), (2.0, -INF, 0.0),
        (INF, 2.0, INF), (INF, -2.0, 0.0), (-INF, 3.0, -INF), (-INF, 2.0, INF), (-INF, -3.0, -0.0),
        (-INF, 0.5, INF), (-INF, -0.5, 0.0), (-INF, INF, INF), (INF, INF, INF), (INF, -INF, 0.0),
        (10.0, 400.0, INF), (10.0, -400.0, 0.0), (-10.0, 401.0, -INF), (-1.0, 1e30, 1.0),
        (-3.0, 1e30, INF), (-0.5, -16777217.0, -INF),
    ];
    for (x, y, expected) in cases {
        let double = math::pow(x, y);
        assert!(same(double, expected), "pow({x}, {y}) = {double}");
        assert!(same(double, f64::powf(x, y)), "pow({x}, {y}): the library disagrees");
        // 2^24 + 1 is not an f32; its neighbour is even.
        if y as f32 as f64 == y {
            let single = math::pow(x as f32, y as f32);
            assert!(same(single as f64, expected), "pow({x}, {y}) = {single} in f32");
        }
    }
}

#[test]
fn powers_of_the_base_are_exact() {
    for i in -1022..1024 {
        let x = 2.0_f64.powi(i);
        assert_eq!((math::log2(x), math::exp2(i as f64)), (i as f64, x));
    }
    for i in 0..=22 {
        assert_eq!(math::log10(10.0_f64.powi(i)), i as f64);
    }
    for i in -126..128 {
        let x = 2.0_f32.powi(i);
        assert_eq!((math::log2(x), math::exp2(i as f32)), (i as f32, x));
    }
    for i in 0..=10 {
        assert_eq!(math::log10(10.0_f32.powi(i)), i as f32);
    }
}

/// Finite `f32` in ascending order, about a million.
fn ascending() -> impl Iterator<Item = f32> {
    let max = f32::MAX.to_bits();
    let negative = (0..=max).rev().step_by(4093).map(|b| -f32::from_bits(b));
    negative.chain((0..=max).step_by(4093).map(f32::from_bits))
}

/// A larger argument never gives a result smaller by more than the permitted error.
#[test]
fn monotone() {
    let functions: [(&str, Unary<f32>); 11] = [
        ("exp", math::exp),
        ("exp2", math::exp2),
        ("expm1", math::expm1),
        ("tanh", math::tanh),
        ("sigmoid", math::sigmoid),
        ("sinh", math::sinh),
        ("softplus", math::softplus),
        ("ln", math::ln),
        ("log1p", math::log1p),
        ("atan", math::atan),
        ("erf", math::erf),
    ];
    for (name, f) in functions {
        let mut largest = f32::NEG_INFINITY;
        for x in ascending() {
            let y = f(x);
            assert!(y.is_nan() || y.next_up() >= largest, "{name}({x:e}) = {y:e} < {largest:e}");
            largest = largest.max(y);
        }
    }
}

#[test]
fn symmetry_and_range() {
    for x in ascending() {
        for f in [math::sin, math::tan, math::tanh, math::sinh, math::atan, math::erf] {
            assert_eq!(f(-x).to_bits(), (-f(x)).to_bits(), "{x:e}");
        }
        assert_eq!(math::cos(-x), math::cos(x), "{x:e}");
        assert_eq!(math::cosh(-x), math::cosh(x), "{x:e}");
        for y in [math::sin(x), math::cos(x), math::tanh(x), math::erf(x)] {
            assert!(y.abs() <= 1.0, "{x:e}: {y}");
        }
        assert!((0.0..=1.0).contains(&math::sigmoid(x)), "{x:e}");
        assert!((0.0..=2.0).contains(&math::erfc(x)), "{x:e}");
    }
}

#[test]
fn moderate_angles_and_rows_give_the_same_bits() {
    fn check<T: Real + std::fmt::Debug>(x: &[T]) {
        let mut y = x.to_vec();
        let functions: [(Unary<T>, Unary<T>, Row<T>); 3] = [
            (math::sin, math::sin_moderate, math::sin_row),
            (math::cos, math::cos_moderate, math::cos_row),
            (math::tan, math::tan_moderate, math::tan_row),
        ];
        for (any, moderate, row) in functions {
            row(x, &mut y);
            for (&x, &y) in x.iter().zip(&y) {
                assert!(any(x) == y, "{x:?}");
                assert!(!math::is_moderate_angle(x) || moderate(x) == y, "{x:?}");
            }
        }
    }
    // Blocks without, with one and with many huge angles.
    let x = |i: i32| {
        let huge = i == 700 || i > 1500;
        0.37 * f64::from(i - 1000) * if huge { 1e25 } else { 1.0 }
    };
    check(&(0..2000).map(x).collect::<Vec<f64>>());
    check(&(0..2000).map(|i| x(i) as f32).collect::<Vec<f32>>());
}

/// Loops compiled for vector instructions give the bits of the scalar functions.
#[cfg(target_arch = "x86_64")]
#[test]
fn same_bits_under_every_instruction_set() {
    /// Arguments of every size and sign, special values included, as many as fill vectors and
    /// leave a tail.
    fn arguments() -> Vec<f64> {
        let spread = (-3000..3000).map(|i| (i as f64 * 0.1).exp() * 1e-3);
        let around = (-4000..4000).map(|i| i as f64 * 0.01);
        let special = [0.0, -0.0, INF, -INF, NAN, 5e-324, 1e-310, -1e-310, f64::MAX, f64::MIN];
        spread.clone().chain(spread.map(|x| -x)).chain(around).chain(special).collect()
    }

    macro_rules! check {
        ($features:literal, $detected:expr; $($name:ident)+) => {
            if $detected { $({
                #[target_feature(enable = $features)]
                fn row<T: Real>(x: &[T], y: &mut [T]) {
                    for (y, &x) in y.iter_mut().zip(x) {
                        *y = math::$name(x);
                    }
                }
                let x = arguments();
                let mut y = x.clone();
                // SAFETY: the features were detected.
                unsafe { row(&x, &mut y) };
                for (&x, &y) in x.iter().zip(&y) {
                    assert!(same(math::$name(x), y), "{}({x:e}) in f64", stringify!($name));
                }
                let x: Vec<f32> = arguments().into_iter().map(|x| x as f32).collect();
                let mut y = x.clone();
                // SAFETY: as above.
                unsafe { row(&x, &mut y) };
                for (&x, &y) in x.iter().zip(&y) {
                    let expected = math::$name(x) as f64;
                    assert!(same(expected, y as f64), "{}({x:e}) in f32", stringify!($name));
                }
            })+ }
        };
    }
    check! {
        "avx2,fma", is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
        exp exp2 expm1 tanh sigmoid sinh cosh ln log1p log2 log10 softplus logsigmoid rsqrt
        sin cos tan atan erf erfc
    }
    check! {
        "avx512f,avx512vl,avx512dq,avx512bw",
        is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512dq") && is_x86_feature_detected!("avx512bw");
        exp exp2 expm1 tanh sigmoid sinh cosh ln log1p log2 log10 softplus logsigmoid rsqrt
        sin cos tan atan erf erfc
    }
}
