//! Sliding windows: padding, convolution, pooling.
//!
//! A convolution is a product of matrices once its windows stand in columns, and a window is a view
//! (`unfold`). So these are compositions: of a padded copy, views, one copy to columns and one product,
//! with the derivatives that those have, to any order.

use super::extrema::max_dim;
use super::index::{gather, index_select};
use super::pieces::slice;
use super::product::{Mat, product};
use super::strided::unfold;
use super::tags::*;
use super::view::{permute, reshape_to, unsqueeze};
use super::{Args, Output, Row, Value, binary, cast, reduce, view};
use crate::batch::Batching;
use crate::graph::{
    Attribute, Attributes, Context, Gradients, Op, ValuesOnly, forward::linear, record,
};
use crate::layout::Dims;
use crate::tensor::Tensor;
use crate::{DType, Result, Scalar, bail};
use smallvec::{SmallVec, smallvec};

type Ints = SmallVec<[i64; 6]>;

/// Borders of so many values along the last axes, last axis first, as PyTorch counts them; negative
/// ones cut.
///
/// # Errors
/// There are more borders than axes, or nothing would be left.
pub fn constant_pad(x: &Tensor, pads: &[i64], value: f64) -> Result<Tensor> {
    struct Rule(Ints);
    impl Op for Rule {
        fn name(&self) -> &'static str {
            "ConstantPadNdBackward0"
        }

        fn attributes(&self) -> Attributes {
            vec![("pad", Attribute::ints(&self.0))]
        }

        fn backward(&self, _: &Context, grads: &[Option<Tensor>]) -> Result<Gradients> {
            let Some(g) = &grads[0] else { return Ok(smallvec![None]) };
            let back: Ints = self.0.iter().map(|p| -p).collect();
            Ok(smallvec![Some(constant_pad(g, &back, 0.0)?)])
        }

        fn jvp(
            &self,
            _: &Context,
            v: &[Option<Tensor>],
            _: &[&Tensor],
        ) -> Result<Option<Gradients>> {
            linear(v, |v| constant_pad(v, &self.0, 0.0))
        }
    }
    if pads.len() % 2 == 1 {
        bail!(Value, "", "Padding length must be divisible by 2");
    }
    if pads.len() / 2 > x.ndim() {
        bail!(
            Shape,
            "",
            "Padding length should be less than or equal to two times the input dimension but got \
             padding length {} and input of dimension {}",
            pads.len(),
            x.ndim()
        );
    }
    let mut shape = Dims::from_slice(x.shape());
    for (k, pair) in pads.chunks_exact(2).enumerate() {
        let d = x.ndim() - 1 - k;
        let size = (shape[d] as i64).checked_add(pair[0]).and_then(|s| s.checked_add(pair[1]));
        match size {
            Some(size) if size >= 0 => shape[d] = size as usize,
            Some(size) => bail!(
                Value,
                "",
                "The input size {}, plus negative padding {} and {} resulted in a negative output \
                 size, which is invalid. Check dimension {d} of your input. ({size})",
                shape[d],
                pair[0],
                pair[1]
            ),
            None => bail!(Overflow, "", "pad: {} and {} do not fit 64 bits", pair[0], pair[1]),
        }
    }
    let y = {
        let _off = ValuesOnly::new();
        let y = Tensor::full(&shape, value, x.dtype())?;
        let (mut from, mut to) = (x.detach(), y.detach());
        for (k, pair) in pads.chunks_exact(2).enumerate() {
            let d = (x.ndim() - 1 - k) as i64;
            let cut = |t: &Tensor, [a, b]: [i64; 2]| {
                let size = t.shape()[d as usize] as i64;
                let (a, b) = (a.max(0).min(size), b.max(0));
                view::narrow(t, d, a, (size - a - b).max(0))
            };
            from = cut(&from, [-pair[0], -pair[1]])?;
            to = cut(&to, [pair[0], pair[1]])?;
        }
        to.copy_raw(&from);
        y
    };
    if record::recording(&[x]) {
        record::record(&y, &[x], &[], Box::new(Rule(pads.into())))?;
    }
    Ok(y)
}

