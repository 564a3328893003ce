"""Rules of the graph: what is recorded, what `backward` does, and how misuse is reported.

The numbers D1 to D15 are rows of the project's table of bad inputs.
"""

import copy
import re

import pytest
import wengert as torch
from support import leaf
from wengert import autograd
from wengert.nn.functional import binary_cross_entropy_with_logits as bce_with_logits

# --------------------------------------------------------------------------- accumulation


def test_gradients_accumulate_in_leaves():
    x = leaf()
    (x * x).sum().backward()
    first = x.grad
    (x * 3).sum().backward()
    assert x.grad.tolist() == [5.0, 7.0, 9.0]
    assert x.grad is first


def test_grad_is_the_same_object_each_time():
    x = leaf()
    assert x.grad is None
    (x * 2).sum().backward()
    assert x.grad is x.grad
    assert not x.grad.requires_grad
    x.grad.zero_()
    assert x.grad.tolist() == [0.0] * 3
    x.grad = None
    assert x.grad is None


def test_a_leaf_used_many_times():
    x = leaf(2.0)
    y = x * x * x + x
    y.backward()
    assert x.grad.tolist() == [13.0]


def test_broadcast_gradients_have_the_shape_of_the_input():
    a, b = torch.ones(2, 1, requires_grad=True), torch.ones(3, requires_grad=True)
    (a * b).sum().backward()
    assert a.grad.tolist() == [[3.0], [3.0]]
    assert b.grad.tolist() == [2.0] * 3


def test_gradient_argument():
    x = leaf()
    (x * 2).backward(torch.tensor([1.0, 0.5, 0.0]))
    (x * 2).backward(gradient=torch.ones(3))
    assert x.grad.tolist() == [4.0, 3.0, 2.0]
    with pytest.raises(RuntimeError, match=r"(?i)shape|size"):
        (x * 2).backward(torch.ones(2))


def test_a_leaf_itself_may_be_differentiated():
    x = leaf(1.0)
    x.backward()
    assert x.grad.tolist() == [1.0]


def test_inputs_argument_restricts_what_is_written():
    x, w = leaf(), leaf()
    y = x * w
    y.sum().backward(inputs=[w])
    assert x.grad is None
    assert w.grad.tolist() == [1.0, 2.0, 3.0]
    h = x * 2
    (h * h).sum().backward(inputs=h)
    assert h.grad.tolist() == [4.0, 8.0, 12.0]
    assert x.grad is None
    with pytest.raises(RuntimeError):
        (x * 2).sum().backward(inputs=[])


def test_retain_grad():
    x = leaf()
    y = x * 2
    assert not y.retains_grad
    y.retain_grad()
    assert y.retains_grad
    (y * y).sum().backward()
    assert y.grad.tolist() == [4.0, 8.0, 12.0]
    assert x.grad.tolist() == [8.0, 16.0, 24.0]
    x.retain_grad()  # no effect on a leaf
    with pytest.raises(RuntimeError, match="requires_grad"):
        torch.ones(2).retain_grad()


@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")
def test_grad_of_an_inner_tensor_is_none():
    x = leaf()
    y = x * 2
    y.sum().backward()
    assert y.grad is None


def test_grad_of_an_inner_tensor_warns():
    y = leaf() * 2
    with pytest.warns(UserWarning, match="not a leaf"):
        assert y.grad is None


# ----------------------------------------------------------------- graphs kept and graphs made


def test_retain_graph():
    x = leaf()
    y = (x * x).sum()
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad.tolist() == [4.0, 8.0, 12.0]
    with pytest.raises(RuntimeError, match="second time"):
        y.backward()


def test_d1_backward_twice():
    x = leaf()
    y = x.exp().sum()
    y.backward()
    with pytest.raises(
        RuntimeError, match=r"(?s)backward through the graph a second time.*retain_graph"
    ):
        y.backward()


def test_d2_backward_twice_without_saved_tensors_is_an_error_as_well():
    x = leaf()
    y = (x + 1).sum()
    y.backward()
    with pytest.raises(RuntimeError, match="second time"):
        y.backward()
    assert x.grad.tolist() == [1.0] * 3


def test_a_freed_part_is_reported_through_another_root():
    x = leaf()
    h = x.exp()
    h.sum().backward()
    with pytest.raises(RuntimeError, match="second time"):
        (h * 2).sum().backward()


