"""Drawings of recorded graphs: what they show, that the picture is sound, and where they end."""

import random
import re
from xml.etree import ElementTree

import pytest
import wengert as torch
from wengert._graph_layout import arrange
from wengert.graph_drawing import draw_graph

SVG = "{http://www.w3.org/2000/svg}"


def labels(drawing, kind):
    return sorted(v.label for v in drawing.vertices if v.kind == kind)


def boxes(drawing):
    """The rectangles (x, y, width, height) of the picture, in the order of the vertices."""
    root = ElementTree.fromstring(drawing.svg)
    rects = [group.find(f"{SVG}rect") for group in root.iter(f"{SVG}g")]
    return root, [tuple(float(r.get(k)) for k in ("x", "y", "width", "height")) for r in rects]


def check_picture(drawing):
    """Nothing overlaps, nothing sticks out, values flow downwards."""
    root, rects = boxes(drawing)
    assert len(rects) == len(drawing.vertices)
    _, _, width, height = map(float, root.get("viewBox").split())
    for x, y, w, h in rects:
        assert x >= 0
        assert y >= 0
        assert x + w <= width
        assert y + h <= height
    for i, (x, y, w, h) in enumerate(rects):
        for other_x, other_y, other_w, other_h in rects[:i]:
            beside = x + w <= other_x or x >= other_x + other_w
            assert beside or y + h <= other_y or y >= other_y + other_h
    for tail, head in drawing.edges:
        assert rects[tail][1] + rects[tail][3] < rects[head][1]
    tips = [path for path in root.iter(f"{SVG}path") if path.get("class") == "wg-tip"]
    assert tips[0].get("d").count("z") == len(drawing.edges)


def small_loss():
    w = torch.ones(5, 3, requires_grad=True)
    b = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    return ((torch.ones(2, 5) @ w) * 2 + b).exp().sum(), w, b


def test_leaves_operations_and_output_are_named():
    loss, w, b = small_loss()
    drawing = draw_graph(loss, {"w": w, "b": b})
    leaves = {v.label: v.detail for v in drawing.vertices if v.kind == "leaf"}
    assert leaves == {"w": "(5, 3)", "b": "(3,) float64"}
    assert labels(drawing, "operation") == ["Add", "Exp", "Mm", "Mul", "Sum"]
    assert labels(drawing, "output") == ["output"]
    assert drawing.note == ""
    assert repr(drawing) == "<GraphDrawing: 8 vertices, 7 edges>"
    check_picture(drawing)
    text = "".join(ElementTree.fromstring(str(drawing)).itertext())
    for shown in ["w", "(5, 3)", "(3,) float64", "Exp", "ExpBackward0", "scalar float64"]:
        assert shown in text


def test_names_may_come_as_pairs_and_leaves_need_none():
    loss, w, _ = small_loss()
    drawing = draw_graph(loss, iter([("layer.weight", w)]))
    assert labels(drawing, "leaf") == ["(3,) float64", "layer.weight"]


def test_shared_vertices_are_drawn_once():
    x = torch.ones(3, requires_grad=True)
    y = x * x
    drawing = draw_graph((y + y.exp()).sum(), {"x": x})
    assert labels(drawing, "operation") == ["Add", "Exp", "Mul", "Sum"]
    pairs = [(drawing.vertices[a].label, drawing.vertices[b].label) for a, b in drawing.edges]
    assert sorted(pairs) == [
        ("Add", "Sum"),
        ("Exp", "Add"),
        ("Mul", "Add"),
        ("Mul", "Exp"),
        ("Sum", "output"),
        ("x", "Mul"),
        ("x", "Mul"),
    ]
    check_picture(drawing)


def test_several_outputs():
    loss, w, b = small_loss()
    drawing = draw_graph([loss, w], {"w": w, "b": b})
    assert labels(drawing, "output") == ["output 0", "output 1"]
    assert labels(drawing, "leaf") == ["b", "w"]
    named = draw_graph({"loss": loss, "penalty": (w * w).sum()})
    assert labels(named, "output") == ["loss", "penalty"]
    check_picture(drawing)
    check_picture(named)


def test_a_leaf_alone():
    drawing = draw_graph(torch.ones(2, requires_grad=True))
    assert (labels(drawing, "leaf"), labels(drawing, "operation")) == (["(2,)"], [])
    check_picture(drawing)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (lambda: (torch.ones(2),), ValueError, "output has no graph"),
        (lambda: ({"y": torch.ones(2)},), ValueError, "y has no graph"),
        (lambda: ([],), ValueError, "no outputs"),
        (lambda: (3.0,), TypeError, "expected tensors, got float"),
        (lambda: ([1, 2],), TypeError, "expected tensors, got int"),
        (lambda: (torch.ones(2, requires_grad=True), 5), TypeError, "params must map names"),
        (lambda: (torch.ones(2, requires_grad=True), [1]), TypeError, "params must map names"),
    ],
)
def test_what_cannot_be_drawn(arguments, error, message):
    with pytest.raises(error, match=message):
        draw_graph(*arguments())


def test_max_nodes_must_be_positive():
    with pytest.raises(ValueError, match="at least 1, got 0"):
        draw_graph(torch.ones(2, requires_grad=True), max_nodes=0)


