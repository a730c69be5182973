"""Attention and Mamba-2 side by side: both read the block's normed input, and their results add.

It keeps a KV cache and a state. Letters are those of each half: costmodel/layers/attention.py and
costmodel/layers/mamba2.py. Source: Falcon-H1, arXiv 2507.22448, section 2.1.
"""

from dataclasses import replace
from typing import Final, Literal

from pydantic.dataclasses import dataclass

from costmodel.errors import InputError
from costmodel.layers.attention import Attention
from costmodel.layers.base import MixerKind
from costmodel.layers.letters import Letter
from costmodel.layers.mamba2 import Mamba2
from costmodel.layers.numbers import Number
from costmodel.layers.operator import Operator, Part, Step
from costmodel.layers.site import Site
from costmodel.strict import STRICT

BRANCH: Final = "mamba"  # of the paths of Mamba's leaves: "attention.mamba.in_proj"


@dataclass(frozen=True, kw_only=True, config=STRICT)
class AttentionAndMamba2(MixerKind):
    """The sum of grouped-query attention and of Mamba-2."""

    kind: Literal["attention_and_mamba2"] = "attention_and_mamba2"
    attention: Attention
    mamba: Mamba2

    def __post_init__(self) -> None:
        """Its attention keeps a cache of its own."""
        if self.attention.shared_kv:
            raise InputError("attention.shared_kv=True: is not modelled beside Mamba-2")

    def kv_token_bytes(self, step: Step) -> int:
        """Keys and values of the attention."""
        return self.attention.kv_token_bytes(step)

    def kept_tokens(self, tokens: Number, step: Step) -> Number:
        """Those that the attention keeps."""
        return self.attention.kept_tokens(tokens, step)

    def state_bytes(self, hidden_size: int, step: Step) -> int:
        """The state of Mamba-2, that of its convolution in."""
        return self.mamba.state_bytes(hidden_size, step)

    def letters(self, operator: Operator, step: Step) -> tuple[Letter, ...]:
        """None of its own: operators of both halves have the letters of these."""
        del operator, step
        return ()

    def operators(self, site: Site, step: Step) -> list[Operator]:
        """qkv, rope, core, output, and of Mamba-2 in_proj to output; their sum."""
        return [
            *self.attention.operators(replace(site, layer_kind=self.attention), step),
            *self.mamba.operators(replace(site, layer_kind=self.mamba, branch=BRANCH), step),
            _sum(site, step),
        ]


def _sum(site: Site, step: Step) -> Operator:
    """One addition an element."""
    elements = step.tokens * site.hidden_size
    passed = elements * step.activation_bytes
    part = Part(
        name="add",
        kind="elementwise",
        flops=elements,
        input_bytes=2 * passed,
        output_bytes=passed,
    )
    return site.operator(
        "attention.sum",
        kind="elementwise",
        parts=(part,),
        summary="The result of attention plus that of Mamba-2",
        formula="N D",
        source="arXiv 2507.22448",
    )
