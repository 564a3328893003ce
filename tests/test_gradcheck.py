"""`gradcheck` and `gradgradcheck` accept right gradients and say what is wrong with wrong ones."""

import numpy as np
import pytest
import wengert
from wengert import float32, float64, tensor
from wengert.autograd import forward_ad, gradcheck, gradgradcheck
from wengert.autograd.gradcheck import (
    GradcheckError,
    get_analytical_jacobian,
    get_numerical_jacobian,
)

MODES = pytest.mark.parametrize("fast_mode", [False, True])


def leaf(*shape, dtype=float64):
    return wengert.rand(shape, dtype=dtype).add_(0.5).requires_grad_()


@MODES
@pytest.mark.parametrize("check", [gradcheck, gradgradcheck])
@pytest.mark.parametrize(
    ("func", "shapes"),
    [
        (lambda x: x * x, [(3,)]),
        (lambda x: x.exp() / x, [()]),
        (lambda a, b: a @ b, [(2, 3), (3, 4)]),
        (lambda a, b: (a * b, (a + b).sum()), [(2, 3), (3,)]),
        (lambda x: [x.tanh(), x.sin()], [(2, 2)]),
        (lambda x: x.t().exp(), [(2, 3)]),
        (lambda x: x, [(2,)]),
        (lambda x: x * 3, [(0, 2)]),
    ],
    ids=["square", "0-d", "matmul", "two outputs", "list", "transposed", "identity", "empty"],
)
def test_right_gradients_pass(check, func, shapes, fast_mode):
    inputs = tuple(leaf(*shape) for shape in shapes)
    before = [x.detach().clone() for x in inputs]
    assert check(func, inputs, fast_mode=fast_mode) is True
    for x, y in zip(inputs, before, strict=True):
        assert np.array_equal(x.detach().numpy(), y.numpy()), "inputs come back as they were"
        assert x.grad is None


@MODES
def test_a_wrong_first_gradient(fast_mode):
    x = tensor([1.0, 2.0], dtype=float64, requires_grad=True)

    def func(x):
        return x * x.detach()

    with pytest.raises(GradcheckError) as caught:
        gradcheck(func, x, fast_mode=fast_mode)
    message = str(caught.value)
    assert message.startswith("Jacobian mismatch for output 0 with respect to input 0,\nnumerical:")
    assert "\nanalytical:" in message
    assert ("The max per-element difference (slow mode) is: 2.0" in message) == fast_mode
    assert gradcheck(func, x, fast_mode=fast_mode, raise_exception=False) is False


def test_the_message_shows_both_jacobians():
    x = tensor([1.0, 2.0], dtype=float64, requires_grad=True)
    with pytest.raises(GradcheckError) as caught:
        gradcheck(lambda x: x * x.detach(), x, eps=1 / 1024)
    assert str(caught.value) == (
        "Jacobian mismatch for output 0 with respect to input 0,\n"
        "numerical:tensor([[2., 0.],\n        [0., 4.]], dtype=wengert.float64)\n"
        "analytical:tensor([[1., 0.],\n        [0., 2.]], dtype=wengert.float64)\n"
    ).replace("wengert.float64", str(float64))


@MODES
def test_the_message_counts_what_requires_grad(fast_mode):
    constant, a, b = wengert.ones(1), leaf(2), leaf(2)
    with pytest.raises(GradcheckError, match="for output 1 with respect to input 1"):
        gradcheck(
            lambda c, a, b: (c, a * b, a * b * b.detach()), (constant, a, b), fast_mode=fast_mode
        )


@MODES
def test_a_wrong_second_derivative(fast_mode):
    def func(x):
        # First order right, second wrong: the slope is a constant to the graph.
        straight = x.detach() * x.detach() * (x - x.detach()) * 3
        return x.detach() ** 3 + straight

    x = leaf(3)
    assert gradcheck(func, x, fast_mode=fast_mode)
    with pytest.raises(GradcheckError, match="Jacobian mismatch"):
        gradgradcheck(func, x, fast_mode=fast_mode)


@MODES
def test_an_output_cut_off_from_the_graph(fast_mode):
    x = leaf(3)
    assert gradcheck(lambda x: wengert.ones(2), x, fast_mode=fast_mode)
    with pytest.raises(GradcheckError, match="Numerical gradient for function expected to be zero"):
        gradcheck(lambda x: x.detach() * 2, x, fast_mode=fast_mode)


