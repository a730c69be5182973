"""Parameters, KV cache and windows of real config.json files, against sums written out by hand."""

from pathlib import Path

import pytest

from costmodel.costs.operators import build_operators
from costmodel.costs.totals import ParameterCounts, kv_bytes_per_token, parameter_counts
from costmodel.inputs.catalog import load_model
from costmodel.inputs.hf.config import load_hf_config
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.workload import Workload
from costmodel.layers.attention import Attention

CONFIGS = Path(__file__).parents[2] / "data" / "hf"

# Each sum: embeddings, then L x (attention, its norms and biases; the block's norms; FFN), then the
# final norm. A gated FFN of width F has 3 D F weights, a router D E.
PARAMETERS = {
    "llama-3.1-8b": 2 * 128256 * 4096
    + 32 * (4096 * (32 + 8 + 8) * 128 + 32 * 128 * 4096 + 2 * 4096 + 3 * 4096 * 14336)
    + 4096,
    "llama-3.1-70b": 2 * 128256 * 8192
    + 80 * (8192 * (64 + 8 + 8) * 128 + 64 * 128 * 8192 + 2 * 8192 + 3 * 8192 * 28672)
    + 8192,
    "mistral-7b-v0.1": 2 * 32000 * 4096
    + 32 * (4096 * (32 + 8 + 8) * 128 + 32 * 128 * 4096 + 2 * 4096 + 3 * 4096 * 14336)
    + 4096,
    "mistral-7b-instruct-v0.3": 2 * 32768 * 4096
    + 32 * (4096 * (32 + 8 + 8) * 128 + 32 * 128 * 4096 + 2 * 4096 + 3 * 4096 * 14336)
    + 4096,
    "qwen2.5-7b-instruct": 2 * 152064 * 3584  # biases of q, k, v
    + 28 * ((3584 + 1) * (28 + 4 + 4) * 128 + 28 * 128 * 3584 + 2 * 3584 + 3 * 3584 * 18944)
    + 3584,
    "qwen2.5-0.5b": 151936 * 896  # tied
    + 24 * ((896 + 1) * (14 + 2 + 2) * 64 + 14 * 64 * 896 + 2 * 896 + 3 * 896 * 4864)
    + 896,
    "qwen3-8b": 2 * 151936 * 4096  # QK-norm of one head's size each
    + 36 * (4096 * (32 + 8 + 8) * 128 + 32 * 128 * 4096 + 2 * 128 + 2 * 4096 + 3 * 4096 * 12288)
    + 4096,
    "qwen3-30b-a3b": 2 * 151936 * 2048
    + 48 * (2048 * (32 + 4 + 4) * 128 + 32 * 128 * 2048 + 2 * 128 + 2 * 2048)
    + 48 * (2048 * 128 + 128 * 3 * 2048 * 768)
    + 2048,
    "qwen3-235b-a22b": 2 * 151936 * 4096
    + 94 * (4096 * (64 + 4 + 4) * 128 + 64 * 128 * 4096 + 2 * 128 + 2 * 4096)
    + 94 * (4096 * 128 + 128 * 3 * 4096 * 1536)
    + 4096,
    "mixtral-8x7b": 2 * 32000 * 4096
    + 32 * (4096 * (32 + 8 + 8) * 128 + 32 * 128 * 4096 + 2 * 4096)
    + 32 * (4096 * 8 + 8 * 3 * 4096 * 14336)
    + 4096,
    "mixtral-8x22b": 2 * 32000 * 6144
    + 56 * (6144 * (48 + 8 + 8) * 128 + 48 * 128 * 6144 + 2 * 6144)
    + 56 * (6144 * 8 + 8 * 3 * 6144 * 16384)
    + 6144,
    "olmoe-1b-7b": 2 * 50304 * 2048  # QK-norm of all heads' size
    + 16 * (2048 * 3 * 2048 + 2048 * 2048 + 2 * 2048 + 2 * 2048)
    + 16 * (2048 * 64 + 64 * 3 * 2048 * 1024)
    + 2048,
    "gpt-oss-20b": 2 * 201088 * 2880  # biases everywhere, a sink a head
    + 24 * ((2880 + 1) * (64 + 8 + 8) * 64 + (64 * 64 + 1) * 2880 + 64 + 2 * 2880)
    + 24 * ((2880 + 1) * 32 + 32 * ((2880 + 1) * 2 * 2880 + (2880 + 1) * 2880))
    + 2880,
    "gpt-oss-120b": 2 * 201088 * 2880
    + 36 * ((2880 + 1) * (64 + 8 + 8) * 64 + (64 * 64 + 1) * 2880 + 64 + 2 * 2880)
    + 36 * ((2880 + 1) * 128 + 128 * ((2880 + 1) * 2 * 2880 + (2880 + 1) * 2880))
    + 2880,
    # MLA: query down, norm and up; latent and rotary key down, norm; keys and values up; output.
    "deepseek-v3": 2 * 129280 * 7168
    + 61 * (7168 * 1536 + 1536 + 1536 * 128 * (128 + 64) + 7168 * (512 + 64) + 512)
    + 61 * (512 * 128 * (128 + 128) + 128 * 128 * 7168 + 2 * 7168)
    + 3 * (3 * 7168 * 18432)
    + 58 * ((7168 + 1) * 256 + (256 + 1) * 3 * 7168 * 2048)  # + 1: correction; shared expert
    + 7168,
    "kimi-k2": 2 * 163840 * 7168
    + 61 * (7168 * 1536 + 1536 + 1536 * 64 * (128 + 64) + 7168 * (512 + 64) + 512)
    + 61 * (512 * 64 * (128 + 128) + 64 * 128 * 7168 + 2 * 7168)
    + 1 * (3 * 7168 * 18432)
    + 60 * ((7168 + 1) * 384 + (384 + 1) * 3 * 7168 * 2048)
    + 7168,
    "deepseek-v2": 2 * 102400 * 5120
    + 60 * (5120 * 1536 + 1536 + 1536 * 128 * (128 + 64) + 5120 * (512 + 64) + 512)
    + 60 * (512 * 128 * (128 + 128) + 128 * 128 * 5120 + 2 * 5120)
    + 1 * (3 * 5120 * 12288)
    + 59 * (5120 * 160 + (160 + 2) * 3 * 5120 * 1536)
    + 5120,
    "deepseek-v2-lite": 2 * 102400 * 2048  # queries without compression
    + 27 * (2048 * 16 * (128 + 64) + 2048 * (512 + 64) + 512)
    + 27 * (512 * 16 * (128 + 128) + 16 * 128 * 2048 + 2 * 2048)
    + 1 * (3 * 2048 * 10944)
    + 26 * (2048 * 64 + (64 + 2) * 3 * 2048 * 1408)
    + 2048,
    "glm-4.5-air": 2 * 151552 * 4096  # biases of q, k, v; no QK-norm
    + 46 * ((4096 + 1) * (96 + 8 + 8) * 128 + 96 * 128 * 4096 + 2 * 4096)
    + 1 * (3 * 4096 * 10944)
    + 45 * ((4096 + 1) * 128 + (128 + 1) * 3 * 4096 * 1408)
    + 4096,
    "glm-4.5": 2 * 151552 * 5120
    + 92 * ((5120 + 1) * (96 + 8 + 8) * 128 + 96 * 128 * 5120 + 2 * 128 + 2 * 5120)
    + 3 * (3 * 5120 * 12288)
    + 89 * ((5120 + 1) * 160 + (160 + 1) * 3 * 5120 * 1536)
    + 5120,
    "minimax-m2": 2 * 200064 * 3072  # QK-norm of all heads' size
    + 62 * (3072 * (48 + 8 + 8) * 128 + 48 * 128 * 3072 + (48 + 8) * 128 + 2 * 3072)
    + 62 * ((3072 + 1) * 256 + 256 * 3 * 3072 * 1536)
    + 3072,
    # Gemma 3: tied, four norms a block, QK-norm per head.
    "gemma-3-1b": 262144 * 1152
    + 26 * (1152 * (4 + 1 + 1) * 256 + 4 * 256 * 1152 + 2 * 256 + 4 * 1152 + 3 * 1152 * 6912)
    + 1152,
    "gemma-3-4b": 262208 * 2560
    + 34 * (2560 * (8 + 4 + 4) * 256 + 8 * 256 * 2560 + 2 * 256 + 4 * 2560 + 3 * 2560 * 10240)
    + 2560,
    "gemma-3-27b": 262208 * 5376
    + 62 * (5376 * (32 + 16 + 16) * 128 + 32 * 128 * 5376 + 2 * 128 + 4 * 5376)
    + 62 * (3 * 5376 * 21504)
    + 5376,
}

