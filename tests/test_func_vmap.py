"""`vmap`: structures of inputs and outputs, axes, levels, randomness, and what is refused."""

import copy
import functools
import pickle
import threading
from collections import OrderedDict, namedtuple

import numpy as np
import pytest
import wengert as torch
from support import assert_close, to_array
from wengert import vmap


def close(actual, expected, tol=1.0):
    assert_close(actual, to_array(expected), tol)


def randn(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def same_randomness(*modes):
    return pytest.mark.parametrize("randomness", modes or ("different", "same"))


# ------------------------------------------------------------------------------------ structure


def test_one_input_one_output():
    x = randn(2, 3)
    close(vmap(torch.sin)(x), x.sin())


def test_the_function_sees_one_example():
    seen = []

    def f(x):
        seen.append((x.shape, x.ndim, x.dim(), x.numel(), x.size(0), x.stride(), len(x), x.dtype))
        return x

    vmap(f)(randn(2, 3, 4))
    assert seen == [(torch.Size((3, 4)), 2, 2, 12, 3, (4, 1), 3, torch.float64)]


def test_input_axes():
    x = randn(2, 3, 5)
    for dim in (0, 1, 2, -1, -3):
        close(vmap(lambda x: x.sum(0), in_dims=dim, out_dims=-1)(x), x.movedim(dim, -1).sum(0))
    y = randn(3, 2)
    close(vmap(torch.mul, (0, 1))(randn(2, 3) * 0 + 1, y), y.t())
    close(vmap(torch.mul, in_dims=(None, 0))(y[0], y), y[0] * y)


def test_output_axes():
    x = randn(2, 3, 5)
    for dim in (0, 1, 2, -1, -3):
        assert vmap(lambda x: x, out_dims=dim)(x).movedim(dim, 0).shape == (2, 3, 5)
    a, b = vmap(lambda x: (x, x.sum()), out_dims=(1, 0))(x)
    assert a.shape == (3, 2, 5)
    assert b.shape == (2,)


def test_outputs_that_do_not_depend_on_the_batch_are_repeated():
    x = randn(4, 3)
    y = vmap(lambda x: torch.ones(2))(x)
    close(y, torch.ones(4, 2))
    assert vmap(lambda x: torch.ones(2), out_dims=1)(x).shape == (2, 4)


def test_outputs_without_axis():
    x = randn(4, 3)
    one, two = vmap(lambda x: (torch.ones(2), x), out_dims=(None, 0))(x)
    assert one.shape == (2,)
    close(two, x)
    assert vmap(lambda x: 5, out_dims=None)(x) == 5
    assert vmap(lambda x: ("text", x), out_dims=(None, 0))(x)[0] == "text"
    with pytest.raises(ValueError, match="can not return a BatchedTensor when out_dim is None"):
        vmap(lambda x: x, out_dims=None)(x)


def test_nested_inputs():
    x, y, z = randn(2, 3), randn(2, 3), randn(3, 2)
    Pair = namedtuple("Pair", "a b")  # noqa: PYI024
    close(vmap(lambda d: d["x"] * d["y"][0])({"x": x, "y": [y]}), x * y)
    close(vmap(lambda p: p.a * p.b, in_dims=(Pair(0, 1),))(Pair(x, z)), x * z.t())
    close(vmap(lambda d: d["x"] * d["z"], in_dims=({"x": 0, "z": 1},))({"x": x, "z": z}), x * z.t())
    close(vmap(lambda d: d["x"], in_dims=(OrderedDict(x=0),))(OrderedDict(x=x)), x)
    nested = vmap(lambda t: t[0] + t[1][0] * t[1][1], in_dims=((0, [0, None]),))((x, [y, 2.0]))
    close(nested, x + 2 * y)


def test_nested_outputs():
    x = randn(2, 3)
    Pair = namedtuple("Pair", "a b")  # noqa: PYI024
    out = vmap(lambda x: {"a": (x, [x.sum()]), "b": Pair(x, x)})(x)
    assert isinstance(out["b"], Pair)
    close(out["a"][1][0], x.sum(1))
    out = vmap(lambda x: {"a": x, "b": (x, x)}, out_dims={"a": 1, "b": 0})(x)
    assert out["a"].shape == (3, 2)
    assert out["b"][0].shape == (2, 3)


def test_a_tuple_of_one_axis():
    x = randn(2, 3)
    assert vmap(lambda x: x, out_dims=(1,))(x).shape == (3, 2)
    assert vmap(lambda x: (x,), out_dims=(1,))(x)[0].shape == (3, 2)
    assert vmap(lambda x: (x,), out_dims=1)(x)[0].shape == (3, 2)


def test_what_is_no_tensor_is_passed_on():
    x = randn(2, 3)
    close(vmap(lambda x, s, f: f(x) * s, in_dims=(0, None, None))(x, 2, torch.sin), 2 * x.sin())


def test_keyword_arguments_are_the_same_for_all():
    x, y = randn(2, 3), randn(3)
    close(vmap(lambda x, scale: x * scale)(x, scale=y), x * y)


def test_partial_functions_and_callables_without_a_name():
    x = randn(2, 3)
    close(vmap(functools.partial(torch.mul, x[0]))(x), x[0] * x)

    class Double:
        def __call__(self, x):
            return x * 2

    close(vmap(Double())(x), 2 * x)


def test_a_batch_of_nothing():
    x = randn(0, 3)
    assert vmap(torch.sin)(x).shape == (0, 3)
    assert vmap(lambda x: x.sum())(x).shape == (0,)
    assert vmap(lambda x: x.cumprod(0))(x).shape == (0, 3)
    assert vmap(lambda x: torch.nn.functional.embedding(torch.tensor([0, 1]), x))(
        randn(0, 2, 4)
    ).shape == (0, 2, 4)


def test_chunks():
    x = randn(5, 3)
    for size in (1, 2, 5, 7):
        close(vmap(torch.sin, chunk_size=size)(x), x.sin())
        a, b = vmap(lambda x, y: (x * y, x), (0, None), (1, 0), chunk_size=size)(x, x[0])
        close(a, (x * x[0]).t())
        close(b, x)
    with pytest.raises(ValueError, match="chunk_size should be None or greater than 0"):
        vmap(torch.sin, chunk_size=0)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda x: vmap(torch.sin, in_dims="x")(x), "expected `in_dims` to be int or a"),
        (lambda x: vmap(torch.sin, in_dims=[0])(x), "expected `in_dims` to be int or a"),
        (lambda x: vmap(torch.sin)(), "got no inputs"),
        (lambda x: vmap(torch.mul, in_dims=(0,))(x, x), "in_dims is not compatible with the"),
        (lambda x: vmap(torch.mul, in_dims=(0, (0,)))(x, x), "in_dims is not compatible with the"),
        (lambda x: vmap(torch.mul, in_dims=(0, 1.0))(x, x), "Got in_dim=1.0 for an input but"),
        (lambda x: vmap(torch.mul)(x, 2.0), "We cannot vmap over non-Tensor arguments"),
        (lambda x: vmap(torch.sin, in_dims=2)(x), "expected in_dim to satisfy -2 <= in_dim < 2"),
        (lambda x: vmap(torch.sin)(x.sum()), "expected in_dim to satisfy -0 <= in_dim < 0"),
        (
            lambda x: vmap(torch.mul, (None, None))(x, x),
            "Expected at least one Tensor to vmap over",
        ),
        (lambda x: vmap(torch.mul, (0, 1))(x, x), r"same size in the mapped dimension, got sizes"),
        (lambda x: vmap(torch.sin, out_dims="a")(x), "`out_dims` must be an int, None or a python"),
        (lambda x: vmap(lambda x: (x, x), out_dims=(0, 0, 0))(x), "out_dims is not compatible"),
        (lambda x: vmap(lambda x: x, out_dims=(0, 0))(x), "out_dims is not compatible"),
        (lambda x: vmap(lambda x: 1)(x), "must only return Tensors, got type <class 'int'>"),
        (lambda x: vmap(lambda x: (x, None))(x), "must only return Tensors"),
    ],
)
def test_structures_that_do_not_fit(call, text):
    with pytest.raises(ValueError, match=text):
        call(randn(2, 3))


