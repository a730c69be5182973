"""Damage to a file: to the tables of a good one, key by key, or to its bytes.

Some damage cannot stand in a table of Python: a key that stands twice, a number that no float
holds. It is marked in the table and written into the text (`raw`).
"""

import copy
import json
from collections.abc import Callable, Iterator
from datetime import date
from random import Random
from typing import Any, TypeAlias

import tomli_w

Table: TypeAlias = dict[str, Any]
Place: TypeAlias = dict[str, Any] | list[Any]

TWICE = "@twice@"  # ends a key that is to stand beside itself
RAW = "@raw{}@"  # a value whose text is `RAWS[n]`
RAWS = ("1e400", "-1e400", "9" * 5000, "0x" + "f" * 4000, "[" * 100_000, "{" * 100, "NaN", "007")
SMALL = (0, 1, 2, 3, 7, 8, -1)
NUMBERS = (
    *(2**31, 2**53 + 1, 2**63 - 1, 2**63, 2**64, -(2**63), 10**30, 10**400),
    *(0.0, -0.0, 0.5, 1.0, 8.0, 5e-324, 1e16, 1e308, -1e308),
    *(float("inf"), float("-inf"), float("nan")),
)
TEXTS = (
    *("", " ", "0", "8", "-1", "null", "true", "none", "nan", "all", "0-2", "1:3", "0-22/2", "*"),
    *(
        "\ufeff",
        "\0",
        "a\nb",
        "\x1b[31m",
        "\u202egnp",
        "é",
        "\uff11\uff12",
        "\U0001d518",
        "\U0001f600",
        "\ud800",
    ),
    *("=1+1", "<b>", "${x}", "{0}", "%s", "../../etc/passwd", "x" * 300, "y" * 100_000),
)
OTHERS: tuple[Any, ...] = (None, True, False, [], {}, [[]], [{}], {"": {}}, date(2026, 1, 1))
TOKENS = (
    *(b"{", b"}", b"[", b"]", b'"', b",", b":", b"=", b"\\", b"\n", b"#", b".", b"-", b"e", b"0"),
    *(b"null", b"true", b"1e400", b"NaN", b"\xef\xbb\xbf", b"\0", b"\xff", b"\\ud800", b"[[", b"'"),
    *(b"\xc3", b"\xe2\x80\xae", b"99999999999999999999", b"1.5", b"-1", b'""', b"/", b"\r"),
)


CHANGES_OF_A_FILE = (1, 1, 1, 2, 3)  # how many; one alone is not hidden by another


def odd(rng: Random) -> Any:  # noqa: ANN401 - any value of JSON or TOML
    """A value that nobody means well with, or an ordinary one of any type."""
    return rng.choice(
        (
            lambda: rng.choice(SMALL),
            lambda: rng.choice(NUMBERS),
            lambda: rng.choice(TEXTS),
            lambda: copy.deepcopy(rng.choice(OTHERS)),
            lambda: RAW.format(rng.randrange(len(RAWS))),
            lambda: _deep(rng),
            lambda: rng.randint(-4, 4096),
            lambda: round(rng.uniform(-2, 2), 3),
        )
    )()


def _deep(rng: Random) -> Any:  # noqa: ANN401 - lists or tables in one another
    value: Any = rng.choice(SMALL)
    for _ in range(rng.choice((2, 31, 32, 33, 60))):
        value = [value] if rng.random() < 0.5 else {"a": value}
    return value


def places(value: Any) -> Iterator[Place]:  # noqa: ANN401 - JSON or TOML
    """Every table and list within that holds something."""
    if isinstance(value, dict | list) and value:
        yield value
        for child in value.values() if isinstance(value, dict) else value:
            yield from places(child)


def _key(place: Place, rng: Random) -> Any:  # noqa: ANN401 - of a table or a list
    return rng.choice(list(place)) if isinstance(place, dict) else rng.randrange(len(place))


def _drop(place: Place, rng: Random, _: Table) -> None:
    del place[_key(place, rng)]


def _change(place: Place, rng: Random, _: Table) -> None:
    place[_key(place, rng)] = odd(rng)


def _scale(place: Place, rng: Random, _: Table) -> None:
    """A number becomes another number; something else becomes a text of itself."""
    key = _key(place, rng)
    old = place[key]
    if type(old) is int:
        place[key] = old * rng.choice((-1, 0, 1, 2, 3, 2**10, 2**20)) + rng.choice((-1, 0, 0, 1))
    elif type(old) is float:
        place[key] = old * rng.choice((-1.0, 0.0, 0.5, 2.0, 1e9, 1e-9, 1e300))
    else:
        place[key] = str(old)


