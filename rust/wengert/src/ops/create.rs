//! New tensors from sizes and numbers, and writes of one number.
//!
//! A value that the element type cannot hold is refused ([`check_value`]) instead of wrapping
//! silently. Numbers in a row have a file of their own, [`sequence`](super::sequence).
//!
//! `NAME_like` keeps the order of the axes in memory where the original is a dense permutation, as
//! PyTorch does ([`empty_like`]).

pub use super::sequence::{arange, linspace, logspace};
use super::tags::*;
use super::{Args, Call, Dest, Output, Row};
use crate::batch::{Batching, axes, compose};
use crate::dtype::{Category, DType, Scalar, default_float};
use crate::graph::inplace;
use crate::layout::{self, Dims, Layout};
use crate::memory_format::MemoryFormat;
use crate::random::Sample;
use crate::storage::Storage;
use crate::tensor::Tensor;
use crate::{Result, bail};

/// Sizes as users give them.
///
/// # Errors
/// If one is negative.
pub(crate) fn sizes(op: &'static str, sizes: &[i64]) -> Result<Dims> {
    let mut shape = Dims::new();
    for &size in sizes.iter().take_while(|&&s| s >= 0) {
        shape.push(size as usize);
    }
    match (shape.len() < sizes.len()).then_some(shape.len()) {
        None => Ok(shape),
        Some(d) if op == "zeros" => bail!(
            Value,
            op,
            "Dimension size must be non-negative. (size {} at dimension {d} of {sizes:?})",
            sizes[d]
        ),
        Some(d) => bail!(
            Value,
            "",
            "Trying to create tensor with negative dimension {}: {sizes:?} ({op}, dimension {d})",
            sizes[d]
        ),
    }
}

/// The dtype of an option list that begins at argument `i`: dtype, layout, device, pin_memory.
pub(crate) fn option_dtype(c: &Args, i: usize) -> Result<Option<DType>> {
    if c.bool(i + 3) {
        bail!(Unsupported, "", "Cannot access accelerator device when none is available.");
    }
    Ok(c.opt_dtype(i))
}

/// The name and the range of a type as PyTorch's sentence about overflow has them.
fn value_range(dtype: DType) -> (&'static str, f64, f64) {
    fn of<T: Sample>(name: &'static str) -> (&'static str, f64, f64) {
        let (least, greatest) = T::limits();
        (name, least, greatest)
    }
    match dtype {
        DType::Bool => ("bool", f64::NEG_INFINITY, f64::INFINITY),
        DType::UInt8 => of::<u8>("uint8_t"),
        DType::Int8 => of::<i8>("int8_t"),
        DType::Int16 => of::<i16>("int16_t"),
        DType::Int32 => of::<i32>("int"),
        DType::Int64 => of::<i64>("int64_t"),
        DType::Float16 => of::<half::f16>("c10::Half"),
        DType::BFloat16 => of::<half::bf16>("c10::BFloat16"),
        DType::Float32 => of::<f32>("float"),
        DType::Float64 => of::<f64>("double"),
    }
}

/// Refuses a number that `dtype` cannot hold.
///
/// As in PyTorch everything has a truth value, floats lose their fraction in integers, infinity
/// fits every floating type, and a negative integer may wrap to an unsigned one of the same
/// magnitude.
///
/// # Errors
/// `value cannot be converted to type uint8_t without overflow`.
///
/// ```
/// use wengert::{DType, Scalar, ops::create::check_value};
/// assert!(check_value(Scalar::Int(255), DType::UInt8).is_ok());
/// assert!(check_value(Scalar::Int(300), DType::UInt8).is_err());
/// ```
pub fn check_value(value: Scalar, dtype: DType) -> Result<()> {
    let (name, least, greatest) = value_range(dtype);
    let fits = match (value, dtype.category()) {
        (_, Category::Bool) | (Scalar::Bool(_), _) => true,
        (Scalar::Int(i), Category::Integer) => {
            let low = if dtype.is_signed() { least as i64 } else { -(greatest as i64) };
            // The doubles of int64 are rounded outwards, and saturate back to its limits.
            (low..=greatest as i64).contains(&i)
        }
        (Scalar::Int(i), _) => (least..=greatest).contains(&(i as f64)),
        (Scalar::Float(x), Category::Integer) => (least..=greatest).contains(&x),
        (Scalar::Float(x), _) => !x.is_finite() || (least..=greatest).contains(&x),
    };
    if fits {
        return Ok(());
    }
    bail!(
        Value,
        "",
        "value cannot be converted to type {name} without overflow: {value} is not in [{least}, \
         {greatest}] ({dtype})"
    )
}

