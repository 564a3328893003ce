//! `x[...]` with batched tensors: what remains when integers and slices have made a view.
//!
//! An index that differs from example to example is completed by one index per level that says
//! which example it is. Such an index stands in front, so that the axes of all indices come first in
//! the result; where an example alone would have them elsewhere, they are moved there.

use super::{align, levels_of_all, place_of, size_of_level, spread};
use crate::graph::GradMode;
use crate::layout::Dims;
use crate::ops::{Value, create, select, view};
use crate::tensor::Tensor;
use crate::{DType, Result, Scalar, bail};

/// What is known of a list of indices without looking at their values.
struct Shape {
    /// The axes they take away, and those that masks without axes add.
    consumed: usize,
    added: usize,
    /// The axes before the first of them, if they are neighbours.
    before: Option<usize>,
    /// The most axes of one of them.
    rank: usize,
}

impl Shape {
    fn of(indices: &[Option<Tensor>]) -> Result<Shape> {
        let (mut consumed, mut added, mut rank) = (0, 0, 0);
        for index in indices.iter().flatten() {
            let mask = index.dtype() == DType::Bool;
            if mask && index.is_batched() {
                bail!(
                    Value,
                    "",
                    "vmap: We do not support batching operators that can support dynamic shape. \
                     Attempting to batch over indexing with a boolean mask. Use torch.where(mask, x, \
                     0) instead."
                );
            }
            consumed += if mask { index.ndim().max(1) } else { 1 };
            added += (mask && index.ndim() == 0) as usize;
            rank = rank.max(if mask { 1 } else { index.ndim() });
        }
        let first = indices.iter().position(Option::is_some).unwrap_or(0);
        let count = indices.iter().flatten().count();
        let neighbours = indices[first..].iter().take_while(|i| i.is_some()).count() == count;
        Ok(Shape { consumed, added, before: neighbours.then_some(first), rank })
    }

    /// How many axes the indices have together, given a result of that many axes.
    fn spanned(&self, result: usize, x: usize) -> usize {
        result + self.consumed - self.added - x
    }
}

fn range(from: usize, count: usize) -> Vec<i64> {
    (from as i64..(from + count) as i64).collect()
}

/// The indices on physical tensors: first one per level, then the given ones.
fn completed(
    indices: &[Option<Tensor>],
    levels: &[u32],
    shape: &Shape,
) -> Result<Vec<Option<Tensor>>> {
    let mut all = Vec::with_capacity(levels.len() + indices.len());
    for (i, &id) in levels.iter().enumerate() {
        let size = size_of_level(id)?;
        let which = create::arange(
            Scalar::Int(0),
            Scalar::Int(size as i64),
            Scalar::Int(1),
            Some(DType::Int64),
        )?;
        let mut axes = Dims::from_elem(1, levels.len() + shape.rank);
        axes[i] = size;
        all.push(Some(view::reshape_to(&which, &axes)?));
    }
    for index in indices {
        all.push(match index {
            Some(t) => Some(align::align(t, levels, shape.rank)?),
            None => None,
        });
    }
    Ok(all)
}

/// `x` at places that tensors name, as [`select::index`], where `x` or an index is batched.
pub fn index(x: &Tensor, indices: &[Option<Tensor>]) -> Result<Tensor> {
    let shape = Shape::of(indices)?;
    let levels = levels_of_all(indices.iter().flatten().chain([x]), "index")?;
    let physical = spread(x, &levels)?;
    let k = levels.len();
    let same = indices.iter().flatten().all(|i| !i.is_batched());
    let y = if same {
        let mut all = vec![None; k];
        all.extend_from_slice(indices);
        let y = select::index(&physical, &all)?;
        match shape.before {
            Some(_) => y,
            None => {
                // The indices' axes went before those of the levels.
                let s = shape.spanned(y.ndim(), physical.ndim());
                view::movedim(&y, &range(s, k), &range(0, k))?
            }
        }
    } else {
        let y = select::index(&physical, &completed(indices, &levels, &shape)?)?;
        match shape.before {
            Some(before) if before > 0 => {
                let s = shape.spanned(y.ndim(), physical.ndim());
                view::movedim(&y, &range(k, s), &range(k + before, s))?
            }
            _ => y,
        }
    };
    Tensor::example_of(&y, &levels)
}

