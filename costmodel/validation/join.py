"""A recording joined with its prediction: a full outer join on `path`, in which no row is dropped.

Every quantity that a run can measure has a row for the step and one for each leaf that the
recording or the prediction knows. A side without a number is None, with the reason; so what was
never measured still shows what is predicted.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache

from costmodel.layers.site import expanded_paths, region_leaves
from costmodel.recordings.measured import Missing, Readings, readings_of
from costmodel.recordings.quantities import QUANTITIES, RUNS, Level, RunName, measured_in
from costmodel.recordings.recording import Case, Recording, Run
from costmodel.validation.case_prediction import (
    CasePrediction,
    SharedPredictions,
    predict_case,
)
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
from costmodel.validation.recorded_routing import RecordedRouting

NO_OPERATOR = "not predicted (no operator has this path)"
NO_RUN = "not measured (the case has no such run)"
NOT_PREDICTED = Counterpart(value=None, basis=UNPREDICTED, reason=NO_OPERATOR)
REGION = "region"  # in place of the kind of an operator


def join(
    recording: Recording, gpus: Gpus, shared: SharedPredictions | None = None
) -> Iterator[JoinedCase]:
    """Each case of the recording, joined with its prediction.

    `shared`, of the recording, keeps predictions for the next recording of its model.
    """
    for index in range(len(recording.cases)):
        yield join_case(recording, index, gpus, shared)


def join_case(
    recording: Recording, index: int, gpus: Gpus, shared: SharedPredictions | None = None
) -> JoinedCase:
    """One case joined with its prediction, each run for the device and the backend that ran it."""
    case = recording.cases[index]
    predictions: dict[tuple[str, str], CasePrediction] = {}
    columns: list[JoinedColumn] = []
    for name in RUNS:
        on = device_of(recording, case, name), backend_of(case, name)
        if on not in predictions:
            device, backend = on
            predictions[on] = predict_case(recording, case, gpus.of(device), backend, shared)
        prediction = predictions[on]
        regions = _regions(recording, case.runs.get(name), prediction)
        operators = tuple((each.path, each.kind) for each in prediction.costs.operators)
        leaves = _leaves(recording.paths, operators, regions)
        columns += _columns(case, name, prediction, leaves)
    of_time = predictions[device_of(recording, case, "time"), backend_of(case, "time")]
    return JoinedCase(
        index=index, label=case.workload.label, columns=tuple(columns), prediction=of_time
    )


def _regions(recording: Recording, run: Run | None, prediction: CasePrediction) -> tuple[str, ...]:
    """The regions that have rows: those that the run measured or, without a run, the predicted.

    A recording names the regions of all its cases; which of them a step has depends on its tokens.
    """
    named = _named_regions(recording.paths)
    if not named:
        return ()
    if run is None:
        predicted = {
            path
            for region in prediction.kernels.regions(prediction.costs.operators)
            if len(region.operators) > 1
            for path in expanded_paths(region.path)
        }
        return tuple(path for _, path in named if path in predicted)
    medians = [readings_of(column).median for column in run.operators.values()]
    columns = [values for values in medians if values]
    return tuple(
        path for place, path in named if any(values[place] is not None for values in columns)
    )


@lru_cache(maxsize=16)  # all cases of a recording ask for the same
def _named_regions(paths: tuple[str, ...]) -> tuple[tuple[int, str], ...]:
    """The regions among a recording's paths, each with its place."""
    return tuple((place, path) for place, path in enumerate(paths) if len(region_leaves(path)) > 1)


