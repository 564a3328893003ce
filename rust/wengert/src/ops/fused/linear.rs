//! `linear(x, w, b) = x @ wᵀ + b` as one product.
//!
//! The transposition is a flag and the bias where the product's sums begin, so there is neither a
//! view nor a second pass, and the gradient of the weight comes out in the weight's own layout.

use crate::batch::{Batching, compose};
use crate::layout::Dims;
use crate::ops::product::{Mat, add_product, product};
use crate::ops::tags::*;
use crate::ops::{Call, Dest, Row, add, matmul, view};
use crate::tensor::Tensor;
use crate::{Result, bail};
use smallvec::SmallVec;

/// `input @ weightᵀ + bias`: input `(…, in)`, weight `(out, in)` or `(in,)`, bias `(out,)`.
///
/// ```
/// # use wengert::{Tensor, ops::fused::linear::linear};
/// let x = Tensor::from_slice(&[1.0f32, 2.0], &[2]).unwrap();
/// let w = Tensor::from_slice(&[1.0f32, 0.0, 3.0, -1.0], &[2, 2]).unwrap();
/// let b = Tensor::from_slice(&[0.5f32, 0.0], &[2]).unwrap();
/// assert_eq!(linear(&x, &w, Some(&b)).unwrap().to_vec::<f32>().unwrap(), [1.5, 1.0]);
/// ```
///
/// # Errors
/// As for [`matmul`](matmul::matmul), and if the bias does not broadcast to the result.
pub fn linear(input: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    if input.ndim() == 0 || weight.ndim() == 0 {
        let (x, w) = (input.ndim(), weight.ndim());
        bail!(
            Shape,
            "",
            "both arguments to linear need to be at least 1D, but they are {x}D and {w}D"
        );
    }
    let plain_bias = bias.is_none_or(|b| b.ndim() <= 1);
    if weight.ndim() != 2 || !plain_bias {
        return composed(input, weight, bias);
    }
    let weight = Mat(weight, true);
    let rows = |x: &Tensor| match bias {
        Some(bias) => add_product(bias, Mat(x, false), weight, [1.0, 1.0], Dest::New),
        None => product(Mat(x, false), weight, 1.0),
    };
    if input.ndim() == 2 {
        return rows(input);
    }
    let mut shape: Dims = SmallVec::from_slice(input.shape());
    let k = shape.pop().unwrap_or(1);
    let y = rows(&view::reshape_to(input, &[shape.iter().product(), k])?)?;
    shape.push(y.shape()[1]);
    let name = match bias {
        Some(_) => "ViewBackward0",
        None if input.ndim() == 1 => "SqueezeBackward4",
        None => "UnsafeViewBackward0",
    };
    view::reinterpret(name, &y, &shape)
}

/// The definition of [`linear`].
pub fn composed(input: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let y = matmul::matmul(input, &view::t(weight)?)?;
    match bias {
        Some(bias) => add(&y, bias),
        None => Ok(y),
    }
}

/// This family's rows.
pub const ROWS: &[Row] = &[Row {
    name: "nn.functional.linear",
    aliases: &[],
    signatures: &["(input, weight, bias: Tensor? = None)"],
    doc: &[
        " `input @ weightᵀ + bias`.",
        "",
        " `input` has shape `(…, in)`, `weight` `(out, in)`, `bias` `(out,)`.",
    ],
    tags: FUNCTION | OUT,
    batch: Batching::Own(compose::linear),
    call: Call::Make(|c| Ok(linear(c.tensor(0), c.tensor(1), c.opt_tensor(2))?.into())),
}];
