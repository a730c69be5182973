"""Latent attention, absorbed and expanded, by hand and by counting multiply-adds."""

from dataclasses import replace
from typing import Literal

import pytest

from costmodel.costs.totals import kv_bytes_per_token
from costmodel.errors import InputError
from costmodel.inputs.catalog import load_model
from costmodel.layers.mla import LatentAttention
from costmodel.layers.operator import Operator
from tests.steps import flops, make_step, one_layer, quantity, total, weights

# H = 2, q = 12, c = 8, p = 4, r = 6, v = 10; D = 16
SMALL = LatentAttention(
    num_attention_heads=2,
    q_lora_rank=12,
    kv_lora_rank=8,
    qk_nope_head_dim=4,
    qk_rope_head_dim=6,
    v_head_dim=10,
)
UNCOMPRESSED = LatentAttention(
    num_attention_heads=2,
    kv_lora_rank=8,
    qk_nope_head_dim=4,
    qk_rope_head_dim=6,
    v_head_dim=10,
    attention_bias=True,
    output_bias=True,
)
# B = 3, T = 2, S = 5: N = 6 new, 15 cached, 21 held; pairs of a sequence: 6 + 7
N, CACHED, PAIRS = 6, 15, 13

PATHS = ["qkv_down", "latent_norm", "q_up", "rope", "k_up", "v_up", "core", "output"]


def layer(
    kind: LatentAttention = SMALL,
    mla: Literal["absorbed", "expanded"] = "absorbed",
    dtype: str = "bf16",
    kv_dtype: str = "bf16",
    mla_cache: Literal["latent", "expanded"] = "latent",
) -> dict[str, Operator]:
    step = make_step(
        batch=3,
        new_tokens=2,
        cached=5,
        mla=mla,
        dtype=dtype,
        kv_dtype=kv_dtype,
        mla_cache=mla_cache,
    )
    found = one_layer(kind, step, hidden_size=16)
    return {leaf.removeprefix("attention."): op for leaf, op in found.items()}


def test_paths_and_kinds() -> None:
    assert list(layer()) == PATHS
    assert list(layer(UNCOMPRESSED)) == [leaf for leaf in PATHS if leaf != "q_up"]
    assert [op.kind for op in layer().values()] == (
        ["matmul", "norm", "matmul", "elementwise", "matmul", "matmul", "attention", "matmul"]
    )


def test_every_part_absorbed_by_hand() -> None:
    ops = layer()
    assert {leaf: flops(op) for leaf, op in ops.items()} == {
        "qkv_down": {"gemm": ("matmul", 2 * N * 16 * (12 + 8 + 6))},
        "latent_norm": {"norm": ("norm", 4 * N * (8 + 12))},
        "q_up": {"gemm": ("matmul", 2 * N * 12 * 2 * (4 + 6))},
        "rope": {"rotary": ("elementwise", 3 * N * (2 + 1) * 6)},  # H queries and one key
        "k_up": {"gemm": ("matmul", 2 * N * 2 * 4 * 8)},  # each query, 4 to 8
        "v_up": {"gemm": ("matmul", 2 * N * 2 * 8 * 10)},  # each result, 8 to 10
        "core": {
            "scores": ("attention", 2 * 3 * PAIRS * 2 * (8 + 6)),
            "softmax": ("elementwise", 4 * 3 * PAIRS * 2),
            "values": ("attention", 2 * 3 * PAIRS * 2 * 8),
        },
        "output": {"gemm": ("matmul", 2 * N * 2 * 10 * 16)},
    }


def test_what_expansion_changes_by_hand() -> None:
    absorbed, expanded = layer(), layer(mla="expanded")
    held = N + CACHED
    assert flops(expanded["k_up"]) == {"gemm": ("matmul", 2 * held * 2 * 4 * 8)}
    assert flops(expanded["v_up"]) == {"gemm": ("matmul", 2 * held * 2 * 8 * 10)}
    assert flops(expanded["core"]) == {
        "scores": ("attention", 2 * 3 * PAIRS * 2 * (4 + 6)),
        "softmax": ("elementwise", 4 * 3 * PAIRS * 2),
        "values": ("attention", 2 * 3 * PAIRS * 2 * 10),
    }
    for leaf in ("qkv_down", "latent_norm", "q_up", "rope", "output"):
        assert expanded[leaf] == absorbed[leaf]


