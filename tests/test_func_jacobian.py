"""`jacrev`, `jacfwd` and `hessian`."""

import functools

import numpy as np
import pytest
import wengert as torch
from func_support import close, randn
from wengert.func import grad, hessian, jacfwd, jacrev, vmap

JACOBIANS = [jacrev, jacfwd, functools.partial(jacrev, chunk_size=1),
             functools.partial(jacrev, chunk_size=2)]  # fmt: skip
jacobians = pytest.mark.parametrize("jac", JACOBIANS, ids=["rev", "fwd", "rev-1", "rev-2"])


@jacobians
def test_jacobian_of_a_diagonal_function(jac):
    x = randn(3)
    close(jac(torch.sin)(x), torch.diag(x.cos()))


@jacobians
def test_jacobian_of_a_product(jac):
    a, x = randn(2, 3), randn(3)
    close(jac(lambda x: a @ x)(x), a)


@jacobians
def test_jacobian_shapes(jac):
    x = randn(2, 3)
    assert jac(lambda x: x.sum(0))(x).shape == (3, 2, 3)
    assert jac(lambda x: x.sum())(x).shape == (2, 3)
    assert jac(lambda x: x)(randn()).shape == ()
    assert jac(lambda x: x.expand(4))(randn()).shape == (4,)


@jacobians
def test_jacobian_of_nests(jac):
    x, y = randn(3), randn(2)

    def f(x, y):
        return {"a": x * y[0], "b": (y, x.sum())}

    both = jac(f, argnums=(0, 1))(x, y)
    assert isinstance(both["a"], tuple)
    close(both["a"][0], torch.eye(3).double() * y[0])
    close(both["a"][1], torch.stack([x, 0 * x], 1))
    close(both["b"][0][1], torch.eye(2).double())
    close(both["b"][1][0], torch.ones(3).double())
    only = jac(f, argnums=1)(x, y)
    close(only["a"], both["a"][1])


@jacobians
def test_jacobian_with_respect_to_a_nest(jac):
    p = {"w": randn(2, 3), "b": randn(2)}
    x = randn(3)
    j = jac(lambda p: p["w"] @ x + p["b"])(p)
    close(j["b"], torch.eye(2).double())
    assert j["w"].shape == (2, 2, 3)
    close(j["w"][0, 0], x)
    close(j["w"][0, 1], 0 * x)


@jacobians
def test_jacobian_with_aux(jac):
    x = randn(3)
    j, aux = jac(lambda x: (x.sin(), (x.cos(), [x])), has_aux=True)(x)
    close(j, torch.diag(x.cos()))
    close(aux[0], x.cos())
    close(aux[1][0], x)


@jacobians
def test_jacobian_of_what_is_independent(jac):
    x = randn(3)
    close(jac(lambda x: torch.ones(2).double())(x), torch.zeros(2, 3).double())


@jacobians
def test_jacobian_of_a_batch(jac):
    x = randn(4, 3)
    close(vmap(jac(torch.sin))(x), torch.diag_embed(x.cos()))


@jacobians
def test_jacobian_of_a_jacobian(jac):
    x = randn(3)
    f = lambda x: (x**3).sum()  # noqa: E731
    for other in JACOBIANS:
        close(jac(other(f))(x), torch.diag(6 * x), 10)


@jacobians
def test_jacobian_refuses_numbers(jac):
    with pytest.raises(RuntimeError, match="to return only tensors"):
        jac(lambda x: 1.0)(randn(3))


def test_jacobian_of_empty_tensors():
    assert jacrev(lambda x: x)(randn(0)).shape == (0, 0)
    assert jacfwd(lambda x: x)(randn(0)).shape == (0, 0)


def test_jacrev_refuses_chunks_of_nothing():
    with pytest.raises(ValueError, match="`chunk_size` should be greater than 0"):
        jacrev(torch.sin, chunk_size=0)


def test_jacrev_runs_the_function_once_and_on_plain_tensors():
    calls = []

    def f(x):
        calls.append(1)
        return x * 2 if x.sum() > 0 else x

    close(jacrev(f)(torch.ones(3)), 2 * torch.eye(3))
    assert len(calls) == 1


def test_hessian():
    x = randn(4)
    f = lambda x: (x.exp() * x.sum()).sum()  # noqa: E731
    h = hessian(f)(x)
    close(h, h.t())
    close(h, jacrev(jacrev(f))(x), 10)
    a, b = randn(2), randn(3)
    blocks = hessian(lambda a, b: (a.sum() * b**2).sum(), argnums=(0, 1))(a, b)
    close(blocks[1][1], torch.diag(2 * a.sum().expand(3)))
    assert blocks[0][1].shape == (2, 3)


def test_forward_jacobians_of_functions_that_look_at_values():
    x = randn(3)
    f = lambda x: x * 2 if x.sum() > 100 else x.sin()  # noqa: E731
    close(jacfwd(f)(x), torch.diag(x.cos()))
    close(hessian(lambda x: (x**3).sum() * x[0].detach().item())(x), torch.diag(6 * x * x[0]))
    with pytest.raises(RuntimeError, match="data-dependent control flow"):
        vmap(jacfwd(f))(randn(2, 3))


def test_random_functions_have_no_forward_jacobian_unless_told():
    x = randn(3)
    with pytest.raises(RuntimeError, match="called random operation"):
        jacfwd(lambda x: x * torch.randn(3))(x)
    assert jacfwd(lambda x: x * torch.rand(3), randomness="same")(x).shape == (3, 3)


def test_values_match_numpy():
    x = np.linspace(0.1, 1.0, 5)
    expected = np.cos(x)
    close(vmap(grad(torch.sin))(torch.tensor(x)), torch.tensor(expected))
