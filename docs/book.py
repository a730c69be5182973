"""The committed recordings beside their predictions, read once for the tables of a page."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from costmodel.recordings.measured import Spread
from costmodel.recordings.recording import Case, Check, load_recording
from costmodel.validation.bounds import demands, required_of, violations, whole
from costmodel.validation.counterparts import Gpus
from costmodel.validation.join import Row, join
from costmodel.validation.recorded_routing import recorded_distinct
from costmodel.validation.utilisation import Achieved, achieved

FOLDER = Path(__file__).parents[1] / "recordings"
PREFIX = "h200-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One case: its rows of the step and of its leaves, and what it achieved."""

    case: Case
    step: dict[str, Row]  # by quantity; of one that two runs give, the first
    leaves: tuple[Row, ...]
    achieved: Achieved

    def value(self, quantity: str) -> float:
        """What was measured of the step."""
        return measured(self.step[quantity])

    def leaf(self, quantity: str, leaf: str) -> tuple[float, float]:
        """Predicted and measured, summed over the layers that have this leaf."""
        rows = [
            row
            for row in self.leaves
            if row.quantity == quantity and (row.path or "").endswith(f".{leaf}")
        ]
        assert rows, leaf
        return sum(map(predicted, rows)), sum(map(measured, rows))


class Book:
    """All cases that were measured, by the model's preset and the label of the case."""

    def __init__(self) -> None:
        """Read and join all."""
        self.gpus = Gpus()
        self.recordings = {
            path.stem.removeprefix(PREFIX): load_recording(path)
            for path in sorted(FOLDER.glob("*.json"))
        }
        self.cases = sum(len(each.cases) for each in self.recordings.values())
        self.pages = dict(self._pages())

    def page(self, model: str, label: str) -> Page:
        """One case of one model."""
        return self.pages[model, label]

    def rows(self) -> Iterator[tuple[str, Row]]:
        """Every row with the label of its case."""
        for (_, label), page in self.pages.items():
            for row in (*page.step.values(), *page.leaves):
                yield label, row

    @cached_property
    def below_bound(self) -> int:
        """Numbers that undercut the bound."""
        return sum(len(violations(each, self.gpus)) for each in self.recordings.values())

    @cached_property
    def checks(self) -> dict[str, list[Check]]:
        """The self-checks of all sessions, by name."""
        found: dict[str, list[Check]] = {}
        for recording in self.recordings.values():
            for session in recording.sessions:
                for check in session.self_check:
                    found.setdefault(check.name, []).append(check)
        return found

    def reads_over_compulsory(self) -> Iterator[tuple[int, float]]:
        """Of each decode case its context, and bytes read over those of what its run touched."""
        for (model, _), page in self.pages.items():
            if page.case.workload.phase == "prefill":
                continue
            run = page.case.runs["counters"]
            read = run.step["hbm_read_bytes"]
            assert isinstance(read, Spread)
            recording = self.recordings[model]
            touched = recorded_distinct(recording, run)
            needed = whole(required_of(demands(recording.model, page.case.workload), touched))
            yield page.case.workload.context, read.median / needed.read_bytes

    def _pages(self) -> Iterable[tuple[tuple[str, str], Page]]:
        for model, recording in self.recordings.items():
            for joined in join(recording, self.gpus):
                case = recording.cases[joined.index]
                if not case.runs:
                    continue
                rows = joined.rows
                step: dict[str, Row] = {}
                for row in rows:
                    if row.path is None:
                        step.setdefault(row.quantity, row)
                leaves = tuple(row for row in rows if row.path is not None)
                figures = achieved(recording, joined.index, self.gpus)
                page = Page(case=case, step=step, leaves=leaves, achieved=figures)
                yield (model, joined.label), page


def measured(row: Row) -> float:
    """The measured side, which is there."""
    assert row.measured is not None, row
    return row.measured


def predicted(row: Row) -> float:
    """The predicted side, which is there."""
    assert row.predicted is not None, row
    return float(row.predicted)


def ratio(row: Row) -> float:
    """Measured over predicted, which both are there."""
    return measured(row) / predicted(row)


def decode(batch: int) -> str:
    """The label of a decode case at the usual context."""
    return f"decode, batch {batch:,}, context 2,048, bf16, uniform"


def prefill(tokens: int) -> str:
    """The label of a prompt of one sequence."""
    return f"prefill, batch 1, context 0, {tokens:,} new tokens, bf16, uniform"
