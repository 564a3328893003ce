//! Operations that make, join and index tensors, against results of PyTorch:
//! `tests/golden/ops_data.json`, which `make_ops_data_golden.py` beside it wrote and describes.
//! What the record cannot hold is at the end: second derivatives, by finite differences.

use parking_lot::Mutex;
use serde_json::Value as Json;
use std::sync::Arc;
use wengert::graph::{self, Backward};
use wengert::ops::{self, Args, Output, ParamKind, Row, Signature, Value};
use wengert::random::{self, Generator};
use wengert::{DType, Scalar, Tensor};

type Failure = Result<(), String>;

fn golden() -> Vec<Json> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/ops_data.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn dtype(name: &str) -> DType {
    DType::ALL.into_iter().find(|t| name == t.name()).unwrap()
}

fn number(json: &Json) -> Scalar {
    match json {
        Json::Bool(b) => Scalar::Bool(*b),
        Json::Number(n) => {
            n.as_i64().map_or_else(|| Scalar::Float(n.as_f64().unwrap()), Scalar::Int)
        }
        hex => {
            Scalar::Float(f64::from_bits(u64::from_str_radix(hex.as_str().unwrap(), 16).unwrap()))
        }
    }
}

fn integers(json: &Json) -> Vec<i64> {
    json.as_array().unwrap().iter().map(|n| n.as_i64().unwrap()).collect()
}

/// A tensor as a case describes it.
fn tensor(json: &Json) -> Tensor {
    let dtype = dtype(json["dtype"].as_str().unwrap());
    let values: Vec<Scalar> = json["storage"].as_array().unwrap().iter().map(number).collect();
    let flat = match dtype.is_floating() {
        true => Tensor::from_slice(
            &values.iter().map(|v| v.to_f64()).collect::<Vec<_>>(),
            &[values.len()],
        ),
        false => Tensor::from_slice(
            &values.iter().map(|v| v.to_i64()).collect::<Vec<_>>(),
            &[values.len()],
        ),
    };
    let flat = ops::cast::to_dtype(&flat.unwrap(), dtype).unwrap();
    let shape: Vec<usize> = integers(&json["shape"]).iter().map(|&s| s as usize).collect();
    let layout = match json["strides"].as_array() {
        None => wengert::layout::Layout::contiguous("test", &shape, dtype.size()).unwrap(),
        Some(_) => {
            let strides: Vec<isize> =
                integers(&json["strides"]).iter().map(|&s| s as isize).collect();
            let offset = json["offset"].as_u64().unwrap() as usize;
            wengert::layout::Layout::strided(&shape, &strides, offset)
        }
    };
    let t = Tensor::from_parts(flat.storage().clone(), layout, dtype);
    t.set_requires_grad(json["grad"] == Json::Bool(true)).unwrap();
    t
}

fn value(json: &Json, kind: ParamKind) -> Value {
    match (json, kind) {
        (Json::Null, _) => Value::None,
        (_, ParamKind::Tensor) => Value::Tensor(tensor(json)),
        (_, ParamKind::Tensors) => {
            Value::Tensors(json.as_array().unwrap().iter().map(tensor).collect())
        }
        (Json::Object(_), ParamKind::Operand) => Value::Tensor(tensor(json)),
        (_, ParamKind::Operand) => Value::Tensor(Tensor::wrapped(number(json)).unwrap()),
        (_, ParamKind::Ints | ParamKind::Size) => Value::Ints(integers(json).into()),
        (_, ParamKind::DType) => Value::DType(dtype(json["type"].as_str().unwrap())),
        _ => Value::Number(number(json)),
    }
}

fn row(name: &str) -> &'static Row {
    ops::table().find(|row| row.name == name).unwrap_or_else(|| panic!("there is no row {name}"))
}

