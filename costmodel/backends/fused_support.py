"""What the backend `fused` can run: bf16 steps of attention or MLA with dense or MoE layers.

Steps are decode steps, or prefill of whole prompts by plain attention.

What memory layers beside or in place of these need stands in `fused_memory.py`.

A refusal names the field, the value and the rule. What a device must have is known to the reference
model alone (`reference_model/fused/support.py`).
"""

from collections.abc import Sequence

import numpy as np

from costmodel.backends.fused_memory import MEMORY_KINDS, RETRIEVE, memory_refusal
from costmodel.layers.attention import Attention
from costmodel.layers.base import LayerKind, MemoryKind
from costmodel.layers.dtype import BF16
from costmodel.layers.ffn import DenseFfn
from costmodel.layers.mla import LatentAttention
from costmodel.layers.moe import MoeFfn
from costmodel.layers.operator import Operator, Step
from costmodel.layers.primitives import LAYER_NORM_PART

ACTIVATIONS = ("silu", "clamped_silu")
MULTIPLE = 64  # elements of the hidden size that the matrix-unit kernels take at once
WIDTH_MULTIPLE = 8  # elements of 16 bytes, which a tensor descriptor's rows are a multiple of
LEAST_HEAD = 16  # the least side of a matrix unit's tile
LATENT_SIZES = {"kv_lora_rank": (16, 512), "qk_rope_head_dim": (16, 64)}  # of keys kept on the chip
POST_NORMS = ("post_attention_norm", "post_ffn_norm")


def refusal(operators: Sequence[Operator], step: Step) -> str | None:
    """Why there are no kernels for a step of these operators, as a predicate; None: there are."""
    return (
        step_refusal(step)
        or model_refusal(operators)
        or (_prompt_refusal(operators) if _is_prefill(step) else _mode_refusal(operators, step))
    )


def step_refusal(step: Step) -> str | None:
    """Why there are no kernels for a step, whatever the model."""
    if _is_prefill(step) and np.any(np.asarray(step.cached) > 0):
        return "has no kernels for prefill after a context: it takes whole prompts, context=0"
    if _is_prefill(step) and step.logits == "all":
        return "has no kernels for the logits of all tokens of a prompt: it gives the last one's"
    if step.formats.dtypes != (BF16,) or step.kv_dtype != BF16:
        stored = f"dtype={step.formats.named} with kv_dtype={step.kv_dtype.label}"
        return f"runs {BF16.name}, not {stored}"
    return None


def _is_prefill(step: Step) -> bool:
    return bool(np.any(np.asarray(step.new_tokens) > 1))


def _prompt_refusal(operators: Sequence[Operator]) -> str | None:
    """Why there are no kernels for whole prompts, of a model that has kernels for decode steps."""
    for layer in dict.fromkeys(operator.layer_kind for operator in operators):
        if isinstance(layer, LatentAttention):
            return "has no kernels for prefill by latent attention"
        if isinstance(layer, Attention) and layer.sliding_window is not None:
            return f"has no kernels for prefill with sliding_window={layer.sliding_window}"
        if isinstance(layer, Attention) and layer.sinks:
            return "has no kernels for prefill with attention sinks"
    return None


def _mode_refusal(operators: Sequence[Operator], step: Step) -> str | None:
    if step.mla == "absorbed":
        return None
    latent = any(isinstance(each.layer_kind, LatentAttention) for each in operators)
    return f"runs absorbed latent attention, not mla={step.mla}" if latent else None


def model_refusal(operators: Sequence[Operator]) -> str | None:
    """Why there are no kernels for a model, given its operators in any step."""
    reasons = [
        layer_refusal(layer)
        for layer in dict.fromkeys(each.layer_kind for each in operators)
        if layer is not None
    ]
    reasons += map(memory_refusal, (each for each in operators if each.leaf == RETRIEVE))
    reasons += map(_end_refusal, operators)
    if not any(operator.leaf == "ffn_norm" for operator in operators):
        reasons.append("has no kernels for blocks without a norm before the FFN")
    elif _layers_of("attention_norm", operators) != _layers_of("ffn_norm", operators):
        reasons.append("has no kernels for layers that are a mixer or an FFN alone")
    elif _layers_of("ffn.down", operators) & _layers_of("moe.router", operators):
        reasons.append("has no kernels for experts beside a dense FFN")
    return next(filter(None, reasons), None)


def _layers_of(leaf: str, operators: Sequence[Operator]) -> set[int]:
    """The layers that have a leaf."""
    return {layer for operator in operators if operator.leaf == leaf for layer in operator.layers}


