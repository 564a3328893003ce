//! Instruction sets, chosen once.
//!
//! Kernels are scalar Rust. One `#[inline(always)]` body is compiled several times, each time
//! inlined into a wrapper that enables an instruction set, and LLVM vectorises it for that set.
//! There is nothing to keep in step by hand, and an instruction set nobody tested on still runs
//! the code everybody tested.
//!
//! **Same bits on every level.** Rust never contracts `a * b + c` and never reorders floating
//! point, so a body computes the same value per element however wide the vectors are; where a
//! fused multiply-add is wanted it is spelled `mul_add`, which is exact on every level (and a
//! slow library call on the baseline, which only processors from before 2013 use). Lane counts
//! of reductions are constants of the algorithm, not of the machine.

use std::sync::atomic::{AtomicU8, Ordering};

/// An instruction set that kernels are compiled for, in ascending order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Isa {
    /// What the target guarantees: SSE2 on x86-64, NEON on AArch64.
    Baseline = 0,
    /// AVX2 with FMA and the other features of x86-64-v3.
    Avx2 = 1,
    /// AVX-512 F, BW, CD, DQ and VL: x86-64-v4.
    Avx512 = 2,
}

/// How many instruction sets there are to choose from.
pub const LEVELS: usize = 3;

const UNKNOWN: u8 = u8::MAX;
static CHOSEN: AtomicU8 = AtomicU8::new(UNKNOWN);

/// The best instruction set of this machine.
///
/// The environment variable `WENGERT_ISA` (`baseline`, `avx2`, `avx512`), read at the first
/// call, lowers it: for measuring, and for ruling out a miscompilation.
#[inline]
pub fn isa() -> Isa {
    match CHOSEN.load(Ordering::Relaxed) {
        0 => Isa::Baseline,
        1 => Isa::Avx2,
        2 => Isa::Avx512,
        _ => choose(),
    }
}

#[cold]
fn choose() -> Isa {
    let limit = match std::env::var("WENGERT_ISA").as_deref() {
        Ok("baseline") => Isa::Baseline,
        Ok("avx2") => Isa::Avx2,
        _ => Isa::Avx512,
    };
    let chosen = detect().min(limit);
    CHOSEN.store(chosen as u8, Ordering::Relaxed);
    chosen
}

/// The best instruction set of this machine, asked from the processor.
fn detect() -> Isa {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        use std::is_x86_feature_detected as has;
        let v3 = has!("avx2")
            && has!("fma")
            && has!("bmi1")
            && has!("bmi2")
            && has!("lzcnt")
            && has!("popcnt")
            && has!("f16c");
        let v4 = has!("avx512f")
            && has!("avx512bw")
            && has!("avx512cd")
            && has!("avx512dq")
            && has!("avx512vl");
        if v3 && v4 {
            return Isa::Avx512;
        }
        if v3 {
            return Isa::Avx2;
        }
    }
    Isa::Baseline
}

/// Every level this machine can run, for tests that compare them.
#[cfg(test)]
pub fn available() -> Vec<Isa> {
    [Isa::Baseline, Isa::Avx2, Isa::Avx512].into_iter().filter(|&l| l <= detect()).collect()
}

/// Defines a function whose body is compiled for every instruction set; calling it runs the
/// body for the machine's. All arguments are passed on, so the body may be generic.
///
/// ```text
/// per_isa! {
///     /// Sums a row.
///     unsafe fn sum<T: Sum>(x: *const T, n: usize) -> T { ... }
/// }
/// ```
macro_rules! per_isa {
    ($(
        $(#[$meta:meta])*
        $vis:vis unsafe fn $name:ident $(<$($g:ident $(: $bound:path)?),+>)?
            ($($arg:ident : $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block
    )*) => { $(
        $(#[$meta])*
        #[inline]
        #[allow(clippy::too_many_arguments)]
        $vis unsafe fn $name $(<$($g $(: $bound)?),+>)? ($($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            unsafe fn body $(<$($g $(: $bound)?),+>)? ($($arg: $ty),*) $(-> $ret)? $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,bmi1,bmi2,lzcnt,popcnt,f16c")]
            unsafe fn avx2 $(<$($g $(: $bound)?),+>)? ($($arg: $ty),*) $(-> $ret)? {
                // SAFETY: the caller's promises are passed on unchanged.
                unsafe { body $(::<$($g),+>)? ($($arg),*) }
            }

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,bmi1,bmi2,lzcnt,popcnt,f16c")]
            #[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl")]
            unsafe fn avx512 $(<$($g $(: $bound)?),+>)? ($($arg: $ty),*) $(-> $ret)? {
                // SAFETY: the caller's promises are passed on unchanged.
                unsafe { body $(::<$($g),+>)? ($($arg),*) }
            }

            // SAFETY: `isa` names only what the processor has; the rest is the caller's promise.
            unsafe {
                match $crate::kernels::isa::isa() {
                    #[cfg(target_arch = "x86_64")]
                    $crate::kernels::isa::Isa::Avx2 => avx2 $(::<$($g),+>)? ($($arg),*),
                    #[cfg(target_arch = "x86_64")]
                    $crate::kernels::isa::Isa::Avx512 => avx512 $(::<$($g),+>)? ($($arg),*),
                    _ => body $(::<$($g),+>)? ($($arg),*),
                }
            }
        }
    )* };
}
pub(crate) use per_isa;

/// Runs `f` once per available level with that level in force.
///
/// Other threads see the change too, which is harmless: every level gives the same bits.
#[cfg(test)]
pub fn for_each_level(mut f: impl FnMut(Isa)) {
    let before = isa();
    for level in available() {
        CHOSEN.store(level as u8, Ordering::Relaxed);
        f(level);
    }
    CHOSEN.store(before as u8, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_choice_is_cached_and_available() {
        assert_eq!(isa(), isa());
        assert!(available().contains(&Isa::Baseline));
        assert!(available().iter().all(|&level| level <= detect()));
    }
}
