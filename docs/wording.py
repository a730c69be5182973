"""How generated text names several numbers: a list of them, or the span that they lie in."""

from collections.abc import Iterable, Sequence


def listed(items: Sequence[object]) -> str:
    """`1`, `1 and 2`, `1, 2 and 3`."""
    words = [str(item) for item in items]
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def span(values: Iterable[float], form: str) -> str:
    """`least to most`, each in the form; one number where both read alike."""
    every = list(values)
    least, most = format(min(every), form), format(max(every), form)
    return least if least == most else f"{least} to {most}"
