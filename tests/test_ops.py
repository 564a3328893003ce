"""Walks the operation table: one generic test per promise, one case per operation."""

import hashlib
import re
import warnings
from itertools import product

import numpy as np
import op_table
import pytest
import support
import wengert as torch
from op_table import FLOATS, INTS, OPS, S
from support import (
    assert_close,
    assert_same,
    call_args,
    check_gradients,
    convert,
    dtype_name,
    find,
    is_float,
    leaves,
    to_array,
)

BY_FORM = {form: [op for op in OPS if form in op.forms] for form in "fmio"}
DIFFERENTIABLE = [op for op in OPS if op.order]
WITH_REFERENCE = [op for op in OPS if op.ref]


def ids(op):
    return op.name


def rows(ops):
    return pytest.mark.parametrize("op", ops, ids=ids)


def rows_and_dtypes(ops, dtypes=op_table.ALL):
    pairs = [(op, d) for op in ops for d in op.dtypes if d in dtypes]
    return pytest.mark.parametrize(
        ("op", "dtype"), pairs, ids=[f"{op.name}-{d}" for op, d in pairs]
    )


def samples(op, dtype, scale=1):
    return op.samples(op.gen(dtype, scale))


def function(op):
    """The operation as a function of fresh arguments; a method that writes gets a copy."""
    f = find(op.name)
    return (
        (lambda a, *args, **kwargs: f(a.clone(), *args, **kwargs)) if op.last.endswith("_") else f
    )


def reference(op, args, kwargs):
    """The reference on the values the tensors hold."""

    def values(t):
        return to_array(t).astype("float64") if op.result == "float" else to_array(t)

    others = {k: v for k, v in kwargs.items() if k != "dtype"}
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return op.ref(*convert(args, values), **{**kwargs, **convert(others, values)})


def result_dtype(op, dtype):
    rule = {"same": dtype, "bool": "bool", "int64": "int64"}
    rule["float"] = dtype if dtype in FLOATS else "float32"
    rule["sum"] = dtype if dtype in FLOATS else "int64"
    return rule.get(op.result, op.result)


def parts(value):
    """The tensors of a result; a Python truth value counts as one."""
    values = list(value) if isinstance(value, (tuple, list)) else [value]
    return [torch.tensor(v) if isinstance(v, bool) else v for v in values]


# -------------------------------------------------------------------------------- completeness


def reported():
    """The public names the package's own table has, in-place forms under the plain name."""
    known = {name for op in OPS for name in op.names}
    table = [row for row in torch._core.operations() if "internal" not in row["tags"]]
    names = {name for row in table for name in (row["name"], *row["aliases"])}
    return {n[:-1] if n.endswith("_") and n not in known else n for n in names}


def test_every_operation_of_the_package_has_a_row():
    assert reported() - {name for op in OPS for name in op.names} == set()


def test_every_row_is_an_operation_of_the_package():
    assert [op.name for op in OPS if not reported() & set(op.names)] == []


def test_names_are_unique():
    names = [name for op in OPS for name in op.names]
    assert sorted(set(names)) == sorted(names)


@rows(OPS)
def test_every_form_exists(op):
    where = {"m": (torch.Tensor, op.last), "i": (torch.Tensor, op.last + "_")}
    assert all(hasattr(*where[form]) for form in op.forms if form in where)
    assert all(callable(find(name)) for name in op.names)


# ------------------------------------------------------------------------------------- forward


@rows_and_dtypes(OPS)
def test_forward(op, dtype):
    layouts = support.LAYOUTS if op.strided else [support.contiguous]
    for layout, sample in product(layouts, samples(op, dtype)):
        args, kwargs = call_args(sample, dtype, layout)
        note = f"{op.name} of {sample}, {layout.__name__}"
        expected = reference(op, args, kwargs) if op.ref else None
        actual = function(op)(*args, **kwargs)
        assert dtype_name(parts(actual)[0]) == result_dtype(op, dtype), note
        if op.ref is None:
            check_shape_only(op, sample, parts(actual)[0])
            continue
        assert len(parts(actual)) == len(parts(expected)), note
        for a, e in zip(parts(actual), parts(expected), strict=True):
            assert_close(a, e, op.tol, note)


