//! Running sums and products along an axis, and reversal.

use super::index::{Scattered, scatter};
use super::places::Combine;
use super::reduce::{any, pad, part};
use super::tags::*;
use super::view::{Take, index_view};
use super::{Call, Dest, NamedFields, Output, Row, binary, cast, compare, unary};
use crate::batch::{Batching, lift};
use crate::graph::{Attribute, Attributes, Context, Gradients, Op, forward::linear, record};
use crate::kernels::scan::{self, Scan};
use crate::layout::{Dims, wrap_dim};
use crate::tensor::Tensor;
use crate::{DType, Result, bail};
use smallvec::{SmallVec, smallvec};

/// A view that runs backwards along an axis; without history.
fn backwards(x: &Tensor, dim: usize) -> Result<Tensor> {
    let n = x.shape()[dim];
    let mut takes = part(x.shape(), dim, 0, n);
    takes[dim] = Take::Range { start: n.saturating_sub(1), step: -1, len: n };
    index_view("", &x.detach(), &takes)
}

/// Runs a scan kernel, from the end if `reverse`; nothing is recorded.
#[allow(unsafe_code)]
fn run(
    op: &'static str,
    kind: Scan,
    x: &Tensor,
    dim: usize,
    reverse: bool,
    dtype: DType,
) -> Result<Tensor> {
    let out = Tensor::uninitialised(op, x.shape(), dtype)?;
    if x.ndim() == 0 {
        out.copy_raw(x);
        return Ok(out);
    }
    let compute = match dtype {
        DType::Float16 | DType::BFloat16 => DType::Float32,
        d if d.is_floating() => DType::Float64,
        _ => DType::Int64,
    };
    let (from, to) = match reverse {
        true => (backwards(x, dim)?, backwards(&out, dim)?),
        false => (x.detach(), out.detach()),
    };
    // SAFETY: both layouts have the same shape and lie inside their storages; `out` is new.
    unsafe { scan::scan(kind, compute, x.shape(), dim, from.operand(), to.operand(), None) };
    Ok(out)
}

/// The running sum, from the end if `reverse`; each is the adjoint of the other.
fn running_sum(x: &Tensor, dim: usize, reverse: bool, dtype: DType) -> Result<Tensor> {
    struct Rule {
        dim: usize,
        reverse: bool,
    }
    impl Op for Rule {
        fn name(&self) -> &'static str {
            "CumsumBackward0"
        }

        fn attributes(&self) -> Attributes {
            vec![("dim", Attribute::int(self.dim))]
        }
        fn backward(&self, _: &Context, grads: &[Option<Tensor>]) -> Result<Gradients> {
            let Some(g) = &grads[0] else { return Ok(smallvec![None]) };
            Ok(smallvec![Some(running_sum(g, self.dim, !self.reverse, g.dtype())?)])
        }
        fn jvp(
            &self,
            _: &Context,
            v: &[Option<Tensor>],
            y: &[&Tensor],
        ) -> Result<Option<Gradients>> {
            linear(v, |v| running_sum(v, self.dim, self.reverse, y[0].dtype()))
        }
    }
    if x.is_batched() && x.ndim() > 0 {
        return lift::over(x, |x, k| running_sum(x, dim + k, reverse, dtype));
    }
    let y = run("cumsum", Scan::Sum, x, dim, reverse, dtype)?;
    if dtype.is_floating() && record::recording(&[x]) {
        record::record(&y, &[x], &[], Box::new(Rule { dim, reverse }))?;
    }
    Ok(y)
}

fn total_dtype(x: &Tensor, dtype: Option<DType>) -> DType {
    dtype.unwrap_or(if x.dtype().is_integral() { DType::Int64 } else { x.dtype() })
}

/// Running sums along an axis; whole numbers are added in int64.
pub fn cumsum(x: &Tensor, dim: i64, dtype: Option<DType>) -> Result<Tensor> {
    running_sum(x, wrap_dim(dim, x.ndim())?, false, total_dtype(x, dtype))
}

/// Running products along an axis; whole numbers are multiplied in int64.
pub fn cumprod(x: &Tensor, dim: i64, dtype: Option<DType>) -> Result<Tensor> {
    let dim = wrap_dim(dim, x.ndim())?;
    let dtype = total_dtype(x, dtype);
    let y = run("cumprod", Scan::Prod, x, dim, false, dtype)?;
    if dtype.is_floating() && record::recording(&[x]) {
        record::record(&y, &[x], &[(0, x), (1, &y)], Box::new(ProductRule(dim)))?;
    }
    Ok(y)
}

