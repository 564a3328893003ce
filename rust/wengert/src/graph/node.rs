//! What a node is: a rule, what the rule saved, and where its inputs came from.
//!
//! Saved tensors carry the version their storage had. Two kinds need care:
//!
//! * An operation's **own output** is saved as an alias without history, because an output that
//!   knows its node, saved in that node, would never die. The history is attached again when it
//!   is unpacked for a second-order pass.
//! * An **input** is saved with the index of its edge, so that unpacking finds the history the
//!   input had when it was used, whatever happened to the tensor since.

use super::arena::NodeRef;
use super::explain;
use super::site::Site;
use crate::dtype::DType;
use crate::lock::Lock;
use crate::tensor::{Tensor, WeakTensor};
use crate::Result;
use smallvec::SmallVec;
use std::cell::Cell;
use std::sync::Arc;

/// A derivative rule, with whatever parameters the operation had.
pub trait Op: Send + Sync {
    /// PyTorch's name of the node: `MulBackward0`.
    fn name(&self) -> &'static str;

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
}

/// One entry per input; `None` is a zero that is not worth a tensor.
pub type Gradients = SmallVec<[Option<Tensor>; 2]>;

/// A tensor hook: sees the gradient and may replace it.
pub type Hook = Arc<dyn Fn(&Tensor) -> Result<Option<Tensor>> + Send + Sync>;

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
        if shape.len() <= 4 && shape.iter().all(|&s| s <= u32::MAX as usize) {
            let mut dims = [0; 4];
            for (d, &s) in dims.iter_mut().zip(shape) {
                *d = s as u32;
            }
            OutputMeta::Small(tensor.dtype(), shape.len() as u8, dims)
        } else {
            OutputMeta::Large(tensor.dtype(), shape.into())
        }
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

/// A tensor saved for the rule under a role that the rule chose.
pub(super) struct Saved {
    pub tensor: Tensor,
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

/// Observers of the gradients that arrive at a node's outputs.
#[derive(Default)]
pub(super) struct NodeHooks {
    pub next_id: u64,
    /// (id, output, hook), in order of registration.
    pub pre: Vec<(u64, u32, Hook)>,
    /// Outputs whose gradient is kept in `.grad`.
    pub retain: Vec<(u32, WeakTensor)>,
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
    pub fn name(&self) -> &'static str {
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

    /// Adds an observer of the gradient of one output; the number removes it.
    pub fn add_hook(&self, output: u32, hook: Hook) -> u64 {
        let mut state = self.state.lock();
        let hooks = state.hooks.get_or_insert_default();
        hooks.next_id += 1;
        let id = hooks.next_id;
        hooks.pre.push((id, output, hook));
        id
    }

    /// Removes an observer; a number that is not there is ignored.
    pub fn remove_hook(&self, id: u64) {
        let removed = self.state.lock().hooks.as_mut().and_then(|hooks| {
            let at = hooks.pre.iter().position(|(i, ..)| *i == id)?;
            Some(hooks.pre.remove(at))
        });
        // Dropped here, outside the lock: a hook may own anything.
        drop(removed);
    }

    /// Keeps the gradient of an output in the tensor's `.grad`.
    pub(crate) fn retain_grad(&self, output: u32, tensor: WeakTensor) {
        self.state.lock().hooks.get_or_insert_default().retain.push((output, tensor));
    }
}

/// What a rule sees when it runs.
pub struct Context {
    saved: SmallVec<[(u8, Tensor); 2]>,
    needs: SmallVec<[bool; 4]>,
}

impl Context {
    /// What a rule sees, put together by hand.
    pub(super) fn new(saved: SmallVec<[(u8, Tensor); 2]>, needs: SmallVec<[bool; 4]>) -> Context {
        Context { saved, needs }
    }

    /// The same for a rule that is to answer for one input only.
    pub(super) fn only(&self, input: usize) -> Context {
        let needs = (0..self.needs.len()).map(|i| i == input).collect();
        Context { saved: self.saved.clone(), needs }
    }

    /// The tensor saved under `role`.
    ///
    /// # Panics
    /// If the rule asks for what its operation did not save: a defect of the row, which the
    /// row macros rule out.
    pub fn saved(&self, role: u8) -> &Tensor {
        let found = self.saved.iter().find(|(r, _)| *r == role);
        &found.expect("a rule asked for a tensor that its operation did not save").1
    }

    /// Whether the gradient of input `index` is wanted.
    pub fn needs(&self, index: usize) -> bool {
        self.needs.get(index).copied().unwrap_or(false)
    }
}

impl NodeRef {
    /// Gives what was saved of the outputs, which was saved before they had any, their tangents.
    pub(super) fn keep_tangents(&self, outputs: &[&Tensor]) {
        let state = self.state.lock();
        for s in &state.saved {
            if let Origin::Output(k) = s.origin {
                s.tensor.share_tangents(outputs[k as usize]);
            }
        }
    }

    /// Prepares a run of the rule: copies the saved tensors, or takes them for a pass that `frees`
    /// the graph, and checks that nobody wrote to them.
    pub(super) fn unpack(&self, frees: Option<Site>, needs: SmallVec<[bool; 4]>) -> Result<Context> {
        let recording = super::is_grad_enabled();
        let mut state = self.state.lock();
        if let Some(first) = state.freed {
            drop(state);
            return Err(explain::freed(self, first));
        }
        let mut saved = SmallVec::new();
        for s in &state.saved {
            if s.tensor.storage().version() != s.version {
                let (tensor, version, origin) = (s.tensor.clone(), s.version, s.origin);
                drop(state);
                return Err(explain::stale(self, &tensor, version, origin));
            }
            saved.push((s.role, if recording { self.with_history(s) } else { s.tensor.clone() }));
        }
        let retired = frees.map(|_| std::mem::take(&mut state.saved));
        state.freed = frees;
        drop(state);
        drop(retired);
        Ok(Context { saved, needs })
    }

    fn with_history(&self, s: &Saved) -> Tensor {
        let tensor = self.with_edge(s);
        if !tensor.same(&s.tensor) && s.tensor.is_dual() {
            tensor.share_tangents(&s.tensor);
        }
        tensor
    }

    fn with_edge(&self, s: &Saved) -> Tensor {
        match s.origin {
            Origin::Value => s.tensor.clone(),
            Origin::Output(k) => {
                s.tensor.alias_with_edge(Some(Edge { node: self.clone(), output: k as u32 }))
            }
            Origin::Input(i) => {
                let then = self.edges.get(i as usize).and_then(|e| e.as_ref());
                let now = s.tensor.edge_if_any();
                let same = match (then, &now) {
                    (None, None) => true,
                    (Some(a), Some(b)) => a.node == b.node && a.output == b.output,
                    _ => false,
                };
                if same { s.tensor.clone() } else { s.tensor.alias_with_edge(then.cloned()) }
            }
        }
    }
}
