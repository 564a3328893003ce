"""Looking at the graph: nodes, what they keep, edges, versions, and the class `Variable`."""

import copy
import gc
import pickle
import weakref

import pytest
import wengert as torch
from support import leaf
from wengert import autograd
from wengert.autograd import Variable
from wengert.autograd.graph import GradientEdge, Node, get_gradient_edge, increment_version

# Nodes. -----------------------------------------------------------------------------------------


def test_nodes_have_a_type_per_name():
    y = leaf() * 2
    z = leaf() * 3
    kind = type(y.grad_fn)
    assert kind.__name__ == "MulBackward0"
    assert kind is type(z.grad_fn)
    assert kind is not type(y.exp().grad_fn)
    assert issubclass(kind, Node)
    assert isinstance(y.grad_fn, Node)
    assert not isinstance(y, Node)
    assert repr(y.grad_fn).startswith("<MulBackward0 object at 0x")


def test_nodes_have_one_object_while_somebody_holds_it():
    x = leaf()
    y = x * 2
    z = y + 1
    assert y.grad_fn is y.grad_fn
    assert z.grad_fn.next_functions[0][0] is y.grad_fn
    node = y.grad_fn
    del y, z
    assert node.name() == "MulBackward0"
    assert node.next_functions[0][0].variable is x


def test_nodes_keep_their_graph_alive_and_no_more():
    x = leaf()
    node = (x * 2).exp().grad_fn
    below = node.next_functions[0][0]
    died = weakref.ref(below)
    del node
    assert died() is below
    del below
    gc.collect()
    assert died() is None


def test_nodes_are_equal_and_hash_by_identity():
    y = leaf() * 2
    nodes = {y.grad_fn: "y"}
    assert nodes[y.grad_fn] == "y"
    assert y.grad_fn == y.grad_fn
    assert y.grad_fn != (leaf() * 2).grad_fn


def test_nodes_are_made_by_recording_only():
    node = (leaf() * 2).grad_fn
    with pytest.raises(TypeError, match="cannot create 'MulBackward0' instances"):
        type(node)()
    with pytest.raises(TypeError, match="cannot create 'Node' instances"):
        Node()
    for duplicate in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="cannot pickle"):
            duplicate(node)
    with pytest.raises(AttributeError):
        node.anything = 1


def test_names_and_edges():
    x = leaf()
    y = x * 2
    ((accumulator, zero), nothing) = y.grad_fn.next_functions
    assert (zero, nothing) == (0, (None, 0))
    assert accumulator.name() == "torch::autograd::AccumulateGrad"
    assert type(accumulator).__name__ == "AccumulateGrad"
    assert accumulator.variable is x
    assert accumulator.next_functions == ()
    assert accumulator.requires_grad
    with pytest.raises(AttributeError, match="'MulBackward0' object has no attribute 'variable'"):
        _ = y.grad_fn.variable
    first, second = y[:2].sum(), y.unbind()[1]
    assert first.grad_fn.next_functions[0][0].name() == "SliceBackward0"
    assert (second.grad_fn.name(), second.output_nr) == ("UnbindBackward0", 1)
    total = first + second
    assert [edge[1] for edge in total.grad_fn.next_functions] == [0, 1]


@pytest.mark.parametrize(
    ("function", "edges"),
    [
        (lambda x: x + 1, 2),
        (lambda x: 1 - x, 1),
        (lambda x: x**2, 1),
        (lambda x: x / 3, 2),
        (lambda x: x % 3, 1),
        (lambda x: torch.where(x > 0, x, torch.zeros(3)), 2),
        (lambda x: x.clamp(0, 1), 1),
        (lambda x: torch.stack([x, torch.ones(3), x]), 3),
        (lambda x: x.masked_fill(x > 1, 0.0), 1),
    ],
)
def test_nodes_have_as_many_edges_as_in_pytorch(function, edges):
    assert len(function(leaf()).grad_fn.next_functions) == edges


def test_sequence_numbers_grow():
    x = leaf()
    y = x * 2
    z = y + x
    assert z.grad_fn._sequence_nr() > y.grad_fn._sequence_nr()
    accumulator = y.grad_fn.next_functions[0][0]
    assert accumulator._sequence_nr() == 2**64 - 1