/// Borders made of the tensor's own elements.
fn pad_with_own(x: &Tensor, pads: &[i64], mode: &str) -> Result<Tensor> {
    if pads.len() % 2 == 1 || pads.len() / 2 > x.ndim() {
        bail!(
            Value,
            "",
            "Padding size {} is not supported for {}D input tensor.",
            pads.len(),
            x.ndim()
        );
    }
    let mut y = x.clone();
    for (k, pair) in pads.chunks_exact(2).enumerate() {
        let d = x.ndim() - 1 - k;
        let n = x.shape()[d] as i64;
        let most = match mode {
            "reflect" => n - 1,
            "circular" => n,
            _ => i64::MAX,
        };
        if pair.iter().any(|p| *p > most) || n == 0 {
            bail!(
                Shape,
                "",
                "Padding size should be less than the corresponding input dimension, but got: padding \
                 ({}, {}) at dimension {d} of input {:?} (mode '{mode}')",
                pair[0],
                pair[1],
                x.shape()
            );
        }
        let size = n.checked_add(pair[0]).and_then(|s| s.checked_add(pair[1])).unwrap_or(-1);
        if size < 0 {
            bail!(Value, "", "pad: the size of dimension {d} would be negative");
        }
        let place = |i: i64| match mode {
            "reflect" => {
                let i = (i - pair[0]).abs();
                if i < n { i } else { 2 * (n - 1) - i }
            }
            "circular" => (i - pair[0]).rem_euclid(n),
            _ => (i - pair[0]).clamp(0, n - 1),
        };
        let index = Tensor::zeros(&[size as usize], DType::Int64)?;
        index.fill_with(|all: &mut [i64]| (0..).zip(all).for_each(|(i, at)| *at = place(i)));
        y = index_select(&y, d as i64, &index)?;
    }
    Ok(y)
}

fn pad_row(c: &Args) -> Result<Output> {
    let (x, pads, mode) = (c.tensor(0), c.ints(1), c.str(2));
    let value = c.opt_number(3).map(|n| n.to_f64());
    match mode {
        "constant" => Ok(constant_pad(x, pads, value.unwrap_or(0.0))?.into()),
        _ if value.is_some_and(|v| v != 0.0) => {
            bail!(Value, "", "Padding mode \"{mode}\" doesn't take in value argument")
        }
        "circular" if pads.iter().any(|&p| p < 0) => {
            // What is cut off does not come around.
            let cut: Ints = pads.iter().map(|&p| p.min(0)).collect();
            let around: Ints = pads.iter().map(|&p| p.max(0)).collect();
            Ok(pad_with_own(&constant_pad(x, &cut, 0.0)?, &around, mode)?.into())
        }
        "reflect" | "replicate" | "circular" => Ok(pad_with_own(x, pads, mode)?.into()),
        other => bail!(Unsupported, "", "Unrecognised padding mode {other}"),
    }
}

/// A parameter with a number per spatial axis, or one for all.
fn per_axis(c: &Args, i: usize, n: usize, name: &str) -> Result<Option<Ints>> {
    let all: Ints = match &c.values[i] {
        Value::Ints(all) if all.len() == 1 => Ints::from_elem(all[0], n),
        Value::Ints(all) if all.len() == n => all.iter().copied().collect(),
        Value::Ints(all) if all.is_empty() => return Ok(None),
        Value::Ints(all) => {
            bail!(
                Value,
                "",
                "expected {name} to be a single integer value or a list of {n} values to \
                              match the convolution dimensions, but got {name}={all:?}"
            )
        }
        Value::Number(Scalar::Int(i)) => Ints::from_elem(*i, n),
        _ => return Ok(None),
    };
    Ok(Some(all))
}

