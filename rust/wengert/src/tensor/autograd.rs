//! What autograd knows about a tensor: history, gradient, hooks, and the place of a view.

use super::*;
use crate::graph::{Site, explain};
use std::num::NonZeroU32;

/// Why a tensor has no history although what it came from has one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Severed {
    /// A user asked for the data without the history.
    Detached,
    /// It was computed while recording was off.
    Unrecorded,
}

/// Set in the number of a site for [`Severed::Unrecorded`].
const UNRECORDED: u32 = 1 << 31;

impl Tensor {
    /// Notes that this new tensor has no history and why, for those who will miss it.
    pub fn sever(&self, why: Severed) {
        let number = Site::here().get() & !UNRECORDED;
        let number = if why == Severed::Unrecorded { number | UNRECORDED } else { number };
        self.0.severed.store(number, Ordering::Relaxed);
    }

    /// [`Tensor::detach`] at a user's wish, who may wonder later where the history went.
    pub fn detach_for_user(&self) -> Tensor {
        let alias = self.detach();
        if self.requires_grad() {
            alias.sever(Severed::Detached);
        }
        alias
    }

    /// Takes over the reason why another tensor has no history.
    #[inline]
    pub fn sever_like(&self, other: &Tensor) {
        let number = other.0.severed.load(Ordering::Relaxed);
        self.0.severed.store(number, Ordering::Relaxed);
    }

    /// Whether this tensor may require grad, or have lost its history: false for most that take no
    /// part in a graph, at the cost of a look.
    #[inline]
    pub fn has_story(&self) -> bool {
        self.0.requires_grad.load(Ordering::Relaxed)
            || self.0.severed.load(Ordering::Relaxed) != 0
            || self.has_base()
    }

    /// Why and where this tensor lost its history, if that was noted.
    #[inline]
    pub fn severed(&self) -> Option<(Severed, Site)> {
        let number = self.0.severed.load(Ordering::Relaxed);
        let site = Site::new(NonZeroU32::new(number & !UNRECORDED)?);
        let why = if number == site.get() { Severed::Detached } else { Severed::Unrecorded };
        Some((why, site))
    }

    /// Whether gradients flow to or through this tensor.
    #[inline]
    pub fn requires_grad(&self) -> bool {
        self.0.requires_grad.load(Ordering::Relaxed) || (self.has_base() && self.joined_graph())
    }

    /// Whether no recorded operation made this tensor.
    pub fn is_leaf(&self) -> bool {
        if let Some(physical) = self.physical() {
            return physical.is_leaf();
        }
        if !self.requires_grad() {
            return true;
        }
        // As in `grad_fn`.
        let _ = self.refresh();
        self.0.autograd.lock().edge.is_none()
    }

    /// Makes a leaf require grad or not.
    ///
    /// # Errors
    /// For integer types, and for `false` on a tensor with history.
    pub fn set_requires_grad(&self, requires_grad: bool) -> Result<()> {
        if let Some(physical) = self.physical() {
            return physical.set_requires_grad(requires_grad);
        }
        if requires_grad && !self.dtype().is_floating() {
            return Err(explain::not_differentiable(
                self.dtype(),
                "only Tensors of floating point and complex dtype can require gradients",
            ));
        }
        if requires_grad && self.is_inference() && !crate::graph::is_inference_mode() {
            bail!(
                Grad,
                "",
                "Setting requires_grad=True on inference tensor outside InferenceMode is not allowed."
            );
        }
        if !self.is_leaf() {
            if requires_grad {
                return Ok(());
            }
            bail!(
                Grad,
                "",
                "you can only change requires_grad flags of leaf variables. If you want to use a \
                 computed variable in a subgraph that doesn't require differentiation use \
                 var_no_grad = var.detach()."
            );
        }
        self.0.requires_grad.store(requires_grad, Ordering::Relaxed);
        Ok(())
    }

    /// [`Tensor::set_requires_grad`] for a tensor that was just made.
    ///
    /// # Errors
    /// For integer types.
    pub fn require_grad_from_start(&self) -> Result<()> {
        if !self.dtype().is_floating() {
            bail!(
                Grad,
                "",
                "Only Tensors of floating point and complex dtype can require gradients, got {}",
                self.dtype()
            );
        }
        self.set_requires_grad(true)
    }

    /// The node that made this tensor; `None` for leaves.
    pub fn grad_fn(&self) -> Option<Edge> {
        if let Some(physical) = self.physical() {
            return physical.grad_fn();
        }
        // A failure to refresh leaves the history as it was; the next recorded use reports it.
        let _ = self.refresh();
        self.0.autograd.lock().edge.clone()
    }

    /// [`Tensor::grad_fn`], or why there is none for a view whose base was written to.
    pub fn history(&self) -> Result<Option<Edge>> {
        self.refresh()?;
        Ok(self.0.autograd.lock().edge.clone())
    }

    /// Where a gradient for this tensor goes: to the node that made it, or to the accumulator of
    /// a leaf, which is made now if need be.
    pub fn edge(&self) -> Result<Option<Edge>> {
        if !self.requires_grad() {
            return Ok(None);
        }
        self.refresh()?;
        let mut autograd = self.0.autograd.lock();
        if let Some(edge) = &autograd.edge {
            return Ok(Some(edge.clone()));
        }
        let rare = autograd.rare.get_or_insert_default();
        if let Some(node) = rare.accumulator.as_ref().and_then(WeakNodeRef::upgrade) {
            return Ok(Some(Edge { node, output: 0 }));
        }
        let node: NodeRef = AccumulateGrad::node(self)?;
        rare.accumulator = Some(node.downgrade());
        Ok(Some(Edge { node, output: 0 }))
    }

