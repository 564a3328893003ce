"""What programs written for PyTorch reach for in ``torch._C``."""

import pytest
import wengert as torch
from support import leaf
from wengert.autograd import Function


class Received(Function):
    """Notes the gradient that its `backward` gets."""

    @staticmethod
    def forward(ctx, x, seen, materialize):
        ctx.set_materialize_grads(materialize)
        ctx.seen = seen
        return x.clone()

    @staticmethod
    def backward(ctx, g):
        ctx.seen.append(g)
        return g, None, None


@pytest.mark.parametrize("materialize", [True, False])
def test_an_undefined_gradient_arrives_as_zeros_if_it_is_to(materialize):
    x, seen = leaf(1.0), []
    torch._C._functions.UndefinedGrad()(Received.apply(x, seen, materialize)).backward()
    assert [g if g is None else g.tolist() for g in seen] == [[0.0] if materialize else None]


def test_a_delayed_error_is_raised_where_a_gradient_passes():
    x, y = leaf(1.0), leaf(2.0)
    unsafe = torch._C._functions.DelayedError("Boom!", 1)(y)
    with pytest.raises(RuntimeError, match="Boom!"):
        (x * unsafe).sum().backward()
    assert x.grad is None
    assert torch.autograd.grad((x * unsafe).sum(), x)[0].tolist() == [2.0]


def test_a_delayed_error_counts_its_tensors():
    with pytest.raises(TypeError, match="expected 2 tensors, got 1"):
        torch._C._functions.DelayedError("Boom!", 2)(leaf())


def test_accumulators_are_of_one_type():
    (x,) = (leaf() * 2).grad_fn.next_functions[0][:1]
    assert isinstance(x, torch._C._functions.AccumulateGrad)
    assert not isinstance((leaf() * 2).grad_fn, torch._C._functions.AccumulateGrad)


def test_a_weak_reference_knows_when_a_tensor_is_gone():
    x = leaf() * 2
    ref = torch._C._WeakTensorRef(x)
    assert not ref.expired()
    del x
    assert ref.expired()


def test_whether_hooks_for_saved_tensors_are_allowed():
    assert torch._C._autograd._saved_tensors_hooks_is_enabled()
    with torch.autograd.graph.disable_saved_tensors_hooks("no"):
        assert not torch._C._autograd._saved_tensors_hooks_is_enabled()
    assert torch._C._autograd._saved_tensors_hooks_is_enabled()


def test_whether_passes_may_use_threads():
    assert torch.autograd.is_multithreading_enabled()
    with torch.autograd.set_multithreading_enabled(False):
        assert not torch.autograd.is_multithreading_enabled()
    assert torch.autograd.is_multithreading_enabled()
