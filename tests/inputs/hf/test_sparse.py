"""Families whose attention chooses what it reads equal transformers; what their readers refuse.

tests/data/hf_sparse holds the sizes of published models, without keys that say nothing of a cost;
`shared-indexers` is no published model: GLM-5.2 made small.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from costmodel.costs.operators import build_operators
from costmodel.costs.predict import predict
from costmodel.costs.totals import kv_bytes_per_token, parameter_counts, side_bytes_per_token
from costmodel.errors import InputError
from costmodel.inputs.catalog import load_model
from costmodel.inputs.hardware import load_hardware
from costmodel.inputs.hf.config import load_hf_config
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.workload import OfCheckpoint, Workload
from costmodel.layers.mla import LatentAttention
from tests.inputs.hf.flops_of_kinds import flops

SPARSE = Path(__file__).parents[2] / "data" / "hf_sparse"
DECODE = Workload(batch=4, context=512)
PREFILL = Workload(
    phase="prefill", batch=1, context=0, new_tokens=512, logits="all", attention_flops="full"
)
# By transformers 5.24.0 on the meta device: parameters (and the routers' corrections, which are
# buffers there), bytes of a token in the cache without and of index keys, and `FlopCounterMode`: a
# decode step, a prefill with the logits of each token, and the head weights of its indexers. Of
# `shared-indexers` the products of a layer are by formula: its fallback attends to every key.
MINIMAX_M3 = (
    426_174_565_632 + 57 * 128,
    122_880,
    14_592,
    202_014_167_040,
    25_856_776_863_744,
)
COUNTED = {
    "deepseek-v3.2": (
        671_877_929_216 + 58 * 256,
        70_272,
        15_616,
        336_723_574_784 + 16_022_016,
        39_947_490_820_096 + 2_046_820_352,
    ),
    "shared-indexers": (
        6_220_069_888 + 18 * 64,
        16_640,
        1_536,
        10_125_647_872 + 393_984,
        # attention and index scores of a square of 512: of the former at most 256 keys a query
        1_190_578_356_224 + 40_265_318_400 + 4_831_838_208 + 50_331_648,
    ),
    # Index scores by formula.
    "qwen3.8-flash-next": (
        176_943_899_520,
        24_576,
        3_072,
        53_349_908_480 + 605_159_424 + 6_291_456,
        6_828_788_285_440 + 77_309_411_328 + 12 * 1024 * 512 * 128,
    ),
    # 40 routers with a correction; 1,344 bytes of index keys; 2 a head of the indexer and entry.
    "deepseek-v4-flash": (
        284_332_230_231 + 40 * 256,
        43 * 1024 + 21 * 256 + 20 * 8,
        21 * 64,
        110_658_846_720 + 21 * 2 * 64 * 4 * 128,
        15_272_433_942_528 + 21 * 2 * 64 * 512 * 128,
    ),
    # By formula alone: the family is on the main branch of transformers. Besides 2 a head of the
    # indexer and entry. The formula has half an index key a token where entries are of two; a step
    # makes the keys of entries that become whole in it, of which there are none at 513 tokens.
    "deepseek-v4.1-flash": (
        748_494_684_784,
        40 * 1024 + (3 * 512 + 2 * 512) * 2 // 2,
        (3 * 128 + 2 * 128) * 2 // 2,
        139_617_271_808 + 2 * 32 * 4 * (3 * 256 + 5 * 513) - 3 * 4 * 512 * 128,
        18_901_781_970_944 + 2 * 32 * 512 * (3 * 256 + 5 * 512),
    ),
    "minimax-m3": MINIMAX_M3,
    "minimax-m3-vl": MINIMAX_M3,  # the same, as transformers spells it
}


def table_of(name: str) -> dict[str, Any]:
    table: dict[str, Any] = json.loads((SPARSE / f"{name}.json").read_text())
    return table


def read(folder: Path, name: str, **changes: object) -> ModelConfig:
    """The model of a file with other values; `None` takes a key away."""
    table = {key: value for key, value in (table_of(name) | changes).items() if value is not None}
    (folder / "config.json").write_text(json.dumps(table))
    return load_hf_config(folder / "config.json")


@pytest.mark.parametrize("name", COUNTED)
def test_a_model_costs_what_transformers_counts(name: str) -> None:
    model, step = load_hf_config(SPARSE / f"{name}.json"), DECODE.step()
    side = side_bytes_per_token(model, step)
    assert (
        parameter_counts(build_operators(model, step)).total,
        kv_bytes_per_token(model, step) - side,
        side,
        flops(model, DECODE),
        flops(model, PREFILL),
    ) == COUNTED[name]


@pytest.mark.parametrize(
    "name",
    [
        *("deepseek-v3.2", "deepseek-v4-flash", "deepseek-v4.1-flash", "minimax-m3"),
        "qwen3.8-flash-next",
    ],
)
def test_the_preset_is_its_config_json(name: str) -> None:
    preset, model = load_model(name), load_hf_config(SPARSE / f"{name}.json")
    assert preset.attention_groups == model.attention_groups
    assert preset.ffn_groups == model.ffn_groups
    assert preset.memory == model.memory
    assert preset.residual_streams == model.residual_streams
    assert (preset.hidden_size, preset.vocab_size) == (model.hidden_size, model.vocab_size)


def test_deepseek_v3_2_as_stored_by_hand() -> None:
    """DeepSeek-V3's 673,150,463,328 B, and of each indexer two matrices in blocks of 128 x 128."""
    indexer = (
        1536 * 64 * 128 + 4 * 12 * 64  # queries; a scale of 4 bytes for each block
        + 7168 * 128 + 4 * 56  # the key
        + 2 * (7168 * 64 + 2 * 128)  # head weights, and the norm of the key, in bf16
    )  # fmt: skip
    shipped = Workload(of_checkpoint=OfCheckpoint(required=True, kv_dtype=None))
    stored = [
        predict(model, shipped, load_hardware("h200")).memory.weights_bytes
        for model in (
            load_model("deepseek-v3"),
            load_model("deepseek-v3.2"),
            load_hf_config(SPARSE / "deepseek-v3.2.json"),
        )
    ]
    assert stored == [stored[0], stored[0] + 61 * indexer, stored[0] + 61 * indexer]


