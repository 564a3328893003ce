//! Measures the error of the elementary functions, in units in the last place:
//!
//!     RUSTFLAGS="-C target-cpu=native" \
//!         cargo run --release -p wengert --example ulp [stride] [function ...]
//!
//! `f32` over every `stride`-th bit pattern (default 1: all 2^32, some minutes a function), against
//! the `f64` functions of the standard library; `f64` on the golden values. (The flag is for speed:
//! without FMA instructions the bits are the same, but come slowly.)

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
        let (single, at_single) = support::sweep_f32(f, stride);
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