struct ProductRule(usize);

impl Op for ProductRule {
    fn name(&self) -> &'static str {
        "CumprodBackward0"
    }

    fn attributes(&self) -> Attributes {
        vec![
            ("self", Attribute::Saved(0)),
            ("result", Attribute::Saved(1)),
            ("dim", Attribute::int(self.0)),
        ]
    }

    /// `Σ_{j≥k} gⱼ yⱼ / xₖ`, or without division where there are zeros.
    fn backward(&self, ctx: &Context, grads: &[Option<Tensor>]) -> Result<Gradients> {
        let Some(g) = &grads[0] else { return Ok(smallvec![None]) };
        let (x, y) = (ctx.saved(0), ctx.saved(1));
        if x.ndim() == 0 {
            return Ok(smallvec![Some(g.clone())]);
        }
        let gradient = if any(&unary::logical_not(y)?)? {
            without_division(g, x, self.0)?
        } else {
            running_sum(&(g * y), self.0, true, g.dtype())? / x
        };
        Ok(smallvec![Some(gradient)])
    }
}

/// `t` moved along an axis by `by` places, towards the start if negative; `value` comes in.
fn shifted(t: &Tensor, dim: usize, by: isize, value: f64) -> Result<Tensor> {
    let n = t.shape()[dim];
    let left = n - by.unsigned_abs().min(n);
    let (from, to) = if by < 0 { (n - left, 0) } else { (0, n - left) };
    let kept = index_view("SliceBackward0", t, &part(t.shape(), dim, from, left))?;
    pad(&kept, dim, to, n, value)
}

/// Solves `sₖ = gₖ + aₖ sₖ₊₁` along an axis by doubling: `sₖ` reaches `d` elements ahead and `aₖ`
/// is the factor of what lies beyond, so that `sₖ + aₖ sₖ₊ d` reaches twice as far.
///
/// It divides by nothing and is differentiable any number of times.
fn recurrence(g: &Tensor, a: &Tensor, dim: usize) -> Result<Tensor> {
    let n = g.shape()[dim];
    let (mut s, mut a) = (g.clone(), a.clone());
    let mut reach = 1;
    while reach < n {
        let step = -(reach as isize);
        s = binary::add(&s, &binary::mul(&a, &shifted(&s, dim, step, 0.0)?)?)?;
        reach *= 2;
        if reach < n {
            a = binary::mul(&a, &shifted(&a, dim, step, 0.0)?)?;
        }
    }
    Ok(s)
}

/// The gradient of a running product: `Π_{i<k} xᵢ · sₖ` with `sₖ = gₖ + xₖ₊₁ sₖ₊₁`.
fn without_division(g: &Tensor, x: &Tensor, dim: usize) -> Result<Tensor> {
    let before = cumprod(&shifted(x, dim, 1, 1.0)?, dim as i64, None)?;
    binary::mul(&before, &recurrence(g, &shifted(x, dim, -1, 0.0)?, dim)?)
}

