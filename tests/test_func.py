"""Function transforms: what each computes, how they nest, and what they refuse."""

import functools
from collections import OrderedDict, namedtuple

import numpy as np
import pytest
import wengert as torch
from support import assert_close, to_array
from wengert.func import grad, grad_and_value, hessian, jacfwd, jacrev, jvp, linearize, vjp, vmap


def close(actual, expected, tol=1.0):
    assert_close(actual, to_array(expected), tol)


def randn(*shape, dtype=torch.float64):
    return torch.randn(*shape, dtype=dtype)


# ---------------------------------------------------------------------------------------- grad


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


# ------------------------------------------------------------------- transforms and the outer graph


def test_results_do_not_require_grad_where_nothing_outside_does():
    x = randn(3)
    assert not grad(lambda x: (x**2).sum())(x).requires_grad
    out, pull_back = vjp(torch.sin, x)
    assert not out.requires_grad
    assert not pull_back(torch.ones(3).double())[0].requires_grad
    assert not hessian(lambda x: (x**3).sum())(x).requires_grad
    assert not linearize(torch.sin, x)[1](x).requires_grad


def test_results_are_differentiable_with_respect_to_the_argument():
    x = randn(3).requires_grad_()
    g = grad(lambda x: (x**3).sum())(x)
    assert g.requires_grad
    (h,) = torch.autograd.grad(g.sum(), x)
    close(h, 6 * x)


def test_results_are_differentiable_with_respect_to_captured_tensors():
    x, w = randn(3), randn(3).requires_grad_()
    g = grad(lambda x: (w**2 * x).sum())(x)
    g.sum().backward()
    close(w.grad, 2 * w)
    assert x.grad is None


def test_the_value_stays_differentiable_after_the_gradient_was_taken():
    x = randn(3).requires_grad_()
    _, value = grad_and_value(lambda x: (x.sin() * x).sum())(x)
    value.backward()
    close(x.grad, x.cos() * x + x.sin())


def test_grad_inside_no_grad_works_and_is_not_recorded():
    x = randn(3).requires_grad_()
    with torch.no_grad():
        g = grad(lambda x: (x**2).sum())(x)
    close(g, 2 * x)
    assert not g.requires_grad


def test_no_grad_inside_makes_constants():
    x = randn()

    def f(x):
        with torch.no_grad():
            shift = x**2
        return x**2 - shift

    close(grad(f)(x), 2 * x)


def test_no_grad_between_transforms():
    x = torch.tensor(1.5).double()

    def h(x):
        with torch.no_grad():
            shift = grad(lambda x: 0.25 * x**4)(x)
        return x**3 - shift

    close(grad(h)(x), 3 * x**2)


def test_no_grad_in_some_places():
    x = randn().requires_grad_()

    def f(x):
        with torch.no_grad():
            shift = x**3
        return x**3 - shift

    def g(x):
        r1 = grad(f)(x)
        with torch.no_grad():
            shift = grad(f)(x)
        return r1 - shift

    close(grad(g)(x), 6 * x)


def test_values_under_no_grad_are_constants():
    x = torch.tensor(1.6).double().requires_grad_()

    def h(x):
        with torch.no_grad():
            _, value = grad_and_value(lambda x: x**3)(x)
        return x**3 - value

    close(grad(h)(x), 3 * x**2)


def test_vjp_under_no_grad():
    x = torch.tensor(2.0).requires_grad_()
    with torch.no_grad():
        out, pull_back = vjp(lambda x: x**2, x)
        (y,) = pull_back(torch.tensor(1.0))
    close(y, 2 * x)
    assert not y.requires_grad
    assert not out.requires_grad


def test_vjp_function_under_no_grad():
    x = torch.tensor(3.14).double().requires_grad_()
    out, pull_back = vjp(lambda x: x**2, x)
    with torch.no_grad():
        (y,) = pull_back(torch.tensor(1.0).double())
    close(y, 2 * x)
    assert not y.requires_grad
    assert out.requires_grad
    close(torch.autograd.grad(out, x)[0], 2 * x)


