"""The types that tensors had of old: `FloatTensor` and the like, `Tensor.new`, types by name."""

import pytest
import wengert as torch

NAMES = {
    "BFloat16Tensor": torch.bfloat16,
    "BoolTensor": torch.bool,
    "ByteTensor": torch.uint8,
    "CharTensor": torch.int8,
    "DoubleTensor": torch.float64,
    "FloatTensor": torch.float32,
    "HalfTensor": torch.float16,
    "IntTensor": torch.int32,
    "LongTensor": torch.int64,
    "ShortTensor": torch.int16,
}


@pytest.mark.parametrize(("name", "dtype"), NAMES.items(), ids=NAMES)
def test_each_makes_tensors_of_its_elements(name, dtype):
    kind = getattr(torch, name)
    made = kind([0, 1])
    assert made.dtype is dtype
    assert made.tolist() == [0, 1]
    assert kind.dtype is dtype
    assert made.type() == f"torch.{name}"


def test_what_a_constructor_of_old_is_given():
    assert torch.FloatTensor(2, 3).shape == (2, 3)
    assert torch.FloatTensor(torch.Size([2, 3])).shape == (2, 3)
    assert torch.FloatTensor(torch.Size([])).shape == ()
    assert torch.FloatTensor((2, 3)).tolist() == [2.0, 3.0]
    assert torch.FloatTensor().shape == (0,)
    assert torch.LongTensor([1.7, 2.0]).tolist() == [1, 2]


def test_a_tensor_is_taken_over_if_its_elements_fit():
    x = torch.ones(2, requires_grad=True)
    same = torch.FloatTensor(x)
    assert same.data_ptr() == x.data_ptr()
    assert same.requires_grad
    with pytest.raises(TypeError, match="float32"):
        torch.FloatTensor(torch.ones(2, dtype=torch.float64))


@pytest.mark.parametrize("data", [3.5, "a"])
def test_what_it_cannot_be_given(data):
    with pytest.raises(TypeError, match="must be a sequence"):
        torch.FloatTensor(data)


def test_its_instances_are_the_tensors_with_its_elements():
    assert isinstance(torch.ones(2), torch.FloatTensor)
    assert not isinstance(torch.ones(2), torch.LongTensor)
    assert not isinstance(1.0, torch.FloatTensor)


def test_conversion_by_type_and_by_name():
    x = torch.tensor([1.5, 2.0])
    assert x.type(torch.DoubleTensor).dtype is torch.float64
    assert x.type("torch.LongTensor").tolist() == [1, 2]
    assert x.type(torch.FloatTensor) is x
    with pytest.raises(ValueError, match="invalid type: 'foo'"):
        x.type("foo")
    with pytest.raises(TypeError, match="must be a type, str, or dtype"):
        x.type(3)


def test_conversion_by_type_has_a_gradient():
    x = torch.ones(2, requires_grad=True)
    x.type(torch.DoubleTensor).sum().backward()
    assert x.grad.dtype is torch.float32
    assert x.grad.tolist() == [1.0, 1.0]


def test_new_makes_tensors_like_this_one():
    x = torch.ones(2, dtype=torch.int64)
    assert x.new(2, 3).shape == (2, 3)
    assert x.new(2, 3).dtype is torch.int64
    assert x.new([1, 2]).tolist() == [1, 2]
    assert x.new(x.shape).shape == (2,)
    assert x.new().shape == (0,)


def test_the_constructor_of_tensors_takes_a_size():
    assert torch.Tensor(torch.ones(2, 3).size()).shape == (2, 3)


@pytest.mark.parametrize("given", ["torch.DoubleTensor", "type"])
def test_the_default_type_may_be_set_by_them(given):
    torch.set_default_tensor_type(torch.DoubleTensor if given == "type" else given)
    try:
        assert torch.ones(1).dtype is torch.float64
    finally:
        torch.set_default_tensor_type(torch.FloatTensor)
    assert torch.ones(1).dtype is torch.float32


def test_the_default_type_is_no_number():
    with pytest.raises(TypeError, match="invalid type object"):
        torch.set_default_tensor_type(3)
