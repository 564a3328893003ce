"""Writes in place: versions through every alias, histories after a write, memory that moves."""

import gc

import numpy as np
import pytest
import wengert as torch
from support import leaf

MODIFIED = r"modified by an in-?place operation"


# ---------------------------------------------------------------------------- versions, every alias


ALIASES = {
    "itself": lambda t: t,
    "a view": lambda t: t[1:],
    "a view of a view": lambda t: t.view(-1)[1:],
    "detach": lambda t: t.detach(),
    "data": lambda t: t.data,
    "a view of data": lambda t: t.data[1:],
    "as_strided": lambda t: t.as_strided((2,), (1,), 1),
    "other type": lambda t: t.view(torch.int32),
}


@pytest.mark.parametrize("alias", ALIASES.values(), ids=ALIASES)
def test_d19_a_write_through_any_alias_is_noticed(alias):
    x = leaf()
    y = x.exp()
    other = alias(y.detach() if alias in (ALIASES["other type"],) else y)
    version = y._version
    with torch.no_grad():
        other.zero_()
    assert y._version == other._version == version + 1
    with pytest.raises(RuntimeError, match=MODIFIED):
        y.sum().backward()
    assert x.grad is None


def test_all_kinds_of_writes_count():
    x = torch.ones(3)
    writes = [
        lambda: x.add_(1), lambda: x.__iadd__(1), lambda: x.fill_(2), lambda: x.zero_(),
        lambda: x.copy_(torch.ones(3)), lambda: x.__setitem__(0, 1.0),
        lambda: x.__setitem__(x > 0, 1.0), lambda: torch.neg(torch.ones(3), out=x),
        lambda: x.uniform_(), lambda: x.index_add_(0, torch.tensor([0]), torch.ones(1)),
        lambda: x.masked_fill_(x > 0, 0.0), lambda: torch.nn.functional.relu(x, inplace=True),
        lambda: x.resize_(2),
    ]  # fmt: skip
    for number, write in enumerate(writes, 1):
        write()
        assert x._version == number


def test_reading_does_not_count():
    x = torch.ones(3)
    x[0], x.detach(), x.data, x + 1, x.view(-1), x.tolist(), x.numpy()
    assert x._version == 0


def test_a_parameter_updated_between_forward_and_backward():
    w, x = leaf(), torch.ones(3)
    linear, square = (w * x).sum(), (w * w).sum()
    with torch.no_grad():
        w.add_(1)
    linear.backward()
    assert w.grad.tolist() == [1.0] * 3
    with pytest.raises(RuntimeError, match=MODIFIED):
        square.backward()
    assert w.grad.tolist() == [1.0] * 3


def test_writing_twice_and_back_is_still_a_write():
    x = leaf()
    y = x.exp()
    y.add_(1).sub_(1)
    with pytest.raises(RuntimeError, match=r"is at version 2; expected version 0"):
        y.sum().backward()


def test_an_operand_saved_by_the_write_itself():
    x = leaf()
    y = x * 2
    y.mul_(y)
    with pytest.raises(RuntimeError, match=MODIFIED):
        y.sum().backward()
    y = x * 2
    y += y
    y.sum().backward()
    assert x.grad.tolist() == [4.0] * 3


def test_what_a_write_saves_is_the_new_or_the_old_value_as_its_rule_needs():
    for write, derivative in [
        (lambda y: y.exp_(), lambda x: 2 * np.exp(2 * x)),
        (lambda y: y.pow_(3), lambda x: 24 * x**2),
        (lambda y: y.sin_(), lambda x: 2 * np.cos(2 * x)),
        (lambda y: y.tanh_().mul_(3), lambda x: 6 * (1 - np.tanh(2 * x) ** 2)),
        (lambda y: y.sigmoid_().log_(), lambda x: 2 * (1 - 1 / (1 + np.exp(-2 * x)))),
    ]:
        x = torch.tensor([0.5, 1.5], dtype=torch.float64, requires_grad=True)
        write(x * 2).sum().backward()
        np.testing.assert_allclose(x.grad.tolist(), derivative(np.array([0.5, 1.5])), rtol=1e-12)


# ------------------------------------------------------------ NumPy over our memory


def test_d20_a_write_through_a_numpy_array_is_noticed():
    x = leaf()
    y = x.exp()
    y.detach().numpy()[:] = 0
    with pytest.raises(RuntimeError, match=MODIFIED):
        y.sum().backward()
    assert x.grad is None


def test_d20_while_the_array_lives_the_error_says_who_it_was():
    x = leaf()
    y = x.exp()
    array = y.detach().numpy()
    array[1] += 1
    with pytest.raises(RuntimeError, match=rf"(?s){MODIFIED}.*NumPy array"):
        y.sum().backward()


