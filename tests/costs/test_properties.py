"""Laws that hold for every model and step: sums, paths, parameters read once, bounds."""

from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings

from costmodel.costs.footprint import Footprint, footprint
from costmodel.costs.roofline import floor_s
from costmodel.costs.step import step_costs
from costmodel.costs.totals import KINDS, Totals
from costmodel.inputs.model import ModelConfig
from costmodel.layers.attention import Attention
from costmodel.layers.attention_and_mamba2 import AttentionAndMamba2
from costmodel.layers.compressed_attention import CompressedAttention
from costmodel.layers.dtype import parse_dtype
from costmodel.layers.formats import Formats
from costmodel.layers.mla import LatentAttention
from costmodel.layers.msa import BlockSparseAttention
from costmodel.layers.operator import QUANTITIES, Operator, Step
from costmodel.layers.qsa import PooledKeyAttention
from costmodel.layers.site import expanded_paths
from costmodel.routing.popularity import Uniform, Zipf
from tests.backends.kernels import kernels
from tests.steps import changed, make_step
from tests.strategies import PRESETS, models, steps

Check = Callable[[ModelConfig, Step], None]
BYTES_TOUCHED = ("weight_bytes", "row_bytes", "index_bytes")


def near(value: object) -> object:
    return pytest.approx(value, rel=1e-12)


def parts_sum_to_everything(model: ModelConfig, step: Step) -> None:
    costs = step_costs(model, step)
    for name in QUANTITIES:
        of_parts = sum(op.count * getattr(p, name) for op in costs.operators for p in op.parts)
        of_operators = sum(op.count * op.total(name) for op in costs.operators)
        assert getattr(costs.totals, name) == near(of_parts)
        assert of_operators == near(of_parts)
        of_routing = getattr(costs.routing, name)
        assert 0 <= of_routing <= of_parts * (1 + 1e-12)
    assert isinstance(costs.totals.flops, int)
    assert sum(costs.flops_by_kind.values()) == costs.totals.flops
    assert set(costs.flops_by_kind) == set(KINDS)


def compulsory_bytes_are_the_named_ones(model: ModelConfig, step: Step) -> None:
    costs = step_costs(model, step)
    sums, kv = costs.totals, costs.kv_cache
    named = (
        sums.weight_bytes
        + (kv.read_bytes + kv.written_bytes)
        + sums.row_bytes
        + sums.index_bytes
        + sums.io_bytes
        + sums.state_bytes
    )
    assert sums.compulsory_bytes == near(named)
    of_operators = sum(op.count * op.compulsory_bytes for op in costs.operators)
    assert of_operators == near(named)
    last = step.batch if step.logits == "last" else step.tokens
    past = max((memory.past_ids for memory in model.memory), default=0)  # ids, read and kept
    ids = step.tokens + 2 * step.batch * past
    assert sums.io_bytes == ids * 8 + last * model.vocab_size * step.activation_bytes


def each_layer_has_each_path_once(model: ModelConfig, step: Step) -> None:
    operators = step_costs(model, step).operators
    assert all(op.count == len(expanded_paths(op.path)) for op in operators)
    counted = Counter(path for op in operators for path in expanded_paths(op.path))
    assert set(counted.values()) == {1}
    layers = {path.split(".")[1] for path in counted if path.startswith("layers.")}
    assert layers == {str(i) for i in range(model.num_hidden_layers)}
    for i in range(model.num_hidden_layers):
        leaves = {path.split(".", 2)[2] for path in counted if path.startswith(f"layers.{i}.")}
        blocks = {leaf.partition(".")[0] for leaf in leaves}
        mixes, fed = i in model.mixer_layers, bool(blocks & {"ffn", "moe", "memory"})
        assert mixes or fed
        assert ("attention.output" in leaves) == mixes
        source = model.cache_sources.get(i)  # whose cache it reads
        keeps_tokens = model.attention_of(i if source is None else source).kv_token_bytes(step) > 0
        assert ("attention.core" in leaves) == keeps_tokens  # a recurrence has a core of its own
        several = model.residual_streams
        normed = several is None or not several.replaces_norms
        for before, there in (("residual", several is not None), ("norm", normed)):
            mixing = there and mixes and model.block != "norms_behind"
            assert (f"attention_{before}" in leaves) == mixing
            assert (f"ffn_{before}" in leaves) == (there and fed and model.block == "serial")
        beside = any(i == a for placed in model.shortcut_placements for a, _ in placed)
        assert ({"ffn", "moe"} <= blocks) == beside
    for op in operators:
        assert op.parts
        assert op.formula
        assert op.source
        launches = kernels().operator_launches(op)
        assert launches is not None
        assert launches >= 1


