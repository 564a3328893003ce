"""Hooks that see a gradient accumulated into a leaf, and what goes with a leaf's accumulator."""

import gc
import weakref

import pytest
import wengert as torch
from support import leaf
from wengert import autograd


def accumulator(x):
    return x.view_as(x).grad_fn.next_functions[0][0]


def test_the_hook_sees_the_accumulated_gradient():
    x = leaf()
    seen = []
    x.register_post_accumulate_grad_hook(lambda p: seen.append((p is x, p.grad.tolist())))
    x.sum().backward()
    (x * 2).sum().backward()
    assert seen == [(True, [1.0] * 3), (True, [3.0] * 3)]


def test_the_hook_may_change_the_gradient_and_free_it():
    x, w = leaf(), leaf()

    def step(p):
        p.add_(p.grad, alpha=-1.0)
        p.grad = None

    x.register_post_accumulate_grad_hook(step)
    w.register_post_accumulate_grad_hook(lambda p: setattr(p, "grad", p.grad * 10))
    (x * 2 + w).sum().backward()
    assert x.tolist() == [-1.0, 0.0, 1.0]
    assert x.grad is None
    assert w.grad.tolist() == [10.0] * 3


def test_several_hooks_run_in_order_and_can_be_removed():
    x = leaf()
    log = []
    x.register_post_accumulate_grad_hook(lambda p: log.append(1))
    handle = x.register_post_accumulate_grad_hook(lambda p: log.append(2))
    x.sum().backward()
    handle.remove()
    x.sum().backward()
    assert log == [1, 2, 1]
    assert len(x._post_accumulate_grad_hooks) == 1


def test_one_hook_on_several_leaves():
    x, w = leaf(1.0), leaf(2.0)
    names = {id(x): "x", id(w): "w"}
    log = []
    for p in (x, w):
        p.register_post_accumulate_grad_hook(lambda p: log.append(names[id(p)]))
    (x * w).backward()
    assert sorted(log) == ["w", "x"]


def test_all_gradients_are_there_when_the_first_hook_runs():
    x, w = leaf(), leaf()
    seen = []
    for p in (x, w):
        p.register_post_accumulate_grad_hook(lambda _: seen.append((x.grad, w.grad)))
    (x * w).sum().backward()
    assert len(seen) == 2
    assert all(g is not None for pair in seen for g in pair)


def test_the_hook_is_not_run_by_grad_nor_for_other_inputs():
    x, w = leaf(), leaf()
    log = []
    x.register_post_accumulate_grad_hook(lambda p: log.append("x"))
    y = (x * w).sum()
    autograd.grad(y, x, retain_graph=True)
    y.backward(inputs=[w], retain_graph=True)
    assert log == []
    y.backward(inputs=[x])
    assert log == ["x"]


def test_the_hook_dies_with_its_tensor():
    class Hook:
        def __call__(self, p):
            pass

    hook = Hook()
    died = weakref.ref(hook)
    x = leaf()
    x.register_post_accumulate_grad_hook(hook)
    x.sum().backward()
    del hook, x
    gc.collect()
    assert died() is None


def test_what_hooks_on_a_leaf_and_its_accumulator_see_and_in_which_order():
    x = torch.zeros(3, requires_grad=True)
    node = accumulator(x)
    log = []

    def tensor_hook(g):
        log.append("tensor")
        return g.sub(2.0)

    def pre_hook(grads):
        log.append("pre")
        return (grads[0].div(5.0),)

    def accumulated(p):
        log.append("accumulated")
        p.grad.add_(0.5)

    def post_hook(grad_inputs, grad_outputs):
        log.append(("post", grad_inputs, x.grad[0].item()))
        x.grad = grad_outputs[0].mul(10)

    x.register_hook(tensor_hook)
    node.register_prehook(pre_hook)
    x.register_post_accumulate_grad_hook(accumulated)
    node.register_hook(post_hook)
    x.sum().backward()
    assert log[:3] == ["tensor", "pre", "accumulated"]
    assert log[3] == ("post", (), pytest.approx(0.3))
    # What the post-hook is given is the memory of `.grad`, to which the hook before it wrote.
    assert x.grad.tolist() == pytest.approx([3.0] * 3)


def test_hooks_of_an_accumulator_live_as_long_as_it():
    x = leaf()
    log = []
    node = accumulator(x)
    node.register_hook(lambda gi, go: log.append("called"))
    x.sum().backward()
    del node
    gc.collect()
    x.sum().backward()
    assert log == ["called"]


def test_the_hook_is_for_leaves_that_require_grad():
    with pytest.raises(RuntimeError, match="cannot be registered on non-leaf tensors"):
        (leaf() * 2).register_post_accumulate_grad_hook(print)
    with pytest.raises(RuntimeError, match="doesn't require gradient"):
        torch.ones(3).register_post_accumulate_grad_hook(print)


def test_the_hook_returns_nothing():
    x = leaf()
    x.register_post_accumulate_grad_hook(lambda p: p.grad)
    with pytest.raises(RuntimeError, match="hooks should return None"):
        x.sum().backward()
    w = leaf()
    w.register_post_accumulate_grad_hook(lambda p: 5)
    with pytest.raises(TypeError, match="expected Variable, but hook returned 'int'"):
        w.sum().backward()


def test_gradients_stay_if_a_hook_fails_after_they_were_written():
    x, w = leaf(), leaf()
    x.register_post_accumulate_grad_hook(lambda p: 1 / 0)
    w.register_post_accumulate_grad_hook(lambda p: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        (x + w).sum().backward()
    assert x.grad.tolist() == w.grad.tolist() == [1.0] * 3


def test_an_optimiser_inside_backward_matches_one_behind_it():
    def train(inside):
        torch.manual_seed(0)
        weights = [torch.randn(4, 4, requires_grad=True) for _ in range(3)]
        data = torch.randn(5, 4)

        def step(p):
            with torch.no_grad():
                p -= 0.01 * p.grad
            p.grad = None

        if inside:
            for w in weights:
                w.register_post_accumulate_grad_hook(step)
        for _ in range(4):
            h = data
            for w in weights:
                h = (h @ w).tanh()
            h.sum().backward()
            if not inside:
                for w in weights:
                    step(w)
        return [w.tolist() for w in weights]

    assert train(inside=True) == train(inside=False)
