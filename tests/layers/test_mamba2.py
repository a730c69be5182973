"""Mamba-2: every part by hand, chunks by enumeration, and the layers of published models."""

import pytest

from costmodel.layers.mamba2 import Mamba2
from costmodel.layers.operator import Operator
from tests.steps import flops, make_step, one_layer, quantity, weights

# nh = 4 heads of 4: di = 16; G = 2, Ns = 6: C = 16 + 2 * 2 * 6 = 40
SMALL = Mamba2(mamba_n_heads=4, mamba_d_head=4, mamba_n_groups=2, mamba_d_state=6)
D = 8


def operators(batch: int, new: int, layer: Mamba2 = SMALL) -> dict[str, Operator]:
    return one_layer(layer, make_step(batch=batch, new_tokens=new, cached=5), hidden_size=D)


def test_every_part_of_decode_by_hand() -> None:
    ops = operators(3, 1)
    assert list(ops) == [
        f"attention.{leaf}" for leaf in ("in_proj", "conv", "recurrence", "gated_norm", "output")
    ]
    assert flops(ops["attention.in_proj"]) == {"gemm": ("matmul", 2 * 3 * 8 * (16 + 40 + 4))}
    assert flops(ops["attention.conv"]) == {
        "convolution": ("elementwise", 3 * 40 * 2 * 4),
        "bias": ("elementwise", 3 * 40),
        "activation": ("elementwise", 4 * 3 * 40),
    }
    assert flops(ops["attention.recurrence"]) == {
        "gates": ("elementwise", 6 * 3 * 4),
        "decay": ("recurrence", 3 * 16 * 6),
        "state_products": ("recurrence", 4 * 3 * 16 * 6),  # 5 di Ns with the decay
        "skip": ("elementwise", 3 * 3 * 16),
    }
    assert flops(ops["attention.gated_norm"]) == {
        "norm": ("norm", 4 * 3 * 16),
        "gate": ("elementwise", 5 * 3 * 16),
    }
    assert flops(ops["attention.output"]) == {"gemm": ("matmul", 2 * 3 * 16 * 8)}
    assert list(weights(ops["attention.recurrence"])) == ["A_log", "D", "dt_bias"]


@pytest.mark.parametrize("new", [2, 3, 4, 7, 8, 9])
def test_a_prompt_by_multiplying_matrices_of_its_chunks(new: int) -> None:
    layer = Mamba2(
        mamba_n_heads=4, mamba_d_head=4, mamba_n_groups=2, mamba_d_state=6, mamba_chunk_size=4
    )
    total = 0
    for start in range(0, new, 4):
        c = min(4, new - start)
        total += 2 * (2 * c * 6 * c)  # of each of two groups, C by B
        total += 4 * (2 * c * c * 4)  # of each of four heads, those by x
        total += 4 * (2 * c * 6 * 4 + 2 * 4 * c * 6)  # the state read, and written
    products = flops(operators(3, new, layer)["attention.recurrence"])
    assert products["state_products"] == ("recurrence", 3 * total)
    assert "decay" not in products


@pytest.mark.parametrize("new", [1, 5])
def test_the_state_by_hand(new: int) -> None:
    state, conv = 16 * 6 * 4, 40 * 3 * 2  # float32; K - 1 inputs in bf16
    assert SMALL.state_bytes(D, make_step(batch=3, new_tokens=new)) == state + conv
    ops = operators(3, new)
    for name in ("state_read_bytes", "state_written_bytes"):
        assert quantity(ops["attention.recurrence"], name) == {"state_products": 3 * state}
        assert quantity(ops["attention.conv"], name) == {"convolution": 3 * conv}


@pytest.mark.parametrize(
    ("layer", "hidden", "parameters", "state"),
    [
        (  # Granite-4.0-H-Small, and its gated norm
            Mamba2(mamba_n_heads=128, mamba_d_head=64, mamba_d_state=128),
            4096,
            102_278_784 + 8_192,
            152_819_712 // 36,
        ),
        (  # Nemotron-3-Ultra, layer 0, and its gated norm
            Mamba2(mamba_n_heads=256, mamba_d_head=64, mamba_n_groups=8, mamba_d_state=128),
            8192,
            421_620_480 + 16_384,
            8_388_608 + 110_592,
        ),
        (  # Falcon-H1-7B, which has no norm there
            Mamba2(mamba_n_heads=24, mamba_d_head=128, mamba_d_state=256, mamba_rms_norm=False),
            3072,
            29_976_136,
            139_358_208 // 44,
        ),
    ],
    ids=["granite", "nemotron", "falcon"],
)
def test_layers_of_published_models(
    layer: Mamba2, hidden: int, parameters: int, state: int
) -> None:
    step = make_step()
    ops = one_layer(layer, step, hidden_size=hidden)
    assert sum(w.parameters for op in ops.values() for w in op.weights) == parameters
    assert layer.state_bytes(hidden, step) == state
