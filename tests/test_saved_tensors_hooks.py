"""How saved tensors are stored: hooks, by block and by tensor."""

import threading
import weakref

import pytest
import wengert as torch
from support import leaf
from wengert.autograd import Function, gradcheck, gradgradcheck
from wengert.autograd.graph import (
    disable_saved_tensors_hooks,
    save_on_cpu,
    saved_tensors_hooks,
)


class Log:
    """Hooks that note what they see."""

    def __init__(self):
        self.packed, self.unpacked = [], []

    def hooks(self):
        return saved_tensors_hooks(self.pack, self.unpack)

    def pack(self, tensor):
        self.packed.append(tensor.tolist())
        return tensor.detach()

    def unpack(self, tensor):
        self.unpacked.append(tensor.tolist())
        return tensor


def doubled():
    return saved_tensors_hooks(lambda t: 2 * t, lambda t: t / 2)


class Product(Function):
    @staticmethod
    def forward(ctx, x, y):
        ctx.save_for_backward(x, None, y)
        return x * y

    @staticmethod
    def backward(ctx, g):
        x, _, y = ctx.saved_tensors
        return g * y, g * x


# ------------------------------------------------------------------------------ when they run


def test_pack_runs_when_a_tensor_is_saved_and_unpack_when_it_is_needed():
    log = Log()
    a, b = leaf(1.0, 2.0), leaf(3.0, 4.0)
    with log.hooks():
        y = a * b
    assert sorted(log.packed) == [[1.0, 2.0], [3.0, 4.0]]
    assert log.unpacked == []
    y.sum().backward()
    assert sorted(log.unpacked) == [[1.0, 2.0], [3.0, 4.0]]
    assert a.grad.tolist() == [3.0, 4.0]


def test_unpack_runs_at_every_use():
    log = Log()
    x = leaf(2.0)
    with log.hooks():
        y = x.exp()
    y.backward(retain_graph=True)
    y.backward()
    assert len(log.unpacked) == 2


def test_operations_that_save_nothing_do_not_pack():
    log = Log()
    with log.hooks():
        y = leaf() + 1
    assert log.packed == []
    y.sum().backward()


def test_nothing_is_packed_where_nothing_is_recorded():
    log = Log()
    with log.hooks(), torch.no_grad():
        leaf() * leaf()
    assert log.packed == []


def test_the_tensor_itself_is_packed():
    seen = []
    x = leaf()
    with saved_tensors_hooks(lambda t: seen.append(t is x) or t.detach(), lambda t: t):
        x * x
    assert seen == [True, True]


def test_an_output_is_packed_with_its_history():
    seen = []
    with saved_tensors_hooks(lambda t: seen.append(t.grad_fn.name()) or t.detach(), lambda t: t):
        leaf().exp()
    assert seen == ["ExpBackward0"]


def test_pack_runs_unrecorded_and_unpack_as_the_pass_does():
    modes = []

    def unpack(t):
        modes.append(torch.is_grad_enabled())
        return t

    x = leaf()
    with saved_tensors_hooks(lambda t: modes.append(torch.is_grad_enabled()) or t.detach(), unpack):
        y = x.exp()
    torch.autograd.grad(y.sum(), x, retain_graph=True)
    torch.autograd.grad(y.sum(), x, create_graph=True)
    assert modes == [False, False, True]


def test_numbers_are_not_packed():
    log = Log()
    with log.hooks():
        y = leaf(1.0, 2.0) * 3
    assert all(len(values) == 2 for values in log.packed if isinstance(values, list))
    y.sum().backward()


def test_the_innermost_pair_applies():
    outer, inner = Log(), Log()
    x = leaf(2.0)
    with outer.hooks():
        with inner.hooks():
            x.exp()
        x.sin()
    x.cos()
    assert len(inner.packed) == 1
    assert len(outer.packed) == 1


def test_hooks_belong_to_their_thread():
    log = Log()
    x = leaf(2.0)

    def work():
        (x * x).backward()

    with log.hooks():
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert log.packed == []


