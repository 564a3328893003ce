//! Tangents from rules for backward.
//!
//! A rule for backward is linear in the gradient: `backward(u) = Jᵀ u`, where `J` depends on what
//! the rule saved. So recording the rule for some `u`, zeros will do, gives a graph of the linear
//! map `u -> Jᵀ u`, and backward through *that* graph from a vector `v` gives `J v`, the tangent
//! (J. Domke's and the "double vjp" trick of M. Johnson, J. Townsend). Everything that is there
//! for backward is then there for forward: the rules have derivatives, because second derivatives
//! need them.
//!
//! The second pass is small, one rule and what that rule called, and only looks at nodes newer
//! than the moment it began: a node that is older cannot lead to `u`. So what lies behind the saved
//! tensors, which may be the graph of a whole program, is never visited, but the operations of the
//! pass are recorded if they depend on it.

use super::accumulate::{add_up, conform};
use super::arena::NodeRef;
use super::backward::apply;
use super::context::Context;
use super::masked::is_masked;
use super::mode::{self, Recording};
use super::node::{ACCUMULATOR_SEQ, Edge, Gradients, Op};
use crate::Result;
use crate::ops::{cast, view};
use crate::tensor::Tensor;
use smallvec::{SmallVec, smallvec};

/// Tangents of the outputs of an operation from those of its inputs, by its rule for backward.
pub(super) fn transpose(
    op: &dyn Op,
    ctx: &Context,
    tangents: &[Option<Tensor>],
    outputs: &[&Tensor],
) -> Result<Gradients> {
    let floor = mode::newest();
    let mut seeds: SmallVec<[Option<Tensor>; 2]> = SmallVec::new();
    let gradients = {
        let _on = Recording::new();
        for output in outputs {
            seeds.push(seed(output)?);
        }
        match ctx.without_inference_tensors()? {
            Some(ctx) => op.backward(&ctx, &seeds)?,
            None => op.backward(ctx, &seeds)?,
        }
    };
    let mut pass = Pass { floor, nodes: Vec::new(), sources: Vec::new() };
    for seed in &seeds {
        pass.sources.push(match seed {
            Some(seed) => seed.edge()?,
            None => None,
        });
    }
    let mut starts = Vec::new();
    for (gradient, tangent) in gradients.into_iter().zip(tangents) {
        let (Some(gradient), Some(tangent)) = (gradient, tangent) else { continue };
        let Some(edge) = gradient.edge()? else { continue };
        // The engine would have summed the gradient to the input's shape, and converted it.
        let mut tangent = cast::to_dtype(tangent, gradient.dtype())?;
        if tangent.shape() != gradient.shape() {
            tangent = view::expand_to(&tangent, gradient.shape())?;
        }
        starts.push((edge, tangent));
    }
    pass.run(starts, outputs.len())
}

/// Zeros in the shape of an output that require grad and take no memory.
fn seed(output: &Tensor) -> Result<Option<Tensor>> {
    if !output.dtype().is_floating() {
        return Ok(None);
    }
    let zero = Tensor::zeros(&[], output.dtype())?;
    let seed = view::expand_to(&zero, output.shape())?.detach();
    seed.set_requires_grad(true)?;
    Ok(Some(seed))
}

/// A node with the gradients that have arrived.
struct Visit {
    node: NodeRef,
    buffers: SmallVec<[Option<Tensor>; 1]>,
    /// Whether a source lies behind it.
    leads: bool,
}

struct Pass {
    floor: u64,
    nodes: Vec<Visit>,
    sources: Vec<Option<Edge>>,
}

impl Pass {
    /// Which source an edge leads to.
    fn source(&self, edge: &Edge) -> Option<usize> {
        self.sources.iter().position(|s| s.as_ref().is_some_and(|s| s.node == edge.node))
    }

    fn find(&self, node: &NodeRef) -> Option<usize> {
        self.nodes.iter().position(|v| v.node == *node)
    }

    /// Whether an edge leads to a source.
    fn leads(&self, edge: &Edge) -> bool {
        self.source(edge).is_some() || self.find(&edge.node).is_some_and(|i| self.nodes[i].leads)
    }

    /// Lists the new nodes behind some edges, newest first.
    fn discover(&mut self, starts: &[(Edge, Tensor)]) {
        let mut next: Vec<NodeRef> = starts.iter().map(|(e, _)| e.node.clone()).collect();
        while let Some(node) = next.pop() {
            let seq = node.sequence();
            if seq <= self.floor || seq == ACCUMULATOR_SEQ || self.find(&node).is_some() {
                continue;
            }
            next.extend(node.edges().iter().flatten().map(|e| e.node.clone()));
            let buffers = smallvec![None; node.outputs().len()];
            self.nodes.push(Visit { node, buffers, leads: false });
        }
        // Inputs are older than what they feed.
        self.nodes.sort_unstable_by_key(|v| v.node.sequence());
        for i in 0..self.nodes.len() {
            let node = self.nodes[i].node.clone();
            self.nodes[i].leads = node.edges().iter().flatten().any(|e| self.leads(e));
        }
    }

    fn run(&mut self, starts: Vec<(Edge, Tensor)>, outputs: usize) -> Result<Gradients> {
        self.discover(&starts);
        let mut results: Gradients = smallvec![None; outputs];
        for (edge, vector) in starts {
            self.add(&edge, vector, &mut results)?;
        }
        for i in (0..self.nodes.len()).rev() {
            let visit = &mut self.nodes[i];
            let buffers = std::mem::take(&mut visit.buffers);
            if !visit.leads || buffers.iter().all(Option::is_none) {
                continue;
            }
            let node = visit.node.clone();
            let needs = node.edges().iter().map(|e| e.as_ref().is_some_and(|e| self.leads(e)));
            let context = node.unpack(None, false, needs.collect())?;
            let gradients = apply(&node, &context, &buffers, is_masked())?;
            for (k, (gradient, edge)) in gradients.into_iter().zip(node.edges()).enumerate() {
                let (Some(gradient), Some(edge)) = (gradient, edge) else { continue };
                if self.leads(edge) {
                    let meta = &edge.node.outputs()[edge.output as usize];
                    let gradient = conform(gradient, meta, &node, k)?;
                    self.add(edge, gradient, &mut results)?;
                }
            }
        }
        Ok(results)
    }

    fn add(&mut self, edge: &Edge, vector: Tensor, results: &mut Gradients) -> Result<()> {
        let slot = match (self.source(edge), self.find(&edge.node)) {
            (Some(k), _) => &mut results[k],
            (None, Some(i)) => &mut self.nodes[i].buffers[edge.output as usize],
            (None, None) => return Ok(()),
        };
        *slot = Some(match slot.take() {
            None => vector,
            Some(sum) => add_up(sum, &vector)?,
        });
        Ok(())
    }
}
