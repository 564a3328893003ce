//! Tensors from Python data and back: numbers, nested sequences, arrays.

use crate::args::number;
use crate::error::{OrRaise, guarded};
use crate::numpy;
use crate::object::wrap_as;
use crate::subclass;
use crate::teach;
use crate::tensor::{PyTensor, scalar_object, wrap};
use crate::types::{check_device, extract_dtype};
use pyo3::exceptions::*;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyFloat, PyList, PyString, PyTuple, PyType};
use smallvec::SmallVec;
use std::ffi::CString;
use wengert::dtype::Category;
use wengert::layout::MAX_DIMS;
use wengert::memory_format::MemoryFormat;
use wengert::{DType, Scalar, Tensor, batch, ops};

/// Leaves of a nested sequence in order, with the shape found on the way.
struct Reader {
    shape: Vec<usize>,
    values: Vec<Scalar>,
    category: Category,
    /// Tensors and NumPy scalars keep their own type.
    dtype: Option<DType>,
}

impl Reader {
    fn push(&mut self, value: Scalar) {
        self.category = self.category.max(value.category());
        self.values.push(value);
    }

    fn meet(&mut self, dtype: DType) {
        self.dtype = Some(self.dtype.map_or(dtype, |d| d.promote(dtype)));
    }

    /// Reads one level; `depth` is bounded by the number of dimensions.
    fn read(&mut self, value: &Bound<'_, PyAny>, depth: usize) -> PyResult<()> {
        if let Ok(x) = value.cast_exact::<PyFloat>() {
            self.leaf(depth)?;
            self.push(Scalar::Float(x.value()));
            return Ok(());
        }
        if let Ok(t) = value.cast::<PyTensor>() {
            let t = t.get().tensor();
            if t.ndim() == 0 {
                self.leaf(depth)?;
                self.meet(t.dtype());
                if t.requires_grad() {
                    teach::warn_detached(value.py(), &t)?;
                }
                self.push(t.item().or_raise()?);
                return Ok(());
            }
        } else if let Some(n) = number(value)? {
            self.leaf(depth)?;
            self.push(n);
            return Ok(());
        }
        if value.is_instance_of::<PyString>() {
            let name = value.get_type().name()?;
            return Err(PyTypeError::new_err(format!("new(): invalid data type '{name}'")));
        }
        if depth >= MAX_DIMS {
            return Err(PyValueError::new_err(format!(
                "too many dimensions '{}'",
                value.get_type().name()?
            )));
        }
        if numpy::is_array(value)? {
            return self.read(&value.call_method0("tolist")?, depth);
        }
        if let Ok(list) = value.cast::<PyList>() {
            let len = list.len();
            self.level(depth, len)?;
            for i in 0..len {
                // Converting an element may run code that changes the list.
                let item = list.get_item(i).map_err(|_| {
                    PyRuntimeError::new_err("list changed size while it was being converted")
                })?;
                self.read(&item, depth + 1)?;
            }
            if list.len() != len {
                return Err(PyRuntimeError::new_err(
                    "list changed size while it was being converted",
                ));
            }
            return Ok(());
        }
        if let Ok(tuple) = value.cast::<PyTuple>() {
            self.level(depth, tuple.len())?;
            for item in tuple.iter() {
                self.read(&item, depth + 1)?;
            }
            return Ok(());
        }
        let is_sequence = !value.is_instance_of::<PyDict>()
            && value.hasattr("__len__")?
            && value.hasattr("__getitem__")?;
        if !is_sequence {
            let name = value.get_type().name()?;
            return Err(match depth {
                0 => PyRuntimeError::new_err(format!("Could not infer dtype of {name}")),
                _ => PyTypeError::new_err(format!("must be real number, not {name}")),
            });
        }
        let len = value.len()?;
        // A sequence may claim any length; see whether that many numbers would fit.
        if self.values.try_reserve(len).is_err() {
            return Err(PyMemoryError::new_err(format!("tensor(): a sequence of length {len}")));
        }
        self.level(depth, len)?;
        for i in 0..len {
            self.read(&value.get_item(i)?, depth + 1)?;
            if i % 4096 == 4095 {
                value.py().check_signals()?;
            }
        }
        Ok(())
    }

    /// Notes the length of a sequence at `depth`, or checks it against the first one there.
    fn level(&mut self, depth: usize, len: usize) -> PyResult<()> {
        if depth == self.shape.len() && self.values.is_empty() {
            self.shape.push(len);
            return Ok(());
        }
        match self.shape.get(depth) {
            Some(&s) if s == len => Ok(()),
            Some(&s) => Err(PyValueError::new_err(format!(
                "expected sequence of length {s} at dim {depth} (got {len})"
            ))),
            None => {
                Err(PyTypeError::new_err("only numbers can stand beside numbers in nested lists"))
            }
        }
    }

