"""Kimi Linear's config.json: its preset, both forms of a file, and what is refused by name.

What transformers counts of it: test_hybrids.py.
"""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from costmodel.costs.operators import build_operators
from costmodel.errors import InputError
from costmodel.inputs.catalog import load_model
from costmodel.inputs.hf.config import load_hf_config
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.workload import Workload
from tests.inputs.hf.flops_of_kinds import flops

PUBLISHED = Path(__file__).parents[2] / "data" / "hf_hybrids" / "kimi-linear-48b-a3b.json"
FULL = [4, 8, 12, 16, 20, 24, 27]  # counted from 1
KDA = [block for block in range(1, 28) if block not in FULL]
TYPES = ["full_attention" if i in FULL else "linear_attention" for i in range(1, 28)]
SIZES = {"num_heads": 32, "head_dim": 128, "short_conv_kernel_size": 4}
NESTED = {**SIZES, "kda_layers": KDA, "full_attn_layers": FULL}
# As transformers writes the same model: no nested object, other spellings, parts that are off.
WRITTEN = {
    "linear_num_heads": 32,
    "linear_head_dim": 128,
    "linear_conv_kernel_dim": 4,
    "layer_types": TYPES,
    "mlp_layer_types": ["dense"] + ["sparse"] * 26,
    "num_local_experts": 256,
    "num_experts_per_tok": 8,
    "n_shared_experts": 1,
    "n_group": 1,
    "norm_topk_prob": True,
    "qk_head_dim": 192,
    "head_dim": 64,
    "attention_bias": False,
    "attn_res_block_size": 0,
    "mla_use_output_gate": False,
    "dense_ffn_hidden": 9216,
    "activation_situ_beta": 1.0,
    "activation_situ_linear_beta": 1.0,
}
OTHER_NAMES = {
    "first_k_dense_replace",
    "linear_attn_config",
    "moe_renormalize",
    "num_expert_group",
    "num_experts",
    "num_experts_per_token",
    "num_shared_experts",
}


def read(folder: Path, *left_out: str, **changes: object) -> ModelConfig:
    """The published file without some keys and with others."""
    table: dict[str, Any] = json.loads(PUBLISHED.read_text())
    kept = {key: value for key, value in table.items() if key not in left_out}
    (folder / "config.json").write_text(json.dumps(kept | changes))
    return load_hf_config(folder / "config.json")


def same_model(model: ModelConfig) -> bool:
    """Whether a model has the operators of the preset, in decode and in prefill."""
    preset = load_model("kimi-linear-48b-a3b")
    steps = [
        Workload(batch=4, context=512).step(),
        Workload(phase="prefill", new_tokens=300).step(),
    ]
    return all(build_operators(model, step) == build_operators(preset, step) for step in steps)


def test_the_published_file_is_the_preset() -> None:
    assert same_model(load_hf_config(PUBLISHED))


def test_the_file_that_transformers_writes_is_the_preset(tmp_path: Path) -> None:
    assert same_model(read(tmp_path, *OTHER_NAMES, **WRITTEN))


def test_both_forms_may_stand_in_one_file_if_they_agree(tmp_path: Path) -> None:
    assert same_model(read(tmp_path, **WRITTEN))
    assert same_model(read(tmp_path, linear_attn_config=SIZES, layer_types=TYPES))


def test_keys_that_are_off_may_be_absent(tmp_path: Path) -> None:
    absent = ("mla_use_nope", "q_lora_rank", "num_expert_group", "topk_group", "moe_renormalize")
    assert same_model(read(tmp_path, *absent))


def test_lists_may_go_on_behind_the_last_block(tmp_path: Path) -> None:
    model = read(tmp_path, num_hidden_layers=4)
    assert [(mixer.kind, layers) for mixer, layers in model.attention_groups] == [
        ("kimi_delta_attention", (0, 1, 2)),
        ("mla", (3,)),
    ]


def test_layers_of_multi_token_prediction_are_noted(tmp_path: Path) -> None:
    (note,) = read(tmp_path, num_nextn_predict_layers=1).notes
    assert note.startswith("num_nextn_predict_layers=1: the multi-token prediction layers")


