"""What type checkers make of the package: mypy reads this file, and `test_stubs.py` runs it."""

from collections.abc import Callable
from typing import assert_type

import numpy as np
import wengert as torch
from wengert import Tensor, nn
from wengert.autograd import grad, gradcheck
from wengert.autograd.graph import Node


def creation() -> None:
    """Sizes as a tuple or spelled out; element types by name or by Python's own."""
    assert_type(torch.zeros(2, 3), Tensor)
    assert_type(torch.ones((2, 3), dtype=torch.float64, requires_grad=True), Tensor)
    assert_type(torch.rand(2, generator=torch.Generator().manual_seed(0)), Tensor)
    assert_type(torch.tensor([1, 2], dtype=float), Tensor)
    assert_type(torch.from_numpy(np.zeros(3)), Tensor)
    assert_type(torch.arange(0, 1, 0.25), Tensor)


def attributes(x: Tensor) -> None:
    """Attributes and conversions."""
    assert_type(x.shape, torch.Size)
    assert_type(x.size(), torch.Size)
    assert_type(x.size(0), int)
    assert_type(x.dtype, torch.dtype)
    assert_type(x.requires_grad, bool)
    assert_type(x.grad, Tensor | None)
    assert_type(x.grad_fn, Node | None)
    assert_type(float(x.sum()), float)
    assert_type(len(x), int)
    assert_type([row for row in x], list[Tensor])  # noqa: C416 - iteration is what is tried
    x.grad = None


def arithmetic(x: Tensor) -> None:
    """Operators take tensors, numbers and arrays."""
    assert_type(2 * x + 1.0 - x / 3 @ x.T, Tensor)
    assert_type(-(x.square() ** 2), Tensor)
    assert_type(x == 0, Tensor)
    assert_type(x[0, ..., None, 1:], Tensor)
    x += 1
    x[0] = 2.0
    assert_type(x, Tensor)


def overloads(x: Tensor) -> None:
    """What comes back depends on the arguments."""
    assert_type(torch.max(x), Tensor)
    assert_type(torch.max(x, x), Tensor)
    assert_type(torch.max(x, 0).indices, Tensor)
    values, indices = x.max(dim=0)
    assert_type(values, Tensor)
    assert_type(indices, Tensor)
    assert_type(torch.var_mean(x), tuple[Tensor, Tensor])
    assert_type(x.split(1), tuple[Tensor, ...])
    assert_type(torch.allclose(x, x), bool)
    assert_type(x.view(-1), Tensor)
    assert_type(x.view((1, -1)).expand(2, -1), Tensor)


def forms(x: Tensor) -> None:
    """Functions, methods, in-place and `out=`."""
    assert_type(torch.exp(x, out=torch.empty_like(x)), Tensor)
    assert_type(x.exp().mul_(2).add_(x, alpha=3), Tensor)
    assert_type(nn.functional.softplus(x), Tensor)
    assert_type(torch.linalg.vector_norm(x, dim=0), Tensor)


def differentiation(x: Tensor) -> None:
    """Gradients and modes."""
    (x * x).sum().backward()
    assert_type(grad((x * x).sum(), x), tuple[Tensor, ...])
    assert_type(grad((x * x).sum(), [x], allow_unused=True), tuple[Tensor | None, ...])
    assert_type(gradcheck(torch.sin, x), bool)
    with torch.no_grad(), torch.set_grad_enabled(True):
        pass
    assert_type(double(x), Tensor)
    assert_type(bare(x), Tensor)
    handle = x.register_hook(lambda g: g * 2)
    handle.remove()


@torch.no_grad()
def double(x: Tensor) -> Tensor:
    """Decorated by an object."""
    return x * 2


@torch.no_grad
def bare(x: Tensor) -> Tensor:
    """Decorated by the class."""
    return x * 2


def main() -> None:
    """Run everything."""
    creation()
    cases: list[Callable[[Tensor], None]] = [attributes, arithmetic, overloads, forms]
    for case in cases:
        case(torch.ones(2, 2))
    differentiation(torch.ones(2, dtype=torch.float64, requires_grad=True))
