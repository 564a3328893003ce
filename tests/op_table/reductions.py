"""All elements, or those along dimensions, to one."""

import numpy as np
from op_reference import (
    axis,
    max_like,
    moment,
    moment_and_mean,
    np_logsumexp,
    np_norm,
    np_running,
    wide,
)

from .columns import (
    ALL,
    ANY,
    BAD_DIM,
    FLOATS,
    TIES,
    Op,
    S,
    each_dim,
    longs,
    one_dim,
    ones,
    over_dims,
    reduction,
    spread,
    with_empty,
)

NO_INTEGERS = (S(longs(1, 2)), RuntimeError, "(?i)floating point")


def with_nan(samples):
    """Samples of floating types have a nan among the first elements."""

    def f(g):
        for s in (made := samples(g)):
            if g.dtype in FLOATS and s.args[0].size > 1:
                s.args[0].flat[1] = np.nan
        return made

    return f


def scanned(g):
    return [*each_dim(g), S(g(0, 3), dim=0), S(g(37), dim=0)]


def orders(g):
    """The norms that have a formula of their own, and two that have none."""
    every = [S(g(37), p) for p in (0, 1, 2, 3, 0.5, np.inf, -np.inf)]
    return [S(g(2, 3)), S(g()), *every, S(g(2, 3, 4), 2, dim=1), S(g(2, 3, 4), 1, dim=(0, 2)),
        S(g(4, 3), np.inf, dim=0, keepdim=True), S(g(2, 3, 4), 3, dim=-1)]  # fmt: skip


ROWS = [
    reduction("sum", lambda a, dim=None, keepdim=False: np.sum(wide(a), axis=dim, keepdims=keepdim),
        with_empty(over_dims), dtypes=ALL, result="sum"),
    reduction("mean", axis(np.mean), with_empty(over_dims), dtypes=FLOATS,
        errors=[BAD_DIM, (S(longs(1, 2)), RuntimeError, "(?i)mean.*(long|int64)")]),
    reduction("prod", lambda a, dim=None,
        keepdim=False: np.prod(wide(a), axis=dim, keepdims=keepdim), with_empty(one_dim),
        dtypes=ALL, result="sum", errors=[BAD_DIM], low=-1.3, high=1.3, tol=4),
    reduction("amax", axis(np.max), dtypes=ALL, errors=[BAD_DIM, (S(ones(0)), ANY, "")],
        limits=TIES),
    reduction("amin", axis(np.min), dtypes=ALL, errors=[BAD_DIM, (S(ones(0)), ANY, "")],
        limits=TIES),
    reduction("argmax", axis(np.argmax), one_dim, result="int64", order=0,
        errors=[BAD_DIM, (S(ones(0)), ANY, "")]),
    reduction("argmin", axis(np.argmin), one_dim, result="int64", order=0,
        errors=[BAD_DIM, (S(ones(0)), ANY, "")]),
    reduction("max", max_like(np.max, np.max, np.argmax), one_dim, forms="fm", dtypes=ALL,
        errors=[BAD_DIM, (S(ones(0)), ANY, "")], limits=TIES),
    reduction("min", max_like(np.min, np.min, np.argmin), one_dim, forms="fm", dtypes=ALL,
        errors=[BAD_DIM, (S(ones(0)), ANY, "")], limits=TIES),
    reduction("any", axis(np.any), with_empty(over_dims),
        dtypes=("float32", "int32", "int64", "bool"), result="bool", order=0),
    reduction("all", axis(np.all), with_empty(over_dims),
        dtypes=("float32", "int32", "int64", "bool"), result="bool", order=0),
    reduction("var", moment(np.var), spread, dtypes=FLOATS,
        errors=[BAD_DIM, (S(longs(1)), RuntimeError, "(?i)long|int64|float")], tol=4),
    reduction("std", moment(np.std), spread, dtypes=FLOATS,
        errors=[BAD_DIM, (S(longs(1)), RuntimeError, "(?i)long|int64|float")], tol=4,
        limits="not sampled where all elements are equal: the square root has no derivative there"),
    reduction("logsumexp", np_logsumexp, lambda g: [S(g(2, 3), dim=0),
        S(g(2, 3, 4), dim=(0, 2), keepdim=True), S(g(0, 3), dim=1), S(g(37), dim=0)],
        dtypes=FLOATS),
    Op("cumsum", lambda a, dim: np.cumsum(wide(a), axis=dim),
        scanned, "fmio", ALL, "sum",
        errors=[BAD_DIM], tol=4),
    Op("cumprod", lambda a, dim: np.cumprod(wide(a), axis=dim),
        lambda g: [*each_dim(g), S(g(0, 3), dim=0), S(g(9), dim=0)], "fmio", ALL, "sum",
        low=-1.3, high=1.3, tol=4, errors=[BAD_DIM]),
    Op("logcumsumexp", lambda a, dim: np.logaddexp.accumulate(a, axis=dim), scanned, "fmo", FLOATS,
        tol=4, errors=[BAD_DIM]),
    Op("cummax", np_running(np.greater_equal), scanned, "fm", ALL, errors=[BAD_DIM]),
    Op("cummin", np_running(np.less_equal), scanned, "fm", ALL, errors=[BAD_DIM]),
    reduction("aminmax", lambda a, dim=None, keepdim=False: (axis(np.min)(a, dim, keepdim),
        axis(np.max)(a, dim, keepdim)), one_dim, forms="fm", dtypes=ALL,
        errors=[BAD_DIM, (S(ones(0)), RuntimeError, "identity|empty")], limits=TIES),
    reduction("count_nonzero", lambda a, dim=None: np.count_nonzero(a, axis=dim),
        lambda g: [S(*s.args, **{k: v for k, v in s.kwargs.items() if k == "dim"})
        for s in with_empty(over_dims)(g)], forms="fm", dtypes=ALL, result="int64", order=0,
        errors=[BAD_DIM]),
    reduction("nansum", lambda a, dim=None, keepdim=False: np.nansum(wide(a), axis=dim,
        keepdims=keepdim), with_nan(with_empty(over_dims)), dtypes=ALL, result="sum",
        errors=[BAD_DIM], limits="no gradient samples without nan: they would be those of `sum`"),
    reduction("var_mean", moment_and_mean(np.var), spread, forms="f", dtypes=FLOATS, tol=4,
        errors=[BAD_DIM, (S(longs(1)), RuntimeError, "floating point")]),
    reduction("std_mean", moment_and_mean(np.std), spread, forms="f", dtypes=FLOATS, tol=4,
        errors=[BAD_DIM, (S(longs(1)), RuntimeError, "floating point")],
        limits="not sampled where all elements are equal: the square root has no derivative there"),
    reduction("norm", np_norm, orders, forms="fm", dtypes=FLOATS, tol=8,
        errors=[BAD_DIM, NO_INTEGERS, (S(ones(2), p="x"), RuntimeError, "(?i)order")]),
    reduction("linalg.vector_norm", np_norm, orders, forms="fo", dtypes=FLOATS, tol=8,
        errors=[BAD_DIM, NO_INTEGERS]),
]  # fmt: skip
