"""`vjp`, `jvp` and `linearize`."""

import pytest
import wengert as torch
from func_support import close, randn
from wengert.func import grad, hessian, jvp, linearize, vjp, vmap


def test_vjp_of_one_argument():
    x = randn(3)
    y, pull_back = vjp(torch.sin, x)
    close(y, x.sin())
    v = randn(3)
    close(pull_back(v)[0], v * x.cos())
    close(pull_back(2 * v)[0], 2 * v * x.cos())


def test_vjp_of_two_arguments():
    x, y = randn(5, 4), randn(4, 5)
    _, pull_back = vjp(torch.matmul, x, y)
    v = randn(5, 5)
    gx, gy = pull_back(v)
    close(gx, v @ y.t(), 10)
    close(gy, x.t() @ v, 10)


def test_vjp_of_nests():
    x = randn(3)

    def f(p):
        return {"sin": p["x"].sin(), "rest": (p["x"].cos(), [p["x"].exp()])}

    out, pull_back = vjp(f, {"x": x})
    ones = torch.ones(3).double()
    (g,) = pull_back({"sin": ones, "rest": (0 * ones, [ones])})
    close(g["x"], x.cos() + x.exp())
    close(out["rest"][1][0], x.exp())


def test_vjp_of_unused_results_and_arguments():
    x, y = randn(3), randn(2)
    (_, constant), pull_back = vjp(lambda x, y: (x.sin(), torch.ones(2).double()), x, y)
    gx, gy = pull_back((torch.ones(3).double(), torch.ones(2).double()))
    close(gx, x.cos())
    close(gy, torch.zeros(2).double())
    assert not constant.requires_grad


def test_vjp_with_aux():
    x = randn(3)
    _, pull_back, aux = vjp(lambda x: (x.sin(), x.cos()), x, has_aux=True)
    close(aux, x.cos())
    close(pull_back(torch.ones(3).double())[0], x.cos())
    assert not aux.requires_grad


@pytest.mark.parametrize(
    ("f", "text"),
    [
        (
            lambda x: (x, 1),
            "expected f.* to return only tensors, got unsupported type <class 'int'>",
        ),
        (lambda x: (), "non-empty output"),
        (lambda x: (x * 3).long(), "floating-point or complex Tensors, got Tensor with dtype"),
    ],
)
def test_vjp_refuses(f, text):
    with pytest.raises(RuntimeError, match=text):
        vjp(f, randn(3))


def test_vjp_checks_cotangents():
    x = randn(3)
    _, pull_back = vjp(lambda x: x, x)
    with pytest.raises(RuntimeError, match="Mismatch in shape: grad_output"):
        pull_back(randn(2))
    with pytest.raises(RuntimeError, match=r"pytree structure of cotangents.*\(\*,\).*output: \*"):
        pull_back((x,))
    with pytest.raises(ValueError, match="must be Tensor"):
        vjp(torch.sin, 1.0)


def test_jvp_of_one_argument():
    x, t = randn(3), randn(3)
    y, dy = jvp(torch.sin, (x,), (t,))
    close(y, x.sin())
    close(dy, x.cos() * t)


def test_jvp_of_several_arguments_and_results():
    x, y, s, t = randn(2), randn(2), randn(2), randn(2)
    (a, b), (da, db) = jvp(lambda x, y: (x * y, x.sin()), (x, y), (s, t))
    close(a, x * y)
    close(da, s * y + x * t)
    close(db, x.cos() * s)
    close(b, x.sin())


def test_jvp_of_nests():
    x = {"a": randn(2)}
    t = {"a": randn(2)}
    out, push = jvp(lambda p: [p["a"].exp()], (x,), (t,))
    close(push[0], x["a"].exp() * t["a"])
    assert isinstance(out, list)


def test_jvp_of_what_is_independent_is_zero():
    x = randn(3)
    _, dy = jvp(lambda x: torch.ones(2), (x,), (x,))
    close(dy, torch.zeros(2))
    with pytest.raises(RuntimeError, match="independent of the inputs"):
        jvp(lambda x: torch.ones(2), (x,), (x,), strict=True)