# As the models' pages on the hub give them.
PUBLISHED_EXACTLY = {
    "llama-3.1-8b": 8_030_261_248,
    "llama-3.1-70b": 70_553_706_496,
    "mistral-7b-v0.1": 7_241_732_096,
    "mistral-7b-instruct-v0.3": 7_248_023_552,
    "mixtral-8x7b": 46_702_792_704,
    "olmoe-1b-7b": 6_919_161_856,
    "qwen2.5-7b-instruct": 7_615_616_512,
    "qwen2.5-0.5b": 494_032_768,
    "qwen3-8b": 8_190_735_360,
    "qwen3-30b-a3b": 30_532_122_624,
    "gemma-3-1b": 999_885_952,
}

KV_BYTES_PER_TOKEN = {
    "llama-3.1-8b": 131_072,
    "llama-3.1-70b": 327_680,
    "olmoe-1b-7b": 131_072,
    "mixtral-8x7b": 131_072,
    "qwen3-30b-a3b": 98_304,
    "gpt-oss-20b": 49_152,
    "deepseek-v3": 70_272,
    "deepseek-v2-lite": 31_104,
}


def counts(model: ModelConfig) -> ParameterCounts:
    return parameter_counts(build_operators(model, Workload().step()))


def windows(model: ModelConfig) -> list[int | None]:
    attentions = [model.attention_of(layer) for layer in range(model.num_hidden_layers)]
    return [kind.sliding_window for kind in attentions if isinstance(kind, Attention)]


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_are_the_sum_over_the_architecture(name: str) -> None:
    assert counts(load_hf_config(CONFIGS / f"{name}.json")).total == PARAMETERS[name]


