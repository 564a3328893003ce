"""`masked_gradients`: zero times an infinite slope is zero."""

import asyncio
import threading
import warnings

import numpy as np
import pytest
import wengert as torch
import wengert.autograd.forward_ad as fwAD
from op_table import pointwise
from support import leaves
from test_ops import differentiable_parts, samples
from wengert import autograd
from wengert.autograd import is_masked_gradients_enabled, masked_gradients, set_masked_gradients
from wengert.func import grad, hessian, jacfwd, jacrev, jvp, vmap

ODD = [0.0, -0.0, 1.0, -1.0, 0.5, float("inf"), float("-inf"), float("nan"), 1e-310, 1e308]
POINTWISE = [op for op in pointwise.ROWS if op.order and not op.last.endswith("_")]


def root(x):
    return torch.where(x > 0, x.sqrt(), 0.0)


def leaf(*values, dtype=torch.float64):
    return torch.tensor(values, dtype=dtype, requires_grad=True)


@pytest.fixture
def masked():
    with masked_gradients():
        yield


def gradients(outputs, inputs, weights, create_graph=True):
    pairs = [(y, w) for y, w in zip(outputs, weights, strict=True) if y.requires_grad]
    return autograd.grad(
        [y for y, _ in pairs],
        inputs,
        [w for _, w in pairs],
        create_graph=create_graph,
        allow_unused=True,
    )


@pytest.mark.parametrize("op", POINTWISE, ids=lambda op: op.name)
def test_every_pointwise_rule_gives_zero_for_zero(op, masked):
    """Whatever the values are, and to second order."""
    for sample in samples(op, "float64"):
        call, inputs = differentiable_parts(op, sample)
        for shift, x in enumerate(inputs):
            values = np.resize(np.roll(ODD, 3 * shift), x.numel())
            x.copy_(torch.tensor(values).view(x.shape))
            x.requires_grad_()
        outputs = leaves([call(*inputs)])
        zeros = [torch.zeros_like(y) for y in outputs]
        first = gradients(outputs, inputs, zeros)
        for g in first:
            assert g is None or not g.isnan().any(), (sample, g)
            assert g is None or (g == 0).all(), (sample, g)
        again = [g for g in first if g is not None and g.requires_grad]
        if again:
            second = gradients(again, inputs, [torch.zeros_like(g) for g in again])
            assert all(g is None or (g == 0).all() for g in second), (sample, second)


@pytest.mark.parametrize("op", POINTWISE, ids=lambda op: op.name)
def test_regular_gradients_have_the_same_bits(op):
    for sample in samples(op, "float64"):
        found = []
        for mode in (False, True):
            call, inputs = differentiable_parts(op, sample)
            for x in inputs:
                x.requires_grad_()
            with masked_gradients(mode):
                torch.manual_seed(1)
                outputs = leaves([call(*inputs)])
                weights = [torch.randn(y.shape, dtype=y.dtype) for y in outputs]
                got = gradients(outputs, inputs, weights, create_graph=False)
            found.append([None if g is None else g.tolist() for g in got])
        assert repr(found[0]) == repr(found[1]), sample


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_branch_that_was_not_taken(dtype):
    x = leaf(0.0, 4.0, dtype=dtype)
    root(x).sum().backward()
    assert x.grad.isnan().tolist() == [True, False]
    x.grad = None
    with masked_gradients():
        root(x).sum().backward()
    assert x.grad.tolist() == [0.0, 0.25]
    assert x.grad.dtype is dtype


def test_derivatives_of_the_gradient(masked):
    x = leaf(0.0, 4.0)
    (first,) = autograd.grad(root(x).sum(), x, create_graph=True)
    (second,) = autograd.grad(first.sum(), x, create_graph=True)
    (third,) = autograd.grad(second.sum(), x)
    assert first.tolist() == [0.0, 0.25]
    assert second.tolist() == [0.0, -1 / 32]
    assert third.tolist() == [0.0, 3 / 256]


def test_broadcast_operands_are_summed_without_what_was_masked(masked):
    x, s = leaf(0.0, 4.0), leaf(1.0)
    y = torch.where(x > 0, s / x, 0.0)
    y.sum().backward()
    assert s.grad.tolist() == [0.25]
    assert x.grad.tolist() == [0.0, -1 / 16]


def test_losses_without_reduction(masked):
    x = leaf(float("inf"), 1.0)
    t = torch.tensor([float("inf"), 0.0], dtype=torch.float64)
    loss = torch.nn.functional.mse_loss(x, t, reduction="none")
    torch.where(x < 2, loss, 0.0).sum().backward()
    assert x.grad.tolist() == [0.0, 2.0]


def test_tangents(masked):
    x = torch.tensor([0.0, 4.0], dtype=torch.float64)
    v = torch.tensor([0.0, 1.0], dtype=torch.float64)
    with fwAD.dual_level():
        y = fwAD.make_dual(x, v).sqrt()
        assert fwAD.unpack_dual(y).tangent.tolist() == [0.0, 0.25]
    assert jvp(root, (x,), (torch.ones_like(x),))[1].tolist() == [0.0, 0.25]


