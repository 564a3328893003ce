"""Checkpoints by hooks for saved tensors: the kind with ``use_reentrant=False``.

A *region* is one call of a checkpointed function. Its pack hook keeps, instead of each tensor that
an operation saves, an empty *holder*. The first holder that backward unpacks has the function
called again, with a pack hook that puts the tensors into the holders in order. Then:

- **Tensors live from there to their own unpacking**, no longer, also with ``retain_graph``: a later
  pass computes them again. Each pass has its own set, by its number.
- **The function is left early**, by an exception, when as many tensors have been saved as in the
  first call: what follows computes values that nobody wants.
- **Regions nest.** The function is called again with only the new hook at work, under which inner
  checkpoints make new regions. The arguments of an inner region are themselves saved tensors of the
  outer one, so unpacking goes outside in.
- **Holders may be dead.** If backward ran inside the function, some are; their tensors are skipped.

Holders are known to their region weakly: they die with the nodes that saved them, and what was
computed for them with them.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import traceback
import weakref
from typing import TYPE_CHECKING, Any, TypeAlias

from wengert import Tensor, autograd, empty, enable_grad, get_rng_state, is_grad_enabled, no_grad
from wengert._core import _current_graph_task_id, set_rng_state
from wengert.autograd.graph import saved_tensors_hooks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from typing import Self

    Contexts: TypeAlias = tuple[AbstractContextManager[Any], AbstractContextManager[Any]]
    # One backward pass, or a group of passes that share what was computed again.
    PassId: TypeAlias = "int | GraphExecGroup"

_TIP = (
    "\nTip: To see a more detailed error message, either pass `debug=True` to\n"
    "`torch.utils.checkpoint.checkpoint(...)` or wrap the code block\n"
    "with `with torch.utils.checkpoint.set_checkpoint_debug_enabled(True):` to\n"
    "enable checkpoint-debug mode globally.\n"
)


class CheckpointError(RuntimeError):
    """A checkpointed function did something else when it was called again."""


def noop_context_fn() -> Contexts:
    """Two context managers that do nothing."""
    return contextlib.nullcontext(), contextlib.nullcontext()


# ---- settings ------------------------------------------------------------------------------------


class _Settings(threading.local):
    """What blocks say about all checkpoints of a thread; None leaves it to each of them."""

    early_stop: bool | None = None
    debug: bool | None = None
    group: GraphExecGroup | None = None


_settings = _Settings()


@contextlib.contextmanager
def set_checkpoint_early_stop(enable: bool) -> Iterator[None]:
    """Say for a block whether checkpoints leave their function as soon as they can.

    Parameters
    ----------
    enable
        Counts for checkpoints whose function is called in the block for the first time, wherever
        backward runs.
    """
    before = _settings.early_stop
    _settings.early_stop = enable
    try:
        yield
    finally:
        _settings.early_stop = before


@contextlib.contextmanager
def set_checkpoint_debug_enabled(enabled: bool | None) -> Iterator[None]:
    """Say for a block whether checkpoints show what they saved if that differs.

    Parameters
    ----------
    enabled
        None leaves it to each checkpoint.
    """
    before = _settings.debug
    _settings.debug = enabled
    try:
        yield
    finally:
        _settings.debug = before


class GraphExecGroup:
    """Several backward passes that call each checkpointed function again only once.

    They must not need the same saved tensor, as it is given away when it is first used.
    """

    def __enter__(self) -> Self:
        if _settings.group is not None:
            raise RuntimeError(
                f"GraphExecGroup contexts cannot be nested. Already inside group {_settings.group}"
            )
        _settings.group = self
        return self

    def __exit__(self, *args: object) -> None:
        _settings.group = None

    @classmethod
    def _get_current_group(cls) -> GraphExecGroup | None:
        return _settings.group


# Numbers for unpacking outside of any pass, apart from those of passes.
_outside = itertools.count(-2, -1)


def _current_pass() -> PassId:
    if _settings.group is not None:
        return _settings.group
    number = _current_graph_task_id()
    return next(_outside) if number == -1 else number


# ---- regions -------------------------------------------------------------------------------------


class _Key:
    """What a tensor is stored under; clearing a holder's key drops the tensor."""


class _Holder:
    """Stands for a saved tensor; has the key of the tensor for each pass, None once it was used."""

    def __init__(self) -> None:
        self.keys: dict[PassId, _Key | None] = {}


class _Again:
    """What one pass has computed again."""

    def __init__(self) -> None:
        self.count = 0
        self.done = False
        self.tensors: weakref.WeakKeyDictionary[_Key, Tensor] = weakref.WeakKeyDictionary()


