//! Every differentiable row of the families below, to second order, against finite differences.
//!
//! The test walks the families' tables. A row is called with random tensors inside its domain and
//! with the defaults of its other parameters; what needs more is listed in `CALLS`.

use smallvec::SmallVec;
use wengert::graph::{self, Backward};
use wengert::ops::{self, Args, Output, ParamKind, Row, Signature, Value, tags};
use wengert::{DType, Scalar, Tensor};

const FAMILIES: &[&[Row]] = &[
    ops::unary::ROWS,
    ops::binary::ROWS,
    ops::ternary::ROWS,
    ops::activation::ROWS,
    ops::activation::FUNCTIONS,
    ops::reduce::ROWS,
    ops::extrema::ROWS,
    ops::moments::ROWS,
    ops::norm::ROWS,
    ops::scan::ROWS,
];

/// Where a row is smooth, if not in (0.3, 0.9).
const DOMAINS: &[(&str, f64, f64)] = &[
    ("acosh", 1.2, 3.0),
    ("hardswish", -2.5, 2.5),
    ("hardswish_backward", -2.5, 2.5),
    ("nn.functional.hardswish", -2.5, 2.5),
    ("hardsigmoid", -2.5, 2.5),
    ("nn.functional.hardsigmoid", -2.5, 2.5),
    ("tan", -1.0, 1.0),
    ("sinh", -2.0, 2.0),
    ("atan", -2.0, 2.0),
    ("asinh", -2.0, 2.0),
    ("tanh", -2.0, 2.0),
    ("sigmoid", -2.0, 2.0),
    ("logsigmoid", -2.0, 2.0),
    ("sin", -2.0, 2.0),
    ("erf", -2.0, 2.0),
    ("erfc", -2.0, 2.0),
    ("nn.functional.elu", -2.0, -0.3),
    ("nn.functional.selu", -2.0, -0.3),
    ("nn.functional.celu", -2.0, -0.3),
    ("nn.functional.leaky_relu", -2.0, -0.3),
    ("atan2", -2.0, 2.0),
    ("logaddexp", -2.0, 2.0),
    ("lerp", -2.0, 2.0),
    ("addcmul", -2.0, 2.0),
    ("var", -2.0, 2.0),
    ("std", -2.0, 2.0),
    ("prod", -2.0, 2.0),
    ("cumprod", -2.0, 2.0),
    ("norm", -2.0, 2.0),
    ("logcumsumexp", -2.0, 2.0),
];

/// Extra positional arguments after the first tensor, per overload.
const CALLS: &[(&str, usize, &[i64])] = &[
    ("max", 2, &[1]),
    ("min", 2, &[1]),
    ("prod", 1, &[-1]),
    ("cumsum", 0, &[0]),
    ("cumprod", 0, &[1]),
    ("logcumsumexp", 0, &[1]),
    ("cummax", 0, &[1]),
    ("cummin", 0, &[0]),
    ("flip", 0, &[1]),
    ("var", 0, &[1]),
    ("std", 0, &[0]),
    ("var_mean", 0, &[1]),
    ("std_mean", 0, &[0]),
    ("norm", 1, &[3]),
    ("nn.functional.threshold", 0, &[0, 2]),
];

/// Rows whose result is a step, so that finite differences across it mean nothing, or whose
/// operands are conditions.
const SKIPPED: &[(&str, &str)] = &[
    ("where_", "its condition is a truth value"),
    ("heaviside", "a step"),
    ("count_nonzero", "counts"),
];

/// Internal rows whose operands from this one on are parameters or decide a branch: no gradient
/// flows to them.
const PARAMETERS: &[(&str, usize)] = &[
    ("add_scaled", 2),
    ("celu", 1),
    ("elu", 1),
    ("hardshrink", 1),
    ("hardtanh", 1),
    ("leaky_relu", 1),
    ("pow_number", 1),
    ("round_decimals", 1),
    ("round_tens", 1),
    ("softplus", 1),
    ("softplus_backward", 2),
    ("softshrink", 1),
    ("sub_scaled", 2),
    ("threshold", 1),
];

fn is_parameter(row: &Row, i: usize, kind: ParamKind) -> bool {
    let tensor = matches!(kind, ParamKind::Tensor | ParamKind::Operand);
    PARAMETERS.iter().any(|q| q.0 == row.name && i >= q.1) || row.has(tags::INTERNAL) && !tensor
}

