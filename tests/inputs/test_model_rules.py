"""Every rule of a model's configuration: the message names field, value and rule."""

from typing import Any

import pytest

from tests.inputs.test_model import (
    ATTENTION,
    DENSE,
    MLA,
    MOE,
    NGRAMS,
    PEER,
    PLE,
    PRODUCT,
    ULTRA,
    refusal,
)
from tests.inputs.test_model import model as make

BOTH: dict[str, Any] = {
    "kind": "attention_and_mamba2",
    "attention": ATTENTION,
    "mamba": {"mamba_n_heads": 4, "mamba_d_head": 8, "mamba_n_groups": 1, "mamba_d_state": 8},
}

GATES = {"hc_count": 2, "hc_lowrank": 8}
BIGRAMS = {
    "kind": "ngram",
    "layers": "1",
    "max_ngram_size": 2,
    "num_heads": 1,
    "vocab_size_base": 5,
    "head_dim": 4,
}
MIXER_IN_0 = [{"layers": "0", "attention": {**ATTENTION, "kind": "gqa"}}]

MODEL_RULES: list[tuple[dict[str, Any], str, str]] = [
    ({"name": ""}, "name=''", "at least 1 character"),
    ({"name": "x" * 121}, "name='xxx", "at most 120 characters"),
    ({"name": "a\nb"}, "name='a\\nb'", "cannot be printed"),
    ({"source": "x" * 2001}, "source='xxx", "at most 2000 characters"),
    ({"hidden_size": 3}, "hidden_size=3", "greater than or equal to 4"),
    ({"hidden_size": 2**20 + 1}, "hidden_size=1048577", "less than or equal to 1048576"),
    ({"hidden_size": 8.0}, "hidden_size=8.0", "valid integer"),
    ({"hidden_size": "8"}, "hidden_size='8'", "valid integer"),
    ({"hidden_size": True}, "hidden_size=True", "valid integer"),
    ({"hidden_size": None}, "hidden_size=None", "valid integer"),
    ({"hidden_size": 10**300}, "hidden_size=an integer of 997 bits", "equal to 1048576"),
    ({"vocab_size": 1}, "vocab_size=1", "greater than or equal to 2"),
    ({"vocab_size": 2**24 + 1}, "vocab_size=16777217", "less than or equal to 16777216"),
    ({"num_hidden_layers": 0}, "num_hidden_layers=0", "greater than or equal to 1"),
    ({"num_hidden_layers": 1025}, "num_hidden_layers=1025", "less than or equal to 1024"),
    ({"tie_word_embeddings": "yes"}, "tie_word_embeddings='yes'", "valid boolean"),
    ({"tie_word_embeddings": 1}, "tie_word_embeddings=1", "valid boolean"),
    ({"post_norms": 0}, "post_norms=0", "valid boolean"),
    ({"norm": "batch"}, "norm='batch'", "'rms', 'layer' or 'layer_bias'"),
    ({"block": "odd"}, "block='odd'", "'serial', 'parallel' or 'norms_behind'"),
    ({"block": "parallel", "post_norms": True}, "post_norms=True", "not of 'parallel'"),
    ({"block": "norms_behind", "post_norms": True}, "post_norms=True", "not of 'norms_behind'"),
    (
        {"block": "norms_behind", "memory": [ULTRA]},
        "block='norms_behind'",
        "could read or add what a memory layer does",
    ),
    ({"published": {"x": "many"}}, "published.x='many'", "valid number"),
    ({"notes": "one"}, "notes='one'", "valid array"),
    ({"notes": ["x" * 2001]}, "notes.0='xxx", "at most 2000 characters"),
    ({"memory": [ULTRA] * 65}, "memory=", "at most 64 items"),
    ({"overrides": [{"layers": "0"}] * 1025}, "overrides=", "at most 1024 items"),
    (
        {
            "num_hidden_layers": 66,
            "overrides": [
                {"layers": str(i), "ffn": {**DENSE, "intermediate_size": 100 + i}}
                for i in range(64)
            ],
        },
        "overrides.ffn",
        "layers have 65 different ones; a model has at most 64",
    ),
    (
        {
            "num_hidden_layers": 66,
            "overrides": [
                {"layers": str(i), "attention": {**ATTENTION, "head_dim": 12 + i}}
                for i in range(65)
            ],
        },
        "overrides.attention",
        "layers have 66 different ones; a model has at most 64",
    ),
    ({"colour": "red"}, "colour='red'", "Unexpected keyword argument"),
    ({"ffn": {"kind": "moo"}}, "ffn=", "'moo' found using 'kind' does not match"),
    ({"ffn": {"intermediate_size": 16}}, "ffn=", "'kind'"),
    ({"attention": {"kind": "rnn"}}, "attention=", "'rnn' found using 'kind' does not match"),
    ({"memory": [{"kind": "disk"}]}, "memory.0=", "'disk' found using 'kind' does not match"),
    (
        {"overrides": [{"layers": "0-2", "ffn": DENSE}, {"layers": "2", "ffn": DENSE}]},
        "overrides.layers='2'",
        "layer 2 is overridden twice",
    ),
    ({"overrides": [{"ffn": DENSE}]}, "overrides.0.layers", "is missing"),
    (
        {"attention": BOTH | {"attention": {**ATTENTION, "shared_kv": True}}},
        "attention.shared_kv=True",
        "is not modelled beside Mamba-2",
    ),
    (
        {"attention": {**ATTENTION, "shared_kv": True}},
        "attention.shared_kv=True",
        "layer 0 has no earlier layer with keys and values of its own",
    ),
    (
        {
            "overrides": [
                {"layers": "2", "attention": {**ATTENTION, "shared_kv": True, "head_dim": 4}}
            ]
        },
        "attention.shared_kv=True",
        "layer 2 has no earlier layer",
    ),
    ({"altup": {"altup_num_inputs": 1}}, "altup.altup_num_inputs=1", "greater than or equal to 2"),
    ({"laurel": {"laurel_rank": 2}}, "laurel.laurel_rank=2", "greater than or equal to 4"),
    (
        {"laurel": {"laurel_rank": 8}, "block": "parallel"},
        "laurel",
        "is of block='serial', not of 'parallel'",
    ),
    (
        {"gated_residual": {"hc_count": 1, "hc_lowrank": 8}},
        "gated_residual.hc_count=1",
        "greater than or equal to 2",
    ),
    ({"gated_residual": GATES, "norm": "layer"}, "norm='layer'", "with gated_residual"),
    ({"gated_residual": GATES, "block": "parallel"}, "block='parallel'", "with gated_residual"),
    ({"gated_residual": GATES, "post_norms": True}, "post_norms=True", "with gated_residual"),
    ({"gated_residual": GATES, "laurel": {"laurel_rank": 8}}, "laurel", "with gated_residual"),
    ({"gated_residual": GATES, "altup": {}}, "altup", "with gated_residual"),
    (
        {"gated_residual": GATES, "attention": {"kind": "no_mixer"}, "overrides": MIXER_IN_0},
        "gated_residual",
        "is of layers with a mixer and an FFN",
    ),
    ({"gated_residual": GATES, "memory": [PLE]}, "memory.kind='per_layer_embedding'", "beside"),
    ({"gated_residual": GATES, "memory": [BIGRAMS]}, "memory.kind='ngram'", "per_stream are"),
    (
        {"gated_residual": GATES, "memory": [{**BIGRAMS, "per_stream": True}]},
        "memory.streams=1",
        "is not the number of streams of gated_residual, 2",
    ),
    ({"memory": [{**BIGRAMS, "per_stream": True}]}, "memory.per_stream=True", "gated_residual"),
    (
        {"gated_residual": GATES, "hyper_connections": {}},
        "hyper_connections: is not of a model with gated_residual",
        "",
    ),
    ({"hyper_connections": {"hc_mult": 1}}, "hyper_connections.hc_mult=1", "greater than or equal"),
    ({"hyper_connections": {}, "block": "parallel"}, "block='parallel'", "with hyper_connections"),
    ({"hyper_connections": {}, "memory": [PLE]}, "memory.kind='per_layer_embedding'", "beside"),
    (
        {
            "ffn": {
                "kind": "moe",
                "num_experts": 4,
                "num_experts_per_tok": 2,
                "moe_intermediate_size": 8,
                "hash_vocab_size": 7,
            }
        },
        "ffn.hash_vocab_size=7",
        "is not vocab_size=",
    ),
    ({"overrides": [{"layers": 3}]}, "overrides.0.layers=3", "valid string"),
    ({"memory": [ULTRA, PRODUCT]}, "memory.layers='1'", "block 1 has a memory layer"),
    (
        {"memory": [PLE, {**PLE, "layers": "0"}]},
        "memory.kind='per_layer_embedding'",
        "stands twice",
    ),
    ({"memory": [NGRAMS] * 2}, "memory.kind='ngram_embedding'", "stands twice"),
    ({"memory": [{**PLE, "layers": "1:3"}]}, "memory.layers='1:3'", "beside an FFN"),
    ({"memory": [PLE], "block": "norms_behind"}, "block='norms_behind'", "a memory layer"),
    (
        {"memory": [{**PRODUCT, "layers": "1:3"}]},
        "memory.layers='1:3'",
        "1:3 skips blocks, which a memory layer that replaces the FFN cannot",
    ),
]

