//! From Python's arguments to the values a row takes, by its signature.
#![allow(unsafe_code)]

use crate::error::OrRaise;
use crate::object::value_of;
use crate::random::PyGenerator;
use crate::tensor::PyTensor;
use crate::types::{PyLayout, PyMemoryFormat, check_device, extract_dtype};
use pyo3::exceptions::{PyOverflowError, PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyFloat, PyInt, PyList, PyString, PyTuple};
use smallvec::SmallVec;
use wengert::ops::args::Lent;
use wengert::ops::{Args, Param, ParamKind, Row, Signature, Value};
use wengert::{DType, Scalar, Tensor};

/// A row with its signatures read and its names ready for comparison.
pub struct BoundRow {
    /// The row.
    pub row: &'static Row,
    overloads: Vec<(Signature, Vec<Py<PyString>>)>,
    /// The parameters of the first signature.
    plain: Vec<PlainParam>,
}

/// What a plain call has to know of a parameter.
struct PlainParam {
    kind: ParamKind,
    optional: bool,
    keyword_only: bool,
    absent: Absent,
}

/// What a parameter is when not given.
enum Absent {
    None,
    Number(Scalar),
    Other(Value),
    /// It must be given, or what it is then depends on the rest.
    Refused,
}

/// Keywords of NumPy that stand for PyTorch's.
const NUMPY_NAMES: &[(&str, &[&str])] = &[
    ("dim", &["axis"]),
    ("keepdim", &["keepdims"]),
    ("input", &["x", "a", "x1"]),
    ("other", &["x2"]),
];

/// The arguments of a call as Python passes them.
pub struct Call<'a, 'py> {
    /// The object of a method call.
    pub slf: Option<&'a Bound<'py, PyAny>>,
    /// Positional arguments.
    pub positional: &'a [Bound<'py, PyAny>],
    /// Keyword arguments.
    pub keywords: &'a [(Bound<'py, PyString>, Bound<'py, PyAny>)],
}

/// Why a signature does not take a call.
enum Mismatch {
    /// Another overload may.
    Try(String),
    /// An exception that ends the search.
    Raise(PyErr),
}

impl From<PyErr> for Mismatch {
    fn from(e: PyErr) -> Self {
        Mismatch::Raise(e)
    }
}

impl BoundRow {
    /// Reads a row's signatures.
    pub fn new(py: Python<'_>, row: &'static Row) -> BoundRow {
        let overloads = row.signatures.iter().map(|text| {
            let signature = Signature::parse(text);
            let names =
                signature.params.iter().map(|p| PyString::intern(py, p.name).unbind()).collect();
            (signature, names)
        });
        let plain = |p: &Param| PlainParam {
            kind: p.kind,
            optional: p.optional,
            keyword_only: p.keyword_only,
            absent: match &p.default {
                Some(Value::Number(number)) => Absent::Number(*number),
                Some(Value::None) => Absent::None,
                Some(default) => Absent::Other(default.clone()),
                None if p.optional => Absent::None,
                None => Absent::Refused,
            },
        };
        let overloads: Vec<(Signature, Vec<Py<PyString>>)> = overloads.collect();
        let first = overloads.first().map_or(&[][..], |(signature, _)| &signature.params);
        let plain = first.iter().map(plain).collect();
        BoundRow { row, overloads, plain }
    }