def test_metadata_belongs_to_the_node():
    y = leaf() * 2
    assert y.grad_fn.metadata == {}
    assert y.grad_fn.metadata is y.grad_fn.metadata
    y.grad_fn.metadata["key"] = "value"
    gc.collect()
    assert y.grad_fn.metadata == {"key": "value"}
    with pytest.raises(AttributeError):
        y.grad_fn.metadata = {}

    class Thing:
        pass

    thing = Thing()
    died = weakref.ref(thing)
    y.grad_fn.metadata["thing"] = thing
    del thing
    assert died() is not None
    del y
    assert died() is None


def test_input_metadata():
    first, _ = torch.ones(2, 3, dtype=torch.float64, requires_grad=True).unbind()
    metadata = first.grad_fn._input_metadata
    assert isinstance(metadata, tuple)
    assert [(tuple(m.shape), m.dtype) for m in metadata] == [((3,), torch.float64)] * 2


# What nodes keep. -------------------------------------------------------------------------------


def test_saved_operands_are_the_tensors_themselves():
    x, w = leaf(), leaf()
    y = x.exp()
    z = y * w
    assert z.grad_fn._saved_self is y
    assert z.grad_fn._saved_other is w
    assert (y * 2).grad_fn._saved_self is None
    assert (y * 2).grad_fn._saved_other.item() == 2


def test_a_saved_result_has_the_history_of_the_result():
    y = leaf().tanh()
    saved = y.grad_fn._saved_result
    assert saved.tolist() == y.tolist()
    assert saved.grad_fn is y.grad_fn
    assert saved is not y


def test_parameters_are_kept_as_python_values():
    x = torch.ones(2, 3, requires_grad=True)
    assert torch.stack([x, x], dim=1).grad_fn._saved_dim == 1
    assert (x**2).grad_fn._saved_exponent == 2
    assert (x**3.5).grad_fn._saved_exponent == 3.5
    assert (2**x).grad_fn._saved_self == 2
    mean = x.mean(dim=1, keepdim=True).grad_fn
    assert (mean._saved_dim, mean._saved_keepdim) == ((1,), True)
    assert mean._saved_self_sym_sizes == (2, 3)
    assert x.sum().grad_fn._saved_self_sym_sizes == (2, 3)
    assert x.permute(1, 0).grad_fn._saved_dims == (1, 0)
    assert x.transpose(-1, -2).grad_fn._saved_dim0 == 0
    assert x.split(2, dim=1)[0].grad_fn._saved_split_size == 2
    assert x.cumsum(-1).grad_fn._saved_dim == 1
    assert x.view(6).grad_fn._saved_self_sym_sizes == (2, 3)
    part = x[:, 1:].grad_fn
    assert (part._saved_dim, part._saved_start, part._saved_end) == (1, 1, 3)
    assert x[1].grad_fn._saved_index == 1
    assert x.div(2.0, rounding_mode="trunc").grad_fn._saved_rounding_mode == "trunc"
    bounds = x.clamp(0, 2).grad_fn
    assert (bounds._saved_min, bounds._saved_max) == (0, 2)


def test_indices_are_kept_where_they_stand():
    x = torch.ones(2, 2, requires_grad=True)
    indices = torch.tensor([0, 1])
    node = x[:, indices].grad_fn
    first, second = node._saved_indices
    assert first is None
    assert second.tolist() == [0, 1]
    assert node._saved_self_sym_sizes == (2, 2)
    assert x.index_select(1, indices).grad_fn._saved_index.tolist() == [0, 1]
    gathered = x.gather(1, torch.tensor([[1], [0]])).grad_fn
    assert (gathered._saved_dim, gathered._saved_index.tolist()) == (1, [[1], [0]])


def test_dir_names_what_is_kept():
    y = leaf().exp()
    names = dir(y.grad_fn)
    assert "_saved_result" in names
    assert {"name", "next_functions", "metadata", "register_hook", "register_prehook"} <= {*names}
    assert "variable" not in names
    assert "variable" in dir(y.grad_fn.next_functions[0][0])
    with pytest.raises(
        AttributeError, match="'ExpBackward0' object has no attribute '_saved_self'"
    ):
        _ = y.grad_fn._saved_self


def test_every_name_in_dir_can_be_looked_up():
    x = torch.rand(3, 3, requires_grad=True)
    made = [
        x.amax(1), x.max(1)[0], x.prod(1), x.std(1), x.logsumexp(1), x.cumprod(0), x.softmax(1),
        x @ x, torch.addmm(x, x, x), x.mv(x[0]), x[0].dot(x[1]), x.diagonal(), x.tril(), x.flip(0),
        x.norm(), torch.cat([x, x]), x.masked_fill(x > 0.5, 1.0), x.unbind()[0],
        x.take(torch.tensor([0])), torch.nn.functional.mse_loss(x, x * 2),
        torch.nn.functional.softplus(x),
    ]  # fmt: skip
    for y in made:
        names = [name for name in dir(y.grad_fn) if name.startswith("_saved_")]
        assert names, y.grad_fn
        for name in names:
            getattr(y.grad_fn, name)


