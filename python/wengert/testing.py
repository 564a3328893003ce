"""What tests need: `assert_close` compares tensors, `make_tensor` makes random ones."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Number

from wengert._core import Tensor, dtype, empty, float64, from_numpy, promote_types

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Message = str | Callable[[str], str] | None

__all__ = ["assert_close", "make_tensor"]

# (relative, absolute); other types have to be equal.
_TOLERANCES = {
    "float16": (1e-3, 1e-5),
    "bfloat16": (1.6e-2, 1e-5),
    "float32": (1.3e-6, 1e-5),
    "float64": (1e-7, 1e-7),
}


class _Difference(Exception):  # noqa: N818 - becomes an AssertionError
    """What differs, and where in nested containers."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text
        self.path: list[Any] = []


def assert_close(
    actual: Any,
    expected: Any,
    *,
    allow_subclasses: bool = True,
    rtol: float | None = None,
    atol: float | None = None,
    equal_nan: bool = False,
    check_device: bool = True,
    check_dtype: bool = True,
    check_layout: bool = True,
    check_stride: bool = False,
    msg: Message = None,
) -> None:
    """Raise an error unless ``abs(actual - expected) <= atol + rtol * abs(expected)``.

    Parameters
    ----------
    actual, expected
        Tensors, arrays or numbers; or sequences or mappings of such, to any depth. Both sides have
        to be of the same kind.
    allow_subclasses
        Accept tensors of different classes.
    rtol, atol
        Tolerances, both or neither. By default those of the type: 1.3e-6 and 1e-5 for float32, 1e-7
        twice for float64, zero for integers and truth values.
    equal_nan
        Whether two NaN are close.
    check_dtype, check_stride
        Whether types and steps in memory have to be the same.
    check_device, check_layout
        Without effect: there is one device and one layout.
    msg
        The text of the error, or a function that makes it of the text there would have been.

    Raises
    ------
    AssertionError
        If something is not close; it says where, and how far off.
    TypeError
        If the two are not of the same kind.
    ValueError
        If one of the tolerances is given and not the other.

    Examples
    --------
    >>> import wengert
    >>> x = wengert.tensor([1.0, 2.0])
    >>> wengert.testing.assert_close(x, x + 1e-7)
    >>> wengert.testing.assert_close({"x": x}, {"x": x * 2})
    Traceback (most recent call last):
    AssertionError: Tensor-likes are not close!
    <BLANKLINE>
    Mismatched elements: 2 / 2 (100.0%)
    Greatest absolute difference: 2.0 at index (1,) (up to 1e-05 allowed)
    Greatest relative difference: 0.5 at index (0,) (up to 1.3e-06 allowed)
    <BLANKLINE>
    The failure occurred for item ['x']
    """
    del check_device, check_layout
    if (rtol is None) != (atol is None):
        missing = "rtol" if rtol is None else "atol"
        raise ValueError(
            f"Both 'rtol' and 'atol' must be either specified or omitted, but got no {missing}."
        )

    def compare(a: Any, b: Any) -> None:
        if isinstance(a, bool) and isinstance(b, bool):
            if a is not b:
                raise _Difference(f"Booleans mismatch: {a} is not {b}")
        elif a is None and b is None:
            pass
        elif isinstance(a, Number) and isinstance(b, Number):
            if check_dtype and type(a) is not type(b):
                raise _Difference(f"The (d)types do not match: {type(a)} != {type(b)}.")
            name = "float64" if isinstance(a, float) or isinstance(b, float) else "int64"
            _compare_numbers(a, b, *_tolerances(name, rtol, atol), equal_nan)
        elif isinstance(a, Mapping) and isinstance(b, Mapping):
            _compare_keys(a, b)
            for key in a:
                _inside(key, compare, a[key], b[key])
        elif _is_sequence(a) and _is_sequence(b):
            if len(a) != len(b):
                raise _Difference(f"The length of the sequences mismatch: {len(a)} != {len(b)}")
            for place, (x, y) in enumerate(zip(a, b, strict=True)):
                _inside(place, compare, x, y)
        else:
            x, y = _tensors(a, b, allow_subclasses)
            _compare_tensors(x, y, rtol, atol, equal_nan, check_dtype, check_stride)

    try:
        compare(actual, expected)
    except _Difference as difference:
        text = difference.text
        if difference.path:
            where = "".join(f"[{key!r}]" for key in reversed(difference.path))
            text += f"\n\nThe failure occurred for item {where}"
        if msg is not None:
            text = msg if isinstance(msg, str) else msg(text)
        raise AssertionError(text) from None


