"""Forward mode mixed: with reverse mode, with itself, and how long tangents live."""

import gc
import weakref

import pytest
import wengert as torch
import wengert.autograd.forward_ad as fwAD
from duals import V, X, dual, is_close, tangent, vector
from support import assert_close, to_array
from wengert import _core

# ---------------------------------------------------------------------- together with reverse mode


def test_backward_through_packing_and_unpacking():
    foo, bar = vector(*X).requires_grad_(), vector(*V).requires_grad_()
    with fwAD.dual_level():
        primal, direction = fwAD.unpack_dual(fwAD.make_dual(foo, bar))
        found = torch.autograd.grad(primal.sum(), (foo, bar), allow_unused=True)
        assert found[0].equal(torch.ones_like(foo))
        assert found[1] is None
        found = torch.autograd.grad(direction.sum(), (foo, bar), allow_unused=True)
        assert found[0] is None
        assert found[1].equal(torch.ones_like(bar))


def cubes(x):
    return (x**3).sum()


def test_reverse_over_forward():
    x, v = vector(*X).requires_grad_(), vector(*V).requires_grad_()
    with fwAD.dual_level():
        slope = tangent(cubes(fwAD.make_dual(x, v)))
        by_x, by_v = torch.autograd.grad(slope, (x, v))
    is_close(by_x, *(6 * a * b for a, b in zip(X, V, strict=True)))
    is_close(by_v, *(3 * a * a for a in X))


def test_forward_over_reverse():
    with fwAD.dual_level():
        x = fwAD.make_dual(vector(*X).requires_grad_(), vector(*V))
        (gradient,) = torch.autograd.grad(cubes(x), x)
        is_close(tangent(gradient), *(6 * a * b for a, b in zip(X, V, strict=True)))
        assert not gradient.requires_grad


def test_forward_over_reverse_by_backward():
    leaf = vector(*X).requires_grad_()
    with fwAD.dual_level():
        y = fwAD.make_dual(leaf, vector(*V))
        (cubes(y) + y.tanh().sum()).backward(retain_graph=True)
        once = tangent(leaf.grad).clone()
        (cubes(y) + y.tanh().sum()).backward()
        assert_close(tangent(leaf.grad), to_array(2 * once), 10)
    assert tangent(leaf.grad) is None


def test_a_result_saved_for_backward_keeps_its_tangent():
    """The rule of exp uses its result, whose tangent the gradient's tangent depends on."""
    with fwAD.dual_level():
        x = fwAD.make_dual(vector(0.0, 1.0).requires_grad_(), vector(1.0, 1.0))
        (gradient,) = torch.autograd.grad(x.exp().sum(), x)
        assert_close(tangent(gradient), to_array(vector(0.0, 1.0).exp()), 10)


def test_third_derivative_in_a_mixture():
    x, v = vector(*X).requires_grad_(), vector(*V)
    with fwAD.dual_level():
        y = fwAD.make_dual(x, v)
        (first,) = torch.autograd.grad(cubes(y), y, create_graph=True)
        (second,) = torch.autograd.grad((first * v).sum(), y, create_graph=True)
        is_close(tangent(second), *(6 * b * b for b in V))


def test_a_write_under_reverse_over_forward():
    x, v, w = (vector(*a).requires_grad_() for a in (X, V, X))
    with fwAD.dual_level():
        y = fwAD.make_dual(x, v).clone()
        y.mul_(w)
        y.mul_(w)
        found = torch.autograd.grad(tangent(y).sum(), (v, w), retain_graph=True)
        is_close(found[0], *(a * a for a in X))
        is_close(found[1], *(2 * a * b for a, b in zip(X, V, strict=True)))


def test_a_write_to_a_leaf_through_its_dual_is_refused():
    x = vector(*X).requires_grad_()
    with fwAD.dual_level():
        y = fwAD.make_dual(x, vector(*V))
        assert y._base is x
        with pytest.raises(RuntimeError, match="a view of a leaf Variable that requires grad"):
            y.mul_(2)


def test_a_long_chain_costs_what_it_is_long():
    """The graph behind saved tensors is not looked at by the pass that makes a tangent."""
    x = vector(1.0, 2.0).requires_grad_()
    with fwAD.dual_level():
        y = fwAD.make_dual(x, vector(1.0, 1.0))
        for _ in range(2000):
            y = y.logsumexp(0) * x / 3
        assert tangent(y).isfinite().all()


# ------------------------------------------------------------------------------- nested levels
# The engine's levels nest; `wengert.func` is made of them.


