"""Inference mode: what it makes, what may be done with that, and who is in it."""

import asyncio
import copy
import pickle
import threading

import pytest
import wengert as torch
from wengert import inference_mode, is_inference_mode_enabled

GRADS = pytest.mark.parametrize("requires_grad", [False, True])
NO_WRITE = "Inplace update to inference tensor outside InferenceMode is not allowed"
NO_SAVE = "Inference tensors cannot be saved for backward. Please do not use Tensors created in"


def inferred(*shape, requires_grad=False):
    with inference_mode():
        return torch.ones(shape or (3,), requires_grad=requires_grad)


# ---- who is in it --------------------------------------------------------------------------------


def test_the_block():
    assert not is_inference_mode_enabled()
    with inference_mode():
        assert is_inference_mode_enabled()
        assert not torch.is_grad_enabled()
        with inference_mode(False):
            assert not is_inference_mode_enabled()
            assert torch.is_grad_enabled()
        assert is_inference_mode_enabled()
    assert not is_inference_mode_enabled()
    assert torch.is_grad_enabled()


def test_it_returns_to_what_was():
    with torch.no_grad():
        with inference_mode():
            torch.set_grad_enabled(True)
        assert not torch.is_grad_enabled()
        with inference_mode(False):
            assert torch.is_grad_enabled()
        assert not torch.is_grad_enabled()
    with pytest.raises(ZeroDivisionError), inference_mode():
        raise ZeroDivisionError
    assert not is_inference_mode_enabled()


def test_one_block_may_be_entered_twice():
    block = inference_mode()
    with block:
        with block:
            pass
        assert is_inference_mode_enabled()
    assert not is_inference_mode_enabled()


def test_enable_grad_does_not_record_inside():
    x = torch.ones(3, requires_grad=True)
    with inference_mode(), torch.enable_grad():
        assert torch.is_grad_enabled()
        y = x * x
        assert y.is_inference()
        assert not y.requires_grad
        x.mul_(2)  # a leaf, and nobody records
    assert x.tolist() == [2.0] * 3


def decorate_bare(function):
    return inference_mode(function)


@pytest.mark.parametrize("make", [decorate_bare, inference_mode(), inference_mode(mode=True)])
def test_decorates_functions(make):
    @make
    def function(a, *, b):
        """Say something."""
        return a, b, is_inference_mode_enabled(), torch.ones(1).is_inference()

    assert function(1, b=2) == (1, 2, True, True)
    assert function.__doc__ == "Say something."
    assert not is_inference_mode_enabled()


def test_decorates_out_of_it():
    @inference_mode(False)
    def function():
        return is_inference_mode_enabled(), torch.is_grad_enabled()

    with inference_mode():
        assert function() == (False, True)
        assert is_inference_mode_enabled()


def test_a_generator_switches_at_every_step():
    @inference_mode()
    def steps():
        for _ in range(3):
            yield is_inference_mode_enabled()

    for inside in steps():
        assert inside
        assert not is_inference_mode_enabled()


def test_coroutines_do_not_disturb_each_other():
    @inference_mode()
    async def inside():
        seen = []
        for _ in range(3):
            seen.append(is_inference_mode_enabled())
            await asyncio.sleep(0)
        return seen

    async def outside():
        seen = []
        for _ in range(3):
            seen.append(is_inference_mode_enabled())
            await asyncio.sleep(0)
        return seen

    async def both():
        return await asyncio.gather(inside(), outside())

    assert asyncio.run(both()) == [[True] * 3, [False] * 3]


def test_it_belongs_to_its_thread():
    seen = []
    with inference_mode():
        thread = threading.Thread(target=lambda: seen.append(torch.ones(1).is_inference()))
        thread.start()
        thread.join()
    assert seen == [False]


def test_wrong_arguments():
    with pytest.raises(TypeError):
        inference_mode("yes")
    with pytest.raises(TypeError):
        torch.is_inference(1)


# ---- what is made inside -------------------------------------------------------------------------