KIND_RULES: list[tuple[str, dict[str, Any], dict[str, Any], str, str]] = [
    ("attention", ATTENTION, {"num_key_value_heads": 3}, "num_attention_heads=4",
     "not a multiple of num_key_value_heads=3"),
    ("attention", ATTENTION, {"rotary_dim": 9}, "rotary_dim=9", "exceeds head_dim=8"),
    ("attention", ATTENTION, {"rotary_dim": -1}, "rotary_dim=-1", "greater than or equal to 0"),
    ("attention", ATTENTION, {"sliding_window": 0}, "sliding_window=0", "equal to 1"),
    ("attention", ATTENTION, {"sliding_window": 2**31 + 1}, "sliding_window=", "2147483648"),
    ("attention", ATTENTION, {"num_attention_heads": 0}, "num_attention_heads=0", "equal to 1"),
    ("attention", ATTENTION, {"num_key_value_heads": 2**16 + 1}, "num_key_value_heads=", "65536"),
    ("attention", ATTENTION, {"head_dim": 3}, "head_dim=3", "equal to 4"),
    ("attention", ATTENTION, {"qk_norm": "some"}, "qk_norm='some'", "'full' or 'head_unweighted'"),
    ("attention", ATTENTION, {"heads": 3}, "heads=3", "Unexpected keyword argument"),
    ("attention", MLA, {"kv_lora_rank": 3}, "kv_lora_rank=3", "equal to 4"),
    ("attention", MLA, {"q_lora_rank": 0}, "q_lora_rank=0", "equal to 4"),
    ("attention", MLA, {"sliding_window": 8}, "sliding_window=8", "Unexpected"),
    ("ffn", DENSE, {"intermediate_size": 2**20 + 1}, "intermediate_size=1048577", "1048576"),
    ("ffn", DENSE, {"activation": "swish"}, "activation='swish'", "'silu', 'gelu', 'relu'"),
    ("ffn", MOE, {"num_experts_per_tok": 9}, "num_experts_per_tok=9", "exceeds num_experts=8"),
    ("ffn", MOE, {"n_group": 3}, "n_group=3", "does not divide num_experts=8"),
    ("ffn", MOE, {"n_group": 4, "topk_group": 5}, "topk_group=5", "exceeds n_group=4"),
    ("ffn", MOE, {"n_group": 8, "topk_group": 1}, "num_experts_per_tok=2",
     "exceeds the 1 experts of topk_group=1 groups"),
    ("ffn", MOE, {"n_group": 4, "topk_group": 2, "group_score_experts": 3},
     "group_score_experts=3", "exceeds the 2 experts of a group"),
    ("ffn", MOE, {"shared_intermediate_size": 1}, "shared_intermediate_size=1", "0 or at least 4"),
    ("ffn", MOE, {"shared_intermediate_size": 3}, "shared_intermediate_size=3", "0 or at least 4"),
    ("ffn", MOE, {"shared_intermediate_size": -1}, "shared_intermediate_size=-1", "equal to 0"),
    ("ffn", MOE, {"shared_expert_gate": True}, "shared_expert_gate=True",
     "needs a shared_intermediate_size"),
    ("ffn", MOE, {"scoring": "tanh"}, "scoring='tanh'", "'softmax', 'sigmoid'"),
    ("memory", ULTRA, {"knum": 1}, "knum=1", "equal to 2"),
    ("memory", ULTRA, {"knum": 2**15 + 1}, "knum=32769", "32768"),
    ("memory", ULTRA, {"knn": 17}, "knn=17", "exceeds the 16 rows of knum=4"),
    ("memory", ULTRA, {"share_ratio": 0}, "share_ratio=0", "greater than 0"),
    ("memory", ULTRA, {"share_ratio": 1.01}, "share_ratio=1.01", "less than or equal to 1"),
    ("memory", ULTRA, {"share_ratio": float("nan")}, "share_ratio=nan", "finite"),
    ("memory", ULTRA, {"first_stage_topk": 1}, "first_stage_topk=1", "cannot give knn=3 rows"),
    ("memory", ULTRA, {"tucker_cores": 3}, "value_dim=8", "not a multiple of tucker_cores=3"),
    ("memory", ULTRA, {"tucker_rank": 17}, "tucker_rank=17", "equal to 16"),
    ("memory", ULTRA, {"value_expansion": 0}, "value_expansion=0", "equal to 1"),
    ("memory", ULTRA, {"pre_value_dim": 0}, "pre_value_dim=0", "equal to 4"),
    ("memory", ULTRA, {"layers": 5}, "layers=5", "valid string"),
    ("memory", PRODUCT, {"knn": 17}, "knn=17", "exceeds the 16 rows of num_keys=4"),
    ("memory", PRODUCT, {"num_keys": 1}, "num_keys=1", "equal to 2"),
    ("memory", PRODUCT, {"gate": 1}, "gate=1", "valid boolean"),
    ("memory", PEER, {"knn": 17}, "knn=17", "exceeds the 16 rows of num_keys=4"),
    ("memory", PEER, {"value_dim": 8}, "value_dim=8", "Unexpected"),
    ("memory", PLE, {"hidden_size_per_layer_input": 3}, "hidden_size_per_layer_input=3", "to 4"),
    ("memory", PLE, {"vocab_size_per_layer_input": 1}, "vocab_size_per_layer_input=1", "to 2"),
    ("memory", PLE, {"at_input": True}, "at_input=True", "Unexpected"),
    ("memory", NGRAMS, {"layers": "all"}, "layers='all'", "'input'"),
    ("memory", NGRAMS, {"emb_neighbor_num": 1}, "emb_neighbor_num=1", "equal to 2"),
    ("memory", NGRAMS, {"emb_neighbor_num": 9}, "emb_neighbor_num=9", "equal to 8"),
    ("memory", NGRAMS, {"emb_split_num": 3}, "emb_split_num=3", "whole and at least 4"),
    ("memory", NGRAMS, {"emb_split_num": 4}, "emb_split_num=4", "whole and at least 4"),
    ("memory", NGRAMS, {"ngram_vocab_size_ratio": 0}, "ngram_vocab_size_ratio=0", "equal to 1"),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "given", "rule"), MODEL_RULES)
