//! Operations on whole batches while the program sees one example: `vmap`.
//!
//! A *batched* tensor looks like one example. Shape, type and strides are an example's, and behind it
//! stands the *physical* tensor that holds all examples: its first axes are the batch, one per
//! *level* (a running `vmap`), the outermost level first. An operation on batched tensors is carried
//! out once on the physical ones, by the rule of its row ([`rules`]); the result is wrapped again.
//!
//! What makes this small:
//!
//! * The binding's entry points turn calls to it. Below them everything runs on physical tensors,
//!   which are ordinary: kernels, autograd and forward mode need no case for batches, and whatever
//!   is recorded is recorded on the physical tensors.
//! * Rules for backward meet batched cotangents, and call the engine's functions with them. Those
//!   that know of batches do the same there; all others refuse a batched tensor, for nothing may
//!   read, view or record one example as if it were all ([`lift`]).
//! * Rules deal with all levels at once, since the axes of all of them stand in front. Nesting needs
//!   no code of its own.
//! * A rule may decline. Then the operation runs example by example and the results are stacked
//!   ([`each`]), which is right for every operation: a row needs a rule only to be fast.
//! * Level numbers are never used twice. A tensor that outlives its level is recognised, and is an
//!   error instead of a wrong result.
//!
//! One counter, [`active`], tells in a single load whether there is any level or batched tensor in
//! the process. While it is zero, nothing else of this module runs.
//!
//! * [`align`]: physical tensors brought to common axes.
//! * [`rules`], [`axes`], [`compose`], [`indexing`], [`random`]: rules, by kind. A row states its own.
//! * [`each`]: the loop over examples.
//! * [`backward`]: gradients inside `vmap`, and of many cotangents at once.
//! * [`lift`], [`product`]: the engine's functions on batched tensors, for rules for backward.
//! * `tensors`: operators and attributes that are no rows.

mod align;
pub(crate) mod axes;
pub mod backward;
pub(crate) mod compose;
pub(crate) mod each;
pub mod indexing;
pub(crate) mod lift;
pub(crate) mod linalg;
pub(crate) mod product;
mod random;
pub(crate) mod rules;
mod tensors;

use crate::ops::{Args, Output, Row, Signature, Value, tags, view};
use crate::tensor::Tensor;
use crate::{Error, Kind, Result, bail};
use smallvec::SmallVec;
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

pub use align::{physical_over, spread};
pub(crate) use lift::unreadable;
pub(crate) use rules::Batching;
pub use tensors::*;

/// Numbers of levels, the outermost first.
pub type Levels = SmallVec<[u32; 2]>;

/// What random operations do in a level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Randomness {
    /// Fail.
    Error,
    /// Draw anew for each example.
    Different,
    /// Draw once for all examples.
    Same,
}

/// A running `vmap`.
#[derive(Clone, Copy)]
pub struct Level {
    /// Its number, larger than those of the levels around it.
    pub id: u32,
    /// The number of examples.
    pub size: usize,
    /// What random operations do.
    pub randomness: Randomness,
}

/// Running levels and living batched tensors, of all threads.
static ACTIVE: AtomicUsize = AtomicUsize::new(0);
static NEWEST: AtomicU32 = AtomicU32::new(0);

thread_local! {
    static STACK: RefCell<Vec<Level>> = const { RefCell::new(Vec::new()) };
}

/// Whether an operation may meet a level or a batched tensor.
#[inline]
pub fn active() -> bool {
    ACTIVE.load(Ordering::Relaxed) != 0
}

pub(crate) fn remember() {
    ACTIVE.fetch_add(1, Ordering::Relaxed);
}

pub(crate) fn forget() {
    ACTIVE.fetch_sub(1, Ordering::Relaxed);
}

/// Whether one of these is batched.
#[inline]
pub(crate) fn any(tensors: &[&Tensor]) -> bool {
    active() && tensors.iter().any(|t| t.is_batched())
}

/// Begins a level on this thread and gives its number.
pub fn enter(size: usize, randomness: Randomness) -> u32 {
    let id = NEWEST.fetch_add(1, Ordering::Relaxed) + 1;
    STACK.with_borrow_mut(|stack| stack.push(Level { id, size, randomness }));
    remember();
    id
}

/// Ends a level, and those inside it that somebody left open.
pub fn exit(id: u32) {
    STACK.with_borrow_mut(|stack| {
        while stack.last().is_some_and(|level| level.id >= id) {
            stack.pop();
            forget();
        }
    });
}

