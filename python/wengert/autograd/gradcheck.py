r"""Gradients against finite differences: `gradcheck` and `gradgradcheck`.

The Jacobian of a function is computed numerically and by reverse or forward mode
(`wengert.autograd._jacobians`), and the two must agree. The fast mode compares one number per pair
of an output and an input instead, :math:`v^T J u` with random non-negative unit vectors
:math:`u, v`: two evaluations of the function and one pass, whatever the size. A wrong entry is
missed only if others cancel it.

Then come rules that all derivatives must keep (`wengert.autograd._gradcheck_rules`).

Second derivatives need no second method: `gradgradcheck` is `gradcheck` of the function that
returns the gradients.
"""

from __future__ import annotations

from wengert._core import Generator, Tensor, float64, grad, rand, zeros

from . import _gradcheck_rules as rules
from . import _jacobians as jacobians
from ._jacobians import GradcheckError, Problem, as_tuple, close
from .grad_mode import no_grad

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

__all__ = [
    "GradcheckError",
    "get_analytical_jacobian",
    "get_numerical_jacobian",
    "gradcheck",
    "gradgradcheck",
]


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
        Check reverse mode, that is, what `backward` computes.
    check_forward_ad
        Also check forward mode, that is, what `forward_ad` computes.
    check_batched_grad, check_batched_forward_grad
        Also check that several vectors at once give the same as one after the other, in reverse
        and in forward mode.
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
    if check_batched_grad and not check_backward_ad:
        raise AssertionError(
            "Setting check_batched_grad=True requires check_backward_ad to be True"
        )
    if check_batched_forward_grad and not check_forward_ad:
        raise AssertionError(
            "Setting check_batched_forward_grad=True requires check_forward_ad to be True"
        )
    arguments = as_tuple(inputs)
    _check_inputs(arguments)
    problem = Problem(func, arguments, eps, atol, rtol, nondet_tol, check_grad_dtypes)
    compare = _compare_projections if fast_mode else _compare_jacobians
    try:
        if check_backward_ad:
            compare(problem, forward=False)
        if check_forward_ad:
            compare(problem, forward=True)
            if check_undefined_grad:
                rules.undefined_tangents(problem)
        if check_batched_forward_grad:
            rules.batched_tangents(problem)
        if check_backward_ad:
            if check_batched_grad:
                rules.batched_gradients(problem)
            rules.linear(problem)
            if check_undefined_grad:
                rules.undefined_gradients(problem)
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
        Whether the derivatives of the gradients are computed by forward mode, by reverse mode, or
        by both.

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
    if check_undefined_grad and not check_rev_over_rev:
        raise AssertionError(
            "Setting check_undefined_grad=True requires check_rev_over_rev to be True"
        )
    if check_batched_grad and not check_rev_over_rev:
        raise AssertionError(
            "Setting check_batched_grad=True requires check_rev_over_rev to be True"
        )
    arguments = as_tuple(inputs)
    if grad_outputs is None:
        generator = Generator()
        incoming: tuple[Tensor, ...] = tuple(
            _random_grad(y, generator, strided=gen_non_contig_grad_outputs)
            for y in as_tuple(func(*arguments))
            if y.requires_grad
        )
    else:
        incoming = as_tuple(grad_outputs)
    count = len(arguments)
    # Forward mode passes detached tensors, which must require grad again.
    wanted = [isinstance(x, Tensor) and x.requires_grad for x in (*arguments, *incoming)]

    def gradients(*both: Any) -> tuple[Tensor, ...]:
        both = tuple(
            x.requires_grad_() if needed else x for x, needed in zip(both, wanted, strict=True)
        )
        given, incoming = both[:count], both[count:]
        outputs = [y for y in as_tuple(func(*given)) if y.requires_grad]
        inputs = [x for x, needed in zip(given, wanted[:count], strict=True) if needed]
        found = grad(outputs, inputs, incoming, create_graph=True, allow_unused=True)
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
        check_forward_ad=check_fwd_over_rev,
        check_backward_ad=check_rev_over_rev,
        masked=masked,
    )


# ---- the two comparisons -------------------------------------------------------------------------


