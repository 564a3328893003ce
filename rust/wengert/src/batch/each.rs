//! The general way: an operation example by example, results stacked. Right for every operation.

use super::{Call, align, lift};
use crate::graph::Gradients;
use crate::layout::Dims;
use crate::ops::{Args, Output, Value, join, view};
use crate::tensor::Tensor;
use crate::{Result, bail};

/// The examples of one tensor, in the row-major order of its own levels, and for each level of the
/// call how far its next example is from there (0 where the tensor has no examples).
struct Examples {
    parts: Vec<Tensor>,
    steps: Vec<usize>,
}

impl Examples {
    fn of(t: &Tensor, levels: &[u32], sizes: &[usize]) -> Result<Examples> {
        let Some((physical, own)) = t.parts() else {
            return Ok(Examples { parts: vec![t.clone()], steps: vec![0; levels.len()] });
        };
        let mut shape = Dims::from_slice(&[physical.shape()[..own.len()].iter().product()]);
        shape.extend_from_slice(t.shape());
        let flat = if own.len() == 1 { physical } else { view::reshape_to(&physical, &shape)? };
        let mut steps = vec![0; levels.len()];
        let mut step = 1;
        for (i, id) in levels.iter().enumerate().rev() {
            if own.contains(id) {
                steps[i] = step;
                step *= sizes[i];
            }
        }
        Ok(Examples { parts: view::unbind(&flat, 0)?, steps })
    }

    fn at(&self, place: &[usize]) -> Tensor {
        let at: usize = place.iter().zip(&self.steps).map(|(i, s)| i * s).sum();
        self.parts[at].clone()
    }
}

/// Every argument, as examples where it is a tensor.
enum Given {
    One(Examples),
    Several(Vec<Examples>),
    Other(Value),
}

pub(super) fn each(call: &Call<'_>) -> Result<Output> {
    let name = call.row.short_name();
    let sizes: Vec<usize> =
        align::level_sizes(&call.levels)?.into_iter().map(|s| s as usize).collect();
    let count: usize = sizes.iter().product();
    if count == 0 {
        return of_no_examples(call, &sizes);
    }
    let mut given = Vec::with_capacity(call.args.values.len());
    for value in &call.args.values {
        given.push(match value {
            Value::Tensor(t) => Given::One(Examples::of(t, &call.levels, &sizes)?),
            Value::Tensors(ts) => {
                let each = ts.iter().map(|t| Examples::of(t, &call.levels, &sizes));
                Given::Several(each.collect::<Result<_>>()?)
            }
            other => Given::Other(other.clone()),
        });
    }
    let mut results: Vec<Vec<Tensor>> = Vec::new();
    let mut last = None;
    for i in 0..count {
        let place = place_of(i, &sizes);
        let values = given.iter().map(|g| match g {
            Given::One(t) => Value::Tensor(t.at(&place)),
            Given::Several(ts) => Value::Tensors(ts.iter().map(|t| t.at(&place)).collect()),
            Given::Other(v) => v.clone(),
        });
        let args = Args { overload: call.args.overload, values: values.collect() };
        let output = call.row.call(&args)?;
        let parts = match &output {
            Output::Tensor(t) => std::slice::from_ref(t),
            Output::Tensors(ts) | Output::Named(_, ts) => &ts[..],
            Output::Bool(_) => bail!(
                Value,
                "",
                "Batching rule not implemented for aten::{name}. We could not generate a fallback: it \
                 gives one truth value, and there would be one per example."
            ),
        };
        if i == 0 {
            results = parts.iter().map(|_| Vec::with_capacity(count)).collect();
        }
        for (all, part) in results.iter_mut().zip(parts) {
            all.push(part.clone());
        }
        last = Some(output);
    }
    let mut whole = Vec::with_capacity(results.len());
    for parts in results {
        whole.push(stacked(&parts, &sizes)?);
    }
    Ok(like(last, whole))
}

/// Results of single examples as one tensor with an axis per level.
fn stacked(parts: &[Tensor], sizes: &[usize]) -> Result<Tensor> {
    let stack = join::stack(parts, 0)?;
    if sizes.len() == 1 {
        return Ok(stack);
    }
    let mut shape = Dims::from_slice(sizes);
    shape.extend_from_slice(&stack.shape()[1..]);
    view::reshape_to(&stack, &shape)
}

fn like(output: Option<Output>, mut whole: Vec<Tensor>) -> Output {
    match output {
        Some(Output::Named(fields, _)) => Output::Named(fields, whole),
        Some(Output::Tensor(_)) if whole.len() == 1 => Output::Tensor(whole.remove(0)),
        _ => Output::Tensors(whole),
    }
}

