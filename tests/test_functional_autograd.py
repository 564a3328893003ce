"""`autograd.functional`: values, structure, graphs, strict mode and what is refused."""

import re

import pytest
import wengert as torch
from wengert.autograd import gradcheck, gradgradcheck
from wengert.autograd.functional import hessian, hvp, jacobian, jvp, vhp, vjp

PRODUCTS = pytest.mark.parametrize("product", [vjp, jvp])
HESSIAN_PRODUCTS = pytest.mark.parametrize("product", [vhp, hvp])
# All ways to a Jacobian that must agree.
WAYS = pytest.mark.parametrize(
    "way",
    [
        {},
        {"vectorize": True},
        {"vectorize": True, "strategy": "forward-mode"},
    ],
    ids=["rows", "vectorized", "forward"],
)


def outer(way):
    """The same way for the Jacobian of the gradient in `hessian`."""
    return {{"strategy": "outer_jacobian_strategy"}.get(k, k): v for k, v in way.items()}


def rand(*shape, dtype=torch.float64, grad=False):
    return torch.rand(shape, dtype=dtype).requires_grad_(grad)


def reducer(x):
    return x.exp().sum(dim=1)


def adder(x, y):
    return 2 * x.exp() + 3 * y


def close(a, b):
    if isinstance(a, tuple):
        return len(a) == len(b) and all(map(close, a, b))
    return a.dtype == b.dtype and a.shape == b.shape and torch.allclose(a, b)


# ---- values and structure ------------------------------------------------------------------------


def test_vjp_values():
    x, v = rand(4, 4), rand(4)
    outputs, product = vjp(reducer, x, v)
    assert close(outputs, reducer(x))
    assert close(product, x.exp() * v[:, None])
    x, y, v = rand(2), rand(2), rand(2)
    outputs, product = vjp(adder, (x, y), v)
    assert close(outputs, adder(x, y))
    assert close(product, (2 * x.exp() * v, 3 * v))
    outputs, product = vjp(lambda x, y: (adder(x, y), x * y), (x, y), (v, v))
    assert close(outputs, (adder(x, y), x * y))
    assert close(product, (2 * x.exp() * v + y * v, 3 * v + x * v))


def test_jvp_values():
    x, v = rand(4, 4), rand(4, 4)
    outputs, product = jvp(reducer, x, v)
    assert close(outputs, reducer(x))
    assert close(product, (x.exp() * v).sum(1))
    x, y, u, v = rand(2), rand(2), rand(2), rand(2)
    outputs, product = jvp(lambda x, y: (adder(x, y), y), (x, y), (u, v))
    assert close(outputs, (adder(x, y), y))
    assert close(product, (2 * x.exp() * u + 3 * v, v))


@PRODUCTS
def test_a_single_number_needs_no_vector(product):
    x = rand()
    outputs, found = product(lambda x: x**3, x)
    assert close(found, 3 * x**2)
    outputs, found = product(lambda x: x * 2, rand(1, 1))
    assert outputs.shape == found.shape == (1, 1)


@WAYS
def test_jacobian_values(way):
    x, y = rand(3), rand(3)
    assert close(jacobian(lambda x: x**2, x, **way), (2 * x).diag())
    found = jacobian(adder, (x, y), **way)
    assert isinstance(found, tuple)
    assert close(found, ((2 * x.exp()).diag(), 3 * torch.eye(3, dtype=torch.float64)))
    found = jacobian(lambda x: (x**2, x.sum()), x, **way)
    assert isinstance(found, tuple)
    assert close(found, ((2 * x).diag(), torch.ones(3, dtype=torch.float64)))
    found = jacobian(lambda x, y: (x * y, y.sum()), (x, y), **way)
    zeros, ones = torch.zeros(3, dtype=torch.float64), torch.ones(3, dtype=torch.float64)
    assert close(found, ((y.diag(), x.diag()), (zeros, ones)))


