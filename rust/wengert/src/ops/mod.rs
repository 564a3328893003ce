//! What operations mean: one row each, with forward, gradient, signature and documentation.
//!
//! There are three ways to write an operation, cheapest first:
//!
//! * **Composed** ([`composed`]): a function over other operations. No kernel and no gradient.
//! * **Pointwise row** ([`unary`], [`binary`], …): a formula per element and its derivative, stamped
//!   by [`pointwise_rows!`](crate::pointwise_rows).
//! * **Struct** implementing [`Op`](crate::graph::Op) for what has a loop nest of its own.
//!
//! Everything else is read off the [`table`]: the Python functions and methods, in-place and `out=`
//! forms, stubs, tests and benches. The table is an explicit list of families; a test holds it
//! against the test table.

pub mod activation;
pub mod algebra;
pub mod args;
pub mod binary;
pub mod cast;
pub mod close;
pub mod compare;
pub mod composed;
pub mod copies;
pub mod create;
pub mod criteria;
pub mod dropout;
pub mod embedding;
pub mod extrema;
pub mod fused;
pub mod index;
pub mod integer;
pub mod join;
pub mod linalg;
pub mod macros;
pub mod matmul;
pub(crate) mod matvec;
pub mod moments;
pub mod norm;
pub mod normalise;
pub mod part;
pub mod permute;
pub mod pieces;
pub mod places;
pub mod pointwise;
pub(crate) mod product;
pub mod random;
pub mod reduce;
pub mod repeat;
pub mod scan;
pub mod select;
pub mod sequence;
pub mod shapes;
pub mod slices;
pub mod sort;
pub mod strided;
pub mod ternary;
pub mod triangle;
pub mod unary;
pub mod view;
pub mod window;

use crate::batch::Batching;
use crate::layout::ShapeText;
use crate::tensor::Tensor;
use crate::{Result, bail};
use std::collections::HashMap;
use std::sync::OnceLock;

pub use args::{Args, Param, ParamKind, Signature, Value};
pub use binary::{add, div, mul, sub};
pub use create::zeros_like;
pub use pointwise::Dest;

/// What a call gives back.
pub enum Output {
    /// One tensor, the usual case.
    Tensor(Tensor),
    /// A tuple of tensors.
    Tensors(Vec<Tensor>),
    /// A named tuple of tensors, `torch.return_types.NAME`.
    Named(&'static NamedFields, Vec<Tensor>),
    /// A truth value.
    Bool(bool),
}

/// The name and the fields of a structured result.
pub struct NamedFields {
    /// The name of the type.
    pub name: &'static str,
    /// The names of its fields.
    pub fields: &'static [&'static str],
}

impl From<Tensor> for Output {
    fn from(t: Tensor) -> Self {
        Output::Tensor(t)
    }
}

impl From<Vec<Tensor>> for Output {
    fn from(t: Vec<Tensor>) -> Self {
        Output::Tensors(t)
    }
}

impl From<bool> for Output {
    fn from(b: bool) -> Self {
        Output::Bool(b)
    }
}

/// How a row is called.
#[derive(Clone, Copy)]
pub enum Call {
    /// Makes its result.
    Make(fn(&Args) -> Result<Output>),
    /// Can also write its result to memory that exists; `out=` and in-place cost no copy.
    Into(fn(&Args, Dest) -> Result<Tensor>),
}

/// Properties of a row, as bits.
pub mod tags {
    /// There is a function in the module (`wengert.NAME`).
    pub const FUNCTION: u32 = 1;
    /// There is a method of `Tensor`, whose first parameter is the tensor.
    pub const METHOD: u32 = 2;
    /// There is an in-place form, `NAME_`.
    pub const INPLACE: u32 = 4;
    /// The function takes `out=`.
    pub const OUT: u32 = 8;
    /// The result may share memory with the first argument.
    pub const VIEW: u32 = 16;
    /// The result depends on a generator.
    pub const RANDOM: u32 = 32;
    /// The result is new, and the function takes `requires_grad=`.
    pub const FACTORY: u32 = 64;
    /// Gradients do not flow through.
    pub const NONDIFF: u32 = 128;
    /// Not for users: a derivative that other rows call.
    pub const INTERNAL: u32 = 256;
    /// The usual arithmetic: function, method, in-place, `out=`.
    pub const ALL_FORMS: u32 = FUNCTION | METHOD | INPLACE | OUT;
}

