"""Writes nodes.json: the graphs that PyTorch makes of the programs in `tests/node_cases.py`.

Run with a Python that has PyTorch:  python make_nodes_golden.py

A program is mapped to its nodes, breadth first, each {"name", "inputs", "saved"}: the names of the
nodes of its inputs, and the values of its `_saved_*` attributes. Programs are left out of which
PyTorch has no node, as it has none of that operation.
"""

import json
import sys
import warnings
from pathlib import Path

import torch

here = Path(__file__).parent
sys.path.insert(0, str(here.parent))
import node_cases  # noqa: E402 - found by the line above

warnings.simplefilter("ignore")
graphs = {
    program: node_cases.nodes(torch, node_cases.run(torch, program), node_cases.shown(torch))
    for program in node_cases.PROGRAMS
}
lines = ",\n".join(
    f"{json.dumps(program)}: {json.dumps(graph)}" for program, graph in graphs.items()
)
(here / "nodes.json").write_text("{\n" + lines + "\n}\n")
print(len(graphs), "programs,", sum(map(len, graphs.values())), "nodes")
