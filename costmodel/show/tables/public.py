"""Public measurements beside their bounds, as people read them: shares by model and by batch."""

from collections import Counter
from collections.abc import Sequence

from costmodel import units
from costmodel.questions.published.public_bounds import Experts, PublicBounds
from costmodel.questions.published.public_rows import PublicRow
from costmodel.questions.published.public_shares import (
    BATCHES,
    BatchShares,
    ModelShares,
    by_batch,
    by_model,
    coverage,
    rules,
)
from costmodel.show.text import Table

EXPERTS: dict[Experts, str] = {"none": "-", "uniform": "uniform", "the same": "the same"}
MEANING = (
    "bound / measured: the share of the roofline that was reached, at the least. Measured by"
    " others; their places and licences stand in --json and --csv."
)
UNDERSTATED = (
    "timed over a request: prefill is in the measured time. experts the same: what fills the batch"
    " is not stated, and more experts are read in truth. Both state too low a share."
)
CAUTION = (
    "What these servers reached with these models, no prediction of yours: prompts of other"
    " requests are mixed in, and models and GPUs differ from range to range."
)


def public_tables(rows: Sequence[PublicRow], found: PublicBounds) -> list[Table]:
    """Shares by model, engine and GPUs; by engine and batch; rows without bound or prediction."""
    return [
        model_table(by_model(found.bounds), found),
        batch_table(by_batch(found.bounds)),
        skipped_table(found),
        coverage_table(rows, found),
        predicted_table(found),
    ]


def model_table(lines: Sequence[ModelShares], found: PublicBounds) -> Table:
    """Bound over measured by model, engine and GPUs."""
    layouts = ", ".join(f"{layout} {rows:,}" for layout, rows in found.layouts.items())
    return Table(
        title="Bound over measured of public measurements, by model, engine and GPUs",
        headers=(
            *("model", "engine", "GPUs", "timed over a", "experts"),
            *("rows", "least", "median", "most"),
        ),
        rows=tuple(
            (
                line.model,
                line.engine,
                f"{line.gpus} x {line.gpu}",
                line.timed,
                EXPERTS[line.experts],
                units.count(line.shares.rows),
                *(
                    units.formatted(share, "share")
                    for share in (line.shares.least, line.shares.median, line.shares.most)
                ),
            )
            for line in lines
        ),
        text_columns=5,
        notes=(MEANING, UNDERSTATED, f"Rows by the layout of their bound: {layouts}."),
    )


def batch_table(lines: Sequence[BatchShares]) -> Table:
    """The median share of each engine by batch, and of how many rows."""
    cells = {(line.engine, line.several_gpus, line.first): line.shares for line in lines}
    engines = dict.fromkeys((line.engine, line.several_gpus) for line in lines)
    return Table(
        title="My engine on my GPU: median share by engine and sequences that decode (rows)",
        headers=("engine", "GPUs", *(range_label(first, last) for first, last in BATCHES)),
        rows=tuple(
            (
                engine,
                "several" if several else "one",
                *(
                    f"{units.formatted(shares.median, 'share')} ({shares.rows})"
                    if (shares := cells.get((engine, several, first)))
                    else "-"
                    for first, _ in BATCHES
                ),
            )
            for engine, several in engines
        ),
        text_columns=2,
        notes=(
            "A step takes about its bound (sparsecost predict) over this share. " + CAUTION,
            "Of rows that were timed over a step, and whose experts are taken as uniform.",
            *rules(lines),
        ),
    )


def skipped_table(found: PublicBounds) -> Table:
    """Rows without a bound, by the reason."""
    return Table(
        title=f"Rows without a bound: {len(found.skipped):,} of"
        f" {len(found.skipped) + len(found.bounds):,}",
        headers=("reason", "rows"),
        rows=tuple((reason, units.count(rows)) for reason, rows in found.reasons.items()),
    )


def coverage_table(rows: Sequence[PublicRow], found: PublicBounds) -> Table:
    """Rows with and without a bound by GPU, engine and model."""
    return Table(
        title="Rows with a bound by GPU, engine and model",
        headers=("by", "name", "without one, by reason", "rows", "with a bound"),
        rows=tuple(
            (
                line.of,
                line.name,
                "; ".join(f"{reason}: {number:,}" for reason, number in line.skipped.items())
                or "-",
                units.count(line.rows),
                units.count(line.bounded),
            )
            for line in coverage(rows, found)
        ),
        text_columns=3,
    )


def predicted_table(found: PublicBounds) -> Table:
    """How many rows with a bound have a predicted time too, and why others have none."""
    reasons = Counter(bound.reason or "predicted" for bound in found.bounds)
    return Table(
        title="Predicted times beside the bounds",
        headers=("predicted, or why not", "rows"),
        rows=tuple((reason, units.count(rows)) for reason, rows in reasons.most_common()),
    )


def range_label(first: int, last: int | None) -> str:
    """`1`, `2-7`, `128+`."""
    if last is None:
        return f"{first}+"
    return f"{first}" if first == last else f"{first}-{last}"
