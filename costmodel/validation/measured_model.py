"""Whether a recording measured a given model: equal fields, but for those named here.

Name, source, published counts and notes cost nothing; a recording states its own formats, whatever
the checkpoint's. QK-norm may be of each head or over all
heads: it does the same FLOPs in the same kernels, and its weights differ by 2 (H - 1) d numbers a
layer. The shipped recordings of UltraMemV2's paper's models were made with norms over all heads;
their presets have the published norms of each head.
"""

from dataclasses import replace

from costmodel.inputs.model import ModelConfig, Override
from costmodel.layers.attention import Attention
from costmodel.layers.base import MixerKind


def measured_alike(recorded: ModelConfig, model: ModelConfig) -> bool:
    """Whether what was measured of the `recorded` model stands for `model`, too."""
    return comparable(recorded) == comparable(model)


def comparable(model: ModelConfig) -> ModelConfig:
    """The model with the fields that may differ set to the same values."""
    return replace(
        model,
        name="-",
        source="",
        published={},
        notes=(),
        assumptions=(),
        storage=None,
        attention=_comparable_mixer(model.attention),
        overrides=tuple(_comparable_override(override) for override in model.overrides),
    )


def _comparable_override(override: Override) -> Override:
    if override.attention is None:
        return override
    return replace(override, attention=_comparable_mixer(override.attention))


def _comparable_mixer(mixer: MixerKind) -> MixerKind:
    if isinstance(mixer, Attention) and mixer.qk_norm == "full":
        return replace(mixer, qk_norm="head")
    return mixer
