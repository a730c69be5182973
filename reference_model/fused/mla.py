"""Latent attention of a decode step, absorbed: five launches, and two more for compressed queries.

The down projection; a norm and an up projection, where queries are compressed; queries and the
cache entry (`kernels/latent_query.py`: rotation and absorption, and the latent's norm where no
other kernel took it); the core; values and the join of its slices; the output. Of one token the
norm before attention is part of the down projection, and the output product adds to the residual
stream.
"""

from dataclasses import dataclass

from torch import Tensor

from reference_model.cache import LayerCache
from reference_model.fused.attention import Places
from reference_model.fused.plan import Plan, region
from reference_model.fused.products import launch_product
from reference_model.kernels.latent_attention import LatentResults, LatentTiles, attend_latents
from reference_model.kernels.latent_norm import latent_norms
from reference_model.kernels.latent_query import latent_query
from reference_model.kernels.latent_split import latent_split
from reference_model.kernels.latent_values import latent_values
from reference_model.layers import Norm
from reference_model.leaf import NORM_EPS
from reference_model.mla import LatentLayer


@dataclass(frozen=True, slots=True)
class Projected:
    """What the projections leave for `latent_query`, and which leaves it does.

    Attributes:
        query: [T, H (p + r)]; its rows may be parts of wider ones, as those of the others.
        latent: [T, c].
        key: [T, r].
        gamma: The weight of the latent's norm; None: the norm has been taken.
        leaves: Of the attention layer.
    """

    query: Tensor
    latent: Tensor
    key: Tensor
    gamma: Tensor | None
    leaves: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LatentPlan:
    """Puts the launches of latent attention into a plan."""

    plan: Plan
    places: Places

    def add(
        self, prefix: str, norm: Norm, layer: LatentLayer, cache: LayerCache, *, waits: bool
    ) -> None:
        """The launches of one layer; `prefix` is "layers.3.".

        The result waits to be added to the stream if the next kernel `waits` for it.
        """
        plan, config = self.plan, layer.config
        t, h, c = plan.tokens, config.num_attention_heads, config.kv_lora_rank
        projected = self._projected(prefix, norm, layer)
        q = plan.shared_room("latent_query", t, h, c + config.qk_rope_head_dim)
        self._query(region(prefix, *projected.leaves), layer, cache, projected, q)
        out = plan.shared_room("latent_out", t, h * config.v_head_dim)
        self._core(prefix + "attention.", layer, cache, q, out)
        launch_product(plan, prefix + "attention.output", out, layer.output, None, waits=waits)

    def _projected(self, prefix: str, norm: Norm, layer: LatentLayer) -> Projected:
        """The down projection, and what compressed queries need."""
        plan, config = self.plan, layer.config
        c, r = config.kv_lora_rank, config.qk_rope_head_dim
        down = plan.shared_room("latent_down", plan.tokens, layer.q_first + c + r)
        if plan.single:
            path = region(prefix, "attention_norm", "attention.qkv_down")
            launch_product(plan, path, plan.stream, layer.qkv_down, down, gamma=norm.weight)
        else:
            plan.launch_norm(prefix + "attention_norm", norm)
            launch_product(plan, prefix + "attention.qkv_down", plan.normed, layer.qkv_down, down)
        query, latent, key = down.split([layer.q_first, c, r], dim=-1)
        norms, after = layer.latent_norm, ("attention.rope", "attention.k_up")
        if config.q_lora_rank is None:
            leaves = ("attention.latent_norm", *after)
            return Projected(query, latent, key, norms.kv_norm, leaves)
        compressed = plan.shared_room("compressed_query", plan.tokens, config.q_lora_rank)
        normed = plan.shared_room("normed_latent", plan.tokens, c)
        plan.launch(
            prefix + "attention.latent_norm", latent_norms, query, latent, compressed, normed,
            query_gamma=norms.q_norm, latent_gamma=norms.kv_norm, eps=NORM_EPS, pdl=plan.pdl,
        )  # fmt: skip
        query = plan.shared_room("query", plan.tokens, layer.q_up.weight.shape[0])
        launch_product(plan, prefix + "attention.q_up", compressed, layer.q_up, query)
        return Projected(query, normed, key, None, after)

    def _query(
        self, path: str, layer: LatentLayer, cache: LayerCache, projected: Projected, q: Tensor
    ) -> None:
        cos, sin = self.places.turn(layer.config.qk_rope_head_dim)
        self.plan.launch(
            path, latent_query, projected.query, projected.latent, projected.key,
            layer.k_up.weight, q, cache.keys, cos=cos, sin=sin, positions=self.places.positions,
            slots=self.places.slots[cache.slots], gamma=projected.gamma, eps=NORM_EPS,
            pdl=self.plan.pdl,
        )  # fmt: skip

    def _core(
        self, prefix: str, layer: LatentLayer, cache: LayerCache, q: Tensor, out: Tensor
    ) -> None:
        plan, config = self.plan, layer.config
        t, h, _ = q.shape
        c = config.kv_lora_rank
        split = latent_split(t, h, cache.slots)
        results = LatentResults.make(split, tokens=t, heads=h, c=c, like=q)
        tiles = LatentTiles.of(cache.keys, c, split)
        scale = (config.qk_nope_head_dim + config.qk_rope_head_dim) ** -0.5
        plan.launch(
            prefix + "core", attend_latents, q, cache.keys, tiles, results, self.places.lengths,
            split, scale=scale, pdl=plan.pdl,
        )  # fmt: skip
        plan.launch(prefix + "v_up", latent_values, results, layer.v_up.weight, out, pdl=plan.pdl)
