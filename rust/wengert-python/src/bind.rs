//! From the operation table to Python functions and methods.
//!
//! Every row becomes a builtin with CPython's fast calling convention; nothing is written per
//! operation. A fast-call function gets no closure, so the row's number is a const generic: a shim
//! of a few instructions per row and form passes it on to one common function.
//!
//! The shims are called by CPython without PyO3's trampoline between, see [`slots`](crate::slots) for
//! why that is sound.
//!
//! Most calls are plain: positional arguments of the expected types, tensors that are small, nobody
//! watching. They are recognised first and take a short way ([`plain`]), which would give the same
//! result as the general one.
#![allow(unsafe_code)]

use crate::args::{BoundRow, Call, flag};
use crate::error::{OrRaise, caught};
use crate::observe;
use crate::site::detached;
use crate::slots::{is_unusual, returned};
use crate::tensor::{PyTensor, wrap};
use crate::vmap;
use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyList, PyString, PyTuple};
use smallvec::SmallVec;
use std::collections::HashMap;
use std::ffi::CString;
use std::ptr::NonNull;
use wengert::graph;
use wengert::graph::mode::may_call_out;
use wengert::ops::{self, Args, NamedFields, Output, ParamKind, Row, tags};
use wengert::tensor::{Tensor, ViewKind};
use wengert::{Scalar, batch};

static ROWS: PyOnceLock<Vec<BoundRow>> = PyOnceLock::new();

/// How a row is called from Python.
#[derive(Clone, Copy, PartialEq)]
enum Form {
    Function,
    Method,
    InPlace,
}

type Raw = ffi::PyCFunctionFastWithKeywords;

