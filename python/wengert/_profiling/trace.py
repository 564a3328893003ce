"""Profiles as files in the trace event format, which Perfetto and `chrome://tracing` open."""

import gzip
import json
import os
from collections.abc import Iterable
from typing import Any


def write_chrome_trace(
    path: str, events: Iterable[Any], start_ns: int, metadata: dict[str, Any]
) -> None:
    """Writes events to a file, compressed if its name ends in `.gz`.

    All threads lie on one time axis. Arrows lead from operations to their nodes in backward.
    """
    pid = os.getpid()
    start_us = start_ns / 1e3
    trace: list[dict[str, Any]] = [
        {"ph": "M", "name": "process_name", "pid": pid, "tid": 0, "args": {"name": "python"}}
    ]
    events = list(events)
    for thread in sorted({event.thread for event in events}):
        name = {"name": f"thread {thread}"}
        trace.append({"ph": "M", "name": "thread_name", "pid": pid, "tid": thread, "args": name})
    recorded = set()
    for event in events:
        place = {"pid": pid, "tid": event.thread, "ts": start_us + event.time_range.start}
        args: dict[str, Any] = {"External id": event.id}
        if event.sequence_nr >= 0:
            args["Sequence number"] = event.sequence_nr
        if event.input_shapes:
            args["Input Dims"] = event.input_shapes
        if event.cpu_memory_usage:
            args["Bytes"] = event.cpu_memory_usage
        if event.stack:
            args["Call stack"] = ";".join(reversed(event.stack))
        category = "user_annotation" if event.is_user_annotation else "cpu_op"
        duration = event.time_range.elapsed_us()
        shown = {"ph": "X", "cat": category, "name": event.name, "dur": duration, "args": args}
        trace.append(shown | place)
        flow = {"cat": "fwdbwd", "name": "fwdbwd", "id": event.sequence_nr}
        if event.is_backward and event.scope == 1 and event.sequence_nr in recorded:
            trace.append({"ph": "f", "bp": "e"} | flow | place)
        elif event.sequence_nr >= 0 and not event.is_backward:
            recorded.add(event.sequence_nr)
            trace.append({"ph": "s"} | flow | place)
    content = {"schemaVersion": 1, "displayTimeUnit": "ms", **metadata, "traceEvents": trace}
    open_file = gzip.open if str(path).endswith(".gz") else open
    with open_file(path, "wt", encoding="utf-8") as file:
        json.dump(content, file)
