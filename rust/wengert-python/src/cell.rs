//! The mutable slots of a Python tensor object.
//!
//! A Python tensor may come to stand for other memory (`out=` that is resized, `x.data = y`). The
//! interpreter lock is what makes reading and replacing the handle safe: neither runs Python code
//! while it holds a reference into the slot.
#![allow(unsafe_code)]

use pyo3::prelude::*;
use pyo3::types::PyTuple;
use std::cell::UnsafeCell;
use wengert::Tensor;

/// A tensor handle that can be read and replaced while attached to the interpreter.
pub struct TensorCell(UnsafeCell<Tensor>);

// SAFETY: the module declares that it relies on the interpreter lock (`gil_used = true`), objects
// are reached through `Bound` only, and neither method below gives up the lock half-way.
unsafe impl Sync for TensorCell {}
// SAFETY: `Tensor` is `Send`.
unsafe impl Send for TensorCell {}

impl TensorCell {
    /// A slot that holds `tensor`.
    pub fn new(tensor: Tensor) -> Self {
        TensorCell(UnsafeCell::new(tensor))
    }

    /// The tensor now.
    #[inline]
    pub fn get(&self) -> Tensor {
        // SAFETY: see the type; cloning counts and runs no foreign code.
        unsafe { (*self.0.get()).clone() }
    }

    /// The tensor now, without counting a handle.
    ///
    /// # Safety
    /// Until the reference is gone, the lock is held and nothing runs Python code that could
    /// replace the tensor.
    #[inline]
    pub unsafe fn peek(&self) -> &Tensor {
        // SAFETY: passed on to the caller.
        unsafe { &*self.0.get() }
    }

    /// Looks at the tensor without counting a handle. `look` reads attributes of the tensor, all of
    /// which are the engine's; it must not run Python code.
    #[inline]
    pub fn look<R>(&self, look: impl FnOnce(&Tensor) -> R) -> R {
        // SAFETY: see the type, and the engine's own code replaces nothing.
        look(unsafe { &*self.0.get() })
    }

    /// The tensor now; nobody else has the cell.
    #[inline]
    pub fn get_mut(&mut self) -> &mut Tensor {
        self.0.get_mut()
    }

    /// Puts another tensor in.
    pub fn replace(&self, tensor: Tensor) {
        // SAFETY: see the type; the old value is dropped after the slot is whole again.
        let old = unsafe { std::mem::replace(&mut *self.0.get(), tensor) };
        drop(old);
    }
}

/// A tuple computed from the tensor and kept for the next time it is asked for. Programs look at
/// the shape of one tensor again and again.
#[derive(Default)]
pub struct CachedTuple(UnsafeCell<Option<Py<PyTuple>>>);

// SAFETY: reached only with a `Python` token, that is, while attached, and no method gives up the
// interpreter lock while it has a reference into the slot.
unsafe impl Sync for CachedTuple {}

impl CachedTuple {
    /// The tuple, made at first use.
    #[inline]
    pub fn get_or_make<'py>(
        &self,
        py: Python<'py>,
        make: impl FnOnce() -> PyResult<Bound<'py, PyTuple>>,
    ) -> PyResult<Bound<'py, PyTuple>> {
        // SAFETY: see the type; the reference ends with the increment of a count.
        if let Some(known) = unsafe { &*self.0.get() } {
            return Ok(known.bind(py).clone());
        }
        let made = make()?;
        self.put(py, Some(made.clone().unbind()));
        Ok(made)
    }

    /// Forgets the tuple: the tensor is another one now.
    pub fn clear(&self, py: Python<'_>) {
        self.put(py, None);
    }

    fn put(&self, _py: Python<'_>, tuple: Option<Py<PyTuple>>) {
        // SAFETY: see the type; the old value is dropped after the slot is whole again.
        drop(unsafe { std::mem::replace(&mut *self.0.get(), tuple) });
    }
}
