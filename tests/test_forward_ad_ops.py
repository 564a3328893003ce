"""Walks the operation table in forward mode: tangents of every operation, to second order.

Reverse mode is checked against finite differences elsewhere, so it is the reference here. Of a
function f with the Jacobian J, the tangent J v must satisfy <u, J v> = <Jᵀ u, v>. The product of
the Hessian of <u, f> with v can be had in three ways, which must agree: as gradient of a gradient,
as tangent of a gradient (forward over reverse), and as gradient of a tangent (the reverse of it).
"""

import numpy as np
import pytest
import support
import wengert as torch
import wengert.autograd.forward_ad as fwAD
from support import assert_close, call_args, is_float, leaves, to_array
from test_ops import BY_FORM, DIFFERENTIABLE, OPS, differentiable_parts, function, rows, samples


def draws(tensors, seed):
    draw = np.random.default_rng(seed).standard_normal
    return [torch.tensor(draw(tuple(t.shape))) for t in tensors]


def inner(a, b):
    return sum(
        (float((x.detach() * y).sum()) for x, y in zip(a, b, strict=True) if x is not None), 0.0
    )


def floats(value):
    """The tensors of a result that may have a derivative."""
    return [t for t in leaves([value]) if is_float(t)]


def tangents(tensors):
    return [fwAD.unpack_dual(t).tangent for t in tensors]


def or_zeros(gradients, like):
    return [torch.zeros_like(x) if g is None else g for g, x in zip(gradients, like, strict=True)]


def gradient(outputs, weights, inputs, create_graph=False):
    """The gradient of <weights, outputs>, zeros where there is none."""
    pairs = [(y, w) for y, w in zip(outputs, weights, strict=True) if y.requires_grad]
    if not pairs:
        return [torch.zeros_like(x) for x in inputs]
    found = torch.autograd.grad(
        [y for y, _ in pairs],
        inputs,
        [w for _, w in pairs],
        create_graph=create_graph,
        retain_graph=True,
        allow_unused=True,
    )
    return or_zeros(found, inputs)


def annotated(check):
    def run(op, *args):
        for sample in samples(op, "float64"):
            try:
                check(op, sample, *args)
            except Exception as e:
                e.add_note(f"{op.name} of {sample}")
                raise

    return run


def check_adjoint(call, inputs, level=1e-10):
    """<u, J v> = <Jᵀ u, v>, both of one evaluation, so that random operations may take part."""
    v = draws(inputs, 7)
    for x in inputs:
        x.requires_grad_()
    with fwAD.dual_level():
        outputs = floats(call(*[fwAD.make_dual(x, t) for x, t in zip(inputs, v, strict=True)]))
        u = draws(outputs, 8)
        along = inner(tangents(outputs), u)
        back = inner(gradient(outputs, u, inputs), v)
    if any(x.numel() for x in inputs):  # otherwise there is no direction to move in
        assert abs(along - back) <= level * (1 + abs(along)), f"tangent {along}, gradient {back}"


@rows(DIFFERENTIABLE)
def test_tangents(op):
    @annotated
    def check(op, sample):
        call, inputs = differentiable_parts(op, sample)
        check_adjoint(call, inputs)

    check(op)


@pytest.mark.parametrize(
    "layout", [support.transposed, support.stepped, support.flipped], ids=lambda f: f.__name__
)
@rows([op for op in DIFFERENTIABLE if op.strided])
def test_tangents_of_other_layouts(op, layout):
    @annotated
    def check(op, sample):
        call, inputs = differentiable_parts(op, sample, layout)
        check_adjoint(call, inputs)

    check(op)


@rows([op for op in DIFFERENTIABLE if op.order > 1])
def test_second_derivatives_mixed_with_reverse_mode(op):
    @annotated
    def check(op, sample):
        call, inputs = differentiable_parts(op, sample)
        v = draws(inputs, 7)
        for x in inputs:
            x.requires_grad_()
        torch.manual_seed(3)
        outputs = floats(call(*inputs))
        u = draws(outputs, 8)
        first = gradient(outputs, u, inputs, create_graph=True)
        reverse_over_reverse = gradient(first, v, inputs)

        with fwAD.dual_level():
            duals = [fwAD.make_dual(x, t) for x, t in zip(inputs, v, strict=True)]
            torch.manual_seed(3)
            outputs = floats(call(*duals))
            found = gradient(outputs, u, duals)
            forward_over_reverse = or_zeros(tangents(found), inputs)

            known = [(t, w) for t, w in zip(tangents(outputs), u, strict=True) if t is not None]
            reverse_over_forward = gradient([t for t, _ in known], [w for _, w in known], inputs)
        for a, b, c in zip(
            reverse_over_reverse, forward_over_reverse, reverse_over_forward, strict=True
        ):
            assert_close(b, to_array(a), 1e5, "forward over reverse")
            assert_close(c, to_array(a), 1e5, "reverse over forward")

    check(op)