def test_transforms(masked):
    x = torch.tensor([0.0, 4.0], dtype=torch.float64)
    assert grad(lambda x: root(x).sum())(x).tolist() == [0.0, 0.25]
    assert vmap(grad(lambda x: root(x)))(x).tolist() == [0.0, 0.25]
    for transform in (jacrev, jacfwd):
        assert transform(root)(x).tolist() == [[0.0, 0.0], [0.0, 0.25]]
    assert hessian(lambda x: root(x).sum())(x).tolist() == [[0.0, 0.0], [0.0, -1 / 32]]


def test_what_is_linear_in_a_zero_keeps_its_slope(masked):
    """A product with J by differentiating a product with its transpose, at the vector zero."""
    x = torch.tensor([1.0, 4.0], dtype=torch.float64)
    v = torch.ones(2, dtype=torch.float64)
    assert autograd.functional.jvp(torch.sqrt, x, v)[1].tolist() == [0.5, 0.25]


def test_nan_of_a_gradient_that_is_not_zero_stays(masked):
    x = leaf(0.0)
    (x.sqrt() - x.sqrt()).sum().backward()
    assert x.grad.isnan().all()
    x = leaf(0.0, 1.0)
    x.sqrt().sum().backward()
    assert x.grad.tolist() == [float("inf"), 0.5]


@pytest.mark.filterwarnings("ignore:Anomaly")
def test_anomaly_mode_finds_nothing_then():
    x = leaf(0.0, 4.0)
    with warnings.catch_warnings(), autograd.detect_anomaly():
        warnings.simplefilter("ignore")  # the traceback of forward
        with pytest.raises(RuntimeError, match=r"SqrtBackward0.*nan"):
            root(x).sum().backward()
        with masked_gradients():
            root(x).sum().backward()
    assert x.grad.tolist() == [0.0, 0.25]


def test_rule_called_by_itself(masked):
    y = leaf(0.0, 4.0).sqrt()
    assert y.grad_fn(torch.tensor([0.0, 1.0], dtype=torch.float64)).tolist() == [0.0, 0.25]


def test_rules_on_other_threads(masked):
    """Long rules of independent branches run at the same time."""
    n = 1 << 19
    x = torch.zeros(n, requires_grad=True)
    parts = [torch.where(x > 0, x.sqrt(), 0.0), torch.where(x > 0, x.log(), 0.0)]
    (parts[0] + parts[1]).sum().backward()
    assert not x.grad.isnan().any()


def test_recomputation_of_a_checkpoint(masked):
    from wengert.utils.checkpoint import checkpoint

    x = leaf(0.0, 4.0)
    checkpoint(root, x, use_reentrant=False).sum().backward()
    assert x.grad.tolist() == [0.0, 0.25]


def test_blocks_nest_and_restore():
    assert not is_masked_gradients_enabled()
    block = masked_gradients()
    with block, block:
        assert is_masked_gradients_enabled()
        with masked_gradients(False):
            assert not is_masked_gradients_enabled()
        with torch.no_grad(), torch.inference_mode():
            assert is_masked_gradients_enabled()
        assert is_masked_gradients_enabled()
    assert not is_masked_gradients_enabled()
    with pytest.raises(ZeroDivisionError), masked_gradients():
        raise ZeroDivisionError
    assert not is_masked_gradients_enabled()
    with pytest.raises(TypeError):
        masked_gradients(1)


def test_function():
    set_masked_gradients(True)
    try:
        assert is_masked_gradients_enabled()
    finally:
        set_masked_gradients(False)
    assert not is_masked_gradients_enabled()


def test_decorators():
    @masked_gradients
    def bare():
        return is_masked_gradients_enabled()

    @masked_gradients()
    def called():
        return is_masked_gradients_enabled()

    @masked_gradients()
    def generator():
        yield is_masked_gradients_enabled()

    assert bare()
    assert called()
    assert next(generator())
    assert not is_masked_gradients_enabled()


def test_other_threads_have_their_own(masked):
    seen = []
    thread = threading.Thread(target=lambda: seen.append(is_masked_gradients_enabled()))
    thread.start()
    thread.join()
    assert seen == [False]


def test_deep_passes_within_passes(masked):
    """These continue on threads of their own."""

    class Nested(autograd.Function):
        @staticmethod
        def forward(ctx, x, depth):
            ctx.depth = depth
            return x.clone()

        @staticmethod
        def backward(ctx, g):
            assert is_masked_gradients_enabled()
            if ctx.depth == 0:
                x = leaf(0.0)
                with torch.enable_grad():
                    root(x).sum().backward()
                assert x.grad.tolist() == [0.0]
            else:
                x = torch.ones(1, requires_grad=True)
                with torch.enable_grad():
                    Nested.apply(x, ctx.depth - 1).sum().backward()
            return g, None

    x = torch.ones(1, requires_grad=True)
    Nested.apply(x, 150).sum().backward()
    assert x.grad.tolist() == [1.0]


def test_tasks_do_not_disturb_each_other():
    async def seen(mode):
        found = []
        with masked_gradients(mode):
            for _ in range(3):
                found.append(is_masked_gradients_enabled())
                await asyncio.sleep(0)
        return found

    async def outside():
        found = []
        for _ in range(3):
            found.append(is_masked_gradients_enabled())
            await asyncio.sleep(0)
        return found

    async def all_of_them():
        return await asyncio.gather(seen(True), outside(), seen(False), seen(True))

    on, off = [True] * 3, [False] * 3
    assert asyncio.run(all_of_them()) == [on, off, off, on]
    assert not is_masked_gradients_enabled()
