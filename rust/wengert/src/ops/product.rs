//! The products that everything in [`matmul`](super::matmul) is made of.
//!
//! * [`product`]: `alpha · op(a) @ op(b)` of matrices or (broadcasting) batches of them, where `op`
//!   transposes or does nothing;
//! * [`add_product`]: the same, added to `beta · input`;
//! * [`matvec()`] and [`dot`], whose results have fewer axes, in a file of their own.
//!
//! **Transposition is a flag**, not a view: the gradient of a product is a product of the same
//! kind with other flags, so rules make no views, and a gradient comes out in the layout of the
//! matrix it belongs to. With `g` for the gradient of `y = op(a) @ op(b)`,
//!
//! ```text
//! the gradient of op(a) is g @ op(b)ᵀ, so that of a is op(b) @ gᵀ if op(a) = aᵀ
//! the gradient of op(b) is op(a)ᵀ @ g, so that of b is gᵀ @ op(a) if op(b) = bᵀ
//! ```
//!
//! (M. Giles, *An extended collection of matrix derivative results for forward and reverse mode
//! algorithmic differentiation*, 2008.)

pub(crate) use super::matvec::{dot, matvec};
use super::{Dest, pointwise, reduce, view};
use crate::batch;
use crate::graph::{Attribute, Attributes, Context, Gradients, Op, Saves, record};
use crate::kernels::gemm::{self, MatMut, MatRef};
use crate::layout::{self, Dims, Layout, Strides};
use crate::tensor::Tensor;
use crate::{DType, Error, Kind, Result, Scalar, bail};
use smallvec::{SmallVec, smallvec};

/// A matrix, or a batch of them, as it is or with the last two axes swapped.
#[derive(Clone, Copy)]
pub(crate) struct Mat<'a>(pub &'a Tensor, pub bool);

impl Mat<'_> {
    fn transposed(self) -> Self {
        Mat(self.0, !self.1)
    }

    /// Rows and columns.
    pub(super) fn size(self) -> [usize; 2] {
        let s = self.0.shape();
        let [r, c] = [s[s.len() - 2], s[s.len() - 1]];
        if self.1 { [c, r] } else { [r, c] }
    }

    /// The axes before the last two.
    fn batch(&self) -> &[usize] {
        &self.0.shape()[..self.0.ndim() - 2]
    }

    /// The first matrix.
    fn first(self) -> MatRef {
        let [rows, cols] = self.size();
        let s = self.0.layout().strides();
        let [r, c] = [s[s.len() - 2], s[s.len() - 1]];
        let [row_stride, col_stride] = if self.1 { [c, r] } else { [r, c] };
        MatRef { ptr: self.0.data_ptr(), rows, cols, row_stride, col_stride }
    }
}

/// `out = alpha · a @ b + beta · out`, batch by batch.
///
/// `out` has the shape of the result and shares no memory with the operands.
#[allow(unsafe_code)]
pub(super) fn multiply(alpha: f64, a: Mat, b: Mat, beta: f64, out: &Tensor) -> Result<()> {
    let MatRef { rows, cols, row_stride, col_stride, .. } = Mat(out, false).first();
    let c = MatMut { ptr: out.data_ptr(), rows, cols, row_stride, col_stride };
    let dtype = out.dtype();
    if out.ndim() == 2 {
        // SAFETY: layouts lie inside their storages, all are of one type (the callers check), and
        // `out` is written by nobody else.
        return unsafe { gemm::gemm(dtype, alpha, a.first(), b.first(), beta, c) };
    }
    let batch = &out.shape()[..out.ndim() - 2];
    let steps = [a.0, b.0, out].map(|t| {
        let n = t.ndim() - 2;
        layout::broadcast_strides(&t.shape()[..n], &t.layout().strides()[..n], batch)
    });
    let offsets = |mut i: usize| {
        let mut at = [0isize; 3];
        for d in (0..batch.len()).rev() {
            let position = (i % batch[d]) as isize;
            i /= batch[d];
            for (offset, strides) in at.iter_mut().zip(&steps) {
                *offset += position * strides[d];
            }
        }
        at
    };
    let count = batch.iter().product();
    // SAFETY: as above; `i < count` gives an index of the batch, which broadcasting keeps inside
    // each operand. Different indices are different matrices of `out`.
    unsafe { gemm::gemm_batched(dtype, count, alpha, a.first(), b.first(), beta, c, &offsets) }
}

/// A result of `shape`, written by `write` to memory that no input uses.
pub(super) fn written(
    name: &'static str,
    shape: &[usize],
    dtype: DType,
    dest: Dest,
    inputs: &[&Tensor],
    write: impl FnOnce(&Tensor) -> Result<()>,
) -> Result<Tensor> {
    if let Dest::Into(out) = dest {
        check_out(name, out, shape, dtype)?;
        if !inputs.iter().any(|t| t.storage().same(out.storage())) {
            write(out)?;
            return Ok(out.clone());
        }
    }
    let result = Tensor::uninitialised(name, shape, dtype)?;
    write(&result)?;
    placed(name, result, dest)
}

