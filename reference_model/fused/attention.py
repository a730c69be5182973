"""Attention of a step in four launches: qkv, rope (with norm and cache), core, output.

Of one token the norm before attention is part of the qkv product, and the output product adds to
the residual stream. The core of prompts is PyTorch's (`prefill.py`).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from reference_model.attention import AttentionLayer
from reference_model.cache import Cache, LayerCache
from reference_model.fused.plan import Plan, region
from reference_model.fused.prefill import add_prompt_core
from reference_model.fused.products import launch_product
from reference_model.kernels.attention import attend
from reference_model.kernels.attention_slices import AttentionBuffers, described_cache
from reference_model.kernels.attention_split import usual_split
from reference_model.kernels.rope import rope_and_store
from reference_model.layers import Norm
from reference_model.leaf import NORM_EPS
from reference_model.rotary import angles


class Places:
    """Where the new tokens stand, on the device: positions, cache slots and lengths, [T] of int32.

    All sequences of a static cache are equally long. `follow` copies its position, which a greedy
    step moves on. Prompts, of `new` tokens each, begin at position 0 and stay there.
    """

    def __init__(self, cache: Cache, new: int = 1) -> None:
        self.cache, self.new = cache, new
        tokens, device = cache.batch * new, cache.device

        def ints() -> Tensor:
            return torch.zeros(tokens, device=device, dtype=torch.int32)

        self.positions, self.lengths = ints(), ints()
        self.slots = {layer.slots: ints() for layer in cache.kv_layers}
        self.turns: dict[int, tuple[Tensor, Tensor]] = {}
        self.follow()

    def follow(self) -> None:
        """Take over the cache's position."""
        if self.new > 1:
            each = torch.arange(self.new, device=self.cache.device).repeat(self.cache.batch)
            for places in (self.positions, *self.slots.values()):
                places.copy_(each)
            return
        position = self.cache.position
        assert position is not None, "a fused step needs a static cache"
        self.positions.copy_(position.expand_as(self.positions))
        self.lengths.copy_((position + 1).expand_as(self.lengths))
        for slots, places in self.slots.items():
            places.copy_((position % slots).expand_as(places))

    def turn(self, rotary_dim: int) -> tuple[Tensor, Tensor]:
        """Cosines and sines [capacity, rotary_dim / 2] of all positions."""
        if rotary_dim not in self.turns:
            positions = torch.arange(self.cache.capacity, device=self.cache.device)
            self.turns[rotary_dim] = angles(positions, rotary_dim)
        return self.turns[rotary_dim]


@dataclass(frozen=True, slots=True)
class AttentionPlan:
    """Puts the launches of attention layers into a plan."""

    plan: Plan
    places: Places

    def add(
        self, prefix: str, norm: Norm, layer: AttentionLayer, cache: LayerCache, *, waits: bool
    ) -> None:
        """The launches of one layer; `prefix` is "layers.3.".

        The result waits to be added to the stream if the next kernel `waits` for it.
        """
        plan, config = self.plan, layer.config
        t, d = plan.tokens, config.head_dim
        h, k = config.num_attention_heads, config.num_key_value_heads
        qkv = plan.shared_room("qkv", t, (h + 2 * k) * d)
        if plan.single:
            path = region(prefix, "attention_norm", "attention.qkv")
            launch_product(plan, path, plan.stream, layer.qkv, qkv, gamma=norm.weight)
        else:
            plan.launch_norm(prefix + "attention_norm", norm)
            launch_product(plan, prefix + "attention.qkv", plan.normed, layer.qkv, qkv)
        q = plan.shared_room("q", t, h, d)
        self._rope(prefix + "attention.rope", layer, cache, qkv, q)
        if self.places.new > 1:
            add_prompt_core(plan, prefix, layer, cache, q, new=self.places.new)
            return
        attended = plan.shared_room("attended", t, h, d)
        self._core(prefix + "attention.core", layer, cache, q, attended)
        output = prefix + "attention.output"
        launch_product(plan, output, attended.view(t, h * d), layer.output, None, waits=waits)

    def _rope(
        self, path: str, layer: AttentionLayer, cache: LayerCache, qkv: Tensor, q: Tensor
    ) -> None:
        normed = layer.config.qk_norm != "none"
        cos, sin = self.places.turn(layer.rope.rotary_dim)
        assert cache.values is not None
        self.plan.launch(
            path, rope_and_store, qkv, q, cache.keys, cache.values, cos=cos, sin=sin,
            positions=self.places.positions, slots=self.places.slots[cache.slots],
            q_gamma=layer.rope.q_norm if normed else None,
            k_gamma=layer.rope.k_norm if normed else None, eps=NORM_EPS, pdl=self.plan.pdl,
        )  # fmt: skip

    def _core(
        self, path: str, layer: AttentionLayer, cache: LayerCache, q: Tensor, attended: Tensor
    ) -> None:
        """A ring of a window's length holds just what the window sees, in an order of its own."""
        t, h, d = q.shape
        keys, values = cache.keys, cache.values
        assert values is not None
        k = keys.shape[1]
        split = usual_split(t, h, k, cache.slots)
        buffers = AttentionBuffers.make(
            split, tokens=t, heads=h, kv_heads=k, d=d, device=str(keys.device)
        )
        self.plan.launch(
            path, attend, q, keys, values, attended, self.places.lengths, split, buffers,
            key_tiles=described_cache(keys, split), value_tiles=described_cache(values, split),
            sinks=layer.core.sinks, pdl=self.plan.pdl,
        )  # fmt: skip
