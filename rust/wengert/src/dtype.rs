//! Element types, Python-style scalars and PyTorch's promotion rules.
//!
//! Two types meet in a *category* order (bool < integer < floating); within a category the
//! smallest type that holds both wins. Which operand may decide is a second question, with
//! three priorities: tensors with dimensions, then 0-d tensors, then Python numbers. An operand
//! of lower priority counts only if its category is higher ([`ResultType`]).

use half::{bf16, f16};
use std::fmt;

/// An element type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum DType {
    /// One byte, 0 or 1.
    Bool,
    /// Unsigned 8-bit integer.
    UInt8,
    /// Signed 8-bit integer.
    Int8,
    /// Signed 16-bit integer.
    Int16,
    /// Signed 32-bit integer.
    Int32,
    /// Signed 64-bit integer.
    Int64,
    /// IEEE 754 binary16.
    Float16,
    /// The upper half of a binary32.
    BFloat16,
    /// IEEE 754 binary32, the default.
    Float32,
    /// IEEE 754 binary64.
    Float64,
}

use DType::*;

/// How wide a family of values a type describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Category {
    /// Truth values.
    Bool,
    /// Whole numbers.
    Integer,
    /// Rounded real numbers.
    Floating,
}

impl DType {
    /// Every type, in the order of their discriminants.
    pub const ALL: [DType; 10] =
        [Bool, UInt8, Int8, Int16, Int32, Int64, Float16, BFloat16, Float32, Float64];

    /// Bytes per element.
    pub const fn size(self) -> usize {
        match self {
            Bool | UInt8 | Int8 => 1,
            Int16 | Float16 | BFloat16 => 2,
            Int32 | Float32 => 4,
            Int64 | Float64 => 8,
        }
    }

    /// PyTorch's canonical name, without the module: `float32`.
    pub const fn name(self) -> &'static str {
        match self {
            Bool => "bool",
            UInt8 => "uint8",
            Int8 => "int8",
            Int16 => "int16",
            Int32 => "int32",
            Int64 => "int64",
            Float16 => "float16",
            BFloat16 => "bfloat16",
            Float32 => "float32",
            Float64 => "float64",
        }
    }

    /// The name PyTorch's error messages use: `Float`, `Long`.
    pub const fn scalar_type_name(self) -> &'static str {
        match self {
            Bool => "Bool",
            UInt8 => "Byte",
            Int8 => "Char",
            Int16 => "Short",
            Int32 => "Int",
            Int64 => "Long",
            Float16 => "Half",
            BFloat16 => "BFloat16",
            Float32 => "Float",
            Float64 => "Double",
        }
    }

    /// bool, integer or floating.
    pub const fn category(self) -> Category {
        match self {
            Bool => Category::Bool,
            UInt8 | Int8 | Int16 | Int32 | Int64 => Category::Integer,
            Float16 | BFloat16 | Float32 | Float64 => Category::Floating,
        }
    }

    /// Whether values are rounded reals, and so differentiable.
    pub const fn is_floating(self) -> bool {
        matches!(self.category(), Category::Floating)
    }

    /// Whether values are whole numbers or truth values.
    pub const fn is_integral(self) -> bool {
        !self.is_floating()
    }

    /// Whether values can be negative.
    pub const fn is_signed(self) -> bool {
        !matches!(self, Bool | UInt8)
    }

    /// The type in which arithmetic on this type is carried out: half precision uses float32.
    pub const fn compute(self) -> DType {
        match self {
            Float16 | BFloat16 => Float32,
            other => other,
        }
    }

    /// The smallest type that holds the values of both, PyTorch's `promote_types`.
    pub const fn promote(self, other: DType) -> DType {
        if self as u8 == other as u8 {
            return self;
        }
        let (low, high) = if (self as u8) < (other as u8) { (self, other) } else { (other, self) };
        match (low, high) {
            (Bool, t) => t,
            (UInt8, Int8) => Int16,
            (Float16, BFloat16) => Float32,
            // Everything else is ordered: wider integers, then floating types.
            (_, t) => t,
        }
    }

    /// Whether PyTorch lets a result of this type be stored into `target` (its `can_cast`).
    pub fn can_cast(self, target: DType) -> bool {
        self.category() <= target.category()
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A Python number: it has a category, but no width.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scalar {
    /// `True` or `False`.
    Bool(bool),
    /// A whole number that fits 64 bits.
    Int(i64),
    /// A float.
    Float(f64),
}

impl Scalar {
    /// bool, integer or floating.
    pub fn category(self) -> Category {
        match self {
            Scalar::Bool(_) => Category::Bool,
            Scalar::Int(_) => Category::Integer,
            Scalar::Float(_) => Category::Floating,
        }
    }

    /// The type that holds any number of this kind.
    #[inline]
    pub fn widest_dtype(self) -> DType {
        match self {
            Scalar::Bool(_) => DType::Bool,
            Scalar::Int(_) => DType::Int64,
            Scalar::Float(_) => DType::Float64,
        }
    }

    /// The type of a tensor made from this number alone.
    pub fn default_dtype(self) -> DType {
        match self {
            Scalar::Bool(_) => Bool,
            Scalar::Int(_) => Int64,
            Scalar::Float(_) => default_float(),
        }
    }

    /// The value as a double.
    pub fn to_f64(self) -> f64 {
        match self {
            Scalar::Bool(b) => b as u8 as f64,
            Scalar::Int(i) => i as f64,
            Scalar::Float(x) => x,
        }
    }

    /// The value as an integer; floats are truncated and saturate.
    pub fn to_i64(self) -> i64 {
        match self {
            Scalar::Bool(b) => b as i64,
            Scalar::Int(i) => i,
            Scalar::Float(x) => x as i64,
        }
    }

    /// Whether the value differs from zero (NaN does).
    pub fn to_bool(self) -> bool {
        match self {
            Scalar::Bool(b) => b,
            Scalar::Int(i) => i != 0,
            Scalar::Float(x) => x != 0.0,
        }
    }
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scalar::Bool(b) => f.write_str(if *b { "True" } else { "False" }),
            Scalar::Int(i) => write!(f, "{i}"),
            Scalar::Float(x) => write!(f, "{x:?}"),
        }
    }
}

