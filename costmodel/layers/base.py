"""What every layer kind is: a frozen, validated configuration that lists its own operators.

A layer kind is one file of this folder. It derives from one of the three bases below, carries a
`kind` of type `Literal["..."]`, and is found by `costmodel.inputs.model` by standing here. Beside
its fields it states the sizes that a sweep or a match may vary.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Annotated, Any, ClassVar, Literal, Self, TypeAlias, get_args, get_type_hints

from pydantic import Field
from pydantic.fields import FieldInfo

from costmodel.errors import InputError, shown
from costmodel.layers.letters import Letter
from costmodel.layers.mesh import Mesh
from costmodel.layers.numbers import Number
from costmodel.layers.operator import Operator, Step
from costmodel.layers.site import Site

MAX_LAYERS = 1024

Width = Annotated[int, Field(ge=4, le=2**20)]
"""A vector length: hidden size, head size, expert width."""
Count = Annotated[int, Field(ge=1, le=2**16)]
"""How many of a thing there are: heads, experts, keys per side."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """Metadata of a field, which pydantic ignores: a sweep or a match may vary it.

    It stands in the field's `Annotated`, beside the field's bounds. A match varies whole numbers
    only, and relies on this: total parameters, FLOPs and HBM bytes under uniform routing never fall
    when the size grows.
    """

    label: str
    step: int = 1  # a match tries multiples of it
    multiple_of: str | None = None  # the kind's rules accept multiples of this field only
    chosen: bool = False  # how many a token chooses: rules refuse too many; of other sizes, too few
    sets: Literal["parameters", "flops"] | None = None  # what a match sets by it, if not told else
    most: float = 0  # the field's upper bound, filled in by `sizes_of`


class LayerKind(ABC):
    """A configuration that knows its operators."""

    kind: str  # how model files name it

    @abstractmethod
    def operators(self, site: Site, step: Step) -> list[Operator]:
        """The operators of one step, in the order in which they run."""

    def split(self, mesh: Mesh) -> Self:
        """What one GPU of a mesh has of the layer: its sizes over `tp`, as the kind divides them.

        What a kind leaves as it is, all `tp` GPUs have and compute alike.

        Raises:
            InputError: A size does not divide, or layers of this kind are not divided.
        """
        if mesh.tp > 1:
            raise InputError(f"tp={mesh.tp}: layers of kind {self.kind!r} are not divided")
        return self

    def letters(self, operator: Operator, step: Step) -> tuple[Letter, ...]:
        """The letters of its own in the operator's formula, beside those of `costmodel/__init__`.

        A letter of the notation table that the kind gives here has the kind's value.
        """
        del operator, step
        return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """Vectors of one sequence that a layer's cache holds."""

    count: Number
    each_bytes: int
    what: str


class MixerKind(LayerKind):
    """What mixes tokens of a sequence, the first half of a block: attention, or a recurrence.

    A mixer remembers a sequence in a KV cache, which grows by tokens, in a state of fixed size,
    or in both. One that has neither method keeps nothing.
    """

    reads_of_other: ClassVar[tuple[str, str]]  # the field of that, and what the other layer has
    sparse_words: ClassVar[str] = "attention to chosen tokens"  # beside its `dense_twin`

    def kv_token_bytes(self, step: Step) -> int:
        """KV-cache bytes of one token in one layer."""
        del step
        return 0

    def side_token_bytes(self, step: Step) -> int:
        """Those of `kv_token_bytes` that only choose what is attended to: keys of an indexer."""
        del step
        return 0

    def logits_bytes(self, step: Step) -> Number:
        """Bytes of the scores by which one layer chooses what a step attends to, all at once."""
        del step
        return 0

    def dense_twin(self) -> "MixerKind | None":
        """The layer that attends to all tokens, all else alike; None: it does not choose any."""
        return None

    def kept_tokens(self, tokens: Number, step: Step) -> Number:
        """How many of `tokens` past tokens of a sequence the cache holds."""
        del step
        return tokens

    def kept(self, tokens: Number, step: Step) -> tuple[Kept, ...]:
        """What the cache holds of a sequence of `tokens` past tokens."""
        return (
            Kept(
                count=self.kept_tokens(tokens, step),
                each_bytes=self.kv_token_bytes(step),
                what="tokens",
            ),
        )

    def state_bytes(self, hidden_size: int, step: Step) -> int:
        """Bytes of the fixed state of one sequence in one layer, whatever its context."""
        del hidden_size, step
        return 0

    @property
    def reads_other_cache(self) -> bool:
        """Whether it reads the cache of the last earlier layer that it can read."""
        return False

    def can_read(self, other: "MixerKind") -> bool:
        """Whether it could read the cache of another layer."""
        del other
        return False


class FfnKind(LayerKind):
    """What follows attention in a block: a dense feed-forward layer or experts."""


class StreamKind(LayerKind):
    """What stands in place of, or beside, the one residual stream: AltUp, LAUREL."""

    def split(self, mesh: Mesh) -> Self:
        """All of it: every GPU has the whole residual stream of its tokens."""
        del mesh
        return self


Position: TypeAlias = Literal["beside_ffn", "before_attention", "behind_block", "input"]


