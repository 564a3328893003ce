//! The one error type of the crate.
//!
//! An [`Error`] is a single boxed pointer, so that a `Result<Tensor>` stays two words. It says
//! which operation failed, what is wrong and with which values, in that order:
//! `matmul: inner sizes differ: (2, 3) @ (4, 5)`. Where users search the web for PyTorch's
//! sentence, the detail *is* that sentence and [`Error::plain`] leaves the prefix out.

use std::fmt;

/// What went wrong, as coarse as a caller can act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// Sizes do not fit together, or a dimension does not exist.
    Shape,
    /// An element type that the operation does not support or cannot produce.
    DType,
    /// A position outside a tensor.
    Index,
    /// An argument of the right type with a value that makes no sense.
    Value,
    /// An argument of the wrong type.
    Type,
    /// A rule of the gradient graph: no grad, freed graph, in-place on a leaf.
    Grad,
    /// A saved tensor was modified in place.
    Version,
    /// Memory could not be had.
    Memory,
    /// A size does not fit the address space.
    Overflow,
    /// Integer division by zero.
    ZeroDivision,
    /// A matrix without what was asked for: singular, not positive definite, not finite.
    LinAlg,
    /// The operation does not exist for these arguments (yet).
    Unsupported,
    /// Raised by the embedding language; the payload carries the original.
    Foreign,
}

struct Repr {
    kind: Kind,
    op: &'static str,
    detail: String,
    foreign: Option<Box<dyn std::any::Any + Send + Sync>>,
}

/// An error with its kind, the operation it came from and the offending values.
pub struct Error(Box<Repr>);

/// `std::result::Result` with this crate's error.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of operation `op`; its text is `op: detail`.
    #[cold]
    pub fn new(kind: Kind, op: &'static str, detail: impl Into<String>) -> Self {
        Error(Box::new(Repr { kind, op, detail: detail.into(), foreign: None }))
    }

    /// An error whose text is `detail` alone: for sentences that users search for word by word.
    #[cold]
    pub fn plain(kind: Kind, detail: impl Into<String>) -> Self {
        Error::new(kind, "", detail)
    }

    /// An error of the embedding language on its way through the engine.
    #[cold]
    pub fn foreign(payload: Box<dyn std::any::Any + Send + Sync>, text: impl Into<String>) -> Self {
        let detail = text.into();
        Error(Box::new(Repr { kind: Kind::Foreign, op: "", detail, foreign: Some(payload) }))
    }

    /// What went wrong.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// The operation that failed, or `""`.
    pub fn op(&self) -> &'static str {
        self.0.op
    }

    /// The text without the operation's name.
    pub fn detail(&self) -> &str {
        &self.0.detail
    }

    /// Takes the embedding language's own error out, if this is one.
    pub fn take_foreign(&mut self) -> Option<Box<dyn std::any::Any + Send + Sync>> {
        self.0.foreign.take()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.op {
            "" => f.write_str(&self.0.detail),
            op => write!(f, "{op}: {}", self.0.detail),
        }
    }
}

/// The readable form: people unwrap.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}Error({self})", self.0.kind)
    }
}

impl std::error::Error for Error {}

/// Returns early with an [`Error`]: `bail!(Shape, "matmul", "inner sizes differ: {a} and {b}")`.
#[macro_export]
macro_rules! bail {
    ($kind:ident, $op:expr, $($detail:tt)+) => {
        return Err($crate::Error::new($crate::Kind::$kind, $op, format!($($detail)+)))
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_names_the_operation_first() {
        let e = Error::new(Kind::Shape, "matmul", "inner sizes differ: (2, 3) @ (4, 5)");
        assert_eq!(e.to_string(), "matmul: inner sizes differ: (2, 3) @ (4, 5)");
        assert_eq!(Error::plain(Kind::Grad, "boom").to_string(), "boom");
        assert_eq!(size_of::<Result<()>>(), 8);
    }
}
