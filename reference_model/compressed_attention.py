"""Attention to a window and compressed entries in plain PyTorch: CSA and HCA of DeepSeek-V4.

Shapes: B sequences, T new tokens, L tokens of the window (all slots in static decode), E entries
(all slots in static decode), D hidden, H heads of d, r rotated elements, g groups of heads, u width
of a group's result. Source: DeepSeek-V4, transformers 5.24 (`modeling_deepseek_v4`), which rotates
the last r elements of a head in pairs of neighbours; here the first r, in halves, as elsewhere.
"""

import torch
from torch import Tensor, nn

from costmodel.layers.compressed_attention import CompressedAttention
from reference_model.cache import MASKED, Cache, Room
from reference_model.compressor import Compress, CompressedCache, Entries, new_entries, unseen
from reference_model.entry_choice import EntrySelect, IndexKey
from reference_model.layers import Linear
from reference_model.leaf import Factory, Leaf, rms_norm
from reference_model.mla import LatentNorm
from reference_model.registry import runs
from reference_model.rotary import angles, rotate
from reference_model.sdpa import Choice, attend, attend_to_chosen, visible


class SharedRope(Leaf):
    """Norm of the queries, rotation of them and of the one vector, and the cache write."""

    def __init__(self, rotated: int, *, normed: bool) -> None:
        super().__init__()
        self.rotated, self.normed = rotated, normed

    def forward(self, q: Tensor, vector: Tensor, cache: Cache, index: int) -> tuple[Tensor, Tensor]:
        """Queries [B, T, H, d], vectors [B, T, d] to [B, H, T, d] and those held [B, 1, L, d]."""
        turn = angles(cache.positions(q.shape[1]), self.rotated)
        q = rotate(rms_norm(q, None) if self.normed else q, *turn).transpose(1, 2)
        held, _ = cache.store(index, rotate(vector[:, :, None], *turn).transpose(1, 2), None)
        return q, held


class QueryRope(Leaf):
    """Rotation of queries or results [B, T, H, d] by their positions, or back."""

    def __init__(self, rotated: int, *, back: bool) -> None:
        super().__init__()
        self.rotated, self.back = rotated, back

    def forward(self, x: Tensor, positions: Tensor) -> Tensor:
        """[B, T, H, d] to [B, T, H, d]."""
        cos, sin = angles(positions, self.rotated)
        return rotate(x, cos, -sin if self.back else sin)


class SharedCore(Leaf):
    """Scores, softmax with sinks, and weighted vectors, of the window and of entries."""

    sinks: nn.Parameter

    def __init__(self, factory: Factory, config: CompressedAttention) -> None:
        super().__init__()
        self.window, self.scale = config.sliding_window, config.head_dim**-0.5
        self.register("sinks", factory.filled(config.num_attention_heads, value=0.0), "attention")

    def forward(
        self,
        q: Tensor,
        held: Tensor,
        mask: Tensor | None,
        entries: tuple[Tensor, Tensor] | None,
        choice: Choice | None,
    ) -> Tensor:
        """Attend to the window and the entries.

        Args:
            q: [B, H, T, d].
            held: The vectors of tokens, [B, 1, L, d].
            mask: Additive [1, 1, 1, L], of static decode; None: causal, and the window.
            entries: [B, E, d], and an additive mask of them, [1, 1, T, E].
            choice: The entries of each query, [B, T, n], and a mask of that shape; None: all.

        Returns:
            [B, T, H, d].
        """
        sinks = self.sinks
        if entries is None:
            out = attend(
                q, held, held, scale=self.scale, window=self.window, mask=mask, sinks=sinks
            )
            return out.transpose(1, 2)
        vectors = torch.cat([held, entries[0][:, None]], dim=2)
        near = self._near(q.shape[2], held) if mask is None else mask
        near = near.expand(1, 1, q.shape[2], -1)
        if choice is None:
            mask = torch.cat([near, entries[1].to(near.dtype)], dim=-1)
            out = attend(q, vectors, vectors, scale=self.scale, mask=mask, sinks=sinks)
            return out.transpose(1, 2)
        chosen, shut = choice
        shape = *chosen.shape[:2], -1
        window = torch.arange(held.shape[2], device=q.device).expand(shape)
        tokens = torch.cat([window, held.shape[2] + chosen], dim=-1)
        hidden = torch.cat([near[0].expand(shape), shut.to(near.dtype)], dim=-1)
        out = attend_to_chosen(q, vectors, vectors, (tokens, hidden), scale=self.scale, sinks=sinks)
        return out.transpose(1, 2)

    def _near(self, new: int, held: Tensor) -> Tensor:
        """The additive mask [1, 1, T, L] of what is not in a query's window."""
        if new == 1:  # only what is in reach is held
            return torch.zeros(1, 1, 1, held.shape[2], device=held.device, dtype=held.dtype)
        seen = visible(new, held.shape[2], self.window, held.device)
        mask = torch.zeros(seen.shape, device=held.device, dtype=held.dtype)
        return mask.masked_fill_(~seen, MASKED)[None, None]


