//! Errors and warnings at the border to Python that say where a tensor comes from and what to do.
//!
//! As in the engine's `explain`: PyTorch's sentence first, then operation, shape and line, then one
//! fix. Warnings come once per line of the program.

use crate::error::{OrRaise, to_py};
use crate::site;
use parking_lot::Mutex;
use pyo3::exceptions::*;
use pyo3::prelude::*;
use std::collections::HashSet;
use std::ffi::CString;
use std::sync::LazyLock;
use wengert::Tensor;
use wengert::graph::Site;
use wengert::graph::explain::{Story, not_differentiable};
use wengert::layout::ShapeText;

/// Whether something happens for the first time at this line.
struct Once(LazyLock<Mutex<HashSet<Site>>>);

impl Once {
    const fn new() -> Once {
        Once(LazyLock::new(Mutex::default))
    }

    fn first_time(&self, site: Site) -> bool {
        let mut seen = self.0.lock();
        if seen.len() >= site::KEPT {
            seen.clear();
        }
        site == Site::UNKNOWN || seen.insert(site)
    }
}

fn runtime_error(story: Story) -> PyErr {
    PyRuntimeError::new_err(story.text())
}

fn warn(py: Python<'_>, story: Story) -> PyResult<()> {
    let text = CString::new(story.text().replace('\0', " "))?;
    PyErr::warn(py, &py.get_type::<PyUserWarning>(), &text, 1)
}

/// Warns that a number taken out of a tensor carries no gradient.
#[cold]
pub fn warn_detached(py: Python<'_>, tensor: &Tensor) -> PyResult<()> {
    static WARNED: Once = Once::new();
    if !WARNED.first_time(Site::here()) {
        return Ok(());
    }
    let story = Story::new(
        "Converting a tensor with requires_grad=True to a scalar may lead to unexpected behavior.\n\
         Consider using tensor.detach() first.",
    );
    warn(py, story.maker_of(tensor).line("No gradient flows through the number."))
}

/// Refuses an array over the memory of a tensor that requires grad.
#[cold]
pub fn array_with_grad(tensor: &Tensor) -> PyErr {
    let story = Story::new(
        "Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead.",
    );
    runtime_error(story.maker_of(tensor).line("No gradient would flow through the array."))
}

/// Refuses a deep copy of a computed tensor.
#[cold]
pub fn deepcopy_of_computed(tensor: &Tensor) -> PyErr {
    let story = Story::new(
        "Only Tensors created explicitly by the user (graph leaves) support the deepcopy protocol \
         at the moment.",
    );
    runtime_error(story.maker_of(tensor).fix("copy x.detach(), or x.clone() to stay in the graph."))
}

/// Warns that a copy has lost its graph.
#[cold]
pub fn warn_copy_of_computed(py: Python<'_>, tensor: &Tensor) -> PyResult<()> {
    let story = Story::new(
        "copying or pickling a computed tensor drops its graph: the copy is a leaf that requires \
         grad.",
    );
    warn(py, story.maker_of(tensor).fix("copy x.detach(), or x.clone() to stay in the graph."))
}

/// `requires_grad=True` of a function that makes a tensor.
pub fn require_grad(made: &Tensor) -> PyResult<()> {
    refuse_integers(
        made,
        "Only Tensors of floating point and complex dtype can require gradients",
    )?;
    made.require_grad_from_start().or_raise()
}

/// Refuses types that have no gradients; `sentence` is PyTorch's, which has several.
pub fn refuse_integers(tensor: &Tensor, sentence: &str) -> PyResult<()> {
    match tensor.dtype() {
        dtype if dtype.is_floating() => Ok(()),
        dtype => Err(to_py(not_differentiable(dtype, sentence))),
    }
}

/// Raises if the program is about to use an attribute of the `None` that a leaf's `.grad` is: the
/// exception that Python would raise, with a hint.
#[cold]
pub fn missing_grad(py: Python<'_>, tensor: &Tensor) -> PyResult<()> {
    static HARMLESS: Once = Once::new();
    let here = Site::here();
    if !HARMLESS.first_time(here) {
        return Ok(());
    }
    let Some((code, offset)) = site::instruction(py, here) else { return Ok(()) };
    let hints = py.import("wengert._hints")?;
    let name = hints.getattr("attribute_of_grad")?.call1((code, offset))?;
    if name.is_none() {
        return Ok(());
    }
    HARMLESS.0.lock().remove(&here);
    let story = Story::new(format!("'NoneType' object has no attribute '{name}'"))
        .line(&format!(
            "The .grad of this leaf of shape {} is None: no backward has reached it since it was \
             made or its .grad was set to None.",
            ShapeText(tensor.shape())
        ))
        .at("It is used", here)
        .fix("call backward() first; to reset a gradient set .grad to None, as zero_grad() of an optimizer does.");
    Err(PyAttributeError::new_err(story.text()))
}
