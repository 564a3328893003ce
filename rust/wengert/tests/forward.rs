//! Forward mode without Python: levels, what they keep alive, and both ways to a tangent.

use wengert::graph::{self, Context, Gradients, Op, forward, record};
use wengert::{DType, Result, Tensor, ops};

fn vector(values: &[f64]) -> Tensor {
    Tensor::from_slice(values, &[values.len()]).unwrap()
}

fn values(t: &Tensor) -> Vec<f64> {
    t.to_vec().unwrap()
}

/// The derivative of `f` at `x` along `v`.
fn jvp(f: impl Fn(&Tensor) -> Tensor, x: &Tensor, v: &Tensor) -> Tensor {
    let level = forward::enter();
    let y = f(&forward::make_dual(x, v, level).unwrap());
    let (_, tangent) = forward::unpack_dual(&y, level).unwrap();
    forward::exit(level).unwrap();
    tangent.unwrap()
}

/// `x³` with a rule for backward and no other.
fn cube(x: &Tensor) -> Tensor {
    struct Cube;
    impl Op for Cube {
        fn name(&self) -> &'static str {
            "CubeBackward"
        }
        fn backward(&self, ctx: &Context, grads: &[Option<Tensor>]) -> Result<Gradients> {
            let (Some(g), x) = (&grads[0], ctx.saved(0)) else { return Ok(Gradients::new()) };
            Ok(smallvec::smallvec![Some(g * (x * x * 3.0))])
        }
    }
    let cubes: Vec<f64> = values(x).iter().map(|x| x * x * x).collect();
    let y = Tensor::from_slice(&cubes, x.shape()).unwrap();
    if record::recording(&[x]) {
        record::record(&y, &[x], &[(0, x)], Box::new(Cube)).unwrap();
    }
    y
}

#[test]
fn a_rule_for_backward_is_enough() {
    let (x, v) = (vector(&[1.0, -2.0]), vector(&[1.0, 0.5]));
    assert_eq!(values(&jvp(cube, &x, &v)), [3.0, 6.0]);
    // And again for the derivative of the derivative.
    assert_eq!(values(&jvp(|x| jvp(cube, x, &v), &x, &v)), [6.0, -3.0]);
    assert_eq!(values(&jvp(|y| jvp(|x| jvp(cube, x, &v), y, &v), &x, &v)), [6.0, 0.75]);
}

#[test]
fn a_tangent_is_differentiable_in_reverse() {
    let (x, v) = (vector(&[1.0, -2.0]), vector(&[1.0, 0.5]));
    x.set_requires_grad(true).unwrap();
    let slope = jvp(|x| ops::reduce::sum(&cube(x), None, false, None).unwrap(), &x, &v);
    let gradient = graph::grad(&[slope], &[None], &[x], Default::default()).unwrap();
    assert_eq!(values(gradient[0].as_ref().unwrap()), [6.0, -6.0]);
}

#[test]
fn without_requires_grad_nothing_is_recorded() {
    let level = forward::enter();
    let x = forward::make_dual(&vector(&[0.5]), &vector(&[1.0]), level).unwrap();
    let y = ops::mul(&cube(&ops::unary::tanh(&x).unwrap()), &x).unwrap();
    let (_, tangent) = forward::unpack_dual(&y, level).unwrap();
    assert!(y.grad_fn().is_none() && tangent.unwrap().grad_fn().is_none());
    forward::exit(level).unwrap();
}

#[test]
fn a_level_left_open_ends_with_its_thread() {
    let x = std::thread::spawn(|| {
        let level = forward::enter();
        forward::make_dual(&vector(&[0.5]), &vector(&[1.0]), level).unwrap()
    })
    .join()
    .unwrap();
    let level = forward::enter();
    let (_, tangent) = forward::unpack_dual(&x, level).unwrap();
    assert!(tangent.is_none());
    forward::exit(level).unwrap();
}

#[test]
fn tangents_keep_the_layout_of_their_tensor() {
    let x = Tensor::from_slice(&[1.0f32; 6], &[2, 3]).unwrap();
    let x = ops::view::t(&x).unwrap();
    let v = Tensor::full(&[3, 2], 1.0, DType::Float32).unwrap();
    let level = forward::enter();
    let y = ops::unary::exp(&forward::make_dual(&x, &v, level).unwrap()).unwrap();
    let (_, tangent) = forward::unpack_dual(&y, level).unwrap();
    assert_eq!(tangent.unwrap().layout().strides(), y.layout().strides());
    forward::exit(level).unwrap();
}
