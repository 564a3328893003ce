"""Differentiation by request, gradient modes, and checks of gradients.

`backward` and `grad` walk the recorded graph, `no_grad` and its kin say what is recorded,
`functional` has Jacobians, Hessians and their products with vectors, and `gradcheck` and
`gradgradcheck` compare gradients with finite differences.
"""

from wengert._core import backward, grad

from . import forward_ad as forward_ad
from . import functional as functional
from . import graph as graph
from .grad_mode import enable_grad, inference_mode, no_grad, set_grad_enabled
from .gradcheck import GradcheckError, gradcheck, gradgradcheck
from .multithreading import set_multithreading_enabled
from .variable import Variable

__all__ = [
    "GradcheckError",
    "Variable",
    "backward",
    "enable_grad",
    "grad",
    "gradcheck",
    "gradgradcheck",
    "inference_mode",
    "no_grad",
    "set_grad_enabled",
    "set_multithreading_enabled",
]