def test_d20_an_array_made_before_the_tensor_is_saved():
    x, w = leaf(), torch.ones(3)
    array = w.numpy()
    array[:] = 2
    y = (x * w).sum()
    array[0] = 5
    with pytest.raises(RuntimeError, match=MODIFIED):
        y.backward()


def test_an_array_that_is_only_read_changes_nothing():
    x = leaf()
    y = x.exp()
    array = y.detach().numpy()
    assert array.sum() > 0
    y.sum().backward()
    np.testing.assert_allclose(x.grad.tolist(), array)


def test_writes_before_the_save_are_nobodys_business():
    x, w = leaf(), torch.ones(3)
    array = w.numpy()
    array[:] = 3
    (x * w).sum().backward()
    assert x.grad.tolist() == [3.0] * 3


def test_writes_of_both_kinds_while_an_array_lives():
    x, w = leaf(), torch.ones(3)
    array = w.numpy()
    first = (x * w).sum()
    w.mul_(2)
    second = (x * w).sum()
    second.backward()
    assert x.grad.tolist() == [2.0] * 3
    with pytest.raises(RuntimeError, match=MODIFIED):
        first.backward()
    array[:] = 7
    (x * w).sum().backward()
    assert x.grad.tolist() == [9.0] * 3


def test_a_write_of_the_last_moment():
    x = leaf()
    y = x.exp()
    array = y.detach().numpy()
    array *= -1
    del array
    with pytest.raises(RuntimeError, match=MODIFIED):
        y.sum().backward()


def test_d21_arrays_that_tensors_were_made_of():
    array = np.ones(3, "float32")

    def spoilt():
        x = leaf()
        w = torch.from_numpy(array)
        y = (x * w).sum()
        array[:] = array + 1
        y.backward()

    spoilt()  # documented: not looked at
    before = torch.autograd.set_check_numpy(True)
    try:
        with pytest.raises(RuntimeError, match=MODIFIED):
            spoilt()
    finally:
        assert torch.autograd.set_check_numpy(before) is True
    spoilt()


def test_a_tensor_written_with_what_had_saved_it_is_no_garbage_for_ever():
    nodes = torch._core.live_nodes()
    for _ in range(100):
        y = leaf() * 2
        y.add_(y * y)
        view = y[1:]
        y.add_((view * view).sum())
        view * 1
    del y, view
    gc.collect()
    assert torch._core.live_nodes() == nodes


# --------------------------------------------------------------------------------- histories


def test_a_leaf_may_not_be_written_to():
    x = leaf()
    for write in (lambda: x.mul_(2), lambda: x.fill_(1), lambda: x.copy_(torch.ones(3)),
                  lambda: x.normal_(), lambda: x.squeeze_(), lambda: x.t_()):  # fmt: skip
        with pytest.raises(RuntimeError, match="a leaf Variable that requires grad is being used"):
            write()
    assert x.tolist() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
@pytest.mark.parametrize("shape", [(3,), (1,), ()])
def test_copy_from_any_type_and_shape(dtype, shape):
    x = torch.ones(shape, dtype=dtype, requires_grad=True)
    y = torch.zeros(3)
    y.copy_(x)
    assert y.grad_fn.name().endswith("CopyBackwards")
    (y * torch.tensor([1.0, 2.0, 3.0])).sum().backward()
    assert x.grad.dtype == dtype
    assert x.grad.tolist() == ([1.0, 2.0, 3.0] if shape == (3,) else [6.0] if shape else 6.0)


def test_copy_forgets_the_old_value():
    x, w = leaf(), leaf()
    y = x * 2
    y.copy_(w)
    y.sum().backward()
    assert x.grad.tolist() == [0.0] * 3
    assert w.grad.tolist() == [1.0] * 3


def test_copy_into_integers_ends_the_history():
    y = torch.zeros(3, dtype=torch.int64)
    y.copy_(leaf())
    assert not y.requires_grad
    assert y.tolist() == [1, 2, 3]


@pytest.mark.parametrize(("source", "text"), [
    ((4,), r"size of tensor a \(3\) must match the size of tensor b \(4\)"),
    ((1, 3), r"output with shape \[3\] doesn't match the broadcast shape \[1, 3\]"),
])  # fmt: skip
def test_copy_of_a_shape_that_does_not_fit(source, text):
    with pytest.raises(RuntimeError, match=text):
        torch.zeros(3).copy_(torch.ones(source))
    with pytest.raises(RuntimeError, match="expanded size of the tensor"):
        torch.zeros(3)[:2] = torch.ones(3)


def test_values_that_depend_on_nothing():
    for write in (lambda y: y.fill_(3.0), lambda y: y.zero_(), lambda y: y.uniform_()):
        x = leaf()
        y = x * 2
        write(y)
        assert y.requires_grad
        y.sum().backward()
        assert x.grad.tolist() == [0.0] * 3