fn check_out(name: &'static str, out: &Tensor, shape: &[usize], dtype: DType) -> Result<()> {
    if out.dtype() != dtype {
        let [wanted, got] = [dtype, out.dtype()].map(c_name);
        bail!(
            DType,
            "",
            "Expected out tensor to have dtype {wanted}, but got {got} instead ({name})"
        );
    }
    if out.shape() != shape {
        return Err(pointwise::resize_error(name, out, shape));
    }
    Ok(())
}

/// A finished result, copied to its destination if that is a given tensor.
pub(crate) fn placed(name: &'static str, result: Tensor, dest: Dest) -> Result<Tensor> {
    let Dest::Into(out) = dest else { return Ok(result) };
    check_out(name, out, result.shape(), result.dtype())?;
    out.copy_raw(&result);
    Ok(out.clone())
}

/// What PyTorch calls a type in these messages: the name in C++.
fn c_name(dtype: DType) -> &'static str {
    match dtype {
        DType::Bool => "bool",
        DType::UInt8 => "unsigned char",
        DType::Int8 => "signed char",
        DType::Int16 => "short int",
        DType::Int32 => "int",
        DType::Int64 => "long int",
        DType::Float16 => "c10::Half",
        DType::BFloat16 => "c10::BFloat16",
        DType::Float32 => "float",
        DType::Float64 => "double",
    }
}

/// PyTorch's sentence about types that differ, with what to do.
#[cold]
pub(crate) fn mixed_types(text: String, from: DType, to: DType) -> Error {
    let hint =
        format!("{text}; convert one of them, for example with .to(wengert.{to}) from {from}");
    Error::plain(Kind::DType, hint)
}

pub(super) fn check_number(kernel: &str, dtype: DType) -> Result<()> {
    if dtype == DType::Bool {
        bail!(Unsupported, "", "\"{kernel}\" not implemented for 'Bool'; convert to a number type");
    }
    Ok(())
}

/// Checks types and sizes of a product and gives the shape of the result.
fn product_shape(a: Mat, b: Mat) -> Result<Dims> {
    let (types, batched) = ([a.0.dtype(), b.0.dtype()], a.0.ndim() > 2 || b.0.ndim() > 2);
    let ([m, k], [l, n]) = (a.size(), b.size());
    let mut shape =
        if batched { layout::broadcast("matmul", a.batch(), b.batch())? } else { Dims::new() };
    if k != l {
        if !batched {
            bail!(Shape, "", "mat1 and mat2 shapes cannot be multiplied ({m}x{k} and {l}x{n})");
        }
        let count: usize = shape.iter().product();
        bail!(
            Shape,
            "",
            "Expected size for first two dimensions of batch2 tensor to be: [{count}, {k}] but got: \
             [{count}, {l}]. (shapes {:?} and {:?})",
            a.0.shape(),
            b.0.shape()
        );
    }
    if types[0] != types[1] {
        return Err(mixed_types(
            if batched {
                let [a, b] = types.map(DType::scalar_type_name);
                format!("expected scalar type {a} but found {b}")
            } else {
                let [a, b] = types.map(c_name);
                format!("expected m1 and m2 to have the same dtype, but got: {a} != {b}")
            },
            types[1],
            types[0],
        ));
    }
    check_number(if batched { "bmm" } else { "addmm_impl_cpu_" }, types[0])?;
    shape.extend_from_slice(&[m, n]);
    Ok(shape)
}

/// Roles of saved tensors.
pub(super) const A: u8 = 0;
pub(super) const B: u8 = 1;

/// Saves each of two factors if the other one needs it.
pub(super) fn saves<'t>(a: &'t Tensor, b: &'t Tensor) -> Saves<'t> {
    let mut saves = Saves::new();
    if a.is_differentiated() {
        saves.push((B, b));
    }
    if b.is_differentiated() {
        saves.push((A, a));
    }
    saves
}

/// The rule of `alpha · op(a) @ op(b)`, with flags for the transpositions.
#[derive(Clone, Copy)]
struct Product {
    name: &'static str,
    transposed: [bool; 2],
    alpha: f64,
    /// Sizes and strides of two matrices; of batches nobody asks.
    looks: [[isize; 4]; 2],
}

/// Sizes and strides of a matrix as it is multiplied.
fn look(Mat(x, transposed): Mat) -> [isize; 4] {
    let (&[n, m], &[s, t]) = (x.shape(), x.layout().strides()) else { return [0; 4] };
    match transposed {
        false => [n as isize, m as isize, s, t],
        true => [m as isize, n as isize, t, s],
    }
}