@WAYS
def test_jacobian_shapes(way):
    x, y = rand(2, 3), rand(4)
    found = jacobian(lambda x, y: (x.sum(1), torch.outer(y, y)), (x, y), **way)
    assert [[tuple(j.shape) for j in row] for row in found] == [
        [(2, 2, 3), (2, 4)],
        [(4, 4, 2, 3), (4, 4, 4)],
    ]
    # A tuple of one stays a tuple, on either side.
    assert isinstance(jacobian(lambda x: x, (y,), **way), tuple)
    found = jacobian(lambda x: (x,), (y,), **way)
    assert isinstance(found, tuple)
    assert isinstance(found[0], tuple)
    assert jacobian(lambda x: x.exp(), rand(), **way).shape == ()
    assert jacobian(lambda x: x.exp(), rand(1), **way).shape == (1, 1)
    assert jacobian(lambda x: x.reshape(1, 4, 1), y, **way).shape == (1, 4, 1, 4)


@WAYS
def test_jacobian_of_unrelated_outputs(way):
    x, y = rand(2), rand(3)
    found = jacobian(lambda x, y: (x, y), (x, y), **way)
    eye2, eye3 = torch.eye(2, dtype=torch.float64), torch.eye(3, dtype=torch.float64)
    assert close(
        found,
        (
            (eye2, torch.zeros(2, 3, dtype=torch.float64)),
            (torch.zeros(3, 2, dtype=torch.float64), eye3),
        ),
    )
    constant = rand(2)
    assert close(jacobian(lambda x: constant, x, **way), torch.zeros(2, 2, dtype=torch.float64))


@WAYS
def test_hessian_values(way):
    x, y = rand(2), rand(2)
    assert close(hessian(lambda x: (x**3).sum(), x, **outer(way)), (6 * x).diag())
    found = hessian(lambda x, y: (x**3 * y**2).sum(), (x, y), **outer(way))
    mixed = (6 * x**2 * y).diag()
    assert close(found, (((6 * x * y**2).diag(), mixed), (mixed, (2 * x**3).diag())))
    assert hessian(lambda x: x**2, rand(), **outer(way)).shape == ()
    assert hessian(lambda x: (x**2).sum(), rand(2, 3), **outer(way)).shape == (2, 3, 2, 3)
    assert isinstance(hessian(lambda x: (x**2).sum(), (x,), **outer(way)), tuple)


@WAYS
def test_hessian_of_unrelated_inputs(way):
    x, y = rand(2), rand(2)
    found = hessian(lambda x, y: (x**2).sum(), (x, y), **outer(way))
    zeros = torch.zeros(2, 2, dtype=torch.float64)
    assert close(found, ((2 * torch.eye(2, dtype=torch.float64), zeros), (zeros, zeros)))


@HESSIAN_PRODUCTS
def test_hessian_products(product):
    x, v = rand(3), rand(3)
    output, found = product(lambda x: (x**3).sum(), x, v)
    assert close(output, (x**3).sum())
    assert close(found, 6 * x * v)
    x, y, u, v = rand(2), rand(2), rand(2), rand(2)
    output, found = product(lambda x, y: (x**3 * y**2).sum(), (x, y), (u, v))
    mixed = 6 * x**2 * y
    assert close(found, (6 * x * y**2 * u + mixed * v, mixed * u + 2 * x**3 * v))
    assert close(product(lambda x: x**3, x[0])[1], 6 * x[0])


def test_products_match_matrices():
    def number(x):
        return (x.exp() * x.cumsum(0)).sum()

    x, v = rand(4), rand(4)
    j = jacobian(lambda x: x.cumsum(0).exp(), x)
    assert close(vjp(lambda x: x.cumsum(0).exp(), x, v)[1], v @ j)
    assert close(jvp(lambda x: x.cumsum(0).exp(), x, v)[1], j @ v)
    h = hessian(number, x)
    assert close(vhp(number, x, v)[1], v @ h)
    assert close(hvp(number, x, v)[1], h @ v)


