"""What fits nowhere else."""

from . import hooks as hooks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from . import checkpoint as checkpoint

__all__ = ["checkpoint", "hooks"]


def __getattr__(name: str) -> object:
    if name == "checkpoint":
        from importlib import import_module

        return import_module(f"{__name__}.checkpoint")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