const SIZES_OF_MM: [[&str; 2]; 2] =
    [["self_sym_sizes", "self_sym_strides"], ["mat2_sym_sizes", "mat2_sym_strides"]];
const SIZES_OF_ADDMM: [[&str; 2]; 2] =
    [["mat1_sym_sizes", "mat1_sym_strides"], ["mat2_sym_sizes", "mat2_sym_strides"]];

impl Product {
    fn attributes(&self, names: [&'static str; 2]) -> Attributes {
        let mut list: Attributes = names.into_iter().zip([A, B].map(Attribute::Saved)).collect();
        let looks: [[&'static str; 2]; 2] = match self.name {
            "MmBackward0" => SIZES_OF_MM,
            "AddmmBackward0" => SIZES_OF_ADDMM,
            _ => return list,
        };
        for ([sizes, strides], [n, m, s, t]) in looks.into_iter().zip(self.looks) {
            list.push((sizes, Attribute::ints(&[n as i64, m as i64])));
            list.push((strides, Attribute::ints(&[s as i64, t as i64])));
        }
        list
    }

    /// The gradients of `a` and `b`, where they are wanted.
    fn gradients(&self, ctx: &Context, g: &Tensor, first: usize) -> Result<[Option<Tensor>; 2]> {
        let [ta, tb] = self.transposed;
        let g = Mat(g, false);
        let mut out = [None, None];
        if ctx.needs(first) {
            let b = Mat(ctx.saved(B), tb);
            out[0] = Some(if ta {
                product(b, g.transposed(), self.alpha)?
            } else {
                product(g, b.transposed(), self.alpha)?
            });
        }
        if ctx.needs(first + 1) {
            let a = Mat(ctx.saved(A), ta);
            out[1] = Some(if tb {
                product(g.transposed(), a, self.alpha)?
            } else {
                product(a.transposed(), g, self.alpha)?
            });
        }
        Ok(out)
    }

    /// `alpha · (op(da) @ op(b) + op(a) @ op(db))`, added to `sum`.
    fn tangent(
        &self,
        ctx: &Context,
        da: &Option<Tensor>,
        db: &Option<Tensor>,
        mut sum: Option<Tensor>,
    ) -> Result<Option<Tensor>> {
        let [ta, tb] = self.transposed;
        let mut add = |a: Mat, b: Mat| -> Result<()> {
            sum = Some(match &sum {
                None => product(a, b, self.alpha)?,
                Some(sum) => add_product(sum, a, b, [1.0, self.alpha], Dest::New)?,
            });
            Ok(())
        };
        if let Some(da) = da {
            add(Mat(da, ta), Mat(ctx.saved(B), tb))?;
        }
        if let Some(db) = db {
            add(Mat(ctx.saved(A), ta), Mat(db, tb))?;
        }
        Ok(sum)
    }
}

/// Multiplications per nanosecond, roughly.
const RATE: f64 = 50.0;

/// How long products of matrices take that have so many elements together, if they are square.
fn product_work(elements: usize) -> usize {
    ((elements as f64).powf(1.5) / RATE) as usize
}

impl Op for Product {
    fn name(&self) -> &'static str {
        self.name
    }

    fn attributes(&self) -> Attributes {
        self.attributes(["self", "mat2"])
    }

    fn work(&self, elements: usize) -> usize {
        product_work(elements)
    }

    fn backward(&self, ctx: &Context, grads: &[Option<Tensor>]) -> Result<Gradients> {
        let Some(g) = &grads[0] else { return Ok(Gradients::new()) };
        Ok(SmallVec::from(self.gradients(ctx, g, 0)?))
    }

    fn jvp(&self, ctx: &Context, v: &[Option<Tensor>], _: &[&Tensor]) -> Result<Option<Gradients>> {
        Ok(Some(smallvec![self.tangent(ctx, &v[0], &v[1], None)?]))
    }
}

/// `alpha · op(a) @ op(b)`: matrices, or batches of them that broadcast.
pub(crate) fn product(a: Mat, b: Mat, alpha: f64) -> Result<Tensor> {
    product_into(a, b, alpha, Dest::New)
}

/// [`product`] with a destination.
pub(crate) fn product_into(a: Mat, b: Mat, alpha: f64, dest: Dest) -> Result<Tensor> {
    if batch::any(&[a.0, b.0]) {
        return batch::product::product(a, b, alpha);
    }
    let shape = product_shape(a, b)?;
    let y = written("matmul", &shape, a.0.dtype(), dest, &[a.0, b.0], |out| {
        multiply(alpha, a, b, 0.0, out)
    })?;
    if record::recording(&[a.0, b.0]) && matches!(dest, Dest::New) {
        let name = if shape.len() == 2 { "MmBackward0" } else { "BmmBackward0" };
        let rule = Product { name, transposed: [a.1, b.1], alpha, looks: [look(a), look(b)] };
        record::record(&y, &[a.0, b.0], &saves(a.0, b.0), Box::new(rule))?;
    }
    Ok(y)
}

/// The rule of `beta · input + alpha · op(a) @ op(b)`.
struct AddProduct {
    product: Product,
    beta: f64,
}

impl Op for AddProduct {
    fn name(&self) -> &'static str {
        self.product.name
    }

