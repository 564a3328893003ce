//! Forward mode: tangents, computed along with the values.
//!
//! A *dual* tensor carries a tangent: a tensor of its own shape, the derivative of its elements in
//! some direction. An operation on dual tensors gives dual tensors, by the chain rule. Where that
//! happens is where nodes are made ([`mod@super::record`]): operation, inputs, outputs and what the
//! rule saves come together there, and tangents need the same four things. So no operation knows
//! that forward mode exists. Its Jacobian is applied by [`Op::jvp`] if the operation has that, and
//! otherwise by transposing the rule for backward (`transpose`).
//!
//! **Levels.** A tangent belongs to a level, which is opened and closed like a block; levels nest.
//! While tangents of a level are computed only the levels outside it are open, which the guard
//! [`Below`] sees to. That computation is ordinary tensor algebra. So it is recorded if it has to
//! be (reverse over forward), it gives tangents that are dual in the outer levels (forward over
//! forward), and directions of two levels cannot be mixed up: a tangent never carries a tangent of
//! its own level. Forward over reverse needs nothing: rules for backward are operations, too.
//!
//! **Tangents live in their level**, which is a list of them; a dual tensor knows its place in the
//! list ([`Tangent`]). Closing a level empties the list, and with it everything that was computed
//! for it goes, however many tensors still have a place in it. Cycles go, too: a tangent that was
//! recorded may know, by way of what nodes saved, the tensor whose tangent it is. What can be seen
//! of such cycles early is avoided: a rule for tangents sees saved tensors without the tangents
//! that it is about to compute with ([`Tensor::alias_in`]).
//!
//! **Memory.** A tangent is laid out like its tensor. A view of a dual tensor has as tangent the
//! same view of the tensor's tangent, and a write to a dual tensor writes to its tangent, so that
//! views and bases see each other's tangents change as they see their values change. In turn the
//! tangent of a new tensor shares no memory with the tangents it was computed from.

use super::backward::caught;
use super::context::Context;
use super::masked;
use super::mode::{self, FORWARD, RECORD, switch};
use super::node::{Gradients, Op};
use super::record::attach;
use super::transpose::transpose;
use crate::ops::{cast, create, view};
use crate::per_thread::PerThread;
use crate::tensor::Tensor;
use crate::{Result, bail};
use parking_lot::Mutex;
use smallvec::{SmallVec, smallvec};
use std::cell::{Cell, RefCell};
use std::sync::Arc;

/// One level of forward mode: the tangents that were made in it.
pub struct Level {
    /// How many levels are outside.
    depth: usize,
    tangents: Mutex<Places>,
}

#[derive(Default)]
struct Places {
    all: Vec<Option<Tensor>>,
    free: Vec<u32>,
    closed: bool,
}

/// A tensor's place among the tangents of a level.
pub(crate) struct Tangent {
    level: Arc<Level>,
    place: u32,
}

impl Level {
    /// Keeps a tangent; nothing if the level is closed.
    pub(crate) fn put(self: &Arc<Level>, tangent: Tensor) -> Option<Tangent> {
        let mut places = self.tangents.lock();
        if places.closed {
            // Dropped after the lock is given back, because it may hold other tangents.
            drop(places);
            drop(tangent);
            return None;
        }
        let place = places.free.pop().unwrap_or_else(|| {
            places.all.push(None);
            places.all.len() as u32 - 1
        });
        places.all[place as usize] = Some(tangent);
        Some(Tangent { level: self.clone(), place })
    }

    fn close(&self) {
        let all = {
            let mut places = self.tangents.lock();
            places.closed = true;
            places.free = Vec::new();
            std::mem::take(&mut places.all)
        };
        drop(all);
    }
}

impl Tangent {
    /// The level.
    pub(crate) fn level(&self) -> &Arc<Level> {
        &self.level
    }

    /// Whether the level is closed.
    pub(crate) fn is_closed(&self) -> bool {
        self.level.tangents.lock().closed
    }

    /// Whether this is a tangent of `level`.
    pub(crate) fn is_of(&self, level: &Arc<Level>) -> bool {
        Arc::ptr_eq(&self.level, level)
    }

    /// The tangent, unless its level is closed.
    pub(crate) fn get(&self) -> Option<Tensor> {
        self.level.tangents.lock().all.get(self.place as usize)?.clone()
    }
}

impl Drop for Tangent {
    fn drop(&mut self) {
        let old = {
            let mut places = self.level.tangents.lock();
            let old = places.all.get_mut(self.place as usize).and_then(Option::take);
            if !places.closed {
                places.free.push(self.place);
            }
            old
        };
        drop(old);
    }
}

thread_local! {
    /// The levels open on this thread, outermost first.
    static OPEN: RefCell<Vec<Arc<Level>>> = const { RefCell::new(Vec::new()) };
    static ENABLED: Cell<bool> = const { Cell::new(true) };
}

