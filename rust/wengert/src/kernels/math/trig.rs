//! `sin`, `cos`, `tan`, for every finite argument.
//!
//! After the reduction to `y + y_lo` (see [`super::reduction`]): `sin y = y + y³ p(y²)` and
//! `cos y = 1 - y²/2 + y⁴ q(y²)`, both evaluated, one selected by the quadrant. `f32` is
//! computed in `f64` and rounded at the end.

use super::double::{Pair, divide, fast_two_sum};
use super::reduction::{self, Angle};
use super::{Real, polynomial};

/// What differs between the two types.
pub trait Trig: Sized {
    /// Below this angle `reduced_moderate` holds.
    const MODERATE: Self;

    /// The angle modulo π/2.
    fn reduced(self) -> Angle;
    /// The same bits with less work, if [`is_moderate_angle`].
    fn reduced_moderate(self) -> Angle;
    /// Sine of a reduced angle, or with `quadrants = 1` cosine.
    fn sine(angle: Angle, quadrants: u64) -> Self;
    /// Tangent of a reduced angle.
    fn tangent(angle: Angle) -> Self;
}

/// `±a` with the sign changed if bit 1 of the quadrant is set.
#[inline(always)]
fn with_quadrant_sign(a: f64, quadrant: u64) -> f64 {
    f64::from_bits(a.to_bits() ^ ((quadrant & 2) << 62))
}

/// Sine and cosine on `|y| <= π/4` to about 36 bits.
#[inline(always)]
fn short_sin_cos(y: f64) -> (f64, f64) {
    let z = y * y;
    let s = polynomial!(
        z,
        -0.16666666639894345,
        0.00833332922282496,
        -0.00019839289906299092,
        2.717932751085067e-6,
    );
    let c = polynomial!(
        z,
        1.0,
        -0.5,
        0.04166666661723294,
        -0.0013888883337291773,
        2.4799422840107147e-5,
        -2.720300502965001e-7,
    );
    ((y * z).mul_add(s, y), c)
}

/// Sine and cosine on `|y| <= π/4`, each as a pair.
#[inline(always)]
fn sin_cos(y: f64, y_lo: f64) -> (Pair<f64>, Pair<f64>) {
    let z = y * y;
    let s = polynomial!(
        z,
        -0.1666666666666663,
        0.008333333333321888,
        -0.0001984126982941891,
        2.755731356505335e-6,
        -2.505073921556132e-8,
        1.5895744543462727e-10,
    );
    let c = polynomial!(
        z,
        0.04166666666666659,
        -0.0013888888888872318,
        2.4801587288437122e-5,
        -2.755731406911518e-7,
        2.0875686841899258e-9,
        -1.1357850815217086e-11,
    );
    // sin(y + l) = sin y + l cos y, cos(y + l) = cos y - l sin y, to first order.
    let sin_lo = (y * z).mul_add(s, y_lo * z.mul_add(-0.5, 1.0));
    let (cos, cos_lo) = fast_two_sum(1.0, -0.5 * z);
    let z_lo = y.mul_add(y, -z);
    let cos_lo = (-y).mul_add(y_lo, z_lo.mul_add(-0.5, cos_lo));
    ((y, sin_lo), (cos, (z * z).mul_add(c, cos_lo)))
}

impl Trig for f32 {
    const MODERATE: f32 = reduction::MODERATE as f32;

    #[inline(always)]
    fn reduced(self) -> Angle {
        reduction::reduce_f32(self)
    }

    #[inline(always)]
    fn reduced_moderate(self) -> Angle {
        reduction::reduce_moderate_f32(self)
    }

    #[inline(always)]
    fn sine(Angle { y, quadrant, .. }: Angle, quadrants: u64) -> f32 {
        let quadrant = quadrant.wrapping_add(quadrants);
        let (sin, cos) = short_sin_cos(y);
        with_quadrant_sign(if quadrant & 1 == 0 { sin } else { cos }, quadrant) as f32
    }

    #[inline(always)]
    fn tangent(Angle { y, quadrant, .. }: Angle) -> f32 {
        let (sin, cos) = short_sin_cos(y);
        let odd = quadrant & 1 != 0;
        ((if odd { -cos } else { sin }) / (if odd { sin } else { cos })) as f32
    }
}

impl Trig for f64 {
    const MODERATE: f64 = reduction::MODERATE;

