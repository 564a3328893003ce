//! Any geometry over a tensor's memory: `as_strided` and what follows from it.
//!
//! A view by strides knows nothing of axes, only positions in memory. Its derivative therefore goes
//! through memory as well, as two linear maps that are each other's adjoint:
//!
//! ```text
//! gather(flat, layout)     the elements of `flat` that a layout shows
//! scatter(x, layout)       zeros, with every element of `x` added where the layout shows it
//! ```
//!
//! A [`Window`] is a pair of layouts over the same memory: one that was looked at through the other.
//! Its pull-back is a scatter by one and a gather by the other. That also holds if layouts have
//! gaps, run backwards, or show an element several times: a gradient of a shared element is the sum
//! of those of its appearances.

use super::tags::*;
use super::{Row, binary, cast, index, select, view};
use crate::batch::{Batching, axes};
use crate::graph::{Attribute, Attributes, Context, Gradients, Op, record};
use crate::layout::{Dims, Layout, checked_numel, wrap_dim};
use crate::tensor::Tensor;
use crate::{DType, Result, Scalar, bail};
use smallvec::{SmallVec, smallvec};

/// Two layouts over the same memory, which starts at the lowest element that either shows.
#[derive(Clone)]
pub(crate) struct Window {
    /// What is looked at.
    whole: Layout,
    /// What is seen.
    part: Layout,
    /// Elements of the memory.
    span: usize,
}

fn shifted(layout: &Layout, by: isize) -> Layout {
    let offset = (layout.offset() as isize - by).max(0) as usize;
    Layout::strided(layout.shape(), layout.strides(), offset)
}

impl Window {
    /// What `part` shows of `whole`, which lies in the same storage.
    pub(crate) fn new(whole: &Layout, part: &Layout) -> Window {
        let spans = [whole, part].map(|l| l.span());
        let filled = || spans.iter().filter(|(low, high)| low < high);
        let low = filled().map(|s| s.0).min().unwrap_or(0);
        let high = filled().map(|s| s.1).max().unwrap_or(0);
        Window { whole: shifted(whole, low), part: shifted(part, low), span: (high - low) as usize }
    }

    /// The part of `whole`, which is laid out in memory as what this window looks at. A view.
    pub(crate) fn view(&self, whole: &Tensor) -> Result<Tensor> {
        let moved = self.whole.offset() as isize - whole.layout().offset() as isize;
        let y = whole.view_as_layout(shifted(&self.part, moved));
        if record::recording(&[whole]) {
            record::record(&y, &[whole], &[], Box::new(AsStrided(self.clone(), None)))?;
        }
        Ok(y)
    }

    /// The part, given a value for each element of the whole; those of shared elements are added.
    pub(crate) fn push(&self, whole: &Tensor) -> Result<Tensor> {
        gather(&scatter(whole, &self.whole, self.span)?, &self.part)
    }

    /// The adjoint of looking: where the elements of the whole are seen, the sum of the gradients
    /// of their appearances, and zero elsewhere. If the whole shows an element several times, each
    /// gets an equal share, as in PyTorch.
    pub(crate) fn pull(&self, part: &Tensor) -> Result<Tensor> {
        let flat = scatter(part, &self.part, self.span)?;
        let whole = gather(&flat, &self.whole)?;
        if !self.whole.overlaps_itself() {
            return Ok(whole);
        }
        let ones = Tensor::full(self.whole.shape(), 1.0, part.dtype())?;
        let counts = gather(&scatter(&ones, &self.whole, self.span)?, &self.whole)?;
        binary::div(&whole, &counts)
    }

    /// `whole` with zeros where the part is seen.
    pub(crate) fn erase(&self, whole: &Tensor) -> Result<Tensor> {
        let seen = Tensor::zeros(&[self.span], DType::Bool)?;
        seen.detach().view_as_layout(self.part.clone()).fill_raw(Scalar::Bool(true));
        let seen = gather(&seen, &self.whole)?;
        select::masked_fill(whole, &seen, &Tensor::wrapped(Scalar::Bool(false))?)
    }
}

/// The position of each element of a layout, row-major.
fn positions(layout: &Layout) -> Result<Tensor> {
    let mut at = vec![layout.offset() as i64];
    for (&size, &stride) in layout.shape().iter().zip(layout.strides()) {
        at = at
            .iter()
            .flat_map(|&start| (0..size as i64).map(move |i| start + i * stride as i64))
            .collect();
    }
    Tensor::from_slice(&at, &[at.len()])
}

