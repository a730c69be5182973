"""Which PyTorch module runs which layer kind of the cost model.

A file of this folder that says `@runs(TheKind)` is found without an entry anywhere.
"""

import importlib
import pkgutil
from collections.abc import Callable
from typing import Any, TypeVar

from torch import nn

import reference_model
from costmodel.layers.base import LayerKind

M = TypeVar("M", bound=type[nn.Module])

_MODULES: dict[type[LayerKind], type[nn.Module]] = {}


def runs(kind: type[LayerKind]) -> Callable[[M], M]:
    """A class decorator: this module runs layers of `kind`."""

    def register(module: M) -> M:
        assert kind not in _MODULES, f"{kind.__name__} has a module"
        _MODULES[kind] = module
        return module

    return register


def module_of(kind: LayerKind) -> Any:  # noqa: ANN401 - bases differ in their arguments
    """The module class that runs this layer configuration."""
    if type(kind) not in _MODULES:
        for file in pkgutil.iter_modules(reference_model.__path__):
            if file.name not in ("cli", "__main__"):
                importlib.import_module(f"reference_model.{file.name}")
    return _MODULES[type(kind)]