def test_output_axes_that_do_not_exist():
    with pytest.raises(IndexError, match=r"expected to be in range of \[-2, 1\], but got 3"):
        vmap(torch.sin, out_dims=3)(randn(2, 3))


# --------------------------------------------------------------------------------------- levels


def test_levels_nest():
    x, y = randn(2, 3), randn(5, 3)
    close(vmap(vmap(torch.mul, (None, 0)), (0, None))(x, y), x[:, None] * y)
    close(vmap(vmap(torch.mul, (0, None)), (None, 0))(x, y), x * y[:, None])
    z = randn(2, 3, 4, 5)
    close(vmap(vmap(vmap(lambda z: z.sum())))(z), z.sum(-1))
    close(vmap(vmap(lambda z: z, out_dims=1), in_dims=2)(z), z.permute(2, 1, 0, 3))


def test_an_inner_level_sees_tensors_of_the_outer_one():
    x, y = randn(2, 3), randn(5)
    out = vmap(lambda x: vmap(lambda y: x * y)(y))(x)
    close(out, x[:, None] * y[:, None])
    mixed = vmap(lambda x: vmap(lambda a, y: (x * a).sum() * y)(x, x))(x)
    close(mixed, (x[:, None, :] * x[:, :, None]).sum(-1) * x)


def test_a_result_of_the_outer_level_alone_is_repeated_in_the_inner_one():
    x, y = randn(2, 3), randn(5)
    out = vmap(lambda x: vmap(lambda y: x)(y))(x)
    close(out, x[:, None].expand(2, 5, 3))


