"""The keys of a config.json: each is checked as it is read, and one that nobody reads is refused.

Nothing in the file is trusted: a value meets its rule (type and range) before any code uses it, and
every message names the key as the file spells it.
"""

import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Annotated, Any, Final, Literal, TypeAlias, TypeVar

from pydantic import BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from costmodel.errors import MAX_SHOWN, InputError, shown
from costmodel.layers.base import MAX_LAYERS, Count, Width

T = TypeVar("T")
D = TypeVar("D")

LayerType: TypeAlias = Literal["full_attention", "sliding_attention"]
_STRICT = ConfigDict(strict=True, allow_inf_nan=False)
MAX_NAMES = 2**18  # of modules in one list: real ones hold some 50,000, three for each expert
_Window = Annotated[int, Field(ge=1, le=2**31)]
_Index = Annotated[int, Field(ge=0, le=2**31)]

# The rules that values meet. Strict: True is no number, 1.0 and "1" are no integers.
WIDTH: Final[TypeAdapter[int]] = TypeAdapter(Width, config=_STRICT)
WIDTH_OR_NULL: Final[TypeAdapter[int | None]] = TypeAdapter(Width | None, config=_STRICT)
COUNT: Final[TypeAdapter[int]] = TypeAdapter(Count, config=_STRICT)
COUNT_OR_NULL: Final[TypeAdapter[int | None]] = TypeAdapter(Count | None, config=_STRICT)
VOCABULARY: Final[TypeAdapter[int]] = TypeAdapter(
    Annotated[int, Field(ge=2, le=2**24)], config=_STRICT
)
LAYERS: Final[TypeAdapter[int]] = TypeAdapter(
    Annotated[int, Field(ge=1, le=MAX_LAYERS)], config=_STRICT
)
INDEX: Final[TypeAdapter[int]] = TypeAdapter(_Index, config=_STRICT)
INDEX_OR_NULL: Final[TypeAdapter[int | None]] = TypeAdapter(_Index | None, config=_STRICT)
INDICES_OR_NULL: Final[TypeAdapter[list[int] | None]] = TypeAdapter(
    Annotated[list[_Index], Field(max_length=MAX_LAYERS, fail_fast=True)] | None, config=_STRICT
)
WINDOW_OR_NULL: Final[TypeAdapter[int | None]] = TypeAdapter(_Window | None, config=_STRICT)
SHARE_OR_NULL: Final[TypeAdapter[float | None]] = TypeAdapter(
    Annotated[float, Field(ge=0, le=1)] | None, config=_STRICT
)
NUMBER: Final[TypeAdapter[float]] = TypeAdapter(float, config=_STRICT)
NUMBER_OR_NULL: Final[TypeAdapter[float | None]] = TypeAdapter(float | None, config=_STRICT)
FLAG: Final[TypeAdapter[bool]] = TypeAdapter(  # null is false, as where models read it
    Annotated[bool, BeforeValidator(lambda value: False if value is None else value)],
    config=_STRICT,
)
NUMBERS_OR_NULL: Final[TypeAdapter[float | list[float] | None]] = TypeAdapter(
    float | Annotated[list[float], Field(max_length=16, fail_fast=True)] | None, config=_STRICT
)
OBJECT: Final[TypeAdapter[dict[str, Any]]] = TypeAdapter(dict[str, Any], config=_STRICT)
OBJECT_OR_NULL: Final[TypeAdapter[dict[str, Any] | None]] = TypeAdapter(
    dict[str, Any] | None, config=_STRICT
)
LAYER_TYPES_OR_NULL: Final[TypeAdapter[list[LayerType] | None]] = TypeAdapter(
    Annotated[list[LayerType], Field(max_length=MAX_LAYERS, fail_fast=True)] | None, config=_STRICT
)
STRINGS_OR_NULL: Final[TypeAdapter[list[str] | None]] = TypeAdapter(
    Annotated[list[str], Field(max_length=16, fail_fast=True)] | None, config=_STRICT
)

