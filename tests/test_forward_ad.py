"""Forward mode: levels, dual tensors, views and writes, and its mixtures with reverse mode."""

import gc
import threading
import weakref

import pytest
import wengert as torch
import wengert.autograd.forward_ad as fwAD
from support import assert_close, to_array
from wengert import _core

DOUBLE = torch.float64


def vector(*values):
    return torch.tensor(values, dtype=DOUBLE)


X, V = (1.0, 2.0, 3.0), (0.5, -1.0, 2.0)


def dual(primal=X, tangent=V):
    return fwAD.make_dual(vector(*primal), vector(*tangent))


def tangent(t):
    return fwAD.unpack_dual(t).tangent


def is_close(actual, *expected):
    assert_close(actual, to_array(vector(*expected)), 10)


# ---------------------------------------------------------------------------------- levels


def test_a_block_is_a_level():
    assert fwAD._current_level == -1
    with fwAD.dual_level() as level:
        assert level == 0
        assert fwAD._current_level == 0
    assert fwAD._current_level == -1


def test_a_level_as_a_decorator_and_by_hand():
    @fwAD.dual_level()
    def slope():
        return tangent(dual() * 2)

    is_close(slope(), 1.0, -2.0, 4.0)
    assert fwAD.enter_dual_level() == 0
    fwAD.exit_dual_level(level=0)


def test_a_level_ends_when_its_block_fails():
    with pytest.raises(KeyError), fwAD.dual_level():
        raise KeyError
    assert fwAD._current_level == -1


def test_levels_do_not_nest():
    with (
        fwAD.dual_level(),
        pytest.raises(RuntimeError, match="Nested forward mode AD is not supported at the moment"),
    ):
        fwAD.enter_dual_level()


def test_only_a_level_that_was_entered_can_be_left():
    with pytest.raises(RuntimeError, match="Dual level must be a positive number"):
        fwAD.exit_dual_level()
    with fwAD.dual_level(), pytest.raises(RuntimeError, match="not the last one"):
        fwAD.exit_dual_level(level=5)


def test_tangents_are_gone_after_their_level():
    with fwAD.dual_level():
        x = dual()
        y = x.exp()
    assert tangent(x) is None
    assert fwAD.unpack_dual(y).primal is y
    with fwAD.dual_level():
        assert tangent(x) is None
        assert tangent(x * 2) is None
        again = fwAD.make_dual(x, vector(1.0, 1.0, 1.0))
        is_close(tangent(again * 2), 2.0, 2.0, 2.0)
        assert tangent(y) is None


def test_levels_belong_to_a_thread():
    seen = []
    with fwAD.dual_level():
        x = dual()

        def elsewhere():
            seen.append(tangent(x))
            with fwAD.dual_level():
                seen.append(tangent(x * 2))
                seen.append(tangent(dual() * 2))

        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        is_close(tangent(x * 3), 1.5, -3.0, 6.0)
    assert seen[:2] == [None, None]
    is_close(seen[2], 1.0, -2.0, 4.0)


def test_tangents_can_be_switched_off():
    with fwAD.dual_level():
        x = dual()
        assert fwAD._is_fwd_grad_enabled()
        with fwAD._set_fwd_grad_enabled(False):
            assert not fwAD._is_fwd_grad_enabled()
            y = x * 2
        assert fwAD._is_fwd_grad_enabled()
        assert tangent(y) is None
        is_close(tangent(x * 2), 1.0, -2.0, 4.0)


# ------------------------------------------------------------------------- making and unpacking


def test_packing_and_unpacking():
    foo, bar = torch.rand(2), torch.rand(2)
    with fwAD.dual_level():
        baz = fwAD.make_dual(foo, bar)
        result = fwAD.unpack_dual(baz)
        assert type(result) is fwAD.UnpackedDualTensor
        assert result._fields == ("primal", "tangent")
        assert result.primal.equal(foo)
        assert result.tangent is bar
        assert fwAD.unpack_dual(baz).primal is not result.primal
        assert tangent(foo) is None
        assert tangent(result.primal) is None


def test_dual_tensors_share_memory_and_versions():
    foo, bar = torch.rand(2), torch.rand(2)
    with fwAD.dual_level():
        x = fwAD.make_dual(foo, bar)
        primal, direction = fwAD.unpack_dual(x)
        assert x.data_ptr() == primal.data_ptr() == foo.data_ptr()
        assert direction.data_ptr() == bar.data_ptr()
        foo.add_(1)
        assert foo._version == x._version == primal._version == 1
        bar.add_(1)
        assert direction._version == 1


def test_a_tangent_in_another_layout_is_copied():
    primal, direction = torch.rand(2, 3), torch.rand(3, 2).t()
    with fwAD.dual_level():
        x = fwAD.make_dual(primal, direction)
        assert tangent(x) is not direction
        assert tangent(x).stride() == primal.stride()
        assert tangent(x).equal(direction)


