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
use super::forward::{self, Below, Level, fit, gain, same_strides};
use super::inplace::inherit;
use super::mode::{self, ValuesOnly};
use super::node::{Edge, Op, Origin, OutputMeta};
use super::record::node;
use crate::dtype::DType;
use crate::per_thread::here;
use crate::tensor::{Tensor, ViewKind};
use crate::{Result, bail};
use smallvec::SmallVec;
use std::sync::Arc;

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
            Some(node(edges, op, metas, SmallVec::new(), here())?)
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
        if recorded.dirty_stranger && t.base().is_some() {
            bail!(
                Grad,
                "",
                "ctx.mark_dirty() received a tensor that was not an input. Only input Tensors that \
                 have been mutated should be passed to ctx.mark_dirty()."
            );
        }
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
        if !(is_input && is_dirty) && output.view_kind().is_some() {
            output.set_view_kind(ViewKind::Custom);
        }
        recorded.outputs.push(Some(output));
    }
    if recorded.differentiable.iter().filter(|d| **d).count() > 1 {
        for output in recorded.outputs.iter().flatten().filter(|t| t.view_kind().is_some()) {
            output.set_view_kind(ViewKind::Several);
        }
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
    let _mode = ValuesOnly::new();
    t.view_as_layout(t.layout().clone())
}

/// A leaf that the function got from elsewhere must stay one.
fn alias_of_leaf(t: &Tensor) -> Tensor {
    if is_leaf_to_users(t) { t.detach() } else { t.clone() }
}

/// Whether this is a parameter of the user's. A view made in `forward` is none, although nothing was
/// recorded there.
fn is_leaf_to_users(t: &Tensor) -> bool {
    t.requires_grad() && t.view_kind().is_none() && t.is_leaf()
}

