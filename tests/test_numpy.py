"""NumPy both ways: memory shared where it can be, copied where it must be, read-only where it is.

The numbers E1 to E13 are rows of the project's table of bad inputs.
"""

import numpy as np
import pytest
import wengert as torch
from support import dtype_name

TYPES = ["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64"]
each_type = pytest.mark.parametrize("name", TYPES)


# ------------------------------------------------------------------------------- from NumPy


@each_type
def test_from_numpy_shares_memory(name):
    a = np.array([[0, 1, 2], [3, 4, 5]]).astype(name)
    t = torch.from_numpy(a)
    assert dtype_name(t) == name
    assert t.tolist() == a.tolist()
    a[0, 0] = 1
    assert t[0, 0].item() == 1
    t[1, 2] = 0
    assert a[1, 2] == 0


def test_from_numpy_keeps_strides():
    a = np.arange(24.0).reshape(2, 3, 4)
    for view in (
        a.T,
        a[:, ::2],
        a[1:, :, 1],
        a.swapaxes(0, 2),
        np.broadcast_to(a[:1], (5, 3, 4)).copy(),
    ):
        t = torch.from_numpy(view)
        assert tuple(t.shape) == view.shape
        assert t.tolist() == view.tolist()
        assert [s * 8 for s in t.stride()] == list(view.strides)


@pytest.mark.parametrize(
    "a", [np.array(2.5), np.zeros(0), np.zeros((2, 0, 3)), np.zeros((1, 1))], ids=str
)
def test_from_numpy_of_small_arrays(a):
    assert torch.from_numpy(a).tolist() == a.tolist()
    assert tuple(torch.from_numpy(a).shape) == a.shape


def test_the_array_lives_as_long_as_the_tensor():
    t = torch.from_numpy(np.arange(1e6))
    assert float(t.sum()) == 499999500000.0


def test_as_tensor_shares_and_tensor_copies():
    a = np.zeros(3)
    shared, copied = torch.as_tensor(a), torch.tensor(a)
    a[0] = 1
    assert shared.tolist() == [1.0, 0.0, 0.0]
    assert copied.tolist() == [0.0, 0.0, 0.0]
    assert torch.as_tensor(shared) is shared
    assert torch.as_tensor(a, dtype=torch.float32).dtype == torch.float32
    assert torch.as_tensor([1, 2.5]).tolist() == [1.0, 2.5]


@pytest.mark.filterwarnings("ignore:Creating a tensor from a list:UserWarning")
def test_tensor_of_numpy_values():
    assert torch.tensor(np.float32(1.5)).dtype == torch.float32
    assert torch.tensor(np.int16(3)).dtype == torch.int16
    assert torch.tensor(np.bool_(True)).item() is True
    assert torch.tensor([np.float64(1), np.float64(2)]).tolist() == [1.0, 2.0]
    assert torch.tensor([np.ones(2), np.zeros(2)]).tolist() == [[1.0, 1.0], [0.0, 0.0]]
    assert torch.full((2,), np.float32(2)).tolist() == [2.0, 2.0]
    assert torch.ones(np.int64(2), np.int32(3)).shape == (2, 3)


@pytest.mark.parametrize("dtype", ["U3", "O", "datetime64[s]", "V4"])
def test_types_that_have_no_tensor(dtype):
    a = np.zeros(2, dtype)
    for make in (torch.from_numpy, torch.tensor, torch.as_tensor):
        with pytest.raises(TypeError):
            make(a)


@pytest.mark.parametrize("value", [[1, 2], 1.0, None, "a"])
def test_from_numpy_wants_an_array(value):
    with pytest.raises(TypeError):
        torch.from_numpy(value)


def test_e12_negative_strides():
    a = np.arange(6.0).reshape(2, 3)
    for view in (a[::-1], a[:, ::-1], a[::-1, ::-2]):
        assert torch.from_numpy(view).tolist() == view.tolist()
        assert torch.tensor(view).tolist() == view.tolist()
        assert torch.as_tensor(view).tolist() == view.tolist()


def test_e13_foreign_byte_order():
    a = np.arange(4, dtype=">f8")
    assert torch.from_numpy(a).tolist() == a.tolist()
    assert torch.tensor(a).dtype == torch.float64
    assert torch.tensor(np.arange(3, dtype=">i4")).tolist() == [0, 1, 2]


def test_unaligned_arrays():
    a = np.frombuffer(bytearray(b"x" + np.arange(4.0).tobytes()), dtype="u1")[1:].view("f8")
    assert not a.flags.aligned
    assert torch.tensor(a).tolist() == [0.0, 1.0, 2.0, 3.0]
    assert torch.from_numpy(a).tolist() == [0.0, 1.0, 2.0, 3.0]
    packed = np.zeros(3, dtype=[("a", "u1"), ("b", "f4")])
    packed["b"] = [1, 2, 3]
    assert torch.from_numpy(packed["b"]).tolist() == [1.0, 2.0, 3.0]


def test_e5_read_only_arrays_stay_read_only():
    a = np.zeros(3)
    a.setflags(write=False)
    t = torch.from_numpy(a)
    for write in (
        lambda: t.add_(1),
        lambda: t.__setitem__(0, 1),
        lambda: t[1:].fill_(2),
        lambda: torch.add(t, 1, out=t),
        lambda: t.detach().zero_(),
    ):
        with pytest.raises(RuntimeError, match="read-only"):
            write()
    assert a.tolist() == [0.0] * 3
    assert not t.numpy().flags.writeable
    assert (t + 1).add_(1).tolist() == [2.0] * 3
    t.clone().add_(1)


