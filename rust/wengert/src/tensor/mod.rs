//! A tensor: storage, layout, element type, and what autograd knows about it.
//!
//! A [`Tensor`] is a counted handle to a body whose data never changes identity: storage and
//! layout are fixed at creation, and a view is a new body over the same storage. What does
//! change, the history and the gradient, sits behind one small lock in the body.

mod autograd;
mod batched;
mod elements;
mod observe;
mod resize;
mod tangent;
mod views;

pub use autograd::Severed;
pub(crate) use batched::Batch;
pub(crate) use observe::LeafHooks;
pub use observe::{HookHandle, Waypoint};
pub use views::ViewKind;

use crate::counted::{Counted, WeakCounted};
use crate::dtype::{DType, Element, Scalar};
use crate::graph::accumulate::AccumulateGrad;
use crate::graph::arena::WeakNodeRef;
use crate::graph::forward::Tangent;
use crate::graph::hooks::{Hook, Hooks, Host, LeafHook, Snapshot, TensorHook};
use crate::graph::{Edge, NodeRef, is_inference_mode};
use crate::kernels::{cast, engine::Operand};
use crate::layout::Layout;
use crate::lock::Lock;
use crate::storage::Storage;
use crate::{Error, Kind, Result, bail, dispatch};
use parking_lot::Mutex;
use smallvec::SmallVec;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU32, Ordering};

/// A strided array of numbers that may take part in a gradient graph.
///
/// Cloning copies the handle, not the data.
#[derive(Clone)]
pub struct Tensor(Counted<Body>);

/// A handle that does not keep the tensor alive.
#[derive(Clone)]
pub struct WeakTensor(WeakCounted<Body>);

/// A Python number on its way through an operation: it has a category, no width.
const WRAPPED_NUMBER: u8 = 1;
/// A view, which has a base.
const VIEW: u8 = 2;

struct Body {
    storage: Storage,
    layout: Layout,
    dtype: DType,
    /// What the tensor is from the start: [`WRAPPED_NUMBER`], [`VIEW`].
    kind: u8,
    requires_grad: AtomicBool,
    /// What forward mode and batches have to know, as bits, see [`tangent`] and [`batched`].
    forward: AtomicU8,
    /// Why there is no history and since where, see [`Tensor::sever`]; 0 if there is no story.
    severed: AtomicU32,
    /// How often the history of this tensor (a base) was replaced by a write through a view, or
    /// of the base when this tensor (a view) last looked.
    rebased: AtomicU32,
    /// How this tensor, if it is a view, was made: a [`ViewKind`].
    view: AtomicU8,
    autograd: Lock<Autograd>,
    /// The object of the embedding language that stands for this tensor, not owned.
    host: AtomicPtr<()>,
}

#[derive(Default)]
struct Autograd {
    edge: Option<Edge>,
    /// The tensor whose storage this one views; never itself a view.
    base: Option<Tensor>,
    rare: Option<Box<Rare>>,
}

/// What leaves and watched tensors have.
#[derive(Default)]
struct Rare {
    grad: Option<Tensor>,
    accumulator: Option<WeakNodeRef>,
    /// Of a leaf; those of a computed tensor are in its node.
    hooks: Hooks<TensorHook>,
    accumulated: Hooks<LeafHook>,
    retains_grad: bool,
    /// Who stands in this tensor's place now, if it was given other data; for graphs that still
    /// lead here.
    heir: Option<Arc<Mutex<WeakTensor>>>,
    /// The examples that this tensor stands for.
    batch: Option<Batch>,
    /// Places of the tangents that forward mode computed, one per level.
    tangents: SmallVec<[Tangent; 1]>,
}

const _: () = assert!(
    usize::BITS < 64 || Counted::<Body>::BYTES == 192,
    "a tensor's body outgrew three cache lines"
);

impl Tensor {
    /// A tensor over given memory. `layout` must lie inside `storage`.
    #[inline]
    pub fn from_parts(storage: Storage, layout: Layout, dtype: DType) -> Tensor {
        Tensor::build(storage, layout, dtype, false, None, ViewKind::Recorded)
    }

