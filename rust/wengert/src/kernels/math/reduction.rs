//! Angles modulo π/2, for every finite `f64` (and so for every `f32`).
//!
//! Up to [`MODERATE`] by Cody and Waite: `x - q π/2` with π/2 in three parts. The first product
//! and difference are exact in a fused multiply-add (both sides are multiples of 2^-53 and the
//! difference is below 1), the second product is kept as a pair.
//!
//! Above, by Payne and Hanek (1983): `x = M 2^e` with a 53-bit integer `M`, and `x 2/π` modulo 4
//! needs only a window of the bits of 2/π, those with weights near `2^-e`; earlier bits
//! contribute multiples of 4, later ones nothing visible. The window is cut out of the constant
//! by selects, first 16 words, then 8, 4, 2, 1 and then bits, instead of a table look-up, so
//! that it stays in vector registers; the product is formed from 32-bit digits, for which there
//! are vector multiplications. A window of `N` words leaves an error of `2^(55 - 64 N)`, while
//! no `f64` comes closer to a multiple of π/2 than 2^-62 (no `f32` closer than 2^-30): three
//! words for `f64`, two for `f32`.

use super::double::{fast_two_sum, two_product, two_sum};

/// Below this angle the short reduction holds.
pub const MODERATE: f64 = (1 << 30) as f64;
/// π/2 in three parts.
const PI_2: [f64; 3] =
    [std::f64::consts::FRAC_PI_2, 6.123233995736766e-17, -1.4973849048591698e-33];
/// `1.5 · 2^52`: adding it rounds to an integer, left in the low bits.
const SHIFTER: f64 = (3_u64 << 51) as f64;

/// The bits of 2/π after a word of zeros (for windows that begin before the point).
#[rustfmt::skip]
const TWO_OVER_PI: [u64; 21] = [
    0,
    0xa2f9836e4e441529, 0xfc2757d1f534ddc0, 0xdb6295993c439041, 0xfe5163abdebbc561,
    0xb7246e3a424dd2e0, 0x06492eea09d1921c, 0xfe1deb1cb129a73e, 0xe88235f52ebb4484,
    0xe99c7026b45f7e41, 0x3991d639835339f4, 0x9c845f8bbdf9283b, 0x1ff897ffde05980f,
    0xef2f118b5a0a6d1f, 0x6d367ecf27cb09b7, 0x4f463f669e5fea2d, 0x7527bac7ebe5f17b,
    0x3d0739f78a5292ea, 0x6bfb5fb11f8d5d08, 0x56033046fc7b6bab, 0xf0cfbc209af4361d,
];

/// `x = q π/2 + y + y_lo` with `|y|` at most a little above π/4.
#[derive(Clone, Copy)]
pub struct Angle {
    /// The remainder.
    pub y: f64,
    /// Its correction.
    pub y_lo: f64,
    /// `q` modulo 4 in the lowest two bits, anything above.
    pub quadrant: u64,
}

/// The remainder of an `f64` up to [`MODERATE`].
#[inline(always)]
pub fn reduce_moderate(x: f64) -> Angle {
    let t = x.mul_add(std::f64::consts::FRAC_2_PI, SHIFTER);
    let q = t - SHIFTER;
    let exact = (-q).mul_add(PI_2[0], x);
    let (p, p_lo) = two_product(-q, PI_2[1]);
    let (y, lo) = two_sum(exact, p);
    Angle { y, y_lo: (-q).mul_add(PI_2[2], lo + p_lo), quadrant: t.to_bits() }
}

/// The remainder of an `f32` up to [`MODERATE`], without correction.
#[inline(always)]
pub fn reduce_moderate_f32(x: f32) -> Angle {
    let x = x as f64;
    let t = x.mul_add(std::f64::consts::FRAC_2_PI, SHIFTER);
    let q = t - SHIFTER;
    let y = (-q).mul_add(PI_2[1], (-q).mul_add(PI_2[0], x));
    Angle { y, y_lo: 0.0, quadrant: t.to_bits() }
}

/// The remainder of an `f64`; NaN for infinities and NaN.
#[inline(always)]
pub fn reduce(x: f64) -> Angle {
    choose(x, reduce_moderate(x), payne_hanek::<3, 5>(x))
}

/// The remainder of an `f32`, without correction; NaN for infinities and NaN.
#[inline(always)]
pub fn reduce_f32(x: f32) -> Angle {
    choose(x as f64, reduce_moderate_f32(x), payne_hanek::<2, 2>(x as f64))
}

