"""Logical bytes by hand: of single operations, and of leaves of tiny models."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn import functional

from costmodel.costs.operators import build_operators
from costmodel.layers.site import expanded_paths
from profiler.runs.operand_bytes import _OperandBytes, operand_bytes
from reference_model.moe import grouped_mm
from tests.profiler.runs.cases import DECODE, PREFILL, case_of, step_of
from tests.reference_model.tiny import MODELS, small

FLOAT, INDEX = 4, 8  # bytes of a float32 and of an index
X = torch.ones(3, 5)
CUBE = torch.ones(2, 3, 5)
TABLE = torch.ones(100, 5)
PLACES = torch.tensor([7, 7, 99])
PAIRS = torch.tensor([[7, 7], [99, 0]])
HALVES = torch.full((2, 2), 0.5)


def moved(run: Callable[[], object]) -> int:
    traffic = _OperandBytes()
    with torch.no_grad(), traffic:
        run()
    return traffic.bytes


BY_HAND: dict[str, tuple[Callable[[], object], int]] = {
    # every operand once, every result once
    "add": (lambda: X + X.mT.mT, 3 * 15 * FLOAT),
    "add a number": (lambda: X + 1, 2 * 15 * FLOAT),
    "add in place": (lambda: X.clone().add_(1), 2 * 15 * FLOAT + 2 * 15 * FLOAT),
    "product": (lambda: functional.linear(X, TABLE), (15 + 500 + 300) * FLOAT),
    "product and bias": (
        lambda: functional.linear(X, TABLE, TABLE[:, 0]),
        (15 + 500 + 100 + 300) * FLOAT,
    ),
    "product of stacks": (lambda: CUBE @ CUBE.mT, (30 + 30 + 18) * FLOAT),
    "join": (lambda: torch.cat([X, X]), 60 * FLOAT),
    "two results": (lambda: X.topk(2), 15 * FLOAT + 6 * FLOAT + 6 * INDEX),
    "cast": (lambda: X.to(torch.bfloat16), 15 * FLOAT + 15 * 2),
    # a broadcast operand is read once, its copy is written in full
    "broadcast": (lambda: X[:1].expand(8, 5) * 2, 5 * FLOAT + 40 * FLOAT),
    "broadcast and copied": (
        lambda: X[:, :, None].expand(3, 5, 4).contiguous(),
        15 * FLOAT + 60 * FLOAT,
    ),
    # only what is chosen
    "embedding": (lambda: functional.embedding(PLACES, TABLE), 3 * INDEX + 2 * 15 * FLOAT),
    "index": (lambda: TABLE[PLACES], 3 * INDEX + 2 * 15 * FLOAT),
    "select": (lambda: TABLE.index_select(0, PLACES), 3 * INDEX + 2 * 15 * FLOAT),
    "gather": (lambda: TABLE.gather(0, PLACES[:, None]), 3 * INDEX + 2 * 3 * FLOAT),
    # 2 bags of 2 rows of 5, with 4 indices, 4 weights and 2 offsets, which are written first
    "bags": (
        lambda: functional.embedding_bag(PAIRS, TABLE, per_sample_weights=HALVES, mode="sum"),
        4 * 5 * FLOAT + 4 * INDEX + 4 * FLOAT + 2 * INDEX + 2 * 5 * FLOAT + 2 * INDEX,
    ),
    # only what is written: a place is not read
    "copy": (lambda: torch.empty(3, 5).copy_(X), 2 * 15 * FLOAT),
    "slice assigned": (lambda: TABLE.clone()[10:13].copy_(X), 2 * 500 * FLOAT + 2 * 15 * FLOAT),
    "broadcast assigned": (lambda: torch.empty(3, 5).copy_(X[:1]), (5 + 15) * FLOAT),
    "rows assigned": (
        lambda: TABLE.clone().index_copy_(0, PLACES, X),
        2 * 500 * FLOAT + 3 * INDEX + 30 * FLOAT,
    ),
    "zeros": (lambda: torch.zeros_like(X), 15 * FLOAT),
    "positions": (lambda: torch.arange(6), 6 * INDEX),
    # nothing
    "views": (
        lambda: (X.view(15), X.mT, X[1:], X[None], X.unflatten(1, (5, 1)), X.split(1), X.detach()),
        0,
    ),
    "views of stacks": (lambda: (CUBE.permute(2, 0, 1), CUBE.flatten(1), CUBE.diagonal()), 0),
    "room": (lambda: (torch.empty(9, 9), torch.empty_like(X), X.new_empty(7)), 0),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_an_operation_moves_what_a_hand_count_says(name: str) -> None:
    run, want = BY_HAND[name]
    assert moved(run) == want


def test_rows_put_at_indices_are_not_read_before() -> None:
    table = TABLE.clone()

    def put() -> None:
        table[PLACES] = X

    assert moved(put) == 3 * INDEX + 2 * 15 * FLOAT


@pytest.mark.parametrize(
    ("ends", "touched"), [([2, 4, 6], 3), ([0, 6, 6], 1), ([1, 1, 6], 2), ([6, 6, 6], 1)]
)
def test_grouped_products_read_the_weights_of_groups_that_have_rows(
    ends: list[int], touched: int
) -> None:
    x = torch.ones(6, 8, dtype=torch.bfloat16)
    weight = torch.ones(3, 16, 8, dtype=torch.bfloat16)
    offsets = torch.tensor(ends, dtype=torch.int32)
    want = 2 * (6 * 8 + touched * 16 * 8 + 6 * 16) + 3 * 4
    assert moved(lambda: grouped_mm(x, weight, offsets)) == want


def test_leaves_of_a_tiny_model_by_hand() -> None:
    """D = 16, 3 sequences, vocabulary 23, bf16; qkv 32 wide, FFN 16 and gated."""
    by_leaf = operand_bytes(case_of(small(num_hidden_layers=1), dtype="bf16", batch=3, context=6))
    x = 3 * 16
    assert by_leaf["embed"] == 3 * 8 + 2 * 2 * x
    assert by_leaf["layers.0.attention.qkv"] == 2 * (x + 16 * 32 + 3 * 32)
    assert by_leaf["layers.0.attention.output"] == 2 * (3 * 16 + 16 * 16 + x)
    # the product, silu of one half, its product with the other
    assert by_leaf["layers.0.ffn.gate_up"] == 2 * (x + 16 * 32 + 3 * 32 + 2 * 3 * 16 + 3 * 3 * 16)
    assert by_leaf["layers.0.ffn.down"] == 2 * (3 * 16 + 16 * 16 + x)
    assert by_leaf["lm_head"] == 2 * (x + 16 * 23 + 3 * 23)


@pytest.mark.parametrize("phase", [DECODE, PREFILL], ids=["decode", "prefill"])
@pytest.mark.parametrize("name", MODELS)
def test_no_leaf_moves_less_than_it_must(name: str, phase: dict[str, Any]) -> None:
    """What it must is the cost model's compulsory bytes."""
    case = case_of(name, **phase, dtype="bf16")
    by_leaf = operand_bytes(case)
    operators = build_operators(case.model.config, step_of(case.workload))
    assert set(by_leaf) == {path for op in operators for path in expanded_paths(op.path)}
    for operator in operators:
        if not operator.path.endswith("moe.experts"):  # the expected ones, not those chosen here
            for path in expanded_paths(operator.path):
                assert by_leaf[path] >= operator.compulsory_bytes, path


def test_what_is_chosen_changes_the_bytes() -> None:
    """All tokens choose from 8 experts, or nearly all the same two."""
    even, steep = (
        operand_bytes(case_of("moe", batch=16, dtype="bf16", routing=routing))
        for routing in ("uniform", "zipf:10")
    )
    experts = {path for path in even if path.endswith("experts")}
    assert len(experts) == 4
    for path, count in even.items():
        if path in experts:
            # of each expert that is not touched, 3 matrices of 16 x 8
            saved = count - steep[path]
            assert saved > 0
            assert saved % (3 * 16 * 8 * 2) == 0
        else:
            assert count == steep[path]
