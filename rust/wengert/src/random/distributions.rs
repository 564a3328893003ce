//! Continuous distributions, coin flips and dropout.
//!
//! A draw is a pure function of 32 or 64 bits, so each function here is its checks and one
//! closure. Closures use fused multiply-adds where PyTorch's compiled code has them.

use super::integers::{unsupported, value};
use super::{Generator, Sample, unit_f32, unit_f64};
use crate::dtype::DType;
use crate::error::{Error, Kind, Result};
use std::f64::consts::PI;

impl Generator {
    /// Uniform in [`from`, `to`): `uniform_`, and `rand` with 0 and 1.
    ///
    /// Half precision rounds a single-precision draw. A result that rounds up to `to` becomes
    /// `from`.
    ///
    /// # Errors
    /// `T` is not floating, a bound or the width is not finite in it, or `from > to`.
    pub fn uniform<T: Sample>(&mut self, out: &mut [T], from: f64, to: f64) -> Result<()> {
        if !T::DTYPE.is_floating() {
            return Err(unsupported("check_uniform_bounds", T::DTYPE));
        }
        let (least, greatest) = T::limits();
        for (bound, name) in [(from, "from"), (to, "to")] {
            if !(least..=greatest).contains(&bound) {
                return Err(value(format!("{name} is out of bounds for {}", T::CPP_NAME)));
            }
        }
        let (low, high) = (number(from), number(to));
        if from > to {
            return Err(value(format!(
                "uniform_ expects to return a [from, to) range, but found from={low} > to={high}"
            )));
        }
        if to - from > greatest {
            return Err(value(format!(
                "uniform_ expects to-from <= std::numeric_limits<{}>::max(), but found to={high} \
                 and from={low} which result in to-from to exceed the limit",
                T::DTYPE.scalar_type_name()
            )));
        }
        match T::DTYPE {
            DType::Float64 => {
                let width = to - from;
                self.draw64(out, move |r| {
                    let x = unit_f64(r).mul_add(width, from);
                    T::from_f64(if x == to { from } else { x })
                });
            }
            DType::Float32 => {
                let (from, to) = (from as f32, to as f32);
                let width = to - from;
                self.draw32(out, move |r| {
                    let x = unit_f32(r).mul_add(width, from);
                    T::from_f32(if x == to { from } else { x })
                });
            }
            _ => {
                let (start, end) = (T::from_f64(from), T::from_f64(to));
                let from = from as f32;
                let width = to as f32 - from;
                let mut singles = [0.0; 512];
                for outs in out.chunks_mut(singles.len()) {
                    let singles = &mut singles[..outs.len()];
                    self.draw32(singles, |r| unit_f32(r).mul_add(width, from));
                    T::store_f32(outs, singles);
                    // Rounding reaches `to` often enough to matter.
                    outs.iter_mut().filter(|x| **x == end).for_each(|x| *x = start);
                }
            }
        }
        Ok(())
    }

    /// Normal: `normal_`, and `randn` with 0 and 1. `out` is a contiguous tensor.
    ///
    /// From 16 values on, drawn in blocks of 16; fewer are drawn as
    /// [`normal_one_by_one`](Self::normal_one_by_one) does.
    ///
    /// # Errors
    /// `T` is not floating, or `std` is negative or NaN.
    ///
    /// ```
    /// # use wengert::random::Generator;
    /// let mut x = [0.0_f32; 2];
    /// Generator::new(0).normal(&mut x, 0.0, 1.0)?;
    /// assert_eq!(x, [1.5409960746765137, -0.293428897857666]);
    /// # Ok::<(), wengert::Error>(())
    /// ```
    pub fn normal<T: Sample>(&mut self, out: &mut [T], mean: f64, std: f64) -> Result<()> {
        if out.len() < 16 {
            return self.normal_one_by_one(out, mean, std);
        }
        check_normal::<T>(std)?;
        self.normal_blocks(out, mean, std);
        Ok(())
    }

    /// Normal, drawn one by one in float64: what PyTorch does for tensors that are not contiguous,
    /// transposed ones included, in memory order. The stream may continue across calls in the middle of a pair.
    ///
    /// # Errors
    /// `T` is not floating, or `std` is negative or NaN.
    pub fn normal_one_by_one<T: Sample>(
        &mut self,
        out: &mut [T],
        mean: f64,
        std: f64,
    ) -> Result<()> {
        check_normal::<T>(std)?;
        for o in out {
            *o = T::from_f64(self.standard_normal().mul_add(std, mean));
        }
        Ok(())
    }