def test_jvp_with_aux():
    x, t = randn(3), randn(3)
    _, dy, aux = jvp(lambda x: (x.sin(), x.cos()), (x,), (t,), has_aux=True)
    close(aux, x.cos())
    close(dy, x.cos() * t)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda f, x: jvp(f, x, x), "Expected primals to be a tuple"),
        (lambda f, x: jvp(f, (x,), (x, x)), "same python structure"),
        (lambda f, x: jvp(f, (), ()), "at least one Tensor"),
        (lambda f, x: jvp(f, (1.0,), (x,)), "primals to only contain Tensors"),
        (lambda f, x: jvp(f, (x,), (1.0,)), "tangents to only contain Tensors"),
        (lambda f, x: jvp(lambda x: 1, (x,), (x,)), "to return only tensors"),
        (lambda f, x: jvp(lambda x: (), (x,), (x,)), "non-empty output"),
        (lambda f, x: jvp(f, (x,), (x[0],)), "different size"),
        (lambda f, x: vmap(lambda x: jvp(f, (x,), (x[0],))[1])(x.expand(2, 3)), "different size"),
        (lambda f, x: jvp(f, (x,), (x,), has_aux=True), r"tuple: \(output, aux\)"),
    ],
)
def test_jvp_refuses(call, text):
    with pytest.raises(RuntimeError, match=text):
        call(torch.sin, randn(3))


def test_jvp_of_jvp():
    x, one = randn(), torch.tensor(1.0).double()
    second = jvp(lambda x: jvp(torch.sin, (x,), (one,))[1], (x,), (one,))[1]
    close(second, -x.sin())


def test_forward_over_reverse_and_reverse_over_forward():
    x, t = randn(3), randn(3)
    f = lambda x: (x**3 * x.sum()).sum()  # noqa: E731
    h = hessian(f)(x)
    close(jvp(grad(f), (x,), (t,))[1], h @ t, 10)
    close(grad(lambda x: jvp(f, (x,), (t,))[1])(x), h @ t, 10)
    close(vjp(lambda x: jvp(f, (x,), (t,))[1], x)[1](torch.tensor(1.0).double())[0], h @ t, 10)
    close(linearize(grad(f), x)[1](t), h @ t, 10)


def test_linearize_is_jvp():
    x, y = randn(3), {"y": randn(3)}
    calls = []

    def f(x, y):
        calls.append(1)
        return x * y["y"].sin(), [(x**2).sum()]

    out, push = linearize(f, x, y)
    close(out[0], x * y["y"].sin())
    for _ in range(2):
        s, t = randn(3), {"y": randn(3)}
        a, (b,) = push(s, t)
        (ea, (eb,)) = jvp(f, (x, y), (s, t))[1]
        close(a, ea)
        close(b, eb)
    assert len(calls) == 3  # once here, twice by jvp


def test_linearize_of_linear_functions_and_constants():
    x = randn(3)
    _, push = linearize(lambda x: (2 * x, torch.ones(2).double()), x)
    a, b = push(x)
    close(a, 2 * x)
    close(b, torch.zeros(2).double())


def test_linearize_nests():
    x, t = randn(3), randn(3)
    close(grad(lambda x: linearize(torch.sin, x)[1](t).sum())(x), -x.sin() * t)
    close(vmap(lambda x, t: linearize(torch.sin, x)[1](t))(x, t), x.cos() * t)
    _, push = linearize(torch.sin, x)
    close(vmap(push)(torch.eye(3).double()), torch.diag(x.cos()))


def test_linearize_checks_directions():
    _, push = linearize(torch.sin, randn(3, 3))
    with pytest.raises(RuntimeError, match=r"tangent:0 with shape .* doesn't match the shape"):
        push(randn(3))
    with pytest.raises(RuntimeError, match=r"tangent:0 with dtype .* doesn't match the dtype"):
        push(randn(3, 3).float())
    with pytest.raises(RuntimeError, match="to have the same argspec as the primals"):
        push((randn(3, 3),))
