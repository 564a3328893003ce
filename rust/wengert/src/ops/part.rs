//! Parts of a tensor: positions and ranges along axes, and several of them at once.
//!
//! Cutting out a part ([`index_view`]) needs its adjoint, [`embed`]: zeros with the gradient in the
//! part's place.

use super::view::{VIEWS, finish, row};
use super::{Call, Row};
use crate::batch::{Batching, lift};
use crate::graph::{Attribute, Attributes, Context, Gradients, Op, forward::linear, record};
use crate::layout::{Dims, Layout, Strides, wrap_dim};
use crate::tensor::{Tensor, ViewKind};
use crate::{Result, bail};
use smallvec::{SmallVec, smallvec};

/// What a view takes of one axis.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Take {
    /// One position; the axis is gone.
    One(usize),
    /// `len` positions from `start` on, `step` apart (which may be negative).
    Range {
        /// First position.
        start: usize,
        /// Distance.
        step: isize,
        /// How many.
        len: usize,
    },
}

impl Take {
    /// The whole axis.
    pub fn all(size: usize) -> Take {
        Take::Range { start: 0, step: 1, len: size }
    }
}

type Takes = SmallVec<[Take; 5]>;

fn cut(layout: &Layout, takes: &[Take]) -> Layout {
    let mut shape = Dims::new();
    let mut strides = Strides::new();
    let mut offset = layout.offset() as isize;
    for (take, &stride) in takes.iter().zip(layout.strides()) {
        match *take {
            Take::One(i) => offset += i as isize * stride,
            Take::Range { start, step, len } => {
                if len > 0 {
                    offset += start as isize * stride;
                }
                shape.push(len);
                strides.push(stride * step);
            }
        }
    }
    Layout::strided(&shape, &strides, offset as usize)
}

struct IndexView {
    name: &'static str,
    shape: Dims,
    takes: Takes,
}

impl Op for IndexView {
    fn name(&self) -> &'static str {
        self.name
    }

    fn attributes(&self) -> Attributes {
        let mut list = vec![("self_sym_sizes", Attribute::sizes(&self.shape))];
        list.extend(place(self.name, &self.shape, &self.takes));
        list
    }

    fn backward(&self, _: &Context, grads: &[Option<Tensor>]) -> Result<Gradients> {
        let Some(g) = &grads[0] else { return Ok(smallvec![None]) };
        Ok(smallvec![Some(embed(g, &self.shape, &self.takes)?)])
    }

    fn jvp(&self, _: &Context, v: &[Option<Tensor>], _: &[&Tensor]) -> Result<Option<Gradients>> {
        linear(v, |v| index_view(self.name, v, &self.takes))
    }
}

/// The one axis of which not everything is taken, and what of it.
fn place(name: &str, shape: &[usize], takes: &[Take]) -> Attributes {
    let whole = |d: usize| takes[d] == Take::all(shape[d]);
    let dim = (0..takes.len()).find(|&d| !whole(d)).unwrap_or(0);
    let mut list = vec![("dim", Attribute::int(dim))];
    match takes.get(dim) {
        Some(&Take::One(index)) if name.starts_with("Select") => {
            list.push(("index", Attribute::int(index)));
        }
        Some(&Take::Range { start, step, len }) if name.starts_with("Slice") => {
            let end = start as isize + step * len as isize;
            list.push(("start", Attribute::int(start)));
            list.push(("end", Attribute::int(end)));
            list.push(("step", Attribute::int(step)));
        }
        _ => {}
    }
    list
}

/// The part of `x` that `takes` (one per axis, in bounds) describes.
pub fn index_view(name: &'static str, x: &Tensor, takes: &[Take]) -> Result<Tensor> {
    if x.is_batched() {
        return lift::over(x, |x, k| index_view(name, x, &lift::takes(x, k, takes)));
    }
    finish(x, cut(x.layout(), takes), || {
        let takes = SmallVec::from_slice(takes);
        Box::new(IndexView { name, shape: SmallVec::from_slice(x.shape()), takes })
    })
}

