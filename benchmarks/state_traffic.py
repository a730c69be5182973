"""State bytes that decode steps read and wrote, by the hardware counters of a recording.

    sparsecost profile benchmarks/recurrent_hybrid.toml --runs time,counters --phase decode \
        --batch 1,2,4,8,16,32 --context 512 --out OUT.json
    python -m benchmarks.state_traffic OUT.json

Of two steps that differ in their batch alone, the larger one moves more state, KV cache, token ids
and logits; both read the same weights. What the counters differ by, less the predicted growth of
all else, is the state of the further sequences. A step's written bytes are settled: they hold what
a flush of L2 drives out after it. Activations that leave L2 count as state here, so the model must
have much state beside them. The leaves with the recurrence, counted by themselves, read the states
of all sequences. Prints a table; a ratio is measured over predicted.
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from costmodel.errors import InputError
from costmodel.layers.numbers import Number
from costmodel.layers.site import expanded_paths
from costmodel.recordings.measured import readings_of
from costmodel.recordings.recording import Case, Recording, load_recording
from costmodel.validation.case_prediction import CasePrediction, predict_case
from costmodel.validation.counterparts import step_counterpart
from costmodel.validation.machines import backend_of

RECORDING = Path(__file__).with_name("recurrent_hybrid_h200.json")
COUNTERS = ("hbm_read_bytes", "hbm_written_bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class StateTraffic:
    """What the state of `batch - least` sequences moves in a step, beyond a step of `least`."""

    label: str  # of the larger step
    least: int  # sequences of the smaller step
    batch: int
    predicted_bytes: int  # read, and as many written
    read_bytes: float
    written_bytes: float
    leaf_ratio: float | None  # read by the recurrences alone, over predicted; None: not counted


def state_traffic(recording: Recording) -> Iterator[StateTraffic]:
    """Each decode step beside the one of the smallest batch and otherwise the same workload.

    Raises:
        InputError: The model has no state, or experts or rows, whose bytes are no sure thing.
    """
    counted = [case for case in recording.cases if case.workload.phase == "decode" and _read(case)]
    for _, group in groupby(
        sorted(counted, key=lambda case: (*_rest(case), case.workload.batch)), key=_rest
    ):
        first, *others = group
        before = _predicted(recording, first)
        for case in others:
            after = _predicted(recording, case)
            grown = after.costs.kv_cache.state_bytes - before.costs.kv_cache.state_bytes
            read, written = (
                measured - (_compulsory(after, name) - _compulsory(before, name) - grown)
                for name, measured in zip(COUNTERS, _grown(first, case), strict=True)
            )
            yield StateTraffic(
                label=case.workload.label,
                least=first.workload.batch,
                batch=case.workload.batch,
                predicted_bytes=int(grown),
                read_bytes=float(read),
                written_bytes=float(written),
                leaf_ratio=_leaf_ratio(recording, case, after),
            )


def _leaf_ratio(recording: Recording, case: Case, prediction: CasePrediction) -> float | None:
    """HBM bytes that the leaves of recurrences read, over the state that they must read."""
    of_path = {
        path: sum(part.state_read_bytes for part in operator.parts)
        for operator in prediction.costs.operators
        if any(part.kind == "recurrence" for part in operator.parts)
        for path in expanded_paths(operator.path)
    }
    column = readings_of(case.runs["counters"].operators.get(COUNTERS[0])).median
    read = dict(zip(recording.paths, column, strict=False))
    counted = [read.get(path) for path in of_path]
    if not counted or None in counted:
        return None
    return float(sum(filter(None, counted)) / sum(of_path.values()))


def _rest(case: Case) -> tuple[int, str, str]:
    """All of a decode step's workload but its batch."""
    work = case.workload
    return work.context, work.dtype, work.routing


def _read(case: Case) -> tuple[float, ...]:
    """HBM bytes read and written by the step; nothing where one of them was not measured."""
    run = case.runs.get("counters")
    readings = [readings_of(run.step.get(name)).median for name in COUNTERS] if run else []
    values = [value for (value,) in filter(None, readings) if value is not None]
    return tuple(values) if len(values) == len(COUNTERS) else ()


def _grown(first: Case, case: Case) -> list[float]:
    return [after - before for before, after in zip(_read(first), _read(case), strict=True)]


def _predicted(recording: Recording, case: Case) -> CasePrediction:
    prediction = predict_case(recording, case, None, backend_of(case, "counters"))
    model = recording.model.name
    if not prediction.costs.kv_cache.state_bytes:
        raise InputError(f"model={model}: has no layer with a state")
    if any(operator.touched is not None for operator in prediction.costs.operators):
        raise InputError(f"model={model}: has experts or memory layers, whose bytes vary")
    return prediction


def _compulsory(prediction: CasePrediction, quantity: str) -> Number:
    value = step_counterpart(prediction, quantity).value
    assert value is not None, "compulsory bytes need no hardware"
    return value


def table(rows: Sequence[StateTraffic]) -> str:
    """A line for each step: state bytes predicted, and the ratios of those read and written."""
    head = f"{'step':40} {'sequences more':>14} {'predicted':>16} {'read':>8} {'written':>8}"
    head += f" {'by leaves':>10}"
    return "\n".join(
        (
            head,
            *(
                f"{row.label:40} {row.batch - row.least:>14} {row.predicted_bytes:>16,}"
                f" {row.read_bytes / row.predicted_bytes:>8.4f}"
                f" {row.written_bytes / row.predicted_bytes:>8.4f}"
                f" {'-' if row.leaf_ratio is None else f'{row.leaf_ratio:.4f}':>10}"
                for row in rows
            ),
        )
    )


if __name__ == "__main__":
    rows = [*state_traffic(load_recording(Path(sys.argv[1])))]
    sys.stdout.write(f"{table(rows)}\n")
