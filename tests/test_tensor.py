"""The `Tensor` class: attributes, conversions and the protocols of Python."""

import math
import operator
import warnings

import pytest
import wengert as torch
from support import assert_same, dtype_name

t234 = torch.arange(24.0).view(2, 3, 4)


# -------------------------------------------------------------------------------- attributes


def test_shape():
    assert t234.shape == (2, 3, 4) == t234.size()
    assert isinstance(t234.shape, tuple)
    assert isinstance(t234.shape, torch.Size)
    assert t234.shape.numel() == 24
    assert t234.shape[1:] == (3, 4)
    assert t234.size(1) == t234.size(-2) == 3
    assert t234.ndim == t234.dim() == 3
    assert t234.numel() == 24
    assert torch.tensor(1).shape == ()
    with pytest.raises(IndexError, match="3"):
        t234.size(3)


def test_layout():
    assert t234.stride() == (12, 4, 1)
    assert t234.stride(0) == 12
    assert t234.is_contiguous()
    p = t234.permute(2, 0, 1)
    assert p.stride() == (1, 12, 4)
    assert not p.is_contiguous()
    assert p.contiguous().is_contiguous()
    assert t234.contiguous() is t234
    assert t234[1].storage_offset() == 12
    assert t234[1].data_ptr() == t234.data_ptr() + 48
    assert t234.element_size() == 4


def test_transposes():
    assert t234[0].T.shape == (4, 3)
    assert t234.mT.shape == (2, 4, 3)
    assert_same(t234.mT, t234.transpose(-1, -2))
    with pytest.raises(RuntimeError):
        _ = torch.ones(3).mT


def test_device():
    assert t234.device == torch.device("cpu")
    assert t234.device.type == "cpu"
    assert t234.cpu() is t234
    assert t234.to("cpu") is t234
    assert torch.ones(2, device="cpu").device == t234.device
    assert not t234.is_cuda
    for call in (
        lambda: t234.to("cuda"),
        lambda: torch.ones(2, device="cuda"),
        lambda: t234.to("nonsense"),
    ):
        with pytest.raises((RuntimeError, AssertionError)):
            call()


def test_dtype():
    assert t234.dtype is torch.float32
    assert t234.dtype.is_floating_point
    assert t234.is_floating_point()
    assert not torch.int64.is_floating_point
    assert torch.float is torch.float32
    assert torch.double is torch.float64
    assert torch.half is torch.float16
    assert torch.long is torch.int64
    assert torch.int is torch.int32
    assert torch.float64.itemsize == 8
    assert len({torch.float32, torch.float64, torch.float}) == 2


# ------------------------------------------------------------------------------- conversions

METHODS = {
    "float": "float32", "double": "float64", "half": "float16", "bfloat16": "bfloat16",
        "long": "int64", "int": "int32",
    "short": "int16", "char": "int8", "byte": "uint8", "bool": "bool",
}  # fmt: skip


@pytest.mark.parametrize(("method", "name"), METHODS.items())
def test_conversion_methods(method, name):
    x = torch.tensor([0.0, 1.0, 2.0])
    assert dtype_name(getattr(x, method)()) == name
    assert_same(getattr(x, method)(), x.to(getattr(torch, name)))
    assert (getattr(x, method)() is x) == (name == "float32")


def test_to():
    x = torch.ones(3)
    assert x.to(torch.float32) is x
    assert x.to(torch.float32, copy=True) is not x
    assert x.to(dtype=torch.int64).dtype == torch.int64
    assert x.to(torch.zeros(1, dtype=torch.float64)).dtype == torch.float64
    assert x.to("cpu", torch.float16).dtype == torch.float16
    assert x.type_as(torch.tensor(1)).dtype == torch.int64
    assert torch.tensor([2.7, -2.7]).long().tolist() == [2, -2]
    assert torch.tensor([0.0, 0.5, float("nan")]).bool().tolist() == [False, True, True]


def test_conversion_is_differentiable():
    x = torch.ones(3, requires_grad=True)
    (x.double() * 2).sum().backward()
    assert x.grad.dtype == torch.float32
    assert x.grad.tolist() == [2.0] * 3
    assert not x.long().requires_grad