    fn leaf(&self, depth: usize) -> PyResult<()> {
        if depth == self.shape.len() {
            return Ok(());
        }
        let at = depth.saturating_sub(1);
        Err(PyValueError::new_err(format!(
            "expected sequence of length {} at dim {} (got a number)",
            self.shape.get(depth).copied().unwrap_or(0),
            at + 1
        )))
    }

    fn finish(self, dtype: Option<DType>) -> PyResult<Tensor> {
        let found = self.dtype.unwrap_or(match self.category {
            _ if self.values.is_empty() => wengert::dtype::default_float(),
            Category::Bool => DType::Bool,
            Category::Integer => DType::Int64,
            Category::Floating => wengert::dtype::default_float(),
        });
        let dtype = dtype.unwrap_or(found);
        if dtype.is_integral() {
            self.values.iter().try_for_each(|&v| ops::create::check_value(v, dtype)).or_raise()?;
        }
        Tensor::from_scalars(&self.values, &self.shape, dtype).or_raise()
    }
}

/// A new tensor with a copy of `data`.
pub fn tensor_of(data: &Bound<'_, PyAny>, dtype: Option<DType>) -> PyResult<Tensor> {
    if let Ok(t) = data.cast::<PyTensor>() {
        let t = t.get().tensor();
        if t.is_batched() {
            return guarded(|| batch::copied(&t, dtype));
        }
        let t = t.detach();
        let dtype = dtype.unwrap_or(t.dtype());
        return if dtype == t.dtype() {
            ops::cast::clone(&t).or_raise()
        } else {
            ops::cast::to_dtype(&t, dtype).or_raise()
        };
    }
    if dtype.is_none()
        && let Some(numbers) = floats(data)
    {
        return vector(&numbers).or_raise();
    }
    if numpy::is_array(data)? {
        return numpy::copied(data, dtype);
    }
    let mut reader =
        Reader { shape: Vec::new(), values: Vec::new(), category: Category::Bool, dtype: None };
    if let Some(numpy_type) = numpy_scalar_dtype(data)? {
        reader.meet(numpy_type);
    }
    reader.read(data, 0)?;
    reader.finish(dtype)
}

/// The numbers of a list of floats, the literal that programs write most.
fn floats(data: &Bound<'_, PyAny>) -> Option<SmallVec<[f64; 16]>> {
    let list = data.cast_exact::<PyList>().ok()?;
    let mut numbers = SmallVec::new();
    // No code but CPython's own runs meanwhile, so that the list stays as it is.
    for i in 0..list.len() {
        numbers.push(list.get_item(i).ok()?.cast_exact::<PyFloat>().ok()?.value());
    }
    (!numbers.is_empty()).then_some(numbers)
}

/// A vector of the default type.
fn vector(numbers: &[f64]) -> wengert::Result<Tensor> {
    match wengert::dtype::default_float() {
        DType::Float32 => {
            let rounded: SmallVec<[f32; 16]> = numbers.iter().map(|&x| x as f32).collect();
            Tensor::from_slice(&rounded, &[numbers.len()])
        }
        DType::Float64 => Tensor::from_slice(numbers, &[numbers.len()]),
        dtype => {
            let numbers: Vec<Scalar> = numbers.iter().map(|&x| Scalar::Float(x)).collect();
            Tensor::from_scalars(&numbers, &[numbers.len()], dtype)
        }
    }
}

/// The type of a NumPy scalar, which `tensor()` keeps.
fn numpy_scalar_dtype(data: &Bound<'_, PyAny>) -> PyResult<Option<DType>> {
    if data.is_instance_of::<PyList>()
        || data.is_instance_of::<PyFloat>() && data.get_type().is(data.py().get_type::<PyFloat>())
        || numpy::scalar(data)?.is_none()
    {
        return Ok(None);
    }
    let array = data.py().import("numpy")?.call_method1("asarray", (data,))?;
    Ok(Some(numpy::from_buffer(&array)?.dtype()))
}

fn dtype_argument(dtype: Option<&Bound<'_, PyAny>>) -> PyResult<Option<DType>> {
    match dtype {
        None => Ok(None),
        Some(d) => extract_dtype(d).map(Some).ok_or_else(|| {
            PyTypeError::new_err(format!(
                "argument 'dtype' must be torch.dtype, not {}",
                d.get_type().name().map_or_else(|_| "object".into(), |n| n.to_string())
            ))
        }),
    }
}

