"""Rules between the fields of a model: which layers may stand where, and beside what."""

from typing import TYPE_CHECKING

from costmodel.errors import InputError, shown
from costmodel.layers.absent import NoFfn, NoMixer
from costmodel.layers.compressed_attention import CompressedAttention
from costmodel.layers.mla import LatentAttention
from costmodel.layers.moe import MoeFfn
from costmodel.layers.ngram import Ngram
from costmodel.layers.residual_streams import ResidualStreams

if TYPE_CHECKING:  # it checks itself by these rules
    from costmodel.inputs.model import ModelConfig


def check_shortcuts(model: "ModelConfig") -> None:
    """They stand beside FFNs of other kinds, each block has one, and they end in the model."""
    if model.shortcuts and model.block != "serial":
        raise InputError(f"shortcuts: are of block='serial', not of {model.block!r}")
    if not model.shortcuts:
        return
    own = {layer: ffn for ffn, layers in model.own_ffn_groups for layer in layers}
    taken: set[int] = set()
    for shortcut in model.shortcuts:
        where = f"shortcuts.layers={shown(shortcut.layers)}"
        for layer, output in shortcut.placement(model.num_hidden_layers):
            if output >= model.num_hidden_layers:
                raise InputError(
                    f"{where}: that of layer {layer} would join after layer {output}; the model"
                    f" has {model.num_hidden_layers}"
                )
            if layer in taken:
                raise InputError(f"{where}: layer {layer} has two")
            if layer not in own or type(own[layer]) is type(shortcut.ffn):
                raise InputError(
                    f"{where}: layer {layer} has no FFN of another kind than {shortcut.ffn.kind!r}"
                )
            taken.add(layer)


def check_hash_routing(model: "ModelConfig") -> None:
    """A table that says which experts a token id has, has a row for each id."""
    for ffn, _ in model.ffn_groups:
        rows = ffn.hash_vocab_size if isinstance(ffn, MoeFfn) else None
        if rows is not None and rows != model.vocab_size:
            raise InputError(
                f"ffn.hash_vocab_size={rows}: is not vocab_size={model.vocab_size}, the rows of a"
                " table of token ids"
            )


def check_absent(model: "ModelConfig") -> None:
    """A layer may go without a mixer or an FFN; not without both, and some have a mixer."""
    halves = [model.attention, model.ffn]
    halves += [half for o in model.overrides for half in (o.attention, o.ffn) if half]
    if not any(isinstance(half, NoMixer | NoFfn) for half in halves):
        return
    mixing = model.mixer_layers
    if model.block != "serial":
        raise InputError(
            f"block={model.block!r}: has a mixer and an FFN in every layer; layers of kind"
            " 'no_mixer' or 'no_ffn' are of block='serial'"
        )
    _check_whole(model)
    if not mixing:
        raise InputError("attention.kind='no_mixer': of all layers; one at least has a mixer")
    both = set(mixing).union(model.fed_layers)
    for layer in range(model.num_hidden_layers):
        if layer not in both:
            raise InputError(
                f"overrides.layers: layer {layer} has neither a mixer nor an FFN, nor a memory"
                " layer beside it"
            )
    with_ffn = {layer for _, layers in model.own_ffn_groups for layer in layers}
    for memory in model.memory if any(isinstance(half, NoFfn) for half in halves) else ():
        for a, b in memory.placement(model.num_hidden_layers):
            if memory.position == "beside_ffn" and a != b and a not in with_ffn:
                raise InputError(
                    f"memory.layers={shown(memory.layers)}: {a}:{b} skips blocks, which a memory"
                    f" layer cannot in layer {a} that has no FFN"
                )


def _check_whole(model: "ModelConfig") -> None:
    """AltUp and LAUREL stand in layers that have both halves."""
    for field in ("altup", "laurel"):
        if getattr(model, field) is not None:
            raise InputError(
                f"{field}: is of layers with a mixer and an FFN, not of kind 'no_mixer' or 'no_ffn'"
            )


def check_streams(model: "ModelConfig") -> None:
    """Several residual streams are mixed before each sublayer, in layers that have both halves."""
    streams = model.residual_streams
    _check_tables_of_streams(model, streams)
    if streams is None:
        return
    if model.gated_residual and model.hyper_connections:
        raise InputError("hyper_connections: is not of a model with gated_residual")
    for field, plain in (("block", "serial"), ("norm", "rms"), ("post_norms", False)):
        if getattr(model, field) != plain:
            raise InputError(
                f"{field}={shown(getattr(model, field))}: is not of a model with {streams.kind}"
            )
    for field in ("altup", "laurel", "shortcuts"):
        if getattr(model, field):
            raise InputError(f"{field}: is not of a model with {streams.kind}")
    halves = set(model.mixer_layers) & {i for _, layers in model.own_ffn_groups for i in layers}
    if len(halves) != model.num_hidden_layers:
        raise InputError(f"{streams.kind}: is of layers with a mixer and an FFN")


