//! Operations answer as PyTorch did: every case of `tests/golden/ops.json`, which
//! `make_ops_golden.py` beside it wrote and describes.

use serde_json::Value as Json;
use smallvec::SmallVec;
use wengert::graph::{self, Backward};
use wengert::ops::{self, Args, Output, ParamKind, Row, Signature, Value};
use wengert::{DType, Scalar, Tensor};

fn cases() -> Vec<Json> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/ops.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Where we differ: (operation, parts of the case as JSON text, why).
const DIFFERENT: &[(&str, &[&str], &str)] = &[
    (
        "atan2",
        &[r#""0":{"tensor":{"dtype":"uint8""#, r#""1":{"tensor":{"dtype":"float32""#],
        "PyTorch's gradient squares uint8 operands in uint8",
    ),
    (
        "pow",
        &[r#""values":[2,-2,-2,2]"#],
        "PyTorch gives zeros for whole numbers to negative powers",
    ),
    ("pow", &[r#""values":[-1,-1,-1,-1,-2]"#], "as above"),
];

fn dtype(name: &Json) -> DType {
    DType::ALL.into_iter().find(|t| name == t.name()).unwrap()
}

fn float(v: &Json) -> f64 {
    match v.as_str() {
        Some("nan") => f64::NAN,
        Some("inf") => f64::INFINITY,
        Some("-inf") => f64::NEG_INFINITY,
        Some("-0") => -0.0,
        _ => v.as_f64().or(v.as_bool().map(|b| b as u8 as f64)).unwrap(),
    }
}

fn floats(t: &Json) -> Vec<f64> {
    t["values"].as_array().unwrap().iter().map(float).collect()
}

fn shape(t: &Json) -> Vec<usize> {
    t["shape"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as usize).collect()
}

fn tensor(t: &Json) -> Tensor {
    let wide = Tensor::from_slice(&floats(t), &shape(t)).unwrap();
    ops::cast::to_dtype(&wide, dtype(&t["dtype"])).unwrap().detach()
}

fn value(kind: ParamKind, v: &Json, record: bool) -> Value {
    if let Some(t) = v.get("tensor") {
        let t = tensor(t);
        t.set_requires_grad(record && t.dtype().is_floating()).unwrap();
        return Value::Tensor(t);
    }
    if let Some(d) = v.get("dtype") {
        return Value::DType(dtype(d));
    }
    let number = |v: &Json| match v.get("float") {
        Some(x) => Scalar::Float(float(x)),
        None => v.as_bool().map_or_else(|| Scalar::Int(v.as_i64().unwrap()), Scalar::Bool),
    };
    match (kind, v) {
        (_, Json::Null) => Value::None,
        (_, Json::String(s)) => Value::Str(s.clone()),
        (_, Json::Array(list)) => Value::Ints(list.iter().map(|n| n.as_i64().unwrap()).collect()),
        (ParamKind::Ints | ParamKind::Size, n) => {
            Value::Ints(SmallVec::from_slice(&[n.as_i64().unwrap()]))
        }
        (ParamKind::Operand, n) => Value::Tensor(Tensor::wrapped(number(n)).unwrap()),
        (_, n) => Value::Number(number(n)),
    }
}

/// The arguments of a case, and the key of each parameter that was given.
fn arguments(row: &Row, case: &Json, record: bool) -> (Args, Vec<Option<String>>) {
    let overload = case["overload"].as_u64().unwrap() as usize;
    let signature = Signature::parse(row.signatures[overload]);
    let mut args = Args { overload, values: SmallVec::new() };
    let mut keys = Vec::new();
    for (i, p) in signature.params.iter().enumerate() {
        let place = i.to_string();
        let key = [place.as_str(), p.name].into_iter().find(|k| case["args"].get(*k).is_some());
        args.values.push(match key {
            Some(key) => value(p.kind, &case["args"][key], record),
            None => p.default.clone().unwrap_or_else(|| panic!("no {} in {case}", p.name)),
        });
        keys.push(key.map(str::to_owned));
    }
    (args, keys)
}

fn outputs(output: Output) -> Vec<Tensor> {
    match output {
        Output::Tensor(t) => vec![t],
        Output::Tensors(t) | Output::Named(_, t) => t,
        Output::Bool(b) => vec![Tensor::full(&[], Scalar::Bool(b), DType::Bool).unwrap()],
    }
}

/// What is wrong with a result, if anything.
///
/// `least` is the least precise type that took part. With `exact_zeros`, zeros have their sign and
/// the error is relative.
fn compare(
    what: &str,
    got: &Tensor,
    wanted: &Json,
    least: DType,
    slack: f64,
    exact_zeros: bool,
) -> Option<String> {
    if got.dtype() != dtype(&wanted["dtype"]) || got.shape() != shape(wanted) {
        return Some(format!("{what} is {got:?}"));
    }
    let unit = |dtype| match dtype {
        DType::Float16 => 2e-3,
        DType::Float32 => 1e-6,
        _ => 1e-14,
    };
    let unit = f64::max(unit(got.dtype()), unit(least));
    let got: Vec<f64> = got.to_vec().unwrap();
    for (i, (&g, w)) in got.iter().zip(floats(wanted)).enumerate() {
        let same_sign = !exact_zeros || g.is_sign_negative() == w.is_sign_negative();
        let near = slack * unit * if exact_zeros { w.abs() } else { w.abs().max(1.0) };
        let close = match (g, w) {
            (g, w) if g.is_nan() || w.is_nan() => g.is_nan() && w.is_nan(),
            (g, w) if g == w => g != 0.0 || same_sign,
            (g, w) => (g - w).abs() <= near,
        };
        if !close {
            return Some(format!("{what}[{i}] is {g:e}, not {w:e}"));
        }
    }
    None
}

fn run(row: &Row, case: &Json) -> Option<String> {
    let (args, keys) = arguments(row, case, case.get("grads").is_some());
    let result = row.call(&args).map(outputs);
    if let Some(text) = case.get("error") {
        return match result {
            Ok(_) => Some(format!("no error, but PyTorch says: {text}")),
            Err(_) => None,
        };
    }
    let result = match result {
        Ok(result) => result,
        Err(e) => return Some(format!("raises: {e}")),
    };
    let wanted = case["outputs"].as_array().unwrap();
    if result.len() != wanted.len() {
        return Some(format!("{} outputs", result.len()));
    }
    for (got, wanted) in result.iter().zip(wanted) {
        if let Some(wrong) = compare("output", got, wanted, DType::Float64, 4.0, true) {
            return Some(wrong);
        }
    }
    let grads = case.get("grads")?.as_object().unwrap();
    let floating: Vec<Tensor> =
        result.into_iter().filter(|t| t.dtype().is_floating() && t.requires_grad()).collect();
    let Some(first) = floating.first() else { return Some("was not recorded".into()) };
    let node = first.grad_fn().unwrap().node.name().to_owned();
    if case["node"] != node {
        return Some(format!("node is {node}, not {}", case["node"]));
    }
    let ones: Vec<Option<Tensor>> = floating
        .iter()
        .map(|t| Some(Tensor::full(t.shape(), Scalar::Int(1), t.dtype()).unwrap()))
        .collect();
    graph::backward(&floating, &ones, None, Backward::default()).unwrap();
    let half = args.values.iter().any(|v| matches!(v, Value::Tensor(t) if t.dtype().size() == 2));
    let least = if half { DType::Float16 } else { DType::Float64 };
    for (i, key) in keys.iter().enumerate() {
        let Some(wanted) = key.as_ref().and_then(|k| grads.get(k)) else { continue };
        let Value::Tensor(x) = &args.values[i] else { continue };
        match (x.grad(), wanted) {
            (None, Json::Null) => {}
            (Some(g), Json::Object(_)) => {
                if let Some(wrong) = compare("gradient", &g, wanted, least, 10.0, false) {
                    return Some(wrong);
                }
            }
            // No gradient and a gradient of zero are the same number.
            (None, w) if floats(w).iter().all(|&v| v == 0.0) => {}
            (Some(g), _) if g.to_vec::<f64>().unwrap().iter().all(|&v| v == 0.0) => {}
            (g, w) => return Some(format!("gradient of {i} is {g:?}, not {w}")),
        }
    }
    None
}

#[test]
fn operations_answer_as_pytorch_did() {
    let cases = cases();
    assert!(cases.len() > 900);
    let mut wrong = Vec::new();
    for case in &cases {
        let name = case["name"].as_str().unwrap();
        let row = ops::table().find(|r| r.name == name);
        let row = row.unwrap_or_else(|| panic!("there is no row {name}"));
        let text = case.to_string();
        let excused = DIFFERENT
            .iter()
            .any(|(op, parts, _)| *op == name && parts.iter().all(|part| text.contains(part)));
        let reason = match (run(row, case), excused) {
            (Some(_), true) => None,
            (None, true) => Some("agrees, and need not be excused".into()),
            (reason, false) => reason,
        };
        if let Some(reason) = reason {
            let call: String = format!("{}", case["args"]).chars().take(300).collect();
            wrong.push(format!("{name} {call}\n    {reason}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}
