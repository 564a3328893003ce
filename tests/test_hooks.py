"""Tensor hooks: what they see, what they may change, and what is left when they fail.

The numbers D12 to D15 are rows of the project's table of bad inputs. Hooks of leaves and of nodes
have files of their own.
"""

import gc
import pickle
import weakref

import pytest
import wengert as torch
from support import leaf
from wengert import autograd
from wengert.utils.hooks import RemovableHandle, unserializable_hook, warn_if_has_hooks


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


def test_hooks_see_the_gradients_of_each_pass():
    x = leaf()
    y = x * 1
    counts = []
    y.register_hook(lambda g: counts.append(g[0].item()))
    total = y.sum()
    total.backward(retain_graph=True)
    total.backward(torch.tensor(3.0), retain_graph=True)
    autograd.grad(total, x)
    assert counts == [1.0, 3.0, 1.0]


def test_hooks_are_called_in_a_mode_that_they_may_change():
    x = leaf()
    y = x * x
    modes = []

    def hook(g):
        modes.append(torch.is_grad_enabled())
        torch.set_grad_enabled(not torch.is_grad_enabled())

    y.register_hook(hook)
    y.register_hook(hook)
    y.sum().backward(retain_graph=True)
    autograd.grad(y.sum(), x, create_graph=True)
    assert modes == [False, False, True, True]
    assert torch.is_grad_enabled()


def test_a_hook_without_a_name():
    class Hook:
        def __call__(self, g):
            return g * 2

    x = leaf()
    x.register_hook(Hook())
    x.sum().backward()
    assert x.grad.tolist() == [2.0] * 3


def test_hooks_of_an_output_that_has_no_gradient_see_none():
    x = leaf()
    first, second, _ = x.unbind()
    seen = []
    first.register_hook(seen.append)
    second.register_hook(seen.append)
    first.backward()
    assert [g if g is None else g.item() for g in seen] == [1.0, None]


def test_none_cannot_be_replaced():
    first, second, _ = leaf().unbind()
    second.register_hook(lambda g: torch.ones(()))
    with pytest.raises(RuntimeError, match="can't replace a None gradient"):
        first.backward()


# Handles. ---------------------------------------------------------------------------------------


def test_hooks_can_be_removed():
    x = leaf()
    calls = []
    handle = x.register_hook(calls.append)
    (x * 2).sum().backward()
    handle.remove()
    handle.remove()
    (x * 2).sum().backward()
    assert len(calls) == 1
    with x.register_hook(calls.append) as handle:
        assert isinstance(handle, RemovableHandle)
        (x * 2).sum().backward()
    (x * 2).sum().backward()
    assert len(calls) == 2


def test_a_hook_may_remove_itself_and_others_and_add_some():
    x = leaf()
    y = x * 2
    log, handles = [], []

    def first(g):
        log.append("first")
        handles[0].remove()
        handles[1].remove()
        y.register_hook(lambda g: log.append("new"))

    handles.append(y.register_hook(first))
    handles.append(y.register_hook(lambda g: log.append("second")))
    y.sum().backward(retain_graph=True)
    y.sum().backward()
    assert log == ["first", "second", "new"]


def test_handles_keep_nothing_alive():
    x = leaf()
    y = x * 2
    handle = y.register_hook(lambda g: g)
    del y
    assert handle.hooks_dict_ref() is None
    handle.remove()


def test_handles_serve_other_dicts_too():
    hooks, names = {}, {}

    class Hooks(dict):
        pass

    hooks, names = Hooks(), Hooks()
    handle = RemovableHandle(hooks, extra_dict=names)
    hooks[handle.id] = names[handle.id] = print
    assert RemovableHandle(hooks).id > handle.id
    handle.remove()
    assert not hooks
    assert not names


