"""Methods that only exist as writes: their names end in an underscore."""

import numpy as np

from .columns import ALL, FLOATS, NUMBERS, SHAPES, Op, S, each_shape, longs, ones


def drawn(name, *wrong, dtypes=FLOATS, errors=()):
    """Random values in place; `wrong` is an error sample's arguments and the message's pattern."""
    errors = [*errors, (S(ones(3), *wrong[:-1]), RuntimeError, wrong[-1])]
    return Op(name, None, each_shape, "m", dtypes, order=0, errors=errors)


ROWS = [
    Op("fill_", np.full_like, lambda g: [S(g(*s), 1) for s in SHAPES], "m", ALL),
    Op("zero_", np.zeros_like, each_shape, "m", ALL),
    Op("copy_", lambda a, b: np.broadcast_to(b, a.shape),
        lambda g: [S(g(2, 3), g(2, 3)), S(g(2, 3), g(3)), S(g(3), g()), S(g(0), g(1))], "m", ALL,
        errors=[(S(ones(3), ones(4)), RuntimeError, "3.*4|4.*3")]),
    Op("uniform_", None, each_shape, "m", FLOATS, order=0),
    Op("normal_", None, each_shape, "m", FLOATS, order=0),
    Op("bernoulli_", None, each_shape, "m", NUMBERS, order=0),
    drawn("cauchy_", 0.0, -1.0, "sigma.*-1", errors=[(S(longs(3)), RuntimeError, "floating")]),
    drawn("exponential_", -1.0, "lambda.*-1", errors=[(S(longs(3)), RuntimeError, "floating")]),
    drawn("log_normal_", 0.0, -1.0, "std.*-1", errors=[(S(longs(3)), RuntimeError, "Long")]),
    Op("geometric_", None, lambda g: [S(g(*s), 0.5) for s in SHAPES], "m", NUMBERS, order=0,
        errors=[(S(ones(3), 2.0), RuntimeError, "p=2")]),
    Op("random_", None, lambda g: [*each_shape(g), S(g(5), 2), S(g(5), 1, 2)], "m", ALL, order=0,
        errors=[(S(ones(3), 3, 3), RuntimeError, "from=3 >= to=3")]),
]  # fmt: skip
