"""Exchanging what two tensor objects stand for."""

from __future__ import annotations

import copyreg
import weakref
from typing import Any

from wengert import Tensor
from wengert._core import _swap_tensors


def swap_tensors(t1: Tensor, t2: Tensor) -> None:
    """Let two tensors change places: class, attributes, values, history and `.grad`.

    Whoever holds `t1` holds what was `t2` from then on, and the other way round. Graphs that were
    recorded before keep to the tensors, not to the objects: a gradient that belongs to what was
    `t1` arrives in the ``.grad`` of what is now `t2`.

    Parameters
    ----------
    t1, t2 : Tensor
        The tensors.

    Raises
    ------
    RuntimeError
        If there is a weak reference to one of them, or their classes have different slots.

    Examples
    --------
    >>> import wengert
    >>> a, b = wengert.zeros(2), wengert.nn.Parameter(wengert.ones(3))
    >>> wengert.utils.swap_tensors(a, b)
    >>> a
    Parameter containing:
    tensor([1., 1., 1.], requires_grad=True)
    >>> b
    tensor([0., 0.])
    """
    for name, tensor in (("t1", t1), ("t2", t2)):
        if weakref.getweakrefs(tensor):
            raise RuntimeError(f"Cannot swap {name} because it has weakref associated with it")
    names: Any = copyreg
    slots = [set(names._slotnames(type(t))) for t in (t1, t2)]
    if slots[0] != slots[1]:
        raise RuntimeError("Cannot swap t1 and t2 if they have different slots")
    for name in ("__class__", "__dict__", *slots[0]):
        _swap_attribute(t1, t2, name)
    _swap_tensors(t1, t2)


def _swap_attribute(t1: object, t2: object, name: str) -> None:
    values = [getattr(t, name, _swap_attribute) for t in (t1, t2)]
    for target, value in zip((t1, t2), reversed(values), strict=True):
        if value is not _swap_attribute:
            setattr(target, name, value)
        elif hasattr(target, name):
            delattr(target, name)
