//! The end of a pass: gradients go into tensors.
//!
//! Everything that can fail is computed before the first `.grad` is written, so that a pass changes
//! all of them or none. Whoever observes the accumulation is told after the last is written.
//!
//! The rules of `.grad` are PyTorch's:
//!
//! * The first gradient of a leaf is *taken over* if nobody else has it and it is laid out like the
//!   leaf; else it is copied. A leaf without gaps gives its gradient its own strides, any other gets
//!   a row-major one.
//! * A later one is added in place, so `.grad` stays the same tensor with the strides it has; under
//!   `create_graph` a new tensor takes its place, because the old one may be part of a graph.
//! * The gradient that a computed tensor keeps (`retain_grad`) is a new tensor each time.
//!
//! Passes of several threads may end in one leaf. From reading the first `.grad` to writing the last
//! one a pass has the [`COMMIT`] lock, so that each gradient is counted; what is replaced is dropped
//! after the lock. Ctrl-C waits until all is written.

use super::accumulate::{own, taken_over};
use super::arena::NodeRef;
use super::fork::{self, lock};
use super::hooks::{self, PostHook, Snapshot};
use super::mode::{self, GradMode, is_grad_enabled};
use super::task::At;
use crate::kernels::interrupt::Interruptible;
use crate::tensor::{LeafHooks, Tensor, WeakTensor};
use crate::{Result, ops};
use smallvec::SmallVec;
use std::sync::{Mutex, MutexGuard};

/// A gradient at its leaf, with whoever waits for its accumulation.
pub(super) struct Arrival {
    pub leaf: Tensor,
    pub gradient: Option<Tensor>,
    pub observers: Option<Box<Observers>>,
}

pub(super) struct Observers {
    pub leaf: Box<LeafHooks>,
    pub node: NodeRef,
    pub post: Snapshot<PostHook>,
}

/// What a pass has found out and not yet written.
pub(super) struct Commit {
    pub arrivals: SmallVec<[Arrival; 2]>,
    /// Gradients of computed tensors that keep theirs.
    pub retained: Vec<(WeakTensor, Tensor)>,
}

/// Held while gradients are written.
static COMMIT: Mutex<()> = Mutex::new(());

/// The lock, taken for a fork.
pub(super) type Held = MutexGuard<'static, ()>;

/// Takes the lock, for a fork.
pub(super) fn hold() -> Held {
    lock(&COMMIT)
}

/// What is to happen to a tensor's `.grad`.
enum Write {
    /// Another tensor takes its place.
    Replace(Tensor, Tensor),
    /// Something is added to it in place.
    Add(Tensor, Tensor),
}

impl Commit {
    /// Hands the gradients over.
    pub(super) fn run(self, create_graph: bool) -> Result<()> {
        let _mode = GradMode::new(create_graph);
        let mut observed = Vec::new();
        let mut gradients = Arrived::new();
        for Arrival { leaf, gradient, observers } in self.arrivals {
            if let Some(observers) = observers {
                // A first gradient is taken over as if nobody watched: post-hooks then see the memory
                // of `.grad`, with what hooks before them wrote to it.
                let first = gradient.is_some() && !create_graph && leaf.grad().is_none();
                let seen = gradient.clone().filter(|_| !first && !observers.post.is_empty());
                observed.push((leaf.clone(), seen, first, observers));
            }
            if let Some(gradient) = gradient {
                gradients.push((leaf, gradient, true));
            }
        }
        for (tensor, gradient) in self.retained {
            if let Some(tensor) = tensor.upgrade() {
                gradients.push((tensor, gradient, false));
            }
        }
        write(gradients)?;
        for (leaf, mut gradient, first, observers) in observed {
            let Observers { leaf: hooks, node, post } = &*observers;
            let _at = At::node(node);
            if first && !post.is_empty() {
                gradient = leaf.grad().map(|g| g.detach());
            }
            hooks::accumulated(&hooks.accumulated, &leaf)?;
            hooks::post(post, node, &mut [], &mut [gradient])?;
        }
        Ok(())
    }
}

/// Tensors with their gradients, and whether they are leaves.
type Arrived = SmallVec<[(Tensor, Tensor, bool); 2]>;

/// Writes gradients, each of a leaf or of a computed tensor.
fn write(gradients: Arrived) -> Result<()> {
    if gradients.is_empty() {
        return Ok(());
    }
    fork::install();
    let tracking = is_grad_enabled() || mode::is_forward();
    let mut retired = SmallVec::<[Tensor; 4]>::new();
    let mut writes = SmallVec::<[Write; 2]>::new();
    {
        let _lock = lock(&COMMIT);
        let _whole = Interruptible::new(false);
        for (tensor, gradient, is_leaf) in gradients {
            writes.push(match tensor.grad() {
                None if is_leaf => {
                    let owned = taken_over(gradient, &tensor)?;
                    Write::Replace(tensor, owned)
                }
                None if tracking => Write::Replace(tensor, gradient),
                None => Write::Replace(tensor, own(gradient)?),
                Some(old) if tracking || !is_leaf || old.check_writable("add").is_err() => {
                    let sum = ops::add(&old, &gradient)?;
                    retired.push(old);
                    retired.push(gradient);
                    Write::Replace(tensor, sum)
                }
                Some(old) => Write::Add(old, gradient),
            });
        }
        for write in &writes {
            if let Write::Add(old, gradient) = write {
                ops::add_assign(old, gradient)?;
            }
        }
        for write in writes {
            match write {
                Write::Add(old, gradient) => {
                    retired.push(old);
                    retired.push(gradient);
                }
                Write::Replace(tensor, gradient) => {
                    if let Some(old) = tensor.swap_grad(Some(gradient)) {
                        retired.push(old);
                    }
                    retired.push(tensor);
                }
            }
        }
    }
    drop(retired);
    Ok(())
}