def jvp(f, x, v):
    level = _core._forward_enter()
    try:
        return _core._unpack_dual(f(_core._make_dual(x, v, level)), level)
    finally:
        _core._forward_exit(level)


def test_forward_over_forward():
    x, v = vector(*X), vector(*V)
    first, second = jvp(lambda y: jvp(cubes, y, v)[1], x, v)
    is_close(first.reshape(1), sum(3 * a * a * b for a, b in zip(X, V, strict=True)))
    is_close(second.reshape(1), sum(6 * a * b * b for a, b in zip(X, V, strict=True)))


def test_a_deep_nest():
    def nth(f, n):
        return f if n == 0 else lambda x: jvp(nth(f, n - 1), x, torch.ones_like(x))[1]

    def tanh_by_hand(x):
        return ((2 * x).exp() - 1) / ((2 * x).exp() + 1)

    at = vector(0.3)
    for n in range(5):
        assert_close(
            nth(torch.sin, n)(at), to_array([at.sin(), at.cos(), -at.sin(), -at.cos()][n % 4]), 10
        )
        assert_close(nth(torch.tanh, n)(at), to_array(nth(tanh_by_hand, n)(at)), 100)


def test_directions_of_two_levels_are_not_confused():
    """d/dx [x · d/dy (x + y)] at y = 1 is 1, not 2."""
    one = vector(1.0)
    _, slope = jvp(lambda x: x * jvp(lambda y: x + y, one, one)[1], one, one)
    is_close(slope, 1.0)


def test_an_outer_tangent_passes_through_an_inner_level():
    x, v = vector(*X), vector(*V)
    _, slope = jvp(lambda y: jvp(lambda z: z * y, vector(2.0, 2.0, 2.0), v)[0], x, v)
    is_close(slope, *(2 * b for b in V))


def test_nested_levels_over_reverse_mode():
    x, v = vector(*X), vector(*V)

    def gradient(y):
        y = y * 1
        y.requires_grad_()
        return torch.autograd.grad(((y**4).sum()), y)[0]

    _, third = jvp(lambda y: jvp(gradient, y, v)[1], x, v)
    is_close(third, *(24 * a * b * b for a, b in zip(X, V, strict=True)))


def test_writes_in_nested_levels():
    def f(x):
        y = torch.zeros_like(x)
        y.copy_(x)
        y *= x
        y[0] = x[1]
        return y.sum()

    x, v = vector(*X), vector(*V)
    _, second = jvp(lambda y: jvp(f, y, v)[1], x, v)
    is_close(second.reshape(1), sum(2 * b * b for b in V[1:]))


def test_only_the_innermost_level_can_be_left():
    outer, inner = _core._forward_enter(), _core._forward_enter()
    with pytest.raises(RuntimeError, match="not the last one"):
        _core._forward_exit(outer)
    _core._forward_exit(inner)
    _core._forward_exit(outer)


# ---------------------------------------------------------------------------------- lifetimes


def test_a_dual_tensor_keeps_its_tangent_and_nothing_else_does():
    with fwAD.dual_level():
        direction = torch.rand(2, requires_grad=True)
        alive = weakref.ref(direction)
        x = fwAD.make_dual(torch.rand(2), direction)
        assert tangent(x) is direction
        del direction
        del x
        assert alive() is None


def test_tangents_die_with_their_level():
    with fwAD.dual_level():
        x = torch.rand(2)
        x.copy_(fwAD.make_dual(torch.rand(2), torch.rand(2)))
        before = _core.live_nodes()
        direction = torch.rand(2, requires_grad=True)
        y = fwAD.make_dual(torch.rand(2), direction * 2)
        assert _core.live_nodes() > before
    del direction
    assert _core.live_nodes() == before
    assert tangent(y) is None


def test_a_cycle_through_a_tangent_ends_with_the_level():
    """The tangent of exp is recorded and saves the result, whose tangent it is."""

    def f():
        a = torch.rand(10, requires_grad=True)
        fwAD.make_dual(torch.rand(10), a).exp()
        fwAD.make_dual(a, a.detach()).exp()

    before = _core.live_nodes()
    with fwAD.dual_level():
        f()
        f()
    gc.collect()
    assert _core.live_nodes() == before


def test_operations_on_dual_tensors_hold_no_memory():
    with fwAD.dual_level():
        x = dual()
        for _ in range(100):
            x = x * 1.0
        before = _core.memory_stats()["allocated_bytes"]
        for _ in range(2000):
            x = x * 1.0
        assert _core.memory_stats()["allocated_bytes"] == before
