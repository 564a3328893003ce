r"""Sums of products in Einstein's notation: `einsum`.

Every operand is brought to one common list of axes, those of the result first and those to be
summed last, with size 1 where it lacks an axis. Operands are then multiplied from left to right; an
axis is summed as soon as no later operand has it.

A product of two with sums is a batched matrix product. Their axes fall into four kinds: in both and
kept (the batch), in the left or the right alone (rows, columns), and in both and summed. An axis of
size 1 counts as absent, which is what broadcasting means.

Nothing here has a derivative of its own: all steps are recorded operations.
"""

from __future__ import annotations

from wengert._core import Tensor, bmm

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["einsum"]

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
# An ellipsis stands for axes that are numbered from the right, so that they align.
_ELLIPSIS = "..."


def einsum(*args: Any) -> Tensor:
    """Multiply tensors and sum over axes, as an equation says.

    Parameters
    ----------
    equation : str
        A letter per axis of each operand, operands separated by commas; after ``->`` the axes of
        the result. A letter of several operands is one axis, whose sizes broadcast; twice in one
        operand it takes a diagonal. Letters that the result lacks are summed. ``...`` stands for
        any number of further axes. Without ``->`` the result has the axes of the ellipsis, then the
        letters that occur once, in alphabetical order (upper case first).
    *operands : Tensor
        One per part of the equation, or a list of them. Instead of an equation, each may be
        followed by the list of its axes as numbers in [0, 52) and ``...``, and the last by that of
        the result.

    Returns
    -------
    Tensor
        The sum of the products.

    Raises
    ------
    RuntimeError
        If the equation is not well-formed or does not fit the operands.
    ValueError
        If operands are missing, or a number of an axis is out of range.

    Examples
    --------
    >>> import wengert
    >>> a, b = wengert.arange(6.0).view(2, 3), wengert.arange(3.0)
    >>> wengert.einsum("ij,j->i", a, b)
    tensor([ 5., 14.])
    >>> wengert.einsum("ii", wengert.ones(3, 3))
    tensor(3.)
    >>> wengert.einsum("...i,...i", a, a)
    tensor([ 5., 50.])
    """
    if len(args) < 2:
        raise ValueError(
            "einsum(): must specify the equation string and at least one operand, or at least one "
            "operand and its subscripts list"
        )
    if isinstance(args[0], Tensor):
        inputs, output, operands = _from_lists(args)
    else:
        equation, *rest = args
        if not isinstance(equation, str):
            raise TypeError(
                "einsum(): argument 'equation' (position 1) must be str, not "
                f"{type(equation).__name__}"
            )
        if len(rest) == 1 and isinstance(rest[0], list | tuple):
            rest = list(rest[0])
        operands = rest
        inputs, output = _parse(equation)
    for place, x in enumerate(operands):
        if not isinstance(x, Tensor):
            raise TypeError(
                f"expected Tensor as element {place} in argument 1, but got {type(x).__name__}"
            )
    if len(inputs) > len(operands):
        raise RuntimeError("einsum(): fewer operands were provided than specified in the equation")
    if len(inputs) < len(operands):
        raise RuntimeError("einsum(): more operands were provided than specified in the equation")
    return _contract(inputs, output, operands)


# ---- reading -------------------------------------------------------------------------------------


def _parse(equation: str) -> tuple[list[list[str]], list[str] | None]:
    """The subscripts of each operand, and those of the result if they are given."""
    left, arrow, right = equation.partition("->")
    inputs: list[list[str]] = [[]]
    position = 0
    while position < len(left):
        c = left[position]
        if c == ",":
            inputs.append([])
        elif c == ".":
            which = f"einsum(): found '.' for operand {len(inputs) - 1} "
            if _ELLIPSIS in inputs[-1]:
                raise RuntimeError(f"{which}for which an ellipsis was already found")
            if left[position : position + 3] != _ELLIPSIS:
                raise RuntimeError(f"{which}that is not part of any ellipsis")
            inputs[-1].append(_ELLIPSIS)
            position += 2
        elif c != " ":
            inputs[-1].append(_letter(c, position))
        position += 1
    if not arrow:
        return inputs, None
    output: list[str] = []
    start = len(left) + 2
    position = 0
    while position < len(right):
        c = right[position]
        if c == ".":
            if _ELLIPSIS in output:
                raise RuntimeError(
                    "einsum(): found '.' for output but an ellipsis (...) was already found"
                )
            if right[position : position + 3] != _ELLIPSIS:
                raise RuntimeError(
                    "einsum(): found '.' for output that is not part of any ellipsis (...)"
                )
            output.append(_ELLIPSIS)
            position += 2
        elif c != " ":
            output.append(_letter(c, start + position))
        position += 1
    return inputs, output


def _letter(c: str, position: int) -> str:
    if c not in _LETTERS:
        raise RuntimeError(
            f"einsum(): invalid subscript given at index {position} in the equation string, "
            "subscripts must be in [a-zA-Z]"
        )
    return c


def _from_lists(args: tuple[Any, ...]) -> tuple[list[list[str]], list[str] | None, list[Any]]:
    """The same from operands that are followed by lists of numbers."""

    def letters(subscripts: Any) -> list[str]:
        found = []
        for s in subscripts:
            if s is Ellipsis:
                found.append(_ELLIPSIS)
            elif 0 <= s < len(_LETTERS):
                found.append(_LETTERS[s])
            else:
                raise ValueError(
                    "einsum(): subscript in subscript list is not within the valid range [0, 52)"
                )
        return found

    pairs = len(args) // 2
    inputs = [letters(args[2 * i + 1]) for i in range(pairs)]
    output = letters(args[-1]) if len(args) % 2 else None
    return inputs, output, [args[2 * i] for i in range(pairs)]


