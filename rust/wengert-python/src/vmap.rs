//! Where batched tensors meet Python: `vmap` levels, and the turning of each call to its batching rule.
//!
//! Every entry point of the binding asks [`batch::active`] first, one load; only while a `vmap` runs or
//! a batched tensor lives does anything here run. The rules themselves are the engine's.

use crate::bind;
use crate::error::{from_py, guarded};
use crate::tensor::{PyTensor, wrap};
use pyo3::exceptions::*;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple, PyType};
use std::cell::Cell;
use wengert::batch::{self, Randomness};
use wengert::format::{self, Source, Suffixes};
use wengert::graph::{self, Backward, Point, transform};
use wengert::ops::{Args, Output, Row, Value, tags};
use wengert::{DType, Scalar, Tensor};

/// How a row of the table was called.
#[derive(Clone, Copy, PartialEq)]
pub enum Form {
    /// For a new result.
    New,
    /// To write to the first argument.
    InPlace,
    /// To write to `out=`.
    Out,
}

/// The result of a call with batched arguments; `None` if the call is an ordinary one.
#[cold]
pub fn intercept<'py>(
    py: Python<'py>,
    row: &'static Row,
    form: Form,
    args: &Args,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    if form == Form::Out {
        let batched = |v: &Value| v.tensors().iter().any(Tensor::is_batched);
        if args.values.iter().any(batched) {
            return Err(PyRuntimeError::new_err(format!(
                "Batching rule not implemented for aten::{}.out; the fallback path doesn't work on \
                 out= or view ops.",
                row.short_name()
            )));
        }
        return Ok(None);
    }
    if form == Form::InPlace && !row.has(tags::VIEW) {
        if !guarded(|| batch::call_inplace(row, args))? {
            return Ok(None);
        }
        return Ok(Some(wrap(py, args.tensor(0).clone())?.into_any()));
    }
    let Some(output) = guarded(|| batch::call(row, args))? else { return Ok(None) };
    if form == Form::InPlace
        && let Output::Tensor(view) = output
    {
        let object = wrap(py, args.tensor(0).clone())?;
        object.get().replace(py, view);
        return Ok(Some(object.into_any()));
    }
    bind::output(py, output).map(Some)
}

/// An operation element by element on operands one of which may be batched; `None` if none is.
#[cold]
pub fn binary(
    a: &Tensor,
    b: &Tensor,
    f: fn(&Tensor, &Tensor) -> wengert::Result<Tensor>,
) -> PyResult<Option<Tensor>> {
    guarded(|| batch::pointwise(&[a, b], |ts| f(&ts[0], &ts[1])))
}

/// As [`binary`], of one operand.
#[cold]
pub fn unary(x: &Tensor, f: fn(&Tensor) -> wengert::Result<Tensor>) -> PyResult<Option<Tensor>> {
    guarded(|| batch::pointwise(&[x], |ts| f(&ts[0])))
}

/// `slf @ other`, or the other way round, if either is batched.
#[cold]
pub fn product<'py>(
    slf: &Bound<'py, PyTensor>,
    other: &Bound<'py, PyAny>,
    reflected: bool,
) -> PyResult<Option<Bound<'py, PyTensor>>> {
    let a = slf.get().tensor();
    let b = match other.cast::<PyTensor>() {
        Ok(other) => other.get().tensor(),
        Err(_) => match crate::numpy::array_operand(other)? {
            Some(array) => array,
            None => return Ok(None),
        },
    };
    if !a.is_batched() && !b.is_batched() {
        return Ok(None);
    }
    let (a, b) = if reflected { (b, a) } else { (a, b) };
    let values = [Value::Tensor(a), Value::Tensor(b)];
    wrap(slf.py(), guarded(|| batch::invoke("matmul", 0, values))?).map(Some)
}

/// Refuses what would have to look at a value.
pub fn check_control_flow(t: &Tensor) -> PyResult<()> {
    if t.is_batched() {
        return Err(PyRuntimeError::new_err(
            "vmap: It looks like you're attempting to use a Tensor in some data-dependent control \
             flow. We don't support that yet: the condition differs from example to example. Use \
             torch.where(condition, a, b) instead of `if`.",
        ));
    }
    Ok(())
}

