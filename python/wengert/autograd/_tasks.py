"""Modes of asyncio tasks: the loop's thread has the mode of the task that it runs.

A mode is a flag of a thread. A coroutine that awaits inside ``with no_grad():`` lets others run on
its thread, in its mode. So while a task is in such a block, the mode is kept in the task's context
(`contextvars`), and the loop sets the thread's mode from the context before each step of a task,
and back after it. A task that was started in a block stays in that block's mode.

To that end `asyncio.events.Handle._run`, in which every step runs, is wrapped when a block is first
entered in a running loop. Steps of tasks that have nothing to do with blocks run as they would
without the wrapper.

This covers the loops of the standard library. Others (uvloop, trio) have steps of their own.
"""

from __future__ import annotations

import asyncio
import functools
import threading
from contextvars import ContextVar, Token

from wengert._core import _modes, _set_modes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_MODES: ContextVar[int] = ContextVar("wengert_modes")


class _Thread(threading.local):
    """How many blocks tasks of this thread are in, and the mode of those that are in none."""

    open = 0
    base = 0
    is_new = True


_thread = _Thread()


def enter(outside: int) -> Token[int]:
    """Note that a task has entered a block and has its mode; `outside` are those of before."""
    _wrap()
    if _thread.is_new:
        # The step that is running now may not be wrapped; this one sets things right after it.
        asyncio.get_running_loop().call_soon(_nothing)
        _thread.is_new = False
    if _thread.open == 0:
        _thread.base = outside
    _thread.open += 1
    return _MODES.set(_modes())


def leave(token: Token[int]) -> None:
    """Note that the task has left the block."""
    _thread.open -= 1
    try:
        _MODES.reset(token)
    except ValueError:
        # An abandoned coroutine, closed by somebody else, whose mode is none of its business.
        _set_modes(_MODES.get(_thread.base))


@functools.cache
def _wrap() -> None:
    # The private names are those of the standard library since contexts exist (3.7).
    handles: Any = asyncio.Handle
    original: Callable[[Any], Any] = handles._run

    @functools.wraps(original)
    def run(handle: Any) -> Any:
        own = handle._context.get(_MODES)
        outside = _thread.base if _thread.open else _modes()
        if own is not None or _thread.open:
            _set_modes(outside if own is None else own)
        try:
            return original(handle)
        finally:
            if _thread.open:
                _set_modes(_thread.base)
            elif own is not None:
                _set_modes(outside)

    handles._run = run


def _nothing() -> None:
    pass
