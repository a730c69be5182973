"""How costs grow: with batch, context, new tokens and layers, and between prefill and decode."""

import dataclasses
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from costmodel.costs.footprint import footprint
from costmodel.costs.step import step_costs
from costmodel.inputs.model import ModelConfig
from costmodel.layers.attention import Attention
from costmodel.layers.attention_and_mamba2 import AttentionAndMamba2
from costmodel.layers.base import FfnKind, LayerKind, MixerKind
from costmodel.layers.compressed_attention import CompressedAttention
from costmodel.layers.indexed_attention import IndexedAttention
from costmodel.layers.mla import LatentAttention
from costmodel.layers.msa import BlockSparseAttention
from costmodel.layers.numbers import Number
from costmodel.layers.operator import QUANTITIES, Step
from costmodel.layers.primitives import norm
from costmodel.layers.qsa import PooledKeyAttention
from costmodel.layers.site import Site
from costmodel.layers.ultramem import UltraMem
from tests.backends.kernels import kernels
from tests.steps import changed, make_step, tiny_model, total
from tests.strategies import PRESETS, attentions, ffns, models, steps, ultramem

EXACT = (
    "flops",
    "compares",
    "kv_read_bytes",
    "kv_written_bytes",
    "io_bytes",
    "activation_bytes",
    "intermediate_bytes",
)
TOUCHED = ("weight_bytes", "row_bytes", "index_bytes")


def figures(model: ModelConfig, step: Step) -> dict[str, Any]:
    """Every total that can only grow with the work."""
    costs = step_costs(model, step)
    values = {name: getattr(costs.totals, name) for name in QUANTITIES}
    values |= {f"routing {name}": getattr(costs.routing, name) for name in QUANTITIES}
    values |= {f"{kind} flops": flops for kind, flops in costs.flops_by_kind.items()}
    memory = footprint(costs.operators, step, costs.kv_cache, model.hidden_size, 0)
    return values | {"stored": costs.kv_cache.stored_bytes, "resident": memory.total_bytes}


def check_not_less(small: dict[str, Any], large: dict[str, Any]) -> None:
    less = {name for name in small if large[name] < small[name] * (1 - 1e-12)}
    assert not less


def whole_chunks(model: ModelConfig) -> int:
    """The tokens after which every layer with chunks or blocks stands where it stood in them.

    A token that opens a chunk sees itself alone, and so costs less than the one before it; one
    that opens a block has a place in it alone of a chosen block. Tokens that complete an entry do
    not wait for it.
    """
    kinds = [model.attention_of(i) for i in range(model.num_hidden_layers)]
    kinds += [kind.attention for kind in kinds if isinstance(kind, AttentionAndMamba2)]
    chunks = [kind.attention_chunk_size or 1 for kind in kinds if isinstance(kind, Attention)]
    chunks += [kind.index_block_size for kind in kinds if isinstance(kind, BlockSparseAttention)]
    chunks += [kind.index_compress_ratio for kind in kinds if isinstance(kind, PooledKeyAttention)]
    chunks += [kind.compress_ratio or 1 for kind in kinds if isinstance(kind, CompressedAttention)]
    return math.lcm(*chunks)


@settings(max_examples=60)
@given(models(), steps(), st.sampled_from(["batch", "new_tokens", "cached"]), st.integers(1, 9))
def test_more_work_never_costs_less(model: ModelConfig, step: Step, axis: str, more: int) -> None:
    waits = any(isinstance(kind, CompressedAttention) for kind, _ in model.attention_groups)
    if axis == "cached" or (axis == "new_tokens" and waits):  # else fewer wait for their entry
        more *= whole_chunks(model)
    larger = changed(step, **{axis: getattr(step, axis) + more})
    check_not_less(figures(model, step), figures(model, larger))


def test_a_token_that_opens_a_chunk_costs_less_than_the_one_before() -> None:
    """Chunks of 3: after 2 tokens the third sees 3, reads 2 from the cache; the fourth sees 1."""
    chunked = Attention(
        num_attention_heads=1, num_key_value_heads=1, head_dim=4, attention_chunk_size=3
    )
    model = tiny_model(attention=chunked, num_hidden_layers=1)
    third, fourth = (step_costs(model, make_step(cached=cached)).totals for cached in (2, 3))
    assert third.kv_read_bytes == 2 * 2 * 4 * 2  # tokens, K and V, values, bytes
    assert fourth.kv_read_bytes == 0


