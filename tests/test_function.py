"""`autograd.Function`: derivatives, what a call returns, and which mistakes are caught."""

import pytest
import wengert as torch
from functions import MulAdd, Square, SquareLater, function, returning
from support import leaf
from wengert.autograd import Function, gradcheck, gradgradcheck
from wengert.autograd.function import InplaceFunction

BOTH_STYLES = pytest.mark.parametrize("square", [Square, SquareLater])


# ------------------------------------------------------------------------------- derivatives


@BOTH_STYLES
def test_the_gradient_is_what_backward_returns(square):
    x = leaf()
    square.apply(x).sum().backward()
    assert x.grad.tolist() == [2.0, 4.0, 6.0]


@BOTH_STYLES
def test_backward_is_differentiable_like_any_code(square):
    x = torch.tensor([0.5, -1.5], dtype=torch.float64, requires_grad=True)
    assert gradcheck(square.apply, x)
    assert gradgradcheck(square.apply, x)


def test_arguments_that_are_no_tensors_have_no_gradient():
    x, y = leaf(1.0, 2.0), leaf(3.0, 4.0)
    MulAdd.apply(x, 2, y).sum().backward()
    assert x.grad.tolist() == [4.0, 5.0]
    assert y.grad.tolist() == [3.0, 4.0]


def test_gradients_of_several_arguments_can_be_differentiated_again():
    x = torch.tensor([0.3, 0.7], dtype=torch.float64, requires_grad=True)
    y = torch.tensor([1.1, -0.2], dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda x, y: MulAdd.apply(x, 3, y), (x, y))
    assert gradgradcheck(lambda x, y: MulAdd.apply(x, 3, y), (x, y))


def test_vjp_is_another_name_of_backward():
    double = function(lambda ctx, x: x * 2, vjp=staticmethod(lambda ctx, g: g * 2))
    x = leaf()
    double.apply(x).sum().backward()
    assert x.grad.tolist() == [2.0, 2.0, 2.0]


def test_having_both_names_is_refused():
    both = function(lambda ctx, x: x * 2, lambda ctx, g: g, vjp=staticmethod(lambda ctx, g: g))
    with pytest.raises(RuntimeError, match="Implementing both 'backward' and 'vjp'"):
        both.apply(leaf()).sum().backward()


def test_no_gradient_is_none_and_not_zero():
    x = leaf()
    nothing = returning(None)
    nothing.apply(x).sum().backward()
    assert x.grad is None
    assert torch.autograd.grad(nothing.apply(x).sum(), x, allow_unused=True) == (None,)


def test_functions_pass_nothing_on_as_zeros():
    seen = []

    def backward(ctx, g):
        seen.append(g)
        return g

    x = leaf(1.0, 2.0)
    watched = function(lambda ctx, x: x.clone(), backward)
    returning(None).apply(watched.apply(x)).sum().backward()
    assert seen[0].tolist() == [0.0, 0.0]


def test_a_gradient_is_summed_over_what_was_broadcast():
    add = function(lambda ctx, a, b: a + b, lambda ctx, g: (g, g))
    a, b = torch.ones(2, 3, requires_grad=True), torch.ones(3, requires_grad=True)
    add.apply(a, b).sum().backward()
    assert b.grad.tolist() == [2.0, 2.0, 2.0]


def test_a_gradient_is_summed_over_an_axis_of_what_was_saved():
    def forward(ctx, x, weights):
        ctx.save_for_backward(weights)
        return x * weights.sum()

    fn = function(forward, lambda ctx, g: (g * ctx.saved_tensors[0], None))
    x = leaf(2.0)
    fn.apply(x, torch.arange(4.0)).sum().backward()
    assert x.grad.tolist() == [6.0]


def test_a_gradient_of_another_type_is_converted():
    x = leaf(1.0, 2.0)
    returning(torch.ones(2, dtype=torch.float64)).apply(x).sum().backward()
    assert x.grad.dtype == torch.float32


def test_gradients_that_are_left_over_must_be_none():
    x = leaf(1.0, 2.0)
    returning((torch.ones(2), None, None)).apply(x).sum().backward()
    assert x.grad.tolist() == [1.0, 1.0]


# ------------------------------------------------------------------------------ errors in backward


@pytest.mark.parametrize(
    ("gradient", "message"),
    [
        (
            (torch.ones(2), 3),
            r"function CustomBackward returned an incorrect number of gradients "
            r"\(expected 1, got 2\)",
        ),
        ((), r"incorrect number of gradients \(expected 1, got 0\)"),
        (3.0, r"expected Variable or None \(got float\)"),
        ([torch.ones(2)], r"expected Variable or None \(got list\)"),
        (
            torch.ones(3),
            r"Function CustomBackward returned an invalid gradient at index 0 - got \[3\] but "
            r"expected shape compatible with \[2\]",
        ),
        (torch.ones(1), r"got \[1\] but expected shape compatible with \[2\]"),
        (torch.ones(7, 2), r"got \[7, 2\] but expected shape compatible with \[2\]"),
    ],
)
def test_what_backward_returns_is_checked(gradient, message):
    y = returning(gradient).apply(leaf(1.0, 2.0))
    with pytest.raises(RuntimeError, match=message):
        y.sum().backward()


