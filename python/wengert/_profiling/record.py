"""`record_function` as a decorator, for the compiled class."""

import functools
from collections.abc import Callable
from typing import Any


def decorate(span: Any, function: Callable[..., Any]) -> Callable[..., Any]:
    """A function whose calls each are a span of that name."""

    @functools.wraps(function)
    def recorded(*args: Any, **kwargs: Any) -> Any:
        with type(span)(span.name, span.args):
            return function(*args, **kwargs)

    return recorded
