"""`Variable`, the tensors of old: today every tensor is one.

Code written for the first versions of PyTorch wraps tensors in `Variable` and asks
``isinstance(x, Variable)``. Both work; new code needs neither.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from wengert import Tensor, empty
from wengert._core import _queue_callback

__all__ = ["Variable"]


class _Engine:
    """What PyTorch's programs use of its engine object."""

    def queue_callback(self, callback: Callable[[], Any]) -> None:
        """Call a function when the running backward pass has ended."""
        _queue_callback(callback)


class _Instances(type):
    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, Tensor)


class Variable(metaclass=_Instances):
    """Another tensor over the same memory, without history.

    Parameters
    ----------
    data : Tensor, optional
        The tensor; by default an empty one.
    requires_grad : bool
        Whether the result requires grad.
    volatile : bool, optional
        Has had no meaning since PyTorch 0.4.

    Examples
    --------
    >>> import wengert
    >>> from wengert.autograd import Variable
    >>> Variable(wengert.ones(2), requires_grad=True)
    tensor([1., 1.], requires_grad=True)
    >>> isinstance(wengert.ones(2), Variable)
    True
    """

    _execution_engine = _Engine()

    def __new__(  # type: ignore[misc]
        cls,
        data: Tensor | None = None,
        requires_grad: bool | None = None,
        volatile: bool | None = None,  # noqa: ARG004 - accepted for old programs
    ) -> Tensor:
        """Return a tensor; there are no instances of this class itself."""
        if data is None:
            data = empty(0)
        if not isinstance(data, Tensor):
            raise TypeError(f"Variable data has to be a tensor, but got {type(data).__name__}")
        return data.detach().requires_grad_(bool(requires_grad))
