//! Numbers in a row: `arange`, `linspace`, `logspace`.
//!
//! Each element is computed from its own index alone, with the arithmetic of PyTorch's scalar loop.
//! PyTorch starts anew at each vector register, so that its last bits depend on the width of those;
//! ours are the closer ones.

use super::create::{NEW, ONE, ZERO, check_value, option_dtype, signature};
use super::tags::*;
use super::{Args, Row};
use crate::dtype::{Category, DType, Element, Scalar, default_float};
use crate::kernels::interrupt::{PIECE, Patience};
use crate::random::Sample;
use crate::tensor::Tensor;
use crate::{Result, bail, dispatch};

/// Sets each element of a new tensor by a formula of its index; `$convert` of [`Sample`] says in
/// which type the formula computes.
macro_rules! each {
    ($out:expr, $convert:ident, |$i:ident| $value:expr) => {
        dispatch!($out.dtype(), T => $out.fill_with::<T, _>(|all| {
            let mut patience = Patience::over(all.len());
            for (n, piece) in all.chunks_mut(PIECE).enumerate() {
                for (j, element) in piece.iter_mut().enumerate() {
                    let $i = n * PIECE + j;
                    *element = <T as Sample>::$convert($value);
                }
                patience.look();
            }
        }))
    };
}

/// `start`, `start + step`, … up to `end`, without it.
///
/// Without a dtype, whole numbers give int64 and anything else the default floating type. The
/// number of elements is computed in float64, except for int64, where it is exact.
///
/// # Errors
/// The step is zero or leads away from `end`; a bound is not finite; bool.
///
/// ```
/// use wengert::{Scalar, ops::create::arange};
/// let t = arange(Scalar::Int(1), Scalar::Int(8), Scalar::Int(3), None)?;
/// assert_eq!(t.to_vec::<i64>()?, [1, 4, 7]);
/// # Ok::<(), wengert::Error>(())
/// ```
pub fn arange(start: Scalar, end: Scalar, step: Scalar, dtype: Option<DType>) -> Result<Tensor> {
    let whole = [start, end, step].iter().all(|s| s.category() != Category::Floating);
    let dtype = dtype.unwrap_or_else(|| if whole { DType::Int64 } else { default_float() });
    let (a, b, s) = (start.to_f64(), end.to_f64(), step.to_f64());
    if dtype.is_integral() {
        for bound in [start, end, step] {
            check_value(bound, DType::Int64)?;
        }
    }
    let zero_step = if dtype == DType::Int64 { step.to_i64() == 0 } else { s == 0.0 };
    if zero_step || s.is_nan() {
        bail!(Value, "", "step must be nonzero (arange from {start} to {end} in steps of {step})");
    }
    if !a.is_finite() || !b.is_finite() {
        let text = |x: f64| if x.is_nan() { "nan".into() } else { x.to_string() };
        bail!(Value, "", "unsupported range: {} -> {}", text(a), text(b));
    }
    if (s > 0.0 && b < a) || (s < 0.0 && b > a) {
        bail!(
            Value,
            "",
            "upper bound and lower bound inconsistent with step sign (arange from {start} to {end} \
             in steps of {step})"
        );
    }
    let count = if dtype == DType::Int64 {
        let (a, b, s) = (start.to_i64() as i128, end.to_i64() as i128, step.to_i64() as i128);
        usize::try_from((b - a + s - s.signum()) / s).ok()
    } else {
        let count = ((b - a) / s).ceil();
        (count < i64::MAX as f64).then_some(count as usize)
    };
    let Some(count) = count else {
        bail!(Overflow, "", "invalid size, possible overflow? (arange from {start} to {end})");
    };
    if dtype == DType::Bool {
        bail!(Unsupported, "", "\"arange_cpu\" not implemented for 'Bool'");
    }
    let out = Tensor::uninitialised("arange", &[count], dtype)?;
    if dtype.is_integral() {
        let (start, step) = (start.to_i64(), step.to_i64());
        each!(out, from_i64, |i| start.wrapping_add(step.wrapping_mul(i as i64)));
    } else if dtype.compute() == dtype {
        each!(out, from_f64, |i| a + s * i as f64);
    } else {
        let (start, step) = (a as f32, s as f32);
        each!(out, from_f32, |i| start + step * i as f32);
    }
    Ok(out)
}

/// The bounds of a sequence, arguments 0 and 1: numbers, or tensors without dimensions.
fn bounds(op: &'static str, c: &Args) -> Result<(Scalar, Scalar)> {
    let (start, end) = (c.tensor(0), c.tensor(1));
    if start.ndim() + end.ndim() > 0 {
        let text = |name: &str, ndim| match ndim {
            0 => None,
            _ => Some(format!("{name} with {ndim} dimension(s)")),
        };
        let found: Vec<String> =
            [text("start", start.ndim()), text("end", end.ndim())].into_iter().flatten().collect();
        bail!(
            Shape,
            "",
            "{op} only supports 0-dimensional start and end tensors, but got {}.",
            found.join(" and ")
        );
    }
    Ok((start.item()?, end.item()?))
}

