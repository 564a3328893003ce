"""What programs written for PyTorch reach for in ``torch._C._autograd``."""

from wengert._core import SavedTensor, _saved_tensors_hooks_is_enabled

__all__ = ["SavedTensor", "_saved_tensors_hooks_is_enabled"]