/// The result for a batch without examples: its shape is found with an example of zeros.
fn of_no_examples(call: &Call<'_>, sizes: &[usize]) -> Result<Output> {
    let _mode = crate::graph::GradMode::new(false);
    let zeros = |t: &Tensor| match t.is_batched() {
        true => Tensor::zeros(t.shape(), t.dtype()),
        false => Ok(t.detach()),
    };
    let mut args = call.args.clone();
    for value in &mut args.values {
        match value {
            Value::Tensor(t) if t.is_batched() => *value = Value::Tensor(zeros(t)?),
            Value::Tensors(ts) => {
                for t in ts {
                    *t = zeros(t)?;
                }
            }
            _ => {}
        }
    }
    let output = call.row.call(&args)?;
    let empty = |t: &Tensor| -> Result<Tensor> {
        let mut shape = Dims::from_slice(sizes);
        shape.extend_from_slice(t.shape());
        Tensor::zeros(&shape, t.dtype())
    };
    let parts = match &output {
        Output::Tensor(t) => std::slice::from_ref(t),
        Output::Tensors(ts) | Output::Named(_, ts) => &ts[..],
        Output::Bool(_) => &[],
    };
    let whole = parts.iter().map(empty).collect::<Result<Vec<_>>>()?;
    Ok(like(Some(output), whole))
}

/// Runs a rule for backward on gradients that may be batched: once if that can be done, else for one
/// example after the other.
pub(crate) fn rule(
    gradients: &[Option<Tensor>],
    run: impl Fn(&[Option<Tensor>]) -> Result<Gradients>,
) -> Result<Gradients> {
    let batched = || gradients.iter().flatten().filter(|g| g.is_batched());
    match run(gradients) {
        Err(error) if batched().next().is_some() && lift::is_refusal(&error) => {}
        done => return done,
    }
    let levels = super::levels_of_all(batched(), "backward")?;
    let sizes: Vec<usize> = align::level_sizes(&levels)?.into_iter().map(|s| s as usize).collect();
    let count: usize = sizes.iter().product();
    let examples = gradients
        .iter()
        .map(|g| g.as_ref().map(|g| Examples::of(g, &levels, &sizes)).transpose())
        .collect::<Result<Vec<_>>>()?;
    let mut columns: Vec<Vec<Option<Tensor>>> = Vec::new();
    // The innermost levels do not run meanwhile, as nothing has examples in them.
    let _off = Suspended::new(&levels);
    // A batch of none has the shapes of one with an example, of zeros.
    for i in 0..count.max(1) {
        let place = place_of(i, &sizes);
        let one: Vec<Option<Tensor>> = match count {
            0 => gradients
                .iter()
                .map(|g| g.as_ref().map(|g| Tensor::zeros(g.shape(), g.dtype())).transpose())
                .collect::<Result<_>>()?,
            _ => examples.iter().map(|e| e.as_ref().map(|e| e.at(&place))).collect(),
        };
        let found = run(&one)?;
        columns.resize_with(columns.len().max(found.len()), Vec::new);
        for (column, g) in columns.iter_mut().zip(found) {
            column.push(g);
        }
    }
    columns.iter().map(|column| gathered(column, &levels, &sizes)).collect()
}

/// Gradients of single examples as one, zero where an example has none; `None` if none has.
fn gathered(column: &[Option<Tensor>], levels: &[u32], sizes: &[usize]) -> Result<Option<Tensor>> {
    let Some(model) = column.iter().flatten().next() else { return Ok(None) };
    let part = |g: &Option<Tensor>| match g {
        Some(g) => Ok(g.clone()),
        None => crate::ops::zeros_like(model),
    };
    let whole = if sizes.contains(&0) {
        let mut shape = Dims::from_slice(sizes);
        shape.extend_from_slice(model.shape());
        Tensor::zeros(&shape, model.dtype())?
    } else {
        stacked(&column.iter().map(part).collect::<Result<Vec<_>>>()?, sizes)?
    };
    Tensor::example_of(&whole, levels).map(Some)
}

/// The `i`-th index of so many examples in each level.
fn place_of(i: usize, sizes: &[usize]) -> Vec<usize> {
    let mut rest = i;
    let mut place = vec![0; sizes.len()];
    for (p, &size) in place.iter_mut().zip(sizes).rev().filter(|(_, size)| **size > 0) {
        *p = rest % size;
        rest /= size;
    }
    place
}

/// Levels that do not run on this thread until this is dropped.
struct Suspended(Vec<super::Level>);

impl Suspended {
    /// Takes these levels off, if there is no other one inside them.
    fn new(levels: &[u32]) -> Suspended {
        let running = super::stack();
        let outermost = levels.first().copied().unwrap_or(u32::MAX);
        let inner = || running.iter().filter(|level| level.id >= outermost);
        match inner().all(|level| levels.contains(&level.id)) {
            true => Suspended(super::suspend(outermost)),
            false => Suspended(Vec::new()),
        }
    }
}

impl Drop for Suspended {
    fn drop(&mut self) {
        super::resume(std::mem::take(&mut self.0));
    }
}
