"""Small functions that are no operations: limits of types, questions, other libraries' arrays."""

import numpy as np
import pytest
import wengert as torch


@pytest.mark.parametrize("name", ["float16", "float32", "float64"])
def test_finfo(name):
    ours, theirs = torch.finfo(getattr(torch, name)), np.finfo(name)
    for field in ("bits", "eps", "max", "min", "tiny", "smallest_normal", "resolution"):
        assert getattr(ours, field) == pytest.approx(float(getattr(theirs, field)), rel=1e-3)
    assert ours.dtype == name


def test_finfo_of_the_default_type():
    assert torch.finfo() == torch.finfo(torch.float32)
    assert torch.finfo(torch.bfloat16).max == 3.3895313892515355e38
    assert repr(torch.finfo(torch.float32)) == (
        "finfo(resolution=1e-06, min=-3.40282e+38, max=3.40282e+38, eps=1.19209e-07, "
        "smallest_normal=1.17549e-38, tiny=1.17549e-38, dtype=float32)"
    )
    with pytest.raises(TypeError, match="requires a floating point input type"):
        torch.finfo(torch.int8)


@pytest.mark.parametrize("name", ["uint8", "int8", "int16", "int32", "int64"])
def test_iinfo(name):
    ours, theirs = torch.iinfo(getattr(torch, name)), np.iinfo(name)
    assert (ours.bits, ours.min, ours.max) == (theirs.bits, theirs.min, theirs.max)
    assert repr(torch.iinfo(torch.int8)) == "iinfo(min=-128, max=127, dtype=int8)"


@pytest.mark.parametrize("name", ["float32", "bool"])
def test_iinfo_wants_integers(name):
    with pytest.raises(TypeError, match="iinfo"):
        torch.iinfo(getattr(torch, name))


def test_questions():
    x = torch.ones(2, 3)
    assert torch.numel(x) == 6
    assert torch.is_floating_point(x)
    assert not torch.is_floating_point(x > 0)
    assert not torch.is_complex(x)
    assert torch.is_nonzero(torch.tensor([2.0]))
    assert not torch.tensor(False).is_nonzero()
    with pytest.raises(RuntimeError, match="with more than one value is ambiguous"):
        torch.is_nonzero(x)
    with pytest.raises(RuntimeError, match="with no values is ambiguous"):
        torch.is_nonzero(torch.ones(0))


def test_new_tensor():
    x = torch.ones(2, dtype=torch.float64)
    assert x.new_tensor([1, 2]).dtype == torch.float64
    assert x.new_tensor([1, 2], dtype=torch.int32).dtype == torch.int32
    assert x.new_tensor([1.0], requires_grad=True).requires_grad
    with pytest.warns(UserWarning, match="To copy construct from a tensor"):
        assert x.new_tensor(x).data_ptr() != x.data_ptr()


def test_dlpack_shares_memory_both_ways():
    a = np.zeros(3)
    torch.from_dlpack(a)[0] = 5.0
    assert a.tolist() == [5.0, 0.0, 0.0]
    x = torch.zeros(2, 3).t()
    np.from_dlpack(x)[2, 1] = 7.0
    assert x[2, 1] == 7.0
    assert torch.from_dlpack(x).data_ptr() == x.data_ptr()
    assert x.__dlpack_device__() == (1, 0)


def test_dlpack_of_what_cannot_be_shared():
    a = np.zeros(3)
    a.flags.writeable = False
    with pytest.raises(RuntimeError, match="read-only"):
        torch.from_dlpack(a)[0] = 1.0
    with pytest.raises(BufferError, match="Can't export tensors that require gradient"):
        np.from_dlpack(torch.ones(2, requires_grad=True))


def test_where_with_a_condition_alone():
    mask = torch.tensor([[True, False], [False, True]])
    rows, columns = torch.where(mask)
    assert rows.tolist() == [0, 1]
    assert columns.tolist() == [0, 1]
    assert torch.where(torch.tensor([0.0, 2.0]))[0].tolist() == [1]


def test_what_tensors_are_not():
    x = torch.ones(2)
    for name in ("cuda", "meta", "mkldnn", "mps", "nested", "quantized", "sparse", "xla", "xpu"):
        assert getattr(x, f"is_{name}") is False
    assert not any((x.is_pinned(), x.is_conj(), x.is_neg()))


def test_real_tensors_are_their_own_conjugates():
    x = torch.ones(2, requires_grad=True)
    assert x.conj() is x.resolve_conj() is x.resolve_neg() is x.real is x


def test_small_questions():
    x = torch.ones(2, 3)
    assert x.ndimension() == 2
    assert x.is_same_size(torch.zeros(2, 3))
    assert not x.is_same_size(torch.zeros(3, 2))
    assert x.is_signed()
    assert not x.to(torch.uint8).is_signed()
    assert not x.bool().is_signed()
