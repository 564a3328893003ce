"""The recorded graph: its nodes, how many there are, and how saved tensors are stored."""

from wengert._core import Node, live_nodes

from .saved_tensors import (
    allow_mutation_on_saved_tensors,
    disable_saved_tensors_hooks,
    save_on_cpu,
    saved_tensors_hooks,
)

__all__ = [
    "Node",
    "allow_mutation_on_saved_tensors",
    "disable_saved_tensors_hooks",
    "live_nodes",
    "save_on_cpu",
    "saved_tensors_hooks",
]