@GRADS
def test_new_tensors_are_inference_tensors(requires_grad):
    x = torch.ones(3, requires_grad=requires_grad)
    with inference_mode():
        c = torch.ones(3, requires_grad=requires_grad)
        assert c.requires_grad == requires_grad
        made = [
            c,
            torch.tensor([1.0]),
            torch.randn(2),
            torch.zeros_like(x),
            torch.from_numpy(torch.ones(2).numpy()),
            x * x,
            x + 1,
            x.clone(),
            x @ x,
            c * c,
            torch.stack([x, c]),
            x.sum(),
        ]
    for t in made:
        assert t.is_inference()
        assert torch.is_inference(t)
        assert t.is_leaf
        assert t.grad_fn is None
        with pytest.raises(RuntimeError, match="Inference tensors do not track version counter"):
            _ = t._version
    assert not any(t.requires_grad for t in made[1:])


def test_views_inside_of_inference_tensors():
    with inference_mode():
        c = torch.ones(2, 3)
        for view in (c.view(-1), c[0], c.t(), c.unbind()[0], c.expand(4, 2, 3), c.detach()):
            assert view.is_inference()
            assert not view.requires_grad
            assert not view._is_view()
        c.add_(1)
        c.view(-1).mul_(3)
        c[0, 0] = 0
        c.fill_(7).zero_()
        assert c.tolist() == [[0.0] * 3] * 2


@GRADS
def test_views_inside_of_ordinary_tensors(requires_grad):
    a = torch.ones(1, 2, 3, requires_grad=requires_grad).clone()
    with inference_mode():
        out = a.view(-1)
        again = out.view(2, 3)
        for view in (out, again):
            assert not view.is_inference()
            assert view.requires_grad == requires_grad
            assert view._base is a
            assert view.is_leaf
            assert view.grad_fn is None
        assert not a.detach().requires_grad
        assert a._version == 0


@GRADS
def test_writes_inside_to_ordinary_tensors(requires_grad):
    a = torch.ones(3, requires_grad=requires_grad).clone()
    before = a.grad_fn
    with inference_mode():
        a.add_(2)
        assert not a.is_inference()
        assert a.requires_grad == requires_grad
        assert a._version == 1
    assert a.grad_fn == before
    assert a.tolist() == [3.0] * 3


def test_a_write_inside_is_noticed_by_backward():
    a = torch.ones(3, requires_grad=True).clone()
    out = a * a
    with inference_mode():
        a.add_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()


# ---- inference tensors outside -------------------------------------------------------------------


@GRADS
def test_results_outside_are_ordinary(requires_grad):
    c = inferred(requires_grad=requires_grad)
    for out in (c + c, c * c, torch.cat([c, c]), c.sum()):
        assert not out.is_inference()
        assert not out.requires_grad
        assert out.is_leaf
    for out in (c.clone(), c * 2):
        assert not out.is_inference()
        assert out.requires_grad == requires_grad
        assert out.is_leaf == (not requires_grad)
        assert out._version < 2
    assert not copy.deepcopy(c).is_inference()
    assert not pickle.loads(pickle.dumps(c)).is_inference()
    assert not torch.tensor(c.tolist()).is_inference()


@GRADS
def test_views_outside_stay_inference_tensors(requires_grad):
    c = inferred(2, 3, requires_grad=requires_grad)
    for view in (c.view(-1), c[0], c.t(), c.unsqueeze(0), c.unbind()[0], c.detach(), c.data):
        assert view.is_inference()
        assert not view.requires_grad
        assert view.is_leaf
        with pytest.raises(RuntimeError, match=NO_WRITE):
            view.add_(1)


@pytest.mark.parametrize(
    "write",
    [
        lambda c: c.add_(1),
        lambda c: c.mul_(c),
        lambda c: c.zero_(),
        lambda c: c.fill_(1),
        lambda c: c.copy_(torch.zeros(3)),
        lambda c: c.__setitem__(0, 5),
        lambda c: c.__setitem__(torch.tensor([0]), 5),
        lambda c: c.masked_fill_(c > 0, 5.0),
        lambda c: c.index_fill_(0, torch.tensor([0]), 5.0),
        lambda c: c.uniform_(),
        lambda c: c.normal_(),
        lambda c: c.bernoulli_(),
        lambda c: torch.add(torch.ones(3), 1, out=c),
        lambda c: torch.exp(torch.ones(3), out=c),
    ],
)
@pytest.mark.parametrize("mode", [torch.no_grad, torch.enable_grad])
def test_writes_outside_are_refused(write, mode):
    c = inferred()
    with mode(), pytest.raises(RuntimeError, match=NO_WRITE):
        write(c)
    assert c.tolist() == [1.0] * 3
    with inference_mode():
        write(c)


