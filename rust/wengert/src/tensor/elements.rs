//! Reading and writing elements.
//!
//! These copy; kernels work in place through [`Tensor::operand`].
#![allow(unsafe_code)]

use super::*;
use crate::kernels::interrupt::Patience;

/// Bytes that are zeroed between two looks for an interrupt.
const ZEROED: usize = 1 << 26;

/// Bytes up to which going through memory in order costs less than to ask the engine how.
const SHORT: usize = 4096;

impl Tensor {
    /// Writes all elements of a fresh row-major tensor.
    pub(crate) fn write_all<T: Element>(&self, values: &[T]) {
        assert!(self.is_contiguous() && self.dtype() == T::DTYPE && self.numel() == values.len());
        // SAFETY: the assertion gives type, length and order; `T` is plain data.
        unsafe {
            self.data_ptr().cast::<T>().copy_from_nonoverlapping(values.as_ptr(), values.len());
        }
    }

    /// Gives a closure the elements of a fresh row-major tensor as a slice to fill.
    ///
    /// # Panics
    /// If the tensor is shared, strided or of another type.
    pub(crate) fn fill_with<T: Element, R>(&self, fill: impl FnOnce(&mut [T]) -> R) -> R {
        assert!(self.is_contiguous() && self.dtype() == T::DTYPE && self.storage().is_unique());
        // Fresh memory is arbitrary bytes; make it valid values before forming a slice.
        // SAFETY: the assertion gives type, length and sole ownership.
        let slice = unsafe {
            let data = self.data_ptr();
            let bytes = self.numel() * size_of::<T>();
            let mut patience = Patience::over(self.numel());
            for start in (0..bytes).step_by(ZEROED) {
                data.add(start).write_bytes(0, ZEROED.min(bytes - start));
                patience.look();
            }
            std::slice::from_raw_parts_mut(data.cast::<T>(), self.numel())
        };
        fill(slice)
    }

    /// Refuses to hand out the elements of one example of a batch as if they were all.
    ///
    /// # Errors
    /// The tensor is batched.
    pub fn check_readable(&self) -> Result<()> {
        if self.is_batched() {
            return Err(crate::batch::unreadable());
        }
        Ok(())
    }

    /// The elements in row-major order, converted to `T`.
    pub fn to_vec<T: Element>(&self) -> Result<Vec<T>> {
        self.check_readable()?;
        let flat = Tensor::uninitialised("to_vec", self.shape(), T::DTYPE)?;
        flat.copy_raw(self);
        let mut out = Vec::with_capacity(flat.numel());
        // SAFETY: `flat` is row-major of type `T` with that many initialised elements.
        unsafe {
            out.extend_from_slice(std::slice::from_raw_parts(
                flat.data_ptr().cast::<T>(),
                flat.numel(),
            ));
        }
        Ok(out)
    }

    /// Numbers in row-major order, converted to `dtype`.
    pub fn from_scalars(values: &[Scalar], shape: &[usize], dtype: DType) -> Result<Tensor> {
        let out = Tensor::uninitialised("tensor", shape, dtype)?;
        if out.numel() != values.len() {
            bail!(Shape, "tensor", "shape {shape:?} does not hold {} values", values.len());
        }
        dispatch!(dtype, T => {
            for (i, v) in values.iter().enumerate() {
                // SAFETY: `i` is below the number of elements of the new row-major tensor.
                unsafe { out.data_ptr().cast::<T>().add(i).write(T::from_scalar(*v)) };
            }
        });
        Ok(out)
    }

    /// The elements in row-major order.
    pub fn to_scalars(&self) -> Result<Vec<Scalar>> {
        dispatch!(self.dtype(), T => {
            Ok(self.to_vec::<T>()?.into_iter().map(Element::to_scalar).collect())
        })
    }

