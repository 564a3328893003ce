"""The package under another name, as ported programs use it."""

import importlib
import sys

import pytest
import wengert


@pytest.fixture
def alias():
    before = set(sys.modules)
    sys.modules["torchlike"] = wengert
    yield "torchlike"
    for name in set(sys.modules) - before:
        if name.partition(".")[0] == "torchlike":
            del sys.modules[name]
    sys.modules.pop("torchlike", None)


@pytest.mark.parametrize(
    "name", ["autograd", "autograd.function", "nn.functional", "func", "utils.checkpoint"]
)
def test_submodules_are_the_same_modules(alias, name):
    real = importlib.import_module(f"wengert.{name}")
    spec = real.__spec__
    assert importlib.import_module(f"{alias}.{name}") is real
    assert real.__spec__ is spec
    assert real.__name__ == f"wengert.{name}"


def test_functions_work_under_both_names(alias):
    function = importlib.import_module(f"{alias}.autograd.function")

    class Double(function.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, g):
            return g * 2

    x = wengert.ones(2, requires_grad=True)
    Double.apply(x).sum().backward()
    assert x.grad.tolist() == [2.0, 2.0]


def test_what_does_not_exist_is_not_found(alias):
    with pytest.raises(ModuleNotFoundError, match=r"torchlike\.no_such_module"):
        importlib.import_module(f"{alias}.no_such_module")