def test_deepseek_v4_flash_as_stored_by_hand() -> None:
    """Experts in MXFP4; fp8 with a byte of scale for each 128 x 128; bf16; fp32 in streams."""
    d, v, layers, csa, hca = 4096, 129_280, 43, 21, 20
    blocks = 128 * 128
    experts = layers * 256 * 3 * 2048 * d  # 4 bits and a 32nd of 8
    fp8 = (
        layers
        * (
            3 * 2048 * d  # the shared expert
            + (1024 + 512) * d  # down to queries and to the one vector
            + 64 * 512 * 1024  # up to queries
            + 64 * 512 * 1024  # eight groups of heads down
            + 8 * 1024 * d  # and back
        )
        + csa * 64 * 128 * 1024
    )  # the indexer's queries
    bf16 = 2 * v * d + layers * 256 * d + (layers - 3) * 256  # embedding, head, routers
    bf16 += layers * (2 * d + 1024 + 512 + 64) + d  # norms and sinks
    bf16 += csa * (2 * d * 1024 + 4 * 1024 + 512)  # compressors
    bf16 += csa * (2 * d * 256 + 4 * 256 + 128 + d * 64)  # those of index keys, head weights
    bf16 += hca * (2 * d * 512 + 128 * 512 + 512)
    sites = 2 * layers
    fp32 = sites * 24 * 4 * d + 4 * 4 * d
    bf16 += sites * (24 + 3) + 4 + 1
    assert experts + fp8 + bf16 + fp32 == 284_332_240_471
    shipped = Workload(of_checkpoint=OfCheckpoint(required=True, kv_dtype=None))
    for model in (
        load_model("deepseek-v4-flash"),
        load_hf_config(SPARSE / "deepseek-v4-flash.json"),
    ):
        stored = predict(model, shipped, load_hardware("h200")).memory.weights_bytes
        assert stored == experts * 17 // 32 + fp8 + fp8 // blocks + 2 * bf16 + 4 * fp32