/// `tensor(data, *, dtype=None, device=None, requires_grad=False)`: a new tensor with a copy of
/// numbers, nested sequences, an array or a tensor.
///
/// Parameters
/// ----------
/// data : number, sequence, numpy.ndarray or Tensor
///     What to copy. Floats become the default type, ints int64; arrays keep their type.
/// dtype : dtype, optional
///     Another type.
/// requires_grad : bool
///     Whether gradients are wanted.
///
/// Returns
/// -------
/// Tensor
///     A leaf in memory of its own.
///
/// Raises
/// ------
/// ValueError
///     If a nested sequence is ragged or too deep.
///
/// Examples
/// --------
/// >>> import wengert
/// >>> wengert.tensor([[1, 2], [3, 4]])
/// tensor([[1, 2],
///         [3, 4]])
#[pyfunction]
#[pyo3(signature = (data, *, dtype=None, device=None, requires_grad=false, pin_memory=false))]
pub fn tensor<'py>(
    data: &Bound<'py, PyAny>,
    dtype: Option<&Bound<'py, PyAny>>,
    device: Option<&Bound<'py, PyAny>>,
    requires_grad: bool,
    pin_memory: bool,
) -> PyResult<Bound<'py, PyTensor>> {
    let _ = pin_memory;
    if let Some(device) = device {
        check_device(device)?;
    }
    if data.cast::<PyTensor>().is_ok() {
        let text = CString::new(
            "To copy construct from a tensor, it is recommended to use sourceTensor.detach().clone() \
             or sourceTensor.detach().clone().requires_grad_(True), rather than \
             torch.tensor(sourceTensor).",
        )?;
        PyErr::warn(data.py(), &data.py().get_type::<PyUserWarning>(), &text, 1)?;
    }
    let t = tensor_of(data, dtype_argument(dtype)?)?;
    if requires_grad {
        teach::require_grad(&t)?;
    }
    wrap(data.py(), t)
}

/// `as_tensor(data, dtype=None, device=None)`: like `tensor`, but shares memory with arrays and
/// returns tensors as they are where possible.
#[pyfunction]
#[pyo3(signature = (data, dtype=None, device=None))]
pub fn as_tensor<'py>(
    data: &Bound<'py, PyAny>,
    dtype: Option<&Bound<'py, PyAny>>,
    device: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyTensor>> {
    if let Some(device) = device {
        check_device(device)?;
    }
    let dtype = dtype_argument(dtype)?;
    if let Ok(t) = data.cast::<PyTensor>() {
        let inner = t.get().tensor();
        return match dtype {
            Some(d) if d != inner.dtype() => {
                wrap(data.py(), ops::cast::to_dtype(&inner, d).or_raise()?)
            }
            _ => Ok(t.clone()),
        };
    }
    if numpy::is_array(data)? {
        let shared = numpy::from_buffer(data)?;
        return wrap(
            data.py(),
            ops::cast::to_dtype(&shared, dtype.unwrap_or(shared.dtype())).or_raise()?,
        );
    }
    wrap(data.py(), tensor_of(data, dtype)?)
}

/// `Tensor(2, 3)`, `Tensor([1., 2.])`: the old constructor, always of the default type.
pub fn legacy_constructor(
    args: &Bound<'_, PyTuple>,
    kwargs: Option<&Bound<'_, PyDict>>,
) -> PyResult<Tensor> {
    if kwargs.is_some_and(|k| !k.is_empty()) {
        return Err(PyTypeError::new_err(
            "Tensor() takes no keyword arguments; use tensor(data, dtype=...)",
        ));
    }
    let float = wengert::dtype::default_float();
    if args.len() == 1 {
        let first = args.get_item(0)?;
        if let Ok(t) = first.cast::<PyTensor>() {
            return Ok(t.get().tensor().detach());
        }
        if first.is_instance(crate::types::size_class(args.py())?)? {
            let shape: Vec<usize> = first.extract()?;
            return Tensor::zeros(&shape, float).or_raise();
        }
        if !matches!(number(&first)?, Some(Scalar::Int(_))) {
            return tensor_of(&first, Some(float));
        }
    }
    let sizes = args.iter().map(|a| a.extract::<i64>()).collect::<PyResult<Vec<_>>>()?;
    if sizes.is_empty() {
        return Tensor::zeros(&[0], float).or_raise();
    }
    crate::args::check_sizes("Tensor", &sizes)?;
    let shape: Vec<usize> = sizes.iter().map(|&s| s as usize).collect();
    Tensor::zeros(&shape, float).or_raise()
}

/// Lets Ctrl-C through, every so many steps of a loop.
#[inline]
fn check_signals_now_and_then(py: Python<'_>, step: usize) -> PyResult<()> {
    if step % (1 << 16) == (1 << 16) - 1 { py.check_signals() } else { Ok(()) }
}

