//! Running sums and products along an axis, and reversal.

use super::reduce::{any, pad, part};
use super::tags::*;
use super::view::{Take, index_view};
use super::{Call, Row, binary, unary};
use crate::graph::{Context, Gradients, Op, record};
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
        fn backward(&self, _: &Context, grads: &[Option<Tensor>]) -> Result<Gradients> {
            let Some(g) = &grads[0] else { return Ok(smallvec![None]) };
            Ok(smallvec![Some(running_sum(g, self.dim, !self.reverse, g.dtype())?)])
        }
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

/// The gradient of a running product: `Π_{i<k} xᵢ · sₖ` with `sₖ = gₖ + xₖ₊₁ sₖ₊₁`.
///
/// The recurrence is solved by doubling: `sₖ` reaches `d` elements ahead with factor `aₖ`, and
/// `sₖ + aₖ sₖ₊ d` reaches twice as far. Nothing is divided, and all is differentiable any number
/// of times.
fn without_division(g: &Tensor, x: &Tensor, dim: usize) -> Result<Tensor> {
    let n = x.shape()[dim];
    let before = cumprod(&shifted(x, dim, 1, 1.0)?, dim as i64, None)?;
    let (mut s, mut a) = (g.clone(), shifted(x, dim, -1, 0.0)?);
    let mut reach = 1;
    while reach < n {
        let step = -(reach as isize);
        s = binary::add(&s, &binary::mul(&a, &shifted(&s, dim, step, 0.0)?)?)?;
        reach *= 2;
        if reach < n {
            a = binary::mul(&a, &shifted(&a, dim, step, 0.0)?)?;
        }
    }
    binary::mul(&before, &s)
}

/// The elements in reverse order along the given axes, in new memory.
pub fn flip(x: &Tensor, dims: &[i64]) -> Result<Tensor> {
    struct Rule(SmallVec<[i64; 5]>);
    impl Op for Rule {
        fn name(&self) -> &'static str {
            "FlipBackward0"
        }
        fn backward(&self, _: &Context, grads: &[Option<Tensor>]) -> Result<Gradients> {
            let Some(g) = &grads[0] else { return Ok(smallvec![None]) };
            Ok(smallvec![Some(flip(g, &self.0)?)])
        }
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

/// This family's rows.
pub const ROWS: &[Row] = &[
    Row {
        name: "cumsum",
        aliases: &[],
        signatures: DIM_ROW,
        doc: &[" Running sums along an axis. Whole numbers are added in int64."],
        tags: ALL_FORMS,
        call: Call::Make(|c| Ok(cumsum(c.tensor(0), c.int(1), c.opt_dtype(2))?.into())),
    },
    Row {
        name: "cumprod",
        aliases: &[],
        signatures: DIM_ROW,
        doc: &[" Running products along an axis. Whole numbers are multiplied in int64."],
        tags: ALL_FORMS,
        call: Call::Make(|c| Ok(cumprod(c.tensor(0), c.int(1), c.opt_dtype(2))?.into())),
    },
    Row {
        name: "flip",
        aliases: &[],
        signatures: &["(input, dims: size)"],
        doc: &[" The elements in reverse order along the given axes, in new memory."],
        tags: FUNCTION | METHOD,
        call: Call::Make(|c| Ok(flip(c.tensor(0), c.ints(1))?.into())),
    },
];