def test_create_graph_and_higher_orders():
    x = leaf(2.0)
    y = x**4
    orders = []
    for _ in range(4):
        (y,) = autograd.grad(y.sum(), x, create_graph=True)
        orders.append(y.tolist()[0])
    assert orders == [32.0, 48.0, 48.0, 24.0]


@pytest.mark.filterwarnings("ignore:Using backward:UserWarning")
def test_backward_with_create_graph():
    x = leaf(3.0)
    (x**3).sum().backward(create_graph=True)
    assert x.grad.requires_grad
    first, x.grad = x.grad, None
    first.sum().backward()
    assert x.grad.tolist() == [18.0]


def test_grad_function():
    x, w, unused = leaf(), leaf(), leaf()
    y = (x * w).sum()
    gx, gw = torch.autograd.grad(y, [x, w], retain_graph=True)
    assert (gx.tolist(), gw.tolist()) == (w.tolist(), x.tolist())
    assert x.grad is None
    assert w.grad is None
    with pytest.raises(RuntimeError, match=r"(?i)not have been used|unused"):
        autograd.grad(y, unused, retain_graph=True)
    assert autograd.grad(y, [x, unused], retain_graph=True, allow_unused=True)[1] is None
    assert autograd.grad(y, [x, unused], materialize_grads=True)[1].tolist() == [0.0] * 3


def test_grad_of_several_outputs_and_of_inner_tensors():
    x = leaf()
    h = x * 2
    outputs = [h.sum(), (h * h).sum()]
    gh, gx = autograd.grad(outputs, [h, x])
    assert gh.tolist() == [5.0, 9.0, 13.0]
    assert gx.tolist() == [10.0, 18.0, 26.0]
    y = x * 3
    assert autograd.grad(y, x, grad_outputs=torch.tensor([1.0, 0.0, 2.0]))[0].tolist() == [
        3.0,
        0.0,
        6.0,
    ]


def test_backward_function_of_several_roots():
    x = leaf()
    autograd.backward([(x * 2).sum(), x * 3], [None, torch.ones(3)])
    assert x.grad.tolist() == [5.0] * 3


# -------------------------------------------------------------------- leaves and requires_grad


def test_is_leaf():
    x = leaf()
    assert x.is_leaf
    assert torch.ones(3).is_leaf
    assert (torch.ones(3) * 2).is_leaf
    assert not (x * 2).is_leaf
    assert (x * 2).detach().is_leaf
    assert x.detach().is_leaf


def test_requires_grad_rules():
    x = torch.ones(3)
    assert not x.requires_grad
    assert x.requires_grad_() is x
    assert x.requires_grad
    x.requires_grad = False
    assert not x.requires_grad
    y = leaf() * 2
    with pytest.raises(RuntimeError, match="leaf"):
        y.requires_grad = False
    with pytest.raises(RuntimeError, match="leaf"):
        y.requires_grad_(False)
    assert y.requires_grad_() is y  # it does already


def test_d8_integers_cannot_require_gradients():
    with pytest.raises(RuntimeError, match=r"(?i)float"):
        torch.tensor([1, 2]).requires_grad_()
    with pytest.raises(RuntimeError, match=r"(?i)float"):
        torch.tensor([1, 2], requires_grad=True)


def test_detach_shares_memory_and_cuts_history():
    x = leaf()
    y = (x * 2).detach()
    assert not y.requires_grad
    assert y.grad_fn is None
    d = x.detach()
    d[0] = 9.0
    assert x.tolist() == [9.0, 2.0, 3.0]


def test_detach_in_place():
    x = leaf()
    y = x * 2
    assert y.detach_() is y
    assert y.is_leaf
    assert not y.requires_grad
    assert y.grad_fn is None
    view = (x * 2)[1:]
    with pytest.raises(RuntimeError, match="view"):
        view.detach_()


def test_data():
    x = leaf()
    assert not x.data.requires_grad
    x.data[0] = 5.0
    assert x.tolist() == [5.0, 2.0, 3.0]
    x.data = torch.zeros(2)
    assert x.tolist() == [0.0, 0.0]
    assert x.requires_grad


def test_d9_grad_setter_checks():
    x = leaf()
    x.grad = torch.ones(3)
    assert x.grad.tolist() == [1.0] * 3
    with pytest.raises(RuntimeError, match=r"(?i)dtype|type"):
        x.grad = torch.ones(3, dtype=torch.float64)
    with pytest.raises(RuntimeError, match=r"(?i)size|shape"):
        x.grad = torch.ones(2)
    with pytest.raises((TypeError, RuntimeError)):
        x.grad = 1.0
    with pytest.raises(RuntimeError):
        x.grad = x
    assert x.grad.tolist() == [1.0] * 3
    (x * 2).sum().backward()
    assert x.grad.tolist() == [3.0] * 3