def test_a_closure_over_the_input_is_checked_too():
    weight = leaf(3)
    assert gradcheck(lambda _: weight.exp(), weight)
    with pytest.raises(GradcheckError, match="Jacobian mismatch"):
        gradcheck(lambda w: w * weight.detach(), weight)


def test_a_backward_that_ignores_what_comes_in():
    x = leaf(3)

    def func(x):
        y = x * 2
        y.register_hook(lambda g: wengert.ones_like(g))
        return y.sum()

    # The Jacobian of a sum is all ones, so only the zero gradient gives it away.
    with pytest.raises(GradcheckError, match="backward not multiplied by grad_output"):
        gradcheck(func, x)


def test_a_backward_that_differs_between_two_runs():
    x = leaf(3)
    calls = []

    def noisy(g):
        if g is None:
            return None
        calls.append(g)
        return g * (1 + 1e-7 * len(calls))

    def func(x):
        y = x * 2
        y.register_hook(noisy)
        return y

    with pytest.raises(GradcheckError, match="Backward is not reentrant"):
        gradcheck(func, x)
    assert gradcheck(func, x, nondet_tol=1e-4)


def test_a_shape_that_depends_on_the_values():
    x = tensor([1.0], dtype=float64, requires_grad=True)
    text = (
        r"outputs with the same shape when inputs are perturbed on index \(0,\) by 1e-06, but got"
    )
    with pytest.raises(AssertionError, match=text):
        gradcheck(lambda x: x * 2 if x.item() > 1 else wengert.stack([x, x]), x)


def test_non_contiguous_inputs():
    base = wengert.rand(4, 6, dtype=float64)
    x = base[::2, 1::2].t().detach().requires_grad_()
    assert not x.is_contiguous()
    assert gradcheck(lambda x: x.exp(), x)
    assert gradgradcheck(lambda x: x.exp(), x, gen_non_contig_grad_outputs=True)


def test_given_grad_outputs():
    x, v = leaf(3), leaf(3)
    assert gradgradcheck(lambda x: x.exp(), x, v)
    assert gradgradcheck(lambda x: x.exp(), (x,), (v,))


def test_the_global_random_stream_is_left_alone():
    x = leaf(3)
    wengert.manual_seed(1)
    expected = wengert.rand(1).item()
    wengert.manual_seed(1)
    gradcheck(lambda x: x.exp(), x, fast_mode=True)
    gradgradcheck(lambda x: x.exp(), x)
    assert wengert.rand(1).item() == expected


def test_single_precision_warns():
    x = leaf(1, dtype=float32)
    with pytest.warns(UserWarning, match="Input #0 requires gradient and is not a double"):
        assert gradcheck(lambda x: x * 2, x, eps=1e-2, atol=1e-2)


def test_inputs_that_cannot_be_checked():
    with pytest.raises(ValueError, match="at least one input tensor to require gradient"):
        gradcheck(lambda x: x, wengert.ones(2))
    expanded = wengert.ones(1, dtype=float64).expand(3).requires_grad_()
    with pytest.raises(RuntimeError, match="The 0th input has a dimension with stride 0"):
        gradcheck(lambda x: x * 2, expanded)


# ---- forward mode --------------------------------------------------------------------------------


@MODES
@pytest.mark.parametrize(
    ("func", "shapes"),
    [
        (lambda x: x.exp() / x, [()]),
        (lambda a, b: a @ b, [(2, 3), (3, 4)]),
        (lambda a, b: (a * b, (a + b).sum(), a > b), [(2, 3), (3,)]),
        (lambda x: wengert.ones(2, dtype=float64), [(3,)]),
        (lambda x: x * 3, [(0, 2)]),
    ],
    ids=["0-d", "matmul", "several outputs", "constant", "empty"],
)
def test_forward_mode_passes(func, shapes, fast_mode):
    inputs = tuple(leaf(*shape) for shape in shapes)
    assert gradcheck(func, inputs, check_forward_ad=True, fast_mode=fast_mode)
    assert gradcheck(
        func, inputs, check_forward_ad=True, check_backward_ad=False, fast_mode=fast_mode
    )


