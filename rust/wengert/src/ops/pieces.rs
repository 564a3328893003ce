//! Cutting a tensor into several along an axis in more ways, and putting one part back.
//!
//! `tensor_split` and its kin give ordinary views of one part each, so that their results may be
//! written to; `split` and `unbind` in [`part`](super::part) give results of one node, which may
//! not. `*_scatter` is what an assignment to a view would have made of a copy, as one node.

use super::part::{Take, chunk_as, index_view, narrow, select, sized_as, split_as};
use super::strided::{Window, as_strided};
use super::tags::*;
use super::triangle::diagonal;
use super::{Args, Output, Row, cast};
use crate::batch::Batching;
use crate::graph::{Attribute, Attributes, Context, Gradients, Op, is_grad_enabled, record};
use crate::layout::wrap_dim;
use crate::memory_format::MemoryFormat;
use crate::tensor::Tensor;
use crate::{DType, Result, bail};
use smallvec::{SmallVec, smallvec};

/// So many pieces along an axis, of lengths that differ by one at most.
///
/// # Errors
/// No pieces are asked for, or there is no such axis.
pub fn tensor_split(x: &Tensor, sections: i64, dim: i64) -> Result<Vec<Tensor>> {
    if x.ndim() == 0 {
        return Err(no_dims());
    }
    let d = wrap_dim(dim, x.ndim())?;
    if sections <= 0 {
        bail!(Value, "", "number of sections must be larger than 0, got {sections} (tensor_split)");
    }
    let (size, n) = (x.shape()[d] as i64, sections);
    let mut start = 0;
    (0..n)
        .map(|i| {
            let length = size / n + i64::from(i < size % n);
            start += length;
            narrow(x, d as i64, start - length, length)
        })
        .collect()
}

/// The pieces between positions along an axis, which are read as those of a slice are.
///
/// # Errors
/// There is no such axis.
pub fn tensor_split_at(x: &Tensor, positions: &[i64], dim: i64) -> Result<Vec<Tensor>> {
    if x.ndim() == 0 {
        return Err(no_dims());
    }
    let d = wrap_dim(dim, x.ndim())?;
    let size = x.shape()[d] as i64;
    let clamped = |p: i64| if p < 0 { (p + size).max(0) } else { p.min(size) };
    let mut start = 0;
    let ends = positions.iter().map(|&p| clamped(p)).chain([size]);
    ends.map(|end| {
        let piece = narrow(x, d as i64, start, (end - start).max(0));
        start = end;
        piece
    })
    .collect()
}

#[cold]
fn no_dims() -> crate::Error {
    crate::Error::plain(
        crate::Kind::Shape,
        "tensor_split expected at least a 1-dimensional tensor, but got a tensor with 0 dims",
    )
}

/// `hsplit`, `vsplit` and `dsplit`: along an axis of their own.
fn along(name: &'static str, c: &Args, least: usize, dim: usize) -> Result<Output> {
    let x = c.tensor(0);
    if x.ndim() < least {
        bail!(
            Shape,
            "",
            "torch.{name} requires a tensor with at least {least} dimension, but got a tensor with \
             {} dimensions!",
            x.ndim()
        );
    }
    if c.overload == 1 {
        return Ok(tensor_split_at(x, c.ints(1), dim as i64)?.into());
    }
    let (size, n) = (x.shape()[dim], c.int(1));
    if n <= 0 || size as i64 % n != 0 {
        bail!(
            Shape,
            "",
            "torch.{name} attempted to split along dimension {dim}, but the size of the dimension \
             {size} is not divisible by the split_size {n}!"
        );
    }
    Ok(tensor_split(x, n, dim as i64)?.into())
}

/// The numbers in an index tensor.
fn numbers(t: &Tensor) -> Result<Vec<i64>> {
    if t.dtype() != DType::Int64 {
        bail!(
            DType,
            "",
            "tensor_split expected tensor_indices_or_sections to have dtype of long, but got {}",
            t.dtype().scalar_type_name()
        );
    }
    t.to_vec::<i64>()
}

/// Nodes of `split` and of `split_with_sizes` whose results do not count as views.
const UNSAFE: [&str; 2] = ["UnsafeSplitBackward0", "UnsafeSplitWithSizesBackward0"];

/// Results of `split` and `chunk` that do not count as views: they may be written to, and then the
/// tensor they came from does not know.
fn unsafely(pieces: Vec<Tensor>) -> Result<Vec<Tensor>> {
    pieces
        .into_iter()
        .map(|piece| {
            // While nothing is recorded a piece has no history, but requires grad as views do.
            let edge = if is_grad_enabled() { piece.edge()? } else { None };
            let free = piece.alias_with_edge(edge);
            free.share_tangents(&piece);
            Ok(free)
        })
        .collect()
}

