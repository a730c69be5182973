"""Published and hand-derived costs of a step; each sum is spelled out, without our formulas."""

import math
from fractions import Fraction

import numpy as np
import pytest

from costmodel.costs.step import step_costs
from costmodel.inputs.catalog import load_model
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.workload import Mla, Workload
from costmodel.layers.ffn import DenseFfn
from costmodel.layers.mla import LatentAttention
from costmodel.layers.numbers import Number
from costmodel.questions.published import figure_1c
from costmodel.questions.published.number import PublishedNumber
from costmodel.questions.published.reproduce import reproduced


def decode_flops(name: str) -> Number:
    """Matmul and attention FLOPs of one token that attends to 4096 keys."""
    kinds = step_costs(load_model(name), Workload(context=4095).step()).flops_by_kind
    return kinds["matmul"] + kinds["attention"]


@pytest.fixture(scope="module")
def targets() -> tuple[PublishedNumber, ...]:
    return reproduced()


@pytest.mark.parametrize(
    ("name", "weights", "layers", "heads_by_size"),
    [
        (  # every multiply with a weight, LM head in; then layers, and H d of attention
            "olmoe-1b-7b",
            16 * (4 * 2048 * 2048 + 64 * 2048 + 8 * 3 * 2048 * 1024) + 50304 * 2048,
            16,
            16 * 128,
        ),
        (
            "qwen3-30b-a3b",
            48 * (2048 * 40 * 128 + 4096 * 2048 + 128 * 2048 + 8 * 3 * 2048 * 768) + 151936 * 2048,
            48,
            32 * 128,
        ),
        (
            "mixtral-8x7b",
            32 * (4096 * 48 * 128 + 4096 * 4096 + 8 * 4096 + 2 * 3 * 4096 * 14336) + 32000 * 4096,
            32,
            32 * 128,
        ),
        (
            "llama-3.1-8b",
            32 * (4096 * 48 * 128 + 4096 * 4096 + 3 * 4096 * 14336) + 128256 * 4096,
            32,
            32 * 128,
        ),
    ],
)
def test_decode_flops_by_hand(name: str, weights: int, layers: int, heads_by_size: int) -> None:
    scores_and_values = layers * 2 * 2 * 4096 * heads_by_size
    assert decode_flops(name) == 2 * weights + scores_and_values


def test_decode_flops_as_derived() -> None:
    names = ("olmoe-1b-7b", "qwen3-30b-a3b", "mixtral-8x7b", "llama-3.1-8b")
    found = [round(float(decode_flops(name)) / 1e9, 4) for name in names]
    assert found == [2.8946, 9.3045, 27.6447, 17.1568]


SMALL_MLA = ModelConfig(
    name="two MLA layers",
    source="this test",
    hidden_size=32,
    vocab_size=16,
    num_hidden_layers=2,
    attention=LatentAttention(
        num_attention_heads=4,
        q_lora_rank=12,
        kv_lora_rank=8,
        qk_nope_head_dim=6,
        qk_rope_head_dim=4,
        v_head_dim=10,
    ),
    ffn=DenseFfn(intermediate_size=64),
)


@pytest.mark.parametrize("mode", ["absorbed", "expanded"])
def test_latent_attention_by_hand(mode: Mla) -> None:
    batch, cached, heads = 3, 5, 4
    tokens, attended = batch, batch * (cached + 1)
    down = tokens * 32 * (12 + 8 + 4)
    q_up = tokens * 12 * heads * (6 + 4)
    output = tokens * heads * 10 * 32
    if mode == "absorbed":  # the new tokens' queries and results pass the up-projections
        up = tokens * heads * 8 * (6 + 10)
        core = attended * heads * ((8 + 4) + 8)
    else:  # keys and values of all attended tokens are rebuilt
        up = attended * heads * 8 * (6 + 10)
        core = attended * heads * ((6 + 4) + 10)
    ffn, head = tokens * 3 * 32 * 64, batch * 32 * 16
    found = step_costs(SMALL_MLA, Workload(batch=batch, context=cached, mla=mode).step())
    assert found.flops_by_kind["matmul"] == 2 * (2 * (down + q_up + up + output + ffn) + head)
    assert found.flops_by_kind["attention"] == 2 * 2 * core
    assert found.kv_cache.read_bytes == 2 * batch * cached * (8 + 4) * 2  # each latent once
    assert found.kv_cache.written_bytes == 2 * batch * (8 + 4) * 2
    assert found.kv_cache.stored_bytes == 2 * batch * (cached + 1) * (8 + 4) * 2