ANYTHING: Final[TypeAdapter[object]] = TypeAdapter(object)
TEXT: Final[TypeAdapter[str]] = TypeAdapter(Annotated[str, Field(max_length=100)], config=_STRICT)
TEXT_OR_NULL: Final[TypeAdapter[str | None]] = TypeAdapter(
    Annotated[str, Field(max_length=100)] | None, config=_STRICT
)
NAMES_OR_NULL: Final[TypeAdapter[list[str] | None]] = TypeAdapter(  # of the modules of a model
    Annotated[
        list[Annotated[str, Field(max_length=1000)]],
        Field(max_length=MAX_NAMES, fail_fast=True),
    ]
    | None,
    config=_STRICT,
)

MAX_LISTED = 8  # unknown fields that one message names
MAX_COMPARED = 200  # keys of a file that are compared with a missing one
LIKENESS = 0.8  # of two keys one of which may be a slip for the other; 1: equal


IGNORED: Final = "is not understood; it is taken to cost nothing, as --ignore-key says"


def ignored_keys(notes: Iterable[str]) -> str:
    """The keys that `--ignore-key` named, each with its value, from the notes of a model.

    Such as `foo=7; text_config.bar='x'`; empty where none was ignored.
    """
    marker = f": {IGNORED}"
    return "; ".join(note.partition(marker)[0] for note in notes if marker in note)


class IgnoredKeys:
    """Keys that the user says cost nothing, each by its path as a refusal names it."""

    def __init__(self, paths: Iterable[str] = ()) -> None:
        self._paths = tuple(paths)
        self.met: dict[str, object] = {}  # those that a file holds and nobody understands

    def take(self, path: str, value: object) -> bool:
        """Whether a key that is not understood is one of them."""
        if path in self._paths:
            self.met[path] = value
        return path in self._paths


