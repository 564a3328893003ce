//! NumPy both ways, through the buffer protocol and without NumPy's C API.
//!
//! A tensor exports its memory as a buffer, and NumPy arrays are made from that; arrays and other
//! exporters come in the same way. An export counts as a use of the memory on either side: a
//! tensor's storage lives as long as any array over it, and `bytearray.clear()` or `mmap.close()`
//! under a tensor raise `BufferError`. NumPy is imported when it is first needed.
#![allow(unsafe_code)]

use crate::error::OrRaise;
use crate::tensor::{PyTensor, wrap};
use pyo3::exceptions::*;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyType};
use std::ffi::{CStr, c_int};
use std::ptr::NonNull;
use wengert::layout::Layout;
use wengert::storage::Storage;
use wengert::{DType, Scalar, Tensor, exports, ops};

static GENERIC: PyOnceLock<Py<PyType>> = PyOnceLock::new();
static NDARRAY: PyOnceLock<Py<PyType>> = PyOnceLock::new();

/// Whether an object's class comes from NumPy; cheap, and imports nothing.
fn from_numpy_module(value: &Bound<'_, PyAny>) -> bool {
    let class = value.get_type();
    class.module().is_ok_and(|m| m.to_string_lossy().starts_with("numpy"))
}

/// A NumPy scalar as a number; `None` for everything else.
#[cold]
pub fn scalar(value: &Bound<'_, PyAny>) -> PyResult<Option<Scalar>> {
    let py = value.py();
    if value.cast::<PyTensor>().is_ok() || !from_numpy_module(value) {
        return Ok(None);
    }
    let generic = GENERIC.import(py, "numpy", "generic")?;
    if !value.is_instance(generic)? {
        return Ok(None);
    }
    let item = value.call_method0("item")?;
    if from_numpy_module(&item) {
        return Ok(None);
    }
    crate::args::number(&item)
}

/// An array as the operand of an infix operator.
#[cold]
pub fn array_operand(value: &Bound<'_, PyAny>) -> PyResult<Option<Tensor>> {
    if !is_array(value)? {
        return Ok(None);
    }
    from_buffer(value).map(Some)
}

/// Whether an object is a NumPy array.
pub fn is_array(value: &Bound<'_, PyAny>) -> PyResult<bool> {
    if !from_numpy_module(value) {
        return Ok(false);
    }
    value.is_instance(NDARRAY.import(value.py(), "numpy", "ndarray")?)
}

/// `struct` module codes; `None` where NumPy has no such type.
fn format_of(dtype: DType) -> Option<&'static CStr> {
    Some(match dtype {
        DType::Bool => c"?",
        DType::UInt8 => c"B",
        DType::Int8 => c"b",
        DType::Int16 => c"h",
        DType::Int32 => c"i",
        DType::Int64 => c"q",
        DType::Float16 => c"e",
        DType::Float32 => c"f",
        DType::Float64 => c"d",
        DType::BFloat16 => return None,
    })
}

fn dtype_of(format: &str, item: usize) -> Option<DType> {
    let code = format.trim_start_matches(['@', '=', '<']);
    Some(match (code, item) {
        ("?", 1) => DType::Bool,
        ("B", 1) => DType::UInt8,
        ("b", 1) => DType::Int8,
        ("h", 2) => DType::Int16,
        ("i" | "l", 4) => DType::Int32,
        ("q" | "l", 8) => DType::Int64,
        ("e", 2) => DType::Float16,
        ("f", 4) => DType::Float32,
        ("d", 8) => DType::Float64,
        _ => return None,
    })
}

/// A buffer of somebody else, released under the interpreter lock.
struct Import(Box<ffi::Py_buffer>);

// SAFETY: the structure is only read, and released while attached to the interpreter.
unsafe impl Send for Import {}
// SAFETY: as above.
unsafe impl Sync for Import {}

