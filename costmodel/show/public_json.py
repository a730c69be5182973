"""Public measurements beside bound and prediction, as JSON and as flat rows for CSV."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

import costmodel
from costmodel.questions.published.public_bounds import PublicBounds, RowBound, public_bounds
from costmodel.questions.published.public_energy import EnergyRow, energy_rows
from costmodel.questions.published.public_rows import PublicRow
from costmodel.questions.published.public_shares import (
    BatchShares,
    ModelShares,
    by_batch,
    by_model,
    coverage,
    rules,
)

SCHEMA_VERSION = 1


def public_json(rows: Iterable[PublicRow], found: PublicBounds) -> dict[str, Any]:
    """Shares by model and by batch, every row, where rows are from, and why some were skipped."""
    rows, lines = tuple(rows), by_batch(found.bounds)
    powers = energy_rows()
    of_energy = public_bounds(power.row for power in powers)
    sources = [*(row.source for row in rows), *(power.row.source for power in powers)]
    return {
        "schema_version": SCHEMA_VERSION,
        "sparsecost_version": costmodel.__version__,
        "by_model": [_flat(line) for line in by_model(found.bounds)],
        "by_batch": [_flat(line) for line in lines],
        "rules": rules(lines),
        "skipped": found.reasons,
        "coverage": [asdict(line) for line in coverage(rows, found)],
        "layouts": found.layouts,
        "sources": {source.key: asdict(source) for source in sources},
        "rows": [record for record, _ in _records(rows, found)],
        "energy": list(_energy_records(powers, of_energy)),
        "energy_skipped": of_energy.reasons,
    }


def _energy_records(powers: Iterable[EnergyRow], found: PublicBounds) -> Iterator[dict[str, Any]]:
    """Measured power and energy with the row's bound, and the energy a token predicted of it."""
    bounds = {bound.row.id: bound for bound in found.bounds}
    records = _records((power.row for power in powers), found)
    for power, (record, row) in zip(powers, records, strict=True):
        bound = bounds.get(row.id)
        step_j = bound and bound.predicted_j
        yield record | {
            "task": power.task,
            "tokens_per_s": power.tokens_per_s,
            "power_w": power.power_w,
            "j_per_token": power.j_per_token,
            "predicted_j_per_token": bound and step_j and step_j / bound.point.batch,
        }


def public_records(rows: Iterable[PublicRow], found: PublicBounds) -> Iterator[dict[str, Any]]:
    """Every row flat, its source in: the bound and what it was computed for, or why it has none."""
    for record, row in _records(rows, found):
        yield record | {
            "address": row.source.address,
            "origin": row.source.origin,
            "context_rule": row.source.context_rule,
            "licence": row.source.licence,
        }


def _records(
    rows: Iterable[PublicRow], found: PublicBounds
) -> Iterator[tuple[dict[str, Any], PublicRow]]:
    bounds = {bound.row.id: bound for bound in found.bounds}
    for row in rows:
        stated = asdict(row) | {"source": row.source.key}
        costed = _costed(bounds.get(row.id))
        yield stated | costed | {"skipped": found.skipped.get(row.id)}, row


def _costed(bound: RowBound | None) -> dict[str, Any]:
    """What a bound was computed for, and the bound; all None of a row that has none."""
    point = None if bound is None else bound.point
    setting = None if point is None else point.setting
    return {
        "costed_gpu": setting and setting.gpu,
        "costed_dtype": setting and setting.dtype,
        "costed_kv_dtype": setting and setting.kv_dtype,
        "costed_batch": point and point.batch,
        "costed_context": point and point.context,
        "costed_experts": setting and setting.experts,
        "costed_layout": setting and setting.layout,
        "bound_s": bound and bound.bound_s,
        "share": bound and bound.share,
        "predicted_s": bound and bound.predicted_s,
        "not_predicted": bound and bound.reason,
    }


def _flat(line: ModelShares | BatchShares) -> dict[str, Any]:
    """A line with its spread beside its other fields."""
    fields = asdict(line)
    spread: dict[str, Any] = fields.pop("shares")
    return fields | spread