def test_a_long_chain_is_cut_and_says_so():
    x = torch.ones(2, requires_grad=True)
    y = x
    for _ in range(20_000):
        y = y + 1
    drawing = draw_graph(y, max_nodes=50)
    assert len(labels(drawing, "operation")) == 50
    assert labels(drawing, "more") == ["⋯"]
    assert drawing.note == "Only the 50 nodes nearest to the output are drawn."
    assert drawing.note in drawing.svg
    assert drawing.note in drawing.dot
    check_picture(drawing)
    # Depth alone is no limit.
    deep = draw_graph(y, max_nodes=30_000)
    assert len(deep.vertices) == 20_002
    assert deep.note == ""
    assert deep.svg.count("<g ") == 20_002


def test_a_weight_used_in_many_layers_has_one_trunk():
    w = torch.ones(2, 2, requires_grad=True)
    h = torch.ones(2, 2)
    for _ in range(30):
        h = (h @ w).tanh()
    drawing = draw_graph(h.sum(), {"w": w})
    check_picture(drawing)
    assert len(drawing.svg) < 40_000


def test_the_drawing_of_a_graph_is_always_the_same():
    assert draw_graph(small_loss()[0]).svg == draw_graph(small_loss()[0]).svg


def test_the_drawing_keeps_no_tensor():
    drawing = draw_graph(small_loss()[0])
    for v in drawing.vertices:
        assert {type(v.kind), type(v.label), type(v.detail), type(v.tooltip)} == {str}


def test_names_may_hold_anything():
    x = torch.ones(2, requires_grad=True)
    name = 'a<b>&"c"\\ \x00\ud800'
    drawing = draw_graph(x * 2, {name: x, "long": x})
    ElementTree.fromstring(drawing.svg)
    drawing = draw_graph(x * 2, {name: x})
    texts = [t.text for t in ElementTree.fromstring(drawing.svg).iter(f"{SVG}text")]
    assert 'a<b>&"c"\\ \ufffd\ufffd' in texts
    assert 'label="a<b>&\\"c\\"\\\\ ' in drawing.dot
    long = draw_graph(x * 2, {"n" * 500: x})
    check_picture(long)
    assert float(ElementTree.fromstring(long.svg).get("width")) < 600


def test_it_shows_itself_and_saves(tmp_path):
    loss, w, b = small_loss()
    drawing = draw_graph(loss, {"w": w, "b": b})
    assert drawing._repr_svg_() == str(drawing) == drawing.svg
    assert drawing.svg in drawing._repr_html_()
    for ending, content in [("svg", drawing.svg), ("dot", drawing.dot), ("gv", drawing.dot)]:
        drawing.save(tmp_path / f"graph.{ending}")
        assert (tmp_path / f"graph.{ending}").read_text(encoding="utf-8") == content
    drawing.save(str(tmp_path / "graph.html"))
    assert drawing.svg in (tmp_path / "graph.html").read_text(encoding="utf-8")
    with pytest.raises(ValueError, match=r"expected a \.svg, .* got '\.png'"):
        drawing.save(tmp_path / "graph.png")
    assert not (tmp_path / "graph.png").exists()


def test_the_picture_is_self_contained():
    svg = draw_graph(small_loss()[0]).svg
    assert set(re.findall(r"https?://[^\"' ]+", svg)) == {"http://www.w3.org/2000/svg"}
    assert "url(" not in svg
    assert "<script" not in svg


def test_dot_holds_every_vertex_and_edge():
    loss, w, b = small_loss()
    drawing = draw_graph(loss, {"w": w, "b": b})
    assert drawing.dot.startswith("digraph ")
    assert len(re.findall(r"^  n\d+ \[", drawing.dot, re.M)) == len(drawing.vertices)
    arrows = re.findall(r"^  n(\d+) -> n(\d+);$", drawing.dot, re.M)
    assert [(int(a), int(b)) for a, b in arrows] == list(drawing.edges)


def test_layout_of_random_graphs():
    rng = random.Random(0)
    for _ in range(60):
        count = rng.randint(1, 40)
        edges = [
            (a, b) for b in range(1, count) for a in rng.sample(range(b), min(b, rng.randint(0, 3)))
        ]
        widths = [rng.uniform(20, 200) for _ in range(count)]
        layout = arrange(widths, edges)
        assert sorted(v for layer in layout.layers for v in layer) == list(range(len(layout.x)))
        for a, b in edges:
            assert layout.layer_of[a] < layout.layer_of[b]
            # The trunk leads from the tail to the layer above the head.
            link = layout.link(a, b)
            while link != a:
                (link,) = layout.above[link]
        for layer in layout.layers:
            right = -1e-6
            for v in layer:
                half = widths[v] / 2 if v < count else 0
                assert layout.x[v] - half >= right
                right = layout.x[v] + half + 17


def test_layout_undoes_crossings():
    # Two layers of six whose edges cross as they are given.
    layout = arrange([40.0] * 12, [(i, 11 - i) for i in range(6)])
    upper, lower = layout.layers
    assert [11 - v for v in upper] == lower
    assert all(layout.x[v] == layout.x[11 - v] for v in upper)


def test_tooltips_name_the_line():
    drawing = draw_graph(torch.ones(2, requires_grad=True).exp())
    (box,) = [v for v in drawing.vertices if v.label == "Exp"]
    line = test_tooltips_name_the_line.__code__.co_firstlineno + 1
    assert box.tooltip == f"ExpBackward0 at {__file__}:{line}, in test_tooltips_name_the_line"