def test_deepseek_v4_1_flash_as_stored_by_hand() -> None:
    """Rows of 264 bytes, experts in MXFP4, fp8 with a byte of scale for each 32 x 32, the rest."""
    d, v, layers, sources = 5120, 129_280, 40, 4
    rows = 384_006_168 + 384_016_682
    experts = layers * 384 * 3 * 2304 * d
    fp8 = (
        layers
        * (
            3 * 2304 * d  # the shared expert
            + (1280 + 512) * d
            + 64 * 512 * 1280  # down; up to queries
            + 64 * 512 * 1024
            + 8 * 1024 * d  # groups of heads down, and back
        )
        + 8 * 32 * 128 * 1280
        + 2 * 24 * 256 * 5 * d
    )  # index queries; keys and value of n-grams
    bf16 = 2 * v * d + layers * 384 * (d + 2)  # embedding, head, routers
    bf16 += layers * (2 * d + 1280 + 512 + 64) + d  # norms and sinks
    bf16 += 3 * 2 * d * 512 + d * 512 + sources * 512  # compressors
    bf16 += sources * (512 * 128 + 128) + 8 * d * 32  # index keys, head weights
    bf16 += 2 * 2 * 4 * d + 80 * (24 + 3)  # norms of n-grams; biases and scales of streams
    fp32 = 80 * 24 * 4 * d
    assert rows * 256 + experts + fp8 + bf16 + fp32 == 748_494_684_784
    shipped = Workload(of_checkpoint=OfCheckpoint(required=True, kv_dtype=None))
    for name in ("deepseek-v4.1-flash", str(SPARSE / "deepseek-v4.1-flash.json")):
        stored = predict(load_model(name), shipped, load_hardware("h200")).memory.weights_bytes
        blocks = fp8 // (32 * 32)
        assert stored == rows * 264 + experts * 17 // 32 + fp8 + blocks + 2 * bf16 + 4 * fp32


def test_glm_5_2_shares_the_choice_of_every_fourth_layer() -> None:
    model = load_hf_config(SPARSE / "glm-5.2.json")
    mixers = [model.attention_of(layer) for layer in range(78)]
    full = {
        layer
        for layer, mixer in enumerate(mixers)
        if isinstance(mixer, LatentAttention) and mixer.indexer is not None
    }
    assert full == {0, 1, 2, *range(6, 78, 4)}
    step = DECODE.step()
    assert side_bytes_per_token(model, step) == 21 * 128 * 2
    assert kv_bytes_per_token(model, step) == 78 * (512 + 64) * 2 + 21 * 128 * 2


@pytest.mark.parametrize(
    ("name", "changes", "refusal"),
    [
        ("glm-5.2", {"indexer_types": None}, "index_topk_freq=4: needs indexer_types"),
        ("glm-5.2", {"indexer_types": ["full"] * 77}, "is not 'full' or 'shared' for each"),
        ("glm-5.2", {"indexer_types": ["shared"] * 78}, "layer 0 has no earlier layer with an"),
        ("glm-5.2", {"indexer_types": ["half"] * 78}, "is not 'full' or 'shared' for each"),
        ("glm-5.2", {"index_topk_pattern": "FFFS"}, "index_topk_pattern='FFFS': is not modelled"),
        ("glm-5.2", {"mlp_layer_types": ["sparse"] * 78}, "is not as first_k_dense_replace says"),
        ("deepseek-v3.2", {"index_topk": None}, "index_topk: is missing"),
        ("deepseek-v3.2", {"q_lora_rank": 0}, "q_lora_rank=0"),
        ("deepseek-v3.2", {"index_kpool": 4}, "index_kpool"),
        ("deepseek-v4-flash", {"compress_ratios": [0, 0, 4]}, "is not 0, 4 or 128 for each of num"),
        ("deepseek-v4-flash", {"compress_ratios": [8] * 43}, "is not 0, 4 or 128 for each of num_"),
        ("deepseek-v4-flash", {"compress_ratios": None}, "compress_ratios: is missing"),
        ("deepseek-v4-flash", {"layer_types": ["sliding_attention"] * 43}, "is not what compress_"),
        ("deepseek-v4-flash", {"layer_types": ["half"] * 43}, "is not sliding_attention, compre"),
        ("deepseek-v4-flash", {"compress_rates": {"sliding_attention": 2}}, "compress_rates={"),
        ("deepseek-v4-flash", {"num_hash_layers": None}, "num_hash_layers: is missing"),
        ("deepseek-v4-flash", {"mlp_layer_types": ["moe"] * 43}, "is not what num_hash_layers=3"),
        ("deepseek-v4-flash", {"hc_mult": None}, "hc_mult: is missing"),
        ("deepseek-v4-flash", {"hc_mult": 1}, "hc_mult=1"),
        ("deepseek-v4-flash", {"scoring_func": "sigmoid"}, "scoring_func='sigmoid': is not model"),
        ("deepseek-v4-flash", {"num_key_value_heads": 8}, "num_key_value_heads=8: is not modelled"),
        ("deepseek-v4-flash", {"expert_dtype": "int2"}, "expert_dtype='int2': is not fp4 or fp8"),
        ("minimax-m3", {"attention_output_gate": True}, "attention_output_gate=True: is not mod"),
        ("minimax-m3", {"moe_intermediate_size": 8}, "is not intermediate_size=3072"),
        ("minimax-m3", {"first_k_dense_replace": 2}, "is not what moe_layer_freq says"),
        ("minimax-m3", {"moe_layer_freq": [1] * 59}, "is not 0 or 1 for each of num_hidden"),
        ("minimax-m3", {"index_topk_blocks": 8}, "index_topk_blocks'=8: is not understood"),
        ("minimax-m3", {"sparse_attention_config": None}, "layer_types: is missing"),
    ],
)
def test_what_is_refused(
    name: str, changes: dict[str, object], refusal: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError) as error:
        read(tmp_path, name, **changes)
    assert refusal in str(error.value)