/// A copy of `x` in which what `look` shows is replaced by `source`. `place` are the arguments that
/// say where that is.
///
/// # Errors
/// Those of `look`; `source` has another shape.
pub fn replaced(
    node: &'static str,
    x: &Tensor,
    source: &Tensor,
    place: &[(&'static str, Option<i64>)],
    look: impl FnOnce(&Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    struct Replace(&'static str, Window, SmallVec<[(&'static str, Option<i64>); 4]>);
    impl Op for Replace {
        fn name(&self) -> &'static str {
            self.0
        }
        fn attributes(&self) -> Attributes {
            let shown = |value: Option<i64>| value.map_or_else(Attribute::none, Attribute::int);
            self.2.iter().map(|&(name, value)| (name, shown(value))).collect()
        }
        fn backward(&self, ctx: &Context, grads: &[Option<Tensor>]) -> Result<Gradients> {
            let Some(g) = &grads[0] else { return Ok(smallvec![None, None]) };
            Ok(smallvec![
                if ctx.needs(0) { Some(self.1.erase(g)?) } else { None },
                if ctx.needs(1) { Some(self.1.push(g)?) } else { None }
            ])
        }
    }
    let y = cast::to(&x.detach(), x.dtype(), Some(MemoryFormat::Preserve), true)?;
    let seen = look(&y)?;
    if seen.shape() != source.shape() {
        bail!(
            Shape,
            "",
            "expected src to have a size equal to the slice of self. src size = {:?}, slice size = {:?}",
            source.shape(),
            seen.shape()
        );
    }
    seen.copy_raw(source);
    if y.dtype().is_floating() && record::recording(&[x, source]) {
        let window = Window::new(y.layout(), seen.layout());
        record::record(
            &y,
            &[x, source],
            &[],
            Box::new(Replace(node, window, SmallVec::from_slice(place))),
        )?;
    }
    Ok(y)
}

/// The positions from `start` to `end`, read as those of a Python slice.
pub(super) fn slice(
    x: &Tensor,
    dim: i64,
    start: Option<i64>,
    end: Option<i64>,
    step: i64,
) -> Result<Tensor> {
    if step <= 0 {
        bail!(Value, "", "slice step must be positive");
    }
    let d = wrap_dim(dim, x.ndim())?;
    let Some(&size) = x.shape().get(d) else {
        bail!(Index, "", "slice() cannot be applied to a 0-dim tensor.");
    };
    let size = size as i64;
    let clamped = |p: i64| if p < 0 { (p + size).max(0) } else { p.min(size) };
    let (start, end) = (clamped(start.unwrap_or(0)), clamped(end.unwrap_or(size)));
    let len = (end - start + step - 1).max(0) / step;
    let mut takes: SmallVec<[Take; 5]> = x.shape().iter().map(|&s| Take::all(s)).collect();
    takes[d] = Take::Range { start: start as usize, step: step as isize, len: len as usize };
    index_view("SliceBackward0", x, &takes)
}

const PARTS: u32 = FUNCTION | METHOD | VIEW;