/// The levels that run on this thread, the outermost first.
pub fn stack() -> SmallVec<[Level; 2]> {
    STACK.with_borrow(|stack| SmallVec::from_slice(stack))
}

/// Says which levels this thread works for; those that begin and end here are counted here.
pub(crate) fn set_stack(levels: Vec<Level>) {
    STACK.with_borrow_mut(|stack| *stack = levels);
}

/// Takes a level and those inside it off this thread, until [`resume`].
pub fn suspend(id: u32) -> Vec<Level> {
    STACK.with_borrow_mut(|stack| {
        let at = stack.iter().position(|level| level.id >= id).unwrap_or(stack.len());
        stack.split_off(at)
    })
}

/// Puts back what [`suspend`] took off, in the place of what somebody left open meanwhile.
pub fn resume(levels: Vec<Level>) {
    if let Some(first) = levels.first() {
        exit(first.id);
    }
    STACK.with_borrow_mut(|stack| stack.extend(levels));
}

/// The place of a level on this thread, counted from 1.
pub fn depth_of(id: u32) -> Option<usize> {
    STACK.with_borrow(|stack| stack.iter().position(|level| level.id == id).map(|i| i + 1))
}

/// The number of examples of a level that runs.
fn size_of_level(id: u32) -> Result<usize> {
    let size = STACK.with_borrow(|s| s.iter().find(|level| level.id == id).map(|level| level.size));
    size.ok_or_else(|| escaped("batch"))
}

#[cold]
fn escaped(what: &str) -> Error {
    Error::plain(
        Kind::Value,
        format!(
            "Either your tensor may have escaped from inside a function being vmapped and this is a \
             user error, or it is used on another thread: its examples belong to a vmap that does \
             not run here ({what})"
        ),
    )
}

/// The levels of a tensor, all of which must run.
pub fn levels_of(t: &Tensor, what: &str) -> Result<Levels> {
    let Some((_, levels)) = t.parts() else { return Ok(Levels::new()) };
    match levels.iter().all(|&id| depth_of(id).is_some()) {
        true => Ok(levels),
        false => Err(escaped(what)),
    }
}

/// The levels of several tensors together.
pub fn levels_of_all<'a>(
    tensors: impl IntoIterator<Item = &'a Tensor>,
    what: &str,
) -> Result<Levels> {
    let mut all = Levels::new();
    for t in tensors {
        if t.is_batched() {
            all.extend(levels_of(t, what)?);
        }
    }
    all.sort_unstable();
    all.dedup();
    Ok(all)
}

/// All tensors among arguments.
fn tensors(args: &Args) -> impl Iterator<Item = &Tensor> {
    args.values.iter().flat_map(|v| v.tensors())
}

/// `x` with its axis `dim` taken as the examples of a level.
///
/// # Errors
/// `x` has no such axis, or has escaped from a level that has ended.
pub fn add_axis(x: &Tensor, dim: i64, level: u32) -> Result<Tensor> {
    let mut levels = levels_of(x, "vmap")?;
    let d = crate::layout::wrap_dim(dim, x.ndim())?;
    let physical = x.physical().unwrap_or_else(|| x.clone());
    let at = levels.partition_point(|&id| id < level);
    let from = levels.len() + d;
    let mut axes = x.batch_axes();
    if at == levels.len() {
        axes.resize(at, 0);
        axes.push(d as u8);
    } else {
        axes.clear();
    }
    levels.insert(at, level);
    Tensor::example_along(&moved(&physical, from, at)?, &levels, axes)
}

/// An axis in another place; the tensor itself if it is there.
fn moved(x: &Tensor, from: usize, to: usize) -> Result<Tensor> {
    if from == to { Ok(x.clone()) } else { view::movedim(x, &[from as i64], &[to as i64]) }
}

/// `x` with the examples of a level as its axis `dim`; the same example `size` times if it has no
/// examples in that level.
///
/// # Errors
/// The result has no such axis, or `x` has escaped from a level that has ended.
pub fn remove_axis(x: &Tensor, level: u32, size: usize, dim: i64) -> Result<Tensor> {
    let mut levels = levels_of(x, "vmap")?;
    let d = crate::layout::wrap_dim(dim, x.ndim() + 1)?;
    let physical = x.physical().unwrap_or_else(|| x.clone());
    let (whole, at) = match levels.iter().position(|&id| id == level) {
        Some(at) => {
            levels.remove(at);
            (physical, at)
        }
        None => {
            let k = levels.len();
            let with = view::unsqueeze(&physical, k as i64)?;
            let mut shape = crate::layout::Dims::from_slice(with.shape());
            shape[k] = size;
            (view::expand_to(&with, &shape)?, k)
        }
    };
    Tensor::example_of(&moved(&whole, at, levels.len() + d)?, &levels)
}

