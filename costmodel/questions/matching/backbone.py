"""The sparse part of one model on the backbone of another, so that only the sparse part differs."""

from dataclasses import fields

from pydantic import ValidationError

from costmodel.errors import InputError, shown
from costmodel.inputs.model import ModelConfig, Override
from costmodel.layers.base import FfnKind, MixerKind, selected_layers
from costmodel.layers.site import layer_pattern
from costmodel.strict import explained


def on_backbone(template: ModelConfig, backbone: ModelConfig) -> ModelConfig:
    """The FFNs, shortcuts and memory layers of `template` on the backbone of the model `backbone`.

    The backbone: hidden size, layers, attention, vocabulary and tying, norms and where they stand,
    what else the residual stream has, towers.
    Where a field of a memory layer must equal the hidden size, it follows
    (`MemoryKind.for_hidden_size`).
    Published counts, notes and assumptions are left behind: they speak of another model.

    Raises:
        InputError: the template's layers do not stand in so many blocks.
    """
    hidden_size = backbone.hidden_size
    try:
        return ModelConfig(
            name=template.name,
            source=template.source,
            hidden_size=hidden_size,
            vocab_size=backbone.vocab_size,
            num_hidden_layers=backbone.num_hidden_layers,
            tie_word_embeddings=backbone.tie_word_embeddings,
            norm=backbone.norm,
            block=backbone.block,
            post_norms=backbone.post_norms,
            altup=backbone.altup,
            laurel=backbone.laurel,
            gated_residual=backbone.gated_residual,
            hyper_connections=backbone.hyper_connections,
            logit_softcap=backbone.logit_softcap,
            towers=backbone.towers,
            **_blocks(template, backbone),  # type: ignore[arg-type]  # three fields by name
            shortcuts=template.shortcuts,
            memory=tuple(memory.for_hidden_size(hidden_size) for memory in template.memory),
        )
    except (InputError, ValidationError) as error:
        rule = explained(error) if isinstance(error, ValidationError) else str(error)
        raise InputError(
            f"template={shown(template.name)}: does not fit the backbone of"
            f" {shown(backbone.name)}: {rule}; --keep-trunk keeps the template's own"
        ) from None


def _blocks(template: ModelConfig, backbone: ModelConfig) -> dict[str, object]:
    """The default layer and the overrides: attention of `backbone`, FFN of `template`."""
    layers = range(backbone.num_hidden_layers)
    ffns = [template.ffn] * len(layers)
    for override in template.overrides:
        for layer in selected_layers(override.layers, len(layers)) if override.ffn else ():
            ffns[layer] = override.ffn or template.ffn
    attentions = [backbone.attention_of(layer) for layer in layers]
    # An override inherits what it does not set: with the plainest as default it is short to read.
    default = min(attentions, key=_num_fields_set)
    groups: dict[tuple[MixerKind | None, FfnKind | None], list[int]] = {}
    for layer, (attention, ffn) in enumerate(zip(attentions, ffns, strict=True)):
        differing = (
            None if attention == default else attention,
            None if ffn == template.ffn else ffn,
        )
        groups.setdefault(differing, []).append(layer)
    return {
        "attention": default,
        "ffn": template.ffn,
        "overrides": tuple(
            Override(layers=layer_pattern(at).strip("{}"), attention=attention, ffn=ffn)
            for (attention, ffn), at in groups.items()
            if attention is not None or ffn is not None
        ),
    }


def _num_fields_set(attention: MixerKind) -> int:
    return sum(getattr(attention, field.name) is not None for field in fields(attention))  # type: ignore[arg-type]  # all are dataclasses