# ---- computing -----------------------------------------------------------------------------------


def _contract(inputs: list[list[str]], output: list[str] | None, operands: list[Any]) -> Tensor:
    longest = 0
    for place, (subscripts, x) in enumerate(zip(inputs, operands, strict=True)):
        named = len(subscripts) - (_ELLIPSIS in subscripts)
        if _ELLIPSIS in subscripts:
            if named > x.ndim:
                raise RuntimeError(
                    f"einsum(): the number of subscripts in the equation ({named}) is more than "
                    f"the number of dimensions ({x.ndim}) for operand {place}"
                )
            longest = max(longest, x.ndim - named)
        elif named != x.ndim:
            raise RuntimeError(
                f"einsum(): the number of subscripts in the equation ({named}) does not match the "
                f"number of dimensions ({x.ndim}) for operand {place} and no ellipsis was given"
            )
    hidden = [f"{_ELLIPSIS}{k}" for k in range(longest, 0, -1)]
    kept = _result_axes(inputs, output, hidden)
    used = {s for subscripts in inputs for s in subscripts if s != _ELLIPSIS}
    # A result without the ellipsis sums the axes it stands for.
    axes = kept + sorted({*used, *hidden}.difference(kept))
    aligned = [
        _aligned(place, x, subscripts, hidden, axes)
        for place, (x, subscripts) in enumerate(zip(operands, inputs, strict=True))
    ]
    _check_sizes(aligned, axes)
    summed = range(len(kept), len(axes))
    result = aligned[0]
    last = {
        d: max((i for i, x in enumerate(aligned) if x.shape[d] != 1), default=0) for d in summed
    }
    for i, x in enumerate(aligned):
        now = [d for d in summed if last[d] == i]
        result = _product(result, x, now) if i else _sum(result, now)
    return result.reshape(result.shape[: len(kept)])


def _result_axes(inputs: list[list[str]], output: list[str] | None, hidden: list[str]) -> list[str]:
    flat = [s for subscripts in inputs for s in subscripts if s != _ELLIPSIS]
    if output is None:
        return hidden + sorted(s for s in set(flat) if flat.count(s) == 1)
    for s in output:
        if s == _ELLIPSIS:
            continue
        if output.count(s) > 1:
            raise RuntimeError(
                f"einsum(): output subscript {s} appears more than once in the output"
            )
        if s not in flat:
            raise RuntimeError(
                f"einsum(): output subscript {s} does not appear in the equation for any input "
                "operand"
            )
    return [axis for s in output for axis in (hidden if s == _ELLIPSIS else [s])]


def _aligned(
    place: int, x: Tensor, subscripts: list[str], hidden: list[str], axes: list[str]
) -> Tensor:
    """The operand with all `axes`, in their order."""
    own: list[str] = []
    width = x.ndim - (len(subscripts) - 1)
    for s in subscripts:
        own += hidden[len(hidden) - width :] if s == _ELLIPSIS else [s]
    for s in sorted(set(own)):
        while own.count(s) > 1:
            first = own.index(s)
            second = own.index(s, first + 1)
            if x.shape[first] != x.shape[second]:
                raise RuntimeError(
                    f"einsum(): subscript {s} is repeated for operand {place} but the sizes don't "
                    f"match, {x.shape[second]} != {x.shape[first]}"
                )
            x = x.diagonal(0, first, second).movedim(-1, first)
            del own[second]
    x = x.permute([own.index(s) for s in axes if s in own])
    for d, s in enumerate(axes):
        if s not in own:
            x = x.unsqueeze(d)
    return x


def _check_sizes(aligned: list[Tensor], axes: list[str]) -> None:
    for d, s in enumerate(axes):
        seen = 1
        for place, x in enumerate(aligned):
            size = x.shape[d]
            if size not in (1, seen) and seen != 1:
                raise RuntimeError(
                    f"einsum(): subscript {s[:3]} has size {size} for operand {place} which does "
                    f"not broadcast with previously seen size {seen}"
                )
            seen = size if seen == 1 else seen


def _sum(x: Tensor, dims: list[int]) -> Tensor:
    return x.sum(dims, keepdim=True) if dims else x


def _product(a: Tensor, b: Tensor, dims: list[int]) -> Tensor:
    """``(a * b).sum(dims, keepdim=True)`` by a batched matrix product."""
    # What only one of them has is summed first.
    a = _sum(a, [d for d in dims if a.shape[d] != 1 and b.shape[d] == 1])
    b = _sum(b, [d for d in dims if a.shape[d] == 1 and b.shape[d] != 1])
    inner = [d for d in dims if a.shape[d] != 1 and b.shape[d] != 1]
    if not inner:
        return a * b
    others = [d for d in range(a.ndim) if d not in inner]
    batch = [d for d in others if a.shape[d] != 1 and b.shape[d] != 1]
    rows = [d for d in others if d not in batch and a.shape[d] != 1]
    columns = [d for d in others if d not in batch and d not in rows]
    left = a.permute(batch + rows + columns + inner)
    right = b.permute(batch + inner + columns + rows)
    sizes = [_numel(a, batch), _numel(a, rows), _numel(b, columns), _numel(a, inner)]
    found = bmm(
        left.reshape(sizes[0], sizes[1], sizes[3]), right.reshape(sizes[0], sizes[3], sizes[2])
    )
    shape = [a.shape[d] for d in batch + rows] + [b.shape[d] for d in columns] + [1] * len(inner)
    order = batch + rows + columns + inner
    return found.reshape(shape).permute([order.index(d) for d in range(a.ndim)])


def _numel(x: Tensor, dims: list[int]) -> int:
    count = 1
    for d in dims:
        count *= x.shape[d]
    return count