def _end_refusal(operator: Operator) -> str | None:
    """Why there are no kernels for a norm or the LM head."""
    if operator.leaf in POST_NORMS:
        return "has no kernels for norms behind a layer (post_norms)"
    if any(part.name == LAYER_NORM_PART for part in operator.parts):
        return "has no kernels for LayerNorm"
    if operator.leaf == "lm_head" and len(operator.parts) > 1:
        return "has no kernels for a softcap of the logits"
    if operator.leaf == "final_norm" and operator.weights:
        width = operator.weights[0].rows
        if width % MULTIPLE:
            return f"needs a hidden_size that is a multiple of {MULTIPLE}, not {width}"
    return None


def layer_refusal(layer: LayerKind) -> str | None:
    """Why there are no kernels for a layer; None: there are."""
    if isinstance(layer, Attention):
        return _attention_refusal(layer)
    if isinstance(layer, LatentAttention):
        return _latent_refusal(layer)
    if isinstance(layer, DenseFfn | MoeFfn):
        return _ffn_refusal(layer)
    if isinstance(layer, MEMORY_KINDS):
        return None  # sizes follow from the number of layers: `memory_refusal`
    what = "memory layers" if isinstance(layer, MemoryKind) else "layers"
    return f"has no kernels for {what} of kind {layer.kind}"


def _attention_refusal(layer: Attention) -> str | None:
    for has, what in (
        (layer.softcap, "a softcap of attention scores"),
        (layer.output_gate, "a gate of attention's output"),
        (layer.value_dim != layer.head_dim, "values of another size than keys (v_head_dim)"),
        (layer.attention_k_eq_v, "keys that are values (attention_k_eq_v)"),
        (layer.value_norm, "a norm of values (value_norm)"),
        (layer.shared_kv, "layers that read another layer's cache (shared_kv)"),
        (layer.attention_chunk_size, f"attention_chunk_size={layer.attention_chunk_size}"),
        (layer.floor_scale, "queries that grow with the position (floor_scale)"),
        (layer.qk_norm == "head_unweighted", "a QK-norm without weights"),
    ):
        if has:
            return f"has no kernels for {what}"
    d, rotary = layer.head_dim, layer.rotary_dim
    if d & (d - 1) or d < LEAST_HEAD:
        return f"needs a head_dim that is a power of two from {LEAST_HEAD}, not {d}"
    if rotary is not None and (rotary == 0 or rotary % 2):
        return f"needs an even rotary_dim, not {rotary}"
    return None


def _latent_refusal(layer: LatentAttention) -> str | None:
    if layer.index_topk is not None:
        return "has no kernels for attention to the tokens that an indexer chooses (index_topk)"
    if layer.mla_use_nope:
        return "has no kernels for latent attention without rotation"
    for field, (least, most) in LATENT_SIZES.items():
        size: int = getattr(layer, field)
        if size & (size - 1) or not least <= size <= most:
            return f"needs {field} to be a power of two from {least} to {most}, not {size}"
    return None


def _ffn_refusal(layer: DenseFfn | MoeFfn) -> str | None:
    if not layer.gated or layer.activation not in ACTIVATIONS:
        gate = "a gated" if layer.gated else "an ungated"
        return f"has no kernels for {gate} feed-forward layer with activation={layer.activation}"
    if isinstance(layer, DenseFfn):
        widths = {"intermediate_size": layer.intermediate_size}
    else:
        widths = {
            "moe_intermediate_size": layer.moe_intermediate_size,
            "shared_intermediate_size": layer.shared_intermediate_size,
        }
        if (missing := _experts_refusal(layer)) is not None:
            return missing
    for field, width in widths.items():
        if width % WIDTH_MULTIPLE:
            return f"needs {field} to be a multiple of {WIDTH_MULTIPLE}, not {width}"
    return None


def _experts_refusal(layer: MoeFfn) -> str | None:
    """Why there are no kernels for a layer of experts, whatever its widths."""
    by_ids = layer.scoring == "sqrtsoftplus" or layer.hash_vocab_size is not None
    for has, what in (
        (layer.moe_latent_size is not None, "experts in a latent space"),
        (
            layer.zero_expert_num or layer.score_correction_buffer,
            "zero-computation experts, or a correction that is a buffer",
        ),
        (
            layer.scoring == "sigmoid_of_chosen" or layer.weighted_input,
            "experts whose input is weighted by a sigmoid (Llama 4)",
        ),
        (by_ids, "experts that token ids choose, or scores of sqrtsoftplus"),
        (layer.shared_expert_gate, "a gate of the shared experts"),
        (
            layer.shared_intermediate_size and layer.expert_bias,
            "shared experts with biases",
        ),
    ):
        if has:
            return f"has no kernels for {what}"
    return None
