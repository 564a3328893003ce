"""Functions of nested lists or any number of tensors: against NumPy, with their gradients."""

import numpy as np
import pytest
import wengert as torch
from wengert.autograd import gradcheck
from wengert.testing import make_tensor

A = make_tensor(2, 3, 4, dtype=torch.float64)
B = make_tensor(4, 3, 5, dtype=torch.float64)


@pytest.mark.parametrize(
    ("a", "b", "dims"),
    [
        (A, B, 1),
        (A, B, ([1, 2], [1, 0])),
        (A, B, ([-1], [0])),
        (A, A, 3),
        (A, B, 0),
        (A, B, ([], [])),
        (A[0], A[0], ([0], [0])),
        (A[:0], B, 1),
    ],
)
def test_tensordot(a, b, dims):
    found = torch.tensordot(a, b, dims)
    np.testing.assert_allclose(found.numpy(), np.tensordot(a.numpy(), b.numpy(), dims))


def test_an_axis_of_length_one_goes_with_any():
    a, b = torch.arange(2.0).reshape(1, 1, 2), torch.ones(2, 1, 3)
    assert torch.tensordot(a, b, ([0], [0])).tolist() == [[[[0.0] * 3], [[2.0] * 3]]]


def test_tensordot_has_gradients_and_batches():
    a, b = (make_tensor(3, 3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    assert gradcheck(lambda a, b: torch.tensordot(a, b, ([1], [1])), (a, b), check_forward_ad=True)
    each = torch.func.vmap(lambda x: torch.tensordot(x, b.detach(), 1))(A[..., :3])
    assert torch.allclose(each, A[..., :3] @ b)


@pytest.mark.parametrize(
    ("dims", "pattern"),
    [
        (-1, "dims >= 0"),
        (4, "dims < ndim"),
        (([1, 2], [1]), "same length"),
        (([0], [0]), "size 2 in dim 0 and second has size 4"),
        (([1, 1], [1, 1]), "multiple times"),
        (([3], [0]), "Dimension out of range"),
    ],
)
def test_axes_that_tensordot_refuses(dims, pattern):
    with pytest.raises((RuntimeError, IndexError), match=pattern):
        torch.tensordot(A, B, dims)


def test_tensordot_writes_to_out():
    out = torch.empty(0, dtype=torch.float64)
    assert torch.tensordot(A, B, 1, out=out) is out
    assert out.shape == (2, 3, 3, 5)


def test_block_diag():
    x = torch.ones(1, 2, requires_grad=True)
    y = torch.tensor([[1], [2]])
    found = torch.block_diag(x, y, torch.tensor(3), torch.tensor([4, 5]))
    assert found.tolist() == [
        [1.0, 1.0, 0.0, 0.0, 0.0, 0.0],
        [0.0, 0.0, 1.0, 0.0, 0.0, 0.0],
        [0.0, 0.0, 2.0, 0.0, 0.0, 0.0],
        [0.0, 0.0, 0.0, 3.0, 0.0, 0.0],
        [0.0, 0.0, 0.0, 0.0, 4.0, 5.0],
    ]
    found.sum().backward()
    assert x.grad.tolist() == [[1.0, 1.0]]
    assert torch.block_diag().shape == (1, 0)
    with pytest.raises(RuntimeError, match=r"2 or fewer dimensions\. Input 0 has 3"):
        torch.block_diag(torch.ones(1, 1, 1))


def test_cartesian_prod():
    x, y = torch.tensor([1.0, 2.0], requires_grad=True), torch.tensor([3.0, 4.0, 5.0])
    found = torch.cartesian_prod(x, y)
    assert found.tolist() == [[a, b] for a in (1.0, 2.0) for b in (3.0, 4.0, 5.0)]
    found.sum().backward()
    assert x.grad.tolist() == [3.0, 3.0]
    assert torch.cartesian_prod(y) is y
    with pytest.raises(RuntimeError, match="Expect a 1D vector"):
        torch.cartesian_prod(torch.ones(2, 2))


@pytest.mark.parametrize("shapes", [[(2, 1), (3,)], [(), (1,)], [(0,), (1,)], [(2, 3)], []])
def test_broadcast_shapes(shapes):
    assert torch.broadcast_shapes(*shapes) == np.broadcast_shapes(*shapes)


def test_shapes_that_do_not_broadcast():
    assert torch.broadcast_shapes(3, (2, 1)) == (2, 3)
    with pytest.raises(RuntimeError, match=r"length 3 at -1! Mismatching argument at index 1 had"):
        torch.broadcast_shapes((2,), (3,))
    with pytest.raises(ValueError, match="negative length"):
        torch.broadcast_shapes((-1,))
