"""Elements picked, placed and added up by number or by mask."""

import numpy as np
from op_reference import (
    np_gather,
    np_index_add,
    np_index_fill,
    np_index_put,
    np_masked_fill,
    np_nonzero,
    np_scatter,
    np_scatter_add,
    np_take_along_dim,
)

from .columns import ALL, SHAPES, Op, S, longs, ones

FLOAT_INDEX = "(?i)long|int64"


def slices(fresh):
    """Index and source along a dimension; with `fresh` no number comes twice."""

    def f(g):
        index = (lambda n, below: g.distinct(n, below=below)) if fresh else g.index
        return [
            S(g(5), 0, index(3, below=5), g(3)),
            S(g(3, 4), 1, index(2, below=4), g(3, 2)),
            S(g(2, 3, 4), -2, index(2, below=3), g(2, 2, 4)),
            S(g(3), 0, index(0, below=3), g(0)),
        ]

    return f


def places(fresh):
    """Index and source of `scatter`; with `fresh` no place is written twice."""

    def f(g):
        def index(*shape, below, dim):
            return (g.distinct(*shape, below=below, dim=dim) if fresh else
                g.index(*shape, below=below))  # fmt: skip

        return [S(g(5), 0, index(3, below=5, dim=0), g(3)),
            S(g(3, 4), 1, index(2, 3, below=4, dim=1), g(2, 3)),
            S(g(3, 4), -2, index(2, 4, below=3, dim=0), g(3, 4)),
            S(g(3), 0, index(0, below=3, dim=0), g(0))]  # fmt: skip

    return f


BAD_PLACE = [
    (S(ones(3), 0, longs(5), ones(1)), (RuntimeError, IndexError), "5"),
    (S(ones(3), 0, longs(0, 1), ones(1)), RuntimeError, "index"),
    (S(ones(3), 0, ones(1), ones(1)), RuntimeError, FLOAT_INDEX),
]
BAD_SLICE = [
    (S(ones(3), 0, longs(5), ones(1)), IndexError, "index"),
    (S(ones(3), 0, longs(1, 2), ones(1)), (RuntimeError, IndexError), "2.*1"),
]
BAD_MASK = [
    (S(ones(3), ones(3)), RuntimeError, "(?i)bool"),
    (S(ones(3), np.ones(4, bool)), RuntimeError, "3.*4|4.*3"),
]


def filled(errors):
    """The error samples of a mask, with the value that is written."""
    return [(S(*s.args, 1.0), exception, pattern) for s, exception, pattern in errors]


