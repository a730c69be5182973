"""Published and hand-derived counts; each sum is spelled out here and uses none of our formulas."""

from dataclasses import replace

import numpy as np
import pytest

from costmodel.costs.step import Costs, step_costs
from costmodel.costs.totals import ParameterCounts, kv_bytes_per_token
from costmodel.inputs.catalog import load_model
from costmodel.inputs.workload import Workload
from costmodel.layers.attention import Attention
from costmodel.questions.published.number import PublishedNumber, set_beside
from costmodel.questions.published.reproduce import reproduced

DISAGREE = {  # (what, published): each with its reason in the target's convention
    # UltraMemV2, Table 10, prints no convention; the dimensions printed with it give more or less.
    ("memory-plus-227m-1.2b: active with embeddings", "228 M"),
    ("memory-plus-227m-1.2b: total without embeddings", "1.19 B"),
    ("ultramem-227m-1.2b: active with embeddings", "225 M"),
    ("ultramem-227m-1.2b: total without embeddings", "1.18 B"),
    ("ultramemv2-227m-1.2b: active with embeddings", "225 M"),
    ("ultramemv2-227m-1.2b: total without embeddings", "1.18 B"),
    ("olmoe-1b-7b: active without embeddings", "1070 M"),
    ("ultramemv2-1b-7b: active with lm head", "1079 M"),
    ("ultramemv2-1b-7b: total without embeddings", "6.70 B"),
    # Memory Layers at Scale, Table 1, prints one total for one memory layer and for three.
    ("memory-plus-1.3b with 1,024^2 values: total", "3.377 B"),
    # Printed cut, not rounded.
    ("engram-v4.1-flash-moe-reconstruction: total", "196 B"),
    ("longcat-flash-lite: total", "68.5 B"),
    ("longcat-flash-chat: total", "560 B"),
    ("qwen3-30b-a3b: active with embeddings", "3.3 B"),
    ("deepseek-v2-lite: active with lm head", "2.4 B"),
    ("lfm2-8b-a1b: active with embeddings", "1.5 B"),
    ("llama-4-maverick: total", "400 B"),
    # Printed to two digits: 549 B.
    ("nemotron-3-ultra: total", "550 B"),
    ("minimax-m2.5: total", "230 B"),  # 229 B
    # UltraMem, Table 1: 3.21 beside 1.61 B parameters, twice which is 3.22.
    ("Dense-1.6B: FLOPs per token", "3.21 G"),
    # Derived by hand with something of 0.05 to 0.4 MB that our reading leaves out.
    ("olmoe-227m-1.2b: experts and router, read at batch 16", "2000 MB"),
    ("olmoe-227m-1.2b: experts and router, read at batch 64", "2267 MB"),
}


def costs(name: str) -> Costs:
    return step_costs(load_model(name), Workload().step())


def parameters(name: str) -> ParameterCounts:
    return costs(name).parameters


@pytest.fixture(scope="module")
def targets() -> tuple[PublishedNumber, ...]:
    return reproduced()


def test_every_target_agrees_except_the_named_ones(targets: tuple[PublishedNumber, ...]) -> None:
    missed = [(t.what, t.published) for t in targets if not t.agrees]
    assert set(missed) == DISAGREE
    assert len(missed) == len(DISAGREE)


def test_a_disagreement_gives_its_reason(targets: tuple[PublishedNumber, ...]) -> None:
    for t in targets:
        if not t.agrees:
            assert ";" in t.convention, t.what


def test_targets_are_plain_and_told_apart(targets: tuple[PublishedNumber, ...]) -> None:
    assert len({(t.what, t.published, t.convention) for t in targets}) == len(targets)
    for t in targets:
        assert type(t.ours) in (int, float, np.float64), t.what
        assert t.what
        assert t.convention
        assert t.source
    assert reproduced() == targets