def test_a_tangent_for_part_of_a_larger_memory_is_copied():
    primal, direction = torch.randn(5)[:4], torch.randn(4)
    with fwAD.dual_level():
        before = direction.clone()
        fwAD.unpack_dual(fwAD.make_dual(primal, direction)).tangent.mul_(2)
        assert direction.equal(before)


def test_strides_of_axes_of_length_one_do_not_matter():
    primal, direction = torch.rand(1, 3), torch.rand(3, 1).t()
    with fwAD.dual_level():
        assert tangent(fwAD.make_dual(primal, direction)) is direction


def test_errors_of_make_dual():
    a, b = torch.rand(2), torch.rand(2)
    with pytest.raises(RuntimeError, match="no level exists"):
        fwAD.make_dual(a, b)
    with fwAD.dual_level():
        with pytest.raises(ValueError, match="Expected primal to be floating point or complex"):
            fwAD.make_dual(torch.tensor([1, 2]), torch.tensor([1, 2]))
        with pytest.raises(ValueError, match="Expected tangent to be floating point or complex"):
            fwAD.make_dual(a, torch.tensor([1, 2]))
        with pytest.raises(RuntimeError, match="a forward gradient that has a different size"):
            fwAD.make_dual(a, torch.rand(3))
        with pytest.raises(RuntimeError, match="already has a forward gradient at the same level"):
            fwAD.make_dual(fwAD.make_dual(a, b), b)
        with pytest.raises(RuntimeError, match="itself has a forward gradient at the same level"):
            fwAD.make_dual(a, fwAD.make_dual(a, b))
        with pytest.raises(RuntimeError, match="Invalid level given to _make_dual"):
            fwAD.make_dual(a, b, level=3)
        assert fwAD.unpack_dual(a, level=3).tangent is None


def test_a_dual_tensor_prints_its_tangent():
    with fwAD.dual_level():
        x = fwAD.make_dual(torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0]))
        assert repr(x) == "tensor([1., 2.], tangent=tensor([3., 4.]))"
        primal, direction = fwAD.unpack_dual(x)
        assert "tangent=" not in f"{primal} {direction}"
        assert repr(x.double()) == (
            "tensor([1., 2.], dtype=torch.float64,\n"
            "       tangent=tensor([3., 4.], dtype=torch.float64))"
        )
    assert "tangent=" not in str(x)


# ----------------------------------------------------------------------------------- operations


def test_values_and_kinks():
    """At a kink a tangent is PyTorch's: the one that the gradient implies."""
    at = (-1.0, 0.0, 1.0)
    with fwAD.dual_level():
        x = dual(at, (1.0, 2.0, 3.0))
        is_close(tangent(x.abs()), -1.0, 0.0, 3.0)
        is_close(tangent(x.relu()), 0.0, 0.0, 3.0)
        is_close(tangent(x.clamp(0, 1)), 0.0, 2.0, 3.0)
        is_close(tangent(x.sign()), 0.0, 0.0, 0.0)
        is_close(tangent(torch.maximum(x, vector(*at))), 0.5, 1.0, 1.5)
        is_close(tangent((x * 0).norm()).reshape(1), 0.0)
        is_close(tangent(x.max()).reshape(1), 3.0)


def test_a_result_that_does_not_depend_on_the_direction_has_none():
    with fwAD.dual_level():
        x = dual()
        assert tangent(x > 0) is None
        assert tangent((x > 0).double()) is None
        assert tangent(x.int()) is None
        assert tangent(torch.zeros_like(x)) is None
        assert tangent(x.argmax()) is None


def test_types_are_converted_like_values():
    with fwAD.dual_level():
        x = fwAD.make_dual(torch.tensor([1.0]), torch.tensor([2.0]))
        assert tangent(x * vector(3.0)).dtype == DOUBLE
        assert tangent(x.half()).dtype == torch.float16
        assert tangent(x.double().float()).item() == 2.0


def test_broadcast_operands():
    with fwAD.dual_level():
        row = fwAD.make_dual(torch.ones(1, 3), torch.ones(1, 3))
        column = torch.ones(2, 1) * 2
        assert tangent(row + column).shape == (2, 3)
        assert tangent(row + column).is_contiguous()
        assert tangent(column / row).tolist() == [[-2.0] * 3] * 2


def test_detach_and_data_have_no_tangent():
    with fwAD.dual_level():
        x = dual()
        assert tangent(x.detach() * 2) is None
        assert tangent(x.data) is None
        y = x.clone()
        y.detach_()
        assert tangent(y * 2) is None


def test_no_grad_does_not_stop_tangents():
    foo, bar = vector(*X).requires_grad_(), vector(*V).requires_grad_()
    with fwAD.dual_level():
        x = fwAD.make_dual(foo, bar)
        with torch.no_grad():
            y = x * 3
        primal, direction = fwAD.unpack_dual(y)
        assert not primal.requires_grad
        assert not direction.requires_grad
        is_close(direction, 1.5, -3.0, 6.0)


