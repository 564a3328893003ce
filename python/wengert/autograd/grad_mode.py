"""What is recorded: `no_grad`, `enable_grad`, `set_grad_enabled` and `inference_mode`.

`masked_gradients` is a mode of the same making that says how derivatives are computed.

The modes are flags per thread, kept by the engine. The classes are compiled, since a block stands
on the hot path of every optimiser step; this file is what makes them decorators. A decorated
function opens a block of its own for each call: one block entered from two threads could not tell
whose mode to return to.

A function that can be suspended needs care: between two of its steps the *caller* runs, and
must run in the caller's mode. Decorated generators and coroutines therefore switch the mode at
every resume and back at every suspension. (A plain ``with no_grad():`` around a ``yield`` cannot
do that: the language offers no hook, and the caller runs with the generator's mode.)
"""

from __future__ import annotations

import functools
import inspect
import types
import warnings
from collections.abc import Callable, Coroutine, Generator
from contextlib import AbstractContextManager
from typing import Any, ParamSpec, TypeAlias, TypeVar

from wengert._core import (
    Tensor,
    _set_version_counter,
    enable_grad,
    inference_mode,
    masked_gradients,
    no_grad,
    set_grad_enabled,
)

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

__all__ = ["enable_grad", "inference_mode", "masked_gradients", "no_grad", "set_grad_enabled"]


class _unsafe_preserve_version_counter:
    """Leave the versions of tensors as they were before a block, whatever it wrote.

    Autograd then takes what it saved for unchanged: a gradient that depends on the old values is
    wrong, and nobody says so.
    """

    def __init__(self, tensors: Tensor | tuple[Tensor, ...]) -> None:
        self.tensors = (tensors,) if isinstance(tensors, Tensor) else tuple(tensors)
        self.prev_versions = tuple(t._version for t in self.tensors)

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_args: object) -> None:
        _set_version_counter(self.tensors, self.prev_versions)


Block: TypeAlias = Callable[[], AbstractContextManager[object]]


def _decorate(block: Block, function: Callable[P, R]) -> Callable[P, R]:
    """Wrap `function` so that its own code, and only that, runs in blocks that `block` makes."""
    if not callable(function):
        raise TypeError(f"a gradient mode decorates functions, not {type(function).__name__}")
    if isinstance(function, type):
        warnings.warn(
            "Decorating classes is deprecated and will be disabled in future versions. You should "
            "only decorate functions or methods. To preserve the current behavior of class "
            "decoration, you can directly decorate the `__init__` method and nothing else.",
            FutureWarning,
            stacklevel=2,
        )

        def construct(*args: P.args, **kwargs: P.kwargs) -> Any:
            return _call(block, function, *args, **kwargs)

        return construct
    if inspect.isasyncgenfunction(function):
        raise TypeError(
            f"{function.__qualname__} is an asynchronous generator, which a gradient mode cannot "
            "decorate: put `with no_grad():` around the code between its yields instead"
        )

    wrapper: Any
    if inspect.isgeneratorfunction(function):

        @functools.wraps(function)
        def wrapper(*args: P.args, **kwargs: P.kwargs) -> Generator[Any, Any, Any]:
            return (yield from _in_mode(block, function(*args, **kwargs)))

    elif inspect.iscoroutinefunction(function):
        drive: Any = types.coroutine(_in_mode)

        @functools.wraps(function)
        async def wrapper(*args: P.args, **kwargs: P.kwargs) -> Any:
            return await drive(block, function(*args, **kwargs))

    else:

        @functools.wraps(function)
        def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
            with block():
                return function(*args, **kwargs)

    return wrapper  # type: ignore[no-any-return]


def _call(block: Block, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
    with block():
        return function(*args, **kwargs)


def _in_mode(
    block: Block, inner: Generator[T, Any, R] | Coroutine[T, Any, R]
) -> Generator[T, Any, R]:
    """Run a generator or coroutine to its end, in a block whenever it runs and never between."""
    try:
        response = _call(block, inner.send, None)
        while True:
            try:
                request = yield response
            except GeneratorExit:
                _call(block, inner.close)
                raise
            except BaseException as error:  # noqa: BLE001
                response = _call(block, inner.throw, error)
            else:
                response = _call(block, inner.send, request)
    except StopIteration as finished:
        return finished.value  # type: ignore[no-any-return]