impl Drop for Import {
    fn drop(&mut self) {
        // At interpreter shutdown there is nobody left to release to.
        Python::try_attach(|_| {
            // SAFETY: the buffer was filled by PyObject_GetBuffer and is released once.
            unsafe { ffi::PyBuffer_Release(&mut *self.0) }
        });
    }
}

impl Import {
    fn of(value: &Bound<'_, PyAny>) -> PyResult<Import> {
        let mut view = Box::new(ffi::Py_buffer::new());
        // SAFETY: `view` is ours to be filled.
        let status =
            unsafe { ffi::PyObject_GetBuffer(value.as_ptr(), &mut *view, ffi::PyBUF_FULL_RO) };
        if status == 0 { Ok(Import(view)) } else { Err(PyErr::fetch(value.py())) }
    }

    fn format(&self) -> &str {
        if self.0.format.is_null() {
            return "B";
        }
        // SAFETY: a non-null format is a C string that lives as long as the export.
        unsafe { CStr::from_ptr(self.0.format) }.to_str().unwrap_or("")
    }

    fn dims(&self, array: *mut isize) -> &[isize] {
        if self.0.ndim == 0 || array.is_null() {
            return &[];
        }
        // SAFETY: the exporter gives `ndim` entries.
        unsafe { std::slice::from_raw_parts(array, self.0.ndim as usize) }
    }
}

/// A tensor over the memory of any buffer exporter; converts what needs another byte order.
pub fn from_buffer(value: &Bound<'_, PyAny>) -> PyResult<Tensor> {
    let import = match Import::of(value) {
        Ok(import) => import,
        Err(e) => return Err(unusable(value, &e.to_string())),
    };
    let item = import.0.itemsize as usize;
    let format = import.format().to_owned();
    if format.starts_with(['>', '!']) && item > 1 {
        let native = value.call_method1(
            "astype",
            (value.getattr("dtype")?.call_method1("newbyteorder", ("=",))?,),
        )?;
        return from_buffer(&native);
    }
    let Some(dtype) = dtype_of(&format, item) else {
        return Err(unusable(value, &format!("its element format is '{format}'")));
    };
    let shape: Vec<usize> = import.dims(import.0.shape).iter().map(|&s| s as usize).collect();
    let bytes = import.dims(import.0.strides).to_vec();
    if bytes.iter().zip(&shape).any(|(&s, &n)| s % item as isize != 0 && n > 1) {
        let copy = value.call_method0("copy")?;
        return from_buffer(&copy);
    }
    let strides: Vec<isize> = bytes.iter().map(|&s| s / item as isize).collect();
    wengert::layout::checked_numel("from_numpy", &shape, item).or_raise()?;
    // The lowest address that any index reaches becomes the start of the storage.
    let numel: usize = if shape.contains(&0) { 0 } else { shape.iter().product() };
    let (mut low, mut high) = (0isize, 1isize);
    for (&n, &s) in shape.iter().zip(&strides) {
        let reach = (n as isize - 1) * s;
        if reach < 0 { low += reach } else { high += reach }
    }
    let data = import.0.buf.cast::<u8>();
    let aligned = (data as usize).is_multiple_of(item);
    if numel > 0 && !aligned {
        let copy = value.call_method0("copy")?;
        return from_buffer(&copy);
    }
    if numel == 0 {
        return Tensor::uninitialised("from_numpy", &shape, dtype).or_raise();
    }
    let read_only = import.0.readonly != 0;
    let start = data.wrapping_offset(low * item as isize);
    let start =
        NonNull::new(start).ok_or_else(|| PyValueError::new_err("buffer without memory"))?;
    let length = (high - low) as usize * item;
    // SAFETY: the exporter guarantees the memory between the lowest and the highest element until
    // the export is released, which `import` does when the storage goes.
    let storage =
        unsafe { Storage::foreign(start, length, Box::new(import), read_only) }.or_raise()?;
    let layout = Layout::strided(&shape, &strides, (-low) as usize);
    Ok(Tensor::from_parts(storage, layout, dtype))
}