def test_seven_gradients_for_one_element_are_a_mistake():
    y = returning(torch.ones(7)).apply(leaf(1.0))
    with pytest.raises(RuntimeError, match=r"got \[7\] but expected shape compatible with \[1\]"):
        y.sum().backward()


def test_a_gradient_for_an_argument_that_is_no_tensor_is_refused():
    fn = function(lambda ctx, x, n: x * n, lambda ctx, g: (g, 3))
    with pytest.raises(RuntimeError, match="gradient different than None at position 2"):
        fn.apply(leaf(), 2).sum().backward()


def test_exceptions_keep_their_class_and_object():
    class MineError(Exception):
        pass

    error = MineError("boom")

    def backward(ctx, g):
        raise error

    y = function(lambda ctx, x: x * 2, backward).apply(leaf())
    with pytest.raises(MineError) as caught:
        y.sum().backward()
    assert caught.value is error


def test_an_exception_in_forward_leaves_nothing_behind():
    def forward(ctx, x):
        ctx.save_for_backward(x)
        raise KeyError("no")

    x = leaf()
    with pytest.raises(KeyError):
        function(forward).apply(x)
    assert torch.is_grad_enabled()
    assert x.is_leaf


def test_a_failed_backward_can_be_tried_again():
    fails = [True]

    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        if fails.pop():
            fails.append(False)
            raise ValueError("once")
        return 2 * x * g

    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    x = leaf()
    y = function(forward, backward).apply(x)
    with pytest.raises(ValueError, match="once"):
        y.sum().backward()
    assert x.grad is None
    y.sum().backward()
    assert x.grad.tolist() == [2.0, 4.0, 6.0]


def test_missing_methods_are_named():
    class Empty(Function):
        pass

    with pytest.raises(NotImplementedError, match="You must implement the forward function"):
        Empty.apply(leaf())
    y = function(lambda ctx, x: x * 2).apply(leaf())
    with pytest.raises(NotImplementedError, match="either the backward or vjp method"):
        y.sum().backward()


# --------------------------------------------------------------------------------- grad mode


def test_forward_runs_unrecorded_and_backward_as_create_graph_says():
    seen = []

    def forward(ctx, x):
        seen.append(torch.is_grad_enabled())
        return x * 2

    def backward(ctx, g):
        seen.append(torch.is_grad_enabled())
        return g * 2

    x = leaf()
    y = function(forward, backward).apply(x)
    torch.autograd.grad(y.sum(), x, retain_graph=True)
    torch.autograd.grad(y.sum(), x, create_graph=True)
    assert seen == [False, False, True]


def test_without_recording_there_is_no_node():
    x = leaf()
    with torch.no_grad():
        assert Square.apply(x).grad_fn is None
    assert Square.apply(x.detach()).grad_fn is None


def test_needs_input_grad_says_which_arguments_require_grad():
    seen = []

    def forward(ctx, *args):
        seen.append(ctx.needs_input_grad)
        return args[0] * args[2]

    def backward(ctx, g):
        seen.append(ctx.needs_input_grad)
        return g, None, g, None

    x, y = leaf(), leaf()
    fn = function(forward, backward)
    fn.apply(x, 2, y.detach(), "text").sum().backward()
    assert seen == [(True, False, False, False)] * 2


# ----------------------------------------------------------------------------------- outputs


def test_several_outputs_and_gradients_that_are_zero():
    seen = []

    def backward(ctx, g, h):
        seen.append(h)
        return g * 2

    split = function(lambda ctx, x: (x * 2, x * 3), backward)
    x = leaf()
    first, second = split.apply(x)
    assert first.grad_fn is second.grad_fn
    assert (first.output_nr, second.output_nr) == (0, 1)
    first.sum().backward()
    assert seen[0].tolist() == [0.0, 0.0, 0.0]


def test_zeros_that_are_not_wanted_are_none():
    seen = []

    def forward(ctx, x):
        ctx.set_materialize_grads(False)
        return x * 2, x * 3

    def backward(ctx, g, h):
        seen.append(h)
        return g

    first, _ = function(forward, backward).apply(leaf())
    first.sum().backward()
    assert seen == [None]


def test_set_materialize_grads_takes_a_truth_value():
    def forward(ctx, x):
        ctx.set_materialize_grads(1)
        return x

    with pytest.raises(TypeError, match="set_materialize_grads"):
        function(forward).apply(leaf())


