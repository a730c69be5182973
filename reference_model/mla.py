"""Multi-head latent attention over a cache of latents, absorbed or expanded.

Leaves: qkv_down, latent_norm, (q_up,) rope, k_up, v_up, core, output. `k_up` and `v_up` serve both
modes with the same weights, as in the cost model. Letters: H heads, c latent, r rotary, p and v the
head sizes without position and of values.
"""

from typing import Any, Literal

import torch
from torch import Tensor, nn

from costmodel.inputs.workload import Mla
from costmodel.layers.mla import LatentAttention
from reference_model.cache import Cache, LayerCache, Room
from reference_model.layers import Linear
from reference_model.leaf import Factory, Leaf, rms_norm
from reference_model.registry import runs
from reference_model.rotary import angles, rotate
from reference_model.sdpa import attend


class LatentNorm(Leaf):
    """RMSNorm of the latent, and of the compressed query."""

    kv_norm: nn.Parameter
    q_norm: nn.Parameter  # where the query is compressed

    def __init__(self, factory: Factory, config: LatentAttention) -> None:
        super().__init__()
        self.register("kv_norm", factory.filled(config.kv_lora_rank, value=1.0), "norm")
        if config.q_lora_rank is not None:
            self.register("q_norm", factory.filled(config.q_lora_rank, value=1.0), "norm")

    def forward(self, latent: Tensor, query: Tensor) -> tuple[Tensor, Tensor]:
        """Normalise [..., c] and, if it is compressed, the query."""
        if "q_norm" in self.groups:
            query = rms_norm(query, self.q_norm)
        return rms_norm(latent, self.kv_norm), query


class LatentRope(Leaf):
    """Rotary embedding of the query parts and the one key, and the cache write."""

    def forward(
        self, q_rope: Tensor, k_rope: Tensor, latent: Tensor, cache: Cache, index: int
    ) -> tuple[Tensor, Tensor]:
        """[B, T, H, r], [B, T, r] and [B, T, c] to queries [B, H, T, r], cache [B, L, c + r]."""
        cos, sin = angles(cache.positions(q_rope.shape[1]), k_rope.shape[-1])
        q_rope, k_rope = rotate(q_rope, cos, sin), rotate(k_rope[:, :, None], cos, sin)[:, :, 0]
        held, _ = cache.store(index, torch.cat([latent, k_rope], dim=-1)[:, None], None)
        return q_rope.transpose(1, 2), held[:, 0]


class Up(Leaf):
    """Per head a matrix [x, c]: latents up to x, or x down into the latent space."""

    weight: nn.Parameter

    def __init__(self, factory: Factory, heads: int, size: int, latent: int) -> None:
        super().__init__()
        self.register("weight", factory.normal(heads, size, latent), "attention")

    def forward(self, x: Tensor, *, into: Literal["heads", "latent", "stream"]) -> Tensor:
        """Multiply by the weight of each head.

        `heads`: latents [B, L, c] to [B, H, L, x]; `latent`: queries [B, H, T, x] to [B, H, T, c];
        `stream`: results [B, H, T, c] to [B, T, H x].
        """
        if into == "heads":
            return torch.einsum("blc,hxc->bhlx", x, self.weight)
        if into == "latent":
            return torch.einsum("bhtx,hxc->bhtc", x, self.weight)
        return torch.einsum("bhtc,hxc->bthx", x, self.weight).flatten(2)


