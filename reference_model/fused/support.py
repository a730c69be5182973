"""What the backend `fused` can run: one refusal names the field, the value and the rule.

It decodes (one new token a sequence) on an NVIDIA GPU of compute capability 9.0 or newer, in bf16,
models whose layers are grouped-query attention and a gated feed-forward layer or experts.
"""

import torch

from costmodel.inputs.model import ModelConfig
from costmodel.layers.attention import Attention
from costmodel.layers.base import FfnKind, MixerKind
from costmodel.layers.ffn import DenseFfn
from costmodel.layers.moe import MoeFfn

ACTIVATIONS = ("silu", "clamped_silu")
OLDEST = (9, 0)  # compute capability: tensor descriptors and programmatic dependent launch
STEP = 64  # elements of a reduction that the matrix-unit kernels take at once


def model_refusal(config: ModelConfig) -> str | None:
    """Why there are no kernels for a model; None if there are."""
    if config.memory:
        return f"has no kernels for memory layers of kind {config.memory[0].kind}"
    if config.post_norms:
        return "has no kernels for norms behind a layer (post_norms)"
    if config.hidden_size % STEP:
        return f"needs a hidden_size that is a multiple of {STEP}, not {config.hidden_size}"
    for mixer, _ in config.attention_groups:
        if (refusal := _mixer_refusal(mixer)) is not None:
            return refusal
    for ffn, layers in config.ffn_groups:
        if layers and (refusal := _ffn_refusal(ffn)) is not None:
            return refusal
    if sum(len(layers) for _, layers in config.ffn_groups) != config.num_hidden_layers:
        return "has no kernels for a block without a feed-forward layer"
    return None


def _mixer_refusal(mixer: MixerKind) -> str | None:
    if not isinstance(mixer, Attention):
        return f"has no kernels for attention of kind {mixer.kind}"
    d, rotary = mixer.head_dim, mixer.rotary_dim
    if d & (d - 1) or d < 16:  # noqa: PLR2004 - the least side of a matrix unit's tile
        return f"needs a head_dim that is a power of two from 16, not {d}"
    if rotary is not None and (rotary == 0 or rotary % 2):
        return f"needs an even rotary_dim, not {rotary}"
    return None


def _ffn_refusal(ffn: FfnKind) -> str | None:
    if not isinstance(ffn, DenseFfn | MoeFfn):
        return f"has no kernels for a feed-forward layer of kind {ffn.kind}"
    if not ffn.gated or ffn.activation not in ACTIVATIONS:
        gate = "a gated" if ffn.gated else "an ungated"
        return f"has no kernels for {gate} feed-forward layer with activation {ffn.activation}"
    if isinstance(ffn, MoeFfn):
        widths = {"moe_intermediate_size": ffn.moe_intermediate_size}
        if ffn.shared_intermediate_size:
            widths["shared_intermediate_size"] = ffn.shared_intermediate_size
            if ffn.expert_bias:
                return "has no kernels for shared experts with biases"
    else:
        widths = {"intermediate_size": ffn.intermediate_size}
    for field, width in widths.items():
        if width % STEP:
            return f"needs {field} to be a multiple of {STEP}, not {width}"
    return None


def device_refusal(device: torch.device, dtype: torch.dtype) -> str | None:
    """Why kernels cannot run on a device in a format; None if they can."""
    if device.type != "cuda":
        return f"needs a GPU: device=cuda, not {device.type}"
    if dtype != torch.bfloat16:
        return f"runs bf16, not {str(dtype).removeprefix('torch.')}"
    capability = torch.cuda.get_device_capability(device)
    if capability < OLDEST:
        have, least = (".".join(map(str, version)) for version in (capability, OLDEST))
        return f"needs compute capability {least} or newer; this GPU has {have}"
    return None
