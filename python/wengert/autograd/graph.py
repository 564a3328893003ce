"""The recorded graph: its nodes, and how many there are."""

from wengert._core import Node, live_nodes

__all__ = ["Node", "live_nodes"]