def _inside(key: Any, compare: Callable[[Any, Any], None], a: Any, b: Any) -> None:
    try:
        compare(a, b)
    except _Difference as difference:
        difference.path.append(key)
        raise


def _is_sequence(x: Any) -> bool:
    return isinstance(x, Sequence) and not isinstance(x, str | bytes)


def _compare_keys(a: Mapping[Any, Any], b: Mapping[Any, Any]) -> None:
    if a.keys() == b.keys():
        return
    lines = ["The keys of the mappings do not match:"]
    missing, additional = (sorted(x.keys() - y.keys(), key=str) for x, y in ((b, a), (a, b)))
    if missing:
        lines.append(f"Missing keys in the actual mapping: {missing}")
    if additional:
        lines.append(f"Additional keys in the actual mapping: {additional}")
    raise _Difference("\n".join(lines))


def _tensors(a: Any, b: Any, allow_subclasses: bool) -> tuple[Tensor, Tensor]:
    refusal = TypeError(
        f"No comparison pair was able to handle inputs of type {type(a)} and {type(b)}."
    )
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        if type(a) is not type(b) and not allow_subclasses:
            raise refusal
        return a.detach(), b.detach()
    if hasattr(a, "__array_interface__") and hasattr(b, "__array_interface__"):
        import numpy as np

        return from_numpy(np.asarray(a)), from_numpy(np.asarray(b))
    raise refusal


def _tolerances(name: str, rtol: float | None, atol: float | None) -> tuple[float, float]:
    if rtol is None or atol is None:
        return _TOLERANCES.get(name, (0.0, 0.0))
    return rtol, atol


def _compare_numbers(a: Any, b: Any, rtol: float, atol: float, equal_nan: bool) -> None:
    if a == b or (equal_nan and math.isnan(a) and math.isnan(b)):
        return
    difference = abs(a - b)
    if math.isfinite(difference) and difference <= atol + rtol * abs(b):
        return
    relative = difference / abs(b) if b else math.inf
    exact = rtol == atol == 0
    raise _Difference(
        f"Scalars are not {'equal' if exact else 'close'}!\n\nExpected {b} but got {a}.\n"
        f"Absolute difference: {difference}{_allowed(atol, exact)}\n"
        f"Relative difference: {relative}{_allowed(rtol, exact)}"
    )


def _allowed(tolerance: float, exact: bool) -> str:
    return "" if exact else f" (up to {tolerance} allowed)"


