//! Runs a loop compiled for the instructions this CPU has.
//!
//! A loop is written once, as scalar Rust, and compiled twice: for the baseline of the target and
//! for x86-64 with AVX2 and FMA. Both give the same bits: every fused multiply-add in the source
//! is a fused multiply-add in either version (an instruction, or the C library's exact `fma`),
//! and nothing else is contracted or reordered.
#![allow(unsafe_code)]

/// A loop with its operands. Implementations mark `run` with `#[inline(always)]`, so that it is
/// compiled into, and with the instructions of, the function that calls it.
pub(super) trait Kernel {
    fn run(self);
}

/// Runs `kernel` with the best instructions available.
pub(super) fn run<K: Kernel>(kernel: K) {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2,fma")]
        fn avx2<K: Kernel>(kernel: K) {
            kernel.run();
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: the features `avx2` was compiled with are present, as just checked.
            return unsafe { avx2(kernel) };
        }
    }
    kernel.run();
}
