"""Linear algebra: inverses, systems of equations, factorisations, norms of matrices."""

import numpy as np

from .columns import INTS, NUMBERS, Op, S, binary, longs, ones

REAL = ("float32", "float64")
SYMMETRIC = "gradients are those for symmetric changes of the matrix: see test_linalg.py"
UNIQUE = "factors are unique up to signs: see test_linalg.py"
SINGULAR = (S(np.zeros((2, 2), "float32")), RuntimeError, "singular")
NOT_SQUARE = (S(ones(2, 3)), RuntimeError, "2 by 3")
WHOLE = (S(longs(1, 2).reshape(1, 2)), RuntimeError, "Long|square|1 by 2")
FLAT = (S(ones(2)), RuntimeError, "at least 2 dim|2 or more dim")
BATCHES = [(), (2,), (2, 1)]


def regular(g, *shape):
    """Square matrices far from singular."""
    m = g(*shape)
    n = m.shape[-1]
    return m + np.asarray(2.5 * max(n, 1) * np.eye(n), m.dtype)


def positive(g, *shape):
    """Positive definite matrices."""
    m = regular(g, *shape)
    return np.asarray(
        (m + np.swapaxes(m, -1, -2)) / 2 + 2 * m.shape[-1] * np.eye(m.shape[-1]), m.dtype
    )


def squares(g):
    return [S(regular(g, *b, n, n)) for b in BATCHES for n in (1, 3)] + [
        S(regular(g, 0, 0)),
        S(regular(g, 0, 2, 2)),
    ]


def positives(g):
    return [S(positive(g, *b, n, n)) for b in BATCHES for n in (1, 3)] + [S(positive(g, 0, 0))]


def rectangles(g):
    """Matrices of full rank whose singular values differ."""

    def spread(*shape):
        m = g(*shape)
        k = min(m.shape[-2:])
        i = np.arange(k)
        m[..., i, i] += 4.0 * (i + 1)
        return m

    return [S(spread(*b, *mn)) for b in BATCHES for mn in ((3, 2), (2, 3), (3, 3))]


def systems(g):
    return [
        S(regular(g, 3, 3), g(3)),
        S(regular(g, 3, 3), g(3, 2)),
        S(regular(g, 2, 3, 3), g(2, 3)),
        S(regular(g, 2, 3, 3), g(3, 4)),
        S(regular(g, 3, 3), g(2, 3, 1)),
        S(regular(g, 2, 1, 3, 3), g(4, 3, 2)),
        S(regular(g, 3, 3), g(2, 3), left=False),
        S(regular(g, 0, 0), g(0, 2)),
    ]


def np_solve(a, b, left=True):
    if not left:
        return np.swapaxes(np_solve(np.swapaxes(a, -1, -2), np.swapaxes(b, -1, -2)), -1, -2)
    if b.ndim == 1 or b.shape == a.shape[:-1]:
        return np.linalg.solve(a, b[..., None])[..., 0]
    return np.linalg.solve(a, b)


def np_triangular(a, b, upper, left=True, unitriangular=False):
    part = np.triu(a, 1) if upper else np.tril(a, -1)
    diagonal = np.ones(a.shape[-1]) if unitriangular else np.diagonal(a, axis1=-2, axis2=-1)
    return np_solve(part + diagonal[..., None] * np.eye(a.shape[-1]), b, left)


def triangular(g):
    return [
        S(regular(g, *b, 3, 3), g(*b, 3, 3), upper=u, left=left, unitriangular=unit)
        for b in BATCHES[:2]
        for u, left, unit in ((True, True, False), (False, True, False), (False, False, False),
        (True, False, True))
    ]  # fmt: skip


def np_inv_ex(a):
    return np.linalg.inv(a), np.zeros(a.shape[:-2], "int32")


def np_solve_ex(a, b, left=True):
    rows = a.shape[:-2]
    return np_solve(a, b, left), np.zeros(rows, "int32")


def np_lower(x, L, upper=False):  # noqa: N803 - the parameter's name
    if upper:
        part = np.triu(L)
        return np.linalg.solve(np.swapaxes(part, -1, -2) @ part, x)
    part = np.tril(L)
    return np.linalg.solve(part @ np.swapaxes(part, -1, -2), x)


def np_matrix_norm(a, order="fro", dim=(-2, -1), keepdim=False):
    return np.linalg.norm(a, order, dim, keepdim)


def np_norm(a, order=None, dim=None, keepdim=False):
    if order is None and dim is None:
        total = np.linalg.norm(a.ravel())
        return total.reshape((1,) * a.ndim) if keepdim else total
    return np.linalg.norm(a, order, dim, keepdim)


def norms(g):
    return [
        S(r.args[0], o)
        for r in rectangles(g)[:6]
        for o in ("fro", "nuc", 1, -1, 2, -2, np.inf, -np.inf)
    ] + [
        S(g(3, 2, 4), "fro", (0, 2), True),
        S(g(3, 2, 4), 1, (2, 0)),
        S(g(3, 2, 4), np.inf, (2, 0)),
    ]