def _compare_tensors(
    a: Tensor,
    b: Tensor,
    rtol: float | None,
    atol: float | None,
    equal_nan: bool,
    check_dtype: bool,
    check_stride: bool,
) -> None:
    attributes: list[tuple[str, Any, Any]] = [("shape", a.shape, b.shape)]
    if check_dtype:
        attributes.append(("dtype", a.dtype, b.dtype))
    if check_stride:
        attributes.append(("stride()", a.stride(), b.stride()))
    for name, x, y in attributes:
        if x != y:
            raise _Difference(f"The values for attribute '{name}' do not match: {x} != {y}.")
    # The wider of the two default tolerances.
    names = [str(t.dtype).rpartition(".")[2] for t in (a, b)]
    defaults = [_TOLERANCES.get(name, (0.0, 0.0)) for name in names]
    if rtol is None or atol is None:
        rtol, atol = (max(column) for column in zip(*defaults, strict=True))
    dtype = promote_types(a.dtype, b.dtype)
    a, b = a.to(dtype), b.to(dtype)
    if a.ndim == 0:
        _compare_numbers(a.item(), b.item(), rtol, atol, equal_nan)
        return
    close = a.isclose(b, rtol=rtol, atol=atol, equal_nan=equal_nan)
    if close.all():
        return
    wide_a, wide_b = a.to(float64), b.to(float64)
    differences = (wide_a - wide_b).abs().masked_fill(close, 0.0)
    relative = (differences / wide_b.abs()).masked_fill(close, 0.0)
    exact = rtol == atol == 0
    wrong, count = int((~close).sum()), a.numel()
    lines = [
        f"Tensor-likes are not {'equal' if exact else 'close'}!\n",
        f"Mismatched elements: {wrong} / {count} ({wrong / count:.1%})",
    ]
    for name, values, tolerance in (
        ("absolute", differences, atol),
        ("relative", relative, rtol),
    ):
        at = _unravel(int(values.argmax()), a.shape)
        value = values[at].item()
        if name == "absolute" and not a.is_floating_point():
            value = int(value)
        lines.append(
            f"Greatest {name} difference: {value} at index {at}{_allowed(tolerance, exact)}"
        )
    raise _Difference("\n".join(lines))


def _unravel(place: int, shape: Sequence[int]) -> tuple[int, ...]:
    index = []
    for size in reversed(shape):
        place, at = divmod(place, size)
        index.append(at)
    return tuple(reversed(index))


def make_tensor(
    *shape: Any,
    dtype: dtype,
    device: Any = None,
    low: float | None = None,
    high: float | None = None,
    requires_grad: bool = False,
    noncontiguous: bool = False,
    exclude_zero: bool = False,
) -> Tensor:
    """Return a tensor of random numbers, evenly spread.

    Parameters
    ----------
    *shape : int
        The sizes, or one sequence of them.
    dtype : dtype
        The element type.
    device : device, optional
        The CPU, if given.
    low, high : float, optional
        Limits; `high` is excluded. By default -9 and 9 (10 for whole numbers), as far as the type
        has them.
    requires_grad : bool
        Whether the result requires grad.
    noncontiguous : bool
        Whether the elements lie two places apart, if there are several.
    exclude_zero : bool
        Whether zeros become the smallest number above, 1 for whole numbers.

    Raises
    ------
    ValueError
        If `low` is not below `high`.

    Examples
    --------
    >>> import wengert
    >>> x = wengert.testing.make_tensor(2, 3, dtype=wengert.float32, low=0, high=1)
    >>> x.shape
    torch.Size([2, 3])
    >>> bool((x >= 0).all() and (x < 1).all())
    True
    """
    from wengert import bool as truth
    from wengert import finfo, uint8

    sizes = list(shape[0]) if len(shape) == 1 and isinstance(shape[0], Sequence) else list(shape)
    floating = dtype.is_floating_point
    lowest, highest = (
        (0, 2) if dtype is truth else (0 if dtype is uint8 else -9, 9 if floating else 10)
    )
    low, high = lowest if low is None else low, highest if high is None else high
    if low >= high:
        raise ValueError(f"`low` must be less than `high`, but got {low} >= {high}")
    spread = noncontiguous and math.prod(sizes) > 1
    memory = [*sizes[:-1], 2 * sizes[-1]] if spread else sizes
    made: Tensor = empty(memory, dtype=dtype, device=device)
    if floating:
        made.uniform_(low, high)
    else:
        made.random_(math.ceil(low), math.ceil(high))
    if spread:
        made = made[..., ::2]
    if exclude_zero:
        made[made == 0] = finfo(dtype).tiny if floating else 1
    return made.requires_grad_(requires_grad) if floating else made