impl From<f64> for Scalar {
    fn from(x: f64) -> Self {
        Scalar::Float(x)
    }
}

impl From<i64> for Scalar {
    fn from(x: i64) -> Self {
        Scalar::Int(x)
    }
}

impl From<bool> for Scalar {
    fn from(x: bool) -> Self {
        Scalar::Bool(x)
    }
}

static DEFAULT_FLOAT: std::sync::atomic::AtomicU8 = std::sync::atomic::AtomicU8::new(Float32 as u8);

/// The floating type of tensors made from Python floats (`get_default_dtype`).
pub fn default_float() -> DType {
    DType::ALL[DEFAULT_FLOAT.load(std::sync::atomic::Ordering::Relaxed) as usize]
}

/// Sets what [`default_float`] returns (`set_default_dtype`).
pub fn set_default_float(dtype: DType) {
    DEFAULT_FLOAT.store(dtype as u8, std::sync::atomic::Ordering::Relaxed);
}

/// Accumulates operands and gives the type of the result.
///
/// ```
/// use wengert::dtype::{DType, ResultType, Scalar};
/// let mut r = ResultType::default();
/// r.tensor(DType::Int32, 2);
/// r.scalar(Scalar::Float(1.5));
/// assert_eq!(r.finish(), DType::Float32);
/// ```
#[derive(Clone, Copy, Default)]
pub struct ResultType {
    dimensioned: Option<DType>,
    zero_dim: Option<DType>,
    number: Option<Category>,
}

impl ResultType {
    /// Adds a tensor operand with `ndim` dimensions.
    #[inline]
    pub fn tensor(&mut self, dtype: DType, ndim: usize) {
        let slot = if ndim > 0 { &mut self.dimensioned } else { &mut self.zero_dim };
        *slot = Some(slot.map_or(dtype, |d| d.promote(dtype)));
    }

