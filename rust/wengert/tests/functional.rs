//! Products, activation functions and losses against PyTorch: every case of
//! `tests/golden/functional.json`, which `make_functional_golden.py` beside it wrote.
//!
//! A case gives arguments, the result, the name of its node and the gradients of the arguments that
//! require one. Each case is also held against finite differences to second order.

mod common;

use common::{gradcheck, node, random, values};
use serde_json::Value as Json;
use wengert::graph::{self, Backward};
use wengert::ops::fused::cross_entropy::{self, Options, cross_entropy};
use wengert::ops::fused::linear::{self, linear};
use wengert::ops::fused::loss::{Reduction, bce_logits, bce_logits_composed};
use wengert::ops::fused::softmax::{self, log_softmax, logsumexp, softmax};
use wengert::ops::{Args, Output, Row, Signature, Value, table, view};
use wengert::{DType, Kind, Result, Scalar, Tensor};

fn golden() -> Vec<Json> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/functional.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn row(name: &str) -> &'static Row {
    table().find(|row| row.name == name).unwrap_or_else(|| panic!("no row {name}"))
}

fn decode(value: &Json) -> Value {
    match value {
        Json::Null => Value::None,
        Json::Bool(b) => Value::Number(Scalar::Bool(*b)),
        Json::String(s) => Value::Str(s.clone()),
        Json::Number(n) => Value::Number(match n.as_i64() {
            Some(i) => Scalar::Int(i),
            None => Scalar::Float(n.as_f64().unwrap()),
        }),
        Json::Array(list) => Value::Ints(list.iter().map(|i| i.as_i64().unwrap()).collect()),
        Json::Object(_) => Value::Tensor(tensor(value)),
    }
}

fn tensor(value: &Json) -> Tensor {
    let list = |key: &str| value[key].as_array().unwrap();
    let shape: Vec<usize> = list("shape").iter().map(|s| s.as_u64().unwrap() as usize).collect();
    let data = list("data");
    match value["kind"].as_str().unwrap() {
        "float" => {
            let data: Vec<f64> = data.iter().map(|x| x.as_f64().unwrap()).collect();
            Tensor::from_slice(&data, &shape).unwrap()
        }
        "int" => {
            let data: Vec<i64> = data.iter().map(|x| x.as_i64().unwrap()).collect();
            Tensor::from_slice(&data, &shape).unwrap()
        }
        _ => {
            let data: Vec<bool> = data.iter().map(|x| x.as_bool().unwrap()).collect();
            Tensor::from_slice(&data, &shape).unwrap()
        }
    }
}

/// Calls a row with arguments by name; `replaced` stands for the arguments that have a gradient.
fn call(case: &Json, replaced: &[Tensor]) -> Result<Tensor> {
    let name = case["name"].as_str().unwrap();
    let leaves = case["leaves"].as_array().unwrap();
    let row = row(name);
    let signature = Signature::parse(row.signatures[0]);
    let value = |name: &str, default: &Option<Value>| {
        if let Some(i) = leaves.iter().position(|l| l == name) {
            return Value::Tensor(replaced[i].clone());
        }
        match case["args"].get(name) {
            // Numbers are operands here.
            Some(Json::Number(n)) if name == "min" || name == "max" => {
                Value::Tensor(Tensor::wrapped(Scalar::Float(n.as_f64().unwrap())).unwrap())
            }
            Some(given) => decode(given),
            None => default.clone().unwrap_or_else(|| panic!("{name} is not given")),
        }
    };
    let values = signature.params.iter().map(|p| value(p.name, &p.default)).collect();
    match row.call(&Args { overload: 0, values })? {
        Output::Tensor(t) => Ok(t),
        _ => panic!("{name} gives one tensor"),
    }
}

/// How far numbers are from PyTorch's, or what is wrong.
fn difference(got: &Tensor, wanted: &Json) -> f64 {
    let wanted = tensor(wanted);
    assert_eq!(got.shape(), wanted.shape());
    let pairs = values(got).into_iter().zip(values(&wanted));
    pairs.map(|(x, y)| (x - y).abs() / (1.0 + y.abs())).fold(0.0, f64::max)
}

/// PyTorch's constant 1/6 has single precision in this gradient.
fn tolerance(name: &str) -> f64 {
    if name == "nn.functional.hardsigmoid" { 1e-7 } else { 1e-12 }
}

/// Nodes that have another name here, and why.
const OTHER_NODES: &[(&str, &str)] = &[
    // PyTorch divides by a number with an overload of its own.
    ("DivBackward1", "DivBackward0"),
    // A loss of each position is one node here; PyTorch flattens positions, and unflattens them.
    ("ViewBackward0", "NllLoss2DBackward0"),
];