def test_tensors_that_escape_are_recognised():
    kept = []
    vmap(lambda x: kept.append(x) or x)(randn(2, 3))
    for use in (
        lambda t: t.sin(),
        lambda t: t + 1,
        lambda t: t[0],
        lambda t: t.add_(1),
        lambda t: t.sum(),
        lambda t: t @ t,
        lambda t: t.T,
        lambda t: t.__setitem__(0, 1.0),
        lambda t: list(t),
    ):
        with pytest.raises(RuntimeError, match="may have escaped from inside a function being vm"):
            use(kept[0])
    with pytest.raises(RuntimeError, match="may have escaped"):
        vmap(lambda x: x + kept[0])(randn(2, 3))
    assert "BatchedTensor" in repr(kept[0])


def test_levels_belong_to_a_thread():
    errors = []

    def f(x):
        def run():
            try:
                x.sin()
            except RuntimeError as e:
                errors.append(str(e))
            assert torch.ones(2).sum() == 2

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        return x

    vmap(f)(randn(2, 3))
    assert "another thread" in errors[0]


def test_several_threads_at_once():
    x = randn(4, 3)
    results = []

    def run():
        for _ in range(50):
            results.append(vmap(torch.func.grad(lambda x: (x**2).sum()))(x))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(results) == 200
    for r in results:
        close(r, 2 * x)


def test_tensors_outside_are_not_slowed_or_changed():
    plain = randn(3)
    out = vmap(lambda x: x * plain.sum().item())(randn(2, 3))
    assert out.shape == (2, 3)
    assert not torch._core._is_batched(plain)


def test_nothing_is_left_that_would_slow_other_calls():
    assert not torch._core._batches_exist()
    x = randn(4, 3).requires_grad_()
    y = vmap(torch.func.grad(lambda x: vmap(torch.sin)(x).sum()))(x)
    torch.func.hessian(lambda x: (x**3).sum())(x[0]).sum().backward()
    assert not torch._core._batches_exist()
    kept = []
    with pytest.raises(ValueError, match="inside"):
        vmap(lambda x: kept.append(x) or int("inside"))(x)
    assert torch._core._batches_exist()  # so that the tensor is recognised wherever it is used
    kept.clear()
    assert not torch._core._batches_exist()
    y.sum().backward()


def test_functions_written_with_others():
    x, y = randn(2, 3, 4), randn(2, 4, 5)
    close(vmap(lambda x, y: torch.einsum("ij,jk->ki", x, y))(x, y), (x @ y).mT, 10)
    torch.testing.assert_close(vmap(lambda x: torch.nn.functional.gelu(x))(x),
                               torch.nn.functional.gelu(x))  # fmt: skip


# ------------------------------------------------------------------- operators, methods, attributes

UNARY = [
    lambda x: -x,
    lambda x: +x,
    abs,
    lambda x: x.T,
    lambda x: x.mT,
    lambda x: x.mH,
    lambda x: x.H,
    lambda x: x[0],
    lambda x: x[..., 1:],
    lambda x: x[:, None, ::2],
    lambda x: x[-1, :2],
    lambda x: x[torch.tensor([2, 0])],
    lambda x: x[:, torch.tensor([1, 0])],
    lambda x: x[torch.tensor([[0, 1], [2, 0]]), torch.tensor([1, 0])],
    lambda x: x[:, None][torch.tensor([0, 1]), :, torch.tensor([1, 0])],
    lambda x: x[torch.tensor([True, False, True])],
    lambda x: x[[0, 2]],
    lambda x: x[None],
    lambda x: torch.stack(list(x)),
    lambda x: torch.stack(list(reversed(x))),
    lambda x: x.type(torch.float32),
    lambda x: x.where(x > 0, 0.0),
    lambda x: x.detach(),
    lambda x: x.cpu(),
    lambda x: x.to(torch.float32).to(x),
    lambda x: x.new_zeros(2) + x.sum(),
    lambda x: x.new_full((2,), 3.0),
    lambda x: x.clone().t_(),
    lambda x: x.clone().unsqueeze_(1),
    lambda x: x.reshape(-1),
    lambda x: x.reshape(2, -1),
    lambda x: x.contiguous().view(x.numel()),
    lambda x: x.flatten().view_as(x),
    lambda x: x.sum(0).expand(5, -1),
    lambda x: x.max(1).values + x.min(1).indices,
    lambda x: x.var(),
    lambda x: x.norm(),
    lambda x: x.norm(dim=0),
    lambda x: x.flatten().norm(3),
    lambda x: x.sum().unsqueeze(0).squeeze(0),
    lambda x: x.sum().sum(0),
    lambda x: x.sum().permute(()),
    lambda x: torch.stack([x.sum(), x.mean()]),
    lambda x: torch.cat([x, x.new_ones(1, 4)]),
    lambda x: torch.as_tensor(x),
    lambda x: x.split(2)[1],
    lambda x: x.unbind(1)[0],
]