def weights_read(op: Operator, step: Step) -> Any:  # noqa: ANN401 - a number
    """Bytes of the parameters that an operator touches, each once; rows of tables apart."""
    share: dict[str, Any] = {}
    if op.touched is not None and op.touched.kind == "experts":
        share["experts"] = op.touched.distinct / op.touched.population
    if op.path == "embed":
        v = op.weights[0].rows
        share["embedding"] = float(1 - Fraction(v - 1, v) ** int(step.tokens))
    return sum(
        w.stored_bytes(step) * share.get(w.group, 1)
        for w in op.weights
        if w.name != "key_norm" and w.group != "memory_values"  # folded; rows
    )


def every_parameter_is_read_once(model: ModelConfig, step: Step) -> None:
    operators = step_costs(model, step).operators
    rows = {
        op.path.rpartition(".")[0]: op.touched.distinct  # by memory: layers.{0-2}.memory
        for op in operators
        if op.touched is not None and op.touched.kind == "rows"
    }  # of one layer, by itself: tests/costs/test_table_rows.py has the union of several
    for op in operators:
        assert op.total("weight_bytes") == near(weights_read(op, step))
        tables = [w for w in op.weights if w.group == "memory_values"]
        row = sum(w.row_bytes(step) for w in tables)
        distinct = rows[op.path.rpartition(".")[0]] if tables else 0
        assert op.row_read_bytes == near(distinct * row)


def parameters_sum_and_active_ones_are_some_of_them(model: ModelConfig, step: Step) -> None:
    costs = step_costs(model, step)
    parameters = costs.parameters
    assert sum(parameters.by_group.values()) == parameters.total
    table = model.vocab_size * model.hidden_size
    both = table if model.tie_word_embeddings else 2 * table
    assert parameters.total == parameters.total_without_embeddings + both
    assert parameters.active_without_embeddings <= parameters.total_without_embeddings
    assert parameters.active_with_lm_head == parameters.active_without_embeddings + table
    assert parameters.active_with_embeddings == parameters.active_without_embeddings + both
    for group in ("attention", "norm", "router", "memory_keys", "memory_projections", "ffn"):
        listed = sum(
            w.parameters * op.count
            for op in costs.operators
            for w in op.weights
            if w.group == group
        )
        assert parameters.by_group.get(group, 0) == listed


def a_bound_is_at_least_each_of_its_terms(model: ModelConfig, step: Step) -> None:
    costs = step_costs(model, step)
    moved, flops = costs.totals.compulsory_bytes, costs.totals.flops
    floor = floor_s(moved, flops, 4.8e12, 989e12)
    assert floor >= moved / 4.8e12
    assert floor >= flops / 989e12
    for op in costs.operators:  # no operator alone is slower than the step
        assert floor >= floor_s(op.compulsory_bytes, op.total("flops"), 4.8e12, 989e12)


def the_largest_batch_fits_exactly(model: ModelConfig, step: Step) -> None:
    def at(batch: int, capacity: int) -> Footprint:
        larger = changed(step, batch=batch)
        costs = step_costs(model, larger)
        return footprint(costs.operators, larger, costs.kv_cache, model.hidden_size, capacity)

    need = int(at(7, 0).total_bytes)
    for capacity, largest in ((need, 7), (need - 1, 6)):
        memory = at(largest + 1, capacity)
        assert not memory.fits
        assert memory.max_batch == largest
        assert at(largest, capacity).fits


def fewer_bits_are_never_more_bytes(model: ModelConfig, step: Step) -> None:
    def at(name: str) -> Totals:
        dtype = parse_dtype(name, field="dtype")
        same = changed(step, formats=Formats(default=dtype), kv_dtype=dtype, activation_bytes=2)
        return step_costs(model, same).totals

    for fewer, more in (("int4", "fp8"), ("int4:32", "fp8"), ("int8", "fp8"), ("fp8", "bf16")):
        small, large = at(fewer), at(more)
        for name in ("weight_bytes", "row_bytes", "kv_read_bytes", "kv_written_bytes"):
            assert getattr(small, name) <= getattr(large, name) * (1 + 1e-12)
        assert small.flops == large.flops
        assert small.index_bytes == large.index_bytes


def even_popularity_touches_the_most(model: ModelConfig, step: Step) -> None:
    even = step_costs(model, changed(step, routing=Uniform())).totals
    for exponent in (0.7, 2.0):
        skewed = step_costs(model, changed(step, routing=Zipf(exponent))).totals
        for name in BYTES_TOUCHED:
            assert getattr(skewed, name) <= getattr(even, name) * (1 + 1e-9)
        assert skewed.flops == even.flops
        assert skewed.compares == even.compares


