//! Tensors that stand for one example of a batch: where the batch hangs on the body.
//!
//! The idea and the rules are in [`crate::batch`]. To everything that asks for shape, type or strides
//! such a tensor is one example; the examples themselves lie in a tensor of their own, the *physical*
//! one, which is what autograd records. The body's own history stays empty: what asks whether it
//! requires grad is sent on to the physical tensor (the body counts as a view, so that the question
//! takes the path that looks twice anyway).
//!
//! Nothing may take the one example for all of them by mistake. Operations that have not been told
//! about batches end at the example's memory, to read it or to view it, and there they are refused
//! ([`refuse_memory`]): a test of one bit in a word that is at hand.

use super::tangent::{BATCHED, BIRTH_SHIFT, OPAQUE};
use super::*;
use crate::batch::{self, Levels};

/// The examples behind a batched tensor.
pub(crate) struct Batch {
    physical: Tensor,
    levels: Levels,
    /// Which of an example's axes each level was, if it was made one just now; the axes in front else.
    axes: Axes,
}

/// One axis per level; none stands for zeros.
pub(crate) type Axes = SmallVec<[u8; 4]>;

impl Drop for Batch {
    fn drop(&mut self) {
        batch::forget();
    }
}

/// Unwinds with [`batch::unreadable`].
#[cold]
#[inline(never)]
pub(super) fn refuse_memory() -> ! {
    crate::ops::algebra::unwind(batch::unreadable())
}

impl Tensor {
    /// What `f` makes of the examples, as examples again.
    #[cold]
    pub(super) fn over_batch(&self, f: impl FnOnce(&Tensor) -> Tensor) -> Tensor {
        let Some((physical, levels)) = self.parts() else { refuse_memory() };
        crate::ops::algebra::expect(Tensor::example_of(&f(&physical), &levels))
    }

    /// Whether this stands for one example of a batch.
    #[inline]
    pub fn is_batched(&self) -> bool {
        self.0.forward.load(Ordering::Relaxed) & BATCHED != 0
    }

    /// One example of `physical`, whose first axes are those of `levels`, in that order.
    pub(crate) fn example_of(physical: &Tensor, levels: &[u32]) -> Result<Tensor> {
        Tensor::example_along(physical, levels, Axes::new())
    }

    /// [`Tensor::example_of`] that remembers where the axes of the levels were, for those who ask.
    pub(crate) fn example_along(physical: &Tensor, levels: &[u32], axes: Axes) -> Result<Tensor> {
        if levels.is_empty() {
            return Ok(physical.clone());
        }
        let (shape, strides) = (physical.shape(), physical.layout().strides());
        let k = levels.len();
        let empty = physical.numel() == 0 && shape[k..].iter().all(|&s| s > 0);
        let example = if empty {
            // A batch of no examples has no memory that one could be a view of.
            let shown = Tensor::zeros(&shape[k..], physical.dtype())?;
            shown.view_as_layout(shown.layout().clone())
        } else {
            let layout = Layout::strided(&shape[k..], &strides[k..], physical.layout().offset());
            physical.view_as_layout(layout)
        };
        let batch = Batch { physical: physical.clone(), levels: levels.into(), axes };
        batch::remember();
        example.0.autograd.lock().rare.get_or_insert_default().batch = Some(batch);
        example.0.forward.fetch_or(BATCHED | OPAQUE, Ordering::Relaxed);
        Ok(example)
    }

    /// How many function transforms ran when the tensor was made; of a view, when what it views was.
    pub(crate) fn birth(&self) -> u8 {
        self.0.forward.load(Ordering::Relaxed) >> BIRTH_SHIFT
    }

    /// Takes this new view of `other` for as old as that.
    pub(super) fn inherit_birth(&self, other: &Tensor) {
        self.0.forward.store(other.birth() << BIRTH_SHIFT, Ordering::Relaxed);
    }

    /// The tensor that holds the examples, if this stands for one of them.
    #[inline]
    pub(crate) fn physical(&self) -> Option<Tensor> {
        if self.is_batched() { self.parts().map(|(physical, _)| physical) } else { None }
    }

    /// The tensor that holds the examples, and the levels of its first axes.
    pub(crate) fn parts(&self) -> Option<(Tensor, Levels)> {
        if !self.is_batched() {
            return None;
        }
        let autograd = self.0.autograd.lock();
        let batch = autograd.rare.as_ref()?.batch.as_ref()?;
        Some((batch.physical.clone(), batch.levels.clone()))
    }

    /// Number of elements of all examples.
    pub(crate) fn numel_of_all(&self) -> usize {
        self.physical().as_ref().unwrap_or(self).numel()
    }

    /// Which axis each of the levels was, among those that the levels outside it leave.
    pub(crate) fn batch_axes(&self) -> Axes {
        let autograd = self.0.autograd.lock();
        let batch = autograd.rare.as_ref().and_then(|rare| rare.batch.as_ref());
        batch.map(|batch| batch.axes.clone()).unwrap_or_default()
    }
}
