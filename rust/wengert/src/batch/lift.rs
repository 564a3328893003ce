//! The engine's own functions on batched tensors.
//!
//! Rules for backward call functions, not rows: `view::permute(g, ..)`, `product(g, w)`. So that one
//! rule can serve a whole batch of cotangents, those functions begin with a look at the bit that says
//! *batched*, and if it is set call themselves on the examples by one of the helpers here, with
//! axes, shapes and masks counted from behind the levels. What is recorded is recorded on the physical
//! tensors, as everywhere in this module.
//!
//! A function that does not look ends at the example's memory, where it is refused
//! ([`unreadable`]); whoever ran the rule then runs it for one example at a time. So a function
//! needs to know of batches only to be fast, and none can be wrong about them.

use super::{Levels, align};
use crate::layout::Dims;
use crate::ops::part::Take;
use crate::tensor::Tensor;
use crate::{Error, Kind, Result};
use smallvec::SmallVec;

/// How the refusal to read one example begins; PyTorch's words.
const UNREADABLE: &str = "Cannot access data pointer of Tensor that doesn't have storage";

/// How else it is said that something cannot be done for all examples at once.
const REFUSALS: [&str; 7] = [
    "vmap: ",
    UNREADABLE,
    "Cannot access storage of BatchedTensorImpl",
    "Batching rule not implemented",
    "accessing `data` under vmap transform",
    "You tried to vmap over ",
    "In order to use an autograd.Function with functorch transforms",
];

/// The elements of one example are asked for as if they were all.
#[cold]
pub(crate) fn unreadable() -> Error {
    Error::plain(
        Kind::Value,
        format!(
            "{UNREADABLE} (inside vmap a tensor stands for every example of a batch: its values are \
             not one example's)"
        ),
    )
}

/// What begins the refusal of an operation whose results differ in shape from example to example:
/// those of single examples would not make a batch, either.
const DYNAMIC: &str = "vmap: We do not support batching operators that can";

/// Whether an error says that something cannot be done for all examples at once, but could be for
/// each. One of the embedding language is known by its text, before which its class may stand.
pub(crate) fn is_refusal(error: &Error) -> bool {
    let text = error.detail();
    if text.contains(DYNAMIC) {
        return false;
    }
    REFUSALS.iter().any(|known| match error.kind() {
        Kind::Foreign => text.contains(known),
        _ => text.starts_with(known),
    })
}

/// What `f` makes of the examples of `x`, as examples again; `f` is told how many axes the levels take
/// in front.
#[cold]
#[inline(never)]
pub(crate) fn over(x: &Tensor, f: impl FnOnce(&Tensor, usize) -> Result<Tensor>) -> Result<Tensor> {
    let Some((physical, levels)) = x.parts() else { return f(x, 0) };
    Tensor::example_of(&f(&physical, levels.len())?, &levels)
}

/// The levels that tensors have together.
fn levels_together(tensors: &[&Tensor]) -> Levels {
    let mut all = Levels::new();
    for (_, own) in tensors.iter().filter_map(|t| t.parts()) {
        all.extend(own);
    }
    all.sort_unstable();
    all.dedup();
    all
}

/// [`over`] of several tensors, each brought to all levels, which are repeated without copying.
#[cold]
#[inline(never)]
pub(crate) fn over_all<const N: usize>(
    tensors: [&Tensor; N],
    f: impl FnOnce([&Tensor; N], usize) -> Result<Tensor>,
) -> Result<Tensor> {
    let levels = levels_together(&tensors);
    let mut whole: SmallVec<[Tensor; 4]> = SmallVec::new();
    for t in tensors {
        whole.push(align::spread(t, &levels)?);
    }
    Tensor::example_of(&f(std::array::from_fn(|i| &whole[i]), levels.len())?, &levels)
}

/// [`over`] of several tensors whose examples broadcast against each other and have `ndim` axes at
/// least; tensors without examples stay as they are.
#[cold]
#[inline(never)]
pub(crate) fn over_aligned<const N: usize>(
    tensors: [&Tensor; N],
    ndim: usize,
    f: impl FnOnce([&Tensor; N], usize) -> Result<Tensor>,
) -> Result<Tensor> {
    let levels = levels_together(&tensors);
    let mut whole: SmallVec<[Tensor; 4]> = SmallVec::new();
    for t in tensors {
        whole.push(align::align(t, &levels, ndim)?);
    }
    Tensor::example_of(&f(std::array::from_fn(|i| &whole[i]), levels.len())?, &levels)
}

