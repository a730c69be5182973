"""Which way uniform routing errs stands below every table of a model that chooses by it."""

import pytest

from costmodel.routing.popularity import UNIFORM_OVERSTATES
from tests.commands import output

MOE, MEMORY, DENSE = "olmoe-1b-7b", "ultramemv2-1b-7b", "llama-3.1-8b"


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (f"predict {MOE}", True),
        (f"predict {MEMORY}", True),
        (f"predict {DENSE}", False),
        (f"predict {MOE} --routing zipf:1.0", False),
        (f"predict {MOE} --routing experts=zipf:1.0,rows=uniform", False),
        (f"predict {MEMORY} --routing experts=zipf:1.0,rows=uniform", True),
        (f"compare {DENSE} {MOE} --batch 1", True),
        (f"compare {DENSE} {DENSE} --batch 1", False),
        (f"request {MEMORY} --prompt 3 --output 2", True),
        (f"request {DENSE} --prompt 3 --output 2", False),
        (f"sweep {MOE} --batch 1 --routing zipf:1,uniform", True),
        (f"sweep {MOE} --batch 1 --routing zipf:1", False),
        (f"sweep {DENSE} --batch 1", False),
    ],
)
def test_the_sentence_stands_where_it_matters(command: str, *, said: bool) -> None:
    text = " ".join(output(*command.split()).split())
    assert text.count(UNIFORM_OVERSTATES) == said
