"""Conversions of the element type, which are methods."""

from .columns import ALL, SHAPES, Op, S, each_shape


def conversion(name, result, numpy, **columns):
    row = {"forms": "m", "dtypes": ALL, "result": result, "order": 0, "scale": 1} | columns
    samples = row.pop("samples", each_shape)
    return Op(name, lambda a, **_: a.astype(numpy), samples, **row)


ROWS = [
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
]  # fmt: skip
