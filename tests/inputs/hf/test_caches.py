"""Families with mixed and shared caches equal transformers: parameters, cache and FLOPs.

tests/data/hf_caches holds the sizes of published models, without keys that say nothing of a cost.
"""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from costmodel.costs.operators import build_operators
from costmodel.costs.step import step_costs
from costmodel.costs.totals import kv_bytes_per_token, parameter_counts
from costmodel.errors import InputError
from costmodel.inputs.catalog import load_model
from costmodel.inputs.hf.config import load_hf_config
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.workload import Workload
from costmodel.layers.attention import Attention
from tests.inputs.hf.flops_of_kinds import flops

CACHES = Path(__file__).parents[2] / "data" / "hf_caches"
DECODE = Workload(batch=4, context=512)
PREFILL = Workload(
    phase="prefill", batch=1, context=0, new_tokens=512, logits="all", attention_flops="full"
)
# By transformers 5.24.0 on the meta device: parameters, KV bytes of a token, and `FlopCounterMode`
# of projections and attention in a decode step and in a prefill with the logits of each token.
COUNTED = {
    "gemma-4-31b": (30_697_345_280, 901_120, 250_274_906_112, 32_034_013_577_216),
    "gemma-4-e2b": (4_628_569_344, 18_432, 18_940_887_040, 2_424_374_820_864),
    # of Gemma 3n also the mixing of streams, which the counter sees as a product
    "gemma-3n-e4b": (
        6_835_235_568,
        40_960,
        36_476_409_728 + 9_175_040,
        4_668_951_085_056 + 1_174_405_120,
    ),
}


def table_of(name: str) -> dict[str, Any]:
    table: dict[str, Any] = json.loads((CACHES / f"{name}.json").read_text())
    return table


def read(folder: Path, name: str, **changes: object) -> ModelConfig:
    """The model of a file whose text model has other values."""
    table = table_of(name)
    table.get("text_config", table).update(changes)
    (folder / "config.json").write_text(json.dumps(table))
    return load_hf_config(folder / "config.json")


@pytest.mark.parametrize("name", COUNTED)
def test_a_model_costs_what_transformers_counts(name: str) -> None:
    model, step = load_hf_config(CACHES / f"{name}.json"), DECODE.step()
    assert (
        parameter_counts(build_operators(model, step)).total,
        kv_bytes_per_token(model, step),
        flops(model, DECODE),
        flops(model, PREFILL),
    ) == COUNTED[name]


@pytest.mark.parametrize("name", sorted(path.stem for path in CACHES.glob("*.json")))
def test_a_preset_is_its_config_json(name: str) -> None:
    preset, model = load_model(name), load_hf_config(CACHES / f"{name}.json")
    for field in ("attention_groups", "ffn_groups", "memory", "cache_sources", "altup", "laurel"):
        assert getattr(preset, field) == getattr(model, field), field
    for field in ("hidden_size", "vocab_size", "tie_word_embeddings", "post_norms"):
        assert getattr(preset, field) == getattr(model, field), field
    assert preset.logit_softcap == model.logit_softcap


def test_a_step_of_gemma_4_e2b_reads_more_than_it_stores() -> None:
    """15 layers store and 35 read: 28 x 1,024 B within the window, 7 x 2,048 B."""
    step = Workload(batch=1, context=500).step()
    sums = step_costs(load_model("gemma-4-e2b"), step).totals
    assert sums.kv_read_bytes == 500 * (28 * 1024 + 7 * 2048) == 500 * 43_008
    assert sums.kv_written_bytes == 12 * 1024 + 3 * 2048


def test_sharing_layers_read_the_last_layer_of_their_kind() -> None:
    """As transformers has it: 13 with a window and 14 without."""
    sources = load_model("gemma-4-e2b").cache_sources
    assert list(sources) == list(range(15, 35))
    assert {layer for layer, source in sources.items() if source == 14} == {*range(19, 35, 5)}
    assert set(sources.values()) == {13, 14}


def test_mimo_v2_flash_by_hand() -> None:
    """39 layers with a window and 9 without, one dense FFN and 47 of experts."""
    model = load_hf_config(CACHES / "mimo-v2-flash.json")
    d, heads = 4096, 64
    sliding = d * (heads * 192 + 8 * (192 + 128)) + heads * 128 * d + heads  # and its sinks
    full = d * (heads * 192 + 4 * (192 + 128)) + heads * 128 * d
    experts = 256 * 3 * d * 2048 + 256 * d + 256  # and the router's correction bias
    total = 39 * sliding + 9 * full + 47 * experts + 3 * d * 16384 + 97 * d + 2 * 152576 * d
    step = DECODE.step()
    assert parameter_counts(build_operators(model, step)).total == total
    assert kv_bytes_per_token(model, step) == 2 * (192 + 128) * (39 * 8 + 9 * 4)
    scores = 39 * 128 + 9 * 513  # of a sequence and head
    core = [op for op in build_operators(model, step) if op.leaf == "attention.core"]
    pairs = sum(op.count * part.flops for op in core for part in op.parts if part.name != "softmax")
    assert pairs == 2 * 4 * scores * heads * (192 + 128)
    assert round(total / 1e9) == 309


