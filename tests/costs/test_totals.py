"""Sums over operators: parameters by convention, FLOPs, bytes, KV cache and distinct items."""

from types import SimpleNamespace
from typing import Any

import pytest

from costmodel.costs.operators import build_operators
from costmodel.costs.totals import (
    KINDS,
    distinct,
    flops_by_kind,
    kept_bytes,
    kv_bytes_per_token,
    kv_cache,
    parameter_counts,
    routing_totals,
    stored_weights,
    totals,
)
from costmodel.inputs.model import ModelConfig, Override
from costmodel.layers.attention import Attention
from costmodel.layers.ffn import DenseFfn
from costmodel.layers.moe import MoeFfn
from costmodel.layers.operator import QUANTITIES, Operator, OperatorKind, Part, Weight
from costmodel.layers.product_key import ProductKey
from costmodel.layers.short_conv import ShortConv
from costmodel.layers.touched import Touched
from costmodel.layers.ultramem import UltraMem
from tests.steps import make_step, tiny_model


def operator(count: int = 1, *parts: Part, **fields: Any) -> Operator:  # noqa: ANN401
    return Operator(
        path="x", leaf="x", count=count, kind="matmul", parts=parts, formula="", source="", **fields
    )


def part(kind: OperatorKind = "matmul", *, routing: bool = False, **numbers: Any) -> Part:  # noqa: ANN401
    return Part(name="p", kind=kind, routing=routing, **numbers)


def test_totals_are_parts_times_counts() -> None:
    numbers = {name: 10**i for i, name in enumerate(QUANTITIES)}
    ops = [operator(2, part(**numbers), part(**numbers)), operator(5, part(**numbers))]
    sums = totals(ops)
    for name, number in numbers.items():
        assert getattr(sums, name) == (2 * 2 + 5) * number
    bytes_of = (
        *("weight", "kv_read", "kv_written", "state_read", "state_written"),
        *("row", "index", "io_read", "io_written"),
    )
    assert sums.compulsory_bytes == 9 * sum(numbers[f"{name}_bytes"] for name in bytes_of)


def test_no_operators_cost_nothing() -> None:
    assert totals([]).compulsory_bytes == 0
    assert flops_by_kind([]) == dict.fromkeys(KINDS, 0)
    assert parameter_counts([]).total == 0
    assert distinct([]).experts is None
    assert distinct([]).rows is None
    assert distinct([]).rows_union is None


def test_totals_past_64_bits_stay_exact() -> None:
    sums = totals([operator(3, part(flops=2**80 + 1), part(flops=1))])
    assert sums.flops == 3 * (2**80 + 2)


def test_routing_sums_only_the_parts_that_choose() -> None:
    ops = [operator(3, part(routing=True, flops=5), part(flops=100))]
    assert routing_totals(ops).flops == 15
    assert totals(ops).flops == 315


def test_flops_by_kind_take_the_parts_kind_not_the_operators() -> None:
    ops = [
        operator(2, part("norm", flops=3), part("gather", flops=5)),
        operator(1, part("norm", flops=7)),
    ]
    assert flops_by_kind(ops) == dict.fromkeys(KINDS, 0) | {"norm": 13, "gather": 10}


def test_a_shared_tensor_is_stored_once_and_active_wherever_it_is_used() -> None:
    table = Weight(name="w", group="memory_values", rows=50, cols=2, active_rows=3, shared="t")
    own = Weight(name="w", group="ffn", rows=4, cols=5)
    ops = [operator(4, weights=(table, own)), operator(2, weights=(table,))]
    assert list(stored_weights(ops)) == [(table, 1), (own, 4)]
    counts = parameter_counts(ops)
    assert counts.by_group == {"memory_values": 100, "ffn": 80}
    assert counts.total == counts.total_without_embeddings == 180
    assert counts.active_without_embeddings == 6 * 3 * 2 + 80


