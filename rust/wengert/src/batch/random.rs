//! Random operations inside levels: fail, draw for each example, or draw once.
//!
//! Every level has its own setting. One that says *error* refuses; those that say *different* give
//! the result their axis, so that one draw of the larger shape serves all examples; those that say
//! *same* give none.

use super::{Level, Levels, Randomness, align};
use crate::layout::Dims;
use crate::ops::{Args, Output, ParamKind, Row, Value, join, tags};
use crate::tensor::Tensor;
use crate::{Result, bail};
use smallvec::SmallVec;

pub(super) fn call(row: &'static Row, args: &Args) -> Result<Option<Output>> {
    let name = row.short_name();
    let given = super::levels_of_all(super::tensors(args), name)?;
    let stack = super::stack();
    if stack.is_empty() || draws_nothing(row, args) {
        return if given.is_empty() { Ok(None) } else { of_own_levels(row, args, &given) };
    }
    if stack.iter().any(|level| level.randomness == Randomness::Error) {
        bail!(
            Value,
            "",
            "vmap: called random operation while in randomness error mode. Please either use the \
             'same' or 'different' randomness flags on vmap or perform the randomness operation out \
             of vmap"
        );
    }
    let different: Levels = stack
        .iter()
        .filter(|level| level.randomness == Randomness::Different)
        .map(|level| level.id)
        .collect();
    if name.ends_with('_') {
        return in_place(row, args, &given, &different, &stack).map(Some);
    }
    let same_but_given = given.iter().any(|id| !different.contains(id));
    if name == "dropout" && same_but_given {
        return dropout(row, args, &different).map(Some);
    }
    if row.has(tags::FACTORY) && name != "normal" {
        return make(row, args, &different).map(Some);
    }
    if same_but_given {
        bail!(
            Value,
            "",
            "Vmap does not currently support same randomness with a batched tensor input. ({name})"
        );
    }
    if different.is_empty() {
        return Ok(None);
    }
    let output = match sized(row, args, &different)? {
        Some(args) => row.call(&args)?,
        None if name == "multinomial" => each(row, args, &different)?,
        None => row.call(&align::spread_all(args, &different)?)?,
    };
    super::wrapped(output, &different).map(Some)
}

/// Dropout that is switched off, or keeps or drops everything.
fn draws_nothing(row: &Row, args: &Args) -> bool {
    row.short_name() == "dropout" && (!args.bool(2) || args.float(1) == 0.0)
}

fn of_own_levels(row: &'static Row, args: &Args, given: &[u32]) -> Result<Option<Output>> {
    super::wrapped(row.call(&align::spread_all(args, given)?)?, given).map(Some)
}

/// Arguments for a larger result, if the row is told the size.
fn sized(row: &'static Row, args: &Args, levels: &[u32]) -> Result<Option<Args>> {
    let signature = &super::signatures(row)[args.overload];
    let at = signature
        .params
        .iter()
        .position(|p| p.name == "size" && matches!(p.kind, ParamKind::Size | ParamKind::Ints));
    let Some(at) = at else { return Ok(None) };
    let mut args = args.clone();
    let mut sizes = align::level_sizes(levels)?;
    sizes.extend_from_slice(args.ints(at));
    args.values[at] = Value::Ints(sizes);
    Ok(Some(args))
}

/// New random tensors, by size or like another one, of which the shape and type matter.
fn make(row: &'static Row, args: &Args, different: &[u32]) -> Result<Output> {
    let mut args = args.clone();
    if let Value::Tensor(like) = &args.values[0] {
        let mut shape = SmallVec::<[i64; 5]>::from_slice(&align::level_sizes(different)?);
        shape.extend(like.shape().iter().map(|&s| s as i64));
        let shape: Dims = shape.iter().map(|&s| s as usize).collect();
        args.values[0] = Value::Tensor(Tensor::zeros(&[], like.dtype())?);
        let like = args.tensor(0).clone();
        args.values[0] = Value::Tensor(crate::ops::view::expand_to(&like, &shape)?);
        return super::wrapped(row.call(&args)?, different);
    }
    if different.is_empty() {
        return row.call(&args);
    }
    let output = match sized(row, &args, different)? {
        Some(args) => row.call(&args)?,
        None => each(row, &args, different)?,
    };
    super::wrapped(output, different)
}

