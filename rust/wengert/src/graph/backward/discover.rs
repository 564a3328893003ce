//! What a pass will run: numbers for the nodes behind the roots, how many gradients each waits for, and
//! which of them lie on the way to what was asked for.
//!
//! A node's number lies in its slot, or, where a pass of another thread has put its own there, in a map
//! of the [`Plan`]. All is fixed before the first rule runs, so that hooks may be shown the plan.

use super::{Pass, Visit};
use crate::graph::arena::NodeRef;
use crate::graph::node::Edge;
use crate::graph::point::Point;
use crate::graph::task::Plan;
use crate::kernels::interrupt;
use crate::tensor::Tensor;
use crate::{Result, bail};
use smallvec::smallvec;
use std::rc::Rc;
use std::sync::atomic::Ordering;

/// Nodes between two looks while a graph is only walked.
const FEW: usize = 1 << 16;

impl Pass {
    /// Only the gradients of these are wanted.
    pub(super) fn restrict(&mut self, inputs: &[Point]) -> Result<()> {
        self.restricted = true;
        for (i, input) in inputs.iter().enumerate() {
            let Some(edge) = input.edge()? else {
                bail!(Grad, "", "One of the differentiated Tensors does not require grad");
            };
            self.wanted.push((edge, i));
            self.captured.push(None);
        }
        Ok(())
    }

    /// The number of a node in this pass, if it has one.
    pub(super) fn find(&self, node: &NodeRef) -> Option<u32> {
        self.plan.find(node)
    }

    /// The plan while it is being made.
    fn draft(&mut self) -> &mut Plan {
        Rc::get_mut(&mut self.plan).expect("nobody is shown a plan before it is made")
    }

    /// The number of a node, which is given one if it has none; and whether it is new.
    fn visit(&mut self, node: &NodeRef) -> (u32, bool) {
        if let Some(index) = self.find(node) {
            return (index, false);
        }
        let index = self.visits.len() as u32;
        let stamp = self.plan.stamp(index);
        let free =
            node.slot().scratch.compare_exchange(0, stamp, Ordering::Relaxed, Ordering::Relaxed);
        if free.is_err() {
            self.draft().elsewhere.insert(node.address(), index);
        }
        self.visits.push(Visit {
            node: node.clone(),
            waiting: 0,
            buffers: smallvec![None; node.outputs().len()],
            early: None,
        });
        (index, true)
    }

    /// Numbers every node behind the roots and counts what each waits for.
    pub(super) fn discover(&mut self, seeds: &[(Edge, Tensor)]) -> Result<()> {
        for (edge, _) in seeds {
            self.visit(&edge.node);
        }
        self.roots = self.visits.len() as u32;
        let mut next = 0;
        while next < self.visits.len() {
            let node = self.visits[next].node.clone();
            for edge in node.edges().iter().flatten() {
                let (index, _) = self.visit(&edge.node);
                self.visits[index as usize].waiting += 1;
            }
            next += 1;
            if next % FEW == 0 {
                interrupt::check()?;
            }
        }
        Ok(())
    }

    /// Marks what lies on a path to a wanted tensor. Inputs are older than what they feed, so one
    /// sweep from old to new suffices.
    pub(super) fn mark_needed(&mut self) -> Result<()> {
        if !self.restricted {
            return Ok(());
        }
        let mut needed = vec![false; self.visits.len()];
        for (edge, _) in &self.wanted {
            if let Some(i) = self.find(&edge.node) {
                needed[i as usize] = true;
            }
        }
        let mut order: Vec<u32> = (0..self.visits.len() as u32).collect();
        order.sort_unstable_by_key(|&i| self.visits[i as usize].node.seq);
        for (swept, i) in order.into_iter().enumerate() {
            if swept % FEW == FEW - 1 {
                interrupt::check()?;
            }
            needed[i as usize] |= self.visits[i as usize]
                .node
                .edges()
                .iter()
                .flatten()
                .any(|edge| self.find(&edge.node).is_some_and(|j| needed[j as usize]));
        }
        self.draft().needed = Some(needed);
        Ok(())
    }

    /// Whether anything that was asked for lies behind an edge.
    pub(super) fn wants(&self, edge: Option<&Edge>) -> bool {
        edge.is_some_and(|e| {
            !self.restricted || self.find(&e.node).is_some_and(|i| self.plan.needs(i))
        })
    }
}