/// Windows over the last `k.len()` axes, whose own axes come last: a view.
fn windows(x: &Tensor, k: &[i64], stride: &[i64], dilation: &[i64]) -> Result<Tensor> {
    let first = x.ndim() - k.len();
    let mut y = x.clone();
    for d in 0..k.len() {
        let reach = (k[d] - 1) * dilation[d] + 1;
        y = unfold(&y, (first + d) as i64, reach, stride[d])?;
        if dilation[d] > 1 {
            y = slice(&y, -1, None, None, dilation[d])?;
        }
    }
    Ok(y)
}

/// Numbers that must be positive.
fn check_positive(name: &str, what: &str, numbers: &[i64]) -> Result<()> {
    if numbers.iter().any(|&n| n < 1 || n > i32::MAX as i64) {
        bail!(Value, "", "{name}: {what} should be greater than zero, but got {numbers:?}");
    }
    Ok(())
}

/// Borders on both sides of each of the last axes, last axis first.
fn both_sides(padding: &[i64]) -> Ints {
    padding.iter().rev().flat_map(|&p| [p, p]).collect()
}

/// `F.conv1d`, `F.conv2d`, `F.conv3d`: of `n` spatial axes.
fn convolution(c: &Args, n: usize) -> Result<Output> {
    let name = ["conv1d", "conv2d", "conv3d"][n - 1];
    let (x, w, bias) = (c.tensor(0), c.tensor(1), c.opt_tensor(2));
    let stride = per_axis(c, 3, n, "stride")?.unwrap_or_else(|| Ints::from_elem(1, n));
    let dilation = per_axis(c, 5, n, "dilation")?.unwrap_or_else(|| Ints::from_elem(1, n));
    let groups = c.int(6);
    check_positive(name, "stride", &stride)?;
    check_positive(name, "dilation", &dilation)?;
    check_positive(name, "groups", &[groups])?;
    let single = x.ndim() == n + 1;
    if w.ndim() != n + 2 || !(single || x.ndim() == n + 2) {
        bail!(
            Shape,
            "",
            "Expected {}D (unbatched) or {}D (batched) input to {name}, but got input of size: {:?} \
             (and weight of size {:?})",
            n + 1,
            n + 2,
            x.shape(),
            w.shape()
        );
    }
    if x.dtype() != w.dtype() || bias.is_some_and(|b| b.dtype() != x.dtype()) {
        let names = [x, w, bias.unwrap_or(w)].map(|t| t.dtype().scalar_type_name());
        bail!(
            DType,
            "",
            "Input type ({}) and weight type ({}) or bias type ({}) should be the same",
            names[0],
            names[1],
            names[2]
        );
    }
    let x = if single { unsqueeze(x, 0)? } else { x.clone() };
    let k: Ints = w.shape()[2..].iter().map(|&s| s as i64).collect();
    let (out, per_group, channels) = (w.shape()[0], w.shape()[1], x.shape()[1]);
    let g = groups as usize;
    if per_group.checked_mul(g) != Some(channels) || out % g != 0 {
        bail!(
            Shape,
            "",
            "Given groups={g}, weight of size {:?}, expected input{:?} to have {} channels, but got \
             {channels} channels instead",
            w.shape(),
            x.shape(),
            per_group.saturating_mul(g)
        );
    }
    if let Some(b) = bias
        && b.shape() != [out]
    {
        bail!(
            Shape,
            "",
            "Given weight of size {:?}, expected bias to be 1-dimensional with {out} elements, but got \
             bias of size {:?} instead",
            w.shape(),
            b.shape()
        );
    }
    let pads: Ints = match c.opt_str(4) {
        None => {
            let padding = per_axis(c, 4, n, "padding")?.unwrap_or_else(|| Ints::from_elem(0, n));
            if padding.iter().any(|&p| p < 0 || p > i32::MAX as i64) {
                bail!(Value, "", "negative padding is not supported ({name}: {:?})", &padding[..]);
            }
            both_sides(&padding)
        }
        Some("valid") => Ints::from_elem(0, 2 * n),
        Some("same") => {
            if stride.iter().any(|&s| s != 1) {
                bail!(Value, "", "padding='same' is not supported for strided convolutions");
            }
            let total = |d: usize| dilation[d] * (k[d] - 1);
            (0..n).rev().flat_map(|d| [total(d) / 2, total(d) - total(d) / 2]).collect()
        }
        Some(other) => {
            bail!(Value, "", "Invalid padding string: '{other}' ({name} knows 'valid' and 'same')")
        }
    };
    let padded = if pads.iter().all(|&p| p == 0) { x } else { constant_pad(&x, &pads, 0.0)? };
    for d in 0..n {
        let reach = dilation[d].saturating_mul(k[d] - 1).saturating_add(1);
        if k[d] < 1 || (padded.shape()[2 + d] as i64) < reach {
            bail!(
                Shape,
                "",
                "Calculated padded input size per channel: {:?}. Kernel size: {:?}. Kernel size can't be \
                 greater than actual input size",
                &padded.shape()[2..],
                &k[..]
            );
        }
    }
    let seen = windows(&padded, &k, &stride, &dilation)?;
    // (N, C, O…, k…) to (N, groups, C / groups · k…, O…).
    let count = seen.shape()[0];
    let outer: Dims = seen.shape()[2..2 + n].into();
    let order: Ints = [0, 1]
        .into_iter()
        .chain((2 + n..2 + 2 * n).map(|d| d as i64))
        .chain((2..2 + n).map(|d| d as i64))
        .collect();
    let kernel: usize = w.shape()[2..].iter().product();
    let places: usize = outer.iter().product();
    let columns = reshape_to(&permute(&seen, &order)?, &[count, g, per_group * kernel, places])?;
    let rows = reshape_to(w, &[g, out / g, per_group * kernel])?;
    let y = product(Mat(&rows, false), Mat(&columns, false), 1.0)?;
    let mut shape: Dims = smallvec![count, out];
    shape.extend_from_slice(&outer);
    let mut y = reshape_to(&y, &shape)?;
    if let Some(b) = bias {
        let mut wide = Dims::from_elem(1, n + 1);
        wide[0] = out;
        y = binary::add(&y, &reshape_to(b, &wide)?)?;
    }
    Ok(if single { view::squeeze(&y, Some(&[0]))? } else { y }.into())
}

