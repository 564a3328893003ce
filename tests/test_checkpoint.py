"""`utils.checkpoint`: the same gradients for less memory, in both kinds."""

import gc
import warnings
import weakref

import pytest
import wengert as torch
from wengert.autograd import gradcheck, gradgradcheck
from wengert.utils.checkpoint import (
    CheckpointError,
    GraphExecGroup,
    checkpoint,
    checkpoint_sequential,
    noop_context_fn,
    set_checkpoint_debug_enabled,
    set_checkpoint_early_stop,
)

KINDS = pytest.mark.parametrize("use_reentrant", [False, True], ids=["hooks", "reentrant"])
EARLY = pytest.mark.parametrize("early_stop", [False, True], ids=["to the end", "early"])


def rand(*shape):
    return torch.rand(*shape, dtype=torch.float64, requires_grad=True)


class Counted:
    """A function that counts its calls."""

    def __init__(self, function):
        self.function = function
        self.calls = 0

    def __call__(self, *args, **kwargs):
        self.calls += 1
        return self.function(*args, **kwargs)


def chain(x):
    return x.sin().exp().cos().tanh()


# ---- both kinds ----------------------------------------------------------------------------------


@KINDS
def test_gradients_are_the_same(use_reentrant):
    x = rand(3)
    (expected,) = torch.autograd.grad(chain(x).sum(), x)
    function = Counted(chain)
    y = checkpoint(function, x, use_reentrant=use_reentrant)
    assert torch.equal(y, chain(x))
    assert function.calls == 1
    y.sum().backward()
    assert function.calls == 2
    assert torch.equal(x.grad, expected)


@KINDS
def test_parameters_of_a_closure_get_gradients(use_reentrant):
    w, x = rand(3, 3), rand(3)
    y = checkpoint(lambda x: (w @ x).tanh(), x, use_reentrant=use_reentrant)
    y.sum().backward()
    assert torch.allclose(w.grad, torch.autograd.grad((w @ x).tanh().sum(), w)[0])


@KINDS
def test_other_arguments_and_results(use_reentrant):
    def function(x, scale, nothing, *, flag=True):
        assert nothing is None
        assert flag
        return x * scale, "text", scale, x.exp()

    x = rand(3)
    first, text, scale, second = checkpoint(function, x, 2.0, None, use_reentrant=use_reentrant)
    assert (text, scale) == ("text", 2.0)
    (first + second).sum().backward()
    assert torch.allclose(x.grad, 2 + x.exp())


@KINDS
def test_random_numbers_are_the_same_again(use_reentrant):
    drawn = []

    def function(x):
        mask = torch.rand(3, dtype=torch.float64)
        drawn.append(mask)
        return x * mask * x

    x = rand(3)
    y = checkpoint(function, x, use_reentrant=use_reentrant)
    torch.manual_seed(5)
    y.sum().backward()
    assert torch.equal(drawn[0], drawn[1])
    assert torch.allclose(x.grad, 2 * x * drawn[0])


@KINDS
def test_random_numbers_may_be_others(use_reentrant):
    drawn = []

    def function(x):
        drawn.append(torch.rand(3, dtype=torch.float64))
        return x * drawn[-1] * x

    y = checkpoint(function, rand(3), use_reentrant=use_reentrant, preserve_rng_state=False)
    y.sum().backward()
    assert not torch.equal(drawn[0], drawn[1])


@KINDS
def test_backward_leaves_the_random_stream_alone(use_reentrant):
    y = checkpoint(lambda x: x * torch.rand(3) * x, rand(3), use_reentrant=use_reentrant)
    state = torch.get_rng_state()
    y.sum().backward()
    assert torch.equal(state, torch.get_rng_state())


@KINDS
def test_no_grad_around(use_reentrant):
    with torch.no_grad():
        y = checkpoint(chain, rand(3), use_reentrant=use_reentrant)
    assert not y.requires_grad


