//! Infix operators, so that derivative rules read as mathematics.
//!
//! `g * (1.0 - y * y)` has no place for a `Result`. The operators therefore report an error by
//! unwinding with the [`Error`] itself as payload; the scheduler catches it where it calls the
//! rule and hands it on as an ordinary error. Outside rules use the named functions, which return
//! `Result`.

use crate::tensor::Tensor;
use crate::{Error, Result, Scalar, ops};
use std::ops::{Add, Div, Mul, Neg, Sub};

#[cold]
pub(crate) fn unwind(error: Error) -> ! {
    std::panic::resume_unwind(Box::new(error))
}

/// The value, or an error that unwinds to whoever called the rule.
pub(crate) fn expect(result: Result<Tensor>) -> Tensor {
    result.unwrap_or_else(|error| unwind(error))
}

fn number(x: f64) -> Tensor {
    expect(Tensor::wrapped(Scalar::Float(x)))
}

macro_rules! operators {
    ($($Trait:ident $method:ident $function:path;)*) => { $(
        impl $Trait<&Tensor> for &Tensor {
            type Output = Tensor;
            fn $method(self, other: &Tensor) -> Tensor {
                expect($function(self, other))
            }
        }
        impl $Trait<Tensor> for &Tensor {
            type Output = Tensor;
            fn $method(self, other: Tensor) -> Tensor {
                self.$method(&other)
            }
        }
        impl $Trait<&Tensor> for Tensor {
            type Output = Tensor;
            fn $method(self, other: &Tensor) -> Tensor {
                (&self).$method(other)
            }
        }
        impl $Trait<Tensor> for Tensor {
            type Output = Tensor;
            fn $method(self, other: Tensor) -> Tensor {
                (&self).$method(&other)
            }
        }
        impl $Trait<f64> for &Tensor {
            type Output = Tensor;
            fn $method(self, other: f64) -> Tensor {
                self.$method(&number(other))
            }
        }
        impl $Trait<f64> for Tensor {
            type Output = Tensor;
            fn $method(self, other: f64) -> Tensor {
                (&self).$method(other)
            }
        }
        impl $Trait<&Tensor> for f64 {
            type Output = Tensor;
            fn $method(self, other: &Tensor) -> Tensor {
                (&number(self)).$method(other)
            }
        }
        impl $Trait<Tensor> for f64 {
            type Output = Tensor;
            fn $method(self, other: Tensor) -> Tensor {
                self.$method(&other)
            }
        }
    )* };
}

operators! {
    Add add ops::add;
    Sub sub ops::sub;
    Mul mul ops::mul;
    Div div ops::div;
}

impl Neg for &Tensor {
    type Output = Tensor;
    fn neg(self) -> Tensor {
        expect(ops::unary::neg(self))
    }
}

impl Neg for Tensor {
    type Output = Tensor;
    fn neg(self) -> Tensor {
        -&self
    }
}