def test_the_recurrence_of_four_sequences_by_hand() -> None:
    """7 d d a head and token: decay 1, reading by the key 2, writing 2, reading by the query 2.

    A collection of cases gives 335,544,320 for this step, which is 8 d d; its own words for that
    number are "7 dk dv a value head: decay, read k, write, read q". The words hold here.
    """
    sequences, layers, heads, d = 4, 20, 32, 128
    decode = Workload(batch=4, context=512)
    counted = flops(load_hf_config(PUBLISHED), decode, ("recurrence",))
    assert counted == sequences * layers * heads * 7 * d**2 == 293_601_280


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"linear_attn_config": "x"}, "linear_attn_config='x': Input should be a valid dict"),
        ({"linear_attn_config": None}, "linear_attn_config: is missing, and so is linear_num_he"),
        ({"linear_attn_config": SIZES}, "linear_attn_config.kda_layers: is missing"),
        (
            {"linear_attn_config": SIZES, "layer_types": None},
            "linear_attn_config.kda_layers: is missing",
        ),
        (
            {"linear_attn_config": {**SIZES, "kda_layers": KDA}},
            "linear_attn_config.full_attn_layers: is missing",
        ),
        (
            {"linear_attn_config": {**NESTED, "kda_layers": [i - 1 for i in KDA]}},
            "linear_attn_config.kda_layers=.*: counts blocks from 1, and holds 0",
        ),
        (
            {"linear_attn_config": {**NESTED, "full_attn_layers": [0, *FULL]}},
            "linear_attn_config.full_attn_layers=.*: counts blocks from 1, and holds 0",
        ),
        (
            {"linear_attn_config": {**NESTED, "kda_layers": [*KDA, 27]}},
            "full_attn_layers=.*: holds 27, which kda_layers holds, too",
        ),
        (
            {"linear_attn_config": {**NESTED, "kda_layers": KDA[:-1]}},
            "kda_layers=.*: lacks 26 of num_hidden_layers=27, and so does full_attn_layers",
        ),
        (
            {"linear_attn_config": {**NESTED, "kda_layers": "1-26"}},
            "linear_attn_config.kda_layers='1-26': Input should be a valid list",
        ),
        (
            {"linear_attn_config": {**NESTED, "kda_layers": None}},
            "kda_layers=None: lacks 1 of num_hidden_layers=27",
        ),
        (
            {"linear_attn_config": {**NESTED, "num_heads": True}},
            "linear_attn_config.num_heads=True: Input should be a valid integer",
        ),
        (
            {"linear_attn_config": {k: v for k, v in NESTED.items() if k != "head_dim"}},
            "linear_attn_config.head_dim: is missing",
        ),
        ({"linear_num_heads": 16}, "linear_num_heads=16: differs from linear_attn_config.num_h"),
        (
            {"layer_types": ["linear_attention"] * 27},
            "layer_types=.*: differs from the lists of linear_attn_config",
        ),
        ({"layer_types": ["kda"] * 27}, "layer_types.0='kda'"),
        ({"layer_types": ["conv"] * 27}, "is not full_attention or linear_attention for each"),
        (
            {"linear_attn_config": None, "linear_num_heads": 32, "linear_head_dim": 128},
            "linear_conv_kernel_dim: is missing",
        ),
        ({"mlp_layer_types": ["sparse"] * 27}, "mlp_layer_types=.*: is not as first_k_dense_rep"),
        ({"dense_ffn_hidden": 1024}, "dense_ffn_hidden=1024: is not intermediate_size"),
        ({"mla_use_nope": False}, "mla_use_nope=False: is not modelled"),
        ({"moe_router_activation_func": "softmax"}, "moe_router_activation_func='softmax': is not"),
        ({"moe_layer_freq": 2}, "moe_layer_freq=2: is not modelled"),
        ({"num_expert_group": 3}, "n_group=3: does not divide num_experts=256"),
        ({"n_group": 2}, "n_group=2: differs from num_expert_group=1, its other name"),
        ({"num_experts_per_token": 257}, "num_experts_per_token=257: exceeds num_experts=256"),
        (
            {"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}},
            "quantization_config: is not modelled for layers of kind 'kimi_delta_attention'",
        ),
    ],
)
def test_what_is_wrong_or_not_modelled_is_refused_by_name(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError) as caught:
        read(tmp_path, **changes)
    assert re.search(message, str(caught.value)), str(caught.value)


@pytest.mark.parametrize(
    ("left_out", "message"),
    [  # where the defaults of the published class and of transformers' differ
        ("first_k_dense_replace", "first_k_dense_replace: is missing"),
        ("num_shared_experts", "num_shared_experts: is missing"),
        ("linear_attn_config", "linear_attn_config: is missing, and so is linear_num_heads"),
    ],
)
def test_what_a_file_must_say(tmp_path: Path, left_out: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(tmp_path, left_out)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_act": "situ"}, "text_config.hidden_act='situ'"),
        ({"mla_use_output_gate": True}, "text_config.mla_use_output_gate=True: is not modelled"),
        ({"attn_res_block_size": 12}, "text_config.attn_res_block_size=12: is not modelled"),
        ({"routed_expert_hidden_size": 3584}, "field 'text_config.routed_expert_hidden_size'=3584"),
        (
            {"linear_attn_config": {**NESTED, "use_full_rank_gate": True}},
            "field 'text_config.linear_attn_config.use_full_rank_gate'=True",
        ),
    ],
)
def test_parts_of_kimi_k3_are_refused_one_by_one(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    """Its text model calls itself kimi_linear, too."""
    text = json.loads(PUBLISHED.read_text()) | changes
    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": "kimi_k3", "text_config": text})
    )
    with pytest.raises(InputError) as caught:
        load_hf_config(tmp_path / "config.json")
    assert message in str(caught.value)
