//! From tensors to a pointwise kernel: types, shapes, destination.
//!
//! This is the one way from a tensor to [`engine::map`]. It is not generic over the operation, so
//! that several hundred rows share one copy of it.
//!
//! Most calls are plain: operands of one type and shape, row-major, or Python numbers. They are
//! recognised first and go straight to the inner loop. Everything else takes the general way, which
//! would give the same result.

use crate::dtype::{DType, Element, ResultType};
use crate::kernels::cast;
use crate::kernels::engine::{self, Operand};
use crate::kernels::rows::{Kernel, Kind, MAX_OPERANDS};
use crate::layout::{self, Dims, Layout, Strides};
use crate::storage::Storage;
use crate::tensor::Tensor;
use crate::{Error, Result, Scalar, bail, dispatch};
use smallvec::SmallVec;

const MAX_INPUTS: usize = 4;

/// Where a result goes.
#[derive(Clone, Copy)]
pub enum Dest<'a> {
    /// Into new memory.
    New,
    /// Into this tensor.
    Into(&'a Tensor),
}

/// In which type a row computes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Promote {
    /// The common type of the operands.
    Same,
    /// The common type; the default floating type for integers.
    Float,
}

/// What a row needs to run.
pub struct Spec {
    /// The operation's name, for messages.
    pub name: &'static str,
    /// Its formula.
    pub kernel: &'static Kernel,
    /// Its type rule.
    pub promote: Promote,
}

/// The type the operands are converted to. Operands that are conditions do not take part.
fn common_dtype(kernel: &Kernel, inputs: &[&Tensor]) -> DType {
    let deciding = || inputs.iter().zip(kernel.inputs).filter(|(_, k)| **k == Kind::Same);
    let first = deciding().next().map(|(t, _)| t.dtype());
    if let Some(dtype) = first
        && deciding().all(|(t, _)| t.dtype() == dtype && !t.is_wrapped_number())
    {
        return dtype;
    }
    let mut result = ResultType::default();
    for (t, _) in deciding() {
        if t.is_wrapped_number() {
            result.scalar(t.item().unwrap_or(crate::Scalar::Int(0)));
        } else {
            result.tensor(t.dtype(), t.ndim());
        }
    }
    result.finish()
}

/// The shape all inputs broadcast to, or `None` if they all have the first one's.
fn common_shape(name: &'static str, inputs: &[&Tensor]) -> Result<Option<Dims>> {
    let first = inputs[0].shape();
    if inputs[1..].iter().all(|t| t.shape() == first) {
        return Ok(None);
    }
    let mut shape: Dims = SmallVec::from_slice(first);
    for t in &inputs[1..] {
        shape = layout::broadcast(name, &shape, t.shape())?;
    }
    Ok(Some(shape))
}

/// Refuses a result that PyTorch would not store: a float into an integer tensor, for one.
pub fn check_storable(result: DType, target: DType) -> Result<()> {
    if result.can_cast(target) {
        return Ok(());
    }
    bail!(
        DType,
        "",
        "result type {} can't be cast to the desired output type {}",
        result.scalar_type_name(),
        target.scalar_type_name()
    )
}

#[cold]
pub(crate) fn resize_error(name: &'static str, out: &Tensor, wanted: &[usize]) -> Error {
    Error::new(
        crate::Kind::Shape,
        name,
        format!("out= has shape {:?}, but the result has shape {wanted:?}", out.shape()),
    )
}

/// Row-major, unless the first operand of full shape is a dense permutation: then the result is
/// laid out like it, as in PyTorch.
fn result_layout(
    name: &'static str,
    shape: &[usize],
    inputs: &[&Tensor],
    dtype: DType,
) -> Result<Layout> {
    let dense = inputs.iter().find(|t| t.shape() == shape && t.ndim() > 1);
    if let Some(t) = dense
        && !t.is_contiguous()
        && let Some(strides) = dense_permutation(t.layout())
    {
        layout::checked_numel(name, shape, dtype.size())?;
        return Ok(Layout::strided(shape, &strides, 0));
    }
    Layout::contiguous(name, shape, dtype.size())
}

