"""Classes derived from `Tensor`: `Parameter`, `Buffer`, and users' own."""

import copy
import gc
import pickle
import weakref

import pytest
import wengert as torch
from wengert import autograd, nn
from wengert.utils import swap_tensors


class Named(torch.Tensor):
    """A tensor with a name."""

    name = "none"

    def shout(self):
        return self.name.upper()


class Slotted(torch.Tensor):
    __slots__ = ("extra",)


# Users' classes. ---------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", [Named, Slotted])
def test_instances_are_tensors(cls):
    x = cls([1.0, 2.0])
    assert type(x) is cls
    assert isinstance(x, torch.Tensor)
    assert torch.is_tensor(x)
    assert x.tolist() == [1.0, 2.0]
    assert cls().shape == (0,)
    assert cls(2, 3).shape == (2, 3)


def test_instances_have_methods_and_attributes():
    x = Named([1.0])
    x.name = "w"
    assert x.shout() == "W"
    s = Slotted([1.0])
    s.extra = 3
    assert s.extra == 3


def test_results_of_operations_are_plain_tensors():
    x = Named([1.0, 2.0]).requires_grad_()
    for y in (x + 1, x.exp(), torch.exp(x), x[0], x.detach(), x.clone(), x.data, x.view(2, 1)):
        assert type(y) is torch.Tensor
    assert type(x.mul(2).as_subclass(Named)) is Named


def test_methods_that_give_the_tensor_itself_keep_the_class():
    x = Named([1.0])
    for y in (x.requires_grad_(), x.requires_grad_(False), x.add_(1), x.contiguous(), x.cpu()):
        assert y is x


def test_a_leaf_stays_the_object_that_it_is():
    x = Named([1.0, 2.0]).requires_grad_()
    y = (x * 2).sum()
    assert y.grad_fn.next_functions[0][0].next_functions[0][0].variable is x
    seen = []
    x.register_post_accumulate_grad_hook(seen.append)
    y.backward()
    assert seen[0] is x
    assert x.grad.tolist() == [2.0, 2.0]
    assert type(x.grad) is torch.Tensor


def test_as_subclass_is_a_recorded_view():
    x = torch.ones(2, requires_grad=True)
    y = (x * 2).as_subclass(Named)
    assert type(y) is Named
    assert y.grad_fn.name() == "AliasBackward0"
    y.sum().backward()
    assert x.grad.tolist() == [2.0, 2.0]
    base = torch.zeros(2)
    view = base.as_subclass(Named)
    view.add_(1)
    assert base.tolist() == [1.0, 1.0]
    assert view._base is base
    assert type(view.as_subclass(torch.Tensor)) is torch.Tensor


def test_make_subclass_has_no_history():
    y = torch.ones(2, requires_grad=True) * 2
    p = torch.Tensor._make_subclass(Named, y, True)
    assert (type(p), p.is_leaf, p.requires_grad) == (Named, True, True)
    assert p.data_ptr() == y.data_ptr()
    assert torch.Tensor._make_subclass(Named, y).requires_grad is False
    with pytest.raises(RuntimeError, match="floating point"):
        torch.Tensor._make_subclass(Named, torch.ones(2, dtype=torch.int64), True)


@pytest.mark.parametrize("make", [torch.Tensor.as_subclass, lambda x, c: x._make_subclass(c, x)])
def test_classes_of_other_things_are_refused(make):
    with pytest.raises(TypeError, match="does not inherit from Tensor"):
        make(torch.ones(2), int)


def test_text_begins_with_the_class():
    assert repr(Named([1.0, 2.0])) == "Named([1., 2.])"
    assert repr(Named([[1.0], [2.0]])) == "Named([[1.],\n       [2.]])"


def test_constructors_of_ones_own():
    class Scaled(torch.Tensor):
        def __new__(cls, data, scale):
            return torch.Tensor._make_subclass(cls, data * scale)

        def __init__(self, data, scale):
            self.scale = scale

    x = Scaled(torch.ones(2), 3)
    assert x.tolist() == [3.0, 3.0]
    assert x.scale == 3


def test_several_bases():
    class Mixin:
        def twice(self):
            return self * 2

    class Both(torch.Tensor, Mixin):
        pass

    assert Both([1.0]).twice().tolist() == [2.0]


