//! Triangles and diagonals of matrices.

use super::tags::*;
use super::{Args, Row, binary, cast};
use crate::batch::{Batching, compose, lift};
use crate::graph::{
    Attribute, Attributes, Context, Gradients, Op, ValuesOnly, forward::linear, record,
};
use crate::layout::{Dims, Layout, Strides, wrap_dim};
use crate::tensor::Tensor;
use crate::{DType, Result, Scalar, bail};
use smallvec::smallvec;

/// The lower or upper triangle of each matrix; a projection, and so its own adjoint.
fn triangle(x: &Tensor, diagonal: i64, lower: bool) -> Result<Tensor> {
    struct Triangle {
        diagonal: i64,
        lower: bool,
    }
    impl Op for Triangle {
        fn name(&self) -> &'static str {
            if self.lower { "TrilBackward0" } else { "TriuBackward0" }
        }

        fn attributes(&self) -> Attributes {
            vec![("diagonal", Attribute::int(self.diagonal))]
        }
        fn backward(&self, _: &Context, grads: &[Option<Tensor>]) -> Result<Gradients> {
            let Some(g) = &grads[0] else { return Ok(smallvec![None]) };
            Ok(smallvec![Some(triangle(g, self.diagonal, self.lower)?)])
        }
        fn jvp(
            &self,
            _: &Context,
            v: &[Option<Tensor>],
            _: &[&Tensor],
        ) -> Result<Option<Gradients>> {
            linear(v, |v| triangle(v, self.diagonal, self.lower))
        }
    }
    let [.., rows, columns] = *x.shape() else {
        let name = if lower { "tril" } else { "triu" };
        bail!(
            Shape,
            "",
            "{name}: input tensor must have at least 2 dimensions (shape {:?})",
            x.shape()
        );
    };
    if x.is_batched() {
        return lift::over(x, |x, _| triangle(x, diagonal, lower));
    }
    // One mask for all matrices, which broadcasting reads again and again.
    let mask = Tensor::uninitialised("tril", &[rows, columns], DType::Bool)?;
    mask.fill_with(|all: &mut [bool]| {
        for (i, row) in all.chunks_mut(columns.max(1)).enumerate() {
            // Columns up to here belong to the lower triangle, or for the upper one do not.
            let last = if lower { diagonal } else { diagonal.saturating_sub(1) };
            let border = (i as i64).saturating_add(last).saturating_add(1);
            let border = border.clamp(0, row.len() as i64) as usize;
            row[..border].fill(lower);
            row[border..].fill(!lower);
        }
    });
    let y = {
        let _off = ValuesOnly::new();
        let zero = Tensor::wrapped(Scalar::Bool(false))?;
        cast::contiguous(&binary::where_(&mask, x, &zero)?)?
    };
    if record::recording(&[x]) {
        record::record(&y, &[x], &[], Box::new(Triangle { diagonal, lower }))?;
    }
    Ok(y)
}

/// The elements on and below the given diagonal of each matrix, zeros elsewhere.
///
/// # Errors
/// Fewer than two dimensions.
pub fn tril(x: &Tensor, diagonal: i64) -> Result<Tensor> {
    triangle(x, diagonal, true)
}

/// The elements on and above the given diagonal of each matrix, zeros elsewhere.
///
/// # Errors
/// Fewer than two dimensions.
pub fn triu(x: &Tensor, diagonal: i64) -> Result<Tensor> {
    triangle(x, diagonal, false)
}

/// A diagonal of two axes: which.
#[derive(Clone, Copy)]
struct Diagonal {
    offset: i64,
    rows: usize,
    columns: usize,
}