class _Region:
    """One call of a checkpointed function."""

    def __init__(
        self,
        run_again: Callable[..., None],
        early_stop: bool,
        describe: Callable[[Tensor], Any],
        log: _Log | None,
    ) -> None:
        self.run_again = run_again
        self.early_stop = early_stop
        self.describe = describe
        self.log = log
        self.inputs: Callable[[], list[Any]] = list
        self.holders: list[weakref.ref[_Holder]] = []
        self.descriptions: list[Any] = []
        self.again: dict[PassId, _Again] = {}
        self.is_complete = False
        # Backward ran inside the function, which then was called again to its end.
        self.may_save_more = False

    def pack(self, x: Tensor) -> _Holder:
        holder = _Holder()
        self.holders.append(weakref.ref(holder))
        with no_grad():
            self.descriptions.append(self.describe(x))
        if self.log:
            self.log.first.append(_Log.entry(x))
        return holder

    def unpack(self, holder: _Holder) -> Tensor:
        try:
            return self._unpack(holder)
        except CheckpointError as error:
            if self.log is None:
                raise
            raise CheckpointError(self.log.text()) from error

    def _unpack(self, holder: _Holder) -> Tensor:
        current = _current_pass()
        again = self.again.setdefault(current, _Again())
        if not again.done:
            inputs = self.inputs()
            if self.log:
                self.log.later.clear()
            with (
                contextlib.suppress(_Enough),
                saved_tensors_hooks(_packer(weakref.ref(self), current), _identity),
                enable_grad(),
            ):
                self.run_again(*inputs)
            again.done = True
            self._compare(again, current)
        key = holder.keys.get(current)
        if key is None:
            overlap = (
                "Performing two backward calls that overlap (i.e. require the same saved "
                "activation in order to compute gradients) is not allowed while under the "
                "torch.utils.checkpoint.GraphExecGroup context. "
                if _settings.group is not None
                else ""
            )
            raise CheckpointError(
                "torch.utils.checkpoint: Unpack is being triggered for a tensor that was already "
                f"unpacked once. {overlap}If you are calling ctx.saved_tensors in backward, make "
                "sure to do so only once. Otherwise please open an issue with details on your use "
                "case."
            )
        tensor = again.tensors[key]
        holder.keys[current] = None
        return tensor

    def fill(self, x: Tensor, current: PassId) -> Tensor:
        """Store a tensor that the function saves when called again."""
        x = x.detach() if x.requires_grad else x
        again = self.again[current]
        place = again.count
        again.count += 1
        if self.log:
            self.log.later.append(_Log.entry(x))
        if place >= len(self.holders):
            if not self.is_complete:
                self.may_save_more = True
                return x
            raise CheckpointError(
                "torch.utils.checkpoint: trying to save more tensors during recomputation than "
                f"during the original forward pass.\n{_TIP}"
            )
        holder = self.holders[place]()
        if holder is not None:
            key = _Key()
            holder.keys[current] = key
            again.tensors[key] = x
        if self.early_stop and again.count == len(self.holders):
            raise _Enough
        return x

    def _compare(self, again: _Again, current: PassId) -> None:
        if self.may_save_more:
            return
        if again.count != len(self.holders):
            raise CheckpointError(
                "torch.utils.checkpoint: A different number of tensors was saved during the "
                "original forward and recomputation.\n"
                f"Number of tensors saved during forward: {len(self.holders)}\n"
                f"Number of tensors saved during recomputation: {again.count}.\n{_TIP}"
            )
        text = ""
        for place, known in enumerate(self.holders):
            holder = known()
            key = None if holder is None else holder.keys[current]
            if key is None:
                continue
            before, now = self.descriptions[place], self.describe(again.tensors[key])
            if before != now:
                text += (
                    f"tensor at position {place}:\nsaved metadata: {before}\n"
                    f"recomputed metadata: {now}\n"
                )
        if text:
            raise CheckpointError(
                "torch.utils.checkpoint: Recomputed values for the following tensors have "
                f"different metadata than during the forward pass.\n{text}.\n{_TIP}"
            )


class _Enough(Exception):  # noqa: N818 - no error
    """The function has saved all that is needed."""


def _packer(region: weakref.ref[_Region], current: PassId) -> Callable[[Tensor], Tensor]:
    def pack(x: Tensor) -> Tensor:
        alive = region()
        return x if alive is None else alive.fill(x, current)

    return pack


def _identity(x: Tensor) -> Tensor:
    return x


def _kind(x: Tensor) -> dict[str, Any]:
    return {"shape": x.shape, "dtype": x.dtype, "device": x.device}


def _nothing(_: Tensor) -> None:
    return None


_DESCRIPTIONS: dict[str, Callable[[Tensor], Any]] = {"default": _kind, "none": _nothing}


# ---- running -------------------------------------------------------------------------------------


