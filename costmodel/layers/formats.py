"""How the weights of a model are stored: one format, but for some groups and some leaves.

Checkpoints mix formats: experts in MXFP4 under attention in bf16, or all projections in fp8 blocks
beside a bf16 embedding. The narrowest statement wins: a leaf's, a group's, the default.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from costmodel.layers.dtype import Dtype

Group: TypeAlias = Literal[
    "embedding",
    "lm_head",
    "attention",
    "router",
    "experts",
    "shared_experts",
    "ffn",
    "memory_keys",
    "memory_values",
    "memory_projections",
    "norm",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class LeafFormat:
    """The weights of one leaf are stored otherwise than those of its group."""

    leaf: str  # as `Operator.leaf`: "attention.qkv", "moe.experts", "embed", "lm_head"
    layers: tuple[int, ...] | None  # None: in all layers
    dtype: Dtype


@dataclass(frozen=True, slots=True, kw_only=True)
class Formats:
    """The storage format of each weight matrix and table of a model.

    Norms, biases, sinks and Tucker cores are never quantised, whatever stands here
    (`Weight.matrix`).
    """

    default: Dtype
    groups: tuple[tuple[Group, Dtype], ...] = ()
    leaves: tuple[LeafFormat, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """How a checkpoint stores a model's weights, and the format in which its KV cache is kept."""

    weights: Formats
    kv_dtype: Dtype | None = None  # None: the checkpoint does not say
    origin: str  # for people: "quantization_config: mxfp4; attention, router, LM head in bf16"
    notes: tuple[str, ...] = ()  # what could not be read exactly, and how it was costed
    by_default: bool = False  # costed so unless told otherwise: a user's file, not a preset