def a_decode_step_reads_what_its_windows_hold(model: ModelConfig, step: Step) -> None:
    decode = changed(step, new_tokens=1)
    kv = step_costs(model, decode).kv_cache
    seen = before = again = written = 0
    sources = model.cache_sources
    for i in range(model.num_hidden_layers):
        source = sources.get(i)
        kind = model.attention_of(i if source is None else source)
        attention = kind.attention if isinstance(kind, AttentionAndMamba2) else kind
        window = attention.sliding_window if isinstance(attention, Attention) else None
        chunk = attention.attention_chunk_size if isinstance(attention, Attention) else None
        cached = int(step.cached)
        own = model.attention_of(i)  # entries of another, a window of its own
        if isinstance(own, CompressedAttention):
            read, others, kept, wrote = compressed_cache(own, decode)
            seen, again = seen + read, again + others
            before, written = before + kept, written + wrote
            continue
        token = int(step.batch) * kind.kv_token_bytes(step)
        written += token if source is None else 0
        in_reach = cached if window is None else min(cached, window - 1)
        in_reach = token * (in_reach if chunk is None else cached % chunk)
        if isinstance(kind, LatentAttention) and kind.index_topk is not None:
            side = int(step.batch) * kind.side_token_bytes(step)  # of all; latents of the chosen
            rebuilds = step.mla == "expanded" and step.mla_cache == "latent"
            if not rebuilds:
                in_reach = cached * side + min(cached, kind.index_topk) * (token - side)
        if isinstance(kind, BlockSparseAttention):
            side, b = int(step.batch) * kind.side_token_bytes(step), kind.index_block_size
            whole = cached < b * kind.index_topk_blocks
            others = cached if whole else b * (kind.index_topk_blocks - 1) + cached % b
            in_reach = cached * side + others * (token - side)
        if isinstance(kind, PooledKeyAttention):
            side, r = int(step.batch) * kind.side_token_bytes(step), kind.index_compress_ratio
            groups = min((cached + 1) // r, kind.index_budget // r)
            in_reach = cached * side + (groups * r + (cached + 1) % r - 1) * (token - side)
        if source is not None:  # another layer's cache, read again
            again += in_reach
            continue
        seen += in_reach
        most = window or chunk
        keeps_all = most is None or step.window_cache == "whole"
        before += token * (cached if keeps_all else min(cached, most or 0))
    assert kv.read_bytes == seen + again
    assert seen <= before
    assert kv.stored_bytes <= before + kv.written_bytes
    if seen == before:  # no window is full: nothing falls out
        assert kv.stored_bytes == before + kv.written_bytes
    assert kv.written_bytes == written


def compressed_cache(kind: CompressedAttention, decode: Step) -> tuple[int, int, int, int]:
    """Bytes that a decode step reads of its own cache and of another's, keeps before it, writes."""
    cached, m = int(decode.cached), kind.compress_ratio or 2**40
    vector = decode.kv_dtype.row_bytes(kind.head_dim)
    key = decode.kv_dtype.row_bytes(kind.index_head_dim) if kind.index_head_dim else 0
    entries, window = cached // m, kind.sliding_window or 2**40
    completes = (cached + 1) % m == 0
    scored = 0 if kind.choice is None else entries
    if kind.shared_entries and kind.candidate_topk_blocks and kind.candidate_block_size:
        held, size = entries + completes, kind.candidate_block_size
        sizes = [min(size, held - first) for first in range(0, held, size)]
        scored = sum(sizes[:-1][: kind.candidate_topk_blocks - 1] + sizes[-1:]) - completes
    of_window = min(cached, window - 1) * vector
    of_entries = min(entries, kind.index_topk or entries) * vector + scored * key
    own = not kind.shared_entries
    whole = decode.window_cache == "whole"
    kept = (cached if whole else min(cached, window)) * vector + own * entries * (vector + key)
    wrote = vector + own * completes * (vector + key)
    read = of_window + own * of_entries
    b = int(decode.batch)
    return b * read, b * (not own) * of_entries, b * kept, b * wrote


CHECKS: list[Check] = [
    parts_sum_to_everything,
    compulsory_bytes_are_the_named_ones,
    each_layer_has_each_path_once,
    every_parameter_is_read_once,
    parameters_sum_and_active_ones_are_some_of_them,
    a_bound_is_at_least_each_of_its_terms,
    the_largest_batch_fits_exactly,
    fewer_bits_are_never_more_bytes,
    even_popularity_touches_the_most,
    a_decode_step_reads_what_its_windows_hold,
]
NAMED = pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)


@NAMED
@settings(max_examples=60)
@given(model=models(), step=steps())
def test_holds_for_random_models(check: Check, model: ModelConfig, step: Step) -> None:
    check(model, step)


@NAMED
@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize(
    "step",
    [make_step(batch=16, cached=2048), make_step(batch=2, new_tokens=300, mla="expanded")],
    ids=["decode", "prefill"],
)
def test_holds_for_presets(check: Check, name: str, step: Step) -> None:
    check(PRESETS[name], step)
