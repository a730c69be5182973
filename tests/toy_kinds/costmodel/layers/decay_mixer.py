"""A sequence mixer with a fixed state in place of a cache: h = a h + x, y = W (h c).

Letters: N tokens, D hidden. The state is one vector of D a sequence. Source: made up for a test.
"""

from typing import Literal

from pydantic.dataclasses import dataclass

from costmodel.layers.base import MixerKind
from costmodel.layers.operator import Operator, Part, Step
from costmodel.layers.primitives import linear, vector
from costmodel.layers.site import Site
from costmodel.strict import STRICT

SOURCE = "a test"


@dataclass(frozen=True, kw_only=True, config=STRICT)
class DecayMixer(MixerKind):
    """An exponential mean of what came before, and a projection."""

    kind: Literal["decay"] = "decay"
    output_bias: bool = False

    def state_bytes(self, hidden_size: int, step: Step) -> int:
        """One vector of D, as activations are stored."""
        return hidden_size * step.activation_bytes

    def operators(self, site: Site, step: Step) -> list[Operator]:
        """update, output."""
        n, a, d = step.tokens, step.activation_bytes, site.hidden_size
        decay = vector("decay", "attention", d)
        state = step.batch * d * a
        return [
            site.operator(
                "attention.update",
                kind="recurrence",
                parts=(
                    Part(
                        name="update",
                        kind="recurrence",
                        flops=2 * n * d,
                        weight_bytes=decay.stored_bytes(step),
                        state_read_bytes=state,
                        state_written_bytes=state,
                        input_bytes=n * d * a,
                        output_bytes=n * d * a,
                    ),
                ),
                weights=(decay,),
                formula="2 N D",
                source=SOURCE,
            ),
            linear(
                "attention.output",
                site,
                step,
                inputs=d,
                outputs=d,
                group="attention",
                bias=self.output_bias,
                formula="2 N D D + N D" if self.output_bias else "2 N D D",
                source=SOURCE,
            ),
        ]