/// The strides of a gapless tensor with its axes in the order of the given layout's.
pub(crate) fn dense_permutation(layout: &Layout) -> Option<Strides> {
    let (shape, strides) = (layout.shape(), layout.strides());
    if strides.iter().zip(shape).any(|(&s, &n)| s <= 0 && n > 1) {
        return None;
    }
    let mut axes: SmallVec<[usize; 8]> = (0..shape.len()).collect();
    axes.sort_by_key(|&d| std::cmp::Reverse(strides[d]));
    let mut result: Strides = SmallVec::from_elem(0, shape.len());
    let mut step = 1isize;
    for &d in axes.iter().rev() {
        result[d] = step;
        step *= shape[d].max(1) as isize;
    }
    Some(result)
}

/// Applies a row's formula.
///
/// # Errors
/// If shapes do not broadcast, if the formula means nothing for the common type, or if the
/// destination has another shape or a type that cannot hold the result.
#[inline]
pub fn apply<const N: usize>(spec: &Spec, inputs: &[&Tensor; N], dest: Dest) -> Result<Tensor> {
    match apply_plain(spec, inputs, dest) {
        Some(result) => result,
        None => apply_general(spec, inputs, dest),
    }
}

/// [`apply`] for operands that an inner loop can read as they are, or `None`.
#[allow(unsafe_code)]
#[inline(never)]
fn apply_plain<const N: usize>(
    spec: &Spec,
    inputs: &[&Tensor; N],
    dest: Dest,
) -> Option<Result<Tensor>> {
    let kernel = spec.kernel;
    let kinds: &[Kind; N] = kernel.inputs.try_into().ok()?;
    let decides = |k: &usize| kinds[*k] == Kind::Same && !inputs[*k].is_wrapped_number();
    let first = inputs[(0..N).find(decides)?];
    let dtype = first.dtype();
    // A number among larger tensors does not have the result's shape.
    let shaped = match first.ndim() {
        0 => inputs.iter().find(|t| t.ndim() > 0).unwrap_or(&first),
        _ => first,
    };
    // Half precision has no loops of its own and takes the general way.
    if !kernel.supports(dtype) || spec.promote == Promote::Float && !dtype.is_floating() {
        return None;
    }
    let mut ptrs = [std::ptr::null_mut(); MAX_OPERANDS];
    let mut steps = [0; MAX_OPERANDS];
    let mut numbers = [0u64; N];
    for (k, t) in inputs.iter().enumerate() {
        if t.is_wrapped_number() {
            // One of a higher category would decide the type.
            if kinds[k] != Kind::Same || t.dtype().category() > dtype.category() {
                return None;
            }
            write_number(&mut numbers[k], t.item().ok()?, dtype);
            ptrs[k + 1] = (&raw mut numbers[k]).cast();
        } else if t.dtype() != kinds[k].dtype(dtype) {
            return None;
        } else if t.layout().same_shape(shaped.layout()) {
            ptrs[k + 1] = t.data_ptr();
            steps[k + 1] = match t.is_contiguous() {
                true => t.dtype().size() as isize,
                false if t.layout().is_one_element() => 0,
                false => return None,
            };
        } else if t.ndim() == 0 {
            ptrs[k + 1] = t.data_ptr();
        } else {
            return None;
        }
    }
    let result = kernel.output.dtype(dtype);
    steps[0] = result.size() as isize;
    if let Dest::Into(out) = dest {
        let fits = out.dtype() == result
            && out.is_contiguous()
            && out.layout().same_shape(shaped.layout())
            && inputs.iter().all(|t| is_same_row(t, out) || !overlaps(t, out));
        if !fits {
            return None;
        }
        ptrs[0] = out.data_ptr();
        // SAFETY: as below; an input that shares memory with the output lies under it element for
        // element.
        unsafe { engine::map_flat(kernel, dtype, out.numel(), ptrs, steps) };
        return Some(Ok(out.clone()));
    }
    let layout = shaped.layout().to_row_major();
    let len = layout.numel();
    // No overflow: elements are as large as those of an operand of this shape, or one byte.
    let storage = match Storage::uninitialised(len * result.size()) {
        Ok(storage) => storage,
        Err(error) => return Some(Err(error)),
    };
    ptrs[0] = storage.data();
    // SAFETY: inputs are runs of `len` elements of the kernel's types, because the tensors are
    // contiguous and have the shape of `layout`, or single elements, of which those that were made here
    // live until the end of this function; the output is as long and new.
    unsafe { engine::map_flat(kernel, dtype, len, ptrs, steps) };
    Some(Ok(Tensor::from_parts(storage, layout, result)))
}