def _compare_jacobians(problem: Problem, *, forward: bool) -> None:
    numerical = [jacobians.numerical(problem, x) for x in problem.inputs]
    outputs = problem.outputs()
    _expect_constants(outputs, numerical)
    by_input = jacobians.forward(problem) if forward else None
    number = -1
    for i, y in enumerate(outputs):
        if not y.requires_grad:
            continue
        number += 1
        if by_input is None:
            analytical: Sequence[Tensor | None] = jacobians.reverse(problem, problem.outputs()[i])
        else:
            analytical = [per_output[i] for per_output in by_input]
        for k, a in enumerate(analytical):
            n = numerical[k][i]
            if a is not None and n is not None and not close(a, n, problem.atol, problem.rtol):
                raise GradcheckError(_mismatch(number, k, n, a, forward))


def _compare_projections(problem: Problem, *, forward: bool) -> None:
    # Our own generator, to leave the user's stream alone.
    generator = Generator()
    us = [jacobians.random_direction(x, generator) for x in problem.inputs]
    vs = [jacobians.random_direction(y, generator) for y in problem.outputs()]
    numerical = [
        jacobians.numerical_projection(problem, x, u)
        for x, u in zip(problem.inputs, us, strict=True)
    ]
    outputs = problem.outputs()
    _expect_constants(outputs, numerical)
    tangents = (
        [jacobians.forward_projection(problem, k, u) for k, u in enumerate(us)] if forward else []
    )
    number = -1
    for i, y in enumerate(outputs):
        if not y.requires_grad:
            continue
        number += 1
        vjps = [] if forward else jacobians.reverse_projection(problem, problem.outputs()[i], vs[i])
        for k, u in enumerate(us):
            change = numerical[k][i]
            if change is None:
                continue
            if forward:
                a, n = tangents[k][i], change
            else:
                a, n = _dot(vjps[k], u), _dot(vs[i], change)
            # An error of `atol` in every entry of J moves the projection by this much.
            scale = float(u.sum()) * (1.0 if forward else float(vs[i].sum()))
            if not close(a, n, problem.atol * scale, problem.rtol):
                whole = _whole_jacobians(problem, i, k, forward)
                raise GradcheckError(_mismatch(number, k, n, a, forward) + whole)


def _whole_jacobians(problem: Problem, i: int, k: int, forward: bool) -> str:
    """What to add to the message of a failure in fast mode."""
    n = jacobians.numerical(problem, problem.inputs[k])[i]
    if forward:
        a = jacobians.forward(problem)[k][i]
    else:
        a = jacobians.reverse(problem, problem.outputs()[i])[k]
    assert n is not None
    assert a is not None
    text = (
        "\nThe above quantities relating the numerical and analytical jacobians are computed \nin "
        "fast mode. See: https://github.com/pytorch/pytorch/issues/53876 for more background \n"
        "about fast mode. Below, we recompute numerical and analytical jacobians in slow mode:\n\n"
        f"Numerical:\n {n}\nAnalytical:\n{a}\n\n"
        f"The max per-element difference (slow mode) is: {jacobians.largest_difference(n, a)}.\n"
    )
    if close(a, n, problem.atol, problem.rtol):
        text += (
            "Fast gradcheck failed but element-wise differences are small. This means that the "
            "test might've passed in slow_mode!\n"
        )
    return text


def _expect_constants(outputs: tuple[Tensor, ...], numerical: list[list[Tensor | None]]) -> None:
    """A function none of whose outputs has a history must not depend on its inputs."""
    if any(y.requires_grad for y in outputs):
        return
    for per_output in numerical:
        if any(j is not None and bool((j != 0).any()) for j in per_output):
            raise GradcheckError("Numerical gradient for function expected to be zero")


def _mismatch(output: int, place: int, numerical: Tensor, analytical: Tensor, forward: bool) -> str:
    mode = "computed with forward mode " if forward else ""
    return (
        f"Jacobian {mode}mismatch for output {output} with respect to input {place},\n"
        f"numerical:{numerical}\nanalytical:{analytical}\n"
    )


# ---- small parts ---------------------------------------------------------------------------------


