"""Readers of config.json files whose grouped-query attention reads chosen blocks of tokens."""

from typing import Final

from costmodel.errors import InputError
from costmodel.inputs.hf.blocks import (
    Blocks,
    Table,
    activation,
    gqa,
    leave_out_mtp,
    moe,
    num_layers,
)
from costmodel.inputs.hf.fields import (
    COUNT,
    FLAG,
    INDEX,
    INDEX_OR_NULL,
    INDICES_OR_NULL,
    NAMES_OR_NULL,
    NUMBER,
    WIDTH,
    Fields,
)
from costmodel.inputs.hf.hybrid_families import Full, gated_shared_moe, qwen3_5_mixers
from costmodel.inputs.hf.moe_families import LOCAL

_OF_TABLES: Final = (  # sizes that say nothing where no layer has a table
    *("ngram_size", "heads_per_ngram", "ple_embed_dim", "ple_conv_kernel_size"),
    *("ngram_vocab_size_base", "make_ngram_vocab_size_divisible_by"),
)
_ACTIVATION: Final = "clamped_silu"  # from swiglu_alpha and swiglu_limit, whatever hidden_act says
_SPARSE = "sparse_attention_config"
_NESTED = {  # the release's names of what transformers has at the top
    "index_n_heads": "sparse_num_index_heads",
    "index_head_dim": "sparse_index_dim",
    "index_block_size": "sparse_block_size",
    "index_topk_blocks": "sparse_topk_blocks",
}
_NESTED_ONLY = {
    "sparse_init_block": (0, None),
    "sparse_local_block": (1,),  # the newest block, one of those that are chosen
    "sparse_score_type": ("max",),
    "use_sparse_attention": (True,),
}


def minimax_m3(fields: Fields) -> Blocks:
    """MiniMax-M3: block-sparse attention (MSA), dense first layers, sigmoid scores of experts."""
    layers = num_layers(fields)
    for key in ("swiglu_alpha", "swiglu_limit"):  # how steep and where to clamp: no cost
        fields.optional(key, NUMBER, None)
    leave_out_mtp(fields, "num_mtp_modules")
    leave_out_mtp(fields, "num_nextn_predict_layers")
    width = fields.required("intermediate_size", WIDTH)
    if fields.optional("moe_intermediate_size", WIDTH, width) != width:
        raise fields.refused("moe_intermediate_size", f"is not intermediate_size={width}")
    sparse = moe(
        fields,
        _ACTIVATION,
        *LOCAL,
        width="intermediate_size",
        shared_intermediate_size=fields.required("shared_intermediate_size", WIDTH),
        scoring="sigmoid",
        norm_topk_prob=True,
        score_correction_bias=fields.optional("use_routing_bias", FLAG, default=True),
    )
    routed = _listed(fields, "moe_layer_freq", "mlp_layer_types", ("dense", "sparse"))
    routed = [True] * layers if routed is None else routed
    first = fields.optional("first_k_dense_replace", INDEX_OR_NULL, None)
    if first is not None and routed != [i >= first for i in range(layers)]:
        raise fields.refused("first_k_dense_replace", "is not what moe_layer_freq says")
    dense: Table = {"kind": "dense", "activation": _ACTIVATION}
    if not all(routed):
        dense["intermediate_size"] = fields.required("dense_intermediate_size", WIDTH)
    else:
        fields.optional("dense_intermediate_size", WIDTH, None)
    attention = gqa(fields, rotary_share=0.5, qk_norm="head")
    return Blocks(
        attention=_block_sparse(fields, attention),
        ffn=[sparse if has_experts else dense for has_experts in routed],
    )


def _block_sparse(fields: Fields, attention: list[Table]) -> list[Table]:
    """Attention to chosen blocks in those layers that the file says; the sizes of the choice."""
    if fields.holds(_SPARSE):
        inner = fields.child(_SPARSE)
        chooses = _listed(inner, "sparse_attention_freq", None, (), layers=len(attention))
        named = _NESTED
        _check_values(inner, chooses or [])
        inner.only(_NESTED_ONLY)
    else:
        inner = fields
        chooses = _listed(fields, None, "layer_types", ("full_attention", "minimax_m3_sparse"))
        named = {key: key for key in _NESTED}
        fields.only({"index_local_blocks": (1,)})
    if chooses is None:
        key = "sparse_attention_freq" if inner is not fields else "layer_types"
        raise InputError(f"{fields.where}: {inner.prefix}{key}: is missing")
    choice: Table = {
        key: inner.required(name, WIDTH if key == "index_head_dim" else COUNT)
        for key, name in named.items()
    }
    heads = attention[0]["num_key_value_heads"]
    if choice["index_n_heads"] != heads:
        raise inner.refused(named["index_n_heads"], f"is not num_key_value_heads={heads}")
    if inner is not fields:
        inner.finish(())
    return [
        {**{k: v for k, v in own.items() if k != "sliding_window"}, **choice, "kind": "msa"}
        if has_choice
        else own
        for own, has_choice in zip(attention, chooses, strict=True)
    ]


