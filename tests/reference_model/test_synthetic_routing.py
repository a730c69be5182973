"""Declared routings: draws without replacement whose law is the cost model's."""

import math
from collections import Counter
from statistics import mean, stdev

import numpy as np
import pytest
import torch

from costmodel.routing.popularity import Zipf
from costmodel.routing.zipf import inclusion
from reference_model import synthetic_routing
from reference_model.synthetic_routing import Popularity
from tests.reference_model.oracles import Array
from tests.slowness import guarded

POPULATION, DRAWS, TOKENS = 24, 5, 8192
EXPONENTS = (0.0, 0.5, 1.0, 2.0, 6.0)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def expected(exponent: float) -> Array:
    """How often one token draws each item, the rarest first."""
    groups = inclusion(POPULATION, DRAWS, exponent)
    assert groups.items.tolist() == [1.0] * POPULATION, "ranks past the head would be binned"
    return np.sort(groups.probability)


def assert_law(drawn: torch.Tensor, exponent: float) -> None:
    """Frequencies within 5 standard deviations; sorting both sides only brings them closer."""
    assert all(len(set(token)) == DRAWS for token in drawn.tolist()), "a token drew an item twice"
    counts = torch.bincount(drawn.flatten(), minlength=POPULATION).double().numpy()
    want = expected(exponent)
    deviation = np.sqrt(want * (1 - want) / len(drawn))
    assert np.all(np.abs(np.sort(counts) / len(drawn) - want) <= 5 * deviation + 1e-4)


@pytest.mark.parametrize("exponent", EXPONENTS)
def test_the_top_of_synthetic_logits_is_drawn_by_popularity(exponent: float) -> None:
    logits = Popularity(exponent=exponent).expert_logits(TOKENS, POPULATION, generator=generator())
    assert logits.dtype == torch.float32
    assert logits.isfinite().all()
    assert_law(logits.topk(DRAWS).indices, exponent)


@pytest.mark.parametrize("redraws", [0, 1, synthetic_routing.REDRAWS])
@pytest.mark.parametrize("exponent", EXPONENTS)
def test_synthetic_rows_are_drawn_by_popularity(
    exponent: float, redraws: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many of a token's repeats are redrawn before noise on all rows finishes it."""
    monkeypatch.setattr(synthetic_routing, "REDRAWS", redraws)
    rows = Popularity(exponent=exponent).rows(TOKENS, POPULATION, DRAWS, generator=generator())
    assert rows.dtype == torch.int64
    assert rows.shape == (TOKENS, DRAWS)
    assert_law(rows, exponent)


def test_uniform_rows_are_all_alike() -> None:
    """Chi-squared of 10,000 rows, each drawn 40 times if all are equal."""
    rows = Popularity(exponent=0.0).rows(10_000, 10_000, 40, generator=generator())
    counts = torch.bincount(rows.flatten(), minlength=10_000).double()
    chi = float(((counts - 40) ** 2 / 40).sum())
    assert abs(chi - 9_999) < 5 * math.sqrt(2 * 9_999)


@pytest.mark.parametrize("exponent", [0.0, 1.0])
def test_a_step_touches_as_many_distinct_rows_as_the_cost_model_expects(exponent: float) -> None:
    population, draws, tokens, steps = 3_000, 16, 32, 100
    touched = []
    for seed in range(steps):
        rows = Popularity(exponent=exponent).rows(
            tokens, population, draws, generator=generator(seed)
        )
        touched.append(len(rows.unique()))
    want = Zipf(exponent).expected_distinct(population, draws, tokens, kind="rows")
    assert abs(mean(touched) - float(want)) < 5 * stdev(touched) / math.sqrt(steps)


@pytest.mark.parametrize(("rows", "draws"), [(1_000, 32), (4, 4), (1, 1), (50, 50)])
@pytest.mark.parametrize("exponent", [0.0, 3.0, 10.0])
def test_steep_popularity_and_full_draws_come_to_an_end(
    rows: int, draws: int, exponent: float
) -> None:
    """At exponent 10 the 32nd row comes once in 10^15 draws: redrawing alone would never end."""
    with guarded(2.5):
        indices = Popularity(exponent=exponent).rows(64, rows, draws, generator=generator())
    assert all(len(set(token)) == draws for token in indices.tolist())
    assert int(indices.min()) >= 0
    assert int(indices.max()) < rows


def test_a_million_rows_take_no_time() -> None:
    with guarded(2.5):
        indices = Popularity(exponent=1.0).rows(64, 1_000_000, 256, generator=generator())
    assert all(len(set(token)) == 256 for token in indices.tolist())


def test_each_layer_has_its_favourites_and_a_seed_repeats_them() -> None:
    popularity, source = Popularity(exponent=3.0), generator(1)
    first, second = (popularity.rows(200, 50, 2, generator=source) for _ in range(2))
    favourites = [Counter(one.flatten().tolist()).most_common(1)[0][0] for one in (first, second)]
    assert favourites[0] != favourites[1]
    assert torch.equal(popularity.rows(200, 50, 2, generator=generator(1)), first)
