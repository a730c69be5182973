"""Kimi delta attention (KDA): the delta rule with a decay for each key channel.

Queries, keys and values of X = Hv d each pass a causal convolution. The forget gate (the decay of
each channel) and the output gate come by a low-rank pair of matrices, D x d and d x X (Kimi
Linear), or full-rank by D x X (bailing_hybrid).
Letters: N tokens, D hidden, Hv heads of dk = dv, K taps, C = 3 X channels. Source: Kimi Linear,
arXiv 2510.26692, section 3; names as in `linear_attn_config` of its `config.json`.
"""

from dataclasses import replace
from typing import Final, Literal, Self

from pydantic.dataclasses import dataclass

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

SOURCE: Final = "arXiv 2510.26692, section 3"


@dataclass(frozen=True, kw_only=True, config=STRICT)
class KimiDeltaAttention(MixerKind):
    """Hv heads with a state of d x d each, in float32, and a convolution before them."""

    kind: Literal["kimi_delta_attention"] = "kimi_delta_attention"
    num_heads: Count  # Hv
    head_dim: Width  # d
    short_conv_kernel_size: Taps = 4  # K
    full_rank_gates: bool = False
    chunk_size: Chunk = DEFAULT_CHUNK  # tokens of a prompt that meet by matrix products

    def split(self, mesh: Mesh) -> Self:
        """Hv / tp heads. All GPUs have the first projections of low-rank gates."""
        return replace(self, num_heads=mesh.of_tp(self.num_heads, "num_heads"))

    @property
    def width(self) -> int:
        """X."""
        return self.num_heads * self.head_dim

    @property
    def channels(self) -> int:
        """C: queries, keys and values pass the convolution."""
        return 3 * self.width

    @property
    def gate_width(self) -> int:
        """Of what the first projection gives for each of the two gates."""
        return self.width if self.full_rank_gates else self.head_dim

    @property
    def rule(self) -> DeltaRule:
        """The recurrence: a decay for each channel."""
        return DeltaRule(
            heads=self.num_heads,
            key_heads=self.num_heads,
            key_dim=self.head_dim,
            value_dim=self.head_dim,
            channel_decay=True,
            chunk=self.chunk_size,
        )

    def state_bytes(self, hidden_size: int, step: Step) -> int:
        """Hv d d elements in float32, and the last K - 1 inputs of the convolution."""
        del hidden_size
        conv = conv_state_bytes(self.channels, self.short_conv_kernel_size, step)
        return self.rule.state_bytes + conv

    def letters(self, operator: Operator, step: Step) -> tuple[Letter, ...]:
        """Hv, Hk, dk, dv, squares, single, C, K."""
        del operator
        return (
            *self.rule.letters(step),
            *conv_letters(self.channels, self.short_conv_kernel_size),
        )

    def operators(self, site: Site, step: Step) -> list[Operator]:
        """in_proj, conv, (forget_gate, output_gate), recurrence, gated_norm, output."""
        x, gate = self.width, self.gate_width
        gates = [] if self.full_rank_gates else ["forget_gate", "output_gate"]
        return [
            linear(
                "attention.in_proj",
                site,
                step,
                inputs=site.hidden_size,
                outputs=3 * x + self.num_heads + 2 * gate,
                group="attention",
                matrix_rows=(x, x, x, self.num_heads, gate, gate),
                summary="Projection to queries, keys, values, a beta of each head, and the two"
                " gates or their compressed forms",
                formula=f"2 N D (C + Hv + 2 {'Hv dk' if self.full_rank_gates else 'dk'})",
                source=SOURCE,
            ),
            silu_convolution(
                site,
                step,
                channels=self.channels,
                taps=self.short_conv_kernel_size,
                bias=False,
                source=SOURCE,
            ),
            *(
                linear(
                    f"attention.{leaf}",
                    site,
                    step,
                    inputs=gate,
                    outputs=x,
                    group="attention",
                    summary=f"The {leaf.replace('_', ' ')} of each channel from its compressed"
                    " form",
                    formula="2 N dk Hv dk",
                    source=SOURCE,
                )
                for leaf in gates
            ),
            self.rule.operator(site, step, SOURCE),
            gated_norm(
                site,
                step,
                width=x,
                letters="Hv dv",
                weight=self.head_dim,
                gate="sigmoid",
                source=SOURCE,
            ),
            linear(
                "attention.output",
                site,
                step,
                inputs=x,
                outputs=site.hidden_size,
                group="attention",
                summary="Projection of all heads' results back to the hidden size",
                formula="2 N Hv dv D",
                source=SOURCE,
            ),
        ]
