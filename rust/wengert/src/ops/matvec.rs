//! Products with vectors: of a matrix and a vector, and of two vectors.
//!
//! For the kernel a vector is a matrix of one column or one row. The rules are products of the same
//! kinds: the gradient of a matrix is an outer product, that of a vector a product with the matrix the
//! other way round.

use super::Dest;
use super::product::{
    A, B, Mat, check_number, fill_from, mixed_types, multiply, product, saves, scaled, written,
};
use super::{reduce, view};
use crate::batch;
use crate::graph::{Attribute, Attributes, Context, Gradients, Op, record};
use crate::layout::Layout;
use crate::tensor::Tensor;
use crate::{Result, bail};
use smallvec::{SmallVec, smallvec};

/// A vector as the one column, or the one row, of a matrix; not recorded.
fn as_matrix(v: &Tensor, column: bool) -> Tensor {
    let (n, step) = (v.shape()[0], v.layout().strides()[0]);
    let (shape, strides) = if column { ([n, 1], [step, 1]) } else { ([1, n], [1, step]) };
    let layout = Layout::strided(&shape, &strides, v.layout().offset());
    Tensor::from_parts(v.storage().clone(), layout, v.dtype())
}

/// The rule of `beta · input + alpha · op(a) @ v`; without `beta`, there is no input.
struct MatVec {
    transposed: bool,
    alpha: f64,
    beta: Option<f64>,
}

impl Op for MatVec {
    fn name(&self) -> &'static str {
        if self.beta.is_some() { "AddmvBackward0" } else { "MvBackward0" }
    }

    fn attributes(&self) -> Attributes {
        match self.beta {
            Some(beta) => vec![
                ("mat", Attribute::Saved(A)),
                ("vec", Attribute::Saved(B)),
                ("alpha", Attribute::float(self.alpha)),
                ("beta", Attribute::float(beta)),
            ],
            None => vec![("self", Attribute::Saved(A)), ("vec", Attribute::Saved(B))],
        }
    }

    fn backward(&self, ctx: &Context, grads: &[Option<Tensor>]) -> Result<Gradients> {
        let Some(g) = &grads[0] else { return Ok(Gradients::new()) };
        let mut out = Gradients::new();
        if let Some(beta) = self.beta {
            out.push(if ctx.needs(0) { Some(scaled(g, beta)?) } else { None });
        }
        let first = out.len();
        out.push(if ctx.needs(first) {
            let v = ctx.saved(B);
            let (column, row) = if self.transposed { (v, g) } else { (g, v) };
            let (column, row) = (view::unsqueeze(column, 1)?, view::unsqueeze(row, 0)?);
            Some(product(Mat(&column, false), Mat(&row, false), self.alpha)?)
        } else {
            None
        });
        out.push(if ctx.needs(first + 1) {
            let a = Mat(ctx.saved(A), !self.transposed);
            Some(matvec(None, a, g, [0.0, self.alpha], Dest::New)?)
        } else {
            None
        });
        Ok(out)
    }

    fn jvp(&self, ctx: &Context, t: &[Option<Tensor>], y: &[&Tensor]) -> Result<Option<Gradients>> {
        let mut sum = None;
        if let (Some(beta), Some(input)) = (self.beta, &t[0]) {
            sum = Some(view::expand_to(&scaled(input, beta)?, y[0].shape())?);
        }
        let first = self.beta.is_some() as usize;
        let mut add = |a: &Tensor, v: &Tensor| -> Result<()> {
            let a = Mat(a, self.transposed);
            let beta = sum.is_some() as u8 as f64;
            sum = Some(matvec(sum.as_ref(), a, v, [beta, self.alpha], Dest::New)?);
            Ok(())
        };
        if let Some(da) = &t[first] {
            add(da, ctx.saved(B))?;
        }
        if let Some(dv) = &t[first + 1] {
            add(ctx.saved(A), dv)?;
        }
        Ok(Some(smallvec![sum]))
    }
}

