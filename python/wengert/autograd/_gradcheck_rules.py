"""Rules that all derivatives must keep, whatever the function: the second half of `gradcheck`.

- A gradient is linear in what comes in: zeros in, zeros out.
- An output without a gradient counts as one with a gradient of zeros; an input without a tangent
  as one with a tangent of zeros.
- Several vectors at once give the same as one after the other.
"""

from __future__ import annotations

import warnings

from wengert import _core
from wengert._core import Generator, Tensor, allclose, grad, rand, stack, zeros, zeros_like

from ._jacobians import GradcheckError, Problem, as_tuple
from .function import Function, FunctionCtx

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_BATCHED = (
    "gradcheck or gradgradcheck failed while testing batched gradient computation.\nThe gradients "
    "of several vectors at once are computed by vmap over the backward pass; an operation in it "
    "that vmap does not support, or a wrong batching rule, makes this fail. Pass "
    "`check_batched_grad=False` to leave the check out."
)
_BATCHED_FORWARD = (
    "gradcheck failed while testing batched gradient computation with forward-mode AD.\nPass "
    "`check_batched_forward_grad=False` to leave the check out."
)


class _Undefined(Function):
    """The same tensor, which passes no gradient on."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor) -> Tensor:  # noqa: ARG004
        return x.view_as(x)

    @staticmethod
    def backward(ctx: FunctionCtx, g: Tensor) -> None:  # noqa: ARG004
        return None


def linear(problem: Problem) -> None:
    """Zeros in, zeros out, and of the input's kind."""
    outputs = [y for _, y in problem.differentiable()]
    if not outputs:
        return
    zero = [zeros_like(y) for y in outputs]
    found = grad(outputs, problem.inputs, zero, allow_unused=True)
    for x, g in zip(problem.inputs, found, strict=True):
        if g is None:
            continue
        if not _is_zero(g):
            raise GradcheckError("backward not multiplied by grad_output")
        if g.dtype != x.dtype:
            raise GradcheckError("grad is incorrect type")
        if g.shape != x.shape:
            raise GradcheckError("grad is incorrect size")


def undefined_gradients(problem: Problem) -> None:
    """An output that gets no gradient must count as one that gets zeros."""
    count = len(problem.differentiable())
    cases: list[Sequence[int]] = [range(count)] if count else []
    if count > 1:
        cases += [(omitted,) for omitted in range(count)]
    for undefined in cases:
        outputs = [
            _Undefined.apply(y) if i in undefined else y for i, y in problem.differentiable()
        ]
        try:
            found = grad(
                outputs, problem.inputs, [zeros_like(y) for y in outputs], allow_unused=True
            )
        except RuntimeError as error:
            _warn_about_undefined()
            raise GradcheckError(
                "Expected backward function to handle undefined output grads. Please look at "
                '"Notes about undefined output gradients" in "tools/autograd/derivatives.yaml"'
            ) from error
        if not all(g is None or _is_zero(g) for g in found):
            _warn_about_undefined()
            raise GradcheckError(
                "Expected all input grads to be undefined or zero when all output grads are "
                'undefined or zero. Please look at "Notes about undefined output gradients" in '
                '"tools/autograd/derivatives.yaml"'
            )


def undefined_tangents(problem: Problem) -> None:
    """An input that has no tangent must count as one that has zeros."""
    from . import forward_ad

    generator = Generator()
    directions = [rand(x.shape, generator=generator).to(x.dtype) for x in problem.inputs]
    for omitted in range(len(problem.inputs)):
        found: list[list[Tensor | None]] = []
        for undefined in (False, True):
            with forward_ad.dual_level():
                arguments = list(problem.arguments)
                for k, (place, x) in enumerate(zip(problem.places, problem.inputs, strict=True)):
                    tangent = zeros_like(x) if k == omitted else directions[k]
                    arguments[place] = (
                        x.detach()
                        if k == omitted and undefined
                        else forward_ad.make_dual(x.detach(), tangent)
                    )
                outputs = as_tuple(problem.func(*arguments))
                found.append([forward_ad.unpack_dual(y).tangent for y in outputs])
        for place, (zero, none) in enumerate(zip(*found, strict=True)):
            if zero is not None and none is not None and not allclose(zero, none):
                raise GradcheckError(
                    f"Mismatch in tangent values for output with index: {place} when input: "
                    f"{problem.inputs[omitted]} has an undefined tangent value.  Got: {none} but "
                    f"expected: {zero}"
                )


