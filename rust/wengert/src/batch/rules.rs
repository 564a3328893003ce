//! What a row says about batches, in its field `batch`. Without a word it runs example by example,
//! see [`each`](super::each).

use super::{Call, Ruling, align, axes};
use crate::ops::{Args, Output, Value};
use crate::{Result, bail};

/// How a row works on batches.
#[derive(Clone, Copy)]
pub enum Batching {
    /// Element by element: operands are aligned, and broadcast.
    Pointwise,
    /// The first argument decides; the others do not matter or are not tensors.
    First,
    /// Parameters that name axes of the first argument count from its first own axis.
    Axes {
        /// How many axes more than the first argument the axes are counted among.
        extra: usize,
    },
    /// As `Axes`, with every tensor spread over all levels.
    Spread {
        /// How many axes fewer than the first argument the other tensors have.
        less: usize,
    },
    /// Reduces over given axes, or over all.
    Reduce,
    /// Works on the last axes, of which there must be so many, and leaves the others alone.
    Trailing(usize),
    /// A rule of its own.
    Own(fn(&Call<'_>) -> Result<Ruling>),
    /// Each example would give a result of another shape, or control what the program does next.
    Refuse(&'static str),
    /// None.
    Each,
}

pub(crate) const DYNAMIC: &str = "vmap: We do not support batching operators that can output dynamic shape. \
    Attempted to vmap over aten::nonzero. The number of positions differs from example to example; \
    use torch.where(condition, a, b) instead.";
pub(crate) const EQUAL: &str = "Batching rule not implemented for aten::equal. We could not generate a \
    fallback: it gives one truth value, and there would be one per example. Use (a == b).all().";
pub(crate) const ALLCLOSE: &str = "vmap over torch.allclose isn't supported yet: it gives one truth value, and \
    there would be one per example. Use torch.isclose(a, b).all().";

impl Batching {
    /// Whether the in-place form may work on aligned operands.
    pub(super) fn is_pointwise(self) -> bool {
        matches!(self, Batching::Pointwise | Batching::First)
    }

    pub(super) fn apply(self, call: &Call<'_>) -> Result<Ruling> {
        match self {
            Batching::Pointwise => pointwise(call),
            Batching::First => first(call),
            Batching::Axes { extra } => axes::along(call, extra),
            Batching::Spread { less } => axes::spread(call, less),
            Batching::Reduce => axes::reduce(call),
            Batching::Trailing(n) if call.rank(0) >= n => first(call),
            Batching::Trailing(_) | Batching::Each => Ok(Ruling::Decline),
            Batching::Own(rule) => rule(call),
            Batching::Refuse(text) => bail!(Value, "", "{text}"),
        }
    }
}

impl Call<'_> {
    /// How many axes an example of a tensor argument has.
    pub(super) fn rank(&self, i: usize) -> usize {
        self.args.opt_tensor(i).map_or(0, |t| t.ndim())
    }

    /// Whether an argument differs from example to example.
    pub(super) fn is_batched(&self, i: usize) -> bool {
        self.args.opt_tensor(i).is_some_and(|t| t.is_batched())
    }

    /// Whether an argument was given at all.
    pub(super) fn has(&self, i: usize) -> bool {
        self.args.values.get(i).is_some_and(|v| !matches!(v, Value::None))
    }

    /// The row on physical arguments.
    pub(super) fn run(&self, args: &Args) -> Result<Ruling> {
        Ok(Ruling::Physical(self.row.call(args)?))
    }
}

pub(super) fn pointwise(call: &Call<'_>) -> Result<Ruling> {
    if call.row.name.ends_with('_') {
        return write(call);
    }
    call.run(&align::pointwise(call.args, &call.levels)?)
}

/// Rows that write to their first argument: `copy_`, `zero_`.
fn write(call: &Call<'_>) -> Result<Ruling> {
    let name = call.row.short_name();
    let target = call.args.tensor(0);
    let place = super::place_of(target, &call.levels, name)?;
    let Some(args) = align::for_place(call.args, &place, &call.levels, target.ndim())? else {
        let most = super::tensors(call.args).max_by_key(|t| t.ndim());
        let shape = most.map_or(&[][..], |t| t.shape());
        return Err(align::shape_mismatch(name, target, shape));
    };
    call.row.call(&args)?;
    Ok(Ruling::Finished(Output::Tensor(target.clone())))
}

pub(super) fn first(call: &Call<'_>) -> Result<Ruling> {
    if call.row.name.ends_with('_') {
        return write(call);
    }
    let args = align::physicals(call.args);
    // Formats other than those of any number of axes speak of an example's axes.
    if args.values.iter().any(|v| matches!(v, Value::MemoryFormat(f) if f.is_for_images())) {
        return Ok(Ruling::Decline);
    }
    let output = call.row.call(&args)?;
    match call.args.opt_tensor(0).map(|t| super::levels_of(t, call.row.short_name())) {
        Some(levels) => Ok(Ruling::Finished(super::wrapped(output, &levels?)?)),
        None => Ok(Ruling::Decline),
    }
}
