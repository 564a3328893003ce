"""`jvp` of an `autograd.Function`: forward mode through a user's derivative."""

import pytest
import wengert as torch
import wengert.autograd.forward_ad as fwad
from functions import Square, function
from support import leaf
from wengert.autograd import Function


class Product(Function):
    @staticmethod
    def forward(ctx, x, factor, y):
        ctx.save_for_backward(x, y)
        ctx.save_for_forward(x, y)
        ctx.factor = factor
        return x * y * factor

    @staticmethod
    def backward(ctx, g):
        x, y = ctx.saved_tensors
        return g * y * ctx.factor, None, g * x * ctx.factor

    @staticmethod
    def jvp(ctx, dx, nothing, dy):
        assert nothing is None
        x, y = ctx.saved_tensors
        return ctx.factor * (dx * y + x * dy)


class ExpLater(Function):
    @staticmethod
    def forward(x):
        return x.exp()

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_forward(output)
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx, g):
        return g * ctx.saved_tensors[0]

    @staticmethod
    def jvp(ctx, dx):
        return dx * ctx.saved_tensors[0]


def with_jvp(forward, jvp):
    return function(forward, lambda ctx, *g: g, jvp=staticmethod(jvp))


def pushed(fn, x=(1.0, 2.0)):
    """Value and tangent of a function at a new tensor, along ones."""
    with fwad.dual_level():
        x = torch.tensor(x)
        value, tangent = fwad.unpack_dual(fn.apply(fwad.make_dual(x, torch.ones_like(x))))
        return value.tolist(), None if tangent is None else tangent.tolist()


def doubled_in_place(ctx, x):
    ctx.mark_dirty(x)
    return x.mul_(2)


def test_the_tangent_is_what_jvp_returns():
    x, y = torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0])
    with fwad.dual_level():
        z = Product.apply(fwad.make_dual(x, torch.ones(2)), 2, y)
        value, tangent = fwad.unpack_dual(z)
    assert value.tolist() == [6.0, 16.0]
    assert tangent.tolist() == [6.0, 8.0]


def test_jvp_of_the_other_style():
    value, tangent = pushed(ExpLater)
    assert tangent == value


def test_the_tangent_is_recorded_for_reverse_mode():
    x = leaf(0.5)
    with fwad.dual_level():
        _, tangent = fwad.unpack_dual(ExpLater.apply(fwad.make_dual(x, torch.ones(1))))
    (g,) = torch.autograd.grad(tangent, x)
    assert g.tolist() == pytest.approx(x.exp().tolist())


def test_jvp_runs_without_tangents_and_as_recording_says():
    seen = []

    def jvp(ctx, dx):
        seen.append(torch.is_grad_enabled())
        return dx * 2

    fn = with_jvp(lambda ctx, x: x * 2, jvp)
    pushed(fn)
    with torch.no_grad():
        pushed(fn)
    assert seen == [True, False]


def test_forward_sees_no_tangents():
    seen = []

    def forward(ctx, x):
        seen.append(x * 2)
        return x * 2

    with fwad.dual_level():
        with_jvp(forward, lambda ctx, dx: dx * 2).apply(
            fwad.make_dual(torch.ones(2), torch.ones(2))
        )
        assert fwad.unpack_dual(seen[0]).tangent is None


def test_without_jvp_the_method_is_named():
    with pytest.raises(NotImplementedError, match="You must implement the jvp function"):
        pushed(Square)


def test_missing_tangents_are_zeros_or_none():
    seen = []

    def forward(ctx, x, y):
        ctx.set_materialize_grads(ctx.zeros)
        return x * 2

    def jvp(ctx, dx, dy):
        seen.append(dy)
        return dx * 2

    for zeros in (True, False):
        fn = with_jvp(forward, jvp)
        fn._backward_cls.zeros = zeros
        with fwad.dual_level():
            fn.apply(fwad.make_dual(torch.ones(2), torch.ones(2)), torch.ones(3))
    assert seen[0].tolist() == [0.0, 0.0, 0.0]
    assert seen[1] is None