@pytest.mark.parametrize("f", UNARY, ids=range(len(UNARY)))
def test_of_one_tensor(f):
    x = randn(2, 3, 4)
    expected = torch.stack([f(e) for e in x])
    actual = vmap(f)(x)
    assert actual.dtype == expected.dtype
    close(actual, expected, 10)
    nested = vmap(vmap(f, in_dims=1), in_dims=2)(
        randn(3, 2, 5, 4)[..., :4].movedim(2, 0).movedim(0, 2)
    )
    assert nested.shape[2:] == expected.shape[1:]


BINARY = [
    lambda a, b: a + b,
    lambda a, b: 2 - a * b,
    lambda a, b: a / b,
    lambda a, b: 1 / a + b // 0.5,
    lambda a, b: a % b,
    lambda a, b: abs(a) ** b,
    lambda a, b: 2**a * b,
    lambda a, b: (a < b) & (a >= -1) | (a == b) ^ (a != 0),
    lambda a, b: ~(a > b),
    lambda a, b: a @ b.t(),
    lambda a, b: a @ b[0],
    lambda a, b: a[0] @ b[0],
    lambda a, b: torch.where(a > b, a, b),
    lambda a, b: a.sum() * b,
    lambda a, b: a.sum() + b.sum(),
    lambda a, b: a.float() + b.sum(),
    lambda a, b: a.float().sum() + b,
    lambda a, b: a.sum().long() + b.float(),
    lambda a, b: torch.stack([a, b], 1),
    lambda a, b: a.lerp(b, 0.3),
    lambda a, b: a.clamp(b.sum(), b.sum() + 1),
    lambda a, b: torch.linalg.vector_norm(a - b),
]


@pytest.mark.parametrize("dims", [(0, 0), (0, None), (None, 0)])
@pytest.mark.parametrize("f", BINARY, ids=range(len(BINARY)))
def test_of_two_tensors(f, dims):
    a, b = randn(2, 3, 4), randn(2, 3, 4)
    one = [(a[i] if dims[0] == 0 else a[0], b[i] if dims[1] == 0 else b[0]) for i in range(2)]
    args = (a if dims[0] == 0 else a[0], b if dims[1] == 0 else b[0])
    expected = torch.stack([f(*pair) for pair in one])
    actual = vmap(f, in_dims=dims)(*args)
    assert actual.dtype == expected.dtype
    close(actual, expected, 10)


INDEXED = [
    lambda x, i: x[i],
    lambda x, i: x[:, i],
    lambda x, i: x[i, i],
    lambda x, i: x[i, :, i],
    lambda x, i: x[i[0]],
    lambda x, i: x[:, i[0]],
    lambda x, i: x[i[0], ..., i],
    lambda x, i: x[None, :, i, 1:],
    lambda x, i: x[i[:, None], i],
    lambda x, i: x[torch.tensor([0, 1]), i],
    lambda x, i: x[torch.tensor([True, False, True]), i],
]


@pytest.mark.parametrize("dims", [(0, 0), (0, None), (None, 0)])
@pytest.mark.parametrize("f", INDEXED, ids=range(len(INDEXED)))
def test_indices_may_differ_from_example_to_example(f, dims):
    x = randn(4, 3, 3, 3)
    i = torch.tensor([[0, 1], [2, 2], [1, 0], [-1, 1]])
    args = (x if dims[0] == 0 else x[0], i if dims[1] == 0 else i[0])
    each = [f(x[k] if dims[0] == 0 else x[0], i[k] if dims[1] == 0 else i[0]) for k in range(4)]
    close(vmap(f, in_dims=dims)(*args), torch.stack(each))


def put(place):
    def f(x, i, v):
        x = x.clone()
        place(x, i, v)
        return x

    return f


WRITES = [
    put(lambda x, i, v: x.__setitem__(0, v)),
    put(lambda x, i, v: x.__setitem__((slice(None), 1), v)),
    put(lambda x, i, v: x.__setitem__((Ellipsis, slice(0, 2)), v[:2])),
    put(lambda x, i, v: x.__setitem__(i, v)),
    put(lambda x, i, v: x.__setitem__((slice(None), i), v)),
    put(lambda x, i, v: x[:, None].__setitem__((i, slice(None), i), v)),
    put(lambda x, i, v: x.__setitem__(torch.tensor([0, 2]), v)),
    put(lambda x, i, v: x.__setitem__((slice(None), torch.tensor([True, False, True])), v)),
    put(lambda x, i, v: x.__setitem__(x > v.sum(), v.sum())),
    put(lambda x, i, v: x.__setitem__(x > 0, 0.0)),
    put(lambda x, i, v: x.__setitem__(i[0], v.sum())),
    put(lambda x, i, v: x.__iadd__(v)),
    put(lambda x, i, v: x.mul_(2).sub_(v.sum())),
    put(lambda x, i, v: x[0].copy_(v)),
    put(lambda x, i, v: x.t().contiguous().zero_()),
    put(lambda x, i, v: x.fill_(v.sum())),
    put(lambda x, i, v: x.fill_(3.0)),
    put(lambda x, i, v: x.diagonal().copy_(v)),
    put(lambda x, i, v: x.addmm_(x, x)),
    put(lambda x, i, v: x.sin_().clamp_(0, 1)),
]


