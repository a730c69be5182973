"""A table in Markdown."""

from collections.abc import Sequence


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]], *, text: int = 1) -> str:
    """Lines of a table with `text` columns of words and the others of numbers."""
    marks = ["---"] * text + ["---:"] * (len(head) - text)
    return "".join(f"| {' | '.join(row)} |\n" for row in (head, marks, *rows))
