"""The forms in which `grad` and `backward` take their arguments."""

import pytest
import wengert as torch
from support import leaf


def two():
    return leaf(1.0, 2.0), leaf(3.0, 4.0)


def test_inputs_with_names_give_gradients_with_names():
    x, w = two()
    found = torch.autograd.grad((x * w).sum(), {"x": x, "w": w})
    assert type(found) is dict
    assert {name: g.tolist() for name, g in found.items()} == {"x": [3.0, 4.0], "w": [1.0, 2.0]}
    found = torch.autograd.grad(x.sum(), {"x": x, "w": w}, allow_unused=True)
    assert found["w"] is None
    with pytest.raises(RuntimeError, match="cannot be empty"):
        torch.autograd.grad(x.sum(), {})


@pytest.mark.parametrize("backward", [torch.Tensor.backward, torch.autograd.backward])
def test_backward_takes_inputs_with_names(backward):
    x, w = two()
    backward((x * w).sum(), inputs={"x": x})
    assert x.grad.tolist() == [3.0, 4.0]
    assert w.grad is None


def test_arguments_by_position():
    """The sixth is `only_inputs`, which nothing depends on."""
    x, w = two()
    found = torch.autograd.grad(x.sum(), [x, w], None, None, False, True, True)
    assert found[1] is None
    with pytest.warns(FutureWarning, match="only_inputs argument is deprecated"):
        torch.autograd.grad(x.sum(), x, only_inputs=False)


def test_gradients_by_their_old_name():
    x, _ = two()
    with pytest.warns(FutureWarning, match="`grad_variables` is deprecated"):
        torch.autograd.backward(x * 2, grad_variables=torch.ones(2))
    assert x.grad.tolist() == [2.0, 2.0]


def test_requires_grad_is_true_or_false():
    x = torch.ones(2)
    with pytest.raises(RuntimeError, match="requires_grad must be a bool"):
        x.requires_grad = "yes"
    assert not x.requires_grad


def test_zeros_in_place_of_gradients_can_be_differentiated_again_if_asked_for():
    x, w = two()
    for create_graph in (False, True):
        zeros = torch.autograd.grad(
            x.sum(), w, materialize_grads=True, create_graph=create_graph, allow_unused=True
        )[0]
        assert zeros.tolist() == [0.0, 0.0]
        assert zeros.requires_grad is create_graph
