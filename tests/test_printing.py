"""Printed text is PyTorch's to the character: each case was printed by it, see `golden/print.json`.

A case has `expr` (Python over `torch`), `options` (of `set_printoptions`), `default_dtype`, `text`.
"""

import re

import pytest
import wengert as torch
from support import golden

CASES = golden("print.json")["cases"]


def test_there_are_enough_cases():
    assert len(CASES) >= 200


@pytest.fixture
def _default_options():
    yield
    torch.set_printoptions(profile="default")
    torch.set_default_dtype(torch.float32)


@pytest.mark.usefixtures("_default_options")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case["expr"][:60])
def test_text(case):
    torch.set_printoptions(profile="default")
    torch.set_printoptions(**case["options"])
    torch.set_default_dtype(getattr(torch, case["default_dtype"]))
    tensor = eval(case["expr"], {"torch": torch})
    assert repr(tensor) == str(tensor) == case["text"]


def test_format_and_names():
    t = torch.tensor(1.5)
    assert f"{t:.2f}" == "1.50"
    assert f"{torch.tensor(3)}" == "3"
    assert f"{torch.ones(2)}" == "tensor([1., 1.])"
    assert str(torch.float32) == repr(torch.float32) == "torch.float32"
    assert repr(torch.ones(2, 3).shape) == "torch.Size([2, 3])"
    assert str(t.device) == "cpu"
    assert re.fullmatch(
        r"<AddBackward0 object at 0x[0-9a-f]+>",
        f"{(torch.ones(1, requires_grad=True) + 1).grad_fn}",
    )


def test_printing_records_nothing():
    x = torch.ones(3, requires_grad=True)
    y = x * 2
    before = torch._core.live_nodes()
    assert repr(y) == "tensor([2., 2., 2.], grad_fn=<MulBackward0>)"
    assert repr(x) == "tensor([1., 1., 1.], requires_grad=True)"
    assert torch._core.live_nodes() == before
