//! What a node keeps, as those see it who look at the graph: by PyTorch's names.

use crate::dtype::Scalar;
use crate::ops::Value;
use crate::tensor::Tensor;

/// What a node keeps, by name.
pub type Attributes = Vec<(&'static str, Attribute)>;

/// Something that a node keeps.
pub enum Attribute {
    /// A saved tensor, by its role.
    Saved(u8),
    /// A saved tensor, by its role; a number if it stands for one.
    SavedNumber(u8),
    /// Tensors that the rule holds itself; `None` where there is none.
    Tensors(Vec<Option<Tensor>>),
    /// A parameter of the operation.
    Value(Value),
}

impl Attribute {
    /// A whole number.
    pub fn int(value: impl TryInto<i64>) -> Attribute {
        value
            .try_into()
            .map_or(Attribute::Value(Value::None), |v| Attribute::number(Scalar::Int(v)))
    }

    /// A floating-point number.
    pub fn float(value: f64) -> Attribute {
        Attribute::number(Scalar::Float(value))
    }

    /// A truth value.
    pub fn bool(value: bool) -> Attribute {
        Attribute::number(Scalar::Bool(value))
    }

    /// A number of any kind.
    pub fn number(value: Scalar) -> Attribute {
        Attribute::Value(Value::Number(value))
    }

    /// Sizes, strides or dimensions.
    pub fn sizes(values: &[usize]) -> Attribute {
        Attribute::Value(Value::Ints(values.iter().map(|&v| v as i64).collect()))
    }

    /// Whole numbers.
    pub fn ints(values: &[i64]) -> Attribute {
        Attribute::Value(Value::Ints(values.into()))
    }

    /// The axes that a mask names.
    pub fn axes(mask: &[bool]) -> Attribute {
        let named = mask.iter().enumerate().filter(|(_, named)| **named);
        Attribute::Value(Value::Ints(named.map(|(d, _)| d as i64).collect()))
    }

    /// The axes that a mask names, if the call named any.
    pub fn named_axes(mask: &[bool], named: bool) -> Attribute {
        if named { Attribute::axes(mask) } else { Attribute::none() }
    }

    /// A word.
    pub fn text(value: &str) -> Attribute {
        Attribute::Value(Value::Str(value.to_owned()))
    }

    /// A tensor that the rule holds itself.
    pub fn tensor(value: Option<Tensor>) -> Attribute {
        Attribute::Value(value.map_or(Value::None, Value::Tensor))
    }

    /// Nothing was given.
    pub fn none() -> Attribute {
        Attribute::Value(Value::None)
    }
}
