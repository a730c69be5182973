"""Memory layers that are addressed by token ids: where they stand in a model, and what they get.

Their modules are declared with `@runs(TheKind)` as those of all layer kinds, and stand under the
`attribute` of their kind in a block or, at the input, in the model. What each position needs of
them: `LookUp` and `AtInput`.

Shapes: B sequences, T new tokens, h past token ids, D hidden.
"""

from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from torch import Tensor, nn

from costmodel.inputs.model import ModelConfig
from costmodel.layers.base import MemoryKind
from reference_model.cache import Cache, LayerState, Room
from reference_model.layers import Join, TokenHistory
from reference_model.leaf import Factory
from reference_model.registry import module_of


@dataclass(slots=True)
class Known:
    """What the token ids alone say in a step, before any layer has run."""

    ids: Tensor  # [B, T], the new ones
    window: Tensor  # [B, h + T]: those, and before them the last h of each sequence
    per_layer: Tensor | None = None  # [B, T, L, p], left at the input for the blocks

    def last(self, past: int) -> Tensor:
        """The window with no more than `past` ids before the new ones, [B, past + T]."""
        return self.window[:, self.window.shape[1] - self.ids.shape[1] - past :]


Waiting: TypeAlias = tuple[Tensor, list[Tensor]]
"""The residual stream and what waits to be added to it, all [B, T, D]."""


class LookUp(Protocol):
    """A memory layer at the head or the end of a block.

    It is made with (factory, kind, index=): its number among the layers of its kind.
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
            if number or kind.position == "behind_block":  # nothing waits before the first block
                setattr(block, f"{kind.attribute}_join", Join())
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
        return stream, [getattr(block, attribute)(stream, known, state)]

    def _block(self, number: int) -> nn.Module:
        block: nn.Module = self._blocks[number]
        return block