    /// [`parse`](Self::parse) for plain calls: positional arguments of exactly the types that the
    /// first signature names, and small tensors. `None` for any other, without a reason; otherwise
    /// whether a tensor among them has a [story](Tensor::has_story).
    #[inline]
    pub fn parse_plain<'py>(
        &self,
        py: Python<'py>,
        slf: Option<&Bound<'py, PyAny>>,
        positional: &[Bound<'py, PyAny>],
        values: &mut SmallVec<[Value; 8]>,
    ) -> Option<bool> {
        let mut story = false;
        let mut rest = positional.iter();
        let mut params = self.plain.iter();
        if let Some(slf) = slf {
            params.next()?;
            values.push(Value::Lent(lend_small(py, slf, &mut story)?));
        }
        for param in params {
            let given = if param.keyword_only { None } else { rest.next() };
            let Some(given) = given else {
                match &param.absent {
                    Absent::None => values.push(Value::None),
                    Absent::Number(number) => values.push(Value::Number(*number)),
                    Absent::Other(default) => values.push(default.clone()),
                    Absent::Refused => return None,
                }
                continue;
            };
            let value = match param.kind {
                ParamKind::Tensor => Value::Lent(lend_small(py, given, &mut story)?),
                ParamKind::Operand => match lend_small(py, given, &mut story) {
                    Some(lent) => Value::Lent(lent),
                    None => Value::Tensor(Tensor::wrapped(exact_number(given)?).ok()?),
                },
                ParamKind::Number | ParamKind::Float => Value::Number(exact_number(given)?),
                ParamKind::Bool => {
                    Value::Number(Scalar::Bool(given.cast_exact::<PyBool>().ok()?.is_true()))
                }
                ParamKind::Int => Value::Number(Scalar::Int(exact_int(given)?)),
                ParamKind::Ints | ParamKind::Size => {
                    values.push(Value::Ints(SmallVec::new()));
                    let Some(Value::Ints(ints)) = values.last_mut() else { unreachable!() };
                    let taken = match (exact_int(given), param.kind) {
                        (Some(i), kind) => {
                            ints.push(i);
                            // The integers themselves: view(2, 3).
                            kind != ParamKind::Size || exact_ints(rest.by_ref(), ints)
                        }
                        (None, _) => exact_tuple(given, ints),
                    };
                    if taken {
                        continue;
                    }
                    return None;
                }
                _ if param.optional && given.is_none() => Value::None,
                _ => return None,
            };
            values.push(value);
        }
        rest.next().is_none().then_some(story)
    }

    /// The position of the first parameter of a kind in the signature that matched.
    pub fn position(&self, args: &Args, kind: ParamKind) -> Option<usize> {
        self.overloads[args.overload].0.params.iter().position(|p| p.kind == kind)
    }

    /// Adds what the parameters of the first signature are when not given, after those there are.
    pub fn push_defaults(&self, args: &mut Args) {
        let given = args.values.len();
        for param in self.overloads[0].0.params.iter().skip(given) {
            args.values.push(param.default.clone().unwrap_or(Value::None));
        }
    }

    /// Fills `args` with values for the first signature that takes the call. They are written in
    /// place, because moving a dozen words per call is a good part of a small one.
    pub fn parse(&self, py: Python<'_>, call: &Call<'_, '_>, args: &mut Args) -> PyResult<()> {
        let mut reasons = Vec::new();
        for (overload, (signature, names)) in self.overloads.iter().enumerate() {
            args.values.clear();
            match self.parse_one(py, signature, names, call, &mut args.values) {
                Ok(()) => {
                    args.overload = overload;
                    return Ok(());
                }
                Err(Mismatch::Raise(e)) => return Err(e),
                Err(Mismatch::Try(reason)) => reasons.push(reason),
            }
        }
        Err(self.no_match(&reasons))
    }

    #[cold]
    fn no_match(&self, reasons: &[String]) -> PyErr {
        let name = self.row.short_name();
        if let [reason] = reasons {
            return PyTypeError::new_err(format!("{name}(): {reason}"));
        }
        let mut text = format!("{name}() received an invalid combination of arguments:");
        for ((signature, _), reason) in self.overloads.iter().zip(reasons) {
            text.push_str(&format!("\n * {}\n      {reason}", signature.text));
        }
        PyTypeError::new_err(text)
    }

    fn parse_one(
        &self,
        py: Python<'_>,
        signature: &Signature,
        names: &[Py<PyString>],
        call: &Call<'_, '_>,
        values: &mut SmallVec<[Value; 8]>,
    ) -> Result<(), Mismatch> {
        let mut next = 0;
        let mut used = 0;
        for (i, param) in signature.params.iter().enumerate() {
            let positional = if i == 0 && call.slf.is_some() {
                call.slf
            } else if !param.keyword_only && next < call.positional.len() {
                next += 1;
                Some(&call.positional[next - 1])
            } else {
                None
            };
            if param.variadic && positional.is_none_or(|first| !is_sequence(first)) {
                // The tensors themselves: broadcast_tensors(a, b).
                next -= positional.is_some() as usize;
                let all = &call.positional[next..];
                values.push(Value::Tensors(each_tensor(all.iter(), param.name)?));
                next = call.positional.len();
                continue;
            }
            if param.kind == ParamKind::Size
                && let Some(first) = positional
                && !is_sequence(first)
            {
                // The integers themselves: view(2, 3).
                next -= 1;
                if !call.positional[next..].iter().all(|v| v.is_instance_of::<PyInt>()) {
                    values.iter_mut().for_each(Value::own);
                }
                values.push(Value::Ints(SmallVec::new()));
                let Some(Value::Ints(ints)) = values.last_mut() else { unreachable!() };
                while next < call.positional.len() {
                    ints.push(index(&call.positional[next], param.name)?);
                    next += 1;
                }
                continue;
            }
            let given = match positional {
                Some(v) => Some(v),
                None => {
                    let found = find_keyword(py, call, &names[i], param.name);
                    used += found.is_some() as usize;
                    found
                }
            };
            let Some(given) = given else {
                values.push(absent(param, i, call)?);
                continue;
            };
            match (given.cast_exact::<PyTensor>(), param.kind) {
                (Ok(t), ParamKind::Tensor | ParamKind::Operand) => {
                    // SAFETY: the caller of the operation holds the object and the lock, and `Args` does
                    // not outlive the call. Whatever gives up the lock or runs Python code meanwhile
                    // makes the tensors its own first: below, and `bind::released`.
                    values.push(Value::Lent(unsafe { t.get().lend() }));
                }
                _ if param.optional && given.is_none() => values.push(Value::None),
                _ => {
                    if !given.is_instance_of::<PyInt>() {
                        // Its conversion may run a method of a user's class.
                        values.iter_mut().for_each(Value::own);
                    }
                    values.push(convert(given, param.kind, param.name)?);
                }
            }
        }
        if next < call.positional.len() {
            return Err(Mismatch::Try(format!(
                "takes {} positional arguments but {} were given",
                signature.params.iter().filter(|p| !p.keyword_only).count(),
                call.positional.len() + call.slf.is_some() as usize
            )));
        }
        if used < call.keywords.len() {
            return Err(Mismatch::Try(unexpected_keyword(signature, call)));
        }
        Ok(())
    }
}

