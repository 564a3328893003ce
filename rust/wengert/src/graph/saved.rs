//! Hooks for saved tensors, and saved tensors one at a time.
//!
//! While hooks are active on a thread, what its operations save goes through the innermost pair of
//! them: the graph keeps what *pack* made of a tensor (a compressed copy, a file's name) and lets go
//! of the tensor itself; *unpack* gives a tensor back whenever a rule needs it. History is none of
//! the hooks' business: the node knows where each saved tensor came from and attaches that to
//! whatever comes back.
//!
//! What was packed lies beside the node's hooks, in a box that ordinary nodes do not have. That
//! hooks are active is a flag in the byte that says whether operations are recorded, so that nobody
//! pays for the possibility. Neither hook runs while a lock is held.

use super::arena::NodeRef;
use super::explain;
use super::mode::{self, GradMode, SAVED_TENSOR_HOOKS};
use super::node::{Edge, Op, Origin, OutputMeta, Saved};
use super::record::node;
use super::site::Site;
use crate::per_thread::PerThread;
use crate::tensor::Tensor;
use crate::{Error, Kind, Result, bail};
use smallvec::SmallVec;
use std::any::Any;
use std::cell::RefCell;
use std::sync::Arc;

/// How tensors are stored between the operation that saves them and the rule that needs them.
pub trait SavedTensorHooks: Send + Sync {
    /// What to keep in place of a tensor. Nothing is recorded meanwhile.
    fn pack(&self, tensor: &Tensor) -> Result<Arc<dyn Packed>>;
}

/// What hooks made of a tensor.
pub trait Packed: Any + Send + Sync {
    /// A tensor with the values of the one that was packed.
    fn unpack(&self) -> Result<Tensor>;

    /// What the embedding language owns here, see [`Op::host`].
    fn host(&self) -> Option<&(dyn Any + Send + Sync)> {
        None
    }
}

/// What a node keeps in one place, as it lies there.
pub enum Kept {
    /// A tensor; an output of the node is kept as an alias without history.
    Tensor(Tensor),
    /// What a pack hook returned.
    Packed(Arc<dyn Packed>),
    /// Nothing.
    None,
}

/// A packed tensor in its node.
pub(super) struct PackedTensor {
    /// Which of the saved tensors it is.
    pub index: u32,
    pub packed: Arc<dyn Packed>,
    /// The history of a tensor that was neither input nor output of the node.
    pub edge: Option<Edge>,
}

#[derive(Default)]
struct Hooks {
    /// The innermost pair last.
    active: Vec<Arc<dyn SavedTensorHooks>>,
    /// Why hooks cannot be used, if they cannot.
    disabled: Option<String>,
}

thread_local! {
    static HOOKS: RefCell<Hooks> = const { RefCell::new(Hooks { active: Vec::new(), disabled: None }) };
}

/// Makes a pair of hooks the innermost of this thread.
///
/// # Errors
/// If hooks are disabled.
pub fn push_saved_tensor_hooks(hooks: Arc<dyn SavedTensorHooks>) -> Result<()> {
    HOOKS.with_borrow_mut(|h| {
        if let Some(message) = &h.disabled {
            return Err(Error::plain(Kind::Grad, message.clone()));
        }
        h.active.push(hooks);
        mode::switch(SAVED_TENSOR_HOOKS, true);
        Ok(())
    })
}

/// Takes the innermost pair of hooks away; `false` if there is none.
pub fn pop_saved_tensor_hooks() -> bool {
    let popped = HOOKS.with_borrow_mut(|h| {
        let popped = h.active.pop();
        mode::switch(SAVED_TENSOR_HOOKS, !h.active.is_empty());
        popped
    });
    // Dropped here, outside the borrow: hooks may own anything.
    popped.is_some()
}

/// Forbids hooks on this thread, with the message that their use then raises, or allows them.
///
/// # Errors
/// If hooks are active that would be forbidden.
pub fn disable_saved_tensor_hooks(message: Option<String>) -> Result<()> {
    HOOKS.with_borrow_mut(|h| match message {
        Some(message) if !h.active.is_empty() => Err(Error::plain(Kind::Grad, message)),
        message => {
            h.disabled = message;
            Ok(())
        }
    })
}

/// With which message hooks are forbidden, if they are.
pub fn saved_tensor_hooks_disabled() -> Option<String> {
    HOOKS.with_borrow(|h| h.disabled.clone())
}

/// The pairs of hooks of this thread, for another thread that works on its behalf.
pub(super) fn saved_tensor_hooks() -> Vec<Arc<dyn SavedTensorHooks>> {
    if mode::mode() & SAVED_TENSOR_HOOKS != 0 {
        HOOKS.with_borrow(|h| h.active.clone())
    } else {
        Vec::new()
    }
}

/// Makes these the pairs of hooks of this thread.
pub(super) fn set_saved_tensor_hooks(active: Vec<Arc<dyn SavedTensorHooks>>) {
    mode::switch(SAVED_TENSOR_HOOKS, !active.is_empty());
    let before = HOOKS.with_borrow_mut(|h| std::mem::replace(&mut h.active, active));
    drop(before);
}

