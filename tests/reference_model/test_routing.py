"""Declared routings are followed, and a step's choices counted as a histogram file has them."""

import json
from pathlib import Path

import pytest
import torch

from costmodel.inputs.parse import parse_routing
from costmodel.layers.moe import MoeFfn
from costmodel.layers.ngram import Ngram
from costmodel.layers.peer import Peer
from costmodel.layers.ultramem import UltraMem
from costmodel.routing.popularity import Uniform, Zipf
from reference_model.model import ReferenceModel
from reference_model.routing import histograms, selectors, set_synthetic_routing
from reference_model.synthetic_routing import Popularity
from tests.reference_model.tiny import made
from tests.steps import tiny_model

TOKENS = 64
MEMORY = (
    UltraMem(layers="0", knum=8, knn=4, key_dim=8, value_dim=8, num_heads=2, value_expansion=2),
    Peer(layers="1", num_keys=8, num_heads=2, knn=4, key_dim=8, replaces_ffn=False),
)


@torch.no_grad()
def model_after(
    popularity: Popularity | None, seed: int = 0, rows: Popularity | None = None
) -> ReferenceModel:
    """One step under a popularity of experts, and of rows the same one or `rows`."""
    model = made(
        tiny_model(
            hidden_size=16,
            num_hidden_layers=2,
            memory=MEMORY,
            ffn=MoeFfn(num_experts=16, num_experts_per_tok=2, moe_intermediate_size=8),
        )
    )
    set_synthetic_routing(model, popularity, rows=rows, tokens=TOKENS, seed=seed)
    ids = torch.randint(0, model.config.vocab_size, (TOKENS, 1))
    model(ids, model.new_cache(TOKENS, 1))
    return model


def distinct(model: ReferenceModel, path: str) -> int:
    return sum(items for accesses, items in histograms(model)[path]["counts"] if accesses)


@pytest.mark.parametrize("exponent", [0.0, 1.0])
def test_a_step_touches_what_the_cost_model_expects(exponent: float) -> None:
    seen = [model_after(Popularity(exponent=exponent), seed) for seed in range(40)]
    routing = Zipf(exponent) if exponent else Uniform()
    for path, leaf in selectors(seen[0]).items():
        want = routing.expected_distinct(
            leaf.population, leaf.draws, TOKENS * leaf.heads, kind=leaf.kind
        )
        mean = sum(distinct(model, path) for model in seen) / len(seen)
        assert mean == pytest.approx(want, rel=0.02)


def test_each_population_follows_its_own_law() -> None:
    """Rows under a law so steep that every head draws the same ones; experts evenly."""
    model = model_after(Popularity(exponent=0.0), rows=Popularity(exponent=10.0))
    for path, leaf in selectors(model).items():
        even = Uniform().expected_distinct(
            leaf.population, leaf.draws, TOKENS * leaf.heads, kind=leaf.kind
        )
        if leaf.kind == "experts":
            assert distinct(model, path) > 0.8 * float(even)
        else:
            assert distinct(model, path) < 0.5 * float(even)


def test_synthetic_rows_are_the_rows_selected() -> None:
    model = model_after(Popularity(exponent=1.0))
    for leaf in selectors(model).values():
        assert leaf.synthetic_choice is not None
        assert leaf.selected is not None
        if leaf.kind == "rows":
            assert torch.equal(leaf.selected, leaf.synthetic_choice)
        else:
            assert torch.equal(leaf.selected, leaf.synthetic_choice.topk(leaf.draws).indices)


def test_without_a_popularity_the_scores_choose() -> None:
    model = model_after(None)
    assert all(leaf.synthetic_choice is None for leaf in selectors(model).values())
    assert set(histograms(model)) == set(selectors(model))


def test_a_histogram_is_read_back_as_a_routing(tmp_path: Path) -> None:
    model = model_after(None)
    for path, section in histograms(model).items():
        leaf = selectors(model)[path]
        file = tmp_path / f"{path}.json"
        file.write_text(json.dumps({"schema_version": 1, "source": "test", leaf.kind: section}))
        distinct = parse_routing(str(file)).expected_distinct(
            leaf.population, leaf.draws, 1, kind=leaf.kind
        )
        assert distinct == pytest.approx(
            leaf.draws
        )  # one trial draws that many, whatever the counts


NGRAMS = Ngram(layers="0-1", max_ngram_size=3, num_heads=2, vocab_size_base=30, head_dim=8)


@torch.no_grad()
def test_drawn_rows_of_columns_follow_the_law_in_each_column() -> None:
    """Columns of 31, 37, 41 and 43 rows: 64 tokens draw from each, and no row is of another."""
    model = made(tiny_model(hidden_size=16, memory=(NGRAMS,)))
    ids = torch.zeros(TOKENS, 1, dtype=torch.int64)
    counts = torch.zeros(4)
    for seed in range(40):
        set_synthetic_routing(model, Popularity(exponent=0.0), tokens=TOKENS, seed=seed)
        model(ids, model.new_cache(TOKENS, 1))
        selected = selectors(model)["layers.0.ngram.hash"].selected
        assert selected is not None
        starts, ends = torch.tensor([0, 31, 68, 109]), torch.tensor([31, 68, 109, 152])
        assert bool(((selected >= starts) & (selected < ends)).all())
        counts += torch.tensor([float(column.unique().numel()) for column in selected.T]) / 40
    assert histograms(model)["layers.0.ngram.hash"]["population"] == 152
    want = [rows * (1 - (1 - 1 / rows) ** TOKENS) for rows in (31, 37, 41, 43)]
    assert counts.tolist() == pytest.approx(want, rel=0.03)


@torch.no_grad()
def test_hashes_spread_random_ngrams_evenly() -> None:
    """Of random ids a step touches the rows that uniform hashing expects, in either layer."""
    kind = Ngram(layers="0-1", max_ngram_size=3, num_heads=2, vocab_size_base=5000, head_dim=8)
    model = made(tiny_model(hidden_size=16, vocab_size=1000, memory=(kind,)))
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(1000, (40, 100), generator=generator)
    model(ids, model.new_cache(40, 100))
    for layer, columns in enumerate(kind.columns(2)):
        selected = selectors(model)[f"layers.{layer}.ngram.hash"].selected
        assert selected is not None
        for column, rows in zip(selected.T, columns, strict=True):
            want = Uniform().expected_distinct_hashed(rows, 4000, order=2)
            assert column.unique().numel() == pytest.approx(want, rel=0.03)
    first, second = (selectors(model)[f"layers.{n}.ngram.hash"].selected for n in (0, 1))
    assert first is not None
    assert second is not None
    assert not torch.equal(first, second)