# -------------------------------------------------------------------------------- in-place


def test_d3_in_place_on_a_leaf():
    x = leaf()
    for write in (
        lambda: x.add_(1),
        lambda: x.__iadd__(1),
        lambda: x.zero_(),
        lambda: x.__setitem__(0, 1.0),
    ):
        with pytest.raises(RuntimeError, match="leaf"):
            write()
    with pytest.raises(RuntimeError, match="leaf"):
        x[1:].add_(1)
    with torch.no_grad():
        x += 1
    assert x.tolist() == [2.0, 3.0, 4.0]
    assert x.is_leaf


def test_d4_in_place_on_a_saved_tensor():
    x = leaf()
    y = x.exp()
    y.add_(1)
    with pytest.raises(RuntimeError, match=r"modified by an in-?place operation") as caught:
        y.sum().backward()
    assert re.search("version 1.*version 0", str(caught.value), re.DOTALL)
    assert x.grad is None


@pytest.mark.parametrize("write", [
    lambda w: w.mul_(2),
    lambda w: w[0].zero_(),
    lambda w: w.__setitem__(0, 7.0),
    lambda w: w.detach().add_(1),
    lambda w: torch.neg(torch.ones(3), out=w),
    lambda w: w.copy_(torch.ones(3)),
], ids=["itself", "a view", "an element", "its detached twin", "as out", "by copy"])  # fmt: skip
def test_every_way_to_write_is_noticed(write):
    x, w = leaf(), torch.ones(3)
    y = (x * w).sum()
    write(w)
    with pytest.raises(RuntimeError, match=r"modified by an in-?place operation"):
        y.backward()


def test_writing_what_is_not_saved_is_fine():
    x, w = leaf(), torch.ones(3)
    y = (x + w).sum()
    w.zero_()
    y.backward()
    assert x.grad.tolist() == [1.0] * 3


def test_in_place_on_inner_tensors_is_recorded():
    x = leaf()
    y = x * 2
    y.mul_(3).add_(1)
    assert y.grad_fn.name() == "AddBackward0"
    y.sum().backward()
    assert x.grad.tolist() == [6.0] * 3


def test_in_place_on_a_view_reaches_the_base():
    x = leaf()
    y = x * 1
    y[1:].mul_(10)
    y.sum().backward()
    assert x.grad.tolist() == [1.0, 10.0, 10.0]


def test_in_place_on_the_base_reaches_the_view():
    x = leaf()
    y = x * 1
    view = y[1:]
    y.mul_(10)
    view.sum().backward()
    assert x.grad.tolist() == [0.0, 10.0, 10.0]


def test_assignment_is_recorded():
    x, v = leaf(), torch.tensor(5.0, requires_grad=True)
    y = x * 2
    y[0] = v * 3
    y.sum().backward()
    assert x.grad.tolist() == [0.0, 2.0, 2.0]
    assert v.grad.item() == 3.0


def test_a_constant_becomes_recorded_when_something_recorded_is_written_to_it():
    x, y = leaf(), torch.zeros(3)
    y[1:] = x[1:] * 2
    assert y.requires_grad
    assert not y.is_leaf
    y.sum().backward()
    assert x.grad.tolist() == [0.0, 2.0, 2.0]


def test_version_counts_writes_and_is_shared_by_views():
    x = torch.zeros(3)
    view = x[1:]
    assert x._version == 0
    x.add_(1)
    view.mul_(2)
    x[0] = 4
    assert x._version == view._version == x.detach()._version == 3


# ------------------------------------------------------------------------------ what to look at


