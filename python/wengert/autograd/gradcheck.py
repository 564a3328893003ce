r"""Gradients against finite differences: `gradcheck` and `gradgradcheck`.

For each pair of an output :math:`y` and an input :math:`x` there are two ways to the Jacobian
:math:`J = \partial y / \partial x`:

- *numerical*, a column at a time: nudge one entry of :math:`x` by ``eps`` up and down and
  divide the change of :math:`y` by ``2 * eps``;
- *analytical*, a row at a time: ask the recorded graph for :math:`e_i^T J`.

They must agree. The fast mode compares one number instead, :math:`v^T J u` with random
non-negative unit vectors :math:`u, v`: two evaluations of the function and one backward pass per
pair, whatever the size. A wrong entry is missed only if others cancel it.

Second derivatives need no second method: `gradgradcheck` is `gradcheck` of the function that
returns the gradients.

The nudge is written into the input itself, not into a copy, so that a function that reaches the
tensor by another way (a closure, a module's parameter) is checked too. All comparing is done in
NumPy's float64.
"""

from __future__ import annotations

from wengert._core import Generator, Tensor, float64, grad, rand, zeros, zeros_like

from .grad_mode import no_grad

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["GradcheckError", "gradcheck", "gradgradcheck"]


class GradcheckError(RuntimeError):
    """A gradient is wrong, or a backward pass breaks a rule that all must keep."""


def gradcheck(
    func: Callable[..., Tensor | Sequence[Tensor]],
    inputs: Tensor | Sequence[Any],
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
    nondet_tol: float = 0.0,
    check_undefined_grad: bool = True,
    check_grad_dtypes: bool = False,
    check_batched_grad: bool = False,
    check_batched_forward_grad: bool = False,
    check_forward_ad: bool = False,
    check_backward_ad: bool = True,
    fast_mode: bool = False,
    masked: bool | None = None,  # noqa: ARG001
) -> bool:
    """Compare the gradients of `func` with finite differences.

    Parameters
    ----------
    func
        Takes `inputs` as positional arguments, returns a tensor or several.
    inputs
        The arguments. Those tensors that require a gradient are checked; they should be
        float64, since the defaults below suit nothing else, and their values should stay a few
        `eps` away from kinks.
    eps
        Step of the finite differences.
    atol, rtol
        The two Jacobians may differ by ``atol + rtol * abs(numerical)``.
    raise_exception
        Raise `GradcheckError` with both Jacobians instead of returning ``False``.
    nondet_tol
        By how much two backward passes over the same graph may differ.
    check_undefined_grad
        Also check that outputs without a gradient count as outputs with a zero gradient.
    check_grad_dtypes
        Also check that gradients have the dtype of their inputs.
    fast_mode
        Compare random projections of the Jacobians instead of all their entries.
    check_backward_ad
        Must stay true: reverse mode is the only mode.
    check_forward_ad, check_batched_grad, check_batched_forward_grad
        Part of PyTorch's signature; must stay false.
    masked
        Concerns sparse tensors, of which there are none; without effect.

    Returns
    -------
    bool
        Whether all gradients agree.

    Raises
    ------
    GradcheckError
        If they do not, and `raise_exception` is true.
    ValueError
        If no input requires a gradient.
    RuntimeError
        If an input's memory overlaps itself (an expanded tensor).
    NotImplementedError
        If a check is asked for that needs forward-mode differentiation or ``vmap``.

    Examples
    --------
    >>> import wengert
    >>> x = wengert.tensor([0.5, 1.5], dtype=wengert.float64, requires_grad=True)
    >>> wengert.autograd.gradcheck(lambda x: x.exp() / x, x)
    True

    A function that hides a factor from the graph has a wrong gradient:

    >>> wengert.autograd.gradcheck(lambda x: x * x.detach(), x, raise_exception=False)
    False
    """
    if not (check_forward_ad or check_backward_ad):
        raise AssertionError(
            "Expected at least one of check_forward_ad or check_backward_ad to be True"
        )
    _refuse_unavailable(
        check_forward_ad=check_forward_ad,
        check_batched_grad=check_batched_grad,
        check_batched_forward_grad=check_batched_forward_grad,
    )
    arguments = _as_tuple(inputs)
    checked = _checked_inputs(arguments)

    # Called anew for each graph: nudging the inputs outdates what earlier graphs have saved.
    def evaluate() -> tuple[Tensor, ...]:
        return _as_tuple(func(*arguments))

    compare = _compare_projections if fast_mode else _compare_jacobians
    try:
        compare(evaluate, checked, eps, atol, rtol, nondet_tol)
        _check_zero_grad(evaluate, checked, check_grad_dtypes)
        if check_undefined_grad:
            _check_undefined_grad(evaluate, checked)
    except GradcheckError:
        if raise_exception:
            raise
        return False
    return True


