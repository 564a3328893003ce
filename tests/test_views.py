"""Views as autograd sees them: whose they are, what a write through them does, what is refused.

Texts of errors are PyTorch's.
"""

import pytest
import wengert as torch
from support import leaf

SEVERAL = "This view is the output of a function that returns multiple views"
NO_GRAD = "A view was created in no_grad mode and is being modified inplace with grad mode enabled"
LEAF_VIEW = "a view of a leaf Variable that requires grad is being used in an in-place operation"


def inner(*shape):
    """A computed tensor and the leaf that it was computed from."""
    x = torch.ones(shape, requires_grad=True)
    return x, x * 1


# ------------------------------------------------------------------------------- whose view it is


def test_base_and_is_view():
    x = torch.ones(2, 3)
    view = x[0][1:]
    assert view._is_view()
    assert view._base is x
    assert not x._is_view()
    assert x._base is None
    assert not (x * 2)._is_view()


@pytest.mark.parametrize("make", [
    lambda x: x.detach(), lambda x: x.data, lambda x: x.clone(), lambda x: x.view(torch.int32),
], ids=["detach", "data", "clone", "view as another type"])  # fmt: skip
def test_what_is_no_view_for_autograd(make):
    x = torch.ones(3)
    assert not make(x)._is_view()
    assert not make(x[1:])._is_view()


def test_a_detached_view_is_the_base_of_its_views():
    x = torch.ones(3, 4).detach()
    column = x[:, 1].detach()
    assert column[1:]._base is column


def test_a_tensor_turned_in_place_is_no_view():
    x, y = inner(2, 3)
    first = y[0]
    y.t_()
    assert not y._is_view()
    assert y._base is None
    first.mul_(3)
    assert y.tolist() == [[3.0, 1.0]] * 3
    (y * torch.tensor([1.0, 10.0])).sum().backward()
    assert x.grad.tolist() == [[3.0] * 3, [10.0] * 3]


# -------------------------------------------------------------------------- writes through views


def test_a_write_through_a_view_of_a_view():
    x, y = inner(3, 4)
    y[1:][:, ::2].mul_(5)
    assert y.grad_fn.name().endswith("CopySlices")
    (y * y).sum().backward()
    assert x.grad.tolist() == [[2.0] * 4] + [[50.0, 2.0, 50.0, 2.0]] * 2


def test_other_views_follow():
    x, y = inner(2, 2)
    row, column, diagonal = y[0], y[:, 0], y.diagonal()
    row.mul_(3)
    assert column.grad_fn.name() == "AsStridedBackward0"
    (column.sum() * 10 + diagonal.sum()).backward()
    assert x.grad.tolist() == [[33.0, 0.0], [10.0, 1.0]]


def test_an_expanded_view_follows_with_all_its_appearances():
    x, y = inner(1, 3)
    wide = y.expand(4, 3)
    y.mul_(2)
    wide.sum().backward()
    assert x.grad.tolist() == [[8.0] * 3]


def test_overlapping_windows_follow_with_all_their_appearances():
    x, y = inner(5)
    windows = y.unfold(0, 3, 1)
    y.mul_(2)
    windows.sum().backward()
    assert x.grad.tolist() == [2.0, 4.0, 6.0, 4.0, 2.0]


@pytest.mark.parametrize("base", [
    lambda: torch.zeros(3, 8)[:, ::2].detach(),
    lambda: torch.zeros(4, 3).t().detach(),
    lambda: torch.zeros(24)[5:].as_strided((3, 4), (6, 1), 5).detach(),
], ids=["every second column", "transposed", "rows with gaps"])  # fmt: skip
def test_bases_with_gaps(base):
    b, w = base(), torch.ones(4, requires_grad=True)
    other = b[:, 1]
    b[1].copy_(w * 2)
    assert b.requires_grad
    assert b.tolist() == [[0.0] * 4, [2.0] * 4, [0.0] * 4]
    ((b * b).sum() + other.sum()).backward()
    assert w.grad.tolist() == [8.0, 10.0, 8.0, 8.0]


def test_a_base_that_shows_its_memory_several_times():
    b, w = torch.zeros(4).expand(3, 4).detach(), torch.ones(4, requires_grad=True)
    b[0].copy_(w * 2)
    assert b.tolist() == [[2.0] * 4] * 3
    b.sum().backward()
    assert w.grad.tolist() == [6.0] * 4


def test_a_constant_base_joins_the_graph_through_a_view():
    base, w = torch.zeros(3), leaf()
    before, part = base[:2], base[1:]
    part.add_(w[1:])
    assert base.requires_grad
    assert before.requires_grad
    assert not before.is_leaf
    before.sum().backward()
    assert w.grad.tolist() == [0.0, 1.0, 0.0]


