"""One row per operation: what it computes, where it is defined, how it may be called, how it fails.

`test_ops.py` walks this table and derives from each row the forward, gradient, layout, in-place,
`out=`, thread and error tests; the benches walk it for their inputs. Nothing here imports the
package, so the table says what must be true, not what is.

The columns are those of `Op`. Samples are made by functions of a `Gen`, which knows the element
type under test and the row's domain; arrays in them become tensors, everything else is passed on.
The reference gets the same arguments as NumPy arrays, floating types widened to float64.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from op_reference import (
    axis,
    max_like,
    moment,
    np_bce_logits,
    np_clamp,
    np_cross_entropy,
    np_cuts,
    np_div,
    np_expand,
    np_flatten,
    np_gather,
    np_log_softmax,
    np_logsumexp,
    np_narrow,
    np_nll,
    np_reduced,
    np_softplus,
    np_squeeze,
    tup,
    wide,
)

FLOATS = ("float16", "bfloat16", "float32", "float64")
INTS = ("uint8", "int8", "int16", "int32", "int64")
NUMBERS = FLOATS + INTS
ALL = (*NUMBERS, "bool")
WHOLE = (*INTS, "bool")


@dataclass
class Sample:
    """Arguments of one call."""

    args: tuple
    kwargs: dict


def S(*args, **kwargs):  # noqa: N802 - short, as there are hundreds
    return Sample(args, kwargs)


class Gen:
    """Random arrays of one element type within a domain, the same ones for the same seed.

    `scale` multiplies every size above one, which turns a sample into one large enough to be
    worth several threads.
    """

    def __init__(self, dtype, low=-3.0, high=3.0, seed=0, scale=1):
        self.dtype, self.low, self.high, self.scale = dtype, low, high, scale
        self.rng = np.random.default_rng(seed)

    @property
    def number(self):
        """A Python number that does not promote the element type."""
        return True if self.dtype == "bool" else 2

    def sizes(self, shape):
        return tuple(n * self.scale if n > 1 else n for n in shape)

    def __call__(self, *shape, low=None, high=None):
        low, high = self.low if low is None else low, self.high if high is None else high
        shape = self.sizes(shape)
        if self.dtype == "bool":
            return np.asarray(self.rng.integers(0, 2, shape), dtype=bool)
        if self.dtype in INTS:
            low, high = math.ceil(low), math.floor(high)
            low = max(low, 0) if self.dtype == "uint8" else low
            return np.asarray(self.rng.integers(low, high + 1, shape), dtype=self.dtype)
        values = np.asarray(self.rng.uniform(low, high, shape))
        return values.astype("float64" if self.dtype == "float64" else "float32")

    def index(self, *shape, below):
        below = below * self.scale if below > 1 else below
        return np.asarray(self.rng.integers(0, below, self.sizes(shape)), dtype="int64")

    def mask(self, *shape):
        return np.asarray(self.rng.integers(0, 2, self.sizes(shape)), dtype=bool)


@dataclass
class Op:
    """One operation.

    name      dotted below the package; a name only `Tensor` has is found there
    ref       the same function on NumPy arrays; None where the values are random or arbitrary
    samples   Gen -> list of Sample
    forms     f function, m method, i in-place method (`name_`), o takes `out=`
    dtypes    the element types it accepts for the sampled arrays
    result    element type of the result: same, float (integers become float32), sum (integers
              become int64), or its name
    order     how many times it is differentiable; 0 where it is no function of the reals
    low/high  the domain of random floating and integer values
    tol       factor on the tolerance of the element type
    errors    (Sample, exception, pattern of the message); the exception is the class that PyTorch
              raises, the package's own also derives from the natural builtin
    aliases   further dotted names of the same operation
    scale     factor for the samples of the thread test; 1 where sizes are spelled out in arguments
    view      the result shares memory with the first argument
    strided   the samples make sense in any layout, not only row-major
    special   nan, infinities, zeros and huge numbers are tried as well
    limits    what is left out and why
    """

    name: str
    ref: Callable | None
    samples: Callable
    forms: str = "fm"
    dtypes: tuple = NUMBERS
    result: str = "same"
    order: int = 2
    low: float = -3.0
    high: float = 3.0
    tol: float = 1.0
    errors: list = field(default_factory=list)
    aliases: tuple = ()
    scale: int = 32
    view: bool = False
    strided: bool = True
    special: bool = False
    limits: str = ""

    @property
    def names(self):
        return (self.name, *self.aliases)

    @property
    def last(self):
        return self.name.rpartition(".")[2]

    def gen(self, dtype, scale=1):
        return Gen(dtype, self.low, self.high, scale=scale)


# ------------------------------------------------------------------------------------ samples

SHAPES = [(), (1,), (5,), (37,), (2, 3), (0,), (2, 0, 3), (2, 3, 4)]
PAIRS = [
    ((3,), (3,)), ((), ()), ((2, 3), (3,)), ((2, 1), (3,)), ((), (4,)), ((0,), (1,)),
    ((0, 3), (3,)), ((2, 3, 4), (2, 3, 4)), ((4, 1, 2), (3, 1)), ((37,), (37,)),
]  # fmt: skip


def each_shape(g):
    return [S(g(*shape)) for shape in SHAPES]


def each_pair(g):
    return [S(g(*a), g(*b)) for a, b in PAIRS]


def pairs_and_scalar(g):
    return [*each_pair(g), S(g(2, 3), g.number)]


def each_dim(g):
    shapes = [(5,), (2, 3), (2, 3, 4)]
    return [S(g(*shape), dim=dim) for shape in shapes for dim in range(-1, len(shape))]


def over_dims(g):
    """All elements, one dimension kept or not, several at once, sizes zero and one."""
    whole = [S(g(*shape)) for shape in [(), (1,), (37,), (2, 3, 4)]]
    one = [
        S(g(2, 3), dim=0),
        S(g(2, 3), dim=-1, keepdim=True),
        S(g(2, 1, 4), dim=1),
        S(g(0, 3), dim=1),
    ]
    return [*whole, *one, S(g(2, 3, 4), dim=(0, 2)), S(g(2, 3, 4), dim=(0, -1), keepdim=True)]


def one_dim(g):
    return [s for s in over_dims(g) if not isinstance(s.kwargs.get("dim"), tuple)]


def with_empty(samples):
    return lambda g: [*samples(g), S(g(0)), S(g(2, 0), dim=1), S(g(0, 3), dim=0, keepdim=True)]


def spread(g):
    return [
        S(g(37)),
        S(g(4, 3), dim=0),
        S(g(4, 3), dim=(0, 1), keepdim=True),
        S(g(2, 3), dim=1, correction=0),
    ]


def logits(g):
    return [
        S(g(*shape), dim=dim)
        for shape, dim in [
            ((5,), 0),
            ((2, 3), 1),
            ((2, 3, 4), 1),
            ((3, 0), 0),
            ((0, 3), 1),
            ((), 0),
        ]
    ]


# --------------------------------------------------------------------------------- row makers

ones = lambda *shape: np.ones(shape, "float32")  # noqa: E731
longs = lambda *values: np.array(values, "int64")  # noqa: E731
ANY = (RuntimeError, ValueError, TypeError, IndexError)
TWO_SHAPES = (S(ones(3), ones(4)), RuntimeError, "3.*4")
BAD_DIM = (S(ones(2, 3), dim=2), IndexError, r"2")


def unary(name, ref, low=-3.0, high=3.0, **columns):
    row = {"forms": "fmio", "dtypes": ALL, "result": "float", "special": True} | columns
    wrong = [(S("text"), TypeError, "str|Tensor"), (S(), TypeError, "")]
    return Op(name, ref, each_shape, low=low, high=high, errors=wrong, **row)


def binary(name, ref, samples=pairs_and_scalar, **columns):
    row = {"forms": "fmio", "dtypes": ALL, "special": True, "errors": [TWO_SHAPES]} | columns
    return Op(name, ref, samples, **row)


def compare(name, ref):
    return binary(name, ref, result="bool", order=0)


def reduction(name, ref, samples=over_dims, **columns):
    row = {
        "forms": "fmo",
        "errors": [BAD_DIM, (S(ones(2, 3), dim=(0, 0)), RuntimeError, "dim")],
    } | columns
    return Op(name, ref, samples, **row)


def creation(name, ref, samples, **columns):
    row = {"forms": "f", "dtypes": ALL, "order": 0, "scale": 1} | columns
    return Op(name, ref, samples, **row)


def shaped(g):
    shapes = [((),), (2, 3), ((2, 3),), (0,), ([4, 0],), (5,)]
    return [S(*shape, dtype=g.dtype) for shape in shapes]


def shaped_once(g):
    return [S(shape, dtype=g.dtype) for shape in [(), (2, 3), (0,), (70,)]]


def rearrange(name, ref, samples, **columns):
    row = {"dtypes": ALL, "scale": 1, "view": True} | columns
    return Op(name, ref, samples, **row)


def copies(forms="fo", **rows):
    """The copies of views: reference and samples by the name of the view."""
    return [
        rearrange(f"{name}_copy", ref, samples, forms=forms, view=False, strided=name != "view")
        for name, (ref, samples) in rows.items()
    ]


def conversion(name, result, numpy, **columns):
    row = {"forms": "m", "dtypes": ALL, "result": result, "order": 0, "scale": 1} | columns
    samples = row.pop("samples", each_shape)
    return Op(name, lambda a, **_: a.astype(numpy), samples, **row)


NEGATIVE_SIZE = (S(-1), RuntimeError, "-1|negative|non-negative")
FLOAT_ONLY = "integers are refused, as in PyTorch"
TIES = "no ties in the gradient samples: there the function has no derivative"

OPS = [
    # creation
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

    # pointwise, one argument
    unary("exp", np.exp), unary("expm1", np.expm1), unary("tanh", np.tanh), unary("sin", np.sin),
        unary("cos", np.cos),
    unary("log", np.log, 1, 4), unary("log1p", np.log1p, 0.5, 4), unary("sqrt", np.sqrt, 1, 4),
    unary("rsqrt", lambda a: 1 / np.sqrt(a), 1, 4), unary("reciprocal", lambda a: 1 / a, 1, 4),
    unary("sigmoid", lambda a: 1 / (1 + np.exp(-a)), aliases=("nn.functional.sigmoid",)),
    unary("erf", np.vectorize(math.erf, otypes=["float64"])),
    unary("neg", np.negative, dtypes=NUMBERS, result="same"),
    unary("abs", np.abs, dtypes=NUMBERS, result="same"),
    unary("sign", lambda a: np.nan_to_num(np.sign(a)) if a.dtype.kind == "f" else np.sign(a),
        dtypes=NUMBERS, result="same", limits="the sign of nan is 0, as in PyTorch"),
    unary("square", np.square, dtypes=NUMBERS, result="same"),
    unary("relu", lambda a: np.where(a > 0, a, np.where(np.isnan(a), a, 0)), forms="fmi",
        dtypes=NUMBERS, result="same", aliases=("nn.functional.relu",)),
    unary("floor", np.floor, dtypes=NUMBERS, result="same"),
    unary("ceil", np.ceil, dtypes=NUMBERS, result="same"),
    unary("round", np.round, dtypes=NUMBERS, result="same"),
    unary("trunc", np.trunc, dtypes=NUMBERS, result="same"),
    unary("isnan", np.isnan, forms="fm", result="bool", order=0),
    unary("isinf", np.isinf, forms="fm", result="bool", order=0),
    unary("isfinite", np.isfinite, forms="fm", result="bool", order=0),
    unary("logical_not", np.logical_not, result="bool", order=0),
    unary("bitwise_not", np.invert, dtypes=WHOLE, result="same", order=0),

    # pointwise, several arguments
    binary("add", lambda a, b, alpha=True: np.add(a, b if alpha is True else alpha * b),
        lambda g: [*pairs_and_scalar(g), S(g(3), g(3), alpha=g.number)]),
    binary("sub", lambda a, b, alpha=1: a - alpha * b,
        lambda g: [*pairs_and_scalar(g), S(g(3), g(3), alpha=2)], dtypes=NUMBERS),
    binary("mul", np.multiply),
    binary("div", np_div, lambda g: [S(*s.args, rounding_mode=mode) for mode in ([None, "floor",
        "trunc"] if g.dtype in FLOATS else [None]) for s in pairs_and_scalar(g)], low=1, high=4,
        dtypes=NUMBERS, result="float", errors=[TWO_SHAPES,
        (S(ones(1), ones(1), rounding_mode="up"), RuntimeError, "up|rounding_mode")]),
    binary("floor_divide", np.floor_divide, low=1, high=5, dtypes=NUMBERS, order=0, special=False,
        limits="gradient: zero almost everywhere, not recorded"),
    binary("remainder", np.remainder, low=1, high=5, dtypes=NUMBERS, special=False),
    binary("pow", np.power, low=1, high=3, dtypes=NUMBERS, special=False),
    binary("maximum", np.maximum, each_pair, forms="fmo", limits=TIES),
    binary("minimum", np.minimum, each_pair, forms="fmo", limits=TIES),
    compare("eq", np.equal),
    compare("ne", np.not_equal),
    compare("lt", np.less),
    compare("le", np.less_equal),
    compare("gt", np.greater), compare("ge", np.greater_equal),
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
        limits="uint8 cannot hold the lower bound of the samples"),

    Op("clamp_min", np.maximum, lambda g: [S(g(5), 1), S(g(2, 3), g(3)), S(g(), 0)], "fmio",
        errors=[TWO_SHAPES]),
    Op("clamp_max", np.minimum, lambda g: [S(g(5), 1), S(g(2, 3), g(3)), S(g(), 0)], "fmio",
        errors=[TWO_SHAPES]),

    # reductions
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
        lambda g: [*each_dim(g), S(g(0, 3), dim=0), S(g(37), dim=0)], "fmio", ALL, "sum",
        errors=[BAD_DIM], tol=4),

    # products of matrices
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
    Op("addmm", lambda c, a, b, beta=1, alpha=1: beta * c + alpha * (a @ b),
        lambda g: [S(g(2, 4), g(2, 3), g(3, 4)), S(g(4), g(2, 3), g(3, 4)),
        S(g(2, 1), g(2, 3), g(3, 4), beta=2, alpha=3), S(g(2, 4), g(2, 0), g(0, 4))], "fmio",
        NUMBERS, tol=8, scale=8,
        errors=[(S(ones(2, 4), ones(2, 3), ones(4, 4)), RuntimeError, "3.*4")]),

    # shape
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
    rearrange("t", np.transpose, lambda g: [S(g(2, 3)), S(g(3)), S(g())],
        errors=[(S(ones(1, 1, 1)), RuntimeError, "3")]),
    rearrange("transpose", lambda a, i, j: np.swapaxes(a, i, j) if a.ndim else a,
        lambda g: [S(g(2, 3), 0, 1), S(g(2, 3, 4), -1, 0), S(g(2, 3), 1, 1), S(g(), 0, -1)],
        errors=[(S(ones(2, 3), 0, 2), IndexError, "2")], aliases=("swapdims", "swapaxes")),
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
    rearrange("clone", np.copy, each_shape, view=False),
    rearrange("contiguous", np.copy, each_shape, forms="m"),
    rearrange("detach", np.copy, each_shape, order=0),
    Op("cat", lambda xs, dim=0: np.concatenate(xs, axis=dim), lambda g: [S([g(2, 3), g(1, 3)]),
        S([g(2, 3), g(2, 1), g(2, 0)], dim=1), S([g(3)], dim=-1), S((g(0), g(2)))], "fo", ALL,
        scale=8, aliases=("concat", "concatenate"),
        errors=[(S([ones(2, 3), ones(2, 4)]), RuntimeError, "3.*4"),
        (S([]), (RuntimeError, ValueError), "empty|non-empty|at least"),
        (S([ones(2), ones(2, 2)]), RuntimeError, "1.*2|dim"),
        (S([ones(2)], dim=1), IndexError, "1")]),
    Op("stack", lambda xs, dim=0: np.stack(xs, axis=dim), lambda g: [S([g(2, 3), g(2, 3)]),
        S([g(3), g(3)], dim=-1), S([g(), g(), g()]), S([g(0, 2)], dim=1)], "fo", ALL,
        errors=[(S([ones(2), ones(3)]), RuntimeError, "2.*3"),
        (S([]), RuntimeError, "empty|non-empty|at least")]),
    rearrange("movedim", np.moveaxis, lambda g: [S(g(2, 3, 4), 0, 2), S(g(2, 3), (), ()),
        S(g(2, 3, 4), (0, -1), (1, 0))], aliases=("moveaxis",),
        errors=[(S(ones(2, 3), (0, 0), (0, 1)), RuntimeError, "repeated dim in `source`"),
        (S(ones(2, 3), (0, 1), (0, 0)), RuntimeError, "repeated dim in `destination`"),
        (S(ones(2, 3), (0, 1), (0,)), RuntimeError, "same number of dims")]),
    rearrange("split_with_sizes", np_cuts, lambda g: [S(g(5, 2), [2, 3]), S(g(2, 3), [1, 0, 2], 1)],
        errors=[(S(ones(5), [2, 2]), RuntimeError, "sum exactly to 5")]),
    *copies(
        alias=(np.copy, lambda g: [S(g(2, 3)), S(g())]),
        expand=(np_expand, lambda g: [S(g(2, 1), (2, 4)), S(g(), (3,))]),
        narrow=(np_narrow, lambda g: [S(g(5), 0, 1, 3), S(g(2, 3), -1, 0, 0)]),
        permute=(np.transpose, lambda g: [S(g(2, 3, 4), (2, 0, 1)), S(g(), ())]),
        select=(lambda a, d, i: np.take(a, i, d), lambda g: [S(g(2, 3), 0, 1), S(g(2, 3), 1, -1)]),
        squeeze=(np_squeeze, lambda g: [S(g(1, 3, 1)), S(g(1, 3, 1), 0), S(g(1, 3, 1), (0, 2))]),
        t=(np.transpose, lambda g: [S(g(2, 3)), S(g(3))]),
        transpose=(np.swapaxes, lambda g: [S(g(2, 3), 0, 1), S(g(2, 3, 4), -1, 0)]),
        unsqueeze=(np.expand_dims, lambda g: [S(g(2, 3), d) for d in (-1, 0)]),
        view=(lambda a, s: a.reshape(s), lambda g: [S(g(2, 3), (3, 2)), S(g(0, 3), (3, 0))]),
    ),
    *copies("f",
        split=(np_cuts, lambda g: [S(g(5), 2), S(g(2, 3), 1, 1)]),
        split_with_sizes=(np_cuts, lambda g: [S(g(5, 2), [2, 3])]),
        unbind=(lambda a, dim=0: tuple(np.moveaxis(a, dim, 0)),
            lambda g: [S(g(2, 3)), S(g(2, 3), 1)]),
    ),

    # elements by number
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

    # neural networks
    Op("softmax", lambda a, dim: np.exp(np_log_softmax(a, dim)), logits, "fm", FLOATS,
        errors=[BAD_DIM, (S(longs(1), dim=0), RuntimeError, "(?i)long|int64")],
        aliases=("nn.functional.softmax", "special.softmax"), limits=FLOAT_ONLY),
    Op("log_softmax", np_log_softmax, logits, "fm", FLOATS,
        errors=[BAD_DIM, (S(longs(1), dim=0), RuntimeError, "(?i)long|int64")],
        aliases=("nn.functional.log_softmax", "special.log_softmax"), limits=FLOAT_ONLY),
    Op("nn.functional.linear", lambda x, w, b=None: x @ w.T + (0 if b is None else b),
        lambda g: [S(g(2, 3), g(4, 3), g(4)), S(g(3), g(4, 3)), S(g(2, 5, 3), g(4, 3), g(4)),
        S(g(0, 3), g(4, 3), g(4)), S(g(17, 19), g(23, 19), g(23))], "f", FLOATS, tol=8, scale=8,
        errors=[(S(ones(2, 3), ones(4, 5)), RuntimeError, "3.*[45]")]),
    Op("nn.functional.cross_entropy", np_cross_entropy, lambda g: [S(g(5, 3), g.index(5, below=3)),
        S(g(3), g.index(below=3)), S(g(2, 3, 4), g.index(2, 4, below=3), reduction="sum"),
        S(g(5, 3), g.index(5, below=3), weight=g(3, low=1), reduction="none"),
        S(g(5, 3), g.index(5, below=3), ignore_index=1, reduction="sum"),
        S(g(5, 3), g.index(5, below=3), label_smoothing=0.1), S(g(4, 3), g(4, 3, low=0, high=1))],
        "f", FLOATS, tol=4, errors=[(S(ones(2, 3), longs(0, 3)), (IndexError, RuntimeError), "3"),
        (S(ones(2, 3), longs(0)), (RuntimeError, ValueError), "2.*1|1.*2")]),
    Op("nn.functional.nll_loss", np_nll, lambda g: [S(g(5, 3), g.index(5, below=3)),
        S(g(3), g.index(below=3)), S(g(2, 3, 4), g.index(2, 4, below=3), reduction="sum"),
        S(g(5, 3), g.index(5, below=3), weight=g(3, low=1)),
        S(g(5, 3), g.index(5, below=3), ignore_index=1, reduction="none")], "f", FLOATS, tol=4,
        errors=[(S(ones(2, 3), longs(0, 7)), (IndexError, RuntimeError), "7"),
        (S(ones(2, 3), longs(0)), (RuntimeError, ValueError), "2.*1|1.*2")]),
    Op("nn.functional.binary_cross_entropy_with_logits", np_bce_logits,
        lambda g: [S(g(2, 3), g(2, 3, low=0, high=1)),
        S(g(5), g(5, low=0, high=1), reduction="sum"), S(g(), g(low=0, high=1), reduction="none"),
        S(g(2, 3), g(2, 3, low=0, high=1), weight=g(3, low=1), pos_weight=g(3, low=1))], "f",
        FLOATS, tol=4, errors=[(S(ones(2, 3), ones(3)), (RuntimeError, ValueError), "3"),
        (S(ones(2), ones(2), reduction="avg"), (RuntimeError, ValueError), "avg")]),
    Op("nn.functional.mse_loss", lambda a, b, reduction="mean": np_reduced((a - b) ** 2, reduction),
        lambda g: [S(g(2, 3), g(2, 3)), S(g(5), g(5), reduction="sum"),
        S(g(), g(), reduction="none")], "f", FLOATS, tol=4,
        errors=[(S(ones(2), ones(2), reduction="avg"), (RuntimeError, ValueError), "avg")]),
    Op("nn.functional.softplus", np_softplus,
        lambda g: [*each_shape(g), S(g(5), beta=2, threshold=3)], "f", FLOATS, limits=FLOAT_ONLY),
    Op("nn.functional.dropout", lambda a, p=0.5,
        training=True: a * (0 if training and p == 1 else 1),
        lambda g: [S(g(2, 3), p=1.0), S(g(2, 3), p=0.0), S(g(2, 3), training=False)], "f", FLOATS,
        errors=[(S(ones(2), p=1.5), (RuntimeError, ValueError), "1.5")],
        limits="only where the result is certain; test_random.py has the mask"),

    # conversions
    conversion("float", "float32", "float64", limits="differences drown in the rounding"),
    conversion("double", "float64", "float64", order=2),
    conversion("half", "float16", "float64", limits="differences drown in the rounding"),
    conversion("bfloat16", "bfloat16", "float64", limits="differences drown in the rounding"),
    conversion("long", "int64", "int64"), conversion("int", "int32", "int32"),
    conversion("short", "int16", "int16"), conversion("char", "int8", "int8"),
    conversion("byte", "uint8", "uint8", low=0.0), conversion("bool", "bool", "bool"),
    conversion("to", "float64", "float64", order=2,
        samples=lambda g: [S(g(*s), dtype="float64") for s in SHAPES]),
    Op("type_as", lambda a, b: a, lambda g: [S(g(2, 3), g(2)), S(g(), g(3))], "m", ALL, scale=1),

    # writing
    Op("fill", np.full_like, lambda g: [S(g(*s), 1) for s in SHAPES], "f", ALL,
        errors=[(S(ones(2), ones(2)), RuntimeError, "0-dimension")]),
    Op("fill_", np.full_like, lambda g: [S(g(*s), 1) for s in SHAPES], "m", ALL),
    Op("zero_", np.zeros_like, each_shape, "m", ALL),
    Op("copy_", lambda a, b: np.broadcast_to(b, a.shape),
        lambda g: [S(g(2, 3), g(2, 3)), S(g(2, 3), g(3)), S(g(3), g()), S(g(0), g(1))], "m", ALL,
        errors=[(S(ones(3), ones(4)), RuntimeError, "3.*4|4.*3")]),
    Op("uniform_", None, each_shape, "m", FLOATS, order=0),
    Op("normal_", None, each_shape, "m", FLOATS, order=0),
    Op("bernoulli_", None, each_shape, "m", NUMBERS, order=0),
]  # fmt: skip
