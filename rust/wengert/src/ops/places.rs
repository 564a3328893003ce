//! Which elements of a tensor an index names, and the four linear maps that go with them.
//!
//! [`Places`] is what all indexing operations have in common: positions, checked once and kept as
//! plain numbers, so that neither a later write to the index tensor nor a second pass can go
//! astray. On places there are four maps; the first two are each other's adjoint:
//!
//! ```text
//! take(x)       the elements there                     gather, index, index_select, embedding
//! spread(v)     zeros with v added there               their gradients
//! add(x, v)     x with v added there                   scatter_add, index_add
//! put(x, v)     x with v written there                 scatter, index_put, index_copy
//! ```
//!
//! `d add = (g, take(g))` and `d put = (put(g, 0), take(g))`, so one rule each gives every order.
//! As in PyTorch, a place that `put` writes twice sends its gradient to both values.

use crate::batch::{self, lift};
use crate::graph::{Attribute, Attributes, Context, Gradients, Op, record};
use crate::kernels::blocks::{self, Blocks};
use crate::layout::Dims;
use crate::tensor::Tensor;
use crate::{Result, Scalar, bail};
use smallvec::{SmallVec, smallvec};
use std::sync::Arc;

/// One position per element of an index, each checked to lie inside an axis.
#[derive(Clone)]
pub struct Positions {
    all: Arc<[usize]>,
    bound: usize,
}

/// A position that is not on its axis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outside {
    /// The position as given.
    pub value: i64,
    /// Where in the index it stands, row-major.
    pub at: usize,
}

impl Positions {
    /// The elements of an integer tensor as positions on an axis of `bound` elements; with `wrap`,
    /// negative ones count from the end.
    ///
    /// # Errors
    /// The first element that lies outside, as the inner result.
    pub fn of(index: &Tensor, bound: usize, wrap: bool) -> Result<Result<Positions, Outside>> {
        let size = bound as i64;
        let values = index.to_vec::<i64>()?;
        let low = if wrap { -size } else { 0 };
        if let Some(at) = values.iter().position(|v| !(low..size).contains(v)) {
            return Ok(Err(Outside { value: values[at], at }));
        }
        let all = values.iter().map(|&v| if v < 0 { v + size } else { v } as usize).collect();
        Ok(Ok(Positions { all, bound }))
    }

    /// The positions as an index of a shape; `None` if memory cannot be had.
    fn tensor(&self, shape: &[usize]) -> Option<Tensor> {
        let values: Vec<i64> = self.all.iter().map(|&p| p as i64).collect();
        Tensor::from_slice(&values, shape).ok()
    }
}

/// What becomes of an element that another one meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Combine {
    /// The other takes its place.
    Put,
    /// The sum of the two.
    Add,
    /// The product of the two, which has no derivative here.
    Multiply,
}

/// Elements of a tensor of one shape.
#[derive(Clone)]
pub struct Places(Arc<Inner>);

struct Inner {
    /// The shape of the tensor that has the places.
    whole: Dims,
    /// The shape of what is there.
    part: Dims,
    kind: Kind,
}

enum Kind {
    /// `part[i0, .., id, ..]` is at `whole[i0, .., positions[i0, .., id, ..], ..]`.
    Along { dim: usize, positions: Positions },
    /// `part[before.., p, after..]` is at the positions `p` of the indexed axes, and at `before`
    /// and `after` of the others.
    Across { indexed: Vec<(usize, Positions)>, before: Vec<usize>, after: Vec<usize> },
}

impl Places {
    /// Places that differ from their own index along one axis only: `gather`.
    ///
    /// # Panics
    /// If the positions are not those of `part` on that axis, or `part` is larger than `whole`
    /// along another.
    pub fn along(whole: &[usize], part: &[usize], dim: usize, positions: Positions) -> Places {
        assert!(part.len() == whole.len() && positions.bound == whole[dim]);
        let count = numel(part);
        assert!(positions.all.len() == count);
        assert!((0..part.len()).all(|d| d == dim || count == 0 || part[d] <= whole[d]));
        let kind = Kind::Along { dim, positions };
        Places(Arc::new(Inner { whole: whole.into(), part: part.into(), kind }))
    }