/// How a pool sees its input: borders, with what `ceil_mode` adds, and windows.
struct Pool {
    k: Ints,
    stride: Ints,
    dilation: Ints,
    padding: Ints,
    /// What the last windows need beyond the border.
    extra: Ints,
}

impl Pool {
    fn of(name: &str, c: &Args, x: &Tensor, n: usize, dilation: Ints, ceil: bool) -> Result<Pool> {
        let Some(k) = per_axis(c, 1, n, "kernel_size")? else {
            bail!(
                Value,
                "",
                "{name}: kernel_size must either be a single int, or a tuple of {n} ints"
            );
        };
        let stride = per_axis(c, 2, n, "stride")?.unwrap_or_else(|| k.clone());
        let padding = per_axis(c, 3, n, "padding")?.unwrap_or_else(|| Ints::from_elem(0, n));
        check_positive(name, "kernel size", &k)?;
        check_positive(name, "stride", &stride)?;
        check_positive(name, "dilation", &dilation)?;
        if x.ndim() != n + 1 && x.ndim() != n + 2 {
            bail!(
                Shape,
                "",
                "{name}: Expected {}D or {}D (batch mode) tensor with optional 0 dim batch size for \
                 input, but got: {:?}",
                n + 1,
                n + 2,
                x.shape()
            );
        }
        let mut extra = Ints::new();
        for d in 0..n {
            if padding[d] < 0 {
                bail!(Value, "", "pad must be non-negative, but got pad: {} ({name})", padding[d]);
            }
            if padding[d] > ((k[d] - 1) * dilation[d] + 1) / 2 {
                bail!(
                    Value,
                    "",
                    "pad should be at most half of effective kernel size, but got pad={}, kernel_size={} \
                     and dilation={} ({name})",
                    padding[d],
                    k[d],
                    dilation[d]
                );
            }
            let size = x.shape()[x.ndim() - n + d] as i64;
            let free = size + 2 * padding[d] - dilation[d] * (k[d] - 1) - 1;
            let mut more = 0;
            if ceil && free >= 0 && free % stride[d] != 0 {
                let last = (free / stride[d] + 1) * stride[d];
                // A window that begins behind the input and its left border is none.
                if last < size + padding[d] {
                    more = stride[d] - free % stride[d];
                }
            }
            if free < 0 && !(ceil && free + stride[d] > 0 && size > 0) {
                bail!(
                    Shape,
                    "",
                    "{name}: Given input size {:?}, the calculated output size would be too small",
                    x.shape()
                );
            }
            extra.push(if free < 0 { -free } else { more });
        }
        Ok(Pool { k, stride, dilation, padding, extra })
    }

