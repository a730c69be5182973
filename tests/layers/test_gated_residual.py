"""Gated residual streams: every site by hand, what waits where, and the counts of Qwen3.8."""

import pytest

from costmodel.costs.step import step_costs
from costmodel.inputs.catalog import load_model
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.workload import Workload
from costmodel.layers.gated_residual import GatedResidual
from costmodel.layers.ngram import Ngram
from costmodel.layers.operator import Operator
from tests.steps import flops, make_step, quantity, tiny_model, weights

TABLE = Ngram(
    layers="1",
    max_ngram_size=2,
    num_heads=1,
    vocab_size_base=5,
    head_dim=4,
    streams=3,
    conv_kernel=2,
    per_stream=True,
)
GATES = GatedResidual(hc_count=3, hc_lowrank=4)


def model() -> ModelConfig:
    """D = 8, c = 3, r = 4: three blocks, of which the second has a table of bigrams at its head."""
    return tiny_model(gated_residual=GATES, memory=(TABLE,))


def listed(batch: int = 1, tokens: int = 2) -> dict[str, Operator]:
    step = make_step(batch=batch, new_tokens=tokens)
    return {op.path: op for op in step_costs(model(), step).operators}


def site(n: int) -> dict[str, tuple[str, int]]:
    """FLOPs of a site of n tokens before its gains: 24 elements of the streams, 8 of a stream."""
    return {
        "norm": ("norm", 4 * n * 24),
        "down": ("matmul", 2 * n * 24 * 4),
        "activation": ("elementwise", n * 4 * (1 + 4)),  # over c; a sigmoid and a product
        "up": ("matmul", 2 * n * 4 * 24),
        "mix": ("elementwise", n * (24 * (3 + 1 + 1) + 8)),  # sigmoid, product, sum; the mean
    }


GAINS = {"gains": ("matmul", 2 * 2 * 24 * 3), "sigmoid": ("elementwise", 2 * 3 * (1 + 3 + 1))}


def test_sites_and_what_waits_at_each_by_hand() -> None:
    """N = 2. A sublayer's output joins with gains (a product and a sum), a table's without."""
    ops = listed()
    output, streams = {"residual_add": ("elementwise", 2 * 2 * 24)}, ("elementwise", 2 * 24)
    assert flops(ops["residual_expand"]) == {}
    assert flops(ops["layers.0.attention_residual"]) == site(2) | GAINS  # nothing waits
    assert flops(ops["layers.1.ngram_join"]) == output  # for the table that reads the streams
    assert flops(ops["layers.1.attention_residual"]) == {"residual_add": streams} | site(2) | GAINS
    assert flops(ops["layers.2.attention_residual"]) == output | site(2) | GAINS
    assert flops(ops["layers.{0-2}.ffn_residual"]) == output | site(2) | GAINS
    assert not any("norm" in path.split(".")[-1] for path in ops)


def test_the_last_site_has_the_last_tokens_and_no_gains() -> None:
    """B = 2 sequences of T = 3: two tokens."""
    final = listed(batch=2, tokens=3)["final_residual"]
    assert flops(final) == {"residual_add": ("elementwise", 2 * 2 * 24)} | site(2)


def test_weights_of_a_site_by_hand() -> None:
    held = {
        "norm": ("norm", 24, 1),
        "down": ("residual", 4, 24),
        "up": ("residual", 24, 4),
        "gains": ("residual", 3, 24),
    }
    ops = listed()
    assert weights(ops["layers.{0-2}.ffn_residual"]) == held
    del held["gains"]
    assert weights(ops["final_residual"]) == held


def test_traffic_of_the_streams_by_hand() -> None:
    """Streams of N c D = 48 elements, N D = 16 of an output, N c = 6 gains, 2 bytes each."""
    ops = listed()
    expand = ops["residual_expand"]
    assert quantity(expand, "input_bytes") == {"copy": 16 * 2}
    assert quantity(expand, "output_bytes") == {"copy": 48 * 2}
    behind_table, behind_ffn = (ops[f"layers.{i}.attention_residual"] for i in (1, 2))
    assert quantity(behind_ffn, "input_bytes") == {"residual_add": (48 + 16 + 6) * 2}
    assert quantity(behind_table, "input_bytes") == {"residual_add": (48 + 48) * 2}
    written = {"residual_add": 48 * 2, "mix": 16 * 2, "sigmoid": 6 * 2}
    assert quantity(behind_ffn, "output_bytes") == written
    first = ops["layers.0.attention_residual"]
    assert quantity(first, "input_bytes") == {"norm": 48 * 2}  # which stay as they are
    assert quantity(first, "output_bytes") == {"mix": 16 * 2, "sigmoid": 6 * 2}


def test_a_table_reads_and_writes_each_stream() -> None:
    """Its gate reads 3 streams and 3 keys and a value, and nothing adds the results up."""
    ops = listed()
    gate, conv = ops["layers.1.ngram.gate"], ops["layers.1.ngram.conv"]
    assert quantity(gate, "input_bytes") == {"norms": (48 + 48) * 2, "product": 16 * 2}
    assert sum(quantity(gate, "output_bytes").values()) == 48 * 2
    assert sum(quantity(conv, "output_bytes").values()) == 48 * 2
    assert "sum" not in flops(gate) | flops(conv)


def test_qwen3_8_flash_next_by_hand() -> None:
    """97 sites of c D = 10,240; 96 with gains; a norm of c D each. 12 layers with attention."""
    costs = step_costs(load_model("qwen3.8-flash-next"), Workload(context=100_000).step())
    by_group = costs.parameters.by_group
    assert costs.parameters.total == 176_943_899_520
    assert by_group["residual"] == 97 * 2 * 320 * 10_240 + 96 * 4 * 10_240 == 639_631_360
    assert by_group["memory_values"] == 51_200_245_760
    assert costs.kv_cache.bytes_per_token == 24_576 + 3_072
    assert costs.kv_cache.side_cache_bytes_per_token == 12 * 128 * 2
    chosen = 2048 + 100_001 % 4 - 1  # 512 whole groups, and what is cached of the unfinished one
    assert costs.kv_cache.read_bytes == 12 * (100_000 * 256 + chosen * 2048)


@pytest.mark.parametrize("tokens", [1, 7])
def test_resident_streams_are_four_vectors_of_a_token(tokens: int) -> None:
    qwen = load_model("qwen3.8-flash-next")
    assert qwen.stream_width == 4 * 2560
    ops = {op.path: op for op in step_costs(qwen, make_step(batch=tokens)).operators}
    assert ops["residual_expand"].total("output_bytes") == tokens * 4 * 2560 * 2
