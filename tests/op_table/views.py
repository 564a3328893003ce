"""Further ways to look at memory, to cut it up, and to put a part back."""

import numpy as np
from numpy.lib.stride_tricks import as_strided, sliding_window_view

from .columns import ALL, Op, S, each_shape, longs, ones, rearrange


def np_as_strided(a, size, stride, storage_offset=0):
    flat = np.ascontiguousarray(a).reshape(-1)[storage_offset:]
    return as_strided(flat, size, [s * flat.itemsize for s in stride])


def np_unfold(a, dim, size, step):
    windows = sliding_window_view(a.reshape(a.shape or (1,)), size, axis=dim)
    at = [slice(None)] * windows.ndim
    at[dim % max(a.ndim, 1)] = slice(None, None, step)
    windows = windows[tuple(at)]
    return windows if a.ndim else windows[0]


def np_put(view):
    """A function that writes to what `view` shows of a copy."""

    def put(a, source, *args, **kwargs):
        copy = np.array(a)
        view(copy, *args, **kwargs)[...] = source
        return copy

    return put


def np_slice(a, dim=0, start=None, end=None, step=1):
    return a[(slice(None),) * (dim % a.ndim) + (slice(start, end, step),)]


def np_diagonal(a, offset=0, dim1=0, dim2=1):
    """As a view that may be written to."""
    view = np.diagonal(a, offset, dim1, dim2)
    view.flags.writeable = True
    return view


def np_select(a, dim, index):
    return np.moveaxis(a, dim, 0)[index, ...]


def np_unflatten(a, dim, sizes):
    d = dim % a.ndim
    return a.reshape(*a.shape[:d], *sizes, *a.shape[d + 1 :])


def np_at(split):
    """Sections or positions, as arrays too."""
    return lambda a, at, *dim, **axis: split(
        a, at.tolist() if isinstance(at, np.ndarray) else at, *dim, **axis
    )


def split_along(a, at, dim=0):
    return np.array_split(a, at, dim)


def pieces(a, size, dim=0):
    if isinstance(size, int):
        return np.split(a, range(size, a.shape[dim], size), dim)
    return np.split(a, np.cumsum(size)[:-1], dim)


def scatter(name, view, samples, **columns):
    row = {"forms": "fm", "dtypes": ALL, "scale": 1} | columns
    return Op(name, np_put(view), samples, **row)


def copy(name, ref, samples, **columns):
    return rearrange(name, ref, samples, forms="fo", view=False, **columns)


GEOMETRIES = lambda g: [S(g(6), (2, 3), (3, 1)), S(g(6), (2, 2), (1, 2), 1),  # noqa: E731
    S(g(2, 3), (3,), (2,)), S(g(5), (3, 3), (1, 1)), S(g(3), (2, 3), (0, 1)), S(g(2), (), ()),
    S(g(3), (0, 2), (1, 1))]  # fmt: skip
WINDOWS = lambda g: [S(g(7), 0, 3, 2), S(g(5), 0, 2, 1), S(g(2, 5), 1, 2, 3),  # noqa: E731
    S(g(4, 2), -2, 4, 1), S(g(3, 2), 0, 1, 1)]  # fmt: skip
SLICES = lambda g: [S(g(6), 0, 1, 5, 2), S(g(2, 5), 1, -3), S(g(4, 2), 0, None, -1),  # noqa: E731
    S(g(4), end=9), S(g(2, 3), -1, 1, 1)]  # fmt: skip
DIAGONALS = lambda g: [S(g(3, 4)), S(g(3, 3), 1), S(g(2, 3, 3), -1, 1, 2)]  # noqa: E731


def at(split):
    wrong = [(S(np.float32(1), 2), RuntimeError, "dim")]
    if split != "tensor_split":
        wrong.append((S(ones(5, 5, 5), 2), RuntimeError, "5.*2"))
    return wrong


