//! Batched tensors from Rust: levels, rules, the loop, gradients.

use wengert::batch::{self, Randomness};
use wengert::graph::{self, Backward};
use wengert::ops::Value;
use wengert::{Result, Scalar, Tensor};

fn numbers(shape: &[usize]) -> Tensor {
    let count: usize = shape.iter().product();
    let values: Vec<f64> = (0..count).map(|i| i as f64 + 1.0).collect();
    Tensor::from_slice(&values, shape).unwrap()
}

/// Runs `f` on the slices of `x` along its first axis as one example.
fn mapped(x: &Tensor, f: impl FnOnce(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
    let size = x.shape()[0];
    let level = batch::enter(size, Randomness::Error);
    let result = batch::add_axis(x, 0, level)
        .and_then(|example| f(&example))
        .and_then(|y| batch::remove_axis(&y, level, size, 0));
    batch::exit(level);
    result
}

fn call(name: &str, values: impl IntoIterator<Item = Value>) -> Result<Tensor> {
    batch::invoke(name, 0, values)
}

fn of(t: &Tensor) -> Value {
    Value::Tensor(t.clone())
}

#[test]
fn an_example_looks_like_one() {
    let x = numbers(&[2, 3]);
    let y = mapped(&x, |e| {
        assert!(e.is_batched() && e.shape() == [3] && e.numel() == 3);
        assert!(e.item().is_err() && e.to_vec::<f64>().is_err() && e.to_bytes().is_err());
        Ok(e.clone())
    });
    assert_eq!(y.unwrap().to_vec::<f64>().unwrap(), x.to_vec::<f64>().unwrap());
}

#[test]
fn rules_and_the_loop_agree() {
    let x = numbers(&[2, 3]);
    let w = numbers(&[3]);
    let fast = mapped(&x, |e| call("dot", [of(e), of(&w)])).unwrap();
    assert_eq!(fast.to_vec::<f64>().unwrap(), [14.0, 32.0]);
    // `inner` of tensors with more axes has no rule.
    let slow = mapped(&numbers(&[2, 3]), |e| {
        let cube = numbers(&[1, 1, 3]);
        call("inner", [of(e), of(&cube)])
    });
    assert_eq!(slow.unwrap().to_vec::<f64>().unwrap(), [14.0, 32.0]);
}

#[test]
fn levels_nest_and_end() {
    let x = numbers(&[2, 3]);
    let sums = mapped(&x, |row| mapped(&numbers(&[3]), |e| call("mul", [of(row), of(e)])));
    assert_eq!(sums.unwrap().shape(), [2, 3, 3]);
    assert!(batch::stack().is_empty());
}

#[test]
fn a_tensor_that_outlives_its_level_is_an_error() {
    let mut kept = None;
    mapped(&numbers(&[2, 3]), |e| {
        kept = Some(e.clone());
        Ok(e.clone())
    })
    .unwrap();
    let error = call("sin", [of(&kept.unwrap())]).expect_err("an error");
    assert!(error.to_string().contains("may have escaped"), "{error}");
}

#[test]
fn writing_to_what_is_shared_is_an_error() {
    let shared = numbers(&[3]);
    let error = mapped(&numbers(&[2, 3]), |e| call("copy_", [of(&shared), of(e)]));
    assert!(error.err().unwrap().to_string().contains("inplace arithmetic"));
    assert_eq!(shared.to_vec::<f64>().unwrap(), [1.0, 2.0, 3.0]);
}

#[test]
fn every_example_has_its_gradient() {
    let x = numbers(&[2, 3]);
    x.set_requires_grad(true).unwrap();
    let g = mapped(&x, |e| {
        let square = call("mul", [of(e), of(e)])?;
        let y = call("sum", [of(&square)])?;
        let g = batch::backward::grad(&[y], &[None], std::slice::from_ref(e), Backward::default())?;
        Ok(g[0].clone().expect("y depends on it"))
    });
    assert_eq!(g.unwrap().to_vec::<f64>().unwrap(), [2.0, 4.0, 6.0, 8.0, 10.0, 12.0]);
}

#[test]
fn many_cotangents_for_one_graph() {
    let x = numbers(&[3]);
    x.set_requires_grad(true).unwrap();
    let y = &x * &x;
    let rows = mapped(&wengert::ops::create::eye(3, None, Some(x.dtype())).unwrap(), |v| {
        let g = batch::backward::grad(
            std::slice::from_ref(&y),
            &[Some(v.clone())],
            std::slice::from_ref(&x),
            Default::default(),
        )?;
        Ok(g[0].clone().expect("y depends on it"))
    });
    let expected = [2.0, 0.0, 0.0, 0.0, 4.0, 0.0, 0.0, 0.0, 6.0];
    assert_eq!(rows.unwrap().to_vec::<f64>().unwrap(), expected);
}

#[test]
fn transforms_see_their_own_aliases_only() {
    let x = Tensor::full(&[], Scalar::Float(3.0), wengert::DType::Float64).unwrap();
    graph::transform::enter();
    let own = graph::transform::lift(&x).unwrap();
    let y = &(&own * &own) * &x;
    let g = graph::transform::gradients(&[y], &[None], &[own], &[], true, false).unwrap();
    graph::transform::exit();
    assert_eq!(g[0].item().unwrap().to_f64(), 18.0);
    assert!(!g[0].requires_grad() && !graph::transform::is_active());
}
