"""Functions of one element, or of one element of each argument."""

import math

import numpy as np
import scipy.special
from op_reference import (
    np_addcdiv,
    np_addcmul,
    np_clamp,
    np_div,
    np_logit,
    np_nan_to_num,
    np_xlogy,
)

from .columns import (
    ALL,
    FLOATS,
    NUMBERS,
    PAIRS,
    SHAPES,
    TIES,
    TWO_SHAPES,
    WHOLE,
    Op,
    S,
    binary,
    compare,
    each_pair,
    each_shape,
    ones,
    pairs_and_scalar,
    unary,
)

FLOAT_PAIRS = {"dtypes": FLOATS, "samples": each_pair}


def three(g):
    """Three arguments that broadcast, and what comes before or after them."""
    shapes = [((5,), (5,), (5,)), ((2, 3), (3,), (2, 1)), ((), (), ()), ((2, 3), (), (3,))]
    return [(g(*a), g(*b), g(*c, low=max(1, g.low))) for a, b, c in shapes]


def close_pairs(g):
    """Equal, almost equal, different, not comparable."""
    a = g(2, 3)
    near = [S(a, a), S(a, a + a.dtype.type(1)), *each_pair(g)[:4]]
    if g.dtype not in FLOATS:
        return near
    odd = np.array([np.nan, np.inf, -np.inf, 1.0, 0.0], "float32")
    return [*near, S(a, a * a.dtype.type(1.001), rtol=1e-2), S(a, a + a.dtype.type(0.25), atol=0.5),
        S(odd, odd), S(odd, odd, equal_nan=True), S(odd[:, None], odd)]  # fmt: skip