@pytest.mark.parametrize(
    ("changes", "refusal"),
    [
        ({"sparse_init_block": 1}, "sparse_init_block=1: is not modelled"),
        ({"sparse_local_block": 2}, "sparse_local_block=2: is not modelled"),
        ({"sparse_score_type": "mean"}, "sparse_score_type='mean': is not modelled"),
        ({"use_sparse_attention": False}, "use_sparse_attention=False: is not modelled"),
        ({"sparse_disable_index_value": [0] * 60}, "is not 1 in each layer with sparse attention"),
        ({"sparse_num_index_heads": 8}, "sparse_num_index_heads=8: is not num_key_value_heads=4"),
        ({"sparse_attention_freq": [2] * 60}, "sparse_attention_freq=[2,"),
        ({"sparse_block_size": 0}, "sparse_attention_config.sparse_block_size=0"),
        ({"sparse_pool": 3}, "sparse_attention_config.sparse_pool'=3: is not understood"),
    ],
)
def test_what_is_refused_of_a_choice_of_blocks(
    changes: dict[str, object], refusal: str, tmp_path: Path
) -> None:
    choice = table_of("minimax-m3")["sparse_attention_config"] | changes
    with pytest.raises(InputError) as error:
        read(tmp_path, "minimax-m3", sparse_attention_config=choice)
    assert refusal in str(error.value)


def read_qwen(folder: Path, **changes: object) -> ModelConfig:
    """Qwen3.8 with other values of its text model; `None` takes a key away."""
    text = table_of("qwen3.8-flash-next")["text_config"] | changes
    held = {key: value for key, value in text.items() if value is not None}
    return read(folder, "qwen3.8-flash-next", text_config=held)


def test_layers_with_a_choice_of_groups_have_two_names(tmp_path: Path) -> None:
    """Transformers calls them indexed_attention."""
    nets = ["linear_attention"] * 3
    for name in ("full_attention", "indexed_attention"):
        model = read_qwen(tmp_path, layer_types=[*nets, name] * 12)
        assert model.attention_groups == load_model("qwen3.8-flash-next").attention_groups


def test_a_model_without_tables_of_ngrams(tmp_path: Path) -> None:
    without = read_qwen(tmp_path, ple_layer_ids=[])
    total = parameter_counts(build_operators(without, DECODE.step())).total
    table = 51_200_245_760 + 32_808_960 + 3 * 4 * 2560  # rows, projections, norms
    assert total == 176_943_899_520 - table