@pytest.mark.parametrize("dims", [(0, 0, 0), (0, None, None), (0, None, 0), (0, 0, None)])
@pytest.mark.parametrize("f", WRITES, ids=range(len(WRITES)))
def test_writes(f, dims):
    x, v = randn(4, 3, 3), randn(4, 3)
    i = torch.tensor([[0, 1], [2, 0], [1, 0], [2, 1]])
    if f in WRITES[3:8]:
        v = v[:, :1]
    whole = (x, i, v)
    each = [
        f(*(t[k] if d == 0 else t[0] for t, d in zip(whole, dims, strict=True))) for k in range(4)
    ]
    args = [t if d == 0 else t[0] for t, d in zip(whole, dims, strict=True)]
    close(vmap(f, in_dims=dims)(*args), torch.stack(each), 10)


def test_writes_reach_the_argument():
    x = randn(2, 3)
    before = x.clone()
    vmap(lambda x: x.mul_(2))(x)
    close(x, 2 * before)
    vmap(lambda x: x.__setitem__(0, 0.0) or x, in_dims=1)(x)
    assert x[0].abs().sum() == 0


def test_writes_to_what_is_the_same_for_all_examples_are_refused():
    shared, x = randn(3), randn(2, 3)
    for f in (
        lambda s, x: s.add_(x),
        lambda s, x: s.copy_(x),
        lambda s, x: s.__setitem__(0, x[0]),
        lambda s, x: s.__setitem__(torch.tensor([0]), x[:1]),
        lambda s, x: s.fill_(x.sum()),
        lambda s, x: s.__iadd__(x),
    ):
        with pytest.raises(
            RuntimeError, match=r"vmap: inplace arithmetic\(self, \*extra_args\) is"
        ):
            vmap(f, in_dims=(None, 0))(shared, x)
    with pytest.raises(
        RuntimeError, match=r"vmap: aten::add_\(self, \*extra_args\) is not possible"
    ):
        vmap(lambda s, x: s.add_(x), in_dims=(None, 0))(shared, x)
    vmap(lambda s, x: x.add_(s), in_dims=(None, 0))(shared, x)


def test_writes_keep_the_object():
    def f(x):
        y = x.clone()
        assert y.add_(1) is y
        assert y.zero_() is y
        y += 1
        return y

    close(vmap(f)(randn(2, 3)), torch.ones(2, 3).double())


def test_representation():
    texts = []
    x = torch.tensor([[1.0, 2.0]])
    vmap(lambda x: texts.append(repr(x)) or x)(x)
    vmap(vmap(lambda x: texts.append(repr(x)) or x))(x)
    assert texts[0] == "BatchedTensor(lvl=1, bdim=0, value=\n    tensor([[1., 2.]])\n)"
    assert texts[1].startswith(
        "BatchedTensor(lvl=2, bdim=0, value=\n    BatchedTensor(lvl=1, bdim=0"
    )


# --------------------------------------------------------------------------- what is not one value


@pytest.mark.parametrize(
    ("use", "text"),
    [
        (lambda x: x if x.sum() > 0 else -x, "data-dependent control flow"),
        (lambda x: x.sum().item(), r"calling \.item\(\) on a Tensor"),
        (lambda x: float(x.sum()), r"calling \.item\(\) on a Tensor"),
        (lambda x: int(x.sum()), r"calling \.item\(\) on a Tensor"),
        (lambda x: f"{x.sum():.2f}", r"calling \.item\(\) on a Tensor"),
        (lambda x: [0, 1][x.sum().long() * 0], r"calling \.item\(\) on a Tensor"),
        (lambda x: torch.zeros(3)[: x.sum().long()], r"calling \.item\(\) on a Tensor"),
        (lambda x: torch.tensor([x.sum(), 1.0]), r"calling \.item\(\) on a Tensor"),
        (lambda x: x.tolist(), "Cannot access data pointer"),
        (lambda x: x.numpy(), "Cannot access data pointer"),
        (lambda x: np.asarray(x), "Cannot access data pointer"),
        (lambda x: x.data_ptr(), "Cannot access data pointer"),
        (lambda x: memoryview(x), "Cannot access data pointer"),
        (lambda x: 1.0 in x, "Cannot access data pointer"),
        (lambda x: x.data, "accessing `data` under vmap transform is not allowed"),
        (lambda x: setattr(x, "data", x), "accessing `data` under vmap transform is not allowed"),
        (lambda x: x.resize_(2), "Cannot access storage of BatchedTensorImpl"),
        (lambda x: x.set_(x), "Cannot access storage of BatchedTensorImpl"),
        (copy.deepcopy, "Cannot access storage of BatchedTensorImpl"),
        (pickle.dumps, "Cannot access storage of BatchedTensorImpl"),
        (lambda x: x.nonzero(), "output dynamic shape"),
        (lambda x: x.masked_select(x > 0), "Attempted to vmap over `mask`"),
        (lambda x: x[x > 0], "dynamic shape. Attempting to batch over indexing with a boolean"),
        (lambda x: torch.equal(x, x), "Batching rule not implemented for aten::equal"),
        (lambda x: torch.allclose(x, x), "vmap over torch.allclose isn't supported yet"),
        (lambda x: torch.abs(x, out=torch.zeros(3)), r"aten::abs\.out; the fallback path doesn't"),
        (lambda x: torch.nn.functional.one_hot(x.long()), "explicit positive num_classes"),
    ],
)
def test_what_has_no_single_value_is_refused(use, text):
    with pytest.raises((RuntimeError, BufferError), match=text):
        vmap(use, out_dims=None)(randn(2, 3))