/// Writes a number as an element of a type.
#[allow(unsafe_code)]
fn write_number(place: &mut u64, value: Scalar, dtype: DType) {
    // By way of float64 a whole number would be rounded twice.
    if let (DType::Float32, Scalar::Int(i)) = (dtype, value) {
        // SAFETY: eight bytes hold any element.
        unsafe { (place as *mut u64).cast::<f32>().write(i as f32) };
        return;
    }
    dispatch!(dtype, T => {
        // SAFETY: as above.
        unsafe { (place as *mut u64).cast::<T>().write(T::from_scalar(value)) }
    });
}

fn apply_general(spec: &Spec, inputs: &[&Tensor], dest: Dest) -> Result<Tensor> {
    let kernel = spec.kernel;
    let mut common = common_dtype(kernel, inputs);
    if spec.promote == Promote::Float && !common.is_floating() {
        common = crate::dtype::default_float();
    }
    let compute = common.compute();
    let broadcast = common_shape(spec.name, inputs)?;
    if !kernel.supports(compute) {
        return Err(unsupported(spec, common));
    }
    let shape = broadcast.as_deref().unwrap_or_else(|| inputs[0].shape());
    let result = match kernel.output {
        Kind::Same => common,
        Kind::Bool => DType::Bool,
    };
    let made;
    let out = match dest {
        Dest::New => {
            let layout = if inputs.iter().all(|t| t.is_contiguous()) {
                Layout::contiguous(spec.name, shape, result.size())?
            } else {
                result_layout(spec.name, shape, inputs, result)?
            };
            let storage = crate::storage::Storage::uninitialised(layout.numel() * result.size())?;
            made = Tensor::from_parts(storage, layout, result);
            &made
        }
        Dest::Into(out) => {
            check_storable(result, out.dtype())?;
            if out.shape() != shape {
                return Err(shape_mismatch(spec.name, out, shape));
            }
            if let Some(moved) = apart_from(out, spec.name, inputs)? {
                let inputs: SmallVec<[&Tensor; MAX_INPUTS]> = moved.iter().collect();
                return apply_general(spec, &inputs, dest);
            }
            made = out.clone();
            &made
        }
    };
    run_kernel(kernel, compute, shape, out, inputs);
    Ok(made)
}

#[allow(unsafe_code)]
fn run_kernel(kernel: &Kernel, compute: DType, shape: &[usize], out: &Tensor, inputs: &[&Tensor]) {
    let zeros: Strides = SmallVec::from_elem(0, shape.len());
    let mut broadcast: [Strides; MAX_INPUTS] = Default::default();
    // Numbers of another type are converted here, once, and read with stride 0.
    let mut numbers = [0u64; MAX_INPUTS];
    for (k, t) in inputs.iter().enumerate() {
        if t.ndim() == 0 && t.dtype() != compute && kernel.inputs[k] == Kind::Same {
            let number =
                Operand { ptr: (&raw mut numbers[k]).cast(), dtype: compute, strides: &[] };
            // SAFETY: eight bytes hold any element.
            unsafe { cast::copy(&[], number, t.operand()) };
        } else if t.ndim() > 0 && t.shape() != shape {
            broadcast[k] = layout::broadcast_strides(t.shape(), t.layout().strides(), shape);
        }
    }
    let mut operands: SmallVec<[Operand; MAX_INPUTS + 1]> = SmallVec::new();
    operands.push(out.operand());
    for (k, t) in inputs.iter().enumerate() {
        operands.push(if t.ndim() == 0 {
            if t.dtype() != compute && kernel.inputs[k] == Kind::Same {
                Operand { ptr: (&raw mut numbers[k]).cast(), dtype: compute, strides: &zeros }
            } else {
                Operand { strides: &zeros, ..t.operand() }
            }
        } else if t.shape() != shape {
            Operand { strides: &broadcast[k], ..t.operand() }
        } else {
            t.operand()
        });
    }
    // SAFETY: every operand has the strides of `shape` inside its own storage (layouts are checked
    // at creation, broadcasting only adds strides of 0), or points to one converted number; the
    // output overlaps an input only element for element.
    unsafe { engine::map(kernel, compute, shape, &operands) };
}

/// Whether two tensors may share memory: their spans of addresses meet. Storages do not tell, as
/// two of them may be parts of one NumPy array.
fn overlaps(a: &Tensor, b: &Tensor) -> bool {
    let bytes = |t: &Tensor| {
        let ((low, high), size) = (t.layout().span(), t.dtype().size());
        let start = t.storage().data() as usize;
        (start + low as usize * size, start + high as usize * size)
    };
    let ((a0, a1), (b0, b1)) = (bytes(a), bytes(b));
    a0 < b1 && b0 < a1
}

