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
pub use erf::{erf, erfc};
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
