"""Tensor hooks: what they see, what they may change, and what is left when they fail.

The numbers D12 to D15 are rows of the project's table of bad inputs.
"""

import pytest
import wengert as torch
from support import leaf
from wengert import autograd


def test_hooks_see_and_change_the_gradient_in_order():
    x = leaf()
    y = x * 1
    seen = []
    y.register_hook(lambda g: seen.append(("first", g.tolist())))
    y.register_hook(lambda g: g * 10)
    y.register_hook(lambda g: seen.append(("third", g.tolist())))
    y.sum().backward()
    assert seen == [("first", [1.0] * 3), ("third", [10.0] * 3)]
    assert x.grad.tolist() == [10.0] * 3


def test_hooks_on_leaves_run_before_accumulation():
    x = leaf()
    x.register_hook(lambda g: -g)
    (x * 2).sum().backward()
    (x * 2).sum().backward()
    assert x.grad.tolist() == [-4.0] * 3


def test_a_hook_sees_the_whole_gradient_once():
    x = leaf()
    y = x * 1
    calls = []
    y.register_hook(calls.append)
    (y * 2 + y * 3).sum().backward()
    assert [g.tolist() for g in calls] == [[5.0] * 3]


def test_hooks_can_be_removed():
    x = leaf()
    calls = []
    handle = x.register_hook(calls.append)
    (x * 2).sum().backward()
    handle.remove()
    handle.remove()
    (x * 2).sum().backward()
    assert len(calls) == 1
    with x.register_hook(calls.append):
        (x * 2).sum().backward()
    (x * 2).sum().backward()
    assert len(calls) == 2


def test_hooks_run_for_grad_and_for_retained_gradients():
    x = leaf()
    y = x * 2
    y.register_hook(lambda g: g * 10)
    assert autograd.grad(y.sum(), x, retain_graph=True)[0].tolist() == [20.0] * 3
    y.retain_grad()
    y.sum().backward()
    assert y.grad.tolist() == [10.0] * 3


def test_hooks_are_for_tensors_that_require_grad():
    with pytest.raises(RuntimeError, match=r"(?i)requires? grad|gradient"):
        torch.ones(3).register_hook(print)
    x = leaf() * 2
    x.register_hook(lambda g: "no tensor")
    with pytest.raises(TypeError):
        x.sum().backward()


def test_hooks_are_recorded_under_create_graph():
    x = leaf(3.0)
    y = x * x
    y.register_hook(lambda g: g * x)
    (g,) = autograd.grad(y.sum(), x, create_graph=True)  # 2 x^2
    assert autograd.grad(g.sum(), x)[0].tolist() == [12.0]


def test_d12_a_hook_that_raises():
    x = leaf()
    y = x * 2
    handle = y.register_hook(lambda g: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        y.sum().backward(retain_graph=True)
    assert x.grad is None
    handle.remove()
    y.sum().backward()
    assert x.grad.tolist() == [2.0] * 3


def test_d13_a_failed_backward_leaves_every_gradient_as_it_was():
    x, w = leaf(), leaf()
    h = x * 2
    handle = h.register_hook(lambda g: 1 / 0)
    y = (w * 3).sum() + h.sum()
    with pytest.raises(ZeroDivisionError):
        y.backward(retain_graph=True)
    assert x.grad is None
    assert w.grad is None
    handle.remove()
    y.backward()
    assert w.grad.tolist() == [3.0] * 3
    assert x.grad.tolist() == [2.0] * 3


def test_d14_a_hook_that_returns_another_shape():
    x = leaf()
    x.register_hook(lambda g: g[:2])
    with pytest.raises(RuntimeError, match=r"(?s)size|shape"):
        (x * 2).sum().backward()
    assert x.grad is None


def test_d15_a_hook_may_write_to_its_gradient():
    x = leaf()
    y = x * 1
    y.register_hook(lambda g: g.mul_(10))
    y.sum().backward()
    assert x.grad.tolist() == [10.0] * 3