def test_deepseek_v3_absorbed_against_expanded() -> None:
    """DeepSeek-V3: absorbed 2 H (2 c + r) a pair; expanded 2 H (p + r + v) and the rebuilding."""
    model = load_model("deepseek-v3")
    h, c, p, r, v, layers, cached = 128, 512, 128, 64, 128, 61, 4095
    found = {}
    for mode in ("absorbed", "expanded"):
        kinds = step_costs(model, Workload(context=cached, mla=mode).step()).flops_by_kind
        found[mode] = kinds["matmul"] + kinds["attention"]
    absorbed = 2 * h * c * (p + v) + 2 * 4096 * h * (2 * c + r)
    expanded = 4096 * 2 * h * c * (p + v) + 2 * 4096 * h * (p + r + v)
    assert found["expanded"] - found["absorbed"] == layers * (expanded - absorbed)


def experts_read(batch: int) -> float:
    """OLMoE-227M/1.2B: bytes of the expected distinct experts and of the router, in bf16."""
    distinct = 64 * (1 - (Fraction(7, 8)) ** batch)
    return float(20 * 2 * (distinct * 3 * 768 * 384 + 64 * 768))


def memory_and_ffn_read(batch: int, bytes_per_selected: int = 0) -> float:
    """UltraMemV2-227M/1.2B: the same of its memory layers and FFN."""
    keys_per_side = math.isqrt(20 * 360**2 // 2)
    assert keys_per_side == 1138
    rows = keys_per_side**2
    projections = 768 * 2 * 192 + 768 * 192 + 192 * 768
    keys = 2 * 2 * keys_per_side * 192
    small = 2 * 2**2 + 192  # two cores, the query norm; the key norm is folded into the keys
    distinct = rows * -math.expm1(batch * math.log1p(-32 / rows))
    each = projections + keys + small + distinct * (192 + 192) + 3 * 768 * 2496
    return 20 * (2 * each + bytes_per_selected * 32 * batch)


@pytest.mark.parametrize(("last", "extra"), [(4239, 0), (4190, 8), (4052, 32)])
def test_crossover_by_hand(targets: tuple[PublishedNumber, ...], last: int, extra: int) -> None:
    assert memory_and_ffn_read(1) > experts_read(1)
    assert memory_and_ffn_read(2) < experts_read(2)
    assert memory_and_ffn_read(last, extra) < experts_read(last)
    assert memory_and_ffn_read(last + 1, extra) > experts_read(last + 1)
    assert any(t.published == f"{last:,}" and t.agrees for t in targets)


def test_what_the_227m_pair_reads_by_hand(targets: tuple[PublishedNumber, ...]) -> None:
    ours = {t.what: t.ours for t in targets}
    for batch in (1, 16, 64, 1024, 4096):
        at = f"read at batch {batch:,}"
        moe = ours[f"olmoe-227m-1.2b: experts and router, {at}"]
        memory = ours[f"ultramemv2-227m-1.2b: memory layers, {at}"]
        ffn = ours[f"ultramemv2-227m-1.2b: FFN, {at}"]
        assert moe == pytest.approx(experts_read(batch), rel=1e-12)
        assert memory + ffn == pytest.approx(memory_and_ffn_read(batch), rel=1e-12)


@pytest.mark.parametrize("batch", [16, 64, 256, 1024])
def test_figure_1c_by_hand(batch: int) -> None:
    moe = min(2 * batch, 34) * 2 * 2048 * 4672 * 32 * 2
    ultramem = 8 * 2048**2 * 32 * 2 + batch * 84 * 6 * 1024 * 2
    kv = batch * 2048 * 2 * 2048 * 2 * 32
    attention = 4 * 2048**2 * 32 * 2
    ratio = figure_1c.access_ratio
    assert ratio(batch, kv=False, attention=False) == moe / ultramem
    assert ratio(batch, kv=True, attention=False) == (moe + kv) / (ultramem + kv)
    assert ratio(batch, kv=True, attention=True) == (moe + kv + attention) / (
        ultramem + kv + attention
    )


def test_worst_case_routing() -> None:
    worst = figure_1c.WorstCase()
    assert worst.label == "worst case"
    assert worst.expected_distinct(34, 2, 16, kind="experts") == 32
    assert worst.expected_distinct(34, 2, 18, kind="experts") == 34
    grid = worst.expected_distinct(34, 2, np.array([1, 16, 18]), kind="experts")
    assert np.array_equal(grid, [2.0, 32.0, 34.0])
