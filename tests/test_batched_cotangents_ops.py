"""A batch of cotangents in one pass gives what a pass for each gives (`is_grads_batched`)."""

import warnings

import numpy as np
import pytest
import wengert as torch
from op_table import OPS
from support import assert_close, convert, find, is_float, leaves, to_array

ARRAYS = (np.ndarray, np.generic)
COTANGENTS = 3
RANDOM = {row["name"] for row in torch._core.operations() if "random" in row["tags"]}
DIFFERENTIABLE = [op for op in OPS if op.order and not RANDOM & set(op.names)]
# A product with a vector sums in another order than one with the rows of all cotangents; losses of
# classes are multiplied by the cotangent last.
ROUNDED = {"matmul", "mv", "addmv", "nn.functional.cross_entropy", "nn.functional.nll_loss"}


def outputs_of(op, sample, leaves_):
    """Differentiable results of a call whose floating-point arguments are new leaves."""

    def tensor(a):
        t = torch.tensor(np.asarray(a))
        if is_float(t):
            t.requires_grad_()
            leaves_.append(t)
        return t

    f = find(op.name)
    args, kwargs = convert((sample.args, sample.kwargs), tensor)
    if op.last.endswith("_"):
        args = (args[0].clone(), *args[1:])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        value = f(*args, **kwargs)
    values = list(value) if isinstance(value, (tuple, list)) else [value]
    return [v for v in values if isinstance(v, torch.Tensor) and v.requires_grad]


def problems(op):
    g = op.gen("float64", 1)
    for sample in op.samples(g):
        if not leaves([sample.args, sample.kwargs], ARRAYS):
            continue
        own = []
        outputs = outputs_of(op, sample, own)
        if outputs and own:
            rng = np.random.default_rng(0)
            yield (
                sample,
                own,
                outputs,
                [torch.tensor(rng.standard_normal((COTANGENTS, *y.shape))) for y in outputs],
            )


def passes(outputs, inputs, cotangents, **options):
    """One pass for each cotangent, results stacked."""
    rows = [
        torch.autograd.grad(
            outputs,
            inputs,
            [g[i] for g in cotangents],
            retain_graph=True,
            allow_unused=True,
            **options,
        )
        for i in range(COTANGENTS)
    ]
    return [
        None if same[0] is None else torch.stack(list(same)) for same in zip(*rows, strict=True)
    ]


@pytest.mark.parametrize("op", DIFFERENTIABLE, ids=lambda op: op.name)
def test_one_pass_gives_what_a_pass_for_each_gives(op):
    for sample, own, outputs, cotangents in problems(op):
        expected = passes(outputs, own, cotangents)
        actual = torch.autograd.grad(
            outputs, own, cotangents, retain_graph=True, allow_unused=True, is_grads_batched=True
        )
        for a, e in zip(actual, expected, strict=True):
            assert (a is None) == (e is None), sample
            if a is not None:
                assert a.shape == e.shape
                assert a.dtype == e.dtype
                if op.name in ROUNDED:
                    assert_close(a, to_array(e), 10.0, str(sample))
                else:
                    assert np.array_equal(to_array(a), to_array(e), equal_nan=True), sample


@pytest.mark.parametrize("op", DIFFERENTIABLE, ids=lambda op: op.name)
def test_one_recorded_pass_has_the_derivatives_of_a_pass_for_each(op):
    for sample, own, outputs, cotangents in problems(op):
        found = []
        for how in ("each", "once"):
            given = [g.clone().requires_grad_() for g in cotangents]
            if how == "each":
                first = passes(outputs, own, given, create_graph=True)
            else:
                first = torch.autograd.grad(
                    outputs, own, given, create_graph=True, allow_unused=True, is_grads_batched=True
                )
            terms = [
                (g * g.detach().cos()).sum() for g in first if g is not None and g.requires_grad
            ]
            second = [None] * (len(own) + len(given))
            if terms:
                second = torch.autograd.grad(
                    sum(terms), [*own, *given], retain_graph=True, allow_unused=True
                )
            found.append([torch.zeros_like(t) if g is None else g
                          for g, t in zip(second, [*own, *given], strict=True)])  # fmt: skip
        for once, each in zip(found[1], found[0], strict=True):
            assert_close(once, to_array(each), 1000.0, f"{op.name} of {sample}")
