"""`grad` and `grad_and_value`."""

from collections import OrderedDict, namedtuple

import pytest
import wengert as torch
from func_support import close, randn
from wengert.func import grad, grad_and_value, jacfwd, jacrev, jvp


def test_grad_of_a_primitive():
    x = randn()
    close(grad(torch.sin)(x), x.cos())


def test_grad_of_a_composition():
    x = randn()
    close(grad(lambda x: (x.sin()).cos())(x), -x.sin().sin() * x.cos())


def test_grad_of_two_arguments_is_of_the_first():
    x, y = randn(), randn()
    close(grad(lambda x, y: x**2 * y)(x, y), 2 * x * y)


def test_grad_of_a_reduction():
    x = randn(3)
    close(grad(lambda x: (x**2).sum())(x), 2 * x)


def test_grad_of_what_does_not_depend_on_the_argument_is_zero():
    x = randn(3)
    y = randn(3, 4).requires_grad_()
    close(grad(lambda x: (y**2).sum())(x), torch.zeros_like(x))
    close(grad(lambda x: torch.ones(()))(x), torch.zeros_like(x))


def test_grad_sees_only_its_own_argument():
    x = randn()
    close(grad(lambda y: x * y)(x), x)
    close(grad(lambda y: x**2)(x), torch.zeros_like(x))


def test_grad_through_views_and_writes():
    x = randn(3)

    def f(x):
        y = x.clone()
        y[0].sin_()
        y[1:] *= 2
        return y.sum()

    close(grad(f)(x), torch.stack([x[0].cos(), torch.tensor(2.0), torch.tensor(2.0)]))


def test_grad_respects_views_of_the_argument():
    x = randn(3, 2)
    close(
        grad(lambda x: x.view(6)[1:3].sum())(x), torch.tensor([[0.0, 1], [1, 0], [0, 0]]).double()
    )


def test_grad_of_grad():
    x = randn()
    close(grad(grad(torch.sin))(x), -x.sin())
    close(grad(grad(grad(torch.sin)))(x), -x.cos())


def test_perturbations_are_not_confused():
    one = torch.tensor(1.0)
    assert grad(lambda x: x * grad(lambda y: x + y)(one))(one).item() == 1.0
    inner = lambda x: jvp(lambda y: x + y, (one,), (one,))[1]  # noqa: E731
    assert jvp(lambda x: x * inner(x), (one,), (one,))[1].item() == 1.0
    assert grad(lambda x: x * inner(x))(one).item() == 1.0
    assert jvp(lambda x: x * grad(lambda y: x + y)(one), (one,), (one,))[1].item() == 1.0


def test_inner_transforms_do_not_see_outer_variables_as_theirs():
    x = randn()

    def f(x):
        return x * grad(lambda y: x**2 * y**3)(x)

    # x · 3 x² x² = 3 x⁵
    close(grad(f)(x), 15 * x**4, 10)


def test_grad_with_argnums():
    x, y = randn(), randn()

    def f(x, y):
        return x**2 * y**3

    close(grad(f, argnums=1)(x, y), 3 * x**2 * y**2)
    close(grad(f, argnums=-1)(x, y), 3 * x**2 * y**2)
    both = grad(f, argnums=(0, 1))(x, y)
    assert isinstance(both, tuple)
    close(both[0], 2 * x * y**3)
    swapped = grad(f, argnums=(1, 0))(x, y)
    close(swapped[1], both[0])
    assert isinstance(grad(f, argnums=(0,))(x, y), tuple)


@pytest.mark.parametrize(
    ("argnums", "text"),
    [
        (2, "Got argnum=2, but only 1 positional inputs"),
        (-2, "Got argnum=-2"),
        ((), "argnums must be non-empty"),
        ((0, 0), "argnums elements must be unique"),
        ("0", "argnums must be int or Tuple"),
        (1.0, "argnums must be int or Tuple"),
        ((0.0,), "argnum must be int"),
    ],
)
@pytest.mark.parametrize("transform", [grad, grad_and_value, jacrev, jacfwd])
def test_bad_argnums(transform, argnums, text):
    with pytest.raises(RuntimeError, match=text):
        transform(lambda x: x.sum(), argnums=argnums)(randn(3))


def test_grad_of_nested_arguments():
    Point = namedtuple("Point", "x y")  # noqa: PYI024
    params = {"a": randn(2), "b": [randn(), Point(randn(2), randn())]}

    def f(p):
        point = p["b"][1]
        return (p["a"] * point.x).sum() * p["b"][0] + point.y

    g = grad(f)(params)
    assert list(g) == ["a", "b"]
    assert isinstance(g["b"][1], Point)
    close(g["a"], params["b"][1].x * params["b"][0])
    close(g["b"][1].y, torch.tensor(1.0).double())
    ordered = OrderedDict(w=randn(2))
    assert isinstance(grad(lambda p: p["w"].sum())(ordered), OrderedDict)


def test_grad_and_value():
    x = randn(3)
    g, value = grad_and_value(lambda x: x.sin().sum())(x)
    close(g, x.cos())
    close(value, x.sin().sum())
    assert not value.requires_grad


def test_auxiliary_results():
    x = randn(3)

    def f(x):
        y = x.sin()
        return y.sum(), {"y": y, "pair": (x, [y.cos()])}

    g, aux = grad(f, has_aux=True)(x)
    close(g, x.cos())
    close(aux["pair"][1][0], x.sin().cos())
    assert not aux["y"].requires_grad
    assert not aux["pair"][0].requires_grad
    g, (value, aux) = grad_and_value(f, has_aux=True)(x)
    close(value, x.sin().sum())
    close(aux["y"], x.sin())


def test_auxiliary_results_are_differentiable_for_outer_transforms():
    x = randn()

    def f(x):
        def inner(y):
            return (y**2, y**3)

        g, aux = grad(inner, has_aux=True)(x)
        return g * aux

    close(grad(f)(x), 8 * x**3)


def test_keyword_arguments_are_passed_on():
    x = randn(3)
    close(grad(lambda x, scale=1: (scale * x).sum())(x, scale=3.0), torch.full((3,), 3.0).double())


@pytest.mark.parametrize(
    ("f", "options", "text"),
    [
        (lambda x: x, {}, r"to return a scalar Tensor, got tensor with 1 dims"),
        (lambda x: (x.sum(), 1), {}, r"to return a Tensor, got <class 'tuple'>"),
        (lambda x: 1.0, {}, r"to return a Tensor, got <class 'float'>"),
        (lambda x: x.sum(), {"has_aux": True}, r"should be a tuple: \(output, aux\)"),
        (lambda x: (x.sum(), x, x), {"has_aux": True}, r"should be a tuple: \(output, aux\)"),
        (lambda x: (x.sum(), object()), {"has_aux": True}, r"Expected tensors, got unsupported"),
        (lambda x: (x.sum(), 1.0), {"has_aux": True}, r"Expected tensors, got unsupported"),
    ],
)
def test_grad_refuses(f, options, text):
    with pytest.raises(RuntimeError, match=text):
        grad(f, **options)(randn(3))


@pytest.mark.parametrize("transform", [grad, grad_and_value])
def test_grad_needs_tensors(transform):
    with pytest.raises(ValueError, match="Thing passed to transform API must be Tensor"):
        transform(lambda x: x)(2.0)


def test_grad_needs_floats():
    with pytest.raises(RuntimeError, match="only Tensors of floating point"):
        grad(lambda x: x.sum())(torch.tensor([1, 2]))
