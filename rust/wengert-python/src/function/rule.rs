//! The rules of users' functions: their `backward` and their `jvp`, and checks of what those return.

use super::apply::{defaults, tensor_of};
use super::{Argument, Output, PyFunctionCtx, freed};
use crate::error::{OrRaise, from_py};
use crate::held::Held;
use crate::tensor::{PyTensor, wrap};
use pyo3::exceptions::*;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple, PyWeakrefMethods, PyWeakrefReference};
use smallvec::SmallVec;
use std::cell::Cell;
use std::sync::Arc;
use wengert::graph::custom::{self, Call};
use wengert::graph::{Context, Gradients, NodeRef, Op};
use wengert::{Error, Kind, Tensor};

thread_local! {
    /// Whether the backward pass that runs a Function's rule on this thread keeps the graph.
    static KEEPS_GRAPH: Cell<bool> = const { Cell::new(true) };
}

/// Whether the pass whose rule runs on this thread keeps the graph; so it is outside of passes, too.
pub(super) fn keeps_graph() -> bool {
    KEEPS_GRAPH.get()
}

struct KeepsGraph(bool);

impl Drop for KeepsGraph {
    fn drop(&mut self) {
        KEEPS_GRAPH.set(self.0);
    }
}

/// The rule of a user's Function: its `backward`.
pub(super) struct FunctionOp {
    /// The context; a weak reference to it if the context owns the node and not the other way round.
    ctx: Held,
    name: Arc<str>,
}

/// How many references an object has, ours included.
#[allow(unsafe_code)]
fn references(object: &Bound<'_, PyFunctionCtx>) -> isize {
    // SAFETY: the object lives.
    unsafe { pyo3::ffi::Py_REFCNT(object.as_ptr()) }
}

impl FunctionOp {
    pub(super) fn new(ctx: &Bound<'_, PyFunctionCtx>, name: Arc<str>) -> FunctionOp {
        FunctionOp { ctx: Held::new(ctx.clone().into_any().unbind()), name }
    }

    fn context<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyFunctionCtx>> {
        let held = self.ctx.bind(py);
        match held.cast::<PyFunctionCtx>() {
            Ok(ctx) => Some(ctx.clone()),
            Err(_) => held.cast::<PyWeakrefReference>().ok()?.upgrade()?.cast_into().ok(),
        }
    }
}

impl Op for FunctionOp {
    fn name(&self) -> &str {
        &self.name
    }

    fn backward(&self, context: &Context, grads: &[Option<Tensor>]) -> wengert::Result<Gradients> {
        let _keeps = KeepsGraph(KEEPS_GRAPH.replace(context.keeps_graph()));
        Python::attach(|py| self.run(&self.context(py).ok_or_else(freed)?, grads)).map_err(from_py)
    }

    /// A context that somebody asked for goes on as a node when its node dies: it then owns the edges
    /// and what was saved.
    fn outlived(&self, remains: NodeRef) {
        Python::try_attach(|py| {
            if let Some(ctx) = self.context(py)
                && references(&ctx) > 2
            {
                let mut state = ctx.get().0.lock();
                state.node = Some(remains.downgrade());
                state.remains = Some(remains);
            }
        });
    }

    fn remains(&self) -> Option<Box<dyn Op>> {
        let weak = Python::try_attach(|py| {
            let ctx = self.context(py)?;
            Some(PyWeakrefReference::new(&ctx).ok()?.into_any().unbind())
        });
        Some(Box::new(FunctionOp { ctx: Held::new(weak??), name: self.name.clone() }))
    }

    fn needs_calling_thread(&self) -> bool {
        true
    }

    fn fetches_saved(&self) -> bool {
        true
    }

    fn host(&self) -> Option<&(dyn std::any::Any + Send + Sync)> {
        Some(&self.ctx)
    }
}