def test_hooks_are_left_behind_by_an_exception():
    log = Log()
    with pytest.raises(KeyError), log.hooks():
        raise KeyError
    leaf() * leaf()
    assert log.packed == []


def test_hooks_apply_to_a_recorded_backward():
    log = Log()
    x = leaf(2.0)
    y = x**3
    with log.hooks():
        (g,) = torch.autograd.grad(y, x, create_graph=True)
    assert log.packed != []
    g.backward()
    assert x.grad.tolist() == [12.0]


def test_hooks_in_deep_passes_are_those_of_the_caller():
    log = Log()

    class Deep(Function):
        @staticmethod
        def forward(ctx, x):
            ctx.n = x.detach().clone()
            return x * 1

        @staticmethod
        def backward(ctx, g):
            with torch.enable_grad():
                x = (ctx.n - 1).requires_grad_()
                if x.item() == 0:
                    x.exp().backward()
                else:
                    Deep.apply(x).backward()
            return g

    y = Deep.apply(torch.tensor(100.0, requires_grad=True))
    with log.hooks():
        y.backward()
    assert log.packed == [1.0]


# --------------------------------------------------------------------------------- derivatives


def test_the_gradient_is_computed_from_what_unpack_returns():
    x = leaf(3.0)
    with saved_tensors_hooks(lambda t: t.detach() * 10, lambda t: t):
        y = x * x
    y.backward()
    assert x.grad.tolist() == [60.0]


@pytest.mark.parametrize("operation", ["exp", "sin", "square", "product"])
def test_second_derivatives_go_through_hooks(operation):
    operations = {
        "exp": torch.exp,
        "sin": torch.sin,
        "square": lambda x: x * x,
        "product": lambda x: Product.apply(x, x + 1),
    }

    def f(x):
        with doubled():
            return operations[operation](x)

    x = torch.tensor([0.3, -0.7], dtype=torch.float64, requires_grad=True)
    assert gradcheck(f, x)
    assert gradgradcheck(f, x)


def test_history_is_attached_to_whatever_comes_back():
    x = leaf()
    with doubled():
        y = x.exp()
        z = y.sin()
    saved = y.grad_fn._saved_result
    assert saved.tolist() == y.tolist()
    assert saved.grad_fn is y.grad_fn
    assert z.grad_fn._saved_self.grad_fn is y.grad_fn
    y.sum().backward()


def test_a_leaf_comes_back_as_a_leaf_that_shares_the_gradient():
    x = leaf(2.0)
    with doubled():
        y = x.sin()
    saved = y.grad_fn._saved_self
    assert saved.is_leaf
    assert saved.requires_grad
    (saved * 3).backward()
    assert x.grad.tolist() == [3.0]


def test_a_tensor_without_history_comes_back_as_it_is():
    packed = []
    x, c = leaf(2.0), torch.tensor([5.0])
    with saved_tensors_hooks(
        lambda t: packed.append(t.clone()) or len(packed) - 1, packed.__getitem__
    ):
        y = x * c
    assert y.grad_fn._saved_other is packed[-1]
    y.backward()


def test_writes_after_packing_are_not_noticed():
    x = leaf(2.0)
    with saved_tensors_hooks(lambda t: t.clone().detach(), lambda t: t):
        middle = x * 1
        y = middle * middle
    with torch.no_grad():
        middle.zero_()
    y.backward()
    assert x.grad.tolist() == [4.0]


def test_what_is_packed_takes_the_place_of_the_tensor():
    x = leaf()
    with saved_tensors_hooks(lambda t: t.tolist(), torch.tensor):
        middle = x * 2
        watch = weakref.ref(middle)
        y = middle.sin()
        del middle
    assert watch() is None
    y.sum().backward()
    assert x.grad.tolist() == pytest.approx((2 * torch.cos(2 * x)).tolist())


def test_what_was_packed_is_freed_with_the_graph():
    class Box:
        pass

    kept = []

    def pack(t):
        box = Box()
        box.tensor = t.detach()
        kept.append(weakref.ref(box))
        return box

    x = leaf()
    with saved_tensors_hooks(pack, lambda box: box.tensor):
        y = x.exp()
    y.sum().backward()
    assert kept[0]() is None
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        y.sum().backward()


