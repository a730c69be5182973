"""The lightning indexer of DSA in plain PyTorch: which tokens latent attention reads.

Shapes: B sequences, T new tokens, L tokens held (all slots in static decode), Hi heads of di, k
tokens chosen: the smaller of `topk` and L.
Source: DeepSeek-V3.2, arXiv 2512.02556, section 2.1.
"""

import torch
from torch import Tensor, nn

from costmodel.layers.indexer import Indexer as Sizes
from reference_model.cache import MASKED, Cache, store_side
from reference_model.leaf import NORM_EPS, Factory, Leaf
from reference_model.rotary import angles, rotate
from reference_model.sdpa import visible


class IndexRope(Leaf):
    """LayerNorm of the key, rotation of the first r elements of queries and key, cache write."""

    weight: nn.Parameter
    bias: nn.Parameter

    def __init__(self, factory: Factory, sizes: Sizes) -> None:
        super().__init__()
        self.rotated = sizes.rotated
        self.register("weight", factory.filled(sizes.head_dim, value=1.0), "norm")
        self.register("bias", factory.filled(sizes.head_dim, value=0.0), "norm")

    def forward(
        self, query: Tensor, key: Tensor, cache: Cache, index: int
    ) -> tuple[Tensor, Tensor]:
        """Queries [B, T, Hi, di] and key [B, T, di] to rotated queries and all keys [B, L, di]."""
        key = nn.functional.layer_norm(key, key.shape[-1:], self.weight, self.bias, NORM_EPS)
        cos, sin = angles(cache.positions(key.shape[1]), self.rotated)
        key = rotate(key[:, :, None], cos, sin)[:, :, 0]
        return rotate(query, cos, sin), store_side(cache, index, key)


class IndexSelect(Leaf):
    """Scores of all held tokens, summed over heads, and the best of them."""

    def __init__(self, topk: int) -> None:
        super().__init__()
        self.topk = topk

    def forward(
        self, query: Tensor, keys: Tensor, weights: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor] | None:
        """The tokens that each query attends to.

        Args:
            query: [B, T, Hi, di].
            keys: [B, L, di].
            weights: Of the heads, [B, T, Hi].
            mask: Additive [1, 1, 1, L], of static decode; None: causal.

        Returns:
            Tokens [B, T, k], and an additive mask [B, T, k] of those that are none of the past;
            None: all are attended to.
        """
        scores = torch.einsum("bthd,bld->bthl", query, keys).relu()
        logits = torch.einsum("bthl,bth->btl", scores, weights)
        new, held = logits.shape[1:]
        if mask is not None:
            logits = logits + mask[0]
        elif new > 1:
            seen = visible(new, held, None, logits.device)
            logits = logits.masked_fill(~seen, MASKED)
        best, tokens = logits.topk(min(self.topk, held), dim=-1)
        if held <= self.topk:
            return None
        return tokens, torch.zeros_like(best).masked_fill_(best == MASKED, MASKED)
