"""Errors of autograd say what happened, at which lines, and what to do: word by word.

The twelve classic mistakes. Each text begins with the sentence that users search for.
"""

import copy
import inspect
import math
import pickle
import sys
import threading
import warnings

import numpy as np
import pytest
import wengert as torch
from support import leaf

FILE = __file__
FREED = (
    "Trying to backward through the graph a second time (or directly access saved tensors after "
    "they have already been freed). Saved intermediate values of the graph are freed when you call "
    ".backward() or autograd.grad(). Specify retain_graph=True if you need to backward through the "
    "graph a second time or if you need to access saved tensors after calling backward."
)
RETAIN = (
    "Fix: pass retain_graph=True to the first backward, or add the losses and call backward once. "
    "What a loop carries into its next round should be detach()ed."
)
NO_HISTORY = "element 0 of tensors does not require grad and does not have a grad_fn"
HOW_TO_RECORD = (
    "Fix: set requires_grad=True on what to differentiate by before computing with it; no_grad(), "
    "detach(), .data, .item() and NumPy on the way end the graph."
)
SCALAR = (
    "Converting a tensor with requires_grad=True to a scalar may lead to unexpected behavior.\n"
    "Consider using tensor.detach() first."
)


def line(offset=0):
    """The caller's line."""
    return sys._getframe(1).f_lineno + offset


def number_of(code, function):
    """The one line of a function with this text."""
    lines, start = inspect.getsourcelines(function)
    (number,) = [start + i for i, text in enumerate(lines) if text.strip() == code]
    return number


def at(code, function=None):
    """How the place of a line of a function, or of the calling test, is written."""
    within = function.__code__ if function else sys._getframe(1).f_code
    return f"{FILE}:{number_of(code, within)}, in {within.co_qualname}: {code}"


def message(error):
    return str(error.value)


def text(*lines):
    return "\n  ".join(lines)


def test_write_to_the_result_that_was_saved():
    x = leaf()
    y = x.exp()
    y.add_(1)
    with pytest.raises(RuntimeError) as error:
        y.sum().backward()
    assert message(error) == text(
        "one of the variables needed for gradient computation has been modified by an inplace "
        "operation: [torch.FloatTensor [3]], which is output 0 of Exp, is at version 1; expected "
        "version 0 instead.",
        "Exp needs the old value for its gradient. It ran at " + at("y = x.exp()"),
        "It was overwritten at " + at("y.add_(1)"),
        "Fix: write to a new tensor (y = y + 1 instead of y += 1), or give Exp a clone() of this "
        "one.",
    )


def test_write_to_an_operand_that_was_saved():
    w, x = leaf(), leaf()
    y = w * x
    with torch.no_grad():
        w.mul_(2)
        w[0] = 0
    with pytest.raises(RuntimeError) as error:
        y.sum().backward()
    assert message(error) == text(
        "one of the variables needed for gradient computation has been modified by an inplace "
        "operation: [torch.FloatTensor [3]] is at version 2; expected version 0 instead.",
        "Mul needs the old value for its gradient. It ran at " + at("y = w * x"),
        "It was overwritten 2 times, last at " + at("w[0] = 0"),
        "Fix: write to a new tensor (y = y + 1 instead of y += 1), or give Mul a clone() of this "
        "one.",
    )


def write_data(y):
    y.data.zero_()


def write_detached(y):
    y.detach().zero_()


def write_view(y):
    y.detach().view(3, 1)[1].zero_()


def write_out(y):
    with torch.no_grad():
        torch.add(y, 1, out=y)


@pytest.mark.parametrize(
    ("write", "code"),
    [
        (write_data, "y.data.zero_()"),
        (write_detached, "y.detach().zero_()"),
        (write_view, "y.detach().view(3, 1)[1].zero_()"),
        (write_out, "torch.add(y, 1, out=y)"),
    ],
)
def test_writes_by_any_way_are_named(write, code):
    y = leaf().exp()
    write(y)
    with pytest.raises(RuntimeError) as error:
        y.sum().backward()
    assert f"It was overwritten at {at(code, write)}" in message(error).split("\n  ")


def test_write_to_a_leaf():
    w = leaf()
    with pytest.raises(RuntimeError) as error:
        w += 1
    assert message(error) == text(
        "a leaf Variable that requires grad is being used in an in-place operation.",
        "add_ on the leaf of shape (3,) at " + at("w += 1"),
        "Fix: wrap it in `with no_grad():` to update a parameter, or write to a clone().",
    )


