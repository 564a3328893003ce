//! Anomaly mode for Python: tracebacks of forward calls, and warnings that show them.
//!
//! As in PyTorch, a node that is made in this mode keeps the traceback in its `metadata`, with the
//! node whose backward made it, and an error of backward is preceded by warnings with both.

use crate::node;
use pyo3::exceptions::PyUserWarning;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::ffi::CString;
use wengert::graph::NodeRef;
use wengert::graph::anomaly::{self, Reporter};

const TRACE: &str = "traceback_";
const PARENT: &str = "parent_";

/// Whether anomaly mode is on.
#[pyfunction]
fn is_anomaly_enabled() -> bool {
    anomaly::is_enabled()
}

/// Whether anomaly mode looks for NaN.
#[pyfunction]
fn is_anomaly_check_nan_enabled() -> bool {
    anomaly::checks_nan()
}

/// Switches anomaly mode on or off, for all threads.
///
/// Parameters
/// ----------
/// enabled : bool
///     Whether operations keep their tracebacks for errors of backward.
/// check_nan : bool
///     Whether a NaN in a gradient is such an error.
#[pyfunction]
#[pyo3(signature = (enabled, check_nan=true))]
fn set_anomaly_enabled(enabled: bool, check_nan: bool) {
    anomaly::set(enabled, check_nan);
}

fn made(node: &NodeRef, parent: Option<&NodeRef>) {
    Python::attach(|py| {
        let kept = || -> PyResult<()> {
            let notes = node::notes(py, node)?;
            let trace = py.import("traceback")?.call_method0("format_stack")?;
            notes.set_item(TRACE, trace)?;
            if let Some(parent) = parent {
                notes.set_item(PARENT, node::object(py, parent)?)?;
            }
            Ok(())
        };
        if let Err(error) = kept() {
            error.write_unraisable(py, None);
        }
    });
}

fn failed(node: &NodeRef) {
    Python::attach(|py| {
        if let Err(error) = show(py, node) {
            error.write_unraisable(py, None);
        }
    });
}

/// Warns with the traceback of a node, and with those of the nodes that led to it.
fn show(py: Python<'_>, node: &NodeRef) -> PyResult<()> {
    let mut notes = node::notes(py, node)?;
    let mut first = text(&notes, node.name(), false)?;
    if notes.get_item(TRACE)?.is_none()
        && let Some(place) = node.site().place()
    {
        first.push_str(&format!(" Without that, it is known that it ran at {place}"));
    }
    warn(py, &first)?;
    while let Some(parent) = notes.get_item(PARENT)? {
        let Some(parent) = node::node_of(&parent) else { break };
        notes = node::notes(py, &parent)?;
        warn(py, &text(&notes, parent.name(), true)?)?;
    }
    Ok(())
}

fn text(notes: &Bound<'_, PyDict>, name: &str, parent: bool) -> PyResult<String> {
    let (start, caused) = match parent {
        true => ("\n\nPrevious calculation was induced by ", "induced the previous calculation"),
        false => ("Error detected in ", "caused the error"),
    };
    Ok(match notes.get_item(TRACE)? {
        Some(trace) => {
            let lines: Vec<String> = trace.extract()?;
            format!("{start}{name}. Traceback of forward call that {caused}:\n{}", lines.concat())
        }
        None => format!(
            "{start}{name}. No forward pass information available. Enable detect anomaly during \
             forward pass for more information."
        ),
    })
}

/// Warns, or writes to stderr where warnings are errors: another error is on its way already.
fn warn(py: Python<'_>, text: &str) -> PyResult<()> {
    let warning = CString::new(text.replace('\0', ""))?;
    let category = py.get_type::<PyUserWarning>();
    if PyErr::warn(py, &category, &warning, 1).is_err() {
        let line = format!("UserWarning: {text}\n");
        py.import("sys")?.getattr("stderr")?.call_method1("write", (line,))?;
    }
    Ok(())
}

/// Adds the functions to the module.
pub fn install(m: &Bound<'_, PyModule>) -> PyResult<()> {
    anomaly::set_reporter(Reporter { made, failed });
    m.add_function(wrap_pyfunction!(is_anomaly_enabled, m)?)?;
    m.add_function(wrap_pyfunction!(is_anomaly_check_nan_enabled, m)?)?;
    m.add_function(wrap_pyfunction!(set_anomaly_enabled, m)?)
}
