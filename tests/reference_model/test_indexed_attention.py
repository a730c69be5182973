"""Attention to chosen blocks against the oracle, over every way to feed the cache."""

from dataclasses import replace

import numpy as np
import pytest

from costmodel.layers.msa import BlockSparseAttention
from costmodel.layers.qsa import PooledKeyAttention
from tests.reference_model import block_oracles
from tests.reference_model.oracles import under
from tests.reference_model.running import LENGTH, WAYS, attention_step, in_way
from tests.reference_model.tiny import MSA, QSA, array, arrays, assert_close, made, noise
from tests.steps import tiny_model

CASES: dict[str, BlockSparseAttention | PooledKeyAttention] = {
    "msa": MSA,
    "msa_one_block": replace(MSA, index_block_size=3, index_topk_blocks=1),
    "msa_blocks_of_one": replace(MSA, index_block_size=1, index_topk_blocks=4, qk_norm="none"),
    "msa_all": replace(MSA, index_block_size=4, index_topk_blocks=3, rotary_dim=0),
    "qsa": QSA,
    "qsa_one_group": replace(QSA, index_budget=3, index_compress_ratio=3, output_gate=False),
    "qsa_groups_of_one": replace(QSA, index_budget=4, index_compress_ratio=1, rotary_dim=0),
    "qsa_all": replace(QSA, index_budget=8, index_compress_ratio=4, attention_bias=True),
    "msa_gated": replace(MSA, output_gate=True, attention_bias=True, rotary_dim=None),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", CASES)
def test_attention_to_blocks_equals_the_oracle(case: str, way: str) -> None:
    config = CASES[case]
    model = made(tiny_model(attention=config, hidden_size=12, num_hidden_layers=1))
    x = noise(2, LENGTH, 12, seed=1)
    weights = under(arrays(model), "layers.0.attention")
    want = np.array([block_oracles.indexed_attention(config, weights, array(one)) for one in x])
    got = in_way(way, attention_step(model), x, model.new_cache(2, LENGTH + 1))
    assert_close(got, want, 2e-6)


def test_the_choice_bites_in_the_oracle() -> None:
    """Else the test above would not see an indexer that chooses wrongly."""
    weights = under(
        arrays(made(tiny_model(attention=MSA, hidden_size=12, num_hidden_layers=1))),
        "layers.0.attention",
    )
    x = array(noise(1, LENGTH, 12, seed=1))[0]
    chosen = block_oracles.msa_chosen(MSA, weights, x)
    sizes = [len(positions) for positions in chosen[-1]]
    assert sizes == [3, 3]  # position 8 opens a block of 2: one whole block, and itself
    assert any(one[0] != one[1] for one in chosen)  # heads choose differently


def test_the_choice_of_groups_bites_in_the_oracle() -> None:
    """Of 4 whole groups of 2 a query reads 2, and position 8 besides: the tail."""
    weights = under(
        arrays(made(tiny_model(attention=QSA, hidden_size=12, num_hidden_layers=1))),
        "layers.0.attention",
    )
    x = array(noise(1, LENGTH, 12, seed=1))[0]
    chosen = block_oracles.qsa_chosen(QSA, weights, x)
    assert [len(positions) for positions in chosen[-1]] == [5, 5]
    assert chosen[-1][0][:4] != [4, 5, 6, 7]  # not merely the newest
