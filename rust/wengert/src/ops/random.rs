//! Random tensors and random writes: PyTorch's values for the same seed, bit for bit.
//!
//! Long draws are made piece by piece, and the generator is locked for each: between two of them the
//! loop looks for an interrupt, which may wait for the interpreter, and a thread that has the
//! interpreter may wait for the generator. For one thread the pieces are one stream.
//!
//! The numbers come from [`crate::random`], which fills slices. What is decided here is the order
//! in which a tensor's elements take them, and that is the order of their addresses: a transposed
//! or sliced tensor is filled along its memory ([`memory_order`]), never along its shape.
//!
//! An in-place function draws into new memory and copies. A slice over the target itself would be
//! undefined where another thread reads through another handle; the copy also means that a call
//! that fails leaves the target untouched. The written tensor keeps requiring grad if it did, with
//! a history that gives zero ([`inplace::overwritten`]), which is PyTorch's rule.

use super::create::{option_dtype, sizes};
use super::tags::*;
use super::{Args, Dest, Output, Row, binary, view};
use crate::dtype::{DType, default_float};
use crate::graph::inplace::{self, Forget};
use crate::graph::{ValuesOnly, record};
use crate::kernels::interrupt::{PIECE, Patience};
use crate::layout::{self, Dims, Layout, Strides};
use crate::memory_format::MemoryFormat;
use crate::ops::args::SharedGenerator;
use crate::random::{Generator, with_default};
use crate::tensor::Tensor;
use crate::{Result, bail, dispatch, signature_with_options as signature};
use smallvec::SmallVec;

/// The generator to draw from: the caller's, or that of the process.
type Source<'a> = Option<&'a SharedGenerator>;

fn draw<R>(source: Source, f: impl FnOnce(&mut Generator) -> R) -> R {
    match source {
        Some(generator) => f(&mut generator.lock()),
        None => with_default(f),
    }
}

/// A distribution with its parameters.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub enum Distribution {
    Uniform { from: f64, to: f64 },
    Normal { mean: f64, std: f64 },
    LogNormal { mean: f64, std: f64 },
    Exponential { lambda: f64 },
    Cauchy { median: f64, sigma: f64 },
    Geometric { p: f64 },
    Bernoulli { p: f64 },
    Integers { from: i64, to: Option<i64> },
    AnyInteger,
}

use Distribution::*;

/// Fills a new row-major tensor. `whole` says that the tensor it is drawn for is row-major itself:
/// only then do normals come in blocks.
fn fill(out: &Tensor, what: Distribution, whole: bool, source: Source) -> Result<()> {
    dispatch!(out.dtype(), T => out.fill_with::<T, _>(|out| {
        pieces(out, |out| draw(source, |g| match what {
            Uniform { from, to } => g.uniform(out, from, to),
            Normal { mean, std } if whole => g.normal(out, mean, std),
            Normal { mean, std } => g.normal_one_by_one(out, mean, std),
            LogNormal { mean, std } => g.log_normal(out, mean, std),
            Exponential { lambda } => g.exponential(out, lambda),
            Cauchy { median, sigma } => g.cauchy(out, median, sigma),
            Geometric { p } => g.geometric(out, p),
            Bernoulli { p } => g.bernoulli(out, p),
            Integers { from, to } => g.random_from_to(out, from, to),
            AnyInteger => {
                g.random(out);
                Ok(())
            }
        }))
    }))
}

/// Fills a slice from front to back. Pieces are whole blocks of normals, and the last one, which has
/// what remains, is at least as long as the others.
pub(super) fn pieces<T>(
    mut out: &mut [T],
    mut fill: impl FnMut(&mut [T]) -> Result<()>,
) -> Result<()> {
    let mut patience = Patience::over(out.len());
    while out.len() >= 2 * PIECE {
        let (piece, rest) = out.split_at_mut(PIECE);
        fill(piece)?;
        patience.look();
        out = rest;
    }
    fill(out)
}