@pytest.mark.parametrize("name", PRESETS)
def test_more_work_never_costs_less_in_presets(name: str) -> None:
    step = make_step(batch=2, new_tokens=3, cached=130)
    small = figures(PRESETS[name], step)
    kinds = [kind for kind, _ in PRESETS[name].attention_groups]
    ratios = [kind.compress_ratio or 1 for kind in kinds if isinstance(kind, CompressedAttention)]
    one = math.lcm(*ratios)  # as many tokens wait for their entry
    more = (
        {"batch": 3},
        {"new_tokens": 3 + one},
        {"cached": 130 + one},
        {"cached": 130 + 31 * one},
    )
    for fields in (*more, *([{"cached": 4096}] if one == 1 else [])):
        check_not_less(small, figures(PRESETS[name], changed(step, **fields)))


@settings(max_examples=60)
@given(models(), steps())
def test_more_layers_never_cost_less(model: ModelConfig, step: Step) -> None:
    deeper = dataclasses.replace(model, num_hidden_layers=model.num_hidden_layers + 1)
    check_not_less(figures(model, step), figures(deeper, step))
    few, many = step_costs(model, step).parameters, step_costs(deeper, step).parameters
    assert few.total < many.total
    assert few.active_without_embeddings < many.active_without_embeddings


@settings(max_examples=60)
@given(models(), steps(), st.integers(2, 7))
def test_a_batch_costs_its_sequences_but_shares_weights_and_rows(
    model: ModelConfig, step: Step, times: int
) -> None:
    one = step_costs(model, step)
    many = step_costs(model, changed(step, batch=step.batch * times))
    for name in EXACT:
        assert getattr(many.totals, name) == times * getattr(one.totals, name)
        assert isinstance(getattr(many.totals, name), int)
    for name in TOUCHED:
        assert getattr(many.totals, name) <= times * getattr(one.totals, name) * (1 + 1e-12)
    assert many.kv_cache.stored_bytes == times * one.kv_cache.stored_bytes
    assert kernels().launches_of(many.operators) == kernels().launches_of(one.operators)


@settings(max_examples=80)
@given(models(), steps(logits="all", attention_flops="causal", mla="absorbed"))
def test_a_prefill_has_the_flops_of_its_tokens_decoded_one_by_one(
    model: ModelConfig, step: Step
) -> None:
    """Also on top of cached tokens. Weights and cached tokens are read once instead of T times.

    Not of a recurrence, which a prefill does in chunks and with other products.
    """
    prefill = step_costs(model, step)
    decodes = [
        step_costs(model, changed(step, new_tokens=1, cached=step.cached + done))
        for done in range(int(step.new_tokens))
    ]
    pools = any(isinstance(kind, PooledKeyAttention) for kind, _ in model.attention_groups)
    for kind, flops in prefill.flops_by_kind.items():
        if kind == "elementwise" and pools:  # each step makes the keys of all groups anew
            assert flops <= sum(one.flops_by_kind[kind] for one in decodes)
        elif kind != "recurrence":
            assert flops == sum(one.flops_by_kind[kind] for one in decodes)
    assert prefill.totals.compares == sum(one.totals.compares for one in decodes)
    assert prefill.routing.flops == sum(one.routing.flops for one in decodes)
    for name in (*TOUCHED, "kv_read_bytes", "kv_written_bytes"):
        summed = sum(getattr(one.totals, name) for one in decodes)
        assert getattr(prefill.totals, name) <= summed * (1 + 1e-12)
    if step.new_tokens > 1:
        assert prefill.totals.compulsory_bytes < sum(one.totals.compulsory_bytes for one in decodes)
    assert prefill.kv_cache.stored_bytes == decodes[-1].kv_cache.stored_bytes


@settings(max_examples=40)
@given(models(), steps(logits="all", attention_flops="causal", mla="expanded", mla_cache="latent"))
def test_expanded_decode_rebuilds_old_keys_and_values_in_each_step(
    model: ModelConfig, step: Step
) -> None:
    """T decode steps rebuild S + 1, ..., S + T tokens; one prefill S + T tokens once."""
    t, s, b = int(step.new_tokens), int(step.cached), int(step.batch)
    decodes = sum(
        _without_recurrence(model, changed(step, new_tokens=1, cached=s + done))
        for done in range(t)
    )
    again = sum(s + done + 1 for done in range(t)) - (s + t)
    rebuilt = 0
    for i in range(model.num_hidden_layers):
        kind = model.attention_of(i)
        if isinstance(kind, LatentAttention):
            widths = kind.qk_nope_head_dim + kind.v_head_dim
            rebuilt += 2 * b * again * kind.num_attention_heads * kind.kv_lora_rank * widths
    assert decodes == _without_recurrence(model, step) + rebuilt


def _without_recurrence(model: ModelConfig, step: Step) -> Number:
    """FLOPs of a step, but for those of recurrences: a prefill does them in chunks.

    And but for pooled keys, which every step makes of all tokens anew.
    """
    costs = step_costs(model, step)
    pooled = sum(
        op.count * part.flops for op in costs.operators for part in op.parts if part.name == "pool"
    )
    return costs.totals.flops - costs.flops_by_kind["recurrence"] - pooled