    #[inline(always)]
    fn reduced(self) -> Angle {
        reduction::reduce(self)
    }

    #[inline(always)]
    fn reduced_moderate(self) -> Angle {
        reduction::reduce_moderate(self)
    }

    #[inline(always)]
    fn sine(Angle { y, y_lo, quadrant }: Angle, quadrants: u64) -> f64 {
        let quadrant = quadrant.wrapping_add(quadrants);
        let (sin, cos) = sin_cos(y, y_lo);
        let even = quadrant & 1 == 0;
        let sum = (if even { sin.0 } else { cos.0 }) + (if even { sin.1 } else { cos.1 });
        with_quadrant_sign(sum, quadrant)
    }

    #[inline(always)]
    fn tangent(Angle { y, y_lo, quadrant }: Angle) -> f64 {
        let (sin, cos) = sin_cos(y, y_lo);
        let (sin, cos) = (fast_two_sum(sin.0, sin.1), fast_two_sum(cos.0, cos.1));
        let odd = quadrant & 1 != 0;
        let (hi, lo) =
            divide(if odd { (-cos.0, -cos.1) } else { sin }, if odd { sin } else { cos });
        hi + lo
    }
}

/// Whether the `_moderate` functions may be used: `|x| < 2^30`.
///
/// Reduction of larger angles costs several times as much as all the rest, and a select pays
/// for both sides. A row kernel therefore asks first, a block at a time, as [`sin_row`] does.
#[inline(always)]
pub fn is_moderate_angle<T: Real>(x: T) -> bool {
    x.abs() < T::MODERATE
}

/// `x` itself where the series would round to it but lose the sign of zero.
#[inline(always)]
fn keep_tiny<T: Real>(x: T, y: T) -> T {
    if x.abs() < T::EPSILON { x } else { y }
}

/// The sine.
///
/// ```
/// # use wengert::kernels::math::sin;
/// assert!(sin(f64::INFINITY).is_nan());
/// assert_eq!(sin(1e22_f64), -0.8522008497671888);
/// ```
#[inline(always)]
pub fn sin<T: Real>(x: T) -> T {
    keep_tiny(x, T::sine(x.reduced(), 0))
}

/// The same bits as [`sin`], if [`is_moderate_angle`].
#[inline(always)]
pub fn sin_moderate<T: Real>(x: T) -> T {
    keep_tiny(x, T::sine(x.reduced_moderate(), 0))
}

/// The cosine.
///
/// ```
/// # use wengert::kernels::math::cos;
/// assert_eq!(cos(0.0_f32), 1.0);
/// ```
#[inline(always)]
pub fn cos<T: Real>(x: T) -> T {
    T::sine(x.reduced(), 1)
}

/// The same bits as [`cos`], if [`is_moderate_angle`].
#[inline(always)]
pub fn cos_moderate<T: Real>(x: T) -> T {
    T::sine(x.reduced_moderate(), 1)
}

/// The tangent.
#[inline(always)]
pub fn tan<T: Real>(x: T) -> T {
    keep_tiny(x, T::tangent(x.reduced()))
}

/// The same bits as [`tan`], if [`is_moderate_angle`].
#[inline(always)]
pub fn tan_moderate<T: Real>(x: T) -> T {
    keep_tiny(x, T::tangent(x.reduced_moderate()))
}

macro_rules! rows {
    ($($row:ident, $any:ident, $moderate:ident;)+) => { $(
        #[doc = concat!("[`", stringify!($any), "`] of each element, as far as both slices go.")]
        ///
        /// Blocks without huge angles take the short way; the bits are the same either way.
        #[inline(always)]
        pub fn $row<T: Real>(x: &[T], y: &mut [T]) {
            for (x, y) in x.chunks(BLOCK).zip(y.chunks_mut(BLOCK)) {
                if x.iter().fold(true, |all, &x| all & is_moderate_angle(x)) {
                    for (y, &x) in y.iter_mut().zip(x) {
                        *y = $moderate(x);
                    }
                } else {
                    for (y, &x) in y.iter_mut().zip(x) {
                        *y = $any(x);
                    }
                }
            }
        }
    )+ };
}

/// Elements that are asked together: enough to make asking cheap, few enough to stay cached.
const BLOCK: usize = 256;

rows! {
    sin_row, sin, sin_moderate;
    cos_row, cos, cos_moderate;
    tan_row, tan, tan_moderate;
}
