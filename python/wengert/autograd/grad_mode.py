"""What is recorded: `no_grad`, `enable_grad` and `set_grad_enabled`.

The mode is one flag per thread, kept by the engine. A block saves the flag, sets its own and
puts the old one back; that is all there is to a ``with`` statement here, because it stands on
the hot path of every optimiser step. The longer half of this file makes the same objects
decorators.

A function that can be suspended needs care: between two of its steps the *caller* runs, and
must run in the caller's mode. Decorated generators and coroutines therefore switch the mode at
every resume and back at every suspension. (A plain ``with no_grad():`` around a ``yield`` cannot
do that: the language offers no hook, and the caller runs with the generator's mode.)
"""

from __future__ import annotations

from wengert._core import _set_grad_enabled

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator
    from types import TracebackType
    from typing import Any, ParamSpec, Self, TypeVar, overload

    P = ParamSpec("P")
    R = TypeVar("R")
    T = TypeVar("T")

__all__ = ["enable_grad", "no_grad", "set_grad_enabled"]


class _GradMode:
    """A block, or by decoration a function, that runs with recording switched on or off."""

    __slots__ = ("_outer", "mode")

    mode: bool

    def __init__(self, mode: bool) -> None:
        self.mode = mode
        # The modes to return to, innermost first: one object may be entered again while active.
        self._outer: tuple[bool, Any] | None = None

    def __enter__(self) -> None:
        self._outer = (_set_grad_enabled(self.mode), self._outer)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._outer is not None, "left a gradient mode that was not entered"
        previous, self._outer = self._outer
        _set_grad_enabled(previous)

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Make a function run in this mode."""
        return _decorate(self.mode, function)


class _FixedGradMode(_GradMode):
    """A mode with its flag given by the class, usable as ``@no_grad`` as well as ``@no_grad()``."""

    __slots__ = ()

    _MODE: bool

    if TYPE_CHECKING:

        @overload
        def __new__(cls, function: Callable[P, R]) -> Callable[P, R]: ...  # type: ignore[misc]
        @overload
        def __new__(cls, function: None = None) -> Self: ...

    def __new__(  # type: ignore[misc]
        cls, function: Callable[P, R] | None = None
    ) -> Self | Callable[P, R]:
        if function is not None:
            return _decorate(cls._MODE, function)
        return super().__new__(cls)

    def __init__(self) -> None:
        super().__init__(self._MODE)


class no_grad(_FixedGradMode):
    """Do not record: results inside have ``requires_grad=False``, whatever their inputs.

    Functions that make a tensor out of plain data still honour their ``requires_grad`` argument.
    The mode belongs to the current thread.

    Examples
    --------
    >>> import wengert
    >>> x = wengert.ones(2, requires_grad=True)
    >>> with wengert.no_grad():
    ...     y = x * 2
    >>> y.requires_grad
    False

    The same as a decorator, of generators and coroutines too:

    >>> @wengert.no_grad()
    ... def double(x):
    ...     return x * 2
    >>> double(x).requires_grad
    False
    """

    __slots__ = ()

    _MODE = False


class enable_grad(_FixedGradMode):
    """Record, also inside `no_grad`.

    Examples
    --------
    >>> import wengert
    >>> x = wengert.ones(2, requires_grad=True)
    >>> with wengert.no_grad(), wengert.enable_grad():
    ...     y = x * 2
    >>> y.requires_grad
    True
    """

    __slots__ = ()

    _MODE = True


class set_grad_enabled(_GradMode):
    """Record if ``mode`` is true. Takes effect at once; as a block, until its end.

    Parameters
    ----------
    mode
        Whether operations are recorded from here on.

    Examples
    --------
    >>> import wengert
    >>> x = wengert.ones(2, requires_grad=True)
    >>> training = False
    >>> with wengert.set_grad_enabled(training):
    ...     y = x * 2
    >>> y.requires_grad
    False
    >>> _ = wengert.set_grad_enabled(False)
    >>> wengert.is_grad_enabled()
    False
    >>> _ = wengert.set_grad_enabled(True)
    """

    __slots__ = ("_before",)

    def __init__(self, mode: bool) -> None:
        super().__init__(mode)
        self._before = _set_grad_enabled(mode)

    def __enter__(self) -> None:
        # What the block returns to is the mode from before the constructor switched it.
        self._outer = (self._before, self._outer)
        _set_grad_enabled(self.mode)

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Make a function run in this mode."""
        # `@set_grad_enabled(False)` means the function, not the rest of the module.
        _set_grad_enabled(self._before)
        return super().__call__(function)

    def __repr__(self) -> str:
        return f"{__name__}.set_grad_enabled(mode={self.mode})"


def _decorate(mode: bool, function: Callable[P, R]) -> Callable[P, R]:
    """Wrap `function` so that its own code, and only that, runs in `mode`."""
    # Imported here: `import wengert` must not pay for what only decorators use.
    import functools
    import inspect
    import types

    if not callable(function):
        raise TypeError(f"a gradient mode decorates functions, not {type(function).__name__}")
    if isinstance(function, type):
        import warnings

        warnings.warn(
            "Decorating classes is deprecated and will be disabled in future versions. You should "
            "only decorate functions or methods. To preserve the current behavior of class "
            "decoration, you can directly decorate the `__init__` method and nothing else.",
            FutureWarning,
            stacklevel=3,
        )

        def construct(*args: P.args, **kwargs: P.kwargs) -> Any:
            return _call(mode, function, *args, **kwargs)

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
            return (yield from _in_mode(mode, function(*args, **kwargs)))

    elif inspect.iscoroutinefunction(function):
        drive: Any = types.coroutine(_in_mode)

        @functools.wraps(function)
        async def wrapper(*args: P.args, **kwargs: P.kwargs) -> Any:
            return await drive(mode, function(*args, **kwargs))

    else:

        @functools.wraps(function)
        def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
            return _call(mode, function, *args, **kwargs)

    return wrapper  # type: ignore[no-any-return]


def _call(mode: bool, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
    previous = _set_grad_enabled(mode)
    try:
        return function(*args, **kwargs)
    finally:
        _set_grad_enabled(previous)


def _in_mode(
    mode: bool, inner: Generator[T, Any, R] | Coroutine[T, Any, R]
) -> Generator[T, Any, R]:
    """Run a generator or coroutine to its end, in `mode` whenever it runs and never between."""
    try:
        response = _call(mode, inner.send, None)
        while True:
            try:
                request = yield response
            except GeneratorExit:
                _call(mode, inner.close)
                raise
            except BaseException as error:  # noqa: BLE001
                response = _call(mode, inner.throw, error)
            else:
                response = _call(mode, inner.send, request)
    except StopIteration as finished:
        return finished.value  # type: ignore[no-any-return]