    fn attributes(&self) -> Attributes {
        let batched = self.product.name == "BaddbmmBackward0";
        let names = if batched { ["batch1", "batch2"] } else { ["mat1", "mat2"] };
        let mut list = self.product.attributes(names);
        list.push(("alpha", Attribute::float(self.product.alpha)));
        list.push(("beta", Attribute::float(self.beta)));
        list
    }

    fn work(&self, elements: usize) -> usize {
        product_work(elements)
    }

    fn backward(&self, ctx: &Context, grads: &[Option<Tensor>]) -> Result<Gradients> {
        let Some(g) = &grads[0] else { return Ok(Gradients::new()) };
        let input = if ctx.needs(0) { Some(scaled(g, self.beta)?) } else { None };
        let [a, b] = self.product.gradients(ctx, g, 1)?;
        Ok(smallvec![input, a, b])
    }

    fn jvp(&self, ctx: &Context, v: &[Option<Tensor>], y: &[&Tensor]) -> Result<Option<Gradients>> {
        let input = match &v[0] {
            Some(v) => Some(view::expand_to(&scaled(v, self.beta)?, y[0].shape())?),
            None => None,
        };
        Ok(Some(smallvec![self.product.tangent(ctx, &v[1], &v[2], input)?]))
    }
}

/// `s · x` without an operation where `s` is 1.
pub(super) fn scaled(x: &Tensor, s: f64) -> Result<Tensor> {
    if s == 1.0 { Ok(x.clone()) } else { super::mul(x, &Tensor::wrapped(Scalar::Float(s))?) }
}

/// `beta · input + alpha · op(a) @ op(b)`, with the sum inside the product's kernel. `input`
/// broadcasts; with `beta` 0 it is not read.
pub(crate) fn add_product(
    input: &Tensor,
    a: Mat,
    b: Mat,
    [beta, alpha]: [f64; 2],
    dest: Dest,
) -> Result<Tensor> {
    if batch::any(&[input, a.0, b.0]) {
        return batch::product::added(Some(input), beta, product(a, b, alpha)?);
    }
    let shape = product_shape(a, b)?;
    if input.dtype() != a.0.dtype() {
        let text = if shape.len() == 2 {
            let [a, b] = [a.0, input].map(|t| t.dtype().scalar_type_name());
            format!("self and mat2 must have the same dtype, but got {b} and {a}")
        } else {
            let [i, a, b] = [input, a.0, b.0].map(|t| c_name(t.dtype()));
            format!("Input dtypes must be the same, got: input {i}, batch1: {a}, batch2: {b}")
        };
        return Err(mixed_types(text, input.dtype(), a.0.dtype()));
    }
    check_expandable(input, &shape)?;
    let y = written("addmm", &shape, a.0.dtype(), dest, &[input, a.0, b.0], |out| {
        if beta != 0.0 {
            fill_from(out, input);
        }
        multiply(alpha, a, b, beta, out)
    })?;
    if record::recording(&[input, a.0, b.0]) && matches!(dest, Dest::New) {
        let name = if shape.len() == 2 { "AddmmBackward0" } else { "BaddbmmBackward0" };
        let product = Product { name, transposed: [a.1, b.1], alpha, looks: [look(a), look(b)] };
        let rule = AddProduct { product, beta };
        record::record(&y, &[input, a.0, b.0], &saves(a.0, b.0), Box::new(rule))?;
    }
    Ok(y)
}

/// Refuses an addend that does not broadcast to the result.
fn check_expandable(input: &Tensor, shape: &[usize]) -> Result<()> {
    if !reduce::is_expandable(input.shape(), shape) {
        let sizes: SmallVec<[i64; 5]> = shape.iter().map(|&s| s as i64).collect();
        view::expand(input, &sizes)?;
    }
    Ok(())
}

/// Copies a tensor that broadcasts to `out`.
pub(super) fn fill_from(out: &Tensor, input: &Tensor) {
    if out.fill_rows_raw(input) {
        return;
    }
    let l = input.layout();
    let strides: Strides = layout::broadcast_strides(l.shape(), l.strides(), out.shape());
    let spread = Layout::strided(out.shape(), &strides, l.offset());
    out.copy_raw(&Tensor::from_parts(input.storage().clone(), spread, input.dtype()));
}
