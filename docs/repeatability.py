"""The table that sets a second run against the first, of recordings that were made twice.

`python -m docs.repeatability FIRST.json AGAIN.json` prints it for two recordings of your own.
"""

import sys
from functools import cache
from pathlib import Path
from typing import get_args

from costmodel.inputs.workload import Backend
from costmodel.recordings.folders import SHIPPED
from costmodel.recordings.recording import load_recording
from costmodel.validation.repeatability import (
    CountAgreement,
    QuantityChanges,
    RecordingPair,
    count_agreements,
    kernels_of,
    quantity_changes,
)
from docs.wording import listed

ONE_READING = ("idle_power_w",)  # read once in a session, whatever the case
HEAD = """\
| quantity | run | n | usual difference | largest | usual spread | within it |
| --- | --- | ---: | ---: | ---: | ---: | ---: |
"""
LEGEND = """\
A difference is the second session's median less the first's, over the first's; "usual" is the
median over the cases. "Usual spread" is what the two runs state of themselves: the root of the sum
of their squared interquartile ranges. That spread is of readings in one run on one card. It holds
nothing of what another card, its temperature and its host add, so not every median lies within it.
"One reading" is one mean over a loop, which has no spread of its own.
"""


@cache
def committed() -> list[RecordingPair]:
    """The recordings that were made twice, of the same model by the same kernels."""
    again = sorted((SHIPPED / "again").glob("*.json"))
    return [(load_recording(SHIPPED / path.name), load_recording(path)) for path in again]


def committed_table() -> str:
    """The tables of the recordings that were made twice: readings by backend, and all counts."""
    pairs = committed()
    by_backend = [
        _readings(of_backend)
        for backend in get_args(Backend)
        if (of_backend := [pair for pair in pairs if kernels_of(pair[0]) == backend])
    ]
    return "\n".join([*by_backend, f"{LEGEND}{_commits(pairs)}", _counts(pairs)])


def table(pairs: list[RecordingPair]) -> str:
    """Quantities that were read twice and counts that were made twice, as Markdown."""
    return f"{_readings(pairs)}\n{LEGEND}{_commits(pairs)}\n{_counts(pairs)}"


def _readings(pairs: list[RecordingPair]) -> str:
    """Which cases were measured twice, and how far each quantity's medians lie apart."""
    changes = [line for line in quantity_changes(pairs) if line.quantity not in ONE_READING]
    cases = {(change.model, change.case) for line in changes for change in line.changes}
    models = "; ".join(first.preset or first.model.name for first, _ in pairs)
    kernels = listed(sorted({kernels_of(first) for first, _ in pairs}))
    lines = "".join(map(_changed, changes))
    return f"Medians of {len(cases)} cases by `{kernels}` ({models}).\n\n{HEAD}{lines}"


def _counts(pairs: list[RecordingPair]) -> str:
    counted = "".join(map(_counted, count_agreements(pairs)))
    return f"| count | run | steps and leaves | equal |\n| --- | --- | ---: | ---: |\n{counted}"


def _commits(pairs: list[RecordingPair]) -> str:
    """Which commits made the first and the second."""
    first, again = (
        sorted({str(session.commit)[:7] for pair in pairs for session in pair[place].sessions})
        for place in (0, 1)
    )
    if first == again:
        return f"Both are of commit {listed(first)}.\n"
    return (
        f"The first recordings are of commit {listed(first)}, the second of {listed(again)}:"
        " a difference\nholds what changed between the two commits as well.\n"
    )


def _changed(line: QuantityChanges) -> str:
    spread, n = line.usual_spread, len(line.changes)
    cells = "one reading | -" if spread is None else f"{_percent(spread)} | {line.within} of {n}"
    return (
        f"| `{line.quantity}` | {line.run} | {n} | {_percent(line.usual)} |"
        f" {_percent(line.largest.relative, sign='+')} | {cells} |\n"
    )


def _counted(line: CountAgreement) -> str:
    equal = "all" if line.equal == line.compared else f"{line.equal:,}"
    return f"| `{line.quantity}` | {line.run} | {line.compared:,} | {equal} |\n"


def _percent(share: float, sign: str = "") -> str:
    """A share in percent, to three significant digits; 0 where it is exactly that."""
    return f"{100 * share:{sign}.3g} %" if share else "0 %"


def main(arguments: list[str]) -> None:
    """Print the table of the committed recordings, or of the two that are given."""
    pairs = committed()
    if arguments:
        first, again = map(Path, arguments)
        pairs = [(load_recording(first), load_recording(again))]
    sys.stdout.write(table(pairs))


if __name__ == "__main__":
    main(sys.argv[1:])
