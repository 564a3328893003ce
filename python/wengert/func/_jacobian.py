"""`jacrev`, `jacfwd` and `hessian`: whole matrices of derivatives.

A Jacobian is a product with every vector of the standard basis: cotangents of the results for
`jacrev`, tangents of the arguments for `jacfwd`. `vmap` goes over the basis. For `jacfwd` that
makes a batch of the function itself; one that cannot be batched runs once for each direction
instead.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import wengert
from wengert._core import Tensor
from wengert.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

from ._argnums import Argnums, slice_argnums
from ._forward import jvp_with_argnums
from ._reverse import vjp_with_argnums
from ._vmap import _pieces, vmap


def _bases(tensors: list[Tensor], chunk_size: int | None) -> Iterator[list[Tensor]]:
    """The standard basis of all tensors together, in pieces.

    A piece has for each tensor its part of every vector, with an axis in front that counts the
    vectors.
    """
    total = sum(t.numel() for t in tensors)
    start = 0
    for length in _pieces(total, chunk_size or max(total, 1)) or [0]:
        parts, before = [], 0
        for t in tensors:
            # Plain, also where `t` is batched: every example has the same basis.
            part = wengert.zeros(length, t.numel(), dtype=t.dtype)
            first, last = max(start, before), min(start + length, before + t.numel())
            if first < last:
                diagonal = part[first - start : last - start, first - before : last - before]
                diagonal.diagonal().fill_(1)
            parts.append(part.view(length, *t.shape))
            before += t.numel()
        yield parts
        start += length


def jacrev(
    func: Callable[..., Any],
    argnums: Argnums = 0,
    *,
    has_aux: bool = False,
    chunk_size: int | None = None,
    _preallocate_and_copy: bool = False,
) -> Callable[..., Any]:
    """The Jacobian of a function, by reverse mode: a pass per element of the result.

    Parameters
    ----------
    func : callable
        Gives a nest of floating-point tensors, or with `has_aux` a pair of one and auxiliary
        tensors.
    argnums : int or tuple of int
        Which arguments to differentiate with respect to; they may be nests of tensors.
    has_aux : bool
        Whether `func` gives auxiliary tensors as well.
    chunk_size : int, optional
        Compute that many rows at a time.

    Returns
    -------
    callable
        Takes what `func` takes. Gives, for each result of shape ``(*m)`` and each argument of shape
        ``(*n)``, a tensor of shape ``(*m, *n)``: results outside, arguments inside.

    Raises
    ------
    ValueError
        If `chunk_size` is not positive.
    RuntimeError
        When called: if results are not floating-point tensors.

    Examples
    --------
    >>> import wengert
    >>> from wengert.func import jacrev
    >>> jacrev(wengert.sin)(wengert.tensor([0.0, 0.0]))
    tensor([[1., 0.],
            [0., 1.]])
    """
    if not (chunk_size is None or chunk_size > 0):
        raise ValueError("jacrev: `chunk_size` should be greater than 0.")

    @functools.wraps(func)
    def wrapper(*args: Any) -> Any:
        output, pull_back, aux = vjp_with_argnums(func, args, argnums, has_aux)
        outputs, output_spec = tree_flatten(output)
        primals, primals_spec = tree_flatten(slice_argnums(args, argnums))
        rows: list[list[Tensor]] = []
        for basis in _bases(outputs, chunk_size):
            if chunk_size == 1:
                found = pull_back(tree_unflatten([b.squeeze(0) for b in basis], output_spec))
                rows.append([g.unsqueeze(0) for g in tree_leaves(found)])
            else:
                rows.append(tree_leaves(vmap(pull_back)(tree_unflatten(basis, output_spec))))
        stacked = [
            column[0] if len(column) == 1 else wengert.cat(list(column), 0)
            for column in zip(*rows, strict=True)
        ]
        sizes = [t.numel() for t in outputs]
        parts = [whole.split(sizes, 0) for whole in stacked]
        by_output = []
        for i, t in enumerate(outputs):
            blocks = [
                part[i].reshape((*t.shape, *p.shape))
                for part, p in zip(parts, primals, strict=True)
            ]
            block = tree_unflatten(blocks, primals_spec)
            by_output.append(block[0] if isinstance(argnums, int) else block)
        jacobian = tree_unflatten(by_output, output_spec)
        return (jacobian, aux) if has_aux else jacobian

    return wrapper


def _needs_single_runs(error: RuntimeError) -> bool:
    """Whether a function of one example does what it cannot do for a batch.

    That is to look at a value, or to write what differs from example to example to a tensor that
    does not.
    """
    text = str(error)
    return text.startswith("vmap: ") and "random" not in text


def _one_by_one(push: Callable[..., Any], basis: list[Tensor], randomness: str) -> Any:
    """`push` for one direction after the other, results stacked."""
    state = wengert.get_rng_state() if randomness == "same" else None
    rows, spec = [], None
    for directions in zip(*basis, strict=True):
        if state is not None:
            wengert.set_rng_state(state)
        flat, spec = tree_flatten(push(*directions))
        rows.append(flat)
    assert spec is not None
    return tree_unflatten([wengert.stack(column) for column in zip(*rows, strict=True)], spec)


def jacfwd(
    func: Callable[..., Any],
    argnums: Argnums = 0,
    has_aux: bool = False,
    *,
    randomness: str = "error",
) -> Callable[..., Any]:
    """The Jacobian of a function, by forward mode: one run for all directions.

    Parameters
    ----------
    func : callable
        Gives a nest of tensors, or with `has_aux` a pair of one and auxiliary tensors.
    argnums : int or tuple of int
        Which arguments to differentiate with respect to; they may be nests of tensors.
    has_aux : bool
        Whether `func` gives auxiliary tensors as well.
    randomness : {'error', 'different', 'same'}
        What random operations do in the runs for different directions, see `vmap`.

    Returns
    -------
    callable
        As that of `jacrev`.

    Raises
    ------
    RuntimeError
        When called: if results are not tensors.

    Examples
    --------
    >>> import wengert
    >>> from wengert.func import jacfwd
    >>> jacfwd(lambda x: x * x.sum())(wengert.tensor([1.0, 2.0]))
    tensor([[4., 1.],
            [2., 5.]])
    """

    @functools.wraps(func)
    def wrapper(*args: Any) -> Any:
        primals, primals_spec = tree_flatten(slice_argnums(args, argnums))
        (basis,) = _bases(primals, None)

        def push(*directions: Any) -> Any:
            tangents = tree_unflatten(directions, primals_spec)
            _, product, aux = jvp_with_argnums(func, args, tangents, argnums, False, has_aux)
            return (product, aux) if has_aux else product

        try:
            results = vmap(push, randomness=randomness)(*basis)
        except RuntimeError as error:
            if not _needs_single_runs(error):
                raise
            results = _one_by_one(push, basis, randomness)
        aux = None
        if has_aux:
            results, aux = results
            leaves, aux_spec = tree_flatten(aux)
            aux = tree_unflatten([leaf[0] for leaf in leaves], aux_spec)
        columns, spec = tree_flatten(results)
        sizes = [p.numel() for p in primals]
        by_output = []
        for whole in columns:
            parts = whole.movedim(0, -1).split(sizes, -1)
            blocks = [
                part.reshape((*part.shape[:-1], *p.shape))
                for part, p in zip(parts, primals, strict=True)
            ]
            block = tree_unflatten(blocks, primals_spec)
            by_output.append(block[0] if isinstance(argnums, int) else block)
        jacobian = tree_unflatten(by_output, spec)
        return (jacobian, aux) if has_aux else jacobian

    return wrapper


def hessian(func: Callable[..., Any], argnums: Argnums = 0) -> Callable[..., Any]:
    """The second derivatives of a function, by forward over reverse mode.

    Parameters
    ----------
    func : callable
        Gives a nest of tensors.
    argnums : int or tuple of int
        Which arguments to differentiate with respect to.

    Returns
    -------
    callable
        Takes what `func` takes and gives ``jacfwd(jacrev(func))``.

    Examples
    --------
    >>> import wengert
    >>> from wengert.func import hessian
    >>> hessian(lambda x: (x**3).sum())(wengert.tensor([1.0, 2.0]))
    tensor([[ 6.,  0.],
            [ 0., 12.]])
    """
    return jacfwd(jacrev(func, argnums), argnums)
