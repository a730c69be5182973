"""The dense feed-forward layer: multiply-adds counted by loops, parts and parameters by hand."""

import pytest

from costmodel.layers.ffn import DenseFfn
from costmodel.layers.primitives import Activation
from tests.steps import flops, make_step, one_layer, quantity, total, weights


def counted_multiply_adds(tokens: int, hidden: int, width: int, *, gated: bool) -> int:
    count = 0
    for _token in range(tokens):
        for _neuron in range(width):
            for _input in range(hidden):
                count += 1  # up
                count += gated  # gate
        for _output in range(hidden):
            for _neuron in range(width):
                count += 1  # down
    return count


@pytest.mark.parametrize("gated", [True, False])
@pytest.mark.parametrize(("tokens", "hidden", "width"), [(1, 4, 4), (3, 5, 7), (2, 8, 6)])
def test_matrix_products_by_counting_multiply_adds(
    *, tokens: int, hidden: int, width: int, gated: bool
) -> None:
    ops = one_layer(
        DenseFfn(intermediate_size=width, gated=gated),
        make_step(new_tokens=tokens, cached=9),
        hidden_size=hidden,
    )
    found = sum(p.flops for op in ops.values() for p in op.parts if p.kind == "matmul")
    assert found == 2 * counted_multiply_adds(tokens, hidden, width, gated=gated)


def test_every_part_of_a_gated_layer_by_hand() -> None:
    # N = 6, D = 10, F = 14
    layer = DenseFfn(intermediate_size=14, bias=True)
    ops = one_layer(layer, make_step(batch=2, new_tokens=3), hidden_size=10)
    assert list(ops) == ["ffn.gate_up", "ffn.down"]
    assert flops(ops["ffn.gate_up"]) == {
        "gemm": ("matmul", 2 * 6 * 10 * 28),
        "bias": ("elementwise", 6 * 28),
        "activation": ("elementwise", 6 * 14 * (4 + 1)),  # silu, and the product
    }
    assert flops(ops["ffn.down"]) == {
        "gemm": ("matmul", 2 * 6 * 14 * 10),
        "bias": ("elementwise", 6 * 10),
    }
    assert weights(ops["ffn.gate_up"]) == {"weight": ("ffn", 28, 10), "bias": ("ffn", 28, 1)}
    assert weights(ops["ffn.down"]) == {"weight": ("ffn", 10, 14), "bias": ("ffn", 10, 1)}
    assert ops["ffn.gate_up"].total("activation_bytes") == 6 * (10 + 14) * 2
    assert ops["ffn.down"].total("activation_bytes") == 6 * (14 + 10) * 2
    assert quantity(ops["ffn.gate_up"], "intermediate_bytes") == {
        "gemm": 6 * 28 * 2,  # written
        "activation": 6 * 28 * 2,  # read
    }


@pytest.mark.parametrize(
    ("activation", "gated", "per_element"),
    [
        ("silu", True, 5),
        ("silu", False, 4),
        ("gelu", True, 10),
        ("gelu", False, 9),
        ("relu", True, 1),
        ("relu", False, 0),
        ("clamped_silu", True, 7),
    ],
)
def test_activations_by_hand(*, activation: Activation, gated: bool, per_element: int) -> None:
    layer = DenseFfn(intermediate_size=14, activation=activation, gated=gated)
    ops = one_layer(layer, make_step(batch=6), hidden_size=10)
    found = [p.flops for p in ops["ffn.gate_up"].parts if p.kind == "elementwise"]
    assert found == [6 * 14 * per_element]
    assert weights(ops["ffn.gate_up"]) == {"weight": ("ffn", 28 if gated else 14, 10)}


def test_weight_bytes_by_format() -> None:
    layer = DenseFfn(intermediate_size=192, bias=True)
    found = {
        dtype: total(
            one_layer(layer, make_step(batch=7, dtype=dtype), hidden_size=128).values(),
            "weight_bytes",
        )
        for dtype in ("bf16", "fp8", "int4")
    }
    biases = (2 * 192 + 128) * 2
    assert found == {
        "bf16": 3 * 192 * 128 * 2 + biases,
        "fp8": 384 * (128 + 4) + 128 * (192 + 4) + biases,
        "int4": 384 * 67 + 128 * 101 + biases,  # 66.5 and 101 bytes a row, in whole bytes
    }