@lru_cache(maxsize=64)  # a recording has a few sets of regions, whatever its cases
def _leaves(
    recorded: tuple[str, ...],
    operators: tuple[tuple[str, str], ...],
    region_paths: tuple[str, ...],
) -> Leaves:
    """The recorded leaves and these regions of them, then the leaves that are only predicted.

    `operators` are the predicted ones: path and kind of each.
    """
    operator_at = {
        path: index
        for index, (pattern, _) in enumerate(operators)
        for path in expanded_paths(pattern)
    }
    places: dict[str, int | None] = {
        path: place
        for place, path in enumerate(recorded)
        if path in region_paths or len(region_leaves(path)) == 1
    }
    places |= {path: None for path in operator_at if path not in places}
    regions: dict[str, tuple[int, ...]] = {}
    inside: dict[str, str] = {}
    for path in region_paths:
        leaves = region_leaves(path)
        if all(leaf in operator_at for leaf in leaves):
            regions[path] = tuple(operator_at[leaf] for leaf in leaves)
            inside |= dict.fromkeys(leaves, path)
    indices = tuple(operator_at.get(path, -1) for path in places)
    kinds = [None if index < 0 else operators[index][1] for index in indices]
    alike: dict[tuple[int, ...], list[int]] = {}
    for row, (path, index) in enumerate(zip(places, indices, strict=True)):
        alike.setdefault(regions.get(path, (index,)), []).append(row)
    return Leaves(
        paths=tuple(places),
        kinds=tuple(
            REGION if path in regions else kind for path, kind in zip(places, kinds, strict=True)
        ),
        operators=indices,
        places=tuple(places.values()),
        regions=regions,
        inside=inside,
        alike=tuple(map(tuple, alike.values())),
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
        return JoinedColumn(
            run=name,
            backend=prediction.workload.backend,
            quantity=quantity,
            leaves=of,
            counterparts=counterparts,
            measured=of.values(readings.median),
            readings=readings,
            choices=choices,
        )

    for quantity in _quantities(case, prediction, name, "step"):
        readings = readings_of(run.step.get(quantity) if run else absent)
        yield column(quantity, STEP_ALONE, (step_counterpart(prediction, quantity),), readings)
    for quantity in _quantities(case, prediction, name, "operators"):
        readings = readings_of(run.operators.get(quantity) if run else absent)
        if quantity == "distinct":
            counterparts = _distinct_counterparts(prediction, leaves, readings)
            yield _of_selectors(column(quantity, leaves, counterparts, readings))
        else:
            counterparts = _leaf_counterparts(prediction, quantity, leaves)
            yield column(quantity, leaves, counterparts, readings)


def _quantities(case: Case, prediction: CasePrediction, name: RunName, level: Level) -> list[str]:
    """What a run of the case measures at a level, without what this case has none of."""
    has = {
        None: True,
        "host": case.workload.tables == "host",
        "state": bool(prediction.costs.kv_cache.state_bytes),
    }
    return [quantity for quantity in measured_in(name, level) if has[QUANTITIES[quantity].only]]


def _leaf_counterparts(
    prediction: CasePrediction, quantity: str, leaves: Leaves
) -> tuple[Counterpart, ...]:
    """The counterpart of each leaf and region."""
    operators = prediction.costs.operators
    counterparts = [NOT_PREDICTED] * len(leaves.paths)
    for rows in leaves.alike:
        path, index = leaves.paths[rows[0]], leaves.operators[rows[0]]
        if path is not None and path in leaves.regions:
            spanned = [operators[index] for index in leaves.regions[path]]
            counterpart = region_counterpart(prediction, quantity, path, spanned)
        elif index >= 0:
            counterpart = operator_counterpart(prediction, quantity, operators[index])
        else:
            continue
        for row in rows:
            counterparts[row] = counterpart
    return tuple(counterparts)


def _distinct_counterparts(
    prediction: CasePrediction, leaves: Leaves, readings: Readings
) -> tuple[Counterpart, ...]:
    """Expected distinct items at each router or selector, or at a region that was read in whole."""
    expected = {
        path: Counterpart(value=distinct, basis=PREDICTED, by_choices=True)
        for path, distinct in prediction.selectors.values()
    }
    counterparts = [expected.get(path or "", NOT_PREDICTED) for path in leaves.paths]
    for place, path in enumerate(leaves.paths):
        inside = region_leaves(path or "")
        if len(inside) > 1 and _read(readings, leaves.places[place]):
            known = (expected[leaf] for leaf in inside if leaf in expected)
            counterparts[place] = next(known, NOT_PREDICTED)
    return tuple(counterparts)


def _read(readings: Readings, place: int | None) -> bool:
    """Whether a column holds a number at this place of the recording's paths."""
    values = readings.median
    return place is not None and bool(values) and values[place] is not None


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