    // Always: a call would move the layout, two cache lines, once more.
    #[inline(always)]
    fn build(
        storage: Storage,
        layout: Layout,
        dtype: DType,
        wrapped_number: bool,
        base: Option<Tensor>,
        view: ViewKind,
    ) -> Tensor {
        debug_assert!({
            let (low, high) = layout.span();
            low >= 0 && high as usize * dtype.size() <= storage.bytes()
        });
        let kind =
            if wrapped_number { WRAPPED_NUMBER } else { 0 } | if base.is_some() { VIEW } else { 0 };
        let rebased = base.as_ref().map_or(0, |b| b.0.rebased.load(Ordering::Acquire));
        Tensor(Counted::new(Body {
            storage,
            layout,
            dtype,
            kind,
            requires_grad: AtomicBool::new(false),
            forward: AtomicU8::new(crate::graph::transform::birth() << tangent::BIRTH_SHIFT),
            severed: AtomicU32::new(0),
            rebased: AtomicU32::new(rebased),
            view: AtomicU8::new(view as u8),
            autograd: Lock::new(Autograd { edge: None, base, rare: None }),
            host: AtomicPtr::new(std::ptr::null_mut()),
        }))
    }

    /// Uninitialised elements, row-major. Whoever asks writes them all.
    #[inline]
    pub fn uninitialised(op: &'static str, shape: &[usize], dtype: DType) -> Result<Tensor> {
        let layout = Layout::contiguous(op, shape, dtype.size())?;
        let storage = Storage::uninitialised(layout.numel() * dtype.size())?;
        Ok(Tensor::from_parts(storage, layout, dtype))
    }

    /// Zeros.
    pub fn zeros(shape: &[usize], dtype: DType) -> Result<Tensor> {
        let layout = Layout::contiguous("zeros", shape, dtype.size())?;
        let storage = Storage::zeroed(layout.numel() * dtype.size())?;
        Ok(Tensor::from_parts(storage, layout, dtype))
    }

    /// One value everywhere.
    pub fn full(shape: &[usize], value: impl Into<Scalar>, dtype: DType) -> Result<Tensor> {
        let out = Tensor::uninitialised("full", shape, dtype)?;
        out.fill_raw(value.into());
        Ok(out)
    }

    /// The elements of a slice, row-major.
    ///
    /// ```
    /// let t = wengert::Tensor::from_slice(&[1.0f32, 2.0, 3.0, 4.0], &[2, 2]).unwrap();
    /// assert_eq!(t.to_vec::<f32>().unwrap(), [1.0, 2.0, 3.0, 4.0]);
    /// ```
    pub fn from_slice<T: Element>(values: &[T], shape: &[usize]) -> Result<Tensor> {
        let out = Tensor::uninitialised("from_slice", shape, T::DTYPE)?;
        if out.numel() != values.len() {
            bail!(Shape, "from_slice", "shape {shape:?} does not hold {} values", values.len());
        }
        out.write_all(values);
        Ok(out)
    }

    /// A Python number as a 0-d tensor that does not decide the type of a result.
    #[inline]
    pub fn wrapped(value: Scalar) -> Result<Tensor> {
        let dtype = value.widest_dtype();
        let storage = Storage::uninitialised(dtype.size())?;
        let layout = Layout::contiguous("scalar", &[], dtype.size())?;
        let t = Tensor::build(storage, layout, dtype, true, None, ViewKind::Recorded);
        t.write_number(value);
        Ok(t)
    }

    /// [`Tensor::wrapped`] in a used tensor's place, if that held a number of the same type and
    /// nobody else has kept it.
    #[inline]
    pub fn wrapped_over(used: Option<Tensor>, value: Scalar) -> Result<Tensor> {
        if let Some(t) = used
            && t.is_wrapped_number()
            && t.dtype() == value.widest_dtype()
            && t.is_unique()
            && t.is_inference() == is_inference_mode()
        {
            t.write_number(value);
            return Ok(t);
        }
        Tensor::wrapped(value)
    }

    fn write_number(&self, value: Scalar) {
        match value {
            Scalar::Bool(b) => self.write_all(&[b]),
            Scalar::Int(i) => self.write_all(&[i]),
            Scalar::Float(x) => self.write_all(&[x]),
        }
    }

