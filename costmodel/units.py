"""Numbers as people read them. Scaling and rounding happen here and nowhere else.

Rates and traffic are SI (1 GB = 1e9 bytes); capacities and resident memory show GiB (2^30 bytes).
"""

from collections.abc import Callable
from decimal import Decimal
from typing import Any, Literal, SupportsFloat, TypeAlias

Unit: TypeAlias = Literal[
    "count",
    "parameters",
    "tokens",
    "flops",
    "bytes",  # moved
    "capacity",  # bytes held
    "s",
    "j",
    "w",
    "usd",
    "share",  # of 1
    "percent",  # a difference of two numbers, of the second
    "ratio",
    "tokens_per_s",
    "flops_per_s",
    "bytes_per_s",
    "bool",
    "text",
]

NOT_KNOWN = "n/a"
_PREFIXES = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_FACTORS = {  # of the prefixes that a whole column or axis may have; B: billions of parameters
    "u": 1e-6,
    "m": 1e-3,
    "": 1.0,
    "k": 1e3,
    "M": 1e6,
    "G": 1e9,
    "B": 1e9,
    "Ki": 2.0**10,
    "Mi": 2.0**20,
    "Gi": 2.0**30,
}
_SYMBOLS: dict[Unit, str] = {
    "parameters": "",
    "flops": "FLOP",
    "bytes": "B",
    "capacity": "B",
    "s": "s",
    "j": "J",
    "w": "W",
    "usd": "USD",
    "tokens_per_s": "tok/s",
    "flops_per_s": "FLOP/s",
    "bytes_per_s": "B/s",
}


def formatted(value: SupportsFloat | str | None, unit: Unit) -> str:
    """A value as people read it, unit and all: the one form of each unit."""
    if value is None:
        return NOT_KNOWN
    if isinstance(value, str):
        return value
    return _FORMS[unit](value)


def scale(unit: Unit, prefix: str = "") -> tuple[str, float]:
    """One unit for a whole axis or column, and how much one of it is: `GB`, 1e9."""
    if unit == "share":
        return "%", 0.01
    if unit not in _SYMBOLS:
        return unit, 1.0
    return prefix + _SYMBOLS[unit], _FACTORS[prefix]


def significant(value: float, digits: int = 4) -> str:
    """`value` to some significant digits, without an exponent: 0.02713, 1.5, 1097."""
    if value == 0:
        return "0"
    return f"{Decimal(f'{value:.{digits}g}'):f}"


def rounded(value: float, digits: int) -> float:
    """`value` to some significant digits, for a column of numbers: 8.59623 to 3 is 8.6."""
    return float(f"{value:.{digits}g}")


def scaled(value: SupportsFloat | None, unit: str) -> str:
    """`value` with an SI prefix: 9.368 GFLOP, 2.171 GB."""
    if value is None:
        return NOT_KNOWN
    number = float(value)
    for factor, prefix in _PREFIXES:
        if abs(number) >= factor:
            return f"{significant(number / factor)} {prefix}{unit}"
    return f"{significant(number)} {unit}"


def count(value: SupportsFloat | None) -> str:
    """A whole number with thousands separators, or an expectation with two decimals."""
    if value is None:
        return NOT_KNOWN
    if isinstance(value, int):
        return f"{value:,}"
    if float(value).is_integer():
        return f"{int(float(value)):,}"
    return f"{float(value):,.2f}"


def parameters(value: int) -> str:
    """A parameter count in millions or billions: 227.4 M, 6.919 B."""
    for factor, prefix in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{significant(value / factor)} {prefix}"
    return str(value)


def traffic(value: SupportsFloat | None) -> str:
    """Bytes moved, in SI units: 4.19 GB."""
    return scaled(value, "B")


def capacity(value: SupportsFloat | None) -> str:
    """Bytes held, in GiB; below 0.1 GiB in MiB, below 0.1 MiB in KiB, so that none reads 0.00."""
    if value is None:
        return NOT_KNOWN
    number = float(value)
    if 0 < number < 0.1 * 2**20:
        return f"{significant(number / 2**10)} KiB"
    if 0 < number < 0.1 * 2**30:
        return f"{significant(number / 2**20)} MiB"
    return f"{number / 2**30:,.2f} GiB"


def flops(value: SupportsFloat | None) -> str:
    """A count of FLOPs."""
    return scaled(value, "FLOP")


def seconds(value: float | None) -> str:
    """A time in us, ms or s."""
    if value is None:
        return NOT_KNOWN
    for factor, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "us")):
        if value >= factor:
            return f"{significant(value / factor)} {unit}"
    return f"{significant(value / 1e-9)} ns"


def ratio(value: float | None, digits: int = 4) -> str:
    """A ratio: 4.440x, 0.9930x; small differences from 1 stay visible."""
    return NOT_KNOWN if value is None else f"{Decimal(f'{value:#.{digits}g}'):f}x"


def yes_or_no(value: object) -> str:
    """A verdict in a word; NO is loud, since it is what a reader must not overlook."""
    return "yes" if value else "NO"


_FORMS: dict[Unit, Callable[[Any], str]] = {
    "count": count,
    "parameters": lambda value: parameters(int(value)),
    "tokens": count,
    "flops": flops,
    "bytes": traffic,
    "capacity": capacity,
    "s": lambda value: seconds(float(value)),
    "j": lambda value: scaled(value, "J"),
    "w": lambda value: scaled(value, "W"),
    "usd": lambda value: f"{significant(float(value))} USD",
    "share": lambda value: f"{significant(100 * float(value), 3)} %",
    "percent": lambda value: f"{float(value):+.3f} %",
    "ratio": lambda value: ratio(float(value)),
    "tokens_per_s": lambda value: scaled(value, "tok/s"),
    "flops_per_s": lambda value: scaled(value, "FLOP/s"),
    "bytes_per_s": lambda value: scaled(value, "B/s"),
    "bool": yes_or_no,
    "text": str,
}