/// A new tensor of random numbers.
///
/// ```
/// use wengert::{DType, ops::random::{Distribution, random}};
/// let x = random("rand", &[2, 3], DType::Float32, Distribution::Uniform { from: 0.0, to: 1.0 }, None)?;
/// assert_eq!(x.shape(), [2, 3]);
/// # Ok::<(), wengert::Error>(())
/// ```
///
/// # Errors
/// Those of the distribution in [`crate::random`].
pub fn random(
    op: &'static str,
    shape: &[usize],
    dtype: DType,
    what: Distribution,
    source: Source,
) -> Result<Tensor> {
    let out = Tensor::uninitialised(op, shape, dtype)?;
    fill(&out, what, true, source)?;
    Ok(out)
}

/// Random numbers in a layout without gaps.
fn random_in(layout: Layout, dtype: DType, what: Distribution, source: Source) -> Result<Tensor> {
    let flat = Tensor::uninitialised("rand_like", &[layout.numel()], dtype)?;
    fill(&flat, what, layout.is_contiguous(), source)?;
    Ok(Tensor::from_parts(flat.storage().clone(), layout, dtype))
}

/// The axes of a layout from the largest stride to the smallest, each with whether it runs
/// backwards: the order of addresses.
fn memory_order(layout: &Layout) -> SmallVec<[(usize, bool); 5]> {
    let strides = layout.strides();
    let mut axes: SmallVec<[(usize, bool); 5]> =
        (0..strides.len()).map(|d| (d, strides[d] < 0)).collect();
    axes.sort_by_key(|&(d, _)| std::cmp::Reverse(strides[d].unsigned_abs()));
    axes
}

/// A layout with its axes permuted and turned round.
fn reorder(layout: &Layout, axes: &[(usize, bool)]) -> Layout {
    let mut offset = layout.offset() as isize;
    let (mut shape, mut strides) = (Dims::new(), Strides::new());
    for &(d, backwards) in axes {
        let (size, stride) = (layout.shape()[d], layout.strides()[d]);
        if backwards && size > 0 {
            offset += (size as isize - 1) * stride;
        }
        shape.push(size);
        strides.push(if backwards { -stride } else { stride });
    }
    Layout::strided(&shape, &strides, offset as usize)
}

/// Overwrites `x` with random numbers.
///
/// # Errors
/// `x` may not be written to; those of the distribution.
pub fn random_(
    x: &Tensor,
    op: &'static str,
    node: &'static str,
    what: Distribution,
    source: Source,
) -> Result<()> {
    inplace::check(x, op, false)?;
    let order = reorder(x.layout(), &memory_order(x.layout()));
    let drawn = Tensor::uninitialised(op, order.shape(), x.dtype())?;
    fill(&drawn, what, x.is_contiguous(), source)?;
    x.detach().view_as_layout(order).copy_raw(&drawn);
    inplace::overwritten(x, node)
}

/// Ones with the probabilities `p`, which broadcast to the shape of `out`; as bools, in the order
/// of addresses of `out`.
fn flips(out: &Layout, p: &Tensor, source: Source) -> Result<Tensor> {
    let axes = memory_order(out);
    let target: SmallVec<[i64; 5]> = out.shape().iter().map(|&s| s as i64).collect();
    let p = view::expand(&p.detach(), &target)?;
    let p = p.detach().view_as_layout(reorder(p.layout(), &axes));
    let drawn = Tensor::uninitialised("bernoulli", p.shape(), DType::Bool)?;
    dispatch!(p.dtype(), P => {
        let p = p.to_vec::<P>()?;
        drawn.fill_with(|out: &mut [bool]| draw(source, |g| g.bernoulli_each(out, &p)))
    })?;
    Ok(drawn)
}