fn arguments(case: &Json, row: &Row) -> Args {
    let overload = case["overload"].as_u64().unwrap() as usize;
    let signature = Signature::parse(row.signatures[overload]);
    // The record lists a dtype after whatever came before it; it goes where the signature has one.
    let mut given = case["args"].as_array().unwrap().iter().peekable();
    let values = signature.params.iter().map(|param| {
        let is_dtype = |json: &&&Json| json.get("type").is_some();
        let next_is_dtype = given.peek().is_some_and(|json| is_dtype(&json));
        if param.kind == ParamKind::Generator
            && let Some(seed) = case.get("seed")
        {
            if given.peek().is_some_and(|json| json.is_null()) {
                given.next();
            }
            let generator = Generator::new(seed.as_u64().unwrap());
            return Value::Generator(Arc::new(Mutex::new(generator)));
        }
        if next_is_dtype != (param.kind == ParamKind::DType) {
            return param.default.clone().expect("the record leaves out an argument");
        }
        match given.next() {
            Some(json) => value(json, param.kind),
            None => param.default.clone().expect("the record leaves out an argument"),
        }
    });
    Args { overload, values: values.collect() }
}

/// The elements, exactly: bits of floats (all NaNs alike) or integers.
fn bits(t: &Tensor) -> Vec<i64> {
    if t.dtype().is_floating() {
        let canonical = |x: f64| if x.is_nan() { f64::NAN } else { x };
        t.to_vec::<f64>().unwrap().into_iter().map(|x| canonical(x).to_bits() as i64).collect()
    } else {
        t.to_vec::<i64>().unwrap()
    }
}

/// Whether the C library's functions decide the last bit of the result.
fn libm_decides(op: &str) -> bool {
    ["exponential_", "log_normal_", "cauchy_", "logspace"].contains(&op)
}

fn compare(op: &str, got: &Tensor, want: &Json) -> Failure {
    let expected = tensor(&serde_json::json!({
        "dtype": want["dtype"], "shape": want["shape"], "strides": null,
        "storage": want["storage"], "grad": false,
    }));
    if got.dtype() != expected.dtype() || got.shape() != expected.shape() {
        return Err(format!("{got:?} instead of {expected:?}"));
    }
    if let Some(strides) = want["strides"].as_array() {
        let strides: Vec<isize> = strides.iter().map(|s| s.as_i64().unwrap() as isize).collect();
        if got.numel() > 0 && got.layout().strides() != strides {
            return Err(format!("strides {:?} instead of {strides:?}", got.layout().strides()));
        }
    }
    let (a, b) = (got.to_vec::<f64>().unwrap(), expected.to_vec::<f64>().unwrap());
    let close = |(a, b): (&f64, &f64)| a == b || (a - b).abs() <= 1e-6 * b.abs();
    if bits(got) == bits(&expected) || (libm_decides(op) && a.iter().zip(&b).all(close)) {
        return Ok(());
    }
    let at = bits(got).iter().zip(bits(&expected)).position(|(a, b)| *a != b).unwrap_or(0);
    Err(format!("element {at} is {:?} instead of {:?}", a[at], b[at]))
}

/// Every tensor among the arguments, lists spread out; `None` for other arguments.
fn tensors(args: &Args, count: usize) -> Vec<Option<Tensor>> {
    let spread = args.values.iter().take(count).flat_map(|v| match v {
        Value::Tensor(t) => vec![Some(t.clone())],
        Value::Tensors(ts) => ts.iter().cloned().map(Some).collect(),
        Value::Ints(all) => vec![None; all.len()],
        _ => vec![None],
    });
    spread.collect()
}

fn check(case: &Json) -> Failure {
    let name = case["op"].as_str().unwrap();
    let row = row(name);
    let args = arguments(case, row);
    if let Some(seed) = case.get("seed") {
        random::with_default(|g| g.manual_seed(seed.as_u64().unwrap()));
    }
    let outcome = row.call(&args);
    let single = matches!(outcome, Ok(Output::Tensor(_)));
    let outputs = match (outcome, case.get("error")) {
        (Err(error), Some(text)) => {
            let (got, want) = (error.to_string(), text.as_str().unwrap());
            let ours = REWORDED.iter().find(|(theirs, _)| want.starts_with(theirs));
            let wanted = ours.map_or(want.trim_end_matches('.'), |(_, ours)| ours);
            return match got.contains(wanted) {
                true => Ok(()),
                false => Err(format!("error `{got}` instead of `{want}`")),
            };
        }
        (Err(error), None) => return Err(format!("error `{error}`")),
        (Ok(_), Some(text)) => return Err(format!("no error, but expected {text}")),
        (Ok(Output::Tensor(t)), None) => vec![t],
        (Ok(Output::Tensors(ts)), None) => ts,
        (Ok(_), None) => return Err("an output of another kind".into()),
    };
    let expected = case["out"].as_array().unwrap();
    if outputs.len() != expected.len() {
        return Err(format!("{} outputs instead of {}", outputs.len(), expected.len()));
    }
    for (got, want) in outputs.iter().zip(expected) {
        compare(name, got, want)?;
    }
    if single {
        check_forms(case, row, &args, &outputs[0], &expected[0])?;
    }
    match case.get("grads") {
        Some(grads) => check_gradients(case, &args, &outputs, grads),
        None if outputs.iter().any(Tensor::requires_grad) != case.get("grad_fn").is_some() => {
            Err("the result requires grad, or should".into())
        }
        None => Ok(()),
    }
}

