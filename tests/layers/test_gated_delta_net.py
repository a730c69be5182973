"""The gated delta net: every part by hand, chunks by enumeration, and the sizes of Qwen3.5."""

import pytest

from costmodel.layers.gated_delta_net import GatedDeltaNet
from costmodel.layers.operator import Operator
from costmodel.layers.recurrent import chunk_squares, single_tokens
from tests.steps import flops, make_step, one_layer, quantity, weights

# Hk = 2, Hv = 4, dk = 6, dv = 4: 24 for queries and keys, 16 of values, C = 40 channels
SMALL = GatedDeltaNet(
    linear_num_key_heads=2, linear_num_value_heads=4, linear_key_head_dim=6, linear_value_head_dim=4
)
D = 8


def operators(batch: int, new: int, layer: GatedDeltaNet = SMALL) -> dict[str, Operator]:
    step = make_step(batch=batch, new_tokens=new, cached=5)
    return one_layer(layer, step, hidden_size=D)


def test_every_part_of_decode_by_hand() -> None:
    ops = operators(3, 1)
    assert list(ops) == [
        f"attention.{leaf}" for leaf in ("in_proj", "conv", "recurrence", "gated_norm", "output")
    ]
    assert flops(ops["attention.in_proj"]) == {"gemm": ("matmul", 2 * 3 * 8 * (40 + 16 + 4 + 4))}
    assert flops(ops["attention.conv"]) == {
        "convolution": ("elementwise", 2 * 3 * 40 * 4),
        "activation": ("elementwise", 4 * 3 * 40),
    }
    assert flops(ops["attention.recurrence"]) == {
        "gates": ("elementwise", 3 * 4 * (6 + 3)),  # of each head a decay and a beta
        "qk_norm": ("norm", 3 * 3 * 24),
        "decay": ("recurrence", 3 * 4 * 24),
        "state_products": ("recurrence", 3 * 4 * 6 * 24),  # 7 Hv dk dv with the decay
    }
    assert flops(ops["attention.gated_norm"]) == {
        "norm": ("norm", 4 * 3 * 16),
        "gate": ("elementwise", 5 * 3 * 16),
    }
    assert flops(ops["attention.output"]) == {"gemm": ("matmul", 2 * 3 * 16 * 8)}
    assert weights(ops["attention.recurrence"]) == {
        "A_log": ("attention", 4, 1),
        "dt_bias": ("attention", 4, 1),
    }
    assert weights(ops["attention.gated_norm"]) == {"weight": ("norm", 4, 1)}


@pytest.mark.parametrize("new", [2, 3, 4, 7, 8, 9])
def test_a_prompt_by_multiplying_matrices_of_its_chunks(new: int) -> None:
    layer = GatedDeltaNet(
        linear_num_key_heads=2,
        linear_num_value_heads=4,
        linear_key_head_dim=6,
        linear_value_head_dim=4,
        chunk_size=4,
    )
    dk, dv, total = 6, 4, 0

    def product(rows: int, inner: int, columns: int) -> int:
        return 2 * rows * inner * columns

    for start in range(0, new, 4):
        c = min(4, new - start)
        total += 2 * product(c, dk, c)  # keys by keys, queries by keys
        total += product(c, c, dk) + product(c, c, dv)  # what corrects keys and values
        total += 2 * product(c, dk, dv)  # the state read by keys and by queries
        total += product(c, c, dv) + product(dk, c, dv)  # corrections read, and written
    products = flops(operators(2, new, layer)["attention.recurrence"])
    assert products["state_products"] == ("recurrence", 2 * 4 * total)
    assert "decay" not in products


@pytest.mark.parametrize("new", [1, 5])
def test_the_state_by_hand(new: int) -> None:
    step = make_step(batch=3, new_tokens=new)
    state, conv = 4 * 6 * 4 * 4, 40 * 3 * 2  # float32; K - 1 inputs in bf16
    assert SMALL.state_bytes(D, step) == state + conv
    ops = operators(3, new)
    for name in ("state_read_bytes", "state_written_bytes"):
        assert quantity(ops["attention.recurrence"], name) == {"state_products": 3 * state}
        assert quantity(ops["attention.conv"], name) == {"convolution": 3 * conv}


def test_activations_at_the_borders_by_hand() -> None:
    ops = operators(3, 2)
    moved = {leaf: op.total("activation_bytes") // 6 for leaf, op in ops.items()}  # of a token
    assert moved == {
        "attention.in_proj": (8 + 64) * 2,
        "attention.conv": (40 + 40) * 2,
        "attention.recurrence": (40 + 4 + 4 + 16) * 2,
        "attention.gated_norm": (16 + 16 + 16) * 2,
        "attention.output": (16 + 8) * 2,
    }


def test_squares_of_chunks_by_enumeration() -> None:
    for new in range(2, 20):
        sizes = [len(range(start, min(start + 5, new))) for start in range(0, new, 5)]
        assert chunk_squares(make_step(new_tokens=new), 5) == sum(size**2 for size in sizes)
        assert single_tokens(make_step(batch=3, new_tokens=new)) == 0
    assert chunk_squares(make_step(), 5) == 0
    assert single_tokens(make_step(batch=3)) == 3


def test_layer_0_of_qwen3_5_122b_a10b() -> None:
    """88,522,880 parameters and a norm of 128; 7,340,032 FLOPs of the recurrence; its state."""
    layer = GatedDeltaNet(
        linear_num_key_heads=16,
        linear_num_value_heads=64,
        linear_key_head_dim=128,
        linear_value_head_dim=128,
    )
    step = make_step()
    ops = one_layer(layer, step, hidden_size=3072)
    parameters = sum(w.parameters for op in ops.values() for w in op.weights)
    assert parameters == 88_522_880 + 128
    recurrence = flops(ops["attention.recurrence"]).values()
    assert sum(count for kind, count in recurrence if kind == "recurrence") == 7_340_032
    assert layer.state_bytes(3072, step) == 4_194_304 + 73_728