def gradgradcheck(
    func: Callable[..., Tensor | Sequence[Tensor]],
    inputs: Tensor | Sequence[Any],
    grad_outputs: Tensor | Sequence[Tensor] | None = None,
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    gen_non_contig_grad_outputs: bool = False,
    raise_exception: bool = True,
    nondet_tol: float = 0.0,
    check_undefined_grad: bool = True,
    check_grad_dtypes: bool = False,
    check_batched_grad: bool = False,
    check_fwd_over_rev: bool = False,
    check_rev_over_rev: bool = True,
    fast_mode: bool = False,
    masked: bool = False,
) -> bool:
    """Compare the second derivatives of `func` with finite differences of the first.

    Checks the function that maps `inputs` and `grad_outputs` to the gradients of `func`, so both
    how a gradient depends on the inputs and that it is linear in the incoming gradient.

    Parameters
    ----------
    grad_outputs
        The gradients that arrive at the outputs of `func`; by default random ones from
        [-1, 1), which leave the global random stream alone.
    gen_non_contig_grad_outputs
        Make those random gradients non-contiguous.
    func, inputs, eps, atol, rtol, raise_exception, nondet_tol, check_undefined_grad, \
check_grad_dtypes, check_batched_grad, fast_mode, masked
        As for `gradcheck`.
    check_fwd_over_rev, check_rev_over_rev
        The second must stay true and the first false: there is no forward mode.

    Returns
    -------
    bool
        Whether all second derivatives agree.

    Examples
    --------
    >>> import wengert
    >>> x = wengert.tensor([0.5, 1.5], dtype=wengert.float64, requires_grad=True)
    >>> wengert.autograd.gradgradcheck(lambda x: x.sin() * x, x)
    True
    """
    if not (check_fwd_over_rev or check_rev_over_rev):
        raise AssertionError(
            "Expected at least one of check_fwd_over_rev or check_rev_over_rev to be True"
        )
    _refuse_unavailable(check_fwd_over_rev=check_fwd_over_rev)
    arguments = _as_tuple(inputs)
    if grad_outputs is None:
        generator = Generator()
        incoming: tuple[Tensor, ...] = tuple(
            _random_grad(y, generator, strided=gen_non_contig_grad_outputs)
            for y in _as_tuple(func(*arguments))
            if y.requires_grad
        )
    else:
        incoming = _as_tuple(grad_outputs)
    count = len(arguments)

    def gradients(*both: Any) -> tuple[Tensor, ...]:
        arguments, incoming = both[:count], both[count:]
        outputs = [y for y in _as_tuple(func(*arguments)) if y.requires_grad]
        found = grad(
            outputs,
            [x for _, x in _requiring_grad(arguments)],
            incoming,
            create_graph=True,
            allow_unused=True,
        )
        return tuple(g for g in found if g is not None)

    return gradcheck(
        gradients,
        (*arguments, *incoming),
        eps=eps,
        atol=atol,
        rtol=rtol,
        raise_exception=raise_exception,
        nondet_tol=nondet_tol,
        check_undefined_grad=check_undefined_grad,
        check_grad_dtypes=check_grad_dtypes,
        check_batched_grad=check_batched_grad,
        fast_mode=fast_mode,
        masked=masked,
    )


