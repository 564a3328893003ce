//! The error function `erf x = 2/√π ∫₀ˣ e^(-t²) dt` and its complement `erfc x = 1 - erf x`.
//!
//! - `erf` in `f32` is one polynomial of degree 17 in `x²/8 - 1`, in `f64` arithmetic; the shift
//!   keeps the coefficients small and the evaluation stable up to `|x| = 4`, where erf rounds to 1.
//! - `erf` in `f64`: near zero `x + x p(x²)`; beyond, `1 - e^-q(x)` with a polynomial for
//!   `q = -ln erfc`, which needs the less precision the smaller `e^-q` is.
//! - `erfc` follows Shepherd and Laframboise (*Math. Comp.* 36, 1981): `(1 + 2x) e^(x²) erfc x` is
//!   smooth on all of `[0, ∞)`, a polynomial in `t = (x - 4) / (x + 4)`.

use super::double::{Pair, divide, fast_two_sum, multiply, two_product};
use super::exp::{Exp, exp_moderate, exp_of_pair};
use super::{Real, polynomial};

/// What differs between the two types.
pub trait Erf: Sized {
    /// The error function.
    fn error_function(self) -> Self;
    /// Its complement.
    fn complementary_error_function(self) -> Self;
}

impl Erf for f32 {
    #[inline(always)]
    fn error_function(self) -> f32 {
        let x = (self as f64).at_most(4.0).at_least(-4.0);
        let u = x.mul_add(x * 0.125, -1.0);
        let p = polynomial!(
            u,
            0.3535309961283654,
            -0.17657622960729408,
            0.1316750332812419,
            -0.10771060909088298,
            0.09021133818514411,
            -0.07472582373347517,
            0.05986188302436149,
            -0.04577494913247841,
            0.03319298712142146,
            -0.02245647877699523,
            0.013961031319482547,
            -0.008591357038921313,
            0.005513123067727367,
            -0.0026799196871208713,
            0.0006571006945054935,
            -0.00046020990717034963,
            0.0005860875739515322,
            -0.00021400759756074522,
        );
        (x * p) as f32
    }

    #[inline(always)]
    fn complementary_error_function(self) -> f32 {
        let x = self as f64;
        let a = x.abs().at_most(10.1);
        // One division for both quotients.
        let inverse = 1.0 / ((a + 4.0) * a.mul_add(2.0, 1.0));
        let t = (a - 4.0) * a.mul_add(2.0, 1.0) * inverse;
        let p = polynomial!(
            t,
            1.2329951186345798,
            -0.1396211317096008,
            0.015379644445505115,
            0.0680978858726251,
            -0.10103812020526087,
            0.09372038366755059,
            -0.06635293358880498,
            0.0372284830328751,
            -0.016023861934719188,
            0.005028593069393607,
            -0.001153068763571882,
            -0.0006474348984919628,
        );
        let y = exp_moderate(-a * a) * (p * ((a + 4.0) * inverse));
        let y = if self > 10.1 { 0.0 } else { y };
        (if x < 0.0 { 2.0 - y } else { y }) as f32
    }
}

/// Below this, erf and erfc use the polynomial around zero.
const NEAR_ZERO: f64 = 0.875;

/// `erf x / x - 1` for `|x| <= NEAR_ZERO`, as a function of `x²`.
#[inline(always)]
fn near_zero(x2: f64) -> f64 {
    polynomial!(
        x2,
        0.1283791670955126,
        -0.3761263890318387,
        0.11283791670958233,
        -0.02686617064547096,
        0.005223977627018343,
        -0.0008548327024774013,
        0.00012055329684784105,
        -1.4925481304521107e-5,
        1.6457702435710378e-6,
        -1.6296904484946698e-7,
        1.4151279555652833e-8,
        -8.706645466370056e-10,
    )
}

impl Erf for f64 {
    #[inline(always)]
    fn error_function(self) -> f64 {
        let a = self.abs().at_most(6.0);
        let q = polynomial!(
            a,
            4.8041763771598014e-8,
            1.12837865295553,
            0.6366222840663749,
            0.10276525505296422,
            -0.019114377106825918,
            -0.00022683272332005682,
            0.0017083663978546086,
            -0.0005877344340035333,
            7.592974694364718e-6,
            9.102074829738881e-5,
            -5.418274689148395e-5,
            1.9738071315799162e-5,
            -5.2252735351301026e-6,
            1.0456445482791446e-6,
            -1.5800220445791137e-7,
            1.756051972376484e-8,
            -1.3576418398179655e-9,
            6.527767381231697e-11,
            -1.4700310129479087e-12,
        );
        let far = (1.0 - exp_moderate(-q)).copysign(self);
        let near = self.mul_add(near_zero(self * self), self);
        if a < NEAR_ZERO { near } else { far }
    }