/// `beta · input + alpha · op(a) @ v`, or without an input `alpha · op(a) @ v`.
pub(crate) fn matvec(
    input: Option<&Tensor>,
    a: Mat,
    v: &Tensor,
    [beta, alpha]: [f64; 2],
    dest: Dest,
) -> Result<Tensor> {
    if a.0.ndim() != 2 || v.ndim() != 1 {
        let rank = input.map_or(1, Tensor::ndim);
        let (m, v) = (a.0.ndim(), v.ndim());
        bail!(Shape, "", "vector + matrix @ vector expected, got {rank}, {m}, {v}");
    }
    let [m, k] = a.size();
    let len = v.shape()[0];
    if k != len || input.is_some_and(|i| !reduce::is_expandable(i.shape(), &[m])) {
        let size = input.map_or(m, |i| i.shape().first().copied().unwrap_or(1));
        bail!(Shape, "", "size mismatch, got input ({size}), mat ({m}x{k}), vec ({len})");
    }
    let dtype = a.0.dtype();
    if v.dtype() != dtype || input.is_some_and(|i| i.dtype() != dtype) {
        let [i, a, b] = [input.unwrap_or(v), a.0, v].map(|t| t.dtype().scalar_type_name());
        let text =
            format!("addmv input tensors must have the same dtype, but got {i}, {a}, and {b}");
        return Err(mixed_types(text, v.dtype(), dtype));
    }
    check_number("addmv_impl_cpu", dtype)?;
    let inputs: SmallVec<[&Tensor; 3]> = input.into_iter().chain([a.0, v]).collect();
    if batch::any(&inputs) {
        return batch::product::added(input, beta, batch::product::matvec(a, v, alpha)?);
    }
    let y = written("mv", &[m], dtype, dest, &inputs, |out| {
        if let Some(input) = input
            && beta != 0.0
        {
            fill_from(out, input);
        }
        let (column, out) = (as_matrix(v, true), as_matrix(out, true));
        multiply(alpha, a, Mat(&column, false), beta, &out)
    })?;
    if record::recording(&inputs) && matches!(dest, Dest::New) {
        let rule = MatVec { transposed: a.1, alpha, beta: input.map(|_| beta) };
        record::record(&y, &inputs, &saves(a.0, v), Box::new(rule))?;
    }
    Ok(y)
}

/// The rule of a product of vectors.
struct Dot(&'static str);

impl Op for Dot {
    fn name(&self) -> &'static str {
        self.0
    }

    fn attributes(&self) -> Attributes {
        let second = if self.0 == "DotBackward0" { "tensor" } else { "other" };
        vec![("self", Attribute::Saved(A)), (second, Attribute::Saved(B))]
    }

    fn backward(&self, ctx: &Context, grads: &[Option<Tensor>]) -> Result<Gradients> {
        let Some(g) = &grads[0] else { return Ok(Gradients::new()) };
        let times = |wanted: bool, role| Ok(if wanted { Some(g * ctx.saved(role)) } else { None });
        Ok(smallvec![times(ctx.needs(0), B)?, times(ctx.needs(1), A)?])
    }

    fn jvp(&self, ctx: &Context, v: &[Option<Tensor>], _: &[&Tensor]) -> Result<Option<Gradients>> {
        let times = |v: &Option<Tensor>, role| match v {
            Some(v) => dot(self.0, v, ctx.saved(role), Dest::New).map(Some),
            None => Ok(None),
        };
        Ok(Some(smallvec![match (times(&v[0], B)?, times(&v[1], A)?) {
            (Some(a), Some(b)) => Some(a + b),
            (a, b) => a.or(b),
        }]))
    }
}

/// `Σ aᵢ bᵢ` of two vectors, recorded under `name`.
pub(crate) fn dot(name: &'static str, a: &Tensor, b: &Tensor, dest: Dest) -> Result<Tensor> {
    if a.ndim() != 1 || b.ndim() != 1 {
        let (a, b) = (a.ndim(), b.ndim());
        bail!(Shape, "", "1D tensors expected, but got {a}D and {b}D tensors");
    }
    let ([m], [n]) = ([a.numel()], [b.numel()]);
    if m != n {
        bail!(
            Shape,
            "",
            "inconsistent tensor size, expected tensor [{m}] and src [{n}] to have the same number \
             of elements, but got {m} and {n} elements respectively"
        );
    }
    if a.dtype() != b.dtype() {
        let [x, y] = [a, b].map(|t| t.dtype().scalar_type_name());
        let text = format!("dot : expected both vectors to have same dtype, but found {x} and {y}");
        return Err(mixed_types(text, b.dtype(), a.dtype()));
    }
    check_number("dot", a.dtype())?;
    if batch::any(&[a, b]) {
        return batch::product::dot(a, b);
    }
    let y = written("dot", &[], a.dtype(), dest, &[a, b], |out| {
        let one = Layout::strided(&[1, 1], &[1, 1], out.layout().offset());
        let out = Tensor::from_parts(out.storage().clone(), one, out.dtype());
        let (row, column) = (as_matrix(a, false), as_matrix(b, true));
        multiply(1.0, Mat(&row, false), Mat(&column, false), 0.0, &out)
    })?;
    if record::recording(&[a, b]) && matches!(dest, Dest::New) {
        record::record(&y, &[a, b], &saves(a, b), Box::new(Dot(name)))?;
    }
    Ok(y)
}
