"""The columns of the operation table, the arrays its samples are made of, and makers of rows.

Samples are made by functions of a `Gen`, which knows the element type under test and the row's
domain; arrays in them become tensors, everything else is passed on. The reference gets the same
arguments as NumPy arrays, floating types widened to float64.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

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

    def distinct(self, *shape, below, dim=0):
        """Index numbers no two of which are equal along `dim`."""
        below = below * self.scale if below > 1 else below
        shape = list(self.sizes(shape))
        count, shape[dim] = shape[dim], below
        order = np.argsort(self.rng.random(shape), axis=dim)
        return np.take(order, range(count), axis=dim).astype("int64")

    def mask(self, *shape):
        return np.asarray(self.rng.integers(0, 2, self.sizes(shape)), dtype=bool)


@dataclass
class Op:
    """One operation.

    name      dotted below the package; a name only `Tensor` has is found there
    ref       the same function on NumPy arrays; None where the values are random or arbitrary
    shape     then the arguments' function that gives the shape, where it is not the first array's
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
    shape: Callable | None = None
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


def compare(name, ref, *aliases):
    return binary(name, ref, result="bool", order=0, aliases=aliases)


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


NEGATIVE_SIZE = (S(-1), RuntimeError, "-1|negative|non-negative")
FLOAT_ONLY = "integers are refused, as in PyTorch"
TIES = "no ties in the gradient samples: there the function has no derivative"