def np_cross(a, b, dim=-1):
    return np.cross(a, b, axis=dim)


def np_vecdot(a, b, dim=-1):
    return (a * b).sum(axis=dim)


def row(name, ref, samples, forms="fo", **columns):
    given = {"low": -1.0, "high": 1.0, "tol": 64, "scale": 1, "strided": False} | columns
    given.setdefault("errors", [FLAT, WHOLE])
    return Op(name, ref, samples, forms, REAL, **given)


ROWS = [
    row("inverse", np.linalg.inv, squares, "fmo", aliases=("linalg.inv",), scale=32,
        errors=[FLAT, WHOLE, NOT_SQUARE, SINGULAR]),
    row("linalg.inv_ex", np_inv_ex, squares, "f", errors=[FLAT, WHOLE, NOT_SQUARE]),
    row("linalg.solve", np_solve, systems, scale=32,
        errors=[(S(ones(2, 3), ones(2)), RuntimeError, "2 by 3"),
        (S(ones(2, 2), ones(3)), RuntimeError, "2x2 and 3x1"),
        (S(np.zeros((2, 2), "float32"), ones(2)), RuntimeError, "singular"),
        (S(ones(2, 2), ones(2).astype("float64")), RuntimeError, "Float.*Double")]),
    row("linalg.solve_ex", np_solve_ex, systems, "f",
        errors=[(S(ones(2, 3), ones(2)), RuntimeError, "2 by 3")]),
    row("det", np.linalg.det, squares, "fmo", aliases=("linalg.det",),
        errors=[FLAT, WHOLE, NOT_SQUARE]),
    row("slogdet", np.linalg.slogdet, squares, "fm", errors=[FLAT, WHOLE, NOT_SQUARE]),
    row("linalg.slogdet", np.linalg.slogdet, squares, "f", errors=[FLAT, WHOLE, NOT_SQUARE]),
    row("logdet", lambda a: np.linalg.slogdet(a)[1], squares, "fm",
        errors=[FLAT, WHOLE, NOT_SQUARE]),
    row("linalg.cholesky", None, positives, order=0, limits=SYMMETRIC,
        errors=[FLAT, WHOLE, NOT_SQUARE,
        (S(-ones(1, 1)), RuntimeError, "leading minor of order 1")]),
    row("linalg.cholesky_ex", None,
        positives, "f", order=0, limits=SYMMETRIC, errors=[FLAT, WHOLE, NOT_SQUARE]),
    row("cholesky", None,
        lambda g: [*positives(g), *(S(s.args[0], upper=True) for s in positives(g))], order=0,
        limits=SYMMETRIC, errors=[FLAT, WHOLE, NOT_SQUARE]),
    row("cholesky_solve", np_lower, lambda g: [S(g(*b, 3, 2), regular(g, *b, 3, 3), u)
        for b in BATCHES for u in (False, True)], "fmo",
        errors=[(S(ones(3, 1), ones(2, 2)), RuntimeError, "2 by 2.*3 by 1")]),
    row("cholesky_inverse", lambda a, upper=False: np_lower(np.eye(a.shape[-1]), a, upper),
        lambda g: [S(regular(g, *b, 3, 3), upper=u) for b in BATCHES for u in (False, True)],
        "fmo", errors=[FLAT, WHOLE, NOT_SQUARE]),
    row("linalg.solve_triangular", np_triangular, triangular, scale=32,
        errors=[(S(ones(2, 2), ones(3, 1), upper=True), RuntimeError, "2x2 and 3x1"),
        (S(ones(2, 2), ones(2), upper=True), RuntimeError, "B must have at least 2")]),
    row("linalg.qr", None, rectangles, "f", order=0, limits=UNIQUE,
        shape=lambda a: (*a.shape[:-1], min(a.shape[-2:])),
        errors=[FLAT, (S(ones(2, 2), mode="x"), RuntimeError, "reduced")]),
    row("qr", None, rectangles, "f", order=0, limits=UNIQUE,
        shape=lambda a: (*a.shape[:-1], min(a.shape[-2:]))),
    row("linalg.eigh", None, positives, "f", order=0, limits=UNIQUE, shape=lambda a: a.shape[:-1],
        errors=[FLAT, NOT_SQUARE, (S(ones(2, 2), UPLO="X"), RuntimeError, "'L' or 'U'")]),
    row("linalg.eigvalsh", None, positives, order=0, limits=SYMMETRIC, shape=lambda a: a.shape[:-1],
        errors=[FLAT, NOT_SQUARE]),
    row("linalg.svd", None, rectangles, "f", order=0, limits=UNIQUE,
        shape=lambda a: (*a.shape[:-1], a.shape[-2]),
        errors=[FLAT, WHOLE, (S(ones(1, 1) * np.float32(np.nan)), RuntimeError, "non-finite")]),
    row("svd", None, rectangles, "f", order=0, limits=UNIQUE,
        shape=lambda a: (*a.shape[:-1], min(a.shape[-2:]))),
    row("linalg.svdvals", lambda a: np.linalg.svd(a, compute_uv=False), rectangles),
    row("linalg.pinv", np.linalg.pinv, rectangles),
    row("pinverse", np.linalg.pinv, rectangles, "fm", errors=[FLAT]),
    row("linalg.lstsq", None, lambda g: [S(r.args[0], g(*r.args[0].shape[:-1], *more))
        for r in rectangles(g)[:6] for more in ((), (2,))], "f", order=0,
        limits="two of its results are no functions of the reals: see test_linalg.py",
        shape=lambda a, b: (*a.shape[:-2], a.shape[-1], *b.shape[a.ndim - 1 :]),
        errors=[(S(ones(2, 2), ones(3)), RuntimeError, "2 and 3"),
        (S(np.full((2, 2), np.nan, "float32"), ones(2)), RuntimeError, "input has NaN/Inf"),
        (S(ones(2, 2), ones(2), driver="x"), RuntimeError, "gelsy")]),
    row("linalg.matrix_rank", lambda a, *_: np.asarray(np.linalg.matrix_rank(a), "int64"),
        rectangles, result="int64", order=0, errors=[FLAT]),
    row("linalg.matrix_norm", np_matrix_norm, norms,
        errors=[FLAT, (S(ones(2, 2), "x"), RuntimeError, "x not supported"),
        (S(ones(2, 2), 3), RuntimeError, "3 not supported")]),
    row("linalg.norm", np_norm, lambda g: [S(g(3)), S(g(2, 3)), S(g(2, 3), keepdim=True),
        S(g(4), 3), S(g(2, 3), 1), S(g(2, 3), "nuc"), S(g(2, 3), 3, 1),
        S(g(2, 3, 2), "fro", (0, 1))],
        errors=[(S(ones(2, 2, 2), 2), RuntimeError, "1D or 2D. Got 3D")]),
    row("linalg.cond", np.linalg.cond, lambda g: [S(regular(g, *b, 3, 3), *p) for b in BATCHES
        for p in ((), (1,), ("fro",), (-2,))]),
    row("matrix_power", np.linalg.matrix_power, lambda g: [S(regular(g, *b, 2, 2), n)
        for b in BATCHES for n in (2, 0, 1, 5, -1, -3)], "fmo", aliases=("linalg.matrix_power",),
        errors=[(S(ones(2, 3), 2), RuntimeError, "2 by 3")]),
    row("linalg.multi_dot", lambda ts: np.asarray(np.linalg.multi_dot(ts)), lambda g: [
        S([g(2, 3), g(3, 4)]), S([g(3), g(3, 4), g(4, 2), g(2)]),
        S([g(2, 3), g(3, 1), g(1, 4), g(4, 2)])], strided=False,
        errors=[(S([ones(2, 2)]), RuntimeError, "at least 2"),
        (S([ones(2, 2), ones(3, 3)]), RuntimeError, "2, 2.*3, 3")]),
    Op("linalg.cross", np_cross, lambda g: [S(g(3), g(3)), S(g(2, 3), g(1, 3)),
        S(g(3, 2), g(3, 2), dim=0)], "fo", NUMBERS, scale=1, tol=8,
        errors=[(S(ones(2), ones(2)), RuntimeError, "length 3"),
        (S(ones(3), ones(2, 3)), RuntimeError, "same number of dim")]),
    Op("cross", np_cross, lambda g: [S(g(2, 3), g(2, 3)), S(g(3, 2), g(3, 2), dim=0)], "fmo",
        NUMBERS, scale=1, tol=8, errors=[(S(ones(2), ones(2)), RuntimeError, "size 3")]),
    Op("linalg.diagonal", lambda a, offset=0: np.diagonal(a, offset, -2, -1),
        lambda g: [S(g(2, 3)), S(g(2, 3, 4), offset=1)], "f", view=True, scale=1,
        errors=[(S(ones(2)), IndexError, "1|dim")]),
    Op("linalg.vecdot", np_vecdot, lambda g: [S(g(3), g(3)), S(g(2, 3), g(3)),
        S(g(3, 2), g(3, 1), dim=0)], "fo", tol=8,
        errors=[(S(ones(2), ones(3)), RuntimeError, "2.*3")]),
    Op("trace", np.trace, lambda g: [S(g(2, 3)), S(g(3, 3)), S(g(0, 2))], "fm", result="sum", tol=8,
        errors=[(S(ones(2)), RuntimeError, "expected a matrix")]),
    binary("gcd", np.gcd, lambda g: [S(g(3), g(3)), S(g(2, 3), g(3)), S(g(0), g(1))], dtypes=INTS,
        order=0, special=False, low=-40, high=40,
        errors=[(S(ones(2), ones(2)), RuntimeError, "gcd.*Float")]),
    binary("lcm", np.lcm, lambda g: [S(g(3), g(3)), S(g(2, 3), g(3)), S(g(0), g(1))], dtypes=INTS,
        order=0, special=False, low=-10, high=10,
        errors=[(S(ones(2), ones(2)), RuntimeError, "lcm.*Float")]),
]  # fmt: skip