/// Draws for one example after the other: permutations, and samples of several rows.
fn each(row: &'static Row, args: &Args, levels: &[u32]) -> Result<Output> {
    let sizes = align::level_sizes(levels)?;
    let count: i64 = sizes.iter().product();
    let whole = align::spread_all(args, levels)?;
    let mut parts = Vec::with_capacity(count.max(0) as usize);
    for i in 0..count {
        let mut one = whole.clone();
        for value in &mut one.values {
            if let Value::Tensor(t) = value {
                let mut rest = i;
                let mut example = t.clone();
                let mut places: SmallVec<[i64; 2]> = SmallVec::new();
                for &size in sizes.iter().rev() {
                    places.push(rest % size);
                    rest /= size;
                }
                for place in places.into_iter().rev() {
                    example = crate::ops::view::select(&example, 0, place)?;
                }
                *value = Value::Tensor(example);
            }
        }
        let Output::Tensor(t) = row.call(&one)? else {
            bail!(Unsupported, row.short_name(), "gives no tensor");
        };
        parts.push(t);
    }
    let stack = join::stack(&parts, 0)?;
    let mut shape: Dims = sizes.iter().map(|&s| s as usize).collect();
    shape.extend_from_slice(&stack.shape()[1..]);
    Ok(crate::ops::view::reshape_to(&stack, &shape)?.into())
}

/// Rows that fill their first argument.
fn in_place(
    row: &'static Row,
    args: &Args,
    given: &[u32],
    different: &[u32],
    stack: &[Level],
) -> Result<Output> {
    let target = args.tensor(0);
    let own = super::levels_of(target, row.short_name())?;
    let missing = stack.iter().any(|l| different.contains(&l.id) && !own.contains(&l.id));
    if missing || given.iter().any(|id| !own.contains(id)) {
        bail!(
            Value,
            "",
            "vmap: Cannot ask for different inplace randomness on an unbatched tensor. This will \
             appear like same randomness. Make the tensor inside the function with new_empty() of a \
             batched one."
        );
    }
    if own.iter().all(|id| different.contains(id)) {
        row.call(&align::physicals(args))?;
        return Ok(target.clone().into());
    }
    // One draw for what is the same, written to all examples.
    let mut shape: Dims = align::level_sizes(different)?.iter().map(|&s| s as usize).collect();
    shape.extend_from_slice(target.shape());
    let drawn = Tensor::zeros(&shape, target.dtype())?;
    let mut one = args.clone();
    for value in &mut one.values[1..] {
        if let Value::Tensor(t) = value
            && t.is_batched()
        {
            bail!(
                Value,
                "",
                "Vmap does not currently support same randomness with a batched tensor input. ({})",
                row.short_name()
            );
        }
    }
    one.values[0] = Value::Tensor(drawn.clone());
    row.call(&one)?;
    let drawn = Tensor::example_of(&drawn, different)?;
    super::invoke("copy_", 0, [Value::Tensor(target.clone()), Value::Tensor(drawn)])?;
    Ok(target.clone().into())
}

/// Dropout with one mask for examples that are to be treated the same.
fn dropout(row: &'static Row, args: &Args, different: &[u32]) -> Result<Output> {
    let x = args.tensor(0);
    let mut shape: Dims = align::level_sizes(different)?.iter().map(|&s| s as usize).collect();
    shape.extend_from_slice(x.shape());
    let mut ones = args.clone();
    ones.values[0] = Value::Tensor(Tensor::full(&shape, 1.0, x.dtype())?);
    let Output::Tensor(mask) = row.call(&ones)? else {
        bail!(Unsupported, "dropout", "gives no tensor");
    };
    let mask = Tensor::example_of(&mask, different)?;
    let both = [Value::Tensor(x.clone()), Value::Tensor(mask)];
    Ok(super::invoke("mul", 0, both)?.into())
}
