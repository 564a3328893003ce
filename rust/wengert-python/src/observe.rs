//! What is noted at the border between Python and the engine: spans for the profiler, and which
//! results have no history because recording was off.
//!
//! Both cost a test each when there is nothing to note.

use crate::args::Call;
use crate::site::{self, location};
use crate::tensor::PyTensor;
use parking_lot::Mutex;
use pyo3::exceptions::*;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};
use smallvec::SmallVec;
use std::borrow::Cow;
use wengert::ops::{Args, Output, Row};
use wengert::profile::{self, Category, Event, Options, Span};
use wengert::tensor::Severed;
use wengert::{Result, Tensor, graph, ops};

/// What ends a span when it goes.
pub type Watched = Option<Box<Span>>;

/// Shapes of the tensors among some objects, and the lines that lead here.
fn describe<'a, 'py: 'a>(
    event: &mut Event,
    options: Options,
    inputs: impl Iterator<Item = &'a Bound<'py, PyAny>>,
) {
    if options.shapes {
        for input in inputs {
            match input.cast::<PyTensor>() {
                Ok(t) => event.shapes.push(t.get().tensor().shape().to_vec()),
                Err(_) => event.shapes.push(Vec::new()),
            }
        }
    }
    if options.sites {
        event.sites = site::stack();
    }
}

/// The span of a call of a row.
#[inline]
pub fn call(row: &Row, in_place: bool, call: &Call<'_, '_>) -> Watched {
    let suffix = if in_place { "_" } else { "" };
    profile::span(
        Category::Operation,
        || format!("aten::{}{suffix}", row.short_name()).into(),
        |event, options| describe(event, options, call.slf.into_iter().chain(call.positional)),
    )
}

/// The span of an augmented assignment.
#[inline]
pub fn assignment(row: &Row, args: &Args) -> Watched {
    profile::span(
        Category::Operation,
        || format!("aten::{}_", row.short_name()).into(),
        |event, options| {
            describe(event, options, std::iter::empty());
            if options.shapes {
                let tensors = args.values.iter().filter_map(ops::Value::as_tensor);
                event.shapes = tensors.map(|t| t.shape().to_vec()).collect();
            }
        },
    )
}

/// The span of what a protocol of the class does.
#[inline]
pub fn protocol(name: &'static str, inputs: &[&Bound<'_, PyAny>]) -> Watched {
    profile::span(
        Category::Operation,
        || name.into(),
        |event, options| describe(event, options, inputs.iter().copied()),
    )
}

/// What an infix operator calls.
pub type Binary = fn(&Tensor, &Tensor) -> Result<Tensor>;

/// The span of an infix operator.
#[inline]
pub fn infix(f: Binary, inputs: &[&Bound<'_, PyAny>]) -> Watched {
    profile::span(
        Category::Operation,
        || infix_name(f).into(),
        |event, options| describe(event, options, inputs.iter().copied()),
    )
}

/// Names of the functions behind infix operators, as PyTorch's profiler has them.
fn infix_name(f: Binary) -> &'static str {
    use ops::{binary, compare, matmul};
    let names: [(Binary, &str); 18] = [
        (ops::add, "aten::add"),
        (binary::difference, "aten::sub"),
        (binary::difference_from, "aten::rsub"),
        (ops::mul, "aten::mul"),
        (ops::div, "aten::div"),
        (binary::quotient_of, "aten::div"),
        (binary::floor_quotients, "aten::floor_divide"),
        (binary::remainders, "aten::remainder"),
        (binary::powers, "aten::pow"),
        (matmul::matmul, "aten::matmul"),
        (compare::bitwise_and, "aten::bitwise_and"),
        (compare::bitwise_or, "aten::bitwise_or"),
        (compare::bitwise_xor, "aten::bitwise_xor"),
        (compare::lt, "aten::lt"),
        (compare::le, "aten::le"),
        (compare::eq, "aten::eq"),
        (compare::ne, "aten::ne"),
        (compare::gt, "aten::gt"),
    ];
    let found = names.iter().find(|(g, _)| std::ptr::fn_addr_eq(*g, f));
    found.map_or("aten::ge", |(_, name)| name)
}

/// Notes on a result without history why it has none, if the tensors that it was computed from
/// have one, or had: then recording is off, or they were cut off themselves.
#[inline]
pub fn made<'a>(result: &Tensor, inputs: impl Iterator<Item = &'a Tensor>) {
    for input in inputs {
        if !input.has_story() {
            continue;
        }
        if result.requires_grad() {
            return;
        }
        if input.requires_grad() {
            // With recording on, the operation is one that has no gradient.
            if !graph::is_grad_enabled() {
                result.sever(Severed::Unrecorded);
            }
            return;
        }
        if input.severed().is_some() {
            result.sever_like(input);
            return;
        }
    }
}

