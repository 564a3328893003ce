"""Conversions and memory formats: strides, what is copied and what is not, errors."""

import pickle

import pytest
import wengert as torch

CONVERSIONS = {
    "float": torch.float32,
    "double": torch.float64,
    "half": torch.float16,
    "bfloat16": torch.bfloat16,
    "long": torch.int64,
    "int": torch.int32,
    "short": torch.int16,
    "char": torch.int8,
    "byte": torch.uint8,
    "bool": torch.bool,
}
FORMATS = {
    torch.channels_last: ((2, 3, 4, 5), (60, 1, 15, 3)),
    torch.channels_last_3d: ((2, 3, 4, 5, 6), (360, 1, 90, 18, 3)),
}


def image(shape):
    return torch.arange(torch.ones(shape).numel(), dtype=torch.float32).reshape(shape)


@pytest.mark.parametrize("name", CONVERSIONS)
def test_conversions_copy_only_what_changes(name):
    x = torch.ones(2, 3)
    y = getattr(x, name)()
    assert y.dtype is CONVERSIONS[name]
    assert (y is x) == (name == "float")
    assert getattr(y, name)() is y
    assert x.to(y) is y or y.dtype is not torch.float32
    assert x.to(CONVERSIONS[name], copy=True) is not x


@pytest.mark.parametrize("layout", FORMATS)
def test_every_maker_follows_the_format(layout):
    shape, strides = FORMATS[layout]
    x = image(shape)
    made = [
        x.clone(memory_format=layout),
        x.contiguous(memory_format=layout),
        x.to(memory_format=layout),
        x.to(torch.float64, memory_format=layout),
        x.to(x.double(), memory_format=layout),
        x.to("cpu", torch.float64, memory_format=layout),
        *(getattr(x, name)(memory_format=layout) for name in CONVERSIONS if name != "char"),
        torch.empty(shape, memory_format=layout),
        torch.zeros_like(x, memory_format=layout),
        torch.rand_like(x, memory_format=layout),
    ]
    assert [y.stride() for y in made] == [strides] * len(made)
    assert all(y.is_contiguous(memory_format=layout) and not y.is_contiguous() for y in made)
    assert not x.is_contiguous(memory_format=layout)
    assert torch.equal(made[0], x)
    # What has the format is not copied, and results follow their operands.
    y = made[0]
    assert y.contiguous(memory_format=layout) is y
    assert y.float(memory_format=layout) is y
    assert y.float() is y
    assert y.clone().stride() == (y + 1).stride() == y.double().stride() == strides
    assert y.contiguous().stride() == x.stride()
    assert y.float(memory_format=torch.contiguous_format).stride() == x.stride()


@pytest.mark.parametrize(
    ("layout", "rank"), [(torch.channels_last, 4), (torch.channels_last_3d, 5)]
)
def test_formats_are_for_one_number_of_axes(layout, rank):
    x = torch.ones(2, 3)
    for make in (
        lambda: x.clone(memory_format=layout),
        lambda: x.contiguous(memory_format=layout),
        lambda: x.to(torch.float64, memory_format=layout),
        lambda: torch.empty(2, 3, memory_format=layout),
        lambda: torch.empty_like(x, memory_format=layout),
    ):
        with pytest.raises(RuntimeError, match=f"required rank {rank} tensor to use channels_last"):
            make()
    assert x.is_contiguous(memory_format=layout) is False


def test_preserving_nothing_is_refused():
    with pytest.raises(RuntimeError, match="unsupported memory format Preserve"):
        torch.empty(2, memory_format=torch.preserve_format)
    with pytest.raises(RuntimeError, match="preserve memory format is unsupported"):
        torch.ones(2, 3).t().contiguous(memory_format=torch.preserve_format)
    with pytest.raises(TypeError, match="memory_format"):
        torch.ones(2).float(memory_format="channels_last")


def test_gradients_flow_through_formats():
    x = image((1, 2, 3, 4)).requires_grad_()
    y = x.clone(memory_format=torch.channels_last)
    assert y.grad_fn.name() == "CloneBackward0"
    (y * y).sum().backward()
    assert torch.equal(x.grad, 2 * x.detach())


def test_a_clone_keeps_the_order_of_axes_and_drops_gaps():
    x = torch.ones(4, 4, 4)
    assert x[:, ::2].permute(2, 0, 1).clone().stride() == (1, 8, 4)
    assert torch.ones(4, 1).expand(4, 3).clone().stride() == (3, 1)
    assert torch.ones(2, 3).t().double().stride() == (1, 3)


def test_formats_are_pickled_by_name():
    assert pickle.loads(pickle.dumps(torch.channels_last)) is torch.channels_last
    assert repr(torch.channels_last_3d) == "torch.channels_last_3d"


def test_to_reads_its_arguments_in_any_order_that_pytorch_has():
    x = torch.ones(2)
    assert x.to("cpu") is x
    assert x.to(torch.float64, True, True).dtype is torch.float64
    assert x.to(device="cpu", dtype=torch.int64).dtype is torch.int64
    assert x.to(other=torch.ones(1, dtype=torch.float64)).dtype is torch.float64
    with pytest.raises(RuntimeError, match="cuda"):
        x.to("cuda")
    with pytest.raises(TypeError):
        x.to(torch.float64, nonsense=1)


@pytest.mark.parametrize(
    ("value", "dtype"),
    [(300, "uint8"), ([300], "int8"), ([2**40], "int32"), ([float("nan")], "int64")],
)
def test_numbers_that_do_not_fit_are_refused(value, dtype):
    with pytest.raises(RuntimeError, match="without overflow"):
        torch.tensor(value, dtype=getattr(torch, dtype))


def test_assigned_numbers_must_fit():
    x = torch.zeros(2, dtype=torch.int8)
    with pytest.raises(RuntimeError, match="without overflow"):
        x[0] = 300
    assert x.tolist() == [0, 0]


def test_negative_numbers_wrap_to_unsigned_ones():
    assert torch.tensor([-1], dtype=torch.uint8).item() == 255