def test_hooks_can_be_looked_at():
    x = leaf()
    y = x * 2
    assert y._backward_hooks is None
    handle = y.register_hook(print)
    assert dict(y._backward_hooks) == {handle.id: print}
    y.mul_(2)
    assert y._backward_hooks is None
    x.register_hook(repr)
    assert list(x._backward_hooks.values()) == [repr]


def test_serialisation_warns_of_hooks():
    x, y = leaf(), leaf()
    x.register_hook(lambda g: g)
    y.register_hook(unserializable_hook(lambda g: g))
    with pytest.warns(UserWarning, match="will not be serialized"):
        warn_if_has_hooks(x)
    with pytest.warns(UserWarning, match="will not be serialized"):
        copy = pickle.loads(pickle.dumps(x))
    assert copy._backward_hooks is None
    warn_if_has_hooks(y)
    assert pickle.loads(pickle.dumps(y)).tolist() == y.tolist()


def test_the_hooks_of_a_tensor_die_with_its_graph():
    class Hook:
        def __call__(self, g):
            return g

    hook = Hook()
    died = weakref.ref(hook)
    y = leaf() * 2
    y.register_hook(hook)
    del hook
    gc.collect()
    assert died() is not None
    del y
    assert died() is None


# Which passes. ----------------------------------------------------------------------------------


def test_hooks_run_for_grad_and_for_retained_gradients():
    x = leaf()
    y = x * 2
    y.register_hook(lambda g: g * 10)
    assert autograd.grad(y.sum(), x, retain_graph=True)[0].tolist() == [20.0] * 3
    y.retain_grad()
    y.sum().backward()
    assert y.grad.tolist() == [10.0] * 3


def test_retained_gradients_are_those_after_all_hooks():
    a = torch.tensor(1.0, requires_grad=True)
    b = a.clone()
    b.register_hook(lambda g: g * 2)
    b.retain_grad()
    b.register_hook(lambda g: g * 2)
    b.clone().backward()
    assert b.grad.item() == 4.0


def test_gradients_are_retained_in_every_pass_that_comes_by():
    a = torch.tensor(1.0, requires_grad=True)
    b = a * 2
    c = b * 2
    b.retain_grad()
    c.retain_grad()
    autograd.grad(c, a, retain_graph=True)
    assert (b.grad.item(), c.grad.item()) == (2.0, 1.0)
    c.backward(inputs=[a])
    assert (b.grad.item(), c.grad.item()) == (4.0, 2.0)


def test_a_captured_gradient_is_that_after_the_hooks():
    a = torch.tensor(1.0, requires_grad=True)
    b = a * 2
    c = b * 2
    a.register_hook(lambda g: g * 100)
    b.register_hook(lambda g: g * 10)
    (only,) = autograd.grad(c, b, retain_graph=True)
    both = autograd.grad(c, (a, b), retain_graph=True)
    assert only.item() == 20.0
    assert [g.item() for g in both] == [4000.0, 20.0]


def test_hooks_off_the_way_to_the_inputs_do_not_run():
    a, b = leaf(1.0), leaf(1.0)
    log = []
    a.register_hook(lambda g: log.append("a"))
    b.register_hook(lambda g: log.append("b"))
    (a * b).backward(inputs=[a], retain_graph=True)
    assert log == ["a"]


def test_hooks_are_recorded_under_create_graph():
    x = leaf(3.0)
    y = x * x
    y.register_hook(lambda g: g * x)
    (g,) = autograd.grad(y.sum(), x, create_graph=True)  # 2 x^2
    assert autograd.grad(g.sum(), x)[0].tolist() == [12.0]


# Writing in place. ------------------------------------------------------------------------------


def test_hooks_stay_with_the_value_they_were_put_on():
    a = torch.tensor([1.0], requires_grad=True)
    b = a.clone()
    log = []

    def old(g):
        log.append(("old", g.item()))
        return g * 2

    def new(g):
        log.append(("new", g.item()))
        return g * 2

    b.register_hook(old)
    b.mul_(2)
    b.register_hook(new)
    b.sum().backward()
    assert log == [("new", 1.0), ("old", 4.0)]
    assert a.grad.item() == 8.0


