//! Reductions.
#![allow(unsafe_code)]
use super::engine::Operand;
use crate::dispatch;
use crate::dtype::{DType, Element, Scalar};

/// Kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Reduction {
    Sum,
    Prod,
    Max,
    Min,
    All,
    Any,
    ArgMax,
    ArgMin,
}

/// Stand-in.
///
/// # Safety
/// As for `map`.
pub unsafe fn reduce(
    kind: Reduction,
    _compute: DType,
    shape: &[usize],
    input: Operand,
    reduced: &[bool],
    output: Operand,
) {
    let n: usize = shape.iter().product();
    let outs: usize = shape.iter().zip(reduced).map(|(&s, &r)| if r { 1 } else { s }).product();
    for o in 0..outs {
        let mut rem = o;
        let mut base = 0isize;
        let mut obase = 0isize;
        for d in (0..shape.len()).rev() {
            if !reduced[d] {
                let i = rem % shape[d];
                rem /= shape[d];
                base += i as isize * input.strides[d];
                obase += i as isize * output.strides[d];
            }
        }
        let k = if outs == 0 { 0 } else { n / outs };
        let k = if n == 0 { 0 } else { k };
        let mut acc: Option<f64> = None;
        let mut arg = 0i64;
        for j in 0..k {
            let mut rem = j;
            let mut at = base;
            for d in (0..shape.len()).rev() {
                if reduced[d] {
                    let i = rem % shape[d];
                    rem /= shape[d];
                    at += i as isize * input.strides[d];
                }
            }
            // SAFETY: stand-in.
            let v = dispatch!(input.dtype, T => unsafe { input.ptr.cast::<T>().offset(at).read() }.to_scalar()).to_f64();
            acc = Some(match (acc, kind) {
                (None, Reduction::Any | Reduction::All) => (v != 0.0) as u8 as f64,
                (None, _) => v,
                (Some(a), Reduction::Sum) => a + v,
                (Some(a), Reduction::Prod) => a * v,
                (Some(a), Reduction::Max | Reduction::ArgMax) => {
                    if v > a || v.is_nan() {
                        arg = j as i64;
                        v
                    } else {
                        a
                    }
                }
                (Some(a), Reduction::Min | Reduction::ArgMin) => {
                    if v < a || v.is_nan() {
                        arg = j as i64;
                        v
                    } else {
                        a
                    }
                }
                (Some(a), Reduction::Any) => ((v != 0.0) || a != 0.0) as u8 as f64,
                (Some(a), Reduction::All) => ((v != 0.0) && a != 0.0) as u8 as f64,
            });
        }
        let r = match kind {
            Reduction::ArgMax | Reduction::ArgMin => Scalar::Int(arg),
            Reduction::Prod | Reduction::All => Scalar::Float(acc.unwrap_or(1.0)),
            _ => Scalar::Float(acc.unwrap_or(0.0)),
        };
        // SAFETY: stand-in.
        dispatch!(output.dtype, T => unsafe { output.ptr.cast::<T>().offset(obase).write(T::from_scalar(r)) });
    }
}