def test_digits_are_compared_in_the_printed_unit() -> None:
    assert set_beside("", "6.08 B", 6_081_005_696, "", "").agrees
    assert not set_beside("", "6.70 B", 6_081_005_696, "", "").agrees
    assert set_beside("", "6.70 B", 6_081_005_696, "", "").shown == "6.08 B"
    assert set_beside("", "1,076", 1076, "", "").agrees
    assert not set_beside("", "1,076", 1077, "", "").agrees
    assert set_beside("", "18.11", 18.1149, "", "").agrees
    assert not set_beside("", "18.11", 18.1151, "", "").agrees


def test_olmoe_1b_7b() -> None:
    embedding = 50304 * 2048
    attention = 4 * 2048 * 2048
    norms = 4 * 2048  # two of the block, QK-norm of all 16 heads
    expert, router = 3 * 2048 * 1024, 64 * 2048
    body = 16 * (attention + norms + router) + 2048
    assert 2 * embedding + body + 16 * 64 * expert == 6_919_161_856
    assert 2 * embedding + body + 16 * 8 * expert == 1_282_017_280
    counts = parameters("olmoe-1b-7b")
    assert counts.total == 6_919_161_856
    assert counts.active_with_embeddings == 1_282_017_280
    assert counts.active_with_lm_head == 1_282_017_280 - embedding
    assert counts.active_without_embeddings == 1_282_017_280 - 2 * embedding


def test_qwen3_30b_a3b() -> None:
    embedding = 151936 * 2048
    attention = 2048 * (32 + 4 + 4) * 128 + 32 * 128 * 2048
    norms = 2 * 2048 + 2 * 128  # QK-norm of one head's size
    expert, router = 3 * 2048 * 768, 128 * 2048
    body = 48 * (attention + norms + router) + 2048
    assert 2 * embedding + body + 48 * 128 * expert == 30_532_122_624
    assert 2 * embedding + body + 48 * 8 * expert == 3_353_032_704
    counts = parameters("qwen3-30b-a3b")
    assert counts.total == 30_532_122_624
    assert counts.active_with_embeddings == 3_353_032_704


def test_mixtral_8x7b() -> None:
    embedding = 32000 * 4096
    attention = 4096 * (32 + 8 + 8) * 128 + 32 * 128 * 4096
    expert, router = 3 * 4096 * 14336, 8 * 4096
    body = 32 * (attention + 2 * 4096 + router) + 4096
    assert 2 * embedding + body + 32 * 8 * expert == 46_702_792_704
    assert 2 * embedding + body + 32 * 2 * expert == 12_879_925_248
    counts = parameters("mixtral-8x7b")
    assert counts.total == 46_702_792_704
    assert counts.active_with_embeddings == 12_879_925_248


def test_llama_3_8b() -> None:
    attention = 4096 * (32 + 8 + 8) * 128 + 32 * 128 * 4096
    layer = attention + 3 * 4096 * 14336 + 2 * 4096
    assert 2 * 128256 * 4096 + 32 * layer + 4096 == 8_030_261_248
    counts = parameters("llama-3.1-8b")
    assert counts.total == counts.active_with_embeddings == 8_030_261_248


def test_gpt_oss_20b_with_biases_and_sinks() -> None:
    d, heads = 2880, 64 * 64
    attention = d * (heads + 2 * 8 * 64) + heads * d  # matrices
    attention += heads + 2 * 8 * 64 + d + 64  # biases of q, k, v and output, sinks
    expert = 2 * d * 2880 + 2880 * d + 2 * 2880 + d
    body = 24 * (attention + 2 * d + 32 * d + 32) + d
    embedding = 201088 * d
    counts = parameters("gpt-oss-20b")
    assert counts.active_without_embeddings == body + 24 * 4 * expert
    assert counts.active_with_lm_head == body + 24 * 4 * expert + embedding
    assert counts.active_with_embeddings == body + 24 * 4 * expert + 2 * embedding
    assert counts.total == body + 24 * 32 * expert + 2 * embedding
    assert [
        round(x / 1e9, 3) for x in (body + 24 * 4 * expert, body + 24 * 4 * expert + embedding)
    ] == [
        3.029,
        3.608,
    ]
    assert round(counts.active_with_embeddings / 1e9, 3) == 4.187


