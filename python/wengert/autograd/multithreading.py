"""Whether backward passes may use several threads."""

from __future__ import annotations

from typing import Self

from wengert._core import _is_multithreading_enabled, _set_multithreading_enabled

__all__ = ["is_multithreading_enabled", "set_multithreading_enabled"]


def is_multithreading_enabled() -> bool:
    """Return whether backward passes of this thread may use other threads.

    Examples
    --------
    >>> import wengert
    >>> wengert.autograd.is_multithreading_enabled()
    True
    """
    return _is_multithreading_enabled()


class set_multithreading_enabled:
    """Let backward passes of this thread use other threads, or not, at once or for a block.

    Independent branches of a graph are computed in parallel where it pays. Results are the same to
    the last bit either way, and hooks and user functions run on the calling thread in any case.

    Parameters
    ----------
    mode : bool
        Whether they may.

    Examples
    --------
    >>> import wengert
    >>> x = wengert.ones(3, requires_grad=True)
    >>> with wengert.autograd.set_multithreading_enabled(False):
    ...     (x * 2).sum().backward()
    """

    def __init__(self, mode: bool) -> None:
        if not isinstance(mode, bool):
            raise TypeError(
                "set_multithreading_enabled(): argument 'enabled' (position 1) must be bool, not "
                f"{type(mode).__name__}"
            )
        self.prev = _is_multithreading_enabled()
        _set_multithreading_enabled(mode)
        self.mode = mode

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_args: object) -> None:
        _set_multithreading_enabled(self.prev)

    def clone(self) -> Self:
        """Return another one with the same mode."""
        return type(self)(self.mode)
