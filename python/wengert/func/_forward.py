"""`jvp` and `linearize`: derivatives of functions along directions.

`jvp` runs the function on dual tensors, in a forward-mode level of its own. Inside `vmap` every
example has a tangent.

`linearize` runs the function once. Its vector-Jacobian product is linear in the cotangent, so the
transpose of *that*, again by reverse mode, is the Jacobian-vector product; what it needs is
recorded, and the function itself does not run again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import wengert
from wengert import _core
from wengert._core import Tensor, is_grad_enabled
from wengert.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

from ._argnums import Argnums, replace_args, slice_argnums
from ._reverse import (
    _cut,
    _lift,
    _with_aux,
    check_outputs,
    outside_inference_mode,
    transforming,
)

API = "jvp(f, primals, tangents)"


def _check_tensors(values: list[Any], what: str) -> None:
    if not values:
        raise RuntimeError(f"{API}: Expected {what} to contain at least one Tensor.")
    for value in values:
        if not isinstance(value, Tensor):
            raise RuntimeError(f"{API}: Expected {what} to only contain Tensors, got {type(value)}")


def jvp_with_argnums(
    func: Callable[..., Any],
    primals: Any,
    tangents: Any,
    argnums: Argnums | None,
    strict: bool,
    has_aux: bool,
) -> tuple[Any, Any, Any]:
    """`jvp` with respect to some of the arguments: value, product, and what is beside."""
    if not isinstance(primals, tuple):
        raise RuntimeError(
            f"{API}: Expected primals to be a tuple. E.g. it should be valid to call f(*primals)."
        )
    chosen = primals if argnums is None else slice_argnums(primals, argnums)
    flat_primals, primals_spec = tree_flatten(chosen)
    flat_tangents, tangents_spec = tree_flatten(tangents)
    if primals_spec != tangents_spec:
        raise RuntimeError(
            f"{API}: Expected primals and tangents to have the same python "
            "structure. For example, if primals is a tuple of 3 tensors, "
            f"tangents also must be. Got primals with structure {primals_spec} "
            f"and tangents with structure {tangents_spec}"
        )
    _check_tensors(flat_primals, "primals")
    _check_tensors(flat_tangents, "tangents")
    with outside_inference_mode():
        return _run(
            func, primals, flat_primals, flat_tangents, primals_spec, argnums, strict, has_aux
        )


def _run(
    func: Callable[..., Any],
    primals: tuple[Any, ...],
    flat_primals: list[Tensor],
    flat_tangents: list[Tensor],
    primals_spec: TreeSpec,
    argnums: Argnums | None,
    strict: bool,
    has_aux: bool,
) -> tuple[Any, Any, Any]:
    level = _core._forward_enter()
    enabled = _core._is_fwd_grad_enabled()
    _core._set_fwd_grad_enabled(True)
    _core._transform_enter()
    try:
        duals = tree_unflatten(
            [
                _core._make_dual(p, _core._transform_own(t), level)
                for p, t in zip(flat_primals, flat_tangents, strict=True)
            ],
            primals_spec,
        )
        args = duals if argnums is None else replace_args(primals, duals, argnums)
        output = func(*args)
        aux = None
        if has_aux:
            output, aux = _with_aux(output, API)
            aux = _primals(aux, level)
        outputs, spec = tree_flatten(output)
        check_outputs(outputs, API)
        values, products = [], []
        for dual in outputs:
            value, product = _core._unpack_dual(dual, level)
            if product is None:
                if strict:
                    raise RuntimeError(
                        "jvp(f, primals, tangents, strict=True): The output of f is independent of "
                        "the inputs. This is not allowed with strict=True."
                    )
                product = wengert.zeros_like(value)
            values.append(value)
            products.append(product)
        return tree_unflatten(values, spec), tree_unflatten(products, spec), aux
    finally:
        _core._transform_exit()
        _core._set_fwd_grad_enabled(enabled)
        _core._forward_exit(level)


def _primals(tree: Any, level: int) -> Any:
    """A nest of tensors without the tangents of a level."""
    leaves, spec = tree_flatten(tree)
    for leaf in leaves:
        if not isinstance(leaf, Tensor):
            raise RuntimeError(f"Expected tensors, got unsupported type {type(leaf)}")
    return tree_unflatten([_core._unpack_dual(leaf, level)[0] for leaf in leaves], spec)


def jvp(
    func: Callable[..., Any],
    primals: Any,
    tangents: Any,
    *,
    strict: bool = False,
    has_aux: bool = False,
) -> Any:
    """The value of a function and its Jacobian-vector product, by forward mode.

    Parameters
    ----------
    func : callable
        Gives a nest of tensors, or with `has_aux` a pair of one and auxiliary tensors.
    primals : tuple
        Its arguments, tensors or nests of tensors.
    tangents : tuple
        A direction for each of them, in the same structure.
    strict : bool
        Refuse results that do not depend on the arguments, instead of giving zeros.
    has_aux : bool
        Whether `func` gives auxiliary tensors as well.

    Returns
    -------
    output : nest of Tensor
        The value.
    jvp_out : nest of Tensor
        The derivative of the value along the direction.
    aux : nest of Tensor
        With `has_aux`.

    Raises
    ------
    RuntimeError
        If structures or shapes of arguments and directions differ, or results are not tensors.

    Examples
    --------
    >>> import wengert
    >>> from wengert.func import jvp
    >>> x = wengert.tensor([1.0, 2.0])
    >>> jvp(lambda x: x * x, (x,), (wengert.tensor([1.0, 0.0]),))
    (tensor([1., 4.]), tensor([2., 0.]))
    """
    output, product, aux = jvp_with_argnums(func, primals, tangents, None, strict, has_aux)
    return (output, product, aux) if has_aux else (output, product)


def linearize(func: Callable[..., Any], *primals: Any) -> tuple[Any, Callable[..., Any]]:
    """The value of a function and its derivative as a linear function.

    Cheaper than `jvp` if there are many directions: `func` runs once, here.

    Parameters
    ----------
    func : callable
        Gives a nest of floating-point tensors.
    *primals : tensors, or nests of tensors
        Its arguments.

    Returns
    -------
    output : nest of Tensor
        The value.
    jvp_fn : callable
        Takes directions in the structure of `primals` and gives the derivatives of the value along
        them.

    Raises
    ------
    RuntimeError
        If results are not floating-point tensors; later, if a direction does not look like its
        argument.

    Examples
    --------
    >>> import wengert
    >>> from wengert.func import linearize
    >>> y, derivative = linearize(lambda x: x * x, wengert.tensor([1.0, 2.0]))
    >>> derivative(wengert.tensor([1.0, 0.0])), derivative(wengert.tensor([0.0, 1.0]))
    (tensor([2., 0.]), tensor([0., 4.]))
    """
    flat_primals, primals_spec = tree_flatten(primals)
    with transforming() as recording:
        own, lifted = _lift(primals)
        result = func(*lifted)
        outputs, output_spec = tree_flatten(result)
        check_outputs(outputs, "linearize(f, *primals)")
        output = _cut(result, own, recording)
        # Linear functions are the same everywhere: any cotangent will do.
        cotangents = [_core._transform_lift(wengert.zeros_like(t)) for t in outputs]
        transposed = _core._transform_gradients(outputs, cotangents, own, True, True)
    like = [(t.shape, t.dtype) for t in flat_primals]

    def jvp_fn(*tangents: Any) -> Any:
        flat, spec = tree_flatten(tangents)
        if spec != primals_spec:
            raise RuntimeError(
                f"Expected the tangents {spec} to have the same argspec as the primals "
                f"{primals_spec}"
            )
        for i, (t, (shape, dtype)) in enumerate(zip(flat, like, strict=True)):
            for what, has, wanted in (("shape", t.shape, shape), ("dtype", t.dtype, dtype)):
                if has != wanted:
                    raise RuntimeError(
                        f"tangent:{i} with {what} {has} in flattened pytree doesn't match the "
                        f"{what} {wanted} of the corresponding primal."
                    )
        with outside_inference_mode():
            found = _core._transform_gradients(
                transposed, flat, cotangents, is_grad_enabled(), True, own
            )
        return tree_unflatten(found, output_spec)

    return output, jvp_fn
