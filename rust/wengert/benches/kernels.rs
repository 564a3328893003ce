//! Every row of the operation table, forward only, by size and layout:
//!
//!     cargo bench -p wengert --bench kernels -- contiguous
//!
//! An item is an element of the first operand: 1 Gitem/s is a nanosecond an element, and the time
//! at size 1 is the price of a call. Rows need no entry here. Arguments are made from a row's
//! first signature ([`generic`]); what a name and a type cannot tell stands in [`GIVEN`]. A row
//! that neither can feed makes `cargo test` fail, so that no operation is left out in silence.

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use smallvec::smallvec;
use std::panic::{AssertUnwindSafe, catch_unwind};
use wengert::ops::{self, Args, Output, Param, ParamKind, Row, Signature, Value, tags};
use wengert::{DType, Result, Scalar, Tensor, bail};

/// What a row is given where its signature does not say enough.
enum Given {
    Int(i64),
    Ints(&'static [i64]),
    /// The width of the matrices, as a list.
    Width,
    /// The strides of the matrices.
    RowMajor,
    /// A number, or a tensor that holds one, as the parameter's type asks.
    Number(f64),
    Type(DType),
    /// A vector as long as the matrices are wide.
    Vector,
    /// A batch of one matrix.
    Batch,
    /// As many positions as the matrices are wide.
    Index,
    /// A matrix of truth values.
    Mask,
    /// A matrix whose diagonal outweighs the rest, so that it has all factorisations.
    Regular,
    /// A tensor of these sizes, where -1 is the width of the matrices.
    Shaped(&'static [i64]),
    /// Two vectors as long as the matrices are wide, as a list.
    Vectors,
}
use Given::{
    Batch, Index, Int, Ints, Mask, Number, Regular, RowMajor, Shaped, Type, Vector, Vectors, Width,
};

/// By row and parameter; `NAME_copy` is given what `NAME` is.
#[rustfmt::skip]
const GIVEN: &[(&str, &[(&str, Given)])] = &[
    ("addmv",                  &[("input", Vector), ("vec", Vector)]),
    ("as_strided",             &[("stride", RowMajor)]),
    ("as_strided_scatter",     &[("stride", RowMajor)]),
    ("avg_pool1d",             &[("kernel_size", Ints(&[1]))]),
    ("baddbmm",                &[("input", Batch), ("batch1", Batch), ("batch2", Batch)]),
    ("bmm",                    &[("input", Batch), ("mat2", Batch)]),
    ("cholesky",               &[("input", Regular)]),
    ("chunk",                  &[("chunks", Int(1))]),
    ("clamp",                  &[("min", Number(0.2))]),
    ("conv1d",                 &[("weight", Shaped(&[1, -1, 1]))]),
    ("conv2d",                 &[("input", Shaped(&[1, -1, -1])), ("weight", Shaped(&[1, 1, 1, 1]))]),
    ("conv3d",                 &[("input", Shaped(&[1, 1, -1, -1])), ("weight", Shaped(&[1, 1, 1, 1, 1]))]),
    ("cross",                  &[("input", Shaped(&[-1, 3])), ("other", Shaped(&[-1, 3])), ("dim", Int(1))]),
    ("diagonal_scatter",       &[("src", Vector)]),
    ("dot",                    &[("input", Vector), ("tensor", Vector)]),
    ("dsplit",                 &[("input", Batch), ("sections", Int(1))]),
    ("fill",                   &[("value", Number(1.0))]),
    ("fill_",                  &[("value", Number(1.0))]),
    ("group_norm",             &[("num_groups", Int(1))]),
    ("hsplit",                 &[("sections", Int(1))]),
    ("index_add",              &[("index", Index)]),
    ("index_copy",             &[("index", Index)]),
    ("index_fill",             &[("index", Index), ("value", Number(1.0))]),
    ("index_select",           &[("index", Index)]),
    ("inner",                  &[("input", Vector), ("other", Vector)]),
    ("inverse",                &[("input", Regular)]),
    ("kron",                   &[("input", Vector), ("other", Vector)]),
    ("kthvalue",               &[("k", Int(1))]),
    ("linalg.cholesky",        &[("A", Regular)]),
    ("linalg.cond",            &[("A", Regular)]),
    ("linalg.cross",           &[("input", Shaped(&[-1, 3])), ("other", Shaped(&[-1, 3]))]),
    ("linalg.solve",           &[("A", Regular)]),
    ("linalg.solve_ex",        &[("A", Regular)]),
    ("linspace",               &[("start", Number(0.0)), ("end", Number(1.0))]),
    ("logspace",               &[("start", Number(0.0)), ("end", Number(1.0))]),
    ("masked_fill",            &[("mask", Mask), ("value", Number(1.0))]),
    ("matrix_power",           &[("n", Int(3))]),
    ("max_pool1d",             &[("kernel_size", Ints(&[1]))]),
    ("max_pool2d",             &[("input", Shaped(&[1, -1, -1])), ("kernel_size", Ints(&[1]))]),
    ("meshgrid",               &[("tensors", Vectors)]),
    ("movedim",                &[("source", Ints(&[0])), ("destination", Ints(&[1]))]),
    ("multinomial",            &[("num_samples", Int(1))]),
    ("mv",                     &[("vec", Vector)]),
    ("narrow",                 &[("start", Int(0)), ("length", Int(1))]),
    ("nn.functional.avg_pool2d", &[("input", Shaped(&[1, -1, -1])), ("kernel_size", Ints(&[1]))]),
    ("nn.functional.batch_norm", &[("running_mean", Vector), ("running_var", Vector)]),
    ("nn.functional.cosine_embedding_loss", &[("target", Vector)]),
    ("nn.functional.glu",      &[("input", Shaped(&[-1, 2]))]),
    ("nn.functional.nll_loss", &[("target", Index)]),
    ("nn.functional.prelu",    &[("weight", Vector)]),
    ("nn.functional.pad",      &[("pad", Ints(&[1, 1]))]),
    ("outer",                  &[("input", Vector), ("vec2", Vector)]),
    ("permute",                &[("dims", Ints(&[1, 0]))]),
    ("repeat",                 &[("repeats", Ints(&[2, 1]))]),
    ("repeat_interleave",      &[("repeats", Int(2))]),
    ("roll",                   &[("shifts", Ints(&[1])), ("dims", Ints(&[0]))]),
    ("select",                 &[("index", Int(0))]),
    ("select_scatter",         &[("src", Vector), ("index", Int(0))]),
    ("split",                  &[("split_size", Int(1))]),
    ("split_with_sizes",       &[("split_sizes", Width)]),
    ("tensor_split",           &[("sections", Int(1))]),
    ("tile",                   &[("dims", Ints(&[2, 1]))]),
    ("to",                     &[("dtype", Type(DType::Float64))]),
    ("topk",                   &[("k", Int(1))]),
    ("unflatten",              &[("sizes", Width)]),
    ("unfold",                 &[("size", Int(1)), ("step", Int(1))]),
    ("unsafe_chunk",           &[("chunks", Int(1))]),
    ("unsafe_split",           &[("split_size", Int(1))]),
    ("unsafe_split_with_sizes", &[("split_sizes", Width)]),
    ("vdot",                   &[("input", Vector), ("other", Vector)]),
    ("vsplit",                 &[("sections", Int(1))]),
];

/// The types to try, in this order; a row takes the first that it works on.
const DTYPES: [DType; 3] = [DType::Float32, DType::Int64, DType::Bool];

#[derive(Clone, Copy)]
enum Layout {
    Contiguous,
    /// The first operand is a transpose.
    Transposed,
    /// The second operand is a row, or the only one is one that was expanded.
    Broadcast,
}

/// Square matrices: inner sizes of products then agree by themselves.
fn tensor(shape: &[i64], dtype: DType) -> Result<Tensor> {
    let count = shape.iter().product::<i64>() as usize;
    // In (0, 1), where nearly every function is defined, also as a probability.
    let values: Vec<f32> = (0..count).map(|i| ((i * 37 % 97) as f32 + 1.0) / 99.0).collect();
    let shape: Vec<usize> = shape.iter().map(|&s| s as usize).collect();
    let out = Tensor::zeros(&shape, dtype)?;
    out.copy_from(&Tensor::from_slice(&values, &shape)?)?;
    Ok(out)
}

/// An argument from the kind and the default of a parameter.
fn generic(param: &Param, side: i64, dtype: DType) -> Result<Option<Value>> {
    if let Some(default) = &param.default {
        return Ok(Some(default.clone()));
    }
    Ok(Some(match param.kind {
        ParamKind::Tensor | ParamKind::Operand => Value::Tensor(tensor(&[side, side], dtype)?),
        ParamKind::Tensors => {
            Value::Tensors(vec![tensor(&[side, side], dtype)?, tensor(&[side, side], dtype)?])
        }
        ParamKind::Number => Value::Number(Scalar::Int(2)),
        ParamKind::Float => Value::Number(Scalar::Float(0.5)),
        ParamKind::Bool => Value::Number(Scalar::Bool(true)),
        ParamKind::Int if param.name.starts_with("dim") => {
            Value::Number(Scalar::Int(if param.name == "dim1" { 1 } else { 0 }))
        }
        ParamKind::Int if matches!(param.name, "n" | "steps" | "end" | "high") => {
            Value::Number(Scalar::Int(side * side))
        }
        ParamKind::Ints if param.name.starts_with("dim") => Value::Ints(smallvec![0]),
        ParamKind::Size if param.name.starts_with("dim") => Value::Ints(smallvec![0]),
        ParamKind::Ints | ParamKind::Size => Value::Ints(smallvec![side, side]),
        _ if param.optional => Value::None,
        _ => return Ok(None),
    }))
}

impl Given {
    fn value(&self, kind: ParamKind, side: i64, dtype: DType) -> Result<Value> {
        Ok(match (self, kind) {
            (Int(i), _) => Value::Number(Scalar::Int(*i)),
            (Ints(list), _) => Value::Ints(list.iter().copied().collect()),
            (Width, _) => Value::Ints(smallvec![side]),
            (RowMajor, _) => Value::Ints(smallvec![side, 1]),
            (Number(x), ParamKind::Tensor) => Value::Tensor(Tensor::full(&[], *x, dtype)?),
            (Number(x), ParamKind::Operand) => Value::Tensor(Tensor::wrapped(Scalar::Float(*x))?),
            (Number(x), _) => Value::Number(Scalar::Float(*x)),
            (Type(dtype), _) => Value::DType(*dtype),
            (Vector, _) => Value::Tensor(tensor(&[side], dtype)?),
            (Batch, _) => Value::Tensor(tensor(&[1, side, side], dtype)?),
            (Index, _) => Value::Tensor(tensor(&[side], DType::Int64)?),
            (Mask, _) => Value::Tensor(tensor(&[side, side], DType::Bool)?),
            (Regular, _) => {
                let unit = ops::create::eye(side, None, Some(dtype))?;
                let weight = Tensor::full(&[], 2.0 * side as f64, dtype)?;
                Value::Tensor(ops::add(&tensor(&[side, side], dtype)?, &ops::mul(&unit, &weight)?)?)
            }
            (Shaped(sizes), _) => {
                let sizes: Vec<i64> = sizes.iter().map(|&s| if s < 0 { side } else { s }).collect();
                Value::Tensor(tensor(&sizes, dtype)?)
            }
            (Vectors, _) => Value::Tensors(vec![tensor(&[side], dtype)?, tensor(&[side], dtype)?]),
        })
    }
}

/// Arguments for the first signature of a row.
fn arguments(row: &Row, side: i64, dtype: DType, layout: Layout) -> Result<Args> {
    let given = GIVEN
        .iter()
        .find(|(name, _)| row.name == *name || row.name.strip_suffix("_copy") == Some(*name))
        .map_or(&[][..], |(_, list)| list);
    let mut args = Args { overload: 0, values: smallvec![] };
    for param in Signature::parse(row.signatures[0]).params {
        let special = given.iter().find(|(name, _)| *name == param.name);
        let value = match special {
            Some((_, value)) => Some(value.value(param.kind, side, dtype)?),
            None => generic(&param, side, dtype)?,
        };
        let Some(value) = value else {
            bail!(Value, row.name, "nothing to give for `{}`", param.name);
        };
        args.values.push(value);
    }
    lay_out(&mut args, side, dtype, layout)?;
    Ok(args)
}

/// Gives the operands of a pointwise row other layouts.
fn lay_out(args: &mut Args, side: i64, dtype: DType, layout: Layout) -> Result<()> {
    let mut tensors = args.values.iter_mut().filter_map(|v| match v {
        Value::Tensor(t) => Some(t),
        _ => None,
    });
    match (layout, tensors.next(), tensors.next()) {
        (Layout::Transposed, Some(first), _) => *first = ops::view::t(first)?,
        (Layout::Broadcast, Some(_), Some(second)) => *second = tensor(&[side], dtype)?,
        (Layout::Broadcast, Some(only), None) => {
            *only = ops::view::expand(&tensor(&[side], dtype)?, &[side, side])?;
        }
        _ => {}
    }
    Ok(())
}

/// The arguments of the first element type that the row accepts.
fn feed(row: &Row, side: i64, layout: Layout) -> std::result::Result<Args, String> {
    let mut refusals = String::new();
    for dtype in DTYPES {
        let call = || arguments(row, side, dtype, layout).and_then(|a| row.call(&a).map(|_| a));
        // A row panics on arguments of a kind that its signature does not promise.
        match catch_unwind(AssertUnwindSafe(call)) {
            Ok(Ok(args)) => return Ok(args),
            Ok(Err(error)) => refusals += &format!("\n  {}, {dtype}: {error}", row.name),
            Err(_) => refusals += &format!("\n  {}, {dtype}: panic, see above", row.name),
        }
    }
    Err(refusals)
}

/// One row at one size.
struct Case {
    row: &'static Row,
    side: i64,
}

impl std::fmt::Display for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.row.name, self.side * self.side)
    }
}