def _check_inputs(arguments: tuple[Any, ...]) -> None:
    found = False
    for place, x in enumerate(arguments):
        if not (isinstance(x, Tensor) and x.requires_grad):
            continue
        found = True
        if x.dtype != float64:
            import warnings

            warnings.warn(
                f"Input #{place} requires gradient and is not a double precision floating point or "
                "complex. This check will likely fail if all the inputs are not of double "
                "precision floating point or complex. ",
                stacklevel=3,
            )
        if any(step == 0 and size > 1 for step, size in zip(x.stride(), x.shape, strict=True)):
            raise RuntimeError(
                f"The {place}th input has a dimension with stride 0. gradcheck only supports "
                "inputs that are non-overlapping to be able to compute the numerical gradients "
                "correctly. You should call .contiguous on the input before passing it to "
                "gradcheck."
            )
    if not found:
        raise ValueError(
            "gradcheck expects at least one input tensor to require gradient, "
            "but none of them have requires_grad=True."
        )


def _random_grad(y: Tensor, generator: Generator, *, strided: bool) -> Tensor:
    with no_grad():
        values = rand(y.shape, generator=generator, dtype=y.dtype) * 2 - 1
        if strided:
            # Every other entry of a buffer twice as long: the last step is 2.
            buffer = zeros((*y.shape, 2), dtype=y.dtype)
            buffer[..., 0] = values
            values = buffer[..., 0]
    return values.requires_grad_()


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a.to(float64) * b.to(float64)).sum()


# ---- older names ---------------------------------------------------------------------------------


def get_numerical_jacobian(
    fn: Callable[[Any], Any],
    inputs: Any,
    target: Any = None,
    eps: float = 1e-3,
    grad_out: float = 1.0,
) -> tuple[Tensor, ...]:
    """Compute the numerical Jacobians of the first output of `fn`, which takes one tuple.

    Deprecated, as in PyTorch, in favour of `gradcheck` and `functional.jacobian`.

    Parameters
    ----------
    fn
        Called with the tuple of the inputs.
    inputs
        The tuple.
    target
        The tensors to nudge; by default those of the inputs that require grad.
    eps
        Step of the finite differences.
    grad_out
        Must be 1.

    Returns
    -------
    tuple of Tensor
        A Jacobian of shape ``(target.numel(), output.numel())`` for each target.
    """
    _deprecated("get_numerical_jacobian")
    if grad_out != 1.0:
        raise ValueError(
            "Expected grad_out to be 1.0. get_numerical_jacobian no longer supports values of "
            "grad_out != 1.0."
        )
    targets = as_tuple(inputs if target is None else target)
    problem = Problem(lambda *xs: fn(xs), as_tuple(inputs), eps, 0.0, 0.0, 0.0, False)
    first = (jacobians.numerical(problem, x)[0] for x in targets if _differentiable(x))
    return tuple(j for j in first if j is not None)


def get_analytical_jacobian(
    inputs: Any, output: Tensor, nondet_tol: float = 0.0, grad_out: float = 1.0
) -> tuple[tuple[Tensor, ...], bool, bool, bool]:
    """Compute the Jacobians of one output by reverse mode.

    Deprecated, as in PyTorch, in favour of `gradcheck` and `functional.jacobian`.

    Parameters
    ----------
    inputs
        One tensor, or a tuple.
    output
        What was computed from them.
    nondet_tol
        By how much two passes may differ.
    grad_out
        Must be 1.

    Returns
    -------
    jacobians, reentrant, correct_grad_sizes, correct_grad_types
        The Jacobians, and whether all was in order.
    """
    _deprecated("get_analytical_jacobian")
    if grad_out != 1.0:
        raise ValueError(
            "Expected grad_out to be 1.0. get_analytical_jacobian no longer supports values of "
            "grad_out != 1.0."
        )
    problem = Problem(lambda *_: output, as_tuple(inputs), 0.0, 0.0, 0.0, float("inf"), False)
    first, second = (jacobians.reverse(problem, output) for _ in range(2))
    differences = map(jacobians.largest_difference, first, second)
    # The engine gives every gradient its input's shape and dtype.
    return tuple(first), all(d <= nondet_tol for d in differences), True, True


def _differentiable(x: object) -> bool:
    return isinstance(x, Tensor) and x.requires_grad


def _deprecated(name: str) -> None:
    import warnings

    warnings.warn(
        f"`{name}` was part of PyTorch's private API and not meant to be exposed. We are "
        "deprecating it and it will be removed in a future version of PyTorch. If you have a "
        "specific use for this or feature request for this to be a stable API, please file us an "
        "issue at https://github.com/pytorch/pytorch/issues/new",
        FutureWarning,
        stacklevel=3,
    )
