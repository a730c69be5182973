"""AltUp: a residual stream of A vectors of which a block computes one and updates all.

Letters: N tokens, D hidden, A streams. At the input each token's vector becomes A. At the head of a
block a linear mixture predicts all A; the block transforms the first; at its end all are corrected
by what it changed. The coefficients follow from a router: tanh of a projection to A values, run on
the block's input and again on its output. At the end of the model the streams become one.
Source: arXiv 2301.13310, and Gemma 3n as transformers 5.24 has it (`modeling_gemma3n`).
"""

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from costmodel.layers.base import StreamKind
from costmodel.layers.kernel_shape import Gemm
from costmodel.layers.letters import Letter, sum_of
from costmodel.layers.operator import Operator, Part, Step, Weight
from costmodel.layers.primitives import MULTIPLY_ADD, RMS_NORM, vector
from costmodel.layers.site import Site
from costmodel.strict import STRICT

SOURCE = "arXiv 2301.13310; transformers 5.24, modeling_gemma3n"
SQUARES = 2  # of a magnitude: square, add into the mean


@dataclass(frozen=True, kw_only=True, config=STRICT)
class AltUp(StreamKind):
    """A residual stream of A vectors of D, in place of one.

    Leaves out: the clamp of the coefficients, and the factor 1/D of the router's input.
    """

    kind: Literal["altup"] = "altup"
    altup_num_inputs: Annotated[int, Field(ge=2, le=64)] = 4  # A

    @property
    def streams(self) -> int:
        """A."""
        return self.altup_num_inputs

    def letters(self, operator: Operator, step: Step) -> tuple[Letter, ...]:
        """A."""
        del operator, step
        return (Letter("A", self.altup_num_inputs, "streams"),)

    def operators(self, site: Site, step: Step) -> list[Operator]:
        """At the input expand, in each block predict, at the end merge; see `correct`."""
        front = Site.of((), site.hidden_size, self)
        return [self._expand(front, step), self._predict(site, step), self._merge(front, step)]

    def _projections(self, front: Site, step: Step, leaf: str) -> tuple[Weight, Part, Part]:
        """A - 1 matrices D x D, their products, and their results at the first one's magnitude."""
        d, n, a = front.hidden_size, step.tokens, self.altup_num_inputs
        weight = Weight(
            name="weight",
            group="residual",
            rows=(a - 1) * d,
            cols=d,
            leaf=leaf,
            matrix_rows=(d,) * (a - 1),
        )
        stream = n * d * step.activation_bytes
        products = Part(
            name="gemm",
            kind="matmul",
            flops=2 * n * d * d * (a - 1),
            weight_bytes=weight.stored_bytes(step),
            input_bytes=stream,
            inner_output_bytes=(a - 1) * stream,
            shape=Gemm(m=n, n=(a - 1) * d, k=d),
        )
        magnitudes = Part(
            name="magnitudes",
            kind="elementwise",
            flops=SQUARES * n * d * a + n * d * (a - 1),
            inner_input_bytes=a * stream,
            operations=2,
        )
        return weight, products, magnitudes

    def _expand(self, front: Site, step: Step) -> Operator:
        """One vector to A: itself and A - 1 projections of its magnitude."""
        weight, products, magnitudes = self._projections(front, step, "altup.expand")
        stream = step.tokens * front.hidden_size * step.activation_bytes
        written = Part(
            name="stack",
            kind="elementwise",
            input_bytes=0,
            output_bytes=self.altup_num_inputs * stream,
        )
        return front.operator(
            "altup.expand",
            kind="matmul",
            parts=(products, magnitudes, written),
            weights=(weight,),
            summary="The embedded token and its projections of equal magnitude: A streams",
            formula=f"2 N D D (A - 1) + {SQUARES} N D A + N D (A - 1)",
            source=SOURCE,
        )

    def _merge(self, front: Site, step: Step) -> Operator:
        """A vectors to one: the mean of the first and A - 1 projections of its magnitude."""
        a = self.altup_num_inputs
        weight, products, magnitudes = self._projections(front, step, "altup.merge")
        elements = step.tokens * front.hidden_size
        stream = elements * step.activation_bytes
        mean = Part(
            name="mean",
            kind="elementwise",
            flops=a * elements,  # A - 1 adds, and a factor
            input_bytes=(a - 1) * stream,  # the products read the first
            inner_input_bytes=a * stream,
            output_bytes=stream,
        )
        return front.operator(
            "altup.merge",
            kind="matmul",
            parts=(products, magnitudes, mean),
            weights=(weight,),
            summary="The mean of the streams, each projected to the magnitude of the first",
            formula=f"2 N D D (A - 1) + {SQUARES} N D A + N D (A - 1) + N D A",
            source=SOURCE,
        )

    def _router(self, site: Site, step: Step, *, first: bool) -> tuple[Part, ...]:
        """Norm, projection to A values, tanh; its first run in a block reads its weights, once."""
        d, n, a = site.hidden_size, step.tokens, self.altup_num_inputs
        norm, router = self._router_weights(site)
        stream = n * d * step.activation_bytes
        return (
            Part(
                name="router_norm",
                kind="norm",
                flops=RMS_NORM * n * d,
                weight_bytes=norm.stored_bytes(step) if first else 0,
                inner_input_bytes=stream,
                inner_output_bytes=stream,
            ),
            Part(
                name="router",
                kind="matmul",
                flops=2 * n * d * a,
                weight_bytes=router.stored_bytes(step) if first else 0,
                inner_input_bytes=stream,
                shape=Gemm(m=n, n=a, k=d),
            ),
            Part(name="tanh", kind="elementwise", flops=n * a),
        )

    def _router_weights(self, site: Site) -> tuple[Weight, Weight]:
        """Those of the router, which a block holds once."""
        d = site.hidden_size
        return vector("norm", "norm", d), Weight(
            name="router",
            group="residual",
            rows=self.altup_num_inputs,
            cols=d,
            leaf="altup.predict",
        )

    def _predict(self, site: Site, step: Step) -> Operator:
        """All streams from a mixture of all: A^2 coefficients a token, and the streams added."""
        d, n, a = site.hidden_size, step.tokens, self.altup_num_inputs
        streams = a * n * d * step.activation_bytes
        coefficients = vector("coefficients", "residual", a**3)
        return site.operator(
            "altup.predict",
            kind="matmul",
            parts=(
                *self._router(site, step, first=True),
                Part(
                    name="coefficients",
                    kind="matmul",
                    flops=2 * n * a**3,
                    weight_bytes=coefficients.stored_bytes(step),
                    shape=Gemm(m=n, n=a * a, k=a),
                ),
                Part(
                    name="mix",
                    kind="matmul",
                    flops=MULTIPLY_ADD * n * d * a**2,
                    input_bytes=streams,
                    inner_output_bytes=streams,
                ),
                Part(
                    name="add",
                    kind="elementwise",
                    flops=n * d * a,
                    inner_input_bytes=2 * streams,
                    output_bytes=streams,
                ),
            ),
            weights=(*self._router_weights(site), coefficients),
            summary="All streams predicted from a mixture of all, for the block to transform one",
            formula=f"{RMS_NORM} N D + 2 N D A + N A + 2 N A^3 + {MULTIPLY_ADD} N D A^2 + N D A",
            source=SOURCE,
        )

    def correct(self, site: Site, step: Step, adds: int, *, spreads: bool) -> Operator:
        """All streams corrected by what the block changed in the first; `adds` wait for it.

        With `spreads` a memory layer behind the block reads the first, which is scaled for it.
        Its router is that of `altup.predict`, which holds the weights (D + A D) and reads them.
        """
        d, n, a = site.hidden_size, step.tokens, self.altup_num_inputs
        stream = n * d * step.activation_bytes
        coefficients, scale = (
            vector("coefficients", "residual", a**2),
            vector("scale", "residual", d),
        )
        scaled = Part(
            name="scale",
            kind="elementwise",
            flops=n * d,
            weight_bytes=scale.stored_bytes(step),
            inner_input_bytes=stream,
            output_bytes=stream,
        )
        joined = Part(
            name="residual_add",
            kind="elementwise",
            flops=adds * n * d,
            input_bytes=(1 + adds) * stream,
            inner_output_bytes=stream,
            operations=adds,
        )
        return site.operator(
            "altup.correct",
            kind="elementwise",
            parts=(
                joined,
                *self._router(site, step, first=False),
                Part(
                    name="coefficients",
                    kind="matmul",
                    flops=2 * n * a**2,
                    weight_bytes=coefficients.stored_bytes(step),
                    shape=Gemm(m=n, n=a, k=a),
                ),
                Part(
                    name="correct",
                    kind="elementwise",
                    flops=n * a + n * d + MULTIPLY_ADD * n * d * a,  # 1 + c; what changed; A times
                    input_bytes=a * stream,
                    inner_input_bytes=stream,
                    output_bytes=a * stream,
                    operations=4,
                ),
                *((scaled,) if spreads else ()),
            ),
            weights=(coefficients, scale) if spreads else (coefficients,),
            summary="All streams corrected by what the block changed in the first of them",
            formula=sum_of(
                adds > 0 and f"{adds} N D",
                f"{RMS_NORM} N D + 2 N D A + N A + 2 N A^2 + N A + N D",
                f"{MULTIPLY_ADD} N D A",
                spreads and "N D",
            ),
            source=SOURCE,
        )

    def spread(self, site: Site, step: Step) -> Operator:
        """What a memory layer at the end of a block gives, added to all streams but the first."""
        elements = step.tokens * site.hidden_size
        stream, others = elements * step.activation_bytes, self.altup_num_inputs - 1
        return site.operator(
            "altup.spread",
            kind="elementwise",
            parts=(
                Part(
                    name="add",
                    kind="elementwise",
                    flops=others * elements,
                    input_bytes=(others + 1) * stream,
                    output_bytes=others * stream,
                ),
            ),
            summary="The vector of a memory layer added to all streams but the first",
            formula="N D (A - 1)",
            source=SOURCE,
        )
