"""Dense products of few tokens, against float64."""

import pytest
import torch

from reference_model.kernels import oracles
from reference_model.kernels.embed import embed
from reference_model.kernels.experts import described
from reference_model.kernels.linear import linear
from reference_model.kernels.linear_split import SplitBuffers, SplitTile, linear_split
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


@pytest.mark.parametrize("tokens", [2, 17, 64])
@pytest.mark.parametrize(("width", "outputs"), [(64, 32), (80, 40), (48, 7)])
@pytest.mark.parametrize("extras", [False, True])
def test_linear_split_adds_its_slices_in_order_and_clears_its_counters(
    generator: torch.Generator, tokens: int, width: int, outputs: int, *, extras: bool
) -> None:
    x, weight = normal(generator, tokens, width), normal(generator, outputs, width)
    bias, residual = normal(generator, outputs), normal(generator, tokens, outputs)
    tile = SplitTile(rows=16, splits=2, depth=16, stages=2)
    buffers = SplitBuffers.make(outputs, tile, tokens, "cpu")
    buffers.partial.fill_(float("nan"))
    expected = x.double() @ weight.double().T
    out = poisoned(tokens, outputs)
    if extras:
        expected = expected + bias + residual
        out = residual
    linear_split(
        x, described(weight, tile), out, tile, buffers, bias=bias if extras else None,
        residual=residual if extras else None,
    )  # fmt: skip
    assert oracles.error(out, expected) < EXACT
    assert not buffers.arrived.any()


def test_embed_copies_rows_and_stays_inside_the_table(generator: torch.Generator) -> None:
    table = normal(generator, 11, 24)
    ids = torch.tensor([3, 0, 10, 3, 11, -5])
    out = poisoned(6, 24)
    embed(ids, table, out)
    assert torch.equal(out, table[ids.clamp(0, 10)])
