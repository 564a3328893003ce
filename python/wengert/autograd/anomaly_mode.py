"""Anomaly mode: which forward operation a NaN, or an error of backward, comes from.

Switched on, every recorded operation keeps the traceback of its call, and a pass that fails warns
with the traceback of the operation whose rule failed, and of those whose rules made that operation
in turn. A NaN in a gradient counts as a failure unless `check_nan` is false.

The mode is one of the whole process. It costs a traceback per operation, so it is for debugging;
the line of an operation is in most errors without it.
"""

from __future__ import annotations

import warnings

from wengert._core import (
    is_anomaly_check_nan_enabled,
    is_anomaly_enabled,
    set_anomaly_enabled,
)

__all__ = ["detect_anomaly", "set_detect_anomaly"]


class detect_anomaly:
    """Find out where errors of backward come from, in a block.

    Parameters
    ----------
    check_nan
        Make a NaN in a gradient an error.

    Examples
    --------
    >>> import warnings, wengert
    >>> x = wengert.tensor([0.0], requires_grad=True)
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore")
    ...     with wengert.autograd.detect_anomaly():
    ...         try:
    ...             (x.sqrt() * 0).sum().backward()
    ...         except RuntimeError as error:
    ...             print(str(error).splitlines()[0])
    Function 'SqrtBackward0' returned nan values in its 0th output.
    """

    def __init__(self, check_nan: bool = True) -> None:
        self.prev = is_anomaly_enabled()
        self.check_nan = check_nan
        self.prev_check_nan = is_anomaly_check_nan_enabled()
        warnings.warn(
            "Anomaly Detection has been enabled. This mode will increase the runtime and should "
            "only be enabled for debugging.",
            stacklevel=2,
        )

    def __enter__(self) -> None:
        set_anomaly_enabled(True, self.check_nan)

    def __exit__(self, *args: object) -> None:
        set_anomaly_enabled(self.prev, self.prev_check_nan)


class set_detect_anomaly:
    """Switch anomaly mode on or off. Takes effect at once; as a block, until its end.

    Parameters
    ----------
    mode
        Whether to switch it on.
    check_nan
        Make a NaN in a gradient an error.

    Examples
    --------
    >>> import wengert
    >>> with wengert.autograd.set_detect_anomaly(True):
    ...     wengert.is_anomaly_enabled()
    True
    >>> wengert.is_anomaly_enabled()
    False
    """

    def __init__(self, mode: bool, check_nan: bool = True) -> None:
        self.prev = is_anomaly_enabled()
        self.prev_check_nan = is_anomaly_check_nan_enabled()
        set_anomaly_enabled(mode, check_nan)

    def __enter__(self) -> None:
        pass

    def __exit__(self, *args: object) -> None:
        set_anomaly_enabled(self.prev, self.prev_check_nan)