def test_write_to_a_view_of_a_leaf():
    w = leaf()
    v = w[:2]
    with pytest.raises(RuntimeError) as error:
        v.mul_(2)
    assert message(error) == text(
        "a view of a leaf Variable that requires grad is being used in an in-place operation.",
        "mul_ on a view of shape (2,) of the leaf of shape (3,) at " + at("v.mul_(2)"),
        "Slice made the view at " + at("v = w[:2]"),
        "Fix: wrap it in `with no_grad():` to update a parameter, or write to a clone() of the "
        "leaf.",
    )


def test_write_to_one_of_several_views():
    parts = (leaf() * 2).unbind()
    with pytest.raises(RuntimeError) as error:
        parts[0].add_(1)
    assert message(error) == text(
        "Output 0 of Unbind is a view and is being modified inplace. This view is the output of a "
        "function that returns multiple views. Such functions do not allow the output views to be "
        "modified inplace. You should replace the inplace operation by an out-of-place one.",
        "The write is at " + at("parts[0].add_(1)"),
        "Unbind made the view at " + at("parts = (leaf() * 2).unbind()"),
    )


def test_write_through_an_array():
    y = leaf().exp()
    y.detach().numpy()[:] = 0
    with pytest.raises(RuntimeError) as error:
        y.sum().backward()
    assert message(error).split("\n  ")[1:3] == [
        "Exp needs the old value for its gradient. It ran at " + at("y = leaf().exp()"),
        "A NumPy array over its memory was written to.",
    ]


@pytest.mark.parametrize("function", ["exp", "neg"])
def test_backward_twice(function):
    """Also where nothing was saved."""
    y = getattr(leaf(), function)().sum()
    y.backward()
    with pytest.raises(RuntimeError) as error:
        y.backward(torch.ones(()))
    made = at("y = getattr(leaf(), function)().sum()")
    assert message(error) == text(
        FREED,
        "The graph was freed by the backward at " + at("y.backward()"),
        f"Sum, part of it, ran at {made}",
        RETAIN,
    )


def test_a_loop_that_carries_its_graph():
    state, w = torch.zeros(2), leaf(1.0, 2.0)

    def rounds():
        nonlocal state
        for _ in range(2):
            state = (state * w).tanh()
            state.sum().backward()

    with pytest.raises(RuntimeError) as error:
        rounds()
    assert message(error) == text(
        FREED,
        "The graph was freed by the backward at " + at("state.sum().backward()", rounds),
        "Tanh, part of it, ran at " + at("state = (state * w).tanh()", rounds),
        RETAIN,
    )


def test_grad_after_backward():
    x = leaf()
    y = x.exp().sum()
    torch.autograd.grad(y, x)
    with pytest.raises(RuntimeError) as error:
        torch.autograd.grad(y, [x])
    freed = "The graph was freed by the backward at " + at("torch.autograd.grad(y, x)")
    assert freed in message(error).split("\n  ")


def test_backward_of_several_elements():
    y = leaf() * 2
    with pytest.raises(RuntimeError) as error:
        y.backward()
    assert message(error) == text(
        "grad can be implicitly created only for scalar outputs",
        "It has shape (3,) and was made by Mul at " + at("y = leaf() * 2"),
        "Fix: reduce it first, for example with .sum() or .mean(), or pass gradient=.",
    )
    with pytest.raises(RuntimeError) as error:
        leaf().backward()
    assert "It is a leaf of shape (3,)." in message(error)


def test_no_graph_of_plain_data():
    with pytest.raises(RuntimeError) as error:
        (torch.ones(2) * 2).sum().backward()
    assert message(error) == text(
        NO_HISTORY,
        "It is a tensor of shape () and type float32.",
        "It is plain data, or computed from tensors that do not require grad.",
        HOW_TO_RECORD,
    )


def test_no_graph_of_whole_numbers():
    with pytest.raises(RuntimeError) as error:
        leaf().argmax().backward()
    assert message(error) == text(
        NO_HISTORY,
        "It is a tensor of shape () and type int64.",
        "Fix: differentiate a floating-point tensor: whole numbers and truth values carry no "
        "gradient.",
    )


@pytest.mark.parametrize("way", ["detach", "data"])
def test_no_graph_of_a_detached_tensor(way):
    x = leaf()
    h = x.detach() if way == "detach" else x.data
    loss = (h * torch.ones(3)).sum()
    with pytest.raises(RuntimeError) as error:
        loss.backward()
    assert message(error) == text(
        NO_HISTORY,
        "It is a tensor of shape () and type float32.",
        "It was cut off from its graph by detach() at "
        + at('h = x.detach() if way == "detach" else x.data'),
        HOW_TO_RECORD,
    )