    /// The exponential of a normal with these parameters, drawn one by one.
    ///
    /// # Errors
    /// `T` is not floating, or `std` is not positive.
    pub fn log_normal<T: Sample>(&mut self, out: &mut [T], mean: f64, std: f64) -> Result<()> {
        if std.is_nan() || std <= 0.0 {
            let found = number(std);
            return Err(value(format!("log_normal_ expects std > 0.0, but found std={found}")));
        }
        if !T::DTYPE.is_floating() {
            return Err(unsupported("log_normal_cpu", T::DTYPE));
        }
        for o in out {
            *o = T::from_f64(self.standard_normal().mul_add(std, mean).exp());
        }
        Ok(())
    }

    /// Exponential with rate `lambda`.
    ///
    /// # Errors
    /// `T` is not floating, or `lambda` is not positive.
    pub fn exponential<T: Sample>(&mut self, out: &mut [T], lambda: f64) -> Result<()> {
        if lambda.is_nan() || lambda <= 0.0 {
            let found = number(lambda);
            return Err(value(format!(
                "exponential_ expects lambda > 0.0, but found lambda={found}"
            )));
        }
        check_continuous::<T>("Exponential", T::DTYPE.scalar_type_name())?;
        let scale = -1.0 / lambda;
        self.draw64(out, move |r| T::from_f64(scale * (-unit_f64(r)).ln_1p()));
        Ok(())
    }

    /// Cauchy with location `median` and scale `sigma`.
    ///
    /// # Errors
    /// `T` is not floating, or `sigma` is not positive.
    pub fn cauchy<T: Sample>(&mut self, out: &mut [T], median: f64, sigma: f64) -> Result<()> {
        if sigma.is_nan() || sigma <= 0.0 {
            let found = number(sigma);
            return Err(value(format!("cauchy_ expects sigma > 0.0, but found sigma={found}")));
        }
        check_continuous::<T>("Cauchy", T::CPP_NAME)?;
        self.draw64(out, move |r| {
            T::from_f64((PI * (unit_f64(r) - 0.5)).tan().mul_add(sigma, median))
        });
        Ok(())
    }

    /// The number of trials up to the first success, of probability `p`; integers too.
    ///
    /// # Errors
    /// `T` is bool, or `p` is not inside (0, 1).
    pub fn geometric<T: Sample>(&mut self, out: &mut [T], p: f64) -> Result<()> {
        if !(p > 0.0 && p < 1.0) {
            let found = number(p);
            return Err(value(format!("geometric_ expects p to be in (0, 1), but got p={found}")));
        }
        if T::DTYPE == DType::Bool {
            return Err(unsupported("geometric_cpu", T::DTYPE));
        }
        let scale = (-p).ln_1p();
        self.draw64(out, move |r| T::from_f64((unit_f64(r).ln() / scale).ceil()));
        Ok(())
    }

    /// One with probability `p`, else zero, in any type: `bernoulli_(p)`.
    ///
    /// # Errors
    /// `p` is not in [0, 1].
    pub fn bernoulli<T: Sample>(&mut self, out: &mut [T], p: f64) -> Result<()> {
        if !(0.0..=1.0).contains(&p) {
            let found = number(p);
            return Err(value(format!("bernoulli_ expects p to be in [0, 1], but got p={found}")));
        }
        self.choose(out, p, T::from_i64(1));
        Ok(())
    }

