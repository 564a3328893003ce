//! Matrix products for tensors of all ranks.
//!
//! Ranks other than those of [`product`] are folded to these by views, as in PyTorch, so that
//! `grad_fn` has the same names.

use super::product::{
    Mat, add_product, dot as dot_into, matvec, mixed_types, placed, product_into,
};
use super::tags::*;
use super::{Call, Dest, Row, product::product, view};
use crate::batch::{Batching, compose};
use crate::layout::Dims;
use crate::tensor::Tensor;
use crate::{Result, bail};
use smallvec::SmallVec;

/// `Σ aᵢ bᵢ` of two vectors.
pub fn dot(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    dot_into("DotBackward0", a, b, Dest::New)
}

/// The product of two matrices.
pub fn mm(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    mm_into(a, b, Dest::New)
}

fn mm_into(a: &Tensor, b: &Tensor, dest: Dest) -> Result<Tensor> {
    if a.ndim() != 2 || b.ndim() != 2 {
        let which = if a.ndim() != 2 { "self" } else { "mat2" };
        bail!(
            Shape,
            "",
            "{which} must be a matrix (mm of shapes {:?} and {:?})",
            a.shape(),
            b.shape()
        );
    }
    product_into(Mat(a, false), Mat(b, false), 1.0, dest)
}

/// The product of a matrix and a vector.
pub fn mv(a: &Tensor, v: &Tensor) -> Result<Tensor> {
    matvec(None, Mat(a, false), v, [0.0, 1.0], Dest::New)
}

/// The products of the matrices of two batches, which do not broadcast.
pub fn bmm(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    check_batches(a, b)?;
    product(Mat(a, false), Mat(b, false), 1.0)
}

fn check_batches(a: &Tensor, b: &Tensor) -> Result<()> {
    for (t, which) in [(a, "batch1"), (b, "batch2")] {
        if t.ndim() != 3 {
            bail!(Shape, "", "{which} must be a 3D tensor (got shape {:?})", t.shape());
        }
    }
    let ([n, k], [m, l]) = ([a.shape()[0], a.shape()[2]], [b.shape()[0], b.shape()[1]]);
    if (n, k) != (m, l) {
        bail!(
            Shape,
            "",
            "Expected size for first two dimensions of batch2 tensor to be: [{n}, {k}] but got: \
             [{m}, {l}]."
        );
    }
    Ok(())
}

/// The product of two tensors: dot product of vectors, product of matrices, and of batches of
/// matrices, whose leading axes broadcast.
///
/// ```
/// # use wengert::{Tensor, ops::matmul::matmul};
/// let a = Tensor::from_slice(&[1.0f32, 2.0, 3.0, 4.0], &[2, 2]).unwrap();
/// let v = Tensor::from_slice(&[1.0f32, -1.0], &[2]).unwrap();
/// assert_eq!(matmul(&a, &v).unwrap().to_vec::<f32>().unwrap(), [-1.0, -1.0]);
/// ```
///
/// # Errors
/// If an operand is 0-d, if inner sizes differ, if batches do not broadcast, or if the types
/// differ: products do not promote.
pub fn matmul(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    matmul_into(a, b, Dest::New)
}

fn matmul_into(a: &Tensor, b: &Tensor, dest: Dest) -> Result<Tensor> {
    match (a.ndim(), b.ndim()) {
        (2, 2) => product_into(Mat(a, false), Mat(b, false), 1.0, dest),
        (1, 1) => dot_into("DotBackward0", a, b, dest),
        (2, 1) => matvec(None, Mat(a, false), b, [0.0, 1.0], dest),
        (0, _) | (_, 0) => bail!(
            Shape,
            "",
            "both arguments to matmul need to be at least 1D, but they are {}D and {}D",
            a.ndim(),
            b.ndim()
        ),
        // PyTorch multiplies before it writes to `out`, so what would be recorded is not.
        _ if matches!(dest, Dest::Into(_)) => placed("matmul", matmul(a, b)?, dest),
        (1, 2) => {
            let y = mm(&view::unsqueeze(a, 0)?, b)?;
            view::reinterpret("SqueezeBackward4", &y, &b.shape()[1..])
        }
        (1, _) => {
            let y = product(Mat(&view::unsqueeze(a, 0)?, false), Mat(b, false), 1.0)?;
            let mut shape: Dims = SmallVec::from_slice(y.shape());
            shape.remove(y.ndim() - 2);
            view::reinterpret("UnsafeViewBackward0", &y, &shape)
        }
        // One product of all rows of the batch, which is faster than many of few rows.
        (_, 1 | 2) => {
            let mut shape: Dims = SmallVec::from_slice(a.shape());
            let k = shape.pop().unwrap_or(1);
            let folded = view::reshape_to(a, &[shape.iter().product(), k])?;
            let y = if b.ndim() == 1 { mv(&folded, b)? } else { mm(&folded, b)? };
            shape.extend_from_slice(&b.shape()[1..]);
            view::reinterpret("UnsafeViewBackward0", &y, &shape)
        }
        _ => {
            let y = product(Mat(a, false), Mat(b, false), 1.0)?;
            view::reinterpret("UnsafeViewBackward0", &y, y.shape())
        }
    }
}

