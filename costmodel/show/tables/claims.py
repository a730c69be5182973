"""Claims as people read them: the verdicts, and the figures behind each."""

from collections.abc import Iterable, Sequence

from costmodel import units
from costmodel.costs.quantities.quantity import DIGITS
from costmodel.questions.claims.claim import Answer, Figure
from costmodel.show.text import Table

NOTES = (
    "Verdicts follow from the figures; quality is the paper's, and is judged nowhere here.",
    "A ratio is the first over the second side: above 1, the second needs less.",
)


def claims_tables(answers: Sequence[Answer]) -> list[Table]:
    """The verdicts, then the figures of each claim."""
    return [verdict_table(answers), *map(figure_table, answers)]


def verdict_table(answers: Iterable[Answer]) -> Table:
    """Each claim with its verdict."""
    return Table(
        title="Claims of UltraMemV2 and points of its reviewers",
        headers=("id", "who", "verdict", "claim"),
        rows=tuple(
            (
                answer.claim.id,
                answer.claim.who,
                answer.verdict.word,
                answer.claim.claim,
            )
            for answer in answers
        ),
        text_columns=4,
        notes=NOTES,
    )


def figure_table(answer: Answer) -> Table:
    """The figures of one claim, computed ones first."""
    return Table(
        title=f"{answer.claim.id}: {answer.verdict.word}",
        headers=("figure", "of", "way", "source", "first", "second", "ratio"),
        rows=tuple(map(figure_cells, answer.figures)),
        text_columns=4,
        notes=(
            f"Claim: {answer.claim.claim} ({answer.claim.stands})",
            f"Judged: {answer.claim.judged}",
            answer.verdict.because,
        ),
    )


def figure_cells(figure: Figure) -> tuple[str, ...]:
    """One figure: what, sides, computed or measured, source, values and ratio."""
    first, second = (*(_shown(value, figure) for value in figure.values), "")[:2]
    return (
        figure.what,
        " / ".join(figure.sides),
        figure.way,
        figure.source if figure.reason is None else f"{figure.source}; {figure.reason}",
        first,
        second,
        "" if figure.ratio is None else units.ratio(figure.ratio),
    )


def _shown(value: float | None, figure: Figure) -> str:
    if value is not None and figure.digits != DIGITS:
        value = units.rounded(value, figure.digits)
    return units.formatted(value, figure.unit)