def test_a_write_of_one_view_of_the_base_to_another():
    x, y = inner(4)
    y[:2] += y[2:]
    y[0] = y[1] + y[3]
    y.sum().backward()
    assert x.grad.tolist() == [0.0, 2.0, 1.0, 4.0]


def test_augmented_assignment_of_columns():
    m = torch.arange(9.0).view(3, 3)
    m[:, 0] += m[:, 1]
    assert m.tolist() == [[1.0, 1.0, 2.0], [7.0, 4.0, 5.0], [13.0, 7.0, 8.0]]


def test_second_derivatives_through_a_write():
    x = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64, requires_grad=True)

    def f(x):
        y = x * x
        y[1:].mul_(x[1:])
        y.view(3, 1)[0].exp_()
        return y * y

    assert torch.autograd.gradcheck(f, x)
    assert torch.autograd.gradgradcheck(f, x)


def test_writes_that_are_not_recorded_leave_history_alone():
    x, y = inner(3)
    view = y[1:]
    with torch.no_grad():
        view.mul_(4)
    assert y.tolist() == [1.0, 4.0, 4.0]
    view.sum().backward()
    assert x.grad.tolist() == [0.0, 1.0, 1.0]


def test_a_view_made_and_written_to_without_recording():
    x, y = inner(3)
    with torch.no_grad():
        y[1:].mul_(4)
    y.sum().backward()
    assert x.grad.tolist() == [1.0] * 3


# --------------------------------------------------------------------------------- what is refused


MANY = {
    "unbind": lambda y: y.unbind(0),
    "split": lambda y: y.split(1),
    "chunk": lambda y: y.chunk(2),
    "split_with_sizes": lambda y: y.split_with_sizes([1, 1]),
    "iteration": tuple,
}


@pytest.mark.parametrize("several", MANY.values(), ids=MANY)
def test_one_of_several_views_may_not_be_written_to(several):
    _, y = inner(2, 3)
    part = several(y)[0]
    assert part._base is y
    with pytest.raises(RuntimeError, match=rf"Output 0 of \w+ is a view and is being.*{SEVERAL}"):
        part.mul_(2)
    with pytest.raises(RuntimeError, match=SEVERAL):
        part[..., 0].mul_(2)
    assert y.tolist() == [[1.0] * 3] * 2


@pytest.mark.parametrize("several", MANY.values(), ids=MANY)
def test_nor_be_used_after_its_base_was_written_to(several):
    _, y = inner(2, 3)
    part = several(y)[1]
    y.mul_(2)
    with pytest.raises(RuntimeError, match=rf"its base or another view of its base has.*{SEVERAL}"):
        part.grad_fn  # noqa: B018 - looking is what fails
    with pytest.raises(RuntimeError, match=SEVERAL):
        part * 2
    assert "grad_fn=<Invalid>" in repr(part)


def test_one_of_several_views_of_a_constant():
    x, w = torch.ones(2, 3), torch.ones(3, requires_grad=True)
    a, b = x.unbind(0)
    a.mul_(2)
    assert x.tolist() == [[2.0] * 3, [1.0] * 3]
    with pytest.raises(RuntimeError, match=SEVERAL):
        b.mul_(w)


def test_several_views_that_may_be_written_to():
    x, y = inner(4)
    a, _ = y.tensor_split(2)
    a.mul_(3)
    y.sum().backward()
    assert x.grad.tolist() == [3.0, 3.0, 1.0, 1.0]
    x, y = inner(4)
    a, _ = y.unsafe_split(2)
    a.mul_(3)
    assert not a._is_view()
    a.sum().backward()
    assert x.grad.tolist() == [3.0, 3.0, 0.0, 0.0]


def test_a_view_made_without_recording_may_not_be_written_to_later():
    _, y = inner(3)
    with torch.no_grad():
        view = y[1:]
    assert view.requires_grad
    assert view.is_leaf
    with pytest.raises(RuntimeError, match=NO_GRAD):
        view.mul_(2)
    with pytest.raises(RuntimeError, match="view of a view which was created in no_grad mode"):
        view[0].mul_(2)
    with torch.no_grad():
        view.mul_(2)
    assert y.tolist() == [1.0, 2.0, 2.0]


def test_a_constant_viewed_without_recording():
    b, w = torch.ones(3), leaf()
    with torch.no_grad():
        view = b.view(-1)
    view.mul_(2)
    with pytest.raises(RuntimeError, match=NO_GRAD):
        view.mul_(w)
    assert b.tolist() == [2.0] * 3


def test_a_view_made_without_recording_of_a_base_written_to_since():
    _, y = inner(3)
    with torch.no_grad():
        view = y[1:]
    y.mul_(2)
    with pytest.raises(
        RuntimeError, match="its base or another view of its base has been modified"
    ):
        view * 2