/// Refuses what needs the elements of one tensor.
pub fn check_plain(t: &Tensor, what: &str) -> PyResult<()> {
    if t.is_batched() {
        return Err(PyNotImplementedError::new_err(format!(
            "Cannot access storage of BatchedTensorImpl ({what}: inside vmap a tensor stands for \
             every example of a batch)"
        )));
    }
    Ok(())
}

/// Refuses `Tensor.data` of a batched tensor.
pub fn check_data(t: &Tensor) -> PyResult<()> {
    if t.is_batched() {
        return Err(PyRuntimeError::new_err(
            "accessing `data` under vmap transform is not allowed",
        ));
    }
    Ok(())
}

/// Refuses to call `Tensor.NAME()` where a transform runs.
pub fn check_outside(name: &str) -> PyResult<()> {
    if transform::is_active() {
        return Err(PyRuntimeError::new_err(format!(
            "You are attempting to call Tensor.{name}() (or perhaps using \
             torch.autograd.functional.* APIs) inside of a function being transformed by a functorch \
             transform. This is unsupported, please attempt to use the functorch transforms (e.g. \
             grad, vjp, jacrev, jacfwd, hessian) or call {name}() outside of a function being \
             transformed instead."
        )));
    }
    Ok(())
}

/// Refuses backward passes that accumulate where a transform runs.
pub fn check_backward() -> PyResult<()> {
    if transform::is_active() {
        return Err(PyRuntimeError::new_err(
            "backward() called inside a functorch transform. This is not supported, please use \
             functorch.grad or functorch.vjp instead or call backward() outside of functorch \
             transforms.",
        ));
    }
    Ok(())
}

/// A physical tensor as the printer sees it.
struct Printed(Tensor);

impl Source for Printed {
    fn dtype(&self) -> DType {
        self.0.dtype()
    }
    fn shape(&self) -> &[usize] {
        self.0.shape()
    }
    fn at(&self, index: &[usize]) -> Scalar {
        self.0.at(index)
    }
}

/// `BatchedTensor(lvl=1, bdim=0, value=...)`, as PyTorch prints it.
pub fn repr(t: &Tensor) -> Option<String> {
    let (physical, levels) = batch::shown(t).ok()??;
    let made_by = physical.grad_fn().map(|e| e.node.name().to_string());
    let suffixes = Suffixes {
        grad_fn: made_by.as_deref(),
        requires_grad: physical.requires_grad(),
        ..Suffixes::default()
    };
    let mut text = format::tensor(&Printed(physical), &suffixes, &format::printoptions());
    for (place, &(id, axis)) in levels.iter().enumerate() {
        let level = batch::depth_of(id).unwrap_or(place + 1);
        let inner: String = text.lines().map(|line| format!("    {line}\n")).collect();
        text = format!("BatchedTensor(lvl={level}, bdim={axis}, value=\n{inner})");
    }
    Some(text)
}

thread_local! {
    /// Whether functions that say nothing of batches are applied to one example after the other.
    static PLAIN_FUNCTIONS: Cell<bool> = const { Cell::new(false) };
}

/// Has functions that say nothing of batches applied to one example after the other, instead of being
/// refused. Gives what was before.
#[pyfunction]
pub fn _set_plain_functions(mode: bool) -> bool {
    PLAIN_FUNCTIONS.replace(mode)
}

/// Whether they are.
#[pyfunction]
pub fn _plain_functions() -> bool {
    PLAIN_FUNCTIONS.get()
}

/// The result of `Function.apply` if an argument is batched.
pub fn apply_function<'py>(
    cls: &Bound<'py, PyType>,
    args: &Bound<'py, PyTuple>,
    separate: bool,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    if !batch::active() && !transform::may_be_active() {
        return Ok(None);
    }
    if !separate && transform::is_active() && !PLAIN_FUNCTIONS.get() {
        return Err(PyRuntimeError::new_err(
            "In order to use an autograd.Function with functorch transforms (vmap, grad, jvp, jacrev, \
             ...), it must override the setup_context staticmethod. For more details, please see \
             https://pytorch.org/docs/main/notes/extending.func.html",
        ));
    }
    if !batch::active() {
        return Ok(None);
    }
    let py = cls.py();
    let result = py.import("wengert.func._function")?.getattr("apply")?.call1((cls, args))?;
    Ok((!result.is(py.NotImplemented())).then_some(result))
}