def test_no_more_parameters_are_active_than_are_stored() -> None:
    """A token of many heads may read more rows than a tiny table has."""
    own = Weight(name="w", group="memory_values", rows=4, cols=2, active_rows=6)
    shared = Weight(name="w", group="memory_values", rows=7, cols=2, active_rows=3, shared="t")
    counts = parameter_counts([operator(3, weights=(own, shared))])
    assert counts.total == counts.active_without_embeddings == 3 * 4 * 2 + 7 * 2


# D = 8, V = 11, L = 3: attention 8 x 16 + 8 x 8 = 192, FFN 3 x 8 x 12 = 288, two norms of 8
BLOCK = 192 + 288 + 16


@pytest.mark.parametrize(
    ("tied", "total", "head_only", "both"),
    [(False, 2 * 88, 88, 176), (True, 88, 88, 88)],
)
def test_parameters_by_convention_by_hand(
    *, tied: bool, total: int, head_only: int, both: int
) -> None:
    counts = parameter_counts(
        build_operators(tiny_model(tie_word_embeddings=tied), make_step(batch=5))
    )
    body = 3 * BLOCK + 8  # and the last norm
    assert counts.total == body + total
    assert counts.total_without_embeddings == counts.active_without_embeddings == body
    assert counts.active_with_lm_head == body + head_only
    assert counts.active_with_embeddings == body + both
    groups = {"embedding": 88, "lm_head": 88, "attention": 3 * 192, "ffn": 3 * 288, "norm": 56}
    if tied:
        del groups["lm_head"]
    assert counts.by_group == groups


def test_active_experts_by_hand() -> None:
    """One dense layer, then two with 2 of 4 experts of 6, a shared one of 4, and router biases."""
    moe = MoeFfn(
        num_experts=4,
        num_experts_per_tok=2,
        moe_intermediate_size=6,
        shared_intermediate_size=4,
        router_bias=True,
        score_correction_bias=True,
    )
    model = tiny_model(
        ffn=moe, overrides=(Override(layers="0", ffn=DenseFfn(intermediate_size=12)),)
    )
    counts = parameter_counts(build_operators(model, make_step()))
    router = 4 * 8 + 4 + 4
    assert counts.by_group == {
        "embedding": 88,
        "attention": 3 * 192,
        "ffn": 288,
        "router": 2 * router,
        "experts": 2 * 4 * 3 * 8 * 6,
        "shared_experts": 2 * 3 * 8 * 4,
        "norm": 56,
        "lm_head": 88,
    }
    body = 3 * 192 + 288 + 2 * (router + 3 * 8 * 4) + 56
    assert counts.total_without_embeddings == body + 2 * 4 * 144
    assert counts.active_without_embeddings == body + 2 * 2 * 144


def windowed(*, window: int | None) -> ModelConfig:
    """Three layers, the middle one with a window."""
    middle = Attention(
        num_attention_heads=2, num_key_value_heads=2, head_dim=4, sliding_window=window
    )
    return tiny_model(overrides=(Override(layers="1", attention=middle),))


@pytest.mark.parametrize(
    ("cached", "new", "kept", "read", "written"),
    [
        (0, 1, 1, 0, 1),
        (2, 1, 3, 2, 1),
        (3, 1, 3, 2, 1),
        (9, 1, 3, 2, 1),
        (9, 5, 3, 2, 3),
        (0, 7, 3, 0, 3),
        (1, 7, 3, 1, 3),
    ],
)
def test_stored_read_and_written_cache_by_hand(
    cached: int, new: int, kept: int, read: int, written: int
) -> None:
    # a window of 3; two layers of one head (16 bytes a token), one of two (32)
    model = windowed(window=3)
    step = make_step(batch=4, cached=cached, new_tokens=new)
    kv = kv_cache(model, step, totals(build_operators(model, step)))
    assert kv.bytes_per_token == 16 + 32 + 16
    assert kv.stored_bytes == 4 * (2 * 16 * (cached + new) + 32 * kept)
    assert kv.read_bytes == 4 * (2 * 16 * cached + 32 * read)
    assert kv.written_bytes == 4 * (2 * 16 * new + 32 * written)


