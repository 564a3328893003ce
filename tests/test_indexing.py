"""Basic indexing, reading and writing, against NumPy, which has the same rules."""

import numpy as np
import pytest
import wengert as torch
from support import to_array

SHAPES = [(), (5,), (3, 4), (2, 3, 4), (2, 0, 3)]
INDICES = {
    (): [(), ..., None, (None, None), (..., None)],
    (5, ): [0, 4, -1, -5, slice(None), slice(1, 3), slice(None, None, 2), slice(4, 1), slice(-3,
        None), slice(-100, 100), slice(7, 9), slice(None, None, -1), slice(4, None, -2), slice(1, 4,
        3), ..., None, (None, 2), (2, None), (..., 1), (slice(1, 4), None), np.int64(2),
        slice(np.int64(1), None)],
    (3, 4): [1, (1, 2), (-1, -1), (slice(None), 1), (1, slice(None)), (slice(1), slice(1, 3)),
        (slice(None, None, 2), slice(None, None, 3)), (..., 0), (0, ...), (slice(None), None, 2),
        (None, 1, None, 2, None), (slice(2, 0, -1), slice(None, None, -1)), (slice(0, 0), 1)],
    (2, 3, 4): [1, (1, 2), (1, 2, 3), (..., 1), (1, ...), (0, ..., 1), (slice(None), 1),
        (slice(None), slice(None), slice(1, None, 2)), (None, ..., None), (0, None, slice(1, 3),
        -1), (slice(None), slice(None, None, -1), 2), (..., slice(None), 0)],
    (2, 0, 3): [0, (slice(None), slice(None), 1), (..., slice(1, 2)), (0, slice(0, 0))],
}  # fmt: skip
CASES = [(shape, index) for shape in SHAPES for index in INDICES[shape]]
cases = pytest.mark.parametrize(("shape", "index"), CASES, ids=[f"{s}-{i}" for s, i in CASES])


def counting(shape, dtype="float64"):
    return np.arange(1, 1 + int(np.prod(shape))).astype(dtype).reshape(shape)


def equal(tensor, array):
    assert tuple(tensor.shape) == np.asarray(array).shape
    np.testing.assert_array_equal(to_array(tensor), array)


@cases
@pytest.mark.parametrize("dtype", ["float64", "float32", "int64", "uint8", "bool"])
def test_read(shape, index, dtype):
    a = counting(shape, dtype)
    equal(torch.tensor(a)[index], a[index])


@cases
def test_read_of_a_transposed_tensor(shape, index):
    a = counting(shape)
    t = torch.tensor(np.array(a.T, order="C")).permute(tuple(range(a.ndim))[::-1])
    equal(t[index], a[index])


@cases
def test_write_number(shape, index):
    a = counting(shape)
    t = torch.tensor(a)
    a[index] = -1
    t[index] = -1
    equal(t, a)


@cases
@pytest.mark.parametrize("kind", ["tensor", "array"])
def test_write_values(shape, index, kind):
    """Values of the region's shape, and one row of it that is broadcast."""
    for rows in (slice(None), slice(0, 1)):
        a = counting(shape)
        t, values = torch.tensor(a), -np.asarray(a[index])
        values = values[rows] if values.ndim else values
        a[index] = values
        t[index] = torch.tensor(values) if kind == "tensor" else values
        equal(t, a)


@cases
def test_gradient_of_read(shape, index):
    t = torch.tensor(counting(shape), requires_grad=True)
    part = t[index]
    weights = counting(tuple(part.shape))
    (part * torch.tensor(weights)).sum().backward()
    expected = np.zeros(shape)
    expected[index] = weights
    equal(t.grad, expected)


