"""Readers of config.json files of DeepSeek-V4: compressed attention, hyper-connections, hashes."""

from dataclasses import dataclass
from typing import Final

from costmodel.inputs.hf.blocks import Blocks, Table, activation, leave_out_mtp, moe, num_layers
from costmodel.inputs.hf.deepseek_families import ROUTED, shared_width
from costmodel.inputs.hf.fields import (
    COUNT,
    FLAG,
    INDEX,
    INDICES_OR_NULL,
    NAMES_OR_NULL,
    OBJECT_OR_NULL,
    TEXT,
    VOCABULARY,
    WIDTH,
    Fields,
)

_WINDOW, _CSA, _HCA = 0, 4, 128
_TYPES: Final = {  # as transformers names the layers that releases name by their ratio
    "sliding_attention": _WINDOW,
    "compressed_sparse_attention": _CSA,
    "heavily_compressed_attention": _HCA,
}
_RATES: Final = {name: ratio for name, ratio in _TYPES.items() if ratio}
_HASHED: Final = ("hash_moe", "moe")


@dataclass(frozen=True, slots=True, kw_only=True)
class Heads:
    """What all layers of compressed attention have alike."""

    common: Table
    choice: Table

    def of_ratio(self, ratio: int) -> Table:
        """The attention of a layer by the tokens of its entries; 0: it has none."""
        if ratio == _WINDOW:
            return self.common
        if ratio == _CSA:
            return {**self.common, **self.choice, "compress_ratio": ratio, "overlapping": True}
        return {**self.common, "compress_ratio": ratio}


def deepseek_v4(fields: Fields) -> Blocks:
    """DeepSeek-V4: a window and compressed entries, hyper-connections, experts by token id."""
    heads = _heads(fields)
    leave_out_mtp(fields, "num_nextn_predict_layers")
    if fields.optional("expert_dtype", TEXT, None) and not fields.holds("quantization_config"):
        rule = "needs quantization_config; the format of --dtype is costed."
        fields.notes.append(f"expert_dtype: {rule}")
    ratios = _ratios(fields)
    sparse: Table = moe(
        fields,
        activation(fields),
        *ROUTED,
        shared_intermediate_size=shared_width(fields, 1),
        scoring="sqrtsoftplus",
        norm_topk_prob=fields.optional("norm_topk_prob", FLAG, default=True),
    )
    corrected = {**sparse, "score_correction_bias": True}
    hashed = {**sparse, "hash_vocab_size": fields.required("vocab_size", VOCABULARY)}
    by_ids = _hash_layers(fields)
    return Blocks(
        attention=[heads.of_ratio(ratio) for ratio in ratios],
        ffn=[hashed if by_id else corrected for by_id in by_ids],
        model={
            "hyper_connections": {
                "hc_mult": fields.required("hc_mult", COUNT),
                "hc_sinkhorn_iters": fields.required("hc_sinkhorn_iters", COUNT),
            }
        },
    )


def _heads(fields: Fields) -> Heads:
    common: Table = {
        "kind": "compressed",
        "num_attention_heads": fields.required("num_attention_heads", COUNT),
        "head_dim": fields.required("head_dim", WIDTH),
        "q_lora_rank": fields.required("q_lora_rank", WIDTH),
        "qk_rope_head_dim": fields.required("qk_rope_head_dim", WIDTH),
        "o_groups": fields.required("o_groups", COUNT),
        "o_lora_rank": fields.required("o_lora_rank", WIDTH),
        "sliding_window": fields.required("sliding_window", COUNT),
    }
    choice: Table = {
        "index_topk": fields.required("index_topk", COUNT),
        "index_n_heads": fields.required("index_n_heads", COUNT),
        "index_head_dim": fields.required("index_head_dim", WIDTH),
    }
    return Heads(common=common, choice=choice)


def _ratios(fields: Fields) -> list[int]:
    """The tokens of an entry in each layer, 0 without entries: by a list of them, or by names."""
    layers = num_layers(fields)
    types = fields.optional("layer_types", NAMES_OR_NULL, None)
    rates = fields.optional("compress_rates", OBJECT_OR_NULL, None)
    if rates is not None and rates != _RATES:
        raise fields.refused("compress_rates", f"is not {_RATES}")
    named: list[int] | None = None
    if types is not None:
        if len(types) < layers or not set(types[:layers]) <= set(_TYPES):
            rule = f"is not {', '.join(_TYPES)} for each of num_hidden_layers={layers}"
            raise fields.refused("layer_types", rule)
        named = [_TYPES[name] for name in types[:layers]]
    if named is not None and not fields.holds("compress_ratios"):
        return named
    ratios = (fields.required("compress_ratios", INDICES_OR_NULL) or [])[:layers]  # then of MTP
    if len(ratios) < layers or not set(ratios) <= set(_TYPES.values()):
        rule = f"is not 0, {_CSA} or {_HCA} for each of num_hidden_layers={layers}"
        raise fields.refused("compress_ratios", rule)
    if named is not None and named != ratios:
        raise fields.refused("layer_types", "is not what compress_ratios says")
    return ratios


def _hash_layers(fields: Fields) -> list[bool]:
    """Whether token ids choose the experts, layer by layer: the first ones, or by names."""
    layers = num_layers(fields)
    types = fields.optional("mlp_layer_types", NAMES_OR_NULL, None)
    named: list[bool] | None = None
    if types is not None:
        if len(types) < layers or not set(types[:layers]) <= set(_HASHED):
            rule = f"is not {' or '.join(_HASHED)} for each of num_hidden_layers={layers}"
            raise fields.refused("mlp_layer_types", rule)
        named = [name == "hash_moe" for name in types[:layers]]
    if named is not None and not fields.holds("num_hash_layers"):
        return named
    first = fields.required("num_hash_layers", INDEX)
    by_ids = [layer < first for layer in range(layers)]
    if named is not None and named != by_ids:
        raise fields.refused("mlp_layer_types", f"is not what num_hash_layers={first} says")
    return by_ids