/// `span` zeros with the elements of `x` added where the layout has them.
fn scatter(x: &Tensor, layout: &Layout, span: usize) -> Result<Tensor> {
    struct Scatter(Layout);
    impl Op for Scatter {
        fn name(&self) -> &'static str {
            "AsStridedScatterBackward0"
        }
        fn backward(&self, _: &Context, grads: &[Option<Tensor>]) -> Result<Gradients> {
            let Some(g) = &grads[0] else { return Ok(smallvec![None]) };
            Ok(smallvec![Some(gather(g, &self.0)?)])
        }
    }
    let flat = Tensor::zeros(&[span], x.dtype())?;
    if layout.numel() == 0 {
        return Ok(flat);
    }
    if layout.is_contiguous() && layout.numel() == span {
        return view::reshape_to(x, &[span]);
    }
    if layout.overlaps_itself() {
        let elements = view::reshape(x, &[-1])?;
        return index::index_add(&flat, 0, &positions(layout)?, &elements, true, super::Dest::New);
    }
    flat.detach().view_as_layout(layout.clone()).copy_raw(x);
    if record::recording(&[x]) {
        record::record(&flat, &[x], &[], Box::new(Scatter(layout.clone())))?;
    }
    Ok(flat)
}

/// The elements of a vector that the layout shows; no view of it for autograd.
fn gather(flat: &Tensor, layout: &Layout) -> Result<Tensor> {
    struct Gather(Layout, usize);
    impl Op for Gather {
        fn name(&self) -> &'static str {
            "AsStridedBackward0"
        }
        fn backward(&self, _: &Context, grads: &[Option<Tensor>]) -> Result<Gradients> {
            let Some(g) = &grads[0] else { return Ok(smallvec![None]) };
            Ok(smallvec![Some(scatter(g, &self.0, self.1)?)])
        }
    }
    let flat = &cast::contiguous(flat)?;
    if layout.is_contiguous() && layout.numel() == flat.numel() {
        return view::reinterpret("AsStridedBackward0", flat, layout.shape());
    }
    let y = Tensor::uninitialised("as_strided", layout.shape(), flat.dtype())?;
    if layout.numel() > 0 {
        let seen = shifted(layout, -(flat.layout().offset() as isize));
        y.copy_raw(&flat.detach().view_as_layout(seen));
    }
    if record::recording(&[flat]) {
        record::record(&y, &[flat], &[], Box::new(Gather(layout.clone(), flat.numel())))?;
    }
    Ok(y)
}

/// The rule of a view by strides.
pub(crate) struct AsStrided(pub Window, pub Option<Box<Strided>>);

/// The arguments of a call of `as_strided`.
pub(crate) struct Strided {
    size: SmallVec<[i64; 5]>,
    stride: SmallVec<[i64; 5]>,
    offset: Option<i64>,
}

impl Strided {
    pub(crate) fn of(layout: &Layout) -> Strided {
        Strided {
            size: layout.shape().iter().map(|&s| s as i64).collect(),
            stride: layout.strides().iter().map(|&s| s as i64).collect(),
            offset: Some(layout.offset() as i64),
        }
    }

    pub(crate) fn attributes(&self) -> Attributes {
        vec![
            ("size", Attribute::ints(&self.size)),
            ("stride", Attribute::ints(&self.stride)),
            ("storage_offset", self.offset.map_or_else(Attribute::none, Attribute::int)),
        ]
    }
}

impl Op for AsStrided {
    fn name(&self) -> &'static str {
        "AsStridedBackward0"
    }

    fn attributes(&self) -> Attributes {
        self.1.as_deref().map_or_else(Attributes::new, Strided::attributes)
    }

    fn backward(&self, _: &Context, grads: &[Option<Tensor>]) -> Result<Gradients> {
        let Some(g) = &grads[0] else { return Ok(smallvec![None]) };
        Ok(smallvec![Some(self.0.pull(g)?)])
    }

    /// A tangent is laid out in memory as its tensor is.
    fn jvp(&self, _: &Context, v: &[Option<Tensor>], _: &[&Tensor]) -> Result<Option<Gradients>> {
        let Some(v) = &v[0] else { return Ok(None) };
        Ok(Some(smallvec![Some(self.0.view(v)?)]))
    }
}

