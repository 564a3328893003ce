//! `x[...]` for reading and writing.
//!
//! A key is read in two steps. Integers, slices, `...` and `None` make a view; index tensors and
//! masks then gather from that view (or are written through it).

use crate::args::{exact_int, number};
use crate::bind::RELEASE_ABOVE;
use crate::error::{OrRaise, guarded};
use crate::site::detached;
use crate::tensor::{PyTensor, wrap};
use crate::{data, numpy};
use pyo3::exceptions::*;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyEllipsis, PyInt, PyList, PySlice, PyTuple};
use smallvec::SmallVec;
use wengert::ops::view::{Take, index_view, unsqueeze};
use wengert::{DType, Scalar, Tensor, batch, ops};

enum Item<'py> {
    At(i64),
    Slice(Bound<'py, PySlice>),
    Ellipsis,
    NewAxis,
    Index(Tensor),
}

type Items<'py> = SmallVec<[Item<'py>; 4]>;

fn out_of_bounds(i: i64, dim: usize, size: usize) -> PyErr {
    PyIndexError::new_err(format!(
        "index {i} is out of bounds for dimension {dim} with size {size}"
    ))
}

fn position(i: i64, dim: usize, size: usize) -> PyResult<usize> {
    let n = size as i64;
    if i < -n || i >= n {
        return Err(out_of_bounds(i, dim, size));
    }
    Ok(if i < 0 { i + n } else { i } as usize)
}

fn item<'py>(key: &Bound<'py, PyAny>) -> PyResult<Item<'py>> {
    if key.is_none() {
        return Ok(Item::NewAxis);
    }
    if let Ok(b) = key.cast::<PyBool>() {
        return Ok(Item::Index(Tensor::full(&[], b.is_true(), DType::Bool).or_raise()?));
    }
    if key.is_instance_of::<PyInt>() {
        return Ok(Item::At(key.extract()?));
    }
    if let Ok(slice) = key.cast::<PySlice>() {
        return Ok(Item::Slice(slice.clone()));
    }
    if key.is_instance_of::<PyEllipsis>() {
        return Ok(Item::Ellipsis);
    }
    if let Ok(t) = key.cast::<PyTensor>() {
        let t = t.get().tensor();
        if t.dtype().is_floating() {
            return Err(PyIndexError::new_err(
                "tensors used as indices must be long, int, byte or bool tensors",
            ));
        }
        if t.ndim() == 0 && t.dtype() != DType::Bool && !t.is_batched() {
            return Ok(Item::At(t.item().or_raise()?.to_i64()));
        }
        return Ok(Item::Index(t));
    }
    if key.is_instance_of::<PyList>() || key.is_instance_of::<PyTuple>() || numpy::is_array(key)? {
        let t = data::tensor_of(key, None)?;
        let t = if t.numel() == 0 && t.dtype().is_floating() {
            Tensor::zeros(t.shape(), DType::Int64).or_raise()?
        } else {
            t
        };
        if t.dtype().is_floating() {
            return Err(PyIndexError::new_err(
                "tensors used as indices must be long, int, byte or bool tensors",
            ));
        }
        return Ok(Item::Index(t));
    }
    if let Some(Scalar::Int(i)) = number(key)? {
        return Ok(Item::At(i));
    }
    // Whatever says by `__index__` that it stands for an integer.
    if let Ok(i) = key.extract::<i64>() {
        return Ok(Item::At(i));
    }
    Err(PyIndexError::new_err(format!(
        "only integers, slices (`:`), ellipsis (`...`), None and long or byte Variables are valid \
         indices (got {})",
        key.get_type().name()?
    )))
}

fn items<'py>(key: &Bound<'py, PyAny>) -> PyResult<Items<'py>> {
    match key.cast::<PyTuple>() {
        Ok(tuple) => tuple.iter().map(|k| item(&k)).collect(),
        Err(_) => Ok(smallvec::smallvec![item(key)?]),
    }
}

/// The view that the integers and slices of a key make, and what index tensors remain: one entry
/// per dimension of the view, or per group of dimensions that a mask covers.
struct Basic {
    view: Tensor,
    indices: Vec<Option<Tensor>>,
}

fn basic(x: &Tensor, items: &Items<'_>) -> PyResult<Basic> {
    basic_behind(x, 0, items)
}

