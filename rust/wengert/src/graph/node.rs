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
use super::saved::PackedTensor;
use crate::dtype::DType;
use crate::lock::Lock;
use crate::tensor::{Tensor, WeakTensor};
use crate::{Error, Kind, Result};
use smallvec::SmallVec;
use std::any::Any;
use std::cell::Cell;
use std::sync::Arc;

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
    /// getting it in the [`Context`]. What it saved is freed after the rule.
    fn fetches_saved(&self) -> bool {
        false
    }

    /// What the embedding language owns in this rule, so that it can find its own objects again.
    fn host(&self) -> Option<&(dyn Any + Send + Sync)> {
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
    pub freed: bool,
}

/// Observers of the gradients that arrive at a node's outputs.
#[derive(Default)]
pub(super) struct NodeHooks {
    pub next_id: u64,
    /// (id, output, hook), in order of registration.
    pub pre: Vec<(u64, u32, Hook)>,
    /// Outputs whose gradient is kept in `.grad`.
    pub retain: Vec<(u32, WeakTensor)>,
    /// Saved tensors that hooks store.
    pub packed: Vec<PackedTensor>,
}

/// One recorded operation.
pub struct Node {
    pub(super) seq: u64,
    pub(super) op: Box<dyn Op>,
    pub(super) edges: SmallVec<[Option<Edge>; 2]>,
    pub(super) outputs: SmallVec<[OutputMeta; 1]>,
    pub(super) state: Lock<State>,
}

thread_local! {
    /// Number of the newest node that this thread made or built upon.
    static NEWEST: Cell<u64> = const { Cell::new(0) };
}

/// Accumulators run before everything else that is ready.
pub(super) const ACCUMULATOR_SEQ: u64 = u64::MAX;

/// The number of a node with these inputs: above all of theirs, and above all that this thread
/// gave before (a Lamport clock). For one thread that is the order of creation; several threads
/// need no shared counter, and what they number does not depend on who was first.
#[inline]
pub(super) fn next_seq(edges: &[Option<Edge>]) -> u64 {
    let inputs = edges.iter().flatten().map(|e| e.node.seq).filter(|&s| s != ACCUMULATOR_SEQ);
    let seq = inputs.fold(NEWEST.get(), u64::max) + 1;
    NEWEST.set(seq);
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

    /// One entry per output.
    pub fn outputs(&self) -> &[OutputMeta] {
        &self.outputs
    }

    /// Order of creation: larger than the numbers of the node's inputs and of older nodes of the
    /// same thread.
    pub fn sequence(&self) -> u64 {
        self.seq
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
    keeps_graph: bool,
}

impl Context {
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

    /// Whether the pass leaves the graph as it is, so that it can be walked again.
    pub fn keeps_graph(&self) -> bool {
        self.keeps_graph
    }
}

impl NodeRef {
    /// Prepares a run of the rule: takes (`keep == false`) or copies the saved tensors and checks
    /// that nobody wrote to them.
    pub(super) fn unpack(&self, keep: bool, needs: SmallVec<[bool; 4]>) -> Result<Context> {
        if self.op.fetches_saved() {
            return Ok(Context { saved: SmallVec::new(), needs, keeps_graph: keep });
        }
        let recording = super::is_grad_enabled();
        let mut state = self.state.lock();
        if state.freed {
            return Err(freed_error());
        }
        let mut saved = SmallVec::new();
        let mut packed = SmallVec::<[(u8, usize); 2]>::new();
        for (i, s) in state.saved.iter().enumerate() {
            let Some(tensor) = &s.tensor else {
                packed.push((s.role, i));
                continue;
            };
            if tensor.storage().version() != s.version {
                return Err(self.version_error(s));
            }
            let tensor = if recording { self.with_history(s, tensor) } else { tensor.clone() };
            saved.push((s.role, tensor));
        }
        if !packed.is_empty() {
            drop(state);
            for (role, index) in packed {
                if let Some(tensor) = self.saved_tensor(index)? {
                    saved.push((role, tensor));
                }
            }
            if !keep {
                self.free_saved();
            }
            return Ok(Context { saved, needs, keeps_graph: keep });
        }
        let retired = if keep {
            None
        } else {
            state.freed = true;
            Some(std::mem::take(&mut state.saved))
        };
        drop(state);
        drop(retired);
        Ok(Context { saved, needs, keeps_graph: keep })
    }

    /// A saved tensor as it was when it was saved.
    pub(super) fn with_history(&self, s: &Saved, tensor: &Tensor) -> Tensor {
        match s.origin {
            Origin::Value => tensor.clone(),
            Origin::Output(k) => {
                tensor.alias_with_edge(Some(Edge { node: self.clone(), output: k as u32 }))
            }
            Origin::Input(i) => {
                let then = self.edges.get(i as usize).and_then(|e| e.as_ref());
                let now = tensor.edge_if_any();
                let same = match (then, &now) {
                    (None, None) => true,
                    (Some(a), Some(b)) => a.node == b.node && a.output == b.output,
                    _ => false,
                };
                if same { tensor.clone() } else { tensor.alias_with_edge(then.cloned()) }
            }
        }
    }

    #[cold]
    pub(super) fn version_error(&self, s: &Saved) -> Error {
        let Some(tensor) = &s.tensor else { return freed_error() };
        let which = match s.origin {
            Origin::Output(k) => {
                let name = self.name();
                format!("output {k} of {}", name.strip_suffix("0").unwrap_or(name))
            }
            _ => match tensor.edge_if_any() {
                Some(e) if e.node.op.leaf().is_none() => {
                    let name = e.node.name();
                    format!("output {} of {}", e.output, name.strip_suffix("0").unwrap_or(name))
                }
                _ => format!("an input of {}", self.name()),
            },
        };
        Error::plain(
            Kind::Version,
            format!(
                "one of the variables needed for gradient computation has been modified by an \
                 inplace operation: [{}Tensor {:?}], which is {which}, is at version {}; expected \
                 version {} instead. Hint: the backward pass of {} needs the value from before; \
                 write to a clone() of it, or use the out-of-place operation.",
                tensor.dtype().scalar_type_name(),
                tensor.shape(),
                tensor.storage().version(),
                s.version,
                self.name(),
            ),
        )
    }
}

/// What asking for saved tensors is after they were freed.
#[cold]
pub fn freed_error() -> Error {
    Error::plain(
        Kind::Grad,
        "Trying to backward through the graph a second time (or directly access saved tensors \
         after they have already been freed). Saved intermediate values of the graph are freed \
         when you call .backward() or autograd.grad(). Specify retain_graph=True if you need to \
         backward through the graph a second time or if you need to access saved tensors after \
         calling backward.",
    )
}
