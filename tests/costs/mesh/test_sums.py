"""All GPUs of a mesh together do what one GPU does, and more only of what they have alike."""

import dataclasses
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from costmodel.costs.mesh.step import MeshStep, mesh_step, whole_costs
from costmodel.costs.step import Costs, step_costs
from costmodel.errors import InputError
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.workload import Workload
from costmodel.layers.mesh import Mesh
from costmodel.layers.operator import Operator, Step
from tests.steps import changed
from tests.strategies import PRESETS, models, steps

CAPACITY = 10**12

# Of each kind, the sizes that a mesh divides: multiplied, so that they divide.
BY_TP = {
    "num_attention_heads",
    "num_key_value_heads",
    "index_n_heads",
    "linear_num_key_heads",
    "linear_num_value_heads",
    "num_heads",
    "mamba_n_heads",
    "mamba_n_groups",
    "o_groups",
    "intermediate_size",
    "shared_intermediate_size",
}
NOT_HEADS = {"ultramem", "product_key", "peer", "ngram", "per_layer_embedding", "ngram_embedding"}

# Presets that a number of GPUs does not divide: of 12 heads, of 18 heads, and short convolutions.
TWELVE_HEADS = [name for name in PRESETS if "227m" in name or name == "peer-12l-1m"]
EIGHTEEN_HEADS = [name for name in PRESETS if "-2.5b-" in name]
UNDIVIDED = {
    *((name, 8) for name in TWELVE_HEADS),
    *((name, tp) for name in EIGHTEEN_HEADS for tp in (4, 8)),
    *((name, tp) for name in PRESETS if name.startswith("lfm2-") for tp in (2, 4, 8)),
}

# Leaves that every GPU of a group has and runs alike: README of the mesh, docs/several_gpus.md.
REPLICATED = {
    *("attention_norm", "ffn_norm", "final_norm", "post_attention_norm", "post_ffn_norm"),
    *("moe.router", "moe.latent_down", "moe.latent_up", "moe.shared_gate"),
    *("attention.sum", "token_history"),
    *("memory.query", "memory.retrieve", "memory.pre_projection", "memory.output", "memory.gate"),
    *("ngram.hash", "ngram.project", "ngram.gate", "ngram.conv"),
    *("attention_residual", "ffn_residual", "final_residual"),
}


def divisible(kind: Any, mesh: Mesh) -> Any:  # noqa: ANN401 - a layer kind of any base
    """The kind with sizes that the mesh divides."""
    if kind is None or kind.kind in NOT_HEADS:
        return kind
    larger: dict[str, Any] = {}
    for field in dataclasses.fields(kind):
        value = getattr(kind, field.name)
        if field.name in BY_TP and value is not None:
            larger[field.name] = value * mesh.tp
        elif field.name == "moe_intermediate_size":
            larger[field.name] = value * mesh.gpus_of_an_expert
        elif field.name == "hash_vocab_size":
            larger[field.name] = value and value * mesh.tp  # as that of the model
        elif field.name in ("num_experts", "zero_expert_num") or (
            field.name == "n_group" and value > 1
        ):
            larger[field.name] = value * mesh.ep
        elif dataclasses.is_dataclass(value):
            larger[field.name] = divisible(value, mesh)
    return dataclasses.replace(kind, **larger)


@st.composite
def on_meshes(draw: st.DrawFn) -> tuple[ModelConfig, Step, Mesh]:
    """A model whose sizes divide over a mesh, and a step whose batch does."""
    tp, dp = draw(st.sampled_from([(1, 2), (2, 1), (2, 2), (3, 2), (1, 4)]))
    ep = draw(st.sampled_from([n for n in range(1, tp * dp + 1) if not tp * dp % n]))
    mesh = Mesh(tp=tp, dp=dp, ep=ep, tables="rows")
    model = draw(models())
    assume(tp == 1 or all(kind.kind != "short_conv" for kind, _ in model.attention_groups))
    overrides = tuple(
        dataclasses.replace(
            override,
            attention=divisible(override.attention, mesh),
            ffn=divisible(override.ffn, mesh),
        )
        for override in model.overrides
    )
    shortcuts = tuple(
        dataclasses.replace(shortcut, ffn=divisible(shortcut.ffn, mesh))
        for shortcut in model.shortcuts
    )
    larger = dataclasses.replace(
        model,
        vocab_size=model.vocab_size * tp,
        attention=divisible(model.attention, mesh),
        ffn=divisible(model.ffn, mesh),
        overrides=overrides,
        shortcuts=shortcuts,
    )
    step = draw(steps())
    return larger, changed(step, batch=step.batch * dp), mesh


def by_leaf(operators: Iterable[Operator], quantity: str, runs: int = 1) -> dict[str, float]:
    """A sum over all layers, GPUs and operators of each leaf."""
    sums: dict[str, float] = defaultdict(float)
    for operator in operators:
        sums[operator.leaf] += runs * operator.count * float(operator.total(quantity))
    return sums


def both(model: ModelConfig, step: Step, mesh: Mesh) -> tuple[Costs, Costs, MeshStep]:
    """The step on one GPU, on the mesh, and what a GPU of the mesh has."""
    divided = mesh_step(model, step, mesh, CAPACITY)
    return step_costs(model, step), whole_costs(model, step, divided), divided


