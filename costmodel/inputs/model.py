"""A model as a user writes it: a default layer, the layers that differ, memory layers, embeddings.

The layer kinds are the classes in `costmodel/layers` that derive from a base in its `base.py`; a
TOML file names them by `kind`. Fields are spelt as in Hugging Face's `config.json`; fields of
memory layers use the terms of the UltraMem papers.
"""

import importlib
import pkgutil
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, Union

from pydantic import Field, PlainSerializer, PlainValidator, field_validator
from pydantic.dataclasses import dataclass

import costmodel.layers
from costmodel.errors import InputError, shown
from costmodel.inputs.files import read_toml
from costmodel.inputs.model_rules import (
    check_absent,
    check_block,
    check_hash_routing,
    check_memory,
    check_shared_caches,
    check_shared_choices,
    check_shortcuts,
    check_streams,
)
from costmodel.inputs.storage import storage_of, storage_table
from costmodel.inputs.tower import MAX_TOWERS, Tower
from costmodel.inputs.unset import model_with_unset
from costmodel.layers.absent import NoFfn, NoMixer
from costmodel.layers.altup import AltUp
from costmodel.layers.base import (
    MAX_LAYERS,
    FfnKind,
    LayerKind,
    MemoryKind,
    MixerKind,
    Width,
    selected_layers,
)
from costmodel.layers.formats import Storage
from costmodel.layers.gated_residual import GatedResidual
from costmodel.layers.hyper_connections import HyperConnections
from costmodel.layers.laurel import Laurel
from costmodel.layers.residual_streams import ResidualStreams
from costmodel.strict import STRICT, validated

for _module in pkgutil.iter_modules(costmodel.layers.__path__):
    importlib.import_module(f"costmodel.layers.{_module.name}")


def _kinds(base: type[LayerKind]) -> Any:  # noqa: ANN401 - a type made at import
    """The union type of all layer kinds of one base, which their field `kind` tells apart."""
    classes = tuple(base.__subclasses__())
    if len(classes) == 1:
        return classes[0]
    return Annotated[Union[classes], Field(discriminator="kind")]  # noqa: UP007 - built from a tuple


if TYPE_CHECKING:
    AnyAttention = MixerKind
    AnyFfn = FfnKind
    AnyMemory = MemoryKind
else:
    AnyAttention = _kinds(MixerKind)
    AnyFfn = _kinds(FfnKind)
    AnyMemory = _kinds(MemoryKind)


def _storage_table(storage: Storage | None) -> dict[str, Any] | None:
    return None if storage is None else storage_table(storage)