def test_copies_keep_class_and_attributes():
    x = Named([1.0, 2.0]).requires_grad_()
    x.name = "w"
    x.note = [1]
    (x * 2).sum().backward()
    deep = copy.deepcopy(x)
    assert (type(deep), deep.name, deep.note) == (Named, "w", [1])
    assert deep.note is not x.note
    assert deep.grad.tolist() == [2.0, 2.0]
    assert deep.data_ptr() != x.data_ptr()
    shallow = copy.copy(x)
    assert (type(shallow), shallow.name) == (Named, "w")
    assert shallow.note is x.note
    assert shallow.data_ptr() == x.data_ptr()
    stored = pickle.loads(pickle.dumps(x))
    assert (type(stored), stored.name, stored.note) == (Named, "w", [1])
    assert stored.requires_grad


def test_copies_of_one_object_are_one_object():
    x = Named([1.0])
    a, b = copy.deepcopy([x, x])
    assert a is b


def test_plain_tensors_keep_attributes_in_copies():
    x = torch.ones(2, requires_grad=True)
    x.note = {"a": 1}
    for duplicate in (copy.copy, copy.deepcopy, lambda t: pickle.loads(pickle.dumps(t))):
        y = duplicate(x)
        assert (type(y), y.note, y.requires_grad) == (torch.Tensor, {"a": 1}, True)


def test_deep_copies_keep_the_order_of_axes():
    x = torch.arange(6.0).view(2, 3).t()
    assert copy.deepcopy(x).stride() == x.stride() == copy.copy(x).stride()


def test_computed_tensors_are_not_copied_silently():
    y = torch.ones(2, requires_grad=True) * 2
    with pytest.raises(RuntimeError, match="Only Tensors created explicitly by the user"):
        copy.deepcopy(y)
    with pytest.warns(UserWarning, match="drops its graph"):
        assert copy.copy(y).is_leaf


def test_pickling_warns_of_hooks():
    x = torch.ones(2, requires_grad=True)
    x.register_hook(lambda g: g)
    with pytest.warns(UserWarning, match="will not be serialized"):
        pickle.dumps(x)


def test_a_class_that_leads_to_its_instances_is_collected():
    class Circular(torch.Tensor):
        pass

    Circular.instances = [Circular([1.0]), torch.ones(2).as_subclass(Circular)]
    died = weakref.ref(Circular)
    del Circular
    gc.collect()
    assert died() is None


def test_instances_in_cycles_are_collected():
    x = Named([1.0])
    x.itself = x
    died = weakref.ref(x)
    del x
    gc.collect()
    assert died() is None


# Parameters. -------------------------------------------------------------------------------------


def test_parameter():
    data = torch.tensor([1.0, 2.0])
    p = nn.Parameter(data)
    assert repr(p) == "Parameter containing:\ntensor([1., 2.], requires_grad=True)"
    assert isinstance(p, torch.Tensor)
    assert not isinstance(data, nn.Parameter)
    assert (p.requires_grad, p.is_leaf, data.requires_grad) == (True, True, False)
    assert p.data_ptr() == data.data_ptr()
    assert nn.parameter.Parameter is nn.Parameter


def test_parameters_without_data_or_grad():
    assert nn.Parameter().shape == (0,)
    assert nn.Parameter(torch.ones(2), requires_grad=False).requires_grad is False
    assert nn.Parameter(torch.ones(2, dtype=torch.int64), False).dtype is torch.int64
    with pytest.raises(RuntimeError, match="floating point"):
        nn.Parameter(torch.ones(2, dtype=torch.int64))
    with pytest.raises(AttributeError, match="'list' object has no attribute 'detach'"):
        nn.Parameter([1.0])


def test_parameters_of_computed_tensors_are_leaves():
    y = torch.ones(2, requires_grad=True) * 2
    p = nn.Parameter(y)
    assert p.is_leaf
    (p * 3).sum().backward()
    assert p.grad.tolist() == [3.0, 3.0]


def test_parameters_take_part_in_training():
    w = nn.Parameter(torch.zeros(2))
    for _ in range(3):
        w.grad = None
        ((w - 1) ** 2).sum().backward()
        with torch.no_grad():
            w -= 0.25 * w.grad
    assert type(w) is nn.Parameter
    assert w.tolist() == [0.875, 0.875]
    w.data = torch.ones(3)
    assert (type(w), w.tolist()) == (nn.Parameter, [1.0, 1.0, 1.0])


