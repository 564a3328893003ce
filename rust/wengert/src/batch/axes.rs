//! Rules of operations along axes: an axis of an example lies behind those of the levels.

use super::{Call, Ruling, align};
use crate::layout::{Dims, wrap_dim};
use crate::ops::{Args, ParamKind, Value, cast, view};
use crate::tensor::Tensor;
use crate::{Result, Scalar};
use smallvec::{SmallVec, smallvec};

type Ints = SmallVec<[i64; 5]>;

const AXES: [&str; 10] = [
    "dim",
    "dims",
    "dim0",
    "dim1",
    "dim2",
    "dimension",
    "source",
    "destination",
    "start_dim",
    "end_dim",
];

/// An axis among `n` as one behind `k` others; `None` if there is no such axis, which the operation
/// then says itself, of an example.
fn shifted(dim: i64, n: usize, k: usize) -> Option<i64> {
    (n > 0).then(|| wrap_dim(dim, n).ok()).flatten().map(|d| (d + k) as i64)
}

/// Shifts every parameter that names axes; false if one names an axis that does not exist.
fn shift(call: &Call<'_>, args: &mut Args, n: usize, k: usize) -> bool {
    for (param, value) in call.signature.params.iter().zip(&mut args.values) {
        if !AXES.contains(&param.name) {
            continue;
        }
        match value {
            Value::Number(Scalar::Int(d)) => match shifted(*d, n, k) {
                Some(at) => *d = at,
                None => return false,
            },
            Value::Ints(dims) => {
                for d in dims {
                    match shifted(*d, n, k) {
                        Some(at) => *d = at,
                        None => return false,
                    }
                }
            }
            _ => {}
        }
    }
    true
}

/// The first argument's examples; the rule holds if no other argument has examples of its own.
fn only_first(call: &Call<'_>) -> Option<Args> {
    let others = call.args.values[1..].iter();
    let batched = |v: &Value| matches!(v, Value::Tensor(t) if t.is_batched());
    if others.clone().any(batched) { None } else { Some(align::physicals(call.args)) }
}

pub(crate) fn along(call: &Call<'_>, extra: usize) -> Result<Ruling> {
    let Some(mut args) = only_first(call) else { return Ok(Ruling::Decline) };
    let n = call.rank(0);
    if n == 0 && extra == 0 || !shift(call, &mut args, n + extra, call.levels.len()) {
        return Ok(Ruling::Decline);
    }
    call.run(&args)
}

/// Tensors spread over all levels, with `less` axes fewer than the first one each, so that none of
/// their axes is matched with a level.
pub(crate) fn spread(call: &Call<'_>, less: usize) -> Result<Ruling> {
    let n = call.rank(0);
    let mut others = super::tensors(call.args).skip(1);
    let one_rank = others.all(|t| t.ndim() + less == n || t.is_wrapped_number());
    let named = call.signature.params.iter().zip(&call.args.values);
    let all = named.clone().any(|(p, v)| p.name == "dim" && matches!(v, Value::None));
    if n == 0 || !one_rank || all {
        return Ok(Ruling::Decline);
    }
    let mut args = align::spread_all(call.args, &call.levels)?;
    if !shift(call, &mut args, n, call.levels.len()) {
        return Ok(Ruling::Decline);
    }
    call.run(&args)
}

/// The place of a parameter.
fn position(call: &Call<'_>, name: &str) -> Option<usize> {
    call.signature.params.iter().position(|p| p.name == name)
}

pub(crate) fn reduce(call: &Call<'_>) -> Result<Ruling> {
    let Some(mut args) = only_first(call) else { return Ok(Ruling::Decline) };
    let (n, k) = (call.rank(0), call.levels.len());
    let Some(at) = position(call, "dim") else {
        // `var(input, unbiased)` is `var(input, dim, unbiased, keepdim)`.
        args.overload = 0;
        args.values.insert(1, Value::None);
        args.values.push(Value::Number(Scalar::Bool(false)));
        return reduce_over(call, args, 1, n, k);
    };
    reduce_over(call, args, at, n, k)
}

fn reduce_over(call: &Call<'_>, mut args: Args, at: usize, n: usize, k: usize) -> Result<Ruling> {
    let keeps_all = matches!(call.row.name, "any" | "all");
    let dims: Ints = match &args.values[at] {
        Value::Ints(dims) if !dims.is_empty() || keeps_all => {
            let mut out = Ints::new();
            for &d in dims {
                match shifted(d, n.max(1), k) {
                    Some(at) => out.push(at),
                    None => return Ok(Ruling::Decline),
                }
            }
            out
        }
        _ if n == 0 => Ints::from_slice(&[k as i64]),
        _ => (k..k + n).map(|d| d as i64).collect(),
    };
    if n == 0 {
        // A single number has no axis to reduce: give it one.
        if dims.len() > 1 || dims.is_empty() {
            return Ok(Ruling::Decline);
        }
        let lifted = view::unsqueeze(args.tensor(0), k as i64)?;
        args.values[0] = Value::Tensor(lifted);
        let signature = &super::signatures(call.row)[args.overload];
        if let Some(keep) = signature.params.iter().position(|p| p.name == "keepdim") {
            args.values[keep] = Value::Number(Scalar::Bool(false));
        }
    }
    args.values[at] = Value::Ints(dims);
    call.run(&args)
}