def test_vjp_function_outside_no_grad():
    x = torch.tensor(3.14).double().requires_grad_()
    with torch.no_grad():
        out, pull_back = vjp(lambda x: x**2, x)
    (y,) = pull_back(torch.tensor(1.0).double())
    assert not out.requires_grad
    assert y.requires_grad
    close(torch.autograd.grad(y, x)[0], torch.tensor(2.0).double())


@pytest.mark.parametrize("outside", [torch.no_grad, torch.inference_mode])
def test_every_transform_works_whatever_the_mode_outside(outside):
    x = randn(3)
    f = lambda x: (x**3).sum()  # noqa: E731
    with outside():
        close(grad(f)(x), 3 * x**2)
        close(jacrev(torch.sin)(x), torch.diag(x.cos()))
        close(jacfwd(torch.sin)(x), torch.diag(x.cos()))
        close(hessian(f)(x), torch.diag(6 * x))


def test_backward_is_refused_inside():
    x = randn(3).requires_grad_()
    for run in (grad(lambda x: x.sum().backward()), vmap(lambda x: x.sum().backward())):
        with pytest.raises(RuntimeError, match=r"backward\(\) called inside a functorch transform"):
            run(x)
    with pytest.raises(RuntimeError, match=r"backward\(\) called inside"):
        grad(lambda x: torch.autograd.backward(x.sum()))(x)


def test_changing_requires_grad_is_refused_inside():
    x = randn(3)
    f = lambda x: x.requires_grad_().sum()  # noqa: E731
    for run in (vmap(f), grad(f), vmap(grad(f)), lambda x: jvp(f, (x,), (x,))):
        with pytest.raises(RuntimeError, match=r"Tensor.requires_grad_\(\)"):
            run(x)
    with pytest.raises(RuntimeError, match=r"Tensor.retain_grad\(\)"):
        grad(lambda x: (x.sin().retain_grad(), x.sum())[1])(x)
    assert x.requires_grad_().requires_grad


def test_writing_to_captured_tensors_is_refused():
    x, captured = randn(3), randn(3)

    def f(x):
        captured.copy_(x)
        return (x * captured).sum()

    def through_a_view(x):
        captured[0] = x[0]
        return x.sum()

    for run in (grad(f), grad(through_a_view), functools.partial(vjp, f), jacrev(f)):
        with pytest.raises(RuntimeError, match="mutate a captured Tensor"):
            run(x)
    with pytest.raises(RuntimeError, match="mutate a captured Tensor"):
        jvp(f, (x,), (x,))
    captured.copy_(x)


def test_writing_to_ones_own_tensors_is_allowed():
    x = randn(3)

    def f(x):
        buffer = torch.zeros(3, dtype=torch.float64)
        buffer.copy_(x)
        buffer[0] = x[1] * 2
        return (buffer * x).sum()

    expected = torch.stack([2 * x[1], 2 * x[0] + 2 * x[1], 2 * x[2]])
    close(grad(f)(x), expected)
    close(jacfwd(f)(x), expected)


def test_an_error_leaves_nothing_behind():
    def fails(x):
        raise ValueError("inside")

    x = randn(3)
    runs = (grad(fails), vmap(fails), jacrev(fails), jacfwd(fails), vmap(grad(fails)))
    for run in (*runs, lambda x: jvp(fails, (x,), (x,))):
        with pytest.raises(ValueError, match="inside"):
            run(x)
    assert torch._core._vmap_depth() == 0
    assert not torch._core._transform_active()
    x.requires_grad_().sum().backward()


def test_hooks_inside_a_transform_see_the_gradient():
    x, seen = randn(3), []

    def f(x):
        y = x.sin()
        y.register_hook(lambda g: seen.append(g) or g * 2)
        return y.sum()

    close(grad(f)(x), 2 * x.cos())
    close(seen[0], torch.ones(3).double())