macro_rules! shims {
    ($name:ident $table:ident $form:ident) => {
        unsafe extern "C" fn $name<const ROW: usize>(
            slf: *mut ffi::PyObject,
            args: *const *mut ffi::PyObject,
            nargs: isize,
            names: *mut ffi::PyObject,
        ) -> *mut ffi::PyObject {
            // SAFETY: CPython passes what the fast-call convention promises.
            unsafe { invoke(ROW, Form::$form, slf, args, nargs, names) }
        }

        seq_macro::seq!(N in 0..640 {
            static $table: [Raw; 640] = [#($name::<N>,)*];
        });
    };
}

shims!(function FUNCTIONS Function);
shims!(method METHODS Method);
shims!(in_place_method INPLACE InPlace);

/// The arguments of a fast call as objects.
///
/// # Safety
/// `args` holds `nargs` positional arguments and then one per name in the tuple `names` (or null).
unsafe fn with_call<'py, R>(
    py: Python<'py>,
    slf: Option<&Bound<'py, PyAny>>,
    positional: &[Bound<'py, PyAny>],
    names: *mut ffi::PyObject,
    run: impl FnOnce(&Call<'_, 'py>) -> R,
) -> R {
    let mut keywords: Keywords<'py> = SmallVec::new();
    if !names.is_null() {
        // SAFETY: a non-null `names` is a tuple of str, whose values follow the positional ones.
        let (names, values) = unsafe {
            let names = Bound::from_borrowed_ptr(py, names).cast_into_unchecked::<PyTuple>();
            let first = positional.as_ptr().add(positional.len());
            let values = std::slice::from_raw_parts(first, names.len());
            (names, values)
        };
        for (name, value) in names.iter().zip(values) {
            // SAFETY: as above.
            keywords.push((unsafe { name.cast_into_unchecked() }, value.clone()));
        }
    }
    run(&Call { slf, positional, keywords: &keywords })
}

/// # Safety
/// `args` holds `nargs` positional arguments and then one per name in the tuple `names` (or null);
/// `slf` is the object of a method call. The interpreter lock is held.
unsafe fn invoke(
    row: usize,
    form: Form,
    slf: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    nargs: isize,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: the caller's.
    let py = unsafe { Python::assume_attached() };
    // SAFETY: `Bound` is a transparent, non-null object pointer; the caller's references outlive the
    // call, and nothing here drops a `Bound` of the slice. The descriptor of a method has checked the
    // type of `slf`, which is null for functions.
    let (slf, positional) = unsafe {
        let slf = (form != Form::Function).then(|| Bound::ref_from_ptr(py, &slf));
        let first = if args.is_null() { NonNull::dangling().as_ptr() } else { args.cast_mut() };
        (slf, std::slice::from_raw_parts(first.cast::<Bound<'_, PyAny>>(), nargs as usize))
    };
    let result = caught(|| {
        let rows =
            ROWS.get(py).ok_or_else(|| PyRuntimeError::new_err("wengert is not initialised"))?;
        let row = &rows[row];
        if names.is_null()
            && !is_unusual()
            && let Some(result) = plain(py, row, form, slf, positional)?
        {
            return Ok(result);
        }
        // SAFETY: passed on from the caller.
        unsafe {
            with_call(py, slf, positional, names, |call| {
                let _span = observe::call(row.row, form == Form::InPlace, call);
                run(py, row, form, call)
            })
        }
    });
    returned(py, result)
}

/// The short way, for a plain call; `None` if it is not one.
#[inline]
fn plain<'py>(
    py: Python<'py>,
    row: &BoundRow,
    form: Form,
    slf: Option<&Bound<'py, PyAny>>,
    positional: &[Bound<'py, PyAny>],
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let mut args = Args::default();
    let Some(story) = row.parse_plain(py, slf, positional, &mut args.values) else {
        return Ok(None);
    };
    let op = row.row;
    if op.has(tags::FACTORY) && makes_much(&args) {
        return Ok(None);
    }
    if form == Form::InPlace {
        if op.has(tags::VIEW) {
            return Ok(None);
        }
        op.call_inplace(&mut args).or_raise()?;
        return Ok(slf.cloned());
    }
    let result = op.call(&args).or_raise()?;
    if story {
        observe::made_by_call(&result, &args);
    }
    output(py, result).map(Some)
}

/// Keyword arguments, few in nearly all calls.
type Keywords<'py> = SmallVec<[(Bound<'py, PyString>, Bound<'py, PyAny>); 2]>;

/// Keywords that belong to the calling form and not to the row.
#[derive(Default)]
struct Extras<'py> {
    out: Option<Bound<'py, PyAny>>,
    requires_grad: bool,
    inplace: bool,
}

impl<'py> Extras<'py> {
    /// Takes what applies to `row` out of the keywords.
    fn take(
        row: &Row,
        form: Form,
        keywords: &[(Bound<'py, PyString>, Bound<'py, PyAny>)],
    ) -> PyResult<(Self, Keywords<'py>)> {
        let mut extras = Extras::default();
        let mut rest = SmallVec::new();
        for (name, value) in keywords {
            match &*name.to_string_lossy() {
                "out" if form == Form::Function && row.has(tags::OUT) => {
                    if !value.is_none() {
                        extras.out = Some(value.clone());
                    }
                }
                "requires_grad" if row.has(tags::FACTORY) => {
                    extras.requires_grad = flag(value, "requires_grad")?;
                }
                "inplace" if row.has(tags::INPLACE) && row.name.starts_with("nn.") => {
                    extras.inplace = flag(value, "inplace")?;
                }
                _ => rest.push((name.clone(), value.clone())),
            }
        }
        Ok((extras, rest))
    }
}

fn run<'py>(
    py: Python<'py>,
    row: &BoundRow,
    form: Form,
    call: &Call<'_, 'py>,
) -> PyResult<Bound<'py, PyAny>> {
    if call.keywords.is_empty() {
        return finish(py, row, form, call, Extras::default());
    }
    let (extras, keywords) = Extras::take(row.row, form, call.keywords)?;
    finish(py, row, form, &Call { keywords: &keywords, ..*call }, extras)
}

#[inline]
fn finish<'py>(
    py: Python<'py>,
    row: &BoundRow,
    form: Form,
    call: &Call<'_, 'py>,
    extras: Extras<'py>,
) -> PyResult<Bound<'py, PyAny>> {
    let op = row.row;
    let mut args = Args::default();
    row.parse(py, call, &mut args)?;
    if batch::active() {
        let form = match (&extras.out, form) {
            (Some(_), _) => vmap::Form::Out,
            (None, Form::InPlace) => vmap::Form::InPlace,
            _ if extras.inplace => vmap::Form::InPlace,
            _ => vmap::Form::New,
        };
        if let Some(result) = vmap::intercept(py, op, form, &args)? {
            return Ok(result);
        }
    }
    if form == Form::InPlace && op.has(tags::VIEW) {
        return turn(op, &args, call);
    }
    if form == Form::InPlace || extras.inplace {
        let target = match call.slf {
            Some(object) => object.clone(),
            None => wrap(py, args.tensor(0).clone())?.into_any(),
        };
        released(py, &mut args, |args| op.call_inplace(args))?;
        return Ok(target);
    }
    if let Some(out) = extras.out {
        return into_out(py, row, &mut args, out);
    }
    let result = match op.has(tags::FACTORY) && makes_much(&args) {
        false => released(py, &mut args, |args| op.call(args))?,
        true => {
            args.values.iter_mut().for_each(ops::Value::own);
            detached(py, || op.call(&args)).or_raise()?
        }
    };
    observe::made_by_call(&result, &args);
    if extras.requires_grad
        && let Output::Tensor(t) = &result
    {
        crate::teach::require_grad(t)?;
    }
    output(py, result)
}

