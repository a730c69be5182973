"""Hashed n-gram tables: every part by hand, the published counts, primes by trial division."""

from typing import Any

import pytest

from costmodel.costs.table_rows import with_table_rows
from costmodel.costs.totals import distinct, parameter_counts
from costmodel.layers.ngram import Ngram
from costmodel.layers.operator import Operator
from costmodel.layers.primes import consecutive_primes
from costmodel.layers.site import Site
from tests.steps import flops, make_step, one_layer, quantity, tiny_model, total, weights

# N = 3, K = 2: Q = 4 columns of 7, 11, 13 and 17 rows; d = 4, c = 2, D = 8
SIZES: dict[str, Any] = {
    "layers": "0",
    "max_ngram_size": 3,
    "num_heads": 2,
    "vocab_size_base": 6,
    "head_dim": 4,
    "streams": 2,
}
# V4.1-Flash (D = 5,120), the paper's demo (D = 1,024), Qwen3.8-Flash-Next (D = 2,560): configs
V41 = Ngram(
    layers="1,14",
    max_ngram_size=4,
    num_heads=8,
    vocab_size_base=16_000_000,
    head_dim=256,
    streams=4,
)
DEMO = Ngram(
    layers="1,15",
    max_ngram_size=3,
    num_heads=8,
    vocab_size_base=646_400,
    head_dim=64,
    streams=4,
    bias=True,
    conv_kernel=4,
)
QWEN = Ngram(
    layers="1",
    max_ngram_size=3,
    num_heads=8,
    vocab_size_base=20_000_000,
    divisible_by=128,
    head_dim=160,
    streams=4,
    conv_kernel=4,
)


def layer(
    tokens: int = 3,
    dtype: str = "bf16",
    **fields: Any,  # noqa: ANN401
) -> dict[str, Operator]:
    step = make_step(batch=tokens, dtype=dtype)
    found = one_layer(Ngram(**(SIZES | fields)), step, hidden_size=8)
    return {leaf.removeprefix("ngram."): op for leaf, op in found.items()}


def test_every_part_by_hand() -> None:
    ops = layer(bias=True)
    assert list(ops) == ["hash", "rows", "project", "gate"]
    assert {leaf: flops(op) for leaf, op in ops.items()} == {
        "hash": {},
        "rows": {},
        "project": {
            "gemm": ("matmul", 3 * 2 * (4 * 4) * (8 * 3)),
            "bias": ("elementwise", 3 * 8 * 3),
        },
        "gate": {
            "norms": ("norm", 3 * 2 * 4 * (2 * 8)),
            # multiply-adds of each stream's dot; scale, root, sign, and three of the sigmoid
            "gates": ("elementwise", 3 * 2 * (2 * 8 + 6)),
            "product": ("elementwise", 3 * 2 * 8),
            "sum": ("elementwise", 3 * 8),  # two streams: one addition
        },
    }
    assert [op.kind for op in ops.values()] == ["selection", "gather", "matmul", "elementwise"]
    assert all(op.total("compares") == 0 for op in ops.values())


def test_a_plain_stream_has_no_sum_of_streams() -> None:
    gate = layer(streams=1)["gate"]
    assert [part.name for part in gate.parts] == ["norms", "gates", "product"]
    # value and hidden state in, one key; gated value out
    assert gate.total("activation_bytes") == 3 * 8 * (3 + 1) * 2


def test_parameters_and_buffers_by_hand() -> None:
    ops = layer(bias=True, conv_kernel=3)
    assert {leaf: weights(op) for leaf, op in ops.items()} == {
        "hash": {},
        "rows": {"weight": ("memory_values", 7 + 11 + 13 + 17, 4)},
        "project": {
            "weight": ("memory_projections", 24, 16),
            "bias": ("memory_projections", 24, 1),
        },
        "gate": {"q_norm": ("norm", 16, 1), "k_norm": ("norm", 16, 1)},
        "conv": {"norm": ("norm", 16, 1), "weight": ("memory_projections", 16, 3)},
    }
    assert {b.name: b.elements for b in ops["hash"].buffers} == {
        "factors": 3,
        "moduli": 4,
        "starts": 4,
    }
    assert [w.active_parameters for w in ops["rows"].weights] == [4 * 4]