def test_errors_of_operations_are_those_of_one_example():
    x = randn(2, 3)
    with pytest.raises(IndexError, match=r"range of \[-1, 0\], but got 1"):
        vmap(lambda x: x.sum(1))(x)
    with pytest.raises(RuntimeError, match=r"shape '.2, 2.' is invalid for input of size 3"):
        vmap(lambda x: x.reshape(2, 2))(x)
    with pytest.raises(IndexError, match="too many indices for tensor of dimension 1"):
        vmap(lambda x: x[0, 0])(x)
    with pytest.raises(IndexError, match="index 3 is out of bounds for dimension 0 with size 3"):
        vmap(lambda x: x[3])(x)
    with pytest.raises(RuntimeError, match=r"2.*3|3.*2"):
        vmap(lambda x: x + torch.ones(2))(x)
    with pytest.raises(RuntimeError):
        vmap(lambda x: x.t() @ x[:2])(x)
    with pytest.raises(RuntimeError, match="permute"):
        vmap(lambda x: x.permute(0, 1))(x)
    with pytest.raises(TypeError, match="iteration over a 0-d tensor"):
        vmap(lambda x: list(x.sum()))(x)
    with pytest.raises(TypeError, match="len"):
        vmap(lambda x: len(x.sum()))(x)


def test_axes_of_length_one_are_not_mistaken_for_levels():
    x = randn(1, 1, 3)
    assert vmap(lambda x: x.squeeze())(x).shape == (1, 3)
    assert vmap(lambda x: x.squeeze(0))(x).shape == (1, 3)
    assert vmap(lambda x: x.sum())(x).shape == (1,)


def test_single_numbers_count_as_such_in_type_promotion():
    half = torch.tensor([1.0, 2.0], dtype=torch.float16)
    other = torch.tensor([1.0, 2.0], dtype=torch.float64)
    whole = torch.ones(2, 3, dtype=torch.float32)
    for a, b in ((half, whole), (other, whole), (other, whole.long()), (half.long(), whole.byte())):
        one = a[0] * b[0]
        assert vmap(torch.mul)(a, b).dtype == one.dtype
        assert vmap(torch.mul, (0, None))(a, b[0]).dtype == one.dtype
        assert vmap(torch.mul, (None, 0))(a[0], b).dtype == one.dtype
    assert vmap(torch.mul, (0, None))(half, other[0]).dtype == torch.float64
    assert vmap(torch.mul)(half, other).dtype == torch.float64
    assert vmap(lambda x: x * 2.5)(half).dtype == torch.float16
    assert vmap(lambda x: x * 2.5)(half.long()).dtype == torch.float32


# ------------------------------------------------------------------------------------ randomness


def draws(f, shape=(3,), **options):
    torch.manual_seed(0)
    return vmap(f, **options)(torch.ones(4, *shape).double())


def test_random_operations_fail_unless_told():
    for f in (
        lambda x: torch.rand(3),
        lambda x: torch.randn_like(x),
        lambda x: torch.bernoulli(x),
        lambda x: torch.randperm(3),
        lambda x: torch.nn.functional.dropout(x),
        lambda x: x.clone().normal_(),
        lambda x: torch.multinomial(x, 1),
        lambda x: torch.zeros(3).uniform_(),
    ):
        with pytest.raises(RuntimeError, match="called random operation while in randomness error"):
            draws(f)
    close(
        draws(lambda x: torch.nn.functional.dropout(x, training=False)), torch.ones(4, 3).double()
    )


def test_randomness_has_three_settings():
    with pytest.raises(RuntimeError, match="Only allowed values for randomness are"):
        vmap(torch.sin, randomness="some")


