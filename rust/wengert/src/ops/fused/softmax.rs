//! Softmax and its logarithm, and `ln Σ eˣ`, along an axis.
//!
//! The kernels see a tensor as `(outer, n, inner)`, row-major. Derivatives, with `y` the result,
//! `g` its gradient and sums along the axis:
//!
//! ```text
//! y = softmax(x)       gx = y (g - Σ g y)
//! y = log_softmax(x)   gx = g - e^y Σ g
//! y = ln Σ e^x         gx = g e^(x - y)
//! ```

use super::{for_kernel, for_user, with_real};
use crate::batch::{Batching, axes, lift};
use crate::graph::{Attribute, Attributes, Context, Gradients, Op, forward::linear, record};
use crate::kernels::softmax::{self as kernels, Rows};
use crate::layout::{Dims, wrap_dim};
use crate::ops::tags::*;
use crate::ops::{Call, Row, cast, reduce, unary, view};
use crate::tensor::Tensor;
use crate::{DType, Result, bail};
use smallvec::{SmallVec, smallvec};

/// A tensor as rows along axis `dim`.
pub(super) fn rows_along(shape: &[usize], dim: usize) -> Rows {
    let after = (dim + 1).min(shape.len());
    Rows {
        outer: shape[..dim].iter().product(),
        n: shape.get(dim).copied().unwrap_or(1),
        inner: shape[after..].iter().product(),
    }
}

/// Which of the two functions.
#[derive(Clone, Copy, PartialEq)]
enum Which {
    Plain,
    Log,
}

impl Which {
    fn names(self) -> [&'static str; 3] {
        match self {
            Which::Plain => ["softmax", "SoftmaxBackward0", "SoftmaxBackwardDataBackward0"],
            Which::Log => ["log_softmax", "LogSoftmaxBackward0", "LogSoftmaxBackwardDataBackward0"],
        }
    }
}

struct Rule(Which, usize);

impl Op for Rule {
    fn name(&self) -> &'static str {
        self.0.names()[1]
    }

    fn attributes(&self) -> Attributes {
        vec![("result", Attribute::Saved(0)), ("dim", Attribute::int(self.1))]
    }

    fn backward(&self, ctx: &Context, grads: &[Option<Tensor>]) -> Result<Gradients> {
        let Some(g) = &grads[0] else { return Ok(Gradients::new()) };
        Ok(smallvec![Some(backward(self.0, g, ctx.saved(0), self.1)?)])
    }

    /// `dy = y (dx - Σ y dx)`, or `dx - Σ e^y dx` for the logarithm.
    fn jvp(&self, ctx: &Context, v: &[Option<Tensor>], _: &[&Tensor]) -> Result<Option<Gradients>> {
        let Rule(which, dim) = *self;
        let y = ctx.saved(0);
        linear(v, |v| match which {
            // The Jacobian is symmetric.
            Which::Plain => backward(which, v, y, dim),
            Which::Log => {
                Ok(v - reduce::sum(&(v * unary::exp(y)?), Some(&[dim as i64]), true, None)?)
            }
        })
    }
}

#[allow(unsafe_code)]
fn forward(which: Which, x: &Tensor, dim: i64, dtype: Option<DType>) -> Result<Tensor> {
    let x = &match dtype {
        Some(dtype) => cast::to_dtype(x, dtype)?,
        None => x.clone(),
    };
    let [name, ..] = which.names();
    let dim = wrap_dim(dim, x.ndim())?;
    if !x.dtype().is_floating() {
        let kind = x.dtype().scalar_type_name();
        bail!(
            Unsupported,
            "",
            "\"{name}_lastdim_kernel_impl\" not implemented for '{kind}'; give dtype= or convert"
        );
    }
    let compute = x.dtype().compute();
    let input = for_kernel(name, x, compute)?;
    let out = Tensor::uninitialised(name, x.shape(), compute)?;
    let rows = rows_along(x.shape(), dim);
    let (from, to) = (input.data_ptr(), out.data_ptr());
    with_real!(compute, T => {
        // SAFETY: both are row-major of type `T` with the elements of `rows`, and `out` is new.
        unsafe {
            match which {
                Which::Plain => kernels::softmax::<T>(from.cast(), to.cast(), rows),
                Which::Log => kernels::log_softmax::<T>(from.cast(), to.cast(), rows),
            }
        }
    });
    let y = for_user(name, out, x.dtype())?;
    if record::recording(&[x]) {
        record::record(&y, &[x], &[(0, &y)], Box::new(Rule(which, dim)))?;
    }
    Ok(y)
}

/// The rule of a derivative, linear in the gradient.
struct BackwardRule(Which, usize);

const G: u8 = 0;
const Y: u8 = 1;

