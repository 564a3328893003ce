"""Drawing the recorded graph of a tensor, without any system program.

`draw_graph(loss)` follows `grad_fn` and `next_functions` back to the leaves and gives a
`GraphDrawing`: a self-contained SVG that shows itself in notebooks, and DOT text for those who
have Graphviz. Values flow downwards, from the leaves to the result.

The drawing holds text only. It keeps no part of the graph alive.
"""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any, Literal

from ._graph_layout import Layout, arrange

__all__ = ["GraphDrawing", "draw_graph"]

Kind = Literal["leaf", "operation", "output", "more"]


@dataclass(frozen=True)
class Vertex:
    """A box of the drawing: its kind, one or two lines of text, and what a tooltip says."""

    kind: Kind
    label: str
    detail: str
    tooltip: str


@dataclass
class _Graph:
    """What is drawn: boxes, and edges between them in the direction in which values flow."""

    vertices: list[Vertex] = field(default_factory=list)
    edges: list[tuple[int, int]] = field(default_factory=list)

    def add(self, vertex: Vertex) -> int:
        self.vertices.append(vertex)
        return len(self.vertices) - 1


def draw_graph(outputs: Any, params: Any = None, *, max_nodes: int = 400) -> GraphDrawing:
    """Draws the graph that `outputs` were computed with.

    Parameters
    ----------
    outputs
        A tensor, a sequence of tensors, or a mapping from names to tensors.
    params
        Names of leaves, as a mapping from names to tensors or as pairs of both, such as
        ``model.named_parameters()``.
    max_nodes
        Of a larger graph only the nodes nearest to the outputs are drawn, and the drawing says
        so.

    Raises
    ------
    TypeError
        If `outputs` or `params` are none of the above.
    ValueError
        If an output has no graph, or `max_nodes` is not positive.

    Examples
    --------
    >>> import wengert
    >>> w = wengert.ones(3, requires_grad=True)
    >>> drawing = wengert.draw_graph((w * 2).sum(), {"w": w})
    >>> drawing.svg[:4]
    '<svg'
    """
    if max_nodes < 1:
        raise ValueError(f"draw_graph: max_nodes must be at least 1, got {max_nodes}")
    named = _named(params)
    names = {id(tensor): name for name, tensor in named}
    graph = _Graph()
    operations: dict[Any, int] = {}
    leaves: dict[int, tuple[int, Any]] = {}  # The tensor is kept: only so its id is its own.
    queue: deque[Any] = deque()

    def leaf_vertex(tensor: Any) -> int | None:
        if id(tensor) not in leaves:
            if len(operations) + len(leaves) == max_nodes:
                return None
            leaves[id(tensor)] = graph.add(_leaf(tensor, names.get(id(tensor)))), tensor
        return leaves[id(tensor)][0]

    def vertex(node: Any) -> int | None:
        """The vertex of a graph node, or None if there is no room for it."""
        if node.name().endswith("AccumulateGrad"):
            return leaf_vertex(node.variable)
        if node not in operations:
            if len(operations) + len(leaves) == max_nodes:
                return None
            operations[node] = graph.add(_operation(node))
            queue.append(node)
        return operations[node]

    truncated = False
    for name, tensor in _outputs(outputs):
        if tensor.grad_fn is None and not tensor.requires_grad:
            raise ValueError(
                f"draw_graph: {name} has no graph: nothing it was computed from requires grad, "
                "or it was computed under no_grad"
            )
        source = leaf_vertex(tensor) if tensor.grad_fn is None else vertex(tensor.grad_fn)
        if source is None:
            truncated = True
        else:
            shape = _shape(tensor)
            sink = graph.add(Vertex("output", name, shape, f"{name}: {shape}"))
            graph.edges.append((source, sink))
    # Breadth first, so that what is left out of a large graph is what is farthest away.
    while queue:
        node = queue.popleft()
        cut = False
        for input_node, _ in node.next_functions:
            if input_node is None:  # An input that requires no gradient is not recorded.
                continue
            source = vertex(input_node)
            if source is None:
                cut = True
            else:
                graph.edges.append((source, operations[node]))
        if cut:
            more = graph.add(Vertex("more", "⋯", "", "more nodes that are not drawn"))
            graph.edges.append((more, operations[node]))
            truncated = True
    note = f"Only the {max_nodes} nodes nearest to the output are drawn." if truncated else ""
    return GraphDrawing(tuple(graph.vertices), tuple(graph.edges), note)


