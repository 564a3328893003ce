//! Normal variates by the transform of Box and Muller (Ann. Math. Stat. 29(2), 1958).
//!
//! Two uniforms give two independent normals, `r cos t` and `r sin t` with `r = sqrt(-2 ln u)`
//! and `t = 2 pi v`. PyTorch does this in two ways, and which one it takes shows in the values:
//!
//! - **one by one** (fewer than 16 values, or a tensor that is not contiguous): in double precision whatever the
//!   type; the sine value is kept in the generator for the next such draw, across calls;
//! - **in blocks of 16**: the first eight uniforms of a block are `u`, the other eight `v`. If the
//!   length is no multiple of 16, the *last* 16 places get a block of fresh draws, which overlaps
//!   the block before. float32 and float64 first draw, and throw away, the uniforms of the places
//!   that no whole block covers; half precision does not.
//!
//! A float32 block uses the polynomials of the Cephes library as vectorised in `avx_mathfun.h`
//! (Julien Pommier, Giovanni Garberoglio, zlib licence). Written there as separate products and
//! sums, they were fused by the compiler of PyTorch's x86-64 builds; the placement of the fused
//! operations below is theirs, found by comparison, and decides the last bit. Lanes never mix, so
//! the loop over eight pairs becomes vector code as it stands.

use super::engine::join;
use super::isa::{self, Kernel};
use super::{Generator, Mt19937, Sample, unit_f32, unit_f64};
use crate::dtype::DType;
use std::f32::consts::FRAC_1_SQRT_2;
use std::f64::consts::TAU;
use std::marker::PhantomData;

const BLOCK: usize = 16;

impl Generator {
    /// One standard normal from the one-by-one stream.
    pub(super) fn standard_normal(&mut self) -> f64 {
        if let Some(z) = self.cached_normal.take() {
            return z;
        }
        let u = unit_f64(self.engine.next_u64());
        let v = unit_f64(self.engine.next_u64());
        let radius = (-2.0 * (-v).ln_1p()).sqrt();
        let theta = TAU * u;
        self.cached_normal = Some(radius * theta.sin());
        radius * theta.cos()
    }

    /// Fills by blocks; `out` holds at least one.
    pub(super) fn normal_blocks<T: Sample>(&mut self, out: &mut [T], mean: f64, std: f64) {
        if T::DTYPE == DType::Float64 {
            self.blocks::<T, Double>(out, mean, std);
        } else {
            self.blocks::<T, Single>(out, mean, std);
        }
    }

    fn blocks<T: Sample, B: Block>(&mut self, out: &mut [T], mean: f64, std: f64) {
        let rest = out.len() % BLOCK;
        let (whole, _) = out.split_at_mut(out.len() - rest);
        let engine = &mut self.engine;
        isa::run(Blocks { engine, out: whole, mean, std, block: PhantomData::<B> });
        if rest > 0 {
            if matches!(T::DTYPE, DType::Float32 | DType::Float64) {
                engine.skip(rest * B::WORDS / BLOCK);
            }
            let start = out.len() - BLOCK;
            let last = &mut out[start..];
            isa::run(Blocks { engine, out: last, mean, std, block: PhantomData::<B> });
        }
    }
}

/// The transform of blocks, in one precision.
trait Block {
    /// 32-bit outputs that a block consumes.
    const WORDS: usize;
    fn transform<T: Sample>(words: &[u32], out: &mut [T], mean: f64, std: f64);
}

struct Blocks<'a, T, B> {
    engine: &'a mut Mt19937,
    /// A whole number of blocks.
    out: &'a mut [T],
    mean: f64,
    std: f64,
    block: PhantomData<B>,
}

/// Words drawn at a time: enough to keep loops long, few enough for the nearest cache.
const BUFFER: usize = 512;

impl<T: Sample, B: Block> Kernel for Blocks<'_, T, B> {
    #[inline(always)]
    fn run(self) {
        let mut words = [0; BUFFER];
        for out in self.out.chunks_mut(BUFFER / B::WORDS * BLOCK) {
            let words = &mut words[..out.len() / BLOCK * B::WORDS];
            self.engine.fill(words);
            B::transform(words, out, self.mean, self.std);
        }
    }
}

struct Single;

impl Block for Single {
    const WORDS: usize = BLOCK;

    #[inline(always)]
    fn transform<T: Sample>(words: &[u32], out: &mut [T], mean: f64, std: f64) {
        let (mean, std) = (mean as f32, std as f32);
        // The halves of all blocks side by side: one long loop, where one of eight rounds per
        // block would be unrolled to scalar code.
        let (mut first, mut second) = ([[0.0; 8]; BUFFER / BLOCK], [[0.0; 8]; BUFFER / BLOCK]);
        let words = words.as_chunks::<BLOCK>().0;
        for (k, words) in words.iter().enumerate() {
            for i in 0..8 {
                first[k][i] = unit_f32(words[i]);
                second[k][i] = unit_f32(words[i + 8]);
            }
        }
        let pairs = 8 * words.len();
        let a = &mut first.as_flattened_mut()[..pairs];
        let b = &mut second.as_flattened_mut()[..pairs];
        for (a, b) in a.iter_mut().zip(b) {
            let radius = (-2.0 * ln(1.0 - *a)).sqrt();
            let (sin, cos) = sin_cos(TAU as f32 * *b);
            *a = (radius * cos).mul_add(std, mean);
            *b = (radius * sin).mul_add(std, mean);
        }
        for (out, (a, b)) in out.chunks_exact_mut(BLOCK).zip(first.iter().zip(&second)) {
            let (left, right) = out.split_at_mut(8);
            T::store_f32(left, a);
            T::store_f32(right, b);
        }
    }
}