/// [`basic`] behind the first `hidden` axes of `x`, which are taken whole and counted by nobody.
fn basic_behind(x: &Tensor, hidden: usize, items: &Items<'_>) -> PyResult<Basic> {
    let own = x.ndim() - hidden;
    let consumed: usize = items
        .iter()
        .map(|i| match i {
            Item::At(_) | Item::Slice(_) => 1,
            Item::Index(t) if t.dtype() == DType::Bool => t.ndim(),
            Item::Index(_) => 1,
            Item::Ellipsis | Item::NewAxis => 0,
        })
        .sum();
    if consumed > own {
        return Err(match own {
            0 => PyIndexError::new_err(
                "invalid index of a 0-dim tensor. Use `tensor.item()` in Python or \
                 `tensor.item<T>()` in C++ to convert a 0-dim tensor to a number",
            ),
            n => PyIndexError::new_err(format!("too many indices for tensor of dimension {n}")),
        });
    }
    let mut takes: SmallVec<[Take; 5]> = SmallVec::new();
    let mut new_axes: SmallVec<[usize; 4]> = SmallVec::new();
    let mut indices: Vec<Option<Tensor>> = Vec::new();
    // Dimensions of the view so far; a mask covers several with one entry of `indices`.
    let mut dims = hidden;
    takes.extend(x.shape()[..hidden].iter().map(|&s| Take::all(s)));
    let mut name = "AliasBackward0";
    let mut seen_ellipsis = false;
    for item in items {
        let dim = takes.len();
        match item {
            Item::At(i) => {
                takes.push(Take::One(position(*i, dim - hidden, x.shape()[dim])?));
                name = "SelectBackward0";
            }
            Item::Slice(slice) => {
                let size = x.shape()[dim];
                let s = slice.indices(size as isize)?;
                let take = Take::Range {
                    start: s.start.max(0) as usize,
                    step: s.step,
                    len: s.slicelength,
                };
                if take != Take::all(size) {
                    name = "SliceBackward0";
                }
                takes.push(take);
                indices.push(None);
                dims += 1;
            }
            Item::NewAxis => {
                new_axes.push(dims);
                indices.push(None);
                dims += 1;
            }
            Item::Ellipsis => {
                if seen_ellipsis {
                    return Err(PyIndexError::new_err(
                        "an index can only have a single ellipsis ('...')",
                    ));
                }
                seen_ellipsis = true;
                for _ in 0..own - consumed {
                    takes.push(Take::all(x.shape()[takes.len()]));
                    indices.push(None);
                    dims += 1;
                }
            }
            Item::Index(t) if t.dtype() == DType::Bool => {
                if t.ndim() == 0 {
                    // A truth value selects along a new axis of length 1.
                    new_axes.push(dims);
                    indices.push(Some(ops::view::reshape(t, &[1]).or_raise()?));
                    dims += 1;
                    continue;
                }
                for _ in 0..t.ndim() {
                    takes.push(Take::all(x.shape()[takes.len()]));
                }
                indices.push(Some(t.clone()));
                dims += t.ndim();
            }
            Item::Index(t) => {
                takes.push(Take::all(x.shape()[dim]));
                indices.push(Some(t.clone()));
                dims += 1;
            }
        }
    }
    while takes.len() < x.ndim() {
        takes.push(Take::all(x.shape()[takes.len()]));
        indices.push(None);
    }
    let gathers = indices.iter().any(Option::is_some);
    let whole = takes.iter().zip(x.shape()).all(|(take, &size)| *take == Take::all(size));
    // Tensors alone index the tensor itself; `x[:]` is a view.
    let same = whole && (gathers || !new_axes.is_empty());
    let mut view = if same { x.clone() } else { index_view(name, x, &takes).or_raise()? };
    for axis in new_axes {
        view = unsqueeze(&view, axis as i64).or_raise()?;
    }
    Ok(Basic { view, indices })
}

/// `x[key]` for a plain key: an integer, a slice, or a tuple of these that are in bounds. `None` for
/// any other.
#[inline]
pub fn plain<'py>(x: &Tensor, key: &Bound<'py, PyAny>) -> Option<wengert::Result<Tensor>> {
    let mut takes = SmallVec::<[Take; 5]>::new();
    let mut name = "AliasBackward0";
    let mut take = |key: &Bound<'py, PyAny>| {
        let size = *x.shape().get(takes.len())?;
        if let Some(i) = exact_int(key) {
            takes.push(Take::One(position(i, 0, size).ok()?));
            name = "SelectBackward0";
        } else {
            let s = key.cast::<PySlice>().ok()?.indices(size as isize).ok()?;
            let start = s.start.max(0) as usize;
            let range = Take::Range { start, step: s.step, len: s.slicelength };
            if range != Take::all(size) {
                name = "SliceBackward0";
            }
            takes.push(range);
        }
        Some(())
    };
    match key.cast_exact::<PyTuple>() {
        Ok(tuple) => tuple.iter_borrowed().try_for_each(|key| take(&key))?,
        Err(_) => take(key)?,
    }
    for &size in &x.shape()[takes.len()..] {
        takes.push(Take::all(size));
    }
    Some(index_view(name, x, &takes))
}