/// The in-place and `out=` forms give the same, where there are any.
fn check_forms(case: &Json, row: &Row, args: &Args, result: &Tensor, want: &Json) -> Failure {
    let _off = graph::GradMode::new(false);
    if row.has(ops::tags::OUT) {
        let out = Tensor::zeros(result.shape(), result.dtype()).unwrap();
        row.call_out(&arguments(case, row), &out).map_err(|e| format!("out=: {e}"))?;
        let mut want = want.clone();
        want["strides"] = Json::Null;
        compare(row.name, &out, &want).map_err(|e| format!("out=: {e}"))?;
    }
    let first = match &args.values[0] {
        Value::Tensor(t) if row.has(ops::tags::INPLACE) => t,
        _ => return Ok(()),
    };
    if first.shape() == result.shape() && !first.layout().overlaps_itself() {
        let mut again = arguments(case, row);
        let target = again.tensor(0).clone();
        let version = target.storage().version();
        row.call_inplace(&mut again).map_err(|e| format!("in place: {e}"))?;
        let mut want = want.clone();
        want["strides"] = Json::Null;
        compare(row.name, &target, &want).map_err(|e| format!("in place: {e}"))?;
        if target.storage().version() == version {
            return Err("in place: the version is the same".into());
        }
    }
    Ok(())
}

fn check_gradients(case: &Json, args: &Args, outputs: &[Tensor], grads: &Json) -> Failure {
    let Some(edge) = outputs[0].grad_fn() else { return Err("no grad_fn".into()) };
    if edge.node.name() != case["grad_fn"] && case["op"] != "diag" {
        return Err(format!("{} instead of {}", edge.node.name(), case["grad_fn"]));
    }
    let seeds: Vec<Option<Tensor>> = outputs
        .iter()
        .map(|y| {
            let weights: Vec<f64> = (1..=y.numel()).map(|i| i as f64 / 2.0).collect();
            Some(Tensor::from_slice(&weights, y.shape()).unwrap())
        })
        .collect();
    graph::backward(outputs, &seeds, None, Backward::default()).map_err(|e| e.to_string())?;
    let given = tensors(args, case["args"].as_array().unwrap().len());
    for (i, want) in grads.as_array().unwrap().iter().enumerate() {
        match (given[i].as_ref().and_then(Tensor::grad), want.is_null()) {
            (Some(got), false) => {
                compare("grad", &got, want).map_err(|e| format!("gradient {i}: {e}"))?;
            }
            (None, true) => {}
            (got, _) => return Err(format!("gradient {i} is {got:?} instead of {want}")),
        }
    }
    Ok(())
}

/// Errors that begin with the first text read like the second here: one sentence for one mistake,
/// and names of types that users know.
const REWORDED: &[(&str, &str)] = &[
    ("INDICES element is out of DATA bounds", "index out of range in self"),
    ("index_copy_(): index", "is out of bounds for dimension 0 with size 3"),
    ("masked_fill_ only supports boolean masks", "but got mask with dtype float64"),
    ("Expected p_in >= 0 && p_in <= 1", "not in [0, 1]"),
];