/// [`is_same_place`] for tensors without gaps.
fn is_same_row(t: &Tensor, out: &Tensor) -> bool {
    t.data_ptr() == out.data_ptr()
        && t.dtype() == out.dtype()
        && t.is_contiguous()
        && t.layout().same_shape(out.layout())
}

/// Whether two tensors are the same elements in the same order.
fn is_same_place(a: &Tensor, b: &Tensor) -> bool {
    a.data_ptr() == b.data_ptr()
        && a.dtype() == b.dtype()
        && a.shape() == b.shape()
        && a.layout().strides() == b.layout().strides()
}

/// Inputs that may be read while `out` is written: `None` if they may as they are. Those that lie
/// between the elements of `out`, as the columns of a matrix do, are copied.
///
/// # Errors
/// An input and `out` are dense and share some of their memory, which is refused as in PyTorch.
#[inline]
pub(crate) fn apart_from(
    out: &Tensor,
    op: &'static str,
    inputs: &[&Tensor],
) -> Result<Option<SmallVec<[Tensor; MAX_INPUTS]>>> {
    let meets = |t: &&Tensor| overlaps(t, out) && !is_same_place(t, out);
    if !inputs.iter().any(&meets) {
        return Ok(None);
    }
    copied_apart(out, op, inputs, meets).map(Some)
}

#[cold]
fn copied_apart(
    out: &Tensor,
    op: &'static str,
    inputs: &[&Tensor],
    meets: impl Fn(&&Tensor) -> bool,
) -> Result<SmallVec<[Tensor; MAX_INPUTS]>> {
    let copy = |t: &&Tensor| {
        if !meets(t) {
            return Ok((*t).clone());
        }
        if is_dense(t.layout()) && is_dense(out.layout()) {
            return Err(overlap(op));
        }
        super::cast::clone(&t.detach())
    };
    inputs.iter().map(copy).collect()
}

/// Whether a layout has neither gaps nor elements in common.
pub(crate) fn is_dense(layout: &Layout) -> bool {
    dense_permutation(layout).is_some_and(|dense| {
        let axes = layout.shape().iter().zip(layout.strides().iter().zip(&dense));
        axes.into_iter().all(|(&n, (a, b))| n <= 1 || a == b)
    })
}

#[cold]
fn overlap(name: &'static str) -> Error {
    Error::plain(
        crate::Kind::Value,
        format!(
            "unsupported operation: some elements of the input tensor and the written-to tensor refer \
             to a single memory location. Please clone() the tensor before performing the operation. \
             ({name})"
        ),
    )
}

/// Writes what `make` gives to `dest`, for operations that read while they write: as in PyTorch
/// `out` shares no memory with an input. With `exact` it also has the type of the result.
///
/// # Errors
/// `out` overlaps an input, or has another shape or a type that does not fit.
pub(crate) fn store_apart(
    op: &'static str,
    dest: Dest,
    inputs: &[&Tensor],
    exact: Option<DType>,
    make: impl FnOnce() -> Result<Tensor>,
) -> Result<Tensor> {
    let Dest::Into(out) = dest else { return make() };
    if inputs.iter().any(|t| t.same(out) || overlaps(t, out)) {
        return Err(overlap(op));
    }
    if let Some(dtype) = exact
        && dtype != out.dtype()
    {
        let name = |t: DType| t.scalar_type_name().to_lowercase();
        bail!(
            DType,
            "",
            "Expected out tensor to have dtype {}, but got {} instead ({op})",
            name(dtype),
            name(out.dtype())
        );
    }
    let made = make()?;
    check_storable(made.dtype(), out.dtype())?;
    if made.shape() != out.shape() {
        return Err(resize_error(op, out, made.shape()));
    }
    out.copy_raw(&made);
    Ok(out.clone())
}

#[cold]
fn shape_mismatch(name: &'static str, out: &Tensor, shape: &[usize]) -> Error {
    Error::plain(
        crate::Kind::Shape,
        format!(
            "output with shape {:?} doesn't match the broadcast shape {shape:?} ({name})",
            out.shape()
        ),
    )
}

#[cold]
fn unsupported(spec: &Spec, dtype: DType) -> Error {
    Error::plain(
        crate::Kind::Unsupported,
        format!("\"{}\" not implemented for '{}'", spec.name, dtype.scalar_type_name()),
    )
}
