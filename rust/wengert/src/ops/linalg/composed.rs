//! Products and views with names of their own.

use super::batches::size_of;
use super::*;
use crate::batch::Batching;
use crate::graph::{Attribute, Attributes, Context, Gradients, Op, ValuesOnly, record};
use crate::layout::wrap_dim;
use crate::ops::tags::*;
use crate::ops::{Row, cast, join, matmul, reduce};
use smallvec::smallvec;

/// A power of square matrices, by squaring; a negative one is that of the inverse.
fn matrix_power(a: &Tensor, n: i64) -> Result<Tensor> {
    check_square("linalg.matrix_power", a)?;
    if n == 0 {
        let unit = identity(size_of(a)[0], a.dtype())?;
        // Of `a` nothing is left, but the result is a function of it.
        return binary::where_(&Tensor::full(&[], true, DType::Bool)?, &unit, a);
    }
    let mut square = if n < 0 { lu::inverse(a)? } else { a.clone() };
    let (mut left, mut result) = (n.unsigned_abs(), None);
    loop {
        if left & 1 == 1 {
            result = Some(match &result {
                Some(y) => matmul::matmul(y, &square)?,
                None => square.clone(),
            });
        }
        left >>= 1;
        match result {
            Some(y) if left == 0 => return if n == 1 { cast::clone(&y) } else { Ok(y) },
            _ => square = matmul::matmul(&square, &square)?,
        }
    }
}

/// The product of several matrices in the order that multiplies least (T. Cormen et al.,
/// *Introduction to Algorithms*, 14.2). The first and the last may be vectors.
fn multi_dot(tensors: &[Tensor]) -> Result<Tensor> {
    let n = tensors.len();
    if n < 2 {
        bail!(Value, "", "multi_dot(): expected at least 2 tensors but got {n}");
    }
    let mut matrices = Vec::with_capacity(n);
    for (i, t) in tensors.iter().enumerate() {
        let (ends, which) = match i {
            0 => (true, "the first tensor must be 1D or 2D".to_owned()),
            i if i == n - 1 => (true, "the last tensor must be 1D or 2D".to_owned()),
            i => (false, format!("tensor {i} must be 2D")),
        };
        matrices.push(match t.ndim() {
            2 => t.clone(),
            1 if ends => view::unsqueeze(t, if i == 0 { 0 } else { 1 })?,
            d => bail!(Shape, "", "multi_dot(): {which} but got {d}D"),
        });
    }
    let sizes: Vec<usize> =
        (0..n).map(|i| matrices[i].shape()[0]).chain([matrices[n - 1].shape()[1]]).collect();
    for i in 0..n - 1 {
        if matrices[i].shape()[1] != sizes[i + 1] {
            bail!(
                Shape,
                "",
                "multi_dot(): tensors {i} and {} with shapes {:?} and {:?} cannot be multiplied",
                i + 1,
                tensors[i].shape(),
                tensors[i + 1].shape()
            );
        }
    }
    // cost[i][j] and cut[i][j] of the product of the matrices i..=j.
    let (mut cost, mut cut) = (vec![vec![0.0f64; n]; n], vec![vec![0; n]; n]);
    for length in 1..n {
        for i in 0..n - length {
            let j = i + length;
            cost[i][j] = f64::INFINITY;
            for k in i..j {
                let here = sizes[i] as f64 * sizes[k + 1] as f64 * sizes[j + 1] as f64;
                let total = cost[i][k] + cost[k + 1][j] + here;
                if total < cost[i][j] {
                    (cost[i][j], cut[i][j]) = (total, k);
                }
            }
        }
    }
    // Products from the innermost on: a stack in place of recursion.
    let mut todo = vec![(0, n - 1, false)];
    let mut done: Vec<Tensor> = Vec::new();
    while let Some((i, j, ready)) = todo.pop() {
        if i == j {
            done.push(matrices[i].clone());
        } else if ready {
            let (b, a) = (done.pop(), done.pop());
            let (Some(a), Some(b)) = (a, b) else { unreachable!("two parts were pushed") };
            done.push(matmul::mm(&a, &b)?);
        } else {
            let k = cut[i][j];
            todo.extend([(i, j, true), (k + 1, j, false), (i, k, false)]);
        }
    }
    let mut y = done.remove(0);
    if tensors[0].ndim() == 1 {
        y = view::squeeze(&y, Some(&[0]))?;
    }
    if tensors[n - 1].ndim() == 1 {
        y = view::squeeze(&y, Some(&[-1]))?;
    }
    Ok(y)
}

