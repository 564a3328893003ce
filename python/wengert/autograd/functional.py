r"""Derivatives of functions: `jacobian`, `hessian` and their products with vectors.

For a function :math:`f` of tensors with Jacobian :math:`J` at the given inputs:

- `vjp`: :math:`v^T J`, one backward pass.
- `jvp`: :math:`J v`, two. What comes out of backward, :math:`g(w) = w^T J`, is linear in what goes
  in, so its own backward pass turns `v` into :math:`J v`. (`wengert.autograd.forward_ad` needs
  none.) The point :math:`w` does not matter and is zero.
- `jacobian`: a row at a time; all rows at once with ``vectorize=True``, as a batch of vectors, or
  with forward mode all columns, as a batch of tangents.
- `vhp`, `hvp`: a vector and the Hessian of a function with one number as its value: a product as
  above with the Jacobian of the gradient. `hvp` goes through two more passes than `vhp` and is the
  same for twice continuously differentiable functions.
- `hessian`: the Jacobian of the gradient.

Two rules hold for all of them. The function sees new tensors, never the ones that were passed in,
so that an input that the function also reaches by another way (a closure) is a constant there. And
without ``create_graph`` nothing that is returned has a history.

An input that an output does not depend on has a zero derivative. ``strict=True`` makes it an error,
since it is often a mistake (a `detach` too many).
"""

from __future__ import annotations

from wengert._core import (
    Tensor,
    enable_grad,
    eye,
    is_grad_enabled,
    set_grad_enabled,
    stack,
    zeros,
    zeros_like,
)