def test_augmented_assignment_outside_is_refused():
    c = inferred()
    with pytest.raises(RuntimeError, match=NO_WRITE):
        c += 1


def test_they_cannot_come_to_require_grad():
    c = inferred()
    text = "Setting requires_grad=True on inference tensor outside InferenceMode is not allowed."
    with pytest.raises(RuntimeError, match=text):
        c.requires_grad_()
    with pytest.raises(RuntimeError, match=text):
        c.requires_grad = True
    c.requires_grad = False
    with inference_mode():
        assert c.requires_grad_().requires_grad


def test_they_cannot_be_saved():
    s, c = torch.ones(3, requires_grad=True), inferred()
    for function in (torch.mul, torch.div, torch.matmul, torch.atan2):
        with pytest.raises(RuntimeError, match=NO_SAVE):
            function(s, c)
    with pytest.raises(RuntimeError, match=NO_SAVE):
        s.clone().mul_(c)
    (s * c.clone()).sum().backward()
    assert s.grad.tolist() == [1.0] * 3


def test_where_nothing_is_saved_they_take_part():
    s = torch.ones(3, requires_grad=True)
    c = inferred(requires_grad=True)
    out = c.add(s)
    assert not out.is_inference()
    out.sum().backward()
    assert c.grad.tolist() == s.grad.tolist() == [1.0] * 3
    with torch.no_grad():
        assert (c * s).tolist() == [1.0] * 3


def test_a_gradient_made_inside():
    p = torch.ones(3, requires_grad=True)
    y = (p * p).sum()
    with inference_mode():
        y.backward()
    assert p.grad.is_inference()
    assert p.grad.tolist() == [2.0] * 3
    # It cannot be added to in place, and need not be.
    (p * p).sum().backward()
    assert p.grad.tolist() == [4.0] * 3
    assert not p.grad.is_inference()


def test_parallel_backward_knows_the_mode():
    torch.set_num_threads(2)
    xs = [torch.rand(400_000, requires_grad=True) for _ in range(4)]
    total = torch.stack([(x.exp() * x.sin()).sum() for x in xs]).sum()
    with inference_mode():
        grads = torch.autograd.grad(total, xs)
    assert all(g.is_inference() for g in grads)


def test_new_data_decides():
    x = torch.ones(3)
    x.data = inferred()
    assert x.is_inference()
    x.data = torch.ones(3)
    assert not x.is_inference()
    assert x._version == 0


def test_results_of_composed_operations_too():
    x = torch.rand(4, 3, requires_grad=True)
    with inference_mode():
        made = [
            torch.nn.functional.cross_entropy(x, torch.tensor([0, 1, 2, 0])),
            torch.nn.functional.mse_loss(x, x.detach()),
            torch.softmax(x, 1),
            torch.log_softmax(x, 1),
            x.norm(),
            x.std(),
            torch.nn.functional.embedding(torch.tensor([0, 1]), x),
            torch.where(x > 0, x, 0.0),
        ]
    assert all(t.is_inference() for t in made)


def test_no_tangents_inside():
    from wengert.autograd import forward_ad

    x = torch.ones(3)
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(x, torch.ones(3))
        with inference_mode():
            y = dual * 2
        assert forward_ad.unpack_dual(y).tangent is None
        assert forward_ad.unpack_dual(dual * 2).tangent is not None


def test_an_inference_tensor_that_requires_grad_may_be_resized():
    with inference_mode():
        x = torch.ones(1, 2, 3, requires_grad=True)
        x.resize_(1, 2)
        assert x.shape == (1, 2)
        assert x.requires_grad