/// One operation.
pub struct Row {
    /// PyTorch's name, dotted for submodules: `nn.functional.softmax`.
    pub name: &'static str,
    /// Other names: a plain one has all forms of the row, a dotted one is a function of that
    /// submodule and nothing else.
    pub aliases: &'static [&'static str],
    /// Overloads, tried in order.
    pub signatures: &'static [&'static str],
    /// Markdown, first line a summary.
    pub doc: &'static [&'static str],
    /// See [`tags`].
    pub tags: u32,
    /// How it works on batches.
    pub(crate) batch: Batching,
    /// The operation.
    pub call: Call,
}

impl Row {
    /// A row whose operation makes its result.
    pub(crate) const fn make(
        name: &'static str,
        signatures: &'static [&'static str],
        tags: u32,
        doc: &'static [&'static str],
        call: fn(&Args) -> Result<Output>,
    ) -> Row {
        Row {
            name,
            aliases: &[],
            signatures,
            doc,
            tags,
            batch: Batching::Each,
            call: Call::Make(call),
        }
    }

    /// The row with a rule for batches, without which it works on one example after the other.
    pub(crate) const fn batched(self, batch: Batching) -> Row {
        Row { batch, ..self }
    }

    /// Whether the row has all of the given [`tags`].
    pub fn has(&self, tags: u32) -> bool {
        self.tags & tags == tags
    }

    /// The last part of the name.
    pub fn short_name(&self) -> &'static str {
        // Names are short and calls are many: a plain loop beats a searcher.
        let bytes = self.name.as_bytes();
        let mut start = bytes.len();
        while start > 0 && bytes[start - 1] != b'.' {
            start -= 1;
        }
        &self.name[start..]
    }

    /// Calls the operation for a new result.
    #[inline]
    pub fn call(&self, args: &Args) -> Result<Output> {
        match self.call {
            Call::Make(f) => f(args),
            Call::Into(f) => f(args, Dest::New).map(Output::Tensor),
        }
    }

    /// Refuses `out=` where a gradient or a tangent would get lost.
    ///
    /// # Errors
    /// An argument or one of `outs` takes part in differentiation.
    pub fn check_out(&self, args: &Args, outs: &[&Tensor]) -> Result<()> {
        if !args.recording() && !crate::graph::record::recording(outs) {
            return Ok(());
        }
        let name = self.short_name();
        if crate::graph::is_grad_enabled()
            && (args.requires_grad() || outs.iter().any(|t| t.requires_grad()))
        {
            bail!(
                Grad,
                "",
                "{name}(): functions with out=... arguments don't support automatic \
                 differentiation, but one of the arguments requires grad."
            );
        }
        bail!(
            Unsupported,
            "",
            "Trying to use forward AD with {name}_out that does not support it because it is an \
             out= function"
        )
    }

    /// Calls the operation for a result in `out`, which is resized if it has another shape.
    pub fn call_out(&self, args: &Args, out: &Tensor) -> Result<Tensor> {
        let name = self.short_name();
        self.check_out(args, &[out])?;
        out.check_writable(name)?;
        let _write = out.storage().write();
        if let Call::Into(f) = self.call {
            f(args, Dest::Into(out))?;
        } else {
            let Output::Tensor(result) = self.call(args)? else {
                bail!(Unsupported, name, "this operation has no out= form");
            };
            pointwise::check_storable(result.dtype(), out.dtype())?;
            if result.shape() != out.shape() {
                return Err(pointwise::resize_error(name, out, result.shape()));
            }
            out.copy_raw(&result);
        }
        out.storage().bump_version();
        Ok(out.clone())
    }

    /// Calls the operation with its first argument as the place of the result.
    ///
    /// When the call is recorded, the operation runs on an alias and its result is copied back, so
    /// that whatever the rule saves is out of reach of the write; the tensor then takes over the
    /// result's history.
    pub fn call_inplace(&self, args: &mut Args) -> Result<()> {
        let name = self.short_name();
        let target = args.tensor(0);
        let recording = args.recording();
        crate::graph::inplace::check(target, name, recording)?;
        if let (false, Call::Into(f)) = (recording, self.call) {
            let _write = target.storage().write();
            f(args, Dest::Into(target))?;
            target.storage().bump_version();
            return Ok(());
        }
        let target = target.clone();
        if recording {
            args.values[0] = Value::Tensor(crate::graph::inplace::before(&target)?);
        }
        let Output::Tensor(result) = self.call(args)? else {
            bail!(Unsupported, name, "this operation has no in-place form");
        };
        pointwise::check_storable(result.dtype(), target.dtype())?;
        if result.shape() != target.shape() {
            bail!(
                Shape,
                "",
                "output with shape {:?} doesn't match the broadcast shape {:?} ({name}_ writes to a \
                 tensor of shape {})",
                target.shape(),
                result.shape(),
                ShapeText(target.shape())
            );
        }
        crate::graph::inplace::adopt(&target, result)
    }
}

