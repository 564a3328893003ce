"""Function transforms and the graph, the modes and the tensors around them."""

import functools

import pytest
import wengert as torch
from func_support import close, randn
from wengert.func import grad, grad_and_value, hessian, jacfwd, jacrev, jvp, linearize, vjp, vmap


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


def test_writing_to_an_argument_that_is_not_differentiated():
    def f(x, y):
        y.copy_(x)
        return y

    for jac in (jacrev, jacfwd):
        x, y = randn(2), randn(2)
        close(jac(f)(x, y), torch.eye(2).double())
        assert not y.requires_grad
    x, y = randn(2), randn(2)
    close(grad(lambda x, y: f(x, y).sum())(x, y), torch.ones(2).double())
    close(y, x)
    y = {"y": [randn(2)]}
    close(grad(lambda x, y: f(x, y["y"][0]).sum())(x, y), torch.ones(2).double())
    close(y["y"][0], x)


def test_writing_a_part_of_an_argument_that_is_not_differentiated():
    def f(x, y, z):
        x[:2] = y
        return torch.stack([(x**2).sum(), (z**3).sum()])

    for jac in (jacrev, jacfwd):
        y, z = randn(2), randn(2)
        gy, gz = jac(f, argnums=(1, 2))(randn(3), y, z)
        close(gy, torch.stack([2 * y, torch.zeros(2).double()]))
        close(gz, torch.stack([torch.zeros(2).double(), 3 * z**2]))


def test_an_argument_with_a_history_of_its_own_may_not_be_written_to():
    y = randn(2).requires_grad_() * 1
    with pytest.raises(RuntimeError, match="mutate a captured Tensor"):
        grad(lambda x, y: y.mul_(x).sum())(randn(2), y)


def test_jvp_of_functions_that_write_to_their_argument():
    def f(x, y):
        view = x[:, ::2]
        view.copy_(y)
        return view, x

    x, t, y, s = randn(2, 6), randn(2, 6), randn(2, 3), randn(2, 3)
    (_, value), (part, whole) = jvp(f, (x, y), (t.clone(), s))
    expected = t.clone()
    expected[:, ::2] = s
    close(value, x)
    close(part, s)
    close(whole, expected)
    batch = [torch.stack([a, 2 * a]) for a in (x, t, y, s)]
    _, (_, whole) = vmap(lambda *a: jvp(f, a[:2], a[2:]), (0, 0, 0, 0))(
        batch[0], batch[2], batch[1].clone(), batch[3]
    )
    close(whole, torch.stack([expected, 2 * expected]))


def test_views_are_as_old_as_what_they_view():
    captured = randn(3)

    def f(x):
        captured[0:1].copy_(x[0:1])
        return x.sum()

    with pytest.raises(RuntimeError, match="mutate a captured Tensor"):
        grad(f)(randn(3))


def test_no_cotangent_stands_for_one_where_that_is_unambiguous():
    _, pull = vjp(lambda x: (x.sum(), x), randn(3))
    close(pull((None, torch.zeros(3).double()))[0], torch.ones(3).double())
    with pytest.raises(RuntimeError, match="only for scalar outputs"):
        pull((torch.tensor(1.0).double(), None))
