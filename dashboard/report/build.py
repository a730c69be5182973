"""A report built: steps predicted, models compared over batches, recordings joined with both.

A report that is built passes the same checks as a file that is read, so that it can be rebuilt from
its own JSON.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from pydantic import TypeAdapter

import costmodel
from costmodel.costs.beyond_histogram import beyond
from costmodel.costs.kernel_times import Curves
from costmodel.costs.latency import Unknown
from costmodel.costs.predict import Prediction, predict
from costmodel.errors import InputError, shown
from costmodel.inputs.hardware import Hardware
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.workload import Workload
from costmodel.questions.compare import compare
from costmodel.questions.request import MAX_PRICE_PER_HOUR, step_usd_per_million_tokens
from costmodel.recordings.recording import Recording
from costmodel.routing.by_population import histograms_of
from costmodel.show.comparison_json import comparison_json
from costmodel.show.inputs_json import calibration_json, common_formats, workload_json
from costmodel.show.parallel_json import exchanges_json
from costmodel.show.prediction_json import interval_json, prediction_json
from costmodel.show.text import printable
from costmodel.show.told_times import told_transfer
from costmodel.validation.machines import Gpus
from dashboard.report.document import (
    CONTENTS,
    DOCUMENT,
    MAX_STEPS,
    SCHEMA_VERSION,
    ComparedLine,
    Content,
    ExchangeLine,
    OperatorLine,
    Report,
    report_of,
)
from dashboard.report.inputs import MAX_COMPARED, MAX_MODELS, MAX_RECORDINGS
from dashboard.report.measured import joined_lines, matching
from dashboard.report.method import method_notes
from dashboard.report.quantities import OF_A_MESH, PRICE, REPORTED

USUAL_BATCHES = (1, 4, 16, 64, 256, 1024, 4096)  # of a comparison


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a report is to be of. Batch and context of `workload` give way to the lists.

    Models have different names (`inputs.catalog.numbered`). `compared_batches` are those of the
    comparison. `gpus` price what recordings hold, each on the machine that measured it.

    Raises:
        InputError: A list is empty or too long, or the price is out of bounds.
    """

    models: tuple[ModelConfig, ...]
    workload: Workload
    batches: tuple[int, ...]
    contexts: tuple[int, ...]
    compared_batches: tuple[int, ...]
    hardware: Hardware
    calibration: Curves | Unknown
    recordings: tuple[tuple[str, Recording], ...] = ()
    gpus: Gpus
    price_per_hour: float | None = None  # USD for an hour of the GPU
    contents: tuple[Content, ...] = CONTENTS

    def __post_init__(self) -> None:
        steps = len(self.models) * len(self.batches) * len(self.contexts)
        for field, count, most in (
            ("models", len(self.models), MAX_MODELS),
            ("batch x context x models", steps, MAX_STEPS),
            ("compared batches", len(self.compared_batches), MAX_COMPARED),
            ("contents", len(self.contents), len(CONTENTS)),
        ):
            if not 1 <= count <= most:
                raise InputError(f"{field}={count}: a report holds 1 to {most}")
        if len(self.recordings) > MAX_RECORDINGS:
            raise InputError(
                f"recording={len(self.recordings)}: a report holds at most {MAX_RECORDINGS}"
            )
        price = self.price_per_hour
        if price is not None and not 0 <= price <= MAX_PRICE_PER_HOUR:  # NaN is neither
            raise InputError(
                f"price_per_hour={shown(price)}: is a number from 0 to {MAX_PRICE_PER_HOUR:,.0f}"
            )


def compared_batches(batches: Sequence[int]) -> tuple[int, ...]:
    """The batches of a comparison unless others are given: the usual ones and those listed."""
    return tuple(sorted({*USUAL_BATCHES, *batches}))


