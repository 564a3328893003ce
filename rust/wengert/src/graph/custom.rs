//! Operations whose derivative a user wrote: from what the user's function returned to outputs with
//! a history.
//!
//! The function has run unrecorded, as one step. What it returned need not be fresh memory, and each
//! case has its own right answer (PyTorch's):
//!
//! | returned | becomes |
//! |---|---|
//! | a new tensor | itself, made by the new node |
//! | an input as it is | a view of the input, made by the node: the input keeps its own history |
//! | an input, marked dirty | itself, with the node as its new history, also through a view's base |
//! | anything, marked non-differentiable | itself without history; a detached alias of an input |
//! | a leaf that is no input | an alias, or the user's parameter would stop being one |
//!
//! Views among the outputs must not be written to: the write would give their base a history that
//! goes round the user's derivative.

use super::arena::NodeRef;
use super::inplace::inherit;
use super::mode::{GradMode, THREAD};
use super::node::{Edge, Op, Origin, OutputMeta};
use super::record::node;
use crate::dtype::DType;
use crate::tensor::Tensor;
use crate::{Result, bail};
use smallvec::SmallVec;

/// Edges to the nodes that made some tensors.
pub type Edges = SmallVec<[Option<Edge>; 2]>;

/// What a user's function was given and what it gave back.
pub struct Call<'a> {
    /// The tensors among its arguments.
    pub inputs: &'a [Tensor],
    /// What it returned; `None` where that was no tensor.
    pub returned: &'a [Option<Tensor>],
    /// Inputs that it wrote to.
    pub dirty: &'a [Tensor],
    /// Outputs that have no derivative.
    pub non_differentiable: &'a [Tensor],
    /// What the derivative needs, in its order.
    pub saved: &'a [Option<Tensor>],
    /// Tensors that must not be inputs that were returned as they are, because they were saved after
    /// the function ended: as outputs they would be other tensors.
    pub saved_late: &'a [Tensor],
}

/// The outputs of a user's function, and the node that made them if there is one.
pub struct Recorded {
    /// In the order in which they were returned.
    pub outputs: SmallVec<[Option<Tensor>; 1]>,
    /// None if nothing was recorded.
    pub node: Option<NodeRef>,
    /// Which outputs have a derivative.
    pub differentiable: SmallVec<[bool; 4]>,
    /// Whether something was marked dirty that is no input.
    pub dirty_stranger: bool,
}

/// Edges to the inputs of a function that is about to run. None if it is not to be recorded.
pub fn edges(inputs: &[Tensor]) -> Result<Option<Edges>> {
    if !super::is_grad_enabled() || !inputs.iter().any(Tensor::requires_grad) {
        return Ok(None);
    }
    inputs.iter().map(Tensor::edge).collect::<Result<_>>().map(Some)
}