@pytest.mark.parametrize("mla", ["absorbed", "expanded"])
def test_matrix_products_by_counting_multiply_adds(mla: Literal["absorbed", "expanded"]) -> None:
    heads, c, p, r, v = 2, 8, 4, 6, 10
    k_up = v_up = core = 0
    for _sequence in range(3):
        for _head in range(heads):
            for position in range(5 + 2):
                if mla == "expanded" or position >= 5:  # all held tokens, or the new ones
                    k_up += c * p
                    v_up += c * v
                if position >= 5:
                    for _key in range(position + 1):
                        core += p + r if mla == "expanded" else c + r
                        core += v if mla == "expanded" else c
    ops = layer(mla=mla)
    assert ops["k_up"].total("flops") == 2 * k_up
    assert ops["v_up"].total("flops") == 2 * v_up
    attention = [p.flops for p in ops["core"].parts if p.kind == "attention"]
    assert sum(attention) == 2 * core


def test_the_two_modes_share_parameters() -> None:
    shapes = {leaf: weights(op) for leaf, op in layer().items()}
    assert shapes == {
        "qkv_down": {"weight": ("attention", 26, 16)},
        "latent_norm": {"kv_norm": ("norm", 8, 1), "q_norm": ("norm", 12, 1)},
        "q_up": {"weight": ("attention", 20, 12)},
        "rope": {},
        "k_up": {"weight": ("attention", 2 * 4, 8)},
        "v_up": {"weight": ("attention", 2 * 10, 8)},
        "core": {},
        "output": {"weight": ("attention", 16, 20)},
    }
    assert {leaf: weights(op) for leaf, op in layer(mla="expanded").items()} == shapes


def test_without_query_compression_the_query_comes_from_the_stream() -> None:
    ops = layer(UNCOMPRESSED)
    outputs = 2 * (4 + 6) + 8 + 6
    assert weights(ops["qkv_down"]) == {
        "weight": ("attention", outputs, 16),
        "bias": ("attention", outputs, 1),
    }
    assert flops(ops["qkv_down"]) == {
        "gemm": ("matmul", 2 * N * 16 * outputs),
        "bias": ("elementwise", N * outputs),
    }
    assert weights(ops["latent_norm"]) == {"kv_norm": ("norm", 8, 1)}
    assert flops(ops["latent_norm"]) == {"norm": ("norm", 4 * N * 8)}
    assert flops(ops["output"])["bias"] == ("elementwise", N * 16)


def test_deepseek_v3_attention_parameters_by_hand() -> None:
    kind = LatentAttention(
        num_attention_heads=128, q_lora_rank=1536, kv_lora_rank=512,
        qk_nope_head_dim=128, qk_rope_head_dim=64, v_head_dim=128,
    )  # fmt: skip
    ops = one_layer(kind, make_step(), hidden_size=7168)
    parameters = sum(w.parameters for op in ops.values() for w in op.weights)
    query = 7168 * 1536 + 1536 * 128 * 192  # 11,010,048 + 37,748,736
    latent = 7168 * (512 + 64) + 512 * 128 * (128 + 128)  # 4,128,768 + 16,777,216
    assert parameters == query + latent + 128 * 128 * 7168 + 1536 + 512 == 187_107_328
    assert kind.kv_token_bytes(make_step()) * 61 == 70_272


