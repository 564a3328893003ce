"""Stateless neural-network functions: activations, losses, normalisations.

The functions live in the operation table; the compiled module binds each row named
``nn.functional.*`` and hands them over in one dictionary.
"""

from wengert._core import _nn_functional

globals().update(_nn_functional)
__all__ = sorted(_nn_functional)  # noqa: PLE0605
