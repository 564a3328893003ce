"""Building blocks of neural networks."""

from . import functional as functional

__all__ = ["functional"]
