//! Vector norms.

use super::reduce::{Mask, axes, count, run, with_axes};
use super::tags::*;
use super::{Args, Call, Dest, Row, binary, cast, compare, linalg, unary};
use crate::batch::Batching;
use crate::graph::{Attribute, Attributes, Context, Gradients, Op, ValuesOnly, record};
use crate::kernels::reduce::Reduction;
use crate::tensor::Tensor;
use crate::{DType, Result, bail};
use smallvec::smallvec;

struct Rule {
    order: f64,
    mask: Mask,
    keepdim: bool,
    /// Axes were named.
    named: bool,
}

impl Op for Rule {
    fn name(&self) -> &'static str {
        "LinalgVectorNormBackward0"
    }

    fn attributes(&self) -> Attributes {
        vec![
            ("self", Attribute::Saved(0)),
            ("result", Attribute::Saved(1)),
            ("ord", Attribute::float(self.order)),
            ("dim", Attribute::named_axes(&self.mask, self.named)),
            ("keepdim", Attribute::bool(self.keepdim)),
        ]
    }

    /// `∂‖x‖ₚ/∂x = sign(x) |x|ᵖ⁻¹ / ‖x‖ₚᵖ⁻¹`; 0 where `x` or the norm is 0.
    fn backward(&self, ctx: &Context, grads: &[Option<Tensor>]) -> Result<Gradients> {
        let Some(g) = &grads[0] else { return Ok(smallvec![None]) };
        let (x, y) = (ctx.saved(0), ctx.saved(1));
        let g = with_axes(g, x.shape(), &self.mask, self.keepdim)?;
        let y = with_axes(y, x.shape(), &self.mask, self.keepdim)?;
        let (zero, one) = (binary::number(0.0)?, binary::number(1.0)?);
        // A divisor of 0 becomes 1: the numerator is 0 there, and so are all its derivatives.
        let nonzero = |t: &Tensor| binary::where_(&compare::eq(t, &zero)?, &one, t);
        let gradient = match self.order {
            0.0 => return Ok(smallvec![None]),
            1.0 => g * unary::sign(x)?,
            2.0 => g * (x / nonzero(&y)?),
            p if p.is_infinite() => {
                let hit = compare::eq(&unary::abs(&x.detach())?, &y.detach())?;
                let hits = run("norm", Reduction::Sum, &hit, &self.mask, true, g.dtype())?;
                let share = g / nonzero(&hits)? * unary::sign(x)?;
                binary::where_(&hit, &share, &zero)?
            }
            p => {
                let size = nonzero(&unary::abs(x)?)?;
                let ratio = binary::pow(&(size / nonzero(&y)?), &binary::number(p - 1.0)?)?;
                g * unary::sign(x)? * ratio
            }
        };
        Ok(smallvec![Some(gradient)])
    }
}

/// `(Σ |x|ᵖ)^(1/p)` over axes (all if none are named); the largest or smallest `|x|` for `p = ±∞`,
/// the number of elements that are not 0 for `p = 0`.
///
/// # Errors
/// For whole numbers, and for infinite `p` over nothing.
pub fn vector_norm(
    x: &Tensor,
    order: f64,
    dims: Option<&[i64]>,
    keepdim: bool,
    dtype: Option<DType>,
) -> Result<Tensor> {
    let dtype = dtype.unwrap_or(x.dtype());
    if !dtype.is_floating() || !x.dtype().is_floating() {
        bail!(
            DType,
            "",
            "linalg.vector_norm: Expected a floating point or complex tensor as input. Got {}",
            x.dtype().scalar_type_name()
        );
    }
    let mask = axes(x, dims)?;
    if order.is_infinite() && x.numel() == 0 && count(x, &mask) == 0 {
        bail!(
            Value,
            "",
            "linalg.vector_norm cannot compute the {order} norm on an empty tensor because the \
             operation does not have an identity"
        );
    }
    let off = ValuesOnly::new();
    let wide = dtype.compute();
    let values = cast::to_dtype(&x.detach(), wide)?;
    let total = |t: &Tensor| run("norm", Reduction::Sum, t, &mask, keepdim, wide);
    let y = match order {
        0.0 => total(&compare::ne(&values, &binary::number(0.0)?)?)?,
        1.0 => total(&unary::abs(&values)?)?,
        2.0 => {
            let squares = total(&unary::square(&values)?)?;
            unary::sqrt::run([&squares], Dest::Into(&squares))?
        }
        p if p.is_infinite() => {
            let kind = if p > 0.0 { Reduction::Max } else { Reduction::Min };
            run("norm", kind, &unary::abs(&values)?, &mask, keepdim, wide)?
        }
        p => {
            let sizes = unary::abs(&values)?;
            let powers = total(&binary::pow(&sizes, &binary::number(p)?)?)?;
            binary::pow(&powers, &binary::number(1.0 / p)?)?
        }
    };
    let y = cast::to_dtype(&y, dtype)?;
    drop(off);
    if record::recording(&[x]) {
        let rule = Rule { order, mask, keepdim, named: dims.is_some() };
        record::record(&y, &[x], &[(0, x), (1, &y)], Box::new(rule))?;
    }
    Ok(y)
}

/// `norm` with its order as a number (`None` for 2) or a name.
fn norm(c: &Args) -> Result<Tensor> {
    let order = match c.opt_str(1) {
        None => c.opt_number(1).map_or(2.0, |n| n.to_f64()),
        Some("fro") => 2.0,
        Some("nuc") => return linalg::norms::nuclear(c.tensor(0), c.opt_ints(2), c.bool(3)),
        Some("inf") => f64::INFINITY,
        Some("-inf") => f64::NEG_INFINITY,
        Some(other) => bail!(Unsupported, "norm", "the order '{other}' is not supported"),
    };
    vector_norm(c.tensor(0), order, c.opt_ints(2), c.bool(3), c.opt_dtype(4))
}

/// This family's rows.
pub const ROWS: &[Row] = &[
    Row {
        name: "norm",
        aliases: &[],
        signatures: &[
            "(input, p: str = 'fro', dim: int[]? = None, keepdim: bool = False, dtype: dtype? = None)",
            "(input, p: Number?, dim: int[]? = None, keepdim: bool = False, dtype: dtype? = None)",
        ],
        doc: &[" Vector norm of order `p` over the given axes, or of all elements."],
        tags: FUNCTION | METHOD | OUT,
        batch: Batching::Reduce,
        call: Call::Make(|c| Ok(norm(c)?.into())),
    },
    Row {
        name: "linalg.vector_norm",
        aliases: &[],
        signatures: &[
            "(input, ord: Number = 2, dim: int[]? = None, keepdim: bool = False, *, dtype: dtype? = None)",
        ],
        doc: &[" Vector norm of order `ord` over the given axes, or of all elements."],
        tags: FUNCTION | OUT,
        batch: Batching::Reduce,
        call: Call::Make(|c| {
            Ok(vector_norm(c.tensor(0), c.float(1), c.opt_ints(2), c.bool(3), c.opt_dtype(4))?
                .into())
        }),
    },
];