def test_hooks_on_batched_tensors():
    x, seen = randn(2, 3), []

    def f(x):
        y = x.sin()
        value = y.detach()
        y.register_hook(lambda g: seen.append(g.shape) or g * value)
        return y.sum()

    close(vmap(grad(f))(x), x.cos() * x.sin())
    assert seen == [torch.Size((3,))]


def test_tensors_that_leave_a_grad_keep_their_values():
    kept = []
    x = randn(3)
    grad(lambda x: (kept.append(x.sin()), x.sum())[1])(x)
    close(kept[0].detach(), x.sin())


# ----------------------------------------------------------------------------------------- vjp


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


# ---------------------------------------------------------------------------------- jvp, linearize


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


# ----------------------------------------------------------------------------------- Jacobians

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


# ------------------------------------------------------------------------------- grad and vmap


def test_gradients_of_each_example():
    w, x = randn(3), randn(5, 3)
    f = lambda w, x: ((w * x).sum()) ** 2  # noqa: E731
    g = vmap(grad(f), (None, 0))(w, x)
    close(g, 2 * (x @ w)[:, None] * x, 10)
    assert not g.requires_grad


def test_gradients_of_each_example_of_a_network():
    params = {"w1": randn(4, 3), "b1": randn(4), "w2": randn(2, 4)}
    x, target = randn(6, 3), torch.tensor([0, 1, 1, 0, 1, 0])

    def loss(p, x, t):
        hidden = torch.nn.functional.linear(x, p["w1"], p["b1"]).tanh()
        logits = hidden @ p["w2"].t()
        return torch.nn.functional.cross_entropy(logits[None], t[None])

    per_example = vmap(grad(loss), (None, 0, 0))(params, x, target)
    for i in range(6):
        one = grad(loss)(params, x[i], target[i])
        for name, g in one.items():
            close(per_example[name][i], g, 10)


def test_gradient_of_a_batch_is_a_sum():
    w, x = randn(3), randn(5, 3)
    f = lambda w: vmap(lambda x: (w * x).sum() ** 2)(x).sum()  # noqa: E731
    close(grad(f)(w), grad(lambda w: ((x @ w) ** 2).sum())(w), 10)


def test_ensembles():
    params, x = randn(4, 3), randn(5, 3)
    out = vmap(vmap(torch.dot, (None, 0)), (0, None))(params, x)
    close(out, params @ x.t(), 10)


def test_second_derivatives_of_each_example():
    x = randn(5, 3)
    close(vmap(hessian(lambda x: (x**3).sum()))(x), torch.diag_embed(6 * x), 10)
    close(vmap(jacrev(grad(lambda x: (x**3).sum())))(x), torch.diag_embed(6 * x), 10)


def test_vmap_of_vjp_functions():
    x = randn(3)
    _, pull_back = vjp(lambda x: x.sin() * x.sum(), x)
    basis = torch.eye(3).double()
    (rows,) = vmap(pull_back)(basis)
    close(rows, jacfwd(lambda x: x.sin() * x.sum())(x), 10)


def test_vmap_of_jvp_of_vmap():
    x, t = randn(4, 3), randn(4, 3)
    f = vmap(lambda x: x * x.sum())
    _, push = jvp(f, (x,), (t,))
    one = vmap(lambda x, t: jvp(lambda x: x * x.sum(), (x,), (t,))[1])(x, t)
    close(push, one, 10)
    only_tangents = vmap(lambda t: jvp(lambda x: x * x.sum(), (x[0],), (t,))[1])(t)
    close(only_tangents[1], jvp(lambda x: x * x.sum(), (x[0],), (t[1],))[1], 10)


def test_gradient_penalties():
    w, x = randn(3).requires_grad_(), randn(5, 3)
    norm = lambda w: vmap(grad(lambda x: (w * x.sin()).sum()))(x).norm()  # noqa: E731
    (g,) = torch.autograd.grad(norm(w), w)
    expected = (x.cos() * w).norm()
    close(g, torch.autograd.grad(expected, w)[0], 10)


