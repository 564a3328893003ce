//! The end of a pass: gradients go into tensors.
//!
//! Everything that can fail is computed before the first `.grad` is written, so that a pass changes
//! all of them or none. Whoever observes the accumulation is told after the last is written.

use super::accumulate::own;
use super::arena::NodeRef;
use super::hooks::{self, PostHook, Snapshot};
use super::mode::{self, GradMode};
use super::task::At;
use crate::tensor::{LeafHooks, Tensor, WeakTensor};
use crate::{Result, ops};

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
    pub arrivals: Vec<Arrival>,
    /// Gradients of computed tensors that keep theirs.
    pub retained: Vec<(WeakTensor, Tensor)>,
}

impl Commit {
    /// Hands the gradients over.
    pub(super) fn run(self, create_graph: bool) -> Result<()> {
        let _mode = GradMode::new(create_graph);
        let tracking = mode::is_tracking();
        let mut writes: Vec<(Tensor, Tensor)> = Vec::new();
        let mut in_place: Vec<(Tensor, Tensor)> = Vec::new();
        let mut observed = Vec::new();
        let mut gradients = Vec::with_capacity(self.arrivals.len() + self.retained.len());
        for Arrival { leaf, gradient, observers } in self.arrivals {
            if let Some(observers) = observers {
                let seen = gradient.clone().filter(|_| !observers.post.is_empty());
                observed.push((leaf.clone(), seen, observers));
            }
            gradients.extend(gradient.map(|g| (leaf, g)));
        }
        gradients.extend(self.retained.into_iter().filter_map(|(t, g)| Some((t.upgrade()?, g))));
        for (tensor, gradient) in gradients {
            match tensor.grad() {
                None => {
                    let owned = if tracking { gradient } else { own(gradient)? };
                    writes.push((tensor, owned));
                }
                Some(old) if tracking || old.check_writable("add").is_err() => {
                    writes.push((tensor, ops::add(&old, &gradient)?));
                }
                Some(old) => in_place.push((old, gradient)),
            }
        }
        for (old, gradient) in in_place {
            ops::add_assign(&old, &gradient)?;
        }
        for (tensor, gradient) in writes {
            tensor.set_grad(Some(gradient));
        }
        for (leaf, gradient, observers) in observed {
            let Observers { leaf: hooks, node, post } = &*observers;
            let _at = At::node(node);
            hooks::accumulated(&hooks.accumulated, &leaf)?;
            hooks::post(post, node, &mut [], &mut [gradient])?;
        }
        Ok(())
    }
}
