"""Attention to a window and compressed entries against the oracle, the cache fed in every way."""

from dataclasses import replace

import numpy as np
import pytest

from costmodel.layers.compressed_attention import CompressedAttention
from reference_model.model import build_model
from tests.reference_model import compressed_oracle
from tests.reference_model.oracles import under
from tests.reference_model.running import LENGTH, WAYS, attention_step, in_way
from tests.reference_model.test_keystone import (
    cache_is_predicted,
    flops_are_predicted,
    step_of,
    structure_is_predicted,
)
from tests.reference_model.tiny import (
    CSA,
    HCA,
    MODELS,
    OF_TOKENS,
    REINDEX,
    array,
    arrays,
    assert_close,
    made,
    noise,
)
from tests.steps import tiny_model

CASES: dict[str, CompressedAttention] = {
    "csa": CSA,
    "csa_one_entry": replace(CSA, index_topk=1),
    "csa_all_entries": replace(CSA, index_topk=9),
    "csa_without_overlap": replace(CSA, overlapping=False),
    "csa_of_one_token": replace(CSA, compress_ratio=1, overlapping=False),
    "csa_of_one_token_and_the_one_before": replace(CSA, compress_ratio=1),
    "csa_without_a_window": replace(CSA, sliding_window=None),
    "keys_of_entries": replace(CSA, keys_of_entries=True, overlapping=False, position_bias=False),
    "keys_of_entries_of_one_token": replace(
        CSA, keys_of_entries=True, compress_ratio=1, overlapping=False, query_norm=False
    ),
    "keys_of_overlapping_entries": replace(CSA, keys_of_entries=True, position_bias=False),
    "hca": HCA,
    "hca_overlapping": replace(HCA, overlapping=True),
    "hca_longer_than_the_text": replace(HCA, compress_ratio=20),
    "window_of_one": replace(HCA, sliding_window=1),
    "window_alone": replace(HCA, compress_ratio=None),
    "all_tokens": replace(HCA, compress_ratio=None, sliding_window=None, o_groups=1),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", CASES)
def test_equals_the_oracle(case: str, way: str) -> None:
    config = CASES[case]
    model = made(tiny_model(attention=config, hidden_size=12, num_hidden_layers=1))
    x = noise(2, LENGTH, 12, seed=1)
    weights = under(arrays(model), "layers.0.attention")
    want = np.array(
        [compressed_oracle.compressed_attention(config, weights, array(one)) for one in x]
    )
    got = in_way(way, attention_step(model), x, model.new_cache(2, LENGTH + 1))
    assert_close(got, want, 2e-6)


def test_candidates_bite_in_the_oracle() -> None:
    """Of 9 entries the last query keeps the newest block, of one, and the best block of two."""
    weights = under(
        arrays(made(tiny_model(attention=OF_TOKENS, hidden_size=12, num_hidden_layers=1))),
        "layers.0.attention",
    )
    x = array(noise(1, LENGTH, 12, seed=1))[0]
    layer = OF_TOKENS, weights, x
    kept = compressed_oracle.candidates(layer)
    assert [len(some) for some in kept] == [1, 2, 3, 4, 3, 4, 3, 4, 3]
    assert all(t in some for t, some in enumerate(kept))
    assert any(some != {t - 2, t - 1, t} for t, some in enumerate(kept) if t in (4, 6, 8))
    # Their choice is another than that of an indexer that scores all entries.
    anew = replace(REINDEX, keys_of_entries=False), weights, x
    assert compressed_oracle.chosen_entries(anew, [layer]) != compressed_oracle.chosen_entries(
        layer
    )


@pytest.mark.parametrize("name", ["compressed", "compressed_shared"])
def test_leaf_by_leaf_they_cost_what_is_predicted(name: str) -> None:
    """Paths, parameters, caches, states, FLOPs: with fewer and more entries than are chosen."""
    model = build_model(MODELS[name], device="meta")
    for sizes in ((1, 0, 1), (2, 5, 1), (2, 13, 1), (1, 0, 7), (3, 4, 5), (2, 13, 6)):
        step = step_of(sizes)
        structure_is_predicted(model, step)
        cache_is_predicted(model, step)
        flops_are_predicted(model, step)


def test_the_choice_bites_in_the_oracle() -> None:
    """Of 4 whole entries the last query reads 2, and they are not merely the newest."""
    weights = under(
        arrays(made(tiny_model(attention=CSA, hidden_size=12, num_hidden_layers=1))),
        "layers.0.attention",
    )
    x = array(noise(1, LENGTH, 12, seed=1))[0]
    chosen = compressed_oracle.chosen_entries((CSA, weights, x))
    assert [len(some) for some in chosen] == [0, 1, 1, 2, 2, 2, 2, 2, 2]
    assert any(
        sorted(some) != [(t + 1) // 2 - 2, (t + 1) // 2 - 1]
        for t, some in enumerate(chosen)
        if len(some) == 2
    )
