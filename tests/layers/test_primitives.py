"""The table of FLOPs per element, against the definitions evaluated with numbers that count."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from costmodel.layers.primitives import (
    ACTIVATION,
    LAYER_NORM,
    MULTIPLY_ADD,
    RMS_NORM,
    ROTARY,
    SIGMOID,
    SOFTCAP,
    SOFTMAX,
    activation_flops,
    linear,
    norm,
    permutation,
)
from costmodel.layers.primitives import (
    layer_norm as layer_norm_form,
)
from costmodel.layers.site import Site
from tests.backends.kernels import kernels
from tests.steps import flops, make_step, parts, quantity, weights

if TYPE_CHECKING:
    from costmodel.layers.numbers import Number


class Counted:
    """A number that counts what is done with it. A sign and a maximum are no FLOPs."""

    done = 0

    def __init__(self, value: float) -> None:
        self.value = value

    def _did(self, value: float) -> "Counted":
        Counted.done += 1
        return Counted(value)

    def __add__(self, other: "Counted | float") -> "Counted":
        return self._did(self.value + plain(other))

    def __sub__(self, other: "Counted | float") -> "Counted":
        return self._did(self.value - plain(other))

    def __mul__(self, other: "Counted | float") -> "Counted":
        return self._did(self.value * plain(other))

    def __truediv__(self, other: "Counted | float") -> "Counted":
        return self._did(self.value / plain(other))

    def __neg__(self) -> "Counted":
        return Counted(-self.value)

    def exp(self) -> "Counted":
        return self._did(math.exp(self.value))

    def tanh(self) -> "Counted":
        return self._did(math.tanh(self.value))

    def at_most(self, limit: float) -> "Counted":
        return Counted(min(self.value, limit))


def plain(number: "Counted | float") -> float:
    return number.value if isinstance(number, Counted) else number


def operations(function: Callable[..., object], *values: float) -> int:
    Counted.done = 0
    function(*(Counted(value) for value in values))
    return Counted.done


def sigmoid(x: Counted) -> Counted:
    return Counted(1.0) / ((-x).exp() + 1.0)


def softmax_of(scores: list[Counted]) -> list[Counted]:
    highest = max(score.value for score in scores)
    powers = [(score - highest).exp() for score in scores]
    total = Counted(0.0)
    for power in powers:
        total = total + power
    return [power / total for power in powers]


def rms_norm(x: list[Counted], weight: list[float]) -> list[Counted]:
    squares = Counted(0.0)
    for element in x:
        squares = squares + element * element
    scale = (squares.value / len(x) + 1e-6) ** -0.5  # left out: once a row
    return [element * scale * w for element, w in zip(x, weight, strict=True)]


def layer_norm(x: list[Counted], weight: list[float], bias: list[float] | None) -> list[Counted]:
    total = Counted(0.0)
    for element in x:
        total = total + element
    mean = total.value / len(x)  # left out: once a row
    normed = rms_norm([element - mean for element in x], weight)
    return normed if bias is None else [a + b for a, b in zip(normed, bias, strict=True)]


def rotated(x: Counted, y: Counted) -> tuple[Counted, Counted]:
    cosine, sine = 0.6, 0.8
    return x * cosine - y * sine, x * sine + y * cosine


def gelu(x: Counted) -> Counted:
    inner = (x + x * x * x * 0.044715) * math.sqrt(2 / math.pi)
    return x * 0.5 * (inner.tanh() + 1.0)


def clamped_silu(x: Counted, linear_half: Counted) -> object:
    x, linear_half = x.at_most(7.0), -(-linear_half.at_most(7.0)).at_most(7.0)
    return x * sigmoid(x * 1.702), linear_half + 1.0  # their product is the gate's


def squared_relu(x: Counted) -> Counted:
    positive = -(-x).at_most(0.0)
    return positive * positive


def test_activations_count_their_definitions() -> None:
    assert ACTIVATION["silu"] == operations(lambda x: x * sigmoid(x), 0.3) == 4
    assert ACTIVATION["gelu"] == operations(gelu, 0.3) == 9
    assert ACTIVATION["relu"] == operations(lambda x: -(-x).at_most(0.0), 0.3) == 0
    assert ACTIVATION["relu2"] == operations(squared_relu, 0.3) == 1
    assert ACTIVATION["clamped_silu"] == operations(clamped_silu, 0.3, 0.2) == 6


def test_a_gate_adds_its_product() -> None:
    assert activation_flops("silu", gated=True) == 5
    assert activation_flops("silu", gated=False) == 4
    assert activation_flops("gelu", gated=True) == 10
    assert activation_flops("clamped_silu", gated=True) == 7


def test_norms_softmax_and_rotation_count_their_definitions() -> None:
    assert operations(lambda *x: rms_norm(list(x), [2.0, 3.0, 4.0]), 1, 2, 3) == 3 * RMS_NORM
    assert operations(lambda *x: layer_norm(list(x), [2.0, 3.0, 4.0], None), 1, 2, 3) == 18
    assert layer_norm_form(bias=False).flops == LAYER_NORM == 6
    assert operations(lambda *x: layer_norm(list(x), [2.0, 3.0, 4.0], [1.0] * 3), 1, 2, 3) == 21
    assert layer_norm_form(bias=True).flops == 7
    assert operations(lambda x: (x / 30.0).exp() * 30.0, 4) == SOFTCAP  # a tanh counts as an exp
    assert operations(lambda *x: softmax_of(list(x)), 1, 2, 3, 4, 5) == 5 * SOFTMAX
    assert operations(sigmoid, 0.3) == SIGMOID
    assert operations(rotated, 1, 2) == 2 * ROTARY
    assert operations(lambda a, b, c: a * b + c, 1, 2, 3) == MULTIPLY_ADD


@pytest.mark.parametrize("adds", [0, 1, 2, 3])
def test_a_norm_with_its_residual_adds_by_hand(adds: int) -> None:
    # B T = 6 tokens of D = 10: 60 elements of 2 bytes
    found = norm("layers.0.ffn_norm", Site.of((0,), 10), make_step(batch=2, new_tokens=3),
                 residual_adds=adds)  # fmt: skip
    expected: dict[str, tuple[str, Number]] = {"norm": ("norm", 4 * 60)}
    if adds:
        expected["residual_add"] = ("elementwise", adds * 60)
    assert flops(found) == expected
    assert weights(found) == {"weight": ("norm", 10, 1)}
    assert quantity(found, "weight_bytes") == {"norm": 10 * 2}
    # reads the stream and each addend, writes the sum (only if it added) and the normalised copy
    moved = (1 + adds) + (1 if adds else 0) + 1
    assert found.total("activation_bytes") == moved * 60 * 2
    # unfused, the norm reads the sum once more
    assert found.total("intermediate_bytes") == (60 * 2 if adds else 0)
    assert kernels().operator_launches(found) == adds + 1
    assert found.compulsory_bytes == 20


def test_a_norm_that_joins_the_stream_by_hand() -> None:
    # 60 elements of 2 bytes, a bias: reads the output and the stream, writes the new stream
    found = norm("layers.0.post_ffn_norm", Site.of((0,), 10), make_step(batch=2, new_tokens=3),
                 form=layer_norm_form(bias=True), joins=True)  # fmt: skip
    assert flops(found) == {
        "layer_norm": ("norm", 7 * 60),
        "residual_add": ("elementwise", 60),
    }
    assert weights(found) == {"weight": ("norm", 10, 1), "bias": ("norm", 10, 1)}
    assert found.total("weight_bytes") == 40
    assert found.total("activation_bytes") == 3 * 60 * 2
    assert found.total("intermediate_bytes") == 2 * 60 * 2
    assert kernels().operator_launches(found) == 2


def test_a_norm_of_other_tokens_and_formats() -> None:
    step = make_step(batch=2, new_tokens=3, dtype="int4")
    found = norm("final_norm", Site.of((0,), 10), step, residual_adds=1, tokens=2)
    assert found.total("flops") == 2 * 10 * (4 + 1)
    assert found.total("weight_bytes") == 20  # never quantised
    assert norm("n", Site.of((0,), 10), make_step(dtype="fp32")).total("weight_bytes") == 40


def test_a_projection_by_hand() -> None:
    # N = 6, 10 to 4, with a bias: 6 * 10 * 4 multiply-adds and 6 * 4 adds
    found = linear("p", Site.of((0, 1), 10), make_step(batch=2, new_tokens=3),
                   inputs=10, outputs=4, group="ffn", bias=True, formula="", source="")  # fmt: skip
    assert found.count == 2
    assert flops(found) == {"gemm": ("matmul", 480), "bias": ("elementwise", 24)}
    assert quantity(found, "weight_bytes") == {"gemm": 80, "bias": 8}
    assert quantity(found, "activation_bytes") == {"gemm": 6 * (10 + 4) * 2}
    assert found.total("intermediate_bytes") == 0


def test_a_gated_projection_halves_its_outputs() -> None:
    # N = 6, 10 to 2 x 4, silu of 4 times the other 4
    found = linear("p", Site.of((0,), 10), make_step(batch=2, new_tokens=3), inputs=10, outputs=8,
                   group="ffn", activation="silu", gated=True, formula="", source="")  # fmt: skip
    assert flops(found) == {"gemm": ("matmul", 960), "activation": ("elementwise", 6 * 4 * 5)}
    # 10 in and 4 out cross the border; the 8 between are written once and read once
    assert found.total("activation_bytes") == 6 * (10 + 4) * 2
    assert found.total("intermediate_bytes") == 6 * 2 * 8 * 2
    assert parts(found)["gemm"].intermediate_bytes == 6 * 8 * 2


def test_a_permutation_takes_eight_bytes_an_entry() -> None:
    found = permutation(1_295_044)
    assert found.elements * found.element_bytes == 8 * 1_295_044