/// The layout that a user asks for over the storage of `x`.
fn geometry(
    op: &'static str,
    x: &Tensor,
    size: &[i64],
    stride: &[i64],
    offset: Option<i64>,
) -> Result<Layout> {
    if size.len() != stride.len() {
        bail!(Shape, "", "mismatch in length of strides and shape ({op}: {size:?}, {stride:?})");
    }
    if let Some(s) = size.iter().find(|&&s| s < 0) {
        bail!(
            Shape,
            "",
            "{op}: Negative size is not allowed. Got size {size:?}: {s} is below zero"
        );
    }
    if stride.iter().any(|&s| s < 0) {
        bail!(
            Value,
            "",
            "{op}: Negative strides are not supported at the moment, got strides: {stride:?}"
        );
    }
    let offset = offset.unwrap_or(x.layout().offset() as i64);
    if offset < 0 {
        bail!(Value, "", "Tensor: invalid storage offset {offset} ({op})");
    }
    let shape: SmallVec<[usize; 5]> = size.iter().map(|&s| s as usize).collect();
    let strides: SmallVec<[isize; 5]> = stride.iter().map(|&s| s as isize).collect();
    let item = x.dtype().size();
    Layout::check_bounds(op, &shape, &strides, offset as usize, x.storage().bytes() / item, item)
}

/// A view of the memory of `x` with any sizes, strides and offset inside it.
///
/// # Errors
/// The lists differ in length, or lead outside the memory.
pub fn as_strided(x: &Tensor, size: &[i64], stride: &[i64], offset: Option<i64>) -> Result<Tensor> {
    let layout = geometry("as_strided", x, size, stride, offset)?;
    let y = x.view_as_layout(layout);
    if record::recording(&[x]) {
        let window = Window::new(x.layout(), y.layout());
        let strided = Strided {
            size: SmallVec::from_slice(size),
            stride: SmallVec::from_slice(stride),
            offset,
        };
        record::record(&y, &[x], &[], Box::new(AsStrided(window, Some(Box::new(strided)))))?;
    }
    Ok(y)
}

/// Windows of `size` positions every `step` along an axis; the positions in a window are a new last
/// axis. A view.
///
/// # Errors
/// The window is longer than the axis, or the step is not positive.
pub fn unfold(x: &Tensor, dim: i64, size: i64, step: i64) -> Result<Tensor> {
    struct Unfold(Window, [i64; 3], Dims);
    impl Op for Unfold {
        fn name(&self) -> &'static str {
            "UnfoldBackward0"
        }
        fn attributes(&self) -> Attributes {
            let [dimension, size, step] = self.1;
            vec![
                ("self_sym_sizes", Attribute::sizes(&self.2)),
                ("dimension", Attribute::int(dimension)),
                ("size", Attribute::int(size)),
                ("step", Attribute::int(step)),
            ]
        }
        fn backward(&self, _: &Context, grads: &[Option<Tensor>]) -> Result<Gradients> {
            let Some(g) = &grads[0] else { return Ok(smallvec![None]) };
            Ok(smallvec![Some(self.0.pull(g)?)])
        }
        fn jvp(
            &self,
            _: &Context,
            v: &[Option<Tensor>],
            _: &[&Tensor],
        ) -> Result<Option<Gradients>> {
            let (Some(v), [dim, size, step]) = (&v[0], self.1) else { return Ok(None) };
            Ok(Some(smallvec![Some(unfold(v, dim, size, step)?)]))
        }
    }
    let l = x.layout();
    let d = wrap_dim(dim, x.ndim())?;
    let length = l.shape().get(d).copied().unwrap_or(1);
    let along = l.strides().get(d).copied().unwrap_or(1);
    if size < 0 {
        bail!(Value, "", "size is {size} but must be >= 0 (unfold)");
    }
    if size as usize > length {
        bail!(
            Shape,
            "",
            "maximum size for tensor at dimension {d} is {length} but size is {size} (unfold)"
        );
    }
    if step <= 0 {
        bail!(Value, "", "step is {step} but must be > 0 (unfold)");
    }
    let mut shape: SmallVec<[usize; 5]> = SmallVec::from_slice(l.shape());
    let mut strides: SmallVec<[isize; 5]> = SmallVec::from_slice(l.strides());
    if x.ndim() > 0 {
        shape[d] = (length - size as usize) / step as usize + 1;
        strides[d] = along.saturating_mul(step as isize);
    }
    shape.push(size as usize);
    strides.push(along);
    checked_numel("unfold", &shape, x.dtype().size())?;
    let y = x.view_as_layout(Layout::strided(&shape, &strides, l.offset()));
    if record::recording(&[x]) {
        // By axes and not by memory: an expanded input has a gradient per element.
        let rows = Layout::contiguous("unfold", l.shape(), 1)?;
        let row = rows.strides().get(d).copied().unwrap_or(1);
        let mut strides: SmallVec<[isize; 5]> = SmallVec::from_slice(rows.strides());
        if x.ndim() > 0 {
            strides[d] = row.saturating_mul(step as isize);
        }
        strides.push(row);
        let window = Window::new(&rows, &Layout::strided(&shape, &strides, 0));
        record::record(
            &y,
            &[x],
            &[],
            Box::new(Unfold(window, [dim, size, step], SmallVec::from_slice(l.shape()))),
        )?;
    }
    Ok(y)
}