FACTORIES = [
    lambda x: torch.rand(3),
    lambda x: torch.randn(2, 3),
    lambda x: torch.randint(0, 1000, (3,)),
    lambda x: torch.normal(0.0, 1.0, (3,)),
    lambda x: torch.rand_like(x),
    lambda x: torch.randn_like(x),
    lambda x: torch.randint_like(x, 0, 1000),
    lambda x: torch.randperm(20),
]


@pytest.mark.parametrize("f", FACTORIES, ids=range(len(FACTORIES)))
def test_new_random_tensors(f):
    same = draws(f, randomness="same")
    assert all(torch.equal(same[0], s) for s in same)
    torch.manual_seed(0)
    assert torch.equal(same[0], f(torch.ones(3).double()))
    different = draws(f, randomness="different")
    assert not any(torch.equal(different[0], s) for s in different[1:])


def test_different_draws_are_those_of_the_larger_tensor():
    different = draws(lambda x: torch.randn(3), randomness="different")
    torch.manual_seed(0)
    close(different, torch.randn(4, 3))


def test_samples_of_tensors():
    p = lambda x: x * 0.5  # noqa: E731
    for f in (
        lambda x: torch.bernoulli(p(x)),
        lambda x: torch.normal(x, 1.0),
        lambda x: torch.normal(x, x),
        lambda x: torch.multinomial(x, 20, replacement=True),
    ):
        shape = (30,)
        different = draws(f, shape, randomness="different")
        assert not any(torch.equal(different[0], s) for s in different[1:])
        with pytest.raises(RuntimeError, match="does not currently support same randomness with a"):
            draws(f, shape, randomness="same")
        plain = torch.ones(30)
        same = draws(lambda x, f=f, plain=plain: f(plain), shape, randomness="same")
        assert all(torch.equal(same[0], s) for s in same)
        different = draws(lambda x, f=f, plain=plain: f(plain), shape, randomness="different")
        assert not any(torch.equal(different[0], s) for s in different[1:])


def test_dropout():
    f = torch.nn.functional.dropout
    same = draws(f, (50,), randomness="same")
    assert all(torch.equal(same[0], s) for s in same)
    different = draws(f, (50,), randomness="different")
    assert not any(torch.equal(different[0], s) for s in different[1:])
    assert set(different.flatten().tolist()) == {0.0, 2.0}


def test_random_writes():
    for f in (
        lambda x: x.clone().normal_(),
        lambda x: x.clone().uniform_(),
        lambda x: x.clone().bernoulli_(0.5),
        lambda x: x.clone().exponential_(),
        lambda x: x.clone().random_(1000),
    ):
        same = draws(f, (30,), randomness="same")
        assert all(torch.equal(same[0], s) for s in same)
        different = draws(f, (30,), randomness="different")
        assert not any(torch.equal(different[0], s) for s in different[1:])
    with pytest.raises(RuntimeError, match="Cannot ask for different inplace randomness on an unb"):
        draws(lambda x: torch.zeros(3).normal_(), randomness="different")


def test_every_level_has_its_own_setting():
    def run(outer, inner):
        torch.manual_seed(0)
        f = vmap(lambda x: torch.randn(3), randomness=inner)
        return vmap(f, randomness=outer)(torch.ones(2, 5))

    r = run("same", "different")
    assert torch.equal(r[0], r[1])
    assert not torch.equal(r[0, 0], r[0, 1])
    r = run("different", "same")
    assert torch.equal(r[0, 0], r[0, 1])
    assert not torch.equal(r[0], r[1])
    r = run("different", "different")
    assert not torch.equal(r[0], r[1])
    assert not torch.equal(r[0, 0], r[0, 1])
    with pytest.raises(RuntimeError, match="randomness error mode"):
        run("error", "same")


def test_chunks_draw_the_same_if_told():
    x = torch.ones(4, 3)
    torch.manual_seed(0)
    r = vmap(lambda x: torch.randn(3), randomness="same", chunk_size=2)(x)
    assert all(torch.equal(r[0], e) for e in r)


# ------------------------------------------------------------------------------------- modules


class Linear:
    training = True

    def __init__(self, n, m, requires_grad=True):
        self.weight = torch.randn(m, n, requires_grad=requires_grad)
        self.bias = torch.randn(m, requires_grad=requires_grad)
        self.scale = torch.tensor(2.0)

    def named_parameters(self):
        yield "weight", self.weight
        yield "bias", self.bias

    def named_buffers(self):
        yield "scale", self.scale

    def __call__(self, x):
        return torch.nn.functional.linear(x, self.weight, self.bias) * self.scale


class Network:
    training = True

    def __init__(self):
        self.first, self.tied = Linear(3, 3), Linear(3, 3)
        self.tied.weight = self.first.weight

    def named_parameters(self, remove_duplicate=True):
        seen = set()
        for part in ("first", "tied"):
            for name, t in getattr(self, part).named_parameters():
                if not (remove_duplicate and id(t) in seen):
                    yield f"{part}.{name}", t
                seen.add(id(t))

    def named_buffers(self, remove_duplicate=True):
        yield "first.scale", self.first.scale
        yield "tied.scale", self.tied.scale

    def __call__(self, x, twice=False):
        y = self.tied(self.first(x).tanh())
        return self(y) if twice else y


