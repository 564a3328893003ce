"""The same elements in another shape, order or company."""

from dataclasses import replace

import numpy as np
from op_reference import (
    np_cuts,
    np_diag_embed,
    np_expand,
    np_flatten,
    np_narrow,
    np_squeeze,
)

from .columns import ALL, ANY, Op, S, each_shape, ones, rearrange

MATRICES = [(3, 3), (2, 5), (5, 2), (0, 3), (2, 3, 4)]
ONE_DIM = (S(ones(3)), RuntimeError, "at least 2 dimensions")
NOTHING = (S([]), RuntimeError, "non-empty")


def triangles(g):
    return [S(g(*shape), k) for shape in MATRICES for k in (-1, 0, 2)]


ROWS = [
    rearrange("reshape", lambda a, *s: a.reshape(*s), lambda g: [S(g(2, 3), (3, 2)),
        S(g(2, 3), (-1,)), S(g(1), ()), S(g(0, 3), (3, 0)), S(g(2, 3, 4), (4, 6))],
        errors=[(S(ones(6), (4, 2)), RuntimeError, r"4, 2.*6"),
        (S(ones(6), (-1, -1)), RuntimeError, "-1|one"),
        (S(ones(6), (-1, 4)), RuntimeError, "4.*6")]),
    rearrange("view", lambda a, *s: a.reshape(*s), lambda g: [S(g(2, 3), (3, 2)), S(g(2, 3), -1),
        S(g(6), 2, 3), S(g(0, 3), (3, 0)), S(g(1), ())], forms="m",
        errors=[(S(ones(6), (4, 2)), RuntimeError, r"4, 2.*6")], strided=False),
    rearrange("view_as", lambda a, b: a.reshape(b.shape),
        lambda g: [S(g(2, 3), g(3, 2)), S(g(6), g(2, 3))], forms="m",
        errors=[(S(ones(6), ones(4)), RuntimeError, "4.*6")], strided=False),
    rearrange("reshape_as", lambda a, b: a.reshape(b.shape),
        lambda g: [S(g(2, 3), g(3, 2)), S(g(6), g(2, 3)), S(g(0, 3), g(3, 0))], forms="m",
        errors=[(S(ones(6), ones(4)), RuntimeError, "4.*6")]),
    rearrange("t", np.transpose, lambda g: [S(g(2, 3)), S(g(3)), S(g())],
        errors=[(S(ones(1, 1, 1)), RuntimeError, "3")]),
    rearrange("transpose", lambda a, i, j: np.swapaxes(a, i, j) if a.ndim else a,
        lambda g: [S(g(2, 3), 0, 1), S(g(2, 3, 4), -1, 0), S(g(2, 3), 1, 1), S(g(), 0, -1)],
        aliases=("swapdims", "swapaxes"), errors=[(S(ones(2, 3), 0, 2), IndexError, "2")]),
    rearrange("movedim", np.moveaxis, lambda g: [S(g(2, 3, 4), 0, -1), S(g(2, 3, 4), (0, 1),
        (2, 0)), S(g(2, 3), 1, 1), S(g(), (), ())], aliases=("moveaxis",),
        errors=[(S(ones(2, 3), 0, 2), IndexError, "2"),
        (S(ones(2, 3), (0, 0), (0, 1)), RuntimeError, "(?i)repeated|unique|source")]),
    rearrange("permute", np.transpose,
        lambda g: [S(g(2, 3, 4), (2, 0, 1)), S(g(2, 3), (-1, 0)), S(g(), ())],
        errors=[(S(ones(2, 3), (0, 0)), RuntimeError, "dim|0"),
        (S(ones(2, 3), (0,)), RuntimeError, "2|1")]),
    rearrange("squeeze", np_squeeze, lambda g: [S(g(1, 3, 1)), S(g(1, 3, 1), 0), S(g(1, 3, 1), 1),
        S(g(1, 3, 1), (0, 2)), S(g())], errors=[(S(ones(2, 3), 2), IndexError, "2")]),
    rearrange("unsqueeze", np.expand_dims,
        lambda g: [S(g(2, 3), d) for d in (-3, -1, 0, 1, 2)] + [S(g(), 0)],
        errors=[(S(ones(2, 3), 3), IndexError, "3")]),
    rearrange("expand", np_expand, lambda g: [S(g(3), 2, 3), S(g(2, 1), (2, 4)), S(g(2, 1), -1, 3),
        S(g(), 3), S(g(1), 0), S(g(), ())], forms="m",
        errors=[(S(ones(3), 4), RuntimeError, "3.*4|4.*3"),
        (S(ones(2, 2), 2), RuntimeError, "2|1")]),
    rearrange("expand_as", lambda a, b: np.broadcast_to(a, b.shape),
        lambda g: [S(g(3), g(2, 3)), S(g(2, 1), g(2, 4))], forms="m",
        errors=[(S(ones(3), ones(4)), RuntimeError, "3.*4|4.*3")]),
    rearrange("broadcast_to", np.broadcast_to,
        lambda g: [S(g(3), (2, 3)), S(g(2, 1), (2, 4)), S(g(), (3,))],
        errors=[(S(ones(3), (4,)), RuntimeError, "3.*4|4.*3")]),
    rearrange("flatten", np_flatten,
        lambda g: [S(g(2, 3, 4)), S(g(2, 3, 4), 1), S(g(2, 3, 4), 0, 1), S(g()), S(g(2, 0))],
        errors=[(S(ones(2, 3), 1, 0), RuntimeError, "start|end")]),
    rearrange("select", lambda a, dim, i: np.take(a, i, dim),
        lambda g: [S(g(2, 3), 0, 1), S(g(2, 3, 4), -2, -1), S(g(5), 0, 0)],
        errors=[(S(ones(2, 3), 0, 2), IndexError, "2"), (S(ones(2, 3), 2, 0), IndexError, "2")]),
    rearrange("narrow", np_narrow,
        lambda g: [S(g(5), 0, 1, 3), S(g(2, 3), 1, 0, 0), S(g(2, 3, 4), -1, 2, 2)],
        errors=[(S(ones(5), 0, 3, 3), RuntimeError, "3|5"),
        (S(ones(5), 0, 0, -1), RuntimeError, "negative|-1")]),
    rearrange("unbind", lambda a, dim=0: tuple(np.moveaxis(a, dim, 0)),
        lambda g: [S(g(3)), S(g(2, 3), 1), S(g(2, 3, 4), dim=-2)],
        errors=[(S(np.float32(1)), ANY, "")]),
    rearrange("chunk", lambda a, n, dim=0: np_cuts(a, max(1, -(-a.shape[dim] // n)), dim),
        lambda g: [S(g(5), 2), S(g(2, 3), 3, 1), S(g(4, 2), 3, dim=0)],
        errors=[(S(ones(3), 0), RuntimeError, "0|chunks")]),
    rearrange("split", np_cuts, lambda g: [S(g(5), 2), S(g(2, 3), 1, 1), S(g(5, 2), [2, 3], dim=0)],
        errors=[(S(ones(5), [2, 2]), RuntimeError, "5|2"),
        (S(ones(5), -1), RuntimeError, "-1|negative")]),
    rearrange("split_with_sizes", np_cuts, lambda g: [S(g(5), [2, 3]), S(g(2, 3), [1, 0, 2], 1)],
        errors=[(S(ones(5), [2, 2]), RuntimeError, "5|2")]),
    rearrange("alias_copy", np.copy, each_shape, forms="fo", view=False),
    rearrange("expand_copy", np_expand, lambda g: [S(g(3), (2, 3)), S(g(2, 1), (2, 4)), S(g(2, 1),
        (-1, 3)), S(g(), (3,))], forms="fo", view=False,
        errors=[(S(ones(3), (4,)), RuntimeError, "3.*4|4.*3")]),
    rearrange("clone", np.copy, each_shape, view=False),
    rearrange("contiguous", np.copy, each_shape, forms="m"),
    rearrange("detach", np.copy, each_shape, order=0),
    Op("cat", lambda xs, dim=0: np.concatenate(xs, axis=dim), lambda g: [S([g(2, 3), g(1, 3)]),
        S([g(2, 3), g(2, 1), g(2, 0)], dim=1), S([g(3)], dim=-1), S((g(0), g(2)))], "fo", ALL,
        aliases=("concat", "concatenate"), scale=8,
        errors=[(S([ones(2, 3), ones(2, 4)]), RuntimeError, "3.*4"),
        (S([]), (RuntimeError, ValueError), "empty|non-empty|at least"),
        (S([ones(2), ones(2, 2)]), RuntimeError, "1.*2|dim"),
        (S([ones(2)], dim=1), IndexError, "1")]),
    Op("stack", lambda xs, dim=0: np.stack(xs, axis=dim), lambda g: [S([g(2, 3), g(2, 3)]),
        S([g(3), g(3)], dim=-1), S([g(), g(), g()]), S([g(0, 2)], dim=1)], "fo", ALL,
        errors=[(S([ones(2), ones(3)]), RuntimeError, "2.*3"),
        (S([]), RuntimeError, "empty|non-empty|at least")]),
    rearrange("diagonal", lambda a, k=0, i=0, j=1: np.diagonal(a, k, i, j),
        lambda g: [S(g(3, 4), k) for k in (-2, 0, 1, 4)] + [S(g(2, 3, 4), 0, -2, -1),
        S(g(2, 3, 4), 1, 2, 0)], errors=[(S(ones(2)), IndexError, "1"),
        (S(ones(2, 2), 0, 0, 0), RuntimeError, "identical")]),
    Op("diag", np.diag, lambda g: [S(g(3, 4), k) for k in (-1, 0, 2)] + [S(g(3), k) for k in
        (-2, 0, 1)] + [S(g(0))], "fmo", ALL, errors=[(S(ones(2, 2, 2)), RuntimeError, "1D or 2D")]),
    Op("diag_embed", np_diag_embed, lambda g: [S(g(3)), S(g(2, 3), 1), S(g(2, 3), -1, 0, 2),
        S(g(2, 0))], "fm", ALL, scale=1, errors=[(S(ones(2), 0, 0, 0), RuntimeError, "identical")]),
    Op("flip", np.flip, lambda g: [S(g(5), (0,)), S(g(2, 3), (0, 1)), S(g(2, 3, 4), (-1,)),
        S(g(2, 0), (0,)), S(g(2, 3), ())], "fm", ALL, errors=[
        (S(ones(2, 2), (0, 0)), RuntimeError, "multiple times"),
        (S(ones(2, 2), (2,)), IndexError, "2")]),
    Op("tril", np.tril, triangles, "fmio", ALL, errors=[ONE_DIM]),
    Op("triu", np.triu, triangles, "fmio", ALL, errors=[ONE_DIM]),
    Op("hstack", np.hstack, lambda g: [S([g(2, 3), g(2, 1)]), S([g(3), g(2)]), S([g(), g()]),
        S([g(2, 3, 1), g(2, 1, 1)])], "fo", ALL, errors=[NOTHING,
        (S([ones(2, 2), ones(3)]), RuntimeError, "2 and 1")]),
    Op("vstack", np.vstack, lambda g: [S([g(2, 3), g(1, 3)]), S([g(3), g(2, 3)]), S([g(), g()])],
        "fo", ALL, aliases=("row_stack",), errors=[NOTHING,
        (S([ones(2), ones(3)]), RuntimeError, "2.*3")]),
    Op("dstack", np.dstack, lambda g: [S([g(2, 3), g(2, 3)]), S([g(3), g(1, 3)]), S([g(), g()]),
        S([g(2, 3, 1), g(2, 3, 2)])], "fo", ALL, errors=[NOTHING,
        (S([ones(2), ones(3)]), RuntimeError, "2.*3")]),
    Op("column_stack", np.column_stack, lambda g: [S([g(3), g(3)]), S([g(2, 3), g(2)]),
        S([g(2, 3), g(2, 1)])], "fo", ALL, errors=[NOTHING,
        (S([ones(2), ones(3)]), RuntimeError, "2.*3")]),
]  # fmt: skip

LISTS = ("split", "split_with_sizes", "unbind")
COPIES = (
    *("narrow", "permute", "select", "squeeze", "t", "transpose", "unsqueeze", "view"),
    *LISTS,
)


def copied(row):
    """The function that copies what the function of a view shows."""
    forms = "f" if row.name in LISTS else "fo"
    return replace(row, name=f"{row.name}_copy", view=False, forms=forms, aliases=())


BY_NAME = {row.name: row for row in ROWS}
BY_NAME["view"] = replace(BY_NAME["reshape"], name="view", strided=False)
BY_NAME["split"] = replace(
    BY_NAME["split"],
    samples=lambda g: [S(g(5), 2), S(g(2, 3), 1, 1), S(g(5, 2), 3, dim=0)],
    errors=[(S(ones(5), -1), RuntimeError, "-1|negative")],
)
ROWS += [copied(BY_NAME[name]) for name in COPIES]
