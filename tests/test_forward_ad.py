"""Forward mode: levels, dual tensors, operations, views and writes."""

import threading

import pytest
import wengert as torch
import wengert.autograd.forward_ad as fwAD
from duals import DOUBLE, V, X, dual, is_close, tangent, vector

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
