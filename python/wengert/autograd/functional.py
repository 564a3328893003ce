r"""Derivatives of functions: `jacobian`, `hessian` and their products with vectors.

For a function :math:`f` of tensors with Jacobian :math:`J` at the given inputs:

- `vjp`: :math:`v^T J`, one backward pass.
- `jvp`: :math:`J v`, two. What comes out of backward, :math:`g(w) = w^T J`, is linear in what goes
  in, so its own backward pass turns `v` into :math:`J v`. (`wengert.autograd.forward_ad` needs
  none.) The point :math:`w` does not matter and is zero.
- `jacobian`: a row at a time; all rows at once with ``vectorize=True``.
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
    grad,
    is_grad_enabled,
    set_grad_enabled,
    stack,
    zeros,
    zeros_like,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any, Literal, TypeAlias

    Tensors: TypeAlias = tuple[Tensor, ...]
    Given: TypeAlias = Tensor | Tensors
    Found: TypeAlias = tuple[Tensor | None, ...]
    Strategy: TypeAlias = Literal["forward-mode", "reverse-mode"]

__all__ = ["hessian", "hvp", "jacobian", "jvp", "vhp", "vjp"]

_STRATEGIES = ("forward-mode", "reverse-mode")
_RESULT = "outputs of the user-provided function"


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
        several_inputs, xs = _tensors(inputs, "inputs", "vjp")
        xs = _own(xs, create_graph, differentiable=True)
        several_outputs, ys = _tensors(func(*xs), _RESULT, "vjp")
        _check_connected(ys, "outputs", strict)
        if v is not None:
            vs = _vector(v, ys, several_outputs, create_graph, "vjp")
        elif len(ys) == 1 and ys[0].numel() == 1:
            vs = None
        else:
            raise RuntimeError(
                "The vector v can only be None if the user-provided function returns a single "
                "Tensor with a single element."
            )
    with set_grad_enabled(create_graph or is_grad_enabled()):
        product = _filled(_grad(ys, xs, vs, create_graph), xs, strict, create_graph, "back")
    return _result(ys, several_outputs, create_graph), _result(
        product, several_inputs, create_graph
    )


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
        several_inputs, xs = _tensors(inputs, "inputs", "jvp")
        xs = _own(xs, create_graph, differentiable=True)
        vs = _input_vector(
            v, xs, several_inputs, create_graph, "jvp", "input to the user-provided function"
        )
        several_outputs, ys = _tensors(func(*xs), _RESULT, "jvp")
        _check_connected(ys, "outputs", strict)
        ws = tuple(zeros_like(y, requires_grad=True) for y in ys)
        linear = _grad(ys, xs, ws, create_graph=True)
        _check_connected(linear, "grad_inputs", strict)
    with set_grad_enabled(create_graph or is_grad_enabled()):
        product = _filled(
            _grad(linear, ws, vs, create_graph), ys, strict, create_graph, "back_trick"
        )
    return _result(ys, several_outputs, create_graph), _result(
        product, several_outputs, create_graph
    )


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
        several_inputs, xs = _tensors(inputs, "inputs", "jacobian")
        xs = _own(xs, create_graph, differentiable=True)
        several_outputs, ys = _tensors(func(*xs), _RESULT, "jacobian")
        _check_connected(ys, "outputs", strict)
        if vectorize and strict:
            raise RuntimeError(
                "torch.autograd.functional.jacobian: `strict=True` and `vectorized=True` are not "
                "supported together. Please either set `strict=False` or `vectorize=False`."
            )
        matrix = tuple(_rows(i, y, xs, create_graph, strict) for i, y in enumerate(ys))
    blocks = tuple(_result(row, several_inputs, create_graph) for row in matrix)
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
    several_inputs, xs = _tensors(inputs, "inputs", "hessian")
    if outer_jacobian_strategy not in _STRATEGIES:
        raise AssertionError('Expected strategy to be either "forward-mode" or "reverse-mode".')

    def number(*xs: Tensor) -> Tensor:
        y = func(*xs)
        return _single_element(y, "hessian", strict).squeeze()

    def gradient(*xs: Tensor) -> Tensors:
        if outer_jacobian_strategy == "forward-mode":
            # Only what requires grad keeps its connection to the outer derivative.
            xs = tuple(x.requires_grad_() for x in xs)
        found: Tensors = jacobian(number, xs, create_graph=True)
        _check_connected(found, "jacobian", strict)
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
        several_inputs, xs = _tensors(inputs, "inputs", name)
        xs = _own(xs, create_graph, differentiable=True)
        vs = _input_vector(
            v, xs, several_inputs, create_graph, name, "input to the user-provided function"
        )
        y = _single_element(func(*xs), name, strict)
        gradient = _grad((y,), xs, None, create_graph=True)
        _check_connected(gradient, "jacobian", strict)
        if not transposed:
            ws = tuple(zeros_like(x, requires_grad=True) for x in xs)
            linear = _grad(gradient, xs, ws, create_graph=True)
    with set_grad_enabled(create_graph or is_grad_enabled()):
        if transposed:
            found, stage = _grad(gradient, xs, vs, create_graph), "double_back"
        else:
            found, stage = _grad(linear, ws, vs, create_graph), "double_back_trick"
        product = _filled(found, xs, strict, create_graph, stage)
    return _result((y,), False, create_graph), _result(product, several_inputs, create_graph)


# ---- blocks of a Jacobian ------------------------------------------------------------------------


def _rows(place: int, y: Tensor, xs: Tensors, create_graph: bool, strict: bool) -> Tensors:
    """The blocks of one output, one per input."""
    rows: list[list[Tensor]] = [[] for _ in xs]
    basis = eye(y.numel(), dtype=y.dtype)
    for direction in basis:
        found = _grad((y,), xs, (direction.view(y.shape),), create_graph, retain_graph=True)
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


def _columns(func: Callable[..., Given], inputs: Given, strict: bool, vectorize: bool) -> Any:
    """The Jacobian by forward mode. Results keep the history that they have."""
    if strict:
        raise RuntimeError(
            'torch.autograd.functional.jacobian: `strict=True` and `strategy="forward-mode"` are '
            "not supported together (yet). Please either set `strict=False` or "
            '`strategy="reverse-mode"`.'
        )
    xs = _tensors(inputs, "inputs", "jacobian")[1]
    if not vectorize:
        raise NotImplementedError(
            "Computing Jacobian using forward-AD or forward-over-reverse Hessian is"
            "only implemented for `vectorize=True`."
        )
    recorded = is_grad_enabled() and any(x.requires_grad for x in xs)
    return jacobian(func, inputs, create_graph=recorded)


# ---- checks --------------------------------------------------------------------------------------


def _tensors(value: Any, what: str, name: str) -> tuple[bool, Tensors]:
    """Whether there are several tensors, and a tuple of them."""
    several = isinstance(value, tuple)
    values = value if several else (value,)
    for place, x in enumerate(values):
        if not isinstance(x, Tensor):
            which = f"value at index {place}" if several else f"given {what}"
            raise TypeError(
                f"The {what} given to {name} must be either a Tensor or a tuple of Tensors but the "
                f"{which} has type {type(x)}."
            )
    return several, values


def _single_element(y: Any, name: str, strict: bool) -> Tensor:
    several, ys = _tensors(y, _RESULT, name)
    _check_connected(ys, "outputs", strict)
    if several:
        raise RuntimeError(f"The function given to {name} should return a single Tensor")
    if ys[0].numel() != 1:
        raise RuntimeError(
            f"The Tensor returned by the function given to {name} should contain a single element"
        )
    return ys[0]


def _vector(v: Given, like: Tensors, several: bool, create_graph: bool, name: str) -> Tensors:
    vs = _own(_tensors(v, "v", name)[1], create_graph, differentiable=False)
    if len(vs) != len(like):
        if several:
            raise RuntimeError(
                f"v is a tuple of invalid length: should be {len(like)} but got {len(vs)}."
            )
        raise RuntimeError("The given v should contain a single Tensor.")
    for place, (a, b) in enumerate(zip(vs, like, strict=True)):
        if a.shape != b.shape:
            which = f"Entry {place} in " if several else ""
            raise RuntimeError(f"{which}v has invalid size: should be {b.shape} but got {a.shape}.")
    return vs


def _input_vector(
    v: Given | None, xs: Tensors, several: bool, create_graph: bool, name: str, what: str
) -> Tensors | None:
    if v is not None:
        return _vector(v, xs, several, create_graph, name)
    if len(xs) == 1 and xs[0].numel() == 1:
        return None
    raise RuntimeError(
        f"The vector v can only be None if the {what} is a single Tensor with a single element."
    )


_INDEPENDENT = {
    "outputs": (
        "Output {} of the user-provided function does not require gradients. The outputs must be "
        "computed in a differentiable manner from the input when running in strict mode."
    ),
    "grad_inputs": (
        "The gradient with respect to input {} is independent of the inputs of the user-provided "
        "function. This is not allowed in strict mode."
    ),
    "jacobian": (
        "While computing the hessian, found that the jacobian of the user-provided function with "
        "respect to input {} is independent of the input. This is not allowed in strict mode. You "
        "should ensure that your function is twice differentiable and that the jacobian depends on "
        "the inputs (this would be violated by a linear function for example)."
    ),
}


def _check_connected(found: Iterable[Tensor | None], what: str, strict: bool) -> None:
    """In strict mode, refuse what does not depend on the inputs."""
    if not strict:
        return
    for place, t in enumerate(found):
        if t is None:
            raise RuntimeError(
                f"The output of the user-provided function is independent of input {place}. This "
                "is not allowed in strict mode."
            )
        if not t.requires_grad:
            raise RuntimeError(_INDEPENDENT[what].format(place))


_MISSING = {
    "back": "The output of the user-provided function is independent of input {}. This is not "
    "allowed in strict mode.",
    "back_trick": "The gradient with respect to the input is independent of entry {} in the "
    "grad_outputs when using the double backward trick to compute forward mode gradients. This is "
    "not allowed in strict mode.",
    "double_back": "The jacobian of the user-provided function is independent of input {}. This is "
    "not allowed in strict mode.",
    "double_back_trick": "The hessian of the user-provided function is independent of entry {} in "
    "the grad_jacobian. This is not allowed in strict mode as it prevents from using the double "
    "backward trick to replace forward mode AD.",
}


def _filled(found: Found, like: Tensors, strict: bool, create_graph: bool, stage: str) -> Tensors:
    """The gradients with zeros for what is missing, or in strict mode an error."""
    result = []
    for place, (g, x) in enumerate(zip(found, like, strict=True)):
        if g is None and strict:
            raise RuntimeError(_MISSING[stage].format(place))
        if g is not None and strict and create_graph and not g.requires_grad:
            which = "hessian" if stage.startswith("double") else "jacobian"
            raise RuntimeError(
                f"The {which} of the user-provided function is independent of input {place}. This "
                "is not allowed in strict mode when create_graph=True."
            )
        result.append(zeros_like(x) if g is None else g)
    return tuple(result)


# ---- small parts ---------------------------------------------------------------------------------


def _own(tensors: Tensors, create_graph: bool, *, differentiable: bool) -> Tensors:
    """Tensors of our own with the same data; with `create_graph` connected to the given ones."""
    return tuple(
        x.view_as(x)
        if create_graph and x.requires_grad
        else x.detach().requires_grad_(differentiable)
        for x in tensors
    )


def _grad(
    outputs: Sequence[Tensor | None],
    inputs: Tensors,
    vectors: Sequence[Tensor] | None,
    create_graph: bool,
    retain_graph: bool | None = None,
) -> Found:
    """`grad`, where outputs that are missing or have no history contribute nothing."""
    chosen = [(i, y) for i, y in enumerate(outputs) if y is not None and y.requires_grad]
    if not chosen:
        return (None,) * len(inputs)
    return grad(
        [y for _, y in chosen],
        inputs,
        None if vectors is None else [vectors[i] for i, _ in chosen],
        allow_unused=True,
        create_graph=create_graph,
        retain_graph=retain_graph,
    )


def _result(tensors: Tensors, several: bool, create_graph: bool) -> Given:
    if not create_graph:
        tensors = tuple(x.detach() for x in tensors)
    return tensors if several else tensors[0]