/// Levels of this thread that were taken off it.
#[pyclass(name = "_Levels", module = "wengert._core", frozen)]
pub struct PyLevels(Vec<batch::Level>);

/// Whether calls look for batches at all: whether any level runs or batched tensor lives.
#[pyfunction]
pub fn _batches_exist() -> bool {
    batch::active()
}

/// The innermost level in which one of the tensors has examples.
#[pyfunction]
pub fn _innermost_level(tensors: &Bound<'_, PyAny>) -> PyResult<Option<u32>> {
    let tensors = list(tensors)?;
    Ok(guarded(|| batch::levels_of_all(&tensors, "apply"))?.last().copied())
}

/// The number of examples of a level, and its randomness.
#[pyfunction]
pub fn _level_info(level: u32) -> PyResult<(usize, &'static str)> {
    match batch::stack().iter().find(|l| l.id == level) {
        Some(l) => Ok((l.size, randomness_name(l.randomness))),
        None => Err(PyRuntimeError::new_err(format!("level {level} of vmap does not run"))),
    }
}

fn randomness_name(randomness: Randomness) -> &'static str {
    match randomness {
        Randomness::Error => "error",
        Randomness::Different => "different",
        Randomness::Same => "same",
    }
}

/// Takes a level and those inside it off this thread.
#[pyfunction]
pub fn _suspend_levels(level: u32) -> PyLevels {
    PyLevels(batch::suspend(level))
}

/// Puts back what `_suspend_levels` took off.
#[pyfunction]
pub fn _resume_levels(levels: &PyLevels) {
    batch::resume(levels.0.clone());
}

// Functions of the package. ------------------------------------------------------------------------

/// Begins a level of `size` examples; gives its number.
#[pyfunction]
pub fn _vmap_enter(size: usize, randomness: &str) -> PyResult<u32> {
    let randomness = match randomness {
        "error" => Randomness::Error,
        "different" => Randomness::Different,
        "same" => Randomness::Same,
        other => {
            return Err(PyRuntimeError::new_err(format!(
                "Only allowed values for randomness are 'error', 'different', or 'same'. Got {other}"
            )));
        }
    };
    Ok(batch::enter(size, randomness))
}

/// Ends a level.
#[pyfunction]
pub fn _vmap_exit(level: u32) {
    batch::exit(level);
}

/// How many levels run on this thread.
#[pyfunction]
pub fn _vmap_depth() -> usize {
    if batch::active() { batch::stack().len() } else { 0 }
}

/// Takes an axis of a tensor as the examples of a level.
#[pyfunction]
pub fn _add_batch_dim<'py>(
    input: &Bound<'py, PyTensor>,
    dim: i64,
    level: u32,
) -> PyResult<Bound<'py, PyTensor>> {
    let t = input.get().tensor();
    wrap(input.py(), guarded(|| batch::add_axis(&t, dim, level))?)
}

/// Makes the examples of a level an axis again, repeating a tensor that has none.
#[pyfunction]
pub fn _remove_batch_dim<'py>(
    input: &Bound<'py, PyTensor>,
    level: u32,
    size: usize,
    dim: i64,
) -> PyResult<Bound<'py, PyTensor>> {
    let t = input.get().tensor();
    wrap(input.py(), guarded(|| batch::remove_axis(&t, level, size, dim))?)
}

/// The tensor with the examples of a level as an axis, the one they were or the first, and that axis; or
/// the tensor itself and None if it has no examples in that level.
#[pyfunction]
pub fn _unwrap_batched<'py>(
    input: &Bound<'py, PyTensor>,
    level: u32,
) -> PyResult<(Bound<'py, PyTensor>, Option<usize>)> {
    let t = input.get().tensor();
    let (t, dim) = guarded(|| batch::without_level(&t, level))?;
    Ok((wrap(input.py(), t)?, dim))
}