    /// Like [`Tensor::edge`], but never makes an accumulator.
    pub(crate) fn edge_if_any(&self) -> Option<Edge> {
        if !self.requires_grad() {
            return None;
        }
        let autograd = self.0.autograd.lock();
        if let Some(edge) = &autograd.edge {
            return Some(edge.clone());
        }
        let node = autograd.rare.as_ref()?.accumulator.as_ref()?.upgrade()?;
        Some(Edge { node, output: 0 })
    }

    /// The same data as a leaf whose gradient is added up in another leaf's accumulator.
    pub(crate) fn alias_of_leaf(&self, accumulator: &NodeRef) -> Tensor {
        let alias = self.detach();
        let mut autograd = alias.0.autograd.lock();
        autograd.rare.get_or_insert_default().accumulator = Some(accumulator.downgrade());
        drop(autograd);
        alias.0.requires_grad.store(true, Ordering::Relaxed);
        alias
    }

    /// Gives the tensor a history.
    #[inline]
    pub fn set_edge(&self, edge: Edge) {
        let old = self.0.autograd.lock().edge.replace(edge);
        self.0.requires_grad.store(true, Ordering::Relaxed);
        drop(old);
    }

    /// What takes this tensor's place when a user gives it other data (`x.data = value`): the
    /// memory of `value` with the history, gradient and hooks of this tensor.
    ///
    /// # Errors
    /// If the tensor requires grad and `value` has a type that cannot.
    pub fn with_data(&self, value: &Tensor) -> Result<Tensor> {
        let new = value.detach();
        if !self.requires_grad() {
            return Ok(new);
        }
        if !new.dtype().is_floating() {
            bail!(
                DType,
                "",
                "data set to a tensor that requires gradients must be floating point or complex dtype \
                 (not {})",
                new.dtype()
            );
        }
        let mut old = self.0.autograd.lock();
        let mut rare = std::mem::take(old.rare.get_or_insert_default());
        rare.accumulator = None;
        // All bodies that ever stood for this tensor share one pointer to the one that does now, so
        // that none of them keeps another alive.
        let heir = rare.heir.get_or_insert_with(|| Arc::new(Mutex::new(new.downgrade()))).clone();
        *heir.lock() = new.downgrade();
        old.rare.get_or_insert_default().heir = Some(heir);
        *new.0.autograd.lock() =
            Autograd { edge: old.edge.take(), rare: Some(rare), ..Autograd::default() };
        new.0.rebased.store(self.0.rebased.load(Ordering::Relaxed), Ordering::Relaxed);
        new.0.requires_grad.store(true, Ordering::Relaxed);
        Ok(new)
    }

    /// The tensor that stands for this one now, see [`Tensor::with_data`].
    pub(crate) fn current(&self) -> Tensor {
        let heir = self.0.autograd.lock().rare.as_ref().and_then(|r| r.heir.clone());
        let now = heir.and_then(|heir| heir.lock().upgrade());
        now.unwrap_or_else(|| self.clone())
    }

    /// Cuts the tensor off from its history, in place.
    pub fn detach_(&self) {
        if let Some(physical) = self.physical() {
            return physical.detach_();
        }
        self.drop_tangents();
        self.leave_graph();
    }

    /// The same for the history alone.
    pub(crate) fn leave_graph(&self) {
        let old = self.0.autograd.lock().edge.take();
        self.0.requires_grad.store(false, Ordering::Relaxed);
        drop(old);
    }

    /// Whether this was made as a view.
    #[inline]
    pub(crate) fn has_base(&self) -> bool {
        self.0.kind & VIEW != 0
    }

    /// The accumulated gradient.
    pub fn grad(&self) -> Option<Tensor> {
        self.0.autograd.lock().rare.as_ref()?.grad.clone()
    }

    /// Replaces the accumulated gradient.
    pub fn set_grad(&self, grad: Option<Tensor>) {
        drop(self.swap_grad(grad));
    }

    /// Replaces the accumulated gradient and gives the old one.
    pub(crate) fn swap_grad(&self, grad: Option<Tensor>) -> Option<Tensor> {
        let mut autograd = self.0.autograd.lock();
        if grad.is_none() && autograd.rare.is_none() {
            return None;
        }
        std::mem::replace(&mut autograd.rare.get_or_insert_default().grad, grad)
    }

    /// Keeps the gradient of a computed tensor in `.grad` during backward.
    pub fn retain_grad(&self) -> Result<()> {
        if !self.requires_grad() {
            bail!(Grad, "", "can't retain_grad on Tensor that has requires_grad=False");
        }
        let edge = {
            // The history that counts is that of the values of now.
            let Some(edge) = self.grad_fn() else { return Ok(()) };
            let mut autograd = self.0.autograd.lock();
            let rare = autograd.rare.get_or_insert_default();
            if std::mem::replace(&mut rare.retains_grad, true) {
                return Ok(());
            }
            edge
        };
        edge.node.retain_grad(edge.output, self.downgrade());
        Ok(())
    }

    /// Whether [`Tensor::retain_grad`] was called.
    pub fn retains_grad(&self) -> bool {
        self.0.autograd.lock().rare.as_ref().is_some_and(|r| r.retains_grad)
    }
}
