"""Gated residual streams: c vectors of D in place of one; sublayers read their mixture.

Letters: N tokens, D hidden, c streams, r rank of the gates. Before a sublayer each stream is
normed; gates of rank r, a sigmoid for each element, weigh them, and their mean is what the sublayer
reads. Its output joins each stream times a gain of that stream and token. These sites stand in
place of all norms; the last one, before the LM head, has no gains.
Source: Qwen3.8-Flash-Next, transformers 5.24 (`modeling_qwen4_exp`).
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from costmodel.layers.base import Width
from costmodel.layers.kernel_shape import Gemm
from costmodel.layers.letters import Letter, sum_of
from costmodel.layers.numbers import Number
from costmodel.layers.operator import Operator, Part, Step, Weight
from costmodel.layers.primitives import (
    MULTIPLY_ADD,
    RMS_NORM,
    SIGMOID,
    activation_flops,
    vector,
)
from costmodel.layers.residual_streams import Joining, ResidualStreams, Waiting
from costmodel.layers.site import Site
from costmodel.strict import STRICT

SOURCE = "transformers 5.24, modeling_qwen4_exp"
LOW_RANK = activation_flops("silu", gated=False) + 1  # and its input over c
GAIN = SIGMOID + 2  # of a stream: over c, the sigmoid, times 2
MIXED = SIGMOID + 2  # of an element: the sigmoid, times the normed one, added into the mean


@dataclass(frozen=True, kw_only=True, config=STRICT)
class GatedResidual(ResidualStreams):
    """A residual stream of c vectors of D, with gates of rank r before each sublayer."""

    source: ClassVar[str] = SOURCE
    replaces_norms: ClassVar[bool] = True
    kind: Literal["gated_residual"] = "gated_residual"
    hc_count: Annotated[int, Field(ge=2, le=16)] = 4  # c
    hc_lowrank: Width  # r

    @property
    def streams(self) -> int:
        """How many: c."""
        return self.hc_count

    def letters(self, operator: Operator, step: Step) -> tuple[Letter, ...]:
        """The letters c and r."""
        del operator, step
        return (
            Letter("c", self.hc_count, "streams"),
            Letter("r", self.hc_lowrank, "rank of their gates"),
        )

    @property
    def joining(self) -> Joining:
        """A gain of each stream."""
        return Joining(
            coefficients=self.hc_count, flops=MULTIPLY_ADD, formula="2 N c D", operations=2
        )

    def gather(
        self, leaf: str, site: Site, step: Step, *, waiting: Waiting, last: bool = False
    ) -> Operator:
        """One site: what waits joins the streams, and their gated mean is what comes next."""
        n = step.batch if last else step.tokens
        d, a, c, r = site.hidden_size, step.activation_bytes, self.hc_count, self.hc_lowrank
        wide, joins = n * c * d * a, waiting != "nothing"
        norm = vector("norm", "norm", c * d)
        down = Weight(name="down", group="residual", rows=r, cols=c * d)
        up = Weight(name="up", group="residual", rows=c * d, cols=r)
        parts = [
            *self.joined(site, step, n, waiting),
            Part(
                name="norm",
                kind="norm",
                flops=RMS_NORM * n * c * d,
                weight_bytes=norm.stored_bytes(step),
                input_bytes=0 if joins else wide,
                inner_input_bytes=wide if joins else 0,
                inner_output_bytes=wide,
            ),
            Part(
                name="down",
                kind="matmul",
                flops=2 * n * c * d * r,
                weight_bytes=down.stored_bytes(step),
                inner_input_bytes=wide,
                inner_output_bytes=n * r * a,
                shape=Gemm(m=n, n=r, k=c * d),
            ),
            Part(
                name="activation",
                kind="elementwise",
                flops=LOW_RANK * n * r,
                inner_input_bytes=n * r * a,
                inner_output_bytes=n * r * a,
                operations=2,
            ),
            Part(
                name="up",
                kind="matmul",
                flops=2 * n * r * c * d,
                weight_bytes=up.stored_bytes(step),
                inner_input_bytes=n * r * a,
                inner_output_bytes=wide,
                shape=Gemm(m=n, n=c * d, k=r),
            ),
            Part(
                name="mix",
                kind="elementwise",
                flops=MIXED * n * c * d + n * d,
                inner_input_bytes=2 * wide,
                output_bytes=n * d * a,
                operations=3,
            ),
        ]
        weights = [norm, down, up]
        gains = bool(site.layers)  # a sublayer follows
        if gains:
            of_streams = Weight(name="gains", group="residual", rows=c, cols=c * d)
            weights.append(of_streams)
            parts += self._gains(step, n, of_streams)
        rows = "B" if last else "N"
        return site.operator(
            leaf,
            kind="norm",
            parts=tuple(parts),
            weights=tuple(weights),
            summary="What waits joins the residual streams; their norm, and their gated mean",
            formula=sum_of(
                joins and self.joined_formula(waiting, rows),
                f"{RMS_NORM + MIXED} {rows} c D + {rows} D",
                f"4 {rows} c D r + {LOW_RANK} {rows} r",
                gains and f"2 {rows} c D c + {GAIN} {rows} c",
            ),
            source=SOURCE,
        )

    def _gains(self, step: Step, n: Number, weight: Weight) -> tuple[Part, Part]:
        """A gain of each stream for the sublayer's output: a product, and twice a sigmoid."""
        a, c = step.activation_bytes, self.hc_count
        return (
            Part(
                name="gains",
                kind="matmul",
                flops=2 * n * weight.cols * c,
                weight_bytes=weight.stored_bytes(step),
                inner_input_bytes=n * weight.cols * a,
                shape=Gemm(m=n, n=c, k=weight.cols),
            ),
            Part(
                name="sigmoid",
                kind="elementwise",
                flops=GAIN * n * c,
                output_bytes=n * c * a,
                operations=3,
            ),
        )