/// Makes the outputs the results of `op`, or of nothing if the call is not recorded. `made` is told
/// the node before anything is saved in it.
pub fn finish(
    call: &Call<'_>,
    recording: Option<(Edges, Box<dyn Op>)>,
    made: impl FnOnce(&NodeRef),
) -> Result<Recorded> {
    let is = |tensors: &[Tensor], t: &Tensor| tensors.iter().any(|other| other.same(t));
    for dirty in call.dirty {
        if !call.returned.iter().flatten().any(|r| r.same(dirty)) {
            bail!(
                Grad,
                "",
                "Some elements marked as dirty during the forward method were not returned as \
                 output. The inputs that are modified inplace must all be outputs of the Function."
            );
        }
        dirty.storage().bump_version();
    }
    if call.returned.len() > u16::MAX as usize {
        bail!(Unsupported, "", "a Function with {} outputs", call.returned.len());
    }
    let node = match recording {
        None => None,
        Some((edges, op)) => {
            let metas = call.returned.iter().map(|r| match r {
                Some(t) => OutputMeta::of(t),
                // No gradient ever arrives here.
                None => OutputMeta::Small(DType::Float32, 0, [0; 4]),
            });
            let metas = metas.collect();
            Some(THREAD.with(|t| node(edges, op, metas, SmallVec::new(), &t.newest))?)
        }
    };
    let mut recorded = Recorded {
        outputs: SmallVec::new(),
        node,
        differentiable: SmallVec::new(),
        dirty_stranger: false,
    };
    for (k, returned) in call.returned.iter().enumerate() {
        let Some(t) = returned else {
            recorded.outputs.push(None);
            recorded.differentiable.push(false);
            continue;
        };
        let (is_input, is_dirty) = (is(call.inputs, t), is(call.dirty, t));
        let edge = match &recorded.node {
            Some(node) if t.dtype().is_floating() && !is(call.non_differentiable, t) => {
                Some(Edge { node: node.clone(), output: k as u32 })
            }
            _ => None,
        };
        recorded.differentiable.push(edge.is_some());
        recorded.dirty_stranger |= edge.is_some() && is_dirty && !is_input;
        if is_input && !is_dirty && is(call.saved_late, t) && (edge.is_some() || !t.requires_grad())
        {
            bail!(
                Grad,
                "",
                "An input that has been returned as-is as output is being saved for backward. This \
                 is not supported if you override setup_context. You should return and save a view \
                 of the input instead, e.g. with x.view_as(x) or setup ctx inside the forward \
                 function itself."
            );
        }
        let output = match edge {
            None => without_history(t, is_input, is_dirty),
            Some(edge) if is_dirty => {
                rewritten(t, edge, call.returned.len())?;
                t.clone()
            }
            Some(edge) => {
                let output = if is_input { view_as_self(t) } else { alias_of_leaf(t) };
                output.set_edge(edge);
                output
            }
        };
        recorded.outputs.push(Some(output));
    }
    if let Some(node) = &recorded.node {
        made(node);
        for (role, tensor) in call.saved.iter().enumerate() {
            let origin = match tensor {
                Some(t) => origin(t, node, call.inputs),
                None => Origin::Value,
            };
            node.save(tensor.as_ref(), origin, role.min(u8::MAX as usize) as u8)?;
        }
    }
    Ok(recorded)
}

/// Where a saved tensor's history is.
fn origin(t: &Tensor, node: &NodeRef, inputs: &[Tensor]) -> Origin {
    match t.edge_if_any() {
        Some(edge) if edge.node == *node => Origin::Output(edge.output as u16),
        _ => {
            let at = inputs.iter().position(|i| i.same(t));
            Origin::of_input(at.filter(|&i| i <= u16::MAX as usize))
        }
    }
}

/// A tensor of its own that shows an input which was returned as it is.
fn view_as_self(t: &Tensor) -> Tensor {
    let _mode = GradMode::new(false);
    t.view_as_layout(t.layout().clone())
}

/// A leaf that the function got from elsewhere must stay one.
fn alias_of_leaf(t: &Tensor) -> Tensor {
    if t.requires_grad() && t.is_leaf() { t.detach() } else { t.clone() }
}

fn without_history(t: &Tensor, is_input: bool, is_dirty: bool) -> Tensor {
    if !t.requires_grad() {
        if is_input && !is_dirty { view_as_self(t) } else { t.clone() }
    } else if is_input || t.is_leaf() {
        t.detach()
    } else {
        // A view of something that requires grad stays one, as one made while nothing is recorded.
        if t.base().is_none() {
            t.detach_();
        }
        t.clone()
    }
}

/// Gives an input that was written to its new history.
fn rewritten(t: &Tensor, edge: Edge, outputs: usize) -> Result<()> {
    if t.requires_grad() && t.is_leaf() {
        bail!(
            Grad,
            "",
            "a leaf Variable that requires grad has been used in an in-place operation."
        );
    }
    if t.base().is_some() && outputs > 1 {
        bail!(
            Grad,
            "",
            "If your Function modifies inplace an input that is a view of another Tensor, your \
             Function cannot return more than one Tensor. This is not supported by the current \
             autograd engine. You should either make sure the input is not a view (using .clone() \
             for example) or make your Function only return one Tensor (potentially splitting it \
             into two Functions: one doing the inplace that returns a single Tensor and a second \
             one that does the other operations). You can ask on the forum \
             https://discuss.pytorch.org/ if you need help to do this change."
        );
    }
    t.set_grad(None);
    inherit(t, &t.alias_with_edge(Some(edge)))
}
