"""Hooks on nodes: before and after a rule, their order among others, what they may return."""

import pytest
import wengert as torch
from support import leaf
from wengert import autograd


def accumulator(x):
    return x.view_as(x).grad_fn.next_functions[0][0]


def lists(gradients):
    return [g if g is None else g.tolist() for g in gradients]


def test_hooks_see_the_gradients_of_inputs_and_outputs():
    a, b = leaf(2.0), leaf(3.0)
    c = a * b
    seen = []
    c.grad_fn.register_prehook(lambda outputs: seen.append(lists(outputs)))
    c.grad_fn.register_hook(lambda inputs, outputs: seen.append((lists(inputs), lists(outputs))))
    c.backward(torch.tensor([10.0]))
    assert seen == [[[10.0]], ([[30.0], [20.0]], [[10.0]])]


def test_inputs_without_gradient_are_none():
    a = leaf(2.0)
    c = a * 3
    seen = []
    c.grad_fn.register_hook(lambda inputs, outputs: seen.append(inputs))
    c.backward()
    ((first, second),) = seen
    assert (first.item(), second) == (3.0, None)


def test_gradients_of_inputs_have_the_shape_of_the_inputs():
    a, b = torch.ones(2, 3, requires_grad=True), torch.ones(3, requires_grad=True)
    c = a * b
    shapes = []
    c.grad_fn.register_hook(lambda inputs, _: shapes.extend(tuple(g.shape) for g in inputs))
    c.sum().backward()
    assert shapes == [(2, 3), (3,)]


def test_a_prehook_replaces_what_the_rule_sees():
    a = torch.tensor([2.0], requires_grad=True)
    b = a.clone()
    b.grad_fn.register_prehook(lambda outputs: (outputs[0] * 2.0,))
    b.grad_fn.register_prehook(lambda outputs: (outputs[0] * 2.0,))
    b.backward()
    assert a.grad.item() == 4.0


def test_a_hook_replaces_what_the_rule_gave():
    a, b = leaf(2.0), leaf(3.0)
    c = a * b
    c.grad_fn.register_hook(lambda inputs, _: (inputs[0] * 10, None))
    c.backward()
    assert a.grad.item() == 30.0
    assert b.grad is None


def test_prehooks_of_a_node_with_several_outputs():
    x = leaf(1.0, 2.0)
    first, second = x.unbind()
    first.grad_fn.register_prehook(lambda outputs: (outputs[0] * 2, outputs[1] * 3))
    (first + second).backward()
    assert x.grad.tolist() == [2.0, 3.0]


def test_an_unused_output_is_none():
    first, _second = leaf(1.0, 2.0).unbind()
    seen = []
    first.grad_fn.register_prehook(lambda outputs: seen.extend(lists(outputs)))
    first.backward()
    assert seen == [1.0, None]


def test_hooks_can_be_removed_also_while_they_run():
    x = leaf()
    y = x * 2
    log, handles = [], []

    def pre(outputs):
        log.append("pre")
        handles[0].remove()

    def post(inputs, outputs):
        log.append("post")
        handles[1].remove()

    handles.append(y.grad_fn.register_prehook(pre))
    handles.append(y.grad_fn.register_hook(post))
    y.sum().backward(retain_graph=True)
    y.sum().backward()
    assert log == ["pre", "post"]


def test_the_order_of_all_hooks_of_a_node():
    x = leaf()
    y = x * 2
    log = []
    y.grad_fn.register_hook(lambda gi, go: log.append("post"))
    y.grad_fn.register_prehook(lambda go: log.append("pre"))
    y.register_hook(lambda g: log.append("tensor"))
    y.grad_fn.register_prehook(lambda go: log.append("pre again"))
    y.register_hook(lambda g: log.append("tensor again"))
    y.sum().backward()
    assert log == ["tensor", "tensor again", "pre", "pre again", "post"]


def test_which_hooks_a_pass_runs():
    a = torch.tensor(1.0, requires_grad=True)
    b = a * 2
    c = b * 2
    log = []
    keep = accumulator(a)
    for name, t, node in (("a", a, keep), ("b", b, b.grad_fn), ("c", c, c.grad_fn)):
        t.register_hook(lambda g, name=name: log.append(name))
        node.register_prehook(lambda go, name=name: log.append("pre " + name))
        node.register_hook(lambda gi, go, name=name: log.append("post " + name))
    a.register_post_accumulate_grad_hook(lambda p: log.append("accumulated"))

    def ran(run, *args, **kwargs):
        log.clear()
        run(*args, **kwargs, retain_graph=True)
        return list(log)

    of_c, of_b = ["c", "pre c", "post c"], ["b", "pre b", "post b"]
    of_a = ["a", "pre a", "accumulated", "post a"]
    assert ran(autograd.grad, c, c) == ["c"]
    assert ran(autograd.grad, c, b) == [*of_c, "b"]
    assert ran(autograd.grad, c, a) == [*of_c, *of_b, "a"]
    assert ran(autograd.grad, c, (a, b)) == [*of_c, *of_b, "a"]
    assert ran(c.backward) == [*of_c, *of_b, *of_a]
    assert ran(c.backward, inputs=(a, b)) == [*of_c, *of_b, *of_a]
    assert ran(c.backward, inputs=(b,)) == [*of_c, *of_b]
    assert ran(c.backward, inputs=(c,)) == of_c