def test_item_and_tolist():
    assert torch.tensor(2.5).item() == 2.5
    assert torch.tensor([[3]]).item() == 3
    assert type(torch.tensor(3).item()) is int
    assert type(torch.tensor(True).item()) is bool
    assert type(torch.tensor(1.0).item()) is float
    assert torch.tensor([[1, 2], [3, 4]]).tolist() == [[1, 2], [3, 4]]
    assert torch.tensor(1.5).tolist() == 1.5
    assert torch.zeros(2, 0).tolist() == [[], []]
    assert torch.tensor([1.0, 2.0], requires_grad=True).tolist() == [1.0, 2.0]
    with pytest.raises(RuntimeError, match="2"):
        torch.ones(2).item()


def test_tensor_of_python_values():
    assert torch.tensor([[1, 2], [3, 4.5]]).dtype == torch.float32
    assert torch.tensor([True, 2]).dtype == torch.int64
    assert torch.tensor([]).shape == (0,)
    assert torch.tensor([[], []]).shape == (2, 0)
    assert torch.tensor(range(3)).tolist() == [0, 1, 2]
    assert torch.tensor((1.0, 2.0), dtype=torch.float64).dtype == torch.float64
    assert torch.tensor([torch.tensor(1), torch.tensor(2)]).tolist() == [1, 2]
    assert torch.tensor([1.5, 2.5], dtype=torch.int32).tolist() == [1, 2]
    assert torch.tensor(1.0, requires_grad=True).requires_grad
    for bad in ([[1, 2], [3]], ["a"], [None], [[1], 2]):
        with pytest.raises((ValueError, TypeError, RuntimeError)):
            torch.tensor(bad)


@pytest.mark.filterwarnings("ignore:To copy construct:UserWarning")
def test_tensor_of_a_tensor_is_a_copy():
    x = torch.ones(2)
    y = torch.tensor(x)
    y[0] = 5
    assert x.tolist() == [1.0, 1.0]


# -------------------------------------------------------------------------------- protocols

OPERATORS = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv,
        "//": operator.floordiv, "%": operator.mod,
    "**": operator.pow, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
        "==": operator.eq, "!=": operator.ne,
}  # fmt: skip


@pytest.mark.parametrize("name", OPERATORS)
def test_operators(name):
    f, a, b = OPERATORS[name], [1.0, 2.0, 5.0], [2.0, 2.0, 4.0]
    x, y = torch.tensor(a), torch.tensor(b)
    assert f(x, y).tolist() == [f(p, q) for p, q in zip(a, b, strict=True)]
    assert f(x, 2).tolist() == [f(p, 2) for p in a]
    assert f(2, x).tolist() == pytest.approx([f(2, p) for p in a])
    assert f(x, torch.tensor(2.0)).tolist() == [f(p, 2.0) for p in a]
    with pytest.raises(TypeError):
        f(x, [None]) if name not in ("==", "!=") else operator.lt(x, [None])


@pytest.mark.parametrize("name", ["iadd", "isub", "imul", "itruediv", "ipow", "ifloordiv", "imod"])
def test_in_place_operators(name):
    x = torch.tensor([1.0, 2.0, 5.0])
    y = getattr(operator, name)(x, 2)
    assert y is x
    assert x.tolist() == [getattr(operator, name)(p, 2) for p in (1.0, 2.0, 5.0)]


def test_other_operators():
    x = torch.tensor([-1.5, 2.0])
    assert (-x).tolist() == [1.5, -2.0]
    assert (+x).tolist() == x.tolist()
    assert abs(x).tolist() == [1.5, 2.0]
    assert (x @ x).item() == 6.25
    assert (torch.ones(2, 3) @ torch.ones(3)).tolist() == [3.0, 3.0]


def test_comparison_with_anything_else():
    x = torch.ones(2)
    assert (x == None) is False  # noqa: E711
    assert (x != "text") is True


def test_length_and_iteration():
    assert len(t234) == 2
    assert [row.shape for row in t234] == [(3, 4), (3, 4)]
    a, b = torch.tensor([1.0, 2.0])
    assert (a.item(), b.item()) == (1.0, 2.0)
    assert [v.item() for v in reversed(torch.tensor([1, 2]))] == [2, 1]
    for broken in (len, iter):
        with pytest.raises(TypeError, match="0-d"):
            broken(torch.tensor(1))