    /// One with the probability at the same place of `p`: `bernoulli(p)`, `bernoulli_(p)`.
    ///
    /// # Errors
    /// The lengths differ, `P` is not floating, or a probability is not in [0, 1].
    pub fn bernoulli_each<T: Sample, P: Sample>(&mut self, out: &mut [T], p: &[P]) -> Result<()> {
        if out.len() != p.len() {
            let (outs, ps) = (out.len(), p.len());
            crate::bail!(Shape, "bernoulli", "{outs} values from {ps} probabilities");
        }
        if !P::DTYPE.is_floating() {
            return Err(unsupported("bernoulli_tensor_cpu_p_", P::DTYPE));
        }
        if let Some((i, bad)) =
            p.iter().map(|p| p.to_f64()).enumerate().find(|(_, p)| !(0.0..=1.0).contains(p))
        {
            crate::bail!(Value, "bernoulli", "p[{i}] is {}, not in [0, 1]", number(bad));
        }
        // Draws and probabilities advance together, a buffer at a time.
        let (one, zero) = (T::from_i64(1), T::from_i64(0));
        let mut uniforms = [0.0; 256];
        for (outs, ps) in out.chunks_mut(uniforms.len()).zip(p.chunks(uniforms.len())) {
            let uniforms = &mut uniforms[..outs.len()];
            if P::DTYPE == DType::Float64 {
                self.draw64(uniforms, unit_f64);
            } else {
                self.draw32(uniforms, |r| unit_f32(r) as f64);
            }
            for ((o, p), u) in outs.iter_mut().zip(ps).zip(uniforms) {
                *o = if *u < p.to_f64() { one } else { zero };
            }
        }
        Ok(())
    }

    /// The factors of dropout: 0 with probability `p`, else `1 / (1 - p)`.
    ///
    /// As `torch.nn.functional.dropout` in training: the result is input times this mask. With
    /// `p` 0 or 1 nothing is drawn.
    ///
    /// # Errors
    /// `T` is not floating, or `p` is not in [0, 1].
    pub fn dropout_mask<T: Sample>(&mut self, out: &mut [T], p: f64) -> Result<()> {
        if !(0.0..=1.0).contains(&p) {
            let found = number(p);
            return Err(value(format!(
                "dropout probability has to be between 0 and 1, but got {found}"
            )));
        }
        if !T::DTYPE.is_floating() {
            return Err(Error::plain(
                Kind::DType,
                format!(
                    "result type Float can't be cast to the desired output type {}",
                    T::DTYPE.scalar_type_name()
                ),
            ));
        }
        let keep = 1.0 - p;
        if p == 0.0 {
            out.fill(T::from_i64(1));
        } else if p == 1.0 {
            out.fill(T::from_i64(0));
        } else if T::DTYPE == DType::Float64 {
            self.choose(out, keep, T::from_f64(1.0 / keep));
        } else {
            self.choose(out, keep, T::from_f32(1.0 / keep as f32));
        }
        Ok(())
    }

    /// `chosen` with probability `p`, else zero.
    fn choose<T: Sample>(&mut self, out: &mut [T], p: f64, chosen: T) {
        // u < p for u = k 2^-53 exactly if k < p 2^53, rounded up: a comparison of integers.
        let threshold = (p * (1_u64 << 53) as f64).ceil() as i64;
        let zero = T::from_i64(0);
        self.draw64(out, move |r| {
            let k = (r & ((1 << 53) - 1)) as i64;
            if k < threshold { chosen } else { zero }
        });
    }
}

fn check_normal<T: Sample>(std: f64) -> Result<()> {
    if std.is_nan() || std < 0.0 {
        return Err(value(format!("normal expects std >= 0.0, but found std {}", number(std))));
    }
    if !T::DTYPE.is_floating() {
        return Err(unsupported("normal_kernel_cpu", T::DTYPE));
    }
    Ok(())
}

fn check_continuous<T: Sample>(name: &str, dtype: &str) -> Result<()> {
    if T::DTYPE.is_floating() {
        return Ok(());
    }
    Err(Error::plain(
        Kind::DType,
        format!(
            "{name} distribution is a continuous probability distribution. dtype must be a \
             floating point but you specified {dtype}"
        ),
    ))
}

/// A number as C++ streams print it: six significant digits, no trailing zeros.
pub(super) fn number(x: f64) -> String {
    if !x.is_finite() {
        return if x.is_nan() { "nan".into() } else { format!("{x}") };
    }
    let scientific = format!("{x:.5e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let trim = |digits: &str| match digits.contains('.') {
        true => digits.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => digits.to_owned(),
    };
    if (-4..6).contains(&exponent) {
        trim(&format!("{x:.*}", (5 - exponent) as usize))
    } else {
        let sign = if exponent < 0 { '-' } else { '+' };
        format!("{}e{sign}{:02}", trim(mantissa), exponent.abs())
    }
}