/// The bytes of `x` as elements of another type, in the same memory. Gradients do not flow through.
///
/// # Errors
/// The last axis is not dense, or its bytes are no multiple of the new size.
pub fn view_dtype(x: &Tensor, dtype: DType) -> Result<Tensor> {
    let (from, to) = (x.dtype().size(), dtype.size());
    if dtype == x.dtype() {
        return view::view(x, &x.shape().iter().map(|&s| s as i64).collect::<Vec<_>>());
    }
    if dtype == DType::Bool && x.dtype() != DType::Bool {
        bail!(DType, "view", "only truth values can be seen as bool; other bytes are none");
    }
    let l = x.layout();
    let mut shape: SmallVec<[usize; 5]> = SmallVec::from_slice(l.shape());
    let mut strides: SmallVec<[isize; 5]> = SmallVec::from_slice(l.strides());
    let mut offset = l.offset();
    if from != to {
        let Some(last) = shape.len().checked_sub(1) else {
            bail!(
                Shape,
                "",
                "self.dim() cannot be 0 to view {} as {} (different element sizes)",
                x.dtype().scalar_type_name(),
                dtype.scalar_type_name()
            );
        };
        if strides[last] != 1 {
            bail!(
                Shape,
                "",
                "self.stride(-1) must be 1 to view {} as {} (different element sizes), but got {}",
                x.dtype().scalar_type_name(),
                dtype.scalar_type_name(),
                strides[last]
            );
        }
        let ratio = if from > to { from / to } else { to / from };
        if from > to {
            shape[last] *= ratio;
            strides[..last].iter_mut().for_each(|s| *s *= ratio as isize);
            offset *= ratio;
        } else {
            let fits = shape[last].is_multiple_of(ratio)
                && offset.is_multiple_of(ratio)
                && strides[..last].iter().all(|s| s % ratio as isize == 0);
            if !fits {
                bail!(
                    Shape,
                    "",
                    "self.size(-1), self.storage_offset() and every stride must be divisible by \
                     {ratio} to view {} as {} (different element sizes), but got size {}, offset \
                     {offset} and strides {:?}",
                    x.dtype().scalar_type_name(),
                    dtype.scalar_type_name(),
                    shape[last],
                    l.strides()
                );
            }
            shape[last] /= ratio;
            strides[..last].iter_mut().for_each(|s| *s /= ratio as isize);
            offset /= ratio;
        }
        checked_numel("view", &shape, to)?;
    }
    let layout = Layout::strided(&shape, &strides, offset);
    Ok(Tensor::from_parts(x.storage().clone(), layout, dtype))
}

/// This family's rows.
pub const ROWS: &[Row] = &[
    Row::make(
        "as_strided",
        &["(input, size: int[], stride: int[], storage_offset: int? = None)"],
        FUNCTION | METHOD | INPLACE | VIEW,
        &[
            " The tensor's memory in any sizes, strides and offset. A view.",
            "",
            " Counted in elements, from the start of the memory. Gradients of an element that is",
            " shown several times are added.",
        ],
        |c| Ok(as_strided(c.tensor(0), c.ints(1), c.ints(2), c.opt_int(3))?.into()),
    )
    .batched(Batching::Own(axes::as_strided)),
    Row::make(
        "unfold",
        &["(input, dimension: int, size: int, step: int)"],
        METHOD | VIEW,
        &[
            " Windows of `size` positions every `step` along an axis. A view.",
            "",
            " The positions within a window become a new last axis.",
        ],
        |c| Ok(unfold(c.tensor(0), c.int(1), c.int(2), c.int(3))?.into()),
    )
    .batched(Batching::Axes { extra: 0 }),
];
