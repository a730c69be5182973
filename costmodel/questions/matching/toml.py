"""A model as the TOML file that reads back as the same model."""

import json
import os
import re
from dataclasses import fields
from pathlib import Path
from secrets import token_hex
from typing import Any

from costmodel.errors import InputError, shown
from costmodel.inputs.model import ModelConfig
from costmodel.layers.base import LayerKind

BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
HEADER = "# Written by: sparsecost match\n"


def model_toml(model: ModelConfig) -> str:
    """The TOML text of `model`: what differs from the defaults; overrides whole.

    Raises:
        InputError: an override leaves a field unset that the default layer sets: it would inherit.
    """
    table = model_table(model)
    lines = [HEADER]
    lines += [f"{key} = {_value(value)}\n" for key, value in table.items() if _plain(value)]
    for key, value in table.items():
        for each in [value] if isinstance(value, dict) else [] if _plain(value) else value:
            lines.append(f"\n[{key}]\n" if each is value else f"\n[[{key}]]\n")
            lines += [f"{_key(name)} = {_value(held)}\n" for name, held in each.items()]
    return "".join(lines)


def write_model(model: ModelConfig, path: Path) -> None:
    """Write `model_toml` to a new file: whole or not at all, and never over another file.

    Raises:
        InputError: the name does not end in .toml, is taken, or cannot be written.
    """
    name, text = shown(str(path)), model_toml(model)
    if path.suffix.lower() != ".toml":
        raise InputError(f"out={name}: ends in .toml")
    if os.path.lexists(path):
        raise InputError(f"out={name}: exists, and a model file is never overwritten")
    temporary = path.with_name(f".{token_hex(8)}.part")
    try:
        try:
            temporary.write_text(text, encoding="utf-8")
            temporary.rename(path)
        finally:
            temporary.unlink(missing_ok=True)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"out={name}: cannot be written: {reason}") from None


def model_table(model: ModelConfig) -> dict[str, Any]:
    """The model as the nested tables that a file holds."""
    table = _changed(model)
    if model.overrides:
        table["overrides"] = [
            {
                "layers": each.layers,
                **{
                    name: _whole(kind, getattr(model, name))
                    for name in ("attention", "ffn")
                    if (kind := getattr(each, name)) is not None
                },
            }
            for each in model.overrides
        ]
    return table


def _changed(record: object) -> dict[str, Any]:
    """The fields that differ from their defaults, and the kind of a layer."""
    found: dict[str, Any] = {}
    for each in fields(record):  # type: ignore[arg-type]  # configurations are dataclasses
        value = getattr(record, each.name)
        if value in (each.default, {}) and each.name != "kind":
            continue
        if isinstance(value, LayerKind):
            value = _changed(value)
        elif isinstance(value, tuple):
            value = [_changed(item) if isinstance(item, LayerKind) else item for item in value]
        found[each.name] = value
    return found


def _whole(kind: LayerKind, default: LayerKind) -> dict[str, Any]:
    """Every field that an override sets; what it does not set, it inherits from the default."""
    found = {each.name: getattr(kind, each.name) for each in fields(kind)}  # type: ignore[arg-type]
    if type(kind) is type(default):
        for name, value in found.items():
            if value is None and getattr(default, name) is not None:
                raise InputError(
                    f"out: an override leaves {name} unset, which a TOML file cannot say where the"
                    f" default layer sets it"
                )
    return {name: value for name, value in found.items() if value is not None}


def _plain(value: object) -> bool:
    """Whether a value stands on one line of its table, and is no table or list of tables."""
    return not isinstance(value, dict) and not (
        isinstance(value, list) and all(isinstance(item, dict) for item in value)
    )


def _key(name: str) -> str:
    return name if BARE_KEY.fullmatch(name) else _value(name)


def _value(value: object) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_key(k)} = {_value(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    if isinstance(value, str):  # as in JSON, which leaves DEL as it is
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return json.dumps(value)  # true, false, integers, and floats as Python writes them
