"""`generate_vmap_rule`: the static methods of a function, run once on batched tensors.

A call whose arguments have examples in a level becomes a call of another function, `VmappedF` for a
function `F`, on whole batches. Each of its static methods opens a level of its own, shows `F`'s the
arguments as examples in it, and takes the examples off what comes back. So to autograd there is one
function of whole batches with one node, whatever `F` does; levels outside are dealt with in the
same way, by a function made from that function.

Gradients are examples, too: one for each, for what differs from example to example, and their sum
for what does not.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

from wengert import _core
from wengert._core import Tensor
from wengert.autograd.function import Function
from wengert.utils._pytree import tree_flatten, tree_unflatten


@dataclass
class _Call:
    """What the methods of one call have to know from each other."""

    size: int
    randomness: str
    # For every argument (result, saved tensor) the axis that counts examples, or None.
    dims: tuple[Any, ...]
    out_dims: Any = None
    saved_dims: tuple[int | None, ...] = ()
    # The shapes of one example's arguments, None for what is no tensor.
    shapes: list[Any] = field(default_factory=list)

    @contextmanager
    def level(self) -> Iterator[int]:
        level = _core._vmap_enter(self.size, self.randomness)
        try:
            yield level
        finally:
            _core._vmap_exit(level)

    def along(self, t: Any, has: int | None, wanted: int | None) -> Any:
        """A tensor whose examples lie along one axis, with them along another."""
        if not isinstance(t, Tensor) or has == wanted or wanted is None:
            return t
        if has is None:
            t, has = t.expand(self.size, *t.shape), 0
        return t.movedim(has, wanted)


def _show(tree: Any, dims: Any, level: int) -> Any:
    """Tensors of whole batches as examples, where `dims` says that they are."""
    flat, spec = tree_flatten(tree)
    axes = _leaves(dims, len(flat))
    return tree_unflatten(
        [
            _core._add_batch_dim(t, d, level) if isinstance(t, Tensor) and d is not None else t
            for t, d in zip(flat, axes, strict=True)
        ],
        spec,
    )


def _leaves(dims: Any, count: int) -> list[int | None]:
    """One entry per leaf of a tree whose tensors have these axes. None is a leaf here."""
    flat = tree_flatten(dims)[0]
    return flat if len(flat) == count else [None] * count


class _Context:
    """The context of a call as the methods of the user's function see it: with examples."""

    _own = ("_ctx", "_call", "_level", "_known")

    def __init__(self, ctx: Any, call: _Call, level: int, known: dict[int, Any]) -> None:
        self._ctx = ctx
        self._call = call
        self._level = level
        # By address of an argument or result that is shown: what it stands for, and its axis.
        self._known = known

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ctx, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _Context._own:
            object.__setattr__(self, name, value)
        else:
            setattr(self._ctx, name, value)

    def _whole(self, t: Any) -> tuple[Any, int | None]:
        """The tensor that an example stands for, and the axis of the examples."""
        if not isinstance(t, Tensor):
            return t, None
        if id(t) in self._known:
            return cast("tuple[Any, int | None]", self._known[id(t)][:2])
        return _core._unwrap_batched(t, self._level)

    def _wholes(self, tensors: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(self._whole(t)[0] for t in tensors)

    def save_for_backward(self, *tensors: Any) -> None:
        pairs = [self._whole(t) for t in tensors]
        self._call.saved_dims = tuple(d for _, d in pairs)
        self._ctx.save_for_backward(*(t for t, _ in pairs))

    def save_for_forward(self, *tensors: Any) -> None:
        pairs = [self._whole(t) for t in tensors]
        self._call.saved_dims = tuple(d for _, d in pairs)
        self._ctx.save_for_forward(*(t for t, _ in pairs))

    def mark_dirty(self, *tensors: Any) -> None:
        self._ctx.mark_dirty(*self._wholes(tensors))

    def mark_non_differentiable(self, *tensors: Any) -> None:
        self._ctx.mark_non_differentiable(*self._wholes(tensors))

    @property
    def saved_tensors(self) -> tuple[Any, ...]:
        saved = self._ctx.saved_tensors
        return tuple(
            _show(t, d, self._level) for t, d in zip(saved, self._call.saved_dims, strict=True)
        )

    @property
    def needs_input_grad(self) -> tuple[bool, ...]:
        # The first argument of a generated function is the call.
        return tuple(self._ctx.needs_input_grad[1:])


def _known(shown: Any, tree: Any, dims: Any) -> dict[int, Any]:
    """What is shown, by address, with what it stands for. It is kept alive by this."""
    flat, whole = tree_flatten(shown)[0], tree_flatten(tree)[0]
    axes = _leaves(dims, len(flat))
    return {
        id(s): (t, d, s)
        for s, t, d in zip(flat, whole, axes, strict=True)
        if isinstance(s, Tensor) and s is not t
    }


def _generate(cls: type[Function]) -> type[Function]:
    """The function of whole batches that stands for a function of examples."""

    def forward(call: _Call, *args: Any) -> Any:
        with call.level() as level:
            shown = _show(args, call.dims, level)
            known = _known(shown, args, call.dims)
            flat, spec = tree_flatten(cls.forward(*shown))
            context = _Context(None, call, level, known)
            pairs = [context._whole(t) for t in flat]
        call.out_dims = tree_unflatten([d for _, d in pairs], spec)
        return tree_unflatten([t for t, _ in pairs], spec)

    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        call, *rest = inputs
        args = tuple(rest)
        with call.level() as level:
            shown, results = _show(args, call.dims, level), _show(output, call.out_dims, level)
            call.shapes = [t.shape if isinstance(t, Tensor) else None for t in shown]
            known = _known(shown, args, call.dims) | _known(results, output, call.out_dims)
            cls.setup_context(_Context(ctx, call, level, known), shown, results)
        # A context may belong to several generated functions, made from each other.
        ctx._vmap_calls = {**getattr(ctx, "_vmap_calls", {}), generated: call}

    def backward(ctx: Any, *grads: Any) -> Any:
        call = ctx._vmap_calls[generated]
        with call.level() as level:
            dims = _leaves(call.out_dims, len(grads))
            shown = [_show(g, d, level) for g, d in zip(grads, dims, strict=True)]
            context = _Context(ctx, call, level, {})
            rule = _core._user_rule(cls)
            found = rule(context, shown) if cls.boxed_grads_call else rule(context, *shown)
            if not isinstance(found, tuple):
                found = (found,)
            pairs = []
            for i, g in enumerate(found):
                shape = call.shapes[i] if i < len(call.shapes) else None
                summed = isinstance(g, Tensor) and shape is not None and g.shape != shape
                pairs.append(context._whole(g.sum_to_size(shape) if summed else g))
        results = []
        for i, (g, d) in enumerate(pairs):
            wanted = call.dims[i] if i < len(call.dims) else None
            if isinstance(g, Tensor) and wanted is None and d is not None:
                results.append(g.sum(d))
            else:
                results.append(call.along(g, d, wanted))
        return (None, *results)

    def jvp(ctx: Any, _: Any, *tangents: Any) -> Any:
        call = ctx._vmap_calls[generated]
        with call.level() as level:
            shown = [
                t if t is None else _show(t, d, level)
                for t, d in zip(tangents, call.dims, strict=True)
            ]
            context = _Context(ctx, call, level, {})
            found = cls.jvp(context, *shown)
            several = isinstance(found, tuple)
            pairs = [context._whole(t) for t in (found if several else (found,))]
        dims = _leaves(call.out_dims, len(pairs))
        results = [call.along(t, d, wanted) for (t, d), wanted in zip(pairs, dims, strict=True)]
        return tuple(results) if several else results[0]

    generated = cast(
        "type[Function]",
        type(
            f"Vmapped{cls.__name__}",
            (Function,),
            {
                "forward": staticmethod(forward),
                "setup_context": staticmethod(setup_context),
                "backward": staticmethod(backward),
                "jvp": staticmethod(jvp),
                "generate_vmap_rule": True,
            },
        ),
    )
    return generated


def apply_generated(
    cls: type[Function], size: int, randomness: str, args: Any, dims: Any
) -> tuple[Any, Any]:
    """Apply a function to whole batches: the result, and the axes that count its examples."""
    generated = cls.__dict__.get("_generated")
    if generated is None:
        generated = _generate(cls)
        cls._generated = generated  # type: ignore[attr-defined]
    call = _Call(size, randomness, dims)
    return generated.apply(call, *args), call.out_dims
