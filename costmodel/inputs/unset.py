"""The word "none" in a model's table leaves an optional field of a layer unset.

TOML has no null, and a layer of an override inherits each field that it leaves out. Without a word
for it, an override could not say that its layers have no sliding window where the default has one.
"""

from collections.abc import Mapping
from functools import cache
from types import NoneType
from typing import Any, get_args, get_type_hints

from costmodel.layers.base import FfnKind, MemoryKind, MixerKind

UNSET = "none"
LAYER_BASES: Mapping[str, Any] = {"attention": MixerKind, "ffn": FfnKind, "memory": MemoryKind}
"""By the field of a model that holds such layers: what their kinds derive from."""


def model_with_unset(table: dict[str, Any]) -> dict[str, Any]:
    """A model's table with None for "none" in each field of a layer that may be unset.

    Layers of overrides and shortcuts are among them. Fields that must have a value keep the text,
    which their own rules then refuse; so does whatever stands in the place of a layer and is none.
    """
    resolved = dict(table)
    for field in LAYER_BASES:
        value = table.get(field)
        if isinstance(value, list):
            resolved[field] = [_with_unset(layer, field) for layer in value]
        elif field in table:
            resolved[field] = _with_unset(value, field)
    for name in ("overrides", "shortcuts"):
        tables = table.get(name)
        if isinstance(tables, list):
            resolved[name] = [
                model_with_unset(inner) if isinstance(inner, dict) else inner for inner in tables
            ]
    return resolved


def _with_unset(layer: object, field: str) -> object:
    if not isinstance(layer, dict):
        return layer
    kind = layer.get("kind")
    optional = _optional_fields(field).get(kind, frozenset()) if isinstance(kind, str) else ()
    return {
        name: None if value == UNSET and name in optional else value
        for name, value in layer.items()
    }


@cache
def _optional_fields(field: str) -> Mapping[str, frozenset[str]]:
    """By kind of the layers that a field of a model holds: their fields that may be None."""
    fields_by_kind = {}
    for layer_kind in LAYER_BASES[field].__subclasses__():
        hints = get_type_hints(layer_kind)
        (kind,) = get_args(hints["kind"])
        fields_by_kind[kind] = frozenset(
            name for name, hint in hints.items() if NoneType in get_args(hint)
        )
    return fields_by_kind
