"""What fits nowhere else."""

from . import hooks as hooks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from . import checkpoint as checkpoint
    from ._swap import swap_tensors as swap_tensors

__all__ = ["checkpoint", "hooks", "swap_tensors"]


def __getattr__(name: str) -> object:
    if name == "checkpoint":
        from importlib import import_module

        return import_module(f"{__name__}.checkpoint")
    if name == "swap_tensors":
        from ._swap import swap_tensors

        return swap_tensors
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
