"""How tensors are stored between forward and backward: hooks, and saving what is about to change.

The hooks themselves are the engine's (per thread, innermost pair, any operation); the classes here
push and pop them. They are offered as members of `wengert.autograd.graph`.
"""

from __future__ import annotations

import contextlib
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any
from weakref import WeakKeyDictionary, WeakSet, WeakValueDictionary

from wengert import Tensor, _core, device, no_grad

__all__ = [
    "allow_mutation_on_saved_tensors",
    "disable_saved_tensors_hooks",
    "save_on_cpu",
    "saved_tensors_hooks",
]


class saved_tensors_hooks:
    """Store what is saved for backward in a way of your own, inside a ``with`` block.

    Parameters
    ----------
    pack_hook : callable
        Called with every tensor that an operation saves. What it returns is kept in its place.
    unpack_hook : callable
        Called with that whenever backward needs the tensor, which it returns.

    Notes
    -----
    Of nested pairs the innermost applies. Hooks belong to the thread that entered the block. A pack
    hook must not change its argument. What unpack returns is not checked against later in-place
    changes: whether the values are still those of then is up to the hooks.

    Examples
    --------
    >>> import wengert
    >>> x = wengert.ones(3, requires_grad=True)
    >>> pack = lambda t: t.to(wengert.float16)
    >>> unpack = lambda t: t.to(wengert.float32)
    >>> with wengert.autograd.graph.saved_tensors_hooks(pack, unpack):
    ...     y = x.exp()
    >>> y.sum().backward()
    >>> x.grad
    tensor([2.7188, 2.7188, 2.7188])
    """

    def __init__(
        self, pack_hook: Callable[[Tensor], Any], unpack_hook: Callable[[Any], Tensor]
    ) -> None:
        self.pack_hook = pack_hook
        self.unpack_hook = unpack_hook

    def __enter__(self) -> None:
        _core._push_saved_tensors_default_hooks(self.pack_hook, self.unpack_hook)

    def __exit__(self, *args: object) -> None:
        _core._pop_saved_tensors_default_hooks()


class save_on_cpu(saved_tensors_hooks):
    """Keep what is saved for backward in the memory of the CPU, where all tensors are already.

    For code written for other devices.

    Parameters
    ----------
    pin_memory : bool
        Keep copies, as if they had to be put into pinned memory.
    device_type : str
        Ignored.

    Examples
    --------
    >>> import wengert
    >>> x = wengert.tensor([2.0], requires_grad=True)
    >>> with wengert.autograd.graph.save_on_cpu():
    ...     y = x * x
    >>> wengert.autograd.grad(y, x)
    (tensor([4.]),)
    """

    def __init__(self, pin_memory: bool = False, device_type: str = "cuda") -> None:
        del device_type

        def pack(tensor: Tensor) -> tuple[device, Tensor]:
            return tensor.device, tensor.clone() if pin_memory else tensor.cpu()

        def unpack(packed: tuple[device, Tensor]) -> Tensor:
            where, tensor = packed
            return tensor.to(where, non_blocking=pin_memory)

        super().__init__(pack, unpack)


@contextlib.contextmanager
def disable_saved_tensors_hooks(error_message: str) -> Iterator[None]:
    """Forbid hooks for saved tensors inside a ``with`` block.

    Parameters
    ----------
    error_message : str
        The text of the `RuntimeError` that their use raises; also this block, if hooks are active.

    Examples
    --------
    >>> import wengert
    >>> from wengert.autograd.graph import disable_saved_tensors_hooks, save_on_cpu
    >>> with disable_saved_tensors_hooks("not here"):
    ...     with save_on_cpu():
    ...         pass
    Traceback (most recent call last):
    RuntimeError: not here
    """
    before = _core._disable_saved_tensors_hooks(error_message)
    try:
        yield
    finally:
        _core._disable_saved_tensors_hooks(before)


# What a tensor shows: memory, place in it, type, and how often the memory was written to.
_Identity = tuple[int, int, tuple[int, ...], tuple[int, ...], object, int]


