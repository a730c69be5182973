"""The gated short convolution: every part by hand."""

import pytest

from costmodel.layers.short_conv import ShortConv
from tests.steps import flops, make_step, one_layer, quantity, weights

D, N = 8, 6


def test_every_part_by_hand() -> None:
    # B = 2, T = 3, D = 8, K = 3
    layer = ShortConv()
    ops = one_layer(layer, make_step(batch=2, new_tokens=3, cached=5), hidden_size=D)
    assert list(ops) == ["attention.in_proj", "attention.conv", "attention.output"]
    assert flops(ops["attention.in_proj"]) == {"gemm": ("matmul", 2 * N * 8 * 24)}
    assert flops(ops["attention.conv"]) == {
        "input_gate": ("elementwise", N * 8),
        "convolution": ("elementwise", 2 * N * 8 * 3),
        "output_gate": ("elementwise", N * 8),
    }
    assert flops(ops["attention.output"]) == {"gemm": ("matmul", 2 * N * 8 * 8)}
    assert weights(ops["attention.conv"]) == {"weight": ("attention", 8, 3)}
    # three of D each come in, two of them into the gate before the convolution; one goes out
    assert quantity(ops["attention.conv"], "input_bytes") == {
        "input_gate": 2 * N * 8 * 2,
        "output_gate": N * 8 * 2,
    }
    assert quantity(ops["attention.conv"], "output_bytes") == {"output_gate": N * 8 * 2}
    assert ops["attention.conv"].total("intermediate_bytes") == 2 * 2 * N * 8 * 2


@pytest.mark.parametrize("new", [1, 3])
def test_the_state_is_read_and_written_whole_in_every_step(new: int) -> None:
    step = make_step(batch=2, new_tokens=new, cached=5)
    layer = ShortConv(conv_L_cache=4)
    assert layer.state_bytes(D, step) == 3 * 8 * 2
    conv = one_layer(layer, step, hidden_size=D)["attention.conv"]
    assert quantity(conv, "state_read_bytes") == {"convolution": 2 * 3 * 8 * 2}
    assert quantity(conv, "state_written_bytes") == {"convolution": 2 * 3 * 8 * 2}
    assert layer.kv_token_bytes(step) == 0


def test_one_flag_gives_all_three_a_bias() -> None:
    ops = one_layer(ShortConv(conv_bias=True), make_step(batch=2, new_tokens=3), hidden_size=D)
    biases = {leaf: weights(op)["bias"] for leaf, op in ops.items()}
    assert biases == {
        "attention.in_proj": ("attention", 24, 1),
        "attention.conv": ("attention", 8, 1),
        "attention.output": ("attention", 8, 1),
    }
    assert flops(ops["attention.conv"])["bias"] == ("elementwise", N * 8)