struct Double;

impl Block for Double {
    const WORDS: usize = 2 * BLOCK;

    #[inline(always)]
    fn transform<T: Sample>(words: &[u32], out: &mut [T], mean: f64, std: f64) {
        let draws = words.as_chunks::<2>().0;
        for (draws, out) in draws.chunks_exact(BLOCK).zip(out.chunks_exact_mut(BLOCK)) {
            for i in 0..8 {
                let u = 1.0 - unit_f64(join(draws[i]));
                let v = unit_f64(join(draws[i + 8]));
                let radius = (-2.0 * u.ln()).sqrt();
                let theta = TAU * v;
                out[i] = T::from_f64((radius * theta.cos()).mul_add(std, mean));
                out[i + 8] = T::from_f64((radius * theta.sin()).mul_add(std, mean));
            }
        }
    }
}

/// Natural logarithm of a normal number in (0, 1].
#[inline(always)]
#[allow(clippy::excessive_precision)] // the constants as published
fn ln(x: f32) -> f32 {
    let bits = x.to_bits();
    // x = m 2^e with m in [0.5, 1), then moved to [sqrt(1/2), sqrt(2)) and shifted by one.
    let m = f32::from_bits((bits & 0x007f_ffff) | 0x3f00_0000);
    let e = ((bits >> 23) as i32 - 126) as f32;
    let low = m < FRAC_1_SQRT_2;
    let e = if low { e - 1.0 } else { e };
    let m = (m - 1.0) + if low { m } else { 0.0 };
    let z = m * m;
    let mut y = 7.0376836292e-2_f32;
    y = y.mul_add(m, -1.1514610310e-1);
    y = y.mul_add(m, 1.1676998740e-1);
    y = y.mul_add(m, -1.2420140846e-1);
    y = y.mul_add(m, 1.4249322787e-1);
    y = y.mul_add(m, -1.6668057665e-1);
    y = y.mul_add(m, 2.0000714765e-1);
    y = y.mul_add(m, -2.4999993993e-1);
    y = y.mul_add(m, 3.3333331174e-1);
    y *= m;
    y = y.mul_add(z, e * -2.12194440e-4);
    y = (-z).mul_add(0.5, y);
    e.mul_add(0.693359375, m + y)
}

/// Sine and cosine of `x` in [0, 2 pi].
#[inline(always)]
#[allow(clippy::excessive_precision)] // the constants as published
fn sin_cos(x: f32) -> (f32, f32) {
    // The octant, 0 to 8, is the whole part of x / (pi/4), found by rounding: adding 2^23 leaves
    // the integer in the low bits. `as i32` saturates, which has no vector instruction.
    let y = x * 1.27323954473516;
    let shifted = y + 8388608.0;
    let octant = (shifted.to_bits() & 15) as i32 - (shifted - 8388608.0 > y) as i32;
    // The nearest even multiple of pi/4, subtracted in three parts.
    let octant = (octant + 1) & !1;
    let n = octant as f32;
    let mut x = n.mul_add(-0.78515625, x);
    x = n.mul_add(-2.4187564849853515625e-4, x);
    x = n.mul_add(-3.77489497744594108e-8, x);
    let z = x * x;

    let mut c = 2.443315711809948e-5_f32;
    c = c.mul_add(z, -1.388731625493765e-3);
    c = c.mul_add(z, 4.166664568298827e-2);
    c *= z;
    c = c.mul_add(z, -(z * 0.5)) + 1.0;

    let mut s = -1.9515295891e-4_f32;
    s = s.mul_add(z, 8.3321608736e-3);
    s = s.mul_add(z, -1.6666654611e-1);
    s *= z;
    s = s.mul_add(x, x);

    let (sin, cos) = if octant & 2 == 0 { (s, c) } else { (c, s) };
    let sin_sign = ((octant & 4) as u32) << 29;
    let cos_sign = (!(octant - 2) & 4) as u32;
    (f32::from_bits(sin.to_bits() ^ sin_sign), f32::from_bits(cos.to_bits() ^ (cos_sign << 29)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn polynomials_are_accurate() {
        for i in 1..=1 << 16 {
            let x = i as f32 / 65536.0;
            let exact = (x as f64).ln();
            assert!((ln(x) as f64 - exact).abs() <= 1.5e-7 * exact.abs().max(0.5), "ln {x}");
            let t = x * TAU as f32;
            let (s, c) = sin_cos(t);
            assert!((s as f64 - (t as f64).sin()).abs() < 2e-7, "sin {t}");
            assert!((c as f64 - (t as f64).cos()).abs() < 2e-7, "cos {t}");
        }
    }

    /// The baseline build calls the C library for fused operations, the other has instructions.
    #[test]
    fn both_builds_give_the_same_bits() {
        let (mut engine, mut twin) = (Mt19937::new(9), Mt19937::new(9));
        let (mut x, mut y) = (vec![0.0_f32; 16 * 501], vec![0.0_f32; 16 * 501]);
        let block = PhantomData::<Single>;
        isa::run(Blocks { engine: &mut engine, out: &mut x[..], mean: 0.3, std: 1.7, block });
        Blocks { engine: &mut twin, out: &mut y[..], mean: 0.3, std: 1.7, block }.run();
        assert!(x.iter().zip(&y).all(|(a, b)| a.to_bits() == b.to_bits()));
    }
}