def _nudge(place: Place, rng: Random, _: Table) -> None:
    """A whole number of the table becomes another one that might do, as most keep a file good."""
    pairs = place.items() if isinstance(place, dict) else enumerate(place)
    keys: list[Any] = [key for key, value in pairs if type(value) is int]
    if keys:
        key = rng.choice(keys)
        old = place[key]
        place[key] = rng.choice((old + 1, old + 8, 2 * old, 4 * old, max(1, old // 2), 1, 0))


def _swap_type(place: Place, rng: Random, _: Table) -> None:
    key = _key(place, rng)
    old = place[key]
    if isinstance(old, bool | None):
        place[key] = rng.choice((0, 1, str(old).lower(), [old]))
    elif isinstance(old, int | float):
        place[key] = rng.choice((str(old), [old], {"a": old}, bool(old), float(old)))
    elif isinstance(old, str):
        place[key] = rng.choice((len(old), [old], {old: old}, old.upper(), f" {old} "))
    else:
        place[key] = rng.choice((len(old), str(old), [old], {"a": old}))


def _rename(place: Place, rng: Random, _: Table) -> None:
    key = _key(place, rng)
    value = place.pop(key)
    if isinstance(place, dict):
        texts = (f"{key}s", f"num_{key}", key[:-1], key.upper(), f"_{key}", rng.choice(TEXTS))
        place[rng.choice(texts)] = value


def _twice(place: Place, rng: Random, _: Table) -> None:
    key = _key(place, rng)
    if isinstance(place, dict):
        place[f"{key}{TWICE}"] = odd(rng) if rng.random() < 0.5 else place[key]
    else:
        place.insert(key, copy.deepcopy(place[key]))


def _copy(place: Place, rng: Random, table: Table) -> None:
    """A value of elsewhere, in place of another one."""
    there = rng.choice(list(places(table)))
    place[_key(place, rng)] = copy.deepcopy(
        there[_key(there, rng)] if rng.random() < 0.7 else there
    )


def _add(place: Place, rng: Random, _: Table) -> None:
    if isinstance(place, dict):
        place[rng.choice(TEXTS)] = odd(rng)
    else:
        place.append(odd(rng))


def _many(place: Place, rng: Random, _: Table) -> None:
    """A list that is far longer, or a table with many more keys."""
    count = rng.choice((10, 1000, 70_000))
    if isinstance(place, dict):
        place.update({f"k{n}": n for n in range(min(count, 1000))})
    else:
        place[:] = [place[0]] * count


CHANGES: tuple[tuple[Callable[[Place, Random, Table], None], int], ...] = (
    *((_nudge, 16), (_drop, 4), (_change, 5), (_scale, 4), (_swap_type, 2), (_rename, 2)),
    *((_twice, 1), (_copy, 3), (_add, 2), (_many, 1)),
)


def damaged(table: Table, rng: Random, donor: Table) -> Table:
    """A copy of a table with a few changes; sometimes a value of another file (`donor`)."""
    table = copy.deepcopy(table)
    functions, weights = zip(*CHANGES, strict=True)
    for _ in range(rng.choice(CHANGES_OF_A_FILE)):
        found = list(places(table))
        if not found:
            break
        if rng.random() < 0.1 and donor:
            key = rng.choice(list(donor))
            table[key] = copy.deepcopy(donor[key])
        # half of the changes at the top, where most keys stand once
        place = table if rng.random() < 0.5 else rng.choice(found)
        if place:
            rng.choices(functions, weights)[0](place, rng, table)
    return table


def json_bytes(table: Table) -> bytes:
    """The table as a JSON file."""
    return raw(json.dumps(table, default=str), '"')


def toml_bytes(table: Table) -> bytes:
    """The table as a TOML file; a null and what TOML cannot hold are left out."""
    return raw(tomli_w.dumps(_of_toml(table)), '"')


def _of_toml(value: Any) -> Any:  # noqa: ANN401 - JSON
    if isinstance(value, dict):
        return {str(key): _of_toml(held) for key, held in value.items() if held is not None}
    if isinstance(value, list | tuple):
        return [_of_toml(held) for held in value if held is not None]
    return value


def raw(text: str, quote: str) -> bytes:
    """The text with its marks replaced by what they stand for."""
    text = text.replace(TWICE, "")
    for index, literal in enumerate(RAWS):
        text = text.replace(f"{quote}{RAW.format(index)}{quote}", literal)
    return text.encode("utf-8", "surrogatepass")


def damaged_bytes(data: bytes, rng: Random, donor: bytes) -> bytes:
    """A copy of a file with a few of its bytes changed, dropped, repeated, or from another file."""
    for _ in range(rng.choice(CHANGES_OF_A_FILE)):
        at = rng.randrange(len(data) + 1)
        end = min(len(data), at + int(rng.expovariate(1 / 12)))
        match rng.randrange(8):
            case 0:
                data = data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]
            case 1:
                data = data[:at] + data[end:]
            case 2:
                data = data[:end] + data[at:]
            case 3 | 4:
                data = data[:at] + rng.choice(TOKENS) + data[end if rng.random() < 0.5 else at :]
            case 5:
                data = data[:at]
            case 6:
                start = rng.randrange(len(donor) + 1)
                data = data[:at] + donor[start : start + rng.randrange(200)] + data[end:]
            case 7:
                data = rng.choice((b"\xef\xbb\xbf", b" ", b"\n", b"//", b"\xff\xfe")) + data
    return data


def shuffled(value: Any, rng: Random) -> Any:  # noqa: ANN401 - JSON or TOML
    """The same value with the keys of all its tables in another order; lists keep theirs."""
    if isinstance(value, list):
        return [shuffled(child, rng) for child in value]
    if not isinstance(value, dict):
        return value
    keys = list(value)
    rng.shuffle(keys)
    return {key: shuffled(value[key], rng) for key in keys}