/// A tensor's examples in one level: the tensor without that level and the axis the examples are,
/// or the tensor itself if it has none.
pub fn without_level(x: &Tensor, level: u32) -> Result<(Tensor, Option<usize>)> {
    match x.parts() {
        Some((_, levels)) if levels.contains(&level) => {
            let own = levels.last() == Some(&level);
            let kept = x.batch_axes().get(levels.len() - 1).copied().filter(|_| own);
            let axis = kept.unwrap_or(0) as usize;
            Ok((remove_axis(x, level, 0, axis as i64)?, Some(axis)))
        }
        _ => Ok((x.clone(), None)),
    }
}

/// The examples of a batched tensor, and the levels of its first axes.
pub fn examples(x: &Tensor) -> Option<(Tensor, Levels)> {
    x.parts()
}

/// A tensor behind a batched one, and its levels, each with the axis that it was.
pub type Shown = (Tensor, SmallVec<[(u32, usize); 2]>);

/// The tensor that a batched one was made of, and each level with the axis that it was, the outermost
/// first; for the printer.
///
/// # Errors
/// A view cannot be brought up to date.
pub fn shown(x: &Tensor) -> Result<Option<Shown>> {
    let Some((mut whole, levels)) = x.parts() else { return Ok(None) };
    let mut axes = x.batch_axes();
    axes.resize(levels.len(), 0);
    for (j, &axis) in axes.iter().enumerate().rev() {
        whole = moved(&whole, j, j + axis as usize)?;
    }
    Ok(Some((whole, levels.into_iter().zip(axes.into_iter().map(usize::from)).collect())))
}

/// The tensor of the outermost call whose example this is an example of, or (without `all`) that of
/// the innermost; the tensor itself if it is not batched.
///
/// # Errors
/// As those of [`shown`].
pub fn unwrapped(x: &Tensor, all: bool) -> Result<Tensor> {
    match (all, x.parts()) {
        (_, None) => Ok(x.clone()),
        (true, _) => Ok(shown(x)?.map_or_else(|| x.clone(), |(whole, _)| whole)),
        (false, Some((_, levels))) => Ok(without_level(x, levels[levels.len() - 1])?.0),
    }
}

/// A tensor that stands for one example of `physical`, whose first axes are those of `levels`.
pub fn wrap(physical: &Tensor, levels: &[u32]) -> Result<Tensor> {
    Tensor::example_of(physical, levels)
}

/// The signatures of a row, read once.
pub(crate) fn signatures(row: &'static Row) -> &'static [Signature] {
    static READ: OnceLock<HashMap<&'static str, Vec<Signature>>> = OnceLock::new();
    let all = READ.get_or_init(|| {
        let read = |r: &Row| r.signatures.iter().map(|s| Signature::parse(s)).collect();
        crate::ops::table().map(|r| (r.name, read(r))).collect()
    });
    &all[row.name]
}

/// One call with batched arguments.
pub(crate) struct Call<'a> {
    row: &'static Row,
    signature: &'static Signature,
    args: &'a Args,
    /// The levels of all arguments together.
    levels: Levels,
}

/// What a rule has to say about a call.
pub(crate) enum Ruling {
    /// The result, with the axes of the call's levels in front.
    Physical(Output),
    /// The result, wrapped already.
    Finished(Output),
    /// No rule for this: one example at a time.
    Decline,
}

/// Calls a row whose arguments may be batched; `None` if none is, and the row may be called as
/// ever.
pub fn call(row: &'static Row, args: &Args) -> Result<Option<Output>> {
    // Rules take arguments apart: make lent ones our own.
    let args = &args.clone();
    if row.has(tags::RANDOM) {
        return random::call(row, args);
    }
    let levels = levels_of_all(tensors(args), row.short_name())?;
    if levels.is_empty() {
        return Ok(None);
    }
    let call = Call { row, signature: &signatures(row)[args.overload], args, levels };
    let output = match row.batch.apply(&call)? {
        Ruling::Finished(output) => return Ok(Some(output)),
        Ruling::Physical(output) => output,
        Ruling::Decline => each::each(&call)?,
    };
    Ok(Some(wrapped(output, &call.levels)?))
}