from ._functional_parts import (
    RESULT,
    check_connected,
    filled,
    gradients,
    input_vector,
    own,
    result,
    single_element,
    tensors_of,
    vector,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Literal, TypeAlias

    from ._functional_parts import Given, Tensors

    Strategy: TypeAlias = Literal["forward-mode", "reverse-mode"]

__all__ = ["hessian", "hvp", "jacobian", "jvp", "vhp", "vjp"]

_STRATEGIES = ("forward-mode", "reverse-mode")


def vjp(
    func: Callable[..., Given],
    inputs: Given,
    v: Given | None = None,
    create_graph: bool = False,
    strict: bool = False,
) -> tuple[Given, Given]:
    """Multiply a vector with the Jacobian of `func` at `inputs`.

    Parameters
    ----------
    func
        Takes the `inputs` as positional arguments and returns a tensor or a tuple of them.
    inputs
        A tensor or a tuple of them.
    v
        The vector: as many tensors as `func` returns, of the same shapes. May be left out if `func`
        returns a single number, and is 1 then.
    create_graph
        Give both results a history.
    strict
        Raise an error if an input does not take part, instead of returning zeros for it.

    Returns
    -------
    outputs, product
        What `func` returned, and a tensor per input, of its shape.

    Raises
    ------
    TypeError
        If inputs, `v` or what `func` returns are not tensors.
    RuntimeError
        If `v` does not have the outputs' shapes; if `strict` and an input does not take part.

    Examples
    --------
    >>> import wengert
    >>> from wengert.autograd.functional import vjp
    >>> x = wengert.tensor([[1.0, 2.0], [3.0, 4.0]])
    >>> vjp(lambda x: x.sum(dim=1), x, wengert.tensor([1.0, 10.0]))
    (tensor([3., 7.]), tensor([[ 1.,  1.],
            [10., 10.]]))
    """
    with enable_grad():
        several_inputs, xs = tensors_of(inputs, "inputs", "vjp")
        xs = own(xs, create_graph, differentiable=True)
        several_outputs, ys = tensors_of(func(*xs), RESULT, "vjp")
        check_connected(ys, "outputs", strict)
        if v is not None:
            vs = vector(v, ys, several_outputs, create_graph, "vjp")
        elif len(ys) == 1 and ys[0].numel() == 1:
            vs = None
        else:
            raise RuntimeError(
                "The vector v can only be None if the user-provided function returns a single "
                "Tensor with a single element."
            )
    with set_grad_enabled(create_graph or is_grad_enabled()):
        product = filled(gradients(ys, xs, vs, create_graph), xs, strict, create_graph, "back")
    return result(ys, several_outputs, create_graph), result(product, several_inputs, create_graph)


def jvp(
    func: Callable[..., Given],
    inputs: Given,
    v: Given | None = None,
    create_graph: bool = False,
    strict: bool = False,
) -> tuple[Given, Given]:
    """Multiply the Jacobian of `func` at `inputs` with a vector.

    Parameters
    ----------
    func, inputs, create_graph, strict
        As for `vjp`.
    v
        The vector: as many tensors as there are inputs, of the same shapes. May be left out if the
        input is a single number, and is 1 then.

    Returns
    -------
    outputs, product
        What `func` returned, and a tensor per output, of its shape.

    Raises
    ------
    TypeError
        If inputs, `v` or what `func` returns are not tensors.
    RuntimeError
        If `v` does not have the inputs' shapes; if `strict` and an input does not take part.

    Examples
    --------
    >>> import wengert
    >>> from wengert.autograd.functional import jvp
    >>> x = wengert.tensor([[1.0, 2.0], [3.0, 4.0]])
    >>> jvp(lambda x: x.sum(dim=1), x, wengert.tensor([[1.0, 10.0], [2.0, 20.0]]))
    (tensor([3., 7.]), tensor([11., 22.]))
    """
    with enable_grad():
        several_inputs, xs = tensors_of(inputs, "inputs", "jvp")
        xs = own(xs, create_graph, differentiable=True)
        vs = input_vector(
            v, xs, several_inputs, create_graph, "jvp", "input to the user-provided function"
        )
        several_outputs, ys = tensors_of(func(*xs), RESULT, "jvp")
        check_connected(ys, "outputs", strict)
        ws = tuple(zeros_like(y, requires_grad=True) for y in ys)
        linear = gradients(ys, xs, ws, create_graph=True)
        check_connected(linear, "grad_inputs", strict)
    with set_grad_enabled(create_graph or is_grad_enabled()):
        product = filled(
            gradients(linear, ws, vs, create_graph), ys, strict, create_graph, "back_trick"
        )
    return result(ys, several_outputs, create_graph), result(product, several_outputs, create_graph)


def jacobian(
    func: Callable[..., Given],
    inputs: Given,
    create_graph: bool = False,
    strict: bool = False,
    vectorize: bool = False,
    strategy: Strategy = "reverse-mode",
) -> Any:
    """Compute the Jacobian of `func` at `inputs`.

    Parameters
    ----------
    func, inputs, create_graph, strict
        As for `vjp`.
    vectorize
        Compute all rows in one batched pass instead of a pass per row.
    strategy : {"reverse-mode", "forward-mode"}
        ``"forward-mode"``, which needs `vectorize`, computes columns: better for functions with
        more outputs than inputs.

    Returns
    -------
    Tensor or tuple
        For a single output and input a tensor of the output's shape followed by the input's;
        ``jacobian[i][j]`` for tuples of both; a tuple if one of them is one.

    Raises
    ------
    TypeError
        If inputs or what `func` returns are not tensors.
    RuntimeError
        If `strict` and an input does not take part, and for combinations of arguments that do not
        go together.

    Examples
    --------
    >>> import wengert
    >>> from wengert.autograd.functional import jacobian
    >>> x, y = wengert.tensor([1.0, 2.0]), wengert.tensor([3.0, 4.0])
    >>> jacobian(lambda x: x * x, x)
    tensor([[2., 0.],
            [0., 4.]])
    >>> jacobian(lambda x, y: 2 * x + 3 * y, (x, y))
    (tensor([[2., 0.],
            [0., 2.]]), tensor([[3., 0.],
            [0., 3.]]))
    """
    if strategy not in _STRATEGIES:
        raise AssertionError(
            'Expected strategy to be either "forward-mode" or "reverse-mode". Hint: If your '
            'function has more outputs than inputs, "forward-mode" tends to be more performant. '
            'Otherwise, prefer to use "reverse-mode".'
        )
    if strategy == "forward-mode":
        if create_graph:
            raise NotImplementedError(
                "torch.autograd.functional.jacobian: `create_graph=True` and "
                '`strategy="forward-mode"` are not supported together (yet). Please either set '
                '`create_graph=False` or `strategy="reverse-mode"`.'
            )
        return _columns(func, inputs, strict, vectorize)
    with enable_grad():
        several_inputs, xs = tensors_of(inputs, "inputs", "jacobian")
        xs = own(xs, create_graph, differentiable=True)
        several_outputs, ys = tensors_of(func(*xs), RESULT, "jacobian")
        check_connected(ys, "outputs", strict)
        if vectorize and strict:
            raise RuntimeError(
                "torch.autograd.functional.jacobian: `strict=True` and `vectorized=True` are not "
                "supported together. Please either set `strict=False` or `vectorize=False`."
            )
        if vectorize:
            matrix = _rows_at_once(ys, xs, create_graph)
        else:
            matrix = tuple(_rows(i, y, xs, create_graph, strict) for i, y in enumerate(ys))
    blocks = tuple(result(row, several_inputs, create_graph) for row in matrix)
    return blocks if several_outputs else blocks[0]


def hessian(
    func: Callable[..., Tensor],
    inputs: Given,
    create_graph: bool = False,
    strict: bool = False,
    vectorize: bool = False,
    outer_jacobian_strategy: Strategy = "reverse-mode",
) -> Any:
    """Compute the Hessian of `func` at `inputs`.

    Parameters
    ----------
    func
        Returns one tensor with one element.
    inputs, create_graph, strict
        As for `vjp`.
    vectorize, outer_jacobian_strategy
        How the Jacobian of the gradient is computed, see `jacobian`.

    Returns
    -------
    Tensor or tuple of tuple of Tensor
        For a single input a tensor with its shape twice; else ``hessian[i][j]`` for the inputs `i`
        and `j`.

    Raises
    ------
    TypeError
        If inputs or what `func` returns are not tensors.
    RuntimeError
        If `func` returns anything but one element; if `strict` and an input does not take part.

    Examples
    --------
    >>> import wengert
    >>> from wengert.autograd.functional import hessian
    >>> hessian(lambda x: (x**3).sum(), wengert.tensor([1.0, 2.0]))
    tensor([[ 6.,  0.],
            [ 0., 12.]])
    """
    several_inputs, xs = tensors_of(inputs, "inputs", "hessian")
    if outer_jacobian_strategy not in _STRATEGIES:
        raise AssertionError('Expected strategy to be either "forward-mode" or "reverse-mode".')

    def number(*xs: Tensor) -> Tensor:
        y = func(*xs)
        return single_element(y, "hessian", strict).squeeze()

    def gradient(*xs: Tensor) -> Tensors:
        if outer_jacobian_strategy == "forward-mode":
            # Of tangents and batches, which a tensor of one's own would not have.
            from wengert import func as transforms

            by_input: Tensors = transforms.grad(number, tuple(range(len(xs))))(*xs)
            return by_input
        found: Tensors = jacobian(number, xs, create_graph=True)
        check_connected(found, "jacobian", strict)
        return found

    found = jacobian(
        gradient,
        xs,
        create_graph=create_graph,
        strict=strict,
        vectorize=vectorize,
        strategy=outer_jacobian_strategy,
    )
    return found if several_inputs else found[0][0]


def vhp(
    func: Callable[..., Tensor],
    inputs: Given,
    v: Given | None = None,
    create_graph: bool = False,
    strict: bool = False,
) -> tuple[Given, Given]:
    """Multiply a vector with the Hessian of `func` at `inputs`.

    Parameters
    ----------
    func
        Returns one tensor with one element.
    v
        The vector: as many tensors as there are inputs, of the same shapes. May be left out if the
        input is a single number, and is 1 then.
    inputs, create_graph, strict
        As for `vjp`.

    Returns
    -------
    output, product
        What `func` returned, and a tensor per input, of its shape.

    Examples
    --------
    >>> import wengert
    >>> from wengert.autograd.functional import vhp
    >>> x, v = wengert.tensor([1.0, 2.0]), wengert.tensor([10.0, 100.0])
    >>> vhp(lambda x: (x**3).sum(), x, v)
    (tensor(9.), tensor([  60., 1200.]))
    """
    return _hessian_product(func, inputs, v, create_graph, strict, transposed=True)


def hvp(
    func: Callable[..., Tensor],
    inputs: Given,
    v: Given | None = None,
    create_graph: bool = False,
    strict: bool = False,
) -> tuple[Given, Given]:
    """Multiply the Hessian of `func` at `inputs` with a vector.

    The same as `vhp`, which needs fewer passes, if the second derivatives are continuous.

    Parameters
    ----------
    func, inputs, v, create_graph, strict
        As for `vhp`.

    Returns
    -------
    output, product
        What `func` returned, and a tensor per input, of its shape.

    Examples
    --------
    >>> import wengert
    >>> from wengert.autograd.functional import hvp
    >>> x, v = wengert.tensor([1.0, 2.0]), wengert.tensor([10.0, 100.0])
    >>> hvp(lambda x: (x**3).sum(), x, v)
    (tensor(9.), tensor([  60., 1200.]))
    """
    return _hessian_product(func, inputs, v, create_graph, strict, transposed=False)


def _hessian_product(
    func: Callable[..., Tensor],
    inputs: Given,
    v: Given | None,
    create_graph: bool,
    strict: bool,
    *,
    transposed: bool,
) -> tuple[Given, Given]:
    name = "vhp" if transposed else "hvp"
    with enable_grad():
        several_inputs, xs = tensors_of(inputs, "inputs", name)
        xs = own(xs, create_graph, differentiable=True)
        vs = input_vector(
            v, xs, several_inputs, create_graph, name, "input to the user-provided function"
        )
        y = single_element(func(*xs), name, strict)
        gradient = gradients((y,), xs, None, create_graph=True)
        check_connected(gradient, "jacobian", strict)
        if not transposed:
            ws = tuple(zeros_like(x, requires_grad=True) for x in xs)
            linear = gradients(gradient, xs, ws, create_graph=True)
    with set_grad_enabled(create_graph or is_grad_enabled()):
        if transposed:
            found, stage = gradients(gradient, xs, vs, create_graph), "double_back"
        else:
            found, stage = gradients(linear, ws, vs, create_graph), "double_back_trick"
        product = filled(found, xs, strict, create_graph, stage)
    return result((y,), False, create_graph), result(product, several_inputs, create_graph)


# ---- blocks of a Jacobian ------------------------------------------------------------------------


def _rows(place: int, y: Tensor, xs: Tensors, create_graph: bool, strict: bool) -> Tensors:
    """The blocks of one output, one per input."""
    rows: list[list[Tensor]] = [[] for _ in xs]
    basis = eye(y.numel(), dtype=y.dtype)
    for direction in basis:
        found = gradients((y,), xs, (direction.view(y.shape),), create_graph, retain_graph=True)
        for k, (x, g) in enumerate(zip(xs, found, strict=True)):
            if g is None and strict:
                raise RuntimeError(
                    f"Output {place} of the user-provided function is independent of input {k}. "
                    "This is not allowed in strict mode."
                )
            if g is not None and strict and create_graph and not g.requires_grad:
                raise RuntimeError(
                    "The jacobian of the user-provided function is independent of input "
                    f"{k}. This is not allowed in strict mode when create_graph=True."
                )
            rows[k].append(zeros_like(x) if g is None else g)
    return tuple(
        (stack(found) if found else zeros(0, *x.shape, dtype=x.dtype)).view(y.shape + x.shape)
        for x, found in zip(xs, rows, strict=True)
    )


def _construct_standard_basis_for(tensors: Tensors, numels: tuple[int, ...]) -> Tensors:
    """The unit vectors of all elements of `tensors` together, a row each, cut up by tensor.

    For ``numels == (1, 2)`` the rows of the first part are ``1, 0, 0`` and those of the second
    ``00, 10, 01``. Each part has its tensor's dtype.
    """
    total = sum(numels)
    parts = []
    start = 0
    for x, numel in zip(tensors, numels, strict=True):
        parts.append(eye(total, dtype=x.dtype)[:, start : start + numel])
        start += numel
    return tuple(parts)


def _rows_at_once(ys: Tensors, xs: Tensors, create_graph: bool) -> tuple[Tensors, ...]:
    """All blocks by one batched pass over all outputs."""
    numels = tuple(y.numel() for y in ys)
    basis = _construct_standard_basis_for(ys, numels)
    flat = tuple(y.reshape(-1) for y in ys)
    found = gradients(flat, xs, basis, create_graph, is_grads_batched=True)
    total = sum(numels)
    columns = [
        zeros(total, *x.shape, dtype=x.dtype) if g is None else g
        for x, g in zip(xs, found, strict=True)
    ]
    by_input = [column.split(numels) for column in columns]
    return tuple(
        tuple(blocks[i].reshape(y.shape + x.shape) for x, blocks in zip(xs, by_input, strict=True))
        for i, y in enumerate(ys)
    )


def _columns(func: Callable[..., Given], inputs: Given, strict: bool, vectorize: bool) -> Any:
    """The Jacobian by forward mode, all tangents at once. Results keep the history they have."""
    if strict:
        raise RuntimeError(
            'torch.autograd.functional.jacobian: `strict=True` and `strategy="forward-mode"` are '
            "not supported together (yet). Please either set `strict=False` or "
            '`strategy="reverse-mode"`.'
        )
    several_inputs, xs = tensors_of(inputs, "inputs", "jacobian")
    if not vectorize:
        raise NotImplementedError(
            "Computing Jacobian using forward-AD or forward-over-reverse Hessian is"
            "only implemented for `vectorize=True`."
        )
    from wengert.func import vmap

    from . import forward_ad

    shapes: list[Any] = []
    several_outputs = False

    def tangents(*directions: Tensor) -> Tensors:
        nonlocal several_outputs
        with forward_ad.dual_level():
            duals = [
                forward_ad.make_dual(x, d.view(x.shape))
                for x, d in zip(xs, directions, strict=True)
            ]
            several_outputs, ys = tensors_of(func(*duals), "outputs", "jacobian")
            found = []
            for y in ys:
                primal, tangent = forward_ad.unpack_dual(y)
                shapes.append(primal.shape)
                found.append(zeros_like(primal) if tangent is None else tangent)
        return tuple(found)

    numels = tuple(x.numel() for x in xs)
    basis = _construct_standard_basis_for(xs, numels)
    columns: Tensors = vmap(tangents)(*basis)
    matrix = tuple(
        tuple(
            part.movedim(0, -1).reshape(*shape, *x.shape)
            for part, x in zip(column.split(numels), xs, strict=True)
        )
        for column, shape in zip(columns, shapes, strict=True)
    )
    blocks = tuple(row if several_inputs else row[0] for row in matrix)
    return blocks if several_outputs else blocks[0]
