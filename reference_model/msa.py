"""MSA in plain PyTorch: each key-value head reads the best blocks of its index head.

Shapes: B sequences, T new tokens, L tokens held (all slots in static decode), Hi index heads of di,
blocks of b tokens, t of them chosen. Source: MiniMax-M3, transformers 5.24.
"""

import torch
from torch import Tensor, nn

from costmodel.layers.msa import BlockSparseAttention
from reference_model.cache import MASKED, Cache, store_side
from reference_model.indexed_attention import IndexedLayer
from reference_model.leaf import Factory, Leaf, rms_norm
from reference_model.registry import runs
from reference_model.rotary import angles, rotate
from reference_model.sdpa import Choice, visible


class IndexRope(Leaf):
    """RMSNorm and rotation of the index queries and the key, and the cache write."""

    q_norm: nn.Parameter
    k_norm: nn.Parameter

    def __init__(self, factory: Factory, config: BlockSparseAttention) -> None:
        super().__init__()
        self.rotated = config.index_rotated
        for name in ("q_norm", "k_norm"):
            self.register(name, factory.filled(config.index_head_dim, value=1.0), "norm")

    def forward(
        self, query: Tensor, key: Tensor, cache: Cache, index: int
    ) -> tuple[Tensor, Tensor]:
        """Queries [B, T, Hi, di] and key [B, T, di] to such queries and all keys [B, L, di]."""
        query, key = rms_norm(query, self.q_norm), rms_norm(key, self.k_norm)
        if self.rotated:
            cos, sin = angles(cache.positions(key.shape[1]), self.rotated)
            query, key = rotate(query, cos, sin), rotate(key[:, :, None], cos, sin)[:, :, 0]
        return query, store_side(cache, index, key)


class IndexSelect(Leaf):
    """Scores of all held tokens, the largest of each block, and the best blocks."""

    def __init__(self, config: BlockSparseAttention) -> None:
        super().__init__()
        self.block, self.topk = config.index_block_size, config.index_topk_blocks

    def forward(
        self, query: Tensor, keys: Tensor, mask: Tensor | None, positions: Tensor
    ) -> Choice | None:
        """The tokens of the best blocks.

        Args:
            query: [B, T, Hi, di].
            keys: [B, L, di].
            mask: Additive [1, 1, 1, L], of static decode; None: causal.
            positions: Of the new tokens, [T].

        Returns:
            Tokens [B, T, Hi, t b], and an additive mask of that shape of those that are none of the
            past; None: all are attended to.
        """
        scores = torch.einsum("bthd,bld->bthl", query, keys)
        new, held = scores.shape[1], scores.shape[3]
        if mask is not None:
            scores = scores + mask
        elif new > 1:
            seen = visible(new, held, None, scores.device)
            scores = scores.masked_fill(~seen[:, None], MASKED)
        padded = nn.functional.pad(scores, (0, -held % self.block), value=MASKED)
        best = padded.unflatten(-1, (-1, self.block)).amax(-1)
        own = (positions // self.block)[None, :, None, None].expand(*best.shape[:3], 1)
        best = best.scatter(-1, own, float("inf"))  # the newest block is always chosen
        blocks = best.topk(min(self.topk, best.shape[-1]), dim=-1).indices
        if held <= self.topk * self.block:
            return None
        within = torch.arange(self.block, device=blocks.device)
        tokens = (blocks[..., None] * self.block + within).flatten(-2)
        hidden = tokens > positions[:, None, None]
        shut = torch.zeros(tokens.shape, device=tokens.device, dtype=query.dtype)
        return tokens.clamp(max=held - 1), shut.masked_fill(hidden, MASKED)


@runs(BlockSparseAttention)
class BlockSparseLayer(IndexedLayer):
    """One layer of block-sparse attention."""

    def __init__(self, factory: Factory, config: BlockSparseAttention) -> None:
        super().__init__(factory, config)
        self.index_rope = IndexRope(factory, config)
        self.index_select = IndexSelect(config)

    def choice(self, query: Tensor, key: Tensor, cache: Cache, index: int) -> Choice | None:
        """The best blocks of each key-value head."""
        query, keys = self.index_rope(query, key, cache, index)
        positions = cache.positions(query.shape[1])
        chosen: Choice | None = self.index_select(query, keys, cache.mask_of(index), positions)
        return chosen