    /// Adds a Python number.
    #[inline]
    pub fn scalar(&mut self, value: Scalar) {
        self.number = self.number.max(Some(value.category()));
    }

    /// The type all operands are converted to.
    pub fn finish(self) -> DType {
        let number = self.number.map(|c| match c {
            Category::Bool => Bool,
            Category::Integer => Int64,
            Category::Floating => default_float(),
        });
        let mut result = None;
        for candidate in [self.dimensioned, self.zero_dim, number] {
            result = match (result, candidate) {
                (None, c) => c,
                (r, None) => r,
                (Some(r), Some(c)) if c.category() > r.category() => Some(c.promote(r)),
                (r, _) => r,
            };
        }
        result.unwrap_or_else(default_float)
    }
}

/// A Rust type that a tensor can hold.
pub trait Element: Copy + Send + Sync + 'static {
    /// The matching run-time type.
    const DTYPE: DType;
    /// The nearest value of this type; integers truncate and saturate.
    fn from_scalar(value: Scalar) -> Self;
    /// The value as a number of the widest type of its category.
    fn to_scalar(self) -> Scalar;
}

macro_rules! element {
    ($($t:ty, $dtype:ident, $from:expr, $to:expr;)*) => { $(
        impl Element for $t {
            const DTYPE: DType = DType::$dtype;
            #[inline]
            fn from_scalar(value: Scalar) -> Self {
                #[allow(clippy::redundant_closure_call)]
                ($from)(value)
            }
            #[inline]
            fn to_scalar(self) -> Scalar {
                #[allow(clippy::redundant_closure_call)]
                ($to)(self)
            }
        }
    )* };
}

/// Narrows like C does for whole numbers (wraps), and saturates for floats.
macro_rules! to_int {
    ($t:ty) => {
        |v: Scalar| match v {
            Scalar::Float(x) => x as $t,
            other => other.to_i64() as $t,
        }
    };
}

element! {
    bool, Bool, |v: Scalar| v.to_bool(), Scalar::Bool;
    u8, UInt8, to_int!(u8), |x: u8| Scalar::Int(x as i64);
    i8, Int8, to_int!(i8), |x: i8| Scalar::Int(x as i64);
    i16, Int16, to_int!(i16), |x: i16| Scalar::Int(x as i64);
    i32, Int32, to_int!(i32), |x: i32| Scalar::Int(x as i64);
    i64, Int64, to_int!(i64), Scalar::Int;
    f16, Float16, |v: Scalar| f16::from_f64(v.to_f64()), |x: f16| Scalar::Float(x.to_f64());
    bf16, BFloat16, |v: Scalar| bf16::from_f64(v.to_f64()), |x: bf16| Scalar::Float(x.to_f64());
    f32, Float32, |v: Scalar| v.to_f64() as f32, |x: f32| Scalar::Float(x as f64);
    f64, Float64, |v: Scalar| v.to_f64(), Scalar::Float;
}

/// Runs a block with `$T` bound to the Rust type of a run-time [`DType`].
///
/// `dispatch!(dtype, T => work::<T>(args))`
#[macro_export]
macro_rules! dispatch {
    ($dtype:expr, $T:ident => $body:expr) => {
        match $dtype {
            $crate::DType::Bool => {
                type $T = bool;
                $body
            }
            $crate::DType::UInt8 => {
                type $T = u8;
                $body
            }
            $crate::DType::Int8 => {
                type $T = i8;
                $body
            }
            $crate::DType::Int16 => {
                type $T = i16;
                $body
            }
            $crate::DType::Int32 => {
                type $T = i32;
                $body
            }
            $crate::DType::Int64 => {
                type $T = i64;
                $body
            }
            $crate::DType::Float16 => {
                type $T = half::f16;
                $body
            }
            $crate::DType::BFloat16 => {
                type $T = half::bf16;
                $body
            }
            $crate::DType::Float32 => {
                type $T = f32;
                $body
            }
            $crate::DType::Float64 => {
                type $T = f64;
                $body
            }
        }
    };
}
