"""With how many digits predicted numbers are told, from the JSON of `predict` or `request` alone.

Two where half the interval is over a tenth of the time, else three. It is worked out anew here: no
test knows how wide the intervals of today's calibration are.
"""

from typing import Any


def digits(*times: dict[str, Any]) -> int:
    """The significant digits of what follows from these times; the widest interval decides."""
    return min(2 if _is_wide(time) else 3 for time in times)


def _is_wide(time: dict[str, Any]) -> bool:
    if not time.get("interval_s"):
        return False
    low, high = time["interval_s"]
    return "transferred_from" in time or bool((high - low) / 2 > 0.1 * time["predicted_s"])


def told(time: dict[str, Any], value: float | None) -> float | None:
    """A number that follows from a time, as it is told."""
    return None if value is None else float(f"{value:.{digits(time)}g}")