def _check_tables_of_streams(model: "ModelConfig", streams: ResidualStreams | None) -> None:
    """Tables that read and write each stream stand where there are several, and no others do."""
    for memory in model.memory:
        of_streams = isinstance(memory, Ngram) and memory.per_stream
        if of_streams and streams is None:
            raise InputError("memory.per_stream=True: needs gated_residual or hyper_connections")
        if streams is not None and not of_streams:
            raise InputError(
                f"memory.kind={memory.kind!r}: is not modelled beside {streams.kind}; tables of"
                " kind 'ngram' with per_stream are"
            )
        if streams and isinstance(memory, Ngram) and memory.streams != streams.streams:
            raise InputError(
                f"memory.streams={memory.streams}: is not the number of streams of"
                f" {streams.kind}, {streams.streams}"
            )


def check_shared_caches(model: "ModelConfig") -> None:
    """A layer that reads another's cache has an earlier one that it can read."""
    for layer, source in model.cache_sources.items():
        if source is None:
            field, needed = model.attention_of(layer).reads_of_other
            raise InputError(
                f"attention.{field}=True: layer {layer} has no earlier layer with {needed}"
            )


def check_shared_choices(model: "ModelConfig") -> None:
    """A layer that takes the choice of another's indexer has one before it, of as many tokens.

    Of compressed attention the choice is among the entries that it reads; so it is with candidates.
    """
    last: tuple[int | None, int | None] | None = None
    candidates: tuple[int | None, ...] | None = None
    for layer in range(model.num_hidden_layers):
        mixer = model.attention_of(layer)
        if not isinstance(mixer, LatentAttention | CompressedAttention) or mixer.index_topk is None:
            continue
        source = model.cache_sources.get(layer, layer)
        chosen = mixer.index_topk, source if isinstance(mixer, CompressedAttention) else None
        if mixer.shared_index and chosen != last:
            raise InputError(
                f"attention.shared_index=True: layer {layer} has no earlier layer with an indexer"
                f" of index_topk={mixer.index_topk}"
            )
        last = chosen
        if isinstance(mixer, CompressedAttention) and mixer.candidate_topk_blocks is not None:
            blocks = mixer.candidate_topk_blocks, mixer.candidate_block_size, source
            if mixer.shared_entries and candidates != blocks:
                raise InputError(
                    f"attention.candidate_topk_blocks={mixer.candidate_topk_blocks}: layer {layer}"
                    " has no earlier layer that owns its entries and chooses so many blocks of them"
                )
            candidates = blocks


def check_memory(model: "ModelConfig") -> None:
    """No place has two memory layers, and their rules hold."""
    taken: set[tuple[str, int]] = set()
    at_input: set[str] = set()
    for memory in model.memory:
        if memory.at_input and memory.kind in at_input:
            raise InputError(
                f"memory.kind={memory.kind!r}: stands twice; it has a part at the model's"
                " input, of which there is one"
            )
        if memory.at_input:
            at_input.add(memory.kind)
        placement = memory.placement(model.num_hidden_layers)
        memory.check(len(placement), model.hidden_size)
        for a, b in placement:
            if (memory.position, a) in taken:
                raise InputError(
                    f"memory.layers={shown(memory.layers)}: block {a} has a memory layer"
                )
            if memory.in_place_of_ffn and a != b:
                raise InputError(
                    f"memory.layers={shown(memory.layers)}: {a}:{b} skips blocks, which a"
                    " memory layer that replaces the FFN cannot"
                )
            taken.add((memory.position, a))


def check_block(model: "ModelConfig") -> None:
    """What may be built of blocks that are not serial."""
    if model.post_norms and model.block != "serial":
        raise InputError(f"post_norms=True: is of block='serial', not of {model.block!r}")
    if model.laurel is not None and model.block != "serial":
        raise InputError(f"laurel: is of block='serial', not of {model.block!r}")
    if model.memory and model.block == "norms_behind":
        raise InputError(
            "block='norms_behind': has no norm that could read or add what a memory layer does"
        )
