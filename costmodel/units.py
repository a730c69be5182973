"""Numbers as people read them. Scaling and rounding happen here and nowhere else.

Rates and traffic are SI (1 GB = 1e9 bytes); capacities and resident memory show GiB (2^30 bytes).
"""

from decimal import Decimal
from typing import Literal, SupportsFloat, TypeAlias

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


def significant(value: float, digits: int = 4) -> str:
    """`value` to some significant digits, without an exponent: 0.02713, 1.5, 1097."""
    if value == 0:
        return "0"
    return f"{Decimal(f'{value:.{digits}g}'):f}"


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


def ratio(value: float | None) -> str:
    """A ratio: 4.440x, 0.9930x; small differences from 1 stay visible."""
    return NOT_KNOWN if value is None else f"{Decimal(f'{value:#.4g}'):f}x"
