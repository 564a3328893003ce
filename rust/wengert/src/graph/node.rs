//! What a node is: a rule, what the rule saved, and where its inputs came from.
//!
//! Saved tensors carry the version their storage had, and where their history is to be found: see
//! [`context`](super::context), which makes of them what the rule sees.

use super::arena::NodeRef;
use super::attributes::Attributes;
pub use super::context::Context;
use super::garbage::Owned;
use super::hooks::{Hook, Hooks, Host, PostHook, PreHook, TensorHook};
use super::saved::PackedTensor;
use super::site::Site;
use crate::Result;
use crate::dtype::DType;
use crate::lock::Lock;
use crate::tensor::{Tensor, WeakTensor};
use smallvec::SmallVec;
use std::any::Any;
use std::cell::Cell;

/// A derivative rule, with whatever parameters the operation had.
pub trait Op: Send + Sync {
    /// PyTorch's name of the node: `MulBackward0`.
    fn name(&self) -> &str;

    /// Gradients with respect to the inputs, given those of the outputs.
    ///
    /// Rules are written in tensor algebra and recorded if and only if the caller wants a graph
    /// of the gradient. A rule need not care about broadcasting or dtypes: the engine sums to the
    /// input's shape and converts to its type. It may answer only for inputs that
    /// [`Context::needs`] asks for.
    fn backward(&self, ctx: &Context, grads: &[Option<Tensor>]) -> Result<Gradients>;

    /// Tangents of the outputs, one entry each, given those of the inputs (`None` is a zero): the
    /// product of the Jacobian with a vector, where [`Op::backward`] is that with its transpose.
    ///
    /// `None` says that there is no cheaper way than to transpose [`Op::backward`], which the
    /// engine does by itself; an operation needs no rule of its own. A rule is tensor algebra like
    /// `backward`, and need not care about shapes that broadcast to the output's, or about dtypes.
    /// `outputs` are the results, with their history. The view that an operation made must get a
    /// view of the input's tangent.
    fn jvp(
        &self,
        ctx: &Context,
        tangents: &[Option<Tensor>],
        outputs: &[&Tensor],
    ) -> Result<Option<Gradients>> {
        let _ = (ctx, tangents, outputs);
        Ok(None)
    }

    /// Whether each element of the output depends on the elements at its own place only, so that the
    /// gradients have the shape of the output's, see [`masked`](super::masked).
    fn is_pointwise(&self) -> bool {
        false
    }

    /// Whether the rule must run on the thread that called backward (it calls into Python).
    fn needs_calling_thread(&self) -> bool {
        false
    }

    /// How long the rule takes, in units of about a nanosecond, given how many elements its
    /// gradients and saved tensors have. A rough guess will do: it decides only whether the rule
    /// is worth a thread of its own.
    fn work(&self, elements: usize) -> usize {
        elements
    }

    /// The leaf of an accumulator node.
    fn leaf(&self) -> Option<&Tensor> {
        None
    }

    /// Whether the rule fetches what the node saved itself, one tensor at a time, instead of
    /// getting it in the [`Context`]. What it saved is freed after the rule, which runs even if no
    /// gradient has arrived.
    fn fetches_saved(&self) -> bool {
        false
    }

    /// What the embedding language owns in this rule, so that it can find its own objects again.
    fn host(&self) -> Option<&(dyn Any + Send + Sync)> {
        None
    }

    /// Told where the rest of the node went, when it dies although the embedding language has a use
    /// for it, see [`Node::set_outlived`].
    fn outlived(&self, remains: NodeRef) {
        drop(remains);
    }

    /// The rule of what remains of a node that dies.
    fn remains(&self) -> Option<Box<dyn Op>> {
        None
    }

    /// What the node keeps, under PyTorch's names, for those who look at the graph.
    fn attributes(&self) -> Attributes {
        Attributes::new()
    }

    /// Whether this input, which no gradient flows to, is a parameter of the operation for PyTorch,
    /// whose node has no edge for it (a number, the condition of `where`).
    fn hides(&self, _input: usize) -> bool {
        false
    }
}

/// One entry per input; `None` is a zero that is not worth a tensor.
pub type Gradients = SmallVec<[Option<Tensor>; 2]>;

