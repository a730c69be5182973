"""LAUREL: a low-rank residual beside attention.

Letters: N tokens, D hidden, r its rank. From attention's normalised input x:
l = x + norm(W_right W_left x); the stream becomes (stream + attention(x) + l) / sqrt(2).
Source: arXiv 2411.07501, and Gemma 3n as transformers 5.24 has it (`modeling_gemma3n`).
"""

from typing import Literal

from pydantic.dataclasses import dataclass

from costmodel.layers.base import StreamKind, Width
from costmodel.layers.letters import Letter
from costmodel.layers.operator import Operator, Part, Step
from costmodel.layers.primitives import RMS_NORM, linear, vector
from costmodel.layers.site import Site
from costmodel.strict import STRICT

SOURCE = "arXiv 2411.07501; transformers 5.24, modeling_gemma3n"
JOINED = 3  # two adds, and a factor


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Laurel(StreamKind):
    """A residual of rank r from attention's input to the FFN's."""

    kind: Literal["laurel"] = "laurel"
    laurel_rank: Width  # r

    def letters(self, operator: Operator, step: Step) -> tuple[Letter, ...]:
        """The rank r."""
        del operator, step
        return (Letter("r", self.laurel_rank, "rank of the low-rank residual"),)

    def operators(self, site: Site, step: Step) -> list[Operator]:
        """left, right, norm, join."""
        d, r = site.hidden_size, self.laurel_rank
        left, right = (
            linear(
                f"laurel.{leaf}",
                site,
                step,
                inputs=inputs,
                outputs=outputs,
                group="residual",
                summary=summary,
                formula="2 N D r",
                source=SOURCE,
            )
            for leaf, inputs, outputs, summary in (
                ("left", d, r, "Attention's input projected to the rank of the residual"),
                ("right", r, d, "Its projection back to the hidden size"),
            )
        )
        return [left, right, self._norm(site, step), self._join(site, step)]

    def _norm(self, site: Site, step: Step) -> Operator:
        """The norm of the projection, added to attention's input."""
        elements = step.tokens * site.hidden_size
        stream = elements * step.activation_bytes
        weight = vector("weight", "norm", site.hidden_size)
        return site.operator(
            "laurel.norm",
            kind="norm",
            parts=(
                Part(
                    name="norm",
                    kind="norm",
                    flops=RMS_NORM * elements,
                    weight_bytes=weight.stored_bytes(step),
                    input_bytes=stream,
                    inner_output_bytes=stream,
                ),
                Part(
                    name="residual_add",
                    kind="elementwise",
                    flops=elements,
                    input_bytes=stream,
                    inner_input_bytes=stream,
                    output_bytes=stream,
                ),
            ),
            weights=(weight,),
            summary="RMSNorm of the projection, added to attention's input",
            formula=f"{RMS_NORM} N D + N D",
            source=SOURCE,
        )

    def _join(self, site: Site, step: Step) -> Operator:
        """Stream, attention's output and the residual, added and divided by sqrt(2)."""
        elements = step.tokens * site.hidden_size
        stream = elements * step.activation_bytes
        return site.operator(
            "laurel.join",
            kind="elementwise",
            parts=(
                Part(
                    name="residual_add",
                    kind="elementwise",
                    flops=JOINED * elements,
                    input_bytes=3 * stream,
                    output_bytes=stream,
                    operations=JOINED,
                ),
            ),
            summary="The stream, attention's output and the low-rank residual, divided by sqrt(2)",
            formula=f"{JOINED} N D",
            source=SOURCE,
        )