/// The number of the row of a name.
pub fn number(name: &str) -> usize {
    ops::table().position(|row| row.name == name).expect("a row of the table")
}

/// An augmented assignment `target op= other`, by the row of that name.
pub fn in_place(py: Python<'_>, name: &str, target: ops::Value, other: ops::Value) -> PyResult<()> {
    static NUMBERS: PyOnceLock<HashMap<&'static str, usize>> = PyOnceLock::new();
    let numbers = NUMBERS.get_or_init(py, || {
        ops::table().enumerate().map(|(number, row)| (row.name, number)).collect()
    });
    in_place_by(py, numbers[name], target, other)
}

/// [`in_place`] by the row's number.
pub fn in_place_by(
    py: Python<'_>,
    number: usize,
    target: ops::Value,
    other: ops::Value,
) -> PyResult<()> {
    let rows = ROWS.get(py).ok_or_else(|| PyRuntimeError::new_err("wengert is not initialised"))?;
    let row = &rows[number];
    let mut args = Args::default();
    args.values.extend([target, other]);
    row.push_defaults(&mut args);
    if batch::active() && vmap::intercept(py, row.row, vmap::Form::InPlace, &args)?.is_some() {
        return Ok(());
    }
    let _span = observe::assignment(row.row, &args);
    caught(|| released(py, &mut args, |args| row.row.call_inplace(args)))?;
    Ok(())
}

/// The in-place form of a view: the object stands for the view from now on.
fn turn<'py>(op: &Row, args: &Args, call: &Call<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
    let object = call.slf.expect("methods have an object");
    let target = args.tensor(0);
    wengert::graph::inplace::check(target, op.short_name(), false).or_raise()?;
    if let Output::Tensor(view) = turned(op, args, target)? {
        object.cast::<PyTensor>()?.get().replace(object.py(), view);
    }
    Ok(object.clone())
}

/// The view that takes the place of `target`. Turning a tensor changes no values: it stays a leaf, or
/// the result of what made it, also while nothing is recorded.
fn turned(op: &Row, args: &Args, target: &Tensor) -> PyResult<Output> {
    let unrecorded = !graph::is_grad_enabled() && target.requires_grad();
    let (kind, leaf) = (target.view_kind(), unrecorded && target.is_leaf());
    let record = unrecorded && !leaf && !graph::inference::is_inference_mode();
    let _mode = record.then(|| graph::GradMode::new(true));
    let Output::Tensor(view) = op.call(args).or_raise()? else {
        return Err(PyRuntimeError::new_err("a view in place has one result"));
    };
    if leaf && target.base().is_none() {
        return target.with_data(&view).or_raise().map(Output::Tensor);
    }
    view.set_view_kind(kind.unwrap_or(ViewKind::Turned));
    Ok(Output::Tensor(view))
}

/// Elements above which other Python threads may run meanwhile.
pub const RELEASE_ABOVE: usize = 1 << 18;

/// Whether sizes or bounds promise a long result. Numbers may mean something else; then nothing is lost
/// but the time to give the lock up.
fn makes_much(args: &Args) -> bool {
    let limit = RELEASE_ABOVE as i64;
    args.values.iter().any(|value| match value {
        ops::Value::Ints(sizes) => sizes.iter().fold(1, |n: i64, &s| n.saturating_mul(s)) > limit,
        ops::Value::Number(Scalar::Int(i)) => i.saturating_abs() > limit,
        ops::Value::Number(Scalar::Float(x)) => x.abs() > limit as f64,
        _ => false,
    })
}

/// Runs an operation, without the interpreter lock if it is long.
#[inline]
fn released<T: Send>(
    py: Python<'_>,
    args: &mut Args,
    work: impl FnOnce(&mut Args) -> wengert::Result<T> + Send,
) -> PyResult<T> {
    let large =
        args.values.iter().any(|v| v.as_tensor().is_some_and(|t| t.numel() > RELEASE_ABOVE));
    if large || may_call_out() {
        // Without the lock, and in hooks, anybody may replace what an object stands for.
        args.values.iter_mut().for_each(ops::Value::own);
    }
    if large { detached(py, || work(args)).or_raise() } else { work(args).or_raise() }
}