class GroupedLinear(Leaf):
    """A matrix of its own for each group of heads."""

    weight: nn.Parameter

    def __init__(self, factory: Factory, groups: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.groups_of_heads = groups
        self.register("weight", factory.normal(groups * outputs, inputs), "attention")

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, H, d] to [B, T, g u]."""
        weight = self.weight.unflatten(0, (self.groups_of_heads, -1))
        groups = x.flatten(2).unflatten(2, (self.groups_of_heads, -1))
        return torch.einsum("btgi,goi->btgo", groups, weight).flatten(2)


@runs(CompressedAttention)
class CompressedLayer(nn.Module):
    """One layer of attention to a window and to entries, of its own or of another layer.

    Attributes:
        source: The layer whose entries are read; None: its own.
        lends: Whether later layers read its entries.
    """

    source: int | None = None
    lends: bool = False

    def __init__(self, factory: Factory, config: CompressedAttention) -> None:
        super().__init__()
        self.config = config
        hidden, q, d = factory.hidden_size, config.q_lora_rank, config.head_dim
        heads, groups, rotated = (
            config.num_attention_heads,
            config.o_groups,
            config.qk_rope_head_dim,
        )
        self.qkv_down = Linear(factory, hidden, q + d, "attention")
        self.latent_norm = LatentNorm(factory, d, q)
        if (sizes := config.compressor) is not None:
            width = (1 + sizes.gated) * sizes.series * sizes.width
            self.compress_in = Linear(factory, hidden, width, "attention")
            self.compress = Compress(factory, sizes)
        if (keys := config.index_compressor) is not None:
            width = (1 + keys.gated) * keys.series * keys.width
            self.index_compress_in = Linear(factory, hidden, width, "attention")
            self.index_compress = Compress(factory, keys)
        if (choice := config.choice) is not None:
            if config.keys_of_entries and config.compressor is not None:
                self.index_key = IndexKey(factory, d, choice)
            indexer = choice.indexer
            self.index_query = Linear(factory, q, indexer.heads * indexer.head_dim, "attention")
            self.index_weights = Linear(factory, hidden, indexer.heads, "attention")
            self.index_rope = QueryRope(rotated, back=False)
            self.index_select = EntrySelect(choice)
        self.q_up = Linear(factory, q, heads * d, "attention")
        self.rope = SharedRope(rotated, normed=config.query_norm)
        self.core = SharedCore(factory, config)
        self.unrope = QueryRope(rotated, back=True)
        self.output_down = GroupedLinear(factory, groups, heads * d // groups, config.o_lora_rank)
        self.output = Linear(factory, groups * config.o_lora_rank, hidden, "attention")

    def new_cache(self, room: Room) -> CompressedCache:
        """Vectors [B, 1, C, d] of the window, entries, and the tokens that wait for theirs."""
        config = self.config
        window = config.sliding_window
        slots = room.capacity if window is None else min(window, room.capacity)
        compressors = (config.compressor, config.index_compressor)
        entries = [new_entries(sizes, room) for sizes in compressors if sizes is not None]
        if config.keys_of_entries and entries and config.index_head_dim is not None:
            keys = room.zeros(entries[0].held.shape[1], config.index_head_dim)
            entries.append(Entries(ratio=entries[0].ratio, held=keys))
        rings = [ring for one in entries for ring in (one.values, one.gates) if ring is not None]
        return CompressedCache(
            keys=room.zeros(1, slots, config.head_dim),
            values=None,
            window=window,
            states=rings,
            entries=entries,
        )

    def forward(self, x: Tensor, cache: Cache, index: int) -> Tensor:
        """[B, T, D] to [B, T, D]."""
        config = self.config
        q, vector = self.qkv_down(x).split([config.q_lora_rank, config.head_dim], dim=-1)
        vector, q = self.latent_norm(vector, q)
        entries, choice = self._entries(x, q, cache, index)
        heads = self.q_up(q).unflatten(-1, (config.num_attention_heads, -1))
        heads, held = self.rope(heads, vector, cache, index)
        mixed = self.core(heads, held, cache.mask_of(index), entries, choice)
        mixed = self.unrope(mixed, cache.positions(x.shape[1]))
        out: Tensor = self.output(self.output_down(mixed))
        return out

    def _entries(
        self, x: Tensor, query: Tensor, cache: Cache, index: int
    ) -> tuple[tuple[Tensor, Tensor] | None, Choice | None]:
        """The entries with the mask of those that are not whole, and what is chosen of them."""
        ratio, source = self.config.compress_ratio, index if self.source is None else self.source
        if ratio is None:
            return None, None
        if self.source is None:
            cache.shared[index] = self._made(x, cache, index)
        made, keys = cache.shared[source]
        if not self.lends:
            cache.shared.pop(index, None)
        positions = cache.positions(x.shape[1])
        mask = unseen(positions, made, ratio)
        if self.config.choice is not None:
            heads = self.config.choice.indexer.heads
            scored = self.index_query(query).unflatten(-1, (heads, -1))
            scored = self.index_rope(scored, positions)
            blocks = self.config.choice.blocks
            within = cache.candidates[source] if self.source is not None and blocks else None
            cache.choice, found = self.index_select(
                scored, keys, self.index_weights(x), mask, within
            )
            if self.config.choice.chooses_blocks:
                cache.candidates[index] = found
        return (made, mask), None if self.config.index_topk is None else cache.choice

    def _made(self, x: Tensor, cache: Cache, index: int) -> tuple[Tensor, Tensor]:
        """Its entries [B, E, d] and an indexer's keys of them [B, E, di]; else entries twice."""
        layer, config = cache.layers[index], self.config
        assert isinstance(layer, CompressedCache)
        made, fresh = self.compress(self.compress_in(x), cache, layer.entries[0])
        if config.choice is None:
            return made, made
        if config.keys_of_entries:
            return made, self.index_key(fresh, layer.entries[1])
        keys, _ = self.index_compress(self.index_compress_in(x), cache, layer.entries[1])
        return made, keys