# -------------------------------------------------------------------------------------- errors


def test_unpack_must_return_a_tensor():
    x = leaf()
    with saved_tensors_hooks(lambda t: t.detach(), lambda t: 7):
        y = x.exp()
    message = (
        "Output of saved tensor unpack_hook expected to be a Tensor but got result of type int"
    )
    with pytest.raises(TypeError, match=message):
        y.sum().backward()


def test_pack_must_not_change_its_argument():
    with (
        saved_tensors_hooks(lambda t: t.mul_(2), lambda t: t),
        pytest.raises(
            RuntimeError, match="A saved tensor pack hook is modifying its input in place"
        ),
    ):
        leaf().clone().sin()


@pytest.mark.parametrize("kind", ["operation", "Function"])
def test_exceptions_of_hooks_pass_through(kind):
    def fails(_):
        raise LookupError("broken")

    def run(x):
        return x.exp() if kind == "operation" else Product.apply(x, x)

    x = leaf()
    with saved_tensors_hooks(fails, lambda t: t), pytest.raises(LookupError, match="broken"):
        run(x)
    with saved_tensors_hooks(lambda t: t.detach(), fails):
        y = run(x)
    for _ in range(2):
        with pytest.raises(LookupError, match="broken"):
            y.sum().backward()
    assert x.grad is None


def test_hooks_must_be_entered_to_be_left():
    hooks = saved_tensors_hooks(lambda t: t, lambda t: t)
    with pytest.raises(RuntimeError, match="not entered"):
        hooks.__exit__(None, None, None)


@pytest.mark.parametrize(("hooks", "which"), [((5, print), "pack"), ((print, "a"), "unpack")])
def test_hooks_are_callable(hooks, which):
    with pytest.raises(TypeError, match=f"{which}_hook has to be callable"):
        saved_tensors_hooks(*hooks).__enter__()
    assert leaf().sin().sum().item()


# ---------------------------------------------------------------------------- Functions


def test_hooks_apply_to_functions():
    log = Log()
    x, y = leaf(2.0), leaf(5.0)
    with log.hooks():
        z = Product.apply(x, y)
    assert log.packed == [[2.0], [5.0]]
    z.backward()
    assert log.unpacked == [[2.0], [5.0]]
    assert (x.grad.tolist(), y.grad.tolist()) == ([5.0], [2.0])


def test_a_function_unpacks_when_it_asks():
    log = Log()
    x, y = leaf(2.0), leaf(5.0)
    with log.hooks():
        z = Product.apply(x, y)
    for count in (1, 2):
        assert z.grad_fn.saved_tensors[0].tolist() == [2.0]
        assert len(log.unpacked) == 2 * count


def test_intermediate_results_of_functions_are_packed():
    class Scaled(Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x * 3)
            return x * 2

        @staticmethod
        def backward(ctx, g):
            return g * ctx.saved_tensors[0]

    log = Log()
    x = leaf(1.0)
    with log.hooks():
        y = Scaled.apply(x)
    assert log.packed == [[3.0]]
    y.backward()
    assert x.grad.tolist() == [3.0]


# --------------------------------------------------------------------------- hooks of one tensor


def test_hooks_can_be_put_on_one_saved_tensor():
    x = leaf(3.0)
    y = x**2
    raw = y.grad_fn._raw_saved_self
    raw.register_hooks(lambda t: 10 * t, lambda t: t / 5)
    assert y.grad_fn._saved_self.tolist() == [6.0]
    y.backward()
    assert x.grad.tolist() == [12.0]


def test_hooks_on_what_a_function_saved():
    x, y = leaf(3.0), leaf(5.0)
    z = Product.apply(x, y)
    first, nothing, _ = z.grad_fn._raw_saved_tensors
    first.register_hooks(lambda t: 10 * t, lambda t: t)
    with pytest.raises(RuntimeError, match="saved tensor with value None is forbidden"):
        nothing.register_hooks(lambda t: t, lambda t: t)
    z.backward()
    assert y.grad.tolist() == [30.0]