class LatentCore(Leaf):
    """Scores, softmax and weighted values of queries in two parts: without position and rotary."""

    def absorbed(
        self, q: Tensor, q_rope: Tensor, held: Tensor, scale: float, mask: Tensor | None
    ) -> Tensor:
        """Queries [B, H, T, c] and [B, H, T, r] over the cache [B, L, c + r]: [B, H, T, c]."""
        values = held[:, None, :, : q.shape[-1]]
        return attend(torch.cat([q, q_rope], -1), held[:, None], values, scale=scale, mask=mask)

    def expanded(
        self,
        q: tuple[Tensor, Tensor],
        keys: tuple[Tensor, Tensor],
        values: Tensor,
        scale: float,
        mask: Tensor | None,
    ) -> Tensor:
        """Queries [B, H, T, p], [B, H, T, r], keys [B, H, L, p], [B, L, r], values: [B, T, H v]."""
        own, rope = keys
        shared = rope[:, None].expand(-1, own.shape[1], -1, -1)
        k = torch.cat([own, shared], dim=-1)
        out = attend(torch.cat(q, dim=-1), k, values, scale=scale, mask=mask)
        return out.transpose(1, 2).flatten(2)

    def forward(self, *inputs: Any, mode: Literal["absorbed", "expanded"]) -> Tensor:  # noqa: ANN401
        """One of the two, as its mode says."""
        return self.absorbed(*inputs) if mode == "absorbed" else self.expanded(*inputs)


@runs(LatentAttention)
class LatentLayer(nn.Module):
    """MLA; `mode` is set by the step that runs."""

    mode: Mla = "absorbed"

    def __init__(self, factory: Factory, config: LatentAttention) -> None:
        super().__init__()
        self.config = c = config
        h, latent, r = c.num_attention_heads, c.kv_lora_rank, c.qk_rope_head_dim
        q_width = h * (c.qk_nope_head_dim + r)
        self.q_first = c.q_lora_rank or q_width
        self.qkv_down = Linear(
            factory,
            factory.hidden_size,
            self.q_first + latent + r,
            "attention",
            bias=c.attention_bias,
        )
        self.latent_norm = LatentNorm(factory, c)
        if c.q_lora_rank is not None:
            self.q_up = Linear(factory, c.q_lora_rank, q_width, "attention")
        self.rope = LatentRope()
        self.k_up = Up(factory, h, c.qk_nope_head_dim, latent)
        self.v_up = Up(factory, h, c.v_head_dim, latent)
        self.core = LatentCore()
        self.output = Linear(
            factory, h * c.v_head_dim, factory.hidden_size, "attention", bias=c.output_bias
        )

    def new_cache(self, room: Room) -> LayerCache:
        """Latents and rotary keys [B, 1, C, c + r], for all heads."""
        width = self.config.kv_lora_rank + self.config.qk_rope_head_dim
        return LayerCache(keys=room.zeros(1, room.capacity, width), values=None, window=None)

    def forward(self, x: Tensor, cache: Cache, index: int) -> Tensor:
        """[B, T, D] to [B, T, D]."""
        c = self.config
        p, r = c.qk_nope_head_dim, c.qk_rope_head_dim
        q, latent, k_rope = self.qkv_down(x).split([self.q_first, c.kv_lora_rank, r], dim=-1)
        latent, q = self.latent_norm(latent, q)
        if c.q_lora_rank is not None:
            q = self.q_up(q)
        q_nope, q_rope = q.unflatten(-1, (c.num_attention_heads, p + r)).split([p, r], dim=-1)
        q_rope, held = self.rope(q_rope, k_rope, latent, cache, index)
        mask = cache.masks.get(held.shape[1]) if cache.position is not None else None
        q_nope, scale = q_nope.transpose(1, 2), (p + r) ** -0.5
        if self.mode == "absorbed":
            q_nope = self.k_up(q_nope, into="latent")
            mixed = self.core(q_nope, q_rope, held, scale, mask, mode=self.mode)
            out = self.v_up(mixed, into="stream")
        else:
            latents, rope = held.split([c.kv_lora_rank, r], dim=-1)
            keys, values = self.k_up(latents, into="heads"), self.v_up(latents, into="heads")
            pairs = (q_nope, q_rope), (keys, rope)
            out = self.core(*pairs, values, scale, mask, mode=self.mode)
        result: Tensor = self.output(out)
        return result
