"""Reading config.json: presets agree, defaults are the family's, notes say what is left out."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from costmodel.inputs.catalog import load_model
from costmodel.inputs.hf.blocks import Blocks
from costmodel.inputs.hf.config import _layers, load_hf_config
from costmodel.inputs.hf.families import FAMILIES
from costmodel.inputs.model import ModelConfig
from costmodel.layers.attention import Attention
from costmodel.layers.ffn import DenseFfn
from costmodel.layers.mla import LatentAttention
from costmodel.layers.moe import MoeFfn

CONFIGS = Path(__file__).parents[2] / "data" / "hf"
MODELS_PAGE = Path(__file__).parents[3] / "docs" / "models.md"
PRESETS = (
    "deepseek-v2-lite",
    "deepseek-v3",
    "gpt-oss-120b",
    "gpt-oss-20b",
    "llama-3.1-70b",
    "llama-3.1-8b",
    "mixtral-8x22b",
    "mixtral-8x7b",
    "olmoe-1b-7b",
    "qwen3-235b-a22b",
    "qwen3-30b-a3b",
)

# The least that a file must hold.
SIZES = {"hidden_size": 1024, "num_hidden_layers": 4, "num_attention_heads": 32, "vocab_size": 99}
DENSE = {**SIZES, "intermediate_size": 256}
EXPERTS = {**DENSE, "num_local_experts": 16, "num_experts_per_tok": 2}
NARROW_EXPERTS = {**EXPERTS, "moe_intermediate_size": 64}
LEAST: dict[str, dict[str, Any]] = {
    "deepseek_v2": NARROW_EXPERTS,
    "deepseek_v3": NARROW_EXPERTS,
    "gemma3": {"text_config": DENSE},
    "gemma3_text": DENSE,
    "glm4_moe": NARROW_EXPERTS,
    "gpt_oss": EXPERTS,
    "kimi_k2": NARROW_EXPERTS,
    "llama": DENSE,
    "minimax_m2": EXPERTS,
    "mistral": DENSE,
    "mixtral": EXPERTS,
    "olmoe": EXPERTS,
    "qwen2": DENSE,
    "qwen3": DENSE,
    "qwen3_moe": NARROW_EXPERTS,
}


def read(folder: Path, table: dict[str, Any], file: str = "config.json") -> ModelConfig:
    path = folder / file
    path.write_text(json.dumps(table), encoding="utf-8")
    return load_hf_config(path)


def least(folder: Path, model_type: str, **fields: object) -> ModelConfig:
    return read(folder, {"model_type": model_type, **LEAST[model_type], **fields})


def attention(model: ModelConfig, layer: int = 0) -> Attention:
    kind = model.attention_of(layer)
    assert isinstance(kind, Attention)
    return kind


def moe(model: ModelConfig) -> MoeFfn:
    assert isinstance(model.ffn, MoeFfn)
    return model.ffn


def bare(model: ModelConfig) -> ModelConfig:
    """The model without what only a person reads."""
    return dataclasses.replace(model, name="-", source="-", notes=(), published={}, storage=None)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_its_config_json(name: str) -> None:
    assert bare(load_model(name)) == bare(load_hf_config(CONFIGS / f"{name}.json"))


def types_in(folder: Path) -> set[str]:
    """The families of the files of a folder, those of the text models within them too.

    What only wraps a text model is none.
    """
    tables = [json.loads(path.read_text()) for path in folder.glob("*.json")]
    inner = [table["text_config"] for table in tables if "text_config" in table]
    named = {table["model_type"] for table in (*tables, *inner) if "model_type" in table}
    wrappers = {table["model_type"] for table in tables if "text_config" in table}
    return named - wrappers.difference(FAMILIES)


def test_every_family_has_a_file() -> None:
    whole = types_in(CONFIGS)
    sizes = set[str]().union(
        *(
            types_in(CONFIGS.with_name(f"hf_{name}"))
            for name in ("sizes", "hybrids", "caches", "sparse")
        )
    )
    assert whole == set(LEAST)
    assert whole | sizes == set(FAMILIES)


def test_the_page_on_models_names_every_family() -> None:
    text = " ".join(MODELS_PAGE.read_text().split())
    named = text.partition("Families that are read: ")[2].partition(". ")[0]
    families = {
        model_type.removesuffix("_text") for model_type in FAMILIES
    }  # gemma3_text lies within gemma3
    assert set(named.replace(" and ", ", ").split(", ")) == families


@pytest.mark.parametrize(
    ("model_type", "sizes", "windows"),
    [  # K, d and its rotated part (None: all of it); windows of the four blocks
        ("llama", (32, 32, None), [None] * 4),
        ("mistral", (8, 32, None), [4096] * 4),
        ("mixtral", (8, 32, None), [None] * 4),
        ("qwen2", (32, 32, None), [None] * 4),
        ("qwen3", (32, 128, None), [None] * 4),
        ("qwen3_moe", (4, 32, None), [None] * 4),
        ("olmoe", (32, 32, None), [None] * 4),
        ("gpt_oss", (8, 64, None), [128, None, 128, None]),
        ("glm4_moe", (8, 32, 16), [None] * 4),
        ("minimax_m2", (8, 128, None), [None] * 4),
        ("gemma3", (4, 256, None), [4096] * 4),
        ("gemma3_text", (4, 256, None), [4096] * 4),
    ],
)
def test_an_absent_key_has_the_default_of_its_family(
    tmp_path: Path,
    model_type: str,
    sizes: tuple[int, int, int | None],
    windows: list[int | None],
) -> None:
    model = least(tmp_path, model_type)
    kind = attention(model)
    assert (kind.num_key_value_heads, kind.head_dim, kind.rotary_dim) == sizes
    assert [attention(model, i).sliding_window for i in range(4)] == windows
    assert model.tie_word_embeddings == model.post_norms == model_type.startswith("gemma3")


@pytest.mark.parametrize(
    ("model_type", "qk_norm", "qkv_bias", "output_bias"),
    [
        ("llama", "none", False, False),
        ("qwen2", "none", True, False),
        ("qwen3", "head", False, False),
        ("olmoe", "full", False, False),
        ("minimax_m2", "full", False, False),
        ("gpt_oss", "none", True, True),
        ("glm4_moe", "none", False, False),
        ("gemma3_text", "head", False, False),
    ],
)
def test_what_no_key_says_is_in_the_family(
    tmp_path: Path, model_type: str, qk_norm: str, qkv_bias: object, output_bias: object
) -> None:
    kind = attention(least(tmp_path, model_type))
    assert kind.qk_norm == qk_norm
    assert (kind.attention_bias, kind.output_bias) == (qkv_bias, output_bias)
    assert kind.sinks == (model_type == "gpt_oss")


def test_routers_of_the_families(tmp_path: Path) -> None:
    def router(model_type: str, **fields: object) -> tuple[object, ...]:
        experts = moe(least(tmp_path, model_type, num_hidden_layers=8, **fields))
        groups = (experts.n_group, experts.topk_group, experts.group_score_experts)
        return experts.scoring, experts.norm_topk_prob, experts.score_correction_bias, groups

    assert router("mixtral") == ("softmax", True, False, (1, 1, 1))
    assert router("olmoe") == ("softmax", False, False, (1, 1, 1))
    assert router("qwen3_moe") == ("softmax", False, False, (1, 1, 1))
    assert router("gpt_oss") == ("softmax_of_chosen", False, False, (1, 1, 1))
    assert router("minimax_m2") == ("sigmoid", True, True, (1, 1, 1))
    assert router("glm4_moe") == ("sigmoid", True, True, (1, 1, 1))
    assert router("deepseek_v3") == ("sigmoid", True, True, (8, 4, 2))
    assert router("deepseek_v2", n_group=4, topk_group=2) == ("softmax", False, False, (1, 1, 1))
    grouped = {"topk_method": "group_limited_greedy", "n_group": 4, "topk_group": 2}
    assert router("deepseek_v2", **grouped) == ("softmax", False, False, (4, 2, 1))


def test_dense_blocks_among_sparse_ones(tmp_path: Path) -> None:
    def sparse(model: ModelConfig) -> list[int]:
        return [i for ffn, layers in model.ffn_groups if isinstance(ffn, MoeFfn) for i in layers]

    assert sparse(least(tmp_path, "deepseek_v3")) == [3]
    assert sparse(least(tmp_path, "deepseek_v2")) == [0, 1, 2, 3]
    assert sparse(least(tmp_path, "glm4_moe", first_k_dense_replace=2)) == [2, 3]
    assert sparse(least(tmp_path, "glm4_moe", first_k_dense_replace=9)) == []
    assert sparse(least(tmp_path, "qwen3_moe", decoder_sparse_step=2)) == [1, 3]
    assert sparse(least(tmp_path, "qwen3_moe", mlp_only_layers=[0, 2])) == [1, 3]
    assert sparse(least(tmp_path, "qwen3_moe", mlp_only_layers=[3])) == [0, 1, 2]
    assert isinstance(least(tmp_path, "deepseek_v3").ffn, DenseFfn)  # most blocks are dense


def test_windows_by_switch_list_and_period(tmp_path: Path) -> None:
    def windows(model_type: str, **fields: object) -> list[int | None]:
        model = least(tmp_path, model_type, sliding_window=8, **fields)
        return [attention(model, i).sliding_window for i in range(4)]

    assert windows("qwen3", use_sliding_window=True, max_window_layers=1) == [None, 8, 8, 8]
    assert windows("qwen3", use_sliding_window=True) == [None] * 4  # from block 28 on
    assert windows("gemma3_text", sliding_window_pattern=2) == [8, None, 8, None]
    kinds = ["full_attention", "sliding_attention", "full_attention", "full_attention"]
    assert windows("gemma3_text", layer_types=kinds, _sliding_window_pattern=2) == [
        None,
        8,
        None,
        None,
    ]
    assert windows("gpt_oss", layer_types=["full_attention"] * 4) == [None] * 4


def test_blocks_that_differ_become_overrides() -> None:
    a, b, f, g = {"kind": "a"}, {"kind": "b"}, {"kind": "f"}, {"kind": "g"}
    layers = _layers(Blocks(attention=[a, b, a, b, a, b, b], ffn=[g, g, f, f, f, f, f]))
    assert (layers["attention"], layers["ffn"]) == (b, f)
    assert layers["overrides"] == [
        {"layers": "0", "attention": a, "ffn": g},
        {"layers": "1", "ffn": g},
        {"layers": "2,4", "attention": a},
    ]
    even = _layers(Blocks(attention=[a, b] * 3, ffn=[f] * 6))
    assert even["overrides"] == [{"layers": "0-4/2", "attention": a}]  # a tie: the last one's kind


def test_a_part_of_a_head_is_rotated(tmp_path: Path) -> None:
    share = {"partial_rotary_factor": 0.25}
    assert attention(least(tmp_path, "glm4_moe", **share)).rotary_dim == 8
    assert attention(least(tmp_path, "glm4_moe", rope_parameters=share)).rotary_dim == 8
    assert attention(least(tmp_path, "minimax_m2", rotary_dim=64)).rotary_dim == 64
    assert attention(least(tmp_path, "minimax_m2", rotary_dim=128)).rotary_dim is None
    by_type = {"full_attention": {"rope_theta": 1e6, "partial_rotary_factor": 1.0}}
    assert attention(least(tmp_path, "gemma3_text", rope_parameters=by_type)).rotary_dim is None


def test_mla_without_query_compression(tmp_path: Path) -> None:
    latent = least(tmp_path, "deepseek_v2", q_lora_rank=None).attention
    assert isinstance(latent, LatentAttention)
    assert latent.q_lora_rank is None
    assert (latent.kv_lora_rank, latent.qk_nope_head_dim, latent.qk_rope_head_dim) == (512, 128, 64)


def test_notes_say_what_is_left_out() -> None:
    deepseek = " ".join(load_hf_config(CONFIGS / "deepseek-v3.json").notes)
    assert "num_nextn_predict_layers=1: the multi-token prediction layers" in deepseek
    gemma = " ".join(load_hf_config(CONFIGS / "gemma-3-4b.json").notes)
    assert "vision tower (416,866,032 parameters)" in gemma
    assert "no step reads them" in gemma
    assert load_hf_config(CONFIGS / "llama-3.1-8b.json").notes == ()


def test_the_name_is_the_hubs_the_folders_or_the_files(tmp_path: Path) -> None:
    table = {"model_type": "llama", **LEAST["llama"]}
    folder = tmp_path / "My Model"
    folder.mkdir()
    assert read(folder, {**table, "_name_or_path": "meta/Llama-3"}).name == "meta/Llama-3"
    for path in ("/home/somebody/llama", "../x", "a\nb", "a" * 121, 7, None, ""):
        assert read(folder, {**table, "_name_or_path": path}).name == "My Model"
    assert read(folder, table, "tiny.json").name == "tiny"
    odd = tmp_path / "a\tb"
    odd.mkdir()
    assert read(odd, table).name == "model"
    assert read(odd, table).source == "config.json (model_type llama)"


@pytest.mark.parametrize(
    ("model_type", "keys"),
    [
        ("llama", {"attention_bias": None}),  # null is false
        ("llama", {"model_max_length": 4096, "attn_pdrop": 0.1, "use_flash_attn": True}),
        ("llama", {"rope_theta": float("inf")}),  # as Python's own writer leaves it
        (
            "qwen3_moe",
            {"use_qk_norm": True, "qkv_bias": False, "shared_expert_intermediate_size": 0},
        ),
    ],
)
def test_keys_that_change_nothing(tmp_path: Path, model_type: str, keys: dict[str, object]) -> None:
    assert bare(least(tmp_path, model_type, **keys)) == bare(least(tmp_path, model_type))
