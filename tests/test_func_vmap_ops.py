"""Operations under `vmap` give what a loop over the examples gives, and the same gradients."""

import warnings
from itertools import product

import numpy as np
import pytest
import wengert as torch
from op_table import OPS
from support import assert_close, convert, dtype_name, find, is_float, leaves, to_array
from wengert import vmap

# One result for all examples, or one of another shape for each.
REFUSED = {"nonzero", "masked_select", "equal", "allclose"}
RANDOM = {row["name"] for row in torch._core.operations() if "random" in row["tags"]}
WRITES = {op.name for op in OPS if op.last.endswith("_")}
# They see where an example lies in memory, which is not as in a tensor of its own.
BY_MEMORY = {"as_strided", "as_strided_copy"}
EXAMPLES = 3
ARRAYS = (np.ndarray, np.generic)


def has_tensors(op):
    return any(leaves([s.args, s.kwargs], ARRAYS) for s in op.samples(op.gen("float64", 1)))


def dtype_of(op):
    return next(d for d in ("float64", "int64", "bool", *op.dtypes) if d in op.dtypes)


TESTED = [op for op in OPS if not RANDOM & set(op.names) and op.name not in REFUSED]


def batches(op):
    """Samples of an operation, each as the same call with other values for every example."""
    dtype = dtype_of(op)
    gens = [op.gen(dtype, 1) for _ in range(EXAMPLES)]
    for i, g in enumerate(gens):
        g.rng = np.random.default_rng(i)
    for calls in zip(*(op.samples(g) for g in gens), strict=True):
        if op.name == "nn.functional.one_hot" and len(calls[0].args) == 1 and not calls[0].kwargs:
            continue  # the number of classes would differ from example to example
        arrays = [leaves([s.args, s.kwargs], ARRAYS) for s in calls]
        if arrays[0] and all(
            len({a.shape for a in same}) == 1 for same in zip(*arrays, strict=True)
        ):
            yield calls[0], [[torch.tensor(np.asarray(a)) for a in example] for example in arrays]


def with_tensors(sample, tensors):
    """The arguments of a sample with tensors in the places of its arrays."""
    rest = iter(tensors)
    args, kwargs = convert((sample.args, {}), lambda _: next(rest))[0], {}
    for key, value in sample.kwargs.items():
        kwargs[key] = convert({key: value}, lambda _: next(rest))[key]
    return args, kwargs


def parts(value):
    return list(value) if isinstance(value, (tuple, list)) else [value]


def choices(count):
    """Which tensors are batched: each alone, and all together."""
    alone = [tuple(i == k for i in range(count)) for k in range(count)]
    return list(dict.fromkeys([(True,) * count, *alone]))


def masks(examples, batched):
    """Whether a mask that picks elements differs from example to example, and their number does."""
    pairs = zip(examples[0], batched, strict=True)
    return any(b and t.dtype == torch.bool for t, b in pairs) and len(examples[0][-1].shape) > 0


def call(f, sample, tensors):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        args, kwargs = with_tensors(sample, tensors)
        return parts(f(*args, **kwargs))


def fresh(op):
    """The operation; one that writes to its argument gets one that may be written to."""
    f = find(op.name)
    return (lambda a, *rest, **kwargs: f(a.clone(), *rest, **kwargs)) if op.name in WRITES else f


def each(op, f, sample, examples, batched):
    """The loop: results of single examples, stacked."""
    results = []
    for example in examples:
        tensors = [t if b else u for t, u, b in zip(example, examples[0], batched, strict=True)]
        results.append(call(f, sample, tensors))
    return [torch.stack(same) for same in zip(*results, strict=True)]


def stack(examples, batched, dim=0):
    return [
        torch.stack(same, dim if same[0].dim() else 0) if b else same[0]
        for same, b in zip(zip(*examples, strict=True), batched, strict=True)
    ]


def rows(ops):
    return pytest.mark.parametrize("op", ops, ids=lambda op: op.name)


def same(op, actual, expected, note):
    """Equal up to the order of sums; of what is not initialised only the shape."""
    if op.ref is None:
        assert actual.shape == expected.shape, note
    else:
        assert_close(actual, to_array(expected), 100.0, note)


def possible(op, examples, batched):
    if op.name == "index_put" and masks(examples, batched):
        return False
    return batched[0] or op.name not in WRITES


