"""The recorded graph: its nodes, and how many there are."""

from wengert._core import Node, live_nodes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._memory import graph_memory

__all__ = ["Node", "graph_memory", "live_nodes"]


def __getattr__(name: str) -> object:
    if name == "graph_memory":
        from ._memory import graph_memory

        return graph_memory
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
