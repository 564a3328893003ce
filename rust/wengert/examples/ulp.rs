//! Measures the error of the elementary functions, in units in the last place:
//!
//!     RUSTFLAGS="-C target-cpu=native" \
//!         cargo run --release -p wengert --example ulp [stride] [function ...]
//!
//! `f32` over every `stride`-th bit pattern against the `f64` functions of the standard library, or
//! with stride 1, the default, over all 2^32 against our own `f64` functions, which vectorise and
//! whose error does not show in `f32`; `f64` on the golden values. (The flag is for speed: without
//! FMA instructions the bits are the same, but come slowly.)

#[path = "../tests/math_support/mod.rs"]
mod support;

use wengert::kernels::math;

fn main() {
    let mut arguments = std::env::args().skip(1).peekable();
    let stride = arguments.next_if(|a| a.parse::<usize>().is_ok());
    let stride = stride.map_or(1, |a| a.parse().expect("checked above"));
    let names: Vec<String> = arguments.collect();
    let wanted = |name: &str| names.is_empty() || names.iter().any(|n| n == name);
    let golden = support::golden();

    println!(
        "{:<11} {:>6} {:>6}  {:<26} {:>6} {:>6}  at",
        "function", "f32", "bound", "at", "f64", "bound"
    );
    for f in support::FUNCTIONS.iter().filter(|f| wanted(f.name)) {
        let (single, at_single) =
            if stride == 1 { all_f32(f) } else { support::sweep_f32(f, stride) };
        let (double, at) = support::worst_golden(&golden[f.name], |x| (f.double)(x[0]));
        let (bound, bound_double) = (f.single_bound, f.double_bound);
        println!(
            "{:<11} {single:>6.3} {bound:>6.2}  {at_single:<26e} {double:>6.3} {bound_double:>6.2}  {at:?}",
            f.name
        );
    }
    if wanted("pow") {
        let (single, at_single) = pow_f32(stride);
        let (double, at) = support::worst_golden(&golden["pow"], |x| math::pow(x[0], x[1]));
        let at_single = format!("{at_single:?}");
        println!(
            "{:<11} {single:>6.3} {:>6}  {at_single:<26} {double:>6.3} {:>6}  {at:?}",
            "pow", "", ""
        );
    }
}

/// The largest error over all `f32`, and its argument, on all processors.
fn all_f32(function: &support::Function) -> (f64, f32) {
    const BLOCK: usize = 1 << 12;
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    let sweep = |first: usize| {
        let mut worst = (0, 0.0);
        let (mut x, mut errors) = ([0.0; BLOCK], [0; BLOCK]);
        for start in (first * BLOCK..1 << 32).step_by(threads * BLOCK) {
            for (i, x) in x.iter_mut().enumerate() {
                *x = f32::from_bits((start + i) as u32);
            }
            (function.errors)(&x, &mut errors);
            // The bits of numbers >= 0 are ordered as the numbers are.
            let largest = errors.iter().fold(0, |a, &b| a.max(b));
            if largest > worst.0 {
                let i = errors.iter().position(|&e| e == largest).expect("it is one of them");
                worst = (largest, x[i]);
            }
        }
        (f64::from_bits(worst.0), worst.1)
    };
    std::thread::scope(|scope| {
        let sweep = &sweep;
        let workers: Vec<_> = (0..threads).map(|i| scope.spawn(move || sweep(i))).collect();
        let results = workers.into_iter().map(|w| w.join().expect("a sweep does not panic"));
        results.fold((0.0, 0.0), |a, b| if b.0 > a.0 { b } else { a })
    })
}

/// The largest error of `pow` over a lattice of bases and exponents.
fn pow_f32(stride: usize) -> (f64, (f32, f32)) {
    let mut worst = (0.0, (0.0, 0.0));
    let step = 40_009 * (1 + stride.ilog2());
    for x in (0..f32::INFINITY.to_bits()).step_by(step as usize).map(f32::from_bits) {
        for y in (-200..200).map(|i| i as f32 * 0.37) {
            let error = support::error_f32(math::pow(x, y), (x as f64).powf(y as f64));
            if error > worst.0 {
                worst = (error, (x, y));
            }
        }
    }
    worst
}
