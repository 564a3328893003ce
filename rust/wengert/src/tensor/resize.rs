//! Other sizes, or other memory, in place.
//!
//! A tensor's storage and layout are fixed; what changes is which tensor the embedding language's
//! object stands for. So these functions make the tensor that takes the old one's place. Where both
//! share memory the new one is a view of the old one, so that a recorded write through either is
//! seen by the other; where they do not, nobody else may have seen the old memory, because whoever
//! did would not follow.

use super::*;
use crate::graph::inplace;

impl Tensor {
    /// What takes this tensor's place when it is resized: its memory in another shape, row-major,
    /// from the same offset on. More memory is made if need be, with zeros behind what there was.
    /// `handles` is how many the caller has, itself included.
    ///
    /// # Errors
    /// The tensor requires grad; or memory is needed and the present one is shared with a view,
    /// an array or a graph.
    pub fn resized(&self, shape: &[usize], handles: usize) -> Result<Tensor> {
        if self.requires_grad() && !crate::graph::is_inference_mode() {
            bail!(Grad, "", "cannot resize variables that require grad");
        }
        if shape == self.shape() {
            return Ok(self.clone());
        }
        inplace::check_uniform(self, "resize", false)?;
        let item = self.dtype().size();
        let flat = Layout::contiguous("resize_", shape, item)?;
        let offset = self.layout().offset();
        let needed = offset.checked_add(flat.numel()).and_then(|n| n.checked_mul(item));
        let layout = Layout::strided(flat.shape(), flat.strides(), offset);
        if flat.numel() == 0 || needed.is_some_and(|n| n <= self.storage().bytes()) {
            let new = self.view_of_kind(layout, ViewKind::Turned);
            if self.view_kind().is_none() {
                new.set_view_kind(ViewKind::Turned);
            }
            self.storage().bump_version();
            return Ok(self.hand_over(new));
        }
        self.check_unshared("resize_", handles)?;
        let Some(needed) = needed.filter(|&n| n <= isize::MAX as usize) else {
            bail!(Overflow, "resize_", "shape {shape:?} does not fit the address space");
        };
        let storage = Storage::zeroed(needed)?;
        let old = Layout::contiguous("resize_", &[self.storage().bytes() / item], item)?;
        let from = Tensor::from_parts(self.storage().clone(), old.clone(), self.dtype());
        Tensor::from_parts(storage.clone(), old, self.dtype()).copy_raw(&from);
        storage.continue_version(self.storage().version() + 1);
        Ok(self.hand_over(Tensor::from_parts(storage, layout, self.dtype())))
    }

    /// What takes this tensor's place when it is set to the memory of `source` in the given layout.
    /// `handles` is how many the caller has.
    ///
    /// # Errors
    /// The tensor requires grad, has another type, or shares its memory.
    pub fn set_to(&self, source: &Tensor, layout: Layout, handles: usize) -> Result<Tensor> {
        inplace::check_uniform(self, "set", source.requires_grad())?;
        if self.requires_grad() || source.requires_grad() {
            bail!(Grad, "", "the derivative for 'set_' is not implemented: detach() the tensors");
        }
        self.check_type(source)?;
        if source.same(self) {
            return Ok(self.clone());
        }
        self.check_unshared("set_", handles)?;
        Ok(self.hand_over(Tensor::from_parts(source.storage().clone(), layout, self.dtype())))
    }

    /// [`Tensor::with_data`] of the memory of `source` in the given layout.
    ///
    /// # Errors
    /// If `source` has another type.
    pub fn set_data(&self, source: &Tensor, layout: Layout) -> Result<Tensor> {
        self.check_type(source)?;
        self.with_data(&Tensor::from_parts(source.storage().clone(), layout, self.dtype()))
    }

    fn check_type(&self, source: &Tensor) -> Result<()> {
        if source.dtype() == self.dtype() {
            return Ok(());
        }
        bail!(
            DType,
            "",
            "Could not set tensor of type {} to a tensor of type {}",
            source.dtype(),
            self.dtype()
        )
    }

    fn check_unshared(&self, op: &'static str, handles: usize) -> Result<()> {
        if self.owners() <= handles && self.storage().is_unique() {
            return Ok(());
        }
        bail!(
            Value,
            op,
            "the memory of this tensor (shape {:?}) is shared with a view, an array or a graph, \
             which would go on showing the old memory; use a clone() of it",
            self.shape()
        )
    }

    /// Gives the gradient and the hooks of this tensor to the one that takes its place.
    fn hand_over(&self, new: Tensor) -> Tensor {
        let rare = self.0.autograd.lock().rare.take();
        new.0.autograd.lock().rare = rare;
        // Inference tensors that require grad may be resized.
        new.0.requires_grad.store(self.requires_grad(), Ordering::Relaxed);
        new
    }
}