def _check_values(inner: Fields, chooses: list[bool]) -> None:
    """An indexer whose values join the result is not modelled; no release has one."""
    key = "sparse_disable_index_value"
    disabled = inner.optional(key, INDICES_OR_NULL, None)
    if disabled is not None and [bool(one) for one in disabled[: len(chooses)]] != chooses:
        raise inner.refused(key, "is not 1 in each layer with sparse attention, and 0 elsewhere")


def _listed(
    fields: Fields,
    flags: str | None,
    names: str | None,
    words: tuple[str, ...],
    *,
    layers: int | None = None,
) -> list[bool] | None:
    """What holds in each block, by a list of 0 and 1 or by a list of two words; None: neither.

    A list may be longer than the blocks: its tail is of multi-token prediction.
    """
    blocks = num_layers(fields) if layers is None else layers
    stated: list[bool] | None = None
    if flags is not None and (numbers := fields.optional(flags, INDICES_OR_NULL, None)):
        if len(numbers) < blocks or not set(numbers) <= {0, 1}:
            raise fields.refused(flags, f"is not 0 or 1 for each of num_hidden_layers={blocks}")
        stated = [bool(number) for number in numbers[:blocks]]
    if names is not None and (held := fields.optional(names, NAMES_OR_NULL, None)):
        if len(held) < blocks or not set(held) <= set(words):
            rule = f"is not {' or '.join(words)} for each of num_hidden_layers={blocks}"
            raise fields.refused(names, rule)
        if stated is not None and stated != [word == words[1] for word in held[:blocks]]:
            raise fields.refused(names, f"is not what {flags} says")
        stated = [word == words[1] for word in held[:blocks]]
    return stated


def qwen4_exp(fields: Fields) -> Blocks:
    """Qwen3.8: gated delta nets and QSA, n-gram tables, gated residual streams for norms."""
    streams = fields.required("hc_count", COUNT)
    types = fields.optional("layer_types", NAMES_OR_NULL, None) or []
    full: Full = "indexed_attention" if "indexed_attention" in types else "full_attention"
    choice: Table = {
        "index_n_heads": fields.required("indexer_n_heads", COUNT),
        "index_head_dim": fields.required("indexer_head_dim", WIDTH),
        "index_budget": fields.required("indexer_budget", COUNT),
        "index_compress_ratio": fields.required("indexer_compress_ratio", COUNT),
    }
    mixers = [
        _pooled_keys(mixer, choice) if mixer["kind"] == "gqa" else mixer
        for mixer in qwen3_5_mixers(fields, full)
    ]
    gated = {"hc_count": streams, "hc_lowrank": fields.required("hc_lowrank", WIDTH)}
    return Blocks(
        attention=mixers,
        ffn=[gated_shared_moe(fields, activation(fields))] * num_layers(fields),
        model={"gated_residual": gated, "memory": _ngram_tables(fields, streams)},
    )


def _pooled_keys(attention: Table, choice: Table) -> Table:
    """Attention with QSA: its fields, but for those of layers without a choice."""
    left_out = ("sliding_window", "output_bias")
    own = {key: value for key, value in attention.items() if key not in left_out}
    return {**own, **choice, "kind": "qsa"}


def _ngram_tables(fields: Fields, streams: int) -> list[Table]:
    """The tables of n-grams before some layers, which the file counts from 1; often one."""
    layers = num_layers(fields)
    numbers = fields.optional("ple_layer_ids", INDICES_OR_NULL, None) or []
    if not all(1 <= number <= layers for number in numbers):
        rule = f"is not of layers 1 to num_hidden_layers={layers}"
        raise fields.refused("ple_layer_ids", rule)
    if not numbers:
        for key in _OF_TABLES:
            fields.optional(key, INDEX_OR_NULL, None)
        return []
    order, heads = fields.required("ngram_size", COUNT), fields.required("heads_per_ngram", COUNT)
    width, columns = fields.required("ple_embed_dim", WIDTH), (order - 1) * heads
    if not columns or width % columns:
        raise fields.refused("ple_embed_dim", f"is not a multiple of {columns} columns")
    return [
        {
            "kind": "ngram",
            "layers": ",".join(str(number - 1) for number in sorted(set(numbers))),
            "max_ngram_size": order,
            "num_heads": heads,
            "vocab_size_base": fields.required("ngram_vocab_size_base", INDEX),
            "divisible_by": fields.required("make_ngram_vocab_size_divisible_by", COUNT),
            "head_dim": width // columns,
            "streams": streams,
            "conv_kernel": fields.required("ple_conv_kernel_size", COUNT),
            "per_stream": True,
        }
    ]