impl Diagonal {
    /// The layout of the diagonal: the two axes are gone, and a new one is last.
    fn of(self, layout: &Layout) -> Layout {
        let (mut shape, mut strides) =
            (Dims::from_slice(layout.shape()), Strides::from_slice(layout.strides()));
        let (n, m) = (shape[self.rows], shape[self.columns]);
        let (down, right) = (strides[self.rows], strides[self.columns]);
        let skipped = usize::try_from(self.offset.unsigned_abs()).unwrap_or(usize::MAX);
        let (len, first) = if self.offset >= 0 {
            (n.min(m.saturating_sub(skipped)), right)
        } else {
            (m.min(n.saturating_sub(skipped)), down)
        };
        let start = if len == 0 { 0 } else { skipped as isize * first };
        let (high, low) = (self.rows.max(self.columns), self.rows.min(self.columns));
        for d in [high, low] {
            shape.remove(d);
            strides.remove(d);
        }
        shape.push(len);
        strides.push(down + right);
        let offset = layout.offset() as isize + if shape.contains(&0) { 0 } else { start };
        Layout::strided(&shape, &strides, offset as usize)
    }

    fn attributes(self) -> Attributes {
        vec![
            ("offset", Attribute::int(self.offset)),
            ("dim1", Attribute::int(self.rows)),
            ("dim2", Attribute::int(self.columns)),
        ]
    }

    /// The same of tensors with `k` more axes in front.
    fn behind(self, k: usize) -> Diagonal {
        Diagonal { rows: self.rows + k, columns: self.columns + k, ..self }
    }

    /// The diagonal of `x`, a view.
    fn cut(self, x: &Tensor) -> Result<Tensor> {
        struct Cut(Diagonal, Dims);
        impl Op for Cut {
            fn name(&self) -> &'static str {
                "DiagonalBackward0"
            }

            fn attributes(&self) -> Attributes {
                let mut list = self.0.attributes();
                list.push(("self_sym_sizes", Attribute::sizes(&self.1)));
                list
            }
            fn backward(&self, _: &Context, grads: &[Option<Tensor>]) -> Result<Gradients> {
                let Some(g) = &grads[0] else { return Ok(smallvec![None]) };
                Ok(smallvec![Some(self.0.embed("DiagonalBackwardBackward0", g, &self.1)?)])
            }
            fn jvp(
                &self,
                _: &Context,
                v: &[Option<Tensor>],
                _: &[&Tensor],
            ) -> Result<Option<Gradients>> {
                linear(v, |v| self.0.cut(v))
            }
        }
        if x.is_batched() {
            return lift::over(x, |x, k| self.behind(k).cut(x));
        }
        let y = x.view_as_layout(self.of(x.layout()));
        if record::recording(&[x]) {
            record::record(&y, &[x], &[], Box::new(Cut(self, Dims::from_slice(x.shape()))))?;
        }
        Ok(y)
    }

    /// Zeros of `shape` with `x` on the diagonal: the adjoint of [`Diagonal::cut`].
    fn embed(self, name: &'static str, x: &Tensor, shape: &[usize]) -> Result<Tensor> {
        struct Embed(&'static str, Diagonal);
        impl Op for Embed {
            fn name(&self) -> &'static str {
                self.0
            }

            fn attributes(&self) -> Attributes {
                self.1.attributes()
            }
            fn backward(&self, _: &Context, grads: &[Option<Tensor>]) -> Result<Gradients> {
                let Some(g) = &grads[0] else { return Ok(smallvec![None]) };
                Ok(smallvec![Some(self.1.cut(g)?)])
            }
            fn jvp(
                &self,
                _: &Context,
                v: &[Option<Tensor>],
                y: &[&Tensor],
            ) -> Result<Option<Gradients>> {
                linear(v, |v| self.1.embed(self.0, v, y[0].shape()))
            }
        }
        if x.is_batched() {
            let whole = |x: &Tensor, k| lift::shape_of(x, k, shape);
            return lift::over(x, |x, k| self.behind(k).embed(name, x, &whole(x, k)));
        }
        let y = Tensor::zeros(shape, x.dtype())?;
        y.detach().view_as_layout(self.of(y.layout())).copy_raw(x);
        if record::recording(&[x]) {
            record::record(&y, &[x], &[], Box::new(Embed(name, self)))?;
        }
        Ok(y)
    }
}

/// The diagonal of two axes, as a new last axis. A view.
///
/// # Errors
/// The axes are the same, or do not exist.
pub fn diagonal(x: &Tensor, offset: i64, dim1: i64, dim2: i64) -> Result<Tensor> {
    let (rows, columns) = (wrap_dim(dim1, x.ndim())?, wrap_dim(dim2, x.ndim())?);
    if rows == columns {
        bail!(Shape, "", "diagonal dimensions cannot be identical {dim1}, {dim2}");
    }
    Diagonal { offset, rows, columns }.cut(x)
}

