//! Variance and standard deviation, alone and together with the mean.
//!
//! One kernel finds mean and squared deviations in a single pass in `f64`. The correction is what
//! is subtracted from the number of elements in the divisor: 1 for the estimate from a sample
//! (Bessel), 0 for the variance of the elements themselves.

use super::reduce::{Mask, axes, count, mean, result, unreduce, with_axes};
use super::tags::*;
use super::{Args, Call, Dest, Output, Row, binary, cast, compare, unary};
use crate::batch::Batching;
use crate::graph::{Attribute, Attributes, Context, Gradients, Op, record};
use crate::kernels::engine::Operand;
use crate::kernels::reduce;
use crate::tensor::Tensor;
use crate::{DType, Result, bail};
use smallvec::{SmallVec, smallvec};

/// What a call asks for.
#[derive(Clone, Copy)]
struct Wanted {
    op: &'static str,
    node: &'static str,
    /// The square root.
    deviation: bool,
    mean: bool,
}

const VAR: Wanted = Wanted { op: "var", node: "VarBackward0", deviation: false, mean: false };
const STD: Wanted = Wanted { op: "std", node: "StdBackward0", deviation: true, mean: false };
const VAR_MEAN: Wanted =
    Wanted { op: "var_mean", node: "VarMeanBackward0", deviation: false, mean: true };
const STD_MEAN: Wanted =
    Wanted { op: "std_mean", node: "StdMeanBackward0", deviation: true, mean: true };

struct Rule {
    wanted: Wanted,
    mask: Mask,
    keepdim: bool,
    correction: f64,
    /// Axes were named.
    named: bool,
}

impl Op for Rule {
    fn name(&self) -> &'static str {
        self.wanted.node
    }

    fn attributes(&self) -> Attributes {
        let mut list = vec![
            ("self", Attribute::Saved(0)),
            ("dim", Attribute::named_axes(&self.mask, self.named)),
            ("keepdim", Attribute::bool(self.keepdim)),
            ("correction", Attribute::float(self.correction)),
        ];
        if self.wanted.deviation {
            let name = if self.wanted.mean { "result0" } else { "result" };
            list.push((name, Attribute::Saved(1)));
        }
        list
    }

    /// `∂var/∂x = 2 (x - mean) / (n - correction)`; the gradient of a deviation of 0 is 0.
    fn backward(&self, ctx: &Context, grads: &[Option<Tensor>]) -> Result<Gradients> {
        let x = ctx.saved(0);
        let n = count(x, &self.mask) as f64;
        let mut gradient = None;
        if let Some(g) = &grads[0] {
            let mut g = with_axes(g, x.shape(), &self.mask, self.keepdim)?;
            if self.wanted.deviation {
                let y = with_axes(ctx.saved(1), x.shape(), &self.mask, self.keepdim)?;
                let zero = binary::number(0.0)?;
                let flat = compare::eq(&y, &zero)?;
                // Not to divide by zero, whose derivative would spoil a second-order pass.
                let y = binary::where_(&flat, &binary::number(1.0)?, &y)?;
                g = binary::where_(&flat, &zero, &(g / (y * 2.0)))?;
            }
            // A number answers to the name 0 of an axis it does not have.
            let dims = (0..x.ndim().max(1)).filter(|&d| *self.mask.get(d).unwrap_or(&true));
            let dims: SmallVec<[i64; 8]> = dims.map(|d| d as i64).collect();
            let centred = x - mean(x, Some(&dims), true, None)?;
            gradient = Some(g * (2.0 / (n - self.correction)) * centred);
        }
        if let Some(g) = grads.get(1).and_then(Option::as_ref) {
            let share = unreduce(&(g * (1.0 / n)), x.shape(), &self.mask, self.keepdim)?;
            gradient = Some(match gradient {
                Some(sum) => sum + share,
                None => share,
            });
        }
        Ok(smallvec![gradient])
    }
}

