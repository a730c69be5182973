"""Hybrid families equal transformers: parameters, cache, state and FLOPs; and what is refused.

tests/data/hf_hybrids holds the sizes of published models, without keys that say nothing of a cost.
"""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from costmodel.costs.operators import build_operators
from costmodel.costs.totals import kv_cache, parameter_counts, totals
from costmodel.errors import InputError
from costmodel.inputs.catalog import load_model
from costmodel.inputs.hf.config import load_hf_config
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.workload import Workload
from costmodel.layers.attention import Attention
from costmodel.layers.ffn import DenseFfn
from costmodel.layers.short_conv import ShortConv
from tests.inputs.hf.flops_of_kinds import flops

HYBRIDS = Path(__file__).parents[2] / "data" / "hf_hybrids"
PREFILL = Workload(
    phase="prefill", batch=1, context=0, new_tokens=512, logits="all", attention_flops="full"
)
# By transformers 5.24.0 on the meta device: parameters (correction biases of routers among them),
# KV bytes of a token, and `FlopCounterMode` of projections and attention in a prefill of 512
# tokens with the logits of each. State bytes of a sequence: the cache object's, with K - 1 columns
# of each convolution. FLOPs of recurrences, which transformers computes elementwise or in a count
# of its own, by hand: of a decode step, 7 Hv dk dv or 5 di Ns a layer; of the prefill, in chunks of
# 64 (gated delta net, KDA), 256 (Granite, Falcon) and 128 (Nemotron).
COUNTED = {
    "lfm2-350m": (354_483_968, 12_288, 40_960, 369_367_187_456, 0, 0),
    "lfm2-8b-a1b": (8_339_930_560, 12_288, 147_456, 1_607_794_163_712, 0, 0),
    "qwen3.5-27b": (
        26_895_998_464,
        65_536,
        153_944_064,
        26_339_960_684_544,
        48 * 7 * 48 * 128 * 128,
        48 * 512 * 48 * (10 * 64 * 128 + 6 * 128 * 128),
    ),
    "qwen3.5-122b-a10b": (
        122_111_526_912,
        24_576,
        153_649_152,
        9_325_598_736_384,
        36 * 7 * 64 * 128 * 128,
        36 * 512 * 64 * (10 * 64 * 128 + 6 * 128 * 128),
    ),
    # transformers runs all 128 experts on each token: those that were not chosen are taken off.
    "llama-4-maverick": (
        400_711_848_960,
        196_608,
        0,
        409_526_809_395_200 - 24 * 512 * 127 * 3 * 2 * 5120 * 8192,
        0,
        0,
    ),
    "qwen3-next-80b-a3b": (
        79_674_391_296,
        24_576,
        77_266_944,
        3_699_409_682_432,
        36 * 7 * 32 * 128 * 128,
        36 * 512 * 32 * (10 * 64 * 128 + 6 * 128 * 128),
    ),
    "kimi-linear-48b-a3b": (
        49_122_681_728,
        8_064,
        43_417_600,
        3_180_305_842_176 + 37_580_963_840,
        20 * 7 * 32 * 128 * 128,
        20 * 512 * 32 * (10 * 64 * 128 + 6 * 128 * 128),
    ),
    "granite-4.0-h-small": (
        32_207_337_984,
        16_384,
        152_819_712,
        9_029_363_433_472,
        36 * 5 * 8192 * 128,
        36 * 512 * (2 * 256 * 128 + 2 * 256 * 8192 + 4 * 8192 * 128),
    ),
    "nemotron-3-ultra": (
        549_308_993_536,
        12_288,
        407_961_600,
        56_298_431_315_968 + 103_079_215_104,
        48 * 5 * 16384 * 128,
        48 * 512 * (2 * 128 * 8 * 128 + 2 * 128 * 16384 + 4 * 16384 * 128),
    ),
    "nemotron-h-56b": (
        56_324_350_464,
        40_960,
        912_605_184,
        56_569_014_255_616 + 85_899_345_920,
        54 * 5 * 16384 * 256,
        54 * 512 * (2 * 128 * 8 * 256 + 2 * 128 * 16384 + 4 * 16384 * 256),
    ),
    "falcon-h1-7b": (
        7_585_513_568,
        45_056,
        139_358_208,
        7_357_379_641_344 + 70_866_960_384,
        44 * 5 * 3072 * 256,
        44 * 512 * (2 * 256 * 256 + 2 * 256 * 3072 + 4 * 3072 * 256),
    ),
    # Of 12 chosen experts 8 compute in the mean, and two in three choices are real ones:
    # transformers runs all 12, and holds matrices of experts that compute nothing.
    "longcat-flash-chat": (560_664_958_976, 64_512, 0, 27_800_249_565_184 + 601_295_421_440, 0, 0),
    "longcat-flash-lite": (68_562_459_648, 32_256, 0, 4_082_366_414_848 + 150_323_855_360, 0, 0),
}
NO_PRESET = {"falcon-h1-7b", "nemotron-h-56b", "qwen3-next-80b-a3b"}


