//! Operations that look at the same memory in another way.
//!
//! A view is a new [`Layout`] over the same storage, so each operation here computes a layout and
//! says how a gradient travels back. Most rules are views themselves. Here are other shapes of the same
//! elements; other orders of the axes are in [`permute`](super::permute), parts in [`part`](super::part).

pub use super::part::*;
pub use super::permute::*;
use super::tags::*;
use super::{Call, Output, Row};
use crate::batch::{Batching, axes, lift};
use crate::graph::{Attribute, Attributes, Context, Gradients, Op, forward::linear, record};
use crate::layout::{self, Dims, Layout, Strides, wrap_dim};
use crate::tensor::Tensor;
use crate::{Result, bail};
use smallvec::{SmallVec, smallvec};

pub(super) type Indices = SmallVec<[i64; 5]>;

/// Records a view whose gradient is computed by `rule`.
pub(super) fn finish(
    x: &Tensor,
    layout: Layout,
    op: impl FnOnce() -> Box<dyn Op>,
) -> Result<Tensor> {
    let y = x.view_as_layout(layout);
    if record::recording(&[x]) {
        record::record(&y, &[x], &[], op())?;
    }
    Ok(y)
}

/// The same elements, recorded: a view that has tangents of its own.
pub(crate) fn alias(name: &'static str, x: &Tensor) -> Result<Tensor> {
    if x.is_batched() {
        return lift::over(x, |x, _| alias(name, x));
    }
    let y = x.opaque_alias();
    if record::recording(&[x]) {
        record::record(&y, &[x], &[], Box::new(Reshape::new(name, x, 0)))?;
    }
    Ok(y)
}

/// The gradient of a view that keeps the number of elements: the input's shape again.
struct Reshape {
    name: &'static str,
    shape: Dims,
    /// The axes that the call named, a bit each.
    axes: u64,
}

impl Reshape {
    fn new(name: &'static str, x: &Tensor, axes: u64) -> Reshape {
        Reshape { name, shape: SmallVec::from_slice(x.shape()), axes }
    }
}

impl Op for Reshape {
    fn name(&self) -> &'static str {
        self.name
    }

    fn attributes(&self) -> Attributes {
        let sizes = ("self_sym_sizes", Attribute::sizes(&self.shape));
        let one = ("dim", Attribute::int(self.axes.trailing_zeros()));
        match self.name {
            "ViewBackward0" | "UnsafeViewBackward0" | "SqueezeBackward0" => vec![sizes],
            "SqueezeBackward1" => vec![one, sizes],
            "SqueezeBackward2" => {
                let named = (0..64).filter(|d| self.axes >> d & 1 != 0);
                vec![("dim", Attribute::ints(&named.collect::<Indices>())), sizes]
            }
            "UnsqueezeBackward0" => vec![one],
            _ => Attributes::new(),
        }
    }

    fn backward(&self, _: &Context, grads: &[Option<Tensor>]) -> Result<Gradients> {
        let Some(g) = &grads[0] else { return Ok(smallvec![None]) };
        Ok(smallvec![Some(reshape_to(g, &self.shape)?)])
    }

    fn jvp(&self, _: &Context, v: &[Option<Tensor>], y: &[&Tensor]) -> Result<Option<Gradients>> {
        linear(v, |v| reshape_to(v, y[0].shape()))
    }
}

pub(super) fn reshaped(
    name: &'static str,
    x: &Tensor,
    layout: Layout,
    axes: u64,
) -> Result<Tensor> {
    finish(x, layout, || Box::new(Reshape::new(name, x, axes)))
}

/// Resolves one `-1` in a requested shape.
fn infer_shape(op: &'static str, numel: usize, wanted: &[i64]) -> Result<Dims> {
    let mut known = 1usize;
    let mut unknown = None;
    for (d, &s) in wanted.iter().enumerate() {
        match s {
            -1 if unknown.is_some() => bail!(Shape, "", "only one dimension can be inferred"),
            -1 => unknown = Some(d),
            s if s < 0 => bail!(Shape, "", "invalid shape dimension {s} ({op} to {wanted:?})"),
            s => known = known.saturating_mul(s as usize),
        }
    }
    let mismatch = || {
        crate::Error::plain(
            crate::Kind::Shape,
            format!("shape '{wanted:?}' is invalid for input of size {numel} ({op})"),
        )
    };
    let mut shape: Dims = wanted.iter().map(|&s| s.max(0) as usize).collect();
    match unknown {
        None if known != numel || (numel != 0 && wanted.contains(&0)) => {
            return Err(mismatch());
        }
        None => {}
        Some(d) => {
            if known == 0 {
                bail!(
                    Shape,
                    "",
                    "cannot reshape tensor of 0 elements into shape {wanted:?} because the \
                     unspecified dimension size -1 can be any value and is ambiguous"
                );
            }
            if !numel.is_multiple_of(known) {
                return Err(mismatch());
            }
            shape[d] = numel / known;
        }
    }
    // A zero among huge sizes must not hide an overflow from `product`.
    if numel == 0 && layout::checked_numel(op, &shape, 1)? != 0 {
        return Err(mismatch());
    }
    Ok(shape)
}

