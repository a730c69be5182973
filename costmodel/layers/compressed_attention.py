"""Attention to a window and to compressed entries of the past (DeepSeek-V4): CSA and HCA.

Source: DeepSeek-V4, transformers 5.24 (`modeling_deepseek_v4`).
"""

from typing import Literal

from pydantic.dataclasses import dataclass

from costmodel.layers.attention import Tokens
from costmodel.layers.base import Count, MixerKind, Width
from costmodel.strict import STRICT


@dataclass(frozen=True, kw_only=True, config=STRICT)
class CompressedAttention(MixerKind):
    """A window of tokens, and with a `compress_ratio` one entry for each m tokens before."""

    kind: Literal["compressed"] = "compressed"
    num_attention_heads: Count  # H
    head_dim: Width  # d: of a head, and of the one vector that is a token's key and value
    q_lora_rank: Width  # q
    qk_rope_head_dim: Width  # r: the elements of a head that are rotated
    o_groups: Count  # g: groups of heads, each with a projection of its own
    o_lora_rank: Width  # u: the width of each group's result
    sliding_window: Tokens | None = None  # W, itself in; None: all tokens
    compress_ratio: Tokens | None = None  # m; None: no entries
    overlapping: bool = False  # an entry is of 2 m tokens, those of the entry before in (CSA)
    index_topk: Count | None = None  # entries that a query attends to (CSA); None: all (HCA)
    index_n_heads: Count | None = None  # Hi
    index_head_dim: Width | None = None  # di
