//! From an operation's inputs and outputs to a node.

use super::arena::NodeRef;
use super::mode::{self, SAVED_TENSOR_HOOKS};
use super::node::{Edge, Node, Op, Origin, OutputMeta, Saved, State, next_seq};
use super::saved::record_packed;
use crate::Result;
use crate::lock::Lock;
use crate::tensor::Tensor;
use smallvec::SmallVec;

/// What to save, each under the role by which the rule asks for it.
pub type Saves<'a> = SmallVec<[(u8, &'a Tensor); 3]>;

/// Whether an operation on these inputs is to be recorded.
#[inline]
pub fn recording(inputs: &[&Tensor]) -> bool {
    super::is_grad_enabled() && inputs.iter().any(|t| t.requires_grad())
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
    let mut edges: SmallVec<[Option<Edge>; 2]> = SmallVec::new();
    for input in inputs {
        edges.push(input.edge()?);
    }
    if !saves.is_empty() && mode::has(SAVED_TENSOR_HOOKS) {
        return record_packed(outputs, inputs, saves, edges, op);
    }
    let mut saved: SmallVec<[Saved; 2]> = SmallVec::new();
    for &(role, tensor) in saves {
        let version = tensor.storage().version();
        let entry = if let Some(k) = outputs.iter().position(|o| o.same(tensor)) {
            Saved {
                tensor: Some(tensor.alias_with_edge(None)),
                version,
                origin: Origin::Output(k as u16),
                role,
            }
        } else {
            let origin = Origin::of_input(inputs.iter().position(|i| i.same(tensor)));
            Saved { tensor: Some(tensor.clone()), version, origin, role }
        };
        saved.push(entry);
    }
    let mut metas: SmallVec<[OutputMeta; 1]> = SmallVec::new();
    for output in outputs {
        metas.push(OutputMeta::of(output));
    }
    let node = node(edges, op, metas, saved)?;
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
#[inline]
pub(super) fn node(
    edges: SmallVec<[Option<Edge>; 2]>,
    op: Box<dyn Op>,
    outputs: SmallVec<[OutputMeta; 1]>,
    saved: SmallVec<[Saved; 2]>,
) -> Result<NodeRef> {
    let state = Lock::new(State { saved, hooks: None, freed: false });
    NodeRef::new(Node { seq: next_seq(&edges), op, edges, outputs, state })
}