@pytest.mark.parametrize(
    "duplicate", [copy.copy, copy.deepcopy, lambda p: pickle.loads(pickle.dumps(p))]
)
def test_copies_of_parameters(duplicate):
    for requires_grad in (True, False):
        q = duplicate(nn.Parameter(torch.ones(2), requires_grad))
        assert type(q) is nn.Parameter
        assert q.requires_grad is requires_grad
        assert q.tolist() == [1.0, 1.0]


def test_buffers():
    b = nn.Buffer(torch.ones(2))
    assert isinstance(b, nn.Buffer)
    assert not isinstance(torch.ones(2), nn.Buffer)
    assert not isinstance(nn.Parameter(torch.ones(2)), nn.Buffer)
    assert (b.persistent, type(b)) == (True, torch.Tensor)
    assert nn.Buffer(torch.ones(2), persistent=False).persistent is False
    assert nn.Buffer().shape == (0,)


# What else belongs to tensors. -------------------------------------------------------------------


def test_swap_tensors():
    a, p = torch.zeros(2), nn.Parameter(torch.ones(3))
    a.note = 1
    (p * 2).sum().backward()
    swap_tensors(a, p)
    assert (type(a), a.tolist(), a.grad.tolist()) == (nn.Parameter, [1.0] * 3, [2.0] * 3)
    assert (type(p), p.tolist(), p.grad, p.note) == (torch.Tensor, [0.0, 0.0], None, 1)
    assert not hasattr(a, "note")
    (a * 2).sum().backward()
    assert a.grad.tolist() == [4.0] * 3


def test_swapped_tensors_stay_one_object_each():
    x, y = torch.ones(2, requires_grad=True), torch.zeros(3, requires_grad=True)
    z = x * 2
    swap_tensors(x, y)
    assert z.grad_fn.next_functions[0][0].variable is y
    z.sum().backward()
    assert (x.grad, y.grad.tolist()) == (None, [2.0, 2.0])


def test_swap_is_refused():
    a, b = torch.zeros(2), torch.ones(2)
    ref = weakref.ref(b)
    with pytest.raises(RuntimeError, match="Cannot swap t2 because it has weakref"):
        swap_tensors(a, b)
    assert ref() is b
    with pytest.raises(RuntimeError, match="different slots"):
        swap_tensors(a, Slotted([1.0]))


def test_grad_dtype():
    x = torch.ones(2, requires_grad=True)
    assert x.grad_dtype is torch.float32
    x.grad_dtype = torch.float32
    with pytest.raises(NotImplementedError, match="float64 is not supported"):
        x.grad_dtype = torch.float64
    with pytest.raises(RuntimeError, match="only be accessed on leaf tensors"):
        _ = (x * 2).grad_dtype


def test_versions_can_be_preserved():
    x, y = torch.ones(2), torch.ones(2)
    x.add_(1)
    with autograd._unsafe_preserve_version_counter((x, y)):
        x.add_(1)
        y.mul_(2)
    assert (x._version, y._version) == (1, 0)
    w = torch.ones(2, requires_grad=True)
    z = w * x
    with autograd._unsafe_preserve_version_counter(x):
        x.zero_()
    z.sum().backward()
    assert w.grad.tolist() == [0.0, 0.0]


def test_memory_can_be_asked_for():
    before = torch.memory_stats()
    x = torch.zeros(100_000)
    after = torch.memory_stats()
    assert after["allocated_bytes"] - before["allocated_bytes"] >= x.nbytes
    assert after["peak_allocated_bytes"] >= after["allocated_bytes"]
    torch.empty_cache()
    assert torch.memory_stats()["cached_bytes"] <= after["cached_bytes"]


def test_small_questions():
    x = torch.ones(2, 3)
    assert x.ndimension() == 2
    assert x.is_same_size(torch.zeros(2, 3))
    assert not x.is_same_size(torch.zeros(3))
    assert x.is_signed()
    assert not torch.ones(2, dtype=torch.uint8).is_signed()
    assert torch.is_tensor(x)
    assert not torch.is_tensor([1.0])
    assert torch.is_floating_point(x)
    assert torch.numel(x) == 6
    assert torch.is_nonzero(torch.tensor([1.0]))


@pytest.mark.filterwarnings("ignore")
def test_gradcheck_error_says_where_it_is_from():
    x = torch.ones(2, dtype=torch.float64, requires_grad=True)
    with pytest.raises(autograd.GradcheckError) as caught:
        autograd.gradcheck(lambda x: x.detach() * x, x)
    kind = type(caught.value)
    assert f"{kind.__module__}.{kind.__qualname__}" == "wengert.autograd.gradcheck.GradcheckError"
