"""Errors of steps by batch, context and model; who is faster, a memory layer or an MoE."""

from collections.abc import Sequence

from costmodel.recordings.error_measures import LOG_ERROR, MAPE
from costmodel.recordings.quantities import QUANTITIES
from costmodel.show.tables.validation_cells import NONE, of_backend, percent, ratio
from costmodel.show.text import Table
from costmodel.validation.breakdowns import Breakdown
from costmodel.validation.pairs import (
    CLEAR,
    CrossoverSeries,
    Interval,
    PairPoint,
    crossovers,
    winner_scores,
)

QUOTED = "graph_s"  # the quantity that is shown unless all are wanted
WORDS = {"new_tokens": "new tokens"}
PAIRS_NOTES = (
    "n: equal workloads of a memory model and an MoE of about as many parameters, by one backend.",
    f"Clear: the measured gap is above {100 * (CLEAR - 1):.0f} %.",
)
CROSSOVERS_NOTES = (
    "The faster model changes between two batches that were measured. Predicted: at these batches.",
    "met: measured crossovers that are predicted. false: predicted ones that were not measured.",
)


def breakdown_tables(breakdowns: Sequence[Breakdown], *, whole: bool) -> list[Table]:
    """One table for each backend and quantity, of steps' time as a graph unless all are wanted."""
    tables = []
    keys = dict.fromkeys((one.backend, one.quantity) for one in breakdowns)
    for backend, quantity in keys:
        if quantity != QUOTED and not whole:
            continue
        some = [one for one in breakdowns if (one.backend, one.quantity) == (backend, quantity)]
        groups = [(one.phase, one.by) for one in some]
        title = QUANTITIES[quantity].title
        tables.append(
            Table(
                title=f"Error of {title} by batch, context and model{of_backend(backend)}",
                headers=(
                    *("by", "of", "phase", "n", "median\nratio"),
                    *("least\nratio", "most\nratio", MAPE, LOG_ERROR.replace(" ", "\n")),
                ),
                rows=tuple(
                    (
                        WORDS.get(one.by, one.by),
                        one.value if isinstance(one.value, str) else f"{one.value:,}",
                        one.phase,
                        f"{one.errors.count:,}",
                        *map(ratio, (one.errors.median, one.errors.least, one.errors.most)),
                        percent(one.errors.mape),
                        percent(one.errors.log_error),
                    )
                    for one in some
                ),
                text_columns=3,
                sections=frozenset(
                    index for index, group in enumerate(groups[:-1]) if group != groups[index + 1]
                ),
                notes=()
                if whole
                else ("Kernel time and energy by the same: --all; --json holds them.",),
            )
        )
    return tables


def pair_tables(points: Sequence[PairPoint], *, whole: bool) -> list[Table]:
    """How often the winner is the predicted one, and where measured winners change."""
    scores = list(winner_scores(points))
    tables = []
    if scores:
        tables.append(
            Table(
                title="Memory layer against MoE: is the predicted winner the measured one?",
                headers=(
                    *("quantity", "phase", "backend", "n", "right", "clear\ngaps", "right"),
                    "MAPE of\nthe ratio",
                ),
                rows=tuple(
                    (
                        *(QUANTITIES[score.quantity].title, score.phase, score.backend),
                        *(f"{score.points:,}", _of(score.right, score.points)),
                        *(f"{score.clear:,}", _of(score.clear_right, score.clear)),
                        percent(score.ratio_mape),
                    )
                    for score in scores
                ),
                text_columns=3,
                notes=PAIRS_NOTES,
            )
        )
    series = list(crossovers(points))
    shown = [one for one in series if whole or one.measured or one.predicted]
    if shown:
        left_out = len(series) - len(shown)
        tables.append(
            Table(
                title="Batches between which the faster model of a pair changes, decode",
                headers=(
                    "pair",
                    "backend",
                    "context",
                    "routing",
                    "measured",
                    "predicted",
                    "met",
                    "false",
                ),
                rows=tuple(
                    (
                        f"{one.moe} / {one.memory}",
                        one.backend,
                        f"{one.context:,}",
                        one.routing,
                        _intervals(one.measured),
                        "not predicted" if one.predicted is None else _intervals(one.predicted),
                        *_scores(one),
                    )
                    for one in shown
                ),
                text_columns=6,
                notes=(
                    *CROSSOVERS_NOTES,
                    *([f"Neither measured nor predicted: {left_out:,} series."] * bool(left_out)),
                ),
            )
        )
    return tables


def _of(part: int, whole: int) -> str:
    return percent(part / whole) if whole else NONE


def _intervals(intervals: Sequence[Interval]) -> str:
    return ", ".join(f"{low:,}-{high:,}" for low, high in intervals) or "none"


def _scores(series: CrossoverSeries) -> tuple[str, str]:
    """Measured crossovers that are predicted, of how many, and predicted ones not measured."""
    if series.predicted is None:
        return NONE, NONE
    return f"{series.met} of {len(series.measured)}", f"{series.invented}"