/// This family's rows.
pub const ROWS: &[Row] = &[
    Row::make(
        "tensor_split",
        &[
            "(input, sections: int, dim: int = 0) -> Tensor[]",
            "(input, indices: int[], dim: int = 0) -> Tensor[]",
            "(input, tensor_indices_or_sections, dim: int = 0) -> Tensor[]",
        ],
        PARTS,
        &[" So many pieces along an axis, or the pieces between the given positions."],
        |c| {
            let (x, dim) = (c.tensor(0), c.int(2));
            Ok(match c.overload {
                0 => tensor_split(x, c.int(1), dim)?,
                1 => tensor_split_at(x, c.ints(1), dim)?,
                _ => match (c.tensor(1).ndim(), numbers(c.tensor(1))?) {
                    (0, n) => tensor_split(x, n[0], dim)?,
                    (1, positions) => tensor_split_at(x, &positions, dim)?,
                    (n, _) => bail!(
                        Shape,
                        "",
                        "tensor_split expected tensor_indices_or_sections to be a zero-dimensional \
                         or one-dimensional tensor, but got a tensor with {n} dims"
                    ),
                },
            }
            .into())
        },
    ).batched(Batching::Axes { extra: 0 }),
    Row::make(
        "hsplit",
        &["(input, sections: int) -> Tensor[]", "(input, indices: int[]) -> Tensor[]"],
        PARTS,
        &[" Pieces side by side: along the second axis, or along the only one."],
        |c| along("hsplit", c, 1, usize::from(c.tensor(0).ndim() > 1)),
    ),
    Row::make(
        "vsplit",
        &["(input, sections: int) -> Tensor[]", "(input, indices: int[]) -> Tensor[]"],
        PARTS,
        &[" Pieces one above the other: along the first axis."],
        |c| along("vsplit", c, 2, 0),
    ),
    Row::make(
        "dsplit",
        &["(input, sections: int) -> Tensor[]", "(input, indices: int[]) -> Tensor[]"],
        PARTS,
        &[" Pieces one behind the other: along the third axis."],
        |c| along("dsplit", c, 3, 2),
    ),
    Row::make(
        "unsafe_split",
        &["(input, split_size: int, dim: int = 0) -> Tensor[]"],
        PARTS,
        &[
            " `split` whose results may be written to: the tensor they come from then does not know.",
        ],
        |c| Ok(unsafely(split_as(UNSAFE[0], c.tensor(0), c.int(1), c.int(2))?)?.into()),
    ).batched(Batching::Axes { extra: 0 }),
    Row::make(
        "unsafe_split_with_sizes",
        &["(input, split_sizes: int[], dim: int = 0) -> Tensor[]"],
        PARTS,
        &[" `split_with_sizes` whose results may be written to, as those of `unsafe_split`."],
        |c| Ok(unsafely(sized_as(UNSAFE[1], c.tensor(0), c.ints(1), c.int(2))?)?.into()),
    ).batched(Batching::Axes { extra: 0 }),
    Row::make(
        "unsafe_chunk",
        &["(input, chunks: int, dim: int = 0) -> Tensor[]"],
        PARTS,
        &[" `chunk` whose results may be written to, as those of `unsafe_split`."],
        |c| Ok(unsafely(chunk_as(UNSAFE, c.tensor(0), c.int(1), c.int(2))?)?.into()),
    ).batched(Batching::Axes { extra: 0 }),
    Row::make(
        "select_scatter",
        &["(input, src, dim: int, index: int)"],
        FUNCTION | METHOD,
        &[" A copy with `src` at one position along an axis."],
        |c| {
            let place = [("dim", Some(c.int(2))), ("index", Some(c.int(3)))];
            let y = replaced("SelectScatterBackward0", c.tensor(0), c.tensor(1), &place, |y| {
                select(y, c.int(2), c.int(3))
            })?;
            Ok(y.into())
        },
    ).batched(Batching::Spread { less: 1 }),
    Row::make(
        "slice_scatter",
        &["(input, src, dim: int = 0, start: int? = None, end: int? = None, step: int = 1)"],
        FUNCTION | METHOD,
        &[" A copy with `src` at a range of positions along an axis."],
        |c| {
            let place = [
                ("dim", Some(c.int(2))),
                ("start", c.opt_int(3)),
                ("end", c.opt_int(4)),
                ("step", Some(c.int(5))),
            ];
            let y = replaced("SliceScatterBackward0", c.tensor(0), c.tensor(1), &place, |y| {
                slice(y, c.int(2), c.opt_int(3), c.opt_int(4), c.int(5))
            })?;
            Ok(y.into())
        },
    ).batched(Batching::Spread { less: 0 }),
    Row::make(
        "diagonal_scatter",
        &["(input, src, offset: int = 0, dim1: int = 0, dim2: int = 1)"],
        FUNCTION | METHOD,
        &[" A copy with `src` on a diagonal."],
        |c| {
            let place =
                [("offset", Some(c.int(2))), ("dim1", Some(c.int(3))), ("dim2", Some(c.int(4)))];
            let y = replaced("DiagonalScatterBackward0", c.tensor(0), c.tensor(1), &place, |y| {
                diagonal(y, c.int(2), c.int(3), c.int(4))
            })?;
            Ok(y.into())
        },
    ).batched(Batching::Spread { less: 1 }),
    Row::make(
        "as_strided_scatter",
        &["(input, src, size: int[], stride: int[], storage_offset: int? = None)"],
        FUNCTION | METHOD,
        &[" A copy with `src` where `as_strided` with these arguments would look."],
        |c| {
            let (x, source) = (c.tensor(0), c.tensor(1));
            let y = replaced("AsStridedScatterBackward0", x, source, &[], |y| {
                as_strided(y, c.ints(2), c.ints(3), c.opt_int(4))
            })?;
            Ok(y.into())
        },
    ),
];
