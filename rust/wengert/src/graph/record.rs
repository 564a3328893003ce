//! From an operation's inputs and outputs to a node.

use super::anomaly;
use super::arena::NodeRef;
use super::mode::{self, FORWARD, RECORD, SAVED_TENSOR_HOOKS};
use super::node::{Edge, Node, Op, Origin, OutputMeta, Saved, State, next_seq};
use super::saved::record_packed;
use super::site::Site;
use crate::Result;
use crate::lock::Lock;
use crate::per_thread::{PerThread, here};
use crate::tensor::Tensor;
use smallvec::SmallVec;

/// What to save, each under the role by which the rule asks for it.
pub type Saves<'a> = SmallVec<[(u8, &'a Tensor); 3]>;

/// Whether an operation on these inputs is to be recorded: whether it leaves a node, or its
/// results have tangents.
#[inline]
pub fn recording(inputs: &[&Tensor]) -> bool {
    match mode::mode() {
        0 => false,
        RECORD => inputs.iter().any(|t| t.requires_grad()),
        mode => recording_unusually(mode, inputs),
    }
}

#[cold]
fn recording_unusually(mode: u32, inputs: &[&Tensor]) -> bool {
    mode & RECORD != 0 && inputs.iter().any(|t| t.requires_grad())
        || mode & FORWARD != 0 && inputs.iter().any(|t| t.is_dual())
}

/// Makes `output` the result of `op` on `inputs`. The caller has checked [`recording`].
pub fn record(
    output: &Tensor,
    inputs: &[&Tensor],
    saves: &[(u8, &Tensor)],
    op: Box<dyn Op>,
) -> Result<()> {
    record_many(&[output], inputs, saves, op)
}

/// Makes several tensors the results of one operation. Outputs that cannot carry a gradient
/// (integers, truth values) stay without history.
pub fn record_many(
    outputs: &[&Tensor],
    inputs: &[&Tensor],
    saves: &[(u8, &Tensor)],
    op: Box<dyn Op>,
) -> Result<()> {
    // Whoever made it of operations that know of batches, but records it as one of its own.
    if outputs[0].is_batched() {
        return Err(crate::batch::unreadable());
    }
    let thread = here();
    match thread.mode.get() {
        RECORD => attach(outputs, inputs, saves, op, thread),
        _ => super::forward::record(outputs, inputs, saves, op, thread),
    }
}

/// Makes the node.
#[inline]
pub(super) fn attach(
    outputs: &[&Tensor],
    inputs: &[&Tensor],
    saves: &[(u8, &Tensor)],
    op: Box<dyn Op>,
    thread: &PerThread,
) -> Result<()> {
    // Inference tensors by themselves have no history. A clone is the way out.
    if inputs.iter().all(|i| i.is_inference()) && op.name() != "CloneBackward0" {
        return Ok(());
    }
    let mut edges: SmallVec<[Option<Edge>; 2]> = SmallVec::new();
    for input in inputs {
        edges.push(input.edge()?);
    }
    if !saves.is_empty() && thread.mode.get() & SAVED_TENSOR_HOOKS != 0 {
        return record_packed(outputs, inputs, saves, edges, op, thread);
    }
    let mut saved: SmallVec<[Saved; 2]> = SmallVec::new();
    for &(role, tensor) in saves {
        if tensor.is_inference() {
            return Err(super::inplace::saved_inference_error());
        }
        let version = tensor.storage().version_for_saving();
        let (tensor, origin) = match outputs.iter().position(|o| o.same(tensor)) {
            Some(k) => (tensor.alias_with_edge(None), Origin::Output(k as u16)),
            None => (tensor.clone(), Origin::of_input(inputs.iter().position(|i| i.same(tensor)))),
        };
        saved.push(Saved { tensor: Some(tensor), version, origin, role });
    }
    let mut metas: SmallVec<[OutputMeta; 1]> = SmallVec::new();
    for output in outputs {
        metas.push(OutputMeta::of(output));
    }
    let node = node(edges, op, metas, saved, thread)?;
    if let [output] = outputs {
        if output.dtype().is_floating() {
            output.set_edge(Edge { node, output: 0 });
        }
        return Ok(());
    }
    for (k, output) in outputs.iter().enumerate() {
        if output.dtype().is_floating() {
            output.set_edge(Edge { node: node.clone(), output: k as u32 });
        }
    }
    Ok(())
}

/// A new node in the arena.
// Always, as what it calls: a node is three cache lines, which would be moved once per call.
#[inline(always)]
pub(super) fn node(
    edges: SmallVec<[Option<Edge>; 2]>,
    op: Box<dyn Op>,
    outputs: SmallVec<[OutputMeta; 1]>,
    saved: SmallVec<[Saved; 2]>,
    thread: &PerThread,
) -> Result<NodeRef> {
    let state = Lock::new(State::new(saved, Site::of(thread)));
    let node =
        NodeRef::new(Node { seq: next_seq(&edges, &thread.newest), op, edges, outputs, state })?;
    if anomaly::is_enabled() {
        anomaly::made(&node);
    }
    Ok(node)
}
