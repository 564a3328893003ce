//! A tensor: storage, layout, element type, and what autograd knows about it.
//!
//! A [`Tensor`] is a counted handle to a body whose data never changes identity: storage and
//! layout are fixed at creation, and a view is a new body over the same storage. What does
//! change, the history and the gradient, sits behind one small lock in the body.

use crate::counted::{Counted, WeakCounted};
use crate::dtype::{DType, Element, Scalar};
use crate::graph::accumulate::AccumulateGrad;
use crate::graph::arena::WeakNodeRef;
use crate::graph::{Edge, Hook, NodeRef};
use crate::kernels::{cast, engine::Operand};
use crate::layout::Layout;
use crate::lock::Lock;
use crate::storage::Storage;
use crate::{Error, Kind, Result, bail, dispatch};
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

/// A strided array of numbers that may take part in a gradient graph.
///
/// Cloning copies the handle, not the data.
#[derive(Clone)]
pub struct Tensor(Counted<Body>);

/// A handle that does not keep the tensor alive.
#[derive(Clone)]
pub struct WeakTensor(WeakCounted<Body>);

struct Body {
    storage: Storage,
    layout: Layout,
    dtype: DType,
    /// A Python number on its way through an operation: it has a category, no width.
    wrapped_number: bool,
    is_view: bool,
    requires_grad: AtomicBool,
    autograd: Lock<Autograd>,
    /// The object of the embedding language that stands for this tensor, not owned.
    host: AtomicPtr<()>,
}

#[derive(Default)]
struct Autograd {
    edge: Option<Edge>,
    /// The tensor whose storage this one views; never itself a view.
    base: Option<Tensor>,
    /// How often the history of this tensor (a base) was replaced by a write through a view, or
    /// of the base when this tensor (a view) last looked.
    rebased: u32,
    rare: Option<Box<Rare>>,
}

/// What leaves and watched tensors have.
#[derive(Default)]
struct Rare {
    grad: Option<Tensor>,
    accumulator: Option<WeakNodeRef>,
    hooks: Vec<(u64, Hook)>,
    next_hook: u64,
    retains_grad: bool,
    /// Who took this tensor's place, for graphs that still lead here.
    moved_to: Option<Tensor>,
}

const _: () = assert!(
    usize::BITS < 64 || Counted::<Body>::BYTES == 192,
    "a tensor's body outgrew three cache lines"
);

impl Tensor {
    /// A tensor over given memory. `layout` must lie inside `storage`.
    #[inline]
    pub fn from_parts(storage: Storage, layout: Layout, dtype: DType) -> Tensor {
        Tensor::build(storage, layout, dtype, false, None)
    }