def test_deepseek_v3() -> None:
    d, heads, latent = 7168, 128, 512
    attention = d * 1536 + 1536 + 1536 * heads * (128 + 64)  # q down, norm, up
    attention += d * (latent + 64) + latent + latent * heads * (128 + 128)  # kv down, norm, up
    attention += heads * 128 * d
    expert, dense = 3 * d * 2048, 3 * d * 18432
    router = 256 * d + 256  # and the correction bias
    body = 61 * (attention + 2 * d) + 3 * dense + 58 * (router + expert) + d
    embedding = 129280 * d
    counts = parameters("deepseek-v3")
    assert counts.total == body + 58 * 256 * expert + 2 * embedding == 671_026_419_200
    assert counts.active_with_lm_head == body + 58 * 8 * expert + embedding
    assert round(counts.active_with_lm_head / 1e9, 2) == 36.63


def test_ultramemv2_227m_with_all_norms() -> None:
    """One shared table of 20 x 360^2 rows; each layer reaches floor(sqrt(half of them))^2."""
    d, n, dk, dv, dp = 768, 1138, 192, 192, 192
    assert n**2 <= 20 * 360**2 // 2 < (n + 1) ** 2
    attention, ffn, norms = 4 * d * d, 3 * d * 2496, 2 * d + 2 * 64  # QK-norm of a head's size
    memory = d * 2 * dk + 2 * n * 2 * dk + d * dp + dv * d + 2 * 2 * 2 + 2 * dk
    body = 20 * (attention + ffn + norms + memory) + d
    embedding = 50304 * d
    counts = parameters("ultramemv2-227m-1.2b")
    model = load_model("ultramemv2-227m-1.2b")
    assert isinstance(model.attention, Attention)
    full = replace(model, attention=replace(model.attention, qk_norm="full"))
    wide = step_costs(full, Workload().step()).parameters
    assert wide.total - counts.total == 28_160  # 20 layers, queries and keys, 11 heads of 64
    assert counts.active_without_embeddings == body + 20 * 32 * (dv + dp)
    assert counts.total_without_embeddings == body + 20 * 360**2 * (dv + dp)
    assert counts.total == counts.total_without_embeddings + embedding  # tied: once
    assert counts.active_with_lm_head == counts.active_with_embeddings
    assert counts.active_with_embeddings == counts.active_without_embeddings + embedding


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("olmoe-1b-7b", 2 * 16 * 128 * 16 * 2),  # 2 vectors, heads, head size, layers, bytes
        ("qwen3-30b-a3b", 2 * 4 * 128 * 48 * 2),
        ("mixtral-8x7b", 2 * 8 * 128 * 32 * 2),
        ("llama-3.1-8b", 2 * 8 * 128 * 32 * 2),
        ("llama-3.1-70b", 2 * 8 * 128 * 80 * 2),
        ("gpt-oss-20b", 2 * 8 * 64 * 24 * 2),
        ("deepseek-v3", (512 + 64) * 61 * 2),
        ("deepseek-v2-lite", (512 + 64) * 27 * 2),
        ("ultramemv2-227m-1.2b", 2 * 12 * 64 * 20 * 2),
    ],
)
def test_kv_bytes_per_token(name: str, expected: int) -> None:
    assert kv_bytes_per_token(load_model(name), Workload().step()) == expected
    assert costs(name).kv_cache.bytes_per_token == expected


def test_kv_bytes_are_the_published_ones() -> None:
    names = ("olmoe-1b-7b", "qwen3-30b-a3b", "mixtral-8x7b", "llama-3.1-8b")
    found = [costs(name).kv_cache.bytes_per_token for name in names]
    assert found == [131_072, 98_304, 131_072, 131_072]
