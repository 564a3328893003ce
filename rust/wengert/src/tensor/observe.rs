//! Hooks on tensors: those of a computed tensor live in the node that made it, those of a leaf in
//! the leaf. See [`hooks`](crate::graph::hooks).

use super::*;
use crate::graph::garbage::Owned;

impl Tensor {
    /// Adds an observer of this tensor's gradient.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use wengert::{Tensor, graph::{self, Hook}, ops};
    /// let x = Tensor::from_slice(&[3.0f64], &[1]).unwrap();
    /// x.set_requires_grad(true).unwrap();
    /// let handle = x.register_hook(Hook::new(Arc::new(|g: Option<&Tensor>| {
    ///     g.map(|g| ops::add(g, g)).transpose()
    /// })))?;
    /// graph::backward(&[&x * &x], &[None], None, Default::default())?;
    /// assert_eq!(x.grad().unwrap().to_vec::<f64>().unwrap(), [12.0]);
    /// handle.remove();
    /// # Ok::<(), wengert::Error>(())
    /// ```
    ///
    /// # Errors
    /// If the tensor does not require grad.
    pub fn register_hook(&self, hook: Hook<TensorHook>) -> Result<HookHandle> {
        if !self.requires_grad() {
            bail!(Grad, "", "cannot register a hook on a tensor that doesn't require gradient");
        }
        let id = hook.id();
        if let Some(edge) = self.grad_fn() {
            edge.node.add_tensor_hook(edge.output, hook);
            return Ok(HookHandle::Node(edge.node.downgrade(), id));
        }
        self.0.autograd.lock().rare.get_or_insert_default().hooks.push((), hook);
        Ok(HookHandle::Leaf(self.downgrade(), id))
    }

    /// Adds an observer of the accumulation of gradients into this leaf.
    ///
    /// # Errors
    /// If the tensor is no leaf or does not require grad.
    pub fn register_leaf_hook(&self, hook: Hook<LeafHook>) -> Result<HookHandle> {
        if !self.requires_grad() {
            bail!(Grad, "", "cannot register a hook on a tensor that doesn't require gradient");
        }
        if self.grad_fn().is_some() {
            bail!(Grad, "", "post accumulate grad hooks cannot be registered on non-leaf tensors");
        }
        let id = hook.id();
        self.0.autograd.lock().rare.get_or_insert_default().accumulated.push((), hook);
        Ok(HookHandle::Leaf(self.downgrade(), id))
    }

    /// The first host, of the hooks on this tensor's gradient, for which `found` gives something.
    pub fn hook_host<T>(&self, found: impl FnMut(&Host) -> Option<T>) -> Option<T> {
        if let Some(edge) = self.grad_fn() {
            return edge.node.tensor_host(edge.output, found);
        }
        let autograd = self.0.autograd.lock();
        autograd.rare.as_ref()?.hooks.hosts().map(|(_, host)| host).find_map(found)
    }

    /// The same for the observers of accumulation.
    pub fn leaf_hook_host<T>(&self, found: impl FnMut(&Host) -> Option<T>) -> Option<T> {
        let autograd = self.0.autograd.lock();
        autograd.rare.as_ref()?.accumulated.hosts().map(|(_, host)| host).find_map(found)
    }

    /// Shows all objects of the embedding language that this tensor's own hooks keep alive; those
    /// of its node are the node's. `visit` runs under the tensor's lock and must not call back.
    pub fn hosts(&self, mut visit: impl FnMut(&(dyn std::any::Any + Send + Sync))) {
        let autograd = self.0.autograd.lock();
        let Some(rare) = &autograd.rare else { return };
        rare.hooks.hosts().for_each(|(_, host)| visit(&**host));
        rare.accumulated.hosts().for_each(|(_, host)| visit(&**host));
    }

