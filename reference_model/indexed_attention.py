"""Attention to chosen blocks in plain PyTorch: grouped-query attention with an indexer before it.

Shapes: B sequences, T new tokens, L tokens held (all slots in static decode), D hidden, K key-value
heads, Hi index heads of di, n tokens that a query reads.
"""

from abc import abstractmethod

from torch import Tensor

from costmodel.layers.indexed_attention import IndexedAttention
from reference_model.attention import AttentionLayer
from reference_model.cache import Cache, LayerCache, Room
from reference_model.layers import Linear
from reference_model.leaf import Factory
from reference_model.sdpa import Choice


class IndexedLayer(AttentionLayer):
    """An attention layer whose queries read what an indexer chooses."""

    def __init__(self, factory: Factory, config: IndexedAttention) -> None:
        super().__init__(factory, config.grouped)
        self.index_heads, self.index_dim = config.index_n_heads, config.index_head_dim
        width = (self.index_heads + 1) * self.index_dim
        self.index_qk = Linear(factory, factory.hidden_size, width, "attention")

    @abstractmethod
    def choice(self, query: Tensor, key: Tensor, cache: Cache, index: int) -> Choice | None:
        """What the new tokens attend to; writes the side cache.

        Args:
            query: Of the index heads, [B, T, Hi, di].
            key: The index key, [B, T, di].
            cache: The caches of all layers.
            index: The layer.

        Returns:
            Tokens [B, T, K or 1, n] and an additive mask of that shape; None: all up to itself.
        """

    def new_cache(self, room: Room) -> LayerCache:
        """Empty keys and values, and index keys [B, 1, C, di]."""
        cache = super().new_cache(room)
        assert isinstance(cache, LayerCache), "it shares no other's cache"
        cache.side = room.zeros(1, room.capacity, self.index_dim)
        return cache

    def forward(self, x: Tensor, cache: Cache, index: int) -> Tensor:
        """[B, T, D] to [B, T, D]."""
        qkv, qk = self.qkv(x), self.index_qk(x).unflatten(-1, (self.index_heads + 1, -1))
        choice = self.choice(qk[:, :, :-1], qk[:, :, -1], cache, index)
        q, keys, values = self.rope(qkv[..., self.gate_width :], cache, index)
        mixed = self.core(q, keys, values, cache.mask_of(index) if choice is None else choice)
        if self.gate_width:
            mixed = self.gate(mixed, qkv[..., : self.gate_width])
        out: Tensor = self.output(mixed)
        return out
