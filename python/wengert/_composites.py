"""Functions over several operations whose arguments are nested lists or any number of tensors.

They are compositions, so gradients, forward mode and `vmap` are those of the operations in them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from wengert import Size, Tensor, cat, stack, zeros
from wengert._core import promote_types

__all__ = ["block_diag", "broadcast_shapes", "cartesian_prod", "tensordot"]


def tensordot(
    a: Tensor,
    b: Tensor,
    dims: int | Tensor | Sequence[Sequence[int]] = 2,
    out: Tensor | None = None,
) -> Tensor:
    """Return the sum of products of two tensors over several axes of each.

    Parameters
    ----------
    a, b : Tensor
        The tensors.
    dims : int or pair of sequences of int
        How many of the last axes of `a` and of the first axes of `b` are summed over; or which axes
        of `a` with which of `b`. An axis of length 1 goes with one of any length.
    out : Tensor, optional
        Where to write the result, which is of shape (other axes of `a`, other axes of `b`).

    Raises
    ------
    RuntimeError
        If the axes do not fit.

    Examples
    --------
    >>> import wengert
    >>> a, b = wengert.ones(2, 3, 4), wengert.ones(4, 3)
    >>> wengert.tensordot(a, b, ([1, 2], [1, 0]))
    tensor([12., 12.])
    """
    if isinstance(dims, Tensor):
        dims = dims.tolist() if dims.dim() else int(dims.item())
    if isinstance(dims, int):
        if dims < 0:
            raise RuntimeError(f"tensordot expects dims >= 0, but got dims={dims}")
        if dims > min(a.dim(), b.dim()):
            raise RuntimeError(f"tensordot expects dims < ndim_a or ndim_b, but got dims={dims}")
        dims = (list(range(a.dim() - dims, a.dim())), list(range(dims)))
    if len(dims) != 2 or not all(isinstance(axes, Sequence) for axes in dims):
        raise RuntimeError(
            f"tensordot expects dims to be int or two sequences, but got dims={dims}"
        )
    if len(dims[0]) != len(dims[1]):
        raise RuntimeError("both dimension lists should have same length")
    ours, theirs = (_axes(t, axes) for t, axes in zip((a, b), dims, strict=True))
    for i, j in zip(ours, theirs, strict=True):
        if b.shape[j] == 1:
            a = a.sum(i, keepdim=True)
        elif a.shape[i] == 1:
            b = b.sum(j, keepdim=True)
        elif a.shape[i] != b.shape[j]:
            raise RuntimeError(
                "contracted dimensions need to match, but first has size "
                f"{a.shape[i]} in dim {i} and second has size {b.shape[j]} in dim {j}"
            )
    rows = [i for i in range(a.dim()) if i not in ours]
    columns = [j for j in range(b.dim()) if j not in theirs]
    inner = 1
    for i in ours:
        inner *= a.shape[i]
    left = a.permute(rows + ours).reshape(_size(a, rows), inner)
    right = b.permute(theirs + columns).reshape(inner, _size(b, columns))
    result = left.mm(right).reshape([a.shape[i] for i in rows] + [b.shape[j] for j in columns])
    if out is None:
        return result
    return out.resize_(result.shape).copy_(result)


def _axes(t: Tensor, axes: Sequence[int]) -> list[int]:
    for axis in axes:
        if not -t.dim() <= axis < max(t.dim(), 1):
            raise IndexError(
                "Dimension out of range (expected to be in range of "
                f"[{-t.dim()}, {t.dim() - 1}], but got {axis})"
            )
    found = [axis % t.dim() for axis in axes]
    if len(set(found)) != len(found):
        raise RuntimeError("dim appears multiple times in the list of dims")
    return found


def _size(t: Tensor, axes: Sequence[int]) -> int:
    size = 1
    for axis in axes:
        size *= t.shape[axis]
    return size


def block_diag(*tensors: Tensor) -> Tensor:
    """Return a matrix with matrices along its diagonal, and zeros elsewhere.

    Parameters
    ----------
    *tensors : Tensor
        Matrices; a vector counts as one row, a number as a matrix of one element.

    Examples
    --------
    >>> import wengert
    >>> wengert.block_diag(wengert.tensor([[1, 2]]), wengert.tensor(3))
    tensor([[1, 2, 0],
            [0, 0, 3]])
    """
    for i, t in enumerate(tensors):
        if t.dim() > 2:
            raise RuntimeError(
                "torch.block_diag: Input tensors must have 2 or fewer dimensions. Input "
                f"{i} has {t.dim()} dimensions"
            )
    if not tensors:
        return zeros(1, 0)
    blocks = [t.reshape(1, -1) if t.dim() < 2 else t for t in tensors]
    dtype = blocks[0].dtype
    for block in blocks:
        dtype = promote_types(dtype, block.dtype)
    width = sum(block.shape[1] for block in blocks)
    rows, before = [], 0
    for block in blocks:
        height, own = block.shape
        after = width - before - own
        sides = [zeros(height, before, dtype=dtype), block, zeros(height, after, dtype=dtype)]
        rows.append(cat(sides, 1))
        before += own
    return cat(rows, 0)


def cartesian_prod(*tensors: Tensor) -> Tensor:
    """Return all combinations of elements of vectors, one per row, the last changing fastest.

    Examples
    --------
    >>> import wengert
    >>> wengert.cartesian_prod(wengert.tensor([1, 2]), wengert.tensor([3, 4]))
    tensor([[1, 3],
            [1, 4],
            [2, 3],
            [2, 4]])
    """
    for t in tensors:
        if t.dim() != 1:
            raise RuntimeError(f"Expect a 1D vector, but got shape {list(t.shape)}")
    if len(tensors) == 1:
        return tensors[0]
    sizes = [len(t) for t in tensors]
    columns = []
    for k, t in enumerate(tensors):
        shape = [1] * len(sizes)
        shape[k] = sizes[k]
        columns.append(t.reshape(shape).expand(sizes).reshape(-1))
    return stack(columns, 1)


def broadcast_shapes(*shapes: Any) -> Size:
    """Return the shape to which shapes broadcast.

    Parameters
    ----------
    *shapes : int or sequence of int
        The shapes; a number is a shape of one axis.

    Raises
    ------
    RuntimeError
        If they do not broadcast.
    ValueError
        If a size is negative.

    Examples
    --------
    >>> import wengert
    >>> wengert.broadcast_shapes((2, 1), (3,), ())
    torch.Size([2, 3])
    """
    result: list[int] = []
    for index, shape in enumerate(shapes):
        sizes = (shape,) if isinstance(shape, int) else tuple(shape)
        result = [1] * (len(sizes) - len(result)) + result
        for place in range(-1, -1 - len(sizes), -1):
            size = sizes[place]
            if size == 1 or size == result[place]:
                continue
            if size < 0 and result[place] == 1:
                raise ValueError("Attempting to broadcast a dimension with negative length!")
            if result[place] != 1:
                raise RuntimeError(
                    f"Attempting to broadcast a dimension of length {size} at {place}! Mismatching "
                    f"argument at index {index} had {sizes}; but expected shape should be "
                    f"broadcastable to {result}"
                )
            result[place] = size
    return Size(result)
