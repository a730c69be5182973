"""The dense feed-forward layer, gated (SwiGLU) or not.

Letters: N tokens, D hidden, F width. Source: SwiGLU, arXiv 2002.05202.
"""

from dataclasses import replace
from typing import Annotated, Literal, Self

from pydantic.dataclasses import dataclass

from costmodel.layers.base import FfnKind, Size, Width
from costmodel.layers.formats import Group
from costmodel.layers.letters import Letter, sum_of
from costmodel.layers.mesh import Mesh
from costmodel.layers.operator import Operator, Step
from costmodel.layers.primitives import Activation, activation_flops, linear
from costmodel.layers.site import Site
from costmodel.strict import STRICT


@dataclass(frozen=True, kw_only=True, config=STRICT)
class DenseFfn(FfnKind):
    """down(act(gate x) * (up x)), or down(act(up x)) without a gate."""

    kind: Literal["dense"] = "dense"
    intermediate_size: Annotated[Width, Size(step=64, sets="flops", label="FFN width")]  # F
    gated: bool = True
    activation: Activation = "silu"
    bias: bool = False

    def split(self, mesh: Mesh) -> Self:
        """F / tp."""
        return replace(
            self, intermediate_size=mesh.of_tp(self.intermediate_size, "intermediate_size")
        )

    def operators(self, site: Site, step: Step) -> list[Operator]:
        """gate_up, down."""
        return feed_forward(
            ("ffn.gate_up", "ffn.down"),
            site,
            step,
            width=self.intermediate_size,
            group="ffn",
            gated=self.gated,
            activation=self.activation,
            bias=self.bias,
        )

    def letters(self, operator: Operator, step: Step) -> tuple[Letter, ...]:
        """F."""
        del operator, step
        return (Letter("F", self.intermediate_size, "FFN width"),)


def feed_forward(
    leaves: tuple[str, str],
    site: Site,
    step: Step,
    *,
    width: int,
    group: Group,
    gated: bool,
    activation: Activation,
    bias: bool,
) -> list[Operator]:
    """Two projections: 2 N D F (3 if gated else 2) FLOPs, and the activation between them."""
    per_element = activation_flops(activation, gated=gated)
    wide = "(2 F)" if gated else "F"
    return [
        linear(
            leaves[0],
            site,
            step,
            inputs=site.hidden_size,
            outputs=2 * width if gated else width,
            group=group,
            bias=bias,
            activation=activation,
            gated=gated,
            summary="Projections to gate and up, and the activated gate times up"
            if gated
            else "Projection to the FFN width, and the activation",
            formula=sum_of(
                f"2 N D {wide}", bias and f"N {wide}", per_element > 0 and f"{per_element} N F"
            ),
            source="arXiv 2002.05202",
        ),
        linear(
            leaves[1],
            site,
            step,
            inputs=width,
            outputs=site.hidden_size,
            group=group,
            bias=bias,
            summary="Projection from the FFN width back to the hidden size",
            formula=sum_of("2 N F D", bias and "N D"),
            source="arXiv 2002.05202",
        ),
    ]
