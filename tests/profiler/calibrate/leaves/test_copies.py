"""Copies of leaves and regions: what they compute, whose weights they read, what they share."""

from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from costmodel.backends import BACKENDS
from costmodel.costs.step import step_costs
from costmodel.inputs.model import ModelConfig
from costmodel.layers.ffn import DenseFfn
from costmodel.layers.site import expanded_paths
from costmodel.recordings.case_workload import CaseWorkload
from profiler.calibrate.leaves.copies import Copies, copies_of
from profiler.runs.case import PreparedCase
from reference_model.kernels.launch import INTERPRETED
from reference_model.model import build_model
from tests.profiler.runs.cases import DECODE, PREFILL, SEED, case_of, model_of, work
from tests.reference_model.fused.models import experts, heads, model, remembers
from tests.reference_model.tiny import MLA, MOE, small, ultramem_v2

TOP_K = 2
EXPERTS = replace(model(heads(4, 2), experts(8, TOP_K)), num_hidden_layers=3)
MODELS = {"dense": small(), "experts": small(ffn=MOE), "mla": small(attention=MLA)}


def by_path(case: PreparedCase) -> dict[str, Copies]:
    return {copies.path: copies for copies in copies_of(case)}


def outputs(case: PreparedCase) -> dict[str, Any]:
    """What each leaf gives in a step."""
    seen: dict[str, Any] = {}

    def note(path: str, _leaf: nn.Module, _inputs: object, out: object) -> None:
        seen[path] = out

    hooks = [
        leaf.register_forward_hook(partial(note, path))
        for path, leaf in case.model.leaves().items()
    ]
    case.run()
    for hook in hooks:
        hook.remove()
    return seen


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("step", [DECODE, PREFILL], ids=["decode", "prefill"])
def test_the_first_copy_computes_what_the_leaf_does_in_a_step(
    name: str, step: dict[str, Any]
) -> None:
    case = case_of(MODELS[name], **step)
    expected = outputs(case)
    copies = by_path(case)
    second = {path for path in expected if not path.startswith("layers.")}
    second |= {path for path in expected if path.startswith("layers.1.")}
    assert set(copies) == second
    for path, each in copies.items():
        if path != "embed":  # its copies have other ids
            torch.testing.assert_close(each.calls[0](), expected[path], rtol=0, atol=0)


def test_each_copy_has_its_layers_weights_and_the_second_layers_input() -> None:
    case = case_of(small())
    seen: list[Tensor] = []
    down = case.model.layers[1].ffn.down  # type: ignore[union-attr]
    hook = down.register_forward_pre_hook(lambda _leaf, inputs: seen.append(inputs[0]))  # type: ignore[union-attr]
    case.run()
    hook.remove()
    copies = by_path(case)["layers.1.ffn.down"]
    assert (len(copies.calls), copies.sets) == (3, 3)  # of four layers
    for layer, call in enumerate(copies.calls, 1):
        weight = case.model.get_parameter(f"layers.{layer}.ffn.down.weight")
        torch.testing.assert_close(call(), nn.functional.linear(seen[0], weight))


def test_attention_copies_have_their_layers_keys_and_share_the_queries() -> None:
    case = case_of(small())
    calls: list[Any] = list(by_path(case)["layers.1.attention.core"].calls)
    for layer, call in enumerate(calls, 1):
        query, keys, values, _ = call.args
        cache = case.cache.layers[layer]
        for tensor, kept in zip((keys, values), cache.tensors, strict=True):
            assert tensor.untyped_storage().data_ptr() == kept.untyped_storage().data_ptr()
        assert query is calls[0].args[0]


def test_keys_of_a_prompt_are_shared_since_the_step_itself_wrote_them() -> None:
    calls: list[Any] = list(by_path(case_of(small(), **PREFILL))["layers.1.attention.core"].calls)
    assert calls[1].args[1] is calls[0].args[1]


def test_all_layers_choose_alike_and_so_all_copies_of_experts() -> None:
    built, workload = model_of(small(ffn=MOE)), work()
    case = PreparedCase(built, workload, SEED, alike=True)
    calls: list[Any] = list(by_path(case)["layers.1.moe.experts"].calls)
    for call in calls[1:]:
        assert torch.equal(call.args[2], calls[0].args[2])
        assert call.leaf is not calls[0].leaf


def test_copies_of_the_embedding_read_other_rows_and_of_the_head_other_weights() -> None:
    case = case_of(small())
    copies = by_path(case)
    embed: list[Any] = list(copies["embed"].calls)
    assert len({tuple(call.args[0].flatten().tolist()) for call in embed}) > len(embed) // 2
    head: list[Any] = list(copies["lm_head"].calls)
    assert len({call.leaf.weight.data_ptr() for call in head}) == len(head) == 64
    torch.testing.assert_close(head[0](), head[-1]())


interpreted = pytest.mark.skipif(not INTERPRETED, reason="a GPU runs no float32 by these kernels")


def fused_case(config: ModelConfig, **fields: Any) -> PreparedCase:  # noqa: ANN401
    built = build_model(config, dtype=torch.float32).fold()
    return PreparedCase(built, work(**fields), SEED, backend="fused", alike=True)


def predicted_regions(config: ModelConfig, workload: CaseWorkload) -> set[str]:
    """By the cost model: those of the second layer, and those beside the layers."""
    step = replace(workload, dtype="bf16").to_workload(backend="fused").step()
    costs = step_costs(config, step)
    kernels = costs.kernels("fused")
    assert kernels.backend is BACKENDS["fused"]
    paths = {
        path for region in kernels.regions(costs.operators) for path in expanded_paths(region.path)
    }
    return {path for path in paths if not path.startswith("layers.") or "layers.1." in path}


@interpreted
@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "fields"),
    [
        (EXPERTS, {"batch": 3}),
        (EXPERTS, {"batch": 1}),
        (remembers(ultramem_v2(layers="all", knum=7, share_ratio=None, knn=6)), {"batch": 3}),
        (replace(EXPERTS, ffn=DenseFfn(intermediate_size=64)), PREFILL),
    ],
    ids=["experts", "one token", "memory", "prompt"],
)
def test_regions_are_those_that_the_cost_model_predicts(
    config: ModelConfig, fields: dict[str, Any]
) -> None:
    case = fused_case(config, **fields)
    copies = by_path(case)
    assert set(copies) == predicted_regions(config, case.workload)
    for each in copies.values():
        each.begin()
        each.prepare()
        for call in each.calls:
            call()


@interpreted
@pytest.mark.slow
def test_a_router_begins_from_zero_and_experts_from_a_whole_routing() -> None:
    case = fused_case(EXPERTS, batch=3)
    step = case.fused
    assert step is not None
    (counts,) = step.counters  # [layers, experts + 1]
    pairs = 3 * TOP_K
    router = next(each for path, each in by_path(case).items() if "moe.router" in path)
    pairs_of = by_path(case)["layers.1.moe.experts"]
    for _ in range(3):
        router.prepare()
        for call in router.calls:
            call()
    assert counts[1:, :-1].sum(1).tolist() == [pairs] * 2
    router.prepare()
    assert counts.sum() == 0
    pairs_of.begin()
    assert counts[1:, :-1].sum(1).tolist() == [pairs] * 2
    for call in pairs_of.calls:
        call()
    assert counts[1:, :-1].sum(1).tolist() == [pairs] * 2, "experts leave the counts as they are"
