"""Readers of config.json files of DeepSeek-V4 and V4.1: compressed entries, hyper-connections.

V4 has experts by token id besides; V4.1 entries that layers share, and tables of n-grams (Engram).
"""

from dataclasses import dataclass
from typing import Final

from costmodel.inputs.hf.blocks import Blocks, Table, activation, leave_out_mtp, moe, num_layers
from costmodel.inputs.hf.deepseek_families import ROUTED, shared_width
from costmodel.inputs.hf.fields import (
    COUNT,
    FLAG,
    INDEX,
    INDEX_OR_NULL,
    INDICES_OR_NULL,
    NAMES_OR_NULL,
    OBJECT_OR_NULL,
    TEXT,
    VOCABULARY,
    WIDTH,
    Fields,
)
from costmodel.layers.ngram import Ngram
from costmodel.strict import validated

_WINDOW, _CSA, _HCA = 0, 4, 128
_TYPES: Final = {  # as transformers names the layers that releases name by their ratio
    "sliding_attention": _WINDOW,
    "compressed_sparse_attention": _CSA,
    "heavily_compressed_attention": _HCA,
}
_RATES: Final = {name: ratio for name, ratio in _TYPES.items() if ratio}
_OF_TABLES: Final = (  # sizes that say nothing where no layer has a table
    *("engram_max_ngram_size", "engram_n_heads", "engram_vocab_size", "engram_head_dim"),
)
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
    ratios, sparse = _ratios(fields), _experts(fields)
    corrected = {**sparse, "score_correction_bias": True}
    hashed = {**sparse, "hash_vocab_size": fields.required("vocab_size", VOCABULARY)}
    by_ids = _hash_layers(fields)
    return Blocks(
        attention=[heads.of_ratio(ratio) for ratio in ratios],
        ffn=[hashed if by_id else corrected for by_id in by_ids],
        model={"hyper_connections": _streams(fields)},
    )


def deepseek_v41(fields: Fields) -> Blocks:
    """DeepSeek-V4.1: groups of layers share entries and choices; two tables of n-grams."""
    leave_out_mtp(fields, "num_nextn_predict_layers")
    streams = {**_streams(fields), "single_pass": True}
    ffn = {**_experts(fields), "score_correction_bias": True, "image_correction_bias": True}
    attention = _shared_entries(fields)
    return Blocks(
        attention=attention,
        ffn=[ffn] * len(attention),
        model={"hyper_connections": streams, "memory": _engram(fields, streams["hc_mult"])},
    )


def _experts(fields: Fields) -> Table:
    return moe(
        fields,
        activation(fields),
        *ROUTED,
        shared_intermediate_size=shared_width(fields, 1),
        scoring="sqrtsoftplus",
        norm_topk_prob=fields.optional("norm_topk_prob", FLAG, default=True),
    )


def _streams(fields: Fields) -> Table:
    return {
        "hc_mult": fields.required("hc_mult", COUNT),
        "hc_sinkhorn_iters": fields.required("hc_sinkhorn_iters", COUNT),
    }


def _shared_entries(fields: Fields) -> list[Table]:
    """The attention of V4.1: layers with entries, keys and choices of their own, and the others."""
    heads = _heads(fields)
    common = {**heads.common, "query_norm": False}
    ratios = _listed(fields, (0, 1, 2))
    sources = _layers(fields, "kv_source_layer_ids", ratios)
    choosing = _layers(fields, "index_source_layer_ids", ratios)
    if not set(sources) <= set(choosing):
        raise fields.refused("index_source_layer_ids", "leaves out one of kv_source_layer_ids")
    first = fields.required("candidate_source_layer_id", INDEX)
    if first not in choosing:
        rule = "is not one of index_source_layer_ids"
        raise fields.refused("candidate_source_layer_id", rule)
    candidates = {
        key: fields.required(key, COUNT)
        for key in ("candidate_topk_blocks", "candidate_block_size")
    }
    attention = []
    for layer, ratio in enumerate(ratios):
        own: Table = {
            **heads.choice,
            "compress_ratio": ratio,
            "position_bias": False,
            "keys_of_entries": True,
            "shared_entries": layer not in sources,
            "shared_index": layer not in choosing,
            **(candidates if layer in choosing and layer >= first else {}),
        }
        attention.append({**common, **own} if ratio else common)
    return attention


def _layers(fields: Fields, key: str, ratios: list[int]) -> list[int]:
    """Layers with entries that the file lists, which are counted from 0."""
    listed = fields.required(key, INDICES_OR_NULL) or []
    for layer in listed:
        if layer >= len(ratios) or not ratios[layer]:
            raise fields.refused(key, f"names layer {layer}, which has no compressed entries")
    return listed


def _engram(fields: Fields, streams: int) -> list[Table]:
    """The tables of n-grams before some layers, which the file counts from 0; often two."""
    layers = num_layers(fields)
    numbers = fields.required("engram_layer_ids", INDICES_OR_NULL) or []
    if any(number >= layers for number in numbers) or sorted(set(numbers)) != numbers:
        rule = f"is not a rising list of layers below num_hidden_layers={layers}"
        raise fields.refused("engram_layer_ids", rule)
    if not numbers:
        for key in _OF_TABLES:
            fields.optional(key, INDEX_OR_NULL, None)
        return []
    rows = fields.required("engram_num_embeddings", INDICES_OR_NULL) or []
    table: Table = {
        "kind": "ngram",
        "layers": ",".join(map(str, numbers)),
        "max_ngram_size": fields.required("engram_max_ngram_size", COUNT),
        "num_heads": fields.required("engram_n_heads", COUNT),
        "vocab_size_base": fields.required("engram_vocab_size", INDEX),
        "head_dim": fields.required("engram_head_dim", WIDTH),
        "streams": streams,
        "per_stream": True,
    }
    follow = validated(Ngram, table, where=fields.where).table_rows(len(numbers))
    # Rows that follow from primes go with the other sizes, where these are varied.
    return [table if tuple(rows) == follow else {**table, "num_embeddings": rows}]


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
    ratios = _listed(fields, (_WINDOW, _CSA, _HCA))
    if named is not None and named != ratios:
        raise fields.refused("layer_types", "is not what compress_ratios says")
    return ratios


def _listed(fields: Fields, known: tuple[int, int, int]) -> list[int]:
    """`compress_ratios` of the layers; behind these the file may have those of draft layers."""
    layers = num_layers(fields)
    ratios = (fields.required("compress_ratios", INDICES_OR_NULL) or [])[:layers]
    if len(ratios) < layers or not set(ratios) <= set(known):
        first, second, last = known
        rule = f"is not {first}, {second} or {last} for each of num_hidden_layers={layers}"
        raise fields.refused("compress_ratios", rule)
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