    /// The same data without history, which does not require grad.
    #[inline]
    pub fn detach(&self) -> Tensor {
        if self.is_batched() {
            return self.over_batch(Tensor::detach);
        }
        Tensor::from_parts(self.storage().clone(), self.layout().clone(), self.dtype())
    }

    /// The same data with another history.
    pub(crate) fn alias_with_edge(&self, edge: Option<Edge>) -> Tensor {
        let alias = self.detach();
        if let Some(edge) = edge {
            alias.set_edge(edge);
        }
        alias
    }

    /// The memory.
    #[inline]
    pub fn storage(&self) -> &Storage {
        &self.0.storage
    }

    /// Shape, strides and offset.
    #[inline]
    pub fn layout(&self) -> &Layout {
        &self.0.layout
    }

    /// Sizes.
    #[inline]
    pub fn shape(&self) -> &[usize] {
        self.0.layout.shape()
    }

    /// Number of dimensions.
    #[inline]
    pub fn ndim(&self) -> usize {
        self.0.layout.ndim()
    }

    /// Number of elements.
    #[inline]
    pub fn numel(&self) -> usize {
        self.0.layout.numel()
    }

    /// Element type.
    #[inline]
    pub fn dtype(&self) -> DType {
        self.0.dtype
    }

    /// Whether this stands for a Python number, see [`Tensor::wrapped`].
    #[inline]
    pub fn is_wrapped_number(&self) -> bool {
        self.0.kind & WRAPPED_NUMBER != 0
    }

    /// Whether the memory was allocated in inference mode.
    #[inline]
    pub fn is_inference(&self) -> bool {
        self.storage().is_inference()
    }

    /// Whether elements are in row-major order without gaps.
    #[inline]
    pub fn is_contiguous(&self) -> bool {
        self.0.layout.is_contiguous()
    }

    /// Address of the first element.
    ///
    /// Of a batched tensor there is no such thing: it unwinds with an [`Error`], as operators of
    /// tensor algebra do.
    #[inline]
    pub fn data_ptr(&self) -> *mut u8 {
        if self.is_batched() {
            batched::refuse_memory();
        }
        self.storage().data().wrapping_add(self.layout().offset() * self.dtype().size())
    }

    /// What kernels see.
    #[inline]
    pub(crate) fn operand(&self) -> Operand<'_> {
        Operand { ptr: self.data_ptr(), dtype: self.dtype(), strides: self.layout().strides() }
    }

    /// Whether both handles are to one tensor.
    #[inline]
    pub fn same(&self, other: &Tensor) -> bool {
        self.0.same(&other.0)
    }

    /// An address that identifies the tensor while it lives.
    pub fn address(&self) -> usize {
        self.0.address()
    }

    /// Whether nobody else can see this tensor or its memory.
    pub(crate) fn is_unique(&self) -> bool {
        self.0.owners() == 1 && self.storage().is_unique()
    }

    /// How many handles to this tensor there are.
    pub fn owners(&self) -> usize {
        self.0.owners()
    }

    /// Whether no other tensor shows this memory.
    pub fn is_only_view(&self) -> bool {
        self.storage().is_unique()
    }

    /// A handle that does not keep the tensor alive.
    pub fn downgrade(&self) -> WeakTensor {
        WeakTensor(self.0.downgrade())
    }

    /// Slot for the embedding language's object; it owns the tensor, not the other way round.
    pub fn host(&self) -> &AtomicPtr<()> {
        &self.0.host
    }
}

impl WeakTensor {
    /// Whether this is a handle to that tensor.
    pub(crate) fn stands_for(&self, tensor: &Tensor) -> bool {
        self.0.address() == tensor.0.address()
    }

    /// The tensor, if it still lives.
    pub fn upgrade(&self) -> Option<Tensor> {
        self.0.upgrade().map(Tensor)
    }
}

impl AsRef<Tensor> for Tensor {
    fn as_ref(&self) -> &Tensor {
        self
    }
}

impl std::fmt::Debug for Tensor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tensor({} {:?})", self.dtype(), self.shape())
    }
}
