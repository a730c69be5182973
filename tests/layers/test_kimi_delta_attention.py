"""Kimi delta attention: what differs from the gated delta net by hand, and a published layer."""

import pytest

from costmodel.layers.kimi_delta_attention import KimiDeltaAttention
from tests.steps import flops, make_step, one_layer, weights

D = 8


@pytest.mark.parametrize("full_rank", [False, True])
def test_gates_of_low_and_of_full_rank_by_hand(full_rank: bool) -> None:  # noqa: FBT001
    # 2 heads of 6: X = 12, C = 36
    layer = KimiDeltaAttention(num_heads=2, head_dim=6, full_rank_gates=full_rank)
    ops = one_layer(layer, make_step(batch=3, cached=5), hidden_size=D)
    first = 36 + 2 + 2 * (12 if full_rank else 6)
    assert flops(ops["attention.in_proj"]) == {"gemm": ("matmul", 2 * 3 * 8 * first)}
    for leaf in ("attention.forget_gate", "attention.output_gate"):
        if full_rank:
            assert leaf not in ops
        else:
            assert flops(ops[leaf]) == {"gemm": ("matmul", 2 * 3 * 6 * 12)}
    assert flops(ops["attention.recurrence"]) == {
        "gates": ("elementwise", 3 * (6 * 12 + 3 * 2)),  # a decay a channel, a beta a head
        "qk_norm": ("norm", 3 * 3 * 24),
        "decay": ("recurrence", 3 * 2 * 36),
        "state_products": ("recurrence", 3 * 2 * 6 * 36),
    }
    assert weights(ops["attention.recurrence"]) == {
        "A_log": ("attention", 2, 1),
        "dt_bias": ("attention", 12, 1),
    }
    # a sigmoid of the gate and its product
    assert flops(ops["attention.gated_norm"])["gate"] == ("elementwise", 4 * 3 * 12)


def test_a_layer_of_kimi_linear_48b_a3b() -> None:
    """39,514,144 parameters and a norm of 128; its state."""
    layer = KimiDeltaAttention(num_heads=32, head_dim=128)
    step = make_step()
    ops = one_layer(layer, step, hidden_size=2304)
    assert sum(w.parameters for op in ops.values() for w in op.weights) == 39_514_144 + 128
    assert layer.state_bytes(2304, step) == 2_097_152 + 73_728
