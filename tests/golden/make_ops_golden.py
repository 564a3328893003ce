"""Writes ops.json: what PyTorch answers to calls of pointwise operations, reductions and scans.

Run with a Python that has PyTorch:  python make_ops_golden.py

A case is a call and its outcome:

    {"name", "overload", "args": {parameter: value}, "outputs": [tensor, ...], "node", "grads"}
    {"name", "overload", "args", "error": "the message's first line"}

`overload` is the number of the signature in the table of operations. Tensors are
{"dtype", "shape", "values"}, values being numbers, or "nan", "inf", "-inf", "-0" where JSON has no
word for them. `node` is the name of the first output's grad_fn and `grads` the gradients of the sum
of all floating outputs by the floating inputs; both are there if the operation is differentiable.
"""

import json
import math
import warnings
from pathlib import Path

import torch

warnings.simplefilter("ignore")

nan, inf = math.nan, math.inf
SPECIAL = [
    0.0,
    -0.0,
    0.5,
    -0.5,
    1.0,
    -1.0,
    1.5,
    -2.5,
    3.0,
    7.25,
    -100.0,
    1e-8,
    1e10,
    -1e30,
    inf,
    -inf,
    nan,
]
DTYPES = [torch.bool, torch.uint8, torch.int32, torch.int64, torch.float16, torch.float32]
cases = []


def number(v):
    if isinstance(v, bool | int):
        return v
    if math.isnan(v):
        return "nan"
    if math.isinf(v):
        return "inf" if v > 0 else "-inf"
    return "-0" if v == 0 and math.copysign(1, v) < 0 else v


def tensor(t):
    values = [number(v) for v in t.detach().reshape(-1).tolist()]
    return {"dtype": str(t.dtype).removeprefix("torch."), "shape": list(t.shape), "values": values}


def argument(v):
    if isinstance(v, torch.Tensor):
        return {"tensor": tensor(v)}
    if isinstance(v, torch.dtype):
        return {"dtype": str(v).removeprefix("torch.")}
    if isinstance(v, float):
        return {"float": number(v)}
    return v


def find(name):
    for place in (torch, torch.Tensor):
        found = place
        for part in name.split("."):
            found = getattr(found, part, None)
        if found is not None:
            return found
    raise AttributeError(name)


def add(name, *args, overload=0, grad=True, **kwargs):
    """One case; positional arguments are named `0`, `1`, …."""
    f = find(name)
    shown = {str(i): a for i, a in enumerate(args)} | kwargs
    case = {"name": name, "overload": overload, "args": {k: argument(v) for k, v in shown.items()}}
    leaf = {}

    def own(key, v):
        if not isinstance(v, torch.Tensor):
            return v
        v = v.detach().clone()
        if grad and v.is_floating_point():
            v.requires_grad_()
            leaf[key] = v
        return v

    args = [own(str(i), a) for i, a in enumerate(args)]
    kwargs = {k: own(k, v) for k, v in kwargs.items()}
    try:
        result = f(*args, **kwargs)
    except (RuntimeError, IndexError, TypeError, ValueError) as error:
        cases.append(case | {"error": str(error).split("\n")[0]})
        return
    outputs = list(result) if isinstance(result, tuple) else [result]
    outputs = [torch.tensor(o) if isinstance(o, bool) else o for o in outputs]
    case["outputs"] = [tensor(o) for o in outputs]
    floating = [o for o in outputs if o.requires_grad]
    try:
        if floating:
            sum(o.sum() for o in floating).backward()
            case["node"] = floating[0].grad_fn.name()
            case["grads"] = {k: None if v.grad is None else tensor(v.grad) for k, v in leaf.items()}
    except RuntimeError:
        pass  # PyTorch has no derivative, or none for these types
    cases.append(case)


T = torch.tensor