def read(folder: Path, name: str, **changes: object) -> ModelConfig:
    table: dict[str, Any] = json.loads((HYBRIDS / f"{name}.json").read_text())
    (folder / "config.json").write_text(json.dumps(table | changes))
    return load_hf_config(folder / "config.json")


@pytest.mark.parametrize("name", COUNTED)
def test_a_hybrid_costs_what_transformers_counts(name: str) -> None:
    model, step = load_hf_config(HYBRIDS / f"{name}.json"), Workload(batch=1).step()
    operators = build_operators(model, step)
    kept = kv_cache(model, step, totals(operators))
    assert (
        parameter_counts(operators).total,
        kept.bytes_per_token,
        kept.state_bytes_per_sequence,
        flops(model, PREFILL),
        flops(model, Workload(batch=1), ("recurrence",)),
        flops(model, PREFILL, ("recurrence",)),
    ) == COUNTED[name]


@pytest.mark.parametrize("name", sorted(COUNTED.keys() - NO_PRESET))
def test_a_preset_is_its_config_json(name: str) -> None:
    preset, model = load_model(name), load_hf_config(HYBRIDS / f"{name}.json")
    assert preset.attention_groups == model.attention_groups
    assert preset.ffn_groups == model.ffn_groups
    assert preset.shortcut_placements == model.shortcut_placements
    assert preset.memory == model.memory
    assert preset.tie_word_embeddings == model.tie_word_embeddings
    assert (preset.hidden_size, preset.vocab_size) == (model.hidden_size, model.vocab_size)


def test_experts_of_longcat_stand_beside_every_other_dense_ffn() -> None:
    model = load_model("longcat-flash-chat")
    (placement,) = model.shortcut_placements
    assert placement == tuple((2 * i, 2 * i + 1) for i in range(28))
    (dense, blocks), (experts, beside) = model.ffn_groups
    assert (dense.kind, len(blocks)) == ("dense", 56)
    assert (experts.kind, beside) == ("moe", tuple(range(0, 56, 2)))


def test_multipliers_of_falcon_are_noted(tmp_path: Path) -> None:
    changes = {"key_multiplier": 0.5, "mlp_multipliers": [0.25, 0.125], "lm_head_multiplier": 1}
    (note,) = read(tmp_path, "falcon-h1-7b", **changes).notes
    assert note.startswith("key_multiplier=0.5, mlp_multipliers=[0.25, 0.125]: the matrices beside")


def test_qwen3_next_may_have_dense_blocks_and_leaves_its_mtp_head_out(tmp_path: Path) -> None:
    model = read(tmp_path, "qwen3-next-80b-a3b", mlp_only_layers=[0, 47])
    assert [(ffn.kind, len(layers)) for ffn, layers in model.ffn_groups] == [
        ("dense", 2),
        ("moe", 46),
    ]
    assert "multi-token prediction" in model.notes[0]
    # all but the 502 of 512 experts that a token does not choose
    whole = load_hf_config(HYBRIDS / "qwen3-next-80b-a3b.json")
    counts = parameter_counts(build_operators(whole, Workload().step()))
    assert counts.active_with_embeddings == 79_674_391_296 - 48 * 502 * 3 * 2048 * 512


def test_every_file_is_counted() -> None:
    assert set(COUNTED) == {path.stem for path in HYBRIDS.glob("*.json")}