/// `ln Σ_{i≤k} e^xᵢ` along an axis without overflow on the way, by doubling.
pub fn logcumsumexp(x: &Tensor, dim: i64) -> Result<Tensor> {
    struct Rule(usize);
    impl Op for Rule {
        fn name(&self) -> &'static str {
            "LogcumsumexpBackward0"
        }

        fn attributes(&self) -> Attributes {
            vec![
                ("self", Attribute::Saved(0)),
                ("result", Attribute::Saved(1)),
                ("dim", Attribute::int(self.0)),
            ]
        }
        /// `e^(xₖ - yₖ) sₖ` with `sₖ = gₖ + e^(yₖ - yₖ₊₁) sₖ₊₁`; no exponent is positive.
        fn backward(&self, ctx: &Context, grads: &[Option<Tensor>]) -> Result<Gradients> {
            let Some(g) = &grads[0] else { return Ok(smallvec![None]) };
            let (x, y) = (ctx.saved(0), ctx.saved(1));
            if x.ndim() == 0 {
                return Ok(smallvec![Some(g.clone())]);
            }
            let ratio = |a: &Tensor, b: &Tensor| -> Result<Tensor> {
                // Infinities of one sign have no difference, and share nothing.
                let (zero, low) = (binary::number(0.0)?, binary::number(f64::NEG_INFINITY)?);
                let same = compare::logical_and(&compare::eq(a, b)?, &unary::isinf(a)?)?;
                let (a, b) = (binary::where_(&same, &low, a)?, binary::where_(&same, &zero, b)?);
                unary::exp(&(a - b))
            };
            let s = recurrence(g, &ratio(y, &shifted(y, self.0, -1, f64::INFINITY)?)?, self.0)?;
            Ok(smallvec![Some(ratio(x, y)? * s)])
        }
    }
    let dim = wrap_dim(dim, x.ndim())?;
    if !x.dtype().is_floating() {
        let name = x.dtype().scalar_type_name();
        bail!(Unsupported, "", "\"logcumsumexp\" not implemented for '{name}'");
    }
    let mut y = cast::to_dtype(&x.detach(), x.dtype().compute())?;
    let (n, mut reach) = (if x.ndim() == 0 { 1 } else { x.shape()[dim] }, 1);
    while reach < n {
        let earlier = shifted(&y, dim, reach as isize, f64::NEG_INFINITY)?;
        y = binary::logaddexp(&y, &earlier)?;
        reach *= 2;
    }
    let y = if n > 1 { cast::to_dtype(&y, x.dtype())? } else { cast::clone(&x.detach())? };
    if record::recording(&[x]) {
        record::record(&y, &[x], &[(0, x), (1, &y)], Box::new(Rule(dim)))?;
    }
    Ok(y)
}

/// The largest or smallest element so far along an axis, and the position of its last occurrence.
#[allow(unsafe_code)]
fn running_extremum(
    [op, node]: [&'static str; 2],
    kind: Scan,
    x: &Tensor,
    dim: i64,
) -> Result<[Tensor; 2]> {
    struct Rule(&'static str, Dims, usize);
    impl Op for Rule {
        fn name(&self) -> &'static str {
            self.0
        }

        fn attributes(&self) -> Attributes {
            vec![("indices", Attribute::Saved(0)), ("dim", Attribute::int(self.2))]
        }
        fn backward(&self, ctx: &Context, grads: &[Option<Tensor>]) -> Result<Gradients> {
            let Some(g) = &grads[0] else { return Ok(smallvec![None]) };
            let (zeros, dim) = (Tensor::zeros(&self.1, g.dtype())?, self.2 as i64);
            let source = Scattered::Elements(g);
            Ok(smallvec![Some(scatter(
                &zeros,
                dim,
                ctx.saved(0),
                source,
                Combine::Add,
                Dest::New
            )?)])
        }
    }
    let dim = wrap_dim(dim, x.ndim())?;
    let values = Tensor::uninitialised(op, x.shape(), x.dtype())?;
    let indices = Tensor::uninitialised(op, x.shape(), DType::Int64)?;
    if x.ndim() == 0 {
        values.copy_raw(x);
        indices.fill_raw(crate::Scalar::Int(0));
    } else {
        let (compute, places) = (x.dtype().compute(), Some(indices.operand()));
        // SAFETY: all three layouts have the same shape and lie inside their storages; `values`
        // and `indices` are new.
        unsafe { scan::scan(kind, compute, x.shape(), dim, x.operand(), values.operand(), places) };
    }
    if record::recording(&[x]) {
        let rule = Rule(node, SmallVec::from_slice(x.shape()), dim);
        record::record_many(&[&values, &indices], &[x], &[(0, &indices)], Box::new(rule))?;
    }
    Ok([values, indices])
}

/// The largest element so far along an axis, and the position of its last occurrence.
pub fn cummax(x: &Tensor, dim: i64) -> Result<[Tensor; 2]> {
    running_extremum(["cummax", "CummaxBackward0"], Scan::Max, x, dim)
}

/// The smallest element so far along an axis, and the position of its last occurrence.
pub fn cummin(x: &Tensor, dim: i64) -> Result<[Tensor; 2]> {
    running_extremum(["cummin", "CumminBackward0"], Scan::Min, x, dim)
}

/// The elements in reverse order along the given axes, in new memory.
pub fn flip(x: &Tensor, dims: &[i64]) -> Result<Tensor> {
    struct Rule(SmallVec<[i64; 5]>);
    impl Op for Rule {
        fn name(&self) -> &'static str {
            "FlipBackward0"
        }

        fn attributes(&self) -> Attributes {
            vec![("dims", Attribute::ints(&self.0))]
        }
        fn backward(&self, _: &Context, grads: &[Option<Tensor>]) -> Result<Gradients> {
            let Some(g) = &grads[0] else { return Ok(smallvec![None]) };
            Ok(smallvec![Some(flip(g, &self.0)?)])
        }
        fn jvp(
            &self,
            _: &Context,
            v: &[Option<Tensor>],
            _: &[&Tensor],
        ) -> Result<Option<Gradients>> {
            linear(v, |v| flip(v, &self.0))
        }
    }
    if x.is_batched() && x.ndim() > 0 {
        let axes: SmallVec<[usize; 5]> =
            dims.iter().map(|&d| wrap_dim(d, x.ndim())).collect::<Result<_>>()?;
        return lift::over(x, |x, k| {
            let dims: SmallVec<[i64; 5]> = axes.iter().map(|d| (d + k) as i64).collect();
            flip(x, &dims)
        });
    }
    let mut seen: Dims = smallvec![0; x.ndim().max(1)];
    let mut view = x.detach();
    for &d in dims {
        let d = wrap_dim(d, x.ndim())?;
        seen[d] += 1;
        if seen[d] > 1 {
            bail!(Shape, "", "dim {d} appears multiple times in the list of dims");
        }
        if x.ndim() > 0 {
            view = backwards(&view, d)?;
        }
    }
    let y = Tensor::uninitialised("flip", x.shape(), x.dtype())?;
    y.copy_raw(&view);
    if record::recording(&[x]) {
        record::record(&y, &[x], &[], Box::new(Rule(SmallVec::from_slice(dims))))?;
    }
    Ok(y)
}

