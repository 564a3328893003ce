//! Views in new memory: `NAME_copy` gives what the view `NAME` gives, but shares nothing.

use super::pieces::slice;
use super::strided::{as_strided, unfold};
use super::tags::*;
use super::triangle::diagonal;
use super::view::*;
use super::{Output, Row, cast};
use crate::Result;
use crate::batch::{Batching, axes};

/// What a view shows, copied.
fn copied(view: impl Into<Output>) -> Result<Output> {
    Ok(match view.into() {
        Output::Tensor(t) => cast::clone(&t)?.into(),
        Output::Tensors(all) => all.iter().map(cast::clone).collect::<Result<Vec<_>>>()?.into(),
        other => other,
    })
}

macro_rules! copy {
    ($name:literal, [$($sig:literal),+], |$c:ident| $view:expr) => {
        copy!($name, [$($sig),+], FUNCTION | OUT, |$c| $view)
    };
    ($name:literal, [$($sig:literal),+], $tags:expr, |$c:ident| $view:expr) => {
        Row::make(
            concat!($name, "_copy"),
            &[$($sig),+],
            $tags,
            &[concat!(" What the view `", $name, "` gives, in new memory.")],
            |$c| copied($view),
        )
    };
}

/// This family's rows.
pub const ROWS: &[Row] = &[
    copy!("alias", ["(input)"], |c| c.tensor(0).clone()).batched(Batching::First),
    copy!("expand", ["(input, size: size, *, implicit: bool = False)"], |c| {
        expand(c.tensor(0), c.ints(1))?
    })
    .batched(Batching::Own(axes::expand)),
    copy!(
        "as_strided",
        ["(input, size: int[], stride: int[], storage_offset: int? = None)"],
        |c| as_strided(c.tensor(0), c.ints(1), c.ints(2), c.opt_int(3))?
    )
    .batched(Batching::Own(axes::as_strided)),
    copy!("detach", ["(input)"], |c| c.tensor(0).detach()).batched(Batching::First),
    copy!("diagonal", ["(input, offset: int = 0, dim1: int = 0, dim2: int = 1)"], |c| {
        diagonal(c.tensor(0), c.int(1), c.int(2), c.int(3))?
    })
    .batched(Batching::Axes { extra: 0 }),
    copy!(
        "slice",
        ["(input, dim: int = 0, start: int? = None, end: int? = None, step: int = 1)"],
        |c| slice(c.tensor(0), c.int(1), c.opt_int(2), c.opt_int(3), c.int(4))?
    )
    .batched(Batching::Axes { extra: 0 }),
    copy!("unfold", ["(input, dimension: int, size: int, step: int)"], |c| {
        unfold(c.tensor(0), c.int(1), c.int(2), c.int(3))?
    })
    .batched(Batching::Axes { extra: 0 }),
    copy!("narrow", ["(input, dim: int, start: int, length: int)"], FUNCTION | METHOD | OUT, |c| {
        narrow(c.tensor(0), c.int(1), c.int(2), c.int(3))?
    })
    .batched(Batching::Axes { extra: 0 }),
    copy!("permute", ["(input, dims: size)"], |c| permute(c.tensor(0), c.ints(1))?)
        .batched(Batching::Own(axes::permute)),
    copy!("select", ["(input, dim: int, index: int)"], |c| {
        select(c.tensor(0), c.int(1), c.int(2))?
    })
    .batched(Batching::Axes { extra: 0 }),
    copy!("split", ["(input, split_size: int, dim: int = 0) -> Tensor[]"], |c| {
        split(c.tensor(0), c.int(1), c.int(2))?
    })
    .batched(Batching::Axes { extra: 0 }),
    copy!("split_with_sizes", ["(input, split_sizes: int[], dim: int = 0) -> Tensor[]"], |c| {
        split_with_sizes(c.tensor(0), c.ints(1), c.int(2))?
    })
    .batched(Batching::Axes { extra: 0 }),
    copy!("squeeze", ["(input)", "(input, dim: int[])"], |c| {
        squeeze(c.tensor(0), if c.overload == 0 { None } else { Some(c.ints(1)) })?
    })
    .batched(Batching::Own(axes::squeeze)),
    copy!("t", ["(input)"], |c| t(c.tensor(0))?).batched(Batching::Own(axes::t)),
    copy!("transpose", ["(input, dim0: int, dim1: int)"], |c| {
        transpose(c.tensor(0), c.int(1), c.int(2))?
    })
    .batched(Batching::Axes { extra: 0 }),
    copy!("unbind", ["(input, dim: int = 0) -> Tensor[]"], |c| unbind(c.tensor(0), c.int(1))?)
        .batched(Batching::Axes { extra: 0 }),
    copy!("unsqueeze", ["(input, dim: int)"], |c| unsqueeze(c.tensor(0), c.int(1))?)
        .batched(Batching::Axes { extra: 1 }),
    copy!("view", ["(input, size: size)"], |c| view(c.tensor(0), c.ints(1))?)
        .batched(Batching::Own(axes::reshape)),
];
