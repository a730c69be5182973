"""Hyper-connections: every site by hand, what waits where, the traffic of the streams."""

from dataclasses import replace

import pytest

from costmodel.costs.step import step_costs
from costmodel.inputs.model import ModelConfig
from costmodel.layers.hyper_connections import HyperConnections
from costmodel.layers.ngram import Ngram
from costmodel.layers.operator import Operator
from tests.steps import flops, make_step, quantity, tiny_model, weights

TABLE = Ngram(
    layers="1", max_ngram_size=2, num_heads=1, vocab_size_base=5, head_dim=4, streams=3,
    per_stream=True,
)  # fmt: skip
MIXING = HyperConnections(hc_mult=3, hc_sinkhorn_iters=4)


def model() -> ModelConfig:
    """D = 8, c = 3, r = 4: three blocks, of which the second has a table of bigrams at its head."""
    return tiny_model(hyper_connections=MIXING, memory=(TABLE,))


def listed(batch: int = 1, tokens: int = 2) -> dict[str, Operator]:
    step = make_step(batch=batch, new_tokens=tokens)
    return {op.path: op for op in step_costs(model(), step).operators}


SITE = {  # of 2 tokens, 24 elements of the streams each; 15 numbers of a token: 3 + 3 + 9
    "magnitude": ("norm", 2 * 2 * 24),
    "projection": ("matmul", 2 * 2 * 24 * 15),
    # each by the root, a scale and a bias; two sigmoids of 3 with one operation more
    "weights": ("elementwise", 2 * (3 * 15 + 2 * 3 * (3 + 1))),
    # softmax and a constant; 7 times a sum and a division: columns, and 3 of rows and columns
    "sinkhorn": ("elementwise", 2 * 9 * (4 + 1 + 7 * 2)),
    "collapse": ("elementwise", 2 * 2 * 24),
}
# each of 24 new elements of 3 old ones, and of the output times its weight
OUTPUT = {"residual_add": ("elementwise", 2 * 24 * (3 * 2 + 2))}


def test_sites_and_what_waits_at_each_by_hand() -> None:
    """N = 2. A sublayer's output joins while the streams are mixed; what a table made is added."""
    ops = listed()
    assert flops(ops["residual_expand"]) == {}
    assert flops(ops["layers.0.attention_residual"]) == SITE  # nothing waits
    assert flops(ops["layers.1.ngram_join"]) == OUTPUT  # for the table that reads the streams
    streams = {"residual_add": ("elementwise", 2 * 24)}
    assert flops(ops["layers.1.attention_residual"]) == streams | SITE
    assert flops(ops["layers.2.attention_residual"]) == OUTPUT | SITE
    assert flops(ops["layers.{0-2}.ffn_residual"]) == OUTPUT | SITE


def test_norms_stand_behind_the_sites_and_add_nothing() -> None:
    ops = listed()
    for path in ("layers.{0-2}.attention_norm", "layers.{0-2}.ffn_norm"):
        assert flops(ops[path]) == {"norm": ("norm", 4 * 2 * 8)}
    assert flops(ops["final_norm"]) == {"norm": ("norm", 4 * 8)}  # of the last token
    paths = list(ops)
    assert paths.index("final_norm") == paths.index("final_residual") + 1


def test_the_last_site_has_the_last_tokens_and_only_collapses() -> None:
    """B = 2 sequences of T = 3: two tokens, 3 numbers each."""
    final = listed(batch=2, tokens=3)["final_residual"]
    assert flops(final) == OUTPUT | {
        "magnitude": ("norm", 2 * 2 * 24),
        "projection": ("matmul", 2 * 2 * 24 * 3),
        "weights": ("elementwise", 2 * (3 * 3 + 3 * (3 + 1))),
        "collapse": ("elementwise", 2 * 2 * 24),
    }
    assert weights(final) == {
        "weight": ("residual", 3, 24),
        "bias": ("residual", 3, 1),
        "scale": ("residual", 1, 1),
    }


def test_weights_of_a_site_by_hand() -> None:
    assert weights(listed()["layers.{0-2}.ffn_residual"]) == {
        "weight": ("residual", 15, 24),
        "bias": ("residual", 15, 1),
        "scale": ("residual", 3, 1),
    }


def test_traffic_of_the_streams_by_hand() -> None:
    """Streams of N c D = 48 elements, N D = 16 of an output, 12 weights of a token, of 2 bytes."""
    ops = listed()
    behind_table, behind_ffn = (ops[f"layers.{i}.attention_residual"] for i in (1, 2))
    assert quantity(behind_ffn, "input_bytes") == {"residual_add": (48 + 16 + 2 * 12) * 2}
    assert quantity(behind_table, "input_bytes") == {"residual_add": (48 + 48) * 2}
    written = {"weights": 2 * 3 * 2, "sinkhorn": 2 * 9 * 2, "collapse": 16 * 2}
    assert quantity(behind_ffn, "output_bytes") == {"residual_add": 48 * 2} | written
    first = ops["layers.0.attention_residual"]
    assert quantity(first, "input_bytes") == {"magnitude": 48 * 2}  # streams that stay as they are
    assert quantity(first, "output_bytes") == written


@pytest.mark.parametrize("streams", [2, 4])
def test_a_token_carries_its_streams_from_block_to_block(streams: int) -> None:
    assert (
        tiny_model(hyper_connections=HyperConnections(hc_mult=streams)).stream_width == 8 * streams
    )


def test_in_a_single_pass_a_site_collapses_by_the_weights_of_the_one_before() -> None:
    """No other work; 3 weights of a token pass from site to site, and the end has none."""
    config = replace(model(), hyper_connections=replace(MIXING, single_pass=True))
    step = make_step(batch=1, new_tokens=2)
    ops = {op.path: op for op in step_costs(config, step).operators}
    site = ops["layers.2.attention_residual"]
    assert flops(site) == OUTPUT | SITE
    twice = listed()["layers.2.attention_residual"]
    assert weights(site) == weights(twice)
    passed = 2 * 3 * 2  # N c elements
    assert quantity(site, "input_bytes") == quantity(twice, "input_bytes") | {"collapse": passed}
    assert quantity(site, "output_bytes") == quantity(twice, "output_bytes") | {
        "weights": 2 * passed
    }
    final = ops["final_residual"]
    assert weights(final) == {}
    assert flops(final) == {
        "residual_add": ("elementwise", 24 * (3 * 2 + 2)),
        "collapse": ("elementwise", 2 * 24),
    }