/// Which node made a tensor, and as which of its outputs.
#[derive(Clone)]
pub struct Edge {
    /// The node.
    pub node: NodeRef,
    /// Which output.
    pub output: u32,
}

/// Shape and type of an output: what its gradient must look like.
pub enum OutputMeta {
    /// Up to four dimensions below 2³², the usual case.
    Small(DType, u8, [u32; 4]),
    /// Everything else.
    Large(DType, Box<[usize]>),
}

impl OutputMeta {
    /// The metadata of a tensor.
    pub fn of(tensor: &Tensor) -> OutputMeta {
        let shape = tensor.shape();
        if shape.len() <= 4 {
            let mut dims = [0; 4];
            let mut all = 0;
            for i in 0..shape.len() {
                dims[i] = shape[i] as u32;
                all |= shape[i];
            }
            if all <= u32::MAX as usize {
                return OutputMeta::Small(tensor.dtype(), shape.len() as u8, dims);
            }
        }
        OutputMeta::Large(tensor.dtype(), shape.into())
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        match self {
            OutputMeta::Small(dtype, ..) | OutputMeta::Large(dtype, _) => *dtype,
        }
    }

    /// Whether a shape is this one.
    #[inline]
    pub fn has_shape(&self, shape: &[usize]) -> bool {
        match self {
            OutputMeta::Small(_, ndim, dims) => {
                shape.len() == *ndim as usize
                    && shape.iter().zip(dims).all(|(&s, &d)| s == d as usize)
            }
            OutputMeta::Large(_, dims) => **dims == *shape,
        }
    }

    /// Sizes.
    pub fn shape(&self) -> crate::layout::Dims {
        match self {
            OutputMeta::Small(_, ndim, dims) => {
                dims[..*ndim as usize].iter().map(|&d| d as usize).collect()
            }
            OutputMeta::Large(_, dims) => SmallVec::from_slice(dims),
        }
    }
}

/// Where a saved tensor's history is to be found.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// It was this input of the node.
    Input(u16),
    /// It is this output of the node.
    Output(u16),
    /// It has no history, or keeps its own.
    Value,
}

impl Origin {
    /// The origin of what is this input, if it is one.
    pub(super) fn of_input(index: Option<usize>) -> Origin {
        index.map_or(Origin::Value, |i| Origin::Input(i as u16))
    }
}

/// A tensor saved for the rule under a role that the rule chose.
pub(super) struct Saved {
    /// None if hooks store it, or there is nothing in this place.
    pub tensor: Option<Tensor>,
    pub version: u32,
    pub origin: Origin,
    pub role: u8,
}

/// What may change in a node after it was made.
pub(super) struct State {
    pub saved: SmallVec<[Saved; 2]>,
    pub hooks: Option<Box<NodeHooks>>,
    /// Where the operation ran.
    pub site: Site,
    /// Where a backward pass ran that freed what was saved.
    pub freed: Option<Site>,
}

impl State {
    /// The state of a new node.
    pub fn new(saved: SmallVec<[Saved; 2]>, site: Site) -> State {
        State { saved, hooks: None, site, freed: None }
    }
}

/// What few nodes have: observers of the gradients that arrive, and what the embedding language
/// keeps with a node.
#[derive(Default)]
pub(super) struct NodeHooks {
    /// Of one output each.
    pub tensor: Hooks<TensorHook, u32>,
    pub pre: Hooks<PreHook>,
    pub post: Hooks<PostHook>,
    /// Outputs whose gradient is kept in `.grad`.
    pub retain: Vec<(u32, WeakTensor)>,
    /// Saved tensors that hooks store.
    pub packed: Vec<PackedTensor>,
    /// Whether the embedding language may need what the node knows after its death.
    pub outlived: bool,
    /// The embedding language's object for this node, not owned.
    pub object: usize,
    /// What that language stores with the node.
    pub notes: Option<Host>,
}

impl NodeHooks {
    /// Whether a pass has to stop here.
    pub(super) fn is_observed(&self) -> bool {
        !(self.tensor.is_empty()
            && self.pre.is_empty()
            && self.post.is_empty()
            && self.retain.is_empty())
    }