def check_shape_only(op, sample, actual):
    """Random results: the shape is that of the array, or the size argument or the number given."""
    if op.shape:
        assert tuple(actual.shape) == op.shape(*sample.args, **sample.kwargs)
        return
    sizes = [a.shape for a in sample.args if isinstance(a, np.ndarray)]
    sizes = (
        sizes or [tuple(a) for a in sample.args if isinstance(a, (tuple, list))] or [sample.args]
    )
    assert tuple(actual.shape) == sizes[0]


@rows_and_dtypes([op for op in OPS if op.special], FLOATS)
def test_special_values(op, dtype):
    values = np.array(
        [np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 1e30, -1e30, 1e-30], "float32"
    )
    pair = S(*(m.ravel() for m in np.meshgrid(values, values)))
    sample = S(values) if len(op.samples(op.gen(dtype))[0].args) == 1 else pair
    args, kwargs = call_args(sample, dtype)
    expected = reference(op, args, kwargs)
    with np.errstate(all="ignore"):
        limit = 6.6e4 if dtype == "float16" else 3.5e38 if dtype != "float64" else np.inf
        expected = np.where(
            np.abs(expected.astype("float64")) >= limit,
            np.sign(expected.astype("float64")) * np.inf,
            expected,
        )
    assert_close(function(op)(*args), expected, op.tol, op.name)


@rows_and_dtypes([op for op in OPS if op.view], ("float32", "int64"))
def test_a_view_shares_memory(op, dtype):
    for sample in samples(op, dtype):
        args, kwargs = call_args(sample, dtype)
        for view in parts(function(op)(*args, **kwargs)):
            if view.numel():
                args[0].fill_(3)
                assert to_array(view).flat[0] == 3
                assert view._version == args[0]._version


@rows(
    [
        op
        for op in OPS
        if op.name in ("clone", "zeros_like", "add", "cat", "flatten", "nn.functional.linear")
    ]
)
def test_the_argument_is_not_touched(op):
    for sample in samples(op, "float64"):
        args, kwargs = call_args(sample, "float64")
        before = [to_array(t).copy() for t in leaves(args)]
        function(op)(*args, **kwargs)
        assert all(
            np.array_equal(to_array(t), b) for t, b in zip(leaves(args), before, strict=True)
        )


# --------------------------------------------------------------------------------------- forms


@rows_and_dtypes([op for op in BY_FORM["m"] if "f" in op.forms], support.TWIN)
def test_method_is_function(op, dtype):
    for sample in samples(op, dtype):
        args, kwargs = call_args(sample, dtype)
        if not isinstance(args[0], torch.Tensor) or op.ref is None:
            continue
        by_method, by_function = (
            getattr(args[0], op.last)(*args[1:], **kwargs),
            find(op.name)(*args, **kwargs),
        )
        for a, b in zip(parts(by_method), parts(by_function), strict=True):
            assert_same(a, b, f"{op.name} of {sample}")


@rows([op for op in OPS if op.aliases])
def test_aliases_agree(op):
    for sample in samples(op, "float32"):
        args, kwargs = call_args(sample, "float32")
        for name in op.aliases:
            assert_same(find(name)(*args, **kwargs), find(op.name)(*args, **kwargs), name)


@rows_and_dtypes(BY_FORM["i"], ("float32", "float64", "int64", "bool"))
def test_in_place(op, dtype):
    """The values of the plain form in the same object, or an error where they do not fit in it."""
    for sample in samples(op, dtype):
        args, kwargs = call_args(sample, dtype)
        expected = find(op.name)(*args, **kwargs)
        target, note = args[0].clone(), f"{op.name}_ of {sample}"
        call = getattr(target, op.last + "_")
        if op.result == "sum" and not is_float(target):
            continue  # taken in the type of the target, overflow and all
        if tuple(expected.shape) != tuple(target.shape) or not torch.can_cast(
            expected.dtype, target.dtype
        ):
            with pytest.raises(RuntimeError):
                call(*args[1:], **kwargs)
            assert_same(target, args[0], note)
            continue
        version = target._version
        assert call(*args[1:], **kwargs) is target, note
        assert target._version > version, note
        assert_same(target, expected.to(target.dtype), note)