/// Nested lists of Python numbers.
pub fn to_list<'py>(py: Python<'py>, t: &Tensor) -> PyResult<Bound<'py, PyAny>> {
    if t.ndim() == 0 {
        return scalar_object(py, t.item().or_raise()?);
    }
    let shape = t.shape().to_vec();
    let values = t.to_scalars().or_raise()?;
    // Innermost lists first, then lists of those, level by level.
    let mut level: Vec<Bound<'py, PyAny>> = Vec::with_capacity(values.len());
    for (i, value) in values.into_iter().enumerate() {
        level.push(scalar_object(py, value)?);
        check_signals_now_and_then(py, i)?;
    }
    for d in (0..shape.len()).rev() {
        let outer: usize = shape[..d].iter().product();
        let mut next = Vec::with_capacity(outer);
        let mut items = level.into_iter();
        for i in 0..outer {
            check_signals_now_and_then(py, i)?;
            let row: Vec<_> = items.by_ref().take(shape[d]).collect();
            next.push(PyList::new(py, row)?.into_any());
        }
        level = next;
    }
    level.pop().ok_or_else(|| PyRuntimeError::new_err("tolist: no list was made"))
}

/// A copy for `copy.deepcopy`; computed tensors have a history that a copy could not keep.
pub fn deepcopy<'py>(
    slf: &Bound<'py, PyTensor>,
    memo: &Bound<'py, PyDict>,
) -> PyResult<Bound<'py, PyTensor>> {
    let key = slf.as_ptr() as usize;
    if let Some(known) = memo.get_item(key)? {
        return Ok(known.cast_into()?);
    }
    let t = slf.get().tensor();
    crate::vmap::check_plain(&t, "deepcopy")?;
    if !t.is_leaf() {
        return Err(teach::deepcopy_of_computed(&t));
    }
    let preserve = Some(MemoryFormat::Preserve);
    let copy = ops::cast::to(&t.detach(), t.dtype(), preserve, true).or_raise()?;
    copy.set_requires_grad(t.requires_grad()).or_raise()?;
    if let Some(grad) = t.grad() {
        copy.set_grad(Some(ops::cast::clone(&grad.detach()).or_raise()?));
    }
    let object = wrap_as(&slf.get_type(), copy)?;
    memo.set_item(key, &object)?;
    if let Some(state) = subclass::state(slf)? {
        let deepcopy = slf.py().import("copy")?.getattr("deepcopy")?;
        object.getattr("__dict__")?.call_method1("update", (deepcopy.call1((state, memo))?,))?;
    }
    Ok(object)
}

/// What `pickle` and `copy` need; the history of a computed tensor is left out, with a warning.
pub fn reduce<'py>(slf: &Bound<'py, PyTensor>) -> PyResult<Bound<'py, PyTuple>> {
    let py = slf.py();
    let t = slf.get().tensor();
    crate::vmap::check_plain(&t, "pickle")?;
    if !t.is_leaf() {
        teach::warn_copy_of_computed(py, &t)?;
    }
    if t.hook_host(crate::hooks::dict_of).is_some() {
        py.import("wengert.utils.hooks")?.call_method1("warn_if_has_hooks", (slf,))?;
    }
    let dtype = crate::types::dtype_object(py, t.dtype())?;
    let shape = PyTuple::new(py, t.shape())?;

    let bytes = t.to_bytes().or_raise()?;
    let rebuild = py.import("wengert._core")?.getattr("_rebuild_tensor")?;
    let bytes = pyo3::types::PyBytes::new(py, &bytes);
    let arguments = match subclass::class_argument(slf) {
        None => (bytes, dtype, shape, t.requires_grad()).into_pyobject(py)?,
        Some(class) => (bytes, dtype, shape, t.requires_grad(), class).into_pyobject(py)?,
    };
    subclass::reduced(slf, rebuild, arguments)
}

/// A tensor from the bytes that pickling wrote.
#[pyfunction]
#[pyo3(signature = (bytes, dtype, shape, requires_grad, cls=None))]
pub fn _rebuild_tensor<'py>(
    py: Python<'py>,
    bytes: &[u8],
    dtype: &Bound<'py, PyAny>,
    shape: Vec<usize>,
    requires_grad: bool,
    cls: Option<&Bound<'py, PyType>>,
) -> PyResult<Bound<'py, PyTensor>> {
    let dtype =
        extract_dtype(dtype).ok_or_else(|| PyTypeError::new_err("_rebuild_tensor: not a dtype"))?;
    let t = Tensor::from_bytes(bytes, &shape, dtype).or_raise()?;
    t.set_requires_grad(requires_grad).or_raise()?;
    match cls {
        None => wrap(py, t),
        Some(cls) => wrap_as(cls, t),
    }
}
