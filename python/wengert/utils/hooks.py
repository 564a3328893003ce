"""Handles of hooks."""

from wengert._core import RemovableHandle

__all__ = ["RemovableHandle"]