class _Inputs(autograd.Function):
    """Saves tensors as any operation does, and so through the hooks of an outer checkpoint."""

    @staticmethod
    def forward(ctx: Any, anchor: Tensor, *tensors: Tensor) -> Tensor:  # noqa: ARG004
        ctx.save_for_backward(*tensors)
        return empty(0)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:  # noqa: ARG004
        raise AssertionError("inputs of a checkpoint are no operation")


def _saved_inputs(args: tuple[Any, ...]) -> Callable[[], list[Any]]:
    """Keep arguments so that writes to them are noticed; the function gives them back."""
    places = [i for i, a in enumerate(args) if isinstance(a, Tensor)]
    others = [None if isinstance(a, Tensor) else a for a in args]
    anchor = empty(0, requires_grad=True)
    node = _Inputs.apply(anchor, *(args[i] for i in places))

    def unpack() -> list[Any]:
        found = list(others)
        for place, tensor in zip(places, node.grad_fn.saved_tensors, strict=True):
            found[place] = tensor
        return found

    return unpack


def recorded_run(
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    preserve_rng_state: bool,
    context_fn: Callable[[], Contexts],
    determinism_check: str,
    debug: bool,
    early_stop: bool,
) -> Any:
    """Call `function` as a region."""
    debug = debug if _settings.debug is None else _settings.debug
    if debug and context_fn is not noop_context_fn:
        raise ValueError("debug=True is incompatible with non-default context_fn")
    if determinism_check not in _DESCRIPTIONS:
        raise ValueError(
            f"determinism_check should be one of {list(_DESCRIPTIONS)}, but got {determinism_check}"
        )
    first_context, again_context = context_fn()
    state = get_rng_state() if preserve_rng_state else None

    def run_again(*args: Any) -> None:
        outside = get_rng_state()
        if state is not None:
            set_rng_state(state)
        try:
            with again_context:
                function(*args, **kwargs)
        finally:
            if state is not None:
                set_rng_state(outside)

    if not is_grad_enabled():
        return function(*args, **kwargs)
    region = _Region(
        run_again,
        early_stop if _settings.early_stop is None else _settings.early_stop,
        _DESCRIPTIONS[determinism_check],
        _Log() if debug else None,
    )
    region.inputs = _saved_inputs(args)
    with saved_tensors_hooks(region.pack, region.unpack), first_context:
        result = function(*args, **kwargs)
        region.is_complete = True
        return result
    raise RuntimeError(
        "torch.utils.checkpoint: the forward context provided by context_fn suppressed an "
        "exception raised during the checkpointed forward. This is not supported because "
        "checkpoint cannot return a value for a failed forward."
    )


# ---- the log of debug mode -----------------------------------------------------------------------


class _Log:
    """What the first and the last later call saved, each with the lines that led there."""

    def __init__(self) -> None:
        self.first: list[tuple[str, list[str]]] = []
        self.later: list[tuple[str, list[str]]] = []

    @staticmethod
    def entry(x: Tensor) -> tuple[str, list[str]]:
        frames = [
            f"{f.filename}:{f.lineno}:{f.name}"
            for f in reversed(traceback.extract_stack())
            if f.filename != __file__
        ]
        return f"{str(x.dtype).rpartition('.')[2]}{list(x.shape)}", frames

    def text(self) -> str:
        def traces(label: str, entries: list[tuple[str, list[str]]]) -> str:
            return "\n\n".join(
                f"{what}   ({i} of {len(entries)} in {label})\n\n" + "\n".join(frames)
                for i, (what, frames) in enumerate(entries, 1)
            )

        def lines(entries: list[tuple[str, list[str]]]) -> str:
            return "\n".join(f"{what}  {frames[0] if frames else ''}" for what, frames in entries)

        return (
            "An error happened while unpacking tensors; dumping logs of latest computation\n"
            "because you passed `debug=True` to `torch.utils.checkpoint.checkpoint()`.\n\n"
            "1. Stack traces of the tensors that were saved in the original forward\n\n"
            f"{traces('original', self.first)}\n\n"
            "2. Stack traces of the tensors that were saved during recomputation\n\n"
            f"{traces('recompute', self.later)}\n\n"
            "3. Log of the tensors saved in the original forward and recomputation\n\n"
            f"Saved during the original forward:\n\n{lines(self.first)}\n\n"
            f"Saved during recomputation:\n\n{lines(self.later)}\n\n"
            "ERROR: Detected non-determinism while running activation checkpointing\n\n"
            "You are seeing this error because you passed `debug=True` to checkpoint and tensors "
            "to be saved\nduring the original forward differ from those saved during "
            "recomputation. Compare the two logs\nto see where the function takes another way."
        )
