"""Claims with figures and verdicts, as JSON and as flat rows for CSV."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

import costmodel
from costmodel.questions.claims.claim import Answer

SCHEMA_VERSION = 1


def claims_json(answers: Iterable[Answer]) -> dict[str, Any]:
    """Every claim: its words, the page that shows it, its figures, its verdict."""
    return {
        "schema_version": SCHEMA_VERSION,
        "sparsecost_version": costmodel.__version__,
        "claims": [
            {
                **_words(answer),
                "address": answer.claim.view.address,
                "figures": [{**asdict(figure), "ratio": figure.ratio} for figure in answer.figures],
            }
            for answer in answers
        ],
    }


def claims_records(answers: Iterable[Answer]) -> Iterator[dict[str, Any]]:
    """A row for each figure, with the claim and the verdict that it is of."""
    for answer in answers:
        for figure in answer.figures:
            sides = (*figure.sides, None)[:2]
            values = (*figure.values, None)[:2]
            yield _words(answer) | {
                "figure": figure.what,
                "unit": figure.unit,
                "way": figure.way,
                "first": sides[0],
                "first_value": values[0],
                "second": sides[1],
                "second_value": values[1],
                "ratio": figure.ratio,
                "source": figure.source,
                "reason": figure.reason,
            }


def _words(answer: Answer) -> dict[str, str]:
    claim = answer.claim
    return {
        **{name: getattr(claim, name) for name in ("id", "who", "claim", "stands", "judged")},
        "verdict": answer.verdict.word,
        "because": answer.verdict.because,
    }