@WAYS
def test_each_block_has_the_inputs_dtype(way):
    x, y = rand(2), rand(2, dtype=torch.float32)
    found = jacobian(lambda x, y: (x * 2, y * 3), (x, y), **way)
    assert found[0][0].dtype == torch.float64
    assert found[1][1].dtype == torch.float32


def test_an_empty_input_or_output():
    x = rand(0)
    assert jacobian(lambda x: x * 2, x).shape == (0, 0)
    assert jacobian(lambda x: x.sum(), x).shape == (0,)
    assert jacobian(lambda x: x[:0], rand(3)).shape == (0, 3)


def test_the_function_sees_tensors_of_its_own():
    x = rand(3, grad=True)
    # The closure's `x` is a constant.
    assert close(jacobian(lambda inner: inner * x, x), x.detach().diag())
    found = vjp(lambda inner: (inner * x).sum(), x, create_graph=True)[1]
    assert found.requires_grad


def test_inputs_are_left_alone():
    x = rand(3, grad=True)
    for call in (vjp, jvp, vhp, hvp):
        call(
            lambda x: (x**3).sum(),
            x,
            torch.ones((), dtype=torch.float64) if call is vjp else rand(3),
        )
    hessian(lambda x: (x**3).sum(), x)
    assert x.grad is None
    assert x.grad_fn is None


# ---- graphs --------------------------------------------------------------------------------------


def test_nothing_has_a_history_without_create_graph():
    x, v = rand(3, grad=True), rand(3, grad=True)
    for results in (
        vjp(lambda x: x**2, x, v),
        jvp(lambda x: x**2, x, v),
        vhp(lambda x: (x**3).sum(), x, v),
        hvp(lambda x: (x**3).sum(), x, v),
        (jacobian(lambda x: x**2, x), hessian(lambda x: (x**3).sum(), x)),
    ):
        assert not any(t.requires_grad for t in results)


@pytest.mark.parametrize("create_graph", [False, True])
def test_no_grad_around(create_graph):
    x, v = rand(3, grad=True), rand(3)
    with torch.no_grad():
        outputs, product = vjp(lambda x: x**2, x, v, create_graph=create_graph)
        assert close(product.detach(), (2 * x * v).detach())
        assert product.requires_grad == outputs.requires_grad == create_graph
        outputs, product = jvp(lambda x: x**2, x, v, create_graph=create_graph)
        assert product.requires_grad == outputs.requires_grad == create_graph
        assert close(product.detach(), (2 * x * v).detach())
        for call in (vhp, hvp):
            output, product = call(lambda x: (x**3).sum(), x, v, create_graph=create_graph)
            assert product.requires_grad == output.requires_grad == create_graph
        assert jacobian(lambda x: x**2, x, create_graph=create_graph).requires_grad == create_graph
        found = hessian(lambda x: (x**3).sum(), x, create_graph=create_graph)
        assert found.requires_grad == create_graph


@pytest.mark.parametrize("check", [gradcheck, gradgradcheck])
def test_results_can_be_differentiated(check):
    x, v, w = rand(2, grad=True), rand(2, grad=True), rand(1, grad=True)
    y = rand(2, grad=True)
    assert check(lambda x, v: vjp(lambda x: x.exp(), x, v, create_graph=True), (x, v))
    assert check(lambda x, v: jvp(lambda x: x.exp(), x, v, create_graph=True), (x, v))
    assert check(lambda x: jacobian(lambda x: x.exp() * x[0], x, create_graph=True), (x,))
    assert check(lambda x, y: jacobian(adder, (x, y), create_graph=True), (x, y))
    assert check(lambda x: hessian(lambda x: (x**4).sum(), x, create_graph=True), (x,))
    assert check(lambda x, v: vhp(lambda x: (x**4).sum(), x, v, create_graph=True), (x, v))
    assert check(lambda x, v: hvp(lambda x: (x**4).sum(), x, v, create_graph=True), (x, v))
    assert check(
        lambda x, w: vjp(lambda x: (x**3).sum(0, True), x, w, create_graph=True)[1], (x, w)
    )