const DIM_ROW: &[&str] = &["(input, dim: int, *, dtype: dtype? = None)"];

static CUMMAX: NamedFields = NamedFields { name: "cummax", fields: &["values", "indices"] };
static CUMMIN: NamedFields = NamedFields { name: "cummin", fields: &["values", "indices"] };

/// This family's rows.
pub const ROWS: &[Row] = &[
    Row {
        name: "cumsum",
        aliases: &[],
        signatures: DIM_ROW,
        doc: &[" Running sums along an axis. Whole numbers are added in int64."],
        tags: ALL_FORMS,
        batch: Batching::Axes { extra: 0 },
        call: Call::Make(|c| Ok(cumsum(c.tensor(0), c.int(1), c.opt_dtype(2))?.into())),
    },
    Row {
        name: "cumprod",
        aliases: &[],
        signatures: DIM_ROW,
        doc: &[" Running products along an axis. Whole numbers are multiplied in int64."],
        tags: ALL_FORMS,
        batch: Batching::Axes { extra: 0 },
        call: Call::Make(|c| Ok(cumprod(c.tensor(0), c.int(1), c.opt_dtype(2))?.into())),
    },
    Row {
        name: "flip",
        aliases: &[],
        signatures: &["(input, dims: size)"],
        doc: &[" The elements in reverse order along the given axes, in new memory."],
        tags: FUNCTION | METHOD,
        batch: Batching::Axes { extra: 0 },
        call: Call::Make(|c| Ok(flip(c.tensor(0), c.ints(1))?.into())),
    },
    Row {
        name: "logcumsumexp",
        aliases: &[],
        signatures: &["(input, dim: int)"],
        doc: &[" `ln` of the running sums of `eˣ` along an axis, without overflow on the way."],
        tags: FUNCTION | METHOD | OUT,
        batch: Batching::Axes { extra: 0 },
        call: Call::Make(|c| Ok(logcumsumexp(c.tensor(0), c.int(1))?.into())),
    },
    Row {
        name: "cummax",
        aliases: &[],
        signatures: &["(input, dim: int) -> (Tensor values, Tensor indices)"],
        doc: &[" Largest element so far along an axis, and the position of its last occurrence."],
        tags: FUNCTION | METHOD,
        batch: Batching::Axes { extra: 0 },
        call: Call::Make(|c| Ok(Output::Named(&CUMMAX, cummax(c.tensor(0), c.int(1))?.into()))),
    },
    Row {
        name: "cummin",
        aliases: &[],
        signatures: &["(input, dim: int) -> (Tensor values, Tensor indices)"],
        doc: &[" Smallest element so far along an axis, and the position of its last occurrence."],
        tags: FUNCTION | METHOD,
        batch: Batching::Axes { extra: 0 },
        call: Call::Make(|c| Ok(Output::Named(&CUMMIN, cummin(c.tensor(0), c.int(1))?.into()))),
    },
];
