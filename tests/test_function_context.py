"""The context of an `autograd.Function`: what it saves, what it is as a node."""

import copy
import warnings
import weakref

import pytest
import wengert as torch
from functions import MulAdd, Square, SquareLater, function
from support import leaf
from wengert.autograd import Function, gradcheck, gradgradcheck
from wengert.autograd.function import (
    BackwardCFunction,
    FunctionCtx,
    NestedIOFunction,
    once_differentiable,
)

# ----------------------------------------------------------------------------------- saving


def test_saved_tensors_are_the_tensors_that_were_saved():
    x = leaf()
    y = x * 1

    def forward(ctx, x, y):
        ctx.save_for_backward(x, None, y)
        return x * y

    z = function(forward, lambda ctx, g: (g, g)).apply(x, y)
    a, nothing, b = z.grad_fn.saved_tensors
    assert a is x
    assert nothing is None
    assert b is y


def test_nothing_is_saved_before_the_end_of_forward():
    def forward(ctx, x):
        ctx.save_for_backward(x)
        assert ctx.saved_tensors == ()
        assert ctx.to_save == (x,)
        return x * 2

    y = function(forward).apply(leaf())
    assert y.grad_fn.to_save is None


def test_a_saved_output_has_its_history_again():
    def forward(ctx, x):
        y = x.exp()
        ctx.save_for_backward(y)
        return y

    exp = function(forward, lambda ctx, g: g * ctx.saved_tensors[0])
    x = torch.tensor([0.1, 0.2], dtype=torch.float64, requires_grad=True)
    y = exp.apply(x)
    assert y.grad_fn.saved_tensors[0].grad_fn is y.grad_fn
    assert gradcheck(exp.apply, x)
    assert gradgradcheck(exp.apply, x)


def test_an_intermediate_result_can_be_saved():
    def forward(ctx, x):
        middle = x * 3
        ctx.save_for_backward(middle)
        return middle * x

    fn = function(forward, lambda ctx, g: 2 * ctx.saved_tensors[0] * g)
    x = leaf(2.0)
    fn.apply(x).sum().backward()
    assert x.grad.tolist() == [12.0]


def test_only_tensors_can_be_saved():
    def forward(ctx, x):
        ctx.save_for_backward(x, 3)
        return x * 2

    message = "save_for_backward can only save variables, but argument 1 is of type int"
    with pytest.raises(TypeError, match=message):
        function(forward).apply(leaf())


@pytest.mark.parametrize("kind", ["input", "output"])
def test_writing_to_what_was_saved_is_noticed(kind):
    def forward(ctx, x):
        y = x * 2
        ctx.save_for_backward(x if kind == "input" else y)
        return y

    fn = function(forward, lambda ctx, g: g * ctx.saved_tensors[0])
    x = leaf().clone()
    y = fn.apply(x)
    with torch.no_grad():
        (x if kind == "input" else y).add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_what_was_saved_is_freed_after_backward():
    kept = []

    def forward(ctx, x):
        middle = x * 3
        kept.append(weakref.ref(middle))
        ctx.save_for_backward(middle)
        return x * 2

    y = function(forward, lambda ctx, g: g * ctx.saved_tensors[0]).apply(leaf())
    y.sum().backward(retain_graph=True)
    node = y.grad_fn
    assert len(node.saved_tensors) == 1
    y.sum().backward()
    assert kept[0]() is None
    with pytest.raises(RuntimeError, match="Trying to backward through the graph a second time"):
        node.saved_tensors  # noqa: B018
    with pytest.raises(RuntimeError, match="a second time"):
        y.sum().backward()


def test_a_function_that_saved_nothing_can_be_walked_twice():
    x = leaf(1.0)
    y = function(lambda ctx, x: x * 2, lambda ctx, g: g * 2).apply(x)
    y.backward()
    y.backward()
    assert x.grad.tolist() == [4.0]


def test_saved_variables_is_the_old_name():
    y = Square.apply(leaf())
    with pytest.warns(DeprecationWarning, match="use 'saved_tensors'"):
        assert len(y.grad_fn.saved_variables) == 1


def test_saved_tensors_can_be_freed_early():
    counts = []

    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        ctx.maybe_clear_saved_tensors()
        try:
            counts.append(len(ctx.saved_tensors))
        except RuntimeError:
            counts.append("freed")
        return g * x

    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * 2

    y = function(forward, backward).apply(leaf())
    y.sum().backward(retain_graph=True)
    y.sum().backward()
    assert counts == [1, "freed"]


