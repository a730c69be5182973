"""Tables that token ids address at the input: exact hashes, the rows read, and rules learnt."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from costmodel.inputs.model import ModelConfig
from costmodel.layers.ngram_embedding import NgramEmbedding
from costmodel.layers.per_layer_embedding import PerLayerEmbedding
from reference_model.leaf import Factory
from reference_model.model import build_model
from reference_model.ngram_embedding import PolynomialHash
from reference_model.routing import histograms, set_synthetic_routing
from reference_model.synthetic_routing import Popularity
from tests.reference_model.tiny import MODELS, NGRAM_EMBEDDING, PER_LAYER, ids, made, small
from tests.steps import tiny_model

LONGCAT = NgramEmbedding(
    vocab_size=131072, emb_neighbor_num=4, emb_split_num=4, ngram_vocab_size_ratio=78
)
V = 11


def hashed(config: NgramEmbedding, window: Tensor) -> list[list[int]]:
    factory = Factory(device=torch.device("cpu"), dtype=torch.float32, hidden_size=16)
    rows: list[list[int]] = PolynomialHash(factory, config)(window).tolist()
    return rows


def test_a_hash_of_longcats_size_is_that_of_whole_numbers_without_bounds() -> None:
    """131,072^4 is 2^68: the polynomial itself does not fit an int64."""
    generator = torch.Generator().manual_seed(0)
    window = torch.randint(131072, (2, 3 + 5), generator=generator)
    window[0, :3] = -1  # a sequence's beginning
    window[1, -4:] = 131071  # the largest id
    want = []
    for sequence in window.tolist():
        for t in range(3, 8):
            rows, first = [], 0
            for i in range(12):
                order, size = 2 + i // 4, 78 * 131072 + 2 * i + 1
                number = sum(sequence[t - back] * 131072**back for back in range(order))
                rows.append(first + number % size)
                first += size
            want.append(rows)
    assert hashed(LONGCAT, window) == want
    assert max(map(max, want)) < 122_683_536


def test_tables_of_one_order_send_a_pair_of_ids_to_different_rows() -> None:
    """Two splits have different moduli, so that pairs which meet in one are apart in the other."""
    config = replace(NGRAM_EMBEDDING, emb_neighbor_num=2)
    pairs = torch.cartesian_prod(torch.arange(23), torch.arange(23))
    rows = hashed(config, pairs)
    first = {row for row, _ in rows}
    assert len(first) <= 3 * 23 + 1 < len(rows)  # the rows of a table
    assert len({tuple(both) for both in rows}) == len(rows)


@torch.no_grad()
def test_an_id_beyond_the_per_layer_table_reads_the_row_of_id_0() -> None:
    model = made(MODELS["per_layer_embedding"])
    sequence = torch.tensor([[5, 22, 19, 20]])  # the table has 20 rows
    model(sequence, model.new_cache(1, 4))
    rows: Any = model.leaves()["ple.rows"]
    assert rows.selected.tolist() == [[5], [0], [19], [0]]


def test_only_the_rows_that_were_read_get_a_gradient() -> None:
    model = made(small(NGRAM_EMBEDDING, PER_LAYER))
    model(ids(model.config, 2, 5), model.new_cache(2, 5), logits="all").square().sum().backward()
    for rows, table in (
        ("ple.rows", "ple.rows"),
        ("ngram_embedding.hash", "ngram_embedding.rows"),
    ):
        selected = model.get_submodule(rows).selected
        gradient = model.get_submodule(table).weight.grad
        assert isinstance(selected, Tensor)
        assert isinstance(gradient, Tensor)
        assert set(gradient.any(1).nonzero()[:, 0].tolist()) == set(selected.flatten().tolist())


@torch.no_grad()
def test_synthetic_rows_lie_in_their_tables_and_are_counted() -> None:
    model = made(small(NGRAM_EMBEDDING, PER_LAYER))
    set_synthetic_routing(model, Popularity(exponent=0.0), tokens=400)
    sequences = ids(model.config, 40, 10)
    model(sequences, model.new_cache(40, 10))
    counted = histograms(model)
    assert counted["ple.rows"]["population"] == 20
    tables = [70, 72, 74, 76]  # 3 x 23 + 2 i + 1
    assert counted["ngram_embedding.hash"]["population"] == sum(tables)
    selected = model.get_submodule("ngram_embedding.hash").selected
    assert isinstance(selected, Tensor)
    first = 0
    for column, size in zip(selected.T, tables, strict=True):
        assert first <= int(column.min())
        assert int(column.max()) < first + size
        assert len(column.unique()) > 0.9 * size  # 400 even draws leave out 1 row in 200
        first += size


def learnt(config: ModelConfig, table: str, answers: Tensor) -> tuple[float, float]:
    """First and last loss of a model that learns what follows the last one or two ids.

    All words have one row, so that the table alone tells ids apart. It is trained, and the head.

    Args:
        config: A model of V ids.
        table: The path of the table's leaf.
        answers: The next token, [V] after each id or [V, V] after each pair.
    """
    model = build_model(config, dtype=torch.float32).requires_grad_(requires_grad=False)
    model.embed.weight[:] = model.embed.weight[0]
    trained = [model.get_submodule(path).weight for path in (table, "lm_head")]
    weights = [weight.requires_grad_() for weight in trained if isinstance(weight, nn.Parameter)]
    optimiser = torch.optim.Adam(weights, lr=0.1)
    generator = torch.Generator().manual_seed(0)
    losses = []
    for _ in range(60):
        sequences = torch.randint(V, (32, 8), generator=generator)
        logits = model(sequences, model.new_cache(32, 8), logits="all")[:, 1:]
        last = (sequences[:, :-1], sequences[:, 1:])[-answers.dim() :]
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), answers[last].flatten())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses[0], sum(losses[-5:]) / 5


@pytest.mark.slow
def test_a_table_of_n_grams_learns_a_rule_of_pairs() -> None:
    """Any answer to any pair of ids: 121 facts, which no sum over the two ids holds."""
    config = tiny_model(
        hidden_size=32,
        num_hidden_layers=1,
        memory=(
            NgramEmbedding(
                vocab_size=V, emb_neighbor_num=2, emb_split_num=2, ngram_vocab_size_ratio=20
            ),
        ),
    )
    answers = torch.randint(V, (V, V), generator=torch.Generator().manual_seed(1))
    first, last = learnt(config, "ngram_embedding.rows", answers)
    assert first > 0.8 * math.log(V)
    assert last < 0.1 * math.log(V)


@pytest.mark.slow
def test_per_layer_embeddings_learn_a_rule_of_single_ids() -> None:
    config = tiny_model(
        hidden_size=32,
        num_hidden_layers=1,
        memory=(PerLayerEmbedding(hidden_size_per_layer_input=16, vocab_size_per_layer_input=V),),
    )
    answers = torch.randperm(V, generator=torch.Generator().manual_seed(1))
    first, last = learnt(config, "ple.rows", answers)
    assert first > 0.8 * math.log(V)
    assert last < 0.1 * math.log(V)