@KINDS
def test_an_error_of_the_function(use_reentrant):
    def fails(x):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        checkpoint(fails, rand(3), use_reentrant=use_reentrant)
    calls = []

    def fails_later(x):
        calls.append(x)
        if len(calls) > 1:
            raise ZeroDivisionError
        return x.exp()

    x = rand(3)
    y = checkpoint(fails_later, x, use_reentrant=use_reentrant)
    with pytest.raises(ZeroDivisionError):
        y.sum().backward()
    assert x.grad is None
    # Nothing is left behind: the next one works.
    checkpoint(chain, x, use_reentrant=use_reentrant).sum().backward()
    assert x.grad is not None


@KINDS
def test_an_argument_that_was_written_to(use_reentrant):
    x = rand(3)
    z = x * 2
    y = checkpoint(lambda z: z.exp() * z, z, use_reentrant=use_reentrant)
    with torch.no_grad():
        z.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


@KINDS
@pytest.mark.parametrize("segments", [1, 2, 3, 5])
def test_sequential(use_reentrant, segments):
    layers = [torch.sin, torch.exp, torch.cos, torch.tanh, torch.sigmoid]
    counted = [Counted(f) for f in layers]
    x = rand(3)
    y = checkpoint_sequential(counted, segments, x, use_reentrant=use_reentrant)
    expected = x
    for f in layers:
        expected = f(expected)
    assert torch.equal(y, expected)
    y.sum().backward()
    assert torch.allclose(x.grad, torch.autograd.grad(expected.sum(), x)[0])
    once = len(layers) - (len(layers) // segments) * (segments - 1)
    assert sum(f.calls for f in counted) == 2 * len(layers) - once


def test_sequential_with_children():
    class Model:
        def children(self):
            return iter([torch.sin, torch.exp])

    x = rand(3)
    y = checkpoint_sequential(Model(), 2, x, use_reentrant=False)
    assert torch.equal(y, x.sin().exp())


@pytest.mark.parametrize(
    "call",
    [
        lambda x: checkpoint(chain, x),
        lambda x: checkpoint_sequential([torch.sin], 1, x),
    ],
)
def test_the_kind_should_be_given(call):
    with pytest.warns(UserWarning, match="the use_reentrant parameter should be passed explicitly"):
        call(rand(3))


@KINDS
def test_memory_is_saved(use_reentrant):
    n, size = 20, 8 * 10_000

    def deep(x):
        for _ in range(n):
            x = x.sin()
        return x

    x = rand(10_000)
    before = torch._core.memory_stats()["allocated_bytes"]
    y = deep(x)
    plain = torch._core.memory_stats()["allocated_bytes"] - before
    assert plain >= n * size
    del y
    y = checkpoint(deep, x, use_reentrant=use_reentrant)
    kept = torch._core.memory_stats()["allocated_bytes"] - before
    # The result and the state of the random numbers.
    assert kept < 2 * size
    y.sum().backward()
    del y
    assert torch._core.memory_stats()["allocated_bytes"] - before < 2 * size  # the gradient


@KINDS
def test_nothing_leaks(use_reentrant):
    x = rand(10_000)
    for step in range(6):
        checkpoint(chain, x, use_reentrant=use_reentrant).sum().backward()
        x.grad = None
        gc.collect()
        if step == 1:
            before = torch._core.memory_stats()["allocated_bytes"]
    assert torch._core.memory_stats()["allocated_bytes"] <= before


# ---- the re-entrant kind alone -------------------------------------------------------------------


def test_reentrant_with_grad_or_inputs_is_refused():
    x = rand(3)
    text = r"incompatible with .grad\(\) or passing an `inputs` parameter to .backward\(\)"
    y = checkpoint(chain, x, use_reentrant=True)
    with pytest.raises(RuntimeError, match=text):
        torch.autograd.grad(y.sum(), x)
    y = checkpoint(chain, x, use_reentrant=True)
    with pytest.raises(RuntimeError, match=text):
        y.sum().backward(inputs=[x])
    checkpoint(chain, x, use_reentrant=True).sum().backward()


def test_reentrant_needs_an_input_that_requires_grad():
    w = rand(3)
    with pytest.warns(UserWarning, match="None of the inputs have requires_grad=True"):
        y = checkpoint(lambda x: x * w, torch.ones(3), use_reentrant=True)
    assert not y.requires_grad


def test_reentrant_needs_an_output_that_requires_grad():
    y = checkpoint(lambda x: x.detach() * 2, rand(3), use_reentrant=True)
    with pytest.raises(RuntimeError, match="none of output has requires_grad=True"):
        y.sum().backward()


def test_reentrant_takes_no_keywords():
    with pytest.raises(ValueError, match="Unexpected keyword arguments: a,b"):
        checkpoint(chain, rand(3), use_reentrant=True, a=1, b=2)
    with pytest.raises(ValueError, match="Passing `context_fn` or `debug` is only supported"):
        checkpoint(chain, rand(3), use_reentrant=True, debug=True)
    with pytest.raises(ValueError, match="Unexpected keyword arguments: a"):
        checkpoint_sequential([chain], 1, rand(3), use_reentrant=True, a=1)


# ---- the kind with hooks alone -------------------------------------------------------------------


@EARLY
def test_grad_inputs_and_keywords(early_stop):
    x, y = rand(3), rand(3)
    z = checkpoint(
        lambda x, *, y: (x * y).exp(), x, y=y, use_reentrant=False, early_stop=early_stop
    )
    gx, gy = torch.autograd.grad(z.sum(), (x, y))
    assert torch.allclose(gx, y * (x * y).exp())
    assert torch.allclose(gy, x * (x * y).exp())


@EARLY
@pytest.mark.parametrize("check", [gradcheck, gradgradcheck])
def test_it_can_be_differentiated_twice(check, early_stop):
    with set_checkpoint_early_stop(early_stop):
        assert check(lambda x: checkpoint(chain, x, use_reentrant=False), (rand(3),))


@EARLY
def test_a_graph_that_is_kept_is_computed_again_each_time(early_stop):
    function = Counted(chain)
    x = rand(3)
    y = checkpoint(function, x, use_reentrant=False, early_stop=early_stop)
    for calls in (2, 3, 4):
        x.grad = None
        y.sum().backward(retain_graph=True)
        assert function.calls == calls
        assert torch.allclose(x.grad, torch.autograd.grad(chain(x).sum(), x)[0])


def test_a_graph_that_is_not_kept_is_freed():
    x = rand(3)
    y = checkpoint(chain, x, use_reentrant=False).sum()
    y.backward()
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        y.backward()


@EARLY
def test_the_function_is_left_early(early_stop):
    reached = []

    def function(x):
        y = x.exp()  # the last operation that saves anything
        reached.append("exp")
        y = y.clone()
        reached.append("end")
        return y

    checkpoint(function, rand(3), use_reentrant=False, early_stop=early_stop).sum().backward()
    assert reached == ["exp", "end"] + ([] if early_stop else ["exp", "end"])


@EARLY
def test_the_block_overrules_the_argument(early_stop):
    function = Counted(lambda x: x.exp())
    ends = []

    def inner(x):
        y = function(x)
        ends.append(y)
        return y

    with set_checkpoint_early_stop(early_stop):
        y = checkpoint(inner, rand(3), use_reentrant=False, early_stop=not early_stop)
    y.sum().backward()
    assert len(ends) == (1 if early_stop else 2)


@EARLY
def test_nested(early_stop):
    counted = [Counted(torch.sin), Counted(torch.exp), Counted(torch.cos)]

    def inner(x):
        return counted[1](counted[0](x))

    def outer(x):
        return counted[2](checkpoint(inner, x, use_reentrant=False)).tanh()

    x = rand(3)
    with set_checkpoint_early_stop(early_stop):
        y = checkpoint(outer, x, use_reentrant=False)
        (found,) = torch.autograd.grad(y.sum(), x)
    assert torch.allclose(found, torch.autograd.grad(x.sin().exp().cos().tanh().sum(), x)[0])
    assert counted[2].calls == 2
    # Once forward, once for the outer one, once for the inner one.
    assert counted[0].calls == 3


def test_three_levels_and_two_passes():
    def level(k):
        def function(x):
            return chain(x) if k == 0 else checkpoint(level(k - 1), x.sin(), use_reentrant=False)

        return function

    def plain(x):
        return chain(x.sin().sin().sin())

    x = rand(3)
    y = checkpoint(level(3), x, use_reentrant=False)
    for _ in range(2):
        (found,) = torch.autograd.grad(y.sum(), x, retain_graph=True)
        assert torch.allclose(found, torch.autograd.grad(plain(x).sum(), x)[0])
    assert gradgradcheck(lambda x: checkpoint(level(2), x, use_reentrant=False), (x,))


@EARLY
@pytest.mark.parametrize("retain_graph", [False, True])
def test_backward_inside(early_stop, retain_graph):
    def function(x):
        y = x.sin()
        z = y.cos()
        (g,) = torch.autograd.grad(z.sum(), x, retain_graph=retain_graph)
        return x.cos() * g if not retain_graph else (x.cos() * g + z)

    x = rand(3)
    expected = torch.autograd.grad(function(x).sum(), x)[0]
    with set_checkpoint_early_stop(early_stop):
        y = checkpoint(function, x, use_reentrant=False)
    y.sum().backward()
    assert torch.allclose(x.grad, expected)


def test_two_outputs_differentiated_one_after_the_other():
    x = rand(3)
    function = Counted(lambda x: (x.sin().exp(), x.cos().exp()))
    a, b = checkpoint(function, x, use_reentrant=False)
    a.sum().backward(retain_graph=True)
    b.sum().backward()
    expected = (x.sin().exp() + x.cos().exp()).sum()
    assert torch.allclose(x.grad, torch.autograd.grad(expected, x)[0])
    assert function.calls == 3


def test_a_group_of_passes_computes_once():
    x = rand(3)
    function = Counted(lambda x: (x.sin().exp(), x.cos().exp()))
    a, b = checkpoint(function, x, use_reentrant=False, early_stop=False)
    with GraphExecGroup():
        a.sum().backward()
        b.sum().backward()
        with pytest.raises(RuntimeError, match="GraphExecGroup contexts cannot be nested"):
            GraphExecGroup().__enter__()
    assert function.calls == 2
    c = checkpoint(chain, x, use_reentrant=False).sum()
    with GraphExecGroup():
        c.backward(retain_graph=True)
        with pytest.raises(CheckpointError, match="Performing two backward calls that overlap"):
            c.backward()


def test_contexts():
    seen = []

    class Block:
        def __init__(self, name):
            self.name = name

        def __enter__(self):
            seen.append(f"enter {self.name}")

        def __exit__(self, *args):
            seen.append(f"exit {self.name}")

    def contexts():
        return Block("first"), Block("again")

    y = checkpoint(chain, rand(3), use_reentrant=False, context_fn=contexts)
    assert seen == ["enter first", "exit first"]
    y.sum().backward()
    assert seen[2:] == ["enter again", "exit again"]
    first, again = noop_context_fn()
    with first, again:
        pass


def test_a_context_that_hides_an_error():
    import contextlib

    def fails(x):
        raise ZeroDivisionError

    def contexts():
        return contextlib.suppress(ZeroDivisionError), contextlib.nullcontext()

    with pytest.raises(RuntimeError, match="context_fn suppressed an exception"):
        checkpoint(fails, rand(3), use_reentrant=False, context_fn=contexts)


def saving(*kinds):
    """A function that saves tensors of these shapes and dtypes, first, second, ... call."""
    kinds = iter(kinds)

    def function(x):
        for shape, dtype in next(kinds):
            x = (x.sum() * torch.ones(shape, dtype=dtype).requires_grad_()).exp().double().sum()
        return x

    return function


A, B, C = ((2,), torch.float64), ((3,), torch.float64), ((2,), torch.float32)


@EARLY
def test_fewer_tensors_than_the_first_time(early_stop):
    y = checkpoint(saving([A, A], [A]), rand(3), use_reentrant=False, early_stop=early_stop)
    with pytest.raises(CheckpointError, match="A different number of tensors was saved"):
        y.backward()


def test_more_tensors_than_the_first_time():
    y = checkpoint(saving([A], [A, A]), rand(3), use_reentrant=False, early_stop=False)
    with pytest.raises(CheckpointError, match="trying to save more tensors during recomputation"):
        y.backward()
    # Early on, what comes later is not seen.
    checkpoint(saving([A], [A, A]), rand(3), use_reentrant=False).backward()


@pytest.mark.parametrize("other", [B, C])
def test_other_tensors_than_the_first_time(other):
    y = checkpoint(saving([A], [other]), rand(3), use_reentrant=False)
    with pytest.raises(CheckpointError, match="have different metadata than during the forward"):
        y.backward()
    x = rand(3)
    y = checkpoint(lambda x: x.exp(), x, use_reentrant=False, determinism_check="none")
    y.sum().backward()
    with pytest.raises(ValueError, match=r"should be one of \['default', 'none'\], but got other"):
        checkpoint(chain, x, use_reentrant=False, determinism_check="other")


def test_debug_shows_what_was_saved():
    y = checkpoint(saving([A, A], [A]), rand(3), use_reentrant=False, debug=True)
    with pytest.raises(CheckpointError, match="because you passed `debug=True` to") as caught:
        y.backward()
    text = str(caught.value)
    assert "You are seeing this error because you passed `debug=True` to checkpoint" in text
    assert "(1 of " in text
    assert f"{__file__}:" in text
    with set_checkpoint_debug_enabled(True):
        y = checkpoint(saving([A, A], [A]), rand(3), use_reentrant=False)
    with pytest.raises(CheckpointError, match="debug=True"):
        y.backward()
    with set_checkpoint_debug_enabled(False):
        y = checkpoint(saving([A, A], [A]), rand(3), use_reentrant=False, debug=True)
    with pytest.raises(CheckpointError, match="A different number"):
        y.backward()
    with pytest.raises(ValueError, match="debug=True is incompatible with non-default context_fn"):
        checkpoint(
            chain, rand(3), use_reentrant=False, debug=True, context_fn=lambda: noop_context_fn()
        )


def test_only_the_graph_keeps_it_alive():
    class Thing:
        pass

    thing = Thing()
    known = weakref.ref(thing)
    x = rand(3)
    y = checkpoint(lambda x, thing: x.exp(), x, thing, use_reentrant=False)
    del thing
    assert known() is not None
    del y
    gc.collect()
    assert known() is None


def test_a_partial_backward_drops_what_is_not_needed():
    x = rand(1000)

    def function(x):
        return x.sin(), x.cos().exp()

    a, b = checkpoint(function, x, use_reentrant=False)
    del b
    gc.collect()
    a.sum().backward()
    assert torch.allclose(x.grad, x.cos())


def test_in_a_training_loop():
    torch.manual_seed(0)
    weights = [torch.randn(8, 8, dtype=torch.float64).mul_(0.5).requires_grad_() for _ in range(3)]
    twins = [w.detach().clone().requires_grad_() for w in weights]
    data = torch.randn(16, 8, dtype=torch.float64)

    def block(x, w):
        return torch.nn.functional.dropout((x @ w).tanh(), 0.1)

    for kind, ws in (("checkpointed", weights), ("plain", twins)):
        torch.manual_seed(1)
        for _ in range(5):
            x = data
            for w in ws:
                x = block(x, w) if kind == "plain" else checkpoint(block, x, w, use_reentrant=False)
            loss = (x * x).mean()
            loss.backward()
            with torch.no_grad():
                for w in ws:
                    w.sub_(w.grad * 0.5)
                    w.grad = None
    for w, twin in zip(weights, twins, strict=True):
        assert torch.equal(w, twin)


def test_no_warning_comes_from_it():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        checkpoint(chain, rand(3), use_reentrant=False).sum().backward()
        checkpoint(chain, rand(3), use_reentrant=True).sum().backward()