@settings(max_examples=60)
@given(
    data=st.data(),
    attention=attentions,
    ffn=ffns,
    step=steps(),
    layers=st.integers(1, 4),
    post_norms=st.booleans(),
)
def test_one_more_layer_adds_that_layer(
    *,
    data: st.DataObject,
    attention: MixerKind,
    ffn: FfnKind,
    step: Step,
    layers: int,
    post_norms: bool,
) -> None:
    memory: list[UltraMem] = []
    if data.draw(st.booleans()):
        drawn = data.draw(ultramem("all"))
        assert isinstance(drawn, UltraMem)
        memory = [dataclasses.replace(drawn, share_ratio=None)]  # tables of their own
    models_of = [
        tiny_model(
            num_hidden_layers=count, attention=attention, ffn=ffn, memory=tuple(memory),
            post_norms=post_norms,
        )
        for count in (layers, layers + 1)
    ]  # fmt: skip
    few, many = (step_costs(model, step) for model in models_of)
    site = Site.of((0,), 8)
    kinds: list[LayerKind] = [attention, ffn, *memory]
    added = [op for kind in kinds for op in kind.operators(site, step)]
    adds = 2 if memory else 1
    added += [norm("attention", site, step, residual_adds=adds)]
    added += [norm("ffn", site, step, residual_adds=1)]
    added += [norm("post", site, step)] * (2 if post_norms else 0)
    for name in QUANTITIES:
        more = getattr(many.totals, name) - getattr(few.totals, name)
        whole = getattr(many.totals, name)
        assert more == pytest.approx(total(added, name), rel=1e-9, abs=1e-12 * whole)
        if name in EXACT:
            assert more == total(added, name)
    parameters = sum(w.parameters for op in added for w in op.weights)
    assert many.parameters.total - few.parameters.total == parameters


@settings(max_examples=40)
@given(models(), st.sampled_from(["bf16", "fp8", "int4"]).flatmap(lambda d: steps(dtype=d)))
def test_tying_the_embedding_saves_one_table_and_nothing_else(
    model: ModelConfig, step: Step
) -> None:
    tied, untied = (
        step_costs(dataclasses.replace(model, tie_word_embeddings=tie), step)
        for tie in (True, False)
    )
    assert tied.totals == untied.totals
    assert tied.flops_by_kind == untied.flops_by_kind
    table = model.vocab_size * model.hidden_size
    assert untied.parameters.total - tied.parameters.total == table
    assert untied.parameters.total_without_embeddings == tied.parameters.total_without_embeddings
    assert untied.parameters.active_with_lm_head == tied.parameters.active_with_lm_head
    assert tied.parameters.active_with_lm_head == tied.parameters.active_with_embeddings
    assert untied.parameters.active_with_embeddings - table == tied.parameters.active_with_lm_head
    resident = [
        footprint(costs.operators, step, costs.kv_cache, model.hidden_size, 0).weights_bytes
        for costs in (tied, untied)
    ]
    rows = model.vocab_size * step.formats.default.row_bytes(model.hidden_size)
    assert resident[1] - resident[0] == rows


@settings(max_examples=40)
@given(models(), steps(logits="last"))
def test_all_logits_cost_the_head_of_every_token(model: ModelConfig, step: Step) -> None:
    last, every = (step_costs(model, changed(step, logits=name)) for name in ("last", "all"))
    rest = int(step.tokens) - int(step.batch)
    ends = ("final_norm", "final_residual")
    final = sum(op.total("flops") for op in every.operators if op.path in ends)
    softcap = 3 * model.vocab_size if model.logit_softcap else 0
    per_token = final // int(step.tokens)
    per_token += 2 * model.hidden_size * model.vocab_size + softcap
    assert every.totals.flops - last.totals.flops == rest * per_token


@settings(max_examples=40)
@given(models(), steps(attention_flops="causal"))
def test_the_square_is_never_less_than_what_exists(model: ModelConfig, step: Step) -> None:
    causal = step_costs(model, step).flops_by_kind
    full = step_costs(model, changed(step, attention_flops="full")).flops_by_kind
    assert full["attention"] >= causal["attention"]
    if step.new_tokens == 1:
        whole = any(isinstance(kind, IndexedAttention) for kind, _ in model.attention_groups)
        if whole:  # all slots of the chosen blocks, the newest's too
            full |= {"attention": causal["attention"]}
        assert full == causal
    for kind in ("matmul", "gather", "selection", "norm"):
        assert full[kind] == causal[kind]
