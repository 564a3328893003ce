//! Largest and smallest elements, and where they are.
//!
//! `amax` shares a gradient evenly among all elements that attain the extremum, `max` along an
//! axis gives it to the element it also reports the position of, as in PyTorch.

use super::index::{Scattered, scatter};
use super::places::Combine;
use super::reduce::{Mask, axes, count, result, run, with_axes};
use super::tags::*;
use super::{Call, Dest, NamedFields, Output, Row, binary, compare, unary};
use crate::batch::{Batching, axes};
use crate::graph::{Attribute, Attributes, Context, Gradients, Op, record};
use crate::kernels::engine::Operand;
use crate::kernels::reduce::{self, Reduction};
use crate::layout::{Dims, wrap_dim};
use crate::tensor::Tensor;
use crate::{DType, Error, Kind, Result, bail};
use smallvec::{SmallVec, smallvec};

/// Refuses to find an extremum of nothing.
fn check_nonempty(op: &'static str, x: &Tensor, mask: &[bool], dims: &[i64]) -> Result<()> {
    if x.numel() > 0 || count(x, mask) > 0 {
        return Ok(());
    }
    if dims.is_empty() {
        // PyTorch's class differs from operation to operation.
        let kind = if op.starts_with("arg") { Kind::Index } else { Kind::Value };
        let hint = match kind {
            Kind::Index => "",
            _ => " Specify the reduction dim with the 'dim' argument.",
        };
        return Err(Error::plain(
            kind,
            format!("{op}(): Expected reduction dim to be specified for input.numel() == 0.{hint}"),
        ));
    }
    let empty = mask.iter().zip(x.shape()).position(|(&r, &s)| r && s == 0);
    bail!(
        Index,
        "",
        "{op}(): Expected reduction dim {} to have non-zero size.",
        empty.unwrap_or_default()
    )
}

/// `g` spread over the input's shape, shared among the elements equal to the extremum `y`.
fn share(g: &Tensor, x: &Tensor, y: &Tensor, mask: &[bool], keepdim: bool) -> Result<Tensor> {
    let (g, y) = (with_axes(g, x.shape(), mask, keepdim)?, with_axes(y, x.shape(), mask, keepdim)?);
    let (x, y) = (x.detach(), y.detach());
    let mut hit = compare::eq(&x, &y)?;
    if y.numel() == 1 && y.item()?.to_f64().is_nan() {
        hit = unary::isnan(&x)?;
    }
    let hits = run("amax", Reduction::Sum, &hit, mask, true, g.dtype())?;
    binary::where_(&hit, &binary::div(&g, &hits)?, &binary::number(0.0)?)
}

struct Shared {
    name: &'static str,
    mask: Mask,
    keepdim: bool,
    /// No axes were named.
    all: bool,
}

impl Op for Shared {
    fn name(&self) -> &'static str {
        self.name
    }

    fn attributes(&self) -> Attributes {
        let mut list = vec![("self", Attribute::Saved(0)), ("result", Attribute::Saved(1))];
        if self.name.starts_with('A') {
            list.push((
                "dim",
                if self.all { Attribute::ints(&[]) } else { Attribute::axes(&self.mask) },
            ));
            list.push(("keepdim", Attribute::bool(self.keepdim)));
        }
        list
    }

    fn backward(&self, ctx: &Context, grads: &[Option<Tensor>]) -> Result<Gradients> {
        let Some(g) = &grads[0] else { return Ok(smallvec![None]) };
        let gradient = share(g, ctx.saved(0), ctx.saved(1), &self.mask, self.keepdim)?;
        Ok(smallvec![Some(gradient)])
    }
}

