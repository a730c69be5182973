"""Files that a user gives, read without trust, and a note of which ones a command has read.

A file may be hostile: size, encoding, nesting, duplicate keys, NaN and integers too long to print
are refused with an `InputError` that names the file and the rule. The note lets
`costmodel.inputs.output_file` refuse to write over an input of the same command.
"""

import json
import math
import re
import tomllib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from costmodel.errors import InputError, shown

MAX_FILE_BYTES = 16 * 2**20  # the largest real config.json is under 100 kB
MAX_TOML_BYTES = 2**20  # tomllib takes up to 2.5 s a megabyte; 1,024 overrides take a third of it
MAX_DEPTH = 32  # nesting of tables and lists; real configs use 4
CONTAINERS = frozenset({dict, list})
LONG_KEY = re.compile(  # a.b."c" of more parts than that: tomllib takes hours over a long one
    rf"""(?<![\w-])(?>(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){{{MAX_DEPTH}}}""",
    re.ASCII,
)

_NOTED: ContextVar[set[object] | None] = ContextVar("files that a command has read", default=None)


@contextmanager
def inputs_noted() -> Iterator[None]:
    """Note inside each file that is read, for `is_noted`; outside of this nothing is noted."""
    token = _NOTED.set(set())
    try:
        yield
    finally:
        _NOTED.reset(token)


def is_noted(path: Path) -> bool:
    """Whether an existing file was read since `inputs_noted` began, under any name or link."""
    return not _identities(path).isdisjoint(_NOTED.get() or ())


def _identities(path: Path) -> set[object]:
    """What tells a file from others: its place on the disk, and its path without links."""
    stat = path.stat()
    return {(stat.st_dev, stat.st_ino), path.resolve()}


def read_text(path: Path, max_bytes: int = MAX_FILE_BYTES) -> str:
    """The text of a regular file, which is UTF-8 and holds at most `max_bytes`.

    Raises:
        InputError: There is no such file, or it cannot be read as such a text.
    """
    name = shown(str(path))
    try:
        if path.is_dir():
            raise InputError(f"file={name}: is a directory; a file is expected")
        if not path.exists():
            raise InputError(f"file={name}: does not exist")
        if not path.is_file():
            raise InputError(f"file={name}: is not a regular file")
        size = path.stat().st_size
        if size > max_bytes:
            raise InputError(f"file={name}: holds {size:,} bytes; at most {max_bytes:,} are read")
        if (noted := _NOTED.get()) is not None:
            noted |= _identities(path)
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"file={name}: is not UTF-8 text (byte {error.start})") from None
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"file={name}: cannot be read: {_reason(error)}") from None


def read_toml(path: Path) -> dict[str, Any]:
    """The table that a TOML file holds: `MAX_DEPTH` levels and `MAX_TOML_BYTES` at most.

    Raises:
        InputError: The file cannot be read, or is no such TOML.
    """
    text = read_text(path, MAX_TOML_BYTES)
    if LONG_KEY.search(text):
        raise _too_deep(path)
    try:
        table = tomllib.loads(text)
    except RecursionError:
        raise _too_deep(path) from None
    except ValueError as error:  # TOMLDecodeError, and integers of over 4300 digits
        raise InputError(f"file={shown(str(path))}: is not TOML: {error}") from None
    _check_depth(table, path)
    return table


def read_json_object(path: Path, *, non_finite: bool = False) -> dict[str, Any]:
    """The object that a JSON file holds, nested at most `MAX_DEPTH` levels deep.

    Args:
        path: The file.
        non_finite: Whether Infinity and NaN may stand in it, as Python's own writer leaves them;
            who uses a number must then check it.

    Raises:
        InputError: The file cannot be read, is not JSON, holds no object at its top, a key twice
            in one object, or a number that is not finite and may not be so.
    """
    text = read_text(path)
    name = shown(str(path))

    def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        table = dict(pairs)
        if len(table) < len(pairs):
            (twice, _), *_ = Counter(key for key, _ in pairs).most_common(1)
            raise InputError(f"file={name}: field {shown(twice)} stands twice in one object")
        return table

    def finite(literal: str) -> float:
        value = float(literal)
        if not (non_finite or math.isfinite(value)):
            raise InputError(f"file={name}: number {shown(literal)} is not finite")
        return value

    try:
        value = json.loads(
            text, object_pairs_hook=unique_keys, parse_float=finite, parse_constant=finite
        )
    except RecursionError:
        raise _too_deep(path) from None
    except InputError:
        raise
    except ValueError as error:  # JSONDecodeError, and integers of over 4300 digits
        raise InputError(f"file={name}: is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise InputError(f"file={name}: holds a {type(value).__name__}; an object is expected")
    _check_depth(value, path)
    if "\\u" in text:  # without an escape no text can hold half a character
        _check_characters(value, path)
    return value


def _reason(error: Exception) -> str:
    """Why the system refused, without the path, which the message names already."""
    return getattr(error, "strerror", None) or str(error)


def _check_characters(value: object, path: Path) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:  # JSON can write half of a UTF-16 pair
        text = shown(error.object[max(0, error.start - 16) : error.end])
        raise InputError(f"file={shown(str(path))}: text {text} ends in half a character") from None


def _too_deep(path: Path) -> InputError:
    return InputError(f"file={shown(str(path))}: is nested deeper than {MAX_DEPTH} levels")


def _check_depth(value: dict[str, Any], path: Path) -> None:
    level: list[dict[str, Any] | list[Any]] = [value]
    depth = 1
    while level:
        if depth > MAX_DEPTH:
            raise _too_deep(path)
        inside = (node.values() if isinstance(node, dict) else node for node in level)
        level = [
            child
            for children in inside
            if not CONTAINERS.isdisjoint(map(type, children))  # a long list holds numbers alone
            for child in children
            if type(child) in CONTAINERS
        ]
        depth += 1
