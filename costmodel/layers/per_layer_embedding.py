"""Per-layer embeddings (PLE): each token has a short vector of its own for each layer.

Letters: N tokens, D hidden, L layers with such a vector, p its width. One table has a row of L p
values for each token id, of which a step reads one a token, at the input. The layers never see the
row alone: it is averaged there with a projection of the embedded token. At the end of a block a
gate made from the residual stream multiplies the layer's p values, which are projected to D,
normalised and added.
Source: Gemma 3n and Gemma 4 as transformers 5.24 has them (`modeling_gemma3n`, `modeling_gemma4`).
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from costmodel.layers.base import MemoryKind, Position, Size, Width
from costmodel.layers.letters import Letter
from costmodel.layers.operator import INDEX_BYTES, Operator, Part, Step, Weight
from costmodel.layers.primitives import RMS_NORM, activation_flops, linear, norm, vector
from costmodel.layers.site import Site
from costmodel.layers.touched import Touched
from costmodel.strict import STRICT

SOURCE = "transformers 5.24, modeling_gemma3n and modeling_gemma4"
ROWS, PROJECT = "ple.rows", "ple.project"
COMBINED = 2  # the row is added to the projection, and the sum multiplied by 1/sqrt(2)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class PerLayerEmbedding(MemoryKind):
    """A row of L p values a token, p of them for each layer, as in Gemma 3n and Gemma 4.

    At the input, for all layers at once: e = (norm(W x) + row[id]) / sqrt(2), with x the embedded
    token and a norm over each layer's p values. At the end of layer l, from the residual stream h:
    h + norm(W_out (gelu(W_gate h) * e_l)).

    Leaves out: constant scales of rows and projections, which are folded into the weights. Of a
    model with several streams (AltUp) the result joins all but the first.
    """

    kind: Literal["per_layer_embedding"] = "per_layer_embedding"
    layers: str = "all"
    hidden_size_per_layer_input: Annotated[  # p
        Width, Size(step=32, sets="parameters", label="Width of a per-layer embedding")
    ]
    vocab_size_per_layer_input: Annotated[int, Field(ge=2, le=2**24)]  # rows of the table
    position: ClassVar[Position] = "behind_block"
    attribute: ClassVar[str] = "ple"
    addressed_by: ClassVar[Literal["scores", "tokens"]] = "tokens"
    at_input: ClassVar[bool] = True

    def letters(self, operator: Operator, step: Step) -> tuple[Letter, ...]:
        """The width p; of the projection at the input L, of which it has L p outputs."""
        del step
        p = self.hidden_size_per_layer_input
        letters = [Letter("p", p, "width of a layer's vector")]
        if operator.leaf == PROJECT:
            letters.append(Letter("L", operator.weights[0].rows // p, "layers with a vector"))
        return tuple(letters)

    def operators(self, site: Site, step: Step) -> list[Operator]:
        """At the input rows and project; in each layer gate, output, norm."""
        p = self.hidden_size_per_layer_input
        front = Site.of((), site.hidden_size, self)
        return [
            self._rows(front, step, site.count * p),
            self._project(front, step, site.count * p),
            self._gate(site, step),
            linear(
                "ple.output",
                site,
                step,
                inputs=p,
                outputs=site.hidden_size,
                group="memory_projections",
                summary="Projection of the gated vector back to the hidden size",
                formula="2 N p D",
                source=SOURCE,
            ),
            norm("ple.norm", site, step),
        ]

    def _rows(self, front: Site, step: Step, width: int) -> Operator:
        """One row of L p values a token. An id beyond the table has the row of id 0."""
        n, population = step.tokens, self.vocab_size_per_layer_input
        table = Weight(
            name="weight",
            group="memory_values",
            rows=population,
            cols=width,
            active_rows=1,
        )
        distinct = step.routing.expected_distinct_hashed(population, n, order=1)
        return front.operator(
            ROWS,
            kind="gather",
            parts=(
                Part(
                    name="rows",
                    kind="gather",
                    row_bytes=distinct * table.row_bytes(step),
                    input_bytes=n * INDEX_BYTES,
                    output_bytes=n * width * step.activation_bytes,
                    operations=3,  # ids beyond the table are found and replaced, rows copied
                ),
            ),
            weights=(table,),
            touched=Touched(
                kind="rows", distinct=distinct, population=population, chosen_by=ROWS, orders=(1,)
            ),
            summary="The row of each token id: a vector for each layer",
            formula="0; bytes: each distinct row of L p once",
            source=SOURCE,
        )

    def _project(self, front: Site, step: Step, width: int) -> Operator:
        """The embedded token to L p values, their norm layer by layer, and the mean with the row.

        Counts 2 N D L p, 4 N L p for the norm and 2 N L p for the mean.
        """
        elements = step.tokens * width
        moved = elements * step.activation_bytes
        weight = vector("norm", "norm", self.hidden_size_per_layer_input)
        return linear(
            PROJECT,
            front,
            step,
            inputs=front.hidden_size,
            outputs=width,
            group="memory_projections",
            extra=(
                Part(
                    name="norm",
                    kind="norm",
                    flops=RMS_NORM * elements,
                    weight_bytes=weight.stored_bytes(step),
                    inner_input_bytes=moved,
                    inner_output_bytes=moved,
                ),
                Part(
                    name="mean",
                    kind="elementwise",
                    flops=COMBINED * elements,
                    input_bytes=moved,
                    output_bytes=moved,
                    inner_input_bytes=moved,
                    operations=COMBINED,
                ),
            ),
            extra_weights=(weight,),
            summary="Projection of the embedded token to a vector for each layer, normalised and"
            " averaged with the row",
            formula=f"2 N D L p + N L p ({RMS_NORM} + {COMBINED})",
            source=SOURCE,
        )

    def _gate(self, site: Site, step: Step) -> Operator:
        """GELU of a projection of the stream to p values, times the layer's vector."""
        p = self.hidden_size_per_layer_input
        elements = step.tokens * p
        moved = elements * step.activation_bytes
        return linear(
            "ple.gate",
            site,
            step,
            inputs=site.hidden_size,
            outputs=p,
            group="memory_projections",
            activation="gelu",
            extra=(
                Part(
                    name="product",
                    kind="elementwise",
                    flops=elements,
                    input_bytes=moved,
                    inner_input_bytes=moved,
                    inner_output_bytes=moved,
                ),
            ),
            summary="GELU of a projection of the residual stream, times the layer's vector",
            formula=f"2 N D p + {activation_flops('gelu', gated=True)} N p",
            source=SOURCE,
        )