def _named(params: Any) -> list[tuple[str, Any]]:
    """The pairs of a mapping, or of an iterable of pairs."""
    if params is None:
        return []
    pairs = params.items() if isinstance(params, Mapping) else params
    try:
        return [(str(name), tensor) for name, tensor in pairs]
    except (TypeError, ValueError):
        raise TypeError(
            "draw_graph: params must map names to tensors, or give pairs of both"
        ) from None


def _outputs(outputs: Any) -> list[tuple[str, Any]]:
    """The tensors to begin at, with a name for each."""
    if hasattr(outputs, "grad_fn"):
        return [("output", outputs)]
    if isinstance(outputs, Mapping):
        named = [(str(name), tensor) for name, tensor in outputs.items()]
    elif isinstance(outputs, Iterable):
        named = [(f"output {i}", tensor) for i, tensor in enumerate(outputs)]
    else:
        named = [("", outputs)]
    for _, tensor in named:
        if not hasattr(tensor, "grad_fn"):
            raise TypeError(f"draw_graph: expected tensors, got {type(tensor).__name__}")
    if not named:
        raise ValueError("draw_graph: there are no outputs to draw")
    return named


def _leaf(tensor: Any, name: str | None) -> Vertex:
    shape = _shape(tensor)
    if name is None:
        return Vertex("leaf", shape, "", f"leaf: {shape}")
    return Vertex("leaf", name, shape, f"{name}: {shape}")


def _operation(node: Any) -> Vertex:
    name = node.name().rpartition("::")[2]
    # The operation rather than its derivative: `Mul` for `MulBackward0`.
    label, _, number = name.rpartition("Backward")
    if not label or (number and not number.isdigit()):
        label = name
    # The shape of the result, where the node tells it.
    metadata = getattr(node, "_input_metadata", ())
    shapes = [_sizes(data.shape) for data in metadata if hasattr(data, "shape")]
    # The line that ran it, where the node tells it.
    origin = getattr(node, "origin", None)
    place = f" at {origin[0]}:{origin[1]}, in {origin[2]}" if origin else ""
    return Vertex("operation", label, shapes[0] if len(shapes) == 1 else "", name + place)


def _sizes(shape: Iterable[int]) -> str:
    return str(tuple(int(size) for size in shape)) if shape else "scalar"


def _shape(tensor: Any) -> str:
    dtype = str(tensor.dtype).rpartition(".")[2]
    return _sizes(tensor.shape) + ("" if dtype == "float32" else f" {dtype}")