/// A small tensor, lent for the length of a call; `story` becomes true if it has one.
#[inline]
fn lend_small(py: Python<'_>, value: &Bound<'_, PyAny>, story: &mut bool) -> Option<Lent> {
    let t = value_of(py, value).filter(|t| t.is_small())?;
    *story |= t.look(Tensor::has_story);
    // SAFETY: the caller of the operation holds the object and the lock, and `Args` does not outlive the
    // call. Plain calls neither give up the lock nor run Python code.
    Some(unsafe { t.lend() })
}

/// The value of an int that is no bool and not too large.
#[inline]
pub fn exact_int(value: &Bound<'_, PyAny>) -> Option<i64> {
    // SAFETY: the object is alive, and an int after the first test.
    unsafe {
        if ffi::Py_TYPE(value.as_ptr()) != &raw mut ffi::PyLong_Type {
            return None;
        }
        let number = ffi::PyLong_AsLongLong(value.as_ptr());
        if number == -1 && !ffi::PyErr_Occurred().is_null() {
            ffi::PyErr_Clear();
            return None;
        }
        Some(number)
    }
}

/// The value of a float or an int.
#[inline]
pub fn exact_number(value: &Bound<'_, PyAny>) -> Option<Scalar> {
    // SAFETY: the object is alive, and a float after the test.
    unsafe {
        if ffi::Py_TYPE(value.as_ptr()) == &raw mut ffi::PyFloat_Type {
            return Some(Scalar::Float(ffi::PyFloat_AsDouble(value.as_ptr())));
        }
    }
    exact_int(value).map(Scalar::Int)
}

#[inline]
fn exact_ints<'a, 'py: 'a>(
    mut values: impl Iterator<Item = &'a Bound<'py, PyAny>>,
    ints: &mut SmallVec<[i64; 5]>,
) -> bool {
    values.all(|value| exact_int(value).map(|i| ints.push(i)).is_some())
}

#[inline]
fn exact_tuple(value: &Bound<'_, PyAny>, ints: &mut SmallVec<[i64; 5]>) -> bool {
    let Ok(tuple) = value.cast::<PyTuple>() else { return false };
    tuple.iter_borrowed().all(|value| exact_int(&value).map(|i| ints.push(i)).is_some())
}

/// The value of a parameter that is not given.
#[inline]
fn absent(param: &Param, position: usize, call: &Call<'_, '_>) -> Result<Value, Mismatch> {
    Ok(match &param.default {
        Some(default) => default.clone(),
        None if param.optional => Value::None,
        None if param.kind == ParamKind::Size && !call.positional.is_empty() => {
            return Err(Mismatch::Try("too many positional arguments".into()));
        }
        None if param.kind == ParamKind::Size => Value::Ints(SmallVec::new()),
        None => {
            return Err(Mismatch::Try(format!(
                "missing required argument: \"{}\" (position {position})",
                param.name
            )));
        }
    })
}