UNARY = [
    "neg",
    "abs",
    "sign",
    "exp",
    "exp2",
    "expm1",
    "log",
    "log2",
    "log10",
    "log1p",
    "sqrt",
    "rsqrt",
    "reciprocal",
    "square",
    "sin",
    "cos",
    "tan",
    "asin",
    "acos",
    "atan",
    "sinh",
    "cosh",
    "asinh",
    "acosh",
    "atanh",
    "tanh",
    "sigmoid",
    "relu",
    "erf",
    "erfc",
    "logit",
    "deg2rad",
    "rad2deg",
    "nan_to_num",
    "round",
    "floor",
    "ceil",
    "trunc",
    "frac",
    "signbit",
    "isnan",
    "isfinite",
    "isinf",
    "logical_not",
    "bitwise_not",
    "nn.functional.logsigmoid",
    "nn.functional.softsign",
    "nn.functional.tanhshrink",
    "nn.functional.hardtanh",
    "nn.functional.relu6",
    "nn.functional.hardswish",
    "nn.functional.hardsigmoid",
    "nn.functional.leaky_relu",
    "nn.functional.elu",
    "nn.functional.selu",
    "nn.functional.celu",
]

for name in UNARY:
    points = SPECIAL
    if name in ("sin", "cos", "tan"):  # its float32 angles above 1e5 are another library's business
        points = [v for v in SPECIAL if not math.isfinite(v) or abs(v) < 1e5]
    if name.endswith(("hardswish", "hardsigmoid", "elu")):  # gradients of NaN are a matter of taste
        points = SPECIAL[:-1]
    if name == "sigmoid":  # PyTorch's is 0 where the result is subnormal
        points = [v for v in SPECIAL if v != -100.0]
    if name.endswith("logsigmoid"):  # PyTorch's is +0 where the result underflows from below
        points = [v for v in SPECIAL if not v > 1e9]
    add(name, T(points))
    if name.rpartition(".")[2] not in (
        "hardsigmoid",
        "selu",
    ):  # constants are of single precision there
        add(name, T(points, dtype=torch.float64))
    for dtype in (torch.bool, torch.uint8, torch.int32, torch.float16):
        add(name, T([1, 0, 3], dtype=dtype))
for decimals in (2, -1):
    add("round", T([1234.5678, 0.5, 1.5, -2.5, 2.675, 15.0, -25.0]), decimals=decimals)
add("logit", T([-0.5, 0.0, 0.3, 1.0]), eps=0.1)
add("nan_to_num", T([nan, inf, -inf, 1.0]), nan=1.0, posinf=2.0, neginf=-3.0)

BINARY = [
    "add",
    "sub",
    "mul",
    "div",
    "floor_divide",
    "remainder",
    "fmod",
    "pow",
    "maximum",
    "minimum",
    "fmax",
    "fmin",
    "atan2",
    "hypot",
    "logaddexp",
    "xlogy",
    "copysign",
    "heaviside",
    "rsub",
    "eq",
    "ne",
    "lt",
    "le",
    "gt",
    "ge",
    "logical_and",
    "logical_or",
    "logical_xor",
    "bitwise_and",
    "bitwise_or",
    "bitwise_xor",
]
PAIR = [0.0, -0.0, 0.5, 1.0, -1.0, 2.0, -2.5, 3.0, inf, -inf, nan]

for name in BINARY:
    a, b = torch.meshgrid(T(PAIR), T(PAIR), indexing="ij")
    add(name, a.reshape(-1), b.reshape(-1), grad=False)
    for dtype in (torch.float32, torch.float64):
        add(name, T([0.5, 1.0, 2.0, 3.0], dtype=dtype), T([0.3, 1.0, 4.0, 1.5], dtype=dtype))
    for dtype in DTYPES:
        add(name, T([1, 0, 3], dtype=dtype), T([1, 1, 2], dtype=dtype))
        add(name, T([1, 0, 3], dtype=dtype), T([[2.5], [1.0]]))
    add(name, T([-7, 7, -7, 7]), T([2, -2, -2, 2]))
    add(name, T([5, -5]), T([0, 1]))
for name in ("fmax", "fmin", "maximum", "minimum", "xlogy", "copysign", "pow", "atan2"):
    add(name, T([0.0, 0.0, 0.0, 1.0, nan, 2.0]), T([0.0, 1.0, 2.0, 1.0, 1.0, 0.0]))
for rounding_mode in ("floor", "trunc"):
    add("div", T([-7.0, 7.0, 5.5]), T([2.0, -2.0, 0.5]), rounding_mode=rounding_mode)
    add("div", T([-7, 7, 5]), T([2, -2, 5]), rounding_mode=rounding_mode)
