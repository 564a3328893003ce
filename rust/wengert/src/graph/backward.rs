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

use super::accumulate::{add_up, conform};
use super::anomaly;
use super::arena::NodeRef;
use super::commit::{Arrival, Commit, Observers};
use super::hooks;
use super::inference::Modes;
use super::masked;
use super::mode::{self, GradMode};
use super::node::{Context, Edge, Gradients, Node, OutputMeta};
use super::point::{Point, Seeds, points, seed};
use super::saved::KeepHooks;
use super::site::Site;
use super::task::{self, At, Plan, Running};
use crate::batch;
use crate::kernels::{interrupt, threads};
use crate::profile;
use crate::tensor::{Tensor, WeakTensor};
use crate::{Error, Result, bail};
use smallvec::{SmallVec, smallvec};
use std::collections::BinaryHeap;
use std::mem::take;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::sync::OnceLock;
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

/// Nodes between two looks while a graph is only walked.
const FEW: usize = 1 << 16;

/// Runs a function while other threads may use the embedding language.
pub type Unlocked = fn(&mut (dyn FnMut() + Send));

static UNLOCKED: OnceLock<Unlocked> = OnceLock::new();

/// Installs how to run long rules while the embedding language goes on; the first one wins.
pub fn set_unlocked(unlocked: Unlocked) {
    let _ = UNLOCKED.set(unlocked);
}

fn unlocked<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let Some(unlocked) = UNLOCKED.get() else { return work() };
    let (mut work, mut result) = (Some(work), None);
    unlocked(&mut || result = work.take().map(|work| work()));
    result.expect("an embedding runs what it is given, once")
}

/// Elements from which a rule is worth that.
const LONG: usize = 1 << 18;

/// Does something between rules, which may have more to sum than they had: as rules run, if it is long.
fn freely<T: Send>(elements: usize, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    if elements >= LONG { unlocked(|| caught(work)) } else { work() }
}

/// [`conform`]: a sum may be much longer than the rule that left it to us.
fn conformed(gradient: Tensor, meta: &OutputMeta, node: &NodeRef, index: usize) -> Result<Tensor> {
    if gradient.dtype() == meta.dtype() && meta.has_shape(gradient.shape()) {
        return Ok(gradient);
    }
    freely(gradient.numel(), || conform(gradient, meta, node, index))
}

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

/// A rule with all it needs, ready to run on any thread.
struct Job {
    index: u32,
    node: NodeRef,
    context: Context,
    buffers: Buffers,
    masked: bool,
    result: Option<Result<Gradients>>,
}

/// units of `Op::work` from which a rule is worth a thread of its own: some ten times what waking
/// one costs.
const WORTH_A_THREAD: usize = 100_000;

/// How many of the ready nodes are looked at for something to run ahead.
const LOOK_AHEAD: usize = 32;

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

    /// Only the gradients of these are wanted.
    fn restrict(&mut self, inputs: &[Point]) -> Result<()> {
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
    fn find(&self, node: &NodeRef) -> Option<u32> {
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
    fn discover(&mut self, seeds: &[(Edge, Tensor)]) -> Result<()> {
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
    fn mark_needed(&mut self) -> Result<()> {
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

    /// Whether anything that was asked for lies behind an edge.
    fn wants(&self, edge: Option<&Edge>) -> bool {
        edge.is_some_and(|e| {
            !self.restricted || self.find(&e.node).is_some_and(|i| self.plan.needs(i))
        })
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

    /// If a long rule is to run and other long ones are ready, runs them all at the same time.
    fn run_ahead(&mut self, index: u32, node: &NodeRef, ready: &BinaryHeap<(u64, u32)>) {
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

    fn unpack(&self, node: &NodeRef) -> Result<Context> {
        let needs = node.edges().iter().map(|e| self.wants(e.as_ref())).collect();
        let is_root = self.find(node).is_some_and(|index| index < self.roots);
        node.unpack(self.frees(), is_root, needs)
    }

    /// The place of this pass, if it frees the graph.
    fn frees(&self) -> Option<Site> {
        (!self.options.retain_graph).then_some(self.site)
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

    /// Runs one node: its hooks, what is wanted of it, and its rule.
    fn step(&mut self, index: u32, node: &NodeRef) -> Result<Gradients> {
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

/// What the gradient along an edge must look like.
pub(super) fn meta_of(edge: &Edge) -> &OutputMeta {
    &edge.node.outputs()[edge.output as usize]
}

impl Job {
    fn run(&mut self) {
        self.result = Some(apply(&self.node, &self.context, &self.buffers, self.masked));
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

/// A node's turn, for those who record what runs.
#[inline]
fn turn(node: &Node, gradients: &[Option<Tensor>], prefix: &str) -> Option<Box<profile::Span>> {
    let name = || match node.op.leaf() {
        Some(_) => format!("{prefix}torch::autograd::{}", node.name()).into(),
        None => format!("{prefix}{}", node.name()).into(),
    };
    profile::span(profile::Category::Backward, name, |event, options| {
        event.sequence = node.op.leaf().is_none().then_some(node.seq);
        if options.shapes {
            event.shapes = gradients.iter().flatten().map(|g| g.shape().to_vec()).collect();
        }
        if options.sites {
            event.sites.push(node.site());
        }
    })
}

/// Calls a rule. Tensor algebra in rules reports errors by unwinding, see `ops::algebra`.
pub(super) fn apply(
    node: &Node,
    context: &Context,
    gradients: &[Option<Tensor>],
    masked: bool,
) -> Result<Gradients> {
    let _span = turn(node, gradients, "");
    caught(|| match masked {
        false => node.op.backward(context, gradients),
        true => masked::backward(&*node.op, context, gradients),
    })
}

/// Runs tensor algebra and catches the errors that it unwinds with.
pub(super) fn caught<R>(algebra: impl FnOnce() -> Result<R>) -> Result<R> {
    match catch_unwind(AssertUnwindSafe(algebra)) {
        Ok(result) => result,
        Err(payload) => match payload.downcast::<Error>() {
            Ok(error) => Err(*error),
            Err(other) => resume_unwind(other),
        },
    }
}