    /// The elements in row-major order as bytes of this machine.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        self.check_readable()?;
        let flat = Tensor::uninitialised("to_bytes", self.shape(), self.dtype())?;
        flat.copy_raw(self);
        let bytes = flat.numel() * flat.dtype().size();
        // SAFETY: the new row-major tensor has that many initialised bytes.
        Ok(unsafe { std::slice::from_raw_parts(flat.data_ptr(), bytes) }.to_vec())
    }

    /// A tensor from what [`Tensor::to_bytes`] gave.
    pub fn from_bytes(bytes: &[u8], shape: &[usize], dtype: DType) -> Result<Tensor> {
        let out = Tensor::uninitialised("from_bytes", shape, dtype)?;
        if out.numel() * dtype.size() != bytes.len() {
            bail!(
                Shape,
                "from_bytes",
                "shape {shape:?} of {dtype} does not hold {} bytes",
                bytes.len()
            );
        }
        if dtype == DType::Bool && bytes.iter().any(|&b| b > 1) {
            bail!(Value, "from_bytes", "a truth value must be 0 or 1");
        }
        // SAFETY: the new row-major tensor is that long; any bytes but bools' are valid elements.
        unsafe { out.data_ptr().copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        Ok(out)
    }

    /// Copies and converts elements without recording.
    pub fn copy_from(&self, source: &Tensor) -> Result<()> {
        self.check_writable("copy_")?;
        if self.shape() != source.shape() {
            bail!(Shape, "copy_", "{:?} into {:?}", source.shape(), self.shape());
        }
        self.copy_raw(source);
        self.storage().bump_version();
        Ok(())
    }

    /// Sets every element to a number, recorded: the history ends here.
    pub fn fill_(&self, value: &Tensor) -> Result<()> {
        crate::graph::inplace::check_uniform(self, "fill", value.requires_grad())?;
        if crate::graph::record::recording(&[self, value]) {
            return crate::ops::cast::copy_(self, value);
        }
        self.fill_raw(value.item()?);
        self.storage().bump_version();
        Ok(())
    }

    /// The only element.
    pub fn item(&self) -> Result<Scalar> {
        if self.is_batched() {
            return Err(batched_item());
        }
        if self.numel() != 1 {
            return Err(Error::plain(
                Kind::Shape,
                format!("a Tensor with {} elements cannot be converted to Scalar", self.numel()),
            ));
        }
        let (low, _) = self.layout().span();
        Ok(self.read(low as usize))
    }

    /// The element at a multi-dimensional index.
    ///
    /// # Panics
    /// If the index is out of bounds.
    pub fn at(&self, index: &[usize]) -> Scalar {
        assert!(index.len() == self.ndim() && index.iter().zip(self.shape()).all(|(i, s)| i < s));
        let steps = index.iter().zip(self.layout().strides());
        let at = steps.fold(self.layout().offset() as isize, |o, (&i, &s)| o + i as isize * s);
        self.read(at as usize)
    }

    /// Reads the element at a position in the storage that the layout reaches.
    fn read(&self, position: usize) -> Scalar {
        dispatch!(self.dtype(), T => {
            // SAFETY: the layout was checked against the storage when the tensor was made, and
            // bools hold 0 or 1 because only kernels write them.
            unsafe { self.storage().data().cast::<T>().add(position).read() }.to_scalar()
        })
    }

    /// Copies and converts elements without recording; shapes must be equal.
    pub(crate) fn copy_raw(&self, source: &Tensor) {
        assert!(self.layout().same_shape(source.layout()));
        let bytes = self.numel() * self.dtype().size();
        if bytes <= SHORT && self.dtype() == source.dtype() && self.is_contiguous() {
            if source.is_contiguous() {
                // SAFETY: as many bytes of both, which may overlap, lie inside their storages.
                return unsafe { source.data_ptr().copy_to(self.data_ptr(), bytes) };
            }
            if source.layout().is_one_element() {
                return self.fill_raw(source.read(source.layout().offset()));
            }
        }
        // SAFETY: both layouts lie inside their storages and have the same shape.
        unsafe { cast::copy(self.shape(), self.operand(), source.operand()) };
    }

    /// Copies a vector to every row of a small row-major matrix of the same type; false, and nothing
    /// done, if that is not what they are.
    pub(crate) fn fill_rows_raw(&self, row: &Tensor) -> bool {
        let (&[rows, columns], &[n]) = (self.shape(), row.shape()) else { return false };
        let bytes = columns * self.dtype().size();
        let fits = n == columns && row.dtype() == self.dtype() && rows * bytes <= SHORT;
        if !(fits && row.is_contiguous() && self.is_contiguous()) {
            return false;
        }
        for r in 0..rows {
            // SAFETY: a row of each, which lie inside their storages.
            unsafe { row.data_ptr().copy_to(self.data_ptr().add(r * bytes), bytes) };
        }
        true
    }

    /// Sets every element without recording.
    pub(crate) fn fill_raw(&self, value: Scalar) {
        if self.is_contiguous() && self.numel() * self.dtype().size() <= SHORT {
            return dispatch!(self.dtype(), T => {
                let value = T::from_scalar(value);
                for i in 0..self.numel() {
                    // SAFETY: the elements lie in a row inside the storage.
                    unsafe { self.data_ptr().cast::<T>().add(i).write(value) };
                }
            });
        }
        // SAFETY: the layout lies inside the storage.
        unsafe { cast::fill(self.shape(), self.operand(), value) };
    }

    /// Refuses to write to memory of somebody who does not allow it.
    pub(crate) fn check_not_read_only(&self, op: &'static str) -> Result<()> {
        if self.storage().is_read_only() {
            bail!(
                Value,
                op,
                "tensor is read-only: its memory belongs to a read-only buffer; write to a clone()"
            );
        }
        if self.is_inference() && !crate::graph::is_inference_mode() {
            bail!(
                Grad,
                "",
                "Inplace update to inference tensor outside InferenceMode is not allowed.You can make \
                 a clone to get a normal tensor before doing inplace update.See \
                 https://github.com/pytorch/rfcs/pull/17 for more details."
            );
        }
        crate::graph::watch::about_to_write(self)
    }

    /// Refuses to write where that is not allowed.
    pub(crate) fn check_writable(&self, op: &'static str) -> Result<()> {
        self.check_not_read_only(op)?;
        if self.layout().overlaps_itself() {
            bail!(
                Value,
                "",
                "unsupported operation: more than one element of the written-to tensor refers to a \
                 single memory location. Please clone() the tensor before performing the operation. \
                 ({op} on shape {:?} with strides {:?})",
                self.shape(),
                self.layout().strides()
            );
        }
        Ok(())
    }
}

#[cold]
fn batched_item() -> Error {
    Error::plain(
        Kind::Value,
        "vmap: It looks like you're calling .item() on a Tensor. We don't support vmap over calling \
         .item() on a Tensor, please try to rewrite what you're doing with other operations.",
    )
}
