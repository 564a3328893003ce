//! Signatures and arguments: what a row of the table takes and what a call hands it.
//!
//! A signature is text in PyTorch's order of parameters, read once at start-up:
//!
//! ```text
//! (input, dim: int[]? = None, keepdim: bool = False, *, dtype: dtype? = None)
//! ```
//!
//! | type | accepts |
//! |---|---|
//! | (none), `Tensor?`, `Tensor[]` | tensors; a sequence of tensors |
//! | `Tensor...` | a sequence of tensors, or the tensors as positional arguments |
//! | `Operand` | a tensor or a Python number, which arrives as a wrapped 0-d tensor |
//! | `Number`, `Number?` | a Python number or a 0-d tensor |
//! | `int`, `int?`, `float`, `float?`, `bool`, `bool?`, `str`, `str?` | the Python types |
//! | `int[]`, `int[]?` | one integer or a sequence of them |
//! | `size` | a sequence of integers, or the integers as positional arguments |
//! | `dtype?`, `Generator?` | the package's own objects |
//! | `memory_format?` | the package's own objects |
//! | `device?`, `layout?` | checked and otherwise ignored: there is one of each |
//!
//! A trailing `?` admits `None`. What stands after `*` must be given by name.
//!
//! A signature without an arrow gives one tensor. Otherwise it says what it gives, as PyTorch's do:
//! `-> bool`, `-> Tensor[]`, `-> (Tensor, Tensor)`, `-> (Tensor values, Tensor indices)`.
//!
//! Arguments may be *lent*: a caller that holds a tensor for the length of the call passes it
//! without counting a handle, which for a view is a good part of its cost.
#![allow(unsafe_code)]

use crate::dtype::{DType, Scalar};
use crate::graph::record::recording;
use crate::memory_format::MemoryFormat as Format;
use crate::random::Generator;
use crate::tensor::Tensor;
use parking_lot::Mutex;
use smallvec::SmallVec;
use std::mem::ManuallyDrop;
use std::sync::Arc;

/// A generator that several owners may draw from.
pub type SharedGenerator = Arc<Mutex<Generator>>;

/// A tensor that somebody else keeps alive for as long as this exists. Its clone is a handle of
/// its own.
pub struct Lent(ManuallyDrop<Tensor>);

impl Lent {
    /// Lends a tensor.
    ///
    /// # Safety
    /// The tensor that `tensor` refers to stays alive until the result is dropped.
    #[inline]
    pub unsafe fn new(tensor: &Tensor) -> Lent {
        // SAFETY: a bitwise copy of a handle, never dropped, of a tensor that stays alive.
        Lent(ManuallyDrop::new(unsafe { std::ptr::read(tensor) }))
    }
}

impl std::ops::Deref for Lent {
    type Target = Tensor;

    #[inline]
    fn deref(&self) -> &Tensor {
        &self.0
    }
}

/// One argument of a call.
#[allow(missing_docs)]
pub enum Value {
    None,
    Tensor(Tensor),
    Lent(Lent),
    Tensors(Vec<Tensor>),
    Number(Scalar),
    Ints(SmallVec<[i64; 5]>),
    DType(DType),
    MemoryFormat(Format),
    Str(String),
    Generator(SharedGenerator),
}

impl Clone for Value {
    fn clone(&self) -> Value {
        match self {
            Value::None => Value::None,
            Value::Tensor(t) => Value::Tensor(t.clone()),
            Value::Lent(t) => Value::Tensor((**t).clone()),
            Value::Tensors(ts) => Value::Tensors(ts.clone()),
            Value::Number(n) => Value::Number(*n),
            Value::Ints(v) => Value::Ints(v.clone()),
            Value::DType(d) => Value::DType(*d),
            Value::MemoryFormat(f) => Value::MemoryFormat(*f),
            Value::Str(s) => Value::Str(s.clone()),
            Value::Generator(g) => Value::Generator(g.clone()),
        }
    }
}

impl Value {
    /// The tensor that this is.
    #[inline]
    pub fn as_tensor(&self) -> Option<&Tensor> {
        match self {
            Value::Tensor(t) => Some(t),
            Value::Lent(t) => Some(t),
            _ => None,
        }
    }