/// Zeros of `shape` with `part` in the place that `takes` describes: the adjoint of
/// [`index_view`].
pub fn embed(part: &Tensor, shape: &[usize], takes: &[Take]) -> Result<Tensor> {
    struct Embed(Takes);
    impl Op for Embed {
        fn name(&self) -> &'static str {
            "SliceBackwardBackward0"
        }
        fn backward(&self, _: &Context, grads: &[Option<Tensor>]) -> Result<Gradients> {
            let Some(g) = &grads[0] else { return Ok(smallvec![None]) };
            Ok(smallvec![Some(index_view("SliceBackward0", g, &self.0)?)])
        }
        fn jvp(
            &self,
            _: &Context,
            v: &[Option<Tensor>],
            y: &[&Tensor],
        ) -> Result<Option<Gradients>> {
            linear(v, |v| embed(v, y[0].shape(), &self.0))
        }
    }
    if part.is_batched() {
        return lift::over(part, |part, k| {
            embed(part, &lift::shape_of(part, k, shape), &lift::takes(part, k, takes))
        });
    }
    let whole = Tensor::zeros(shape, part.dtype())?;
    whole.detach().view_as_layout(cut(whole.layout(), takes)).copy_raw(part);
    if record::recording(&[part]) {
        record::record(&whole, &[part], &[], Box::new(Embed(SmallVec::from_slice(takes))))?;
    }
    Ok(whole)
}

/// `x` with zeros in the place that `takes` describes; linear, and its own adjoint.
pub(crate) fn erase(x: &Tensor, takes: &[Take]) -> Result<Tensor> {
    struct Erase(Takes);
    impl Op for Erase {
        fn name(&self) -> &'static str {
            "EraseBackward0"
        }
        fn backward(&self, _: &Context, grads: &[Option<Tensor>]) -> Result<Gradients> {
            let Some(g) = &grads[0] else { return Ok(smallvec![None]) };
            Ok(smallvec![Some(erase(g, &self.0)?)])
        }
        fn jvp(
            &self,
            _: &Context,
            v: &[Option<Tensor>],
            _: &[&Tensor],
        ) -> Result<Option<Gradients>> {
            linear(v, |v| erase(v, &self.0))
        }
    }
    if x.is_batched() {
        return lift::over(x, |x, k| erase(x, &lift::takes(x, k, takes)));
    }
    let y = Tensor::uninitialised("erase", x.shape(), x.dtype())?;
    y.copy_raw(x);
    y.detach().view_as_layout(cut(y.layout(), takes)).fill_raw(crate::Scalar::Int(0));
    if record::recording(&[x]) {
        record::record(&y, &[x], &[], Box::new(Erase(SmallVec::from_slice(takes))))?;
    }
    Ok(y)
}

fn take_all_but(x: &Tensor, dim: usize, take: Take) -> Takes {
    let mut takes: Takes = x.shape().iter().map(|&s| Take::all(s)).collect();
    takes[dim] = take;
    takes
}

/// One position along an axis, which is dropped.
pub fn select(x: &Tensor, dim: i64, index: i64) -> Result<Tensor> {
    if x.ndim() == 0 {
        bail!(Index, "", "select() cannot be applied to a 0-dim tensor.");
    }
    let d = wrap_dim(dim, x.ndim())?;
    let size = x.shape()[d] as i64;
    if index < -size || index >= size {
        bail!(
            Index,
            "",
            "select(): index {index} out of range for tensor of size {:?} at dimension {d}",
            x.shape()
        );
    }
    let at = if index < 0 { index + size } else { index } as usize;
    index_view("SelectBackward0", x, &take_all_but(x, d, Take::One(at)))
}

/// `length` positions along an axis from `start` on.
pub fn narrow(x: &Tensor, dim: i64, start: i64, length: i64) -> Result<Tensor> {
    if x.ndim() == 0 {
        bail!(Shape, "", "narrow() cannot be applied to a 0-dim tensor.");
    }
    let d = wrap_dim(dim, x.ndim())?;
    let size = x.shape()[d] as i64;
    if length < 0 {
        bail!(Value, "", "narrow(): length must be non-negative.");
    }
    if start < -size || start > size {
        bail!(
            Index,
            "",
            "start out of range (expected to be in range of [{}, {size}], but got {start})",
            -size
        );
    }
    let at = if start < 0 { start + size } else { start };
    if at > size - length {
        bail!(Value, "", "start ({at}) + length ({length}) exceeds dimension size ({size}).");
    }
    let take = Take::Range { start: at as usize, step: 1, len: length as usize };
    index_view("SliceBackward0", x, &take_all_but(x, d, take))
}