def test_hooks_may_write_to_what_they_see():
    a, b = leaf(1.0), leaf(1.0)
    c = a + b
    c.grad_fn.register_prehook(lambda outputs: (outputs[0].mul_(2), None)[1])
    c.grad_fn.register_hook(
        lambda inputs, outputs: (inputs[0].mul_(3), outputs[0].zero_(), None)[2]
    )
    c.backward()
    assert (a.grad.item(), b.grad.item()) == (6.0, 2.0)


def test_hooks_of_parameters_that_are_no_inputs():
    x = leaf()
    for y in (x.clamp(0, 1.5), 5 - x, x % 2, torch.nn.functional.leaky_relu(x)):
        lengths = []
        y.grad_fn.register_hook(
            lambda gi, go, lengths=lengths: lengths.append(len(gi)) or (gi[0] * 2,)
        )
        y.sum().backward()
        assert lengths == [1] == [len(y.grad_fn.next_functions)]


def test_hooks_are_recorded_under_create_graph():
    x = leaf(3.0)
    y = x * x
    y.grad_fn.register_prehook(lambda outputs: (outputs[0] * x,))
    (g,) = autograd.grad(y, x, create_graph=True)  # 2 x^2
    assert autograd.grad(g, x)[0].item() == 12.0


@pytest.mark.parametrize(
    ("wrong", "error", "match"),
    [
        (lambda g: g + g, RuntimeError, r"incorrect number of values \(got (2|4), but expected"),
        (list, TypeError, "expected tuple, but hook returned 'list'"),
        (lambda g: g[0], TypeError, "expected tuple, but hook returned 'Tensor'"),
        (lambda g: ("a",) * len(g), TypeError, "expected Variable, but hook returned 'str'"),
        (lambda g: (g[0][:2], *g[1:]), RuntimeError, r"changed the size of value.*\[3\].*\[2\]"),
        (lambda g: (g[0].double(), *g[1:]), RuntimeError, "changed the type of value.*Double"),
    ],
)
def test_what_a_hook_must_not_return(wrong, error, match):
    for register in ("register_prehook", "register_hook"):
        x = leaf()
        y = x * 2
        getattr(y.grad_fn, register)(lambda *args: wrong(args[0]))
        with pytest.raises(error, match=match):
            y.sum().backward()
        assert x.grad is None


def test_nones_are_gradients_that_are_not_there():
    for register in ("register_prehook", "register_hook"):
        x = leaf()
        y = x * 2
        getattr(y.grad_fn, register)(lambda *args: (None,) * len(args[0]))
        y.sum().backward()
        assert x.grad is None


def test_a_gradient_that_is_not_there_cannot_be_replaced():
    y = leaf() * 2
    y.grad_fn.register_hook(lambda inputs, _: (inputs[0], torch.ones(3)))
    with pytest.raises(RuntimeError, match="can't replace a None gradient"):
        y.sum().backward()
    with pytest.raises(TypeError, match="callable"):
        y.grad_fn.register_hook(5)


def test_a_hook_that_raises_leaves_the_graph_usable():
    x = leaf()
    y = x * 2
    for register in (y.grad_fn.register_prehook, y.grad_fn.register_hook):
        handle = register(lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            y.sum().backward(retain_graph=True)
        handle.remove()
    y.sum().backward()
    assert x.grad.tolist() == [2.0] * 3


def test_calling_a_node_applies_its_rule():
    a, b = leaf(2.0), leaf(3.0)
    c = a * b
    c.grad_fn.register_prehook(lambda go: 1 / 0)
    assert [g.item() for g in c.grad_fn(torch.tensor([10.0]))] == [30.0, 20.0]
    e = a.exp()
    assert e.grad_fn(torch.ones(1)).item() == e.item()
    assert accumulator(a)(torch.ones(1)) == ()
    assert a.grad.item() == 1.0
    with pytest.raises(TypeError, match="expected 1 arguments, got 0"):
        c.grad_fn()
    with pytest.raises(TypeError, match="argument 0 is not a Variable"):
        c.grad_fn(5)
