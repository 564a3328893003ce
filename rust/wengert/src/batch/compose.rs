//! Rules of operations on several tensors: products, joins, look-ups, losses.
//!
//! Many are written with other operations on batched tensors, by [`invoke`](super::invoke).

use super::{Call, Ruling, align, invoke};
use crate::layout::Dims;
use crate::ops::{self, Args, Value, triangle, view};
use crate::tensor::Tensor;
use crate::{DType, Result, Scalar, bail};
use smallvec::{SmallVec, smallvec};

fn tensor(t: &Tensor) -> Value {
    Value::Tensor(t.clone())
}

fn int(i: i64) -> Value {
    Value::Number(Scalar::Int(i))
}

fn ints(v: &[i64]) -> Value {
    Value::Ints(SmallVec::from_slice(v))
}

fn text(s: &str) -> Value {
    Value::Str(s.to_owned())
}

fn unary(name: &str, x: &Tensor, args: &[Value]) -> Result<Tensor> {
    invoke(name, 0, std::iter::once(tensor(x)).chain(args.iter().cloned()))
}

fn binary(name: &str, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    invoke(name, 0, [tensor(a), tensor(b)])
}

fn finished(t: Tensor) -> Result<Ruling> {
    Ok(Ruling::Finished(t.into()))
}

// Products. --------------------------------------------------------------------------------------

pub(crate) fn matmul(call: &Call<'_>) -> Result<Ruling> {
    let (a, b) = (call.args.tensor(0), call.args.tensor(1));
    match product(call, a, b)? {
        Some(y) => Ok(Ruling::Physical(y.into())),
        None => Ok(Ruling::Decline),
    }
}

/// The physical product, with the axes of the call's levels.
fn product(call: &Call<'_>, a: &Tensor, b: &Tensor) -> Result<Option<Tensor>> {
    let levels = &call.levels;
    match (a.ndim(), b.ndim()) {
        (0, _) | (_, 0) => return Ok(None),
        // One product of all rows of all examples.
        (_, 1 | 2) if !b.is_batched() => {
            return ops::matmul::matmul(&align::align(a, levels, a.ndim())?, b).map(Some);
        }
        (2, 1) if !a.is_batched() => {
            let b = align::align(b, levels, 1)?;
            return ops::matmul::matmul(&b, &view::transpose(a, 0, 1)?).map(Some);
        }
        _ => {}
    }
    let rank = a.ndim().max(b.ndim()).max(2);
    let whole = |t: &Tensor, dim: i64| -> Result<Tensor> {
        let t = if t.ndim() == 1 { unary("unsqueeze", t, &[int(dim)])? } else { t.clone() };
        align::align(&t, levels, rank)
    };
    let mut y = ops::matmul::matmul(&whole(a, -2)?, &whole(b, -1)?)?;
    if a.ndim() == 1 {
        y = view::squeeze(&y, Some(&[-2]))?;
    }
    if b.ndim() == 1 {
        y = view::squeeze(&y, Some(&[-1]))?;
    }
    Ok(Some(y))
}

/// Products for certain numbers of axes only.
pub(crate) fn exact_matmul(call: &Call<'_>) -> Result<Ruling> {
    let wanted = match call.row.name {
        "mm" => (2, 2),
        "mv" => (2, 1),
        "bmm" => (3, 3),
        _ => (1, 1),
    };
    let (a, b) = (call.args.tensor(0), call.args.tensor(1));
    let batches =
        wanted != (3, 3) || a.ndim() == 3 && b.ndim() == 3 && a.shape()[0] == b.shape()[0];
    if (a.ndim(), b.ndim()) != wanted || !batches || !fit(a, b) {
        return Ok(Ruling::Decline);
    }
    matmul(call)
}

/// Whether the inner sizes of a product agree; if not, the operation says so itself.
fn fit(a: &Tensor, b: &Tensor) -> bool {
    let inner = b.shape().len().saturating_sub(2);
    a.dtype() == b.dtype() && a.shape().last() == b.shape().get(inner)
}

