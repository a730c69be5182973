"""The launches of a fused step, path by path, against those that the cost model counts."""

from collections import Counter
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from costmodel.backends import BACKENDS, kernels_of
from costmodel.costs.operators import build_operators
from costmodel.inputs.model import ModelConfig, Override
from costmodel.inputs.workload import Workload
from costmodel.layers.site import expanded_paths
from reference_model.decode import DecodeStep, fused_step
from reference_model.ffn import FeedForward
from reference_model.fused.plan import Launch
from reference_model.fused.step import FusedStep
from reference_model.kernels.launch import INTERPRETED
from reference_model.kernels.router_tiles import route_tiles
from reference_model.model import ReferenceModel
from tests.reference_model.fused.models import MEMORIES, MODELS, PROMPTED, experts, remembers
from tests.reference_model.tiny import made, ultramem_v2

CONTEXT = 6
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not INTERPRETED, reason="a GPU has tests of its own"),
]


def two_kernels(launch: Launch) -> bool:
    """Whether a call is the product and the choice of a router in tiles."""
    return isinstance(launch.run, partial) and launch.run.func is route_tiles


@pytest.mark.parametrize("batch", [1, 2, 16, 17, 64, 65, 513])
@pytest.mark.parametrize("name", MODELS)
def test_every_region_takes_the_launches_that_are_predicted(name: str, batch: int) -> None:
    config = MODELS[name]
    model = made(config)
    cache = model.new_cache(batch, CONTEXT + 1)
    cache.length = CONTEXT
    step = DecodeStep(model, cache, graph=False, backend="fused")
    assert step.fused is not None
    compare(step.fused, config, Workload(batch=batch, context=CONTEXT))


@pytest.mark.parametrize(("batch", "new"), [(1, 2), (3, 7), (1, 65), (2, 256), (1, 513), (3, 2049)])
@pytest.mark.parametrize("name", PROMPTED)
def test_prompts_take_the_launches_that_are_predicted(name: str, batch: int, new: int) -> None:
    config = MODELS[name]
    model = made(config)
    ids = torch.zeros(batch, new, dtype=torch.int64)
    step = fused_step(model, model.new_cache(batch, new), ids)
    workload = Workload(phase="prefill", batch=batch, context=0, new_tokens=new)
    compare(step, config, workload)


def compare(step: FusedStep, config: ModelConfig, workload: Workload) -> None:
    launched = Counter(launch.path for launch in step.plan.launches)
    launched.update(launch.path for launch in step.plan.launches if two_kernels(launch))
    priced = workload.step()
    operators = build_operators(config, priced)
    kernels = kernels_of("fused", operators, priced)
    predicted: dict[str, Any] = {
        path: kernels.region_launches(region)
        for region in kernels.regions(operators)
        for path in expanded_paths(region.path)
    }
    assert set(step.regions) == set(predicted)
    assert launched == predicted
    of_regions = sum(filter(None, predicted.values()))
    assert kernels.step_launches(operators) == of_regions + len(step.counters)


def branching(model: ReferenceModel, batch: int) -> FusedStep:
    """A step in which memory layers search beside the FFN."""
    cache = model.new_cache(batch, CONTEXT + 1)
    cache.length = CONTEXT
    cache.make_static(CONTEXT)
    return FusedStep(model, cache, torch.zeros(batch, 1, dtype=torch.int64))


@pytest.mark.parametrize("batch", [1, 16])
@pytest.mark.parametrize("name", MEMORIES)
def test_a_search_runs_beside_a_dense_ffn_and_waits_for_nothing_else(name: str, batch: int) -> None:
    """A branch begins and is joined by kernels that wait for all before them (no PDL)."""
    model = made(MODELS[name])
    launches = branching(model, batch).plan.launches
    blocks = [block for block in model.layers if block.memory is not None]
    dense = sum(isinstance(block.ffn, FeedForward) for block in blocks)
    begins = [launch for launch in launches if launch.forks is not None]
    joins = [launch for launch in launches if launch.joins]
    assert len(begins) == dense
    assert {launch.stream for launch in begins} == {n for launch in joins for n in launch.joins}
    if begins:
        assert launches.index(begins[-1]) < launches.index(joins[-1])
    assert all("memory.retrieve" in launch.path or ".{retrieve" in launch.path for launch in begins)
    for launch in [*begins, *joins]:
        assert isinstance(launch.run, partial)
        assert not launch.run.keywords.get("pdl", False)
    ffn = {launch.path for launch in launches if launch.stream and ".ffn" in launch.path}
    assert not ffn
    # what is predicted of them
    step = Workload(batch=batch, context=CONTEXT).step()
    operators = build_operators(model.config, step)
    kernels = kernels_of("fused", operators, step)
    branches = kernels.backend.branches(operators, batch)
    assert sum(int(branch.layers) for branch in branches) == dense
    searched = [each for branch in branches for each in branch.operators]
    assert {launch.path for launch in launches if launch.stream} == {
        path
        for region in kernels.regions(operators)
        if region.operators[0] in searched
        for path in expanded_paths(region.path)
    }


def test_no_search_of_many_tokens_runs_beside_an_ffn() -> None:
    operators = build_operators(MODELS["memory, heads, groups, skips"], Workload(batch=513).step())
    (branch,) = BACKENDS["fused"].branches(operators, np.array([1, 512, 513]))
    assert list(np.asarray(branch.layers) > 0) == [True, True, False]


def test_layers_that_branch_share_no_buffers_with_those_that_do_not() -> None:
    """A branch that skips block 1 may still run when the memory layer there does, beside experts.

    Layers on the same stream share, since one runs after the other.
    """
    config = replace(
        remembers(),
        num_hidden_layers=4,
        memory=(ultramem_v2(layers="0:2,1,2,3"),),
        overrides=(Override(layers="1", ffn=experts(16, 3)),),
    )
    step = branching(made(config), 2)
    scores = [memory.buffers.scores.data_ptr() for memory in step.memories]
    assert [memory.branches for memory in step.memories] == [True, False, True, True]
    assert scores[0] == scores[2] == scores[3] != scores[1]
    rows = {memory.buffers.rows.data_ptr() for memory in step.memories}
    assert len(rows) == 4
