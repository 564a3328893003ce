"""Saved tensors that may change: `allow_mutation_on_saved_tensors`."""

import gc

import pytest
import wengert as torch
from support import leaf
from wengert.autograd.graph import allow_mutation_on_saved_tensors, saved_tensors_hooks


def test_a_saved_tensor_may_change():
    def f(a):
        b = a.clone()
        out = (b**2).sum()
        b.sin_()
        out.backward()

    a = leaf()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        f(a)
    with allow_mutation_on_saved_tensors() as context:
        f(a)
        assert len(context.cloned) == 0
    assert a.grad.tolist() == (2 * a).tolist()


@pytest.mark.parametrize(
    "write",
    [
        lambda b: b.sin_(),
        lambda b: b[:1].mul_(10),
        lambda b: b[2:].zero_(),
        lambda b: b.view(-1).add_(1),
        lambda b: b.detach().fill_(3),
        lambda b: b.copy_(torch.zeros(3)),
        lambda b: b.__setitem__(0, 5.0),
        lambda b: torch.sin(torch.ones(3), out=b.detach()),
        lambda b: b.data.mul_(2),
    ],
)
def test_every_kind_of_write_is_seen(write):
    a = leaf()
    with allow_mutation_on_saved_tensors() as context:
        b = a.clone()
        out = (b**2).sum()
        with torch.no_grad():
            write(b)
        assert len(context.cloned) == 1
        out.backward()
    assert a.grad.tolist() == (2 * a).tolist()


def test_a_view_that_was_saved_survives_a_write_to_its_base():
    a = leaf()
    with allow_mutation_on_saved_tensors():
        b = a.clone()
        out = (b[1:] ** 2).sum()
        b *= 2
        out.backward()
    assert a.grad.tolist() == [0.0, 4.0, 6.0]


def test_second_derivatives_of_what_has_changed():
    a = leaf()
    with allow_mutation_on_saved_tensors():
        b = a.clone()
        out = (b**2).sum()
        b.sin_()
        (g,) = torch.autograd.grad(out, a, create_graph=True)
        (h,) = torch.autograd.grad(g.sum(), a)
    assert h.tolist() == [2.0, 2.0, 2.0]


def test_what_is_not_saved_any_more_is_not_copied():
    with allow_mutation_on_saved_tensors() as context:
        a = leaf().clone()
        out = (a**2).sum()
        assert len(context.tid_to_weakhandle) == 1
        out.backward()
        a.sin_()
        assert len(context.cloned) == 0
        out = (a**2).sum()
        a.sin_()
        assert len(context.cloned) == 1
        del out
        assert len(context.cloned) == 0


def test_one_copy_per_version():
    with allow_mutation_on_saved_tensors() as context:
        a = leaf().clone()
        b, c = a**2, a**2
        a.sin_()
        assert len(context.cloned) == 1
        d = a**2
        a.sin_()
        assert len(context.cloned) == 2
        del b, c
        assert len(context.cloned) == 1
        del d
        assert len(context.cloned) == 0


def test_new_memory_at_an_old_place_is_not_mistaken():
    with allow_mutation_on_saved_tensors():
        x = leaf(1.0, 1.0)
        outs = []
        for i in range(5):
            b = torch.full((2,), float(i))
            outs.append((x * b).sum())
            b.add_(100)
            del b
        sum(outs).backward()
    assert x.grad.tolist() == [10.0, 10.0]


def test_backward_after_the_block_is_refused():
    a = leaf()
    with allow_mutation_on_saved_tensors():
        out = (a**2).sum()
    for _ in range(2):
        with pytest.raises(
            AssertionError, match="outside of the 'allow_mutation_on_saved_tensors'"
        ):
            out.backward(retain_graph=True)
        with (
            allow_mutation_on_saved_tensors(),
            pytest.raises(AssertionError, match="outside of the 'allow_mutation_on_saved_tensors'"),
        ):
            out.backward(retain_graph=True)


def test_the_block_is_not_nested():
    with (
        allow_mutation_on_saved_tensors(),
        pytest.raises(RuntimeError, match="contexts cannot be nested"),
        allow_mutation_on_saved_tensors(),
    ):
        pass
    with allow_mutation_on_saved_tensors():
        pass


def test_writes_are_not_watched_after_the_block():
    with allow_mutation_on_saved_tensors() as context:
        pass
    a = leaf().clone()
    a.sin_()
    gc.collect()
    assert len(context.cloned) == 0


def test_what_is_kept_can_be_looked_at():
    def pack(t):
        return t

    def unpack(t):
        return t

    a = torch.tensor(2.0, requires_grad=True)
    with saved_tensors_hooks(pack, unpack):
        b = a**2
    c = b.exp()
    d = c**2
    packed, output, given = (
        b.grad_fn._raw_saved_self,
        c.grad_fn._raw_saved_result,
        d.grad_fn._raw_saved_self,
    )
    assert packed.data is a
    assert packed.unpack_hook is unpack
    assert output.data is not c
    assert output.data.grad_fn is None
    assert output.data.tolist() == c.tolist()
    assert output.unpack_hook is None
    assert given.data is c
    assert given.unpack_hook is None
    given.register_hooks(lambda t: ("kept", t.detach()), lambda kept: kept[1])
    assert given.data[0] == "kept"
    d.backward()
    with pytest.raises(RuntimeError, match="freed"):
        _ = given.data
