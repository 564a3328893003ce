"""Forward-mode differentiation: dual tensors, which carry a tangent along.

For a function ``f`` with the Jacobian ``J`` at ``x``, one evaluation of ``f`` on the dual tensor of
``x`` and ``v`` gives ``f(x)`` and ``J @ v``. That takes no graph and costs about as much as three
evaluations, however many inputs there are; reverse mode gives ``u @ J`` for all inputs at once.
Every operation that has a gradient has a tangent.

Tangents belong to a *level*, a block within which they exist:

>>> import wengert
>>> import wengert.autograd.forward_ad as fwAD
>>> x, v = wengert.tensor([1.0, 2.0]), wengert.tensor([1.0, 0.0])
>>> with fwAD.dual_level():
...     y = fwAD.make_dual(x, v) ** 3
...     fwAD.unpack_dual(y)
UnpackedDualTensor(primal=tensor([1., 8.]), tangent=tensor([3., 0.]))

These levels do not nest, as in PyTorch; `wengert.func.jvp` does. A level belongs to the thread that
entered it.
"""

from __future__ import annotations

import contextlib
import threading
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

from wengert._core import (
    _forward_enter,
    _forward_exit,
    _is_fwd_grad_enabled,
    _make_dual,
    _unpack_dual,
)
from wengert._core import (
    _set_fwd_grad_enabled as _switch,
)

if TYPE_CHECKING:
    from wengert import Tensor

__all__ = [
    "UnpackedDualTensor",
    "dual_level",
    "enter_dual_level",
    "exit_dual_level",
    "make_dual",
    "unpack_dual",
]


class _PerThread(threading.local):
    """The level that was entered here: the engine's number of it, or None."""

    engine_level: int | None = None


_thread = _PerThread()


def __getattr__(name: str) -> Any:
    if name == "_current_level":
        return -1 if _thread.engine_level is None else 0
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class UnpackedDualTensor(NamedTuple):
    """What `unpack_dual` gives: a tensor's values and its tangent, or None."""

    primal: Tensor
    tangent: Tensor | None


def enter_dual_level() -> int:
    """Enter a level of forward mode; `dual_level` does it for a block.

    Returns
    -------
    int
        The number of the level, 0.

    Raises
    ------
    RuntimeError
        If this thread is in a level already.
    """
    if _thread.engine_level is not None:
        raise RuntimeError(
            "Nested forward mode AD is not supported at the moment; func.jvp can be nested"
        )
    _thread.engine_level = _forward_enter()
    return 0


def exit_dual_level(*, level: int | None = None) -> None:
    """Leave a level: its tangents are gone.

    Parameters
    ----------
    level : int, optional
        The level to leave, which can only be the one that was entered last.

    Raises
    ------
    RuntimeError
        If there is no such level, or another one was entered after it.
    """
    engine_level = _thread.engine_level
    if level is not None and level != (-1 if engine_level is None else 0):
        raise RuntimeError(
            "Trying to exit a forward AD level that was not the last one that was created. This is "
            "not supported."
        )
    if engine_level is None:
        raise RuntimeError("Dual level must be a positive number. (no level was entered)")
    _forward_exit(engine_level)
    _thread.engine_level = None


def _engine_level(level: int | None) -> int | None:
    """The engine's number of a level, or None if it does not exist."""
    return _thread.engine_level if level is None or level == 0 else None


def make_dual(tensor: Tensor, tangent: Tensor, *, level: int | None = None) -> Tensor:
    """Associate a tensor with a tangent.

    Parameters
    ----------
    tensor : Tensor
        The values, of a floating type.
    tangent : Tensor
        The direction, in the shape of `tensor`. It becomes the tangent itself if it is laid out in
        memory like `tensor`; otherwise a copy does.
    level : int, optional
        The level, by default the current one.

    Returns
    -------
    Tensor
        A view of `tensor` with a tangent. Backward goes through it to both.

    Raises
    ------
    RuntimeError
        Outside of a level; if shapes differ; if one of the two has a tangent already.
    ValueError
        If one of the two is not of a floating type.

    Examples
    --------
    >>> import wengert
    >>> import wengert.autograd.forward_ad as fwAD
    >>> with fwAD.dual_level():
    ...     print(fwAD.make_dual(wengert.tensor([1.0]), wengert.tensor([5.0])) * 2)
    tensor([2.], tangent=tensor([10.]))
    """
    if (-1 if _thread.engine_level is None else 0) < 0 or (level is not None and level < 0):
        raise RuntimeError(
            "Trying to create a dual Tensor for forward AD but no level exists, make sure to "
            "enter_dual_level() first."
        )
    for what, given in (("primal", tensor), ("tangent", tangent)):
        if not given.is_floating_point():
            raise ValueError(
                f"Expected {what} to be floating point or complex, but got: {given.dtype}"
            )
    engine_level = _engine_level(level)
    if engine_level is None:
        raise RuntimeError(f"Invalid level given to _make_dual (level {level}; there is level 0)")
    return _make_dual(tensor, tangent, engine_level)


def unpack_dual(tensor: Tensor, *, level: int | None = None) -> UnpackedDualTensor:
    """Give the values and the tangent of a tensor.

    Parameters
    ----------
    tensor : Tensor
        A dual tensor, or any other.
    level : int, optional
        The level, by default the current one.

    Returns
    -------
    UnpackedDualTensor
        A view of the values without tangent, and the tangent, which is None if there is none.

    Examples
    --------
    >>> import wengert
    >>> import wengert.autograd.forward_ad as fwAD
    >>> with fwAD.dual_level():
    ...     x = fwAD.make_dual(wengert.tensor(2.0), wengert.tensor(1.0))
    ...     values, slope = fwAD.unpack_dual(x.log())
    >>> slope
    tensor(0.5000)
    """
    if _thread.engine_level is None or (level is not None and level < 0):
        return UnpackedDualTensor(tensor, None)
    engine_level = _engine_level(level)
    if engine_level is None:
        return UnpackedDualTensor(tensor, None)
    return UnpackedDualTensor(*_unpack_dual(tensor, engine_level))


class dual_level(contextlib.ContextDecorator):
    """A block that is a level of forward mode; or, as a decorator, a function that runs in one.

    Tangents are gone when the block ends, so take out what is needed.

    Examples
    --------
    >>> import wengert
    >>> import wengert.autograd.forward_ad as fwAD
    >>> x = wengert.tensor([0.0, 1.0])
    >>> with fwAD.dual_level():
    ...     y = fwAD.make_dual(x, wengert.ones(2)).exp()
    ...     slope = fwAD.unpack_dual(y).tangent
    >>> slope
    tensor([1.0000, 2.7183])
    >>> fwAD.unpack_dual(y).tangent is None
    True
    """

    def __enter__(self) -> int:
        return enter_dual_level()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        exit_dual_level()


class _set_fwd_grad_enabled(contextlib.ContextDecorator):
    """Compute tangents or not, from here on; as a block, until its end."""

    def __init__(self, mode: bool) -> None:
        self.prev = _is_fwd_grad_enabled()
        _switch(mode)

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        _switch(self.prev)
