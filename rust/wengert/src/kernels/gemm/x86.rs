//! The registers of AVX2 and AVX-512.

use super::micro::{Float, Kernels, Simd, Square, kernels, portable_f32, portable_f64};
use std::arch::x86_64::*;

macro_rules! registers {
    ($V:ident, $t:ident, $lanes:literal, $Square:ident,
     $set1:ident, $loadu:ident, $storeu:ident, $fmadd:ident, $add:ident, $mul:ident) => {
        impl Simd for $V {
            type T = $t;
            const LANES: usize = $lanes;
            type Square = $Square;
            #[inline(always)]
            unsafe fn splat(x: $t) -> Self {
                // SAFETY: the caller vouches for the instructions.
                unsafe { $set1(x) }
            }
            #[inline(always)]
            unsafe fn load(from: *const $t) -> Self {
                // SAFETY: the caller vouches for the instructions and `LANES` elements.
                unsafe { $loadu(from) }
            }
            #[inline(always)]
            unsafe fn store(self, to: *mut $t) {
                // SAFETY: as above.
                unsafe { $storeu(to, self) }
            }
            #[inline(always)]
            unsafe fn fma(self, b: Self, c: Self) -> Self {
                // SAFETY: the caller vouches for the instructions.
                unsafe { $fmadd(self, b, c) }
            }
            #[inline(always)]
            unsafe fn add(self, b: Self) -> Self {
                // SAFETY: as above.
                unsafe { $add(self, b) }
            }
            #[inline(always)]
            unsafe fn mul(self, b: Self) -> Self {
                // SAFETY: as above.
                unsafe { $mul(self, b) }
            }
            #[inline(always)]
            unsafe fn fma1(a: $t, b: $t, c: $t) -> $t {
                // One instruction wherever this is inlined into a function that has it.
                Float::mul_add(a, b, c)
            }
        }
    };
}

registers!(
    __m512,
    f32,
    16,
    __m256,
    _mm512_set1_ps,
    _mm512_loadu_ps,
    _mm512_storeu_ps,
    _mm512_fmadd_ps,
    _mm512_add_ps,
    _mm512_mul_ps
);
registers!(
    __m512d,
    f64,
    8,
    __m256d,
    _mm512_set1_pd,
    _mm512_loadu_pd,
    _mm512_storeu_pd,
    _mm512_fmadd_pd,
    _mm512_add_pd,
    _mm512_mul_pd
);
registers!(
    __m256,
    f32,
    8,
    __m256,
    _mm256_set1_ps,
    _mm256_loadu_ps,
    _mm256_storeu_ps,
    _mm256_fmadd_ps,
    _mm256_add_ps,
    _mm256_mul_ps
);
registers!(
    __m256d,
    f64,
    4,
    __m256d,
    _mm256_set1_pd,
    _mm256_loadu_pd,
    _mm256_storeu_pd,
    _mm256_fmadd_pd,
    _mm256_add_pd,
    _mm256_mul_pd
);

impl Square for __m256 {
    /// Pairs, then pairs of pairs, then halves: three rounds of shuffles for 64 numbers.
    #[inline(always)]
    unsafe fn turn(r: &mut [Self; 8]) {
        // SAFETY: the caller vouches for the instructions.
        unsafe {
            let mut quads = *r;
            for j in 0..2 {
                let (a, b, c, d) = (r[4 * j], r[4 * j + 1], r[4 * j + 2], r[4 * j + 3]);
                let (ab0, ab1) = (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
                let (cd0, cd1) = (_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
                quads[j] = _mm256_shuffle_ps::<0x44>(ab0, cd0);
                quads[2 + j] = _mm256_shuffle_ps::<0xee>(ab0, cd0);
                quads[4 + j] = _mm256_shuffle_ps::<0x44>(ab1, cd1);
                quads[6 + j] = _mm256_shuffle_ps::<0xee>(ab1, cd1);
            }
            for i in 0..4 {
                let (low, high) = (quads[2 * i], quads[2 * i + 1]);
                r[i] = _mm256_permute2f128_ps::<0x20>(low, high);
                r[i + 4] = _mm256_permute2f128_ps::<0x31>(low, high);
            }
        }
    }

    #[inline(always)]
    fn prefetch(from: *const f32) {
        // SAFETY: every x86-64 has the instruction, and it cannot fault.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(from.cast()) };
    }
}

impl Square for __m256d {
    #[inline(always)]
    unsafe fn turn(r: &mut [Self; 8]) {
        // SAFETY: the caller vouches for the instructions.
        unsafe {
            let (a0, a1) = (_mm256_unpacklo_pd(r[0], r[1]), _mm256_unpackhi_pd(r[0], r[1]));
            let (b0, b1) = (_mm256_unpacklo_pd(r[2], r[3]), _mm256_unpackhi_pd(r[2], r[3]));
            r[0] = _mm256_permute2f128_pd::<0x20>(a0, b0);
            r[1] = _mm256_permute2f128_pd::<0x20>(a1, b1);
            r[2] = _mm256_permute2f128_pd::<0x31>(a0, b0);
            r[3] = _mm256_permute2f128_pd::<0x31>(a1, b1);
        }
    }

    #[inline(always)]
    fn prefetch(from: *const f64) {
        // SAFETY: every x86-64 has the instruction, and it cannot fault.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(from.cast()) };
    }
}

kernels!(
    avx512_f32, "avx512", std::arch::x86_64::__m512, f32, [1 2 3 4 5 6 7 8 9 10 11 12 13 14], "avx512f,avx2,fma"
);
kernels!(
    avx512_f64, "avx512", std::arch::x86_64::__m512d, f64, [1 2 3 4 5 6 7 8 9 10 11 12 13 14], "avx512f,avx2,fma"
);
kernels!(avx2_f32, "avx2", std::arch::x86_64::__m256, f32, [1 2 3 4 5 6], "avx2,fma");
kernels!(avx2_f64, "avx2", std::arch::x86_64::__m256d, f64, [1 2 3 4 5 6], "avx2,fma");

/// How many of a list of kernels (AVX-512, AVX2, portable) this machine cannot run.
#[inline]
fn skipped() -> usize {
    // The standard library caches both answers.
    if is_x86_feature_detected!("avx512f") {
        0
    } else if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        1
    } else {
        2
    }
}

macro_rules! list {
    ($t:ident, $avx512:ident, $avx2:ident, $portable:ident) => {
        /// The kernels that this machine can run, the best first.
        #[inline]
        pub fn $t() -> &'static [&'static Kernels<$t>] {
            static ALL: [&Kernels<$t>; 3] =
                [&$avx512::KERNELS, &$avx2::KERNELS, &$portable::KERNELS];
            &ALL[skipped()..]
        }
    };
}
list!(f32, avx512_f32, avx2_f32, portable_f32);
list!(f64, avx512_f64, avx2_f64, portable_f64);
