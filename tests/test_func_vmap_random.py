"""Random operations inside `vmap`."""

import pytest
import wengert as torch
from func_support import close
from wengert.func import vmap


def draws(f, shape=(3,), **options):
    torch.manual_seed(0)
    return vmap(f, **options)(torch.ones(4, *shape).double())


def test_random_operations_fail_unless_told():
    for f in (
        lambda x: torch.rand(3),
        lambda x: torch.randn_like(x),
        lambda x: torch.bernoulli(x),
        lambda x: torch.randperm(3),
        lambda x: torch.nn.functional.dropout(x),
        lambda x: x.clone().normal_(),
        lambda x: torch.multinomial(x, 1),
        lambda x: torch.zeros(3).uniform_(),
    ):
        with pytest.raises(RuntimeError, match="called random operation while in randomness error"):
            draws(f)
    close(
        draws(lambda x: torch.nn.functional.dropout(x, training=False)), torch.ones(4, 3).double()
    )


def test_randomness_has_three_settings():
    with pytest.raises(RuntimeError, match="Only allowed values for randomness are"):
        vmap(torch.sin, randomness="some")


FACTORIES = [
    lambda x: torch.rand(3),
    lambda x: torch.randn(2, 3),
    lambda x: torch.randint(0, 1000, (3,)),
    lambda x: torch.normal(0.0, 1.0, (3,)),
    lambda x: torch.rand_like(x),
    lambda x: torch.randn_like(x),
    lambda x: torch.randint_like(x, 0, 1000),
    lambda x: torch.randperm(20),
]


@pytest.mark.parametrize("f", FACTORIES, ids=range(len(FACTORIES)))
def test_new_random_tensors(f):
    same = draws(f, randomness="same")
    assert all(torch.equal(same[0], s) for s in same)
    torch.manual_seed(0)
    assert torch.equal(same[0], f(torch.ones(3).double()))
    different = draws(f, randomness="different")
    assert not any(torch.equal(different[0], s) for s in different[1:])


def test_different_draws_are_those_of_the_larger_tensor():
    different = draws(lambda x: torch.randn(3), randomness="different")
    torch.manual_seed(0)
    close(different, torch.randn(4, 3))


def test_samples_of_tensors():
    p = lambda x: x * 0.5  # noqa: E731
    for f in (
        lambda x: torch.bernoulli(p(x)),
        lambda x: torch.normal(x, 1.0),
        lambda x: torch.normal(x, x),
        lambda x: torch.multinomial(x, 20, replacement=True),
    ):
        shape = (30,)
        different = draws(f, shape, randomness="different")
        assert not any(torch.equal(different[0], s) for s in different[1:])
        with pytest.raises(RuntimeError, match="does not currently support same randomness with a"):
            draws(f, shape, randomness="same")
        plain = torch.ones(30)
        same = draws(lambda x, f=f, plain=plain: f(plain), shape, randomness="same")
        assert all(torch.equal(same[0], s) for s in same)
        different = draws(lambda x, f=f, plain=plain: f(plain), shape, randomness="different")
        assert not any(torch.equal(different[0], s) for s in different[1:])


def test_dropout():
    f = torch.nn.functional.dropout
    same = draws(f, (50,), randomness="same")
    assert all(torch.equal(same[0], s) for s in same)
    different = draws(f, (50,), randomness="different")
    assert not any(torch.equal(different[0], s) for s in different[1:])
    assert set(different.flatten().tolist()) == {0.0, 2.0}


def test_random_writes():
    for f in (
        lambda x: x.clone().normal_(),
        lambda x: x.clone().uniform_(),
        lambda x: x.clone().bernoulli_(0.5),
        lambda x: x.clone().exponential_(),
        lambda x: x.clone().random_(1000),
    ):
        same = draws(f, (30,), randomness="same")
        assert all(torch.equal(same[0], s) for s in same)
        different = draws(f, (30,), randomness="different")
        assert not any(torch.equal(different[0], s) for s in different[1:])
    with pytest.raises(RuntimeError, match="Cannot ask for different inplace randomness on an unb"):
        draws(lambda x: torch.zeros(3).normal_(), randomness="different")


def test_every_level_has_its_own_setting():
    def run(outer, inner):
        torch.manual_seed(0)
        f = vmap(lambda x: torch.randn(3), randomness=inner)
        return vmap(f, randomness=outer)(torch.ones(2, 5))

    r = run("same", "different")
    assert torch.equal(r[0], r[1])
    assert not torch.equal(r[0, 0], r[0, 1])
    r = run("different", "same")
    assert torch.equal(r[0, 0], r[0, 1])
    assert not torch.equal(r[0], r[1])
    r = run("different", "different")
    assert not torch.equal(r[0], r[1])
    assert not torch.equal(r[0, 0], r[0, 1])
    with pytest.raises(RuntimeError, match="randomness error mode"):
        run("error", "same")


def test_chunks_draw_the_same_if_told():
    x = torch.ones(4, 3)
    torch.manual_seed(0)
    r = vmap(lambda x: torch.randn(3), randomness="same", chunk_size=2)(x)
    assert all(torch.equal(r[0], e) for e in r)