/// Brings the mode's bit up to date.
pub(super) fn refresh() {
    let open = OPEN.with_borrow(|open| !open.is_empty());
    switch(FORWARD, open && ENABLED.get() && !super::is_inference_mode());
}

/// All levels that are open on this thread.
pub(super) fn levels() -> Vec<Arc<Level>> {
    OPEN.with_borrow(Vec::clone)
}

/// Makes these the levels that are open on this thread.
pub(super) fn set_levels(levels: Vec<Arc<Level>>) {
    let before = OPEN.replace(levels);
    refresh();
    drop(before);
}

/// The levels that tangents are computed for, outermost first.
pub(super) fn active() -> SmallVec<[Arc<Level>; 2]> {
    if !mode::is_forward() {
        return SmallVec::new();
    }
    OPEN.with_borrow(|open| open.iter().cloned().collect())
}

fn level(index: usize) -> Result<Arc<Level>> {
    match OPEN.with_borrow(|open| open.get(index).cloned()) {
        Some(level) => Ok(level),
        None => bail!(Grad, "", "there is no level {index} of forward mode AD on this thread"),
    }
}

/// Opens a level inside those that are open on this thread, and gives its number.
///
/// ```
/// use wengert::{Tensor, graph::forward};
/// let x = Tensor::from_slice(&[3.0f64], &[1])?;
/// let v = Tensor::from_slice(&[1.0f64], &[1])?;
/// let level = forward::enter();
/// let x = forward::make_dual(&x, &v, level)?;
/// let (y, dy) = forward::unpack_dual(&(&x * &x), level)?;
/// forward::exit(level)?;
/// assert_eq!(y.to_vec::<f64>()?, [9.0]);
/// assert_eq!(dy.unwrap().to_vec::<f64>()?, [6.0]);
/// # Ok::<(), wengert::Error>(())
/// ```
pub fn enter() -> usize {
    let depth = OPEN.with_borrow_mut(|open| {
        let depth = open.len();
        open.push(Arc::new(Level { depth, tangents: Mutex::default() }));
        depth
    });
    refresh();
    depth
}

/// Closes a level, and with it goes every tangent of it.
///
/// # Errors
/// It is not the innermost one.
pub fn exit(level: usize) -> Result<()> {
    let last = OPEN.with_borrow_mut(|open| match open.len() == level + 1 {
        true => open.pop(),
        false => None,
    });
    let Some(last) = last else {
        bail!(
            Grad,
            "",
            "Trying to exit a forward AD level that was not the last one that was created. This is \
             not supported."
        );
    };
    refresh();
    last.close();
    Ok(())
}

/// Whether tangents are computed on this thread while a level is open.
pub fn is_forward_enabled() -> bool {
    ENABLED.get()
}

/// Switches tangents on or off on this thread; gives what it was.
pub fn set_forward_enabled(enabled: bool) -> bool {
    let old = ENABLED.replace(enabled);
    refresh();
    old
}

/// The levels from a given one inwards, closed until this guard is dropped.
pub(super) struct Below {
    inner: Vec<Arc<Level>>,
    mode: u32,
}

impl Below {
    pub(super) fn new(level: &Level) -> Below {
        let inner = OPEN.with_borrow_mut(|open| open.split_off(level.depth.min(open.len())));
        Below { inner, mode: switch(FORWARD, level.depth > 0 && mode::is_forward()) }
    }
}

impl Drop for Below {
    fn drop(&mut self) {
        // Levels that somebody opened meanwhile and did not close; dropped when they are not
        // borrowed, as that may run anything.
        let forgotten = OPEN.with_borrow_mut(|open| {
            let depth = self.inner.first().map_or(open.len(), |level| level.depth);
            let forgotten = open.split_off(depth.min(open.len()));
            open.append(&mut self.inner);
            forgotten
        });
        drop(forgotten);
        switch(FORWARD, self.mode & FORWARD != 0);
    }
}

