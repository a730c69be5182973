"""Attention to a window and compressed entries against the oracle, the cache fed in every way."""

from dataclasses import replace

import numpy as np
import pytest

from costmodel.layers.compressed_attention import CompressedAttention
from tests.reference_model import compressed_oracle
from tests.reference_model.oracles import under
from tests.reference_model.running import LENGTH, WAYS, attention_step, in_way
from tests.reference_model.tiny import CSA, HCA, array, arrays, assert_close, made, noise
from tests.steps import tiny_model

CASES: dict[str, CompressedAttention] = {
    "csa": CSA,
    "csa_one_entry": replace(CSA, index_topk=1),
    "csa_all_entries": replace(CSA, index_topk=9),
    "csa_without_overlap": replace(CSA, overlapping=False),
    "csa_of_one_token": replace(CSA, compress_ratio=1, overlapping=False),
    "csa_of_one_token_and_the_one_before": replace(CSA, compress_ratio=1),
    "csa_without_a_window": replace(CSA, sliding_window=None),
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


def test_the_choice_bites_in_the_oracle() -> None:
    """Of 4 whole entries the last query reads 2, and they are not merely the newest."""
    weights = under(
        arrays(made(tiny_model(attention=CSA, hidden_size=12, num_hidden_layers=1))),
        "layers.0.attention",
    )
    x = array(noise(1, LENGTH, 12, seed=1))[0]
    chosen = compressed_oracle.chosen_entries(CSA, weights, x)
    assert [len(some) for some in chosen] == [0, 1, 1, 2, 2, 2, 2, 2, 2]
    assert any(
        sorted(some) != [(t + 1) // 2 - 2, (t + 1) // 2 - 1]
        for t, some in enumerate(chosen)
        if len(some) == 2
    )
