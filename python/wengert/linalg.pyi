# Written by tools/make_stubs.py from the operation table; do not edit.
from wengert._core import Tensor, _bool, _DType, _Ints, _Number

__all__ = [
    "matmul",
    "vector_norm",
]

def matmul(input: Tensor, other: Tensor, *, out: Tensor | None = None) -> Tensor: ...
def vector_norm(
    input: Tensor,
    ord: _Number = 2,
    dim: _Ints | None = None,
    keepdim: _bool = False,
    *,
    dtype: _DType | None = None,
    out: Tensor | None = None,
) -> Tensor: ...
