"""What numbers a type can hold: `finfo` and `iinfo`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from . import _core

__all__ = ["finfo", "iinfo"]


@dataclass(frozen=True, init=False)
class finfo:
    """Limits of a floating-point type.

    Parameters
    ----------
    type
        The type; by default the default type.

    Attributes
    ----------
    bits
        Width.
    eps
        Distance from 1 to the next number.
    max, min
        Largest and least finite number.
    tiny, smallest_normal
        Smallest positive number with full precision.
    resolution
        Decimal resolution: the power of ten of the digits that always survive.
    dtype
        Name of the type.

    Examples
    --------
    >>> import wengert
    >>> wengert.finfo(wengert.float64).eps
    2.220446049250313e-16
    """

    bits: int
    eps: float
    max: float
    min: float
    tiny: float
    resolution: float
    dtype: str

    # Bits of the fraction, largest exponent, digits that survive.
    _FORMATS: ClassVar[dict[str, tuple[int, int, int, int]]] = {
        "float16": (16, 10, 15, 3),
        "bfloat16": (16, 7, 127, 2),
        "float32": (32, 23, 127, 6),
        "float64": (64, 52, 1023, 15),
    }

    def __init__(self, type: _core.dtype | None = None) -> None:  # noqa: A002
        dtype = _core.get_default_dtype() if type is None else type
        name = str(dtype).rpartition(".")[2]
        if name not in self._FORMATS:
            raise TypeError(
                "torch.finfo() requires a floating point input type. Use torch.iinfo to handle "
                "'torch.finfo'"
            )
        bits, fraction, exponent, digits = self._FORMATS[name]
        values = {
            "bits": bits,
            "eps": 2.0**-fraction,
            "max": (2.0 - 2.0**-fraction) * 2.0**exponent,
            "min": -(2.0 - 2.0**-fraction) * 2.0**exponent,
            "tiny": 2.0 ** (1 - exponent),
            "resolution": float(f"1e-{digits}"),
            "dtype": name,
        }
        for key, value in values.items():
            object.__setattr__(self, key, value)

    @property
    def smallest_normal(self) -> float:
        """The same as `tiny`."""
        return self.tiny

    def __repr__(self) -> str:
        return (
            f"finfo(resolution={self.resolution:g}, min={self.min:g}, max={self.max:g}, "
            f"eps={self.eps:g}, smallest_normal={self.tiny:g}, tiny={self.tiny:g}, "
            f"dtype={self.dtype})"
        )


@dataclass(frozen=True, init=False)
class iinfo:
    """Limits of an integer type.

    Parameters
    ----------
    type
        The type.

    Attributes
    ----------
    bits
        Width.
    max, min
        Largest and least number.
    dtype
        Name of the type.

    Examples
    --------
    >>> import wengert
    >>> wengert.iinfo(wengert.int8).max
    127
    """

    bits: int
    max: int
    min: int
    dtype: str

    def __init__(self, type: _core.dtype) -> None:  # noqa: A002
        name = str(type).rpartition(".")[2]
        unsigned = name.startswith("uint")
        digits = name.removeprefix("u").removeprefix("int")
        if not digits.isdecimal():
            raise TypeError(
                f"torch.iinfo() requires an integer input type. Use torch.finfo to handle '{type}'"
                if name != "bool"
                else "torch.bool is not supported by torch.iinfo"
            )
        bits = int(digits)
        values = {
            "bits": bits,
            "max": 2**bits - 1 if unsigned else 2 ** (bits - 1) - 1,
            "min": 0 if unsigned else -(2 ** (bits - 1)),
            "dtype": name,
        }
        for key, value in values.items():
            object.__setattr__(self, key, value)

    def __repr__(self) -> str:
        return f"iinfo(min={self.min}, max={self.max}, dtype={self.dtype})"
