"""What a model keeps of its sequences: KV caches and fixed states, and where a step stands.

A cache is made for a batch and a capacity; each mixer makes its layer's part of it. A step either
grows it by its tokens (prefill, eager
decode; shapes follow the length) or, in static mode, runs at a position held on the device: shapes
never change, all slots are attended under a mask, so that the step can be a CUDA graph.
Layers with a window keep a ring of W slots.
Shapes: B sequences, K key-value heads, C slots, d head size; MLA keeps latents [B, 1, C, c + r].
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

MASKED = float("-inf")


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """For what a layer's cache is made: B sequences of at most `capacity` tokens."""

    batch: int
    capacity: int
    device: torch.device
    dtype: torch.dtype

    def zeros(self, *shape: int) -> Tensor:
        """An empty tensor [B, *shape]."""
        return torch.zeros(self.batch, *shape, device=self.device, dtype=self.dtype)


@dataclass(kw_only=True)
class LayerState:
    """The fixed state of one layer, whatever the context: tensors [B, ...], written in place."""

    tensors: list[Tensor]


@dataclass(kw_only=True)
class LayerCache:
    """Keys [B, K, C, d] and values [B, K, C, dv] of one layer; a latent layer has keys only."""

    keys: Tensor
    values: Tensor | None
    window: int | None

    @property
    def tensors(self) -> list[Tensor]:
        """Keys, and values where there are any."""
        return [self.keys] if self.values is None else [self.keys, self.values]

    @property
    def slots(self) -> int:
        """C, the tokens it can hold."""
        return self.keys.shape[2]

    @property
    def is_ring(self) -> bool:
        """Whether a new token may take the place of one that has left the window."""
        return self.slots == self.window

    @property
    def token_bytes(self) -> int:
        """Bytes of one token of one sequence."""
        return sum(t.shape[1] * t.shape[3] * t.element_size() for t in self.tensors)


@dataclass(kw_only=True)
class Cache:
    """What all layers keep; `length` tokens of each sequence are held."""

    layers: list[LayerCache | LayerState]
    batch: int
    capacity: int
    device: torch.device
    dtype: torch.dtype
    length: int = 0
    position: Tensor | None = None  # [1] int64 in static mode: the position of the new token
    masks: dict[int, Tensor] = field(default_factory=dict)  # by slots: [1, 1, 1, C] additive

    @property
    def kv_layers(self) -> list[LayerCache]:
        """Those that grow by tokens."""
        return [layer for layer in self.layers if isinstance(layer, LayerCache)]

    def held_bytes(self, tokens: int) -> int:
        """KV bytes that `tokens` tokens of each sequence occupy; windows keep at most W of them."""
        return sum(
            self.batch * layer.token_bytes * min(tokens, layer.window or tokens)
            for layer in self.kv_layers
        )

    def allocated_bytes(self) -> int:
        """KV bytes allocated for the whole capacity."""
        return sum(self.batch * layer.token_bytes * layer.slots for layer in self.kv_layers)

    def state_bytes(self) -> int:
        """Bytes of the fixed states of all sequences."""
        return sum(tensor.nbytes for tensor in self._states())

    def _states(self) -> list[Tensor]:
        states = [layer for layer in self.layers if isinstance(layer, LayerState)]
        return [tensor for layer in states for tensor in layer.tensors]

    def positions(self, new_tokens: int) -> Tensor:
        """Positions of the new tokens, [T]."""
        if self.position is not None:
            return self.position
        return torch.arange(self.length, self.length + new_tokens, device=self.device)

    def make_static(self, position: int) -> None:
        """Go over to static mode at `position`, the tokens before it being held.

        Layers whose slots are all taken from this position on need no mask.
        """
        layers = self.kv_layers
        fits = all(layer.is_ring or position < layer.slots for layer in layers)
        assert fits, "the cache is full"
        self.position = torch.full((1,), position, dtype=torch.int64, device=self.device)
        self.masks.clear()
        for slots in {layer.slots for layer in layers if position + 1 < layer.slots}:
            free = torch.arange(slots, device=self.device) > position
            mask = torch.zeros(1, 1, 1, slots, device=self.device, dtype=self.dtype)
            self.masks[slots] = mask.masked_fill_(free, MASKED)

    def static_state(self) -> list[Tensor]:
        """Copies of the position, the masks and the layers' states, for `restore_static`."""
        return [tensor.clone() for tensor in self._static()]

    def restore_static(self, state: list[Tensor]) -> None:
        """Put position, masks and states back, in place."""
        for tensor, saved in zip(self._static(), state, strict=True):
            tensor.copy_(saved)

    def _static(self) -> list[Tensor]:
        assert self.position is not None
        return [self.position, *self.masks.values(), *self._states()]

    def advance_static(self) -> None:
        """Move the static position by one, on the device: part of a replayed step."""
        assert self.position is not None
        self.position += 1
        for slots, mask in self.masks.items():
            mask.view(-1).index_fill_(0, self.position % slots, 0.0)

    def store(
        self, index: int, keys: Tensor, values: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Write the new tokens' keys [B, K, T, d] and values; return those to attend to."""
        layer = self.layers[index]
        assert isinstance(layer, LayerCache), "a layer with a state keeps no tokens"
        if self.position is not None:
            slot = self.position % layer.slots
            layer.keys.index_copy_(2, slot, keys)
            if layer.values is not None and values is not None:
                layer.values.index_copy_(2, slot, values)
            return layer.keys, layer.values
        before = self.length
        pairs = [(layer.keys, keys)]
        if layer.values is not None and values is not None:
            pairs.append((layer.values, values))
        found = [_grown(store, fresh, before, layer.window) for store, fresh in pairs]
        return found[0], found[1] if len(found) > 1 else None


def _grown(store: Tensor, fresh: Tensor, before: int, window: int | None) -> Tensor:
    """Write `fresh` after `before` tokens and return all that the new tokens may attend to."""
    slots, new = store.shape[2], fresh.shape[2]
    if window is None or before + new <= slots:  # no slot is used twice yet
        assert before + new <= slots, "the cache is full"
        store[:, :, before : before + new] = fresh
        first = 0 if window is None else max(0, before - (window - 1))
        return store[:, :, first : before + new]
    assert slots == window, "the cache is full"
    if new == 1:  # the ring holds exactly the window; softmax does not mind its order
        store[:, :, before % slots] = fresh[:, :, 0]
        return store
    reach = min(before, window - 1)
    old = torch.arange(before - reach, before, device=store.device) % slots
    attended = torch.cat([store[:, :, old], fresh], dim=2)
    last = min(new, slots)
    place = torch.arange(before + new - last, before + new, device=store.device) % slots
    store[:, :, place] = fresh[:, :, new - last :]
    return attended