/// Whether a row takes a tensor in this place. Internal rows take their numbers as tensors.
fn is_operand(row: &Row, i: usize, kind: ParamKind) -> bool {
    matches!(kind, ParamKind::Tensor | ParamKind::Operand) || is_parameter(row, i, kind)
}

struct Random(u64);

impl Random {
    fn next(&mut self, low: f64, high: f64) -> f64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        low + (high - low) * ((self.0 >> 11) as f64 / (1u64 << 53) as f64)
    }

    fn tensor(&mut self, shape: &[usize], low: f64, high: f64) -> Tensor {
        let n = shape.iter().product();
        let values: Vec<f64> = (0..n).map(|_| self.next(low, high)).collect();
        Tensor::from_slice(&values, shape).unwrap()
    }
}

fn values(t: &Tensor) -> Vec<f64> {
    t.to_vec().unwrap()
}

fn outputs(row: &Row, args: &Args) -> Vec<Tensor> {
    let result = match row.call(args).unwrap_or_else(|e| panic!("{}: {e}", row.name)) {
        Output::Tensor(t) => vec![t],
        Output::Tensors(t) | Output::Named(_, t) => t,
        Output::Bool(_) => vec![],
    };
    result.into_iter().filter(|t| t.dtype().is_floating()).collect()
}

/// A function of tensors to one number, `Σ w · f(inputs)`, with weights of its own.
struct Scalarised<'a> {
    row: &'a Row,
    args: Args,
    /// Positions of the tensors to differentiate by.
    at: Vec<usize>,
}

impl Scalarised<'_> {
    fn with(&self, inputs: &[Tensor]) -> Args {
        let mut args = self.args.clone();
        for (&i, t) in self.at.iter().zip(inputs) {
            args.values[i] = Value::Tensor(t.clone());
        }
        args
    }

    fn value(&self, inputs: &[Tensor]) -> Tensor {
        weighted(&outputs(self.row, &self.with(inputs)), 11).expect("there is an output")
    }

    /// `Σ v · ∂value/∂inputs`, differentiable; `None` if there is no gradient.
    fn slope(&self, inputs: &[Tensor]) -> Option<Tensor> {
        let y = self.value(inputs);
        if !y.requires_grad() {
            return None;
        }
        let create = Backward { create_graph: true, retain_graph: true };
        let grads = gradients(&y, inputs, create);
        weighted(&grads.into_iter().flatten().collect::<Vec<_>>(), 23)
    }
}

fn gradients(y: &Tensor, inputs: &[Tensor], options: Backward) -> Vec<Option<Tensor>> {
    graph::grad(std::slice::from_ref(y), &[None], inputs, options).unwrap()
}

fn weighted(tensors: &[Tensor], seed: u64) -> Option<Tensor> {
    let mut random = Random(seed);
    let mut total: Option<Tensor> = None;
    for t in tensors {
        let w = random.tensor(t.shape(), 0.5, 1.5);
        let part = ops::reduce::sum(&(t * w), None, false, None).unwrap();
        total = Some(match total {
            None => part,
            Some(sum) => sum + part,
        });
    }
    total
}

fn leaves(inputs: &[Tensor]) -> Vec<Tensor> {
    let fresh = inputs.iter().map(|t| {
        let leaf = Tensor::from_slice(&values(t), t.shape()).unwrap();
        leaf.set_requires_grad(true).unwrap();
        leaf
    });
    fresh.collect()
}

/// Compares the gradient of `f` with central differences.
fn check(what: &str, inputs: &[Tensor], f: &dyn Fn(&[Tensor]) -> Option<Tensor>) {
    const STEP: f64 = 1e-5;
    let at = leaves(inputs);
    let grads = match f(&at) {
        Some(y) if y.requires_grad() => gradients(&y, &at, Backward::default()),
        _ => vec![None; at.len()],
    };
    for (k, input) in inputs.iter().enumerate() {
        let base = values(input);
        let exact = grads[k].as_ref().map_or(vec![0.0; base.len()], values);
        for i in 0..base.len() {
            let moved = |by: f64| {
                let mut v = base.clone();
                v[i] += by;
                let mut moved = leaves(inputs);
                moved[k] = Tensor::from_slice(&v, input.shape()).unwrap();
                moved[k].set_requires_grad(true).unwrap();
                f(&moved).map_or(0.0, |y| y.item().unwrap().to_f64())
            };
            let numeric = (moved(STEP) - moved(-STEP)) / (2.0 * STEP);
            let error = (numeric - exact[i]).abs() / (1.0 + numeric.abs());
            assert!(
                error < 2e-6,
                "{what}: input {k} at {i}: gradient {} but differences give {numeric}",
                exact[i]
            );
        }
    }
}

