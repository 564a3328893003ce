"""Writes print.json: tensors, how they are described, and how PyTorch prints them.

Run with PyTorch 2.13 installed: `python make_print_golden.py`. The tests that read the file need
no PyTorch. Each case holds

expr            makes the tensor, evaluated with `torch` (or a package with its names)
options         arguments of `set_printoptions`, given after `set_printoptions(profile="default")`
default_dtype   what `set_default_dtype` was given before
dtype, shape    of the tensor
values          its elements, row-major: integers, truth values, or for floats the 16 hex digits
                of the float64 of the same value; absent for large tensors, which have
poly            [c0, c1, c2]: element i is c0 + c1 * i + c2 * i**2, exactly
grad_fn, requires_grad
text            `repr(tensor)`

`numbers` pins down the formatting of single floats, `sizes` that of shapes, `changes` what a
sequence of calls leaves in `get_printoptions`.
"""

import json
import math
import pathlib
import random
import struct

import torch

rng = random.Random(20130)
cases = []
seen = set()

inf, nan = math.inf, math.nan
FLOATS = ["float16", "bfloat16", "float32", "float64"]
INTS = ["uint8", "int8", "int16", "int32", "int64"]


def bits(x):
    return struct.pack(">d", x).hex()


def literal(value):
    """Python source for nested lists of numbers, with infinities and NaNs."""
    if isinstance(value, list):
        return "[" + ", ".join(map(literal, value)) + "]"
    if isinstance(value, float) and not math.isfinite(value):
        return f"float('{value}')"
    return repr(value)


def shaped(values, shape):
    """A nested list of that shape."""
    if not shape:
        return values[0]
    if len(shape) == 1:
        return list(values)
    step = math.prod(shape[1:])
    return [shaped(values[i * step : (i + 1) * step], shape[1:]) for i in range(shape[0])]


def case(expr, poly=None, default_dtype=None, stable=False, **options):
    """Records one tensor. `stable` demands that elements two roundings off, as another library
    may compute them where they are not whole, print the same.
    """
    key = (expr, default_dtype, repr(options))
    if key in seen:
        return
    seen.add(key)
    torch.set_printoptions(profile="default")
    torch.set_printoptions(**options)
    torch.set_default_dtype(getattr(torch, default_dtype or "float32"))
    try:
        tensor = eval(expr, {"torch": torch})
        text = repr(tensor)
        flat = tensor.detach().reshape(-1)
        if stable:
            for towards in (inf, -inf):
                exact = tensor.detach()
                moved = exact
                for _ in range(2):
                    moved = torch.nextafter(moved, torch.full_like(moved, towards))
                moved = torch.where(exact == exact.round(), exact, moved)
                body = text.split("grad_fn")[0].rstrip(" ,\n)")
                assert repr(moved).startswith(body), f"{expr} is close to a tie"
    finally:
        torch.set_printoptions(profile="default")
        torch.set_default_dtype(torch.float32)
    record = {
        "expr": expr,
        "options": options,
        "default_dtype": default_dtype or "float32",
        "dtype": str(tensor.dtype).removeprefix("torch."),
        "shape": list(tensor.shape),
        "grad_fn": type(tensor.grad_fn).__name__ if tensor.grad_fn is not None else None,
        "requires_grad": tensor.requires_grad,
        "text": text,
    }
    if poly is None:
        assert flat.numel() <= 1500, expr
        values = flat.tolist()
        record["values"] = [bits(v) for v in values] if flat.is_floating_point() else values
    else:
        i = torch.arange(flat.numel(), dtype=torch.float64)
        formula = poly[0] + poly[1] * i + poly[2] * i * i
        assert torch.equal(flat.double(), formula), expr
        record["poly"] = poly
    cases.append(record)


def tensor(values, dtype=None, **options):
    suffix = f", dtype=torch.{dtype}" if dtype else ""
    case(f"torch.tensor({literal(values)}{suffix})", **options)


def rounded(x, dtype):
    """The value of that type, so that the source says what the tensor holds."""
    return torch.tensor(x, dtype=torch.float64).to(getattr(torch, dtype)).item()


