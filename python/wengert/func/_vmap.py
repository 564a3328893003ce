"""`vmap`: a function of one example applied to a batch.

The compiled module has the idea (levels, and tensors that stand for one example); here the nests of
arguments and results are taken apart, and the axes named by `in_dims` and `out_dims` are added and
removed.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import wengert
from wengert import _core
from wengert._core import Tensor
from wengert.utils._pytree import (
    TreeSpec,
    _broadcast_to_and_flatten,
    tree_flatten,
    tree_leaves,
    tree_unflatten,
)

InDims = int | tuple[Any, ...] | None
OutDims = int | tuple[Any, ...] | None


def vmap(
    func: Callable[..., Any],
    in_dims: Any = 0,
    out_dims: Any = 0,
    randomness: str = "error",
    *,
    chunk_size: int | None = None,
) -> Callable[..., Any]:
    """Apply a function of one example to every example of a batch at once.

    Parameters
    ----------
    func : callable
        From nests of tensors, and anything else, to a nest of tensors. It sees one example.
    in_dims : int or nested structure, optional
        Which axis of each input holds the examples; None for inputs that are the same for all.
        One number stands for all inputs, a tuple has an entry for each.
    out_dims : int or nested structure, optional
        Where the axis goes in the outputs.
    randomness : {'error', 'different', 'same'}
        What random operations inside `func` do: fail, draw for each example, or draw once.
    chunk_size : int, optional
        Work on that many examples at a time.

    Returns
    -------
    callable
        Takes what `func` takes with an axis more, and gives what it gives with an axis more.

    Raises
    ------
    ValueError
        When called: if axes do not exist, sizes differ, or structures do not match.
    RuntimeError
        When called: if `func` looks at a value, as in ``if x > 0`` or ``x.item()``.

    Examples
    --------
    >>> import wengert
    >>> weights = wengert.tensor([1.0, 2.0])
    >>> batch = wengert.tensor([[1.0, 1.0], [0.0, 3.0]])
    >>> wengert.vmap(wengert.dot, in_dims=(None, 0))(weights, batch)
    tensor([3., 6.])

    The gradient of a loss for each example:

    >>> from wengert.func import grad, vmap
    >>> loss = lambda w, x: (w * x).sum() ** 2
    >>> vmap(grad(loss), in_dims=(None, 0))(weights, batch)
    tensor([[ 6.,  6.],
            [ 0., 36.]])
    """
    _check_randomness(randomness)
    if not (chunk_size is None or chunk_size > 0):
        raise ValueError(f"vmap: chunk_size should be None or greater than 0. (got {chunk_size})")

    @functools.wraps(func)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        return _call(func, in_dims, out_dims, randomness, chunk_size, args, kwargs)

    return wrapped


def _check_randomness(randomness: str) -> None:
    if randomness not in ("error", "different", "same"):
        raise RuntimeError(
            "Only allowed values for randomness are 'error', 'different', or 'same'. "
            f"Got {randomness}"
        )


def _get_name(func: Callable[..., Any]) -> str:
    name = getattr(func, "__name__", None)
    if isinstance(name, str):
        return name
    if isinstance(func, functools.partial):
        return f"functools.partial({_get_name(func.func)}, ...)"
    return repr(func)


def _call(
    func: Callable[..., Any],
    in_dims: Any,
    out_dims: Any,
    randomness: str,
    chunk_size: int | None,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    _check_out_dims(out_dims, func)
    size, flat_dims, flat_args, spec = _process_inputs(in_dims, args, func)
    if chunk_size is None:
        return _run(func, size, flat_dims, flat_args, spec, out_dims, randomness, kwargs)
    return _run_chunks(
        func, size, chunk_size, flat_dims, flat_args, spec, out_dims, randomness, kwargs
    )


def _check_out_dims(out_dims: Any, func: Callable[..., Any]) -> None:
    if isinstance(out_dims, int):
        return
    for dim in tree_leaves(out_dims):
        if not (dim is None or isinstance(dim, int)):
            raise ValueError(
                f"vmap({_get_name(func)}, ..., out_dims={out_dims}): `out_dims` must be "
                "an int, None or a python collection of ints representing where in the outputs the "
                "vmapped dimension should appear."
            )


def _process_inputs(
    in_dims: Any, args: tuple[Any, ...], func: Callable[..., Any]
) -> tuple[int, list[int | None], list[Any], TreeSpec]:
    name = _get_name(func)
    if not isinstance(in_dims, (int, tuple)):
        raise ValueError(
            f"vmap({name}, in_dims={in_dims}, ...)(<inputs>): "
            "expected `in_dims` to be int or a (potentially nested) tuple "
            f"matching the structure of inputs, got: {type(in_dims)}."
        )
    if not args:
        raise ValueError(
            f"vmap({name})(<inputs>): got no inputs. Maybe you forgot to add "
            "inputs, or you are trying to vmap over a function with no inputs. "
            "The latter is unsupported."
        )
    flat_args, spec = tree_flatten(args)
    flat_dims = _broadcast_to_and_flatten(in_dims, spec)
    if flat_dims is None:
        raise ValueError(
            f"vmap({name}, in_dims={in_dims}, ...)(<inputs>): "
            "in_dims is not compatible with the structure of `inputs`. "
            f"in_dims has structure {tree_flatten(in_dims)[1]} but inputs has structure {spec}."
        )
    sizes = []
    for i, (arg, dim) in enumerate(zip(flat_args, flat_dims, strict=True)):
        if dim is None:
            continue
        if not isinstance(dim, int):
            raise ValueError(
                f"vmap({name}, in_dims={in_dims}, ...)(<inputs>): "
                f"Got in_dim={dim} for an input but in_dim must be either "
                "an integer dimension or None."
            )
        if not isinstance(arg, Tensor):
            raise ValueError(
                f"vmap({name}, in_dims={in_dims}, ...)(<inputs>): "
                f"Got in_dim={dim} for an input but the input is of type "
                f"{type(arg)}. We cannot vmap over non-Tensor arguments, "
                "please use None as the respective in_dim"
            )
        ndim = arg.dim()
        if dim < -ndim or dim >= ndim:
            raise ValueError(
                f"vmap({name}, in_dims={in_dims}, ...)(<inputs>): "
                f"Got in_dim={dim} for some input, but that input is a Tensor "
                f"of dimensionality {ndim} so expected in_dim to satisfy "
                f"-{ndim} <= in_dim < {ndim}."
            )
        flat_dims[i] = dim % ndim
        sizes.append(arg.size(dim))
    if not sizes:
        raise ValueError("vmap: Expected at least one Tensor to vmap over")
    if any(size != sizes[0] for size in sizes):
        raise ValueError(
            "vmap: Expected all tensors to have the same size in the mapped "
            f"dimension, got sizes {sizes} for the mapped dimension"
        )
    return sizes[0], flat_dims, flat_args, spec


def _run(
    func: Callable[..., Any],
    size: int,
    flat_dims: list[int | None],
    flat_args: list[Any],
    spec: TreeSpec,
    out_dims: Any,
    randomness: str,
    kwargs: dict[str, Any],
) -> Any:
    level = _core._vmap_enter(size, randomness)
    try:
        batched = [
            arg if dim is None else _core._add_batch_dim(arg, dim, level)
            for arg, dim in zip(flat_args, flat_dims, strict=True)
        ]
        outputs = func(*tree_unflatten(batched, spec), **kwargs)
        return _unwrap(outputs, out_dims, level, size, func)
    finally:
        _core._vmap_exit(level)


def _unwrap(outputs: Any, out_dims: Any, level: int, size: int, func: Callable[..., Any]) -> Any:
    flat, spec = tree_flatten(outputs)

    def incompatible() -> NoReturn:
        raise ValueError(
            f"vmap({_get_name(func)}, ..., out_dims={out_dims})(<inputs>): "
            "out_dims is not compatible with the structure of `outputs`. "
            f"out_dims has structure {tree_flatten(out_dims)[1]} but outputs "
            f"has structure {spec}."
        )

    flat_dims: list[int | None] | None
    if isinstance(outputs, Tensor):
        # A tuple of one is taken for the number in it.
        if isinstance(out_dims, tuple) and len(out_dims) == 1:
            flat_dims = list(out_dims)
        elif out_dims is None or isinstance(out_dims, int):
            flat_dims = [out_dims]
        else:
            incompatible()
    else:
        flat_dims = _broadcast_to_and_flatten(out_dims, spec)
        if flat_dims is None:
            incompatible()
    name = _get_name(func)
    results = [
        _remove(name, output, level, size, dim) for output, dim in zip(flat, flat_dims, strict=True)
    ]
    return tree_unflatten(results, spec)


def _remove(name: str, output: Any, level: int, size: int, dim: int | None) -> Any:
    if dim is None:
        if isinstance(output, Tensor) and _core._unwrap_batched(output, level)[1] is not None:
            raise ValueError(
                f"vmap({name}, ...): `{name}` can not return a BatchedTensor when out_dim is None"
            )
        return output
    if not isinstance(output, Tensor):
        raise ValueError(
            f"vmap({name}, ...): `{name}` must only return "
            f"Tensors, got type {type(output)}. "
            "Did you mean to set out_dims= to None for output?"
        )
    return _core._remove_batch_dim(output, level, size, dim)


def _pieces(size: int, chunk: int) -> list[int]:
    """The lengths of pieces of at most `chunk` that make up `size`."""
    whole, rest = divmod(size, chunk)
    return [chunk] * whole + ([rest] if rest else [])


def _run_chunks(
    func: Callable[..., Any],
    size: int,
    chunk_size: int,
    flat_dims: list[int | None],
    flat_args: list[Any],
    spec: TreeSpec,
    out_dims: Any,
    randomness: str,
    kwargs: dict[str, Any],
) -> Any:
    pieces = _pieces(size, chunk_size)
    if len(pieces) <= 1:
        return _run(func, size, flat_dims, flat_args, spec, out_dims, randomness, kwargs)

    def parts() -> Iterator[list[Any]]:
        start = 0
        for length in pieces:
            yield [
                arg if dim is None else arg.narrow(dim, start, length)
                for arg, dim in zip(flat_args, flat_dims, strict=True)
            ]
            start += length

    # Draws that are to be the same for all examples are the same in every piece.
    state = wengert.get_rng_state() if randomness == "same" else None
    found: list[list[Any]] = []
    out_spec: TreeSpec | None = None
    for length, part in zip(pieces, parts(), strict=True):
        if state is not None:
            wengert.set_rng_state(state)
        result = _run(func, length, flat_dims, part, spec, out_dims, randomness, kwargs)
        flat, out_spec = tree_flatten(result)
        found.append(flat)
    assert out_spec is not None
    flat_out = _broadcast_to_and_flatten(out_dims, out_spec)
    if flat_out is None:
        flat_out = list(out_dims) if isinstance(out_dims, tuple) else [out_dims]
    joined = [
        column[0] if dim is None else wengert.cat(list(column), dim=dim)
        for column, dim in zip(zip(*found, strict=True), flat_out, strict=True)
    ]
    return tree_unflatten(joined, out_spec)


def debug_unwrap(tensor: Tensor, *, recurse: bool = True) -> Tensor:
    """The tensor behind one that `vmap` shows, to look at while debugging.

    What is seen must not be used in computations: the transforms do not know of it.

    Parameters
    ----------
    tensor : Tensor
        An example inside `vmap`, or any other tensor.
    recurse : bool
        Whether to look behind all calls of `vmap`, or the innermost one only.

    Returns
    -------
    Tensor
        The tensor that has all examples; `tensor` itself if it has no others.

    Examples
    --------
    >>> import wengert
    >>> from wengert.func import debug_unwrap, vmap
    >>> def f(x):
    ...     print(debug_unwrap(x))
    ...     return x
    >>> y = vmap(f)(wengert.tensor([1.0, 2.0]))
    tensor([1., 2.])
    """
    return _core._unwrapped(tensor, recurse)