#[test]
fn results_are_pytorchs() {
    let cases = golden();
    let mut failures = Vec::new();
    for (i, case) in cases.iter().enumerate() {
        if let Err(text) = check(case) {
            let args: String = case["args"].to_string().chars().take(300).collect();
            failures
                .push(format!("case {i}: {}/{} {args}\n    {text}", case["op"], case["overload"]));
        }
    }
    let count = failures.len();
    failures.truncate(60);
    assert!(failures.is_empty(), "{count} of {} differ:\n{}", cases.len(), failures.join("\n"));
}

fn leaf(values: &[f64], shape: &[usize]) -> Tensor {
    let x = Tensor::from_slice(values, shape).unwrap();
    x.set_requires_grad(true).unwrap();
    x
}

fn counted(shape: &[usize]) -> Tensor {
    let n: usize = shape.iter().product();
    leaf(&(0..n).map(|i| (i as f64 * 0.7).sin() + 0.1 * i as f64).collect::<Vec<_>>(), shape)
}

fn index(values: &[i64], shape: &[usize]) -> Tensor {
    Tensor::from_slice(values, shape).unwrap()
}

type Function = Box<dyn Fn(&[Tensor]) -> wengert::Result<Tensor>>;

/// Σ w·f(x)³/3 with fixed weights: a number whose second derivatives do not vanish, which those
/// of the linear maps in here alone would.
fn measure(f: &Function, inputs: &[Tensor]) -> wengert::Result<Tensor> {
    let y = f(inputs)?;
    let weights: Vec<f64> = (0..y.numel()).map(|i| 1.0 + (i as f64 * 1.3).cos()).collect();
    let w = Tensor::from_slice(&weights, y.shape())?;
    ops::reduce::sum(&(w * (&y * &y * y) * (1.0 / 3.0)), None, false, None)
}

fn gradient(y: &Tensor, inputs: &[Tensor], create_graph: bool) -> Vec<Tensor> {
    let options = Backward { create_graph, retain_graph: create_graph };
    let found = graph::grad(std::slice::from_ref(y), &[None], inputs, options).unwrap();
    found
        .into_iter()
        .zip(inputs)
        .map(|(g, x)| g.unwrap_or_else(|| ops::zeros_like(x).unwrap()))
        .collect()
}

/// v·gradient, with fixed v.
fn directional(f: &Function, inputs: &[Tensor]) -> Tensor {
    let y = measure(f, inputs).unwrap();
    let mut sum = Tensor::from_slice(&[0.0], &[]).unwrap();
    for (k, g) in gradient(&y, inputs, true).into_iter().enumerate() {
        let v: Vec<f64> = (0..g.numel()).map(|i| ((i + 3 * k) as f64 * 0.9).sin()).collect();
        let v = Tensor::from_slice(&v, g.shape()).unwrap();
        sum = sum + ops::reduce::sum(&(v * g), None, false, None).unwrap();
    }
    sum
}

/// Holds gradients of a function of the inputs against central differences.
fn check_differences(name: &str, value: impl Fn(&[Tensor]) -> Tensor, inputs: &[Tensor]) {
    let y = value(inputs);
    let analytic = gradient(&y, inputs, false);
    for (k, x) in inputs.iter().enumerate() {
        let values = x.to_vec::<f64>().unwrap();
        let got = analytic[k].to_vec::<f64>().unwrap();
        for i in 0..values.len() {
            let at = |h: f64| {
                let mut moved = values.clone();
                moved[i] += h;
                let mut all = inputs.to_vec();
                all[k] = leaf(&moved, x.shape());
                value(&all).item().unwrap().to_f64()
            };
            let h = 1e-5;
            let want = (at(h) - at(-h)) / (2.0 * h);
            let error = (got[i] - want).abs();
            assert!(
                error <= 1e-6 * (1.0 + want.abs()),
                "{name}, input {k}, element {i}: {} is not {want}",
                got[i]
            );
        }
    }
}