/// One with the probability at the same place of `p`, else zero.
///
/// # Errors
/// `p` is not floating, or holds something that is no probability.
pub fn bernoulli(p: &Tensor, source: Source) -> Result<Tensor> {
    let layout = Layout::contiguous("bernoulli", p.shape(), p.dtype().size())?;
    let out = Tensor::uninitialised("bernoulli", p.shape(), p.dtype())?;
    out.copy_raw(&flips(&layout, p, source)?);
    forgetting("BernoulliBackward0", out, &[p])
}

/// Overwrites `x` with ones with the probabilities `p`, broadcast to its shape, and zeros.
///
/// # Errors
/// As those of [`bernoulli`]; `p` does not broadcast; `x` may not be written to.
pub fn bernoulli_(x: &Tensor, p: &Tensor, source: Source) -> Result<()> {
    inplace::check(x, "bernoulli", p.requires_grad())?;
    let drawn = flips(x.layout(), p, source)?;
    x.detach().view_as_layout(reorder(x.layout(), &memory_order(x.layout()))).copy_raw(&drawn);
    inplace::overwritten(x, "BernoulliBackward1")
}

/// Records a result whose gradient with respect to its inputs is zero.
fn forgetting(node: &'static str, out: Tensor, inputs: &[&Tensor]) -> Result<Tensor> {
    if record::recording(inputs) {
        record::record(&out, inputs, &[], Box::new(Forget(node)))?;
    }
    Ok(out)
}

/// A parameter of [`normal`].
#[derive(Clone, Copy)]
pub enum Parameter<'a> {
    /// One for all elements.
    Number(f64),
    /// One for each element, broadcast.
    Tensor(&'a Tensor),
}

/// Normal numbers with means and deviations of which at least one is a tensor.
///
/// # Errors
/// A deviation is negative, shapes do not broadcast, or the result's type is not floating.
pub fn normal(mean: Parameter, std: Parameter, source: Source) -> Result<Tensor> {
    use Parameter::*;
    if let Tensor(std) = std
        && super::reduce::any(&super::compare::lt(std, &number(0.0)?)?)?
    {
        bail!(Value, "", "normal expects all elements of std >= 0.0 (std is a {std:?})");
    }
    let off = ValuesOnly::new();
    let (node, shape, model, scale) = match (mean, std) {
        (Tensor(m), Tensor(s)) => {
            ("NormalBackward3", layout::broadcast("normal", m.shape(), s.shape())?, m, 1.0)
        }
        (Tensor(m), Number(s)) => ("NormalBackward1", Dims::from_slice(m.shape()), m, s),
        (Number(_), Tensor(s)) => ("NormalBackward2", Dims::from_slice(s.shape()), s, 1.0),
        (Number(_), Number(_)) => bail!(Shape, "normal", "numbers alone give no size"),
    };
    let out = random("normal", &shape, model.dtype(), Normal { mean: 0.0, std: scale }, source)?;
    // Separate, rounded operations, as PyTorch's.
    if let Tensor(std) = std {
        binary::mul::run([&out, std], Dest::Into(&out))?;
    }
    match mean {
        Tensor(mean) => binary::add::run([&out, mean], Dest::Into(&out))?,
        Number(mean) => binary::add::run([&out, &number(mean)?], Dest::Into(&out))?,
    };
    drop(off);
    match (mean, std) {
        (Tensor(m), Tensor(s)) => forgetting(node, out, &[m, s]),
        _ => forgetting(node, out, &[model]),
    }
}

fn number(x: f64) -> Result<Tensor> {
    Tensor::wrapped(x.into())
}