def test_what_was_freed_cannot_be_looked_at():
    x = leaf()
    y = x.exp()
    stacked = torch.stack([x, x], dim=1)
    (y.sum() + stacked.sum()).backward()
    with pytest.raises(RuntimeError, match="after they have already been freed"):
        _ = y.grad_fn._saved_result
    assert stacked.grad_fn._saved_dim == 1


def test_what_was_written_to_cannot_be_looked_at():
    x = leaf()
    y = x.exp()
    with torch.no_grad():
        y.zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        _ = y.grad_fn._saved_result


# Edges. -----------------------------------------------------------------------------------------


def two_steps():
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    middle = x.sin().cos()
    return x, get_gradient_edge(middle), middle.exp().clone().sin().sum()


def test_edges_name_where_a_gradient_flows():
    x = leaf()
    first, second, _ = x.unbind()
    edge = get_gradient_edge(second)
    assert isinstance(edge, GradientEdge)
    assert (edge.node, edge.output_nr, edge.ownership_token) == (first.grad_fn, 1, None)
    assert get_gradient_edge(x).node.variable is x


def test_edges_as_inputs_and_outputs_of_grad():
    x, edge, out = two_steps()
    (expected,) = autograd.grad(out, x, retain_graph=True)
    (middle,) = autograd.grad(out, edge, retain_graph=True)
    (found,) = autograd.grad(edge, (x,), middle, retain_graph=True)
    assert found.tolist() == expected.tolist()
    (same,) = autograd.grad(out, get_gradient_edge(x), retain_graph=True)
    assert same.tolist() == expected.tolist()
    (itself,) = autograd.grad(get_gradient_edge(out), (get_gradient_edge(out),))
    assert itself.item() == 1.0


def test_edges_as_roots_and_inputs_of_backward():
    x, edge, out = two_steps()
    (expected,) = autograd.grad(out, x, retain_graph=True)
    (middle,) = autograd.grad(out, edge, retain_graph=True)
    autograd.backward(edge, middle, retain_graph=True)
    assert x.grad.tolist() == expected.tolist()
    x.grad = None
    autograd.backward((get_gradient_edge(out), out), retain_graph=True)
    assert x.grad.tolist() == pytest.approx([2 * g for g in expected.tolist()])
    x.grad = None
    out.backward(inputs=(edge,), retain_graph=True)
    assert x.grad is None
    out.backward(inputs=get_gradient_edge(x))
    assert x.grad.tolist() == expected.tolist()


def test_an_edge_keeps_its_graph_and_stays_the_same_when_the_tensor_is_written_to():
    x = leaf()
    y = x * 2
    edge = get_gradient_edge(y)
    y.mul_(3)
    out = y.sum()
    del y
    gc.collect()
    (g,) = autograd.grad(out, edge)
    assert g.tolist() == [3.0] * 3


def test_errors_of_edges():
    x, edge, out = two_steps()
    with pytest.raises(RuntimeError, match="not possible to get the gradient edge"):
        get_gradient_edge(torch.ones(2))
    with pytest.raises(RuntimeError, match="grad can be implicitly created only for scalar out"):
        autograd.grad(edge, x)
    with pytest.raises(RuntimeError, match="Mismatch in shape"):
        autograd.grad(edge, x, torch.ones(3))
    with pytest.raises(RuntimeError, match=r"materialize_grads cannot be used.*GradientEdge"):
        autograd.grad(out, get_gradient_edge(x * 2), retain_graph=True, materialize_grads=True)
    assert autograd.grad(out, edge, retain_graph=True, materialize_grads=True)[0] is not None
    unused = get_gradient_edge(x * 2)
    with pytest.raises(RuntimeError, match="not have been used in the graph"):
        autograd.grad(out, unused, retain_graph=True)
    assert autograd.grad(out, unused, retain_graph=True, allow_unused=True) == (None,)
    with pytest.raises((RuntimeError, TypeError), match="have to be Tensors or GradientEdges"):
        autograd.grad(out, [(edge.node, 0)])