impl Op for BackwardRule {
    fn name(&self) -> &'static str {
        self.0.names()[2]
    }

    fn attributes(&self) -> Attributes {
        vec![
            ("grad_output", Attribute::Saved(G)),
            ("output", Attribute::Saved(Y)),
            ("dim", Attribute::int(self.1)),
        ]
    }

    fn backward(&self, ctx: &Context, grads: &[Option<Tensor>]) -> Result<Gradients> {
        let Some(h) = &grads[0] else { return Ok(Gradients::new()) };
        let BackwardRule(which, dim) = *self;
        let sum = |x: Tensor| reduce::sum(&x, Some(&[dim as i64]), true, None);
        let y = ctx.saved(Y);
        let mut out: Gradients = smallvec![None, None];
        if ctx.needs(0) {
            out[0] = Some(match which {
                Which::Plain => backward(which, h, y, dim)?,
                Which::Log => h - sum(h * unary::exp(y)?)?,
            });
        }
        if ctx.needs(1) {
            let g = ctx.saved(G);
            out[1] = Some(match which {
                Which::Plain => h * (g - sum(g * y)?) - g * sum(h * y)?,
                Which::Log => -(h * unary::exp(y)? * sum(g.clone())?),
            });
        }
        Ok(out)
    }
}

/// The gradient of the input from those of the output `y` along axis `dim`.
#[allow(unsafe_code)]
fn backward(which: Which, g: &Tensor, y: &Tensor, dim: usize) -> Result<Tensor> {
    if y.ndim() > 0 && crate::batch::any(&[g, y]) {
        return lift::over_all([g, y], |[g, y], k| backward(which, g, y, dim + k));
    }
    let [name, ..] = which.names();
    let compute = y.dtype().compute();
    let (grad, output) = (for_kernel(name, g, compute)?, for_kernel(name, y, compute)?);
    let out = Tensor::uninitialised(name, y.shape(), compute)?;
    let rows = rows_along(y.shape(), dim);
    let (from, result, to) = (grad.data_ptr(), output.data_ptr(), out.data_ptr());
    with_real!(compute, T => {
        // SAFETY: all are row-major of type `T` with the elements of `rows` (the scheduler gives
        // `g` the shape of `y`), and `out` is new.
        unsafe {
            let (from, result, to) = (from.cast(), result.cast(), to.cast());
            match which {
                Which::Plain => kernels::softmax_backward::<T>(from, result, to, rows),
                Which::Log => kernels::log_softmax_backward::<T>(from, result, to, rows),
            }
        }
    });
    let gx = for_user(name, out, y.dtype())?;
    if record::recording(&[g, y]) {
        record::record(&gx, &[g, y], &[(G, g), (Y, y)], Box::new(BackwardRule(which, dim)))?;
    }
    Ok(gx)
}

/// `eˣ / Σ eˣ` along an axis, converted to `dtype` before if that is given.
///
/// ```
/// # use wengert::{Tensor, ops::fused::softmax::softmax};
/// let x = Tensor::from_slice(&[0.0f64, 0.0], &[2]).unwrap();
/// assert_eq!(softmax(&x, 0, None).unwrap().to_vec::<f64>().unwrap(), [0.5, 0.5]);
/// ```
///
/// # Errors
/// If there is no such axis, or if the type is not a floating one.
pub fn softmax(x: &Tensor, dim: i64, dtype: Option<DType>) -> Result<Tensor> {
    forward(Which::Plain, x, dim, dtype)
}

/// `x - ln Σ eˣ` along an axis, converted to `dtype` before if that is given.
///
/// # Errors
/// As for [`softmax`].
pub fn log_softmax(x: &Tensor, dim: i64, dtype: Option<DType>) -> Result<Tensor> {
    forward(Which::Log, x, dim, dtype)
}

/// The gradient of [`softmax`] from its result `y` and the gradient `g` of that; differentiable.
pub(crate) fn softmax_backward(g: &Tensor, y: &Tensor, dim: usize) -> Result<Tensor> {
    backward(Which::Plain, g, y, dim)
}

/// The definition of [`softmax`], for numbers whose exponential is finite.
pub fn composed(x: &Tensor, dim: i64) -> Result<Tensor> {
    let e = unary::exp(x)?;
    super::super::div(&e, &reduce::sum(&e, Some(&[dim]), true, None)?)
}

struct LogSumExp {
    shape: Dims,
    mask: SmallVec<[bool; 8]>,
    keepdim: bool,
}

impl Op for LogSumExp {
    fn name(&self) -> &'static str {
        "LogsumexpBackward0"
    }

    fn attributes(&self) -> Attributes {
        vec![
            ("self", Attribute::Saved(0)),
            ("result", Attribute::Saved(1)),
            ("dim", Attribute::axes(&self.mask)),
            ("keepdim", Attribute::bool(self.keepdim)),
        ]
    }

    fn backward(&self, ctx: &Context, grads: &[Option<Tensor>]) -> Result<Gradients> {
        let Some(g) = &grads[0] else { return Ok(Gradients::new()) };
        let spread = |t| reduce::unreduce(t, &self.shape, &self.mask, self.keepdim);
        let (x, y) = (ctx.saved(0), ctx.saved(1));
        Ok(smallvec![Some(spread(g)? * unary::exp(&(x - spread(y)?))?)])
    }
}