def test_no_graph_of_a_tensor_computed_without_recording():
    x = leaf()
    with torch.no_grad():
        h = x * 2
    loss = 1 - h.exp().sum()
    with pytest.raises(RuntimeError) as error:
        loss.backward()
    assert message(error) == text(
        NO_HISTORY,
        "It is a tensor of shape () and type float32.",
        "It was computed from tensors that require grad while recording was off, at "
        + at("h = x * 2"),
        HOW_TO_RECORD,
    )


def test_operations_without_gradient_are_not_blamed_on_the_mode():
    with pytest.raises(RuntimeError, match="It is plain data"):
        torch.zeros_like(leaf()).sum().backward()


def test_arrays():
    y = leaf() * 2
    for convert in (torch.Tensor.numpy, np.asarray):
        with pytest.raises(RuntimeError) as error:
            convert(y)
        assert message(error) == text(
            "Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead.",
            "It has shape (3,) and was made by Mul at " + at("y = leaf() * 2"),
            "No gradient would flow through the array.",
        )


@pytest.mark.parametrize(
    "convert",
    [
        lambda y: float(y),
        lambda y: math.sin(y),
        lambda y: torch.tensor([y]),
    ],
)
def test_numbers(convert):
    y = leaf().sum()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(3):
            convert(y)
    assert len(caught) == 1, "once per line"
    number = convert.__code__.co_firstlineno
    assert (caught[0].filename, caught[0].lineno) == (FILE, number)
    assert str(caught[0].message) == text(
        SCALAR,
        "It has shape () and was made by Sum at " + at("y = leaf().sum()"),
        "No gradient flows through the number.",
    )


def test_tensor_of_a_tensor():
    with pytest.warns(UserWarning, match="it is recommended to use sourceTensor.detach"):
        torch.tensor(leaf() * 2)


def test_deepcopy():
    y = leaf() * 2
    with pytest.raises(RuntimeError) as error:
        copy.deepcopy([y])
    assert message(error) == text(
        "Only Tensors created explicitly by the user (graph leaves) support the deepcopy protocol "
        "at the moment.",
        "It has shape (3,) and was made by Mul at " + at("y = leaf() * 2"),
        "Fix: copy x.detach(), or x.clone() to stay in the graph.",
    )


@pytest.mark.parametrize("copied", [copy.copy, lambda t: pickle.loads(pickle.dumps(t))])
def test_copies_without_their_graph(copied):
    y = leaf() * 2
    with pytest.warns(UserWarning, match="drops its graph") as caught:
        other = copied(y)
    assert str(caught[0].message) == text(
        "copying or pickling a computed tensor drops its graph: the copy is a leaf that requires "
        "grad.",
        "It has shape (3,) and was made by Mul at " + at("y = leaf() * 2"),
        "Fix: copy x.detach(), or x.clone() to stay in the graph.",
    )
    assert other.is_leaf
    assert other.requires_grad
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        copied(leaf())


def test_whole_numbers_that_should_require_grad():
    whole = torch.tensor([1, 2])
    story = text(
        "",
        "This one is of type int64.",
        "Fix: make it floating first, for example with .float() or dtype=torch.float32.",
    )
    with pytest.raises(RuntimeError) as error:
        whole.requires_grad_()
    assert message(error) == "only Tensors of floating point dtype can require gradients" + story
    with pytest.raises(RuntimeError) as error:
        whole.requires_grad = True
    several = "nly Tensors of floating point and complex dtype can require gradients" + story
    assert message(error) == "o" + several
    for make in (torch.ones, torch.tensor):
        with pytest.raises(RuntimeError) as error:
            make([1, 2], dtype=torch.int64, requires_grad=True)
        assert message(error) == "O" + several
    assert not whole.requires_grad_(False).requires_grad


def test_the_gradient_of_a_leaf_before_backward():
    w = leaf()
    with pytest.raises(AttributeError) as error:
        w.grad.zero_()
    assert message(error) == text(
        "'NoneType' object has no attribute 'zero_'",
        "The .grad of this leaf of shape (3,) is None: no backward has reached it since it was "
        "made or its .grad was set to None.",
        "It is used at " + at("w.grad.zero_()"),
        "Fix: call backward() first; to reset a gradient set .grad to None, as zero_grad() of an "
        "optimizer does.",
    )
    with pytest.raises(AttributeError, match=r"no attribute 'data'\n"):
        _ = w.grad.data


def test_gradients_that_are_none_can_be_looked_at():
    w = leaf()
    for _ in range(2):
        assert w.grad is None
        assert w.grad.__class__ is type(None)
        assert getattr(w.grad, "zero_", 5) == 5
        grad = w.grad
    with pytest.raises(AttributeError) as error:
        grad.zero_()
    assert message(error) == "'NoneType' object has no attribute 'zero_'"


