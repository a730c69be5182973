"""All claims with their figures and verdicts, computed once in a process."""

from functools import cache

from costmodel.questions.claims.claim import Answer
from costmodel.questions.claims.paper import paper
from costmodel.questions.claims.reviewers import reviewers


@cache
def answers() -> tuple[Answer, ...]:
    """Those of the paper, then those of its reviewers."""
    return (*paper(), *reviewers())
