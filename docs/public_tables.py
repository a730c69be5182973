"""The tables of docs/public_measurements.md: what others measured beside the roofline bound."""

from collections import Counter
from collections.abc import Callable
from functools import cache

from costmodel import units
from costmodel.questions.published.public_bounds import PublicBounds, public_bounds
from costmodel.questions.published.public_energy import energy_rows
from costmodel.questions.published.public_rows import public_rows
from costmodel.questions.published.public_shares import by_batch, by_model, rules
from costmodel.show.tables.public import (
    batch_table,
    coverage_table,
    model_table,
    predicted_table,
    skipped_table,
)
from costmodel.show.text import Table
from docs.markdown import markdown


def public_by_model() -> str:
    """Bound over measured by model, engine and GPUs."""
    return _rows(model_table(by_model(_found().bounds), _found()))


def public_by_batch() -> str:
    """The median share of an engine by batch."""
    return _rows(batch_table(by_batch(_found().bounds)))


def public_skipped() -> str:
    """Rows without a bound, by the reason."""
    return _rows(skipped_table(_found()))


def public_rules() -> str:
    """The rule of each engine, in words."""
    return "".join(f"- {rule}\n" for rule in rules(by_batch(_found().bounds)))


def public_predicted() -> str:
    """How many rows have a predicted time, and why others have none."""
    return _rows(predicted_table(_found()))


def public_coverage() -> str:
    """Rows with a bound by GPU, engine and model."""
    return _rows(coverage_table(public_rows(), _found()))


def public_sources() -> str:
    """Where rows are from, by repository, with its licence."""
    every = [*public_rows(), *(power.row for power in energy_rows())]
    rows = Counter(
        (row.source.address.partition("@")[0].partition(" ")[0], row.source.licence)
        for row in every
    )
    return markdown(
        ("source", "licence as stated", "rows"),
        [(source, licence, f"{number:,}") for (source, licence), number in rows.most_common()],
        text=2,
    )


def public_values() -> dict[str, str]:
    """Numbers that stand in sentences of the page, by name."""
    found = _found()
    return {
        "public_rows": f"{len(public_rows()):,}",
        "public_bounds": f"{len(found.bounds):,}",
        "public_several": f"{sum(bound.row.gpus > 1 for bound in found.bounds):,}",
        "public_mesh": f"{found.layouts['mesh']:,}",
        "public_any": f"{found.layouts['any layout']:,}",
        "public_exceeding": f"{sum(bound.share > 1 for bound in found.bounds)}",
        "public_energy": f"{len(energy_rows()):,}",
        "public_energy_bounds": f"{len(public_bounds(one.row for one in energy_rows()).bounds):,}",
        "public_most": units.formatted(max(bound.share for bound in found.bounds), "share"),
    }


@cache
def _found() -> PublicBounds:
    return public_bounds(public_rows())


def _rows(table: Table) -> str:
    """Its rows alone: the page says the rest."""
    return markdown(table.headers, table.rows, text=table.text_columns)


TABLES: dict[str, Callable[[], str]] = {
    make.__name__: make
    for make in (
        *(public_by_model, public_by_batch, public_rules, public_predicted, public_skipped),
        *(public_coverage, public_sources),
    )
}
