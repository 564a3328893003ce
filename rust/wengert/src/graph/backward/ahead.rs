//! Long rules at the same time, on several threads.
//!
//! When the rule whose turn it is will take long, and others that wait for nothing will too, all of
//! them are computed at once, and what the others give is kept until their turn. A rule that runs ahead
//! sees the very gradients that it would see in its turn, as all have arrived; so bits do not depend on
//! whether it did. What hooks or Python code could notice does not run ahead.

use super::rule::{apply, unlocked};
use super::{Buffers, Pass};
use crate::Result;
use crate::graph::arena::NodeRef;
use crate::graph::context::Context;
use crate::graph::inference::Modes;
use crate::graph::node::Gradients;
use crate::graph::{anomaly, mode, task};
use crate::kernels::threads;
use crate::tensor::Tensor;
use smallvec::SmallVec;
use std::collections::BinaryHeap;

/// units of `Op::work` from which a rule is worth a thread of its own: some ten times what waking
/// one costs.
const WORTH_A_THREAD: usize = 100_000;

/// How many of the ready nodes are looked at for something to run ahead.
const LOOK_AHEAD: usize = 32;

/// A rule with all it needs, ready to run on any thread.
struct Job {
    index: u32,
    node: NodeRef,
    context: Context,
    buffers: Buffers,
    masked: bool,
    result: Option<Result<Gradients>>,
}

impl Job {
    fn run(&mut self) {
        self.result = Some(apply(&self.node, &self.context, &self.buffers, self.masked));
    }
}

impl Pass {
    /// If a long rule is to run and other long ones are ready, runs them all at the same time.
    pub(super) fn run_ahead(&mut self, index: u32, node: &NodeRef, ready: &BinaryHeap<(u64, u32)>) {
        // Tangents and examples belong to levels of this thread.
        let serial = self.options.create_graph
            || self.batched
            || mode::is_forward()
            || !task::is_multithreading_enabled()
            || anomaly::is_enabled();
        if ready.is_empty() || serial || self.work(index, node) < WORTH_A_THREAD {
            return;
        }
        let others: SmallVec<[u32; 8]> = ready
            .iter()
            .take(LOOK_AHEAD)
            .map(|(_, i)| *i)
            .filter(|&i| self.work(i, &self.visits[i as usize].node) >= WORTH_A_THREAD)
            .take(threads::num_threads() - 1)
            .collect();
        if others.is_empty() {
            return;
        }
        let mut jobs = Vec::with_capacity(others.len() + 1);
        for i in std::iter::once(index).chain(others) {
            let node = self.visits[i as usize].node.clone();
            match self.unpack(&node) {
                Ok(context) => {
                    let buffers = std::mem::take(&mut self.visits[i as usize].buffers);
                    let masked = self.masked;
                    jobs.push(Job { index: i, node, context, buffers, masked, result: None });
                }
                Err(error) => self.visits[i as usize].early = Some(Box::new(Err(error))),
            }
        }
        let modes = Modes::current();
        unlocked(|| {
            threads::scope(|scope| {
                let mut jobs = jobs.iter_mut();
                let own = jobs.next();
                for job in jobs {
                    scope.spawn(move || {
                        let _modes = modes.hold();
                        job.run();
                    });
                }
                if let Some(job) = own {
                    job.run();
                }
            });
        });
        for job in jobs {
            self.visits[job.index as usize].early = job.result.map(Box::new);
        }
    }

    /// How long a node's rule will take, or 0 if it must not run ahead of its turn.
    fn work(&self, index: u32, node: &NodeRef) -> usize {
        let visit = &self.visits[index as usize];
        let gradients: usize = visit.buffers.iter().flatten().map(Tensor::numel).sum();
        if gradients == 0
            || visit.early.is_some()
            || !self.plan.needs(index)
            || node.op.leaf().is_some()
            || node.op.needs_calling_thread()
            || self.wanted.iter().any(|(e, _)| e.node == *node)
        {
            return 0;
        }
        let state = node.state.lock();
        if state.hooks.as_ref().is_some_and(|h| !h.is_passive()) {
            return 0;
        }
        let saved: usize = state.saved.iter().flat_map(|s| &s.tensor).map(Tensor::numel).sum();
        node.op.work(gradients + saved)
    }
}
