//! Printing tensors, to the character as PyTorch does.
//!
//! A printed tensor is a prefix, the bracketed elements ([`tensor_body`]) and suffixes that say
//! what the elements do not show: `tensor([1, 2], dtype=torch.int32)`. This module knows nothing
//! of tensors; whatever can tell its element type, its shape and the element at an index is a
//! [`Source`]. Only the elements that appear in the text are asked for.
//!
//! ```
//! use wengert::format::{self, Options, Source, Suffixes};
//! use wengert::{DType, Scalar};
//!
//! struct Squares;
//! impl Source for Squares {
//!     fn dtype(&self) -> DType { DType::Float32 }
//!     fn shape(&self) -> &[usize] { &[2, 1000] }
//!     fn at(&self, index: &[usize]) -> Scalar { Scalar::Float((index[1] * index[1]) as f64) }
//! }
//!
//! let suffixes = Suffixes { grad_fn: Some("PowBackward0"), ..Suffixes::default() };
//! let options = Options { sci_mode: Some(false), ..Options::default() };
//! assert_eq!(format::tensor(&Squares, &suffixes, &options), "\
//! tensor([[     0.,      1.,      4.,  ..., 994009., 996004., 998001.],
//!         [     0.,      1.,      4.,  ..., 994009., 996004., 998001.]],
//!        grad_fn=<PowBackward0>)");
//! ```

mod body;
mod number;
mod options;

pub use body::tensor_body;
pub use number::{push_fixed, push_repr, push_scientific, scalar_repr};
pub use options::{Change, Options, Profile, printoptions, replace_printoptions, set_printoptions};

use crate::dtype::{DType, Scalar, default_float};

/// Something that can be printed as a tensor.
pub trait Source {
    /// The element type.
    fn dtype(&self) -> DType;
    /// The size of each dimension.
    fn shape(&self) -> &[usize];
    /// The element at `index`, one number per dimension, each smaller than its size.
    fn at(&self, index: &[usize]) -> Scalar;
}

/// What is printed around the elements, apart from what follows from them.
#[derive(Clone, Copy, Debug)]
pub struct Suffixes<'a> {
    /// What comes first: `tensor(`, or for a subclass its name and a bracket.
    pub prefix: &'a str,
    /// The module in front of element types: `torch` in `dtype=torch.int32`.
    pub module: &'a str,
    /// The floating type that goes without saying.
    pub default_float: DType,
    /// The name of the operation a recorded result came from: `AddBackward0`.
    pub grad_fn: Option<&'a str>,
    /// Whether the tensor requires a gradient; said only where there is no `grad_fn`.
    pub requires_grad: bool,
    /// The text of the tangent of a dual tensor.
    pub tangent: Option<&'a str>,
}

impl Default for Suffixes<'_> {
    /// A plain tensor without gradient; the default float is that of the process.
    fn default() -> Self {
        Suffixes {
            prefix: "tensor(",
            module: "torch",
            default_float: default_float(),
            grad_fn: None,
            requires_grad: false,
            tangent: None,
        }
    }
}

impl Suffixes<'_> {
    /// The texts to append, in PyTorch's order.
    fn texts(&self, source: &dyn Source, options: &Options) -> Vec<String> {
        let (dtype, shape) = (source.dtype(), source.shape());
        let empty = shape.contains(&0);
        let mut texts = Vec::new();
        // `[]` is taken to be of shape (0,); with no items at the edges no shape can be seen.
        if (empty && shape.len() != 1) || (!empty && options.edgeitems == 0) {
            texts.push(format!("size={}", tuple(shape)));
        }
        // Whole numbers and truth values can be told from their looks, if there are any.
        let inferable = !empty && matches!(dtype, DType::Int64 | DType::Bool);
        if dtype != self.default_float && !inferable {
            texts.push(format!("dtype={}.{dtype}", self.module));
        }
        match self.grad_fn {
            Some(name) => texts.push(format!("grad_fn=<{name}>")),
            None if self.requires_grad => texts.push("requires_grad=True".into()),
            None => {}
        }
        texts.extend(self.tangent.map(|tangent| format!("tangent={tangent}")));
        texts
    }
}