# ---- the two comparisons -------------------------------------------------------------------------

# An input with its place among the arguments.
if TYPE_CHECKING:
    Place = tuple[int, Tensor]
    Evaluate = Callable[[], tuple[Tensor, ...]]


def _compare_jacobians(
    evaluate: Evaluate,
    checked: list[Place],
    eps: float,
    atol: float,
    rtol: float,
    nondet_tol: float,
) -> None:
    numerical = [_numerical_jacobians(evaluate, x, eps) for _, x in checked]
    for index, y in _numbered_differentiable(evaluate(), numerical):
        analytical = _analytical_jacobians(y, [x for _, x in checked], nondet_tol)
        for (place, _), columns, a in zip(checked, numerical, analytical, strict=True):
            n = columns[index]
            if not _close(a, n, atol, rtol):
                raise GradcheckError(_mismatch(index, place, n, a))


def _compare_projections(
    evaluate: Evaluate,
    checked: list[Place],
    eps: float,
    atol: float,
    rtol: float,
    nondet_tol: float,
) -> None:
    generator = Generator()
    us = [_random_direction(x, generator) for _, x in checked]
    vs = [_random_direction(y, generator) for y in evaluate()]
    numerical = []
    for (_, x), u in zip(checked, us, strict=True):
        changes = _central_difference(evaluate, x, _everywhere(x, u), eps)
        numerical.append([_dot(v, change) for v, change in zip(vs, changes, strict=True)])
    for index, y in _numbered_differentiable(evaluate(), numerical):
        v = _unflatten(vs[index], y)
        gradients = _repeatable_vjp(y, [x for _, x in checked], v, nondet_tol)
        rows = zip(checked, us, numerical, gradients, strict=True)
        for (place, x), u, projections, g in rows:
            a, n = _dot(u, g), projections[index]
            # An error of `atol` in every entry of J moves the projection by this much.
            scaled_atol = atol * float(u.sum()) * float(vs[index].sum())
            if not _close(a, n, scaled_atol, rtol):
                full_n = _numerical_jacobians(evaluate, x, eps)[index]
                full_a = _analytical_jacobians(evaluate()[index], [x], nondet_tol)[0]
                message = _mismatch(index, place, n, a) + (
                    "\nThe numbers above are projections of the Jacobians on random vectors "
                    "(fast mode). The whole Jacobians:\n\n"
                    f"Numerical:\n {full_n}\nAnalytical:\n{full_a}\n\n"
                    "The max per-element difference (slow mode) is: "
                    f"{_largest_difference(full_n, full_a)}.\n"
                )
                if _close(full_a, full_n, atol, rtol):
                    message += (
                        "Fast gradcheck failed but element-wise differences are small. "
                        "The test might pass with fast_mode=False.\n"
                    )
                raise GradcheckError(message)


def _numbered_differentiable(
    outputs: tuple[Tensor, ...], numerical: list[Any]
) -> Iterator[tuple[int, Tensor]]:
    """The differentiable outputs with their places; the others must not depend on the inputs."""
    if not any(y.requires_grad for y in outputs):
        for per_output in numerical:
            if any(_largest_difference(j, 0.0) > 0 for j in per_output):
                raise GradcheckError("Numerical gradient for function expected to be zero")
    return ((index, y) for index, y in enumerate(outputs) if y.requires_grad)


def _mismatch(output: int, place: int, numerical: object, analytical: object) -> str:
    return (
        f"Jacobian mismatch for output {output} with respect to input {place},\n"
        f"numerical:{numerical}\nanalytical:{analytical}\n"
    )


# ---- the numerical side --------------------------------------------------------------------------