@rows([op for op in BY_FORM["i"] if op.order and op.result in ("same", "float", "sum")])
def test_tangents_in_place(op):
    """A write gives the tangent that the plain form gives, to a copy of a dual tensor."""

    @annotated
    def check(op, sample):
        call, inputs = differentiable_parts(op, sample)
        if tuple(leaves([call(*inputs)])[0].shape) != tuple(inputs[0].shape):
            return

        def in_place(x, *args, **kwargs):
            return getattr(x.clone(), op.last + "_")(*args, **kwargs)

        v = draws(inputs, 7)
        with fwAD.dual_level():
            duals = [fwAD.make_dual(x, t) for x, t in zip(inputs, v, strict=True)]
            [expected] = tangents(leaves([call(*duals)]))
            [actual] = tangents(leaves([differentiable_parts_of(op, sample, in_place, duals)]))
            assert_close(actual, to_array(expected), 10)
            assert_close(duals[0].detach(), to_array(inputs[0]), 0)
            assert_close(tangents(duals)[0], to_array(v[0]), 0)

    check(op)


def differentiable_parts_of(op, sample, f, tensors):
    """The value of `f` on the sample's arguments, with the given ones in place of its floats."""
    return differentiable_parts(op, sample, f=f)[0](*tensors)


@rows([op for op in DIFFERENTIABLE if op.view])
def test_the_tangent_of_a_view_is_a_view_of_the_tangent(op):
    @annotated
    def check(op, sample):
        call, inputs = differentiable_parts(op, sample)
        if not inputs[0].numel():
            return
        with fwAD.dual_level():
            dual = fwAD.make_dual(inputs[0], torch.ones_like(inputs[0]))
            outputs = floats(call(dual, *inputs[1:]))
            for view in outputs:
                if view.numel() and view._base is not None:
                    fwAD.unpack_dual(dual).tangent.fill_(3.0)
                    assert (tangents([view])[0] == 3.0).all()
                    assert tangents([view])[0].stride() == view.stride()

    check(op)


@rows([op for op in DIFFERENTIABLE if not op.last.endswith("_")])
def test_tangents_alone_leave_no_graph(op):
    sample = samples(op, "float64")[0]
    call, inputs = differentiable_parts(op, sample)
    before = torch._core.live_nodes()
    with fwAD.dual_level():
        outputs = floats(
            call(*[fwAD.make_dual(x, t) for x, t in zip(inputs, draws(inputs, 7), strict=True)])
        )
        assert all(t is not None for t in tangents(outputs))
        assert not any(t.requires_grad for t in [*outputs, *tangents(outputs)])
        assert torch._core.live_nodes() == before


@rows([op for op in OPS if not op.order and op.ref and "float64" in op.dtypes and "f" in op.forms])
def test_what_has_no_gradient_has_no_tangent(op):
    if op.result in support.RELATIVE:
        pytest.skip("a cast has a derivative")
    args, kwargs = call_args(samples(op, "float64")[0], "float64")
    with fwAD.dual_level():
        inputs = [t for t in leaves(args) if is_float(t)]
        duals = {id(t): fwAD.make_dual(t, torch.ones_like(t)) for t in inputs}
        args = support.convert(args, lambda t: duals.get(id(t), t))
        for t in tangents(leaves([function(op)(*args, **kwargs)])):
            assert t is None or not t.any()


@rows(DIFFERENTIABLE)
def test_inference_tensors_have_the_same_tangents(op):
    """They cannot be saved for backward, but tangents need no backward."""
    sample = samples(op, "float64")[0]
    found = []
    for inference in (False, True):
        with torch.inference_mode(inference):
            call, inputs = differentiable_parts(op, sample)
            v = draws(inputs, 7)
        with fwAD.dual_level():
            torch.manual_seed(3)
            outputs = call(*[fwAD.make_dual(x, t) for x, t in zip(inputs, v, strict=True)])
            found.append([to_array(t) for t in tangents(floats(outputs))])
    for a, b in zip(*found, strict=True):
        np.testing.assert_array_equal(a, b)
