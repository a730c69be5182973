"""Every field that can change a cost tells components apart: no design gets the numbers of another.

Each field of a model, of an override and of every layer kind is changed in turn, whatever fields
there are. The keys must change, and both models, costed together, must cost what `predict` says.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
from pydantic import ValidationError

from costmodel.costs.calibrations import calibrated
from costmodel.errors import InputError
from costmodel.inputs.hardware import load_hardware
from costmodel.inputs.model import ModelConfig, Override, Shortcut
from costmodel.inputs.tower import Tower
from costmodel.inputs.workload import Workload
from costmodel.layers.absent import NoFfn, NoMixer
from costmodel.layers.altup import AltUp
from costmodel.layers.attention_and_mamba2 import AttentionAndMamba2
from costmodel.layers.base import FfnKind, LayerKind, MemoryKind, MixerKind
from costmodel.layers.compressed_attention import CompressedAttention
from costmodel.layers.gated_residual import GatedResidual
from costmodel.layers.hyper_connections import HyperConnections
from costmodel.layers.laurel import Laurel
from costmodel.layers.mla import LatentAttention
from costmodel.layers.moe import MoeFfn
from costmodel.layers.msa import BlockSparseAttention
from costmodel.layers.ngram import Ngram
from costmodel.layers.qsa import PooledKeyAttention
from costmodel.questions.designs.components import NOT_COSTED, component_keys
from costmodel.questions.designs.evaluate import evaluate
from tests.questions.test_designs import assert_predicted
from tests.strategies import PRESETS

H200 = load_hardware("h200")
CURVES = calibrated("h200")
WITH_OVERRIDE = PRESETS["gpt-oss-20b"]
WITH_SHORTCUT = PRESETS["longcat-flash-chat"]
GQA, MAMBA = PRESETS["llama-3.1-8b"].attention, PRESETS["granite-4.0-h-small"].attention
ROUTED: Any = PRESETS["deepseek-v3"].ffn
EXPERTS = {  # which of the models with experts may have it
    "image_correction_bias": PRESETS["deepseek-v3"],
    "hash_vocab_size": PRESETS["mixtral-8x7b"],
}
INDEXED = replace(PRESETS["deepseek-v3.2"], overrides=())
ROOMY = (  # rules leave each field a choice
    replace(PRESETS["deepseek-v3"], ffn=replace(ROUTED, score_correction_bias=False)),
    PRESETS["ultramemv2-1b-7b"],
    PRESETS["engram-1b-7b-reconstruction"],
    replace(
        PRESETS["granite-4.0-h-small"],
        attention=AttentionAndMamba2(attention=GQA, mamba=MAMBA),  # type: ignore[arg-type]  # as their names say
    ),
    replace(
        PRESETS["llama-3.1-8b"],
        attention=PooledKeyAttention(
            num_attention_heads=32,
            num_key_value_heads=8,
            head_dim=128,
            index_n_heads=4,
            index_head_dim=128,
            index_budget=2048,
            index_compress_ratio=4,
        ),
    ),
    replace(
        PRESETS["llama-3.1-8b"],
        attention=CompressedAttention(
            num_attention_heads=64,
            head_dim=128,
            q_lora_rank=512,
            qk_rope_head_dim=64,
            o_groups=8,
            o_lora_rank=256,
            sliding_window=128,
            compress_ratio=4,
            overlapping=True,
            index_topk=512,
            index_n_heads=16,
            index_head_dim=64,
        ),
    ),
)


TIED = {  # with another field, of the model or of another layer
    (BlockSparseAttention, "num_key_value_heads"),
    (BlockSparseAttention, "index_n_heads"),
    (Ngram, "per_stream"),
    (CompressedAttention, "shared_entries"),
    (CompressedAttention, "shared_index"),
    (CompressedAttention, "candidate_topk_blocks"),
    (CompressedAttention, "candidate_block_size"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A field of a record within a model, and the model with another record in its place."""

    model: ModelConfig
    record: Any  # a model, an override or a layer kind
    field: str
    put: Callable[[Any], ModelConfig]

    def __str__(self) -> str:
        of = self.model.name if self.record is self.model else type(self.record).__name__
        return f"{of}.{self.field}"

    def changed(self) -> ModelConfig:
        """The model with the first other value of the field that no rule refuses."""
        for value in _values(self.record, self.field):
            try:
                model = self.put(replace(self.record, **{self.field: value}))
            except (ValidationError, InputError):
                continue
            if getattr(self.record, self.field) != value:
                return model
        raise AssertionError(f"{self}: no other value is accepted; add one to _values")