/// Every row of an iterator at every size; `cargo test` is content with small ones.
fn cases(rows: impl Iterator<Item = &'static Row>) -> Vec<Case> {
    let measuring = std::env::args().any(|a| a == "--bench");
    let sides: &[i64] = if measuring { &[1, 8, 64, 1024] } else { &[1, 8] };
    rows.filter(|row| !row.has(tags::INTERNAL))
        .flat_map(|row| sides.iter().map(move |&side| Case { row, side }))
        .collect()
}

/// The rows that work element by element, by family.
fn pointwise() -> impl Iterator<Item = &'static Row> {
    let families: [&'static [Row]; 6] = [
        ops::activation::FUNCTIONS,
        ops::activation::ROWS,
        ops::binary::ROWS,
        ops::compare::ROWS,
        ops::ternary::ROWS,
        ops::unary::ROWS,
    ];
    families.into_iter().flatten()
}

fn run(bencher: Bencher, case: &Case, layout: Layout) {
    let args = feed(case.row, case.side, layout).unwrap_or_else(|refusals| panic!("{refusals}"));
    bencher.counter(ItemsCount::new((case.side * case.side) as usize)).bench_local(|| {
        // The result is freed inside, as a program would; otherwise each call had fresh memory.
        let result: Result<Output> = case.row.call(black_box(&args));
        drop(black_box(result));
    });
}

