"""NumPy twins of the operations that NumPy has no function for: slow, short and obvious."""

import math
from itertools import pairwise

import numpy as np


def wide(a):
    """Integers as PyTorch sums them."""
    return a.astype("int64") if a.dtype.kind in "uib" else a


def axis(f):
    return lambda a, dim=None, keepdim=False: f(a, axis=dim, keepdims=keepdim)


def max_like(whole, along, pick):
    def f(a, dim=None, keepdim=False):
        if dim is None:
            return whole(a)
        return along(a, axis=dim, keepdims=keepdim), pick(a, axis=dim, keepdims=keepdim)

    return f


def moment(f):
    return lambda a, dim=None, keepdim=False, correction=1: f(
        a, axis=dim, keepdims=keepdim, ddof=correction
    )


def np_running(better):
    """`cummax` and `cummin`: the best element so far and its last position."""

    def f(a, dim):
        values, places = a.copy(), np.zeros(a.shape, "int64")
        v, p = np.moveaxis(values, dim, 0), np.moveaxis(places, dim, 0)
        for i in range(1, len(v)):
            new = better(v[i], v[i - 1])
            v[i], p[i] = np.where(new, v[i], v[i - 1]), np.where(new, i, p[i - 1])
        return values, places

    return f


def np_logsumexp(a, dim, keepdim=False):
    return np.logaddexp.reduce(a, axis=dim, keepdims=keepdim)


def np_log_softmax(a, dim):
    return a - np.logaddexp.reduce(a, axis=dim, keepdims=True) if a.size else a


def np_div(a, b, rounding_mode=None):
    exact = {None: np.true_divide, "floor": np.floor_divide, "trunc": lambda a, b: np.trunc(a / b)}
    return exact[rounding_mode](a, b)


def np_clamp(a, min=None, max=None):  # noqa: A002 - the names of the arguments
    return np.minimum(
        np.maximum(a, -np.inf if min is None else min), np.inf if max is None else max
    )


def np_reduced(loss, reduction, count=None):
    total = loss if reduction == "none" else np.sum(loss)
    return total / (loss.size if count is None else count) if reduction == "mean" else total


def np_nll(a, target, weight=None, reduction="mean", ignore_index=-100):
    classes = a.shape[0 if a.ndim == 1 else 1]
    w = (np.ones(classes) if weight is None else weight)[
        np.where(target == ignore_index, 0, target)
    ]
    w = np.where(target == ignore_index, 0.0, w)
    index = np.expand_dims(np.where(target == ignore_index, 0, target), 0 if a.ndim == 1 else 1)
    picked = np.take_along_axis(a, index, 0 if a.ndim == 1 else 1).reshape(target.shape)
    return np_reduced(-picked * w, reduction, w.sum())


def np_cross_entropy(
    a, target, weight=None, reduction="mean", ignore_index=-100, label_smoothing=0.0
):
    dim = 0 if a.ndim == 1 else 1
    log_p = np_log_softmax(a, dim)
    if target.dtype.kind == "f":
        return np_reduced(-(log_p * target).sum(dim), reduction, a.size / a.shape[dim])
    hard = np_nll(log_p, target, weight, reduction, ignore_index)
    if not label_smoothing:
        return hard
    smooth = np_reduced(-log_p.sum(dim), reduction) / a.shape[dim]
    return (1 - label_smoothing) * hard + label_smoothing * smooth


def np_bce_logits(a, target, weight=None, reduction="mean", pos_weight=None):
    p = 1.0 if pos_weight is None else pos_weight
    loss = p * target * np.logaddexp(0, -a) + (1 - target) * np.logaddexp(0, a)
    return np_reduced(loss * (1.0 if weight is None else weight), reduction)


def np_gather(a, dim, index):
    kept = a[
        tuple(slice(0, n) if d != dim % a.ndim else slice(None) for d, n in enumerate(index.shape))
    ]
    return np.take_along_axis(kept, index, dim)