fn check_row(row: &Row, overload: usize, extra: &[i64], range: (f64, f64), zeros: bool) {
    let signature = Signature::parse(row.signatures[overload]);
    let mut random = Random(7);
    let mut args = Args { overload, values: SmallVec::new() };
    let mut at = vec![];
    let mut extra = extra.iter();
    for (i, p) in signature.params.iter().enumerate() {
        let value = match (p.kind, &p.default) {
            (kind, None) if is_operand(row, i, kind) => {
                if !is_parameter(row, i, kind) {
                    at.push(i);
                }
                // The second operand broadcasts.
                let shape: &[usize] = if i == 1 { &[3] } else { &[2, 3] };
                let t = random.tensor(shape, range.0, range.1);
                if zeros {
                    let mut v = values(&t);
                    (v[1], v[3], v[4]) = (0.0, 0.0, 0.0);
                    Value::Tensor(Tensor::from_slice(&v, shape).unwrap())
                } else {
                    Value::Tensor(t)
                }
            }
            (kind, default) => match (kind, extra.next()) {
                (ParamKind::Ints | ParamKind::Size, Some(&v)) => {
                    Value::Ints(SmallVec::from_slice(&[v]))
                }
                (_, Some(&v)) => Value::Number(Scalar::Int(v)),
                (_, None) => default.clone().unwrap_or_else(|| panic!("{}: {}", row.name, p.name)),
            },
        };
        args.values.push(value);
    }
    let inputs: Vec<Tensor> = at.iter().map(|&i| args.tensor(i).clone()).collect();
    let f = Scalarised { row, args, at };
    let name = format!("{} (overload {overload})", row.name);
    check(&name, &inputs, &|x| Some(f.value(x)));
    check(&format!("{name}, second order"), &inputs, &|x| f.slope(x));
}

fn rows() -> impl Iterator<Item = &'static Row> {
    FAMILIES.iter().copied().flatten().filter(|r| !r.has(tags::NONDIFF))
}

#[test]
fn rows_have_their_derivatives_to_second_order() {
    let mut checked = 0;
    for row in rows() {
        if SKIPPED.iter().any(|(name, _)| *name == row.name) {
            continue;
        }
        let domain = DOMAINS.iter().find(|d| d.0 == row.name);
        let range = domain.map_or((0.3, 0.9), |d| (d.1, d.2));
        for (overload, text) in row.signatures.iter().enumerate() {
            let call = CALLS.iter().find(|c| c.0 == row.name && c.1 == overload);
            let signature = Signature::parse(text);
            let params = signature.params.iter().enumerate();
            let needs_more = params
                .filter(|(_, p)| p.default.is_none())
                .any(|(i, p)| !is_operand(row, i, p.kind));
            assert!(call.is_some() || !needs_more, "{}{text} needs a line in CALLS", row.name);
            check_row(row, overload, call.map_or(&[], |c| c.2), range, false);
            checked += 1;
        }
    }
    assert!(checked > 90, "only {checked} signatures were checked");
}

#[test]
fn products_have_their_derivatives_at_zeros() {
    for (name, overload, extra) in [("prod", 0, &[][..]), ("prod", 1, &[1]), ("cumprod", 0, &[1])] {
        let row = rows().find(|r| r.name == name).unwrap();
        check_row(row, overload, extra, (0.5, 2.0), true);
    }
}

#[test]
fn every_listed_name_exists() {
    let names: Vec<&str> = FAMILIES.iter().copied().flatten().map(|r| r.name).collect();
    let listed = DOMAINS.iter().map(|d| d.0).chain(CALLS.iter().map(|c| c.0));
    let listed = listed.chain(SKIPPED.iter().map(|s| s.0)).chain(PARAMETERS.iter().map(|p| p.0));
    for name in listed {
        assert!(names.contains(&name), "no row is called {name}");
    }
    assert_eq!(DType::Float64, Random(1).tensor(&[1], 0.0, 1.0).dtype());
}
