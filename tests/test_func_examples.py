"""Derivatives of each example of a batch."""

import wengert as torch
from func_support import close, randn
from wengert.func import grad, hessian, jacfwd, jacrev, jvp, vjp, vmap


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