fn wrapped(output: Output, levels: &[u32]) -> Result<Output> {
    let all = |ts: Vec<Tensor>| -> Result<Vec<Tensor>> {
        ts.iter().map(|t| Tensor::example_of(t, levels)).collect()
    };
    Ok(match output {
        Output::Tensor(t) => Output::Tensor(Tensor::example_of(&t, levels)?),
        Output::Tensors(ts) => Output::Tensors(all(ts)?),
        Output::Named(fields, ts) => Output::Named(fields, all(ts)?),
        Output::Bool(b) => Output::Bool(b),
    })
}

/// Calls the in-place form of a row whose arguments may be batched; false if none is.
///
/// # Errors
/// The tensor to write to is the same for all examples of a level in which another argument is not.
pub fn call_inplace(row: &'static Row, args: &Args) -> Result<bool> {
    let name = row.short_name();
    let args = &args.clone();
    let levels = levels_of_all(tensors(args), name)?;
    if levels.is_empty() {
        return Ok(false);
    }
    let target = args.tensor(0);
    let place = place_of(target, &levels, name)?;
    if row.batch.is_pointwise()
        && let Some(mut aligned) = align::for_place(args, &place, &levels, target.ndim())?
    {
        row.call_inplace(&mut aligned)?;
        return Ok(true);
    }
    let Some(Output::Tensor(result)) = call(row, args)? else {
        bail!(Unsupported, name, "this operation has no in-place form");
    };
    crate::ops::check_storable(result.dtype(), target.dtype())?;
    if result.shape() != target.shape() {
        return Err(align::shape_mismatch(name, target, result.shape()));
    }
    crate::ops::cast::copy_(&place, &align::align(&result, &levels, target.ndim())?)?;
    Ok(true)
}

/// The physical tensor to write to, which must have examples in all levels.
pub(crate) fn place_of(target: &Tensor, levels: &[u32], name: &str) -> Result<Tensor> {
    let own = levels_of(target, name)?;
    if let Some(missing) = levels.iter().find(|id| !own.contains(id)) {
        let name = name.trim_end_matches('_');
        return Err(Error::plain(
            Kind::Value,
            format!(
                "vmap: inplace arithmetic(self, *extra_args) is not possible because there exists a \
                 Tensor `other` in extra_args that has more elements than `self`. This happened due \
                 to `other` being vmapped over but `self` not being vmapped over at level {}. \
                 Please try to use out-of-place operators instead of inplace arithmetic (vmap: \
                 aten::{name}_(self, *extra_args) is not possible: make `self` inside the function \
                 with new_zeros or clone of a batched tensor, or use {name}).",
                depth_of(*missing).unwrap_or_default()
            ),
        ));
    }
    Ok(target.physical().unwrap_or_else(|| target.clone()))
}

/// An operation element by element, given as a function; `None` if no operand is batched.
///
/// # Errors
/// As those of the operation.
pub fn pointwise(
    operands: &[&Tensor],
    f: impl FnOnce(&[Tensor]) -> Result<Tensor>,
) -> Result<Option<Tensor>> {
    let levels = levels_of_all(operands.iter().copied(), "an operator")?;
    if levels.is_empty() {
        return Ok(None);
    }
    let values = operands.iter().map(|&t| Value::Tensor(t.clone())).collect();
    let aligned = align::pointwise(&Args { overload: 0, values }, &levels)?;
    let physical: SmallVec<[Tensor; 2]> = tensors(&aligned).cloned().collect();
    Tensor::example_of(&f(&physical)?, &levels).map(Some)
}

/// Calls a row by name on tensors that may be batched, with the defaults of its parameters.
///
/// # Panics
/// There is no such row.
///
/// # Errors
/// As those of the operation.
pub fn invoke(
    name: &str,
    overload: usize,
    values: impl IntoIterator<Item = Value>,
) -> Result<Tensor> {
    let row = crate::ops::find(name).expect("rules name rows of the table");
    let mut args = Args { overload, values: values.into_iter().collect() };
    for param in signatures(row)[overload].params.iter().skip(args.values.len()) {
        args.values.push(param.default.clone().unwrap_or(Value::None));
    }
    let output = match call(row, &args)? {
        Some(output) => output,
        None => row.call(&args)?,
    };
    match output {
        Output::Tensor(t) => Ok(t),
        _ => bail!(Unsupported, "vmap", "{name} does not give a tensor"),
    }
}