/// [`made`] for the result of a row.
#[inline]
pub fn made_by_call(result: &Output, args: &Args) {
    if let Output::Tensor(t) = result {
        made(t, args.values.iter().filter_map(ops::Value::as_tensor));
    }
}

/// A named span: a block, or all calls of a decorated function.
///
/// Parameters
/// ----------
/// name : str
///     What the profiler calls it.
/// args : str, optional
///     Accepted as PyTorch's class does, and not recorded.
///
/// Examples
/// --------
/// >>> import wengert
/// >>> from wengert.profiler import profile, record_function
/// >>> with profile() as prof, record_function("double"):
/// ...     y = wengert.ones(2) * 2
/// >>> [event.name for event in prof.events()]
/// ['double', 'aten::ones', 'aten::mul']
#[pyclass(name = "record_function", module = "wengert.profiler", subclass, frozen)]
pub struct PyRecordFunction {
    #[pyo3(get)]
    name: String,
    #[pyo3(get)]
    args: Option<String>,
    /// Innermost last: one object may be entered again.
    open: Mutex<SmallVec<[Watched; 1]>>,
}

#[pymethods]
impl PyRecordFunction {
    #[new]
    #[pyo3(signature = (name, args=None))]
    fn new(name: String, args: Option<String>) -> Self {
        PyRecordFunction { name, args, open: Mutex::default() }
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        let this = slf.get();
        let name = || Cow::Owned(this.name.clone());
        let span = profile::span(Category::User, name, |event, options| {
            describe(event, options, std::iter::empty());
        });
        this.open.lock().push(span);
        slf
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, _exception: &Bound<'_, PyTuple>) -> PyResult<()> {
        let span = self.open.lock().pop();
        match span {
            Some(span) => {
                drop(span);
                Ok(())
            }
            None => Err(PyRuntimeError::new_err("left a record_function that was not entered")),
        }
    }

    /// Makes every call of a function a span.
    fn __call__<'py>(
        slf: &Bound<'py, Self>,
        func: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let home = slf.py().import("wengert._profiling.record")?;
        home.getattr("decorate")?.call1((slf, func))
    }
}

/// Begins a recording; False if there is one already.
#[pyfunction]
pub fn _profile_start(shapes: bool, memory: bool, sites: bool) -> bool {
    profile::start(Options { shapes, memory, sites })
}

/// Ends the recording: a list of dicts, in the order of their ends.
#[pyfunction]
pub fn _profile_stop(py: Python<'_>) -> PyResult<Bound<'_, PyList>> {
    let list = PyList::empty(py);
    for event in profile::stop() {
        let d = PyDict::new(py);
        d.set_item("name", &*event.name)?;
        d.set_item(
            "category",
            match event.category {
                Category::Operation => "cpu_op",
                Category::Backward => "backward",
                Category::User => "user_annotation",
            },
        )?;
        d.set_item("begin", event.begin)?;
        d.set_item("end", event.end)?;
        d.set_item("thread", event.thread)?;
        d.set_item("shapes", event.shapes)?;
        d.set_item("bytes", event.bytes)?;
        d.set_item("sequence", event.sequence)?;
        let stack: Vec<_> = event.sites.into_iter().filter_map(location).collect();
        d.set_item("stack", stack)?;
        list.append(d)?;
    }
    Ok(list)
}

/// What live graphs hold: dicts of place, names of nodes, numbers and bytes, largest first.
#[pyfunction]
pub fn _census(py: Python<'_>) -> PyResult<Bound<'_, PyList>> {
    let list = PyList::empty(py);
    for holding in graph::census::census() {
        let d = PyDict::new(py);
        d.set_item("place", location(holding.site))?;
        d.set_item("nodes", holding.nodes)?;
        d.set_item("saved", holding.saved)?;
        d.set_item("bytes", holding.bytes())?;
        d.set_item("names", holding.names)?;
        list.append(d)?;
    }
    Ok(list)
}

/// Adds functions and classes to the module.
pub fn install(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<PyRecordFunction>()?;
    m.add_function(wrap_pyfunction!(_profile_start, m)?)?;
    m.add_function(wrap_pyfunction!(_profile_stop, m)?)?;
    m.add_function(wrap_pyfunction!(_census, m)?)
}
