//! Python objects that the engine owns.
//!
//! Hooks and foreign buffers live in the engine and may be dropped by any thread, with or without
//! the interpreter lock. [`Held`] takes the lock when it lets go of its object, so that PyO3 needs
//! no list of references to drop later, which would cost a lock on every call.

use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

/// A Python object that may be dropped anywhere.
pub struct Held(Option<Py<PyAny>>);

impl Held {
    /// Takes over an object.
    pub fn new(object: Py<PyAny>) -> Held {
        Held(Some(object))
    }

    /// Shows the object to Python's garbage collector.
    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.0)
    }

    /// The object.
    pub fn bind<'py>(&self, py: Python<'py>) -> &Bound<'py, PyAny> {
        self.0.as_ref().expect("held until dropped").bind(py)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let object = self.0.take();
        // At interpreter shutdown there is nobody left to give the object back to.
        Python::try_attach(|_| drop(object));
    }
}
