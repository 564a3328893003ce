r"""Jacobians three ways, for `gradcheck` to compare.

For a function with outputs :math:`y` and inputs :math:`x`, :math:`J = \partial y / \partial x`:

- *numerical*, an entry of :math:`x` at a time: nudge it by ``eps`` up and down and divide the
  change of :math:`y` by ``2 * eps``;
- *by reverse mode*, an entry of :math:`y` at a time: ask the recorded graph for :math:`e_i^T J`;
- *by forward mode*, an entry of :math:`x` at a time: call the function with a tangent.

Or projected on random vectors without negative entries, so that errors seldom cancel:
:math:`v^T J u` is one number, for the price of one evaluation or pass.

The nudge is written into the input itself, not into a copy, so that a function that reaches the
tensor by another way (a closure, a module's parameter) is checked too. A write outdates what
earlier graphs have saved, so the function is called anew for each graph.

Jacobians are laid out as in PyTorch's messages: a row per entry of the input, a column per entry
of the output.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product

from wengert._core import Generator, Tensor, allclose, float64, grad, rand, zeros, zeros_like

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any


class GradcheckError(RuntimeError):
    """A gradient is wrong, or a backward pass breaks a rule that all must keep."""

    __module__ = "wengert.autograd.gradcheck"  # where users find it


@dataclass
class Problem:
    """A function, where to check it, and how exactly."""

    func: Callable[..., Any]
    arguments: tuple[Any, ...]
    eps: float
    atol: float
    rtol: float
    nondet_tol: float
    check_grad_dtypes: bool
    # The arguments that require grad, and their places among all of them.
    inputs: list[Tensor] = field(init=False)
    places: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self.places = [i for i, x in enumerate(self.arguments) if _is_checked(x)]
        self.inputs = [self.arguments[i] for i in self.places]

    def outputs(self) -> tuple[Tensor, ...]:
        """What the function returns now."""
        return as_tuple(self.func(*self.arguments))

    def differentiable(self) -> list[tuple[int, Tensor]]:
        """The outputs that require grad, numbered among those that do."""
        return list(enumerate(y for y in self.outputs() if y.requires_grad))


def as_tuple(values: Any) -> tuple[Any, ...]:
    """One value, or several, as a tuple."""
    return tuple(values) if isinstance(values, tuple | list) else (values,)


def _is_checked(x: object) -> bool:
    return isinstance(x, Tensor) and x.requires_grad


def entries(x: Tensor) -> Iterator[tuple[int, ...]]:
    """The indices of a tensor in row-major order."""
    return product(*map(range, x.shape))


# ---- numerical -----------------------------------------------------------------------------------


def numerical(problem: Problem, x: Tensor) -> list[Tensor | None]:
    """For each output the Jacobian with respect to `x`; None where it is not a real number."""
    ys = problem.outputs()
    jacobians = [_empty(x.numel(), y) if y.is_floating_point() else None for y in ys]
    for row, index in enumerate(entries(x)):
        changes = _central_difference(problem, x, _unit(x, index), index)
        for jacobian, change in zip(jacobians, changes, strict=True):
            if jacobian is not None and change is not None:
                jacobian[row] = change
    return jacobians


def numerical_projection(problem: Problem, x: Tensor, u: Tensor) -> list[Tensor | None]:
    """For each output ``J u``, flattened."""
    return _central_difference(problem, x, u.view(x.shape), None)


def _central_difference(
    problem: Problem, x: Tensor, direction: Tensor, index: tuple[int, ...] | None
) -> list[Tensor | None]:
    eps = problem.eps
    memory = x.detach()
    before = memory.clone()

    def at(step: float) -> list[Tensor]:
        memory.copy_(before + step * direction)
        return [y.detach().clone() for y in problem.outputs()]

    try:
        above, below = at(eps), at(-eps)
    finally:
        memory.copy_(before)
    where = f"on index {index} " if index is not None else ""
    for a, b in zip(above, below, strict=True):
        for what, p, q in (("shape", b.shape, a.shape), ("dtype", b.dtype, a.dtype)):
            if p != q:
                raise AssertionError(
                    f"Expected `func` to return outputs with the same {what} when inputs are "
                    f"perturbed {where}by {eps}, but got: {what}s {p} and {q}."
                )
    return [
        ((a - b) / (2 * eps)).reshape(-1) if a.is_floating_point() else None
        for a, b in zip(above, below, strict=True)
    ]


def _unit(x: Tensor, index: tuple[int, ...]) -> Tensor:
    unit = zeros(x.shape, dtype=x.dtype)
    unit[index] = 1.0
    return unit


def _empty(rows: int, y: Tensor) -> Tensor:
    return zeros(rows, y.numel(), dtype=y.dtype)


# ---- by reverse mode -----------------------------------------------------------------------------


def reverse(problem: Problem, y: Tensor) -> list[Tensor]:
    """For each input the Jacobian of `y`."""
    columns = [_unit(y, index) for index in entries(y)]
    return _repeatable_vjps(problem, y, columns)


def reverse_projection(problem: Problem, y: Tensor, v: Tensor) -> list[Tensor]:
    """For each input ``v^T J``, flattened."""
    return [j.view(-1) for j in _repeatable_vjps(problem, y, [v.to(y.dtype).view(y.shape)])]


def _repeatable_vjps(problem: Problem, y: Tensor, vs: list[Tensor]) -> list[Tensor]:
    """The gradients of ``(v * y).sum()`` as columns, taken twice to see that they repeat."""

    def vjps() -> list[Tensor]:
        jacobians = [zeros(x.numel(), len(vs), dtype=x.dtype) for x in problem.inputs]
        for column, v in enumerate(vs):
            found = grad(y, problem.inputs, v, retain_graph=True, allow_unused=True)
            for jacobian, x, g in zip(jacobians, problem.inputs, found, strict=True):
                if g is None:
                    continue
                if problem.check_grad_dtypes and g.dtype != x.dtype:
                    raise GradcheckError("Gradient has dtype mismatch")
                if g.shape != x.shape:
                    raise GradcheckError("Analytical gradient has incorrect size")
                jacobian[:, column] = g.detach().reshape(-1)
        return jacobians

    first, second = vjps(), vjps()
    if any(
        largest_difference(a, b) > problem.nondet_tol for a, b in zip(first, second, strict=True)
    ):
        raise GradcheckError(
            "Backward is not reentrant, i.e., running backward with same input and grad_output "
            "multiple times gives different values, although analytical gradient matches numerical "
            f"gradient.The tolerance for nondeterminism was {problem.nondet_tol}.\n\nNOTE: If the "
            "function relies on non-deterministic operations, this failure might be expected; call "
            "gradcheck or gradgradcheck with `nondet_tol=<tol>` then."
        )
    return first


# ---- by forward mode -----------------------------------------------------------------------------


def forward(problem: Problem) -> list[list[Tensor | None]]:
    """For each input, for each output the Jacobian."""
    jacobians = []
    for k, x in enumerate(problem.inputs):
        rows = [_jvp(problem, k, _unit(x, index)) for index in entries(x)]
        outputs = problem.outputs()
        per_output: list[Tensor | None] = []
        for i, y in enumerate(outputs):
            jacobian = _empty(x.numel(), y) if y.is_floating_point() else None
            if jacobian is not None:
                for row, tangents in enumerate(rows):
                    tangent = tangents[i]
                    if tangent is not None:
                        jacobian[row] = tangent.detach().reshape(-1)
            per_output.append(jacobian)
        jacobians.append(per_output)
    return jacobians


def forward_projection(problem: Problem, k: int, u: Tensor) -> list[Tensor]:
    """For each output ``J u`` with respect to the input numbered `k`, flattened."""
    x = problem.inputs[k]
    tangents = _jvp(problem, k, u.to(x.dtype).view(x.shape))
    return [
        zeros(y.numel(), dtype=y.dtype) if t is None else t.detach().reshape(-1)
        for y, t in zip(problem.outputs(), tangents, strict=True)
    ]


def _jvp(problem: Problem, k: int, tangent: Tensor) -> list[Tensor | None]:
    """The tangents of the outputs if input `k` has one, and the others have zeros."""
    from . import forward_ad

    with forward_ad.dual_level():
        arguments = list(problem.arguments)
        for j, (place, x) in enumerate(zip(problem.places, problem.inputs, strict=True)):
            mine = tangent if j == k else zeros_like(x)
            arguments[place] = forward_ad.make_dual(x.detach(), mine)
        return [forward_ad.unpack_dual(y).tangent for y in as_tuple(problem.func(*arguments))]


# ---- comparing -----------------------------------------------------------------------------------


def close(a: Tensor, n: Tensor, atol: float, rtol: float) -> bool:
    """Whether an analytical value is the numerical one."""
    return allclose(a.to(float64), n.to(float64), rtol=rtol, atol=atol)


def largest_difference(a: Tensor, b: Tensor) -> float:
    """The largest difference of two entries."""
    return float((a - b).abs().max()) if a.numel() else 0.0


def random_direction(x: Tensor, generator: Generator) -> Tensor:
    """A random unit vector without negative entries."""
    direction = rand(x.numel(), generator=generator).to(float64)
    norm = float((direction * direction).sum()) ** 0.5
    return direction / norm if norm > 0 else direction
