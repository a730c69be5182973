"""A recording joined with its prediction: a full outer join on `path`, in which no row is dropped.

Every quantity that a run can measure has a row for the step and one for each leaf that the
recording or the prediction knows. A side without a number is None, with the reason; so what was
never measured still shows what is predicted.
"""

from collections.abc import Iterator
from dataclasses import replace

from costmodel.layers.site import expanded_paths, region_leaves
from costmodel.recordings.measured import Missing, Readings, readings_of
from costmodel.recordings.quantities import RUNS, RunName, measured_in
from costmodel.recordings.recording import Case, Recording
from costmodel.validation.case_prediction import CasePrediction, predict_case
from costmodel.validation.counterparts import (
    PREDICTED,
    UNPREDICTED,
    Counterpart,
    operator_counterpart,
    region_counterpart,
    step_counterpart,
)
from costmodel.validation.joined import (
    AS_ROUTED,
    AS_UNIFORM,
    BY_RECORDED_CHOICES,
    STEP_ALONE,
    JoinedCase,
    JoinedColumn,
    Leaves,
)
from costmodel.validation.machines import Gpus, backend_of, device_of
from costmodel.validation.recorded_routing import RecordedRouting, selectors_by_module

NO_OPERATOR = "not predicted (no operator has this path)"
NO_RUN = "not measured (the case has no such run)"
NOT_PREDICTED = Counterpart(value=None, basis=UNPREDICTED, reason=NO_OPERATOR)
REGION = "region"  # in place of the kind of an operator


def join(recording: Recording, gpus: Gpus) -> Iterator[JoinedCase]:
    """Each case of the recording, joined with its prediction."""
    for index in range(len(recording.cases)):
        yield join_case(recording, index, gpus)


def join_case(recording: Recording, index: int, gpus: Gpus) -> JoinedCase:
    """One case joined with its prediction, each run for the device and the backend that ran it."""
    case = recording.cases[index]
    predictions: dict[tuple[str, str], tuple[CasePrediction, Leaves]] = {}
    columns: list[JoinedColumn] = []
    for name in RUNS:
        device, backend = device_of(recording, case, name), backend_of(case, name)
        if (device, backend) not in predictions:
            prediction = predict_case(recording, case, gpus.of(device), backend)
            predictions[device, backend] = prediction, _leaves(recording, prediction)
        columns += _columns(case, name, *predictions[device, backend])
    return JoinedCase(index=index, label=case.workload.label, columns=tuple(columns))


def _leaves(recording: Recording, prediction: CasePrediction) -> Leaves:
    """The leaves and regions of the recording, then the leaves that are only predicted."""
    operators = prediction.costs.operators
    operator_at = {
        path: index
        for index, operator in enumerate(operators)
        for path in expanded_paths(operator.path)
    }
    recorded = set(recording.paths)
    paths = (*recording.paths, *(path for path in operator_at if path not in recorded))
    regions: dict[str, tuple[int, ...]] = {}
    inside: dict[str, str] = {}
    for path in recording.paths:
        leaves = region_leaves(path)
        if len(leaves) > 1 and all(leaf in operator_at for leaf in leaves):
            regions[path] = tuple(operator_at[leaf] for leaf in leaves)
            inside |= dict.fromkeys(leaves, path)
    indices = tuple(operator_at.get(path, -1) for path in paths)
    kinds = [None if index < 0 else operators[index].kind for index in indices]
    return Leaves(
        paths=paths,
        kinds=tuple(
            REGION if path in regions else kind for path, kind in zip(paths, kinds, strict=True)
        ),
        operators=indices,
        places=(*range(len(recorded)), *(None,) * (len(paths) - len(recorded))),
        regions=regions,
        inside=inside,
    )


def _columns(
    case: Case, name: RunName, prediction: CasePrediction, leaves: Leaves
) -> Iterator[JoinedColumn]:
    """All quantities of one run of a case, first those of the step."""
    run = case.runs.get(name)
    absent = Missing(reason=case.lacking.get(name, NO_RUN))
    choices = AS_ROUTED
    if case.workload.routing == "scores":
        recorded = isinstance(prediction.workload.routing, RecordedRouting)
        choices = BY_RECORDED_CHOICES if recorded else AS_UNIFORM

    def column(
        quantity: str, of: Leaves, counterparts: tuple[Counterpart, ...], readings: Readings
    ) -> JoinedColumn:
        lacking = len(counterparts) - len(readings.median)
        return JoinedColumn(
            run=name,
            quantity=quantity,
            leaves=of,
            counterparts=counterparts,
            measured=(*readings.median, *(None,) * lacking),
            readings=readings,
            choices=choices,
        )

    for quantity in measured_in(name, "step"):
        readings = readings_of(run.step.get(quantity) if run else absent)
        yield column(quantity, STEP_ALONE, (step_counterpart(prediction, quantity),), readings)
    for quantity in measured_in(name, "operators"):
        readings = readings_of(run.operators.get(quantity) if run else absent)
        if quantity == "distinct":
            counterparts = _distinct_counterparts(prediction, leaves)
            yield _of_selectors(column(quantity, leaves, counterparts, readings))
        else:
            counterparts = _leaf_counterparts(prediction, quantity, leaves)
            yield column(quantity, leaves, counterparts, readings)


def _leaf_counterparts(
    prediction: CasePrediction, quantity: str, leaves: Leaves
) -> tuple[Counterpart, ...]:
    """The counterpart of each leaf and region."""
    operators = prediction.costs.operators
    by_operator = [operator_counterpart(prediction, quantity, operator) for operator in operators]
    by_operator.append(NOT_PREDICTED)  # found at the index -1
    return tuple(
        region_counterpart(
            prediction, quantity, path, [operators[index] for index in leaves.regions[path]]
        )
        if path is not None and path in leaves.regions
        else by_operator[index]
        for path, index in zip(leaves.paths, leaves.operators, strict=True)
    )


def _distinct_counterparts(prediction: CasePrediction, leaves: Leaves) -> tuple[Counterpart, ...]:
    """Expected distinct items at each router or selector, or at the region that holds it."""
    expected = {
        path: Counterpart(value=distinct, basis=PREDICTED, by_choices=True)
        for path, distinct in selectors_by_module(prediction.costs.operators).values()
    }
    return tuple(
        next(
            (expected[leaf] for leaf in region_leaves(path or "") if leaf in expected),
            NOT_PREDICTED,
        )
        for path in leaves.paths
    )


def _of_selectors(column: JoinedColumn) -> JoinedColumn:
    """The column without the rows of leaves that choose nothing, by either side."""
    pairs = zip(column.counterparts, column.measured, strict=True)
    kept = [
        index
        for index, (counterpart, measured) in enumerate(pairs)
        if counterpart is not NOT_PREDICTED or measured is not None
    ]
    return replace(
        column,
        leaves=column.leaves.only(kept),
        counterparts=tuple(column.counterparts[index] for index in kept),
        measured=tuple(column.measured[index] for index in kept),
    )