def test_the_convolution_by_hand() -> None:
    """Three sequences of one token: taps at 0, 3 and 6 tokens back, of a state of 6."""
    conv = layer(conv_kernel=3)["conv"]
    wide = 3 * 2 * 8
    assert flops(conv) == {
        "norm": ("norm", 4 * wide),
        "taps": ("elementwise", 2 * 3 * wide),
        "activation": ("elementwise", (4 + 1) * wide),
        "sum": ("elementwise", 3 * 8),
    }
    assert quantity(conv, "state_read_bytes") == {"taps": 2 * wide * 2}
    assert quantity(conv, "state_written_bytes") == {"taps": wide * 2}
    kind, step = Ngram(**(SIZES | {"conv_kernel": 3})), make_step()
    assert kind.state_bytes(8, step) == 2 * 3 * 2 * 8 * 2
    assert Ngram(**SIZES).state_bytes(8, step) == 0


@pytest.mark.parametrize("new", [1, 2, 3, 4, 5, 6, 7, 20])
def test_the_state_is_read_where_taps_reach_it_and_written_where_it_is_new(new: int) -> None:
    reach = {t - 3 * tap for t in range(new) for tap in (1, 2)}
    kept = {place for place in range(new) if place >= new - 6}
    kind = Ngram(**(SIZES | {"conv_kernel": 3}))
    conv = one_layer(kind, make_step(batch=2, new_tokens=new), hidden_size=8)["ngram.conv"]
    vector = 2 * 2 * 8 * 2  # of two sequences
    assert conv.total("state_read_bytes") == vector * len([p for p in reach if p < 0])
    assert conv.total("state_written_bytes") == vector * len(kept)


@pytest.mark.parametrize(
    ("dtype", "row"),
    # int4: four elements, a 16-bit scale and a 4-bit zero point are 36 bits
    [("bf16", 8), ("fp8", 8), ("int8", 6), ("memory_values=int4:32", 5)],
)
def test_distinct_rows_by_enumerating_all_hashes(dtype: str, row: int) -> None:
    """Two tokens: a column of P rows gives 1 row with probability 1/P, else 2."""
    rows = layer(2, dtype)["rows"]
    mean = sum(1 / p + 2 * (1 - 1 / p) for p in (7, 11, 13, 17))
    assert rows.touched is not None
    assert rows.touched.distinct == pytest.approx(mean, rel=1e-12)
    assert rows.touched.population == 48
    assert rows.touched.chosen_by == "ngram.hash"
    assert rows.total("row_bytes") == pytest.approx(mean * row, rel=1e-12)


def test_activations_between_operators_by_hand() -> None:
    ops = layer(conv_kernel=3)
    # one new id and two past ones of each sequence; a row number of each column
    assert ops["hash"].total("activation_bytes") == 3 * 3 * 8 + 3 * 4 * 8
    assert ops["hash"].total("compulsory_bytes") == (3 + 4 + 4) * 8
    assert ops["rows"].total("activation_bytes") == 3 * 4 * (8 + 4 * 2)
    # hidden state, two keys and the value; two gated values, which a convolution follows
    assert ops["gate"].total("activation_bytes") == 3 * 8 * (1 + 3 + 2) * 2
    assert ops["conv"].total("activation_bytes") == 3 * 8 * (2 + 2 + 1) * 2


def test_layers_have_tables_of_their_own_in_operators_of_their_own() -> None:
    kind = Ngram(**(SIZES | {"layers": "0,2"}))
    ops = kind.operators(Site.of((0, 2), 8), make_step(batch=1))
    assert [op.path for op in ops] == [
        "layers.0.ngram.hash",
        "layers.0.ngram.rows",
        "layers.2.ngram.hash",
        "layers.2.ngram.rows",
        "layers.{0,2}.ngram.project",
        "layers.{0,2}.ngram.gate",
    ]
    assert [w.rows for op in ops for w in op.weights if w.group == "memory_values"] == [
        7 + 11 + 13 + 17,
        19 + 23 + 29 + 31,
    ]
    found = distinct(ops)
    assert (found.rows, found.rows_union) == (4, None)