# 0-d tensors of every type.
for dtype in FLOATS:
    for x in [
        0.0,
        -0.0,
        1.0,
        -3.0,
        0.1,
        1 / 3,
        3.14159265,
        1e-3,
        1.00001e-4,
        1e-4,
        9e-5,
        1e4,
        12345.678,
        65504.0,
        inf,
        -inf,
        nan,
    ]:
        tensor(rounded(x, dtype), dtype)
for x in [
    1e8,
    1.00000001e8,
    123456789.0,
    1.5e8,
    1e15,
    1e16,
    1e300,
    1.7976931348623157e308,
    5e-324,
    2.2250738585072014e-308,
    1e-300,
    99999999.5,
    0.00010000000000000002,
    2.5,
    0.00005,
]:
    tensor(x, "float64")
    tensor(-x, "float64", sci_mode=False)
    tensor(x, "float64", sci_mode=True)
    tensor([x, 1.5], "float64", precision=2)
for dtype in INTS:
    info = torch.iinfo(getattr(torch, dtype))
    for n in [0, 7, info.max, info.min]:
        tensor(n, dtype)
    tensor([info.min, 0, 1, info.max], dtype)
    tensor(shaped([rng.randint(info.min, info.max) for _ in range(24)], [2, 3, 4]), dtype)
    case(f"torch.arange(100, dtype=torch.{dtype})")
    case(f"torch.zeros(0, dtype=torch.{dtype})")
    case(f"torch.zeros(2, 0, 3, dtype=torch.{dtype})")
tensor(True)
tensor(False)
tensor([True, False])
tensor([[True, True], [False, True]])
tensor([False] * 40)
case("torch.ones(30, 50, dtype=torch.bool)", poly=[1, 0, 0])
case("torch.zeros(0, dtype=torch.bool)")
case("torch.zeros(3, 0, dtype=torch.bool)")

# Empty tensors.
for shape in ["0", "0, 3", "3, 0", "1, 0, 1", "0, 0, 0, 0"]:
    for dtype in FLOATS:
        case(f"torch.empty({shape}, dtype=torch.{dtype})")
    case(f"torch.empty({shape}, dtype=torch.float64)", default_dtype="float64")
    case(f"torch.empty({shape}, dtype=torch.float32)", default_dtype="float64")
    case(f"torch.empty({shape})", edgeitems=0)
    case(f"torch.empty({shape}, requires_grad=True)", linewidth=10)
tensor([])
tensor([[]])
tensor([[], []])

# Which style: whole, fixed, scientific, and the limits between them.
for dtype in FLOATS:
    for values in [
        [1.0, 2.0, 3.0],
        [1.0, 2.5, 3.0],
        [0.0, -0.0],
        [-0.0, 1.0, 10.0],
        [-0.0, 0.25, -10.0],
        [1.0, 1000.0],
        [1.0, 1001.0],
        [1.0, 1008.0],
        [0.5, 500.0],
        [0.5, 501.0],
        [0.5, 504.0],
        [1.0, inf],
        [100.0, -inf, nan, 0.0],
        [0.5, inf, -inf, nan, 0.0, -0.0],
        [inf, nan],
        [nan, nan, nan],
        [inf] * 30,
        [0.0] * 30,
        [1e-3, 1.0],
        [1e-4],
        [1e-4, inf, nan, -0.0],
        [2e-4, 0.0],
        [30000.0, 1e-2],
        [-1.0, 1.0],
        [-1.5, 1.5],
        [-12345.0, 3.0],
        [0.00016, 0.00026, 0.15],
    ]:
        tensor([rounded(x, dtype) for x in values], dtype)
    tensor([rounded(x, dtype) for x in [1.0, 20.0, -0.0, nan, inf, -inf]], dtype, sci_mode=True)
    tensor([0.0, nan, inf], dtype, sci_mode=True)
    tensor([rounded(x, dtype) for x in [1e-6, 3000.0, inf]], dtype, sci_mode=False)
    tensor([rounded(x, dtype) for x in [60000.0, 3.0, 1.0]], dtype, sci_mode=False)
    for precision in [0, 1, 3, 8, 20]:
        tensor([rounded(x, dtype) for x in [0.1, 2.5, -3.75, 0.0]], dtype, precision=precision)
        tensor([rounded(x, dtype) for x in [0.1, 2.5, 3000.0]], dtype, precision=precision)