@pytest.mark.parametrize(
    ("kv_dtype", "latent", "rotary"),
    [
        ("bf16", 16, 12),
        ("fp8", 8 + 4, 6 + 4),  # a scale each for the latent and the rotary key
        ("int8", 8 + 2, 6 + 2),
        ("int4", 7, 6),  # 32 + 20 bits, 24 + 20 bits
    ],
)
def test_the_cache_holds_one_latent_and_one_rotary_key(
    kv_dtype: str, latent: int, rotary: int
) -> None:
    assert SMALL.kv_token_bytes(make_step(kv_dtype=kv_dtype)) == latent + rotary
    assert SMALL.kept_tokens(123, make_step()) == 123
    absorbed, expanded = (layer(mla=mla, kv_dtype=kv_dtype) for mla in ("absorbed", "expanded"))
    for ops in (absorbed, expanded):  # each cached byte is read once, each new one written once
        assert total(ops.values(), "kv_read_bytes") == CACHED * (latent + rotary)
        assert total(ops.values(), "kv_written_bytes") == N * (latent + rotary)
        assert quantity(ops["rope"], "kv_written_bytes") == {"cache_write": N * (latent + rotary)}
    assert absorbed["core"].total("kv_read_bytes") == CACHED * (latent + rotary)
    assert expanded["k_up"].total("kv_read_bytes") == CACHED * latent
    assert expanded["core"].total("kv_read_bytes") == CACHED * rotary


@pytest.mark.parametrize("mla", ["absorbed", "expanded"])
def test_every_weight_is_read_once_in_either_mode(mla: Literal["absorbed", "expanded"]) -> None:
    ops = layer(mla=mla, dtype="int8")
    for op in ops.values():
        rows = {w.name: w.rows * (w.cols + 2 if w.matrix else 2) for w in op.weights}
        assert op.total("weight_bytes") == sum(rows.values())


def test_activations_between_operators_absorbed_by_hand() -> None:
    assert {leaf: op.total("activation_bytes") for leaf, op in layer().items()} == {
        "qkv_down": N * (16 + 26) * 2,
        "latent_norm": N * 2 * (8 + 12) * 2,
        "q_up": N * (12 + 20) * 2,
        "rope": N * 2 * (2 * 6 + 6 + 8) * 2,  # rotary parts and the latent, in and out
        "k_up": N * 2 * (4 + 8) * 2,
        "v_up": N * 2 * (8 + 10) * 2,
        # latent queries with rotary parts, the new latents and rotary keys, latent results
        "core": N * (2 * (8 + 6) + 8 + 6 + 2 * 8) * 2,
        "output": N * (20 + 16) * 2,
    }
    # unfused, the rotated parts of two queries and a key are written and read once
    between = {leaf: op.total("intermediate_bytes") for leaf, op in layer().items()}
    assert between == dict.fromkeys(PATHS, 0) | {"rope": 2 * N * 3 * 6 * 2}


def test_activations_between_operators_expanded_by_hand() -> None:
    ops = layer(mla="expanded")
    held = N + CACHED
    # k_up takes new latents from the stream and cached ones from the cache (kv_read_bytes)
    assert ops["k_up"].total("activation_bytes") == (N * 8 + held * 2 * 4) * 2
    # v_up reads all of them a second time: not compulsory, they may still lie in L2
    assert ops["v_up"].total("activation_bytes") == (held * 8 + held * 2 * 10) * 2
    # queries, new rotary keys, rebuilt keys and values of all, results
    core = N * 2 * (4 + 6) + N * 6 + held * 2 * (4 + 10) + N * 2 * 10
    assert ops["core"].total("activation_bytes") == core * 2


def expanded_cache(kv_dtype: str = "bf16") -> dict[str, Operator]:
    return layer(mla="expanded", mla_cache="expanded", kv_dtype=kv_dtype)


def test_an_expanded_cache_is_written_after_keys_and_values_are_built() -> None:
    order = ["qkv_down", "latent_norm", "q_up", "k_up", "v_up", "rope", "core", "output"]
    assert list(expanded_cache()) == order


@pytest.mark.parametrize(
    ("kv_dtype", "key", "value"), [("bf16", 20, 20), ("fp8", 10 + 4, 10 + 4), ("int8", 12, 12)]
)
def test_an_expanded_cache_holds_a_key_and_a_value_of_each_head(
    kv_dtype: str, key: int, value: int
) -> None:
    """Two heads; a key has 4 elements and 6 rotary ones, a value 10."""
    ops = expanded_cache(kv_dtype)
    token = 2 * (key + value)
    step = make_step(kv_dtype=kv_dtype, mla="expanded", mla_cache="expanded")
    assert SMALL.kv_token_bytes(step) == token
    assert quantity(ops["core"], "kv_read_bytes") == {"scores": CACHED * token}
    assert quantity(ops["rope"], "kv_written_bytes") == {"cache_write": N * token}
    assert total(ops.values(), "kv_read_bytes") == CACHED * token
    assert total(ops.values(), "kv_written_bytes") == N * token