/// Several parts of one tensor, made by one node.
fn parts(name: &'static str, x: &Tensor, dim: usize, takes: Vec<Take>) -> Result<Vec<Tensor>> {
    struct Parts {
        name: &'static str,
        shape: Dims,
        takes: Vec<Takes>,
        dim: usize,
    }
    impl Op for Parts {
        fn name(&self) -> &'static str {
            self.name
        }

        fn attributes(&self) -> Attributes {
            let mut list = vec![("dim", Attribute::int(self.dim))];
            let lengths = self.takes.iter().map(|takes| match takes[self.dim] {
                Take::Range { len, .. } => len,
                Take::One(_) => 1,
            });
            match self.name {
                "SplitBackward0" | "UnsafeSplitBackward0" => {
                    let first = lengths.clone().next().unwrap_or(0);
                    list.push(("split_size", Attribute::int(first)));
                }
                "SplitWithSizesBackward0" | "UnsafeSplitWithSizesBackward0" => {
                    list.push(("split_sizes", Attribute::sizes(&lengths.collect::<Dims>())));
                }
                _ => return list,
            }
            list.push(("self_sym_sizes", Attribute::sizes(&self.shape)));
            list
        }
        fn backward(&self, _: &Context, grads: &[Option<Tensor>]) -> Result<Gradients> {
            let mut sum: Option<Tensor> = None;
            for (g, takes) in grads.iter().zip(&self.takes) {
                if let Some(g) = g {
                    let whole = embed(g, &self.shape, takes)?;
                    sum = Some(match sum {
                        None => whole,
                        Some(s) => s + whole,
                    });
                }
            }
            Ok(smallvec![sum])
        }
        fn jvp(
            &self,
            _: &Context,
            v: &[Option<Tensor>],
            _: &[&Tensor],
        ) -> Result<Option<Gradients>> {
            let Some(v) = &v[0] else { return Ok(None) };
            let part = |takes: &Takes| index_view("SliceBackward0", v, takes).map(Some);
            self.takes.iter().map(part).collect::<Result<_>>().map(Some)
        }
    }
    let takes: Vec<Takes> = takes.into_iter().map(|t| take_all_but(x, dim, t)).collect();
    if x.is_batched() {
        return takes.iter().map(|t| index_view("SliceBackward0", x, t)).collect();
    }
    let views: Vec<Tensor> =
        takes.iter().map(|t| x.view_of_kind(cut(x.layout(), t), ViewKind::Several)).collect();
    if record::recording(&[x]) && !views.is_empty() {
        let outputs: Vec<&Tensor> = views.iter().collect();
        let op = Parts { name, shape: SmallVec::from_slice(x.shape()), takes, dim };
        record::record_many(&outputs, &[x], &[], Box::new(op))?;
    }
    Ok(views)
}

/// All slices along an axis, which is dropped.
pub fn unbind(x: &Tensor, dim: i64) -> Result<Vec<Tensor>> {
    if x.ndim() == 0 {
        bail!(Index, "", "Dimension specified as {dim} but tensor has no dimensions (unbind)");
    }
    let d = wrap_dim(dim, x.ndim())?;
    parts("UnbindBackward0", x, d, (0..x.shape()[d]).map(Take::One).collect())
}

/// Pieces of the given lengths along an axis.
pub fn split_with_sizes(x: &Tensor, sizes: &[i64], dim: i64) -> Result<Vec<Tensor>> {
    sized_as("SplitWithSizesBackward0", x, sizes, dim)
}

/// [`split_with_sizes`] under the name of a node.
pub(super) fn sized_as(
    node: &'static str,
    x: &Tensor,
    sizes: &[i64],
    dim: i64,
) -> Result<Vec<Tensor>> {
    let d = wrap_dim(dim, x.ndim())?;
    if x.ndim() == 0 {
        bail!(Shape, "", "split expects at least a 1-dimensional tensor");
    }
    if sizes.iter().any(|&s| s < 0) || sizes.iter().sum::<i64>() != x.shape()[d] as i64 {
        bail!(
            Shape,
            "",
            "split_with_sizes expects split_sizes to sum exactly to {} (input tensor's size at \
             dimension {d}), but got split_sizes={sizes:?}",
            x.shape()[d]
        );
    }
    let mut start = 0;
    let takes = sizes.iter().map(|&s| {
        let take = Take::Range { start, step: 1, len: s as usize };
        start += s as usize;
        take
    });
    parts(node, x, d, takes.collect())
}

