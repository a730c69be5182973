"""Multi-head, grouped-query (GQA) and multi-query attention: qkv, rope, core, (gate), output.

Shapes: B sequences, T new tokens, L tokens that they attend to, D hidden, H query heads,
K key-value heads, d head size, C cache slots.
"""

from torch import Tensor, nn

from costmodel.layers.attention import Attention
from reference_model.cache import Cache, LayerCache, Room
from reference_model.layers import Linear
from reference_model.leaf import NORM_EPS, Factory, Leaf, rms_norm
from reference_model.registry import runs
from reference_model.rotary import angles, growth, rotate
from reference_model.sdpa import attend


class Rope(Leaf):
    """QK-norm and rotary embedding of queries and keys, and the cache write."""

    q_norm: nn.Parameter  # both where there is QK-norm
    k_norm: nn.Parameter

    def __init__(self, factory: Factory, config: Attention) -> None:
        super().__init__()
        self.config = config
        h, k, d = config.num_attention_heads, config.num_key_value_heads, config.head_dim
        self.rotary_dim = d if config.rotary_dim is None else config.rotary_dim
        if config.qk_norm in ("head", "full"):
            wide = config.qk_norm == "full"
            self.register("q_norm", factory.filled(h * d if wide else d, value=1.0), "norm")
            self.register("k_norm", factory.filled(k * d if wide else d, value=1.0), "norm")

    def forward(self, qkv: Tensor, cache: Cache, index: int) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of the new tokens to those of the attention core.

        Args:
            qkv: [B, T, (H + 2 K) d].
            cache: The caches of all layers; gets the new keys and values.
            index: The layer.

        Returns:
            Queries [B, H, T, d], and the keys and values [B, K, L, d] to attend to.
        """
        c = self.config
        batch, new, _ = qkv.shape
        h, k, d = c.num_attention_heads, c.num_key_value_heads, c.head_dim
        q, key, value = qkv.split([h * d, k * d, k * d], dim=-1)
        if c.qk_norm == "full":
            q, key = rms_norm(q, self.q_norm), rms_norm(key, self.k_norm)
        q, key = q.reshape(batch, new, h, d), key.reshape(batch, new, k, d)
        if c.qk_norm == "head":
            q, key = rms_norm(q, self.q_norm), rms_norm(key, self.k_norm)
        elif c.qk_norm == "head_unweighted":
            q, key = (nn.functional.rms_norm(x, (d,), eps=NORM_EPS) for x in (q, key))
        if self.rotary_dim:
            cos, sin = angles(cache.positions(new), self.rotary_dim)
            q, key = rotate(q, cos, sin), rotate(key, cos, sin)
        if c.floor_scale is not None:
            q = q * growth(cache.positions(new), c.floor_scale)[:, None, None].to(q.dtype)
        value = value.reshape(batch, new, k, d)
        keys, values = cache.store(index, key.transpose(1, 2), value.transpose(1, 2))
        assert values is not None
        return q.transpose(1, 2), keys, values


class Core(Leaf):
    """Scores, softmax and weighted values."""

    sinks: nn.Parameter | None

    def __init__(self, factory: Factory, config: Attention) -> None:
        super().__init__()
        self.window, self.scale = config.sliding_window, config.head_dim**-0.5
        self.chunk = config.attention_chunk_size
        self.softcap = config.softcap
        if not config.sinks:
            self.sinks = None
        else:
            self.register(
                "sinks", factory.filled(config.num_attention_heads, value=0.0), "attention"
            )

    def forward(self, q: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
        """Queries [B, H, T, d] over keys and values [B, K, L, d] to [B, T, H d]."""
        out = attend(
            q,
            keys,
            values,
            scale=self.scale,
            window=self.window,
            chunk=self.chunk,
            mask=mask,
            sinks=self.sinks,
            softcap=self.softcap,
        )
        return out.transpose(1, 2).flatten(2)


class OutputGate(Leaf):
    """The result of attention times the sigmoid of a gate."""

    def forward(self, x: Tensor, gate: Tensor) -> Tensor:
        """Both [B, T, H d] to [B, T, H d]."""
        return x * gate.sigmoid()


@runs(Attention)
class AttentionLayer(nn.Module):
    """One attention layer: projection, rotary embedding, core, (gate), output projection."""

    def __init__(self, factory: Factory, config: Attention) -> None:
        super().__init__()
        self.config = config
        h, k, d = config.num_attention_heads, config.num_key_value_heads, config.head_dim
        width = factory.hidden_size
        self.gate_width = h * d if config.output_gate else 0
        outputs = (h + 2 * k) * d + self.gate_width
        self.qkv = Linear(factory, width, outputs, "attention", bias=config.attention_bias)
        self.rope = Rope(factory, config)
        self.core = Core(factory, config)
        if config.output_gate:
            self.gate = OutputGate()
        self.output = Linear(factory, h * d, width, "attention", bias=config.output_bias)

    def new_cache(self, room: Room) -> LayerCache:
        """Empty keys and values [B, K, C, d]; with a window or chunks of W at most W slots."""
        chunk = self.config.attention_chunk_size
        window = self.config.sliding_window or chunk
        slots = room.capacity if window is None else min(window, room.capacity)
        shape = self.config.num_key_value_heads, slots, self.config.head_dim
        keys, values = room.zeros(*shape), room.zeros(*shape)
        return LayerCache(keys=keys, values=values, window=window, in_chunks=chunk is not None)

    def forward(self, x: Tensor, cache: Cache, index: int) -> Tensor:
        """[B, T, D] to [B, T, D]."""
        qkv = self.qkv(x)  # the gates stand first
        q, keys, values = self.rope(qkv[..., self.gate_width :], cache, index)
        mixed = self.core(q, keys, values, cache.mask_of(index))
        if self.gate_width:
            mixed = self.gate(mixed, qkv[..., : self.gate_width])
        out: Tensor = self.output(mixed)
        return out