def test_with_an_expanded_cache_only_new_tokens_pass_the_up_projections() -> None:
    """Attention has the FLOPs of the expanded mode, the up-projections those of the absorbed."""
    ops, absorbed, expanded = expanded_cache(), layer(), layer(mla="expanded")
    for leaf in PATHS:
        like = absorbed if leaf in ("k_up", "v_up") else expanded
        assert flops(ops[leaf]) == flops(like[leaf])
        assert weights(ops[leaf]) == weights(like[leaf])
    assert flops(ops["k_up"]) == {"gemm": ("matmul", 2 * N * 2 * 8 * 4)}


def test_activations_with_an_expanded_cache_by_hand() -> None:
    ops = expanded_cache()
    assert ops["k_up"].total("activation_bytes") == N * (8 + 2 * 4) * 2
    assert ops["v_up"].total("activation_bytes") == N * (8 + 2 * 10) * 2
    # in: rotary parts of two queries and the one key, keys and values; out: a rotary key a head
    rope = N * (2 * 6 + 6 + 2 * (4 + 10)) + N * (2 * 6 + 2 * (4 + 6) + 2 * 10)
    assert ops["rope"].total("activation_bytes") == rope * 2
    # queries, keys, values and results of the new tokens
    core = N * 2 * ((4 + 6) + (4 + 6) + 10 + 10)
    assert ops["core"].total("activation_bytes") == core * 2


def test_bytes_of_a_token_of_deepseek_v2_lite() -> None:
    """27 layers, 16 heads, keys of 128 + 64 and values of 128; a latent of 512."""
    step = make_step(mla="expanded", mla_cache="expanded")
    model = load_model("deepseek-v2-lite")
    assert kv_bytes_per_token(model, make_step()) == 27 * (512 + 64) * 2 == 31_104
    assert kv_bytes_per_token(model, step) == 27 * 16 * (192 + 128) * 2 == 276_480


def test_latents_in_fp8_as_engines_store_them() -> None:
    """512 bytes, four scales of fp32 and 64 rotary elements of bf16: 656 bytes."""
    step = make_step(kv_dtype="fp8_ds_mla")
    model = load_model("deepseek-v3")
    assert kv_bytes_per_token(model, step) == 61 * (512 + 4 * 4 + 64 * 2) == 61 * 656
    wide = replace(SMALL, kv_lora_rank=130)  # the last two elements have a scale of their own
    assert wide.kv_token_bytes(step) == 130 + 2 * 4 + 6 * 2
    ops = layer(mla="expanded", kv_dtype="fp8_ds_mla")
    assert ops["k_up"].total("kv_read_bytes") == CACHED * (8 + 4)
    assert ops["core"].total("kv_read_bytes") == CACHED * 6 * 2


def test_a_layout_of_latents_is_refused_for_keys_and_values() -> None:
    with pytest.raises(InputError, match=r"kv_dtype=fp8_ds_mla: is a layout of latents .*'gqa'"):
        kv_bytes_per_token(load_model("olmoe-1b-7b"), make_step(kv_dtype="fp8_ds_mla"))


def test_the_square_counts_all_keys() -> None:
    step = make_step(batch=3, new_tokens=2, cached=5, attention_flops="full")
    core = one_layer(SMALL, step, hidden_size=16)["attention.core"]
    assert flops(core)["values"] == ("attention", 2 * 3 * (2 * 7) * 2 * 8)


def test_without_rotation_the_cache_is_written_all_the_same() -> None:
    rotated, plain = layer()["rope"], layer(replace(SMALL, mla_use_nope=True))["rope"]
    assert [part.name for part in plain.parts] == ["cache_write"]
    assert plain.total("kv_written_bytes") == rotated.total("kv_written_bytes") == N * (8 + 6) * 2
    assert plain.formula == "0"