def test_several_outputs_of_which_some_have_no_tangent():
    fn = with_jvp(lambda ctx, x: (x * 2, 7, x.long()), lambda ctx, dx: (dx * 2, None, None))
    with fwad.dual_level():
        y, seven, whole = fn.apply(fwad.make_dual(torch.ones(2), torch.ones(2)))
        assert fwad.unpack_dual(y).tangent.tolist() == [2.0, 2.0]
        assert seven == 7
        assert fwad.unpack_dual(whole).tangent is None


def test_writing_in_place_writes_to_the_tangent():
    fn = with_jvp(doubled_in_place, lambda ctx, dx: dx.mul_(2))
    assert pushed(fn) == ([2.0, 4.0], [2.0, 2.0])


def test_a_tensor_written_to_gets_a_tangent_through_its_views():
    def forward(ctx, x, y):
        ctx.mark_dirty(x)
        return x.add_(y)

    add = with_jvp(forward, lambda ctx, dx, dy: dx.add_(dy))
    with fwad.dual_level():
        y = fwad.make_dual(torch.tensor([3.0]), torch.ones(1))
        base = torch.zeros(2)
        add.apply(base[1:], y)
        value, tangent = fwad.unpack_dual(base)
        assert value.tolist() == [0.0, 3.0]
        assert tangent.tolist() == [0.0, 1.0]


def test_a_view_has_a_view_of_the_tangent():
    fn = with_jvp(lambda ctx, x: x.view(2, 1), lambda ctx, dx: dx.view(2, 1))
    assert pushed(fn) == ([[1.0], [2.0]], [[1.0], [1.0]])


def test_levels_nest():
    with fwad.dual_level():
        x = torch.tensor([2.0])
        y, dy = fwad.unpack_dual(ExpLater.apply(fwad.make_dual(x, torch.ones(1))))
    assert dy.tolist() == y.tolist()


@pytest.mark.parametrize(
    ("forward", "jvp", "message"),
    [
        (
            lambda ctx, x: x * 2,
            lambda ctx, dx: (dx, dx),
            r"invalid number of forward gradients \(expected 1 but got 2\)",
        ),
        (
            lambda ctx, x: x * 2,
            lambda ctx, dx: 3,
            r"expected Variable or None \(got int\) for grad",
        ),
        (lambda ctx, x: x * 2, lambda ctx, dx: torch.ones(3), "has a different size"),
        (lambda ctx, x: x.long(), lambda ctx, dx: dx, "is not a differentiable Tensor"),
        (lambda ctx, x: x, lambda ctx, dx: dx.clone(), "but the jvp is not returning a view"),
        (
            lambda ctx, x: x.view(2, 1),
            lambda ctx, dx: dx.clone().view(2, 1),
            "returning a view but the jvp is not returning a view of",
        ),
        (lambda ctx, x: x[:1], lambda ctx, dx: dx[1:], "same layout as primal"),
        (
            doubled_in_place,
            lambda ctx, dx: dx * 2,
            "not modifying the forward mode gradients inplace",
        ),
        (
            doubled_in_place,
            lambda ctx, dx: dx.mul_(2).clone(),
            "not modifying the forward mode gradients inplace",
        ),
        (
            doubled_in_place,
            lambda ctx, dx: dx.mul_(2).view(-1),
            "not returning the forward mode gradients as-is",
        ),
    ],
)
def test_what_jvp_returns_is_checked(forward, jvp, message):
    with pytest.raises(RuntimeError, match=message):
        pushed(with_jvp(forward, jvp))


def test_what_is_saved_for_backward_is_none_of_jvps():
    seen = []

    class Saves(Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x.clone()

        @staticmethod
        def jvp(ctx, t):
            seen.append(ctx.saved_tensors)
            return t.clone()

        @staticmethod
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            return g * x

    x = torch.tensor([2.0, 3.0], requires_grad=True)
    with fwad.dual_level():
        Saves.apply(fwad.make_dual(x, torch.ones(2))).sum().backward()
    assert seen == [()]
    assert x.grad.tolist() == [2.0, 3.0]
