"""Sums of products: vectors, matrices, stacks of matrices."""

import numpy as np

from .columns import ALL, NUMBERS, Op, S, ones


def np_added(c, a, b, beta=1, alpha=1):
    return beta * c + alpha * (a @ b)


ROWS = [
    Op("matmul", np.matmul, lambda g: [S(g(*a), g(*b)) for a, b in [((3,), (3,)), ((2, 3), (3,)),
        ((3,), (3, 2)), ((2, 3), (3, 4)), ((2, 0), (0, 3)), ((0, 2), (2, 3)), ((2, 3, 4), (4, 5)),
        ((2, 3, 4), (2, 4, 5)), ((2, 1, 3, 4), (3, 4, 2)), ((3,), (2, 3, 4)), ((2, 3, 4), (4,)),
        ((17, 19), (19, 23))]], "fmo", NUMBERS, tol=8, scale=8,
        errors=[(S(ones(2, 3), ones(4, 5)), RuntimeError, "3.*4"),
        (S(ones(2, 3), ones(3, 2).astype("float64")), RuntimeError,
        "(?i)(float|float32).*(double|float64)"),
        (S(ones(2), np.float32(1)), RuntimeError, "0|dim")]),
    Op("mm", np.matmul, lambda g: [S(g(a, b), g(b, c)) for a, b,
        c in [(2, 3, 4), (1, 1, 1), (0, 2, 3), (2, 0, 3), (3, 17, 5)]], "fmo", NUMBERS, tol=8,
        scale=8, errors=[(S(ones(2, 3), ones(4, 5)), RuntimeError, "3.*4"),
        (S(ones(2), ones(2, 2)), RuntimeError, "1|matri")]),
    Op("mv", np.matmul,
        lambda g: [S(g(a, b), g(b)) for a, b in [(2, 3), (1, 1), (0, 2), (2, 0), (17, 19)]], "fmo",
        NUMBERS, tol=8, errors=[(S(ones(2, 3), ones(4)), RuntimeError, "3.*4")]),
    Op("dot", np.dot, lambda g: [S(g(n), g(n)) for n in (0, 1, 3, 37)], "fmo", NUMBERS, tol=8,
        errors=[(S(ones(2), ones(3)), RuntimeError, "2.*3"),
        (S(ones(2, 2), ones(2)), RuntimeError, "1D|2")]),
    Op("bmm", np.matmul, lambda g: [S(g(n, a, b), g(n, b, c)) for n, a, b,
        c in [(2, 3, 4, 5), (0, 2, 3, 4), (2, 3, 0, 4), (1, 1, 1, 1)]], "fmo", NUMBERS, tol=8,
        scale=8, errors=[(S(ones(2, 3, 4), ones(3, 4, 5)), RuntimeError, "2|3")]),
    Op("addmm", np_added,
        lambda g: [S(g(2, 4), g(2, 3), g(3, 4)), S(g(4), g(2, 3), g(3, 4)),
        S(g(2, 1), g(2, 3), g(3, 4), beta=2, alpha=3), S(g(2, 4), g(2, 0), g(0, 4))], "fmio",
        NUMBERS, tol=8, scale=8,
        errors=[(S(ones(2, 4), ones(2, 3), ones(4, 4)), RuntimeError, "3.*4")]),
    Op("addmv", np_added, lambda g: [S(g(2), g(2, 3), g(3)), S(g(), g(2, 3), g(3)),
        S(g(1), g(2, 3), g(3), beta=2, alpha=3), S(g(2), g(2, 0), g(0))], "fmio", tol=8, scale=8,
        errors=[(S(ones(2), ones(2, 3), ones(4)), RuntimeError, "2x3.*4"),
        (S(ones(2), ones(2), ones(2)), RuntimeError, r"matrix|1, 1, 1")]),
    Op("baddbmm", np_added, lambda g: [S(g(2, 3, 5), g(2, 3, 4), g(2, 4, 5)),
        S(g(5), g(2, 3, 4), g(2, 4, 5)), S(g(2, 1, 5), g(2, 3, 4), g(2, 4, 5), beta=2, alpha=3),
        S(g(2, 3, 5), g(2, 3, 0), g(2, 0, 5))], "fmio", tol=8, scale=8,
        errors=[(S(ones(2, 2, 2), ones(2, 2, 3), ones(2, 4, 2)), RuntimeError, "3.*4"),
        (S(ones(2, 2, 2), ones(2, 3), ones(2, 4, 2)), RuntimeError, "3")]),
    Op("outer", np.outer, lambda g: [S(g(n), g(m)) for n, m in [(2, 3), (1, 1), (0, 2), (2, 0),
        (17, 19)]], "fmo", ALL, aliases=("ger",),
        errors=[(S(ones(2, 2), ones(2)), RuntimeError, "1-D.*2-D")]),
    Op("inner", np.inner, lambda g: [S(g(*a), g(*b)) for a, b in [((3,), (3,)), ((2, 3), (3,)),
        ((2, 3), (4, 3)), ((2, 0), (0,)), ((), (2, 3)), ((17, 19), (19,)), ((2, 3, 4), (5, 4))]],
        "fmo", tol=8, scale=8, errors=[(S(ones(2, 3), ones(2, 4)), RuntimeError, "3.*4")]),
    Op("vdot", np.vdot, lambda g: [S(g(n), g(n)) for n in (0, 1, 3, 37)], "fmo", tol=8,
        errors=[(S(ones(2), ones(3)), RuntimeError, "2.*3"),
        (S(ones(2, 2), ones(2)), RuntimeError, "1D|2")]),
]  # fmt: skip