/// The elements in another shape; a view if strides allow it, else a copy.
pub fn reshape(x: &Tensor, wanted: &[i64]) -> Result<Tensor> {
    if let Some(layout) = x.layout().try_sizes(wanted) {
        return reshaped("ViewBackward0", x, layout, 0);
    }
    let shape = infer_shape("reshape", x.numel(), wanted)?;
    reshape_to(x, &shape)
}

/// [`reshape`] to a shape known to fit.
pub(crate) fn reshape_to(x: &Tensor, shape: &[usize]) -> Result<Tensor> {
    if x.is_batched() {
        return lift::over(x, |x, k| reshape_to(x, &lift::shape_of(x, k, shape)));
    }
    match x.layout().try_reshape(shape) {
        Some(layout) => reshaped("ViewBackward0", x, layout, 0),
        None => {
            let x = super::cast::contiguous(x)?;
            let layout = Layout::contiguous("reshape", shape, x.dtype().size())?;
            reshaped("UnsafeViewBackward0", &x, layout, 0)
        }
    }
}

/// A row-major result in another shape of as many elements. For autograd it is not a view:
/// nobody has the tensor it shares memory with.
pub(crate) fn reinterpret(name: &'static str, x: &Tensor, shape: &[usize]) -> Result<Tensor> {
    if x.is_batched() {
        // The levels' axes need not be in row-major order with the others.
        return reshape_to(x, shape);
    }
    let layout = Layout::contiguous(name, shape, x.dtype().size())?;
    let layout = Layout::strided(shape, layout.strides(), x.layout().offset());
    let y = Tensor::from_parts(x.storage().clone(), layout, x.dtype());
    if record::recording(&[x]) {
        let rule = Reshape::new(name, x, 0);
        record::record(&y, &[x], &[], Box::new(rule))?;
    }
    Ok(y)
}

/// The elements in another shape, never a copy.
pub fn view(x: &Tensor, wanted: &[i64]) -> Result<Tensor> {
    if let Some(layout) = x.layout().try_sizes(wanted) {
        return reshaped("ViewBackward0", x, layout, 0);
    }
    let shape = infer_shape("view", x.numel(), wanted)?;
    match x.layout().try_reshape(&shape) {
        Some(layout) => reshaped("ViewBackward0", x, layout, 0),
        None => bail!(
            Shape,
            "",
            "view size is not compatible with input tensor's size and stride (at least one dimension \
             spans across two contiguous subspaces). Use .reshape(...) instead."
        ),
    }
}

/// Without axes of length 1: all of them, or those named.
pub fn squeeze(x: &Tensor, dims: Option<&[i64]>) -> Result<Tensor> {
    let l = x.layout();
    if x.is_batched() {
        let named: Indices = match dims {
            None => (0..x.ndim() as i64).collect(),
            Some(dims) => {
                dims.iter().map(|&d| Ok(wrap_dim(d, x.ndim())? as i64)).collect::<Result<_>>()?
            }
        };
        return lift::over(x, |x, k| {
            let named: Indices = named.iter().map(|d| d + k as i64).collect();
            squeeze(x, Some(&named))
        });
    }
    let mut drop: SmallVec<[bool; 8]> = smallvec![dims.is_none(); x.ndim()];
    for &d in dims.unwrap_or_default() {
        let d = wrap_dim(d, x.ndim())?;
        if let Some(flag) = drop.get_mut(d) {
            if *flag {
                bail!(Shape, "", "dim {d} appears multiple times in the list of dims");
            }
            *flag = true;
        }
    }
    let kept = (0..x.ndim()).filter(|&d| !(drop[d] && l.shape()[d] == 1));
    let (shape, strides): (Dims, Strides) = kept.map(|d| (l.shape()[d], l.strides()[d])).unzip();
    let name = match dims.map(<[i64]>::len) {
        None => "SqueezeBackward0",
        Some(1) => "SqueezeBackward1",
        Some(_) => "SqueezeBackward2",
    };
    let named = drop.iter().enumerate().fold(0, |axes, (d, &named)| axes | (named as u64) << d);
    reshaped(name, x, Layout::strided(&shape, &strides, l.offset()), named)
}