/// `beta * input + alpha * (a @ b)`.
pub(crate) fn added_matmul(call: &Call<'_>) -> Result<Ruling> {
    let (input, a, b) = (call.args.tensor(0), call.args.tensor(1), call.args.tensor(2));
    let (beta, alpha) = (call.args.number(3), call.args.number(4));
    let name = match call.row.name {
        "addmm" => "mm",
        "addmv" => "mv",
        _ => "bmm",
    };
    if input.dtype() != a.dtype() || !fit(a, b) {
        return Ok(Ruling::Decline);
    }
    let scaled = |t: Tensor, by: Scalar| match by.to_f64() {
        1.0 => Ok(t),
        _ => binary("mul", &t, &Tensor::wrapped(by)?),
    };
    let product = scaled(binary(name, a, b)?, alpha)?;
    if !ops::reduce::is_expandable(input.shape(), product.shape()) {
        return Ok(Ruling::Decline);
    }
    if beta.to_f64() == 0.0 {
        return finished(product);
    }
    finished(binary("add", &scaled(input.clone(), beta)?, &product)?)
}

pub(crate) fn outer(call: &Call<'_>) -> Result<Ruling> {
    let (a, b) = (call.args.tensor(0), call.args.tensor(1));
    if a.ndim() != 1 || b.ndim() != 1 {
        return Ok(Ruling::Decline);
    }
    finished(binary("mul", &unary("unsqueeze", a, &[int(1)])?, b)?)
}

pub(crate) fn inner(call: &Call<'_>) -> Result<Ruling> {
    let (a, b) = (call.args.tensor(0), call.args.tensor(1));
    match b.ndim() {
        1 if a.ndim() > 0 && fit(a, b) => matmul(call),
        2 if a.ndim() > 0 && a.shape().last() == b.shape().last() => {
            finished(binary("matmul", a, &unary("t", b, &[])?)?)
        }
        _ => Ok(Ruling::Decline),
    }
}

pub(crate) fn linear(call: &Call<'_>) -> Result<Ruling> {
    if call.rank(0) == 0 || call.rank(1) != 2 {
        return Ok(Ruling::Decline);
    }
    if !call.is_batched(1) && !call.is_batched(2) {
        return call.run(&align::physicals(call.args));
    }
    let (x, w) = (call.args.tensor(0), call.args.tensor(1));
    if x.shape().last() != w.shape().last() || x.dtype() != w.dtype() {
        return Ok(Ruling::Decline);
    }
    let y = binary("matmul", x, &unary("t", w, &[])?)?;
    finished(match call.args.opt_tensor(2) {
        Some(bias) => binary("add", &y, bias)?,
        None => y,
    })
}

pub(crate) fn diag(call: &Call<'_>) -> Result<Ruling> {
    let x = align::align(call.args.tensor(0), &call.levels, call.rank(0))?;
    let offset = call.args.int(1);
    let y = match call.rank(0) {
        1 => triangle::diag_embed(&x, offset, -2, -1)?,
        2 => ops::cast::clone(&triangle::diagonal(&x, offset, -2, -1)?)?,
        _ => return Ok(Ruling::Decline),
    };
    Ok(Ruling::Physical(y.into()))
}

pub(crate) fn fill(call: &Call<'_>) -> Result<Ruling> {
    let (x, value) = (call.args.tensor(0), call.args.tensor(1));
    if value.ndim() > 0 {
        return Ok(Ruling::Decline);
    }
    let place = match call.row.name {
        "fill_" => x.clone(),
        _ => unary("clone", x, &[])?,
    };
    if !value.is_batched() {
        let row = ops::find("fill_").expect("a row of the table");
        let physical = place.physical().unwrap_or_else(|| place.clone());
        row.call(&Args { overload: 0, values: smallvec![tensor(&physical), tensor(value)] })?;
        return finished(place);
    }
    if call.row.name == "fill" {
        // A new tensor may be made to have all examples.
        let whole = super::spread(&place, &call.levels)?;
        let whole = Tensor::example_of(&ops::cast::clone(&whole)?, &call.levels)?;
        return finished(binary("copy_", &whole, value)?);
    }
    finished(binary("copy_", &place, value)?)
}

/// `where`: between two tensors, or the places of what is true.
pub(crate) fn choose(call: &Call<'_>) -> Result<Ruling> {
    if call.args.overload == 0 {
        return super::rules::pointwise(call);
    }
    bail!(
        Value,
        "",
        "vmap: We do not support batching operators that can output dynamic shape. Attempted to vmap \
         over aten::where. The number of places differs from example to example; give where() the \
         two tensors to choose from."
    )
}

/// As many elements of each example as the one mask has.
pub(crate) fn masked_select(call: &Call<'_>) -> Result<Ruling> {
    if !call.is_batched(1) {
        return Ok(Ruling::Decline);
    }
    bail!(
        Value,
        "",
        "vmap: Attempted to vmap over `mask` in torch.masked_select(self, mask) We cannot support this \
         because for each batch this would return a differently shaped Tensor. Use \
         torch.where(mask, self, 0) instead."
    )
}