fn without_history(t: &Tensor, is_input: bool, is_dirty: bool) -> Tensor {
    if !t.requires_grad() {
        if is_input && !is_dirty { view_as_self(t) } else { t.clone() }
    } else if is_input || is_leaf_to_users(t) {
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
    t.check_view_kind("is being")?;
    if let Some(base) = t.base()
        && base.requires_grad()
        && base.is_leaf()
    {
        bail!(
            Grad,
            "",
            "a view of a leaf Variable that requires grad is being used in an in-place operation."
        );
    }
    t.set_grad(None);
    inherit(t, &t.alias_with_edge(Some(edge)))
}

/// A user's rule for tangents: from those of the inputs to one per output.
pub type Jvp<'a> = &'a mut dyn FnMut(&[Option<Tensor>]) -> Result<SmallVec<[Option<Tensor>; 2]>>;

/// Whether forward mode follows a function with these inputs.
pub fn is_followed(inputs: &[Tensor]) -> bool {
    mode::is_forward() && inputs.iter().any(Tensor::is_dual)
}

/// Gives the outputs the tangents that the user's rule computes, in every level, as far as they fit:
/// a view's must be a view of its base's tangent, and what was written to must have its tangent
/// written to.
pub fn push_tangents(call: &Call<'_>, recorded: &Recorded, jvp: Jvp<'_>) -> Result<()> {
    for level in forward::active() {
        let _below = Below::new(&level);
        let tangents = call.inputs.iter().map(|x| x.tangent(&level)).collect::<Result<Vec<_>>>()?;
        if tangents.iter().all(Option::is_none) {
            continue;
        }
        let versions: SmallVec<[u32; 4]> =
            tangents.iter().map(|t| t.as_ref().map_or(0, |t| t.storage().version())).collect();
        let found = jvp(&tangents)?;
        let expected = call.returned.len();
        if found.len() != expected {
            bail!(
                Grad,
                "",
                "Function's jvp returned an invalid number of forward gradients (expected {expected} \
                 but got {})",
                found.len()
            );
        }
        let pairs = call.returned.iter().zip(&recorded.outputs).zip(found);
        for (k, ((returned, output), tangent)) in pairs.enumerate() {
            let (Some(returned), Some(output)) = (returned, output) else {
                refuse_constant(k, tangent.is_some())?;
                continue;
            };
            if !output.dtype().is_floating()
                || call.non_differentiable.iter().any(|t| t.same(returned))
            {
                refuse_constant(k, tangent.is_some())?;
            } else if call.dirty.iter().any(|t| t.same(returned)) {
                let at = call.inputs.iter().position(|i| i.same(returned));
                let before = at.and_then(|j| Some((tangents[j].as_ref()?, versions[j])));
                written_tangent(output, tangent, before, &level)?;
            } else if let Some(tangent) = tangent {
                new_tangent(output, tangent, call.inputs, &tangents, &level)?;
            }
        }
        if let Some(node) = &recorded.node {
            node.keep_tangents(|k| recorded.outputs.get(k)?.as_ref());
        }
    }
    Ok(())
}

fn refuse_constant(k: usize, given: bool) -> Result<()> {
    if given {
        bail!(
            Grad,
            "",
            "Function's jvp returned a gradient at position {k}, but the corresponding forward output \
             is not a differentiable Tensor. You should return None at that position instead."
        );
    }
    Ok(())
}

fn check_size(output: &Tensor, tangent: &Tensor) -> Result<()> {
    if output.shape() != tangent.shape() {
        bail!(
            Shape,
            "",
            "Trying to set a forward gradient that has a different size than that of the original \
             Tensor, this is not supported. Tensor is of size {:?} while the given forward gradient \
             is of size {:?}.",
            output.shape(),
            tangent.shape()
        );
    }
    Ok(())
}

/// The tangent of an input that the function wrote to; `before` is what it had, at which version.
fn written_tangent(
    output: &Tensor,
    tangent: Option<Tensor>,
    before: Option<(&Tensor, u32)>,
    level: &Arc<Level>,
) -> Result<()> {
    let Some((old, version)) = before else {
        return match tangent {
            Some(new) => {
                check_size(output, &new)?;
                gain(output, fit(new, output, &[])?, level)
            }
            None => Ok(()),
        };
    };
    if tangent.as_ref().is_none_or(|t| t.storage().version() == version) {
        bail!(
            Grad,
            "",
            "An inplace custom Function is not modifying the forward mode gradients inplace. If the \
             forward is modifying an input inplace, then the jvp function must modify the \
             corresponding gradient inplace."
        );
    }
    if tangent.is_some_and(|t| !t.same(old)) {
        bail!(
            Grad,
            "",
            "An inplace custom Function is not returning the forward mode gradients as-is. If the \
             forward is modifying an input inplace, then the jvp function must modify the gradient \
             inplace and return it as-is."
        );
    }
    Ok(())
}

/// The tangent of an output that is no input written to.
fn new_tangent(
    output: &Tensor,
    tangent: Tensor,
    inputs: &[Tensor],
    tangents: &[Option<Tensor>],
    level: &Arc<Level>,
) -> Result<()> {
    check_size(output, &tangent)?;
    let shared = |i: &usize| inputs[*i].storage().same(output.storage());
    let viewed: SmallVec<[usize; 2]> = match output.base() {
        Some(_) => (0..inputs.len()).filter(shared).collect(),
        None => SmallVec::new(),
    };
    let Some(first) = viewed.first() else {
        let tangent = fit(tangent, output, tangents)?;
        output.set_tangent(level, tangent);
        return Ok(());
    };
    let with_tangent = viewed.iter().find(|i| tangents[**i].is_some()).unwrap_or(first);
    let Some(whole) = &tangents[*with_tangent] else {
        return gain(output, fit(tangent, output, &[])?, level);
    };
    if tangent.base().is_none() {
        bail!(
            Grad,
            "",
            "A custom Function's forward is returning a view (or an input as-is) but the jvp is not \
             returning a view."
        );
    }
    if !tangent.storage().same(whole.storage()) {
        let base = if whole.base().is_some() { " of the same base as" } else { " of" };
        bail!(
            Grad,
            "",
            "A custom Function is returning a view but the jvp is not returning a view{base} the \
             given grad input."
        );
    }
    if !same_strides(&tangent, output) || tangent.layout().offset() != output.layout().offset() {
        bail!(
            Grad,
            "",
            "Expected the output of forward differentiable view operations to have the tangent have \
             the same layout as primal: the output has strides {:?} and offset {}, the tangent {:?} \
             and {}",
            output.layout().strides(),
            output.layout().offset(),
            tangent.layout().strides(),
            tangent.layout().offset()
        );
    }
    output.set_tangent(level, tangent);
    Ok(())
}