def test_iteration_is_recorded():
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    a, b = x
    (a * 3 + b * 5).backward()
    assert x.grad.tolist() == [3.0, 5.0]


def test_contains():
    assert 2 in torch.tensor([1, 2])
    assert torch.tensor(7) not in torch.tensor([1, 2])


def test_truth():
    assert torch.tensor(1)
    assert not torch.tensor([0.0])
    for ambiguous in (torch.ones(2), torch.ones(0)):
        with pytest.raises(RuntimeError, match=r"(?i)boolean|bool|ambiguous"):
            bool(ambiguous)


def test_numbers():
    assert float(torch.tensor(2.5)) == 2.5
    assert int(torch.tensor([2.9])) == 2
    assert complex(torch.tensor(2.0)) == 2 + 0j
    assert operator.index(torch.tensor(3)) == 3
    assert [10, 20, 30][torch.tensor(1)] == 20
    assert list(range(torch.tensor(2))) == [0, 1]
    assert math.sqrt(torch.tensor(4.0)) == 2.0
    for bad in (
        lambda: operator.index(torch.tensor(1.5)),
        lambda: operator.index(torch.ones(2, dtype=torch.int64)),
        lambda: float(torch.ones(2)),
    ):
        with pytest.raises((TypeError, RuntimeError, ValueError)):
            bad()


def test_e4_numbers_of_what_requires_grad_warn():
    x = torch.tensor(2.0, requires_grad=True)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert float(x * 2) == 4.0
        assert math.sin(x * 0) == 0.0
    assert caught
    assert all(
        issubclass(w.category, UserWarning) and "requires_grad" in str(w.message) for w in caught
    )


def test_hash_is_identity():
    a, b = torch.ones(2), torch.ones(2)
    assert hash(a) == hash(a)
    assert {a: 1, b: 2}[b] == 2
    assert len({a, b, a}) == 2


def test_class():
    assert isinstance(t234, torch.Tensor)
    assert torch.is_tensor(t234)
    assert not torch.is_tensor(1)
    assert type(t234).__name__ == "Tensor"
    t234.note = "tensors take attributes"
    assert t234.note == "tensors take attributes"


def test_weak_references():
    import weakref

    x = torch.ones(2)
    ref = weakref.ref(x)
    assert ref() is x
    del x
    assert ref() is None


# ---------------------------------------------------------------------------- writing methods


def test_fill_zero_copy():
    x = torch.ones(3)
    assert x.fill_(2) is x
    assert x.zero_() is x
    assert x.copy_(torch.tensor([1, 2, 3])) is x
    assert x.tolist() == [1.0, 2.0, 3.0]
    assert x.copy_(torch.tensor(7.0)).tolist() == [7.0] * 3
    assert torch.zeros(2, dtype=torch.int64).copy_(torch.tensor([1.9, -1.9])).tolist() == [1, -1]


def test_copy_between_overlapping_views():
    x = torch.arange(6)
    x.view(2, 3).copy_(x.clone().view(3, 2).t())
    assert x.tolist() == [0, 2, 4, 1, 3, 5]


def test_constructors_of_the_same_kind():
    x = torch.ones(2, dtype=torch.float64)
    assert x.new_zeros(3).dtype == torch.float64
    assert torch.zeros_like(x, dtype=torch.int32).dtype == torch.int32
    assert torch.ones_like(x, requires_grad=True).requires_grad
    assert (
        torch.empty(2, 3).shape
        == torch.empty((2, 3)).shape
        == torch.empty(torch.Size([2, 3])).shape
    )


def test_memory_statistics():
    before = torch._core.memory_stats()["allocated_bytes"]
    x = torch.empty(1_000_000)
    assert torch._core.memory_stats()["allocated_bytes"] - before >= 4_000_000
    y = x.view(1000, 1000)
    del x
    assert torch._core.memory_stats()["allocated_bytes"] - before >= 4_000_000
    del y
    assert torch._core.memory_stats()["allocated_bytes"] == before