def test_windows_that_are_kept_whole_store_all_tokens_and_read_the_window() -> None:
    step = make_step(batch=4, cached=9, new_tokens=5, window_cache="whole")
    model = windowed(window=3)  # two layers of 16 bytes a token, one of 32 with the window
    kv = kv_cache(model, step, totals(build_operators(model, step)))
    assert kv.stored_bytes == 4 * 64 * (9 + 5)
    assert kv.read_bytes == 4 * (32 * 9 + 32 * 2)
    assert kv.written_bytes == 4 * 64 * 5


def test_cache_bytes_by_format() -> None:
    model = windowed(window=None)
    assert kv_bytes_per_token(model, make_step(kv_dtype="bf16")) == 64
    scales = 8 * 4  # of 8 vectors
    assert kv_bytes_per_token(model, make_step(kv_dtype="fp8")) == 64 // 2 + scales


def touched(kind: Any, expected: float, **fields: Any) -> Touched:  # noqa: ANN401
    return Touched(kind=kind, distinct=expected, population=10, chosen_by="moe.router", **fields)


def test_distinct_items_are_means_over_the_layers_that_have_them() -> None:
    ops = [
        operator(3, touched=touched("experts", 4.0)),
        operator(1, touched=touched("experts", 8.0)),
        operator(2, touched=touched("rows", 5.0)),
        operator(7),
    ]
    means = distinct(ops)
    assert means.experts == (3 * 4 + 8) / 4
    assert means.rows == 5
    assert means.rows_union is None  # no layer shares


def test_unions_of_several_tables_add_up() -> None:
    # two layers over all 10 rows, 5 each: 10 (1 - 1/4); one with 3 rows of its own
    windows = ((0, 10), (0, 10))
    ops = [
        operator(2, touched=touched("rows", 5.0, windows=windows, table_rows=10)),
        operator(1, touched=touched("rows", 3.0)),
    ]
    assert distinct(ops).rows_union == pytest.approx(7.5 + 3)
    assert distinct(ops).rows == pytest.approx(13 / 3)


def test_two_memories_of_a_model_have_tables_of_their_own() -> None:
    memory = tuple(
        UltraMem(layers=layers, knum=3, share_ratio=0.5, knn=2, key_dim=4, value_dim=4)
        for layers in ("0", "1-2")
    )
    counts = parameter_counts(build_operators(tiny_model(memory=memory), make_step()))
    assert counts.by_group["memory_values"] == 9 * 4 + 18 * 4
    product = tuple(
        ProductKey(layers=layers, num_keys=3, num_heads=1, knn=2, key_dim=4, value_dim=8)
        for layers in ("0", "1-2")
    )
    counts = parameter_counts(build_operators(tiny_model(memory=product), make_step()))
    assert counts.by_group["memory_values"] == 2 * 9 * 8


def test_states_and_caches_of_a_hybrid_by_hand() -> None:
    """Three convolutions that keep 3 x 8 elements of 2 bytes, two of attention: 2 x 1 head of 4."""
    attention = Attention(num_attention_heads=2, num_key_value_heads=1, head_dim=4)
    hybrid: Any = SimpleNamespace(
        hidden_size=8,
        attention_groups=[(ShortConv(conv_L_cache=4), (0, 2, 4)), (attention, (1, 3))],
        memory=(),
    )
    stored, state = kept_bytes(hybrid, make_step(batch=5, cached=6))
    assert state == 3 * (3 * 8 * 2)  # of a sequence, whatever it holds
    assert stored == 5 * 7 * 2 * (2 * 4 * 2)
    kept = kv_cache(hybrid, make_step(batch=5, cached=6), totals([]))
    assert kept.state_bytes == 5 * state
    assert kept.bytes_per_token == 2 * (2 * 4 * 2)
