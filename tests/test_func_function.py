"""`autograd.Function` inside function transforms."""

import pytest
import wengert as torch
from support import assert_close, to_array
from wengert.func import grad, hessian, jacfwd, jacrev, jvp, vjp, vmap


def close(actual, expected, tol=1.0):
    assert_close(actual, to_array(expected), tol)


def randn(*shape):
    return torch.randn(*shape, dtype=torch.float64)


class Sine(torch.autograd.Function):
    """By way of NumPy, so that nothing but its own rules can differentiate or batch it."""

    @staticmethod
    def forward(x):
        return torch.tensor(x.detach().numpy()).sin()

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g * Cosine.apply(x)

    @staticmethod
    def jvp(ctx, t):
        (x,) = ctx.saved_tensors
        return t * Cosine.apply(x)

    @staticmethod
    def vmap(info, in_dims, x):
        assert info.randomness == "error"
        assert x.shape[in_dims[0]] == info.batch_size
        return Sine.apply(x), in_dims[0]


class Cosine(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x):
        return x.cos()

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx, g):
        return -g * Sine.apply(ctx.saved_tensors[0])

    @staticmethod
    def jvp(ctx, t):
        return -t * Sine.apply(ctx.saved_tensors[0])


FUNCTIONS = pytest.mark.parametrize(
    ("f", "g"), [(Sine, torch.sin), (Cosine, torch.cos)], ids=["vmap", "generated"]
)


@FUNCTIONS
def test_values(f, g):
    x = randn(2, 3)
    close(vmap(f.apply)(x), g(x))
    close(vmap(f.apply, in_dims=1, out_dims=1)(x), g(x))
    close(vmap(vmap(f.apply))(x), g(x))
    close(vmap(lambda x, y: f.apply(x) * y, (0, None))(x, x[0]), g(x) * x[0])
    outer = vmap(lambda y: vmap(lambda x: f.apply(y) * x)(x[0]))(x[:, 0])
    close(outer, g(x[:, 0])[:, None] * x[0])


@FUNCTIONS
def test_derivatives(f, g):
    x = randn(3)
    first = grad(lambda x: g(x).sum())(x)
    close(grad(lambda x: f.apply(x).sum())(x), first)
    close(vjp(f.apply, x)[1](torch.ones(3).double())[0], first)
    close(jvp(f.apply, (x,), (torch.ones(3).double(),))[1], first)
    close(jacrev(f.apply)(x), torch.diag(first))
    close(jacfwd(f.apply)(x), torch.diag(first))
    close(hessian(lambda x: f.apply(x).sum())(x), torch.diag(-g(x)))
    close(grad(lambda x: grad(lambda x: f.apply(x).sum())(x).sum())(x), -g(x))


@FUNCTIONS
def test_derivatives_of_each_example(f, g):
    x = randn(2, 3)
    first = grad(lambda x: g(x).sum())(x)
    close(vmap(grad(lambda x: f.apply(x).sum()))(x), first)
    close(grad(lambda x: vmap(f.apply)(x).sum())(x), first)
    close(vmap(jacrev(f.apply))(x), torch.diag_embed(first))
    close(vmap(jacfwd(f.apply))(x), torch.diag_embed(first))
    y = x.clone().requires_grad_()
    vmap(f.apply)(y).sum().backward()
    close(y.grad, first)


def test_several_arguments_and_results():
    class Both(torch.autograd.Function):
        seen = []  # noqa: RUF012

        @staticmethod
        def forward(x, y, scale):
            return x * y, x + y * scale

        @staticmethod
        def setup_context(ctx, inputs, output):
            x, y, ctx.scale = inputs
            ctx.save_for_backward(x, y)

        @staticmethod
        def backward(ctx, a, b):
            x, y = ctx.saved_tensors
            return a * y + b, a * x + b * ctx.scale, None

        @staticmethod
        def vmap(info, in_dims, x, y, scale):
            Both.seen.append((info.batch_size, in_dims))
            x = x.movedim(in_dims[0], 0) if in_dims[0] is not None else x
            return Both.apply(x, y, scale), (0, 0)

    x, y = randn(3, 2), randn(3)
    a, b = vmap(lambda x, y: Both.apply(x, y, 2.0), (1, None))(x, y)
    close(a, x.t() * y)
    close(b, x.t() + 2 * y)
    assert Both.seen == [(2, (1, None, None))]


def test_arguments_without_a_batch_need_no_rule():
    class Plain(torch.autograd.Function):
        @staticmethod
        def forward(x):
            return x * 2

        @staticmethod
        def setup_context(ctx, inputs, output):
            pass

        @staticmethod
        def backward(ctx, g):
            return g * 2

    plain = randn(3)
    close(vmap(lambda x: x * Plain.apply(plain))(randn(2, 3) * 0 + 1), (2 * plain).expand(2, 3))
    with pytest.raises(
        RuntimeError, match="tried to vmap over Plain, but it does not have vmap supp"
    ):
        vmap(Plain.apply)(randn(2, 3))


def test_two_rules_are_one_too_many():
    class Twice(Sine):
        generate_vmap_rule = True

    with pytest.raises(RuntimeError, match="both generate_vmap_rule=True and an overriden vmap"):
        vmap(Twice.apply)(randn(2, 3))


@pytest.mark.parametrize(
    ("result", "text"),
    [
        (lambda x: x, "two returns.*Got a <class 'wengert.Tensor'> instead"),
        (lambda x: (x, 0, 0), "two returns.*Got 3 returns instead"),
        (lambda x: ((x, x), (0, 0, 0)), r"incompatible \(output, out_dims\) tuple"),
    ],
)
def test_results_of_a_rule_are_checked(result, text):
    class Bad(Sine):
        @staticmethod
        def vmap(info, in_dims, x):
            return result(x)

    with pytest.raises(RuntimeError, match=text):
        vmap(Bad.apply)(randn(2, 3))


@pytest.mark.parametrize(
    "run",
    [
        lambda f, x: vmap(f)(x),
        lambda f, x: grad(lambda x: f(x).sum())(x),
        lambda f, x: vjp(f, x),
        lambda f, x: jvp(f, (x,), (x,)),
        lambda f, x: jacrev(f)(x),
        lambda f, x: jacfwd(f)(x),
    ],
)
def test_functions_without_setup_context_are_refused(run):
    class Old(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, g):
            return g * 2

    with pytest.raises(RuntimeError, match=r"autograd.Function with functorch transforms"):
        run(Old.apply, randn(3))
