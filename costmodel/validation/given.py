"""A measured quantity of any sort, of a step or of its leaves, as columns of one shape."""

from collections.abc import Sequence
from dataclasses import dataclass

from costmodel.recordings.measured import (
    Column,
    Exact,
    ExactColumn,
    Measured,
    Missing,
    Spread,
    SpreadColumn,
)

NOT_GIVEN = "not measured (the run gives none here)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """A quantity as a run gives it: of the step one number, of leaves one for each.

    All are empty where nothing was measured (`reason` says why); quartiles also of exact counts.
    """

    median: Sequence[float | None] = ()
    q1: Sequence[float | None] = ()
    q3: Sequence[float | None] = ()
    repeats: int | None = None
    source: str | None = None
    reason: str = NOT_GIVEN


def given(measured: Measured | Column | None) -> Given:
    """The quantity as columns; None is a quantity that the run does not name."""
    match measured:
        case Missing():
            return Given(reason=measured.reason)
        case Exact():
            return Given(median=(measured.value,), source=measured.source)
        case ExactColumn():
            return Given(median=measured.values, source=measured.source)
        case Spread():
            return Given(
                median=(measured.median,),
                q1=(measured.q1,),
                q3=(measured.q3,),
                repeats=measured.repeats,
                source=measured.source,
            )
        case SpreadColumn():
            return Given(
                median=measured.median,
                q1=measured.q1,
                q3=measured.q3,
                repeats=measured.repeats,
                source=measured.source,
            )
    return Given()
