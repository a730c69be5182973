"""RMSNorm with residual adds and the experts' weighted sum, against float64."""

import pytest
import torch

from reference_model.kernels import oracles
from reference_model.kernels.norm import add_norm
from tests.reference_model.kernels.making import EXACT, normal, poisoned


@pytest.mark.parametrize("tokens", [1, 3])
@pytest.mark.parametrize("width", [64, 72, 130])
@pytest.mark.parametrize("adds", ["none", "add", "experts", "both"])
def test_norm_adds_what_waits(
    generator: torch.Generator, tokens: int, width: int, adds: str
) -> None:
    stream, gamma = normal(generator, tokens, width), normal(generator, width)
    add = normal(generator, tokens, width) if adds in {"add", "both"} else None
    experts = adds in {"experts", "both"}
    results = normal(generator, tokens * 3, width) if experts else None
    weights = normal(generator, tokens, 3) if experts else None
    total, normed = oracles.add_norm(stream, gamma, 1e-5, add, results, weights)
    out = poisoned(tokens, width)
    add_norm(stream, gamma, out, eps=1e-5, add=add, results=results, weights=weights)
    assert oracles.error(stream, total) < EXACT
    assert oracles.error(out, normed) < EXACT


def test_the_norm_is_taken_of_the_stream_as_it_is_stored(generator: torch.Generator) -> None:
    stream = normal(generator, 2, 64).bfloat16()
    add = normal(generator, 2, 64, std=0.01).bfloat16()
    total = stream.double() + add.double()
    out = poisoned(2, 64)
    add_norm(stream, torch.ones(64), out, eps=0.0, add=add)
    assert oracles.error(stream, total) < 2**-8  # the interpreter cuts bits off, a GPU rounds
    assert oracles.error(out, oracles.rms_norm(stream, torch.ones(64), 0.0)) < EXACT


def test_a_token_of_nan_stays_alone(generator: torch.Generator) -> None:
    stream = normal(generator, 3, 64)
    stream[1] = float("nan")
    out = poisoned(3, 64)
    add_norm(stream, torch.ones(64), out, eps=1e-5)
    assert out[[0, 2]].isfinite().all()
