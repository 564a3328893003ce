"""Checkpoints: compute a part of the forward pass again in backward instead of keeping its values.

What operations inside a checkpointed function save for backward is not kept. When backward needs
it, the function is called again with the same arguments, random state and gradient mode, and saves
it once more.

There are two kinds. ``use_reentrant=False`` (`_checkpoint.py` beside this file) replaces saved
tensors one by one by hooks, and is the one to use: all of autograd works with it. The older
``use_reentrant=True`` runs the function without recording and calls `backward` inside backward; it
works with ``tensor.backward()`` only, and needs an input that requires grad.
"""

from __future__ import annotations

import contextlib
import warnings
from typing import TYPE_CHECKING, Any

from wengert import Tensor, autograd, enable_grad, get_rng_state, no_grad, set_rng_state
from wengert._core import _is_checkpoint_valid

from ._checkpoint import (
    CheckpointError,
    GraphExecGroup,
    noop_context_fn,
    recorded_run,
    set_checkpoint_debug_enabled,
    set_checkpoint_early_stop,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from ._checkpoint import Contexts

__all__ = [
    "CheckpointError",
    "CheckpointFunction",
    "GraphExecGroup",
    "check_backward_validity",
    "checkpoint",
    "checkpoint_sequential",
    "detach_variable",
    "noop_context_fn",
    "set_checkpoint_debug_enabled",
    "set_checkpoint_early_stop",
]


def checkpoint(
    function: Callable[..., Any],
    *args: Any,
    use_reentrant: bool | None = None,
    context_fn: Callable[[], Contexts] = noop_context_fn,
    determinism_check: str = "default",
    debug: bool = False,
    early_stop: bool = True,
    **kwargs: Any,
) -> Any:
    """Call a function without keeping what it saves for backward; backward calls it again.

    Parameters
    ----------
    function
        What to call. It must do the same when it is called again.
    *args, **kwargs
        Its arguments. Keyword arguments need ``use_reentrant=False``.
    use_reentrant
        Which kind of checkpoint; see above. Should be given. If not, a warning says so and the
        older kind is used, as in PyTorch.
    preserve_rng_state : bool
        Call again with the random state of the first time. True by default.
    context_fn
        Gives two context managers, for the first and for later calls.
    determinism_check : {"default", "none"}
        Whether to compare shapes and dtypes of what the two calls save.
    debug
        Show what both calls saved, and where, if they differ.
    early_stop
        Leave the function as soon as it has saved what is needed.

    Returns
    -------
    object
        What the function returned.

    Raises
    ------
    CheckpointError
        In backward, if the function saved other tensors than the first time.
    ValueError
        If arguments do not go together.

    Examples
    --------
    >>> import wengert
    >>> from wengert.utils.checkpoint import checkpoint
    >>> x = wengert.tensor([1.0, 2.0], requires_grad=True)
    >>> y = checkpoint(lambda x: (x * x).exp(), x, use_reentrant=False)
    >>> y.sum().backward()
    >>> x.grad
    tensor([  5.4366, 218.3926])
    """
    if use_reentrant is None:
        warnings.warn(
            "torch.utils.checkpoint: the use_reentrant parameter should be passed explicitly. "
            "Starting in PyTorch 2.9, calling checkpoint without use_reentrant will raise an "
            "exception. use_reentrant=False is recommended, but if you need to preserve the "
            "current default behavior, you can pass use_reentrant=True. Refer to docs for more "
            "details on the differences between the two variants.",
            stacklevel=2,
        )
        use_reentrant = True
    preserve = kwargs.pop("preserve_rng_state", True)
    if not use_reentrant:
        return recorded_run(
            function, args, kwargs, preserve, context_fn, determinism_check, debug, early_stop
        )
    if kwargs:
        raise ValueError("Unexpected keyword arguments: " + ",".join(kwargs))
    if context_fn is not noop_context_fn or debug is not False:
        raise ValueError(
            "Passing `context_fn` or `debug` is only supported when use_reentrant=False."
        )
    return CheckpointFunction.apply(function, preserve, *args)


def checkpoint_sequential(
    functions: Any,
    segments: int,
    input: Any,  # noqa: A002
    use_reentrant: bool | None = None,
    **kwargs: Any,
) -> Any:
    """Apply functions one after the other, in checkpointed groups.

    Parameters
    ----------
    functions
        A sequence of functions of one argument, or a module with `children`.
    segments
        How many groups. The last one is not checkpointed.
    input
        The argument of the first function.
    use_reentrant, preserve_rng_state
        As for `checkpoint`.

    Returns
    -------
    object
        What the last function returned.

    Examples
    --------
    >>> import wengert
    >>> from wengert.utils.checkpoint import checkpoint_sequential
    >>> x = wengert.tensor([0.5], requires_grad=True)
    >>> layers = [wengert.sin, wengert.exp, wengert.cos, wengert.tanh]
    >>> checkpoint_sequential(layers, 2, x, use_reentrant=False).backward()
    >>> x.grad
    tensor([-1.4133])
    """
    if use_reentrant is None:
        warnings.warn(
            "torch.utils.checkpoint.checkpoint_sequential: the use_reentrant parameter should be "
            "passed explicitly. In version 2.9 we will raise an exception if use_reentrant is not "
            "passed. use_reentrant=False is recommended, but if you need to preserve the current "
            "default behavior, you can pass use_reentrant=True. Refer to docs for more details on "
            "the differences between the two variants.",
            stacklevel=2,
        )
        use_reentrant = True
    preserve = kwargs.pop("preserve_rng_state", True)
    if kwargs:
        raise ValueError("Unexpected keyword arguments: " + ",".join(kwargs))
    layers: Sequence[Callable[[Any], Any]] = (
        list(functions.children()) if hasattr(functions, "children") else functions
    )

    def group(start: int, end: int) -> Callable[[Any], Any]:
        def apply(x: Any) -> Any:
            for layer in layers[start:end]:
                x = layer(x)
            return x

        return apply

    size = len(layers) // segments
    start = 0
    for start in range(0, size * (segments - 1), size):
        input = checkpoint(  # noqa: A001
            group(start, start + size),
            input,
            use_reentrant=use_reentrant,
            preserve_rng_state=preserve,
        )
    done = start + size if segments > 1 and size else 0
    return group(done, len(layers))(input)


# ---- the older kind ------------------------------------------------------------------------------


class CheckpointFunction(autograd.Function):
    """A function that runs another one without recording, and again in backward with."""

    @staticmethod
    def forward(ctx: Any, run_function: Any, preserve_rng_state: bool, *args: Any) -> Any:
        """Run without recording."""
        check_backward_validity(args)
        ctx.run_function = run_function
        ctx.rng_state = get_rng_state() if preserve_rng_state else None
        # Tensors are saved, so that writes to them are noticed; the rest is kept as it is.
        ctx.inputs = [None if isinstance(a, Tensor) else a for a in args]
        ctx.places = [i for i, a in enumerate(args) if isinstance(a, Tensor)]
        ctx.save_for_backward(*(args[i] for i in ctx.places))
        with no_grad():
            return run_function(*args)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        """Run with recording, then backward."""
        if not _is_checkpoint_valid():
            raise RuntimeError(
                "When use_reentrant=True, torch.utils.checkpoint is incompatible with .grad() or "
                "passing an `inputs` parameter to .backward(). To resolve this error, you can "
                "either set use_reentrant=False, or call .backward() without passing the `inputs` "
                "argument."
            )
        inputs = list(ctx.inputs)
        for place, tensor in zip(ctx.places, ctx.saved_tensors, strict=True):
            inputs[place] = tensor
        detached = detach_variable(tuple(inputs))
        with _random_state(ctx.rng_state), enable_grad():
            outputs = ctx.run_function(*detached)
        if isinstance(outputs, Tensor):
            outputs = (outputs,)
        wanted = [
            (y, g)
            for y, g in zip(outputs, grads, strict=False)
            if isinstance(y, Tensor) and y.requires_grad
        ]
        if not wanted:
            raise RuntimeError(
                "none of output has requires_grad=True, this checkpoint() is not necessary"
            )
        autograd.backward([y for y, _ in wanted], [g for _, g in wanted])
        return (None, None, *(x.grad if isinstance(x, Tensor) else None for x in detached))


def detach_variable(inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """The same values, tensors cut off from their history; they require grad as before."""
    if not isinstance(inputs, tuple):
        raise RuntimeError(
            "Only tuple of tensors is supported. Got Unsupported input type: "
            f"{type(inputs).__name__}"
        )
    return tuple(
        x.detach().requires_grad_(x.requires_grad) if isinstance(x, Tensor) else x for x in inputs
    )


def check_backward_validity(inputs: Iterable[Any]) -> None:
    """Warn if no tensor among the inputs requires grad: gradients will not flow."""
    if not any(isinstance(x, Tensor) and x.requires_grad for x in inputs):
        warnings.warn(
            "None of the inputs have requires_grad=True. Gradients will be None", stacklevel=2
        )


@contextlib.contextmanager
def _random_state(state: Tensor | None) -> Iterator[None]:
    """Random numbers from `state` on, and afterwards from where they were."""
    if state is None:
        yield
        return
    outside = get_rng_state()
    set_rng_state(state)
    try:
        yield
    finally:
        set_rng_state(outside)