    #[inline(always)]
    fn complementary_error_function(self) -> f64 {
        let a = self.abs().at_most(28.0);
        let t = (a - 4.0) / (a + 4.0);
        let p = polynomial!(
            t,
            1.2329951186255526,
            -0.13962111684056291,
            0.015379652102614702,
            0.06809705425473825,
            -0.10103906603613354,
            0.09373283499680986,
            -0.06633036581513574,
            0.03716751556149562,
            -0.016197734026528875,
            0.005031969771159873,
            -0.0007577735175677121,
            -0.0001992556226298646,
            0.00015062283473187064,
            -2.4402672703543807e-5,
            -1.1226010369791345e-5,
            5.716601768972226e-6,
            3.028037186816633e-7,
            -8.331857379201748e-7,
            6.193709912774863e-8,
            1.1368509665776344e-7,
            -7.813860724263014e-9,
            -1.3079170916373234e-8,
            -1.6138564781966039e-9,
        );
        let (square, square_lo) = two_product(a, a);
        let square = square.at_most(-<f64 as Exp>::EXP_MIN);
        let e: Pair<f64> = exp_of_pair(-square, -square_lo);
        let numerator = multiply(e, (p, 0.0));
        let (denominator, denominator_lo) = fast_two_sum(1.0.at_least(a + a), 1.0.at_most(a + a));
        let (hi, lo) = divide(numerator, (denominator, denominator_lo));
        let far = if self < 0.0 { 2.0 - (hi + lo) } else { hi + lo };
        let (one_less, one_less_lo) = fast_two_sum(1.0, -self);
        let near = one_less + (-self).mul_add(near_zero(self * self), one_less_lo);
        if a < NEAR_ZERO { near } else { far }
    }
}

/// The error function.
///
/// ```
/// # use wengert::kernels::math::erf;
/// assert_eq!(erf(0.0_f32), 0.0);
/// assert_eq!(erf(f64::INFINITY), 1.0);
/// ```
#[inline(always)]
pub fn erf<T: Real>(x: T) -> T {
    x.error_function()
}

/// The complementary error function, accurate where it is tiny.
#[inline(always)]
pub fn erfc<T: Real>(x: T) -> T {
    x.complementary_error_function()
}

/// The inverse of `erf`; NaN outside `[-1, 1]`.
///
/// M. Giles, *Approximating the erfinv function*, 2010, gives two polynomials in
/// `w = -ln(1 - x²)` that are good to single precision up to `w = 16`; beyond, the tail
/// `erfc y ≈ e^(-y²) / (y √π)` is inverted. From there on `y` is improved in double precision on the
/// side where nothing cancels: for small arguments one step of Halley's method with `erf`, which
/// triples the number of digits, else three of Newton's with `ln erfc`, which is nearly a parabola.
#[inline(always)]
pub fn erfinv(x: f64) -> f64 {
    let a = x.abs();
    let w = -super::ln((1.0 - a) * (1.0 + a));
    let near = w - 2.5;
    let center = polynomial!(
        near,
        1.50140941,
        0.246640727,
        -0.00417768164,
        -0.00125372503,
        0.00021858087,
        -4.39150654e-06,
        -3.5233877e-06,
        3.43273939e-07,
        2.81022636e-08,
    );
    let far = w.sqrt() - 3.0;
    let tail = polynomial!(
        far,
        2.83297682,
        1.00167406,
        0.00943887047,
        -0.0076224613,
        0.00573950773,
        -0.00367342844,
        0.00134934322,
        0.000100950558,
        -0.000200214257,
    );
    let length = (w + std::f64::consts::LN_2).at_least(1.0);
    let end = (length - 0.5 * super::ln(std::f64::consts::PI * length)).sqrt();
    let mut y = if w < 5.0 {
        a * center
    } else if w < 16.0 {
        a * tail
    } else {
        end
    };
    let slope = std::f64::consts::FRAC_2_SQRT_PI;
    if a < 0.5 {
        let step = (erf(y) - a) / slope * super::exp(y * y);
        y -= step / (1.0 + y * step);
    } else {
        for _ in 0..3 {
            let c = erfc(y);
            y += super::ln(c / (1.0 - a)) * c * super::exp(y * y) / slope;
        }
    }
    let y = if a == 1.0 { f64::INFINITY } else { y };
    let y = if a > 1.0 { f64::NAN } else { y };
    // Zero keeps its sign, and tiny arguments their digits.
    if a == 0.0 { x } else { y.copysign(x) }
}