#[test]
fn results_gradients_and_nodes_are_those_of_pytorch() {
    let mut wrong = Vec::new();
    for (i, case) in golden().iter().enumerate() {
        let name = case["name"].as_str().unwrap();
        let names = case["leaves"].as_array().unwrap();
        let leaves: Vec<Tensor> =
            names.iter().map(|n| tensor(&case["args"][n.as_str().unwrap()])).collect();
        leaves.iter().for_each(|x| x.set_requires_grad(true).unwrap());
        let y = call(case, &leaves).unwrap();
        let mut check = |what: &str, got: &Tensor, wanted: &Json| {
            let d = difference(got, wanted);
            if d.is_nan() || d > tolerance(name) {
                wrong.push(format!("case {i}, {name}: {what} is off by {d:e}"));
            }
        };
        check("result", &y, &case["value"]);
        let n = y.numel();
        let weights: Vec<f64> =
            (0..n).map(|i| -1.0 + 2.5 * i as f64 / (n as f64 - 1.0).max(1.0)).collect();
        let weights = Tensor::from_slice(&weights, y.shape()).unwrap();
        let (got, wanted) = (node(&y), case["node"].as_str().unwrap());
        let grads = graph::grad(&[y], &[Some(weights)], &leaves, Backward::default()).unwrap();
        for (got, wanted) in grads.iter().zip(case["grads"].as_array().unwrap()) {
            check("gradient", got.as_ref().unwrap(), wanted);
        }
        if got != wanted && !OTHER_NODES.contains(&(wanted, got)) {
            wrong.push(format!("case {i}, {name}: {got} but PyTorch has {wanted}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn second_derivatives_agree_with_finite_differences() {
    for case in golden() {
        let names = case["leaves"].as_array().unwrap();
        let leaves: Vec<Tensor> =
            names.iter().map(|n| tensor(&case["args"][n.as_str().unwrap()])).collect();
        let what = case["name"].as_str().unwrap();
        gradcheck(what, |leaves| call(&case, leaves), &leaves);
    }
}

fn near(a: &Tensor, b: &Tensor) {
    assert_eq!(a.shape(), b.shape());
    for (x, y) in values(a).iter().zip(values(b)) {
        assert!((x - y).abs() < 1e-12, "{x} is not {y}");
    }
}

#[test]
fn fused_operations_equal_their_composed_twins() {
    let x = random(1, &[4, 3, 5]);
    for dim in [0, 1, 2] {
        near(&softmax(&x, dim, None).unwrap(), &softmax::composed(&x, dim).unwrap());
    }
    let (w, b) = (random(2, &[6, 5]), random(3, &[6]));
    near(&linear(&x, &w, Some(&b)).unwrap(), &linear::composed(&x, &w, Some(&b)).unwrap());
    let target = Tensor::from_slice(&[0i64, 2, -100, 1], &[4]).unwrap();
    let weight = Tensor::from_slice(&[0.2, 0.5, 0.9], &[3]).unwrap();
    let logits = random(4, &[4, 3]);
    for reduction in [Reduction::None, Reduction::Mean, Reduction::Sum] {
        for label_smoothing in [0.0, 0.3] {
            for weight in [None, Some(&weight)] {
                let options = Options { weight, reduction, label_smoothing, ..Default::default() };
                let fused = cross_entropy(&logits, &target, options).unwrap();
                near(&fused, &cross_entropy::composed(&logits, &target, options).unwrap());
            }
        }
        let t = softmax(&random(5, &[4, 3]), 1, None).unwrap();
        let fused = bce_logits(&logits, &t, None, None, reduction).unwrap();
        near(&fused, &bce_logits_composed(&logits, &t, reduction).unwrap());
    }
}

#[test]
fn layouts_types_and_extremes() {
    let x = random(1, &[3, 4]);
    let turned = view::t(&x).unwrap();
    near(&softmax(&turned, 0, None).unwrap(), &view::t(&softmax(&x, 1, None).unwrap()).unwrap());
    near(&logsumexp(&turned, &[0], false).unwrap(), &logsumexp(&x, &[1], false).unwrap());

    let huge = Tensor::from_slice(&[1e4, 0.0, -1e4], &[3]).unwrap();
    assert_eq!(values(&softmax(&huge, 0, None).unwrap()), [1.0, 0.0, 0.0]);
    assert_eq!(values(&logsumexp(&huge, &[0], false).unwrap()), [1e4]);
    let ones = Tensor::from_slice(&[1.0, 1.0, 1.0], &[3]).unwrap();
    let loss = bce_logits(&huge, &ones, None, None, Reduction::None).unwrap();
    assert_eq!(values(&loss), [0.0, 2f64.ln(), 1e4]);

    for dtype in [DType::Float16, DType::BFloat16, DType::Float32] {
        let x = Tensor::full(&[2, 4], 1.0, dtype).unwrap();
        x.set_requires_grad(true).unwrap();
        let y = softmax(&x, 1, None).unwrap();
        assert_eq!((y.dtype(), values(&y)), (dtype, vec![0.25; 8]));
        let target = Tensor::from_slice(&[0i64, 3], &[2]).unwrap();
        let loss = cross_entropy(&x, &target, Options::default()).unwrap();
        assert_eq!(loss.dtype(), dtype);
        assert!((values(&loss)[0] - 4f64.ln()).abs() < 1e-2);
        graph::backward(&[loss], &[None], None, Backward::default()).unwrap();
        let g = x.grad().unwrap();
        assert_eq!(g.dtype(), dtype);
        assert_eq!(values(&g), [-0.375, 0.125, 0.125, 0.125, 0.125, 0.125, 0.125, -0.375]);
    }
    let whole = Tensor::from_slice(&[1i64, 2], &[2]).unwrap();
    assert_eq!(softmax(&whole, 0, Some(DType::Float32)).unwrap().dtype(), DType::Float32);
    assert_eq!(logsumexp(&whole, &[0], false).unwrap().dtype(), DType::Float32);
    let none = Tensor::zeros(&[2, 0], DType::Float64).unwrap();
    assert_eq!(softmax(&none, 1, None).unwrap().shape(), [2, 0]);
    assert_eq!(values(&logsumexp(&none, &[1], false).unwrap()), [f64::NEG_INFINITY; 2]);
}

#[test]
fn targets_are_checked_and_their_changes_do_not_matter() {
    let x = random(1, &[2, 5]);
    x.set_requires_grad(true).unwrap();
    let target = Tensor::from_slice(&[1i64, 4], &[2]).unwrap();
    let loss = cross_entropy(&x, &target, Options::default()).unwrap();
    wengert::ops::cast::copy_(&target, &Tensor::from_slice(&[0i64, 0], &[2]).unwrap()).unwrap();
    graph::backward(&[loss], &[None], None, Backward::default()).unwrap();
    let g = values(&x.grad().unwrap());
    assert!(g[1] < 0.0 && g[9] < 0.0 && g[0] > 0.0 && g[5] > 0.0);

    let ints = |t: &[i64]| Tensor::from_slice(t, &[t.len()]).unwrap();
    let expect = |target: &Tensor, options: Options, kind: Kind, text: &str| {
        let e = cross_entropy(&x, target, options).unwrap_err();
        assert_eq!(e.kind(), kind, "{e}");
        assert!(e.to_string().contains(text), "{e}");
    };
    let plain = Options::default();
    expect(&ints(&[7, 0]), plain, Kind::Index, "Target 7 is out of bounds. There are 5 classes");
    expect(&ints(&[-1, 0]), plain, Kind::Index, "Target -1 is out of bounds.");
    let text = "Expected input batch_size (2) to match target batch_size (3).";
    expect(&ints(&[0, 1, 2]), plain, Kind::Value, text);
    let text = "expected target dtype to be Long or Byte, but got Float";
    expect(&Tensor::zeros(&[2], DType::Float32).unwrap(), plain, Kind::DType, text);
    let text = "weight tensor should be defined either for all 5 classes or no classes but got \
                weight tensor of shape: [4]";
    let weight = random(2, &[4]);
    let options = Options { weight: Some(&weight), ..plain };
    expect(&ints(&[0, 1]), options, Kind::Shape, text);
    let options = Options { label_smoothing: 2.0, ..plain };
    let text = "label_smoothing must be between 0.0 and 1.0. Got: 2";
    expect(&ints(&[0, 1]), options, Kind::Value, text);
    let ignored = cross_entropy(&x, &ints(&[-100, -100]), plain).unwrap();
    assert!(values(&ignored)[0].is_nan(), "a mean over no rows");
}

#[test]
fn activations_write_in_place_if_asked() {
    let run = |x: &Tensor| {
        let inplace = Value::Number(Scalar::Bool(true));
        let values = [Value::Tensor(x.clone()), inplace].into_iter().collect();
        let Output::Tensor(y) =
            row("nn.functional.relu").call(&Args { overload: 0, values }).unwrap()
        else {
            panic!("relu gives one tensor")
        };
        assert!(y.same(x));
    };
    let x = Tensor::from_slice(&[-1.0, 2.0], &[2]).unwrap();
    run(&x);
    assert_eq!(values(&x), [0.0, 2.0]);
    let leaf = Tensor::from_slice(&[-1.0, 2.0], &[2]).unwrap();
    leaf.set_requires_grad(true).unwrap();
    let y = &leaf * 3.0;
    run(&y);
    assert_eq!((node(&y), values(&y)), ("ReluBackward0", vec![0.0, 6.0]));
    let seed = Tensor::from_slice(&[1.0, 1.0], &[2]).unwrap();
    graph::backward(&[y], &[Some(seed)], None, Backward::default()).unwrap();
    assert_eq!(values(&leaf.grad().unwrap()), [0.0, 3.0]);
}

#[test]
fn log_softmax_is_the_logarithm_of_softmax() {
    let x = random(9, &[3, 7]);
    let p = values(&softmax(&x, 1, None).unwrap());
    for (l, p) in values(&log_softmax(&x, 1, None).unwrap()).iter().zip(p) {
        assert!((l.exp() - p).abs() < 1e-15);
    }
}