/// With a new axis of length 1 at `dim`.
pub fn unsqueeze(x: &Tensor, dim: i64) -> Result<Tensor> {
    let l = x.layout();
    let d = wrap_dim(dim, x.ndim() + 1)?;
    if x.is_batched() {
        return lift::over(x, |x, k| unsqueeze(x, (k + d) as i64));
    }
    let mut shape: Dims = SmallVec::from_slice(l.shape());
    let mut strides: Strides = SmallVec::from_slice(l.strides());
    let step = if d < x.ndim() { l.shape()[d] as isize * l.strides()[d] } else { 1 };
    shape.insert(d, 1);
    strides.insert(d, step);
    layout::checked_numel("unsqueeze", &shape, x.dtype().size())?;
    reshaped(
        "UnsqueezeBackward0",
        x,
        Layout::strided(&shape, &strides, l.offset()),
        1u64.wrapping_shl(d as u32),
    )
}

/// Repeated along axes of length 1 without copying. The engine sums the gradient back.
struct Expand(Dims);

impl Op for Expand {
    fn name(&self) -> &'static str {
        "ExpandBackward0"
    }

    fn attributes(&self) -> Attributes {
        vec![("self_sym_sizes", Attribute::sizes(&self.0))]
    }

    fn backward(&self, _: &Context, grads: &[Option<Tensor>]) -> Result<Gradients> {
        Ok(smallvec![grads[0].clone()])
    }

    fn jvp(&self, _: &Context, v: &[Option<Tensor>], y: &[&Tensor]) -> Result<Option<Gradients>> {
        linear(v, |v| expand_to(v, y[0].shape()))
    }
}

/// Broadcast to a larger shape without copying; -1 keeps a size.
pub fn expand(x: &Tensor, sizes: &[i64]) -> Result<Tensor> {
    if sizes.len() < x.ndim() {
        bail!(
            Shape,
            "",
            "expand({:?}, size={sizes:?}): the number of sizes provided ({}) must be greater or equal \
             to the number of dimensions in the tensor ({})",
            x.shape(),
            sizes.len(),
            x.ndim()
        );
    }
    let new = sizes.len() - x.ndim();
    let mut shape: Dims = SmallVec::new();
    for (i, &s) in sizes.iter().enumerate() {
        let old = if i >= new { Some(x.shape()[i - new]) } else { None };
        shape.push(match (s, old) {
            (-1, Some(n)) => n,
            (-1, None) => bail!(
                Shape,
                "",
                "expand({sizes:?}): The expanded size of the tensor (-1) isn't allowed in a leading, \
                 non-existing dimension {i}"
            ),
            (s, _) if s < 0 => bail!(Shape, "expand", "negative size {s} in {sizes:?}"),
            (s, Some(n)) if n != 1 && n != s as usize => bail!(
                Shape,
                "",
                "The expanded size of the tensor ({s}) must match the existing size ({n}) at \
                 non-singleton dimension {i}.  Target sizes: {sizes:?}.  Tensor sizes: {:?}",
                x.shape()
            ),
            (s, _) => s as usize,
        });
    }
    expand_to(x, &shape)
}

/// [`expand`] to a shape known to fit.
pub(crate) fn expand_to(x: &Tensor, shape: &[usize]) -> Result<Tensor> {
    if x.is_batched() {
        let n = shape.len();
        return lift::over_aligned([x], n, |[x], k| expand_to(x, &lift::shape_of(x, k, shape)));
    }
    layout::checked_numel("expand", shape, x.dtype().size())?;
    let strides = layout::broadcast_strides(x.shape(), x.layout().strides(), shape);
    let layout = Layout::strided(shape, &strides, x.layout().offset());
    finish(x, layout, || Box::new(Expand(SmallVec::from_slice(x.shape()))))
}

/// Axes `start..=end` merged into one.
pub fn flatten(x: &Tensor, start: i64, end: i64) -> Result<Tensor> {
    let (a, b) = (wrap_dim(start, x.ndim())?, wrap_dim(end, x.ndim())?);
    if a > b {
        bail!(Shape, "", "flatten() has invalid args: start_dim cannot come after end_dim");
    }
    if x.ndim() == 0 {
        return reshape(x, &[1]);
    }
    if a == b {
        return Ok(x.clone());
    }
    let s = x.shape();
    let mut shape: Dims = SmallVec::from_slice(&s[..a]);
    shape.push(s[a..=b].iter().product());
    shape.extend_from_slice(&s[b + 1..]);
    reshape_to(x, &shape)
}

