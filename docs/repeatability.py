"""The table that sets a second run against the first, of recordings that were made twice.

`python -m docs.repeatability FIRST.json AGAIN.json` prints it for two recordings of your own.
"""

import sys
from dataclasses import asdict
from pathlib import Path

from costmodel.recordings.folders import SHIPPED
from costmodel.recordings.recording import Recording, load_recording
from costmodel.validation.repeatability import (
    CountAgreement,
    QuantityChanges,
    RecordingPair,
    count_agreements,
    difference,
    of_other_kernels,
    quantity_changes,
)
from docs.wording import listed

ONE_READING = ("idle_power_w",)  # read once in a session, whatever the case
HEAD = """\
| quantity | run | n | usual difference | largest | usual spread | within it |
| --- | --- | ---: | ---: | ---: | ---: | ---: |
"""
LEGEND = """\
Medians of {cases} cases ({models}). A difference is the second session's median less the first's,
over the first's; "usual" is the median over the cases. "Usual spread" is what the two runs state of
themselves: the root of the sum of their squared interquartile ranges. That spread is of readings in
one run on one card. It holds nothing of what another card, its temperature and its host add, so not
every median lies within it. "One reading" is one mean over a loop, which has no spread of its own.
"""


def committed() -> list[RecordingPair]:
    """The recordings that were made twice, of the same model."""
    return [pair for pair in _made_twice() if difference(*pair) is None]


def committed_table() -> str:
    """The table of the recordings that were made twice, and which of them it leaves out."""
    left_out = "".join(
        f"\nLeft out: {first.preset}, whose second recording differs in its"
        f" {difference(first, again)} ({', '.join(_model_differences(first, again))}).\n"
        for first, again in _made_twice()
        if difference(first, again) is not None
    )
    return table(committed()) + left_out


def _made_twice() -> list[RecordingPair]:
    again = sorted((SHIPPED / "again").glob("*.json"))
    return [(load_recording(SHIPPED / path.name), load_recording(path)) for path in again]


def _model_differences(first: Recording, again: Recording) -> list[str]:
    """What is measured otherwise: fields of the attention, with both values."""
    one, two = asdict(first.model)["attention"], asdict(again.model)["attention"]
    return [f"`{name}`: {one[name]}, then {two[name]}" for name in one if one[name] != two[name]]


def table(pairs: list[RecordingPair]) -> str:
    """Quantities that were read twice and counts that were made twice, as Markdown."""
    changes = [line for line in quantity_changes(pairs) if line.quantity not in ONE_READING]
    cases = {(change.model, change.case) for line in changes for change in line.changes}
    models = "; ".join(
        f"{first.preset or first.model.name}{of_other_kernels(first)}" for first, _ in pairs
    )
    lines = "".join(map(_changed, changes))
    counted = "".join(map(_counted, count_agreements(pairs)))
    legend = LEGEND.format(cases=len(cases), models=models)
    return (
        f"{HEAD}{lines}\n{legend}{_commits(pairs)}\n"
        f"| count | run | steps and leaves | equal |\n| --- | --- | ---: | ---: |\n{counted}"
    )


def _commits(pairs: list[RecordingPair]) -> str:
    """That the first and the second are of different commits; empty where they are not."""
    first, again = (
        sorted({str(session.commit)[:7] for pair in pairs for session in pair[place].sessions})
        for place in (0, 1)
    )
    if first == again:
        return ""
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