/// One value everywhere: into `dest` if that is a tensor, whose type then decides.
fn fill(
    op: &'static str,
    wanted: &[i64],
    value: Option<Scalar>,
    dtype: Option<DType>,
    dest: Dest,
) -> Result<Tensor> {
    let shape = sizes(op, wanted)?;
    let out = match dest {
        Dest::New => {
            let dtype = dtype.unwrap_or_else(default_float);
            return filled(op, Layout::contiguous(op, &shape, dtype.size())?, value, dtype);
        }
        Dest::Into(out) => out,
    };
    if dtype.is_some_and(|d| d != out.dtype()) {
        bail!(DType, op, "dtype= is not the type of out=, {}", out.dtype());
    }
    if out.shape() != &shape[..] {
        return Err(super::pointwise::resize_error(op, out, &shape));
    }
    if let Some(value) = value {
        check_value(value, out.dtype())?;
        out.fill_raw(value);
    }
    Ok(out.clone())
}

/// New memory with one value everywhere; `None` leaves whatever is there.
pub(crate) fn filled(
    op: &'static str,
    layout: Layout,
    value: Option<Scalar>,
    dtype: DType,
) -> Result<Tensor> {
    layout::checked_numel(op, layout.shape(), dtype.size())?;
    let bytes = layout.numel() * dtype.size();
    let Some(value) = value else {
        return Ok(Tensor::from_parts(Storage::uninitialised(bytes)?, layout, dtype));
    };
    if value == Scalar::Int(0) {
        return Ok(Tensor::from_parts(Storage::zeroed(bytes)?, layout, dtype));
    }
    check_value(value, dtype)?;
    let out = Tensor::from_parts(Storage::uninitialised(bytes)?, layout, dtype);
    out.fill_raw(value);
    Ok(out)
}

/// A gapless layout of the shape of `x`, at offset 0, its axes in the same order in memory.
pub(crate) fn layout_like(x: &Tensor, dtype: DType) -> Result<Layout> {
    MemoryFormat::Preserve.layout("empty_like", x.layout(), dtype.size())
}

/// Uninitialised elements in a memory format.
///
/// # Errors
/// A size is negative; there is nothing to preserve; the format is for another number of axes.
pub fn empty(size: &[i64], dtype: Option<DType>, format: MemoryFormat) -> Result<Tensor> {
    if format == MemoryFormat::Preserve {
        bail!(Unsupported, "", "unsupported memory format Preserve (empty of size {size:?})");
    }
    let dtype = dtype.unwrap_or_else(default_float);
    let plain = Layout::contiguous("empty", &sizes("empty", size)?, dtype.size())?;
    filled("empty", format.layout("empty", &plain, dtype.size())?, None, dtype)
}

/// Zeros like another tensor.
pub fn zeros_like(x: &Tensor) -> Result<Tensor> {
    filled("zeros_like", layout_like(x, x.dtype())?, Some(Scalar::Int(0)), x.dtype())
}

/// Uninitialised elements with the shape, type and order of axes in memory of another tensor.
pub fn empty_like(x: &Tensor, dtype: Option<DType>) -> Result<Tensor> {
    let dtype = dtype.unwrap_or(x.dtype());
    filled("empty_like", layout_like(x, dtype)?, None, dtype)
}

/// The rows `NAME_like`, whose options begin at argument `i`.
fn like(op: &'static str, c: &Args, i: usize, value: Option<Scalar>) -> Result<Output> {
    let x = c.tensor(0);
    let dtype = option_dtype(c, i)?.unwrap_or(x.dtype());
    let format = c.memory_format(i + 4).unwrap_or(MemoryFormat::Preserve);
    let layout = format.layout(op, x.layout(), dtype.size())?;
    Ok(filled(op, layout, value, dtype)?.into())
}

/// The methods `new_NAME`, whose options begin at argument `i`.
fn fresh(op: &'static str, c: &Args, i: usize, value: Option<Scalar>) -> Result<Output> {
    let dtype = option_dtype(c, i)?.unwrap_or(c.tensor(0).dtype());
    Ok(fill(op, c.ints(1), value, Some(dtype), Dest::New)?.into())
}

