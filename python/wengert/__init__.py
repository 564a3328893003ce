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

from . import _alias, _core
from ._core import *  # noqa: F403
from ._core import __version__ as __version__

_alias.install()

TYPE_CHECKING = False
if TYPE_CHECKING:
    from . import autograd as autograd
    from . import func as func
    from . import linalg as linalg
    from . import nn as nn
    from . import profiler as profiler
    from . import return_types as return_types
    from . import special as special
    from . import testing as testing
    from . import utils as utils
    from ._composites import block_diag as block_diag
    from ._composites import broadcast_shapes as broadcast_shapes
    from ._composites import cartesian_prod as cartesian_prod
    from ._composites import tensordot as tensordot
    from ._einsum import einsum as einsum
    from ._limits import finfo as finfo
    from ._limits import iinfo as iinfo
    from ._tensor_types import BFloat16Tensor as BFloat16Tensor
    from ._tensor_types import BoolTensor as BoolTensor
    from ._tensor_types import ByteTensor as ByteTensor
    from ._tensor_types import CharTensor as CharTensor
    from ._tensor_types import DoubleTensor as DoubleTensor
    from ._tensor_types import FloatTensor as FloatTensor
    from ._tensor_types import HalfTensor as HalfTensor
    from ._tensor_types import IntTensor as IntTensor
    from ._tensor_types import LongTensor as LongTensor
    from ._tensor_types import ShortTensor as ShortTensor
    from ._tensor_types import set_default_tensor_type as set_default_tensor_type
    from .autograd._memory import graph_memory as graph_memory
    from .func import vmap as vmap
    from .graph_drawing import draw_graph as draw_graph

__all__ = [
    "block_diag",
    "broadcast_shapes",
    "cartesian_prod",
    "draw_graph",
    "einsum",
    "finfo",
    "graph_memory",
    "iinfo",
    "tensordot",
    "vmap",
]
__all__ += _core.__all__

_SUBMODULES = frozenset(
    {
        "_C",
        "autograd",
        "func",
        "linalg",
        "nn",
        "profiler",
        "return_types",
        "special",
        "testing",
        "utils",
    }
)
_LEGACY_TYPES = (
    "BFloat16Tensor",
    "BoolTensor",
    "ByteTensor",
    "CharTensor",
    "DoubleTensor",
    "FloatTensor",
    "HalfTensor",
    "IntTensor",
    "LongTensor",
    "ShortTensor",
    "set_default_tensor_type",
)
# Where functions live that are written in Python.
_HOMES = {
    "block_diag": "_composites",
    "broadcast_shapes": "_composites",
    "cartesian_prod": "_composites",
    "draw_graph": "graph_drawing",
    "einsum": "_einsum",
    "finfo": "_limits",
    "graph_memory": "autograd._memory",
    "iinfo": "_limits",
    "tensordot": "_composites",
    "vmap": "func",
} | dict.fromkeys(_LEGACY_TYPES, "_tensor_types")


# Typed as object: type checkers find what comes later by themselves.
def __getattr__(name: str) -> object:
    from importlib import import_module

    if name in _SUBMODULES:
        return import_module(f"{__name__}.{name}")
    if name in _HOMES:
        function = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
        globals()[name] = function
        return function
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_SUBMODULES, *_HOMES})