def _values(record: object, name: str) -> Iterator[object]:
    """Values to try in a field, by its type and its value."""
    value, hint = getattr(record, name), get_type_hints(type(record))[name]
    for accepted in (hint, *get_args(hint)):  # a field may be None besides
        yield from get_args(accepted) if get_origin(accepted) is Literal else ()
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, int | float):
        yield from (type(value)(value * factor) for factor in (2, 0.5, 4))
    elif isinstance(value, str):
        yield from ("0", "0-3", "another")
    elif name == "hash_vocab_size":
        yield from {preset.vocab_size for preset in PRESETS.values()}  # that of the model
    elif value is None and name == "num_embeddings":
        yield (2**32, 2**33)  # rows of two layers
    elif isinstance(value, tuple | dict):
        yield from (value[:-1] if isinstance(value, tuple) else {}, ("a",), {"a": 1.0})
        yield (Override(layers="0", ffn=PRESETS["llama-3.1-8b"].ffn),)
        yield PRESETS["peer-12l-1m"].memory
        yield (Tower(name="vision tower", parameters=1000),)
        for beside in ("mixtral-8x7b", "llama-3.1-8b"):
            yield (Shortcut(layers="0", ffn=PRESETS[beside].ffn),)
    yield from (64, 2, 0.5)
    yield from (PRESETS["llama-3.1-8b"].ffn, PRESETS["olmoe-1b-7b"].ffn, GQA, None)
    yield replace(MAMBA, mamba_d_state=64)  # type: ignore[type-var]  # all are dataclasses
    yield replace(GQA, head_dim=64)  # type: ignore[type-var]
    yield PRESETS["deepseek-v3"].storage
    yield from (AltUp(), Laurel(laurel_rank=16), GatedResidual(hc_lowrank=16), HyperConnections())


def _layer(kind: type[LayerKind]) -> tuple[ModelConfig, LayerKind, Callable[[Any], ModelConfig]]:
    """A preset with a layer of this kind, which the last of the three replaces."""
    for model in (*ROOMY, *PRESETS.values()):
        for name in ("attention", "ffn"):
            if type(getattr(model, name)) is kind:
                return (
                    model,
                    getattr(model, name),
                    lambda layer, m=model, n=name: replace(m, **{n: layer}),
                )
        if model.memory and type(model.memory[0]) is kind:
            return model, model.memory[0], lambda layer, m=model: replace(m, memory=(layer,))
    raise AssertionError(f"no preset has a {kind.__name__}")


def _with_last_attention(model: ModelConfig, layer: Any) -> ModelConfig:  # noqa: ANN401 - a layer kind
    last = Override(layers=str(model.num_hidden_layers - 1), attention=layer)
    return replace(model, overrides=(last,))


def _with_ffn(model: ModelConfig, layer: Any) -> ModelConfig:  # noqa: ANN401 - a layer kind
    return replace(model, ffn=layer)


def _with_fields(base: type[LayerKind]) -> list[type[LayerKind]]:
    """The kinds of a base, but those that stand for nothing."""
    return [kind for kind in base.__subclasses__() if kind not in (NoFfn, NoMixer)]


def changes() -> Iterator[Change]:
    """Every field of a model, of an override, and of every layer kind but those of one value."""
    for model in (PRESETS["ultramemv2-227m-1.2b"], WITH_OVERRIDE):
        for field in fields(ModelConfig):
            if field.name in ("gated_residual", "hyper_connections") and model.memory:
                continue  # beside tables of streams alone
            yield Change(model=model, record=model, field=field.name, put=lambda model: model)
    for field in fields(Override):
        yield Change(
            model=WITH_OVERRIDE,
            record=WITH_OVERRIDE.overrides[0],
            field=field.name,
            put=lambda override: replace(WITH_OVERRIDE, overrides=(override,)),
        )
    for field in fields(Shortcut):
        yield Change(
            model=WITH_SHORTCUT,
            record=WITH_SHORTCUT.shortcuts[0],
            field=field.name,
            put=lambda shortcut: replace(WITH_SHORTCUT, shortcuts=(shortcut,)),
        )
    for base in (MixerKind, FfnKind, MemoryKind):
        for kind in _with_fields(base):
            yield from _of_kind(kind)


def _of_kind(kind: type[LayerKind]) -> Iterator[Change]:
    model, layer, put = _layer(kind)
    for field in fields(layer):  # type: ignore[arg-type]  # all are dataclasses
        hint = get_type_hints(kind)[field.name]
        if (kind, field.name) in TIED:
            continue
        if field.name == "shared_kv":  # of a layer behind one that has a cache
            put = partial(_with_last_attention, model)
        if (
            kind is LatentAttention and "index" in field.name
        ):  # of a layer with an indexer, behind one that has another
            model, layer = INDEXED, INDEXED.attention
            put = partial(_with_last_attention, model)
        if kind is MoeFfn and field.name in EXPERTS:
            of = EXPERTS[field.name]
            put_ffn = partial(_with_ffn, of)
            yield Change(model=of, record=of.ffn, field=field.name, put=put_ffn)
            continue
        if get_origin(hint) is not Literal or len(get_args(hint)) > 1:
            yield Change(model=model, record=layer, field=field.name, put=put)


@pytest.mark.parametrize("change", [*changes()], ids=str)
def test_another_value_of_a_field_makes_another_key(change: Change) -> None:
    model, changed = change.model, change.changed()
    same = component_keys(model) == component_keys(changed)
    assert same == (change.record is model and change.field in NOT_COSTED)
    found = evaluate([model, changed], Workload(), H200, CURVES, batches=[3], contexts=[500])
    step = Workload(batch=3, context=500)
    assert_predicted(found, (0, 0, 0), model, step)
    assert_predicted(found, (1, 0, 0), changed, step)