/// The whole text of a tensor: `tensor([1., 2.], requires_grad=True)`.
///
/// A suffix that would pass the line width goes to a line of its own, below the first bracket.
pub fn tensor(source: &dyn Source, suffixes: &Suffixes<'_>, options: &Options) -> String {
    let indent = suffixes.prefix.chars().count();
    let body = tensor_body(source, options, indent);
    // PyTorch counts the last line one or two characters longer than it is; so must we.
    let mut line = match body.rfind('\n') {
        Some(newline) => body.len() - newline + 1,
        None => indent + body.len() + 2,
    };
    let mut out = format!("{}{body}", suffixes.prefix);
    for suffix in suffixes.texts(source, options) {
        let length = suffix.chars().count();
        if line + length + 2 > options.linewidth {
            out.push_str(",\n");
            out.push_str(&" ".repeat(indent));
            line = indent + length;
        } else {
            out.push_str(", ");
            line += length + 2;
        }
        out.push_str(&suffix);
    }
    out.push(')');
    out
}

/// A shape as PyTorch prints it: `torch.Size([2, 3])`.
///
/// ```
/// assert_eq!(wengert::format::size("torch", &[2, 3]), "torch.Size([2, 3])");
/// ```
pub fn size(module: &str, shape: &[usize]) -> String {
    format!("{module}.Size({shape:?})")
}

/// A shape as Python prints a tuple: `(2, 3)`, `(2,)`, `()`.
///
/// ```
/// assert_eq!(wengert::format::tuple(&[2]), "(2,)");
/// ```
pub fn tuple(shape: &[usize]) -> String {
    let sizes: Vec<String> = shape.iter().map(usize::to_string).collect();
    match sizes.as_slice() {
        [one] => format!("({one},)"),
        _ => format!("({})", sizes.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    /// A tensor far too large for memory, which counts how often it is read.
    struct Huge {
        shape: Vec<usize>,
        reads: Cell<usize>,
    }

    impl Source for Huge {
        fn dtype(&self) -> DType {
            DType::Int32
        }
        fn shape(&self) -> &[usize] {
            &self.shape
        }
        fn at(&self, index: &[usize]) -> Scalar {
            assert!(index.iter().zip(&self.shape).all(|(i, size)| i < size));
            self.reads.set(self.reads.get() + 1);
            Scalar::Int(index.iter().sum::<usize>() as i64)
        }
    }

    #[test]
    fn only_shown_elements_are_read() {
        let huge = Huge { shape: vec![1 << 40, 4, 1 << 40], reads: Cell::new(0) };
        let text = tensor(&huge, &Suffixes::default(), &Options::default());
        assert_eq!(huge.reads.get(), 6 * 4 * 6);
        assert!(text.ends_with("2199023255553]]], dtype=torch.int32)"), "{text}");
    }

    #[test]
    fn many_dimensions_need_no_stack() {
        let deep = Huge { shape: vec![1; 20_000], reads: Cell::new(0) };
        let text = tensor_body(&deep, &Options::default(), 7);
        assert_eq!(text, format!("{}0{}", "[".repeat(20_000), "]".repeat(20_000)));
    }

    #[test]
    fn a_subclass_aligns_with_its_own_name() {
        let source = Huge { shape: vec![2, 2], reads: Cell::new(0) };
        let suffixes = Suffixes { prefix: "Größe(", requires_grad: true, ..Suffixes::default() };
        assert_eq!(
            tensor(&source, &suffixes, &Options { linewidth: 20, ..Options::default() }),
            "Größe([[0, 1],\n       [1, 2]],\n      dtype=torch.int32,\n      requires_grad=True)"
        );
    }
}