def test_the_decoder_of_a_multimodal_file_is_the_same(tmp_path: Path) -> None:
    inner = json.loads((HYBRIDS / "qwen3.5-27b.json").read_text())
    tied = inner.pop("tie_word_embeddings")
    whole = {"model_type": "qwen3_5", "text_config": inner, "tie_word_embeddings": tied}
    (tmp_path / "config.json").write_text(json.dumps(whole))
    model = load_hf_config(tmp_path / "config.json")
    assert model.attention_groups == load_model("qwen3.5-27b").attention_groups
    assert not model.tie_word_embeddings


def test_scout_has_experts_in_each_block_and_norms_where_it_rotates(tmp_path: Path) -> None:
    """Llama-4-Scout: 16 experts, interleave_moe_layer_step 1, use_qk_norm."""
    model = read(
        tmp_path,
        "llama-4-maverick",
        num_local_experts=16,
        interleave_moe_layer_step=1,
        use_qk_norm=True,
        attn_temperature_tuning=4,
        no_rope_layers=[1, 1, 1, 0] * 12,
    )
    rotating, plain = model.attention_of(2), model.attention_of(3)
    assert isinstance(rotating, Attention)
    assert isinstance(plain, Attention)
    assert (rotating.qk_norm, rotating.rotary_dim, rotating.floor_scale) == (
        "head_unweighted",
        None,
        None,
    )
    assert rotating.attention_chunk_size == 8192
    assert (plain.qk_norm, plain.rotary_dim, plain.floor_scale) == ("none", 0, 8192)
    assert plain.attention_chunk_size is None
    assert [layers for _, layers in model.ffn_groups] == [tuple(range(48))]
    operators = build_operators(model, Workload().step())
    assert parameter_counts(operators).total == 107_769_861_120  # by transformers 5.24.0


def test_blocks_of_llama_4_may_be_listed(tmp_path: Path) -> None:
    types = ["full_attention", *["chunked_attention"] * 47]
    model = read(tmp_path, "llama-4-maverick", layer_types=types, moe_layers=[0, 5])
    chunks = [getattr(model.attention_of(layer), "attention_chunk_size", 0) for layer in (0, 1, 3)]
    assert chunks == [None, 8192, 8192]
    assert {layers for _, layers in model.ffn_groups if len(layers) == 2} == {(0, 5)}
    plain = read(tmp_path, "llama-4-maverick", attention_chunk_size=None)
    assert not any(
        getattr(mixer, "attention_chunk_size", None) for mixer, _ in plain.attention_groups
    )


@pytest.mark.parametrize(
    ("changes", "width"),
    [  # 2/3 of 6,656 is 4,437.3
        ({}, 4608),
        ({"block_multiple_of": 100}, 4500),
        ({"block_ffn_dim_multiplier": 1.5}, 6656),  # 6,655 is rounded up
        ({"block_auto_adjust_ff_dim": False}, 6656),
    ],
)
def test_the_ffn_of_lfm2_is_cut_and_rounded(
    tmp_path: Path, changes: dict[str, object], width: int
) -> None:
    model = read(tmp_path, "lfm2-350m", **changes)
    assert isinstance(model.ffn, DenseFfn)
    assert model.ffn.intermediate_size == width