def now() -> str:
    """This moment, as a report states when it was made."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def build(asked: Asked, made: str) -> Report:
    """The report on what was asked for, made at a moment (`2026-11-23T06:00:00Z`).

    Raises:
        InputError: A recording is of none of the models, or of a GPU that the calibration is not.
    """
    predictions = [
        predict(
            model,
            replace(asked.workload, batch=batch, context=context),
            asked.hardware,
            asked.calibration,
        )
        for context in asked.contexts
        for batch in asked.batches
        for model in asked.models
    ]
    for prediction in predictions:
        _check_known(prediction)
    recorded = [matching(asked.models, name, recording) for name, recording in asked.recordings]
    measured = "measured" in asked.contents
    joined = [joined_lines(matched, asked) for matched in recorded] if measured else []
    return report_of(
        {
            "document": DOCUMENT,
            "schema_version": SCHEMA_VERSION,
            "sparsecost_version": costmodel.__version__,
            "made": made,
            "contents": [content for content in CONTENTS if content in asked.contents],
            "inputs": {**_inputs(asked), "recordings": [recording.given for recording in joined]},
            "steps": [_step(prediction, asked.price_per_hour) for prediction in predictions],
            "comparison": _comparison(asked) if "comparison" in asked.contents else None,
            "measured": [line for recording in joined for line in recording.lines],
            "attributions": [line for recording in joined for line in recording.attributions],
            "method": method_notes(predictions) if "method" in asked.contents else [],
        },
        where="report",
    )


def _check_known(prediction: Prediction) -> None:
    """Refuse a step that has more tokens than a measured histogram holds."""
    unknown = beyond(prediction.costs.operators, prediction.workload)
    if unknown is not None:
        raise InputError(
            f"routing={unknown.reason}; a report takes the batches of --batch and --compare-batch"
        )


def _inputs(asked: Asked) -> dict[str, Any]:
    workload = asked.workload
    sources = [histogram.source for histogram in histograms_of(workload.routing)]
    conventions = workload_json(workload) | common_formats(
        [workload.of_model(model) for model in asked.models]
    )
    del conventions["batch"], conventions["context"]
    calibration = asked.calibration
    return {
        "models": [TypeAdapter(ModelConfig).dump_python(m, mode="json") for m in asked.models],
        "workload": {
            **conventions,
            "batches": asked.batches,
            "contexts": asked.contexts,
            "compared_batches": asked.compared_batches,
            "routing_source": printable("; ".join(sources)) if sources else None,
            "backend": workload.backend,
        },
        "hardware": TypeAdapter(Hardware).dump_python(asked.hardware, mode="json"),
        "calibration": calibration_json(calibration),
        "no_calibration": printable(calibration.reason)
        if isinstance(calibration, Unknown)
        else None,
        "price_per_hour": None if asked.price_per_hour is None else float(asked.price_per_hour),
    }


def _step(prediction: Prediction, price_per_hour: float | None) -> dict[str, Any]:
    """Quantities and operators, as `predict --json` tells them."""
    data = prediction_json(prediction)
    lacking = {PRICE} if prediction.parallel is not None else {PRICE, *OF_A_MESH}
    values = {name: _at(data, name) for name in REPORTED if name not in lacking}
    cost: float | Unknown | None = step_usd_per_million_tokens(prediction, price_per_hour)
    reasons = data["reasons"]
    if isinstance(cost, Unknown):
        reasons |= {PRICE: cost.reason}
        cost = None
    values[PRICE] = cost
    wanted = OperatorLine.__dataclass_fields__
    exchanged = ExchangeLine.__dataclass_fields__
    of = prediction.parallel
    return {
        "model": prediction.model.name,
        "batch": prediction.workload.batch,
        "context": prediction.workload.context,
        "values": values,
        "reasons": {name: printable(reasons[name]) for name in values if name in reasons},
        "operators": [{name: operator[name] for name in wanted} for operator in data["operators"]],
        "mesh": prediction.workload.mesh.label,
        "transferred": told_transfer(prediction.time) or None,
        "interval_s": interval_json(prediction).get("interval_s"),
        "exchanges": [
            {name: exchange[name] for name in exchanged}
            for exchange in ([] if of is None else exchanges_json(of))
        ],
    }


def _at(data: Any, name: str) -> Any:  # noqa: ANN401 - JSON
    for key in name.split("."):
        data = data[key]
    return data


def _comparison(asked: Asked) -> dict[str, Any]:
    lines: list[dict[str, Any]] = []
    findings: list[dict[str, Any]] = []
    wanted = set(ComparedLine.__dataclass_fields__) - {"context"}
    for context, comparison in _by_context(asked):
        lines += [
            {"context": context, **{name: row[name] for name in wanted}}
            for row in comparison["rows"]
        ]
        findings += [
            {"context": context, "text": printable(text)} for text in comparison["findings"]
        ]
    return {"lines": lines, "findings": findings}


def _by_context(asked: Asked) -> Iterator[tuple[int, dict[str, Any]]]:
    for context in asked.contexts:
        comparison = compare(
            asked.models,
            replace(asked.workload, context=context),
            asked.hardware,
            batches=asked.compared_batches,
            calibration=asked.calibration,
        )
        for row in comparison.predictions:
            for prediction in row:
                _check_known(prediction)
        yield context, comparison_json(comparison)