def test_functional_call():
    m, x = Linear(3, 2), torch.randn(3)
    own = m.weight
    new = {"weight": torch.zeros(2, 3), "bias": torch.ones(2)}
    close(torch.func.functional_call(m, new, x), torch.full((2,), 2.0))
    close(torch.func.functional_call(m, (new, {"scale": torch.tensor(3.0)}), (x,)),
          torch.full((2,), 3.0))  # fmt: skip
    assert m.weight is own
    with pytest.raises(RuntimeError):
        torch.func.functional_call(m, {"weight": torch.zeros(5, 5)}, x)
    assert m.weight is own


def test_functional_call_gives_gradients():
    m, x = Linear(3, 2), torch.randn(4, 3)
    params = {n: p.detach() for n, p in m.named_parameters()}
    g = torch.func.grad(lambda p: torch.func.functional_call(m, p, x).sum())(params)
    m(x).sum().backward()
    close(g["weight"], m.weight.grad)
    close(g["bias"], m.bias.grad)


def test_functional_call_ties():
    m, x = Network(), torch.randn(3)
    zeros = {"first.weight": torch.zeros(3, 3)}
    tied = torch.func.functional_call(m, zeros, x)
    apart = torch.func.functional_call(m, zeros, x, tie_weights=False)
    close(tied.detach(), (m.tied.bias * 2).detach())
    assert not torch.equal(tied, apart)
    with pytest.raises(ValueError, match=r"got multiple values for keys .* which are tied"):
        torch.func.functional_call(m, zeros | {"tied.weight": torch.ones(3, 3)}, x)
    assert m.first.weight is m.tied.weight


def test_functional_call_is_strict_if_told():
    m, x = Linear(3, 2), torch.randn(3)
    with pytest.raises(RuntimeError, match=r"Missing key\(s\): 'bias', 'scale'"):
        torch.func.functional_call(m, {"weight": m.weight}, x, strict=True)
    with pytest.raises(RuntimeError, match=r"Unexpected key\(s\): 'other'"):
        torch.func.functional_call(m, {"other": m.weight}, x, strict=True)
    with pytest.raises(ValueError, match="appeared in multiple dictionaries"):
        torch.func.functional_call(m, ({"bias": m.bias}, {"bias": m.bias}), x)
    with pytest.raises(ValueError, match="to be a dict, or a list/tuple of dicts"):
        torch.func.functional_call(m, 5, x)
    with pytest.raises(ValueError, match="all elements of parameter_and_buffer_dicts"):
        torch.func.functional_call(m, (5,), x)
    with pytest.raises(TypeError, match=r"is not an instance of torch.Tensor"):
        torch.func.functional_call(m, {"weight": 5}, x)


def test_functional_call_takes_keywords_and_shows_new_buffers():
    m, x = Network(), torch.randn(3)
    params = dict(m.named_parameters())
    close(
        torch.func.functional_call(m, params, x, {"twice": True}).detach(),
        m(x, twice=True).detach(),
    )

    class Counter:
        def __init__(self):
            self.n = torch.tensor(0.0)

        def named_buffers(self):
            yield "n", self.n

        def __call__(self):
            self.n = self.n + 1
            return self.n

    counter, state = Counter(), {"n": torch.tensor(5.0)}
    torch.func.functional_call(counter, state)
    assert state["n"].item() == 6.0
    assert counter.n.item() == 0.0


def test_stack_module_state():
    models = [Linear(3, 2) for _ in range(4)]
    params, buffers = torch.func.stack_module_state(models)
    assert params["weight"].shape == (4, 2, 3)
    assert params["weight"].requires_grad
    assert params["weight"].is_leaf
    close(buffers["scale"], torch.full((4,), 2.0))
    x = torch.randn(5, 3)
    call = lambda p, b, x: torch.func.functional_call(models[0], (p, b), x)  # noqa: E731
    out = vmap(call, (0, 0, None))(params, buffers, x)
    close(out.detach(), torch.stack([m(x) for m in models]).detach())
    out.sum().backward()
    assert params["weight"].grad.shape == (4, 2, 3)


def test_stack_module_state_refuses_differences():
    stack = torch.func.stack_module_state
    with pytest.raises(RuntimeError, match="at least one model, got 0"):
        stack([])
    with pytest.raises(RuntimeError, match="of the same class"):
        stack([Linear(3, 3), Network()])
    other = Linear(3, 3)
    other.training = False
    with pytest.raises(RuntimeError, match="same training/eval mode"):
        stack([Linear(3, 3), other])
    with pytest.raises(RuntimeError, match=r"to have the same .requires_grad"):
        stack([Linear(3, 3), Linear(3, 3, requires_grad=False)])
