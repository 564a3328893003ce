"""The recorded graph: nodes, edges, hooks for several gradients, how saved tensors are stored."""

from __future__ import annotations

import abc
import functools
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeVar

from wengert import _core
from wengert._core import (
    Tensor,
    _current_graph_task_notes,
    _gradient_edge,
    _increment_version,
    _Waypoint,
    live_nodes,
)
from wengert.utils.hooks import MultiHandle, RemovableHandle

from .function import BackwardCFunction
from .saved_tensors import (
    allow_mutation_on_saved_tensors,
    disable_saved_tensors_hooks,
    save_on_cpu,
    saved_tensors_hooks,
)

if TYPE_CHECKING:
    from wengert._core import Node

    from ._memory import graph_memory
else:

    class Node(abc.ABC):  # noqa: B024
        """A recorded operation: of the engine, or a call of a `Function`, which is its context.

        Examples
        --------
        >>> import wengert
        >>> x = wengert.tensor([1.0, 2.0], requires_grad=True)
        >>> y = x.clone()
        >>> isinstance(y.grad_fn, wengert.autograd.graph.Node)
        True
        >>> y.grad_fn.name()
        'CloneBackward0'
        """

        def __new__(cls, *_args, **_kwargs):  # noqa: D102
            raise TypeError(f"cannot create '{cls.__name__}' instances")

    Node.register(_core.Node)
    Node.register(BackwardCFunction)

T = TypeVar("T")

__all__ = [
    "GradientEdge",
    "Node",
    "allow_mutation_on_saved_tensors",
    "disable_saved_tensors_hooks",
    "get_gradient_edge",
    "graph_memory",
    "increment_version",
    "live_nodes",
    "register_multi_grad_hook",
    "save_on_cpu",
    "saved_tensors_hooks",
]


def __getattr__(name: str) -> object:
    if name == "graph_memory":
        from ._memory import graph_memory

        return graph_memory
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class GradientEdge(NamedTuple):
    """Where the gradient of a tensor flows: a node, and which of its outputs.

    `autograd.grad` and `autograd.backward` take edges in the place of tensors, as what is
    differentiated as well as what with respect to. An edge keeps the graph behind it alive, but not
    the tensor's memory, and stays what it is when the tensor is written to.

    Attributes
    ----------
    node : Node
        The node that made the tensor; the accumulator of a leaf.
    output_nr : int
        Which output of the node the tensor was.
    ownership_token : Node or None
        Always None: here a node object keeps its graph alive by itself.
    """

    node: Node
    output_nr: int
    ownership_token: Node | None = None


def get_gradient_edge(tensor: Tensor) -> GradientEdge:
    """Return the edge along which the gradient of a tensor flows.

    Parameters
    ----------
    tensor : Tensor
        A tensor that requires grad.

    Raises
    ------
    RuntimeError
        If it does not require grad.

    Examples
    --------
    >>> import wengert
    >>> from wengert.autograd.graph import get_gradient_edge
    >>> x = wengert.tensor([1.0, 2.0], requires_grad=True)
    >>> y = x.exp()
    >>> edge = get_gradient_edge(y)
    >>> loss = (y * 3).sum()
    >>> del y
    >>> wengert.autograd.grad(loss, edge)
    (tensor([3., 3.]),)
    """
    if not tensor.requires_grad:
        raise RuntimeError(
            "It is not possible to get the gradient edge for a Tensor that does not require "
            "gradients"
        )
    return GradientEdge(*_gradient_edge(tensor))


def increment_version(tensor: Tensor | Iterable[Tensor]) -> None:
    """Count a write to a tensor's memory that was made behind its back.

    Backward refuses to use a saved tensor that was written to since. Operations count their writes
    themselves; whoever writes through a pointer should call this.

    Parameters
    ----------
    tensor : Tensor or iterable of Tensor
        What was written to.

    Examples
    --------
    >>> import wengert
    >>> x = wengert.zeros(3)
    >>> wengert.autograd.graph.increment_version(x)
    >>> x._version
    1
    """
    if isinstance(tensor, Tensor):
        tensor = (tensor,)
    elif not isinstance(tensor, Iterable):
        raise RuntimeError("increment_version expect a Iterable[Tensor] as input")
    for t in tensor:
        if not isinstance(t, Tensor):
            raise RuntimeError(
                "increment_version expects each element of the iterable to be a tensor, got "
                f"{type(t).__name__}"
            )
        _increment_version(t)


def register_multi_grad_hook(
    tensors: Sequence[Tensor],
    fn: Callable[[Sequence[Tensor | None]], None] | Callable[[Tensor], None],
    *,
    mode: Literal["all", "any"] = "all",
) -> RemovableHandle:
    """Have a function called when the gradients of several tensors have been computed.

    Parameters
    ----------
    tensors : sequence of Tensor
        The tensors, which require grad.
    fn : callable
        With ``mode="all"``, called in each backward pass that reaches any of them, when the last
        gradient is there, with a list of gradients, None for tensors that the pass does not reach.
        With ``mode="any"``, called with the first gradient that is there. It must not write to its
        argument, and what it returns is ignored.
    mode : {"all", "any"}
        What to wait for.

    Returns
    -------
    RemovableHandle
        Its `remove()` removes the hook.

    Examples
    --------
    >>> import wengert
    >>> from wengert.autograd.graph import register_multi_grad_hook
    >>> a = wengert.ones(2, requires_grad=True)
    >>> b = wengert.ones(2, requires_grad=True)
    >>> c, d = a * b, a + b
    >>> handle = register_multi_grad_hook((a, c, d), lambda gs: print([g is not None for g in gs]))
    >>> c.sum().backward(retain_graph=True)
    [True, True, False]
    >>> handle.remove()
    """
    if mode == "all":
        return _wait_for_all(tensors, fn)  # type: ignore[arg-type]
    if mode == "any":
        return _wait_for_any(tensors, fn)  # type: ignore[arg-type]
    raise ValueError(f"Expects mode to be one of ('all', 'any') but got {mode}")


class _Waiting:
    """What a hook for several gradients has seen of one backward pass."""

    def __init__(self, places: Sequence[_Waypoint]) -> None:
        self.count = sum(place.is_on_the_way() for place in places)
        self.gradients: list[Tensor | None] = [None] * len(places)


def _state(key: object, make: Callable[[], T]) -> T:
    """Return what belongs to `key` in the running pass, made when first asked for."""
    notes = _current_graph_task_notes()
    if notes is None:
        raise RuntimeError("a hook for several gradients was called outside a backward pass")
    if key not in notes:
        notes[key] = make()
    return notes[key]  # type: ignore[no-any-return]


def _wait_for_all(
    tensors: Sequence[Tensor], fn: Callable[[Sequence[Tensor | None]], None]
) -> RemovableHandle:
    # Not the nodes: they hold the hooks, which would hold them.
    places = [_Waypoint(t) for t in tensors]
    key = object()

    def hook(index: int, gradient: Tensor) -> None:
        state = _state(key, lambda: _Waiting(places))
        state.gradients[index] = gradient
        state.count -= 1
        if state.count == 0:
            fn(state.gradients)

    return MultiHandle(t.register_hook(functools.partial(hook, i)) for i, t in enumerate(tensors))


def _wait_for_any(tensors: Sequence[Tensor], fn: Callable[[Tensor], None]) -> RemovableHandle:
    key = object()

    @functools.wraps(fn)
    def hook(gradient: Tensor) -> None:
        called = _state(key, list[None])
        if not called:
            called.append(None)
            fn(gradient)

    return MultiHandle(t.register_hook(hook) for t in tensors if t.requires_grad)