/// `ln Σ eˣ` over axes, without overflow.
///
/// # Errors
/// If there is no such axis.
#[allow(unsafe_code)]
pub fn logsumexp(x: &Tensor, dims: &[i64], keepdim: bool) -> Result<Tensor> {
    let x = &if x.dtype().is_floating() {
        x.clone()
    } else {
        cast::to_dtype(x, crate::dtype::default_float())?
    };
    let mask = reduce::axes(x, Some(dims))?;
    // The kernel reduces one axis: reduced axes that are not neighbours are moved to the end.
    let reduced = || (0..x.ndim()).filter(|&d| mask[d]);
    let (first, count) = (reduced().next().unwrap_or(0), reduced().count());
    let neighbours = reduced().next_back().is_none_or(|last| last + 1 - first == count);
    let (input, rows) = {
        let _off = crate::graph::ValuesOnly::new();
        let (moved, first) = if neighbours {
            (x.clone(), first)
        } else {
            let kept = (0..x.ndim()).filter(|&d| !mask[d]);
            let order: SmallVec<[i64; 5]> = kept.chain(reduced()).map(|d| d as i64).collect();
            (view::permute(x, &order)?, x.ndim() - count)
        };
        let s = moved.shape();
        let rows = Rows {
            outer: s[..first].iter().product(),
            n: s[first..first + count].iter().product(),
            inner: s[first + count..].iter().product(),
        };
        (for_kernel("logsumexp", &moved, x.dtype().compute())?, rows)
    };
    let sizes = x.shape().iter().zip(&mask);
    let shape: Dims = match keepdim {
        true => sizes.map(|(&s, &r)| if r { 1 } else { s }).collect(),
        false => sizes.filter(|(_, r)| !**r).map(|(&s, _)| s).collect(),
    };
    let out = Tensor::uninitialised("logsumexp", &shape, input.dtype())?;
    let (from, to) = (input.data_ptr(), out.data_ptr());
    with_real!(input.dtype(), T => {
        // SAFETY: `input` is row-major with the elements of `rows`, and `out`, which is new, has an
        // element for each row.
        unsafe { kernels::logsumexp::<T>(from.cast(), to.cast(), rows) }
    });
    let y = for_user("logsumexp", out, x.dtype())?;
    if record::recording(&[x]) {
        let rule = LogSumExp { shape: SmallVec::from_slice(x.shape()), mask, keepdim };
        record::record(&y, &[x], &[(0, x), (1, &y)], Box::new(rule))?;
    }
    Ok(y)
}

/// PyTorch's old guess of the axis, for calls that do not name one.
pub(crate) fn implicit_dim(x: &Tensor, dim: Option<i64>) -> i64 {
    dim.unwrap_or(if matches!(x.ndim(), 0 | 1 | 3) { 0 } else { 1 })
}

macro_rules! row {
    ($name:literal $(aka $alias:literal)?, $sig:literal, $tags:expr, $doc:literal, $call:expr) => {
        Row {
            name: $name,
            aliases: &[$($alias)?],
            signatures: &[$sig],
            doc: &[$doc],
            tags: $tags,
            batch: Batching::Each,
            call: Call::Make($call),
        }
    };
}

/// This family's rows.
pub const ROWS: &[Row] = &[
    row!(
        "softmax" aka "special.softmax",
        "(input, dim: int, dtype: dtype? = None)",
        FUNCTION | METHOD | OUT,
        " `eˣ / Σ eˣ` along an axis.",
        |c| Ok(softmax(c.tensor(0), c.int(1), c.opt_dtype(2))?.into())
    )
    .batched(Batching::Axes { extra: 0 }),
    row!(
        "log_softmax" aka "special.log_softmax",
        "(input, dim: int, dtype: dtype? = None)",
        FUNCTION | METHOD | OUT,
        " `x - ln Σ eˣ` along an axis.",
        |c| Ok(log_softmax(c.tensor(0), c.int(1), c.opt_dtype(2))?.into())
    )
    .batched(Batching::Axes { extra: 0 }),
    row!(
        "logsumexp" aka "special.logsumexp",
        "(input, dim: int[], keepdim: bool = False)",
        FUNCTION | METHOD | OUT,
        " `ln Σ eˣ` over the given axes, without overflow.",
        |c| Ok(logsumexp(c.tensor(0), c.ints(1), c.bool(2))?.into())
    )
    .batched(Batching::Reduce),
    row!(
        "nn.functional.softmax",
        "(input, dim: int? = None, _stacklevel: int = 3, dtype: dtype? = None)",
        FUNCTION,
        " `eˣ / Σ eˣ` along an axis.",
        |c| {
            let dim = implicit_dim(c.tensor(0), c.opt_int(1));
            Ok(softmax(c.tensor(0), dim, c.opt_dtype(3))?.into())
        }
    )
    .batched(Batching::Own(axes::implicit_softmax)),
    row!(
        "nn.functional.log_softmax",
        "(input, dim: int? = None, _stacklevel: int = 3, dtype: dtype? = None)",
        FUNCTION,
        " `x - ln Σ eˣ` along an axis.",
        |c| {
            let dim = implicit_dim(c.tensor(0), c.opt_int(1));
            Ok(log_softmax(c.tensor(0), dim, c.opt_dtype(3))?.into())
        }
    )
    .batched(Batching::Own(axes::implicit_softmax)),
];
