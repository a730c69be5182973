"""Multi-head latent attention (MLA): the cache holds one latent a token, not keys and values.

Keys and values of every head are linear functions of the latent, by the weights `k_up` and `v_up`.

- Expanded (as in prefill): rebuild keys and values of all heads from the latents, then attend.
- Absorbed (as in decode): q (W latent) = (q W) latent, so map the query into the latent space by
  `k_up`, attend over the latents themselves, and map the result out of it by `v_up`. No key or
  value is ever rebuilt; the cache is read once for all heads.

Leaves in order: qkv_down, latent_norm, (q_up,) rope, k_up, v_up, core, output; the same in both
modes, with the same weights.
Letters: B sequences, T new tokens, L tokens attended to, H heads, c width of the latent, r of the
rotary part of a head, p of its part without position, v of a value.
Source: DeepSeek-V2, arXiv 2405.04434, section 2.1.
"""

from typing import Any, Literal

import torch
from torch import Tensor, nn

from costmodel.inputs.workload import Mla
from costmodel.layers.indexer import Indexer
from costmodel.layers.mla import LatentAttention
from reference_model.cache import Cache, LayerCache, Room
from reference_model.indexer import IndexRope, IndexSelect
from reference_model.layers import Linear
from reference_model.leaf import Factory, Leaf, rms_norm
from reference_model.registry import runs
from reference_model.rotary import angles, rotate
from reference_model.sdpa import Choice, attend, attend_to_chosen


class LatentNorm(Leaf):
    """RMSNorm of the latent and, where the query is compressed too, of the query."""

    kv_norm: nn.Parameter
    q_norm: nn.Parameter  # where the query is compressed

    def __init__(self, factory: Factory, latent: int, query: int | None) -> None:
        super().__init__()
        self.register("kv_norm", factory.filled(latent, value=1.0), "norm")
        if query is not None:
            self.register("q_norm", factory.filled(query, value=1.0), "norm")

    def forward(self, latent: Tensor, query: Tensor) -> tuple[Tensor, Tensor]:
        """Latent [..., c] and query [..., q] to both of them normalised."""
        if "q_norm" in self.groups:
            query = rms_norm(query, self.q_norm)
        return rms_norm(latent, self.kv_norm), query


class LatentRope(Leaf):
    """Rotary embedding of the rotary parts of queries and key, and the cache write."""

    def __init__(self, *, rotates: bool) -> None:
        super().__init__()
        self.rotates = rotates

    def forward(
        self, q_rope: Tensor, k_rope: Tensor, latent: Tensor, cache: Cache, index: int
    ) -> tuple[Tensor, Tensor]:
        """Rotate, write latent and rotary key to the cache, and return what to attend to.

        Args:
            q_rope: Rotary parts of the queries, [B, T, H, r].
            k_rope: The rotary key that all heads share, [B, T, r].
            latent: [B, T, c].
            cache: The caches of all layers.
            index: The layer.

        Returns:
            Rotated queries [B, H, T, r], and latents with rotary keys [B, L, c + r].
        """
        if self.rotates:
            cos, sin = angles(cache.positions(q_rope.shape[1]), k_rope.shape[-1])
            q_rope, k_rope = rotate(q_rope, cos, sin), rotate(k_rope[:, :, None], cos, sin)[:, :, 0]
        held, _ = cache.store(index, torch.cat([latent, k_rope], dim=-1)[:, None], None)
        return q_rope.transpose(1, 2), held[:, 0]


class Up(Leaf):
    """A matrix [x, c] for each head: from the latent space into the head, or back."""

    weight: nn.Parameter

    def __init__(self, factory: Factory, heads: int, size: int, latent: int) -> None:
        super().__init__()
        self.register("weight", factory.normal(heads, size, latent), "attention")

    def forward(self, x: Tensor, *, into: Literal["heads", "latent", "stream"]) -> Tensor:
        """Multiply by the matrix of each head.

        `into` says in which direction:

        - `heads` (expanded): latents [B, L, c] to keys or values [B, H, L, x];
        - `latent` (absorbed): queries [B, H, T, x] to [B, H, T, c];
        - `stream` (absorbed): attended latents [B, H, T, c] to [B, T, H x].
        """
        if into == "heads":
            return torch.einsum("blc,hxc->bhlx", x, self.weight)
        if into == "latent":
            return torch.einsum("bhtx,hxc->bhtc", x, self.weight)
        return torch.einsum("bhtc,hxc->bthx", x, self.weight).flatten(2)