for values in [
    [1.0, 1e8],
    [1e8],
    [1.0000001e8, 1e8],
    [1e-4, 1e-4],
    [1.0, 1000.0000000000001],
    [1e300, 1e299],
    [1e300, 1e-300],
    [5e-324],
    [1.5, 5e-324],
    [16777217.0, 16777216.5],
    [1e22, 1e21],
    [4503599627370497.5],
]:
    tensor(values, "float64")
    tensor(values, "float64", sci_mode=False)
    tensor(values, "float64", sci_mode=True, precision=2)
    tensor(values, "float64", default_dtype="float64")
    tensor(values, default_dtype="float64")
for dtype, default in [
    ("float32", "float64"),
    ("float16", "float16"),
    ("float32", "float16"),
    ("bfloat16", "bfloat16"),
    ("float64", "bfloat16"),
    ("int64", "float64"),
    ("int32", "float64"),
    ("bool", "float16"),
]:
    case(f"torch.ones(2, 3, dtype=torch.{dtype})", default_dtype=default)
    case(f"torch.empty(0, dtype=torch.{dtype})", default_dtype=default)
# Ties are decided by the binary value, and by evenness where that is exact.
tensor([0.00005, 0.00015, 0.5, 0.03125, 0.09375, 2.00005, 1.00015], "float64", sci_mode=False)
tensor([0.03125, 0.09375, 0.15625, -0.21875], precision=4)
tensor([0.5, 1.5, 2.5, 3.5, -0.5, 0.25], precision=0)
tensor([0.125, 0.375, 0.625, 99.875, 999.995], precision=2)
tensor([1.00005, 10.00005, 999.99995, 9999.99995], "float64", sci_mode=True)

# Wrapping: element widths against line widths, in every number of dimensions.
for n in range(18, 30):
    case(f"torch.arange({n})")
    case(f"torch.arange({n}, dtype=torch.float32)")
for linewidth in [0, 1, 8, 12, 13, 14, 20, 21, 40, 79, 81, 120, 200]:
    case("torch.arange(30)", linewidth=linewidth)
    case("torch.arange(24, dtype=torch.float64).reshape(2, 3, 4) * 0.5", linewidth=linewidth)
    case("torch.ones(2, requires_grad=True) * 2", linewidth=linewidth)
for shape in [
    [1],
    [1, 1],
    [1, 1, 1],
    [2, 3],
    [3, 1],
    [1, 30],
    [2, 3, 4],
    [2, 1, 2, 2],
    [2, 2, 1, 2, 2],
    [1, 2, 1, 1, 2, 2],
    [3, 40],
    [2, 2, 25],
]:
    n = math.prod(shape)
    sizes = ", ".join(map(str, shape))
    case(f"torch.arange({n}).reshape({sizes})")
    case(f"torch.arange({n}, dtype=torch.int16).reshape({sizes}) - {n // 2}")
    case(f"torch.arange({n}, dtype=torch.float32, requires_grad=True).reshape({sizes}) * 0.25")
    tensor(shaped([rounded(rng.gauss(0, 1), "float32") for _ in range(n)], shape))
    tensor(shaped([rounded(10 ** rng.uniform(-6, 6), "float32") for _ in range(n)], shape))
    tensor(shaped([rounded(rng.gauss(0, 100), "bfloat16") for _ in range(n)], shape), "bfloat16")