#[inline(always)]
fn choose(x: f64, moderate: Angle, large: Angle) -> Angle {
    let is_moderate = x.abs() < MODERATE;
    Angle {
        y: if is_moderate { moderate.y } else { large.y },
        y_lo: if is_moderate { moderate.y_lo } else { large.y_lo },
        quadrant: if is_moderate { moderate.quadrant } else { large.quadrant },
    }
}

/// The remainder by a window of `N` words, which starts below word `2^STAGES` of the constant.
#[inline(always)]
fn payne_hanek<const N: usize, const STAGES: usize>(x: f64) -> Angle {
    let bits = x.to_bits() & (u64::MAX >> 1);
    let mantissa = (bits & 0x000f_ffff_ffff_ffff) | 0x0010_0000_0000_0000;
    // The exponent e of x = mantissa 2^e is bits >> 52 less 1075. The first useful bit of 2/π
    // has weight 2^(1 - e) at place e - 2 (the first place has weight 2^-1), 64 zeros later.
    let place = (bits >> 52).wrapping_sub(1075 - 62);
    let window = window::<N, STAGES>(place);

    // mantissa · window modulo 2^(64 N), in 32-bit digits, lowest first. The lowest column
    // gets no carry from below the window, so neither does it matter that it is cut.
    let (m0, m1) = (mantissa & 0xffff_ffff, mantissa >> 32);
    let mut digits = [0_u64; 6];
    let mut carry_0 = 0;
    let mut carry_1 = 0;
    let mut previous = 0;
    for i in 0..2 * N {
        let word = window[N - 1 - i / 2];
        let digit = if i % 2 == 0 { word & 0xffff_ffff } else { word >> 32 };
        // Each sum fits: (2^32 - 1)² + 2 (2^32 - 1) = 2^64 - 1.
        let low = m0 * digit + carry_0;
        let both = m1 * previous + (low & 0xffff_ffff) + carry_1;
        carry_0 = low >> 32;
        carry_1 = both >> 32;
        digits[i] = both & 0xffff_ffff;
        previous = digit;
    }

    // Two bits of quadrant, then the fraction. A fraction of 1/2 or more rounds the quadrant up.
    let top = digits[2 * N - 1];
    let quadrant = (top + (1 << 29)) >> 30;
    const TWO_52: f64 = (1_u64 << 52) as f64;
    let float = |digit: u64| f64::from_bits(digit | TWO_52.to_bits()) - TWO_52;
    let rounded_up = float(quadrant << 30);
    const DIGIT: f64 = 1.0 / (1_u64 << 32) as f64;
    const POINT: f64 = 1.0 / (1_u64 << 30) as f64;
    let d0 = (float(top) - rounded_up) * POINT;
    let d1 = float(digits[2 * N - 2]) * (POINT * DIGIT);
    let d2 = float(digits[2 * N - 3]) * (POINT * DIGIT * DIGIT);
    let d3 = float(digits[2 * N - 4]) * (POINT * DIGIT * DIGIT * DIGIT);
    let (f, f_lo) = two_sum(d0, d1);
    let (f, f_lo) = fast_two_sum(f, f_lo + (d2 + d3));
    let (y, y_lo) = two_product(f, PI_2[0]);
    let y_lo = f.mul_add(PI_2[1], f_lo.mul_add(PI_2[0], y_lo));

    let finite = bits < f64::INFINITY.to_bits();
    let negative = x < 0.0;
    Angle {
        y: if !finite {
            f64::NAN
        } else if negative {
            -y
        } else {
            y
        },
        y_lo: if negative { -y_lo } else { y_lo },
        quadrant: if negative { quadrant.wrapping_neg() } else { quadrant },
    }
}

/// `N` words of [`TWO_OVER_PI`] from bit `place` on.
#[inline(always)]
fn window<const N: usize, const STAGES: usize>(place: u64) -> [u64; N] {
    let mut words = TWO_OVER_PI;
    let index = place >> 6;
    for stage in (0..STAGES).rev() {
        let step = 1 << stage;
        let shift = index & (1 << stage) != 0;
        // Still needed: N + 1 words, and as many as the stages to come can skip.
        for i in 0..N + step {
            let next = if i + step < words.len() { words[i + step] } else { 0 };
            words[i] = if shift { next } else { words[i] };
        }
    }
    let bit = place & 63;
    let mut window = [0; N];
    for i in 0..N {
        // Two shifts, because a shift by 64 is not one.
        window[i] = (words[i] << bit) | ((words[i + 1] >> 1) >> (63 - bit));
    }
    window
}