def test_layer_types_come_before_indices_and_intervals(tmp_path: Path) -> None:
    types = ["conv"] * 15 + ["full_attention"]
    model = read(tmp_path, "lfm2-350m", layer_types=types)
    mixers = [model.attention_of(layer) for layer in range(16)]
    assert [isinstance(mixer, ShortConv) for mixer in mixers] == [True] * 15 + [False]
    table = json.loads((HYBRIDS / "qwen3.5-27b.json").read_text())
    del table["layer_types"]  # every fourth, by full_attention_interval
    (tmp_path / "config.json").write_text(json.dumps(table))
    assert (
        load_hf_config(tmp_path / "config.json").attention_groups
        == load_model("qwen3.5-27b").attention_groups
    )


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("lfm2-350m", {"conv_dim": 512}, "conv_dim=512: is not hidden_size=1024"),
        ("lfm2-350m", {"layer_types": ["conv"]}, "layer_types=.*: is not full_attention or conv"),
        ("lfm2-350m", {"tie_word_embeddings": 3}, "tie_word_embeddings=3"),
        ("nemotron-h-56b", {"hybrid_override_pattern": None}, "layers_block_type: is missing, and"),
        ("nemotron-h-56b", {"num_hidden_layers": 117}, "num_hidden_layers=117: differs from the 1"),
        ("nemotron-h-56b", {"hybrid_override_pattern": "M-X"}, "hybrid_override_pattern='M-X'"),
        ("nemotron-h-56b", {"layers_block_type": ["mlp"]}, "differs from layers_block_type"),
        ("nemotron-h-56b", {"layers_block_type": "M-"}, "layers_block_type='M-'"),
        ("nemotron-h-56b", {"mlp_hidden_act": "silu2"}, "mlp_hidden_act='silu2'"),
        ("nemotron-h-56b", {"mamba_proj_bias": True}, "mamba_proj_bias=True: is not modelled"),
        ("nemotron-h-56b", {"residual_in_fp32": True}, "residual_in_fp32=True: is not modelled"),
        ("nemotron-3-ultra", {"n_shared_experts": 2}, "n_shared_experts=2: is not modelled for"),
        ("nemotron-3-ultra", {"num_experts_per_tok": 513}, "exceeds n_routed_experts=512"),
        ("nemotron-3-ultra", {"moe_latent_size": 2}, "moe_latent_size=2"),
        ("falcon-h1-7b", {"mamba_d_ssm": 4096}, "mamba_d_ssm=4096: is not mamba_n_heads x mamba_"),
        ("falcon-h1-7b", {"mamba_use_mlp": False}, "mamba_use_mlp=False: is not modelled"),
        ("falcon-h1-7b", {"mlp_multipliers": "big"}, "mlp_multipliers"),
        ("longcat-flash-chat", {"zero_expert_type": "copy"}, "zero_expert_type='copy': is not mod"),
        ("longcat-flash-chat", {"num_hidden_layers": 29}, "num_hidden_layers=29: is neither num_l"),
        ("longcat-flash-chat", {"num_layers": 600}, "num_layers=600: is 1200 blocks"),
        ("longcat-flash-chat", {"attention_method": "MHA"}, "attention_method='MHA': is not mod"),
        (
            "longcat-flash-chat",
            {"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}},
            "quantization_config: is not modelled for experts beside a dense FFN",
        ),
        ("granite-4.0-h-small", {"layer_types": ["conv"] * 40}, "is not attention or mamba for"),
        ("granite-4.0-h-small", {"layer_types": None}, "does not say which blocks have attention"),
        ("granite-4.0-h-small", {"mamba_d_head": "auto"}, "mamba_d_head='auto'"),
        ("granite-4.0-h-small", {"position_embedding_type": "alibi"}, "is not nope or rope"),
        ("llama-4-maverick", {"no_rope_layers": [1, 0]}, "has less than num_hidden_layers=48"),
        ("llama-4-maverick", {"no_rope_layers": [2] * 48}, "no_rope_layers.0=2"),
        ("llama-4-maverick", {"layer_types": ["full_attention"]}, "has not num_hidden_layers=48"),
        (
            "llama-4-maverick",
            {"layer_types": ["chunked_attention"] * 48, "attention_chunk_size": None},
            "has chunks, and attention_chunk_size is not given",
        ),
        ("llama-4-maverick", {"floor_scale": None}, "is needed for attn_temperature_tuning"),
        ("qwen3.5-27b", {"attn_output_gate": False}, "attn_output_gate=False: is not modelled"),
        ("qwen3.5-27b", {"mamba_ssm_dtype": "bfloat16"}, "mamba_ssm_dtype='bfloat16': is not mod"),
        ("qwen3.5-27b", {"linear_num_value_heads": 40}, "linear_num_value_heads=40: is not a mul"),
        (
            "qwen3.5-27b",
            {"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}},
            "quantization_config: is not modelled for layers of kind 'gated_delta_net'",
        ),
    ],
)
def test_what_is_not_modelled_is_refused_by_name(
    tmp_path: Path, name: str, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError) as caught:
        read(tmp_path, name, **changes)
    assert re.search(message, str(caught.value)), str(caught.value)
