"""Readers of config.json files of hybrids with Mamba-2: Nemotron-H and Falcon-H1.

A layer of Nemotron-H is one thing alone; one of Falcon-H1 is attention and Mamba-2 side by side,
then an FFN. Granite 4: `hybrid_families.py`.
"""

from typing import Annotated, Final, Literal, TypeAlias

from pydantic import ConfigDict, Field, TypeAdapter

from costmodel.errors import InputError
from costmodel.inputs.hf.blocks import (
    Blocks,
    Table,
    activation,
    dense,
    gqa,
    leave_out_mtp,
    num_layers,
)
from costmodel.inputs.hf.deepseek_families import noaux_tc
from costmodel.inputs.hf.dense_families import note_constants
from costmodel.inputs.hf.fields import (
    COUNT,
    FLAG,
    INDEX_OR_NULL,
    WIDTH,
    WIDTH_OR_NULL,
    Fields,
)
from costmodel.inputs.hf.hybrid_families import mamba2
from costmodel.layers.base import MAX_LAYERS

Half: TypeAlias = Literal["attention", "mamba", "mlp", "moe"]
"""What a layer of Nemotron-H is."""

_LETTERS: Final[dict[str, Half]] = {"*": "attention", "-": "mlp", "E": "moe", "M": "mamba"}
_HALVES_OR_NULL: Final[TypeAdapter[list[Half] | None]] = TypeAdapter(
    Annotated[list[Half], Field(min_length=1, max_length=MAX_LAYERS, fail_fast=True)] | None,
    config=ConfigDict(strict=True),
)
_PATTERN_OR_NULL: Final[TypeAdapter[str | None]] = TypeAdapter(
    Annotated[str, Field(pattern=r"^[-*EM]+$", max_length=MAX_LAYERS)] | None,
    config=ConfigDict(strict=True),
)
NO_MIXER: Final[Table] = {"kind": "no_mixer"}
NO_FFN: Final[Table] = {"kind": "no_ffn"}


def nemotron_h(fields: Fields) -> Blocks:
    """Nemotron-H and Nemotron 3: each layer is Mamba-2, attention, an FFN or experts alone."""
    halves = _halves(fields)
    held = set(halves)
    leave_out_mtp(fields, "num_nextn_predict_layers")
    mixers: dict[Half, Table] = {"mamba": _mamba2(fields)}
    ffns: dict[Half, Table] = {}
    act = activation(fields, "mlp_hidden_act", "relu2")
    fields.optional("intermediate_size", WIDTH_OR_NULL, None)  # of layers that there may be none of
    if "attention" in held:
        mixers["attention"] = _attention(fields)
    if "mlp" in held:
        ffns["mlp"] = {**dense(fields, act), "gated": False}
    if "moe" in held:
        ffns["moe"] = _latent_moe(fields)
    return Blocks(
        attention=[mixers.get(half, NO_MIXER) for half in halves],
        ffn=[ffns.get(half, NO_FFN) for half in halves],
    )


def _halves(fields: Fields) -> list[Half]:
    """What each layer is, by a list of names or by a string of letters; both must agree."""
    names = fields.optional("layers_block_type", _HALVES_OR_NULL, None)
    pattern = fields.optional("hybrid_override_pattern", _PATTERN_OR_NULL, None)
    if pattern is not None:
        by_letter = [_LETTERS[letter] for letter in pattern]
        if names is not None and names != by_letter:
            rule = "differs from layers_block_type"
            raise fields.refused("hybrid_override_pattern", rule)
        names = by_letter
    if names is None:
        raise InputError(
            f"{fields.where}: {fields.prefix}layers_block_type: is missing, and so is"
            f" hybrid_override_pattern; model_type {fields.model_type!r} has one of them"
        )
    layers = fields.optional("num_hidden_layers", COUNT, len(names))
    if layers != len(names):
        rule = f"differs from the {len(names)} layers of the pattern"
        raise fields.refused("num_hidden_layers", rule)
    return names


def _attention(fields: Fields) -> Table:
    """Grouped-query attention without positions."""
    head_dim = fields.optional("attention_head_dim", WIDTH_OR_NULL, None)
    (table,) = gqa(fields, head_dim=head_dim, windows=[None], unrotated=[True])
    return table


def _mamba2(fields: Fields) -> Table:
    return {
        "kind": "mamba2",
        "mamba_n_heads": fields.required("mamba_num_heads", COUNT),
        "mamba_d_head": fields.required("mamba_head_dim", WIDTH),
        "mamba_n_groups": fields.required("n_groups", COUNT),
        "mamba_d_state": fields.required("ssm_state_size", WIDTH),
        "mamba_d_conv": fields.required("conv_kernel", COUNT),
        "mamba_conv_bias": fields.optional("use_conv_bias", FLAG, default=True),
        "mamba_chunk_size": fields.optional("chunk_size", COUNT, 128),
    }


def _latent_moe(fields: Fields) -> Table:
    """Experts without gates in a latent space, DeepSeek-V3's router, a shared expert beside it."""
    shared = fields.optional("n_shared_experts", INDEX_OR_NULL, 1)
    width = fields.required("moe_shared_expert_intermediate_size", WIDTH) if shared else 0
    if shared not in (None, 0, 1):
        raise fields.refused(
            "n_shared_experts",
            "is not modelled for experts of a width of their own; only 0 or 1 is",
        )
    return noaux_tc(
        fields,
        act=activation(fields, "mlp_hidden_act", "relu2"),
        gated=False,
        moe_latent_size=fields.optional("moe_latent_size", WIDTH_OR_NULL, None),
        shared_intermediate_size=width,
    )


def falcon_h1(fields: Fields) -> Blocks:
    """Falcon-H1: in every block attention and Mamba-2 on the same input, then a dense FFN."""
    note_constants(fields, *_FALCON_MULTIPLIERS)
    mamba = mamba2(fields, mamba_rms_norm=fields.optional("mamba_rms_norm", FLAG, default=False))
    inner = mamba["mamba_n_heads"] * mamba["mamba_d_head"]
    if fields.optional("mamba_d_ssm", WIDTH_OR_NULL, None) not in (None, inner):
        raise fields.refused("mamba_d_ssm", f"is not mamba_n_heads x mamba_d_head = {inner}")
    bias = fields.optional("attention_bias", FLAG, default=False)
    attention = gqa(fields, kv_heads=8, attention_bias=bias, output_bias=bias)
    ffn = dense(fields, activation(fields), bias=fields.optional("mlp_bias", FLAG, default=False))
    both = [
        {"kind": "attention_and_mamba2", "attention": table, "mamba": mamba} for table in attention
    ]
    return Blocks(attention=both, ffn=[ffn] * num_layers(fields))


_FALCON_MULTIPLIERS: Final = (
    "attention_in_multiplier",
    "attention_out_multiplier",
    "embedding_multiplier",
    "key_multiplier",
    "lm_head_multiplier",
    "mlp_multipliers",
    "ssm_in_multiplier",
    "ssm_multipliers",
    "ssm_out_multiplier",
)
