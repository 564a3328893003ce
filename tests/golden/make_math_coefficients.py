"""Polynomial coefficients of the elementary functions in rust/wengert/src/kernels/math/.

    python tests/golden/make_math_coefficients.py [name ...]

Needs mpmath. Prints, for each polynomial, its largest weighted error and the coefficients from the
constant term upwards, as they stand in the Rust sources.

Method: weighted least squares on Chebyshev points, which is within about a bit of the minimax
polynomial, in 90 digits. Coefficients are rounded to the working type one at a time from the
constant term upwards, and the ones above are refitted after each rounding, so that each rounding
error is absorbed by the terms that are still free.
"""

import struct
import sys

from mpmath import (
    atan,
    cos,
    erf,
    erfc,
    exp,
    expm1,
    fdot,
    log,
    log1p,
    lu_solve,
    matrix,
    mp,
    mpf,
    nstr,
    pi,
    sin,
    sqrt,
)

mp.dps = 90


def to_f32(x):
    return struct.unpack("f", struct.pack("f", float(x)))[0]


def shortest_f32(x):
    for digits in range(1, 10):
        text = f"{x:.{digits}g}"
        if to_f32(float(text)) == x:
            return repr(float(text))
    raise AssertionError(x)


ROUND = {"f32": to_f32, "f64": float}
SHOW = {"f32": shortest_f32, "f64": repr}


def least_squares(basis, target):
    """Coefficients c that minimise the sum of (basis c - target)², by the normal equations."""
    n = len(basis)
    a, b = matrix(n, n), matrix(n, 1)
    for i in range(n):
        b[i] = fdot(basis[i], target)
        for j in range(i + 1):
            a[i, j] = a[j, i] = fdot(basis[i], basis[j])
    return lu_solve(a, b)


def fit(f, lo, hi, degree, kind, weight=lambda x, fx: 1 / fx, points=300):
    """A polynomial of the given degree for f on [lo, hi] with small max |weight * (p - f)|."""
    lo, hi = mpf(lo), mpf(hi)
    grid = [
        (lo + hi) / 2 - (hi - lo) / 2 * cos(pi * (j + mpf(1) / 2) / points) for j in range(points)
    ]
    values = [f(x) for x in grid]
    weights = [weight(x, fx) for x, fx in zip(grid, values, strict=False)]
    basis = [[w * x**i for x, w in zip(grid, weights, strict=False)] for i in range(degree + 1)]
    rest = [w * fx for w, fx in zip(weights, values, strict=False)]
    fixed = []
    for i in range(degree + 1):
        c = mpf(ROUND[kind](least_squares(basis[i:], rest)[0]))
        fixed.append(c)
        rest = [r - c * b for r, b in zip(rest, basis[i], strict=False)]
    return fixed, max(abs(r) for r in rest)


def even(f):
    """f(x) as a function of x * x."""
    return lambda t: f(sqrt(t))


H = log(2) / 2 * mpf("1.001")
EXP = lambda r: (exp(r) - 1 - r) / r**2
EXP_W = lambda r, fx: r**2 / expm1(r)
S = (sqrt(2) - 1) / (sqrt(2) + 1) * mpf("1.0001")
LOG = lambda t: ((log1p(sqrt(t)) - log1p(-sqrt(t))) / sqrt(t) - 2) / t
LOG_W = lambda t, fx: t / ((log1p(sqrt(t)) - log1p(-sqrt(t))) / sqrt(t))
Q = pi / 4 * mpf("1.001")
SIN = lambda t: (sin(sqrt(t)) / sqrt(t) - 1) / t
SIN_W = lambda t, fx: t / (sin(sqrt(t)) / sqrt(t))
COS = lambda t: (cos(sqrt(t)) - 1 + t / 2) / t**2
COS_W = lambda t, fx: t**2 / cos(sqrt(t))
A = (sqrt(2) - 1) * mpf("1.0001")
ATAN = lambda t: (atan(sqrt(t)) / sqrt(t) - 1) / t
ATAN_W = lambda t, fx: t / (atan(sqrt(t)) / sqrt(t))
ERF = even(lambda x: erf(x) / x)
ERF1 = lambda t: 2 / sqrt(pi) if t == 0 else ERF(t)


