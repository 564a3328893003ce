"""Building blocks of neural networks."""

from . import functional as functional

TYPE_CHECKING = False
if TYPE_CHECKING:
    from . import parameter as parameter
    from .parameter import Buffer as Buffer
    from .parameter import Parameter as Parameter

__all__ = ["Buffer", "Parameter", "functional", "parameter"]


# Found when first asked for: the package imports this module while it is being made.
def __getattr__(name: str) -> object:
    if name in __all__:
        from importlib import import_module

        parameter = import_module(f"{__name__}.parameter")
        return parameter if name == "parameter" else getattr(parameter, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