def test_a_view_of_a_leaf():
    x = leaf()
    view = x[1:]
    for write in (
        lambda: view.mul_(2),
        lambda: x[0].zero_(),
        lambda: x.__setitem__(0, 1.0),
        lambda: x.__setitem__(slice(None), 1.0),
    ):
        with pytest.raises(RuntimeError, match=LEAF_VIEW):
            write()
    with pytest.raises(RuntimeError, match="a leaf Variable that requires grad"):
        x[torch.tensor([0])] = 1.0
    with torch.no_grad():
        view.mul_(2)
    view.sum().backward()
    assert x.grad.tolist() == [0.0, 1.0, 1.0]


def test_detach_in_place_of_a_view():
    _, y = inner(3)
    for view in (y[1:], torch.ones(3)[1:]):
        with pytest.raises(RuntimeError, match=r"Can't detach views in-place. Use detach"):
            view.detach_()


def test_requires_grad_on_a_view_of_a_constant():
    x = torch.ones(3)
    view = x[1:].requires_grad_()
    assert view.is_leaf
    assert not x.requires_grad
    (view * 2).sum().backward()
    assert view.grad.tolist() == [2.0, 2.0]
    with pytest.raises(RuntimeError, match="leaf"):
        view.mul_(2)
    with pytest.raises(RuntimeError, match="leaf variables"):
        inner(3)[1][1:].requires_grad_(False)


# --------------------------------------------------------------------- memory shown more than once


REFUSED = "more than one element of the written-to tensor refers to a single memory location"


@pytest.mark.parametrize("write", [
    lambda a: a.add_(1),
    lambda a: a.copy_(torch.ones(3, 4)),
    lambda a: a.__setitem__((slice(None), 1), 1.0),
    lambda a: a.__setitem__(0, 1.0),
    lambda a: a.__setitem__((0, 1), 1.0),
    lambda a: a.__setitem__(torch.tensor([0, 1]), 1.0),
    lambda a: a.__setitem__(a > -1, 1.0),
    lambda a: torch.add(a, 1, out=a),
    lambda a: a.normal_(),
    lambda a: a.masked_fill_(a > -1, 1.0),
], ids=["add_", "copy_", "a column", "a row", "an element", "rows", "a mask", "out", "normal_",
        "masked_fill_"])  # fmt: skip
def test_c11_c12_writes_to_an_expanded_tensor(write):
    a = torch.zeros(1, 4).expand(3, 4)
    with pytest.raises(RuntimeError, match=REFUSED):
        write(a)
    assert a.tolist() == [[0.0] * 4] * 3


def test_one_value_for_all_may_be_written():
    a = torch.zeros(1, 4).expand(3, 4)
    assert a.fill_(2.0).tolist() == [[2.0] * 4] * 3
    assert a.zero_().tolist() == [[0.0] * 4] * 3


PARTLY = "some elements of the input tensor and the written-to tensor refer to a single memory loc"


@pytest.mark.parametrize("write", [
    lambda a: a[1:].add_(a[:-1]),
    lambda a: a[1:].copy_(a[:-1]),
    lambda a: a.view(3, 3).add_(a.view(3, 3).t()),
    lambda a: a.view(3, 3).mul_(a.view(3, 3)[0]),
    lambda a: a.mul_(a[0]),
    lambda a: torch.add(a[1:], 1, out=a[:-1]),
    lambda a: a[:-1].copy_(a[1:]),
], ids=["add_", "copy_", "transposed", "a row", "an element", "out", "copy_ down"])  # fmt: skip
def test_operands_that_share_part_of_the_memory(write):
    a = torch.arange(9.0)
    with pytest.raises(RuntimeError, match=PARTLY):
        write(a)
    assert a.tolist() == list(range(9))


def test_operands_between_each_others_elements():
    a = torch.arange(8.0)
    a[::2].add_(a[1::2])
    assert a.tolist() == [1.0, 1.0, 5.0, 3.0, 9.0, 5.0, 13.0, 7.0]
    a[::2].copy_(a[1::2])
    assert a.tolist() == [1.0, 1.0, 3.0, 3.0, 5.0, 5.0, 7.0, 7.0]


# ------------------------------------------------------------------------------ any geometry, types


def test_as_strided_is_differentiable_through_memory():
    x = torch.arange(6.0, dtype=torch.float64).view(2, 3).requires_grad_()
    for look in (
        lambda y: y.as_strided((2, 2), (3, 1), 1),
        lambda y: y.as_strided((4, 3), (1, 1)),
        lambda y: y.t().as_strided((3,), (2,)),
        lambda y: y[:, ::2].as_strided((2, 2), (3, 2)),
        lambda y: y.expand(2, 2, 3).as_strided((2, 2), (0, 1)),
    ):
        assert torch.autograd.gradcheck(lambda x, look=look: look(x * x).sin(), x)
        assert torch.autograd.gradgradcheck(lambda x, look=look: look(x * x).sin(), x)