/// The examples with their own axes merged into one.
fn flat(call: &Call<'_>) -> Result<Tensor> {
    let physical = super::spread(call.args.tensor(0), &call.levels)?;
    let mut shape = Dims::from_slice(&physical.shape()[..call.levels.len()]);
    shape.push(call.args.tensor(0).numel());
    view::reshape_to(&physical, &shape)
}

/// Reductions over one axis, or over all as if they were one.
pub(crate) fn flat_reduce(call: &Call<'_>) -> Result<Ruling> {
    let k = call.levels.len() as i64;
    let no = Value::Number(Scalar::Bool(false));
    let over_all = match position(call, "dim") {
        Some(at) => matches!(call.args.values[at], Value::None),
        None => true,
    };
    if !over_all {
        return along(call, 0);
    }
    let keepdim = position(call, "keepdim").is_some_and(|i| call.args.bool(i));
    if keepdim {
        return Ok(Ruling::Decline);
    }
    let (x, dim) = (Value::Tensor(flat(call)?), Value::Number(Scalar::Int(k)));
    let args = match call.row.name {
        // `(input, dtype)` is `(input, dim, keepdim, dtype)`.
        "prod" => {
            let dtype = call.args.values[1].clone();
            Args { overload: 1, values: smallvec![x, dim, no, dtype] }
        }
        _ => Args { overload: 0, values: smallvec![x, dim, no] },
    };
    call.run(&args)
}

/// `max` and `min`, in all their forms.
pub(crate) fn extremum(call: &Call<'_>) -> Result<Ruling> {
    match call.args.overload {
        0 => {
            let name = if call.row.name == "max" { "amax" } else { "amin" };
            let x = call.args.values[0].clone();
            Ok(Ruling::Finished(super::invoke(name, 0, [x])?.into()))
        }
        1 => {
            let name = if call.row.name == "max" { "maximum" } else { "minimum" };
            let both = call.args.values.iter().cloned();
            Ok(Ruling::Finished(super::invoke(name, 0, both)?.into()))
        }
        _ => along(call, 0),
    }
}

pub(crate) fn implicit_softmax(call: &Call<'_>) -> Result<Ruling> {
    let Some(mut args) = only_first(call) else { return Ok(Ruling::Decline) };
    let n = call.rank(0);
    if matches!(args.values[1], Value::None) {
        let dim = crate::ops::fused::softmax::implicit_dim(call.args.tensor(0), None);
        args.values[1] = Value::Number(Scalar::Int(dim));
    }
    if n == 0 || !shift(call, &mut args, n, call.levels.len()) {
        return Ok(Ruling::Decline);
    }
    call.run(&args)
}

pub(crate) fn permute(call: &Call<'_>) -> Result<Ruling> {
    let mut args = align::physicals(call.args);
    let (n, k) = (call.rank(0), call.levels.len());
    let all_named = call.args.ints(1).len() == n;
    if !all_named || !shift(call, &mut args, n, k) {
        return if n == 0 && all_named {
            call.run(&identity(args, k))
        } else {
            Ok(Ruling::Decline)
        };
    }
    call.run(&identity(args, k))
}

/// An order of axes that leaves the first `k` where they are.
fn identity(mut args: Args, k: usize) -> Args {
    let mut order: Ints = (0..k as i64).collect();
    order.extend_from_slice(args.ints(1));
    args.values[1] = Value::Ints(order);
    args
}

pub(crate) fn squeeze(call: &Call<'_>) -> Result<Ruling> {
    let mut args = align::physicals(call.args);
    let (x, k) = (call.args.tensor(0), call.levels.len());
    if args.overload == 0 {
        let ones = x.shape().iter().enumerate().filter(|(_, s)| **s == 1);
        let dims: Ints = ones.map(|(d, _)| (d + k) as i64).collect();
        args.overload = 1;
        args.values.push(Value::Ints(dims));
        return call.run(&args);
    }
    if !shift(call, &mut args, x.ndim(), k) {
        return if x.ndim() == 0 { number(call) } else { Ok(Ruling::Decline) };
    }
    call.run(&args)
}

/// A view of examples that have no axes: an alias.
fn number(call: &Call<'_>) -> Result<Ruling> {
    let dims = call.args.opt_ints(1).unwrap_or_default();
    if dims.iter().any(|d| !matches!(d, 0 | -1)) {
        return Ok(Ruling::Decline);
    }
    let x = align::align(call.args.tensor(0), &call.levels, 0)?;
    Ok(Ruling::Physical(view::reshape_to(&x, x.shape())?.into()))
}

pub(crate) fn t(call: &Call<'_>) -> Result<Ruling> {
    let x = align::align(call.args.tensor(0), &call.levels, call.rank(0))?;
    let y = match call.rank(0) {
        0 | 1 => view::reshape_to(&x, x.shape())?,
        2 => view::transpose(&x, -2, -1)?,
        _ => return Ok(Ruling::Decline),
    };
    copied(call, y)
}