/// Python's picture of a result.
pub fn output(py: Python<'_>, result: Output) -> PyResult<Bound<'_, PyAny>> {
    match result {
        Output::Tensor(t) => Ok(wrap(py, t)?.into_any()),
        Output::Tensors(ts) => Ok(tuple(py, ts)?.into_any()),
        Output::Named(fields, ts) => named(py, fields, ts),
        Output::Bool(b) => Ok(b.into_pyobject(py)?.to_owned().into_any()),
    }
}

fn tuple(py: Python<'_>, tensors: Vec<wengert::Tensor>) -> PyResult<Bound<'_, PyTuple>> {
    let objects = tensors.into_iter().map(|t| wrap(py, t)).collect::<PyResult<Vec<_>>>()?;
    PyTuple::new(py, objects)
}

fn named<'py>(
    py: Python<'py>,
    fields: &'static NamedFields,
    tensors: Vec<wengert::Tensor>,
) -> PyResult<Bound<'py, PyAny>> {
    let classes = py.import("wengert.return_types")?;
    let class = classes.getattr("named")?.call1((fields.name, fields.fields.to_vec()))?;
    class.call1((tuple(py, tensors)?,))
}

/// Calls a row with `out=`, which may have to be resized.
fn into_out<'py>(
    py: Python<'py>,
    row: &BoundRow,
    args: &mut Args,
    out: Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let op = row.row;
    if let Ok(several) = out.cast::<PyTuple>() {
        return into_several(py, op, args, several);
    }
    let Ok(target) = out.cast::<PyTensor>() else {
        return Err(PyTypeError::new_err(format!(
            "{}(): argument 'out' must be Tensor, not {}",
            op.short_name(),
            out.get_type().name()?
        )));
    };
    let shape = target.get().tensor();
    if op.has(tags::FACTORY)
        && let Some(i) = row.position(args, ParamKind::DType)
        && matches!(args.values[i], ops::Value::None)
    {
        // What is made has the type of `out` from the start.
        args.values[i] = ops::Value::DType(shape.dtype());
    }
    match op.call_out(args, &shape) {
        Ok(_) => {}
        Err(e) if e.kind() == wengert::Kind::Shape && !shape.requires_grad() => {
            // Another shape: compute, then give the object new memory.
            let Output::Tensor(result) = op.call(args).or_raise()? else {
                return Err(crate::error::to_py(e));
            };
            store_resized(py, op, target, result)?;
        }
        Err(e) => return Err(crate::error::to_py(e)),
    }
    Ok(out)
}

fn store_resized(
    py: Python<'_>,
    op: &Row,
    target: &Bound<'_, PyTensor>,
    result: wengert::Tensor,
) -> PyResult<()> {
    let old = target.get().tensor();
    ops::check_storable(result.dtype(), old.dtype()).or_raise()?;
    if result.shape() == old.shape() {
        old.copy_from(&result).or_raise()?;
        return Ok(());
    }
    if old.numel() != 0 {
        let text = CString::new(format!(
            "An output with one or more elements was resized since it had shape {:?}, which does \
             not match the required output shape {:?} ({}).",
            old.shape(),
            result.shape(),
            op.short_name()
        ))?;
        PyErr::warn(py, &py.get_type::<pyo3::exceptions::PyUserWarning>(), &text, 1)?;
    }
    let converted = ops::cast::to_dtype(&result.detach(), old.dtype()).or_raise()?;
    target.get().replace(py, converted);
    Ok(())
}

fn into_several<'py>(
    py: Python<'py>,
    op: &'static Row,
    args: &Args,
    several: &Bound<'py, PyTuple>,
) -> PyResult<Bound<'py, PyAny>> {
    op.check_out(args, &[]).or_raise()?;
    let (fields, results) = match op.call(args).or_raise()? {
        Output::Named(fields, results) => (Some(fields), results),
        Output::Tensors(results) => (None, results),
        _ => return Err(PyTypeError::new_err(format!("{}() has one output", op.short_name()))),
    };
    if several.len() != results.len() {
        return Err(PyTypeError::new_err(format!(
            "{}(): expected {} tensors in 'out', got {}",
            op.short_name(),
            results.len(),
            several.len()
        )));
    }
    for (target, result) in several.iter().zip(results) {
        store_resized(py, op, target.cast::<PyTensor>()?, result)?;
    }
    let Some(fields) = fields else { return Ok(several.clone().into_any()) };
    let class = py.import("wengert.return_types")?.getattr("named")?;
    class.call1((fields.name, fields.fields.to_vec()))?.call1((several,))
}