#[cold]
fn unexpected_keyword(signature: &Signature, call: &Call<'_, '_>) -> String {
    let known = |name: &str| {
        signature.params.iter().any(|p| {
            p.name == name
                || NUMPY_NAMES.iter().any(|(n, also)| *n == p.name && also.contains(&name))
        })
    };
    for (name, _) in call.keywords {
        let name = name.to_string_lossy();
        if !known(&name) {
            return format!("got an unexpected keyword argument '{name}'");
        }
    }
    "got multiple values for an argument".to_owned()
}

fn find_keyword<'a, 'py>(
    py: Python<'py>,
    call: &Call<'a, 'py>,
    interned: &Py<PyString>,
    name: &str,
) -> Option<&'a Bound<'py, PyAny>> {
    if call.keywords.is_empty() {
        return None;
    }
    let interned = interned.bind(py);
    if let Some((_, v)) = call.keywords.iter().find(|(k, _)| k.is(interned)) {
        return Some(v);
    }
    let also = NUMPY_NAMES.iter().find(|(n, _)| *n == name).map_or(&[][..], |(_, also)| also);
    call.keywords
        .iter()
        .find(|(k, _)| {
            let k = k.to_string_lossy();
            k == name || also.contains(&&*k)
        })
        .map(|(_, v)| v)
}

fn is_sequence(value: &Bound<'_, PyAny>) -> bool {
    value.is_instance_of::<PyTuple>() || value.is_instance_of::<PyList>()
}

fn type_name(value: &Bound<'_, PyAny>) -> String {
    value.get_type().name().map_or_else(|_| "object".to_owned(), |n| n.to_string())
}

fn must_be(name: &str, wanted: &str, value: &Bound<'_, PyAny>) -> Mismatch {
    Mismatch::Try(format!("argument '{name}' must be {wanted}, not {}", type_name(value)))
}

/// A Python number as it is; `None` if the object is not one.
pub fn number(value: &Bound<'_, PyAny>) -> PyResult<Option<Scalar>> {
    if let Ok(x) = value.cast_exact::<PyFloat>() {
        return Ok(Some(Scalar::Float(x.value())));
    }
    if let Ok(b) = value.cast::<PyBool>() {
        return Ok(Some(Scalar::Bool(b.is_true())));
    }
    if value.is_instance_of::<PyInt>() {
        return Ok(Some(Scalar::Int(long(value)?)));
    }
    if let Ok(x) = value.cast::<PyFloat>() {
        return Ok(Some(Scalar::Float(x.value())));
    }
    crate::numpy::scalar(value)
}

/// A Python int as 64 bits.
fn long(value: &Bound<'_, PyAny>) -> PyResult<i64> {
    value.extract::<i64>().map_err(|_| {
        PyOverflowError::new_err(format!(
            "Overflow when unpacking long long: {value} does not fit 64 bits"
        ))
    })
}

/// Something usable as an index: an int, a NumPy integer, a 0-d integer tensor.
#[inline]
fn index(value: &Bound<'_, PyAny>, name: &str) -> Result<i64, Mismatch> {
    if value.is_instance_of::<PyInt>() {
        return Ok(long(value)?);
    }
    unusual_index(value, name)
}

fn unusual_index(value: &Bound<'_, PyAny>, name: &str) -> Result<i64, Mismatch> {
    if let Ok(t) = value.cast::<PyTensor>() {
        let t = t.get().tensor();
        if t.dtype().is_integral() && t.numel() == 1 {
            return Ok(t.item().or_raise()?.to_i64());
        }
    } else if let Some(Scalar::Int(i)) = crate::numpy::scalar(value)? {
        return Ok(i);
    }
    Err(must_be(name, "int", value))
}

fn ints(value: &Bound<'_, PyAny>, name: &str) -> Result<SmallVec<[i64; 5]>, Mismatch> {
    let mut out = SmallVec::new();
    if let Ok(tuple) = value.cast::<PyTuple>() {
        for item in tuple.iter_borrowed() {
            out.push(index(&item, name)?);
        }
    } else if let Ok(list) = value.cast::<PyList>() {
        for item in list.iter() {
            out.push(index(&item, name)?);
        }
    } else {
        return Err(must_be(name, "tuple of ints", value));
    }
    Ok(out)
}

fn tensors(value: &Bound<'_, PyAny>, name: &str) -> Result<Vec<Tensor>, Mismatch> {
    if !is_sequence(value) {
        return Err(must_be(name, "tuple of Tensors", value));
    }
    each_tensor(value.try_iter()?.collect::<PyResult<Vec<_>>>()?.iter(), name)
}