/// The same tensor without history.
fn detach(x: &Tensor) -> Result<Output> {
    Ok(Output::Tensor(x.detach_for_user()))
}

/// A row whose result is a view.
macro_rules! row {
    ($name:literal $(aka $alias:literal)*, [$($sig:literal),+], $tags:expr, $doc:literal, $call:expr) => {
        Row {
            name: $name,
            aliases: &[$($alias),*],
            signatures: &[$($sig),+],
            doc: &[$doc],
            tags: $tags,
            batch: Batching::Each,
            call: Call::Make($call),
        }
    };
}

pub(super) use row;

/// What most views are.
pub(super) const VIEWS: u32 = FUNCTION | METHOD | VIEW;

/// This family's rows.
pub const ROWS: &[Row] = &[
    row!(
        "reshape",
        ["(input, shape: size)"],
        VIEWS,
        " The elements in another shape; a view where strides allow it, else a copy.",
        |c| Ok(reshape(c.tensor(0), c.ints(1))?.into())
    )
    .batched(Batching::Own(axes::reshape)),
    row!(
        "view",
        ["(input, size: size)", "(input, dtype: dtype)"],
        METHOD | VIEW,
        " The elements in another shape, never a copy; or their bytes as another type.",
        |c| match c.overload {
            0 => Ok(view(c.tensor(0), c.ints(1))?.into()),
            _ => {
                let dtype = c.opt_dtype(1).unwrap_or(c.tensor(0).dtype());
                Ok(super::strided::view_dtype(c.tensor(0), dtype)?.into())
            }
        }
    )
    .batched(Batching::Own(axes::reshape)),
    row!(
        "view_as",
        ["(input, other)"],
        METHOD | VIEW,
        " The elements in the shape of another tensor, never a copy.",
        |c| {
            let shape: Indices = c.tensor(1).shape().iter().map(|&s| s as i64).collect();
            Ok(view(c.tensor(0), &shape)?.into())
        }
    )
    .batched(Batching::Own(axes::like_other)),
    row!(
        "reshape_as",
        ["(input, other)"],
        METHOD | VIEW,
        " The elements in the shape of another tensor, without a copy where that can be.",
        |c| {
            let shape: Indices = c.tensor(1).shape().iter().map(|&s| s as i64).collect();
            Ok(reshape(c.tensor(0), &shape)?.into())
        }
    ),
    row!(
        "squeeze",
        ["(input)", "(input, dim: int[])"],
        VIEWS | INPLACE,
        " Without axes of length 1: all of them, or those named.",
        |c| {
            let dims = if c.overload == 0 { None } else { Some(c.ints(1)) };
            Ok(squeeze(c.tensor(0), dims)?.into())
        }
    )
    .batched(Batching::Own(axes::squeeze)),
    row!(
        "unsqueeze",
        ["(input, dim: int)"],
        VIEWS | INPLACE,
        " With a new axis of length 1.",
        |c| Ok(unsqueeze(c.tensor(0), c.int(1))?.into())
    )
    .batched(Batching::Axes { extra: 1 }),
    row!(
        "expand",
        ["(input, size: size)"],
        METHOD | VIEW,
        " Broadcast to a larger shape without copying; -1 keeps a size.",
        |c| Ok(expand(c.tensor(0), c.ints(1))?.into())
    )
    .batched(Batching::Own(axes::expand)),
    row!(
        "expand_as",
        ["(input, other)"],
        METHOD | VIEW,
        " Broadcast to the shape of another tensor without copying.",
        |c| {
            let shape: Indices = c.tensor(1).shape().iter().map(|&s| s as i64).collect();
            Ok(expand(c.tensor(0), &shape)?.into())
        }
    )
    .batched(Batching::Own(axes::like_other)),
    row!(
        "broadcast_to",
        ["(input, size: size)"],
        VIEWS,
        " Broadcast to a larger shape without copying.",
        |c| Ok(expand(c.tensor(0), c.ints(1))?.into())
    )
    .batched(Batching::Own(axes::expand)),
    row!(
        "flatten",
        ["(input, start_dim: int = 0, end_dim: int = -1)"],
        VIEWS,
        " A range of axes merged into one.",
        |c| Ok(flatten(c.tensor(0), c.int(1), c.int(2))?.into())
    )
    .batched(Batching::Axes { extra: 0 }),
    row!(
        "detach",
        ["(input)"],
        VIEWS | NONDIFF,
        " The same data without history; gradients do not flow through.",
        |c| detach(c.tensor(0))
    )
    .batched(Batching::First),
];