def test_clear_saved_tensors_on_access():
    def forward(ctx, x):
        ctx.save_for_backward(x * 3)
        return x * 2

    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        with pytest.raises(RuntimeError, match="can only be accessed once"):
            ctx.saved_tensors  # noqa: B018
        return g * x

    fn = function(forward, backward, clear_saved_tensors_on_access=True)
    x = leaf(1.0)
    fn.apply(x).sum().backward()
    assert x.grad.tolist() == [3.0]


def test_boxed_grads_call():
    def backward(ctx, grads):
        first, second = grads
        grads.clear()
        return first + second

    fn = function(lambda ctx, x: (x * 1, x * 1), backward, boxed_grads_call=True)
    x = leaf(1.0)
    torch.cat(fn.apply(x)).sum().backward()
    assert x.grad.tolist() == [2.0]


@pytest.mark.parametrize("flag", ["clear_saved_tensors_on_access", "boxed_grads_call"])
def test_flags_of_the_class_are_truth_values(flag):
    with pytest.raises(RuntimeError, match=f"{flag} must be a bool, got int"):
        function(lambda ctx, x: x, **{flag: 1}).apply(leaf())


# ---------------------------------------------------------------------------- the other style


def test_setup_context_sees_all_arguments_and_the_output():
    seen = {}

    class Scale(Function):
        @staticmethod
        def forward(x, factor=2.0):
            return x * factor

        @staticmethod
        def setup_context(ctx, inputs, output):
            seen["inputs"], seen["output"] = inputs, output
            ctx.factor = inputs[1]

        @staticmethod
        def backward(ctx, g):
            return g * ctx.factor, None

    x = leaf()
    y = Scale.apply(x)
    assert seen["inputs"] == (x, 2.0)
    assert seen["output"] is y
    Scale.apply(x, factor=5.0).sum().backward()
    assert x.grad.tolist() == [5.0, 5.0, 5.0]


def test_keywords_have_a_place_in_both_styles():
    fn = function(lambda ctx, x, n=1: x * n, lambda ctx, g: (g, None))
    assert fn.apply(leaf(2.0), n=3).tolist() == [6.0]
    assert fn.apply(n=3, x=leaf(2.0)).tolist() == [6.0]
    with pytest.raises(TypeError, match="unexpected keyword argument 'z'"):
        fn.apply(leaf(), z=1)
    with pytest.raises(TypeError, match="multiple values for argument 'x'"):
        fn.apply(leaf(), x=1)
    with pytest.raises(TypeError, match="missing required argument: 'x'"):
        fn.apply(n=2)


def test_missing_arguments_are_named():
    with pytest.raises(TypeError, match="missing a required argument: 'x'"):
        SquareLater.apply()
    with pytest.raises(TypeError, match="too many positional arguments"):
        SquareLater.apply(leaf(), 1)
    with pytest.raises(TypeError, match="forward"):
        Square.apply()


def test_any_number_of_arguments():
    class Total(Function):
        @staticmethod
        def forward(*xs):
            return sum(xs)

        @staticmethod
        def setup_context(ctx, inputs, output):
            ctx.count = len(inputs)

        @staticmethod
        def backward(ctx, g):
            return (g,) * ctx.count

    xs = [leaf(1.0) for _ in range(300)]
    Total.apply(*xs).backward()
    assert all(x.grad.tolist() == [1.0] for x in xs)


def test_an_input_that_is_returned_must_not_be_saved_afterwards():
    class Identity(Function):
        @staticmethod
        def forward(x):
            return x

        @staticmethod
        def setup_context(ctx, inputs, output):
            ctx.save_for_backward(output)

    with pytest.raises(RuntimeError, match="returned as-is as output is being saved for backward"):
        Identity.apply(leaf())


# --------------------------------------------------------------------------------- the context


def test_grad_fn_is_the_context():
    contexts = []

    def forward(ctx, x):
        contexts.append(weakref.ref(ctx))
        ctx.mark = "here"
        return x * 2

    y = function(forward, lambda ctx, g: g).apply(leaf())
    node = y.grad_fn
    assert node is contexts[0]()
    assert node is (y * 1).grad_fn.next_functions[0][0]
    assert node.mark == "here"
    assert type(node).__name__ == "CustomBackward"
    assert isinstance(node, BackwardCFunction)
    assert isinstance(node, FunctionCtx)
    assert isinstance(node, torch.autograd.graph.Node)
    assert not isinstance(node, Function)


