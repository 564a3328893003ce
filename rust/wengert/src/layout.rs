//! Shapes, strides and offsets: how a flat buffer is read as a tensor.
//!
//! A [`Layout`] keeps up to five dimensions inline, so that making a view allocates nothing.
//! All size arithmetic of the crate is checked here and nowhere else: [`Layout::contiguous`]
//! refuses shapes whose bytes would not fit `isize`, and [`Layout::check_bounds`] proves that a
//! strided view stays inside its storage. Everything downstream may multiply freely.

use crate::{Error, Kind, Result, bail};
use smallvec::SmallVec;
use std::fmt;

/// The largest number of dimensions, as in PyTorch.
pub const MAX_DIMS: usize = 64;

/// A short list of sizes.
pub type Dims = SmallVec<[usize; 5]>;
/// A short list of strides, in elements.
pub type Strides = SmallVec<[isize; 5]>;

const INLINE: usize = 5;

#[derive(Clone, Debug)]
enum Repr {
    Inline { ndim: u8, shape: [usize; INLINE], strides: [isize; INLINE] },
    Heap(Box<(Vec<usize>, Vec<isize>)>),
}

/// Shape, strides (in elements) and offset (in elements) of a tensor in its storage.
#[derive(Clone, Debug)]
pub struct Layout {
    numel: usize,
    offset: usize,
    contiguous: bool,
    /// Whether the strides are those of [`Layout::row_major`], also where they make no difference.
    plain: bool,
    repr: Repr,
}

/// The number of elements of a shape, or an error when its bytes do not fit `isize`.
///
/// A shape with a zero in it has no elements, whatever the other sizes are.
pub fn checked_numel(op: &'static str, shape: &[usize], item: usize) -> Result<usize> {
    if shape.len() > MAX_DIMS {
        bail!(
            Shape,
            op,
            "only tensors with up to {MAX_DIMS} dims are supported, got {}",
            shape.len()
        );
    }
    let (mut numel, mut bytes, mut overflows, mut empty) = (1usize, item, false, false);
    for &size in shape {
        let (product, over) = bytes.overflowing_mul(size);
        numel = numel.wrapping_mul(size);
        bytes = product;
        overflows |= over;
        empty |= size == 0;
    }
    if empty {
        return Ok(0);
    }
    if overflows || bytes > isize::MAX as usize {
        return Err(overflow(op, shape, item));
    }
    Ok(numel)
}

#[cold]
fn overflow(op: &'static str, shape: &[usize], item: usize) -> Error {
    Error::new(
        Kind::Overflow,
        op,
        format!(
            "Storage size calculation overflowed with sizes={shape:?} and {item}-byte elements"
        ),
    )
}

/// Row-major strides of a shape.
pub fn contiguous_strides(shape: &[usize]) -> Strides {
    let mut strides: Strides = SmallVec::from_elem(0, shape.len());
    let mut step = 1isize;
    for (stride, &size) in strides.iter_mut().zip(shape).rev() {
        *stride = step;
        step = step.wrapping_mul(size.max(1) as isize);
    }
    strides
}

impl Layout {
    /// A row-major layout at offset 0; `item` is the element size in bytes.
    pub fn contiguous(op: &'static str, shape: &[usize], item: usize) -> Result<Layout> {
        let numel = checked_numel(op, shape, item)?;
        Ok(Layout::row_major(shape, numel))
    }

    /// A row-major layout of a shape whose size was checked before.
    #[inline]
    fn row_major(shape: &[usize], numel: usize) -> Layout {
        let repr = if shape.len() <= INLINE {
            let mut dims = [0; INLINE];
            let mut strides = [0; INLINE];
            let mut step = 1isize;
            for i in (0..shape.len()).rev() {
                dims[i] = shape[i];
                strides[i] = step;
                step = step.wrapping_mul(shape[i].max(1) as isize);
            }
            Repr::Inline { ndim: shape.len() as u8, shape: dims, strides }
        } else {
            Repr::Heap(Box::new((shape.to_vec(), contiguous_strides(shape).to_vec())))
        };
        Layout { numel, offset: 0, contiguous: true, plain: true, repr }
    }

    /// A row-major layout of the same shape at offset 0.
    #[inline]
    pub fn to_row_major(&self) -> Layout {
        if self.plain && self.offset == 0 {
            return self.clone();
        }
        Layout::row_major(self.shape(), self.numel)
    }

