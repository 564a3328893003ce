"""Functions in deep passes and long chains; how long contexts, and classes of functions, live."""

import gc
import sys
import threading
import weakref

import pytest
import wengert as torch
from functions import Square, function
from support import leaf
from wengert.autograd import Function

# -------------------------------------------------------------------- passes inside of passes


def test_backward_may_run_backward():
    inner = leaf(3.0)

    def backward(ctx, g):
        with torch.enable_grad():
            (inner * inner).backward()
        return g * inner.grad

    x = leaf(1.0)
    function(lambda ctx, x: x * 1, backward).apply(x).backward()
    assert inner.grad.tolist() == [6.0]
    assert x.grad.tolist() == [6.0]


def test_backward_may_differentiate_through_its_own_graph():
    def forward(ctx, x):
        with torch.enable_grad():
            ctx.x = x.detach().requires_grad_()
            ctx.y = ctx.x.exp()
        return ctx.y.detach()

    def backward(ctx, g):
        return torch.autograd.grad(ctx.y, ctx.x, g)

    x = leaf(0.5, 1.0)
    function(forward, backward).apply(x).sum().backward()
    assert x.grad.tolist() == x.exp().tolist()


class Nested(Function):
    """Runs backward through itself until the number is negative."""

    @staticmethod
    def forward(ctx, x):
        with torch.enable_grad():
            ctx.x = x.detach().requires_grad_() - 1
        return ctx.x.detach()

    @staticmethod
    def backward(ctx, g):
        if ctx.x < 0:
            return g
        with torch.enable_grad():
            Nested.apply(ctx.x).sum().backward()
        return g


def test_passes_nest_deeper_than_the_stack():
    x = leaf(2000.0)
    Nested.apply(x).sum().backward()
    assert x.grad.tolist() == [1.0]


def test_an_exception_finds_its_way_out_of_deep_passes():
    class Failing(Nested):
        @staticmethod
        def backward(ctx, g):
            if ctx.x < 0:
                raise LookupError("at the bottom")
            with torch.enable_grad():
                Failing.apply(ctx.x).sum().backward()
            return g

    with pytest.raises(LookupError, match="at the bottom"):
        Failing.apply(leaf(300.0)).sum().backward()


def test_a_long_chain_is_walked_and_freed_without_recursion():
    y = x = leaf(1.0)
    fn = function(lambda ctx, x: x + 1, lambda ctx, g: g)
    for _ in range(100_000):
        y = fn.apply(y)
    y.backward()
    assert x.grad.tolist() == [1.0]
    del y


def test_a_long_chain_of_attributes_is_freed_without_recursion():
    def forward(ctx, x, previous):
        ctx.previous = previous
        return x + 1

    fn = function(forward, lambda ctx, g: (g, None))
    y = leaf(1.0)
    for _ in range(50_000):
        y = fn.apply(y, y)
    del y


# -------------------------------------------------------------------------- lifetime, threads


def test_a_context_that_holds_its_own_output_is_collected():
    def forward(ctx, x):
        ctx.output = x * 2
        ctx.note = Note()
        return ctx.output

    class Note:
        pass

    y = function(forward, lambda ctx, g: g).apply(leaf())
    note = weakref.ref(y.grad_fn.note)
    del y
    gc.collect()
    assert note() is None


def test_a_context_dies_with_its_graph():
    class Note:
        pass

    def forward(ctx, x):
        ctx.note = Note()
        return x * 2

    y = function(forward, lambda ctx, g: g).apply(leaf())
    z = y.exp()
    note = weakref.ref(y.grad_fn.note)
    del y
    assert note() is not None
    del z
    assert note() is None


def test_inputs_of_a_finished_call_are_not_kept():
    x = leaf()
    middle = x * 1
    watch = weakref.ref(middle)
    y = function(lambda ctx, x: x * 2, lambda ctx, g: g).apply(middle)
    del middle
    assert watch() is None
    del y


def test_backward_on_another_thread():
    x = leaf(2.0)
    y = Square.apply(x)
    seen = []

    def work():
        y.backward()
        seen.append(threading.get_ident())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert x.grad.tolist() == [4.0]
    assert seen != [threading.get_ident()]


def test_reference_counts_of_arguments_are_settled():
    x, marker = leaf(), object()
    fn = function(lambda ctx, x, o: x * 2, lambda ctx, g: (g, None))
    fn.apply(x, marker).sum().backward()
    before = sys.getrefcount(marker), sys.getrefcount(x)
    for _ in range(10):
        fn.apply(x, marker).sum().backward()
    assert (sys.getrefcount(marker), sys.getrefcount(x)) == before


def test_a_class_of_functions_is_collected_with_its_contexts():
    def make():
        class MarkerError(Exception):
            pass

        error = MarkerError()

        def backward(ctx, g):
            return error

        error.y = function(lambda ctx, x: x * 2, backward).apply(leaf())
        return weakref.ref(error)

    watch = make()
    gc.collect()
    assert watch() is None


def test_the_collector_sees_each_reference_of_a_context_once():
    y = Square.apply(leaf())
    node = y.grad_fn
    node.note = {}
    assert gc.get_referents(node).count(type(node)) == 1