#[test]
fn first_and_second_derivatives_are_differences() {
    use ops::index::Scattered::Elements;
    use ops::{Dest, index as along, join, select, triangle};
    use wengert::ops::places::Combine;
    let rows = index(&[1, 0, 1], &[3]);
    let places = index(&[0, 1, 1, 0, 2, 2], &[3, 2]);
    let mask = ops::compare::gt(&counted(&[3, 2]), &counted(&[2])).unwrap();
    let cases: Vec<(&str, Function, Vec<Tensor>)> = vec![
        ("tril", Box::new(|x| triangle::tril(&x[0], 0)), vec![counted(&[2, 3, 3])]),
        ("triu", Box::new(|x| triangle::triu(&x[0], -1)), vec![counted(&[3, 2])]),
        ("diagonal", Box::new(|x| triangle::diagonal(&x[0], 1, 0, 2)), vec![counted(&[2, 2, 3])]),
        ("diag_embed", Box::new(|x| triangle::diag_embed(&x[0], -1, 0, 2)), vec![counted(&[2, 2])]),
        ("diag", Box::new(|x| triangle::diag(&x[0], 0)), vec![counted(&[3])]),
        ("cat", Box::new(|x| join::cat(x, 1)), vec![counted(&[2, 3]), counted(&[2, 1])]),
        ("stack", Box::new(|x| join::stack(x, -1)), vec![counted(&[2, 2]), counted(&[2, 2])]),
        (
            "gather",
            Box::new({
                let i = places.clone();
                move |x| along::gather(&x[0], 0, &i)
            }),
            vec![counted(&[3, 2])],
        ),
        (
            "scatter",
            Box::new(|x| {
                let i = index(&[0, 2, 1, 0], &[2, 2]);
                along::scatter(&x[0], 0, &i, Elements(&x[1]), Combine::Put, Dest::New)
            }),
            vec![counted(&[3, 2]), counted(&[2, 2])],
        ),
        (
            "scatter_add",
            Box::new({
                let i = places.clone();
                move |x| along::scatter(&x[0], 0, &i, Elements(&x[1]), Combine::Add, Dest::New)
            }),
            vec![counted(&[3, 2]), counted(&[3, 2])],
        ),
        (
            "index_select",
            Box::new({
                let rows = rows.clone();
                move |x| along::index_select(&x[0], 1, &rows)
            }),
            vec![counted(&[2, 2])],
        ),
        (
            "index_add",
            Box::new({
                let rows = rows.clone();
                move |x| along::index_add(&x[0], 0, &rows, &x[1], true, Dest::New)
            }),
            vec![counted(&[2, 2]), counted(&[3, 2])],
        ),
        (
            "index_copy",
            Box::new(|x| {
                along::index_add(&x[0], 0, &index(&[2, 0], &[2]), &x[1], false, Dest::New)
            }),
            vec![counted(&[3, 2]), counted(&[2, 2])],
        ),
        (
            "index_fill",
            Box::new(|x| {
                let three = Tensor::wrapped(Scalar::Int(3))?;
                along::index_fill(&x[0], 0, &index(&[2, 0], &[2]), &three, Dest::New)
            }),
            vec![counted(&[3, 2])],
        ),
        (
            "embedding",
            Box::new({
                let i = places.clone();
                move |x| ops::embedding::embedding(&i, &x[0], None)
            }),
            vec![counted(&[3, 2])],
        ),
        (
            "index",
            Box::new({
                let rows = rows.clone();
                move |x| {
                    select::index(&x[0], &[Some(rows.clone()), None, Some(index(&[0, 1, 1], &[3]))])
                }
            }),
            vec![counted(&[2, 2, 2])],
        ),
        (
            "index_put",
            Box::new(|x| select::index_put(&x[0], &[None, Some(index(&[-1], &[1]))], &x[1], false)),
            vec![counted(&[2, 2]), counted(&[2, 1])],
        ),
        (
            "index_put accumulate",
            Box::new(move |x| select::index_put(&x[0], &[Some(rows.clone())], &x[1], true)),
            vec![counted(&[2, 2]), counted(&[2])],
        ),
        (
            "masked_select",
            Box::new({
                let mask = mask.clone();
                move |x| select::masked_select(&x[0], &mask)
            }),
            vec![counted(&[2])],
        ),
        (
            "masked_fill",
            Box::new(move |x| select::masked_fill(&x[0], &mask, &x[1])),
            vec![counted(&[3, 2]), counted(&[])],
        ),
    ];
    for (name, f, inputs) in cases {
        check_differences(name, |x| measure(&f, x).unwrap(), &inputs);
        check_differences(&format!("{name}, second order"), |x| directional(&f, x), &inputs);
    }
}