@settings(max_examples=60)
@given(on_meshes())
def test_flops_of_all_gpus_are_those_of_one(case: tuple[ModelConfig, Step, Mesh]) -> None:
    """Exactly, but for what the GPUs of a group do alike, which counts `tp` times."""
    model, step, mesh = case
    one, all_gpus, divided = both(model, step, mesh)
    alone = by_leaf(one.operators, "flops")
    together = by_leaf(divided.gpu_operators, "flops", int(divided.runs))
    assert sum(together.values()) == pytest.approx(float(all_gpus.totals.flops))
    assert alone.keys() == together.keys()
    for leaf, flops in alone.items():
        if leaf in REPLICATED or leaf.startswith(("altup", "laurel", "per_layer")):
            assert together[leaf] == pytest.approx(flops * mesh.tp), leaf
        elif leaf in ("attention.core", "ffn.gate_up", "lm_head", "memory.values"):
            assert together[leaf] == pytest.approx(flops), leaf
        else:  # partly: down-projections of latents, partial results of divided experts
            most = flops * max(mesh.tp, mesh.gpus_of_an_expert)
            assert flops * (1 - 1e-12) <= together[leaf] <= most * (1 + 1e-12), leaf


@settings(max_examples=60)
@given(on_meshes())
def test_what_is_kept_is_kept_once_or_named(case: tuple[ModelConfig, Step, Mesh]) -> None:
    """Weights: once of experts and tables, `dp` times of what is divided over `tp`, else by all."""
    model, step, mesh = case
    one, _, divided = both(model, step, mesh)
    for alone, mine in zip(one.operators, divided.gpu_operators, strict=True):
        groups = {weight.group for weight in alone.weights}
        stored, share = _stored(alone, step), _stored(mine, step)
        if "experts" in groups:
            biased = any(weight.name == "down_bias" for weight in alone.weights)
            least, most = _parameters(alone), _parameters(mine) * mesh.of_stage
            assert least <= most if biased else least == most
        elif "memory_values" in groups:
            assert stored <= share * mesh.of_stage < stored + mesh.of_stage * _row(alone, step)
        elif alone.leaf in ("embed", "lm_head", "ffn.gate_up", "moe.shared_down"):
            assert share * mesh.tp >= stored  # biases of the way back are each GPU's
        elif alone.leaf in REPLICATED:
            assert share == stored
        else:
            assert stored <= share * mesh.tp <= stored * mesh.tp
    kept = divided.memory
    assert one.kv_cache.stored_bytes <= kept.kv_bytes <= one.kv_cache.stored_bytes * mesh.tp
    assert one.kv_cache.state_bytes <= kept.state_bytes <= one.kv_cache.state_bytes * mesh.tp


def _stored(operator: Operator, step: Step) -> int:
    return sum(weight.stored_bytes(step) for weight in operator.weights)


def _parameters(operator: Operator) -> int:
    return sum(weight.parameters for weight in operator.weights)


def _row(operator: Operator, step: Step) -> int:
    return sum(w.row_bytes(step) for w in operator.weights if w.group == "memory_values")


@settings(max_examples=40)
@given(models(), steps())
def test_one_gpu_is_a_mesh_of_one(model: ModelConfig, step: Step) -> None:
    """To the bit, though it goes through all that a mesh goes through."""
    one, all_gpus, divided = both(model, step, Mesh())
    assert one.totals == all_gpus.totals
    assert one.flops_by_kind == all_gpus.flops_by_kind
    assert one.rows == all_gpus.rows
    assert one.kv_cache == all_gpus.kv_cache
    assert one.parameters == all_gpus.parameters
    assert one.distinct == all_gpus.distinct
    assert divided.microbatches == 1


@settings(max_examples=40)
@given(models(), steps(), st.integers(2, 4))
def test_groups_read_experts_and_tables_once_between_them(
    model: ModelConfig, step: Step, dp: int
) -> None:
    """The rows and experts that all sequences touch, however many groups have them."""
    larger = changed(step, batch=step.batch * dp)
    assume(all(getattr(ffn, "num_experts", dp) % dp == 0 for ffn, _ in model.ffn_groups))
    one, all_gpus, divided = both(model, larger, Mesh(dp=dp, ep=dp, tables="rows"))
    assert all_gpus.totals.row_bytes == pytest.approx(one.totals.row_bytes)
    assert all_gpus.distinct.experts == pytest.approx(one.distinct.experts)
    alone = by_leaf(one.operators, "weight_bytes")
    together = by_leaf(divided.gpu_operators, "weight_bytes", int(divided.runs))
    assert together["moe.experts"] == pytest.approx(alone["moe.experts"])
    assert together["ffn.gate_up"] == pytest.approx(dp * alone["ffn.gate_up"])


@pytest.mark.parametrize("name", PRESETS)
def test_presets_over_two_groups(name: str) -> None:
    model = PRESETS[name]
    step = Workload(batch=4, context=300).step()
    one, all_gpus, divided = both(model, step, Mesh(dp=2, ep=2, tables="rows"))
    assert all_gpus.totals.flops == pytest.approx(one.totals.flops)
    assert divided.memory.kv_bytes == one.kv_cache.stored_bytes
    assert all_gpus.parameters == one.parameters


@pytest.mark.parametrize("tp", [2, 4, 8])
@pytest.mark.parametrize("name", PRESETS)
def test_presets_divide_or_say_what_does_not(name: str, tp: int) -> None:
    step = Workload(batch=4, context=300).step()
    mesh = Mesh(tp=tp, ep=tp, tables="rows")
    if (name, tp) in UNDIVIDED:
        with pytest.raises(InputError, match=rf"^[te]p={tp}: "):
            both(PRESETS[name], step, mesh)
        return
    one, all_gpus, divided = both(PRESETS[name], step, mesh)
    assert divided.memory.weights_bytes >= one.parameters.total * 2
    assert one.totals.flops <= all_gpus.totals.flops <= 2 * one.totals.flops
