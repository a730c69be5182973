"""Strict validation of a user's data: one error with all broken rules, as `field=value: rule`."""

import json
import re
from collections.abc import Callable, Hashable, Iterator
from functools import cache
from typing import Any, NoReturn, TypeVar, cast

from pydantic import ConfigDict, TypeAdapter, ValidationError

from costmodel.errors import LONG_BITS, InputError, shown

STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, defer_build=True)
"""The configuration of each dataclass that a user fills: no coercion, unknown field or NaN.

A validator is built when it is first needed: most layer kinds are only parts of another one.
"""

MAX_LISTED = 8  # broken rules that one message states
HALF_RULE = 120  # characters of its start and of its end
PLAIN_NAME = re.compile(r"[\w.-]{1,80}", re.ASCII)

T = TypeVar("T")


def validated(cls: type[T], data: dict[str, Any], *, where: str) -> T:
    """An instance of `cls` made from parsed TOML or JSON.

    Args:
        cls: A pydantic dataclass, or another type that pydantic validates.
        data: Its fields.
        where: What the message begins with, such as the name of the file.

    Raises:
        InputError: `data` breaks rules; the message lists them, each as `field=value: rule`.
    """

    def no_json(value: object) -> NoReturn:  # a date of TOML
        field = _field(data, lambda candidate: candidate is value)
        raise InputError(f"{where}: {field}={shown(value)}: is of no JSON type")

    try:  # JSON mode: lists may fill tuples, objects fill dataclasses
        text = json.dumps(data, default=no_json)
    except InputError:
        raise
    except ValueError:  # Python prints no integer of that length, and TOML may hold it in base 16
        field = _field(data, lambda held: isinstance(held, int) and held.bit_length() > LONG_BITS)
        raise InputError(f"{where}: {field}: holds an integer that is too long") from None
    except (TypeError, RecursionError) as error:
        raise InputError(f"{where}: holds a value of no JSON type: {error}") from None
    try:
        checked: T = _adapter(cast("Hashable", cls)).validate_json(text)
    except ValidationError as error:
        raise InputError(f"{where}: {explained(error)}") from None
    return checked


def explained(error: ValidationError) -> str:
    """The broken rules of a pydantic error: `a.b=value: rule; c=...`."""
    lines = []
    faults = error.errors(include_url=False, include_context=False)
    for fault in faults[:MAX_LISTED]:
        field = _joined(fault["loc"])
        rule = fault["msg"].removeprefix("Value error, ")
        if field and rule.startswith(f"{field}="):  # our rule of one field, which it names
            field = ""
        if fault["type"] == "missing":
            lines.append(f"{field}: is missing")
        elif fault["type"] == "value_error":  # our own rules name field and value themselves
            lines.append(f"{field}: {rule}" if field else rule)
        else:  # a rule of pydantic's, which may repeat what was given
            rule = "".join(c if c.isprintable() else " " for c in rule)
            if len(rule) > 2 * HALF_RULE:
                rule = f"{rule[:HALF_RULE]}...{rule[-HALF_RULE:]}"
            lines.append(f"{field}={shown(fault['input'])}: {rule}" if field else rule)
    if len(faults) > MAX_LISTED:
        lines.append(f"and {len(faults) - MAX_LISTED:,} more broken rules")
    return "; ".join(lines)


def _joined(location: tuple[int | str, ...]) -> str:
    """The path of a field, such as `a.0.b`; a part that is no plain name is quoted and cut."""
    parts = (str(part) for part in location)
    return ".".join(part if PLAIN_NAME.fullmatch(part) else shown(part) for part in parts)


def _field(data: dict[str, Any], wanted: Callable[[object], bool]) -> str:
    """The path of the first value in `data` for which `wanted` is true."""
    return _joined(next(path for path, value in _values((), data) if wanted(value)))


def _values(path: tuple[int | str, ...], value: object) -> Iterator[tuple[Any, object]]:
    """`value` and all values nested in it, each with its path."""
    yield path, value
    if isinstance(value, dict | list):
        for key, child in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _values((*path, key), child)


@cache
def _adapter(cls: Any) -> TypeAdapter[Any]:  # noqa: ANN401 - any class to validate
    return TypeAdapter(cls)
