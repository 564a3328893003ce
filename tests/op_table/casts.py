"""Other element types."""

import numpy as np

from .columns import ALL, SHAPES, Op, S, each_shape

ROUNDED = "rounding has no derivative that differences could see"


def cast(name, dtype, **columns):
    row = {"order": 0, "limits": ROUNDED} | columns
    kind = "float32" if dtype == "bfloat16" else dtype
    return Op(name, lambda a: a.astype(kind), each_shape, "m", ALL, dtype, **row)


ROWS = [
    cast("double", "float64", order=2, limits=""),
    cast("float", "float32"),
    cast("half", "float16"),
    cast("bfloat16", "bfloat16"),
    cast("long", "int64"),
    cast("int", "int32"),
    cast("short", "int16"),
    cast("char", "int8"),
    cast("byte", "uint8", low=0),
    cast("bool", "bool"),
    Op("to", lambda a, dtype: a, lambda g: [S(g(*s), dtype="float64") for s in SHAPES], "m", ALL,
        "float64"),
    Op("type_as", lambda a, b: a.astype("int64"),
        lambda g: [S(g(*s), np.zeros(2, "int64")) for s in SHAPES], "m", ALL, "int64", 0),
]  # fmt: skip