    /// The windows, each as one last axis.
    fn windows(&self, x: &Tensor, border: f64, beyond: f64) -> Result<Tensor> {
        let n = self.k.len();
        let mut x = x.clone();
        if self.padding.iter().any(|&p| p > 0) {
            x = constant_pad(&x, &both_sides(&self.padding), border)?;
        }
        if self.extra.iter().any(|&p| p > 0) {
            let pads: Ints = self.extra.iter().rev().flat_map(|&p| [0, p]).collect();
            x = constant_pad(&x, &pads, beyond)?;
        }
        let seen = windows(&x, &self.k, &self.stride, &self.dilation)?;
        let mut shape = Dims::from_slice(&seen.shape()[..seen.ndim() - n]);
        shape.push(seen.shape()[seen.ndim() - n..].iter().product());
        reshape_to(&seen, &shape)
    }
}

fn max_pool(c: &Args, n: usize) -> Result<Output> {
    let name = ["max_pool1d", "max_pool2d"][n - 1];
    let x = c.tensor(0);
    let dilation = per_axis(c, 4, n, "dilation")?.unwrap_or_else(|| Ints::from_elem(1, n));
    let pool = Pool::of(name, c, x, n, dilation, c.bool(5))?;
    let least = if x.dtype().is_floating() { f64::NEG_INFINITY } else { i64::MIN as f64 };
    let [y, place] = max_dim(&pool.windows(x, least, least)?, -1, false)?;
    if !c.bool(6) {
        return Ok(y.into());
    }
    // Windows of the positions, of which the same place is taken.
    let _off = ValuesOnly::new();
    let spatial = &x.shape()[x.ndim() - n..];
    let all: Vec<i64> = (0..spatial.iter().product::<usize>() as i64).collect();
    let seen = pool.windows(&Tensor::from_slice(&all, spatial)?, -1.0, -1.0)?;
    let mut shape = Dims::from_slice(y.shape());
    shape.push(seen.shape()[seen.ndim() - 1]);
    let seen = view::expand_to(&seen, &shape)?;
    let at = view::squeeze(&gather(&seen, -1, &unsqueeze(&place, -1)?)?, Some(&[-1]))?;
    Ok(vec![y, at].into())
}

fn average_pool(c: &Args, n: usize) -> Result<Output> {
    let name = ["avg_pool1d", "avg_pool2d"][n - 1];
    let x = c.tensor(0);
    if x.dtype() == DType::Bool {
        bail!(Unsupported, "", "\"avg_pool2d_out_frame\" not implemented for 'Bool'");
    }
    let (ceil, include) = (c.bool(4), c.bool(5));
    let pool = Pool::of(name, c, x, n, Ints::from_elem(1, n), ceil)?;
    let total = reduce::sum(&pool.windows(x, 0.0, 0.0)?, Some(&[-1]), false, None)?;
    let fixed = if n == 2 { c.opt_int(6) } else { None };
    let bordered = pool.padding.iter().any(|&p| p > 0) && !include;
    let divisor = match fixed {
        Some(0) => bail!(Value, "", "divisor must be not zero"),
        Some(number) => Tensor::wrapped(Scalar::Float(number as f64))?,
        None if bordered || pool.extra.iter().any(|&p| p > 0) => {
            let ones = Tensor::full(&x.shape()[x.ndim() - n..], 1.0, x.dtype())?;
            let inside = pool.windows(&ones, include as u8 as f64, 0.0)?;
            reduce::sum(&inside, Some(&[-1]), false, None)?
        }
        None => Tensor::wrapped(Scalar::Float(pool.k.iter().product::<i64>() as f64))?,
    };
    Ok(cast::to_dtype(&super::div(&total, &divisor)?, x.dtype())?.into())
}

