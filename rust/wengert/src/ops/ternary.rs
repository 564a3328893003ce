//! Pointwise operations of three tensors.

use super::binary::check_same_dtype;
use super::tags::*;
use crate::dtype::DType;
use crate::pointwise_rows;
use crate::tensor::Tensor;
use crate::{Result, Scalar, bail};

pointwise_rows! {
    /// `input + weight · (end - input)`: from `input` at weight 0 to `end` at weight 1, both exact.
    lerp(a, b, w) -> y: "(input, end, weight: Operand)", Same, FUNCTION | METHOD | INPLACE | OUT,
        via |c, dest| {
            let (a, b, w) = (c.tensor(0), c.tensor(1), c.tensor(2));
            check_same_dtype(a, b, "end")?;
            check_same_dtype(a, w, "weight")?;
            if a.dtype().is_integral() {
                bail!(Unsupported, "", "\"lerp\" not implemented for '{}'",
                      a.dtype().scalar_type_name());
            }
            lerp::run([a, b, w], dest)
        } =>
    {
        float: if w < 0.5 && w > -0.5 { a + w * (b - a) } else { b - (b - a) * (1.0 - w) },
    } "LerpBackward1" number "LerpBackward0" {
        a saves(w): |g| g * (1.0 - w),
        b saves(w): |g| g * w,
        w saves(a, b): |g| g * (b - a),
    }

    /// `input + value · tensor1 · tensor2`, elementwise with broadcasting.
    addcmul(x, a, b, s) -> y: "(input, tensor1, tensor2, *, value: Number = 1)", Same, ALL_FORMS,
        via |c, dest| {
            let inputs = [c.tensor(0), c.tensor(1), c.tensor(2)];
            if inputs.iter().all(|t| t.dtype() == DType::Bool) {
                bail!(Unsupported, "", "\"addcmul\" not implemented for 'Bool'");
            }
            let value = factor(inputs, c.number(3))?;
            addcmul::run([inputs[0], inputs[1], inputs[2], &value], dest)
        } =>
    {
        int: x.wrapping_add(s.wrapping_mul(a).wrapping_mul(b)), float: x + s * a * b,
    } "AddcmulBackward0" {
        x saves(): |g| g.clone(),
        a saves(b, s): |g| g * (b * s),
        b saves(a, s): |g| g * (a * s),
    }

    /// `input + value · tensor1 / tensor2`, elementwise with broadcasting.
    addcdiv(x, a, b, s) -> y: "(input, tensor1, tensor2, *, value: Number = 1)", Same, ALL_FORMS,
        via |c, dest| {
            let inputs = [c.tensor(0), c.tensor(1), c.tensor(2)];
            if inputs[1].dtype().is_integral() && inputs[2].dtype().is_integral() {
                bail!(DType, "", "Integer division with addcdiv is no longer supported, and in a \
                      future  release addcdiv will perform a true division of tensor1 and tensor2. \
                      Convert one of them to a floating type, or use input + value * \
                      (tensor1 // tensor2).");
            }
            addcdiv::run([inputs[0], inputs[1], inputs[2], &Tensor::wrapped(c.number(3))?], dest)
        } =>
    { float: x + s * (a / b) }
    "AddcdivBackward0" {
        x saves(): |g| g.clone(),
        a saves(b, s): |g| g * (s / b),
        b saves(a, b, s): |g| -g * (a * s / (b * b)),
    }
}

/// The factor of `addcmul` as an operand, refused where it would lose its fraction.
fn factor(inputs: [&Tensor; 3], value: Scalar) -> Result<Tensor> {
    if matches!(value, Scalar::Float(_)) && inputs.iter().all(|t| t.dtype().is_integral()) {
        bail!(
            DType,
            "",
            "For integral input tensors, argument value must not be a floating point number. \
             (addcmul)"
        );
    }
    Tensor::wrapped(value)
}
