"""Memory layers that are addressed by token ids: where they stand in a model, and what they get.

Their modules are declared with `@runs(TheKind)` as those of all layer kinds, and stand under the
`attribute` of their kind in a block or, at the input, in the model. What each position needs of
them: `LookUp` and `AtInput`.

Shapes: B sequences, T new tokens, h past token ids, D hidden.
"""

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor, nn

from costmodel.inputs.model import ModelConfig
from costmodel.layers.base import MemoryKind
from reference_model.cache import Cache, LayerState, Room
from reference_model.layers import Join, TokenHistory
from reference_model.leaf import Factory, Leaf
from reference_model.registry import module_of
from reference_model.residual_streams import StreamJoin
from reference_model.value_tables import row_values


@dataclass(slots=True)
class Known:
    """What the token ids alone say in a step, before any layer has run."""

    ids: Tensor  # [B, T], the new ones
    window: Tensor  # [B, h + T]: those, and before them the last h of each sequence
    per_layer: Tensor | None = None  # [B, T, L, p], left at the input for the blocks
    fetched: dict[nn.Module, tuple[Tensor, torch.cuda.Event | None]] = field(default_factory=dict)
    """What layers of the blocks read of their tables ahead, and when it is there."""

    def last(self, past: int) -> Tensor:
        """The window with no more than `past` ids before the new ones, [B, past + T]."""
        return self.window[:, self.window.shape[1] - self.ids.shape[1] - past :]

    def taken(self, layer: nn.Module) -> Tensor | None:
        """What was fetched ahead for a layer, once it is there; None: nothing was."""
        rows, arrival = self.fetched.get(layer, (None, None))
        if arrival is not None:
            torch.cuda.current_stream().wait_event(arrival)
        return rows


Waiting: TypeAlias = tuple[Tensor, list[Tensor]]
"""The residual stream and what waits to be added to it, all [B, T, D]."""


class AddressedRows(Leaf):
    """The rows that the ids of a token address: one of each column of a table, side by side."""

    weight: nn.Parameter

    def __init__(self, factory: Factory, rows: int, width: int, *, std: float) -> None:
        super().__init__()
        self.register("weight", factory.normal(rows, width, std=std), "memory_values")

    def forward(self, rows: Tensor) -> Tensor:
        """Rows [N, Q] of a table [rows, width] to their elements [N, Q width]."""
        return row_values(self.weight, rows).flatten(1)


class LookUp(Protocol):
    """A memory layer at the head or the end of a block.

    It is made with (factory, kind, index=): its number among the layers of its kind. One whose rows
    may be read before the step's first block says how: `fetch(known)`, and takes what was fetched
    (`known.taken`).
    """

    def new_state(self, room: Room) -> LayerState | None:
        """The state that it keeps of a sequence; None: it keeps none."""

    def __call__(self, stream: Tensor, known: Known, state: LayerState | None) -> Tensor:
        """The residual stream [B, T, D], and what is known, to what is added to it [B, T, D]."""


class AtInput(Protocol):
    """A memory layer at the model's input, made with (factory, kind, num_layers=).

    A layer that stands in blocks may have a part there too: its class has it as `at_input`.
    """

    def __call__(self, stream: Tensor, known: Known) -> Tensor:
        """The embedded tokens [B, T, D], and what is known, to the stream [B, T, D]."""


