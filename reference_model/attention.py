"""Multi-head, grouped-query (GQA) and multi-query attention: qkv, rope, core, (gate), output.

Shapes: B sequences, T new tokens, L tokens that they attend to, D hidden, H query heads,
K key-value heads, d head size, dv that of values, C cache slots.
"""

from torch import Tensor, nn

from costmodel.layers.attention import Attention
from reference_model.cache import Cache, LayerCache, LayerState, Room
from reference_model.layers import Linear
from reference_model.leaf import NORM_EPS, Factory, Leaf, rms_norm
from reference_model.registry import runs
from reference_model.rotary import angles, growth, rotate
from reference_model.sdpa import Choice, attend, attend_to_chosen


class Rope(Leaf):
    """Norms and rotary embedding of queries and keys, and the cache write."""

    source: int | None = None  # the layer whose keys and values are read; None: its own
    lends: bool = False  # whether a later layer reads its keys and values
    q_norm: nn.Parameter  # where there is QK-norm
    k_norm: nn.Parameter  # ... of a layer with keys of its own

    def __init__(self, factory: Factory, config: Attention) -> None:
        super().__init__()
        self.config = config
        h, k, d = config.num_attention_heads, config.num_key_value_heads, config.head_dim
        self.rotary_dim = config.rotated
        if config.qk_norm in ("head", "full"):
            wide = config.qk_norm == "full"
            self.register("q_norm", factory.filled(h * d if wide else d, value=1.0), "norm")
            if not config.shared_kv:
                self.register("k_norm", factory.filled(k * d if wide else d, value=1.0), "norm")

    def forward(self, qkv: Tensor, cache: Cache, index: int) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of the new tokens to those of the attention core.

        Args:
            qkv: [B, T, H d + K d + K dv]; without values where keys are values, without both where
                they are another layer's.
            cache: The caches of all layers; gets the new keys and values.
            index: The layer.

        Returns:
            Queries [B, H, T, d], the keys [B, K, L, d] to attend to, and their values
            [B, K, L, dv].
        """
        c = self.config
        cos_sin = None
        if self.rotary_dim:
            cos_sin = angles(cache.positions(qkv.shape[1]), self.rotary_dim)
        q, *own = qkv.split(_columns(c), dim=-1)
        q = self._turned(q, "q_norm", cos_sin)
        if c.floor_scale is not None:
            positions = cache.positions(qkv.shape[1])
            q = q * growth(positions, c.floor_scale)[:, None, None].to(q.dtype)
        q = q.transpose(1, 2)
        if self.source is not None:
            return q, *cache.shared[self.source]
        value = own[-1].unflatten(-1, (c.num_key_value_heads, c.value_dim))
        if c.value_norm:
            value = rms_norm(value, None)
        key = self._turned(own[0], "k_norm", cos_sin).transpose(1, 2)
        keys, values = cache.store(index, key, value.transpose(1, 2))
        assert values is not None
        if self.lends:
            cache.shared[index] = keys, values
        return q, keys, values

    def _turned(self, x: Tensor, norm: str, cos_sin: tuple[Tensor, Tensor] | None) -> Tensor:
        """Queries or keys [B, T, H d] to normalised and rotated heads [B, T, H, d]."""
        weight = getattr(self, norm, None)
        if self.config.qk_norm == "full":
            x = rms_norm(x, weight)
        x = x.unflatten(-1, (-1, self.config.head_dim))
        if self.config.qk_norm == "head":
            x = rms_norm(x, weight)
        elif self.config.qk_norm == "head_unweighted":
            x = nn.functional.rms_norm(x, (self.config.head_dim,), eps=NORM_EPS)
        return x if cos_sin is None else rotate(x, *cos_sin)


def _columns(config: Attention) -> list[int]:
    """The widths of queries, keys and values in the projection, of those that it makes."""
    h, k, d = config.num_attention_heads, config.num_key_value_heads, config.head_dim
    if config.shared_kv:
        return [h * d]
    return [h * d, k * d] if config.attention_k_eq_v else [h * d, k * d, k * config.value_dim]


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

    def forward(
        self, q: Tensor, keys: Tensor, values: Tensor, mask: Tensor | Choice | None
    ) -> Tensor:
        """Queries [B, H, T, d] over keys [B, K, L, d] and values [B, K, L, dv] to [B, T, H dv].

        `mask` is that of static decode, or the tokens that an indexer chose.
        """
        if isinstance(mask, tuple):
            out = attend_to_chosen(q, keys, values, mask, scale=self.scale)
            return out.transpose(1, 2).flatten(2)
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
        """Both [B, T, H dv] to [B, T, H dv]."""
        return x * gate.sigmoid()


@runs(Attention)
class AttentionLayer(nn.Module):
    """One attention layer: projection, rotary embedding, core, (gate), output projection."""

    def __init__(self, factory: Factory, config: Attention) -> None:
        super().__init__()
        self.config = config
        width, values = factory.hidden_size, config.num_attention_heads * config.value_dim
        self.gate_width = values if config.output_gate else 0
        outputs = sum(_columns(config)) + self.gate_width
        self.qkv = Linear(factory, width, outputs, "attention", bias=config.attention_bias)
        self.rope = Rope(factory, config)
        self.core = Core(factory, config)
        if config.output_gate:
            self.gate = OutputGate()
        self.output = Linear(factory, values, width, "attention", bias=config.output_bias)

    def new_cache(self, room: Room) -> LayerCache | LayerState:
        """Empty keys [B, K, C, d] and values [B, K, C, dv]; nothing if they are another layer's.

        A layer with a window or chunks of W keeps at most W slots.
        """
        config = self.config
        if config.shared_kv:
            return LayerState(tensors=[])
        chunk = config.attention_chunk_size
        window, heads = config.sliding_window or chunk, config.num_key_value_heads
        slots = room.capacity if window is None else min(window, room.capacity)
        keys, values = (room.zeros(heads, slots, d) for d in (config.head_dim, config.value_dim))
        return LayerCache(keys=keys, values=values, window=window, in_chunks=chunk is not None)

    def forward(self, x: Tensor, cache: Cache, index: int) -> Tensor:
        """[B, T, D] to [B, T, D]."""
        qkv = self.qkv(x)  # the gates stand first
        q, keys, values = self.rope(qkv[..., self.gate_width :], cache, index)
        source = self.rope.source
        mixed = self.core(q, keys, values, cache.mask_of(index if source is None else source))
        if self.gate_width:
            mixed = self.gate(mixed, qkv[..., : self.gate_width])
        out: Tensor = self.output(mixed)
        return out