/// The value is a number, which may differ from example to example.
pub(crate) fn masked_fill(call: &Call<'_>) -> Result<Ruling> {
    let (x, mask, value) = (call.args.tensor(0), call.args.tensor(1), call.args.tensor(2));
    if value.ndim() > 0 {
        return Ok(Ruling::Decline);
    }
    if value.is_batched() {
        let value = unary("to", value, &[Value::DType(x.dtype())])?;
        return finished(invoke("where", 0, [tensor(mask), tensor(&value), tensor(x)])?);
    }
    let mut args = align::pointwise(call.args, &call.levels)?;
    args.values[2] = tensor(value);
    call.run(&args)
}

// Joins. -----------------------------------------------------------------------------------------

pub(crate) fn join(call: &Call<'_>) -> Result<Ruling> {
    let parts = call.args.tensors(0);
    let n = parts.first().map_or(0, Tensor::ndim);
    if parts.iter().any(|t| t.ndim() != n) {
        return Ok(Ruling::Decline);
    }
    let (cat, dim, axes) = match (call.row.name, n) {
        ("cat", _) => (true, call.args.int(1), n),
        ("stack", _) => (false, call.args.int(1), n + 1),
        (_, 0) => return Ok(Ruling::Decline),
        ("hstack", 1) => (true, 0, n),
        ("hstack" | "column_stack", 2..) => (true, 1, n),
        ("column_stack", _) => (false, 1, n + 1),
        ("vstack" | "row_stack", 1) => (false, 0, n + 1),
        ("vstack" | "row_stack", _) => (true, 0, n),
        ("dstack", 2) => (false, 2, n + 1),
        ("dstack", 3..) => (true, 2, n),
        _ => return Ok(Ruling::Decline),
    };
    let Ok(d) = crate::layout::wrap_dim(dim, axes) else { return Ok(Ruling::Decline) };
    if axes == 0 {
        return Ok(Ruling::Decline);
    }
    let whole = parts.iter().map(|t| super::spread(t, &call.levels)).collect::<Result<Vec<_>>>()?;
    let d = (d + call.levels.len()) as i64;
    let y = if cat { ops::join::cat(&whole, d)? } else { ops::join::stack(&whole, d)? };
    Ok(Ruling::Physical(y.into()))
}

// Look-ups. --------------------------------------------------------------------------------------

/// Operations along an axis at positions that a vector names.
pub(crate) fn at_index(call: &Call<'_>) -> Result<Ruling> {
    let n = call.rank(0);
    let source = call.args.values.get(3).and_then(Value::as_tensor);
    if call.is_batched(2) || n == 0 || source.is_some_and(|s| s.ndim() != n) {
        return Ok(Ruling::Decline);
    }
    let Ok(d) = crate::layout::wrap_dim(call.args.int(1), n) else { return Ok(Ruling::Decline) };
    let mut args = call.args.clone();
    args.values[0] = Value::Tensor(super::spread(call.args.tensor(0), &call.levels)?);
    args.values[1] = int((d + call.levels.len()) as i64);
    if let Some(source) = source {
        args.values[3] = Value::Tensor(super::spread(source, &call.levels)?);
    }
    call.run(&args)
}

/// `index_put` and `index_put_`, with an index for every axis that is named.
pub(crate) fn index_put(call: &Call<'_>) -> Result<Ruling> {
    let (x, values) = (call.args.tensor(0), call.args.tensor(2));
    let indices: Vec<Option<Tensor>> = call.args.tensors(1).iter().cloned().map(Some).collect();
    if call.row.name == "index_put_" {
        super::indexing::index_put_(x, &indices, values, call.args.bool(3))?;
        return finished(x.clone());
    }
    if values.dtype() != x.dtype() {
        return Ok(Ruling::Decline);
    }
    let whole = ops::cast::clone(&super::spread(x, &call.levels)?)?;
    let whole = Tensor::example_of(&whole, &call.levels)?;
    super::indexing::index_put_(&whole, &indices, values, call.args.bool(3))?;
    finished(whole)
}

pub(crate) fn embedding(call: &Call<'_>) -> Result<Ruling> {
    if call.is_batched(1) {
        return Ok(Ruling::Decline);
    }
    call.run(&align::physicals(call.args))
}