/// `aᵢ bⱼ` for all pairs of elements of two vectors.
pub fn outer(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    outer_into(a, b, Dest::New)
}

fn outer_into(a: &Tensor, b: &Tensor, dest: Dest) -> Result<Tensor> {
    for (t, which) in [(a, "self"), (b, "vec2")] {
        if t.ndim() != 1 {
            bail!(Shape, "", "outer: Expected 1-D argument {which}, but got {}-D", t.ndim());
        }
    }
    super::mul::run([&view::reshape_to(a, &[a.numel(), 1])?, b], dest)
}

/// The sum of products over the last axes of both.
pub fn inner(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    if a.ndim() == 0 || b.ndim() == 0 {
        return super::mul(a, b);
    }
    let ([.., k], [.., l]) = (a.shape(), b.shape()) else { return super::mul(a, b) };
    if k != l {
        bail!(
            Shape,
            "",
            "inner() the last dimension must match on both input tensors but got shapes {:?} and {:?}",
            a.shape(),
            b.shape()
        );
    }
    if a.dtype() != b.dtype() {
        let text = "both inputs should have same dtype".to_owned();
        return Err(mixed_types(text, b.dtype(), a.dtype()));
    }
    let rows = |t: &Tensor| -> Result<Tensor> {
        let lead = &t.shape()[..t.ndim() - 1];
        view::reshape_to(t, &[lead.iter().product(), *k])
    };
    let y = product(Mat(&rows(a)?, false), Mat(&rows(b)?, true), 1.0)?;
    let mut shape: Dims = SmallVec::from_slice(&a.shape()[..a.ndim() - 1]);
    shape.extend_from_slice(&b.shape()[..b.ndim() - 1]);
    view::reinterpret("ViewBackward0", &y, &shape)
}

/// `beta · input + alpha · mat1 @ mat2` of matrices; `input` broadcasts.
pub fn addmm(input: &Tensor, a: &Tensor, b: &Tensor, beta: f64, alpha: f64) -> Result<Tensor> {
    addmm_into(input, a, b, [beta, alpha], Dest::New)
}

fn addmm_into(i: &Tensor, a: &Tensor, b: &Tensor, s: [f64; 2], dest: Dest) -> Result<Tensor> {
    for (t, which) in [(a, "mat1"), (b, "mat2")] {
        if t.ndim() != 2 {
            bail!(Shape, "", "{which} must be a matrix, got {}-D tensor", t.ndim());
        }
    }
    add_product(i, Mat(a, false), Mat(b, false), s, dest)
}

macro_rules! row {
    ($name:literal $(aka $alias:literal)?, $sig:literal, $tags:expr, $call:expr, $($doc:literal),+) => {
        Row {
            name: $name,
            aliases: &[$($alias)?],
            signatures: &[$sig],
            doc: &[$($doc),+],
            tags: $tags,
            batch: Batching::Each,
            call: $call,
        }
    };
}

const FORMS: u32 = FUNCTION | METHOD | OUT;