/// The largest or smallest elements over axes (all if none are named).
fn extremum(
    [op, node]: [&'static str; 2],
    kind: Reduction,
    x: &Tensor,
    dims: &[i64],
    keepdim: bool,
) -> Result<Tensor> {
    let mask = axes(x, Some(dims))?;
    check_nonempty(op, x, &mask, dims)?;
    let y = run(op, kind, x, &mask, keepdim, x.dtype())?;
    if record::recording(&[x]) {
        let rule = Shared { name: node, mask, keepdim, all: dims.is_empty() };
        record::record(&y, &[x], &[(0, x), (1, &y)], Box::new(rule))?;
    }
    Ok(y)
}

/// The largest elements over axes (all if none are named).
pub fn amax(x: &Tensor, dims: &[i64], keepdim: bool) -> Result<Tensor> {
    extremum(["amax", "AmaxBackward0"], Reduction::Max, x, dims, keepdim)
}

/// The smallest elements over axes (all if none are named).
pub fn amin(x: &Tensor, dims: &[i64], keepdim: bool) -> Result<Tensor> {
    extremum(["amin", "AminBackward0"], Reduction::Min, x, dims, keepdim)
}

/// The gradient goes to one element per result.
struct Selected {
    name: &'static str,
    shape: Dims,
    dim: usize,
    mask: Mask,
    keepdim: bool,
}

impl Op for Selected {
    fn name(&self) -> &'static str {
        self.name
    }

    fn attributes(&self) -> Attributes {
        vec![
            ("indices", Attribute::Saved(0)),
            ("self_sym_sizes", Attribute::sizes(&self.shape)),
            ("dim", Attribute::int(self.dim)),
            ("keepdim", Attribute::bool(self.keepdim)),
        ]
    }

    fn backward(&self, ctx: &Context, grads: &[Option<Tensor>]) -> Result<Gradients> {
        let Some(g) = &grads[0] else { return Ok(smallvec![None]) };
        let g = with_axes(g, &self.shape, &self.mask, self.keepdim)?;
        let chosen = with_axes(ctx.saved(0), &self.shape, &self.mask, self.keepdim)?;
        let zeros = Tensor::zeros(&self.shape, g.dtype())?;
        let dim = self.dim as i64;
        let whole =
            scatter(&zeros, dim, &chosen, Scattered::Elements(&g), Combine::Add, Dest::New)?;
        Ok(smallvec![Some(whole)])
    }
}

