"""The committed recordings joined with their predictions, read once for all pages."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property

from costmodel.inputs.workload import Phase
from costmodel.recordings.folders import SHIPPED
from costmodel.recordings.measured import Spread
from costmodel.recordings.recording import Case, Check, Recording, load_recording
from costmodel.validation.bounds import violations
from costmodel.validation.case_prediction import predict_case
from costmodel.validation.counterparts import COMPULSORY
from costmodel.validation.join import join
from costmodel.validation.joined import Row
from costmodel.validation.machines import Gpus
from costmodel.validation.recorded_routing import recorded_distinct
from costmodel.validation.required_work import operator_work, required_work
from costmodel.validation.utilisation import Utilisation, measured_utilisation

PREFIX = "h200-"
READ = "hbm_read_bytes"  # pages set it beside the compulsory bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredCase:
    """One case of a recording: its rows of the whole step and of its leaves, and its utilisation.

    `step` has one row for each quantity; of a quantity that two runs measured, the first run's.
    """

    case: Case
    step: dict[str, Row]
    leaves: tuple[Row, ...]
    achieved: Utilisation

    def value(self, quantity: str) -> float:
        """The measured value of a quantity of the step, in its unit."""
        return measured(self.step[quantity])

    def leaf(self, quantity: str, leaf: str) -> tuple[float, float]:
        """Predicted and measured value, each summed over the layers that have this leaf."""
        rows = [
            row
            for row in self.leaves
            if row.quantity == quantity and (row.path or "").endswith(f".{leaf}")
        ]
        assert rows, leaf
        return sum(map(predicted, rows)), sum(map(measured, rows))


class Recorded:
    """Every measured case of the committed recordings, by preset and label of the case."""

    def __init__(self) -> None:
        """Read the recordings of plain PyTorch and join each with its prediction."""
        self.gpus = Gpus()
        recordings = {
            path.stem.removeprefix(PREFIX): load_recording(path)
            for path in sorted(SHIPPED.glob("*.json"))
        }
        self.recordings = {name: each for name, each in recordings.items() if _of_torch(each)}
        self.planned = sum(len(recording.cases) for recording in self.recordings.values())
        self.cases = dict(self._cases())

    def case(self, model: str, label: str) -> MeasuredCase:
        """The case of a model that has this label (see `decode` and `prefill`)."""
        return self.cases[model, label]

    def of_phase(self, phase: Phase) -> Iterator[MeasuredCase]:
        """The cases of decode, or those of prefill."""
        return (case for case in self.cases.values() if case.case.workload.phase == phase)

    def rows(self) -> Iterator[Row]:
        """Every row, of steps and of leaves."""
        for case in self.cases.values():
            yield from case.step.values()
            yield from case.leaves

    @cached_property
    def below_bound(self) -> int:
        """How many measured numbers are smaller than their bound."""
        return sum(len(violations(each, self.gpus)) for each in self.recordings.values())

    @cached_property
    def checks(self) -> dict[str, list[Check]]:
        """The self-checks of all sessions, by name."""
        by_name: dict[str, list[Check]] = {}
        for recording in self.recordings.values():
            for session in recording.sessions:
                for check in session.self_check:
                    by_name.setdefault(check.name, []).append(check)
        return by_name

    @cached_property
    def reads_over_compulsory(self) -> tuple[tuple[int, float], ...]:
        """Of each decode case: context, and HBM bytes read over those of what its run touched."""
        found = []
        for (model, _), measured_case in self.cases.items():
            case = measured_case.case
            run = case.runs.get("counters")
            if case.workload.phase == "prefill" or run is None:
                continue
            read = run.step["hbm_read_bytes"]
            assert isinstance(read, Spread)
            recording = self.recordings[model]
            touched = recorded_distinct(recording, run)
            needed = required_work(operator_work(recording.model, case.workload), touched).step
            found.append((case.workload.context, read.median / needed.read_bytes))
        return tuple(found)

    def _cases(self) -> Iterable[tuple[tuple[str, str], MeasuredCase]]:
        for model, recording in self.recordings.items():
            for joined in join(recording, self.gpus):
                case = recording.cases[joined.index]
                if not case.runs:
                    continue
                step: dict[str, Row] = {}
                for row in joined.rows:
                    if row.path is None:
                        step.setdefault(row.quantity, row)
                if READ in step:
                    required = predict_case(recording, case, None).costs.totals.read_bytes
                    step[READ] = step[READ]._replace(predicted=required, basis=COMPULSORY)
                yield (
                    (model, joined.label),
                    MeasuredCase(
                        case=case,
                        step=step,
                        leaves=tuple(row for row in joined.rows if row.path is not None),
                        achieved=measured_utilisation(recording, joined.index, self.gpus),
                    ),
                )


def _of_torch(recording: Recording) -> bool:
    """Whether plain PyTorch's kernels were measured, which is what the pages tell of."""
    return all(run.backend == "torch" for case in recording.cases for run in case.runs.values())


@cache
def recorded() -> Recorded:
    """The committed recordings, read and joined once in a process."""
    return Recorded()


def measured(row: Row) -> float:
    """The measured value of a row that has one."""
    assert row.measured is not None, row
    return row.measured


def predicted(row: Row) -> float:
    """The predicted value of a row that has one."""
    assert row.predicted is not None, row
    return float(row.predicted)


def ratio(row: Row) -> float:
    """Measured over predicted value of a row that has both."""
    return measured(row) / predicted(row)


def decode(batch: int) -> str:
    """The label of a decode case at 2,048 cached tokens under uniform routing."""
    return f"decode, batch {batch:,}, context 2,048, bf16, uniform"


def prefill(tokens: int) -> str:
    """The label of the prefill of one prompt."""
    return f"prefill, batch 1, context 0, {tokens:,} new tokens, bf16, uniform"
