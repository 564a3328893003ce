//! Hooks: code of the embedding program that a pass calls on its way.
//!
//! | kind | sees | may replace | lives in |
//! |---|---|---|---|
//! | [`TensorHook`] | the gradient of one tensor | it | the node that made the tensor; a leaf's own state |
//! | [`PreHook`] | the gradients of all outputs of a node | them | the node |
//! | [`PostHook`] | the gradients of the inputs and of the outputs | the former | the node |
//! | [`LeafHook`] | a leaf whose `.grad` was written | nothing | the leaf |
//!
//! They run in this order; gradients that a tensor retains are taken after the tensor hooks and
//! before the node's. A tensor hook stays with the node that it was put on: writing to the tensor
//! in place gives the tensor another node, with no hooks but the new ones.
//!
//! * A list of hooks is **copied before it is run**, so that hooks may add and remove hooks. The
//!   copy counts handles and allocates only if there are more than two.
//! * What a hook is given is **its own memory** (`accumulate::private`): writing to it changes that
//!   gradient and nothing else, although a gradient may be shared with another branch or with a
//!   tensor's `.grad`.
//! * A hook may carry a *host*, the object of the embedding language that it belongs to. Its
//!   garbage collector finds all hosts through [`Node::hosts`](super::Node::hosts) and
//!   [`Tensor::hosts`](crate::Tensor::hosts).
//! * Hooks run on the thread that called backward, with no lock held. A hook that fails ends the
//!   pass with its error; what the pass would have written is not written, see `backward`.

use super::accumulate::{checked_hook_result, private};
use super::node::{Node, OutputMeta};
use crate::tensor::{Tensor, WeakTensor};
use crate::{Result, bail};
use smallvec::SmallVec;
use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Sees the gradient of a tensor, `None` if it is zero and was never computed, and may replace it.
pub type TensorHook = dyn Fn(Option<&Tensor>) -> Result<Option<Tensor>> + Send + Sync;

/// Sees the gradients of a node's outputs before its rule runs, and may replace them.
pub type PreHook = dyn Fn(&[Option<Tensor>]) -> Result<Option<Replaced>> + Send + Sync;

/// Sees the gradients of a node's inputs and outputs after its rule ran, and may replace the
/// former.
pub type PostHook =
    dyn Fn(&[Option<Tensor>], &[Option<Tensor>]) -> Result<Option<Replaced>> + Send + Sync;

/// Sees a leaf after a gradient was accumulated into it.
pub type LeafHook = dyn Fn(&Tensor) -> Result<()> + Send + Sync;

/// Gradients that take the place of others.
pub type Replaced = Vec<Option<Tensor>>;

/// The object of the embedding language that a hook belongs to.
pub type Host = Arc<dyn Any + Send + Sync>;

/// A hook on its way into the graph.
pub struct Hook<F: ?Sized> {
    id: u64,
    call: Arc<F>,
    host: Option<Host>,
}

impl<F: ?Sized> Clone for Hook<F> {
    fn clone(&self) -> Self {
        Hook { id: self.id, call: self.call.clone(), host: self.host.clone() }
    }
}

impl<F: ?Sized> Hook<F> {
    /// A hook that calls `call`.
    pub fn new(call: Arc<F>) -> Hook<F> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Hook { id: NEXT.fetch_add(1, Ordering::Relaxed), call, host: None }
    }

    /// The hook of an object of the embedding language.
    pub fn of(host: Host, call: Arc<F>) -> Hook<F> {
        Hook { host: Some(host), ..Hook::new(call) }
    }

    /// The number that removes the hook.
    pub fn id(&self) -> u64 {
        self.id
    }
}

/// Hooks of one kind in order of registration, each with where it applies: the number of an output
/// for tensor hooks, nothing for others.
pub(crate) struct Hooks<F: ?Sized, At = ()>(Vec<(At, Hook<F>)>);

impl<F: ?Sized, At> Default for Hooks<F, At> {
    fn default() -> Self {
        Hooks(Vec::new())
    }
}

/// Hooks about to be run, in a list of their own.
pub(crate) type Snapshot<F, At = ()> = SmallVec<[(At, Hook<F>); 2]>;

impl<F: ?Sized, At: Copy + PartialEq> Hooks<F, At> {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn push(&mut self, at: At, hook: Hook<F>) {
        self.0.push((at, hook));
    }

    /// Takes a hook out; the caller drops it where no lock is held.
    pub(crate) fn take(&mut self, id: u64) -> Option<Hook<F>> {
        let position = self.0.iter().position(|(_, hook)| hook.id == id)?;
        Some(self.0.remove(position).1)
    }