@pytest.mark.parametrize("name", PUBLISHED_EXACTLY)
def test_the_sums_are_those_that_the_hub_prints(name: str) -> None:
    assert PARAMETERS[name] == PUBLISHED_EXACTLY[name]


@pytest.mark.parametrize("name", KV_BYTES_PER_TOKEN)
def test_kv_cache_of_a_token(name: str) -> None:
    model = load_hf_config(CONFIGS / f"{name}.json")
    assert kv_bytes_per_token(model, Workload().step()) == KV_BYTES_PER_TOKEN[name]


@pytest.mark.parametrize(
    ("name", "convention", "unit"),
    [  # the convention under which the published active count is meant, and its last digit
        ("olmoe-1b-7b", "active_with_embeddings", 1e8),
        ("mixtral-8x7b", "active_with_embeddings", 1e8),
        ("mixtral-8x22b", "active_with_embeddings", 1e9),
        ("qwen3-30b-a3b", "active_with_embeddings", 1e8),
        ("qwen3-235b-a22b", "active_with_embeddings", 1e9),
        ("gpt-oss-20b", "active_with_lm_head", 1e7),
        ("gpt-oss-120b", "active_with_lm_head", 1e7),
        ("deepseek-v3", "active_with_lm_head", 1e9),
        ("deepseek-v3.2", "active_with_lm_head", 1e9),
        ("deepseek-v4-flash", "active_with_lm_head", 1e9),
        ("deepseek-v2-lite", "active_with_lm_head", 1e8),
    ],
)
def test_published_counts_of_presets(name: str, convention: str, unit: float) -> None:
    model = load_model(name)
    parameters = counts(model)
    assert abs(parameters.total - model.published["total_parameters"]) <= unit
    assert abs(getattr(parameters, convention) - model.published["active_parameters"]) < unit


@pytest.mark.parametrize("name", ["llama-3.1-8b", "llama-3.1-70b"])
def test_published_counts_of_dense_presets(name: str) -> None:
    model = load_model(name)
    assert round(counts(model).total / model.published["total_parameters"], 2) == 1


def test_windows_by_layer() -> None:
    def of(name: str) -> list[int | None]:
        return windows(load_hf_config(CONFIGS / f"{name}.json"))

    assert of("gpt-oss-20b") == [128, None] * 12
    assert of("gemma-3-1b") == ([512] * 5 + [None]) * 4 + [512] * 2
    assert of("gemma-3-27b") == ([1024] * 5 + [None]) * 10 + [1024] * 2
    assert of("mistral-7b-v0.1") == [4096] * 32
    assert of("mistral-7b-instruct-v0.3") == [None] * 32
    assert of("qwen2.5-7b-instruct") == [None] * 28  # use_sliding_window is false
