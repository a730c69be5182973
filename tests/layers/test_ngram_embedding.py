"""N-gram embedding: every part by hand, and the counts of LongCat-Flash-Lite."""

import pytest

from costmodel.costs.predict import step_costs
from costmodel.inputs.catalog import load_model
from costmodel.inputs.workload import Workload
from costmodel.layers.ngram_embedding import NgramEmbedding
from costmodel.layers.operator import Operator
from costmodel.layers.site import Site
from tests.steps import flops, make_step, quantity, tiny_model, weights

LONGCAT = "longcat-flash-lite"
# D = 8, n = 3, k = 1: two tables of 2 x 5 + 1 and 2 x 5 + 3 rows of 4 values
KIND = NgramEmbedding(vocab_size=5, emb_neighbor_num=3, emb_split_num=1, ngram_vocab_size_ratio=2)


def listed(batch: int = 3, new_tokens: int = 1, dtype: str = "bf16") -> dict[str, Operator]:
    step = make_step(batch=batch, new_tokens=new_tokens, dtype=dtype)
    return {op.leaf: op for op in KIND.operators(Site.of((), 8, KIND), step)}


def test_every_part_by_hand() -> None:
    ops = listed()
    assert {op.path: flops(op) for op in ops.values()} == {
        "ngram_embedding.hash": {},
        "ngram_embedding.rows": {},
        "ngram_embedding.project": {
            "gemm": ("matmul", 3 * 2 * 8 * 8),  # two tables: 2 x 2 x 4 x 8 a token
            "mean": ("elementwise", 3 * 2 * 8),  # the word's row is added, the sum divided
        },
    }
    assert sum(op.total("compares") for op in ops.values()) == 0


def test_parameters_by_hand() -> None:
    ops = listed()
    assert weights(ops["ngram_embedding.rows"]) == {"weight": ("memory_values", 11 + 13, 4)}
    assert weights(ops["ngram_embedding.project"]) == {"weight": ("memory_projections", 8, 8)}
    kept = {buffer.name: buffer.elements for buffer in ops["ngram_embedding.hash"].buffers}
    assert kept == {"moduli": 2, "starts": 2}


@pytest.mark.parametrize(("dtype", "row"), [("bf16", 8), ("int8", 6), ("int4", 5)])
def test_rows_of_two_tokens_by_enumeration(dtype: str, row: int) -> None:
    rows = listed(2, dtype=dtype)["ngram_embedding.rows"]
    distinct = sum(2 - 1 / table for table in (11, 13))  # two draws are alike once in `table`
    assert rows.total("row_bytes") == pytest.approx(distinct * row, rel=1e-12)


def test_ids_and_rows_that_move_by_hand() -> None:
    ops = listed(3, new_tokens=5)
    # two past ids of each sequence, then the new ones; a row's number of each of two tables
    assert quantity(ops["ngram_embedding.hash"], "activation_bytes") == {
        "hash": 3 * (2 + 5) * 8 + 15 * 2 * 8
    }
    assert quantity(ops["ngram_embedding.rows"], "activation_bytes") == {
        "rows": 15 * 2 * 8 + 15 * 8 * 2
    }
    assert ops["ngram_embedding.project"].total("input_bytes") == 2 * 15 * 8 * 2


def test_it_stands_at_the_input_after_the_history_of_ids() -> None:
    operators = step_costs(tiny_model(memory=(KIND,)), make_step(batch=3)).operators
    assert [op.path for op in operators][:5] == [
        "embed",
        "token_history",
        "ngram_embedding.hash",
        "ngram_embedding.rows",
        "ngram_embedding.project",
    ]
    history = operators[1]
    assert quantity(history, "io_bytes") == {"window": 2 * 3 * 2 * 8}  # read, and kept


def test_tables_of_longcat_flash_lite() -> None:
    """12 tables of 78 x 131,072 + 2 i + 1 rows of 3,072 / 12 values."""
    rows = sum(78 * 131072 + 2 * i + 1 for i in range(12))
    assert rows == 122_683_536
    costs = step_costs(load_model(LONGCAT), Workload(batch=1).step())
    by_leaf = {op.leaf: op for op in costs.operators}
    assert weights(by_leaf["ngram_embedding.rows"])["weight"] == ("memory_values", rows, 256)
    assert costs.parameters.by_group["memory_values"] == 31_406_985_216
    assert costs.parameters.by_group["memory_projections"] == 9_437_184
    assert costs.totals.row_bytes == pytest.approx(12 * 256 * 2, rel=1e-9)  # 6,144 a token
    (gemm, _) = by_leaf["ngram_embedding.project"].parts
    assert gemm.flops == 2 * 3072**2
    assert by_leaf["ngram_embedding.hash"].total("flops") == 0  # integers


def test_longcat_has_its_tables_and_all_other_parameters() -> None:
    costs = step_costs(load_model(LONGCAT), Workload().step())
    assert costs.parameters.total == 68_562_459_648
    assert costs.parameters.total - costs.parameters.by_group["memory_values"] == 37_155_474_432
