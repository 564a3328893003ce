"""Stateless neural-network functions: activations, losses, normalisations.

They are the rows of the operation table named ``nn.functional.*``, which the compiled module hands
over in one dictionary.
"""

from wengert._core import _submodules

globals().update(_submodules["nn.functional"])
__all__ = sorted(_submodules["nn.functional"])  # noqa: PLE0605