    /// The tensor or tensors that this is.
    #[inline]
    pub fn tensors(&self) -> &[Tensor] {
        match self {
            Value::Tensor(t) => std::slice::from_ref(t),
            Value::Lent(t) => std::slice::from_ref(t),
            Value::Tensors(ts) => ts,
            _ => &[],
        }
    }

    /// Makes a lent tensor one's own.
    #[inline]
    pub fn own(&mut self) {
        if let Value::Lent(t) = self {
            *self = Value::Tensor((**t).clone());
        }
    }
}

/// The type of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum ParamKind {
    Tensor,
    Tensors,
    Operand,
    Number,
    Int,
    Float,
    Bool,
    Str,
    Ints,
    Size,
    DType,
    Generator,
    Device,
    Layout,
    MemoryFormat,
}

/// One parameter of a signature.
pub struct Param {
    /// Its name, also as a keyword.
    pub name: &'static str,
    /// What it accepts.
    pub kind: ParamKind,
    /// Whether `None` is accepted.
    pub optional: bool,
    /// Whether it must be given by name.
    pub keyword_only: bool,
    /// Whether its items may be positional arguments themselves.
    pub variadic: bool,
    /// What it is when not given; `None` if it must be.
    pub default: Option<Value>,
    /// The default as written.
    pub default_text: Option<&'static str>,
}

/// A parsed signature.
pub struct Signature {
    /// In order.
    pub params: Vec<Param>,
    /// What it gives, as written after the arrow.
    pub returns: &'static str,
    /// The text it was read from.
    pub text: &'static str,
}

impl Signature {
    /// Reads a signature.
    ///
    /// # Panics
    /// If the text is malformed; a test reads every signature of the table.
    pub fn parse(text: &'static str) -> Signature {
        let (params, returns) = text.split_once("->").unwrap_or((text, "Tensor"));
        let inner = params.trim().strip_prefix('(').and_then(|t| t.strip_suffix(')'));
        let inner = inner.unwrap_or_else(|| panic!("signature without parentheses: {text}"));
        let mut params = Vec::new();
        let mut keyword_only = false;
        for part in inner.split(',').map(str::trim).filter(|p| !p.is_empty()) {
            if part == "*" {
                keyword_only = true;
                continue;
            }
            let (head, default_text) = match part.split_once('=') {
                Some((head, default)) => (head.trim(), Some(default.trim())),
                None => (part, None),
            };
            let (name, type_text) = head.split_once(':').unwrap_or((head, "Tensor"));
            let type_text = type_text.trim();
            let (type_text, optional) = match type_text.strip_suffix('?') {
                Some(t) => (t, true),
                None => (type_text, false),
            };
            let kind = match type_text {
                "Tensor" => ParamKind::Tensor,
                "Tensor[]" | "Tensor..." => ParamKind::Tensors,
                "Operand" => ParamKind::Operand,
                "Number" => ParamKind::Number,
                "int" => ParamKind::Int,
                "float" => ParamKind::Float,
                "bool" => ParamKind::Bool,
                "str" => ParamKind::Str,
                "int[]" => ParamKind::Ints,
                "size" => ParamKind::Size,
                "dtype" => ParamKind::DType,
                "Generator" => ParamKind::Generator,
                "device" => ParamKind::Device,
                "layout" => ParamKind::Layout,
                "memory_format" => ParamKind::MemoryFormat,
                other => panic!("unknown type {other} in signature {text}"),
            };
            let default = default_text.map(|d| parse_default(d, text));
            params.push(Param {
                name: name.trim(),
                kind,
                optional,
                keyword_only,
                variadic: type_text == "Tensor...",
                default,
                default_text,
            });
        }
        Signature { params, returns: returns.trim(), text }
    }
}

fn parse_default(text: &str, signature: &str) -> Value {
    match text {
        "None" => return Value::None,
        "True" => return Value::Number(Scalar::Bool(true)),
        "False" => return Value::Number(Scalar::Bool(false)),
        _ => {}
    }
    if let Some(s) = text.strip_prefix('\'').and_then(|t| t.strip_suffix('\'')) {
        return Value::Str(s.to_owned());
    }
    if let Ok(i) = text.parse::<i64>() {
        return Value::Number(Scalar::Int(i));
    }
    match text.parse::<f64>() {
        Ok(x) => Value::Number(Scalar::Float(x)),
        Err(_) => panic!("bad default {text} in signature {signature}"),
    }
}

