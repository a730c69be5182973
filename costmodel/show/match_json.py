"""A match as JSON and as flat records: its sizes, the matched numbers, and the others."""

from collections.abc import Sequence
from typing import Any

import costmodel
from costmodel.costs.kernel_times import Curves
from costmodel.costs.latency import Unknown, not_timed
from costmodel.costs.transfer import for_step
from costmodel.inputs.hardware import Hardware
from costmodel.inputs.model_toml import model_table
from costmodel.inputs.workload import Workload
from costmodel.layers.mesh import ONE_GPU
from costmodel.questions.match import Match
from costmodel.questions.match_differences import Difference
from costmodel.questions.matching.search import Equal
from costmodel.show.inputs_json import calibration_json, common_formats

SCHEMA_VERSION = 1
NAMES: dict[Equal, str] = {  # in the JSON of a prediction
    "parameters": "parameters.total_without_embeddings",
    "flops": "flops.per_token",
    "bytes": "hbm_bytes.compulsory",
}
MATCHED = 2  # records of what was set equal, before the others


def match_json(
    answer: Match,
    lines: Sequence[Difference],
    hardware: Hardware,
    calibration: Curves | Unknown,
    formats: Workload,
) -> dict[str, Any]:
    """All of a match as plain dicts, lists, numbers and strings; `formats` are those of `lines`."""
    both = [formats.of_model(model) for model in (answer.target, answer.model)]
    reasons, priced = {}, [(for_step(calibration, hardware, work), work) for work in both]
    if isinstance(calibration, Unknown):
        reasons["calibration"] = calibration.reason
    elif unknown := next(filter(None, (not_timed(*of_model) for of_model in priced)), None):
        reasons["time.predicted_s"] = unknown.reason
    transfers = [one.transfer for one, _ in priced if isinstance(one, Curves) and one.transfer]
    return {
        "schema_version": SCHEMA_VERSION,
        "sparsecost_version": costmodel.__version__,
        "target": answer.target.name,
        "template": answer.template.name,
        "hardware": hardware.name,
        "calibration": calibration_json(calibration),
        **({"transferred_from": transfers[0].source} if transfers else {}),
        "context": answer.context,
        "batch": answer.batch,
        "placement": formats.placement.label,
        **({} if formats.mesh == ONE_GPU else {"mesh": formats.mesh.label}),
        "equal": [NAMES[name] for name in answer.equal],
        "notes": {
            "target": list(answer.target.notes),
            "template": list(answer.template.notes),
        },
        **common_formats(both),
        "fields": {
            name: {"template": before, "matched": after, "step": answer.steps[name]}
            for name, (before, after) in answer.fields.items()
        },
        "candidates": answer.candidates,
        "matched": match_records(answer, lines)[:MATCHED],
        "beside": match_records(answer, lines)[MATCHED:],
        "model": model_table(answer.model),
        "reasons": reasons,
    }


def match_records(answer: Match, lines: Sequence[Difference]) -> list[dict[str, Any]]:
    """The numbers of both models as flat records: the two that were matched, then `lines`."""
    pairs = [
        *(
            (
                NAMES[name],
                answer.batch if name == "bytes" else None,
                answer.wanted.of(name),
                answer.reached.of(name),
            )
            for name in answer.equal
        ),
        *((line.name, line.batch, line.target, line.matched) for line in lines),
    ]
    return [
        {
            "quantity": name,
            "batch": batch,
            "target": target,
            "matched": matched,
            "difference": matched - target,
            "difference_percent": 100 * (matched / target - 1) if target else None,
        }
        for name, batch, target, matched in pairs
        if isinstance(target, int | float) and isinstance(matched, int | float)
    ]