def erfcx_scaled(k):
    """(1 + 2x) exp(x²) erfc(x) of t = (x - k) / (x + k): Shepherd & Laframboise, 1981."""

    def g(t):
        x = k * (1 + t) / (1 - t)
        return (1 + 2 * x) * exp(x * x) * erfc(x)

    return g


def to_t(x, k):
    return (mpf(x) - k) / (mpf(x) + k)


JOBS = {
    # exp(r) = 1 + r + r² p(r)
    "exp f32": lambda: fit(EXP, -H, H, 5, "f32", EXP_W),
    "exp f64": lambda: fit(EXP, -H, H, 10, "f64", EXP_W),
    # ln((1+s)/(1-s)) = 2s + s³ p(s²)
    "log f32": lambda: fit(LOG, mpf(10) ** -20, S**2, 3, "f32", LOG_W),
    "log f64": lambda: fit(LOG, mpf(10) ** -20, S**2, 7, "f64", LOG_W),
    # the same for pow: ln((1+s)/(1-s)) = s p(s²) log2(e) in f64 for f32, and the tail
    # (p(s²) - 2/3) / s² after the first terms for f64
    "pow f32": lambda: fit(lambda t: (LOG(t) * t + 2) / log(2), mpf(10) ** -20, S**2, 5, "f64"),
    "pow f64": lambda: fit(lambda t: (LOG(t) - mpf(2) / 3) / t, mpf(10) ** -20, S**2, 7, "f64"),
    # 2^f, in f64 for f32
    "exp2 f32": lambda: fit(lambda f: 2**f, "-0.5", "0.5", 7, "f64"),
    # sin(y) = y + y³ p(y²), cos(y) = 1 - y²/2 + y⁴ p(y²); f32 is evaluated in f64
    "sin f32": lambda: fit(SIN, mpf(10) ** -20, Q**2, 3, "f64", SIN_W),
    "sin f64": lambda: fit(SIN, mpf(10) ** -20, Q**2, 5, "f64", SIN_W),
    "cos f32": lambda: fit(COS, mpf(10) ** -20, Q**2, 3, "f64", COS_W),
    "cos f64": lambda: fit(COS, mpf(10) ** -20, Q**2, 5, "f64", COS_W),
    # atan(z) = z + z³ p(z²)
    "atan f32": lambda: fit(ATAN, mpf(10) ** -20, A**2, 4, "f32", ATAN_W),
    "atan f64": lambda: fit(ATAN, mpf(10) ** -20, A**2, 10, "f64", ATAN_W),
    # erf(x) = x p(x² / 8 - 1) for |x| <= 4; f32, evaluated in f64
    "erf f32": lambda: fit(lambda u: ERF1(8 * (u + 1)), -1 + mpf(10) ** -20, 1, 17, "f64"),
    # erf(x) = x + x p(x²)
    "erf f64": lambda: fit(
        lambda t: ERF(t) - 1, mpf(10) ** -20, mpf("0.9") ** 2, 11, "f64", lambda t, fx: 1 / (1 + fx)
    ),
    # erf(x) = 1 - exp(-p(x)), from 0.875 on
    "erflog f64": lambda: fit(
        lambda x: -log(erfc(x)), "0.87", "6", 18, "f64", lambda x, fx: erfc(x) / erf(x)
    ),
    "erfc f32": lambda: fit(erfcx_scaled(4), -1, to_t("10.1", 4), 11, "f64"),
    "erfc f64": lambda: fit(erfcx_scaled(4), -1, to_t("28", 4), 22, "f64"),
}

if __name__ == "__main__":
    for name, job in JOBS.items():
        if sys.argv[1:] and not any(a in name for a in sys.argv[1:]):
            continue
        coefficients, worst = job()
        kind = (
            "f64"
            if name.split()[0] in ("sin", "cos", "erf", "erfc", "pow", "exp2")
            else name.split()[1]
        )
        bits = nstr(log(worst, 2), 4)
        print(f"{name}: error 2^{bits}")
        for c in coefficients:
            print(f"    {SHOW[kind](float(c))},")
