"""Named tuples of operations with several results, such as ``max(dim)``."""

from __future__ import annotations

from functools import lru_cache
from operator import itemgetter


@lru_cache(maxsize=None)
def _named(name: str, fields: tuple[str, ...]) -> type:
    def __repr__(self: tuple) -> str:  # type: ignore[type-arg]
        body = ",\n".join(f"{field}={value!r}" for field, value in zip(fields, self, strict=True))
        return f"torch.return_types.{name}(\n{body})"

    members: dict[str, object] = {
        "__slots__": (),
        "__repr__": __repr__,
        "__doc__": f"Result of `{name}`: {', '.join(fields)}.",
        "__match_args__": fields,
        "_fields": fields,
    }
    for i, field in enumerate(fields):
        members[field] = property(itemgetter(i), doc=f"Item {i}.")
    return type(name, (tuple,), members)


def named(name: str, fields: list[str]) -> type:
    """The class of results of operation `name`, made at first use."""
    return _named(name, tuple(fields))
