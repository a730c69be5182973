"""Reading what a user gives: TOML and JSON files, checked before and after parsing.

Nothing read here is trusted: size, encoding, nesting, duplicate keys, NaN and integers too long to
print are refused with an `InputError` that names the file and the rule.
"""

import json
import math
import re
import tomllib
from pathlib import Path
from typing import Any

from costmodel.errors import InputError, shown
from costmodel.strict import STRICT, validated

MAX_FILE_BYTES = 16 * 2**20  # the largest real config.json is under 100 kB
MAX_DEPTH = 32  # nesting of tables and lists; real configs use 4
LONG_KEY = re.compile(  # a.b."c" of more parts than that: tomllib takes hours over a long one
    rf"""(?<![\w-])(?>(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){{{MAX_DEPTH}}}""",
    re.ASCII,
)

__all__ = ["STRICT", "read_json_object", "read_text", "read_toml", "validated"]


def read_text(path: Path) -> str:
    """The UTF-8 text of a regular file of at most `MAX_FILE_BYTES`."""
    name = shown(str(path))
    try:
        if path.is_dir():
            raise InputError(f"file={name}: is a directory; a file is expected")
        if not path.exists():
            raise InputError(f"file={name}: does not exist")
        if not path.is_file():
            raise InputError(f"file={name}: is not a regular file")
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise InputError(
                f"file={name}: holds {size:,} bytes; at most {MAX_FILE_BYTES:,} are read"
            )
        return path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"file={name}: is not UTF-8 text (byte {error.start})") from None
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"file={name}: cannot be read: {reason}") from None


def read_toml(path: Path) -> dict[str, Any]:
    """The table a TOML file holds."""
    text = read_text(path)
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


def read_json_object(path: Path) -> dict[str, Any]:
    """The object a JSON file holds; duplicate keys, NaN and infinities are refused."""
    text = read_text(path)
    name = shown(str(path))

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        seen: dict[str, Any] = {}
        for key, value in items:
            if key in seen:
                raise InputError(f"file={name}: field {shown(key)} stands twice in one object")
            seen[key] = value
        return seen

    def finite(literal: str) -> float:
        value = float(literal)
        if not math.isfinite(value):
            raise InputError(f"file={name}: number {shown(literal)} is not finite")
        return value

    try:
        value = json.loads(text, object_pairs_hook=pairs, parse_float=finite, parse_constant=finite)
    except RecursionError:
        raise _too_deep(path) from None
    except InputError:
        raise
    except ValueError as error:  # JSONDecodeError, and integers of over 4300 digits
        raise InputError(f"file={name}: is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise InputError(f"file={name}: holds a {type(value).__name__}; an object is expected")
    _check_depth(value, path)
    _check_text(value, path)
    return value


def _check_text(value: object, path: Path) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:  # JSON can write half of a UTF-16 pair
        text = shown(error.object[max(0, error.start - 16) : error.end])
        raise InputError(f"file={shown(str(path))}: text {text} ends in half a character") from None


def _too_deep(path: Path) -> InputError:
    return InputError(f"file={shown(str(path))}: is nested deeper than {MAX_DEPTH} levels")


def _check_depth(value: object, path: Path) -> None:
    level, depth = [value], 0
    while level:
        if depth > MAX_DEPTH:
            raise _too_deep(path)
        level = [
            child
            for node in level
            if isinstance(node, dict | list)
            for child in (node.values() if isinstance(node, dict) else node)
        ]
        depth += 1