def test_the_context_is_a_node_like_any():
    x = leaf()
    y = MulAdd.apply(x, 2, x.detach())
    node = y.grad_fn
    assert node.name() == "MulAddBackward"
    assert "grad_fn=<MulAddBackward>" in repr(y)
    ((first, number), second) = node.next_functions
    assert first.variable is x
    assert number == 0
    assert second == (None, 0)
    assert node.metadata == {}
    node.metadata["a"] = 1
    assert y.grad_fn.metadata == {"a": 1}
    assert node._sequence_nr() < (y * 1).grad_fn._sequence_nr()
    assert [tuple(m.shape) for m in node._input_metadata] == [(3,)]


def test_hooks_on_the_context():
    x = leaf(1.0)
    y = Square.apply(x)
    calls = []
    y.grad_fn.register_prehook(lambda grads: calls.append("pre") or (grads[0] * 10,))
    y.grad_fn.register_hook(lambda gi, go: calls.append("post") or (gi[0] + 1,))
    y.sum().backward()
    assert calls == ["pre", "post"]
    assert x.grad.tolist() == [21.0]


def test_the_node_can_be_called():
    x = leaf(3.0)
    y = Square.apply(x)
    assert y.grad_fn.apply(torch.ones(1)).tolist() == [6.0]


def test_a_node_that_was_asked_for_outlives_its_tensor():
    x = leaf(2.0)
    y = Square.apply(x)
    node = y.grad_fn
    del y
    assert node.next_functions[0][0].variable is x
    assert node.saved_tensors[0] is x
    assert node.name() == "SquareBackward"


def test_a_context_can_be_made_by_hand():
    ctx = FunctionCtx()
    x = torch.ones(2)
    ctx.save_for_backward(x)
    ctx.note = 3
    assert ctx.to_save == (x,)
    assert ctx.note == 3


def test_contexts_are_not_copied():
    with pytest.raises(TypeError):
        copy.copy(Square.apply(leaf()).grad_fn)


def test_mark_shared_storage_does_nothing():
    with pytest.warns(FutureWarning, match="deprecated"):
        FunctionCtx().mark_shared_storage(())


def test_functions_are_not_instantiated():
    with pytest.warns(DeprecationWarning, match="should not be instantiated"):
        old = Square()
    with pytest.raises(RuntimeError, match="Legacy autograd function with non-static forward"):
        old(leaf())


def test_classes_can_be_derived():
    class Cube(Square):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x**3

        @staticmethod
        def backward(ctx, g):
            return 1.5 * ctx.saved_tensors[0] * Square.backward(ctx, g)

    x = leaf(2.0)
    y = Cube.apply(x)
    assert y.grad_fn.name() == "CubeBackward"
    y.backward()
    assert x.grad.tolist() == [12.0]


def test_methods_may_be_replaced_after_the_class_was_made(monkeypatch):
    monkeypatch.setattr(Square, "forward", staticmethod(lambda ctx, x: x + 100))
    assert Square.apply(leaf(1.0)).tolist() == [101.0]


def test_functions_with_nested_arguments_of_old():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        old = NestedIOFunction()
    a, b, c = torch.ones(1), torch.ones(2), torch.ones(3)
    old.save_for_backward(a, [b, (c, None)])
    assert old.to_save == (a, b, c)


# ------------------------------------------------------------------------- once differentiable


def test_once_differentiable_runs_unrecorded_and_refuses_the_second_time():
    recording = []

    class Once(Square):
        @staticmethod
        @once_differentiable
        def backward(ctx, g):
            recording.append(torch.is_grad_enabled())
            return Square.backward(ctx, g)

    x = leaf(1.0, 2.0)
    (g,) = torch.autograd.grad(Once.apply(x).sum(), x)
    assert g.tolist() == [2.0, 4.0]
    grad_output = torch.ones(2, requires_grad=True)
    (g,) = torch.autograd.grad(Once.apply(x), x, grad_output, create_graph=True)
    assert recording == [False, False]
    assert g.requires_grad
    with pytest.raises(RuntimeError, match="trying to differentiate twice a function that was"):
        g.sum().backward()


def test_once_differentiable_with_several_gradients_and_none():
    class Once(MulAdd):
        @staticmethod
        @once_differentiable
        def backward(ctx, g):
            return MulAdd.backward(ctx, g)

    x, y = leaf(1.0), leaf(2.0)
    z = Once.apply(x, 3, y)
    gx, gy = torch.autograd.grad(z, (x, y), torch.ones(1, requires_grad=True), create_graph=True)
    assert gx.grad_fn.name() == "Error"
    assert gx.grad_fn is gy.grad_fn
    assert len(gx.grad_fn.next_functions) == 2
