"""`autograd.Function` under `vmap`.

A function with a `vmap` staticmethod gets its batch there: the innermost level in which an argument
has examples is taken off while it runs, and its results are examples in that level again. Of a
function with `generate_vmap_rule` the static methods run once, on batched tensors, see
`_generated`.
"""

from __future__ import annotations

from typing import Any, NamedTuple, NoReturn

import wengert
from wengert import _core
from wengert._core import Tensor
from wengert.autograd.function import Function
from wengert.utils._pytree import (
    TreeSpec,
    _broadcast_to_and_flatten,
    tree_flatten,
    tree_unflatten,
)

from ._generated import apply_generated


class VmapInfo(NamedTuple):
    """What a `vmap` staticmethod is told of the batch."""

    batch_size: int
    randomness: str


def apply(cls: type[Function], args: tuple[Any, ...]) -> Any:
    """Apply a function to arguments that may be batched; `NotImplemented` if none is."""
    flat, spec = tree_flatten(args)
    level = _core._innermost_level([arg for arg in flat if isinstance(arg, Tensor)])
    if level is None:
        return NotImplemented
    own_rule = cls.vmap is not Function.vmap
    if cls.generate_vmap_rule and own_rule:
        raise RuntimeError(
            f"You tried to vmap over {cls.__name__}, but it has both "
            "generate_vmap_rule=True and an "
            "overridden vmap staticmethod. Please set generate_vmap_rule=False or delete the "
            "overridden vmap staticmethod to avoid ambiguity. For more details, please see "
            "https://pytorch.org/docs/main/notes/extending.func.html"
        )
    one_by_one = cls.generate_vmap_rule or (not own_rule and _core._plain_functions())
    if not one_by_one and not own_rule:
        raise RuntimeError(
            f"You tried to vmap over {cls.__name__}, but it does not have vmap support. Please "
            "override and implement the vmap staticmethod or set generate_vmap_rule=True. For more "
            "details, please see https://pytorch.org/docs/main/notes/extending.func.html"
        )
    size, randomness = _core._level_info(level)
    unwrapped, dims = [], []
    for arg in flat:
        whole, dim = arg, None
        if isinstance(arg, Tensor):
            whole, dim = _core._unwrap_batched(arg, level)
        unwrapped.append(whole)
        dims.append(dim)
    suspended = _core._suspend_levels(level)
    try:
        if cls.generate_vmap_rule:
            result = apply_generated(
                cls, size, randomness, tree_unflatten(unwrapped, spec), tree_unflatten(dims, spec)
            )
        elif one_by_one:
            result = _one_by_one(cls, unwrapped, dims, spec, size)
        else:
            result = cls.vmap(
                VmapInfo(size, randomness),
                tree_unflatten(dims, spec),
                *tree_unflatten(unwrapped, spec),
            )
    finally:
        _core._resume_levels(suspended)
    return _wrapped(result, level)


def _one_by_one(
    cls: type[Function], flat: list[Any], dims: list[Any], spec: TreeSpec, size: int
) -> tuple[Any, Any]:
    """Results of single examples, stacked, and the axis they are stacked along."""
    examples = [
        [arg] * size if dim is None else list(arg.unbind(dim))
        for arg, dim in zip(flat, dims, strict=True)
    ]
    rows, out_spec = [], None
    for example in zip(*examples, strict=True):
        outputs, out_spec = tree_flatten(cls.apply(*tree_unflatten(example, spec)))
        rows.append(outputs)
    if out_spec is None:
        raise RuntimeError(
            f"You tried to vmap over {cls.__name__} with a batch of size 0, for which "
            "the shape of the result cannot be found: override the vmap staticmethod"
        )
    stacked: list[Any] = []
    axes: list[int | None] = []
    for column in zip(*rows, strict=True):
        tensors = isinstance(column[0], Tensor)
        stacked.append(wengert.stack(column) if tensors else column[0])
        axes.append(0 if tensors else None)
    return tree_unflatten(stacked, out_spec), tree_unflatten(axes, out_spec)


def _wrapped(result: Any, level: int) -> Any:
    expected = (
        "Expected the vmap staticmethod to have two returns, an output and out_dims with pytree "
        "structure compatible with the output. "
    )
    if not isinstance(result, tuple):
        raise RuntimeError(f"{expected}Got a {type(result)} instead")
    if len(result) != 2:
        raise RuntimeError(f"{expected}Got {len(result)} returns instead")
    output, out_dims = result
    flat, spec = tree_flatten(output)

    def incompatible() -> NoReturn:
        raise RuntimeError(
            "The autograd.Function's vmap staticmethod returned an incompatible (output, out_dims) "
            f"tuple. Expected out_dims={out_dims} to be compatible with the structure of `output`. "
            f"out_dims has structure {tree_flatten(out_dims)[1]} but output has structure {spec}. "
            "For more details, please see "
            "https://pytorch.org/docs/main/notes/extending.func.html"
        )

    flat_dims = _broadcast_to_and_flatten(out_dims, spec)
    if flat_dims is None:
        incompatible()
    return tree_unflatten(
        [
            t if dim is None else _core._add_batch_dim(t, dim, level)
            for t, dim in zip(flat, flat_dims, strict=True)
        ],
        spec,
    )
