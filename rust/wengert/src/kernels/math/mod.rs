//! Vectorising elementary functions.
//!
//! Every function here is one straight line of multiplications, fused multiply-adds and selects
//! on a single scalar: no table, no branch, no call. Inlined into a loop that is compiled for a
//! vector instruction set, the compiler turns the scalar into a vector; there is no second
//! implementation for the tail of the loop, and results are the same bits for every instruction
//! set. Without FMA hardware each `mul_add` is a library call: slow, but still the same bits.
//!
//! ```
//! use wengert::kernels::math;
//!
//! #[target_feature(enable = "avx2,fma")]
//! #[cfg(target_arch = "x86_64")]
//! fn exp_row(x: &[f32], y: &mut [f32]) {
//!     for (y, &x) in y.iter_mut().zip(x) {
//!         *y = math::exp(x); // eight at a time
//!     }
//! }
//! ```
//!
//! What keeps the error near half a unit in the last place (ULP): arguments are reduced exactly
//! (Cody and Waite, or Payne and Hanek for huge angles), and a result is assembled as a large
//! part plus a small correction, so that the roundings before the last one happen in the
//! correction. [`double`] holds those few exact sums. Coefficients come from
//! `tests/golden/make_math_coefficients.py`.
//!
//! Largest error in ULP, `f32` over all 2^32 arguments, `f64` on the golden values of
//! `tests/golden/math_f64.txt` (a few hundred hard and random arguments a function, so a lower
//! bound), as printed by `examples/ulp.rs`:
//!
//! | | f32 | f64 | | f32 | f64 | | f32 | f64 |
//! |---|---|---|---|---|---|---|---|---|
//! | `exp` | 0.844 | 0.700 | `ln` | 0.794 | 0.500 | `sin` | 0.500 | 0.543 |
//! | `exp2` | 0.842 | 0.720 | `log1p` | 0.841 | 0.608 | `cos` | 0.500 | 0.535 |
//! | `expm1` | 0.890 | 0.552 | `log2` | 0.818 | 0.511 | `tan` | 0.500 | 0.621 |
//! | `tanh` | 0.761 | 0.606 | `log10` | 0.723 | 0.562 | `atan` | 0.906 | 0.503 |
//! | `sinh` | 0.769 | 0.566 | `softplus` | 0.994 | 0.614 | `erf` | 0.532 | 0.786 |
//! | `cosh` | 0.879 | 0.683 | `logsigmoid` | 0.994 | 0.507 | `erfc` | 0.511 | 1.088 |
//! | `sigmoid` | 0.873 | 0.614 | `rsqrt` | 0.500 | 0.500 | `pow` | 0.501 * | 0.686 |
//!
//! \* on a lattice of bases and exponents.
//!
//! Angles are the one case where two formulas differ much in cost. [`sin`], [`cos`] and [`tan`]
//! hold everywhere; [`sin_moderate`] and its kin give the same bits several times as fast below
//! 2^30, and [`sin_row`] and its kin choose a block at a time.
//!
//! Special values follow IEEE 754 and C99 Annex F: signed zeros, infinities, NaN for arguments
//! outside the domain, gradual underflow, overflow to infinity at the correct argument.

pub mod double;

mod atan;
mod erf;
mod exp;
mod hyperbolic;
mod log;
mod pow;
mod real;
mod reduction;
mod root;
mod trig;

pub use atan::atan;
pub use erf::{erf, erfc, erfinv};
pub use exp::{exp, exp2, expm1};
pub use hyperbolic::{cosh, sigmoid, sinh, tanh};
pub use log::{ln, log1p, log2, log10, logsigmoid, softplus};
pub use pow::pow;
pub use real::Real;
pub use root::{rsqrt, sqrt};
pub use trig::{cos, sin, tan};
pub use trig::{cos_moderate, is_moderate_angle, sin_moderate, tan_moderate};
pub use trig::{cos_row, sin_row, tan_row};

/// `c[0] + c[1] x + c[2] x² + …` by Horner's rule, one fused multiply-add a term.
macro_rules! polynomial {
    ($x:expr, $c:expr $(,)?) => { $c };
    ($x:expr, $c:expr, $($rest:expr),+ $(,)?) => {
        $crate::kernels::math::Real::mul_add(
            $crate::kernels::math::polynomial!($x, $($rest),+), $x, $c)
    };
}
pub(crate) use polynomial;