def test_grad_fn_names():
    x, m = leaf(), torch.ones(2, 3, requires_grad=True)
    names = {
        "AddBackward0": x + 1, "SubBackward0": x - 1, "RsubBackward1": 1 - x, "MulBackward0": x * 2,
        "DivBackward0": x / 2, "NegBackward0": -x, "PowBackward0": x**2, "PowBackward1": x**x,
        "ExpBackward0": x.exp(), "LogBackward0": x.log(), "SqrtBackward0": x.sqrt(),
        "TanhBackward0": x.tanh(), "SigmoidBackward0": x.sigmoid(), "ReluBackward0": x.relu(),
        "SinBackward0": x.sin(), "CosBackward0": x.cos(), "AbsBackward0": x.abs(),
        "MaximumBackward0": torch.maximum(x, x), "WhereBackward0": torch.where(x > 1, x, x),
        "ClampBackward1": x.clamp(0, 1), "SumBackward0": x.sum(), "SumBackward1": x.sum(0),
        "MeanBackward0": x.mean(), "MeanBackward1": x.mean(0), "AmaxBackward0": x.amax(),
        "VarBackward0": x.var(), "LogsumexpBackward0": x.logsumexp(0),
        "CumsumBackward0": x.cumsum(0), "MmBackward0": m @ m.t(), "MvBackward0": m @ x,
        "DotBackward0": x @ x, "AddmmBackward0": torch.addmm(x, m, torch.ones(3, 3)),
        "BmmBackward0": torch.bmm(m[None], m[None].mT), "ViewBackward0": m.view(6),
        "TBackward0": m.t(), "TransposeBackward0": m.transpose(0, 1),
        "PermuteBackward0": m.permute(1, 0), "SqueezeBackward0": m.squeeze(),
        "SqueezeBackward1": m.squeeze(0), "UnsqueezeBackward0": x[None],
        "ExpandBackward0": x.expand(2, 3), "SelectBackward0": x[0], "SliceBackward0": x[1:],
        "CatBackward0": torch.cat([x, x]), "StackBackward0": torch.stack([x, x]),
        "GatherBackward0": x.gather(0, torch.tensor([0])),
        "IndexSelectBackward0": x.index_select(0, torch.tensor([0])), "CloneBackward0": x.clone(),
        "SoftmaxBackward0": x.softmax(0), "LogSoftmaxBackward0": x.log_softmax(0),
        "NllLossBackward0": torch.nn.functional.cross_entropy(m, torch.tensor([0, 1])),
        "SoftplusBackward0": torch.nn.functional.softplus(x),
        "BinaryCrossEntropyWithLogitsBackward0": bce_with_logits(x, torch.ones(3)),
        "MseLossBackward0": torch.nn.functional.mse_loss(x, torch.ones(3)),
        "ToCopyBackward0": x.double(), "CopySlices": assigned(x),
    }  # fmt: skip
    assert {want: kind(y.grad_fn) for want, y in names.items()} == {want: want for want in names}
    assert (x + 1).grad_fn.name() == "AddBackward0"


def kind(fn):
    return re.fullmatch(r"<(\w+) object at 0x[0-9a-f]+>", repr(fn)).group(1)


def assigned(x):
    y = x * 1
    y[0] = 1.0
    return y


def test_next_functions():
    x, c = leaf(), torch.ones(3)
    y = (x * c).exp()
    (mul, position), = y.grad_fn.next_functions  # fmt: skip
    assert (kind(mul), position) == ("MulBackward0", 0)
    (accumulate, _), nothing = mul.next_functions
    assert kind(accumulate) == "AccumulateGrad"
    assert accumulate.variable is x
    assert nothing == (None, 0)
    assert x.grad_fn is None
    assert accumulate.next_functions == ()


def test_the_graph_outlives_its_names():
    x = leaf()
    fn = (x * 2).exp().sum().grad_fn
    while kind(fn) != "AccumulateGrad":
        fn = fn.next_functions[0][0]
    assert fn.variable is x


# ---------------------------------------------------------------------------------- misuse


def test_d5_backward_of_a_vector():
    with pytest.raises(RuntimeError, match="implicitly created only for scalar outputs"):
        (leaf() * 2).backward()


def test_d6_backward_of_a_constant():
    with pytest.raises(RuntimeError, match="does not require grad"):
        torch.ones(1).backward()
    with pytest.raises(RuntimeError, match="does not require grad"):
        autograd.grad(torch.ones(1), leaf())


def test_d7_grad_before_backward():
    with pytest.raises(AttributeError, match="NoneType"):
        leaf().grad.zero_()


def test_d10_deepcopy():
    x = leaf()
    x.grad = torch.ones(3)
    twin = copy.deepcopy(x)
    twin.data[0] = 9.0
    assert x.tolist() == [1.0, 2.0, 3.0]
    assert twin.requires_grad
    assert twin.grad.tolist() == [1.0] * 3
    assert twin.grad is not x.grad
    with pytest.raises(RuntimeError, match="deepcopy"):
        copy.deepcopy(x * 2)
