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


def _with_unset(layer: object, base: type[Any]) -> object:
    """The table of a layer, None in each field that may be unset and that says "none".

    Fields that must have a value keep the text, which their own rules then refuse; so does a layer
    of a kind that does not exist.

    Args:
        layer: A table of a parsed file, or whatever stands in its place.
        base: What it is a layer of: a mixer, an FFN, or a memory layer.
    """
    if not isinstance(layer, dict):
        return layer
    kind = layer.get("kind")
    optional = _optional_fields(base).get(kind, frozenset()) if isinstance(kind, str) else ()
    return {
        name: None if value == UNSET and name in optional else value
        for name, value in layer.items()
    }


@cache
def _optional_fields(base: type[Any]) -> Mapping[str, frozenset[str]]:
    """By kind of layer: its fields that may be None."""
    fields_by_kind = {}
    for layer_kind in base.__subclasses__():
        hints = get_type_hints(layer_kind)
        (kind,) = get_args(hints["kind"])
        fields_by_kind[kind] = frozenset(
            name for name, hint in hints.items() if NoneType in get_args(hint)
        )
    return fields_by_kind


LAYER_BASES: Mapping[str, type[Any]] = {
    "attention": MixerKind,
    "ffn": FfnKind,
    "memory": MemoryKind,
}
"""By the field of a model that holds such layers."""


def model_with_unset(table: dict[str, Any]) -> dict[str, Any]:
    """A model's table with None for each "none" of its layers, those of overrides among them."""
    resolved = dict(table)
    for field, base in LAYER_BASES.items():
        value = table.get(field)
        if isinstance(value, list):
            resolved[field] = [_with_unset(layer, base) for layer in value]
        elif isinstance(value, dict):
            resolved[field] = _with_unset(value, base)
    overrides = table.get("overrides")
    if isinstance(overrides, list):
        resolved["overrides"] = [
            model_with_unset(override) if isinstance(override, dict) else override
            for override in overrides
        ]
    return resolved
