"""A gated delta net: linear attention whose state forgets and is corrected by the delta rule.

One projection makes queries, keys, values, an output gate z and two gates of each head, beta and
the decay. Queries, keys and values pass a causal convolution.
Letters: N tokens, D hidden, Hk heads of queries and keys of dk, Hv heads of values of dv, K taps,
C = 2 Hk dk + Hv dv channels. Source: arXiv 2412.06464; names as in the `config.json` of Qwen3-Next.
"""

from dataclasses import replace
from typing import Final, Literal, Self

from pydantic.dataclasses import dataclass

from costmodel.errors import InputError
from costmodel.layers.base import Count, MixerKind, Width
from costmodel.layers.delta_rule import DEFAULT_CHUNK, DeltaRule
from costmodel.layers.letters import Letter
from costmodel.layers.mesh import Mesh
from costmodel.layers.operator import Operator, Step
from costmodel.layers.primitives import linear
from costmodel.layers.recurrent import (
    Chunk,
    Taps,
    conv_letters,
    conv_state_bytes,
    gated_norm,
    silu_convolution,
)
from costmodel.layers.site import Site
from costmodel.strict import STRICT

SOURCE: Final = "arXiv 2412.06464"


@dataclass(frozen=True, kw_only=True, config=STRICT)
class GatedDeltaNet(MixerKind):
    """Hv heads with a state of dk x dv each, in float32, and a convolution before them."""

    kind: Literal["gated_delta_net"] = "gated_delta_net"
    linear_num_key_heads: Count  # Hk
    linear_num_value_heads: Count  # Hv
    linear_key_head_dim: Width  # dk
    linear_value_head_dim: Width  # dv
    linear_conv_kernel_dim: Taps = 4  # K
    chunk_size: Chunk = DEFAULT_CHUNK  # tokens of a prompt that meet by matrix products

    def __post_init__(self) -> None:
        """Value heads share key heads evenly."""
        if self.linear_num_value_heads % self.linear_num_key_heads:
            raise InputError(
                f"linear_num_value_heads={self.linear_num_value_heads}: is not a multiple of"
                f" linear_num_key_heads={self.linear_num_key_heads}"
            )

    def split(self, mesh: Mesh) -> Self:
        """Hk / tp key heads and Hv / tp value heads."""
        return replace(
            self,
            linear_num_key_heads=mesh.of_tp(self.linear_num_key_heads, "linear_num_key_heads"),
            linear_num_value_heads=mesh.of_tp(
                self.linear_num_value_heads, "linear_num_value_heads"
            ),
        )

    @property
    def key_width(self) -> int:
        """Hk dk."""
        return self.linear_num_key_heads * self.linear_key_head_dim

    @property
    def value_width(self) -> int:
        """Hv dv."""
        return self.linear_num_value_heads * self.linear_value_head_dim

    @property
    def channels(self) -> int:
        """C: queries, keys and values pass the convolution."""
        return 2 * self.key_width + self.value_width

    @property
    def rule(self) -> DeltaRule:
        """The recurrence: a decay for each head."""
        return DeltaRule(
            heads=self.linear_num_value_heads,
            key_heads=self.linear_num_key_heads,
            key_dim=self.linear_key_head_dim,
            value_dim=self.linear_value_head_dim,
            channel_decay=False,
            chunk=self.chunk_size,
        )

    def state_bytes(self, hidden_size: int, step: Step) -> int:
        """Hv dk dv elements in float32, and the last K - 1 inputs of the convolution."""
        del hidden_size
        conv = conv_state_bytes(self.channels, self.linear_conv_kernel_dim, step)
        return self.rule.state_bytes + conv

    def letters(self, operator: Operator, step: Step) -> tuple[Letter, ...]:
        """Hv, Hk, dk, dv, squares, single, C, K."""
        del operator
        return (
            *self.rule.letters(step),
            *conv_letters(self.channels, self.linear_conv_kernel_dim),
        )

    def operators(self, site: Site, step: Step) -> list[Operator]:
        """in_proj, conv, recurrence, gated_norm, output."""
        heads, values = self.linear_num_value_heads, self.value_width
        return [
            linear(
                "attention.in_proj",
                site,
                step,
                inputs=site.hidden_size,
                outputs=self.channels + values + 2 * heads,
                group="attention",
                matrix_rows=(self.channels, values, heads, heads),
                summary="Projection to queries, keys, values, output gate, and the two gates of"
                " each head",
                formula="2 N D (C + Hv dv + 2 Hv)",
                source=SOURCE,
            ),
            silu_convolution(
                site,
                step,
                channels=self.channels,
                taps=self.linear_conv_kernel_dim,
                bias=False,
                source=SOURCE,
            ),
            self.rule.operator(site, step, SOURCE),
            gated_norm(
                site,
                step,
                width=values,
                letters="Hv dv",
                weight=self.linear_value_head_dim,
                gate="silu",
                source=SOURCE,
            ),
            linear(
                "attention.output",
                site,
                step,
                inputs=values,
                outputs=site.hidden_size,
                group="attention",
                summary="Projection of all heads' results back to the hidden size",
                formula="2 N Hv dv D",
                source=SOURCE,
            ),
        ]
