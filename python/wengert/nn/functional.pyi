# Written by tools/make_stubs.py from the operation table; do not edit.
from wengert._core import Tensor, _bool, _float

__all__ = [
    "celu",
    "dropout",
    "elu",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "leaky_relu",
    "logsigmoid",
    "relu6",
    "selu",
    "softsign",
    "tanhshrink",
]

def celu(input: Tensor, alpha: _float = 1.0, inplace: _bool = False) -> Tensor: ...
def dropout(
    input: Tensor,
    p: _float = 0.5,
    training: _bool = True,
    inplace: _bool = False,
) -> Tensor: ...
def elu(input: Tensor, alpha: _float = 1.0, inplace: _bool = False) -> Tensor: ...
def hardsigmoid(input: Tensor, inplace: _bool = False) -> Tensor: ...
def hardswish(input: Tensor, inplace: _bool = False) -> Tensor: ...
def hardtanh(
    input: Tensor,
    min_val: _float = -1.0,
    max_val: _float = 1.0,
    inplace: _bool = False,
) -> Tensor: ...
def leaky_relu(input: Tensor, negative_slope: _float = 0.01, inplace: _bool = False) -> Tensor: ...
def logsigmoid(input: Tensor) -> Tensor: ...
def relu6(input: Tensor, inplace: _bool = False) -> Tensor: ...
def selu(input: Tensor, inplace: _bool = False) -> Tensor: ...
def softsign(input: Tensor) -> Tensor: ...
def tanhshrink(input: Tensor) -> Tensor: ...
