"""Attention and Mamba-2 side by side: attention's leaves, those of `mamba`, and their sum.

Source: Falcon-H1, arXiv 2507.22448, section 2.1.
"""

from torch import Tensor

from costmodel.layers.attention_and_mamba2 import AttentionAndMamba2
from reference_model.attention import AttentionLayer
from reference_model.cache import Cache, LayerCache, Room
from reference_model.leaf import Factory, Leaf
from reference_model.mamba2 import Mamba2Layer
from reference_model.registry import runs


class Sum(Leaf):
    """Adds the results of both."""

    def forward(self, attended: Tensor, mixed: Tensor) -> Tensor:
        """Both [B, T, D] to [B, T, D]."""
        return attended + mixed


@runs(AttentionAndMamba2)
class ParallelLayer(AttentionLayer):
    """An attention layer with a Mamba-2 layer beside it."""

    def __init__(self, factory: Factory, config: AttentionAndMamba2) -> None:
        super().__init__(factory, config.attention)
        self.mamba = Mamba2Layer(factory, config.mamba)
        self.sum = Sum()

    def new_cache(self, room: Room) -> LayerCache:
        """Empty keys and values, and the states of Mamba-2."""
        cache = super().new_cache(room)
        assert isinstance(cache, LayerCache), "a rule of the model: it shares no other's cache"
        cache.states = self.mamba.new_cache(room).tensors
        return cache

    def forward(self, x: Tensor, cache: Cache, index: int) -> Tensor:
        """[B, T, D] to [B, T, D]."""
        out: Tensor = self.sum(super().forward(x, cache, index), self.mamba(x, cache, index))
        return out
