"""Tensors from nothing: filled, counted, random."""

import numpy as np
from op_reference import tup

from .columns import (
    FLOATS,
    INTS,
    NEGATIVE_SIZE,
    NUMBERS,
    SHAPES,
    S,
    creation,
    each_shape,
    ones,
    shaped,
    shaped_once,
)

SIZES = [(), (2, 3), (0,), (7,)]
NEGATIVE_NEW = (S(ones(2), (-1,)), RuntimeError, "-1|negative")


def new(value):
    return lambda a, size: np.full(size, value)


def new_sizes(g):
    return [S(g(2), size) for size in SIZES]


ROWS = [
    creation("zeros", lambda *s, dtype: np.zeros(tup(s)), shaped, errors=[NEGATIVE_SIZE]),
    creation("ones", lambda *s, dtype: np.ones(tup(s)), shaped, errors=[NEGATIVE_SIZE]),
    creation("empty", None, shaped, errors=[NEGATIVE_SIZE], limits="arbitrary values"),
    creation("full", lambda s, v, dtype: np.full(s, v),
        lambda g: [S(s, 1, dtype=g.dtype) for s in [(), (2, 3), (0,)]]),
    creation("zeros_like", np.zeros_like, each_shape),
    creation("ones_like", np.ones_like, each_shape),
    creation("empty_like", None, each_shape, limits="arbitrary values"),
    creation("full_like", np.full_like, lambda g: [S(g(*s), 1) for s in SHAPES]),
    creation("arange", lambda *a, dtype: np.arange(*a),
        lambda g: [S(*a, dtype=g.dtype) for a in [(5,), (2, 9), (1, 10, 3), (0,), (9, 2, -2)]],
        dtypes=NUMBERS,
        errors=[(S(0, 3, 0), RuntimeError, "step|zero"), (S(3, 0, 1), RuntimeError, "step|bound")]),
    creation("linspace", lambda a, b, n, dtype: np.linspace(a, b, n),
        lambda g: [S(-1, 3, n, dtype=g.dtype) for n in (0, 1, 2, 5, 37)], dtypes=FLOATS,
        errors=[(S(0, 1, -1), RuntimeError, "steps|-1|negative")]),
    creation("eye", lambda *n, dtype: np.eye(*n),
        lambda g: [S(*n, dtype=g.dtype) for n in [(3,), (2, 4), (4, 2), (0,)]],
        errors=[NEGATIVE_SIZE]),
    creation("rand", None, shaped_once, dtypes=FLOATS),
    creation("randn", None, shaped_once, dtypes=FLOATS),
    creation("rand_like", None, each_shape, dtypes=FLOATS),
    creation("randn_like", None, each_shape, dtypes=FLOATS),
    creation("randint", None, lambda g: [S(0, 9, s, dtype=g.dtype) for s in [(), (2, 3), (0,)]],
        dtypes=NUMBERS, errors=[(S(3, 3, (2,)), RuntimeError, "3")]),
    creation("randperm", None, lambda g: [S(n, dtype=g.dtype) for n in (0, 1, 20)], dtypes=INTS,
        errors=[NEGATIVE_SIZE]),
    creation("normal", None, lambda g: [S(0.0, 1.0, (2, 3), dtype=g.dtype)], dtypes=FLOATS,
        errors=[(S(0.0, -1.0, (2,)), RuntimeError, "std|-1")]),
    creation("bernoulli", None, lambda g: [S(g(*s, low=0, high=1)) for s in SHAPES], dtypes=FLOATS,
        errors=[(S(ones(2) * 2), RuntimeError, "p|2")]),

    creation("logspace", lambda a, b, n, base=10.0, dtype=None: np.logspace(a, b, n, base=base),
        lambda g: [*[S(-1, 2, n, dtype=g.dtype) for n in (0, 1, 2, 7)], S(0, 4, 5, base=2.0,
        dtype=g.dtype)], dtypes=FLOATS, tol=2,
        errors=[(S(0, 1, -1), RuntimeError, "steps|-1|negative")]),
    creation("new_zeros", new(0), new_sizes, forms="m", errors=[NEGATIVE_NEW]),
    creation("new_ones", new(1), new_sizes, forms="m", errors=[NEGATIVE_NEW]),
    creation("new_full", lambda a, size, v: np.full(size, v),
        lambda g: [S(g(2), size, 1) for size in SIZES], forms="m",
        errors=[(S(ones(2), (-1,), 1), RuntimeError, "-1|negative")]),
    creation("new_empty", None, new_sizes, forms="m", shape=lambda a, size: size,
        errors=[NEGATIVE_NEW], limits="arbitrary values"),
    creation("randint_like", None, lambda g: [S(g(*s), 9) for s in SHAPES] + [S(g(3), 2, 4)],
        dtypes=NUMBERS, errors=[(S(ones(3), 0), RuntimeError, "from=0 >= to=0")]),
    creation("multinomial", None, lambda g: [S(g(4, low=1), 3), S(g(2, 3, low=1), 3),
        S(g(2, 3, low=1), 5, replacement=True)], forms="fm", dtypes=FLOATS, result="int64",
        shape=lambda p, n, replacement=False: (*p.shape[:-1], n),
        errors=[(S(ones(3), 4), RuntimeError, "replacement"), (S(-ones(3), 1), RuntimeError, "< 0"),
        (S(ones(3), 0), RuntimeError, "<= 0")]),
]  # fmt: skip
