"""What programs written for PyTorch reach for in ``torch._C``.

Those names are nobody's interface, and yet libraries and tests use some of them, mostly to ask
about the running backward pass. Here they are other names of what this package has anyway.
"""

from typing import Any

from wengert._core import (
    Tensor,
    _current_autograd_node,
    _current_graph_task_id,
    _is_fwd_grad_enabled,
    _set_fwd_grad_enabled,
    _set_grad_enabled,
    _will_engine_execute_node,
    is_grad_enabled,
)

from . import _autograd as _autograd
from . import _functions as _functions

__all__ = [
    "_WeakTensorRef",
    "_current_autograd_node",
    "_current_graph_task_id",
    "_is_fwd_grad_enabled",
    "_set_fwd_grad_enabled",
    "_set_grad_enabled",
    "_will_engine_execute_node",
    "is_grad_enabled",
]


class _WeakTensorRef:
    """Tells whether a tensor is gone.

    Examples
    --------
    >>> import wengert
    >>> x = wengert.ones(2)
    >>> ref = wengert._C._WeakTensorRef(x)
    >>> ref.expired()
    False
    >>> del x
    >>> ref.expired()
    True
    """

    def __init__(self, tensor: Tensor) -> None:
        import weakref

        self._ref: Any = weakref.ref(tensor)

    def expired(self) -> bool:
        """Whether the tensor's object is gone."""
        return self._ref() is None
