"""Dense products of few tokens, against float64."""

import pytest
import torch

from reference_model.kernels import oracles
from reference_model.kernels.linear import linear
from tests.reference_model.kernels.making import EXACT, normal, poisoned


@pytest.mark.parametrize("tokens", [1, 4, 5])
@pytest.mark.parametrize(("width", "outputs"), [(64, 8), (72, 7), (33, 1)])
@pytest.mark.parametrize("extras", [False, True])
def test_linear(
    generator: torch.Generator, tokens: int, width: int, outputs: int, *, extras: bool
) -> None:
    x, weight = normal(generator, tokens, width), normal(generator, outputs, width)
    gamma, bias = normal(generator, width), normal(generator, outputs)
    residual = normal(generator, tokens, outputs)
    expected = (oracles.rms_norm(x, gamma, 1e-5) if extras else x.double()) @ weight.double().T
    if not extras:
        out = poisoned(tokens, outputs)
        linear(x, weight, out)
    else:
        expected = expected + bias + residual
        out = residual  # a projection adds to the stream in place
        linear(x, weight, out, bias=bias, gamma=gamma, eps=1e-5, residual=residual)
    assert oracles.error(out, expected) < EXACT
