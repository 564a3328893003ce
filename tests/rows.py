"""One row of the table of bad inputs, and how it is checked: see `test_reliability.py`."""

import re
from dataclasses import dataclass


@dataclass
class Case:
    """A row: the code, and either the exception with a pattern, or what `result` must be."""

    row: str
    code: str
    raises: str = ""
    match: str = ""
    result: object = None
    warns: str = ""
    limit: float = 5.0
    memory: int | None = None
    longest: int = 400


def check(isolated, case):
    """Runs the row in a process of its own; what it gives, raises and warns of must be right."""
    answer = isolated(case.code, case.limit, case.memory)
    if not case.raises:
        assert answer["outcome"] == "value", answer
        assert answer["value"] == case.result
    else:
        assert answer["outcome"] == "raised", answer
        assert set(case.raises.split("|")) & set(answer["classes"]), answer
        matches(case.match, answer["message"])
        assert len(answer["message"]) <= case.longest
    warned = [w for w in answer["warnings"] if not w.startswith("ResourceWarning")]
    assert bool(warned) == bool(case.warns), warned
    assert all(w.startswith(case.warns) for w in warned)


def matches(pattern, message):
    assert re.search(pattern, message, re.DOTALL), f"{message!r} lacks {pattern!r}"