class MemoryKind(LayerKind):
    """A memory layer: a table of which each token reads a few rows.

    Its `position`, the same for all layers of a kind:

    - `beside_ffn`: beside, or in place of, the FFN. It reads the FFN's normalised input.
    - `before_attention`: reads the residual stream at the head of a block and adds to it there.
    - `behind_block`: the same at the end of a block.
    - `input`: once, at the model's input, beside the embedding.

    `layers` places it. "all", or a list of "a" and "a-b" with an optional step "a-b/s": each layer
    adds its output in the same block. Beside an FFN, "a:b" reads at block a and adds after block b
    (skip placement). At the input it is "input".
    """

    layers: str
    position: ClassVar[Position] = "beside_ffn"
    attribute: ClassVar[str] = "memory"  # of its leaves' paths: "layers.3.memory.query"
    # "tokens": its rows follow from token ids, and are known before the step; "scores": from the
    # hidden state, so that they are known in the layer itself
    addressed_by: ClassVar[Literal["scores", "tokens"]] = "scores"
    at_input: ClassVar[bool] = False  # has operators at the input: a model has one such layer kind

    @property
    def in_place_of_ffn(self) -> bool:
        """Whether its blocks have no FFN."""
        return False

    @property
    def past_ids(self) -> int:
        """How many token ids before a new token it needs beside that token's own."""
        return 0

    def state_bytes(self, hidden_size: int, step: Step) -> int:
        """Bytes of the fixed state of one sequence in one layer, whatever its context."""
        del hidden_size, step
        return 0

    def split(self, mesh: Mesh) -> Self:
        """All but the tables, which are divided by their rows or their width: `costs/sharding`."""
        del mesh
        return self

    def check(self, num_layers: int, hidden_size: int) -> None:
        """Rules that need the model: how many layers share this configuration, and its width."""

    def for_hidden_size(self, hidden_size: int) -> Self:
        """The layer for a model of another width: itself, unless a field must equal the width."""
        del hidden_size
        return self

    def placement(self, num_hidden_layers: int) -> tuple[tuple[int, int], ...]:
        """(input block, output block) of each memory layer, in order; none at the input."""
        if self.position == "input":
            return ()
        pairs: list[tuple[int, int]] = []
        for item in self.layers.split(","):
            first, colon, last = item.partition(":")
            if colon and self.position != "beside_ffn":
                raise InputError(
                    f"memory.layers={shown(self.layers)}: {shown(item)} skips blocks, which only a"
                    " memory layer beside an FFN can"
                )
            if colon:
                pairs.append((_block(first, item), _block(last, item)))
            else:
                pairs.extend((i, i) for i in selected_layers(item, num_hidden_layers))
        for a, b in pairs:
            if not a <= b < num_hidden_layers:
                raise InputError(
                    f"memory.layers={shown(self.layers)}: {a}:{b} is not a placement in"
                    f" num_hidden_layers={num_hidden_layers} blocks (input <= output < blocks)"
                )
        inputs = [a for a, _ in pairs]
        if len(set(inputs)) != len(inputs):
            raise InputError(f"memory.layers={shown(self.layers)}: a block is listed twice")
        return tuple(sorted(pairs))


@cache
def sizes_of(kind: type[LayerKind]) -> Mapping[str, Size]:
    """The sizes that a layer kind states beside its fields, by field name, in their order."""
    sizes: dict[str, Size] = {}
    for name, hint in get_type_hints(kind, include_extras=True).items():
        for annotated in (hint, *get_args(hint)):  # a field may be None besides
            metadata = getattr(annotated, "__metadata__", ())
            for size in metadata:
                if isinstance(size, Size):
                    sizes[name] = replace(size, most=_upper_bound(metadata))
    return sizes


def _upper_bound(metadata: tuple[Any, ...]) -> float:
    """The `le` of a field's metadata."""
    fields = [info for info in metadata if isinstance(info, FieldInfo)]
    bounds: list[float] = [
        rule.le for field in fields for rule in field.metadata if hasattr(rule, "le")
    ]
    assert len(bounds) == 1, "a size has one upper bound"
    return bounds[0]


def selected_layers(selector: str, num_hidden_layers: int) -> tuple[int, ...]:
    """The layers of "all" or of a list of "a", "a-b", "a-b/step"; each below the layer count."""
    if selector.strip() == "all":
        return tuple(range(num_hidden_layers))
    chosen: list[int] = []
    for item in selector.split(","):
        span, slash, step_text = item.partition("/")
        first, dash, last = span.partition("-")
        a = _block(first, item)
        b = _block(last, item) if dash else a
        step = _block(step_text, item) if slash else 1
        if not a <= b < num_hidden_layers or step < 1:
            raise InputError(
                f"layers={shown(selector)}: {shown(item)} is not a range of the"
                f" {num_hidden_layers} layers (0 to {num_hidden_layers - 1})"
            )
        chosen.extend(range(a, b + 1, step))
    if len(set(chosen)) != len(chosen):
        raise InputError(f"layers={shown(selector)}: a layer is listed twice")
    return tuple(sorted(chosen))


def _block(text: str, item: str) -> int:
    text = text.strip()
    if not (text.isascii() and text.isdecimal() and len(text) <= len(str(MAX_LAYERS))):
        raise InputError(
            f"layers={shown(item)}: {shown(text)} is not a layer number"
            ' (write "all", "3", "0-5", "0-22/2", or "2:5" for a memory layer)'
        )
    return int(text)
