"""Order, repetition and windows: sorting, tiling, padding, convolution, pooling, normalisation."""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from .columns import ALL, BAD_DIM, FLOATS, NUMBERS, TIES, Op, S, longs, ones


def with_index(order):
    """Values and positions of those that a function of the positions in order chooses."""

    def both(a, dim=-1, **how):
        at = order(a, dim, **how)
        return np.take_along_axis(a, at, dim), at

    return both


def np_order(a, dim=-1, descending=False):
    if a.ndim == 0:
        return np.zeros((), "int64")
    keys = -a.astype("float64") if descending else a
    return np.argsort(keys, axis=dim, kind="stable")


def np_sort(a, dim=-1, descending=False):
    return (a, np.zeros((), "int64")) if a.ndim == 0 else with_index(np_order)(
        a, dim, descending=descending)  # fmt: skip


def np_topk(a, k, dim=-1, largest=True):
    values, at = np_sort(a, dim, largest)
    return np.take(values, range(k), dim), np.take(at, range(k), dim)


def np_kth(a, k, dim=-1, keepdim=False):
    parts = (np.take(p, [k - 1], dim) for p in np_sort(a, dim))
    return tuple(p if keepdim else p.squeeze(dim) for p in parts)


def np_median(a, dim=None, keepdim=False):
    if dim is None:
        return np.sort(a.ravel())[(a.size - 1) // 2]
    return np_kth(a, (a.shape[dim] - 1) // 2 + 1, dim, keepdim)


def np_repeat(a, *sizes):
    sizes = sizes[0] if isinstance(sizes[0], tuple) else sizes
    return np.tile(a, sizes)


def np_interleave(a, n, dim=None):
    return np.repeat(a, n, dim)


def np_roll(a, shifts, dims=None):
    return np.roll(a, shifts, dims)


def np_meshgrid(*ts, indexing="ij"):
    ts = ts[0] if isinstance(ts[0], list) else ts
    return [np.array(t) for t in np.meshgrid(*ts, indexing=indexing)]


def np_diff(a, n=1, dim=-1, prepend=None, append=None):
    parts = [p for p in (prepend, a, append) if p is not None]
    return a if n == 0 else np.diff(np.concatenate(parts, dim), n, dim)


def np_pad(a, pad, mode="constant", value=None):
    sides = [(0, 0)] * (a.ndim - len(pad) // 2)
    sides += [(pad[i], pad[i + 1]) for i in range(len(pad) - 2, -1, -2)]
    if any(p < 0 for p in pad):
        a = a[tuple(slice(max(-p, 0), a.shape[d] + min(q, 0)) for d, (p, q) in enumerate(sides))]
        sides = [(max(p, 0), max(q, 0)) for p, q in sides]
    names = {"replicate": "edge", "circular": "wrap"}
    extra = {"constant_values": value or 0} if mode == "constant" else {}
    return np.pad(a, sides, names.get(mode, mode), **extra)


def np_windows(a, k, stride, padding, dilation, fill):
    n = len(k)
    a = np.pad(a, [(0, 0)] * (a.ndim - n) + [(p, p) for p in padding], constant_values=fill)
    reach = [(x - 1) * d + 1 for x, d in zip(k, dilation, strict=True)]
    seen = sliding_window_view(a, reach, axis=tuple(range(-n, 0)))
    steps = [slice(None)] * (a.ndim - n) + [slice(None, None, s) for s in stride]
    return seen[(*steps, *(slice(None, None, d) for d in dilation))]


def np_conv(n):
    def conv(a, w, b=None, stride=1, padding=0, dilation=1, groups=1):
        wide = lambda x: (x,) * n if isinstance(x, int) else x  # noqa: E731
        stride, padding, dilation = wide(stride), wide(padding), wide(dilation)
        single, a = a.ndim == n + 1, a if a.ndim == n + 2 else a[None]
        seen = np_windows(a, w.shape[2:], stride, padding, dilation, 0)
        out, each = w.shape[:2]
        parts = []
        for g in range(groups):
            x = seen[:, g * each : (g + 1) * each]
            f = w[g * out // groups : (g + 1) * out // groups]
            over = [1, *range(2 + n, 2 + 2 * n)]
            parts.append(np.moveaxis(np.tensordot(x, f, (over, range(1, 2 + n))), -1, 1))
        y = np.concatenate(parts, 1)
        y = y if b is None else y + b.reshape(-1, *(1,) * n)
        return y[0] if single else y

    return conv


def np_pool(n, reduce, fill):
    def pool(a, k, stride=None, padding=0, dilation=1):
        wide = lambda x: (x,) * n if isinstance(x, int) else x  # noqa: E731
        k = wide(k)
        seen = np_windows(a, k, wide(stride or k), wide(padding), wide(dilation), fill)
        return reduce(seen, tuple(range(-n, 0)))

    return pool


def np_layer_norm(a, shape, weight=1, bias=0, eps=1e-5):
    axes = tuple(range(-len(shape), 0))
    mean, var = a.mean(axes, keepdims=True), a.var(axes, keepdims=True)
    return (a - mean) / np.sqrt(var + eps) * weight + bias


def np_batch_norm(a, mean, var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5):
    each = lambda t: t.reshape(-1, *(1,) * (a.ndim - 2))  # noqa: E731
    axes = (0, *range(2, a.ndim))
    mean = a.mean(axes, keepdims=True) if training else each(mean)
    var = a.var(axes, keepdims=True) if training else each(var)
    y = (a - mean) / np.sqrt(var + eps)
    y = y if weight is None else y * each(weight)
    return y if bias is None else y + each(bias)


def np_group_norm(a, groups, weight=None, bias=None, eps=1e-5):
    flat = a.reshape(a.shape[0], groups, -1)
    flat = (flat - flat.mean(-1, keepdims=True)) / np.sqrt(flat.var(-1, keepdims=True) + eps)
    each = lambda t: t.reshape(-1, *(1,) * (a.ndim - 2))  # noqa: E731
    y = flat.reshape(a.shape)
    y = y if weight is None else y * each(weight)
    return y if bias is None else y + each(bias)


def np_attention(q, k, v, mask=None, p=0.0, is_causal=False, scale=None):
    scores = q @ np.swapaxes(k, -1, -2) * (q.shape[-1] ** -0.5 if scale is None else scale)
    if is_causal:
        mask = np.tril(np.ones(scores.shape[-2:], bool))
    if mask is not None:
        scores = np.where(mask, scores, -np.inf) if mask.dtype == bool else scores + mask
    e = np.exp(scores - scores.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True) @ v


def along(g):
    return [S(g(*s), dim=d) for s in ((5,), (3, 4), (2, 3, 4)) for d in range(-1, len(s))]


def both_ways(g):
    return [S(*s.args, **s.kwargs, descending=d) for s in along(g) for d in (False, True)] + [
        S(g())
    ]


def sides(g):
    modes = [
        S(g(1, 4, 5), p, m)
        for m in ("reflect", "replicate", "circular")
        for p in ((1, 2), (2, 0, 1, 1))
    ]
    return [S(g(3), (1, 2)), S(g(2, 3), (1, 0, 0, 2)), S(g(4, 5), (-1, 1, 2, -1)), *modes]


def chosen(name, ref, samples, **columns):
    columns = {"forms": "fm", "dtypes": NUMBERS, "limits": TIES} | columns
    return Op(name, ref, samples, **columns)


HALF = "half precision is composed of rounded steps"
REAL = ("float32", "float64")

ROWS = [
    chosen("sort", np_sort, both_ways, errors=[BAD_DIM]),
    chosen("argsort", np_order, both_ways, order=0, result="int64", errors=[BAD_DIM]),
    chosen("msort", lambda a: np.sort(a, axis=0), lambda g: [S(g(5)), S(g(3, 4))], forms="fmo"),
    chosen("topk", np_topk, lambda g: [S(g(5), 2), S(g(3, 4), 3, 0), S(g(3, 4), 2, largest=False),
        S(g(3), 0)], scale=1, errors=[(S(ones(3), 4), RuntimeError, "k out of range")]),
    chosen("kthvalue", np_kth, lambda g: [S(g(5), 2), S(g(3, 4), 3, 0),
        S(g(3, 4), 1, keepdim=True)], scale=1,
        errors=[(S(ones(3), 4), RuntimeError, "k out of range"),
        (S(ones(3), 0), RuntimeError, "k out of range")]),
    chosen("median", np_median, lambda g: [S(g(5)), S(g(2, 3)), *along(g),
        S(g(3, 4), 1, keepdim=True)], errors=[BAD_DIM]),
    chosen("nanmedian", np_median, lambda g: [S(g(5)), S(g(2, 3)), *along(g)], errors=[BAD_DIM]),
    Op("repeat", np_repeat, lambda g: [S(g(3), 2), S(g(2, 3), 2, 1), S(g(2, 3), (2, 1, 2)),
        S(g(3), 0), S(g(), 2, 3)], "m", ALL, scale=1,
        errors=[(S(ones(2, 3), 2), RuntimeError, "can not be smaller"),
        (S(ones(2), -1), RuntimeError, "negative dimension -2")]),
    Op("tile", lambda a, dims: np.tile(a, dims), lambda g: [S(g(3), (2,)), S(g(2, 3), (2,)),
        S(g(3), (2, 1, 2)), S(g(2, 3), ())], "fm", ALL, scale=1),
    Op("repeat_interleave", np_interleave, lambda g: [S(g(2, 3), 2), S(g(2, 3), 2, 1), S(g(3), 0),
        S(g(2, 3), longs(1, 2), dim=0)], "fm", ALL, scale=1,
        errors=[(S(ones(2), -1), RuntimeError, "non-negative"),
        (S(ones(2), longs(1, 2, 3), 0), RuntimeError, "3.*2")]),
    Op("roll", np_roll, lambda g: [S(g(5), 1, 0), S(g(2, 3), -4), S(g(2, 3), (1, 5), (0, 1)),
        S(g(0, 2), 1, 0)], "fm", ALL, errors=[(S(ones(2), (1, 2), 0), RuntimeError, "align")]),
    Op("rot90", lambda a, k=1, dims=(0, 1): np.rot90(a, k, dims), lambda g: [S(g(2, 3)),
        S(g(2, 3), 2), S(g(2, 3, 2), -1, (1, 2)), S(g(2, 3), 0)], "fm", ALL,
        errors=[(S(ones(2)), RuntimeError, "total dims")]),
    Op("fliplr", np.fliplr, lambda g: [S(g(2, 3)), S(g(2, 3, 2))], "fm", ALL,
        errors=[(S(ones(2)), RuntimeError, "2-d")]),
    Op("flipud", np.flipud, lambda g: [S(g(3)), S(g(2, 3))], "fm", ALL,
        errors=[(S(np.float32(1)), RuntimeError, "1-d")]),
    Op("meshgrid", np_meshgrid, lambda g: [S(g(2), g(3)), S([g(2), g(3), g(1)]),
        S(g(2), g(3), indexing="xy")], "f", ALL, scale=1,
        errors=[(S(ones(2, 2)), RuntimeError, "0D or 1D"), (S(), RuntimeError, "non-empty"),
        (S(ones(2), longs(1)), RuntimeError, "same dtype")]),
    Op("diff", np_diff, lambda g: [S(g(5)), S(g(3, 4), 2), S(g(3, 4), dim=0), S(g(3), 0),
        S(g(2, 3), 1, -1, g(2, 1), g(2, 2))], "fmo", ALL,
        errors=[(S(np.float32(1)), RuntimeError, "one-dim"), (S(ones(2), -1), RuntimeError, "-1")]),
    Op("kron", np.kron, lambda g: [S(g(2), g(3)), S(g(2, 3), g(3, 2)), S(g(2), g(2, 2))], "fmo",
        NUMBERS, scale=1),
    Op("nn.functional.pad", np_pad, sides, "f", NUMBERS, scale=1,
        errors=[(S(ones(2), (1,)), RuntimeError, "divisible by 2"),
        (S(ones(2), (1, 1, 1, 1)), RuntimeError, "dimension 1"),
        (S(ones(2), (-2, -1)), RuntimeError, "negative"),
        (S(ones(1, 2), (2, 0), "reflect"), RuntimeError, "less than"),
        (S(ones(1, 2), (1, 0), "x"), NotImplementedError, "mode x")]),
    Op("conv1d", np_conv(1), lambda g: [S(g(2, 3, 6), g(4, 3, 2), g(4)), S(g(2, 6), g(4, 1, 3),
        None, 2, 1, 2, 2)], "f", REAL, scale=1, tol=16, aliases=("nn.functional.conv1d",),
        errors=[(S(ones(1, 2, 3), ones(1, 3, 2)), RuntimeError, "channels"),
        (S(ones(1, 1, 3), ones(1, 1, 4)), RuntimeError, "Kernel size"),
        (S(ones(3), ones(1, 1, 4)), RuntimeError, "2D .*3D")]),
    Op("conv2d", np_conv(2), lambda g: [S(g(2, 2, 4, 5), g(4, 2, 2, 3), g(4)), S(g(2, 5, 5),
        g(4, 1, 3, 2), g(4), (2, 1), (1, 0), (1, 2), 2), S(g(1, 1, 2, 2), g(1, 1, 1, 1))], "f",
        REAL, scale=1, tol=16, aliases=("nn.functional.conv2d",),
        errors=[(S(ones(1, 1, 3, 3), ones(1, 1, 2, 2), None, 0), RuntimeError, "stride"),
        (S(ones(1, 1, 3, 3), ones(1, 1, 2, 2), ones(2)), RuntimeError, "bias"),
        (S(ones(1, 1, 3, 3), ones(1, 1, 2, 2), None, 1, -1), RuntimeError, "negative padding")]),
    Op("conv3d", np_conv(3), lambda g: [S(g(1, 2, 3, 3, 3), g(2, 2, 2, 2, 2), g(2))], "f", REAL,
        scale=1, tol=16, aliases=("nn.functional.conv3d",)),
    Op("max_pool1d", np_pool(1, np.max, -np.inf), lambda g: [S(g(2, 6), 2), S(g(1, 2, 7), 3, 2, 1),
        S(g(1, 7), 3, 1, 0, 2)], "f", FLOATS, scale=1, aliases=("nn.functional.max_pool1d",),
        limits=TIES, errors=[(S(ones(1, 4), 2, 2, 2), RuntimeError, "half")]),
    Op("max_pool2d", np_pool(2, np.max, -np.inf), lambda g: [S(g(1, 4, 4), 2),
        S(g(2, 1, 5, 5), (3, 2), 2, 1), S(g(1, 5, 5), 2, 1, 0, 2)], "f", FLOATS, scale=1,
        aliases=("nn.functional.max_pool2d",), limits=TIES,
        errors=[(S(ones(1, 4, 4), 5), RuntimeError, "too small"),
        (S(ones(4, 4), 2), RuntimeError, "3D or 4D"),
        (S(ones(1, 4, 4), 2, 2, -1), RuntimeError, "non-negative.*-1")]),
    Op("avg_pool1d", np_pool(1, np.mean, 0), lambda g: [S(g(2, 6), 2), S(g(1, 2, 7), 3, 2, 1)], "f",
        FLOATS, scale=1, tol=4, aliases=("nn.functional.avg_pool1d",)),
    Op("nn.functional.avg_pool2d", np_pool(2, np.mean, 0), lambda g: [S(g(1, 4, 4), 2),
        S(g(2, 1, 5, 5), (3, 2), 2, 1)], "f", FLOATS, scale=1, tol=4,
        errors=[(S(ones(1, 4, 4), 5), RuntimeError, "too small")]),
    Op("layer_norm", np_layer_norm, lambda g: [S(g(2, 5), (5,)), S(g(2, 3, 4), (3, 4), g(3, 4),
        g(3, 4))], "f", REAL, scale=1, tol=16, limits=HALF, aliases=("nn.functional.layer_norm",),
        errors=[(S(ones(2, 3), (2,)), RuntimeError, "normalized_shape=.2."),
        (S(ones(2, 3), (3,), ones(2)), RuntimeError, "weight")]),
    Op("nn.functional.batch_norm", np_batch_norm, lambda g: [S(g(4, 3), None, None, training=True),
        S(g(2, 3, 4), None, None, g(3), g(3), True), S(g(4, 3), g(3), g(3, low=0.5, high=2))], "f",
        REAL, scale=1, tol=16, limits=HALF,
        errors=[(S(ones(2, 3), None, None), RuntimeError, "running_mean"),
        (S(ones(1, 3), None, None, training=True), ValueError, "more than 1 value"),
        (S(ones(2, 3), ones(2), ones(3)), RuntimeError, "running_mean.*3.*2")]),
    Op("group_norm", np_group_norm, lambda g: [S(g(2, 4), 2), S(g(2, 4, 3), 2, g(4), g(4))], "f",
        REAL, scale=1, tol=16, limits=HALF, aliases=("nn.functional.group_norm",),
        errors=[(S(ones(2, 3), 2), RuntimeError, "divisible")]),
    Op("nn.functional.scaled_dot_product_attention", np_attention, lambda g: [
        S(g(3, 4), g(5, 4), g(5, 2)), S(g(2, 3, 4), g(2, 3, 4), g(2, 3, 4), is_causal=True),
        S(g(3, 4), g(5, 4), g(5, 2), g(3, 5), scale=0.3),
        S(g(3, 4), g(5, 4), g(5, 2), np.arange(15).reshape(3, 5) % 3 > 0)], "f", REAL, scale=1,
        tol=16, limits=HALF, errors=[(S(ones(2), ones(2), ones(2)), RuntimeError, "2 dim"),
        (S(ones(1, 1), ones(1, 1), ones(1, 1), ones(1, 1), is_causal=True), RuntimeError,
        "causal")]),
]  # fmt: skip
