//! Matrices in the last two axes of a tensor, worked on one by one.
#![allow(unsafe_code)]

use crate::dtype::Element;
use crate::kernels::linalg::Real;
use crate::kernels::threads::parallel_for;
use crate::layout::{self, Dims};
use crate::ops::view;
use crate::tensor::Tensor;
use crate::{DType, Result};

/// Multiplications of one matrix from which the threads share its products, not the batch.
const LARGE: usize = 4 << 20;

/// The axes before the last two.
pub(super) fn batch_of(x: &Tensor) -> &[usize] {
    &x.shape()[..x.ndim() - 2]
}

/// Rows and columns.
pub(super) fn size_of(x: &Tensor) -> [usize; 2] {
    [x.shape()[x.ndim() - 2], x.shape()[x.ndim() - 1]]
}

/// The shape of a batch, with more axes behind.
pub(super) fn shape(batch: &[usize], own: &[usize]) -> Dims {
    batch.iter().chain(own).copied().collect()
}

/// A row-major copy without history, broadcast to `batch`.
pub(super) fn copied(x: &Tensor, batch: &[usize]) -> Result<Tensor> {
    let shape = shape(batch, &size_of(x));
    let out = Tensor::uninitialised("linalg", &shape, x.dtype())?;
    let from = x.detach();
    out.copy_raw(&if x.shape() == &shape[..] { from } else { view::expand_to(&from, &shape)? });
    Ok(out)
}

/// For each matrix of the batch `full`, which matrix of `batch` it is, where that broadcasts.
pub(super) fn places(batch: &[usize], full: &[usize]) -> Vec<usize> {
    let steps = layout::broadcast_strides(batch, &layout::contiguous_strides(batch), full);
    let place = |mut i: usize| {
        let mut at = 0;
        for (d, step) in full.iter().zip(&steps).rev() {
            at += (i % d) * *step as usize;
            i /= d;
        }
        at
    };
    (0..full.iter().product()).map(place).collect()
}

/// Elements of the tensors of a batch, one piece per matrix.
struct Pieces<T> {
    start: *mut T,
    len: usize,
}

// SAFETY: `each` gives every piece to one thread.
unsafe impl<T: Send> Send for Pieces<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Pieces<T> {}

impl<T: Element> Pieces<T> {
    /// Those of a row-major tensor that only the caller has.
    fn of(x: &Tensor, count: usize) -> Pieces<T> {
        assert!(x.is_contiguous() && x.dtype() == T::DTYPE && x.storage().is_unique());
        Pieces { start: x.data_ptr().cast(), len: x.numel() / count }
    }

    /// # Safety
    /// The tensor lives, has such a piece, and nobody else uses the piece.
    #[allow(clippy::mut_from_ref)]
    unsafe fn get(&self, i: usize) -> &mut [T] {
        // SAFETY: as promised; the caller has filled the tensor.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(i * self.len), self.len) }
    }
}

/// Calls `f(i, elements, numbers)` for each of `count` matrices with the `i`-th parts of tensors that
/// the caller has just made and filled. `work` is how many multiplications a matrix takes, roughly.
///
/// Who works on a matrix is chance, and so is nothing else.
pub(super) fn each<T: Real, const K: usize, const L: usize>(
    count: usize,
    work: usize,
    elements: [&Tensor; K],
    numbers: [&Tensor; L],
    f: impl Fn(usize, [&mut [T]; K], [&mut [i32]; L]) + Sync,
) {
    if count == 0 {
        return;
    }
    for (k, x) in elements.iter().enumerate() {
        // No two slices may overlap.
        assert!(elements[..k].iter().all(|y| !y.storage().same(x.storage())));
    }
    assert!(L < 2 || !numbers[0].storage().same(numbers[L - 1].storage()));
    let elements = elements.map(|x| Pieces::<T>::of(x, count));
    let numbers = numbers.map(|x| Pieces::<i32>::of(x, count));
    let run = |i: usize| {
        // SAFETY: `i < count` comes once; the tensors outlive the call and are nobody else's.
        let x = std::array::from_fn(|k| unsafe { elements[k].get(i) });
        // SAFETY: as above.
        let n = std::array::from_fn(|k| unsafe { numbers[k].get(i) });
        f(i, x, n);
    };
    if count == 1 || work >= LARGE {
        (0..count).for_each(run);
    } else {
        parallel_for(count, (LARGE / 8).div_ceil(work.max(1)), |r| r.for_each(run));
    }
}

/// Runs a body for `f32` or `f64`, whichever a tensor is of.
macro_rules! real {
    ($x:expr, $T:ident => $body:expr) => {
        if $x.dtype() == $crate::DType::Float32 {
            type $T = f32;
            $body
        } else {
            type $T = f64;
            $body
        }
    };
}
pub(super) use real;

/// A new tensor of a batch, of zeros.
pub(super) fn fresh(batch: &[usize], own: &[usize], dtype: DType) -> Result<Tensor> {
    Tensor::zeros(&shape(batch, own), dtype)
}