def _identity(tensor: Tensor) -> _Identity:
    return (
        _core._storage_id(tensor),
        tensor.storage_offset(),
        tuple(tensor.shape),
        tensor.stride(),
        tensor.dtype,
        tensor._version,
    )


class _Handle:
    """What the graph keeps in place of a saved tensor."""

    __slots__ = ("__weakref__", "identity")

    def __init__(self, identity: _Identity) -> None:
        self.identity = identity


class _AllowMutationOnSavedContext:
    """What `allow_mutation_on_saved_tensors` keeps of saved tensors that still count.

    For each the tensor itself, or a copy once it was written to.
    """

    def __init__(self) -> None:
        self.original: WeakKeyDictionary[_Handle, Tensor] = WeakKeyDictionary()
        self.cloned: WeakKeyDictionary[_Handle, Tensor] = WeakKeyDictionary()
        # A tensor that is saved several times has one handle. Only unwritten ones are here: they
        # keep their memory, so that nobody else's can have the same number.
        self.tid_to_weakhandle: WeakValueDictionary[_Identity, _Handle] = WeakValueDictionary()
        # A write to a tensor changes whatever shares its memory.
        self.by_storage: defaultdict[int, WeakSet[_Handle]] = defaultdict(WeakSet)

    def clear(self) -> None:
        self.original.clear()
        self.cloned.clear()
        self.tid_to_weakhandle.clear()
        self.by_storage.clear()

    def pack(self, tensor: Tensor) -> _Handle:
        identity = _identity(tensor)
        handle = self.tid_to_weakhandle.get(identity)
        if handle is None:
            handle = self.tid_to_weakhandle[identity] = _Handle(identity)
            # Detached: an output that knows its node, stored in that node, would never die.
            self.original[handle] = tensor.detach()
            self.by_storage[identity[0]].add(handle)
        return handle

    def unpack(self, handle: _Handle) -> Tensor:
        cloned = self.cloned.get(handle)
        if cloned is not None:
            return cloned
        original = self.original.get(handle)
        if original is None:  # the block has ended
            raise AssertionError(
                "Trying to backward outside of the 'allow_mutation_on_saved_tensors' context in "
                "which the graph was originally recorded."
            )
        version = handle.identity[-1]
        if original._version != version:
            raise RuntimeError(
                "one of the variables needed for gradient computation has been modified by an "
                "inplace operation outside of the 'allow_mutation_on_saved_tensors' context: "
                f"[{original.type()} {list(original.shape)}] is at version {original._version}; "
                f"expected version {version} instead."
            )
        return original

    def about_to_write(self, tensor: Tensor) -> None:
        for handle in list(self.by_storage.pop(_core._storage_id(tensor), ())):
            original = self.original.pop(handle, None)
            if original is not None:
                self.tid_to_weakhandle.pop(handle.identity, None)
                with no_grad():
                    self.cloned[handle] = original.clone()


_active = threading.local()


@contextlib.contextmanager
def allow_mutation_on_saved_tensors() -> Iterator[_AllowMutationOnSavedContext]:
    """Let tensors change that are saved for backward, inside a ``with`` block.

    Such a change is an error elsewhere. Here, the tensor is copied before it is written to, and
    backward, which must run in the same block, uses the copy.

    Examples
    --------
    >>> import wengert
    >>> x = wengert.ones(3, requires_grad=True)
    >>> with wengert.autograd.graph.allow_mutation_on_saved_tensors():
    ...     y = x.clone()
    ...     z = y**2
    ...     _ = y.zero_()
    ...     z.sum().backward()
    >>> x.grad
    tensor([2., 2., 2.])
    """
    if getattr(_active, "context", None) is not None:
        raise RuntimeError("allow_mutation_on_saved_tensors contexts cannot be nested")
    context = _AllowMutationOnSavedContext()
    with saved_tensors_hooks(context.pack, context.unpack):
        _active.context = context
        _core._watch_writes(context.about_to_write)
        try:
            yield context
        finally:
            _core._watch_writes(None)
            _active.context = None
            context.clear()
