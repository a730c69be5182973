"""All published and hand-derived numbers that the cost model is compared with.

The published number is copied from a paper or worked out by hand from its formulas, never taken
from our output. A number that we do not reproduce stays in the list, with the reason in its
`convention`.
"""

from costmodel.questions.published import counts, steps
from costmodel.questions.published.number import PublishedNumber


def reproduced() -> tuple[PublishedNumber, ...]:
    """Every published number, in a fixed order."""
    return (
        *counts.ultramemv2(),
        *counts.memory_plus(),
        *counts.ngram_tables(),
        *counts.public_models(),
        *counts.embedding_tables(),
        *steps.decode_flops(),
        *steps.distinct_experts(),
        *steps.ultramem_table_1(),
        *steps.ultramem_figure_1c(),
        *steps.example_227m(),
    )