    /// Shows everything that this tensor owns, for [`garbage`](crate::graph::garbage). `visit` runs
    /// under the tensor's lock and only makes notes.
    pub(crate) fn owned(&self, visit: &mut dyn FnMut(Owned<'_>)) {
        {
            let autograd = self.0.autograd.lock();
            autograd.edge.iter().for_each(|edge| visit(Owned::Node(&edge.node)));
            autograd.base.iter().for_each(|base| visit(Owned::Tensor(base)));
            let gradient = autograd.rare.as_ref().and_then(|rare| rare.grad.as_ref());
            gradient.into_iter().for_each(|gradient| visit(Owned::Tensor(gradient)));
        }
        self.hosts(|host| visit(Owned::Host(host)));
    }

    /// Lets go of history and gradient, when nobody can reach this tensor any more.
    pub(crate) fn retire(&self) -> (Option<Edge>, Option<Tensor>) {
        let mut autograd = self.0.autograd.lock();
        (autograd.edge.take(), autograd.rare.as_mut().and_then(|rare| rare.grad.take()))
    }

    /// Whether this tensor may own itself: by a gradient with a history, which ends where the tensor's
    /// own begins; or by a history that a write gave it, if that leads to an operation which had saved
    /// the tensor before.
    pub fn may_own_itself(&self) -> bool {
        if !self.0.requires_grad.load(Ordering::Relaxed) {
            return false;
        }
        let autograd = self.0.autograd.lock();
        let gradient = autograd.rare.as_ref().and_then(|rare| rare.grad.as_ref());
        self.0.rebased.load(Ordering::Relaxed) > 0
            || gradient.is_some_and(|gradient| gradient.0.requires_grad.load(Ordering::Relaxed))
    }

    /// Who stands for this leaf now (see [`Tensor::with_data`]), and who observes it.
    pub(crate) fn arrive(&self) -> (Tensor, Option<Box<LeafHooks>>) {
        let heir = {
            let autograd = self.0.autograd.lock();
            let heir = autograd.rare.as_ref().and_then(|rare| rare.heir.clone());
            let Some(heir) = heir else { return (self.clone(), observers(&autograd)) };
            heir
        };
        let now = heir.lock().upgrade().unwrap_or_else(|| self.clone());
        let hooks = observers(&now.0.autograd.lock());
        (now, hooks)
    }
}

/// The hooks of a leaf, copied.
#[derive(Default)]
pub(crate) struct LeafHooks {
    pub tensor: Snapshot<TensorHook>,
    pub accumulated: Snapshot<LeafHook>,
}

fn observers(autograd: &Autograd) -> Option<Box<LeafHooks>> {
    let rare = autograd.rare.as_ref()?;
    if rare.hooks.is_empty() && rare.accumulated.is_empty() {
        return None;
    }
    let (tensor, accumulated) = (rare.hooks.snapshot(), rare.accumulated.snapshot());
    Some(Box::new(LeafHooks { tensor, accumulated }))
}

/// Where a tensor's gradient will be, for those who must not keep the graph alive: a hook in a node
/// that held the node would never die.
pub enum Waypoint {
    /// Of a computed tensor, as it was when this was made.
    Node(WeakNodeRef),
    /// Of a leaf.
    Leaf(WeakTensor),
}

impl Waypoint {
    /// Of a tensor that requires grad.
    ///
    /// # Errors
    /// If it does not.
    pub fn of(tensor: &Tensor) -> Result<Waypoint> {
        if !tensor.requires_grad() {
            bail!(
                Grad,
                "",
                "It is not possible to get the gradient edge for a Tensor that does not require \
                 gradients"
            );
        }
        Ok(match tensor.grad_fn() {
            Some(edge) => Waypoint::Node(edge.node.downgrade()),
            None => Waypoint::Leaf(tensor.downgrade()),
        })
    }

    /// Whether the innermost pass on this thread comes by, or has done so.
    pub fn is_on_the_way(&self) -> bool {
        let node = match self {
            Waypoint::Node(node) => node.upgrade(),
            Waypoint::Leaf(leaf) => {
                leaf.upgrade().and_then(|t| t.current().edge_if_any()).map(|edge| edge.node)
            }
        };
        node.and_then(|node| crate::graph::task::will_run(&node)).unwrap_or(false)
    }
}

/// Removes a hook from where it was registered.
pub enum HookHandle {
    /// On a computed tensor: the hook lives in its node.
    Node(WeakNodeRef, u64),
    /// On a leaf.
    Leaf(WeakTensor, u64),
}

impl HookHandle {
    /// Removes the hook. Doing so twice, or after the tensor died, is harmless.
    pub fn remove(&self) {
        match self {
            HookHandle::Node(node, id) => {
                if let Some(node) = node.upgrade() {
                    node.remove_hook(*id);
                }
            }
            HookHandle::Leaf(tensor, id) => {
                let Some(tensor) = tensor.upgrade() else { return };
                let tensor = tensor.current();
                let removed = tensor
                    .0
                    .autograd
                    .lock()
                    .rare
                    .as_mut()
                    .map(|rare| (rare.hooks.take(*id), rare.accumulated.take(*id)));
                drop(removed);
            }
        }
    }
}
