//! What Python's garbage collector sees of the engine, and when the engine looks for garbage itself.
//!
//! Objects for tensors and nodes show the collector what the engine keeps alive *through them alone*
//! ([`wengert::graph::garbage`]): the functions of hooks, the contexts of custom functions. So a hook
//! that holds its tensor is collected like any other cycle. Cycles inside the engine are looked for
//! after the collector's own full runs.

use crate::held::Held;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use pyo3::{PyTraverseError, PyVisit};
use std::any::Any;
use wengert::Tensor;
use wengert::graph::{NodeRef, garbage};

/// Shows what hangs on a tensor.
pub fn traverse(tensor: &Tensor, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
    let mut result = Ok(());
    garbage::hosts(tensor, &mut |host| show(host, visit, &mut result));
    result
}

/// Shows what hangs on a node.
pub fn traverse_node(node: &NodeRef, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
    let mut result = Ok(());
    garbage::hosts_of_node(node, &mut |host| show(host, visit, &mut result));
    result
}

fn show(
    host: &(dyn Any + Send + Sync),
    visit: &PyVisit<'_>,
    result: &mut Result<(), PyTraverseError>,
) {
    if let (Some(held), Ok(())) = (host.downcast_ref::<Held>(), &result) {
        *result = held.traverse(visit);
    }
}

/// Called by Python's collector before and after each run.
#[pyfunction]
fn _garbage_was_collected(phase: &str, info: &Bound<'_, PyDict>) -> PyResult<()> {
    let generation = info.get_item("generation")?;
    let is_full = generation.is_some_and(|g| g.eq(2).unwrap_or(true));
    match phase {
        "start" => garbage::set_thorough(is_full),
        _ if is_full && garbage::is_suspecting() => {
            garbage::collect();
        }
        _ => {}
    }
    Ok(())
}

/// Has the engine told of Python's collections.
pub fn install(m: &Bound<'_, PyModule>) -> PyResult<()> {
    let callback = wrap_pyfunction!(_garbage_was_collected, m)?;
    m.py().import("gc")?.getattr("callbacks")?.call_method1("append", (callback,))?;
    Ok(())
}