def test_inference_mode_stops_tangents():
    with fwAD.dual_level():
        x = dual()
        with torch.inference_mode():
            y = x * 3
        assert tangent(y) is None
        is_close(tangent(x * 2), 1.0, -2.0, 4.0)
    with torch.inference_mode(), fwAD.dual_level():
        x = torch.rand(2)
        y = fwAD.make_dual(x, torch.rand(2))
        before = x.clone()
        y += 1
        assert x.equal(before + 1)


def test_out_is_refused():
    with fwAD.dual_level():
        x, plain = fwAD.make_dual(torch.rand(2), torch.rand(2)), torch.rand(2)
        with pytest.raises(NotImplementedError, match="it is an out= function"):
            torch.add(plain, plain, out=x)
        with pytest.raises(NotImplementedError, match="it is an out= function"):
            torch.add(x, plain, out=plain)
        with pytest.raises(NotImplementedError, match="it is an out= function"):
            torch.max(x, 0, out=(torch.rand(()), torch.tensor(0)))


def test_random_operations():
    with fwAD.dual_level():
        x = dual()
        torch.manual_seed(1)
        y = torch.nn.functional.dropout(x, 0.5)
        assert tangent(y).equal(y / vector(*X) * vector(*V))
        assert not tangent(x.clone().uniform_()).any()
        assert not tangent(torch.bernoulli(x / 4)).any()


# ------------------------------------------------------------------------------ writing in place


def test_a_write_changes_the_tangent_in_place():
    foo, bar = vector(*X), vector(*V)
    with fwAD.dual_level():
        x = fwAD.make_dual(foo, bar)
        x *= 2
        assert tangent(x) is bar
        is_close(bar, 1.0, -2.0, 4.0)
        is_close(foo, 2.0, 4.0, 6.0)
        assert tangent(foo) is None


def test_views_that_are_not_of_forward_mode_are_left_alone():
    foo, bar = vector(*X), vector(*V)
    with fwAD.dual_level():
        x = fwAD.make_dual(foo, bar)
        primal, direction = fwAD.unpack_dual(x)
        assert tangent(direction) is None
        primal *= 2
        is_close(tangent(x), *V)
        direction *= 2
        is_close(fwAD.unpack_dual(x).primal, 2.0, 4.0, 6.0)
        is_close(tangent(x), 1.0, -2.0, 4.0)


def test_a_write_to_a_view_reaches_the_tangent_of_its_base():
    with fwAD.dual_level():
        x = dual()
        part = x[:1]
        part *= 4
        is_close(tangent(x), 2.0, -1.0, 2.0)
        is_close(tangent(part), 2.0)
        x += x
        is_close(tangent(part), 4.0)


@pytest.mark.parametrize("write", ["add_", "mul_", "copy_"])
def test_a_dual_tensor_written_to_a_view_makes_its_base_dual(write):
    base, value = torch.randn(2, 2), torch.randn(2, 2)
    view, older = base.transpose(0, 1), base[0]
    with fwAD.dual_level():
        getattr(view, write)(fwAD.make_dual(value, torch.randn(2, 2)))
        primal, direction = (t.clone() for t in fwAD.unpack_dual(base))
        assert direction.any()
        view *= 2
        assert fwAD.unpack_dual(base).primal.equal(primal * 2)
        assert tangent(base).equal(direction * 2)
        assert tangent(older).equal(tangent(base)[0])


def test_a_constant_written_takes_the_tangent_away():
    with fwAD.dual_level():
        for write in (
            lambda t: t.zero_(),
            lambda t: t.fill_(3.0),
            lambda t: t.copy_(vector(1.0, 1.0, 1.0)),
            lambda t: t.__setitem__(slice(None), 1.0),
        ):
            x = dual().clone()
            view = x[1:]
            write(x)
            is_close(tangent(x), 0.0, 0.0, 0.0)
            is_close(tangent(view), 0.0, 0.0)


def test_assignment_to_elements():
    with fwAD.dual_level():
        x, y = dual(), vector(0.0, 0.0, 0.0, 0.0)
        y[1:] = x * x
        is_close(tangent(y), 0.0, 1.0, -4.0, 12.0)
        y[torch.tensor([0, 3])] = x[:2]
        is_close(tangent(y), 0.5, 1.0, -4.0, -1.0)
        y[y > 3] = 0.0
        is_close(tangent(y), 0.5, 1.0, 0.0, -1.0)


def test_a_write_does_not_reach_what_a_tangent_was_computed_from():
    with fwAD.dual_level():
        x = dual()
        y = x + 1
        y.mul_(2)
        is_close(tangent(x), *V)
        is_close(tangent(y), 1.0, -2.0, 4.0)


def test_truth_values_may_be_written_to_a_dual_tensor():
    with fwAD.dual_level():
        x = dual()
        x.eq_(vector(1.0, 0.0, 0.0))
        is_close(tangent(x), 0.0, 0.0, 0.0)


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
