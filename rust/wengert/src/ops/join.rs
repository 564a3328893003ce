//! Tensors put together: along an axis they have ([`cat`]), or along a new one ([`stack`]).
//!
//! Each input is copied once, and converted on the way, into its part of the result. The gradient
//! of an input is that part of the gradient: a view.

use super::pointwise::store_apart;
use super::tags::*;
use super::{Args, Call, Output, Row, view};
use crate::batch::{Batching, compose};
use crate::dtype::{DType, ResultType};
use crate::graph::{Attribute, Attributes, Context, Gradients, Op, record};
use crate::layout::{Dims, Layout, Strides, wrap_dim};
use crate::tensor::Tensor;
use crate::{Result, bail};
use smallvec::SmallVec;

/// How inputs lie in a result: one after another, with these lengths, or one per position.
struct Joined {
    name: &'static str,
    dim: usize,
    lengths: Option<Vec<usize>>,
}

impl Op for Joined {
    fn name(&self) -> &'static str {
        self.name
    }

    fn attributes(&self) -> Attributes {
        vec![("dim", Attribute::int(self.dim))]
    }

    fn backward(&self, ctx: &Context, grads: &[Option<Tensor>]) -> Result<Gradients> {
        let Some(g) = &grads[0] else { return Ok(Gradients::new()) };
        let dim = self.dim as i64;
        let Some(lengths) = &self.lengths else {
            let part = |i| Ok(Some(view::select(g, dim, i as i64)?));
            let count = g.shape()[self.dim];
            return (0..count).map(|i| if ctx.needs(i) { part(i) } else { Ok(None) }).collect();
        };
        let mut gradients = Gradients::new();
        let mut start = 0;
        for (i, &length) in lengths.iter().enumerate() {
            gradients.push(if ctx.needs(i) {
                Some(view::narrow(g, dim, start, length as i64)?)
            } else {
                None
            });
            start += length as i64;
        }
        Ok(gradients)
    }
}

/// The type of tensors put together.
fn common_dtype(tensors: &[Tensor]) -> DType {
    let first = tensors[0].dtype();
    if tensors.iter().all(|t| t.dtype() == first) {
        return first;
    }
    let mut result = ResultType::default();
    for t in tensors {
        result.tensor(t.dtype(), t.ndim());
    }
    result.finish()
}

/// Whether this is an empty vector, which [`cat`] ignores whatever the shape of the others: what
/// an empty tensor was before there were sizes of 0.
fn is_legacy_empty(t: &Tensor) -> bool {
    *t.shape() == [0]
}

/// Tensors one after another along an axis. Other sizes are equal; empty vectors are skipped.
///
/// ```
/// use wengert::{Tensor, ops::join::cat};
/// let a = Tensor::from_slice(&[1.0f32, 2.0], &[1, 2])?;
/// let b = Tensor::from_slice(&[3.0f32], &[1, 1])?;
/// assert_eq!(cat(&[a, b], -1)?.to_vec::<f32>()?, [1.0, 2.0, 3.0]);
/// # Ok::<(), wengert::Error>(())
/// ```
///
/// # Errors
/// No tensors, tensors without dimensions, or sizes that differ.
pub fn cat(tensors: &[Tensor], dim: i64) -> Result<Tensor> {
    if tensors.is_empty() {
        bail!(Value, "", "torch.cat(): expected a non-empty list of Tensors");
    }
    if let Some(i) = tensors.iter().position(|t| t.ndim() == 0) {
        bail!(Shape, "", "zero-dimensional tensor (at position {i}) cannot be concatenated");
    }
    let model = tensors.iter().find(|t| !is_legacy_empty(t)).unwrap_or(&tensors[0]);
    let d = wrap_dim(dim, model.ndim())?;
    let mut shape = Dims::from_slice(model.shape());
    let mut total = 0usize;
    let mut lengths = Vec::with_capacity(tensors.len());
    for (i, t) in tensors.iter().enumerate() {
        if is_legacy_empty(t) {
            lengths.push(0);
            continue;
        }
        check_joinable(model, t, d, i)?;
        lengths.push(t.shape()[d]);
        // Only expanded tensors can overflow here; the size is refused below.
        total = total.saturating_add(t.shape()[d]);
    }
    shape[d] = total;
    let y = Tensor::uninitialised("cat", &shape, common_dtype(tensors))?;
    let mut start = 0;
    for t in tensors.iter().filter(|t| !is_legacy_empty(t)) {
        let strides = y.layout().strides();
        let offset = if y.numel() > 0 { start * strides[d] as usize } else { 0 };
        part(&y, t.shape(), strides, offset).copy_raw(t);
        start += t.shape()[d];
    }
    finish("CatBackward0", y, tensors, d, Some(lengths))
}