/// The largest or smallest elements along an axis, and the position of the first of each.
#[allow(unsafe_code)]
fn with_index(
    [op, node]: [&'static str; 2],
    largest: bool,
    x: &Tensor,
    dim: i64,
    keepdim: bool,
) -> Result<[Tensor; 2]> {
    let mask = axes(x, Some(&[dim]))?;
    check_nonempty(op, x, &mask, &[dim])?;
    let (values, strides) = result(op, x, &mask, keepdim, x.dtype())?;
    let (indices, _) = result(op, x, &mask, keepdim, DType::Int64)?;
    let to = |t: &Tensor| (t.data_ptr(), t.dtype());
    let [(v, vt), (i, it)] = [to(&values), to(&indices)];
    // SAFETY: `x`'s layout lies inside its storage; the outputs have one element for each index of
    // the kept axes, in new memory.
    unsafe {
        reduce::reduce_with_index(
            largest,
            x.dtype().compute(),
            x.shape(),
            x.operand(),
            &mask,
            Some(Operand { ptr: v, dtype: vt, strides: &strides }),
            Operand { ptr: i, dtype: it, strides: &strides },
        );
    }
    if record::recording(&[x]) {
        let (dim, shape) = (wrap_dim(dim, x.ndim())?, SmallVec::from_slice(x.shape()));
        let rule = Selected { name: node, shape, dim, mask, keepdim };
        record::record_many(&[&values, &indices], &[x], &[(0, &indices)], Box::new(rule))?;
    }
    Ok([values, indices])
}

/// The largest elements along an axis, and the position of the first of each.
pub fn max_dim(x: &Tensor, dim: i64, keepdim: bool) -> Result<[Tensor; 2]> {
    with_index(["max", "MaxBackward0"], true, x, dim, keepdim)
}

/// The smallest elements along an axis, and the position of the first of each.
pub fn min_dim(x: &Tensor, dim: i64, keepdim: bool) -> Result<[Tensor; 2]> {
    with_index(["min", "MinBackward0"], false, x, dim, keepdim)
}

/// The position of the first extremum along an axis, or among all elements in row-major order.
fn arg(
    op: &'static str,
    kind: Reduction,
    x: &Tensor,
    dim: Option<i64>,
    keepdim: bool,
) -> Result<Tensor> {
    if x.dtype() == DType::Bool {
        bail!(DType, "", "{op}(): does not support bool input");
    }
    let dims = dim.as_ref().map(std::slice::from_ref);
    let mask = axes(x, dims)?;
    check_nonempty(op, x, &mask, dims.unwrap_or_default())?;
    run(op, kind, x, &mask, keepdim, DType::Int64)
}

/// The position of the first largest element along an axis, or among all.
pub fn argmax(x: &Tensor, dim: Option<i64>, keepdim: bool) -> Result<Tensor> {
    arg("argmax", Reduction::ArgMax, x, dim, keepdim)
}

/// The position of the first smallest element along an axis, or among all.
pub fn argmin(x: &Tensor, dim: Option<i64>, keepdim: bool) -> Result<Tensor> {
    arg("argmin", Reduction::ArgMin, x, dim, keepdim)
}

/// The smallest and the largest elements along an axis, or of all.
pub fn aminmax(x: &Tensor, dim: Option<i64>, keepdim: bool) -> Result<[Tensor; 2]> {
    struct Both(Mask, bool, bool);
    impl Both {
        fn dim(&self) -> Attribute {
            let first = self.0.iter().position(|&r| r).unwrap_or(0);
            if self.2 { Attribute::int(first) } else { Attribute::none() }
        }
    }
    impl Op for Both {
        fn name(&self) -> &'static str {
            "AminmaxBackward0"
        }

        fn attributes(&self) -> Attributes {
            vec![
                ("self", Attribute::Saved(0)),
                ("min", Attribute::Saved(1)),
                ("max", Attribute::Saved(2)),
                ("dim", self.dim()),
                ("keepdim", Attribute::bool(self.1)),
            ]
        }
        fn backward(&self, ctx: &Context, grads: &[Option<Tensor>]) -> Result<Gradients> {
            let part = |k: usize| -> Result<Option<Tensor>> {
                let Some(g) = &grads[k] else { return Ok(None) };
                share(g, ctx.saved(0), ctx.saved(k as u8 + 1), &self.0, self.1).map(Some)
            };
            let gradient = match (part(0)?, part(1)?) {
                (Some(a), Some(b)) => Some(a + b),
                (a, b) => a.or(b),
            };
            Ok(smallvec![gradient])
        }
    }
    let dims = dim.as_ref().map(std::slice::from_ref);
    let mask = axes(x, dims)?;
    if x.numel() == 0 && dim.is_none() {
        bail!(
            Value,
            "",
            "aminmax(): cannot compute aminmax over an empty dimension as the operation has no \
             identity."
        );
    }
    check_nonempty("aminmax", x, &mask, dims.unwrap_or_default())?;
    let low = run("aminmax", Reduction::Min, x, &mask, keepdim, x.dtype())?;
    let high = run("aminmax", Reduction::Max, x, &mask, keepdim, x.dtype())?;
    if record::recording(&[x]) {
        let saves = [(0, x), (1, &low), (2, &high)];
        record::record_many(
            &[&low, &high],
            &[x],
            &saves,
            Box::new(Both(mask, keepdim, dim.is_some())),
        )?;
    }
    Ok([low, high])
}

const OVER_DIMS: &[&str] = &["(input, dim: int[]? = None, keepdim: bool = False)"];
const OVER_DIM: &[&str] = &["(input, dim: int? = None, keepdim: bool = False)"];
const THREE_FORMS: &[&str] = &[
    "(input)",
    "(input, other)",
    "(input, dim: int, keepdim: bool = False) -> (Tensor values, Tensor indices)",
];
const FORMS: u32 = FUNCTION | METHOD | OUT;

