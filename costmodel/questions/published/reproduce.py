"""Published and hand-derived numbers beside ours: what the cost model must be able to reproduce.

`published` is copied from a paper or worked out by hand from its formulas, never from our output.
A number that we do not reproduce stays in the list, with the reason in `convention`.
"""

from costmodel.questions.published import counts, steps
from costmodel.questions.published.target import Target

__all__ = ["Target", "reproduced"]


def reproduced() -> tuple[Target, ...]:
    """Every target, in a fixed order."""
    return (
        *counts.ultramemv2(),
        *counts.memory_plus(),
        *counts.public_models(),
        *steps.decode_flops(),
        *steps.distinct_experts(),
        *steps.ultramem_table_1(),
        *steps.ultramem_figure_1c(),
        *steps.example_227m(),
    )