def test_retain_grad_follows_the_value():
    x = leaf()
    y = x * 1
    y.retain_grad()
    y.mul_(2)
    (y * 3).sum().backward()
    assert y.grad.tolist() == [3.0] * 3
    assert x.grad.tolist() == [6.0] * 3
    assert y.retains_grad


def test_retain_grad_of_base_and_view():
    x = leaf()
    y = x * 1
    view = y[1:]
    y.retain_grad()
    view.retain_grad()
    y.mul_(2)
    (view * 3).sum().backward()
    assert y.grad.tolist() == [0.0, 3.0, 3.0]
    assert view.grad.tolist() == [3.0, 3.0]


def test_hooks_stay_with_the_value_they_were_put_on():
    x, seen = leaf(), []
    y = x * 1
    y.register_hook(lambda g: seen.append(("old", g.tolist()[0])))
    y.mul_(2)
    y.register_hook(lambda g: seen.append(("new", g.tolist()[0])))
    (y * 3).sum().backward()
    assert seen == [("new", 3.0), ("old", 6.0)]


def test_other_data():
    x = leaf()
    y = (x * x).sum()
    other = torch.tensor([5.0, 5.0, 5.0])
    x.data = other
    assert x.data_ptr() == other.data_ptr()
    y.backward()
    assert x.grad.tolist() == [2.0, 4.0, 6.0]
    (x * x).sum().backward()
    assert x.grad.tolist() == [12.0, 14.0, 16.0]


# ------------------------------------------------------------------------------- memory that moves


def test_resize_within_the_memory():
    x = torch.arange(6.0)
    assert x.resize_(2, 2) is x
    assert x.tolist() == [[0.0, 1.0], [2.0, 3.0]]
    assert x.resize_((6,)).tolist() == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    assert x.resize_as_(torch.ones(3, 2)).shape == (3, 2)


def test_resize_to_more():
    x = torch.arange(3.0)
    version = x._version
    x.resize_(2, 4)
    assert x.flatten()[:3].tolist() == [0.0, 1.0, 2.0]
    assert x._version == version + 1
    x[1] = 7.0
    assert x[1].tolist() == [7.0] * 4


def test_e11_resize_is_refused_while_somebody_would_not_follow():
    x = torch.arange(3.0)
    view = x[1:]
    with pytest.raises(RuntimeError, match="shared with a view"):
        x.resize_(100)
    assert view.tolist() == [1.0, 2.0]
    x.resize_(0)  # smaller is only another way to look
    assert view.tolist() == [1.0, 2.0]
    w = torch.ones(3)
    y = (leaf() * w).sum()
    with pytest.raises(RuntimeError, match="shared"):
        w.resize_(100)
    y.backward()
    array = (z := torch.ones(3)).numpy()
    with pytest.raises(RuntimeError, match="shared"):
        z.resize_(100)
    assert array.tolist() == [1.0] * 3


def test_a_recorded_write_after_a_resize():
    x, w = torch.zeros(4), leaf(1.0, 2.0)
    view = x[:2]
    x.resize_(2, 2)
    x[0] = w * 2
    assert view.requires_grad
    (view * view).sum().backward()
    assert w.grad.tolist() == [8.0, 16.0]


def test_resize_of_what_requires_grad():
    with pytest.raises(RuntimeError, match="cannot resize variables that require grad"):
        leaf().resize_(5)
    for sizes in [(-1,), (2**62,), ("a",)]:
        with pytest.raises((RuntimeError, TypeError)):
            torch.ones(3).resize_(*sizes)


def test_set():
    x, y = torch.ones(6), torch.zeros(2, 3)
    assert x.set_(y) is x
    assert x.is_set_to(y)
    x[0, 0] = 5.0
    assert y[0, 0].item() == 5.0
    assert torch.ones(3).set_(y, 1, (2,), (3,)).tolist() == [0.0, 0.0]
    assert torch.ones(3).set_().shape == (0,)


def test_set_is_refused():
    x = torch.ones(6)
    view = x[2:]
    with pytest.raises(RuntimeError, match="shared"):
        x.set_(torch.zeros(3))
    assert view.tolist() == [1.0] * 4
    with pytest.raises(RuntimeError, match=r"type Double to a tensor of type Float|float64"):
        torch.ones(3).set_(torch.ones(3, dtype=torch.float64))
    with pytest.raises(RuntimeError, match="leaf"):
        leaf().set_(torch.ones(3))
    with pytest.raises(RuntimeError, match="out of bounds"):
        torch.ones(3).set_(torch.ones(3), 2, (2,), (1,))
