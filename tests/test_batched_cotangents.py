"""Gradients of many cotangents at once, and inside `vmap`."""

import pytest
import wengert as torch
from func_support import close, randn
from wengert.func import jacrev, vjp, vmap


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


def eye(n):
    return torch.eye(n, dtype=torch.float64)


def batched_grad(y, x, **options):
    return torch.autograd.grad(y, x, eye(len(y)), is_grads_batched=True, **options)[0]


def test_the_graph_is_walked_once():
    shapes = []

    class Square(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            shapes.append((tuple(g.shape), tuple(x.shape)))
            return 2 * x * g

    x = randn(3).requires_grad_()
    close(batched_grad(Square.apply(x.sin()), x), torch.diag(2 * x.sin() * x.cos()))
    assert shapes == [((3,), (3,))]


def test_hooks_see_one_cotangent_that_stands_for_all():
    seen = []
    x = randn(3).requires_grad_()
    y = x.sin()
    y.register_hook(lambda g: seen.append(g.shape) or g * 2)
    x.register_hook(lambda g: seen.append(g.shape) or g + 1)
    node = y.grad_fn
    node.register_prehook(lambda gs: seen.append(gs[0].shape))
    node.register_hook(lambda into, out: seen.append(into[0].shape))
    close(batched_grad(y.exp(), x), torch.diag(2 * y.exp() * x.cos()) + 1)
    assert seen == [(3,)] * 4


def test_a_hook_may_write_to_its_cotangent():
    x = randn(3).requires_grad_()
    y = x.sin()
    y.register_hook(lambda g: g.mul_(3))
    close(batched_grad(y, x), 3 * torch.diag(x.cos()))


def test_a_function_that_looks_at_values_runs_for_each_cotangent():
    class Item(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, g):
            return g * 2 if g.sum().item() > 0 else g * 3

    class Numpy(Item):
        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx, g):
            return torch.tensor(5 * g.numpy())

    class Unbatched(torch.autograd.Function):
        @staticmethod
        def forward(x):
            return 2 * x

        @staticmethod
        def setup_context(ctx, inputs, output):
            pass

        @staticmethod
        def backward(ctx, g):
            return Unbatched.apply(g)

    class Old(Item):
        @staticmethod
        def backward(ctx, g):
            return Item.apply(g) * 7

    x = randn(3).requires_grad_()
    v = torch.tensor([[1.0, 0.0, 0.0], [0.0, -1.0, 0.0]]).double()
    for f, factors in ((Item, (2, 3)), (Numpy, (5, 5)), (Unbatched, (2, 2)), (Old, (7, 7))):
        y = f.apply(x.sin()) * 1.0
        (g,) = torch.autograd.grad(y, x, v, is_grads_batched=True)
        close(g, torch.stack([k * row * x.cos() for k, row in zip(factors, v, strict=True)]))


def test_a_function_whose_gradient_has_no_fixed_shape_is_refused():
    class Dynamic(torch.autograd.Function):
        @staticmethod
        def forward(x):
            return x.clone()

        @staticmethod
        def setup_context(ctx, inputs, output):
            pass

        @staticmethod
        def backward(ctx, g):
            g.nonzero()
            return g

    x = randn(3)
    with pytest.raises(RuntimeError, match="can output dynamic shape"):
        jacrev(Dynamic.apply, chunk_size=2)(x)
    close(jacrev(Dynamic.apply, chunk_size=1)(x), eye(3))


def test_errors_of_a_function_are_its_own_and_come_once():
    calls = []

    class Broken(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, g):
            calls.append(g)
            raise KeyError("mine")

    x = randn(3).requires_grad_()
    with pytest.raises(KeyError, match="mine"):
        batched_grad(Broken.apply(x), x)
    assert len(calls) == 1
    calls.clear()


def test_paths_that_join_are_added():
    x = randn(3).requires_grad_()
    y = x * x.sin() + x.exp() + x
    close(batched_grad(y, x), torch.diag(x * x.cos() + x.sin() + x.exp() + 1))
    y = torch.stack([x.sum(), (x * x).sum(), x[0]])
    unit = torch.tensor([1.0, 0.0, 0.0]).double()
    close(batched_grad(y, x), torch.stack([torch.ones(3).double(), 2 * x, unit]))


def test_gradients_kept_by_a_tensor_are_not_those_of_one_cotangent():
    x = randn(3).requires_grad_()
    y = x.sin()
    y.retain_grad()
    batched_grad(y * 2, x)
    assert y.grad is None


def test_several_levels_of_cotangents():
    x = randn(3)
    _, pull = vjp(lambda x: x.exp() * x.sum(), x)
    v = randn(2, 4, 3)
    expected = torch.stack([torch.stack([pull(c)[0] for c in row]) for row in v])
    close(vmap(vmap(pull))(v)[0], expected)
    close(vmap(vmap(pull), in_dims=1, out_dims=1)(v)[0], expected)


def test_cotangents_of_levels_outside_and_inside_that_of_the_graph():
    x, v = randn(4, 3), randn(2, 3)

    def one(x, v):
        return vjp(lambda x: x.exp() * x.sum(), x)[1](v)[0]

    expected = torch.stack([torch.stack([one(a, b) for a in x]) for b in v])
    close(vmap(lambda b: vmap(lambda a: one(a, b))(x))(v), expected)
    close(vmap(lambda a: vmap(lambda b: one(a, b))(v))(x), expected.transpose(0, 1))


def test_saved_tensors_hooks_run_once():
    unpacked = []
    x = randn(3).requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t, lambda t: unpacked.append(1) or t):
        y = x.exp()
    close(batched_grad(y, x), torch.diag(y))
    assert unpacked == [1]


def test_anomaly_mode_looks_at_all_cotangents():
    x = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    y = x.sqrt()
    v = torch.stack([torch.ones(2), torch.zeros(2)]).double()
    with (
        pytest.warns(UserWarning, match="SqrtBackward0"),
        torch.autograd.set_detect_anomaly(True),
        pytest.raises(RuntimeError, match="SqrtBackward0' returned nan"),
    ):
        torch.autograd.grad(y, x, v, is_grads_batched=True)


def test_a_batch_of_no_cotangents():
    x = randn(3).requires_grad_()
    y = torch.softmax(x * x, 0).cumsum(0)
    (g,) = torch.autograd.grad(y, x, torch.zeros(0, 3).double(), is_grads_batched=True)
    assert g.shape == (0, 3)


def test_single_numbers_and_other_types():
    x = torch.tensor(2.0, requires_grad=True)
    (g,) = torch.autograd.grad(x**3, x, torch.tensor([1.0, 2.0]), is_grads_batched=True)
    close(g, torch.tensor([12.0, 24.0]))
    y = torch.tensor([1.0, 2.0], requires_grad=True)
    z = y.double() * torch.tensor([3.0, 4.0]).half()
    (g,) = torch.autograd.grad(z, y, eye(2), is_grads_batched=True)
    assert g.dtype == torch.float32
    close(g, torch.diag(torch.tensor([3.0, 4.0])))
