"""Events of a profile, their sums, and the table that shows them.

The engine gives spans: a name, a thread, a beginning and an end. Spans of one thread are nested
like calls, so a sweep in order of their beginnings finds who called whom; what a span spent
itself is its time less that of its children.
"""

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from typing import Any

from .trace import write_chrome_trace

Record = dict[str, Any]


def format_time(us: float) -> str:
    """Microseconds as a person writes them.

    Examples
    --------
    >>> from wengert.autograd.profiler import format_time
    >>> format_time(12.5), format_time(2_990.0), format_time(3_000_000.0)
    ('12.500us', '2.990ms', '3.000s')
    """
    if us >= 1e6:
        return f"{us / 1e6:.3f}s"
    return f"{us / 1e3:.3f}ms" if us >= 1e3 else f"{us:.3f}us"


def format_memory(count: int) -> str:
    """Bytes as a person writes them.

    Examples
    --------
    >>> from wengert._profiling.events import format_memory
    >>> format_memory(100), format_memory(-2048), format_memory(3 << 20)
    ('100 B', '-2.00 KB', '3.00 MB')
    """
    for unit, size in (("GB", 1 << 30), ("MB", 1 << 20), ("KB", 1 << 10)):
        if abs(count) >= size:
            return f"{count / size:.2f} {unit}"
    return f"{count} B"


class Interval:
    """From `start` to `end`, in microseconds since the profile began."""

    def __init__(self, start: float, end: float) -> None:
        self.start = start
        self.end = end

    def elapsed_us(self) -> float:
        """Length in microseconds."""
        return self.end - self.start

    def __repr__(self) -> str:
        return f"Interval(start={self.start}, end={self.end})"


class _Times:
    """What single events and sums of events have in common. Times are in microseconds."""

    count: int
    cpu_time_total: float
    self_cpu_time_total: float

    @property
    def cpu_time(self) -> float:
        """Time per call."""
        return self.cpu_time_total / self.count if self.count else 0.0

    @property
    def cpu_time_str(self) -> str:
        return format_time(self.cpu_time)

    @property
    def cpu_time_total_str(self) -> str:
        return format_time(self.cpu_time_total)

    @property
    def self_cpu_time_total_str(self) -> str:
        return format_time(self.self_cpu_time_total)


class FunctionEvent(_Times):
    """One call of an operation, one turn of a node in backward, or one named block."""

    def __init__(self, number: int, record: Record) -> None:
        self.id = number
        self.name: str = record["name"]
        self.thread: int = record["thread"]
        self.time_range = Interval(record["begin"] / 1e3, record["end"] / 1e3)
        self.input_shapes: list[list[int]] = record["shapes"]
        self.stack = [f"{file}({line}): {function}" for file, line, function in record["stack"]]
        self.cpu_memory_usage: int = record["bytes"]
        self.sequence_nr: int = -1 if record["sequence"] is None else record["sequence"]
        self.is_user_annotation: bool = record["category"] == "user_annotation"
        self.is_backward: bool = record["category"] == "backward"
        # PyTorch's numbers: 1 for rules of backward, 7 for named blocks.
        self.scope = (
            7 if self.is_user_annotation else int(self.is_backward and ":" not in self.name)
        )
        self.is_async = False
        self.count = 1
        self.cpu_parent: FunctionEvent | None = None
        self.cpu_children: list[FunctionEvent] = []

    @property
    def key(self) -> str:
        """The name, under which events are added up."""
        return self.name

    @property
    def cpu_time_total(self) -> float:  # type: ignore[override]
        """Time of the event with all in it."""
        return self.time_range.elapsed_us()

    @property
    def self_cpu_time_total(self) -> float:  # type: ignore[override]
        """Time without that of events in it."""
        return self.cpu_time_total - sum(child.cpu_time_total for child in self.cpu_children)

    @property
    def self_cpu_memory_usage(self) -> int:
        """Bytes without those of events in it."""
        return self.cpu_memory_usage - sum(child.cpu_memory_usage for child in self.cpu_children)

    def __repr__(self) -> str:
        return (
            f"<FunctionEvent id={self.id} name={self.name} cpu_time={self.cpu_time_str} "
            f"start_us={self.time_range.start} end_us={self.time_range.end} "
            f"cpu_children={[child.id for child in self.cpu_children]} thread={self.thread} "
            f"input_shapes={self.input_shapes} cpu_memory_usage={self.cpu_memory_usage} "
            f"seq_nr={self.sequence_nr}>"
        )