/// This family's rows.
pub const ROWS: &[Row] = &[
    row!(
        "matmul" aka "linalg.matmul",
        "(input, other)",
        FORMS,
        Call::Into(|c, dest| matmul_into(c.tensor(0), c.tensor(1), dest)),
        " The product of two tensors (`@`).",
        "",
        " Two vectors give their dot product. A vector on the left is a row, on the right a column,",
        " and the axis it lacks is dropped from the result. With more than two axes the leading ones",
        " are batches of matrices, which broadcast."
    ).batched(Batching::Own(compose::matmul)),
    row!(
        "mm",
        "(input, mat2)",
        FORMS,
        Call::Into(|c, dest| mm_into(c.tensor(0), c.tensor(1), dest)),
        " The product of two matrices."
    ).batched(Batching::Own(compose::exact_matmul)),
    row!(
        "mv",
        "(input, vec)",
        FORMS,
        Call::Into(|c, dest| {
            matvec(None, Mat(c.tensor(0), false), c.tensor(1), [0.0, 1.0], dest)
        }),
        " The product of a matrix and a vector."
    ).batched(Batching::Own(compose::exact_matmul)),
    row!(
        "dot",
        "(input, tensor)",
        FORMS,
        Call::Into(|c, dest| dot_into("DotBackward0", c.tensor(0), c.tensor(1), dest)),
        " The sum of the products of the elements of two vectors."
    ).batched(Batching::Own(compose::exact_matmul)),
    row!(
        "vdot",
        "(input, other)",
        FORMS,
        Call::Into(|c, dest| dot_into("VdotBackward0", c.tensor(0), c.tensor(1), dest)),
        " The dot product of two vectors (with the first conjugated, if there were complex types)."
    ).batched(Batching::Own(compose::exact_matmul)),
    row!(
        "bmm",
        "(input, mat2)",
        FORMS,
        Call::Into(|c, dest| {
            check_batches(c.tensor(0), c.tensor(1))?;
            product_into(Mat(c.tensor(0), false), Mat(c.tensor(1), false), 1.0, dest)
        }),
        " The products of the matrices of two batches of shape (b, n, k) and (b, k, m)."
    ).batched(Batching::Own(compose::exact_matmul)),
    row!(
        "addmm",
        "(input, mat1, mat2, *, beta: Number = 1, alpha: Number = 1)",
        ALL_FORMS,
        Call::Into(|c, dest| {
            addmm_into(c.tensor(0), c.tensor(1), c.tensor(2), [c.float(3), c.float(4)], dest)
        }),
        " `beta · input + alpha · mat1 @ mat2`; `input` broadcasts, and is not read if `beta` is 0."
    ).batched(Batching::Own(compose::added_matmul)),
    row!(
        "addmv",
        "(input, mat, vec, *, beta: Number = 1, alpha: Number = 1)",
        ALL_FORMS,
        Call::Into(|c, dest| {
            let factors = [c.float(3), c.float(4)];
            matvec(Some(c.tensor(0)), Mat(c.tensor(1), false), c.tensor(2), factors, dest)
        }),
        " `beta · input + alpha · mat @ vec`; `input` broadcasts, and is not read if `beta` is 0."
    ).batched(Batching::Own(compose::added_matmul)),
    row!(
        "baddbmm",
        "(input, batch1, batch2, *, beta: Number = 1, alpha: Number = 1)",
        ALL_FORMS,
        Call::Into(|c, dest| {
            check_batches(c.tensor(1), c.tensor(2))?;
            let [a, b] = [Mat(c.tensor(1), false), Mat(c.tensor(2), false)];
            add_product(c.tensor(0), a, b, [c.float(3), c.float(4)], dest)
        }),
        " `beta · input + alpha · batch1 @ batch2`, batch by batch; `input` broadcasts."
    ).batched(Batching::Own(compose::added_matmul)),
    row!(
        "outer" aka "ger",
        "(input, vec2)",
        FORMS,
        Call::Into(|c, dest| outer_into(c.tensor(0), c.tensor(1), dest)),
        " The products of all pairs of elements of two vectors."
    ).batched(Batching::Own(compose::outer)),
    row!(
        "inner",
        "(input, other)",
        FORMS,
        Call::Into(|c, dest| placed("inner", inner(c.tensor(0), c.tensor(1))?, dest)),
        " The sum of products over the last axes of both tensors."
    ).batched(Batching::Own(compose::inner)),
];