    /// Whether both have the same sizes.
    #[inline]
    pub fn same_shape(&self, other: &Layout) -> bool {
        // A loop, because a call of memcmp for one or two numbers costs more than they do.
        let (a, b) = (self.shape(), other.shape());
        std::ptr::eq(self, other) || a.len() == b.len() && (0..a.len()).all(|i| a[i] == b[i])
    }

    /// Any layout. The caller's shape has a checked size, see [`checked_numel`].
    pub fn strided(shape: &[usize], strides: &[isize], offset: usize) -> Layout {
        let ndim = shape.len();
        assert_eq!(ndim, strides.len());
        let (mut numel, mut contiguous, mut plain) = (1usize, true, true);
        let mut step = 1isize;
        for i in (0..ndim).rev() {
            let (size, same) = (shape[i], strides[i] == step);
            plain &= same;
            contiguous &= same || size == 1;
            step = step.wrapping_mul(size.max(1) as isize);
            numel = numel.wrapping_mul(size);
        }
        contiguous |= numel == 0;
        let repr = if ndim <= INLINE {
            let (mut dims, mut steps) = ([0; INLINE], [0; INLINE]);
            // A loop, because a call of memcpy for one or two numbers costs more than they do.
            for (i, (dim, step)) in dims.iter_mut().zip(&mut steps).enumerate().take(ndim) {
                *dim = shape[i];
                *step = strides[i];
            }
            Repr::Inline { ndim: ndim as u8, shape: dims, strides: steps }
        } else {
            Repr::Heap(Box::new((shape.to_vec(), strides.to_vec())))
        };
        Layout { numel, offset, contiguous, plain, repr }
    }

    /// Sizes.
    #[inline]
    pub fn shape(&self) -> &[usize] {
        match &self.repr {
            Repr::Inline { ndim, shape, .. } => &shape[..(*ndim as usize).min(INLINE)],
            Repr::Heap(b) => &b.0,
        }
    }

    /// Strides in elements.
    #[inline]
    pub fn strides(&self) -> &[isize] {
        match &self.repr {
            Repr::Inline { ndim, strides, .. } => &strides[..(*ndim as usize).min(INLINE)],
            Repr::Heap(b) => &b.1,
        }
    }

    /// Number of dimensions.
    #[inline]
    pub fn ndim(&self) -> usize {
        self.shape().len()
    }

    /// Number of elements.
    #[inline]
    pub fn numel(&self) -> usize {
        self.numel
    }

    /// First element, counted from the start of the storage.
    #[inline]
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// Whether elements lie in row-major order without gaps.
    #[inline]
    pub fn is_contiguous(&self) -> bool {
        self.contiguous
    }

    /// Whether all indices are one element, as in a number that was expanded.
    #[inline]
    pub fn is_one_element(&self) -> bool {
        self.numel > 0 && self.strides().iter().all(|&stride| stride == 0)
    }

    /// Whether two indices may share one element (a stride of 0 over more than one position).
    pub fn overlaps_itself(&self) -> bool {
        if self.numel <= 1 || self.contiguous {
            return false;
        }
        // Sorted by stride, each axis must step over the whole extent of the smaller ones.
        let mut axes: SmallVec<[(usize, usize); 8]> = self
            .shape()
            .iter()
            .zip(self.strides())
            .filter(|(size, _)| **size > 1)
            .map(|(&size, &stride)| (stride.unsigned_abs(), size))
            .collect();
        axes.sort_unstable();
        let mut extent = 0usize;
        for (stride, size) in axes {
            if stride <= extent {
                return true;
            }
            extent += stride * (size - 1);
        }
        false
    }

    /// Lowest and one-past-highest element position, or `(0, 0)` when empty.
    pub fn span(&self) -> (isize, isize) {
        if self.numel == 0 {
            return (0, 0);
        }
        let (mut low, mut high) = (self.offset as isize, self.offset as isize + 1);
        for (&size, &stride) in self.shape().iter().zip(self.strides()) {
            let reach = (size as isize - 1) * stride;
            if reach < 0 { low += reach } else { high += reach }
        }
        (low, high)
    }