ROWS = [
    Op("gather", np_gather, lambda g: [S(g(5), 0, g.index(7, below=5)),
        S(g(3, 4), 1, g.index(2, 2, below=4)), S(g(3, 4), -2, g.index(5, 4, below=3)),
        S(g(2, 3, 4), 2, g.index(2, 3, 1, below=4)), S(g(3), 0, g.index(0, below=3))], "fmo", ALL,
        scale=16,
        errors=[(S(ones(2, 2), 1, longs(5).reshape(1, 1)), (RuntimeError, IndexError), "5"),
        (S(ones(2, 2), 1, ones(1, 1)), RuntimeError, "(?i)int64|long"),
        (S(ones(2, 2), 1, longs(0)), RuntimeError, "dim")]),
    Op("index_select", lambda a, dim, i: np.take(a, i, dim),
        lambda g: [S(g(5), 0, g.index(7, below=5)), S(g(3, 4), 1, g.index(2, below=4)),
        S(g(2, 3, 4), -2, g.index(5, below=3)), S(g(3, 2), 0, g.index(0, below=3))], "fmo", ALL,
        scale=16, errors=[(S(ones(3), 0, longs(3)), (IndexError, RuntimeError), ""),
        (S(ones(3), 0, ones(1)), (IndexError, RuntimeError), "(?i)int|long")]),
    Op("take", lambda a, i: a.reshape(-1)[i], lambda g: [S(g(3, 4), g.index(5, below=3)),
        S(g(5), g.index(2, 3, below=5)), S(g(2, 3), g.index(below=2)),
        S(g(3), g.index(0, below=3))], "fmo", ALL,
        errors=[(S(ones(3), longs(5)), IndexError, "5.*3"),
        (S(ones(3), ones(1)), RuntimeError, FLOAT_INDEX)]),
    Op("take_along_dim", np_take_along_dim, lambda g: [S(g(3, 4), g.index(2, 4, below=3), 0),
        S(g(3, 4), g.index(3, 1, below=4), 1), S(g(1, 4), g.index(3, 2, below=4), -1),
        S(g(2, 3), g.index(5, below=2)), S(g(3, 4), longs(-1, 0, 2).reshape(3, 1), 1)],
        "fmo", ALL, scale=16,
        errors=[(S(ones(3, 2), longs(1), 0), RuntimeError, "2 dim.*1 dim"),
        (S(ones(3), longs(-4), 0), IndexError, "-4.*3"),
        (S(ones(3, 2), ones(1, 1), 0), RuntimeError, FLOAT_INDEX)]),
    Op("index_add", np_index_add, lambda g: [*slices(False)(g), S(g(3), 0, g.index(5, below=3),
        g(5), alpha=g.number)], "fmio", ALL, scale=16, tol=4, errors=BAD_SLICE),
    Op("index_copy", lambda a, dim, i, b: np_index_fill(a, dim, i, b), slices(True), "fmio", ALL,
        scale=16, errors=BAD_SLICE),
    Op("index_fill", np_index_fill, lambda g: [S(*s.args[:3], 1) for s in slices(False)(g)], "fmi",
        ALL, scale=16, errors=[(S(ones(3), 0, longs(5), 1), IndexError, "5.*3"),
        (S(ones(3), 0, ones(1), 1), (IndexError, RuntimeError), FLOAT_INDEX)]),
    Op("index_put", np_index_put, lambda g: [S(g(5), (g.distinct(3, below=5),), g(3)),
        S(g(3, 4), (g.distinct(2, below=3), g.index(2, below=4)), g(2)),
        S(g(3, 4), (g.distinct(2, below=3),), g(4)), S(g(2, 3), (g.mask(2, 3),), g()),
        S(g(3), (g.index(5, below=3),), g(5), accumulate=True)], "fmi", ALL, scale=16, tol=4,
        errors=[(S(ones(3), (longs(5),), np.float32(1)), IndexError, "5.*3"),
        (S(ones(3), (longs(1, 2),), ones(3)), RuntimeError, "3.*2")]),
    Op("masked_fill", np_masked_fill, lambda g: [S(g(*s), g.mask(*s), 1) for s in SHAPES]
        + [S(g(2, 3), g.mask(3), g()), S(g(2, 3), g.mask(2, 1), 1)], "fmi", ALL,
        errors=filled(BAD_MASK)),
    Op("masked_select", lambda a, m: np.broadcast_to(a, np.broadcast_shapes(a.shape, m.shape))[
        np.broadcast_to(m, np.broadcast_shapes(a.shape, m.shape))], lambda g: [
        *[S(g(*s), g.mask(*s)) for s in SHAPES if s], S(g(2, 3), g.mask(3)), S(g(3),
        g.mask(2, 1))], "fmo", ALL, errors=BAD_MASK),
    Op("nonzero", np_nonzero, lambda g: [*[S(g(*s)) for s in SHAPES], S(g(2, 3), as_tuple=True)],
        "fmo", ALL, "int64", 0, errors=[(S("text"), TypeError, "str|Tensor")]),
    # PyTorch has the gradient of scatter's source only where its shape is the index's
    Op("scatter", np_scatter, lambda g: [*places(True)(g), S(g(3, 4), 1, g.index(2, 3, below=4),
        g.number)], "fmio", ALL, scale=16, errors=BAD_PLACE),
    Op("scatter_add", np_scatter_add, places(False), "fmio", ALL, scale=16, tol=4,
        errors=BAD_PLACE),
]  # fmt: skip