@dataclass(repr=False)
class FunctionEventAvg(_Times):
    """Events of one name added up."""

    key: str = ""
    count: int = 0
    cpu_time_total: float = 0.0
    self_cpu_time_total: float = 0.0
    cpu_memory_usage: int = 0
    self_cpu_memory_usage: int = 0
    input_shapes: list[list[int]] | None = None
    stack: list[str] = field(default_factory=list)
    is_user_annotation: bool = False

    def add(self, other: "FunctionEvent | FunctionEventAvg") -> "FunctionEventAvg":
        """Adds an event, or other sums."""
        if not self.count:
            self.is_user_annotation = other.is_user_annotation
        self.count += other.count
        self.cpu_time_total += other.cpu_time_total
        self.self_cpu_time_total += other.self_cpu_time_total
        self.cpu_memory_usage += other.cpu_memory_usage
        self.self_cpu_memory_usage += other.self_cpu_memory_usage
        return self

    def __repr__(self) -> str:
        return (
            f"<FunctionEventAvg key={self.key} self_cpu_time={self.self_cpu_time_total_str} "
            f"cpu_time={self.cpu_time_str} input_shapes={self.input_shapes or ''} "
            f"cpu_memory_usage={self.cpu_memory_usage}>"
        )


class EventList(list[Any]):
    """Events or sums of events, with a table.

    Parameters
    ----------
    events : iterable of FunctionEvent or FunctionEventAvg
        What is in the list.
    profile_memory : bool
        Whether the table has columns for memory.
    start_ns : int
        When the profile began, in nanoseconds since 1970.
    """

    def __init__(
        self, events: Iterable[Any] = (), *, profile_memory: bool = False, start_ns: int = 0
    ) -> None:
        super().__init__(events)
        self._profile_memory = profile_memory
        self._start_ns = start_ns

    @classmethod
    def of_records(
        cls, records: Iterable[Record], *, profile_memory: bool, start_ns: int
    ) -> "EventList":
        """Events of the engine's records, nested and in order of their beginnings."""
        records = sorted(records, key=lambda r: (r["begin"], -r["end"]))
        events = cls(
            (FunctionEvent(i + 1, record) for i, record in enumerate(records)),
            profile_memory=profile_memory,
            start_ns=start_ns,
        )
        open_events: dict[int, list[FunctionEvent]] = {}
        for event in events:
            outer = open_events.setdefault(event.thread, [])
            while outer and outer[-1].time_range.end < event.time_range.end:
                outer.pop()
            if outer:
                event.cpu_parent = outer[-1]
                outer[-1].cpu_children.append(event)
            outer.append(event)
        return events

    @property
    def self_cpu_time_total(self) -> float:
        """Time of all events, each moment counted once per thread."""
        return float(sum(event.self_cpu_time_total for event in self))

    def key_averages(
        self,
        group_by_input_shape: bool = False,
        group_by_stack_n: int = 0,
        group_by_overload_name: bool = False,  # noqa: ARG002 - one name each
    ) -> "EventList":
        """Events added up by name.

        Parameters
        ----------
        group_by_input_shape : bool
            Keep calls with other shapes apart.
        group_by_stack_n : int
            Keep calls from other places apart, by this many lines of their stacks.
        group_by_overload_name : bool
            Accepted; operations have one name each here.
        """
        sums: dict[Hashable, FunctionEventAvg] = {}
        for event in self:
            stack = event.stack[:group_by_stack_n] if group_by_stack_n > 0 else []
            shapes = event.input_shapes if group_by_input_shape else None
            key = (event.name, str(shapes), tuple(stack))
            if key not in sums:
                sums[key] = FunctionEventAvg(key=event.name, input_shapes=shapes, stack=stack)
            sums[key].add(event)
        return EventList(sums.values(), profile_memory=self._profile_memory)

    def total_average(self) -> FunctionEventAvg:
        """All events added up, under the name `Total`."""
        total = FunctionEventAvg(key="Total")
        for event in self:
            total.add(event)
        return total

    def export_chrome_trace(self, path: str) -> None:
        """Writes a file that Perfetto and `chrome://tracing` open; `.gz` is compressed."""
        write_chrome_trace(path, self, self._start_ns, {})

    def table(
        self,
        sort_by: str | None = None,
        row_limit: int = 100,
        max_src_column_width: int = 75,
        max_name_column_width: int = 55,
        max_shapes_column_width: int = 80,
        header: str | None = None,
        top_level_events_only: bool = False,
        time_unit: str | None = None,
    ) -> str:
        """A table of the events.

        Parameters
        ----------
        sort_by : str, optional
            `cpu_time`, `cpu_time_total`, `self_cpu_time_total`, `cpu_memory_usage`,
            `self_cpu_memory_usage` or `count`: largest first.
        row_limit : int
            How many rows; -1 for all.
        max_src_column_width, max_name_column_width, max_shapes_column_width : int
            Longer texts are cut off.
        header : str, optional
            A line above the table.
        top_level_events_only : bool
            Leave out what was called by other events.
        time_unit : {'s', 'ms', 'us'}, optional
            One unit for all times.

        Returns
        -------
        str
            The table.
        """
        rows = [e for e in self if not (top_level_events_only and getattr(e, "cpu_parent", None))]
        if sort_by is not None:
            rows.sort(key=_sort_key(sort_by), reverse=True)
        rows = rows if row_limit < 0 else rows[:row_limit]
        whole = self.self_cpu_time_total

        def time(us: float) -> str:
            return format_time(us) if time_unit is None else _in_unit(us, time_unit)

        def share(us: float) -> str:
            return f"{us / whole:.2%}" if whole else "NaN"

        columns: list[tuple[str, Callable[[Any], str], int]] = [
            ("Name", lambda e: e.key, max_name_column_width),
            ("Self CPU %", lambda e: share(e.self_cpu_time_total), 0),
            ("Self CPU", lambda e: time(e.self_cpu_time_total), 0),
            ("CPU total %", lambda e: share(e.cpu_time_total), 0),
            ("CPU total", lambda e: time(e.cpu_time_total), 0),
            ("CPU time avg", lambda e: time(e.cpu_time), 0),
        ]
        if self._profile_memory:
            columns.append(("CPU Mem", lambda e: format_memory(e.cpu_memory_usage), 0))
            columns.append(("Self CPU Mem", lambda e: format_memory(e.self_cpu_memory_usage), 0))
        columns.append(("# of Calls", lambda e: str(e.count), 0))
        if any(e.input_shapes for e in rows):
            columns.append(("Input Shapes", _shapes, max_shapes_column_width))
        if any(e.stack for e in rows):
            columns.append(("Source Location", _source, max_src_column_width))
        text = _layout(
            [title for title, *_ in columns],
            [[_cut(of(event), limit) for _, of, limit in columns] for event in rows],
        )
        above = f"{header}\n" if header else ""
        return f"{above}{text}\nSelf CPU time total: {time(whole)}\n"

    def __str__(self) -> str:
        return self.table()


