"""`functional_call` and `stack_module_state`."""

import pytest
import wengert as torch
from func_support import close
from wengert.func import vmap


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