@pytest.mark.parametrize("vectorize", [False, True])
def test_a_jacobian_that_is_differentiated_again(vectorize):
    x = rand(2, grad=True)
    found = jacobian(lambda x: x**3, x, create_graph=True, vectorize=vectorize)
    found.sum().backward()
    assert close(x.grad, (6 * x).detach())
    x.grad = None


# ---- strict mode ---------------------------------------------------------------------------------


def cut(x):
    """Of a function that detaches its input."""
    return x.detach()


def unrelated(x):
    """A tensor that requires grad, but for another reason."""
    return x.long().to(x.dtype).requires_grad_().clone()


def linear(x):
    return 3 * x.narrow(0, 0, 1)


def refused(text):
    return pytest.raises(RuntimeError, match=re.escape(text))


@pytest.mark.parametrize("call", [vjp, jvp, jacobian, hessian, vhp, hvp])
def test_strict_refuses_outputs_without_gradient(call):
    x = rand(1)
    args = () if call in (jacobian, hessian) else (rand(1).squeeze() if call is vjp else rand(1),)

    def func(x):
        return cut(x).sum()

    with refused("Output 0 of the user-provided function does not require gradients."):
        call(func, x, *args, strict=True)
    results = call(func, x, *args)
    assert not torch.count_nonzero(results[1] if isinstance(results, tuple) else results)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (vjp, "The output of the user-provided function is independent of input 0."),
        (jvp, "The output of the user-provided function is independent of input 0."),
        (jacobian, "Output 0 of the user-provided function is independent of input 0."),
        (hessian, "jacobian of the user-provided function with respect to input 0 is independent"),
        (vhp, "The output of the user-provided function is independent of input 0"),
        (hvp, "The output of the user-provided function is independent of input 0"),
    ],
)
def test_strict_refuses_independent_outputs(call, text):
    x = rand(1)
    args = () if call in (jacobian, hessian) else (rand(1).squeeze() if call is vjp else rand(1),)

    def func(x):
        return unrelated(x).sum()

    with refused(text):
        call(func, x, *args, strict=True)
    results = call(func, x, *args)
    assert not torch.count_nonzero(results[1] if isinstance(results, tuple) else results)


def test_strict_refuses_a_constant_jacobian_with_create_graph():
    x = rand(2, grad=True)
    v = rand(2)
    with refused("The jacobian of the user-provided function is independent of input 0."):
        vjp(lambda x: x * 3, x, v, create_graph=True, strict=True)
    with refused("The jacobian of the user-provided function is independent of input 0."):
        jvp(lambda x: x * 3, x, v, create_graph=True, strict=True)
    with refused("The jacobian of the user-provided function is independent of input 0."):
        jacobian(lambda x: x * 3, x, create_graph=True, strict=True)
    assert vjp(lambda x: x**2, x, v, create_graph=True, strict=True)[1].requires_grad


@pytest.mark.parametrize("call", [hessian, vhp, hvp])
def test_strict_refuses_a_linear_function(call):
    x = rand(3)
    args = () if call is hessian else (rand(3),)
    text = "jacobian of the user-provided function with respect to input 0 is independent"
    with refused(text):
        call(lambda x: (3 * x).sum(), x, *args, strict=True)
    results = call(lambda x: (3 * x).sum(), x, *args)
    assert not torch.count_nonzero(results[1] if isinstance(results, tuple) else results)


def test_strict_and_vectorize_do_not_go_together():
    with refused("`strict=True` and `vectorized=True` are not supported together"):
        jacobian(lambda x: x, rand(2), strict=True, vectorize=True)
    with refused('`strict=True` and `strategy="forward-mode"` are not supported together'):
        jacobian(lambda x: x, rand(2), strict=True, vectorize=True, strategy="forward-mode")


