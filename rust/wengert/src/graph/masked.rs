//! Gradients of what was masked out: zero times an infinite slope is zero.
//!
//! `where(x > 0, sqrt(x), 0)` does not depend on the square root at 0, and the gradient that arrives
//! there is exactly zero. But the chain rule multiplies it with the slope of the root, which is
//! infinite, and the product is NaN. In this mode, which a thread opts into, it is 0.
//!
//! What is done: after the rule of a *pointwise* operation, an element of a gradient that is NaN
//! becomes 0 if the element of the output's gradient at its place is exactly zero
//! ([`masked`](crate::ops::binary::masked())). Three properties make that the right place.
//!
//! * Each element of a pointwise operation's output has a slope of its own, so that an incoming zero
//!   says that *this* slope is asked for by nobody. (A zero that comes of cancellation says the same:
//!   the output could move freely at first order.) Rules do not sum over broadcast axes, the scheduler
//!   does so afterwards: gradients still have the output's shape, element for element.
//! * Only NaN is replaced. Where the slope is finite the product is zero anyway, *and a recorded pass
//!   still sees it depend on the incoming gradient*: the derivative of `0 · slope` by the 0 is the
//!   slope, which second derivatives and the transposition of rules ([`transpose`](super::transpose))
//!   live on.
//! * The replacement is an operation with a rule, which passes zero to what it dropped. So it holds
//!   for derivatives of any order, and for tangents, where a pointwise rule is its own transpose.
//!
//! A pass asks the thread once, when it begins; nobody else pays for the question.

use super::context::Context;
use super::node::{Gradients, Op};
use crate::Result;
use crate::ops::binary::masked;
use crate::per_thread::here;
use crate::tensor::Tensor;

/// Whether this thread masks gradients.
#[inline]
pub fn is_masked() -> bool {
    here().masked.get()
}

/// Has this thread mask gradients, or not; gives what it did.
#[inline]
pub fn set_masked(on: bool) -> bool {
    here().masked.replace(on)
}

/// A rule as this thread wants it.
#[inline]
pub(super) fn rule(
    op: &dyn Op,
    context: &Context,
    gradients: &[Option<Tensor>],
) -> Result<Gradients> {
    match is_masked() {
        false => op.backward(context, gradients),
        true => backward(op, context, gradients),
    }
}

/// A rule with its result masked.
#[cold]
pub(super) fn backward(
    op: &dyn Op,
    context: &Context,
    gradients: &[Option<Tensor>],
) -> Result<Gradients> {
    let mut found = op.backward(context, gradients)?;
    let [Some(incoming)] = gradients else { return Ok(found) };
    if !op.is_pointwise() {
        return Ok(found);
    }
    for gradient in found.iter_mut().flatten() {
        if gradient.shape() == incoming.shape() && !gradient.same(incoming) {
            *gradient = masked(gradient, incoming)?;
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{self, Backward};
    use crate::ops;

    struct Masked(bool);

    impl Masked {
        fn new() -> Masked {
            Masked(set_masked(true))
        }
    }

    impl Drop for Masked {
        fn drop(&mut self) {
            set_masked(self.0);
        }
    }

    fn leaf(values: &[f64]) -> Tensor {
        let x = Tensor::from_slice(values, &[values.len()]).unwrap();
        x.set_requires_grad(true).unwrap();
        x
    }

    fn derivative(y: &Tensor, x: &Tensor, create_graph: bool) -> Tensor {
        let options = Backward { retain_graph: true, create_graph };
        let sum = ops::reduce::sum(y, None, false, None).unwrap();
        graph::grad(&[sum], &[None], std::slice::from_ref(x), options).unwrap()[0].clone().unwrap()
    }

    #[test]
    fn a_zero_stops_an_infinite_slope_at_any_order() {
        let x = leaf(&[0.0, 4.0]);
        let zero = Tensor::zeros(&[], x.dtype()).unwrap();
        let positive = ops::compare::gt(&x, &zero).unwrap();
        let y = ops::binary::where_(&positive, &ops::unary::sqrt(&x).unwrap(), &zero).unwrap();
        assert!(derivative(&y, &x, false).to_vec::<f64>().unwrap()[0].is_nan());
        let _on = Masked::new();
        let first = derivative(&y, &x, true);
        assert_eq!(first.to_vec::<f64>().unwrap(), [0.0, 0.25]);
        let second = derivative(&first, &x, true);
        assert_eq!(second.to_vec::<f64>().unwrap(), [0.0, -0.03125]);
        let third = derivative(&second, &x, false).to_vec::<f64>().unwrap();
        assert_eq!(third[0], 0.0);
    }

    #[test]
    fn finite_slopes_of_a_zero_stay_in_the_graph() {
        let _on = Masked::new();
        let (x, v) = (leaf(&[3.0]), leaf(&[0.0]));
        let y = &x * &x;
        let options = Backward { retain_graph: true, create_graph: true };
        let vjp = graph::grad(&[y], &[Some(v.clone())], std::slice::from_ref(&x), options).unwrap();
        let slope = derivative(vjp[0].as_ref().unwrap(), &v, false);
        assert_eq!(slope.to_vec::<f64>().unwrap(), [6.0]);
    }
}
