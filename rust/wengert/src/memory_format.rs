//! Memory formats: in which order the axes of a result lie in memory.
//!
//! Shape and meaning of a tensor do not change with its format, only its strides. The two formats
//! for images put the channels (axis 1) last, next to each other: NHWC for four axes, NDHWC for
//! five. Which format a tensor *has* is read off its strides, by PyTorch's rules; axes of length 1
//! make that ambiguous, so that "is laid out as" ([`MemoryFormat::fits`]) and "should be treated
//! as" ([`MemoryFormat::of`]) are two questions.

use crate::layout::{self, Layout, Strides};
use crate::{Result, bail};
use smallvec::SmallVec;

/// An order of axes in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MemoryFormat {
    /// Row-major.
    Contiguous,
    /// That of the input, without its gaps.
    Preserve,
    /// `(n, c, h, w)` with the channels last.
    ChannelsLast,
    /// `(n, c, d, h, w)` with the channels last.
    ChannelsLast3d,
}

use MemoryFormat::*;

impl MemoryFormat {
    /// All there are.
    pub const ALL: [MemoryFormat; 4] = [Contiguous, Preserve, ChannelsLast, ChannelsLast3d];

    /// PyTorch's name.
    pub fn name(self) -> &'static str {
        match self {
            Contiguous => "contiguous_format",
            Preserve => "preserve_format",
            ChannelsLast => "channels_last",
            ChannelsLast3d => "channels_last_3d",
        }
    }

    /// Whether the format is one of a fixed number of axes.
    pub(crate) fn is_for_images(self) -> bool {
        self.order().is_some()
    }

    /// The axes from the fastest to the slowest, for the formats that fix their number.
    fn order(self) -> Option<&'static [usize]> {
        match self {
            Contiguous | Preserve => None,
            ChannelsLast => Some(&[1, 3, 2, 0]),
            ChannelsLast3d => Some(&[1, 4, 3, 2, 0]),
        }
    }

    /// A gapless layout of the shape of `like` in this format; `item` is the element size in bytes.
    ///
    /// ```
    /// use wengert::{layout::Layout, memory_format::MemoryFormat::ChannelsLast};
    /// let image = Layout::contiguous("image", &[2, 3, 4, 5], 4)?;
    /// assert_eq!(ChannelsLast.layout("image", &image, 4)?.strides(), [60, 1, 15, 3]);
    /// # Ok::<(), wengert::Error>(())
    /// ```
    ///
    /// # Errors
    /// The format is for another number of axes; the size overflows.
    pub fn layout(self, op: &'static str, like: &Layout, item: usize) -> Result<Layout> {
        let shape = like.shape();
        let Some(order) = self.order() else {
            let kept = (self == Preserve && !like.is_contiguous())
                .then(|| crate::ops::pointwise::dense_permutation(like))
                .flatten();
            let Some(strides) = kept else { return Layout::contiguous(op, shape, item) };
            layout::checked_numel(op, shape, item)?;
            return Ok(Layout::strided(shape, &strides, 0));
        };
        let rank = order.len();
        if shape.len() != rank {
            bail!(
                Shape,
                "",
                "required rank {rank} tensor to use {} format (a tensor of shape {shape:?} has rank \
                 {})",
                self.name(),
                shape.len()
            );
        }
        layout::checked_numel(op, shape, item)?;
        let mut strides: Strides = SmallVec::from_elem(0, rank);
        let mut step = 1isize;
        for &d in order {
            strides[d] = step;
            step = step.wrapping_mul(shape[d] as isize);
        }
        Ok(Layout::strided(shape, &strides, 0))
    }

    /// Whether elements lie in this order without gaps.
    pub fn fits(self, layout: &Layout) -> bool {
        let Some(order) = self.order() else { return layout.is_contiguous() };
        let (shape, strides) = (layout.shape(), layout.strides());
        let mut step = 1isize;
        shape.len() == order.len()
            && order.iter().all(|&d| {
                let follows = shape[d] == 1 || strides[d] == step;
                step = step.wrapping_mul(shape[d] as isize);
                follows
            })
    }

    /// The format to treat a layout as: channels last if its strides grow in that order, which
    /// need not be without gaps.
    pub fn of(layout: &Layout) -> MemoryFormat {
        let (shape, strides) = (layout.shape(), layout.strides());
        let grows = |format: &MemoryFormat| {
            let Some(order) = format.order() else { return false };
            if shape.len() != order.len() || strides[1] == 0 {
                return false;
            }
            let mut least = 0;
            order.iter().all(|&d| {
                // With one channel, row or column the orders coincide: then it is row-major.
                let ambiguous = d == 0 && least == strides[1];
                let follows = shape[d] != 0 && strides[d] >= least && !ambiguous;
                least = strides[d] * shape[d].max(1) as isize;
                follows
            })
        };
        [ChannelsLast, ChannelsLast3d].into_iter().find(grows).unwrap_or(Contiguous)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(format: MemoryFormat, shape: &[usize]) -> Layout {
        format.layout("test", &Layout::contiguous("test", shape, 4).unwrap(), 4).unwrap()
    }

    #[test]
    fn formats_are_made_and_recognised() {
        let image = made(ChannelsLast, &[2, 3, 4, 5]);
        assert_eq!(image.strides(), [60, 1, 15, 3]);
        assert!(ChannelsLast.fits(&image) && !Contiguous.fits(&image));
        assert_eq!(MemoryFormat::of(&image), ChannelsLast);
        let volume = made(ChannelsLast3d, &[2, 3, 4, 5, 6]);
        assert_eq!(volume.strides(), [360, 1, 90, 18, 3]);
        assert!(ChannelsLast3d.fits(&volume) && !ChannelsLast.fits(&volume));
        assert_eq!(MemoryFormat::of(&volume), ChannelsLast3d);
        assert_eq!(Preserve.layout("test", &image, 4).unwrap().strides(), image.strides());
    }

    #[test]
    fn one_pixel_is_row_major_and_fits_both() {
        let pixel = made(Contiguous, &[1, 1, 1, 1]);
        assert!(ChannelsLast.fits(&pixel) && Contiguous.fits(&pixel));
        assert_eq!(MemoryFormat::of(&pixel), Contiguous);
    }

    #[test]
    fn sizes_of_zero_are_those_of_pytorch() {
        assert_eq!(made(ChannelsLast, &[2, 0, 4, 5]).strides(), [0, 1, 0, 0]);
        assert_eq!(made(ChannelsLast, &[2, 3, 4, 0]).strides(), [0, 1, 0, 3]);
    }

    #[test]
    fn the_rank_is_checked() {
        let matrix = Layout::contiguous("test", &[2, 3], 4).unwrap();
        let error = ChannelsLast.layout("test", &matrix, 4).err().unwrap().to_string();
        assert!(error.contains("required rank 4 tensor to use channels_last format"), "{error}");
    }
}