    /// Checks a user-given geometry against a storage of `capacity` elements.
    pub fn check_bounds(
        op: &'static str,
        shape: &[usize],
        strides: &[isize],
        offset: usize,
        capacity: usize,
        item: usize,
    ) -> Result<Layout> {
        let numel = checked_numel(op, shape, item)?;
        let (mut low, mut high) = (offset as i128, offset as i128 + 1);
        for (&size, &stride) in shape.iter().zip(strides) {
            let reach = (size as i128 - 1) * stride as i128;
            if reach < 0 { low += reach } else { high += reach }
        }
        if numel > 0 && (low < 0 || high > capacity as i128) {
            bail!(
                Value,
                "",
                "setStorage: sizes {shape:?}, strides {strides:?}, storage offset {offset}, and itemsize \
                 {item} requiring a storage size of {} are out of bounds for storage of size {}",
                high * item as i128,
                capacity * item
            );
        }
        Ok(Layout::strided(shape, strides, offset))
    }

    /// [`Layout::try_reshape`] for the usual case: a gapless layout, and sizes that say all and fit.
    #[inline]
    pub fn try_sizes(&self, sizes: &[i64]) -> Option<Layout> {
        if !self.contiguous || sizes.len() > INLINE {
            return None;
        }
        let (mut shape, mut strides) = ([0; INLINE], [0; INLINE]);
        let mut step = 1usize;
        for i in (0..sizes.len()).rev() {
            if sizes[i] <= 0 {
                return None;
            }
            shape[i] = sizes[i] as usize;
            strides[i] = step as isize;
            step = step.checked_mul(shape[i])?;
        }
        if step != self.numel {
            return None;
        }
        let repr = Repr::Inline { ndim: sizes.len() as u8, shape, strides };
        Some(Layout { numel: step, offset: self.offset, contiguous: true, plain: true, repr })
    }

    /// The same elements in a new shape without moving them, if strides allow it.
    pub fn try_reshape(&self, shape: &[usize]) -> Option<Layout> {
        if self.contiguous {
            let mut new = Layout::row_major(shape, self.numel);
            new.offset = self.offset;
            return Some(new);
        }
        view_strides(self.shape(), self.strides(), shape, self.numel)
            .map(|strides| Layout::strided(shape, &strides, self.offset))
    }
}

/// Strides that let `new` view memory laid out as `(old, strides)`, or `None`.
///
/// Old axes are grouped into runs that are contiguous among themselves; each run must be cut by
/// the new sizes exactly.
fn view_strides(old: &[usize], strides: &[isize], new: &[usize], numel: usize) -> Option<Strides> {
    if numel == 0 {
        return Some(contiguous_strides(new));
    }
    let mut result: Strides = SmallVec::from_elem(0, new.len());
    let mut view = new.len();
    let (mut chunk, mut viewed) = (1usize, 1usize);
    let mut base = strides.last().copied().unwrap_or(1);
    if old.is_empty() {
        result.iter_mut().for_each(|s| *s = 1);
        return Some(result);
    }
    for d in (0..old.len()).rev() {
        chunk *= old[d];
        let run_ends = d == 0 || (old[d - 1] != 1 && strides[d - 1] != chunk as isize * base);
        if run_ends {
            while view > 0 && (viewed < chunk || new[view - 1] == 1) {
                view -= 1;
                result[view] = viewed as isize * base;
                viewed *= new[view];
            }
            if viewed != chunk {
                return None;
            }
            if d > 0 {
                base = strides[d - 1];
                chunk = 1;
                viewed = 1;
            }
        }
    }
    (view == 0).then_some(result)
}

/// A shape as users write it: `(2, 3)`, `(4,)`, `()`.
pub struct ShapeText<'a>(pub &'a [usize]);

impl fmt::Display for ShapeText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(")?;
        for (i, s) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{s}")?;
        }
        f.write_str(if self.0.len() == 1 { ",)" } else { ")" })
    }
}

/// The shape that both operands broadcast to.
pub fn broadcast(op: &'static str, a: &[usize], b: &[usize]) -> Result<Dims> {
    if a == b {
        return Ok(SmallVec::from_slice(a));
    }
    let ndim = a.len().max(b.len());
    let mut out: Dims = SmallVec::from_elem(1, ndim);
    for i in 0..ndim {
        let x = if i + a.len() >= ndim { a[i + a.len() - ndim] } else { 1 };
        let y = if i + b.len() >= ndim { b[i + b.len() - ndim] } else { 1 };
        out[i] = match (x, y) {
            (x, y) if x == y => x,
            (1, y) => y,
            (x, 1) => x,
            _ => bail!(
                Shape,
                "",
                "The size of tensor a ({x}) must match the size of tensor b ({y}) at non-singleton \
                 dimension {i} ({op} of shapes {} and {})",
                ShapeText(a),
                ShapeText(b)
            ),
        };
    }
    Ok(out)
}