fn check_joinable(model: &Tensor, t: &Tensor, d: usize, i: usize) -> Result<()> {
    if t.ndim() != model.ndim() {
        bail!(
            Shape,
            "",
            "Tensors must have same number of dimensions: got {} and {} (cat of shapes {:?} and {:?})",
            model.ndim(),
            t.ndim(),
            model.shape(),
            t.shape()
        );
    }
    let differs = |&k: &usize| k != d && t.shape()[k] != model.shape()[k];
    if let Some(k) = (0..t.ndim()).find(differs) {
        bail!(
            Shape,
            "",
            "Sizes of tensors must match except in dimension {d}. Expected size {} but got size {} \
             for tensor number {i} in the list. (cat of shapes {:?} and {:?}, which differ in \
             dimension {k})",
            model.shape()[k],
            t.shape()[k],
            model.shape(),
            t.shape()
        );
    }
    Ok(())
}

/// A part of a new tensor, to be written to.
fn part(whole: &Tensor, shape: &[usize], strides: &[isize], offset: usize) -> Tensor {
    Tensor::from_parts(
        whole.storage().clone(),
        Layout::strided(shape, strides, offset),
        whole.dtype(),
    )
}

fn finish(
    name: &'static str,
    y: Tensor,
    tensors: &[Tensor],
    dim: usize,
    lengths: Option<Vec<usize>>,
) -> Result<Tensor> {
    let inputs: SmallVec<[&Tensor; 8]> = tensors.iter().collect();
    if y.dtype().is_floating() && record::recording(&inputs) {
        record::record(&y, &inputs, &[], Box::new(Joined { name, dim, lengths }))?;
    }
    Ok(y)
}

/// Tensors of one shape along a new axis.
///
/// # Errors
/// No tensors, or shapes that differ.
pub fn stack(tensors: &[Tensor], dim: i64) -> Result<Tensor> {
    let Some(first) = tensors.first() else {
        bail!(Value, "", "stack expects a non-empty TensorList");
    };
    let d = wrap_dim(dim, first.ndim() + 1)?;
    if let Some(i) = tensors.iter().position(|t| t.shape() != first.shape()) {
        bail!(
            Shape,
            "",
            "stack expects each tensor to be equal size, but got {:?} at entry 0 and {:?} at entry {i}",
            first.shape(),
            tensors[i].shape()
        );
    }
    let mut shape = Dims::from_slice(first.shape());
    shape.insert(d, tensors.len());
    let y = Tensor::uninitialised("stack", &shape, common_dtype(tensors))?;
    let mut strides = Strides::from_slice(y.layout().strides());
    let step = strides.remove(d) as usize;
    for (i, t) in tensors.iter().enumerate() {
        let offset = if y.numel() > 0 { i * step } else { 0 };
        part(&y, t.shape(), &strides, offset).copy_raw(t);
    }
    finish("StackBackward0", y, tensors, d, None)
}

