"""The profiler under its older names.

`wengert.profiler` has schedules and handlers besides; both record the same events.
"""

import time
from typing import Any, Self

from wengert import _core
from wengert._core import record_function
from wengert._profiling.events import (
    EventList,
    FunctionEvent,
    FunctionEventAvg,
    Interval,
    format_time,
)

__all__ = [
    "EventList",
    "FunctionEvent",
    "FunctionEventAvg",
    "Interval",
    "format_time",
    "profile",
    "record_function",
]


class profile:
    """Records which operations run inside a block, in forward and backward.

    An event is a call of an operation from Python, the turn of a node in backward with its rule, or
    a `record_function` block. Nothing is recorded outside, and nothing slows down.

    Parameters
    ----------
    enabled : bool
        Whether to record at all.
    use_cpu : bool
        Must be true: there is nothing else to record.
    use_device : str, optional
        Must be None, for the same reason.
    record_shapes : bool
        Record shapes of inputs.
    profile_memory : bool
        Record bytes of tensor memory that the process allocated during an event less those that it
        freed, padding of blocks included.
    with_stack : bool
        Record the lines of the program that lead to an event. For nodes of backward it is the line
        where the operation ran in forward.

    Examples
    --------
    >>> import wengert
    >>> x = wengert.ones(3, requires_grad=True)
    >>> with wengert.autograd.profiler.profile(record_shapes=True) as prof:
    ...     (x * 2).sum().backward()
    >>> [event.name for event in prof.function_events][:2]
    ['aten::mul', 'aten::sum']
    >>> prof.key_averages()[0].count
    1
    """

    def __init__(
        self,
        enabled: bool = True,
        *,
        use_cpu: bool = True,
        use_cuda: bool = False,
        use_device: str | None = None,
        record_shapes: bool = False,
        with_flops: bool = False,
        profile_memory: bool = False,
        with_stack: bool = False,
        with_modules: bool = False,
        use_kineto: bool = True,  # noqa: ARG002 - of PyTorch's two recorders there is one here
    ) -> None:
        if not use_cpu:
            raise ValueError("profile: use_cpu must be True, there is only the CPU to record")
        if use_cuda or use_device not in (None, "cpu"):
            raise ValueError("profile: there is no device but the CPU to record")
        for name, value in (("with_flops", with_flops), ("with_modules", with_modules)):
            if value:
                raise NotImplementedError(f"profile: {name}=True is not supported")
        self.enabled = enabled
        self.record_shapes = record_shapes
        self.profile_memory = profile_memory
        self.with_stack = with_stack
        self.entered = False
        self._events: EventList | None = None
        self._start_ns = 0

    def __enter__(self) -> Self:
        if not self.enabled:
            return self
        if self.entered:
            raise RuntimeError("Profiler context manager is not reentrant")
        if not _core._profile_start(self.record_shapes, self.profile_memory, self.with_stack):
            raise RuntimeError("Profiler is already enabled: one profile at a time")
        self._start_ns = time.time_ns()
        self.entered = True
        return self

    def __exit__(self, *exception: object) -> None:
        if self.enabled and self.entered:
            self._events = EventList.of_records(
                _core._profile_stop(), profile_memory=self.profile_memory, start_ns=self._start_ns
            )
            self.entered = False

    @property
    def function_events(self) -> EventList:
        """The events, in order of their beginnings."""
        if self._events is None:
            raise RuntimeError("Profiler didn't finish running")
        return self._events

    def key_averages(
        self,
        group_by_input_shape: bool = False,
        group_by_stack_n: int = 0,
        group_by_overload_name: bool = False,
    ) -> EventList:
        """Events added up by name, see `EventList.key_averages`."""
        return self.function_events.key_averages(
            group_by_input_shape, group_by_stack_n, group_by_overload_name
        )

    def table(self, **options: Any) -> str:
        """A table of all events, see `EventList.table`."""
        return self.function_events.table(**options)

    def total_average(self) -> FunctionEventAvg:
        """All events added up."""
        return self.function_events.total_average()

    @property
    def self_cpu_time_total(self) -> float:
        """Microseconds of all events, each moment counted once per thread."""
        return self.function_events.self_cpu_time_total

    def export_chrome_trace(self, path: str) -> None:
        """Writes a file that Perfetto and `chrome://tracing` open; `.gz` is compressed."""
        self.function_events.export_chrome_trace(path)

    def __repr__(self) -> str:
        return "<unfinished profile>" if self._events is None else repr(self._events)

    def __str__(self) -> str:
        return "<unfinished profile>" if self._events is None else str(self._events)