/// The vector product along an axis of length 3.
pub fn cross(a: &Tensor, b: &Tensor, dim: i64) -> Result<Tensor> {
    struct Rule(i64);
    impl Op for Rule {
        fn name(&self) -> &'static str {
            "LinalgCrossBackward0"
        }

        fn attributes(&self) -> Attributes {
            vec![
                ("self", Attribute::Saved(0)),
                ("other", Attribute::Saved(1)),
                ("dim", Attribute::int(self.0)),
            ]
        }

        /// `b × g` and `g × a`.
        fn backward(&self, ctx: &Context, grads: &[Option<Tensor>]) -> Result<Gradients> {
            let Some(g) = &grads[0] else { return Ok(smallvec![None, None]) };
            let wanted = |i: usize, x: &Tensor, y: &Tensor| match ctx.needs(i) {
                true => cross(x, y, self.0).map(Some),
                false => Ok(None),
            };
            Ok(smallvec![wanted(0, ctx.saved(1), g)?, wanted(1, g, ctx.saved(0))?])
        }
    }
    let name = "linalg.cross";
    if a.ndim() != b.ndim() {
        bail!(Shape, "", "{name}: inputs must have the same number of dimensions.");
    }
    let d = wrap_dim(dim, a.ndim())?;
    let length = |t: &Tensor| t.shape().get(d).copied().unwrap_or(0);
    if length(a) != 3 || length(b) != 3 {
        bail!(
            Shape,
            "",
            "{name}: inputs dimension {dim} must have length 3. Got {} and {}",
            length(a),
            length(b)
        );
    }
    // Counted from behind, an axis is the same one in what is broadcast.
    let dim = d as i64 - a.ndim() as i64;
    let y = {
        let _off = ValuesOnly::new();
        let turned = |t: &Tensor, by: i64| -> Result<Tensor> {
            let (rest, first) = (view::narrow(t, dim, by, 3 - by)?, view::narrow(t, dim, 0, by)?);
            join::cat(&[rest, first], dim)
        };
        let (a, b) = (a.detach(), b.detach());
        let plus = super::super::mul(&turned(&a, 1)?, &turned(&b, 2)?)?;
        super::super::sub(&plus, &super::super::mul(&turned(&a, 2)?, &turned(&b, 1)?)?)?
    };
    if record::recording(&[a, b]) {
        record::record(&y, &[a, b], &[(0, a), (1, b)], Box::new(Rule(dim)))?;
    }
    Ok(y)
}

/// The axis of `torch.cross` that is not named: the first of length 3.
fn first_of_three(a: &Tensor, b: &Tensor) -> Result<i64> {
    if let Some(d) = a.shape().iter().position(|&s| s == 3) {
        return Ok(d as i64);
    }
    bail!(
        Shape,
        "",
        "no dimension of size 3 in input (cross of shapes {:?} and {:?})",
        a.shape(),
        b.shape()
    )
}

/// The sum of a diagonal of a matrix.
fn trace(a: &Tensor) -> Result<Tensor> {
    if a.ndim() != 2 {
        bail!(Shape, "", "trace: expected a matrix, but got tensor with dim {}", a.ndim());
    }
    reduce::sum(&triangle::diagonal(a, 0, 0, 1)?, None, false, None)
}

/// This family's rows.
pub const ROWS: &[Row] = &[
    Row {
        aliases: &["linalg.matrix_power"],
        ..Row::make(
            "matrix_power",
            &["(input, n: int)"],
            FUNCTION | METHOD | OUT,
            &[" The n-th power of each square matrix; that of the inverse if n is negative."],
            |c| Ok(matrix_power(c.tensor(0), c.int(1))?.into()),
        )
        .batched(Batching::Trailing(2))
    },
    Row::make(
        "linalg.multi_dot",
        &["(tensors: Tensor[])"],
        FUNCTION | OUT,
        &[
            " The product of several matrices, in the order that multiplies least.",
            "",
            " The first may be a vector (a row) and the last, too (a column).",
        ],
        |c| Ok(multi_dot(c.tensors(0))?.into()),
    ),
    Row::make(
        "linalg.cross",
        &["(input, other, *, dim: int = -1)"],
        FUNCTION | OUT,
        &[" The vector product along an axis of length 3; the other axes broadcast."],
        |c| Ok(cross(c.tensor(0), c.tensor(1), c.int(2))?.into()),
    ),
    Row::make(
        "cross",
        &["(input, other, dim: int? = None)"],
        FUNCTION | METHOD | OUT,
        &[" `linalg.cross`, by default along the first axis of length 3."],
        |c| {
            let (a, b) = (c.tensor(0), c.tensor(1));
            let dim = match c.opt_int(2) {
                Some(dim) => dim,
                None if a.ndim() == b.ndim() => first_of_three(a, b)?,
                None => -1,
            };
            Ok(cross(a, b, dim)?.into())
        },
    ),
    Row::make(
        "linalg.diagonal",
        &["(A, *, offset: int = 0, dim1: int = -2, dim2: int = -1)"],
        FUNCTION | VIEW,
        &[" `diagonal` of the last two axes."],
        |c| Ok(triangle::diagonal(c.tensor(0), c.int(1), c.int(2), c.int(3))?.into()),
    ),
    Row::make(
        "linalg.vecdot",
        &["(x, y, *, dim: int = -1)"],
        FUNCTION | OUT,
        &[" The sums of products along an axis; the other axes broadcast."],
        |c| {
            let product = super::super::mul(c.tensor(0), c.tensor(1))?;
            Ok(reduce::sum(&product, Some(&[c.int(2)]), false, Some(product.dtype()))?.into())
        },
    ),
    Row::make(
        "trace",
        &["(input)"],
        FUNCTION | METHOD,
        &[" The sum of the diagonal of a matrix."],
        |c| Ok(trace(c.tensor(0))?.into()),
    ),
];