/// Writes to `x` at places that tensors name, as [`select::index_put_`].
///
/// # Errors
/// `x` is the same for all examples of a level in which an index or the value is not.
pub fn index_put_(
    x: &Tensor,
    indices: &[Option<Tensor>],
    value: &Tensor,
    accumulate: bool,
) -> Result<()> {
    if let Some(mask) = mask_alone(x, indices)
        && value.numel() == 1
    {
        return fill_where(x, &mask, value, accumulate);
    }
    let shape = Shape::of(indices)?;
    let levels = levels_of_all(indices.iter().flatten().chain([x, value]), "index_put_")?;
    let place = place_of(x, &levels, "index_put_")?;
    let k = levels.len();
    // What an example would give to read says in which shape values are written.
    let read = {
        let _mode = GradMode::new(false);
        index(x, indices)?
    };
    let mut value = value.clone();
    while value.ndim() > read.ndim() && value.shape()[0] == 1 {
        value = super::invoke(
            "select",
            0,
            [Value::Tensor(value), Value::Number(Scalar::Int(0)), Value::Number(Scalar::Int(0))],
        )?;
    }
    if !crate::ops::reduce::is_expandable(value.shape(), read.shape()) {
        bail!(
            Shape,
            "",
            "shape mismatch: value tensor of shape {:?} cannot be broadcast to indexing result of \
             shape {:?}",
            value.shape(),
            read.shape()
        );
    }
    let mut target: Dims = place.shape()[..k].into();
    target.extend_from_slice(read.shape());
    let aligned = align::align(&value, &levels, read.ndim())?;
    let mut values = view::expand_to(&aligned, &target)?;
    if let Some(before) = shape.before
        && before > 0
    {
        let s = shape.spanned(values.ndim(), place.ndim());
        values = view::movedim(&values, &range(k + before, s), &range(k, s))?;
    }
    select::index_put_(&place, &completed(indices, &levels, &shape)?, &values, accumulate)
}

/// The only index, if it is a batched mask that starts at the first axis, with axes of length 1 for
/// those of `x` that it does not cover.
fn mask_alone(x: &Tensor, indices: &[Option<Tensor>]) -> Option<Tensor> {
    let mut given = indices.iter().flatten();
    let (mask, first) = (given.next()?, indices.first()?.as_ref()?);
    let fits = mask.ndim() <= x.ndim() && *mask.shape() == x.shape()[..mask.ndim()];
    if given.next().is_some() || !mask.same(first) || !fits || !mask.is_batched() {
        return None;
    }
    (mask.dtype() == DType::Bool).then(|| mask.clone())
}

/// One value where a mask is true: the same shape for every example, unlike an index.
fn fill_where(x: &Tensor, mask: &Tensor, value: &Tensor, accumulate: bool) -> Result<()> {
    let tensor = |t: &Tensor| Value::Tensor(t.clone());
    let shape =
        |dims: &mut dyn Iterator<Item = usize>| Value::Ints(dims.map(|s| s as i64).collect());
    let mut wide = mask.shape().iter().copied().chain((mask.ndim()..x.ndim()).map(|_| 1));
    let mask = super::invoke("reshape", 0, [tensor(mask), shape(&mut wide)])?;
    let value = super::invoke("reshape", 0, [tensor(value), shape(&mut std::iter::empty())])?;
    let mut value = super::invoke("to", 0, [Value::Tensor(value), Value::DType(x.dtype())])?;
    if accumulate {
        value = super::invoke("add", 0, [tensor(x), Value::Tensor(value)])?;
    }
    let result = super::invoke("where", 0, [Value::Tensor(mask), Value::Tensor(value), tensor(x)])?;
    write(x, &result)
}

/// Writes to a batched view: `x[...] = value` when no tensor is among the indices.
pub fn write(x: &Tensor, value: &Tensor) -> Result<()> {
    let levels = levels_of_all([x, value], "copy_")?;
    let place = place_of(x, &levels, "copy_")?;
    crate::ops::cast::copy_(&place, &align::align(value, &levels, x.ndim())?)
}