/// Whether a tensor stands for one example of a batch.
#[pyfunction]
pub fn _is_batched(input: &Bound<'_, PyAny>) -> bool {
    input.cast::<PyTensor>().is_ok_and(|t| t.get().tensor().is_batched())
}

/// Marks the body of a function transform.
#[pyfunction]
pub fn _transform_enter() {
    transform::enter();
}

/// Ends what `_transform_enter` began.
#[pyfunction]
pub fn _transform_exit() {
    transform::exit();
}

/// Whether a function transform, or a `vmap`, runs on this thread.
#[pyfunction]
pub fn _transform_active() -> bool {
    transform::is_active()
}

/// The fresh alias of a tensor that a transform differentiates with respect to.
#[pyfunction]
pub fn _transform_lift<'py>(input: &Bound<'py, PyTensor>) -> PyResult<Bound<'py, PyTensor>> {
    let t = input.get().tensor();
    wrap(input.py(), guarded(|| transform::lift(&t))?)
}

/// An argument of a transform's function that is not differentiated.
#[pyfunction]
pub fn _transform_own<'py>(input: &Bound<'py, PyTensor>) -> PyResult<Bound<'py, PyTensor>> {
    let t = input.get().tensor();
    wrap(input.py(), guarded(|| transform::own(&t))?)
}

/// What a batched tensor was made of, altogether or by the innermost `vmap`.
#[pyfunction]
pub fn _unwrapped<'py>(input: &Bound<'py, PyTensor>, all: bool) -> PyResult<Bound<'py, PyTensor>> {
    let t = input.get().tensor();
    wrap(input.py(), guarded(|| batch::unwrapped(&t, all))?)
}

fn list(values: &Bound<'_, PyAny>) -> PyResult<Vec<Tensor>> {
    values.try_iter()?.map(|v| Ok(v?.cast::<PyTensor>()?.get().tensor())).collect()
}

/// A result of a transform without what only its own inputs `own` give it.
#[pyfunction]
pub fn _transform_cut<'py>(
    result: &Bound<'py, PyTensor>,
    own: &Bound<'py, PyAny>,
    recording: bool,
) -> PyResult<Bound<'py, PyTensor>> {
    let t = result.get().tensor();
    if !t.requires_grad() {
        return Ok(result.clone());
    }
    let own = list(own)?;
    wrap(result.py(), guarded(|| transform::cut(&t, &own, recording))?)
}

/// Gradients of a transform's outputs with respect to its own inputs; `hidden` are further ones.
#[pyfunction]
#[pyo3(signature = (outputs, cotangents, own, recording, retain_graph, hidden=None))]
pub fn _transform_gradients<'py>(
    outputs: &Bound<'py, PyAny>,
    cotangents: Option<&Bound<'py, PyAny>>,
    own: &Bound<'py, PyAny>,
    recording: bool,
    retain_graph: bool,
    hidden: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyList>> {
    let py = own.py();
    let (outputs, own) = (list(outputs)?, list(own)?);
    let hidden = hidden.map(list).transpose()?.unwrap_or_default();
    let cotangents = match cotangents {
        Some(given) => list(given)?.into_iter().map(Some).collect(),
        None => Vec::new(),
    };
    let found = guarded(|| {
        transform::gradients(&outputs, &cotangents, &own, &hidden, recording, retain_graph)
    })?;
    let objects = found.into_iter().map(|g| wrap(py, g)).collect::<PyResult<Vec<_>>>()?;
    PyList::new(py, objects)
}

/// `graph::grad_at`, also of batched tensors.
pub fn gradients(
    outputs: &[Point],
    grad_outputs: &[Option<Tensor>],
    inputs: &[Point],
    options: Backward,
) -> wengert::Result<Vec<Option<Tensor>>> {
    if batch::active() {
        return batch::backward::grad_at(outputs, grad_outputs, inputs, options);
    }
    graph::grad_at(outputs, grad_outputs, inputs, options)
}

/// A level that ends when this is dropped.
struct Running(u32);

impl Drop for Running {
    fn drop(&mut self) {
        batch::exit(self.0);
    }
}

