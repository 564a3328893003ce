"""Operations whose derivative you write: `Function` and the context its calls leave.

The class part is in Python; a call is not. `Function.apply` is compiled, makes the context (an
object of the class `MyFnBackward` that `FunctionMeta` derives for `MyFn`), and calls your static
methods directly. After the call the context is the node of the graph: ``y.grad_fn is ctx``.

A function comes in one of two styles. Either ``forward(ctx, *args)`` computes and fills the
context, or ``forward(*args)`` computes and ``setup_context(ctx, inputs, output)`` fills it. The
second is what `wengert.func` needs.
"""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable, Iterator
from typing import Any, TypeVar, cast

from wengert import Tensor, _core, is_grad_enabled, no_grad

__all__ = [
    "BackwardCFunction",
    "Function",
    "FunctionCtx",
    "FunctionMeta",
    "InplaceFunction",
    "NestedIOFunction",
    "once_differentiable",
]

F = TypeVar("F", bound=Callable[..., Any])


class FunctionCtx(_core._FunctionCtx):
    """What a call of a `Function` leaves for its derivative; made by `Function.apply`.

    It takes any attribute. Tensors belong into `save_for_backward` instead, which notices in-place
    changes and frees them in time.
    """

    def mark_shared_storage(self, *pairs: object) -> None:
        """Do nothing: tensors that share memory are known to do so."""
        del pairs
        warnings.warn(
            "`mark_shared_storage` is deprecated. Tensors with shared storages are automatically "
            "tracked. Note that calls to `set_()` are not tracked",
            FutureWarning,
            stacklevel=2,
        )


class BackwardCFunction(FunctionCtx):
    """The context of a call as a node of the graph: the base of every ``MyFnBackward``."""

    _forward_cls: type[Function]

    def _get_user_fn(self) -> Callable[..., Any]:
        return _core._user_rule(self._forward_cls)

    def apply(self, *args: Any) -> Any:
        """Call the function's `backward` with these gradients, as a backward pass does."""
        rule = self._get_user_fn()
        return rule(self, list(args)) if self._forward_cls.boxed_grads_call else rule(self, *args)

    def apply_boxed(self, *args: Any) -> Any:
        """Call the function's `backward` with one list of gradients."""
        return self._get_user_fn()(self, *args)

    def apply_jvp(self, *args: Any) -> Any:
        """Call the function's `jvp` with these tangents, as forward mode does."""
        return self._forward_cls.jvp(self, *args)


class FunctionMeta(type):
    """The class of `Function` classes: derives for each the class of its contexts."""

    _backward_cls: type[BackwardCFunction]

    def __init__(cls, name: str, bases: tuple[type, ...], attrs: dict[str, Any]) -> None:
        context = type(name + "Backward", (BackwardCFunction,), {"_forward_cls": cls})
        cls._backward_cls = context
        cls._function_info = _core._FunctionInfo(cls, context)
        super().__init__(name, bases, attrs)


class _SingleLevelFunction(FunctionCtx, metaclass=FunctionMeta):
    clear_saved_tensors_on_access = False
    """Free each call's saved tensors when `ctx.saved_tensors` is first read."""

    boxed_grads_call = False
    """Give `backward` one list of gradients that it may empty, instead of one argument each."""

    @staticmethod
    def forward(*args: Any, **kwargs: Any) -> Any:
        """Compute the outputs.

        It is ``forward(ctx, *args)``, or ``forward(*args)`` if `setup_context` is overridden.
        """
        raise NotImplementedError(
            "You must implement the forward function for custom autograd.Function."
        )

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> Any:
        """Fill the context after `forward`, which then gets none."""
        raise NotImplementedError("setup_context is not implemented.")

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        """Compute the gradient of each argument of `forward` from those of its outputs.

        One per argument: a tensor, or None where there is no gradient. `ctx.needs_input_grad` says
        which are wanted.
        """
        raise NotImplementedError(
            "You must implement either the backward or vjp method for your custom "
            "autograd.Function to use it with backward mode AD."
        )

    vjp = backward

    @staticmethod
    def jvp(ctx: Any, *grad_inputs: Any) -> Any:
        """Compute the tangent of each output from those of the arguments (None for non-tensors)."""
        raise NotImplementedError(
            "You must implement the jvp function for custom autograd.Function to use it with "
            "forward mode AD."
        )


_core._register_function(_SingleLevelFunction.setup_context, _SingleLevelFunction.backward)


class Function(_SingleLevelFunction):
    """Base class of operations whose derivative you write.

    Derive a class with static methods `forward` and `backward` and call its `apply`.

    Examples
    --------
    >>> import wengert
    >>> class Square(wengert.autograd.Function):
    ...     @staticmethod
    ...     def forward(ctx, x):
    ...         ctx.save_for_backward(x)
    ...         return x * x
    ...
    ...     @staticmethod
    ...     def backward(ctx, g):
    ...         (x,) = ctx.saved_tensors
    ...         return 2 * x * g
    >>> x = wengert.tensor(3.0, requires_grad=True)
    >>> y = Square.apply(x)
    >>> y
    tensor(9., grad_fn=<SquareBackward>)
    >>> y.backward()
    >>> x.grad
    tensor(6.)
    """

    generate_vmap_rule = False
    """Whether `vmap` may run the static methods on batches, because they are written in tensor \
operations."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        del args, kwargs
        warnings.warn(
            f"{type(self)} should not be instantiated. Methods on autograd functions are all "
            "static, so you should invoke them on the class itself. Instantiating an autograd "
            "function will raise an error in a future version of PyTorch.",
            DeprecationWarning,
            stacklevel=2,
        )

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Refuse: functions of the style before static methods do not exist any more."""
        del args, kwargs
        raise RuntimeError(
            "Legacy autograd function with non-static forward method is deprecated. Please use "
            "new-style autograd function with static forward method. (Example: "
            "https://pytorch.org/docs/stable/autograd.html#torch.autograd.Function)"
        )

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *args: Any) -> Any:
        """Compute a batch at once.

        `info` has `batch_size` and `randomness`, `in_dims` says for each argument which of its axes
        counts the batch (None for none). Returns the output and the batch axes of its parts.
        """
        raise NotImplementedError(
            "To use autograd.Function with vmap, you must either override the vmap staticmethod or "
            "set generate_vmap_rule=True."
        )

    apply: Callable[..., Any] = cast(Any, classmethod(_core._apply_function))