add("pow", T([1, -1, 2, 0, -1]), T([-1, -1, -1, -1, -2]))
add("pow", T([2, 3]), -1)
add("pow", T([2, 3]), 0.5)
add("pow", T([2.0, 0.0, -3.0]), 3)
add("pow", T([2.0, 0.0]), 0)
add("pow", T([True, False]), 2)
add("pow", 2, T([1.0, 2.0]))
add("rsub", T([3, 1]), 1, alpha=2)
add("rsub", T([3.0, 1.0]), 1)
for name in ("remainder", "fmod", "copysign"):
    add(name, T([3.5, -1.0]), 2)
add("add", T([3, 1]), T([1, 1]), alpha=1.5)
add("addcmul", T([1.0, 2.0]), T([3.0, 4.0]), T([5.0, 6.0]), value=0.5)
add("addcmul", T([1, 2]), T([3, 4]), T([5, 6]), value=2)
add("addcdiv", T([1.0, 2.0]), T([3.0, 4.0]), T([5.0, 8.0]), value=0.5)
add("addcdiv", T([1, 2]), T([3, 4]), T([5, 8]))
add("lerp", T([1.0, 2.0]), T([3.0, 6.0]), 0.25)
add("lerp", T([1.0, 2.0]), T([3.0, 6.0]), T([0.75, 0.5]))
add("lerp", T([1, 2]), T([3, 6]), 0.25)
add("isclose", T([1.0, 2.0, inf, nan]), T([1.0 + 1e-6, 2.1, inf, nan]))
add("isclose", T([1.0, nan]), T([1.0, nan]), equal_nan=True)
add("isclose", T([1, 200], dtype=torch.uint8), T([2, 201], dtype=torch.uint8), atol=1.0)
add("isclose", T([1]), T([1.0]))
add("isclose", T([1.0]), T([1.0]), rtol=-1.0)
add("allclose", T([1.0, 2.0]), T([1.0, 2.0]))
add("equal", T([1.0, 2.0]), T([1, 2]))
add("equal", T([1.0, 2.0]), T([[1.0, 2.0]]))
add("equal", T([]), T([]))

M = T([[1.0, 3.0, 3.0], [2.0, 0.0, 2.0]])
WITH_NAN = T([[1.0, nan, 3.0], [2.0, nan, nan]])
EMPTY = torch.zeros(0, 3)
for name in ["sum", "nansum", "mean", "amax", "amin", "any", "all"]:
    for dims in (
        {},
        {"dim": (0,)},
        {"dim": (1,), "keepdim": True},
        {"dim": (0, 1)},
        {"dim": (0, 0)},
        {"dim": (2,)},
    ):
        add(name, M, **dims)
        add(name, torch.arange(24.0).reshape(2, 3, 4), **dims)
    if name not in ("amax", "amin"):  # their gradient there is NaN, ours goes to the NaN
        add(name, WITH_NAN, dim=(1,))
    for dtype in DTYPES:
        add(name, T([3, 0, 3], dtype=dtype))
    for dim in ((0,), (1,)):
        add(name, EMPTY, dim=dim)
    if name not in ("amax", "amin"):
        add(name, EMPTY)
    add(name, T(3.0))
    add(name, T(3.0), dim=(0,))
add("amax", torch.zeros(0))
add("sum", T([3, 4], dtype=torch.int8), dtype=torch.int32)
add("sum", M, dtype=torch.float64)
add("mean", T([3, 4]), dtype=torch.float64)
add("all", M, dim=())
for name in ("max", "min"):
    add(name, M)
    add(name, T([1.0, nan, 5.0]))
    for dim in (0, 1, -1, 2):
        add(name, M, dim=dim, overload=2)
        add(name, WITH_NAN, dim=dim, overload=2, keepdim=True)
    add(name, M, M.flip(0), overload=1)
    add(name, torch.zeros(0))
    add(name, EMPTY, dim=0, overload=2)
    add(name, EMPTY, dim=1, overload=2)
    add(name, T(3.0), dim=0, overload=2)
    for dtype in DTYPES:
        add(name, T([3, 0, 3], dtype=dtype))
        add(name, T([3, 0, 3], dtype=dtype), dim=0, overload=2)
