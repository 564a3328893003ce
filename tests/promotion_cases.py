"""The operands whose element types `test_promotion.py` checks; the golden script uses them too."""

import wengert as torch

DTYPES = (
    "bool",
    "uint8",
    "int8",
    "int16",
    "int32",
    "int64",
    "float16",
    "bfloat16",
    "float32",
    "float64",
)
NUMBERS = {"bool": True, "int": 2, "float": 2.0}

BINARY = {
    "add": torch.add, "sub": torch.sub, "mul": torch.mul, "div": torch.div, "pow": torch.pow,
    "floor_divide": torch.floor_divide, "remainder": torch.remainder,
    "floor": lambda a, b: torch.div(a, b, rounding_mode="floor"), "eq": torch.eq, "lt": torch.lt,
    "maximum": torch.maximum, "where": lambda a, b: torch.where(torch.tensor([True]), a, b),
    "matmul": torch.matmul, "cat": lambda a, b: torch.cat([a, b]), "iadd": lambda a, b: a.add_(b),
    "imul": lambda a, b: a.mul_(b), "idiv": lambda a, b: a.div_(b), "copy_": lambda a,
        b: a.copy_(b),
}  # fmt: skip
SCALAR = {
    "add": lambda a, s: a + s, "rsub": lambda a, s: s - a, "mul": lambda a, s: a * s,
        "div": lambda a, s: a / s,
    "rdiv": lambda a, s: s / a, "pow": lambda a, s: a**s, "rpow": lambda a, s: s**a,
        "floordiv": lambda a, s: a // s,
    "mod": lambda a, s: a % s, "gt": lambda a, s: a > s, "clamp": lambda a, s: torch.clamp(a, s),
    "full_like": torch.full_like, "where": lambda a, s: torch.where(torch.tensor([True]), a, s),
    "iadd": lambda a, s: a.add_(s), "fill_": lambda a, s: a.fill_(s),
}  # fmt: skip
UNARY = {
    "sum": lambda a: a.sum(), "mean": lambda a: a.mean(), "prod": lambda a: a.prod(),
        "amax": lambda a: a.amax(),
    "argmax": lambda a: a.argmax(), "cumsum": lambda a: a.cumsum(0), "var": lambda a: a.var(),
        "any": lambda a: a.any(),
    "exp": torch.exp, "sqrt": torch.sqrt, "sigmoid": torch.sigmoid, "reciprocal": torch.reciprocal,
        "abs": torch.abs,
    "neg": torch.neg, "sign": torch.sign, "floor": torch.floor, "round": torch.round,
        "relu": torch.relu,
    "square": torch.square, "logsumexp": lambda a: a.logsumexp(0),
        "softmax": lambda a: a.softmax(0),
    "softmax as float64": lambda a: a.softmax(0, dtype=torch.float64),
        "sum as float64": lambda a: a.sum(dtype=torch.float64),
    "mean as float32": lambda a: a.mean(dtype=torch.float32), "exp_": lambda a: a.exp_(),
    "to float16": lambda a: a.half(), "to int64": lambda a: a.long(), "ones_like": torch.ones_like,
}  # fmt: skip


def name_of(compute):
    """The name of the element type of a result; "-" for an error."""
    try:
        result = compute()
    except (RuntimeError, TypeError):
        return "-"
    return str(getattr(result, "dtype", result)).rpartition(".")[2]


def operand(dtype, dims):
    return torch.ones([2] * dims, dtype=getattr(torch, dtype))


def pairs(f, dims_a, dims_b):
    return [
        [name_of(lambda a=a, b=b: f(operand(a, dims_a), operand(b, dims_b))) for b in DTYPES]
        for a in DTYPES
    ]


def numbers(f, dims):
    return [
        [name_of(lambda a=a, s=s: f(operand(a, dims), s)) for s in NUMBERS.values()] for a in DTYPES
    ]


def tables():
    """Everything the golden file holds, computed with the package at hand."""
    types = [getattr(torch, d) for d in DTYPES]
    dims = {"dims, dims": (1, 1), "dims, 0-d": (1, 0), "0-d, dims": (0, 1), "0-d, 0-d": (0, 0)}
    result_type = {kind: pairs(torch.result_type, *d) for kind, d in dims.items()}
    result_type |= {f"{n}-d, number": numbers(torch.result_type, n) for n in (0, 1)}
    flat = [("promote_types", torch.promote_types), ("can_cast", torch.can_cast)]
    return {
        "result_type": result_type,
        "types": {
            name: [[name_of(lambda a=a, b=b, f=f: f(a, b)) for b in types] for a in types]
            for name, f in flat
        },
        "binary": {name: pairs(f, 1, 1) for name, f in BINARY.items()},
        "binary with 0-d": {
            name: pairs(f, 1, 0) for name, f in BINARY.items() if name not in ("matmul", "cat")
        },
        "scalar": {name: numbers(f, 1) for name, f in SCALAR.items()},
        "unary": {
            name: [[name_of(lambda a=a, f=f: f(operand(a, 1))) for a in DTYPES]]
            for name, f in UNARY.items()
        },
    }
