"""Printed text is PyTorch's to the character: each case was printed by it, see `golden/print.json`.

A case has `expr` (Python over `torch`), `options` (for `set_printoptions`) and `expected`.
"""

import re

import pytest
import wengert as torch
from support import GOLDEN, golden

CASES = golden("print.json") if (GOLDEN / "print.json").exists() else []
CASES = CASES["cases"] if isinstance(CASES, dict) else CASES


def test_there_are_enough_cases():
    assert len(CASES) >= 200


@pytest.fixture
def default_options():
    yield
    torch.set_printoptions(profile="default")


@pytest.mark.usefixtures("default_options")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case["expr"][:60])
def test_text(case):
    t = eval(case["expr"], {"torch": torch, "nan": float("nan"), "inf": float("inf")})
    torch.set_printoptions(profile="default")
    torch.set_printoptions(**(case.get("options") or {}))
    assert repr(t) == case["expected"]
    assert str(t) == case["expected"]


def test_format_and_names():
    t = torch.tensor(1.5)
    assert f"{t:.2f}" == "1.50"
    assert f"{torch.tensor(3)}" == "3"
    assert f"{torch.ones(2)}" == "tensor([1., 1.])"
    assert str(torch.float32) == repr(torch.float32) == "torch.float32"
    assert repr(torch.ones(2, 3).shape) == "torch.Size([2, 3])"
    assert str(t.device) == "cpu"
    assert re.fullmatch(r"<AddBackward0 object at 0x[0-9a-f]+>", f"{(torch.ones(1, requires_grad=True) + 1).grad_fn}")


def test_printing_records_nothing():
    x = torch.ones(3, requires_grad=True)
    y = x * 2
    before = torch._core.live_nodes()
    assert repr(y) == "tensor([2., 2., 2.], grad_fn=<MulBackward0>)"
    assert repr(x) == "tensor([1., 1., 1.], requires_grad=True)"
    assert torch._core.live_nodes() == before
