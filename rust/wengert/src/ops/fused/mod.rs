//! Operations that are chains of others, in fewer passes over memory.
//!
//! Each file has the composed twin beside the fused operation: the twin is the definition, and the
//! tests hold the fused one against it.

mod classes;
pub mod cross_entropy;
pub mod linear;
pub mod loss;
mod reduction;
pub mod softmax;

use crate::tensor::Tensor;
use crate::{DType, Result};

/// The elements, row-major and in the type that kernels compute in; not recorded.
fn for_kernel(op: &'static str, x: &Tensor, compute: DType) -> Result<Tensor> {
    if x.dtype() == compute && x.is_contiguous() {
        return Ok(x.clone());
    }
    let y = Tensor::uninitialised(op, x.shape(), compute)?;
    y.copy_raw(x);
    Ok(y)
}

/// A result in the type the user gets; not recorded.
fn for_user(op: &'static str, x: Tensor, dtype: DType) -> Result<Tensor> {
    if x.dtype() == dtype {
        return Ok(x);
    }
    let y = Tensor::uninitialised(op, x.shape(), dtype)?;
    y.copy_raw(&x);
    Ok(y)
}

/// Runs `$body` with `$T` for the type that a floating type computes in.
macro_rules! with_real {
    ($dtype:expr, $T:ident => $body:expr) => {
        if $dtype == $crate::DType::Float64 {
            type $T = f64;
            $body
        } else {
            type $T = f32;
            $body
        }
    };
}
use with_real;