#[divan::bench(args = cases(ops::table()), max_time = 0.05)]
fn contiguous(bencher: Bencher, case: &Case) {
    run(bencher, case, Layout::Contiguous);
}

#[divan::bench(args = cases(pointwise()), max_time = 0.05)]
fn transposed(bencher: Bencher, case: &Case) {
    run(bencher, case, Layout::Transposed);
}

#[divan::bench(args = cases(pointwise()), max_time = 0.05)]
fn broadcast(bencher: Bencher, case: &Case) {
    run(bencher, case, Layout::Broadcast);
}

/// What stands in the way of measuring every row.
fn gaps() -> String {
    let mut gaps = String::new();
    for row in ops::table().filter(|row| !row.has(tags::INTERNAL)) {
        gaps += &feed(row, 1, Layout::Contiguous).err().unwrap_or_default();
    }
    for (name, given) in GIVEN {
        let params = ops::find(name).map(|row| Signature::parse(row.signatures[0]).params);
        for (param, _) in *given {
            if !params.iter().flatten().any(|p| p.name == *param) {
                gaps += &format!("\n  {name}({param}) is not in the table of operations");
            }
        }
    }
    gaps
}

fn main() {
    let gaps = gaps();
    assert!(gaps.is_empty(), "mend GIVEN in {}:{gaps}", file!());
    divan::main();
}
