"""Differentiation by request, gradient modes, and checks of gradients.

`backward` and `grad` walk the recorded graph, `Function` makes operations with a derivative of your
own, `no_grad` and its kin say what is recorded,
`functional` has Jacobians, Hessians and their products with vectors, and `gradcheck` and
`gradgradcheck` compare gradients with finite differences.
"""

from wengert._core import (
    backward,
    grad,
    is_masked_gradients_enabled,
    set_check_numpy,
    set_masked_gradients,
)

from . import forward_ad as forward_ad
from . import function as function
from . import functional as functional
from . import graph as graph
from .anomaly_mode import detect_anomaly, set_detect_anomaly
from .function import Function
from .grad_mode import (
    _unsafe_preserve_version_counter as _unsafe_preserve_version_counter,
)
from .grad_mode import enable_grad, inference_mode, masked_gradients, no_grad, set_grad_enabled
from .gradcheck import GradcheckError, gradcheck, gradgradcheck
from .multithreading import is_multithreading_enabled, set_multithreading_enabled
from .variable import Variable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from . import profiler as profiler

__all__ = [
    "Function",
    "GradcheckError",
    "Variable",
    "backward",
    "detect_anomaly",
    "enable_grad",
    "grad",
    "gradcheck",
    "gradgradcheck",
    "inference_mode",
    "is_masked_gradients_enabled",
    "is_multithreading_enabled",
    "masked_gradients",
    "no_grad",
    "set_check_numpy",
    "set_detect_anomaly",
    "set_grad_enabled",
    "set_masked_gradients",
    "set_multithreading_enabled",
]


# Loaded when first touched: most programs never do.
_SUBMODULES = frozenset({"profiler"})


def __getattr__(name: str) -> object:
    if name in _SUBMODULES:
        from importlib import import_module

        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