_SORT_KEYS = (
    "cpu_time",
    "cpu_time_total",
    "self_cpu_time_total",
    "cpu_memory_usage",
    "self_cpu_memory_usage",
    "count",
)


def _sort_key(name: str) -> Callable[[Any], float]:
    if name in _SORT_KEYS:
        return lambda event: float(getattr(event, name))
    if name.removeprefix("self_").startswith(("cuda_", "device_")):
        return lambda _event: 0.0  # there is no other device than the CPU
    raise AttributeError(f"table: cannot sort by {name!r}, only by {', '.join(_SORT_KEYS)}")


def _in_unit(us: float, unit: str) -> str:
    sizes = {"s": 1e6, "ms": 1e3, "us": 1.0}
    if unit not in sizes:
        raise ValueError(f"table: time_unit must be 's', 'ms' or 'us', not {unit!r}")
    return f"{us / sizes[unit]:.3f}{unit}"


def _shapes(event: Any) -> str:
    return "" if event.input_shapes is None else str(event.input_shapes)


def _source(event: Any) -> str:
    return event.stack[0] if event.stack else ""


def _cut(text: str, limit: int) -> str:
    return text if not limit or len(text) <= limit else text[: limit - 3] + "..."


def _layout(titles: list[str], rows: list[list[str]]) -> str:
    """Columns between lines of dashes, aligned to the right."""
    widths = [max([len(title), 12, *(len(r[i]) for r in rows)]) for i, title in enumerate(titles)]
    line = "  ".join("-" * width for width in widths) + "  "

    def row(cells: list[str]) -> str:
        return "  ".join(cell.rjust(w) for cell, w in zip(cells, widths, strict=True)) + "  "

    return "\n".join([line, row(titles), line, *map(row, rows), line])