for name in ("argmax", "argmin"):
    for kwargs in ({}, {"dim": 0}, {"dim": -1, "keepdim": True}, {"keepdim": True}, {"dim": 2}):
        add(name, M, **kwargs)
        add(name, WITH_NAN, **kwargs)
    add(name, torch.zeros(0))
    add(name, EMPTY, dim=0)
    add(name, T([True]))
add("aminmax", M)
add("aminmax", M, dim=1, keepdim=True)
add("aminmax", torch.zeros(0))
add("count_nonzero", M)
add("count_nonzero", WITH_NAN, dim=(1,))
add("prod", M)
add("prod", M + 1)
add("prod", T([0.0, 2.0, 0.0]))
add("prod", M, dim=1, overload=1)
add("prod", M, dim=0, overload=1, keepdim=True)
add("prod", EMPTY, dim=0, overload=1)
add("prod", T(0.0))
for dtype in DTYPES:
    add("prod", T([3, 2, 3], dtype=dtype))
add("prod", T([2, 3], dtype=torch.int8), dtype=torch.float32)
for name in ("var", "std", "var_mean", "std_mean"):
    grid = torch.arange(24.0).reshape(2, 3, 4).sin()
    add(name, grid, overload=1)
    add(name, grid, dim=(1,))
    add(name, grid, dim=(0, 2), unbiased=False, keepdim=True)
    add(name, grid, dim=(0,), correction=0.5, overload=1)
    add(name, grid, False, overload=2)
    add(name, T([2.0, 2.0, 2.0]), overload=1)
    add(name, T([2.0]), overload=1)
    add(name, T([2.0]), correction=0, overload=1)
    add(name, EMPTY, dim=(0,))
    add(name, T([1, 2]), overload=1)
    add(name, T([300.0, -300.0, 300.0, -300.0], dtype=torch.float16), overload=1)
for order in (2, 1, 3, 0.5, 0, inf, -inf, -1):
    for data in (M + 0.5, M - 1.5):
        add("norm", data, p=order, overload=1)
        add("linalg.vector_norm", data, order, dim=(1,), keepdim=True)
add("norm", M)
add("norm", T([0.0, 0.0]))
add("norm", T([0.0, 0.0]), p=3, overload=1)
add("norm", T([1, 2]))
add("linalg.vector_norm", torch.zeros(0), inf)
add("linalg.vector_norm", M, dtype=torch.float64)
for name in ("cummax", "cummin", "logcumsumexp"):
    for dim in (0, 1, -1, 2):
        add(name, M, dim)
    add(name, T(3.0), 0)
    add(name, EMPTY, 0)
    if name != "logcumsumexp":
        add(name, T([1.0, 5.0, 5.0, 2.0, nan, 3.0]), 0)
    for dtype in DTYPES:
        add(name, T([3, 2, 3], dtype=dtype), 0)
add("logcumsumexp", T([-inf, -inf, 1.0, 80.0, -300.0, 2.0]), 0, grad=False)
add("logcumsumexp", T([1.0, inf, 2.0]), 0, grad=False)
for name in ("cumsum", "cumprod"):
    for dim in (0, 1, -1, 2):
        add(name, M, dim)
        add(name, M + 1, dim)
    add(name, T([1.0, 5.0, nan, 3.0]), 0)
    add(name, T(3.0), 0)
    add(name, EMPTY, 0)
    add(name, M, 0, dtype=torch.float64)
    for dtype in DTYPES:
        add(name, T([3, 2, 3], dtype=dtype), 0)
add("cumprod", T([2.0, 0.0, 3.0, 0.0, 5.0]), 0)
add("flip", M, (0,))
add("flip", M, (0, 1))
add("flip", M, (0, 0))
add("flip", M, (2,))

path = Path(__file__).with_name("ops.json")
path.write_text("[\n" + ",\n".join(json.dumps(c, separators=(",", ":")) for c in cases) + "\n]\n")
print(len(cases), "cases,", path.stat().st_size, "bytes")