class LatentCore(Leaf):
    """Scores, softmax and weighted values; queries and keys have a rotary part and one without."""

    def absorbed(
        self,
        q: Tensor,
        q_rope: Tensor,
        held: Tensor,
        scale: float,
        mask: Tensor | Choice | None,
    ) -> Tensor:
        """Attend over latents, which are keys and values at once: multi-query attention.

        Args:
            q: Queries in the latent space, [B, H, T, c].
            q_rope: Their rotary parts, [B, H, T, r].
            held: Latents with rotary keys, [B, L, c + r].
            scale: Of the scores.
            mask: Additive, of static decode; or what an indexer chose.

        Returns:
            [B, H, T, c], still in the latent space.
        """
        width, q, k = q.shape[-1], torch.cat([q, q_rope], -1), held[:, None]
        return _attend(q, k, k[..., :width], scale, mask)

    def expanded(
        self,
        q: tuple[Tensor, Tensor],
        keys: tuple[Tensor, Tensor],
        values: Tensor,
        scale: float,
        mask: Tensor | Choice | None,
    ) -> Tensor:
        """Attend over rebuilt keys and values: multi-head attention.

        Args:
            q: Queries without position [B, H, T, p], and their rotary parts [B, H, T, r].
            keys: Keys without position [B, H, L, p], and the rotary key of all heads [B, L, r].
            values: [B, H, L, v].
            scale: Of the scores.
            mask: Additive, of static decode; or what an indexer chose.

        Returns:
            [B, T, H v].
        """
        k_nope, k_rope = keys
        k_rope = k_rope[:, None].expand(-1, k_nope.shape[1], -1, -1)
        k = torch.cat([k_nope, k_rope], dim=-1)
        out = _attend(torch.cat(q, dim=-1), k, values, scale, mask)
        return out.transpose(1, 2).flatten(2)

    def forward(self, *inputs: Any, mode: Literal["absorbed", "expanded"]) -> Tensor:  # noqa: ANN401
        """`absorbed` or `expanded`, with the arguments of that method."""
        return self.absorbed(*inputs) if mode == "absorbed" else self.expanded(*inputs)


def _attend(q: Tensor, k: Tensor, v: Tensor, scale: float, mask: Tensor | Choice | None) -> Tensor:
    """To the tokens that an indexer chose, or to all that the mask shows."""
    if isinstance(mask, tuple):
        return attend_to_chosen(q, k, v, mask, scale=scale)
    return attend(q, k, v, scale=scale, mask=mask)


@runs(LatentAttention)
class LatentLayer(nn.Module):
    """One layer of latent attention; `ReferenceModel.set_mla` sets its mode."""

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
        self.latent_norm = LatentNorm(factory, c.kv_lora_rank, c.q_lora_rank)
        if c.q_lora_rank is not None:
            self.q_up = Linear(factory, c.q_lora_rank, q_width, "attention")
        self.indexer = c.indexer
        if self.indexer is not None:
            self._add_indexer(factory, self.indexer)
        self.rope = LatentRope(rotates=not c.mla_use_nope)
        self.k_up = Up(factory, h, c.qk_nope_head_dim, latent)
        self.v_up = Up(factory, h, c.v_head_dim, latent)
        self.core = LatentCore()
        self.output = Linear(
            factory, h * c.v_head_dim, factory.hidden_size, "attention", bias=c.output_bias
        )

    def _add_indexer(self, factory: Factory, sizes: Indexer) -> None:
        hidden, width = factory.hidden_size, sizes.heads * sizes.head_dim
        self.index_query = Linear(factory, sizes.query_dim, width, "attention")
        self.index_key = Linear(factory, hidden, sizes.head_dim, "attention")
        self.index_weights = Linear(factory, hidden, sizes.heads, "attention")
        self.index_rope = IndexRope(factory, sizes)
        self.index_select = IndexSelect(sizes.topk)

    def new_cache(self, room: Room) -> LayerCache:
        """Latents and rotary keys [B, 1, C, c + r], which all heads share; an indexer's keys."""
        width = self.config.kv_lora_rank + self.config.qk_rope_head_dim
        side = None
        if self.indexer is not None:
            side = room.zeros(1, room.capacity, self.indexer.head_dim)
        keys = room.zeros(1, room.capacity, width)
        return LayerCache(keys=keys, values=None, window=None, side=side)

    def _choice(self, x: Tensor, query: Tensor, cache: Cache, index: int) -> Choice | None:
        """What this layer's indexer, or the last one before it, chooses; None: all tokens."""
        if self.indexer is not None:
            q = self.index_query(query).unflatten(-1, (self.indexer.heads, -1))
            q, keys = self.index_rope(q, self.index_key(x), cache, index)
            mask = cache.mask_of(index)
            cache.choice = self.index_select(q, keys, self.index_weights(x), mask)
        return None if self.config.index_topk is None else cache.choice

    def forward(self, x: Tensor, cache: Cache, index: int) -> Tensor:
        """[B, T, D] to [B, T, D]."""
        c = self.config
        p, r = c.qk_nope_head_dim, c.qk_rope_head_dim
        q, latent, k_rope = self.qkv_down(x).split([self.q_first, c.kv_lora_rank, r], dim=-1)
        latent, q = self.latent_norm(latent, q)
        choice = self._choice(x, q, cache, index)
        if c.q_lora_rank is not None:
            q = self.q_up(q)
        q_nope, q_rope = q.unflatten(-1, (c.num_attention_heads, p + r)).split([p, r], dim=-1)
        q_rope, held = self.rope(q_rope, k_rope, latent, cache, index)
        mask = cache.mask_of(index) if choice is None else choice
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
