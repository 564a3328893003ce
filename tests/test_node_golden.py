"""The graph of each operation against PyTorch's, node by node: names, inputs, what is saved.

The programs are in `node_cases.py`, PyTorch's graphs in `golden/nodes.json`.
"""

import math

import node_cases
import pytest
import wengert as torch
from support import golden

GOLDEN = golden("nodes.json")

# What a node shows, or does not show, unlike PyTorch's, and why.
UNNEEDED = "PyTorch keeps a tensor alive of which the rule needs only the sizes"
ZERO = "the gradient is zero, and needs nothing"
WRAPPED = "dimensions are counted from the front"
ENDS = "the end of a slice is within the tensor"
SAVED = {
    ("torch.pow(x, c)", "result"): "the result is kept if the exponent has a gradient",
    ("x.div(y, rounding_mode='floor')", "self"): ZERO,
    ("x.div(y, rounding_mode='floor')", "other"): ZERO,
    ("x.div(y, rounding_mode='trunc')", "self"): ZERO,
    ("x.div(y, rounding_mode='trunc')", "other"): ZERO,
    ("x.copysign(y)", "result"): "the operands tell the sign, and the result may be written to",
    ("x.copysign(y)", "other"): "the operands tell the sign, and the result may be written to",
    ("m.var()", "correction"): "the default is filled in",
    ("m.cummax(1)[0]", "self"): UNNEEDED,
    ("q.mT", "dim0"): WRAPPED,
    ("q.mT", "dim1"): WRAPPED,
    ("m[:, 1:]", "end"): ENDS,
    ("m.slice_scatter(m2[:, 1:], 1, 1)", "end"): ENDS,
    ("x[mask]", "indices"): "masks are turned into positions, once",
    ("x.diag()", "dim1"): WRAPPED,
    ("x.diag()", "dim2"): WRAPPED,
    ("torch.diag_embed(m)", "dim1"): WRAPPED,
    ("torch.diag_embed(m)", "dim2"): WRAPPED,
    ("m.gather(0, index2)", "self"): UNNEEDED,
    ("m.masked_select(mask)", "self"): UNNEEDED,
    ("m.masked_select(mask)", "mask"): "masks are turned into positions, once",
    ("m.index_add(1, index, m2[:, :2])", "source"): UNNEEDED,
    ("m.index_copy(1, index, m2[:, :2])", "source"): UNNEEDED,
    ("F.logsigmoid(x)", "buffer"): "exp(-|x|) is as cheap to compute again",
}
# Attributes of one node, whatever the program.
ALWAYS = {("DivBackward0", "rounding_mode"): "the node also stands for rounding_mode=None"}
COPY = "a copy of a view is a view of a copy"
IN_PLACE = "a view in place is recorded as the view"
FUSED = "one operation, recorded as the last one of PyTorch's"
GRAPHS = {
    "x // y": "the derivative is zero, where PyTorch has none",
    "m[0, 1]": "one node per index expression",
    "sq.diag()": COPY,
    "torch.alias_copy(m)": COPY,
    "m.take(index)": "of the flattened tensor",
    "x.index_put((index,), s)": "values are expanded first",
    "z = m.clone(); z.t_(); z": IN_PLACE,
    "z = m.clone(); z.unsqueeze_(0); z": IN_PLACE,
    "z = one.clone(); z.squeeze_(0); z": IN_PLACE,
    "z = m.clone(); z.transpose_(0, 1); z": IN_PLACE,
    "F.linear(m, n.t())": "the product reads the weight as it lies, transposed",
    "F.linear(m, n.t(), n[0])": "the product reads the weight as it lies, transposed",
    "F.cross_entropy(m, classes)": FUSED,
    "F.normalize(m)": "the division broadcasts",
}


def same(ours, theirs):
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return ours.keys() == theirs.keys() and all(same(ours[k], theirs[k]) for k in ours)
    if isinstance(ours, list) and isinstance(theirs, list):
        return len(ours) == len(theirs) and all(map(same, ours, theirs))
    if isinstance(ours, float) and isinstance(theirs, float):
        return math.isclose(ours, theirs, rel_tol=1e-4, abs_tol=1e-6)
    return ours == theirs


def differences(program):
    """The attributes that differ; all of the graph, if nodes or edges do."""
    ours = node_cases.nodes(torch, node_cases.run(torch, program), node_cases.shown(torch))
    theirs = GOLDEN[program]
    if [(n["name"], n["inputs"]) for n in ours] != [(n["name"], n["inputs"]) for n in theirs]:
        return "graph", [n["name"] for n in ours], [n["name"] for n in theirs]
    found = {}
    for a, b in zip(ours, theirs, strict=True):
        for key in a["saved"].keys() | b["saved"].keys():
            pair = [node["saved"].get(key, "absent") for node in (a, b)]
            if not same(*pair) and (a["name"], key) not in ALWAYS:
                found[key] = pair
    return found


def test_golden_file_has_every_program():
    assert list(GOLDEN) == node_cases.PROGRAMS


@pytest.mark.parametrize("program", [p for p in GOLDEN if p not in GRAPHS])
def test_graph_is_pytorchs(program):
    found = differences(program)
    assert isinstance(found, dict), found
    assert {(program, key) for key in found} == {known for known in SAVED if known[0] == program}, (
        found
    )


@pytest.mark.parametrize("program", GRAPHS)
def test_graph_differs_as_said(program):
    assert differences(program)[0] == "graph"