def _numerical_jacobians(evaluate: Evaluate, x: Tensor, eps: float) -> list[Array]:
    """For each output its Jacobian with respect to `x`, of shape (x.numel(), output.numel())."""
    import numpy as np

    jacobians = [np.zeros((x.numel(), y.numel())) for y in evaluate()]
    for row, index in enumerate(np.ndindex(*x.shape)):
        changes = _central_difference(evaluate, x, [(index, 1.0)], eps)
        for jacobian, change in zip(jacobians, changes, strict=True):
            jacobian[row] = change
    return jacobians


def _central_difference(
    evaluate: Evaluate,
    x: Tensor,
    direction: list[tuple[tuple[int, ...], float]],
    eps: float,
) -> list[Array]:
    """The directional derivative of each output, flattened; `direction` lists entries of `x`."""
    memory = x.detach()
    before = [(index, memory[index].item(), weight) for index, weight in direction]

    def at(step: float) -> tuple[Tensor, ...]:
        for index, value, weight in before:
            memory[index] = value + step * weight
        return tuple(y.detach().clone() for y in evaluate())

    try:
        above, below = at(eps), at(-eps)
    finally:
        for index, value, _ in before:
            memory[index] = value
    for a, b in zip(above, below, strict=True):
        if a.shape != b.shape or a.dtype != b.dtype:
            raise GradcheckError(
                f"func returned shape {tuple(a.shape)} of {a.dtype} for an input moved by {eps}, "
                f"but shape {tuple(b.shape)} of {b.dtype} for one moved by {-eps}"
            )
    return [(_flat(a) - _flat(b)) / (2 * eps) for a, b in zip(above, below, strict=True)]


# ---- the analytical side -------------------------------------------------------------------------


def _analytical_jacobians(y: Tensor, inputs: list[Tensor], nondet_tol: float) -> list[Array]:
    """For each input the Jacobian of `y`, of shape (input.numel(), y.numel())."""
    import numpy as np

    jacobians = [np.zeros((x.numel(), y.numel())) for x in inputs]
    for column, index in enumerate(np.ndindex(*y.shape)):
        one_hot = zeros_like(y)
        one_hot[index] = 1.0
        for jacobian, g in zip(
            jacobians, _repeatable_vjp(y, inputs, one_hot, nondet_tol), strict=True
        ):
            jacobian[:, column] = g
    return jacobians


def _repeatable_vjp(y: Tensor, inputs: list[Tensor], v: Tensor, nondet_tol: float) -> list[Array]:
    """The flattened gradients of ``(v * y).sum()``, taken twice to see that they repeat."""
    first, second = (grad(y, inputs, v, retain_graph=True, allow_unused=True) for _ in range(2))
    flat = []
    for x, g, again in zip(inputs, first, second, strict=True):
        if g is not None and g.shape != x.shape:
            raise GradcheckError("Analytical gradient has incorrect size")
        a, b = (_flat(zeros_like(x) if t is None else t) for t in (g, again))
        if _largest_difference(a, b) > nondet_tol:
            raise GradcheckError(
                "Backward is not reentrant, i.e., running backward with same input and "
                "grad_output multiple times gives different values, although analytical gradient "
                f"matches numerical gradient. The tolerance for nondeterminism was {nondet_tol}."
            )
        flat.append(a)
    return flat


def _check_zero_grad(evaluate: Evaluate, checked: list[Place], check_grad_dtypes: bool) -> None:
    """A gradient is linear in what comes in: zeros in, zeros out, of the input's kind."""
    inputs = [x for _, x in checked]
    outputs = [y for y in evaluate() if y.requires_grad]
    if not outputs:
        return
    found = grad(outputs, inputs, [zeros_like(y) for y in outputs], allow_unused=True)
    for x, g in zip(inputs, found, strict=True):
        if g is None:
            continue
        if _flat(g).any():
            raise GradcheckError("backward not multiplied by grad_output")
        if check_grad_dtypes and g.dtype != x.dtype:
            raise GradcheckError("Gradient has dtype mismatch")
        if g.shape != x.shape:
            raise GradcheckError("grad is incorrect size")