def test_edges_that_lead_nowhere_are_refused():
    x, edge, out = two_steps()
    beyond = GradientEdge(edge.node, 3)
    with pytest.raises(ValueError, match="output 3 of CosBackward0, which has 1"):
        autograd.grad(out, beyond)
    with pytest.raises(ValueError, match="output 3 of CosBackward0, which has 1"):
        autograd.grad(beyond, x)
    with pytest.raises(TypeError, match="has to be a Node, but got int"):
        autograd.grad(out, GradientEdge(5, 0))


# Versions and variables. ------------------------------------------------------------------------


def test_increment_version_counts_a_write():
    x = leaf()
    y = x.exp()
    increment_version(y)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()
    a, b = torch.ones(1), torch.ones(1)
    increment_version([a, b, a])
    increment_version(t for t in (b,))
    assert (a._version, b._version) == (2, 2)
    with pytest.raises(RuntimeError, match="expect a Iterable"):
        increment_version(5)
    with pytest.raises(RuntimeError, match="each element of the iterable to be a tensor"):
        increment_version([5])


def test_variables_are_tensors():
    t = torch.ones(2)
    assert isinstance(t, Variable)
    assert not isinstance(5, Variable)
    v = Variable(t, requires_grad=True)
    assert type(v) is torch.Tensor
    assert v.requires_grad
    assert v.data_ptr() == t.data_ptr()
    assert not t.requires_grad
    assert not Variable(v * 2).requires_grad
    assert Variable().shape == (0,)
    assert autograd.variable.Variable is Variable
    with pytest.raises(TypeError, match="Variable data has to be a tensor, but got int"):
        Variable(5)


def test_saved_attributes_by_kind():
    """Tensors, numbers, sizes, words and None come as what they are in Python."""
    a = torch.ones(2, 2, requires_grad=True)
    kinds = {
        type(torch.nn.functional.threshold(a, value, value).grad_fn._saved_threshold)
        for value in (1.0, 1, False)
    }
    assert kinds == {float, int, bool}
    assert torch.div(a, 2.0, rounding_mode="trunc").grad_fn._saved_rounding_mode == "trunc"
    assert torch.div(a, 2.0, rounding_mode=None).grad_fn._saved_rounding_mode is None
    assert torch.logit(a, 1.0).grad_fn._saved_eps == 1.0
    assert torch.logit(a).grad_fn._saved_eps is None
    assert a.as_strided((3,), (1,), 1).grad_fn._saved_storage_offset == 1
    assert a.as_strided((3,), (1,)).grad_fn._saved_storage_offset is None
    loss = torch.nn.functional.nll_loss
    target = torch.tensor([1, 0])
    assert loss(a, target).grad_fn._saved_weight is None
    weight = torch.tensor([1.0, 2.0])
    assert loss(a, target, weight).grad_fn._saved_weight.tolist() == [1.0, 2.0]
    assert loss(a, target, weight).grad_fn._saved_target.tolist() == [1, 0]


def test_raw_saved_tensors_of_a_freed_graph():
    y = leaf() * leaf()
    y.sum().backward()
    with pytest.raises(RuntimeError, match="after they have already been freed"):
        _ = y.grad_fn._saved_self
    with pytest.raises(RuntimeError, match="after it has been freed"):
        y.grad_fn._raw_saved_self.register_hooks(lambda t: t, lambda t: t)


def test_numbers_on_the_left_are_second_inputs():
    x = leaf()
    for y in (2 + x, 2 * x):
        assert y.grad_fn.next_functions[0][0].variable is x


def test_quotients_keep_their_operands():
    """So that the result may be written to, and the operands may not."""
    a, b = leaf(1.0, 2.0), leaf(2.0, 4.0)
    y = a / b
    y.mul_(2)
    y.sum().backward()
    assert a.grad.tolist() == [1.0, 0.5]
    assert b.grad.tolist() == [-0.5, -0.25]
    z = a.clone()
    y = z / b
    z.add_(1)
    with pytest.raises(RuntimeError, match="inplace operation"):
        y.sum().backward()


def test_writes_through_views_show_what_was_written():
    x, y = leaf(), leaf()
    z = x.clone()
    clone = z.grad_fn
    z[1:] = y[1:]
    written = z.grad_fn
    assert written.name() == "torch::autograd::CopySlices"
    assert [n and n.name() for n, _ in written.next_functions] == [
        "CloneBackward0",
        "SliceBackward0",
    ]
    assert written.next_functions[0][0] is clone
