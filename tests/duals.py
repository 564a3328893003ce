"""Dual tensors of short vectors, for the tests of forward mode."""

import wengert as torch
import wengert.autograd.forward_ad as fwAD
from support import assert_close, to_array

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
