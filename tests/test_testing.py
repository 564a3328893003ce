"""`testing.assert_close`: what it accepts, and what it says."""

import numpy as np
import pytest
import wengert as torch
from wengert.testing import assert_close, make_tensor

T = torch.tensor
NAN = float("nan")


@pytest.mark.parametrize(
    ("a", "b", "options"),
    [
        (T([1.0, 2.0]), T([1.0, 2.0 + 1e-6]), {}),
        (T([1.0]), T([1.1]), {"rtol": 0.2, "atol": 0.0}),
        (T([1.0]), T([1.0], dtype=torch.float64), {"check_dtype": False}),
        (T([1, 2]), T([1, 2]), {}),
        (T([NAN, float("inf")]), T([NAN, float("inf")]), {"equal_nan": True}),
        (torch.ones(0), torch.ones(0), {}),
        (T(1.0, requires_grad=True), T(1.0), {}),
        (1.0, 1.0 + 1e-9, {}),
        (True, True, {}),
        (None, None, {}),
        ([T([1.0]), (2.0, {"x": T(3)})], [T([1.0]), (2.0, {"x": T(3)})], {}),
        ((1.0, 2.0), [1.0, 2.0], {}),
        (np.ones(2), np.ones(2), {}),
    ],
)
def test_what_is_close(a, b, options):
    assert_close(a, b, **options)


@pytest.mark.parametrize(
    ("a", "b", "lines"),
    [
        (
            T([1.0, 2.0, 3.0]),
            T([1.0, 2.0, 4.0]),
            [
                "Tensor-likes are not close!",
                "",
                "Mismatched elements: 1 / 3 (33.3%)",
                "Greatest absolute difference: 1.0 at index (2,) (up to 1e-05 allowed)",
                "Greatest relative difference: 0.25 at index (2,) (up to 1.3e-06 allowed)",
            ],
        ),
        (
            T([[1, 2], [3, 4]]),
            T([[1, 2], [3, 8]]),
            [
                "Tensor-likes are not equal!",
                "",
                "Mismatched elements: 1 / 4 (25.0%)",
                "Greatest absolute difference: 4 at index (1, 1)",
                "Greatest relative difference: 0.5 at index (1, 1)",
            ],
        ),
        (
            T(1.0),
            T(2.0),
            [
                "Scalars are not close!",
                "",
                "Expected 2.0 but got 1.0.",
                "Absolute difference: 1.0 (up to 1e-05 allowed)",
                "Relative difference: 0.5 (up to 1.3e-06 allowed)",
            ],
        ),
        (
            [1, {"x": 3}],
            [1, {"x": 4}],
            [
                "Scalars are not equal!",
                "",
                "Expected 4 but got 3.",
                "Absolute difference: 1",
                "Relative difference: 0.25",
                "",
                "The failure occurred for item [1]['x']",
            ],
        ),
        (
            {"a": 1, "b": 2},
            {"a": 1, "c": 2},
            [
                "The keys of the mappings do not match:",
                "Missing keys in the actual mapping: ['c']",
                "Additional keys in the actual mapping: ['b']",
            ],
        ),
        ([1.0, 2.0], [1.0], ["The length of the sequences mismatch: 2 != 1"]),
        (1, 1.0, ["The (d)types do not match: <class 'int'> != <class 'float'>."]),
        (True, False, ["Booleans mismatch: True is not False"]),
        (
            torch.ones(2),
            torch.ones(3),
            ["The values for attribute 'shape' do not match: torch.Size([2]) != torch.Size([3])."],
        ),
    ],
)
def test_what_differs(a, b, lines):
    with pytest.raises(AssertionError) as caught:
        assert_close(a, b)
    assert str(caught.value).splitlines() == lines


def test_types_and_strides():
    with pytest.raises(AssertionError, match=r"attribute 'dtype' do not match: .*float32 != .*64"):
        assert_close(T([1.0]), T([1.0], dtype=torch.float64))
    x = torch.ones(2, 3)
    assert_close(x, torch.ones(3, 2).t())
    with pytest.raises(AssertionError, match=r"'stride\(\)' do not match: \(3, 1\) != \(1, 2\)"):
        assert_close(x, torch.ones(3, 2).t(), check_stride=True)


def test_nan_is_not_close():
    with pytest.raises(AssertionError, match="Greatest absolute difference: nan at index"):
        assert_close(T([NAN]), T([NAN]))


def test_own_messages():
    with pytest.raises(AssertionError, match=r"^hello$"):
        assert_close(T([1.0]), T([2.0]), msg="hello")
    with pytest.raises(AssertionError, match=r"^so: Tensor-likes are not close!"):
        assert_close(T([1.0]), T([2.0]), msg="so: {}".format)


@pytest.mark.parametrize("other", [1.0, [1.0], "text", np.ones(1)])
def test_other_kinds_are_refused(other):
    with pytest.raises(TypeError, match="No comparison pair was able to handle inputs of type"):
        assert_close(T([1.0]), other)


def test_one_tolerance_alone_is_refused():
    with pytest.raises(ValueError, match="but got no atol"):
        assert_close(1.0, 1.0, rtol=0.1)
    with pytest.raises(ValueError, match="but got no rtol"):
        assert_close(1.0, 1.0, atol=0.1)


# Random tensors. --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["float16", "float32", "float64", "int8", "int64", "uint8", "bool"]
)
def test_random_tensors_lie_between_limits(name):
    dtype = getattr(torch, name)
    x = make_tensor(4, 50, dtype=dtype)
    assert x.shape == (4, 50)
    assert x.dtype is dtype
    lowest = 0 if name in ("uint8", "bool") else -9
    assert all(lowest <= v <= 9 for v in x.flatten().tolist())
    assert len(set(x.flatten().tolist())) > 1


def test_random_tensors_have_the_sizes_and_limits_asked_for():
    x = make_tensor((3, 2), dtype=torch.int32, low=2, high=4, noncontiguous=True)
    assert set(x.flatten().tolist()) <= {2, 3}
    assert x.stride() == (4, 2)
    assert make_tensor((), dtype=torch.float64).shape == ()
    assert make_tensor(2, dtype=torch.float32, requires_grad=True).is_leaf
    zeros = make_tensor(9, dtype=torch.uint8, low=0, high=1, exclude_zero=True)
    assert zeros.tolist() == [1] * 9
    with pytest.raises(ValueError, match="less than `high`"):
        make_tensor(2, dtype=torch.float32, low=3, high=3)
