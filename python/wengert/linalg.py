"""Linear algebra.

The functions are the rows of the operation table named ``linalg.*``, which the compiled module
hands over in one dictionary.
"""

from wengert._core import LinAlgError, _submodules

globals().update(_submodules["linalg"])
__all__ = ["LinAlgError", *sorted(_submodules["linalg"])]  # noqa: PLE0604