class GraphDrawing:
    """A drawn graph. In a notebook it shows itself; `str()` is the SVG, `dot` the DOT text."""

    def __init__(
        self, vertices: tuple[Vertex, ...], edges: tuple[tuple[int, int], ...], note: str = ""
    ) -> None:
        #: The boxes.
        self.vertices = vertices
        #: Pairs of positions in `vertices`, in the direction in which values flow.
        self.edges = edges
        #: What the drawing leaves out, or "".
        self.note = note

    @cached_property
    def svg(self) -> str:
        """The picture, a document of its own that needs no font, style sheet or script."""
        return _svg(self.vertices, self.edges, self.note)

    @property
    def dot(self) -> str:
        """The graph in Graphviz' language."""
        shapes = {"leaf": "box", "operation": "box", "output": "box", "more": "plaintext"}
        lines = ["digraph graph_drawing {", '  node [fontname="Helvetica", style="rounded"];']
        for i, v in enumerate(self.vertices):
            text = "\\n".join(_dot_escape(line) for line in (v.label, v.detail) if line)
            bold = ' style="rounded,bold"' if v.kind in ("leaf", "output") else ""
            tooltip = _dot_escape(v.tooltip)
            lines.append(
                f'  n{i} [shape={shapes[v.kind]} label="{text}" tooltip="{tooltip}"{bold}];'
            )
        lines.extend(f"  n{tail} -> n{head};" for tail, head in self.edges)
        if self.note:
            lines.append(f'  label="{_dot_escape(self.note)}";')
        return "\n".join([*lines, "}", ""])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the drawing; the ending of the name decides: .svg, .html, .dot or .gv.

        Raises
        ------
        ValueError
            If the name ends otherwise.
        """
        path = Path(path)
        match path.suffix.lower():
            case ".svg":
                text = self.svg
            case ".html":
                head = '<!doctype html><meta charset="utf-8"><title>Graph</title>'
                text = f"{head}\n{self._repr_html_()}\n"
            case ".dot" | ".gv":
                text = self.dot
            case other:
                raise ValueError(
                    f"GraphDrawing.save: expected a .svg, .html, .dot or .gv file, got {other!r}"
                )
        path.write_text(text, encoding="utf-8")

    def __str__(self) -> str:
        return self.svg

    def __repr__(self) -> str:
        return f"<GraphDrawing: {len(self.vertices)} vertices, {len(self.edges)} edges>"

    def _repr_svg_(self) -> str:
        return self.svg

    def _repr_html_(self) -> str:
        return f'<div style="max-width:100%;overflow:auto">{self.svg}</div>'


def _dot_escape(text: str) -> str:
    return _shown(text, 400).replace("\\", "\\\\").replace('"', '\\"')


# ----------------------------------------------------------------------------------- picture

_LAYER_GAP, _MARGIN, _ARROW = 34.0, 20.0, 7.0
_FONT = "font-family=\"ui-sans-serif, system-ui, 'Segoe UI', Helvetica, Arial, sans-serif\""

# Colours for light pages stand in the elements themselves, so that every program shows them;
# browsers that prefer dark override them. The background is part of the picture: it is readable
# on any page.
_LIGHT = {  # fill, stroke, text
    "leaf": ("#dbeafe", "#3b82f6", "#1e3a8a"),
    "operation": ("#ffffff", "#94a3b8", "#0f172a"),
    "output": ("#dcfce7", "#22a55a", "#14532d"),
    "more": ("none", "none", "#64748b"),
}
_STYLE = """\
@media (prefers-color-scheme: dark) {
.wg-page{fill:#0f172a}.wg-line{stroke:#7c8aa0}.wg-tip{fill:#7c8aa0}.wg-note{fill:#94a3b8}
.wg-leaf rect{fill:#172f5c;stroke:#60a5fa}.wg-leaf text{fill:#dbeafe}
.wg-operation rect{fill:#1e293b;stroke:#64748b}.wg-operation text{fill:#f1f5f9}
.wg-output rect{fill:#123524;stroke:#4ade80}.wg-output text{fill:#dcfce7}
.wg-more text{fill:#94a3b8}
}"""


def _text_width(text: str, size: float) -> float:
    """An upper estimate, as the font is not known."""

    def em(c: str) -> float:
        if c in "(),.:;il|' ":
            return 0.36
        return 0.88 if c in "mwMW" else 0.61 if c < "\u2e80" else 1.0

    return sum(em(c) for c in text) * size


def _shown(text: str, limit: int = 48) -> str:
    """Text as it may stand in XML and in a box: printable and not endless."""
    text = "".join(c if c.isprintable() else "\ufffd" for c in text)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _box_size(v: Vertex) -> tuple[float, float]:
    width = max(_text_width(_shown(v.label), 13.5), _text_width(_shown(v.detail), 11.0)) + 24
    return max(width, 44.0), 42.0 if v.detail else 28.0


def _number(x: float) -> str:
    return f"{x:.1f}".removesuffix(".0")


def _svg(vertices: Sequence[Vertex], edges: Sequence[tuple[int, int]], note: str) -> str:
    sizes = [_box_size(v) for v in vertices]
    layout = arrange([width for width, _ in sizes], edges)
    x = [_MARGIN + place for place in layout.x]
    heights = [
        max((sizes[v][1] for v in layer if v < len(vertices)), default=0.0)
        for layer in layout.layers
    ]
    middle, y = [], _MARGIN
    for height in heights:
        middle.append(y + height / 2)
        y += height + _LAYER_GAP
    bottom = y - _LAYER_GAP + _MARGIN
    right = max((x[v] + (sizes[v][0] / 2 if v < len(vertices) else 0)) for v in range(len(x)))
    width = right + _MARGIN
    if note:
        spare = max(_text_width(note, 12) + 2 * _MARGIN - width, 0.0)
        x = [place + spare / 2 for place in x]
        width += spare
        bottom += 18

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="wg-graph" role="img" '
        f'width="{math.ceil(width)}" height="{math.ceil(bottom)}" '
        f'viewBox="0 0 {math.ceil(width)} {math.ceil(bottom)}" {_FONT}>',
        f"<title>Graph of {len(vertices)} nodes</title>",
        f"<style>{_STYLE}</style>",
        '<rect class="wg-page" width="100%" height="100%" rx="8" fill="#f8fafc"/>',
    ]
    lines, tips = _routes(layout, edges, sizes, x, middle, heights)
    parts.append(
        f'<path class="wg-line" d="{"".join(lines)}" fill="none" stroke="#64748b" '
        'stroke-width="1.3"/>'
    )
    parts.append(f'<path class="wg-tip" d="{"".join(tips)}" fill="#64748b"/>')
    for i, v in enumerate(vertices):
        parts.append(_box(v, x[i], middle[layout.layer_of[i]], *sizes[i]))
    if note:
        parts.append(
            f'<text class="wg-note" x="{_number(_MARGIN)}" y="{_number(bottom - 12)}" '
            f'font-size="12" fill="#475569">{escape(note)}</text>'
        )
    return "\n".join([*parts, "</svg>"]) + "\n"


def _routes(
    layout: Layout,
    edges: Sequence[tuple[int, int]],
    sizes: Sequence[tuple[float, float]],
    x: Sequence[float],
    middle: Sequence[float],
    heights: Sequence[float],
) -> tuple[list[str], list[str]]:
    """The curves, trunks once and not once per branch, and the arrow heads."""
    lines, tips = [], []
    # Where a box, or a bend with the layer it passes, is left at the bottom.
    leave = [middle[layout.layer_of[v]] + size[1] / 2 for v, size in enumerate(sizes)]
    for v in range(len(sizes), len(x)):
        (parent,) = layout.above[v]
        layer = layout.layer_of[v]
        curve = _curve(x[parent], leave[parent], x[v], middle[layer] - heights[layer] / 2)
        leave.append(middle[layer] + heights[layer] / 2)
        lines.append(f"{curve}V{_number(leave[v])}")
    arriving: dict[int, list[int]] = {}
    for tail, head in edges:
        arriving.setdefault(head, []).append(layout.link(tail, head))
    for head, links in arriving.items():
        links.sort(key=x.__getitem__)
        end = middle[layout.layer_of[head]] - sizes[head][1] / 2
        for link, port in zip(
            links, _ports(x[head], sizes[head][0], [x[n] for n in links]), strict=True
        ):
            lines.append(_curve(x[link], leave[link], port, end - _ARROW + 1))
            half = _number(_ARROW / 2)
            tips.append(f"M{_number(port)} {_number(end)}l-{half} -{_ARROW:g}h{_ARROW:g}z")
    return lines, tips


def _ports(centre: float, width: float, arriving: Sequence[float]) -> list[float]:
    """Where edges enter a box from above, given (sorted) where they come from.

    They stand side by side, and an edge from straight above goes straight on.
    """
    count = len(arriving)
    step = min(16.0, (width - 20) / max(count - 1, 1))
    straight = [i for i, x in enumerate(arriving) if abs(x - centre) < 1]
    pivot = straight[len(straight) // 2] if len(straight) % 2 else (count - 1) / 2
    pivot_limit = (width / 2 - 8) / max(pivot, count - 1 - pivot, 1)
    return [centre + (i - pivot) * min(step, pivot_limit) for i in range(count)]


def _curve(x0: float, y0: float, x1: float, y1: float) -> str:
    """From one point down to another, vertical at both ends."""
    start = f"M{_number(x0)} {_number(y0)}"
    if abs(x0 - x1) < 0.05:
        return f"{start}V{_number(y1)}"
    bend = _number((y0 + y1) / 2)
    return f"{start}C{_number(x0)} {bend} {_number(x1)} {bend} {_number(x1)} {_number(y1)}"


def _box(v: Vertex, x: float, y: float, width: float, height: float) -> str:
    fill, stroke, ink = _LIGHT[v.kind]
    weight = ' font-weight="600"' if v.kind in ("leaf", "output") else ""
    lines = [(v.label, 13.5, weight, y - 3 if v.detail else y + 4.5)]
    if v.detail:
        lines.append((v.detail, 11.0, ' opacity="0.75"', y + 13))
    text = "".join(
        f'<text x="{_number(x)}" y="{_number(baseline)}" font-size="{size}"{extra} '
        f'text-anchor="middle" fill="{ink}">{escape(_shown(line))}</text>'
        for line, size, extra, baseline in lines
    )
    left, top = _number(x - width / 2), _number(y - height / 2)
    return (
        f'<g class="wg-{v.kind}"><title>{escape(_shown(v.tooltip, 400))}</title>'
        f'<rect x="{left}" y="{top}" width="{_number(width)}" height="{_number(height)}" rx="8" '
        f'fill="{fill}" stroke="{stroke}" stroke-width="1.4"/>{text}</g>'
    )
