"""A match as JSON and as flat records: sizes, what was matched, and what else differs then."""

from collections.abc import Sequence
from typing import Any

import costmodel
from costmodel.costs.kernel_times import Curves
from costmodel.costs.latency import Unknown
from costmodel.inputs.hardware import Hardware
from costmodel.questions.match import Beside, Match
from costmodel.questions.matching.toml import model_table
from costmodel.show.inputs_json import calibration_json

SCHEMA_VERSION = 1
MATCHED = ("parameters.total_without_embeddings", "flops.per_token")


def match_json(
    found: Match, lines: Sequence[Beside], hardware: Hardware, calibration: Curves | Unknown
) -> dict[str, Any]:
    """All of a match as plain dicts, lists, numbers and strings."""
    return {
        "schema_version": SCHEMA_VERSION,
        "sparsecost_version": costmodel.__version__,
        "target": found.target.name,
        "template": found.template.name,
        "hardware": hardware.name,
        "calibration": calibration_json(calibration),
        "context": found.context,
        "fields": {
            name: {"template": before, "matched": after, "step": found.steps[name]}
            for name, (before, after) in found.fields.items()
        },
        "candidates": found.candidates,
        "matched": match_records(found, lines)[: len(MATCHED)],
        "beside": match_records(found, lines)[len(MATCHED) :],
        "model": model_table(found.model),
        "reasons": {"calibration": calibration.reason} if isinstance(calibration, Unknown) else {},
    }


def match_records(found: Match, lines: Sequence[Beside]) -> list[dict[str, Any]]:
    """Each number of both models, flat: first the two that were matched."""
    numbers = [
        (MATCHED[0], None, found.wanted.parameters, found.found.parameters),
        (MATCHED[1], None, found.wanted.flops, found.found.flops),
        *((each.name, each.batch, each.target, each.found) for each in lines),
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
        for name, batch, target, matched in numbers
        if isinstance(target, int | float) and isinstance(matched, int | float)
    ]