/// The arguments of one call, in the order of the signature that matched.
#[derive(Clone, Default)]
pub struct Args {
    /// Which of the row's signatures matched.
    pub overload: usize,
    /// One value per parameter.
    pub values: SmallVec<[Value; 8]>,
}

/// Typed access. Positions and types are the row's own business: a wrong one is a defect that
/// any call of the row shows, so these panic instead of burdening each row with errors.
#[allow(missing_docs)]
impl Args {
    #[cold]
    fn wrong(&self, i: usize, wanted: &str) -> ! {
        panic!("argument {i} of this row is not {wanted}")
    }

    #[inline]
    pub fn tensor(&self, i: usize) -> &Tensor {
        self.values[i].as_tensor().unwrap_or_else(|| self.wrong(i, "a tensor"))
    }

    pub fn opt_tensor(&self, i: usize) -> Option<&Tensor> {
        self.values[i].as_tensor()
    }

    pub fn tensors(&self, i: usize) -> &[Tensor] {
        match &self.values[i] {
            Value::Tensors(t) => t,
            _ => self.wrong(i, "a list of tensors"),
        }
    }

    pub fn opt_number(&self, i: usize) -> Option<Scalar> {
        match &self.values[i] {
            Value::Number(s) => Some(*s),
            _ => None,
        }
    }

    #[inline]
    pub fn number(&self, i: usize) -> Scalar {
        self.opt_number(i).unwrap_or_else(|| self.wrong(i, "a number"))
    }

    pub fn float(&self, i: usize) -> f64 {
        self.number(i).to_f64()
    }

    pub fn int(&self, i: usize) -> i64 {
        self.number(i).to_i64()
    }

    pub fn opt_int(&self, i: usize) -> Option<i64> {
        self.opt_number(i).map(Scalar::to_i64)
    }

    #[inline]
    pub fn bool(&self, i: usize) -> bool {
        self.number(i).to_bool()
    }

    pub fn opt_ints(&self, i: usize) -> Option<&[i64]> {
        match &self.values[i] {
            Value::Ints(v) => Some(v),
            _ => None,
        }
    }

    #[inline]
    pub fn ints(&self, i: usize) -> &[i64] {
        self.opt_ints(i).unwrap_or_else(|| self.wrong(i, "a list of integers"))
    }

    pub fn opt_dtype(&self, i: usize) -> Option<DType> {
        match &self.values[i] {
            Value::DType(d) => Some(*d),
            _ => None,
        }
    }

    pub fn memory_format(&self, i: usize) -> Option<Format> {
        match &self.values[i] {
            Value::MemoryFormat(f) => Some(*f),
            _ => None,
        }
    }

    pub fn opt_str(&self, i: usize) -> Option<&str> {
        match &self.values[i] {
            Value::Str(s) => Some(s),
            _ => None,
        }
    }

    pub fn str(&self, i: usize) -> &str {
        self.opt_str(i).unwrap_or_else(|| self.wrong(i, "a string"))
    }

    pub fn generator(&self, i: usize) -> Option<&SharedGenerator> {
        match &self.values[i] {
            Value::Generator(g) => Some(g),
            _ => None,
        }
    }

    /// Every tensor among the arguments.
    #[inline]
    pub fn tensors_given(&self) -> impl Iterator<Item = &Tensor> {
        self.values.iter().flat_map(Value::tensors)
    }

    /// Whether a node or tangents come of a call with these arguments.
    pub(crate) fn recording(&self) -> bool {
        self.tensors_given().any(|t| recording(&[t]))
    }

    /// Whether any tensor among the arguments requires grad.
    pub fn requires_grad(&self) -> bool {
        self.tensors_given().any(Tensor::requires_grad)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_read() {
        let s = Signature::parse("(input, dim: int[]? = None, *, p: float = 0.5, mode: str = 'x')");
        assert_eq!(s.params.len(), 4);
        assert_eq!(s.params[0].kind, ParamKind::Tensor);
        assert!(s.params[1].optional && !s.params[1].keyword_only && s.params[2].keyword_only);
        assert!(matches!(&s.params[3].default, Some(Value::Str(x)) if x == "x"));
        assert_eq!(s.returns, "Tensor");
        assert_eq!(
            Signature::parse("(input) -> (Tensor a, Tensor b)").returns,
            "(Tensor a, Tensor b)"
        );
    }
}