    /// Whether the rule may run ahead of its turn.
    pub(super) fn is_passive(&self) -> bool {
        !self.is_observed() && self.packed.is_empty()
    }
}

/// One recorded operation.
pub struct Node {
    pub(super) seq: u64,
    pub(super) op: Box<dyn Op>,
    pub(super) edges: SmallVec<[Option<Edge>; 2]>,
    pub(super) outputs: SmallVec<[OutputMeta; 1]>,
    pub(super) state: Lock<State>,
}

/// Accumulators run before everything else that is ready.
pub(super) const ACCUMULATOR_SEQ: u64 = u64::MAX;

/// The number of a node with these inputs: above all of theirs, and above all that this thread
/// gave before (a Lamport clock). For one thread that is the order of creation; several threads
/// need no shared counter, and what they number does not depend on who was first.
#[inline]
pub(super) fn next_seq(edges: &[Option<Edge>], newest: &Cell<u64>) -> u64 {
    let inputs = edges.iter().flatten().map(|e| e.node.seq).filter(|&s| s != ACCUMULATOR_SEQ);
    let seq = inputs.fold(newest.get(), u64::max) + 1;
    newest.set(seq);
    seq
}

impl Node {
    /// PyTorch's name: `MulBackward0`.
    pub fn name(&self) -> &str {
        self.op.name()
    }

    /// The rule.
    pub fn op(&self) -> &dyn Op {
        &*self.op
    }

    /// One edge per input; `None` where no gradient flows.
    pub fn edges(&self) -> &[Option<Edge>] {
        &self.edges
    }

    /// Which edges PyTorch's node has as well, see [`Op::hides`].
    pub fn shown(&self) -> SmallVec<[bool; 4]> {
        let shown = |(k, edge): (usize, &Option<Edge>)| edge.is_some() || !self.op.hides(k);
        self.edges.iter().enumerate().map(shown).collect()
    }

    /// One entry per output.
    pub fn outputs(&self) -> &[OutputMeta] {
        &self.outputs
    }

    /// Order of creation: larger than the numbers of the node's inputs and of older nodes of the
    /// same thread.
    pub fn sequence(&self) -> u64 {
        self.seq
    }

    /// Where in the user's program the operation ran.
    pub fn site(&self) -> Site {
        self.state.lock().site
    }

    /// Adds an observer of the gradient of one output.
    pub fn add_tensor_hook(&self, output: u32, hook: Hook<TensorHook>) {
        self.state.lock().hooks.get_or_insert_default().tensor.push(output, hook);
    }

    /// Whether anybody observes the gradient of an output.
    pub(super) fn has_tensor_hooks(&self) -> bool {
        self.state.lock().hooks.as_ref().is_some_and(|h| !h.tensor.is_empty())
    }

    /// Adds an observer of the gradients of the outputs.
    pub fn add_pre_hook(&self, hook: Hook<PreHook>) {
        self.state.lock().hooks.get_or_insert_default().pre.push((), hook);
    }

    /// Adds an observer of the gradients of inputs and outputs.
    pub fn add_post_hook(&self, hook: Hook<PostHook>) {
        self.state.lock().hooks.get_or_insert_default().post.push((), hook);
    }

    /// Removes a hook; a number that is not there is ignored.
    pub fn remove_hook(&self, id: u64) {
        let removed = self
            .state
            .lock()
            .hooks
            .as_mut()
            .map(|h| (h.tensor.take(id), h.pre.take(id), h.post.take(id)));
        // Dropped here, outside the lock: a hook may own anything.
        drop(removed);
    }

    /// The first host, of the hooks on one output, for which `found` gives something.
    pub fn tensor_host<T>(&self, output: u32, found: impl FnMut(&Host) -> Option<T>) -> Option<T> {
        let state = self.state.lock();
        let hosts = state.hooks.as_ref()?.tensor.hosts();
        hosts.filter(|(at, _)| *at == output).map(|(_, host)| host).find_map(found)
    }

    /// The first host, of the pre-hooks, for which `found` gives something.
    pub fn pre_host<T>(&self, found: impl FnMut(&Host) -> Option<T>) -> Option<T> {
        self.state.lock().hooks.as_ref()?.pre.hosts().map(|(_, host)| host).find_map(found)
    }

