"""Automatic differentiation on the CPU, with PyTorch's names and semantics.

``import wengert as torch`` runs code written for PyTorch's eager mode. The engine is the
compiled module ``wengert._core``; this package adds only what is best written in Python.
Importing it loads neither NumPy nor the submodules: they come when first touched.

Examples
--------
>>> import wengert
>>> x = wengert.tensor([1.0, 2.0], requires_grad=True)
>>> (x * x).sum().backward()
>>> x.grad
tensor([2., 4.])
"""

from . import _core
from ._core import *  # noqa: F403
from ._core import __version__ as __version__
from .autograd.grad_mode import enable_grad, no_grad, set_grad_enabled

__all__ = ["enable_grad", "no_grad", "set_grad_enabled"]
__all__ += [name for name in _core.__all__ if not name.startswith("_")]

_SUBMODULES = frozenset({"autograd", "nn"})


# Typed as object: type checkers find the submodules by themselves.
def __getattr__(name: str) -> object:
    if name in _SUBMODULES:
        from importlib import import_module

        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_SUBMODULES})