class Fields:
    """One JSON object of a file of the family `model_type`; it knows which keys were read."""

    def __init__(
        self,
        table: dict[str, Any],
        *,
        model_type: str,
        where: str,
        prefix: str = "",
        ignored: IgnoredKeys | None = None,
    ) -> None:
        self.model_type = model_type
        self.notes: list[str] = []  # what a user of the model must know
        self.defaults: dict[str, object] = {}  # the defaults taken for absent keys
        self.where = where  # how messages name the file
        self._table = table
        self.prefix = prefix
        self._ignored = IgnoredKeys() if ignored is None else ignored
        self._read: set[str] = set()
        self._asked: set[str] = set()  # keys that a family may hold

    def required(self, key: str, rule: TypeAdapter[T], *, also: tuple[str, ...] = ()) -> T:
        """The value of `key`, or of another spelling of it in `also`.

        Raises:
            InputError: It is missing, or breaks `rule`.
        """
        spelling = self._spelling_read(key, also)
        if not spelling:
            raise InputError(f"{self.where}: {self.prefix}{key}: is missing{self._near(key)}")
        return self._checked(spelling, rule)

    def optional(
        self, key: str, rule: TypeAdapter[T], default: D, *, also: tuple[str, ...] = ()
    ) -> T | D:
        """The value of `key`, or the family's default.

        Raises:
            InputError: It breaks `rule`.
        """
        spelling = self._spelling_read(key, also)
        if not spelling:
            if default is not None:
                self.defaults[key] = default
            return default
        return self._checked(spelling, rule)

    def child(self, key: str, *, model_type: str | None = None) -> "Fields":
        """The object that `key` must hold; `model_type` is its family if it has one of its own."""
        return self._inside(key, self.required(key, OBJECT), model_type)

    def holds(self, key: str) -> bool:
        """Whether the object holds `key`."""
        return key in self._table

    def was_read(self, key: str) -> bool:
        """Whether some rule has met `key` already, held or not."""
        return key in self._asked

    def keys_matching(self, pattern: re.Pattern[str]) -> list[str]:
        """The keys of the object in which a pattern is found; very long ones are not looked at."""
        return [k for k in self._table if len(k) <= MAX_SHOWN and pattern.search(k)]

    def nested(self, key: str) -> list["Fields"]:
        """The object that `key` may hold, and then the objects within it; nothing without one."""
        table = self.optional(key, OBJECT_OR_NULL, None)
        if table is None:
            return []
        objects = [self._inside(key, table)]
        for name, value in table.items():
            if isinstance(value, dict):
                plain = name.isascii() and name.isidentifier() and len(name) <= MAX_SHOWN
                safe = name if plain else shown(name)
                objects.append(self._inside(f"{key}.{safe}", value))
        return objects

    def _inside(self, key: str, table: dict[str, Any], model_type: str | None = None) -> "Fields":
        prefix = f"{self.prefix}{key}."
        family = self.model_type if model_type is None else model_type
        return Fields(
            table, model_type=family, where=self.where, prefix=prefix, ignored=self._ignored
        )

    def spelling(self, key: str, *also: str) -> str:
        """The spelling of `key` that the file uses."""
        return next((name for name in (key, *also) if name in self._table), key)

    def refused(self, key: str, rule: str) -> InputError:
        """The error to raise where the value of `key` breaks `rule`, which the message states."""
        return InputError(f"{self.where}: {self.prefix}{key}={shown(self._table.get(key))}: {rule}")

    def only(self, allowed: Mapping[str, tuple[object, ...]], *, unless_read: bool = False) -> None:
        """Refuse a key of `allowed` that holds none of its values: others are not modelled.

        With `unless_read`, keys that were read already may hold what their readers accepted.
        """
        for key, values in allowed.items():
            if key not in self._table or (unless_read and key in self._read):
                continue
            self._read.add(key)
            held = self._table[key]
            if not any(type(held) is type(value) and held == value for value in values):
                listed = " or ".join(shown(value) for value in values)
                raise self.refused(
                    key,
                    f"is not modelled for model_type {self.model_type!r}; only {listed} is"
                    f"{self._meant(key)}",
                )

    def finish(self, without_cost: Iterable[str]) -> None:
        """Refuse every key that was neither read nor is in `without_cost`, nor is to be ignored."""
        known = self._read.union(without_cost)
        unknown = [
            key
            for key, value in self._table.items()
            if key not in known and not self._ignored.take(self.prefix + key, value)
        ]
        if not unknown:
            return
        listed = "; ".join(
            f"field {shown(self.prefix + key)}={shown(self._table[key])}{self._meant(key)}"
            for key in unknown[:MAX_LISTED]
        )
        more = f"; and {len(unknown) - MAX_LISTED} more fields" if len(unknown) > MAX_LISTED else ""
        raise InputError(
            f"{self.where}: {listed}{more}: {'is' if len(unknown) == 1 else 'are'} not understood"
            f" for model_type {self.model_type!r}, and might change the cost; one that does not"
            " can be removed, or named with --ignore-key"
        )

    def _spelling_read(self, key: str, also: tuple[str, ...]) -> str | None:
        """The spelling that the file uses, marked as read; the values of two must be equal."""
        self._asked.update((key, *also))
        names = [name for name in (key, *also) if name in self._table]
        self._read.update(names)
        for name in names[1:]:
            if self._table[name] != self._table[names[0]]:
                raise self.refused(
                    name, f"differs from {names[0]}={shown(self._table[names[0]])}, its other name"
                )
        return names[0] if names else None

    def _near(self, key: str) -> str:
        """A key of the file that looks like the missing `key`, in words; else nothing."""
        unread = [k for k in self._table if k not in self._read and len(k) <= MAX_SHOWN]
        for name in get_close_matches(key, unread[:MAX_COMPARED], n=1, cutoff=LIKENESS):
            return f"; the file holds {shown(self.prefix + name)}={shown(self._table[name])}"
        return ""

    def _meant(self, unknown: str) -> str:
        """A key of the family that looks like one that is not understood, in words."""
        absent = sorted(self._asked.difference(self._table))
        if len(unknown) <= MAX_SHOWN:
            for name in get_close_matches(unknown, absent, n=1, cutoff=LIKENESS):
                return f" (is {name} meant?)"
        return ""

    def _checked(self, key: str, rule: TypeAdapter[T]) -> T:
        try:
            return rule.validate_python(self._table[key])
        except ValidationError as error:
            fault = error.errors(include_url=False, include_context=False)[0]
            field = ".".join((self.prefix + key, *(str(part) for part in fault["loc"])))
            raise InputError(
                f"{self.where}: {field}={shown(fault['input'])}: {fault['msg']}"
            ) from None
