"""Numbers of a model set by the paths of their fields: `memory.knum=256,512`, for sweeps."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from itertools import product
from math import prod
from typing import Any, TypeAlias, TypeVar

from pydantic import ValidationError

from costmodel.errors import InputError, shown
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.parse import parse_counts, parse_number
from costmodel.inputs.typed_names import did_you_mean
from costmodel.layers.base import LayerKind
from costmodel.strict import explained

MAX_DESIGNS = 4096  # of one model
MAX_WHOLE = 2**31  # the rules of a field are narrower
MAX_DECIMAL = 1e6
PLACE = re.compile(r"\d{1,4}", re.ASCII)  # a number in a path: which of several
LAYERS = ("attention", "ffn", "memory")  # a path that begins so is of all layers that are alike

Value: TypeAlias = int | float
Address: TypeAlias = tuple[str | int, ...]
"""Where a field stands: `("overrides", 0, "ffn", "intermediate_size")`."""
Record = TypeVar("Record")


def parse_set(texts: Sequence[str]) -> dict[str, str]:
    """`FIELD=LIST` of each text, as the list of each field; what they mean depends on the model.

    Raises:
        InputError: A text is no such pair, or a field stands twice.
    """
    lists: dict[str, str] = {}
    for text in texts:
        path, equals, values = (word.strip() for word in text.partition("="))
        if not (equals and path and values):
            raise InputError(f"set={shown(text)}: must be FIELD=LIST, such as memory.knum=256,512")
        if path in lists:
            raise InputError(f"set={shown(text)}: the field is set twice")
        lists[path] = values
    return lists


def designs(
    model: ModelConfig, lists: Mapping[str, str]
) -> list[tuple[dict[str, Value], ModelConfig]]:
    """The model at every combination of the values of the fields, with these values.

    Args:
        model: The model to change.
        lists: By the path of a field: whole numbers and ranges (`64-256/64`), or decimal numbers
            where the field holds one.

    Raises:
        InputError: The model has no such number, a list is none, there are over `MAX_DESIGNS`
            combinations, or a rule of the model refuses one.
    """
    addresses = {path: _addresses(model, path) for path in lists}
    values = {
        path: _values(path, text, value_at(model, addresses[path][0]))
        for path, text in lists.items()
    }
    count = prod(map(len, values.values()))
    if count > MAX_DESIGNS:
        raise InputError(f"set={count}: a sweep has at most {MAX_DESIGNS:,} designs of a model")
    made = []
    for combination in product(*values.values()):
        chosen = dict(zip(values, combination, strict=True))
        changes = {place: value for path, value in chosen.items() for place in addresses[path]}
        try:
            made.append((chosen, replaced(model, changes)))
        except ValidationError as error:
            text = ", ".join(f"{path}={value}" for path, value in chosen.items())
            raise InputError(f"set={shown(text)}: {explained(error)}") from None
    return made


def blocks(model: ModelConfig) -> Iterator[tuple[Address, LayerKind]]:
    """Where the layers of a model stand in its file: the default ones first."""
    yield ("attention",), model.attention
    yield ("ffn",), model.ffn
    for index, override in enumerate(model.overrides):
        if override.attention is not None:
            yield ("overrides", index, "attention"), override.attention
        if override.ffn is not None:
            yield ("overrides", index, "ffn"), override.ffn
    for index, shortcut in enumerate(model.shortcuts):
        yield ("shortcuts", index, "ffn"), shortcut.ffn
    for index, memory in enumerate(model.memory):
        yield ("memory", index), memory


def replaced(record: Record, changes: Mapping[Address, object]) -> Record:
    """The record with other values at some addresses, all set before any rule is checked.

    Raises:
        pydantic.ValidationError: a rule refuses the values.
    """
    inner: dict[str | int, dict[Address, object]] = {}
    for (first, *rest), value in changes.items():
        inner.setdefault(first, {})[tuple(rest)] = value
    parts: dict[Any, Any] = {
        step: below[()] if () in below else replaced(value_at(record, (step,)), below)
        for step, below in inner.items()
    }
    if isinstance(record, tuple):
        return tuple(parts.get(index, item) for index, item in enumerate(record))  # type: ignore[return-value]
    return replace(record, **parts)  # type: ignore[type-var]  # configurations are dataclasses


def value_at(record: Any, address: Address) -> Any:  # noqa: ANN401 - a field of any type
    """The value of a field within a record; LookupError if there is no such field."""
    for step in address:
        if isinstance(step, int) and isinstance(record, tuple):
            record = record[step]
        elif is_dataclass(record) and step in {field.name for field in fields(record)}:
            record = getattr(record, str(step))
        else:
            raise LookupError(step)
    return record


def _addresses(model: ModelConfig, path: str) -> list[Address]:
    """Where the field of a path stands.

    `memory.knum` is that of the first such layer that sets the field, and of all others that share
    its value there; `memory.1.knum` and `overrides.0.ffn.intermediate_size` are of one place.
    """
    first, *rest = (int(step) if PLACE.fullmatch(step) else step for step in path.split("."))
    places: list[Address] = [(first, *rest)]
    if first in LAYERS and rest and isinstance(rest[0], str):
        places = [(*address, *rest) for address, _ in blocks(model) if first in address]
    known = [place for place in places if _holds_number(model, place)]
    if not known:
        raise _no_such(model, path)
    values = [value_at(model, place) for place in known]
    before = next((value for value in values if value is not None), None)
    return [place for place in known if value_at(model, place) == before]


def _holds_number(model: ModelConfig, place: Address) -> bool:
    """Whether a number stands there, or may stand in a field of a layer that is not set."""
    try:
        record, value = value_at(model, place[:-1]), value_at(model, place)
    except LookupError:
        return False
    if value is None:
        return isinstance(record, LayerKind)
    return isinstance(value, int | float) and not isinstance(value, bool)


def _no_such(model: ModelConfig, path: str) -> InputError:
    records: list[tuple[Address, object]] = [((), model), *blocks(model)]
    known: dict[str, None] = {}
    for address, record in records:
        where = [step for step in address if step in LAYERS]
        for field in fields(record):  # type: ignore[arg-type]  # configurations are dataclasses
            if _holds_number(model, (*address, field.name)):
                known[".".join((*map(str, where), field.name))] = None
    return InputError(
        f"set={shown(path)}: is no number of {shown(model.name)}{did_you_mean(path, [*known])};"
        f" its numbers: {', '.join(known)}"
    )


def _values(path: str, text: str, before: object) -> tuple[Value, ...]:
    if not isinstance(before, float):
        return parse_counts(text, field=path, low=0, high=MAX_WHOLE)
    values = [
        parse_number(item.strip(), field=path, low=0, high=MAX_DECIMAL) for item in text.split(",")
    ]
    if len(set(values)) != len(values):
        raise InputError(f"{path}={shown(text)}: a value is listed twice")
    return tuple(values)
