//! Rules of linear algebra: examples are one more batch of matrices.

use super::{Call, Ruling, align, rules};
use crate::Result;
use crate::layout::Dims;
use crate::ops::{Output, Value, view};
use crate::tensor::Tensor;

/// The examples of a tensor with an axis for each level and so many own axes, whether it is batched
/// or not. Axes that are all there keep vectors from being taken for matrices.
fn with_axes(t: &Tensor, levels: &[u32], ndim: usize) -> Result<Tensor> {
    let aligned = align::align(t, levels, ndim)?;
    let mut shape = Dims::from_elem(1, (levels.len() + ndim).saturating_sub(aligned.ndim()));
    shape.extend_from_slice(aligned.shape());
    view::reshape_to(&aligned, &shape)
}

/// Systems of equations. Vectors become matrices of one column.
pub(crate) fn solve(call: &Call<'_>) -> Result<Ruling> {
    let (first, second) = (call.args.tensor(0), call.args.tensor(1));
    let is_solve = call.row.name == "linalg.solve";
    let vectors = is_solve
        && (second.ndim() == 1
            || second.ndim() + 1 == first.ndim()
                && second.shape() == &first.shape()[..first.ndim() - 1]);
    let second = if vectors {
        super::invoke(
            "unsqueeze",
            0,
            [Value::Tensor(second.clone()), Value::Number(crate::Scalar::Int(-1))],
        )?
    } else {
        second.clone()
    };
    let rank = first.ndim().max(second.ndim());
    if first.ndim() < 2 || second.ndim() < 2 {
        return Ok(Ruling::Decline);
    }
    let mut args = call.args.clone();
    args.values[0] = Value::Tensor(with_axes(first, &call.levels, rank)?);
    args.values[1] = Value::Tensor(with_axes(&second, &call.levels, rank)?);
    let Output::Tensor(x) = call.row.call(&args)? else { return Ok(Ruling::Decline) };
    let x = if vectors { view::squeeze(&x, Some(&[-1]))? } else { x };
    Ok(Ruling::Physical(x.into()))
}

/// Without `Q` there is nothing in its place, for examples as for one.
pub(crate) fn qr(call: &Call<'_>) -> Result<Ruling> {
    if call.rank(0) < 2 || call.args.opt_str(1) == Some("r") {
        return Ok(Ruling::Decline);
    }
    rules::first(call)
}
