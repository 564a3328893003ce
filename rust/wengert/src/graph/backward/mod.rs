//! The scheduler: from gradients of the outputs to gradients of the leaves.
//!
//! 1. **Discover.** A work list from the roots counts, for each reachable node, how many
//!    gradients it must wait for. Nodes are numbered in the order they are found; the number is
//!    kept in a scratch word of the node's slot, stamped with this pass's own id, so that nothing
//!    is hashed. A slot that another thread's pass has stamped falls back to a map.
//! 2. **Run.** Of the nodes that wait for nothing, the newest runs next (largest sequence number;
//!    accumulators of leaves first). For one thread that is the exact reverse of the forward
//!    order. Contributions to one gradient are added in the order in which they arrive, which
//!    therefore depends on the graph alone.
//! 3. **Commit.** Leaves get their gradients only after every rule and every hook on the way has
//!    succeeded, so that a failing backward changes no `.grad`. What observes the accumulation
//!    itself (`LeafHook`, post-hooks of accumulators) runs after the last gradient was written: if
//!    it fails, the gradients stay, as the pass was complete.
//!
//! The first contribution to a gradient is borrowed, the second allocates the sum, later ones are
//! added in place: the scheduler owns the accumulator if nobody else holds it.
//!
//! Independent branches run in parallel where it pays: when a rule is long and other long rules
//! are ready, those are computed at the same time on other threads. Their results are *kept* until
//! their turn in the serial order comes, so that gradients are added in that order and have the
//! same bits for any number of threads. Rules that call into Python, nodes with hooks and recorded
//! passes stay on the calling thread.
//!
//! Nothing recurses over the graph, and no lock is held while a rule or a hook runs.
//!
//! The pass and its walk are here. `discover` is step 1, `turn` what happens to one node, `ahead` what
//! runs before its turn on other threads, [`rule`] how a rule is called at all.

mod ahead;
mod discover;
mod rule;
mod turn;

pub use rule::{Unlocked, set_unlocked};
pub(super) use rule::{apply, caught, meta_of};

use super::accumulate::add_up;
use super::anomaly;
use super::arena::NodeRef;
use super::commit::{Arrival, Commit};
use super::masked;
use super::mode::GradMode;
use super::node::{Edge, Gradients};
use super::point::{Point, Seeds, points, seed};
use super::saved::KeepHooks;
use super::site::Site;
use super::task::{Plan, Running};
use crate::Result;
use crate::batch;
use crate::kernels::interrupt;
use crate::tensor::{Tensor, WeakTensor};
use rule::{conformed, freely};
use smallvec::SmallVec;
use std::collections::BinaryHeap;
use std::mem::take;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};

/// How a backward pass is to run.
#[derive(Clone, Copy, Default)]
pub struct Backward {
    /// Keep saved tensors, so that the graph can be walked again. Whoever records the pass mostly
    /// wants that, too.
    pub retain_graph: bool,
    /// Record the pass itself, for derivatives of the gradients.
    pub create_graph: bool,
}

/// Accumulates the gradients of `roots` into the leaves they were computed from, or, with
/// `inputs`, into those tensors only.
///
/// `gradients[i]` is the vector of the vector-Jacobian product for `roots[i]`; it may be left
/// out for a root with one element, where it is 1.
///
/// ```
/// use wengert::{Tensor, graph};
/// let x = Tensor::from_slice(&[3.0f64], &[1]).unwrap();
/// x.set_requires_grad(true).unwrap();
/// let y = &x * &x;
/// graph::backward(&[y], &[None], None, Default::default()).unwrap();
/// assert_eq!(x.grad().unwrap().to_vec::<f64>().unwrap(), [6.0]);
/// ```
pub fn backward(
    roots: &[Tensor],
    gradients: &[Option<Tensor>],
    inputs: Option<&[Tensor]>,
    options: Backward,
) -> Result<()> {
    backward_at(&points(roots), gradients, inputs.map(points).as_deref(), options)
}

/// [`backward`] between tensors or edges.
pub fn backward_at(
    roots: &[Point],
    gradients: &[Option<Tensor>],
    inputs: Option<&[Point]>,
    options: Backward,
) -> Result<()> {
    let mut pass = Pass::new(options);
    pass.accumulate = true;
    let seeds = seed(roots, gradients)?;
    if let Some(inputs) = inputs {
        pass.restrict(inputs)?;
        for input in inputs {
            if let Point::Tensor(t) = input {
                t.retain_grad()?;
            }
        }
    }
    pass.run(seeds)
}

/// Gradients of `outputs` with respect to `inputs`, without touching the `.grad` of a leaf. An entry
/// is `None` if the outputs do not depend on that input.
pub fn grad(
    outputs: &[Tensor],
    grad_outputs: &[Option<Tensor>],
    inputs: &[Tensor],
    options: Backward,
) -> Result<Vec<Option<Tensor>>> {
    grad_at(&points(outputs), grad_outputs, &points(inputs), options)
}

/// [`grad`] between tensors or edges.
pub fn grad_at(
    outputs: &[Point],
    grad_outputs: &[Option<Tensor>],
    inputs: &[Point],
    options: Backward,
) -> Result<Vec<Option<Tensor>>> {
    let mut pass = Pass::new(options);
    let seeds = seed(outputs, grad_outputs)?;
    pass.restrict(inputs)?;
    pass.run(seeds)?;
    Ok(std::mem::take(&mut pass.captured))
}