/// A leaked method definition: CPython keeps pointers into it for the life of the process.
fn definition(name: &str, doc: &str, function: Raw) -> PyResult<*mut ffi::PyMethodDef> {
    Ok(Box::into_raw(Box::new(ffi::PyMethodDef {
        ml_name: CString::new(name)?.into_raw(),
        ml_meth: ffi::PyMethodDefPointer { PyCFunctionFastWithKeywords: function },
        ml_flags: ffi::METH_FASTCALL | ffi::METH_KEYWORDS,
        ml_doc: CString::new(doc)?.into_raw(),
    })))
}

fn help(row: &Row) -> String {
    let mut text = String::new();
    for signature in row.signatures {
        text.push_str(row.short_name());
        text.push_str(signature);
        text.push('\n');
    }
    for line in row.doc {
        text.push('\n');
        text.push_str(line.strip_prefix(' ').unwrap_or(line));
    }
    text
}

/// Adds all rows to the module and to the tensor class.
pub fn install(m: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = m.py();
    let rows: Vec<BoundRow> = ops::table().map(|r| BoundRow::new(py, r)).collect();
    assert!(rows.len() <= FUNCTIONS.len(), "more rows than shims: raise the number in bind.rs");
    let class = py.get_type::<PyTensor>();
    let submodules = PyDict::new(py);
    for (i, bound) in rows.iter().enumerate() {
        let row = bound.row;
        let doc = help(row);
        let names = std::iter::once(row.name).chain(row.aliases.iter().copied());
        for name in names {
            let short = name.rsplit('.').next().unwrap_or(name);
            if row.has(tags::FUNCTION) {
                let def = definition(short, &doc, FUNCTIONS[i])?;
                // SAFETY: the definition lives for ever and describes a fast-call function.
                let f = unsafe {
                    let module = PyString::intern(py, "wengert");
                    let f = ffi::PyCFunction_NewEx(def, std::ptr::null_mut(), module.as_ptr());
                    Bound::from_owned_ptr_or_err(py, f)?
                };
                match name.rsplit_once('.') {
                    Some((module, name)) => {
                        if submodules.get_item(module)?.is_none() {
                            submodules.set_item(module, PyDict::new(py))?;
                        }
                        submodules.as_any().get_item(module)?.set_item(name, f)?;
                    }
                    None => m.add(name, f)?,
                }
            }
            if name.contains('.') {
                continue;
            }
            let add = |name: &str, function: Raw| -> PyResult<()> {
                let def = definition(name, &doc, function)?;
                // SAFETY: as above, and the type is the extension's own.
                let d = unsafe {
                    let d = ffi::PyDescr_NewMethod(class.as_type_ptr(), def);
                    Bound::from_owned_ptr_or_err(py, d)?
                };
                class.setattr(name, d)
            };
            if row.has(tags::METHOD) {
                add(name, METHODS[i])?;
            }
            if row.has(tags::INPLACE) {
                add(&format!("{name}_"), INPLACE[i])?;
            }
        }
    }
    m.add("_submodules", submodules)?;
    // The module is initialised once per process.
    let _ = ROWS.set(py, rows);
    Ok(())
}

/// The operation table, for tests, stubs and documentation.
///
/// Returns a list of dicts with `name`, `aliases`, `signatures`, `tags` and `doc`.
#[pyfunction]
pub fn operations(py: Python<'_>) -> PyResult<Bound<'_, PyList>> {
    const NAMES: &[(u32, &str)] = &[
        (tags::FUNCTION, "function"),
        (tags::METHOD, "method"),
        (tags::INPLACE, "inplace"),
        (tags::OUT, "out"),
        (tags::VIEW, "view"),
        (tags::RANDOM, "random"),
        (tags::FACTORY, "factory"),
        (tags::NONDIFF, "nondiff"),
    ];
    let list = PyList::empty(py);
    for row in ops::table().filter(|r| !r.has(tags::INTERNAL)) {
        let d = PyDict::new(py);
        d.set_item("name", row.name)?;
        d.set_item("aliases", row.aliases)?;
        d.set_item("signatures", row.signatures)?;
        let tags: Vec<&str> = NAMES.iter().filter(|(t, _)| row.has(*t)).map(|(_, n)| *n).collect();
        d.set_item("tags", tags)?;
        d.set_item("doc", row.doc.join("\n"))?;
        list.append(d)?;
    }
    Ok(list)
}
