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

    with pytest.raises(RuntimeError, match="both generate_vmap_rule=True and an overridden vmap"):
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


class Times(torch.autograd.Function):
    """Notes what its methods see."""

    generate_vmap_rule = True
    seen = []  # noqa: RUF012

    @staticmethod
    def forward(x, y):
        Times.seen.append(("forward", tuple(x.shape), tuple(y.shape)))
        return x * y

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)
        ctx.shape = tuple(output.shape)

    @staticmethod
    def backward(ctx, g):
        x, y = ctx.saved_tensors
        Times.seen.append(("backward", tuple(g.shape), ctx.shape, ctx.needs_input_grad))
        return g * y, g * x

    @staticmethod
    def jvp(ctx, a, b):
        x, y = ctx.saved_tensors
        parts = [t for t in (a * y if a is not None else None, b * x if b is not None else None)
                 if t is not None]  # fmt: skip
        return sum(parts[1:], parts[0])


@pytest.fixture
def seen():
    Times.seen.clear()
    yield Times.seen
    Times.seen.clear()


def test_generated_rules_run_the_methods_once(seen):
    x, w = randn(3, 2).requires_grad_(), randn(2).requires_grad_()
    y = vmap(Times.apply, (0, None))(x, w)
    close(y, x * w)
    assert y.grad_fn.name() == "VmappedTimesBackward"
    gx, gw = torch.autograd.grad(y.cos().sum(), [x, w])
    close(gx, -(x * w).sin() * w)
    close(gw, (-(x * w).sin() * x).sum(0))
    assert seen == [("forward", (2,), (2,)), ("backward", (2,), (2,), (True, True))]


def test_generated_rules_of_any_axes(seen):
    x, w = randn(2, 3).requires_grad_(), randn(3, 2).requires_grad_()
    y = vmap(Times.apply, (1, 0), 1)(x, w)
    close(y, x * w.t())
    gx, gw = torch.autograd.grad((y * y).sum(), [x, w])
    close(gx, 2 * x * w.t() ** 2)
    close(gw, 2 * w * x.t() ** 2)


def test_generated_rules_nest(seen):
    x, w = randn(3, 2).requires_grad_(), randn(4, 2).requires_grad_()
    y = vmap(vmap(Times.apply, (None, 0)), (0, None))(x, w)
    close(y, x[:, None] * w)
    gx, gw = torch.autograd.grad(y.cos().sum(), [x, w])
    inner = -(x[:, None] * w).sin()
    close(gx, (inner * w).sum(1))
    close(gw, (inner * x[:, None]).sum(0))
    assert len(seen) == 2


def test_generated_rules_have_second_derivatives(seen):
    x, w = randn(3, 2).requires_grad_(), randn(2).requires_grad_()
    y = vmap(Times.apply, (0, None))(x, w)
    (g,) = torch.autograd.grad((y * y).sum(), w, create_graph=True)
    gx, gw = torch.autograd.grad(g.sum(), [x, w])
    close(gx, 4 * x * w)
    close(gw, 2 * (x * x).sum(0))


def test_generated_rules_inside_and_outside_of_transforms(seen):
    x, w, t = randn(3, 2), randn(2), randn(3, 2)
    close(vmap(grad(lambda x, w: Times.apply(x, w).sum()), (0, None))(x, w), w.expand(3, 2))
    close(grad(lambda w: vmap(Times.apply, (0, None))(x, w).sum())(w), x.sum(0))
    close(jvp(lambda x: vmap(Times.apply, (0, None))(x, w), (x,), (t,))[1], t * w)
    close(vmap(lambda x, t: jvp(lambda x: Times.apply(x, x), (x,), (t,))[1])(x, t), 2 * x * t)
    close(hessian(lambda w: Times.apply(w, w).sum())(w), 2 * torch.eye(2).double())


def test_generated_rules_of_several_results():
    class Several(torch.autograd.Function):
        generate_vmap_rule = True

        @staticmethod
        def forward(x, k):
            return x.exp(), x.sum(), torch.ones(2, dtype=x.dtype)

        @staticmethod
        def setup_context(ctx, inputs, output):
            ctx.save_for_backward(output[0])
            ctx.mark_non_differentiable(output[2])

        @staticmethod
        def backward(ctx, g, h, _):
            (y,) = ctx.saved_tensors
            return g * y + h, None

    x = randn(3, 2).requires_grad_()
    a, b, c = vmap(Several.apply, (0, None))(x, 3)
    close(a, x.exp())
    close(b, x.sum(1))
    assert c.shape == (3, 2)
    assert not c.requires_grad
    (g,) = torch.autograd.grad(a.sum() + (b * b).sum(), x)
    close(g, x.exp() + 2 * x.sum(1, keepdim=True))


def test_generated_rules_may_write_to_an_argument():
    class Add(torch.autograd.Function):
        generate_vmap_rule = True

        @staticmethod
        def forward(x, y):
            return x.add_(y)

        @staticmethod
        def setup_context(ctx, inputs, output):
            ctx.mark_dirty(inputs[0])

        @staticmethod
        def backward(ctx, g):
            return g, g

    x, y = randn(3, 2).requires_grad_(), randn(2).requires_grad_()
    z = x.clone()
    result = vmap(Add.apply, (0, None))(z, y)
    close(z, x + y)
    gx, gy = torch.autograd.grad((result * result).sum(), [x, y])
    close(gx, 2 * z)
    close(gy, 2 * z.sum(0))


def test_generated_rules_refuse_what_vmap_refuses():
    class Item(torch.autograd.Function):
        generate_vmap_rule = True

        @staticmethod
        def forward(x):
            return x * x.sum().item()

        @staticmethod
        def setup_context(ctx, inputs, output):
            pass

    with pytest.raises(RuntimeError, match=r"item\(\) on a Tensor"):
        vmap(Item.apply)(randn(3, 2))


def test_a_rule_is_told_the_axis_that_vmap_was_told():
    told = []

    class Id(torch.autograd.Function):
        @staticmethod
        def forward(x, y):
            return x, y

        @staticmethod
        def setup_context(ctx, inputs, output):
            pass

        @staticmethod
        def vmap(info, in_dims, x, y):
            told.append(in_dims)
            return (x, y), in_dims

    x = randn(2, 2)
    vmap(Id.apply, in_dims=1)(x, [x, x])
    vmap(Id.apply, in_dims=(1, None))(x, [x, x])
    assert told == [(1, [1, 1]), (1, [None, None])]


def test_keyword_only_tensors_are_refused():
    class Add(torch.autograd.Function):
        @staticmethod
        def forward(x, *, y):
            return x + y

        @staticmethod
        def setup_context(ctx, inputs, output):
            pass

        @staticmethod
        def vmap(info, in_dims, x, *, y):
            return x + y, 0

    with pytest.raises(NotImplementedError, match="kwarg-only Tensor args"):
        vmap(Add.apply)(randn(3), y=randn(3))


@pytest.mark.parametrize("dims", [(None,), (0,), [0]])
def test_axes_must_have_the_structure_of_the_result(dims):
    class Id(torch.autograd.Function):
        @staticmethod
        def forward(x):
            return x

        @staticmethod
        def setup_context(ctx, inputs, output):
            pass

        @staticmethod
        def vmap(info, in_dims, x):
            return x, dims

    with pytest.raises(RuntimeError, match="returned an incompatible"):
        vmap(Id.apply)(randn(3))
