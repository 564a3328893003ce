"""What the tests of function transforms share."""

import pytest
import wengert as torch
from support import assert_close, to_array


def close(actual, expected, tol=1.0):
    assert_close(actual, to_array(expected), tol)


def randn(*shape, dtype=torch.float64):
    return torch.randn(*shape, dtype=dtype)


def same_randomness(*modes):
    return pytest.mark.parametrize("randomness", modes or ("different", "same"))