/// The integers below `n` in random order.
///
/// # Errors
/// `n` is negative, or larger than the type can count.
pub fn randperm(n: i64, dtype: DType, source: Source) -> Result<Tensor> {
    let shape = sizes("randperm", &[n])?;
    if dtype == DType::Bool {
        bail!(Unsupported, "", "\"randperm\" not implemented for 'Bool'");
    }
    let exact = match dtype {
        DType::Float16 => Some(11),
        DType::Float32 => Some(24),
        DType::Float64 => Some(53),
        _ => None,
    };
    if let Some(bits) = exact
        && n > (1 << bits) + 1
    {
        bail!(
            Value,
            "",
            "n cannot be greater than {} for {} type. (randperm({n}))",
            (1i64 << bits) + 1,
            dtype.scalar_type_name()
        );
    }
    super::create::check_value((n - 1).max(0).into(), dtype)?;
    let places = Tensor::uninitialised("randperm", &shape, DType::Int64)?;
    places.fill_with(|out: &mut [i64]| draw(source, |g| g.permutation(out)));
    super::cast::to_dtype(&places, dtype)
}

/// `samples` indices per row of `weights` (one or two dimensions), each with a probability
/// proportional to its weight.
///
/// # Errors
/// Those of [`Generator::multinomial`].
pub fn multinomial(
    weights: &Tensor,
    samples: i64,
    replacement: bool,
    source: Source,
) -> Result<Tensor> {
    let (rows, categories) = match *weights.shape() {
        [categories] => (None, categories),
        [rows, categories] => (Some(rows), categories),
        _ => bail!(
            Shape,
            "",
            "prob_dist must be 1 or 2 dim (multinomial of shape {:?})",
            weights.shape()
        ),
    };
    let count = usize::try_from(samples).unwrap_or(0);
    if categories == 0 && rows != Some(0) {
        bail!(Shape, "multinomial", "there are no categories in shape {:?}", weights.shape());
    }
    let drawn = dispatch!(weights.dtype(), T => {
        let weights = weights.to_vec::<T>()?;
        draw(source, |g| g.multinomial(&weights, categories, count, replacement))
    })?;
    match rows {
        Some(rows) => Tensor::from_slice(&drawn, &[rows, count]),
        None => Tensor::from_slice(&drawn, &[count]),
    }
}

/// A row that writes random numbers into its first argument.
fn write(
    c: &Args,
    op: &'static str,
    node: &'static str,
    what: Distribution,
    generator: usize,
) -> Result<Output> {
    random_(c.tensor(0), op, node, what, c.generator(generator))?;
    Ok(c.tensor(0).clone().into())
}

/// A row that makes random numbers of a size given as argument `i`, with the generator after it
/// and the options after that.
fn of_size(
    c: &Args,
    op: &'static str,
    i: usize,
    dtype: DType,
    what: Distribution,
) -> Result<Output> {
    let shape = sizes(op, c.ints(i))?;
    let dtype = option_dtype(c, i + 2)?.unwrap_or(dtype);
    Ok(random(op, &shape, dtype, what, c.generator(i + 1))?.into())
}

/// A row that makes random numbers like its first argument, with the options from `i` on.
fn of_like(c: &Args, i: usize, what: Distribution) -> Result<Output> {
    let x = c.tensor(0);
    let dtype = option_dtype(c, i + 1)?.unwrap_or(x.dtype());
    let format = c.memory_format(i + 5).unwrap_or(MemoryFormat::Preserve);
    let layout = format.layout("rand_like", x.layout(), dtype.size())?;
    Ok(random_in(layout, dtype, what, c.generator(i))?.into())
}

const UNIT: Distribution = Uniform { from: 0.0, to: 1.0 };
const STANDARD: Distribution = Normal { mean: 0.0, std: 1.0 };
const NEW: u32 = FUNCTION | FACTORY | RANDOM;
const WRITE: u32 = METHOD | RANDOM;