    /// Places named by positions along some axes, given in order, and all of the others: `index`.
    ///
    /// `count` is the shape of the positions. Its axes take the place of the indexed axes if those
    /// are neighbours, and come first otherwise: NumPy's rule.
    ///
    /// # Panics
    /// If axes repeat or are out of order, or the positions are not those of the axes.
    pub fn across(whole: &[usize], count: &[usize], indexed: Vec<(usize, Positions)>) -> Places {
        let total = numel(count);
        assert!(indexed.windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert!(indexed.iter().all(|(d, p)| p.bound == whole[*d] && p.all.len() == total));
        let is_indexed = |d: &usize| indexed.iter().any(|(i, _)| i == d);
        let first = indexed.first().map_or(0, |(d, _)| *d);
        let neighbours = (first..first + indexed.len()).all(|d| is_indexed(&d));
        let (before, after): (Vec<usize>, Vec<usize>) =
            (0..whole.len()).filter(|d| !is_indexed(d)).partition(|&d| neighbours && d < first);
        let sizes = |axes: &[usize]| axes.iter().map(|&d| whole[d]).collect::<Dims>();
        let mut part = sizes(&before);
        part.extend_from_slice(count);
        part.extend(sizes(&after));
        let kind = Kind::Across { indexed, before, after };
        Places(Arc::new(Inner { whole: whole.into(), part, kind }))
    }

    /// The shape of what is there.
    pub fn shape(&self) -> &[usize] {
        &self.0.part
    }

    /// Where the elements are, given the strides of the whole, in the order of the part.
    fn blocks(&self, strides: &[isize]) -> Blocks {
        let inner = &*self.0;
        if inner.part.contains(&0) {
            return Blocks { offsets: Vec::new(), len: 0, stride: 1 };
        }
        match &inner.kind {
            Kind::Along { dim, positions } => {
                let mut offsets = vec![0];
                for (d, &size) in inner.part.iter().enumerate() {
                    let stride = if d == *dim { 0 } else { strides[d] };
                    offsets = spaced(&offsets, size, stride);
                }
                for (offset, &p) in offsets.iter_mut().zip(positions.all.iter()) {
                    *offset += p as isize * strides[*dim];
                }
                Blocks { offsets, len: 1, stride: 1 }
            }
            Kind::Across { indexed, before, after } => {
                let mut offsets = vec![0];
                for &d in before {
                    offsets = spaced(&offsets, inner.whole[d], strides[d]);
                }
                let count = indexed.first().map_or(1, |(_, p)| p.all.len());
                let named: Vec<isize> = (0..count)
                    .map(|k| indexed.iter().map(|(d, p)| p.all[k] as isize * strides[*d]).sum())
                    .collect();
                offsets = offsets.iter().flat_map(|o| named.iter().map(move |n| o + n)).collect();
                // The last axes that step as one are a block; the others multiply the offsets.
                let (mut len, mut stride, mut outer) = (1, 1, after.len());
                while outer > 0 {
                    let d = after[outer - 1];
                    if inner.whole[d] != 1 {
                        if len == 1 {
                            stride = strides[d];
                        } else if strides[d] != stride * len as isize {
                            break;
                        }
                        len *= inner.whole[d];
                    }
                    outer -= 1;
                }
                for &d in &after[..outer] {
                    offsets = spaced(&offsets, inner.whole[d], strides[d]);
                }
                Blocks { offsets, len, stride }
            }
        }
    }

    /// The same places in each of a batch, with axes of these sizes in front.
    fn behind(&self, levels: &[usize]) -> Places {
        let inner = &*self.0;
        let (k, examples) = (levels.len(), levels.iter().product());
        let shape = |own: &[usize]| levels.iter().chain(own).copied().collect::<Dims>();
        let kind = match &inner.kind {
            Kind::Along { dim, positions } => {
                let all = positions.all.repeat(examples).into();
                Kind::Along { dim: dim + k, positions: Positions { all, bound: positions.bound } }
            }
            Kind::Across { indexed, before, after } => Kind::Across {
                indexed: indexed.iter().map(|(d, p)| (d + k, p.clone())).collect(),
                before: (0..k).chain(before.iter().map(|d| d + k)).collect(),
                after: after.iter().map(|d| d + k).collect(),
            },
        };
        Places(Arc::new(Inner { whole: shape(&inner.whole), part: shape(&inner.part), kind }))
    }

    /// A map of one tensor, or two, that may be batched.
    fn over_batch<const N: usize>(
        &self,
        tensors: [&Tensor; N],
        map: impl FnOnce(&Places, [&Tensor; N]) -> Result<Tensor>,
    ) -> Result<Tensor> {
        lift::over_all(tensors, |ts, k| map(&self.behind(&ts[0].shape()[..k]), ts))
    }

    /// The elements at these places.
    pub fn take(&self, name: &'static str, x: &Tensor) -> Result<Tensor> {
        if x.is_batched() {
            return self.over_batch([x], |places, [x]| places.take(name, x));
        }
        assert_eq!(x.shape(), &self.0.whole[..]);
        let y = Tensor::uninitialised("index", self.shape(), x.dtype())?;
        let blocks = self.blocks(x.layout().strides());
        assert_eq!(blocks.numel(), y.numel());
        #[allow(unsafe_code)]
        // SAFETY: positions lie inside their axes and `x` has the shape they were checked for, so
        // that every offset is one its layout reaches; `y` is new and as large as the part.
        unsafe {
            blocks::take(x.dtype(), y.data_ptr(), x.data_ptr(), &blocks);
        }
        self.recorded(name, Map::Take, y, &[x])
    }

    /// Zeros with `v` added at these places.
    pub fn spread(&self, name: &'static str, v: &Tensor) -> Result<Tensor> {
        if v.is_batched() {
            return self.over_batch([v], |places, [v]| places.spread(name, v));
        }
        let y = Tensor::zeros(&self.0.whole, v.dtype())?;
        self.write(&y, v, true)?;
        self.recorded(name, Map::Spread, y, &[v])
    }

    /// `x` with `v`, of the same type, added at these places.
    pub fn add(&self, name: &'static str, x: &Tensor, v: &Tensor) -> Result<Tensor> {
        if batch::any(&[x, v]) {
            return self.over_batch([x, v], |places, [x, v]| places.add(name, x, v));
        }
        let y = copy(x)?;
        self.write(&y, v, true)?;
        self.recorded(name, Map::Add, y, &[x, v])
    }

    /// `x` with `v`, of the same type, written at these places.
    pub fn put(&self, name: &'static str, x: &Tensor, v: &Tensor) -> Result<Tensor> {
        if batch::any(&[x, v]) {
            return self.over_batch([x, v], |places, [x, v]| places.put(name, x, v));
        }
        let y = copy(x)?;
        self.write(&y, v, false)?;
        self.recorded(name, Map::Put, y, &[x, v])
    }

    /// `x` multiplied with `v`, of the same type, at these places.
    ///
    /// # Errors
    /// One of the two is recorded: there is no derivative, in PyTorch neither.
    pub fn multiply(&self, x: &Tensor, v: &Tensor) -> Result<Tensor> {
        if record::recording(&[x, v]) {
            bail!(Unsupported, "", "derivative for aten::scatter is not implemented (multiply)");
        }
        let y = copy(x)?;
        self.combine(&y, v, Combine::Multiply)?;
        Ok(y)
    }

    /// `x` with one number written at these places.
    pub fn put_number(&self, name: &'static str, x: &Tensor, value: Scalar) -> Result<Tensor> {
        if x.is_batched() {
            return self.over_batch([x], |places, [x]| places.put_number(name, x, value));
        }
        let y = copy(x)?;
        self.write(&y, &Tensor::full(self.shape(), value, x.dtype())?, false)?;
        self.recorded(name, Map::PutNumber, y, &[x])
    }

    /// Writes or adds `v`, see [`Places::combine`].
    pub(crate) fn write(&self, y: &Tensor, v: &Tensor, add: bool) -> Result<()> {
        self.combine(y, v, if add { Combine::Add } else { Combine::Put })
    }

    /// Combines `y` at these places with `v`, in the shape of the part and of the type of `y`,
    /// without recording.
    pub(crate) fn combine(&self, y: &Tensor, v: &Tensor, how: Combine) -> Result<()> {
        assert!(y.shape() == &self.0.whole[..] && v.shape() == self.shape());
        assert_eq!(y.dtype(), v.dtype());
        let v =
            if v.is_contiguous() && !v.storage().same(y.storage()) { v.clone() } else { copy(v)? };
        let blocks = self.blocks(y.layout().strides());
        let write = match how {
            Combine::Put => blocks::put,
            Combine::Add => blocks::add,
            Combine::Multiply => blocks::multiply,
        };
        #[allow(unsafe_code)]
        // SAFETY: positions lie inside their axes and `y` has the shape they were checked for, so
        // that every offset is one its layout reaches; `v` is row-major, as large as the part, and
        // in other memory.
        unsafe {
            write(y.dtype(), v.data_ptr(), y.data_ptr(), &blocks);
        }
        Ok(())
    }

    fn recorded(
        &self,
        name: &'static str,
        map: Map,
        y: Tensor,
        inputs: &[&Tensor],
    ) -> Result<Tensor> {
        if y.dtype().is_floating() && record::recording(inputs) {
            let rule = Rule { name, map, places: self.clone() };
            record::record(&y, inputs, &[], Box::new(rule))?;
        }
        Ok(y)
    }
}

fn numel(shape: &[usize]) -> usize {
    if shape.contains(&0) { 0 } else { shape.iter().product() }
}

/// Every offset repeated `size` times, `stride` apart: one axis further in.
fn spaced(offsets: &[isize], size: usize, stride: isize) -> Vec<isize> {
    let steps = move |o: &isize| {
        let o = *o;
        (0..size as isize).map(move |i| o + i * stride)
    };
    offsets.iter().flat_map(steps).collect()
}

/// A row-major copy without history.
fn copy(x: &Tensor) -> Result<Tensor> {
    let y = Tensor::uninitialised("index", x.shape(), x.dtype())?;
    y.copy_raw(x);
    Ok(y)
}

#[derive(Clone, Copy)]
enum Map {
    Take,
    Spread,
    Add,
    Put,
    PutNumber,
}

impl Places {
    /// What a node of this name keeps: indices as they are kept, non-negative and of one shape.
    pub(super) fn attributes(&self, name: &str) -> Attributes {
        let inner = &*self.0;
        let mut list = Attributes::new();
        match &inner.kind {
            Kind::Along { dim, positions } => {
                list.push(("dim", Attribute::int(*dim)));
                list.push(("index", Attribute::tensor(positions.tensor(&inner.part))));
            }
            Kind::Across { indexed, before, after } => {
                let count = &inner.part[before.len()..inner.part.len() - after.len()];
                let tensor = |(_, p): &(usize, Positions)| p.tensor(count);
                match (indexed.as_slice(), name) {
                    (_, "IndexBackward0" | "IndexPutBackward0") => {
                        let last = indexed.last().map_or(0, |(d, _)| d + 1);
                        let at = |d| indexed.iter().find(|(i, _)| *i == d).and_then(tensor);
                        list.push(("indices", Attribute::Tensors((0..last).map(at).collect())));
                    }
                    ([one], "EmbeddingBackward0") => {
                        list.push(("indices", Attribute::tensor(tensor(one))));
                    }
                    ([one], "TakeBackward0") => {
                        list.push(("index", Attribute::tensor(tensor(one))));
                    }
                    (_, "MaskedSelectBackward0") => {}
                    ([one], _) => {
                        list.push(("dim", Attribute::int(one.0)));
                        list.push(("index", Attribute::tensor(tensor(one))));
                    }
                    _ => {}
                }
            }
        }
        if matches!(name, "IndexBackward0" | "IndexSelectBackward0") {
            list.push(("self_sym_sizes", Attribute::sizes(&inner.whole)));
        }
        match name {
            "EmbeddingBackward0" => {
                list.push(("padding_idx", Attribute::int(-1)));
                list.push(("scale_grad_by_freq", Attribute::bool(false)));
                list.push(("sparse", Attribute::bool(false)));
                list.push((
                    "weight_sym_argsize_0",
                    Attribute::int(inner.whole.first().copied().unwrap_or(0)),
                ));
            }
            "GatherBackward0" => list.push(("sparse_grad", Attribute::bool(false))),
            "IndexAddBackward0" => {
                list.push(("alpha", Attribute::int(1)));
                list.push(("source_dim", Attribute::int(inner.part.len())));
            }
            "IndexCopyBackward0" => list.push(("source_dim", Attribute::int(inner.part.len()))),
            _ => {}
        }
        list
    }
}

struct Rule {
    name: &'static str,
    map: Map,
    places: Places,
}

impl Op for Rule {
    fn name(&self) -> &'static str {
        self.name
    }