@cases
def test_gradient_of_write(shape, index):
    x, t = torch.tensor(counting(shape), requires_grad=True), torch.tensor(counting(shape))
    values = torch.tensor(counting(tuple(t[index].shape)), requires_grad=True)
    y = x * 1
    y[index] = values
    weights = counting(shape)
    (y * torch.tensor(weights)).sum().backward()
    equal(values.grad, weights[index])
    left = weights.copy()
    left[index] = 0
    equal(x.grad, left)


@pytest.mark.parametrize(
    "index", [1, slice(1, 3), slice(None, None, 2), (..., 2), None, ...], ids=str
)
def test_forward_steps_give_views(index):
    t = torch.tensor(counting((3, 4)))
    part = t[index]
    part.fill_(0)
    a = counting((3, 4))
    a[index] = 0
    equal(t, a)


def test_second_order_through_an_index():
    x = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    (g,) = torch.autograd.grad((x[1:] ** 3).sum(), x, create_graph=True)
    assert torch.autograd.grad(g.sum(), x)[0].tolist() == [0.0, 12.0, 18.0]


def test_random_indices():
    """Whatever combination of integers, slices, None and an ellipsis."""
    rng = np.random.default_rng(0)
    for _ in range(500):
        shape = tuple(int(n) for n in rng.integers(1, 5, rng.integers(1, 5)))
        index = tuple(random_part(rng, n) for n in shape[: rng.integers(0, len(shape) + 1)])
        for extra in [None] * int(rng.integers(0, 2)) + [...] * int(rng.integers(0, 2)):
            place = int(rng.integers(0, len(index) + 1))
            index = (*index[:place], extra, *index[place:])
        a = counting(shape)
        try:
            expected = a[index]
        except IndexError:
            with pytest.raises(IndexError):
                torch.tensor(a)[index]
            continue
        equal(torch.tensor(a)[index], expected)
        t = torch.tensor(a)
        t[index] = 0
        a[index] = 0
        equal(t, a)


def random_part(rng, size):
    if rng.random() < 0.4:
        return int(rng.integers(-size, size))
    ends = [
        None if rng.random() < 0.3 else int(rng.integers(-size - 1, size + 2)) for _ in range(2)
    ]
    return slice(*ends, int(rng.choice([1, 1, 2, 3, -1, -2])))


@pytest.mark.parametrize(("index", "pattern"), [
    (3, "3.*3"), (-4, "-4.*3"), ((0, 4), "4.*1.*4|4"), ((0, 0, 0), "(?i)too many|dim"),
])  # fmt: skip
def test_out_of_range(index, pattern):
    t = torch.tensor(counting((3, 4)))
    with pytest.raises(IndexError, match=pattern):
        t[index]
    with pytest.raises(IndexError, match=pattern):
        t[index] = 0
    equal(t, counting((3, 4)))


@pytest.mark.parametrize("index", [slice(None, None, 0), slice("a"), slice(0.5, 2), 1.0], ids=str)
def test_impossible_indices(index):
    with pytest.raises((ValueError, TypeError, IndexError)):
        torch.tensor(counting((3, 4)))[index]


def test_values_that_do_not_fit():
    t = torch.tensor(counting((3, 4)))
    with pytest.raises(RuntimeError, match=r"(?s)2.*4|4.*2"):
        t[0] = torch.ones(2)
    with pytest.raises((RuntimeError, ValueError)):
        t[0] = torch.ones(2, 4)
    with pytest.raises((TypeError, ValueError, RuntimeError)):
        t[0] = "text"
    equal(t, counting((3, 4)))


def test_assignment_from_overlapping_memory():
    t = torch.tensor(counting((6,)))
    t[1:] = t[:-1].clone()
    equal(t, np.array([1, 1, 2, 3, 4, 5.0]))


def test_scalars_are_cast_as_by_fill():
    t = torch.zeros(3, dtype=torch.int64)
    t[0] = 2.9
    t[1] = True
    assert t.tolist() == [2, 1, 0]
    t[2] = torch.tensor(3.7)
    assert t.tolist() == [2, 1, 3]
