"""What fits nowhere else."""

from . import hooks as hooks

__all__ = ["hooks"]
