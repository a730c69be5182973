"""The tables of docs/claims.md: verdicts on claims, and the figures behind each."""

from collections import Counter
from collections.abc import Callable

from costmodel.questions.claims.answers import answers
from costmodel.show.tables.claims import figure_cells
from docs.markdown import markdown


def claims_verdicts() -> str:
    """Each claim, what is judged of it, and the verdict."""
    rows = [
        (
            f"{answer.claim.id}, {answer.claim.who}",
            f"{answer.claim.claim} ({answer.claim.stands})",
            answer.claim.judged,
            f"**{answer.verdict.word}**. {answer.verdict.because}",
        )
        for answer in answers()
    ]
    return markdown(("claim", "what is said", "judged here", "verdict"), rows, text=4)


def claims_figures() -> str:
    """All figures, claim by claim."""
    head = ("claim", "figure", "of", "computed or measured", "first", "second", "ratio")
    rows = []
    for answer in answers():
        for figure in answer.figures:
            what, sides, way, _, *values = figure_cells(figure)
            rows.append((answer.claim.id, what, sides, way, *values))
    return markdown(head, rows, text=4)


def claims_values() -> dict[str, str]:
    """Numbers that stand in sentences of the page, by name."""
    words = Counter(answer.verdict.word for answer in answers())
    return {
        "claims_all": f"{words.total()}",
        "claims_holding": f"{words['holds']}",
        "claims_limited": f"{words['holds within limits']}",
        "claims_broken": f"{words['does not hold']}",
        "claims_open": f"{words['cannot be judged here']}",
    }


TABLES: dict[str, Callable[[], str]] = {
    make.__name__: make for make in (claims_verdicts, claims_figures)
}
