"""What the program is about to do, read from its bytecode: only for better messages."""

import dis
from types import CodeType


def attribute_of_grad(code: CodeType, offset: int) -> str | None:
    """The name in `x.grad.name`, if the instruction at `offset` is that of `.grad`.

    None if the program does something else with the gradient, or if None has the attribute too.

    Examples
    --------
    >>> from wengert._hints import attribute_of_grad
    >>> def zero(x):
    ...     x.grad.zero_()
    >>> offsets = range(0, len(zero.__code__.co_code), 2)
    >>> {name for i in offsets if (name := attribute_of_grad(zero.__code__, i))}
    {'zero_'}
    """
    instructions = iter(dis.get_instructions(code))
    for instruction in instructions:
        if instruction.offset == offset:
            if instruction.opname != "LOAD_ATTR" or instruction.argval != "grad":
                return None
            break
    following = next(instructions, None)
    if following is None or following.opname not in ("LOAD_ATTR", "LOAD_METHOD"):
        return None
    name = str(following.argval)
    return None if hasattr(None, name) else name