ROWS = [
    unary("expm1", np.expm1, aliases=("special.expm1",)),
    unary("exp", np.exp), unary("sin", np.sin), unary("cos", np.cos),
    unary("tanh", np.tanh, aliases=("nn.functional.tanh",)),
    unary("log", np.log, 1, 4),
    unary("log1p", np.log1p, 0.5, 4, aliases=("special.log1p",)), unary("sqrt", np.sqrt, 1, 4),
    unary("rsqrt", lambda a: 1 / np.sqrt(a), 1, 4), unary("reciprocal", lambda a: 1 / a, 1, 4),
    unary("sigmoid", lambda a: 1 / (1 + np.exp(-a)),
        aliases=("nn.functional.sigmoid", "special.expit")),
    unary("erf", np.vectorize(math.erf, otypes=["float64"]), aliases=("special.erf",)),
    unary("erfinv", scipy.special.erfinv, -0.9, 0.9, aliases=("special.erfinv",), tol=2),
    unary("neg", np.negative, dtypes=NUMBERS, result="same", aliases=("negative",)),
    unary("abs", np.abs, dtypes=NUMBERS, result="same", aliases=("absolute",)),
    unary("sign", lambda a: np.nan_to_num(np.sign(a)) if a.dtype.kind == "f" else np.sign(a),
        dtypes=NUMBERS, result="same", limits="the sign of nan is 0, as in PyTorch"),
    unary("square", np.square, dtypes=NUMBERS, result="same"),
    unary("relu", lambda a: np.where(a > 0, a, np.where(np.isnan(a), a, 0)), forms="fmi",
        dtypes=NUMBERS, result="same", aliases=("nn.functional.relu",)),
    unary("floor", np.floor, dtypes=NUMBERS, result="same"),
    unary("ceil", np.ceil, dtypes=NUMBERS, result="same"),
    unary("round", np.round, dtypes=NUMBERS, result="same", aliases=("special.round",)),
    unary("trunc", np.trunc, dtypes=NUMBERS, result="same", aliases=("fix",)),
    unary("isnan", np.isnan, forms="fm", result="bool", order=0),
    unary("isinf", np.isinf, forms="fm", result="bool", order=0),
    unary("isfinite", np.isfinite, forms="fm", result="bool", order=0),
    unary("logical_not", np.logical_not, result="bool", order=0),
    unary("bitwise_not", np.invert, dtypes=WHOLE, result="same", order=0),

    # pointwise, several arguments
    binary("add", lambda a, b, alpha=True: np.add(a, b if alpha is True else alpha * b),
        lambda g: [*pairs_and_scalar(g), S(g(3), g(3), alpha=g.number)]),
    binary("sub", lambda a, b, alpha=1: a - alpha * b,
        lambda g: [*pairs_and_scalar(g), S(g(3), g(3), alpha=2)], dtypes=NUMBERS,
        aliases=("subtract",)),
    binary("mul", np.multiply, aliases=("multiply",)),
    binary("div", np_div, lambda g: [S(*s.args, rounding_mode=mode) for mode in ([None, "floor",
        "trunc"] if g.dtype in FLOATS else [None]) for s in pairs_and_scalar(g)], low=1, high=4,
        dtypes=NUMBERS, result="float", aliases=("divide", "true_divide"), errors=[TWO_SHAPES,
        (S(ones(1), ones(1), rounding_mode="up"), RuntimeError, "up|rounding_mode")]),
    binary("floor_divide", np.floor_divide, low=1, high=5, dtypes=NUMBERS, order=0, special=False,
        limits="gradient: zero almost everywhere, not recorded"),
    binary("remainder", np.remainder, low=1, high=5, dtypes=NUMBERS, special=False),
    binary("pow", np.power, low=1, high=3, dtypes=NUMBERS, special=False),
    binary("maximum", np.maximum, each_pair, forms="fmo", limits=TIES),
    binary("minimum", np.minimum, each_pair, forms="fmo", limits=TIES),
    compare("eq", np.equal),
    compare("ne", np.not_equal, "not_equal"),
    compare("lt", np.less, "less"),
    compare("le", np.less_equal, "less_equal"),
    compare("gt", np.greater, "greater"),
    compare("ge", np.greater_equal, "greater_equal"),
    binary("logical_and", np.logical_and, each_pair, result="bool", order=0),
    binary("logical_or", np.logical_or, each_pair, result="bool", order=0),
    binary("logical_xor", np.logical_xor, each_pair, result="bool", order=0),
    binary("bitwise_and", np.bitwise_and, dtypes=WHOLE, order=0),
    binary("bitwise_or", np.bitwise_or, dtypes=WHOLE, order=0),
    binary("bitwise_xor", np.bitwise_xor, dtypes=WHOLE, order=0),
    Op("where", np.where,
        lambda g: [S(g.mask(*s), g(*s), g(*s)) for s in SHAPES] + [S(g.mask(3), g(2, 1), g(2, 3)),
        S(g.mask(3), g(3), g.number)], "fo", ALL,
        errors=[(S(np.array([True] * 2), ones(3), ones(4)), RuntimeError, "3.*4|size")]),
    Op("clamp", np_clamp, lambda g: [S(g(*s), -1, 1) for s in SHAPES] + [S(g(5), min=0),
        S(g(5), max=0), S(g(2, 3), g(3) - 1, g(3) + 1)], "fmio",
        tuple(d for d in NUMBERS if d != "uint8"),
        errors=[(S(ones(3)), RuntimeError, "min.*max|None")],
        limits="uint8 cannot hold the lower bound of the samples", aliases=("clip",)),

    Op("clamp_min", np.maximum, lambda g: [S(g(5), 1), S(g(2, 3), g(3)), S(g(), 0)], "fmio",
        errors=[TWO_SHAPES]),
    Op("clamp_max", np.minimum, lambda g: [S(g(5), 1), S(g(2, 3), g(3)), S(g(), 0)], "fmio",
        errors=[TWO_SHAPES]),

    # after the first ones: the other functions of C's library, and combinations
    unary("tan", np.tan, -1.2, 1.2), unary("sinh", np.sinh), unary("cosh", np.cosh),
    unary("asin", np.arcsin, -0.9, 0.9, aliases=("arcsin",)),
    unary("acos", np.arccos, -0.9, 0.9, aliases=("arccos",)),
    unary("atan", np.arctan, aliases=("arctan",)),
    unary("asinh", np.arcsinh, aliases=("arcsinh",)),
    unary("acosh", np.arccosh, 1.5, 4, aliases=("arccosh",)),
    unary("atanh", np.arctanh, -0.9, 0.9, aliases=("arctanh",)),
    unary("exp2", np.exp2, aliases=("special.exp2",)),
    unary("log2", np.log2, 1, 4), unary("log10", np.log10, 1, 4),
    unary("erfc", np.vectorize(math.erfc, otypes=["float64"]), aliases=("special.erfc",)),
    unary("sinc", np.sinc, tol=4, aliases=("special.sinc",)),
    unary("deg2rad", np.deg2rad), unary("rad2deg", np.rad2deg),
    unary("frac", lambda a: a - np.trunc(a), dtypes=FLOATS),
    unary("signbit", np.signbit, forms="fmo", result="bool", order=0),
    Op("logit", np_logit, lambda g: [*each_shape(g), S(g(37) * 2 - 0.5, 0.1)], "fmio", FLOATS,
        low=0.1, high=0.9, tol=4,
        aliases=("special.logit",), errors=[(S("text"), TypeError, "str|Tensor")]),
    Op("nan_to_num", np_nan_to_num, lambda g: [*each_shape(g), S(g(5), 1.0, posinf=2.0)] + ([
        S(np.array([np.nan, np.inf, -np.inf, 2], "float32"), nan=3.0, posinf=1.0, neginf=-1.0)] if
        g.dtype in FLOATS else []), "fmio", ALL, errors=[(S("text"), TypeError, "str|Tensor")]),
    binary("atan2", np.arctan2, each_pair, result="float", low=0.5, aliases=("arctan2",)),
    binary("copysign", np.copysign, result="float"),
    binary("fmod", np.fmod, low=1, high=5, dtypes=NUMBERS, special=False,
        errors=[TWO_SHAPES, (S(np.int64(3), np.int64(0)), RuntimeError, "(?i)zero")]),
    binary("hypot", np.hypot, **FLOAT_PAIRS),
    binary("logaddexp", np.logaddexp, forms="fmo", **FLOAT_PAIRS),
    binary("logaddexp2", np.logaddexp2, forms="fmo", **FLOAT_PAIRS),
    binary("fmax", np.fmax, each_pair, forms="fmo", limits=TIES),
    binary("fmin", np.fmin, each_pair, forms="fmo", limits=TIES),
    binary("heaviside", lambda a, b: np.where(a == 0, b, a > 0), each_pair, order=0,
        errors=[TWO_SHAPES, (S(ones(3), np.arange(3)), RuntimeError, "different dtypes")]),
    binary("xlogy", np_xlogy, result="float", low=1, high=4, aliases=("special.xlogy",)),
    binary("rsub", lambda a, b, alpha=1: b - alpha * a,
        lambda g: [*pairs_and_scalar(g), S(g(3), g(3), alpha=2)], forms="f", dtypes=NUMBERS,
        errors=[(S(ones(3), ones(4)), RuntimeError, "3.*4|4.*3")]),
    Op("lerp", lambda a, b, w: a + w * (b - a), lambda g: [S(g(*a), g(*b), 0.25) for a, b in PAIRS]
        + [S(*xs) for xs in three(g)], "fmio", FLOATS, tol=4, errors=[
        (S(ones(3), ones(4), 0.5), RuntimeError, "3.*4"),
        (S(ones(3), np.ones(3), 0.5), RuntimeError, "(?i)expected dtype float.*(double|float64)")]),
    Op("addcmul", np_addcmul, lambda g: [*[S(*xs) for xs in three(g)], S(*three(g)[0],
        value=2)], "fmio", errors=[(S(ones(3), ones(3), ones(4)), RuntimeError, "3.*4"),
        (S(*[np.ones(2, bool)] * 3), NotImplementedError, "addcmul.*Bool")]),
    Op("addcdiv", np_addcdiv, lambda g: [*[S(*xs) for xs in three(g)], S(*three(g)[0], value=2)],
        "fmio", FLOATS, errors=[(S(ones(3), ones(3), ones(4)), RuntimeError, "3.*4"),
        (S(*[np.arange(2)] * 3), RuntimeError, "Integer division")]),
    Op("isclose", np.isclose, close_pairs, "fm", ALL, "bool", 0, errors=[TWO_SHAPES,
        (S(ones(2), np.arange(2)), RuntimeError, "Float did not match Long"),
        (S(ones(2), ones(2), rtol=-1.0), RuntimeError, "rtol.*-1")]),
    Op("allclose", np.allclose, close_pairs, "fm", ALL, "bool", 0, errors=[TWO_SHAPES,
        (S(ones(2), np.arange(2)), RuntimeError, "Float did not match Long")]),
    Op("equal", np.array_equal, lambda g: [S(g(*a), g(*b)) for a, b in PAIRS] + [S(a, a) for a in
        [g(), g(2, 3), g(0)]], "fm", ALL, "bool", 0,
        errors=[(S(ones(2), 1), TypeError, "Tensor, not int")]),
]  # fmt: skip