#[cold]
fn unusable(value: &Bound<'_, PyAny>, why: &str) -> PyErr {
    let what = value
        .getattr("dtype")
        .map(|d| format!("numpy.ndarray of type {d}"))
        .unwrap_or_else(|_| value.get_type().to_string());
    PyTypeError::new_err(format!(
        "can't convert {what} ({why}). The only supported types are: float64, float32, float16, \
         int64, int32, int16, int8, uint8, and bool."
    ))
}

/// `from_numpy(ndarray)`: a tensor over the array's memory. A read-only array gives a read-only
/// tensor; arrays with negative strides are taken as they are; another byte order is converted.
///
/// Writing to the array is writing to the tensor, but nobody notices: if the old values were needed for
/// a gradient, that is silently wrong. `autograd.set_check_numpy(True)` makes it an error, for tensors
/// made from then on.
///
/// Parameters
/// ----------
/// ndarray : numpy.ndarray
///     An array of a type that exists here.
///
/// Returns
/// -------
/// Tensor
///     Shares memory with the array.
///
/// Examples
/// --------
/// >>> import numpy, wengert
/// >>> a = numpy.zeros(2)
/// >>> wengert.from_numpy(a)[0] = 3.0
/// >>> a.tolist()
/// [3.0, 0.0]
#[pyfunction]
pub fn from_numpy<'py>(ndarray: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyTensor>> {
    if !is_array(ndarray)? {
        return Err(PyTypeError::new_err(format!(
            "expected np.ndarray (got {})",
            ndarray.get_type().name()?
        )));
    }
    wrap(ndarray.py(), from_buffer(ndarray)?)
}

/// `frombuffer(buffer, *, dtype, count=-1, offset=0)`: a 1-D tensor over any buffer's memory.
#[pyfunction]
#[pyo3(signature = (buffer, *, dtype, count=-1, offset=0, requires_grad=false))]
pub fn frombuffer<'py>(
    buffer: &Bound<'py, PyAny>,
    dtype: &Bound<'py, PyAny>,
    count: i64,
    offset: i64,
    requires_grad: bool,
) -> PyResult<Bound<'py, PyTensor>> {
    let Some(dtype) = crate::types::extract_dtype(dtype) else {
        return Err(PyTypeError::new_err("frombuffer(): argument 'dtype' must be torch.dtype"));
    };
    let import = Import::of(buffer)?;
    let length = import.0.len;
    let item = dtype.size() as i64;
    if offset < 0 || offset as isize >= length.max(1) {
        return Err(PyValueError::new_err(format!(
            "offset ({offset} bytes) must be non-negative and no greater than buffer length ({length} bytes) minus 1"
        )));
    }
    let rest = length as i64 - offset;
    let count = match count {
        c if c < 0 && rest % item == 0 => rest / item,
        c if c < 0 => {
            return Err(PyValueError::new_err(format!(
                "buffer length ({rest} bytes) after offset ({offset} bytes) must be a multiple of element size ({item})"
            )));
        }
        c if c.checked_mul(item).is_none_or(|b| b > rest) => {
            return Err(PyValueError::new_err(format!(
                "requested buffer length ({c} * {item} bytes) after offset ({offset} bytes) must not be greater than actual buffer length ({length} bytes)"
            )));
        }
        c => c,
    };
    let start = import.0.buf.cast::<u8>().wrapping_add(offset as usize);
    let shape = [count as usize];
    let result = if count == 0 {
        Tensor::uninitialised("frombuffer", &shape, dtype).or_raise()?
    } else {
        let misaligned = !(start as usize).is_multiple_of(dtype.size());
        let read_only = import.0.readonly != 0;
        let start =
            NonNull::new(start).ok_or_else(|| PyValueError::new_err("buffer without memory"))?;
        if misaligned {
            return Err(PyValueError::new_err(format!(
                "offset ({offset} bytes) is not aligned to {dtype}"
            )));
        }
        let layout = Layout::contiguous("frombuffer", &shape, dtype.size()).or_raise()?;
        let bytes = shape[0] * dtype.size();
        // SAFETY: the export covers `length` bytes, checked above, until it is released.
        let storage = unsafe { Storage::foreign(start, bytes, Box::new(import), read_only) };
        Tensor::from_parts(storage.or_raise()?, layout, dtype)
    };
    if requires_grad {
        crate::teach::require_grad(&result)?;
    }
    wrap(buffer.py(), result)
}