#[test]
fn the_gradient_of_dropout_is_its_mask_also_in_place() {
    for inplace in [false, true] {
        let x = counted(&[50]);
        let y = &x * 1.0;
        let z = ops::dropout::dropout(&y, 0.4, true, inplace).unwrap();
        assert_eq!(z.same(&y), inplace);
        let total = ops::reduce::sum(&z, None, false, None).unwrap();
        let g = &gradient(&total, std::slice::from_ref(&x), false)[0];
        let (x, z, g) =
            (x.to_vec::<f64>().unwrap(), z.to_vec::<f64>().unwrap(), g.to_vec::<f64>().unwrap());
        assert!(g.iter().all(|&g| g == 0.0 || g == 1.0 / 0.6) && g.contains(&0.0));
        assert!(x.iter().zip(&z).zip(&g).all(|((x, z), g)| *z == x * g));
    }
}

#[test]
fn what_is_overwritten_has_a_gradient_of_zero() {
    let names = ["NormalBackward0", "ZeroBackward0", "FillBackward3", "BernoulliBackward1"];
    for (name, whole) in names.into_iter().flat_map(|name| [(name, true), (name, false)]) {
        let x = counted(&[3, 2]);
        let y = &x * 2.0;
        let target = if whole { y.clone() } else { ops::view::select(&y, 0, 1).unwrap() };
        let p = Tensor::full(&[], 0.5, DType::Float64).unwrap();
        let normal = ops::random::Distribution::Normal { mean: 0.0, std: 1.0 };
        match name {
            "NormalBackward0" => ops::random::random_(&target, "normal", name, normal, None),
            "ZeroBackward0" => ops::create::zero_(&target),
            "FillBackward3" => ops::create::fill_(&target, &p),
            _ => ops::random::bernoulli_(&target, &p, None),
        }
        .unwrap();
        assert!(!whole || y.grad_fn().unwrap().node.name() == name);
        let total = ops::reduce::sum(&y, None, false, None).unwrap();
        let g = gradient(&total, std::slice::from_ref(&x), false)[0].to_vec::<f64>().unwrap();
        let kept = if whole { 0.0 } else { 2.0 };
        assert_eq!(g, [kept, kept, 0.0, 0.0, kept, kept], "{name}");
    }
    let x = counted(&[3, 2]);
    assert!(ops::create::zero_(&x).unwrap_err().to_string().contains("leaf Variable"));
}

#[test]
fn writing_by_index_is_recorded_and_reaches_only_its_places() {
    let x = counted(&[4, 3]);
    let y = &x * 1.0;
    let v = counted(&[2, 3]);
    ops::select::index_put_(&y, &[Some(index(&[3, 0], &[2]))], &v, false).unwrap();
    let g = gradient(&ops::reduce::sum(&y, None, false, None).unwrap(), &[x, v], false);
    let zero_one = [0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0];
    assert_eq!(g[0].to_vec::<f64>().unwrap(), zero_one);
    assert_eq!(g[1].to_vec::<f64>().unwrap(), [1.0; 6]);

    // Through a transposed view with gaps, without recording.
    let whole = Tensor::zeros(&[4, 6], DType::Float32).unwrap();
    let part = ops::view::t(
        &ops::view::index_view(
            "test",
            &whole,
            &[ops::view::Take::all(4), ops::view::Take::Range { start: 1, step: 2, len: 3 }],
        )
        .unwrap(),
    )
    .unwrap();
    let before = whole.storage().version();
    let one = Tensor::wrapped(Scalar::Int(1)).unwrap();
    ops::select::index_put_(
        &part,
        &[Some(index(&[2, 0], &[2])), Some(index(&[3], &[]))],
        &one,
        true,
    )
    .unwrap();
    assert_eq!(whole.storage().version(), before + 1);
    let ones: Vec<usize> =
        (0..24).filter(|&i| whole.at(&[i / 6, i % 6]) != Scalar::Float(0.0)).collect();
    assert_eq!(ones, [3 * 6 + 1, 3 * 6 + 5]);
}