pub(crate) fn take(call: &Call<'_>) -> Result<Ruling> {
    if call.is_batched(0) {
        return Ok(Ruling::Decline);
    }
    call.run(&align::physicals(call.args))
}

pub(crate) fn one_hot(call: &Call<'_>) -> Result<Ruling> {
    if call.args.int(1) <= 0 {
        bail!(
            Value,
            "",
            "When vmap-ing torch.nn.functional.one_hot, please provide an explicit positive \
             num_classes argument."
        );
    }
    call.run(&align::physicals(call.args))
}

// Losses. ----------------------------------------------------------------------------------------

/// The parameters that older code has in place of `reduction`, given.
fn old_style(call: &Call<'_>) -> bool {
    let named = call.signature.params.iter().zip(&call.args.values);
    named
        .into_iter()
        .any(|(p, v)| matches!(p.name, "size_average" | "reduce") && !matches!(v, Value::None))
}

fn reduction(call: &Call<'_>) -> Option<(usize, String)> {
    let at = call.signature.params.iter().position(|p| p.name == "reduction")?;
    Some((at, call.args.opt_str(at)?.to_owned()))
}

/// Losses of an element each, and their sum or mean.
pub(crate) fn loss(call: &Call<'_>) -> Result<Ruling> {
    let (x, target) = (call.args.tensor(0), call.args.tensor(1));
    let weighted = call
        .signature
        .params
        .iter()
        .enumerate()
        .any(|(i, p)| matches!(p.name, "weight" | "pos_weight") && call.has(i));
    let Some((at, how)) = reduction(call) else { return Ok(Ruling::Decline) };
    let known = matches!(&how[..], "none" | "mean" | "sum");
    if weighted || old_style(call) || !known || x.shape() != target.shape() {
        return Ok(Ruling::Decline);
    }
    let mut args = align::spread_all(call.args, &call.levels)?;
    args.values[at] = text("none");
    let ops::Output::Tensor(losses) = call.row.call(&args)? else { return Ok(Ruling::Decline) };
    let losses = Tensor::example_of(&losses, &call.levels)?;
    finished(match &how[..] {
        "none" => losses,
        name => unary(name, &losses, &[])?,
    })
}

/// Cross entropy of classes by number: the examples' rows are rows of one larger table.
pub(crate) fn cross_entropy(call: &Call<'_>) -> Result<Ruling> {
    let (x, target) = (call.args.tensor(0), call.args.tensor(1));
    let Some((at, how)) = reduction(call) else { return Ok(Ruling::Decline) };
    let n = x.ndim();
    let by_number = target.dtype() == DType::Int64 && (n == 1 || n == 2);
    let same_rows = target.shape() == &x.shape()[..n.saturating_sub(1)];
    let known = matches!(&how[..], "none" | "mean" | "sum");
    if call.has(2) || old_style(call) || !by_number || !same_rows || !known {
        return Ok(Ruling::Decline);
    }
    let physical = super::spread(x, &call.levels)?;
    let labels = super::spread(target, &call.levels)?;
    let rows = Dims::from_slice(labels.shape());
    let classes = physical.shape()[physical.ndim() - 1];
    let mut args = call.args.clone();
    args.values[0] = Value::Tensor(view::reshape_to(&physical, &[labels.numel(), classes])?);
    args.values[1] = Value::Tensor(view::reshape_to(&labels, &[labels.numel()])?);
    args.values[at] = text("none");
    let ops::Output::Tensor(losses) = call.row.call(&args)? else { return Ok(Ruling::Decline) };
    let losses = Tensor::example_of(&view::reshape_to(&losses, &rows)?, &call.levels)?;
    let own: SmallVec<[i64; 2]> = (0..target.ndim() as i64).collect();
    let total = |t: &Tensor| match own.is_empty() {
        true => Ok(t.clone()),
        false => unary("sum", t, &[ints(&own)]),
    };
    finished(match &how[..] {
        "none" => losses,
        "sum" => total(&losses)?,
        _ => {
            let at = call.signature.params.iter().position(|p| p.name == "ignore_index");
            let ignored = at.map_or(-100, |i| call.args.int(i));
            let counted = binary("ne", target, &Tensor::wrapped(Scalar::Int(ignored))?)?;
            let counted = unary("to", &counted, &[Value::DType(x.dtype())])?;
            binary("div", &total(&losses)?, &total(&counted)?)?
        }
    })
}