class LookUps:
    """The memory layers of a model that are not beside an FFN; it puts them into the model."""

    def __init__(self, model: nn.Module, factory: Factory, config: ModelConfig) -> None:
        self._model: Any = model
        self._blocks: Any = model.layers
        self._inputs: list[str] = []  # attributes of the model
        self._before: dict[int, str] = {}  # attributes by block
        self._behind: dict[int, str] = {}
        self._beside: torch.cuda.Stream | None = None  # of fetches
        self._waits = config.altup is None  # AltUp adds at the end of each block
        self._several = config.residual_streams is not None
        self._held: Any = None  # what the last step fetched: its memory is in use until it ends
        kinds = [memory for memory in config.memory if memory.position != "beside_ffn"]
        if any(kind.past_ids for kind in kinds):
            model.token_history = TokenHistory()
        for kind in kinds:
            self._add(kind, factory, config.num_hidden_layers)

    def _add(self, kind: MemoryKind, factory: Factory, num_blocks: int) -> None:
        module, placement = module_of(kind), kind.placement(num_blocks)
        front = module if kind.position == "input" else getattr(module, "at_input", None)
        if front is not None:
            setattr(self._model, kind.attribute, front(factory, kind, num_layers=len(placement)))
            self._inputs.append(kind.attribute)
        places = self._before if kind.position == "before_attention" else self._behind
        for index, (number, _) in enumerate(placement):
            block, layer = self._block(number), module(factory, kind, index=index)
            setattr(block, kind.attribute, layer)
            behind = kind.position == "behind_block"
            if self._waits and (number or behind):  # nothing waits before the first block
                setattr(block, f"{kind.attribute}_join", StreamJoin() if self._several else Join())
            places[number] = kind.attribute

    def new_states(self, room: Room) -> dict[str, LayerState]:
        """The states of the layers that keep one, by their paths within the blocks."""
        states: dict[str, LayerState] = {}
        for number, attribute in (*self._before.items(), *self._behind.items()):
            state = getattr(self._block(number), attribute).new_state(room)
            if state is not None:
                states[f"{number}.{attribute}"] = state
        return states

    def known(self, ids: Tensor, cache: Cache) -> Known:
        """What the new ids [B, T] say; the cache's past ids become those before the next step."""
        if cache.past_ids is None:
            return Known(ids=ids, window=ids)
        history: TokenHistory = self._model.token_history
        return Known(ids=ids, window=history(ids, cache.past_ids))

    def fetch_ahead(self, known: Known) -> None:
        """Read the rows of all layers in the blocks now, one after another, in their order.

        On a GPU a stream of its own reads them while the step goes on, as a branch of a CUDA graph
        where the step is captured; a layer waits for its own rows alone.
        """
        on_gpu = known.ids.is_cuda
        if on_gpu:
            if self._beside is None:
                self._beside = torch.cuda.Stream()
            self._beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._beside) if on_gpu else nullcontext():
            for layer in self._fetching():
                rows = layer.fetch(known)
                known.fetched[layer] = rows, self._beside.record_event() if self._beside else None
        self._held = known.fetched

    def _fetching(self) -> Iterator[Any]:
        """The layers in the blocks that can read their rows ahead, in the order of their steps."""
        for number in range(len(self._blocks)):
            for places in (self._before, self._behind):
                layer = getattr(self._block(number), places.get(number, ""), None)
                if hasattr(layer, "fetch"):
                    yield layer

    def at_input(self, stream: Tensor, known: Known) -> Tensor:
        """The embedded tokens [B, T, D] to the stream [B, T, D]."""
        for attribute in self._inputs:
            stream = getattr(self._model, attribute)(stream, known)
        return stream

    def before(self, number: int, waiting: Waiting, known: Known, cache: Cache) -> Waiting:
        """Stream and what waits, as the block's first norm gets them."""
        return self._run(self._before.get(number), number, waiting, known, cache)

    def behind(self, number: int, waiting: Waiting, known: Known, cache: Cache) -> Waiting:
        """Stream and what waits after the block."""
        return self._run(self._behind.get(number), number, waiting, known, cache)

    def _run(
        self, attribute: str | None, number: int, waiting: Waiting, known: Known, cache: Cache
    ) -> Waiting:
        if attribute is None:
            return waiting
        stream, adds = waiting
        block = self._block(number)
        if adds:
            stream = getattr(block, f"{attribute}_join")(stream, *adds)
        state = cache.memories.get(f"{number}.{attribute}")
        of_next = adds[3:] if self._several else []  # no part of what the join has added
        return stream, [getattr(block, attribute)(stream, known, state), *of_next]

    def _block(self, number: int) -> nn.Module:
        block: nn.Module = self._blocks[number]
        return block
