"""Nodes that PyTorch's tests and some libraries make by hand."""

from typing import Any

from wengert import Tensor, ones
from wengert._core import _gradient_edge
from wengert.autograd import Function

__all__ = ["AccumulateGrad", "DelayedError", "UndefinedGrad"]

#: The type of the nodes that add gradients up in leaves.
AccumulateGrad = type(_gradient_edge(ones((), requires_grad=True))[0])


class _Undefined(Function):
    @staticmethod
    def forward(ctx: Any, *tensors: Tensor) -> Any:  # noqa: ARG004
        return tensors if len(tensors) > 1 else tensors[0]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:  # noqa: ARG004
        return (None,) * len(gradients)


class UndefinedGrad:
    """Passes tensors on, and no gradient back.

    Examples
    --------
    >>> import wengert
    >>> x = wengert.ones(2, requires_grad=True)
    >>> wengert._C._functions.UndefinedGrad()(x * 2).sum().backward()
    >>> x.grad is None
    True
    """

    def __call__(self, *tensors: Tensor) -> Any:
        """Return the tensors, recorded."""
        return _Undefined.apply(*tensors)


class _Error(Function):
    @staticmethod
    def forward(ctx: Any, message: str, *tensors: Tensor) -> Any:
        ctx.message = message
        return tensors if len(tensors) > 1 else tensors[0]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:  # noqa: ARG004
        raise RuntimeError(ctx.message)


class DelayedError:
    """Passes tensors on, and fails where a gradient passes back.

    Parameters
    ----------
    msg : str
        What the `RuntimeError` says.
    num_inputs : int
        How many tensors calls get.

    Examples
    --------
    >>> import wengert
    >>> x = wengert.ones((), requires_grad=True)
    >>> wengert._C._functions.DelayedError("no way back", 1)(x).backward()
    Traceback (most recent call last):
        ...
    RuntimeError: no way back
    """

    def __init__(self, msg: str, num_inputs: int) -> None:
        self.msg = msg
        self.num_inputs = num_inputs

    def __call__(self, *tensors: Tensor) -> Any:
        """Return the tensors, recorded."""
        if len(tensors) != self.num_inputs:
            raise TypeError(f"expected {self.num_inputs} tensors, got {len(tensors)}")
        return _Error.apply(self.msg, *tensors)