def np_cuts(a, size, dim=0):
    sizes = [size] * -(-a.shape[dim] // size) if isinstance(size, int) else size
    ends = np.minimum(np.cumsum([0, *sizes]), a.shape[dim])
    return tuple(np.take(a, range(i, j), dim) for i, j in pairwise(ends))


def np_flatten(a, start_dim=0, end_dim=-1):
    shape = a.shape or (1,)
    start, end = start_dim % len(shape), end_dim % len(shape)
    return a.reshape(*shape[:start], math.prod(shape[start : end + 1]), *shape[end + 1 :])


def np_expand(a, *sizes):
    sizes = sizes[0] if sizes and isinstance(sizes[0], tuple) else sizes
    full = (1,) * (len(sizes) - a.ndim) + a.shape
    return np.broadcast_to(a, tuple(f if s == -1 else s for s, f in zip(sizes, full, strict=True)))


def tup(sizes):
    return sizes[0] if len(sizes) == 1 and isinstance(sizes[0], (tuple, list)) else sizes


def np_squeeze(a, dim=None):
    dims = range(a.ndim) if dim is None else [dim] if isinstance(dim, int) else dim
    return np.squeeze(a, tuple(d for d in dims if a.ndim and a.shape[d] == 1))


def np_narrow(a, dim, start, length):
    return np.take(a, range(start, start + length), dim)


def np_softplus(a, beta=1, threshold=20):
    return np.where(a * beta > threshold, a, np.logaddexp(0, a * beta) / beta)


def np_addcmul(a, b, c, value=1):
    return a + value * b * c


def np_addcdiv(a, b, c, value=1):
    return a + value * b / c


def np_logit(a, eps=None):
    p = a if eps is None else np.clip(a, eps, 1 - eps)
    return np.log(p / (1 - p))


def np_xlogy(a, b):
    return np.where((a == 0) & ~np.isnan(b), 0, a * np.log(b))


def np_nan_to_num(a, nan=None, posinf=None, neginf=None):
    if a.dtype.kind != "f":
        return a
    return np.nan_to_num(a, nan=0.0 if nan is None else nan, posinf=posinf, neginf=neginf)


def moment_and_mean(f):
    def both(a, dim=None, keepdim=False, correction=1):
        return moment(f)(a, dim, keepdim, correction), np.mean(a, axis=dim, keepdims=keepdim)

    return both


def np_norm(a, p=2, dim=None, keepdim=False):
    size = np.abs(a)
    if p in (np.inf, -np.inf):
        return (np.max if p > 0 else np.min)(size, axis=dim, keepdims=keepdim)
    terms = (size != 0).astype("float64") if p == 0 else size**p
    return np.sum(terms, axis=dim, keepdims=keepdim) ** (1 / p if p else 1)


def np_diag_embed(a, offset=0, dim1=-2, dim2=-1):
    n = a.shape[-1] + abs(offset)
    out = np.zeros((*a.shape[:-1], n, n), a.dtype)
    for i in range(a.shape[-1]):
        out[..., i + max(0, -offset), i + max(0, offset)] = a[..., i]
    return np.moveaxis(out, (-2, -1), (dim1, dim2))


def along(dim, index):
    """What selects these numbers along a dimension."""
    return (*[slice(None)] * dim, index)


def np_index_add(a, dim, index, source, alpha=1):
    out = a.copy()
    np.add.at(out, along(dim % a.ndim, index), alpha * source)
    return out


def np_index_fill(a, dim, index, value):
    out = a.copy()
    out[along(dim % a.ndim, index)] = value
    return out


def np_index_put(a, indices, values, accumulate=False):
    out = a.copy()
    if accumulate:
        np.add.at(out, indices, values)
    else:
        out[indices] = values
    return out


def np_masked_fill(a, mask, value):
    return np.where(mask, value, a)


def np_nonzero(a, as_tuple=False):
    return np.nonzero(a) if as_tuple else np.argwhere(a)


def places_of(dim, index):
    """The places that an index of `scatter` names: its own, but for the number along `dim`."""
    grid = list(np.indices(index.shape))
    grid[dim] = index
    return tuple(grid)


def np_scatter(a, dim, index, src):
    out = a.copy()
    part = src if np.ndim(src) == 0 else src[tuple(slice(n) for n in index.shape)]
    out[places_of(dim, index)] = part
    return out


def np_scatter_add(a, dim, index, src):
    out = a.copy()
    np.add.at(out, places_of(dim, index), src[tuple(slice(n) for n in index.shape)])
    return out


def np_take_along_dim(a, index, dim=None):
    if dim is None:
        return a.reshape(-1)[index]
    shape = list(np.broadcast_shapes(*(np.delete(x.shape, dim) for x in (a, index))))
    at = dim % a.ndim

    def spread(x):
        return np.broadcast_to(x, (*shape[:at], x.shape[at], *shape[at:]))

    return np.take_along_axis(spread(a), spread(index), dim)


np_erf = np.vectorize(math.erf, otypes=["float64"])


def np_sigmoid(a):
    return 1 / (1 + np.exp(-a))


def np_elu(a, alpha=1.0, width=1.0):
    return np.where(a > 0, a, alpha * np.expm1(a / width))


def np_bce(a, target, weight=1.0, reduction="mean"):
    log_p, log_q = np.maximum(np.log(a), -100), np.maximum(np.log1p(-a), -100)
    return np_reduced(-weight * (target * log_p + (1 - target) * log_q), reduction)


def np_kl_div(a, target, reduction="mean", log_target=False):
    terms = np.exp(target) * (target - a) if log_target else target * (np.log(target) - a)
    return terms.sum() / len(a) if reduction == "batchmean" else np_reduced(terms, reduction)


def np_smooth_l1(a, target, reduction="mean", beta=1.0):
    d = np.abs(a - target)
    quadratic = d * d / (2 * beta) if beta else d
    return np_reduced(np.where(d < beta, quadratic, d - beta / 2), reduction)


def np_huber(a, target, reduction="mean", delta=1.0):
    d = np.abs(a - target)
    return np_reduced(np.where(d <= delta, d * d / 2, delta * (d - delta / 2)), reduction)


def np_normalize(a, p=2.0, dim=1, eps=1e-12):
    return a / np.maximum(np_norm(a, p, dim, keepdim=True), eps)


# Distances, similarities, and losses made of other operations.


def np_vector_norm(a, p, axis=None, keepdims=False):
    return np.sum(np.abs(a) ** p, axis=axis, keepdims=keepdims) ** (1 / p)


def np_cosine_similarity(a, b, dim=1, eps=1e-8):
    def unit(x):
        return x / np.maximum(np_vector_norm(x, 2, dim, keepdims=True), eps)

    return np.sum(unit(a) * unit(b), axis=dim)


def np_pairwise_distance(a, b, p=2.0, eps=1e-6, keepdim=False):
    return np_vector_norm(a - b + np.asarray(eps, a.dtype), p, -1, keepdims=keepdim)


def np_glu(a, dim=-1):
    x, gate = np.split(a, 2, axis=dim)
    return x * np_sigmoid(gate)


def np_prelu(a, weight):
    if weight.size > 1:
        weight = weight.reshape([-1 if axis == 1 else 1 for axis in range(a.ndim)])
    return np.where(a > 0, a, weight.reshape(()) * a if weight.size == 1 else weight * a)


def np_margin_ranking(a, b, target, margin=0.0, reduction="mean"):
    return np_reduced(np.maximum(-target * (a - b) + margin, 0), reduction)


def np_hinge_embedding(a, target, margin=1.0, reduction="mean"):
    losses = np.where(target != 1, np.maximum(margin - a, 0), 0) + np.where(target != -1, a, 0)
    return np_reduced(losses, reduction)


def np_cosine_embedding(a, b, target, margin=0.0, reduction="mean"):
    dim = target.ndim
    squares = (np.sum(a * a, dim) + 1e-12) * (np.sum(b * b, dim) + 1e-12)
    cosine = np.sum(a * b, dim) / np.sqrt(squares)
    alike = np.where(target == 1, 1 - cosine, 0)
    apart = np.where(target == -1, np.maximum(cosine - margin, 0), 0)
    return np_reduced(alike + apart, reduction)


def np_soft_margin(a, target, reduction="mean"):
    return np_reduced(np.log1p(np.exp(-target * a)), reduction)


def np_poisson_nll(a, target, log_input=True, full=False, eps=1e-8, reduction="mean"):
    losses = np.exp(a) - target * a if log_input else a - target * np.log(a + eps)
    if full:
        stirling = target * np.log(target) - target + np.log(2 * math.pi * target) / 2
        losses = losses + np.where(target > 1, stirling, 0)
    return np_reduced(losses, reduction)


def np_gaussian_nll(a, target, var, full=False, eps=1e-6, reduction="mean"):
    var = np.maximum(var[..., None] if var.ndim + 1 == a.ndim else var, eps)
    losses = (np.log(var) + (a - target) ** 2 / var) / 2
    return np_reduced(losses + math.log(2 * math.pi) / 2 if full else losses, reduction)


def np_triplet_margin(a, near, far, margin=1.0, p=2.0, eps=1e-6, swap=False, reduction="mean"):
    apart = np_pairwise_distance(a, far, p, eps)
    if swap:
        apart = np.minimum(apart, np_pairwise_distance(near, far, p, eps))
    return np_reduced(
        np.maximum(margin + np_pairwise_distance(a, near, p, eps) - apart, 0), reduction
    )
