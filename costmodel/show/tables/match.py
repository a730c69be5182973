"""A match as people read it: the sizes found, what was matched, what else differs then."""

from collections.abc import Callable, Sequence
from typing import Any

from costmodel import units
from costmodel.costs.kernel_times import Curves
from costmodel.costs.latency import Unknown
from costmodel.inputs.hardware import Hardware
from costmodel.inputs.workload import Workload
from costmodel.questions.match import Match
from costmodel.questions.matching.differences import Difference
from costmodel.show.match_json import MATCHED, match_records
from costmodel.show.tables.prediction import predicted_by
from costmodel.show.text import Table

NONE = "-"
# How each quantity is named and shown; a batch stands before the name.
SHOWN: dict[str, tuple[str, Callable[[Any], str]]] = {
    MATCHED[0]: ("total parameters, without embeddings", units.count),
    MATCHED[1]: ("FLOPs per token", units.count),
    "parameters.active_without_embeddings": ("active parameters, without embeddings", units.count),
    "memory.weights_bytes": ("weights stored", units.capacity),
    "kv_cache.bytes_per_token": ("KV cache per token", units.traffic),
    "memory.max_batch": ("largest batch that fits", units.count),
    "hbm_bytes.compulsory": ("HBM compulsory", units.traffic),
    "hbm_bytes.weights": ("  weights", units.traffic),
    "hbm_bytes.table_rows": ("  table rows", units.traffic),
    "hbm_bytes.kv": ("  KV read and written", units.traffic),
    "routing.flops": ("routing FLOPs", units.flops),
    "routing.hbm_bytes": ("routing bytes", units.traffic),
    "time.floor_s": ("floor time", units.seconds),
    "time.predicted_s": ("predicted time", units.seconds),
    "energy.predicted_j": ("predicted energy", lambda joules: units.scaled(joules, "J")),
}


def match_tables(
    found: Match, lines: Sequence[Difference], hardware: Hardware, calibration: Curves | Unknown
) -> list[Table]:
    """Sizes, then the two numbers that were matched, then everything beside them."""
    records = match_records(found, lines)
    others = [each for each in records[len(MATCHED) :] if each["target"] or each["matched"]]
    last = {each["batch"]: index for index, each in enumerate(others)}  # of each batch
    trunk = found.template if found.keep_backbone else found.target
    return [
        Table(
            title=found.model.name,
            headers=("size", "template", "matched", "in steps of"),
            rows=tuple(
                (name, f"{before:,}", f"{after:,}", f"{found.steps[name]:,}")
                for name, (before, after) in found.fields.items()
            ),
            notes=(
                f"Trunk (hidden size, layers, attention, vocabulary): {trunk.name}.",
                f"All else: {found.template.name}. Candidates weighed: {found.candidates:,}.",
            ),
        ),
        Table(
            title=f"Matched: one decode step, batch 1, context {found.context:,}",
            headers=("what", found.target.name, "matched", "difference", "%"),
            rows=tuple(_row(each) for each in records[: len(MATCHED)]),
        ),
        Table(
            title=f"What differs then: decode, context {found.context:,}, bf16, uniform routing,"
            f" on {hardware.name}",
            headers=("batch", "what", found.target.name, "matched", "ratio"),
            rows=tuple(map(_beside, others)),
            text_columns=2,
            sections=frozenset(last.values()),
            notes=(
                f"ratio: {found.model.name} over {found.target.name}.",
                f"Time and energy not predicted: {calibration.reason}."
                if isinstance(calibration, Unknown)
                else predicted_by(calibration, Workload()),
            ),
        ),
    ]


def _row(record: dict[str, Any]) -> tuple[str, ...]:
    """One of the two matched numbers, to the unit."""
    name, written = SHOWN[record["quantity"]]
    return (
        name,
        written(record["target"]),
        written(record["matched"]),
        f"{record['difference']:+,}",
        f"{record['difference_percent']:+.3f} %",
    )


def _beside(record: dict[str, Any]) -> tuple[str, ...]:
    """Any other number, rounded, and its ratio."""
    name, written = SHOWN[record["quantity"]]
    batch, target, matched = record["batch"], record["target"], record["matched"]
    ratio = matched / target if target else None
    return (
        "any" if batch is None else f"{batch:,}",
        name,
        written(target) if target else NONE,
        written(matched) if matched else NONE,
        NONE if ratio is None else units.ratio(ratio),
    )
