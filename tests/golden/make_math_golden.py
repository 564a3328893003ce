"""Golden values of the elementary functions in f64, for rust/wengert/tests/math.rs.

    python tests/golden/make_math_golden.py > tests/golden/math_f64.txt

Needs mpmath. A line is: name, argument bits (pow has two arguments), bits of the nearest f64 to
the true value, and how far the true value is above that in units in the last place.
Arguments: a spread of random magnitudes, the neighbourhood of zeros, of overflow and underflow
borders and of the borders between formulas, subnormal numbers, and for the angles the multiples
of pi/2 and the f64 that come closest to one.
"""

import math
import random
import struct

from mpmath import (
    atan,
    cos,
    cosh,
    erf,
    erfc,
    exp,
    expm1,
    log,
    log1p,
    log10,
    mp,
    mpf,
    pi,
    power,
    sin,
    sinh,
    sqrt,
    tan,
    tanh,
)

mp.prec = 2400
random.seed(20260101)

MIN_EXPONENT = -1074


def bits(x):
    return struct.unpack("<Q", struct.pack("<d", x))[0]


def from_bits(b):
    return struct.unpack("<d", struct.pack("<Q", b))[0]


def ulp(x):
    return math.ulp(x) if math.isfinite(x) else math.inf


def nearest(value):
    """The nearest f64, ties to even, with gradual underflow and overflow."""
    if value == 0:
        return 0.0
    _man, e = mp.frexp(value)
    step = max(int(e) - 53, MIN_EXPONENT)
    n = mp.nint(mp.ldexp(value, -step))
    try:
        return math.ldexp(int(n), step)
    except OverflowError:
        return math.copysign(math.inf, value)


def neighbours(x, count=2):
    b = bits(abs(x))
    return [math.copysign(from_bits(b + i), x) for i in range(-count, count + 1) if b + i >= 0]


def log_uniform(lo, hi, count, signs=True):
    out = [math.exp(random.uniform(math.log(lo), math.log(hi))) for _ in range(count)]
    return [random.choice((-1, 1)) * x for x in out] if signs else out


def uniform(lo, hi, count):
    return [random.uniform(lo, hi) for _ in range(count)]


TINY = [
    5e-324,
    1.5e-323,
    1e-310,
    2.2250738585072014e-308,
    2.2250738585072009e-308,
    1e-300,
    1e-100,
    1e-20,
    2.0**-54,
    2.0**-53,
    2.0**-52,
    2.0**-51,
    1e-15,
    1e-12,
]
TINY += [-x for x in TINY]
EXP = (
    uniform(-1, 1, 60)
    + uniform(-20, 20, 40)
    + uniform(-745.2, 709.8, 60)
    + uniform(-745.2, -708, 20)
    + TINY
    + neighbours(709.782712893384)
    + neighbours(-708.3964185322641)
    + neighbours(-745.1332191019411)
    + [i * 0.34657359027997264 for i in range(-9, 10)]
)
HYPERBOLIC = (
    uniform(-1, 1, 60)
    + log_uniform(1e-8, 1e-1, 40)
    + uniform(-25, 25, 60)
    + uniform(-710.4, 710.4, 20)
    + TINY
    + [i * 0.17328679513998632 for i in range(-9, 10)]
)
LOG = (
    log_uniform(5e-324, 1.79e308, 60, False)
    + uniform(0.5, 2, 80)
    + [1 + x for x in log_uniform(1e-15, 1e-2, 60)]
    + [x for x in TINY if x > 0]
    + neighbours(1.0, 5)
    + neighbours(math.sqrt(0.5))
    + neighbours(math.sqrt(2))
    + [1.7976931348623157e308, math.e, 2.0, 8.0, 10.0, 100.0, 1e15, 1e22]
)
LOG1P = (
    uniform(-0.9999, 3, 80)
    + log_uniform(1e-9, 1, 60)
    + log_uniform(1, 1.7e308, 60, False)
    + TINY
    + [-1 + x for x in log_uniform(1e-15, 1e-1, 20, False)]
    + neighbours(math.sqrt(2) - 1)
    + neighbours(math.sqrt(0.5) - 1)
)
ANGLE = (
    uniform(-4, 4, 60)
    + uniform(-1e4, 1e4, 40)
    + log_uniform(1e-8, 1.79e308, 80)
    + log_uniform(2.0**28, 2.0**32, 20)
    + TINY
    + [
        nearest(k * pi / 4)
        for k in [*list(range(-9, 10)), 1000, 12345678, 2**29 + 1, 2**31 + 1, 2**52 + 1]
        if k
    ]
    + [6381956970095103 * 2.0**797, 5.3e300, 1e22, 2.0**1023, 1.7976931348623157e308]
    + neighbours(2.0**30)
)
ERF = (
    uniform(-1, 1, 80)
    + uniform(-6, 6, 100)
    + log_uniform(1e-8, 1, 40)
    + TINY
    + neighbours(0.875)
    + neighbours(-0.875)
    + uniform(5.5, 6.2, 10)
)
ERFC = ERF + uniform(0, 27.3, 60) + uniform(26, 27.3, 10)
ATAN = (
    uniform(-1, 1, 60)
    + log_uniform(1e-8, 1e20, 100)
    + TINY
    + neighbours(0.41421356237309503)
    + neighbours(2.414213562373095)
    + neighbours(1.0)
    + [1e50, -1e160, 1e300]
)
POW = (
    [(x, y) for x, y in zip(log_uniform(1e-3, 1e3, 80, False), uniform(-90, 90, 80), strict=False)]
    + [(x, y) for x, y in zip(uniform(0.9, 1.1, 60), uniform(-5000, 5000, 60), strict=False)]
    + [
        (x, y)
        for x, y in zip(log_uniform(5e-324, 1.7e308, 60, False), uniform(-1, 1, 60), strict=False)
    ]
    + [(-x, float(y)) for x, y in zip(uniform(0, 9, 20), range(-10, 10), strict=False)]
    + [
        (1 + 2.0**-52, 2.0**52),
        (1 - 2.0**-53, -(2.0**53)),
        (0.1, 308.0),
        (10.0, -320.0),
        (2.0, -1074.0),
        (2.0, 1023.5),
    ]
)