@rows_and_dtypes(BY_FORM["o"], support.TWIN)
def test_out(op, dtype):
    """`out=` is filled, resized if empty, and returned; a type that cannot hold it is refused."""
    for sample in samples(op, dtype):
        if unlike_out(op, sample):
            continue
        args, kwargs = call_args(sample, dtype)
        expected, note = find(op.name)(*args, **kwargs), f"{op.name} of {sample}"
        strided = torch.zeros((*expected.shape, 2), dtype=expected.dtype)[..., 1]
        for out in (torch.empty_like(expected), torch.empty(0, dtype=expected.dtype), strided):
            assert find(op.name)(*args, out=out, **kwargs) is out, note
            assert_same(out, expected, note)
        if op.result in ("sum", "bool"):
            continue  # sums are taken in the type of `out`; truth values may be written to any type
        wrong = torch.empty(expected.shape, dtype=torch.int32 if is_float(expected) else torch.bool)
        with pytest.raises((RuntimeError, TypeError)):
            find(op.name)(
                *args,
                out=wrong if dtype_name(expected) != "bool" else wrong.to(torch.int16),
                **kwargs,
            )


def unlike_out(op, sample):
    """PyTorch's full reductions take no `out=`, nor do `where` with a number and tuples."""
    if sample.kwargs.get("as_tuple"):
        return True
    if op.name == "where":
        return not all(isinstance(a, np.ndarray) for a in sample.args)
    return (
        op.name in ("any", "all", "prod", "sum", "mean", "var", "std", "argmax", "argmin")
        and "dim" not in sample.kwargs
    )


def test_out_may_be_the_argument_itself():
    x = torch.tensor([1.0, 4.0, 9.0])
    assert torch.sqrt(x, out=x) is x
    assert x.tolist() == [1.0, 2.0, 3.0]


def test_out_may_not_overlap_the_argument():
    x = torch.ones(4)
    with pytest.raises(RuntimeError):
        torch.add(x[:-1], 1, out=x[1:])
    assert x.tolist() == [1.0] * 4


def test_out_is_not_recorded():
    x, out = torch.ones(3, requires_grad=True), torch.empty(3)
    with pytest.raises(RuntimeError, match="out"):
        torch.add(x, 1, out=out)
    with torch.no_grad():
        torch.add(x, 1, out=out)
    assert out.tolist() == [2.0] * 3
    assert not out.requires_grad


# ------------------------------------------------------------------------------------ gradients


def differentiable_parts(op, sample, layout=support.contiguous, f=None):
    """The call as a function of its positional floating arguments, and those arguments."""
    args, kwargs = call_args(sample, "float64", layout)
    inputs = [t for t in leaves(args) if is_float(t)]
    f = f or function(op)

    def call(*tensors):
        by_id = {id(old): new for old, new in zip(inputs, tensors, strict=True)}
        return f(*convert(args, lambda t: by_id.get(id(t), t)), **kwargs)

    return call, inputs


@rows(DIFFERENTIABLE)
def test_gradients(op):
    for sample in samples(op, "float64"):
        call, inputs = differentiable_parts(op, sample)
        try:
            check_gradients(call, inputs, op.order)
        except Exception as e:
            e.add_note(f"{op.name} of {sample}")
            raise


@pytest.mark.parametrize(
    "layout", [support.transposed, support.stepped, support.flipped], ids=lambda f: f.__name__
)
@rows([op for op in DIFFERENTIABLE if op.strided])
def test_gradients_of_other_layouts(op, layout):
    """A gradient does not depend on where the argument lies in memory."""
    for sample in samples(op, "float64"):
        grads = []
        for form in (support.contiguous, layout):
            call, inputs = differentiable_parts(op, sample, form)
            for x in inputs:
                x.requires_grad_()
            outputs = [t for t in leaves([call(*inputs)]) if t.requires_grad]
            weights = [
                torch.tensor(np.random.default_rng(1).standard_normal(tuple(t.shape)))
                for t in outputs
            ]
            torch.autograd.backward(outputs, weights)
            grads.append([x.grad for x in inputs])
        for a, b in zip(*grads, strict=True):
            assert (a is None) == (b is None)
            if a is not None:
                assert_close(a, to_array(b), 10, f"{op.name} of {sample}")


