"""`FloatTensor`, `LongTensor` and the like: the types that tensors had before PyTorch 0.4.

Programs of old make tensors with them and ask ``isinstance(x, torch.LongTensor)``. They are no
classes of tensors, but name an element type: calling one makes a `Tensor`, and its instances are
the tensors with those elements.
"""

from __future__ import annotations

from typing import Any

from wengert import Size, Tensor, _core, dtype, empty, set_default_dtype, strided, tensor

__all__ = [
    "BFloat16Tensor",
    "BoolTensor",
    "ByteTensor",
    "CharTensor",
    "DoubleTensor",
    "FloatTensor",
    "HalfTensor",
    "IntTensor",
    "LongTensor",
    "ShortTensor",
    "set_default_tensor_type",
]


class tensortype(type):
    """The class of these types."""

    dtype: dtype
    layout = strided
    is_cuda = False
    is_sparse = False

    def __call__(cls, *args: Any, device: Any = None) -> Tensor:
        """Return a tensor, of given sizes with arbitrary values, or with given values."""
        if device is not None:
            empty(0, device=device)
        return build(cls.dtype, args)

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, Tensor) and instance.dtype is cls.dtype


def build(kind: dtype, args: tuple[Any, ...]) -> Tensor:
    """Return a tensor as constructors of old did: of sizes, of data, or of a tensor's memory."""
    if len(args) == 1 and isinstance(args[0], Size):
        return empty(args[0], dtype=kind)
    if len(args) != 1 or isinstance(args[0], int):
        return empty(args or (0,), dtype=kind)
    (data,) = args
    if isinstance(data, Tensor):
        if data.dtype is not kind:
            raise TypeError(
                f"expected a tensor of {kind} (got one of {data.dtype}): convert it with .to(dtype)"
            )
        return data.view_as(data)
    if isinstance(data, str) or not hasattr(data, "__len__"):
        raise TypeError(f"new(): data must be a sequence (got {type(data).__name__})")
    return tensor(data, dtype=kind)


def _make(name: str, kind: dtype) -> tensortype:
    made = tensortype(name, (), {"__doc__": f"Tensors of {kind}.", "__module__": "wengert"})
    made.dtype = kind
    return made


BFloat16Tensor = _make("BFloat16Tensor", _core.bfloat16)
BoolTensor = _make("BoolTensor", _core.bool)
ByteTensor = _make("ByteTensor", _core.uint8)
CharTensor = _make("CharTensor", _core.int8)
DoubleTensor = _make("DoubleTensor", _core.float64)
FloatTensor = _make("FloatTensor", _core.float32)
HalfTensor = _make("HalfTensor", _core.float16)
IntTensor = _make("IntTensor", _core.int32)
LongTensor = _make("LongTensor", _core.int64)
ShortTensor = _make("ShortTensor", _core.int16)

_TYPES = {
    kind.__name__: kind
    for kind in (
        BFloat16Tensor,
        BoolTensor,
        ByteTensor,
        CharTensor,
        DoubleTensor,
        FloatTensor,
        HalfTensor,
        IntTensor,
        LongTensor,
        ShortTensor,
    )
}


def dtype_of(name: str) -> dtype:
    """Return the element type of a type that is given by name, such as ``"torch.LongTensor"``."""
    package, _, last = name.rpartition(".")
    if package not in ("torch", "wengert") or last not in _TYPES:
        raise ValueError(f"invalid type: '{name}'")
    return _TYPES[last].dtype


def set_default_tensor_type(t: Any) -> None:
    """Set the element type of new tensors by one of the types of old, or its name.

    Parameters
    ----------
    t : type or str
        Such as `DoubleTensor`. `set_default_dtype` does the same with a dtype.

    Examples
    --------
    >>> import wengert
    >>> wengert.set_default_tensor_type(wengert.DoubleTensor)
    >>> wengert.ones(1).dtype
    torch.float64
    >>> wengert.set_default_tensor_type("torch.FloatTensor")
    """
    if isinstance(t, str):
        set_default_dtype(dtype_of(t))
    elif isinstance(t, tensortype):
        set_default_dtype(t.dtype)
    else:
        raise TypeError("invalid type object")