one = mpf(1)
FUNCTIONS = {
    "exp": (exp, EXP),
    "exp2": (
        lambda x: power(2, x),
        [x * 1.44 for x in EXP] + [float(i) for i in range(-1074, 1024, 131)],
    ),
    "expm1": (expm1, [x for x in EXP if x > -50] + HYPERBOLIC[:100]),
    "tanh": (tanh, HYPERBOLIC),
    "sinh": (sinh, HYPERBOLIC),
    "cosh": (cosh, HYPERBOLIC),
    "sigmoid": (lambda x: 1 / (1 + exp(-x)), EXP + uniform(-40, 40, 40)),
    "softplus": (lambda x: log1p(exp(x)), EXP + uniform(-45, 45, 40)),
    "logsigmoid": (lambda x: -log1p(exp(-x)), uniform(-45, 45, 60) + uniform(600, 744, 20)),
    "ln": (log, LOG),
    "log2": (lambda x: log(x) / log(mpf(2)), LOG),
    "log10": (log10, LOG),
    "log1p": (log1p, LOG1P),
    "rsqrt": (lambda x: 1 / sqrt(x), LOG),
    "sin": (sin, ANGLE),
    "cos": (cos, ANGLE),
    "tan": (tan, ANGLE),
    "atan": (atan, ATAN),
    "erf": (erf, ERF),
    "erfc": (erfc, ERFC),
    "pow": (power, POW),
}


def line(name, arguments, value):
    hi = nearest(value)
    words = [name] + [f"{bits(x):x}" for x in arguments] + [f"{bits(hi):x}"]
    rest = (value - mpf(hi)) / ulp(hi) if math.isfinite(hi) else mpf(0)
    return " ".join([*words, f"{float(rest):.3f}"])


if __name__ == "__main__":
    for name, (function, arguments) in FUNCTIONS.items():
        for argument in arguments:
            # Far-off angles need their 1100 bits; nothing else does, and 400 bits are faster.
            x = argument if isinstance(argument, tuple) else (argument,)
            tiny = (len(x) == 1 and abs(argument) < 1e-30) or len(x) > 1
            mp.prec = 2400 if name in ("sin", "cos", "tan") else 1300 if tiny else 400
            print(line(name, x, function(*map(mpf, x))))
