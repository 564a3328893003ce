//! The axes in another order: `permute`, `transpose` and relatives.
//!
//! All of them are one rule, [`Permute`], under PyTorch's names; its gradient is the inverse order.

use super::tags::*;
use super::view::{Indices, VIEWS, finish, reshaped, row};
use super::{Call, Row};
use crate::batch::{Batching, axes, lift};
use crate::graph::{Attribute, Attributes, Context, Gradients, Op, forward::linear};
use crate::layout::{Dims, Layout, Strides, wrap_dim};
use crate::tensor::Tensor;
use crate::{Result, bail};
use smallvec::{SmallVec, smallvec};

/// Axes in another order: output axis `i` is input axis `order[i]`.
struct Permute {
    name: &'static str,
    inverse: Indices,
}

impl Op for Permute {
    fn name(&self) -> &'static str {
        self.name
    }

    fn attributes(&self) -> Attributes {
        match (self.name, &self.inverse[..]) {
            ("PermuteBackward0", inverse) => {
                let mut dims = Indices::from_elem(0, inverse.len());
                for (d, &i) in inverse.iter().enumerate() {
                    dims[i as usize] = d as i64;
                }
                vec![("dims", Attribute::ints(&dims))]
            }
            ("TransposeBackward0", inverse) => {
                let moved = |(d, i): (usize, &i64)| (d as i64 != *i).then_some(d);
                let mut swapped = inverse.iter().enumerate().filter_map(moved);
                let first = swapped.next().unwrap_or(0);
                let second = swapped.next().unwrap_or(first);
                vec![("dim0", Attribute::int(first)), ("dim1", Attribute::int(second))]
            }
            _ => Attributes::new(),
        }
    }

    fn backward(&self, _: &Context, grads: &[Option<Tensor>]) -> Result<Gradients> {
        let Some(g) = &grads[0] else { return Ok(smallvec![None]) };
        Ok(smallvec![Some(permute(g, &self.inverse)?)])
    }

    fn jvp(&self, _: &Context, v: &[Option<Tensor>], _: &[&Tensor]) -> Result<Option<Gradients>> {
        let place = |d: usize| self.inverse.iter().position(|&i| i as usize == d).unwrap_or(d);
        let order: Indices = (0..self.inverse.len()).map(|d| place(d) as i64).collect();
        linear(v, |v| permute(v, &order))
    }
}

fn permuted(name: &'static str, x: &Tensor, order: &[usize]) -> Result<Tensor> {
    if x.is_batched() {
        return lift::over(x, |x, k| permuted(name, x, &lift::order(k, order)));
    }
    let l = x.layout();
    let shape: Dims = order.iter().map(|&d| l.shape()[d]).collect();
    let strides: Strides = order.iter().map(|&d| l.strides()[d]).collect();
    finish(x, Layout::strided(&shape, &strides, l.offset()), || {
        let mut inverse: Indices = smallvec![0; order.len()];
        for (i, &d) in order.iter().enumerate() {
            inverse[d] = i as i64;
        }
        Box::new(Permute { name, inverse })
    })
}

/// Axes in the given order.
pub fn permute(x: &Tensor, dims: &[i64]) -> Result<Tensor> {
    if dims.len() != x.ndim() {
        bail!(
            Shape,
            "",
            "permute(sparse_coo): number of dimensions in the tensor input does not match the length \
             of the desired ordering of dimensions i.e. input.dim() = {} is not equal to len(dims) = {}",
            x.ndim(),
            dims.len()
        );
    }
    let mut order: SmallVec<[usize; 5]> = SmallVec::new();
    for &d in dims {
        let d = wrap_dim(d, x.ndim())?;
        if order.contains(&d) {
            bail!(Shape, "", "permute(): duplicate dims are not allowed.");
        }
        order.push(d);
    }
    permuted("PermuteBackward0", x, &order)
}