/// Puts the pairs of hooks of this thread back to what they were, when dropped.
pub(super) struct KeepHooks(Vec<Arc<dyn SavedTensorHooks>>);

impl KeepHooks {
    pub fn new() -> KeepHooks {
        KeepHooks(saved_tensor_hooks())
    }
}

impl Drop for KeepHooks {
    fn drop(&mut self) {
        if !self.0.is_empty() || mode::mode() & SAVED_TENSOR_HOOKS != 0 {
            set_saved_tensor_hooks(std::mem::take(&mut self.0));
        }
    }
}

/// The innermost pair.
fn innermost() -> Option<Arc<dyn SavedTensorHooks>> {
    HOOKS.with_borrow(|h| h.active.last().cloned())
}

fn pack(hooks: &dyn SavedTensorHooks, tensor: &Tensor) -> Result<Arc<dyn Packed>> {
    let _mode = GradMode::new(false);
    let version = tensor.storage().version();
    let packed = hooks.pack(tensor)?;
    if tensor.storage().version() != version {
        bail!(
            Grad,
            "",
            "A saved tensor pack hook is modifying its input in place. Tensors provided as input \
             to pack hook cannot be modified by in-place operations as this can lead to \
             unexpected side-effects. Please open an issue if you need to perform in-place \
             operations on the input to a pack hook."
        );
    }
    Ok(packed)
}

/// [`record_many`](super::record_many) while hooks are active. They see outputs with their history,
/// as their users do.
#[cold]
pub(super) fn record_packed(
    outputs: &[&Tensor],
    inputs: &[&Tensor],
    saves: &[(u8, &Tensor)],
    edges: SmallVec<[Option<Edge>; 2]>,
    op: Box<dyn Op>,
    thread: &PerThread,
) -> Result<()> {
    let metas: SmallVec<[OutputMeta; 1]> = outputs.iter().map(|o| OutputMeta::of(o)).collect();
    let node = node(edges, op, metas, SmallVec::new(), thread)?;
    for (k, output) in outputs.iter().enumerate() {
        if output.dtype().is_floating() {
            output.set_edge(Edge { node: node.clone(), output: k as u32 });
        }
    }
    for &(role, tensor) in saves {
        let origin = match outputs.iter().position(|o| o.same(tensor)) {
            Some(k) => Origin::Output(k as u16),
            None => Origin::of_input(inputs.iter().position(|i| i.same(tensor))),
        };
        node.save(Some(tensor), origin, role)?;
    }
    Ok(())
}

impl NodeRef {
    /// Adds a tensor, or the place of one that is not there, to what the node has saved.
    pub(super) fn save(&self, tensor: Option<&Tensor>, origin: Origin, role: u8) -> Result<()> {
        if tensor.is_some_and(Tensor::is_inference) {
            return Err(super::inplace::saved_inference_error());
        }
        let hooks = if mode::mode() & SAVED_TENSOR_HOOKS != 0 { innermost() } else { None };
        let (mut kept, mut packed, mut version) = (None, None, 0);
        match (tensor, hooks) {
            (None, _) => {}
            // A Python number on its way through an operation is nobody's tensor.
            (Some(t), Some(hooks)) if !t.is_wrapped_number() => {
                let edge = if origin == Origin::Value { t.edge()? } else { None };
                packed = Some((pack(&*hooks, t)?, edge));
            }
            (Some(t), _) => {
                version = t.storage().version_for_saving();
                let own = matches!(origin, Origin::Output(_));
                kept = Some(if own { t.alias_with_edge(None) } else { t.clone() });
            }
        }
        let mut state = self.state.lock();
        if let Some((packed, edge)) = packed {
            let index = state.saved.len() as u32;
            let hooks = state.hooks.get_or_insert_default();
            hooks.packed.push(PackedTensor { index, packed, edge });
        }
        state.saved.push(Saved { tensor: kept, version, origin, role });
        Ok(())
    }

    /// The sizes of all axes of the node's inputs, outputs and saved tensors.
    pub fn known_sizes(&self) -> Vec<usize> {
        let inputs = self.edges.iter().flatten().map(|e| &e.node.outputs[e.output as usize]);
        let mut sizes = Vec::new();
        for meta in inputs.chain(&self.outputs) {
            sizes.extend_from_slice(&meta.shape());
        }
        for saved in &self.state.lock().saved {
            sizes.extend(saved.tensor.iter().flat_map(|t| t.shape()));
        }
        sizes
    }

    /// How many tensors the node has saved.
    pub fn saved_count(&self) -> usize {
        self.state.lock().saved.len()
    }

    /// Refuses if what the node had saved was freed.
    pub fn check_not_freed(&self) -> Result<()> {
        let freed = self.state.lock().freed;
        freed.map_or(Ok(()), |first| Err(explain::freed(self, first)))
    }

