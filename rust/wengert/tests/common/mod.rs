//! Gradients against finite differences, to second order, along random directions.
//!
//! For `L = Σ r · f(x)` with random weights `r`, the slope of `L` along a random direction `d` is
//! `Σ d · ∂L/∂x` and also `(L(x + hd) - L(x - hd)) / 2h`. The same comparison for the function
//! `Σ d · ∂L/∂x` of `x` *and* `r` checks the second derivatives, and that the first ones are
//! recorded.
#![allow(dead_code)]

use wengert::graph::{self, Backward};
use wengert::{DType, Result, Tensor, ops};

/// Numbers in (-1, 1) that depend on the seed alone.
pub fn noise(seed: u64, count: usize) -> Vec<f64> {
    let mut state = seed.wrapping_mul(0x9e3779b97f4a7c15) ^ 0x1234567;
    (0..count)
        .map(|_| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 11) as f64 / (1u64 << 52) as f64 - 1.0
        })
        .collect()
}

/// A float64 tensor of noise.
pub fn random(seed: u64, shape: &[usize]) -> Tensor {
    Tensor::from_slice(&noise(seed, shape.iter().product()), shape).unwrap()
}

pub fn values(t: &Tensor) -> Vec<f64> {
    t.to_vec().unwrap()
}

/// The name of the node that made a tensor; never freed, as tests are short.
pub fn node(t: &Tensor) -> &'static str {
    t.grad_fn().map_or("", |edge| edge.node.name().to_owned().leak())
}

fn sum(t: &Tensor) -> Tensor {
    ops::reduce::sum(t, None, false, None).unwrap()
}

/// `x + h d` as leaves.
fn moved(xs: &[Tensor], ds: &[Tensor], h: f64) -> Vec<Tensor> {
    let step = |(x, d): (&Tensor, &Tensor)| {
        let x = (x.detach() + d * h).detach();
        x.set_requires_grad(true).unwrap();
        x
    };
    xs.iter().zip(ds).map(step).collect()
}

/// `Σ d · ∂L/∂x` for `L = f(xs)`, recorded.
fn slope(f: &dyn Fn(&[Tensor]) -> Tensor, xs: &[Tensor], ds: &[Tensor]) -> Tensor {
    let create = Backward { create_graph: true, retain_graph: true };
    let grads = graph::grad(&[f(xs)], &[None], xs, create).unwrap();
    let mut total = Tensor::from_slice(&[0.0], &[]).unwrap();
    for ((g, d), x) in grads.iter().zip(ds).zip(xs) {
        if let Some(g) = g {
            assert_eq!(g.shape(), x.shape());
            total = total + sum(&(g * d));
        }
    }
    total
}

fn compare(what: &str, f: &dyn Fn(&[Tensor]) -> Tensor, xs: &[Tensor], seed: u64) {
    let ds: Vec<Tensor> =
        xs.iter().zip(1..).map(|(x, i)| random(seed + 31 * i, x.shape())).collect();
    let h = 1e-5;
    let [up, down] = [h, -h].map(|h| f(&moved(xs, &ds, h)).item().unwrap().to_f64());
    let numeric = (up - down) / (2.0 * h);
    let exact = slope(f, &moved(xs, &ds, 0.0), &ds).item().unwrap().to_f64();
    let error = (numeric - exact).abs() / (1.0 + numeric.abs());
    assert!(error < 1e-6, "{what}: {exact} but finite differences say {numeric}");
}

/// Checks first and second derivatives of `f` at the float64 tensors `xs`.
pub fn gradcheck(what: &str, f: impl Fn(&[Tensor]) -> Result<Tensor>, xs: &[Tensor]) {
    assert!(xs.iter().all(|x| x.dtype() == DType::Float64));
    let n = xs.len();
    let shape = f(xs).unwrap().shape().to_vec();
    let mut all = xs.to_vec();
    all.push(random(77, &shape));
    let projected = |xs: &[Tensor]| sum(&(&f(&xs[..n]).unwrap() * &xs[n]));
    for seed in 0..2 {
        compare(&format!("{what}, first order"), &projected, &all, 1000 * seed);
        let ds: Vec<Tensor> =
            all.iter().zip(5..).map(|(x, i)| random(seed + 17 * i, x.shape())).collect();
        let first = |xs: &[Tensor]| slope(&projected, xs, &ds);
        compare(&format!("{what}, second order"), &first, &all, 2000 + 1000 * seed);
    }
}