    #[inline]
    fn build(
        storage: Storage,
        layout: Layout,
        dtype: DType,
        wrapped_number: bool,
        base: Option<Tensor>,
    ) -> Tensor {
        debug_assert!({
            let (low, high) = layout.span();
            low >= 0 && high as usize * dtype.size() <= storage.bytes()
        });
        let is_view = base.is_some();
        let rebased = base.as_ref().map_or(0, |b| b.0.autograd.lock().rebased);
        Tensor(Counted::new(Body {
            storage,
            layout,
            dtype,
            wrapped_number,
            is_view,
            requires_grad: AtomicBool::new(false),
            autograd: Lock::new(Autograd { edge: None, base, rebased, rare: None }),
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
        let dtype = match value {
            Scalar::Bool(_) => DType::Bool,
            Scalar::Int(_) => DType::Int64,
            Scalar::Float(_) => DType::Float64,
        };
        let storage = Storage::uninitialised(dtype.size())?;
        let layout = Layout::contiguous("scalar", &[], dtype.size())?;
        let t = Tensor::build(storage, layout, dtype, true, None);
        t.fill_raw(value);
        Ok(t)
    }

    /// A view of the same storage, remembered as such.
    #[inline]
    pub fn view_as_layout(&self, layout: Layout) -> Tensor {
        let base = self.base().unwrap_or_else(|| self.clone());
        Tensor::build(self.storage().clone(), layout, self.dtype(), false, Some(base))
    }

    /// The same data without history, which does not require grad.
    #[inline]
    pub fn detach(&self) -> Tensor {
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
        self.0.wrapped_number
    }

    /// Whether elements are in row-major order without gaps.
    #[inline]
    pub fn is_contiguous(&self) -> bool {
        self.0.layout.is_contiguous()
    }

    /// Address of the first element.
    #[inline]
    pub fn data_ptr(&self) -> *mut u8 {
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

    /// A handle that does not keep the tensor alive.
    pub fn downgrade(&self) -> WeakTensor {
        WeakTensor(self.0.downgrade())
    }

    /// Slot for the embedding language's object; it owns the tensor, not the other way round.
    pub fn host(&self) -> &AtomicPtr<()> {
        &self.0.host
    }
}

/// Autograd metadata.
impl Tensor {
    /// Whether gradients flow to or through this tensor.
    #[inline]
    pub fn requires_grad(&self) -> bool {
        self.0.requires_grad.load(Ordering::Relaxed) || (self.0.is_view && self.joined_graph())
    }

    /// Whether this view's base became part of a graph by a write since the view was made.
    fn joined_graph(&self) -> bool {
        let autograd = self.0.autograd.lock();
        let Some(base) = &autograd.base else { return false };
        let base_autograd = base.0.autograd.lock();
        base_autograd.rebased != autograd.rebased && base_autograd.edge.is_some()
    }

    /// Gives a base a new history; its views notice when they are next asked for theirs.
    pub(crate) fn rebase(&self, edge: Edge) {
        self.0.autograd.lock().rebased += 1;
        self.set_edge(edge);
    }

    /// Makes this view a recorded part of what its base is now.
    pub(crate) fn follow_base(&self) -> Result<()> {
        let Some(base) = self.base() else { return Ok(()) };
        if !base.is_contiguous() {
            bail!(
                Unsupported,
                "view",
                "the base of this view, written to since, has gaps (shape {:?}, strides {:?})",
                base.shape(),
                base.layout().strides()
            );
        }
        let part = crate::graph::inplace::Part::of(self, &base);
        let fresh = part.cut(&base.alias_with_edge(base.edge()?))?;
        let rebased = base.0.autograd.lock().rebased;
        self.0.autograd.lock().rebased = rebased;
        if let Some(edge) = fresh.grad_fn() {
            self.set_edge(edge);
        }
        Ok(())
    }

    /// Brings the history of a view up to date if its base was written to through another view.
    fn refresh(&self) -> Result<()> {
        if !self.0.is_view {
            return Ok(());
        }
        let stale = {
            let autograd = self.0.autograd.lock();
            autograd.base.as_ref().is_some_and(|b| b.0.autograd.lock().rebased != autograd.rebased)
        };
        if stale {
            let _mode = crate::graph::GradMode::new(true);
            self.follow_base()?;
        }
        Ok(())
    }

    /// Whether no recorded operation made this tensor.
    pub fn is_leaf(&self) -> bool {
        !self.requires_grad() || self.0.autograd.lock().edge.is_none()
    }

    /// Makes a leaf require grad or not.
    ///
    /// # Errors
    /// For integer types, and for `false` on a tensor with history.
    pub fn set_requires_grad(&self, requires_grad: bool) -> Result<()> {
        if requires_grad && !self.dtype().is_floating() {
            bail!(
                Grad,
                "",
                "only Tensors of floating point and complex dtype can require gradients, got {}",
                self.dtype()
            );
        }
        if !self.is_leaf() {
            if requires_grad {
                return Ok(());
            }
            bail!(
                Grad,
                "",
                "you can only change requires_grad flags of leaf variables. If you want to use a \
                 computed variable in a subgraph that doesn't require differentiation use \
                 var_no_grad = var.detach()."
            );
        }
        self.0.requires_grad.store(requires_grad, Ordering::Relaxed);
        Ok(())
    }

    /// The node that made this tensor; `None` for leaves.
    pub fn grad_fn(&self) -> Option<Edge> {
        // A failure to refresh leaves the history as it was; the next recorded use reports it.
        let _ = self.refresh();
        self.0.autograd.lock().edge.clone()
    }

    /// Where a gradient for this tensor goes: to the node that made it, or to the accumulator of
    /// a leaf, which is made now if need be.
    pub fn edge(&self) -> Result<Option<Edge>> {
        if !self.requires_grad() {
            return Ok(None);
        }
        self.refresh()?;
        let mut autograd = self.0.autograd.lock();
        if let Some(edge) = &autograd.edge {
            return Ok(Some(edge.clone()));
        }
        let rare = autograd.rare.get_or_insert_default();
        if let Some(node) = rare.accumulator.as_ref().and_then(WeakNodeRef::upgrade) {
            return Ok(Some(Edge { node, output: 0 }));
        }
        let node: NodeRef = AccumulateGrad::node(self)?;
        rare.accumulator = Some(node.downgrade());
        Ok(Some(Edge { node, output: 0 }))
    }

    /// Like [`Tensor::edge`], but never makes an accumulator.
    pub(crate) fn edge_if_any(&self) -> Option<Edge> {
        if !self.requires_grad() {
            return None;
        }
        let autograd = self.0.autograd.lock();
        if let Some(edge) = &autograd.edge {
            return Some(edge.clone());
        }
        let node = autograd.rare.as_ref()?.accumulator.as_ref()?.upgrade()?;
        Some(Edge { node, output: 0 })
    }

    /// Gives the tensor a history.
    #[inline]
    pub fn set_edge(&self, edge: Edge) {
        let old = self.0.autograd.lock().edge.replace(edge);
        self.0.requires_grad.store(true, Ordering::Relaxed);
        drop(old);
    }

    /// What takes this tensor's place when a user gives it other data (`x.data = value`): the
    /// memory of `value` with the history, gradient and hooks of this tensor.
    ///
    /// # Errors
    /// If the tensor requires grad and `value` has a type that cannot.
    pub fn with_data(&self, value: &Tensor) -> Result<Tensor> {
        let new = value.detach();
        if !self.requires_grad() {
            return Ok(new);
        }
        if !new.dtype().is_floating() {
            bail!(
                DType,
                "data",
                "a tensor that requires grad cannot take over {} data",
                new.dtype()
            );
        }
        let mut old = self.0.autograd.lock();
        let mut rare = std::mem::take(old.rare.get_or_insert_default());
        rare.accumulator = None;
        old.rare.get_or_insert_default().moved_to = Some(new.clone());
        *new.0.autograd.lock() =
            Autograd { edge: old.edge.take(), base: None, rebased: old.rebased, rare: Some(rare) };
        new.0.requires_grad.store(true, Ordering::Relaxed);
        Ok(new)
    }

    /// The tensor that stands for this one now, see [`Tensor::with_data`].
    pub(crate) fn current(&self) -> Tensor {
        let mut tensor = self.clone();
        loop {
            let next = tensor.0.autograd.lock().rare.as_ref().and_then(|r| r.moved_to.clone());
            match next {
                Some(next) => tensor = next,
                None => return tensor,
            }
        }
    }

    /// Cuts the tensor off from its history, in place.
    pub fn detach_(&self) {
        let old = self.0.autograd.lock().edge.take();
        self.0.requires_grad.store(false, Ordering::Relaxed);
        drop(old);
    }

    /// The tensor whose memory this one views.
    pub fn base(&self) -> Option<Tensor> {
        self.0.autograd.lock().base.clone()
    }

    /// The accumulated gradient.
    pub fn grad(&self) -> Option<Tensor> {
        self.0.autograd.lock().rare.as_ref()?.grad.clone()
    }

    /// Replaces the accumulated gradient.
    pub fn set_grad(&self, grad: Option<Tensor>) {
        let old = {
            let mut autograd = self.0.autograd.lock();
            if grad.is_none() && autograd.rare.is_none() {
                return;
            }
            std::mem::replace(&mut autograd.rare.get_or_insert_default().grad, grad)
        };
        drop(old);
    }

    /// Keeps the gradient of a computed tensor in `.grad` during backward.
    pub fn retain_grad(&self) -> Result<()> {
        if !self.requires_grad() {
            bail!(Grad, "", "can't retain_grad on Tensor that has requires_grad=False");
        }
        let edge = {
            let mut autograd = self.0.autograd.lock();
            let Some(edge) = autograd.edge.clone() else { return Ok(()) };
            let rare = autograd.rare.get_or_insert_default();
            if std::mem::replace(&mut rare.retains_grad, true) {
                return Ok(());
            }
            edge
        };
        edge.node.retain_grad(edge.output, self.downgrade());
        Ok(())
    }

    /// Whether [`Tensor::retain_grad`] was called.
    pub fn retains_grad(&self) -> bool {
        self.0.autograd.lock().rare.as_ref().is_some_and(|r| r.retains_grad)
    }

    /// Adds an observer of this tensor's gradient.
    pub fn register_hook(&self, hook: Hook) -> Result<HookHandle> {
        if !self.requires_grad() {
            bail!(Grad, "", "cannot register a hook on a tensor that doesn't require gradient");
        }
        if let Some(edge) = self.grad_fn() {
            let id = edge.node.add_hook(edge.output, hook);
            return Ok(HookHandle::Node(edge.node.downgrade(), id));
        }
        let mut autograd = self.0.autograd.lock();
        let rare = autograd.rare.get_or_insert_default();
        rare.next_hook += 1;
        let id = rare.next_hook;
        rare.hooks.push((id, hook));
        Ok(HookHandle::Leaf(self.downgrade(), id))
    }

    pub(crate) fn leaf_hooks(&self) -> Vec<Hook> {
        let autograd = self.0.autograd.lock();
        let hooks = autograd.rare.as_ref().map(|r| &r.hooks[..]).unwrap_or_default();
        hooks.iter().map(|(_, h)| h.clone()).collect()
    }
}

/// Removes a hook from where it was registered.
pub enum HookHandle {
    /// On a computed tensor: the hook lives in its node.
    Node(WeakNodeRef, u64),
    /// On a leaf.
    Leaf(WeakTensor, u64),
}

impl HookHandle {
    /// Removes the hook. Doing so twice, or after the tensor died, is harmless.
    pub fn remove(&self) {
        match self {
            HookHandle::Node(node, id) => {
                if let Some(node) = node.upgrade() {
                    node.remove_hook(*id);
                }
            }
            HookHandle::Leaf(tensor, id) => {
                let Some(tensor) = tensor.upgrade() else { return };
                let removed = tensor.0.autograd.lock().rare.as_mut().and_then(|rare| {
                    let at = rare.hooks.iter().position(|(i, _)| i == id)?;
                    Some(rare.hooks.remove(at))
                });
                drop(removed);
            }
        }
    }
}

impl WeakTensor {
    /// The tensor, if it still lives.
    pub fn upgrade(&self) -> Option<Tensor> {
        self.0.upgrade().map(Tensor)
    }
}

/// Element access. These copy; kernels work in place through [`Tensor::operand`].
#[allow(unsafe_code)]
impl Tensor {
    /// Writes all elements of a fresh row-major tensor.
    pub(crate) fn write_all<T: Element>(&self, values: &[T]) {
        assert!(self.is_contiguous() && self.dtype() == T::DTYPE && self.numel() == values.len());
        // SAFETY: the assertion gives type, length and order; `T` is plain data.
        unsafe {
            self.data_ptr().cast::<T>().copy_from_nonoverlapping(values.as_ptr(), values.len());
        }
    }

    /// Gives a closure the elements of a fresh row-major tensor as a slice to fill.
    ///
    /// # Panics
    /// If the tensor is shared, strided or of another type.
    pub(crate) fn fill_with<T: Element, R>(&self, fill: impl FnOnce(&mut [T]) -> R) -> R {
        assert!(self.is_contiguous() && self.dtype() == T::DTYPE && self.storage().is_unique());
        // Fresh memory is arbitrary bytes; make it valid values before forming a slice.
        // SAFETY: the assertion gives type, length and sole ownership.
        let slice = unsafe {
            let data = self.data_ptr();
            data.write_bytes(0, self.numel() * size_of::<T>());
            std::slice::from_raw_parts_mut(data.cast::<T>(), self.numel())
        };
        fill(slice)
    }

    /// The elements in row-major order, converted to `T`.
    pub fn to_vec<T: Element>(&self) -> Result<Vec<T>> {
        let flat = Tensor::uninitialised("to_vec", self.shape(), T::DTYPE)?;
        flat.copy_raw(self);
        let mut out = Vec::with_capacity(flat.numel());
        // SAFETY: `flat` is row-major of type `T` with that many initialised elements.
        unsafe {
            out.extend_from_slice(std::slice::from_raw_parts(
                flat.data_ptr().cast::<T>(),
                flat.numel(),
            ));
        }
        Ok(out)
    }

    /// Numbers in row-major order, converted to `dtype`.
    pub fn from_scalars(values: &[Scalar], shape: &[usize], dtype: DType) -> Result<Tensor> {
        let out = Tensor::uninitialised("tensor", shape, dtype)?;
        if out.numel() != values.len() {
            bail!(Shape, "tensor", "shape {shape:?} does not hold {} values", values.len());
        }
        dispatch!(dtype, T => {
            for (i, v) in values.iter().enumerate() {
                // SAFETY: `i` is below the number of elements of the new row-major tensor.
                unsafe { out.data_ptr().cast::<T>().add(i).write(T::from_scalar(*v)) };
            }
        });
        Ok(out)
    }

    /// The elements in row-major order.
    pub fn to_scalars(&self) -> Result<Vec<Scalar>> {
        dispatch!(self.dtype(), T => {
            Ok(self.to_vec::<T>()?.into_iter().map(Element::to_scalar).collect())
        })
    }

    /// The elements in row-major order as bytes of this machine.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let flat = Tensor::uninitialised("to_bytes", self.shape(), self.dtype())?;
        flat.copy_raw(self);
        let bytes = flat.numel() * flat.dtype().size();
        // SAFETY: the new row-major tensor has that many initialised bytes.
        Ok(unsafe { std::slice::from_raw_parts(flat.data_ptr(), bytes) }.to_vec())
    }

    /// A tensor from what [`Tensor::to_bytes`] gave.
    pub fn from_bytes(bytes: &[u8], shape: &[usize], dtype: DType) -> Result<Tensor> {
        let out = Tensor::uninitialised("from_bytes", shape, dtype)?;
        if out.numel() * dtype.size() != bytes.len() {
            bail!(
                Shape,
                "from_bytes",
                "shape {shape:?} of {dtype} does not hold {} bytes",
                bytes.len()
            );
        }
        if dtype == DType::Bool && bytes.iter().any(|&b| b > 1) {
            bail!(Value, "from_bytes", "a truth value must be 0 or 1");
        }
        // SAFETY: the new row-major tensor is that long; any bytes but bools' are valid elements.
        unsafe { out.data_ptr().copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        Ok(out)
    }

    /// Copies and converts elements without recording.
    pub fn copy_from(&self, source: &Tensor) -> Result<()> {
        self.check_writable("copy_")?;
        if self.shape() != source.shape() {
            bail!(Shape, "copy_", "{:?} into {:?}", source.shape(), self.shape());
        }
        self.copy_raw(source);
        self.storage().bump_version();
        Ok(())
    }

    /// Sets every element to a number, recorded: the history ends here.
    pub fn fill_(&self, value: &Tensor) -> Result<()> {
        crate::graph::inplace::check(self, "fill")?;
        if crate::graph::is_grad_enabled() && (self.requires_grad() || value.requires_grad()) {
            return crate::ops::cast::copy_(self, value);
        }
        self.fill_raw(value.item()?);
        self.storage().bump_version();
        Ok(())
    }

    /// The only element.
    pub fn item(&self) -> Result<Scalar> {
        if self.numel() != 1 {
            return Err(Error::plain(
                Kind::Shape,
                format!("a Tensor with {} elements cannot be converted to Scalar", self.numel()),
            ));
        }
        let (low, _) = self.layout().span();
        Ok(self.read(low as usize))
    }

    /// The element at a multi-dimensional index.
    ///
    /// # Panics
    /// If the index is out of bounds.
    pub fn at(&self, index: &[usize]) -> Scalar {
        assert!(index.len() == self.ndim() && index.iter().zip(self.shape()).all(|(i, s)| i < s));
        let steps = index.iter().zip(self.layout().strides());
        let at = steps.fold(self.layout().offset() as isize, |o, (&i, &s)| o + i as isize * s);
        self.read(at as usize)
    }

    /// Reads the element at a position in the storage that the layout reaches.
    fn read(&self, position: usize) -> Scalar {
        dispatch!(self.dtype(), T => {
            // SAFETY: the layout was checked against the storage when the tensor was made, and
            // bools hold 0 or 1 because only kernels write them.
            unsafe { self.storage().data().cast::<T>().add(position).read() }.to_scalar()
        })
    }

    /// Copies and converts elements without recording; shapes must be equal.
    pub(crate) fn copy_raw(&self, source: &Tensor) {
        assert_eq!(self.shape(), source.shape());
        // SAFETY: both layouts lie inside their storages and have the same shape.
        unsafe { cast::copy(self.shape(), self.operand(), source.operand()) };
    }

    /// Sets every element without recording.
    pub(crate) fn fill_raw(&self, value: Scalar) {
        // SAFETY: the layout lies inside the storage.
        unsafe { cast::fill(self.shape(), self.operand(), value) };
    }

    /// Refuses to write where that is not allowed.
    pub(crate) fn check_writable(&self, op: &'static str) -> Result<()> {
        if self.storage().is_read_only() {
            bail!(
                Value,
                op,
                "tensor is read-only: its memory belongs to a read-only buffer; write to a clone()"
            );
        }
        if self.layout().overlaps_itself() {
            bail!(
                Value,
                "",
                "unsupported operation: more than one element of the written-to tensor refers to a \
                 single memory location. Please clone() the tensor before performing the operation. \
                 ({op} on shape {:?} with strides {:?})",
                self.shape(),
                self.layout().strides()
            );
        }
        Ok(())
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