    fn attributes(&self) -> Attributes {
        let mut list = self.places.attributes(self.name);
        if self.name == "IndexPutBackward0" {
            list.push(("accumulate", Attribute::bool(matches!(self.map, Map::Add))));
        }
        list
    }

    fn backward(&self, ctx: &Context, grads: &[Option<Tensor>]) -> Result<Gradients> {
        let Some(g) = &grads[0] else { return Ok(Gradients::new()) };
        let places = &self.places;
        let erased = || places.put_number("IndexPutBackward0", g, Scalar::Bool(false));
        let taken = || places.take("IndexBackward0", g);
        let wanted = |i, f: &dyn Fn() -> Result<Tensor>| ctx.needs(i).then(f).transpose();
        let gradients: SmallVec<[Option<Tensor>; 2]> = match self.map {
            Map::Take => smallvec![wanted(0, &|| places.spread("IndexPutBackward0", g))?],
            Map::Spread => smallvec![wanted(0, &taken)?],
            Map::Add => smallvec![Some(g.clone()), wanted(1, &taken)?],
            Map::Put => smallvec![wanted(0, &erased)?, wanted(1, &taken)?],
            Map::PutNumber => smallvec![wanted(0, &erased)?],
        };
        Ok(gradients)
    }

    /// All five maps are linear in both of their tensors together.
    fn jvp(&self, _: &Context, v: &[Option<Tensor>], y: &[&Tensor]) -> Result<Option<Gradients>> {
        let (places, name, dtype) = (&self.places, self.name, y[0].dtype());
        let or_zeros = |i: usize, shape: &[usize]| match &v[i] {
            Some(v) => Ok(v.clone()),
            None => Tensor::zeros(shape, dtype),
        };
        let whole = || or_zeros(0, &places.0.whole);
        let part = || or_zeros(1, places.shape());
        let tangent = match self.map {
            Map::Take => places.take(name, &whole()?)?,
            Map::Spread => places.spread(name, &or_zeros(0, places.shape())?)?,
            Map::Add if v[1].is_none() => whole()?,
            Map::Add => places.add(name, &whole()?, &part()?)?,
            Map::Put => places.put(name, &whole()?, &part()?)?,
            Map::PutNumber => places.put_number(name, &whole()?, Scalar::Bool(false))?,
        };
        Ok(Some(smallvec![Some(tangent)]))
    }
}
