//! Physical tensors brought to common axes: `[levels..., axes of an example...]`.

use super::{Levels, levels_of, size_of_level};
use crate::dtype::ResultType;
use crate::layout::Dims;
use crate::ops::{Args, Value, cast, view};
use crate::tensor::Tensor;
use crate::{DType, Error, Kind, Result};
use smallvec::SmallVec;

/// The examples of `t` with an axis for each of `levels`, of length 1 where `t` has none, and each
/// example with `ndim` axes, new ones in front.
///
/// The result is the physical tensor itself if it has these axes already.
pub(super) fn align(t: &Tensor, levels: &[u32], ndim: usize) -> Result<Tensor> {
    let Some((physical, own)) = t.parts() else {
        // Broadcasting adds axes in front of its own accord.
        return Ok(t.clone());
    };
    let pad = ndim.saturating_sub(t.ndim());
    if own[..] == *levels && pad == 0 {
        return Ok(physical);
    }
    let mut shape = Dims::new();
    let mut sizes = physical.shape().iter();
    for id in levels {
        shape.push(if own.contains(id) { sizes.next().copied().unwrap_or(1) } else { 1 });
    }
    shape.extend(std::iter::repeat_n(1, pad));
    shape.extend_from_slice(t.shape());
    view::reshape_to(&physical, &shape)
}

/// The examples of `t` in all `levels`, repeated without copying in those it has none in.
pub fn spread(t: &Tensor, levels: &[u32]) -> Result<Tensor> {
    let aligned = align(t, levels, t.ndim())?;
    let mut shape = Dims::new();
    for &id in levels {
        shape.push(size_of_level(id)?);
    }
    shape.extend_from_slice(t.shape());
    if aligned.shape() == &shape[..] {
        return Ok(aligned);
    }
    view::expand_to(&aligned, &shape)
}

/// The examples of `t` in all levels that run on this thread, and those levels.
pub fn physical_over(t: &Tensor) -> Result<(Tensor, Levels)> {
    levels_of(t, "vmap")?;
    let levels: Levels = super::stack().iter().map(|level| level.id).collect();
    Ok((spread(t, &levels)?, levels))
}

/// The most axes that an example of an argument has.
fn rank(args: &Args) -> usize {
    super::tensors(args).map(Tensor::ndim).max().unwrap_or(0)
}

/// Arguments of a pointwise operation on physical tensors.
pub(super) fn pointwise(args: &Args, levels: &[u32]) -> Result<Args> {
    aligned(args, levels, rank(args))
}

/// [`pointwise`] for writing to `place`; `None` if examples have more axes than it.
pub(super) fn for_place(
    args: &Args,
    place: &Tensor,
    levels: &[u32],
    ndim: usize,
) -> Result<Option<Args>> {
    if rank(args) > ndim {
        return Ok(None);
    }
    let mut aligned = aligned(args, levels, ndim)?;
    aligned.values[0] = Value::Tensor(place.clone());
    Ok(Some(aligned))
}

fn aligned(args: &Args, levels: &[u32], ndim: usize) -> Result<Args> {
    let common = dominant(args);
    let mut out = args.clone();
    for value in &mut out.values {
        let Value::Tensor(t) = value else { continue };
        if t.is_wrapped_number() {
            continue;
        }
        let mut physical = align(t, levels, ndim)?;
        if t.ndim() == 0 {
            if let Some(dtype) = common.filter(|&d| yields(t.dtype(), d)) {
                physical = cast::to_dtype(&physical, dtype)?;
            } else if physical.ndim() == 0 {
                // All examples are single numbers, whose types count alike.
                physical = view::reshape_to(&physical, &Dims::from_elem(1, levels.len()))?;
            }
        }
        *value = Value::Tensor(physical);
    }
    Ok(out)
}

/// The type that the arguments with axes have together. Beside them an example without axes does
/// not widen the result, but its physical tensor has axes and would.
fn dominant(args: &Args) -> Option<DType> {
    let mut with_axes = super::tensors(args).filter(|t| t.ndim() > 0).peekable();
    with_axes.peek()?;
    let mut result = ResultType::default();
    for t in with_axes {
        result.tensor(t.dtype(), t.ndim());
    }
    Some(result.finish())
}

/// Whether a number of one type takes on the type of what it is combined with.
fn yields(number: DType, with: DType) -> bool {
    if number.category() > with.category() {
        return false;
    }
    let mut result = ResultType::default();
    result.tensor(number, 1);
    result.tensor(with, 1);
    result.finish() != with
}

#[cold]
pub(super) fn shape_mismatch(name: &str, target: &Tensor, shape: &[usize]) -> Error {
    Error::plain(
        Kind::Shape,
        format!(
            "output with shape {:?} doesn't match the broadcast shape {shape:?} ({name})",
            target.shape()
        ),
    )
}

/// Arguments with every batched tensor replaced by its physical one, and the others as they are.
pub(super) fn physicals(args: &Args) -> Args {
    let mut out = args.clone();
    for value in &mut out.values {
        match value {
            Value::Tensor(t) => {
                if let Some(physical) = t.physical() {
                    *value = Value::Tensor(physical);
                }
            }
            Value::Tensors(ts) => {
                for t in ts {
                    if let Some(physical) = t.physical() {
                        *t = physical;
                    }
                }
            }
            _ => {}
        }
    }
    out
}

/// Arguments with every tensor spread over the levels.
pub(super) fn spread_all(args: &Args, levels: &[u32]) -> Result<Args> {
    let mut out = args.clone();
    for value in &mut out.values {
        match value {
            Value::Tensor(t) if !t.is_wrapped_number() => {
                *value = Value::Tensor(spread(t, levels)?);
            }
            Value::Tensors(ts) => {
                for t in ts {
                    *t = spread(t, levels)?;
                }
            }
            _ => {}
        }
    }
    Ok(out)
}

/// The sizes of levels, as a user's list of sizes begins.
pub(super) fn level_sizes(levels: &[u32]) -> Result<SmallVec<[i64; 5]>> {
    levels.iter().map(|&id| Ok(size_of_level(id)? as i64)).collect()
}
