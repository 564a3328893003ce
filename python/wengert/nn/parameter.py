"""Tensors that are parameters or buffers of a model: `Parameter` and `Buffer`."""

from __future__ import annotations

from typing import Any, Self

from wengert import Tensor, empty, preserve_format

__all__ = ["Buffer", "Parameter"]


class Parameter(Tensor):
    """A leaf that requires grad, of a class of its own so that modules and optimisers can tell.

    It shares the memory of `data` and has no history. What is computed from it is a plain `Tensor`.

    Parameters
    ----------
    data : Tensor, optional
        The values; none by default.
    requires_grad : bool
        Whether the parameter requires grad.

    Raises
    ------
    RuntimeError
        If it is to require grad and `data` holds integers or truth values.

    Examples
    --------
    >>> import wengert
    >>> w = wengert.nn.Parameter(wengert.tensor([1.0, 2.0]))
    >>> w
    Parameter containing:
    tensor([1., 2.], requires_grad=True)
    >>> isinstance(w, wengert.Tensor), type(w * 2)
    (True, <class 'wengert.Tensor'>)
    """

    def __new__(cls, data: Tensor | None = None, requires_grad: bool = True) -> Self:
        """Make a parameter over the memory of `data`."""
        if data is None:
            data = empty(0)
        # Refuses what is no tensor, as PyTorch does.
        return Tensor._make_subclass(cls, data.detach(), requires_grad)

    def __deepcopy__(self, memo: dict[int, Any]) -> Parameter:
        """Return a parameter with a copy of the values."""
        if id(self) in memo:
            known: Parameter = memo[id(self)]
            return known
        data = self.data.clone(memory_format=preserve_format)
        result = type(self)(data, self.requires_grad)
        memo[id(self)] = result
        return result

    def __repr__(self) -> str:
        """Return the values, under the class's name."""
        return f"{type(self).__name__} containing:\n{super().__repr__()}"


class _BufferMeta(type(Tensor)):  # type: ignore[misc]
    def __instancecheck__(cls, instance: object) -> bool:
        return super().__instancecheck__(instance) or (
            isinstance(instance, Tensor) and getattr(instance, "_is_buffer", False)
        )


class Buffer(Tensor, metaclass=_BufferMeta):
    """A tensor that belongs to a model's state and is no parameter.

    The class only marks: what it makes is a plain `Tensor` that counts as an instance.

    Parameters
    ----------
    data : Tensor, optional
        The values; none by default.
    persistent : bool
        Whether the buffer is part of a saved state.

    Examples
    --------
    >>> import wengert
    >>> mean = wengert.nn.Buffer(wengert.zeros(2), persistent=False)
    >>> isinstance(mean, wengert.nn.Buffer), mean.persistent, type(mean)
    (True, False, <class 'wengert.Tensor'>)
    """

    persistent: bool

    def __new__(cls, data: Tensor | None = None, *, persistent: bool = True) -> Self:
        """Make a buffer over the memory of `data`."""
        if data is None:
            data = empty(0)
        buffer: Any = data.detach().requires_grad_(data.requires_grad)
        buffer.persistent = persistent
        buffer._is_buffer = True
        return buffer  # type: ignore[no-any-return]