Text = Annotated[str, Field(max_length=2000)]
Block: TypeAlias = Literal["serial", "parallel", "norms_behind"]
MAX_NAME = 120  # characters of a model's name
MAX_DIFFERENT = 64  # FFNs, and attentions: the work of every question grows with them


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Override:
    """Layers that differ from the model's default one."""

    layers: str  # "0-2", "0-22/2", "1,5"
    attention: AnyAttention | None = None
    ffn: AnyFfn | None = None


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Shortcut:
    """A second FFN beside that of some blocks, whose output joins the residual stream later.

    It reads what the block's own FFN reads, and its output joins after the block that is `skips`
    blocks further on, so that other work may overlap it (LongCat-Flash, arXiv 2509.01322, section
    2.2). It is of another kind than the block's own.
    """

    layers: str  # as of `Override`
    skips: Annotated[int, Field(ge=0, le=MAX_LAYERS)] = 1
    ffn: AnyFfn

    def placement(self, num_hidden_layers: int) -> tuple[tuple[int, int], ...]:
        """(input block, output block) of each, in order."""
        layers = selected_layers(self.layers, num_hidden_layers)
        return tuple((layer, layer + self.skips) for layer in layers)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ModelConfig:
    """A decoder-only language model; making one checks all its fields.

    What follows from its fields alone is worked out once (`cached_property`), as every step asks.
    """

    name: Annotated[str, Field(min_length=1, max_length=MAX_NAME)]
    source: Text
    hidden_size: Width  # D
    vocab_size: Annotated[int, Field(ge=2, le=2**24)]  # V
    num_hidden_layers: Annotated[int, Field(ge=1, le=MAX_LAYERS)]  # L
    tie_word_embeddings: bool = False
    attention: AnyAttention
    ffn: AnyFfn
    overrides: Annotated[tuple[Override, ...], Field(max_length=MAX_LAYERS)] = ()
    shortcuts: Annotated[tuple[Shortcut, ...], Field(max_length=64)] = ()
    memory: Annotated[tuple[AnyMemory, ...], Field(max_length=64)] = ()
    norm: Literal["rms", "layer", "layer_bias"] = "rms"  # LayerNorm without and with a bias
    # serial: attention and FFN each behind a norm of its own; parallel: both behind one norm
    # (Command R); norms_behind: a norm of each one's output in place of its input (OLMo 2).
    block: Block = "serial"
    post_norms: bool = False  # a norm of each sublayer's output too (Gemma)
    altup: AltUp | None = None  # a residual stream of several vectors (Gemma 3n)
    laurel: Laurel | None = None  # a low-rank residual beside attention (Gemma 3n)
    gated_residual: GatedResidual | None = None  # several streams, in place of norms (Qwen3.8)
    hyper_connections: HyperConnections | None = None  # several streams, mixed (DeepSeek-V4)
    logit_softcap: bool = False  # logits are kept within a bound, by a tanh (Gemma 2)
    storage: Annotated[  # of its checkpoint; None: not stated
        Storage | None, PlainValidator(storage_of), PlainSerializer(_storage_table)
    ] = None
    towers: Annotated[tuple[Tower, ...], Field(max_length=MAX_TOWERS)] = ()  # beside the text model
    published: dict[str, float] = Field(default_factory=dict)  # counts as the source prints them
    notes: tuple[Text, ...] = ()  # what a reader must know: conventions, what is left out
    assumptions: tuple[Text, ...] = ()  # given only for a reconstruction: what its source omits

    @field_validator("name")
    @classmethod
    def _printable(cls, name: str) -> str:
        if not name.isprintable():
            raise InputError(f"name={shown(name)}: holds a character that cannot be printed")
        return name

    def __post_init__(self) -> None:
        """Overrides and memory placements must name layers that exist, each once."""
        check_block(self)
        seen: set[int] = set()
        for override in self.overrides:
            layers = selected_layers(override.layers, self.num_hidden_layers)
            if seen & set(layers):
                raise InputError(
                    f"overrides.layers={shown(override.layers)}: layer"
                    f" {min(seen & set(layers))} is overridden twice"
                )
            seen |= set(layers)
        if len(self.overrides) >= MAX_DIFFERENT:
            self._check_different()
        for stated in self.storage.weights.leaves if self.storage else ():
            if stated.layers and max(stated.layers) >= self.num_hidden_layers:
                raise InputError(
                    f"storage.leaves.layers: {stated.leaf} names layer {max(stated.layers)}; the"
                    f" model has {self.num_hidden_layers}"
                )
        check_shared_caches(self)
        check_shared_choices(self)
        check_memory(self)
        check_absent(self)
        check_shortcuts(self)
        check_streams(self)
        check_hash_routing(self)

    def _check_different(self) -> None:
        for field, kinds in (("attention", self._attention_by_layer), ("ffn", self._ffn_by_layer)):
            different = len(set(kinds))
            if different > MAX_DIFFERENT:
                raise InputError(
                    f"overrides.{field}: layers have {different:,} different ones; a model has at"
                    f" most {MAX_DIFFERENT}"
                )

    @property
    def residual_streams(self) -> ResidualStreams | None:
        """What mixes several residual streams before each sublayer; None: there is one stream."""
        return self.gated_residual or self.hyper_connections

    @property
    def stream_width(self) -> int:
        """Elements of the residual stream of one token: D, or so many times D."""
        several = self.altup or self.residual_streams
        return self.hidden_size * (1 if several is None else several.streams)

    @property
    def towers_bytes(self) -> int:
        """Bytes of the towers and projectors of a multimodal model."""
        return sum(tower.stored_bytes for tower in self.towers)

    def attention_of(self, layer: int) -> MixerKind:
        """The attention of one layer."""
        return self._attention_by_layer[layer]

    @cached_property
    def cache_sources(self) -> dict[int, int | None]:
        """For each layer that keeps no cache of its own, the layer whose cache it reads.

        None: no earlier layer has one that it can read, which a rule of the model refuses.
        """
        mixers = (self.attention, *(override.attention for override in self.overrides))
        if not any(mixer is not None and mixer.reads_other_cache for mixer in mixers):
            return {}
        by_layer = self._attention_by_layer
        return {
            layer: next((i for i in reversed(range(layer)) if mixer.can_read(by_layer[i])), None)
            for layer, mixer in enumerate(by_layer)
            if mixer.reads_other_cache
        }

    @cached_property
    def _attention_by_layer(self) -> list[MixerKind]:
        by_layer = [self.attention] * self.num_hidden_layers
        for override in self.overrides:
            if override.attention is not None:
                for layer in selected_layers(override.layers, self.num_hidden_layers):
                    by_layer[layer] = override.attention
        return by_layer

    @cached_property
    def attention_groups(self) -> list[tuple[MixerKind, tuple[int, ...]]]:
        """The distinct attentions with their layers, in the order of each first layer.

        Layers without a mixer are left out.
        """
        groups = _grouped(self._attention_by_layer)
        return [(mixer, layers) for mixer, layers in groups if not isinstance(mixer, NoMixer)]

    @cached_property
    def mixer_layers(self) -> tuple[int, ...]:
        """The layers that have a mixer, in order."""
        return tuple(sorted(layer for _, layers in self.attention_groups for layer in layers))

    @cached_property
    def fed_layers(self) -> tuple[int, ...]:
        """The layers that have an FFN, or a memory layer beside it or in its place, in order."""
        fed = {layer for _, layers in self.ffn_groups for layer in layers}
        for memory in self.memory:
            if memory.position == "beside_ffn":
                fed.update(block for block, _ in memory.placement(self.num_hidden_layers))
        return tuple(sorted(fed))

    @cached_property
    def _ffn_by_layer(self) -> list[FfnKind]:
        by_layer = [self.ffn] * self.num_hidden_layers
        for override in self.overrides:
            if override.ffn is not None:
                for layer in selected_layers(override.layers, self.num_hidden_layers):
                    by_layer[layer] = override.ffn
        return by_layer

    @cached_property
    def ffn_groups(self) -> list[tuple[FfnKind, tuple[int, ...]]]:
        """The distinct FFNs with their layers, then those of shortcuts.

        Layers without an FFN are left out, and those where a memory layer replaces it.
        """
        beside = [
            (shortcut.ffn, tuple(layer for layer, _ in placement))
            for shortcut, placement in zip(self.shortcuts, self.shortcut_placements, strict=True)
        ]
        return [*self.own_ffn_groups, *beside]

    @cached_property
    def own_ffn_groups(self) -> list[tuple[FfnKind, tuple[int, ...]]]:
        """`ffn_groups` without those of shortcuts."""
        by_layer: list[FfnKind | None] = [*self._ffn_by_layer]
        for memory in self.memory:
            if memory.in_place_of_ffn:
                for layer, _ in memory.placement(self.num_hidden_layers):
                    by_layer[layer] = None
        return [
            (ffn, layers)
            for ffn, layers in _grouped(by_layer)
            if ffn is not None and not isinstance(ffn, NoFfn)
        ]

    @cached_property
    def shortcut_placements(self) -> list[tuple[tuple[int, int], ...]]:
        """(input block, output block) of the FFNs of each shortcut."""
        return [shortcut.placement(self.num_hidden_layers) for shortcut in self.shortcuts]