/// With at least `ndim` axes (one, two or three), as `atleast_1d` and its relatives add them.
fn at_least(x: &Tensor, ndim: usize) -> Result<Tensor> {
    let s = x.shape();
    match (ndim, s.len()) {
        (1, 0) => view::reshape_to(x, &[1]),
        (2, 0 | 1) => view::reshape_to(x, &[1, x.numel()]),
        (3, 0 | 1) => view::reshape_to(x, &[1, x.numel(), 1]),
        (3, 2) => view::unsqueeze(x, 2),
        _ => Ok(x.clone()),
    }
}

fn all_at_least(op: &'static str, tensors: &[Tensor], ndim: usize) -> Result<Vec<Tensor>> {
    if tensors.is_empty() {
        bail!(Value, "", "{op} expects a non-empty TensorList");
    }
    tensors.iter().map(|t| at_least(t, ndim)).collect()
}

/// Side by side: along the second axis, or the only one.
pub fn hstack(tensors: &[Tensor]) -> Result<Tensor> {
    let tensors = all_at_least("hstack", tensors, 1)?;
    cat(&tensors, if tensors[0].ndim() == 1 { 0 } else { 1 })
}

/// Below each other: along the first of at least two axes.
pub fn vstack(tensors: &[Tensor]) -> Result<Tensor> {
    cat(&all_at_least("vstack", tensors, 2)?, 0)
}

/// Behind each other: along the third of at least three axes.
pub fn dstack(tensors: &[Tensor]) -> Result<Tensor> {
    cat(&all_at_least("dstack", tensors, 3)?, 2)
}

/// Vectors as columns, side by side with matrices.
pub fn column_stack(tensors: &[Tensor]) -> Result<Tensor> {
    let columns: Result<Vec<Tensor>> = tensors
        .iter()
        .map(|t| if t.ndim() < 2 { view::reshape_to(t, &[t.numel(), 1]) } else { Ok(t.clone()) })
        .collect();
    hstack(&columns?)
}

fn vstack_row(c: &Args) -> Result<Output> {
    Ok(vstack(c.tensors(0))?.into())
}

const CAT: &[&str] = &["(tensors: Tensor[], dim: int = 0)"];
const LIST: &[&str] = &["(tensors: Tensor[])"];
const CAT_DOC: &[&str] = &[
    " Tensors one after another along an axis they have.",
    " Types are promoted; empty vectors are skipped.",
];

/// This family's rows.
pub const ROWS: &[Row] = &[
    Row {
        name: "cat",
        aliases: &["concat", "concatenate"],
        signatures: CAT,
        doc: CAT_DOC,
        tags: FUNCTION | OUT,
        batch: Batching::Own(compose::join),
        call: Call::Into(|c, dest| {
            let inputs: SmallVec<[&Tensor; 8]> = c.tensors(0).iter().collect();
            store_apart("cat", dest, &inputs, None, || cat(c.tensors(0), c.int(1)))
        }),
    },
    Row::make("stack", CAT, FUNCTION | OUT, &[" Tensors of one shape along a new axis."], |c| {
        Ok(stack(c.tensors(0), c.int(1))?.into())
    })
    .batched(Batching::Own(compose::join)),
    Row::make("hstack", LIST, FUNCTION | OUT, &[" Tensors side by side."], |c| {
        Ok(hstack(c.tensors(0))?.into())
    })
    .batched(Batching::Own(compose::join)),
    Row::make("vstack", LIST, FUNCTION | OUT, &[" Tensors below each other."], vstack_row)
        .batched(Batching::Own(compose::join)),
    Row::make("row_stack", LIST, FUNCTION | OUT, &[" Tensors below each other."], vstack_row)
        .batched(Batching::Own(compose::join)),
    Row::make("dstack", LIST, FUNCTION | OUT, &[" Tensors along a third axis."], |c| {
        Ok(dstack(c.tensors(0))?.into())
    })
    .batched(Batching::Own(compose::join)),
    Row::make("column_stack", LIST, FUNCTION | OUT, &[" Vectors as columns."], |c| {
        Ok(column_stack(c.tensors(0))?.into())
    })
    .batched(Batching::Own(compose::join)),
];