/// Runs the kernel: variance or deviation, then the mean if it is wanted.
#[allow(unsafe_code)]
fn moments(
    wanted: Wanted,
    x: &Tensor,
    dims: Option<&[i64]>,
    correction: f64,
    keepdim: bool,
) -> Result<SmallVec<[Tensor; 2]>> {
    let op = wanted.op;
    if !x.dtype().is_floating() {
        let who = if wanted.mean {
            format!("{op} only supports")
        } else {
            "std and var only support".into()
        };
        bail!(DType, "", "{who} floating point and complex dtypes");
    }
    let mask = axes(x, dims)?;
    // A deviation may fit a narrow type when its square does not.
    let dtype = if wanted.deviation { DType::Float64 } else { x.dtype() };
    let (spread, strides) = result(op, x, &mask, keepdim, dtype)?;
    let mean = match wanted.mean {
        true => Some(result(op, x, &mask, keepdim, x.dtype())?.0),
        false => None,
    };
    let operand = |t: &Tensor| (t.data_ptr(), t.dtype());
    let (ptr, dtype) = operand(&spread);
    let output = Operand { ptr, dtype, strides: &strides };
    let mean_output = mean.as_ref().map(operand);
    let mean_output = mean_output.map(|(ptr, dtype)| Operand { ptr, dtype, strides: &strides });
    // SAFETY: `x`'s layout lies inside its storage; the outputs have one element for each index of
    // the kept axes, in new memory.
    unsafe { reduce::variance(x.shape(), x.operand(), &mask, correction, output, mean_output) };
    let spread = match wanted.deviation {
        true => cast::to_dtype(&unary::sqrt::run([&spread], Dest::Into(&spread))?, x.dtype())?,
        false => spread,
    };
    let outputs: SmallVec<[Tensor; 2]> = std::iter::once(spread).chain(mean).collect();
    if record::recording(&[x]) {
        let refs: SmallVec<[&Tensor; 2]> = outputs.iter().collect();
        let saves = [(0, x), (1, &outputs[0])];
        let rule = Rule { wanted, mask, keepdim, correction, named: dims.is_some() };
        let saves = &saves[..1 + wanted.deviation as usize];
        record::record_many(&refs, &[x], saves, Box::new(rule))?;
    }
    Ok(outputs)
}

/// Variance over axes (all if none are named), `Σ (x - mean)² / (n - correction)`.
pub fn var(x: &Tensor, dims: Option<&[i64]>, correction: f64, keepdim: bool) -> Result<Tensor> {
    Ok(moments(VAR, x, dims, correction, keepdim)?.remove(0))
}

/// Standard deviation over axes (all if none are named), the root of [`var`].
pub fn std(x: &Tensor, dims: Option<&[i64]>, correction: f64, keepdim: bool) -> Result<Tensor> {
    Ok(moments(STD, x, dims, correction, keepdim)?.remove(0))
}

/// [`var`] and the mean.
pub fn var_mean(
    x: &Tensor,
    dims: Option<&[i64]>,
    correction: f64,
    keepdim: bool,
) -> Result<Vec<Tensor>> {
    Ok(moments(VAR_MEAN, x, dims, correction, keepdim)?.into_vec())
}

/// [`std()`] and the mean.
pub fn std_mean(
    x: &Tensor,
    dims: Option<&[i64]>,
    correction: f64,
    keepdim: bool,
) -> Result<Vec<Tensor>> {
    Ok(moments(STD_MEAN, x, dims, correction, keepdim)?.into_vec())
}

macro_rules! signatures {
    ($returns:literal) => {
        &[
            concat!("(input, dim: int[]?, unbiased: bool = True, keepdim: bool = False)", $returns),
            concat!(
                "(input, dim: int[]? = None, *, correction: Number? = None, keepdim: bool = False)",
                $returns
            ),
            concat!("(input, unbiased: bool = True)", $returns),
        ]
    };
}

const ONE: &[&str] = signatures!("");
const WITH_MEAN: &[&str] = signatures!(" -> (Tensor, Tensor)");

fn call(wanted: Wanted, c: &Args) -> Result<Output> {
    let x = c.tensor(0);
    let bessel = |i: usize| c.bool(i) as u8 as f64;
    let mut outputs = match c.overload {
        0 => moments(wanted, x, c.opt_ints(1), bessel(2), c.bool(3)),
        1 => {
            let correction = c.opt_number(2).map_or(1.0, |n| n.to_f64());
            moments(wanted, x, c.opt_ints(1), correction, c.bool(3))
        }
        _ => moments(wanted, x, None, bessel(1), false),
    }?;
    Ok(if wanted.mean { outputs.into_vec().into() } else { outputs.remove(0).into() })
}

/// This family's rows.
pub const ROWS: &[Row] = &[
    Row {
        name: "var",
        aliases: &[],
        signatures: ONE,
        doc: &[" Variance over the given axes, or over all; divided by `n - correction`."],
        tags: FUNCTION | METHOD | OUT,
        batch: Batching::Reduce,
        call: Call::Make(|c| call(VAR, c)),
    },
    Row {
        name: "std",
        aliases: &[],
        signatures: ONE,
        doc: &[" Standard deviation over the given axes, or over all."],
        tags: FUNCTION | METHOD | OUT,
        batch: Batching::Reduce,
        call: Call::Make(|c| call(STD, c)),
    },
    Row {
        name: "var_mean",
        aliases: &[],
        signatures: WITH_MEAN,
        doc: &[" Variance and mean over the given axes, or over all, in one pass."],
        tags: FUNCTION,
        batch: Batching::Reduce,
        call: Call::Make(|c| call(VAR_MEAN, c)),
    },
    Row {
        name: "std_mean",
        aliases: &[],
        signatures: WITH_MEAN,
        doc: &[" Standard deviation and mean over the given axes, or over all, in one pass."],
        tags: FUNCTION,
        batch: Batching::Reduce,
        call: Call::Make(|c| call(STD_MEAN, c)),
    },
];
