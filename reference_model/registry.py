"""Which module runs which layer kind of the cost model: one file a kind, found by standing here."""

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
    """Declare that a module runs a layer kind."""

    def declare(module: M) -> M:
        assert kind not in _MODULES, f"{kind.__name__} has a module"
        _MODULES[kind] = module
        return module

    return declare


def module_of(kind: LayerKind) -> Any:  # noqa: ANN401 - bases differ in their arguments
    """The module class that runs a configuration."""
    if type(kind) not in _MODULES:
        for found in pkgutil.iter_modules(reference_model.__path__):
            if found.name not in ("cli", "__main__"):
                importlib.import_module(f"reference_model.{found.name}")
    return _MODULES[type(kind)]