/// Matrices with the last axis on the given diagonal and zeros elsewhere; the matrices' axes are
/// `dim1` and `dim2` of the result.
///
/// # Errors
/// The axes are the same or do not exist, or `x` has no dimensions.
pub fn diag_embed(x: &Tensor, offset: i64, dim1: i64, dim2: i64) -> Result<Tensor> {
    if x.ndim() == 0 {
        bail!(Shape, "diag_embed", "a tensor without dimensions has no last axis");
    }
    let (rows, columns) = (wrap_dim(dim1, x.ndim() + 1)?, wrap_dim(dim2, x.ndim() + 1)?);
    if rows == columns {
        bail!(Shape, "", "diagonal dimensions cannot be identical {dim1}, {dim2}");
    }
    let last = x.shape()[x.ndim() - 1];
    let Some(size) = usize::try_from(offset.unsigned_abs()).ok().and_then(|o| o.checked_add(last))
    else {
        bail!(Overflow, "diag_embed", "the diagonal {offset} needs too large a matrix");
    };
    let mut shape = Dims::from_slice(&x.shape()[..x.ndim() - 1]);
    for d in [rows.min(columns), rows.max(columns)] {
        shape.insert(d, size);
    }
    Diagonal { offset, rows, columns }.embed("DiagEmbedBackward0", x, &shape)
}

/// A matrix with a vector on its diagonal, or a copy of the diagonal of a matrix.
///
/// # Errors
/// Neither one nor two dimensions.
pub fn diag(x: &Tensor, offset: i64) -> Result<Tensor> {
    match x.ndim() {
        1 => diag_embed(x, offset, 0, 1),
        2 => cast::clone(&diagonal(x, offset, 0, 1)?),
        n => bail!(Shape, "", "diag(): Supports 1D or 2D tensors. Got {n}D"),
    }
}

fn four(c: &Args) -> (&Tensor, i64, i64, i64) {
    (c.tensor(0), c.int(1), c.int(2), c.int(3))
}

/// This family's rows.
pub const ROWS: &[Row] = &[
    Row::make(
        "tril",
        &["(input, diagonal: int = 0)"],
        ALL_FORMS,
        &[" The elements on and below a diagonal of each matrix, zeros elsewhere."],
        |c| Ok(tril(c.tensor(0), c.int(1))?.into()),
    )
    .batched(Batching::Trailing(2)),
    Row::make(
        "triu",
        &["(input, diagonal: int = 0)"],
        ALL_FORMS,
        &[" The elements on and above a diagonal of each matrix, zeros elsewhere."],
        |c| Ok(triu(c.tensor(0), c.int(1))?.into()),
    )
    .batched(Batching::Trailing(2)),
    Row::make(
        "diagonal",
        &["(input, offset: int = 0, dim1: int = 0, dim2: int = 1)"],
        FUNCTION | METHOD | VIEW,
        &[" The diagonal of two axes as a new last axis; a view."],
        |c| {
            let (x, offset, dim1, dim2) = four(c);
            Ok(diagonal(x, offset, dim1, dim2)?.into())
        },
    )
    .batched(Batching::Axes { extra: 0 }),
    Row::make(
        "diag_embed",
        &["(input, offset: int = 0, dim1: int = -2, dim2: int = -1)"],
        FUNCTION | METHOD,
        &[" Matrices with the last axis on a diagonal and zeros elsewhere."],
        |c| {
            let (x, offset, dim1, dim2) = four(c);
            Ok(diag_embed(x, offset, dim1, dim2)?.into())
        },
    )
    .batched(Batching::Axes { extra: 1 }),
    Row::make(
        "diag",
        &["(input, diagonal: int = 0)"],
        FUNCTION | METHOD | OUT,
        &[" A matrix with a vector on its diagonal, or the diagonal of a matrix."],
        |c| Ok(diag(c.tensor(0), c.int(1))?.into()),
    )
    .batched(Batching::Own(compose::diag)),
];