def test_outputs_that_are_no_tensors_pass_unchanged():
    marker = object()
    seen = []

    def backward(ctx, *grads):
        seen.append(grads)
        return grads[0]

    fn = function(lambda ctx, x: (x * 2, marker, None, x.long(), "text"), backward)
    y, a, nothing, whole, text = fn.apply(leaf(1.0))
    assert (a, nothing, text) == (marker, None, "text")
    assert whole.dtype == torch.int64
    assert whole.grad_fn is None
    y.sum().backward()
    (grads,) = seen
    assert [type(g).__name__ for g in grads] == [
        "Tensor",
        "NoneType",
        "NoneType",
        "Tensor",
        "NoneType",
    ]


def test_a_tuple_of_one_stays_a_tuple_and_a_list_is_no_tuple():
    assert isinstance(function(lambda ctx, x: (x * 2,)).apply(leaf()), tuple)
    (y,) = function(lambda ctx, x: [x * 2]).apply(leaf())
    assert y.grad_fn is None


def test_no_outputs_at_all():
    assert function(lambda ctx, x: ()).apply(leaf()) == ()
    assert function(lambda ctx, x: None).apply(leaf()) is None


def test_tensors_inside_other_arguments_and_outputs_are_not_tracked():
    fn = function(lambda ctx, pair: {"sum": pair[0] + pair[1]})
    result = fn.apply((leaf(), leaf()))
    assert result["sum"].grad_fn is None


def test_an_output_marked_non_differentiable():
    seen = []

    def forward(ctx, x):
        order = x * 10
        ctx.mark_non_differentiable(order)
        return x * 2, order

    def backward(ctx, g, h):
        seen.append(h.tolist())
        return g * 2

    y, order = function(forward, backward).apply(leaf(1.0, 2.0))
    assert y.requires_grad
    assert not order.requires_grad
    y.sum().backward()
    assert seen == [[0.0, 0.0]]


def test_only_a_non_differentiable_output():
    def forward(ctx, x):
        out = x * 2
        ctx.mark_non_differentiable(out)
        return out

    assert not function(forward).apply(leaf()).requires_grad


def test_an_input_returned_and_marked_non_differentiable_keeps_its_own_state():
    def forward(ctx, x):
        ctx.mark_non_differentiable(x)
        return x

    x = leaf()
    y = function(forward).apply(x)
    assert not y.requires_grad
    assert x.requires_grad
    assert y.data_ptr() == x.data_ptr()


@pytest.mark.parametrize("shape", [(1,), ()])
def test_an_input_returned_as_it_is_gets_a_history_of_its_own(shape):
    double = function(lambda ctx, x: x, lambda ctx, g: g * 2)
    x = torch.ones(shape, requires_grad=True)
    y = double.apply(x)
    assert y is not x
    assert y._base is x
    y.backward()
    assert x.grad.tolist() == (torch.ones(shape) * 2).tolist()
    inner = x.clone()
    (g,) = torch.autograd.grad(double.apply(inner), inner)
    assert g.tolist() == (torch.ones(shape) * 2).tolist()


def test_an_input_returned_where_nothing_is_recorded_is_an_alias():
    identity = function(lambda ctx, x: x)
    x = torch.ones(2)
    y = identity.apply(x)
    assert y is not x
    assert y.data_ptr() == x.data_ptr()


def test_a_leaf_from_elsewhere_stays_a_leaf():
    parameter = leaf(5.0)
    y = function(lambda ctx, x: parameter, lambda ctx, g: g * 3).apply(x := leaf(1.0))
    y.sum().backward()
    assert parameter.is_leaf
    assert parameter.requires_grad
    assert x.grad.tolist() == [3.0]


def test_one_tensor_returned_twice():
    def forward(ctx, x):
        y = x * 2
        return y, y

    twice = function(forward, lambda ctx, g, h: g * 2 + h * 2)
    x = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)

    def both(x):
        a, b = twice.apply(x)
        assert a is b
        return a + b

    assert gradcheck(both, x)
    assert gradgradcheck(both, x)


def test_an_output_is_the_object_that_forward_returned():
    made = []

    def forward(ctx, x):
        made.append(x * 2)
        return made[0]

    assert function(forward).apply(leaf()) is made.pop()


# ------------------------------------------------------------------------- writing to inputs


class Double(InplaceFunction):
    @staticmethod
    def forward(ctx, x):
        ctx.mark_dirty(x)
        return x.mul_(2)

    @staticmethod
    def backward(ctx, g):
        return g * 2


def test_an_input_written_to_becomes_the_result():
    x = leaf(1.0, 2.0)
    y = x.clone()
    version = y._version
    z = Double.apply(y)
    assert z is y
    assert y.grad_fn.name() == "DoubleBackward"
    assert y._version > version
    z.sum().backward()
    assert x.grad.tolist() == [2.0, 2.0]


