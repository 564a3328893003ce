"""What runs, when and for how long: a profiler with PyTorch's names.

Examples
--------
>>> import wengert
>>> from wengert.profiler import ProfilerActivity, profile, record_function
>>> x = wengert.ones(100, 100, requires_grad=True)
>>> with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as prof:
...     with record_function("loss"):
...         loss = (x @ x).sum()
...     loss.backward()
>>> table = prof.key_averages().table(sort_by="self_cpu_time_total", row_limit=3)
>>> sorted(event.key for event in prof.key_averages())[:4]
['MmBackward0', 'SumBackward0', 'aten::matmul', 'aten::sum']

`prof.export_chrome_trace("trace.json")` writes a file for https://ui.perfetto.dev.
"""

import json
import os
import socket
import time
import warnings
from collections.abc import Callable, Iterable
from enum import Enum
from typing import Any, Self

from wengert._core import record_function
from wengert._profiling.events import EventList
from wengert._profiling.trace import write_chrome_trace
from wengert.autograd import profiler as _profiler

__all__ = [
    "ProfilerAction",
    "ProfilerActivity",
    "profile",
    "record_function",
    "schedule",
    "supported_activities",
    "tensorboard_trace_handler",
]


class ProfilerActivity(Enum):
    """What may be recorded; of these there is only the CPU here."""

    CPU = 0
    XPU = 1
    CUDA = 2


class ProfilerAction(Enum):
    """What a profiler does during a step."""

    NONE = 0
    WARMUP = 1
    RECORD = 2
    RECORD_AND_SAVE = 3


_RECORDING = (ProfilerAction.RECORD, ProfilerAction.RECORD_AND_SAVE)


def supported_activities() -> set[ProfilerActivity]:
    """What can be recorded: the CPU."""
    return {ProfilerActivity.CPU}


def schedule(
    *,
    wait: int,
    warmup: int,
    active: int,
    repeat: int = 0,
    skip_first: int = 0,
    skip_first_wait: int = 0,
) -> Callable[[int], ProfilerAction]:
    """A plan of what to do in which step.

    After `skip_first` steps come cycles of `wait` steps without recording, `warmup` steps without
    recording and `active` steps that are recorded, `repeat` times or, with 0, until the end.

    Parameters
    ----------
    wait, warmup, active, repeat, skip_first : int
        Numbers of steps, see above.
    skip_first_wait : int
        If not 0, the first cycle does not wait.

    Returns
    -------
    callable
        The action for a step's number.

    Examples
    --------
    >>> from wengert.profiler import schedule
    >>> plan = schedule(wait=1, warmup=1, active=2, repeat=1)
    >>> [plan(step).name for step in range(5)]
    ['NONE', 'WARMUP', 'RECORD', 'RECORD_AND_SAVE', 'NONE']
    """
    if min(wait, warmup, repeat, skip_first) < 0 or active <= 0:
        raise AssertionError(
            "Invalid profiler schedule arguments: active must be positive and the others not "
            "negative"
        )
    if warmup == 0:
        warnings.warn(
            "Profiler won't be using warmup, this can skew profiler results", stacklevel=2
        )

    def plan(step: int) -> ProfilerAction:
        if step < 0:
            raise AssertionError(f"Step must be non-negative. Got {step}.")
        if step < skip_first:
            return ProfilerAction.NONE
        step -= skip_first
        if skip_first_wait:
            step += wait
        cycle = wait + warmup + active
        if repeat and step // cycle >= repeat:
            return ProfilerAction.NONE
        at = step % cycle
        if at < wait:
            return ProfilerAction.NONE
        if at < wait + warmup:
            return ProfilerAction.WARMUP
        return ProfilerAction.RECORD if at < cycle - 1 else ProfilerAction.RECORD_AND_SAVE

    return plan


def _record_always(_step: int) -> ProfilerAction:
    return ProfilerAction.RECORD


def tensorboard_trace_handler(
    dir_name: str, worker_name: str | None = None, use_gzip: bool = False
) -> Callable[["profile"], None]:
    """What writes a profile into a directory when it is ready, for `on_trace_ready`."""

    def handle(prof: "profile") -> None:
        os.makedirs(dir_name, exist_ok=True)
        worker = worker_name or f"{socket.gethostname()}_{os.getpid()}"
        ending = ".pt.trace.json.gz" if use_gzip else ".pt.trace.json"
        prof.export_chrome_trace(os.path.join(dir_name, f"{worker}.{time.time_ns()}{ending}"))

    return handle


