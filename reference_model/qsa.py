"""QSA in plain PyTorch: all heads read the best groups of tokens, and those of an unfinished one.

Shapes: B sequences, T new tokens, L tokens held (all slots in static decode), Hi index heads of di,
groups of r tokens, G whole groups of the L. Source: transformers 5.24, `modeling_qwen4_exp`.
"""

import torch
from torch import Tensor, nn

from costmodel.layers.qsa import PooledKeyAttention
from reference_model.cache import MASKED, Cache, store_side
from reference_model.indexed_attention import IndexedLayer
from reference_model.leaf import Factory, Leaf, rms_norm
from reference_model.registry import runs
from reference_model.rotary import angles, rotate
from reference_model.sdpa import Choice


class IndexRope(Leaf):
    """RMSNorm and rotation of the index queries, and the cache write of the key as it is."""

    q_norm: nn.Parameter

    def __init__(self, factory: Factory, config: PooledKeyAttention) -> None:
        super().__init__()
        self.rotated = config.index_rotated
        self.register("q_norm", factory.filled(config.index_head_dim, value=1.0), "norm")

    def forward(
        self, query: Tensor, key: Tensor, cache: Cache, index: int
    ) -> tuple[Tensor, Tensor]:
        """Queries [B, T, Hi, di] and key [B, T, di] to such queries and all keys [B, L, di]."""
        query = rms_norm(query, self.q_norm)
        if self.rotated:
            query = rotate(query, *angles(cache.positions(key.shape[1]), self.rotated))
        return query, store_side(cache, index, key)


class IndexSelect(Leaf):
    """Pooled keys of whole groups, their scores summed over heads, and the best groups."""

    k_norm: nn.Parameter

    def __init__(self, factory: Factory, config: PooledKeyAttention) -> None:
        super().__init__()
        self.rotated, self.group = config.index_rotated, config.index_compress_ratio
        self.topk, self.most = config.topk, config.most_chosen
        self.register("k_norm", factory.filled(config.index_head_dim, value=1.0), "norm")

    def forward(self, query: Tensor, keys: Tensor, positions: Tensor) -> Choice | None:
        """The tokens of the best groups, and of the group that is not whole.

        Args:
            query: [B, T, Hi, di].
            keys: Of tokens, [B, L, di].
            positions: Of the new tokens, [T].

        Returns:
            Tokens [B, T, n], n = the budget and r - 1, and an additive mask of that shape of those
            that are none of the past; None: all are attended to.
        """
        pooled = self._pooled(keys)
        scores = torch.einsum("bthd,bgd->bthg", query, pooled).relu().sum(dim=2)
        if keys.shape[1] <= self.most:
            return None
        whole = (positions + 1) // self.group  # groups that each query sees
        seen = torch.arange(pooled.shape[1], device=keys.device) < whole[:, None]
        best, groups = scores.masked_fill(~seen, MASKED).topk(self.topk, dim=-1)
        within = torch.arange(self.group, device=keys.device)
        tokens = (groups[..., None] * self.group + within).flatten(-2)
        shut = (best == MASKED).repeat_interleave(self.group, dim=-1)
        tail = (whole[:, None] * self.group + within[:-1]).expand(*tokens.shape[:2], -1)
        tokens = torch.cat([tokens, tail.clamp(max=keys.shape[1] - 1)], dim=-1)
        shut = torch.cat([shut, tail > positions[:, None]], dim=-1)
        mask = torch.zeros(tokens.shape, device=keys.device, dtype=query.dtype)
        return tokens, mask.masked_fill(shut, MASKED)

    def _pooled(self, keys: Tensor) -> Tensor:
        """[B, L, di] to [B, G, di]: means, normed and rotated as the first token of the group."""
        groups = keys.shape[1] // self.group
        held = keys[:, : groups * self.group].unflatten(1, (groups, self.group))
        pooled = rms_norm(held.mean(dim=2), self.k_norm)
        if not self.rotated:
            return pooled
        firsts = torch.arange(groups, device=keys.device) * self.group
        return rotate(pooled[:, :, None], *angles(firsts, self.rotated))[:, :, 0]


@runs(PooledKeyAttention)
class PooledKeyLayer(IndexedLayer):
    """One layer of attention to chosen groups of tokens."""

    def __init__(self, factory: Factory, config: PooledKeyAttention) -> None:
        super().__init__(factory, config)
        self.index_rope = IndexRope(factory, config)
        self.index_select = IndexSelect(factory, config)

    def choice(self, query: Tensor, key: Tensor, cache: Cache, index: int) -> Choice | None:
        """The best groups, the same for all heads."""
        query, keys = self.index_rope(query, key, cache, index)
        chosen: Choice | None = self.index_select(query, keys, cache.positions(query.shape[1]))
        return chosen