fn each_tensor<'a, 'py: 'a>(
    items: impl Iterator<Item = &'a Bound<'py, PyAny>>,
    name: &str,
) -> Result<Vec<Tensor>, Mismatch> {
    let mut out = Vec::new();
    for (i, item) in items.enumerate() {
        match item.cast::<PyTensor>() {
            Ok(t) => out.push(t.get().tensor()),
            Err(_) => {
                return Err(Mismatch::Try(format!(
                    "expected Tensor as element {i} in argument '{name}', but got {}",
                    type_name(item)
                )));
            }
        }
    }
    Ok(out)
}

fn convert(value: &Bound<'_, PyAny>, kind: ParamKind, name: &str) -> Result<Value, Mismatch> {
    Ok(match kind {
        ParamKind::Tensor => match value.cast::<PyTensor>() {
            Ok(t) => Value::Tensor(t.get().tensor()),
            Err(_) => return Err(must_be(name, "Tensor", value)),
        },
        ParamKind::Operand => {
            if let Ok(t) = value.cast::<PyTensor>() {
                Value::Tensor(t.get().tensor())
            } else if let Some(n) = number(value)? {
                Value::Tensor(Tensor::wrapped(n).or_raise()?)
            } else {
                return Err(must_be(name, "Tensor or a number", value));
            }
        }
        ParamKind::Tensors => Value::Tensors(tensors(value, name)?),
        ParamKind::Number | ParamKind::Float => {
            if let Some(n) = number(value)? {
                Value::Number(n)
            } else if let Ok(t) = value.cast::<PyTensor>()
                && t.get().tensor().ndim() == 0
            {
                Value::Number(t.get().tensor().item().or_raise()?)
            } else {
                return Err(must_be(
                    name,
                    if kind == ParamKind::Float { "float" } else { "Number" },
                    value,
                ));
            }
        }
        ParamKind::Int => {
            // Lists may hold vectors of one element, a lone integer must be one.
            let unfit = match value.cast::<PyTensor>() {
                Ok(t) => {
                    let t = t.get().tensor();
                    t.ndim() > 0 || t.dtype() == DType::Bool
                }
                Err(_) => value.is_instance_of::<PyBool>(),
            };
            if unfit {
                return Err(must_be(name, "int", value));
            }
            Value::Number(Scalar::Int(index(value, name)?))
        }
        ParamKind::Bool => match number(value)? {
            Some(Scalar::Bool(b)) => Value::Number(Scalar::Bool(b)),
            _ => return Err(must_be(name, "bool", value)),
        },
        ParamKind::Str => match value.cast::<PyString>() {
            Ok(s) => Value::Str(s.to_string_lossy().into_owned()),
            Err(_) => return Err(must_be(name, "str", value)),
        },
        ParamKind::Ints if value.is_instance_of::<PyInt>() && !value.is_instance_of::<PyBool>() => {
            Value::Ints(SmallVec::from_slice(&[long(value)?]))
        }
        ParamKind::Ints | ParamKind::Size => Value::Ints(ints(value, name)?),
        ParamKind::DType => match extract_dtype(value) {
            Some(d) => Value::DType(d),
            None => return Err(must_be(name, "torch.dtype", value)),
        },
        ParamKind::Generator => match value.cast::<PyGenerator>() {
            Ok(g) => Value::Generator(g.get().0.clone()),
            Err(_) => return Err(must_be(name, "torch.Generator", value)),
        },
        ParamKind::Device => {
            check_device(value)?;
            Value::None
        }
        ParamKind::Layout => match value.cast::<PyLayout>() {
            Ok(_) => Value::None,
            Err(_) => return Err(must_be(name, "torch.layout", value)),
        },
        ParamKind::MemoryFormat => match value.cast::<PyMemoryFormat>() {
            Ok(f) => Value::MemoryFormat(f.get().0),
            Err(_) => return Err(must_be(name, "torch.memory_format", value)),
        },
    })
}

/// A flag that must be a bool.
pub fn flag(value: &Bound<'_, PyAny>, name: &str) -> PyResult<bool> {
    match value.cast::<PyBool>() {
        Ok(b) => Ok(b.is_true()),
        Err(_) => Err(PyTypeError::new_err(format!(
            "argument '{name}' must be bool, not {}",
            type_name(value)
        ))),
    }
}

/// Refuses sizes below zero, naming the dimension.
pub fn check_sizes(op: &str, sizes: &[i64]) -> PyResult<()> {
    match sizes.iter().position(|&s| s < 0) {
        None => Ok(()),
        Some(d) => Err(PyValueError::new_err(format!(
            "{op}: Dimension size must be non-negative, got {} for dimension {d}",
            sizes[d]
        ))),
    }
}