def test_one_pair_of_hooks_per_saved_tensor():
    y = leaf().exp()
    raw = y.grad_fn._raw_saved_result
    raw.register_hooks(lambda t: t, lambda t: t)
    with pytest.raises(RuntimeError, match="whose hooks have already been set"):
        raw.register_hooks(lambda t: t, lambda t: t)
    with doubled():
        y = leaf().exp()
    with pytest.raises(RuntimeError, match="whose hooks have already been set"):
        y.grad_fn._raw_saved_result.register_hooks(lambda t: t, lambda t: t)


def test_hooks_come_too_late_for_what_is_freed():
    y = leaf().exp()
    raw = y.grad_fn._raw_saved_result
    y.sum().backward()
    with pytest.raises(RuntimeError, match="after it has been freed"):
        raw.register_hooks(lambda t: t, lambda t: t)
    with pytest.raises(RuntimeError, match="after it has been freed"):
        y.grad_fn._raw_saved_result.register_hooks(lambda t: t, lambda t: t)


def test_a_hook_on_one_tensor_must_not_change_it():
    raw = leaf().exp().grad_fn._raw_saved_result
    with pytest.raises(RuntimeError, match="modifying its input in place"):
        raw.register_hooks(lambda t: t.mul_(2), lambda t: t)


def test_saved_tensors_are_not_made_by_hand():
    raw = leaf().exp().grad_fn._raw_saved_result
    with pytest.raises(RuntimeError, match="SavedTensor object from Python is forbidden"):
        type(raw)()


# ------------------------------------------------------------------------ other kinds of hooks


@pytest.mark.parametrize("pin_memory", [False, True])
def test_save_on_cpu(pin_memory):
    x = leaf(2.0)
    with save_on_cpu(pin_memory=pin_memory):
        y = x * x * x
    y.backward()
    assert x.grad.tolist() == [12.0]


def test_hooks_can_be_forbidden():
    with disable_saved_tensors_hooks("not here"):
        with pytest.raises(RuntimeError, match="not here"), save_on_cpu():
            pass
        inner = disable_saved_tensors_hooks("nor here")
        with inner, pytest.raises(RuntimeError, match="nor here"), doubled():
            pass
        with pytest.raises(RuntimeError, match="not here"), doubled():
            pass
    with doubled():
        pass


def test_hooks_in_use_cannot_be_forbidden():
    with doubled():
        with pytest.raises(RuntimeError, match="not now"), disable_saved_tensors_hooks("not now"):
            pass
        with doubled():
            pass


# ------------------------------------------------------------------------------- during a pass


def test_hooks_left_during_a_pass_are_there_again_after_it():
    inner_hooks = saved_tensors_hooks(lambda x: x, lambda x: (inner_hooks.__exit__(), x)[1])
    inner_hooks.__enter__()
    leaf().sin().sum().backward()
    inner_hooks.__exit__()
    with pytest.raises(RuntimeError):
        inner_hooks.__exit__()


def test_hooks_entered_during_a_pass_end_with_it():
    other = saved_tensors_hooks(lambda x: 1 / 0, lambda x: x)

    def unpack(x):
        other.__enter__()
        return x

    with saved_tensors_hooks(lambda x: x, unpack):
        y = leaf().sin()
    y.sum().backward()
    assert leaf().sin().sum().item()
    with pytest.raises(RuntimeError):
        other.__exit__()


def test_a_post_hook_registered_by_an_unpack_hook_runs_once_without_gradients_of_outputs():
    seen = []

    def unpack(x):
        node = torch._C._current_autograd_node()

        def halve(grad_inputs, grad_outputs):
            seen.append(grad_outputs)
            return tuple(None if g is None else g / 2 for g in grad_inputs)

        node.register_hook(halve)
        return x

    x = leaf()
    with saved_tensors_hooks(lambda x: x, unpack):
        y = x.exp()
    y.sum().backward()
    assert seen == [(None,)]
    assert x.grad.tolist() == pytest.approx((x.detach().exp() / 2).tolist())