/// `target += source` without recording; `target` is not shared.
pub(crate) fn add_assign(target: &Tensor, source: &Tensor) -> Result<()> {
    let _write = target.storage().write();
    binary::add::run([target, source], Dest::Into(target))?;
    target.storage().bump_version();
    Ok(())
}

pub use pointwise::check_storable;

/// The row of a name.
pub fn find(name: &str) -> Option<&'static Row> {
    static INDEX: OnceLock<HashMap<&'static str, &'static Row>> = OnceLock::new();
    INDEX.get_or_init(|| table().map(|row| (row.name, row)).collect()).get(name).copied()
}

const FAMILIES: &[&[Row]] = &[
    activation::ROWS,
    activation::FUNCTIONS,
    binary::ROWS,
    cast::ROWS,
    close::ROWS,
    compare::ROWS,
    composed::ROWS,
    criteria::ROWS,
    copies::ROWS,
    create::ROWS,
    dropout::ROWS,
    embedding::ROWS,
    extrema::ROWS,
    index::ROWS,
    integer::ROWS,
    join::ROWS,
    linalg::cholesky::ROWS,
    linalg::composed::ROWS,
    linalg::lu::ROWS,
    linalg::norms::ROWS,
    linalg::pseudo::ROWS,
    linalg::qr::ROWS,
    linalg::spectral::ROWS,
    matmul::ROWS,
    moments::ROWS,
    norm::ROWS,
    normalise::ROWS,
    part::ROWS,
    permute::ROWS,
    pieces::ROWS,
    random::ROWS,
    reduce::ROWS,
    repeat::ROWS,
    scan::ROWS,
    select::ROWS,
    sequence::ROWS,
    shapes::ROWS,
    slices::ROWS,
    sort::ROWS,
    strided::ROWS,
    ternary::ROWS,
    triangle::ROWS,
    unary::ROWS,
    view::ROWS,
    window::ROWS,
    fused::cross_entropy::ROWS,
    fused::linear::ROWS,
    fused::loss::ROWS,
    fused::loss::FUNCTIONS,
    fused::softmax::ROWS,
];

/// Every operation there is.
pub fn table() -> impl Iterator<Item = &'static Row> {
    FAMILIES.iter().copied().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_signature_is_well_formed_and_names_are_unique() {
        let mut names = std::collections::HashSet::new();
        for row in table() {
            for name in std::iter::once(&row.name).chain(row.aliases) {
                assert!(names.insert(*name), "{name} stands twice in the table");
            }
            assert!(!row.signatures.is_empty() && !row.doc.is_empty(), "{}", row.name);
            for text in row.signatures {
                let signature = Signature::parse(text);
                if row.has(tags::METHOD) {
                    let first = &signature.params[0];
                    assert!(
                        matches!(first.kind, ParamKind::Tensor | ParamKind::Operand),
                        "{}: methods start with a tensor",
                        row.name
                    );
                }
            }
        }
    }
}