    /// The first host, of the post-hooks, for which `found` gives something.
    pub fn post_host<T>(&self, found: impl FnMut(&Host) -> Option<T>) -> Option<T> {
        self.state.lock().hooks.as_ref()?.post.hosts().map(|(_, host)| host).find_map(found)
    }

    /// Shows all objects of the embedding language that this node keeps alive. `visit` runs under the
    /// node's lock and must not call back.
    pub fn hosts(&self, mut visit: impl FnMut(&(dyn Any + Send + Sync))) {
        if let Some(host) = self.op.host() {
            visit(host);
        }
        let state = self.state.lock();
        let Some(h) = &state.hooks else { return };
        h.tensor.hosts().for_each(|(_, host)| visit(&**host));
        h.pre.hosts().for_each(|(_, host)| visit(&**host));
        h.post.hosts().for_each(|(_, host)| visit(&**host));
        h.notes.iter().for_each(|host| visit(&**host));
        h.packed.iter().filter_map(|p| p.packed.host()).for_each(visit);
    }

    /// Shows everything that this node owns, for [`garbage`](super::garbage). `visit` runs under the
    /// node's lock and only makes notes.
    pub(super) fn owned(&self, visit: &mut dyn FnMut(Owned<'_>)) {
        self.op.leaf().into_iter().for_each(|leaf| visit(Owned::Tensor(leaf)));
        self.edges.iter().flatten().for_each(|edge| visit(Owned::Node(&edge.node)));
        let saved = |saved: &Saved| saved.tensor.iter().for_each(|t| visit(Owned::Tensor(t)));
        self.state.lock().saved.iter().for_each(saved);
        self.hosts(|host| visit(Owned::Host(host)));
    }

    /// What the embedding language stores with this node, made when first asked for.
    pub fn notes(&self, make: impl FnOnce() -> Host) -> Host {
        if let Some(notes) = self.state.lock().hooks.as_ref().and_then(|h| h.notes.clone()) {
            return notes;
        }
        // Made without the lock. Of two threads that get here, the first one's stays.
        let made = make();
        self.state.lock().hooks.get_or_insert_default().notes.get_or_insert(made).clone()
    }

    /// Address of the embedding language's object for this node, which that language looks after; 0
    /// if there is none.
    pub fn object(&self) -> usize {
        self.state.lock().hooks.as_ref().map_or(0, |h| h.object)
    }

    /// Sets what [`Node::object`] gives.
    pub fn set_object(&self, address: usize) {
        let mut state = self.state.lock();
        if address != 0 || state.hooks.is_some() {
            state.hooks.get_or_insert_default().object = address;
        }
    }

    /// Ends what [`Node::retain_grad`] began.
    pub(crate) fn forget_grad(&self, tensor: &Tensor) {
        let mut removed = None;
        if let Some(hooks) = &mut self.state.lock().hooks
            && let Some(at) = hooks.retain.iter().position(|(_, t)| t.stands_for(tensor))
        {
            removed = Some(hooks.retain.remove(at));
        }
        drop(removed);
    }

    /// Has the node's edges and what it saved handed to [`Op::outlived`] when it dies.
    pub fn set_outlived(&self) {
        self.state.lock().hooks.get_or_insert_default().outlived = true;
    }

    /// What is to be handed over by a node that is about to be dropped.
    pub(super) fn bequest(&mut self) -> Option<Node> {
        let state = self.state.get_mut();
        // Once: what remains of a node leaves nothing in its turn.
        if !state.hooks.as_mut().is_some_and(|h| std::mem::take(&mut h.outlived)) {
            return None;
        }
        Some(Node {
            seq: self.seq,
            op: self.op.remains()?,
            edges: std::mem::take(&mut self.edges),
            outputs: std::mem::take(&mut self.outputs),
            state: Lock::new(State {
                saved: std::mem::take(&mut state.saved),
                hooks: state.hooks.take(),
                site: state.site,
                freed: state.freed,
            }),
        })
    }

    /// Keeps the gradient of an output in the tensor's `.grad`.
    pub(crate) fn retain_grad(&self, output: u32, tensor: WeakTensor) {
        self.state.lock().hooks.get_or_insert_default().retain.push((output, tensor));
    }
}
