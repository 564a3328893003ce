"""`grad`, `grad_and_value` and `vjp`: derivatives of functions by reverse mode.

Each differentiates with respect to fresh aliases of its inputs, see the engine's
`graph::transform`: what else the function uses is a constant, so that transforms nest.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import wengert
from wengert import _core
from wengert._core import Tensor, enable_grad, is_grad_enabled, no_grad
from wengert.autograd.grad_mode import inference_mode
from wengert.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

from ._argnums import Argnums, replace_args, slice_argnums


@contextlib.contextmanager
def outside_inference_mode() -> Iterator[None]:
    """Inference mode off, if it is on, and nothing recorded all the same."""
    if not _core.is_inference_mode_enabled():
        yield
        return
    with inference_mode(False), no_grad():
        yield


@contextlib.contextmanager
def transforming() -> Iterator[bool]:
    """The body of a transform: recorded, whatever the mode outside, which is what is given."""
    recording = is_grad_enabled()
    with outside_inference_mode(), enable_grad():
        _core._transform_enter()
        try:
            yield recording
        finally:
            _core._transform_exit()


def _lift(tree: Any) -> tuple[list[Tensor], Any]:
    """Fresh aliases of the tensors in a tree, in a list and in the tree."""
    leaves, spec = tree_flatten(tree)
    lifted = []
    for leaf in leaves:
        if not isinstance(leaf, Tensor):
            raise ValueError(f"Thing passed to transform API must be Tensor, got {type(leaf)}")
        lifted.append(_core._transform_lift(leaf))
    return lifted, tree_unflatten(lifted, spec)


def _cut(tree: Any, own: list[Tensor], recording: bool) -> Any:
    """Results as the caller may see them: without the history that leads to `own` alone."""
    leaves, spec = tree_flatten(tree)
    results = []
    for leaf in leaves:
        if not isinstance(leaf, Tensor):
            raise RuntimeError(f"Expected tensors, got unsupported type {type(leaf)}")
        results.append(_core._transform_cut(leaf, own, recording))
    return tree_unflatten(results, spec)


def _with_aux(result: Any, api: str) -> tuple[Any, Any]:
    if not (isinstance(result, tuple) and len(result) == 2):
        raise RuntimeError(
            f"{api}: output of function f should be a tuple: (output, aux) if has_aux is True"
        )
    return result


def _keeps_graph(aux: Any, recording: bool) -> bool:
    """Whether auxiliary results may need the graph after gradients were taken."""
    return recording and any(
        isinstance(leaf, Tensor) and leaf.requires_grad for leaf in tree_flatten(aux)[0]
    )


def _grad_and_value(
    func: Callable[..., Any],
    argnums: Argnums,
    has_aux: bool,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> tuple[Any, Any, Any]:
    api = "grad_and_value(f)(*args)"
    with transforming() as recording:
        chosen = slice_argnums(args, argnums)
        own, lifted = _lift(chosen)
        output = func(*replace_args(args, lifted, argnums), **kwargs)
        aux = None
        if has_aux:
            output, aux = _with_aux(output, api)
        if not isinstance(output, Tensor):
            raise RuntimeError(f"{api}: Expected f(*args) to return a Tensor, got {type(output)}")
        if output.dim() != 0:
            raise RuntimeError(
                f"{api}: Expected f(*args) to return a scalar Tensor, got tensor with "
                f"{output.dim()} dims. Maybe you wanted to use the vjp or jacrev APIs instead?"
            )
        grads = _core._transform_gradients(
            [output], None, own, recording, _keeps_graph(aux, recording)
        )
        if has_aux:
            aux = _cut(aux, own, recording)
        value = _core._transform_cut(output, own, recording)
    spec = tree_flatten(chosen)[1]
    gradient = tree_unflatten(grads, spec)
    return (gradient[0] if isinstance(argnums, int) else gradient), value, aux


def grad(
    func: Callable[..., Any], argnums: Argnums = 0, has_aux: bool = False
) -> Callable[..., Any]:
    """The gradient of a function that gives a single number.

    Parameters
    ----------
    func : callable
        Gives a tensor without dimensions, or with `has_aux` a pair of one and auxiliary tensors.
    argnums : int or tuple of int
        Which arguments to differentiate with respect to; they may be nests of tensors.
    has_aux : bool
        Whether `func` gives auxiliary tensors as well.

    Returns
    -------
    callable
        Takes what `func` takes and gives the gradient, in the structure of the argument (a tuple
        for a tuple of `argnums`), or a pair of it and the auxiliary tensors.

    Raises
    ------
    RuntimeError
        When called: if the result is not a single number, or an argument has no gradient.

    Examples
    --------
    >>> import wengert
    >>> from wengert.func import grad
    >>> grad(wengert.sin)(wengert.tensor(0.0))
    tensor(1.)
    >>> grad(grad(lambda x: x**3))(wengert.tensor(2.0))
    tensor(12.)
    """

    @functools.wraps(func)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        gradient, _, aux = _grad_and_value(func, argnums, has_aux, args, kwargs)
        return (gradient, aux) if has_aux else gradient

    return wrapper


def grad_and_value(
    func: Callable[..., Any], argnums: Argnums = 0, has_aux: bool = False
) -> Callable[..., Any]:
    """The gradient of a function and its value.

    Parameters
    ----------
    func, argnums, has_aux
        As for `grad`.

    Returns
    -------
    callable
        Gives ``(gradient, value)``, or ``(gradient, (value, aux))`` with `has_aux`.

    Examples
    --------
    >>> import wengert
    >>> from wengert.func import grad_and_value
    >>> grad_and_value(lambda x: x * x)(wengert.tensor(3.0))
    (tensor(6.), tensor(9.))
    """

    @functools.wraps(func)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        gradient, value, aux = _grad_and_value(func, argnums, has_aux, args, kwargs)
        return gradient, ((value, aux) if has_aux else value)

    return wrapper


def check_outputs(outputs: list[Any], api: str) -> None:
    """Refuse results that are not tensors, or none at all."""
    if not outputs:
        raise RuntimeError(
            f"{api}: Expected f to be a function that has non-empty output (got output = {outputs})"
        )
    for output in outputs:
        if not isinstance(output, Tensor):
            raise RuntimeError(
                f"{api}: expected f(*primals) to return only tensors, got unsupported type "
                f"{type(output)}"
            )


def pretty(spec: TreeSpec) -> str:
    """A spec as the tree it describes, with stars for leaves."""
    return str(tree_unflatten([_STAR] * spec.num_leaves, spec))


class _Star:
    def __repr__(self) -> str:
        return "*"


_STAR = _Star()


def vjp_with_argnums(
    func: Callable[..., Any],
    primals: tuple[Any, ...],
    argnums: Argnums | None,
    has_aux: bool,
) -> tuple[Any, Callable[..., Any], Any]:
    """`vjp` with respect to some of the arguments: the value, the function, and what is beside."""
    api = "vjp(f, *primals)"
    with transforming() as recording:
        if argnums is None:
            own, lifted = _lift(primals)
            chosen: Any = primals
            output = func(*lifted)
        else:
            chosen = slice_argnums(primals, argnums)
            own, lifted = _lift(chosen)
            output = func(*replace_args(primals, lifted, argnums))
        aux = None
        if has_aux:
            output, aux = _with_aux(output, api)
            aux = _cut(aux, own, recording)
        outputs, output_spec = tree_flatten(output)
        check_outputs(outputs, api)
        for t in outputs:
            if not t.is_floating_point():
                raise RuntimeError(
                    "vjp(f, ...): All outputs of f must be floating-point or complex Tensors, got "
                    f"Tensor with dtype {t.dtype}"
                )
        results = _cut(output, own, recording)
    primals_spec = tree_flatten(chosen)[1]

    def vjp_fn(cotangents: Any, retain_graph: bool = True, create_graph: bool | None = None) -> Any:
        if create_graph is None:
            create_graph = is_grad_enabled()
        flat, spec = tree_flatten(cotangents)
        if spec != output_spec:
            raise RuntimeError(
                "Expected pytree structure of cotangents to be the same as pytree structure of "
                f"outputs to the function. cotangents: {pretty(spec)}, "
                f"primal output: {pretty(output_spec)}"
            )
        for i, (g, t) in enumerate(zip(flat, outputs, strict=True)):
            if g is None:
                if t.numel() != 1:
                    raise RuntimeError("grad can be implicitly created only for scalar outputs")
                flat[i] = wengert.ones_like(t.detach())
                continue
            if g.shape != t.shape:
                raise RuntimeError(
                    f"Mismatch in shape: grad_output[{i}] has a shape of {g.shape} and output[{i}] "
                    f"has a shape of {t.shape}."
                )
        with outside_inference_mode():
            grads = _core._transform_gradients(outputs, flat, own, create_graph, retain_graph)
        return tree_unflatten(grads, primals_spec)

    return results, vjp_fn, aux


def vjp(func: Callable[..., Any], *primals: Any, has_aux: bool = False) -> Any:
    """The value of a function and its vector-Jacobian product.

    Parameters
    ----------
    func : callable
        Gives a nest of floating-point tensors, or with `has_aux` a pair of one and auxiliary
        tensors.
    *primals : tensors, or nests of tensors
        Its arguments.
    has_aux : bool
        Whether `func` gives auxiliary tensors as well.

    Returns
    -------
    output : nest of Tensor
        The value.
    vjp_fn : callable
        Takes cotangents in the structure of the value and gives a tuple: for each of `primals` the
        gradient of the products' sum.
    aux : nest of Tensor
        With `has_aux`.

    Raises
    ------
    RuntimeError
        If results are not floating-point tensors, or cotangents do not look like them.

    Examples
    --------
    >>> import wengert
    >>> from wengert.func import vjp
    >>> y, pull_back = vjp(lambda x: x * x, wengert.tensor([1.0, 2.0]))
    >>> pull_back(wengert.tensor([1.0, 10.0]))
    (tensor([ 2., 40.]),)
    """
    output, vjp_fn, aux = vjp_with_argnums(func, primals, None, has_aux)
    return (output, vjp_fn, aux) if has_aux else (output, vjp_fn)