/// This family's rows.
pub const ROWS: &[Row] = &[
    Row::make(
        "rand",
        &[signature!("size: size, *, generator: Generator? = None")],
        NEW | OUT,
        &[" Uniform numbers in [0, 1)."],
        |c| of_size(c, "rand", 0, default_float(), UNIT),
    ),
    Row::make(
        "randn",
        &[signature!("size: size, *, generator: Generator? = None")],
        NEW | OUT,
        &[" Standard normal numbers."],
        |c| of_size(c, "randn", 0, default_float(), STANDARD),
    ),
    Row::make(
        "randint",
        &[
            signature!("high: int, size: int[], *, generator: Generator? = None"),
            signature!("low: int, high: int, size: int[], *, generator: Generator? = None"),
        ],
        NEW | OUT,
        &[" Integers from `low` (0) up to `high`, without it."],
        |c| {
            let (from, to, size) = match c.overload {
                0 => (0, c.int(0), 1),
                _ => (c.int(0), c.int(1), 2),
            };
            of_size(c, "randint", size, DType::Int64, Integers { from, to: Some(to) })
        },
    ),
    Row::make(
        "rand_like",
        &[signature!("input, *, generator: Generator? = None", like)],
        NEW,
        &[" Uniform numbers in [0, 1) with the size and type of another tensor."],
        |c| of_like(c, 1, UNIT),
    ),
    Row::make(
        "randn_like",
        &[signature!("input, *, generator: Generator? = None", like)],
        NEW,
        &[" Standard normal numbers with the size and type of another tensor."],
        |c| of_like(c, 1, STANDARD),
    ),
    Row::make(
        "randint_like",
        &[
            signature!("input, high: int, *, generator: Generator? = None", like),
            signature!("input, low: int, high: int, *, generator: Generator? = None", like),
        ],
        NEW,
        &[" Integers from `low` (0) up to `high` with the size and type of another tensor."],
        |c| match c.overload {
            0 => of_like(c, 2, Integers { from: 0, to: Some(c.int(1)) }),
            _ => of_like(c, 3, Integers { from: c.int(1), to: Some(c.int(2)) }),
        },
    ),
    Row::make(
        "randperm",
        &[signature!("n: int, *, generator: Generator? = None")],
        NEW | OUT,
        &[" The integers below `n` in random order."],
        |c| {
            let dtype = option_dtype(c, 2)?.unwrap_or(DType::Int64);
            Ok(randperm(c.int(0), dtype, c.generator(1))?.into())
        },
    ),
    Row::make(
        "normal",
        &[
            "(mean, std, *, generator: Generator? = None)",
            "(mean, std: float = 1.0, *, generator: Generator? = None)",
            "(mean: float = 0.0, std, *, generator: Generator? = None)",
            signature!("mean: float, std: float, size: int[], *, generator: Generator? = None"),
        ],
        FUNCTION | OUT | FACTORY | RANDOM,
        &[" Normal numbers; mean and standard deviation may be tensors, one for each element."],
        |c| {
            use Parameter::{Number, Tensor};
            Ok(match c.overload {
                0 => normal(Tensor(c.tensor(0)), Tensor(c.tensor(1)), c.generator(2))?.into(),
                1 => normal(Tensor(c.tensor(0)), Number(c.float(1)), c.generator(2))?.into(),
                2 => normal(Number(c.float(0)), Tensor(c.tensor(1)), c.generator(2))?.into(),
                _ => {
                    let what = Normal { mean: c.float(0), std: c.float(1) };
                    of_size(c, "normal", 2, default_float(), what)?
                }
            })
        },
    ),
    Row::make(
        "bernoulli",
        &[
            "(input, *, generator: Generator? = None)",
            "(input, p: float, *, generator: Generator? = None)",
        ],
        FUNCTION | METHOD | OUT | RANDOM,
        &[" One with the probability at the same place of `input`, or with `p`; else zero."],
        |c| match c.overload {
            0 => Ok(bernoulli(c.tensor(0), c.generator(1))?.into()),
            _ => {
                let x = c.tensor(0);
                let what = Bernoulli { p: c.float(1) };
                Ok(random("bernoulli", x.shape(), x.dtype(), what, c.generator(2))?.into())
            }
        },
    ),
    Row::make(
        "multinomial",
        &["(input, num_samples: int, replacement: bool = False, *, generator: Generator? = None)"],
        FUNCTION | METHOD | OUT | RANDOM | NONDIFF,
        &[" Indices drawn with probabilities proportional to the weights in each row."],
        |c| Ok(multinomial(c.tensor(0), c.int(1), c.bool(2), c.generator(3))?.into()),
    ),
    Row::make(
        "uniform_",
        &["(input, from: float = 0.0, to: float = 1.0, *, generator: Generator? = None)"],
        WRITE,
        &[" Writes uniform numbers in [`from`, `to`)."],
        |c| {
            let what = Uniform { from: c.float(1), to: c.float(2) };
            write(c, "uniform", "UniformBackward0", what, 3)
        },
    ),
    Row::make(
        "normal_",
        &["(input, mean: float = 0.0, std: float = 1.0, *, generator: Generator? = None)"],
        WRITE,
        &[" Writes normal numbers."],
        |c| {
            let what = Normal { mean: c.float(1), std: c.float(2) };
            write(c, "normal", "NormalBackward0", what, 3)
        },
    ),
    Row::make(
        "bernoulli_",
        &[
            "(input, p: float = 0.5, *, generator: Generator? = None)",
            "(input, p, *, generator: Generator? = None)",
        ],
        WRITE,
        &[" Writes one with probability `p`, which may be a tensor, else zero."],
        |c| match c.overload {
            0 => write(c, "bernoulli", "BernoulliBackward2", Bernoulli { p: c.float(1) }, 2),
            _ => {
                bernoulli_(c.tensor(0), c.tensor(1), c.generator(2))?;
                Ok(c.tensor(0).clone().into())
            }
        },
    ),
    Row::make(
        "random_",
        &[
            "(input, *, generator: Generator? = None)",
            "(input, to: int, *, generator: Generator? = None)",
            "(input, from: int, to: int?, *, generator: Generator? = None)",
        ],
        WRITE,
        &[
            " Writes integers: from `from` (0) up to `to`, without it, or as far as the type counts.",
        ],
        |c| match c.overload {
            0 => write(c, "random", "RandomBackward2", AnyInteger, 1),
            1 => {
                let what = Integers { from: 0, to: Some(c.int(1)) };
                write(c, "random", "RandomBackward1", what, 2)
            }
            _ => {
                let what = Integers { from: c.int(1), to: c.opt_int(2) };
                write(c, "random", "RandomBackward0", what, 3)
            }
        },
    ),
    Row::make(
        "exponential_",
        &["(input, lambd: float = 1.0, *, generator: Generator? = None)"],
        WRITE,
        &[" Writes exponential numbers with rate `lambd`."],
        |c| {
            let what = Exponential { lambda: c.float(1) };
            write(c, "exponential", "ExponentialBackward0", what, 2)
        },
    ),
    Row::make(
        "log_normal_",
        &["(input, mean: float = 1.0, std: float = 2.0, *, generator: Generator? = None)"],
        WRITE,
        &[" Writes exponentials of normal numbers with these parameters."],
        |c| {
            let what = LogNormal { mean: c.float(1), std: c.float(2) };
            write(c, "log_normal", "LogNormalBackward0", what, 3)
        },
    ),
    Row::make(
        "cauchy_",
        &["(input, median: float = 0.0, sigma: float = 1.0, *, generator: Generator? = None)"],
        WRITE,
        &[" Writes Cauchy-distributed numbers."],
        |c| {
            let what = Cauchy { median: c.float(1), sigma: c.float(2) };
            write(c, "cauchy", "CauchyBackward0", what, 3)
        },
    ),
    Row::make(
        "geometric_",
        &["(input, p: float, *, generator: Generator? = None)"],
        WRITE,
        &[" Writes numbers of trials up to the first success, of probability `p`."],
        |c| write(c, "geometric", "GeometricBackward0", Geometric { p: c.float(1) }, 2),
    ),
];
