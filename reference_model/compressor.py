"""A compressor in plain PyTorch: one entry of each m tokens, and the tokens that wait for theirs.

Shapes: B sequences, T new tokens, w width of an entry, m tokens of an entry, s series (2 where
entries overlap), R = s m tokens of the state, a ring: token t lies in slot t mod R.
Source: DeepSeek-V4, transformers 5.24 (`modeling_deepseek_v4`).
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from costmodel.layers.compressor import Compressor as Sizes
from reference_model.cache import MASKED, Cache, LayerCache, Room
from reference_model.leaf import Factory, Leaf, rms_norm
from reference_model.recurrent import before, state_zeros, to_float
from reference_model.rotary import angles, rotate


@dataclass(kw_only=True)
class Entries:
    """What a compressor keeps of its sequences."""

    ratio: int  # m
    held: Tensor  # [B, E, w]
    values: Tensor | None = None  # of the ring, [B, R, s w]; None: entries are of one token
    gates: Tensor | None = None  # the same in float32, the bias of the position in

    def bytes_of(self, entries: int) -> int:
        """Of so many entries of each sequence."""
        return len(self.held) * entries * self.held.shape[2] * self.held.element_size()


@dataclass(kw_only=True)
class CompressedCache(LayerCache):
    """The vectors of a window, and the entries of one compressor or of two."""

    entries: list[Entries] = field(default_factory=list)

    @property
    def tensors(self) -> list[Tensor]:
        """All that it keeps."""
        return [*self.kv, *(one.held for one in self.entries), *self.states]

    def held_bytes(self, tokens: int) -> int:
        """Bytes of the window, and of an entry of each m tokens."""
        own = super().held_bytes(tokens)
        return own + sum(one.bytes_of(tokens // one.ratio) for one in self.entries)

    @property
    def allocated_bytes(self) -> int:
        """Bytes of all slots, used or not."""
        return super().allocated_bytes + sum(one.held.nbytes for one in self.entries)


def new_entries(sizes: Sizes, room: Room) -> Entries:
    """Room for the entries of `capacity` tokens; a ring whose gates shut tokens that never were."""
    held = room.zeros(room.capacity // sizes.ratio, sizes.width)
    if not sizes.gated:
        return Entries(ratio=sizes.ratio, held=held)
    shape = sizes.pooled, sizes.series * sizes.width
    gates = state_zeros(room, *shape).fill_(MASKED)
    return Entries(ratio=sizes.ratio, held=held, values=room.zeros(*shape), gates=gates)


def unseen(positions: Tensor, entries: Tensor, ratio: int) -> Tensor:
    """The additive mask [1, 1, T, E] of entries that are not whole at the positions [T]."""
    places = torch.arange(entries.shape[1], device=entries.device)
    late = places >= ((positions + 1) // ratio)[:, None]
    mask = torch.zeros(late.shape, device=entries.device, dtype=entries.dtype)
    return mask.masked_fill_(late, MASKED)[None, None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fresh:
    """What a step makes: entries by their numbers; in static decode one, be it whole or not."""

    latents: Tensor  # [B, n, w], before rotation
    numbers: Tensor  # [n]
    first: int  # the first of them, where numbers are of the host
    whole: Tensor | None = None  # [1], of bool, in static decode

    def store(self, made: Tensor, held: Tensor) -> Tensor:
        """Write vectors [B, n, w] of the entries to [B, E, w]; those up to them, in static all."""
        if self.whole is None:
            end = self.first + made.shape[1]
            assert end <= held.shape[1], "the cache is full"
            held[:, self.first : end] = made
            return held[:, :end]
        if held.shape[1]:
            number = self.numbers.clamp(max=held.shape[1] - 1)
            old = held.index_select(1, number)
            held.index_copy_(1, number, torch.where(self.whole, made, old))
        return held


class Compress(Leaf):
    """Gates with the bias of their position, softmax, mean, norm, rotation and the cache write."""

    position_bias: nn.Parameter  # where there is one
    norm: nn.Parameter

    def __init__(self, factory: Factory, sizes: Sizes) -> None:
        super().__init__()
        self.sizes = sizes
        if sizes.gated and sizes.position_bias:
            bias = factory.normal(sizes.ratio, sizes.series * sizes.width)
            self.register("position_bias", bias, "attention")
        self.register("norm", factory.filled(sizes.width, value=1.0), "norm")

    def forward(self, projected: Tensor, cache: Cache, entries: Entries) -> tuple[Tensor, Fresh]:
        """Values and gates [B, T, 2 s w] of the new tokens to the entries [B, E, w] up to them.

        In static decode all slots are returned, those of later entries among them. Beside them:
        what the step makes.
        """
        if self.sizes.gated:
            values, gates = projected.chunk(2, dim=-1)
            gates = to_float(gates)
            positions = cache.positions(values.shape[1])
            if self.sizes.position_bias:
                gates = gates + self.position_bias.index_select(0, positions % self.sizes.ratio)
            if cache.position is None:
                fresh = self._growing(values, gates, cache.length, entries)
            else:
                fresh = self._static(values, gates, cache.position, entries)
        else:
            fresh = Fresh(
                latents=rms_norm(projected, self.norm),
                numbers=cache.positions(projected.shape[1]),
                first=cache.length,
                whole=None if cache.position is None else cache.position >= 0,
            )
        made = rotated_entries(fresh.latents, fresh, self.sizes.ratio, self.sizes.rotated)
        return fresh.store(made, entries.held), fresh

    def _mean(self, values: Tensor, gates: Tensor) -> Tensor:
        """Tokens of each entry [B, n, R, w] to their normalised means [B, n, w]."""
        return rms_norm((gates.softmax(dim=2).to(values.dtype) * values).sum(dim=2), self.norm)

    def _growing(self, values: Tensor, gates: Tensor, length: int, entries: Entries) -> Fresh:
        """Join what waits in the ring and the new tokens, and make what is whole of them."""
        assert entries.values is not None
        assert entries.gates is not None
        m, s, ring = self.sizes.ratio, self.sizes.series, self.sizes.pooled
        begin = length // m * m - (s - 1) * m  # of the tokens that entries still need
        waiting = torch.arange(begin, length, device=values.device) % ring
        both = []
        for store, new in ((entries.values, values), (entries.gates, gates)):
            both.append(torch.cat([before(store)[:, waiting], new], dim=1))
            last = min(new.shape[1], ring)
            end = length + new.shape[1]
            place = torch.arange(end - last, end, device=new.device) % ring
            store[:, place] = new[:, new.shape[1] - last :].detach()
        first, end = length // m, (length + values.shape[1]) // m
        latents = self._mean(*(self._by_entry(x, end - first) for x in both))
        numbers = torch.arange(first, end, device=values.device)
        return Fresh(latents=latents, numbers=numbers, first=first)

    def _by_entry(self, x: Tensor, made: int) -> Tensor:
        """Tokens [B, .., s w] from the first that is needed to those of each entry [B, n, R, w]."""
        m, s, w = self.sizes.ratio, self.sizes.series, self.sizes.width
        blocks = x[:, : (made + s - 1) * m].unflatten(1, (-1, m)) if made else x[:, :0, None]
        if s == 1:
            return blocks
        return torch.cat([blocks[:, :-1, :, :w], blocks[:, 1:, :, w:]], dim=2)

    def _static(self, values: Tensor, gates: Tensor, position: Tensor, entries: Entries) -> Fresh:
        """The entry of the new token's m, made in every step, and whole in the last of them."""
        assert entries.values is not None
        assert entries.gates is not None
        m, s, w = self.sizes.ratio, self.sizes.series, self.sizes.width
        slot, number = position % self.sizes.pooled, position // m
        entries.values.index_copy_(1, slot, values)
        entries.gates.index_copy_(1, slot, gates)
        both = []
        for store in (entries.values, entries.gates):
            blocks = store.unflatten(1, (s, m))
            own = blocks.index_select(1, number % s)[..., (s - 1) * w :]
            older = blocks.index_select(1, (number + 1) % s)[..., :w]
            both.append(own if s == 1 else torch.cat([older, own], dim=2))
        latents, whole = self._mean(both[0], both[1]), (position + 1) % m == 0
        return Fresh(latents=latents, numbers=number, first=0, whole=whole)


def rotated_entries(x: Tensor, fresh: Fresh, ratio: int, rotated: int) -> Tensor:
    """Vectors [B, n, w] of the entries turned by the position of their first own token."""
    return rotate(x[:, :, None], *angles(fresh.numbers * ratio, rotated))[:, :, 0]
