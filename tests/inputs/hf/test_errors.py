"""A config.json that breaks a rule: one InputError that names field, value and rule."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from costmodel.errors import InputError, shown
from costmodel.inputs.hf.config import load_hf_config
from costmodel.inputs.hf.families import FAMILIES

CONFIGS = Path(__file__).parents[2] / "data" / "hf"
GONE = object()  # in a change: take the key away


def written(folder: Path, name: str, changes: dict[str, Any]) -> Path:
    table = json.loads((CONFIGS / f"{name}.json").read_text())
    for key, value in changes.items():
        *outer, last = key.split(".")
        place = table
        for part in outer:
            place = place[part]
        if value is GONE:
            del place[last]
        else:
            place[last] = value
    path = folder / "config.json"
    path.write_text(json.dumps(table), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        # sizes that are missing
        ("llama-3.1-8b", {"hidden_size": GONE}, "hidden_size: is missing"),
        ("llama-3.1-8b", {"num_hidden_layers": GONE}, "num_hidden_layers: is missing"),
        ("llama-3.1-8b", {"num_attention_heads": GONE}, "num_attention_heads: is missing"),
        ("llama-3.1-8b", {"vocab_size": GONE}, "vocab_size: is missing"),
        ("llama-3.1-8b", {"intermediate_size": GONE}, "intermediate_size: is missing"),
        ("mixtral-8x7b", {"num_local_experts": GONE}, "num_local_experts: is missing"),
        ("mixtral-8x7b", {"num_experts_per_tok": GONE}, "num_experts_per_tok: is missing"),
        ("deepseek-v3", {"n_routed_experts": GONE}, "n_routed_experts: is missing"),
        ("qwen3-30b-a3b", {"moe_intermediate_size": GONE}, "moe_intermediate_size: is missing"),
        ("gemma-3-4b", {"text_config": GONE}, "text_config: is missing"),
        ("gemma-3-4b", {"text_config.hidden_size": GONE}, "text_config.hidden_size: is missing"),
        # values of another type or out of range
        ("llama-3.1-8b", {"hidden_size": "4096"}, "hidden_size='4096': .* valid integer"),
        ("llama-3.1-8b", {"hidden_size": 4096.0}, "hidden_size=4096.0: .* valid integer"),
        ("llama-3.1-8b", {"hidden_size": True}, "hidden_size=True: .* valid integer"),
        ("llama-3.1-8b", {"hidden_size": None}, "hidden_size=None: .* valid integer"),
        ("llama-3.1-8b", {"hidden_size": [4096]}, r"hidden_size=\[4096\]: .* valid integer"),
        ("llama-3.1-8b", {"hidden_size": -4096}, "hidden_size=-4096: .* greater than or equal"),
        ("llama-3.1-8b", {"hidden_size": 2**21}, "hidden_size=2097152: .* less than or equal"),
        ("llama-3.1-8b", {"hidden_size": 10**300}, "hidden_size=an integer of 997 bits: "),
        ("llama-3.1-8b", {"num_hidden_layers": 0}, "num_hidden_layers=0: .* equal to 1"),
        ("llama-3.1-8b", {"num_hidden_layers": 10**6}, "num_hidden_layers=1000000: .* 1024"),
        ("llama-3.1-8b", {"vocab_size": 0}, "vocab_size=0: .* equal to 2"),
        ("llama-3.1-8b", {"tie_word_embeddings": 1}, "tie_word_embeddings=1: .* valid boolean"),
        ("llama-3.1-8b", {"attention_bias": "no"}, "attention_bias='no': .* valid boolean"),
        ("llama-3.1-8b", {"hidden_act": "gelu"}, "hidden_act='gelu': .* 'silu'"),
        ("llama-3.1-8b", {"rope_scaling": 8}, "rope_scaling=8: .* valid dictionary"),
        ("mistral-7b-v0.1", {"sliding_window": 0}, "sliding_window=0: .* equal to 1"),
        ("gpt-oss-20b", {"layer_types": ["linear"]}, "layer_types.0='linear': .* 'full_attention'"),
        ("gpt-oss-20b", {"swiglu_limit": None}, "swiglu_limit=None: .* valid number"),
        ("qwen3-30b-a3b", {"mlp_only_layers": [-1]}, "mlp_only_layers.0=-1: "),
        ("qwen3-30b-a3b", {"decoder_sparse_step": 0}, "decoder_sparse_step=0: "),
        ("deepseek-v3", {"num_nextn_predict_layers": -1}, "num_nextn_predict_layers=-1: "),
        ("deepseek-v3", {"quantization_config": "fp8"}, "quantization_config='fp8': "),
        ("glm-4.5", {"partial_rotary_factor": 1.5}, "partial_rotary_factor=1.5: .* equal to 1"),
        ("glm-4.5", {"partial_rotary_factor": True}, "partial_rotary_factor=True: .* number"),
        ("gemma-3-1b", {"sliding_window_pattern": 0}, "sliding_window_pattern=0: "),
        # values that do not fit together
        (
            "llama-3.1-8b",
            {"num_key_value_heads": 5},
            "num_attention_heads=32: is not a multiple of num_key_value_heads=5",
        ),
        (
            "llama-3.1-8b",
            {"hidden_size": 4100},
            "hidden_size=4100: is not a multiple of num_attention_heads=32, and head_dim is not",
        ),
        (
            "qwen2.5-7b-instruct",
            {"num_key_value_heads": GONE},
            r"num_key_value_heads=32 \(not in the file, so the default: num_key_value_heads=32\)",
        ),
        (
            "deepseek-v3",
            {"num_experts_per_tok": 257},
            "num_experts_per_tok=257: exceeds n_routed_experts=256",
        ),
        ("deepseek-v3", {"n_group": 7}, "n_group=7: does not divide num_experts=256"),
        ("deepseek-v3", {"num_key_value_heads": 8}, "num_key_value_heads=8: is not num_attention"),
        ("deepseek-v3", {"qk_head_dim": 128}, "qk_head_dim=128: is not qk_nope_head_dim"),
        ("deepseek-v2", {"n_group": None}, "topk_method='group_limited_greedy': needs n_group"),
        ("deepseek-v2-lite", {"attention_bias": True}, "attention_bias=True: is not modelled wi"),
        ("gpt-oss-20b", {"num_hidden_layers": 23}, "layer_types=.*: has 24 entries for num_hid"),
        ("gpt-oss-20b", {"sliding_window": None}, "sliding_window=None: gives no window to"),
        ("gpt-oss-20b", {"experts_per_token": 8}, "experts_per_token=8: differs from num_experts"),
        ("minimax-m2", {"attn_type_list": [1] * 61}, "attn_type_list=.*: is not 1 .* for each"),
        ("minimax-m2", {"attn_type_list": [1] * 61 + [0]}, "attn_type_list=.*: is not 1 .* for"),
        ("minimax-m2", {"rotary_dim": 256}, "rotary_dim=256: exceeds head_dim=128"),
        ("minimax-m2", {"partial_rotary_factor": 0.25}, "head_dim=128: it is not clear how much"),
        ("gemma-3-4b", {"text_config.tie_word_embeddings": False}, "tie_word_embeddings=False: "),
        # values that are not modelled
        ("llama-3.1-8b", {"pretraining_tp": 2}, "pretraining_tp=2: is not modelled for .*; only 1"),
        ("llama-3.1-8b", {"pretraining_tp": True}, "pretraining_tp=True: is not modelled"),
        (
            "llama-3.1-8b",
            {"rope_parameters": {"partial_rotary_factor": 0.5}},
            "rope_parameters={'partial_rotary_factor': 0.5}: a head rotated in part",
        ),
        ("deepseek-v3", {"rope_scaling": {"partial_rotary_factor": 0.5}}, "rope_scaling={'part"),
        (
            "gemma-3-1b",
            {"rope_parameters": {"a\nb": {"partial_rotary_factor": 2}}},
            r"rope_parameters.'a\\nb'.partial_rotary_factor=2: ",
        ),
        (
            "llama-3.1-8b",
            {"architectures": ["LlamaForSequenceClassification"]},
            r"architectures=\['LlamaForSequenceClassification'\]: is not a model ForCausalLM",
        ),
        ("olmoe-1b-7b", {"clip_qkv": 8.0}, "clip_qkv=8.0: is not modelled"),
        ("qwen3-30b-a3b", {"use_sliding_window": True}, "use_sliding_window=True: is not modelled"),
        ("deepseek-v3", {"moe_layer_freq": 2}, "moe_layer_freq=2: is not modelled"),
        ("deepseek-v3", {"scoring_func": "softmax"}, "scoring_func='softmax': is not modelled"),
        ("deepseek-v3", {"topk_method": "greedy"}, "topk_method='greedy': is not modelled"),
        ("deepseek-v3", {"ep_size": 8}, "ep_size=8: is not modelled"),
        ("deepseek-v2", {"topk_method": "best"}, "topk_method='best': .* 'greedy'"),
        ("minimax-m2", {"qk_norm_type": "per_head"}, "qk_norm_type='per_head': is not modelled"),
        ("minimax-m2", {"shared_intermediate_size": 512}, "shared_intermediate_size=512: is not"),
        ("minimax-m2", {"layernorm_mlp_beta": 0.5}, "layernorm_mlp_beta=0.5: is not modelled"),
        ("gemma-3-1b", {"final_logit_softcapping": 30.0}, "final_logit_softcapping=30.0: is not"),
        ("gemma-3-1b", {"attn_logit_softcapping": 50.0}, "attn_logit_softcapping=50.0: is not"),
        ("gemma-3-1b", {"use_bidirectional_attention": True}, "use_bidirectional_attention=True"),
        ("gemma-3-4b", {"text_config.model_type": "llama"}, "text_config.model_type='llama': is"),
        ("mistral-7b-instruct-v0.3", {"is_encoder_decoder": True}, "is_encoder_decoder=True: is"),
        ("mistral-7b-instruct-v0.3", {"pruned_heads": {"0": [1]}}, "pruned_heads={'0': .*: is not"),
    ],
)
def test_a_broken_rule_is_named(
    tmp_path: Path, name: str, changes: dict[str, Any], message: str
) -> None:
    path = written(tmp_path, name, changes)
    with pytest.raises(InputError) as caught:
        load_hf_config(path)
    assert re.search(message, str(caught.value)), str(caught.value)
    assert str(caught.value).startswith(f"file={shown(str(path))}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("model_type", sorted(FAMILIES))
def test_an_unknown_field_is_refused_by_name(tmp_path: Path, model_type: str) -> None:
    folders = (
        CONFIGS,
        *(CONFIGS.with_name(f"hf_{of}") for of in ("sizes", "hybrids", "caches", "sparse")),
    )
    tables = {
        str(path.with_suffix("")): json.loads(path.read_text())
        for folder in folders
        for path in sorted(folder.glob("*.json"))
    }
    alone = [name for name, table in tables.items() if table["model_type"] == model_type]
    inside = [
        name
        for name, table in tables.items()
        if table.get("text_config", {}).get("model_type") == model_type
    ]
    name = (alone + inside)[0]
    field, family = "foo", model_type
    if "text_config" in tables[name]:  # the text model within it is what is read
        field, family = "text_config.foo", f"{model_type.removesuffix('_text')}_text"
    with pytest.raises(InputError) as caught:
        load_hf_config(written(tmp_path, name, {field: [1, 2]}))
    said = str(caught.value)
    assert f"field '{field}'=[1, 2]: is not understood for model_type '{family}'" in said
    assert "might change the cost" in said
    assert "--ignore-key" in said


def test_many_unknown_fields_are_counted(tmp_path: Path) -> None:
    path = written(tmp_path, "llama-3.1-8b", {f"foo{i}": i for i in range(20)})
    with pytest.raises(InputError, match=r"'foo7'=7; and 12 more fields: are not understood"):
        load_hf_config(path)


def test_an_unknown_field_of_a_wrapper_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="num_experts=8: is not modelled"):
        load_hf_config(written(tmp_path, "gemma-3-4b", {"num_experts": 8}))


@pytest.mark.parametrize("given", ["bert", "", 7, None, ["llama"], {"llama": 1}])
def test_an_unknown_family_is_told_the_known_ones(tmp_path: Path, given: object) -> None:
    with pytest.raises(InputError) as caught:
        load_hf_config(written(tmp_path, "llama-3.1-8b", {"model_type": given}))
    assert f"model_type={given!r}: is not one of the families" in str(caught.value)
    assert ", ".join(sorted(FAMILIES)) in str(caught.value)


def test_a_missing_family_is_told_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        load_hf_config(written(tmp_path, "llama-3.1-8b", {"model_type": GONE}))
    assert "model_type: is missing" in str(caught.value)
    assert ", ".join(sorted(FAMILIES)) in str(caught.value)


def test_an_unknown_family_is_said_before_anything_else(tmp_path: Path) -> None:
    path = written(tmp_path, "llama-3.1-8b", {"model_type": "bamba", "time_step_limit": [0]})
    path.write_text(path.read_text().replace("[0]", "[0.0, Infinity]"))
    with pytest.raises(InputError, match="model_type='bamba': is not one of"):
        load_hf_config(path)


@pytest.mark.parametrize(
    ("name", "slip", "key"),
    [
        ("deepseek-v3", "num_routed_experts", "n_routed_experts"),
        ("llama-3.1-8b", "num_hidden_layer", "num_hidden_layers"),
    ],
)
def test_a_key_that_looks_like_the_missing_one_is_named(
    tmp_path: Path, name: str, slip: str, key: str
) -> None:
    path = written(tmp_path, name, {slip: 7, key: GONE})
    with pytest.raises(InputError, match=f"{key}: is missing; the file holds '{slip}'=7$"):
        load_hf_config(path)


def test_a_slip_in_an_optional_key_is_named(tmp_path: Path) -> None:
    changes = {"n_shared_experts": GONE, "num_shared_experts": 1}
    path = written(tmp_path, "deepseek-v3", changes)
    with pytest.raises(
        InputError, match=r"num_shared_experts=1: .* \(is n_shared_experts meant\?\)"
    ):
        load_hf_config(path)


def test_experts_in_a_dense_family_stay_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="num_local_experts=4: is not modelled"):
        load_hf_config(written(tmp_path, "llama-3.1-8b", {"num_local_experts": 4}))