/// An operation element by element, for operands of which one is batched.
#[cold]
#[inline(never)]
pub(crate) fn pointwise<const N: usize>(
    operands: [&Tensor; N],
    f: impl FnOnce([&Tensor; N]) -> Result<Tensor>,
) -> Result<Tensor> {
    let y = super::pointwise(&operands, |ts| f(std::array::from_fn(|i| &ts[i])))?;
    y.ok_or_else(unreadable)
}

/// A shape of examples as one of the physical tensor `whole`, whose first `k` axes are levels.
pub(crate) fn shape_of(whole: &Tensor, k: usize, shape: &[usize]) -> Dims {
    let mut all = Dims::from_slice(&whole.shape()[..k]);
    all.extend_from_slice(shape);
    all
}

/// Something said of each axis of an example, with the same said of `k` axes in front.
pub(crate) fn behind<T: Clone, A: smallvec::Array<Item = T>>(
    k: usize,
    level: T,
    axes: &[T],
) -> SmallVec<A> {
    let mut all = SmallVec::from_elem(level, k);
    all.extend(axes.iter().cloned());
    all
}

/// An order of the axes of an example, with `k` axes in front that stay there.
pub(crate) fn order(k: usize, order: &[usize]) -> SmallVec<[usize; 5]> {
    (0..k).chain(order.iter().map(|d| d + k)).collect()
}

/// Parts of an example, of every example of `whole`.
pub(crate) fn takes(whole: &Tensor, k: usize, takes: &[Take]) -> SmallVec<[Take; 5]> {
    let levels = whole.shape()[..k].iter().map(|&s| Take::all(s));
    levels.chain(takes.iter().copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{Randomness, add_axis, enter, exit, remove_axis};
    use crate::graph::{Backward, grad};
    use crate::ops::{reduce, unary};

    fn rows() -> Tensor {
        Tensor::from_slice(&[1.0f64, 2.0, 3.0, 4.0, 5.0, 6.0], &[2, 3]).unwrap()
    }

    #[test]
    fn functions_turn_to_the_examples() {
        let level = enter(2, Randomness::Error);
        let x = add_axis(&rows(), 0, level).unwrap();
        assert_eq!(x.shape(), [3]);
        let total = reduce::sum(&(&x * &x), None, false, None).unwrap();
        let total = remove_axis(&total, level, 2, 0).unwrap();
        exit(level);
        assert_eq!(total.to_vec::<f64>().unwrap(), [14.0, 77.0]);
    }

    #[test]
    fn what_does_not_know_of_batches_refuses_instead_of_taking_one_example() {
        let level = enter(2, Randomness::Error);
        let x = add_axis(&rows(), 0, level).unwrap();
        let read = std::panic::AssertUnwindSafe(|| x.data_ptr());
        let error = std::panic::catch_unwind(read).unwrap_err().downcast::<Error>().unwrap();
        exit(level);
        assert!(is_refusal(&error), "{error}");
    }

    #[test]
    fn a_pass_carries_cotangents_that_the_graph_does_not_know() {
        let x = Tensor::from_slice(&[0.5f64, 1.0, 2.0], &[3]).unwrap();
        x.set_requires_grad(true).unwrap();
        let y = unary::exp(&x).unwrap();
        let level = enter(2, Randomness::Error);
        let v = add_axis(&rows(), 0, level).unwrap();
        let [y_only, x_only] = [&y, &x].map(std::slice::from_ref);
        let found = grad(y_only, &[Some(v)], x_only, Backward::default()).unwrap();
        let g = remove_axis(found[0].as_ref().unwrap(), level, 2, 0).unwrap();
        exit(level);
        let expected = (&rows() * &y.detach()).to_vec::<f64>().unwrap();
        assert_eq!(g.to_vec::<f64>().unwrap(), expected);
    }
}