    /// A saved tensor with its history; `None` where an optional one was not there.
    ///
    /// # Errors
    /// If it was freed, or written to since.
    pub fn saved_tensor(&self, index: usize) -> Result<Option<Tensor>> {
        self.check_not_freed()?;
        let state = self.state.lock();
        let Some(s) = state.saved.get(index) else { return Ok(None) };
        if let Some(tensor) = &s.tensor {
            if tensor.storage().version() != s.version {
                let (tensor, version, origin) = (tensor.clone(), s.version, s.origin);
                drop(state);
                return Err(explain::stale(self, &tensor, version, origin));
            }
            return Ok(Some(self.with_history(s, tensor)));
        }
        let (origin, found) = (s.origin, find(&state, index));
        drop(state);
        found.map(|(packed, edge)| self.unpacked(&*packed, edge, origin)).transpose()
    }

    /// What is kept for a saved tensor, not unpacked and not checked.
    ///
    /// # Errors
    /// If it was freed.
    pub fn kept(&self, index: usize) -> Result<Kept> {
        self.check_not_freed()?;
        let state = self.state.lock();
        let tensor = state.saved.get(index).and_then(|s| s.tensor.clone());
        Ok(match (tensor, find(&state, index)) {
            (Some(tensor), _) => Kept::Tensor(tensor),
            (None, Some((packed, _))) => Kept::Packed(packed),
            (None, None) => Kept::None,
        })
    }

    /// The tensor that a pack hook was given, as the unpack hook gives it back, with the history it
    /// had.
    pub(super) fn unpacked(
        &self,
        packed: &dyn Packed,
        edge: Option<Edge>,
        origin: Origin,
    ) -> Result<Tensor> {
        let data = packed.unpack()?;
        let edge = match origin {
            Origin::Input(i) => self.edges.get(i as usize).cloned().flatten(),
            Origin::Output(k) => Some(Edge { node: self.clone(), output: k as u32 }),
            Origin::Value => edge,
        };
        Ok(match edge {
            None if !data.requires_grad() => data,
            None => data.detach(),
            Some(edge) if edge.node.op.leaf().is_some() => data.alias_of_leaf(&edge.node),
            Some(edge) => data.alias_with_edge(Some(edge)),
        })
    }

    /// Lets a pair of hooks store one saved tensor from now on.
    ///
    /// # Errors
    /// If hooks store it already, it was freed, or there is none; or the pack hook's.
    pub fn pack_saved(&self, index: usize, hooks: &dyn SavedTensorHooks) -> Result<()> {
        let (tensor, origin) = {
            let state = self.state.lock();
            if state.freed.is_some() {
                bail!(
                    Grad,
                    "",
                    "Calling register_hooks on a saved tensor after it has been freed. Saved \
                     intermediate values of the graph are freed when you call .backward() or \
                     autograd.grad(). Specify retain_graph=True if you need to backward through \
                     the graph a second time or if you need to access saved variables after \
                     calling backward."
                );
            }
            let saved = state.saved.get(index);
            if find(&state, index).is_some() {
                bail!(
                    Grad,
                    "",
                    "Calling register_hooks on a saved tensor whose hooks have already been set. \
                     Hint: only one pair of hooks is allowed at a time."
                );
            }
            let Some((tensor, origin)) = saved.and_then(|s| Some((s.tensor.clone()?, s.origin)))
            else {
                bail!(
                    Grad,
                    "",
                    "Calling register_hooks on a saved tensor with value None is forbidden"
                );
            };
            (tensor, origin)
        };
        let edge = if origin == Origin::Value { tensor.edge()? } else { None };
        let packed = pack(hooks, &tensor.detach())?;
        let old = {
            let mut state = self.state.lock();
            let index = index as u32;
            let hooks = state.hooks.get_or_insert_default();
            hooks.packed.push(PackedTensor { index, packed, edge });
            state.saved.get_mut(index as usize).and_then(|s| s.tensor.take())
        };
        drop(old);
        Ok(())
    }

    /// Frees what the node has saved; asking for it is an error from now on, which names the place
    /// where it was freed.
    pub fn free_saved(&self, site: Site) {
        let retired = {
            let mut state = self.state.lock();
            state.freed = Some(site);
            let packed = state.hooks.as_mut().map(|h| std::mem::take(&mut h.packed));
            (std::mem::take(&mut state.saved), packed)
        };
        drop(retired);
    }

    /// Lets go of what the node has saved, which need not be an error to ask for.
    pub fn forget_saved(&self) {
        self.free_saved(Site::here());
        self.state.lock().freed = None;
    }
}

/// What asking for the saved tensors of a graph that is gone is.
#[cold]
pub fn freed_error() -> Error {
    Error::plain(Kind::Grad, explain::FREED)
}

/// What hooks made of a saved tensor, and the history it had of its own.
fn find(state: &super::node::State, index: usize) -> Option<(Arc<dyn Packed>, Option<Edge>)> {
    let packed = &state.hooks.as_ref()?.packed;
    let found = packed.iter().find(|p| p.index as usize == index)?;
    Some((found.packed.clone(), found.edge.clone()))
}
