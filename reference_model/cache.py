"""What a model keeps of its sequences between steps: KV caches, and states of fixed size.

A cache has a batch and a capacity in tokens; each layer's sequence mixer makes its own part of it.
It works in one of two modes:

- Growing (prefill, eager decode): `length` is a number of the host, each step adds its tokens, and
  attention gets the slots in use, so shapes follow the length.
- Static (decode as a CUDA graph): the position is a tensor on the device, attention gets all slots
  and a mask that hides the free ones, so no shape changes from step to step.

A layer with a sliding window of W tokens keeps a ring of W slots: token t lies in slot t mod W. So
does one with chunks of W tokens, whose chunks all begin at slot 0.
Shapes: B sequences, T new tokens, K key-value heads, C slots, d head size. MLA keeps one latent
with its rotary key for all heads: [B, 1, C, c + r].
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

MASKED = float("-inf")
NO_TOKEN = -1  # the id that stands before the first token of a sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What a layer's cache must have room for: B sequences of at most `capacity` tokens."""

    batch: int
    capacity: int
    device: torch.device
    dtype: torch.dtype

    def zeros(self, *shape: int) -> Tensor:
        """Zeros [B, *shape]."""
        return torch.zeros(self.batch, *shape, device=self.device, dtype=self.dtype)


@dataclass(kw_only=True)
class LayerState:
    """The state of a recurrent layer: tensors [B, ...] that a step overwrites, of fixed size."""

    tensors: list[Tensor]

    @property
    def states(self) -> list[Tensor]:
        """All that it keeps."""
        return self.tensors


@dataclass(kw_only=True)
class LayerCache:
    """The KV cache of one layer: keys [B, K, C, d] and values [B, K, C, dv].

    Latent attention keeps no values: they are the first c elements of its keys. A layer with a
    recurrence beside its attention keeps the states of that, too.
    """

    keys: Tensor
    values: Tensor | None
    window: int | None
    side: Tensor | None = None  # keys of an indexer, [B, 1, C, di]
    in_chunks: bool = False  # the window is a chunk: tokens before its start are out of reach
    states: list[Tensor] = field(default_factory=list)  # [B, ...] each, of fixed size

    @property
    def kv(self) -> list[Tensor]:
        """The keys, and the values and the indexer's keys if the layer keeps any."""
        return [kept for kept in (self.keys, self.values, self.side) if kept is not None]

    @property
    def tensors(self) -> list[Tensor]:
        """All that it keeps."""
        return [*self.kv, *self.states]

    @property
    def slots(self) -> int:
        """C: how many tokens of a sequence it can hold."""
        return self.keys.shape[2]

    @property
    def is_ring(self) -> bool:
        """Whether new tokens overwrite those that have left the window."""
        return self.slots == self.window

    @property
    def restarts(self) -> bool:
        """Whether a new chunk begins in the slots of the one before."""
        return self.in_chunks and self.is_ring

    def reach(self, before: int) -> int:
        """How many of `before` held tokens the next one sees."""
        if self.window is None:
            return before
        return before % self.window if self.in_chunks else min(before, self.window - 1)

    @property
    def token_bytes(self) -> int:
        """Bytes of one token of one sequence."""
        return sum(t.shape[1] * t.shape[3] * t.element_size() for t in self.kv)

    def held_bytes(self, tokens: int) -> int:
        """Bytes of `tokens` tokens of each sequence; with a window at most W."""
        return len(self.keys) * self.token_bytes * min(tokens, self.window or tokens)

    @property
    def allocated_bytes(self) -> int:
        """Bytes of all slots, used or not."""
        return len(self.keys) * self.token_bytes * self.slots