@MODES
def test_forward_over_reverse_passes(fast_mode):
    def func(a, b):
        return (a * b).tanh(), a.sum() * b

    inputs = leaf(2), leaf(2)
    assert gradgradcheck(func, inputs, check_fwd_over_rev=True, fast_mode=fast_mode)
    assert gradgradcheck(
        func,
        inputs,
        check_fwd_over_rev=True,
        check_rev_over_rev=False,
        check_undefined_grad=False,
        fast_mode=fast_mode,
    )


@MODES
def test_a_wrong_tangent(fast_mode):
    x = leaf(3)
    text = "Jacobian computed with forward mode mismatch for output 0 with respect to input 0"
    with pytest.raises(GradcheckError, match=text):
        gradcheck(
            lambda x: x * forward_ad.unpack_dual(x).primal,
            x,
            check_forward_ad=True,
            check_backward_ad=False,
            fast_mode=fast_mode,
        )


def test_nothing_to_check():
    with pytest.raises(AssertionError, match="check_forward_ad or check_backward_ad"):
        gradcheck(lambda x: x, leaf(1), check_backward_ad=False)
    with pytest.raises(AssertionError, match="check_fwd_over_rev or check_rev_over_rev"):
        gradgradcheck(lambda x: x, leaf(1), check_rev_over_rev=False)
    with pytest.raises(AssertionError, match="check_batched_grad=True requires check_backward_ad"):
        gradcheck(
            lambda x: x,
            leaf(1),
            check_batched_grad=True,
            check_backward_ad=False,
            check_forward_ad=True,
        )
    with pytest.raises(AssertionError, match="check_batched_forward_grad=True requires"):
        gradcheck(lambda x: x, leaf(1), check_batched_forward_grad=True)
    with pytest.raises(AssertionError, match="check_undefined_grad=True requires"):
        gradgradcheck(lambda x: x, leaf(1), check_rev_over_rev=False, check_fwd_over_rev=True)


# ---- batches -------------------------------------------------------------------------------------


@MODES
@pytest.mark.parametrize(
    ("func", "shapes"),
    [
        (lambda x: x.exp() / x, [()]),
        (lambda a, b: a @ b, [(2, 3), (3, 4)]),
        (lambda a, b: (a * b, (a + b).sum()), [(2, 3), (3,)]),
        (lambda a, b: (a * 2, b.exp()), [(2,), (3,)]),
    ],
    ids=["0-d", "matmul", "two outputs", "unrelated"],
)
def test_batched_gradients_pass(func, shapes, fast_mode):
    inputs = tuple(leaf(*shape) for shape in shapes)
    assert gradcheck(func, inputs, check_batched_grad=True, fast_mode=fast_mode)
    assert gradgradcheck(func, inputs, check_batched_grad=True, fast_mode=fast_mode)
    assert gradcheck(
        func,
        inputs,
        check_forward_ad=True,
        check_batched_forward_grad=True,
        fast_mode=fast_mode,
    )


# ---- older names ---------------------------------------------------------------------------------


def test_the_older_names():
    a, b = leaf(2), leaf(3)
    with pytest.warns(FutureWarning, match="get_numerical_jacobian"):
        found = get_numerical_jacobian(
            lambda xs: wengert.outer(xs[0] ** 2, xs[1]), (a, b), eps=1e-6
        )
    with pytest.warns(FutureWarning, match="get_analytical_jacobian"):
        analytical, reentrant, sizes_ok, types_ok = get_analytical_jacobian(
            (a, b), wengert.outer(a**2, b)
        )
    assert [tuple(j.shape) for j in found] == [(2, 6), (3, 6)]
    assert all(map(wengert.allclose, found, analytical))
    assert reentrant
    assert sizes_ok
    assert types_ok
    with pytest.warns(FutureWarning), pytest.raises(ValueError, match="grad_out"):
        get_numerical_jacobian(lambda xs: xs[0], (a,), grad_out=2.0)


def test_batched_tangents_need_no_rule_of_a_function():
    class Plain(wengert.autograd.Function):
        @staticmethod
        def forward(ctx, x, y):
            return x.clone(), y * 2

        @staticmethod
        def jvp(ctx, x, y):
            return x.clone(), y * 2

    with_batches = {"check_forward_ad": True, "check_batched_forward_grad": True}
    assert gradcheck(Plain.apply, (leaf(2), leaf(2)), check_backward_ad=False, **with_batches)