/// Strides that read a tensor of `shape` as if it had the larger shape `target`.
pub fn broadcast_strides(shape: &[usize], strides: &[isize], target: &[usize]) -> Strides {
    let mut out: Strides = SmallVec::from_elem(0, target.len());
    let skip = target.len() - shape.len();
    for i in 0..shape.len() {
        out[i + skip] = if shape[i] == 1 && target[i + skip] != 1 { 0 } else { strides[i] };
    }
    out
}

/// A dimension as given by a user, which may count from the end.
#[inline]
pub fn wrap_dim(dim: i64, ndim: usize) -> Result<usize> {
    let n = ndim.max(1) as i64;
    if dim < -n || dim >= n {
        return Err(dim_error(dim, n));
    }
    Ok(if dim < 0 { dim + n } else { dim } as usize)
}

#[cold]
fn dim_error(dim: i64, n: i64) -> Error {
    Error::plain(
        Kind::Index,
        format!(
            "Dimension out of range (expected to be in range of [{}, {}], but got {dim})",
            -n,
            n - 1
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reshape_follows_runs() {
        let l = Layout::strided(&[2, 3, 4], &[12, 4, 1], 0);
        assert!(l.is_contiguous());
        assert_eq!(l.try_reshape(&[6, 4]).unwrap().strides(), &[4, 1]);
        let t = Layout::strided(&[4, 6], &[1, 4], 0);
        assert!(t.try_reshape(&[24]).is_none());
        assert_eq!(t.try_reshape(&[2, 2, 6]).unwrap().strides(), &[2, 1, 4]);
        let e = Layout::strided(&[3, 1, 5], &[0, 7, 1], 2);
        assert_eq!(e.try_reshape(&[3, 5]).unwrap().strides(), &[0, 1]);
        assert_eq!(Layout::strided(&[], &[], 3).try_reshape(&[1, 1]).unwrap().numel(), 1);
    }

    #[test]
    fn row_major_of_any_layout() {
        for (shape, strides, offset) in [
            (&[2usize, 3][..], &[3isize, 1][..], 0usize),
            (&[2, 3], &[3, 1], 4),
            (&[2, 3], &[1, 2], 0),
            (&[2, 1], &[1, 9], 0),
            (&[0, 3], &[7, 7], 0),
            (&[], &[], 1),
        ] {
            let l = Layout::strided(shape, strides, offset).to_row_major();
            assert_eq!((l.strides(), l.offset()), (&contiguous_strides(shape)[..], 0));
            assert!(l.is_contiguous() && l.shape() == shape);
        }
    }

    #[test]
    fn sizes_are_checked_once() {
        assert_eq!(checked_numel("t", &[1 << 32, 1 << 32, 0], 4).unwrap(), 0);
        assert_eq!(checked_numel("t", &[1 << 62], 4).unwrap_err().kind(), Kind::Overflow);
        assert_eq!(checked_numel("t", &[usize::MAX, 2], 1).unwrap_err().kind(), Kind::Overflow);
        assert!(Layout::check_bounds("t", &[10], &[1], 0, 3, 4).is_err());
        assert!(Layout::check_bounds("t", &[3], &[-1], 2, 3, 4).is_ok());
    }

    #[test]
    fn overlap_is_found() {
        assert!(Layout::strided(&[3], &[0], 0).overlaps_itself());
        assert!(Layout::strided(&[3, 3], &[1, 1], 0).overlaps_itself());
        assert!(!Layout::strided(&[3, 3], &[1, 3], 0).overlaps_itself());
    }

    #[test]
    fn broadcasting_names_both_shapes() {
        assert_eq!(broadcast("add", &[2, 1], &[3]).unwrap().as_slice(), &[2, 3]);
        let e = broadcast("add", &[3], &[4]).unwrap_err().to_string();
        assert!(e.contains("(3)") && e.contains("(4,)"), "{e}");
    }
}
