"""Public measurements beside their bounds, as JSON and as flat rows for CSV."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

import costmodel
from costmodel.questions.published.public_bounds import PublicBounds, RowBound
from costmodel.questions.published.public_rows import PublicRow
from costmodel.questions.published.public_shares import (
    BatchShares,
    ModelShares,
    by_batch,
    by_model,
)

SCHEMA_VERSION = 1


def public_json(rows: Iterable[PublicRow], found: PublicBounds) -> dict[str, Any]:
    """Shares by model and by batch, every row, where rows are from, and why some were skipped."""
    rows = tuple(rows)
    return {
        "schema_version": SCHEMA_VERSION,
        "sparsecost_version": costmodel.__version__,
        "by_model": [_flat(line) for line in by_model(found.bounds)],
        "by_batch": [_flat(line) for line in by_batch(found.bounds)],
        "skipped": found.reasons,
        "layouts": found.layouts,
        "sources": {row.source.key: asdict(row.source) for row in rows},
        "rows": [record for record, _ in _records(rows, found)],
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
    }


def _flat(line: ModelShares | BatchShares) -> dict[str, Any]:
    """A line with its spread beside its other fields."""
    fields = asdict(line)
    spread: dict[str, Any] = fields.pop("shares")
    return fields | spread