def test_writing_to_a_leaf_that_requires_grad_is_refused():
    with pytest.raises(RuntimeError, match="a leaf Variable that requires grad"):
        Double.apply(leaf())


def test_a_leaf_that_does_not_require_grad_takes_part():
    x, y = torch.tensor([1.0]), leaf(3.0)

    def forward(ctx, x, y):
        ctx.mark_dirty(x)
        ctx.save_for_backward(y)
        return x.add_(y * y)

    fn = function(forward, lambda ctx, g: (g, 2 * g * ctx.saved_tensors[0]))
    fn.apply(x, y)
    assert x.requires_grad
    x.backward()
    assert y.grad.tolist() == [6.0]


def test_an_input_written_to_must_be_returned():
    def forward(ctx, x):
        ctx.mark_dirty(x)
        return x + 1

    with pytest.raises(RuntimeError, match="Some elements marked as dirty"):
        function(forward).apply(leaf().clone())


def test_a_view_written_to_changes_its_base():
    x = leaf(1.0, 2.0)
    base = x.clone()
    part = base[:1]
    assert Double.apply(part) is part
    assert base.grad_fn.name() == "torch::autograd::CopySlices"
    base.sum().backward()
    assert x.grad.tolist() == [2.0, 1.0]


def test_a_view_written_to_must_be_the_only_output():
    def forward(ctx, x):
        ctx.mark_dirty(x)
        return x.mul_(2), x + 1

    with pytest.raises(RuntimeError, match="cannot return more than one Tensor"):
        function(forward).apply(leaf().clone()[:1])


def test_marking_something_else_dirty_warns():
    def forward(ctx, x):
        y = x + 1
        ctx.mark_dirty(y)
        return y

    with pytest.warns(UserWarning, match="not an input"):
        function(forward, lambda ctx, g: g).apply(leaf())


def test_what_was_saved_before_the_write_is_noticed():
    x = leaf(1.0, 2.0)
    y = x.clone()
    z = y * y
    Double.apply(y)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        z.sum().backward()


def test_one_tensor_written_to_and_returned_twice():
    def forward(ctx, x):
        x.mul_(2)
        ctx.mark_dirty(x)
        return x, x

    twice = function(forward, lambda ctx, g, h: g * 2 + h * 2)
    x = leaf(1.0)
    a, b = twice.apply(x.clone())
    assert a is b
    (a + b).sum().backward()
    assert x.grad.tolist() == [4.0]


@pytest.mark.parametrize("how", ["as it is", "view", "several"])
def test_views_that_are_returned_must_not_be_written_to(how):
    forwards = {
        "as it is": lambda ctx, x: x,
        "view": lambda ctx, x: x.view(-1),
        "several": lambda ctx, x: (x.view(-1), x.view(2, 1)),
    }
    y = function(forwards[how], lambda ctx, *g: g[0]).apply(leaf(1.0, 2.0).clone())
    y = y[0] if isinstance(y, tuple) else y
    reason = "returns multiple views" if how == "several" else "created inside a custom Function"
    with pytest.raises(RuntimeError, match=f"(?s)Output 0 of Custom is a view.*{reason}"):
        y.mul_(2)


# ------------------------------------------------------------------------------- writing to views


class AddOne(Function):
    """Writes to its argument."""

    @staticmethod
    def forward(ctx, x):
        x.add_(1)
        ctx.mark_dirty(x)
        return x

    @staticmethod
    def backward(ctx, g):
        return g


def test_a_function_may_not_write_to_one_of_several_views():
    x = torch.ones(4, requires_grad=True)
    with pytest.raises(RuntimeError, match="output of a function that returns multiple views"):
        AddOne.apply(x.split(2)[0])


def test_a_function_may_not_write_to_a_view_of_a_leaf():
    x = torch.ones(4, requires_grad=True)
    with pytest.raises(RuntimeError, match="a view of a leaf Variable that requires grad"):
        AddOne.apply(x.view(2, 2))


def test_a_function_may_write_to_a_view_of_a_result():
    x = torch.ones(4, requires_grad=True)
    y = x * 2
    AddOne.apply(y[:2])
    (y * y).sum().backward()
    assert x.grad.tolist() == [12.0, 12.0, 8.0, 8.0]


def test_a_view_of_an_intermediate_cannot_be_marked_dirty():
    class Stranger(Function):
        @staticmethod
        def forward(ctx, x):
            y = x.clone().view_as(x)
            ctx.mark_dirty(y)
            return y

        @staticmethod
        def backward(ctx, g):
            return g

    with pytest.raises(RuntimeError, match="received a tensor that was not an input"):
        Stranger.apply(leaf() * 1)