/// Two axes swapped.
pub fn transpose(x: &Tensor, a: i64, b: i64) -> Result<Tensor> {
    let (a, b) = (wrap_dim(a, x.ndim())?, wrap_dim(b, x.ndim())?);
    let mut order: SmallVec<[usize; 5]> = (0..x.ndim()).collect();
    if x.ndim() > 0 {
        order.swap(a, b);
    }
    permuted("TransposeBackward0", x, &order)
}

/// The axes `source` moved to the places `destination`; the others keep their order.
///
/// # Errors
/// The lists differ in length, or name an axis twice.
pub fn movedim(x: &Tensor, source: &[i64], destination: &[i64]) -> Result<Tensor> {
    if source.len() != destination.len() {
        bail!(
            Shape,
            "",
            "movedim: Invalid source or destination dims: source ({source:?} dims) should contain \
             the same number of dims as destination ({destination:?} dims)"
        );
    }
    let mut order: SmallVec<[Option<usize>; 5]> = smallvec![None; x.ndim()];
    let mut moved: SmallVec<[bool; 8]> = smallvec![false; x.ndim()];
    for (&from, &to) in source.iter().zip(destination) {
        let (from, to) = (wrap_dim(from, x.ndim())?, wrap_dim(to, x.ndim())?);
        if x.ndim() == 0 {
            continue;
        }
        if std::mem::replace(&mut moved[from], true) {
            bail!(Shape, "", "movedim: repeated dim in `source` ({source:?})");
        }
        if order[to].replace(from).is_some() {
            bail!(Shape, "", "movedim: repeated dim in `destination` ({destination:?})");
        }
    }
    let mut rest = (0..x.ndim()).filter(|&d| !moved[d]);
    let order: SmallVec<[usize; 5]> =
        order.into_iter().filter_map(|place| place.or_else(|| rest.next())).collect();
    if x.ndim() == 0 {
        return reshaped("AliasBackward0", x, x.layout().clone(), 0);
    }
    permuted("PermuteBackward0", x, &order)
}

/// The transpose of a matrix; tensors of fewer dimensions as they are.
pub fn t(x: &Tensor) -> Result<Tensor> {
    if x.ndim() > 2 {
        bail!(Shape, "", "t() expects a tensor with <= 2 dimensions, but self is {}D", x.ndim());
    }
    let order: SmallVec<[usize; 5]> = (0..x.ndim()).rev().collect();
    permuted("TBackward0", x, &order)
}

/// All axes reversed (`.T`).
pub fn reverse_axes(x: &Tensor) -> Result<Tensor> {
    let order: SmallVec<[usize; 5]> = (0..x.ndim()).rev().collect();
    permuted("PermuteBackward0", x, &order)
}

/// The last two axes swapped (`.mT`).
pub fn matrix_transpose(x: &Tensor) -> Result<Tensor> {
    if x.ndim() < 2 {
        bail!(
            Shape,
            "",
            "tensor.mT is only supported on matrices or batches of matrices. Got {}-D tensor.",
            x.ndim()
        );
    }
    transpose(x, -2, -1)
}

/// This family's rows.
pub const ROWS: &[Row] = &[
    row!("t", ["(input)"], VIEWS | INPLACE, " The transpose of a matrix.", |c| Ok(
        t(c.tensor(0))?.into()
    ))
    .batched(Batching::Own(axes::t)),
    row!(
        "transpose" aka "swapdims" aka "swapaxes",
        ["(input, dim0: int, dim1: int)"],
        VIEWS | INPLACE,
        " Two axes swapped.",
        |c| Ok(transpose(c.tensor(0), c.int(1), c.int(2))?.into())
    )
    .batched(Batching::Axes { extra: 0 }),
    row!("permute", ["(input, dims: size)"], VIEWS, " Axes in another order.", |c| Ok(permute(
        c.tensor(0),
        c.ints(1)
    )?
    .into()))
    .batched(Batching::Own(axes::permute)),
    row!(
        "movedim" aka "moveaxis",
        ["(input, source: int[], destination: int[])"],
        VIEWS,
        " Axes moved to other places; the others keep their order.",
        |c| Ok(movedim(c.tensor(0), c.ints(1), c.ints(2))?.into())
    )
    .batched(Batching::Axes { extra: 0 }),
];