/// `x[key]`.
pub fn get<'py>(
    slf: &Bound<'py, PyTensor>,
    key: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyTensor>> {
    let x = slf.get().tensor();
    if batch::active()
        && let Some(y) = get_batched(&x, &items(key)?)?
    {
        return wrap(slf.py(), y);
    }
    let Basic { view, indices } = basic(&x, &items(key)?)?;
    if indices.iter().all(Option::is_none) {
        return wrap(slf.py(), view);
    }
    let taken = long(slf.py(), &view, &indices, || ops::select::index(&view, &indices))?;
    wrap(slf.py(), taken)
}

/// Reads or writes what a key names, without the interpreter lock if that is much.
fn long<T: Send>(
    py: Python<'_>,
    view: &Tensor,
    indices: &[Option<Tensor>],
    work: impl FnOnce() -> wengert::Result<T> + Send,
) -> PyResult<T> {
    let large = |t: &Tensor| t.numel() > RELEASE_ABOVE;
    guarded(|| match large(view) || indices.iter().flatten().any(large) {
        true => detached(py, work),
        false => work(),
    })
}

fn is_batched(x: &Tensor, items: &Items<'_>) -> bool {
    x.is_batched() || items.iter().any(|i| matches!(i, Item::Index(t) if t.is_batched()))
}

/// What the integers and slices of a key show of each example.
fn basic_of_examples(x: &Tensor, items: &Items<'_>) -> PyResult<Basic> {
    let levels = batch::levels_of(x, "index").or_raise()?;
    let physical = batch::examples(x).map_or_else(|| x.clone(), |(physical, _)| physical);
    let Basic { view, indices } = basic_behind(&physical, levels.len(), items)?;
    Ok(Basic { view: batch::wrap(&view, &levels).or_raise()?, indices })
}

/// `x[key]` if anything in it is batched.
#[cold]
fn get_batched(x: &Tensor, items: &Items<'_>) -> PyResult<Option<Tensor>> {
    if !is_batched(x, items) {
        return Ok(None);
    }
    let Basic { mut view, mut indices } = basic_of_examples(x, items)?;
    // A number picks a position before other tensors are looked at, also if it is not the same for
    // all examples.
    for d in (0..indices.len()).rev() {
        let number = |t: &Tensor| t.ndim() == 0 && t.dtype() != DType::Bool;
        if indices[d].as_ref().is_some_and(number) {
            let mut only = vec![None; d];
            only.push(indices.remove(d));
            view = guarded(|| batch::indexing::index(&view, &only))?;
        }
    }
    if indices.iter().all(Option::is_none) {
        return Ok(Some(view));
    }
    guarded(|| batch::indexing::index(&view, &indices)).map(Some)
}

/// `x[key] = value` if anything in it is batched; whether it was done.
#[cold]
fn set_batched(x: &Tensor, items: &Items<'_>, value: &Tensor) -> PyResult<bool> {
    if !is_batched(x, items) && !value.is_batched() {
        return Ok(false);
    }
    let Basic { view, indices } = basic_of_examples(x, items)?;
    guarded(|| match indices.iter().all(Option::is_none) {
        true => batch::indexing::write(&view, value),
        false => batch::indexing::index_put_(&view, &indices, value, false),
    })?;
    Ok(true)
}

/// `x[key] = value`.
pub fn set(
    slf: &Bound<'_, PyTensor>,
    key: &Bound<'_, PyAny>,
    value: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let x = slf.get().tensor();
    let value = match value.cast::<PyTensor>() {
        Ok(t) => t.get().tensor(),
        Err(_) => match number(value)? {
            Some(n) => {
                if x.dtype().is_integral() {
                    ops::create::check_value(n, x.dtype()).or_raise()?;
                }
                Tensor::wrapped(n).or_raise()?
            }
            None => data::tensor_of(value, None)?,
        },
    };
    if batch::active() && set_batched(&x, &items(key)?, &value)? {
        return Ok(());
    }
    wengert::graph::inplace::check_memory(&x, "__setitem__").or_raise()?;
    let Basic { view, indices } = basic(&x, &items(key)?)?;
    if indices.iter().all(Option::is_none) {
        // As NumPy: leading axes of length 1 of the value do not matter.
        let extra = value.ndim().saturating_sub(view.ndim());
        let value = if extra > 0 && value.shape()[..extra].iter().all(|&s| s == 1) {
            let shape: Vec<i64> = value.shape()[extra..].iter().map(|&s| s as i64).collect();
            ops::view::reshape(&value, &shape).or_raise()?
        } else {
            value
        };
        if !ops::reduce::is_expandable(value.shape(), view.shape()) {
            let sizes: Vec<i64> = view.shape().iter().map(|&s| s as i64).collect();
            ops::view::expand(&value.detach(), &sizes).or_raise()?;
        }
        return long(slf.py(), &view, &[], || ops::cast::copy_(&view, &value));
    }
    long(slf.py(), &view, &indices, || ops::select::index_put_(&view, &indices, &value, false))
}