/// Installs a check that long passes and long loops make now and then; an error stops them (Ctrl-C).
pub fn set_interrupt_check(check: fn() -> Result<()>) {
    interrupt::set_check(check);
}

/// What a pass does between two looks, in elements; a node counts as [`NODE`].
const STRETCH: usize = 1 << 20;
const NODE: usize = 1 << 10;

/// One gradient slot per output of a node.
type Buffers = SmallVec<[Option<Tensor>; 1]>;

struct Visit {
    node: NodeRef,
    /// How many gradients are still to come.
    waiting: u32,
    buffers: Buffers,
    /// What the rule gave, if it ran ahead of its turn, which few do: a pass has one of these per node.
    early: Option<Box<Result<Gradients>>>,
}

struct Pass {
    options: Backward,
    /// Where it was asked for.
    site: Site,
    plan: Rc<Plan>,
    /// There once the pass has called code that may ask about it.
    running: Option<Running>,
    visits: Vec<Visit>,
    /// How many of the visits, the first ones, the pass begins with.
    roots: u32,
    /// (visit, output, position in `captured`).
    wanted: Vec<(Edge, usize)>,
    restricted: bool,
    accumulate: bool,
    /// Whether gradients are masked.
    masked: bool,
    captured: Vec<Option<Tensor>>,
    leaves: SmallVec<[Arrival; 2]>,
    retained: Vec<(WeakTensor, Tensor)>,
    /// Elements since the last look at interrupts.
    done: usize,
    /// Whether gradients may be batched tensors.
    batched: bool,
}

static PASSES: AtomicU32 = AtomicU32::new(1);

impl Pass {
    fn new(options: Backward) -> Pass {
        let id = PASSES.fetch_add(1, Ordering::Relaxed).max(1);
        Pass {
            options,
            site: Site::here(),
            plan: Rc::new(Plan { id, ..Plan::default() }),
            running: None,
            visits: Vec::new(),
            roots: 0,
            wanted: Vec::new(),
            restricted: false,
            accumulate: false,
            masked: masked::is_masked(),
            captured: Vec::new(),
            leaves: SmallVec::new(),
            retained: Vec::new(),
            done: 0,
            batched: false,
        }
    }

    /// The whole pass.
    fn run(&mut self, seeds: Seeds) -> Result<()> {
        // Hooks for saved tensors that are entered or left meanwhile, in a hook, are so until here.
        let _hooks = KeepHooks::new();
        self.batched = batch::active() && seeds.iter().any(|(_, g)| g.is_batched());
        self.discover(&seeds)?;
        self.mark_needed()?;
        self.walk(seeds)?;
        let commit =
            Commit { arrivals: take(&mut self.leaves), retained: take(&mut self.retained) };
        commit.run(self.options.create_graph)?;
        self.running.take().map_or(Ok(()), Running::finish)
    }

    /// Runs every node that is needed, newest first.
    fn walk(&mut self, seeds: Seeds) -> Result<()> {
        let _mode = GradMode::new(self.options.create_graph);
        for (edge, gradient) in seeds {
            let index = self.find(&edge.node).expect("roots were visited");
            self.add(index, edge.output, gradient)?;
        }
        let mut ready: BinaryHeap<(u64, u32)> = BinaryHeap::new();
        for (i, visit) in self.visits.iter().enumerate() {
            if visit.waiting == 0 {
                ready.push((visit.node.seq, i as u32));
            }
        }
        while let Some((_, index)) = ready.pop() {
            self.done += NODE;
            if self.done >= STRETCH {
                self.done = 0;
                interrupt::check()?;
            }
            let node = self.visits[index as usize].node.clone();
            self.run_ahead(index, &node, &ready);
            let ran = match self.visits[index as usize].early.take() {
                Some(early) => *early,
                None => self.step(index, &node),
            };
            let gradients = match ran {
                Ok(gradients) if !anomaly::is_enabled() => gradients,
                ran => anomaly::examine(&node, ran)?,
            };
            for (k, edge) in node.edges().iter().enumerate() {
                let Some(edge) = edge else { continue };
                let target = self.find(&edge.node).expect("inputs were visited");
                if let Some(gradient) = gradients.get(k).cloned().flatten()
                    && self.plan.needs(target)
                {
                    let meta = &edge.node.outputs()[edge.output as usize];
                    let gradient = conformed(gradient, meta, &node, k)?;
                    self.add(target, edge.output, gradient)?;
                }
                let visit = &mut self.visits[target as usize];
                visit.waiting -= 1;
                if visit.waiting == 0 {
                    ready.push((visit.node.seq, target));
                }
            }
        }
        Ok(())
    }

    /// Adds a contribution to a gradient slot.
    fn add(&mut self, index: u32, output: u32, gradient: Tensor) -> Result<()> {
        let slot = &mut self.visits[index as usize].buffers[output as usize];
        *slot = Some(match slot.take() {
            None => gradient,
            Some(sum) => {
                self.done += sum.numel();
                freely(sum.numel(), || add_up(sum, &gradient))?
            }
        });
        Ok(())
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        for (i, visit) in self.visits.iter().enumerate() {
            let stamp = self.plan.stamp(i as u32);
            let scratch = &visit.node.slot().scratch;
            let _ = scratch.compare_exchange(stamp, 0, Ordering::Relaxed, Ordering::Relaxed);
        }
    }
}