    pub(crate) fn snapshot(&self) -> Snapshot<F, At> {
        self.0.iter().cloned().collect()
    }

    /// The objects that the hooks belong to, with where each applies.
    pub(crate) fn hosts(&self) -> impl Iterator<Item = (At, &Host)> {
        self.0.iter().filter_map(|(at, hook)| Some((*at, hook.host.as_ref()?)))
    }
}

/// Runs the tensor hooks of a node, then hands what its outputs retain to `keep`.
pub(super) fn before(
    node: &Node,
    gradients: &mut [Option<Tensor>],
    mut keep: impl FnMut(WeakTensor, Tensor),
) -> Result<()> {
    let (hooks, retain) = {
        let state = node.state.lock();
        match &state.hooks {
            Some(h) if h.is_observed() => (h.tensor.snapshot(), h.retain.clone()),
            _ => return Ok(()),
        }
    };
    for (output, hook) in &hooks {
        let output = *output as usize;
        see_one(hook, &mut gradients[output], &node.outputs()[output])?;
    }
    for (output, tensor) in retain {
        if let Some(gradient) = &gradients[output as usize] {
            keep(tensor, gradient.clone());
        }
    }
    Ok(())
}

/// Runs tensor hooks of a leaf.
pub(super) fn at_leaf(
    hooks: &Snapshot<TensorHook>,
    gradient: &mut Option<Tensor>,
    meta: &OutputMeta,
) -> Result<()> {
    hooks.iter().try_for_each(|((), hook)| see_one(hook, gradient, meta))
}

fn see_one(
    hook: &Hook<TensorHook>,
    gradient: &mut Option<Tensor>,
    meta: &OutputMeta,
) -> Result<()> {
    if let Some(g) = gradient.take() {
        *gradient = Some(private(g)?);
    }
    if let Some(replaced) = (hook.call)(gradient.as_ref())? {
        *gradient = Some(checked_hook_result(replaced, meta)?);
    }
    Ok(())
}

/// Runs the pre-hooks of a node.
pub(super) fn pre(node: &Node, gradients: &mut [Option<Tensor>]) -> Result<()> {
    let hooks = {
        let state = node.state.lock();
        match &state.hooks {
            Some(h) if !h.pre.is_empty() => h.pre.snapshot(),
            _ => return Ok(()),
        }
    };
    for ((), hook) in &hooks {
        make_private(gradients)?;
        if let Some(replaced) = (hook.call)(gradients)? {
            replace(gradients, replaced, |k| Some(&node.outputs()[k]))?;
        }
    }
    Ok(())
}

/// The post-hooks of a node, to be run after its rule.
pub(super) fn post_hooks(node: &Node) -> Snapshot<PostHook> {
    match &node.state.lock().hooks {
        Some(h) => h.post.snapshot(),
        None => SmallVec::new(),
    }
}

/// Runs the post-hooks of a node.
pub(super) fn post(
    hooks: &Snapshot<PostHook>,
    node: &Node,
    inputs: &mut [Option<Tensor>],
    outputs: &mut [Option<Tensor>],
) -> Result<()> {
    for ((), hook) in hooks {
        make_private(inputs)?;
        make_private(outputs)?;
        if let Some(replaced) = (hook.call)(inputs, outputs)? {
            replace(inputs, replaced, |k| {
                let edge = node.edges()[k].as_ref()?;
                Some(&edge.node.outputs()[edge.output as usize])
            })?;
        }
    }
    Ok(())
}

/// Tells a leaf's hooks that a gradient was accumulated.
pub(super) fn accumulated(hooks: &Snapshot<LeafHook>, leaf: &Tensor) -> Result<()> {
    hooks.iter().try_for_each(|((), hook)| (hook.call)(leaf))
}

fn make_private(gradients: &mut [Option<Tensor>]) -> Result<()> {
    for slot in gradients {
        if let Some(g) = slot.take() {
            *slot = Some(private(g)?);
        }
    }
    Ok(())
}

fn replace<'a>(
    gradients: &mut [Option<Tensor>],
    replaced: Replaced,
    meta: impl Fn(usize) -> Option<&'a OutputMeta>,
) -> Result<()> {
    if replaced.len() != gradients.len() {
        bail!(
            Grad,
            "",
            "a hook has returned an incorrect number of values (got {}, but expected {})",
            replaced.len(),
            gradients.len()
        );
    }
    for (k, (slot, new)) in gradients.iter_mut().zip(replaced).enumerate() {
        *slot = match (new, meta(k)) {
            (Some(new), Some(meta)) => Some(checked_hook_result(new, meta)?),
            (new, _) => new,
        };
    }
    Ok(())
}