# Edges of large tensors.
case("torch.arange(1000)", poly=[0, 1, 0])
case("torch.arange(1001)", poly=[0, 1, 0])
case("torch.arange(1001, dtype=torch.float32)", poly=[0, 1, 0])
case("torch.arange(1001, dtype=torch.float64) * 0.5", poly=[0, 0.5, 0])
case("torch.zeros(1001)", poly=[0, 0, 0])
case("torch.arange(1000000)", poly=[0, 1, 0])
case("torch.arange(1000000).reshape(1000, 1000)", poly=[0, 1, 0])
case("torch.arange(1000000).reshape(10, 10, 10, 10, 10, 10)", poly=[0, 1, 0], edgeitems=1)
case("torch.arange(10000).reshape(10000, 1)", poly=[0, 1, 0])
case("torch.arange(10000).reshape(1, 10000)", poly=[0, 1, 0])
case("torch.arange(6000).reshape(6, 1000)", poly=[0, 1, 0])
case("torch.arange(7000).reshape(7, 1000)", poly=[0, 1, 0])
case("torch.arange(6000).reshape(1000, 6)", poly=[0, 1, 0])
case("torch.arange(12000).reshape(2, 1000, 6)", poly=[0, 1, 0])
case("torch.arange(12000).reshape(1000, 2, 6)", poly=[0, 1, 0])
case("torch.arange(1024).reshape(2, 2, 2, 2, 2, 2, 2, 2, 2, 2)", poly=[0, 1, 0])
case("torch.ones(40, 40, requires_grad=True)", poly=[1, 0, 0])
case("torch.ones(40, 40, dtype=torch.float16, requires_grad=True)", poly=[1, 0, 0])
case("torch.ones(100, 100, requires_grad=True) * 1.5", poly=[1.5, 0, 0])
case("torch.zeros(100000, 100, dtype=torch.uint8)", poly=[0, 0, 0])
case("torch.arange(1, 2002) / 64", poly=[1 / 64, 1 / 64, 0])
case("torch.full((2000,), -1.5)", poly=[-1.5, 0, 0])
case("torch.full((40, 50), 123456.0)", poly=[123456, 0, 0])
# The largest elements are in the middle, out of sight, and must not widen the rest.
case("(torch.arange(2001) - 1000) ** 2 * (-1) + 1000000", poly=[0, 2000, -1])
case(
    "(torch.arange(2000, dtype=torch.float64) - 1000) ** 2 * (-0.25) + 250000.25",
    poly=[0.25, 500, -0.25],
)
case(
    "((torch.arange(90000) - 45000) ** 2 * (-1)).reshape(300, 300) + 2025000000",
    poly=[0, 90000, -1],
)
for options in [
    {"edgeitems": 1},
    {"edgeitems": 2},
    {"edgeitems": 5},
    {"edgeitems": 0},
    {"edgeitems": 10, "linewidth": 60},
    {"threshold": 10000},
    {"threshold": 0},
    {"profile": "short"},
    {"threshold": 5, "edgeitems": 40},
    {"threshold": 1e9},
    {"threshold": 1199.5},
]:
    case("torch.arange(1200)", poly=[0, 1, 0], **options)
    case("torch.arange(1200).reshape(30, 40)", poly=[0, 1, 0], **options)
    case(
        "torch.arange(1200, dtype=torch.float64).reshape(10, 12, 10) * 0.5",
        poly=[0, 0.5, 0],
        **options,
    )
    case("torch.tensor([[1.5, 2.0, 3.0], [4.0, 5.0, 6.0]])", **options)
    case("torch.tensor(2.5, requires_grad=True)", **options)
case("torch.arange(1100)", profile="full")
case("torch.arange(1050).reshape(35, 30) / 7", profile="full", stable=True)
case("torch.arange(20) / 8", profile="short")
case("torch.arange(20) / 8", profile="short", precision=5, threshold=3)
case("torch.arange(20) / 8", profile="full", sci_mode=True)
case("torch.arange(20) / 8", profile="short", linewidth=30)

# Gradients: the name of the operation, or the flag, on this line or the next.
for expr in [
    "torch.tensor([1.0, 2.0], requires_grad=True)",
    "torch.tensor(1.5, requires_grad=True)",
    "torch.tensor(1.5, dtype=torch.float64, requires_grad=True)",
    "torch.ones(3, 4, requires_grad=True)",
    "torch.ones(3, 4, requires_grad=True) + 1",
    "torch.ones(3, 4, requires_grad=True) * 2",
    "torch.ones(3, 4, requires_grad=True) - 0.5",
    "1 - torch.ones(3, 4, requires_grad=True)",
    "torch.ones(3, 4, requires_grad=True) / 4",
    "2 / torch.ones(3, 4, requires_grad=True)",
    "torch.ones(3, 4, requires_grad=True) ** 2",
    "-torch.ones(3, 4, requires_grad=True)",
    "torch.ones(3, 4, requires_grad=True).t()",
    "torch.ones(3, 4, requires_grad=True).t() + 0.5",
    "torch.ones(3, 4, requires_grad=True).sum()",
    "(torch.ones(3, 4, requires_grad=True) * 0.5).sum()",
    "torch.ones(3, 4, requires_grad=True).sum(0)",
    "torch.ones(3, 4, requires_grad=True).sum(1)",
    "torch.ones(3, 4, requires_grad=True).reshape(2, 6)",
    "torch.ones(3, 4, requires_grad=True).reshape(12) * 1.5",
    "torch.ones(0, requires_grad=True) * 2",
    "torch.ones(0, 3, dtype=torch.float64, requires_grad=True) * 2",
    "torch.eye(3, requires_grad=True)",
    "torch.eye(5, dtype=torch.float64)",
    "torch.eye(3, dtype=torch.int64)",
]:
    case(expr)
    case(expr, linewidth=44)
