"""Which live graphs hold how much memory, and which lines of the program made them."""

from dataclasses import dataclass
from typing import Any

from wengert import _core
from wengert._profiling.events import format_memory


@dataclass(frozen=True)
class Holding:
    """What the operations recorded at one line hold."""

    file: str | None
    """The source file; None where it is not known."""
    line: int | None
    """The line in it."""
    function: str | None
    """The function that it is in."""
    nodes: int
    """Recorded operations."""
    saved_bytes: int
    """Bytes that they saved for backward."""
    total_bytes: int
    """Bytes with those of the nodes themselves."""
    operations: dict[str, int]
    """How many nodes of which name."""

    @property
    def place(self) -> str:
        """As in `train.py:12 (step)`."""
        return f"{self.file}:{self.line} ({self.function})" if self.file else "unknown"


class GraphMemory(list[Holding]):
    """Lines with what they hold, those that hold most first; prints as a table."""

    @property
    def nodes(self) -> int:
        """Recorded operations of all lines."""
        return sum(holding.nodes for holding in self)

    @property
    def saved_bytes(self) -> int:
        """Saved bytes of all lines."""
        return sum(holding.saved_bytes for holding in self)

    @property
    def total_bytes(self) -> int:
        """Bytes of all lines, nodes included."""
        return sum(holding.total_bytes for holding in self)

    def table(self, row_limit: int = 20) -> str:
        """The lines that hold most.

        Parameters
        ----------
        row_limit : int
            How many rows; -1 for all.
        """
        shown = list(self) if row_limit < 0 else self[:row_limit]
        rows = [("bytes", "saved", "nodes", "made at", "operations")]
        for holding in shown:
            names = list(holding.operations)
            more = f" and {len(names) - 2} more" if len(names) > 2 else ""
            rows.append(
                (
                    format_memory(holding.total_bytes),
                    format_memory(holding.saved_bytes),
                    str(holding.nodes),
                    holding.place,
                    ", ".join(names[:2]) + more,
                )
            )
        total = format_memory(self.total_bytes), format_memory(self.saved_bytes), str(self.nodes)
        rows.append((*total, f"in all, {len(self)} lines", ""))
        widths = [max(len(row[i]) for row in rows) for i in range(4)]
        return "\n".join(
            "  ".join(
                [*(row[i].rjust(widths[i]) for i in range(3)), row[3].ljust(widths[3]), row[4]]
            ).rstrip()
            for row in rows
        )

    def __str__(self) -> str:
        return self.table()

    __repr__ = __str__


def graph_memory() -> GraphMemory:
    """What all live graphs of the process hold, by the line of the program that recorded it.

    Memory that keeps growing is mostly a graph that nobody meant to keep, as `total += loss` does:
    every round's graph hangs on the sum. Called before and after some rounds, this names the line.

    Returns
    -------
    GraphMemory
        A list of `Holding`, those that hold most first: `file`, `line`, `function`, `nodes`,
        `saved_bytes`, `total_bytes`, `operations`. Its `str` is a table.

    Notes
    -----
    Memory that several nodes saved counts once, for the line of the oldest of them. Leaves that
    require grad do not count: they live with or without a graph. The count takes some ten
    nanoseconds per node that ever lived at the same time.

    Examples
    --------
    >>> import wengert
    >>> w = wengert.ones(1000, requires_grad=True)
    >>> total = wengert.zeros(())
    >>> for _ in range(100):
    ...     total = total + (w * 2).exp().sum()
    >>> held = wengert.graph_memory()
    >>> held[0].operations
    {'AddBackward0': 100, 'ExpBackward0': 100, 'MulBackward0': 100, 'SumBackward0': 100}
    >>> held.saved_bytes >= 100 * 1000 * 4  # the result of exp, each time
    True
    >>> del total
    >>> wengert.graph_memory()
    bytes  saved  nodes  made at          operations
      0 B    0 B      0  in all, 0 lines
    """
    # The engine counts by instruction; several make a line.
    lines: dict[tuple[str | None, int | None, str | None], list[dict[str, Any]]] = {}
    for record in _core._census():
        lines.setdefault(record["place"] or (None, None, None), []).append(record)
    held = GraphMemory(_holding(*place, records) for place, records in lines.items())
    held.sort(key=lambda holding: -holding.total_bytes)
    return held


def _holding(
    file: str | None, line: int | None, function: str | None, records: list[dict[str, Any]]
) -> Holding:
    operations: dict[str, int] = {}
    for record in records:
        for name, count in record["names"]:
            operations[name] = operations.get(name, 0) + count
    return Holding(
        file=file,
        line=line,
        function=function,
        nodes=sum(record["nodes"] for record in records),
        saved_bytes=sum(record["saved"] for record in records),
        total_bytes=sum(record["bytes"] for record in records),
        operations=dict(sorted(operations.items(), key=lambda item: (-item[1], item[0]))),
    )