/// `primal` with a tangent: a tensor over the same memory, and with its history.
///
/// The tangent is taken as it is if it is laid out in memory as `primal` is, and copied otherwise.
///
/// # Errors
/// There is no such level; types or shapes differ; `primal` has a tangent of that level already.
pub fn make_dual(primal: &Tensor, tangent: &Tensor, index: usize) -> Result<Tensor> {
    let level = level(index)?;
    if !primal.dtype().is_floating() || !tangent.dtype().is_floating() {
        bail!(
            DType,
            "",
            "Expected primal and tangent to be floating point, but got: {} and {}",
            primal.dtype(),
            tangent.dtype()
        );
    }
    if primal.shape() != tangent.shape() {
        bail!(
            Shape,
            "",
            "Trying to set a forward gradient that has a different size than that of the original \
             Tensor, this is not supported. Tensor is of size {:?} while the given forward gradient \
             is of size {:?}.",
            primal.shape(),
            tangent.shape()
        );
    }
    let _below = Below::new(&level);
    if primal.tangent(&level)?.is_some() {
        bail!(
            Grad,
            "",
            "Making a dual Tensor based on a Tensor that already has a forward gradient at the same \
             level {index} is not supported."
        );
    }
    if tangent.tangent(&level)?.is_some() {
        bail!(
            Grad,
            "",
            "Setting a forward grad that itself has a forward gradient at the same level {index} is \
             not supported."
        );
    }
    let dual = view::alias("ViewBackward0", primal)?;
    let same = same_strides(tangent, primal)
        && tangent.layout().offset() == primal.layout().offset()
        && tangent.storage().bytes() == primal.storage().bytes();
    dual.set_tangent(&level, if same { tangent.clone() } else { laid_out_like(tangent, primal)? });
    Ok(dual)
}

/// What [`make_dual`] put together: the values, without a tangent of that level, and the tangent.
///
/// # Errors
/// There is no such level.
pub fn unpack_dual(dual: &Tensor, index: usize) -> Result<(Tensor, Option<Tensor>)> {
    let level = level(index)?;
    let _below = Below::new(&level);
    let tangent = dual.tangent(&level)?;
    Ok((view::alias("AliasBackward0", dual)?, tangent))
}

/// The tangent of the innermost level that is open, to be shown to a user.
///
/// # Errors
/// A view cannot be brought up to date.
pub fn innermost(x: &Tensor) -> Result<Option<Tensor>> {
    if !x.is_dual() {
        return Ok(None);
    }
    match active().last() {
        Some(level) => {
            let _below = Below::new(level);
            x.tangent(level)
        }
        None => Ok(None),
    }
}

/// Whether elements lie in memory in the same way.
pub(super) fn same_strides(a: &Tensor, b: &Tensor) -> bool {
    let (a, b) = (a.layout(), b.layout());
    let mut axes = a.shape().iter().zip(a.strides()).zip(b.strides());
    a.shape() == b.shape() && (a.numel() == 0 || axes.all(|((&n, s), t)| n == 1 || s == t))
}

/// A copy in memory as large as that of `model`, at the same places there.
fn laid_out_like(x: &Tensor, model: &Tensor) -> Result<Tensor> {
    if model.layout().overlaps_itself() {
        return cast::clone(x);
    }
    cast::clone_into(x, model.layout(), model.storage().bytes())
}

/// A tangent as it must be to become that of `output`, given what it was computed from.
pub(super) fn fit(tangent: Tensor, output: &Tensor, sources: &[Option<Tensor>]) -> Result<Tensor> {
    let mut tangent = cast::to_dtype(&tangent, output.dtype())?;
    if tangent.shape() != output.shape() {
        tangent = view::expand_to(&tangent, output.shape())?;
    }
    let shares = |t: &Tensor| t.storage().same(tangent.storage());
    let borrowed = sources.iter().flatten().any(shares) || shares(output);
    if borrowed || !same_strides(&tangent, output) {
        tangent = laid_out_like(&tangent, output)?;
    }
    Ok(tangent)
}

/// Makes `outputs` the results of an operation where more is to be done than to make a node.
#[cold]
pub(super) fn record(
    outputs: &[&Tensor],
    inputs: &[&Tensor],
    saves: &[(u8, &Tensor)],
    op: Box<dyn Op>,
    thread: &PerThread,
) -> Result<()> {
    let recorded = thread.mode.get() & RECORD != 0 && inputs.iter().any(|t| t.requires_grad());
    let levels = active();
    let Some(first) = outputs.iter().find(|t| t.dtype().is_floating()) else { return Ok(()) };
    if !inputs.iter().any(|t| t.is_dual()) || levels.is_empty() {
        return if recorded { attach(outputs, inputs, saves, op, thread) } else { Ok(()) };
    }
    if !recorded {
        return push(&*op, outputs, inputs, saves, &levels);
    }
    // The node comes first, because the derivative may be a function of the result.
    attach(outputs, inputs, saves, op, thread)?;
    let Some(edge) = first.grad_fn() else { return Ok(()) };
    push(edge.node.op(), outputs, inputs, saves, &levels)?;
    edge.node.keep_tangents(|k| outputs.get(k).copied());
    Ok(())
}