def _check_undefined_grad(evaluate: Evaluate, checked: list[Place]) -> None:
    """An output that gets no gradient must count as one that gets zeros."""
    inputs = [x for _, x in checked]
    count = sum(y.requires_grad for y in evaluate())
    for omitted in range(count if count > 1 else 0):
        outputs = [y for y in evaluate() if y.requires_grad]
        del outputs[omitted]
        try:
            found = grad(outputs, inputs, [zeros_like(y) for y in outputs], allow_unused=True)
        except RuntimeError as error:
            raise GradcheckError(
                "Expected backward function to handle undefined output grads"
            ) from error
        if any(g is not None and _flat(g).any() for g in found):
            raise GradcheckError(
                "Expected all input grads to be undefined or zero when all output grads are "
                "undefined or zero"
            )


# ---- small parts ---------------------------------------------------------------------------------


def _refuse_unavailable(**asked: bool) -> None:
    for name, wanted in asked.items():
        if wanted:
            needs = "vmap" if "batched" in name else "forward-mode differentiation"
            raise NotImplementedError(f"{name}=True needs {needs}, which wengert does not have")


def _as_tuple(values: Any) -> tuple[Any, ...]:
    return tuple(values) if isinstance(values, tuple | list) else (values,)


def _requiring_grad(arguments: Sequence[Any]) -> list[Place]:
    return [
        (place, x) for place, x in enumerate(arguments) if isinstance(x, Tensor) and x.requires_grad
    ]


def _checked_inputs(arguments: tuple[Any, ...]) -> list[Place]:
    checked = _requiring_grad(arguments)
    if not checked:
        raise ValueError(
            "gradcheck expects at least one input tensor to require gradient, "
            "but none of them have requires_grad=True."
        )
    for place, x in checked:
        if x.dtype != float64:
            import warnings

            warnings.warn(
                f"Input #{place} requires gradient and is not a double precision floating point. "
                "This check will likely fail if all the inputs are not of double precision "
                "floating point.",
                stacklevel=3,
            )
        if any(step == 0 and size > 1 for step, size in zip(x.stride(), x.shape, strict=True)):
            raise RuntimeError(
                f"The {place}th input has a dimension with stride 0. gradcheck only supports "
                "inputs that are non-overlapping to be able to compute the numerical gradients "
                "correctly. You should call .contiguous on the input before passing it to "
                "gradcheck."
            )
    return checked


def _random_grad(y: Tensor, generator: Generator, *, strided: bool) -> Tensor:
    with no_grad():
        values = rand(y.shape, generator=generator, dtype=y.dtype) * 2 - 1
        if strided:
            # Every other entry of a buffer twice as long: the last step is 2.
            buffer = zeros((*y.shape, 2), dtype=y.dtype)
            buffer[..., 0] = values
            values = buffer[..., 0]
    return values.requires_grad_()


def _random_direction(x: Tensor, generator: Generator) -> Array:
    """A random unit vector without negative entries, so that errors seldom cancel."""
    direction = _flat(rand(x.numel(), generator=generator, dtype=float64))
    norm = float((direction * direction).sum()) ** 0.5
    return direction / norm if norm > 0 else direction


def _everywhere(x: Tensor, direction: Array) -> list[tuple[tuple[int, ...], float]]:
    import numpy as np

    return [(i, float(w)) for i, w in zip(np.ndindex(*x.shape), direction, strict=True)]


def _unflatten(values: Array, like: Tensor) -> Tensor:
    from wengert._core import tensor

    return tensor(values.tolist(), dtype=like.dtype).reshape(like.shape)


def _flat(x: Tensor) -> Array:
    array: Array = x.detach().to(float64).numpy().reshape(-1)
    return array


def _dot(a: Array, b: Array) -> float:
    return float((a * b).sum())


def _close(a: Array | float, b: Array | float, atol: float, rtol: float) -> bool:
    import numpy as np

    return bool(np.allclose(a, b, rtol=rtol, atol=atol))


def _largest_difference(a: Array | float, b: Array | float) -> float:
    import numpy as np

    return float(np.max(np.abs(np.subtract(a, b)), initial=0.0))