def test_types_and_devices_that_do_not_go_together():
    a, b = torch.ones(2, 2), torch.ones(2, 2, dtype=torch.float64)
    with pytest.raises(RuntimeError) as error:
        a @ b
    assert message(error) == (
        "expected m1 and m2 to have the same dtype, but got: float != double; convert one of them, "
        "for example with .to(wengert.float32) from float64"
    )
    with pytest.raises(RuntimeError) as error:
        a.to("cuda")
    assert message(error) == "wengert runs on the CPU only: there is no device 'cuda' (use 'cpu')"


def test_shapes_that_do_not_go_together():
    with pytest.raises(RuntimeError) as error:
        torch.ones(3) + torch.ones(4)
    assert message(error) == (
        "The size of tensor a (3) must match the size of tensor b (4) at non-singleton dimension 0 "
        "(add of shapes (3,) and (4,))"
    )


# ------------------------------------------------------------------------------------- places


def origin_of(tensor):
    return tensor.grad_fn.origin


def test_nodes_know_their_line():
    x = leaf()
    y = x * 2
    assert origin_of(y) == (FILE, line(-1), "test_nodes_know_their_line")
    z = (
        x.exp()
    )  # fmt: skip
    assert origin_of(z)[1] == line(-2)
    w = [t.exp() for t in (x,)][0]  # noqa: RUF015
    assert origin_of(w)[:2] == (FILE, line(-1))
    assert y.grad_fn.next_functions[0][0].origin is None, "leaves were not recorded"


def test_every_form_of_a_call_knows_its_line():
    x = leaf()
    made = [
        torch.exp(x),
        x.exp(),
        x + 1,
        2 - x,
        -x,
        x[0],
        x.T,
        torch.nn.functional.relu(x),
        x.clone().mul_(2),
    ]
    assert [origin_of(t)[1] for t in made] == list(range(line(-10), line(-1)))


def test_lines_in_generators_threads_and_made_code():
    x = leaf()

    def generator():
        yield x * 2

    assert origin_of(next(generator()))[1:] == (
        line(-3),
        "test_lines_in_generators_threads_and_made_code.<locals>.generator",
    )
    found = []
    thread = threading.Thread(target=lambda: found.append(origin_of(x * 2)))
    thread.start()
    thread.join()
    assert found[0][:2] == (FILE, line(-3))
    names = {"x": x}
    exec(compile("\n\ny = x * 2", "made.py", "exec"), names)
    assert origin_of(names["y"]) == ("made.py", 3, "<module>")


def test_large_operations_know_their_line():
    """They run without the interpreter lock."""
    x = torch.ones(1 << 19, requires_grad=True)
    y = (x * x).tanh()
    assert origin_of(y)[:2] == (FILE, line(-1))
    assert y.grad_fn.next_functions[0][0].origin[:2] == (FILE, line(-2))


def test_second_derivatives_know_the_line_of_their_pass():
    x = leaf()
    (g,) = torch.autograd.grad((x**3).sum(), x, create_graph=True)
    assert origin_of(g)[:2] == (FILE, line(-1))


def test_code_of_the_package_is_passed_over():
    x = leaf(1.0).double().detach().requires_grad_()
    seen = []

    def function(t):
        seen.append(t * 2)
        return seen[-1]

    torch.autograd.gradcheck(function, (x,))
    assert {origin_of(t)[:2] for t in seen if t.grad_fn} == {(FILE, line(-4))}


def test_the_official_way_knows_the_same_lines(isolated):
    code = """
import wengert._core as core
def f(x):
    return (
        x
        * x
    )
def look():
    x = torch.ones(3, requires_grad=True)
    nodes = [f(x), x.exp(), torch.stack([t + 1 for t in (x, x)])]
    places = [t.grad_fn.origin[1:] for t in nodes]
    return places + [nodes[2].grad_fn.next_functions[1][0].origin[1:]]
fast = look()
assert core._sites_are_fast(), 'the layout of frames was not found'
core._make_sites_slow()
result = [fast, look()]
"""
    fast, slow = isolated.value(code)
    assert fast == slow
    assert [function for _, function in fast[:3]] == ["f", "look", "look"]
    assert fast[3][1] in ("look", "look.<locals>.<listcomp>")  # since 3.12 the former


def test_many_places_do_not_make_memory_grow():
    """Code that is made again and again is forgotten, and what is remembered is right."""
    x = leaf()
    source = "def f(x):\n" + "".join(f"    y{i} = x * 2\n" for i in range(100)) + "    return y99"
    for round_ in range(700):
        names = {}
        exec(compile(source, f"made{round_}.py", "exec"), names)
        y = names["f"](x)
        assert origin_of(y) == (f"made{round_}.py", 101, "f")