def test_model_agnostic_meta_learning():
    w, x, y = randn(2), randn(4, 5), randn(4, 5)

    def inner(w, x, y):
        return ((w[0] * x + w[1] - y) ** 2).mean()

    def task(w, x, y):
        adapted = w - 0.1 * grad(inner)(w, x, y)
        return inner(adapted, x, y)

    meta = grad(lambda w: vmap(task, (None, 0, 0))(w, x, y).mean())(w)
    each = torch.stack([grad(task)(w, x[i], y[i]) for i in range(4)])
    close(meta, each.mean(0), 10)


# ------------------------------------------------------------------------------ batched cotangents


def test_is_grads_batched():
    x = randn(3).requires_grad_()
    y = x.sin() * x.sum()
    v = randn(4, 3)
    (rows,) = torch.autograd.grad(y, x, v, is_grads_batched=True)
    close(rows, v @ jacrev(lambda x: x.sin() * x.sum())(x.detach()), 10)
    assert not rows.requires_grad


def test_is_grads_batched_with_several_outputs_and_a_graph():
    x = randn(3).requires_grad_()
    a, b = x**2, x.sum()
    va, vb = randn(2, 3), randn(2)
    (g,) = torch.autograd.grad((a, b), x, (va, vb), is_grads_batched=True, create_graph=True)
    close(g.detach(), (2 * x * va + vb[:, None]).detach())
    (h,) = torch.autograd.grad(g.sum(), x)
    close(h, 2 * va.sum(0))


def test_is_grads_batched_leaves_unused_inputs_alone():
    x, z = randn(3).requires_grad_(), randn(2).requires_grad_()
    y = x * 2
    v = torch.eye(3).double()
    g, none = torch.autograd.grad(y, (x, z), v, is_grads_batched=True, allow_unused=True)
    assert none is None
    close(g, 2 * v)


def test_is_grads_batched_frees_the_graph():
    x = randn(3).requires_grad_()
    y = x.sin()
    torch.autograd.grad(y, x, torch.eye(3).double(), is_grads_batched=True)
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(y, x, torch.ones(3).double())


def test_is_grads_batched_checks_shapes():
    x = randn(3, 3).requires_grad_()
    with pytest.raises(RuntimeError, match="If `is_grads_batched=True`, we interpret the first"):
        torch.autograd.grad(x * 2, x, randn(3, 2), is_grads_batched=True)
    with pytest.raises(RuntimeError, match="If `is_grads_batched=True`, we interpret the first"):
        torch.autograd.grad(x.sum(), x, randn(), is_grads_batched=True)
    with pytest.raises(ValueError, match=r"same size in the mapped dimension, got sizes \[2, 4\]"):
        torch.autograd.grad(
            (x * 2, x * 3), x, (randn(2, 3, 3), randn(4, 3, 3)), is_grads_batched=True
        )


def test_gradients_inside_vmap_of_a_graph_made_outside():
    x = randn(3).requires_grad_()
    y = x.sin()

    def rows(v):
        (g,) = torch.autograd.grad(y, x, v, retain_graph=True)
        return g

    v = randn(4, 3)
    close(vmap(rows)(v), v * x.detach().cos())
    close(vmap(vmap(rows))(v.expand(2, 4, 3)), (v * x.detach().cos()).expand(2, 4, 3))
    with_graph = vmap(lambda v: torch.autograd.grad(y, x, v, create_graph=True)[0])(v)
    (h,) = torch.autograd.grad(with_graph.sum(), x)
    close(h, -x.detach().sin() * v.sum(0))


def test_gradients_inside_vmap_with_respect_to_a_tensor_outside():
    w, x = randn(3).requires_grad_(), randn(4, 3)
    g = vmap(lambda x: torch.autograd.grad((w * x).sum(), w)[0])(x)
    close(g, x)


def test_values_match_numpy():
    x = np.linspace(0.1, 1.0, 5)
    expected = np.cos(x)
    assert_close(vmap(grad(torch.sin))(torch.tensor(x)), expected)
