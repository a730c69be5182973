"""Two tiny models whose costs are worked out by hand, and the rows of a joined recording.

Both: D = 8, V = 11, 3 layers, 2 heads over 1 KV head of 4, bf16, and one sequence with 3 tokens
cached unless told otherwise. `DENSE` has an FFN of 12; `MOE` 8 experts of 16 x 8 and 8 x 8 weights
(384 bytes each), of which a token chooses 2.
"""

from costmodel.layers.moe import MoeFfn
from costmodel.recordings.recording import Recording
from costmodel.validation.join import join
from costmodel.validation.joined import Row
from costmodel.validation.machines import Gpus
from tests.steps import tiny_model

DENSE = tiny_model()
MOE = tiny_model(ffn=MoeFfn(num_experts=8, num_experts_per_tok=2, moe_intermediate_size=8))
ROUTERS = [f"layers.{layer}.moe.router" for layer in range(3)]
BOUNDS_ONLY = Gpus("none")  # without a calibration


def rows_of(
    recording: Recording, gpus: Gpus = BOUNDS_ONLY
) -> dict[tuple[str, str, str | None], Row]:
    """The rows of a recording of one case, by run, quantity and path."""
    (joined,) = join(recording, gpus)
    rows: dict[tuple[str, str, str | None], Row] = {
        (row.run, row.quantity, row.path): row for row in joined.rows
    }
    assert len(rows) == len(joined.rows), "a row stands twice"
    return rows


def numbers(row: Row) -> tuple[object, object, str]:
    """What is predicted, what is measured, and what the predicted number is."""
    return row.predicted, row.measured, row.basis
