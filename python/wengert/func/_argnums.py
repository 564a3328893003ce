"""Which arguments a transform is about."""

from __future__ import annotations

from typing import Any

from wengert import _core
from wengert._core import Tensor
from wengert.utils._pytree import tree_flatten, tree_unflatten

Argnums = int | tuple[int, ...]


def slice_argnums(args: tuple[Any, ...], argnums: Argnums, as_tuple: bool = True) -> Any:
    """The arguments at the given places; a single one alone unless `as_tuple`."""
    places = _places(argnums, len(args))
    if isinstance(places, int):
        return (args[places],) if as_tuple else args[places]
    return tuple(args[i] for i in places)


def replace_args(args: tuple[Any, ...], new: tuple[Any, ...], argnums: Argnums) -> tuple[Any, ...]:
    """The arguments with those at the given places replaced.

    The function may write to any of its arguments, so the others are its own, too.
    """
    places = _places(argnums, len(args))
    result = dict(zip((places,) if isinstance(places, int) else places, new, strict=True))
    return tuple(result[i] if i in result else _own(arg) for i, arg in enumerate(args))


def _own(arg: Any) -> Any:
    if isinstance(arg, Tensor):
        return _core._transform_own(arg)
    leaves, spec = tree_flatten(arg)
    if not any(isinstance(leaf, Tensor) for leaf in leaves):
        return arg
    return tree_unflatten(
        [_core._transform_own(t) if isinstance(t, Tensor) else t for t in leaves], spec
    )


def _places(argnums: Argnums, count: int) -> Argnums:
    if isinstance(argnums, int) and not isinstance(argnums, bool):
        return _place(argnums, count)
    if isinstance(argnums, tuple):
        if not argnums:
            raise RuntimeError("argnums must be non-empty")
        if len(set(argnums)) != len(argnums):
            raise RuntimeError(f"argnums elements must be unique, got {argnums}")
        return tuple(_place(argnum, count) for argnum in argnums)
    raise RuntimeError(f"argnums must be int or Tuple[int, ...], got: {type(argnums)}")


def _place(argnum: int, count: int) -> int:
    if not isinstance(argnum, int):
        raise RuntimeError(f"argnum must be int, got: {type(argnum)}")
    if -count <= argnum < count:
        return argnum % count
    raise RuntimeError(f"Got argnum={argnum}, but only {count} positional inputs")
