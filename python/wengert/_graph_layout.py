"""Where to draw the vertices of a directed graph: in layers, with few crossings, and straight.

The way of Sugiyama, Tagawa and Toda (1981), in its simplest parts:

1. *Layers.* A vertex stands as many layers above the results as the longest path to them is
   long. So every edge points downwards, and a weight stands right above its first use.
2. *Order.* Sweeps down and up sort each layer by the mean position of the neighbours; the order
   with the fewest crossings is kept. Edges that pass through layers get a place of their own in
   each of them. All edges of one vertex share those places: a weight that is used in many layers
   has one trunk with branches, not a sheaf of parallel lines.
3. *Coordinates.* Trunks, and operations that follow one another, are tied into blocks that stand
   straight, an idea of Brandes and Köpf (2002). Blocks move towards the mean of their neighbours
   as far as there is room.

Nothing recurses: the depth of a graph is not limited.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

__all__ = ["Layout", "arrange"]

_BOX_GAP, _BEND_GAP = 26.0, 18.0


@dataclass
class Layout:
    """Boxes and bends, one list for both.

    Boxes come first and keep their numbers; a bend is a place where the trunk of a box passes a
    layer on its way down.
    """

    layers: list[list[int]]  # from the top, each from left to right
    layer_of: list[int]
    above: list[list[int]]  # neighbours one layer up
    below: list[list[int]]
    bends: dict[tuple[int, int], int]  # (box, layer) to the bend of the box's trunk there
    x: list[float] = field(default_factory=list)  # centres; the leftmost edge of all is at 0

    def link(self, tail: int, head: int) -> int:
        """The box or bend, one layer above `head`, from which the edge arrives."""
        return self.bends.get((tail, self.layer_of[head] - 1), tail)


def arrange(widths: Sequence[float], edges: Sequence[tuple[int, int]]) -> Layout:
    """Places boxes of the given widths; edges (pairs of box numbers, without cycles) go down."""
    layout = _layered(len(widths), edges)
    _order(layout)
    layout.x = _coordinates(layout, widths)
    return layout


def _layered(count: int, edges: Sequence[tuple[int, int]]) -> Layout:
    """Puts vertices into layers, 0 at the top, and lays trunks through the layers between."""
    consumers: list[list[int]] = [[] for _ in range(count)]
    producers: list[list[int]] = [[] for _ in range(count)]
    for tail, head in edges:
        consumers[tail].append(head)
        producers[head].append(tail)
    height = [0] * count
    waiting = [len(c) for c in consumers]
    ready = [v for v in range(count) if not waiting[v]]
    for v in ready:  # Grows while it is walked.
        for tail in producers[v]:
            height[tail] = max(height[tail], height[v] + 1)
            waiting[tail] -= 1
            if not waiting[tail]:
                ready.append(tail)
    top = max(height, default=0)
    layer_of = [top - h for h in height]
    layers: list[list[int]] = [[] for _ in range(top + 1)]
    for v in ready:
        layers[layer_of[v]].append(v)

    layout = Layout(layers, layer_of, [[] for _ in range(count)], [[] for _ in range(count)], {})
    for tail in range(count):
        previous = tail
        lowest = max((layer_of[head] for head in consumers[tail]), default=0)
        for layer in range(layer_of[tail] + 1, lowest):
            bend = len(layer_of)
            layer_of.append(layer)
            layers[layer].append(bend)
            layout.above.append([previous])
            layout.below.append([])
            layout.below[previous].append(bend)
            layout.bends[tail, layer] = previous = bend
        for head in consumers[tail]:
            link = layout.link(tail, head)
            layout.below[link].append(head)
            layout.above[head].append(link)
    return layout


def _crossings(layout: Layout) -> int:
    """How many pairs of edges cross."""
    position = _positions(layout)
    total = 0
    for layer in layout.layers[:-1]:
        ends: list[int] = []
        for v in layer:
            heads = sorted(position[head] for head in layout.below[v])
            total += sum(len(ends) - bisect_right(ends, head) for head in heads)
            ends = sorted(ends + heads)
    return total


def _positions(layout: Layout) -> list[int]:
    position = [0] * len(layout.layer_of)
    for layer in layout.layers:
        for i, v in enumerate(layer):
            position[v] = i
    return position


def _order(layout: Layout, sweeps: int = 12) -> None:
    """Sorts the layers to have few crossings."""
    best, fewest = [list(layer) for layer in layout.layers], _crossings(layout)
    for sweep in range(sweeps):
        if fewest == 0:
            break
        downwards = sweep % 2 == 0
        neighbours = layout.above if downwards else layout.below
        position = _positions(layout)
        for layer in layout.layers if downwards else reversed(layout.layers):
            mean = {
                v: sum(position[n] for n in neighbours[v]) / len(neighbours[v])
                if neighbours[v]
                else float(position[v])
                for v in layer
            }
            layer.sort(key=mean.__getitem__)
            for i, v in enumerate(layer):
                position[v] = i
        crossings = _crossings(layout)
        if crossings < fewest:
            best, fewest = [list(layer) for layer in layout.layers], crossings
    layout.layers[:] = best


def _blocks(layout: Layout, boxes: int) -> list[list[int]]:
    """Groups boxes and bends that shall stand straight below one another.

    These are trunks, and operations with the input that took the longest way; at most one box or
    bend of each layer. Edges that would cross are not both straightened, so a block is left or
    right of another one, never both.
    """
    depth = [0] * len(layout.layer_of)
    for layer in layout.layers:
        for v in layer:
            depth[v] = max((depth[n] + (v < boxes) for n in layout.above[v]), default=0)
    position = _positions(layout)
    block = {v: [v] for layer in layout.layers for v in layer}
    for layer in layout.layers:
        wishes = []
        for v in layer:
            ways = sorted({(depth[n], n) for n in layout.above[v]}, reverse=True)
            if len(ways) == 1 or (len(ways) > 1 and ways[0][0] > ways[1][0]):
                parent = ways[0][1]
                trunk = (v >= boxes) + (parent >= boxes)
                wishes.append((-2 if trunk == 2 else trunk, position[v], v, parent))
        straight: list[tuple[int, int]] = []
        for _, _, v, parent in sorted(wishes):
            edge = (position[parent], position[v])
            if all(
                (edge[0] < a and edge[1] < b) or (edge[0] > a and edge[1] > b) for a, b in straight
            ):
                straight.append(edge)
                block[parent].append(v)
                block[v] = block[parent]
    return list({id(b): b for b in block.values()}.values())


def _coordinates(layout: Layout, width: Sequence[float], rounds: int = 24) -> list[float]:
    """The centre of every box and bend, from left to right; the leftmost edge is 0."""
    boxes = len(width)
    blocks = _blocks(layout, boxes)
    block_of = {v: i for i, block in enumerate(blocks) for v in block}

    def half(v: int) -> float:
        return width[v] / 2 if v < boxes else 0.0

    # Who stands beside a block, and how far the centres must be apart.
    left_of: list[dict[int, float]] = [{} for _ in blocks]
    right_of: list[dict[int, float]] = [{} for _ in blocks]
    for layer in layout.layers:
        for v, w in pairwise(layer):
            i, j = block_of[v], block_of[w]
            bend = v >= boxes or w >= boxes
            gap = half(v) + half(w) + (_BEND_GAP if bend else _BOX_GAP)
            left_of[j][i] = right_of[i][j] = max(gap, left_of[j].get(i, 0.0))
    # Pushed together to the left ...
    x = [0.0] * len(blocks)
    missing = [len(left) for left in left_of]
    ready = [i for i, count in enumerate(missing) if not count]
    for i in ready:  # Grows while it is walked.
        for j, gap in right_of[i].items():
            x[j] = max(x[j], x[i] + gap)
            missing[j] -= 1
            if not missing[j]:
                ready.append(j)
    # ... and then, in turns from the left and from the right, as far towards the mean of the
    # neighbours as there is room.
    near = [
        [block_of[n] for v in block for n in layout.above[v] + layout.below[v] if block_of[n] != i]
        for i, block in enumerate(blocks)
    ]
    for turn in range(rounds):
        for i in ready if turn % 2 else reversed(ready):
            if near[i]:
                wanted = sum(x[n] for n in near[i]) / len(near[i])
                low = max((x[j] + gap for j, gap in left_of[i].items()), default=-math.inf)
                high = min((x[j] - gap for j, gap in right_of[i].items()), default=math.inf)
                x[i] = min(max(wanted, low), high)
    places = [x[block_of[v]] for v in range(len(layout.layer_of))]
    left = min((place - half(v) for v, place in enumerate(places)), default=0.0)
    return [place - left for place in places]