/// Check whether arrays that tensors were made from are written to while a graph needs their values.
///
/// A write through `x.numpy()` is noticed always: backward raises an error instead of giving a wrong
/// gradient. A write to the array `a` behind `from_numpy(a)` is noticed only in this mode, because
/// it costs a pass over the array whenever it is saved and whenever it is used by backward.
///
/// Parameters
/// ----------
/// mode : bool
///     Whether arrays are checked that become tensors from now on.
///
/// Returns
/// -------
/// bool
///     What it was.
///
/// Examples
/// --------
/// >>> import numpy, wengert
/// >>> before = wengert.autograd.set_check_numpy(True)
/// >>> a = numpy.ones(2)
/// >>> w = wengert.ones(2, dtype=wengert.float64, requires_grad=True)
/// >>> loss = (w * wengert.from_numpy(a)).sum()
/// >>> a[0] = 7.0
/// >>> loss.backward()  # doctest: +IGNORE_EXCEPTION_DETAIL
/// Traceback (most recent call last):
///     ...
/// RuntimeError: one of the variables needed for gradient computation has been modified ...
/// >>> wengert.autograd.set_check_numpy(before)
/// True
#[pyfunction]
pub fn set_check_numpy(mode: bool) -> bool {
    exports::set_check_imports(mode)
}

fn check_numpy(t: &Tensor) -> PyResult<()> {
    t.check_readable().or_raise()?;
    if t.requires_grad() && wengert::graph::inference::is_grad_asked_for() {
        return Err(crate::teach::array_with_grad(t));
    }
    if format_of(t.dtype()).is_none() {
        return Err(PyTypeError::new_err(format!(
            "Got unsupported ScalarType {}",
            t.dtype().scalar_type_name()
        )));
    }
    Ok(())
}

/// `Tensor.numpy()`: an array over the tensor's memory.
pub fn to_numpy<'py>(slf: &Bound<'py, PyTensor>, force: bool) -> PyResult<Bound<'py, PyAny>> {
    let py = slf.py();
    let detached = {
        let t = slf.get().tensor();
        (force && t.requires_grad()).then(|| t.detach())
    };
    let source = detached.map_or_else(|| Ok(slf.clone()), |t| wrap(py, t))?;
    check_numpy(&source.get().tensor())?;
    // SAFETY: a memoryview over an object that exports a buffer.
    let view =
        unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyMemoryView_FromObject(source.as_ptr()))? };
    py.import("numpy")?.call_method1("asarray", (view,))
}

/// `Tensor.__array__(dtype=None, copy=None)`, NumPy 2's protocol.
pub fn array_protocol<'py>(
    slf: &Bound<'py, PyTensor>,
    dtype: Option<&Bound<'py, PyAny>>,
    copy: Option<bool>,
) -> PyResult<Bound<'py, PyAny>> {
    let array = to_numpy(slf, false)?;
    let same = match dtype {
        None => true,
        Some(d) => {
            let wanted = slf.py().import("numpy")?.getattr("dtype")?.call1((d,))?;
            array.getattr("dtype")?.eq(wanted)?
        }
    };
    let kwargs = PyDict::new(slf.py());
    match (same, copy) {
        (true, Some(true)) => array.call_method0("copy"),
        (true, _) => Ok(array),
        (false, Some(false)) => Err(PyValueError::new_err(
            "Unable to avoid copy while creating an array as requested: the type differs",
        )),
        (false, _) => {
            kwargs.set_item("copy", true)?;
            array.call_method("astype", (dtype,), Some(&kwargs))
        }
    }
}