ROWS = [
    rearrange("as_strided", np_as_strided, GEOMETRIES, strided=False, errors=[
        (S(ones(3), (10,), (1,)), RuntimeError, "out of bounds"),
        (S(ones(3), (2,), (1, 1)), RuntimeError, "mismatch"),
        (S(ones(3), (2,), (-1,)), RuntimeError, "Negative strides"),
        (S(ones(3), (2,), (1,), -1), RuntimeError, "offset -1")]),
    rearrange("unfold", np_unfold, lambda g: [*WINDOWS(g), S(g(), 0, 1, 1)], forms="m", errors=[
        (S(ones(3), 0, 4, 1), RuntimeError, "3.*4"), (S(ones(3), 0, 2, 0), RuntimeError, "step"),
        (S(ones(3), 0, -1, 1), RuntimeError, "-1"), (S(ones(3), 1, 1, 1), IndexError, "1")]),
    rearrange("tensor_split", np_at(split_along), lambda g: [S(g(7), 3), S(g(2, 5), 2, 1),
        S(g(6), (2, 4)), S(g(2, 6), (-2, 9), dim=1), S(g(5), (4, 2)), S(g(7), longs(1, 3))],
        errors=[(S(ones(3), 0), RuntimeError, "0"), *at("tensor_split"),
        (S(ones(3), 2, 1), IndexError, "1")]),
    rearrange("hsplit", np.hsplit, lambda g: [S(g(6), 3), S(g(2, 4), 2), S(g(2, 5), (1, 3))],
        errors=at("hsplit")),
    rearrange("vsplit", np.vsplit, lambda g: [S(g(4, 2), 2), S(g(5, 2), (1, 3))],
        errors=at("vsplit")),
    rearrange("dsplit", np.dsplit, lambda g: [S(g(2, 2, 4), 2), S(g(2, 1, 5), (1, 3))],
        errors=at("dsplit")),
    *(rearrange(name, ref, samples, errors=[(S(ones(3), wrong), RuntimeError, pattern)])
        for name, ref, samples, wrong, pattern in [
        ("unsafe_split", pieces, lambda g: [S(g(5), 2), S(g(2, 3), 1, 1)], -1, "-1"),
        ("unsafe_split_with_sizes", pieces, lambda g: [S(g(5), (2, 3))], (1, 1), "3"),
        ("unsafe_chunk", split_along, lambda g: [S(g(4), 2), S(g(2, 6), 3, 1)], 0, "0")]),
    rearrange("unflatten", np_unflatten, lambda g: [S(g(6), 0, (2, 3)), S(g(2, 6), 1, (3, -1)),
        S(g(2, 6), -2, (2, 1))], errors=[(S(ones(6), 0, (4, 2)), RuntimeError, "4, 2.*6"),
        (S(ones(6), 0, ()), RuntimeError, "non-empty"), (S(ones(6), 1, (6,)), IndexError, "1"),
        (S(ones(6), 0, (-1, -1)), RuntimeError, "one")]),
    rearrange("ravel", np.ravel, each_shape),
    rearrange("adjoint", lambda a: np.swapaxes(a, -1, -2) if a.ndim else a,
        lambda g: [S(g(2, 3)), S(g(2, 3, 4)), S(g())], errors=[(S(ones(3)), RuntimeError, "1-D")]),
    rearrange("positive", np.positive, each_shape, dtypes=tuple(t for t in ALL if t != "bool"),
        errors=[(S(np.ones(2, bool)), RuntimeError, "bool")]),
    rearrange("atleast_1d", np.atleast_1d, each_shape, forms="f"),
    rearrange("atleast_2d", np.atleast_2d, each_shape, forms="f"),
    rearrange("atleast_3d", np.atleast_3d, each_shape, forms="f"),
    rearrange("broadcast_tensors", np.broadcast_arrays, lambda g: [S(g(3), g(2, 1)), S(g(2)),
        S(g(), g(0))], forms="f", view=False, errors=[(S(ones(3), ones(4)), RuntimeError, "3.*4")]),
    scatter("select_scatter", np_select, lambda g: [S(g(2, 3), g(3), 0, 1),
        S(g(2, 3), g(2), -1, -1), S(g(3), g(), 0, 0)],
        errors=[(S(ones(2, 3), ones(2), 0, 1), RuntimeError, "2.*3"),
        (S(ones(2), ones(), 0, 2), IndexError, "2")]),
    scatter("slice_scatter", np_slice, lambda g: [S(g(6), g(2), 0, 1, 5, 2), S(g(2, 5), g(2, 3), 1,
        -3), S(g(4, 2), g(3, 2), 0, None, -1), S(g(2), g(2))],
        errors=[(S(ones(6), ones(3), 0, 0, 2), RuntimeError, "3.*2"),
        (S(ones(6), ones(3), 0, 0, 2, 0), RuntimeError, "step")]),
    scatter("diagonal_scatter", np_diagonal, lambda g: [S(g(3, 4), g(3)), S(g(3, 3), g(2), 1),
        S(g(2, 3, 3), g(2, 2), -1, 1, 2)],
        errors=[(S(ones(3, 3), ones(2)), RuntimeError, "2.*3")]),
    scatter("as_strided_scatter", lambda a, size, stride, offset=0:
        as_strided(a.reshape(-1)[offset:], size, [s * a.itemsize for s in stride]),
        lambda g: [S(g(6), g(2, 3), (2, 3), (3, 1)), S(g(2, 3), g(2), (2,), (2,), 1)],
        strided=False, errors=[(S(ones(3), ones(2), (3,), (1,)), RuntimeError, "2.*3")]),
    copy("as_strided_copy", np_as_strided, GEOMETRIES, strided=False),
    copy("unfold_copy", np_unfold, WINDOWS),
    copy("slice_copy", np_slice, SLICES),
    copy("diagonal_copy", np.diagonal, DIAGONALS),
    copy("detach_copy", np.copy, each_shape, order=0),
]  # fmt: skip
