"""Named tuples of operations with several results, such as ``max(dim)``."""

from __future__ import annotations

import re
from functools import cache
from operator import itemgetter


@cache
def _named(name: str, fields: tuple[str, ...]) -> type:
    def represent(self: tuple[object, ...]) -> str:
        body = ",\n".join(f"{field}={value!r}" for field, value in zip(fields, self, strict=True))
        return f"torch.return_types.{name}(\n{body})"

    members: dict[str, object] = {
        "__slots__": (),
        "__repr__": represent,
        "__doc__": f"Result of `{name}`: {', '.join(fields)}.",
        "__match_args__": fields,
        "_fields": fields,
    }
    for i, field in enumerate(fields):
        members[field] = property(itemgetter(i), doc=f"Item {i}.")
    return type(name, (tuple,), members)


def named(name: str, fields: list[str]) -> type:
    """Give the class of results of operation `name`, made at first use."""
    return _named(name, tuple(fields))


def __getattr__(name: str) -> type:
    """Find the class by the signatures of the operation, for pickle and for annotations."""
    from wengert._core import operations

    for row in operations():
        for signature in row["signatures"] if row["name"].replace(".", "_") == name else ():
            fields = re.findall(r"Tensor (\w+)", signature.partition("->")[2])
            if fields:
                return _named(name, tuple(fields))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
