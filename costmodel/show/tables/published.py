"""Published numbers beside ours."""

from collections.abc import Iterable

from costmodel.questions.published.number import PublishedNumber
from costmodel.show.text import Table


def reproduced_table(targets: Iterable[PublishedNumber]) -> Table:
    """Published beside ours."""
    return Table(
        title="Published and hand-derived numbers, reproduced",
        headers=("what", "convention", "published", "ours", "agrees"),
        rows=tuple(
            (t.what, t.convention, t.published, t.shown, "yes" if t.agrees else "NO")
            for t in targets
        ),
        text_columns=2,
        notes=("Claims with their verdicts: sparsecost reproduce --claims.",),
    )