@rows([op for op in BY_FORM["i"] if op.order and op.result in ("same", "float", "sum")])
def test_gradients_in_place(op):
    def in_place(x, *args, **kwargs):
        return getattr(x.clone(), op.last + "_")(*args, **kwargs)

    for sample in samples(op, "float64"):
        call, inputs = differentiable_parts(op, sample)
        if tuple(leaves([call(*inputs)])[0].shape) == tuple(inputs[0].shape):
            check_gradients(differentiable_parts(op, sample, f=in_place)[0], inputs, 1)


@rows([op for op in DIFFERENTIABLE if not op.last.endswith("_")])
def test_requires_grad_propagates_and_no_grad_records_nothing(op):
    sample = samples(op, "float64")[0]
    call, inputs = differentiable_parts(op, sample)
    assert not any(t.requires_grad for t in leaves([call(*inputs)]))
    for x in inputs:
        x.requires_grad_()
    before = torch._core.live_nodes()
    for t in leaves([call(*inputs)]):
        if not any(t is x for x in inputs):  # `contiguous` of what is contiguous already
            assert t.requires_grad == is_float(t)
            assert (t.grad_fn is not None) == is_float(t)
            assert t.is_leaf != is_float(t)
    del t
    with torch.no_grad():
        outputs = leaves([call(*inputs)])
    assert torch._core.live_nodes() == before
    assert all(t.grad_fn is None for t in outputs)
    # PyTorch 2.13 says True for a view made under no_grad, against its own documentation
    others = [t for t in outputs if not t._is_view() and not any(t is x for x in inputs)]
    assert not any(t.requires_grad for t in others)


@rows_and_dtypes(
    [
        op
        for op in OPS
        if not op.order
        and op.ref
        and "m" in op.forms
        and op.name != "floor_divide"
        and op.result not in FLOATS  # a cast is recorded
    ],
    ("float32",),
)
def test_what_is_not_differentiable_is_not_recorded(op, dtype):
    args, kwargs = call_args(samples(op, dtype)[1], dtype)
    args[0].requires_grad_()
    for t in leaves([function(op)(*args, **kwargs)]):
        assert not t.requires_grad


# ------------------------------------------------------------------------------------ threads


def digest(tensors):
    h = hashlib.sha256()
    for t in tensors:
        h.update(np.ascontiguousarray(to_array(t)).tobytes())
    return h.hexdigest()


@rows([op for op in WITH_REFERENCE if op.scale > 1])
def test_any_number_of_threads_gives_the_same_bits(op):
    dtype = "float32" if "float32" in op.dtypes else "int64"
    sample = max(
        samples(op, dtype, op.scale),
        key=lambda s: sum(a.size for a in leaves([s.args], np.ndarray)),
    )
    seen = set()
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        args, kwargs = call_args(sample, dtype)
        inputs = [t.requires_grad_() for t in leaves(args) if is_float(t) and op.order]
        outputs = leaves([function(op)(*args, **kwargs)])
        recorded = [t for t in outputs if t.requires_grad]
        torch.autograd.backward(recorded, [torch.ones_like(t) for t in recorded])
        seen.add(digest([*outputs, *(x.grad for x in inputs if x.grad is not None)]))
    assert len(seen) == 1


# ------------------------------------------------------------------------------------- errors


@rows([op for op in OPS if op.errors])
def test_errors(op):
    for sample, exception, pattern in op.errors:
        args, kwargs = call_args(sample, "float32" if holds_no_double(sample) else "as they are")
        with pytest.raises(exception) as caught:
            find(op.name)(*args, **kwargs)
        assert re.search(pattern, str(caught.value), re.DOTALL), (
            f"{op.name} of {sample}: {caught.value}"
        )
        assert len(str(caught.value)) <= 400


def holds_no_double(sample):
    return not any(a.dtype == np.float64 for a in leaves([sample.args], np.ndarray))


def test_the_table_covers_every_integer_type():
    assert {d for op in OPS for d in op.dtypes} == {*FLOATS, *INTS, "bool"}