def _bind(
    forward: Callable[..., Any],
    separate: bool,
    args: tuple[Any, ...],
    kwargs: dict[str, Any] | None,
) -> tuple[Any, ...]:
    """The positional arguments of `forward` for a call with keywords or defaults.

    The derivative counts arguments by position, so keyword-only ones have no place.
    """
    given = kwargs or {}
    if separate:
        bound = inspect.signature(forward).bind(*args, **given)
        bound.apply_defaults()
        if bound.kwargs:
            name = next(iter(bound.kwargs))
            if _core._vmap_depth() and any(isinstance(t, Tensor) for t in bound.kwargs.values()):
                raise NotImplementedError(
                    "Run vmap on autograd.Function with kwarg-only Tensor args. Please do not pass "
                    f"kwarg-only Tensors to autograd.Function. Got: {bound.kwargs}"
                )
            raise TypeError(f"forward() got an unexpected keyword argument {name!r}")
        return bound.args
    code = getattr(forward, "__code__", None)
    if code is None:
        raise TypeError(f"{forward!r} does not tell the names of its arguments")
    names = code.co_varnames[1 : code.co_argcount]
    places = {}
    for name in given:
        if name not in names:
            raise TypeError(f"forward() got an unexpected keyword argument {name!r}")
        place = names.index(name)
        if place < len(args):
            raise TypeError(f"forward() got multiple values for argument {name!r}")
        places[place] = given[name]
    for place in range(len(args), max(places) + 1):
        if place not in places:
            raise TypeError(
                f"forward() missing required argument: {names[place]!r} (position {place})"
            )
    return (*args, *(places[place] for place in sorted(places)))


def once_differentiable(fn: F) -> F:
    """Mark a `backward` that is not written in differentiable operations.

    It runs unrecorded, and its results refuse to be differentiated.

    Examples
    --------
    >>> import wengert
    >>> from wengert.autograd.function import once_differentiable
    >>> class Double(wengert.autograd.Function):
    ...     @staticmethod
    ...     def forward(ctx, x):
    ...         return wengert.from_numpy(2 * x.detach().numpy())
    ...
    ...     @staticmethod
    ...     @once_differentiable
    ...     def backward(ctx, g):
    ...         return wengert.from_numpy(2 * g.numpy())
    >>> x = wengert.tensor([1.0], requires_grad=True)
    >>> wengert.autograd.grad(Double.apply(x), x)
    (tensor([2.]),)
    """

    @functools.wraps(fn)
    def wrapper(ctx: Any, *args: Any, **kwargs: Any) -> Any:
        with no_grad():
            outputs = fn(ctx, *args, **kwargs)
        if not is_grad_enabled():
            return outputs
        if not any(isinstance(arg, Tensor) and arg.requires_grad for arg in args):
            return outputs
        single = not isinstance(outputs, tuple)
        refusing = _core._delayed_error(
            "trying to differentiate twice a function that was marked with @once_differentiable",
            [outputs] if single else list(outputs),
        )
        return refusing[0] if single else refusing

    return cast(F, wrapper)


class InplaceFunction(Function):
    """`Function` by another name, for code of old."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace


def _tensors_in(value: Any) -> Iterator[Any]:
    """The tensors and Nones in nested lists, tuples and dicts."""
    if value is None or isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors_in(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _tensors_in(item)
    else:
        raise ValueError(
            "Auto nesting doesn't know how to process an input object of type "
            f"{type(value).__name__}. Accepted types: Tensors, or lists/tuples of them"
        )


def _like(flat: Iterator[Any], pattern: Any) -> Any:
    """Flat values nested as `pattern` is."""
    if pattern is None:
        return None
    if isinstance(pattern, list | tuple):
        return type(pattern)([_like(flat, item) for item in pattern])
    return next(flat)


class NestedIOFunction(Function):
    """A `Function` of old whose context takes and gives tensors in nested lists and tuples.

    `save_for_backward`, `saved_tensors`, `mark_dirty` and `mark_non_differentiable` of instances
    accept what is nested. PyTorch can no longer apply such functions; neither can this.
    """

    def save_for_backward(self, *args: Any) -> None:
        """Keep the tensors in `args`."""
        self.to_save = tuple(t for t in _tensors_in(args) if t is not None)
        self._to_save_nested = args

    @property
    def saved_tensors(self) -> Any:
        """What was kept, nested as it was given."""
        return _like(iter(super().saved_tensors), self._to_save_nested)

    def mark_dirty(self, *args: Any, **kwargs: Any) -> None:
        """Say which inputs were written to."""
        self.dirty_tensors = tuple(t for t in _tensors_in((args, kwargs)) if t is not None)

    def mark_non_differentiable(self, *args: Any, **kwargs: Any) -> None:
        """Say which outputs have no derivative."""
        self.non_differentiable = tuple(t for t in _tensors_in((args, kwargs)) if t is not None)

    def forward_extended(self, *args: Any) -> None:
        """To be overridden: what `forward` was."""
        raise NotImplementedError

    def backward_extended(self, *grad_output: Any) -> None:
        """To be overridden: what `backward` was."""
        raise NotImplementedError