@dataclass(kw_only=True)
class Cache:
    """The caches and states of all layers, which hold `length` tokens of each sequence."""

    layers: list[LayerCache | LayerState]
    memories: dict[str, LayerState] = field(default_factory=dict)  # of memory layers, by path
    past_ids: Tensor | None = None  # [B, h] int64: token ids before the new ones; at first NO_TOKEN
    batch: int
    capacity: int
    device: torch.device
    dtype: torch.dtype
    length: int = 0
    # of the layers whose keys and values later layers of a step read: what they attend to in it
    shared: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    # what the last indexer of a step chose, for layers that share it: (tokens, mask) or None: all
    choice: tuple[Tensor, Tensor] | None = None
    # the entries among which later indexers choose, by the layer that has them: (entries, mask)
    candidates: dict[int, tuple[Tensor, Tensor] | None] = field(default_factory=dict)
    position: Tensor | None = None  # [1] int64 in static mode: the position of the new token
    masks: dict[int, Tensor] = field(default_factory=dict)  # by slots: [1, 1, 1, C] additive
    chunk_masks: dict[int, Tensor] = field(default_factory=dict)  # of layers that restart

    @property
    def kv_layers(self) -> list[LayerCache]:
        """The layers that keep keys and values."""
        return [layer for layer in self.layers if isinstance(layer, LayerCache)]

    def held_bytes(self, tokens: int) -> int:
        """KV bytes of `tokens` tokens of each sequence."""
        return sum(layer.held_bytes(tokens) for layer in self.kv_layers)

    def allocated_bytes(self) -> int:
        """KV bytes of all slots, used or not."""
        return sum(layer.allocated_bytes for layer in self.kv_layers)

    def state_bytes(self) -> int:
        """Bytes of the fixed states of all sequences."""
        return sum(tensor.nbytes for tensor in self._states())

    def _states(self) -> list[Tensor]:
        kept = (*self.layers, *self.memories.values())
        return [tensor for layer in kept for tensor in layer.states]

    def positions(self, new_tokens: int) -> Tensor:
        """The positions of the new tokens in their sequence, [T]."""
        if self.position is not None:
            return self.position
        return torch.arange(self.length, self.length + new_tokens, device=self.device)

    def make_static(self, position: int) -> None:
        """Change to static mode: the next step writes its token at `position`.

        The tokens before it must be held. Layers whose slots are all in use from this position on
        need no mask.
        """
        layers = self.kv_layers
        fits = all(layer.is_ring or position < layer.slots for layer in layers)
        assert fits, "the cache is full"
        self.position = torch.full((1,), position, dtype=torch.int64, device=self.device)
        self.masks.clear()
        self.chunk_masks.clear()
        for slots, restarts in {(layer.slots, layer.restarts) for layer in layers}:
            if restarts:
                self.chunk_masks[slots] = self._hiding(slots, position % slots)
            elif position + 1 < slots:
                self.masks[slots] = self._hiding(slots, position)

    def _hiding(self, slots: int, last: int | Tensor) -> Tensor:
        """The mask [1, 1, 1, C] that hides all slots after `last`."""
        mask = torch.zeros(1, 1, 1, slots, device=self.device, dtype=self.dtype)
        return mask.masked_fill_(torch.arange(slots, device=self.device) > last, MASKED)

    def mask_of(self, index: int) -> Tensor | None:
        """The additive mask over the slots of a layer in static mode; None: all are seen."""
        layer = self.layers[index]
        if self.position is None or not isinstance(layer, LayerCache):
            return None
        return (self.chunk_masks if layer.restarts else self.masks).get(layer.slots)

    def static_state(self) -> list[Tensor]:
        """Copies of position, masks, recurrent states and past ids, for `restore_static`."""
        return [tensor.clone() for tensor in self._static()]

    def restore_static(self, state: list[Tensor]) -> None:
        """Copy what `static_state` saved back in place, so that a step can run again."""
        for tensor, saved in zip(self._static(), state, strict=True):
            tensor.copy_(saved)

    def _static(self) -> list[Tensor]:
        assert self.position is not None
        past = [] if self.past_ids is None else [self.past_ids]
        masks = *self.masks.values(), *self.chunk_masks.values()
        return [self.position, *masks, *self._states(), *past]

    def advance_static(self) -> None:
        """Move the position by one on the device, as a part of a step that a graph replays."""
        assert self.position is not None
        self.position += 1
        for slots, mask in self.masks.items():
            mask.view(-1).index_fill_(0, self.position % slots, 0.0)
        for slots, mask in self.chunk_masks.items():
            mask.copy_(self._hiding(slots, self.position % slots))

    def store(
        self, index: int, keys: Tensor, values: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Write the keys and values of the new tokens, and return those that they attend to.

        Args:
            index: The layer.
            keys: [B, K, T, d].
            values: [B, K, T, dv], or None if the layer keeps none.

        Returns:
            Keys and values [B, K, L, ...]: of L tokens, or in static mode of all slots.
        """
        layer = self.layers[index]
        assert isinstance(layer, LayerCache), "a recurrent layer keeps no tokens"
        if self.position is not None:
            slot = self.position % layer.slots
            layer.keys.index_copy_(2, slot, keys)
            if layer.values is not None and values is not None:
                layer.values.index_copy_(2, slot, values)
            return layer.keys, layer.values
        attended_keys = _appended(layer, layer.keys, keys, self.length)
        if layer.values is None or values is None:
            return attended_keys, None
        return attended_keys, _appended(layer, layer.values, values, self.length)


def store_side(cache: Cache, index: int, keys: Tensor) -> Tensor:
    """Write an indexer's keys [B, T, di] of the new tokens; those to score, [B, L, di]."""
    layer = cache.layers[index]
    assert isinstance(layer, LayerCache), "a recurrent layer keeps no tokens"
    assert layer.side is not None, "a layer without an indexer keeps no keys of one"
    if cache.position is not None:
        layer.side.index_copy_(2, cache.position, keys[:, None])
        return layer.side[:, 0]
    return _appended(layer, layer.side, keys[:, None], cache.length)[:, 0]


def _appended(layer: LayerCache, store: Tensor, fresh: Tensor, before: int) -> Tensor:
    """Write `fresh` [B, K, T, d] into `store` [B, K, C, d] of a layer that holds `before` tokens.

    Returns what the new tokens attend to: themselves, and those before them in the first one's
    reach.
    """
    slots, new, reach = store.shape[2], fresh.shape[2], layer.reach(before)
    if layer.window is None or before + new <= slots:  # no slot is used twice yet
        assert before + new <= slots, "the cache is full"
        store[:, :, before : before + new] = fresh
        return store[:, :, before - reach : before + new]
    assert layer.is_ring, "the cache is full"
    if new == 1:  # the ring holds exactly the window; softmax does not mind its order
        store[:, :, before % slots] = fresh[:, :, 0]
        return store[:, :, : reach + 1] if layer.in_chunks else store
    old = torch.arange(before - reach, before, device=store.device) % slots
    attended = torch.cat([store[:, :, old], fresh], dim=2)
    last = min(new, slots)
    place = torch.arange(before + new - last, before + new, device=store.device) % slots
    store[:, :, place] = fresh[:, :, new - last :]
    return attended