def test_a_retained_gradient_follows_the_tensor():
    a = torch.tensor([1.0, 2.0], requires_grad=True).clone()
    a.retain_grad()
    a.mul_(2)
    a.retain_grad()
    a.mul_(2)
    a.sum().backward()
    assert a.grad.tolist() == [1.0, 1.0]


def test_hooks_of_views_that_were_rewritten():
    base = torch.tensor([1.0, 2.0], requires_grad=True).clone()
    first, second = base[:], base[:]
    log = []
    first.register_hook(lambda g: log.append("first"))
    second.register_hook(lambda g: log.append("second"))
    first.mul_(2)
    second.register_hook(lambda g: log.append(g.tolist()))
    (first + second).sum().backward()
    assert log == [[1.0, 1.0]]


# Errors. ----------------------------------------------------------------------------------------


def test_hooks_are_for_tensors_that_require_grad():
    with pytest.raises(RuntimeError, match="cannot register a hook on a tensor that doesn't req"):
        torch.ones(3).register_hook(print)
    with pytest.raises(TypeError, match="callable"):
        leaf().register_hook(5)


@pytest.mark.parametrize("result", ["no tensor", 5, (torch.ones(3),)])
def test_a_hook_returns_a_tensor_or_nothing(result):
    x = leaf() * 2
    x.register_hook(lambda g: result)
    with pytest.raises(TypeError, match=f"expected Variable, but hook.*'{type(result).__name__}'"):
        x.sum().backward()


def test_a_hook_that_returns_another_type():
    x = leaf()

    def widen(g):
        return g.double()

    x.register_hook(widen)
    with pytest.raises(RuntimeError, match=r"'widen' has changed the type.*Float.*Double"):
        x.sum().backward()


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


def test_the_exception_of_a_hook_is_the_one_that_arrives():
    class MineError(Exception):
        pass

    error = MineError("boom")

    def hook(g):
        raise error

    x = leaf()
    x.register_hook(hook)
    with pytest.raises(MineError) as caught:
        x.sum().backward()
    assert caught.value is error
    names = [frame.name for frame in caught.traceback]
    assert names[-1] == "hook"


def test_d13_a_failed_backward_leaves_every_gradient_as_it_was():
    x, w = leaf(), leaf()
    h = x * 2
    h.retain_grad()
    handle = h.register_hook(lambda g: 1 / 0)
    y = (w * 3).sum() + h.sum()
    with pytest.raises(ZeroDivisionError):
        y.backward(retain_graph=True)
    assert x.grad is None
    assert w.grad is None
    assert h.grad is None
    handle.remove()
    y.backward()
    assert w.grad.tolist() == [3.0] * 3
    assert x.grad.tolist() == [2.0] * 3


def test_d14_a_hook_that_returns_another_shape():
    x = leaf()
    x.register_hook(lambda g: g[:2])
    with pytest.raises(RuntimeError, match=r"<lambda>.*changed the size of value.*\[3\].*\[2\]"):
        (x * 2).sum().backward()
    assert x.grad is None


def test_d15_a_hook_may_write_to_its_gradient():
    x = leaf()
    y = x * 1
    y.register_hook(lambda g: g.mul_(10))
    y.sum().backward()
    assert x.grad.tolist() == [10.0] * 3


def test_d15_writing_to_a_gradient_reaches_no_other():
    x, w = leaf(), leaf()
    y = x * 1
    y.register_hook(lambda g: (g.mul_(10), None)[1])
    v = w * 1
    kept = []
    v.register_hook(kept.append)
    (y + v).sum().backward()
    assert x.grad.tolist() == [10.0] * 3
    assert w.grad.tolist() == [1.0] * 3
    assert kept[0].tolist() == [1.0] * 3
    w.grad.mul_(5)
    assert kept[0].tolist() == [1.0] * 3