def test_rows_in_sectors_are_those_of_the_layers_own_table() -> None:
    """A row of 10 bytes has neighbours in its sectors: far fewer in the larger table."""
    kind = Ngram(**(SIZES | {"layers": "0,1", "head_dim": 5}))
    step = make_step(batch=1)
    ops = with_table_rows(kind.operators(Site.of((0, 1), 8), step), step)
    sectors = [op.rows.sector_bytes for op in ops if op.rows is not None]
    # four rows among 48 and among 102, each (10 + 32 - 2) / 32 sectors if no other is near
    assert sectors[0] < sectors[1] < 4 * 32 * (10 + 32 - 2) / 32


def test_deepseek_v4_1_flash() -> None:
    assert V41.table_rows(2) == (384_006_168, 384_016_682)
    step = make_step(dtype="bf16")
    ops = V41.operators(Site.of((1, 14), 5120), step)
    tables = [w for op in ops for w in op.weights if w.group == "memory_values"]
    assert [w.parameters for w in tables] == [384_006_168 * 256, 384_016_682 * 256]
    assert sum(w.parameters for w in tables) == 196_613_849_600
    assert [w.active_rows for w in tables] == [24, 24]
    (project,) = (op for op in ops if op.leaf == "ngram.project")
    assert weights(project) == {"weight": ("memory_projections", 25_600, 6144)}
    assert total([project], "flops") == 2 * 2 * 6144 * 25_600
    # two layers: wkv and two weight vectors of each stream
    assert parameter_counts(ops).total == 196_613_849_600 + 2 * 157_327_360
    assert V41.past_ids == 3
    assert V41.state_bytes(5120, step) == 0


def test_the_papers_demo() -> None:
    assert sum(DEMO.table_rows(2)) == 20_692_406
    ops = DEMO.operators(Site.of((1, 15), 1024), make_step())
    assert parameter_counts(ops).total == 1_334_867_328
    tables = [w for op in ops for w in op.weights if w.group == "memory_values"]
    assert sum(w.parameters for w in tables) == 1_324_313_984
    assert [w.active_parameters * 2 for w in tables] == [2048, 2048]  # bytes a token and layer


def test_qwen3_8_flash_next() -> None:
    assert QWEN.table_rows(1) == (320_001_536,)
    step = make_step()
    counts = parameter_counts(QWEN.operators(Site.of((1,), 2560), step)).by_group
    assert counts["memory_values"] == 51_200_245_760
    assert counts["memory_projections"] == 32_808_960  # with the convolution
    assert counts["norm"] == 3 * 4 * 2560
    assert QWEN.state_bytes(2560, step) == 184_320
    assert QWEN.past_ids == 2


def test_primes_by_trial_division() -> None:
    def is_prime(number: int) -> bool:
        return number > 1 and all(number % factor for factor in range(2, number))

    primes = [number for number in range(2000) if is_prime(number)]
    for least in (2, 3, 14, 997, 1000):
        start = next(i for i, prime in enumerate(primes) if prime >= least)
        assert consecutive_primes(least, 40) == tuple(primes[start : start + 40])


def test_what_a_layer_may_not_be() -> None:
    for fields, rule in (
        ({"num_embeddings": (48,)}, "states 1 tables; memory.layers='0,2' has 2"),
        ({"num_embeddings": (48, 101)}, "num_embeddings=101: is less than the 102 rows of the 4"),
        ({"layers": "0:2"}, "skips blocks"),
        ({"max_ngram_size": 8, "num_heads": 64, "layers": "0-9"}, "makes 4,480 columns"),
    ):
        kind = Ngram(**(SIZES | {"layers": "0,2"} | fields))
        with pytest.raises(ValueError, match=rule):
            tiny_model(num_hidden_layers=10, memory=(kind,))
    stated = Ngram(**(SIZES | {"layers": "0,2", "num_embeddings": (50, 110)}))
    assert tiny_model(memory=(stated,)).memory == (stated,)
    assert stated.table_rows(2) == (50, 110)
    with pytest.raises(ValueError, match="max_ngram_size"):
        Ngram(**(SIZES | {"max_ngram_size": 1}))
