# Written by tools/make_stubs.py from the operation table; do not edit.
from wengert._core import Tensor, _bool, _DType, _float, _int, _Ints, _Number

__all__ = [
    "erf",
    "erfc",
    "erfinv",
    "exp2",
    "expit",
    "expm1",
    "log1p",
    "log_softmax",
    "logit",
    "logsumexp",
    "round",
    "sinc",
    "softmax",
    "xlogy",
]

def erf(input: Tensor, *, out: Tensor | None = None) -> Tensor: ...
def erfc(input: Tensor, *, out: Tensor | None = None) -> Tensor: ...
def erfinv(input: Tensor, *, out: Tensor | None = None) -> Tensor: ...
def exp2(input: Tensor, *, out: Tensor | None = None) -> Tensor: ...
def expit(input: Tensor, *, out: Tensor | None = None) -> Tensor: ...
def expm1(input: Tensor, *, out: Tensor | None = None) -> Tensor: ...
def log1p(input: Tensor, *, out: Tensor | None = None) -> Tensor: ...
def log_softmax(
    input: Tensor,
    dim: _int,
    dtype: _DType | None = None,
    *,
    out: Tensor | None = None,
) -> Tensor: ...
def logit(input: Tensor, eps: _float | None = None, *, out: Tensor | None = None) -> Tensor: ...
def logsumexp(
    input: Tensor,
    dim: _Ints,
    keepdim: _bool = False,
    *,
    out: Tensor | None = None,
) -> Tensor: ...
def round(input: Tensor, *, decimals: _int = 0, out: Tensor | None = None) -> Tensor: ...
def sinc(input: Tensor, *, out: Tensor | None = None) -> Tensor: ...
def softmax(
    input: Tensor,
    dim: _int,
    dtype: _DType | None = None,
    *,
    out: Tensor | None = None,
) -> Tensor: ...
def xlogy(input: _Number, other: _Number, *, out: Tensor | None = None) -> Tensor: ...