# --------------------------------------------------------------------------------- to NumPy


@each_type
def test_numpy_shares_memory(name):
    t = torch.ones(2, 3, dtype=getattr(torch, name))
    a = t.numpy()
    assert a.dtype == name
    assert a.shape == (2, 3)
    a[0, 0] = 0
    assert t[0, 0].item() == 0
    assert t.t().numpy().strides == a.T.strides
    assert t[:, ::2].numpy().tolist() == a[:, ::2].tolist()
    assert t[0, 0].numpy().shape == ()


def test_the_tensor_lives_as_long_as_the_array():
    a = torch.arange(1_000_000).numpy()
    assert int(a.sum()) == 499999500000


def test_numpy_of_an_array_round_trips():
    a = np.arange(6.0).reshape(2, 3)
    back = torch.from_numpy(a).numpy()
    assert np.shares_memory(a, back)
    assert back.tolist() == a.tolist()


def test_numpy_of_what_requires_grad():
    x = torch.ones(3, requires_grad=True)
    for t in (x, x * 2):
        with pytest.raises(RuntimeError, match="detach"):
            t.numpy()
        with pytest.raises(RuntimeError, match="detach"):
            np.asarray(t)
        assert t.detach().numpy().shape == (3,)
        assert t.numpy(force=True).shape == (3,)


def test_numpy_of_bfloat16():
    with pytest.raises(TypeError, match=r"(?i)bfloat16"):
        torch.ones(2, dtype=torch.bfloat16).numpy()


def test_array_protocol():
    t = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert np.asarray(t).tolist() == t.tolist()
    assert np.shares_memory(np.asarray(t), t.numpy())
    assert np.array(t).dtype == np.float32
    assert not np.shares_memory(np.array(t), t.numpy())
    assert np.asarray(t, dtype="float64").dtype == np.float64
    assert np.array([t[0], t[1]]).tolist() == t.tolist()
    assert np.sum(t.numpy()) == 10


def test_array_protocol_of_numpy_2():
    t = torch.tensor([1.0, 2.0])
    assert np.shares_memory(np.asarray(t, copy=False), t.numpy())
    assert not np.shares_memory(np.asarray(t, copy=True), t.numpy())
    assert t.__array__(dtype="float64").dtype == np.float64
    with pytest.raises(ValueError, match=r"(?i)copy"):
        np.asarray(t, dtype="float64", copy=False)


# ------------------------------------------------------------------------------ arithmetic


@pytest.mark.parametrize("op", ["+", "-", "*", "/", "**", "@", "<", "=="])
def test_e1_an_array_on_the_left(op):
    """In PyTorch a TypeError; here the operation of tensors, recorded."""
    a, b = np.array([1.0, 2.0, 4.0]), np.array([2.0, 3.0, 4.0])
    x = torch.tensor(b, requires_grad=True)
    result = eval(f"a {op} x", {"a": a, "x": x})
    assert isinstance(result, torch.Tensor)
    np.testing.assert_allclose(
        result.detach().numpy(), eval(f"a {op} b", {"a": a, "b": b}), rtol=1e-14
    )
    if op not in "<==":
        result.sum().backward()
        assert x.grad is not None


def test_e1_the_gradient_is_right():
    x = torch.tensor([2.0, 3.0], dtype=torch.float64, requires_grad=True)
    (np.array([5.0, 7.0]) * x).sum().backward()
    assert x.grad.tolist() == [5.0, 7.0]


def test_an_array_on_the_right():
    x = torch.tensor([2.0, 3.0], dtype=torch.float64, requires_grad=True)
    y = x * np.array([5.0, 7.0])
    assert isinstance(y, torch.Tensor)
    y.sum().backward()
    assert x.grad.tolist() == [5.0, 7.0]


def test_e2_numpy_numbers():
    x = torch.ones(3, requires_grad=True)
    for y in (
        np.float64(2) * x,
        x * np.float64(2),
        np.float32(2) * x,
        x * np.int64(2),
        np.int32(2) * x,
    ):
        assert isinstance(y, torch.Tensor)
        assert y.requires_grad
        assert y.tolist() == [2.0] * 3
        assert y.dtype == torch.float32


def test_e3_assignment_of_arrays():
    t = torch.zeros(3)
    t[1] = np.array(2.0)
    t[2] = np.float32(3)
    assert t.tolist() == [0.0, 2.0, 3.0]
    t[:2] = np.array([7, 8])
    assert t.tolist() == [7.0, 8.0, 3.0]


def test_numpy_is_imported_only_when_needed(isolated):
    code = '''
import subprocess, sys
body = """
import sys, wengert as t
(t.ones(3) * 2).sum().item()
repr(t.ones(2))
assert "numpy" not in sys.modules
t.ones(2).numpy()
assert "numpy" in sys.modules
"""
result = subprocess.run([sys.executable, "-c", body], capture_output=True, text=True).stderr
'''
    assert isolated.value(code) == ""


def test_without_recording_a_tensor_that_requires_grad_has_an_array():
    x = torch.ones(2, requires_grad=True)
    with torch.no_grad():
        assert x.numpy().tolist() == [1.0, 1.0]
        assert np.asarray(x).tolist() == [1.0, 1.0]
    with pytest.raises(RuntimeError, match="Can't call numpy"):
        x.numpy()