/// Gives the outputs of an operation their tangents, level by level from the outermost one: the
/// derivative of a level may be a function of a result with tangents of the levels outside.
fn push(
    op: &dyn Op,
    outputs: &[&Tensor],
    inputs: &[&Tensor],
    saves: &[(u8, &Tensor)],
    levels: &[Arc<Level>],
) -> Result<()> {
    for (depth, level) in levels.iter().enumerate() {
        let _below = Below::new(level);
        let tangents: Gradients = inputs.iter().map(|x| x.tangent(level)).collect::<Result<_>>()?;
        if tangents.iter().all(Option::is_none) {
            continue;
        }
        let needs = tangents.iter().map(Option::is_some).collect();
        let mut saved = SmallVec::new();
        for &(role, tensor) in saves {
            let stays = !tensor.is_dual() && !outputs.iter().any(|o| o.same(tensor));
            let bare = if stays { tensor.clone() } else { tensor.alias_in(&levels[..depth])? };
            saved.push((role, bare));
        }
        let context = Context::new(saved, needs);
        let found = caught(|| match op.jvp(&context, &tangents, outputs)? {
            Some(found) => Ok(found),
            None => transpose(op, &context, &tangents, outputs),
        })?;
        for (output, tangent) in outputs.iter().zip(found) {
            if !output.dtype().is_floating() {
                continue;
            }
            let views = inputs.iter().any(|x| x.storage().same(output.storage()));
            let tangent = match tangent {
                Some(t) if views && t.dtype() == output.dtype() && same_strides(&t, output) => t,
                Some(t) => fit(t, output, &tangents)?,
                None => zeros_like(output)?,
            };
            output.set_tangent(level, tangent);
        }
    }
    Ok(())
}

/// Zeros laid out like a tensor.
fn zeros_like(x: &Tensor) -> Result<Tensor> {
    let zeros = Tensor::zeros(x.shape(), x.dtype())?;
    if same_strides(&zeros, x) { Ok(zeros) } else { laid_out_like(&zeros, x) }
}

/// [`Op::jvp`] for linear maps of one tensor, which map its tangent as they map itself.
///
/// # Errors
/// Those of the map.
pub fn linear(
    tangents: &[Option<Tensor>],
    map: impl FnOnce(&Tensor) -> Result<Tensor>,
) -> Result<Option<Gradients>> {
    Ok(Some(smallvec![tangents[0].as_ref().map(map).transpose()?]))
}

/// [`Op::jvp`] for operations whose elements depend each on the elements at its own place: the
/// Jacobian is diagonal, so its own transpose, and `backward` applies it.
///
/// # Errors
/// Those of the rule.
pub fn diagonal(
    op: &dyn Op,
    ctx: &Context,
    tangents: &[Option<Tensor>],
    output: &Tensor,
) -> Result<Gradients> {
    let mut sum: Option<Tensor> = None;
    for (i, tangent) in tangents.iter().enumerate() {
        let Some(tangent) = tangent else { continue };
        let mut tangent = cast::to_dtype(tangent, output.dtype())?;
        if tangent.shape() != output.shape() {
            tangent = view::expand_to(&tangent, output.shape())?;
        }
        let tangent = [Some(tangent)];
        let mut parts = masked::rule(op, &ctx.only(i), &tangent)?;
        if let Some(part) = parts.get_mut(i).and_then(Option::take) {
            sum = Some(match sum {
                None => part,
                Some(sum) => crate::ops::add(&sum, &part)?,
            });
        }
    }
    Ok(smallvec![sum])
}

/// Gives `copy`, which holds the elements that `target` had, copies of its tangents.
pub(super) fn copy_tangents(copy: &Tensor, target: &Tensor) -> Result<()> {
    for level in active() {
        let _below = Below::new(&level);
        if let Some(tangent) = target.tangent(&level)? {
            copy.set_tangent(&level, laid_out_like(&tangent, copy)?);
        }
    }
    Ok(())
}

/// After a write to `target`, which now holds the values of `result`, or numbers that nothing
/// depends on: writes to its tangents as well.
pub(super) fn follow_write(target: &Tensor, result: Option<&Tensor>) -> Result<()> {
    if !target.dtype().is_floating() {
        return Ok(());
    }
    for level in active() {
        let _below = Below::new(&level);
        let new = match result {
            Some(result) => result.tangent(&level)?,
            None => None,
        };
        let old = target.tangent(&level)?;
        match (old, new) {
            (None, None) => {}
            (Some(old), Some(new)) => cast::copy_(&old, &new)?,
            (Some(old), None) => create::zero_(&old)?,
            (None, Some(new)) => gain(target, fit(new, target, &[result.cloned()])?, &level)?,
        }
    }
    Ok(())
}

/// A tangent for what had none. The views of a base have theirs from it, so that a view's goes there.
pub(super) fn gain(target: &Tensor, tangent: Tensor, level: &Arc<Level>) -> Result<()> {
    let Some(base) = target.forward_base() else {
        target.set_tangent(level, tangent);
        return Ok(());
    };
    let zeros = Tensor::zeros(base.shape(), base.dtype())?;
    base.set_tangent(level, laid_out_like(&zeros, &base)?);
    match target.tangent(level)? {
        Some(part) => cast::copy_(&part, &tangent),
        None => Ok(()),
    }
}