fn steps(op: &'static str, steps: i64) -> Result<usize> {
    match usize::try_from(steps) {
        Ok(steps) => Ok(steps),
        Err(_) => bail!(Value, "", "number of steps must be non-negative ({op}: {steps})"),
    }
}

/// `count` numbers from `start` to `end`, both included, at equal distances.
///
/// The second half is counted from the end, so that the last element is `end` exactly. The
/// arithmetic is that of the type, with one rounding for `start + i * step`; float64 for integers.
///
/// # Errors
/// `count` is negative; bool; a bound that the type cannot hold.
pub fn linspace(start: Scalar, end: Scalar, count: i64, dtype: Option<DType>) -> Result<Tensor> {
    let count = steps("linspace", count)?;
    let dtype = dtype.unwrap_or_else(default_float);
    if dtype == DType::Bool {
        bail!(Unsupported, "", "\"linspace_cpu\" not implemented for 'Bool'");
    }
    check_value(start, dtype)?;
    check_value(end, dtype)?;
    let out = Tensor::uninitialised("linspace", &[count], dtype)?;
    if count == 1 {
        out.fill_raw(start);
        return Ok(out);
    }
    let (half, last) = (count / 2, count.saturating_sub(1));
    dispatch!(dtype, T => {
        // `from + step * k` as the type's own arithmetic has it.
        let point = |from: f64, step: f64, k: usize| match dtype {
            DType::Float32 => T::from_f32((step as f32).mul_add(k as f32, from as f32)),
            DType::Float16 | DType::BFloat16 => {
                let product = T::from_f64(step * T::from_f64(k as f64).to_f64());
                T::from_f64(from + product.to_f64())
            }
            _ => T::from_f64(step.mul_add(k as f64, from)),
        };
        let (a, b) = (T::from_scalar(start).to_f64(), T::from_scalar(end).to_f64());
        let step = match dtype.is_floating() {
            true => {
                let width = T::from_f64(b - a).to_f64();
                T::from_f64(width / T::from_f64(last as f64).to_f64()).to_f64()
            }
            false => (b - a) / last as f64,
        };
        out.fill_with::<T, _>(|all| for (i, element) in all.iter_mut().enumerate() {
            *element = if i < half { point(a, step, i) } else { point(b, -step, last - i) };
        });
    });
    Ok(out)
}

/// `base` to the powers of [`linspace`], computed in float64; bounds lose their fraction if the
/// type is whole.
///
/// # Errors
/// As those of [`linspace`].
pub fn logspace(
    start: Scalar,
    end: Scalar,
    count: i64,
    base: f64,
    dtype: Option<DType>,
) -> Result<Tensor> {
    let count = steps("logspace", count)?;
    let dtype = dtype.unwrap_or_else(default_float);
    if dtype == DType::Bool {
        bail!(Unsupported, "", "\"logspace_cpu\" not implemented for 'Bool'");
    }
    let bound = |x: Scalar| if dtype.is_integral() { x.to_i64() as f64 } else { x.to_f64() };
    let (a, b) = (bound(start), bound(end));
    let out = Tensor::uninitialised("logspace", &[count], dtype)?;
    let (half, last) = (count / 2, count.saturating_sub(1));
    let step = if last == 0 { 0.0 } else { (b - a) / last as f64 };
    let exponent = |i: usize| {
        if last == 0 || i < half { a + step * i as f64 } else { b - step * (last - i) as f64 }
    };
    each!(out, from_f64, |i| base.powf(exponent(i)));
    Ok(out)
}

/// This family's rows.
pub const ROWS: &[Row] = &[
    Row::make(
        "arange",
        &[
            signature!("end: Number, *"),
            signature!("start: Number, end: Number, step: Number = 1, *"),
        ],
        NEW | OUT,
        &[" Numbers from `start` (0) up to `end`, without it, in steps of `step` (1)."],
        |c| {
            let (start, end, step, options) = match c.overload {
                0 => (ZERO, c.number(0), ONE, 1),
                _ => (c.number(0), c.number(1), c.number(2), 3),
            };
            Ok(arange(start, end, step, option_dtype(c, options)?)?.into())
        },
    ),
    Row::make(
        "linspace",
        &[signature!("start: Operand, end: Operand, steps: int, *")],
        NEW | OUT,
        &[" `steps` numbers from `start` to `end`, both included, at equal distances."],
        |c| {
            let (start, end) = bounds("linspace", c)?;
            Ok(linspace(start, end, c.int(2), option_dtype(c, 3)?)?.into())
        },
    ),
    Row::make(
        "logspace",
        &[signature!("start: Operand, end: Operand, steps: int, base: float = 10.0, *")],
        NEW | OUT,
        &[" `steps` numbers from `base**start` to `base**end` at equal ratios."],
        |c| {
            let dtype = option_dtype(c, 4)?;
            let (start, end) = bounds("logspace", c)?;
            Ok(logspace(start, end, c.int(2), c.float(3), dtype)?.into())
        },
    ),
];