def test_rules_of_the_model(fields: dict[str, Any], given: str, rule: str) -> None:
    message = refusal(**fields)
    assert given in message
    assert rule in message


@pytest.mark.parametrize(("where", "valid", "fields", "given", "rule"), KIND_RULES)
def test_rules_of_the_layer_kinds(
    where: str, valid: dict[str, Any], fields: dict[str, Any], given: str, rule: str
) -> None:
    def table(part: dict[str, Any]) -> dict[str, Any]:
        return {where: [part] if where == "memory" else part}

    make(**table(valid))  # only the changed field is at fault
    message = refusal(**table(valid | fields))
    assert given in message
    assert rule in message
    assert where in message


@pytest.mark.parametrize(
    ("where", "part", "required"),
    [
        ("attention", ATTENTION, ["num_attention_heads", "num_key_value_heads", "head_dim"]),
        ("attention", MLA, list(MLA)[1:]),
        ("ffn", DENSE, ["intermediate_size"]),
        ("ffn", MOE, list(MOE)[1:]),
        ("memory", ULTRA, list(ULTRA)[1:]),
        ("memory", PRODUCT, list(PRODUCT)[1:]),
        ("memory", PEER, list(PEER)[1:]),
        ("memory", PLE, list(PLE)[1:]),
        ("memory", NGRAMS, list(NGRAMS)[1:]),
    ],
)
def test_what_has_no_default_is_asked_for(
    where: str, part: dict[str, Any], required: list[str]
) -> None:
    for name in required:
        left = {key: value for key, value in part.items() if key != name}
        assert f"{name}: is missing" in refusal(**{where: [left] if where == "memory" else left})


@pytest.mark.parametrize(
    ("where", "part", "fields"),
    [
        ("attention", ATTENTION, {"rotary_dim": 8, "sliding_window": 2**31, "head_dim": 2**20}),
        ("attention", ATTENTION, {"num_key_value_heads": 1, "sliding_window": 1, "rotary_dim": 0}),
        ("ffn", MOE, {"num_experts": 2, "num_experts_per_tok": 2, "shared_intermediate_size": 4}),
        ("ffn", MOE, {"n_group": 4, "topk_group": 1, "group_score_experts": 2}),
        ("memory", ULTRA, {"knn": 16, "first_stage_topk": 4, "tucker_cores": 8}),
        ("memory", ULTRA, {"share_ratio": 1, "knn": 17}),  # six layers share 96 rows
        ("memory", PRODUCT, {"knn": 16}),
        ("memory", PLE, {"hidden_size_per_layer_input": 4, "layers": "5"}),
        ("memory", NGRAMS, {"emb_split_num": 2, "layers": "input"}),
    ],
)
def test_bounds_themselves_are_allowed(
    where: str, part: dict[str, Any], fields: dict[str, Any]
) -> None:
    make(**{where: [part | fields] if where == "memory" else part | fields})