def batched_gradients(problem: Problem) -> None:
    """Two vectors at once give the gradients of each."""
    generator = Generator()
    for number, y in problem.differentiable():
        vectors = [rand(y.shape, generator=generator).to(y.dtype) for _ in range(2)]

        def gradients(v: Tensor, *, batched: bool, y: Tensor = y) -> tuple[Tensor | None, ...]:
            return grad(
                y,
                problem.inputs,
                v,
                retain_graph=True,
                allow_unused=True,
                is_grads_batched=batched,
            )

        singles = [gradients(v, batched=False) for v in vectors]
        try:
            batch = gradients(stack(vectors), batched=True)
        except RuntimeError as error:
            raise GradcheckError(
                f"While computing batched gradients, got: {error}\n\n{_BATCHED}"
            ) from error
        for k, (x, got) in enumerate(zip(problem.inputs, batch, strict=True)):
            parts = [single[k] for single in singles]
            expected = stack([zeros_like(x) if g is None else g for g in parts])
            _compare_batch(number, k, got, expected, _BATCHED)


def batched_tangents(problem: Problem) -> None:
    """Two tangents at once give the tangents of each."""
    from wengert.func import vmap

    from . import forward_ad

    generator = Generator()
    for k, (place, x) in enumerate(zip(problem.places, problem.inputs, strict=True)):

        def tangents(tangent: Tensor, place: int = place, x: Tensor = x) -> tuple[Tensor, ...]:
            with forward_ad.dual_level():
                arguments = [a.detach() if isinstance(a, Tensor) else a for a in problem.arguments]
                arguments[place] = forward_ad.make_dual(x.detach(), tangent)
                found = []
                for y in as_tuple(problem.func(*arguments)):
                    primal, change = forward_ad.unpack_dual(y)
                    found.append(zeros_like(primal) if change is None else change)
                return tuple(found)

        directions = [rand(x.shape, generator=generator).to(x.dtype) for _ in range(2)]
        singles = [tangents(d) for d in directions]
        # Functions of the user's own need no rule for batches here.
        before = _core._set_plain_functions(True)
        try:
            batch = vmap(tangents)(stack(directions))
        except RuntimeError as error:
            raise GradcheckError(
                f"While computing batched gradients, got: {error}\n\n{_BATCHED_FORWARD}"
            ) from error
        finally:
            _core._set_plain_functions(before)
        for i, got in enumerate(batch):
            expected = stack([single[i] for single in singles])
            _compare_batch(i, k, got, expected, _BATCHED_FORWARD)


def _compare_batch(
    output: int, place: int, got: Tensor | None, expected: Tensor, text: str
) -> None:
    if got is None:
        got = zeros(expected.shape, dtype=expected.dtype)
    if not allclose(got, expected):
        raise GradcheckError(
            f"For output {output} and input {place}:\n\n{text}\n\nGot:\n{got}\n\nExpected:\n"
            f"{expected}"
        )


def _is_zero(g: Tensor) -> bool:
    return not bool((g != 0).any())


def _warn_about_undefined() -> None:
    warnings.warn(
        "Backwards compatibility: New undefined gradient support checking feature is enabled by "
        "default, but it may break existing callers of this function. If this is true for you, you "
        'can call this function with "check_undefined_grad=False" to disable the feature',
        stacklevel=2,
    )