for expr in [
    "torch.linspace(0, 1, 11)",
    "torch.linspace(-3, 3, 7, dtype=torch.float64)",
    "torch.linspace(1, 2, 100)",
    "torch.linspace(-1, 1, 9, requires_grad=True).exp()",
    "(torch.arange(6, dtype=torch.float32).reshape(2, 3) * 0.5).exp()",
    "torch.arange(20, dtype=torch.float64).exp()",
    "torch.arange(1, 7, dtype=torch.float64, requires_grad=True).sin()",
    "torch.arange(1, 41, dtype=torch.float32).reshape(5, 8).sin()",
    "(torch.arange(1, 10, dtype=torch.float32, requires_grad=True) * -3).exp()",
    "torch.arange(1, 9) / 3",
    "torch.arange(1, 9, dtype=torch.float64, requires_grad=True) / 7",
    "1 / torch.arange(1, 3000, 250)",
]:
    case(expr, stable=True)
    case(expr, stable=True, sci_mode=True)
    case(expr, stable=True, precision=2, linewidth=60)
# The suffix around the column where it wraps.
for n in range(6, 12):
    case(f"torch.arange({n}, dtype=torch.float32, requires_grad=True) + 0.5")
    case(f"torch.arange({n * 2}, dtype=torch.int32)")
    case(f"torch.arange({n * 2}, dtype=torch.float64, requires_grad=True)")
    case(f"torch.arange({n * 2}, dtype=torch.float64, requires_grad=True).reshape(2, {n}) * 2")

numbers = []
for x in [
    0.0,
    -0.0,
    0.5,
    1.5,
    2.5,
    0.125,
    1e-5,
    9.5e-5,
    0.0001,
    1e15,
    1e16,
    9999999999999998.0,
    1e22,
    1e23,
    1e300,
    5e-324,
    1.7976931348623157e308,
    0.1,
    1 / 3,
    123456.789,
    inf,
    -inf,
    nan,
    *(rng.uniform(-1000, 1000) for _ in range(40)),
    *(10 ** rng.uniform(-310, 308) for _ in range(60)),
]:
    precision = rng.choice([0, 1, 2, 4, 7, 17])
    numbers.append(
        {
            "bits": bits(x),
            "precision": precision,
            "fixed": f"{x:.{precision}f}",
            "scientific": f"{x:.{precision}e}",
            "repr": repr(x),
        }
    )

sizes = [
    {"shape": s, "size": repr(torch.Size(s)), "tuple": repr(tuple(s))}
    for s in [[], [0], [3], [2, 3], [1, 0, 5]]
]

changes = []
torch.set_printoptions(profile="default")
for call in [
    {"precision": 2},
    {"sci_mode": True},
    {"edgeitems": 5},
    {"profile": "short"},
    {"threshold": 10, "profile": "full"},
    {"profile": "full"},
    {"linewidth": 100},
    {"profile": "short", "precision": 7, "sci_mode": False},
    {},
    {"profile": "default"},
]:
    torch.set_printoptions(**call)
    after = torch._tensor_str.get_printoptions()
    if after["threshold"] == inf:
        after["threshold"] = None  # JSON has no infinity.
    changes.append({"call": call, "after": after})
torch.set_printoptions(profile="default")

path = pathlib.Path(__file__).with_name("print.json")
golden = {
    "torch": torch.__version__.split("+")[0],
    "cases": cases,
    "numbers": numbers,
    "sizes": sizes,
    "changes": changes,
}
lines = []
for key, value in golden.items():
    if isinstance(value, list):
        rows = ",\n".join(json.dumps(row) for row in value)
        lines.append(f'"{key}": [\n{rows}\n]')
    else:
        lines.append(f'"{key}": {json.dumps(value)}')
path.write_text("{\n" + ",\n".join(lines) + "\n}\n")
print(f"{len(cases)} cases, {path.stat().st_size} bytes")