/// A view, or a copy of it where the row is the copying one.
fn copied(call: &Call<'_>, y: Tensor) -> Result<Ruling> {
    let y = if call.row.name.ends_with("_copy") { cast::clone(&y)? } else { y };
    Ok(Ruling::Physical(y.into()))
}

/// The last two axes swapped, if there are any.
pub(crate) fn adjoint(call: &Call<'_>) -> Result<Ruling> {
    let x = align::align(call.args.tensor(0), &call.levels, call.rank(0))?;
    match call.rank(0) {
        0 => copied(call, x),
        1 => Ok(Ruling::Decline),
        _ => copied(call, view::transpose(&x, -2, -1)?),
    }
}

pub(crate) fn ravel(call: &Call<'_>) -> Result<Ruling> {
    let (x, one) = (call.args.values[0].clone(), Value::Ints(smallvec![-1]));
    Ok(Ruling::Finished(super::invoke("reshape", 0, [x, one])?.into()))
}

/// Places in memory, counted from where the first example begins. Every example's are as far from its
/// own first element.
pub(crate) fn as_strided(call: &Call<'_>) -> Result<Ruling> {
    let (x, k) = (call.args.tensor(0), call.levels.len());
    let mut physical = super::spread(x, &call.levels)?;
    if physical.layout().overlaps_itself() && x.is_contiguous() {
        // Repeated without copying: examples of a tangent have memory of their own each.
        physical = cast::clone(&physical)?;
    }
    let before = |own: &mut dyn Iterator<Item = i64>, wanted: &[i64]| {
        Value::Ints(own.chain(wanted.iter().copied()).collect())
    };
    let mut args = call.args.clone();
    let mut sizes = physical.shape()[..k].iter().map(|&s| s as i64);
    args.values[1] = before(&mut sizes, call.args.ints(1));
    let mut steps = physical.layout().strides()[..k].iter().map(|&s| s as i64);
    args.values[2] = before(&mut steps, call.args.ints(2));
    args.values[0] = Value::Tensor(physical);
    call.run(&args)
}

pub(crate) fn reshape(call: &Call<'_>) -> Result<Ruling> {
    to_shape(call, call.args.ints(1))
}

/// Another shape of each example; a size of -1 is found from an example.
fn to_shape(call: &Call<'_>, wanted: &[i64]) -> Result<Ruling> {
    let known: i64 = wanted.iter().filter(|&&s| s != -1).product();
    let numel = call.args.tensor(0).numel() as i64;
    let unknown = wanted.iter().filter(|&&s| s == -1).count();
    if unknown > 1 || known <= 0 || numel % known != 0 || unknown == 0 && known != numel {
        // Errors, and examples without elements.
        return Ok(Ruling::Decline);
    }
    let mut sizes = align::level_sizes(&call.levels)?;
    sizes.extend(wanted.iter().map(|&s| if s == -1 { numel / known } else { s }));
    let x = super::spread(call.args.tensor(0), &call.levels)?;
    let y = if call.row.name == "reshape" {
        view::reshape(&x, &sizes)?
    } else {
        view::view(&x, &sizes)?
    };
    copied(call, y)
}

/// `view_as` and `expand_as`: only the shape of the other tensor matters.
pub(crate) fn like_other(call: &Call<'_>) -> Result<Ruling> {
    let shape: Ints = call.args.tensor(1).shape().iter().map(|&s| s as i64).collect();
    let name = if call.row.name == "view_as" { "view" } else { "expand" };
    let x = call.args.values[0].clone();
    Ok(Ruling::Finished(super::invoke(name, 0, [x, Value::Ints(shape)])?.into()))
}

pub(crate) fn expand(call: &Call<'_>) -> Result<Ruling> {
    let (x, wanted) = (call.args.tensor(0), call.args.ints(1));
    if wanted.len() < x.ndim() {
        return Ok(Ruling::Decline);
    }
    let physical = align::align(x, &call.levels, wanted.len())?;
    let mut sizes: Ints = physical.shape()[..call.levels.len()].iter().map(|&s| s as i64).collect();
    sizes.extend_from_slice(wanted);
    let new = wanted.len() - x.ndim();
    if wanted[..new].contains(&-1) {
        return Ok(Ruling::Decline);
    }
    copied(call, view::expand(&physical, &sizes)?)
}

/// `new_zeros` and its kin: a batched tensor makes batched ones, which can be written to.
pub(crate) fn sized(call: &Call<'_>) -> Result<Ruling> {
    let mut args = align::physicals(call.args);
    let wanted = call
        .signature
        .params
        .iter()
        .position(|p| p.name == "size" && matches!(p.kind, ParamKind::Size | ParamKind::Ints));
    let Some(at) = wanted else { return Ok(Ruling::Decline) };
    let mut sizes = align::level_sizes(&call.levels)?;
    sizes.extend_from_slice(args.ints(at));
    args.values[at] = Value::Ints(sizes);
    call.run(&args)
}