impl FunctionOp {
    fn run(&self, ctx: &Bound<'_, PyFunctionCtx>, grads: &[Option<Tensor>]) -> PyResult<Gradients> {
        let py = ctx.py();
        let node = ctx.get().node().ok_or_else(freed)?;
        let (bare, bare_constant, kinds) = {
            let state = ctx.get().0.lock();
            (state.bare_grads, state.bare_constant_grads, state.outputs.clone())
        };
        let mut given = SmallVec::<[Option<Bound<'_, PyTensor>>; 4]>::new();
        for (k, grad) in grads.iter().enumerate() {
            let kind = kinds.get(k).copied().unwrap_or(Output::Differentiable);
            let tensor = match (grad, kind) {
                (Some(grad), _) => Some(grad.clone()),
                (None, Output::Other) => None,
                (None, Output::Constant) if bare || bare_constant => None,
                (None, _) if bare => None,
                (None, _) => {
                    let meta = &node.outputs()[k];
                    Some(Tensor::zeros(&meta.shape(), meta.dtype()).or_raise()?)
                }
            };
            given.push(tensor.map(|t| wrap(py, t)).transpose()?);
        }
        let class = ctx.getattr(intern!(py, "_forward_cls"))?;
        let rule = user_rule(&class)?;
        let result = if class.getattr(intern!(py, "boxed_grads_call"))?.is_truthy()? {
            let list = PyList::new(py, given)?;
            rule.call1((ctx, list))?
        } else {
            let mut all = SmallVec::<[Bound<'_, PyAny>; 4]>::new();
            all.push(ctx.clone().into_any());
            for grad in given {
                all.push(grad.map_or_else(|| py.None().into_bound(py), Bound::into_any));
            }
            rule.call1(PyTuple::new(py, all)?)?
        };
        self.gradients(ctx, &node, &result)
    }

    /// Checks what `backward` returned.
    fn gradients(
        &self,
        ctx: &Bound<'_, PyFunctionCtx>,
        node: &NodeRef,
        result: &Bound<'_, PyAny>,
    ) -> PyResult<Gradients> {
        let one = std::slice::from_ref(result);
        let many: SmallVec<[Bound<'_, PyAny>; 4]>;
        let given = match result.cast::<PyTuple>() {
            Ok(tuple) => {
                many = tuple.iter().collect();
                &many[..]
            }
            Err(_) => one,
        };
        let arguments = ctx.get().0.lock().arguments.clone();
        let expected = arguments.len();
        if given.len() < expected || given[expected..].iter().any(|g| !g.is_none()) {
            return Err(PyRuntimeError::new_err(format!(
                "function {} returned an incorrect number of gradients (expected {expected}, got {})",
                self.name,
                given.len()
            )));
        }
        let mut gradients = Gradients::new();
        for (i, (argument, object)) in arguments.iter().zip(given).enumerate() {
            if *argument == Argument::Other {
                if !object.is_none() {
                    return Err(PyRuntimeError::new_err(format!(
                        "function {} returned a gradient different than None at position {}, but the \
                         corresponding forward input was not a Variable",
                        self.name,
                        i + 1
                    )));
                }
                continue;
            }
            gradients.push(match tensor_of(object) {
                Some(gradient) => {
                    let index = gradients.len();
                    self.check_size(node, index, &gradient).or_raise()?;
                    Some(gradient)
                }
                None if object.is_none() => None,
                None => {
                    return Err(PyRuntimeError::new_err(format!(
                        "expected Variable or None (got {})",
                        object.get_type().name()?
                    )));
                }
            });
        }
        Ok(gradients)
    }

    /// The engine sums a gradient to the shape of its input, for broadcasting. Here a sum over an
    /// axis of a size that nothing in the call had is a mistake and not broadcasting.
    fn check_size(&self, node: &NodeRef, index: usize, gradient: &Tensor) -> wengert::Result<()> {
        let Some(edge) = &node.edges()[index] else { return Ok(()) };
        let meta = &edge.node.outputs()[edge.output as usize];
        if meta.has_shape(gradient.shape()) {
            return Ok(());
        }
        let shape = meta.shape();
        let known = node.known_sizes();
        let extra = gradient.ndim().saturating_sub(shape.len());
        for (axis, &size) in gradient.shape().iter().enumerate() {
            let kept = axis >= extra && shape[axis - extra] == size;
            if !kept && size != 1 && !known.contains(&size) {
                return Err(Error::plain(
                    Kind::Grad,
                    format!(
                        "Function {} returned an invalid gradient at index {index} - got {:?} but \
                         expected shape compatible with {:?} (no tensor of this call has an axis of \
                         {size} elements that broadcasting could have made)",
                        self.name,
                        gradient.shape(),
                        &shape[..]
                    ),
                ));
            }
        }
        Ok(())
    }
}

/// `backward` or `vjp`, whichever the class has.
fn user_rule<'py>(class: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = class.py();
    let backward = class.getattr(intern!(py, "backward"))?;
    let vjp = class.getattr(intern!(py, "vjp"))?;
    let default = &defaults(py)?.backward;
    if vjp.is(default) {
        return Ok(backward);
    }
    if !backward.is(default) {
        return Err(PyRuntimeError::new_err(
            "Implementing both 'backward' and 'vjp' for a custom Function is not allowed. You should \
             only implement one of them.",
        ));
    }
    Ok(vjp)
}

/// The rule of a Function class.
#[pyfunction]
pub fn _user_rule<'py>(cls: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    user_rule(cls)
}

/// Calls the user's `jvp`.
pub(super) fn jvp(
    ctx: &Bound<'_, PyFunctionCtx>,
    inputs: &[Tensor],
    tangents: &[Option<Tensor>],
) -> PyResult<SmallVec<[Option<Tensor>; 2]>> {
    let py = ctx.py();
    let (arguments, bare) = {
        let state = ctx.get().0.lock();
        (state.arguments.clone(), state.bare_grads)
    };
    let mut pairs = inputs.iter().zip(tangents);
    let mut given = SmallVec::<[Bound<'_, PyAny>; 8]>::new();
    given.push(ctx.clone().into_any());
    for argument in arguments {
        let pair = if argument == Argument::Other { None } else { pairs.next() };
        let tangent = match pair {
            Some((_, Some(tangent))) => Some(tangent.clone()),
            Some((input, None)) if !bare && input.dtype().is_floating() => {
                Some(Tensor::zeros(input.shape(), input.dtype()).or_raise()?)
            }
            _ => None,
        };
        given.push(match tangent {
            Some(tangent) => wrap(py, tangent)?.into_any(),
            None => py.None().into_bound(py),
        });
    }
    let rule = ctx.getattr(intern!(py, "_forward_cls"))?.getattr(intern!(py, "jvp"))?;
    let result = rule.call1(PyTuple::new(py, given)?)?;
    let one = |k: usize, object: &Bound<'_, PyAny>| match tensor_of(object) {
        None if !object.is_none() => Err(PyRuntimeError::new_err(format!(
            "expected Variable or None (got {}) for grad output {k}.",
            object.get_type().name()?
        ))),
        tensor => Ok(tensor),
    };
    match result.cast::<PyTuple>() {
        Ok(several) => several.iter().enumerate().map(|(k, object)| one(k, &object)).collect(),
        Err(_) => Ok(SmallVec::from_iter([one(0, &result)?])),
    }
}

/// Tensors with the values of these that cannot be differentiated: the attempt raises `message`.
#[pyfunction]
pub fn _delayed_error<'py>(
    py: Python<'py>,
    message: String,
    tensors: Vec<Option<Bound<'py, PyTensor>>>,
) -> PyResult<Bound<'py, PyTuple>> {
    let detached: Vec<Option<Tensor>> =
        tensors.iter().map(|t| t.as_ref().map(|t| t.get().tensor().detach())).collect();
    let inputs: Vec<Tensor> = detached.iter().flatten().cloned().collect();
    for input in inputs.iter().filter(|i| i.dtype().is_floating()) {
        input.set_requires_grad(true).or_raise()?;
    }
    let returned: Vec<_> = detached.iter().map(|t| t.as_ref().map(Tensor::detach)).collect();
    let call = Call {
        inputs: &inputs,
        returned: &returned,
        dirty: &[],
        non_differentiable: &[],
        saved: &[],
        saved_late: &[],
    };
    let recording = custom::edges(&inputs).or_raise()?;
    let recording = recording.map(|edges| (edges, Box::new(DelayedError(message)) as Box<dyn Op>));
    let recorded = custom::finish(&call, recording, |_| ()).or_raise()?;
    let outputs = recorded.outputs.into_iter().map(|t| t.map(|t| wrap(py, t)).transpose());
    PyTuple::new(py, outputs.collect::<PyResult<Vec<_>>>()?)
}

/// A rule that says why there is none.
struct DelayedError(String);

impl Op for DelayedError {
    fn name(&self) -> &str {
        "Error"
    }

    fn backward(&self, _: &Context, _: &[Option<Tensor>]) -> wengert::Result<Gradients> {
        Err(Error::plain(Kind::Grad, self.0.clone()))
    }
}