@pytest.mark.parametrize(
    ("changes", "refusal"),
    [
        ({"hc_lowrank": None}, "hc_lowrank: is missing"),
        ({"ple_layer_ids": [49]}, "is not of layers 1 to num_hidden_layers=48"),
        ({"ple_embed_dim": 2561}, "is not a multiple of 16 columns"),
        ({"indexer_kv_heads": 2}, "indexer_kv_heads=2: is not modelled"),
        ({"indexer_budget": 2047}, "is not a multiple of"),
        ({"layer_types": ["full_attention"]}, "for each of num_hidden_layers"),
    ],
)
def test_what_is_refused_of_qwen3_8(
    changes: dict[str, object], refusal: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError) as error:
        read_qwen(tmp_path, **changes)
    assert refusal in str(error.value)


def test_deepseek_v4_has_two_spellings(tmp_path: Path) -> None:
    """Transformers names layers by their type, releases by the tokens of an entry."""
    types = {
        0: "sliding_attention",
        4: "compressed_sparse_attention",
        128: "heavily_compressed_attention",
    }
    ratios = table_of("deepseek-v4-flash")["compress_ratios"]
    named = read(
        tmp_path,
        "deepseek-v4-flash",
        compress_ratios=None,
        layer_types=[types[ratio] for ratio in ratios[:43]],
        compress_rates={types[4]: 4, types[128]: 128},
        num_hash_layers=None,
        mlp_layer_types=["hash_moe"] * 3 + ["moe"] * 40,
    )
    preset = load_model("deepseek-v4-flash")
    assert named.attention_groups == preset.attention_groups
    assert named.ffn_groups == preset.ffn_groups


def test_the_format_of_experts_alone_says_nothing(tmp_path: Path) -> None:
    model = read(tmp_path, "deepseek-v4-flash", quantization_config=None)
    assert model.storage is None
    assert (
        "expert_dtype: needs quantization_config; the format of --dtype is costed." in model.notes
    )


@pytest.mark.parametrize(
    ("changes", "refusal"),
    [
        ({"compress_ratios": [4] * 40}, "is not 0, 1 or 2 for each of num_hidden_layers=40"),
        ({"kv_source_layer_ids": [1]}, "names layer 1, which has no compressed entries"),
        ({"kv_source_layer_ids": [3, 8]}, "index_source_layer_ids"),
        ({"kv_source_layer_ids": [8, 14, 20]}, "has no earlier layer"),
        ({"index_source_layer_ids": [2, 8, 14, 41]}, "names layer 41, which has no compressed"),
        ({"candidate_source_layer_id": 21}, "is not one of index_source_layer_ids"),
        ({"candidate_topk_blocks": None}, "candidate_topk_blocks: is missing"),
        ({"engram_layer_ids": [40]}, "is not a rising list of layers below num_hidden_layers=40"),
        ({"engram_layer_ids": [1]}, "states 2 tables"),
        ({"engram_n_heads": 65}, "num_heads=65"),
        ({"engram_num_embeddings": [16_000_000, 16_000_000]}, "is less than the 384006168 rows"),
        ({"hc_sinkhorn_iters": None}, "hc_sinkhorn_iters: is missing"),
        ({"first_k_dense_replace": 1}, "first_k_dense_replace=1: is not modelled"),
        ({"engram_conv": 4}, "engram_conv"),
    ],
)
def test_what_is_refused_of_deepseek_v4_1(
    changes: dict[str, object], refusal: str, tmp_path: Path
) -> None:
    text = table_of("deepseek-v4.1-flash")["text_config"] | changes
    held = {key: value for key, value in text.items() if value is not None}
    with pytest.raises(InputError) as error:
        read(tmp_path, "deepseek-v4.1-flash", text_config=held)
    assert refusal in str(error.value)


def test_deepseek_v4_1_without_tables_of_ngrams(tmp_path: Path) -> None:
    text = table_of("deepseek-v4.1-flash")["text_config"] | {"engram_layer_ids": []}
    del text["engram_num_embeddings"]
    without = read(tmp_path, "deepseek-v4.1-flash", text_config=text)
    total = parameter_counts(build_operators(without, DECODE.step())).total
    assert total == 748_494_684_784 - 196_613_849_600 - 2 * 157_327_360
