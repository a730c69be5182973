"""One model's trunk under another's sparse part, so that only the sparse part differs."""

from dataclasses import fields, replace

from pydantic import ValidationError

from costmodel.errors import InputError, shown
from costmodel.inputs.model import ModelConfig, Override
from costmodel.layers.base import FfnKind, MemoryKind, MixerKind, selected_layers
from costmodel.layers.product_key import ProductKey
from costmodel.layers.site import layer_pattern
from costmodel.strict import explained


def on_trunk(template: ModelConfig, trunk: ModelConfig) -> ModelConfig:
    """The FFNs and memory layers of `template` on the trunk of `trunk`.

    The trunk: hidden size, layers, attention, vocabulary and tying, norms after sublayers. A
    product-key memory without output projection has rows as wide as the model, whichever it is.
    Published counts, notes and assumptions are left behind: they speak of another model.

    Raises:
        InputError: the template's layers do not stand in so many blocks.
    """
    try:
        return ModelConfig(
            name=template.name,
            source=template.source,
            hidden_size=trunk.hidden_size,
            vocab_size=trunk.vocab_size,
            num_hidden_layers=trunk.num_hidden_layers,
            tie_word_embeddings=trunk.tie_word_embeddings,
            post_norms=trunk.post_norms,
            **_blocks(template, trunk),  # type: ignore[arg-type]  # three fields by name
            memory=tuple(_as_wide(memory, trunk.hidden_size) for memory in template.memory),
        )
    except (InputError, ValidationError) as error:
        rule = explained(error) if isinstance(error, ValidationError) else str(error)
        raise InputError(
            f"template={shown(template.name)}: does not fit the trunk of {shown(trunk.name)}:"
            f" {rule}; --keep-trunk keeps the template's own"
        ) from None


def _blocks(template: ModelConfig, trunk: ModelConfig) -> dict[str, object]:
    """The default layer and the overrides: attention as in `trunk`, FFN as in `template`."""
    layers = range(trunk.num_hidden_layers)
    ffns = [template.ffn] * len(layers)
    for override in template.overrides:
        for layer in selected_layers(override.layers, len(layers)) if override.ffn else ():
            ffns[layer] = override.ffn or template.ffn
    attentions = [trunk.attention_of(layer) for layer in layers]
    # A TOML override inherits what it does not set, and cannot unset: the plainest is the default.
    default = min(attentions, key=_fields_set)
    groups: dict[tuple[MixerKind | None, FfnKind | None], list[int]] = {}
    for layer, (attention, ffn) in enumerate(zip(attentions, ffns, strict=True)):
        own = (None if attention == default else attention, None if ffn == template.ffn else ffn)
        groups.setdefault(own, []).append(layer)
    return {
        "attention": default,
        "ffn": template.ffn,
        "overrides": tuple(
            Override(layers=layer_pattern(at).strip("{}"), attention=attention, ffn=ffn)
            for (attention, ffn), at in groups.items()
            if attention is not None or ffn is not None
        ),
    }


def _fields_set(attention: MixerKind) -> int:
    return sum(getattr(attention, field.name) is not None for field in fields(attention))  # type: ignore[arg-type]  # all are dataclasses


def _as_wide(memory: MemoryKind, hidden_size: int) -> MemoryKind:
    if isinstance(memory, ProductKey) and not memory.output_projection:
        return replace(memory, value_dim=hidden_size)
    return memory