const CONVOLUTION: &[&str] = &[
    "(input, weight, bias: Tensor? = None, stride: int[] = 1, padding: int[] = 0, dilation: int[] = 1, groups: int = 1)",
    "(input, weight, bias: Tensor? = None, stride: int[] = 1, padding: str = 'valid', dilation: int[] = 1, groups: int = 1)",
];
const MAX_POOL: &[&str] = &[
    "(input, kernel_size: int[], stride: int[]? = None, padding: int[] = 0, dilation: int[] = 1, ceil_mode: bool = False, return_indices: bool = False)",
];
const CONVOLVED: &[&str] = &[
    " The convolution (without flipping) of channels with windows of `weight`.",
    "",
    " `input` is (N, C, …) or (C, …), `weight` (out, C / groups, …). `padding` is a number of zeros on",
    " both sides, or 'valid' or 'same'.",
];

/// This family's rows.
pub const ROWS: &[Row] = &[
    Row::make(
        "nn.functional.pad",
        &["(input, pad: int[], mode: str = 'constant', value: float? = None)"],
        FUNCTION,
        &[
            " Borders on both sides of the last axes: `pad` is (left, right) of the last axis, then of",
            " the one before it, and so on. Negative numbers cut.",
            "",
            " `mode` is 'constant' (of `value`, or 0), 'reflect', 'replicate' or 'circular'.",
        ],
        pad_row,
    ).batched(Batching::Axes { extra: 0 }),
    Row {
        aliases: &["nn.functional.conv1d"],
        ..Row::make("conv1d", CONVOLUTION, FUNCTION, CONVOLVED, |c| convolution(c, 1))
    },
    Row {
        aliases: &["nn.functional.conv2d"],
        ..Row::make("conv2d", CONVOLUTION, FUNCTION, CONVOLVED, |c| convolution(c, 2))
    },
    Row {
        aliases: &["nn.functional.conv3d"],
        ..Row::make("conv3d", CONVOLUTION, FUNCTION, CONVOLVED, |c| convolution(c, 3))
    },
    Row {
        aliases: &["nn.functional.max_pool1d"],
        ..Row::make(
            "max_pool1d",
            MAX_POOL,
            FUNCTION,
            &[
                " The largest element of each window over the last axis; with `return_indices` its place, too.",
            ],
            |c| max_pool(c, 1),
        )
    },
    Row {
        aliases: &["nn.functional.max_pool2d"],
        ..Row::make(
            "max_pool2d",
            MAX_POOL,
            FUNCTION,
            &[
                " The largest element of each window over the last two axes; with `return_indices` its place.",
            ],
            |c| max_pool(c, 2),
        )
    },
    Row {
        aliases: &["nn.functional.avg_pool1d"],
        ..Row::make(
            "avg_pool1d",
            &[
                "(input, kernel_size: int[], stride: int[]? = None, padding: int[] = 0, ceil_mode: bool = False, count_include_pad: bool = True)",
            ],
            FUNCTION,
            &[" The mean of each window over the last axis."],
            |c| average_pool(c, 1),
        )
    },
    Row::make(
        "nn.functional.avg_pool2d",
        &[
            "(input, kernel_size: int[], stride: int[]? = None, padding: int[] = 0, ceil_mode: bool = False, count_include_pad: bool = True, divisor_override: int? = None)",
        ],
        FUNCTION | OUT,
        &[" The mean of each window over the last two axes."],
        |c| average_pool(c, 2),
    ),
];
