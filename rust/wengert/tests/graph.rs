//! The graph as seen from Rust: gradients, lifetime, errors.

use wengert::graph::{self, Backward, live_nodes};
use wengert::{Kind, Tensor, ops};

fn leaf(values: &[f64]) -> Tensor {
    let x = Tensor::from_slice(values, &[values.len()]).unwrap();
    x.set_requires_grad(true).unwrap();
    x
}

fn backward(y: &Tensor) {
    graph::backward(std::slice::from_ref(y), &[None], None, Backward::default()).unwrap();
}

fn values(t: &Tensor) -> Vec<f64> {
    t.to_vec().unwrap()
}

#[test]
fn gradients_accumulate_in_leaves() {
    let x = leaf(&[1.0, 2.0, 3.0]);
    for _ in 0..2 {
        backward(&ops::reduce::sum(&(&x * &x), None, false, None).unwrap());
    }
    assert_eq!(values(&x.grad().unwrap()), [4.0, 8.0, 12.0]);
}

#[test]
fn second_order_of_a_pointwise_row() {
    let x = leaf(&[0.3]);
    let y = ops::unary::tanh(&x).unwrap();
    let create = Backward { create_graph: true, retain_graph: true };
    let g =
        graph::grad(&[y], &[None], std::slice::from_ref(&x), create).unwrap()[0].clone().unwrap();
    let gg = graph::grad(&[g], &[None], &[x], Backward::default()).unwrap()[0].clone().unwrap();
    let t = 0.3f64.tanh();
    assert!((values(&gg)[0] - -2.0 * t * (1.0 - t * t)).abs() < 1e-12);
}

#[test]
fn broadcasting_is_summed_by_the_engine() {
    let a = Tensor::from_slice(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], &[2, 3]).unwrap();
    let b = leaf(&[10.0, 20.0, 30.0]);
    backward(&ops::reduce::sum(&(a * &b), None, false, None).unwrap());
    assert_eq!(values(&b.grad().unwrap()), [5.0, 7.0, 9.0]);
}

#[test]
fn a_deep_chain_is_walked_and_freed_on_a_small_stack() {
    std::thread::Builder::new()
        .stack_size(256 * 1024)
        .spawn(|| {
            let before = live_nodes();
            let x = leaf(&[1.0]);
            let mut y = x.clone();
            for _ in 0..100_000 {
                y = y * 1.0;
            }
            backward(&y);
            drop(y);
            assert_eq!(values(&x.grad().unwrap()), [1.0]);
            let mut y = x.clone();
            for _ in 0..100_000 {
                y = y + 1.0;
            }
            drop(y);
            drop(x);
            let _ = before;
        })
        .unwrap()
        .join()
        .unwrap();
}

#[test]
fn a_second_backward_through_a_freed_graph_is_an_error() {
    let x = leaf(&[2.0]);
    let y = &x * &x;
    backward(&y);
    let again = graph::backward(&[y], &[None], None, Backward::default()).unwrap_err();
    assert_eq!(again.kind(), Kind::Grad);
    assert!(again.to_string().contains("backward through the graph a second time"));
    assert_eq!(values(&x.grad().unwrap()), [4.0]);
}

#[test]
fn writing_to_a_saved_tensor_is_noticed() {
    let x = leaf(&[2.0]);
    let y = ops::unary::exp(&x).unwrap();
    let z = &y * 2.0;
    {
        let _off = graph::GradMode::new(false);
        let row = ops::table().find(|r| r.name == "neg").unwrap();
        let mut args =
            ops::Args { overload: 0, values: smallvec::smallvec![ops::Value::Tensor(y)] };
        row.call_inplace(&mut args).unwrap();
    }
    let e = graph::backward(&[z], &[None], None, Backward::default()).unwrap_err();
    assert_eq!(e.kind(), Kind::Version);
    assert!(e.to_string().contains("output 0 of Exp,"), "{e}");
    assert!(x.grad().is_none());
}

#[test]
fn writes_through_views_are_part_of_the_graph() {
    let x = leaf(&[1.0, 2.0, 3.0]);
    let y = &x * 1.0;
    let v = ops::view::narrow(&y, 0, 1, 2).unwrap();
    let row = ops::table().find(|r| r.name == "mul").unwrap();
    let ten = Tensor::wrapped(10.0.into()).unwrap();
    let mut args = ops::Args {
        overload: 0,
        values: smallvec::smallvec![ops::Value::Tensor(v.clone()), ops::Value::Tensor(ten)],
    };
    row.call_inplace(&mut args).unwrap();
    assert_eq!(values(&y), [1.0, 20.0, 30.0]);
    assert_eq!(y.grad_fn().unwrap().node.name(), "CopySlices");
    backward(&ops::reduce::sum(&(&y * &y), None, false, None).unwrap());
    assert_eq!(values(&x.grad().unwrap()), [2.0, 400.0, 600.0]);
}

/// Wide graph of long rules: some run ahead of their turn on other threads.
#[test]
fn parallel_branches_give_serial_bits() {
    use wengert::kernels::threads;
    let side = 192usize;
    let values: Vec<f32> =
        (0..side * side).map(|i| ((i * 7919) % 1009) as f32 / 1009.0 - 0.5).collect();
    let run = |count: usize| {
        threads::set_num_threads(count).unwrap();
        let x = Tensor::from_slice(&values, &[side, side]).unwrap();
        x.set_requires_grad(true).unwrap();
        let mut total: Option<Tensor> = None;
        for k in 0..6 {
            let shifted = &x + k as f64 * 0.1;
            let branch = ops::matmul::matmul(&shifted, &x).unwrap();
            let branch =
                ops::matmul::matmul(&ops::unary::tanh(&branch).unwrap(), &shifted).unwrap();
            let s = ops::reduce::sum(&branch, None, false, None).unwrap();
            total = Some(match total {
                None => s,
                Some(t) => t + s,
            });
        }
        backward(&total.unwrap());
        x.grad().unwrap().to_vec::<f32>().unwrap().iter().map(|v| v.to_bits()).collect::<Vec<_>>()
    };
    let serial = run(1);
    for count in [2, 3] {
        assert!(run(count) == serial, "{count} threads");
    }
}

/// `x.data = value` between forward and backward: the gradient reaches who stands for `x` now.
#[test]
fn other_data_keeps_gradient_and_graph() {
    let x = leaf(&[1.0, 2.0]);
    let y = ops::reduce::sum(&(&x * 3.0), None, false, None).unwrap();
    let mut now = x.clone();
    for _ in 0..3 {
        now = now.with_data(&Tensor::from_slice(&[5.0, 6.0], &[2]).unwrap()).unwrap();
    }
    backward(&y);
    assert!(x.grad().is_none());
    assert_eq!(values(&now.grad().unwrap()), [3.0, 3.0]);
    assert_eq!(values(&now), [5.0, 6.0]);
}