/// Pieces of `size` along an axis; the last may be shorter.
pub fn split(x: &Tensor, size: i64, dim: i64) -> Result<Vec<Tensor>> {
    split_as("SplitBackward0", x, size, dim)
}

/// [`split`] under the name of a node.
pub(super) fn split_as(node: &'static str, x: &Tensor, size: i64, dim: i64) -> Result<Vec<Tensor>> {
    if x.ndim() == 0 {
        bail!(Shape, "", "split expects at least a 1-dimensional tensor");
    }
    let d = wrap_dim(dim, x.ndim())?;
    let n = x.shape()[d];
    if size < 0 || (size == 0 && n != 0) {
        bail!(
            Value,
            "",
            "split expects split_size be non-negative, but got split_size={size} for dimension size {n}"
        );
    }
    let size = (size as usize).max(1);
    let count = n.div_ceil(size).max(1);
    let takes =
        (0..count).map(|i| Take::Range { start: i * size, step: 1, len: size.min(n - i * size) });
    parts(node, x, d, takes.collect())
}

/// At most `chunks` pieces of equal length along an axis.
pub fn chunk(x: &Tensor, chunks: i64, dim: i64) -> Result<Vec<Tensor>> {
    chunk_as(["SplitBackward0", "SplitWithSizesBackward0"], x, chunks, dim)
}

/// [`chunk`] under the name of one of two nodes.
pub(super) fn chunk_as(
    [by_size, by_sizes]: [&'static str; 2],
    x: &Tensor,
    chunks: i64,
    dim: i64,
) -> Result<Vec<Tensor>> {
    if x.ndim() == 0 {
        bail!(Shape, "", "chunk expects at least a 1-dimensional tensor");
    }
    if chunks <= 0 {
        bail!(Value, "", "chunk expects `chunks` to be greater than 0, got: {chunks}");
    }
    let d = wrap_dim(dim, x.ndim())?;
    let n = x.shape()[d];
    if n == 0 {
        return sized_as(by_sizes, x, &vec![0; chunks as usize], dim);
    }
    split_as(by_size, x, n.div_ceil(chunks as usize) as i64, dim)
}

/// This family's rows.
pub const ROWS: &[Row] = &[
    row!(
        "select",
        ["(input, dim: int, index: int)"],
        VIEWS,
        " One position along an axis, which is dropped.",
        |c| Ok(select(c.tensor(0), c.int(1), c.int(2))?.into())
    )
    .batched(Batching::Axes { extra: 0 }),
    row!(
        "narrow",
        ["(input, dim: int, start: int, length: int)", "(input, dim: int, start, length: int)"],
        VIEWS,
        " A range of positions along an axis.",
        |c| match c.overload {
            0 => Ok(narrow(c.tensor(0), c.int(1), c.int(2), c.int(3))?.into()),
            _ => bail!(DType, "", "start must be an 0-dim integral Tensor."),
        }
    )
    .batched(Batching::Axes { extra: 0 }),
    row!(
        "unbind",
        ["(input, dim: int = 0) -> Tensor[]"],
        VIEWS,
        " All slices along an axis, which is dropped.",
        |c| Ok(unbind(c.tensor(0), c.int(1))?.into())
    )
    .batched(Batching::Axes { extra: 0 }),
    row!(
        "split",
        [
            "(input, split_size: int, dim: int = 0) -> Tensor[]",
            "(input, split_size: int[], dim: int = 0) -> Tensor[]"
        ],
        VIEWS,
        " Pieces of the given length or lengths along an axis.",
        |c| if c.overload == 0 {
            Ok(split(c.tensor(0), c.int(1), c.int(2))?.into())
        } else {
            Ok(split_with_sizes(c.tensor(0), c.ints(1), c.int(2))?.into())
        }
    )
    .batched(Batching::Axes { extra: 0 }),
    row!(
        "split_with_sizes",
        ["(input, split_sizes: int[], dim: int = 0) -> Tensor[]"],
        VIEWS,
        " Pieces of the given lengths along an axis.",
        |c| Ok(split_with_sizes(c.tensor(0), c.ints(1), c.int(2))?.into())
    )
    .batched(Batching::Axes { extra: 0 }),
    row!(
        "chunk",
        ["(input, chunks: int, dim: int = 0) -> Tensor[]"],
        VIEWS,
        " At most so many pieces of equal length along an axis.",
        |c| Ok(chunk(c.tensor(0), c.int(1), c.int(2))?.into())
    )
    .batched(Batching::Axes { extra: 0 }),
];
