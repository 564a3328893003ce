"""Operators, methods and attributes of tensors inside `vmap`."""

import pytest
import wengert as torch
from func_support import close, randn
from wengert.func import hessian, vmap

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


def test_one_mask_picks_as_many_elements_of_each_example():
    x, mask = randn(3, 4), torch.tensor([True, False, True, False])
    close(vmap(torch.masked_select, (0, None))(x, mask), x[:, ::2])
    with pytest.raises(RuntimeError, match="vmap over `mask`"):
        vmap(torch.masked_select)(x, x > 0)


def test_second_derivatives_by_places_in_memory():
    x = randn(4)
    close(
        hessian(lambda x: (x.as_strided((2, 2), (1, 1)) ** 2).sum())(x),
        torch.diag(torch.tensor([2.0, 4.0, 2.0, 0.0]).double()),
    )