def test_the_nvfp4_release_of_gemma_4_31b(tmp_path: Path) -> None:
    """Only the MLPs: 4.5 bits a weight, and two fp32 scalars a matrix; the rest is bf16."""
    quantised = {
        "quant_method": "modelopt",
        "quant_algo": "NVFP4",
        "config_groups": {
            "group_0": {
                "targets": ["Linear"],
                **{
                    what: {"dynamic": False, "num_bits": 4, "type": "float", "group_size": 16}
                    for what in ("input_activations", "weights")
                },
            }
        },
        "ignore": [
            "lm_head",
            "model.vision_tower*",
            *(f"model.language_model.layers.{i}.self_attn*" for i in range(60)),
        ],
        "kv_cache_scheme": {"dynamic": False, "num_bits": 8, "type": "float"},
    }
    (tmp_path / "config.json").write_text(
        json.dumps(table_of("gemma-4-31b") | {"quantization_config": quantised})
    )
    model = load_hf_config(tmp_path / "config.json")
    assert model.storage is not None
    step = replace(DECODE, formats=model.storage.weights).step()
    stored = sum(
        weight.stored_bytes(step) * operator.count
        for operator in build_operators(model, step)
        for weight in operator.weights
        if operator.leaf != "lm_head"  # tied
    )
    mlps = 20_808_990_720
    assert stored == mlps * 9 // 16 + 2 * (30_697_345_280 - mlps) + 60 * 3 * 8
    assert model.storage.kv_dtype is not None
    assert model.storage.kv_dtype.bits == 8


@pytest.mark.parametrize(
    ("rope", "rotated"),
    [
        (None, 128),
        ({"full_attention": {"partial_rotary_factor": 0.5}}, 256),
        ({"full_attention": {"rope_theta": 1e6}, "sliding_attention": {}}, None),
    ],
)
def test_the_rotated_part_of_full_attention(
    tmp_path: Path, rope: dict[str, Any] | None, rotated: int | None
) -> None:
    model = read(tmp_path, "gemma-4-31b", rope_parameters=rope)
    sliding, full = (model.attention_of(layer) for layer in (0, 5))
    assert isinstance(sliding, Attention)
    assert isinstance(full, Attention)
    assert (sliding.rotary_dim, full.rotary_dim) == (None, rotated)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("gemma-4-31b", {"enable_moe_block": True}, "enable_moe_block=True: is not modelled"),
        ("gemma-4-31b", {"use_bidirectional_attention": "all"}, "='all': is not modelled"),
        ("gemma-4-31b", {"global_head_dim": "wide"}, "global_head_dim='wide'"),
        ("gemma-4-31b", {"layer_types": ["full_attention"]}, "layer_types=.*has 1 entries for"),
        (
            "gemma-4-31b",
            {"rope_parameters": {"sliding_attention": {"partial_rotary_factor": 0.5}}},
            "sliding_attention.partial_rotary_factor=0.5: heads within a window",
        ),
        ("gemma-4-e2b", {"num_kv_shared_layers": 35}, "leaves a kind of attention without a cache"),
        ("gemma-4-e2b", {"num_kv_shared_layers": 40}, "leaves a kind of attention without a cache"),
        ("gemma-4-e2b", {"vocab_size_per_layer_input": 1}, "vocab_size_per_layer_input=1"),
        (
            "gemma-4-e2b",
            {"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}},
            "is not modelled beside layers of kind 'per_layer_embedding'",
        ),
        ("gemma-3n-e4b", {"altup_correct_scale": False}, "altup_correct_scale=False: is not mod"),
        ("gemma-3n-e4b", {"altup_num_inputs": 1}, "altup_num_inputs=1"),
        ("gemma-3n-e4b", {"laurel_rank": None}, "laurel_rank=None"),
        ("gemma-3n-e4b", {"intermediate_size": [16384]}, "is not of num_hidden_layers=35 blocks"),
        ("gemma-3n-e4b", {"rope_scaling": {"partial_rotary_factor": 0.5}}, "rotated in part"),
        ("mimo-v2-flash", {"moe_layer_freq": [1]}, "moe_layer_freq=.*: is not a 0 or 1 for each"),
        ("mimo-v2-flash", {"hybrid_layer_pattern": [2] * 48}, "hybrid_layer_pattern=.*0 or 1"),
        ("mimo-v2-flash", {"sliding_window_size": 64}, "sliding_window_size=64: differs from"),
        ("mimo-v2-flash", {"scoring_func": "softmax"}, "scoring_func='softmax': is not modelled"),
    ],
)
def test_what_is_not_modelled_is_refused_by_name(
    tmp_path: Path, name: str, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError) as caught:
        read(tmp_path, name, **changes)
    assert re.search(message, str(caught.value)), str(caught.value)


@pytest.mark.parametrize(
    "key",
    ["global_head_dim", "attention_k_eq_v", "num_kv_shared_layers", "hidden_size_per_layer_input"],
)
def test_a_missing_size_of_gemma_4_has_no_default(tmp_path: Path, key: str) -> None:
    table = table_of("gemma-4-31b")
    del table["text_config"][key]
    (tmp_path / "config.json").write_text(json.dumps(table))
    with pytest.raises(InputError, match=key):
        load_hf_config(tmp_path / "config.json")