@rows([op for op in TESTED if has_tensors(op)])
def test_a_batch_is_a_loop_over_its_examples(op):
    f = fresh(op)
    for sample, examples in batches(op):
        for batched, dim in product(choices(len(examples[0])), (0, -1)):
            if not possible(op, examples, batched) or (dim and op.name in BY_MEMORY):
                continue
            expected = each(op, f, sample, examples, batched)
            dims = tuple(dim if b else None for b in batched)
            dims = tuple(
                0 if d is not None and t.dim() == 1 else d
                for d, t in zip(dims, stack(examples, batched, dim), strict=True)
            )
            actual = vmap(lambda *ts, s=sample: tuple(call(f, s, ts)), in_dims=dims)(
                *stack(examples, batched, dim)
            )
            for a, e in zip(actual, expected, strict=True):
                note = f"{op.name} of {sample}, batched {batched}"
                assert dtype_name(a) == dtype_name(e), note
                same(op, a, e, note)


@rows([op for op in TESTED if has_tensors(op)])
def test_two_levels_are_two_loops(op):
    f = fresh(op)
    for sample, examples in batches(op):
        count = len(examples[0])
        if not possible(op, examples, (True,) * count):
            continue
        outer = stack(examples, (True,) * count)
        # The first tensor varies in the outer level, all in the inner one.
        whole = [torch.stack([t, t.flip(0)]) if i == 0 else t for i, t in enumerate(outer)]
        dims = (0,) + (None,) * (count - 1)
        expected = [each(op, f, sample, examples, (True,) * count)]
        mixed = [[a[0], *b[1:]] for a, b in zip(reversed(examples), examples, strict=True)]
        expected.append(each(op, f, sample, mixed, (True,) * count))
        inner = vmap(lambda *ts, s=sample: tuple(call(f, s, ts)))
        actual = vmap(inner, in_dims=dims)(*whole)
        for a, first, second in zip(actual, *expected, strict=True):
            same(op, a, torch.stack([first, second]), f"{op.name} of {sample}")


@rows([op for op in TESTED if op.order and has_tensors(op)])
def test_gradients_of_a_batch_are_those_of_a_loop(op):
    f = fresh(op)

    def total(values):
        return sum((v * v.detach().cos()).sum() for v in values if v.requires_grad)

    for sample, examples in batches(op):
        for batched in choices(len(examples[0])):
            if not possible(op, examples, batched):
                continue
            grads = []
            for run in (each, None):
                own = [
                    [t.clone().requires_grad_() if is_float(t) else t for t in example]
                    for example in examples
                ]
                if run:
                    values = each(op, f, sample, own, batched)
                else:
                    dims = tuple(0 if b else None for b in batched)
                    values = vmap(lambda *ts, s=sample: tuple(call(f, s, ts)), in_dims=dims)(
                        *stack(own, batched)
                    )
                loss = total(values)
                flat = [t for example in own for t in example if t.requires_grad]
                found = [None] * len(flat)
                if flat and isinstance(loss, torch.Tensor):
                    found = torch.autograd.grad(loss, flat, allow_unused=True)
                grads.append([torch.zeros_like(t) if g is None else g
                              for g, t in zip(found, flat, strict=True)])  # fmt: skip
            for a, e in zip(*grads, strict=True):
                assert_close(a, to_array(e), 1000.0, f"{op.name} of {sample}, batched {batched}")


@rows([op for op in TESTED if "i" in op.forms and has_tensors(op)])
def test_a_write_to_a_batch_is_a_loop_of_writes(op):
    def write(a, *args, **kwargs):
        a = a.clone()
        result = getattr(a, op.last + "_")(*args, **kwargs)
        assert result is a
        return a

    for sample, examples in batches(op):
        if not isinstance(sample.args[0], ARRAYS):
            continue
        for batched in choices(len(examples[0])):
            if not (batched[0] and possible(op, examples, batched)):
                continue
            try:
                expected = each(op, write, sample, examples, batched)
            except RuntimeError:
                continue  # the result does not fit the tensor, with or without a batch
            dims = tuple(0 if b else None for b in batched)
            actual = vmap(lambda *ts, s=sample: tuple(call(write, s, ts)), in_dims=dims)(
                *stack(examples, batched)
            )
            for a, e in zip(actual, expected, strict=True):
                assert dtype_name(a) == dtype_name(e)
                assert_close(a, to_array(e), 100.0, f"{op.name}_ of {sample}, batched {batched}")


@rows([op for op in OPS if op.name in REFUSED])
def test_what_differs_in_shape_is_refused(op):
    f = find(op.name)
    for sample, examples in batches(op):
        with pytest.raises(RuntimeError, match=r"vmap|[Bb]atching"):
            vmap(lambda *ts, s=sample: call(f, s, ts)[0])(
                *stack(examples, (True,) * len(examples[0]))
            )