static MAX: NamedFields = NamedFields { name: "max", fields: &["values", "indices"] };
static MIN: NamedFields = NamedFields { name: "min", fields: &["values", "indices"] };
static AMINMAX: NamedFields = NamedFields { name: "aminmax", fields: &["min", "max"] };

/// This family's rows.
pub const ROWS: &[Row] = &[
    Row {
        name: "amax",
        aliases: &[],
        signatures: OVER_DIMS,
        doc: &[" Largest elements over the given axes, or over all; ties share the gradient."],
        tags: FORMS,
        batch: Batching::Reduce,
        call: Call::Make(|c| {
            Ok(amax(c.tensor(0), c.opt_ints(1).unwrap_or_default(), c.bool(2))?.into())
        }),
    },
    Row {
        name: "amin",
        aliases: &[],
        signatures: OVER_DIMS,
        doc: &[" Smallest elements over the given axes, or over all; ties share the gradient."],
        tags: FORMS,
        batch: Batching::Reduce,
        call: Call::Make(|c| {
            Ok(amin(c.tensor(0), c.opt_ints(1).unwrap_or_default(), c.bool(2))?.into())
        }),
    },
    Row {
        name: "max",
        aliases: &[],
        signatures: THREE_FORMS,
        doc: &[
            " Largest element of all; or along an axis, with positions; or of two tensors.",
            "",
            " Ties share the gradient, except along an axis, where the reported element gets it.",
        ],
        tags: FORMS,
        batch: Batching::Own(axes::extremum),
        call: Call::Make(|c| match c.overload {
            0 => {
                let names = ["max", "MaxBackward1"];
                Ok(extremum(names, Reduction::Max, c.tensor(0), &[], false)?.into())
            }
            1 => Ok(binary::maximum(c.tensor(0), c.tensor(1))?.into()),
            _ => Ok(Output::Named(&MAX, max_dim(c.tensor(0), c.int(1), c.bool(2))?.into())),
        }),
    },
    Row {
        name: "min",
        aliases: &[],
        signatures: THREE_FORMS,
        doc: &[
            " Smallest element of all; or along an axis, with positions; or of two tensors.",
            "",
            " Ties share the gradient, except along an axis, where the reported element gets it.",
        ],
        tags: FORMS,
        batch: Batching::Own(axes::extremum),
        call: Call::Make(|c| match c.overload {
            0 => {
                let names = ["min", "MinBackward1"];
                Ok(extremum(names, Reduction::Min, c.tensor(0), &[], false)?.into())
            }
            1 => Ok(binary::minimum(c.tensor(0), c.tensor(1))?.into()),
            _ => Ok(Output::Named(&MIN, min_dim(c.tensor(0), c.int(1), c.bool(2))?.into())),
        }),
    },
    Row {
        name: "argmax",
        aliases: &[],
        signatures: OVER_DIM,
        doc: &[" Position of the first largest element along an axis, or in row-major order."],
        tags: FORMS | NONDIFF,
        batch: Batching::Own(axes::flat_reduce),
        call: Call::Make(|c| Ok(argmax(c.tensor(0), c.opt_int(1), c.bool(2))?.into())),
    },
    Row {
        name: "argmin",
        aliases: &[],
        signatures: OVER_DIM,
        doc: &[" Position of the first smallest element along an axis, or in row-major order."],
        tags: FORMS | NONDIFF,
        batch: Batching::Own(axes::flat_reduce),
        call: Call::Make(|c| Ok(argmin(c.tensor(0), c.opt_int(1), c.bool(2))?.into())),
    },
    Row {
        name: "aminmax",
        aliases: &[],
        signatures: &[
            "(input, *, dim: int? = None, keepdim: bool = False) -> (Tensor min, Tensor max)",
        ],
        doc: &[" Smallest and largest elements along an axis, or of all."],
        tags: FUNCTION | METHOD,
        batch: Batching::Own(axes::flat_reduce),
        call: Call::Make(|c| {
            let both = aminmax(c.tensor(0), c.opt_int(1), c.bool(2))?;
            Ok(Output::Named(&AMINMAX, both.into()))
        }),
    },
];