/// What an export owns: the storage and the arrays that its structure points to.
struct Export {
    _watch: Option<exports::Export>,
    _tensor: Tensor,
    shape: Vec<isize>,
    strides: Vec<isize>,
}

/// Fills a buffer structure with a tensor's memory.
///
/// # Safety
/// `view` is CPython's structure to fill.
pub unsafe fn fill_buffer(
    slf: Bound<'_, PyTensor>,
    view: *mut ffi::Py_buffer,
    flags: c_int,
) -> PyResult<()> {
    let t = slf.get().tensor();
    if let Err(e) = check_numpy(&t) {
        return Err(PyBufferError::new_err(e.to_string()));
    }
    let read_only = t.storage().is_read_only();
    if flags & ffi::PyBUF_WRITABLE == ffi::PyBUF_WRITABLE && read_only {
        return Err(PyBufferError::new_err("tensor is read-only"));
    }
    if flags & ffi::PyBUF_STRIDES != ffi::PyBUF_STRIDES && !t.is_contiguous() {
        return Err(PyBufferError::new_err("tensor is not contiguous"));
    }
    let item = t.dtype().size() as isize;
    // What cannot be written to needs no watching. With the handle here, an object that nobody else
    // knows has two.
    let _watch = (!read_only)
        .then(|| exports::Export::new(t.storage(), t.owners() == 2 && t.is_only_view()));
    let mut export = Box::new(Export {
        _watch,
        shape: t.shape().iter().map(|&s| s as isize).collect(),
        strides: t.layout().strides().iter().map(|&s| s * item).collect(),
        _tensor: t.clone(),
    });
    let format = format_of(t.dtype()).unwrap_or(c"B");
    // SAFETY: `view` is ours to fill; the pointers lead into `export`, which is released with it,
    // into static text, and into the tensor's memory, which `export` keeps alive.
    unsafe {
        (*view).buf = t.data_ptr().cast();
        (*view).len = t.numel() as isize * item;
        (*view).itemsize = item;
        (*view).readonly = read_only as c_int;
        (*view).ndim = t.ndim() as c_int;
        (*view).format = if flags & ffi::PyBUF_FORMAT == ffi::PyBUF_FORMAT {
            format.as_ptr().cast_mut()
        } else {
            std::ptr::null_mut()
        };
        (*view).shape = if flags & ffi::PyBUF_ND == ffi::PyBUF_ND {
            export.shape.as_mut_ptr()
        } else {
            std::ptr::null_mut()
        };
        (*view).strides = if flags & ffi::PyBUF_STRIDES == ffi::PyBUF_STRIDES {
            export.strides.as_mut_ptr()
        } else {
            std::ptr::null_mut()
        };
        (*view).suboffsets = std::ptr::null_mut();
        (*view).internal = Box::into_raw(export).cast();
        (*view).obj = slf.into_ptr();
    }
    Ok(())
}

/// Gives back what [`fill_buffer`] made.
///
/// # Safety
/// `view` was filled by `fill_buffer` and is released once.
pub unsafe fn release_buffer(view: *mut ffi::Py_buffer) {
    // SAFETY: `internal` is the box that `fill_buffer` leaked.
    unsafe { drop(Box::from_raw((*view).internal.cast::<Export>())) }
}

/// The elements of an array, copied.
pub fn copied(value: &Bound<'_, PyAny>, dtype: Option<DType>) -> PyResult<Tensor> {
    let t = from_buffer(value)?;
    let t = t.detach();
    match dtype {
        Some(d) if d != t.dtype() => ops::cast::to_dtype(&t, d).or_raise(),
        _ => ops::cast::clone(&t).or_raise(),
    }
}
