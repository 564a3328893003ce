"""Submodules under another name of the package.

Ported programs say ``sys.modules["torch"] = wengert`` and go on with
``import torch.nn.functional``. Python would find the file and run it a second time, as another
module with other classes. The finder here answers instead, with the module that there is.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType

_PACKAGE = __name__.rpartition(".")[0]


class _AliasFinder:
    """Finds ``NAME.rest`` where ``NAME`` stands for this package."""

    @staticmethod
    def find_spec(fullname: str, _path: object, _target: object = None) -> ModuleSpec | None:
        head, _, rest = fullname.partition(".")
        if not rest or head == _PACKAGE or sys.modules.get(head) is not sys.modules[_PACKAGE]:
            return None
        name = f"{_PACKAGE}.{rest}"
        try:
            real = import_module(name)
        except ModuleNotFoundError as error:
            if error.name == name:
                return None
            raise
        loader = _AliasLoader(real)
        package = hasattr(real, "__path__")
        return ModuleSpec(fullname, loader, is_package=package)  # type: ignore[arg-type]


class _AliasLoader:
    """Gives a module that is loaded already, as it was."""

    def __init__(self, module: ModuleType) -> None:
        self._module = module
        self._spec = module.__spec__

    def create_module(self, _spec: ModuleSpec) -> ModuleType:
        return self._module

    def exec_module(self, module: ModuleType) -> None:
        # The import system has written the alias's spec into the module.
        module.__spec__ = self._spec


def install() -> None:
    """Has imports under other names answered."""
    sys.meta_path.insert(0, _AliasFinder)