# ---- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize("call", [vjp, jvp, jacobian, hessian, vhp, hvp])
def test_inputs_and_outputs_are_tensors(call):
    name, x = call.__name__, rand(4)
    args = () if call in (jacobian, hessian) else (rand(4),)
    with pytest.raises(TypeError, match=f"The inputs given to {name} must be either a Tensor"):
        call(lambda x: x.sum(), (x, 2), *args)
    with pytest.raises(
        TypeError, match=f"The inputs given to {name} must .* given inputs has type"
    ):
        call(lambda x: x.sum(), 2, *args)
    text = f"The outputs of the user-provided function given to {name} must be"
    with pytest.raises(TypeError, match=text):
        call(lambda x: "text", x, *args)
    with pytest.raises(TypeError, match=f"{text}.* value at index 1 has type"):
        call(lambda x: (x.sum(), 1), x, *args)


def test_vectors_must_fit():
    x, y = rand(4, 4), rand(4)
    with refused("The vector v can only be None if the user-provided function returns"):
        vjp(reducer, x)
    with refused("The vector v can only be None if"):
        jvp(reducer, x)
    for call in (vhp, hvp):
        with refused("The vector v can only be None if the input to the user-provided function"):
            call(lambda x: x.sum(), y)
        with refused("v is a tuple of invalid length: should be 2 but got 1."):
            call(lambda x, y: (x * y).sum(), (y, y), (y,))
        with refused("v has invalid size: should be torch.Size([4]) but got torch.Size([4, 4])"):
            call(lambda x: x.sum(), y, x)
    with refused("The given v should contain a single Tensor."):
        vjp(reducer, x, (y, y))
    with refused("v has invalid size: should be torch.Size([4]) but got torch.Size([4, 4])."):
        vjp(reducer, x, x)
    with refused("Entry 1 in v has invalid size:"):
        jvp(adder, (y, y), (y, x))


@pytest.mark.parametrize("call", [hessian, vhp, hvp])
def test_second_derivatives_want_one_number(call):
    name, x = call.__name__, rand(4)
    args = () if call is hessian else (rand(4),)
    with refused(f"The function given to {name} should return a single Tensor"):
        call(lambda x: (x.sum(), x.sum()), x, *args)
    with refused(f"The Tensor returned by the function given to {name} should contain a single"):
        call(lambda x: x, x, *args)


def test_strategies():
    x = rand(2)
    with pytest.raises(AssertionError, match='either "forward-mode" or "reverse-mode"'):
        jacobian(lambda x: x, x, strategy="sideways")
    with pytest.raises(AssertionError, match='either "forward-mode" or "reverse-mode"'):
        hessian(lambda x: x.sum(), x, outer_jacobian_strategy="sideways")
    with pytest.raises(NotImplementedError, match="only implemented for `vectorize=True`"):
        jacobian(lambda x: x, x, strategy="forward-mode")
    with pytest.raises(NotImplementedError, match="`create_graph=True`"):
        jacobian(lambda x: x, x, strategy="forward-mode", vectorize=True, create_graph=True)


# ---- how it is computed --------------------------------------------------------------------------


def test_how_often_the_function_is_called():
    calls = []

    def function(x):
        calls.append(x)
        return x.exp()

    x = rand(5)
    for way in ({}, {"vectorize": True}, {"vectorize": True, "strategy": "forward-mode"}):
        calls.clear()
        jacobian(function, x, **way)
        assert len(calls) == 1


def test_the_dtype_of_a_conversion():
    x = rand(3)

    def function(x):
        return x.float()

    assert jacobian(function, x).dtype == torch.float64
    assert jacobian(function, x, vectorize=True).dtype == torch.float64
    # Tangents are those of the output.
    found = jacobian(function, x, vectorize=True, strategy="forward-mode")
    assert found.dtype == torch.float32
