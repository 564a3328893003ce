//! A node's turn: its hooks, what the pass wants of it, and its rule.
//!
//! The order is PyTorch's: hooks on outputs, in which `.grad` of computed tensors is kept as well; what
//! `grad` was asked for; pre-hooks; the rule; post-hooks. A leaf's gradient waits for the commit.

use super::rule::{LONG, apply, conformed, meta_of, turn, unlocked};
use super::{Buffers, Pass};
use crate::graph::arena::NodeRef;
use crate::graph::commit::{Arrival, Observers};
use crate::graph::context::Context;
use crate::graph::node::Gradients;
use crate::graph::site::Site;
use crate::graph::task::{At, Running};
use crate::graph::{anomaly, hooks};
use crate::tensor::Tensor;
use crate::{Result, batch};
use smallvec::smallvec;

impl Pass {
    /// Runs one node: its hooks, what is wanted of it, and its rule.
    pub(super) fn step(&mut self, index: u32, node: &NodeRef) -> Result<Gradients> {
        let mut buffers = std::mem::take(&mut self.visits[index as usize].buffers);
        let _span = turn(node, &buffers, "autograd::engine::evaluate_function: ");
        if !self.plan.needs(index) {
            return Ok(smallvec![None; node.edges().len()]);
        }
        let (observed, rare) = {
            let state = node.state.lock();
            (state.hooks.as_ref().is_some_and(|h| h.is_observed()), state.hooks.is_some())
        };
        let calls_out = rare || node.op.needs_calling_thread() || anomaly::is_enabled();
        let _at = calls_out.then(|| self.at(node));
        if let Some(leaf) = node.op.leaf() {
            self.reach_leaf(node, leaf, observed, &mut buffers)?;
            return Ok(Gradients::new());
        }
        if observed {
            hooks::before(node, &mut buffers, |t, g| {
                // One example's gradient is not the tensor's.
                if !g.is_batched() {
                    self.retained.push((t, g));
                }
            })?;
        }
        self.capture(node, &buffers);
        // A pass that accumulates runs the rules of what it was asked for, as PyTorch does.
        let beyond = !self.restricted
            || (self.accumulate && self.is_wanted(node))
            || node.edges().iter().any(|e| self.wants(e.as_ref()));
        if !beyond {
            return Ok(smallvec![None; node.edges().len()]);
        }
        if observed {
            hooks::pre(node, &mut buffers)?;
        }
        let gradients = self.rule(node, &buffers)?;
        if !rare {
            return Ok(gradients);
        }
        if !observed {
            // Post-hooks that the rule's own unpack hooks registered did not see what arrived.
            buffers.fill(None);
        }
        self.post_hooks(node, gradients, &mut buffers)
    }

    fn rule(&mut self, node: &NodeRef, buffers: &Buffers) -> Result<Gradients> {
        let fetches = node.op.fetches_saved();
        if !fetches && buffers.iter().all(Option::is_none) {
            return Ok(smallvec![None; node.edges().len()]);
        }
        let context = self.unpack(node)?;
        if self.batched {
            let elements = buffers.iter().flatten().map(Tensor::numel_of_all).sum::<usize>();
            self.done += elements;
            let masked = self.masked;
            let all = || batch::each::rule(buffers, |one| apply(node, &context, one, masked));
            let long = elements >= LONG && !node.op.needs_calling_thread();
            let gradients = if long { unlocked(all) } else { all() }?;
            if fetches && let Some(site) = self.frees() {
                node.free_saved(site);
            }
            return Ok(gradients);
        }
        let gradients: usize = buffers.iter().flatten().map(Tensor::numel).sum();
        let elements = gradients + context.elements();
        self.done += elements;
        if elements >= LONG && !node.op.needs_calling_thread() {
            return unlocked(|| apply(node, &context, buffers, self.masked));
        }
        let gradients = apply(node, &context, buffers, self.masked)?;
        if fetches && let Some(site) = self.frees() {
            node.free_saved(site);
        }
        Ok(gradients)
    }

    pub(super) fn unpack(&self, node: &NodeRef) -> Result<Context> {
        let needs = node.edges().iter().map(|e| self.wants(e.as_ref())).collect();
        let is_root = self.find(node).is_some_and(|index| index < self.roots);
        node.unpack(self.frees(), is_root, needs)
    }

    /// The place of this pass, if it frees the graph.
    fn frees(&self) -> Option<Site> {
        (!self.options.retain_graph).then_some(self.site)
    }

    /// What the post-hooks of a node make of the gradients of its rule.
    fn post_hooks(
        &mut self,
        node: &NodeRef,
        mut gradients: Gradients,
        buffers: &mut Buffers,
    ) -> Result<Gradients> {
        let hooks = hooks::post_hooks(node);
        if hooks.is_empty() {
            return Ok(gradients);
        }
        gradients.resize(node.edges().len(), None);
        for (k, edge) in node.edges().iter().enumerate() {
            gradients[k] = match (gradients[k].take(), edge) {
                (Some(gradient), Some(edge)) if self.wants(Some(edge)) => {
                    Some(conformed(gradient, meta_of(edge), node, k)?)
                }
                _ => None,
            };
        }
        hooks::post(&hooks, node, &mut gradients, buffers)?;
        Ok(gradients)
    }

    /// Code of the embedding program is about to be called on behalf of a node.
    fn at(&mut self, node: &NodeRef) -> At {
        self.running.get_or_insert_with(|| Running::begin(self.plan.clone()));
        At::node(node)
    }

    fn is_wanted(&self, node: &NodeRef) -> bool {
        self.wanted.iter().any(|(edge, _)| edge.node == *node)
    }

    fn capture(&mut self, node: &NodeRef, buffers: &Buffers) {
        for (edge, at) in &self.wanted {
            if edge.node == *node {
                self.captured[*at] = buffers[edge.output as usize].clone();
            }
        }
    }

    fn reach_leaf(
        &mut self,
        node: &NodeRef,
        leaf: &Tensor,
        observed: bool,
        buffers: &mut Buffers,
    ) -> Result<()> {
        let (leaf, hooks) = leaf.arrive();
        if let Some(hooks) = &hooks {
            let _at = self.at(node);
            hooks::at_leaf(&hooks.tensor, &mut buffers[0], &node.outputs()[0])?;
        }
        if !self.accumulate {
            self.capture(node, buffers);
            return Ok(());
        }
        let mut observers = None;
        if observed {
            hooks::pre(node, buffers)?;
        }
        if observed || hooks.is_some() {
            observers = Some(Box::new(Observers {
                leaf: hooks.unwrap_or_default(),
                node: node.clone(),
                post: hooks::post_hooks(node),
            }));
        }
        self.leaves.push(Arrival { leaf, gradient: buffers[0].take(), observers });
        Ok(())
    }
}
