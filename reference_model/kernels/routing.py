"""What a router decides and where it writes it: the rule, and the buffers that experts read.

No sort and no host: each expert has a list with room for all tokens, and a token with this expert
appends its pair by an atomic counter. So the order within a list is random; nothing that is
computed from it depends on the order. Where lists are longer than a tile of the expert kernels, the
pair that begins a tile also notes it as an item of work: so blocks are dealt out to tiles that
exist, and not to as many a list as the fullest could need.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

TILE = 16  # tokens, and experts, that a block of the router's product takes

Scoring = Literal["softmax", "sigmoid", "softmax_of_chosen"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterRule:
    """How k of E experts are chosen and weighed; group limits as DeepSeek-V3 has them."""

    top_k: int
    scoring: Scoring
    normalised: bool = False  # the weights of the chosen sum to one
    groups: int = 1
    kept_groups: int = 1
    group_score_experts: int = 1  # best experts of a group whose scores rank it


@dataclass(frozen=True, slots=True, kw_only=True)
class Routing:
    """One layer's choices for T tokens; `counts` must be zero before a router writes."""

    ids: Tensor  # [T, k] int32, best first
    weights: Tensor  # [T, k] float32
    slots: Tensor  # [T, k] int32, the pair's place in its expert's list
    counts: Tensor  # [E + 1] int32, length of each list; last, how many items there are
    lists: Tensor  # [E, T] int32, pairs
    items: Tensor  # [most items] int32: expert * 65536 + tile of its list
    item_tokens: int  # tokens of such a tile; 0: no items are noted
    logits: Tensor  # [T, E] float32
    partial: Tensor  # [splits, T, E] float32, of the router's product
    squares: Tensor  # [splits, T] float32, sums of squares of its inputs
    scale: Tensor  # [T] float32, the norm's factor where the router took the norm
    scratch: Tensor  # [2, T, E] float32: scores that rank, scores of groups
    arrived: Tensor  # [T] int32, zero between launches

    @classmethod
    def layers(
        cls,
        count: int,
        *,
        tokens: int,
        experts: int,
        top_k: int,
        splits: int,
        device: str,
        item_tokens: int = 0,
    ) -> "tuple[Tensor, tuple[Routing, ...]]":
        """All layers' counters [L, E + 1], to be zeroed once a step, and a routing for each layer.

        Layers share every buffer but counters and choices, since they run one after another.
        """

        def ints(*shape: int) -> Tensor:
            return torch.zeros(shape, device=device, dtype=torch.int32)

        def floats(*shape: int) -> Tensor:
            return torch.zeros(shape, device=device)

        counts = ints(count, experts + 1)
        pairs = tokens * top_k
        most = min(pairs, experts + pairs // item_tokens) if item_tokens else 1
        shared = {
            "weights": floats(tokens, top_k),
            "slots": ints(tokens, top_k),
            "lists": ints(experts, tokens),
            "items": ints(most),
            "logits": floats(tokens, experts),
            "partial": floats(splits, tokens, experts),
            "squares": floats(splits, tokens),
            "scale": floats(tokens),
            "scratch": floats(2, tokens, experts),
            "arrived": ints(tokens),
        }
        return counts, tuple(
            cls(counts=counts[layer], ids=ints(tokens, top_k), item_tokens=item_tokens, **shared)
            for layer in range(count)
        )
