"""Special functions.

They are the rows of the operation table named ``special.*``, which the compiled module hands over
in one dictionary; most are second names of functions of the package.
"""

from wengert._core import _submodules

globals().update(_submodules["special"])
__all__ = sorted(_submodules["special"])  # noqa: PLE0605
