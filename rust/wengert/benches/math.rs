//! Elementary functions over a row, compiled for AVX2 and AVX-512:
//!
//!     cargo bench -p wengert --bench math
//!
//! Items are elements: 1 Gitem/s is a nanosecond an element. The row stays in the first-level
//! cache. A function that does not vectorise shows at once, at a tenth of its neighbours.

fn main() {
    divan::main();
}

/// Elements of the row.
#[cfg(target_arch = "x86_64")]
const LEN: usize = 1024;

#[cfg(target_arch = "x86_64")]
macro_rules! rows {
    ($isa:ident, $features:literal, $detected:expr; $($name:ident)+) => {
        mod $isa {
            use divan::counter::ItemsCount;
            use wengert::kernels::math::{self, Real};

            use super::LEN;

            $(
                #[divan::bench(types = [f32, f64])]
                fn $name<T: Real + From<f32>>(bencher: divan::Bencher) {
                    #[target_feature(enable = $features)]
                    fn row<T: Real>(x: &[T], y: &mut [T]) {
                        for (y, &x) in y.iter_mut().zip(x) {
                            *y = math::$name(x);
                        }
                    }

                    if !$detected {
                        return;
                    }
                    let x: Vec<T> = (1..=LEN).map(|i| T::from(i as f32 / 128.0)).collect();
                    let mut y = x.clone();
                    bencher.counter(ItemsCount::new(LEN)).bench_local(|| {
                        // SAFETY: the features were detected above.
                        unsafe { row(divan::black_box(&x), divan::black_box(&mut y)) }
                    });
                }
            )+

            #[divan::bench(types = [f32, f64])]
            fn pow<T: Real + From<f32>>(bencher: divan::Bencher) {
                #[target_feature(enable = $features)]
                fn row<T: Real>(x: &[T], exponent: T, y: &mut [T]) {
                    for (y, &x) in y.iter_mut().zip(x) {
                        *y = math::pow(x, exponent);
                    }
                }

                if !$detected {
                    return;
                }
                let x: Vec<T> = (1..=LEN).map(|i| T::from(i as f32 / 128.0)).collect();
                let mut y = x.clone();
                bencher.counter(ItemsCount::new(LEN)).bench_local(|| {
                    let exponent = divan::black_box(T::from(2.5));
                    // SAFETY: the features were detected above.
                    unsafe { row(divan::black_box(&x), exponent, divan::black_box(&mut y)) }
                });
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
rows! {
    avx2, "avx2,fma", is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
    exp exp2 expm1 tanh sigmoid sinh cosh ln log1p log2 log10 softplus rsqrt sin sin_moderate cos_moderate tan_moderate atan erf erfc
}

#[cfg(target_arch = "x86_64")]
rows! {
    avx512, "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma",
    is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512dq") && is_x86_feature_detected!("avx512bw");
    exp exp2 expm1 tanh sigmoid sinh cosh ln log1p log2 log10 softplus rsqrt sin sin_moderate cos_moderate tan_moderate atan erf erfc
}
