"""Random numbers are PyTorch's, bit for bit: against values recorded from it, and by rule."""

import base64
import hashlib
import zlib

import numpy as np
import pytest
import wengert as torch
from support import assert_same, dtype_name, golden, to_array

RECORDED = golden("random_api.json")


def check(actual, expected):
    assert dtype_name(actual) == expected["dtype"]
    assert list(actual.shape) == expected["shape"]
    values = to_array(actual)
    if "sha256" in expected:
        assert (
            hashlib.sha256(np.array(values, "float64", order="C").tobytes()).hexdigest()
            == expected["sha256"]
        )
    else:
        assert values.tolist() == expected["values"]


@pytest.mark.parametrize("case", RECORDED["cases"], ids=lambda c: c["name"])
def test_values(case):
    torch.manual_seed(0)
    names = {"torch": torch}
    exec(case["code"], names)
    check(names["result"], case)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_values_do_not_depend_on_threads(threads):
    torch.set_num_threads(threads)
    for case in RECORDED["cases"]:
        if "sha256" in case:
            test_values(case)


def test_the_state_is_pytorchs():
    """A state that PyTorch saved goes on here as it went on there."""
    blob = np.frombuffer(zlib.decompress(base64.b64decode(RECORDED["state"])), "uint8")
    torch.set_rng_state(torch.tensor(blob))
    assert torch.get_rng_state().numpy().tobytes() == blob.tobytes()
    for expected, draw in zip(RECORDED["after_state"], (torch.randn, torch.rand), strict=True):
        check(draw(4), expected)


def test_manual_seed_returns_the_generator_and_repeats():
    assert isinstance(torch.manual_seed(5), torch.Generator)
    a = torch.rand(9)
    torch.manual_seed(5)
    assert_same(torch.rand(9), a)
    assert torch.initial_seed() == 5


def test_seed_draws_a_new_one():
    assert len({torch.seed() for _ in range(4)}) == 4
    g = torch.Generator()
    assert g.seed() == g.initial_seed()


def test_a_slice_is_filled_and_nothing_beside_it():
    x = torch.zeros(4, 6)
    x[1:3, ::2].uniform_(1, 2)
    assert (to_array(x[1:3, ::2]) >= 1).all()
    assert float(x[0].sum() + x[3].sum() + x[:, 1::2].sum()) == 0


@pytest.mark.parametrize("bad", [
    lambda: torch.set_rng_state(torch.zeros(7, dtype=torch.uint8)),
    lambda: torch.zeros(2).bernoulli_(1.5),
    lambda: torch.zeros(2).bernoulli_(-0.1),
    lambda: torch.zeros(2).uniform_(1, 0),
    lambda: torch.zeros(2).normal_(0, -1),
    lambda: torch.randint(0, (2,)),
    lambda: torch.randperm(-1),
    lambda: torch.zeros(2, dtype=torch.int64).normal_(),
    lambda: torch.zeros(1).expand(3).uniform_(),
])  # fmt: skip
def test_bad_arguments(bad):
    with pytest.raises((RuntimeError, ValueError, TypeError)):
        bad()


def test_random_writes_are_refused_on_leaves_that_require_grad():
    x = torch.zeros(3, requires_grad=True)
    for fill in (x.uniform_, x.normal_, x.bernoulli_):
        with pytest.raises(RuntimeError, match="leaf"):
            fill()
    with torch.no_grad():
        x.uniform_(1, 2)
    assert (to_array(x) >= 1).all()


def test_filling_cuts_the_history():
    x = torch.ones(3, requires_grad=True)
    y = (x * 2).normal_()
    y.sum().backward()
    assert x.grad.tolist() == [0.0] * 3


def test_statistics_are_right():
    """No proof of quality, but a guard against a shifted or scaled stream of the right values."""
    n = torch.randn(100_000, dtype=torch.float64)
    assert abs(float(n.mean())) < 0.02
    assert abs(float(n.var()) - 1) < 0.02
    u = torch.rand(100_000)
    assert abs(float(u.mean()) - 0.5) < 0.01
    assert 0 <= float(u.amin()) < 1e-3
    assert 0.999 < float(u.amax()) < 1