def _grouped(by_layer: list[Any]) -> list[tuple[Any, tuple[int, ...]]]:
    groups: dict[Any, list[int]] = {}
    before, layers = object(), list[int]()
    for layer, kind in enumerate(by_layer):
        if kind is not before:  # hashing a configuration costs more than all else here
            before, layers = kind, groups.setdefault(kind, [])
        layers.append(layer)
    return [(kind, tuple(layers)) for kind, layers in groups.items()]


def model_from_table(table: dict[str, Any], *, where: str) -> ModelConfig:
    """The model of a parsed TOML table.

    An override inherits from the default layer each field that it leaves out, unless it is of
    another kind. "none" leaves an optional field unset.

    Raises:
        InputError: A field breaks a rule; the message begins with `where`.
    """
    merged = dict(table)
    if isinstance(merged.get("attention"), dict):  # before overrides inherit from it
        merged["attention"] = {"kind": "gqa", **merged["attention"]}
    overrides = table.get("overrides")
    if isinstance(overrides, list):
        merged["overrides"] = [
            {
                key: _inheriting(merged.get(key), value) if key in ("attention", "ffn") else value
                for key, value in item.items()
            }
            if isinstance(item, dict)
            else item
            for item in overrides
        ]
    return validated(ModelConfig, model_with_unset(merged), where=where)


def _inheriting(default: object, change: object) -> object:
    if not isinstance(default, dict) or not isinstance(change, dict):
        return change
    if change.get("kind", default.get("kind")) != default.get("kind"):
        return change
    return {**default, **change}


def load_model_toml(path: Path) -> ModelConfig:
    """The model of a TOML file.

    Raises:
        InputError: The file cannot be read, or is no valid model.
    """
    return model_from_table(read_toml(path), where=f"model {shown(path.name)}")
