//! What forward mode knows about a tensor: its tangents, one per level, and those of its base.

use super::*;
use crate::graph::forward::{Level, Tangent};
use crate::ops::strided::Window;
use smallvec::SmallVec;

/// Bits of [`Body::forward`]: there is a place for a tangent in [`Rare`].
const DUAL: u8 = 1;
/// The tensor is a view of its base for backward, but not for forward mode.
pub(super) const OPAQUE: u8 = 2;
/// The tensor is one example of a batch, see [`super::batched`].
pub(super) const BATCHED: u8 = 4;
/// The bits above are the tensor's birth, see [`crate::graph::transform`].
pub(super) const BIRTH_SHIFT: u32 = 3;

impl Tensor {
    /// Whether this tensor, or the one it views, may have a tangent. That of a level which is
    /// closed by now is counted.
    #[inline]
    pub fn is_dual(&self) -> bool {
        self.has_tangents()
            || self.has_base() && self.forward_base().is_some_and(|b| b.has_tangents())
    }

    /// Whether an operation must keep what the derivative with respect to this tensor needs.
    #[inline]
    pub fn is_differentiated(&self) -> bool {
        self.requires_grad() || self.is_dual()
    }

    /// The tensor whose tangents this view's are views of.
    pub(crate) fn forward_base(&self) -> Option<Tensor> {
        match self.has_base() && self.0.forward.load(Ordering::Relaxed) & OPAQUE == 0 {
            true => self.base(),
            false => None,
        }
    }

    #[inline]
    fn has_tangents(&self) -> bool {
        self.0.forward.load(Ordering::Relaxed) & DUAL != 0
    }

    /// The same elements as a view that has tangents of its own, whatever those of its base are, and
    /// is as new as it is.
    pub(crate) fn opaque_alias(&self) -> Tensor {
        let alias = self.view_as_layout(self.layout().clone());
        let birth = crate::graph::transform::birth() << BIRTH_SHIFT;
        alias.0.forward.store(birth | OPAQUE, Ordering::Relaxed);
        alias
    }

    fn own_tangent(&self, level: &Arc<Level>) -> Option<Tensor> {
        if !self.has_tangents() {
            return None;
        }
        let autograd = self.0.autograd.lock();
        let tangents = &autograd.rare.as_ref()?.tangents;
        tangents.iter().find(|t| t.is_of(level))?.get()
    }

    /// The tangent of a level. A view that was made before its base got one, gets it here.
    pub(crate) fn tangent(&self, level: &Arc<Level>) -> Result<Option<Tensor>> {
        if let Some(own) = self.own_tangent(level) {
            return Ok(Some(own));
        }
        let Some(base) = self.forward_base() else { return Ok(None) };
        let Some(whole) = base.own_tangent(level) else { return Ok(None) };
        let part = Window::new(base.layout(), self.layout()).view(&whole)?;
        self.set_tangent(level, part.clone());
        Ok(Some(part))
    }

    /// Gives the tensor a tangent, laid out like the tensor itself.
    pub(crate) fn set_tangent(&self, level: &Arc<Level>, tangent: Tensor) {
        let Some(tangent) = level.put(tangent) else { return };
        let retired: SmallVec<[Tangent; 1]> = {
            let mut autograd = self.0.autograd.lock();
            let tangents = &mut autograd.rare.get_or_insert_default().tangents;
            let stays = |t: &Tangent| !t.is_of(level) && !t.is_closed();
            let old = std::mem::take(tangents);
            let (stay, retired) = old.into_iter().partition(stays);
            *tangents = stay;
            tangents.push(tangent);
            retired
        };
        self.0.forward.fetch_or(DUAL, Ordering::Relaxed);
        drop(retired);
    }

    /// Cuts the tensor off from what it was computed from in every level.
    pub(super) fn drop_tangents(&self) {
        if self.0.forward.fetch_and(!DUAL, Ordering::Relaxed) & DUAL != 0 {
            let old = {
                let mut autograd = self.0.autograd.lock();
                autograd.rare.as_mut().map(|rare| std::mem::take(&mut rare.tangents))
            };
            drop(old);
        }
    }

    /// The same data and history with the tangents of `levels` only.
    pub(crate) fn alias_in(&self, levels: &[Arc<Level>]) -> Result<Tensor> {
        let alias = self.alias_with_edge(self.edge()?);
        for level in levels {
            if let Some(tangent) = self.tangent(level)? {
                alias.set_tangent(level, tangent);
            }
        }
        Ok(alias)
    }

    /// Gives `self`, which is the same data, the tangents of another tensor.
    pub(crate) fn share_tangents(&self, other: &Tensor) {
        let shared: SmallVec<[(Arc<Level>, Tensor); 1]> = {
            let autograd = other.0.autograd.lock();
            let tangents = autograd.rare.as_ref().map(|r| &r.tangents[..]).unwrap_or_default();
            tangents.iter().filter_map(|t| Some((t.level().clone(), t.get()?))).collect()
        };
        for (level, tangent) in shared {
            self.set_tangent(&level, tangent);
        }
    }
}
