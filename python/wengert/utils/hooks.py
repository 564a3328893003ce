"""Handles of hooks.

Hooks of one place (a tensor, one end of a node) are values of an ordered dict. A handle knows the
dict weakly and its own key in it, so it keeps nothing alive, and removing twice is harmless.
"""

from __future__ import annotations

import warnings
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

if TYPE_CHECKING:
    from wengert import Tensor

__all__ = ["RemovableHandle", "unserializable_hook", "warn_if_has_hooks"]

F = TypeVar("F", bound=Callable[..., Any])


class RemovableHandle:
    """Removes a hook from the dict it is kept in.

    Parameters
    ----------
    hooks_dict : OrderedDict
        Where the hook is, or will be put by the caller, under the key `id`.
    extra_dict : dict or iterable of dict, optional
        Other dicts in which that key is removed as well.

    Examples
    --------
    >>> import wengert
    >>> x = wengert.tensor(1.0, requires_grad=True)
    >>> handle = x.register_hook(lambda g: -g)
    >>> handle.remove()
    >>> with x.register_hook(lambda g: g * 10):
    ...     (x * 2).backward()
    >>> x.grad
    tensor(20.)
    """

    id: int
    next_id: ClassVar[int] = 0

    def __init__(self, hooks_dict: Any, *, extra_dict: Any = None) -> None:
        self.id = RemovableHandle.next_id
        RemovableHandle.next_id += 1
        self.hooks_dict_ref = weakref.ref(hooks_dict)
        extra = [extra_dict] if isinstance(extra_dict, dict) else extra_dict or ()
        self.extra_dict_ref = tuple(map(weakref.ref, extra))

    def remove(self) -> None:
        """Remove the hook; doing so twice, or after the tensor died, is harmless."""
        for ref in (self.hooks_dict_ref, *self.extra_dict_ref):
            hooks = ref()
            if hooks is not None:
                hooks.pop(self.id, None)

    def __getstate__(self) -> tuple[Any, ...]:
        return self.hooks_dict_ref(), self.id, tuple(ref() for ref in self.extra_dict_ref)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        hooks, self.id, extra = state
        # A handle whose hooks are gone points at an empty dict that is gone as well.
        self.hooks_dict_ref = weakref.ref(OrderedDict() if hooks is None else hooks)
        self.extra_dict_ref = tuple(weakref.ref(d) for d in extra if d is not None)
        RemovableHandle.next_id = max(RemovableHandle.next_id, self.id + 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_args: object) -> None:
        self.remove()


class MultiHandle(RemovableHandle):
    """Removes several hooks."""

    def __init__(self, handles: Iterable[RemovableHandle]) -> None:
        self.handles = tuple(handles)

    def remove(self) -> None:
        """Remove all of them."""
        for handle in self.handles:
            handle.remove()

    def __getstate__(self) -> tuple[RemovableHandle, ...]:
        return self.handles

    def __setstate__(self, state: tuple[RemovableHandle, ...]) -> None:
        self.handles = state


def unserializable_hook(f: F) -> F:
    """Mark a hook as one that need not survive serialisation, so that nobody is warned.

    Examples
    --------
    >>> from wengert.utils.hooks import unserializable_hook
    >>> @unserializable_hook
    ... def negate(grad):
    ...     return -grad
    """
    f.__torch_unserializable__ = True  # type: ignore[attr-defined]
    return f


def warn_if_has_hooks(tensor: Tensor) -> None:
    """Warn for each hook of a tensor that serialisation will lose."""
    for hook in (tensor._backward_hooks or {}).values():
        if not hasattr(hook, "__torch_unserializable__"):
            warnings.warn(
                f"backward hook {hook!r} on tensor will not be serialized.  If this is expected, "
                "you can decorate the function with @torch.utils.hooks.unserializable_hook to "
                "suppress this warning",
                stacklevel=2,
            )
