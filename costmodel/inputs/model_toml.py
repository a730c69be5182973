"""A model as the table of a file, and as the TOML text that reads back as the same model."""

from dataclasses import fields
from typing import Any

import tomli_w

from costmodel.inputs.model import ModelConfig, Override, Shortcut
from costmodel.inputs.output_file import OutputFile
from costmodel.inputs.storage import storage_table
from costmodel.inputs.tower import Tower
from costmodel.inputs.unset import UNSET
from costmodel.layers.base import LayerKind
from costmodel.layers.formats import Storage

SUFFIX = ".toml"


def model_table(model: ModelConfig) -> dict[str, Any]:
    """The model as nested tables, which `model_from_table` reads back as the same model.

    Fields at their defaults are left out, but for the kind of a layer. The layers of an override
    stand whole, so that none of their fields is inherited; an unset field is None there.
    """
    return _table(model, whole=False)


def model_toml(model: ModelConfig) -> str:
    """The model as TOML; the layers of an override say only what they do not inherit.

    A field that an override leaves unset, and the default layer does not, says "none" there.
    """
    table = model_table(model)
    for override, layers in zip(model.overrides, table.get("overrides", ()), strict=True):
        if override.attention is not None:
            layers["attention"] = _changes(override.attention, model.attention)
        if override.ffn is not None:
            layers["ffn"] = _changes(override.ffn, model.ffn)
    return tomli_w.dumps(table)


def write_model(model: ModelConfig, out: OutputFile) -> None:
    """Write `model_toml` to a file.

    Raises:
        InputError: The name does not end in `SUFFIX`, or the path breaks a rule of `OutputFile`.
        WorkError: The system cannot write the file.
    """
    out.check(SUFFIX)
    out.write(model_toml(model))


def _table(record: object, *, whole: bool) -> dict[str, Any]:
    """The fields of a record: those that differ from their defaults and the kind, or all.

    What stands within a layer kind is none that an override inherits from: it is not `whole`.
    """
    table = {}
    within = whole and not isinstance(record, LayerKind)
    for field in fields(record):  # type: ignore[arg-type]  # configurations are dataclasses
        value = getattr(record, field.name)
        if isinstance(record, Override) and value is None:
            continue  # that half of the layer is the default one
        if whole or field.name == "kind" or value not in (field.default, (), {}):
            table[field.name] = _value(value, whole=within)
    return table


def _value(value: object, *, whole: bool) -> object:
    if isinstance(value, LayerKind | Tower | Shortcut):
        return _table(value, whole=whole)
    if isinstance(value, Override):
        return _table(value, whole=True)
    if isinstance(value, Storage):
        return storage_table(value)
    if isinstance(value, tuple):
        return [_value(item, whole=whole) for item in value]
    return value


def _changes(layer: LayerKind, default: LayerKind) -> dict[str, Any]:
    """What a layer of an override does not inherit from the default layer of the model."""
    if type(layer) is not type(default):
        return _table(layer, whole=False)
    return {
        name: UNSET if value is None else value
        for name, value in _table(layer, whole=True).items()
        if getattr(layer, name) != getattr(default, name)
    }
