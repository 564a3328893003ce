"""`Size`: the type of a tensor's shape."""

from __future__ import annotations


class Size(tuple):  # type: ignore[type-arg]
    """A shape: a tuple of integers that prints itself as PyTorch's.

    Examples
    --------
    >>> import wengert
    >>> wengert.zeros(2, 3).shape
    torch.Size([2, 3])
    >>> wengert.Size([2, 3]).numel()
    6
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return f"torch.Size([{', '.join(map(str, self))}])"

    def numel(self) -> int:
        """Number of elements of a tensor of this shape."""
        count = 1
        for size in self:
            count *= size
        return count

    def __getitem__(self, index):  # type: ignore[no-untyped-def]
        item = tuple.__getitem__(self, index)
        return Size(item) if isinstance(index, slice) else item

    def __add__(self, other):  # type: ignore[no-untyped-def]
        return Size(tuple(self) + tuple(other))

    def __reduce__(self):  # type: ignore[no-untyped-def]
        return Size, (tuple(self),)