/// Ones on the diagonal of a matrix, zeros elsewhere.
///
/// # Errors
/// A size is negative.
pub fn eye(rows: i64, columns: Option<i64>, dtype: Option<DType>) -> Result<Tensor> {
    let columns = columns.unwrap_or(rows);
    for (name, size) in [("n", rows), ("m", columns)] {
        if size < 0 {
            bail!(Value, "", "{name} must be greater or equal to 0, got {size} (eye)");
        }
    }
    let (rows, columns) = (rows as usize, columns as usize);
    let out = Tensor::zeros(&[rows, columns], dtype.unwrap_or_else(default_float))?;
    let diagonal = Layout::strided(&[rows.min(columns)], &[columns as isize + 1], 0);
    out.detach().view_as_layout(diagonal).fill_raw(Scalar::Bool(true));
    Ok(out)
}

/// Writes one number everywhere; the gradient of what was there is zero.
///
/// # Errors
/// `value` has dimensions, or the type cannot hold it; `x` may not be written to.
pub fn fill_(x: &Tensor, value: &Tensor) -> Result<()> {
    fill_as(["FillBackward2", "FillBackward3"], x, value)
}

/// [`fill_`] under the name of one of two nodes, for a number and for a tensor.
fn fill_as([number, tensor]: [&'static str; 2], x: &Tensor, value: &Tensor) -> Result<()> {
    if value.ndim() != 0 {
        bail!(
            Shape,
            "",
            "fill_ only supports 0-dimension value tensor but got tensor with {} dimensions.",
            value.ndim()
        );
    }
    if crate::graph::record::recording(&[value]) {
        return super::cast::copy_as(tensor, x, value);
    }
    let node = if value.is_wrapped_number() { number } else { tensor };
    overwrite(x, "fill", node, value.item()?)
}

/// Writes zeros; the gradient of what was there is zero.
///
/// # Errors
/// `x` may not be written to.
pub fn zero_(x: &Tensor) -> Result<()> {
    overwrite(x, "zero", "ZeroBackward0", Scalar::Bool(false))
}

fn overwrite(x: &Tensor, op: &'static str, node: &'static str, value: Scalar) -> Result<()> {
    check_value(value, x.dtype())?;
    inplace::check_uniform(x, op, false)?;
    let _write = x.storage().write();
    x.fill_raw(value);
    inplace::overwritten(x, node)
}

/// What every function that makes a tensor takes.
#[macro_export]
#[doc(hidden)]
macro_rules! signature_with_options {
    ($head:literal) => {
        concat!(
            "(",
            $head,
            ", dtype: dtype? = None, layout: layout? = None, device: device? = None, ",
            "pin_memory: bool = False)"
        )
    };
    ($head:literal, like) => {
        concat!(
            "(",
            $head,
            ", dtype: dtype? = None, layout: layout? = None, device: device? = None, ",
            "pin_memory: bool = False, memory_format: memory_format? = None)"
        )
    };
}
pub(super) use signature_with_options as signature;

/// What most functions are that make a tensor.
pub(super) const NEW: u32 = FUNCTION | FACTORY;
pub(super) const ONE: Scalar = Scalar::Int(1);
pub(super) const ZERO: Scalar = Scalar::Int(0);

/// A row of the family whose size comes first and whose options begin at argument 1.
macro_rules! of_size {
    ($name:literal, $value:expr, $doc:literal) => {
        Row {
            name: $name,
            aliases: &[],
            signatures: &[signature!("size: size, *")],
            doc: &[$doc],
            tags: NEW | OUT,
            batch: Batching::Each,
            call: Call::Into(|c, dest| fill($name, c.ints(0), $value, option_dtype(c, 1)?, dest)),
        }
    };
}

/// This family's rows.
pub const ROWS: &[Row] = &[
    of_size!("zeros", Some(ZERO), " Zeros of the given size."),
    of_size!("ones", Some(ONE), " Ones of the given size."),
    Row {
        name: "empty",
        aliases: &[],
        signatures: &[signature!("size: size, *", like)],
        doc: &[" Uninitialised elements of the given size."],
        tags: NEW | OUT,
        batch: Batching::Each,
        call: Call::Into(|c, dest| {
            let dtype = option_dtype(c, 1)?;
            match (c.memory_format(5), dest) {
                (Some(format), Dest::New) => empty(c.ints(0), dtype, format),
                _ => fill("empty", c.ints(0), None, dtype, dest),
            }
        }),
    },
    Row {
        name: "full",
        aliases: &[],
        signatures: &[signature!("size: int[], fill_value: Number, *")],
        doc: &[" One number everywhere; its kind decides the type unless one is given."],
        tags: NEW | OUT,
        batch: Batching::Each,
        call: Call::Into(|c, dest| {
            let inferred = match dest {
                Dest::New => Some(c.number(1).default_dtype()),
                Dest::Into(_) => None,
            };
            let dtype = option_dtype(c, 2)?.or(inferred);
            fill("full", c.ints(0), Some(c.number(1)), dtype, dest)
        }),
    },
    Row::make(
        "zeros_like",
        &[signature!("input, *", like)],
        NEW,
        &[" Zeros with the size and type of another tensor."],
        |c| like("zeros_like", c, 1, Some(ZERO)),
    )
    .batched(Batching::First),
    Row::make(
        "ones_like",
        &[signature!("input, *", like)],
        NEW,
        &[" Ones with the size and type of another tensor."],
        |c| like("ones_like", c, 1, Some(ONE)),
    )
    .batched(Batching::First),
    Row::make(
        "empty_like",
        &[signature!("input, *", like)],
        NEW,
        &[" Uninitialised elements with the size and type of another tensor."],
        |c| like("empty_like", c, 1, None),
    )
    .batched(Batching::First),
    Row::make(
        "full_like",
        &[signature!("input, fill_value: Number, *", like)],
        NEW,
        &[" One number everywhere, with the size and type of another tensor."],
        |c| like("full_like", c, 2, Some(c.number(1))),
    )
    .batched(Batching::First),
    Row::make(
        "new_zeros",
        &[signature!("input, size: size, *")],
        METHOD | FACTORY,
        &[" Zeros of the given size with the type of this tensor."],
        |c| fresh("new_zeros", c, 2, Some(ZERO)),
    )
    .batched(Batching::Own(axes::sized)),
    Row::make(
        "new_ones",
        &[signature!("input, size: size, *")],
        METHOD | FACTORY,
        &[" Ones of the given size with the type of this tensor."],
        |c| fresh("new_ones", c, 2, Some(ONE)),
    )
    .batched(Batching::Own(axes::sized)),
    Row::make(
        "new_empty",
        &[signature!("input, size: size, *")],
        METHOD | FACTORY,
        &[" Uninitialised elements of the given size with the type of this tensor."],
        |c| fresh("new_empty", c, 2, None),
    )
    .batched(Batching::Own(axes::sized)),
    Row::make(
        "new_full",
        &[signature!("input, size: int[], fill_value: Number, *")],
        METHOD | FACTORY,
        &[" One number everywhere, with the type of this tensor."],
        |c| fresh("new_full", c, 3, Some(c.number(2))),
    )
    .batched(Batching::Own(axes::sized)),
    Row::make(
        "eye",
        &[signature!("n: int, *"), signature!("n: int, m: int, *")],
        NEW | OUT,
        &[" Ones on the diagonal of a matrix, zeros elsewhere."],
        |c| match c.overload {
            0 => Ok(eye(c.int(0), None, option_dtype(c, 1)?)?.into()),
            _ => Ok(eye(c.int(0), Some(c.int(1)), option_dtype(c, 2)?)?.into()),
        },
    ),
    Row::make(
        "fill",
        &["(input, value: Operand)"],
        FUNCTION,
        &[" One number everywhere, in new memory; the gradient of `value` is the sum."],
        |c| {
            let y = super::cast::clone(c.tensor(0))?;
            fill_(&y, c.tensor(1))?;
            Ok(y.into())
        },
    )
    .batched(Batching::Own(compose::fill)),
    Row::make(
        "fill_",
        &["(input, value: Operand)"],
        METHOD,
        &[" Writes one number everywhere."],
        |c| {
            fill_(c.tensor(0), c.tensor(1))?;
            Ok(c.tensor(0).clone().into())
        },
    )
    .batched(Batching::Own(compose::fill)),
    Row::make("zero_", &["(input)"], METHOD, &[" Writes zeros everywhere."], |c| {
        zero_(c.tensor(0))?;
        Ok(c.tensor(0).clone().into())
    })
    .batched(Batching::First),
];
