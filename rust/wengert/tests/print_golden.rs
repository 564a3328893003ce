//! Tensors print as PyTorch printed them: every case of `tests/golden/print.json`, which
//! `make_print_golden.py` beside it wrote and describes.

use serde_json::Value;
use wengert::format::{self, Change, Options, Source, Suffixes};
use wengert::{DType, Scalar};

fn golden() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/print.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn dtype(name: &Value) -> DType {
    DType::ALL.into_iter().find(|t| name == t.name()).unwrap()
}

fn bits(hex: &Value) -> f64 {
    f64::from_bits(u64::from_str_radix(hex.as_str().unwrap(), 16).unwrap())
}

fn sizes(shape: &Value) -> Vec<usize> {
    shape.as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as usize).collect()
}

/// A tensor as a case describes it.
struct Described<'a> {
    dtype: DType,
    shape: Vec<usize>,
    case: &'a Value,
}

impl Source for Described<'_> {
    fn dtype(&self) -> DType {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn at(&self, index: &[usize]) -> Scalar {
        let flat = index.iter().zip(&self.shape).fold(0, |flat, (i, size)| flat * size + i);
        match self.case["values"].get(flat) {
            Some(Value::Bool(b)) => Scalar::Bool(*b),
            Some(Value::Number(n)) => Scalar::Int(n.as_i64().unwrap()),
            Some(hex) => Scalar::Float(bits(hex)),
            None => {
                let [c0, c1, c2] = [0, 1, 2].map(|k| self.case["poly"][k].as_f64().unwrap());
                let x = c0 + c1 * flat as f64 + c2 * (flat * flat) as f64;
                match self.dtype {
                    DType::Bool => Scalar::Bool(x != 0.0),
                    whole if whole.is_integral() => Scalar::Int(x as i64),
                    _ => Scalar::Float(x),
                }
            }
        }
    }
}

/// The arguments of a call of `set_printoptions`.
fn change(call: &Value) -> Change {
    Change {
        profile: call["profile"].as_str().map(|name| name.parse().unwrap()),
        precision: call["precision"].as_i64(),
        threshold: call["threshold"].as_f64(),
        edgeitems: call["edgeitems"].as_i64(),
        linewidth: call["linewidth"].as_i64(),
        sci_mode: call["sci_mode"].as_bool(),
    }
}

#[test]
fn tensors_print_as_in_pytorch() {
    let golden = golden();
    let cases = golden["cases"].as_array().unwrap();
    assert!(cases.len() >= 300);
    let mut wrong = Vec::new();
    for case in cases {
        let source = Described { dtype: dtype(&case["dtype"]), shape: sizes(&case["shape"]), case };
        let suffixes = Suffixes {
            default_float: dtype(&case["default_dtype"]),
            grad_fn: case["grad_fn"].as_str(),
            requires_grad: case["requires_grad"].as_bool().unwrap(),
            ..Suffixes::default()
        };
        let options = Options::default().changed(&change(&case["options"])).unwrap();
        let ours = format::tensor(&source, &suffixes, &options);
        if case["text"] != ours {
            let (expr, options) = (&case["expr"], &case["options"]);
            let theirs = case["text"].as_str().unwrap();
            wrong.push(format!("{expr} {options}\nours:\n{ours}\nPyTorch:\n{theirs}\n"));
        }
    }
    let shown = wrong.iter().take(5).map(String::as_str).collect::<Vec<_>>().join("\n");
    assert!(wrong.is_empty(), "{} of {} differ:\n{shown}", wrong.len(), cases.len());
}

#[test]
fn numbers_print_as_in_python() {
    fn text(push: impl Fn(&mut String)) -> String {
        let mut out = String::new();
        push(&mut out);
        out
    }
    for case in golden()["numbers"].as_array().unwrap() {
        let (x, precision) = (bits(&case["bits"]), case["precision"].as_u64().unwrap() as u16);
        assert_eq!(case["fixed"], text(|s| format::push_fixed(s, x, precision)));
        assert_eq!(case["scientific"], text(|s| format::push_scientific(s, x, precision)));
        assert_eq!(case["repr"], format::scalar_repr(Scalar::Float(x)));
    }
}

#[test]
fn shapes_print_as_in_pytorch() {
    for case in golden()["sizes"].as_array().unwrap() {
        let shape = sizes(&case["shape"]);
        assert_eq!(case["size"], format::size("torch", &shape));
        assert_eq!(case["tuple"], format::tuple(&shape));
    }
}

#[test]
fn calls_of_set_printoptions_leave_what_they_leave_in_pytorch() {
    let before = format::printoptions();
    for case in golden()["changes"].as_array().unwrap() {
        format::set_printoptions(&change(&case["call"])).unwrap();
        let after = &case["after"];
        let expected = Options {
            precision: after["precision"].as_u64().unwrap() as u16,
            // JSON has no infinity.
            threshold: after["threshold"].as_f64().unwrap_or(f64::INFINITY),
            edgeitems: after["edgeitems"].as_u64().unwrap() as usize,
            linewidth: after["linewidth"].as_u64().unwrap() as usize,
            sci_mode: after["sci_mode"].as_bool(),
        };
        assert_eq!(format::printoptions(), expected, "after {}", case["call"]);
    }
    let last = format::replace_printoptions(before);
    assert_eq!(last, Options::default());
}