class profile:
    """Records what runs inside a block, or in chosen steps of it.

    Parameters
    ----------
    activities : iterable of ProfilerActivity, optional
        What to record; of other devices than the CPU a warning says that they do not exist.
    schedule : callable, optional
        The action for each step's number, see `schedule`. Steps end with `step()`.
    on_trace_ready : callable, optional
        Called with this object when a recording has ended.
    record_shapes, profile_memory, with_stack : bool
        As in `wengert.autograd.profiler.profile`.
    acc_events : bool
        Keep the events of all cycles instead of those of the last.

    Examples
    --------
    >>> import wengert
    >>> from wengert.profiler import profile, schedule
    >>> x = wengert.ones(3, requires_grad=True)
    >>> plan = schedule(wait=1, warmup=1, active=2, repeat=1)
    >>> def ready(prof):
    ...     print([event.name for event in prof.events()])
    >>> with profile(schedule=plan, on_trace_ready=ready) as prof:
    ...     for _ in range(5):
    ...         y = x * 2
    ...         prof.step()
    ['ProfilerStep#2', 'aten::mul', 'ProfilerStep#3', 'aten::mul']
    """

    def __init__(
        self,
        *,
        activities: Iterable[ProfilerActivity] | None = None,
        schedule: Callable[[int], ProfilerAction] | None = None,
        on_trace_ready: Callable[["profile"], Any] | None = None,
        record_shapes: bool = False,
        profile_memory: bool = False,
        with_stack: bool = False,
        with_flops: bool = False,
        with_modules: bool = False,
        acc_events: bool = False,
    ) -> None:
        self.activities = set(activities) if activities is not None else supported_activities()
        for other in sorted(self.activities - supported_activities(), key=lambda a: a.value):
            warnings.warn(
                f"{other.name} is not available, disabling {other.name} profiling", stacklevel=2
            )
        if ProfilerActivity.CPU not in self.activities:
            raise AssertionError("No valid profiler activities found: there is only the CPU")
        self.schedule = schedule or _record_always
        self.record_steps = schedule is not None
        self.on_trace_ready = on_trace_ready
        self.step_num = 0
        self.acc_events = acc_events
        self._options: dict[str, Any] = {
            "record_shapes": record_shapes,
            "profile_memory": profile_memory,
            "with_stack": with_stack,
            "with_flops": with_flops,
            "with_modules": with_modules,
        }
        _profiler.profile(enabled=False, **self._options)  # complains about what it cannot do
        self.profiler: _profiler.profile | None = None
        self._past = EventList(profile_memory=profile_memory)
        self._step_span: record_function | None = None
        self._metadata: dict[str, Any] = {}
        self.current_action = ProfilerAction.NONE

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def start(self) -> None:
        """Begins, as the block does."""
        self.current_action = self.schedule(self.step_num)
        if self.current_action in _RECORDING:
            self._begin()
        self._begin_step()

    def stop(self) -> None:
        """Ends, as the block does."""
        self._end_step()
        self._finish()
        self.current_action = ProfilerAction.NONE

    def step(self) -> None:
        """Ends a step and begins the next."""
        self._end_step()
        before = self.current_action
        self.step_num += 1
        self.current_action = self.schedule(self.step_num)
        if before is ProfilerAction.RECORD_AND_SAVE or self.current_action not in _RECORDING:
            self._finish()
        if self.current_action in _RECORDING:
            self._begin()
        self._begin_step()

    def _begin(self) -> None:
        if self.profiler is None or not self.profiler.entered:
            profiler = _profiler.profile(**self._options)
            profiler.__enter__()
            self.profiler = profiler

    def _finish(self) -> None:
        """Ends a recording, if there is one."""
        if self.profiler is not None and self.profiler.entered:
            self.profiler.__exit__(None, None, None)
            if self.acc_events:
                self._past.extend(self.profiler.function_events)
            if self.on_trace_ready is not None:
                self.on_trace_ready(self)

    def _begin_step(self) -> None:
        if self.record_steps and self.current_action in _RECORDING:
            self._step_span = record_function(f"ProfilerStep#{self.step_num}")
            self._step_span.__enter__()

    def _end_step(self) -> None:
        if self._step_span is not None:
            self._step_span.__exit__(None, None, None)
            self._step_span = None

    def events(self) -> EventList:
        """The events of the last recording, in order of their beginnings."""
        if self.profiler is None:
            raise AssertionError("Expected profiler to be set. Nothing was recorded yet.")
        return self._past if self.acc_events else self.profiler.function_events

    def key_averages(
        self,
        group_by_input_shape: bool = False,
        group_by_stack_n: int = 0,
        group_by_overload_name: bool = False,
    ) -> EventList:
        """Events added up by name, see `EventList.key_averages`."""
        return self.events().key_averages(
            group_by_input_shape, group_by_stack_n, group_by_overload_name
        )

    def export_chrome_trace(self, path: str) -> None:
        """Writes a file that Perfetto and `chrome://tracing` open; `.gz` is compressed."""
        events = self.events()
        write_chrome_trace(path, events, events._start_ns, self._metadata)

    def export_stacks(self, path: str, metric: str = "self_cpu_time_total") -> None:
        """Writes stacks with their times in microseconds, for flame graphs.

        Parameters
        ----------
        path : str
            The file.
        metric : {'self_cpu_time_total', 'cpu_time_total'}
            Which time.
        """
        if metric not in ("self_cpu_time_total", "cpu_time_total"):
            raise ValueError(f"export_stacks: there is no metric {metric!r}")
        if not self._options["with_stack"]:
            raise RuntimeError("export_stacks() requires with_stack=True")
        with open(path, "w", encoding="utf-8") as file:
            for event in self.events().key_averages(group_by_stack_n=64):
                if event.stack and int(getattr(event, metric)) > 0:
                    frames = [*reversed(event.stack), event.key]
                    line = ";".join(frame.replace(" ", "_") for frame in frames)
                    file.write(f"{line} {int(getattr(event, metric))}\n")

    def add_metadata(self, key: str, value: str) -> None:
        """Adds a text to the trace file."""
        self._metadata[key] = value

    def add_metadata_json(self, key: str, value: str) -> None:
        """Adds a value, given as JSON, to the trace file."""
        self._metadata[key] = json.loads(value)