/// Gradients for every slice of the cotangents along their first axes, stacked along theirs:
/// `autograd.grad(..., is_grads_batched=True)`.
pub fn batched_gradients(
    outputs: &[Point],
    grad_outputs: &[Option<Tensor>],
    inputs: &[Point],
    options: Backward,
) -> wengert::Result<Vec<Option<Tensor>>> {
    let mut sizes = Vec::new();
    for (i, (output, cotangent)) in outputs.iter().zip(grad_outputs).enumerate() {
        let Some(g) = cotangent else { continue };
        let shape = batch::backward::shape_at(output);
        if g.ndim() == 0 || g.shape()[1..] != shape[..] {
            return Err(from_py(PyRuntimeError::new_err(format!(
                "If `is_grads_batched=True`, we interpret the first dimension of each grad_output as \
                 the batch dimension. The sizes of the remaining dimensions are expected to match the \
                 shape of corresponding output, but a mismatch was detected: grad_output[{i}] has a \
                 shape of {} and output[{i}] has a shape of {}. If you only want some tensors in \
                 `grad_output` to be considered batched, consider using vmap.",
                shape_text(g.shape()),
                shape_text(&shape)
            ))));
        }
        sizes.push(g.shape()[0]);
    }
    let Some(&size) = sizes.first() else {
        return gradients(outputs, grad_outputs, inputs, options);
    };
    if sizes.iter().any(|&s| s != size) {
        return Err(from_py(PyValueError::new_err(format!(
            "vmap: Expected all tensors to have the same size in the mapped dimension, got sizes \
             {sizes:?} for the mapped dimension"
        ))));
    }
    let level = Running(batch::enter(size, Randomness::Error));
    let add = |g: &Option<Tensor>| g.as_ref().map(|g| batch::add_axis(g, 0, level.0)).transpose();
    let given = grad_outputs.iter().map(add).collect::<wengert::Result<Vec<_>>>()?;
    let found = batch::backward::grad_at(outputs, &given, inputs, options)?;
    let remove =
        |g: Option<Tensor>| g.map(|g| batch::remove_axis(&g, level.0, size, 0)).transpose();
    found.into_iter().map(remove).collect()
}

fn shape_text(shape: &[usize]) -> String {
    format!("torch.Size({shape:?})")
}

/// Adds everything to the module.
pub fn install(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(_set_plain_functions, m)?)?;
    m.add_function(wrap_pyfunction!(_plain_functions, m)?)?;
    m.add_function(wrap_pyfunction!(_vmap_enter, m)?)?;
    m.add_function(wrap_pyfunction!(_vmap_exit, m)?)?;
    m.add_function(wrap_pyfunction!(_vmap_depth, m)?)?;
    m.add_function(wrap_pyfunction!(_batches_exist, m)?)?;
    m.add_function(wrap_pyfunction!(_innermost_level, m)?)?;
    m.add_function(wrap_pyfunction!(_level_info, m)?)?;
    m.add_function(wrap_pyfunction!(_suspend_levels, m)?)?;
    m.add_function(wrap_pyfunction!(_resume_levels, m)?)?;
    m.add_function(wrap_pyfunction!(_add_batch_dim, m)?)?;
    m.add_function(wrap_pyfunction!(_remove_batch_dim, m)?)?;
    m.add_function(wrap_pyfunction!(_unwrap_batched, m)?)?;
    m.add_function(wrap_pyfunction!(_is_batched, m)?)?;
    m.add_function(wrap_pyfunction!(_transform_enter, m)?)?;
    m.add_function(wrap_pyfunction!(_transform_exit, m)?)?;
    m.add_function(wrap_pyfunction!(_transform_active, m)?)?;
    m.add_function(wrap_pyfunction!(_transform_lift, m)?)?;
    m.add_function(wrap_pyfunction!(_transform_own, m)?)?;
    m.add_function(wrap_pyfunction!(_unwrapped, m)?)?;
    m.add_function(wrap_pyfunction!(_transform_cut, m)?)?;
    m.add_function(wrap_pyfunction!(_transform_gradients, m)?)
}