def test_as_strided_in_place():
    x = torch.arange(6.0)
    assert x.as_strided_((2, 2), (3, 1)) is x
    assert x.tolist() == [[0.0, 1.0], [3.0, 4.0]]


def test_bytes_as_another_type():
    x = torch.tensor([1.0, -2.0])
    assert x.view(torch.int32).tolist() == [0x3F800000, -0x40000000]
    assert x.view(torch.uint8).shape == (8,)
    assert x.view(torch.float64).shape == (1,)
    assert x.view(torch.float32).tolist() == x.tolist()
    x.view(torch.int32)[0] = 0
    assert x.tolist() == [0.0, -2.0]
    assert not leaf().view(torch.int32).requires_grad
    for wrong, text in [
        (lambda: torch.ones(3).view(torch.float64), "must be divisible by 2"),
        (lambda: torch.ones(()).view(torch.int16), "cannot be 0"),
        (lambda: torch.ones(2, 3).t().view(torch.int16), "must be 1"),
        (lambda: torch.ones(3).view(torch.bool), "bool"),
    ]:
        with pytest.raises(RuntimeError, match=text):
            wrong()


def test_adjoint_attributes():
    x = torch.ones(2, 3)
    assert x.mH.shape == x.H.shape == x.adjoint().shape == (3, 2)
    assert torch.ones(4, 2, 3).mH.shape == (4, 3, 2)
    with pytest.raises(RuntimeError, match=r"only supported on matrices.*3-D"):
        torch.ones(4, 2, 3).H  # noqa: B018 - an attribute that raises
    with pytest.raises(RuntimeError, match=r"matrices or batches of matrices.*1-D"):
        torch.ones(4).mH  # noqa: B018


# ------------------------------------------------------------------------------- unrecorded views


@pytest.mark.parametrize("of_a_leaf", [True, False])
def test_a_view_made_without_recording_requires_grad_as_what_it_views(of_a_leaf):
    x, y = inner(3)
    with torch.no_grad():
        view = (x if of_a_leaf else y)[1:]
        assert view.requires_grad
        assert not (view * 2).requires_grad
    assert view.is_leaf
    assert (view * 2).requires_grad
    assert not view.detach().requires_grad


def test_a_view_of_a_constant_made_without_recording_does_not():
    with torch.no_grad():
        assert not torch.ones(3)[1:].requires_grad


def test_pieces_that_are_no_views_do_not():
    x, _ = inner(4)
    with torch.no_grad():
        assert not any(piece.requires_grad for piece in x.unsafe_split(2))


@pytest.mark.parametrize(
    "turn",
    [
        lambda x: x.t_(),
        lambda x: x.transpose_(0, 1),
        lambda x: x.unsqueeze_(0),
        lambda x: x.squeeze_(0),
        lambda x: x.as_strided_((1, 0), (2, 2)),
    ],
    ids=["t_", "transpose_", "unsqueeze_", "squeeze_", "as_strided_"],
)
def test_a_leaf_turned_without_recording_stays_one(turn):
    x = torch.ones(2, 3, requires_grad=True)
    with torch.no_grad():
        turn(x)
    assert x.is_leaf
    assert x.requires_grad
    x.sum().backward()
    assert x.grad.shape == x.shape


def test_a_result_turned_without_recording_keeps_its_history():
    x = torch.arange(6.0).reshape(2, 3).requires_grad_()
    y = x * 2
    with torch.no_grad():
        y.t_()
    y.add_(1)
    (y * torch.arange(6.0).reshape(3, 2)).sum().backward()
    assert x.grad.tolist() == [[0.0, 4.0, 8.0], [2.0, 6.0, 10.0]]


def test_a_view_turned_without_recording_may_be_written_to():
    x, y = inner(2, 3)
    view = y.view_as(y)
    with torch.no_grad():
        view.t_()
    view.mul_(3)
    y.sum().backward()
    assert x.grad.tolist() == [[3.0] * 3] * 2


# ------------------------------------------------------------------------------- other memory


def test_a_leaf_may_be_set_to_other_memory_without_recording():
    x = torch.ones(4, requires_grad=True)
    with pytest.raises(RuntimeError, match="leaf Variable that requires grad"):
        x.set_(torch.zeros(4))
    before = x * 2
    with torch.no_grad():
        x.set_(x[1:])
    assert x.shape == (3,)
    assert x.is_leaf
    x.sum().backward()
    assert x.grad.tolist() == [1.0] * 3
    with pytest.raises(RuntimeError, match="not have been used in the graph"):
        torch.autograd.grad(before.sum(), x)


def test_resizing_to_the_same_size_is_no_write():
    x = torch.ones(1)
    x.resize_(1, 2)
    assert x._version == 1
    x.resize_(1, 2)
    assert x._version == 1
