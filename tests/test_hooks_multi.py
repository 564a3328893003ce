"""Hooks that wait for several gradients, and what a hook may ask about the pass it is in."""

import pytest
import wengert as torch
from support import leaf
from wengert import autograd
from wengert.autograd import Variable
from wengert.autograd.graph import register_multi_grad_hook


def graph():
    a, b = leaf(1.0), leaf(2.0)
    return a, b, a * b, a + b


def test_all_waits_for_every_gradient_that_will_come():
    a, b, c, d = graph()
    log = []
    register_multi_grad_hook((a, b, c, d), lambda gs: log.append([g is not None for g in gs]))
    c.backward(retain_graph=True)
    c.backward(inputs=(a,), retain_graph=True)
    d.backward(retain_graph=True)
    (c + d).backward(retain_graph=True)
    assert log == [
        [True, True, True, False],
        [True, False, True, False],
        [True, True, False, True],
        [True] * 4,
    ]


def test_all_counts_what_grad_computes():
    a, b, c, d = graph()
    log = []
    register_multi_grad_hook((a, b, c, d), lambda gs: log.append([g is not None for g in gs]))
    autograd.grad(c, a, retain_graph=True)
    autograd.grad(c + d, (c, d), retain_graph=True)
    assert log == [[True, False, True, False], [False, False, True, True]]


def test_all_hands_over_the_gradients():
    _a, _b, c, d = graph()
    seen = []
    register_multi_grad_hook((c, d), lambda gs: seen.extend(g.item() for g in gs))
    (c * 2 + d * 3).backward()
    assert seen == [2.0, 3.0]


def test_all_is_not_called_if_nothing_is_reached():
    _a, _b, c, d = graph()
    register_multi_grad_hook((d,), lambda gs: 1 / 0)
    c.backward(retain_graph=True)


def test_any_is_called_once_with_the_first_gradient():
    a, b, c, _d = graph()
    seen = []
    handle = register_multi_grad_hook(
        (torch.ones(1), a, b, c), lambda g: seen.append(g.item()), mode="any"
    )
    c.backward(torch.tensor([7.0]), retain_graph=True)
    assert seen == [7.0]
    c.backward(retain_graph=True)
    assert seen == [7.0, 1.0]
    handle.remove()
    c.backward()
    assert len(seen) == 2


def test_a_tensor_may_stand_twice():
    _a, _b, c, _d = graph()
    log = []
    register_multi_grad_hook((c, c), log.append)
    c.backward()
    assert [[g.item() for g in gs] for gs in log] == [[1.0, 1.0]]


def test_handles_remove_all():
    a, b, c, _d = graph()
    with register_multi_grad_hook((a, b, c), lambda gs: 1 / 0):
        pass
    c.backward()
    assert a.grad is not None


def test_a_pass_that_fails_does_not_confuse_the_next():
    a, _b, c, _d = graph()
    log = []
    register_multi_grad_hook((a, c), lambda gs: log.append(len(gs)))
    handle = a.register_hook(lambda g: 1 / 0)
    handle.remove()
    handle = c.register_hook(lambda g: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        c.backward(retain_graph=True)
    handle.remove()
    c.backward()
    assert log == [2]


def test_a_pass_within_a_pass_is_counted_by_itself():
    a, b, c, d = graph()
    log = []

    def nested(g):
        if not log:
            log.append("nested")
            d.backward(retain_graph=True)

    c.register_hook(nested)
    register_multi_grad_hook((a, b), lambda gs: log.append([g.item() for g in gs]))
    c.backward()
    assert log == ["nested", [1.0, 1.0], [2.0, 1.0]]


def test_wrong_modes_and_tensors():
    a = leaf()
    with pytest.raises(ValueError, match="Expects mode to be one of"):
        register_multi_grad_hook((a,), print, mode="some")
    with pytest.raises(RuntimeError, match="does not require gradients"):
        register_multi_grad_hook((a, torch.ones(1)), print)


# The running pass. ------------------------------------------------------------------------------


def test_callbacks_run_when_the_pass_is_over():
    x = leaf()
    log = []

    def later():
        log.append(x.grad.tolist())
        Variable._execution_engine.queue_callback(lambda: log.append("last"))

    x.register_hook(lambda g: Variable._execution_engine.queue_callback(later))
    x.sum().backward()
    assert log == [[1.0] * 3, "last"]


def test_callbacks_belong_to_the_pass_that_queued_them():
    x, y = leaf(), leaf()
    log = []
    queue = Variable._execution_engine.queue_callback

    def inner(g):
        queue(lambda: log.append("inner"))

    def outer(g):
        queue(lambda: log.append("outer"))
        with torch.enable_grad():
            y.sum().backward()
        log.append("nested is over")

    x.register_hook(outer)
    y.register_hook(inner)
    x.sum().backward()
    assert log == ["inner", "nested is over", "outer"]


def test_callbacks_of_a_failed_pass_are_dropped():
    x = leaf()
    y = x * 1
    y.register_hook(lambda g: Variable._execution_engine.queue_callback(lambda: 1 / 0))
    x.register_hook(lambda g: int("no number"))
    with pytest.raises(ValueError, match="no number"):
        y.sum().backward()


def test_the_exception_of_a_callback_arrives():
    x = leaf()
    x.register_hook(lambda g: Variable._execution_engine.queue_callback(lambda: 1 / 0))
    with pytest.raises(ZeroDivisionError):
        x.sum().backward()


def test_callbacks_are_queued_in_passes_only():
    with pytest.raises(RuntimeError, match="only be installed during backward"):
        Variable._execution_engine.queue_callback(print)


def test_hooks_know_their_node():
    x = leaf()
    y = x.exp()
    seen = []

    def hook(*_):
        seen.append(torch._core._current_autograd_node())

    node = y.grad_fn.next_functions[0][0]
    y.register_hook(hook)
    y.grad_fn.register_prehook(hook)
    y.grad_fn.register_hook(hook)
    x.register_hook(hook)
    y.sum().backward()
    assert seen == [y.grad_fn] * 3 + [node]
    seen.clear()  # the nodes hold the hook, which holds this list
    assert torch._core._current_autograd_node() is None
    assert torch._core._current_graph_task_id() == -1


def test_multithreading_can_be_switched_off():
    is_enabled = torch._core._is_multithreading_enabled
    assert is_enabled()
    with autograd.set_multithreading_enabled(False):
        assert not is_enabled()
        w = torch.randn(200, 200, requires_grad=True)
        ((w @ w).sum() + (w @ w.exp()).sum()).backward()
    assert is_enabled()
    autograd.set_multithreading_enabled(False)
    assert not is_enabled()
    autograd.set_multithreading_enabled(True)
    with pytest.raises(TypeError, match="must be bool"):
        autograd.set_multithreading_enabled(1)
